//! Opening a pull request, once.
//!
//! One that is open already between the same branches is the one that is wanted. Whether a POST without an answer did
//! anything is found out by looking, never by a second POST.

use serde::Deserialize;
use serde_json::json;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};
use thiserror::Error;

use super::error::Complaint;
use super::hooks::{Name, repository};
use super::{Client, GithubError};

/// A pull request that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct NewPull<'a> {
    /// The branch with the changes: `branch`, or `owner:branch` of a fork.
    pub head: &'a str,
    /// Where they are to go; `None` for the repository's default branch.
    pub base: Option<&'a str>,
    pub title: &'a str,
    pub body: &'a str,
    pub draft: bool,
}

/// A pull request that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub key: PrKey,
    pub html_url: String,
    /// It was not there before.
    pub created: bool,
}

/// Why there is none, named by what to do about it. The text is for people.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotOpened {
    #[error("{name:?} is no name of a branch")]
    NoBranchName { name: String },
    #[error("{head} is no branch of {repo} or of its forks: push it first")]
    HeadMissing { repo: String, head: String },
    #[error("{repo} has no branch {base} that could be merged into: name another as base")]
    BaseMissing { repo: String, base: String },
    #[error("{head} has no commit that {base} lacks: push one first")]
    NothingNew { head: String, base: String },
    #[error("{repo} cannot have drafts by its owner's plan: ask for a pull request that is none")]
    DraftsNotSupported { repo: String },
    #[error("GitHub has no repository {repo}, or this token may not see it")]
    RepositoryMissing { repo: String },
    #[error("{repo} is archived, so that nothing can be opened there: unarchive it first")]
    ReadOnly { repo: String },
    #[error(
        "GitHub lets this token or App see {repo}, and open no pull request there: it needs {needed}"
    )]
    Forbidden { repo: String, needed: String },
    /// GitHub's own words on what it was sent.
    #[error("GitHub refuses this pull request ({why})")]
    Refused { why: String },
    #[error(transparent)]
    Github(#[from] GithubError),
}

/// A pull request between two branches of `repo`.
struct Between<'a> {
    repo: &'a str,
    /// `owner:branch`.
    head: String,
    base: &'a str,
}

#[derive(Deserialize)]
struct Pull {
    number: PrNumber,
    html_url: String,
    head: Head,
    base: Base,
}

#[derive(Deserialize)]
struct Head {
    /// `owner:branch`.
    label: String,
}

#[derive(Deserialize)]
struct Base {
    #[serde(rename = "ref")]
    branch: String,
    repo: BaseRepository,
}

#[derive(Deserialize)]
struct BaseRepository {
    id: RepoId,
}

impl Client {
    /// Opens a pull request in the repository `full_name`, unless there is one. However often it is called, and by
    /// however many at once, there is one.
    ///
    /// # Errors
    /// [`NotOpened`]. After [`GithubError::Unreachable`] it may be there all the same, and is found by the next call.
    pub async fn create_pull(
        &self,
        full_name: &str,
        new: &NewPull<'_>,
    ) -> Result<Opened, NotOpened> {
        let (owner, branch) = match new.head.split_once(':') {
            Some((owner, branch)) => (Some(owner), branch),
            None => (None, new.head),
        };
        let is_owner = owner.is_none_or(|owner| owner.parse::<Name>().is_ok());
        if !is_owner || !is_branch(branch) || new.base.is_some_and(|base| !is_branch(base)) {
            let name = if is_owner && is_branch(branch) {
                new.base.unwrap_or_default()
            } else {
                new.head
            };
            return Err(NotOpened::NoBranchName {
                name: name.to_owned(),
            });
        }
        // By the name of today, since an owner of before has no branches.
        let repository = self
            .repository(full_name)
            .await
            .map_err(|error| match error {
                GithubError::NotFound { .. } => NotOpened::RepositoryMissing {
                    repo: full_name.to_owned(),
                },
                error => error.into(),
            })?;
        if repository.archived {
            return Err(NotOpened::ReadOnly {
                repo: repository.full_name,
            });
        }
        let owner = owner
            .or(repository.full_name.split('/').next())
            .unwrap_or_default();
        let between = Between {
            repo: &repository.full_name,
            head: format!("{owner}:{branch}"),
            base: new.base.unwrap_or(&repository.default_branch),
        };
        match self.open_pull(&between).await? {
            Some(known) => Ok(known),
            None => self.post_pull(&between, new).await,
        }
    }

