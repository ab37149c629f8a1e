//! Checks and removal of working trees, with the real git, in temporary folders.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use futures_util::FutureExt;
use futures_util::future::join_all;
use rustix::fs::{FlockOperation, flock};
use tallyhook::tasks::worktree::{KeepReason, RemovalOutcome, WorktreeCheck, remove};
use tempfile::TempDir;

use testkit::git::{commit, git, try_git};

/// A repository, and a root with the working tree `topic` in it, which has one commit.
struct TopicRepository {
    folder: TempDir,
    head: String,
}

impl TopicRepository {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
            head: String::new(),
        };
        fs::create_dir(place.root()).unwrap();
        git(
            place.folder.path(),
            &["init", "-q", "-b", "main", "repository"],
        );
        place.write("../repository/code", "one\n");
        place.write("../repository/.gitignore", "target\n");
        commit(&place.repository(), "first");
        let tree = place.tree();
        git(
            &place.repository(),
            &[
                "worktree",
                "add",
                "-q",
                "-b",
                "topic",
                tree.to_str().unwrap(),
            ],
        );
        place.write("topic/code", "two\n");
        commit(&tree, "work");
        Self {
            head: place.head_of("topic"),
            ..place
        }
    }

    /// The state after a squash merge on GitHub: one new commit on main, without the branch's
    /// commits.
    fn squash_merged() -> Self {
        let place = Self::new();
        git(&place.repository(), &["merge", "-q", "--squash", "topic"]);
        commit(&place.repository(), "work (#1)");
        place
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("root")
    }

    fn tree(&self) -> PathBuf {
        self.root().join("topic")
    }

    fn repository(&self) -> PathBuf {
        self.folder
            .path()
            .canonicalize()
            .unwrap()
            .join("repository")
    }

    fn head_of(&self, branch: &str) -> String {
        git(&self.repository(), &["rev-parse", branch])
    }

    /// Writes a file below the root.
    fn write(&self, name: &str, content: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Creates a program that writes `it-ran` into the folder when it is run.
    fn trap(&self) -> String {
        let program = self.folder.path().join("trap");
        let ran = self.folder.path().join("it-ran");
        fs::write(
            &program,
            format!("#!/bin/sh\ntouch {}\ncat\n", ran.display()),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program.to_str().unwrap().to_owned()
    }

    fn trap_ran(&self) -> bool {
        self.folder.path().join("it-ran").exists()
    }

    async fn inspect_at(&self, path: &Path, branch: &str) -> RemovalOutcome {
        let root = self.root();
        remove(
            WorktreeCheck {
                root: &root,
                path,
                branch,
                head_sha: &self.head,
                merged: true,
            },
            true,
        )
        .await
    }

    /// Returns the outcome of a dry run.
    async fn inspect(&self) -> RemovalOutcome {
        self.inspect_at(Path::new("topic"), "topic").await
    }

    async fn remove(&self, dry_run: bool) -> RemovalOutcome {
        let root = self.root();
        let path = Path::new("topic");
        remove(
            WorktreeCheck {
                root: &root,
                path,
                branch: "topic",
                head_sha: &self.head,
                merged: true,
            },
            dry_run,
        )
        .await
    }

    /// Asserts that it is kept for this reason, by an inspection and by a removal.
    async fn assert_kept(&self, reason: KeepReason) {
        assert_eq!(self.inspect().await, RemovalOutcome::Kept(reason.clone()));
        assert_eq!(self.remove(false).await, RemovalOutcome::Kept(reason));
        assert!(self.tree().join("code").exists());
    }
}

#[tokio::test]
async fn squash_merged_tree_is_removed_and_its_branch_stays() {
    let place = TopicRepository::squash_merged();
    assert!(
        !try_git(
            &place.repository(),
            &["merge-base", "--is-ancestor", "topic", "main"]
        )
        .status
        .success()
    );
    place.write("topic/target/made", "again by the next build");
    assert_eq!(place.inspect().await, RemovalOutcome::WouldRemove);
    assert_eq!(place.remove(true).await, RemovalOutcome::WouldRemove);
    assert!(place.tree().join("target/made").exists());
    assert_eq!(place.remove(false).await, RemovalOutcome::Removed);
    assert!(!place.tree().exists());
    assert_eq!(place.head_of("topic"), place.head);
    assert_eq!(
        git(&place.repository(), &["worktree", "list"])
            .lines()
            .count(),
        1
    );
    assert_eq!(
        place.remove(false).await,
        RemovalOutcome::Kept(KeepReason::Gone)
    );
}

#[tokio::test]
async fn removal_waits_for_another_process() {
    let place = TopicRepository::squash_merged();
    let turn = fs::File::open(place.root()).unwrap();
    flock(&turn, FlockOperation::LockExclusive).unwrap();
    let mut removing = Box::pin(place.remove(false));
    assert!((&mut removing).now_or_never().is_none());
    // The removal checks nothing while it waits, because the tree may be half deleted.
    git(
        &place.repository(),
        &["worktree", "remove", place.tree().to_str().unwrap()],
    );
    drop(turn);
    assert_eq!(removing.await, RemovalOutcome::Kept(KeepReason::Gone));
}

#[tokio::test]
async fn one_of_many_concurrent_removals_succeeds() {
    let place = TopicRepository::squash_merged();
    let removals = join_all((0..4).map(|_| place.remove(false))).await;
    let (removed, others): (Vec<_>, Vec<_>) = removals
        .into_iter()
        .partition(|became| *became == RemovalOutcome::Removed);
    assert_eq!(
        (removed.len(), others),
        (1, vec![RemovalOutcome::Kept(KeepReason::Gone); 3])
    );
}

#[tokio::test]
async fn path_may_be_absolute_and_root_a_symbolic_link() {
    let place = TopicRepository::squash_merged();
    assert_eq!(
        place.inspect_at(&place.tree(), "topic").await,
        RemovalOutcome::WouldRemove
    );
    let link = place.folder.path().join("link");
    symlink(place.root(), &link).unwrap();
    for path in [link.join("topic"), place.tree(), "topic/".into()] {
        let candidate = WorktreeCheck {
            root: &link,
            path: &path,
            branch: "topic",
            head_sha: &place.head,
            merged: true,
        };
        assert_eq!(
            remove(candidate, true).await,
            RemovalOutcome::WouldRemove,
            "{path:?}"
        );
    }
}

#[tokio::test]
async fn tree_of_a_bare_repository_is_removed() {
    let place = TopicRepository::new();
    let (bare, tree) = (
        place.folder.path().join("bare.git"),
        place.root().join("other"),
    );
    git(
        place.folder.path(),
        &["clone", "-q", "--bare", "repository", "bare.git"],
    );
    git(
        &bare,
        &["worktree", "add", "-q", tree.to_str().unwrap(), "topic"],
    );
    let root = place.root();
    let candidate = WorktreeCheck {
        root: &root,
        path: &tree,
        branch: "topic",
        head_sha: &place.head,
        merged: true,
    };
    assert_eq!(remove(candidate, false).await, RemovalOutcome::Removed);
    assert!(!tree.exists());
}

#[tokio::test]
async fn unmerged_tree_is_kept() {
    let place = TopicRepository::squash_merged();
    let (root, path) = (place.root(), place.tree());
    let candidate = WorktreeCheck {
        root: &root,
        path: &path,
        branch: "topic",
        head_sha: &place.head,
        merged: false,
    };
    assert_eq!(
        remove(candidate, false).await,
        RemovalOutcome::Kept(KeepReason::NotMerged)
    );
    assert!(path.exists());
}

#[tokio::test]
async fn tree_with_unpushed_commits_is_kept() {
    let place = TopicRepository::squash_merged();
    commit(&place.tree(), "more");
    commit(&place.tree(), "and more");
    place.assert_kept(KeepReason::Unpushed { commits: 2 }).await;

    git(&place.tree(), &["reset", "-q", "--hard", "HEAD~2"]);
    assert_eq!(place.inspect().await, RemovalOutcome::WouldRemove);
    git(
        &place.tree(),
        &["commit", "-q", "--amend", "-m", "said better"],
    );
    place
        .assert_kept(KeepReason::OtherTip {
            tip: place.head_of("topic"),
        })
        .await;
}

#[tokio::test]
async fn tree_behind_the_pull_request_is_kept() {
    let place = TopicRepository::squash_merged();
    git(&place.tree(), &["reset", "-q", "--hard", "HEAD~1"]);
    let tip = place.head_of("topic");
    place
        .assert_kept(KeepReason::OtherTip { tip: tip.clone() })
        .await;
    // The head may be a commit that is not in the local repository.
    let place = TopicRepository {
        head: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        ..place
    };
    place.assert_kept(KeepReason::OtherTip { tip }).await;
}

#[tokio::test]
async fn tree_with_uncommitted_changes_is_kept() {
    let place = TopicRepository::squash_merged();
    let dirty = |name: &str| KeepReason::Dirty(name.to_owned());
    place.write("topic/code", "three\n");
    place.assert_kept(dirty("code")).await;
    git(&place.tree(), &["add", "code"]);
    place.assert_kept(dirty("code")).await;
    git(&place.tree(), &["reset", "-q", "--hard"]);

    place.write("topic/notes/\x1b[31m", "not tracked");
    place.assert_kept(dirty("notes/")).await;
    fs::rename(
        place.tree().join("notes/\x1b[31m"),
        place.tree().join("a\nb"),
    )
    .unwrap();
    place.assert_kept(dirty("a b")).await;
    // A configuration that hides untracked files does not hide them from the check.
    git(
        &place.tree(),
        &["config", "status.showUntrackedFiles", "no"],
    );
    place.assert_kept(dirty("a b")).await;
    fs::remove_file(place.tree().join("a\nb")).unwrap();
    assert_eq!(place.inspect().await, RemovalOutcome::WouldRemove);

    fs::remove_file(place.tree().join(".gitignore")).unwrap();
    place.assert_kept(dirty(".gitignore")).await;
}

#[tokio::test]
async fn tree_with_changes_hidden_from_git_is_kept() {
    for flag in ["assume-unchanged", "skip-worktree"] {
        let place = TopicRepository::squash_merged();
        git(
            &place.tree(),
            &["update-index", &format!("--{flag}"), "code"],
        );
        place.write("topic/code", "my own settings");
        assert_eq!(
            git(&place.tree(), &["status", "--porcelain"]),
            "",
            "the test hides nothing"
        );
        place
            .assert_kept(KeepReason::Hidden("code".to_owned()))
            .await;
    }
}

#[tokio::test]
async fn sparse_tree_is_removed() {
    let place = TopicRepository::squash_merged();
    git(
        &place.tree(),
        &["sparse-checkout", "set", "--no-cone", "/.gitignore"],
    );
    assert!(!place.tree().join("code").exists());
    assert_eq!(place.remove(false).await, RemovalOutcome::Removed);
}

#[tokio::test]
async fn tree_with_a_stash_of_its_branch_is_kept_and_other_stashes_are_ignored() {
    let place = TopicRepository::squash_merged();
    place.write("../repository/code", "three\n");
    git(&place.repository(), &["stash", "push", "-q"]);
    assert_eq!(place.inspect().await, RemovalOutcome::WouldRemove);

    for message in [&["push", "-q"][..], &["push", "-q", "-m", "later"]] {
        place.write("topic/code", "three\n");
        git(&place.tree(), &[&["stash"], message].concat());
        place.assert_kept(KeepReason::Stashed).await;
        git(&place.tree(), &["stash", "drop", "-q"]);
        assert_eq!(place.inspect().await, RemovalOutcome::WouldRemove);
    }
    // A stash with a message of its own, and one from before the latest commit.
    place.write("topic/code", "three\n");
    let stash = git(&place.tree(), &["stash", "create"]);
    git(&place.tree(), &["reset", "-q", "--hard"]);
    git(&place.tree(), &["stash", "store", "-m", "mine", &stash]);
    place.assert_kept(KeepReason::Stashed).await;
    git(&place.tree(), &["stash", "drop", "-q"]);
    let mut place = place;
    for message in [&["push", "-q"][..], &["push", "-q", "-m", "later"]] {
        place.write("topic/code", "three\n");
        git(&place.tree(), &[&["stash"], message].concat());
        commit(&place.tree(), "more");
        place.head = place.head_of("topic");
        place.assert_kept(KeepReason::Stashed).await;
        git(&place.tree(), &["stash", "drop", "-q"]);
        assert_eq!(place.inspect().await, RemovalOutcome::WouldRemove);
    }
}

#[tokio::test]
async fn tree_with_an_unfinished_merge_is_kept() {
    let place = TopicRepository::squash_merged();
    git(
        &place.tree(),
        &["merge", "-q", "--no-commit", "--strategy=ours", "main"],
    );
    assert_eq!(
        git(&place.tree(), &["status", "--porcelain"]),
        "",
        "the tree looks clean"
    );
    place
        .assert_kept(KeepReason::Unfinished("MERGE_HEAD"))
        .await;
}

#[tokio::test]
async fn tree_with_another_branch_checked_out_is_kept() {
    let place = TopicRepository::squash_merged();
    git(&place.tree(), &["checkout", "-q", "-b", "other"]);
    place
        .assert_kept(KeepReason::OtherBranch("refs/heads/other".to_owned()))
        .await;
    git(&place.tree(), &["checkout", "-q", "--detach", "topic"]);
    place
        .assert_kept(KeepReason::OtherBranch(
            "a commit without a branch".to_owned(),
        ))
        .await;
    git(&place.tree(), &["checkout", "-q", "topic"]);
    assert_eq!(place.inspect().await, RemovalOutcome::WouldRemove);

    let second = place.root().join("second");
    git(
        &place.repository(),
        &[
            "worktree",
            "add",
            "-q",
            "--force",
            second.to_str().unwrap(),
            "topic",
        ],
    );
    place
        .assert_kept(KeepReason::CheckedOutElsewhere(
            second.display().to_string(),
        ))
        .await;
}

#[tokio::test]
async fn locked_tree_is_kept() {
    let place = TopicRepository::squash_merged();
    for (arguments, why) in [
        (&["worktree", "lock"][..], ""),
        (
            &["worktree", "lock", "--reason", "on a stick"],
            "on a stick",
        ),
    ] {
        git(
            &place.repository(),
            &[arguments, &["../root/topic"]].concat(),
        );
        place.assert_kept(KeepReason::Locked(why.to_owned())).await;
        git(
            &place.repository(),
            &["worktree", "unlock", "../root/topic"],
        );
    }
}

#[tokio::test]
async fn tree_of_another_user_is_kept() {
    const OTHER: u32 = 12_345;
    let place = TopicRepository::squash_merged();
    let us = place.tree().metadata().unwrap().uid();
    let of_worktree = place.repository().join(".git/worktrees/topic");
    for foreign in [place.tree(), place.tree().join(".git"), of_worktree] {
        if chown(&foreign, Some(OTHER), None).is_err() {
            // Written directly, because the output of a passing test is captured.
            let message = "did not run with trees of another user: only root may give one away\n";
            return std::io::stderr().write_all(message.as_bytes()).unwrap();
        }
        let asked = try_git(&place.tree(), &["rev-parse", "HEAD"]);
        assert!(!asked.status.success(), "git works for others: {asked:?}");
        place.assert_kept(KeepReason::Foreign).await;
        chown(&foreign, Some(us), None).unwrap();
    }
    assert_eq!(place.inspect().await, RemovalOutcome::WouldRemove);
}

#[tokio::test]
async fn tree_with_submodules_is_kept() {
    let place = TopicRepository::new();
    place.write("topic/.gitmodules", "");
    commit(&place.tree(), "more");
    let place = TopicRepository {
        head: place.head_of("topic"),
        ..place
    };
    place.assert_kept(KeepReason::Submodules).await;
}

#[tokio::test]
async fn paths_outside_the_root_are_refused() {
    let place = TopicRepository::squash_merged();
    let outside = place.folder.path().join("outside");
    git(
        &place.repository(),
        &[
            "worktree",
            "add",
            "-q",
            "-b",
            "out",
            outside.to_str().unwrap(),
            "topic",
        ],
    );
    symlink(&outside, place.root().join("link")).unwrap();
    symlink(place.tree(), place.root().join("alias")).unwrap();
    symlink(place.folder.path(), place.root().join("up")).unwrap();
    place.write("plain/file", "no repository");
    place.write("topic/target/inside", "part of a tree");
    git(&place.root(), &["clone", "-q", "../repository", "clone"]);
    git(
        &place.root(),
        &[
            "init",
            "-q",
            "--separate-git-dir",
            "../separate.git",
            "separate",
        ],
    );
    let outside = outside.to_str().unwrap();
    for (path, reason) in [
        ("", KeepReason::OutsideRoot),
        (".", KeepReason::OutsideRoot),
        ("..", KeepReason::OutsideRoot),
        ("../outside", KeepReason::OutsideRoot),
        ("topic/../../outside", KeepReason::OutsideRoot),
        ("topic/../topic", KeepReason::OutsideRoot),
        ("/", KeepReason::OutsideRoot),
        (outside, KeepReason::OutsideRoot),
        (place.root().to_str().unwrap(), KeepReason::OutsideRoot),
        ("link", KeepReason::Symlink),
        ("alias", KeepReason::Symlink),
        ("up/outside", KeepReason::Symlink),
        ("plain", KeepReason::NotAWorktree),
        ("topic/target", KeepReason::NotAWorktree),
        ("clone", KeepReason::NotAWorktree),
        ("separate", KeepReason::NotAWorktree),
    ] {
        for branch in ["topic", "out"] {
            assert_eq!(
                place.inspect_at(Path::new(path), branch).await,
                RemovalOutcome::Kept(reason.clone()),
                "{path}"
            );
        }
    }
    for path in [
        "missing",
        "-rf",
        "--force",
        "--upload-pack=touch it-ran",
        "a\nb",
    ] {
        assert_eq!(
            place.inspect_at(Path::new(path), "topic").await,
            RemovalOutcome::Kept(KeepReason::Gone),
            "{path}"
        );
    }
    assert_eq!(
        place.inspect().await,
        RemovalOutcome::WouldRemove,
        "all of this leaves a good one alone"
    );
}

#[tokio::test]
async fn tree_may_have_any_name() {
    let place = TopicRepository::squash_merged();
    for name in ["--force", "-rf", "a b", "ä\x1b"] {
        let path = place.root().join(name);
        let path = path.to_str().unwrap();
        git(
            &place.repository(),
            &["worktree", "move", "../root/topic", path],
        );
        let root = place.root();
        let candidate = WorktreeCheck {
            root: &root,
            path: Path::new(name),
            branch: "topic",
            head_sha: &place.head,
            merged: true,
        };
        assert_eq!(
            remove(candidate, false).await,
            RemovalOutcome::Removed,
            "{name}"
        );
        git(
            &place.repository(),
            &["worktree", "add", "-q", "../root/topic", "topic"],
        );
    }
}

#[tokio::test]
async fn invalid_branch_names_are_refused() {
    let place = TopicRepository::squash_merged();
    for name in [
        "",
        "-d",
        "--upload-pack=touch it-ran",
        "topic\n",
        "topic --force",
        "topic\0",
        "topic..main",
        "topic^",
        "topic~1",
        "topic@{1}",
        ":/work",
        "top?c",
        "top*",
        "[t]opic",
        "a\\b",
    ] {
        let verdict = place.inspect_at(Path::new("topic"), name).await;
        assert!(
            matches!(verdict, RemovalOutcome::Kept(KeepReason::BranchName(_))),
            "{name:?}: {verdict:?}"
        );
    }
    for name in [
        "main",
        "refs/heads/topic",
        "heads/topic",
        "TOPIC",
        "$(touch it-ran)",
        "topic;true",
    ] {
        let verdict = place.inspect_at(Path::new("topic"), name).await;
        let verdict_is_right = matches!(
            verdict,
            RemovalOutcome::Kept(KeepReason::OtherBranch(_) | KeepReason::BranchName(_))
        );
        assert!(verdict_is_right, "{name:?}: {verdict:?}");
    }
    let (root, path) = (place.root(), place.tree());
    for head_sha in [
        "",
        "topic",
        "HEAD",
        "--all",
        &place.head[..39],
        &place.head.to_uppercase(),
    ] {
        let candidate = WorktreeCheck {
            root: &root,
            path: &path,
            branch: "topic",
            head_sha,
            merged: true,
        };
        assert_eq!(
            remove(candidate, true).await,
            RemovalOutcome::Kept(KeepReason::HeadSha(head_sha.to_owned()))
        );
    }
}

/// The `.git` file of a tree names its repository, and any process can write one.
#[tokio::test]
async fn tree_unknown_to_its_repository_is_kept() {
    let place = TopicRepository::squash_merged();
    place.write("fake/code", "two\n");
    place.write("fake/.gitignore", "target\n");
    fs::copy(place.tree().join(".git"), place.root().join("fake/.git")).unwrap();
    assert_eq!(
        place.inspect_at(Path::new("fake"), "topic").await,
        RemovalOutcome::Kept(KeepReason::NotAWorktree)
    );
    // A `.git` file that makes it the main tree.
    place.write(
        "fake/.git",
        &format!("gitdir: {}\n", place.repository().join(".git").display()),
    );
    assert_eq!(
        place.inspect_at(Path::new("fake"), "main").await,
        RemovalOutcome::Kept(KeepReason::NotAWorktree)
    );
    place.write("fake/.git", "gitdir: /dev/zero\n");
    let verdict = place.inspect_at(Path::new("fake"), "topic").await;
    assert!(
        matches!(verdict, RemovalOutcome::Kept(KeepReason::Git(_))),
        "{verdict:?}"
    );
    // A setting of this tree that points git at another one.
    git(
        &place.repository(),
        &["config", "extensions.worktreeConfig", "true"],
    );
    let elsewhere = place.repository();
    git(
        &place.tree(),
        &[
            "config",
            "--worktree",
            "core.worktree",
            elsewhere.to_str().unwrap(),
        ],
    );
    assert_eq!(
        place.inspect().await,
        RemovalOutcome::Kept(KeepReason::NotAWorktree)
    );
}

#[tokio::test]
async fn dry_run_changes_nothing() {
    let place = TopicRepository::squash_merged();
    let index = || fs::read(place.repository().join(".git/worktrees/topic/index")).unwrap();
    // Git would refresh its index, although the content is unchanged.
    fs::File::options()
        .write(true)
        .open(place.tree().join("code"))
        .unwrap()
        .set_modified(UNIX_EPOCH)
        .unwrap();
    let before = index();
    assert_eq!(place.inspect().await, RemovalOutcome::WouldRemove);
    assert!(index() == before, "an inspection writes");
    git(&place.tree(), &["status"]);
    assert!(index() != before, "there is nothing to write");
}

#[tokio::test]
async fn programs_configured_in_a_repository_are_not_run() {
    let place = TopicRepository::new();
    place.write("topic/.gitattributes", "code filter=a=b\n");
    commit(&place.tree(), "more");
    let place = TopicRepository {
        head: place.head_of("topic"),
        ..place
    };
    let trap = place.trap();
    let hooks = place.repository().join(".git/hooks");
    for hook in [
        "post-checkout",
        "reference-transaction",
        "post-index-change",
        "fsmonitor-watchman",
    ] {
        fs::create_dir_all(&hooks).unwrap();
        fs::copy(&trap, hooks.join(hook)).unwrap();
    }
    for name in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.askPass",
        "gpg.program",
        "core.editor",
    ] {
        git(&place.repository(), &["config", name, &trap]);
    }
    for name in [
        "filter.a=b.clean",
        "filter.a=b.smudge",
        "filter.a=b.process",
    ] {
        git(&place.repository(), &["config", name, &trap]);
    }
    git(
        &place.repository(),
        &["config", "filter.a=b.required", "true"],
    );
    git(
        &place.repository(),
        &["config", "log.showSignature", "true"],
    );
    // Git has to read the file again, through the filter, to detect a change.
    let code = fs::File::options()
        .write(true)
        .open(place.tree().join("code"))
        .unwrap();
    code.set_modified(UNIX_EPOCH).unwrap();
    assert!(!place.trap_ran(), "it is not set off by the making of it");

    assert_eq!(place.remove(true).await, RemovalOutcome::WouldRemove);
    assert!(!place.trap_ran(), "an inspection runs nothing");
    try_git(&place.tree(), &["status"]);
    assert!(place.trap_ran(), "there is a trap");
    fs::remove_file(place.folder.path().join("it-ran")).unwrap();
    code.set_modified(UNIX_EPOCH).unwrap();
    assert_eq!(place.remove(false).await, RemovalOutcome::Removed);
    assert!(!place.trap_ran(), "a removal runs nothing");
}

/// Runs another test of this file with an environment that would misdirect git.
#[test]
fn environment_of_the_process_is_ignored() {
    let place = TopicRepository::new();
    let trap = place.trap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "worktree::squash_merged_tree_is_removed_and_its_branch_stays",
        ])
        .env("GIT_DIR", place.repository().join(".git"))
        .env("GIT_WORK_TREE", place.repository())
        .env("GIT_INDEX_FILE", "/nowhere")
        .env("GIT_EXTERNAL_DIFF", &trap)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "core.fsmonitor")
        .env("GIT_CONFIG_VALUE_0", &trap)
        .env("GIT_TRACE", place.folder.path().join("it-ran"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    assert!(!place.trap_ran());
}
