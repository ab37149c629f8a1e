//! Conversion of answers of GitHub's API to our own events.

use std::collections::BTreeSet;

use thiserror::Error;

use super::reviewers::by_id;
use super::{
    Branches, Conversation, Diff, Fact, FactKind, FetchedPullRequest, MergeState,
    PullRequestDetails, PullRequestSnapshot, Repo, RequestedReviewers, ReviewSnapshot, ReviewState,
    SubjectKind, Team, commits,
};
use crate::github::graphql::{
    self, GraphqlPullRequest, GraphqlRepository, GraphqlState, GraphqlTimelineItem,
};
use crate::github::types::{Account, AccountId, AccountKind, ReviewId, Timestamp};

/// The reason why an answer cannot become an event.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unusable {
    #[error("GitHub returned no id of the repository")]
    NoRepositoryId,
    #[error("GitHub left out one of its reviews or timeline entries")]
    Gap,
    #[error("GitHub returned a review state that is not known here")]
    ReviewState,
}

/// The seconds after which a second has certainly ended at GitHub, whose clock is not ours.
const SETTLING: i64 = 10;

/// Returns the event of a pull request that was fetched at `asked_at`. All of its lists were paged
/// to the end unless `truncated`. The dates of its commits are used if all of them were requested
/// (`commits_asked`).
///
/// # Errors
/// [`Unusable`] if a required part of the answer is missing.
pub fn fetched(
    repository: &GraphqlRepository,
    pull_request: GraphqlPullRequest,
    commits_asked: bool,
    truncated: bool,
    asked_at: Timestamp,
) -> Result<FetchedPullRequest, Unusable> {
    let snapshot = snapshot(&pull_request);
    let merge_state = merge_state(&pull_request);
    let mut commit_list = match commits_asked {
        true => commits::listed(pull_request.commits.nodes),
        // Only one was fetched.
        false => None,
    };
    let commit_dates = commit_list.as_deref().map(commits::dates);
    if let Some(listed) = &mut commit_list {
        listed.drain(..listed.len().saturating_sub(commits::LISTED));
    }
    let items = whole(pull_request.timeline_items.nodes)?;
    let reviews = whole(pull_request.reviews.and_then(|reviews| reviews.nodes))?;
    let dismissals = items
        .iter()
        .filter(|item| item.kind == "ReviewDismissedEvent");
    let mut snapshots: Vec<ReviewSnapshot> = Vec::with_capacity(reviews.len());
    for review in reviews {
        snapshots.extend(seen_review(review)?);
    }
    // GitHub overwrites the state of a dismissed review; the timeline keeps it.
    for dismissal in dismissals {
        dismiss(&mut snapshots, dismissal)?;
    }
    let created_at = snapshot.created_at;
    let mut timeline: Vec<Fact> = items.into_iter().filter_map(fact).collect();
    // A commit from before the creation was never pushed to the pull request. One that is dated
    // after the last update has its date from a clock that is wrong.
    timeline.retain(|fact| {
        let is_pushed = fact.at > created_at && fact.at <= snapshot.updated_at;
        fact.kind != FactKind::Committed || is_pushed
    });
    timeline.extend(opening(&snapshot, &timeline, truncated));
    timeline.sort_unstable();
    snapshots.sort_unstable_by_key(|review| (review.id, review.state));
    Ok(FetchedPullRequest {
        repo: Repo {
            id: repository.id.ok_or(Unusable::NoRepositoryId)?,
            name: repository.name_with_owner.clone(),
            private: Some(repository.is_private),
            seen_at: snapshot.updated_at,
            installation: None,
        },
        number: pull_request.number,
        settled: asked_at.epoch() - snapshot.updated_at.epoch() >= SETTLING,
        pull_request: snapshot,
        timeline,
        reviews: snapshots,
        commits: commit_dates,
        truncated,
        commit_list: commit_list.unwrap_or_default(),
        merge_state_at: None,
        merge_state,
    })
}

pub(super) fn whole<T>(nodes: Option<Vec<Option<T>>>) -> Result<Vec<T>, Unusable> {
    nodes
        .and_then(|nodes| nodes.into_iter().collect())
        .ok_or(Unusable::Gap)
}

