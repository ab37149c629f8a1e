//! Changes of the party that an open pull request waits for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::notification::SyncSource;
use super::waiting::{Party, Turns, Waiting, WaitingFor};
use crate::github::types::{PrKey, Timestamp};

/// A change of the parties that a pull request waits for, and the source that it was learnt from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingChange {
    pub key: PrKey,
    pub source: SyncSource,
    /// The time on GitHub since which these parties are waited for.
    pub at: Timestamp,
    pub parties: ChangedParties,
}

/// The parties before and after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedParties {
    /// `None` if the pull request was not open, or not known.
    pub old: Option<WaitedFor>,
    pub new: WaitedFor,
    pub because: String,
}

/// The kind of party that a pull request waits for, and the people and teams of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitedFor {
    #[serde(rename = "for")]
    pub on: WaitingFor,
    /// Empty where no particular one is waited for.
    pub who: Vec<WaitedParty>,
}

/// A person or a team that is waited for: `{"login": NAME}` or `{"team": SLUG}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitedParty {
    Login(String),
    Team(String),
}

impl From<&Party> for WaitedParty {
    fn from(party: &Party) -> Self {
        match party {
            Party::Account { login, .. } => Self::Login(login.clone()),
            Party::Team { slug, .. } => Self::Team(slug.clone()),
        }
    }
}

impl From<&Waiting> for WaitedFor {
    fn from(waiting: &Waiting) -> Self {
        let who = waiting.who.iter();
        Self {
            on: waiting.on,
            who: who.map(|waiter| (&waiter.party).into()).collect(),
        }
    }
}

impl WaitingChange {
    /// Returns the change of a pull request that waited for `old` before. The end of all waiting is
    /// none, since its status says it; neither is a change of the times alone, nor another login of
    /// the same account.
    pub fn of(
        key: PrKey,
        source: SyncSource,
        old: Option<&Waiting>,
        turns: &Turns,
    ) -> Option<Self> {
        let new = turns.waiting.as_ref()?;
        if old.is_some_and(|old| old.on == new.on && parties(old) == parties(new)) {
            return None;
        }
        let last = turns.steps.last()?;
        let who = ids(&last.who);
        let run = turns.steps.iter().rev();
        let run = run.take_while(|step| step.turn == last.turn && ids(&step.who) == who);
        Some(Self {
            key,
            source,
            at: run.last().unwrap_or(last).from,
            parties: ChangedParties {
                old: old.map(WaitedFor::from),
                new: new.into(),
                because: new.because.clone(),
            },
        })
    }
}

/// The identity of a party: its id, or the slug of a team that only the settings name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum PartyId<'a> {
    Account(i64),
    Team(i64),
    Slug(&'a str),
}

fn parties(waiting: &Waiting) -> Vec<PartyId<'_>> {
    sorted(waiting.who.iter().map(|waiter| &waiter.party))
}

fn ids(who: &[Party]) -> Vec<PartyId<'_>> {
    sorted(who.iter())
}

fn sorted<'a>(parties: impl Iterator<Item = &'a Party>) -> Vec<PartyId<'a>> {
    let id = |party: &'a Party| match party {
        Party::Account { id, .. } => PartyId::Account(id.0),
        Party::Team { id: Some(id), .. } => PartyId::Team(*id),
        Party::Team { id: None, slug } => PartyId::Slug(slug),
    };
    let mut ids: Vec<_> = parties.map(id).collect();
    ids.sort_unstable();
    ids
}
