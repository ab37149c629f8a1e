//! Non-interference: the same calls of B in a world in which A does nothing, and beside a busy A.

use serde_json::Value;
use testkit::conformity::operations;

use super::world::{CANARY, NUMBER, SeenAnswer, TwoTeams};

/// Returns JSON without times, and without the ids that are counted over all teams.
pub(super) fn without_times(body: &str) -> String {
    match serde_json::from_str::<Value>(body) {
        Ok(mut value) => {
            normalize(&mut value);
            value.to_string()
        }
        Err(_) => body.to_owned(),
    }
}

/// The keys of values that differ from run to run: times, ages, and ids of rows.
fn is_volatile(key: &str) -> bool {
    let is_age = ["_seconds", "_hours"].iter().any(|end| key.ends_with(end));
    let is_measured = ["oldest_pending_seconds", "waited_hours"].contains(&key);
    key == "id"
        || ["event_id", "sync_run", "place", "task_id", "next"].contains(&key)
        || (is_age && is_measured)
        || ["time_by", "turns", "segments", "timeline"].contains(&key)
}

fn normalize(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if is_volatile(key) && !value.is_null() {
                    *value = Value::from("volatile");
                } else {
                    normalize(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalize),
        Value::String(text) => {
            let is_time = chrono::DateTime::parse_from_rfc3339(text).is_ok();
            let is_date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
            if is_time || is_date {
                *text = "time".to_owned();
            }
        }
        _ => {}
    }
}

/// The calls of B: every read, and writes that leave traces where a team could look for another.
async fn answers(world: &TwoTeams) -> Vec<(String, SeenAnswer)> {
    let b = &world.b;
    let mut answers = Vec::new();
    let mut ask = async |method: &str, path: &str, token: &str, body: Option<Value>| {
        let answer = world.ask(method, path, Some(token), body.as_ref()).await;
        let answer = SeenAnswer {
            body: without_times(&answer.body).replace(&world.receiver.url, "RECEIVER"),
            ..answer
        };
        answers.push((format!("{method} {path}"), answer));
    };
    for (method, path, operation) in operations() {
        let is_of_team = operation["x-tallyhook-access"]["class"] == "team";
        if method != "GET" || !is_of_team || path == "/ws" || path == "/api/me/sessions" {
            continue;
        }
        let path = path
            .replace("{owner}", &b.owner)
            .replace("{repo}", &b.name)
            .replace("{number}", &NUMBER.to_string());
        let path = match path.as_str() {
            "/api/sync-runs/{id}" => path.replace("{id}", &b.sync_run.to_string()),
            "/api/metrics/compare" => format!("{path}?from=30d"),
            _ => path.replace("{id}", super::world::TASK_KEY),
        };
        for token in [&b.viewer, &b.member, &b.admin] {
            ask("GET", &path, token, None).await;
        }
        let is_list = operation["parameters"]
            .as_array()
            .is_some_and(|of| of.iter().any(|parameter| parameter["name"] == "count"));
        if is_list {
            ask(
                "GET",
                &format!("{path}?count=true&per_page=1"),
                &b.admin,
                None,
            )
            .await;
        }
    }
    for (method, path, body) in [
        // A key that A has, then one that B has by then.
        (
            "POST",
            "/api/tasks",
            serde_json::json!({"key": format!("{CANARY}-1"), "title": "x"}),
        ),
        (
            "POST",
            "/api/tasks",
            serde_json::json!({"key": format!("{CANARY}-1"), "title": "x"}),
        ),
        (
            "POST",
            "/api/tokens",
            serde_json::json!({"name": "made-b", "role": "viewer"}),
        ),
        ("POST", "/api/channels/beta-ops/test", Value::Null),
    ] {
        let answer = world.ask(method, path, Some(&b.admin), Some(&body)).await;
        // A token is random.
        answers.push((
            format!("{method} {path}"),
            SeenAnswer {
                body: match serde_json::from_str::<Value>(&without_times(&answer.body)) {
                    Ok(mut value) => {
                        if let Some(token) = value.get_mut("token") {
                            *token = Value::Null;
                        }
                        value.to_string()
                    }
                    Err(_) => answer.body,
                },
                ..answer
            },
        ));
    }
    answers
}

/// The calls whose answers differ, and their number.
pub(super) async fn differences(quiet: &TwoTeams, busy: &TwoTeams) -> (Vec<String>, usize) {
    let (alone, beside) = (answers(quiet).await, answers(busy).await);
    assert_eq!(alone.len(), beside.len());
    let mut different = Vec::new();
    for ((call, alone), (_, beside)) in alone.iter().zip(&beside) {
        if alone != beside {
            different.push(format!("{call}: {alone:?} {beside:?}"));
        }
    }
    (different, alone.len())
}

#[tokio::test]
async fn busy_other_team_changes_no_answer() {
    let (quiet, busy) = (TwoTeams::start(false).await, TwoTeams::start(true).await);
    let (different, compared) = differences(&quiet, &busy).await;
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(compared >= 75, "{compared}");
    quiet.server.stop().await;
    busy.server.stop().await;
}
