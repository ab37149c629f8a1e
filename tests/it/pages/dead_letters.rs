//! Dead letters without JavaScript: from a group to its last letter, by forms and links alone.

use serde_json::{Value, json};
use tallyhook_store::AccessRole;
use testkit::html::{Html, select, text_of};
use testkit::{TOKEN, TestServer};

use super::browser::{Browser, Seen};

const BROKEN: &[u8] = br#"{"action":"opened","number":7}"#;

/// Reads a form of a page: where it leads, and its hidden fields.
fn form(page: &str, button: &str) -> (String, Vec<(String, String)>) {
    let page = Html::parse_document(page);
    let forms = select(&page, "main form");
    let form = forms.into_iter().find(|form| {
        let mut buttons = form.descendent_elements();
        buttons.any(|one| one.value().name() == "button" && text_of(one) == button)
    });
    let form = form.unwrap_or_else(|| panic!("no form has the button {button}"));
    let fields = form
        .descendent_elements()
        .filter(|field| field.attr("type") == Some("hidden"))
        .map(|field| {
            let of = |name| field.attr(name).unwrap_or_default().to_owned();
            (of("name"), of("value"))
        });
    let fields = fields.filter(|(name, _)| name != "csrf_token").collect();
    (form.attr("action").unwrap().to_owned(), fields)
}

/// Returns the address of the link with this text.
fn link(page: &str, text: &str) -> String {
    let page = Html::parse_document(page);
    let links = select(&page, "main a[href]");
    let found = links.into_iter().find(|link| text_of(*link) == text);
    let found = found.unwrap_or_else(|| panic!("no link {text}"));
    found.attr("href").unwrap().to_owned()
}

fn main_text(page: &str) -> String {
    let page = Html::parse_document(page);
    text_of(select(&page, "main")[0])
}

/// Presses a button of a page, with more fields, and returns where it leads to.
async fn press(browser: &Browser, page: &str, button: &str, more: &[(&str, &str)]) -> String {
    let (action, fields) = form(page, button);
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .chain(more.iter().copied())
        .collect();
    let answer = browser.submit(&action, &fields).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    answer.header("location").to_owned()
}

async fn shown(browser: &Browser, address: &str) -> String {
    let Seen { status, body, .. } = browser.get(address).await;
    assert_eq!(status, 200, "{address}: {body}");
    body
}

#[tokio::test]
async fn group_is_tried_and_discarded_by_forms_alone() {
    let mut server = TestServer::start().await;
    let token = server.create_token_of("lena", AccessRole::Operator, Some("lena-acme"));
    let browser = Browser::signed_in(&server, &token.await).await;
    let empty = main_text(&shown(&browser, "/dead-letters").await);
    assert!(empty.contains("None was discarded in the time"), "{empty}");
    for guid in ["one-1", "two-2", "three-3"] {
        server.post("pull_request", guid, BROKEN).await;
    }
    server.post("push", "push-1", b"{}").await;
    server.drained().await;

    let page = shown(&browser, "/dead-letters").await;
    let group = link(&page, "3");
    assert_eq!(main_text(&page).matches("Try one first").count(), 1);
    // The newest of the group is tried, and the rest is offered.
    let results = press(&browser, &page, "Try one first", &[]).await;
    server.drained().await;
    let page = shown(&browser, &results).await;
    let text = main_text(&page);
    assert!(
        text.contains("1 dead letter was tried again.Now: 1 dead again."),
        "{text}"
    );
    let (_, third) = server.get("/api/dead-letters/3").await;
    assert_eq!(
        (&third["guid"], &third["attempts"]),
        (&json!("three-3"), &json!(1))
    );
    // A reload only reads.
    assert_eq!(main_text(&shown(&browser, &results).await), text);
    assert_eq!(server.get("/api/dead-letters/3").await.1["attempts"], 1);

    let asked = shown(&browser, &link(&page, "Try all ...")).await;
    assert!(
        main_text(&asked).contains("This is about 3 dead letters"),
        "{}",
        main_text(&asked)
    );
    // Another one arrives while the operator reads.
    server.post("pull_request", "four-4", BROKEN).await;
    let results = press(&browser, &asked, "Try them again", &[]).await;
    server.drained().await;
    let text = main_text(&shown(&browser, &results).await);
    let said = "4 dead letters were tried again. There were 3 when you were asked; it changed since.\
                Now: 4 dead again.";
    assert!(text.contains(said), "{text}");

    let asked = shown(
        &browser,
        &link(&shown(&browser, &group).await, "Discard ..."),
    )
    .await;
    let (action, fields) = form(&asked, "Discard them");
    let fields: Vec<_> = fields
        .iter()
        .map(|(one, two)| (one.as_str(), two.as_str()))
        .collect();
    assert_eq!(browser.submit(&action, &fields).await.status, 400);
    let results = press(&browser, &asked, "Discard them", &[("why", "not ours")]).await;
    let text = main_text(&shown(&browser, &results).await);
    assert!(
        text.contains("4 dead letters were discarded.Now: 4 ignored."),
        "{text}"
    );
    assert!(
        text.contains("discarded: not ours (by lena-acme)"),
        "{text}"
    );
    assert!(
        text.contains("No dead letter of this group is left."),
        "{text}"
    );
    // The same form again finds nothing to do.
    let again = press(&browser, &asked, "Discard them", &[("why", "again")]).await;
    let text = main_text(&shown(&browser, &again).await);
    assert!(
        text.contains("0 dead letters were discarded. They were no dead letters"),
        "{text}"
    );
    // The other group is as it was.
    let (_, left) = server.get("/api/dead-letters?count=true").await;
    assert_eq!(
        (&left["count"]["n"], &left["items"][0]["guid"]),
        (&json!(1), &json!("push-1"))
    );
    server.stop().await;
}

