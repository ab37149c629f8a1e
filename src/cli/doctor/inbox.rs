//! Checks of the inbox: dead letters, waiting deliveries, the last delivery of each repository.

use chrono::{SecondsFormat, TimeDelta, Utc};
use tallyhook_store::{DeliveryCounts, Moment, TrackedRepository};

use super::Finding;
use super::here::StoredForChecks;

/// A delivery is usually applied within a second.
const SLOW: TimeDelta = TimeDelta::minutes(1);
const STUCK: TimeDelta = TimeDelta::minutes(15);
/// A repository in which people work is rarely without a webhook for so long.
const QUIET: TimeDelta = TimeDelta::days(7);
/// The most repositories that are named.
const MAX_REPOSITORIES: usize = 20;

pub(super) fn examine(stored: &StoredForChecks) -> Vec<Finding> {
    let now = Utc::now();
    let Some(counts) = &stored.inbox else {
        return Vec::new();
    };
    let mut findings = vec![waiting(counts, now), dead_letters(counts)];
    let named = stored.tracked.iter().take(MAX_REPOSITORIES);
    findings.extend(named.map(|known| last_delivery(known, now).of(&known.name)));
    let left_out = stored.tracked.len().saturating_sub(MAX_REPOSITORIES);
    if left_out > 0 {
        findings.push(Finding::ok(
            "last delivery",
            format!("{left_out} more repositories: GET /api/repos shows theirs"),
        ));
    }
    findings
}

fn waiting(counts: &DeliveryCounts, now: Moment) -> Finding {
    let Some(oldest) = counts.oldest_pending else {
        return Finding::ok("inbox", "every delivery is applied");
    };
    let age = now - oldest;
    let found = format!(
        "{} deliveries wait, the oldest for {} s",
        counts.accepted,
        age.num_seconds().max(0)
    );
    let advice = "check that a server with the role worker runs, and see its log; `tallyhook \
                  deliveries list --state accepted` shows them";
    match age {
        age if age > STUCK => Finding::wrong("inbox", found, advice),
        age if age > SLOW => Finding::warning("inbox", found, advice),
        _ => Finding::ok("inbox", found),
    }
}

fn dead_letters(counts: &DeliveryCounts) -> Finding {
    match counts.dead {
        0 => Finding::ok("dead letters", "none"),
        dead => Finding::warning(
            "dead letters",
            format!("{dead} cannot be applied, and their numbers are missing"),
            "`tallyhook dead list` shows why; then `tallyhook dead requeue` or `tallyhook dead \
             discard`",
        ),
    }
}

fn last_delivery(known: &TrackedRepository, now: Moment) -> Finding {
    let advice = "check its webhook at GitHub, under Settings, Webhooks, Recent Deliveries; none, \
                  if nothing happened there or polling is enough";
    let last = known.last_delivery_at;
    let found = match last {
        Some(at) => format!("at {}", at.to_rfc3339_opts(SecondsFormat::Secs, true)),
        None => "no webhook of it has arrived".to_owned(),
    };
    // One that was tracked just now may have none yet.
    if now - last.unwrap_or(known.tracked_since) > QUIET {
        return Finding::warning("last delivery", found, advice);
    }
    Finding::ok("last delivery", found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::CheckState;

    #[test]
    fn inbox_is_wrong_once_its_oldest_delivery_waits_for_too_long() {
        let now = Utc::now();
        for (age, dead, states) in [
            (None, 0, [CheckState::Ok, CheckState::Ok]),
            (Some(1), 0, [CheckState::Ok, CheckState::Ok]),
            (Some(120), 3, [CheckState::Warning, CheckState::Warning]),
            (Some(3600), 0, [CheckState::Wrong, CheckState::Ok]),
        ] {
            let counts = DeliveryCounts {
                dead,
                oldest_pending: age.map(|age| now - TimeDelta::seconds(age)),
                ..DeliveryCounts::default()
            };
            let found = [waiting(&counts, now), dead_letters(&counts)];
            assert_eq!(found.map(|finding| finding.state), states, "{age:?}");
        }
    }
}
