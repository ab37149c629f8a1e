//! What is known of a repository: its name, and whether it can still be seen.

use serde::{Deserialize, Serialize};

use super::join::{Dated, Join, take_greater};
use crate::event::{Event, Repo};
use crate::github::types::{InstallationId, RepoId};

/// A repository, joined from every event that showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub id: RepoId,
    pub seen: Dated<Seen>,
    pub access: Dated<Access>,
}

/// What payloads show of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `owner/name`.
    pub name: String,
    pub private: Option<bool>,
    pub installation: Option<InstallationId>,
}

/// Whether GitHub still shows the repository to us. Once lost, what is stored is frozen, never erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
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
        take_greater(&mut self.name, other.name);
        take_greater(&mut self.private, other.private);
        take_greater(&mut self.installation, other.installation);
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
        self.access.join(other.access);
    }
}

impl Repository {
    fn observed(repo: &Repo, access: Access) -> Self {
        Self {
            id: repo.id,
            seen: Dated {
                at: repo.seen_at,
                value: Seen { name: repo.name.clone(), private: repo.private, installation: repo.installation },
            },
            access: Dated { at: repo.seen_at, value: access },
        }
    }
}

/// What `event` tells of the repositories it names.
pub fn observed(event: &Event) -> Vec<Repository> {
    match event {
        Event::Repository(repository) if repository.action == "deleted" => {
            vec![Repository::observed(&repository.repo, Access::Deleted)]
        }
        Event::Installation(installation) | Event::InstallationRepositories(installation) => {
            let gained = installation.gained.iter().map(|repo| Repository::observed(repo, Access::Granted));
            let lost = installation.lost.iter().map(|repo| Repository::observed(repo, Access::Revoked));
            gained.chain(lost).collect()
        }
        _ => event.repo().map(|repo| Repository::observed(repo, Access::Granted)).into_iter().collect(),
    }
}

/// What `event` tells of all repositories of an installation at once, listed or not.
pub fn installation_access(event: &Event) -> Option<(InstallationId, Dated<Access>)> {
    let Event::Installation(event) = event else {
        return None;
    };
    let value = match event.action.as_str() {
        "deleted" | "suspend" => Access::Revoked,
        "unsuspend" => Access::Granted,
        _ => return None,
    };
    Some((event.installation, Dated { at: event.at?, value }))
}
