//! A credential, as it is stored.

use serde::{Deserialize, Serialize};

use crate::{Moment, TeamId};

/// The person or team whose credential it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOwner {
    /// The id of a user.
    User(i64),
    Team(TeamId),
}

impl TokenOwner {
    pub fn kind(self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Team(_) => "team",
        }
    }

    /// Returns the id among the owners of its kind.
    pub fn id(self) -> i64 {
        match self {
            Self::User(id) | Self::Team(TeamId(id)) => id,
        }
    }

    pub(super) fn new(kind: &str, id: i64) -> Self {
        match kind {
            "team" => Self::Team(TeamId(id)),
            _ => Self::User(id),
        }
    }
}

/// The kind of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// A person's token of an OAuth App.
    Oauth,
    /// A person's token of a GitHub App.
    AppUser,
    /// A personal access token that was entered.
    Pat,
}

impl CredentialKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oauth => "oauth",
            Self::AppUser => "app_user",
            Self::Pat => "pat",
        }
    }
}

/// The stored state of a credential. One whose key is missing is locked, which is no state of its
/// row: it ends when the key is there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialState {
    Active,
    /// In force, with fewer rights than were asked for.
    Limited,
    ReconnectNeeded,
    /// Given up; it has no tokens.
    Revoked,
}

impl CredentialState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Limited => "limited",
            Self::ReconnectNeeded => "reconnect_needed",
            Self::Revoked => "revoked",
        }
    }
}

/// A credential. Its tokens are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub id: String,
    pub owner: TokenOwner,
    pub kind: CredentialKind,
    /// GitHub's id of the account.
    pub github_user: i64,
    pub login: String,
    /// `None` once it is revoked, or the key is lost for good.
    pub access_token: Option<Vec<u8>>,
    pub refresh_token: Option<Vec<u8>>,
    /// `None` is a token without an end.
    pub access_expires_at: Option<Moment>,
    pub refresh_expires_at: Option<Moment>,
    pub scopes: Vec<String>,
    /// The rights that were asked for and not granted.
    pub missing: Vec<String>,
    /// The last four characters of the access token.
    pub last4: String,
    pub state: CredentialState,
    pub state_reason: Option<String>,
    /// Counts the tokens: each replaces the one before.
    pub generation: i64,
    /// The end of a refresh under way; in the past, of one whose answer is not known.
    pub refresh_until: Option<Moment>,
    pub created_at: Moment,
    pub used_at: Option<Moment>,
}

/// The tokens of a credential, sealed, with their ends.
#[derive(Clone, Copy, Debug)]
pub struct SealedTokens<'a> {
    pub access_token: &'a [u8],
    pub refresh_token: Option<&'a [u8]>,
    pub access_expires_at: Option<Moment>,
    pub refresh_expires_at: Option<Moment>,
    pub last4: &'a str,
}

/// A credential that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewCredential<'a> {
    /// That of the stored credential of the same owner, kind and account, if there is one.
    pub id: &'a str,
    pub owner: TokenOwner,
    pub kind: CredentialKind,
    pub github_user: i64,
    pub login: &'a str,
    pub tokens: SealedTokens<'a>,
    pub scopes: &'a [String],
    pub missing: &'a [String],
    pub at: Moment,
}

/// The tokens that a new credential replaces.
#[derive(Clone, Copy, Debug)]
pub struct ReplacedTokens<'a> {
    pub generation: i64,
    /// `None` if there is nothing to revoke.
    pub revocation: Option<super::NewRevocation<'a>>,
}
