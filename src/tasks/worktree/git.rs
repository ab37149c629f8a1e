//! Running git where nothing can be trusted: not the configuration of the repository, not its hooks, not our own
//! environment.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

/// How long git may take to tell something.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most that it may tell, in bytes: the list of files of a large repository.
const MOST_OUTPUT: usize = 64 * 1024 * 1024;
const MOST_COMPLAINTS: usize = 64 * 1024;
/// Where git is looked for.
const PROGRAMS: &str = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin";

/// All that git gets to see of an environment: nothing asks, nothing is fetched, nobody's settings but the repository's own.
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

/// Settings of the repository that start programs or hide changes, and what counts instead.
const OVERRIDES: [(&str, &str); 6] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("log.showSignature", "false"),
    ("status.showUntrackedFiles", "normal"),
    ("submodule.recurse", "false"),
];

/// Why git gave no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Failed {
    #[error("git cannot be run: {0}")]
    NotRun(String),
    #[error("git took too long")]
    TooLong,
    #[error("git told too much")]
    TooMuch,
    #[error("git refused: {0}")]
    Refused(String),
}

/// Git in one folder, which has to be the top of a working tree or a git directory: no folder above it is looked at.
pub(super) struct Git {
    folder: PathBuf,
    config: Vec<(OsString, OsString)>,
}

impl Git {
    /// Finds out which programs the repository would have git run on the content of files, and turns them off.
    pub(super) async fn new(folder: &Path) -> Result<Self, Failed> {
        let config = OVERRIDES
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        let mut git = Self {
            folder: folder.to_owned(),
            config,
        };
        let names = git.tell(["config", "--list", "--name-only", "-z"]).await?;
        let filters = names
            .split(|byte| *byte == 0)
            .filter(|name| name.starts_with(b"filter."));
        for name in filters {
            // No command, and to be `required` is off as well: such a filter lets everything through.
            git.config
                .push((OsString::from_vec(name.to_owned()), OsString::new()));
        }
        Ok(git)
    }

    /// The same repository, seen from another folder of it.
    pub(super) fn within(self, folder: PathBuf) -> Self {
        Self { folder, ..self }
    }

    /// What git writes, if it succeeds.
    pub(super) async fn tell<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Vec<u8>, Failed> {
        let mut command = self.command(arguments);
        run(command.kill_on_drop(true), PATIENCE, MOST_OUTPUT).await
    }

    /// Has git do something that takes its time and is of no use when half done: git goes on where nobody waits for it any
    /// more, as when this process ends. It holds `held` as long.
    pub(super) async fn act<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        held: Option<File>,
        patience: Duration,
    ) -> Result<(), Failed> {
        let mut command = self.command(arguments);
        // It reads nothing there.
        command.stdin(held.map_or_else(Stdio::null, Stdio::from));
        // Else it would be ended with us by Ctrl-C.
        run(command.process_group(0), patience, MOST_OUTPUT)
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
        // As variables, since `-c` would cut a name at its first `=`.
        command.env("GIT_CONFIG_COUNT", self.config.len().to_string());
        for (place, (name, value)) in self.config.iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{place}"), name)
                .env(format!("GIT_CONFIG_VALUE_{place}"), value);
        }
        command
    }
}

/// What git calls itself where it is run as here.
pub async fn version() -> Result<String, Failed> {
    let git = Git {
        folder: PathBuf::from("/"),
        config: Vec::new(),
    };
    Ok(shown(git.tell(["version"]).await?.trim_ascii()))
}

async fn run(command: &mut Command, patience: Duration, most: usize) -> Result<Vec<u8>, Failed> {
    let not_run = |error: std::io::Error| Failed::NotRun(error.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(not_run)?;
    let (output, complaints) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        let told = tokio::try_join!(read(output, most), read(complaints, MOST_COMPLAINTS))?;
        Ok((told, child.wait().await.map_err(not_run)?))
    };
    let Ok(ended) = timeout(patience, ended).await else {
        // It may have ended just now.
        child.start_kill().ok();
        return Err(Failed::TooLong);
    };
    let ((output, complaints), status) = ended?;
    if status.success() {
        Ok(output)
    } else {
        Err(Failed::Refused(shown(complaints.trim_ascii())))
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>, most: usize) -> Result<Vec<u8>, Failed> {
    let mut told = Vec::new();
    if let Some(from) = from {
        let limit = most as u64 + 1;
        from.take(limit)
            .read_to_end(&mut told)
            .await
            .map_err(|error| Failed::NotRun(error.to_string()))?;
    }
    if told.len() > most {
        Err(Failed::TooMuch)
    } else {
        Ok(told)
    }
}

/// The beginning of what somebody else wrote, on one line and without anything that a terminal obeys.
pub(super) fn shown(text: &[u8]) -> String {
    const MOST_LETTERS: usize = 200;
    String::from_utf8_lossy(text)
        .chars()
        .flat_map(char::escape_debug)
        .take(MOST_LETTERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FlockOperation, flock};
    use rustix::io::Errno;

    use super::*;

    fn git(folder: &Path) -> Git {
        Git {
            folder: folder.to_owned(),
            config: Vec::new(),
        }
    }

    #[tokio::test]
    async fn git_is_ended_when_it_takes_too_long() {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path()).tell(["init", "-q"]).await.unwrap();
        // Whoever reads a pipe that nobody writes to waits for ever.
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
            run(&mut command, Duration::from_millis(100), MOST_OUTPUT).await,
            Err(Failed::TooLong)
        );
    }

    #[tokio::test]
    async fn git_goes_on_with_what_must_not_be_half_done() {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path()).tell(["init", "-q"]).await.unwrap();
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
                .act(
                    ["symbolic-ref", "HEAD", "refs/heads/done"],
                    Some(held),
                    PATIENCE,
                )
                .await
        });
        // Nobody can write to the pipe before git reads from it, and git waits until that has ended.
        let end = {
            let pipe = pipe.clone();
            tokio::task::spawn_blocking(move || {
                std::fs::OpenOptions::new().write(true).open(pipe).unwrap()
            })
        };
        let end = end.await.unwrap();
        acting.abort();
        assert!(acting.await.unwrap_err().is_cancelled());
        assert_eq!(lock(), Err(Errno::WOULDBLOCK), "git has let go");
        // From now on it reads nothing there.
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
        timeout(PATIENCE, done).await.unwrap();
    }

    #[tokio::test]
    async fn git_is_not_listened_to_for_ever() {
        let command = || git(Path::new("/")).command(["version"]);
        assert_eq!(
            run(&mut command(), PATIENCE, 10).await,
            Err(Failed::TooMuch)
        );
        assert!(
            run(&mut command(), PATIENCE, 1000)
                .await
                .unwrap()
                .starts_with(b"git version")
        );
    }

    #[tokio::test]
    async fn what_git_complains_of_is_shown_on_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let Err(Failed::Refused(why)) = git(folder.path()).tell(["rev-parse", "HEAD"]).await else {
            panic!("there is no repository");
        };
        assert!(why.starts_with("fatal: not a git repository"), "{why}");
        assert_eq!(shown(b"a\nb\x1b[31m\xff"), "a\\nb\\u{1b}[31m\u{fffd}");
        assert_eq!(shown(&[b'a'; 1000]).len(), 200);
    }
}
