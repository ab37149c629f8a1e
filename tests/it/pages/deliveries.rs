//! The pages of deliveries: the list, its file, one delivery, and what of it is never markup.

use serde_json::Value;
use tallyhook_store::AccessRole;
use testkit::html::{Html, select, text_of};
use testkit::{TOKEN, TestServer};

use super::browser::Browser;

async fn with_fixtures() -> TestServer {
    let mut server = TestServer::start().await;
    for fixture in testkit::fixtures() {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server.post("push", "broken-push", b"{}").await;
    server.drained().await;
    server
}

fn rows(page: &str) -> usize {
    select(&Html::parse_document(page), "main tbody tr[id]").len()
}

#[tokio::test]
async fn list_counts_as_the_api_and_its_file_do() {
    let server = with_fixtures().await;
    let browser = Browser::signed_in(&server, TOKEN).await;
    for filters in [
        "",
        "state=ignored",
        "state=dead",
        "event=pull_request_review",
        "repo=acme-corp/api-server&pr=109",
        "source=poller",
        "guid=brok",
        "from=1h",
        "to=1h",
        "state=applied&event=pull_request&from=2026-01-01&source=webhook",
    ] {
        let (_, json) = server
            .get(&format!("/api/deliveries?count=true&{filters}"))
            .await;
        let expected = json["count"]["n"].as_u64().unwrap();
        let file = browser.get(&format!("/deliveries.csv?{filters}")).await;
        assert_eq!(file.body.lines().count() as u64, expected + 1, "{filters}");
        let (mut found, mut address) = (0, format!("/deliveries?{filters}"));
        loop {
            let answer = browser.get(&address).await;
            assert_eq!(answer.status, 200, "{address}");
            let page = Html::parse_document(&answer.body);
            let count = select(&page, "#count")[0].attr("data-count").unwrap();
            assert_eq!(count, expected.to_string(), "{address}");
            found += rows(&answer.body) as u64;
            let older = select(&page, "a[rel=next]");
            let Some(older) = older.first() else { break };
            address = format!("/deliveries{}", older.attr("href").unwrap());
        }
        assert_eq!(found, expected, "{filters}");
    }
    // A filter that cannot be is said in its place.
    let answer = browser.get("/deliveries?guid=abc").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.body.contains("give at least 4 characters"),
        "{}",
        answer.body
    );
    let answer = browser.get("/deliveries?reason=never").await;
    assert!(answer.body.contains("No stored delivery matches"));
    server.stop().await;
}

#[tokio::test]
async fn delivery_shows_what_came_and_what_became_of_it() {
    let server = with_fixtures().await;
    let browser = Browser::signed_in(&server, TOKEN).await;
    let (_, about) = server
        .get("/api/deliveries?repo=acme-corp/api-server&pr=109")
        .await;
    let id = about["items"][0]["id"].as_i64().unwrap();
    let guid = about["items"][0]["guid"].as_str().unwrap();
    let answer = browser.get(&format!("/deliveries/{id}?check=now")).await;
    let page = Html::parse_document(&answer.body);
    let text = text_of(select(&page, "main")[0]);
    assert!(text.contains(guid) && text.contains("applied"), "{text}");
    assert!(text.contains("Yes, and it would change nothing"), "{text}");
    assert_eq!(
        text_of(select(&page, "#replay")[0]),
        format!("tallyhook replay delivery-{id}.jsonl")
    );
    let pull_request = "a[href='/repos/acme-corp/api-server/prs/109']";
    assert_eq!(select(&page, pull_request).len(), 1);
    let payload = select(&page, "pre")[0].text().collect::<String>();
    let payload: Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(payload["number"], 109);

    let file = browser.get(&format!("/deliveries/{id}/payload")).await;
    assert_eq!(serde_json::from_str::<Value>(&file.body).unwrap(), payload);
    let disposition = format!("attachment; filename=\"delivery-{id}.json\"");
    assert_eq!(file.header("content-disposition"), disposition);
    assert_eq!(file.header("x-content-type-options"), "nosniff");
    let fixture = browser.get(&format!("/deliveries/{id}/fixture")).await;
    let line: Value = serde_json::from_str(&fixture.body).unwrap();
    assert_eq!(
        (&line["guid"], &line["request"]["payload"]),
        (&Value::from(guid), &payload)
    );
    for missing in [
        "/deliveries/999999",
        "/deliveries/x",
        "/deliveries/999999/payload",
    ] {
        assert_eq!(browser.get(missing).await.status, 404, "{missing}");
    }
    server
        .place
        .execute(&format!(
            "DELETE FROM delivery_bodies WHERE delivery_id = {id}"
        ))
        .await;
    let answer = browser.get(&format!("/deliveries/{id}?check=now")).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.body.contains("The payload is deleted since <time"),
        "{}",
        answer.body
    );
    assert!(!answer.body.contains("Download"));
    server.stop().await;
}

