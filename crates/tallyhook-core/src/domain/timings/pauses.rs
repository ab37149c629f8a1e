//! The times at which a pull request was a draft or closed, for what is not a stage.

use super::intervals::Interval;
use super::{closed_history, draft_history, first_ready};
use crate::domain::pull_request::PullRequest;
use crate::github::types::Timestamp;

/// A stretch in which a pull request was a draft or closed; `to` is `None` while it lasts.
#[derive(Clone, Copy, Debug)]
pub(in crate::domain) struct Pause {
    pub(in crate::domain) from: Timestamp,
    pub(in crate::domain) to: Option<Timestamp>,
}

/// The stretches in which a pull request was a draft and those in which it was closed, both by
/// time, as the stages have them.
pub(in crate::domain) struct Pauses {
    pub(in crate::domain) drafts: Vec<Pause>,
    pub(in crate::domain) closed: Vec<Pause>,
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
        let closed = closed_history(pull_request, pull_request.merged_at).intervals(created_at);
        Self {
            ready_at: first_ready(&draft, &drafts, created_at),
            drafts: drafts.into_iter().map(Pause::from).collect(),
            closed: closed.into_iter().map(Pause::from).collect(),
        }
    }
}

impl From<Interval> for Pause {
    fn from(Interval { from, to }: Interval) -> Self {
        Self { from, to }
    }
}
