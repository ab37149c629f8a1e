//! Tasks follow their pull requests, from the webhook to the API and the WebSocket.

use chrono::DateTime;
use reqwest::Method;
use serde_json::{Value, json};
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::github::types::{PrKey, PrNumber};

use testkit::payloads::{self, Account, Pr, World};
use testkit::socket::{Socket, connect, frame};
use testkit::{TestServer, assert_refused, eventually, repo_id};

const REPO: &str = "acme-corp/api-server";

fn mira() -> Account {
    Account::user(900_000_101, "mira")
}

fn pull_request(number: i64, branch: &str, title: &str) -> Pr {
    let mut pr = Pr::new(
        &World::acme(),
        number,
        Some(&mira()),
        title,
        branch,
        "2026-03-02T09:00:00Z",
    );
    pr.body = None;
    pr
}

/// A server with a WebSocket client.
struct TaskServer {
    server: TestServer,
    socket: Socket,
}

impl TaskServer {
    async fn begin() -> Self {
        let server = TestServer::start().await;
        server.track(repo_id(), REPO, DateTime::UNIX_EPOCH).await;
        let socket = connect(&server, "").await;
        Self { server, socket }
    }

    async fn post(&mut self, pr: &Pr, action: &str) {
        let body = payloads::pull_request_event(pr, action, &mira(), json!({}))
            .to_string()
            .into_bytes();
        let guid = uuid::Uuid::new_v4().to_string();
        assert_eq!(self.server.post("pull_request", &guid, &body).await.0, 202);
        self.server.drained().await;
    }

    async fn make(&self, task: Value) -> Value {
        let (status, task) = self.server.ask(Method::POST, "/api/tasks", &task).await;
        assert_eq!(status, 201, "{task}");
        task
    }

    async fn change(&self, id: &str, change: Value) -> Value {
        let (status, task) = self
            .server
            .ask(Method::PATCH, &format!("/api/tasks/{id}"), &change)
            .await;
        assert_eq!(status, 200, "{task}");
        task
    }

    async fn task(&self, id: &str) -> Value {
        let (status, task) = self.server.get(&format!("/api/tasks/{id}")).await;
        assert_eq!(status, 200, "{task}");
        task
    }

    /// Returns the next change of a pull request: number, task, new status.
    async fn next_pr_change(&mut self) -> (i64, Value, String) {
        let notified = frame(&mut self.socket).await;
        assert_eq!(notified["type"], "pr_status_change", "{notified}");
        let new = notified["new_status"].as_str().unwrap().to_owned();
        (
            notified["pr_number"].as_i64().unwrap(),
            notified["task_id"].clone(),
            new,
        )
    }

    /// Returns the next change of a task: old status, new status, and true if a pull request caused
    /// it.
    async fn next_task_change(&mut self, id: &Value) -> (String, String, bool) {
        let notified = frame(&mut self.socket).await;
        assert_eq!(
            (&notified["type"], &notified["task_id"]),
            (&json!("task_status_change"), id),
            "{notified}"
        );
        let text = |name: &str| notified[name].as_str().unwrap().to_owned();
        (
            text("old_status"),
            text("new_status"),
            notified["pr_trigger"].as_bool().unwrap(),
        )
    }
}

fn moved(from: &str, to: &str, by_pr: bool) -> (String, String, bool) {
    (from.to_owned(), to.to_owned(), by_pr)
}

fn pr_id(number: i64) -> Value {
    json!(PullRequest::id(PrKey {
        repo: repo_id(),
        number: PrNumber(number)
    }))
}

