//! The rules, in order: the first that holds is what a pull request waits for.

use super::acts::merge_state_of_head;
use super::life::Life;
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
    /// The reviewers; empty for all other turns.
    reviewers: Vec<WaitingParty<'a>>,
    reason: Reason<'a>,
}

/// The people whose opinions and words stand, in numbers: taken once for each second in which
/// something happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing<'a> {
    pub(super) approvals: usize,
    pub(super) objects: bool,
    /// A person is asked, not a team.
    pub(super) is_asked: bool,
    objection: Option<(Timestamp, &'a str)>,
    comments: Option<(Timestamp, &'a str)>,
    /// A person is asked or has to look again.
    is_looking: bool,
}

impl<'a> Standing<'a> {
    pub(super) fn of<'p>(people: impl Iterator<Item = &'p Person<'a>>) -> Self
    where
        'a: 'p,
    {
        let mut standing = Self::default();
        for person in people {
            standing.approvals += usize::from(person.approves());
            standing.objects |= person.objects();
            standing.is_asked |= person.asked.is_some();
            standing.is_looking |= person.asked.is_some() || person.handed.is_some();
            if let Some(returned) = person.returned {
                let first = match returned.objection {
                    true => &mut standing.objection,
                    false => &mut standing.comments,
                };
                let own = (returned.since, person.login);
                *first = Some(first.map_or(own, |first| first.min(own)));
            }
        }
        standing
    }
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
            return self.held(1, Turn::Author, since, Reason::Draft);
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
            reviewers: Vec::new(),
            reason,
        }
    }

    fn queued(&self) -> Option<Held<'a>> {
        let since = self.queued_since?;
        Some(self.held(2, Turn::MergeQueue, since, Reason::Queued))
    }

    fn put_out(&self) -> Option<Held<'a>> {
        let (since, failure) = self.put_out?;
        Some(self.held(3, Turn::Author, since, Reason::PutOut(failure)))
    }

    fn conflicting(&self) -> Option<Held<'a>> {
        let since = self.conflicting_since?;
        Some(self.held(4, Turn::Author, since, Reason::Conflicting))
    }

    fn objection(&self) -> Option<Held<'a>> {
        let (at, by) = self.standing.objection?;
        Some(self.held(5, Turn::Author, at, Reason::Objection { by, at }))
    }

    fn failed_check(&self) -> Option<Held<'a>> {
        let since = self.check_failed_at?;
        Some(self.held(6, Turn::Author, since, Reason::CheckFailed))
    }

    fn asked(&self) -> Option<Held<'a>> {
        let is_looking = self.standing.is_looking || !self.teams.is_empty();
        if self.approved_since.is_some() || !is_looking {
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
        let mut reviewers: Vec<_> = parties.collect();
        reviewers.sort_by_key(|waiting| (waiting.since, waiting.at, waiting.party));
        let since = reviewers.first()?.since;
        Some(Held {
            reviewers,
            ..self.held(7, Turn::Reviewers, since, Reason::Party)
        })
    }

    fn comments(&self) -> Option<Held<'a>> {
        if self.approved_since.is_some() {
            return None;
        }
        let (at, by) = self.standing.comments?;
        Some(self.held(8, Turn::Author, at, Reason::Comments { by, at }))
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
                reviewers: teams.collect(),
                ..self.held(9, Turn::Reviewers, since, Reason::Party)
            };
        }
        let mut people = self.people.values();
        let objector = people.find(|person| person.objects());
        let approvals = self.standing.approvals;
        let required = self.life.rules.waiting.required_approvals;
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
            true => self.held(12, Turn::Author, approved, reason),
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
            reviewers: Vec::new(),
            reason: Reason::Closed,
        }
    }

    /// Returns those whose turn it is, the one that is waited for longest first.
    pub(super) fn who(&self, life: &Life<'a>) -> Vec<WaitingParty<'a>> {
        match self.turn {
            Turn::Author => life.authors(self.since),
            _ => self.reviewers.clone(),
        }
    }

    pub(super) fn to_step(
        &self,
        life: &Life<'a>,
        from: Timestamp,
        to: Option<Timestamp>,
    ) -> TurnStep {
        let who = self.who(life);
        let named = who.iter().take(MOST_NAMED);
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
                .reviewers
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
                    .reviewers
                    .iter()
                    .map(|waiting| format!("{}: {}", waiting.party.name(), waiting.because()));
                parties.collect::<Vec<_>>().join("; ")
            }
            _ => self.because(),
        }
    }
}
