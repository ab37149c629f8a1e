//! The page of channels and of what was sent to them.

use reqwest::Method;
use serde_json::json;
use tallyhook::app::ServerOptions;
use tallyhook::config::{ChannelConfig, ChannelFilter, ChannelHours, ChannelReceiver};
use testkit::receiver::{Receiver, Reply};
use testkit::{Place, TOKEN, TestServer, eventually};

use super::bearer::{assert_has, form_as, page};

#[tokio::test]
async fn without_a_channel_the_page_names_the_settings() {
    let server = TestServer::start().await;
    let shown = page(&server, "/channels").await;
    assert_has(
        &shown,
        &[
            "No channel is configured",
            "SLACK_WEBHOOK_URL",
            "Nothing was sent yet",
        ],
    );
    server.stop().await;
}

#[tokio::test]
async fn channel_shows_what_was_sent_and_sends_a_test() {
    let receiver = Receiver::start().await;
    let place = Place::new().await;
    let mut config = testkit::config(&place);
    config.notify.channels = vec![ChannelConfig {
        name: "ops".to_owned(),
        team: None,
        receiver: ChannelReceiver::Webhook { secret: None },
        url: format!("{}/carrot-path", receiver.url),
        filter: ChannelFilter::default(),
        hours: ChannelHours::default(),
    }];
    let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    let task = json!({"title": "Sort the queue", "key": "SORT-7"});
    server.ask(Method::POST, "/api/tasks", &task).await;
    let moved = json!({"status": "DONE"});
    server.ask(Method::PATCH, "/api/tasks/SORT-7", &moved).await;
    let sent = r#"<a href="/channels?channel=ops&amp;state=sent" data-count>1</a>"#;
    eventually("the notification is sent", async || {
        page(&server, "/channels").await.contains(sent)
    })
    .await;
    let log = page(&server, "/channels?channel=ops&state=sent").await;
    assert_has(
        &log,
        &[
            r#"id="count" data-count="1""#,
            "SORT-7 is DONE",
            "Send a test",
        ],
    );
    assert!(!log.contains("carrot-path"), "{log}");
    let none = page(&server, "/channels?channel=ops&state=dead").await;
    assert_has(&none, &[r#"data-count="0""#, "None matches"]);

    let (status, _, shown) = form_as(&server, TOKEN, "/channels/ops/test", &[]).await;
    assert_eq!(status, 200);
    assert_has(&shown, &["accepted it"]);
    receiver.replies([Reply::Status(404, "", "")]);
    let (_, _, shown) = form_as(&server, TOKEN, "/channels/ops/test", &[]).await;
    assert_has(&shown, &["did not accept it"]);
    assert_eq!(
        form_as(&server, TOKEN, "/channels/none/test", &[]).await.0,
        404
    );
    server.stop().await;
}
