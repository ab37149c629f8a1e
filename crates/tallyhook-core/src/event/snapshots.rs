//! The pull request as a payload shows it.

use std::collections::BTreeSet;

use super::decode::account_or_ghost;
use super::reviewers::by_id;
use super::{
    Branches, Conversation, Diff, PullRequestDetails, PullRequestSnapshot, RequestedReviewers, Team,
};
use crate::github::payload::{self, PayloadState};
use crate::github::types::Account;

/// Returns the snapshot of a full pull request or of a simple one.
pub(super) fn snapshot(pull_request: payload::PullRequestPayload) -> PullRequestSnapshot {
    // The simple pull request of review events has none of the four counts, the full one all of
    // them.
    let full = pull_request.additions.is_some();
    let requested = requested(
        pull_request.requested_reviewers,
        pull_request.requested_teams,
    );
    // Every payload with a pull request has this one.
    let details = pull_request
        .author_association
        .map(|association| PullRequestDetails {
            author_association: Some(association),
            auto_merge: Some(pull_request.auto_merge.is_some()),
            // Before the merge it is that of a test, which changes without an update.
            merge_commit_sha: pull_request
                .merge_commit_sha
                .filter(|_| pull_request.merged_at.is_some()),
            assignees: pull_request
                .assignees
                .map(|assignees| by_id(assignees.into_iter().map(Account::from))),
        });
    PullRequestSnapshot {
        updated_at: pull_request.updated_at,
        created_at: pull_request.created_at,
        github_id: Some(pull_request.id),
        author: account_or_ghost(pull_request.user),
        merged_at: pull_request.merged_at,
        conversation: Conversation {
            title: pull_request.title,
            body: pull_request.body,
            html_url: pull_request.html_url,
            labels: label_names(pull_request.labels),
            open: pull_request.state == PayloadState::Open,
            closed_at: pull_request.closed_at,
            marks: BTreeSet::new(),
        },
        branches: Some(Branches {
            draft: pull_request.draft,
            base_ref: pull_request.base.name,
            head_ref: pull_request.head.name,
            head_sha: pull_request.head.sha,
            head_repo: pull_request.head.repo.map(|repo| repo.id),
        }),
        diff: full.then_some(Diff {
            additions: pull_request.additions,
            deletions: pull_request.deletions,
            changed_files: pull_request.changed_files,
            commits: pull_request.commits,
        }),
        requested,
        details,
    }
}

/// Returns the snapshot that an issue has of its pull request; `None` if it is not a pull
/// request's.
pub(super) fn issue_snapshot(issue: payload::IssuePayload) -> Option<PullRequestSnapshot> {
    let pull_request = issue.pull_request?;
    Some(PullRequestSnapshot {
        updated_at: issue.updated_at,
        created_at: issue.created_at,
        github_id: None,
        author: account_or_ghost(issue.user),
        merged_at: pull_request.merged_at,
        conversation: Conversation {
            title: issue.title,
            body: issue.body,
            html_url: pull_request.html_url,
            labels: label_names(issue.labels),
            open: issue.state == PayloadState::Open,
            closed_at: issue.closed_at,
            marks: BTreeSet::new(),
        },
        branches: None,
        diff: None,
        requested: None,
        details: None,
    })
}

/// Returns the requested reviewers of a payload that has both lists, and identifies each team.
fn requested(
    accounts: Option<Vec<payload::UserPayload>>,
    teams: Option<Vec<payload::TeamPayload>>,
) -> Option<RequestedReviewers> {
    let (accounts, teams) = accounts.zip(teams)?;
    let teams = teams.into_iter().map(|team| {
        let slug = team.slug.or(team.name)?;
        Some(Team { id: team.id?, slug })
    });
    let teams: Option<Vec<_>> = teams.collect();
    Some(RequestedReviewers::new(
        accounts.into_iter().map(Account::from),
        teams?,
    ))
}

fn label_names(labels: Vec<payload::LabelPayload>) -> Vec<String> {
    let mut names: Vec<_> = labels.into_iter().filter_map(|label| label.name).collect();
    names.sort_unstable();
    names
}
