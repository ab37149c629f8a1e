//! The shipped fixtures, through the real endpoint, give the numbers that stand beside them.

use serde_json::{Value, json};

use testkit::TestServer;

const NUMBERS: [&str; 11] = [
    "title",
    "state",
    "draft",
    "author_is_bot",
    "ready_at",
    "first_response_at",
    "first_review_at",
    "final_approval_at",
    "closed_at",
    "merged_at",
    "flags",
];

#[tokio::test]
async fn every_fixture_gives_its_expected_numbers() {
    let mut server = TestServer::start().await;
    for fixture in testkit::fixtures() {
        let (status, answer) = server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
        assert!(
            status == 202 || status == 200,
            "{} {}: {answer}",
            fixture.event,
            fixture.guid
        );
    }
    server.drained().await;

    let expected_files = testkit::fixture_files("expected.json");
    assert!(expected_files.len() >= 12);
    for path in expected_files {
        let expected: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let (repo, number) = (expected["repo"].as_str().unwrap(), &expected["number"]);
        let (status, found) = server.get(&format!("/api/repos/{repo}/prs/{number}")).await;
        assert_eq!(status, 200, "{}", path.display());
        for name in NUMBERS {
            assert_eq!(found[name], expected[name], "{name} of {}", path.display());
        }
        for name in ["cycle_time_hours", "review_time_hours"] {
            assert_same_hours(&found[name], &expected[name], name, &path);
        }
        for (name, hours) in expected["stages"].as_object().unwrap() {
            assert_same_hours(&found["stages"][name], hours, name, &path);
        }
        assert_explained(&found, &path);
        if expected.get("as_of").is_some() {
            assert_turns(&found, &expected, &path);
        }
    }
    let (_, dead) = server.get("/api/dead-letters").await;
    assert_eq!(dead["items"].as_array().unwrap().len(), 0);
    server.stop().await;
}

fn assert_same_hours(found: &Value, expected: &Value, name: &str, path: &std::path::Path) {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => {
            assert!(
                (found - expected).abs() < 1e-9,
                "{name} of {}: {found}, expected {expected}",
                path.display()
            );
        }
        (found, expected) => assert_eq!(found, expected, "{name} of {}", path.display()),
    }
}

/// The waiting and the time by turn; that of the turn which lasts has grown since the file's time.
fn assert_turns(found: &Value, expected: &Value, path: &std::path::Path) {
    let (waiting, as_of) = (&found["waiting"], &expected["as_of"]);
    let seconds = |time: &Value| -> i64 {
        let time = time
            .as_str()
            .unwrap()
            .parse::<chrono::DateTime<chrono::Utc>>();
        time.unwrap().timestamp()
    };
    let grown = match waiting {
        Value::Null => 0,
        waiting => seconds(&waiting["as_of"]) - seconds(as_of),
    };
    let lasting = expected["turns"].as_array().unwrap().last().unwrap();
    let time_by = found["time_by"].as_object().unwrap();
    let expected_hours = expected["time_by_hours"].as_object().unwrap();
    assert_eq!(time_by.len(), expected_hours.len(), "{}", path.display());
    for (turn, hours) in expected_hours {
        let since = if *turn == lasting["turn"] { grown } else { 0 };
        let whole = (hours.as_f64().unwrap() * 3600.0).round() + since as f64;
        let found = time_by[turn].as_i64().unwrap();
        assert!(
            (found as f64 - whole).abs() < 0.5,
            "{turn} of {}",
            path.display()
        );
    }
    if expected["waiting"].is_null() {
        assert!(waiting.is_null(), "{}", path.display());
        return;
    }
    for name in ["for", "since", "kind_since", "rule"] {
        let (found, wanted) = (&waiting[name], &expected["waiting"][name]);
        assert_eq!(found, wanted, "{name} of {}", path.display());
    }
    let who = waiting["who"].as_array().unwrap().iter().map(|one| {
        let name = one["login"].as_str().or(one["team"].as_str());
        json!({"who": name, "since": one["since"]})
    });
    let who: Vec<_> = who.collect();
    assert_eq!(json!(who), expected["waiting"]["who"], "{}", path.display());
}

/// The steps of an explanation add up to the stages.
fn assert_explained(found: &Value, path: &std::path::Path) {
    let steps = found["explain"]["steps"].as_array().unwrap();
    for (name, hours) in found["stages"].as_object().unwrap() {
        let stage = name.trim_end_matches("_hours");
        let of_stage = steps.iter().filter(|step| step["stage"] == stage);
        let explained: f64 = of_stage.map(|step| step["hours"].as_f64().unwrap()).sum();
        assert!(
            (explained - hours.as_f64().unwrap_or(0.0)).abs() < 1e-9,
            "{name} of {}",
            path.display()
        );
    }
    assert!(!found["explain"]["text"].as_str().unwrap().is_empty());
}