fn snapshot(pull_request: &GraphqlPullRequest) -> PullRequestSnapshot {
    let labels = pull_request.labels.clone().and_then(|labels| labels.nodes);
    let labels = labels.into_iter().flatten().flatten();
    let mut labels: Vec<_> = labels.map(|label| label.name).collect();
    labels.sort_unstable();
    PullRequestSnapshot {
        updated_at: pull_request.updated_at,
        created_at: pull_request.created_at,
        github_id: pull_request.full_database_id.map(|graphql::BigInt(id)| id),
        author: account(pull_request.author.as_ref()),
        merged_at: pull_request.merged_at,
        conversation: Conversation {
            title: Some(pull_request.title.clone()),
            // Webhooks have null for an empty text.
            body: Some(pull_request.body.clone()).filter(|body| !body.is_empty()),
            html_url: Some(pull_request.url.clone()),
            labels,
            open: pull_request.state == GraphqlState::Open,
            closed_at: pull_request.closed_at,
            marks: BTreeSet::new(),
        },
        branches: Some(Branches {
            draft: pull_request.is_draft,
            base_ref: pull_request.base_ref_name.clone(),
            head_ref: pull_request.head_ref_name.clone(),
            head_sha: pull_request.head_ref_oid.clone(),
            head_repo: pull_request
                .head_repository
                .as_ref()
                .and_then(|repository| repository.id),
        }),
        diff: Some(Diff {
            additions: Some(pull_request.additions),
            deletions: Some(pull_request.deletions),
            changed_files: Some(pull_request.changed_files),
            commits: pull_request
                .commits
                .total_count
                .and_then(|count| count.try_into().ok()),
        }),
        requested: requested(pull_request),
        details: Some(details(pull_request)),
    }
}

/// Returns `None` if GitHub withholds a request, or does not identify its reviewer.
fn requested(pull_request: &GraphqlPullRequest) -> Option<RequestedReviewers> {
    let requests = pull_request.review_requests.clone()?;
    let (mut accounts, mut teams) = (Vec::new(), Vec::new());
    for request in whole(requests.nodes).ok()? {
        let reviewer = request.requested_reviewer?;
        let id = reviewer.database_id?;
        match SubjectKind::of_type(&reviewer.kind) {
            SubjectKind::Team => teams.push(Team {
                id,
                slug: reviewer.slug?,
            }),
            SubjectKind::User | SubjectKind::Bot => {
                let actor = graphql::GraphqlActor {
                    kind: reviewer.kind,
                    login: reviewer.login?,
                    database_id: Some(id),
                };
                accounts.push(account(Some(&actor)));
            }
        }
    }
    Some(RequestedReviewers::new(accounts, teams))
}

fn details(pull_request: &GraphqlPullRequest) -> PullRequestDetails {
    let assignees = pull_request.assignees.clone();
    let assignees = assignees.and_then(|assignees| whole(assignees.nodes).ok());
    let merge_commit = pull_request.merge_commit.as_ref();
    PullRequestDetails {
        author_association: pull_request.author_association,
        auto_merge: pull_request.auto_merge_request.map(|on| on.is_some()),
        merge_commit_sha: merge_commit
            .filter(|_| pull_request.merged_at.is_some())
            .map(|commit| commit.oid.clone()),
        assignees: assignees
            .map(|assignees| by_id(assignees.iter().map(|assignee| account(Some(assignee))))),
    }
}

/// Returns the state of the merge of an open pull request.
fn merge_state(pull_request: &GraphqlPullRequest) -> Option<MergeState> {
    if pull_request.state != GraphqlState::Open {
        return None;
    }
    let rollup = pull_request.status_check_rollup.as_ref();
    let contexts = rollup.and_then(|rollup| rollup.contexts.as_ref()?.nodes.as_ref());
    let required = contexts.into_iter().flatten().flatten();
    let required = required.filter(|check| check.is_required == Some(true));
    let (mut failed, mut pending): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for check in required {
        match check_outcome(check) {
            CheckOutcome::Failed => failed.push(check.completed_at.or(check.created_at)),
            // A queued check has not started; it was asked for by the last update or before.
            CheckOutcome::Pending => {
                pending.push(
                    check
                        .started_at
                        .or(check.created_at)
                        .unwrap_or(pull_request.updated_at),
                );
            }
            CheckOutcome::Passed => {}
        }
    }
    Some(MergeState {
        head_sha: pull_request.head_ref_oid.clone(),
        review_decision: pull_request.review_decision,
        conflicting: match pull_request.mergeable.as_deref() {
            Some("CONFLICTING") => Some(true),
            Some("MERGEABLE") => Some(false),
            _ => None,
        },
        required_check_failed_at: failed.into_iter().flatten().min(),
        checks_pending_since: pending.into_iter().min(),
    })
}

enum CheckOutcome {
    Passed,
    Pending,
    Failed,
}

