//! Repositories of teams: given and taken away by the operator, and claimed with an installation of
//! a GitHub App.

use sqlx::FromRow;
use tallyhook_core::github::types::{InstallationId, RepoId};

use crate::columns::{Millis, storable_text};
use crate::database::{Lock, Transaction, statement};
use crate::tasks::FOLLOW;
use crate::{Moment, Result, Store, TeamId, TeamStore};

/// A repository with the teams that see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryTeams {
    pub id: RepoId,
    /// `owner/name`
    pub name: String,
    /// Their names, in order; empty for one that is unclaimed.
    pub teams: Vec<String>,
}

#[derive(FromRow)]
struct RepositoryTeamRow {
    id: i64,
    name: String,
    team: Option<String>,
}

impl TeamStore {
    /// Returns true if the team may have GitHub asked for a repository of that name with the access
    /// of the installation: it sees the repository, or there is no other team.
    pub async fn may_ask(&self, name: &str) -> Result<bool> {
        Ok(self.repository_id(name).await?.is_some() || self.is_only_team().await?)
    }

    /// Returns true if there is no other team.
    pub async fn is_only_team(&self) -> Result<bool> {
        let others = statement("SELECT id FROM teams WHERE id <> $1 LIMIT 1").bind(self.team.0);
        Ok(self.database.row::<(i64,)>(others).await?.is_none())
    }

    /// Gives the team a repository. Returns false if it has it.
    pub async fn give_repository(&self, repo: RepoId) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        transaction.lock(Lock::Tasks).await?;
        let insert = statement(
            "INSERT INTO team_repositories (team_id, repo_id, tracked) \
             SELECT $1, id, tracked FROM repositories WHERE id = $2 ON CONFLICT DO NOTHING",
        );
        let insert = insert.bind(self.team.0).bind(repo.0);
        if transaction.execute(insert).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        follow(&mut transaction, self.team, repo).await?;
        transaction.commit().await?;
        drop(writer);
        self.database.notify_listeners().await;
        Ok(true)
    }

    /// Takes a repository from the team, which sees nothing of it from then on. Returns false if it
    /// did not have it. What the team owns stays, and counts again once it has the repository again.
    pub async fn take_repository(&self, repo: RepoId) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        transaction.lock(Lock::Tasks).await?;
        let delete = statement("DELETE FROM team_repositories WHERE team_id = $1 AND repo_id = $2");
        let delete = delete.bind(self.team.0).bind(repo.0);
        if transaction.execute(delete).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        follow(&mut transaction, self.team, repo).await?;
        transaction.commit().await?;
        drop(writer);
        self.database.notify_listeners().await;
        Ok(true)
    }

    /// Claims an installation for the team: its repositories, and those that are seen later, are the
    /// team's. The caller has proved that a member of the team has access to it. `verified_by` is
    /// that user, `None` the operator.
    pub async fn claim_installation(
        &self,
        installation: InstallationId,
        account: &str,
        verified_by: Option<i64>,
        now: Moment,
    ) -> Result<()> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let upsert = statement(
            "INSERT INTO team_installations \
             (team_id, installation_id, account, verified_by, verified_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (team_id, installation_id) DO UPDATE SET \
             account = excluded.account, verified_by = excluded.verified_by, \
             verified_at = excluded.verified_at",
        )
        .bind(self.team.0)
        .bind(installation.0)
        .bind(storable_text(account))
        .bind(verified_by)
        .bind(Millis(now));
        transaction.execute(upsert).await?;
        let insert = statement(
            "INSERT INTO team_repositories (team_id, repo_id, tracked) \
             SELECT $1, id, tracked FROM repositories WHERE installation_id = $2 \
             ON CONFLICT DO NOTHING",
        );
        let insert = insert.bind(self.team.0).bind(installation.0);
        transaction.execute(insert).await?;
        transaction.commit().await
    }

    /// Gives up the claim of an installation. Its repositories stay the team's until they are taken.
    /// Returns false if there was none.
    pub async fn release_installation(&self, installation: InstallationId) -> Result<bool> {
        let delete =
            statement("DELETE FROM team_installations WHERE team_id = $1 AND installation_id = $2");
        let delete = delete.bind(self.team.0).bind(installation.0);
        Ok(self.database.execute(delete).await? == 1)
    }
}

/// Marks the tasks of a team that refer to pull requests of a repository: they follow them from now
/// on, or no longer.
async fn follow(transaction: &mut Transaction<'_>, team: TeamId, repo: RepoId) -> Result<()> {
    let mark = statement(format!(
        "UPDATE tasks SET {FOLLOW} WHERE team_id = $1 AND (id IN (\
             SELECT task_id FROM task_links WHERE team_id = $1 AND repo_id = $2) \
         OR task_key IN (SELECT task_key FROM mentions WHERE repo_id = $2))"
    ));
    let mark = mark.bind(team.0).bind(repo.0);
    transaction.execute(mark).await.map(|_| ())
}

impl Store {
    /// Returns repositories whose names come after `after`, at most `limit`, by name, with their
    /// teams; with `unclaimed` those of no team alone. For the operator.
    pub async fn repositories_with_teams(
        &self,
        unclaimed: bool,
        after: Option<&(String, RepoId)>,
        limit: u32,
    ) -> Result<Vec<RepositoryTeams>> {
        let (name, id) = match after {
            Some((name, id)) => (name.as_str(), id.0),
            None => ("", 0),
        };
        let query = statement(
            "SELECT page.id, page.name, teams.name AS team FROM (\
                 SELECT id, name FROM repositories r WHERE (r.name, r.id) > ($1, $2) \
                 AND ($3 = 0 OR NOT EXISTS (\
                     SELECT 1 FROM team_repositories t WHERE t.repo_id = r.id)) \
                 ORDER BY r.name, r.id LIMIT $4) AS page \
             LEFT JOIN team_repositories t ON t.repo_id = page.id \
             LEFT JOIN teams ON teams.id = t.team_id ORDER BY page.name, page.id, teams.name",
        );
        let query = query.bind(name).bind(id).bind(i64::from(unclaimed));
        let rows: Vec<RepositoryTeamRow> = self.database.rows(query.bind(i64::from(limit))).await?;
        let mut found: Vec<RepositoryTeams> = Vec::new();
        for row in rows {
            if found.last().is_none_or(|known| known.id.0 != row.id) {
                found.push(RepositoryTeams {
                    id: RepoId(row.id),
                    name: row.name,
                    teams: Vec::new(),
                });
            }
            if let Some(known) = found.last_mut() {
                known.teams.extend(row.team);
            }
        }
        Ok(found)
    }

    /// Returns every team with its name, the oldest first.
    pub async fn all_teams(&self) -> Result<Vec<(TeamId, String)>> {
        let query = statement("SELECT id, name FROM teams ORDER BY id");
        let rows: Vec<(i64, String)> = self.database.rows(query).await?;
        let teams = rows.into_iter().map(|(id, name)| (TeamId(id), name));
        Ok(teams.collect())
    }

    /// Returns the team of that name.
    pub async fn team_named(&self, name: &str) -> Result<Option<TeamId>> {
        let query = statement("SELECT id FROM teams WHERE name = $1").bind(storable_text(name));
        let row: Option<(i64,)> = self.database.row(query).await?;
        Ok(row.map(|(id,)| TeamId(id)))
    }
}
