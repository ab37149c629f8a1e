//! The marks by which a body shows which event it is.
//!
//! GitHub signs the body, and not the header that names the event: a signed body that was seen can be
//! posted again under another name. So the body itself says which event it is, by the fields that
//! GitHub gives to no other event.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{EventKind, Undecodable};
use crate::github::payload::Payload;
use crate::text::one_line;

/// The fields of `repository` events. Those of many other events have all of them and one more.
const REPOSITORY: &[&str] = &[
    "action",
    "changes",
    "enterprise",
    "installation",
    "organization",
    "repository",
    "sender",
];

/// The actions of `repository` events. A `watch` event has their fields and the action `started`.
const REPOSITORY_ACTIONS: &[&str] = &[
    "archived",
    "created",
    "deleted",
    "edited",
    "privatized",
    "publicized",
    "renamed",
    "transferred",
    "unarchived",
];

/// The fields of `installation` and `installation_repositories` events.
const INSTALLATION: &[&str] = &[
    "action",
    "enterprise",
    "installation",
    "organization",
    "repositories",
    "repositories_added",
    "repositories_removed",
    "repository_selection",
    "requester",
    "sender",
];

/// The fields that mark an event, by whether they are there.
#[derive(Default, Deserialize)]
#[serde(default)]
struct MarkingFields {
    pull_request: Option<IgnoredAny>,
    review: Option<IgnoredAny>,
    comment: Option<IgnoredAny>,
    thread: Option<IgnoredAny>,
    issue: Option<IgnoredAny>,
    merge_group: Option<IgnoredAny>,
    #[serde(rename = "ref")]
    git_ref: Option<IgnoredAny>,
    repository: Option<IgnoredAny>,
    repositories_added: Option<IgnoredAny>,
    repositories_removed: Option<IgnoredAny>,
    installation: Option<MarkingInstallation>,
}

/// The field that marks an event of the installation itself: other events name the installation
/// that sent them, without its account.
#[derive(Deserialize)]
struct MarkingInstallation {
    account: Option<IgnoredAny>,
}

impl From<&Payload> for MarkingFields {
    fn from(payload: &Payload) -> Self {
        fn mark<T>(field: &Option<T>) -> Option<IgnoredAny> {
            field.as_ref().map(|_| IgnoredAny)
        }
        // A part that could not be read marks the event all the same.
        let unread = |name| {
            let mut unread = payload.unread.iter();
            unread.any(|part| part.path == name).then_some(IgnoredAny)
        };
        Self {
            pull_request: mark(&payload.pull_request),
            review: mark(&payload.review).or(unread("review")),
            comment: mark(&payload.comment).or(unread("comment")),
            thread: mark(&payload.thread).or(unread("thread")),
            issue: mark(&payload.issue),
            merge_group: mark(&payload.merge_group),
            git_ref: mark(&payload.git_ref),
            repository: mark(&payload.repository),
            repositories_added: mark(&payload.repositories_added),
            repositories_removed: mark(&payload.repositories_removed),
            installation: payload
                .installation
                .as_ref()
                .map(|installation| MarkingInstallation {
                    account: installation.account,
                }),
        }
    }
}

impl MarkingFields {
    /// Returns the event that the fields mark.
    fn event(&self) -> Option<EventKind> {
        let installation = self.installation.as_ref();
        let is_of_pull_request = self.pull_request.is_some();
        Some(if self.merge_group.is_some() {
            EventKind::MergeGroup
        } else if self.issue.is_some() {
            EventKind::IssueComment
        } else if is_of_pull_request && self.review.is_some() {
            EventKind::PullRequestReview
        } else if is_of_pull_request && self.thread.is_some() {
            EventKind::PullRequestReviewThread
        } else if is_of_pull_request && self.comment.is_some() {
            EventKind::PullRequestReviewComment
        } else if is_of_pull_request {
            EventKind::PullRequest
        } else if self.git_ref.is_some() {
            EventKind::Push
        } else if self.repository.is_some() {
            EventKind::Repository
        } else if installation.is_none_or(|installation| installation.account.is_none()) {
            return None;
        } else if self.repositories_added.is_some() || self.repositories_removed.is_some() {
            EventKind::InstallationRepositories
        } else {
            EventKind::Installation
        })
    }

