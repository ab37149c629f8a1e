//! Histories of one pull request, written or random, as the events GitHub would send.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tallyhook_core::event::{
    AuthorAssociation, Branches, CommitDates, Conversation, Diff, Fact, FactKind, FetchedCommit,
    FetchedPullRequest, MergeState, PullRequestDetails, PullRequestEvent, PullRequestSnapshot,
    Repo, RequestedReviewers, ReviewDecision, ReviewSnapshot, ReviewState, SubjectKind, Team,
};
use tallyhook_core::github::types::{
    Account, AccountId, AccountKind, PrKey, PrNumber, RepoId, ReviewId, Timestamp,
};

pub const KEY: PrKey = PrKey {
    repo: RepoId(7),
    number: PrNumber(3),
};
const START: i64 = 1_772_445_600;
/// The id of the team, which is the id of an account too.
const TEAM: i64 = 101;

/// A step of a history. One that is impossible in the current state is skipped.
#[derive(Clone, Debug)]
pub enum Step {
    ConvertToDraft,
    Ready,
    Push,
    Label(u8),
    Retitle(u8),
    /// A request of one of the accounts, or of a team where that is 0.
    Request(u8),
    Unrequest(u8),
    AutoMerge(bool),
    Assign(u8),
    ResolveThread,
    Comment(u8),
    InlineComment(u8),
    Review(u8, ReviewState),
    Dismiss(u8),
    Close,
    Reopen,
    Merge,
}

/// Generates steps with the seconds before each: often 0, so that equal timestamps happen.
pub fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let who = 0_u8..5;
    let opinion = prop_oneof![
        Just(ReviewState::Approved),
        Just(ReviewState::ChangesRequested),
        Just(ReviewState::Commented)
    ];
    let step = prop_oneof![
        1 => Just(Step::ConvertToDraft),
        2 => Just(Step::Ready),
        2 => Just(Step::Push),
        1 => any::<u8>().prop_map(Step::Label),
        1 => any::<u8>().prop_map(Step::Retitle),
        2 => who.clone().prop_map(Step::Request),
        1 => who.clone().prop_map(Step::Unrequest),
        1 => any::<bool>().prop_map(Step::AutoMerge),
        1 => who.clone().prop_map(Step::Assign),
        1 => Just(Step::ResolveThread),
        1 => who.clone().prop_map(Step::Comment),
        1 => who.clone().prop_map(Step::InlineComment),
        4 => (who.clone(), opinion).prop_map(|(who, state)| Step::Review(who, state)),
        1 => any::<u8>().prop_map(Step::Dismiss),
        1 => Just(Step::Close),
        1 => Just(Step::Reopen),
        1 => Just(Step::Merge),
    ];
    let pause = prop_oneof![2 => Just(0_i64), 1 => Just(1), 3 => 2_i64..200_000];
    prop::collection::vec((pause, step), 1..14)
}

/// The state of a pull request while its history is generated.
struct Life {
    now: i64,
    draft: bool,
    open: bool,
    merged_at: Option<i64>,
    closed_at: Option<i64>,
    title: String,
    labels: Vec<String>,
    head: u32,
    requested: BTreeSet<u8>,
    assigned: BTreeSet<u8>,
    auto_merge: bool,
    reviews: Vec<ReviewSnapshot>,
    events: Vec<PullRequestEvent>,
}

/// Returns the events of a history in order of time.
pub fn events(
    draft: bool,
    commit_age: Option<i64>,
    steps: &[(i64, Step)],
) -> Vec<PullRequestEvent> {
    let mut life = Life {
        now: START,
        draft,
        open: true,
        merged_at: None,
        closed_at: None,
        title: "first title".to_owned(),
        labels: Vec::new(),
        head: 0,
        requested: BTreeSet::new(),
        assigned: BTreeSet::new(),
        auto_merge: false,
        reviews: Vec::new(),
        events: Vec::new(),
    };
    life.happens(
        "opened",
        account(0),
        Some((FactKind::Opened, draft.then(|| "draft".to_owned()))),
    );
    if let (Some(age), Some(opened)) = (commit_age, life.events.first_mut()) {
        let at = |seconds| Some(Timestamp::clamped(seconds));
        opened.commits = Some(CommitDates {
            first: at(START - age),
            last: at(START),
            prehistoric: false,
            ..CommitDates::default()
        });
    }
    for (pause, step) in steps {
        life.now += pause;
        life.step(step);
    }
    life.events
}

