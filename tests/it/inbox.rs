//! The inbox for operators over HTTP: its filters, traffic, checks, exports and decisions.

use reqwest::Method;
use serde_json::{Value, json};
use tallyhook_store::AccessRole;
use testkit::payloads::{self, Account, Pr, World};
use testkit::{TOKEN, TestServer, assert_refused};

const BROKEN: &[u8] = br#"{"action":"opened","number":7}"#;

fn ids(page: &Value) -> Vec<i64> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["id"].as_i64().unwrap()).collect()
}

async fn text(server: &TestServer, path: &str) -> (u16, String, String) {
    let request = server.http.get(format!("{}{path}", server.url));
    let response = request.bearer_auth(TOKEN).send().await.unwrap();
    let media_type = response.headers()["content-type"].to_str().unwrap();
    let media_type = media_type.to_owned();
    let status = response.status().as_u16();
    (status, media_type, response.text().await.unwrap())
}

#[tokio::test]
async fn deliveries_are_filtered_and_counted() {
    let mut server = TestServer::start().await;
    for fixture in testkit::fixtures() {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server.post("pull_request", "broken-1", BROKEN).await;
    server.drained().await;
    let (_, all) = server.get("/api/deliveries?count=true&per_page=1").await;
    let stored = all["count"]["n"].as_u64().unwrap();
    assert_eq!(all["count"]["exact"], true);
    let mut of_states = 0;
    for state in ["accepted", "applied", "ignored", "dead"] {
        let path = format!("/api/deliveries?count=true&per_page=1&state={state}");
        let (_, page) = server.get(&path).await;
        of_states += page["count"]["n"].as_u64().unwrap();
    }
    assert_eq!(of_states, stored);
    let (_, page) = server
        .get("/api/deliveries?repo=acme-corp/api-server&pr=109&count=true")
        .await;
    let about = ids(&page);
    assert_eq!(page["count"], json!({"n": about.len(), "exact": true}));
    assert!(about.len() > 2);
    for item in page["items"].as_array().unwrap() {
        assert_eq!(item["pr_number"], 109);
    }
    let wanted = format!("/api/deliveries?ids={},{}", about[0], about[2]);
    assert_eq!(ids(&server.get(&wanted).await.1), [about[0], about[2]]);
    let by_guid = server.get("/api/deliveries?guid=brok").await.1;
    assert_eq!(by_guid["items"][0]["guid"], "broken-1");
    let id = ids(&by_guid)[0];
    let by_id = server.get(&format!("/api/deliveries/{id}")).await.1;
    assert_eq!(by_id["items"][0]["guid"], "broken-1");
    for (source, found) in [("webhook", stored), ("poller", 0)] {
        let path = format!("/api/deliveries?count=true&source={source}&from=1h");
        assert_eq!(server.get(&path).await.1["count"]["n"], found);
    }
    for wrong in ["guid=abc", "ids=1,x", "pr=x", "source=letter", "from=never"] {
        let answer = server.get(&format!("/api/deliveries?{wrong}")).await;
        assert_refused(&answer, 400, "bad_request");
    }
    let (_, inbox) = server.get("/api/inbox").await;
    let hours = inbox["hours"].as_array().unwrap();
    let received = hours
        .iter()
        .map(|hour| hour["deliveries"].as_u64().unwrap());
    assert_eq!((hours.len(), received.sum::<u64>()), (24, stored));
    server.stop().await;
}

#[tokio::test]
async fn refused_requests_are_counted_by_reason() {
    let server = TestServer::start().await;
    let refused = async || {
        let (_, inbox) = server.get("/api/inbox").await;
        let reasons = inbox["refused"]["reasons"].as_object().unwrap().clone();
        assert!(inbox["refused"]["since"].is_string());
        reasons.values().map(|n| n.as_u64().unwrap()).sum::<u64>()
    };
    let before = refused().await;
    let unsigned = server.http.post(format!("{}/webhooks/github", server.url));
    let refusal = unsigned.body("{}").send().await.unwrap();
    assert!(refusal.status().is_client_error());
    // Other tests of this process are refused, too.
    assert!(refused().await > before);
    server.stop().await;
}

#[tokio::test]
async fn check_says_what_would_change_and_changes_nothing() {
    let mut server = TestServer::start().await;
    let (world, lena) = (World::acme(), Account::user(1, "lena-acme"));
    let mut pr = Pr::new(
        &world,
        1,
        Some(&lena),
        "A title",
        "a-branch",
        "2026-03-02T09:00:00Z",
    );
    let event =
        |pr: &Pr, action| payloads::pull_request_event(pr, action, &lena, json!({})).to_string();
    let opened = event(&pr, "opened");
    pr.touch("2026-03-02T10:00:00Z");
    "Another title".clone_into(&mut pr.title);
    let edited = event(&pr, "edited");
    let commits = ("0123", "4567");
    let push = payloads::push_event(&world, "a-branch", commits, &lena, "2026-03-02T11:00:00Z");
    server
        .post("pull_request", "opened-1", opened.as_bytes())
        .await;
    server.drained().await;
    server
        .post("pull_request", "edited-1", edited.as_bytes())
        .await;
    server.drained().await;
    server.post("pull_request", "broken-1", BROKEN).await;
    server
        .post("push", "push-1", push.to_string().as_bytes())
        .await;
    server.drained().await;
    let check = async |guid: &str| {
        let (_, found) = server.get(&format!("/api/deliveries?guid={guid}")).await;
        let path = format!("/api/deliveries/{}/check", ids(&found)[0]);
        let (status, answer) = server.ask(Method::POST, &path, &json!({})).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let before = server.get("/api/deliveries").await;
    let known = json!({"decodes": true, "error": null, "would": "unchanged", "fields": []});
    assert_eq!(check("edited-1").await, known);
    // An older one has nothing new either.
    assert_eq!(check("opened-1").await, known);
    assert_eq!(check("push-1").await["would"], "ignored");
    let broken = check("broken-1").await;
    assert_eq!(
        (&broken["decodes"], &broken["would"]),
        (&json!(false), &Value::Null)
    );
    assert!(!broken["error"].as_str().unwrap().is_empty());
    assert_eq!(server.get("/api/deliveries").await, before);
    let missing = server
        .ask(Method::POST, "/api/deliveries/999/check", &json!({}))
        .await;
    assert_refused(&missing, 404, "not_found");
    // A server that knows nothing would learn it all.
    server
        .place
        .execute("DELETE FROM pull_requests WHERE number = 1")
        .await;
    let fields = check("edited-1").await;
    assert_eq!(fields["would"], "changed");
    for name in ["title", "author", "state", "head_sha"] {
        let fields = fields["fields"].as_array().unwrap();
        assert!(fields.contains(&json!(name)), "{name}: {fields:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn export_of_dead_letters_is_what_a_replay_posts() {
    let server = TestServer::start().await;
    server.post("pull_request", "broken-1", BROKEN).await;
    server
        .post("pull_request", "broken-2", b"{\n \"action\": \"opened\" }")
        .await;
    server.post("push", "broken-3", b"{}").await;
    let path = "/api/dead-letters/export?event=pull_request";
    let (status, media_type, lines) = text(&server, path).await;
    assert_eq!((status, media_type.as_str()), (200, "application/x-ndjson"));
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let guids: Vec<_> = lines.iter().map(|line| line["guid"].clone()).collect();
    assert_eq!(guids, ["broken-1", "broken-2"]);
    let headers = &lines[0]["request"]["headers"];
    assert_eq!(headers["X-GitHub-Event"], "pull_request");
    let payload = lines[0]["request"]["payload"].to_string();
    assert_eq!(payload.as_bytes(), BROKEN);
    let (_, found) = server.get("/api/deliveries?guid=broken-1").await;
    let one = format!("/api/deliveries/{}/export", ids(&found)[0]);
    let (_, _, line) = text(&server, &one).await;
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), lines[0]);
    let (status, _, _) = text(&server, "/api/dead-letters/export?evnet=x").await;
    assert_eq!(status, 400);
    assert_eq!(text(&server, "/api/deliveries/999/export").await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn dead_letters_are_discarded_together_for_a_reason() {
    let server = TestServer::start().await;
    for guid in ["one-1", "two-2", "three-3"] {
        server.post("pull_request", guid, BROKEN).await;
    }
    server.post("push", "push-1", b"{}").await;
    let discard = async |body: Value| {
        let path = "/api/dead-letters/discard";
        server.ask(Method::POST, path, &body).await
    };
    for wrong in [
        json!({"group": {"event": "push"}}),
        json!({"group": {"event": "push"}, "reason": "  "}),
        json!({"reason": "no selection"}),
        json!({"group": {}, "reason": "no selection"}),
        json!({"ids": [1], "all": true, "reason": "two selections"}),
        json!({"group": {"evnet": "push"}, "reason": "a typo"}),
    ] {
        assert_refused(&discard(wrong).await, 400, "bad_request");
    }
    let dead = server.get("/api/dead-letters?event=pull_request").await.1;
    let first = ids(&dead)[2];
    let done = |number: u64| (200, json!({"status": "discarded", "deliveries": number}));
    let by_id = json!({"ids": [first, 999], "reason": "a test"});
    assert_eq!(discard(by_id.clone()).await, done(1));
    assert_eq!(discard(by_id).await, done(0));
    let group = json!({"group": {"event": "pull_request"}, "reason": "not ours"});
    assert_eq!(discard(group).await, done(2));
    let (_, left) = server.get("/api/dead-letters?count=true&repo=none").await;
    assert_eq!(left["count"]["n"], 1);
    let (_, discarded) = server
        .get("/api/deliveries?discarded=true&count=true")
        .await;
    assert_eq!(discarded["count"]["n"], 3);
    assert_eq!(discarded["items"][0]["reason"], "discarded: not ours");
    let requeued = server
        .ask(
            Method::POST,
            "/api/dead-letters/requeue",
            &json!({"ids": [ids(&left)[0]]}),
        )
        .await;
    assert_eq!(requeued.1["deliveries"], 1);
    server.stop().await;
}

#[tokio::test]
async fn discarded_letter_names_the_person() {
    let server = TestServer::start().await;
    server.post("pull_request", "broken-1", BROKEN).await;
    let token = server.create_token_of("lena", AccessRole::Operator, Some("lena-acme"));
    let request = server
        .http
        .post(format!("{}/api/dead-letters/discard", server.url))
        .bearer_auth(token.await)
        .json(&json!({"all": true, "reason": "a test"}));
    assert_eq!(request.send().await.unwrap().status(), 200);
    let (_, discarded) = server.get("/api/deliveries?discarded=true").await;
    let reason = &discarded["items"][0]["reason"];
    assert_eq!(*reason, "discarded: a test (by lena-acme)");
    server.stop().await;
}
