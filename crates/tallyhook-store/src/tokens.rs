//! API tokens, of which only a digest is kept.

use super::{Moment, Result};

/// SHA-256 of a token. Tokens are 256 random bits, so a plain digest is as good as a slow one.
pub type TokenHash = [u8; 32];

/// A token, without itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub name: String,
    pub created_at: Moment,
    pub revoked_at: Option<Moment>,
}

/// Use cases of tokens.
#[async_trait::async_trait]
pub trait Tokens: Send + Sync {
    /// Stores a token's digest under `name`, in place of a revoked one of that name. `false` if the name is taken.
    async fn create_token(&self, name: &str, hash: &TokenHash, now: Moment) -> Result<bool>;

    async fn tokens(&self) -> Result<Vec<Token>>;

    /// Whether there was one of that name to revoke.
    async fn revoke_token(&self, name: &str, now: Moment) -> Result<bool>;

    /// Whether a token with this digest is in force.
    async fn token_is_valid(&self, hash: &TokenHash) -> Result<bool>;
}
