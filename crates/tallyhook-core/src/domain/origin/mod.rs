//! The origin of a pull request: written by a person, with an AI tool, by an AI agent, or by other
//! automation. Accounts decide by their ids, and no free text does: a person may be called `claude`.

mod accounts;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::accounts::{AddedAiAccount, AddedAiAccountError, AiAccounts, AiRole};
use super::numbers::NumberRules;
use super::pull_request::PullRequest;
use super::timings::{PullRequestState, Timings};
use crate::event::FactKind;
use crate::github::types::{Account, Timestamp};

/// The kind of author of a pull request.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Origin {
    /// A person, as far as the commits show.
    Human,
    /// A person with an AI tool. Counts among people.
    Assisted,
    /// An AI agent.
    Agent,
    /// Another bot, such as one that updates dependencies.
    Automation,
}

/// The ground on which an origin rests.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum OriginCertainty {
    /// The author's account.
    Certain,
    /// The name of its branch.
    ByBranch,
    /// The trailers of its commits.
    ByCommits,
    /// A label.
    ByLabel,
}

/// The settings of origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRules {
    /// Accounts besides those that are shipped.
    pub accounts: AiAccounts,
    /// Beginnings of the branches that agents push for the person who asked them.
    pub branches: Vec<String>,
    /// Labels of pull requests that were written with an AI tool, in lower case.
    pub labels: BTreeSet<String>,
}

/// The beginnings of branches that agents make, separated by white space.
pub const AGENT_BRANCHES: &str = "copilot/ codex/ cursor/ claude/ devin/ jules/";

impl Default for OriginRules {
    fn default() -> Self {
        Self {
            accounts: AiAccounts::default(),
            branches: AGENT_BRANCHES
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            labels: BTreeSet::new(),
        }
    }
}

impl OriginRules {
    /// Returns whether an account does that work.
    pub fn has_role(&self, account: &Account, role: AiRole) -> bool {
        self.roles(account).any(|known| known == role)
    }

    fn roles(&self, account: &Account) -> impl Iterator<Item = AiRole> {
        let added = self.accounts.roles(account).iter();
        added.chain(AiAccounts::shipped().roles(account)).copied()
    }

    fn has_address(&self, address: &str) -> bool {
        self.accounts.has_address(address) || AiAccounts::shipped().has_address(address)
    }

    fn is_agent_branch(&self, branch: &str) -> bool {
        self.branches
            .iter()
            .any(|beginning| branch.starts_with(beginning))
    }
}

/// The origin of a pull request, and the parts that bots have in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullRequestOrigin {
    /// `None` is unknown: opened by a person, and its commits were not fetched.
    pub origin: Option<Origin>,
    pub certainty: Option<OriginCertainty>,
    /// The person for whom an agent opened it.
    pub opened_by: Option<Account>,
    /// True if that person reviewed it, which GitHub does not count as an approval.
    pub reviewed_by_requester: bool,
    /// First review or comment by a bot while it was under review.
    pub first_bot_response_at: Option<Timestamp>,
    /// First review by an AI account while it was under review.
    pub first_ai_review_at: Option<Timestamp>,
}

/// Computes the origin of a pull request whose timings are known.
pub fn origin(
    pull_request: &PullRequest,
    timings: &Timings,
    rules: &NumberRules,
) -> PullRequestOrigin {
    let Some(author) = pull_request.author.as_ref().map(|dated| &dated.value.0) else {
        return PullRequestOrigin::default();
    };
    let work = AuthoredWork {
        pull_request,
        author,
        rules,
    };
    let ground = work.origin();
    let opened_by = work.opened_by(ground);
    let (origin, certainty) = ground.unzip();
    let reviews = UnderReview {
        pull_request,
        author,
        rules,
        from: timings.ready_at,
        to: ended_at(pull_request, timings.state),
    };
    PullRequestOrigin {
        origin,
        certainty,
        reviewed_by_requester: opened_by.is_some_and(|person| reviews.has_review_by(person)),
        opened_by: opened_by.cloned(),
        first_bot_response_at: reviews.first_bot_response_at(),
        first_ai_review_at: reviews.first_ai_review_at(),
    }
}

fn ended_at(pull_request: &PullRequest, state: PullRequestState) -> Option<Timestamp> {
    let conversation = pull_request.conversation.as_ref();
    let closed_at = conversation.and_then(|dated| dated.value.closed_at);
    match state {
        PullRequestState::Open => None,
        PullRequestState::Closed => closed_at,
        PullRequestState::Merged => pull_request.merged_at.or(closed_at),
    }
}

/// A pull request as the work of its author.
struct AuthoredWork<'a> {
    pull_request: &'a PullRequest,
    author: &'a Account,
    rules: &'a NumberRules,
}

