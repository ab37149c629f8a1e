//! `tallyhook secrets`

use chrono::Utc;
use clap::{Args, Subcommand};
use serde::Serialize;
use tallyhook_store::OpenMode;

use super::act::record;
use super::confirmation::Confirmation;
use super::{CommandFailure, CommandResult, SettingSources, output};
use crate::config::{Config, TALLYHOOK_ENCRYPTION_KEYS};
use crate::secrets::{ForgottenKey, KeyId, KeyStatus, Vault, add_key};

#[derive(Debug, Subcommand)]
pub(super) enum SecretsCommand {
    /// List the keys, and the rows that each has sealed
    ///
    /// The exit code is 1 if a key is missing: what it sealed is locked until it is put back.
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Seal again by the first key what others have sealed
    ///
    /// It works beside a running server, a hundred rows at a time, and can be interrupted and begun
    /// again. With the keys in the settings: put the new key before the others, restart every
    /// process, run this, then take the old key out.
    Rotate(RotateArgs),
    /// Forget a key that has sealed nothing that is still stored
    Forget(ForgetArgs),
}

#[derive(Args, Debug)]
pub(super) struct RotateArgs {
    /// Add a new key to the file beside a SQLite database first
    #[arg(long)]
    new_key: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(super) struct ForgetArgs {
    /// The id of `secrets status`
    #[arg(value_name = "KEYID")]
    id: KeyId,
    /// For a key that is lost: destroy what it sealed; these connections are made again, and their
    /// tokens are revoked at GitHub by hand
    #[arg(long)]
    destroy: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// A key, as JSON.
#[derive(Serialize)]
struct KeyLine {
    id: String,
    configured: bool,
    seals: bool,
    rows: std::collections::BTreeMap<String, u64>,
}

impl From<&KeyStatus> for KeyLine {
    fn from(key: &KeyStatus) -> Self {
        Self {
            id: key.id.to_string(),
            configured: key.is_configured,
            seals: key.seals,
            rows: key.tables.clone(),
        }
    }
}

/// The result of a rotation, as JSON.
#[derive(Serialize)]
struct RotationLine {
    sealed: u64,
    changed: u64,
    locked: u64,
    damaged: u64,
}

impl SecretsCommand {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let config = Config::new(&sources)?;
        let store = tallyhook_store::open(&config.database_url, OpenMode::Shared).await?;
        let host = config.github_api_url.to_string();
        let vault = Vault::new(store, config.key_source.clone(), host);
        match self {
            Self::Status { json } => status(&vault, json).await,
            Self::Rotate(arguments) => arguments.run(&vault).await,
            Self::Forget(arguments) => arguments.run(&vault).await,
        }
    }
}

async fn status(vault: &Vault, json: bool) -> CommandResult {
    let status = vault.status().await?;
    if json {
        output::json_list(status.keys.iter().map(KeyLine::from).collect::<Vec<_>>())?;
    } else {
        let mut table = output::table([
            output::whole("key"),
            output::whole("state"),
            output::detail("rows"),
        ]);
        for key in &status.keys {
            let state = match (key.is_configured, key.seals) {
                (true, true) => "seals",
                (true, false) => "opens",
                (false, _) => "missing",
            };
            let rows: Vec<_> = key.tables.iter().collect();
            let rows = rows
                .iter()
                .map(|(table, rows)| format!("{rows} in {table}"));
            let rows = rows.collect::<Vec<_>>().join(", ");
            let rows = if rows.is_empty() {
                "none".to_owned()
            } else {
                rows
            };
            table.add_row([key.id.to_string(), state.to_owned(), rows]);
        }
        table.print(
            "there is no key yet: one is made with the first secret, or set in the settings",
        )?;
    }
    match status.missing().count() {
        0 => Ok(()),
        missing => Err(failed(format!(
            "{missing} keys are missing, and what they sealed is locked: put them back into \
             {TALLYHOOK_ENCRYPTION_KEYS} or the file tallyhook-keys"
        ))),
    }
}

impl RotateArgs {
    async fn run(self, vault: &Vault) -> CommandResult {
        if self.new_key {
            let source = vault.source();
            let path = source.path().ok_or_else(|| {
                CommandFailure::Usage(format!(
                    "--new-key is for the file beside a SQLite database: put a new key of `openssl \
                     rand -base64 32` before the others in {TALLYHOOK_ENCRYPTION_KEYS}"
                ))
            })?;
            add_key(path)?;
        }
        let counts = record(
            vault.store(),
            "secrets.rotated",
            None,
            vault.rotate(),
            Result::is_ok,
        );
        let counts = counts.await??;
        if self.json {
            output::json(&RotationLine {
                sealed: counts.sealed,
                changed: counts.changed,
                locked: counts.locked,
                damaged: counts.damaged,
            })?;
        } else {
            output::line(&format!("sealed {} values by the first key", counts.sealed))?;
        }
        match (counts.locked, counts.damaged) {
            (0, 0) => Ok(()),
            (locked, damaged) => Err(failed(format!(
                "{locked} values are left whose key is missing, and {damaged} that were changed or \
                 moved: `tallyhook secrets status` lists the keys"
            ))),
        }
    }
}

impl ForgetArgs {
    async fn run(self, vault: &Vault) -> CommandResult {
        let Self {
            id,
            destroy,
            confirmation,
        } = self;
        let action = match destroy {
            true => format!("forget the key {id} and destroy what it sealed"),
            false => format!("forget the key {id}"),
        };
        confirmation.obtain(&action)?;
        let target = Some(("key", id.to_string()));
        let act = vault.forget(id, destroy, Utc::now());
        let forgotten = record(
            vault.store(),
            "secrets.forgotten",
            target,
            act,
            |forgotten| matches!(forgotten, Ok(ForgottenKey::Removed)),
        );
        match forgotten.await?? {
            ForgottenKey::Removed => output::line("forgotten: it is no longer in the file"),
            ForgottenKey::InSettings => output::line(&format!(
                "nothing is sealed by it: take it out of {TALLYHOOK_ENCRYPTION_KEYS}"
            )),
            ForgottenKey::Destroyed(rows) => {
                output::line(&format!("destroyed {rows} rows that it had sealed"))
            }
            ForgottenKey::Seals => Err(failed(
                "it is the first key, which seals: `tallyhook secrets rotate --new-key` makes \
                 another",
            )),
            ForgottenKey::InUse(rows) => Err(failed(format!(
                "{rows} rows are sealed by it: run `tallyhook secrets rotate` first"
            ))),
            ForgottenKey::Lost(rows) => Err(failed(format!(
                "{rows} rows are sealed by it, and it is not configured: put it back, or, if it is \
                 lost, give --destroy"
            ))),
            ForgottenKey::Unknown => Err(failed(
                "there is no such key: `tallyhook secrets status` lists them",
            )),
        }
    }
}

fn failed(what: impl Into<String>) -> CommandFailure {
    CommandFailure::Failed(anyhow::anyhow!("{}", what.into()))
}
