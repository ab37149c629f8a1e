//! Tables of commands. On a terminal a table is fitted to its width; elsewhere every row is one line
//! of whole cells with tabs between them.

use std::io::{self, IsTerminal};

use anstream::{AutoStream, ColorChoice};
use tallyhook_core::text::one_line;
use unicode_width::UnicodeWidthChar;

use super::{CommandResult, output};

/// The space between two columns.
const GAP: &str = "  ";
/// The width to which texts are shortened before anything else gets narrower.
const SHORT_TEXT: usize = 24;
/// The width to which texts are shortened before ids and states are.
const LEAST_TEXT: usize = 8;
/// The width of a terminal that does not say its own.
const USUAL_WIDTH: usize = 80;
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// A column, with its place in the order in which a narrow terminal takes width away.
#[derive(Clone, Debug)]
pub(super) struct TableColumn {
    heading: String,
    fit: Fit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// Shown whole.
    Whole,
    /// Shortened, after details are left out.
    Text,
    /// Left out, the last one first.
    Detail,
    /// Broken into lines, after details are left out.
    Prose,
    /// Put beneath its row, in at most so many lines.
    Note(usize),
}

impl Fit {
    fn is_flexible(self) -> bool {
        matches!(self, Self::Text | Self::Prose)
    }
}

/// A column for ids, states and numbers, which are useless when cut.
pub(super) fn whole(heading: &str) -> TableColumn {
    column(heading, Fit::Whole)
}

/// A column for titles and names.
pub(super) fn text(heading: &str) -> TableColumn {
    column(heading, Fit::Text)
}

/// A column that a narrow terminal does not show.
pub(super) fn detail(heading: &str) -> TableColumn {
    column(heading, Fit::Detail)
}

/// A column for sentences that are shown whole, in several lines on a narrow terminal.
pub(super) fn prose(heading: &str) -> TableColumn {
    column(heading, Fit::Prose)
}

/// A column for sentences, of which at most `lines` lines are shown beneath a row.
pub(super) fn note(heading: &str, lines: usize) -> TableColumn {
    column(heading, Fit::Note(lines))
}

fn column(heading: &str, fit: Fit) -> TableColumn {
    let heading = one_line(heading, usize::MAX);
    TableColumn { heading, fit }
}

/// Returns an empty table.
pub(super) fn table<const N: usize>(columns: [TableColumn; N]) -> TextTable {
    TextTable {
        columns: columns.into(),
        rows: Vec::new(),
    }
}

/// A table of printable cells.
#[derive(Debug)]
pub(super) struct TextTable {
    columns: Vec<TableColumn>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// Adds a row with a cell for each column. A cell is one line, in which what a terminal would
    /// act on is escaped.
    pub(super) fn add_row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        let cells = cells.into_iter();
        self.rows.push(
            cells
                .map(|cell| one_line(cell.as_ref(), usize::MAX))
                .collect(),
        );
    }

    /// Writes the table to standard output; without rows the sentence `empty` instead.
    pub(super) fn print(&self, empty: &str) -> CommandResult {
        if self.rows.is_empty() {
            return output::line(empty);
        }
        if !io::stdout().is_terminal() {
            return output::raw(self.separated().as_bytes());
        }
        let is_bold = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        let mut lines = self.fitted(terminal_width());
        if let Some(headings) = lines.first_mut().filter(|_| is_bold) {
            *headings = format!("{BOLD}{headings}{PLAIN}");
        }
        output::raw(format!("{}\n", lines.join("\n")).as_bytes())
    }

    /// Returns the headings and the rows with a tab between two cells, and a dash for an empty one.
    fn separated(&self) -> String {
        let headings = self.columns.iter().map(|column| column.heading.as_str());
        let mut text = headings.collect::<Vec<_>>().join("\t") + "\n";
        for row in &self.rows {
            let cells = row
                .iter()
                .map(|cell| if cell.is_empty() { "-" } else { cell });
            text += &(cells.collect::<Vec<_>>().join("\t") + "\n");
        }
        text
    }

    /// Returns the lines of a terminal that has `width` columns.
    fn fitted(&self, width: usize) -> Vec<String> {
        let layout = Layout::new(self, width);
        let headings: Vec<_> = self
            .columns
            .iter()
            .map(|column| column.heading.as_str())
            .collect();
        let mut lines = layout.lines(&headings);
        for row in &self.rows {
            let cells: Vec<_> = row.iter().map(String::as_str).collect();
            lines.extend(layout.lines(&cells));
            for (place, limit) in &layout.beneath {
                if !is_empty(cells[*place]) {
                    let note = format!("{}: {}", headings[*place], cells[*place]);
                    let room = width.saturating_sub(GAP.len()).max(1);
                    let note = wrapped(&note, room, *limit);
                    lines.extend(note.into_iter().map(|line| format!("{GAP}{line}")));
                }
            }
        }
        lines
    }
}

