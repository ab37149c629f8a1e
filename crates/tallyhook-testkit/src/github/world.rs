//! The state of GitHub: repositories, their pull requests, and the history of these. Webhooks and
//! API responses are made from this one state.

use std::collections::BTreeMap;

use serde_json::Value;
use tallyhook_core::github::types::Timestamp;
use uuid::Uuid;

use super::hooks::Hook;
use crate::payloads::{
    self, Account, Comment, GHOST_ID, HeadRepo, Label, Pr, Review, ReviewComment, Team,
};

/// The state behind the API.
#[derive(Default)]
pub struct World {
    /// The address of the API, for links.
    pub(super) url: String,
    pub repositories: Vec<Repository>,
    pub(super) hooks: Vec<Hook>,
    ids: IdSequence,
}

pub struct Repository {
    /// Name, owner and id, as payloads show them.
    pub place: payloads::World,
    /// Former names, which redirect to it.
    pub(super) former: Vec<String>,
    /// By number.
    pub pulls: BTreeMap<i64, PullRequest>,
    /// Branches by name, with the timestamps of their commits. The branch of a pull request need
    /// not be among them.
    pub(super) branches: BTreeMap<String, Vec<Timestamp>>,
    pub archived: bool,
    /// True if its owner's plan has no draft pull requests.
    pub without_drafts: bool,
}

/// A pull request with its history.
#[derive(Clone)]
pub struct PullRequest {
    pub pr: Pr,
    /// In the order in which they were submitted, which is not that of their ids.
    pub reviews: Vec<Review>,
    pub comments: Vec<Comment>,
    pub inline: Vec<ReviewComment>,
    pub commits: Vec<Commit>,
    /// In the order in which it happened.
    pub timeline: Vec<TimelineEntry>,
    pub queued: bool,
    /// The checks of the head, with each one's name.
    pub checks: Vec<Check>,
    /// GitHub's decision on the reviews, `None` where no rule requires one.
    pub review_decision: Option<&'static str>,
    /// `None` while GitHub has not tried the merge.
    pub conflicting: Option<bool>,
    pub opened_as_draft: bool,
    /// The number of heads that its branch has had.
    pub(super) heads: u32,
}

/// A check of a head commit.
#[derive(Clone, Debug)]
pub enum Check {
    /// Not completed while it has no conclusion.
    Run {
        required: bool,
        started_at: Option<Timestamp>,
        completed: Option<(Timestamp, &'static str)>,
    },
    Status {
        required: bool,
        created_at: Timestamp,
        state: &'static str,
    },
}

#[derive(Clone, Debug)]
pub struct Commit {
    pub sha: String,
    pub message: String,
    pub author: Option<Account>,
    pub authored_at: Timestamp,
    pub committed_at: Timestamp,
}

/// An entry of a timeline.
#[derive(Clone, Debug)]
pub struct TimelineEntry {
    pub id: i64,
    pub at: Timestamp,
    /// `None`: the account was deleted.
    pub actor: Option<Account>,
    pub what: TimelineEvent,
}

#[derive(Clone, Debug)]
pub enum TimelineEvent {
    ReadyForReview,
    ConvertedToDraft,
    Requested(Reviewer),
    RequestRemoved(Reviewer),
    /// The review's id.
    Reviewed(i64),
    /// The review's id, and what it was before.
    Dismissed(i64, String),
    /// The comment's id.
    Commented(i64),
    Labeled(Label),
    Unlabeled(Label),
    Renamed {
        from: String,
        to: String,
    },
    ForcePushed {
        before: String,
        after: String,
    },
    Enqueued,
    /// GitHub's reason.
    Dequeued(&'static str),
    Merged,
    Closed,
    Reopened,
}

/// A requested reviewer.
#[derive(Clone, Debug)]
pub enum Reviewer {
    Account(Account),
    Team(Team),
}

/// A webhook that GitHub posts after an act. A test decides whether it arrives.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub event: &'static str,
    pub guid: String,
    pub at: Timestamp,
    pub payload: Value,
}

/// A generator of unique ids beyond 32 bits, as GitHub's are.
#[derive(Default)]
pub(super) struct IdSequence(i64);

impl IdSequence {
    pub(super) fn next(&mut self) -> i64 {
        self.0 += 1;
        3_000_000_000 + self.0
    }

    /// Returns the id of a review. GitHub assigns it when the review is begun, so that ids do not
    /// show the order of submission. Ids are unique, since the modulus is a prime.
    pub(super) fn next_review(&mut self) -> i64 {
        3_000_000_000 + self.next() % 2_147_483_647 * 1_327_217_885 % 2_147_483_647
    }

    fn next_guid(&mut self) -> String {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &self.next().to_be_bytes()).to_string()
    }
}

/// A pull request as it is opened.
pub struct Opening<'a> {
    /// The ghost's account stands for one that was deleted.
    pub author: &'a Account,
    pub title: &'a str,
    pub branch: &'a str,
    pub head_repo: HeadRepo,
    pub draft: bool,
    pub at: Timestamp,
    /// The author and committer dates of its commits.
    pub commits: &'a [(Timestamp, Timestamp)],
}

impl World {
    pub fn add_repository(&mut self, id: i64, full_name: &str) -> &mut Repository {
        let (owner, name) = full_name.split_once('/').unwrap();
        let known = self
            .repositories
            .iter()
            .find(|known| known.place.owner.login == owner);
        let owner_id = known.map_or_else(|| self.ids.next(), |known| known.place.owner.id);
        let place = payloads::World {
            owner: Account::organization(owner_id, owner),
            repo: name.to_owned(),
            repo_id: id,
            ..payloads::World::acme()
        };
        self.repositories.push(Repository {
            place,
            former: Vec::new(),
            pulls: BTreeMap::new(),
            branches: BTreeMap::new(),
            archived: false,
            without_drafts: false,
        });
        self.repositories.last_mut().unwrap()
    }

