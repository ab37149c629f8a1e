//! Access to the API: each call, each role, and no token.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tallyhook::api::auth;
use tallyhook_store::{AccessRole, DEFAULT_TEAM, NewToken, TeamId};
use testkit::conformity::operations;
use testkit::{TOKEN, TestServer, assert_refused};

/// Returns the role that the promise to users names for a call; none for an open one.
fn promised(method: &str, path: &str) -> Option<AccessRole> {
    use AccessRole::{Admin, Member, Operator, Viewer};
    let begins = |beginnings: &[&str]| beginnings.iter().any(|begin| path.starts_with(begin));
    let role = match method {
        _ if !begins(&["/api/"]) && path != "/ws" => return None,
        _ if begins(&["/api/deliver", "/api/dead-letters", "/api/inbox"]) => Operator,
        _ if begins(&["/api/doctor", "/api/health", "/api/repositories"]) => Operator,
        "POST" if begins(&["/api/notifications"]) => Admin,
        _ if begins(&["/api/tokens", "/api/channels", "/api/settings"]) => Admin,
        _ if begins(&["/api/audit", "/api/github/calls"]) => Admin,
        _ if begins(&["/api/members", "/api/invitations", "/api/rules"]) => Admin,
        "POST" if path == "/api/teams" => Operator,
        _ if begins(&["/api/me/", "/api/ws-ticket"]) => Viewer,
        "GET" => Viewer,
        _ if ["/api/repos", "/api/repos/{owner}/{repo}"].contains(&path) => Admin,
        _ => Member,
    };
    Some(role)
}

#[test]
fn every_operation_names_the_role_that_is_promised() {
    for (method, path, operation) in operations() {
        let access = &operation["x-tallyhook-access"];
        let expected = match promised(&method, path) {
            None => json!({"class": "open", "role": null}),
            Some(AccessRole::Operator) => json!({"class": "instance", "role": "operator"}),
            Some(role) => json!({"class": "team", "role": role}),
        };
        assert_eq!(*access, expected, "{method} {path}");
        assert_eq!(
            operation["security"].is_array(),
            access["class"] != "open",
            "{method} {path}"
        );
    }
    assert!(operations().count() > 45);
}

/// Returns the path of a call with values of which there is nothing.
fn filled(path: &str) -> String {
    path.replace("{owner}/{repo}", "nobody/nothing")
        .replace("{id}", "9999999")
        .replace("{number}", "9999999")
        .replace("{user}", "9999999")
        .replace("{guid}", "none")
        .replace("{name}", "none")
}

/// Sends a request without a body and returns status and error code.
async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// Adds a team beside the one of the tokens.
async fn with_another_team(server: &TestServer) {
    let insert = "INSERT INTO teams (id, name) VALUES (2, 'other')";
    server.place.execute(insert).await;
}

