//! Sessions: signing in and out, theft, fixation, forged requests, and their end.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use reqwest::header::{
    ACCEPT, ALLOW, CONTENT_TYPE, COOKIE, LOCATION, RETRY_AFTER, SET_COOKIE, VARY,
};
use reqwest::{Method, RequestBuilder, Response, redirect};
use serde_json::{Value, json};
use std::time::Duration;
use tallyhook::api::auth;
use tallyhook::app::ServerOptions;
use tallyhook_store::{AccessRole, DEFAULT_TEAM, NewSession, SessionOwner, SessionTimes};
use testkit::conformity::operations;
use testkit::socket::{request, with_header};
use testkit::{TOKEN, TestServer, assert_refused};
use tokio_tungstenite::tungstenite::{self, Message};

const FORM: &str = "application/x-www-form-urlencoded";

/// Sends a request as a browser that does not follow where it is sent.
fn post(server: &TestServer, path: &str) -> RequestBuilder {
    let http = reqwest::Client::builder().redirect(redirect::Policy::none());
    http.build().unwrap().post(format!("{}{path}", server.url))
}

fn login(server: &TestServer, token: &str) -> RequestBuilder {
    let form = format!("token={token}");
    post(server, "/login").header(CONTENT_TYPE, FORM).body(form)
}

