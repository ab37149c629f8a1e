//! The store as one team sees it: the facts of its repositories, and the rows that it owns.

use tallyhook_core::github::types::RepoId;

use crate::database::{Database, StatementBuilder, statement};
use crate::{Result, Store, TeamId};

/// The most repositories of a team in which a page is looked up one repository after another.
const LOOKED_UP: i64 = 200;

/// The store as one team sees it. What the team does not see answers as what does not exist.
/// Cheap to make and to clone.
#[derive(Clone)]
pub struct TeamStore {
    pub(crate) database: Database,
    pub(crate) store: Store,
    pub(crate) team: TeamId,
}

impl Store {
    /// Returns the store as a team sees it.
    pub fn of_team(&self, team: TeamId) -> TeamStore {
        TeamStore {
            database: self.database.clone(),
            store: self.clone(),
            team,
        }
    }
}

impl TeamStore {
    /// Returns the team.
    pub fn team(&self) -> TeamId {
        self.team
    }

    /// Returns the scope of lists and aggregates, whose shape follows from the number of the team's
    /// repositories: a team that sees all of them finds a page soon in the order of the list, and
    /// one that sees few finds it in the repositories, however long the list of all teams is.
    pub(crate) async fn scope(&self) -> Result<TeamScope> {
        let query = statement(
            "SELECT (SELECT count(*) FROM team_repositories WHERE team_id = $1), \
             (SELECT count(*) FROM repositories)",
        )
        .bind(self.team.0);
        let counts: Option<(i64, i64)> = self.database.row(query).await?;
        let (seen, all) = counts.unwrap_or_default();
        Ok(TeamScope {
            by_repository: seen < all && seen <= LOOKED_UP,
            ..self.plain_scope()
        })
    }

    /// Returns the scope of statements that have one shape.
    pub(crate) fn plain_scope(&self) -> TeamScope {
        TeamScope {
            team: Some(self.team),
            by_repository: false,
            is_sqlite: self.database.is_sqlite(),
        }
    }
}

/// The rows that a statement may read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TeamScope {
    /// `None` is every team, for the operator's totals.
    team: Option<TeamId>,
    by_repository: bool,
    is_sqlite: bool,
}

impl TeamScope {
    /// Returns the scope of totals over all teams.
    pub(crate) const fn everything(is_sqlite: bool) -> Self {
        Self {
            team: None,
            by_repository: false,
            is_sqlite,
        }
    }

    pub(crate) const fn is_sqlite(self) -> bool {
        self.is_sqlite
    }

    /// Returns true if rows are looked up in one repository of the team after the other.
    pub(crate) const fn is_by_repository(self) -> bool {
        self.by_repository
    }

    /// Adds the condition on a column with a repository, by which no row is looked up: SQLite, which
    /// knows nothing of how much is in its tables, would leave the index of the list for it.
    pub(crate) fn push(self, query: &mut StatementBuilder<'_>, column: &str) {
        let plus = if self.is_sqlite { "+" } else { "" };
        self.push_condition(query, &format!("{plus}{column}"));
    }

    /// Adds the condition on a column with a repository, by which rows may be looked up.
    pub(crate) fn push_lookup(self, query: &mut StatementBuilder<'_>, column: &str) {
        self.push_condition(query, column);
    }

    fn push_condition(self, query: &mut StatementBuilder<'_>, column: &str) {
        if let Some(team) = self.team {
            query
                .push(&format!(
                    " AND {column} IN (SELECT repo_id FROM team_repositories WHERE team_id = "
                ))
                .push_bind(team.0)
                .push(")");
        }
    }

    /// Adds the condition on a column with a repository, for statements that look few rows up.
    pub(crate) fn push_each(self, query: &mut StatementBuilder<'_>, column: &str) {
        if let Some(team) = self.team {
            query
                .push(" AND EXISTS (SELECT 1 FROM team_repositories seen WHERE seen.team_id = ")
                .push_bind(team.0)
                .push(" AND seen.repo_id = ")
                .push(column)
                .push(")");
        }
    }

    /// Adds the condition that the team sees one repository.
    pub(crate) fn push_repository(self, query: &mut StatementBuilder<'_>, repo: RepoId) {
        if let Some(team) = self.team {
            query
                .push(" AND EXISTS (SELECT 1 FROM team_repositories WHERE team_id = ")
                .push_bind(team.0)
                .push(" AND repo_id = ")
                .push_bind(repo.0)
                .push(")");
        }
    }

    /// Adds the repositories of the team as a table `seen` with the column `seen_repo`.
    pub(crate) fn push_repositories(self, query: &mut StatementBuilder<'_>) {
        query.push("(SELECT repo_id AS seen_repo FROM team_repositories");
        if let Some(team) = self.team {
            query.push(" WHERE team_id = ").push_bind(team.0);
        }
        query.push(") AS seen");
    }
}
