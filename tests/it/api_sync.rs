//! The API of synchronization with GitHub: tracked repositories, backfills, the poller, watched
//! pull requests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use tallyhook::app::{RoleSet as Roles, ServerOptions};
use tallyhook::config::Config;
use tallyhook_core::domain::join::Dated;
use tallyhook_core::domain::numbers::{NumberRules, numbers};
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::repository::{Repository, RepositoryAccess, RepositoryDetails};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_github_client::{Credentials, Token};
use tallyhook_store::{
    BatchWrite, DEFAULT_TEAM, PullRequestError, PullRequestRecord, RunState, StoredPullRequest,
    SyncOutcome, SyncRun,
};

use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN};
use testkit::{Place, TestServer, assert_refused};

const REPO: &str = "acme-corp/api-server";

async fn start(github: Option<&FakeGithub>) -> TestServer {
    configured(github, |_| {}).await
}

/// Starts a server with the role of the API alone, which leaves the requested work to other
/// processes.
async fn configured(github: Option<&FakeGithub>, change: impl FnOnce(&mut Config)) -> TestServer {
    let place = Place::new().await;
    let mut config: Config = testkit::config(&place);
    if let Some(github) = github {
        config.github_api_url = github.api();
        config.github_credentials = Token::parse(GITHUB_TOKEN).map(Credentials::Token);
    }
    change(&mut config);
    let roles = Roles {
        api: true,
        ..Roles::NONE
    };
    TestServer::start_as(
        &config,
        place,
        ServerOptions {
            roles,
            ..ServerOptions::default()
        },
    )
    .await
}

/// Starts a server with a fake GitHub that has one repository.
async fn with_github() -> (TestServer, FakeGithub) {
    let github = FakeGithub::start().await;
    github.add_repository(7, REPO);
    (start(Some(&github)).await, github)
}

async fn call(server: &TestServer, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let request = server
        .http
        .request(method, format!("{}{path}", server.url))
        .bearer_auth(testkit::TOKEN);
    let request = if body.is_null() {
        request
    } else {
        request.json(body)
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (
        status,
        if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap()
        },
    )
}

async fn post(server: &TestServer, path: &str, body: Value) -> (u16, Value) {
    call(server, Method::POST, path, &body).await
}

async fn delete(server: &TestServer, path: &str) -> (u16, Value) {
    call(server, Method::DELETE, path, &Value::Null).await
}

async fn repositories(server: &TestServer) -> Vec<Value> {
    let (status, answer) = server.get("/api/repos").await;
    assert_eq!((status, &answer["next"]), (200, &Value::Null), "{answer}");
    answer["items"].as_array().unwrap().clone()
}

/// Claims the only pending run.
async fn take(server: &TestServer) -> SyncRun {
    let now = Utc::now();
    let run = server
        .running
        .store
        .claim_run(
            None,
            now - TimeDelta::seconds(100),
            now + TimeDelta::minutes(5),
        )
        .await;
    run.unwrap().unwrap()
}

async fn save(server: &TestServer, run: &SyncRun) {
    let now = Utc::now();
    assert!(
        server
            .running
            .store
            .save_run(run, now, now + TimeDelta::minutes(5))
            .await
            .unwrap()
    );
}

