//! Cleanup of tasks' working trees after the merge of their pull requests, with the real git.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::DateTime;
use reqwest::Method;
use serde_json::{Value, json};
use tallyhook::app::ServerOptions;
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::task::TaskKey;
use tallyhook_core::github::types::{PrKey, PrNumber};
use tallyhook_store::{DEFAULT_TEAM, PendingWork, TaskRef};
use tempfile::TempDir;

use testkit::git::{commit, git};
use testkit::payloads::{self, Account, Pr, World};
use testkit::process::{self, Ended, tallyhook};
use testkit::socket::{Socket, connect, frame};
use testkit::{Place, TestServer, repo_id};

const REPO: &str = "acme-corp/api-server";

fn mira() -> Account {
    Account::user(900_000_101, "mira")
}

fn pr_id(number: i64) -> Value {
    json!(PullRequest::id(PrKey {
        repo: repo_id(),
        number: PrNumber(number)
    }))
}

/// A server with a WebSocket client, and a repository with a root of working trees beside it.
struct WorktreeServer {
    server: TestServer,
    socket: Socket,
    folder: TempDir,
}

impl WorktreeServer {
    /// Starts a server that removes working trees, or leaves that to the command.
    async fn begin(removes: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        git(folder.path(), &["init", "-q", "-b", "main", "repository"]);
        commit(&folder.path().join("repository"), "first");
        let place = Place::new().await;
        let mut config = testkit::config(&place);
        config.tasks.worktree_root = removes.then(|| folder.path().join("root"));
        let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
        server.track(repo_id(), REPO, DateTime::UNIX_EPOCH).await;
        let socket = connect(&server, "").await;
        Self {
            server,
            socket,
            folder,
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// Creates a working tree with one commit on a branch of the same name. Returns its pull
    /// request.
    fn work(&self, number: i64, name: &str) -> Pr {
        let tree = self.root().join(name);
        git(
            &self.repository(),
            &["worktree", "add", "-q", "-b", name, tree.to_str().unwrap()],
        );
        fs::write(tree.join("code"), name).unwrap();
        commit(&tree, "work");
        self.pull_request(number, name, &git(&tree, &["rev-parse", "HEAD"]))
    }

    fn pull_request(&self, number: i64, branch: &str, head_sha: &str) -> Pr {
        let mut pr = Pr::new(
            &World::acme(),
            number,
            Some(&mira()),
            "Work",
            branch,
            "2026-03-02T09:00:00Z",
        );
        pr.body = None;
        pr.head_sha = head_sha.to_owned();
        pr
    }

    async fn post(&mut self, pr: &Pr, action: &str) {
        let body = payloads::pull_request_event(pr, action, &mira(), json!({}))
            .to_string()
            .into_bytes();
        let guid = uuid::Uuid::new_v4().to_string();
        assert_eq!(self.server.post("pull_request", &guid, &body).await.0, 202);
        self.server.drained().await;
    }

    async fn open(&mut self, pr: &Pr) {
        self.post(pr, "opened").await;
        assert_eq!(
            self.notified("pr_status_change").await["new_status"],
            "OPEN"
        );
    }

    /// Merges like a squash on GitHub: none of its commits is on the base branch.
    async fn merge(&mut self, pr: &mut Pr) {
        pr.merge(&mira(), "2026-03-02T10:30:00Z");
        self.post(pr, "closed").await;
        assert_eq!(
            self.notified("pr_status_change").await["new_status"],
            "MERGED"
        );
    }

    async fn close(&mut self, pr: &mut Pr) {
        pr.close("2026-03-02T10:40:00Z");
        self.post(pr, "closed").await;
        assert_eq!(
            self.notified("pr_status_change").await["new_status"],
            "CLOSED"
        );
    }

    /// Creates a task whose pull request has the number that the task's key ends with.
    async fn make(&self, key: &str, number: i64, place: Value) {
        let mut task = place;
        (task["key"], task["title"]) = (json!(key), json!("Work"));
        let (status, answer) = self.server.ask(Method::POST, "/api/tasks", &task).await;
        assert_eq!(status, 201, "{answer}");
        self.link(key, number).await;
    }

    async fn link(&self, key: &str, number: i64) {
        let path = format!("/api/tasks/{key}/prs");
        let (status, answer) = self
            .server
            .ask(
                Method::POST,
                &path,
                &json!({"repo": REPO, "number": number}),
            )
            .await;
        assert_eq!(status, 201, "{answer}");
    }

    /// Returns the next notification, which must be of this kind.
    async fn notified(&mut self, kind: &str) -> Value {
        let notified = frame(&mut self.socket).await;
        assert_eq!(notified["type"], kind, "{notified}");
        notified
    }

    async fn task(&self, key: &str) -> Value {
        self.server.get(&format!("/api/tasks/{key}")).await.1
    }

    /// Waits until nothing is due for a task, and returns it.
    async fn settled(&self, key: &str) -> Value {
        let which = TaskRef::Key(TaskKey::parse(key).unwrap());
        let store = &self.server.running.store;
        let is_settled = async || {
            store
                .of_team(DEFAULT_TEAM.0)
                .task(&which)
                .await
                .unwrap()
                .unwrap()
                .due
                == PendingWork::default()
        };
        testkit::eventually("nothing is due", is_settled).await;
        self.task(key).await
    }

    /// Builds the command `tallyhook worktrees`.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tallyhook(
            self.server.place.path(),
            &[&["worktrees"], arguments].concat(),
        );
        command.env("WORKTREE_ROOT", self.root());
        command
    }

