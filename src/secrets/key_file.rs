//! The file of keys beside a SQLite database.

use std::fs::{OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::OFlags;
use tallyhook_store::files::{check_folder, folder_of};

use super::key_ring::{KeyId, KeyRing, new_key};
use super::secret_bytes::SecretBytes;

/// The name of the file.
pub const KEY_FILE: &str = "tallyhook-keys";

/// Reads the file; `None` if there is none.
///
/// # Errors
/// If it cannot be read, or others can read it, with the next step.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<SecretBytes>> {
    let opened = OpenOptions::new()
        .read(true)
        // Another user's pipe would keep an opener waiting.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let found = file
        .metadata()
        .with_context(|| format!("cannot read {}", path.display()))?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw() || found.uid() == 0;
    if !found.is_file() || !is_own || found.mode() & 0o077 != 0 {
        bail!(
            "{} has the keys of stored secrets, and others can read or replace it: run `chmod 600` \
             on it as its owner, who must be the user of this process",
            path.display()
        );
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(SecretBytes::new(text)))
}

/// Makes the file with one new key, unless another process is faster.
///
/// # Errors
/// If it cannot be written, or every user could replace it.
pub(super) fn make(path: &Path) -> anyhow::Result<()> {
    check_folder(folder_of(path))?;
    let key = new_key().context("the system gives no random bytes")?;
    match write(path, &key, false) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.with_context(|| format!("cannot write {}", path.display())),
    }
}

/// Adds a new key to the file, which seals from now on. Returns its id.
///
/// # Errors
/// If the file cannot be read or written.
pub fn add_key(path: &Path) -> anyhow::Result<KeyId> {
    let key = new_key().context("the system gives no random bytes")?;
    let known = read(path)?;
    let mut text = key.expose().to_vec();
    text.push(b'\n');
    text.extend_from_slice(known.as_ref().map_or(b"", SecretBytes::expose));
    let text = SecretBytes::new(text);
    let ring = parse(path, &text)?;
    check_folder(folder_of(path))?;
    write(path, &text, true).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(ring.sealing())
}

/// Removes a key from the file. Returns `false` if it is not in it, or is the only one.
///
/// # Errors
/// If the file cannot be read or written.
pub fn remove_key(path: &Path, id: KeyId) -> anyhow::Result<bool> {
    let Some(text) = read(path)? else {
        return Ok(false);
    };
    let words = text.expose_text().unwrap_or_default().split_whitespace();
    let (gone, kept): (Vec<_>, Vec<_>) =
        words.partition(|word| KeyRing::parse(word).is_ok_and(|key| key.sealing() == id));
    if gone.is_empty() || kept.is_empty() {
        return Ok(false);
    }
    let kept: SecretBytes = kept.join("\n").into();
    write(path, &kept, true).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

pub(super) fn parse(path: &Path, text: &SecretBytes) -> anyhow::Result<KeyRing> {
    let text = text.expose_text().unwrap_or("(no text)");
    KeyRing::parse(text).with_context(|| format!("{} is no list of keys", path.display()))
}

/// Writes a new file of an unpredictable name for this user alone, then gives it its name: a reader
/// finds whole keys, and no other user can have prepared the way.
fn write(path: &Path, text: &SecretBytes, replace: bool) -> std::io::Result<()> {
    let folder = folder_of(path);
    let mut file = tempfile::Builder::new()
        .prefix("tallyhook-keys.")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    file.write_all(text.expose())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    match replace {
        true => file.persist(path)?,
        false => file.persist_noclobber(path)?,
    };
    // What is sealed by a key must not be stored before the name of its file is.
    std::fs::File::open(folder)?.sync_all()
}