async fn tracked_by_webhook(server: &TestServer) {
    let at = Timestamp::clamped(1_772_445_600);
    let repository = Repository {
        id: RepoId(7),
        seen: Dated {
            at,
            value: RepositoryDetails {
                name: REPO.to_owned(),
                private: Some(false),
            },
        },
        installation: None,
        access: Dated {
            at,
            value: RepositoryAccess::Granted,
        },
    };
    assert!(
        server
            .running
            .store
            .track(&repository, Utc::now())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn error_without_github_access_names_the_settings() {
    let server = start(None).await;
    tracked_by_webhook(&server).await;
    for (path, body) in [
        ("/api/repos", json!({"repo": "acme-corp/unknown"})),
        ("/api/repos/acme-corp/api-server/sync", Value::Null),
        ("/api/sync", Value::Null),
        ("/api/repos/acme-corp/api-server/prs/1/monitor", Value::Null),
    ] {
        let answer = post(&server, path, body).await;
        assert_refused(&answer, 409, "github_access_missing");
        let message = answer.1["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("GITHUB_TOKEN") && message.contains("GITHUB_APP_ID"),
            "{message}"
        );
    }
    let completeness = &repositories(&server).await[0]["completeness"];
    let why: Vec<_> = completeness["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|missing| &missing["why"])
        .collect();
    assert!(
        why.iter()
            .any(|why| why.as_str().unwrap().contains("GITHUB_TOKEN")),
        "{completeness}"
    );
    assert_eq!(
        server.get("/api/sync/stats").await.1["config"]["enabled"],
        false
    );
    server.stop().await;
}

#[tokio::test]
async fn a_repository_that_is_added_is_tracked_and_backfilled() {
    let (server, github) = with_github().await;
    github.rename(REPO, "acme-corp/backend");
    let (status, added) = post(&server, "/api/repos", json!({"repo": REPO})).await;
    assert_eq!(
        (status, &added["repo"], &added["sync_status"]),
        (201, &json!("acme-corp/backend"), &json!("pending"))
    );
    assert_eq!(
        added["completeness"]["missing"][0]["why"],
        "the backfill is not done yet"
    );
    let (_, run) = server
        .get(&format!("/api/sync-runs/{}", added["sync_run"]))
        .await;
    assert_eq!(
        (&run["repo"], &run["state"]),
        (&added["repo"], &json!("queued"))
    );
    assert_eq!(
        run["options"],
        json!({"days_back": 90, "max_prs": 1000, "commits": false})
    );

    let (status, again) = post(&server, "/api/repos", json!({"repo": "acme-corp/backend"})).await;
    assert_eq!((status, &again), (200, &added));
    assert_eq!(repositories(&server).await, [added]);
    assert_eq!(
        delete(&server, "/api/repos/Acme-Corp/Backend").await,
        (204, Value::Null)
    );
    assert_refused(
        &delete(&server, "/api/repos/acme-corp/backend").await,
        404,
        "not_found",
    );
    assert_eq!(repositories(&server).await, Vec::<Value>::new());
    assert_eq!(
        server.get(&format!("/api/sync-runs/{}", run["id"])).await.1["state"],
        "cancelled"
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn github_errors_of_a_repository_are_returned() {
    let (server, github) = with_github().await;
    for wrong in [
        "",
        "acme",
        "acme-corp/",
        "a/b/c",
        "../..",
        "acme-corp/api?x",
    ] {
        assert_refused(
            &post(&server, "/api/repos", json!({"repo": wrong})).await,
            404,
            "not_found",
        );
    }
    assert_eq!(github.asked(), Vec::<String>::new());
    assert_refused(
        &post(&server, "/api/repos", json!({"repo": "acme-corp/none"})).await,
        404,
        "not_found",
    );
    for wrong in [
        json!({}),
        json!({"repo": 7}),
        json!({"repo": REPO, "webhooks": true}),
    ] {
        assert_refused(
            &post(&server, "/api/repos", wrong).await,
            400,
            "bad_request",
        );
    }
    for (fault, status, code) in [
        (
            Fault::message(401, &[], "Bad credentials"),
            409,
            "github_access_refused",
        ),
        (
            Fault::message(403, &[], "Resource not accessible by personal access token"),
            409,
            "github_access_refused",
        ),
        (
            Fault::answer(200, &[], "a page of somebody's proxy"),
            502,
            "github_failed",
        ),
    ] {
        github.next([fault]);
        assert_refused(
            &post(&server, "/api/repos", json!({"repo": REPO})).await,
            status,
            code,
        );
        assert_eq!(repositories(&server).await, Vec::<Value>::new());
    }
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn request_waits_for_github_at_most_sync_timeout() {
    let github = FakeGithub::start().await;
    github.add_repository(7, REPO);
    github.next([Fault::Slow(Duration::from_hours(1))]);
    let server = configured(Some(&github), |config| {
        config.sync.timeout = Duration::from_millis(300)
    })
    .await;
    assert_refused(
        &post(&server, "/api/repos", json!({"repo": REPO})).await,
        503,
        "github_unavailable",
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn a_backfill_is_requested_followed_and_cancelled() {
    let (server, github) = with_github().await;
    let path = "/api/repos/acme-corp/api-server/sync";
    assert_refused(&post(&server, path, Value::Null).await, 404, "not_found");
    tracked_by_webhook(&server).await;
    for wrong in [
        json!({"days_back": 0}),
        json!({"max_prs": 1_000_001}),
        json!({"days": 1}),
        json!(7),
        json!("x"),
    ] {
        assert_refused(&post(&server, path, wrong).await, 400, "bad_request");
    }
    let (status, asked) = post(&server, path, json!({"days_back": 365, "commits": true})).await;
    assert_eq!(status, 202);
    assert_eq!(post(&server, path, Value::Null).await, (202, asked.clone()));
    let show = format!("/api/sync-runs/{}", asked["sync_run"]);
    let (_, run) = server.get(&show).await;
    assert_eq!(
        run["options"],
        json!({"days_back": 365, "max_prs": 1000, "commits": true})
    );
    assert_eq!(
        (&run["eta_seconds"], &run["started_at"]),
        (&Value::Null, &Value::Null)
    );

    // The first quarter took 100 seconds and the duration of this test so far.
    let mut taken = take(&server).await;
    (taken.prs_done, taken.prs_total) = (25, Some(100));
    save(&server, &taken).await;
    let (_, run) = server.get(&show).await;
    assert_eq!(
        (&run["state"], &run["prs_done"], &run["prs_total"]),
        (&json!("running"), &json!(25), &json!(100))
    );
    let eta = run["eta_seconds"].as_u64().unwrap();
    assert!((300..400).contains(&eta), "{eta}");

    assert_eq!(delete(&server, &show).await, (204, Value::Null));
    assert_refused(&delete(&server, &show).await, 409, "conflict");
    assert_refused(
        &delete(&server, "/api/sync-runs/999").await,
        404,
        "not_found",
    );
    assert_refused(&server.get("/api/sync-runs/999").await, 404, "not_found");
    assert_eq!(server.get(&show).await.1["state"], "cancelled");
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn backfills_are_listed_in_pages_with_the_newest_first() {
    let (server, github) = with_github().await;
    tracked_by_webhook(&server).await;
    let mut asked = Vec::new();
    for _ in 0..5 {
        let (_, run) = post(&server, "/api/repos/acme-corp/api-server/sync", Value::Null).await;
        asked.insert(0, run["sync_run"].clone());
        assert_eq!(
            delete(&server, &format!("/api/sync-runs/{}", run["sync_run"]))
                .await
                .0,
            204
        );
    }
    for repo in ["", "&repo=ACME-corp/api-server"] {
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let (status, page) = server
                .get(&format!("/api/sync-runs?per_page=2{repo}{cursor}"))
                .await;
            assert_eq!(status, 200, "{page}");
            paged.extend(
                page["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|run| run["id"].clone()),
            );
            let Some(next) = page["next"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(paged, asked);
    }
    assert_refused(
        &server.get("/api/sync-runs?repo=no-one/nothing").await,
        404,
        "not_found",
    );
    assert_refused(
        &server.get("/api/sync-runs?cursor=x").await,
        400,
        "bad_request",
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn completeness_shows_the_complete_period_and_the_gaps() {
    let (server, github) = with_github().await;
    tracked_by_webhook(&server).await;
    post(
        &server,
        "/api/repos/acme-corp/api-server/sync",
        json!({"max_prs": 50}),
    )
    .await;
    let mut run = take(&server).await;
    (run.state, run.prs_done, run.prs_total) = (RunState::Done, 50, Some(80));
    run.complete_since = Timestamp::parse("2026-01-05T10:00:00Z");
    run.errors = vec![PullRequestError {
        pr: 41,
        error: "GitHub cannot answer so much at once".to_owned(),
    }];
    save(&server, &run).await;
    let repository = &repositories(&server).await[0];
    assert_eq!(
        (&repository["sync_status"], &repository["last_error"]),
        (&json!("synced"), &Value::Null)
    );
    let completeness = &repository["completeness"];
    assert_eq!(completeness["since"], "2026-01-05T10:00:00Z");
    let missing = completeness["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 2, "{completeness}");
    assert!(
        missing[0]["why"].as_str().unwrap().contains("after 50"),
        "{completeness}"
    );
    assert_eq!(
        missing[1],
        json!({"what": "#41", "why": "GitHub cannot answer so much at once"})
    );

    let failed = SyncOutcome::Failed("GitHub does not accept the token".to_owned());
    server
        .running
        .store
        .record_sync(RepoId(7), &failed, Utc::now())
        .await
        .unwrap();
    let repository = &repositories(&server).await[0];
    assert_eq!(
        (&repository["sync_status"], &repository["last_error"]),
        (&json!("error"), &json!("GitHub does not accept the token"))
    );
    assert_eq!(
        repository["completeness"]["missing"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn without_a_secret_for_its_webhook_a_repository_is_not_tracked() {
    let github = FakeGithub::start().await;
    github.add_repository(7, REPO);
    let server = configured(Some(&github), |config| config.hook_secret = None).await;
    let asked = json!({"repo": REPO, "webhook_url": "https://hooks.example.com/webhooks/github"});
    assert_refused(&post(&server, "/api/repos", asked).await, 409, "conflict");
    assert_eq!(
        (repositories(&server).await, github.asked()),
        (Vec::new(), Vec::new())
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn failed_pull_request_is_a_gap_until_a_later_backfill_fetches_it() {
    let (server, github) = with_github().await;
    tracked_by_webhook(&server).await;
    let run_of = async |since: &str, max_prs: u32, failed: &[i64]| {
        post(
            &server,
            "/api/repos/acme-corp/api-server/sync",
            json!({"max_prs": max_prs}),
        )
        .await;
        let mut run = take(&server).await;
        (run.state, run.prs_done, run.complete_since) =
            (RunState::Done, 50, Timestamp::parse(since));
        run.errors = failed
            .iter()
            .map(|pr| PullRequestError {
                pr: *pr,
                error: "GitHub cannot answer".to_owned(),
            })
            .collect();
        save(&server, &run).await;
        let missing = repositories(&server).await[0]["completeness"]["missing"].take();
        missing
            .as_array()
            .unwrap()
            .iter()
            .map(|missing| missing["what"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(run_of("2026-01-05T10:00:00Z", 50, &[41, 42]).await.len(), 3);
    // A later run over fewer days is complete, but what the first one missed is still missing.
    let told = run_of("2026-02-05T10:00:00Z", 90, &[]).await;
    assert!(
        told[0].contains("before 2026-01-05T10:00:00Z")
            && told[1..] == [r##""#41""##, r##""#42""##],
        "{told:?}"
    );
    let mut fetched = PullRequest::unknown(PrKey {
        repo: RepoId(7),
        number: PrNumber(41),
    });
    fetched.whole_until = Timestamp::parse("2026-02-05T10:00:00Z");
    let numbers = numbers(&fetched, None, &NumberRules::default());
    let reviews = BTreeSet::new();
    let record = PullRequestRecord {
        known: StoredPullRequest {
            pull_request: fetched,
            version: 0,
            repository: None,
            parties_hash: None,
        },
        numbers,
        reviews,
    };
    let recording = BatchWrite {
        pull_requests: vec![record],
        ..BatchWrite::default()
    };
    server
        .running
        .store
        .record(&recording, Utc::now())
        .await
        .unwrap()
        .unwrap();
    // All of them were fetched, exactly as many as the limit allows.
    assert_eq!(
        run_of("1970-01-01T00:00:00Z", 50, &[]).await,
        [r##""#42""##]
    );
    server.stop().await;
    github.stop().await;
}

/// The answer of `/readyz` of a process that only polls.
fn readiness(status: &str, poller: &str) -> Value {
    let github = if poller == "not_used" {
        "not_used"
    } else {
        "ok"
    };
    json!({
        "status": status, "database": "ok", "migrations": "ok", "queue": "not_used",
        "github": github, "poller": poller, "notifier": "not_used", "secrets": "not_used",
    })
}

#[tokio::test]
async fn poller_without_a_finished_round_is_degraded_and_stays_in_service() {
    let github = FakeGithub::start().await;
    for (interval, told) in [
        (Duration::from_secs(60), readiness("ready", "ok")),
        (Duration::ZERO, readiness("degraded", "degraded")),
    ] {
        let place = Place::new().await;
        let mut config = testkit::config(&place);
        config.github_api_url = github.api();
        config.github_credentials = Token::parse(GITHUB_TOKEN).map(Credentials::Token);
        config.sync.interval = interval;
        let roles = Roles {
            poller: true,
            ..Roles::NONE
        };
        let server = TestServer::start_as(
            &config,
            place,
            ServerOptions {
                roles,
                ..ServerOptions::default()
            },
        )
        .await;
        assert_eq!(server.get("/readyz").await, (200, told));
        server.stop().await;
    }
    github.stop().await;
}

#[tokio::test]
async fn poller_role_alone_reports_its_readiness() {
    let place = Place::new().await;
    let config: Config = testkit::config(&place);
    let roles = Roles {
        poller: true,
        ..Roles::NONE
    };
    let server = TestServer::start_as(
        &config,
        place,
        ServerOptions {
            roles,
            ..ServerOptions::default()
        },
    )
    .await;
    // It has no credentials for GitHub.
    assert_eq!(
        server.get("/readyz").await,
        (200, readiness("ready", "not_used"))
    );
    let metrics = server
        .http
        .get(format!("{}/metrics", server.url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains("tallyhook_oldest_pending_seconds 0\n"),
        "{metrics}"
    );
    server.stop().await;
}

#[tokio::test]
async fn requested_round_runs_and_shows_in_the_statistics() {
    let (server, github) = with_github().await;
    tracked_by_webhook(&server).await;
    let config = json!({"enabled": true, "interval_seconds": 60.0, "batch_size": 10, "max_concurrent": 5,
        "timeout_seconds": 30.0, "retry_attempts": 3, "retry_delay_seconds": 10.0});
    let monitor = json!({"watched": 0, "due": 0, "failing": 0, "last_errors": [], "config": {
        "poll_interval_seconds": 300.0, "max_retries": 3, "retry_delay_seconds": 30.0, "concurrent": 5}});
    let before = json!({"running": false, "last_sync_at": null, "sync_count": 0, "error_count": 0,
        "missed_by_webhook": 0, "config": config, "monitor": monitor, "notifier": [], "github": null,
        "backfills": {"attempted": 0, "succeeded": 0, "goal": 0.95,
            "seconds_per_100_pull_requests": null}});
    assert_eq!(server.get("/api/sync/stats").await, (200, before));
    assert_eq!(post(&server, "/api/sync", Value::Null).await.0, 202);
    let store = &server.running.store;
    assert!(store.poller_stats().await.unwrap().asked_at.is_some());
    store.start_poll(Utc::now()).await.unwrap();
    assert_eq!(server.get("/api/sync/stats").await.1["running"], true);
    let missed = BatchWrite {
        missed: vec![(RepoId(7), 3)],
        ..BatchWrite::default()
    };
    store.record(&missed, Utc::now()).await.unwrap().unwrap();
    store
        .finish_poll(Utc::now(), 1, &json!({"remaining": 4999}))
        .await
        .unwrap();
    let (_, stats) = server.get("/api/sync/stats").await;
    let told = ["running", "sync_count", "error_count", "missed_by_webhook"]
        .map(|name| stats[name].clone());
    assert_eq!(told, [json!(false), json!(1), json!(1), json!(3)]);
    assert_eq!(stats["github"], json!({"remaining": 4999}));
    assert!(stats["last_sync_at"].as_str().unwrap().ends_with('Z'));
    let age = gauges(&server).await["tallyhook_poller_last_round_seconds"];
    assert!((0.0..60.0).contains(&age), "{age}");
    server.stop().await;
    github.stop().await;
}

/// Returns the values of `/metrics` that have at most one label.
async fn gauges(server: &TestServer) -> BTreeMap<String, f64> {
    let text = server
        .http
        .get(format!("{}/metrics", server.url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let numbers = lines.filter_map(|line| line.rsplit_once(' '));
    numbers
        .map(|(name, number)| (name.to_owned(), number.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn statistics_show_due_and_failing_watched_pull_requests() {
    let server = start(None).await;
    let store = &server.running.store;
    let [new, well, broken, worse] = [1, 2, 3, 4].map(PrNumber);
    let (now, long_ago) = (Utc::now(), Utc::now() - TimeDelta::hours(1));
    for number in [new, well, broken, worse] {
        assert!(
            store
                .of_team(DEFAULT_TEAM.0)
                .watch("Other/Repo", number, long_ago)
                .await
                .unwrap()
        );
    }
    for (number, at, outcome) in [
        (well, now, Ok(())),
        (worse, long_ago, Err("GitHub cannot be reached")),
        (worse, long_ago, Err("GitHub has no such pull request")),
        (broken, now, Err("GitHub does not accept the token")),
    ] {
        store
            .record_watch_check("other/repo", number, at, outcome)
            .await
            .unwrap();
    }
    let monitor = server.get("/api/sync/stats").await.1["monitor"].take();
    let told = ["watched", "due", "failing"].map(|name| monitor[name].clone());
    assert_eq!(told, [json!(4), json!(2), json!(2)]);
    let errors: Vec<_> = monitor["last_errors"].as_array().unwrap().iter().collect();
    let told = errors.iter().map(|one| {
        [
            &one["repo"],
            &one["number"],
            &one["failures"],
            &one["error"],
        ]
    });
    assert_eq!(
        json!(told.collect::<Vec<_>>()),
        json!([
            ["Other/Repo", 3, 1, "GitHub does not accept the token"],
            ["Other/Repo", 4, 2, "GitHub has no such pull request"]
        ])
    );
    assert!(errors[1]["checked_at"].as_str() < errors[0]["checked_at"].as_str());
    let gauges = gauges(&server).await;
    let states = ["watched", "due", "failing"]
        .map(|state| gauges[&format!("tallyhook_monitors{{state=\"{state}\"}}")]);
    assert_eq!(states, [4.0, 2.0, 2.0]);
    assert_eq!(
        gauges.get("tallyhook_poller_last_round_seconds"),
        None,
        "there was no round"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_pull_request_of_any_repository_is_watched() {
    let (server, github) = with_github().await;
    let path = |repo: &str, number: &str| format!("/api/repos/{repo}/prs/{number}/monitor");
    for _ in 0..2 {
        assert_eq!(
            post(&server, &path("Other/Repo", "5"), Value::Null).await.0,
            202
        );
    }
    let due = server.running.store.watched(Utc::now(), 9).await.unwrap();
    assert_eq!(
        (due.len(), &*due[0].repo_name, due[0].number.0),
        (1, "Other/Repo", 5)
    );
    for wrong in [
        path("other/repo", "0"),
        path("other/repo", "x"),
        path("..%2f/repo", "5"),
    ] {
        assert_refused(&post(&server, &wrong, Value::Null).await, 404, "not_found");
    }
    assert_eq!(
        delete(&server, &path("other/repo", "5")).await,
        (204, Value::Null)
    );
    assert_refused(
        &delete(&server, &path("other/repo", "5")).await,
        404,
        "not_found",
    );
    assert_eq!(repositories(&server).await, Vec::<Value>::new());
    assert_eq!(github.asked(), Vec::<String>::new());
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn webhook_is_created_with_the_repository_or_left_to_the_user_without_permission() {
    let (server, github) = with_github().await;
    let url = "https://hooks.example.com/webhooks/github";
    let asked = json!({"repo": REPO, "webhook_url": url});
    let (status, answer) = post(&server, "/api/repos", asked.clone()).await;
    assert_eq!(
        (status, &answer["webhook"]["state"]),
        (201, &json!("made")),
        "{answer}"
    );
    let created = github
        .requests()
        .into_iter()
        .find(|request| request.method == "POST")
        .unwrap();
    let created: Value = serde_json::from_str(&created.body).unwrap();
    assert_eq!(
        (
            &created["config"]["url"],
            &created["config"]["content_type"]
        ),
        (&json!(url), &json!("json"))
    );
    assert_eq!(created["config"]["secret"], "a-secret-of-the-tests");
    let events = created["events"].as_array().unwrap();
    assert!(
        events.contains(&json!("pull_request_review")) && !events.contains(&json!("installation")),
        "{events:?}"
    );
    let (status, answer) = post(&server, "/api/repos", asked.clone()).await;
    assert_eq!(
        (status, &answer["webhook"]["state"]),
        (200, &json!("mended"))
    );
    assert!(!answer.to_string().contains("a-secret"), "{answer}");

    let refused = Fault::message(404, &[], "Not Found");
    github.next([Fault::None, refused]);
    let (status, answer) = post(&server, "/api/repos", asked.clone()).await;
    assert_eq!(
        (status, &answer["webhook"]["state"]),
        (200, &json!("by_hand"))
    );
    let message = answer["webhook"]["message"].as_str().unwrap();
    assert!(
        message.contains("admin:repo_hook") && message.contains("GITHUB_WEBHOOK_SECRET"),
        "{message}"
    );
    for (fault, words) in [
        (
            Fault::message(401, &[], "Bad credentials"),
            "does not accept the token",
        ),
        (
            Fault::answer(200, &[], "a page of somebody's proxy"),
            "not answered as GitHub's API does",
        ),
    ] {
        github.next([Fault::None, fault]);
        let (status, answer) = post(&server, "/api/repos", asked.clone()).await;
        assert_eq!(
            (status, &answer["repo"], &answer["webhook"]["state"]),
            (200, &json!(REPO), &json!("by_hand"))
        );
        assert!(
            answer["webhook"]["message"]
                .as_str()
                .unwrap()
                .contains(words),
            "{answer}"
        );
    }
    let wrong = post(
        &server,
        "/api/repos",
        json!({"repo": REPO, "webhook_url": "https://elsewhere"}),
    )
    .await;
    assert_refused(&wrong, 400, "bad_request");
    server.stop().await;
    github.stop().await;
}