    /// Finds a repository by its name, in any case, as GitHub does.
    pub fn find(&self, full_name: &str) -> Option<&Repository> {
        self.repositories
            .iter()
            .find(|known| known.place.full_name().eq_ignore_ascii_case(full_name))
    }

    /// Finds a repository by a former name.
    pub(super) fn formerly(&self, full_name: &str) -> Option<&Repository> {
        self.repositories.iter().find(|known| {
            known
                .former
                .iter()
                .any(|former| former.eq_ignore_ascii_case(full_name))
        })
    }

    /// # Panics
    /// If there is none.
    pub fn repository(&mut self, full_name: &str) -> &mut Repository {
        let found = self
            .repositories
            .iter_mut()
            .find(|known| known.place.full_name() == full_name);
        found.unwrap_or_else(|| panic!("no repository {full_name}"))
    }

    /// Renames a repository; the old name redirects to the new one.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        self.repository(from).rename(to);
        for hook in self
            .hooks
            .iter_mut()
            .filter(|hook| hook.owner == format!("repos/{from}"))
        {
            hook.owner = format!("repos/{to}");
        }
    }

    /// Opens the next pull request of a repository. Returns its number and webhooks.
    pub fn open(&mut self, repository: &str, opening: &Opening<'_>) -> (i64, Vec<Webhook>) {
        let (id, issue_id) = (self.ids.next(), self.ids.next());
        let repository = self.repository(repository);
        let number = repository
            .pulls
            .last_key_value()
            .map_or(1, |(number, _)| number + 1);
        let pull = PullRequest::opened(&repository.place, number, (id, issue_id), opening);
        let payload =
            payloads::pull_request_event(&pull.pr, "opened", opening.author, serde_json::json!({}));
        repository.pulls.insert(number, pull);
        (
            number,
            self.webhooks(opening.at, vec![("pull_request", payload)]),
        )
    }

    /// Performs an act on a pull request at `at`, but no earlier than the last one. Returns its
    /// webhooks, none where the act is impossible.
    pub fn act(
        &mut self,
        repository: &str,
        number: i64,
        by: &Account,
        at: Timestamp,
        act: &super::acts::Act,
    ) -> Vec<Webhook> {
        let mut ids = std::mem::take(&mut self.ids);
        let pull = self.repository(repository).pulls.get_mut(&number).unwrap();
        let at = at.max(pull.updated_at());
        let payloads = pull.act(&mut ids, by, at, act);
        self.ids = ids;
        self.webhooks(at, payloads)
    }

    fn webhooks(&mut self, at: Timestamp, payloads: Vec<(&'static str, Value)>) -> Vec<Webhook> {
        let webhooks = payloads.into_iter().map(|(event, payload)| Webhook {
            event,
            guid: self.ids.next_guid(),
            at,
            payload,
        });
        webhooks.collect()
    }
}

impl Repository {
    fn rename(&mut self, to: &str) {
        let (owner, name) = to.split_once('/').unwrap();
        self.former.push(self.place.full_name());
        owner.clone_into(&mut self.place.owner.login);
        name.clone_into(&mut self.place.repo);
        for pull in self.pulls.values_mut() {
            pull.pr.world = self.place.clone();
        }
    }
}

impl PullRequest {
    fn opened(
        place: &payloads::World,
        number: i64,
        (id, issue_id): (i64, i64),
        opening: &Opening<'_>,
    ) -> Self {
        let author = known(opening.author);
        let mut pr = Pr::new(
            place,
            number,
            author.as_ref(),
            opening.title,
            opening.branch,
            &opening.at.to_string(),
        );
        (pr.id, pr.issue_id, pr.draft) = (id, issue_id, opening.draft);
        pr.head_repo = opening.head_repo.clone();
        let mut pull = Self {
            pr,
            reviews: Vec::new(),
            comments: Vec::new(),
            inline: Vec::new(),
            commits: Vec::new(),
            timeline: Vec::new(),
            queued: false,
            checks: Vec::new(),
            review_decision: None,
            conflicting: None,
            opened_as_draft: opening.draft,
            heads: 0,
        };
        for &(authored_at, committed_at) in opening.commits {
            let sha = pull.next_head();
            pull.commits.push(Commit {
                sha,
                message: "Change the server".to_owned(),
                author: author.clone(),
                authored_at,
                committed_at,
            });
        }
        pull.pr.commits = i64::try_from(opening.commits.len()).unwrap();
        pull
    }

    /// Moves the branch to a new head. Returns its SHA.
    pub(super) fn next_head(&mut self) -> String {
        self.heads += 1;
        let name = format!(
            "{}/{}/{}",
            self.pr.world.repo_id, self.pr.number, self.heads
        );
        self.pr.head_sha = payloads::sha(&name);
        self.pr.head_sha.clone()
    }

    pub fn updated_at(&self) -> Timestamp {
        Timestamp::parse(&self.pr.updated_at).unwrap()
    }

    pub fn is_open(&self) -> bool {
        self.pr.closed_at.is_none()
    }
}

/// Returns the account, or `None` for the ghost, who stands for deleted accounts.
pub(super) fn known(account: &Account) -> Option<Account> {
    (account.id != GHOST_ID).then(|| account.clone())
}
