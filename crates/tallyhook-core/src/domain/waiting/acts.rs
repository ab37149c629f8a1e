//! The facts that a walk acts on, in order.

use std::collections::{BTreeMap, BTreeSet};

use super::life::Life;
use crate::domain::origin::AiRole;
use crate::domain::review::Review;
use crate::domain::timeline::FactRef;
use crate::event::{FactKind, MergeState, RequestedReviewers, ReviewDecision, SubjectKind};
use crate::github::types::{Account, AccountId, AccountKind, ReviewId, Timestamp};

/// A fact that can pass the turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act<'a> {
    /// The creation, and the beginning of a draft.
    Paused,
    Ready,
    Requested(Reviewer<'a>),
    Withdrawn(Reviewer<'a>),
    Reviewed(&'a Review),
    Dismissed(&'a Review),
    /// A team is no longer asked: because of a review of that second, or for an unknown reason.
    TeamLeft {
        id: i64,
        reviewed: bool,
    },
    Commented(&'a Account),
    Pushed {
        /// It passes the turn: the author's or another person's.
        hands_over: bool,
        inferred: bool,
    },
    AutoMerge(bool),
    Enqueued,
    Dequeued(Option<&'a str>),
    Closed,
    Reopened,
    /// The newest lists of those who are asked.
    Listed(&'a RequestedReviewers),
    AutoMergeSeen(bool),
    CheckFailed,
    ChecksPending,
    Conflicting,
    Decided(ReviewDecision),
}

/// A person, bot or team that a request is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reviewer<'a> {
    pub(super) kind: SubjectKind,
    pub(super) id: i64,
    pub(super) name: &'a str,
}

impl Reviewer<'_> {
    const fn key(self) -> (SubjectKind, i64) {
        (self.kind, self.id)
    }
}

impl Act<'_> {
    /// Returns the place among acts of one second. A review answers a request of its second; of two
    /// reviews a request for changes is the later one.
    const fn place(&self) -> (u8, u8) {
        match self {
            Self::Paused => (0, 0),
            Self::Ready => (1, 0),
            Self::Requested(_) => (2, 0),
            Self::Withdrawn(_) => (3, 0),
            Self::Reviewed(review) => match review.original_state {
                Some(state) => (4, state as u8 + 1),
                None => (4, 0),
            },
            Self::Dismissed(_) => (5, 0),
            Self::TeamLeft { .. } => (6, 0),
            Self::Commented(_) => (7, 0),
            Self::Pushed { .. } => (8, 0),
            Self::AutoMerge(_) => (9, 0),
            Self::Enqueued => (10, 0),
            Self::Dequeued(_) => (11, 0),
            Self::Closed => (12, 0),
            Self::Reopened => (13, 0),
            Self::Listed(_) => (14, 0),
            Self::AutoMergeSeen(_) => (15, 0),
            Self::CheckFailed => (16, 0),
            Self::ChecksPending => (17, 0),
            Self::Conflicting => (18, 0),
            Self::Decided(_) => (19, 0),
        }
    }
}

/// The known requests to a team, and their removals, each by time.
#[derive(Default)]
struct TeamHistory {
    asked: Vec<Timestamp>,
    withdrawn: Vec<Timestamp>,
}

/// The acts of a pull request with their times, while they are collected.
pub(super) struct Acts<'a, 'l> {
    life: &'l Life<'a>,
    acts: Vec<(Timestamp, Act<'a>)>,
}

impl<'a, 'l> Acts<'a, 'l> {
    /// Returns the acts up to the end of the walk, in order. None is before the creation.
    pub(super) fn of(life: &'l Life<'a>) -> Vec<(Timestamp, Act<'a>)> {
        let mut acts = Acts {
            life,
            acts: Vec::new(),
        };
        acts.push(life.created_at, Act::Paused);
        acts.add_pauses();
        acts.add_requests();
        acts.add_reviews();
        acts.add_comments();
        acts.add_pushes();
        acts.add_merging();
        acts.add_snapshots();
        let mut acts = acts.acts;
        acts.sort_by_key(|(at, act)| (*at, act.place()));
        acts
    }

    fn push(&mut self, at: Timestamp, act: Act<'a>) {
        let at = at.max(self.life.created_at);
        if self.life.is_within(at) {
            self.acts.push((at, act));
        }
    }

    fn add_pauses(&mut self) {
        let life = self.life;
        for draft in &life.drafts {
            self.push(draft.from, Act::Paused);
            if let Some(ready) = draft.to {
                self.push(ready, Act::Ready);
            }
        }
        for closed in &life.closed {
            self.push(closed.from, Act::Closed);
            if let Some(reopened) = closed.to {
                self.push(reopened, Act::Reopened);
            }
        }
    }

    fn add_requests(&mut self) {
        let life = self.life;
        let mut first: BTreeMap<(SubjectKind, i64), Timestamp> = BTreeMap::new();
        let mut teams: BTreeMap<i64, TeamHistory> = BTreeMap::new();
        for kind in [FactKind::ReviewRequested, FactKind::ReviewRequestRemoved] {
            for fact in life.pull_request.timeline.facts(kind) {
                let Some(id) = fact.subject.filter(|id| *id != life.author.id.0) else {
                    continue;
                };
                let name = fact.detail.unwrap_or_default();
                let reviewer = self.reviewer(fact.subject_kind, id, name);
                let is_team = reviewer.kind == SubjectKind::Team;
                if kind == FactKind::ReviewRequestRemoved {
                    self.push(fact.at, Act::Withdrawn(reviewer));
                    if is_team {
                        teams.entry(id).or_default().withdrawn.push(fact.at);
                    }
                    continue;
                }
                self.push(fact.at, Act::Requested(reviewer));
                first.entry(reviewer.key()).or_insert(fact.at);
                if is_team {
                    teams.entry(id).or_default().asked.push(fact.at);
                }
            }
        }
        for ((kind, id), at) in &life.pull_request.first_requested {
            let is_known = first.get(&(*kind, *id)).is_some_and(|asked| asked <= at);
            let name = self.name_of(*kind, *id).filter(|_| !is_known);
            let Some(name) = name.filter(|_| *id != life.author.id.0) else {
                continue;
            };
            let reviewer = self.reviewer(Some(*kind), *id, name);
            self.push(*at, Act::Requested(reviewer));
            first.insert(reviewer.key(), *at);
            if reviewer.kind == SubjectKind::Team {
                teams.entry(*id).or_default().asked.insert(0, *at);
            }
        }
        self.add_team_ends(&teams, &first);
    }

    /// Adds the ends of the requests to teams, which GitHub has no event for: by a review of a
    /// member before the request that followed, or before the newest lists, which lack the team.
    /// Members are not known; a review by a person who was not asked is probably one of theirs.
    fn add_team_ends(
        &mut self,
        teams: &BTreeMap<i64, TeamHistory>,
        first: &BTreeMap<(SubjectKind, i64), Timestamp>,
    ) {
        let life = self.life;
        for (id, TeamHistory { asked, withdrawn }) in teams {
            let lists = life.pull_request.requested.as_ref();
            let lists = lists.filter(|lists| lists.value.teams.iter().all(|team| team.id != *id));
            let listed_at = lists.map(|lists| lists.at);
            for (place, asked_at) in asked.iter().enumerate() {
                let next = asked.get(place + 1).copied();
                let gone_at = match next {
                    Some(next) => next,
                    None => match listed_at.filter(|listed| listed > asked_at) {
                        Some(listed) => listed,
                        None => continue,
                    },
                };
                if withdrawn.iter().any(|at| at >= asked_at && *at <= gone_at) {
                    continue;
                }
                // At the time of the next request the new one has begun.
                let before = |at: Timestamp| at < gone_at || (next.is_none() && at == gone_at);
                let reviews = life.pull_request.reviews.values().filter(|review| {
                    review.submitted_at >= *asked_at
                        && before(review.submitted_at)
                        && life.is_human_other(&review.author)
                });
                let answer = reviews.min_by_key(|review| {
                    let asked = first.get(&(SubjectKind::User, review.author.id.0));
                    let was_asked = asked.is_some_and(|asked| *asked <= review.submitted_at);
                    (was_asked, review.submitted_at)
                });
                let act = |reviewed| Act::TeamLeft { id: *id, reviewed };
                match answer {
                    Some(review) => self.push(review.submitted_at, act(true)),
                    // Else the next request is the same one, asked again.
                    None if next.is_none() => self.push(gone_at, act(false)),
                    None => {}
                }
            }
        }
    }

    fn add_reviews(&mut self) {
        let life = self.life;
        for review in life.pull_request.reviews.values() {
            if life.is_author(&review.author) {
                // Its text is an answer to the reviewers, and no more.
                self.push(review.submitted_at, Act::Commented(&review.author));
            } else {
                self.push(review.submitted_at, Act::Reviewed(review));
            }
            if let Some(at) = review.dismissed_at {
                self.push(at.max(review.submitted_at), Act::Dismissed(review));
            }
        }
    }

    fn add_comments(&mut self) {
        let life = self.life;
        let timeline = &life.pull_request.timeline;
        let comments = timeline.facts(FactKind::Commented);
        // A comment on a line counts when its review was submitted; on its own only where that
        // review is unknown.
        let inline = timeline.facts(FactKind::ReviewCommented).filter(|fact| {
            let reviews = &life.pull_request.reviews;
            !fact
                .subject
                .is_some_and(|id| reviews.contains_key(&ReviewId(id)))
        });
        for fact in comments.chain(inline) {
            let actor = fact.actor;
            if let Some(actor) =
                actor.filter(|account| life.is_author(account) || life.is_human_other(account))
            {
                self.push(fact.at, Act::Commented(actor));
            }
        }
    }

    fn add_pushes(&mut self) {
        let life = self.life;
        let timeline = &life.pull_request.timeline;
        let hands_over = |actor: Option<&Account>| {
            let is_person = |account| !life.rules.bots.contains(account);
            actor.is_none_or(|account| life.is_author(account) || is_person(account))
        };
        for fact in timeline.facts(FactKind::Pushed) {
            let act = Act::Pushed {
                hands_over: hands_over(fact.actor),
                inferred: false,
            };
            self.push(fact.at, act);
        }
        for fact in self.unseen_commits() {
            let act = Act::Pushed {
                hands_over: hands_over(fact.actor),
                inferred: true,
            };
            self.push(fact.at, act);
        }
    }

    /// Returns the commits whose pushes are unknown. A push that follows before anyone else's act
    /// had the commit with it, and so had one to the commit itself, however the commit is dated.
    fn unseen_commits(&self) -> Vec<FactRef<'a>> {
        let life = self.life;
        let timeline = &life.pull_request.timeline;
        let heads = timeline.facts(FactKind::Pushed);
        let heads: BTreeSet<_> = heads.filter_map(|push| push.detail).collect();
        let pushes = timeline.times_of(FactKind::Pushed);
        let pushes: Vec<_> = pushes.filter(|at| life.is_within(*at)).collect();
        let others = self.acts.iter().filter(|(_, act)| self.is_of_others(act));
        let mut others: Vec<_> = others.map(|(at, _)| *at).collect();
        others.sort_unstable();
        let first_after = |times: &[Timestamp], place: usize| times.get(place).copied();
        let is_unseen = |commit: &FactRef<'_>| {
            let next_act = first_after(&others, others.partition_point(|at| *at <= commit.at));
            let next_push = first_after(&pushes, pushes.partition_point(|at| *at < commit.at));
            let is_with_next =
                next_push.is_some_and(|push| next_act.is_none_or(|other| push < other));
            commit.at > life.created_at
                && !is_with_next
                && commit.detail.is_none_or(|sha| !heads.contains(sha))
        };
        let commits = timeline.facts(FactKind::Committed);
        commits.filter(is_unseen).collect()
    }

    /// Returns whether it is a request, or the word of a person other than the author: what a push
    /// answers, or what follows an answer.
    fn is_of_others(&self, act: &Act<'_>) -> bool {
        match act {
            Act::Requested(reviewer) => reviewer.kind != SubjectKind::Bot,
            Act::Reviewed(review) => self.life.is_human_other(&review.author),
            Act::Commented(account) => !self.life.is_author(account),
            _ => false,
        }
    }

    fn add_merging(&mut self) {
        let timeline = &self.life.pull_request.timeline;
        for (kind, act) in [
            (FactKind::AutoMergeEnabled, Act::AutoMerge(true)),
            (FactKind::AutoMergeDisabled, Act::AutoMerge(false)),
            (FactKind::Enqueued, Act::Enqueued),
        ] {
            for at in timeline.times_of(kind) {
                self.push(at, act);
            }
        }
        for fact in timeline.facts(FactKind::Dequeued) {
            self.push(fact.at, Act::Dequeued(fact.detail));
        }
    }

    /// Adds the parts of snapshots that have no events of their own.
    fn add_snapshots(&mut self) {
        let life = self.life;
        if let Some(lists) = &life.pull_request.requested {
            self.push(lists.at, Act::Listed(&lists.value));
        }
        if let Some(details) = &life.pull_request.details
            && let Some(is_on) = details.value.auto_merge
        {
            let switched = [FactKind::AutoMergeEnabled, FactKind::AutoMergeDisabled];
            let mut switched = switched
                .into_iter()
                .flat_map(|kind| life.pull_request.timeline.times_of(kind));
            // An event of that second is newer than the payload of another.
            if !switched.any(|at| at == details.at) {
                self.push(details.at, Act::AutoMergeSeen(is_on));
            }
        }
        let Some((at, state)) = merge_state_of_head(life) else {
            return;
        };
        let pushes = [FactKind::Pushed, FactKind::Committed];
        let timeline = &life.pull_request.timeline;
        let head_since = pushes
            .into_iter()
            .filter_map(|kind| timeline.times_of(kind).next_back())
            .fold(life.created_at, Timestamp::max);
        for (since, act) in [
            (state.required_check_failed_at, Act::CheckFailed),
            (state.checks_pending_since, Act::ChecksPending),
        ] {
            if let Some(since) = since {
                self.push(since.max(head_since), act);
            }
        }
        if state.conflicting == Some(true) {
            self.push(at.max(head_since), Act::Conflicting);
        }
        if let Some(decision) = state.review_decision {
            self.push(at.max(head_since), Act::Decided(decision));
        }
    }

    /// Returns the reviewer of a request. One whose kind is unknown is of the kind that the newest
    /// lists show, else a bot if the account is known as one, else a person.
    fn reviewer(&self, kind: Option<SubjectKind>, id: i64, name: &'a str) -> Reviewer<'a> {
        let kind = kind.unwrap_or_else(|| {
            let lists = self.life.pull_request.requested.iter();
            let mut listed = lists.flat_map(|lists| lists.value.keys());
            let listed = listed.find(|(_, listed)| *listed == id);
            match listed {
                Some((kind, _)) => kind,
                None if self.is_known_bot(id, name) => SubjectKind::Bot,
                None => SubjectKind::User,
            }
        });
        let is_bot = kind == SubjectKind::User && self.life.rules.bots.contains_login(name);
        Reviewer {
            kind: if is_bot { SubjectKind::Bot } else { kind },
            id,
            name,
        }
    }

    /// Returns true for the id of an AI account, and for one that reviewed as a bot.
    fn is_known_bot(&self, id: i64, name: &str) -> bool {
        let Life {
            rules,
            pull_request,
            ..
        } = self.life;
        let account = Account {
            id: AccountId(id),
            login: name.to_owned(),
            kind: AccountKind::User,
        };
        let roles = [AiRole::Reviewer, AiRole::Agent];
        let mut reviewers = pull_request.reviews.values().map(|review| &review.author);
        roles
            .into_iter()
            .any(|role| rules.origins.has_role(&account, role))
            || reviewers.any(|reviewer| reviewer.id.0 == id && rules.bots.contains(reviewer))
    }

    /// Returns the name of a reviewer of whom no request is known.
    fn name_of(&self, kind: SubjectKind, id: i64) -> Option<&'a str> {
        let pull_request = self.life.pull_request;
        let lists = pull_request.requested.as_ref().map(|lists| &lists.value);
        if kind == SubjectKind::Team {
            let mut teams = lists?.teams.iter();
            return Some(&teams.find(|team| team.id == id)?.slug);
        }
        let listed = lists.into_iter().flat_map(|lists| &lists.accounts);
        let reviewers = pull_request.reviews.values().map(|review| &review.author);
        let mut accounts = listed.chain(reviewers);
        Some(&accounts.find(|account| account.id.0 == id)?.login)
    }
}

/// Returns the state of the merge and its time, if it is about the head that is known.
pub(super) fn merge_state_of_head<'a>(life: &Life<'a>) -> Option<(Timestamp, &'a MergeState)> {
    let state = life.pull_request.merge_state.as_ref()?;
    let branches = life.pull_request.branches.as_ref()?;
    (state.value.head_sha == branches.value.head_sha).then_some((state.at, &state.value))
}
