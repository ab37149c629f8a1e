//! Statements about credentials.

use super::{
    Credential, CredentialKind, CredentialRow, CredentialState, NewCredential, ReplacedTokens,
    TokenOwner, insert_revocation,
};
use crate::columns::{Millis, storable_text, to_json};
use crate::database::{Statement, statement};
use crate::{Moment, Result, Store};

impl Store {
    /// Returns id and generation of the credential of an owner for an account, if there is one.
    pub async fn credential_of(
        &self,
        owner: TokenOwner,
        kind: CredentialKind,
        github_user: i64,
    ) -> Result<Option<Credential>> {
        let query = select(
            "WHERE credential.owner_kind = $1 AND credential.owner_id = $2 \
             AND credential.kind = $3 AND credential.github_user_id = $4",
        )
        .bind(owner.kind())
        .bind(owner.id())
        .bind(kind.as_str())
        .bind(github_user);
        let row: Option<CredentialRow> = self.database.row(query).await?;
        row.map(Credential::try_from).transpose()
    }

    pub async fn credential(&self, id: &str) -> Result<Option<Credential>> {
        let query = select("WHERE credential.id = $1").bind(id.to_owned());
        let row: Option<CredentialRow> = self.database.row(query).await?;
        row.map(Credential::try_from).transpose()
    }

    /// Returns the credentials of an owner, the oldest first.
    pub async fn credentials(&self, owner: TokenOwner) -> Result<Vec<Credential>> {
        let query = select(
            "WHERE credential.owner_kind = $1 AND credential.owner_id = $2 \
             ORDER BY credential.created_at, credential.id",
        )
        .bind(owner.kind())
        .bind(owner.id());
        let rows: Vec<CredentialRow> = self.database.rows(query).await?;
        rows.into_iter().map(Credential::try_from).collect()
    }

    /// Stores a credential. Where its owner has one for the account, `replaces` names the generation
    /// that was read, and the tokens of that are to be revoked in the same transaction. Returns
    /// `false` if what is stored is another: the caller reads it and seals again, since a sealed
    /// token opens in its own row only.
    pub async fn put_credential(
        &self,
        new: &NewCredential<'_>,
        replaces: Option<&ReplacedTokens<'_>>,
    ) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let write = match replaces {
            None => insert(new)?,
            Some(replaced) => update(new, replaced.generation)?,
        };
        if transaction.execute(write).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        if let Some(revocation) = replaces.and_then(|replaced| replaced.revocation.as_ref()) {
            insert_revocation(&mut transaction, revocation, new.at).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Sets the state of a credential, if it is still of this generation; a refresh under way ends.
    pub async fn set_credential_state(
        &self,
        id: &str,
        generation: i64,
        state: CredentialState,
        reason: Option<&str>,
    ) -> Result<bool> {
        let update = statement(
            "UPDATE github_credentials SET state = $3, state_reason = $4, refresh_until = NULL \
             WHERE id = $1 AND generation = $2",
        )
        .bind(id.to_owned())
        .bind(generation)
        .bind(state.as_str())
        .bind(reason.map(storable_text));
        Ok(self.database.execute(update).await? == 1)
    }

    /// Notes the last use of a credential, unless a later one is noted.
    pub async fn note_credential_use(&self, id: &str, at: Moment) -> Result<()> {
        let update = statement(
            "UPDATE github_credentials SET used_at = $2 \
             WHERE id = $1 AND (used_at IS NULL OR used_at < $2)",
        )
        .bind(id.to_owned())
        .bind(Millis(at));
        self.database.execute(update).await.map(|_| ())
    }

    /// Counts the credentials by state.
    pub async fn credential_counts(&self) -> Result<Vec<(String, u64)>> {
        let query = "SELECT state, count(*) FROM github_credentials GROUP BY state ORDER BY state";
        let rows: Vec<(String, i64)> = self.database.rows(statement(query)).await?;
        let counts = rows.into_iter();
        Ok(counts
            .map(|(state, count)| (state, count.unsigned_abs()))
            .collect())
    }
}

fn select(condition: &str) -> Statement<'static> {
    statement(format!(
        "SELECT {} FROM github_credentials AS credential {condition}",
        CredentialRow::COLUMNS
    ))
}

fn state_of(new: &NewCredential<'_>) -> &'static str {
    let is_whole = new.missing.is_empty();
    match is_whole {
        true => CredentialState::Active.as_str(),
        false => CredentialState::Limited.as_str(),
    }
}

/// The statement for a credential that its owner does not have yet.
fn insert<'a>(new: &NewCredential<'a>) -> Result<Statement<'a>> {
    let tokens = new.tokens;
    Ok(statement(
        "INSERT INTO github_credentials (id, owner_kind, owner_id, kind, github_user_id, login, \
         access_token, refresh_token, access_expires_at, refresh_expires_at, scopes, missing, \
         last4, state, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
         ON CONFLICT DO NOTHING",
    )
    .bind(new.id)
    .bind(new.owner.kind())
    .bind(new.owner.id())
    .bind(new.kind.as_str())
    .bind(new.github_user)
    .bind(storable_text(new.login))
    .bind(tokens.access_token)
    .bind(tokens.refresh_token)
    .bind(tokens.access_expires_at.map(Millis))
    .bind(tokens.refresh_expires_at.map(Millis))
    .bind(to_json(new.scopes)?)
    .bind(to_json(new.missing)?)
    .bind(tokens.last4)
    .bind(state_of(new))
    .bind(Millis(new.at)))
}

/// The statement for a credential that replaces the tokens of a generation.
fn update<'a>(new: &NewCredential<'a>, generation: i64) -> Result<Statement<'a>> {
    let tokens = new.tokens;
    Ok(statement(
        "UPDATE github_credentials SET login = $3, access_token = $4, refresh_token = $5, \
         access_expires_at = $6, refresh_expires_at = $7, scopes = $8, missing = $9, last4 = $10, \
         state = $11, state_reason = NULL, generation = generation + 1, refresh_until = NULL \
         WHERE id = $1 AND generation = $2",
    )
    .bind(new.id)
    .bind(generation)
    .bind(storable_text(new.login))
    .bind(tokens.access_token)
    .bind(tokens.refresh_token)
    .bind(tokens.access_expires_at.map(Millis))
    .bind(tokens.refresh_expires_at.map(Millis))
    .bind(to_json(new.scopes)?)
    .bind(to_json(new.missing)?)
    .bind(tokens.last4)
    .bind(state_of(new)))
}
