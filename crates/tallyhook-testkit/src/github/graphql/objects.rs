//! The world in terms of GitHub's GraphQL schema: every object with its `__typename` and all fields
//! of this fake; a connection is an object with its elements in `$items`.

use serde_json::{Value, json};

use super::super::world::{
    Check, Commit, PullRequest, Repository, Reviewer, TimelineEntry, TimelineEvent,
};
use crate::payloads::objects::{extend, node_id, web};
use crate::payloads::{Account, Comment, HeadRepo, Label, Review, ReviewComment};

pub(super) fn repository(repository: &Repository, is_admin: bool) -> Value {
    let place = &repository.place;
    json!({
        "__typename": "Repository",
        "id": node_id("R", place.repo_id),
        "databaseId": place.repo_id,
        "name": place.repo,
        "nameWithOwner": place.full_name(),
        "owner": actor(Some(&place.owner)),
        "url": web(&place.full_name()),
        "isPrivate": place.private,
        "isArchived": false,
        "isFork": false,
        "createdAt": place.created_at,
        "updatedAt": place.updated_at,
        "pushedAt": place.updated_at,
        "defaultBranchRef": {"__typename": "Ref", "name": place.default_branch},
        "viewerPermission": if is_admin { "ADMIN" } else { "READ" },
    })
}

pub(super) fn pull_request(pull: &PullRequest) -> Value {
    let pr = &pull.pr;
    let state = match (&pr.merged_at, &pr.closed_at) {
        (Some(_), _) => "MERGED",
        (None, Some(_)) => "CLOSED",
        (None, None) => "OPEN",
    };
    let mut object = json!({
        "__typename": "PullRequest",
        "id": node_id("PR", pr.id),
        "databaseId": small(pr.id),
        "databaseId": pr.id,
        "fullDatabaseId": pr.id.to_string(),
        "number": pr.number,
        "state": state,
        "closed": pr.closed_at.is_some(),
        "merged": pr.merged_at.is_some(),
        "isDraft": pr.draft,
        "isInMergeQueue": pull.queued,
        "isCrossRepository": !matches!(pr.head_repo, HeadRepo::Same),
        "locked": pr.locked,
        "title": pr.title,
        "body": text(pr.body.as_ref()),
        "url": pr.html_url(),
        "createdAt": pr.created_at,
        "updatedAt": pr.updated_at,
        "closedAt": pr.closed_at,
        "mergedAt": pr.merged_at,
        "additions": pr.additions,
        "deletions": pr.deletions,
        "changedFiles": pr.changed_files,
        "author": actor(pr.author.as_ref()),
        "authorAssociation": pr.author.as_ref().map_or("NONE", |author| author.association),
        "mergedBy": actor(pr.merged_by.as_ref()),
        "mergeCommit": pr.merged_at.as_ref().and(pr.merge_commit_sha.as_deref()).map(oid),
        "headRefName": pr.head_ref,
        "headRefOid": pr.head_sha,
        "baseRefName": pr.base_ref,
        "baseRefOid": pr.base_sha,
        "headRepository": head_repository(pull),
        "mergeable": match pull.conflicting {
            Some(true) => "CONFLICTING",
            Some(false) => "MERGEABLE",
            None => "UNKNOWN",
        },
        "reviewDecision": pull.review_decision,
        "autoMergeRequest": pr.auto_merge_enabled_by.as_ref().map(|enabled_by| json!({
            "__typename": "AutoMergeRequest",
            "enabledAt": pr.updated_at,
            "enabledBy": actor(Some(enabled_by)),
        })),
        "statusCheckRollup": check_rollup(pull),
    });
    for (name, items) in [
        ("labels", pr.labels.iter().map(label).collect::<Vec<_>>()),
        (
            "assignees",
            pr.assignees
                .iter()
                .map(|account| actor(Some(account)))
                .collect(),
        ),
        ("reviewRequests", review_requests(pull)),
        (
            "reviews",
            pull.reviews
                .iter()
                .map(|review| self::review(pull, review))
                .collect(),
        ),
        ("comments", pull.comments.iter().map(comment).collect()),
        ("commits", pull.commits.iter().map(commit).collect()),
        ("reviewThreads", pull.inline.iter().map(thread).collect()),
        (
            "timelineItems",
            pull.commits
                .iter()
                .map(commit)
                .chain(
                    pull.timeline
                        .iter()
                        .map(|happening| self::happening(pull, happening)),
                )
                .collect(),
        ),
    ] {
        object[name] = connection(&items);
    }
    object
}

