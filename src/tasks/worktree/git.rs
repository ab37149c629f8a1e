//! Running git in an untrusted repository: neither its configuration and hooks nor our own
//! environment are trusted.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tallyhook_core::text::one_line;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

/// The time limit of a command that only reads.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Limits of standard output and standard error, in bytes. The largest output is the list of files
/// of a large repository.
const MAX_OUTPUT: usize = 64 * 1024 * 1024;
const MAX_STDERR: usize = 64 * 1024;
/// Characters of foreign text that are quoted.
const MAX_QUOTE: usize = 200;
/// The search path for git.
const PROGRAMS: &str = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin";

/// The complete environment of git: no prompts, no fetches, no settings but the repository's own.
const ENVIRONMENT: [(&str, &str); 12] = [
    ("PATH", PROGRAMS),
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "false"),
    ("GIT_ALLOW_PROTOCOL", ""),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_PAGER", "cat"),
];

/// Settings that would start programs or hide changes, with the values that override them.
const OVERRIDES: [(&str, &str); 6] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("log.showSignature", "false"),
    ("status.showUntrackedFiles", "normal"),
    ("submodule.recurse", "false"),
];

/// The reason why a git command failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GitError {
    #[error("git cannot be run: {0}")]
    NotRun(String),
    #[error("git took too long")]
    TooLong,
    #[error("git wrote too much output")]
    TooMuch,
    #[error("git refused: {0}")]
    Refused(String),
}

/// Git in one folder, which must be the top of a working tree or a git directory: git does not
/// search the folders above it.
pub(super) struct IsolatedGit {
    folder: PathBuf,
    config: Vec<(OsString, OsString)>,
}

impl IsolatedGit {
    /// Prepares git for a repository: filters, which are programs that the repository makes git run
    /// on the content of files, are turned off.
    pub(super) async fn new(folder: &Path) -> Result<Self, GitError> {
        let config = OVERRIDES
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        let mut git = Self {
            folder: folder.to_owned(),
            config,
        };
        let names = git.read(["config", "--list", "--name-only", "-z"]).await?;
        let filters = names
            .split(|byte| *byte == 0)
            .filter(|name| name.starts_with(b"filter."));
        for name in filters {
            // An empty value removes the command and turns `required` off, so that the filter
            // changes nothing.
            git.config
                .push((OsString::from_vec(name.to_owned()), OsString::new()));
        }
        Ok(git)
    }

    /// Returns the same repository, run from another folder of it.
    pub(super) fn within(self, folder: PathBuf) -> Self {
        Self { folder, ..self }
    }

    /// Runs a command that only reads, and returns its output. It is killed when the call is
    /// cancelled.
    pub(super) async fn read<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Vec<u8>, GitError> {
        let mut command = self.command(arguments);
        run(command.kill_on_drop(true), READ_TIMEOUT, MAX_OUTPUT).await
    }

    /// Runs a command that must not stop half-way: git continues when the call is cancelled or this
    /// process ends. It keeps `held`, a locked file, open until then.
    pub(super) async fn run_to_completion<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        held: Option<File>,
        timeout: Duration,
    ) -> Result<(), GitError> {
        let mut command = self.command(arguments);
        // Standard input carries the locked file; git does not read from it.
        command.stdin(held.map_or_else(Stdio::null, Stdio::from));
        // In its own process group, so that Ctrl-C does not reach it.
        run(command.process_group(0), timeout, MAX_OUTPUT)
            .await
            .map(drop)
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::null());
        command.env(
            "GIT_CEILING_DIRECTORIES",
            self.folder.parent().unwrap_or(&self.folder),
        );
        // As variables, because `-c` splits its argument at the first `=` of a name.
        command.env("GIT_CONFIG_COUNT", self.config.len().to_string());
        for (index, (name, value)) in self.config.iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{index}"), name)
                .env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command
    }
}

/// Returns git's version line.
pub async fn version() -> Result<String, GitError> {
    let git = IsolatedGit {
        folder: PathBuf::from("/"),
        config: Vec::new(),
    };
    Ok(printable(&git.read(["version"]).await?))
}

/// Runs a command within a time limit and an output limit, and returns its standard output.
async fn run(
    command: &mut Command,
    time_limit: Duration,
    max_output: usize,
) -> Result<Vec<u8>, GitError> {
    let not_run = |error: std::io::Error| GitError::NotRun(error.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(not_run)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        let output = tokio::try_join!(read_all(stdout, max_output), read_all(stderr, MAX_STDERR))?;
        Ok((output, child.wait().await.map_err(not_run)?))
    };
    let Ok(ended) = timeout(time_limit, ended).await else {
        // An error means that it has ended in between.
        child.start_kill().ok();
        return Err(GitError::TooLong);
    };
    let ((stdout, stderr), status) = ended?;
    if status.success() {
        Ok(stdout)
    } else {
        Err(GitError::Refused(printable(&stderr)))
    }
}

