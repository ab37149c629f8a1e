//! Tasks that follow their pull requests: which state one is in, given what its pull requests are and what people said.
//!
//! The state is a function of the pull requests and of the last word of a person, and of nothing else. So it does not
//! matter in which order they came, and what was learnt too late is put right.

mod keys;

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::keys::{BadPatterns, MOST_KEYS, Patterns, TaskKey, texts};
use super::notification::Status;
use crate::github::types::{PrKey, Timestamp};

/// Which task is meant, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub Uuid);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Where a task is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskStatus {
    Todo,
    Implementing,
    CodeReviewing,
    Done,
    Cancelled,
}

impl TaskStatus {
    pub const ALL: [Self; 5] = [
        Self::Todo,
        Self::Implementing,
        Self::CodeReviewing,
        Self::Done,
        Self::Cancelled,
    ];

    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Todo => "TODO",
            Self::Implementing => "IMPLEMENTING",
            Self::CodeReviewing => "CODE_REVIEWING",
            Self::Done => "DONE",
            Self::Cancelled => "CANCELLED",
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A task, as far as its state goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskState {
    pub status: TaskStatus,
    /// The last word of a person on it. The status that a task was created with is none.
    pub by_hand: Option<ByHand>,
}

/// A person set the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByHand {
    pub status: TaskStatus,
    pub at: Timestamp,
}

/// A pull request of the task: what it is, and since when on GitHub, as [`status`](super::notification::status) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkedPr {
    pub key: PrKey,
    pub status: Status,
    pub since: Timestamp,
}

/// Why a task is in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// What became of this pull request.
    PullRequest(PrKey),
    /// A person said so, later than what the task followed until now.
    ByHand,
}

/// The task is to go from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: TaskStatus,
    pub to: TaskStatus,
    /// When the cause of it happened.
    pub at: Timestamp,
    pub cause: Cause,
}

/// Where the pull requests would have the task, had nobody said otherwise since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub would_be: TaskStatus,
    /// The pull request that says so, and when it became what it is.
    pub because: PrKey,
    pub at: Timestamp,
}

/// Where the task has to go now that its pull requests are `prs`, in any order; `None` if it is there.
///
/// A task is reviewed while any of them is open, done when all are closed and at least one was merged, and cancelled when
/// all are closed without a merge. What a person said after that came about counts more.
pub fn follow(task: &TaskState, prs: &[LinkedPr]) -> Option<Transition> {
    let (to, at, cause) = match (wanted(prs), task.by_hand) {
        (Some(wanted), by_hand) if by_hand.is_none_or(|by_hand| by_hand.at < wanted.at) => (
            wanted.would_be,
            wanted.at,
            Cause::PullRequest(wanted.because),
        ),
        (_, Some(by_hand)) => (by_hand.status, by_hand.at, Cause::ByHand),
        (_, None) => return None,
    };
    (to != task.status).then_some(Transition {
        from: task.status,
        to,
        at,
        cause,
    })
}

/// In what the task differs from its pull requests because a person said so after them.
pub fn held(task: &TaskState, prs: &[LinkedPr]) -> Option<Held> {
    let by_hand = task.by_hand?;
    wanted(prs).filter(|wanted| wanted.at <= by_hand.at && wanted.would_be != by_hand.status)
}

