//! Output of commands: tables for people, JSON for programs, progress on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use serde::Serialize;
use tallyhook_core::text::{printable_json, printable_lines};

pub(super) use super::table::{detail, note, prose, table, text, whole};
use super::{CommandResult, table};
use crate::api::Page;

/// The interval of progress lines where standard error is no terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// The time after which work on a terminal is long enough for a bar.
const BAR_DELAY: Duration = Duration::from_secs(1);

/// Writes bytes to standard output as they are: only for what contains no text from elsewhere, or is
/// not for a terminal.
pub(super) fn raw(bytes: &[u8]) -> CommandResult {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Writes a line, or several, to standard output. All text for people passes here, so that none from
/// elsewhere controls their terminal.
pub(super) fn line(text: &str) -> CommandResult {
    raw(format!("{}\n", printable_lines(text)).as_bytes())
}

/// Writes one JSON value to standard output.
pub(super) fn json(value: &impl Serialize) -> CommandResult {
    let json = printable_json(&serde_json::to_string_pretty(value)?);
    raw(format!("{json}\n").as_bytes())
}

/// Writes one JSON value to standard output, in one line.
pub(super) fn json_line(value: &impl Serialize) -> CommandResult {
    let json = printable_json(&serde_json::to_string(value)?);
    raw(format!("{json}\n").as_bytes())
}

/// Writes a whole list as JSON, in the form of the API's lists.
pub(super) fn json_list<T: Serialize>(items: Vec<T>) -> CommandResult {
    json(&Page::new(items, None))
}

/// Writes text for people in lines that fit a terminal; elsewhere in one.
pub(super) fn paragraph(text: &str) -> CommandResult {
    line(&table::paragraph(text))
}

/// Writes one line, cut to the width of a terminal; elsewhere whole.
pub(super) fn one_row(text: &str) -> CommandResult {
    line(&table::one_row(text))
}

/// Writes names with their values, a line each.
pub(super) fn fields(fields: &[(&str, String)]) -> CommandResult {
    for (name, value) in fields {
        paragraph(&format!("{name}: {value}"))?;
    }
    Ok(())
}

/// Writes on a terminal that a list has further items.
pub(super) fn more(follow: bool) -> CommandResult {
    if follow && io::stdout().is_terminal() {
        return line("There are more: raise --limit to see them.");
    }
    Ok(())
}

/// Formats hours with two decimals, or a dash.
pub(super) fn hours(hours: Option<f64>) -> String {
    hours.map_or_else(|| "-".to_owned(), |hours| format!("{hours:.2}"))
}

/// The progress of long work on standard error: a bar on a terminal, else a line now and then.
/// Short work has neither.
pub(super) struct Progress {
    /// Hidden for the first second, and unless standard error is a terminal.
    bar: ProgressBar,
    on_terminal: bool,
    doing: &'static str,
    interval: Duration,
    /// The time of the last line, or of the start.
    printed: Mutex<Instant>,
}

/// Starts the progress of work of `total` steps that `doing` names, such as `posting`.
pub(super) fn progress(total: u64, doing: &'static str) -> Progress {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
    let bar = ProgressBar::hidden()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(doing);
    bar.set_length(total);
    let on_terminal = io::stderr().is_terminal();
    Progress {
        bar,
        on_terminal,
        doing,
        interval: match on_terminal {
            true => BAR_DELAY,
            false => PROGRESS_INTERVAL,
        },
        printed: Mutex::new(Instant::now()),
    }
}

impl Progress {
    pub(super) fn set_length(&self, total: u64) {
        self.bar.set_length(total);
    }

    pub(super) fn set_position(&self, done: u64) {
        self.bar.set_position(done);
        let Some(line) = self.due_line() else { return };
        if self.on_terminal {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        } else {
            // The work goes on if nothing reads its progress.
            drop(writeln!(io::stderr(), "{line}"));
        }
    }

    pub(super) fn inc(&self, steps: u64) {
        self.set_position(self.bar.position() + steps);
    }

    pub(super) fn finish_and_clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Returns the next line, once it is due and while there is no bar.
    fn due_line(&self) -> Option<String> {
        let mut printed = self.printed.lock();
        if !self.bar.is_hidden() || printed.elapsed() < self.interval {
            return None;
        }
        *printed = Instant::now();
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        Some(match total {
            0 => format!("{}: {done}", self.doing),
            total => format!("{}: {done} of {total}", self.doing),
        })
    }
}

/// Returns true if the reader of our output closed it.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_without_a_terminal_is_a_line_when_it_is_due() {
        let progress = Progress {
            bar: ProgressBar::hidden(),
            on_terminal: false,
            doing: "posting",
            interval: Duration::ZERO,
            printed: Mutex::new(Instant::now()),
        };
        assert_eq!(progress.due_line().unwrap(), "posting: 0");
        progress.set_length(112);
        progress.inc(7);
        assert_eq!(progress.due_line().unwrap(), "posting: 7 of 112");
        let later = Progress {
            interval: PROGRESS_INTERVAL,
            ..progress
        };
        assert_eq!(later.due_line(), None);
    }
}
