//! A second implementation of the rules: a count second by second, each from all deeds before.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tallyhook_core::domain::waiting::Turn;
use tallyhook_core::event::ReviewState::{self, Approved, ChangesRequested, Commented};
use testkit::reviewing::{self, AUTHOR, BACKEND, BOT, Deed, FRONTEND, Story, dated};

use super::{after, second, time, turns};

/// The state that the definition's table speaks of, with seconds from the creation.
#[derive(Default)]
struct Model {
    draft_since: Option<i64>,
    closed: bool,
    merged: bool,
    queued_since: Option<i64>,
    kicked_since: Option<i64>,
    auto_since: Option<i64>,
    clamp: i64,
    requests: BTreeMap<u8, i64>,
    bots: Vec<u8>,
    handed: BTreeMap<u8, (i64, &'static str)>,
    returned: BTreeMap<u8, (i64, bool)>,
    /// By reviewer: the place of the review, and whether it approves.
    opinions: BTreeMap<u8, (usize, bool)>,
    /// Reviewer and state of each review, and whether it was dismissed.
    reviews: Vec<(u8, ReviewState, bool)>,
    approved_since: Option<i64>,
    idle_since: i64,
}

impl Model {
    fn does(&mut self, at: i64, deed: &Deed) {
        let is_human_other = |who: u8| who != AUTHOR && who != BOT;
        match deed {
            Deed::Ask(BOT) => self.bots.push(BOT),
            Deed::Unask(BOT) => self.bots.clear(),
            Deed::Ask(who) => {
                self.requests.entry(*who).or_insert(at);
                self.returned.remove(who);
                self.handed.remove(who);
            }
            Deed::Unask(who) => {
                self.requests.remove(who);
                self.handed.remove(who);
                self.idle_since = at;
            }
            Deed::Review(who, state) => {
                self.reviews.push((*who, *state, false));
                match *who {
                    BOT => self.bots.clear(),
                    AUTHOR => self.author_comments(at),
                    who => self.reviewed(at, who, *state),
                }
            }
            Deed::Dismiss(which) => self.dismissed(at, *which),
            Deed::Comment(AUTHOR) => self.author_comments(at),
            Deed::Comment(who) if is_human_other(*who) => {
                let approves = self
                    .opinions
                    .get(who)
                    .is_some_and(|(_, approves)| *approves);
                if !self.requests.contains_key(who) && !approves {
                    self.gives_back(at, *who, self.opinions.contains_key(who));
                }
            }
            Deed::Push(who) if *who != BOT => {
                self.kicked_since = None;
                for (since, why) in self.handed.values_mut() {
                    if *why == "push" {
                        *since = at;
                    }
                }
                for who in std::mem::take(&mut self.returned).into_keys() {
                    self.handed.insert(who, (at, "push"));
                }
            }
            Deed::ToDraft => self.draft_since = Some(at),
            Deed::Ready => {
                (self.draft_since, self.clamp) = (None, at);
                for who in std::mem::take(&mut self.returned).into_keys() {
                    self.handed.insert(who, (at, "ready"));
                }
            }
            Deed::AutoMerge(on) => self.auto_since = on.then_some(at),
            Deed::Enqueue => (self.queued_since, self.kicked_since) = (Some(at), None),
            Deed::Dequeue(reason) => {
                self.queued_since = None;
                self.kicked_since = (*reason == "CI_FAILURE").then_some(at);
            }
            Deed::Close => {
                self.closed = true;
                (self.queued_since, self.auto_since) = (None, None);
            }
            Deed::Reopen => (self.closed, self.clamp) = (false, at),
            Deed::Merge => self.merged = true,
            Deed::Label | Deed::Comment(_) | Deed::Push(_) => {}
        }
        let approvals = self.opinions.values().filter(|(_, approves)| *approves);
        let approved = approvals.count() >= 1
            && self.opinions.values().all(|(_, approves)| *approves)
            && self.requests.is_empty();
        self.approved_since = approved.then(|| self.approved_since.unwrap_or(at));
    }

    fn author_comments(&mut self, at: i64) {
        let commented: Vec<_> = self
            .returned
            .iter()
            .filter(|(_, (_, objects))| !objects)
            .map(|(who, _)| *who)
            .collect();
        for who in commented {
            self.returned.remove(&who);
            self.handed.insert(who, (at, "comment"));
        }
    }

    fn gives_back(&mut self, at: i64, who: u8, objects: bool) {
        self.handed.remove(&who);
        let known = self
            .returned
            .get(&who)
            .filter(|(_, known)| *known == objects);
        let since = known.map_or(at, |(since, _)| *since);
        self.returned.insert(who, (since, objects));
    }

