//! Output of commands: tables for people, JSON for programs, progress bars on a terminal.

use std::io::{self, IsTerminal, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tallyhook_core::text::{printable_json, printable_lines};

use super::CommandResult;

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

/// Returns an empty table with these headings.
pub(super) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings);
    table
}

/// Formats hours with two decimals, or a dash.
pub(super) fn hours(hours: Option<f64>) -> String {
    hours.map_or_else(|| "-".to_owned(), |hours| format!("{hours:.2}"))
}

/// Returns a progress bar over `total` steps; hidden unless standard error is a terminal.
pub(super) fn progress(total: u64, what: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
    ProgressBar::new(total)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what.to_owned())
}

/// Returns true if the reader of our output closed it.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
