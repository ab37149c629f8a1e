//! The demo's second table: what the open pull requests wait for, and for how long.

use tallyhook_core::domain::waiting::WaitingFor;

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
        output::text("waits for"),
        output::whole("waited"),
        output::detail("because"),
    ]);
    for (row, waiting) in waiting {
        table.add_row(vec![
            format!("#{}", row.number),
            row.title.clone().unwrap_or_default(),
            waits_for(waiting),
            span(waiting.as_of.epoch() - waiting.since.epoch()),
            waiting.because.clone(),
        ]);
    }
    table.print("no open pull request")
}

/// Returns the names that are waited for, after the kind of party where that is not the reviewers.
fn waits_for(waiting: &WaitingItem) -> String {
    let kind = match waiting.on {
        WaitingFor::Author => Some("author"),
        WaitingFor::Reviewers => None,
        WaitingFor::Ci => Some("checks"),
        WaitingFor::MergeQueue => Some("the merge queue"),
        WaitingFor::Maintainers => Some("a maintainer"),
        WaitingFor::BasePr => Some("its base"),
        WaitingFor::Nobody => Some("no one"),
    };
    let names = waiting.who.iter().filter_map(|one| {
        let team = one.team.as_ref().map(|team| format!("team {team}"));
        one.login.clone().or(team)
    });
    let parts: Vec<_> = kind.map(str::to_owned).into_iter().chain(names).collect();
    parts.join(" ")
}

/// Returns a duration in its two greatest units.
fn span(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_has_the_two_greatest_units() {
        for (seconds, expected) in [
            (59, "0 min"),
            (3_599, "59 min"),
            (3_600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d 0 h"),
            (200_000, "2 d 7 h"),
        ] {
            assert_eq!(span(seconds), expected);
        }
    }
}
