//! Credentials of people and teams at GitHub, and the revocations of those that are given up. Their
//! tokens are stored as they are given, which is sealed.

mod credential;
mod refresh;
mod revocations;
mod row;
mod sql;

pub use self::credential::{
    Credential, CredentialKind, CredentialState, NewCredential, ReplacedTokens, SealedTokens,
    TokenOwner,
};
pub use self::refresh::{RefreshLease, RefreshedTokens};
pub(crate) use self::revocations::insert_revocation;
pub use self::revocations::{NewRevocation, Revocation, RevocationCounts};
pub(crate) use self::row::CredentialRow;
