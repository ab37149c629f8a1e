//! Credentials: their tokens are sealed for their row and owner.

use tallyhook_store::{
    Credential, CredentialKind, EndedConnection, Moment, NewCredential, NewRevocation,
    ReplacedTokens, SealedTokens, TeamId, TokenOwner,
};
use uuid::Uuid;

use super::place::SealedPlace;
use super::revocations;
use super::secret_bytes::SecretBytes;
use super::vault::{SecretError, Vault};

pub(super) const TABLE: &str = "github_credentials";
const ACCESS: &str = "access_token";
const REFRESH: &str = "refresh_token";
/// The characters of an access token that people may see.
const SHOWN: usize = 4;

/// Tokens as GitHub gave them.
pub struct TokenDraft {
    pub access: SecretBytes,
    pub refresh: Option<SecretBytes>,
    /// `None` is a token without an end.
    pub access_expires_at: Option<Moment>,
    pub refresh_expires_at: Option<Moment>,
}

/// A credential that is to be stored.
pub struct CredentialDraft<'a> {
    pub owner: TokenOwner,
    pub kind: CredentialKind,
    /// GitHub's id of the account.
    pub github_user: i64,
    pub login: &'a str,
    pub tokens: TokenDraft,
    pub scopes: &'a [String],
    /// The rights that were asked for and not granted.
    pub missing: &'a [String],
}

/// The tokens of a stored credential.
pub struct OpenedTokens {
    pub generation: i64,
    pub access: SecretBytes,
    pub access_expires_at: Option<Moment>,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The team has none of this id.
    Missing,
    /// Another team still uses the credential.
    StillUsed,
    /// The token is to be revoked.
    Revoking,
    /// The tokens are deleted, without a revocation.
    Deleted,
}

