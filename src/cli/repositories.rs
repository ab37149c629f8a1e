//! `tallyhook repository`

use clap::Subcommand;
use serde::Serialize;
use tallyhook_core::github::types::RepoId;
use tallyhook_store::{RepositoryTeams, Store, TeamStore};

use super::{CommandFailure, CommandResult, output};

/// Repositories of one read.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum RepositoryCommand {
    /// List the repositories that are known, with the teams that see them
    List {
        /// Only those that no team sees
        #[arg(long)]
        unclaimed: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a repository to a team, which sees its pull requests and numbers from then on
    Give {
        /// The repository
        #[arg(value_name = "OWNER/REPO")]
        repo: String,
        /// The team
        #[arg(long)]
        team: String,
    },
    /// Take a repository from a team, which sees nothing of it from then on; its facts stay
    Take {
        /// The repository
        #[arg(value_name = "OWNER/REPO")]
        repo: String,
        /// The team
        #[arg(long)]
        team: String,
    },
}

/// A repository of the list as JSON.
#[derive(Serialize)]
struct ListedRepository {
    repo: String,
    teams: Vec<String>,
}

impl RepositoryCommand {
    pub(super) async fn run(self, store: &Store) -> CommandResult {
        match self {
            Self::List { unclaimed, json } => list(store, unclaimed, json).await,
            Self::Give { repo, team } => {
                let (repo_id, of_team) = named(store, &repo, &team).await?;
                let is_new = of_team.give_repository(repo_id).await?;
                output::line(match is_new {
                    true => "given",
                    false => "the team had it already",
                })
            }
            Self::Take { repo, team } => {
                let (repo_id, of_team) = named(store, &repo, &team).await?;
                if of_team.take_repository(repo_id).await? {
                    return output::line("taken");
                }
                Err(failed(&format!("team `{team}` does not have {repo}")))
            }
        }
    }
}

/// Looks up the repository and the team of a command.
async fn named(store: &Store, repo: &str, team: &str) -> CommandResult<(RepoId, TeamStore)> {
    let of_team = store.team_named(team).await?;
    let of_team = of_team.ok_or_else(|| failed(&format!("there is no team `{team}`")))?;
    let id = store.repository_id(repo).await?;
    let unknown = || {
        failed(&format!(
            "{repo} is not known: it is from its first delivery or `tallyhook backfill {repo}` on"
        ))
    };
    Ok((id.ok_or_else(unknown)?, store.of_team(of_team)))
}

async fn list(store: &Store, unclaimed: bool, json: bool) -> CommandResult {
    let (mut found, mut after) = (Vec::<RepositoryTeams>::new(), None);
    loop {
        let page = store
            .repositories_with_teams(unclaimed, after.as_ref(), PAGE)
            .await?;
        let Some(last) = page.last() else { break };
        after = Some((last.name.clone(), last.id));
        found.extend(page);
    }
    if json {
        let items = found.into_iter().map(|row| ListedRepository {
            repo: row.name,
            teams: row.teams,
        });
        return output::json_list(items.collect::<Vec<_>>());
    }
    let mut table = output::table([output::text("repository"), output::text("teams")]);
    for row in found {
        table.add_row([row.name, row.teams.join(", ")]);
    }
    table.print(match unclaimed {
        true => "every repository that is known has a team",
        false => "no repository is known yet",
    })
}

fn failed(what: &str) -> CommandFailure {
    CommandFailure::Failed(anyhow::anyhow!("{what}"))
}
