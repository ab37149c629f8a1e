//! The rules, in order: the first that holds is what a pull request waits for.

use super::acts::merge_state_of_head;
use super::party::{Day, PartyRef, WaitReason, WaitingParty};
use super::types::{Turn, TurnStep};
use super::walk::{Person, Walk};
use crate::github::types::Timestamp;

/// The most parties that a step names.
const MOST_NAMED: usize = 20;

/// A rule that holds, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held<'a> {
    pub(super) rule: u8,
    pub(super) turn: Turn,
    pub(super) since: Timestamp,
    pub(super) who: Vec<WaitingParty<'a>>,
    reason: Reason<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason<'a> {
    Closed,
    Draft,
    Queued,
    PutOut(&'a str),
    Conflicting,
    Objection {
        by: &'a str,
        at: Timestamp,
    },
    CheckFailed,
    /// That of the first party.
    Party,
    Comments {
        by: &'a str,
        at: Timestamp,
    },
    NoOneAsked,
    OnlyBotsAsked,
    ObjectionStands {
        by: &'a str,
    },
    ApprovalsMissing {
        approvals: usize,
        required: usize,
    },
    Undecided,
    ChecksPending,
    AutoMerge,
    Approved {
        author_may_merge: bool,
    },
}

/// A rule as a function of the state.
type Rule<'a, 'l> = fn(&Walk<'a, 'l>) -> Option<Held<'a>>;

impl<'a, 'l> Walk<'a, 'l> {
    /// Returns the first rule that holds; `draft_since` is `None` unless it is a draft.
    pub(super) fn primary(&self, draft_since: Option<Timestamp>) -> Held<'a> {
        if let Some(since) = draft_since {
            return self.author(1, since, Reason::Draft);
        }
        let rules = self.rules_in_order();
        let mut holding = rules.iter().filter_map(|rule| rule(self));
        holding.next().unwrap_or_else(|| match self.approved_since {
            Some(approved) => self.merging(approved),
            None => self.idle(),
        })
    }

    /// Returns what else it would wait for, were it not for `primary`.
    pub(super) fn also(&self, primary: &Held<'a>) -> Vec<String> {
        let rules = self.rules_in_order();
        let holding = rules.iter().filter_map(|rule| rule(self));
        let lower = holding.filter(|held| held.rule > primary.rule);
        lower
            .map(|held| held.summary())
            .chain(self.uncertain())
            .collect()
    }

    fn rules_in_order(&self) -> [Rule<'a, 'l>; 7] {
        [
            Self::queued,
            Self::put_out,
            Self::conflicting,
            Self::objection,
            Self::failed_check,
            Self::asked,
            Self::comments,
        ]
    }

    /// The facts about the merge that are of another head, and decide nothing.
    fn uncertain(&self) -> Vec<String> {
        let state = self.life.pull_request.merge_state.as_ref();
        let state = state.filter(|state| self.life.is_within(state.at));
        let Some(state) = state.filter(|_| merge_state_of_head(self.life).is_none()) else {
            return Vec::new();
        };
        let state = &state.value;
        let facts = [
            (
                state.conflicting == Some(true),
                "an earlier commit had conflicts with the base branch",
            ),
            (
                state.required_check_failed_at.is_some(),
                "a required check of an earlier commit failed",
            ),
            (
                state.checks_pending_since.is_some(),
                "checks of an earlier commit were pending",
            ),
        ];
        let known = facts.into_iter().filter(|(holds, _)| *holds);
        known.map(|(_, text)| text.to_owned()).collect()
    }

    fn clamped(&self, since: Timestamp) -> Timestamp {
        since.max(self.clamp)
    }

    fn held(&self, rule: u8, turn: Turn, since: Timestamp, reason: Reason<'a>) -> Held<'a> {
        Held {
            rule,
            turn,
            since: self.clamped(since),
            who: Vec::new(),
            reason,
        }
    }

    fn author(&self, rule: u8, since: Timestamp, reason: Reason<'a>) -> Held<'a> {
        Held {
            who: self.life.authors(self.clamped(since)),
            ..self.held(rule, Turn::Author, since, reason)
        }
    }

    fn queued(&self) -> Option<Held<'a>> {
        let since = self.queued_since?;
        Some(self.held(2, Turn::MergeQueue, since, Reason::Queued))
    }

    fn put_out(&self) -> Option<Held<'a>> {
        let (since, failure) = self.put_out?;
        Some(self.author(3, since, Reason::PutOut(failure)))
    }

    fn conflicting(&self) -> Option<Held<'a>> {
        let since = self.conflicting_since?;
        Some(self.author(4, since, Reason::Conflicting))
    }

    fn objection(&self) -> Option<Held<'a>> {
        let (by, at) = self.first_returned(true)?;
        Some(self.author(5, at, Reason::Objection { by, at }))
    }

    fn failed_check(&self) -> Option<Held<'a>> {
        let since = self.check_failed_at?;
        Some(self.author(6, since, Reason::CheckFailed))
    }

    fn asked(&self) -> Option<Held<'a>> {
        if self.approved_since.is_some() {
            return None;
        }
        let people = self.people.iter().filter_map(|(id, person)| {
            let party = PartyRef::Account(*id, person.login);
            let asked = person.asked.map(|at| (at, WaitReason::Asked));
            asked.or(person.handed).map(|(at, why)| (party, at, why))
        });
        let teams = self.teams.iter().filter_map(|(id, team)| {
            let party = PartyRef::Team(Some(*id), team.slug);
            team.asked.map(|at| (party, at, WaitReason::Asked))
        });
        let parties = people.chain(teams).map(|(party, at, why)| WaitingParty {
            party,
            since: self.clamped(at),
            at,
            why,
        });
        let mut who: Vec<_> = parties.collect();
        who.sort_by_key(|waiting| (waiting.since, waiting.at, waiting.party));
        let since = who.first()?.since;
        Some(Held {
            who,
            ..self.held(7, Turn::Reviewers, since, Reason::Party)
        })
    }

    fn comments(&self) -> Option<Held<'a>> {
        if self.approved_since.is_some() {
            return None;
        }
        let (by, at) = self.first_returned(false)?;
        Some(self.author(8, at, Reason::Comments { by, at }))
    }

    /// Returns the person whose words the author has left unanswered for longest.
    fn first_returned(&self, objection: bool) -> Option<(&'a str, Timestamp)> {
        let returned = self.people.values().filter_map(|person| {
            let returned = person.returned?;
            (returned.objection == objection).then_some((returned.since, person.login))
        });
        returned.min().map(|(since, login)| (login, since))
    }

    /// Rule 9.
    fn idle(&self) -> Held<'a> {
        let since = self.idle_since;
        if !self.life.default_teams.is_empty() {
            let teams = self.life.default_teams.iter().map(|slug| WaitingParty {
                party: PartyRef::Team(None, slug),
                since: self.clamped(since),
                at: since,
                why: WaitReason::Default,
            });
            return Held {
                who: teams.collect(),
                ..self.held(9, Turn::Reviewers, since, Reason::Party)
            };
        }
        let objector = self.people.values().find(|person| person.objects());
        let (approvals, required) = (self.approvals(), self.life.rules.waiting.required_approvals);
        let reason = match objector {
            Some(Person { login, .. }) => Reason::ObjectionStands { by: login },
            None if !self.bots.is_empty() => Reason::OnlyBotsAsked,
            None if approvals >= required => Reason::Undecided,
            None if approvals > 0 => Reason::ApprovalsMissing {
                approvals,
                required,
            },
            None => Reason::NoOneAsked,
        };
        self.held(9, Turn::Nobody, since, reason)
    }

    /// Rules 11 and 12.
    fn merging(&self, approved: Timestamp) -> Held<'a> {
        let pending = self
            .checks_pending_since
            .map(|at| (at, Reason::ChecksPending));
        let auto_merge = self.auto_merge_since.map(|at| (at, Reason::AutoMerge));
        let first = pending
            .into_iter()
            .chain(auto_merge)
            .min_by_key(|(at, _)| *at);
        if let Some((at, reason)) = first {
            return self.held(11, Turn::Ci, at.max(approved), reason);
        }
        let author_may_merge = self.life.author_may_merge();
        let reason = Reason::Approved { author_may_merge };
        match author_may_merge {
            true => self.author(12, approved, reason),
            false => self.held(12, Turn::Maintainers, approved, reason),
        }
    }
}