/// Returns the pull request as GitHub's API shows it after these events, a prefix of a history.
pub fn fetched(events: &[PullRequestEvent], truncated: bool, settled: bool) -> FetchedPullRequest {
    let last = events.last().unwrap();
    let mut snapshot = last.pull_request.clone().unwrap();
    for seen in events
        .iter()
        .filter_map(|event| event.pull_request.as_ref())
    {
        snapshot.github_id = seen.github_id.or(snapshot.github_id);
        snapshot.branches = seen.branches.clone().or(snapshot.branches);
        snapshot.diff = seen.diff.clone().or(snapshot.diff);
        snapshot.requested = seen.requested.clone().or(snapshot.requested);
        snapshot.details = seen.details.clone().or(snapshot.details);
    }
    let facts = events.iter().flat_map(|event| &event.facts);
    let timeline = facts.filter_map(|fact| match fact.kind {
        FactKind::Pushed => Some(Fact {
            kind: FactKind::Committed,
            actor: Some(account(0)),
            ..fact.clone()
        }),
        FactKind::Commented => Some(fact.clone()),
        kind => kind.is_fetched().then(|| fact.clone()),
    });
    let timeline: Vec<_> = timeline.collect();
    let commits = timeline
        .iter()
        .filter(|fact| fact.kind == FactKind::Committed);
    let commits = commits.map(|fact| FetchedCommit {
        sha: fact.detail.clone().unwrap(),
        author: fact.actor.clone(),
        authored_at: Some(Timestamp::clamped(START)),
        committed_at: Some(fact.at),
        co_authors: vec![format!("{}@example.com", fact.at.epoch() % 5)],
    });
    let branches = snapshot.branches.as_ref();
    let is_open = snapshot.conversation.open;
    // An answer of the second of the update, or of later.
    let asked_at = Timestamp::clamped(snapshot.updated_at.epoch() + i64::from(settled) * 10);
    let merge_state = branches.filter(|_| is_open).map(|branches| MergeState {
        head_sha: branches.head_sha.clone(),
        review_decision: Some(ReviewDecision::ReviewRequired),
        conflicting: settled.then_some(asked_at.epoch() % 2 == 0),
        required_check_failed_at: None,
        checks_pending_since: Some(asked_at),
    });
    FetchedPullRequest {
        repo: last.repo.clone(),
        number: last.number,
        commit_list: commits.collect(),
        merge_state_at: merge_state.is_some().then_some(asked_at),
        merge_state,
        timeline,
        // A review in its state at submission, and as dismissed.
        reviews: events
            .iter()
            .filter_map(|event| event.review.clone())
            .collect(),
        commits: Some(CommitDates {
            first: Some(Timestamp::clamped(START)),
            last: Some(Timestamp::clamped(START)),
            prehistoric: false,
            ..CommitDates::default()
        }),
        pull_request: snapshot,
        truncated,
        settled,
    }
}

/// Returns one of five accounts: 0 is the author, the last is a bot.
fn account(who: u8) -> Account {
    let kind = if who == 4 {
        AccountKind::Bot
    } else {
        AccountKind::User
    };
    Account {
        id: AccountId(100 + i64::from(who)),
        login: format!("account-{who}"),
        kind,
    }
}

