//! The fixed part of a walk: the pull request, its author, and the times at which it was a draft,
//! closed and ended.

use super::party::{PartyRef, WaitReason, WaitingParty};
use crate::domain::numbers::NumberRules;
use crate::domain::origin::AiRole;
use crate::domain::pull_request::PullRequest;
use crate::domain::timings::{Interval, Pauses};
use crate::event::SnapshotMark;
use crate::github::types::{Account, Timestamp};

/// A pull request as it is walked over, up to its end or to an earlier time.
pub(super) struct Life<'a> {
    pub(super) pull_request: &'a PullRequest,
    pub(super) rules: &'a NumberRules,
    /// The slugs of the teams that review where no one is asked.
    pub(super) default_teams: &'a [String],
    pub(super) author: &'a Account,
    pub(super) created_at: Timestamp,
    /// The time up to which it is walked over; `None` for all facts.
    pub(super) as_of: Option<Timestamp>,
    /// The end, or the closing as of a time at which it was closed; `None` while it is open.
    pub(super) ended_at: Option<Timestamp>,
    pub(super) ready_at: Option<Timestamp>,
    pub(super) drafts: Vec<Interval>,
    pub(super) closed: Vec<Interval>,
}

impl<'a> Life<'a> {
    /// Returns `None` while no snapshot of the pull request is known, and for a time before its
    /// creation.
    pub(super) fn of(
        pull_request: &'a PullRequest,
        repo: Option<&str>,
        rules: &'a NumberRules,
        as_of: Option<Timestamp>,
    ) -> Option<Self> {
        let conversation = pull_request.conversation.as_ref()?;
        let created_at = pull_request.created_at?;
        let author = &pull_request.author.as_ref()?.value.0;
        if as_of.is_some_and(|as_of| as_of < created_at) {
            return None;
        }
        let is_merged = pull_request.is_merged();
        let is_open = conversation.value.open && !is_merged;
        let ended_at = pull_request.merged_at.or_else(|| {
            (!is_open).then(|| conversation.value.closed_at.unwrap_or(conversation.at))
        });
        let mut pauses = Pauses::of(pull_request, created_at, ended_at);
        if is_open || is_merged {
            // A closing without an end was followed by a reopening at an unknown time.
            pauses.closed.retain(|closed| closed.to.is_some());
        }
        let closed_then = as_of.and_then(|as_of| pause_at(&pauses.closed, as_of));
        let ended_then = ended_at.filter(|ended| as_of.is_none_or(|as_of| *ended <= as_of));
        Some(Self {
            pull_request,
            rules,
            default_teams: rules.waiting.default_teams(repo),
            author,
            created_at,
            as_of,
            ended_at: ended_then.or(closed_then),
            ready_at: pauses.ready_at,
            drafts: pauses.drafts,
            closed: pauses.closed,
        })
    }

    /// Returns true if no stretch of time can be made of its facts.
    pub(super) fn is_misdated(&self) -> bool {
        self.pull_request.has_mark(SnapshotMark::ClockSkew)
            || self.ended_at.is_some_and(|ended| ended < self.created_at)
    }

    /// Returns true if facts of that time are walked over.
    pub(super) fn is_within(&self, at: Timestamp) -> bool {
        let end = self.ended_at.or(self.as_of);
        end.is_none_or(|end| at <= end)
    }

    pub(super) fn is_author(&self, account: &Account) -> bool {
        account.id == self.author.id
    }

    pub(super) fn is_human_other(&self, account: &Account) -> bool {
        self.rules.bots.is_human_other(account, self.author)
    }

    /// Returns true if the author may merge, or if that is not known.
    pub(super) fn author_may_merge(&self) -> bool {
        let details = self.pull_request.details.as_ref();
        let association = details.and_then(|details| details.value.author_association);
        association.is_none_or(|association| association.may_write())
    }

    /// Returns the author; of the pull request of a bot or AI agent the people who are assigned to
    /// it, if there are any.
    pub(super) fn authors(&self, since: Timestamp) -> Vec<WaitingParty<'a>> {
        let party = |account: &'a Account, why| WaitingParty {
            party: PartyRef::of(account),
            since,
            at: since,
            why,
        };
        let is_agent = |account| self.rules.origins.has_role(account, AiRole::Agent);
        if self.rules.bots.contains(self.author) || is_agent(self.author) {
            let details = self.pull_request.details.as_ref();
            let assignees = details.into_iter().flat_map(|known| &known.value.assignees);
            let people: Vec<_> = assignees
                .flatten()
                .filter(|account| self.is_human_other(account) && !is_agent(account))
                .map(|account| party(account, WaitReason::Assigned))
                .collect();
            if !people.is_empty() {
                return people;
            }
        }
        vec![party(self.author, WaitReason::Author)]
    }
}

/// Returns the beginning of the pause that holds at `at`, the end of a pause not included.
pub(super) fn pause_at(pauses: &[Interval], at: Timestamp) -> Option<Timestamp> {
    let begun = pauses.partition_point(|pause| pause.from <= at);
    let last = pauses[..begun].last()?;
    last.to.is_none_or(|to| at < to).then_some(last.from)
}