#[tokio::test]
async fn chosen_letters_are_decided_and_others_stay() {
    let mut server = TestServer::start().await;
    for guid in ["one-1", "two-2", "three-3"] {
        server.post("pull_request", guid, BROKEN).await;
    }
    server.drained().await;
    let browser = Browser::signed_in(&server, TOKEN).await;
    // A form without a script sends each chosen box.
    let asked = shown(&browser, "/dead-letters/discard?id=1&id=3").await;
    assert!(main_text(&asked).contains("This is about 2 dead letters"));
    let page = Html::parse_document(&asked);
    let list = select(&page, "main a[data-count]")[0].attr("href").unwrap();
    let rows = shown(&browser, list).await;
    assert_eq!(
        select(&Html::parse_document(&rows), "main tbody tr[id]").len(),
        2
    );
    let results = press(&browser, &asked, "Discard them", &[("why", "a test")]).await;
    assert!(main_text(&shown(&browser, &results).await).contains("2 dead letters were discarded"));
    let (_, left) = server.get("/api/dead-letters").await;
    assert_eq!(left["items"][0]["guid"], "two-2");
    let asked = shown(&browser, "/dead-letters/try?id=1").await;
    assert!(main_text(&asked).contains("None of them is a dead letter now"));
    let tried = shown(&browser, "/deliveries/2").await;
    assert!(main_text(&tried).contains("It was not attempted: it cannot be read."));
    let results = press(&browser, &tried, "Try again", &[]).await;
    server.drained().await;
    let text = main_text(&shown(&browser, &results).await);
    assert!(
        text.contains("1 dead letter was tried again.Now: 1 dead again."),
        "{text}"
    );
    server.stop().await;
}

#[tokio::test]
async fn export_of_a_group_is_posted_again_by_a_replay() {
    let mut server = TestServer::start().await;
    for guid in ["one-1", "two-2"] {
        server.post("pull_request", guid, BROKEN).await;
    }
    server.post("push", "push-1", b"{}").await;
    server.drained().await;
    let browser = Browser::signed_in(&server, TOKEN).await;
    let page = shown(
        &browser,
        &link(&shown(&browser, "/dead-letters").await, "2"),
    )
    .await;
    let file = browser.get(&link(&page, "Export")).await;
    assert_eq!(file.header("content-type"), "application/x-ndjson");
    assert_eq!(
        file.header("content-disposition"),
        "attachment; filename=\"dead-letters.jsonl\""
    );
    let lines: Vec<Value> = file
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // As `tallyhook replay` posts it, to a server that has none of it.
    let other = TestServer::start().await;
    for line in &lines {
        let headers = &line["request"]["headers"];
        let payload = line["request"]["payload"].to_string();
        let (status, answer) = other
            .post(
                headers["X-GitHub-Event"].as_str().unwrap(),
                headers["X-GitHub-Delivery"].as_str().unwrap(),
                payload.as_bytes(),
            )
            .await;
        assert_eq!(
            (status, &answer["status"]),
            (202, &json!("accepted")),
            "{answer}"
        );
    }
    let (_, dead) = other.get("/api/dead-letters?count=true").await;
    assert_eq!(dead["count"]["n"], 2);
    let csv = browser.get("/dead-letters.csv?event=pull_request").await;
    assert_eq!(csv.body.lines().count(), 3, "{}", csv.body);
    other.stop().await;
    server.stop().await;
}
