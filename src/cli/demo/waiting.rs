//! The demo's second table: whom the open pull requests wait for, and for how long.

use super::super::{CommandResult, output, waiting};
use crate::api::{PullRequestItem, WaitingItem};

/// The rule of drafts, which are last.
const DRAFT: u8 = 1;

/// Prints the open ones of `rows`, those first that wait longest.
pub(super) fn print(rows: &[PullRequestItem]) -> CommandResult {
    let open = rows
        .iter()
        .filter_map(|row| Some((row, row.waiting.as_ref()?)));
    let mut open: Vec<_> = open.collect();
    open.sort_by_key(|(row, waiting)| (waiting.rule == DRAFT, waiting.since, row.number));
    let mut table = output::table([
        output::whole("PR"),
        output::text("title"),
        output::whole("waits for"),
        output::text("on"),
        output::whole("waited"),
        output::detail("because"),
    ]);
    for (row, item) in open {
        table.add_row([
            format!("#{}", row.number),
            row.title.clone().unwrap_or_default(),
            waiting::words(item.reason).to_owned(),
            names(item),
            waiting::waited(item.since, item.as_of),
            item.because.clone(),
        ]);
    }
    table.print("no open pull request")
}

/// Returns the people and teams that are waited for.
fn names(item: &WaitingItem) -> String {
    let names = item.who.iter().filter_map(|one| {
        let team = one.team.as_ref().map(|slug| format!("team {slug}"));
        team.or_else(|| one.login.clone())
    });
    names.collect::<Vec<_>>().join(", ")
}
