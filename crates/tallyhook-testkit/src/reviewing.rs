//! Stories of one pull request's review: who asks, answers, pushes and merges, as the events that
//! GitHub would send. Their payloads list the requested reviewers as GitHub does: a review ends the
//! request of its author, and that of a team whose member the author is.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tallyhook_core::event::{
    AuthorAssociation, Branches, Conversation, Fact, FactKind, PullRequestDetails,
    PullRequestEvent, PullRequestSnapshot, Repo, RequestedReviewers, ReviewSnapshot, ReviewState,
    SubjectKind, Team,
};
use tallyhook_core::github::types::{Account, AccountId, AccountKind, ReviewId, Timestamp};

use crate::histories::KEY;

/// The creation of every story.
pub const CREATED: i64 = 1_772_445_600;

/// The author; 1 to 3 are people, 5 and 6 the members of the two teams.
pub const AUTHOR: u8 = 0;
pub const BOT: u8 = 4;
/// The teams' ids are those of the people 1 and 2, since they are of another space.
pub const BACKEND: u8 = 11;
pub const FRONTEND: u8 = 12;

/// Something that happens. What is impossible in the state of the story is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Ask(u8),
    Unask(u8),
    Review(u8, ReviewState),
    /// The review of that place among all.
    Dismiss(u8),
    Comment(u8),
    Push(u8),
    ToDraft,
    Ready,
    AutoMerge(bool),
    Enqueue,
    Dequeue(&'static str),
    Close,
    Reopen,
    Merge,
    Label,
}

/// Generates deeds with the seconds since the one before, of at least `shortest`: if that is 0,
/// often several of one second.
pub fn deeds(shortest: i64, longest: i64) -> impl Strategy<Value = Vec<(i64, Deed)>> {
    let state = prop_oneof![
        Just(ReviewState::Approved),
        Just(ReviewState::ChangesRequested),
        Just(ReviewState::Commented)
    ];
    let reviewer =
        prop_oneof![4 => 1_u8..4, 1 => Just(BOT), 1 => Just(BACKEND), 1 => Just(FRONTEND)];
    let reason = prop_oneof![Just("CI_FAILURE"), Just("MANUAL")];
    let deed = prop_oneof![
        5 => reviewer.clone().prop_map(Deed::Ask),
        1 => reviewer.prop_map(Deed::Unask),
        8 => (0_u8..7, state).prop_map(|(who, state)| Deed::Review(who, state)),
        2 => any::<u8>().prop_map(Deed::Dismiss),
        3 => (0_u8..7).prop_map(Deed::Comment),
        5 => prop_oneof![3 => Just(AUTHOR), 1 => Just(1_u8), 1 => Just(BOT)].prop_map(Deed::Push),
        1 => Just(Deed::ToDraft),
        2 => Just(Deed::Ready),
        1 => any::<bool>().prop_map(Deed::AutoMerge),
        1 => Just(Deed::Enqueue),
        1 => reason.prop_map(Deed::Dequeue),
        1 => Just(Deed::Close),
        2 => Just(Deed::Reopen),
        1 => Just(Deed::Merge),
        1 => Just(Deed::Label),
    ];
    let pause = match shortest {
        0 => prop_oneof![2 => Just(0_i64), 1 => Just(1), 3 => 2..longest].boxed(),
        shortest => (shortest..longest).boxed(),
    };
    prop::collection::vec((pause, deed), 1..18)
}

/// Returns deeds with the seconds from the creation to each, from those with the seconds between.
pub fn dated(deeds: &[(i64, Deed)]) -> Vec<(i64, Deed)> {
    let mut now = 0;
    let dated = deeds.iter().map(|(pause, deed)| {
        now += pause;
        (now, deed.clone())
    });
    dated.collect()
}

/// The state of a pull request while its story is written.
#[derive(Clone, Debug)]
pub struct Story {
    now: i64,
    pub draft: bool,
    pub open: bool,
    pub merged: bool,
    pub queued: bool,
    pub auto_merge: bool,
    closed_at: Option<i64>,
    association: AuthorAssociation,
    assignees: Vec<Account>,
    author: Account,
    head: u32,
    /// Those who were asked at some time.
    asked_once: BTreeSet<u8>,
    pub asked: BTreeSet<u8>,
    pub reviews: Vec<ReviewSnapshot>,
    pub events: Vec<PullRequestEvent>,
}

impl Story {
    /// Begins with the opening by a member of the organisation.
    pub fn opened(draft: bool) -> Self {
        Self::opened_by(
            draft,
            account(AUTHOR),
            AuthorAssociation::Member,
            Vec::new(),
        )
    }

    pub fn opened_by(
        draft: bool,
        author: Account,
        association: AuthorAssociation,
        assignees: Vec<Account>,
    ) -> Self {
        let mut story = Self {
            now: 0,
            draft,
            open: true,
            merged: false,
            queued: false,
            auto_merge: false,
            closed_at: None,
            association,
            assignees,
            author: author.clone(),
            head: 0,
            asked_once: BTreeSet::new(),
            asked: BTreeSet::new(),
            reviews: Vec::new(),
            events: Vec::new(),
        };
        let detail = draft.then(|| "draft".to_owned());
        story.happens("opened", author, Some((FactKind::Opened, None, detail)));
        story
    }

