//! Recovery of failed deliveries from GitHub: afterwards the facts are the same as without the
//! failure.

use std::collections::HashSet;
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tallyhook::app::ServerOptions;
use tallyhook::sync::fetch::observed_repository;
use tallyhook::sync::recover::{self, RecoveryReport, RecoveryRequest};
use tallyhook_core::domain::notification::SyncSource;
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::VirtualTime;
use tallyhook_github_client::hooks::HookOwner;
use tallyhook_store::{EventId, OutboxEvent, OutboxPayload, PullRequestChange};

use testkit::github::{self, FakeGithub, Fault, GITHUB_TOKEN, Sending};
use testkit::payloads::{Account, Pr, World, objects, pull_request_event};
use testkit::process::{self, Ended, pull_requests, tallyhook};
use testkit::{Fixture, Place, SECRET, TestServer};

const OWNER: &str = "repos/acme-corp/api-server";
const HOOK: i64 = 41;

/// Returns the first hundred different deliveries of the fixtures, each with its payload.
fn hundred() -> Vec<(Fixture, Value)> {
    let mut seen = HashSet::new();
    let fixtures = testkit::fixtures().into_iter();
    let different =
        fixtures.filter(|fixture| fixture.event != "ping" && seen.insert(fixture.guid.clone()));
    let hundred: Vec<_> = different
        .take(100)
        .map(|fixture| {
            let payload = serde_json::from_slice(&fixture.payload).unwrap();
            (fixture, payload)
        })
        .collect();
    assert_eq!(hundred.len(), 100);
    hundred
}

/// Returns a fake GitHub whose repository has one webhook, which posts to `url`.
async fn fake(url: &str) -> FakeGithub {
    let github = FakeGithub::start().await;
    github.add_repository(7, "acme-corp/api-server");
    github.add_hook(HOOK, OWNER, &format!("{url}/webhooks/github"), SECRET);
    github
}

fn ago(minutes: i64) -> DateTime<Utc> {
    Utc::now() - TimeDelta::minutes(minutes)
}

/// Builds the command `tallyhook recover` on the database of `place`.
fn recover(place: &Place, github: &FakeGithub, arguments: &[&str]) -> Command {
    let mut command = tallyhook(place.path(), &[&["recover"], arguments].concat());
    command
        .env("GITHUB_TOKEN", GITHUB_TOKEN)
        .env("GITHUB_API_URL", &github.url);
    command
        .env("GITHUB_REPO_OWNER", "acme-corp")
        .env("GITHUB_REPO_NAME", "api-server");
    command
}

/// Runs a command to its end, while the servers of the test keep running.
async fn run(mut command: Command) -> Ended {
    tokio::task::spawn_blocking(move || process::run(&mut command))
        .await
        .unwrap()
}

/// Returns the counts of a printed report in its order.
fn counts(report: &Value) -> [u64; 6] {
    let count = |name: &str| report[name].as_u64().unwrap();
    let missing = report["not_fetched"].as_array().unwrap().len() as u64;
    [
        count("listed"),
        count("failed"),
        count("unused"),
        count("already_here"),
        count("recovered"),
        missing,
    ]
}

async fn facts_of(server: &TestServer) -> Vec<Value> {
    pull_requests(&server.http, &server.url).await
}