impl<'a> AuthoredWork<'a> {
    /// Returns the first rule that holds, and the ground it rests on.
    fn origin(&self) -> Option<(Origin, OriginCertainty)> {
        let origins = &self.rules.origins;
        if origins.has_role(self.author, AiRole::Agent) {
            Some((Origin::Agent, OriginCertainty::Certain))
        } else if self.rules.bots.contains(self.author) {
            Some((Origin::Automation, OriginCertainty::Certain))
        } else if self.is_on_agent_branch() {
            Some((Origin::Agent, OriginCertainty::ByBranch))
        } else if self.names_ai_co_author() {
            Some((Origin::Assisted, OriginCertainty::ByCommits))
        } else if self.is_labelled() {
            Some((Origin::Assisted, OriginCertainty::ByLabel))
        } else if self.has_known_commits() {
            Some((Origin::Human, OriginCertainty::ByCommits))
        } else {
            None
        }
    }

    fn is_bot(&self, account: &Account) -> bool {
        self.rules.bots.contains(account) || self.rules.origins.roles(account).next().is_some()
    }

    fn names_ai_co_author(&self) -> bool {
        let mut addresses = self.pull_request.co_authors.iter();
        addresses.any(|address| self.rules.origins.has_address(address))
    }

    /// Returns whether its commits were fetched with their trailers; those fetched before trailers
    /// were read have no committer dates.
    fn has_known_commits(&self) -> bool {
        let commits = self.pull_request.commits.as_ref();
        commits.is_some_and(|dates| dates.value.first_committed.is_some())
    }

    /// A branch of a fork is named by its owner, and so are branches of unknown repositories.
    fn is_on_agent_branch(&self) -> bool {
        self.pull_request.branches.as_ref().is_some_and(|dated| {
            let branches = &dated.value;
            branches.head_repo == Some(self.pull_request.key.repo)
                && self.rules.origins.is_agent_branch(&branches.head_ref)
        })
    }

    fn is_labelled(&self) -> bool {
        let labels = &self.rules.origins.labels;
        let conversation = self.pull_request.conversation.as_ref();
        !labels.is_empty()
            && conversation.is_some_and(|dated| {
                let mut has = dated.value.labels.iter();
                has.any(|label| labels.contains(&label.to_lowercase()))
            })
    }

    /// Returns the person for whom an agent worked: the author whose branch it pushed to, or else
    /// the one person that is assigned, since agents assign the one who asked.
    fn opened_by(&self, origin: Option<(Origin, OriginCertainty)>) -> Option<&'a Account> {
        match origin? {
            (Origin::Agent, OriginCertainty::ByBranch) => Some(self.author),
            (Origin::Agent, _) => {
                let details = self.pull_request.details.as_ref()?;
                let mut people = details
                    .value
                    .assignees
                    .iter()
                    .flatten()
                    .filter(|assignee| assignee.id != self.author.id && !self.is_bot(assignee));
                people.next().filter(|_| people.next().is_none())
            }
            _ => None,
        }
    }
}

/// The time of a pull request from ready to its end, both included.
struct UnderReview<'a> {
    pull_request: &'a PullRequest,
    author: &'a Account,
    rules: &'a NumberRules,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl UnderReview<'_> {
    fn contains(&self, at: Timestamp) -> bool {
        self.from.is_some_and(|from| at >= from) && self.to.is_none_or(|to| at <= to)
    }

    fn reviews(&self) -> impl Iterator<Item = (Timestamp, &Account)> {
        let reviews = self.pull_request.reviews.values();
        let reviews = reviews.map(|review| (review.submitted_at, &review.author));
        reviews.filter(|(at, reviewer)| self.contains(*at) && reviewer.id != self.author.id)
    }

    fn has_review_by(&self, person: &Account) -> bool {
        self.reviews().any(|(_, reviewer)| reviewer.id == person.id)
    }

    fn first_ai_review_at(&self) -> Option<Timestamp> {
        let origins = &self.rules.origins;
        let by_ai = self
            .reviews()
            .filter(|(_, reviewer)| origins.roles(reviewer).next().is_some());
        by_ai.map(|(at, _)| at).min()
    }

    fn first_bot_response_at(&self) -> Option<Timestamp> {
        let is_bot = |account: &Account| self.rules.bots.contains(account);
        let by_bot = self.reviews().filter(|(_, reviewer)| is_bot(reviewer));
        let timeline = &self.pull_request.timeline;
        let comment = timeline.acts(FactKind::Commented).find(|(at, _, actor)| {
            let is_other = |actor: &&Account| actor.id != self.author.id && is_bot(actor);
            self.contains(*at) && actor.as_ref().is_some_and(is_other)
        });
        let comment = comment.map(|(at, ..)| at);
        by_bot.map(|(at, _)| at).chain(comment).min()
    }
}
