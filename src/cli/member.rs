//! `tallyhook member`

use chrono::{SecondsFormat, Utc};
use clap::Subcommand;
use tallyhook_store::{
    AccessRole, MemberAddition, MemberChange, Store, TeamId, UserId, UserRecord,
};

use super::confirmation::Confirmation;
use super::{CommandFailure, CommandResult, failed, output, team};
use crate::api::MemberItem;

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// List the members of a team
    List {
        /// The slug of the team
        #[arg(long, value_name = "TEAM")]
        team: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a person a member of a team
    Add {
        /// The person, by login or by the id of `user list`
        user: String,
        /// The slug of the team
        #[arg(long, value_name = "TEAM")]
        team: Option<String>,
        /// The role in the team: viewer, member or admin
        #[arg(long, default_value = "member", value_parser = team_role)]
        role: AccessRole,
    },
    /// Set the role of a member
    Role {
        /// The person, by login or by the id of `user list`
        user: String,
        /// The role in the team: viewer, member or admin
        #[arg(value_parser = team_role)]
        role: AccessRole,
        /// The slug of the team
        #[arg(long, value_name = "TEAM")]
        team: Option<String>,
    },
    /// Remove a member; the tokens that it made for the team have no force from then on
    Remove {
        /// The person, by login or by the id of `user list`
        user: String,
        /// The slug of the team
        #[arg(long, value_name = "TEAM")]
        team: Option<String>,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

/// Reads a role in a team.
pub(super) fn team_role(text: &str) -> Result<AccessRole, String> {
    let roles = [AccessRole::Viewer, AccessRole::Member, AccessRole::Admin];
    let role = roles.into_iter().find(|role| role.as_str() == text);
    role.ok_or_else(|| "expected viewer, member or admin".to_owned())
}

impl MemberCommand {
    pub(super) async fn run(self, store: &Store) -> CommandResult {
        match self {
            Self::List { team, json } => {
                let (team, _) = team::named(store, team.as_deref()).await?;
                list(store, team, json).await
            }
            Self::Add { user, team, role } => {
                let (team, _) = team::named(store, team.as_deref()).await?;
                let user = person(store, &user).await?.person.id;
                match store.add_member(team, user, role, Utc::now()).await? {
                    MemberAddition::Added => output::line("added"),
                    MemberAddition::IsMember => Err(failed(
                        "the person is a member: `tallyhook member role` sets its role",
                    )),
                    MemberAddition::Unknown => Err(failed("there is no such person")),
                }
            }
            Self::Role { user, role, team } => {
                let (team, _) = team::named(store, team.as_deref()).await?;
                let user = person(store, &user).await?.person.id;
                done(store.set_member_role(team, user, role).await?, "set")
            }
            Self::Remove {
                user,
                team,
                confirmation,
            } => {
                let (team, slug) = team::named(store, team.as_deref()).await?;
                let person = person(store, &user).await?.person;
                let shown = person.shown();
                confirmation.obtain(&format!("remove {shown} from the team `{slug}`"))?;
                done(store.remove_member(team, person.id).await?, "removed")
            }
        }
    }
}

fn done(change: MemberChange, word: &str) -> CommandResult {
    match change {
        MemberChange::Done => output::line(word),
        MemberChange::NotMember => Err(failed("the person is no member of the team")),
        MemberChange::LastAdmin => Err(failed(
            "this is the last admin of the team: make another member admin first",
        )),
    }
}

/// Returns the person that a command names, by id or login.
///
/// # Errors
/// If there is none, or several have the login.
pub(super) async fn person(store: &Store, text: &str) -> CommandResult<UserRecord> {
    let missing = || {
        failed(&format!(
            "there is no person `{text}`: `tallyhook user list` shows them"
        ))
    };
    if let Ok(id) = text.parse() {
        return store.user(UserId(id)).await?.ok_or_else(missing);
    }
    let mut found = store.users_of_login(text.trim_start_matches('@')).await?;
    match found.len() {
        0 => Err(missing()),
        1 => Ok(found.remove(0)),
        _ => Err(CommandFailure::Usage(format!(
            "several people have the login `{text}`: name one by the id of `tallyhook user list`"
        ))),
    }
}

async fn list(store: &Store, team: TeamId, json: bool) -> CommandResult {
    let members = store.members(team).await?;
    if json {
        let items = members.into_iter().map(MemberItem::from);
        return output::json_list(items.collect::<Vec<_>>());
    }
    let mut table = output::table([
        output::whole("id"),
        output::text("login"),
        output::text("name"),
        output::whole("role"),
        output::detail("source"),
        output::detail("since"),
    ]);
    for member in members {
        table.add_row([
            member.person.id.0.to_string(),
            member.person.login.unwrap_or_default(),
            member.person.name.unwrap_or_default(),
            member.role.to_string(),
            member.source.as_str().to_owned(),
            member.created_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        ]);
    }
    table.print("the team has no member: `tallyhook user invite NAME --team TEAM` invites one")
}
