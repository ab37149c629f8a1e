//! Opening a pull request, once.
//!
//! A pull request that is open already between the same branches is the wanted one. After a POST
//! without a response the list of open pull requests shows whether it happened; the POST is never
//! repeated.

use serde::Deserialize;
use serde_json::json;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};
use thiserror::Error;

use super::client::Client;
use super::error::{FieldError, ForbiddenReason, GithubError};
use super::hooks::{GithubName, repository};

/// A pull request to open.
#[derive(Clone, Copy, Debug)]
pub struct NewPullRequest<'a> {
    /// The branch with the changes: `branch`, or `owner:branch` of a fork.
    pub head: &'a str,
    /// The branch to merge into; `None` for the repository's default branch.
    pub base: Option<&'a str>,
    pub title: &'a str,
    pub body: &'a str,
    pub draft: bool,
}

/// A pull request that is open at GitHub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedPullRequest {
    pub key: PrKey,
    pub html_url: String,
    /// The call created it.
    pub created: bool,
}

/// The reason why no pull request is open, named by what to do about it. The text is for people.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenPullRequestError {
    #[error("{name:?} is no valid name of a branch")]
    InvalidBranchName { name: String },
    #[error("{head} is no branch of {repo} or of its forks: push it first")]
    HeadMissing { repo: String, head: String },
    #[error("{repo} has no branch {base} that could be merged into: name another as base")]
    BaseMissing { repo: String, base: String },
    #[error("{head} has no commit that {base} lacks: push one first")]
    NoNewCommits { head: String, base: String },
    #[error("{repo} cannot have drafts by its owner's plan: open the pull request without draft")]
    DraftsNotSupported { repo: String },
    #[error("GitHub has no repository {repo}, or this token may not see it")]
    RepositoryMissing { repo: String },
    #[error("{repo} is archived and accepts no pull requests: unarchive it first")]
    RepositoryArchived { repo: String },
    #[error(
        "this token or App may read {repo} but not open pull requests there: it needs {permission}"
    )]
    Forbidden { repo: String, permission: String },
    /// Any other reason, in GitHub's own text.
    #[error("GitHub refuses this pull request ({reason})")]
    Refused { reason: String },
    #[error(transparent)]
    Github(#[from] GithubError),
}

/// The branches of a pull request in `repo`.
struct BranchPair<'a> {
    repo: &'a str,
    /// `owner:branch`.
    head: String,
    base: &'a str,
}

#[derive(Deserialize)]
struct PullRequestResponse {
    number: PrNumber,
    html_url: String,
    head: HeadBranch,
    base: BaseBranch,
}

#[derive(Deserialize)]
struct HeadBranch {
    /// `owner:branch`.
    label: String,
}

#[derive(Deserialize)]
struct BaseBranch {
    #[serde(rename = "ref")]
    branch: String,
    repo: BaseRepository,
}

#[derive(Deserialize)]
struct BaseRepository {
    id: RepoId,
}

impl Client {
    /// Opens a pull request in the repository `full_name`, unless there is one. Repeated and
    /// concurrent calls end in one pull request.
    ///
    /// # Errors
    /// [`OpenPullRequestError`]. After [`GithubError::Unknown`] it may exist all the same: the next
    /// call finds it.
    pub async fn open_pull_request(
        &self,
        full_name: &str,
        new: &NewPullRequest<'_>,
    ) -> Result<OpenedPullRequest, OpenPullRequestError> {
        let (owner, branch) = match new.head.split_once(':') {
            Some((owner, branch)) => (Some(owner), branch),
            None => (None, new.head),
        };
        let is_owner = owner.is_none_or(|owner| owner.parse::<GithubName>().is_ok());
        if !is_owner || !is_branch(branch) || new.base.is_some_and(|base| !is_branch(base)) {
            let name = if is_owner && is_branch(branch) {
                new.base.unwrap_or_default()
            } else {
                new.head
            };
            return Err(OpenPullRequestError::InvalidBranchName {
                name: name.to_owned(),
            });
        }
        // By the present name, since the list of pull requests knows no former owner.
        let repository = self
            .repository(full_name)
            .await
            .map_err(|error| match error {
                GithubError::NotFound { .. } => OpenPullRequestError::RepositoryMissing {
                    repo: full_name.to_owned(),
                },
                error => error.into(),
            })?;
        if repository.archived {
            return Err(OpenPullRequestError::RepositoryArchived {
                repo: repository.full_name,
            });
        }
        let owner = owner
            .or(repository.full_name.split('/').next())
            .unwrap_or_default();
        let branches = BranchPair {
            repo: &repository.full_name,
            head: format!("{owner}:{branch}"),
            base: new.base.unwrap_or(&repository.default_branch),
        };
        match self.find_open_pull_request(&branches).await? {
            Some(known) => Ok(known),
            None => self.post_pull_request(&branches, new).await,
        }
    }