/// The columns of a table that are shown on a terminal.
struct Layout {
    shown: Vec<ShownColumn>,
    /// The notes beneath each row, with their number of lines.
    beneath: Vec<(usize, usize)>,
}

struct ShownColumn {
    /// The place of its cells in a row.
    place: usize,
    fit: Fit,
    width: usize,
    is_numeric: bool,
}

impl Layout {
    /// Takes width away until the columns fit: notes go beneath their rows, details are left out,
    /// texts are shortened, and at last any column is.
    fn new(table: &TextTable, width: usize) -> Self {
        let mut layout = Self {
            shown: shown_columns(table),
            beneath: Vec::new(),
        };
        if layout.width() > width {
            for column in layout
                .shown
                .extract_if(.., |column| matches!(column.fit, Fit::Note(_)))
            {
                if let Fit::Note(lines) = column.fit {
                    layout.beneath.push((column.place, lines));
                }
            }
        }
        while layout.shortest() > width {
            let Some(last) = layout
                .shown
                .iter()
                .rposition(|column| column.fit == Fit::Detail)
            else {
                break;
            };
            layout.shown.remove(last);
        }
        for (least, flexible) in [(SHORT_TEXT, true), (LEAST_TEXT, true), (1, false)] {
            layout.narrow(width, least, flexible);
        }
        layout
    }

    /// Makes the widest column narrower, one of texts if it must be `flexible`, until the table
    /// fits or none is wider than `least`.
    fn narrow(&mut self, width: usize, least: usize, flexible: bool) {
        while self.width() > width {
            let columns = self.shown.iter_mut();
            let may_shrink = |column: &&mut ShownColumn| {
                column.width > least && (column.fit.is_flexible() || !flexible)
            };
            let Some(widest) = columns.filter(may_shrink).max_by_key(|column| column.width) else {
                break;
            };
            widest.width -= 1;
        }
    }

    fn width(&self) -> usize {
        self.sum_of(|column| column.width)
    }

    /// Returns the width with every text shortened.
    fn shortest(&self) -> usize {
        self.sum_of(|column| match column.fit.is_flexible() {
            true => column.width.min(SHORT_TEXT),
            false => column.width,
        })
    }

    fn sum_of(&self, width: impl Fn(&ShownColumn) -> usize) -> usize {
        let gaps = GAP.len() * self.shown.len().saturating_sub(1);
        self.shown.iter().map(width).sum::<usize>() + gaps
    }

    /// Returns the lines of a row.
    fn lines(&self, cells: &[&str]) -> Vec<String> {
        let cell = |column: &ShownColumn| match column.fit {
            Fit::Prose => wrapped(cells[column.place], column.width, usize::MAX),
            _ => vec![shortened(cells[column.place], column.width)],
        };
        let cells: Vec<_> = self.shown.iter().map(cell).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or_default();
        (0..height).map(|place| self.line(&cells, place)).collect()
    }

    fn line(&self, cells: &[Vec<String>], line_number: usize) -> String {
        let mut line = String::new();
        for (place, column) in self.shown.iter().enumerate() {
            let cell = cells[place].get(line_number).map_or("", String::as_str);
            let space = " ".repeat(column.width - width_of(cell));
            let (before, after) = if column.is_numeric {
                (space.as_str(), "")
            } else {
                ("", space.as_str())
            };
            let gap = if place == 0 { "" } else { GAP };
            line += &format!("{gap}{before}{cell}{after}");
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Returns the columns in which a row has something.
fn shown_columns(table: &TextTable) -> Vec<ShownColumn> {
    let columns = table.columns.iter().enumerate();
    let shown = columns.filter_map(|(place, column)| {
        let cells = || table.rows.iter().map(move |row| row[place].as_str());
        let filled = || cells().filter(|cell| !is_empty(cell));
        filled().next()?;
        let widths = cells().chain([column.heading.as_str()]).map(width_of);
        Some(ShownColumn {
            place,
            fit: column.fit,
            width: widths.max().unwrap_or_default(),
            is_numeric: filled().all(|cell| cell.parse::<f64>().is_ok()),
        })
    });
    shown.collect()
}

fn is_empty(cell: &str) -> bool {
    cell.is_empty() || cell == "-"
}

/// Returns the number of a terminal's columns that a printable text takes.
fn width_of(text: &str) -> usize {
    text.chars().map(|letter| letter.width().unwrap_or(0)).sum()
}

/// Returns `text` in at most `width` columns, with `…` for what is cut off.
fn shortened(text: &str, width: usize) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    let mut short = begin_of(text, width.saturating_sub(1))
        .trim_end()
        .to_owned();
    short.push('…');
    short
}

/// Returns as much of the beginning of `text` as fits into `width`.
fn begin_of(text: &str, width: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, letter)| {
        used += letter.width().unwrap_or(0);
        used > width
    });
    end.map_or(text, |(end, _)| &text[..end])
}