#[tokio::test]
async fn every_call_is_refused_below_its_role_and_without_a_token() {
    let server = TestServer::start().await;
    let mut tokens = BTreeMap::new();
    for role in AccessRole::ALL {
        tokens.insert(role, server.create_token(role.as_str(), role).await);
    }
    for is_only_team in [true, false] {
        if !is_only_team {
            with_another_team(&server).await;
        }
        let calls = operations().filter_map(|(method, path, _)| {
            // Its handshake has tests of its own.
            let role = promised(&method, path).filter(|_| path != "/ws")?;
            Some((method, path, role))
        });
        for (method, path, needed) in calls {
            let ask = || {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                server
                    .http
                    .request(method, format!("{}{}", server.url, filled(path)))
            };
            assert_refused(&answer(ask()).await, 401, "unauthorized");
            for (role, token) in &tokens {
                let answer = answer(ask().bearer_auth(token)).await;
                let is_operator = is_only_team && *role == AccessRole::Admin;
                if *role >= needed || is_operator {
                    assert!(
                        ![401, 403].contains(&answer.0),
                        "{method} {path} {role}: {answer:?}"
                    );
                } else {
                    assert_refused(&answer, 403, "forbidden");
                }
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn token_that_has_expired_or_is_revoked_is_none() {
    let server = TestServer::start().await;
    let store = &server.running.store;
    let (expired, revoked) = (auth::new_token(), auth::new_token());
    for (name, token, ends) in [("expired", &expired, -1), ("revoked", &revoked, 60)] {
        let new = NewToken {
            name,
            hash: &auth::hash(token),
            team: DEFAULT_TEAM.0,
            role: AccessRole::Admin,
            login: None,
            created_by: None,
            created_at: Utc::now(),
            expires_at: Some(Utc::now() + TimeDelta::seconds(ends)),
        };
        assert!(store.create_token(&new).await.unwrap());
    }
    let get = |path: &str| server.http.get(format!("{}{path}", server.url));
    assert_eq!(answer(get("/api/me").bearer_auth(&revoked)).await.0, 200);
    assert!(
        store
            .revoke_token(DEFAULT_TEAM.0, "revoked", Utc::now())
            .await
            .unwrap()
    );
    for token in [&expired, &revoked] {
        for path in ["/api/prs", "/api/me", "/api/nothing"] {
            assert_refused(
                &answer(get(path).bearer_auth(token)).await,
                401,
                "unauthorized",
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn role_is_checked_however_the_path_is_written() {
    let server = TestServer::start().await;
    with_another_team(&server).await;
    let viewer = server.create_token("viewer", AccessRole::Viewer).await;
    for path in [
        "/api/%64eliveries",
        "/api/d%65ad-letters",
        "/%61pi/deliveries",
        "/api/dead%2Dletters/groups",
        "/api/deliveries/no%6Ee",
        "/api/deliveries/a%2Fb",
        "/api/tokens?x=1",
    ] {
        let request = server.http.get(format!("{}{path}", server.url));
        let (status, body) = answer(request.bearer_auth(&viewer)).await;
        assert!([403, 404].contains(&status), "{path}: {status} {body}");
    }
    for path in [
        "/api//deliveries",
        "/api/deliveries/",
        "/api/Deliveries",
        "/api/x/../deliveries",
    ] {
        let request = server.http.get(format!("{}{path}", server.url));
        let (status, body) = answer(request.bearer_auth(&viewer)).await;
        assert!([403, 404].contains(&status), "{path}: {status} {body}");
    }
    // An escape of a plain character is that character.
    let request = server.http.get(format!("{}/api/%70rs", server.url));
    assert_eq!(answer(request.bearer_auth(&viewer)).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn fresh_answer_of_github_needs_a_member() {
    let server = TestServer::start().await;
    let viewer = server.create_token("viewer", AccessRole::Viewer).await;
    let member = server.create_token("member", AccessRole::Member).await;
    for (query, token, expected) in [
        ("fresh=true", &viewer, 403),
        ("fr%65sh=true", &viewer, 403),
        ("fresh=false", &viewer, 404),
        ("", &viewer, 404),
        ("fresh=true", &member, 404),
    ] {
        let url = format!("{}/api/prs/7?{query}", server.url);
        let (status, body) = answer(server.http.get(url).bearer_auth(token)).await;
        assert_eq!(status, expected, "{query}: {body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn me_is_the_kind_team_and_role_of_the_token() {
    let server = TestServer::start().await;
    let viewer = server.create_token("viewer", AccessRole::Viewer).await;
    for (token, kind, role) in [
        (TOKEN, "operator", "operator"),
        (&viewer, "token", "viewer"),
    ] {
        let request = server.http.get(format!("{}/api/me", server.url));
        let (status, me) = answer(request.bearer_auth(token)).await;
        let expected = json!({
            "kind": kind, "user": null, "team": "default", "role": role,
            "teams": [{"team": "default", "role": role}], "csrf_token": null,
        });
        assert_eq!((status, me), (200, expected));
    }
    server.stop().await;
}

#[tokio::test]
async fn admin_makes_lists_and_revokes_tokens_of_its_team() {
    let server = TestServer::start().await;
    let post = async |body: Value| server.ask(Method::POST, "/api/tokens", &body).await;
    let (status, made) = post(json!({"name": "a/b ü", "role": "member"})).await;
    assert_eq!(status, 201, "{made}");
    let token = made["token"].as_str().unwrap();
    assert!(auth::is_token(token), "{token}");
    let days = |answer: &Value| {
        let end: chrono::DateTime<Utc> = answer["expires_at"].as_str().unwrap().parse().unwrap();
        (end - Utc::now()).num_hours().div_euclid(24) + 1
    };
    assert_eq!((made["role"].as_str(), days(&made)), (Some("member"), 90));
    assert_refused(
        &post(json!({"name": "a/b ü", "role": "viewer"})).await,
        409,
        "conflict",
    );
    let (_, made) = post(json!({"name": "week", "role": "viewer", "expires_days": 7})).await;
    assert_eq!(days(&made), 7);
    let (_, made) = post(json!({"name": "ever", "role": "viewer", "expires_days": null})).await;
    assert_eq!(made["expires_at"], Value::Null);
    for (body, status, code) in [
        (json!({"name": "o", "role": "operator"}), 403, "forbidden"),
        (json!({"name": "o"}), 400, "bad_request"),
        (json!({"name": "o", "role": "owner"}), 400, "bad_request"),
        (json!({"name": " o", "role": "viewer"}), 400, "bad_request"),
        (
            json!({"name": "o", "role": "viewer", "expires_days": 0}),
            400,
            "bad_request",
        ),
        (
            json!({"name": "o", "role": "viewer", "expires_days": 3651}),
            400,
            "bad_request",
        ),
        (
            json!({"name": "o", "role": "viewer", "expires_days": -1}),
            400,
            "bad_request",
        ),
        (
            json!({"name": "o", "role": "viewer", "team": "other"}),
            400,
            "bad_request",
        ),
    ] {
        assert_refused(&post(body).await, status, code);
    }
    let (_, list) = server.get("/api/tokens").await;
    let names: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["name"])
        .collect();
    assert_eq!(names, ["a/b ü", "week", "ever"]);
    assert!(!list.to_string().contains(token), "no value is shown again");

    let status = async || {
        let request = server.http.get(format!("{}/api/tasks", server.url));
        answer(request.bearer_auth(token)).await.0
    };
    assert_eq!(status().await, 200);
    let delete = async |name: &str| {
        let path = format!("/api/tokens/{name}");
        server.ask(Method::DELETE, &path, &Value::Null).await
    };
    assert_eq!(delete("a%2Fb%20%C3%BC").await.0, 204);
    assert_eq!(status().await, 401);
    assert_refused(&delete("a%2Fb%20%C3%BC").await, 404, "not_found");
    assert_refused(&delete("none").await, 404, "not_found");
    server.stop().await;
}

#[tokio::test]
async fn tokens_of_another_team_are_not_there() {
    let server = TestServer::start().await;
    with_another_team(&server).await;
    let theirs = auth::new_token();
    let new = NewToken {
        name: "theirs",
        hash: &auth::hash(&theirs),
        team: TeamId(2),
        role: AccessRole::Admin,
        login: None,
        created_by: None,
        created_at: Utc::now(),
        expires_at: None,
    };
    assert!(server.running.store.create_token(&new).await.unwrap());
    let admin = server.create_token("admin", AccessRole::Admin).await;
    let ask = async |method: Method, path: &str, token: &str| {
        let request = server.http.request(method, format!("{}{path}", server.url));
        answer(request.bearer_auth(token)).await
    };
    let named = async |token: &str| {
        let (_, list) = ask(Method::GET, "/api/tokens", token).await;
        let items = list["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| item["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(named(&admin).await, ["admin"]);
    assert_eq!(named(&theirs).await, ["theirs"]);
    // As one that does not exist.
    let refused = ask(Method::DELETE, "/api/tokens/theirs", &admin).await;
    assert_eq!(
        refused,
        ask(Method::DELETE, "/api/tokens/none", &admin).await
    );
    assert_refused(&refused, 404, "not_found");
    assert_eq!(
        ask(Method::GET, "/api/me", &theirs).await.1["team"],
        "other"
    );
    server.stop().await;
}

#[tokio::test]
async fn last_use_is_stored_without_a_write_of_the_request() {
    let server = TestServer::start().await;
    let token = server.create_token("ci", AccessRole::Viewer).await;
    for _ in 0..3 {
        let request = server.http.get(format!("{}/api/prs", server.url));
        assert_eq!(answer(request.bearer_auth(&token)).await.0, 200);
    }
    let (_, list) = server.get("/api/tokens").await;
    assert_eq!(list["items"][0]["last_used_at"], Value::Null);
    // The end of the process stores it, as each minute does.
    let place = server.stop().await;
    let again = TestServer::start_in(place, tallyhook::app::ServerOptions::default()).await;
    let (_, list) = again.get("/api/tokens").await;
    assert!(list["items"][0]["last_used_at"].is_string(), "{list}");
    again.stop().await;
}
