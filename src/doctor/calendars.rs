//! Checks of the calendars, and of the business time that is stored.

use tallyhook_core::domain::business_time::Calendar;
use tallyhook_store::{CalendarUse, Store};

use super::Finding;
use crate::config::Config;

const CHECK: &str = "business time";
/// The repositories that a finding names.
const NAMED: usize = 3;

/// Returns the state of the calendars: none if there are none and no number follows one.
pub(super) async fn findings(config: &Config, store: &Store) -> Vec<Finding> {
    let calendars = &config.numbers.calendars;
    let in_use = match store.calendars_in_use().await {
        Ok(in_use) => in_use,
        Err(error) => {
            let why = error.to_string();
            return vec![Finding::wrong(CHECK, why, "see the log of the database")];
        }
    };
    let outdated: Vec<_> = in_use
        .iter()
        .filter(|used| {
            let wanted = calendars.of_repository(&used.repo).map(Calendar::hash);
            used.hash.as_deref() != wanted
        })
        .collect();
    if !outdated.is_empty() {
        return vec![outdated_finding(&outdated)];
    }
    let names = calendars
        .iter()
        .map(|calendar| format!("{} ({})", calendar.name(), calendar.zone()));
    let names: Vec<_> = names.collect();
    match names.is_empty() {
        true => Vec::new(),
        false => vec![Finding::ok(
            CHECK,
            format!("calendars: {}", names.join(", ")),
        )],
    }
}

fn outdated_finding(outdated: &[&CalendarUse]) -> Finding {
    let pull_requests: i64 = outdated.iter().map(|used| used.pull_requests).sum();
    let mut names: Vec<_> = outdated.iter().map(|used| used.repo.as_str()).collect();
    names.dedup();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.truncate(NAMED);
    let followed = match outdated.iter().all(|used| used.hash.is_none()) {
        true => "none, and the settings have one for them",
        false => "another one than the settings have for them",
    };
    Finding::warning(
        CHECK,
        format!(
            "the calendar of {pull_requests} merged pull requests is {followed}: of {}{more}",
            names.join(", ")
        ),
        "run `tallyhook recompute` with these settings",
    )
}