    /// Returns the command's result for each working tree, in JSON.
    async fn lines(&self, arguments: &[&str]) -> Value {
        let ended = run(self.command(&[arguments, &["--json"]].concat())).await;
        let mut listed: Value = serde_json::from_str(&ended.ok()).unwrap();
        listed["items"].take()
    }
}

/// Runs a command to its end, while the server of the test keeps running.
async fn run(mut command: Command) -> Ended {
    tokio::task::spawn_blocking(move || process::run(&mut command))
        .await
        .unwrap()
}

/// Returns the history of a task's working tree, newest first.
fn of_tree(task: &Value) -> Vec<Value> {
    let history = task["history"].as_array().unwrap().iter();
    let of_tree = history.filter(|entry| entry["cause"].as_str().unwrap().starts_with("worktree"));
    of_tree
        .map(|entry| json!([entry["cause"], entry["pr_id"], entry["note"]]))
        .collect()
}

#[tokio::test]
async fn merge_removes_the_worktree_of_its_task() {
    let mut story = WorktreeServer::begin(true).await;
    let mut pr = story.work(7, "sort");
    story.open(&pr).await;
    story
        .make("PROJ-7", 7, json!({"branch": "sort", "worktree": "sort"}))
        .await;
    assert_eq!(
        story.notified("task_status_change").await["new_status"],
        "CODE_REVIEWING"
    );
    assert_eq!(story.settled("PROJ-7").await["worktree"], "sort");
    story.merge(&mut pr).await;
    assert_eq!(
        story.notified("task_status_change").await["new_status"],
        "DONE"
    );
    let task = story.settled("PROJ-7").await;
    assert_eq!(task["worktree"], Value::Null);
    assert_eq!(
        of_tree(&task),
        [json!(["worktree_removed", pr_id(7), "sort"])]
    );
    assert!(!story.root().join("sort").exists());
    assert_eq!(
        git(&story.repository(), &["rev-parse", "sort"]),
        pr.head_sha
    );
    assert_eq!(story.lines(&[]).await, json!([]));
    story.server.stop().await;
}

#[tokio::test]
async fn worktree_with_changes_is_kept_and_reported_once() {
    let mut story = WorktreeServer::begin(true).await;
    let mut pr = story.work(7, "sort");
    story.open(&pr).await;
    story.make("PROJ-7", 7, json!({"worktree": "sort"})).await;
    story.notified("task_status_change").await;
    let notes = story.root().join("sort/notes");
    fs::write(&notes, "not committed").unwrap();
    story.merge(&mut pr).await;
    story.notified("task_status_change").await;
    let notified = story.notified("worktree_kept").await;
    let why = "not everything in it is committed: notes";
    assert_eq!(
        (&notified["reason"], &notified["repo"], &notified["pr_id"]),
        (&json!(why), &json!(REPO), &pr_id(7))
    );
    let task = story.settled("PROJ-7").await;
    assert_eq!(
        (&notified["task_id"], &task["worktree"]),
        (&task["id"], &json!("sort"))
    );

    // A second check changes nothing.
    assert_eq!(
        story
            .server
            .ask(
                Method::PATCH,
                "/api/tasks/PROJ-7",
                &json!({"title": "Sorted"})
            )
            .await
            .0,
        200
    );
    let task = story.settled("PROJ-7").await;
    assert_eq!(of_tree(&task), [json!(["worktree_kept", pr_id(7), why])]);
    story.open(&story.pull_request(8, "other", "")).await;
    assert_eq!(fs::read_to_string(&notes).unwrap(), "not committed");

    let kept = story.lines(&[]).await;
    assert_eq!(
        (&kept[0]["verdict"], &kept[0]["reason"]),
        (&json!("kept"), &json!(why))
    );
    fs::remove_file(&notes).unwrap();
    let table = run(story.command(&["--remove"])).await.ok();
    assert!(
        table.contains("PROJ-7") && table.contains("removed"),
        "{table}"
    );
    assert!(!story.root().join("sort").exists());
    assert_eq!(
        of_tree(&story.task("PROJ-7").await)[0][0],
        "worktree_removed"
    );
    story.server.stop().await;
}

