//! Removing the working trees of merged pull requests, and nothing that anybody could miss.
//!
//! Removed is only what was merged and is at the commit that GitHub has, with nothing changed, stashed or begun in it. The
//! path and the branch come from people and from GitHub, and what is on disk from a pull request: neither is trusted.
//! Branches stay where they are.

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

pub use self::git::{Failed, version};
use self::git::{Git, shown};

/// How long git may take to delete a tree: one that is deleted in part is of no use to anybody.
const DELETING: Duration = Duration::from_mins(10);
/// How often it is looked whether another process is done.
const NEXT_TRY: Duration = Duration::from_millis(100);
/// No path is so long, in bytes.
const LINK: u64 = 8192;

/// A working tree that may have had its day.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The folder below which all working trees are.
    pub root: &'a Path,
    /// Below the root, or absolute.
    pub path: &'a Path,
    pub branch: &'a str,
    /// The head commit of the pull request, in hexadecimal.
    pub head_sha: &'a str,
    /// Whether GitHub says that it was merged.
    pub merged: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    Removed,
    /// It would have been, had it not been a dry run.
    WouldRemove,
    Kept(Reason),
}

/// Why it is kept. What is quoted in it was written by others, and is cut and escaped.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Reason {
    #[error("GitHub does not say that the pull request was merged")]
    NotMerged,
    #[error("`{0}` is no name that a branch may have here")]
    BranchName(String),
    #[error("`{0}` is no commit")]
    HeadSha(String),
    #[error("the path does not lead straight to something below the root of working trees")]
    OutsideRoot,
    #[error("the path goes through a symbolic link")]
    Symlink,
    #[error("nothing is there on the machine that looked")]
    Gone,
    #[error("the path cannot be read: {0}")]
    Unreadable(String),
    #[error("it is no linked working tree of a repository")]
    NotAWorktree,
    #[error(
        "it belongs to another user than the one that looked: run `tallyhook worktrees` as its owner"
    )]
    Foreign,
    #[error("it is locked: {0}")]
    Locked(String),
    #[error("it has something else than its branch checked out: {0}")]
    OtherBranch(String),
    #[error("its branch is checked out elsewhere too: {0}")]
    CheckedOutElsewhere(String),
    #[error("its branch is ahead of the pull request by {commits} commits")]
    Unpushed { commits: u64 },
    #[error("its branch is at {tip}, which is not the head of the pull request")]
    OtherTip { tip: String },
    #[error("something was begun in it and is not finished: {0}")]
    Unfinished(&'static str),
    #[error("it has submodules")]
    Submodules,
    #[error("not everything in it is committed: {0}")]
    Dirty(String),
    #[error("git was told not to look for changes in {0}")]
    Hidden(String),
    #[error("something is stashed for its branch")]
    Stashed,
    #[error(transparent)]
    Git(#[from] Failed),
}

/// Removes a working tree if that may be done; says only whether it would in a dry run.
pub async fn remove(candidate: Candidate<'_>, dry_run: bool) -> Removal {
    let turn = if dry_run {
        None
    } else {
        turn(candidate.root).await
    };
    let examined = match examine(candidate).await {
        Ok(_) if dry_run => return Removal::WouldRemove,
        Ok(examined) => examined,
        Err(reason) => return Removal::Kept(reason),
    };
    // From outside, since git does not delete the folder that it is in; without force, so that git looks once more.
    let git = examined.git.within(examined.repository);
    let arguments = ["worktree", "remove", "--"]
        .map(OsStr::new)
        .into_iter()
        .chain([examined.path.as_os_str()]);
    match git.act(arguments, turn, DELETING).await {
        Ok(()) => Removal::Removed,
        Err(failed) => Removal::Kept(unless_gone(&examined.path, failed)),
    }
}

/// Waits until nobody else of ours removes a tree below the root: one that is half deleted looks as if somebody had
/// changed it. The turn ends with the file, which git has as long as it deletes, even after our end. There is none where
/// files cannot be locked, nor if somebody has it for longer than git may take.
async fn turn(root: &Path) -> Option<File> {
    let root = File::open(root).ok()?;
    let locking = async {
        loop {
            match flock(&root, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => sleep(NEXT_TRY).await,
                other => return other.ok(),
            }
        }
    };
    timeout(DELETING, locking).await.ok().flatten()?;
    Some(root)
}

/// Why git did not remove a tree, if that is still there: somebody else may have been faster.
fn unless_gone(path: &Path, failed: Failed) -> Reason {
    if is_missing(path) {
        Reason::Gone
    } else {
        failed.into()
    }
}

fn is_missing(path: &Path) -> bool {
    path.symlink_metadata()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// One that may be removed.
struct Examined {
    git: Git,
    path: PathBuf,
    /// The git directory that all working trees of the repository share.
    repository: PathBuf,
}

async fn examine(candidate: Candidate<'_>) -> Result<Examined, Reason> {
    if !candidate.merged {
        return Err(Reason::NotMerged);
    }
    if !is_branch_name(candidate.branch) {
        return Err(Reason::BranchName(shown(candidate.branch.as_bytes())));
    }
    if !is_commit(candidate.head_sha) {
        return Err(Reason::HeadSha(shown(candidate.head_sha.as_bytes())));
    }
    let path = locate(candidate.root, candidate.path)?;
    belongs_to(&path, geteuid().as_raw())?;
    let git = Git::new(&path).await?;
    let folders = folders(&git, &path).await?;
    let tip = checked_out(&git, &path, candidate.branch).await?;
    if tip != candidate.head_sha {
        return Err(compare(&git, candidate.head_sha, tip).await);
    }
    unfinished(&folders.of_worktree)?;
    committed(&git, &path).await?;
    stashed(&git, candidate.branch, &tip).await?;
    Ok(Examined {
        git,
        path,
        repository: folders.of_repository,
    })
}

/// Whether git would let a branch be called so; a name that could be taken for an option or a range is none.
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

/// The one true path of a candidate, which looks like a linked working tree from outside.
fn locate(root: &Path, path: &Path) -> Result<PathBuf, Reason> {
    let unreadable = |error: io::Error| Reason::Unreadable(error.to_string());
    let true_root = root.canonicalize().map_err(unreadable)?;
    let below = path
        .strip_prefix(root)
        .or_else(|_| path.strip_prefix(&true_root))
        .unwrap_or(path);
    let is_plain = below
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || below.as_os_str().is_empty() {
        return Err(Reason::OutsideRoot);
    }
    let path = true_root.join(below);
    if is_missing(&path) {
        return Err(Reason::Gone);
    }
    if path.canonicalize().map_err(unreadable)? != path {
        return Err(Reason::Symlink);
    }
    // A folder there is the repository itself.
    match path.join(".git").symlink_metadata() {
        Ok(found) if found.is_file() => Ok(path),
        _ => Err(Reason::NotAWorktree),
    }
}

/// Git works for the owner of a tree alone, and we have no settings in which it could be told to do so for another. Who
/// owns the tree has to own the file in it that names its git directory, and that, too.
fn belongs_to(path: &Path, user: u32) -> Result<(), Reason> {
    let unreadable = |error: io::Error| Reason::Unreadable(error.to_string());
    let link = path.join(".git");
    let mut told = Vec::new();
    File::open(&link)
        .and_then(|file| file.take(LINK).read_to_end(&mut told))
        .map_err(unreadable)?;
    let told = told
        .strip_prefix(b"gitdir: ")
        .unwrap_or_default()
        .trim_ascii_end();
    let of_worktree = path.join(as_path(told));
    for place in [path, &link, &of_worktree] {
        // What is not there is for git to tell.
        if place.metadata().is_ok_and(|found| found.uid() != user) {
            return Err(Reason::Foreign);
        }
    }
    Ok(())
}

struct Folders {
    of_worktree: PathBuf,
    of_repository: PathBuf,
}

/// Where git has what it knows of the tree, which is apart from what it knows of the repository unless the tree is the main
/// one. The tree must be all that git looks at: the configuration can name another.
async fn folders(git: &Git, path: &Path) -> Result<Folders, Reason> {
    let told = git
        .tell([
            "rev-parse",
            "--path-format=absolute",
            "--show-toplevel",
            "--absolute-git-dir",
            "--git-common-dir",
        ])
        .await?;
    let lines: Vec<_> = told
        .trim_ascii_end()
        .split(|byte| *byte == b'\n')
        .map(as_path)
        .collect();
    match lines[..] {
        [top, of_worktree, of_repository] if top == path && of_worktree != of_repository => {
            Ok(Folders {
                of_worktree: of_worktree.to_owned(),
                of_repository: of_repository.to_owned(),
            })
        }
        _ => Err(Reason::NotAWorktree),
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// The commit that the tree is at, on its own branch, as the repository and not the tree itself tells it.
async fn checked_out(git: &Git, path: &Path, branch: &str) -> Result<String, Reason> {
    let told = git.tell(["worktree", "list", "--porcelain", "-z"]).await?;
    let trees: Vec<_> = told.split(|byte| *byte == 0).collect();
    // An empty attribute ends each of them.
    let trees: Vec<_> = trees
        .split(|attribute| attribute.is_empty())
        .filter(|tree| !tree.is_empty())
        .collect();
    let place = |tree: &[&[u8]]| value(tree, "worktree").map(|place| as_path(place).to_owned());
    let ours = trees
        .iter()
        .find(|tree| place(tree).as_deref() == Some(path))
        .ok_or(Reason::NotAWorktree)?;
    if let Some(why) = value(ours, "locked") {
        return Err(Reason::Locked(shown(why)));
    }
    let name = format!("refs/heads/{branch}");
    let is_on_it = |tree: &[&[u8]]| value(tree, "branch") == Some(name.as_bytes());
    if !is_on_it(ours) {
        return Err(Reason::OtherBranch(shown(
            value(ours, "branch").unwrap_or(b"a commit without a branch"),
        )));
    }
    let elsewhere = trees
        .iter()
        .filter(|tree| is_on_it(tree))
        .filter_map(|tree| place(tree))
        .find(|at| at != path);
    if let Some(elsewhere) = elsewhere {
        return Err(Reason::CheckedOutElsewhere(shown(
            elsewhere.as_os_str().as_bytes(),
        )));
    }
    Ok(String::from_utf8_lossy(value(ours, "HEAD").unwrap_or_default()).into_owned())
}

/// The value of an attribute, which is empty where it has none.
fn value<'a>(tree: &[&'a [u8]], name: &str) -> Option<&'a [u8]> {
    let named = |attribute: &&'a [u8]| attribute.strip_prefix(name.as_bytes());
    tree.iter().filter_map(named).find_map(|rest| {
        if rest.is_empty() {
            Some(rest)
        } else {
            rest.strip_prefix(b" ")
        }
    })
}

/// How a branch that is not at the head of its pull request differs from it, as far as the commits are there.
async fn compare(git: &Git, head: &str, tip: String) -> Reason {
    let range = format!("{head}...{tip}");
    let told = git
        .tell([
            "rev-list",
            "--left-right",
            "--count",
            "--end-of-options",
            &range,
            "--",
        ])
        .await;
    let told = told
        .map(|told| String::from_utf8_lossy(&told).into_owned())
        .unwrap_or_default();
    match told
        .trim_end()
        .split_once('\t')
        .map(|(behind, ahead)| (behind, ahead.parse()))
    {
        Some(("0", Ok(commits))) => Reason::Unpushed { commits },
        _ => Reason::OtherTip { tip },
    }
}

/// A merge and the like are half done in a tree that may look clean.
fn unfinished(of_worktree: &Path) -> Result<(), Reason> {
    let begun = [
        "MERGE_HEAD",
        "CHERRY_PICK_HEAD",
        "REVERT_HEAD",
        "BISECT_LOG",
        "rebase-merge",
        "rebase-apply",
        "sequencer",
    ];
    match begun
        .into_iter()
        .find(|name| of_worktree.join(name).symlink_metadata().is_ok())
    {
        Some(name) => Err(Reason::Unfinished(name)),
        None => Ok(()),
    }
}

async fn committed(git: &Git, path: &Path) -> Result<(), Reason> {
    // Each is a repository of its own, with settings of its own; git does not remove such trees either.
    if path.join(".gitmodules").symlink_metadata().is_ok() {
        return Err(Reason::Submodules);
    }
    let changed = git
        .tell([
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
        return Err(Reason::Dirty(shown(first.get(3..).unwrap_or(first))));
    }
    let files = git.tell(["ls-files", "-v", "-z"]).await?;
    let hidden = files
        .split(|byte| *byte == 0)
        .find_map(|entry| match entry {
            [b'a'..=b'z', b' ', name @ ..] => Some(name),
            // Not to be there is what this is for, and what is not there has no changes.
            [b'S', b' ', name @ ..] if path.join(as_path(name)).symlink_metadata().is_ok() => {
                Some(name)
            }
            _ => None,
        });
    hidden.map_or(Ok(()), |name| Err(Reason::Hidden(shown(name))))
}

/// Stashes are the repository's; each tells in its message, or by the commit it is based on, whose it is.
async fn stashed(git: &Git, branch: &str, tip: &str) -> Result<(), Reason> {
    if git.tell(["for-each-ref", "refs/stash"]).await?.is_empty() {
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
    let told = git.tell(log).await?;
    let fields: Vec<_> = told.split(|byte| *byte == 0).collect();
    let is_ours = |stash: &[&[u8]]| {
        let is_based_on_tip = stash[0].starts_with(tip.as_bytes());
        let messages = [format!("WIP on {branch}: "), format!("On {branch}: ")];
        is_based_on_tip
            || stash.get(1).is_some_and(|told| {
                messages
                    .iter()
                    .any(|ours| told.starts_with(ours.as_bytes()))
            })
    };
    if fields.chunks(2).any(is_ours) {
        Err(Reason::Stashed)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_was_not_kept_whatever_git_says() {
        let folder = tempfile::tempdir().unwrap();
        let refused = || Failed::Refused("it is no working tree".to_owned());
        assert_eq!(
            unless_gone(folder.path(), refused()),
            Reason::Git(refused())
        );
        assert_eq!(
            unless_gone(&folder.path().join("tree"), refused()),
            Reason::Gone
        );
    }

    #[test]
    fn a_tree_belongs_to_whoever_has_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let us = folder.path().metadata().unwrap().uid();
        let link = |told: &str| std::fs::write(folder.path().join(".git"), told).unwrap();
        for told in ["gitdir: ../nowhere\n", "gitdir: .\n", "nothing of the kind"] {
            link(told);
            assert_eq!(belongs_to(folder.path(), us), Ok(()), "{told}");
            assert_eq!(
                belongs_to(folder.path(), us + 1),
                Err(Reason::Foreign),
                "{told}"
            );
        }
    }
}