#[tokio::test]
async fn task_follows_its_pull_request_and_records_the_causes() {
    let mut story = TaskServer::begin().await;
    let task = story
        .make(json!({"key": "proj-123", "title": "Sort the queue"}))
        .await;
    assert_eq!(
        (&task["key"], &task["status"]),
        (&json!("PROJ-123"), &json!("TODO"))
    );

    let mut pr = pull_request(7, "proj-123-sort", "PROJ-123: sort the queue");
    story.post(&pr, "opened").await;
    assert_eq!(
        story.next_pr_change().await,
        (7, task["id"].clone(), "OPEN".to_owned())
    );
    assert_eq!(
        story.next_task_change(&task["id"]).await,
        moved("TODO", "CODE_REVIEWING", true)
    );
    pr.merge(&mira(), "2026-03-02T10:30:00Z");
    story.post(&pr, "closed").await;
    assert_eq!(story.next_pr_change().await.2, "MERGED");
    assert_eq!(
        story.next_task_change(&task["id"]).await,
        moved("CODE_REVIEWING", "DONE", true)
    );

    let task = story.task("PROJ-123").await;
    assert_eq!(task["status"], "DONE");
    assert_eq!(
        task["prs"][0],
        json!({
            "pr_id": pr_id(7), "repo": REPO, "number": 7, "title": "PROJ-123: sort the queue", "state": "merged",
            "html_url": format!("https://github.com/{REPO}/pull/7"), "waiting": null,
        })
    );
    let history: Vec<_> = task["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            json!([
                entry["old_status"],
                entry["new_status"],
                entry["cause"],
                entry["pr_id"],
                entry["at"]
            ])
        })
        .collect();
    assert_eq!(
        history[0],
        json!([
            "CODE_REVIEWING",
            "DONE",
            "pull_request",
            pr_id(7),
            "2026-03-02T10:30:00Z"
        ])
    );
    assert_eq!(
        history[1],
        json!([
            "TODO",
            "CODE_REVIEWING",
            "pull_request",
            pr_id(7),
            "2026-03-02T09:00:00Z"
        ])
    );
    assert_eq!(history[2][2], "created");
    let (_, prs) = story.server.get("/api/stories/proj-123/prs").await;
    assert_eq!(
        (
            prs["items"][0]["number"].as_i64(),
            prs["items"].as_array().unwrap().len()
        ),
        (Some(7), 1)
    );
    story.server.stop().await;
}

#[tokio::test]
async fn task_is_done_when_all_pull_requests_are_closed_and_one_is_merged() {
    let mut story = TaskServer::begin().await;
    let id = story
        .make(json!({"key": "456", "title": "Two halves"}))
        .await["id"]
        .clone();
    let (mut one, mut two) = (
        pull_request(1, "story-456/a", "One"),
        pull_request(2, "b", "For story-456"),
    );
    for pr in [&one, &two] {
        story.post(pr, "opened").await;
        story.next_pr_change().await;
        if pr.number == 1 {
            assert_eq!(
                story.next_task_change(&id).await,
                moved("TODO", "CODE_REVIEWING", true)
            );
        }
    }
    one.merge(&mira(), "2026-03-02T10:00:00Z");
    story.post(&one, "closed").await;
    assert_eq!(story.next_pr_change().await.0, 1);
    two.close("2026-03-02T11:00:00Z");
    story.post(&two, "closed").await;
    assert_eq!(story.next_pr_change().await.0, 2);
    // The first merge caused no notification, because the other pull request was open.
    assert_eq!(
        story.next_task_change(&id).await,
        moved("CODE_REVIEWING", "DONE", true)
    );
    two.reopen("2026-03-02T12:00:00Z");
    story.post(&two, "reopened").await;
    assert_eq!(story.next_pr_change().await.2, "OPEN");
    assert_eq!(
        story.next_task_change(&id).await,
        moved("DONE", "CODE_REVIEWING", true)
    );
    story.server.stop().await;
}