#[tokio::test]
async fn worktree_of_an_unfinished_task_is_kept() {
    let mut story = WorktreeServer::begin(true).await;
    let (mut one, mut two) = (story.work(7, "one"), story.work(8, "two"));
    story.open(&one).await;
    story.open(&two).await;
    story
        .make("PROJ-7", 7, json!({"branch": "one", "worktree": "one"}))
        .await;
    story.notified("task_status_change").await;
    story.link("PROJ-7", 8).await;
    story.merge(&mut one).await;
    // The other pull request is open, so the task is not done.
    let in_use = story.settled("PROJ-7").await;
    assert_eq!(
        (of_tree(&in_use).len(), &in_use["worktree"]),
        (0, &json!("one"))
    );
    assert_eq!(story.lines(&[]).await[0]["verdict"], "in_use");
    // A person continues the task afterwards.
    story
        .server
        .ask(
            Method::PATCH,
            "/api/tasks/PROJ-7",
            &json!({"status": "IMPLEMENTING"}),
        )
        .await;
    assert_eq!(
        story.notified("task_status_change").await["new_status"],
        "IMPLEMENTING"
    );
    story.close(&mut two).await;
    assert_eq!(story.settled("PROJ-7").await["worktree"], "one");
    story
        .server
        .ask(
            Method::PATCH,
            "/api/tasks/PROJ-7",
            &json!({"status": "DONE"}),
        )
        .await;
    story.notified("task_status_change").await;
    let task = story.settled("PROJ-7").await;
    assert_eq!(
        of_tree(&task),
        [json!(["worktree_removed", pr_id(7), "one"])]
    );
    assert!(!story.root().join("one").exists() && story.root().join("two").exists());

    // Set to done by a person: its commits were never merged.
    story.make("PROJ-8", 8, json!({"worktree": "two"})).await;
    assert_eq!(
        story.notified("task_status_change").await["new_status"],
        "CANCELLED"
    );
    story
        .server
        .ask(
            Method::PATCH,
            "/api/tasks/PROJ-8",
            &json!({"status": "DONE"}),
        )
        .await;
    story.notified("task_status_change").await;
    assert_eq!(story.settled("PROJ-8").await["worktree"], "two");
    assert!(story.root().join("two/code").exists());
    story.server.stop().await;
}

#[tokio::test]
async fn missing_worktree_is_removed_once_it_is_visible_again() {
    let mut story = WorktreeServer::begin(true).await;
    let mut pr = story.work(7, "sort");
    story.open(&pr).await;
    story.make("PROJ-7", 7, json!({"worktree": "sort"})).await;
    story.notified("task_status_change").await;
    // The tree is moved away, as if its file system were not mounted.
    let (tree, elsewhere) = (
        story.root().join("sort"),
        story.folder.path().join("elsewhere"),
    );
    fs::rename(&tree, &elsewhere).unwrap();
    story.merge(&mut pr).await;
    story.notified("task_status_change").await;
    let missing = json!([
        "worktree_missing",
        pr_id(7),
        "the path does not exist on the machine that checked it"
    ]);
    let task = story.settled("PROJ-7").await;
    assert_eq!(
        (of_tree(&task), &task["worktree"]),
        (vec![missing.clone()], &json!("sort"))
    );
    for arguments in [&[][..], &["--remove"]] {
        assert_eq!(story.lines(arguments).await[0]["verdict"], "missing");
    }
    assert_eq!(
        of_tree(&story.task("PROJ-7").await),
        std::slice::from_ref(&missing)
    );
    // No notification says that it is kept.
    story.open(&story.pull_request(8, "other", "")).await;

    fs::rename(&elsewhere, &tree).unwrap();
    assert_eq!(story.lines(&["--remove"]).await[0]["verdict"], "removed");
    let task = story.task("PROJ-7").await;
    assert_eq!(
        of_tree(&task),
        [json!(["worktree_removed", pr_id(7), "sort"]), missing]
    );
    assert!(task["worktree"].is_null() && !tree.exists());
    story.server.stop().await;
}

