//! Opening of pull requests for tasks, on request or after a push, and its failures.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use tallyhook::app::ServerOptions;
use tallyhook::config::{Config, TaskConfig as Tasks};
use tallyhook::leader::OutboxWorker;
use tallyhook::sync::fetch::{PullRequestFetcher, observed_repository};
use tallyhook::tasks::{AutoPullRequests, PullRequestOpener, TaskFollower};
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::domain::task::{TaskId, TaskKey, TaskStatus};
use tallyhook_core::github::types::{PrKey, PrNumber, Timestamp};
use tallyhook_github_client::{Credentials, Token};
use tallyhook_store::{
    BatchWrite, DEFAULT_TEAM, NewTask, OpenMode as Open, PendingWork, Store, TaskCause, TaskPlace,
    TaskRef,
};

use testkit::github::growth::people;
use testkit::github::world::{Opening, Repository};
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN, Rights};
use testkit::payloads::{self, HeadRepo, World};
use testkit::socket::{Socket, connect, frame};
use testkit::{Place, TestServer, assert_refused, config, repo_id};

const NAME: &str = "acme-corp/api-server";
const BRANCH: &str = "sort-the-queue";

fn at(second: i64) -> Timestamp {
    Timestamp::clamped(1_772_445_600 + second)
}

/// A fake GitHub whose repository has a branch with a commit, and a server with a token for it.
struct PullRequestServer {
    github: FakeGithub,
    server: TestServer,
    socket: Socket,
}

impl PullRequestServer {
    async fn new(auto_pr: bool) -> Self {
        Self::with_token(auto_pr, GITHUB_TOKEN).await
    }

    async fn with_token(auto_pr: bool, token: &str) -> Self {
        let github = github().await;
        github.give("github_pat_fine", Rights::FineGrained);
        let place = Place::new().await;
        let usual = config(&place);
        let config = Config {
            github_credentials: Some(Credentials::Token(Token::parse(token).unwrap())),
            github_api_url: github.api(),
            tasks: Tasks {
                auto_pr,
                ..usual.tasks.clone()
            },
            ..usual
        };
        let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
        server.track(repo_id(), NAME, DateTime::UNIX_EPOCH).await;
        let socket = connect(&server, "").await;
        Self {
            github,
            server,
            socket,
        }
    }

    async fn make(&self, task: Value) -> Value {
        let (status, task) = self.server.ask(Method::POST, "/api/tasks", &task).await;
        assert_eq!(status, 201, "{task}");
        task
    }

    async fn open(&self, task: &str, wanted: Value) -> (u16, Value) {
        self.server
            .ask(Method::POST, &format!("/api/tasks/{task}/pr"), &wanted)
            .await
    }

    /// Returns the subject and the new status of the next notification.
    async fn notified(&mut self) -> (String, String) {
        let notified = frame(&mut self.socket).await;
        let text = |name: &str| notified[name].as_str().unwrap().to_owned();
        (text("type"), text("new_status"))
    }

    fn posts(&self) -> usize {
        self.github
            .asked()
            .iter()
            .filter(|asked| asked.starts_with("POST /repos/"))
            .count()
    }

    async fn stop(self) {
        self.server.stop().await;
        self.github.stop().await;
    }
}

async fn github() -> FakeGithub {
    let github = FakeGithub::start().await;
    github.add_repository(repo_id().0, NAME);
    change(&github, |repository| repository.push(BRANCH, &[at(0)]));
    github
}

fn change(github: &FakeGithub, how: impl FnOnce(&mut Repository)) {
    github.world(|world| how(world.repository(NAME)));
}

fn notified(what: &str, status: &str) -> (String, String) {
    (format!("{what}_status_change"), status.to_owned())
}

