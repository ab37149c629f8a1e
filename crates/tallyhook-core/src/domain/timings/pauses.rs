//! The times at which a pull request was a draft or closed.

use super::intervals::Interval;
use super::{closed_history, draft_history, first_ready};
use crate::domain::pull_request::PullRequest;
use crate::github::types::Timestamp;

/// The stretches in which a pull request was a draft and those in which it was closed, both by
/// time. The last one of a kind may have no end.
pub(in crate::domain) struct Pauses {
    pub(super) opened_as_draft: bool,
    pub(in crate::domain) drafts: Vec<Interval>,
    pub(in crate::domain) closed: Vec<Interval>,
    pub(in crate::domain) ready_at: Option<Timestamp>,
}

impl Pauses {
    pub(in crate::domain) fn of(
        pull_request: &PullRequest,
        created_at: Timestamp,
        ended_at: Option<Timestamp>,
    ) -> Self {
        let draft = draft_history(pull_request, created_at, ended_at);
        let drafts = draft.intervals(created_at);
        Self {
            opened_as_draft: draft.starts_on,
            ready_at: first_ready(&draft, &drafts, created_at),
            drafts,
            closed: closed_history(pull_request, pull_request.merged_at).intervals(created_at),
        }
    }
}
