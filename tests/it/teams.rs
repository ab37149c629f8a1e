//! Teams over HTTP: the path that names one, people, members, invitations and rules.

use reqwest::header::{ALLOW, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Method, redirect};
use serde_json::{Value, json};
use tallyhook::api::auth;
use tallyhook_store::{
    AccessRole, DEFAULT_TEAM, NewSession, NewToken, SessionOwner, TeamId, UserId,
};
use testkit::conformity::{assert_documented, operations};
use testkit::{TOKEN, TestServer, assert_refused};

pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// A caller with a token, or with the cookie of a session.
#[derive(Clone)]
pub(super) enum Credential {
    Token(String),
    Cookie(String),
}

/// Sends a request to the API and returns the status and the body of the answer.
pub(super) async fn ask(
    server: &TestServer,
    by: &Credential,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let request = server
        .http
        .request(method.clone(), format!("{}{path}", server.url));
    let request = match by {
        Credential::Token(token) => request.bearer_auth(token),
        Credential::Cookie(cookie) => request.header(COOKIE, cookie).header("Origin", &server.url),
    };
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap();
    let answer = match bytes.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&bytes).unwrap(),
    };
    assert_documented(method.as_str(), path, status, &answer);
    (status, answer)
}

pub(super) async fn get(server: &TestServer, by: &Credential, path: &str) -> (u16, Value) {
    ask(server, by, Method::GET, path, None).await
}

pub(super) fn operator() -> Credential {
    Credential::Token(TOKEN.to_owned())
}

pub(super) async fn create_team(server: &TestServer, name: &str) -> TeamId {
    let body = Some(json!({"name": name}));
    let (status, made) = ask(server, &operator(), Method::POST, "/api/teams", body).await;
    assert_eq!(status, 201, "{made}");
    let slug = made["team"].as_str().unwrap();
    let team = server.running.store.team_of_slug(slug).await.unwrap();
    team.unwrap()
}

/// Stores a token of a team.
pub(super) async fn token_of(
    server: &TestServer,
    team: TeamId,
    name: &str,
    role: AccessRole,
) -> Credential {
    let token = auth::new_token();
    let new = NewToken {
        name,
        hash: &auth::hash(&token),
        team,
        role,
        login: None,
        created_by: None,
        created_at: chrono::Utc::now(),
        expires_at: None,
    };
    assert!(server.running.store.create_token(&new).await.unwrap());
    Credential::Token(token)
}

