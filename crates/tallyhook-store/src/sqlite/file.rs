//! The database file as the file system has it: its locks, and that it is still the one in use.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use rustix::io::Errno;

use crate::files::{self, FolderAccess};
use crate::{Result, StoreError};

/// The files that SQLite and this module put beside a database.
const COMPANIONS: [&str; 4] = ["-wal", "-shm", "-journal", ".lock"];

/// A database file that this process serves, locked until it is dropped.
///
/// Two locks say so. The first is on a file beside the database: it is taken before the database is
/// touched, and it also holds while the database is missing. The second is on the database itself,
/// so that neither a removed lock file nor a second name (a hard link) leads to two servers.
///
/// Both are locks of flock(2), which the standard library takes. SQLite's own are record locks of
/// fcntl(2), which flock neither sees nor disturbs on a local disk. But a process loses those when
/// it closes any descriptor of the file (<https://sqlite.org/howtocorrupt.html>, 2.2): so ours is
/// opened once, and closed after SQLite's.
pub(crate) struct DatabaseFile {
    path: PathBuf,
    database: File,
    /// The log and its index that SQLite has open. They stay the same files as long as one
    /// connection is open.
    log: OnceLock<[Option<FileId>; 2]>,
    replaced: AtomicBool,
    /// Dropped last.
    beside: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl From<Metadata> for FileId {
    fn from(found: Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

/// The part of a database that is no longer the one in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplacedPart {
    Database,
    /// The write-ahead log or its index.
    Log,
}

impl DatabaseFile {
    /// Locks the database, and creates it if `create`.
    ///
    /// # Errors
    /// In words that say what to do.
    pub(crate) fn lock(database: &Path, create: bool) -> anyhow::Result<Self> {
        let path = canonical(database);
        let folder = files::folder_of(&path);
        check_folder_exists(&path)?;
        if files::check_folder(folder)? == FolderAccess::Shared {
            files::check_owner(&path)?;
            for companion in COMPANIONS {
                files::check_owner(&beside(&path, companion))?;
            }
        }
        let beside = lock_beside(&path)?;
        if create {
            create_private(&path).map_err(|error| cannot_write(&path, error))?;
        }
        let database = File::open(&path).map_err(|error| cannot_write(&path, error))?;
        match database.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // Never closed: another server of this process would lose SQLite's locks.
                std::mem::forget(database);
                return Err(served(&path));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        if files::is_readable_by_others(&database.metadata()?) {
            tracing::warn!(
                path = %path.display(),
                "every user of this machine can read the database {}: run `chmod 600` on it and on \
                 its -wal and -shm files",
                path.display()
            );
        }
        Ok(Self {
            path,
            database,
            log: OnceLock::new(),
            replaced: AtomicBool::new(false),
            beside,
        })
    }

    /// Ends the locks, once nothing has the database open here. Dropping this does so too, but a task
    /// may hold it for longer than the store is open.
    pub(crate) fn unlock(&self) {
        for file in [&self.database, &self.beside] {
            if let Err(error) = file.unlock() {
                tracing::warn!(%error, "cannot unlock {}: {error}", self.path.display());
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses work on a database that is no longer the one in use.
    pub(crate) fn check(&self) -> Result<()> {
        if self.replaced.load(Ordering::Acquire) {
            Err(StoreError::Replaced(self.path.clone()))
        } else {
            Ok(())
        }
    }

    /// Compares the files at the database's paths with those in use. From the first difference on,
    /// [`check`](Self::check) refuses, until the file is put back.
    pub(crate) fn compare(&self) -> Option<ReplacedPart> {
        let id = |path: &Path| std::fs::metadata(path).ok().map(FileId::from);
        let log = ["-wal", "-shm"].map(|suffix| id(&beside(&self.path, suffix)));
        let replaced = if id(&self.path) != self.database.metadata().ok().map(FileId::from) {
            Some(ReplacedPart::Database)
        } else {
            match self.log.get() {
                None if log.iter().all(Option::is_some) => {
                    self.log.get_or_init(|| log);
                    None
                }
                Some(opened) if *opened != log => Some(ReplacedPart::Log),
                _ => None,
            }
        };
        self.replaced.store(replaced.is_some(), Ordering::Release);
        replaced
    }

    /// Returns the size of the write-ahead log in bytes.
    pub(crate) fn wal_bytes(&self) -> u64 {
        std::fs::metadata(beside(&self.path, "-wal")).map_or(0, |found| found.len())
    }

    /// Returns the free bytes of the disk, if the system reports them.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        files::free_bytes(&self.path)
    }
}

/// The use of a database file, as another process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileUse {
    Free,
    Served,
    /// A server runs here, but the file at the path is not the one it has open.
    ServedElsewhere,
}

/// Reads who uses the database at `path`. It must not be called while this process has the database
/// open.
pub fn file_use(path: &Path) -> FileUse {
    let path = canonical(path);
    let is_locked = |path: &Path| {
        File::open(path)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    };
    match (is_locked(&beside(&path, ".lock")), is_locked(&path)) {
        (false, false) => FileUse::Free,
        (_, true) => FileUse::Served,
        (true, false) => FileUse::ServedElsewhere,
    }
}

/// Takes the lock beside the database.
fn lock_beside(database: &Path) -> anyhow::Result<File> {
    let path = beside(database, ".lock");
    let file = files::open_own(&path).map_err(|error| cannot_write(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(served(database)),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn served(database: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "another tallyhook is serving {}; stop it, or give this one a DATABASE_URL of its own",
        database.display()
    )
}

/// Refuses a database whose folder is missing, which is not created: the path may be misspelt.
fn check_folder_exists(database: &Path) -> anyhow::Result<()> {
    let folder = files::folder_of(database);
    if folder.is_dir() {
        return Ok(());
    }
    let path = database.display();
    let exists = folder.exists();
    let folder = folder.display();
    if exists {
        bail!("cannot create {path}: {folder} is not a folder: name another in DATABASE_URL");
    }
    bail!(
        "cannot create {path}: the folder {folder} does not exist: create it with \
         `mkdir -p {folder}`, or name another in DATABASE_URL"
    )
}

fn cannot_write(path: &Path, error: io::Error) -> anyhow::Error {
    let folder = files::folder_of(path).display();
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => format!(
            "this user may not write it: give the file and its folder {folder} to this user, or \
             name another in DATABASE_URL"
        ),
        _ if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
            "it is a symbolic link: remove it".to_owned()
        }
        _ => format!("is the folder {folder} on a disk that can be written?"),
    };
    anyhow::Error::new(error).context(format!("cannot open {}: {advice}", path.display()))
}

/// Payloads of private repositories are for this user alone. SQLite gives its other files the mode
/// of this one.
fn create_private(database: &Path) -> io::Result<()> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(database)
    {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// One file is one lock, by whichever link it is reached.
fn canonical(database: &Path) -> PathBuf {
    if let Ok(path) = database.canonicalize() {
        return path;
    }
    match (
        files::folder_of(database).canonicalize(),
        database.file_name(),
    ) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => database.to_owned(),
    }
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
