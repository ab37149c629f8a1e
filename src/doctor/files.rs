//! Checks of files that other users of this machine may read or replace.

use std::path::Path;

use tallyhook_store::files::{self, FolderAccess, folder_of};
use tallyhook_store::{FileUse, file_use};

use super::Finding;
use crate::config::Config;

/// Checks the file in use, its mode and its folder. It runs before the database is opened.
pub(super) fn database_file(database: &Path) -> Option<Finding> {
    if file_use(database) == FileUse::ServedElsewhere {
        let found = format!(
            "{} was removed or replaced while a server uses it: what that server stores is lost",
            database.display()
        );
        let advice = "put the file back; if it is gone, stop the server and start it again";
        return Some(Finding::wrong("database file", found, advice));
    }
    file_access(database)
}

/// Checks the rights of others on the file and its folder.
pub(super) fn file_access(database: &Path) -> Option<Finding> {
    let readable = std::fs::metadata(database).is_ok_and(|it| files::is_readable_by_others(&it));
    match files::check_folder(folder_of(database)) {
        // A missing folder is a finding of the database.
        Err(_) if !folder_of(database).exists() => None,
        Err(error) => Some(Finding::wrong(
            "database file",
            error.to_string(),
            "take the right to write from the others: `serve` refuses such a folder",
        )),
        Ok(_) if readable => Some(Finding::warning(
            "database file",
            format!("every user of this machine can read {}", database.display()),
            "run `chmod 600` on it and on its -wal and -shm files",
        )),
        Ok(FolderAccess::Shared) => Some(Finding::warning(
            "database file",
            "other users can put files into its folder",
            "give the folder to the user of `serve` alone (`chmod 700`)",
        )),
        Ok(FolderAccess::Own) => None,
    }
}

/// Checks the files with secrets: the admin token, those that settings name, the configuration.
pub(super) fn secret_files(config: &Config) -> Vec<Finding> {
    let token = config.admin_token_path();
    let mut files = vec![("the admin token".to_owned(), token)];
    let origins = &config.origins;
    let named = origins.secret_files.iter();
    files.extend(named.map(|file| (file.setting.to_owned(), file.path.clone())));
    if let Some(path) = &origins.config_file
        && origins.config_file_has_secrets
    {
        files.push(("settings that are secret".to_owned(), path.to_owned()));
    }
    let readable = files.into_iter().filter(|(_, path)| {
        std::fs::metadata(path).is_ok_and(|found| files::is_readable_by_others(&found))
    });
    let findings: Vec<_> = readable
        .map(|(content, path)| {
            let path = path.display();
            Finding::warning(
                "secret file",
                format!("every user of this machine can read {path}, which has {content}"),
                format!(
                    "run `chmod 600 {path}` as its owner, and replace what others may have read"
                ),
            )
        })
        .collect();
    if findings.is_empty() {
        return vec![Finding::ok(
            "secret file",
            "no secret is in a file that all users can read",
        )];
    }
    findings
}