/// Uses a link as a browser does, and returns status, place and cookie.
async fn follow(
    server: &TestServer,
    url: &str,
    cookie: Option<&str>,
    fields: &str,
) -> (u16, String, Option<String>) {
    let http = reqwest::Client::builder().redirect(redirect::Policy::none());
    let request = http.build().unwrap().post(url);
    let request = request
        .header(CONTENT_TYPE, FORM)
        .header("Accept", "text/html")
        .header("Origin", &server.url)
        .body(fields.to_owned());
    let request = match cookie {
        Some(cookie) => request.header(COOKIE, cookie),
        None => request,
    };
    let response = request.send().await.unwrap();
    let text = |name| {
        let value = response.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let cookie = text(SET_COOKIE).map(|set| set.split(';').next().unwrap().to_owned());
    let location = text(LOCATION).unwrap_or_default();
    (response.status().as_u16(), location, cookie)
}

/// Invites a person without an account at GitHub to a team and signs it in. Returns its id and its
/// cookie.
pub(super) async fn signed_in(
    server: &TestServer,
    team: &str,
    name: &str,
    role: AccessRole,
) -> (i64, Credential) {
    let path = format!("/api/teams/{team}/invitations");
    let body = Some(json!({"name": name, "role": role}));
    let (status, made) = ask(server, &operator(), Method::POST, &path, body).await;
    assert_eq!(status, 201, "{made}");
    let url = made["url"].as_str().unwrap();
    let (status, location, cookie) = follow(server, url, None, "").await;
    assert_eq!((status, location.as_str()), (303, "/"));
    let id = made["user"].as_i64().unwrap();
    (id, Credential::Cookie(cookie.unwrap()))
}

/// Starts a session of a person, as signing in does.
async fn session_of(server: &TestServer, user: i64, value: &str) -> Credential {
    let now = chrono::Utc::now();
    let new = NewSession {
        hash: &auth::hash(value),
        owner: SessionOwner::Person(UserId(user)),
        team: None,
        expires_at: now + chrono::TimeDelta::days(1),
        agent: None,
        replaces: None,
    };
    let times = tallyhook_store::SessionTimes {
        now,
        idle_since: now - chrono::TimeDelta::days(1),
    };
    server
        .running
        .store
        .start_session(&new, times)
        .await
        .unwrap();
    Credential::Cookie(format!("tallyhook={value}"))
}

#[tokio::test]
async fn path_of_a_team_means_the_short_one_in_that_team() {
    let server = TestServer::start().await;
    let mobile = create_team(&server, "Mobile apps").await;
    let ours = token_of(&server, DEFAULT_TEAM.0, "ours", AccessRole::Admin).await;
    let theirs = token_of(&server, mobile, "theirs", AccessRole::Admin).await;
    let named = async |by: &Credential, path: &str| {
        let (status, list) = get(&server, by, path).await;
        assert_eq!(status, 200, "{path}: {list}");
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(named(&ours, "/api/tokens").await, ["ours"]);
    assert_eq!(named(&ours, "/api/teams/default/tokens").await, ["ours"]);
    assert_eq!(
        named(&theirs, "/api/teams/mobile-apps/tokens").await,
        ["theirs"]
    );
    assert_eq!(
        named(&theirs, "/api/teams/mobile%2Dapps/tokens").await,
        ["theirs"]
    );
    // An operator is in each team, by its path.
    assert_eq!(named(&operator(), "/api/tokens").await, ["ours"]);
    assert_eq!(
        named(&operator(), "/api/teams/mobile-apps/tokens").await,
        ["theirs"]
    );
    // A write is of the team, and one team does not see the names of the other.
    let body = json!({"name": "ours", "role": "viewer"});
    let path = "/api/teams/mobile-apps/tokens";
    let (status, made) = ask(&server, &operator(), Method::POST, path, Some(body)).await;
    assert_eq!(
        (status, made["team"].as_str()),
        (201, Some("mobile-apps")),
        "{made}"
    );
    let delete = "/api/teams/mobile-apps/tokens/ours";
    assert_eq!(
        ask(&server, &theirs, Method::DELETE, delete, None).await.0,
        204
    );
    assert_eq!(named(&ours, "/api/tokens").await, ["ours"]);

    // Parameters, methods and HEAD are those of the short path.
    let answer = get(&server, &ours, "/api/teams/default/prs?nonsense=1").await;
    assert_refused(&answer, 400, "bad_request");
    let url = format!("{}/api/teams/default/prs", server.url);
    let Credential::Token(token) = &ours else {
        unreachable!()
    };
    let wrong = server
        .http
        .delete(&url)
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (wrong.status().as_u16(), &wrong.headers()[ALLOW]),
        (405, &"GET, HEAD".parse().unwrap())
    );
    let options = server.http.request(Method::OPTIONS, &url).send().await;
    let options = options.unwrap();
    let allowed = (options.status().as_u16(), &options.headers()[ALLOW]);
    assert_eq!(allowed, (204, &"GET, HEAD, OPTIONS".parse().unwrap()));
    let head = server
        .http
        .head(&url)
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    let read = server
        .http
        .get(&url)
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (head.status(), read.status().as_u16()),
        (read.status(), 200)
    );
    assert_eq!(head.headers()["etag"], read.headers()["etag"]);
    // Calls of the installation name no team.
    for path in ["deliveries", "dead-letters", "health", "nothing", "teams"] {
        let path = format!("/api/teams/default/{path}");
        let answer = get(&server, &operator(), &path).await;
        match path.ends_with("/teams") {
            true => assert_eq!(answer.0, 200),
            false => assert_refused(&answer, 404, "not_found"),
        }
    }
    for path in [
        "/api/teams/default",
        "/api/teams/default/",
        "/api/teams//prs",
    ] {
        assert_refused(&get(&server, &operator(), path).await, 404, "not_found");
    }
    server.stop().await;
}