#[tokio::test]
async fn later_task_finds_its_pull_request_and_a_renamed_one_loses_it() {
    let mut story = TaskServer::begin().await;
    let mut pr = pull_request(3, "fix", "OPS-9: one");
    story.post(&pr, "opened").await;
    assert_eq!(
        story.next_pr_change().await,
        (3, Value::Null, "OPEN".to_owned())
    );
    let id = story.make(json!({"key": "OPS-9", "title": "Late"})).await["id"].clone();
    assert_eq!(
        story.next_task_change(&id).await,
        moved("TODO", "CODE_REVIEWING", true)
    );

    let other = story
        .make(json!({"key": "OPS-10", "title": "The right one"}))
        .await["id"]
        .clone();
    pr.title = "OPS-10: one".to_owned();
    pr.touch("2026-03-02T10:00:00Z");
    story.post(&pr, "edited").await;
    // Both tasks follow, in the order of their ids.
    let mut followed = [
        frame(&mut story.socket).await,
        frame(&mut story.socket).await,
    ];
    followed.sort_by_key(|notified| notified["task_id"] != id);
    for (notified, task, status) in [
        (&followed[0], &id, "TODO"),
        (&followed[1], &other, "CODE_REVIEWING"),
    ] {
        assert_eq!(
            (
                &notified["task_id"],
                &notified["new_status"],
                &notified["pr_trigger"]
            ),
            (task, &json!(status), &json!(true))
        );
    }
    let lost = story.task("OPS-9").await;
    assert_eq!(lost["prs"], json!([]));
    let last = &lost["history"][0];
    assert_eq!(
        (&last["cause"], &last["new_status"], &last["pr_number"]),
        (&json!("pull_request_unlinked"), &json!("TODO"), &json!(3))
    );

    // A status that a person set is not taken back.
    story.change("OPS-10", json!({"status": "DONE"})).await;
    story.next_task_change(&other).await;
    pr.title = "one".to_owned();
    pr.touch("2026-03-02T11:00:00Z");
    story.post(&pr, "edited").await;
    eventually("the link is gone", async || {
        story.task("OPS-10").await["prs"] == json!([])
    })
    .await;
    assert_eq!(story.task("OPS-10").await["status"], "DONE");
    story.server.stop().await;
}

#[tokio::test]
async fn draft_leaves_its_task_as_it_is_until_it_is_ready() {
    let mut story = TaskServer::begin().await;
    let id = story.make(json!({"key": "OPS-3", "title": "Draft"})).await["id"].clone();
    let mut pr = pull_request(4, "ops-3-sort", "Sort");
    pr.draft = true;
    story.post(&pr, "opened").await;
    assert_eq!(
        story.next_pr_change().await,
        (4, id.clone(), "OPEN".to_owned())
    );
    pr.draft = false;
    pr.touch("2026-03-02T10:00:00Z");
    story.post(&pr, "ready_for_review").await;
    assert_eq!(
        story.next_task_change(&id).await,
        moved("TODO", "CODE_REVIEWING", true)
    );
    let history = story.task("OPS-3").await["history"].clone();
    assert_eq!(history[0]["at"], "2026-03-02T10:00:00Z");
    pr.draft = true;
    pr.touch("2026-03-02T11:00:00Z");
    story.post(&pr, "converted_to_draft").await;
    pr.close("2026-03-02T12:00:00Z");
    story.post(&pr, "closed").await;
    story.next_pr_change().await;
    assert_eq!(
        story.next_task_change(&id).await,
        moved("CODE_REVIEWING", "CANCELLED", true)
    );
    story.server.stop().await;
}

#[tokio::test]
async fn texts_that_no_author_wrote_as_a_reference_link_nothing() {
    let mut story = TaskServer::begin().await;
    for key in ["OPS-1", "OPS-2", "OPS-3"] {
        story.make(json!({"key": key, "title": key})).await;
    }
    let mut template = pull_request(1, "sort", "Sort");
    template.body = Some("<!-- for example OPS-1 -->\n```\nOPS-1\n```\nCloses OPS-2".to_owned());
    story.post(&template, "opened").await;
    let mut notes = pull_request(2, "bump", "Bump a library");
    notes.author = Some(Account::bot(900_000_301, "renovate"));
    notes.body = Some("- OPS-3: their fix".to_owned());
    story.post(&notes, "opened").await;
    eventually("the written key moves its task", async || {
        story.task("OPS-2").await["status"] == "CODE_REVIEWING"
    })
    .await;
    for key in ["OPS-1", "OPS-3"] {
        let task = story.task(key).await;
        assert_eq!(
            (&task["status"], &task["prs"]),
            (&json!("TODO"), &json!([])),
            "{key}"
        );
    }
    story.server.stop().await;
}

