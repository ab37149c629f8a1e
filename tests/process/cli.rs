//! The command line as its users run it: the program in a folder of its own, with only the settings
//! that a test sets.

use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};
use tallyhook::app::ServerOptions;

use testkit::process::{self, Ended, SECRET, Serve, bare, pull_requests, run, tallyhook};
use testkit::{Place, TestServer};

fn folder() -> Place {
    Place::embedded()
}

fn fixtures() -> String {
    format!("{}/fixtures", env!("CARGO_MANIFEST_DIR"))
}

fn json_of(command: &mut std::process::Command) -> Value {
    serde_json::from_str(&run(command).ok()).unwrap()
}

/// Returns a folder with a database in which the fixtures are applied, without a running server.
async fn with_fixtures() -> (Place, Vec<Value>) {
    let mut server = TestServer::start().await;
    for fixture in testkit::fixtures() {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server.drained().await;
    let pull_requests = pull_requests(&server.http, &server.url).await;
    (server.stop().await, pull_requests)
}

/// Returns the contents of a stopped server's database once everything in it is applied.
async fn pull_requests_in(folder: Place) -> Vec<Value> {
    let mut server = TestServer::start_in(folder, ServerOptions::default()).await;
    server.drained().await;
    let pull_requests = pull_requests(&server.http, &server.url).await;
    server.stop().await;
    pull_requests
}

fn replay(folder: &Path, server: &Serve, arguments: &[&str]) -> Value {
    let url = format!("{}/webhooks/github", server.url);
    let mut answers = json_of(&mut tallyhook(
        folder,
        &[&["replay", "--json", "--url", &url], arguments].concat(),
    ));
    // The expected results beside the fixtures.
    answers.as_object_mut().unwrap().remove("left_out");
    answers
}

#[test]
fn the_demo_shows_its_table_and_leaves_nothing_behind() {
    let (here, temporary) = (folder(), folder());
    let mut demo = bare(here.path(), &["demo", "--once", "--listen", "127.0.0.1:0"]);
    let shown = run(demo.env("TMPDIR", temporary.path())).ok();
    for word in [
        "#101",
        "#125",
        "Answer 429 when the rate limit is reached",
        "merged",
        "2.50",
        "without review",
        "Medians of the merged pull requests:",
        "from opening to the first review (n = ",
    ] {
        assert!(shown.contains(word), "no `{word}` in:\n{shown}");
    }
    for folder in [here, temporary] {
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn the_demo_ignores_the_settings_of_a_server() {
    let here = folder();
    let github = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut demo = bare(here.path(), &["demo", "--once", "--listen", "127.0.0.1:0"]);
    demo.env("GITHUB_TOKEN", "real").env(
        "GITHUB_API_URL",
        format!("http://{}", github.local_addr().unwrap()),
    );
    demo.env("AMQP_URL", "amqp://nobody@127.0.0.1:1")
        .env("NOTIFY_WEBHOOK_URL", "not even an address");
    demo.env("TASK_KEY_PATTERNS", r"#(\d+)")
        .env("BOT_LOGINS", "mira");
    let shown = run(&mut demo).ok();
    assert!(
        shown.contains("task DEMO-1 goes from CODE_REVIEWING to DONE"),
        "{shown}"
    );
    github.set_nonblocking(true).unwrap();
    assert_eq!(
        github.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "GitHub was asked"
    );
}

#[test]
fn serve_does_not_start_without_a_secret() {
    let here = folder();
    run(&mut bare(here.path(), &["serve"])).failed(2, &["GITHUB_WEBHOOK_SECRET", "tallyhook demo"]);
    run(bare(here.path(), &["serve"]).env("GITHUB_WEBHOOK_SECRET", " \n"))
        .failed(2, &["GITHUB_WEBHOOK_SECRET"]);
    run(&mut bare(here.path(), &["replay", &fixtures()]))
        .failed(2, &["GITHUB_WEBHOOK_SECRET", "--secret"]);
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0);
}

#[test]
fn wrong_settings_are_named_in_one_line_with_code_2() {
    let here = folder();
    let serve = |name: &str, value: &str| run(tallyhook(here.path(), &["serve"]).env(name, value));
    serve("TALLYHOOK_LISTEN", "8080").failed(2, &["TALLYHOOK_LISTEN", "127.0.0.1:8080"]);
    serve("DATABASE_URL", "mysql://localhost/x").failed(2, &["DATABASE_URL", "mysql", "sqlite://"]);
    serve("DATABASE_URL", "tallyhook.db").failed(2, &["DATABASE_URL", "sqlite://"]);
    serve("DELIVERY_RETENTION_DAYS", "soon").failed(2, &["DELIVERY_RETENTION_DAYS", "soon"]);
    serve("GITHUB_REPO_OWNER", "acme-corp").failed(2, &["GITHUB_REPO_NAME"]);
    let broker = serve("AMQP_URL", "http://bunny:carrot@localhost");
    broker.failed(2, &["AMQP_URL", "amqp://USER"]);
    assert!(!broker.stderr.contains("carrot"), "{}", broker.stderr);
    run(&mut tallyhook(
        here.path(),
        &["serve", "--role", "ingest,api"],
    ))
    .failed(2, &["--role", "AMQP_URL", "postgres"]);

    let with_file = |text: &str| {
        std::fs::write(here.path().join("tallyhook.toml"), text).unwrap();
        run(&mut tallyhook(
            here.path(),
            &["serve", "--config", "tallyhook.toml"],
        ))
    };
    with_file("github_webhook_secert = 'x'")
        .failed(2, &["tallyhook.toml", "github_webhook_secert"]);
    with_file("a = = 1").failed(2, &["tallyhook.toml", "not TOML"]);
    with_file("bot_logins = { a = 1 }").failed(2, &["tallyhook.toml", "bot_logins"]);
    run(&mut tallyhook(
        here.path(),
        &["serve", "--config", "none.toml"],
    ))
    .failed(2, &["none.toml", "cannot read"]);
    run(&mut tallyhook(here.path(), &["serve", "--config", "."])).failed(2, &["cannot read"]);
}

#[test]
fn failure_is_one_line_with_exit_code_1() {
    let here = folder();
    let mut nowhere = tallyhook(here.path(), &["serve"]);
    run(nowhere.env("DATABASE_URL", "sqlite://no-such-folder/t.db"))
        .failed(1, &["the folder no-such-folder does not exist", "mkdir"]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    run(&mut tallyhook(
        here.path(),
        &["serve", "--listen", &address],
    ))
    .failed(1, &[&address, "is taken"]);
    run(&mut tallyhook(
        here.path(),
        &["demo", "--once", "--listen", &address],
    ))
    .failed(1, &[&address, "is taken"]);

    run(&mut tallyhook(here.path(), &["replay", "none.jsonl"]))
        .failed(1, &["none.jsonl", "cannot read"]);
    std::fs::write(here.path().join("broken.jsonl"), "{}\n").unwrap();
    run(&mut tallyhook(here.path(), &["replay", "broken.jsonl"]))
        .failed(1, &["broken.jsonl", "no delivery"]);
    std::fs::write(here.path().join("unnamed.json"), "{}").unwrap();
    run(&mut tallyhook(here.path(), &["replay", "unnamed.json"]))
        .failed(1, &["unnamed.json", "no delivery"]);
    run(&mut tallyhook(
        here.path(),
        &["replay", &fixtures(), "--drop", "1"],
    ))
    .failed(1, &["no delivery"]);

    // Nothing listens on a port that was just closed.
    drop(taken);
    let url = format!("http://{address}/webhooks/github");
    run(&mut tallyhook(
        here.path(),
        &["replay", &fixtures(), "--url", &url],
    ))
    .failed(1, &[&url, "is the server running"]);
}

#[test]
fn commands_say_when_there_is_no_database_yet() {
    let here = folder();
    for arguments in [
        &["deliveries", "list"][..],
        &["dead", "list"],
        &["token", "list"],
        &["recompute"],
    ] {
        run(&mut tallyhook(here.path(), arguments)).failed(1, &["test.db", "tallyhook migrate"]);
    }
    run(&mut tallyhook(here.path(), &["serve", "--no-migrate"]))
        .failed(1, &["test.db", "tallyhook migrate"]);
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0);
}

#[test]
fn help_succeeds_and_wrong_calls_do_not() {
    let here = folder();
    let help = run(&mut bare(here.path(), &["--help"])).ok();
    for word in [
        "demo",
        "serve",
        "replay",
        "GITHUB_WEBHOOK_SECRET",
        "DATABASE_URL",
        "Exit codes",
    ] {
        assert!(help.contains(word), "no `{word}` in:\n{help}");
    }
    for command in [
        "demo",
        "serve",
        "replay",
        "deliveries",
        "dead",
        "recompute",
        "migrate",
        "token",
        "openapi",
    ] {
        assert!(
            run(&mut bare(here.path(), &[command, "--help"]))
                .ok()
                .contains("--config"),
            "{command}"
        );
    }
    assert!(
        run(&mut bare(here.path(), &["--version"]))
            .ok()
            .starts_with("tallyhook ")
    );
    for wrong in [
        &["serve", "--bogus"][..],
        &["bogus"],
        &[],
        &["replay"],
        &["replay", "x", "--drop", "2"],
        &["replay", "x", "--rate", "0"],
        &["dead", "requeue"],
        &["dead", "requeue", "1", "--all"],
        &["dead", "requeue", "1", "--event", "push"],
        &["dead", "requeue", "--event", "push", "--all"],
        &["dead", "discard", "1"],
        &["dead", "discard", "--reason", "x"],
        &["dead", "discard", "1", "--all", "--reason", "x"],
        &["replay", "x", "--url", "localhost:8080"],
        &["replay", "x", "--event", "Pull Request"],
        &["completions", "cobol"],
        &["serve", "--role", "nobody"],
    ] {
        let Ended { code, stderr, .. } = run(&mut tallyhook(here.path(), wrong));
        assert_eq!(code, Some(2), "{wrong:?}: {stderr}");
        assert!(
            !stderr.is_empty() && !stderr.contains("panicked"),
            "{wrong:?}: {stderr}"
        );
    }
}

#[tokio::test]
async fn serve_logs_its_address_and_exits_cleanly_on_sigterm() {
    let here = folder();
    // A configuration file alone is enough.
    let file = format!("github_webhook_secret = '{SECRET}'\ntallyhook_listen = '127.0.0.1:0'\n");
    std::fs::write(here.path().join("tallyhook.toml"), file).unwrap();
    let mut serve = bare(
        here.path(),
        &[
            "serve",
            "--config",
            "tallyhook.toml",
            "--log-format",
            "json",
        ],
    );
    let serve = Serve::start_command(&mut serve);
    let http = reqwest::Client::new();
    assert_eq!(
        http.get(format!("{}/readyz", serve.url))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let token = std::fs::read_to_string(here.path().join("tallyhook-admin-token")).unwrap();
    let url = format!("{}/api/prs", serve.url);
    assert_eq!(
        http.get(url)
            .bearer_auth(token.trim())
            .send()
            .await
            .unwrap()
            .status(),
        200
    );

    let (status, log) = serve.terminate();
    assert_eq!(status.code(), Some(0), "{log:?}");
    for line in &log {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(
            line["message"].is_string() && line["timestamp"].is_string(),
            "{line}"
        );
    }
    assert!(!log.join("\n").contains(token.trim()));
}

#[tokio::test]
async fn a_second_serve_on_the_same_file_is_refused_and_the_first_goes_on() {
    let here = folder();
    let first = Serve::start(here.path());
    for command in ["serve", "migrate"] {
        run(&mut tallyhook(here.path(), &[command])).failed(1, &["another tallyhook", "test.db"]);
    }
    let http = reqwest::Client::new();
    let answer = process::signed(&http, &first.url, "star", "a-star", b"{}")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    assert_eq!(first.terminate().0.code(), Some(0));
    // The lock ended with its process.
    let next = Serve::start(here.path());
    assert_eq!(next.terminate().0.code(), Some(0));
}

#[tokio::test]
async fn the_fixtures_can_be_replayed_and_replayed_again() {
    let (_seeded, in_order) = with_fixtures().await;
    let here = folder();
    let server = Serve::start(here.path());
    let first = replay(here.path(), &server, &[&fixtures()]);
    assert_eq!(
        first,
        json!({"accepted": 148, "duplicate": 1, "ignored": 1, "pong": 1})
    );
    let second = replay(here.path(), &server, &[&fixtures()]);
    assert_eq!(second, json!({"duplicate": 150, "pong": 1}));

    // The configured listener is the default destination; a wrong secret is refused.
    let address = server.url.trim_start_matches("http://");
    let one = format!("{}/01-quick-review.jsonl", fixtures());
    let told = run(tallyhook(here.path(), &["replay", &one]).env("TALLYHOOK_LISTEN", address)).ok();
    assert!(
        told.contains("posted: ") && told.contains("1 pong"),
        "{told}"
    );
    let mut wrong = tallyhook(here.path(), &["replay", &one, "--secret", "wrong"]);
    run(wrong.env("TALLYHOOK_LISTEN", address))
        .failed_after_output(1, &["refusal", "401", "bad_signature"]);

    assert_eq!(server.terminate().0.code(), Some(0));
    assert_eq!(pull_requests_in(here).await, in_order);
}

#[tokio::test]
async fn a_shuffled_replay_with_repetitions_gives_the_same_and_a_seed_gives_the_same_again() {
    let (_seeded, in_order) = with_fixtures().await;
    let here = folder();
    let server = Serve::start(here.path());
    let answers = replay(
        here.path(),
        &server,
        &[&fixtures(), "--shuffle", "7", "--duplicate", "0.5"],
    );
    assert_eq!(
        (&answers["accepted"], &answers["ignored"]),
        (&json!(148), &json!(1))
    );
    assert!(answers["duplicate"].as_u64().unwrap() > 20, "{answers}");
    assert_eq!(server.terminate().0.code(), Some(0));
    assert_eq!(pull_requests_in(here).await, in_order);

    let mut runs = Vec::new();
    for _ in 0..2 {
        let here = folder();
        let server = Serve::start(here.path());
        runs.push(replay(
            here.path(),
            &server,
            &[&fixtures(), "--shuffle", "7", "--drop", "0.5"],
        ));
    }
    assert_eq!(runs[0], runs[1]);
    let kept = runs[0]["accepted"].as_u64().unwrap();
    assert!((40..110).contains(&kept), "{runs:?}");
}

#[tokio::test]
async fn exported_deliveries_can_be_replayed_elsewhere() {
    let (seeded, in_order) = with_fixtures().await;
    let export = |arguments: &[&str]| {
        run(&mut tallyhook(
            seeded.path(),
            &[&["deliveries", "export"], arguments].concat(),
        ))
    };
    assert_eq!(export(&["--output", "all.jsonl"]).ok(), "");
    let written = std::fs::read_to_string(seeded.path().join("all.jsonl")).unwrap();
    assert_eq!(written.lines().count(), 149);
    assert_eq!(export(&[]).ok(), written);
    assert_eq!(export(&["--event", "push"]).ok().lines().count(), 1);
    assert_eq!(export(&["--state", "ignored"]).ok().lines().count(), 2);
    export(&["--output", "no-such-folder/x"]).failed(1, &["cannot write no-such-folder/x"]);
    let all = ["--output", "all.jsonl"];
    export(&all).failed(1, &["cannot write all.jsonl", "--overwrite"]);
    assert_eq!(export(&[&all[..], &["--overwrite"]].concat()).ok(), "");

    let here = folder();
    let server = Serve::start(here.path());
    let file = seeded.path().join("all.jsonl");
    let answers = replay(here.path(), &server, &[file.to_str().unwrap()]);
    assert_eq!(answers, json!({"accepted": 148, "ignored": 1}));
    assert_eq!(server.terminate().0.code(), Some(0));
    assert_eq!(pull_requests_in(here).await, in_order);
}

#[tokio::test]
async fn deliveries_are_listed_and_shown() {
    let (seeded, _) = with_fixtures().await;
    let deliveries =
        |arguments: &[&str]| tallyhook(seeded.path(), &[&["deliveries"], arguments].concat());
    let list = json_of(&mut deliveries(&[
        "list",
        "--json",
        "--limit",
        "5",
        "--event",
        "pull_request_review",
    ]));
    let list = list["items"].as_array().unwrap();
    assert_eq!(list.len(), 5);
    assert!(
        list.iter()
            .all(|one| one["event"] == "pull_request_review" && one["state"] == "applied")
    );
    assert!(list.is_sorted_by(|newer, older| newer["id"].as_i64() > older["id"].as_i64()));

    let guid = list[0]["guid"].as_str().unwrap();
    let shown = json_of(&mut deliveries(&["show", guid]));
    assert_eq!(
        (&shown["guid"], &shown["payload"]["action"]),
        (&list[0]["guid"], &list[0]["action"])
    );
    let table = run(&mut deliveries(&[
        "list",
        "--repo",
        "acme-corp/api-server",
        "--limit",
        "100",
    ]))
    .ok();
    assert!(
        table.contains("GUID") && table.contains("acme-corp") && table.contains("applied"),
        "{table}"
    );
    run(&mut deliveries(&["show", "nothing"])).failed(1, &["no delivery nothing"]);
    let id = list[0]["id"].to_string();
    assert_eq!(json_of(&mut deliveries(&["show", &id])), shown);
    run(&mut deliveries(&["show", &guid[..8]])).failed(1, &["several GUIDs begin with", ", ..."]);
    run(&mut deliveries(&["show", &guid[..3]])).failed(1, &["no delivery"]);
}

#[tokio::test]
async fn dead_letters_are_requeued_and_discarded_beside_a_running_server() {
    let here = folder();
    let server = Serve::start(here.path());
    let http = reqwest::Client::new();
    for guid in ["one", "two"] {
        let body = br#"{"action":"opened"}"#;
        let answer = process::signed(&http, &server.url, "pull_request", guid, body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 202);
    }
    let dead = |arguments: &[&str]| tallyhook(here.path(), &[&["dead"], arguments].concat());
    let listed = json_of(&mut dead(&["list", "--json"]));
    let [group] = &listed["groups"].as_array().unwrap()[..] else {
        panic!("more than one kind: {listed}")
    };
    assert_eq!(
        (&group["deliveries"], &group["event"]),
        (&json!(2), &json!("pull_request"))
    );
    let list = &listed["items"];
    assert_eq!(
        (&list[0]["guid"], &list[1]["guid"]),
        (&json!("two"), &json!("one"))
    );
    let shown = run(&mut dead(&["list"])).ok();
    assert!(
        shown.contains("dead letters") && shown.contains("two") && shown.contains("one"),
        "{shown}"
    );
    let reason = group["reason"].as_str().unwrap();
    run(&mut dead(&[
        "requeue", "--reason", reason, "--event", "push",
    ]))
    .failed(1, &["no dead letter matches", reason, "event `push`"]);
    let (two, one) = (list[0]["id"].to_string(), list[1]["id"].to_string());
    assert_eq!(
        json_of(&mut dead(&["show", &one]))["payload"],
        json!({"action": "opened"})
    );

    assert!(
        run(&mut dead(&["requeue", &one, &one]))
            .ok()
            .starts_with("requeued 1,")
    );
    run(&mut dead(&["requeue", "99"]))
        .failed_after_output(1, &["1 of the given ids are not dead letters"]);
    let discard = ["discard", &two, "--reason", "made by a test"];
    run(&mut dead(&discard)).failed(2, &["discard 1 dead letter", "undone", "--yes"]);
    let discard = [&discard[..], &["--yes"]].concat();
    assert_eq!(run(&mut dead(&discard)).ok(), "discarded 1\n");
    run(&mut dead(&discard)).failed_after_output(1, &["1 of the given ids are not dead letters"]);
    run(&mut dead(&["show", &two])).failed(1, &["no dead letter"]);
    assert_eq!(server.terminate().0.code(), Some(0));

    let mut server = TestServer::start_in(here, ServerOptions::default()).await;
    server.drained().await;
    let (_, let_go) = server.get("/api/deliveries/two").await;
    assert_eq!(let_go["items"][0]["reason"], "discarded: made by a test");
    // It was retried, and is dead again.
    let (_, again) = server.get("/api/deliveries/one").await;
    assert_eq!(
        (&again["items"][0]["state"], &again["items"][0]["attempts"]),
        (&json!("dead"), &json!(1))
    );
    let here = server.stop().await;
    assert!(
        run(&mut tallyhook(here.path(), &["dead", "requeue", "--all"]))
            .ok()
            .starts_with("requeued 1,")
    );
    let none = json!({"groups": [], "items": [], "next": null});
    assert_eq!(
        json_of(&mut tallyhook(here.path(), &["dead", "list", "--json"])),
        none
    );
}

#[tokio::test]
async fn dead_letters_of_a_group_are_found_by_what_is_missing_and_discarded_together() {
    let here = folder();
    let server = Serve::start(here.path());
    let http = reqwest::Client::new();
    for (guid, repo) in [
        ("one", "acme/api"),
        ("two", "acme/api"),
        ("three", "acme/web"),
    ] {
        let body = json!({
            "action": "opened",
            "number": 7,
            "repository": {"id": 5, "full_name": repo},
            "pull_request": {"id": 1, "number": 7, "state": "open", "head": {"ref": "x"}},
        });
        let answer = process::signed(
            &http,
            &server.url,
            "pull_request",
            guid,
            body.to_string().as_bytes(),
        );
        assert_eq!(answer.send().await.unwrap().status(), 202);
    }
    let dead = |arguments: &[&str]| tallyhook(here.path(), &[&["dead"], arguments].concat());
    let listed = json_of(&mut dead(&["list", "--json"]));
    let group = &listed["groups"][0];
    let reason = "cannot be decoded: missing field `pull_request.head.sha`";
    assert_eq!(
        (&group["reason"], &group["repo"], &group["deliveries"]),
        (&json!(reason), &json!("acme/api"), &json!(2))
    );
    let item = &listed["items"][0];
    assert_eq!(
        (&item["repo"], &item["action"], &item["pr_number"]),
        (&json!("acme/web"), &json!("opened"), &json!(7))
    );
    let shown = json_of(&mut dead(&["show", &item["id"].to_string()]));
    assert_eq!(
        (&shown["repo"], &shown["action"]),
        (&json!("acme/web"), &json!("opened"))
    );
    let group = [
        "discard",
        "--reason",
        "of a test",
        "--dead-reason",
        reason,
        "--repo",
        "Acme/API",
    ];
    run(&mut dead(&group)).failed(2, &["discard 2 dead letters", "--yes"]);
    let group = [&group[..], &["--yes"]].concat();
    assert_eq!(run(&mut dead(&group)).ok(), "discarded 2\n");
    run(&mut dead(&group)).failed(1, &["no dead letter matches", "repository `Acme/API`"]);
    let all = ["discard", "--reason", "of a test", "--all", "--yes"];
    assert_eq!(run(&mut dead(&all)).ok(), "discarded 1\n");
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked_beside_a_running_server() {
    let here = folder();
    let server = Serve::start(here.path());
    let token = |arguments: &[&str]| tallyhook(here.path(), &[&["token"], arguments].concat());
    let made = run(&mut token(&["create", "dashboard"])).ok();
    assert_eq!(made.lines().count(), 1);
    let http = reqwest::Client::new();
    let url = format!("{}/api/prs", server.url);
    let status = async || {
        http.get(&url)
            .bearer_auth(made.trim())
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(status().await, 200);
    let list = json_of(&mut token(&["list", "--json"]));
    assert_eq!(
        (&list["items"][0]["name"], &list["items"][0]["revoked_at"]),
        (&json!("dashboard"), &Value::Null)
    );
    assert!(!run(&mut token(&["list"])).ok().contains(made.trim()));
    run(&mut token(&["create", "dashboard"])).failed(1, &["dashboard", "revoke it first"]);

    run(&mut token(&["revoke", "dashboard"])).failed(2, &["dashboard", "undone", "--yes"]);
    assert_eq!(status().await, 200);
    let revoke = ["revoke", "dashboard", "--yes"];
    assert_eq!(run(&mut token(&revoke)).ok(), "revoked\n");
    assert_eq!(status().await, 401);
    run(&mut token(&revoke)).failed(1, &["dashboard"]);
    let new = json_of(&mut token(&["create", "dashboard", "--json"]));
    assert_eq!(new["name"], "dashboard");
    assert!(new["token"].as_str().unwrap().starts_with("tallyhook_"));
    let too_long = "a".repeat(101);
    for name in [
        "",
        " ",
        "a\u{1b}[31m",
        "a\u{202e}b",
        "a\u{200b}b",
        &too_long,
    ] {
        run(&mut token(&["create", name])).failed(2, &["the name of a token"]);
    }
    assert_eq!(status().await, 401);
    assert_eq!(server.terminate().0.code(), Some(0));
}

#[test]
fn migrate_makes_a_database_that_serve_starts_on() {
    let here = folder();
    for _ in 0..2 {
        run(&mut tallyhook(here.path(), &["migrate"])).ok();
    }
    assert_eq!(
        json_of(&mut tallyhook(
            here.path(),
            &["deliveries", "list", "--json"]
        )),
        json!({"items": [], "next": null})
    );
    let mut serve = tallyhook(
        here.path(),
        &["serve", "--no-migrate", "--log-format", "json"],
    );
    assert_eq!(
        Serve::start_command(&mut serve).terminate().0.code(),
        Some(0)
    );
}

#[tokio::test]
async fn recompute_takes_another_list_of_bots_into_account() {
    let (seeded, before) = with_fixtures().await;
    let author = before[0]["author"].as_str().unwrap().to_owned();
    let by_author = before.iter().filter(|one| one["author"] == author).count();
    assert!(
        by_author > 1
            && before
                .iter()
                .any(|one| one["author"] != author && one["author_is_bot"] == false)
    );
    assert!(
        before
            .iter()
            .all(|one| one["author"] != author || one["author_is_bot"] == false)
    );

    let recomputed = run(tallyhook(seeded.path(), &["recompute"]).env("BOT_LOGINS", &author)).ok();
    assert_eq!(recomputed, "34 pull requests\n");
    let server = TestServer::start_in(seeded, ServerOptions::default()).await;
    let after = pull_requests(&server.http, &server.url).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(
            after["author_is_bot"] == true,
            before["author_is_bot"] == true || after["author"] == author
        );
    }
    let (_, metrics) = server.get("/api/metrics/cycle-time").await;
    assert_eq!(
        metrics["all"]["excluded"]["bot_author"].as_u64().unwrap() as usize,
        {
            let merged = |one: &&Value| one["state"] == "merged" && one["author_is_bot"] == true;
            after.iter().filter(merged).count()
        }
    );
    let seeded = server.stop().await;

    run(&mut tallyhook(seeded.path(), &["recompute"])).ok();
    assert_eq!(pull_requests_in(seeded).await, before);
}

#[test]
fn the_description_of_the_api_names_every_path() {
    let here = folder();
    let openapi = json_of(&mut bare(here.path(), &["openapi"]));
    assert!(openapi["openapi"].as_str().unwrap().starts_with("3."));
    for (path, methods) in [
        ("/webhooks/github", "post"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
        ("/api/prs", "get"),
        ("/api/prs/{number}", "get"),
        ("/api/repos/{owner}/{repo}/prs/{number}", "get"),
        ("/api/metrics/cycle-time", "get"),
        ("/api/deliveries", "get"),
        ("/api/deliveries/{guid}", "get"),
        ("/api/dead-letters", "get"),
        ("/api/dead-letters/groups", "get"),
        ("/api/dead-letters/requeue", "post"),
        ("/api/dead-letters/{id}", "get delete"),
        ("/api/dead-letters/{id}/requeue", "post"),
    ] {
        for method in methods.split(' ') {
            let responses = &openapi["paths"][path][method]["responses"];
            assert!(responses.is_object(), "{method} {path}");
            // An operation that requires a token documents the answer without one.
            assert_eq!(
                responses["401"].is_object(),
                path.starts_with("/api/") || ["/webhooks/github", "/metrics"].contains(&path)
            );
        }
    }
}

#[test]
fn completions_are_printed() {
    let here = folder();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&mut bare(here.path(), &["completions", shell])).ok();
        assert!(
            script.contains("tallyhook") && script.contains("replay"),
            "{shell}"
        );
    }
}