/// Returns the path of a call in a team, with values of which there is nothing.
fn in_team(team: &str, path: &str) -> String {
    path.replacen("/api/", &format!("/api/teams/{team}/"), 1)
        .replace("{owner}/{repo}", "nobody/nothing")
        .replace("{id}", "9999999")
        .replace("{number}", "9999999")
        .replace("{user}", "9999999")
        .replace("{name}", "none")
}

#[tokio::test]
async fn team_that_a_caller_is_not_in_answers_as_one_that_does_not_exist() {
    let server = TestServer::start().await;
    let other = create_team(&server, "other").await;
    let (_, person) = signed_in(&server, "default", "Lena", AccessRole::Admin).await;
    let callers = [
        token_of(&server, DEFAULT_TEAM.0, "ours", AccessRole::Admin).await,
        person,
    ];
    let theirs = token_of(&server, other, "theirs", AccessRole::Admin).await;
    let calls = operations().filter(|(_, path, operation)| {
        path.starts_with("/api/") && operation["x-tallyhook-access"]["class"] == "team"
    });
    let mut count = 0;
    for (method, path, _) in calls {
        count += 1;
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for caller in &callers {
            let answer = async |team| {
                let path = in_team(team, path);
                ask(&server, caller, method.clone(), &path, None).await
            };
            let (refused, missing) = (answer("other").await, answer("no-such-team").await);
            assert_eq!(refused, missing, "{method} {path}");
            assert_refused(&refused, 404, "not_found");
            assert_eq!(refused.1["error"]["message"], "there is no such team");
        }
        // The same call is there for its own team.
        let own = ask(
            &server,
            &theirs,
            method.clone(),
            &in_team("other", path),
            None,
        )
        .await;
        assert_ne!(
            own.1["error"]["message"], "there is no such team",
            "{method} {path}"
        );
        assert!(![401, 405].contains(&own.0), "{method} {path}: {own:?}");
    }
    assert!(count > 40, "{count} calls");
    server.stop().await;
}

