//! The people and teams of a walk, without copies of their names.

use std::fmt;

use chrono::Datelike;

use super::types::{Party, Waiter};
use crate::github::types::{Account, AccountId, Timestamp};

/// A [`Party`] that borrows its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PartyRef<'a> {
    Account(AccountId, &'a str),
    Team(Option<i64>, &'a str),
}

impl<'a> PartyRef<'a> {
    pub(super) fn of(account: &'a Account) -> Self {
        Self::Account(account.id, &account.login)
    }

    /// Returns the login or the slug.
    pub(super) const fn name(self) -> &'a str {
        match self {
            Self::Account(_, name) | Self::Team(_, name) => name,
        }
    }
}

impl From<PartyRef<'_>> for Party {
    fn from(party: PartyRef<'_>) -> Self {
        match party {
            PartyRef::Account(id, login) => Self::Account {
                id,
                login: login.to_owned(),
            },
            PartyRef::Team(id, slug) => Self::Team {
                id,
                slug: slug.to_owned(),
            },
        }
    }
}

/// The reason for which one person or team is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitReason {
    Asked,
    /// The author pushed after their review.
    Pushed,
    /// The author answered their comments.
    Answered,
    /// Their approval was dismissed.
    Dismissed,
    /// It was made ready after their review.
    Ready,
    /// A team of the settings.
    Default,
    Author,
    /// Of a bot's pull request.
    Assigned,
}

/// A person or team that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitingParty<'a> {
    pub(super) party: PartyRef<'a>,
    pub(super) since: Timestamp,
    /// The time of the reason itself, which may be before `since`.
    pub(super) at: Timestamp,
    pub(super) why: WaitReason,
}

impl WaitingParty<'_> {
    pub(super) fn because(&self) -> String {
        let day = Day(self.at);
        match self.why {
            WaitReason::Asked => format!("asked on {day}"),
            WaitReason::Pushed => format!("to look again after the push of {day}"),
            WaitReason::Answered => format!("to look again after the author's comment of {day}"),
            WaitReason::Dismissed => {
                format!("to look again, since their approval was dismissed on {day}")
            }
            WaitReason::Ready => format!("to look again, since it was made ready on {day}"),
            WaitReason::Default => "reviews this repository where no one else is asked".to_owned(),
            WaitReason::Author => "author".to_owned(),
            WaitReason::Assigned => "assigned, and the author is a bot".to_owned(),
        }
    }

    pub(super) fn to_waiter(self) -> Waiter {
        Waiter {
            party: self.party.into(),
            since: self.since,
            because: self.because(),
        }
    }
}

/// A day for people: `3 March`.
pub(super) struct Day(pub(super) Timestamp);

impl Day {
    /// The months. The format strings of `chrono` are parsed by each use, which most of the cost of
    /// short texts would be.
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.0.to_utc().date_naive();
        let month = date.month0() as usize % Self::MONTHS.len();
        write!(f, "{} {}", date.day(), Self::MONTHS[month])
    }
}