#[tokio::test]
async fn later_change_by_a_person_stays_and_the_difference_is_shown() {
    let mut story = TaskServer::begin().await;
    let id = story
        .make(json!({"key": "PROJ-1", "title": "By hand"}))
        .await["id"]
        .clone();
    let mut pr = pull_request(4, "proj-1", "PROJ-1");
    story.post(&pr, "opened").await;
    story.next_pr_change().await;
    story.next_task_change(&id).await;
    // The current time is later than every event of the pull request below.
    let task = story
        .change("proj-1", json!({"status": "IMPLEMENTING"}))
        .await;
    assert_eq!(task["differs"]["would_be"], "CODE_REVIEWING");
    assert_eq!(
        story.next_task_change(&id).await,
        moved("CODE_REVIEWING", "IMPLEMENTING", false)
    );
    pr.merge(&mira(), "2026-03-02T10:30:00Z");
    story.post(&pr, "closed").await;
    assert_eq!(story.next_pr_change().await.2, "MERGED");
    let mut marker = pull_request(5, "x", "nothing");
    story.post(&marker, "opened").await;
    assert_eq!(story.next_pr_change().await.0, 5);
    let task = story.task("PROJ-1").await;
    assert_eq!(task["status"], "IMPLEMENTING");
    assert_eq!(
        task["differs"],
        json!({
            "would_be": "DONE", "pr_id": pr_id(4), "pr_number": 4, "at": "2026-03-02T10:30:00Z"
        })
    );
    assert_eq!(task["history"][0]["cause"], "by_hand");

    // A pull request that closes after the person's change overrides it.
    story
        .server
        .ask(Method::POST, "/api/tasks/PROJ-1/prs", &json!({"number": 5}))
        .await;
    marker.close(&payloads::rfc3339(chrono::Utc::now().timestamp() + 3600));
    story.post(&marker, "closed").await;
    assert_eq!(story.next_pr_change().await.2, "CLOSED");
    assert_eq!(
        story.next_task_change(&id).await,
        moved("IMPLEMENTING", "DONE", true)
    );
    story.server.stop().await;
}

#[tokio::test]
async fn manual_link_needs_no_key_and_can_be_removed() {
    let mut story = TaskServer::begin().await;
    let id = story.make(json!({"title": "Without a key"})).await["id"].clone();
    let path = format!("/api/tasks/{}/prs", id.as_str().unwrap());
    assert_refused(
        &story
            .server
            .ask(Method::POST, &path, &json!({"number": 8}))
            .await,
        404,
        "not_found",
    );
    story
        .post(&pull_request(8, "branch", "Anything"), "opened")
        .await;
    story.next_pr_change().await;
    assert_eq!(
        story
            .server
            .ask(Method::POST, &path, &json!({"number": 8}))
            .await
            .0,
        201
    );
    assert_eq!(
        story.next_task_change(&id).await,
        moved("TODO", "CODE_REVIEWING", true)
    );
    assert_eq!(
        story
            .server
            .ask(Method::POST, &path, &json!({"repo": REPO, "number": 8}))
            .await
            .0,
        200
    );
    let undo = format!("{path}/{REPO}/8");
    assert_eq!(
        story
            .server
            .ask(Method::DELETE, &undo, &Value::Null)
            .await
            .0,
        204
    );
    assert_refused(
        &story.server.ask(Method::DELETE, &undo, &Value::Null).await,
        404,
        "not_found",
    );
    assert_eq!(
        story.next_task_change(&id).await,
        moved("CODE_REVIEWING", "TODO", true)
    );
    assert_eq!(story.task(id.as_str().unwrap()).await["prs"], json!([]));
    story.server.stop().await;
}

#[tokio::test]
async fn events_before_tracking_move_a_task_without_notification() {
    let server = TestServer::start().await;
    server
        .track(
            repo_id(),
            REPO,
            DateTime::from_timestamp(1_772_500_000, 0).unwrap(),
        )
        .await;
    let socket = connect(&server, "").await;
    let mut story = TaskServer { server, socket };
    story
        .make(json!({"key": "OLD-1", "title": "From before"}))
        .await;
    let mut pr = pull_request(9, "old-1", "OLD-1");
    pr.merge(&mira(), "2026-03-02T10:30:00Z");
    story.post(&pr, "closed").await;
    let mut new = pull_request(10, "new", "New");
    new.created_at = "2026-03-04T10:00:00Z".to_owned();
    new.touch("2026-03-04T10:00:00Z");
    story.post(&new, "opened").await;
    assert_eq!(story.next_pr_change().await.0, 10);
    let id = story.change("OLD-1", json!({"status": "TODO"})).await["id"].clone();
    // The task had moved without a notification before this one.
    assert_eq!(
        story.next_task_change(&id).await,
        moved("DONE", "TODO", false)
    );
    story.server.stop().await;
}