#[tokio::test]
async fn person_in_several_teams_names_or_chooses_one() {
    let server = TestServer::start().await;
    let apps = create_team(&server, "apps").await;
    let (id, _) = signed_in(&server, "default", "Lena", AccessRole::Member).await;
    let store = &server.running.store;
    let added = store.add_member(apps, UserId(id), AccessRole::Admin, chrono::Utc::now());
    added.await.unwrap();
    let lena = session_of(&server, id, "lena-0").await;
    let refused = get(&server, &lena, "/api/prs").await;
    assert_refused(&refused, 409, "team_needed");
    assert!(
        refused.1.to_string().contains("apps, default"),
        "{}",
        refused.1
    );
    // The caller itself is known without a team.
    let (status, me) = get(&server, &lena, "/api/me").await;
    assert_eq!(status, 200);
    assert_eq!(me["user"], json!({"id": id, "login": null, "name": "Lena"}));
    let teams = json!([{"team": "apps", "role": "admin"}, {"team": "default", "role": "member"}]);
    assert_eq!(
        (&me["team"], &me["role"], &me["teams"]),
        (&Value::Null, &Value::Null, &teams)
    );
    assert_eq!(get(&server, &lena, "/api/teams").await.1["items"], teams);
    assert_eq!(get(&server, &lena, "/api/me/sessions").await.0, 200);
    for (team, status) in [("apps", 200), ("default", 403)] {
        let path = format!("/api/teams/{team}/members");
        assert_eq!(get(&server, &lena, &path).await.0, status, "{team}");
        let path = format!("/api/teams/{team}/me");
        assert_eq!(get(&server, &lena, &path).await.1["team"], team);
    }
    // The page of teams stores the choice in the session.
    let csrf = me["csrf_token"].as_str().unwrap();
    let Credential::Cookie(cookie) = &lena else {
        unreachable!()
    };
    for (team, status) in [("apps", 303), ("no-such", 404)] {
        let url = format!("{}/teams/choose", server.url);
        let fields = format!("csrf_token={csrf}&team={team}&next=/prs");
        let (found, location, _) = follow(&server, &url, Some(cookie), &fields).await;
        assert_eq!(found, status);
        assert_eq!(location == "/prs", status == 303);
    }
    let (_, me) = get(&server, &lena, "/api/me").await;
    assert_eq!(
        (&me["team"], &me["role"]),
        (&json!("apps"), &json!("admin"))
    );
    assert_eq!(get(&server, &lena, "/api/members").await.0, 200);
    // A choice of a team that was left since is none.
    let colleague = signed_in(&server, "apps", "Ada", AccessRole::Admin).await;
    let left = ask(&server, &lena, Method::DELETE, "/api/me/membership", None).await;
    assert_eq!(left.0, 204, "{}", left.1);
    assert_eq!(get(&server, &lena, "/api/me").await.1["team"], "default");
    let path = "/api/me/membership";
    let last = ask(&server, &colleague.1, Method::DELETE, path, None).await;
    assert_refused(&last, 409, "conflict");
    let left = ask(&server, &lena, Method::DELETE, path, None).await;
    assert_eq!(left.0, 204);
    let (status, me) = get(&server, &lena, "/api/me").await;
    assert_eq!((status, &me["teams"]), (200, &json!([])));
    assert_refused(&get(&server, &lena, "/api/prs").await, 403, "forbidden");
    server.stop().await;
}

