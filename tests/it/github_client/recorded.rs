//! Recorded rate limits of GitHub, replayed.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tallyhook_github_client::{Client, Clock, Credentials, GithubError, Token, VirtualTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::seconds;
use testkit::github::GITHUB_TOKEN;

/// The expected result for each recorded scenario: the seconds waited, and true if it succeeds in
/// the end.
const RECORDED: [(&str, &[u64], bool); 10] = [
    ("testHandler_Fail", &[30], true),
    ("testHandler_HttpStatus_Fail", &[30], true),
    ("testHandler_Wait", &[2], true),
    ("testHandler_WaitStuck", &[3, 3, 3], false),
    ("testHandler_Wait_Secondary_Limits", &[60], true),
    (
        "testHandler_Wait_Secondary_Limits_Body_Marker_Only",
        &[60],
        true,
    ),
    (
        "testHandler_Wait_Secondary_Limits_Too_Many_Requests",
        &[8],
        true,
    ),
    (
        "testHandler_Wait_Secondary_Limits_Too_Many_Requests_Date_Retry_After",
        &[8],
        true,
    ),
    (
        "testHandler_Wait_Secondary_Limits_Too_Many_Requests_Date_Retry_After_Missing_Date_Header",
        &[8],
        true,
    ),
    (
        "testHandler_Wait_Secondary_Limits_Too_Many_Requests_No_Retry_After",
        &[60],
        true,
    ),
];

#[tokio::test]
async fn recorded_rate_limits_are_waited_for_or_reported() {
    let scenarios =
        testkit::recorded_data().join("hub4j-github-api/AbuseLimitHandlerTest/wiremock");
    let there = std::fs::read_dir(&scenarios).unwrap().count();
    assert_eq!(
        there,
        RECORDED.len(),
        "scenarios were recorded that nothing is expected of"
    );
    for (scenario, waits, is_got) in RECORDED {
        // Whole seconds, as dates in headers have.
        let time = VirtualTime::starting_at(DateTime::from_timestamp(1_772_445_600, 0).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let answering = tokio::spawn(answer(
            listener,
            recorded(&scenarios.join(scenario)),
            time.clone(),
        ));
        let token = Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap());
        let client = Client::with(
            api,
            token,
            Clock::Virtual(time.clone()),
            Duration::from_secs(30),
        )
        .unwrap();
        let got = client.get::<Value>("/repos/hub4j-test-org/temp").await;
        match &got {
            Ok(repository) => assert!(
                is_got && repository["full_name"].is_string(),
                "{scenario}: {repository}"
            ),
            Err(error) => assert!(
                !is_got && matches!(error, GithubError::Limited { .. }),
                "{scenario}: {error}"
            ),
        }
        assert_eq!(seconds(&time), waits, "{scenario}");
        answering.abort();
    }
}

/// Returns the answers of a scenario after the first, which is about the user.
fn recorded(scenario: &Path) -> Vec<Value> {
    let entries = std::fs::read_dir(scenario.join("mappings")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let answers = files.iter().skip(1).map(|file| {
        let mapping: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let mut answer = mapping["response"].clone();
        if let Some(name) = answer["bodyFileName"].as_str() {
            answer["body"] = std::fs::read_to_string(scenario.join("__files").join(name))
                .unwrap()
                .into();
        }
        answer
    });
    answers.collect()
}

/// Answers with exactly these headers in order, and repeats the last answer from then on.
async fn answer(listener: TcpListener, answers: Vec<Value>, time: VirtualTime) {
    for number in 0.. {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = &answers[number.min(answers.len() - 1)];
        let body = answer["body"].as_str().unwrap();
        let mut text = format!(
            "HTTP/1.1 {} Recorded\r\nConnection: close\r\nContent-Length: {}\r\n",
            answer["status"],
            body.len()
        );
        for (name, value) in answer["headers"].as_object().unwrap() {
            if let Some(value) = value
                .as_str()
                .filter(|_| !["Content-Encoding", "Transfer-Encoding"].contains(&&**name))
            {
                text += &format!("{name}: {}\r\n", rendered(value, time.now()));
            }
        }
        stream
            .write_all(format!("{text}\r\n{body}").as_bytes())
            .await
            .unwrap();
    }
}

/// Renders a header whose template, as in `{{now offset='8 seconds' format='unix'}}`, is filled in.
fn rendered(value: &str, now: DateTime<Utc>) -> String {
    let Some((_, template)) = value.split_once("{{") else {
        return value.to_owned();
    };
    let argument = |name: &str| {
        Some(
            template
                .split_once(&format!("{name}='"))?
                .1
                .split_once('\'')?
                .0,
        )
    };
    let offset = argument("offset").map_or(0, |offset| {
        offset.trim_end_matches(" seconds").parse().unwrap()
    });
    let at = now + TimeDelta::seconds(offset);
    match argument("format") {
        Some("unix") => at.timestamp().to_string(),
        _ => at.format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
    }
}
