//! The histories of states that are on or off, of long pull requests.

use proptest::prelude::*;

use super::*;
use crate::domain::pull_request::Observed;
use crate::event::Fact;
use crate::github::types::{PrKey, PrNumber, RepoId};

const KINDS: [FactKind; 4] = [
    FactKind::Closed,
    FactKind::Reopened,
    FactKind::ConvertedToDraft,
    FactKind::ReadyForReview,
];

/// A pull request with these changes and snapshots.
fn with_history(changes: &[(i64, usize)], seen: &[(i64, bool, bool)]) -> PullRequest {
    let mut pull_request = PullRequest::unknown(PrKey {
        repo: RepoId(1),
        number: PrNumber(1),
    });
    pull_request
        .timeline
        .extend(changes.iter().map(|(at, kind)| Fact {
            at: Timestamp::clamped(*at),
            kind: KINDS[*kind],
            subject: None,
            subject_kind: None,
            detail: None,
            actor: None,
        }));
    pull_request
        .observed
        .extend(seen.iter().map(|(at, open, draft)| {
            let draft = Some(*draft);
            (Timestamp::clamped(*at), Observed { open: *open, draft })
        }));
    pull_request
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The snapshots that are left out for their number change no interval.
    #[test]
    fn snapshots_that_are_left_out_reveal_nothing(
        changes in prop::collection::vec((0_i64..40, 0_usize..4), 0..12),
        seen in prop::collection::vec((0_i64..40, any::<bool>(), any::<bool>()), 0..30),
        end in prop::option::of(0_i64..45),
    ) {
        let pull_request = with_history(&changes, &seen);
        let end = end.map(Timestamp::clamped);
        let start = Timestamp::clamped(0);

        let few = closed_history(&pull_request, end);
        let open = pull_request.observed.iter().filter(|(_, seen)| seen.open);
        let before = open.filter(|(at, _)| end.is_none_or(|end| **at < end));
        let all = ToggleHistory {
            observed: before.map(|(at, _)| (*at, false)).collect(),
            starts_on: false,
            on: few.on.clone(),
            off: few.off.clone(),
        };
        prop_assert_eq!(few.intervals(start), all.intervals(start));

        let few = draft_history(&pull_request, start, end);
        let mut observed: Vec<(Timestamp, bool)> = Vec::new();
        for (at, seen) in pull_request.observed.iter() {
            let at = end.map_or(*at, |end| end.min(*at));
            if observed.last().is_none_or(|(last, _)| *last < at) {
                observed.push((at, seen.draft.unwrap()));
            }
        }
        let all = ToggleHistory {
            observed,
            starts_on: few.starts_on,
            on: few.on.clone(),
            off: few.off.clone(),
        };
        prop_assert_eq!(few.intervals(start), all.intervals(start));
    }
}