#[tokio::test]
async fn tasks_are_listed_in_pages_and_invalid_requests_are_refused() {
    let story = TaskServer::begin().await;
    for number in 1..=5 {
        story
            .make(json!({"key": format!("LIST-{number}"), "title": "One of five"}))
            .await;
    }
    story
        .change(
            "LIST-3",
            json!({"status": "CANCELLED", "title": "Not this one"}),
        )
        .await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = story
            .server
            .get(&format!("/api/tasks?per_page=2{cursor}"))
            .await;
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["key"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.sort();
    assert_eq!(seen, ["LIST-1", "LIST-2", "LIST-3", "LIST-4", "LIST-5"]);
    let (_, page) = story.server.get("/api/tasks?status=CANCELLED").await;
    assert_eq!(
        (
            page["items"].as_array().unwrap().len(),
            &page["items"][0]["title"]
        ),
        (1, &json!("Not this one"))
    );

    let place = json!({"repo": REPO, "branch": "b", "worktree": "b"});
    let task = story.change("LIST-1", place).await;
    assert_eq!(
        (&task["repo"], &task["branch"], &task["worktree"]),
        (&json!(REPO), &json!("b"), &json!("b"))
    );
    let task = story
        .change("LIST-1", json!({"worktree": null, "branch": "c"}))
        .await;
    assert_eq!(
        (&task["repo"], &task["branch"], &task["worktree"]),
        (&json!(REPO), &json!("c"), &Value::Null)
    );
    for (id, change, repo) in [
        ("LIST-1", json!({"repo": null}), Value::Null),
        ("LIST-1", json!({"branch": "d", "repo": null}), Value::Null),
        ("LIST-1", json!({"branch": "d"}), json!(REPO)),
        ("LIST-2", json!({"branch": null}), Value::Null),
        (
            "LIST-2",
            json!({"branch": "d", "repo": "acme-corp/web"}),
            json!("acme-corp/web"),
        ),
        ("LIST-2", json!({"branch": "e"}), json!("acme-corp/web")),
    ] {
        assert_eq!(
            story.change(id, change.clone()).await["repo"],
            repo,
            "{change}"
        );
    }

    for (method, path, body, status, code) in [
        (
            Method::POST,
            "/api/tasks",
            json!({"key": "list-1", "title": "Again"}),
            409,
            "conflict",
        ),
        (
            Method::POST,
            "/api/tasks",
            json!({"key": "a b", "title": "x"}),
            400,
            "bad_request",
        ),
        (
            Method::POST,
            "/api/tasks",
            json!({"title": " "}),
            400,
            "bad_request",
        ),
        (
            Method::POST,
            "/api/tasks",
            json!({"title": "x", "branch": "--upload-pack=x"}),
            400,
            "bad_request",
        ),
        (
            Method::POST,
            "/api/tasks",
            json!({"title": "x", "repo": "../x"}),
            400,
            "bad_request",
        ),
        (
            Method::POST,
            "/api/tasks",
            json!({"title": "x", "state": "DONE"}),
            400,
            "bad_request",
        ),
        (
            Method::PATCH,
            "/api/tasks/LIST-1",
            json!({"status": "REVIEWED"}),
            400,
            "bad_request",
        ),
        (
            Method::PATCH,
            "/api/tasks/LIST-9",
            json!({"status": "DONE"}),
            404,
            "not_found",
        ),
        (
            Method::GET,
            "/api/tasks/..%2f",
            json!(null),
            404,
            "not_found",
        ),
        (
            Method::GET,
            "/api/stories/9/prs",
            json!(null),
            404,
            "not_found",
        ),
    ] {
        assert_refused(&story.server.ask(method, path, &body).await, status, code);
    }
    story.server.stop().await;
}
