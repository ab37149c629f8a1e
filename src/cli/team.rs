//! `tallyhook team`

use clap::Subcommand;
use tallyhook_core::text::team_slug;
use tallyhook_store::{DEFAULT_TEAM, Store, TeamId, TeamRecord};

use super::{CommandFailure, CommandResult, failed, output};
use crate::api::TeamCreated;

#[derive(Debug, Subcommand)]
pub(super) enum TeamCommand {
    /// Create a team and print its slug
    ///
    /// While there is one team, its admins run the installation. With a second one only the tokens
    /// of operators do.
    Create {
        /// Its name, of which the slug is made: letters, digits and dashes, at most 40
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List teams with the numbers of their members
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl TeamCommand {
    pub(super) async fn run(self, store: &Store) -> CommandResult {
        match self {
            Self::Create { name, json } => create(store, &name, json).await,
            Self::List { json } => list(store, json).await,
        }
    }
}

async fn create(store: &Store, name: &str, json: bool) -> CommandResult {
    let team = team_slug(name)
        .map_err(|why| CommandFailure::Usage(format!("the name of a team {why}")))?;
    if store.create_team(&team).await?.is_none() {
        return Err(failed(&format!(
            "there is a team `{team}`: choose another name"
        )));
    }
    match json {
        true => output::json(&TeamCreated { team }),
        false => output::line(&team),
    }
}

/// A team as `team list --json` shows it.
#[derive(serde::Serialize)]
struct TeamLine {
    team: String,
    members: usize,
}

async fn list(store: &Store, json: bool) -> CommandResult {
    let mut lines = Vec::new();
    for TeamRecord { id, name } in store.teams().await? {
        lines.push(TeamLine {
            members: store.members(id).await?.len(),
            team: name,
        });
    }
    if json {
        return output::json_list(lines);
    }
    let mut table = output::table([output::text("team"), output::whole("members")]);
    for line in lines {
        table.add_row([line.team, line.members.to_string()]);
    }
    table.print("there is no team")
}

/// Returns the team that a command names, `default` without one.
///
/// # Errors
/// Exit code 2 for a team that does not exist.
pub(super) async fn named(store: &Store, slug: Option<&str>) -> CommandResult<(TeamId, String)> {
    let (team, name) = DEFAULT_TEAM;
    let Some(slug) = slug else {
        return Ok((team, name.to_owned()));
    };
    let missing = || {
        CommandFailure::Usage(format!(
            "there is no team `{slug}`: `tallyhook team list` shows them"
        ))
    };
    let team = store.team_of_slug(slug).await?.ok_or_else(missing)?;
    Ok((team, slug.to_owned()))
}