impl<'a> Held<'a> {
    pub(super) const fn closed(since: Timestamp) -> Self {
        Self {
            rule: 0,
            turn: Turn::Closed,
            since,
            who: Vec::new(),
            reason: Reason::Closed,
        }
    }

    pub(super) fn to_step(&self, from: Timestamp, to: Option<Timestamp>) -> TurnStep {
        let named = self.who.iter().take(MOST_NAMED);
        TurnStep {
            turn: self.turn,
            who: named.map(|waiting| waiting.party.into()).collect(),
            from,
            to,
            because: self.because(),
        }
    }

    /// Returns true if it may have been so before it was seen.
    pub(super) fn since_is_latest(&self) -> bool {
        self.reason == Reason::Conflicting
    }

    pub(super) fn because(&self) -> String {
        match self.reason {
            Reason::Closed => "closed until it was opened again".to_owned(),
            Reason::Draft => "draft".to_owned(),
            Reason::Queued => "in the merge queue".to_owned(),
            Reason::PutOut(failure) => format!("left the merge queue by {failure}"),
            Reason::Conflicting => "conflicts with the base branch".to_owned(),
            Reason::Objection { by, at } => format!(
                "changes requested by {by} on {} and not answered by a push",
                Day(at)
            ),
            Reason::CheckFailed => "a required check failed".to_owned(),
            Reason::Party => self
                .who
                .first()
                .map_or_else(String::new, WaitingParty::because),
            Reason::Comments { by, at } => {
                format!("commented by {by} on {} and not answered", Day(at))
            }
            Reason::NoOneAsked => "no one is asked".to_owned(),
            Reason::OnlyBotsAsked => "only bots are asked".to_owned(),
            Reason::ObjectionStands { by } => {
                format!("changes requested by {by} stand, and {by} is not asked again")
            }
            Reason::ApprovalsMissing {
                approvals,
                required,
            } => format!("{approvals} of {required} approvals, and no one else is asked"),
            Reason::Undecided => {
                "GitHub's rules require more approvals, and no one else is asked".to_owned()
            }
            Reason::ChecksPending => "approved, and checks are pending".to_owned(),
            Reason::AutoMerge => {
                "approved, and merges by itself once GitHub's conditions hold".to_owned()
            }
            Reason::Approved {
                author_may_merge: true,
            } => "approved, and the author may merge it".to_owned(),
            Reason::Approved {
                author_may_merge: false,
            } => "approved, and the author may not merge it".to_owned(),
        }
    }

    /// Returns the reason with those whose turn it is, if these are reviewers.
    fn summary(&self) -> String {
        match self.reason {
            Reason::Party => {
                let parties = self
                    .who
                    .iter()
                    .map(|waiting| format!("{}: {}", waiting.party.name(), waiting.because()));
                parties.collect::<Vec<_>>().join("; ")
            }
            _ => self.because(),
        }
    }
}