/// Where the pull requests alone would have it. It is so since the latest of those that make it so: the last to be opened,
/// or, where none is open, the last to be closed.
fn wanted(prs: &[LinkedPr]) -> Option<Held> {
    let is_any = |status| prs.iter().any(|pr| pr.status == status);
    let (would_be, only_open) = if is_any(Status::Open) {
        (TaskStatus::CodeReviewing, true)
    } else if is_any(Status::Merged) {
        (TaskStatus::Done, false)
    } else {
        (TaskStatus::Cancelled, false)
    };
    let causes = prs
        .iter()
        .filter(|pr| !only_open || pr.status == Status::Open);
    // Of two that happened within one second the key decides, so that their order here does not.
    let last = causes.max_by_key(|pr| (pr.since, pr.key))?;
    Some(Held {
        would_be,
        because: last.key,
        at: last.since,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::TaskStatus::{Cancelled, CodeReviewing, Done, Implementing, Todo};
    use super::*;
    use crate::github::types::{PrNumber, RepoId};

    fn at(second: i64) -> Timestamp {
        Timestamp::clamped(second)
    }

    fn key(number: i64) -> PrKey {
        PrKey {
            repo: RepoId(1),
            number: PrNumber(number),
        }
    }

    fn pr(number: i64, status: Status, since: i64) -> LinkedPr {
        LinkedPr {
            key: key(number),
            status,
            since: at(since),
        }
    }

    fn untouched(status: TaskStatus) -> TaskState {
        TaskState {
            status,
            by_hand: None,
        }
    }

    fn set(status: TaskStatus, second: i64) -> TaskState {
        TaskState {
            status,
            by_hand: Some(ByHand {
                status,
                at: at(second),
            }),
        }
    }

    #[test]
    fn pull_requests_together_decide() {
        use Status::{Closed, Merged, Open};
        for (prs, to) in [
            (&[Open][..], Some(CodeReviewing)),
            (&[Merged], Some(Done)),
            (&[Closed], Some(Cancelled)),
            (&[Merged, Open], Some(CodeReviewing)),
            (&[Closed, Open], Some(CodeReviewing)),
            (&[Closed, Merged, Closed], Some(Done)),
            (&[Closed, Closed], Some(Cancelled)),
            (&[], None),
        ] {
            let prs: Vec<_> = (1..)
                .zip(prs)
                .map(|(number, status)| pr(number, *status, 10 * number))
                .collect();
            for from in [Todo, Implementing] {
                assert_eq!(
                    follow(&untouched(from), &prs).map(|moved| moved.to),
                    to,
                    "{prs:?}"
                );
            }
        }
    }

    #[test]
    fn a_transition_tells_what_caused_it_and_when() {
        let prs = [pr(1, Status::Merged, 30), pr(2, Status::Closed, 40)];
        let moved = Transition {
            from: CodeReviewing,
            to: Done,
            at: at(40),
            cause: Cause::PullRequest(key(2)),
        };
        assert_eq!(follow(&untouched(CodeReviewing), &prs), Some(moved));
        assert_eq!(follow(&untouched(Done), &prs), None);
        // Of two that were closed within one second it is always the same.
        let mut prs = [pr(1, Status::Merged, 40), pr(2, Status::Closed, 40)];
        assert_eq!(follow(&untouched(CodeReviewing), &prs), Some(moved));
        prs.reverse();
        assert_eq!(follow(&untouched(CodeReviewing), &prs), Some(moved));
    }

    #[test]
    fn what_a_person_said_later_stays_and_the_difference_is_told() {
        let prs = [pr(1, Status::Merged, 30)];
        let difference = Held {
            would_be: Done,
            because: key(1),
            at: at(30),
        };
        for second in [30, 31] {
            assert_eq!(follow(&set(Implementing, second), &prs), None);
            assert_eq!(held(&set(Implementing, second), &prs), Some(difference));
            assert_eq!(held(&set(Done, second), &prs), None, "they agree");
        }
        assert_eq!(follow(&set(Implementing, 29), &prs).unwrap().to, Done);
        assert_eq!(held(&set(Implementing, 29), &prs), None);
    }

    #[test]
    fn a_missed_reopening_takes_the_task_back() {
        for over in [Done, Cancelled] {
            let moved = follow(&untouched(over), &[pr(1, Status::Open, 50)]).unwrap();
            assert_eq!(
                (moved.from, moved.to, moved.at),
                (over, CodeReviewing, at(50))
            );
        }
    }

    #[test]
    fn what_was_followed_too_soon_gives_way_to_the_person_again() {
        // Set by hand at 12, done by a merge at 14; then it is learnt that another one was open all the time.
        let task = TaskState {
            status: Done,
            ..set(Todo, 12)
        };
        let moved = follow(&task, &[pr(1, Status::Merged, 14), pr(2, Status::Open, 10)]).unwrap();
        assert_eq!(
            (moved.to, moved.at, moved.cause),
            (Todo, at(12), Cause::ByHand)
        );
    }

    #[derive(Clone, Copy, Debug)]
    enum Told {
        Pr(LinkedPr),
        ByHand(ByHand),
    }

    /// Takes them in one by one, as they come.
    fn after(told: &[Told]) -> TaskState {
        let mut task = untouched(Todo);
        let mut prs: Vec<LinkedPr> = Vec::new();
        for told in told {
            match *told {
                Told::Pr(pr) => match prs.iter_mut().find(|known| known.key == pr.key) {
                    Some(known) if (known.since, known.status) < (pr.since, pr.status) => {
                        *known = pr
                    }
                    Some(_) => {}
                    None => prs.push(pr),
                },
                Told::ByHand(word) => {
                    if task.by_hand.is_none_or(|known| known.at < word.at) {
                        task = TaskState {
                            status: word.status,
                            by_hand: Some(word),
                        };
                    }
                }
            }
            if let Some(moved) = follow(&task, &prs) {
                assert_eq!(moved.from, task.status);
                task.status = moved.to;
            }
            assert_eq!(follow(&task, &prs), None, "one step is enough");
        }
        task
    }

    fn told() -> impl Strategy<Value = Vec<Told>> {
        let status = prop_oneof![
            Just(Status::Open),
            Just(Status::Closed),
            Just(Status::Merged)
        ];
        let pr = (1_i64..4, status).prop_map(|(number, status)| Told::Pr(pr(number, status, 0)));
        let word = prop_oneof![
            Just(Todo),
            Just(Implementing),
            Just(CodeReviewing),
            Just(Done),
            Just(Cancelled)
        ];
        let word = word.prop_map(|status| Told::ByHand(ByHand { status, at: at(0) }));
        let one = (prop_oneof![4 => pr, 1 => word], 0_i64..3);
        prop::collection::vec(one, 1..10).prop_map(|told| {
            let mut second = 0;
            let dated = told.into_iter().map(|(told, pause)| {
                second += pause;
                match told {
                    Told::Pr(pr) => Told::Pr(LinkedPr {
                        since: at(second),
                        ..pr
                    }),
                    // Two words of people within one second are in the order of their arrival.
                    Told::ByHand(word) => {
                        second += 1;
                        Told::ByHand(ByHand {
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
            (in_order, shuffled) in told().prop_flat_map(|told| {
                let repeated = [told.clone(), told.iter().step_by(2).copied().collect()].concat();
                (Just(told), Just(repeated).prop_shuffle())
            }),
        ) {
            prop_assert_eq!(after(&shuffled), after(&in_order));
        }
    }
}