/// Returns the checks of the head, null without one.
fn check_rollup(pull: &PullRequest) -> Value {
    let checks = pull.checks.iter().map(|check| match check {
        Check::Run {
            required,
            started_at,
            completed,
        } => json!({
            "__typename": "CheckRun",
            "status": if completed.is_some() { "COMPLETED" } else { "QUEUED" },
            "conclusion": completed.map(|(_, conclusion)| conclusion),
            "startedAt": started_at,
            "completedAt": completed.map(|(at, _)| at),
            "isRequired": required,
        }),
        Check::Status {
            required,
            created_at,
            state,
        } => json!({
            "__typename": "StatusContext",
            "state": state,
            "createdAt": created_at,
            "isRequired": required,
        }),
    });
    let checks: Vec<_> = checks.collect();
    match checks.is_empty() {
        true => Value::Null,
        false => json!({"__typename": "StatusCheckRollup", "contexts": connection(&checks)}),
    }
}

fn connection(items: &[Value]) -> Value {
    json!({"$items": items})
}

/// Returns an actor. Bots lack the `[bot]` that they have in REST; deleted accounts are null.
pub(super) fn actor(account: Option<&Account>) -> Value {
    let Some(account) = account else {
        return Value::Null;
    };
    let kind = match account.kind {
        kind @ ("User" | "Bot" | "Organization") => kind,
        _ => "Mannequin",
    };
    json!({
        "__typename": kind,
        "id": node_id("U", account.id),
        "databaseId": small(account.id),
        "login": account.login.trim_end_matches("[bot]"),
        "url": account.html_url(),
    })
}

/// Returns `databaseId`, which has 32 bits and is null for larger ids.
fn small(id: i64) -> Option<i32> {
    i32::try_from(id).ok()
}

fn text(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}

fn oid(sha: &str) -> Value {
    json!({"__typename": "Commit", "oid": sha})
}

fn head_repository(pull: &PullRequest) -> Value {
    let place = &pull.pr.world;
    let (owner, id) = match &pull.pr.head_repo {
        HeadRepo::Same => (&place.owner, place.repo_id),
        HeadRepo::Fork { owner, id } => (owner, *id),
        HeadRepo::Deleted { .. } => return Value::Null,
    };
    let name = format!("{}/{}", owner.login, place.repo);
    json!({
        "__typename": "Repository",
        "databaseId": id,
        "name": place.repo,
        "nameWithOwner": name,
        "owner": actor(Some(owner)),
    })
}

fn label(label: &Label) -> Value {
    json!({
        "__typename": "Label",
        "id": node_id("LA", label.id),
        "name": label.name,
        "color": "d73a4a",
        "description": null,
    })
}

fn reviewer(reviewer: &Reviewer) -> Value {
    match reviewer {
        Reviewer::Account(account) => actor(Some(account)),
        Reviewer::Team(team) => json!({
            "__typename": "Team",
            "id": node_id("T", team.id),
            "databaseId": small(team.id),
            "name": team.slug,
            "slug": team.slug,
        }),
    }
}

fn review_requests(pull: &PullRequest) -> Vec<Value> {
    let accounts = pull
        .pr
        .requested_reviewers
        .iter()
        .cloned()
        .map(Reviewer::Account);
    let teams = pull.pr.requested_teams.iter().cloned().map(Reviewer::Team);
    let requests = accounts.chain(teams).map(|asked| {
        json!({
            "__typename": "ReviewRequest",
            "asCodeOwner": false,
            "requestedReviewer": reviewer(&asked),
        })
    });
    requests.collect()
}

fn review(pull: &PullRequest, review: &Review) -> Value {
    let comments = pull
        .inline
        .iter()
        .filter(|comment| comment.review_id == review.id)
        .map(review_comment)
        .collect::<Vec<_>>();
    json!({
        "__typename": "PullRequestReview",
        "id": node_id("PRR", review.id),
        "databaseId": small(review.id),
        "databaseId": review.id,
        "fullDatabaseId": review.id.to_string(),
        "state": review.state.to_uppercase(),
        "body": text(review.body.as_ref()),
        "author": actor(review.reviewer.as_ref()),
        "commit": oid(&review.commit_id),
        "createdAt": review.submitted_at,
        "submittedAt": review.submitted_at,
        "updatedAt": review.submitted_at,
        "url": format!("{}#pullrequestreview-{}", pull.pr.html_url(), review.id),
        "comments": connection(&comments),
    })
}

fn review_comment(comment: &ReviewComment) -> Value {
    json!({
        "__typename": "PullRequestReviewComment",
        "id": node_id("PRRC", comment.id),
        "databaseId": small(comment.id),
        "databaseId": comment.id,
        "fullDatabaseId": comment.id.to_string(),
        "body": comment.body,
        "author": actor(comment.author.as_ref()),
        "createdAt": comment.created_at,
        "updatedAt": comment.updated_at,
        "pullRequestReview": {
            "__typename": "PullRequestReview",
            "databaseId": small(comment.review_id),
            "databaseId": comment.review_id,
            "fullDatabaseId": comment.review_id.to_string(),
        },
    })
}