/// Reads a stream to its end, up to `max` bytes.
async fn read_all(from: Option<impl AsyncRead + Unpin>, max: usize) -> Result<Vec<u8>, GitError> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        let limit = max as u64 + 1;
        from.take(limit)
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| GitError::NotRun(error.to_string()))?;
    }
    if bytes.len() > max {
        Err(GitError::TooMuch)
    } else {
        Ok(bytes)
    }
}

/// Returns foreign text on one line that is safe to print, cut to [`MAX_QUOTE`] characters.
pub(super) fn printable(text: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(text), MAX_QUOTE)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FlockOperation, flock};
    use rustix::io::Errno;

    use super::*;

    fn git(folder: &Path) -> IsolatedGit {
        IsolatedGit {
            folder: folder.to_owned(),
            config: Vec::new(),
        }
    }

    #[tokio::test]
    async fn git_is_killed_after_the_time_limit() {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path()).read(["init", "-q"]).await.unwrap();
        // Reading a pipe without a writer blocks for ever.
        let pipe = folder.path().join("pipe");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        std::fs::write(
            folder.path().join(".git/config"),
            format!("[include]\npath = {}\n", pipe.display()),
        )
        .unwrap();
        let mut command = git(folder.path()).command(["config", "--list"]);
        assert_eq!(
            run(&mut command, Duration::from_millis(100), MAX_OUTPUT).await,
            Err(GitError::TooLong)
        );
    }

    #[tokio::test]
    async fn run_to_completion_continues_and_keeps_the_lock_when_the_caller_is_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path()).read(["init", "-q"]).await.unwrap();
        let (pipe, plain) = (folder.path().join("pipe"), folder.path().join("plain"));
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        std::fs::write(&plain, "").unwrap();
        std::fs::write(
            folder.path().join(".git/config"),
            format!("[include]\npath = {}\n", pipe.display()),
        )
        .unwrap();
        let acting = git(folder.path());
        let lock = || {
            flock(
                File::open(folder.path()).unwrap(),
                FlockOperation::NonBlockingLockExclusive,
            )
        };
        let held = File::open(folder.path()).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        let acting = tokio::spawn(async move {
            acting
                .run_to_completion(
                    ["symbolic-ref", "HEAD", "refs/heads/done"],
                    Some(held),
                    READ_TIMEOUT,
                )
                .await
        });
        // Opening the pipe for writing blocks until git reads from it; git then blocks until it is
        // closed.
        let end = {
            let pipe = pipe.clone();
            tokio::task::spawn_blocking(move || {
                std::fs::OpenOptions::new().write(true).open(pipe).unwrap()
            })
        };
        let end = end.await.unwrap();
        acting.abort();
        assert!(acting.await.unwrap_err().is_cancelled());
        assert_eq!(lock(), Err(Errno::WOULDBLOCK), "git has released the lock");
        // Later commands of git do not block.
        std::fs::rename(plain, pipe).unwrap();
        drop(end);
        let head = folder.path().join(".git/HEAD");
        let done = async {
            while std::fs::read_to_string(&head).unwrap() != "ref: refs/heads/done\n"
                || lock().is_err()
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(READ_TIMEOUT, done).await.unwrap();
    }

    #[tokio::test]
    async fn output_over_the_limit_is_an_error() {
        let command = || git(Path::new("/")).command(["version"]);
        assert_eq!(
            run(&mut command(), READ_TIMEOUT, 10).await,
            Err(GitError::TooMuch)
        );
        assert!(
            run(&mut command(), READ_TIMEOUT, 1000)
                .await
                .unwrap()
                .starts_with(b"git version")
        );
    }

    #[tokio::test]
    async fn stderr_is_shown_on_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let Err(GitError::Refused(why)) = git(folder.path()).read(["rev-parse", "HEAD"]).await
        else {
            panic!("there is no repository");
        };
        assert!(why.starts_with("fatal: not a git repository"), "{why}");
        assert_eq!(printable(b"a\nb\x1b[31m\xff"), "a b\\u{1b}[31m\u{fffd}");
        assert_eq!(printable(&[b'a'; 1000]).len(), MAX_QUOTE + "...".len());
    }
}