impl Vault {
    /// Returns the place of a token of a credential.
    fn token_place<'a>(
        &'a self,
        row: &'a str,
        column: &'a str,
        owner: (&'a str, &'a str),
        kind: CredentialKind,
    ) -> SealedPlace<'a> {
        SealedPlace {
            table: TABLE,
            column,
            row,
            owner_kind: owner.0,
            owner: owner.1,
            kind: kind.as_str(),
            host: self.host(),
        }
    }

    /// Stores a credential of a person or team, in place of the one that it has for the account; the
    /// tokens of that are revoked, unless they were entered by hand and may be in use elsewhere.
    /// Returns its id.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn save_credential(
        &self,
        draft: &CredentialDraft<'_>,
        now: Moment,
    ) -> Result<String, SecretError> {
        // Before anything is read, since nothing is stored without a key.
        self.keys_to_seal()?;
        loop {
            let known = self
                .store()
                .credential_of(draft.owner, draft.kind, draft.github_user)
                .await?;
            let id = match &known {
                Some(known) => known.id.clone(),
                None => Uuid::new_v4().to_string(),
            };
            let (access, refresh) =
                self.seal_tokens(&id, draft.owner, draft.kind, &draft.tokens)?;
            let new = NewCredential {
                id: &id,
                owner: draft.owner,
                kind: draft.kind,
                github_user: draft.github_user,
                login: draft.login,
                tokens: sealed(&draft.tokens, (&access, refresh.as_deref())),
                scopes: draft.scopes,
                missing: draft.missing,
                at: now,
            };
            let revocation = match &known {
                Some(known) if draft.kind != CredentialKind::Pat => {
                    self.revocation_of(known, Some(&draft.tokens.access))?
                }
                _ => None,
            };
            let replaces = known.as_ref().map(|known| ReplacedTokens {
                generation: known.generation,
                revocation: revocation
                    .as_ref()
                    .map(|(id, token)| new_revocation(known, id, token)),
            });
            if self.store().put_credential(&new, replaces.as_ref()).await? {
                return Ok(id);
            }
            // Another process stored one since: it is read, and sealed again for its row.
        }
    }

    /// Returns whether the key of a credential is missing. Its state then is `locked`, with the
    /// reason `key_unavailable`.
    pub fn is_locked(&self, credential: &Credential) -> bool {
        let sealed = [&credential.access_token, &credential.refresh_token];
        let mut sealed = sealed.into_iter().flatten().peekable();
        sealed.peek().is_some()
            && match self.keys() {
                Ok(Some(keys)) => sealed.any(|value| !keys.has_key_of(value)),
                _ => true,
            }
    }

    /// Opens the access token of a credential; `None` if it has none any more.
    ///
    /// # Errors
    /// [`SecretError::Locked`] or [`SecretError::Damaged`].
    pub fn open_credential(
        &self,
        credential: &Credential,
    ) -> Result<Option<OpenedTokens>, SecretError> {
        let access = self.open_token(credential, ACCESS, credential.access_token.as_deref())?;
        Ok(access.map(|access| OpenedTokens {
            generation: credential.generation,
            access,
            access_expires_at: credential.access_expires_at,
        }))
    }

    /// Opens the refresh token of a credential.
    pub(super) fn open_refresh_token(
        &self,
        credential: &Credential,
    ) -> Result<Option<SecretBytes>, SecretError> {
        self.open_token(credential, REFRESH, credential.refresh_token.as_deref())
    }

    fn open_token(
        &self,
        credential: &Credential,
        column: &str,
        value: Option<&[u8]>,
    ) -> Result<Option<SecretBytes>, SecretError> {
        let Some(value) = value else { return Ok(None) };
        let owner = credential.owner.id().to_string();
        let owner = (credential.owner.kind(), owner.as_str());
        let place = self.token_place(&credential.id, column, owner, credential.kind);
        self.open(&place, value).map(Some)
    }

    /// Seals tokens for the row of a credential.
    pub(super) fn seal_tokens(
        &self,
        row: &str,
        owner: TokenOwner,
        kind: CredentialKind,
        tokens: &TokenDraft,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), SecretError> {
        let id = owner.id().to_string();
        let owner = (owner.kind(), id.as_str());
        let access = self.seal(&self.token_place(row, ACCESS, owner, kind), &tokens.access)?;
        let place = self.token_place(row, REFRESH, owner, kind);
        let refresh = tokens.refresh.as_ref();
        let refresh = refresh
            .map(|refresh| self.seal(&place, refresh))
            .transpose()?;
        Ok((access, refresh))
    }

    /// Ends a connection of a team. A credential that nothing uses any more loses its tokens in the
    /// same transaction, and with `revoke` GitHub is to revoke them.
    ///
    /// # Errors
    /// [`SecretError`]; a locked credential is ended all the same.
    pub async fn disconnect(
        &self,
        team: TeamId,
        connection: &str,
        revoke: bool,
        now: Moment,
    ) -> Result<ConnectionEnd, SecretError> {
        loop {
            let Some(found) = self.store().connection(team, connection).await? else {
                return Ok(ConnectionEnd::Missing);
            };
            let credential = &found.credential;
            let revocation = match revoke {
                true => self.revocation_of(credential, None)?,
                false => None,
            };
            let new = revocation
                .as_ref()
                .map(|(id, token)| new_revocation(credential, id, token));
            let ended = self.store().end_connection(
                team,
                connection,
                credential.generation,
                new.as_ref(),
                now,
            );
            match ended.await? {
                EndedConnection::Missing => return Ok(ConnectionEnd::Missing),
                EndedConnection::InUse => return Ok(ConnectionEnd::StillUsed),
                EndedConnection::Revoked if new.is_some() => return Ok(ConnectionEnd::Revoking),
                EndedConnection::Revoked => return Ok(ConnectionEnd::Deleted),
                // It was refreshed since: the token to revoke is another.
                EndedConnection::Changed => {}
            }
        }
    }

    /// Returns id and sealed token of the revocation of a credential's access token: `None` if there
    /// is nothing to revoke, it is still `used`, or its key is missing.
    fn revocation_of(
        &self,
        credential: &Credential,
        used: Option<&SecretBytes>,
    ) -> Result<Option<(String, Vec<u8>)>, SecretError> {
        let opened = match self.open_credential(credential) {
            Ok(Some(opened)) => opened,
            Ok(None) | Err(SecretError::Locked(_) | SecretError::Damaged) => return Ok(None),
            Err(error) => return Err(error),
        };
        if used.is_some_and(|used| used.expose() == opened.access.expose()) {
            return Ok(None);
        }
        let id = Uuid::new_v4().to_string();
        let owner = credential.owner.id().to_string();
        let owner = (credential.owner.kind(), owner.as_str());
        let place = revocations::place(self, &id, owner, credential.kind);
        let token = self.seal(&place, &opened.access)?;
        Ok(Some((id, token)))
    }
}

fn new_revocation<'a>(
    credential: &'a Credential,
    id: &'a str,
    token: &'a [u8],
) -> NewRevocation<'a> {
    NewRevocation {
        id,
        owner: credential.owner,
        kind: credential.kind,
        login: &credential.login,
        token,
    }
}

/// Returns sealed tokens with their ends.
pub(super) fn sealed<'a>(
    tokens: &'a TokenDraft,
    (access, refresh): (&'a [u8], Option<&'a [u8]>),
) -> SealedTokens<'a> {
    let text = tokens.access.expose_text().unwrap_or_default();
    let shown = text.char_indices().rev().nth(SHOWN - 1);
    SealedTokens {
        access_token: access,
        refresh_token: refresh,
        access_expires_at: tokens.access_expires_at,
        refresh_expires_at: tokens.refresh_expires_at,
        // Of a token that is shorter nothing is shown.
        last4: shown.map_or("", |(place, _)| &text[place..]),
    }
}