fn check_outcome(check: &graphql::CheckContext) -> CheckOutcome {
    let state = check.conclusion.as_deref().or(check.state.as_deref());
    match (check.status.as_deref(), state) {
        (Some(status), _) if status != "COMPLETED" => CheckOutcome::Pending,
        (_, Some("PENDING" | "EXPECTED")) => CheckOutcome::Pending,
        (
            _,
            Some(
                "FAILURE" | "ERROR" | "TIMED_OUT" | "CANCELLED" | "ACTION_REQUIRED"
                | "STARTUP_FAILURE",
            ),
        ) => CheckOutcome::Failed,
        _ => CheckOutcome::Passed,
    }
}

/// Returns the account under the login that webhooks use.
pub(super) fn account(actor: Option<&graphql::GraphqlActor>) -> Account {
    let Some((actor, id)) = actor.and_then(|actor| Some((actor, actor.database_id?))) else {
        return Account::ghost();
    };
    let (kind, login) = match actor.kind.as_str() {
        "User" => (AccountKind::User, actor.login.clone()),
        "Bot" => (AccountKind::Bot, bot_login(&actor.login)),
        _ => (AccountKind::Other, actor.login.clone()),
    };
    Account {
        id: AccountId(id),
        login,
        kind,
    }
}

/// GraphQL leaves out the `[bot]` that bots' logins end with everywhere else.
fn bot_login(login: &str) -> String {
    if login.ends_with("[bot]") {
        login.to_owned()
    } else {
        format!("{login}[bot]")
    }
}

/// Returns `None` while the review is pending.
fn seen_review(review: graphql::GraphqlReview) -> Result<Option<ReviewSnapshot>, Unusable> {
    let Some(submitted_at) = review.submitted_at else {
        return Ok(None);
    };
    let Some(state) = review_state(&review.state)? else {
        return Ok(None);
    };
    Ok(Some(ReviewSnapshot {
        id: ReviewId(review.full_database_id.ok_or(Unusable::Gap)?.0),
        author: account(review.author.as_ref()),
        state,
        submitted_at,
        commit_id: review.commit.map(|commit| commit.oid),
        dismissed_at: None,
    }))
}

/// Returns `None` for a pending review.
fn review_state(state: &str) -> Result<Option<ReviewState>, Unusable> {
    Ok(Some(match state {
        "APPROVED" => ReviewState::Approved,
        "CHANGES_REQUESTED" => ReviewState::ChangesRequested,
        "COMMENTED" => ReviewState::Commented,
        "DISMISSED" => ReviewState::Dismissed,
        "PENDING" => return Ok(None),
        _ => return Err(Unusable::ReviewState),
    }))
}

/// Adds to a dismissed review the time of its dismissal and the state before.
fn dismiss(
    reviews: &mut Vec<ReviewSnapshot>,
    dismissal: &GraphqlTimelineItem,
) -> Result<(), Unusable> {
    let id = dismissal
        .review
        .as_ref()
        .and_then(|review| review.full_database_id);
    let Some(dismissed) = id.and_then(|graphql::BigInt(id)| {
        reviews
            .iter_mut()
            .find(|review| review.id.0 == id && review.state == ReviewState::Dismissed)
    }) else {
        return Ok(());
    };
    dismissed.dismissed_at = dismissal.created_at;
    let before = match &dismissal.previous_review_state {
        Some(state) => review_state(state)?.filter(|state| *state != ReviewState::Dismissed),
        None => None,
    };
    if let Some(state) = before {
        let as_it_was = ReviewSnapshot {
            state,
            dismissed_at: None,
            ..dismissed.clone()
        };
        reviews.push(as_it_was);
    }
    Ok(())
}

fn fact(item: GraphqlTimelineItem) -> Option<Fact> {
    if let Some(commit) = item.commit.filter(|_| item.kind == "PullRequestCommit") {
        return commits::fact(commit);
    }
    let at = item.created_at?;
    let actor = match item.kind.as_str() {
        "IssueComment" => item.author.as_ref(),
        _ => item.actor.as_ref(),
    };
    let fact = |kind, subject, detail| Fact {
        at,
        kind,
        subject,
        subject_kind: None,
        detail,
        actor: Some(account(actor)),
    };
    let requested = |kind| match item.requested_reviewer {
        Some(reviewer) => {
            let subject_kind = SubjectKind::of_type(&reviewer.kind);
            let login = match subject_kind {
                SubjectKind::Bot => reviewer.login.as_deref().map(bot_login),
                SubjectKind::User | SubjectKind::Team => reviewer.login,
            };
            Fact {
                subject_kind: Some(subject_kind),
                ..fact(kind, reviewer.database_id, login.or(reviewer.slug))
            }
        }
        None => fact(kind, None, None),
    };
    let simple = |kind| fact(kind, None, None);
    Some(match item.kind.as_str() {
        "ReadyForReviewEvent" => simple(FactKind::ReadyForReview),
        "ConvertToDraftEvent" => simple(FactKind::ConvertedToDraft),
        "ReviewRequestedEvent" => requested(FactKind::ReviewRequested),
        "ReviewRequestRemovedEvent" => requested(FactKind::ReviewRequestRemoved),
        "ClosedEvent" => simple(FactKind::Closed),
        "ReopenedEvent" => simple(FactKind::Reopened),
        "MergedEvent" => simple(FactKind::Merged),
        "AddedToMergeQueueEvent" => simple(FactKind::Enqueued),
        "RemovedFromMergeQueueEvent" => fact(FactKind::Dequeued, None, item.reason),
        "HeadRefForcePushedEvent" => fact(
            FactKind::Pushed,
            None,
            item.after_commit.map(|head| head.oid),
        ),
        "IssueComment" => {
            let id = item.full_database_id.map(|graphql::BigInt(id)| id);
            fact(FactKind::Commented, id, None)
        }
        _ => return None,
    })
}