    async fn post_pull(
        &self,
        between: &Between<'_>,
        new: &NewPull<'_>,
    ) -> Result<Opened, NotOpened> {
        let NewPull {
            title, body, draft, ..
        } = new;
        let pull = json!({"head": between.head, "base": between.base, "title": title, "body": body, "draft": draft});
        match self.post::<Pull>(&pulls(between.repo)?, &pull).await {
            Ok(pull) => Ok(pull.opened(true)),
            // Somebody else was faster.
            Err(GithubError::Refused {
                message,
                complaints,
                ..
            }) if complaints.iter().any(is_there_already) => self
                .open_pull(between)
                .await?
                .ok_or(NotOpened::Refused { why: message }),
            Err(error @ GithubError::Unreachable { .. }) => match self.open_pull(between).await {
                Ok(Some(opened)) => Ok(Opened {
                    created: true,
                    ..opened
                }),
                Ok(None) | Err(_) => Err(error.into()),
            },
            Err(error) => Err(refusal(error, between)),
        }
    }

    /// The one that is open between these branches.
    async fn open_pull(&self, between: &Between<'_>) -> Result<Option<Opened>, GithubError> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("state", "open"),
                ("head", &between.head),
                ("base", between.base),
            ])
            .finish();
        let listed: Vec<Pull> = self
            .get(&format!("{}?{query}", pulls(between.repo)?))
            .await?;
        // GitHub lists all of them where it does not understand what is asked for.
        Ok(listed
            .into_iter()
            .find(|pull| pull.is_between(between))
            .map(|pull| pull.opened(false)))
    }
}

impl Pull {
    fn is_between(&self, between: &Between<'_>) -> bool {
        let same_head = self
            .head
            .label
            .split_once(':')
            .zip(between.head.split_once(':'))
            .is_some_and(|((owner, branch), (wanted_owner, wanted_branch))| {
                owner.eq_ignore_ascii_case(wanted_owner) && branch == wanted_branch
            });
        same_head && self.base.branch == between.base
    }

    fn opened(self, created: bool) -> Opened {
        let key = PrKey {
            repo: self.base.repo.id,
            number: self.number,
        };
        Opened {
            key,
            html_url: self.html_url,
            created,
        }
    }
}

fn pulls(full_name: &str) -> Result<String, GithubError> {
    Ok(format!("{}/pulls", repository(full_name)?.path()))
}

fn is_there_already(complaint: &Complaint) -> bool {
    complaint
        .message
        .as_deref()
        .is_some_and(|message| message.contains("already exists"))
}

/// What a refused POST means, of a repository that could be read a moment ago.
fn refusal(error: GithubError, between: &Between<'_>) -> NotOpened {
    let Between { repo, head, base } = between;
    let (repo, head, base) = ((*repo).to_owned(), head.clone(), (*base).to_owned());
    let right = || "the scope repo, or the permission pull_requests=write".to_owned();
    match error {
        GithubError::Forbidden { message, .. } if message.contains("archived") => {
            NotOpened::ReadOnly { repo }
        }
        GithubError::Forbidden { needed, .. } => NotOpened::Forbidden {
            repo,
            needed: needed.unwrap_or_else(right),
        },
        // Whoever may not write is told that there is nothing.
        GithubError::NotFound { .. } => NotOpened::Forbidden {
            repo,
            needed: right(),
        },
        GithubError::Refused {
            message,
            complaints,
            ..
        } => {
            let about = |part: &str| {
                let mut fields = complaints
                    .iter()
                    .filter_map(|complaint| complaint.field.as_deref());
                fields.any(|field| {
                    field
                        .strip_prefix(part)
                        .is_some_and(|rest| ["", "_sha"].contains(&rest))
                })
            };
            match message {
                _ if about("base") => NotOpened::BaseMissing { repo, base },
                _ if about("head") => NotOpened::HeadMissing { repo, head },
                message if message.contains("No commits between") => {
                    NotOpened::NothingNew { head, base }
                }
                message if message.contains("Draft pull requests are not supported") => {
                    NotOpened::DraftsNotSupported { repo }
                }
                why => NotOpened::Refused { why },
            }
        }
        error => error.into(),
    }
}

/// Whether git could call a branch so, and no option of a command line begins like it.
fn is_branch(name: &str) -> bool {
    let is_letter = |letter: char| !letter.is_control() && !" ~^:?*[\\".contains(letter);
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('-')
        && !name.contains("..")
        && name.chars().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_s_name_has_nothing_that_git_would_not_take() {
        for good in ["main", "story/PROJ-123_a.b", "#456", "größer", "a&b=c+d%"] {
            assert!(is_branch(good), "{good}");
        }
        for bad in [
            "",
            "-f",
            "--upload-pack=x",
            "a b",
            "a\nb",
            "a\0",
            "a..b",
            "a:b",
            "a~1",
            "x\u{7f}",
        ] {
            assert!(!is_branch(bad), "{bad:?}");
        }
        assert!(!is_branch(&"a".repeat(256)));
    }
}
