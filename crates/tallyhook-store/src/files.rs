//! Files and folders that other users of the machine may reach.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::OFlags;

/// The users besides root and this process's own that can put files into a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderAccess {
    /// None.
    Own,
    /// Its owner, its group, or all users if the sticky bit keeps them from each other's files.
    /// Groups are allowed: volumes of Kubernetes are written through one, and many systems give
    /// each user a group of its own. What lies there already is not trusted, see [`check_owner`].
    Shared,
}

/// Checks the folder of the database or of the admin token.
///
/// # Errors
/// If every user of the machine could remove and replace the files in it, with the next step.
pub fn check_folder(folder: &Path) -> anyhow::Result<FolderAccess> {
    let found = std::fs::metadata(folder).with_context(|| {
        format!(
            "cannot read the folder {}: create it, or name another",
            folder.display()
        )
    })?;
    const STICKY: u32 = 0o1000;
    let mode = found.mode();
    if mode & 0o002 != 0 && mode & STICKY == 0 {
        bail!(
            "every user of this machine can replace the files in the folder {} (mode {:o}): run \
             `chmod o-w {}`, or name another folder",
            folder.display(),
            mode & 0o7777,
            folder.display()
        );
    }
    let own = is_trusted(&found) && mode & 0o022 == 0;
    Ok(if own {
        FolderAccess::Own
    } else {
        FolderAccess::Shared
    })
}

/// Checks that a file in a shared folder, if it exists, was put there by this user or by root.
///
/// # Errors
/// If it belongs to another user or is no plain file, with the next step.
pub fn check_owner(path: &Path) -> anyhow::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    if !found.is_file() {
        bail!(
            "{} is not a plain file, and other users can write to its folder: remove it",
            path.display()
        );
    }
    if !is_trusted(&found) {
        bail!(
            "{} belongs to user {}, not to the user of this process ({}): run tallyhook as that \
             user, or change the owner of the file and of its folder",
            path.display(),
            found.uid(),
            rustix::process::geteuid().as_raw()
        );
    }
    Ok(())
}

/// Opens a file that this process made earlier, or makes it for this user alone. Never follows a
/// symbolic link and leaves the content as it is.
pub(crate) fn open_own(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Returns true if other users can read the file.
pub fn is_readable_by_others(found: &Metadata) -> bool {
    found.mode() & 0o007 != 0
}

fn is_trusted(found: &Metadata) -> bool {
    let me = rustix::process::geteuid();
    found.uid() == me.as_raw() || found.uid() == 0
}

/// Returns the folder of a file.
pub fn folder_of(file: &Path) -> &Path {
    file.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Returns the free bytes of the disk of a file, if the system reports them.
pub fn free_bytes(file: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(folder_of(file)).ok()?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}
