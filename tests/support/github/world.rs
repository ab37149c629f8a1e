//! What is on GitHub: repositories, their pull requests, and all that happened to these. The webhooks that tell of it
//! and the answers of the API are made from this one state.

use std::collections::BTreeMap;

use serde_json::Value;
use tallyhook_core::github::types::Timestamp;
use uuid::Uuid;

use super::hooks::Hook;
use crate::support::payloads::{
    self, Account, Comment, GHOST_ID, HeadRepo, Label, Pr, Review, ReviewComment, Team,
};

/// Everything that the API tells of.
#[derive(Default)]
pub(crate) struct World {
    /// Where the API is reached, for links.
    pub(super) url: String,
    pub(crate) repositories: Vec<Repository>,
    pub(super) hooks: Vec<Hook>,
    ids: Ids,
}

pub(crate) struct Repository {
    /// Name, owner and id, as payloads show them.
    pub(crate) place: payloads::World,
    /// Names of before, which lead to it.
    pub(super) former: Vec<String>,
    /// By number.
    pub(crate) pulls: BTreeMap<i64, PullRequest>,
    /// By name, with the moments of their commits. That of every pull request need not be among them.
    pub(super) branches: BTreeMap<String, Vec<Timestamp>>,
    pub(crate) archived: bool,
    /// Its owner's plan has no drafts.
    pub(crate) without_drafts: bool,
}

/// A pull request with its history.
#[derive(Clone)]
pub(crate) struct PullRequest {
    pub(crate) pr: Pr,
    /// In the order in which they were submitted, which is not that of their ids.
    pub(crate) reviews: Vec<Review>,
    pub(crate) comments: Vec<Comment>,
    pub(crate) inline: Vec<ReviewComment>,
    pub(crate) commits: Vec<Commit>,
    /// In the order in which it happened.
    pub(crate) timeline: Vec<Happening>,
    pub(crate) queued: bool,
    pub(crate) opened_as_draft: bool,
    /// How many heads its branch has had.
    pub(super) heads: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) sha: String,
    pub(crate) author: Option<Account>,
    pub(crate) authored_at: Timestamp,
    pub(crate) committed_at: Timestamp,
}

/// An entry of a timeline.
#[derive(Clone, Debug)]
pub(crate) struct Happening {
    pub(crate) id: i64,
    pub(crate) at: Timestamp,
    /// `None`: the account was deleted.
    pub(crate) actor: Option<Account>,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
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

/// Who is asked for a review.
#[derive(Clone, Debug)]
pub(crate) enum Reviewer {
    Account(Account),
    Team(Team),
}

/// What GitHub posts to webhooks when something happened. Whether it arrives is another matter.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) event: &'static str,
    pub(crate) guid: String,
    pub(crate) at: Timestamp,
    pub(crate) payload: Value,
}

/// Ids that nothing else has, beyond 32 bits as GitHub's are.
#[derive(Default)]
pub(super) struct Ids(i64);

impl Ids {
    pub(super) fn next(&mut self) -> i64 {
        self.0 += 1;
        3_000_000_000 + self.0
    }

    /// A review has its id from when it was begun, so that ids do not tell the order of reviews. Different for different
    /// numbers, since the modulus is a prime.
    pub(super) fn next_review(&mut self) -> i64 {
        3_000_000_000 + self.next() % 2_147_483_647 * 1_327_217_885 % 2_147_483_647
    }

    fn next_guid(&mut self) -> String {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &self.next().to_be_bytes()).to_string()
    }
}

/// A pull request as it is opened.
pub(crate) struct Opening<'a> {
    /// The ghost's account stands for one that was deleted.
    pub(crate) author: &'a Account,
    pub(crate) title: &'a str,
    pub(crate) branch: &'a str,
    pub(crate) head_repo: HeadRepo,
    pub(crate) draft: bool,
    pub(crate) at: Timestamp,
    /// When its commits were written and committed.
    pub(crate) commits: &'a [(Timestamp, Timestamp)],
}

impl World {
    pub(crate) fn add_repository(&mut self, id: i64, full_name: &str) -> &mut Repository {
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

    /// A repository by its name, whose case GitHub does not mind.
    pub(crate) fn find(&self, full_name: &str) -> Option<&Repository> {
        self.repositories
            .iter()
            .find(|known| known.place.full_name().eq_ignore_ascii_case(full_name))
    }

    /// A repository by a name of before.
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
    pub(crate) fn repository(&mut self, full_name: &str) -> &mut Repository {
        let found = self
            .repositories
            .iter_mut()
            .find(|known| known.place.full_name() == full_name);
        found.unwrap_or_else(|| panic!("no repository {full_name}"))
    }

    /// The old name leads to the new one from now on.
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

    /// Opens the next pull request of a repository: its number, and what GitHub tells of it.
    pub(crate) fn open(&mut self, repository: &str, opening: &Opening<'_>) -> (i64, Vec<Webhook>) {
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
            self.told(opening.at, vec![("pull_request", payload)]),
        )
    }

    /// Somebody does something to a pull request: what GitHub tells of it, which is nothing where it cannot be done.
    /// It happens at `at`, but no earlier than what happened last.
    pub(crate) fn act(
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
        self.told(at, payloads)
    }

    fn told(&mut self, at: Timestamp, payloads: Vec<(&'static str, Value)>) -> Vec<Webhook> {
        let told = payloads.into_iter().map(|(event, payload)| Webhook {
            event,
            guid: self.ids.next_guid(),
            at,
            payload,
        });
        told.collect()
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
            opened_as_draft: opening.draft,
            heads: 0,
        };
        for &(authored_at, committed_at) in opening.commits {
            let sha = pull.next_head();
            pull.commits.push(Commit {
                sha,
                author: author.clone(),
                authored_at,
                committed_at,
            });
        }
        pull.pr.commits = i64::try_from(opening.commits.len()).unwrap();
        pull
    }

    /// Gives the branch a new head.
    pub(super) fn next_head(&mut self) -> String {
        self.heads += 1;
        let name = format!(
            "{}/{}/{}",
            self.pr.world.repo_id, self.pr.number, self.heads
        );
        self.pr.head_sha = payloads::sha(&name);
        self.pr.head_sha.clone()
    }

    pub(crate) fn updated_at(&self) -> Timestamp {
        Timestamp::parse(&self.pr.updated_at).unwrap()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.pr.closed_at.is_none()
    }
}

/// `None` for the ghost, who stands for accounts that were deleted.
pub(super) fn known(account: &Account) -> Option<Account> {
    (account.id != GHOST_ID).then(|| account.clone())
}
