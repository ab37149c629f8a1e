//! The content of daily digests: the open pull requests that wait longest.

use std::collections::BTreeSet;

use sqlx::FromRow;
use sqlx::types::Json;
use tallyhook_core::domain::waiting::Waiting;
use tallyhook_core::github::types::RepoId;

use crate::columns::Seconds;
use crate::database::StatementBuilder;
use crate::{DigestItem, Result, TeamStore};

/// The repositories of a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DigestRepositories {
    pub ids: BTreeSet<RepoId>,
    /// All repositories of these, in lower case.
    pub owners: BTreeSet<String>,
}

#[derive(FromRow)]
struct DigestRow {
    repo: String,
    number: i64,
    title: Option<String>,
    html_url: Option<String>,
    author_login: String,
    waiting: Json<Waiting>,
    waiting_since: Seconds,
}

impl From<DigestRow> for DigestItem {
    fn from(row: DigestRow) -> Self {
        Self {
            repo: row.repo,
            pr_number: row.number,
            title: row.title,
            html_url: row.html_url,
            author: Some(row.author_login),
            waiting: (&row.waiting.0).into(),
            since: row.waiting_since.0,
        }
    }
}

impl TeamStore {
    /// Returns the number of open pull requests that wait in repositories that the team tracks, drafts
    /// left out, and those that wait longest, at most `limit`. `None` is every such repository.
    pub async fn longest_waiting(
        &self,
        repositories: Option<&DigestRepositories>,
        limit: u32,
    ) -> Result<(u64, Vec<DigestItem>)> {
        let mut count = StatementBuilder::new("SELECT count(*)");
        self.push_waiting(&mut count, repositories);
        let total: Option<(i64,)> = self.database.row(count.build()).await?;
        let mut list = StatementBuilder::new(
            "SELECT r.name AS repo, p.number, p.title, p.html_url, p.author_login, p.waiting, \
             p.waiting_since",
        );
        self.push_waiting(&mut list, repositories);
        list.push(" ORDER BY p.waiting_since, p.repo_id, p.number LIMIT ")
            .push_bind(i64::from(limit));
        let rows: Vec<DigestRow> = self.database.rows(list.build()).await?;
        Ok((
            total.map_or(0, |(total,)| total.unsigned_abs()),
            rows.into_iter().map(DigestItem::from).collect(),
        ))
    }

    /// Adds the tables and the conditions: no draft, and only of repositories that are tracked.
    fn push_waiting(
        &self,
        query: &mut StatementBuilder<'_>,
        repositories: Option<&DigestRepositories>,
    ) {
        query
            .push(
                " FROM pull_requests p JOIN repositories r ON r.id = p.repo_id \
                 JOIN team_repositories t ON t.repo_id = r.id WHERE t.team_id = ",
            )
            .push_bind(self.team.0);
        query.push(
            " AND t.tracked AND p.state = 'open' AND p.waiting_since IS NOT NULL \
         AND p.waiting_rule > 1",
        );
        let Some(DigestRepositories { ids, owners }) = repositories else {
            return;
        };
        query.push(" AND (false");
        for id in ids {
            query.push(" OR p.repo_id = ").push_bind(id.0);
        }
        for owner in owners {
            let prefix = format!("{owner}/");
            let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
            query.push(" OR substr(lower(r.name), 1, ");
            query.push(&length.to_string()).push(") = ");
            query.push_bind(prefix);
        }
        query.push(")");
    }
}