#[tokio::test]
async fn recovered_deliveries_give_the_same_facts_as_delivered_ones() {
    let hundred = hundred();
    let mut server = TestServer::start().await;
    let github = fake(&server.url).await;
    let (mut failed, mut redelivered) = (Vec::new(), 0);
    for (number, (Fixture { event, guid, .. }, payload)) in hundred.iter().enumerate() {
        let at = ago(1000 - i64::try_from(number).unwrap());
        let delivery = (event.as_str(), guid.as_str(), payload);
        match number % 10 {
            2 | 5 | 8 => {
                github
                    .deliver(HOOK, delivery, at, Sending::Fails(502))
                    .await;
                failed.push(guid.clone());
            }
            6 => {
                github.deliver(HOOK, delivery, at, Sending::Fails(0)).await;
                let status = github
                    .redeliver(HOOK, guid, at + TimeDelta::seconds(30), Sending::Posted)
                    .await;
                assert_eq!(status, 202);
                redelivered += 1;
            }
            _ => assert_eq!(
                github.deliver(HOOK, delivery, at, Sending::Posted).await,
                202
            ),
        }
    }
    assert_eq!((failed.len(), redelivered), (30, 10));
    // A delivery of an unused event, and one from before the requested days.
    github
        .deliver(
            HOOK,
            ("check_run", "unused", &json!({})),
            ago(5),
            Sending::Fails(500),
        )
        .await;
    github
        .deliver(
            HOOK,
            ("push", "too-old", &json!({})),
            ago(5 * 24 * 60),
            Sending::Fails(500),
        )
        .await;
    github.forget(HOOK, &failed[3]);

    let first = run(recover(&server.place, &github, &["--json"])).await;
    first.failed_after_output(1, &["1 of 30 missing deliveries could not be fetched"]);
    let report: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(counts(&report), [111, 31, 1, 0, 29, 1]);
    assert_eq!(
        (&report["hooks"], &report["dead_letters"]),
        (&json!([HOOK]), &json!(0))
    );
    assert_eq!(report["not_fetched"][0]["guid"], failed[3]);
    assert!(
        report["not_fetched"][0]["why"]
            .as_str()
            .unwrap()
            .contains("GitHub has no /repos/acme-corp")
    );
    // The webhooks, two pages, and each failed delivery.
    assert_eq!(
        (report["github_requests"].as_u64(), github.asked().len()),
        (Some(33), 33)
    );

    let again = run(recover(&server.place, &github, &["--json"])).await;
    assert_eq!(again.code, Some(1));
    assert_eq!(
        counts(&serde_json::from_str(&again.stdout).unwrap()),
        [111, 31, 1, 29, 0, 1]
    );
    assert_eq!(github.asked().len(), 4);

    assert_eq!(
        github
            .redeliver(HOOK, &failed[3], ago(1), Sending::Posted)
            .await,
        202
    );
    let table = run(recover(&server.place, &github, &[])).await.ok();
    for words in [
        "112\t",
        "30\t",
        "29\t",
        "attempts listed",
        "already stored",
        "recovered",
        "3 requests to GitHub",
    ] {
        assert!(table.contains(words), "no `{words}` in:\n{table}");
    }

    server.drained().await;
    let mut whole = TestServer::start().await;
    for (
        Fixture {
            event,
            guid,
            payload,
            ..
        },
        _,
    ) in &hundred
    {
        whole.post(event, guid, payload).await;
    }
    whole.drained().await;
    assert_eq!(facts_of(&server).await, facts_of(&whole).await);
    assert!(!facts_of(&whole).await.is_empty());
    whole.stop().await;
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn deliveries_recovered_without_a_server_are_applied_by_the_next_one() {
    let mut server = TestServer::start().await;
    server.drained().await;
    let place = server.stop().await;
    let github = fake("http://127.0.0.1:1").await;
    let hundred = hundred();
    for (number, (Fixture { event, guid, .. }, payload)) in hundred.iter().take(12).enumerate() {
        let at = ago(1000 - i64::try_from(number).unwrap());
        assert_eq!(
            github
                .deliver(HOOK, (event, guid, payload), at, Sending::Posted)
                .await,
            0,
            "no server is running"
        );
    }
    let report: Value =
        serde_json::from_str(&run(recover(&place, &github, &["--json"])).await.ok()).unwrap();
    assert_eq!(counts(&report), [12, 12, 0, 0, 12, 0]);

    server = TestServer::start_in(place, ServerOptions::default()).await;
    server.drained().await;
    let stored = server.get("/api/deliveries?per_page=100").await.1;
    let stored = stored["items"].as_array().unwrap();
    assert!(stored.iter().all(|item| item["source"] == "poller"
        && ["applied", "ignored"].contains(&item["state"].as_str().unwrap())));
    let guids: HashSet<_> = stored
        .iter()
        .map(|item| item["guid"].as_str().unwrap())
        .collect();
    assert_eq!(
        guids,
        hundred
            .iter()
            .take(12)
            .map(|(fixture, _)| fixture.guid.as_str())
            .collect()
    );
    assert!(!facts_of(&server).await.is_empty());
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn recovered_deletion_is_dated_by_its_first_attempt() {
    let mut server = TestServer::start().await;
    let github = fake("http://127.0.0.1:1").await;
    let (world, author) = (World::acme(), Account::user(501, "mara"));
    let at = ago(30).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let pull_request = Pr::new(&world, 1, Some(&author), "Sort", "sort", &at);
    let opened = pull_request_event(&pull_request, "opened", &author, json!({}));
    let (status, _) = server
        .post("pull_request", "live", opened.to_string().as_bytes())
        .await;
    assert_eq!(status, 202);
    // GitHub took the repository back before the live event, and was asked to repeat the webhook.
    let deleted = json!({"action": "deleted", "repository": objects::repository(&world)});
    for minutes in [60, 10] {
        let delivery = ("repository", "deleted", &deleted);
        github
            .deliver(HOOK, delivery, ago(minutes), Sending::Fails(502))
            .await;
    }
    assert_eq!(numbers(&recovered(&server, &github).await.unwrap())[4], 1);
    server.drained().await;
    let (_, found) = server.get("/api/repos/acme-corp/api-server/prs/1").await;
    assert_eq!(found["repo_access"], "granted", "{found}");
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn recovered_changes_are_notified_as_found_by_the_worker() {
    let mut server = TestServer::start().await;
    let store = server.running.store.clone();
    let repo = observed_repository(
        RepoId(World::acme().repo_id),
        "acme-corp/api-server".to_owned(),
        None,
    );
    store.track(&repo, DateTime::UNIX_EPOCH).await.unwrap();
    let github = fake("http://127.0.0.1:1").await;
    let (
        Fixture {
            event,
            guid,
            payload: bytes,
            ..
        },
        payload,
    ) = &hundred()
        .into_iter()
        .find(|(_, payload)| payload["action"] == "opened")
        .unwrap();
    github
        .deliver(HOOK, (event, guid, payload), ago(10), Sending::Fails(502))
        .await;
    assert_eq!(
        numbers(&recovered(&server, &github).await.unwrap()),
        [1, 1, 0, 0, 1, 0]
    );
    server.drained().await;
    // Webhooks still do not arrive, although deliveries were recovered.
    assert_eq!(store.tracked().await.unwrap()[0].last_delivery_at, None);
    let told = store.events_after(EventId::BEGINNING, 10).await.unwrap();
    let source = |event: &OutboxEvent| match event.payload {
        OutboxPayload::PullRequest(PullRequestChange { source, .. }, _) => Some(source),
        _ => None,
    };
    assert_eq!(
        told.iter().map(source).collect::<Vec<_>>(),
        [Some(SyncSource::Worker)]
    );
    // A redelivery is the same delivery.
    assert_eq!(
        server.post(event, guid, bytes).await.1["status"],
        "duplicate"
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn webhooks_are_ours_or_all_or_the_named_one() {
    let place = TestServer::start().await.stop().await;
    let github = fake("https://tallyhook.example.com").await;
    github.add_hook(42, OWNER, "https://ci.example.com/hook", "s");
    github.add_hook(
        43,
        "orgs/acme-corp",
        "https://tallyhook.example.com/gh",
        "s",
    );
    github.add_hook(44, "orgs/acme-corp", "https://chat.example.com/x", "s");
    let base = format!("/{OWNER}/hooks");
    let list = |id: i64, base: &str| format!("GET {base}/{id}/deliveries?per_page=100");

    run(recover(&place, &github, &["--json"])).await.ok();
    assert_eq!(
        github.asked(),
        [format!("GET {base}?per_page=100"), list(HOOK, &base)]
    );
    run(recover(&place, &github, &["--hook", "42"])).await.ok();
    assert_eq!(github.asked(), [list(42, &base)]);
    run(recover(&place, &github, &["--org", "acme-corp"]))
        .await
        .ok();
    let base = "/orgs/acme-corp/hooks";
    assert_eq!(
        github.asked(),
        [
            format!("GET {base}?per_page=100"),
            list(43, base),
            list(44, base)
        ]
    );
    github.stop().await;
}

#[tokio::test]
async fn missing_prerequisites_are_reported_in_one_line() {
    let place = TestServer::start().await.stop().await;
    let github = fake("http://127.0.0.1:1").await;
    let with = |name: &str, value: &str| {
        let mut command = recover(&place, &github, &[]);
        command.env(name, value);
        run(command)
    };
    let mut nowhere = recover(&place, &github, &[]);
    nowhere
        .env_remove("GITHUB_REPO_OWNER")
        .env_remove("GITHUB_REPO_NAME");
    run(nowhere)
        .await
        .failed(2, &["--repo", "--org", "GITHUB_REPO_OWNER"]);
    with("GITHUB_TOKEN", "")
        .await
        .failed(2, &["GITHUB_TOKEN", "admin:repo_hook"]);
    with("GITHUB_API_URL", "github")
        .await
        .failed(2, &["GITHUB_API_URL", "https://"]);
    for wrong in ["acme-corp", "acme-corp/../x", "a/b/c"] {
        run(recover(&place, &github, &["--repo", wrong]))
            .await
            .failed(2, &["OWNER/NAME", wrong]);
    }
    assert_eq!(github.requests(), []);

    with("GITHUB_TOKEN", "ghp_another")
        .await
        .failed(1, &["Bad credentials", "GITHUB_TOKEN"]);
    run(recover(&place, &github, &["--hook", "9"]))
        .await
        .failed(1, &["acme-corp/api-server", "admin:repo_hook"]);
    run(recover(&place, &github, &["--repo", "acme-corp/none"]))
        .await
        .failed(1, &["acme-corp/none has no webhook"]);
    let needed = [
        ("X-Accepted-OAuth-Scopes", "admin:org_hook"),
        ("X-RateLimit-Remaining", "9"),
    ];
    github.next([Fault::message(403, &needed, "Must be an owner")]);
    run(recover(&place, &github, &["--org", "acme"]))
        .await
        .failed(1, &["admin:org_hook", "Must be an owner"]);
    github.stop().await;
}

#[tokio::test]
async fn app_recovers_from_its_own_webhook() {
    let mut server = TestServer::start().await;
    let github = fake("http://127.0.0.1:1").await;
    github.add_app(&VirtualTime::starting_at(Utc::now()));
    github.add_hook(github::app::HOOK, "app", &server.url, SECRET);
    for (number, (Fixture { event, guid, .. }, payload)) in hundred().iter().take(12).enumerate() {
        let at = ago(1000 - i64::try_from(number).unwrap());
        github
            .deliver(
                github::app::HOOK,
                (event, guid, payload),
                at,
                Sending::Fails(502),
            )
            .await;
    }
    let as_app = |arguments: &[&str]| {
        let mut command = recover(&server.place, &github, arguments);
        command
            .env_remove("GITHUB_TOKEN")
            .env("GITHUB_APP_ID", github::app::APP_ID);
        command.env(
            "GITHUB_APP_PRIVATE_KEY",
            github::app::private_key().replace('\n', "\\n"),
        );
        command
    };
    let report: Value =
        serde_json::from_str(&run(as_app(&["--app", "--json"])).await.ok()).unwrap();
    assert_eq!(
        (counts(&report), &report["hooks"]),
        ([12, 12, 0, 0, 12, 0], &json!([null]))
    );
    assert_eq!(github.asked()[0], "GET /app/hook/deliveries?per_page=100");
    let table = run(as_app(&["--app"])).await.ok();
    assert!(
        table.contains("of webhook of the App") && table.contains("already stored"),
        "{table}"
    );

    github.asked();
    run(recover(&server.place, &github, &["--app"]))
        .await
        .failed(2, &["GITHUB_APP_ID", "GITHUB_APP_PRIVATE_KEY"]);
    let mut both = as_app(&["--app"]);
    both.env("GITHUB_TOKEN", GITHUB_TOKEN);
    run(both).await.failed(2, &["a token or as an App"]);
    assert_eq!(github.requests(), []);
    run(as_app(&["--repo", "acme-corp/api-server"]))
        .await
        .failed(1, &["not installed on acme-corp/api-server"]);

    github.install("acme-corp", 9);
    let file = server.place.path().join("app.pem");
    std::fs::write(&file, github::app::private_key()).unwrap();
    let mut command = as_app(&["--repo", "acme-corp/api-server"]);
    command
        .env("GITHUB_APP_PRIVATE_KEY", &file)
        .env("RUST_LOG", "trace");
    let logged = run(command).await;
    assert_eq!(logged.code, Some(0), "{}", logged.stderr);
    assert!(
        logged.stderr.contains("/app/installations/9/access_tokens"),
        "nothing was logged"
    );
    // The App's JWT begins like this, as any JSON does in base64.
    for secret in ["ghs_token", "eyJ", "PRIVATE KEY"] {
        assert!(!logged.stderr.contains(secret), "{secret} is in the log");
    }
    server.drained().await;
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn token_is_in_no_log() {
    let place = TestServer::start().await.stop().await;
    let github = fake("http://127.0.0.1:1").await;
    let mut command = recover(&place, &github, &["--json"]);
    command.env("RUST_LOG", "trace");
    let ended = run(command).await;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("requested GET "),
        "nothing was logged"
    );
    assert!(!ended.stderr.contains(GITHUB_TOKEN) && !ended.stdout.contains(GITHUB_TOKEN));
    github.stop().await;
}

/// Recovers with a client that does not wait.
async fn recovered(server: &TestServer, github: &FakeGithub) -> anyhow::Result<RecoveryReport> {
    let owner = HookOwner::repository("acme-corp/api-server").unwrap();
    let asked = RecoveryRequest {
        owner,
        hook: Some(HOOK),
        since: ago(3 * 24 * 60),
    };
    let (client, _) = github.client();
    recover::recover_deliveries(&client, &server.running.store, &asked, |_, _| {}).await
}

/// Returns the same numbers as [`counts`] from a report.
fn numbers(report: &RecoveryReport) -> [u64; 6] {
    counts(&serde_json::to_value(report).unwrap())
}

#[tokio::test]
async fn rate_limit_ends_the_recovery_and_the_next_one_continues() {
    let mut server = TestServer::start().await;
    let github = fake("http://127.0.0.1:1").await;
    for (Fixture { event, guid, .. }, payload) in hundred().iter().take(5) {
        github
            .deliver(HOOK, (event, guid, payload), ago(10), Sending::Fails(502))
            .await;
    }
    // The list, a delivery that is fetched after a retry, one that does not exist, and a rate limit
    // of hours.
    let gone = Fault::message(410, &[], "Gone");
    let limited = Fault::message(429, &[("Retry-After", "9000")], "");
    let broken = [
        Fault::status(502),
        Fault::Truncated,
        Fault::message(403, &[("Retry-After", "60")], ""),
    ];
    github.next(
        [Fault::None]
            .into_iter()
            .chain(broken)
            .chain([Fault::None, gone, limited]),
    );
    let report = recovered(&server, &github).await.unwrap();
    assert_eq!(numbers(&report), [5, 5, 0, 0, 1, 4]);
    let whys: Vec<_> = report
        .not_fetched
        .iter()
        .map(|missing| missing.why.as_str())
        .collect();
    assert!(whys[0].contains("gone from GitHub"), "{whys:?}");
    assert!(
        whys[1..]
            .iter()
            .all(|why| why.contains("rate limit is used up until")),
        "{whys:?}"
    );
    assert_eq!(
        github.asked().len(),
        7,
        "nothing is asked once the limit is known"
    );

    github.next([
        Fault::None,
        Fault::None,
        Fault::message(401, &[], "Bad credentials"),
    ]);
    let report = recovered(&server, &github).await.unwrap();
    assert_eq!(numbers(&report), [5, 5, 0, 1, 1, 3]);
    assert!(
        report
            .not_fetched
            .iter()
            .all(|missing| missing.why.contains("Bad credentials"))
    );

    let report = recovered(&server, &github).await.unwrap();
    assert_eq!(numbers(&report), [5, 5, 0, 2, 3, 0]);
    // The list itself must be complete: a delivery that is missing from it would count as
    // delivered.
    github.next(vec![Fault::status(502); 4]);
    let error = recovered(&server, &github).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("cannot be reached"),
        "{error:#}"
    );
    server.drained().await;
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn undecodable_payload_is_a_dead_letter_and_an_empty_one_is_reported() {
    let mut server = TestServer::start().await;
    let github = fake("http://127.0.0.1:1").await;
    let (opened, payload) = &hundred()[0];
    for (event, guid, payload) in [
        ("pull_request", "shapeless", &json!({"action": "opened"})),
        (&opened.event, "whole", payload),
        ("push", "empty", &Value::Null),
    ] {
        github
            .deliver(HOOK, (event, guid, payload), ago(10), Sending::Fails(502))
            .await;
    }
    let report = recovered(&server, &github).await.unwrap();
    assert_eq!(
        (numbers(&report), report.dead_letters),
        ([3, 3, 0, 0, 2, 1], 1)
    );
    let missing = &report.not_fetched[0];
    assert_eq!(
        (missing.guid.as_str(), missing.why.as_str()),
        ("empty", "GitHub does not have its payload any more")
    );
    server.drained().await;
    let state = async |guid: &str| {
        server.get(&format!("/api/deliveries/{guid}")).await.1["items"][0]["state"].clone()
    };
    assert_eq!(
        (state("shapeless").await, state("whole").await),
        (json!("dead"), json!("applied"))
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn successful_attempt_counts_at_any_position_of_the_list() {
    let server = TestServer::start().await;
    let github = fake("http://127.0.0.1:1").await;
    let (Fixture { event, guid, .. }, payload) = &hundred()[0];
    // It succeeded first, and was redelivered later while the receiver was down.
    github
        .deliver(HOOK, (event, guid, payload), ago(20), Sending::Fails(200))
        .await;
    github
        .redeliver(HOOK, guid, ago(10), Sending::Fails(502))
        .await;
    assert_eq!(
        numbers(&recovered(&server, &github).await.unwrap()),
        [2, 0, 0, 0, 0, 0]
    );
    server.stop().await;
    github.stop().await;
}

/// GUIDs are in headers, which GitHub does not sign: a row with the GUID of a failed delivery may
/// have the body of another one.
#[tokio::test]
async fn delivery_is_recovered_although_its_guid_was_used_for_another_body() {
    let mut server = TestServer::start().await;
    let github = fake("http://127.0.0.1:1").await;
    let hundred = hundred();
    let ours = hundred
        .iter()
        .filter(|(fixture, _)| fixture.event == "pull_request");
    let (failed, other) = {
        let mut ours = ours.map(|(_, payload)| payload);
        (ours.next().unwrap(), ours.next().unwrap())
    };
    for (guid, first, payload) in [
        ("misnamed", "push", failed),
        ("borrowed", "pull_request", other),
        ("same", "pull_request", failed),
    ] {
        let body = payload.to_string();
        assert_eq!(server.post(first, guid, body.as_bytes()).await.0, 202);
        let delivery = ("pull_request", guid, failed);
        github
            .deliver(HOOK, delivery, ago(10), Sending::Fails(502))
            .await;
    }
    let report = recovered(&server, &github).await.unwrap();
    assert_eq!(numbers(&report), [3, 3, 0, 1, 2, 0]);
    server.drained().await;
    for guid in ["misnamed", "borrowed"] {
        let (_, found) = server.get(&format!("/api/deliveries/{guid}")).await;
        let rows = found["items"].as_array().unwrap().iter();
        let mut applied = rows.filter(|row| row["state"] == "applied");
        assert!(
            applied.any(|row| row["payload"]["number"] == failed["number"]),
            "{guid}: {found}"
        );
    }
    assert_eq!(
        numbers(&recovered(&server, &github).await.unwrap()),
        [3, 3, 0, 3, 0, 0]
    );
    server.stop().await;
    github.stop().await;
}
