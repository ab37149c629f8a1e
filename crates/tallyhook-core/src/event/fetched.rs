//! Conversion of answers of GitHub's API to our own events.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{
    Branches, CommitDates, Conversation, Diff, FIRST_COMMIT_EVER, Fact, FactKind,
    FetchedPullRequest, PullRequestSnapshot, Repo, ReviewSnapshot, ReviewState,
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
    let commits = commit_dates(&pull_request).filter(|_| commits_asked);
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
    let mut timeline: Vec<Fact> = items.into_iter().filter_map(fact).collect();
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
        commits,
        truncated,
        commit_list: Vec::new(),
        merge_state: None,
        merge_state_at: None,
    })
}

fn whole<T>(nodes: Option<Vec<Option<T>>>) -> Result<Vec<T>, Unusable> {
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
        requested: None,
        details: None,
    }
}

/// Returns the account under the login that webhooks use.
fn account(actor: Option<&graphql::GraphqlActor>) -> Account {
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

/// Returns `None` if GitHub left out a commit, which may have been the first.
fn commit_dates(pull_request: &GraphqlPullRequest) -> Option<CommitDates> {
    let mut dates = CommitDates::default();
    for commit in whole(pull_request.commits.nodes.clone()).ok()? {
        for at in [commit.commit.authored_date, commit.commit.committed_date] {
            match at.filter(|at| *at >= FIRST_COMMIT_EVER) {
                Some(at) => dates.first = Some(dates.first.map_or(at, |first| first.min(at))),
                None => dates.prehistoric = true,
            }
            dates.last = dates.last.max(at);
        }
    }
    Some(dates)
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
    let at = item.created_at?;
    let simple = |kind| (kind, None, None);
    let requested = |kind, reviewer: Option<graphql::GraphqlReviewer>| match reviewer {
        Some(reviewer) if reviewer.kind == "Bot" => (
            kind,
            reviewer.database_id,
            reviewer.login.as_deref().map(bot_login),
        ),
        Some(reviewer) => (kind, reviewer.database_id, reviewer.login.or(reviewer.slug)),
        None => (kind, None, None),
    };
    let actor = match item.kind.as_str() {
        "IssueComment" => item.author.as_ref(),
        _ => item.actor.as_ref(),
    };
    let actor = Some(account(actor));
    let (kind, subject, detail) = match item.kind.as_str() {
        "ReadyForReviewEvent" => simple(FactKind::ReadyForReview),
        "ConvertToDraftEvent" => simple(FactKind::ConvertedToDraft),
        "ReviewRequestedEvent" => requested(FactKind::ReviewRequested, item.requested_reviewer),
        "ReviewRequestRemovedEvent" => {
            requested(FactKind::ReviewRequestRemoved, item.requested_reviewer)
        }
        "ClosedEvent" => simple(FactKind::Closed),
        "ReopenedEvent" => simple(FactKind::Reopened),
        "MergedEvent" => simple(FactKind::Merged),
        "AddedToMergeQueueEvent" => simple(FactKind::Enqueued),
        "RemovedFromMergeQueueEvent" => (FactKind::Dequeued, None, item.reason),
        "IssueComment" => (
            FactKind::Commented,
            item.full_database_id.map(|graphql::BigInt(id)| id),
            None,
        ),
        _ => return None,
    };
    Some(Fact {
        at,
        kind,
        subject,
        subject_kind: None,
        detail,
        actor,
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
