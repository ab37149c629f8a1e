//! Decoding of a webhook's name and body to an [`Event`].

use serde::de::IgnoredAny;
use thiserror::Error;

use super::bounds::{is_repository_name, within_limits};
use super::snapshots::{issue_snapshot, snapshot};
use super::{
    Event, EventKind, Fact, FactKind, InstallationEvent, PullRequestEvent, PullRequestSnapshot,
    PushEvent, Repo, RepositoryEvent, ReviewSnapshot, ReviewState, SNAPSHOT, SubjectKind,
    UnreadPart, lenient, marks, storable_json,
};
use crate::github::host::GithubHost;
use crate::github::payload::{self, Payload, PayloadReviewState};
use crate::github::types::{Account, AccountKind, PrNumber, ReviewId, Timestamp};
use crate::text::one_line;

/// The reason why a body cannot be decoded, named by what to do about it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Undecodable {
    /// Refuse it: the sender is not GitHub, or something between changed the body.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// Count it and discard it: an event that is not used here.
    #[error("event {0} is not used")]
    UnusedEvent(String),
    /// Keep it as ignored: it is about no pull request.
    #[error("{0}")]
    NoPullRequest(&'static str),
    /// Keep it as a dead letter: a used event without a required field.
    #[error("{0}")]
    Shape(String),
    /// Keep it as a dead letter, and let its name count for nothing: the body is one of another
    /// event. GitHub signs the body, and not the header that names the event.
    #[error("{0}")]
    OtherEvent(String),
}

