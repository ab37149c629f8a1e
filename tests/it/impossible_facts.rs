//! Facts that cannot be: an impossible time is no guard and no duration, a text is no longer than at
//! GitHub, and nothing of it outlives the next genuine events.

use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use testkit::TestServer;
use testkit::payloads::{Account, Pr, World, pull_request_event, rfc3339};

/// One clock for all payloads, so that the same story has the same durations.
static NOW: LazyLock<DateTime<Utc>> = LazyLock::new(Utc::now);

/// Returns the time so many hours ago, as payloads have it.
fn ago(hours: i64) -> String {
    rfc3339((*NOW - TimeDelta::hours(hours)).timestamp())
}

fn author() -> Account {
    Account::user(11, "mira")
}

/// A pull request that was opened ten hours ago.
fn opened(number: i64) -> Pr {
    let author = author();
    let at = ago(10);
    Pr::new(
        &World::acme(),
        number,
        Some(&author),
        "genuine",
        "topic",
        &at,
    )
}

fn event(pr: &Pr, action: &str) -> Value {
    pull_request_event(pr, action, &author(), json!({}))
}

/// The facts that an impossible event could have spoiled.
fn facts(pr: &Value) -> Value {
    let names = [
        "title",
        "state",
        "pr_created_at",
        "updated_at",
        "closed_at",
        "merged_at",
        "ready_at",
        "author",
        "head_ref",
        "cycle_time_hours",
        "stages",
        "flags",
    ];
    names.iter().map(|name| pr[name].clone()).collect()
}

struct Sender {
    server: TestServer,
    sent: u32,
}

impl Sender {
    async fn start() -> Self {
        let server = TestServer::start().await;
        Self { server, sent: 0 }
    }

