//! The parts of a pull request that decide who it waits for: requested reviewers, the author's
//! rights, and how GitHub sees its merge.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::github::types::{Account, AccountKind, Timestamp};

/// The kind of a fact's subject. Accounts and teams have id spaces of their own.
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
pub enum SubjectKind {
    User,
    Team,
    Bot,
}

impl SubjectKind {
    /// Returns the kind of an account. One of an unknown type is a user: all accounts share one id
    /// space.
    pub fn of(account: &Account) -> Self {
        match account.kind {
            AccountKind::Bot => Self::Bot,
            AccountKind::User | AccountKind::Other => Self::User,
        }
    }

    /// Returns the kind of a reviewer by the name that GraphQL has for its type.
    pub(super) fn of_type(name: &str) -> Self {
        match name {
            "Team" => Self::Team,
            "Bot" => Self::Bot,
            _ => Self::User,
        }
    }

    /// Returns the name that is stored and written.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// A team of an organisation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct Team {
    pub id: i64,
    pub slug: String,
}

/// The accounts and teams that are asked for a review and have not answered, each list by id.
///
/// The lists of payloads of one second are united: a review or a removal of that second stands in
/// the timeline beside them, and counts against them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestedReviewers {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<Account>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teams: Vec<Team>,
}

impl RequestedReviewers {
    pub fn new(
        accounts: impl IntoIterator<Item = Account>,
        teams: impl IntoIterator<Item = Team>,
    ) -> Self {
        let teams: BTreeMap<_, _> = teams.into_iter().map(|team| (team.id, team)).collect();
        Self {
            accounts: by_id(accounts),
            teams: teams.into_values().collect(),
        }
    }

    /// Returns the kind and id of each.
    pub fn keys(&self) -> impl Iterator<Item = (SubjectKind, i64)> {
        let accounts = self.accounts.iter();
        let accounts = accounts.map(|account| (SubjectKind::of(account), account.id.0));
        let teams = self.teams.iter().map(|team| (SubjectKind::Team, team.id));
        accounts.chain(teams)
    }
}

/// The relation of a pull request's author to its repository. A later variant has more rights.
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
    strum::VariantArray,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuthorAssociation {
    None,
    Mannequin,
    FirstTimer,
    FirstTimeContributor,
    Contributor,
    Collaborator,
    Member,
    Owner,
    /// A relation that is not known here. It gives no rights.
    #[serde(other)]
    Unknown,
}

impl AuthorAssociation {
    /// Returns whether such an author may merge.
    pub const fn may_write(self) -> bool {
        matches!(self, Self::Collaborator | Self::Member | Self::Owner)
    }
}

/// The fields that payloads with a pull request carry about its author's rights and its merge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullRequestDetails {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_association: Option<AuthorAssociation>,
    /// GitHub merges it as soon as its conditions hold; null where GitHub does not show that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_merge: Option<bool>,
    /// The commit of the merge; null until it is merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_commit_sha: Option<String>,
    /// By id; null where GitHub does not show all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignees: Option<Vec<Account>>,
}

/// GitHub's decision on the reviews of a pull request, by the rules of its base branch. A later
/// variant stands further from the merge.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReviewDecision {
    Approved,
    ReviewRequired,
    ChangesRequested,
}

/// The merge of an open pull request as GitHub sees it, which only an answer of its API shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MergeState {
    /// The head commit that it is about.
    pub head_sha: String,
    /// Null where no rule of the base branch requires a review, and where it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_decision: Option<ReviewDecision>,
    /// Null while GitHub has not tried the merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicting: Option<bool>,
    /// The first completion of a required check that failed and was not repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_check_failed_at: Option<Timestamp>,
    /// The first start of a required check that is not completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks_pending_since: Option<Timestamp>,
}

/// A commit of a fetched pull request. Its message is never kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct FetchedCommit {
    pub sha: String,
    /// Null for an author without an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Account>,
    /// Null for a date that cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authored_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<Timestamp>,
    /// The addresses of its `Co-authored-by` trailers, in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub co_authors: Vec<String>,
}

/// Returns the accounts in the order of their ids, each once.
pub(super) fn by_id(accounts: impl IntoIterator<Item = Account>) -> Vec<Account> {
    let accounts = accounts.into_iter().map(|account| (account.id, account));
    accounts.collect::<BTreeMap<_, _>>().into_values().collect()
}
