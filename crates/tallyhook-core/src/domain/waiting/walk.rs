//! The walk over the acts of a pull request: who is asked, who has answered, and what stands.

use std::collections::BTreeMap;

use super::acts::{Act, Acts, Reviewer};
use super::life::{Life, pause_at};
use super::pairs::{Pairs, Rounds};
use super::party::{PartyRef, WaitReason, WaitingParty};
use super::rules::{Held, Standing};
use super::types::{PairEnd, Party, Turn, TurnStep, Turns, Waiting};
use crate::domain::review::Review;
use crate::event::{RequestedReviewers, ReviewDecision, ReviewState, SubjectKind};
use crate::github::types::{Account, AccountId, ReviewId, Timestamp};

/// The reasons for which the merge queue puts a pull request out that its author has to look at.
const QUEUE_FAILURES: &[&str] = &[
    "CI_FAILURE",
    "CI_TIMEOUT",
    "MERGE_CONFLICT",
    "BRANCH_PROTECTIONS",
    "GIT_TREE_INVALID",
    "INVALID_MERGE_COMMIT",
];

/// An opinion that stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opinion {
    review: ReviewId,
    pub(super) approved: bool,
    pub(super) at: Timestamp,
}

/// The last review or comment of a person, while the author has not answered it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returned {
    /// Changes are requested; else there are comments.
    pub(super) objection: bool,
    pub(super) since: Timestamp,
}

/// A person other than the author who was asked, reviewed or commented.
#[derive(Debug)]
pub(super) struct Person<'a> {
    pub(super) login: &'a str,
    pub(super) asked: Option<Timestamp>,
    /// Asked by the course of things to look again.
    pub(super) handed: Option<(Timestamp, WaitReason)>,
    pub(super) returned: Option<Returned>,
    pub(super) opinion: Option<Opinion>,
    has_reviewed: bool,
}

impl<'a> Person<'a> {
    const fn new(login: &'a str) -> Self {
        Self {
            login,
            asked: None,
            handed: None,
            returned: None,
            opinion: None,
            has_reviewed: false,
        }
    }

    pub(super) fn objects(&self) -> bool {
        self.opinion.is_some_and(|opinion| !opinion.approved)
    }

    pub(super) fn approves(&self) -> bool {
        self.opinion.is_some_and(|opinion| opinion.approved)
    }

    /// Notes that the author has to answer, from the first of several words on.
    fn returns(&mut self, objection: bool, at: Timestamp) {
        self.handed = None;
        if self
            .returned
            .is_none_or(|returned| returned.objection != objection)
        {
            self.returned = Some(Returned {
                objection,
                since: at,
            });
        }
    }

    /// Notes that the author has answered. Returns true if there was something to answer.
    fn hand_over(&mut self, at: Timestamp, why: WaitReason) -> bool {
        let was_returned = self.returned.take().is_some();
        if was_returned {
            self.handed = Some((at, why));
        }
        was_returned
    }
}

/// A team that is or was asked.
#[derive(Debug)]
pub(super) struct TeamRequest<'a> {
    pub(super) slug: &'a str,
    pub(super) asked: Option<Timestamp>,
}

