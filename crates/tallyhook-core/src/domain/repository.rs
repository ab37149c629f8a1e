//! What is known of a repository: its name, and whether it can still be seen.

use serde::{Deserialize, Serialize};

use super::join::{Dated, Join, take_greater};
use crate::event::{Event, Repo};
use crate::github::types::{InstallationId, RepoId, Timestamp};

/// A repository, joined from every event that showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub id: RepoId,
    pub seen: Dated<Seen>,
    /// The newest GitHub App installation that sent events of it; ids ascend.
    pub installation: Option<InstallationId>,
    pub access: Dated<Access>,
}

/// What payloads show of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// `owner/name`.
    pub name: String,
    pub private: Option<bool>,
}

/// Whether GitHub still shows the repository to us. Once lost, what is stored is frozen, never erased.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Granted,
    /// The App was removed from it or suspended.
    Revoked,
    Deleted,
}

impl Access {
    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Revoked => "revoked",
            Self::Deleted => "deleted",
        }
    }
}

impl Join for Seen {
    fn join(&mut self, other: Self) {
        take_greater(self, other);
    }
}

impl Join for Access {
    fn join(&mut self, other: Self) {
        take_greater(self, other);
    }
}

impl Join for Repository {
    fn join(&mut self, other: Self) {
        self.seen.join(other.seen);
        take_greater(&mut self.installation, other.installation);
        self.access.join(other.access);
    }
}

/// What `event` tells of the repositories it names.
///
/// Events about a pull request are dated by what they tell of it. Those about the repository or the installation
/// itself carry no date of their own and often a `updated_at` as old as the repository, so these are dated by
/// `received_at`: the moment of the delivery, which a repetition does not change.
pub fn observed(event: &Event, received_at: Timestamp) -> Vec<Repository> {
    let now = |repo: &Repo, access| observed_at(repo, received_at.max(repo.seen_at), access);
    match event {
        Event::Repository(event) if event.action == "deleted" => {
            vec![now(&event.repo, Access::Deleted)]
        }
        Event::Repository(event) => vec![now(&event.repo, Access::Granted)],
        Event::Installation(event) | Event::InstallationRepositories(event) => {
            let gained = event.gained.iter().map(|repo| now(repo, Access::Granted));
            let lost = event.lost.iter().map(|repo| now(repo, Access::Revoked));
            gained.chain(lost).collect()
        }
        _ => event
            .repo()
            .map(|repo| observed_at(repo, repo.seen_at, Access::Granted))
            .into_iter()
            .collect(),
    }
}

fn observed_at(repo: &Repo, at: Timestamp, access: Access) -> Repository {
    Repository {
        id: repo.id,
        seen: Dated {
            at,
            value: Seen {
                name: repo.name.clone(),
                private: repo.private,
            },
        },
        installation: repo.installation,
        access: Dated { at, value: access },
    }
}

/// What `event` tells of all repositories of an installation at once, listed or not; dated like the others.
pub fn installation_access(
    event: &Event,
    received_at: Timestamp,
) -> Option<(InstallationId, Dated<Access>)> {
    let Event::Installation(event) = event else {
        return None;
    };
    let value = match event.action.as_str() {
        "deleted" | "suspend" => Access::Revoked,
        "unsuspend" => Access::Granted,
        _ => return None,
    };
    Some((
        event.installation,
        Dated {
            at: received_at,
            value,
        },
    ))
}
