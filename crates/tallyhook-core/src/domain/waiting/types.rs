//! The answer to whose turn it is on a pull request: now, and at every time of its life.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::github::types::{Account, AccountId, Timestamp};

/// A kind of party whose turn it is. `Closed` is the time between a closing and a reopening.
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
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Turn {
    Author,
    Reviewers,
    Nobody,
    Ci,
    MergeQueue,
    Maintainers,
    Closed,
}

impl Turn {
    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Returns the kind that an open pull request waits for while this turn lasts.
    pub(super) const fn waiting_for(self) -> Option<WaitingFor> {
        Some(match self {
            Self::Author => WaitingFor::Author,
            Self::Reviewers => WaitingFor::Reviewers,
            Self::Nobody => WaitingFor::Nobody,
            Self::Ci => WaitingFor::Ci,
            Self::MergeQueue => WaitingFor::MergeQueue,
            Self::Maintainers => WaitingFor::Maintainers,
            Self::Closed => return None,
        })
    }
}

/// The kind that an open pull request waits for.
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
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum WaitingFor {
    Author,
    Reviewers,
    Ci,
    MergeQueue,
    Maintainers,
    /// Another open pull request, whose head is the base of this one: known to readers of all pull
    /// requests only.
    BasePr,
    Nobody,
}

impl WaitingFor {
    /// Every kind.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// A person or team that is asked, or waited for. Accounts and teams have id spaces of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Party {
    Account {
        id: AccountId,
        login: String,
    },
    Team {
        /// Null for a team that only the settings name.
        id: Option<i64>,
        slug: String,
    },
}

impl Party {
    /// Returns the login or the slug.
    pub fn name(&self) -> &str {
        match self {
            Self::Account { login, .. } => login,
            Self::Team { slug, .. } => slug,
        }
    }
}

impl From<&Account> for Party {
    fn from(account: &Account) -> Self {
        Self::Account {
            id: account.id,
            login: account.login.clone(),
        }
    }
}

/// A person or team that an open pull request waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiter {
    #[serde(flatten)]
    pub party: Party,
    pub since: Timestamp,
    pub because: String,
}

/// The one thing that an open pull request waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    #[serde(rename = "for")]
    pub on: WaitingFor,
    /// The people and teams, the one that is waited for longest first. Not empty for reviewers and
    /// the author, empty for all other kinds.
    pub who: Vec<Waiter>,
    /// The time from which the first of them is waited for.
    pub since: Timestamp,
    /// The time from which it waits for this kind.
    pub kind_since: Timestamp,
    pub because: String,
    /// The number of the rule that holds, 1 to 12.
    pub rule: u8,
    /// Other reasons to wait, which count for nothing while this one holds.
    pub also: Vec<String>,
    /// True if `since` is the first time at which it was seen so, and it may have been so before.
    pub since_is_latest: bool,
}

/// A stretch of one turn for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnStep {
    pub turn: Turn,
    /// As in [`Waiting::who`], the first twenty.
    pub who: Vec<Party>,
    pub from: Timestamp,
    /// `None` while it lasts.
    pub to: Option<Timestamp>,
    pub because: String,
}

/// The end of a review request.
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
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum PairEnd {
    /// By a review.
    Answered,
    /// The request was removed.
    Withdrawn,
    /// The pull request ended before an answer.
    Ended,
    /// Not yet.
    Open,
}

impl PairEnd {
    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// A review request with its answer. Asking again while a request is open begins no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ReviewPair {
    pub party: Party,
    /// 1 for the first request to this party, then 2, 3 and so on.
    pub k: u32,
    /// The request, or the time at which the draft of that time became ready.
    pub asked_at: Timestamp,
    pub end: PairEnd,
    pub ended_at: Option<Timestamp>,
    pub response_review_at: Option<Timestamp>,
    /// The first review or comment.
    pub response_any_at: Option<Timestamp>,
}

/// A round of review: a block of reviews, and the author's answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReviewRound {
    /// The time from which the reviewers could begin: ready, or the answer to the round before.
    pub handed_at: Timestamp,
    pub first_review_at: Timestamp,
    pub last_review_at: Timestamp,
    /// The push or the request that followed; `None` if none did.
    pub answered_at: Option<Timestamp>,
    /// The seconds from `handed_at` to `first_review_at` that were the reviewers' turn.
    pub reviewer_seconds: i64,
    /// The seconds from `last_review_at` to `answered_at`, or to the end, that were the author's
    /// turn; `None` while there is neither.
    pub author_seconds: Option<i64>,
}

/// The turns on a pull request, from creation to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// `None` unless it is open.
    pub waiting: Option<Waiting>,
    /// Disjoint and in order, without a gap from creation to end. The last one of an open pull
    /// request has no end. Empty if a time of the pull request cannot be.
    pub steps: Vec<TurnStep>,
    /// True if a turn rests on a push that was not seen, and is inferred from its commit.
    pub inferred: bool,
    /// By time of the request.
    pub pairs: Vec<ReviewPair>,
    pub rounds: Vec<ReviewRound>,
}

impl Turns {
    /// Returns the seconds of each kind of turn, up to `now` where it is open. They add up to the
    /// time from creation to the end or `now`.
    pub fn time_by(&self, now: Timestamp) -> BTreeMap<Turn, i64> {
        let mut time_by = BTreeMap::new();
        for step in &self.steps {
            let seconds = step.to.unwrap_or(now).epoch() - step.from.epoch();
            if seconds > 0 {
                *time_by.entry(step.turn).or_default() += seconds;
            }
        }
        time_by
    }

    /// Returns the turn that lasts, and when it began; `None` once the pull request has ended.
    pub fn current(&self) -> Option<(Turn, Timestamp)> {
        let last = self.steps.last().filter(|step| step.to.is_none())?;
        let run = self.steps.iter().rev();
        let run = run.take_while(|step| step.turn == last.turn);
        Some((last.turn, run.last()?.from))
    }

    /// Returns [`Self::current`], and the seconds of each kind of turn before it: a form that does
    /// not depend on the time of reading.
    pub fn up_to_current(&self) -> (Option<(Turn, Timestamp)>, BTreeMap<Turn, i64>) {
        let current = self.current();
        let mut time_by = BTreeMap::new();
        for step in &self.steps {
            let end = match (step.to, current) {
                (_, Some((_, since))) if step.from >= since => break,
                (Some(to), _) => to,
                (None, _) => continue,
            };
            *time_by.entry(step.turn).or_default() += end.epoch() - step.from.epoch();
        }
        time_by.retain(|_, seconds| *seconds > 0);
        (current, time_by)
    }

    /// Returns the seconds between `from` and `to` that were `turn`.
    pub fn seconds_of(&self, turn: Turn, from: Timestamp, to: Timestamp) -> i64 {
        let first = self
            .steps
            .partition_point(|step| step.to.is_some_and(|end| end <= from));
        let within = self.steps[first..].iter();
        let within = within.take_while(|step| step.from < to);
        let seconds = within.filter(|step| step.turn == turn).map(|step| {
            step.to.map_or(to, |end| end.min(to)).epoch() - step.from.max(from).epoch()
        });
        seconds.sum()
    }
}