/// Returns name and value of the cookie that an answer sets.
fn cookie(response: &Response) -> String {
    let set = response.headers()[SET_COOKIE].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

/// Signs in, and returns the cookie and the answer.
async fn session(server: &TestServer, token: &str) -> (String, Value) {
    let response = login(server, token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    (cookie(&response), response.json().await.unwrap())
}

async fn refusal(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    assert!(response.headers().get(SET_COOKIE).is_none());
    (response.status().as_u16(), response.json().await.unwrap())
}

fn by_cookie(server: &TestServer, method: Method, path: &str, cookie: &str) -> RequestBuilder {
    let request = server.http.request(method, format!("{}{path}", server.url));
    request.header(COOKIE, cookie)
}

async fn status(server: &TestServer, cookie: &str) -> u16 {
    let request = by_cookie(server, Method::GET, "/api/me", cookie);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn token_starts_a_session_with_its_rights() {
    let server = TestServer::start().await;
    let viewer = server.create_token("viewer", AccessRole::Viewer).await;
    let response = login(&server, &viewer).send().await.unwrap();
    let set = response.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    let (pair, attributes) = set.split_once("; ").unwrap();
    assert_eq!(
        attributes,
        "Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"
    );
    let value = pair.strip_prefix("tallyhook=").unwrap().to_owned();
    assert_eq!(value.len(), 64);
    let headers = response.headers();
    assert_eq!(headers["Cache-Control"], "no-store");
    assert_eq!(headers["Cross-Origin-Resource-Policy"], "same-origin");
    assert_eq!(headers["Referrer-Policy"], "same-origin");
    let answered: Value = response.json().await.unwrap();
    assert!(!answered.to_string().contains(&value) && !answered.to_string().contains(&viewer));

    let response = by_cookie(&server, Method::GET, "/api/me", pair)
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()[VARY], "Accept, Authorization, Cookie");
    let me: Value = response.json().await.unwrap();
    assert_eq!(me, answered);
    assert_eq!(
        (&me["kind"], &me["role"]),
        (&json!("session"), &json!("viewer"))
    );
    let refused = by_cookie(&server, Method::GET, "/api/tokens", pair);
    assert_refused(&refusal(refused).await, 403, "forbidden");
    // A cookie is no token, and a token no cookie.
    for request in [
        server
            .http
            .get(format!("{}/api/me", server.url))
            .bearer_auth(&value),
        by_cookie(
            &server,
            Method::GET,
            "/api/me",
            &format!("tallyhook={viewer}"),
        ),
    ] {
        assert_refused(&refusal(request).await, 401, "unauthorized");
    }
    let place = server.stop().await;
    for file in std::fs::read_dir(place.path()).unwrap() {
        let path = file.unwrap().path();
        let stored = std::fs::read(&path).unwrap_or_default();
        let has = |text: &str| {
            stored
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        assert!(!has(&value) && !has(&viewer), "{}", path.display());
    }
}

#[tokio::test]
async fn browser_is_sent_on_with_a_secure_cookie() {
    let server = TestServer::start().await;
    let response = login(&server, &format!("{TOKEN}&next=/prs%3Fstate%3Dopen"))
        .header(ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8")
        .header("Host", "tallyhook.example.com")
        .header("Origin", "https://tallyhook.example.com")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 303);
    assert_eq!(response.headers()[LOCATION], "/prs?state=open");
    let set = response.headers()[SET_COOKIE].to_str().unwrap();
    assert!(
        set.starts_with("__Host-tallyhook=") && set.ends_with("; SameSite=Lax; Secure"),
        "{set}"
    );
    let cookie = cookie(&response);
    assert_eq!(status(&server, &cookie).await, 200);
    // The name without the prefix could be of another host of the domain.
    let plain = cookie.replace("__Host-", "");
    let request = by_cookie(&server, Method::GET, "/api/me", &plain);
    let request = request.header("Host", "tallyhook.example.com");
    assert_refused(&refusal(request).await, 401, "unauthorized");
    server.stop().await;
}

#[tokio::test]
async fn value_that_was_there_before_the_login_is_never_taken_up() {
    let server = TestServer::start().await;
    let planted = format!("tallyhook={}", "a".repeat(64));
    let own = format!("http://{}", server.running.address);
    let response = login(&server, TOKEN)
        .header(COOKIE, &planted)
        .header("Origin", &own)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let first = cookie(&response);
    assert!(first != planted && status(&server, &planted).await == 401);
    // The next login of the same browser ends its session before.
    let response = login(&server, TOKEN)
        .header(COOKIE, &first)
        .header("Origin", &own)
        .send()
        .await
        .unwrap();
    let second = cookie(&response);
    assert_eq!(
        (
            status(&server, &first).await,
            status(&server, &second).await
        ),
        (401, 200)
    );
    server.stop().await;
}

#[tokio::test]
async fn cookie_is_worth_nothing_after_the_logout() {
    let server = TestServer::start().await;
    let own = format!("http://{}", server.running.address);
    let logout = |cookie: &str| {
        let request = post(&server, "/logout").header(COOKIE, cookie);
        request.header("Origin", &own)
    };
    let (stolen, _) = session(&server, TOKEN).await;
    let (other, me) = session(&server, TOKEN).await;
    let response = logout(&stolen).send().await.unwrap();
    assert_eq!(response.status(), 204);
    let set = response.headers()[SET_COOKIE].to_str().unwrap();
    assert!(set.starts_with("tallyhook=; Path=/; Max-Age=0;"), "{set}");
    assert_eq!(
        (
            status(&server, &stolen).await,
            status(&server, &other).await
        ),
        (401, 200)
    );
    assert_eq!(logout(&stolen).send().await.unwrap().status(), 204);

    // A form has the token of its page.
    let form = |fields: String| logout(&other).header(CONTENT_TYPE, FORM).body(fields);
    for fields in ["", "csrf_token=", "csrf_token=abc"] {
        assert_refused(&refusal(form(fields.to_owned())).await, 403, "forbidden");
    }
    assert_eq!(status(&server, &other).await, 200);
    let fields = format!("csrf_token={}", me["csrf_token"].as_str().unwrap());
    let response = form(fields)
        .header(ACCEPT, "text/html")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 303);
    assert_eq!(response.headers()[LOCATION], "/login");
    assert_eq!(status(&server, &other).await, 401);
    server.stop().await;
}

#[tokio::test]
async fn request_that_another_site_makes_is_refused() {
    let server = TestServer::start().await;
    let (cookie, me) = session(&server, TOKEN).await;
    let own = format!("http://{}", server.running.address);
    let port = server.running.address.port();
    let other_port = format!("http://127.0.0.1:{}", port ^ 1);
    let ask = |headers: &[(&'static str, &str)]| {
        let mut request = by_cookie(&server, Method::DELETE, "/api/tokens/none", &cookie);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
    };
    for refused in [
        &[][..],
        &[("Origin", "https://evil.example.net")],
        &[("Origin", &other_port)],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "none")],
        &[
            ("Origin", "https://evil.example.net"),
            ("Sec-Fetch-Site", "same-origin"),
        ],
        // A media type that a form of any site can send needs the token of the page, too.
        &[("Origin", &own), ("Content-Type", "text/plain")],
        &[
            ("Origin", &own),
            ("Content-Type", "multipart/form-data; boundary=x"),
        ],
        &[
            ("Origin", &own),
            ("Content-Type", FORM),
            ("X-CSRF-Token", "x"),
        ],
    ] {
        assert_refused(&refusal(ask(refused)).await, 403, "forbidden");
    }
    let token = me["csrf_token"].as_str().unwrap();
    for taken in [
        &[("Origin", &*own)][..],
        &[("Sec-Fetch-Site", "same-origin")],
        &[("Origin", &own), ("Content-Type", "application/json")],
        &[
            ("Origin", &own),
            ("Content-Type", FORM),
            ("X-CSRF-Token", token),
        ],
    ] {
        assert_refused(&refusal(ask(taken)).await, 404, "not_found");
    }
    // A token is sent on purpose, and a read changes nothing.
    let by_token = ask(&[("Origin", "https://evil.example.net")]).bearer_auth(TOKEN);
    assert_refused(&refusal(by_token).await, 404, "not_found");
    let read = by_cookie(&server, Method::GET, "/api/me", &cookie);
    let read = read
        .header("Origin", "https://evil.example.net")
        .send()
        .await
        .unwrap();
    assert_eq!(read.status(), 200);
    assert!(read.headers().get("Access-Control-Allow-Origin").is_none());
    assert_eq!(
        read.headers()["Cross-Origin-Resource-Policy"],
        "same-origin"
    );
    server.stop().await;
}

#[tokio::test]
async fn login_is_refused_to_other_sites_and_over_plain_http_elsewhere() {
    let server = TestServer::start().await;
    let host = "tallyhook.example.com";
    for headers in [
        &[("Origin", "https://evil.example.net")][..],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Host", host), ("Origin", "http://tallyhook.example.com")],
        &[
            ("Host", host),
            ("Origin", "http://tallyhook.example.com:80"),
        ],
        // A browser that has a session states its origin.
        &[("Cookie", "tallyhook=abc")],
    ] {
        let mut request = login(&server, TOKEN);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        assert_refused(&refusal(request).await, 403, "forbidden");
    }
    let post = |media_type: &str, body: String| {
        let request = server.http.post(format!("{}/login", server.url));
        request.header(CONTENT_TYPE, media_type).body(body)
    };
    for (media_type, body, status, code) in [
        (FORM, String::new(), 400, "bad_request"),
        (FORM, "token=".to_owned(), 400, "bad_request"),
        (
            FORM,
            format!("token={}", "a".repeat(5000)),
            413,
            "too_large",
        ),
        (
            "application/json",
            json!({"token": TOKEN}).to_string(),
            415,
            "unsupported_media_type",
        ),
    ] {
        assert_refused(&refusal(post(media_type, body)).await, status, code);
    }
    let put = server.http.put(format!("{}/login", server.url));
    let put = put.send().await.unwrap();
    assert_eq!(
        (put.status().as_u16(), &put.headers()[ALLOW]),
        (405, &"POST, GET, HEAD".parse().unwrap())
    );
    server.stop().await;
}

#[tokio::test]
async fn wrong_tokens_of_the_login_pause_and_a_valid_one_passes() {
    let server = TestServer::start().await;
    for _ in 0..20 {
        assert_refused(&refusal(login(&server, "wrong")).await, 401, "unauthorized");
    }
    let response = login(&server, "wrong").send().await.unwrap();
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key(RETRY_AFTER));
    // Guesses of cookies and of tokens are counted together.
    let guess = by_cookie(&server, Method::GET, "/api/me", "tallyhook=abc");
    assert_refused(&refusal(guess).await, 429, "too_many_wrong_tokens");
    assert_eq!(login(&server, TOKEN).send().await.unwrap().status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn session_ends_with_its_token_its_time_and_without_use() {
    let server = TestServer::start().await;
    let store = &server.running.store;
    let token = server.create_token("leaver", AccessRole::Viewer).await;
    let (cookie, _) = session(&server, &token).await;
    assert_eq!(status(&server, &cookie).await, 200);
    assert!(
        store
            .revoke_token(DEFAULT_TEAM.0, "leaver", Utc::now())
            .await
            .unwrap()
    );
    assert_eq!(status(&server, &cookie).await, 401);

    // A new token of the same name does not bring it back.
    server.create_token("leaver", AccessRole::Viewer).await;
    assert_eq!(status(&server, &cookie).await, 401);

    let started = async |value: &str, used_at: DateTime<Utc>, expires_at: DateTime<Utc>| {
        let times = SessionTimes {
            now: used_at,
            idle_since: DateTime::UNIX_EPOCH,
        };
        let new = NewSession {
            hash: &auth::hash(value),
            owner: SessionOwner::Token(auth::hash(TOKEN)),
            team: None,
            expires_at,
            agent: None,
            replaces: None,
        };
        store.start_session(&new, times).await.unwrap();
        status(&server, &format!("tallyhook={value}")).await
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
async fn own_sessions_are_listed_and_ended() {
    let server = TestServer::start().await;
    let token = server.create_token("viewer", AccessRole::Viewer).await;
    let agent = format!("Mozilla\u{9b}31m/5.0 {}", "x".repeat(500));
    let response = login(&server, &token)
        .header("User-Agent", &agent)
        .send()
        .await
        .unwrap();
    let first = cookie(&response);
    let (second, _) = session(&server, &token).await;
    let (foreign, _) = session(&server, TOKEN).await;
    let list = async |cookie: &str| -> Vec<Value> {
        let request = by_cookie(&server, Method::GET, "/api/me/sessions", cookie);
        let list: Value = request.send().await.unwrap().json().await.unwrap();
        list["items"].as_array().unwrap().clone()
    };
    let listed = list(&second).await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!(
        (&listed[0]["is_current"], &listed[1]["is_current"]),
        (&json!(true), &json!(false))
    );
    let shown = listed[1]["agent"].as_str().unwrap();
    assert!(
        shown.starts_with("Mozilla") && shown.chars().count() < 220,
        "{shown}"
    );
    assert!(!shown.chars().any(char::is_control), "{shown}");
    let text = json!(listed).to_string();
    assert!(!text.contains(first.split_once('=').unwrap().1));

    let own = format!("http://{}", server.running.address);
    let end = async |id: &Value, cookie: &str| {
        let path = format!("/api/me/sessions/{id}");
        let request = by_cookie(&server, Method::DELETE, &path, cookie).header("Origin", &own);
        request.send().await.unwrap().status().as_u16()
    };
    let others = list(&foreign).await[0]["id"].clone();
    assert_eq!(
        end(&others, &second).await,
        404,
        "another caller's is not there"
    );
    assert_eq!(end(&json!(99_999), &second).await, 404);
    assert_eq!(end(&listed[1]["id"], &second).await, 204);
    assert_eq!(
        (
            status(&server, &first).await,
            status(&server, &second).await
        ),
        (401, 200)
    );
    // Everywhere, with the token itself.
    let all = server
        .http
        .delete(format!("{}/api/me/sessions", server.url))
        .bearer_auth(&token);
    assert_eq!(all.send().await.unwrap().status(), 204);
    assert_eq!(
        (
            status(&server, &second).await,
            status(&server, &foreign).await
        ),
        (401, 200)
    );
    server.stop().await;
}

#[tokio::test]
async fn socket_of_a_session_needs_the_own_origin_and_ends_with_it() {
    let server = TestServer::start_with(ServerOptions {
        heartbeat: Duration::from_millis(200),
        ..ServerOptions::default()
    })
    .await;
    let own = format!("http://{}", server.running.address);
    let (cookie, _) = session(&server, TOKEN).await;
    for origin in [None, Some("https://evil.example.net"), Some("null")] {
        let mut asked = with_header(request(&server, ""), "cookie", &cookie);
        if let Some(origin) = origin {
            asked = with_header(asked, "origin", origin);
        }
        match tokio_tungstenite::connect_async(asked).await {
            Err(tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 403, "{origin:?}"),
            other => panic!("{origin:?}: {other:?}"),
        }
    }
    let asked = with_header(request(&server, ""), "cookie", &cookie);
    let asked = with_header(asked, "origin", &own);
    let (mut socket, _) = tokio_tungstenite::connect_async(asked).await.unwrap();
    let ticket = async || -> String {
        let asked = by_cookie(&server, Method::POST, "/api/ws-ticket", &cookie);
        let answer = asked.header("Origin", &own).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        format!("?ticket={}", answer["ticket"].as_str().unwrap())
    };
    let (used, unused) = (ticket().await, ticket().await);
    let (mut by_ticket, _) = tokio_tungstenite::connect_async(request(&server, &used))
        .await
        .unwrap();

    let logout = by_cookie(&server, Method::POST, "/logout", &cookie).header("Origin", &own);
    assert_eq!(logout.send().await.unwrap().status(), 204);
    match tokio_tungstenite::connect_async(request(&server, &unused)).await {
        Err(tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 401),
        other => panic!("{other:?}"),
    }
    for socket in [&mut socket, &mut by_ticket] {
        let closed = loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Close(closed) => break closed.unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(u16::from(closed.code), 1008);
    }
    server.stop().await;
}

/// Every call of the document that may change something, with values of which there is nothing.
fn unsafe_calls() -> impl Iterator<Item = (Method, String, bool)> {
    operations()
        .filter(|(method, path, _)| method != "GET" && !path.starts_with("/webhooks"))
        .map(|(method, path, operation)| {
            let path = path
                .replace("{owner}/{repo}", "nobody/nothing")
                .replace(['{', '}'], "")
                .replace("/id", "/9999999")
                .replace("/number", "/9999999")
                .replace("/user", "/9999999");
            let is_open = operation["x-tallyhook-access"]["class"] == "open";
            (method.parse().unwrap(), path, is_open)
        })
}

#[tokio::test]
async fn no_call_that_changes_something_is_taken_from_another_site_with_a_cookie() {
    let server = TestServer::start().await;
    let own = format!("http://{}", server.running.address);
    let token = server.create_token("other", AccessRole::Viewer).await;
    let mut count = 0;
    for (method, short, is_open) in unsafe_calls() {
        let mut paths = vec![short.clone()];
        if let Some(rest) = short.strip_prefix("/api/") {
            paths.push(format!("/api/teams/default/{rest}"));
        }
        for path in paths {
            count += 1;
            let (cookie, _) = session(&server, TOKEN).await;
            let ask = |headers: &[(&'static str, &str)]| {
                let mut request = by_cookie(&server, method.clone(), &path, &cookie);
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                request
            };
            let what = format!("{method} {path}");
            let evil = "https://evil.example.net";
            for headers in [
                &[][..],
                &[("Origin", evil)],
                &[("Origin", "null")],
                &[("Sec-Fetch-Site", "cross-site")],
                &[("Sec-Fetch-Site", "same-site")],
                &[("Sec-Fetch-Site", "none")],
                &[("Origin", evil), ("Sec-Fetch-Site", "same-origin")],
                &[("Origin", evil), ("Content-Type", FORM)],
            ] {
                let refused = refusal(ask(headers)).await;
                assert_eq!(refused.0, 403, "{what} {headers:?}: {}", refused.1);
                assert_eq!(refused.1["error"]["code"], "forbidden", "{what}");
            }
            // A form needs the token of its page, wherever it is from.
            if !is_open {
                let form = ask(&[("Origin", &own), ("Content-Type", FORM)]);
                assert_eq!(refusal(form).await.0, 403, "{what}");
            }
            assert_eq!(
                status(&server, &cookie).await,
                200,
                "{what} changed nothing"
            );
            // A token is sent on purpose: what refuses it is another reason.
            let request = server
                .http
                .request(method.clone(), format!("{}{path}", server.url));
            let by_token = request.bearer_auth(&token).header("Origin", evil);
            let by_token = by_token.send().await.unwrap();
            let answer: Value = by_token.json().await.unwrap_or_default();
            let message = answer["error"]["message"].to_string();
            assert!(is_open || !message.contains("Origin"), "{what}: {message}");
        }
    }
    assert!(count > 60, "{count} calls");
    server.stop().await;
}