    async fn send(&mut self, event: &str, payload: &Value) {
        self.sent += 1;
        let guid = format!("delivery-{}", self.sent);
        let body = payload.to_string();
        let (status, answer) = self.server.post(event, &guid, body.as_bytes()).await;
        assert_eq!(status, 202, "{answer}");
        self.server.drained().await;
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.server.get(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn pull_request(&self, number: i64) -> Value {
        self.get(&format!("/api/prs/{number}")).await
    }
}

fn has_flag(pr: &Value, flag: &str) -> bool {
    pr["flags"]
        .as_array()
        .unwrap()
        .iter()
        .any(|own| own == flag)
}

/// No duration of it is negative, and one that is flagged has none.
fn assert_plausible(pr: &Value) {
    let hours = pr["stages"].as_object().unwrap().values();
    let hours = hours.chain([&pr["cycle_time_hours"], &pr["review_time_hours"]]);
    for hours in hours.filter_map(Value::as_f64) {
        assert!((0.0..100_000.0).contains(&hours), "{pr}");
    }
}

/// Each time of a pull request, at each impossible value, before, between and after genuine events:
/// the facts end as without it.
#[tokio::test]
async fn impossible_time_does_not_outlive_the_next_genuine_event() {
    let far = rfc3339((*NOW + TimeDelta::days(3)).timestamp());
    let values = [
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "2007-12-31T23:59:59Z",
        &far,
    ];
    let fields = ["updated_at", "created_at", "closed_at", "merged_at"];
    let mut sender = Sender::start().await;
    let (mut number, mut expected) = (100, None);
    let cases = values
        .iter()
        .flat_map(|value| fields.map(|field| Some((field, *value))));
    for poison in std::iter::once(None).chain(cases) {
        for place in 0..3 {
            number += 1;
            let mut pr = opened(number);
            let mut story = vec![event(&pr, "opened")];
            "renamed".clone_into(&mut pr.title);
            pr.touch(&ago(6));
            story.push(event(&pr, "edited"));
            if let Some((field, value)) = poison {
                "poison".clone_into(&mut pr.title);
                pr.touch(&ago(8));
                let mut poisoned = event(&pr, "edited");
                let fields = &mut poisoned["pull_request"];
                fields[field] = json!(value);
                if ["closed_at", "merged_at"].contains(&field) {
                    fields["state"] = json!("closed");
                    fields["closed_at"] = json!(value);
                }
                story.insert(place, poisoned);
            }
            for (step, payload) in story.iter().enumerate() {
                sender.send("pull_request", payload).await;
                let shown = sender.pull_request(number).await;
                assert_plausible(&shown);
                if poison.is_some() && place == 0 && step == 0 {
                    assert!(has_flag(&shown, "clock_skew"), "{poison:?}: {shown}");
                }
            }
            "genuine".clone_into(&mut pr.title);
            pr.merge(&author(), &ago(2));
            sender.send("pull_request", &event(&pr, "closed")).await;
            let shown = sender.pull_request(number).await;
            assert_plausible(&shown);
            let found = facts(&shown);
            let expected = expected.get_or_insert_with(|| found.clone());
            assert_eq!(&found, expected, "{poison:?} at {place}: {shown}");
            assert_eq!(
                shown["merged_at"],
                json!(pr.merged_at),
                "{poison:?}: {shown}"
            );
            assert_eq!(
                shown["pr_created_at"],
                json!(pr.created_at),
                "{poison:?}: {shown}"
            );
        }
    }
    assert_eq!(sender.get("/api/dead-letters").await["items"], json!([]));
}

/// Merged as long as nothing contradicts it, but without a time and without a duration.
#[tokio::test]
async fn merge_before_the_creation_is_flagged_and_left_out_of_aggregates() {
    let mut sender = Sender::start().await;
    for number in 1..=11 {
        let mut pr = opened(number);
        pr.created_at = ago(10 + number);
        pr.merge(&author(), &ago(10));
        sender.send("pull_request", &event(&pr, "closed")).await;
    }
    let mut pr = opened(12);
    pr.merge(&author(), &ago(226));
    pr.touch(&ago(1));
    sender.send("pull_request", &event(&pr, "closed")).await;
    let shown = sender.pull_request(12).await;
    assert_eq!(
        (&shown["state"], &shown["cycle_time_hours"]),
        (&json!("merged"), &Value::Null)
    );
    assert!(has_flag(&shown, "clock_skew"), "{shown}");
    assert_plausible(&shown);
    let text = shown["explain"]["text"].as_str().unwrap();
    assert!(text.contains("Merged") && !text.contains('-'), "{text}");
    let since = ago(500);
    let repo = "repo=acme-corp/api-server";
    for range in [
        String::new(),
        format!("?from={since}"),
        format!("?{repo}&from={since}&bucket=week"),
    ] {
        let answer = sender.get(&format!("/api/metrics/cycle-time{range}")).await;
        let all = &answer["all"];
        assert_eq!(
            (&all["n"], &all["excluded"]["clock_skew"]),
            (&json!(11), &json!(1)),
            "{all}"
        );
        let [p50, p75, p90] = ["p50_hours", "p75_hours", "p90_hours"].map(|p| all[p].as_f64());
        assert!(p50 >= Some(0.0) && p50 <= p75 && p75 <= p90, "{all}");
    }
}

/// The review is kept, dated by its payload, since it cannot have been submitted then.
#[tokio::test]
async fn review_at_an_impossible_time_is_dated_by_its_payload() {
    let mut sender = Sender::start().await;
    let mut pr = opened(20);
    sender.send("pull_request", &event(&pr, "opened")).await;
    pr.touch(&ago(4));
    let reviewer = Account::user(12, "rob");
    let review = testkit::payloads::Review {
        id: 5000,
        reviewer: Some(reviewer.clone()),
        state: "approved".to_owned(),
        body: None,
        commit_id: pr.head_sha.clone(),
        submitted_at: "9999-12-31T23:59:59Z".to_owned(),
    };
    let payload = testkit::payloads::review_event(&pr, "submitted", &review, &reviewer);
    sender.send("pull_request_review", &payload).await;
    let shown = sender.pull_request(20).await;
    assert_eq!(
        shown["reviews"][0]["submitted_at"],
        json!(pr.updated_at),
        "{shown}"
    );
    assert_eq!(shown["first_review_at"], json!(pr.updated_at), "{shown}");
}

/// Another repository of the same name and a far date, and a new name with one.
#[tokio::test]
async fn name_with_an_impossible_date_is_neither_taken_nor_kept() {
    let mut sender = Sender::start().await;
    let mut pr = opened(10);
    sender.send("pull_request", &event(&pr, "opened")).await;
    let mut stranger = opened(10);
    stranger.world.repo_id = 666;
    "stranger".clone_into(&mut stranger.title);
    let mut forged = event(&stranger, "opened");
    forged["repository"]["updated_at"] = json!("9990-01-01T00:00:00Z");
    forged["pull_request"]["updated_at"] = json!("9990-01-01T00:00:00Z");
    sender.send("pull_request", &forged).await;
    let mut renamed = event(&pr, "edited");
    renamed["repository"]["full_name"] = json!("evil/other");
    renamed["repository"]["pushed_at"] = json!(253_402_300_799_i64);
    renamed["pull_request"]["updated_at"] = json!("9990-01-01T00:00:00Z");
    sender.send("pull_request", &renamed).await;
    pr.touch(&ago(3));
    sender
        .send("pull_request", &event(&pr, "synchronize"))
        .await;
    assert_eq!(sender.pull_request(10).await["title"], "genuine");
    let listed = sender.get("/api/prs?repo=acme-corp/api-server").await;
    assert_eq!(listed["items"][0]["title"], "genuine", "{listed}");
    let by_name = sender.get("/api/repos/acme-corp/api-server/prs/10").await;
    assert_eq!(
        (&by_name["title"], &by_name["repo"]),
        (&json!("genuine"), &json!("acme-corp/api-server"))
    );
}

#[tokio::test]
async fn repository_name_outside_of_github_s_grammar_is_a_dead_letter() {
    let mut sender = Sender::start().await;
    let names = [
        "api-server".to_owned(),
        "a/b/c".to_owned(),
        "/api".to_owned(),
        "acme/".to_owned(),
        "acme/..".to_owned(),
        "acme corp/api".to_owned(),
        "acme/api\u{1b}[31m".to_owned(),
        "acmé/api".to_owned(),
        format!("{}/api", "a".repeat(40)),
        format!("acme/{}", "a".repeat(101)),
    ];
    for name in &names {
        let mut payload = event(&opened(30), "opened");
        payload["repository"]["full_name"] = json!(name);
        sender.send("pull_request", &payload).await;
    }
    let dead = sender.get("/api/dead-letters?per_page=100").await;
    assert_eq!(
        dead["items"].as_array().unwrap().len(),
        names.len(),
        "{dead}"
    );
    for name in ["octo_company/.github", "a-b/A._-z0", "x/y"] {
        let mut payload = event(&opened(31), "opened");
        payload["repository"]["full_name"] = json!(name);
        sender.send("pull_request", &payload).await;
    }
    let dead = sender.get("/api/dead-letters?per_page=100").await;
    assert_eq!(
        dead["items"].as_array().unwrap().len(),
        names.len(),
        "{dead}"
    );
}

/// Texts over GitHub's limits are cut at a character.
#[tokio::test]
async fn texts_are_cut_at_github_s_limits() {
    let long = "é".repeat(70_000);
    let mut sender = Sender::start().await;
    let mut pr = opened(40);
    let author = Account::user(13, &long);
    pr.author = Some(author.clone());
    for text in [
        &mut pr.title,
        &mut pr.head_ref,
        &mut pr.base_ref,
        &mut pr.head_sha,
    ] {
        long.clone_into(text);
    }
    pr.body = Some(long.clone());
    pr.labels = (0..300)
        .map(|id| testkit::payloads::Label {
            id,
            name: format!("{id:03}{}", &long[..2000]),
        })
        .collect();
    let mut payload = pull_request_event(&pr, "labeled", &author, json!({}));
    payload["label"] = json!({"name": long});
    sender.send("pull_request", &payload).await;
    let shown = sender.pull_request(40).await;
    let length = |value: &Value| value.as_str().unwrap().chars().count();
    let lengths =
        ["title", "author", "head_ref", "base_ref", "head_sha"].map(|name| length(&shown[name]));
    assert_eq!(lengths, [256, 39, 255, 255, 64], "{lengths:?}");
    assert!(has_flag(&shown, "truncated"), "{}", shown["flags"]);
    let labels = shown["labels"].as_array().unwrap();
    assert!(labels.len() == 100 && labels.iter().all(|label| length(label) <= 100));
    let size = shown.to_string().len();
    assert!(size < 100_000, "the answer is {size} bytes");
    let whole = opened(41);
    sender.send("pull_request", &event(&whole, "opened")).await;
    assert!(!has_flag(&sender.pull_request(41).await, "truncated"));
}