#[tokio::test]
async fn admins_of_the_only_team_are_operators_until_there_is_another() {
    let server = TestServer::start().await;
    let (_, lena) = signed_in(&server, "default", "Lena", AccessRole::Admin).await;
    let (_, viewer) = signed_in(&server, "default", "Ada", AccessRole::Viewer).await;
    assert_eq!(get(&server, &lena, "/api/deliveries").await.0, 200);
    assert_refused(
        &get(&server, &viewer, "/api/deliveries").await,
        403,
        "forbidden",
    );
    let create = async |name: &str| {
        let body = Some(json!({"name": name}));
        ask(&server, &lena, Method::POST, "/api/teams", body).await
    };
    for (name, status) in [("", 400), ("teams", 400), ("a/b", 400), ("default", 409)] {
        assert_eq!(create(name).await.0, status, "{name}");
    }
    let (status, made) = create("Mobile apps").await;
    assert_eq!((status, made), (201, json!({"team": "mobile-apps"})));
    assert_refused(
        &get(&server, &lena, "/api/deliveries").await,
        403,
        "forbidden",
    );
    assert_refused(&create("third").await, 403, "forbidden");
    let path = "/api/teams/mobile-apps/members";
    assert_refused(&get(&server, &lena, path).await, 404, "not_found");
    assert_eq!(get(&server, &operator(), path).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn members_are_added_changed_and_removed_by_admins_within_their_role() {
    let server = TestServer::start().await;
    create_team(&server, "other").await;
    let (lena, admin) = signed_in(&server, "default", "Lena", AccessRole::Admin).await;
    let (ada, member) = signed_in(&server, "default", "Ada", AccessRole::Member).await;
    let (stranger, _) = signed_in(&server, "other", "Mallory", AccessRole::Admin).await;
    let (status, list) = get(&server, &admin, "/api/members").await;
    assert_eq!(status, 200);
    let shown: Vec<_> = list["items"].as_array().unwrap().iter().collect();
    assert_eq!(shown.len(), 2, "{list}");
    assert_eq!(
        shown[0]["user"],
        json!({"id": lena, "login": null, "name": "Lena"})
    );
    assert_eq!(shown[1]["source"], "invitation");
    assert_refused(
        &get(&server, &member, "/api/members").await,
        403,
        "forbidden",
    );

    let add = async |by: &Credential, user: i64, role: &str| {
        let body = Some(json!({"user": user, "role": role}));
        ask(&server, by, Method::POST, "/api/members", body).await
    };
    // A person of another team is as one who does not exist.
    let (unknown, foreign) = (
        add(&admin, 999, "viewer").await,
        add(&admin, stranger, "viewer").await,
    );
    assert_eq!(unknown, foreign);
    assert_refused(&foreign, 404, "not_found");
    assert_refused(&add(&admin, ada, "viewer").await, 409, "conflict");
    assert_refused(&add(&admin, ada, "operator").await, 400, "bad_request");
    let (status, added) = add(&operator(), stranger, "viewer").await;
    assert_eq!(
        (status, &added["source"]),
        (201, &json!("operator")),
        "{added}"
    );

    let set = async |by: &Credential, user: i64, role: &str| {
        let path = format!("/api/members/{user}");
        ask(
            &server,
            by,
            Method::PATCH,
            &path,
            Some(json!({"role": role})),
        )
        .await
    };
    assert_refused(&set(&admin, lena, "member").await, 409, "conflict");
    assert_refused(&set(&admin, 999, "member").await, 404, "not_found");
    assert_refused(&set(&member, lena, "viewer").await, 403, "forbidden");
    let (status, changed) = set(&admin, ada, "admin").await;
    assert_eq!((status, &changed["role"]), (200, &json!("admin")));
    assert_eq!(
        set(&member, lena, "viewer").await.0,
        200,
        "she is an admin now"
    );
    assert_refused(
        &get(&server, &admin, "/api/members").await,
        403,
        "forbidden",
    );
    let remove = async |by: &Credential, user: i64| {
        let path = format!("/api/members/{user}");
        ask(&server, by, Method::DELETE, &path, None).await
    };
    assert_refused(&remove(&member, ada).await, 409, "conflict");
    assert_eq!(remove(&member, lena).await.0, 204);
    // The session goes on, without the team.
    assert_eq!(get(&server, &admin, "/api/me").await.1["teams"], json!([]));
    assert_refused(&get(&server, &admin, "/api/prs").await, 403, "forbidden");
    server.stop().await;
}

#[tokio::test]
async fn token_of_a_person_has_no_more_rights_than_the_person_has_now() {
    let server = TestServer::start().await;
    create_team(&server, "other").await;
    let (lena, session) = signed_in(&server, "default", "Lena", AccessRole::Admin).await;
    signed_in(&server, "default", "Ada", AccessRole::Admin).await;
    let body = json!({"name": "lenas", "role": "admin"});
    let (status, made) = ask(&server, &session, Method::POST, "/api/tokens", Some(body)).await;
    assert_eq!(status, 201, "{made}");
    let token = Credential::Token(made["token"].as_str().unwrap().to_owned());
    let (_, list) = get(&server, &operator(), "/api/tokens").await;
    assert_eq!(
        list["items"][0]["created_by"],
        json!({"id": lena, "login": null, "name": "Lena"})
    );
    let (_, me) = get(&server, &token, "/api/me").await;
    assert_eq!(
        (&me["kind"], &me["user"]["id"]),
        (&json!("token"), &json!(lena))
    );
    // A token that it makes is the person's, too.
    let body = json!({"name": "second", "role": "viewer"});
    let (_, second) = ask(&server, &token, Method::POST, "/api/tokens", Some(body)).await;
    let second = Credential::Token(second["token"].as_str().unwrap().to_owned());
    let set = async |role| {
        let store = &server.running.store;
        store
            .set_member_role(DEFAULT_TEAM.0, UserId(lena), role)
            .await
            .unwrap()
    };
    set(AccessRole::Viewer).await;
    assert_refused(&get(&server, &token, "/api/tokens").await, 403, "forbidden");
    assert_eq!(get(&server, &token, "/api/me").await.1["role"], "viewer");
    set(AccessRole::Admin).await;
    assert_eq!(get(&server, &token, "/api/tokens").await.0, 200);
    let path = format!("/api/members/{lena}");
    assert_eq!(
        ask(&server, &operator(), Method::DELETE, &path, None)
            .await
            .0,
        204
    );
    for token in [&token, &second] {
        assert_refused(&get(&server, token, "/api/me").await, 401, "unauthorized");
    }
    server.stop().await;
}

#[tokio::test]
async fn invitation_is_looked_at_often_and_used_once() {
    let server = TestServer::start().await;
    let body = Some(json!({"name": "Lena", "role": "member"}));
    let path = "/api/invitations";
    let (status, made) = ask(&server, &operator(), Method::POST, path, body).await;
    assert_eq!(status, 201, "{made}");
    let url = made["url"].as_str().unwrap();
    assert!(
        url.starts_with(&format!("{}/invitations/", server.url)),
        "{url}"
    );
    let (_, secret) = url.rsplit_once('/').unwrap();
    for _ in 0..3 {
        for request in [server.http.get(url), server.http.head(url)] {
            let response = request.header("Accept", "text/html").send().await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(response.headers().get(SET_COOKIE).is_none());
        }
    }
    let (_, list) = get(&server, &operator(), path).await;
    assert_eq!(
        list["items"][0]["used_at"],
        Value::Null,
        "a look uses nothing up"
    );
    assert!(!list.to_string().contains(secret), "the link is shown once");
    // The page of another site cannot use it up either.
    let foreign = server
        .http
        .post(url)
        .header(CONTENT_TYPE, FORM)
        .header("Accept", "text/html");
    let foreign = foreign
        .header("Origin", "https://evil.example.net")
        .send()
        .await
        .unwrap();
    assert_eq!(foreign.status(), 403);
    let (status, location, cookie) = follow(&server, url, None, "").await;
    assert_eq!((status, location.as_str()), (303, "/"));
    let lena = Credential::Cookie(cookie.unwrap());
    let (_, me) = get(&server, &lena, "/api/me").await;
    assert_eq!(
        (&me["kind"], &me["role"]),
        (&json!("session"), &json!("member"))
    );
    let (status, _, cookie) = follow(&server, url, None, "").await;
    assert_eq!((status, cookie), (401, None));
    let (_, list) = get(&server, &operator(), path).await;
    assert_eq!(list["items"][0]["used_by"]["name"], "Lena");
    let used = format!("{path}/{}", made["id"]);
    let ended = ask(&server, &operator(), Method::DELETE, &used, None).await;
    assert_refused(&ended, 404, "not_found");

    // One for people who have signed in needs a session of one, and the token of its page.
    let body = Some(json!({"role": "admin"}));
    let (_, open) = ask(&server, &operator(), Method::POST, path, body).await;
    let url = open["url"].as_str().unwrap();
    assert_eq!(follow(&server, url, None, "").await.0, 401);
    let Credential::Cookie(cookie) = &lena else {
        unreachable!()
    };
    assert_eq!(
        follow(&server, url, Some(cookie), "csrf_token=wrong")
            .await
            .0,
        403
    );
    let csrf = format!("csrf_token={}", me["csrf_token"].as_str().unwrap());
    let (status, _, set) = follow(&server, url, Some(cookie), &csrf).await;
    assert_eq!((status, set), (303, None));
    assert_eq!(get(&server, &lena, "/api/me").await.1["role"], "admin");
    server.stop().await;
}

#[tokio::test]
async fn invitation_gives_no_more_than_its_maker_has_and_is_bound_to_one_person() {
    let server = TestServer::start().await;
    create_team(&server, "other").await;
    let (_, admin) = signed_in(&server, "default", "Lena", AccessRole::Admin).await;
    let (stranger, _) = signed_in(&server, "other", "Mallory", AccessRole::Admin).await;
    let (ada, member) = signed_in(&server, "default", "Ada", AccessRole::Member).await;
    let invite = async |by: &Credential, body: Value| {
        ask(&server, by, Method::POST, "/api/invitations", Some(body)).await
    };
    let role = "viewer";
    assert_refused(
        &invite(&member, json!({"role": role})).await,
        403,
        "forbidden",
    );
    for body in [
        json!({"role": "operator"}),
        json!({}),
        json!({"role": role, "github_login": "-x"}),
        json!({"role": role, "name": " "}),
        json!({"role": role, "name": "Lena", "user": ada}),
        json!({"role": role, "login": "ines"}),
        json!({"role": role, "days": 99}),
    ] {
        assert_refused(&invite(&admin, body).await, 400, "bad_request");
    }
    let unknown = invite(&admin, json!({"role": role, "user": 999})).await;
    let foreign = invite(&admin, json!({"role": role, "user": stranger})).await;
    assert_eq!(unknown, foreign);
    assert_refused(&foreign, 404, "not_found");
    // Bound to another person, and to a login that GitHub has not shown.
    for (body, bound) in [
        (json!({"role": "admin", "user": ada}), true),
        (json!({"role": "admin", "github_login": "ada"}), false),
    ] {
        let (status, made) = invite(&admin, body).await;
        assert_eq!(status, 201, "{made}");
        let url = made["url"].as_str().unwrap();
        let mut answers = Vec::new();
        for by in [&admin, &member] {
            let (_, me) = get(&server, by, "/api/me").await;
            let csrf = format!("csrf_token={}", me["csrf_token"].as_str().unwrap());
            let Credential::Cookie(cookie) = by else {
                unreachable!()
            };
            answers.push(follow(&server, url, Some(cookie), &csrf).await.0);
        }
        assert_eq!(answers, [403, if bound { 303 } else { 403 }]);
    }
    server.stop().await;
}

#[tokio::test]
async fn rules_are_replaced_as_one_list() {
    let server = TestServer::start().await;
    let (_, admin) = signed_in(&server, "default", "Lena", AccessRole::Admin).await;
    let put = async |rules: Value| {
        let body = Some(json!({"rules": rules}));
        ask(&server, &admin, Method::PUT, "/api/rules", body).await
    };
    let rule = json!({"github_org": "acme", "github_team": "backend", "role": "member"});
    let all = json!({"github_org": "@acme", "github_team": null, "role": "viewer"});
    let (status, list) = put(json!([rule, all])).await;
    assert_eq!(status, 200, "{list}");
    assert_eq!(list["items"][1]["github_org"], "acme");
    let id = list["items"][0]["id"].clone();
    for rules in [
        json!([rule, rule]),
        json!([{"github_org": "acme/x", "role": "viewer"}]),
        json!([{"github_org": "acme", "github_team": "a b", "role": "viewer"}]),
        json!([{"github_org": "acme", "role": "operator"}]),
        json!([{"github_org": "acme"}]),
        json!(vec![all; 21]),
    ] {
        assert_refused(&put(rules).await, 400, "bad_request");
    }
    let (_, list) = put(json!([rule])).await;
    assert_eq!(list["items"][0]["id"], id);
    let (_, read) = get(&server, &admin, "/api/rules").await;
    assert_eq!(read, list);
    server.stop().await;
}

#[tokio::test]
async fn signing_out_everywhere_ends_each_session_of_the_person_alone() {
    let server = TestServer::start().await;
    let (lena, first) = signed_in(&server, "default", "Lena", AccessRole::Admin).await;
    let (_, other) = signed_in(&server, "default", "Ada", AccessRole::Member).await;
    let second = session_of(&server, lena, "lena-2").await;
    let (_, listed) = get(&server, &first, "/api/me/sessions").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    let ended = ask(&server, &second, Method::DELETE, "/api/me/sessions", None).await;
    assert_eq!(ended.0, 204);
    for (session, status) in [(&first, 401), (&second, 401), (&other, 200)] {
        assert_eq!(get(&server, session, "/api/me").await.0, status);
    }
    server.stop().await;
}
