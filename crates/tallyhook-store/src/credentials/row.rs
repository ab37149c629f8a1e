//! A credential as a row.

use sqlx::FromRow;

use super::{Credential, CredentialKind, CredentialState, TokenOwner};
use crate::columns::{Millis, Name, from_json};
use crate::{Result, StoreError};

#[derive(FromRow)]
pub(crate) struct CredentialRow {
    id: String,
    owner_kind: String,
    owner_id: i64,
    kind: Name<CredentialKind>,
    github_user_id: i64,
    login: String,
    access_token: Option<Vec<u8>>,
    refresh_token: Option<Vec<u8>>,
    access_expires_at: Option<Millis>,
    refresh_expires_at: Option<Millis>,
    scopes: String,
    missing: String,
    last4: String,
    state: Name<CredentialState>,
    state_reason: Option<String>,
    generation: i64,
    refresh_until: Option<Millis>,
    created_at: Millis,
    used_at: Option<Millis>,
}

impl CredentialRow {
    /// The columns of a table that is named `credential`.
    pub(crate) const COLUMNS: &'static str = "credential.id, credential.owner_kind, \
         credential.owner_id, credential.kind, credential.github_user_id, credential.login, \
         credential.access_token, credential.refresh_token, credential.access_expires_at, \
         credential.refresh_expires_at, credential.scopes, credential.missing, credential.last4, \
         credential.state, credential.state_reason, credential.generation, \
         credential.refresh_until, credential.created_at, credential.used_at";
}

impl TryFrom<CredentialRow> for Credential {
    type Error = StoreError;

    fn try_from(row: CredentialRow) -> Result<Self> {
        let moment = |at: Option<Millis>| at.map(|Millis(at)| at);
        Ok(Self {
            id: row.id,
            owner: TokenOwner::new(&row.owner_kind, row.owner_id),
            kind: row.kind.0,
            github_user: row.github_user_id,
            login: row.login,
            access_token: row.access_token,
            refresh_token: row.refresh_token,
            access_expires_at: moment(row.access_expires_at),
            refresh_expires_at: moment(row.refresh_expires_at),
            scopes: from_json(&row.scopes)?,
            missing: from_json(&row.missing)?,
            last4: row.last4,
            state: row.state.0,
            state_reason: row.state_reason,
            generation: row.generation,
            refresh_until: moment(row.refresh_until),
            created_at: row.created_at.0,
            used_at: moment(row.used_at),
        })
    }
}