#[tokio::test]
async fn large_payload_is_shown_in_part() {
    let mut server = TestServer::start().await;
    let filler = "x".repeat(300_000);
    let body = format!(r#"{{"action":"opened","filler":"{filler}"}}"#);
    server
        .post("pull_request", "large-1", body.as_bytes())
        .await;
    server.drained().await;
    let browser = Browser::signed_in(&server, TOKEN).await;
    let answer = browser.get("/deliveries/1").await;
    assert!(answer.body.len() < 150_000, "{}", answer.body.len());
    assert!(
        answer
            .body
            .contains("Its beginning; all 300.0 kB are in the file.")
    );
    assert_eq!(browser.get("/deliveries/1/payload").await.body, body);
    server.stop().await;
}

#[tokio::test]
async fn hostile_payload_is_text_wherever_it_is_shown() {
    let mut server = TestServer::start().await;
    let body = r#"{"action":"</pre><script>alert(1)</script><img src=x onerror=alert(2)>",
        "repository":{"id":5,"full_name":"acme/\"><svg onload=alert(3)>"},"number":"<b>"}"#;
    server
        .post("pull_request", "<i>guid</i>", body.as_bytes())
        .await;
    server.drained().await;
    let browser = Browser::signed_in(&server, TOKEN).await;
    for address in [
        "/deliveries",
        "/deliveries/1",
        "/deliveries/1?check=now",
        "/dead-letters",
        "/dead-letters/discard?ids=1",
        "/deliveries?reason=%22%3E%3Cscript%3Ealert(4)%3C/script%3E",
        "/dead-letters?done=%3Cscript%3E&n=1&ids=1&reason=%3Cb%3E",
    ] {
        let answer = browser.get(address).await;
        assert_eq!(answer.status, 200, "{address}");
        let page = Html::parse_document(&answer.body);
        for element in [
            "main script",
            "main img",
            "main b",
            "main i",
            "[onload]",
            "[onerror]",
        ] {
            assert!(select(&page, element).is_empty(), "{address}: {element}");
        }
        for link in select(&page, "a[href]") {
            let href = link.attr("href").unwrap();
            assert!(href.starts_with(['/', '?', '#']), "{address}: {href}");
        }
    }
    let page = browser.get("/deliveries/1").await.body;
    let page = Html::parse_document(&page);
    let shown = select(&page, "pre")[0].text().collect::<String>();
    assert!(shown.contains("</pre><script>alert(1)</script>"), "{shown}");
    server.stop().await;
}

#[tokio::test]
async fn pages_of_operators_are_for_nobody_else() {
    let server = TestServer::start().await;
    server.post("push", "broken-1", b"{}").await;
    let addresses = [
        "/deliveries",
        "/deliveries.csv",
        "/deliveries/1",
        "/deliveries/1/payload",
        "/deliveries/1/fixture",
        "/dead-letters",
        "/dead-letters.csv",
        "/dead-letters/1",
        "/dead-letters/export",
        "/dead-letters/try?ids=1",
        "/dead-letters/discard?ids=1",
    ];
    let status = async |role: AccessRole, name: &str, expected: u16| {
        let token = server.create_token(name, role).await;
        let browser = Browser::signed_in(&server, &token).await;
        for address in addresses {
            let found = browser.get(address).await;
            assert_eq!(found.status, expected, "{name}: {address}");
            assert!(expected == 200 || !found.body.contains("broken-1"));
        }
        for address in ["/dead-letters/try", "/dead-letters/discard"] {
            let fields = [("ids", "999"), ("why", "a test")];
            let found = browser.submit(address, &fields).await;
            let expected = if expected == 200 { 303 } else { expected };
            assert_eq!(found.status, expected, "{name}: {address}");
        }
    };
    status(AccessRole::Viewer, "viewer", 403).await;
    status(AccessRole::Member, "member", 403).await;
    status(AccessRole::Admin, "the only team's admin", 200).await;
    let insert = "INSERT INTO teams (id, name) VALUES (2, 'other')";
    server.place.execute(insert).await;
    status(AccessRole::Admin, "admin", 403).await;
    status(AccessRole::Operator, "operator", 200).await;
    let unknown = Browser::unknown(&server);
    for address in addresses {
        assert_eq!(unknown.get(address).await.status, 303, "{address}");
    }
    server.stop().await;
}