/// Returns `text` in at most `limit` lines, broken at spaces where there are any.
pub(super) fn wrapped(text: &str, width: usize, limit: usize) -> Vec<String> {
    let (mut lines, mut rest) = (Vec::new(), text);
    while width_of(rest) > width && lines.len() + 1 < limit {
        let begin = begin_of(rest, width);
        // A letter may be wider than the terminal.
        if begin.is_empty() {
            break;
        }
        let is_whole_word = rest[begin.len()..].starts_with(' ');
        let end = begin.rfind(' ').filter(|end| *end > 0 && !is_whole_word);
        let (line, next) = rest.split_at(end.unwrap_or(begin.len()));
        lines.push(line.trim_end().to_owned());
        rest = next.trim_start();
    }
    lines.push(shortened(rest, width));
    lines
}

/// Returns text in lines that fit a terminal; elsewhere in one.
pub(super) fn paragraph(text: &str) -> String {
    let text = one_line(text, usize::MAX);
    match io::stdout().is_terminal() {
        true => wrapped(&text, terminal_width(), usize::MAX).join("\n"),
        false => text,
    }
}

/// Returns text on one line, cut to the width of a terminal; elsewhere whole.
pub(super) fn one_row(text: &str) -> String {
    let text = one_line(text, usize::MAX);
    match io::stdout().is_terminal() {
        true => shortened(&text, terminal_width()),
        false => text,
    }
}

fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let columns = size.map(|size| usize::from(size.ws_col));
    columns
        .filter(|columns| *columns > 0)
        .unwrap_or(USUAL_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: &str = "the repository of the pull request is missing in the payload, so that \
                          nothing can be applied";

    fn deliveries() -> TextTable {
        let mut table = table([
            whole("id"),
            text("repository"),
            text("title"),
            whole("state"),
            whole("PR"),
            detail("tries"),
            whole("none"),
            note("reason", 1),
        ]);
        table.add_row([
            "7",
            "acme/api",
            "日本語の題名と🦀絵文字",
            "applied",
            "1",
            "1",
            "-",
            "",
        ]);
        let title = "a\u{1b}[31m\u{202e}\u{200b}\n".repeat(9);
        table.add_row(["18", "acme/docs", &title, "dead", "1234", "10", "", REASON]);
        table
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in 1..=260 {
            for line in deliveries().fitted(width) {
                assert!(width_of(&line) <= width.max(30), "{width}: {line}");
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }

    #[test]
    fn narrow_table_loses_notes_and_details_before_it_shortens_texts_and_never_states() {
        let wide = deliveries().fitted(400);
        assert_eq!(wide.len(), 3);
        assert!(wide[0].contains("tries") && wide[0].ends_with("reason"));
        // No row has anything in it.
        assert!(!wide[0].contains("none"));
        let narrow = deliveries().fitted(80);
        let title = "日本語の題名と🦀絵文字";
        let cut = r"a\u{1b}[31m\u{202e}\u{200b} a\u{1b}[31m\u…";
        assert_eq!(
            narrow,
            [
                &format!("id  repository  {:42}  state      PR  tries", "title"),
                &format!(
                    " 7  acme/api    {title}{}  applied     1      1",
                    " ".repeat(20)
                ),
                &format!("18  acme/docs   {cut}  dead     1234     10"),
                "  reason: the repository of the pull request is missing in the payload, so that…",
            ]
        );
    }

    #[test]
    fn notes_are_broken_between_words_in_at_most_so_many_lines() {
        let text = "one two three fourteen";
        assert_eq!(wrapped(text, 8, 9), ["one two", "three", "fourteen"]);
        assert_eq!(wrapped(text, 7, 9), ["one two", "three", "fourtee", "n"]);
        assert_eq!(wrapped(text, 8, 2), ["one two", "three f…"]);
        assert_eq!(wrapped("日本語", 4, 9), ["日本", "語"]);
        assert_eq!(wrapped("日本", 1, 9), ["…"]);
    }

    #[test]
    fn off_a_terminal_rows_are_whole_with_tabs() {
        let text = deliveries().separated();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1],
            "7\tacme/api\t日本語の題名と🦀絵文字\tapplied\t1\t1\t-\t-"
        );
        assert!(
            lines.iter().all(|line| line.split('\t').count() == 8),
            "{text}"
        );
        assert!(lines[2].ends_with(REASON));
    }
}
