//! The API token that the first start creates.

use std::fs::{Metadata, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use chrono::Utc;
use rustix::fs::OFlags;
use rustix::process::Uid;
use tallyhook_store::files::{check_folder, folder_of};
use tallyhook_store::{AccessRole, ApiToken, DEFAULT_TEAM, NewToken, Store};

use crate::api::auth;
use crate::config::Config;

/// The name under which the token is stored.
const ADMIN: &str = "admin";

/// Creates the token unless the store has one, and writes it to a file that only this user can
/// read.
///
/// # Errors
/// If the database or the file cannot be written, or every user could replace the file.
pub(super) async fn ensure(config: &Config, store: &Store) -> anyhow::Result<()> {
    let tokens = store.tokens(None).await.context("cannot read the tokens")?;
    let (team, team_name) = DEFAULT_TEAM;
    let is_first = |token: &ApiToken| token.team == team_name && token.name == ADMIN;
    if tokens.iter().any(is_first) {
        return Ok(());
    }
    let path = config.admin_token_path();
    check_folder(folder_of(&path))?;
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
        .create_token(&NewToken {
            name: ADMIN,
            hash: &auth::hash(&token),
            team,
            role: AccessRole::Operator,
            login: None,
            created_by: None,
            created_at: Utc::now(),
            expires_at: None,
        })
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

/// Reads the token of a file that belongs to this user and that only this user can read; any other
/// file is not trusted with one, nor is a link to one.
fn read_private(path: &Path) -> Option<String> {
    let mut file = OpenOptions::new()
        .read(true)
        // Another user's pipe would keep an opener waiting.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .ok()?;
    let found = file.metadata().ok()?;
    if !is_private(&found, rustix::process::geteuid()) {
        tracing::warn!(
            file = %path.display(),
            "{} is not a file that only this user owns and can read: it is replaced",
            path.display()
        );
        return None;
    }
    let mut token = String::new();
    file.read_to_string(&mut token).ok()?;
    let token = token.trim();
    auth::is_token(token).then(|| token.to_owned())
}

fn is_private(found: &Metadata, user: Uid) -> bool {
    found.is_file() && found.uid() == user.as_raw() && found.mode() & 0o077 == 0
}

/// Writes a new file of an unpredictable name for this user alone, then gives it its name: a reader
/// finds a whole token, and no other user can have prepared the way.
fn write_private(path: &Path, token: &str) -> std::io::Result<()> {
    let folder = folder_of(path);
    let mut file = tempfile::Builder::new()
        .prefix("tallyhook-admin-token.")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    writeln!(file, "{token}")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_private_file_of_this_user_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = auth::new_token();
        write_private(&path, &token).unwrap();
        assert_eq!(read_private(&path), Some(token.clone()));

        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read_private(&link), None);
        // The link is replaced, and not the file that it names.
        write_private(&link, &auth::new_token()).unwrap();
        assert_eq!(read_private(&path), Some(token));

        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_private(&path), None);
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(is_private(
            &std::fs::metadata(&path).unwrap(),
            rustix::process::geteuid()
        ));
        assert!(!is_private(
            &std::fs::metadata(&path).unwrap(),
            Uid::from_raw(4321)
        ));
    }
}
