//! The page of channels and of what was sent to them.

use testkit::TestServer;

use super::bearer::{assert_has, page};

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
