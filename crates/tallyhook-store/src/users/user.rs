//! The record of a person.

use sqlx::FromRow;

use crate::columns::{Millis, storable_text};
use crate::database::{Transaction, statement};
use crate::{Moment, Result, Store};

/// The id of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub i64);

/// A person by the names that lists show. One of the two is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonName {
    pub id: UserId,
    /// The login on GitHub.
    pub login: Option<String>,
    pub name: Option<String>,
}

impl PersonName {
    /// Returns the person of columns that a join may have left empty.
    pub(crate) fn of(
        id: Option<i64>,
        login: Option<String>,
        name: Option<String>,
    ) -> Option<PersonName> {
        id.map(|id| Self {
            id: UserId(id),
            login,
            name,
        })
    }

    /// Returns the name by which a list shows the person.
    pub fn shown(&self) -> &str {
        let name = self.login.as_deref().or(self.name.as_deref());
        name.unwrap_or("unnamed")
    }
}

/// The record of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    pub person: PersonName,
    /// `None` is a person without an account at GitHub.
    pub github_id: Option<i64>,
    pub avatar_url: Option<String>,
    pub created_at: Moment,
    /// A person who is disabled has no rights.
    pub disabled_at: Option<Moment>,
}

/// A person as GitHub shows its account.
#[derive(Clone, Copy, Debug)]
pub struct GithubUser<'a> {
    /// GitHub's number of the account, which stays when the login changes.
    pub id: i64,
    pub login: &'a str,
    pub name: Option<&'a str>,
    pub avatar_url: Option<&'a str>,
}

#[derive(FromRow)]
struct UserRow {
    id: i64,
    github_id: Option<i64>,
    login: Option<String>,
    name: Option<String>,
    avatar_url: Option<String>,
    created_at: Millis,
    disabled_at: Option<Millis>,
}

impl From<UserRow> for UserRecord {
    fn from(row: UserRow) -> Self {
        Self {
            person: PersonName {
                id: UserId(row.id),
                login: row.login,
                name: row.name,
            },
            github_id: row.github_id,
            avatar_url: row.avatar_url,
            created_at: row.created_at.0,
            disabled_at: row.disabled_at.map(|Millis(at)| at),
        }
    }
}

const USER: &str =
    "SELECT id, github_id, login, name, avatar_url, created_at, disabled_at FROM users";

impl Store {
    /// Stores a person as GitHub shows its account: a new one, or the one of that number. Returns
    /// `None` for one who is disabled.
    pub async fn record_github_user(
        &self,
        account: &GithubUser<'_>,
        now: Moment,
    ) -> Result<Option<UserId>> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let upsert = statement(
            "INSERT INTO users (github_id, login, name, avatar_url, created_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (github_id) DO UPDATE SET \
             login = excluded.login, name = excluded.name, avatar_url = excluded.avatar_url \
             RETURNING id, disabled_at IS NULL AS is_enabled",
        )
        .bind(account.id)
        .bind(storable_text(account.login))
        .bind(account.name.map(storable_text))
        .bind(account.avatar_url.map(storable_text))
        .bind(Millis(now));
        let row: Option<(i64, bool)> = transaction.row(upsert).await?;
        transaction.commit().await?;
        Ok(row.and_then(|(id, is_enabled)| is_enabled.then_some(UserId(id))))
    }

    /// Returns a person.
    pub async fn user(&self, UserId(id): UserId) -> Result<Option<UserRecord>> {
        let query = statement(format!("{USER} WHERE id = $1")).bind(id);
        let row: Option<UserRow> = self.database.row(query).await?;
        Ok(row.map(UserRecord::from))
    }

    /// Returns the people with a login, in any case. Logins are given to others after a rename, so
    /// there may be several.
    pub async fn users_of_login(&self, login: &str) -> Result<Vec<UserRecord>> {
        let query = statement(format!("{USER} WHERE lower(login) = $1 ORDER BY id"))
            .bind(storable_text(login).to_ascii_lowercase());
        let rows: Vec<UserRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(UserRecord::from).collect())
    }

    /// Disables a person, or enables it again. One who is disabled has no rights, nor have the tokens
    /// that it made; its sessions end. Returns false if there is no such person.
    pub async fn set_user_disabled(
        &self,
        UserId(id): UserId,
        since: Option<Moment>,
    ) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let update = statement("UPDATE users SET disabled_at = $1 WHERE id = $2")
            .bind(since.map(Millis))
            .bind(id);
        let is_known = transaction.execute(update).await? == 1;
        if since.is_some() {
            let end = statement("DELETE FROM sessions WHERE user_id = $1").bind(id);
            transaction.execute(end).await?;
        }
        transaction.commit().await?;
        Ok(is_known)
    }

    /// Returns everyone, the oldest record first.
    pub async fn users(&self) -> Result<Vec<UserRecord>> {
        let query = statement(format!("{USER} ORDER BY id"));
        let rows: Vec<UserRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(UserRecord::from).collect())
    }
}

impl Transaction<'_> {
    /// Stores a person without an account at GitHub.
    pub(crate) async fn create_user(
        &mut self,
        name: &str,
        login: Option<&str>,
        now: Moment,
    ) -> Result<Option<UserId>> {
        let insert = statement(
            "INSERT INTO users (name, login, created_at) VALUES ($1, $2, $3) RETURNING id",
        )
        .bind(storable_text(name))
        .bind(login.map(storable_text))
        .bind(Millis(now));
        let row: Option<(i64,)> = self.row(insert).await?;
        Ok(row.map(|(id,)| UserId(id)))
    }
}
