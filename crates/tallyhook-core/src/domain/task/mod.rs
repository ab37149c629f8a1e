//! Tasks that follow their pull requests.
//!
//! A task's state is a function of its pull requests and of the last status that a person set, and
//! of nothing else. So the order of their arrival does not matter, and facts that arrive late are
//! corrected.

mod keys;
mod prose;

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::keys::{BadPatterns, MOST_KEYS, Patterns, TaskKey, texts};
use super::notification::{PullRequestStatus, status};
use super::pull_request::PullRequest;
use super::timings::ready_at;
use crate::github::types::{PrKey, Timestamp};

/// The permanent id of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub Uuid);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The status of a task.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
pub enum TaskStatus {
    Todo,
    Implementing,
    CodeReviewing,
    Done,
    Cancelled,
}

impl TaskStatus {
    /// Every status, in the order of the work.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of a task that its state follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskState {
    pub status: TaskStatus,
    /// The status at its creation, to which it returns when its last pull request was taken away.
    pub initial: TaskStatus,
    /// The last status that a person set. The status at creation does not count.
    pub by_hand: Option<ManualStatus>,
}

/// A status that a person set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManualStatus {
    pub status: TaskStatus,
    pub at: Timestamp,
}

/// A pull request of a task, as far as the task depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkedPr {
    pub key: PrKey,
    pub status: PullRequestStatus,
    /// The start of its status; of an open one no earlier than it became ready for review.
    pub since: Timestamp,
    /// True if it is open and was never ready for review: it leaves its task as it is.
    pub is_draft: bool,
}

impl LinkedPr {
    /// Returns `None` while the status of the pull request is unknown.
    pub fn of(pull_request: &PullRequest) -> Option<Self> {
        let (status, since) = status(pull_request)?;
        let ready_at = match status {
            PullRequestStatus::Open => ready_at(pull_request),
            PullRequestStatus::Closed | PullRequestStatus::Merged => Some(since),
        };
        Some(Self {
            key: pull_request.key,
            status,
            since: ready_at.map_or(since, |ready_at| since.max(ready_at)),
            is_draft: ready_at.is_none(),
        })
    }
}

/// The cause of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransitionCause {
    /// The status of this pull request.
    PullRequest(PrKey),
    /// A person set the status later than the pull requests reached theirs.
    ByHand,
    /// It has no pull request any more, or only drafts.
    Unlinked,
}

/// A change of a task's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: TaskStatus,
    pub to: TaskStatus,
    /// The time of the cause.
    pub at: Timestamp,
    pub cause: TransitionCause,
}

/// The status that the pull requests alone would give, where a person set another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManualOverride {
    pub would_be: TaskStatus,
    /// The pull request that decides, and the time of its change.
    pub cause: PrKey,
    pub at: Timestamp,
}

/// Returns the transition that a task with the pull requests `prs`, in any order, has to make at
/// `now`; `None` if it has made it.
///
/// A task is in review while any of them is open, done when all are closed and at least one was
/// merged, and cancelled when all are closed without a merge. A status that a person set later
/// wins. Drafts do not count. Without any it has the status that it would have without this
/// program: the last that a person set, or the first.
pub fn follow(task: &TaskState, prs: &[LinkedPr], now: Timestamp) -> Option<Transition> {
    let (to, at, cause) = match (wanted(prs), task.by_hand) {
        (Some(wanted), by_hand) if by_hand.is_none_or(|by_hand| by_hand.at < wanted.at) => (
            wanted.would_be,
            wanted.at,
            TransitionCause::PullRequest(wanted.cause),
        ),
        (Some(_), Some(by_hand)) => (by_hand.status, by_hand.at, TransitionCause::ByHand),
        (_, by_hand) => {
            let former = by_hand.map_or(task.initial, |by_hand| by_hand.status);
            (former, now, TransitionCause::Unlinked)
        }
    };
    (to != task.status).then_some(Transition {
        from: task.status,
        to,
        at,
        cause,
    })
}

/// Returns the difference between a task and its pull requests that a person caused by setting the
/// status after them.
pub fn manual_override(task: &TaskState, prs: &[LinkedPr]) -> Option<ManualOverride> {
    let by_hand = task.by_hand?;
    wanted(prs).filter(|wanted| wanted.at <= by_hand.at && wanted.would_be != by_hand.status)
}

