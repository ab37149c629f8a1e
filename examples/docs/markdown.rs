//! The pieces of Markdown that all pages share.

/// The first lines of a generated page.
pub(crate) fn heading(title: &str, source: &str) -> String {
    format!(
        "<!-- Written by `cargo run --example docs` from {source}. Edit that, not this \
         page. -->\n\n# {title}\n"
    )
}

/// A table, or nothing if it has no rows.
pub(crate) fn table<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut table = format!(
        "\n{}|{}\n",
        line(head.map(str::to_owned).to_vec()),
        "---|".repeat(COLUMNS)
    );
    for row in rows {
        table += &line(row.iter().map(|cell| escape(cell)).collect());
    }
    table
}

/// Text for one cell: on one line, with `|` escaped, also inside a code span, as GitHub requires.
fn escape(text: &str) -> String {
    one_line(text).replace('|', "\\|")
}

/// Text with line breaks and runs of spaces reduced to single spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A code span, or nothing for an empty text.
pub(crate) fn code(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("`{text}`")
    }
}

/// The anchor that GitHub gives a heading.
pub(crate) fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars()
        .filter(|letter| letter.is_alphanumeric() || ['-', '_'].contains(letter))
        .collect()
}
