//! Checks of the inbox: dead letters and waiting deliveries.

use chrono::{TimeDelta, Utc};
use tallyhook_store::{DeliveryCounts, Moment};

use super::Finding;
use super::here::StoredForChecks;

/// A delivery is usually applied within a second.
const SLOW: TimeDelta = TimeDelta::minutes(1);
const STUCK: TimeDelta = TimeDelta::minutes(15);

pub(super) fn examine(stored: &StoredForChecks) -> Vec<Finding> {
    let now = Utc::now();
    let Some(counts) = &stored.inbox else {
        return Vec::new();
    };
    vec![waiting(counts, now), dead_letters(counts)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckState;

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