#[tokio::test]
async fn list_shows_each_outcome_and_changes_nothing() {
    let mut story = WorktreeServer::begin(false).await;
    let (mut clean, mut ahead, open) = (
        story.work(7, "clean"),
        story.work(8, "ahead"),
        story.work(9, "open"),
    );
    for (pr, name) in [(&clean, "clean"), (&ahead, "ahead"), (&open, "open")] {
        story.open(pr).await;
        story
            .make(
                &format!("PROJ-{}", pr.number),
                pr.number,
                json!({"worktree": name}),
            )
            .await;
        story.notified("task_status_change").await;
    }
    commit(&story.root().join("ahead"), "more work");
    for pr in [&mut clean, &mut ahead] {
        story.merge(pr).await;
        story.notified("task_status_change").await;
    }
    let before = everything(&story).await;
    let lines = story.lines(&[]).await;
    // The name of the default, for scripts.
    assert_eq!(story.lines(&["--dry-run"]).await, lines);
    let notified: Vec<_> = lines
        .as_array()
        .unwrap()
        .iter()
        .map(|line| [&line["key"], &line["verdict"], &line["reason"]])
        .collect();
    let ahead = "its branch is ahead of the pull request by 1 commits";
    assert_eq!(
        json!(notified),
        json!([
            ["PROJ-9", "in_use", null],
            ["PROJ-8", "kept", ahead],
            ["PROJ-7", "would_remove", null]
        ])
    );
    let table = run(story.command(&[])).await.ok();
    assert!(
        table.contains("would be removed") && table.contains("in use"),
        "{table}"
    );
    assert_eq!(everything(&story).await, before);
    let mut nowhere = story.command(&[]);
    nowhere.env_remove("WORKTREE_ROOT");
    run(nowhere).await.failed(2, &["WORKTREE_ROOT"]);
    assert_eq!(everything(&story).await, before);

    let lines = story.lines(&["--remove"]).await;
    assert_eq!(
        [&lines[1]["verdict"], &lines[2]["verdict"]],
        [&json!("kept"), &json!("removed")]
    );
    assert!(story.root().join("ahead/code").exists() && !story.root().join("clean").exists());
    assert_eq!(
        of_tree(&story.task("PROJ-8").await),
        [json!(["worktree_kept", pr_id(8), ahead])]
    );
    story.server.stop().await;
}

/// Returns everything that a list could change: trees, branches, tasks.
async fn everything(story: &WorktreeServer) -> Value {
    let trees = git(&story.repository(), &["worktree", "list", "--porcelain"]);
    let mut files: Vec<_> = fs::read_dir(story.root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let tasks = [
        story.task("PROJ-7").await,
        story.task("PROJ-8").await,
        story.task("PROJ-9").await,
    ];
    json!([
        trees,
        files,
        git(&story.repository(), &["branch", "--verbose"]),
        tasks
    ])
}

#[tokio::test]
async fn hostile_paths_and_branch_names_touch_nothing() {
    let mut story = WorktreeServer::begin(true).await;
    let (root, outside) = (story.root(), story.folder.path().join("outside"));
    git(
        &story.repository(),
        &[
            "worktree",
            "add",
            "-q",
            "-b",
            "outside",
            outside.to_str().unwrap(),
        ],
    );
    symlink(&outside, story.root().join("link")).unwrap();
    let mut fine = story.work(1, "fine");
    let sha = fine.head_sha.clone();
    let no_name = |name: &str| format!("`{name}` is not a valid branch name");
    let straight = "the path is not a plain path below the root of working trees".to_owned();
    let cases = [
        ("../outside", "outside", straight.clone()),
        (outside.to_str().unwrap(), "outside", straight.clone()),
        ("fine/../../outside", "outside", straight.clone()),
        (root.to_str().unwrap(), "outside", straight.clone()),
        (".", "outside", straight.clone()),
        ("/", "outside", straight),
        (
            "link",
            "outside",
            "the path goes through a symbolic link".to_owned(),
        ),
        ("fine", "--force", no_name("--force")),
        (
            "fine",
            "--upload-pack=touch /tmp/it-ran",
            no_name("--upload-pack=touch /tmp/it-ran"),
        ),
        ("fine", "fine\n--force", no_name("fine --force")),
        ("fine", "main..fine", no_name("main..fine")),
        (
            "fine",
            "refs/heads/fine",
            "it has not its branch checked out, but refs/heads/fine".to_owned(),
        ),
    ];
    for (number, (path, branch, why)) in (10..).zip(cases) {
        let mut pr = story.pull_request(number, branch, &sha);
        story.open(&pr).await;
        let key = format!("PROJ-{number}");
        story.make(&key, number, json!({"worktree": path})).await;
        story.notified("task_status_change").await;
        story.merge(&mut pr).await;
        story.notified("task_status_change").await;
        assert_eq!(
            story.notified("worktree_kept").await["reason"],
            why,
            "{path} {branch:?}"
        );
        assert_eq!(story.settled(&key).await["worktree"], path);
    }
    assert!(outside.join(".git").exists() && story.root().join("fine/code").exists());
    assert!(!Path::new("/tmp/it-ran").exists());
    // A valid tree is not affected.
    story.open(&fine).await;
    story.make("PROJ-1", 1, json!({"worktree": "fine"})).await;
    story.notified("task_status_change").await;
    story.merge(&mut fine).await;
    story.notified("task_status_change").await;
    assert_eq!(
        of_tree(&story.settled("PROJ-1").await)[0][0],
        "worktree_removed"
    );
    story.server.stop().await;
}