/// The state at one time, and what is known of the time before.
pub(super) struct Walk<'a, 'l> {
    pub(super) life: &'l Life<'a>,
    /// The last time at which it became ready or was opened again.
    pub(super) clamp: Timestamp,
    pub(super) people: BTreeMap<AccountId, Person<'a>>,
    pub(super) standing: Standing<'a>,
    pub(super) teams: BTreeMap<i64, TeamRequest<'a>>,
    pub(super) bots: BTreeMap<i64, &'a str>,
    pub(super) queued_since: Option<Timestamp>,
    pub(super) put_out: Option<(Timestamp, &'a str)>,
    pub(super) auto_merge_since: Option<Timestamp>,
    pub(super) check_failed_at: Option<Timestamp>,
    pub(super) checks_pending_since: Option<Timestamp>,
    pub(super) conflicting_since: Option<Timestamp>,
    decision: Option<ReviewDecision>,
    pub(super) approved_since: Option<Timestamp>,
    /// The end of the last request, review or dismissal.
    pub(super) idle_since: Timestamp,
    inferred: bool,
    pairs: Pairs,
    rounds: Rounds,
    steps: Vec<TurnStep>,
    current: Option<(Timestamp, Held<'a>)>,
}

impl<'a, 'l> Walk<'a, 'l> {
    /// Walks over all acts.
    pub(super) fn over(life: &'l Life<'a>) -> Turns {
        let mut walk = Self {
            life,
            clamp: life.created_at,
            people: BTreeMap::new(),
            standing: Standing::default(),
            teams: BTreeMap::new(),
            bots: BTreeMap::new(),
            queued_since: None,
            put_out: None,
            auto_merge_since: None,
            check_failed_at: None,
            checks_pending_since: None,
            conflicting_since: None,
            decision: None,
            approved_since: None,
            idle_since: life.created_at,
            inferred: false,
            pairs: Pairs::default(),
            rounds: Rounds::default(),
            steps: Vec::new(),
            current: None,
        };
        for second in Acts::of(life).chunk_by(|(one, _), (two, _)| one == two) {
            let mut changed = false;
            for (at, act) in second {
                changed |= walk.act(*at, act);
            }
            if let (true, Some((at, _))) = (changed, second.first()) {
                walk.settle(*at);
            }
        }
        walk.finish()
    }

    /// Returns whether the act may have changed the turn.
    fn act(&mut self, at: Timestamp, act: &Act<'a>) -> bool {
        match act {
            Act::Paused => {}
            Act::Ready => self.become_ready(at),
            Act::Requested(reviewer) => self.request(at, *reviewer),
            Act::Withdrawn(reviewer) => self.withdraw(at, reviewer.kind, reviewer.id),
            Act::Reviewed(review) => self.review(at, review),
            Act::Dismissed(review) => return self.dismiss(at, review),
            Act::TeamLeft { id, reviewed } => self.leave_team(at, *id, *reviewed),
            Act::Commented(account) => return self.comment(at, account),
            Act::Pushed {
                hands_over,
                inferred,
            } => return self.push(at, *hands_over, *inferred),
            Act::AutoMerge(on) => self.auto_merge_since = on.then_some(at),
            Act::Enqueued => {
                self.queued_since.get_or_insert(at);
                self.put_out = None;
            }
            Act::Dequeued(reason) => {
                self.queued_since = None;
                let failure = QUEUE_FAILURES.iter().find(|failure| {
                    reason.is_some_and(|reason| reason.eq_ignore_ascii_case(failure))
                });
                self.put_out = failure.map(|failure| (at, *failure));
            }
            Act::Closed => (self.queued_since, self.auto_merge_since) = (None, None),
            Act::Reopened => self.clamp = at,
            Act::Listed(lists) => self.compare(at, lists),
            Act::AutoMergeSeen(true) => drop(self.auto_merge_since.get_or_insert(at)),
            Act::AutoMergeSeen(false) => self.auto_merge_since = None,
            Act::CheckFailed => self.check_failed_at = Some(at),
            Act::ChecksPending => self.checks_pending_since = Some(at),
            Act::Conflicting => self.conflicting_since = Some(at),
            Act::Decided(decision) => self.decision = Some(*decision),
        }
        true
    }

    fn become_ready(&mut self, at: Timestamp) {
        self.clamp = at;
        for person in self.people.values_mut() {
            person.hand_over(at, WaitReason::Ready);
        }
        self.pairs.become_ready(at);
    }

    fn request(&mut self, at: Timestamp, reviewer: Reviewer<'a>) {
        let is_draft = pause_at(&self.life.drafts, at).is_some();
        let was_asked_before = match reviewer.kind {
            SubjectKind::Bot => {
                self.bots.insert(reviewer.id, reviewer.name);
                return;
            }
            SubjectKind::User => {
                let person = person(&mut self.people, AccountId(reviewer.id), reviewer.name);
                (person.handed, person.returned) = (None, None);
                person.asked.get_or_insert(at);
                person.has_reviewed
            }
            SubjectKind::Team => {
                let team = self.teams.entry(reviewer.id).or_insert(TeamRequest {
                    slug: reviewer.name,
                    asked: None,
                });
                team.slug = reviewer.name;
                team.asked.get_or_insert(at);
                false
            }
        };
        // GitHub decides without bots.
        self.decision = None;
        let key = (reviewer.kind, reviewer.id);
        let asks = self.pairs.ask(key, at, is_draft);
        if was_asked_before || asks > 1 {
            self.rounds.answered(at);
        }
    }

    fn withdraw(&mut self, at: Timestamp, kind: SubjectKind, id: i64) {
        match kind {
            SubjectKind::Bot => drop(self.bots.remove(&id)),
            SubjectKind::Team => self.leave_team(at, id, false),
            SubjectKind::User => {
                let Some(person) = self.people.get_mut(&AccountId(id)) else {
                    return;
                };
                let was_waited_for = person.asked.take().is_some() | person.handed.take().is_some();
                if was_waited_for {
                    self.idle_since = at;
                }
                self.pairs.end((kind, id), at, PairEnd::Withdrawn);
            }
        }
    }

    fn leave_team(&mut self, at: Timestamp, id: i64, reviewed: bool) {
        let Some(team) = self.teams.get_mut(&id) else {
            return;
        };
        if team.asked.take().is_some() {
            self.idle_since = at;
        }
        let end = match reviewed {
            true => PairEnd::Answered,
            false => PairEnd::Withdrawn,
        };
        self.pairs.end((SubjectKind::Team, id), at, end);
    }

    fn review(&mut self, at: Timestamp, review: &'a Review) {
        if !self.life.is_human_other(&review.author) {
            self.bots.remove(&review.author.id.0);
            return;
        }
        (self.idle_since, self.decision) = (at, None);
        let person = person(&mut self.people, review.author.id, &review.author.login);
        person.has_reviewed = true;
        (person.asked, person.handed) = (None, None);
        match review.opinion() {
            None if person.objects() => person.returns(true, at),
            None if person.approves() => {}
            None => person.returns(false, at),
            Some(None) => (person.opinion, person.returned) = (None, None),
            Some(Some(state)) => {
                let approved = state == ReviewState::Approved;
                person.opinion = Some(Opinion {
                    review: review.id,
                    approved,
                    at,
                });
                match approved {
                    true => person.returned = None,
                    false => person.returns(true, at),
                }
            }
        }
        let key = (SubjectKind::User, review.author.id.0);
        self.pairs.end(key, at, PairEnd::Answered);
        if self.life.ready_at.is_some_and(|ready| at >= ready) {
            self.rounds.reviewed(at);
        }
    }

    fn dismiss(&mut self, at: Timestamp, review: &Review) -> bool {
        let Some(person) = self.people.get_mut(&review.author.id) else {
            return false;
        };
        let Some(opinion) = person.opinion.filter(|held| held.review == review.id) else {
            return false;
        };
        (self.idle_since, self.decision) = (at, None);
        person.opinion = None;
        if !opinion.approved {
            (person.returned, person.handed) = (None, None);
        } else if person.asked.is_none() {
            person.handed = Some((at, WaitReason::Dismissed));
        }
        true
    }

    fn comment(&mut self, at: Timestamp, account: &'a Account) -> bool {
        if self.life.is_author(account) {
            let mut answered = false;
            for person in self.people.values_mut() {
                if person.returned.is_some_and(|returned| !returned.objection) {
                    answered |= person.hand_over(at, WaitReason::Answered);
                }
            }
            return answered && self.words_count();
        }
        let key = (SubjectKind::User, account.id.0);
        self.pairs.respond(key, at);
        let person = person(&mut self.people, account.id, &account.login);
        let is_expected = person.asked.is_some() || person.approves();
        let is_first = person.returned.is_none();
        if !is_expected {
            person.returns(person.objects(), at);
        }
        !is_expected && is_first && self.words_count()
    }

    /// Returns true unless the review is over: comments pass no turn of an approved pull request.
    const fn words_count(&self) -> bool {
        self.approved_since.is_none()
    }

    fn push(&mut self, at: Timestamp, hands_over: bool, inferred: bool) -> bool {
        let merging = [
            self.check_failed_at.take(),
            self.checks_pending_since.take(),
            self.conflicting_since.take(),
        ];
        let was_decided = self.decision.take().is_some();
        let changed = was_decided || merging.iter().any(Option::is_some);
        if !hands_over {
            return changed;
        }
        let was_put_out = self.put_out.take().is_some();
        let mut passed = false;
        for person in self.people.values_mut() {
            match &mut person.handed {
                Some((since, WaitReason::Pushed)) => {
                    *since = at;
                    passed = true;
                }
                _ => passed |= person.hand_over(at, WaitReason::Pushed),
            }
        }
        self.inferred |= inferred && (passed || was_put_out);
        self.rounds.answered(at);
        changed || was_put_out || (passed && self.words_count())
    }

    /// Brings the requests to what GitHub's own lists show, where events were missed. An event of
    /// the second of the lists is newer than they may be.
    fn compare(&mut self, at: Timestamp, lists: &'a RequestedReviewers) {
        let is_listed = |key: (SubjectKind, i64)| lists.keys().any(|listed| listed == key);
        let before = |asked: Option<Timestamp>| asked.is_some_and(|asked| asked < at);
        let people = self
            .people
            .iter()
            .filter(|(_, person)| before(person.asked));
        let people = people.map(|(id, _)| (SubjectKind::User, id.0));
        let teams = self.teams.iter().filter(|(_, team)| before(team.asked));
        let teams = teams.map(|(id, _)| (SubjectKind::Team, *id));
        let gone: Vec<_> = people.chain(teams).filter(|key| !is_listed(*key)).collect();
        for (kind, id) in gone {
            self.withdraw(at, kind, id);
        }
        self.bots
            .retain(|id, _| lists.accounts.iter().any(|account| account.id.0 == *id));
        for account in &lists.accounts {
            let is_bot = self.life.rules.bots.contains(account);
            self.expect(
                at,
                Reviewer {
                    kind: if is_bot {
                        SubjectKind::Bot
                    } else {
                        SubjectKind::User
                    },
                    id: account.id.0,
                    name: &account.login,
                },
            );
        }
        for team in &lists.teams {
            self.expect(
                at,
                Reviewer {
                    kind: SubjectKind::Team,
                    id: team.id,
                    name: &team.slug,
                },
            );
        }
    }

    /// Notes that a reviewer is asked at the time of the lists, under the name that they show.
    fn expect(&mut self, at: Timestamp, reviewer: Reviewer<'a>) {
        let person = self.people.get_mut(&AccountId(reviewer.id));
        let person = person.filter(|_| reviewer.kind == SubjectKind::User);
        let team = self.teams.get_mut(&reviewer.id);
        let team = team.filter(|_| reviewer.kind == SubjectKind::Team);
        let mut is_asked = false;
        if let Some(person) = person {
            person.login = reviewer.name;
            is_asked = person.asked.is_some();
        }
        if let Some(team) = team {
            team.slug = reviewer.name;
            is_asked = team.asked.is_some();
        }
        let is_author = reviewer.id == self.life.author.id.0 && reviewer.kind != SubjectKind::Team;
        let has_answered = self.pairs.has_ended_at((reviewer.kind, reviewer.id), at);
        if !is_asked && !is_author && !has_answered {
            self.request(at, reviewer);
        }
    }

    /// Ends the second: completes or loses the approval, and passes the turn.
    fn settle(&mut self, at: Timestamp) {
        self.standing = Standing::of(self.people.values());
        let standing = &self.standing;
        let is_complete = match self.decision {
            Some(decision) => decision == ReviewDecision::Approved,
            None => {
                let is_team_asked = self.teams.values().any(|team| team.asked.is_some());
                let required = self.life.rules.waiting.required_approvals;
                let is_asked = standing.is_asked || is_team_asked;
                standing.approvals >= required && !standing.objects && !is_asked
            }
        };
        let last_approval = || {
            let opinions = self.people.values().filter_map(|person| person.opinion);
            let approvals = opinions.filter(|opinion| opinion.approved);
            approvals.map(|opinion| opinion.at).max()
        };
        self.approved_since = match (is_complete, self.approved_since, self.decision) {
            (false, ..) => None,
            (true, Some(since), _) => Some(since),
            (true, None, Some(_)) => last_approval().or(Some(at)),
            (true, None, None) => Some(at),
        };
        let held = match pause_at(&self.life.closed, at) {
            Some(since) => Held::closed(since),
            None => self.primary(pause_at(&self.life.drafts, at)),
        };
        match &self.current {
            Some((_, current)) if *current == held => {}
            _ => {
                self.end_step(at);
                self.current = Some((at, held));
            }
        }
    }

    fn end_step(&mut self, to: Timestamp) {
        if let Some((from, held)) = self.current.take()
            && from < to
        {
            self.steps.push(held.to_step(self.life, from, Some(to)));
        }
    }

    fn finish(mut self) -> Turns {
        let mut turns = Turns {
            inferred: self.inferred,
            ..Turns::default()
        };
        let mut open = None;
        match self.life.ended_at {
            Some(ended) => self.end_step(ended),
            None => open = self.current.take(),
        }
        turns.steps = std::mem::take(&mut self.steps);
        self.standing = Standing::of(self.people.values());
        if let Some((from, held)) = open {
            turns.steps.push(held.to_step(self.life, from, None));
            turns.waiting = self.waiting(&held, turns.current());
        }
        if self.life.is_misdated() {
            turns.steps.clear();
            return turns;
        }
        let (people, teams) = (self.people, self.teams);
        let party = |(kind, id): (SubjectKind, i64)| -> Option<Party> {
            Some(match kind {
                SubjectKind::Team => PartyRef::Team(Some(id), teams.get(&id)?.slug).into(),
                SubjectKind::User | SubjectKind::Bot => {
                    let id = AccountId(id);
                    PartyRef::Account(id, people.get(&id)?.login).into()
                }
            })
        };
        turns.pairs = self.pairs.finish(self.life.ended_at, party);
        turns.rounds = self.rounds.finish(self.life, &turns);
        turns
    }

    fn waiting(&self, held: &Held<'a>, current: Option<(Turn, Timestamp)>) -> Option<Waiting> {
        let (turn, kind_since) = current?;
        let who = held.who(self.life);
        Some(Waiting {
            on: turn.waiting_for()?,
            who: who.into_iter().map(WaitingParty::to_waiter).collect(),
            since: held.since,
            kind_since,
            because: held.because(),
            rule: held.rule,
            also: self.also(held),
            since_is_latest: held.since_is_latest(),
        })
    }
}

fn person<'a, 'p>(
    people: &'p mut BTreeMap<AccountId, Person<'a>>,
    id: AccountId,
    login: &'a str,
) -> &'p mut Person<'a> {
    let person = people.entry(id).or_insert(Person::new(login));
    if !login.is_empty() {
        person.login = login;
    }
    person
}
