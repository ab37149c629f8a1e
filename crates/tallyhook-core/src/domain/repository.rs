//! The known facts of a repository: its name, and the access that GitHub grants to it.

use serde::{Deserialize, Serialize};

use super::join::{Dated, Join, take_greater};
use crate::event::{Event, Repo};
use crate::github::types::{InstallationId, RepoId, Timestamp};

/// A repository, joined from every event that showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub id: RepoId,
    pub seen: Dated<RepositoryDetails>,
    /// The newest GitHub App installation that sent events of it; ids ascend.
    pub installation: Option<InstallationId>,
    pub access: Dated<RepositoryAccess>,
}

/// The details of a repository that payloads show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepositoryDetails {
    /// `owner/name`.
    pub name: String,
    pub private: Option<bool>,
}

/// The access to a repository that GitHub grants. Once lost, the stored facts are frozen, never erased.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
#[schema(as = Access)]
pub enum RepositoryAccess {
    Granted,
    /// The App was removed from it or suspended.
    Revoked,
    Deleted,
}

impl RepositoryAccess {
    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

impl Join for RepositoryDetails {
    fn join(&mut self, other: Self) -> bool {
        take_greater(self, other)
    }
}

impl Join for RepositoryAccess {
    fn join(&mut self, other: Self) -> bool {
        take_greater(self, other)
    }
}

impl Join for Repository {
    fn join(&mut self, other: Self) -> bool {
        self.seen.join(other.seen)
            | take_greater(&mut self.installation, other.installation)
            | self.access.join(other.access)
    }
}

/// Returns the repositories that `event` names, as it shows them.
///
/// Events about a pull request are dated by its snapshot. Those about the repository or the
/// installation itself carry no date of their own and often an `updated_at` as old as the
/// repository, so they are dated by `received_at`: the time of the delivery, which a repetition
/// does not change.
pub fn observed(event: &Event, received_at: Timestamp) -> Vec<Repository> {
    let now = |repo: &Repo, access| observed_at(repo, received_at.max(repo.seen_at), access);
    match event {
        Event::Repository(event) if event.action == "deleted" => {
            vec![now(&event.repo, RepositoryAccess::Deleted)]
        }
        Event::Repository(event) => vec![now(&event.repo, RepositoryAccess::Granted)],
        Event::Installation(installation) | Event::InstallationRepositories(installation) => {
            let gained = installation
                .gained
                .iter()
                .map(|repo| now(repo, RepositoryAccess::Granted));
            let lost = installation.lost.iter().map(|repo| match event {
                // The loss of the whole installation is known once, and undone by a later event of
                // any of its repositories. A list of them adds that they are its own.
                Event::Installation(_) => Repository {
                    access: Dated {
                        at: Timestamp::clamped(0),
                        value: RepositoryAccess::Granted,
                    },
                    ..now(repo, RepositoryAccess::Granted)
                },
                _ => now(repo, RepositoryAccess::Revoked),
            });
            gained.chain(lost).collect()
        }
        _ => event
            .repo()
            .map(|repo| observed_at(repo, repo.seen_at, RepositoryAccess::Granted))
            .into_iter()
            .collect(),
    }
}

fn observed_at(repo: &Repo, at: Timestamp, access: RepositoryAccess) -> Repository {
    Repository {
        id: repo.id,
        seen: Dated {
            at,
            value: RepositoryDetails {
                name: repo.name.clone(),
                private: repo.private,
            },
        },
        installation: repo.installation,
        access: Dated { at, value: access },
    }
}

/// Returns the access to all repositories of an installation that `event` changes at once, whether
/// or not it lists them; dated like the others.
pub fn installation_access(
    event: &Event,
    received_at: Timestamp,
) -> Option<(InstallationId, Dated<RepositoryAccess>)> {
    let Event::Installation(event) = event else {
        return None;
    };
    let value = match event.action.as_str() {
        "deleted" | "suspend" => RepositoryAccess::Revoked,
        "unsuspend" => RepositoryAccess::Granted,
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
