//! The teams that see repositories.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::{Database, StatementBuilder};
use crate::{Result, TeamId};

/// Returns the teams that see each of these repositories, by id.
pub(crate) async fn teams_of_repositories(
    database: &Database,
    repos: &BTreeSet<i64>,
) -> Result<BTreeMap<i64, Vec<TeamId>>> {
    let mut teams: BTreeMap<i64, Vec<TeamId>> = BTreeMap::new();
    if repos.is_empty() {
        return Ok(teams);
    }
    let mut query =
        StatementBuilder::new("SELECT repo_id, team_id FROM team_repositories WHERE repo_id IN (");
    for (place, repo) in repos.iter().enumerate() {
        query.push(if place == 0 { "" } else { ", " });
        query.push_bind(*repo);
    }
    query.push(") ORDER BY team_id");
    let query = query.build().persistent(repos.len() == 1);
    for (repo, team) in database.rows::<(i64, i64)>(query).await? {
        teams.entry(repo).or_default().push(TeamId(team));
    }
    Ok(teams)
}