impl Life {
    fn step(&mut self, step: &Step) {
        let author = || account(0);
        match step {
            Step::ConvertToDraft if self.open && !self.draft => {
                self.draft = true;
                self.happens(
                    "converted_to_draft",
                    author(),
                    Some((FactKind::ConvertedToDraft, None)),
                );
            }
            Step::Ready if self.open && self.draft => {
                self.draft = false;
                self.happens(
                    "ready_for_review",
                    author(),
                    Some((FactKind::ReadyForReview, None)),
                );
            }
            Step::Push if self.open => {
                self.head += 1;
                let head = self.head_sha();
                self.happens(
                    "synchronize",
                    author(),
                    Some((FactKind::Pushed, Some(head))),
                );
            }
            Step::Label(label) => {
                self.labels = vec![format!("label-{label}")];
                self.happens(
                    "labeled",
                    author(),
                    Some((FactKind::Labeled, Some(format!("label-{label}")))),
                );
            }
            Step::Retitle(title) => {
                let before = std::mem::replace(&mut self.title, format!("title {title}"));
                self.happens(
                    "edited",
                    author(),
                    Some((FactKind::TitleEdited, Some(before))),
                );
            }
            Step::Request(who) if self.open => {
                self.requested.insert(*who);
                self.requests("review_requested", FactKind::ReviewRequested, *who);
            }
            Step::Unrequest(who) if self.requested.remove(who) => {
                self.requests(
                    "review_request_removed",
                    FactKind::ReviewRequestRemoved,
                    *who,
                );
            }
            Step::AutoMerge(on) if self.open && self.auto_merge != *on => {
                self.auto_merge = *on;
                let (action, kind) = match on {
                    true => ("auto_merge_enabled", FactKind::AutoMergeEnabled),
                    false => ("auto_merge_disabled", FactKind::AutoMergeDisabled),
                };
                self.happens(action, author(), Some((kind, None)));
            }
            Step::Assign(who) => {
                self.assigned.insert(*who);
                let login = account(*who).login;
                self.happens(
                    "assigned",
                    author(),
                    Some((FactKind::Assigned, Some(login))),
                );
            }
            Step::ResolveThread => {
                let what = (FactKind::ThreadResolved, Some("PRRT_1".to_owned()));
                self.happens("resolved", author(), Some(what));
                self.events.last_mut().unwrap().facts[0].subject = Some(9);
            }
            Step::Comment(who) => self.comments(*who),
            Step::InlineComment(who) => self.comments_inline(*who),
            Step::Review(who, state) => self.reviews(*who, *state),
            Step::Dismiss(which) => self.dismisses(*which),
            Step::Close if self.open => {
                (self.open, self.closed_at) = (false, Some(self.now));
                self.lag();
                self.ends(author(), FactKind::Closed);
            }
            Step::Reopen if !self.open && self.merged_at.is_none() => {
                (self.open, self.closed_at) = (true, None);
                self.happens("reopened", author(), Some((FactKind::Reopened, None)));
            }
            Step::Merge if self.open => {
                (self.open, self.closed_at, self.merged_at) =
                    (false, Some(self.now), Some(self.now));
                self.lag();
                self.ends(account(1), FactKind::Merged);
            }
            _ => {}
        }
    }

    /// Dates the snapshot of a close or merge a second after it, as GitHub often does.
    fn lag(&mut self) {
        self.now += self.now % 2;
    }

    fn head_sha(&self) -> String {
        format!("{:040x}", self.head)
    }

    fn requests(&mut self, action: &str, kind: FactKind, who: u8) {
        self.happens(action, account(0), Some((kind, None)));
        let fact = &mut self.events.last_mut().unwrap().facts[0];
        let (subject_kind, id, name) = match who {
            0 => (SubjectKind::Team, TEAM, "backend".to_owned()),
            who => {
                let account = account(who);
                (SubjectKind::of(&account), account.id.0, account.login)
            }
        };
        (fact.subject_kind, fact.subject, fact.detail) = (Some(subject_kind), Some(id), Some(name));
    }

    fn comments(&mut self, who: u8) {
        self.happens("created", account(who), None);
        let number = self.events.len() as i64;
        let event = self.events.last_mut().unwrap();
        let snapshot = event.pull_request.as_mut().unwrap();
        (snapshot.branches, snapshot.diff, snapshot.github_id) = (None, None, None);
        (snapshot.requested, snapshot.details) = (None, None);
        event.facts = vec![fact(
            self.now,
            FactKind::Commented,
            Some(number),
            None,
            account(who),
        )];
    }

