//! `tallyhook token`

use chrono::{SecondsFormat, Utc};
use clap::Subcommand;
use serde_json::json;
use tallyhook_core::text::check_name;
use tallyhook_store::Store;

use super::confirmation::Confirmation;
use super::{CommandFailure, CommandResult, output};
use crate::api::auth;

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
                let token = auth::new_token();
                let (login, hash) = (login.as_deref(), auth::hash(&token));
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

fn failed(what: &str) -> CommandFailure {
    CommandFailure::Failed(anyhow::anyhow!("{what}"))
}
