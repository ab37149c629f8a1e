//! The page of the settings: tokens, sessions, and what is set where, without a secret.

use tallyhook::app::ServerOptions;
use tallyhook::config::{Config, SettingSources};
use tallyhook_github_client::hooks::HookSecret;
use tallyhook_store::AccessRole;
use testkit::{Place, TOKEN, TestServer, config};

use super::bearer::{assert_has, form, form_as, page, page_as};

/// The secrets of the settings below.
const SECRETS: [&str; 4] = [
    "carrot-webhook-secret",
    "ghp_carrot_token_0123456789",
    "hooks.example.com/carrot-path",
    "carrot-signing-secret",
];

#[tokio::test]
async fn settings_name_what_is_set_and_show_no_secret() {
    let place = Place::new().await;
    let sources = SettingSources::default()
        .with_flag("GITHUB_WEBHOOK_SECRET", Some(SECRETS[0]))
        .with_flag("GITHUB_TOKEN", Some(SECRETS[1]))
        .with_flag(
            "NOTIFY_WEBHOOK_URL",
            Some(format!("https://{}", SECRETS[2])),
        )
        .with_flag("NOTIFY_WEBHOOK_SECRET", Some(SECRETS[3]))
        .with_flag("BOT_LOGINS", Some("carol-bot"));
    let parsed = Config::new(&sources).ok().unwrap();
    let Config {
        origins,
        numbers,
        notify,
        github_credentials,
        ..
    } = parsed;
    let config = Config {
        origins,
        numbers,
        notify,
        github_credentials,
        hook_secret: HookSecret::first_of(SECRETS[0]),
        ..config(&place)
    };
    let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    let (status, answer) = server.get("/api/settings").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["github"]["access"], "token");
    assert_eq!(answer["bots"], serde_json::json!(["carol-bot"]));
    let shown = page(&server, "/settings").await;
    assert_has(
        &shown,
        &[
            "<code>GITHUB_TOKEN</code>",
            "<code>NOTIFY_WEBHOOK_SECRET</code>",
            "carol-bot",
            "off. On, it would open the pull request of a task",
            "Apache-2.0",
            "There is no calendar",
        ],
    );
    let channels = page(&server, "/channels").await;
    for text in [
        answer.to_string(),
        shown,
        channels,
        page(&server, "/health").await,
    ] {
        for secret in SECRETS.iter().chain([&TOKEN]) {
            assert!(!text.contains(secret), "{secret} is in:\n{text}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn token_is_shown_once_and_revoked_after_a_confirmation() {
    let server = TestServer::start().await;
    let fields = [
        ("name", "ci bot+1"),
        ("role", "member"),
        ("login", ""),
        ("expires_days", ""),
    ];
    let (status, _, created) = form_as(&server, TOKEN, "/settings/tokens", &fields).await;
    assert_eq!(status, 200, "{created}");
    let token = created.split(r#"<code id="new-token">"#).nth(1).unwrap();
    let token = token.split('<').next().unwrap().to_owned();
    assert_has(&created, &[r#"data-copy="new-token""#]);
    assert_eq!(page_as(&server, &token, "/settings").await.0, 200);
    let shown = page(&server, "/settings").await;
    assert_has(&shown, &["ci bot+1", "no end"]);
    assert!(!shown.contains(&token));
    let address = shown
        .split(r#"href=""#)
        .find(|rest| rest.contains("/revoke\""));
    let address = address.unwrap().split('"').next().unwrap().to_owned();
    assert_has(&page(&server, &address).await, &["Revoke it", "ci bot+1"]);
    assert_eq!(form(&server, &address, &[]).await, "/settings");
    assert_eq!(page_as(&server, &token, "/settings").await.0, 303);
    assert_has(&page(&server, "/settings").await, &["revoked "]);
    for wrong in [
        [("name", "x"), ("role", "operator"), ("expires_days", "")],
        [("name", ""), ("role", "viewer"), ("expires_days", "")],
        [("name", "x"), ("role", "viewer"), ("expires_days", "0")],
    ] {
        let refused = form_as(&server, TOKEN, "/settings/tokens", &wrong).await;
        assert_eq!(refused.0, 400, "{wrong:?}: {}", refused.2);
    }
    let viewer = server.create_token("viewer", AccessRole::Viewer).await;
    let (_, seen) = page_as(&server, &viewer, "/settings").await;
    assert!(
        !seen.contains("Create a token") && !seen.contains("DATABASE_URL"),
        "{seen}"
    );
    assert_has(&seen, &["Your sessions", "shown to admins"]);
    assert_eq!(page_as(&server, &viewer, "/api/settings").await.0, 403);
    server.stop().await;
}
