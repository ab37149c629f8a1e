//! Safe removal of the working trees of merged pull requests.
//!
//! A tree is removed only if its branch was merged and is at the commit that GitHub has, with
//! nothing changed, stashed or unfinished in it. The path and the branch are input of people and of
//! GitHub, and the files are those of a pull request: none of it is trusted. Branches are not
//! deleted.

mod git;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::geteuid;
use thiserror::Error;
use tokio::time::{sleep, timeout};

pub use self::git::{GitError, version};
use self::git::{IsolatedGit, printable};

/// The time limit of a deletion. It is long, because a tree that is deleted in part is useless.
const DELETE_TIMEOUT: Duration = Duration::from_mins(10);
/// The interval of attempts to lock the root.
const LOCK_RETRY: Duration = Duration::from_millis(100);
/// Bytes of a `.git` file that are read; no path is longer.
const MAX_LINK: u64 = 8192;

/// A working tree to check, with the facts that it must match to be removed.
#[derive(Clone, Copy, Debug)]
pub struct WorktreeCheck<'a> {
    /// The folder that contains all working trees.
    pub root: &'a Path,
    /// Below the root, or absolute.
    pub path: &'a Path,
    pub branch: &'a str,
    /// The head commit of the pull request, in hexadecimal.
    pub head_sha: &'a str,
    /// True if GitHub shows the pull request as merged.
    pub merged: bool,
}

/// The outcome of a check and removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalOutcome {
    Removed,
    /// It can be removed; this was a dry run.
    WouldRemove,
    Kept(KeepReason),
}