/// Returns whether `body` is one JSON value, within serde's own limit of depth.
pub fn is_json(body: &[u8]) -> bool {
    // serde does not check the strings that it skips, so that UTF-8 is checked apart.
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// A webhook, and what its body says besides the event.
#[derive(Clone, Debug)]
pub struct DecodedWebhook {
    pub event: Event,
    /// The GitHub that the body's addresses are of.
    pub host: Option<GithubHost>,
    /// The parts that could not be read and do not count.
    pub unread: Vec<UnreadPart>,
}

/// Reads the webhook `name` (of `X-GitHub-Event`) with the JSON `body`. A body decodes under one
/// name at most.
///
/// # Errors
/// [`Undecodable`], whose variants say what to do with the delivery. No body makes it panic.
pub fn decode(name: &str, body: &[u8]) -> Result<Event, Undecodable> {
    decode_webhook(name, body).map(|decoded| decoded.event)
}

/// Reads a webhook as [`decode`] does, with what else its body says.
///
/// # Errors
/// Those of [`decode`].
pub fn decode_webhook(name: &str, body: &[u8]) -> Result<DecodedWebhook, Undecodable> {
    let kind = match name.parse() {
        // A webhook of the name of fetched pull requests is no more than any other unused one.
        Ok(EventKind::Snapshot) | Err(_) => {
            return Err(match is_json(body) {
                true => Undecodable::UnusedEvent(name.to_owned()),
                false => Undecodable::NotJson(format!("the body of a {name} event")),
            });
        }
        Ok(kind) => kind,
    };
    // serde does not check the strings that it skips, and a body is stored and shown as a whole.
    let text =
        std::str::from_utf8(body).map_err(|error| Undecodable::NotJson(error.to_string()))?;
    let text = storable_json(text);
    let payload: Payload = match serde_json::from_str(&text) {
        Ok(payload) => payload,
        // Not by the error's category: an array where an enum is expected is an error of syntax to
        // serde_json.
        Err(error) if is_json(body) => lenient::read(&text, &error).map_err(|error| {
            let other_event = marks::check_unread(kind, body).err();
            other_event.unwrap_or_else(|| shape(&error))
        })?,
        Err(error) => return Err(Undecodable::NotJson(error.to_string())),
    };
    marks::check(kind, &payload, body)?;
    let host = payload.address().and_then(GithubHost::of_address);
    let unread = payload.unread.clone();
    let event = event_of(kind, payload)?;
    let event = within_limits(event)?;
    Ok(DecodedWebhook {
        event,
        host,
        unread,
    })
}

fn event_of(kind: EventKind, payload: Payload) -> Result<Event, Undecodable> {
    match kind {
        EventKind::PullRequest => pull_request(payload).map(Event::PullRequest),
        EventKind::PullRequestReview => review(payload).map(Event::PullRequestReview),
        EventKind::PullRequestReviewComment => {
            review_comment(payload).map(Event::PullRequestReviewComment)
        }
        EventKind::PullRequestReviewThread => {
            review_thread(payload).map(Event::PullRequestReviewThread)
        }
        EventKind::IssueComment => issue_comment(payload).map(Event::IssueComment),
        EventKind::MergeGroup => merge_group(payload).map(Event::MergeGroup),
        EventKind::Push => push(payload).map(Event::Push),
        EventKind::Repository => repository(payload).map(Event::Repository),
        EventKind::Installation => installation(payload).map(Event::Installation),
        EventKind::InstallationRepositories => {
            installation(payload).map(Event::InstallationRepositories)
        }
        EventKind::Snapshot => Err(Undecodable::UnusedEvent(SNAPSHOT.to_owned())),
    }
}

/// Reads an event that was made here from GitHub's answers and stored as it is.
///
/// # Errors
/// [`Undecodable::Shape`], which a version of this program that cannot read what another wrote
/// would meet.
pub fn decode_fetched(body: &[u8]) -> Result<Event, Undecodable> {
    let event = serde_json::from_slice(body).map_err(|error| shape(&error.to_string()))?;
    within_limits(event)
}

fn missing(field: &str) -> Undecodable {
    shape(&format!("missing field `{field}`"))
}

/// Returns the error of a payload, with little of its text, since logs and lists show it.
fn shape(text: &str) -> Undecodable {
    const MAX_LENGTH: usize = 200;
    // The position within this one body would put dead letters of the same kind into different
    // groups.
    let text = text.rsplit_once(" at line ").map_or(text, |(what, _)| what);
    Undecodable::Shape(one_line(text, MAX_LENGTH))
}

/// The parts that all pull-request events share.
struct Common {
    action: String,
    actor: Option<Account>,
    snapshot: PullRequestSnapshot,
    repo: Repo,
    number: PrNumber,
}

impl Common {
    fn take(payload: &mut Payload) -> Result<Self, Undecodable> {
        let pull_request = payload
            .pull_request
            .take()
            .ok_or_else(|| missing("pull_request"))?;
        let number = pull_request.number;
        Self::with(payload, number, snapshot(pull_request))
    }

    fn with(
        payload: &mut Payload,
        number: PrNumber,
        snapshot: PullRequestSnapshot,
    ) -> Result<Self, Undecodable> {
        let mut repo = take_repo(payload)?;
        repo.seen_at = repo.seen_at.max(snapshot.updated_at);
        Ok(Self {
            action: payload.action.take().ok_or_else(|| missing("action"))?,
            actor: payload.sender.take().map(Account::from),
            snapshot,
            repo,
            number,
        })
    }

    fn fact(
        &self,
        at: Timestamp,
        kind: FactKind,
        subject: Option<i64>,
        detail: Option<String>,
    ) -> Fact {
        Fact {
            at,
            kind,
            subject,
            subject_kind: None,
            detail,
            actor: self.actor.clone(),
        }
    }

    fn event(self, facts: Vec<Fact>, review: Option<ReviewSnapshot>) -> PullRequestEvent {
        PullRequestEvent {
            action: self.action,
            repo: self.repo,
            number: self.number,
            actor: self.actor,
            pull_request: Some(self.snapshot),
            facts,
            review,
            commits: None,
        }
    }
}

fn pull_request(mut payload: Payload) -> Result<PullRequestEvent, Undecodable> {
    let common = Common::take(&mut payload)?;
    let facts = pull_request_facts(&common, payload);
    Ok(common.event(facts, None))
}

/// Returns the timeline entries of a `pull_request` action. An unknown action adds none; its
/// snapshot still counts.
fn pull_request_facts(common: &Common, payload: Payload) -> Vec<Fact> {
    let updated_at = common.snapshot.updated_at;
    let now = |kind, subject, detail| vec![common.fact(updated_at, kind, subject, detail)];
    let simple = |kind| now(kind, None, None);
    let (assignee, label) = (payload.assignee, payload.label.and_then(|label| label.name));
    let milestone = payload.milestone.and_then(|milestone| milestone.title);
    match common.action.as_str() {
        "opened" => vec![common.fact(
            common.snapshot.created_at,
            FactKind::Opened,
            None,
            was_draft(&common.snapshot).then(|| "draft".to_owned()),
        )],
        "closed" => closing_facts(common),
        "reopened" => simple(FactKind::Reopened),
        "ready_for_review" => simple(FactKind::ReadyForReview),
        "converted_to_draft" => simple(FactKind::ConvertedToDraft),
        "synchronize" => now(FactKind::Pushed, None, payload.after),
        "edited" => edit_facts(common, payload.changes.unwrap_or_default()),
        "labeled" => now(FactKind::Labeled, None, label),
        "unlabeled" => now(FactKind::Unlabeled, None, label),
        "assigned" => now(
            FactKind::Assigned,
            assignee.as_ref().map(|user| user.id.0),
            assignee.map(|user| user.login),
        ),
        "unassigned" => now(
            FactKind::Unassigned,
            assignee.as_ref().map(|user| user.id.0),
            assignee.map(|user| user.login),
        ),
        "milestoned" => now(FactKind::Milestoned, None, milestone),
        "demilestoned" => now(FactKind::Demilestoned, None, milestone),
        "review_requested" | "review_request_removed" => {
            let reviewer = payload.requested_reviewer.map(Account::from);
            let (subject_kind, subject, detail) = match (reviewer, payload.requested_team) {
                (Some(account), _) => (
                    Some(SubjectKind::of(&account)),
                    Some(account.id.0),
                    Some(account.login),
                ),
                (None, Some(team)) => (Some(SubjectKind::Team), team.id, team.slug.or(team.name)),
                (None, None) => (None, None, None),
            };
            let requested = common.action == "review_requested";
            let kind = if requested {
                FactKind::ReviewRequested
            } else {
                FactKind::ReviewRequestRemoved
            };
            vec![Fact {
                subject_kind,
                ..common.fact(updated_at, kind, subject, detail)
            }]
        }
        "locked" => simple(FactKind::Locked),
        "unlocked" => simple(FactKind::Unlocked),
        "auto_merge_enabled" => now(FactKind::AutoMergeEnabled, None, payload.reason),
        "auto_merge_disabled" => now(FactKind::AutoMergeDisabled, None, payload.reason),
        "stacked" => simple(FactKind::Stacked),
        "enqueued" => simple(FactKind::Enqueued),
        "dequeued" => now(FactKind::Dequeued, None, payload.reason),
        _ => Vec::new(),
    }
}

fn was_draft(snapshot: &PullRequestSnapshot) -> bool {
    snapshot
        .branches
        .as_ref()
        .and_then(|branches| branches.draft)
        .unwrap_or(false)
}

/// Returns the end of the pull request with its actor, whom no other action names; every later
/// snapshot has the times.
fn closing_facts(common: &Common) -> Vec<Fact> {
    let closed = common
        .snapshot
        .conversation
        .closed_at
        .map(|at| common.fact(at, FactKind::Closed, None, None));
    let merged = common
        .snapshot
        .merged_at
        .map(|at| common.fact(at, FactKind::Merged, None, None));
    closed.into_iter().chain(merged).collect()
}

fn edit_facts(common: &Common, changes: payload::ChangesPayload) -> Vec<Fact> {
    let at = common.snapshot.updated_at;
    let title = changes
        .title
        .map(|changed| common.fact(at, FactKind::TitleEdited, None, changed.from));
    let body = changes
        .body
        .map(|_| common.fact(at, FactKind::BodyEdited, None, None));
    let base = changes.base.map(|base| {
        let before = base.name.and_then(|changed| changed.from);
        common.fact(at, FactKind::BaseChanged, None, before)
    });
    [title, body, base].into_iter().flatten().collect()
}

fn review(mut payload: Payload) -> Result<PullRequestEvent, Undecodable> {
    let common = Common::take(&mut payload)?;
    let review = required(payload.review, "review", &payload.unread)?;
    let review = review.and_then(|review| seen_review(&common, review));
    Ok(common.event(Vec::new(), review))
}

/// Returns a part that the event must have; `None` if it could not be read.
fn required<T>(
    part: Option<T>,
    name: &str,
    unread: &[UnreadPart],
) -> Result<Option<T>, Undecodable> {
    match part {
        None if !unread.iter().any(|unread| unread.path == name) => Err(missing(name)),
        part => Ok(part),
    }
}

/// Returns the review of an event; `None` while it is pending.
fn seen_review(common: &Common, review: payload::ReviewPayload) -> Option<ReviewSnapshot> {
    let submitted_at = review.submitted_at?;
    let state = match review.state {
        PayloadReviewState::Approved => ReviewState::Approved,
        PayloadReviewState::ChangesRequested => ReviewState::ChangesRequested,
        PayloadReviewState::Commented => ReviewState::Commented,
        PayloadReviewState::Dismissed => ReviewState::Dismissed,
        PayloadReviewState::Pending => return None,
    };
    Some(ReviewSnapshot {
        id: review.id,
        author: writer(review.user, review.performed_via_github_app),
        state,
        submitted_at,
        commit_id: review.commit_id,
        dismissed_at: (common.action == "dismissed").then_some(common.snapshot.updated_at),
    })
}

/// Returns the account that wrote a review or comment. Of one that an App wrote with the token of a
/// person it is a bot: no person has responded.
fn writer(user: Option<payload::UserPayload>, via_app: Option<IgnoredAny>) -> Account {
    let account = account_or_ghost(user);
    match via_app {
        Some(_) => Account {
            kind: AccountKind::Bot,
            ..account
        },
        None => account,
    }
}

fn review_comment(mut payload: Payload) -> Result<PullRequestEvent, Undecodable> {
    let common = Common::take(&mut payload)?;
    let comment = required(payload.comment, "comment", &payload.unread)?;
    let fact = comment.map(|comment| {
        let review = comment.pull_request_review_id.map(|ReviewId(id)| id);
        comment_fact(comment, FactKind::ReviewCommented, review)
    });
    Ok(common.event(fact.into_iter().collect(), None))
}

/// Returns a comment's fact: that its author wrote it then, whether it was created, edited or
/// deleted now.
fn comment_fact(comment: payload::CommentPayload, kind: FactKind, subject: Option<i64>) -> Fact {
    Fact {
        at: comment.created_at,
        kind,
        subject: subject.or(Some(comment.id)),
        subject_kind: None,
        detail: None,
        actor: Some(writer(comment.user, comment.performed_via_github_app)),
    }
}

fn review_thread(mut payload: Payload) -> Result<PullRequestEvent, Undecodable> {
    let common = Common::take(&mut payload)?;
    let kind = match common.action.as_str() {
        "resolved" => Some(FactKind::ThreadResolved),
        "unresolved" => Some(FactKind::ThreadUnresolved),
        _ => None,
    };
    let at = common.snapshot.updated_at;
    let thread = required(payload.thread, "thread", &payload.unread)?;
    let (first, node_id) = thread.map_or((None, None), |thread| {
        let first = thread.comments.first().map(|comment| comment.id);
        (first, thread.node_id)
    });
    let facts = kind
        .map(|kind| common.fact(at, kind, first, node_id))
        .into_iter()
        .collect();
    Ok(common.event(facts, None))
}

fn issue_comment(mut payload: Payload) -> Result<PullRequestEvent, Undecodable> {
    let issue = payload.issue.take().ok_or_else(|| missing("issue"))?;
    let comment = required(payload.comment.take(), "comment", &payload.unread)?;
    let number = issue.number;
    let snapshot =
        issue_snapshot(issue).ok_or(Undecodable::NoPullRequest("a comment on an issue"))?;
    let common = Common::with(&mut payload, number, snapshot)?;
    let fact = comment.map(|comment| comment_fact(comment, FactKind::Commented, None));
    Ok(common.event(fact.into_iter().collect(), None))
}

fn merge_group(mut payload: Payload) -> Result<PullRequestEvent, Undecodable> {
    let group = payload
        .merge_group
        .take()
        .ok_or_else(|| missing("merge_group"))?;
    let number = queued_number(&group.head_ref).ok_or(Undecodable::NoPullRequest(
        "a merge group that names no pull request",
    ))?;
    let mut repo = take_repo(&mut payload)?;
    let at = group
        .head_commit
        .and_then(|commit| commit.timestamp)
        .unwrap_or(repo.seen_at);
    repo.seen_at = repo.seen_at.max(at);
    let action = payload.action.take().ok_or_else(|| missing("action"))?;
    let actor = payload.sender.take().map(Account::from);
    let kind = match action.as_str() {
        "checks_requested" => Some(FactKind::MergeGroupChecksRequested),
        "destroyed" => Some(FactKind::MergeGroupDestroyed),
        _ => None,
    };
    let fact = kind.map(|kind| Fact {
        at,
        kind,
        subject: None,
        subject_kind: None,
        detail: payload.reason,
        actor: actor.clone(),
    });
    Ok(PullRequestEvent {
        action,
        repo,
        number,
        actor,
        pull_request: None,
        facts: fact.into_iter().collect(),
        review: None,
        commits: None,
    })
}

/// Returns the number in `refs/heads/gh-readonly-queue/{base}/pr-{number}-{sha}`; the base may have
/// slashes.
fn queued_number(head_ref: &str) -> Option<PrNumber> {
    let (_, last) = head_ref.rsplit_once('/')?;
    let (number, _) = last.strip_prefix("pr-")?.split_once('-')?;
    number.parse().ok().map(PrNumber)
}

fn push(mut payload: Payload) -> Result<PushEvent, Undecodable> {
    Ok(PushEvent {
        repo: take_repo(&mut payload)?,
        git_ref: payload.git_ref.ok_or_else(|| missing("ref"))?,
        before: payload.before,
        // `create` and `delete` events have a ref too, and no commit.
        after: Some(payload.after.ok_or_else(|| missing("after"))?),
        actor: payload.sender.map(Account::from),
    })
}

fn repository(mut payload: Payload) -> Result<RepositoryEvent, Undecodable> {
    let repo = take_repo(&mut payload)?;
    let changes = payload.changes.unwrap_or_default();
    let former_name = repo.name.split_once('/').and_then(|(owner, name)| {
        let former_owner = changes.owner.and_then(|changed| changed.login());
        let renamed = changes.repository.and_then(|changed| changed.name?.from);
        let is_changed = former_owner.is_some() || renamed.is_some();
        let owner = former_owner.unwrap_or_else(|| owner.to_owned());
        let name = renamed.unwrap_or_else(|| name.to_owned());
        is_changed.then(|| format!("{owner}/{name}"))
    });
    Ok(RepositoryEvent {
        repo,
        action: payload.action.ok_or_else(|| missing("action"))?,
        former_name: former_name.filter(|name| is_repository_name(name)),
    })
}

fn installation(payload: Payload) -> Result<InstallationEvent, Undecodable> {
    let action = payload.action.ok_or_else(|| missing("action"))?;
    let installation = payload
        .installation
        .ok_or_else(|| missing("installation"))?;
    // Every event that an App sends names its installation; its own events name the account too.
    if installation.account.is_none() {
        return Err(missing("installation.account"));
    }
    let at = time_of_access(&action, &installation);
    let latest = installation.suspended_at.max(installation.updated_at);
    let named = |repositories: Option<Vec<payload::RepositoryName>>| {
        let repositories = repositories.unwrap_or_default().into_iter();
        let seen_at = latest.unwrap_or(Timestamp::clamped(0));
        let named = repositories.map(|repository| Repo {
            id: repository.id,
            name: repository.full_name,
            private: repository.private,
            seen_at,
            installation: Some(installation.id),
        });
        named.collect::<Vec<_>>()
    };
    let listed = named(payload.repositories);
    let (mut gained, mut lost) = (
        named(payload.repositories_added),
        named(payload.repositories_removed),
    );
    match action.as_str() {
        "deleted" | "suspend" => lost.extend(listed),
        _ => gained.extend(listed),
    }
    Ok(InstallationEvent {
        action,
        installation: installation.id,
        at,
        gained,
        lost,
    })
}

/// The seconds within which GitHub completes a new installation.
const INSTALLING: i64 = 60;

/// Returns GitHub's time of an event of an installation. An `updated_at` of the installation's first
/// minute is that of its creation, which recorded payloads of later events still have. That of an
/// unsuspension may be the second of the suspension, which it follows.
fn time_of_access(action: &str, installation: &payload::InstallationPayload) -> Option<Timestamp> {
    let updated_at = installation.updated_at;
    let is_later = |at: &Timestamp| {
        let created_at = installation.created_at;
        created_at.is_some_and(|created| at.epoch() - created.epoch() > INSTALLING)
    };
    match action {
        "created" => updated_at,
        "unsuspend" => updated_at.map(|at| Timestamp::clamped(at.epoch() + 1)),
        "suspend" => installation.suspended_at.or(updated_at.filter(is_later)),
        _ => updated_at.filter(is_later),
    }
}

fn take_repo(payload: &mut Payload) -> Result<Repo, Undecodable> {
    let repository = payload
        .repository
        .take()
        .ok_or_else(|| missing("repository"))?;
    Ok(Repo {
        id: repository.id,
        name: repository.full_name,
        private: repository.private,
        seen_at: repository
            .updated_at
            .max(repository.pushed_at)
            .unwrap_or(Timestamp::clamped(0)),
        installation: payload
            .installation
            .as_ref()
            .map(|installation| installation.id),
    })
}

pub(super) fn account_or_ghost(user: Option<payload::UserPayload>) -> Account {
    user.map_or_else(Account::ghost, Account::from)
}
