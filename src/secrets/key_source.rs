//! The source of the keys: the settings, or the file beside the database.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::key_file::{self, KEY_FILE};
use super::key_ring::KeyRing;

/// The source of the keys of a process.
#[derive(Clone)]
pub enum KeySource {
    /// The keys of the settings.
    Settings(Arc<KeyRing>),
    /// The file beside the database, which is made when it is needed.
    File(Arc<KeyFile>),
    /// None: what would be sealed is refused.
    Missing,
}

/// A file of keys, as it was read last.
pub struct KeyFile {
    path: PathBuf,
    read: Mutex<Option<ReadKeys>>,
}

struct ReadKeys {
    /// Inode, size and time of the file.
    version: (u64, u64, Option<SystemTime>),
    keys: Arc<KeyRing>,
}

impl KeySource {
    /// Returns the keys beside a database, if that is a file.
    pub fn beside(database_url: &str) -> Self {
        match tallyhook_store::sqlite_file(database_url) {
            Some(database) => Self::file(database.with_file_name(KEY_FILE)),
            None => Self::Missing,
        }
    }

    /// Returns the keys of a file.
    pub fn file(path: PathBuf) -> Self {
        Self::File(Arc::new(KeyFile {
            path,
            read: Mutex::default(),
        }))
    }

    /// Returns the path of the file, if the keys are in one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(file) => Some(&file.path),
            Self::Settings(_) | Self::Missing => None,
        }
    }

    /// Returns the keys; `None` if there are none yet.
    ///
    /// # Errors
    /// If the file cannot be read or is none of keys.
    pub fn keys(&self) -> anyhow::Result<Option<Arc<KeyRing>>> {
        match self {
            Self::Settings(keys) => Ok(Some(keys.clone())),
            Self::File(file) => file.keys(),
            Self::Missing => Ok(None),
        }
    }

    /// Returns the keys, which are made if this source may. `None` if it may not.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub(super) fn keys_to_seal(&self) -> anyhow::Result<Option<Arc<KeyRing>>> {
        match (self.keys()?, self) {
            (None, Self::File(file)) => {
                key_file::make(&file.path)?;
                tracing::info!(
                    file = %file.path.display(),
                    "made a key for stored secrets in {}: keep a copy of it apart from the backups \
                     of the database",
                    file.path.display()
                );
                file.keys()
            }
            (keys, _) => Ok(keys),
        }
    }
}

impl KeyFile {
    /// Reads the file again if it is another than the one that was read: `secrets rotate` adds keys
    /// beside a running server.
    fn keys(&self) -> anyhow::Result<Option<Arc<KeyRing>>> {
        let mut read = self.read.lock();
        let Ok(found) = std::fs::metadata(&self.path) else {
            *read = None;
            // The reason why it cannot be read, if it is there.
            return match key_file::read(&self.path)? {
                None => Ok(None),
                Some(text) => Ok(Some(Arc::new(key_file::parse(&self.path, &text)?))),
            };
        };
        let version = (found.ino(), found.len(), found.modified().ok());
        if let Some(known) = &*read
            && known.version == version
        {
            return Ok(Some(known.keys.clone()));
        }
        let Some(text) = key_file::read(&self.path)? else {
            return Ok(None);
        };
        let keys = Arc::new(key_file::parse(&self.path, &text)?);
        *read = Some(ReadKeys {
            version,
            keys: keys.clone(),
        });
        Ok(Some(keys))
    }
}