fn thread(first: &ReviewComment) -> Value {
    json!({
        "__typename": "PullRequestReviewThread",
        "id": node_id("PRRT", first.id),
        "isResolved": false,
        "resolvedBy": null,
        "comments": connection(&[review_comment(first)]),
    })
}

fn comment(comment: &Comment) -> Value {
    json!({
        "__typename": "IssueComment",
        "id": node_id("IC", comment.id),
        "databaseId": small(comment.id),
        "databaseId": comment.id,
        "fullDatabaseId": comment.id.to_string(),
        "body": comment.body,
        "author": actor(comment.author.as_ref()),
        "createdAt": comment.created_at,
        "updatedAt": comment.created_at,
    })
}

fn commit(commit: &Commit) -> Value {
    let author = commit.author.as_ref();
    let person = json!({
        "__typename": "GitActor",
        "name": author.map(|author| &author.login),
        "email": author.map(|author| format!("{}+{}@users.noreply.github.com", author.id, author.login)),
        "user": author.filter(|author| author.kind == "User").map(|author| actor(Some(author))),
    });
    json!({
        "__typename": "PullRequestCommit",
        "commit": {
            "__typename": "Commit",
            "oid": commit.sha,
            "messageHeadline": "Change the server",
            "message": commit.message,
            "authoredDate": commit.authored_at,
            "committedDate": commit.committed_at,
            "author": person,
            "committer": person,
        },
    })
}

fn happening(pull: &PullRequest, happening: &TimelineEntry) -> Value {
    let pr = &pull.pr;
    let more = |kind: &str, more: Value| (kind.to_owned(), more);
    let (kind, more) = match &happening.what {
        TimelineEvent::Reviewed(id) => {
            return pull
                .reviews
                .iter()
                .find(|review| review.id == *id)
                .map_or(Value::Null, |known| review(pull, known));
        }
        TimelineEvent::Commented(id) => {
            return pull
                .comments
                .iter()
                .find(|comment| comment.id == *id)
                .map_or(Value::Null, comment);
        }
        TimelineEvent::ReadyForReview => more("ReadyForReviewEvent", json!({})),
        TimelineEvent::ConvertedToDraft => more("ConvertToDraftEvent", json!({})),
        TimelineEvent::Requested(asked) => more(
            "ReviewRequestedEvent",
            json!({"requestedReviewer": reviewer(asked)}),
        ),
        TimelineEvent::RequestRemoved(asked) => more(
            "ReviewRequestRemovedEvent",
            json!({"requestedReviewer": reviewer(asked)}),
        ),
        TimelineEvent::Dismissed(id, before) => {
            let dismissed = pull
                .reviews
                .iter()
                .find(|review| review.id == *id)
                .map(|known| review(pull, known));
            let before = before.to_uppercase();
            more(
                "ReviewDismissedEvent",
                json!({
                    "previousReviewState": before,
                    "review": dismissed,
                    "dismissalMessage": null,
                }),
            )
        }
        TimelineEvent::Labeled(given) => more("LabeledEvent", json!({"label": label(given)})),
        TimelineEvent::Unlabeled(taken) => more("UnlabeledEvent", json!({"label": label(taken)})),
        TimelineEvent::Renamed { from, to } => more(
            "RenamedTitleEvent",
            json!({"previousTitle": from, "currentTitle": to}),
        ),
        TimelineEvent::ForcePushed { before, after } => more(
            "HeadRefForcePushedEvent",
            json!({"beforeCommit": oid(before), "afterCommit": oid(after)}),
        ),
        TimelineEvent::Enqueued => more("AddedToMergeQueueEvent", json!({})),
        TimelineEvent::Dequeued(reason) => {
            more("RemovedFromMergeQueueEvent", json!({"reason": reason}))
        }
        TimelineEvent::Merged => {
            let commit = pr.merge_commit_sha.as_deref().map(oid);
            more(
                "MergedEvent",
                json!({"mergeRefName": pr.base_ref, "commit": commit}),
            )
        }
        TimelineEvent::Closed => more("ClosedEvent", json!({})),
        TimelineEvent::Reopened => more("ReopenedEvent", json!({})),
    };
    let mut object = json!({
        "__typename": kind,
        "id": node_id("EV", happening.id),
        "createdAt": happening.at,
        "actor": actor(happening.actor.as_ref()),
    });
    extend(&mut object, more);
    object
}
