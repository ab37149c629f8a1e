//! The known facts of a repository: its name, and the access that GitHub grants to it.

use serde::{Deserialize, Serialize};

use super::join::{Dated, Join, take_greater};
use crate::event::{Event, InstallationEvent, Repo};
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

impl Repository {
    /// Returns a repository of which the name alone is known, dated before all that is.
    pub fn named(id: RepoId, name: &str) -> Self {
        let at = Timestamp::clamped(0);
        Self {
            id,
            seen: Dated {
                at,
                value: RepositoryDetails {
                    name: name.to_owned(),
                    private: None,
                },
            },
            installation: None,
            access: Dated {
                at,
                value: RepositoryAccess::Granted,
            },
        }
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

/// The seconds for which GitHub repeats a delivery: three days. A time in it that is older is not
/// the event's.
const REPEATED_FOR: i64 = 3 * 24 * 60 * 60;
/// The seconds by which GitHub's clock may be ahead.
const AHEAD: i64 = 24 * 60 * 60;

/// Returns the repositories that `event` names, as it shows them.
///
/// Events about a pull request are dated by its snapshot, and those about the installation by
/// `time_of`. Those about the repository itself carry no date of their own and often an
/// `updated_at` as old as the repository, so that a new name and a deletion are dated by
/// `received_at`: the time of the delivery, which a repetition does not change.
pub fn observed(event: &Event, received_at: Timestamp) -> Vec<Repository> {
    match event {
        Event::Repository(event) => {
            let repo = &event.repo;
            let at = received_at.max(repo.seen_at);
            let access = match event.action.as_str() {
                "deleted" => Dated {
                    at,
                    value: RepositoryAccess::Deleted,
                },
                _ => Dated {
                    at: repo.seen_at,
                    value: RepositoryAccess::Granted,
                },
            };
            vec![Repository {
                access,
                ..observed_at(repo, at, RepositoryAccess::Granted)
            }]
        }
        Event::Installation(installation) | Event::InstallationRepositories(installation) => {
            let at = time_of(installation, received_at);
            let gained = installation
                .gained
                .iter()
                .map(|repo| observed_at(repo, at, RepositoryAccess::Granted));
            let lost = installation.lost.iter().map(|repo| match event {
                // The loss of the whole installation is known once, and undone by a later event of
                // any of its repositories. A list of them adds that they are its own.
                Event::Installation(_) => Repository {
                    access: Dated {
                        at: Timestamp::clamped(0),
                        value: RepositoryAccess::Granted,
                    },
                    ..observed_at(repo, at, RepositoryAccess::Granted)
                },
                _ => observed_at(repo, at, RepositoryAccess::Revoked),
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

/// Returns the time of an event of an installation: GitHub's own, so that late and repeated
/// deliveries have the order in which it happened; else the time of the delivery.
fn time_of(event: &InstallationEvent, received_at: Timestamp) -> Timestamp {
    let is_own = ["created", "suspend", "unsuspend"].contains(&event.action.as_str());
    let is_possible = |at: &Timestamp| {
        let age = received_at.epoch() - at.epoch();
        age >= -AHEAD && (is_own || age <= REPEATED_FOR)
    };
    event.at.filter(is_possible).unwrap_or(received_at)
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
        "created" | "unsuspend" => RepositoryAccess::Granted,
        _ => return None,
    };
    Some((
        event.installation,
        Dated {
            at: time_of(event, received_at),
            value,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RepositoryEvent;

    #[test]
    fn late_event_of_a_repository_names_it_and_does_not_undo_its_deletion() {
        let at = Timestamp::clamped;
        let of = |action: &str, received_at| {
            let repo = Repo {
                id: RepoId(7),
                name: format!("acme-corp/{action}"),
                private: None,
                seen_at: at(100),
                installation: None,
            };
            let action = action.to_owned();
            observed(
                &Event::Repository(RepositoryEvent {
                    action,
                    repo,
                    former_name: None,
                }),
                at(received_at),
            )
            .remove(0)
        };
        let mut known = of("deleted", 1_000);
        known.join(of("renamed", 2_000));
        assert_eq!(known.access.value, RepositoryAccess::Deleted);
        assert_eq!(known.seen.value.name, "acme-corp/renamed");
        let mut reverse = of("renamed", 2_000);
        reverse.join(of("deleted", 1_000));
        assert_eq!(reverse, known);
    }
}
