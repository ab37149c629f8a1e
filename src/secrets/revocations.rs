//! Tokens that GitHub is to revoke.

use tallyhook_store::{CredentialKind, Moment, NewRevocation, Revocation, TokenOwner};
use uuid::Uuid;

use super::place::SealedPlace;
use super::secret_bytes::SecretBytes;
use super::vault::{SecretError, Vault};

/// A token that is to be revoked, and its row.
pub struct OpenedRevocation {
    pub id: String,
    pub kind: CredentialKind,
    pub login: String,
    pub token: SecretBytes,
    /// The attempts before this one.
    pub attempts: u32,
    pub created_at: Moment,
}

/// Returns the place of the token of a revocation.
pub(super) fn place<'a>(
    vault: &'a Vault,
    row: &'a str,
    owner: (&'a str, &'a str),
    kind: CredentialKind,
) -> SealedPlace<'a> {
    SealedPlace {
        table: "revocations",
        column: "token",
        row,
        owner_kind: owner.0,
        owner: owner.1,
        kind: kind.as_str(),
        host: vault.host(),
    }
}

impl Vault {
    /// Lets GitHub revoke a token that is not stored as a credential, such as that of a sign-in.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn revoke(
        &self,
        owner: TokenOwner,
        kind: CredentialKind,
        login: &str,
        token: &SecretBytes,
        now: Moment,
    ) -> Result<(), SecretError> {
        let (id, owner_id) = (Uuid::new_v4().to_string(), owner.id().to_string());
        let place = place(self, &id, (owner.kind(), &owner_id), kind);
        let sealed = self.seal(&place, token)?;
        let new = NewRevocation {
            id: &id,
            owner,
            kind,
            login,
            token: &sealed,
        };
        Ok(self.store().add_revocation(&new, now).await?)
    }

    /// Returns revocations that are due and whose key is there, at most `limit`.
    ///
    /// # Errors
    /// [`SecretError::Store`] or [`SecretError::Keys`].
    pub async fn due_revocations(
        &self,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<OpenedRevocation>, SecretError> {
        let mut due = Vec::new();
        for revocation in self.store().due_revocations(now, limit).await? {
            match self.open_revocation(&revocation) {
                Ok(token) => due.push(OpenedRevocation {
                    id: revocation.id,
                    kind: revocation.kind,
                    login: revocation.login,
                    token,
                    attempts: revocation.attempts,
                    created_at: revocation.created_at,
                }),
                // It waits for its key.
                Err(SecretError::Locked(_)) => {}
                Err(SecretError::Damaged) => {
                    let why = "what is stored of the token was changed: revoke it at GitHub";
                    let id = &revocation.id;
                    self.store().finish_revocation(id, Some(why), now).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(due)
    }

    fn open_revocation(&self, revocation: &Revocation) -> Result<SecretBytes, SecretError> {
        let owner = revocation.owner.id().to_string();
        let owner = (revocation.owner.kind(), owner.as_str());
        let place = place(self, &revocation.id, owner, revocation.kind);
        self.open(&place, &revocation.token)
    }
}