    async fn post_pull_request(
        &self,
        branches: &BranchPair<'_>,
        new: &NewPullRequest<'_>,
    ) -> Result<OpenedPullRequest, OpenPullRequestError> {
        let NewPullRequest {
            title, body, draft, ..
        } = new;
        let pull = json!({
            "head": branches.head,
            "base": branches.base,
            "title": title,
            "body": body,
            "draft": draft,
        });
        match self
            .post::<PullRequestResponse>(&pulls_path(branches.repo)?, &pull)
            .await
        {
            Ok(pull) => Ok(pull.opened(true)),
            // Another request was faster.
            Err(GithubError::Refused {
                message, errors, ..
            }) if errors.iter().any(is_already_open) => self
                .find_open_pull_request(branches)
                .await?
                .ok_or(OpenPullRequestError::Refused { reason: message }),
            Err(error @ GithubError::Unknown { .. }) => {
                match self.find_open_pull_request(branches).await {
                    Ok(Some(opened)) => Ok(OpenedPullRequest {
                        created: true,
                        ..opened
                    }),
                    Ok(None) | Err(_) => Err(error.into()),
                }
            }
            Err(error) => Err(refusal(error, branches)),
        }
    }

    /// Returns the pull request that is open between these branches.
    async fn find_open_pull_request(
        &self,
        branches: &BranchPair<'_>,
    ) -> Result<Option<OpenedPullRequest>, GithubError> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("state", "open"),
                ("head", &branches.head),
                ("base", branches.base),
            ])
            .finish();
        let listed: Vec<PullRequestResponse> = self
            .get(&format!("{}?{query}", pulls_path(branches.repo)?))
            .await?;
        // GitHub ignores a filter that it does not understand, and lists all.
        Ok(listed
            .into_iter()
            .find(|pull| pull.is_of(branches))
            .map(|pull| pull.opened(false)))
    }
}

impl PullRequestResponse {
    fn is_of(&self, branches: &BranchPair<'_>) -> bool {
        let same_head = self
            .head
            .label
            .split_once(':')
            .zip(branches.head.split_once(':'))
            .is_some_and(|((owner, branch), (wanted_owner, wanted_branch))| {
                owner.eq_ignore_ascii_case(wanted_owner) && branch == wanted_branch
            });
        same_head && self.base.branch == branches.base
    }

    fn opened(self, created: bool) -> OpenedPullRequest {
        let key = PrKey {
            repo: self.base.repo.id,
            number: self.number,
        };
        OpenedPullRequest {
            key,
            html_url: self.html_url,
            created,
        }
    }
}

fn pulls_path(full_name: &str) -> Result<String, GithubError> {
    Ok(format!("{}/pulls", repository(full_name)?.path()))
}

fn is_already_open(error: &FieldError) -> bool {
    error
        .message
        .as_deref()
        .is_some_and(|message| message.contains("already exists"))
}

/// Returns the meaning of a refused POST to a repository that could be read just before.
fn refusal(error: GithubError, branches: &BranchPair<'_>) -> OpenPullRequestError {
    let BranchPair { repo, head, base } = branches;
    let (repo, head, base) = ((*repo).to_owned(), head.clone(), (*base).to_owned());
    let right = || "the scope repo, or the permission pull_requests=write".to_owned();
    match error {
        GithubError::Forbidden { message, .. } if message.contains("archived") => {
            OpenPullRequestError::RepositoryArchived { repo }
        }
        GithubError::Forbidden {
            reason: ForbiddenReason::Permission(permission),
            ..
        } => OpenPullRequestError::Forbidden {
            repo,
            permission: permission.unwrap_or_else(right),
        },
        // GitHub answers 404 where the token may read but not write.
        GithubError::NotFound { .. } => OpenPullRequestError::Forbidden {
            repo,
            permission: right(),
        },
        GithubError::Refused {
            message, errors, ..
        } => {
            let about = |part: &str| {
                let mut fields = errors.iter().filter_map(|error| error.field.as_deref());
                fields.any(|field| {
                    field
                        .strip_prefix(part)
                        .is_some_and(|rest| ["", "_sha"].contains(&rest))
                })
            };
            match message {
                _ if about("base") => OpenPullRequestError::BaseMissing { repo, base },
                _ if about("head") => OpenPullRequestError::HeadMissing { repo, head },
                message if message.contains("No commits between") => {
                    OpenPullRequestError::NoNewCommits { head, base }
                }
                message if message.contains("Draft pull requests are not supported") => {
                    OpenPullRequestError::DraftsNotSupported { repo }
                }
                reason => OpenPullRequestError::Refused { reason },
            }
        }
        error => error.into(),
    }
}

/// Returns whether git accepts the name for a branch, and it does not look like an option of a
/// command line.
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
    fn branch_name_that_git_refuses_is_invalid() {
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