    /// Returns the story of deeds at those seconds after the creation.
    pub fn of(draft: bool, deeds: &[(i64, Deed)]) -> Self {
        let mut story = Self::opened(draft);
        for (at, deed) in deeds {
            story.does(*at, deed);
        }
        story
    }

    /// Returns the commit that is its head.
    pub fn head_sha(&self) -> String {
        format!("{:040x}", self.head)
    }

    /// Does a deed at that second after the creation. Returns false if it is impossible.
    pub fn does(&mut self, at: i64, deed: &Deed) -> bool {
        self.now = at;
        let event_count = self.events.len();
        let author = self.author.clone();
        match deed {
            Deed::Ask(who)
                if self.open && !self.is_second_team(*who) && self.asked.insert(*who) =>
            {
                self.asked_once.insert(*who);
                self.requests("review_requested", FactKind::ReviewRequested, *who);
            }
            Deed::Unask(who) if self.open && self.asked.remove(who) => {
                let kind = FactKind::ReviewRequestRemoved;
                self.requests("review_request_removed", kind, *who);
            }
            Deed::Review(who, state) if !self.is_outsider(*who) => self.submits(*who, *state),
            Deed::Dismiss(which) => self.dismisses(*which),
            Deed::Comment(who) => self.comments(*who),
            Deed::Push(who) if self.open => {
                self.head += 1;
                let head = Some(self.head_sha());
                let pusher = match who {
                    &AUTHOR => author,
                    who => account(*who),
                };
                self.happens("synchronize", pusher, Some((FactKind::Pushed, None, head)));
            }
            Deed::ToDraft if self.open && !self.draft => {
                self.draft = true;
                self.simply("converted_to_draft", FactKind::ConvertedToDraft);
            }
            Deed::Ready if self.open && self.draft => {
                self.draft = false;
                self.simply("ready_for_review", FactKind::ReadyForReview);
            }
            Deed::AutoMerge(on) if self.open && self.auto_merge != *on => {
                self.auto_merge = *on;
                match on {
                    true => self.simply("auto_merge_enabled", FactKind::AutoMergeEnabled),
                    false => self.simply("auto_merge_disabled", FactKind::AutoMergeDisabled),
                }
            }
            Deed::Enqueue if self.open && !self.queued => {
                self.queued = true;
                self.simply("enqueued", FactKind::Enqueued);
            }
            Deed::Dequeue(reason) if self.open && self.queued => {
                self.queued = false;
                let fact = (FactKind::Dequeued, None, Some((*reason).to_owned()));
                self.happens("dequeued", author, Some(fact));
            }
            Deed::Close if self.open => self.ends(false),
            Deed::Merge if self.open => self.ends(true),
            Deed::Reopen if !self.open && !self.merged => {
                (self.open, self.closed_at) = (true, None);
                self.simply("reopened", FactKind::Reopened);
            }
            Deed::Label => {
                let fact = (FactKind::Labeled, None, Some("label".to_owned()));
                self.happens("labeled", author, Some(fact));
            }
            _ => {}
        }
        self.events.len() > event_count
    }

    /// Returns true for someone who was never asked by name, while a team is that they are not in.
    /// No fact distinguishes their review from that of a member.
    fn is_outsider(&self, who: u8) -> bool {
        let is_in_team = |team: u8| who + 6 == team;
        let asked_team = self.asked.iter().find(|asked| **asked >= BACKEND);
        let is_person = who != AUTHOR && who != BOT;
        let is_strange = asked_team.is_some_and(|team| !is_in_team(*team));
        is_person && is_strange && !self.asked_once.contains(&who)
    }

    /// Returns true for a team while another is asked: which of them a review answers is not known
    /// either.
    fn is_second_team(&self, who: u8) -> bool {
        who >= BACKEND && self.asked.iter().any(|asked| *asked >= BACKEND)
    }

    fn simply(&mut self, action: &str, kind: FactKind) {
        self.happens(action, self.author.clone(), Some((kind, None, None)));
    }

    fn requests(&mut self, action: &str, kind: FactKind, who: u8) {
        let (subject_kind, id, name) = reviewer(who);
        self.happens(
            action,
            self.author.clone(),
            Some((kind, Some(id), Some(name))),
        );
        if let Some(fact) = self.last().facts.first_mut() {
            fact.subject_kind = Some(subject_kind);
        }
    }

    fn submits(&mut self, who: u8, state: ReviewState) {
        let review = ReviewSnapshot {
            id: ReviewId(1000 + self.reviews.len() as i64),
            author: match who {
                AUTHOR => self.author.clone(),
                who => account(who),
            },
            state,
            submitted_at: Timestamp::clamped(CREATED + self.now),
            commit_id: Some(self.head_sha()),
            dismissed_at: None,
        };
        self.asked.remove(&who);
        self.asked.remove(&(who + 6));
        self.reviews.push(review.clone());
        self.reviewed("submitted", review);
    }

