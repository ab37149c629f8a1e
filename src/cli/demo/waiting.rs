//! The demo's second table: what the open pull requests wait for, and for how long.

use super::super::waiting::{waited, words};
use super::super::{CommandResult, output};
use crate::api::{PullRequestItem, WaitingItem};

/// The rule of drafts, which are last.
const DRAFT: u8 = 1;

/// Prints the open ones of `rows`, those first that wait longest.
pub(super) fn print(rows: &[PullRequestItem]) -> CommandResult {
    let waiting = rows
        .iter()
        .filter_map(|row| Some((row, row.waiting.as_ref()?)));
    let mut waiting: Vec<_> = waiting.collect();
    waiting.sort_by_key(|(row, waiting)| (waiting.rule == DRAFT, waiting.since, row.number));
    let mut table = output::table([
        output::whole("PR"),
        output::text("title"),
        output::whole("waits for"),
        output::text("on"),
        output::whole("waited"),
        output::detail("because"),
    ]);
    for (row, waiting) in waiting {
        table.add_row(vec![
            format!("#{}", row.number),
            row.title.clone().unwrap_or_default(),
            words(waiting.reason).to_owned(),
            names(waiting),
            waited(waiting.since, waiting.as_of),
            waiting.because.clone(),
        ]);
    }
    table.print("no open pull request")
}

/// Returns the people and teams that are waited for.
fn names(waiting: &WaitingItem) -> String {
    let names = waiting.who.iter().filter_map(|one| {
        let team = one.team.as_ref().map(|team| format!("team {team}"));
        one.login.clone().or(team)
    });
    let names: Vec<_> = names.collect();
    match names.is_empty() {
        true => "-".to_owned(),
        false => names.join(", "),
    }
}
