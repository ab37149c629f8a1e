//! `tallyhook replay` with the recordings that people have.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use testkit::Place;
use testkit::payloads::{Account, Pr, World, pull_request_event};
use testkit::process::{Ended, Serve, get, run, tallyhook};

const AT: &str = "2026-03-02T09:00:00Z";

fn payload(number: i64) -> Value {
    let mira = Account::user(900_000_101, "mira");
    let pr = Pr::new(&World::acme(), number, Some(&mira), "A title", "branch", AT);
    pull_request_event(&pr, "opened", &mira, json!({}))
}

/// Returns a delivery as GitHub's deliveries API returns it.
fn delivery(number: i64) -> String {
    let delivery = json!({
        "guid": format!("delivery-{number}"),
        "event": "pull_request",
        "request": {"headers": {"X-GitHub-Event": "pull_request"}, "payload": payload(number)},
    });
    delivery.to_string()
}

fn replay(folder: &Path, server: &Serve, arguments: &[&str]) -> Command {
    let mut command = tallyhook(folder, &[&["replay", "--json"], arguments].concat());
    command.env("TALLYHOOK_LISTEN", server.url.trim_start_matches("http://"));
    command
}

fn run_with_input(mut command: Command, input: &str) -> Ended {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn recordings_are_read_as_people_have_them() {
    let here = Place::embedded();
    let server = Serve::start(here.path());
    let recordings = here.path().join("recordings");
    fs::create_dir(&recordings).unwrap();
    let write = |name: &str, text: String| fs::write(recordings.join(name), text).unwrap();
    write(
        "pull_request.opened.json",
        format!("\u{feff}{}", payload(1)),
    );
    write("status_report.json", payload(2).to_string());
    write("pages.JSON", format!("[{}][{}]", delivery(3), delivery(4)));
    write(
        "slurped.json",
        format!("[[{}],[{}]]", delivery(5), delivery(6)),
    );
    write(
        "lines.jsonl",
        format!("{}\r\n{}\r\n", delivery(7), delivery(8)),
    );
    write(
        "probot.json",
        json!({"name": "pull_request", "payload": payload(9)}).to_string(),
    );
    write(
        "push_notes.json",
        json!({"notes": ["of a meeting"]}).to_string(),
    );
    write(
        "package.json",
        json!({"repository": {"type": "git"}}).to_string(),
    );
    write("README.md", "# Recordings".to_owned());
    std::os::unix::fs::symlink(".", recordings.join("self")).unwrap();

    // The proxy of the environment is not asked for this machine.
    let mut command = replay(here.path(), &server, &["recordings"]);
    let ended = run(command.env("http_proxy", "http://127.0.0.1:9"));
    let expected = json!({
        "accepted": 9,
        "left_out": {
            "objects that are no delivery": 2,
            "files with another ending than .json, .jsonl, .ndjson or .gz": 1,
        },
    });
    assert_eq!(json_of(&ended.ok()), expected);

    // Standard input; a server's URL gets the path of the endpoint.
    let command = replay(here.path(), &server, &["-", "--url", &server.url]);
    let ended = run_with_input(command, &delivery(10));
    assert_eq!(json_of(&ended.ok()), json!({"accepted": 1}));

    let http = reqwest::Client::new();
    let known = async {
        while get(&http, &server.url, "/api/prs?per_page=100").await["items"]
            .as_array()
            .unwrap()
            .len()
            < 10
        {}
    };
    tokio::time::timeout(testkit::process::PATIENCE, known)
        .await
        .unwrap();
}

#[tokio::test]
async fn damage_and_dead_letters_end_with_code_1_after_everything_whole_was_posted() {
    let here = Place::embedded();
    let server = Serve::start(here.path());
    let write = |name: &str, text: &str| fs::write(here.path().join(name), text).unwrap();
    let torn = format!("{}\n{}\n{}", delivery(1), delivery(2), &delivery(3)[..200]);
    write("torn.jsonl", &torn);
    let ended = run(&mut replay(here.path(), &server, &["torn.jsonl"]));
    ended.failed_after_output(1, &["torn.jsonl line 3", "cut off"]);
    let expected = json!({
        "accepted": 2,
        "damaged": ["torn.jsonl line 3: the JSON is cut off"],
    });
    assert_eq!(json_of(&ended.stdout), expected);

    let mut broken = payload(4);
    broken["pull_request"]["base"]
        .as_object_mut()
        .unwrap()
        .remove("ref");
    write("broken.json", &broken.to_string());
    let ended = run(&mut replay(here.path(), &server, &["broken.json"]));
    ended.failed_after_output(1, &["dead letter", "missing field `pull_request.base.ref`"]);
    assert_eq!(json_of(&ended.stdout), json!({"dead": 1}));

    let utf16: Vec<u8> = delivery(5)
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    fs::write(here.path().join("utf16.json"), utf16).unwrap();
    run(&mut replay(here.path(), &server, &["utf16.json"]))
        .failed(1, &["utf16.json", "UTF-16", "UTF-8"]);
    run(&mut tallyhook(here.path(), &["replay", "torn.jsonl"])).failed(2, &["--url"]);
}