    fn reviewed(&mut self, at: i64, who: u8, state: ReviewState) {
        self.idle_since = at;
        self.requests.remove(&who);
        if who >= 5 {
            self.requests
                .remove(if who == 5 { &BACKEND } else { &FRONTEND });
        }
        self.handed.remove(&who);
        let place = self.reviews.len() - 1;
        match (state, self.opinions.get(&who)) {
            (Approved, _) => {
                self.opinions.insert(who, (place, true));
                self.returned.remove(&who);
            }
            (ChangesRequested, _) => {
                self.opinions.insert(who, (place, false));
                self.gives_back(at, who, true);
            }
            (_, Some((_, true))) => {}
            (_, Some((_, false))) => self.gives_back(at, who, true),
            (_, None) => self.gives_back(at, who, false),
        }
    }

    fn dismissed(&mut self, at: i64, which: u8) {
        let place = usize::from(which) % self.reviews.len().max(1);
        let Some((who, state, dismissed)) = self.reviews.get_mut(place) else {
            return;
        };
        if *dismissed || *state == Commented {
            return;
        }
        *dismissed = true;
        let who = *who;
        let Some((_, approved)) = self
            .opinions
            .get(&who)
            .copied()
            .filter(|(held, _)| *held == place)
        else {
            return;
        };
        self.opinions.remove(&who);
        self.idle_since = at;
        if !approved {
            self.returned.remove(&who);
            self.handed.remove(&who);
        } else if !self.requests.contains_key(&who) {
            self.handed.insert(who, (at, "dismissed"));
        }
    }

    /// Returns whose turn it is, and since when; `None` once it is merged.
    fn turn(&self) -> Option<(Turn, i64)> {
        let first = |objects: bool| {
            let returned = self
                .returned
                .values()
                .filter(|(_, known)| *known == objects);
            returned.map(|(since, _)| *since).min()
        };
        let handed = self.handed.values().map(|(since, _)| *since);
        let clamped = |at: i64| at.max(self.clamp);
        let looking = self
            .requests
            .values()
            .copied()
            .chain(handed)
            .map(clamped)
            .min();
        let merging = self.approved_since.map(|approved| match self.auto_since {
            Some(auto) => (Turn::Ci, approved.max(auto)),
            None => (Turn::Author, approved),
        });
        let unapproved = || {
            let looking = looking.map(|since| (Turn::Reviewers, since));
            looking.or(first(false).map(|since| (Turn::Author, since)))
        };
        let (turn, since) = match () {
            () if self.merged => return None,
            () if self.closed => return Some((Turn::Closed, 0)),
            () if self.draft_since.is_some() => (Turn::Author, self.draft_since?),
            () if self.queued_since.is_some() => (Turn::MergeQueue, self.queued_since?),
            () if self.kicked_since.is_some() => (Turn::Author, self.kicked_since?),
            () if first(true).is_some() => (Turn::Author, first(true)?),
            () => merging
                .or_else(unapproved)
                .unwrap_or((Turn::Nobody, self.idle_since)),
        };
        Some((turn, clamped(since)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    /// The time of each turn equals a count with a clock, and so do the answers at each time.
    #[test]
    fn turns_equal_a_count_second_by_second(draft in any::<bool>(), deeds in reviewing::deeds(1, 12)) {
        let mut story = Story::opened(draft);
        let deeds: Vec<_> = dated(&deeds).into_iter().filter(|(at, deed)| story.does(*at, deed)).collect();
        let known = after(&story.events);
        let end = deeds.last().map_or(0, |(at, _)| *at) + 3;
        let mut model = Model { draft_since: draft.then_some(0), ..Model::default() };
        let mut counted: BTreeMap<Turn, i64> = BTreeMap::new();
        let mut deeds = deeds.iter().peekable();
        for now in 0..end {
            while let Some((at, deed)) = deeds.next_if(|(at, _)| *at <= now) {
                model.does(*at, deed);
            }
            let expected = model.turn();
            if let Some((turn, _)) = expected {
                *counted.entry(turn).or_default() += 1;
            }
            let waiting = turns(&known, Some(time(now))).waiting;
            let found = waiting.as_ref().map(|waiting| (waiting.on.as_str(), second(waiting.since)));
            let expected = expected.filter(|(turn, _)| *turn != Turn::Closed);
            prop_assert_eq!(found, expected.map(|(turn, since)| (turn.as_str(), since)), "at {}: {:?}", now, waiting);
        }
        // A story that ends closed has its end there.
        if model.closed {
            let closed_at = known.conversation.as_ref().unwrap().value.closed_at.unwrap();
            *counted.get_mut(&Turn::Closed).unwrap() -= end - second(closed_at);
            counted.retain(|_, seconds| *seconds > 0);
        }
        prop_assert_eq!(turns(&known, None).time_by(time(end)), counted);
    }
}
