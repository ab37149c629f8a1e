//! `tallyhook waiting`

use chrono::Utc;
use clap::Args;
use tallyhook_core::github::types::Timestamp;

use super::reader::{ReadFromArgs, ReadQuery};
use super::{CommandResult, SettingSources, output};
use crate::api::{WaitingAnswer, WaitingGroupItem, WaitingOnKind, WaitingReason};

#[derive(Debug, Args)]
pub(super) struct WaitingArgs {
    /// Only pull requests of this repository
    #[arg(long, value_name = "OWNER/REPO")]
    repo: Option<String>,
    /// Only those that wait for this team on GitHub
    #[arg(long, value_name = "SLUG")]
    team: Option<String>,
    /// Only those by these authors, such as human
    #[arg(long)]
    authors: Option<String>,
    /// Print JSON, as `GET /api/waiting` answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: ReadFromArgs,
}

impl WaitingArgs {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let query = ReadQuery::default()
            .with("repo", self.repo)
            .with("github_team", self.team)
            .with("authors", self.authors);
        let reader = self.from.open(sources).await?;
        let answer = reader.waiting(&query).await;
        reader.close().await;
        match self.json {
            true => output::json(&answer?),
            false => print(&answer?),
        }
    }
}

fn print(answer: &WaitingAnswer) -> CommandResult {
    let mut groups = output::table([
        output::whole("waits for"),
        output::whole("open"),
        output::whole("< 1 d"),
        output::whole("1-3 d"),
        output::whole("3-7 d"),
        output::whole("> 7 d"),
        output::whole("longest"),
        output::text("pull request"),
    ]);
    for group in &answer.groups {
        groups.add_row(row(group, answer.as_of));
    }
    groups.print("no pull request is open")?;
    if !answer.on.is_empty() {
        let mut on = output::table([
            output::whole("on"),
            output::text("name"),
            output::whole("open"),
            output::whole("longest"),
        ]);
        for party in &answer.on {
            on.add_row([
                match party.kind {
                    WaitingOnKind::Team => "team".to_owned(),
                    WaitingOnKind::Person => "person".to_owned(),
                },
                party.name.clone(),
                party.n.to_string(),
                waited(party.longest_since, answer.as_of),
            ]);
        }
        output::line("")?;
        on.print("")?;
    }
    let remarks = remarks(answer);
    match remarks.is_empty() {
        true => Ok(()),
        false => {
            output::line("")?;
            output::paragraph(&remarks.join(" "))
        }
    }
}

fn row(group: &WaitingGroupItem, now: Timestamp) -> [String; 8] {
    let longest = &group.longest;
    [
        words(group.reason).to_owned(),
        group.n.to_string(),
        group.under_1d.to_string(),
        group.under_3d.to_string(),
        group.under_7d.to_string(),
        group.over_7d.to_string(),
        waited(longest.since, now),
        format!("{}#{}", longest.repo, longest.number),
    ]
}

/// Returns what a pull request waits for, as tables name it.
pub(super) const fn words(reason: WaitingReason) -> &'static str {
    match reason {
        WaitingReason::Draft => "author: draft",
        WaitingReason::Queued => "merge queue",
        WaitingReason::LeftQueue => "author: left queue",
        WaitingReason::Conflict => "author: conflict",
        WaitingReason::ChangesRequested => "author: changes",
        WaitingReason::CheckFailed => "author: check failed",
        WaitingReason::Comments => "author: comments",
        WaitingReason::FirstReview => "first review",
        WaitingReason::AnotherLook => "another look",
        WaitingReason::NobodyAsked => "no one is asked",
        WaitingReason::BasePr => "its base",
        WaitingReason::Checks => "checks",
        WaitingReason::Merge => "its merge",
    }
}

/// Returns a time of waiting in days and hours.
pub(super) fn waited(since: Timestamp, now: Timestamp) -> String {
    let seconds = (now.epoch() - since.epoch()).max(0);
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Returns what is missing in the totals.
fn remarks(answer: &WaitingAnswer) -> Vec<String> {
    let freshness = &answer.freshness;
    let mut remarks = Vec::new();
    if freshness.not_computed > 0 {
        remarks.push(format!(
            "Not computed yet: {} open pull requests, which are not in this table.",
            freshness.not_computed
        ));
    }
    let age = Utc::now().timestamp() - freshness.applied_until.epoch();
    if freshness.oldest_pending_seconds > 60.0 {
        remarks.push(format!(
            "Deliveries of the last {age} s are not applied yet."
        ));
    }
    if !freshness.incomplete.is_empty() {
        let names = freshness.incomplete.iter().take(5);
        let names: Vec<_> = names
            .map(|gap| format!("{} ({})", gap.repo, gap.why))
            .collect();
        let more = freshness.incomplete.len().saturating_sub(names.len());
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        remarks.push(format!("Incomplete: {}{more}.", names.join(", ")));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waited_has_the_two_greatest_units() {
        for (seconds, expected) in [
            (-5, "0 min"),
            (3_599, "59 min"),
            (3_600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d 0 h"),
            (200_000, "2 d 7 h"),
        ] {
            let (since, now) = (
                Timestamp::clamped(1_000),
                Timestamp::clamped(1_000 + seconds),
            );
            assert_eq!(waited(since, now), expected);
        }
    }
}
