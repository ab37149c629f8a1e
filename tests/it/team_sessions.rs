//! Sessions of people and their sockets: cookies, fixation, expiry, and the end of a membership.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use serde_json::{Value, json};
use tallyhook::api::auth;
use tallyhook::app::ServerOptions;
use tallyhook_store::{AccessRole, NewSession, SessionOwner, SessionTimes, UserId};
use testkit::TestServer;
use testkit::socket::{request, with_header};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::teams::{Credential, FORM, ask, create_team, get, operator, signed_in, token_of};

/// Makes a link for a person without an account at GitHub, and returns its address.
async fn link(server: &TestServer, name: &str) -> String {
    let body = Some(json!({"name": name, "role": "viewer"}));
    let (_, made) = ask(server, &operator(), Method::POST, "/api/invitations", body).await;
    made["url"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn link_gives_a_new_session_whatever_the_browser_had_before() {
    let server = TestServer::start().await;
    let host = "tallyhook.example.com";
    let open = |url: &str| {
        let request = server.http.post(url).header(CONTENT_TYPE, FORM);
        request.header("Accept", "text/html").header("Host", host)
    };
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let http = http.build().unwrap();
    let send = async |request: reqwest::RequestBuilder| {
        let answer = http.execute(request.build().unwrap()).await.unwrap();
        let set = answer.headers().get(SET_COOKIE);
        let set = set.map(|set| set.to_str().unwrap().to_owned());
        (answer.status().as_u16(), set)
    };
    // Over plain HTTP elsewhere than on the server's machine there is no session.
    let url = link(&server, "Lena").await;
    let plain = open(&url).header("Origin", format!("http://{host}"));
    assert_eq!(send(plain).await, (403, None));
    let own = format!("https://{host}");
    let planted = format!("__Host-tallyhook={}", "a".repeat(64));
    let csrf = hex::encode(sha2_of(&format!("csrf {}", "a".repeat(64))));
    let forged = open(&url).header("Origin", &own).header(COOKIE, &planted);
    assert_eq!(
        send(forged).await,
        (403, None),
        "a form has the token of its page"
    );
    let with_token = open(&url)
        .header("Origin", &own)
        .header(COOKIE, &planted)
        .body(format!("csrf_token={csrf}"));
    let (status, set) = send(with_token).await;
    assert_eq!(status, 303);
    let set = set.unwrap();
    let (pair, attributes) = set.split_once("; ").unwrap();
    assert_eq!(
        attributes,
        "Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax; Secure"
    );
    assert!(
        pair.starts_with("__Host-tallyhook=") && pair != planted,
        "{pair}"
    );
    let status = async |cookie: &str| {
        let request = server.http.get(format!("{}/api/me", server.url));
        let answer = request.header(COOKIE, cookie).header("Host", host);
        answer.send().await.unwrap().status().as_u16()
    };
    assert_eq!((status(pair).await, status(&planted).await), (200, 401));
    // The next one of the same browser ends the session before.
    let value = pair.split_once('=').unwrap().1;
    let csrf = hex::encode(sha2_of(&format!("csrf {value}")));
    let url = link(&server, "Ada").await;
    let second = open(&url)
        .header("Origin", &own)
        .header(COOKIE, pair)
        .body(format!("csrf_token={csrf}"));
    let (_, set) = send(second).await;
    let set = set.unwrap();
    let second = set.split(';').next().unwrap();
    assert_eq!((status(pair).await, status(second).await), (401, 200));
    server.stop().await;
}

fn sha2_of(text: &str) -> [u8; 32] {
    // The digest of a token is a plain one.
    auth::hash(text)
}

#[tokio::test]
async fn session_of_a_person_ends_with_its_time_and_without_use() {
    let server = TestServer::start().await;
    let (user, _) = signed_in(&server, "default", "Lena", AccessRole::Viewer).await;
    let started = async |value: &str, used_at: DateTime<Utc>, expires_at: DateTime<Utc>| {
        let times = SessionTimes {
            now: used_at,
            idle_since: DateTime::UNIX_EPOCH,
        };
        let new = NewSession {
            hash: &auth::hash(value),
            owner: SessionOwner::Person(UserId(user)),
            team: None,
            expires_at,
            agent: None,
            replaces: None,
        };
        let store = &server.running.store;
        store.start_session(&new, times).await.unwrap();
        let cookie = Credential::Cookie(format!("tallyhook={value}"));
        get(&server, &cookie, "/api/me").await.0
    };
    let now = Utc::now();
    let (minute, week, month) = (
        TimeDelta::minutes(1),
        TimeDelta::days(7),
        TimeDelta::days(30),
    );
    assert_eq!(started("idle", now - week - minute, now + month).await, 401);
    assert_eq!(started("used", now - week + minute, now + month).await, 200);
    assert_eq!(started("over", now, now).await, 401);
    assert_eq!(started("lasts", now, now + minute).await, 200);
    server.stop().await;
}

#[tokio::test]
async fn socket_is_of_one_team_and_closes_when_its_caller_leaves_it() {
    let server = TestServer::start_with(ServerOptions {
        heartbeat: Duration::from_millis(200),
        ..ServerOptions::default()
    })
    .await;
    let apps = create_team(&server, "apps").await;
    let store = &server.running.store;
    let (user, lena) = signed_in(&server, "default", "Lena", AccessRole::Viewer).await;
    let added = store.add_member(apps, UserId(user), AccessRole::Viewer, Utc::now());
    added.await.unwrap();
    let ticket = async |by: &Credential, team: &str| -> String {
        let path = format!("/api/teams/{team}/ws-ticket");
        let (status, answer) = ask(&server, by, Method::POST, &path, None).await;
        assert_eq!(status, 201, "{answer}");
        format!("?ticket={}", answer["ticket"].as_str().unwrap())
    };
    let connect = async |query: &str| {
        let connected = tokio_tungstenite::connect_async(request(&server, query)).await;
        connected.map(|(socket, _)| socket)
    };
    let mut of_apps = connect(&ticket(&lena, "apps").await).await.unwrap();
    let unused = ticket(&lena, "apps").await;
    let other = format!("{}&team=default", ticket(&lena, "apps").await);
    let Credential::Cookie(cookie) = &lena else {
        panic!("it is a session")
    };
    let by_cookie = |query: &str| {
        let asked = with_header(request(&server, query), "cookie", cookie);
        with_header(asked, "origin", &server.url)
    };
    let (mut of_default, _) = tokio_tungstenite::connect_async(by_cookie("?team=default"))
        .await
        .unwrap();
    let refused = async |asked| match tokio_tungstenite::connect_async(asked).await {
        Err(Error::Http(answer)) => answer.status().as_u16(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(request(&server, &other)).await, 404);
    assert_eq!(refused(by_cookie("?team=none")).await, 404);
    let stranger = token_of(&server, apps, "theirs", AccessRole::Admin).await;
    let Credential::Token(token) = &stranger else {
        panic!("it is a token")
    };
    let bearer = format!("Bearer {token}");
    let asked = request(&server, "?team=default");
    assert_eq!(
        refused(with_header(asked, "authorization", &bearer)).await,
        404
    );

    store.remove_member(apps, UserId(user)).await.unwrap();
    assert_eq!(refused(request(&server, &unused)).await, 404);
    let closed = loop {
        match of_apps.next().await.unwrap().unwrap() {
            Message::Close(closed) => break closed.unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(u16::from(closed.code), 4403);
    // That of the other team goes on.
    match of_default.next().await.unwrap().unwrap() {
        Message::Ping(_) => {}
        other => panic!("{other:?}"),
    }
    let (_, me) = get(&server, &lena, "/api/me").await;
    assert_eq!(me["team"], Value::from("default"));
    server.stop().await;
}
