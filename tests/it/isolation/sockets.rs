//! Frames of `/ws` and `/metrics` beside another team.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::TestServer;
use testkit::socket::{Socket, frame, request, with_header};
use tokio::time::timeout;

use super::world::{CANARY, TASK_KEY, TeamWorld, TwoTeams};

async fn socket_of(server: &TestServer, token: &str, query: &str) -> Socket {
    let authorization = format!("Bearer {token}");
    let request = with_header(request(server, query), "authorization", &authorization);
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

/// Changes the status of a team's task, which is an event and a hint.
async fn change(world: &TwoTeams, team: &TeamWorld, status: &str) {
    let path = format!("/api/tasks/{TASK_KEY}");
    let body = json!({"status": status});
    let answer = world
        .ask("PATCH", &path, Some(&team.member), Some(&body))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Reads frames until the one of B's own change; none before it is of A.
async fn frames_up_to_own(socket: &mut Socket, task: &str) -> Vec<Value> {
    let mut frames = Vec::new();
    let read = async {
        loop {
            let frame = frame(socket).await;
            let is_own = frame["task_id"] == task && frame["new_status"] == "DONE";
            frames.push(frame);
            if is_own {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), read).await.unwrap();
    frames
}

#[tokio::test]
async fn socket_gets_frames_and_hints_of_its_own_team_alone() {
    let world = TwoTeams::start(true).await;
    let mut of_b = socket_of(&world.server, &world.b.viewer, "?hints=1").await;
    let mut of_a = socket_of(&world.server, &world.a.viewer, "").await;
    let since = "?hints=1&since=2020-01-01T00:00:00Z";
    let mut from_before = socket_of(&world.server, &world.b.viewer, since).await;
    change(&world, &world.a, "TODO").await;
    change(&world, &world.b, "DONE").await;
    for socket in [&mut of_b, &mut from_before] {
        let frames = frames_up_to_own(socket, &world.b.task_id).await;
        for frame in &frames {
            assert!(!frame.to_string().contains(CANARY), "{frame}");
            assert_ne!(frame["task_id"], world.a.task_id.as_str(), "{frame}");
            assert_ne!(
                frame["of"], "inbox",
                "hints of the inbox are for operators: {frame}"
            );
        }
    }
    let first = timeout(Duration::from_secs(20), frame(&mut of_a))
        .await
        .unwrap();
    assert_eq!(first["task_id"], world.a.task_id.as_str(), "{first}");
    // A position of another team is none.
    let after = format!("?after={}", world.a.event_id);
    let mut refused = socket_of(&world.server, &world.b.viewer, &after).await;
    let nothing = format!("?after={:019}", 999_999);
    let mut unknown = socket_of(&world.server, &world.b.viewer, &nothing).await;
    let mut ends = Vec::new();
    for socket in [&mut refused, &mut unknown] {
        use futures_util::StreamExt;
        let end = timeout(Duration::from_secs(20), socket.next())
            .await
            .unwrap();
        ends.push(format!("{end:?}"));
    }
    assert_eq!(ends[0], ends[1]);
    assert!(ends[0].contains("4410"), "{ends:?}");
    // One's own is none.
    let after = format!("?after={}", world.b.event_id);
    let mut own = socket_of(&world.server, &world.b.viewer, &after).await;
    frames_up_to_own(&mut own, &world.b.task_id).await;
    world.server.stop().await;
}

#[tokio::test]
async fn channel_is_sent_the_events_of_its_team_alone() {
    let world = TwoTeams::start(true).await;
    for (own, other) in [(&world.a, &world.b), (&world.b, &world.a)] {
        let answer = world
            .ask("GET", "/api/notifications", Some(&own.viewer), None)
            .await;
        let list: Value = serde_json::from_str(&answer.body).unwrap();
        let items = list["items"].as_array().unwrap();
        assert!(items.len() >= 2, "{list}");
        for item in items {
            assert_eq!(item["channel"], own.channel.as_str(), "{item}");
            let text = item.to_string();
            assert!(
                !text.contains(&other.repo()) && !text.contains(&other.task_id),
                "{text}"
            );
            let task = &item["notification"]["task_id"];
            assert!(*task == own.task_id.as_str() || task.is_null(), "{item}");
        }
    }
    world.server.stop().await;
}
