//! What commands print: tables for people, JSON for programs, bars on a terminal.

use std::io::{self, IsTerminal, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Outcome;

/// Writes bytes to standard output.
pub(super) fn raw(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Writes one line to standard output.
pub(super) fn line(text: &str) -> Outcome {
    raw(format!("{text}\n").as_bytes())
}

/// Writes one JSON value to standard output.
pub(super) fn json(value: &impl Serialize) -> Outcome {
    line(&serde_json::to_string_pretty(value)?)
}

/// An empty table with these headings.
pub(super) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings);
    table
}

/// Hours with two decimals, a dash where there are none.
pub(super) fn hours(hours: Option<f64>) -> String {
    hours.map_or_else(|| "-".to_owned(), |hours| format!("{hours:.2}"))
}

/// A bar over `total` steps; hidden unless somebody is looking.
pub(super) fn progress(total: u64, what: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
    ProgressBar::new(total)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what.to_owned())
}

/// Whether the reader of our output went away.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
