//! The commits of fetched pull requests.

use sqlx::FromRow;
use tallyhook_core::domain::recording::ListedCommits;
use tallyhook_core::event::FetchedCommit;
use tallyhook_core::github::types::{Account, AccountId, AccountKind, PrKey};

use crate::columns::{Name, Seconds, storable_text};
use crate::database::{StatementBuilder, Transaction, statement};
use crate::{Result, Store};

/// The number of rows of one statement.
const ROWS: usize = 50;
/// The most commits of a pull request that are returned.
const MOST: i64 = 250;

#[derive(FromRow)]
struct CommitRow {
    sha: String,
    author_id: Option<i64>,
    author_login: Option<String>,
    author_type: Option<Name<AccountKind>>,
    authored_at: Option<Seconds>,
    committed_at: Option<Seconds>,
}

impl From<CommitRow> for FetchedCommit {
    fn from(row: CommitRow) -> Self {
        let author = row.author_id.zip(row.author_login).zip(row.author_type);
        Self {
            sha: row.sha,
            author: author.map(|((id, login), Name(kind))| Account {
                id: AccountId(id),
                login,
                kind,
            }),
            authored_at: row.authored_at.map(|Seconds(at)| at),
            committed_at: row.committed_at.map(|Seconds(at)| at),
            co_authors: Vec::new(),
        }
    }
}

impl Store {
    /// Returns the commits of a pull request, oldest first, without their co-authors.
    pub async fn commits(&self, key: PrKey) -> Result<Vec<FetchedCommit>> {
        let query = statement(
            "SELECT sha, author_id, author_login, author_type, authored_at, committed_at \
             FROM commits WHERE repo_id = $1 AND number = $2 \
             ORDER BY committed_at NULLS FIRST, authored_at NULLS FIRST, sha LIMIT $3",
        );
        let query = query.bind(key.repo.0).bind(key.number.0).bind(MOST);
        let rows: Vec<CommitRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(FetchedCommit::from).collect())
    }
}

/// Writes lists of commits. A list takes the place of older ones; two of one update are united.
pub(super) async fn write_commits(
    transaction: &mut Transaction<'_>,
    lists: &[ListedCommits],
) -> Result<()> {
    for ListedCommits { key, at, commits } in lists {
        let delete = "DELETE FROM commits WHERE repo_id = $1 AND number = $2 AND listed_at < $3";
        let delete = statement(delete).bind(key.repo.0).bind(key.number.0);
        transaction.execute(delete.bind(Seconds(*at))).await?;
        for portion in commits.chunks(ROWS) {
            let mut insert = StatementBuilder::new(
                "INSERT INTO commits AS known (repo_id, number, sha, listed_at, author_id, \
                 author_login, author_type, authored_at, committed_at) VALUES ",
            );
            for (place, commit) in portion.iter().enumerate() {
                let author = commit.author.as_ref();
                insert
                    .push(if place == 0 { "(" } else { ", (" })
                    .push_bind(key.repo.0)
                    .push(", ")
                    .push_bind(key.number.0)
                    .push(", ")
                    .push_bind(storable_text(&commit.sha))
                    .push(", ")
                    .push_bind(Seconds(*at))
                    .push(", ")
                    .push_bind(author.map(|author| author.id.0))
                    .push(", ")
                    .push_bind(author.map(|author| storable_text(&author.login)))
                    .push(", ")
                    .push_bind(author.map(|author| author.kind.as_str()))
                    .push(", ")
                    .push_bind(commit.authored_at.map(Seconds))
                    .push(", ")
                    .push_bind(commit.committed_at.map(Seconds))
                    .push(")");
            }
            insert.push(
                " ON CONFLICT (repo_id, number, sha) DO UPDATE SET \
                 listed_at = excluded.listed_at, author_id = excluded.author_id, \
                 author_login = excluded.author_login, author_type = excluded.author_type \
                 WHERE (excluded.listed_at, coalesce(excluded.author_id, -1)) \
                 > (known.listed_at, coalesce(known.author_id, -1))",
            );
            let is_full = portion.len() == ROWS;
            transaction
                .execute(insert.build().persistent(is_full))
                .await?;
        }
    }
    Ok(())
}
