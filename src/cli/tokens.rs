//! `tallyhook token`

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, TimeDelta, Utc};
use clap::{Args, Subcommand};
use tallyhook_core::text::{check_name, read_login};
use tallyhook_store::{AccessRole, Moment, Store};

use super::act::record;
use super::confirmation::Confirmation;
use super::{CommandFailure, CommandResult, failed, output, team};
use crate::api::{MAX_DAYS, TokenItem, TokenOrder, create_token};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create a token and print it; it is not shown again
    Create(CreateTokenArgs),
    /// List tokens, without their values
    List {
        /// The slug of a team: only its tokens
        #[arg(long, value_name = "TEAM")]
        team: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token, and end the sessions of browsers that signed in with it
    Revoke {
        /// The name of `token list`
        name: String,
        /// The slug of its team
        #[arg(long, value_name = "TEAM")]
        team: Option<String>,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Args, Debug)]
pub(super) struct CreateTokenArgs {
    /// A name that says what it is for: 1 to 100 characters
    name: String,
    /// The slug of its team
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Its rights: viewer reads, member also asks GitHub and changes tasks, admin also changes
    /// repositories, channels and tokens, operator runs the installation
    #[arg(long, default_value = "admin", value_parser = role)]
    role: AccessRole,
    /// Its end: a span from now such as 30d, a date (midnight UTC), or never
    #[arg(long, value_name = "SPAN|DATE|never", default_value = "90d", value_parser = token_end)]
    expires: TokenEnd,
    /// The login on GitHub that `me` means to its holder
    #[arg(long, value_parser = login)]
    login: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The end of a new token; `None` is one without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TokenEnd(Option<DateTime<Utc>>);

fn role(text: &str) -> Result<AccessRole, String> {
    let mut roles = AccessRole::ALL.into_iter();
    roles
        .find(|role| role.as_str() == text)
        .ok_or_else(|| "expected viewer, member, admin or operator".to_owned())
}

fn login(text: &str) -> Result<String, String> {
    read_login(text)
        .map(str::to_owned)
        .map_err(|why| format!("it {why}"))
}

fn token_end(text: &str) -> Result<TokenEnd, String> {
    end_after(text, Utc::now())
        .ok_or_else(|| format!("expected a span of at most {MAX_DAYS}d, a later date, or never"))
}

/// Reads the end of a token that is made at `now`; none in the past or too far ahead.
fn end_after(text: &str, now: DateTime<Utc>) -> Option<TokenEnd> {
    if text == "never" {
        return Some(TokenEnd(None));
    }
    let end = match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(date) => date.and_time(NaiveTime::MIN).and_utc(),
        Err(_) => {
            let span = TimeDelta::from_std(humantime::parse_duration(text).ok()?).ok()?;
            now.checked_add_signed(span)?
        }
    };
    let most = now + TimeDelta::days(MAX_DAYS.into());
    (now < end && end <= most).then_some(TokenEnd(Some(end)))
}

impl TokenCommand {
    pub(super) async fn run(self, store: &Store) -> CommandResult {
        match self {
            Self::Create(arguments) => arguments.run(store).await,
            Self::List { team, json } => list(store, team.as_deref(), json).await,
            Self::Revoke {
                name,
                team,
                confirmation,
            } => {
                let (team, slug) = team::named(store, team.as_deref()).await?;
                confirmation.obtain(&format!("revoke the token `{name}`"))?;
                let target = Some(("token", name.clone()));
                let act = store.revoke_token(team, &name, Utc::now());
                if record(store, "token.revoked", target, act, |_| false).await?? {
                    return output::line("revoked");
                }
                Err(failed(&format!(
                    "there is no valid token `{name}` of the team `{slug}`"
                )))
            }
        }
    }
}

impl CreateTokenArgs {
    async fn run(self, store: &Store) -> CommandResult {
        let Self {
            name,
            team,
            role,
            expires: TokenEnd(expires_at),
            login,
            json,
        } = self;
        check_name(&name)
            .map_err(|why| CommandFailure::Usage(format!("the name of a token {why}")))?;
        let order = TokenOrder {
            name: &name,
            role,
            login: login.as_deref(),
            created_by: None,
            expires_at,
        };
        let (team, slug) = team::named(store, team.as_deref()).await?;
        let target = Some(("token", name.clone()));
        let act = create_token(store, (team, &slug), order);
        let created = record(store, "token.created", target, act, |_| false).await??;
        let Some(created) = created else {
            return Err(failed(&format!(
                "there is a token `{name}`: revoke it first, or choose another name"
            )));
        };
        if json {
            return output::json(&created);
        }
        output::line(&created.token)
    }
}

async fn list(store: &Store, slug: Option<&str>, json: bool) -> CommandResult {
    let team = match slug {
        Some(slug) => Some(team::named(store, Some(slug)).await?.0),
        None => None,
    };
    let tokens = store.tokens(team).await?;
    if json {
        let items = tokens.into_iter().map(TokenItem::from);
        return output::json_list(items.collect::<Vec<_>>());
    }
    let mut table = output::table([
        output::text("name"),
        output::detail("team"),
        output::whole("role"),
        output::detail("login"),
        output::detail("created"),
        output::whole("expires"),
        output::detail("last used"),
        output::whole("revoked"),
    ]);
    let text = |at: Option<Moment>| {
        let at = at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
        at.unwrap_or_default()
    };
    for token in tokens {
        table.add_row([
            token.name,
            token.team,
            token.role.to_string(),
            token.login.unwrap_or_default(),
            text(Some(token.created_at)),
            text(token.expires_at),
            text(token.last_used_at),
            text(token.revoked_at),
        ]);
    }
    table.print("there is no token: `tallyhook token create NAME` creates one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_token_is_ahead_and_at_most_ten_years() {
        let now = DateTime::from_timestamp(1_772_366_400, 0).unwrap();
        for (text, expected) in [
            ("30d", Some("2026-03-31T12:00:00Z")),
            ("12h", Some("2026-03-02T00:00:00Z")),
            ("2026-04-01", Some("2026-04-01T00:00:00Z")),
            ("3650d", Some("2036-02-27T12:00:00Z")),
        ] {
            let end = expected.map(|end| end.parse().unwrap());
            assert_eq!(end_after(text, now), Some(TokenEnd(end)), "{text}");
        }
        assert_eq!(end_after("never", now), Some(TokenEnd(None)));
        for text in [
            "",
            "0d",
            "-1d",
            "2026-03-01",
            "2026-02-30",
            "4000d",
            "soon",
            "Never",
        ] {
            assert_eq!(end_after(text, now), None, "{text}");
        }
    }
}