/// The reason why a working tree is kept. Quoted text is foreign; it is cut and escaped.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeepReason {
    #[error("GitHub does not show the pull request as merged")]
    NotMerged,
    #[error("`{0}` is not a valid branch name")]
    BranchName(String),
    #[error("`{0}` is not a commit id")]
    HeadSha(String),
    #[error("the path is not a plain path below the root of working trees")]
    OutsideRoot,
    #[error("the path goes through a symbolic link")]
    Symlink,
    #[error("the path does not exist on the machine that checked it")]
    Gone,
    #[error("the path cannot be read: {0}")]
    Unreadable(String),
    #[error("it is not a linked working tree of a repository")]
    NotAWorktree,
    #[error("it belongs to another user: run `tallyhook worktrees` as its owner")]
    Foreign,
    #[error("it is locked: {0}")]
    Locked(String),
    #[error("it has not its branch checked out, but {0}")]
    OtherBranch(String),
    #[error("its branch is checked out elsewhere too: {0}")]
    CheckedOutElsewhere(String),
    #[error("its branch is ahead of the pull request by {commits} commits")]
    Unpushed { commits: u64 },
    #[error("its branch is at {tip}, which is not the head of the pull request")]
    OtherTip { tip: String },
    #[error("an operation in it is not finished: {0}")]
    Unfinished(&'static str),
    #[error("it has submodules")]
    Submodules,
    #[error("not everything in it is committed: {0}")]
    Dirty(String),
    #[error("git is configured to ignore changes in {0}")]
    Hidden(String),
    #[error("a stash of its branch exists")]
    Stashed,
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Removes a working tree if that loses nothing. A dry run only returns the outcome.
pub async fn remove(check: WorktreeCheck<'_>, dry_run: bool) -> RemovalOutcome {
    let lock = if dry_run {
        None
    } else {
        lock_root(check.root).await
    };
    let removable = match examine(check).await {
        Ok(_) if dry_run => return RemovalOutcome::WouldRemove,
        Ok(removable) => removable,
        Err(reason) => return RemovalOutcome::Kept(reason),
    };
    // From outside, because git does not delete its own working directory; without `--force`, so
    // that git checks once more.
    let git = removable.git.within(removable.repository);
    let arguments = ["worktree", "remove", "--"]
        .map(OsStr::new)
        .into_iter()
        .chain([removable.path.as_os_str()]);
    match git.run_to_completion(arguments, lock, DELETE_TIMEOUT).await {
        Ok(()) => RemovalOutcome::Removed,
        Err(failed) => RemovalOutcome::Kept(reason_unless_gone(&removable.path, failed)),
    }
}

/// Locks the root, so that no other process removes a tree below it at the same time: a tree that
/// is half deleted looks as if it had uncommitted changes. The lock ends with the file, which git
/// keeps open while it deletes, even after this process has ended. Returns `None` where files
/// cannot be locked, and if the lock is held for longer than a deletion may take.
async fn lock_root(root: &Path) -> Option<File> {
    let root = File::open(root).ok()?;
    let locking = async {
        loop {
            match flock(&root, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => sleep(LOCK_RETRY).await,
                other => return other.ok(),
            }
        }
    };
    timeout(DELETE_TIMEOUT, locking).await.ok().flatten()?;
    Some(root)
}

/// Returns the reason of git's failure, or [`KeepReason::Gone`] if another process removed the tree
/// first.
fn reason_unless_gone(path: &Path, failed: GitError) -> KeepReason {
    if is_missing(path) {
        KeepReason::Gone
    } else {
        failed.into()
    }
}

fn is_missing(path: &Path) -> bool {
    path.symlink_metadata()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A working tree that can be removed without loss.
struct RemovableWorktree {
    git: IsolatedGit,
    path: PathBuf,
    /// The git directory that all working trees of the repository share.
    repository: PathBuf,
}

/// Checks everything that must hold before a removal.
async fn examine(check: WorktreeCheck<'_>) -> Result<RemovableWorktree, KeepReason> {
    if !check.merged {
        return Err(KeepReason::NotMerged);
    }
    if !is_branch_name(check.branch) {
        return Err(KeepReason::BranchName(printable(check.branch.as_bytes())));
    }
    if !is_commit(check.head_sha) {
        return Err(KeepReason::HeadSha(printable(check.head_sha.as_bytes())));
    }
    let path = canonical_path(check.root, check.path)?;
    check_owner(&path, geteuid().as_raw())?;
    let git = IsolatedGit::new(&path).await?;
    let folders = git_folders(&git, &path).await?;
    let tip = checked_out_commit(&git, &path, check.branch).await?;
    if tip != check.head_sha {
        return Err(describe_difference(&git, check.head_sha, tip).await);
    }
    check_nothing_unfinished(&folders.worktree)?;
    check_committed(&git, &path).await?;
    check_no_stash(&git, check.branch, &tip).await?;
    Ok(RemovableWorktree {
        git,
        path,
        repository: folders.repository,
    })
}

/// Returns true for a valid branch name that git cannot take for an option or a range.
fn is_branch_name(name: &str) -> bool {
    let is_odd =
        |letter: char| letter.is_control() || letter.is_whitespace() || r"~^:?*[\".contains(letter);
    !name.is_empty()
        && !name.starts_with('-')
        && !name.contains(is_odd)
        && !name.contains("..")
        && !name.contains("@{")
}

fn is_commit(sha: &str) -> bool {
    matches!(sha.len(), 40 | 64)
        && sha
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the canonical path of a working tree. Its outside must look like a linked one.
fn canonical_path(root: &Path, path: &Path) -> Result<PathBuf, KeepReason> {
    let unreadable = |error: io::Error| KeepReason::Unreadable(error.to_string());
    let true_root = root.canonicalize().map_err(unreadable)?;
    let below = path
        .strip_prefix(root)
        .or_else(|_| path.strip_prefix(&true_root))
        .unwrap_or(path);
    let is_plain = below
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || below.as_os_str().is_empty() {
        return Err(KeepReason::OutsideRoot);
    }
    let path = true_root.join(below);
    if is_missing(&path) {
        return Err(KeepReason::Gone);
    }
    if path.canonicalize().map_err(unreadable)? != path {
        return Err(KeepReason::Symlink);
    }
    // A folder named `.git` makes it the repository's main working tree.
    match path.join(".git").symlink_metadata() {
        Ok(found) if found.is_file() => Ok(path),
        _ => Err(KeepReason::NotAWorktree),
    }
}

/// Checks that a working tree, its `.git` file and the git directory that the file names belong to
/// `user`. Git refuses to work on the trees of other users, and our isolated configuration has no
/// `safe.directory` that would allow it.
fn check_owner(path: &Path, user: u32) -> Result<(), KeepReason> {
    let unreadable = |error: io::Error| KeepReason::Unreadable(error.to_string());
    let link = path.join(".git");
    let mut content = Vec::new();
    File::open(&link)
        .and_then(|file| file.take(MAX_LINK).read_to_end(&mut content))
        .map_err(unreadable)?;
    let target = content
        .strip_prefix(b"gitdir: ")
        .unwrap_or_default()
        .trim_ascii_end();
    let git_folder = path.join(as_path(target));
    for owned in [path, &link, &git_folder] {
        // A missing one is reported by git later.
        if owned.metadata().is_ok_and(|found| found.uid() != user) {
            return Err(KeepReason::Foreign);
        }
    }
    Ok(())
}

/// The git directories of a linked working tree and of its repository.
struct GitFolders {
    worktree: PathBuf,
    repository: PathBuf,
}

/// Returns the git directories of the tree and of its repository, which differ unless it is the
/// main working tree. Git must agree that `path` is the top of the tree: the configuration can name
/// another folder.
async fn git_folders(git: &IsolatedGit, path: &Path) -> Result<GitFolders, KeepReason> {
    let output = git
        .read([
            "rev-parse",
            "--path-format=absolute",
            "--show-toplevel",
            "--absolute-git-dir",
            "--git-common-dir",
        ])
        .await?;
    let lines: Vec<_> = output
        .trim_ascii_end()
        .split(|byte| *byte == b'\n')
        .map(as_path)
        .collect();
    match lines[..] {
        [top, worktree, repository] if top == path && worktree != repository => Ok(GitFolders {
            worktree: worktree.to_owned(),
            repository: repository.to_owned(),
        }),
        _ => Err(KeepReason::NotAWorktree),
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Returns the commit that the tree has checked out, on its own branch, as listed by the
/// repository.
async fn checked_out_commit(
    git: &IsolatedGit,
    path: &Path,
    branch: &str,
) -> Result<String, KeepReason> {
    let output = git.read(["worktree", "list", "--porcelain", "-z"]).await?;
    let trees: Vec<_> = output.split(|byte| *byte == 0).collect();
    // An empty attribute ends each tree's record.
    let trees: Vec<_> = trees
        .split(|attribute| attribute.is_empty())
        .filter(|tree| !tree.is_empty())
        .collect();
    let path_of =
        |tree: &[&[u8]]| attribute_value(tree, "worktree").map(|path| as_path(path).to_owned());
    let ours = trees
        .iter()
        .find(|tree| path_of(tree).as_deref() == Some(path))
        .ok_or(KeepReason::NotAWorktree)?;
    if let Some(reason) = attribute_value(ours, "locked") {
        return Err(KeepReason::Locked(printable(reason)));
    }
    let name = format!("refs/heads/{branch}");
    let is_on_it = |tree: &[&[u8]]| attribute_value(tree, "branch") == Some(name.as_bytes());
    if !is_on_it(ours) {
        return Err(KeepReason::OtherBranch(printable(
            attribute_value(ours, "branch").unwrap_or(b"a commit without a branch"),
        )));
    }
    let elsewhere = trees
        .iter()
        .filter(|tree| is_on_it(tree))
        .filter_map(|tree| path_of(tree))
        .find(|at| at != path);
    if let Some(elsewhere) = elsewhere {
        return Err(KeepReason::CheckedOutElsewhere(printable(
            elsewhere.as_os_str().as_bytes(),
        )));
    }
    Ok(String::from_utf8_lossy(attribute_value(ours, "HEAD").unwrap_or_default()).into_owned())
}

/// Returns the value of an attribute, empty for an attribute without one.
fn attribute_value<'a>(tree: &[&'a [u8]], name: &str) -> Option<&'a [u8]> {
    let named = |attribute: &&'a [u8]| attribute.strip_prefix(name.as_bytes());
    tree.iter().filter_map(named).find_map(|rest| {
        if rest.is_empty() {
            Some(rest)
        } else {
            rest.strip_prefix(b" ")
        }
    })
}

/// Returns how a branch differs from the head of its pull request, as far as the commits are
/// present.
async fn describe_difference(git: &IsolatedGit, head: &str, tip: String) -> KeepReason {
    let range = format!("{head}...{tip}");
    let output = git
        .read([
            "rev-list",
            "--left-right",
            "--count",
            "--end-of-options",
            &range,
            "--",
        ])
        .await;
    let counts = output
        .map(|output| String::from_utf8_lossy(&output).into_owned())
        .unwrap_or_default();
    match counts
        .trim_end()
        .split_once('\t')
        .map(|(behind, ahead)| (behind, ahead.parse()))
    {
        Some(("0", Ok(commits))) => KeepReason::Unpushed { commits },
        _ => KeepReason::OtherTip { tip },
    }
}

/// Checks that no merge, rebase or the like is under way, which can be so in a tree that looks
/// clean.
fn check_nothing_unfinished(git_folder: &Path) -> Result<(), KeepReason> {
    let markers = [
        "MERGE_HEAD",
        "CHERRY_PICK_HEAD",
        "REVERT_HEAD",
        "BISECT_LOG",
        "rebase-merge",
        "rebase-apply",
        "sequencer",
    ];
    match markers
        .into_iter()
        .find(|name| git_folder.join(name).symlink_metadata().is_ok())
    {
        Some(name) => Err(KeepReason::Unfinished(name)),
        None => Ok(()),
    }
}

/// Checks that everything in the tree is committed or ignored.
async fn check_committed(git: &IsolatedGit, path: &Path) -> Result<(), KeepReason> {
    // A submodule is a repository with its own settings; git does not remove such trees either.
    if path.join(".gitmodules").symlink_metadata().is_ok() {
        return Err(KeepReason::Submodules);
    }
    let changed = git
        .read([
            "status",
            "--porcelain=v1",
            "-z",
            "--untracked-files=normal",
            "--ignore-submodules=all",
        ])
        .await?;
    if let Some(first) = changed
        .split(|byte| *byte == 0)
        .find(|entry| !entry.is_empty())
    {
        return Err(KeepReason::Dirty(printable(
            first.get(3..).unwrap_or(first),
        )));
    }
    let files = git.read(["ls-files", "-v", "-z"]).await?;
    let hidden = files
        .split(|byte| *byte == 0)
        .find_map(|entry| match entry {
            [b'a'..=b'z', b' ', name @ ..] => Some(name),
            // `S` (skip-worktree) is meant for files that are absent, and absent files have no
            // changes.
            [b'S', b' ', name @ ..] if path.join(as_path(name)).symlink_metadata().is_ok() => {
                Some(name)
            }
            _ => None,
        });
    hidden.map_or(Ok(()), |name| Err(KeepReason::Hidden(printable(name))))
}

/// Checks that no stash belongs to the branch. Stashes are shared by all trees of a repository; the
/// message of a stash or the commit that it is based on names its branch.
async fn check_no_stash(git: &IsolatedGit, branch: &str, tip: &str) -> Result<(), KeepReason> {
    if git.read(["for-each-ref", "refs/stash"]).await?.is_empty() {
        return Ok(());
    }
    let log = [
        "log",
        "--walk-reflogs",
        "--no-show-signature",
        "--no-patch",
        "-z",
        "--format=%P%x00%gs",
        "refs/stash",
        "--",
    ];
    let output = git.read(log).await?;
    let fields: Vec<_> = output.split(|byte| *byte == 0).collect();
    let is_ours = |stash: &[&[u8]]| {
        let is_based_on_tip = stash[0].starts_with(tip.as_bytes());
        let messages = [format!("WIP on {branch}: "), format!("On {branch}: ")];
        is_based_on_tip
            || stash.get(1).is_some_and(|message| {
                messages
                    .iter()
                    .any(|ours| message.starts_with(ours.as_bytes()))
            })
    };
    if fields.chunks(2).any(is_ours) {
        Err(KeepReason::Stashed)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_on_a_missing_path_counts_as_gone() {
        let folder = tempfile::tempdir().unwrap();
        let refused = || GitError::Refused("it is no working tree".to_owned());
        assert_eq!(
            reason_unless_gone(folder.path(), refused()),
            KeepReason::Git(refused())
        );
        assert_eq!(
            reason_unless_gone(&folder.path().join("tree"), refused()),
            KeepReason::Gone
        );
    }

    #[test]
    fn tree_belongs_to_the_owner_of_its_link_and_git_folder() {
        let folder = tempfile::tempdir().unwrap();
        let us = folder.path().metadata().unwrap().uid();
        let write_link =
            |content: &str| std::fs::write(folder.path().join(".git"), content).unwrap();
        for content in ["gitdir: ../nowhere\n", "gitdir: .\n", "nothing of the kind"] {
            write_link(content);
            assert_eq!(check_owner(folder.path(), us), Ok(()), "{content}");
            assert_eq!(
                check_owner(folder.path(), us + 1),
                Err(KeepReason::Foreign),
                "{content}"
            );
        }
    }
}
