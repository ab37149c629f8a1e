//! The API token that the first start creates.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use chrono::Utc;
use tallyhook_store::Store;

use crate::api::auth;
use crate::config::Config;

/// The name under which the token is stored.
const ADMIN: &str = "admin";

/// Creates the token unless the store has one, and writes it to a file that only this user can
/// read.
///
/// # Errors
/// If the database or the file cannot be written.
pub(super) async fn ensure(config: &Config, store: &Store) -> anyhow::Result<()> {
    let tokens = store.tokens().await.context("cannot read the tokens")?;
    if tokens.iter().any(|token| token.name == ADMIN) {
        return Ok(());
    }
    let path = config.admin_token_path();
    // The file is written first: a token that is only stored as a digest would be lost. A file that
    // is there already, of an interrupted start or of another database beside this one, stays valid
    // for both.
    let (token, created_here) = match read_private(&path) {
        Some(token) => (token, false),
        None => {
            let token = auth::new_token();
            write_private(&path, &token)
                .with_context(|| format!("cannot write the admin token to {}", path.display()))?;
            (token, true)
        }
    };
    if !store
        .create_token(ADMIN, &auth::hash(&token), Utc::now())
        .await
        .context("cannot store the admin token")?
    {
        // Another process of the same database was faster, and its token is the valid one; if it
        // runs in this folder, the file is its own.
        if created_here {
            std::fs::remove_file(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        return Ok(());
    }
    tracing::info!(file = %path.display(), "created the admin token of the API in this file");
    Ok(())
}

/// Reads the token of a file that only its owner can read; any other file is not trusted with one.
fn read_private(path: &Path) -> Option<String> {
    let private = std::fs::metadata(path).ok()?.permissions().mode() & 0o077 == 0;
    let token = std::fs::read_to_string(path)
        .ok()
        .filter(|_| private)?
        .trim()
        .to_owned();
    auth::is_token(&token).then_some(token)
}

fn write_private(path: &Path, token: &str) -> std::io::Result<()> {
    // A temporary file that is renamed: a reader of the file finds a whole token in it.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    // The mode above counts only for a new file.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}