    fn comments_inline(&mut self, who: u8) {
        self.happens("created", account(who), None);
        let review = self.reviews.last().map(|review| review.id.0);
        let event = self.events.last_mut().unwrap();
        event.pull_request.as_mut().unwrap().diff = None;
        event.facts = vec![fact(
            self.now,
            FactKind::ReviewCommented,
            review.or(Some(9)),
            None,
            account(who),
        )];
    }

    fn reviews(&mut self, who: u8, state: ReviewState) {
        let review = ReviewSnapshot {
            id: ReviewId(1000 + self.reviews.len() as i64),
            author: account(who),
            state,
            submitted_at: Timestamp::clamped(self.now),
            commit_id: Some(self.head_sha()),
            dismissed_at: None,
        };
        self.reviews.push(review.clone());
        // A review ends the request for it.
        self.requested.retain(|asked| *asked == 0 || *asked != who);
        self.reviewed("submitted", review);
    }

    fn dismisses(&mut self, which: u8) {
        if self.reviews.is_empty() {
            return;
        }
        let which = usize::from(which) % self.reviews.len();
        let review = &mut self.reviews[which];
        if matches!(
            review.state,
            ReviewState::Commented | ReviewState::Dismissed
        ) {
            return;
        }
        review.state = ReviewState::Dismissed;
        review.dismissed_at = Some(Timestamp::clamped(self.now));
        let review = review.clone();
        self.reviewed("dismissed", review);
    }

    fn reviewed(&mut self, action: &str, review: ReviewSnapshot) {
        self.happens(action, review.author.clone(), None);
        let event = self.events.last_mut().unwrap();
        event.pull_request.as_mut().unwrap().diff = None;
        event.review = Some(review);
    }

    fn ends(&mut self, actor: Account, kind: FactKind) {
        let at = self.closed_at.unwrap();
        self.happens("closed", actor.clone(), None);
        self.events.last_mut().unwrap().facts = vec![fact(at, kind, None, None, actor)];
    }

    /// Appends an event with the full pull request in its current state.
    fn happens(&mut self, action: &str, actor: Account, what: Option<(FactKind, Option<String>)>) {
        let facts = what.map(|(kind, detail)| fact(self.now, kind, None, detail, actor.clone()));
        let now = Timestamp::clamped(self.now);
        let snapshot = PullRequestSnapshot {
            updated_at: now,
            created_at: Timestamp::clamped(START),
            github_id: Some(33),
            author: account(0),
            merged_at: self.merged_at.map(Timestamp::clamped),
            conversation: Conversation {
                title: Some(self.title.clone()),
                body: None,
                html_url: Some("https://github.com/acme-corp/api-server/pull/3".to_owned()),
                labels: self.labels.clone(),
                open: self.open,
                closed_at: self.closed_at.map(Timestamp::clamped),
                marks: BTreeSet::new(),
            },
            branches: Some(Branches {
                draft: Some(self.draft),
                base_ref: "main".to_owned(),
                head_ref: "topic".to_owned(),
                head_sha: self.head_sha(),
                head_repo: Some(RepoId(7)),
            }),
            diff: Some(Diff {
                additions: Some(i64::from(self.head)),
                deletions: Some(0),
                changed_files: Some(1),
                commits: Some(i64::from(self.head) + 1),
            }),
            requested: Some(RequestedReviewers::new(
                self.requested
                    .iter()
                    .filter(|who| **who > 0)
                    .copied()
                    .map(account),
                self.requested.contains(&0).then(|| Team {
                    id: TEAM,
                    slug: "backend".to_owned(),
                }),
            )),
            details: Some(PullRequestDetails {
                author_association: Some(AuthorAssociation::Member),
                auto_merge: Some(self.auto_merge),
                merge_commit_sha: self.merged_at.map(|at| format!("{at:040x}")),
                assignees: Some(self.assigned.iter().copied().map(account).collect()),
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
            facts: facts.into_iter().collect(),
            review: None,
            commits: None,
        });
    }
}

fn fact(
    at: i64,
    kind: FactKind,
    subject: Option<i64>,
    detail: Option<String>,
    actor: Account,
) -> Fact {
    Fact {
        at: Timestamp::clamped(at),
        kind,
        subject,
        subject_kind: None,
        detail,
        actor: Some(actor),
    }
}