/// Returns the opening, which no timeline has: as a draft if it became ready before it became a
/// draft, or if it is a draft and never changed. `None` if a truncated timeline does not show that.
fn opening(snapshot: &PullRequestSnapshot, timeline: &[Fact], truncated: bool) -> Option<Fact> {
    let switch = timeline
        .iter()
        .filter(|fact| {
            matches!(
                fact.kind,
                FactKind::ReadyForReview | FactKind::ConvertedToDraft
            )
        })
        .min_by_key(|fact| fact.at);
    let is_draft = snapshot
        .branches
        .as_ref()
        .and_then(|branches| branches.draft);
    let draft = match switch {
        Some(first) => first.kind == FactKind::ReadyForReview,
        None if truncated => return None,
        None => is_draft?,
    };
    Some(Fact {
        at: snapshot.created_at,
        kind: FactKind::Opened,
        subject: None,
        subject_kind: None,
        detail: draft.then(|| "draft".to_owned()),
        actor: Some(snapshot.author.clone()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answer(change: impl Fn(&mut Value)) -> FetchedPullRequest {
        let repository = json!({"databaseId": 7, "nameWithOwner": "acme/api", "isPrivate": true});
        let empty = json!({"pageInfo": {"hasNextPage": false}, "nodes": []});
        let mut pull_request = json!({
            "number": 5, "state": "OPEN", "title": "t", "body": "", "url": "u",
            "createdAt": "2026-03-02T10:00:00Z", "updatedAt": "2026-03-02T12:00:00Z",
            "additions": 1, "deletions": 1, "changedFiles": 1, "baseRefName": "main",
            "headRefName": "topic", "headRefOid": "a", "reviews": empty, "commits": empty,
            "timelineItems": empty,
        });
        change(&mut pull_request);
        let repository = serde_json::from_value(repository).unwrap();
        let pull_request = serde_json::from_value(pull_request).unwrap();
        let asked_at = Timestamp::parse("2026-03-02T12:30:00Z").unwrap();
        fetched(&repository, pull_request, false, false, asked_at).unwrap()
    }

    #[test]
    fn parts_that_github_did_not_show_are_unknown() {
        let details = answer(|_| ()).pull_request.details.unwrap();
        assert_eq!((details.auto_merge, details.assignees), (None, None));
        let actor = json!({"__typename": "User", "login": "ana", "databaseId": 1});
        for (request, nodes, on, count) in [
            (json!(null), json!([]), false, Some(0)),
            (json!({"enabledAt": "x"}), json!([actor]), true, Some(1)),
            (json!(null), json!([actor, null]), false, None),
        ] {
            let found = answer(|pull_request| {
                pull_request["autoMergeRequest"] = request.clone();
                pull_request["assignees"] = json!({"nodes": nodes});
            });
            let details = found.pull_request.details.unwrap();
            assert_eq!(details.auto_merge, Some(on));
            assert_eq!(details.assignees.map(|assignees| assignees.len()), count);
        }
    }

    #[test]
    fn commit_counts_if_it_is_dated_between_creation_and_last_update() {
        let found = answer(|pull_request| {
            let times = ["10:00:00", "10:00:01", "12:00:00", "12:00:01"];
            let commits = times.map(|time| {
                json!({"__typename": "PullRequestCommit", "commit": {
                    "oid": time, "committedDate": format!("2026-03-02T{time}Z")
                }})
            });
            pull_request["timelineItems"]["nodes"] = json!(commits);
        });
        let facts = found.timeline.into_iter();
        let commits = facts.filter(|fact| fact.kind == FactKind::Committed);
        let commits: Vec<_> = commits.filter_map(|fact| fact.detail).collect();
        assert_eq!(commits, ["10:00:01", "12:00:00"]);
    }
}