    fn dismisses(&mut self, which: u8) {
        let count = self.reviews.len().max(1);
        let Some(review) = self.reviews.get_mut(usize::from(which) % count) else {
            return;
        };
        if matches!(
            review.state,
            ReviewState::Commented | ReviewState::Dismissed
        ) {
            return;
        }
        review.state = ReviewState::Dismissed;
        review.dismissed_at = Some(Timestamp::clamped(CREATED + self.now));
        let review = review.clone();
        self.reviewed("dismissed", review);
    }

    fn reviewed(&mut self, action: &str, review: ReviewSnapshot) {
        self.happens(action, review.author.clone(), None);
        self.last().review = Some(review);
    }

    fn comments(&mut self, who: u8) {
        let id = 5000 + self.events.len() as i64;
        let writer = match who {
            AUTHOR => self.author.clone(),
            who => account(who),
        };
        self.happens(
            "created",
            writer,
            Some((FactKind::Commented, Some(id), None)),
        );
        // A comment on an issue shows no more of the pull request.
        if let Some(snapshot) = &mut self.last().pull_request {
            (snapshot.branches, snapshot.requested, snapshot.details) = (None, None, None);
        }
    }

    fn ends(&mut self, merged: bool) {
        (self.open, self.merged, self.closed_at) = (false, merged, Some(self.now));
        (self.queued, self.auto_merge) = (false, false);
        self.simply("closed", FactKind::Closed);
        if merged {
            let fact = self.last().facts.first().cloned();
            let merged = fact.map(|fact| Fact {
                kind: FactKind::Merged,
                ..fact
            });
            self.last().facts.extend(merged);
        }
    }

    fn last(&mut self) -> &mut PullRequestEvent {
        self.events.last_mut().expect("a story has an opening")
    }

    /// Appends an event with the pull request in its current state.
    fn happens(
        &mut self,
        action: &str,
        actor: Account,
        fact: Option<(FactKind, Option<i64>, Option<String>)>,
    ) {
        let now = Timestamp::clamped(CREATED + self.now);
        let fact = fact.map(|(kind, subject, detail)| Fact {
            at: now,
            kind,
            subject,
            subject_kind: None,
            detail,
            actor: Some(actor.clone()),
        });
        let ended_at = |at| Timestamp::clamped(CREATED + at);
        let snapshot = PullRequestSnapshot {
            updated_at: now,
            created_at: Timestamp::clamped(CREATED),
            github_id: Some(33),
            author: self.author.clone(),
            merged_at: self.closed_at.filter(|_| self.merged).map(ended_at),
            conversation: Conversation {
                title: Some("a story".to_owned()),
                body: None,
                html_url: None,
                labels: Vec::new(),
                open: self.open,
                closed_at: self.closed_at.map(ended_at),
                marks: BTreeSet::new(),
            },
            branches: Some(Branches {
                draft: Some(self.draft),
                base_ref: "main".to_owned(),
                head_ref: "topic".to_owned(),
                head_sha: self.head_sha(),
                head_repo: Some(KEY.repo),
            }),
            diff: None,
            requested: Some(self.lists()),
            details: Some(PullRequestDetails {
                author_association: Some(self.association),
                auto_merge: Some(self.auto_merge),
                merge_commit_sha: None,
                assignees: Some(self.assignees.clone()),
            }),
        };
        self.events.push(PullRequestEvent {
            action: action.to_owned(),
            repo: Repo {
                id: KEY.repo,
                name: "acme-corp/api-server".to_owned(),
                private: Some(false),
                seen_at: now,
                installation: None,
            },
            number: KEY.number,
            actor: Some(actor),
            pull_request: Some(snapshot),
            facts: fact.into_iter().collect(),
            review: None,
            commits: None,
        });
    }

    fn lists(&self) -> RequestedReviewers {
        let (teams, accounts): (Vec<u8>, Vec<u8>) =
            self.asked.iter().partition(|who| **who >= BACKEND);
        let teams = teams.into_iter().map(|who| {
            let (_, id, slug) = reviewer(who);
            Team { id, slug }
        });
        RequestedReviewers {
            accounts: accounts.into_iter().map(account).collect(),
            teams: teams.collect(),
        }
    }
}

/// Returns one of the accounts.
pub fn account(who: u8) -> Account {
    let kind = match who {
        BOT => AccountKind::Bot,
        _ => AccountKind::User,
    };
    Account {
        id: AccountId(100 + i64::from(who)),
        login: format!("r{who}"),
        kind,
    }
}

fn reviewer(who: u8) -> (SubjectKind, i64, String) {
    match who {
        BACKEND => (SubjectKind::Team, 101, "backend".to_owned()),
        FRONTEND => (SubjectKind::Team, 102, "frontend".to_owned()),
        BOT => (SubjectKind::Bot, account(BOT).id.0, account(BOT).login),
        who => (SubjectKind::User, account(who).id.0, account(who).login),
    }
}
