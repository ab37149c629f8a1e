//! Text from elsewhere reaches no terminal raw: neither in the tables and lines of a command, nor in
//! its JSON, nor in its errors.

use std::process::Command;

use chrono::Utc;
use serde_json::Value;
use tallyhook::sync::fetch::observed_repository;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::domain::task::{TaskId, TaskStatus};
use tallyhook_core::github::types::{PrNumber, RepoId};
use tallyhook_store::{
    AccessRole, DEFAULT_TEAM, NewDelivery, NewState, NewTask, NewToken, OpenMode, Store,
    StoredBody, TaskPlace, TokenHash,
};
use uuid::Uuid;

use testkit::Place;
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN};
use testkit::process::{run, tallyhook};

/// Colour by ESC and by the one-byte CSI, a title, a bell, a line, the writing direction, DEL.
const HOSTILE: &str = "x\u{1b}[31m\u{9b}1m\u{1b}]0;t\u{7}\r\u{202e}\u{2066}\u{7f}\u{85}\u{200b}y";

/// Asserts that a terminal would only show `text`: no control character but the line end and the tab
/// between the cells of a table, nothing that changes the writing direction or cannot be seen.
#[track_caller]
fn assert_harmless(command: &str, text: &str) {
    let acts = |letter: &char| {
        (letter.is_control() && !['\n', '\t'].contains(letter))
            || ('\u{200b}'..='\u{200f}').contains(letter)
            || ('\u{2028}'..='\u{202e}').contains(letter)
            || ('\u{2060}'..='\u{206f}').contains(letter)
    };
    let raw: Vec<_> = text.chars().filter(acts).collect();
    assert!(raw.is_empty(), "`{command}` printed {raw:?} in:\n{text:?}");
}

async fn store(place: &Place) -> Store {
    tallyhook_store::open(&place.database_url, OpenMode::Exclusive)
        .await
        .unwrap()
}

/// A delivery whose every text is hostile.
fn delivery(guid: &str, state: NewState) -> NewDelivery {
    NewDelivery {
        guid: format!("{guid}{HOSTILE}"),
        body_sha256: [7; 32],
        event: format!("event{HOSTILE}"),
        action: Some(format!("action{HOSTILE}")),
        repo: Some((RepoId(7), format!("acme/{HOSTILE}"))),
        pr_number: Some(PrNumber(3)),
        source: Source::Webhook,
        lane: Lane::Live,
        received_at: Utc::now(),
        body: StoredBody::compress("{\"title\":\"x\u{202e}\u{9b}\u{7f}\\u001b[31my\"}".as_bytes())
            .unwrap(),
        state,
    }
}

/// Returns a place whose every row has hostile text.
async fn hostile_place() -> Place {
    let place = Place::embedded();
    let store = store(&place).await;
    let reason = format!("reason{HOSTILE}\nline");
    let ignored = NewState::Ignored {
        reason: reason.clone(),
    };
    let dead = NewState::Dead { reason };
    store.accept(delivery("ignored", ignored)).await.unwrap();
    store.accept(delivery("dead", dead)).await.unwrap();
    let name = format!("token{HOSTILE}");
    let hash: TokenHash = [7; 32];
    let (team, _) = DEFAULT_TEAM;
    let token = NewToken {
        name: &name,
        hash: &hash,
        team,
        role: AccessRole::Viewer,
        login: None,
        created_by: None,
        created_at: Utc::now(),
        expires_at: None,
    };
    assert!(store.create_token(&token).await.unwrap());
    let name = format!("acme/{HOSTILE}");
    store
        .track(&observed_repository(RepoId(7), name, None), Utc::now())
        .await
        .unwrap();
    let task = NewTask {
        id: TaskId(Uuid::from_u128(7)),
        key: None,
        title: format!("task{HOSTILE}"),
        place: TaskPlace {
            repo: Some(format!("acme/{HOSTILE}")),
            branch: Some(format!("branch{HOSTILE}")),
            worktree: Some(format!("tree{HOSTILE}")),
        },
        status: TaskStatus::Todo,
    };
    store
        .of_team(DEFAULT_TEAM.0)
        .create_task(&task, Utc::now())
        .await
        .unwrap();
    store.close().await;
    place
}

#[tokio::test]
async fn no_command_prints_hostile_text_raw() {
    let (place, github) = (hostile_place().await, FakeGithub::start().await);
    let guid = format!("dead{HOSTILE}");
    let commands: &[&[&str]] = &[
        &["prs"],
        &["pr", HOSTILE],
        &["prs", "--url", HOSTILE, "--token", HOSTILE],
        &["stats", "--repo", HOSTILE],
        &["deliveries", "list"],
        &["deliveries", "list", "--json"],
        &["deliveries", "show", &guid],
        &["deliveries", "show", HOSTILE],
        &["dead", "list"],
        &["dead", "list", "--json"],
        &["dead", "show", "2"],
        &["token", "list"],
        &["token", "list", "--json"],
        &["token", "create", HOSTILE],
        &["token", "revoke", HOSTILE],
        &["token", "revoke", HOSTILE, "--yes"],
        &["dead", "discard", "--event", HOSTILE, "--reason", HOSTILE],
        &["notify", "list"],
        &["notify", "test", HOSTILE],
        &["worktrees", "--dry-run"],
        &["worktrees", "--dry-run", "--json"],
        &["poll", "--once"],
        &["poll", "--once", "--json"],
        &["backfill", HOSTILE],
        &["backfill", "acme/api"],
        &["doctor"],
        &["doctor", "--json"],
        &["recover"],
        &["recompute"],
        &["demo", "--once", "--listen", HOSTILE],
    ];
    for arguments in commands {
        let message = format!("GitHub says {HOSTILE}");
        let fault = || Fault::message(403, &[], &message);
        github.next(std::iter::repeat_with(fault).take(4));
        let mut command: Command = tallyhook(place.path(), arguments);
        command
            .env("GITHUB_TOKEN", GITHUB_TOKEN)
            .env("GITHUB_API_URL", &github.url)
            .env("NOTIFY_WEBHOOK_URL", "http://127.0.0.1:1/")
            .env("NOTIFY_ALLOW_PRIVATE", "true")
            .env("WORKTREE_ROOT", place.path());
        let ended = tokio::task::spawn_blocking(move || run(&mut command))
            .await
            .unwrap();
        let name = format!("tallyhook {}", arguments.join(" "))
            .escape_debug()
            .to_string();
        assert!(
            matches!(ended.code, Some(0..=2)),
            "{name}: {:?}",
            ended.code
        );
        assert!(
            !ended.stdout.is_empty() || !ended.stderr.is_empty(),
            "{name} printed nothing"
        );
        assert_harmless(&name, &ended.stdout);
        assert_harmless(&name, &ended.stderr);
        if arguments.contains(&"--json") && ended.code == Some(0) {
            let parsed: Value = serde_json::from_str(&ended.stdout).unwrap();
            let holds = parsed.to_string().contains('\u{202e}');
            assert!(
                holds || !ended.stdout.contains("202e"),
                "{name} changed its JSON"
            );
        }
    }
}
