//! `tallyhook token`

use chrono::{SecondsFormat, Utc};
use clap::Subcommand;
use serde_json::json;
use tallyhook_core::text::{check_name, one_line};
use tallyhook_store::Store;

use super::confirmation::Confirmation;
use super::{CommandFailure, CommandResult, output};
use crate::api::auth;

/// The most characters of a login on GitHub.
const MAX_LOGIN_LENGTH: usize = 39;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create a token and print it; it is not shown again
    Create {
        /// A name that says what it is for: 1 to 100 characters
        name: String,
        /// The login on GitHub that `me` means to its holder
        #[arg(long)]
        login: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List tokens, without their values
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token
    Revoke {
        /// The name of `token list`
        name: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

impl TokenCommand {
    pub(super) async fn run(self, store: &Store) -> CommandResult {
        let now = Utc::now();
        match self {
            Self::Create { name, login, json } => {
                check_name(&name)
                    .map_err(|why| CommandFailure::Usage(format!("the name of a token {why}")))?;
                let login = login.as_deref().map(checked_login).transpose()?;
                let token = auth::new_token();
                let (login, hash) = (login, auth::hash(&token));
                if !store.create_token(&name, login, &hash, now).await? {
                    return Err(failed(&format!(
                        "there is a token `{name}`: revoke it first, or choose another name"
                    )));
                } else if json {
                    let created = json!({"name": name, "login": login, "token": token});
                    return output::json(&created);
                }
                output::line(&token)
            }
            Self::List { json } => list(store, json).await,
            Self::Revoke { name, confirmation } => {
                confirmation.obtain(&format!("revoke the token `{name}`"))?;
                if store.revoke_token(&name, now).await? {
                    return output::line("revoked");
                }
                Err(failed(&format!("there is no valid token `{name}`")))
            }
        }
    }
}

async fn list(store: &Store, json: bool) -> CommandResult {
    let tokens = store.tokens().await?;
    let rows: Vec<[Option<String>; 4]> = tokens
        .into_iter()
        .map(|token| {
            let text = |at: tallyhook_store::Moment| at.to_rfc3339_opts(SecondsFormat::Secs, true);
            [
                Some(token.name),
                token.login,
                Some(text(token.created_at)),
                token.revoked_at.map(text),
            ]
        })
        .collect();
    if json {
        let items = rows.iter().map(|[name, login, created, revoked]| {
            json!({"name": name, "login": login, "created_at": created, "revoked_at": revoked})
        });
        return output::json_list(items.collect::<Vec<_>>());
    }
    let mut table = output::table([
        output::text("name"),
        output::detail("login"),
        output::whole("created"),
        output::whole("revoked"),
    ]);
    for row in rows {
        table.add_row(row.map(Option::unwrap_or_default));
    }
    table.print("there is no token: `tallyhook token create NAME` creates one")
}

/// Checks a login, which may be written with its `@`.
fn checked_login(login: &str) -> CommandResult<&str> {
    let login = login.trim();
    let login = login.strip_prefix('@').unwrap_or(login);
    // Those of organizations with managed users have an underscore before a short code.
    let (name, code) = match login.split_once('_') {
        Some((name, code)) => (name, Some(code)),
        None => (login, None),
    };
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric());
    let is_login = login.len() <= MAX_LOGIN_LENGTH
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        && !name.is_empty()
        && !name.starts_with('-')
        && code.is_none_or(is_word);
    match is_login {
        true => Ok(login),
        false => Err(CommandFailure::Usage(format!(
            "--login is `{}`, which is no login on GitHub: expected letters, digits and dashes, at \
             most {MAX_LOGIN_LENGTH}",
            one_line(login, 60)
        ))),
    }
}

fn failed(what: &str) -> CommandFailure {
    CommandFailure::Failed(anyhow::anyhow!("{what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_have_the_form_of_github() {
        for (login, expected) in [
            ("ines-acme", Some("ines-acme")),
            ("@ines-acme", Some("ines-acme")),
            (" Ines42 ", Some("Ines42")),
            // GitHub has old ones that end in a dash.
            ("ines-", Some("ines-")),
            ("ines_acme", Some("ines_acme")),
            ("", None),
            ("@", None),
            ("-ines", None),
            ("_acme", None),
            ("ines_", None),
            ("ines acme", None),
            ("github_team:backend", None),
            ("ïnes", None),
            ("a234567890123456789012345678901234567890", None),
        ] {
            assert_eq!(checked_login(login).ok(), expected, "{login}");
        }
    }
}
