//! Real recorded deliveries: none is refused, none dies, and real pull requests get their real
//! numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tallyhook_core::event::{self, NAMES};

use testkit::TestServer;

/// Every file below `folder`, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "json") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The event of a whole-file payload: the folder's name, else the start of the file's.
fn event_of(path: &Path) -> String {
    let folder = path
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    if path.to_str().unwrap().contains("octokit-webhooks") {
        return folder.to_owned();
    }
    let name = path
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .replace('-', "_")
        .replace("_webhook_event", "");
    let known = [
        "pull_request_review",
        "pull_request",
        "issue_comment",
        "installation",
        "repository",
        "push",
    ];
    known
        .iter()
        .find(|event| name.starts_with(**event))
        .map_or(name, |event| (*event).to_owned())
}

#[tokio::test]
async fn every_recorded_payload_is_accepted_and_none_is_dead() {
    let data = testkit::recorded_data();
    let mut server = TestServer::start().await;
    let mut payloads = files(&data.join("octokit-webhooks"));
    payloads.extend(files(&data.join("hub4j-github-api/webhook-payloads")));
    payloads.extend(
        files(&data.join("octocrab"))
            .into_iter()
            .filter(|path| path.to_str().unwrap().contains("webhook_event")),
    );
    assert_eq!(payloads.len(), 101);

    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for (place, path) in payloads.iter().enumerate() {
        let (event, body) = (event_of(path), std::fs::read(path).unwrap());
        let (status, answer) = server
            .post(&event, &format!("recorded-{place}"), &body)
            .await;
        assert!(
            status == 202 || status == 200,
            "{}: {status} {answer}",
            path.display()
        );
        *answers
            .entry(answer["status"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    server.drained().await;
    assert!(answers["accepted"] >= 40, "{answers:?}");
    let counts = server.running.store.counts().await.unwrap();
    assert_eq!(
        (counts.accepted, counts.dead),
        (0, 0),
        "{:?}",
        server.get("/api/dead-letters").await.1
    );
    assert!(counts.applied >= 35, "{counts:?}");
    server.stop().await;
}

/// None of GitHub's own bodies passes for another event, those of unused events included.
#[test]
fn every_recorded_payload_decodes_under_its_own_name_alone() {
    let data = testkit::recorded_data();
    let (mut decoded, mut wrong) = (0, Vec::new());
    for path in files(&data.join("octokit-webhooks")) {
        let (event, body) = (event_of(&path), std::fs::read(&path).unwrap());
        for name in NAMES {
            let decodes = event::decode(name, &body).is_ok();
            decoded += usize::from(decodes);
            if decodes && *name != event {
                wrong.push(format!("{} as {name}", path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(decoded >= 35, "{decoded}");
}

/// The body that GitHub would have sent for an event of its archive.
fn webhook(event: &Value) -> (&'static str, Value) {
    let mut body = event["payload"].clone();
    let (name, repository) = match event["type"].as_str().unwrap() {
        "PullRequestEvent" => ("pull_request", body["pull_request"]["base"]["repo"].clone()),
        "PullRequestReviewEvent" => (
            "pull_request_review",
            body["pull_request"]["base"]["repo"].clone(),
        ),
        "PullRequestReviewCommentEvent" => (
            "pull_request_review_comment",
            body["pull_request"]["base"]["repo"].clone(),
        ),
        "IssueCommentEvent" => {
            let repository = json!({"id": event["repo"]["id"], "full_name": event["repo"]["name"]});
            ("issue_comment", repository)
        }
        other => panic!("a type of event that was not there before: {other}"),
    };
    body["repository"] = repository;
    body["sender"] = event["actor"].clone();
    if name == "pull_request_review" && body["action"] == "created" {
        body["action"] = json!("submitted");
    }
    (name, body)
}

#[tokio::test]
async fn the_archive_s_pull_requests_get_their_real_cycle_times() {
    let data = testkit::recorded_data();
    let text =
        std::fs::read_to_string(data.join("gharchive/2021-07-21_06-07h.pr-events.ndjson")).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut server = TestServer::start().await;
    for event in &events {
        let (name, body) = webhook(event);
        let guid = format!("archive-{}", event["id"].as_str().unwrap());
        let (status, answer) = server.post(name, &guid, body.to_string().as_bytes()).await;
        assert_eq!(
            (status, &answer["status"]),
            (202, &json!("accepted")),
            "{answer}"
        );
    }
    server.drained().await;

    let mut merged = 0;
    let whole: BTreeSet<(String, i64)> = events
        .iter()
        .filter(|event| event["type"] == "PullRequestEvent")
        .map(|event| {
            (
                event["repo"]["name"].as_str().unwrap().to_owned(),
                event["payload"]["number"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(whole.len(), 30);
    for event in events
        .iter()
        .filter(|event| event["type"] == "PullRequestEvent")
    {
        let (repo, pull_request) = (
            event["repo"]["name"].as_str().unwrap(),
            &event["payload"]["pull_request"],
        );
        let (_, found) = server
            .get(&format!("/api/repos/{repo}/prs/{}", pull_request["number"]))
            .await;
        assert_eq!(found["title"], pull_request["title"]);
        assert_eq!(found["additions"], pull_request["additions"]);
        assert!(!found["flags"].as_array().unwrap().contains(&json!("stub")));
        let Some(merged_at) = pull_request["merged_at"].as_str() else {
            assert!(found["cycle_time_hours"].is_null());
            continue;
        };
        merged += 1;
        let at = |text: &str| {
            chrono::DateTime::parse_from_rfc3339(text)
                .unwrap()
                .timestamp()
        };
        let seconds = at(merged_at) - at(pull_request["created_at"].as_str().unwrap());
        let hours = found["cycle_time_hours"].as_f64().unwrap();
        // Answers have six decimals of an hour.
        let off = (hours * 3600.0 - f64::from(i32::try_from(seconds).unwrap())).abs();
        assert!(off < 0.002, "{repo}: {hours}");
        assert_eq!(found["state"], "merged");
    }
    assert_eq!(merged, 11);

    let (mut all, mut cursor) = (0, String::new());
    loop {
        let (_, page) = server.get(&format!("/api/prs?per_page=20{cursor}")).await;
        all += page["items"].as_array().unwrap().len();
        let Some(next) = page["next"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(all, 51);
    let counts = server.running.store.counts().await.unwrap();
    assert_eq!((counts.applied, counts.dead), (59, 0));
    server.stop().await;
}
