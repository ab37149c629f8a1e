//! `tallyhook user`

use chrono::{SecondsFormat, Utc};
use clap::{Args, Subcommand};
use tallyhook_core::text::{check_name, read_login};
use tallyhook_store::{AccessRole, InvitedPerson, Moment, Store, UserId, UserRecord};

use super::member::{person, team_role};
use super::{CommandFailure, CommandResult, output, team};
use crate::api::{PersonItem, create_link};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Print a link that signs a person in once, within 7 days
    ///
    /// With --team the person becomes a member of the team by it. A person without an account at
    /// GitHub is stored under NAME; with --existing the link is for one who is stored already.
    Invite(InviteArgs),
    /// Take all rights from a person and from the tokens that it made, and end its sessions
    Disable {
        /// The person, by login or by the id of `user list`
        user: String,
    },
    /// Give a person who is disabled its rights again
    Enable {
        /// The person, by login or by the id of `user list`
        user: String,
    },
    /// List people
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub(super) struct InviteArgs {
    /// The name of the person; with --existing the login, or the id of `user list`
    name: String,
    /// Make a link for a person who is stored already
    #[arg(long, conflicts_with = "login")]
    existing: bool,
    /// The login on GitHub that `me` means to the person
    #[arg(long, value_parser = login)]
    login: Option<String>,
    /// The slug of a team that the person joins by the link
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// The role in the team: viewer, member or admin
    #[arg(long, value_parser = team_role, requires = "team")]
    role: Option<AccessRole>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn login(text: &str) -> Result<String, String> {
    read_login(text)
        .map(str::to_owned)
        .map_err(|why| format!("it {why}"))
}

impl UserCommand {
    pub(super) async fn run(self, config: &Config, store: &Store) -> CommandResult {
        match self {
            Self::Invite(arguments) => arguments.run(config, store).await,
            Self::Disable { user } => {
                let user = person(store, &user).await?.person.id;
                store.set_user_disabled(user, Some(Utc::now())).await?;
                output::line("disabled")
            }
            Self::Enable { user } => {
                let user = person(store, &user).await?.person.id;
                store.set_user_disabled(user, None).await?;
                output::line("enabled")
            }
            Self::List { json } => list(store, json).await,
        }
    }
}

impl InviteArgs {
    async fn run(self, config: &Config, store: &Store) -> CommandResult {
        let Self {
            name,
            existing,
            login,
            team,
            role,
            json,
        } = self;
        let invited = match existing {
            true => InvitedPerson::SignedIn(person(store, &name).await?.person.id),
            false => {
                check_name(&name)
                    .map_err(|why| CommandFailure::Usage(format!("the name of a person {why}")))?;
                let login = login.as_deref();
                InvitedPerson::New { name: &name, login }
            }
        };
        let team = match team.as_deref() {
            Some(slug) => {
                let (team, _) = team::named(store, Some(slug)).await?;
                Some((team, role.unwrap_or(AccessRole::Member)))
            }
            None => None,
        };
        let link = create_link(store, team, invited, None).await?;
        let url = match &config.public_url {
            Some(public) => format!("{}{}{}", public.origin(), public.path(), link.path),
            None => format!("http://{}{}", config.listen, link.path),
        };
        if json {
            return output::json(&link.created(url, team.map(|(_, role)| role)));
        }
        output::line(&url)
    }
}

/// A person as `user list --json` shows it.
#[derive(serde::Serialize)]
struct UserLine {
    #[serde(flatten)]
    person: PersonItem,
    github_id: Option<i64>,
    teams: Vec<TeamRoleLine>,
    created_at: String,
    disabled_at: Option<String>,
}

#[derive(serde::Serialize)]
struct TeamRoleLine {
    team: String,
    role: AccessRole,
}

async fn list(store: &Store, json: bool) -> CommandResult {
    let mut lines = Vec::new();
    for user in store.users().await? {
        let UserRecord {
            person,
            github_id,
            created_at,
            disabled_at,
            ..
        } = user;
        let text = |at: Moment| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        lines.push(UserLine {
            teams: teams_of(store, person.id).await?,
            person: person.into(),
            github_id,
            created_at: text(created_at),
            disabled_at: disabled_at.map(text),
        });
    }
    if json {
        return output::json_list(lines);
    }
    let mut table = output::table([
        output::whole("id"),
        output::text("login"),
        output::text("name"),
        output::text("teams"),
        output::detail("since"),
        output::whole("disabled"),
    ]);
    for line in lines {
        let teams = line.teams.iter();
        let teams = teams.map(|TeamRoleLine { team, role }| format!("{team} ({role})"));
        table.add_row([
            line.person.id.to_string(),
            line.person.login.unwrap_or_default(),
            line.person.name.unwrap_or_default(),
            teams.collect::<Vec<_>>().join(", "),
            line.created_at,
            line.disabled_at.unwrap_or_default(),
        ]);
    }
    table.print("there is no person: `tallyhook user invite NAME --team TEAM` invites one")
}

async fn teams_of(store: &Store, user: UserId) -> CommandResult<Vec<TeamRoleLine>> {
    let memberships = store.memberships(user).await?.into_iter();
    let line = memberships.map(|membership| TeamRoleLine {
        team: membership.team_name,
        role: membership.role,
    });
    Ok(line.collect())
}
