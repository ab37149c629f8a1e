//! Tokens, their rights and their allowances.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tallyhook_core::github::types::Timestamp;

use super::GITHUB_TOKEN;

/// The rights of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything, webhooks too.
    Admin,
    /// To read every repository. Webhooks are as if they were not there.
    Read,
    /// To read every repository, of a fine-grained token: GitHub names the missing permission for
    /// webhooks.
    FineGrained,
    /// To read public repositories.
    Public,
}

impl Rights {
    /// The OAuth scopes of a classic token, as `X-OAuth-Scopes` lists them.
    pub(super) fn scopes(self) -> Option<&'static str> {
        match self {
            Self::Admin => Some("admin:repo_hook, read:org, repo"),
            Self::Read => Some("public_repo"),
            Self::FineGrained => None,
            Self::Public => Some(""),
        }
    }
}

/// The rate limit that a request counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Core,
    Graphql,
}

impl Resource {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Graphql => "graphql",
        }
    }
}

/// The rest of an hour's requests or points of a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    pub(super) reset: Timestamp,
}

impl Allowance {
    fn new() -> Self {
        Self {
            limit: 5000,
            remaining: 5000,
            reset: Timestamp::clamped(Utc::now().timestamp() + 1800),
        }
    }

    pub(super) fn to_json(self) -> Value {
        json!({
            "limit": self.limit,
            "remaining": self.remaining,
            "used": self.limit - self.remaining,
            "reset": self.reset.epoch(),
        })
    }
}

/// A token that was issued.
pub(super) struct IssuedToken {
    pub(super) token: String,
    pub(super) rights: Rights,
    /// The time at which it expires, as GitHub writes it.
    pub(super) expires_at: Option<String>,
    /// The scopes of a person's token, in place of those of its rights.
    pub(super) scopes: Option<Option<String>>,
    core: Allowance,
    graphql: Allowance,
}

impl IssuedToken {
    pub(super) fn allowance(&mut self, of: Resource) -> &mut Allowance {
        match of {
            Resource::Core => &mut self.core,
            Resource::Graphql => &mut self.graphql,
        }
    }
}

/// All valid tokens.
pub(super) struct Access(Vec<IssuedToken>);

impl Default for Access {
    fn default() -> Self {
        let mut access = Self(Vec::new());
        access.give(GITHUB_TOKEN, Rights::Admin);
        access
    }
}

impl Access {
    pub(super) fn give(&mut self, token: &str, rights: Rights) {
        self.revoke(token);
        let (core, graphql) = (Allowance::new(), Allowance::new());
        self.0.push(IssuedToken {
            token: token.to_owned(),
            rights,
            expires_at: None,
            scopes: None,
            core,
            graphql,
        });
    }

    pub(super) fn revoke(&mut self, token: &str) {
        self.0.retain(|given| given.token != token);
    }

    /// # Panics
    /// If the token was never issued.
    pub(super) fn expires(&mut self, token: &str, at: DateTime<Utc>) {
        self.of(token).unwrap().expires_at = Some(at.format("%Y-%m-%d %H:%M:%S UTC").to_string());
    }

    pub(super) fn of(&mut self, token: &str) -> Option<&mut IssuedToken> {
        self.0.iter_mut().find(|given| given.token == token)
    }

    /// # Panics
    /// If the token was never issued.
    pub(super) fn allow(&mut self, token: &str, of: Resource, limit: u64, remaining: u64) {
        let given = self
            .0
            .iter_mut()
            .find(|given| given.token == token)
            .unwrap();
        let allowance = given.allowance(of);
        (allowance.limit, allowance.remaining) = (limit, remaining);
    }
}