    /// Checks that the fields do not mark another event than `kind`.
    fn check(&self, kind: EventKind) -> Result<(), Undecodable> {
        match self.event() {
            Some(marked) if marked != kind => {
                let [marked, name]: [&'static str; 2] = [marked, kind].map(Into::into);
                Err(Undecodable::OtherEvent(format!(
                    "it is the body of a {marked} event, not of a {name} event"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the event whose payload `body` is, as its fields show it; `None` for any other JSON, such
/// as the payload of an event that is not used here, or an object of GitHub's API.
pub fn shown_by(body: &[u8]) -> Option<EventKind> {
    /// The fields that an event has and an unused one with the same marks lacks.
    #[derive(Deserialize)]
    struct TellingFields {
        action: Option<String>,
        comment: Option<IgnoredAny>,
        before: Option<IgnoredAny>,
        after: Option<IgnoredAny>,
    }
    let fields: MarkingFields = serde_json::from_slice(body).ok()?;
    let telling: TellingFields = serde_json::from_slice(body).ok()?;
    let kind = fields.event()?;
    let is_complete = match kind {
        EventKind::Push => telling.before.is_some() && telling.after.is_some(),
        EventKind::IssueComment => telling.action.is_some() && telling.comment.is_some(),
        _ => telling.action.is_some(),
    };
    let is_whole = is_complete && check_fields(kind, telling.action.as_deref(), body).is_ok();
    is_whole.then_some(kind)
}

/// Checks that a body of the event `kind`, which cannot be read, does not show all the same that it
/// is one of another event.
///
/// # Errors
/// [`Undecodable::OtherEvent`].
pub(super) fn check_unread(kind: EventKind, body: &[u8]) -> Result<(), Undecodable> {
    let fields: MarkingFields = serde_json::from_slice(body).unwrap_or_default();
    fields.check(kind)
}

/// Checks that a body of the event `kind` does not show that it is one of another event. A body
/// without any mark is left to the reader, which names the missing field.
///
/// Names and access are dated by the receipt of the events about the repository or the installation
/// itself, so that these may have no field that is not theirs: an event that is not used here, or
/// not yet known, passes for none of them.
///
/// # Errors
/// [`Undecodable::OtherEvent`].
pub(super) fn check(kind: EventKind, payload: &Payload, body: &[u8]) -> Result<(), Undecodable> {
    MarkingFields::from(payload).check(kind)?;
    check_fields(kind, payload.action.as_deref(), body)
}

/// Checks that a body of an event about a repository or an installation itself has no field and no
/// action that its event has not.
fn check_fields(kind: EventKind, action: Option<&str>, body: &[u8]) -> Result<(), Undecodable> {
    let fields = match kind {
        EventKind::Repository => REPOSITORY,
        EventKind::Installation | EventKind::InstallationRepositories => INSTALLATION,
        _ => return Ok(()),
    };
    let name: &'static str = kind.into();
    let found: BTreeMap<String, IgnoredAny> = serde_json::from_slice(body)
        .map_err(|_| Undecodable::Shape("its fields cannot be read".to_owned()))?;
    let foreign = found.keys().find(|field| !fields.contains(&field.as_str()));
    if let Some(field) = foreign {
        let field = one_line(field, 50);
        Err(Undecodable::OtherEvent(format!(
            "a {name} event has no field `{field}`"
        )))
    } else if kind == EventKind::Repository
        && let Some(action) = action
        && !REPOSITORY_ACTIONS.contains(&action)
    {
        let action = one_line(action, 50);
        Err(Undecodable::OtherEvent(format!(
            "a {name} event has no action `{action}`"
        )))
    } else {
        Ok(())
    }
}