fn causes(task: &Value) -> Vec<&str> {
    let history = task["history"].as_array().unwrap();
    history
        .iter()
        .map(|entry| entry["cause"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn task_gets_its_pull_request_and_follows_it() {
    let mut scene = PullRequestServer::new(false).await;
    let task = json!({"key": "PROJ-123", "title": "Sort the queue", "branch": BRANCH, "status": "IMPLEMENTING"});
    scene.make(task).await;
    let (status, answer) = scene
        .open("PROJ-123", json!({"body": "By arrival.", "draft": true}))
        .await;
    assert_eq!(status, 201, "{answer}");
    let html_url = "https://github.com/acme-corp/api-server/pull/1";
    assert_eq!(
        answer["pull_request"],
        json!({"repo": NAME, "number": 1, "html_url": html_url, "created": true})
    );
    let linked = &answer["task"]["prs"][0];
    assert_eq!(
        (&linked["number"], &linked["title"]),
        (&json!(1), &json!("Sort the queue"))
    );
    assert_eq!(scene.notified().await, notified("pr", "OPEN"));
    let opened = scene
        .github
        .world(|world| world.repository(NAME).pulls[&1].pr.clone());
    assert_eq!(
        (
            opened.draft,
            opened.body.as_deref(),
            opened.base_ref.as_str()
        ),
        (true, Some("By arrival."), "main")
    );

    // Again, without options.
    let again = scene
        .server
        .http
        .post(format!("{}/api/tasks/proj-123/pr", scene.server.url));
    let again = again.bearer_auth(testkit::TOKEN).send().await.unwrap();
    assert_eq!(again.status(), 200);
    let again: Value = again.json().await.unwrap();
    assert_eq!(
        (
            &again["pull_request"]["created"],
            &again["pull_request"]["number"]
        ),
        (&json!(false), &json!(1))
    );
    // A draft leaves its task as it is.
    assert_eq!(causes(&again["task"]), ["pull_request_made", "created"]);
    assert_eq!(
        again["task"]["history"][0]["note"],
        format!("opened {html_url}")
    );
    assert_eq!(scene.posts(), 1);
    scene.stop().await;
}

#[tokio::test]
async fn pull_request_opened_elsewhere_is_found_and_linked() {
    let scene = PullRequestServer::new(false).await;
    scene.github.world(|world| {
        let (author, title, head_repo) = (&people()[0], "Nothing of any key", HeadRepo::Same);
        let at = Timestamp::from(Utc::now());
        world.open(
            NAME,
            &Opening {
                author,
                title,
                branch: BRANCH,
                head_repo,
                draft: false,
                at,
                commits: &[(at, at)],
            },
        );
    });
    scene.make(json!({"key": "PROJ-1", "title": "Sort"})).await;
    let (status, answer) = scene
        .open(
            "PROJ-1",
            json!({"repo": NAME, "head": BRANCH, "base": "main"}),
        )
        .await;
    assert_eq!(
        (status, &answer["pull_request"]["created"]),
        (200, &json!(false)),
        "{answer}"
    );
    assert_eq!(answer["task"]["prs"][0]["title"], "Nothing of any key");
    assert!(
        answer["task"]["history"]
            .to_string()
            .contains("found https://github.com/"),
        "{answer}"
    );
    assert_eq!(scene.posts(), 0);
    scene.stop().await;
}

#[tokio::test]
async fn every_refusal_has_an_error_code() {
    let scene = PullRequestServer::new(false).await;
    scene
        .make(json!({"key": "PROJ-1", "title": "Sort", "branch": BRANCH}))
        .await;
    scene
        .make(json!({"key": "PROJ-2", "title": "Without a branch"}))
        .await;
    assert_refused(&scene.open("PROJ-9", json!({})).await, 404, "not_found");
    assert_refused(&scene.open("PROJ-2", json!({})).await, 400, "bad_request");
    for wrong in [
        json!({"titel": "x"}),
        json!({"title": " "}),
        json!({"repo": "acme"}),
        json!({"head": "-x"}),
        json!([1]),
    ] {
        assert_refused(&scene.open("PROJ-1", wrong).await, 400, "bad_request");
    }
    assert_refused(
        &scene
            .open("PROJ-1", json!({"repo": "acme-corp/other"}))
            .await,
        404,
        "repository_missing",
    );
    assert_refused(
        &scene.open("PROJ-1", json!({"head": "gone"})).await,
        422,
        "head_missing",
    );
    assert_refused(
        &scene.open("PROJ-1", json!({"head": "main"})).await,
        422,
        "no_commits",
    );
    change(&scene.github, |repository| repository.archived = true);
    assert_refused(
        &scene.open("PROJ-1", json!({})).await,
        409,
        "repository_read_only",
    );
    change(&scene.github, |repository| repository.archived = false);
    assert_eq!(scene.posts(), 2);
    let (_, task) = scene.server.get("/api/tasks/PROJ-1").await;
    assert_eq!((causes(&task), &task["prs"]), (vec!["created"], &json!([])));
    scene.stop().await;

    let scene = PullRequestServer::with_token(false, "github_pat_fine").await;
    scene
        .make(json!({"key": "PROJ-1", "title": "Sort", "branch": BRANCH}))
        .await;
    let refused = scene.open("PROJ-1", json!({})).await;
    assert_refused(&refused, 409, "github_access_refused");
    assert!(
        refused.1.to_string().contains("pull_requests=write"),
        "{}",
        refused.1
    );
    scene.stop().await;

    let server = TestServer::start().await;
    let refused = server
        .ask(Method::POST, "/api/tasks/PROJ-1/pr", &json!({}))
        .await;
    assert_refused(&refused, 409, "github_access_missing");
    server.stop().await;
}

#[tokio::test]
async fn push_to_a_tasks_branch_opens_its_pull_request_if_enabled() {
    let mut scene = PullRequestServer::new(true).await;
    let (world, mira) = (World::acme(), people().remove(0));
    let task = |key: &str, branch: &str, status: &str| json!({"key": key, "title": key, "branch": branch, "status": status});
    scene.make(task("PROJ-1", BRANCH, "IMPLEMENTING")).await;
    scene.make(task("PROJ-2", "other", "TODO")).await;
    change(&scene.github, |repository| {
        repository.push("other", &[at(1)])
    });
    let (before, after) = (payloads::sha("before"), payloads::sha("after"));
    for (guid, branch) in [("p1", "other"), ("p2", BRANCH), ("p3", BRANCH)] {
        let push = payloads::push_event(
            &world,
            branch,
            (&before, &after),
            &mira,
            "2026-03-02T09:00:00Z",
        )
        .to_string();
        assert_eq!(
            scene.server.post("push", guid, push.as_bytes()).await.0,
            202
        );
    }
    assert_eq!(scene.notified().await, notified("pr", "OPEN"));
    assert_eq!(scene.notified().await, notified("task", "CODE_REVIEWING"));
    let (_, followed) = scene.server.get("/api/tasks/PROJ-1").await;
    assert_eq!(
        (&followed["prs"][0]["title"], &followed["prs"][0]["number"]),
        (&json!("PROJ-1"), &json!(1))
    );
    assert!(
        causes(&followed).contains(&"pull_request_made"),
        "{followed}"
    );
    let (_, other) = scene.server.get("/api/tasks/PROJ-2").await;
    assert_eq!(
        (&other["prs"], &other["status"]),
        (&json!([]), &json!("TODO"))
    );
    assert_eq!(scene.posts(), 1);
    scene.stop().await;
}

/// Returns a store with a task in IMPLEMENTING, and the worker that opens pull requests after
/// pushes.
async fn pushed() -> (FakeGithub, Place, Store, AutoPullRequests, TaskRef) {
    let (github, place) = (github().await, Place::embedded());
    let store = tallyhook_store::open(&place.database_url, Open::Exclusive)
        .await
        .unwrap();
    store
        .track(
            &observed_repository(repo_id(), NAME.to_owned(), None),
            Utc::now(),
        )
        .await
        .unwrap();
    let task = NewTask {
        id: TaskId(uuid::Uuid::new_v4()),
        key: None,
        title: "Sort".to_owned(),
        status: TaskStatus::Implementing,
        place: TaskPlace {
            repo: Some(NAME.to_owned()),
            branch: Some("empty".to_owned()),
            worktree: None,
        },
    };
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .create_task(&task, Utc::now())
            .await
            .unwrap()
    );
    TaskFollower {
        store: store.clone(),
    }
    .follow_due()
    .await
    .unwrap();
    change(&github, |repository| repository.push("empty", &[]));
    let (client, _) = github.client();
    let fetcher = PullRequestFetcher {
        client,
        store: store.clone(),
        source: Source::Poller,
        lane: Lane::Live,
        commits: false,
    };
    let pushes = AutoPullRequests {
        opener: PullRequestOpener {
            fetcher,
            default_repository: None,
        },
    };
    (github, place, store, pushes, TaskRef::Id(task.id))
}

async fn push(store: &Store, pushes: &mut AutoPullRequests) {
    let pushed = BTreeSet::from([(repo_id(), "empty".to_owned())]);
    store
        .record(
            &BatchWrite {
                pushes: pushed,
                ..BatchWrite::default()
            },
            Utc::now(),
        )
        .await
        .unwrap()
        .unwrap();
    pushes.run_once().await.unwrap();
}

#[tokio::test]
async fn refused_push_is_recorded_once_and_retried_with_the_next_push() {
    let (github, _place, store, mut pushes, task) = pushed().await;
    let task = async || {
        store
            .of_team(DEFAULT_TEAM.0)
            .task(&task)
            .await
            .unwrap()
            .unwrap()
    };
    let id = task().await.id;
    for _ in 0..3 {
        push(&store, &mut pushes).await;
        assert!(!task().await.due.push);
        pushes.run_once().await.unwrap();
    }
    assert_eq!(
        github
            .asked()
            .iter()
            .filter(|asked| asked.starts_with("POST"))
            .count(),
        3
    );
    let history = store
        .of_team(DEFAULT_TEAM.0)
        .task_history(id, 9)
        .await
        .unwrap();
    let noted: Vec<_> = history
        .iter()
        .map(|entry| (entry.cause, entry.note.as_deref()))
        .collect();
    let why = "acme-corp:empty has no commit that main lacks: push one first";
    assert_eq!(
        noted,
        [
            (TaskCause::PullRequestRefused, Some(why)),
            (TaskCause::Created, None)
        ]
    );
    store.close().await;
    github.stop().await;
}

#[tokio::test]
async fn push_opens_no_second_pull_request_if_a_person_chose_another_base() {
    let mut scene = PullRequestServer::new(true).await;
    change(&scene.github, |repository| repository.push("release", &[]));
    scene
        .make(json!({"key": "PROJ-1", "title": "Sort", "branch": BRANCH}))
        .await;
    assert_eq!(
        scene.open("PROJ-1", json!({"base": "release"})).await.0,
        201
    );
    assert_eq!(scene.notified().await, notified("pr", "OPEN"));
    assert_eq!(scene.notified().await, notified("task", "CODE_REVIEWING"));
    scene
        .server
        .ask(
            Method::PATCH,
            "/api/tasks/PROJ-1",
            &json!({"status": "IMPLEMENTING"}),
        )
        .await;
    assert_eq!(scene.notified().await, notified("task", "IMPLEMENTING"));

    let (before, after) = (payloads::sha("before"), payloads::sha("after"));
    let mira = people().remove(0);
    let push = payloads::push_event(
        &World::acme(),
        BRANCH,
        (&before, &after),
        &mira,
        "2026-03-02T09:00:00Z",
    );
    assert_eq!(
        scene
            .server
            .post("push", "p1", push.to_string().as_bytes())
            .await
            .0,
        202
    );
    scene.server.drained().await;
    let key = TaskRef::Key(TaskKey::parse("PROJ-1").unwrap());
    let store = &scene.server.running.store;
    testkit::eventually("no push is left", async || {
        !store
            .of_team(DEFAULT_TEAM.0)
            .task(&key)
            .await
            .unwrap()
            .unwrap()
            .due
            .push
    })
    .await;
    assert_eq!(scene.posts(), 1);
    scene.stop().await;
}

#[tokio::test]
async fn push_is_retried_later_while_github_is_unreachable() {
    let (github, _place, store, mut pushes, task) = pushed().await;
    github.next(vec![Fault::status(502); 4]);
    let before = Utc::now();
    push(&store, &mut pushes).await;
    let seen = store
        .of_team(DEFAULT_TEAM.0)
        .task(&task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((seen.due, seen.tries), (PendingWork::PUSH, 1));
    let due = async |after: i64| {
        store
            .due_tasks(PendingWork::PUSH, before + TimeDelta::seconds(after), 9)
            .await
            .unwrap()
            .len()
    };
    assert_eq!((due(29).await, due(40).await), (0, 1));
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .task_history(seen.id, 9)
            .await
            .unwrap()
            .len(),
        1,
        "a transient failure is not recorded"
    );

    // Other changes of the task do not change that.
    let key = PrKey {
        repo: repo_id(),
        number: PrNumber(5),
    };
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .link_task(seen.id, key, Utc::now())
            .await
            .unwrap()
    );
    TaskFollower {
        store: store.clone(),
    }
    .follow_due()
    .await
    .unwrap();
    let seen = store
        .of_team(DEFAULT_TEAM.0)
        .task(&task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (seen.due, seen.tries, due(29).await),
        (PendingWork::PUSH, 1, 0)
    );
    store.close().await;
    github.stop().await;
}