/// Returns the status that the pull requests alone give. It dates from the latest of those that
/// decide it: the last to be opened, or, if none is open, the last to be closed.
fn wanted(prs: &[LinkedPr]) -> Option<ManualOverride> {
    let prs = || prs.iter().filter(|pr| !pr.is_draft);
    let is_any = |status| prs().any(|pr| pr.status == status);
    let (would_be, only_open) = if is_any(PullRequestStatus::Open) {
        (TaskStatus::CodeReviewing, true)
    } else if is_any(PullRequestStatus::Merged) {
        (TaskStatus::Done, false)
    } else {
        (TaskStatus::Cancelled, false)
    };
    let causes = prs().filter(|pr| !only_open || pr.status == PullRequestStatus::Open);
    // Of two that happened within one second the key decides, so that their order here does not.
    let last = causes.max_by_key(|pr| (pr.since, pr.key))?;
    Some(ManualOverride {
        would_be,
        cause: last.key,
        at: last.since,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::TaskStatus::{Cancelled, CodeReviewing, Done, Implementing, Todo};
    use super::*;
    use crate::github::types::{PrNumber, RepoId};

    #[test]
    fn id_of_a_task_is_shown_as_it_is_written() {
        let id = TaskId(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(serde_json::to_value(id).unwrap(), id.to_string());
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::clamped(second)
    }

    fn key(number: i64) -> PrKey {
        PrKey {
            repo: RepoId(1),
            number: PrNumber(number),
        }
    }

    fn pr(number: i64, status: PullRequestStatus, since: i64) -> LinkedPr {
        LinkedPr {
            key: key(number),
            status,
            since: at(since),
            is_draft: false,
        }
    }

    fn draft(number: i64, since: i64) -> LinkedPr {
        LinkedPr {
            is_draft: true,
            ..pr(number, PullRequestStatus::Open, since)
        }
    }

    const NOW: Timestamp = Timestamp::clamped(99);

    fn untouched(status: TaskStatus) -> TaskState {
        TaskState {
            status,
            initial: Todo,
            by_hand: None,
        }
    }

    fn set(status: TaskStatus, second: i64) -> TaskState {
        TaskState {
            status,
            initial: Todo,
            by_hand: Some(ManualStatus {
                status,
                at: at(second),
            }),
        }
    }

    #[test]
    fn all_pull_requests_together_decide_the_status() {
        use PullRequestStatus::{Closed, Merged, Open};
        for (prs, to) in [
            (&[Open][..], Some(CodeReviewing)),
            (&[Merged], Some(Done)),
            (&[Closed], Some(Cancelled)),
            (&[Merged, Open], Some(CodeReviewing)),
            (&[Closed, Open], Some(CodeReviewing)),
            (&[Closed, Merged, Closed], Some(Done)),
            (&[Closed, Closed], Some(Cancelled)),
        ] {
            let prs: Vec<_> = (1..)
                .zip(prs)
                .map(|(number, status)| pr(number, *status, 10 * number))
                .collect();
            for from in [Todo, Implementing] {
                assert_eq!(
                    follow(&untouched(from), &prs, NOW).map(|moved| moved.to),
                    to,
                    "{prs:?}"
                );
            }
        }
    }

    #[test]
    fn transition_has_the_latest_deciding_pull_request_as_cause() {
        let prs = [
            pr(1, PullRequestStatus::Merged, 30),
            pr(2, PullRequestStatus::Closed, 40),
        ];
        let moved = Transition {
            from: CodeReviewing,
            to: Done,
            at: at(40),
            cause: TransitionCause::PullRequest(key(2)),
        };
        assert_eq!(follow(&untouched(CodeReviewing), &prs, NOW), Some(moved));
        assert_eq!(follow(&untouched(Done), &prs, NOW), None);
        // Of two that were closed within one second it is always the same.
        let mut prs = [
            pr(1, PullRequestStatus::Merged, 40),
            pr(2, PullRequestStatus::Closed, 40),
        ];
        assert_eq!(follow(&untouched(CodeReviewing), &prs, NOW), Some(moved));
        prs.reverse();
        assert_eq!(follow(&untouched(CodeReviewing), &prs, NOW), Some(moved));
    }

    #[test]
    fn later_manual_status_stays_and_the_difference_is_returned() {
        let prs = [pr(1, PullRequestStatus::Merged, 30)];
        let difference = ManualOverride {
            would_be: Done,
            cause: key(1),
            at: at(30),
        };
        for second in [30, 31] {
            assert_eq!(follow(&set(Implementing, second), &prs, NOW), None);
            assert_eq!(
                manual_override(&set(Implementing, second), &prs),
                Some(difference)
            );
            assert_eq!(
                manual_override(&set(Done, second), &prs),
                None,
                "they agree"
            );
        }
        assert_eq!(follow(&set(Implementing, 29), &prs, NOW).unwrap().to, Done);
        assert_eq!(manual_override(&set(Implementing, 29), &prs), None);
    }

    #[test]
    fn task_without_pull_requests_returns_to_its_former_status() {
        let returned = |status, to| {
            Some(Transition {
                from: status,
                to,
                at: NOW,
                cause: TransitionCause::Unlinked,
            })
        };
        for status in [CodeReviewing, Done, Cancelled] {
            assert_eq!(follow(&untouched(status), &[], NOW), returned(status, Todo));
            let moved = TaskState {
                status,
                ..set(Implementing, 12)
            };
            assert_eq!(follow(&moved, &[], NOW), returned(status, Implementing));
            assert_eq!(follow(&set(status, 12), &[], NOW), None, "a person's word");
        }
        assert_eq!(follow(&untouched(Todo), &[], NOW), None);
    }

    #[test]
    fn draft_leaves_its_task_as_it_is() {
        let ready = pr(1, PullRequestStatus::Open, 40);
        for task in [untouched(Todo), set(Implementing, 35)] {
            assert_eq!(follow(&task, &[draft(1, 40)], NOW), None);
            assert_eq!(follow(&task, &[ready], NOW).unwrap().to, CodeReviewing);
        }
        let merged = pr(2, PullRequestStatus::Merged, 30);
        let moved = follow(&untouched(CodeReviewing), &[draft(1, 40), merged], NOW).unwrap();
        assert_eq!((moved.to, moved.at), (Done, at(30)));
    }

    #[test]
    fn missed_reopening_returns_the_task_to_review() {
        for over in [Done, Cancelled] {
            let moved =
                follow(&untouched(over), &[pr(1, PullRequestStatus::Open, 50)], NOW).unwrap();
            assert_eq!(
                (moved.from, moved.to, moved.at),
                (over, CodeReviewing, at(50))
            );
        }
    }

    #[test]
    fn manual_status_returns_when_its_override_was_premature() {
        // Set by hand at 12, done by a merge at 14; then it is learnt that another one was open all
        // the time.
        let task = TaskState {
            status: Done,
            ..set(Todo, 12)
        };
        let moved = follow(
            &task,
            &[
                pr(1, PullRequestStatus::Merged, 14),
                pr(2, PullRequestStatus::Open, 10),
            ],
            NOW,
        )
        .unwrap();
        assert_eq!(
            (moved.to, moved.at, moved.cause),
            (Todo, at(12), TransitionCause::ByHand)
        );
    }

    #[derive(Clone, Copy, Debug)]
    enum TaskInput {
        Pr(LinkedPr),
        ByHand(ManualStatus),
    }

    /// Applies inputs one by one.
    fn after(inputs: &[TaskInput]) -> TaskState {
        let mut task = untouched(Todo);
        let mut prs: Vec<LinkedPr> = Vec::new();
        for input in inputs {
            match *input {
                TaskInput::Pr(pr) => match prs.iter_mut().find(|known| known.key == pr.key) {
                    Some(known) if (known.since, known.status) < (pr.since, pr.status) => {
                        *known = pr
                    }
                    Some(_) => {}
                    None => prs.push(pr),
                },
                TaskInput::ByHand(word) => {
                    if task.by_hand.is_none_or(|known| known.at < word.at) {
                        task = TaskState {
                            status: word.status,
                            by_hand: Some(word),
                            ..task
                        };
                    }
                }
            }
            if let Some(moved) = follow(&task, &prs, NOW) {
                assert_eq!(moved.from, task.status);
                task.status = moved.to;
            }
            assert_eq!(follow(&task, &prs, NOW), None, "one step is enough");
        }
        task
    }

    fn inputs() -> impl Strategy<Value = Vec<TaskInput>> {
        let status = prop_oneof![
            Just(PullRequestStatus::Open),
            Just(PullRequestStatus::Closed),
            Just(PullRequestStatus::Merged)
        ];
        let pr =
            (1_i64..4, status).prop_map(|(number, status)| TaskInput::Pr(pr(number, status, 0)));
        let word = prop_oneof![
            Just(Todo),
            Just(Implementing),
            Just(CodeReviewing),
            Just(Done),
            Just(Cancelled)
        ];
        let word = word.prop_map(|status| TaskInput::ByHand(ManualStatus { status, at: at(0) }));
        let one = (prop_oneof![4 => pr, 1 => word], 0_i64..3);
        prop::collection::vec(one, 1..10).prop_map(|inputs| {
            let mut second = 0;
            let dated = inputs.into_iter().map(|(input, pause)| {
                second += pause;
                match input {
                    TaskInput::Pr(pr) => TaskInput::Pr(LinkedPr {
                        since: at(second),
                        ..pr
                    }),
                    // Two words of people within one second are in the order of their arrival.
                    TaskInput::ByHand(word) => {
                        second += 1;
                        TaskInput::ByHand(ManualStatus {
                            at: at(second),
                            ..word
                        })
                    }
                }
            });
            dated.collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_order_and_repetition_ends_in_the_same_state(
            (in_order, shuffled) in inputs().prop_flat_map(|inputs| {
                let repeated = [inputs.clone(), inputs.iter().step_by(2).copied().collect()].concat();
                (Just(inputs), Just(repeated).prop_shuffle())
            }),
        ) {
            prop_assert_eq!(after(&shuffled), after(&in_order));
        }
    }
}
