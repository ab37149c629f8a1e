//! The set-up of channels: filters, refused addresses, and what the API and the command line show.

use reqwest::Method;
use serde_json::{Value, json};
use tallyhook::app::{RunningServer, ServerOptions};
use tallyhook::config::{ChannelConfig, ChannelFilter};
use tallyhook_core::domain::notification::{NotificationKind, PullRequestStatus};

use super::{
    QUICK, REPO, WEB, post, pull_request, record, record_opened, settled, slack, start, track,
    webhook,
};
use testkit::payloads::Account;
use testkit::process;
use testkit::receiver::{Receiver, Reply};
use testkit::{Place, TOKEN, TestServer, assert_refused};

#[tokio::test]
async fn channel_filters_select_kinds_and_repositories() {
    let (mut all, mut web, mut kept) = (
        Receiver::start().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    let filtered = |name, receiver, filter| ChannelConfig {
        filter,
        ..webhook(name, receiver)
    };
    let of_web = ChannelFilter {
        repos: Some(vec![WEB.1.to_owned()]),
        kinds: Some(vec![NotificationKind::PrStatusChange]),
    };
    let of_worktrees = ChannelFilter {
        repos: None,
        kinds: Some(vec![NotificationKind::WorktreeKept]),
    };
    let channels = vec![
        webhook("all", &all),
        filtered("web", &web, of_web),
        filtered("kept", &kept, of_worktrees),
    ];
    let server = start(channels).await;
    record_opened(&server, [1]).await;
    record(&server, WEB.0, &[(2, PullRequestStatus::Open)]).await;
    let (_, task) = server
        .ask(
            Method::POST,
            "/api/tasks",
            &json!({"title": "Sort the queue"}),
        )
        .await;
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    assert_eq!(
        server
            .ask(Method::PATCH, &path, &json!({"status": "DONE"}))
            .await
            .0,
        200
    );
    assert_eq!(all.numbers(2).await, [1, 2]);
    let moved = all.next().await;
    assert_eq!(moved.header("x-tallyhook-event"), "task_status_change");
    assert_eq!(
        (&moved.json()["task_id"], &moved.json()["new_status"]),
        (&task["id"], &json!("DONE"))
    );
    // A change of a task by a person belongs to no repository.
    assert_eq!(web.numbers(1).await, [2]);
    assert_eq!(settled(&server, "kept").await, [0, 0, 0]);
    assert_eq!(settled(&server, "web").await, [1, 0, 0]);
    assert!(kept.try_next().is_none() && web.try_next().is_none());
    server.stop().await;
}

#[tokio::test]
async fn channel_of_a_former_name_is_notified_of_the_renamed_repository() {
    let (mut one, mut owner) = (Receiver::start().await, Receiver::start().await);
    let filtered = |name, receiver, repo: &str| ChannelConfig {
        filter: ChannelFilter {
            repos: Some(vec![repo.to_owned()]),
            kinds: None,
        },
        ..webhook(name, receiver)
    };
    let mut server = start(vec![
        filtered("one", &one, REPO),
        filtered("owner", &owner, "acme-corp/*"),
    ])
    .await;
    post(&mut server, &pull_request(1), "opened").await;
    let mut moved = pull_request(2);
    moved.world.owner = Account::organization(902, "umbrella");
    moved.touch("2026-03-03T09:00:00Z");
    post(&mut server, &moved, "opened").await;
    assert_eq!(one.numbers(2).await, [1, 2]);
    // Of the owner's repositories it is none any more.
    assert_eq!(owner.numbers(1).await, [1]);
    assert_eq!(settled(&server, "owner").await, [1, 0, 0]);
    assert!(owner.try_next().is_none());
    server.stop().await;
}

#[tokio::test]
async fn private_networks_are_refused_unless_allowed() {
    let mut receiver = Receiver::start().await;
    let place = Place::new().await;
    let mut config = testkit::config(&place);
    config.notify.allow_private = false;
    config.notify.channels = vec![webhook("ops", &receiver)];
    let error = RunningServer::start(&config, ServerOptions::default())
        .await
        .err()
        .unwrap()
        .to_string();
    for words in [
        "channel `ops`",
        "127.0.0.1 is a loopback address",
        "set NOTIFY_ALLOW_PRIVATE to true",
    ] {
        assert!(error.contains(words), "{error}");
    }
    assert!(!error.contains("hook"), "{error}");

    // A name is resolved only when a message is sent.
    config.notify.channels[0].url = receiver.url.replace("127.0.0.1", "localhost");
    let server = TestServer::start_as(
        &config,
        place,
        ServerOptions {
            pace: QUICK,
            ..ServerOptions::default()
        },
    )
    .await;
    track(&server).await;
    let tried = send_test(&server, "ops").await.1;
    assert_eq!(tried["ok"], false);
    let answer = tried["answer"].as_str().unwrap();
    assert!(
        answer.starts_with("the address is refused: ") && answer.contains("NOTIFY_ALLOW_PRIVATE"),
        "{answer}"
    );
    record_opened(&server, [1]).await;
    assert_eq!(settled(&server, "ops").await, [0, 1, 0]);
    assert!(receiver.try_next().is_none());
    server.stop().await;
}

async fn send_test(server: &TestServer, name: &str) -> (u16, Value) {
    let request = server
        .http
        .post(format!("{}/api/channels/{name}/test", server.url))
        .bearer_auth(TOKEN);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn channel_can_be_tested_and_shown_over_the_api() {
    let mut receiver = Receiver::start().await;
    let filter = ChannelFilter {
        repos: Some(vec!["acme-corp/*".to_owned()]),
        kinds: None,
    };
    let server = start(vec![
        ChannelConfig {
            filter,
            ..webhook("ops", &receiver)
        },
        slack(&receiver),
    ])
    .await;
    let (_, tried) = send_test(&server, "ops").await;
    assert_eq!(
        tried,
        json!({"channel": "ops", "ok": true, "answer": "200 OK: ok", "advice": null})
    );
    let test = receiver.next().await;
    assert_eq!(
        (&test.json()["type"], test.header("x-tallyhook-event")),
        (&json!("test"), "test")
    );
    receiver.replies([Reply::Status(403, "", "{\"error\": \"bad signature\"}")]);
    let (_, tried) = send_test(&server, "ops").await;
    assert_eq!(
        (&tried["ok"], &tried["answer"]),
        (
            &json!(false),
            &json!("403 Forbidden: {\"error\": \"bad signature\"}")
        )
    );
    assert!(
        tried["advice"].as_str().unwrap().contains("secret"),
        "{tried}"
    );
    assert_refused(&send_test(&server, "none").await, 404, "not_found");
    assert_refused(
        &server.get("/api/notifications?state=lost").await,
        400,
        "bad_request",
    );

    let (_, list) = server.get("/api/channels").await;
    let counts = json!({"pending": 0, "sent": 0, "dead": 0, "superseded": 0});
    let expected = json!({
        "name": "ops", "kind": "webhook", "origin": receiver.url, "repos": ["acme-corp/*"], "kinds": null,
        "place": "0000000000000000000", "told": counts, "failures": 0, "rests_until": null, "last_error": null,
        "last_error_at": null,
    });
    assert_eq!(list["items"][0], expected);
    // The part of the address after the origin may be a secret.
    assert!(!list.to_string().contains("/hook"));
    assert_eq!(list["items"][1]["name"], "slack");
    server.stop().await;
}

/// Builds a command of the program with channels in its configuration file: one for every receiver,
/// called `ops-0` and so on.
fn with_channels(
    place: &Place,
    receivers: &[&Receiver],
    arguments: &[&str],
) -> std::process::Command {
    let channel = |(at, receiver): (usize, &&Receiver)| {
        format!(
            "[[channel]]\nname = 'ops-{at}'\nkind = 'webhook'\nurl = '{}/hook'\n",
            receiver.url
        )
    };
    let file = place.path().join("tallyhook.toml");
    std::fs::write(
        &file,
        receivers
            .iter()
            .enumerate()
            .map(channel)
            .collect::<String>(),
    )
    .unwrap();
    let mut command = process::tallyhook(
        place.path(),
        &[&["--config", "tallyhook.toml"], arguments].concat(),
    );
    command.env("NOTIFY_ALLOW_PRIVATE", "true");
    command
}

/// Runs a command to its end, while the receivers of the test keep running.
async fn run(mut command: std::process::Command) -> process::Ended {
    tokio::task::spawn_blocking(move || process::run(&mut command))
        .await
        .unwrap()
}

#[tokio::test]
async fn command_line_tests_and_lists_channels() {
    let place = Place::new().await;
    let (mut good, bad) = (Receiver::start().await, Receiver::start().await);
    let receivers = [&good, &bad];
    bad.replies([Reply::Status(401, "", "who are you?\x1b[2J")]);
    let ended = run(with_channels(&place, &receivers, &["notify", "test"])).await;
    ended.failed_after_output(1, &["did not arrive: ops-1"]);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "ok    ops-0: 200 OK: ok");
    assert!(
        lines[1].starts_with(
            "wrong ops-1: 401 Unauthorized: who are you?\\u{1b}[2J (check the address"
        ),
        "{lines:?}"
    );
    let alone = run(with_channels(
        &place,
        &receivers,
        &["notify", "test", "ops-0", "--json"],
    ))
    .await
    .ok();
    assert_eq!(
        serde_json::from_str::<Value>(&alone).unwrap()["items"][0]["ok"],
        true
    );
    run(with_channels(
        &place,
        &receivers,
        &["notify", "test", "none"],
    ))
    .await
    .failed(2, &["`none`", "ops-0, ops-1"]);
    run(with_channels(&place, &[], &["notify", "test"]))
        .await
        .failed(2, &["SLACK_WEBHOOK_URL"]);

    run(process::tallyhook(place.path(), &["migrate"]))
        .await
        .ok();
    let listed = run(with_channels(&place, &receivers, &["notify", "list"]))
        .await
        .ok();
    assert!(
        listed.contains("ops-0") && listed.contains(&good.url) && !listed.contains("/hook"),
        "{listed}"
    );
    let json = run(with_channels(
        &place,
        &receivers,
        &["notify", "list", "--json"],
    ))
    .await
    .ok();
    assert_eq!(
        serde_json::from_str::<Value>(&json).unwrap()["items"][1]["name"],
        "ops-1"
    );
    let refused = run({
        let mut command = with_channels(&place, &receivers, &["notify", "test"]);
        command.env_remove("NOTIFY_ALLOW_PRIVATE");
        command
    });
    refused
        .await
        .failed(2, &["channel `ops-0`", "loopback", "NOTIFY_ALLOW_PRIVATE"]);
    assert_eq!(
        (good.next().await.path, good.next().await.path),
        ("/hook".to_owned(), "/hook".to_owned())
    );
    assert!(good.try_next().is_none());
}

/// Presses the button of the page of channels, by a token and not by a session.
async fn send_again(server: &TestServer, channel: &str, event: &str) -> u16 {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let form = http.build().unwrap();
    let form = form
        .post(format!("{}/channels/{channel}/retry", server.url))
        .bearer_auth(TOKEN)
        .header("Origin", &server.url)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("event_id={event}"));
    form.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn notification_that_was_given_up_is_sent_again_on_request() {
    let mut ops = Receiver::start().await;
    ops.replies((0..6).map(|_| Reply::Status(400, "", "no")));
    let server = start(vec![webhook("ops", &ops)]).await;
    record_opened(&server, [1, 2]).await;
    assert_eq!(settled(&server, "ops").await, [0, 2, 0]);
    let (_, log) = server.get("/api/notifications?state=dead").await;
    let event = |place: usize| {
        log["items"][place]["notification"]["event_id"]
            .as_str()
            .unwrap()
    };
    let retry = async |event: &str, channel: &str| {
        let path = format!("/api/notifications/{event}/{channel}/retry");
        server.ask(reqwest::Method::POST, &path, &json!({})).await
    };
    for (event, channel) in [(event(1), "slack"), ("x", "ops"), ("999", "ops")] {
        testkit::assert_refused(&retry(event, channel).await, 404, "not_found");
    }
    let (status, answer) = retry(event(1), "ops").await;
    let pending = json!({"status": "pending", "channel": "ops", "event_id": event(1)});
    assert_eq!((status, answer), (202, pending));
    assert_eq!(settled(&server, "ops").await, [1, 1, 0]);
    assert_eq!(send_again(&server, "ops", event(0)).await, 303);
    assert_eq!(settled(&server, "ops").await, [2, 0, 0]);
    // Three attempts at each were refused, and the receiver knows both by their event ids.
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(ops.next().await.json()["event_id"].clone());
    }
    assert_eq!(ids[6..], [json!(event(1)), json!(event(0))]);
    testkit::assert_refused(&retry(event(1), "ops").await, 404, "not_found");
    server.stop().await;
}
