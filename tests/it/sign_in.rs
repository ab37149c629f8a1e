//! Signing in with GitHub, as a browser does it: over HTTP, with cookies, by way of the fake GitHub.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use reqwest::header::{COOKIE, HOST, HeaderMap, LOCATION, SET_COOKIE};
use reqwest::redirect;
use serde_json::{Value, json};
use tallyhook::api::auth;
use tallyhook::app::ServerOptions;
use tallyhook::config::SignInMode;
use tallyhook_core::secret::{Secret, SharedSecret};
use tallyhook_github_client::{OauthApp, VirtualTime};
use tallyhook_store::{AccessRole, DEFAULT_TEAM, NewTeamRule};
use testkit::github::{Consent, FakeGithub, FakeOauthApp, Fault};
use testkit::{Place, TestServer, config};

use super::teams::{ask, operator};

const HOST_NAME: &str = "tallyhook.example.com";
const PUBLIC: &str = "https://tallyhook.example.com";
const CALLBACK: &str = "https://tallyhook.example.com/github/callback";
const CLIENT_ID: &str = "Iv23liClientOfTheTests";
const CLIENT_SECRET: &str = "client_secret_of_the_tests_0123456789abc";

/// A server that people sign in to with GitHub, behind a proxy with TLS.
struct World {
    server: TestServer,
    github: FakeGithub,
}

impl World {
    /// Starts it with a GitHub App.
    async fn start() -> Self {
        Self::start_with(FakeOauthApp::github_app(
            CLIENT_ID,
            CLIENT_SECRET,
            4711,
            CALLBACK,
        ))
        .await
    }

    async fn start_with(app: FakeOauthApp) -> Self {
        let github = FakeGithub::start().await;
        github.add_oauth_app(app);
        github.add_person(42, "octocat");
        github.add_person(43, "hubot");
        github.browse_as("octocat", Consent::Allow);
        let place = Place::embedded();
        let mut config = config(&place);
        config.github_api_url = github.api();
        config.public_url = Some(PUBLIC.parse().unwrap());
        let secret = SharedSecret::new(Secret::new(CLIENT_SECRET.to_owned()));
        config.oauth_app = OauthApp::new(CLIENT_ID, secret);
        config.sign_in = SignInMode::Github;
        let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
        Self { server, github }
    }

    /// Returns the number of rows of each table that a sign-in may touch.
    async fn rows(&self) -> Vec<i64> {
        let mut rows = Vec::new();
        for table in [
            "users",
            "sessions",
            "team_members",
            "github_flows",
            "github_credentials",
            "github_connections",
            "revocations",
            "sign_ins",
        ] {
            let sql = format!("SELECT count(*) AS n FROM {table}");
            let counted = testkit::database::report_rows(&self.server.place.database_url, &sql);
            rows.push(counted.await[0]["n"].as_i64().unwrap());
        }
        rows
    }

    async fn stop(self) {
        self.server.stop().await;
        self.github.stop().await;
    }
}

/// A browser that keeps cookies and does not follow by itself.
struct Browser<'a> {
    world: &'a World,
    http: reqwest::Client,
    jar: BTreeMap<String, String>,
}

struct Seen {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn location(&self) -> &str {
        self.headers[LOCATION].to_str().unwrap()
    }
}

impl<'a> Browser<'a> {
    fn new(world: &'a World) -> Self {
        let http = reqwest::Client::builder().redirect(redirect::Policy::none());
        Self {
            world,
            http: http.build().unwrap(),
            jar: BTreeMap::new(),
        }
    }

    /// Gets an address of GitHub, or one of this server by the proxy's name.
    async fn get(&mut self, address: &str) -> Seen {
        let is_github = address.starts_with(&self.world.github.url);
        let request = if is_github {
            self.http.get(address)
        } else {
            let path = address.strip_prefix(PUBLIC).unwrap_or(address);
            assert!(path.starts_with('/'), "{address} is of another site");
            let cookies: Vec<_> = self.jar.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let request = self.http.get(format!("{}{path}", self.world.server.url));
            let request = request
                .header(HOST, HOST_NAME)
                .header("Accept", "text/html");
            match cookies.is_empty() {
                true => request,
                false => request.header(COOKIE, cookies.join("; ")),
            }
        };
        let answer = request.send().await.unwrap();
        for set in answer.headers().get_all(SET_COOKIE) {
            let set = set.to_str().unwrap();
            assert!(set.contains("Path=/; ") && set.ends_with("HttpOnly; SameSite=Lax; Secure"));
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.jar.insert(name.to_owned(), value.to_owned());
        }
        Seen {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.text().await.unwrap(),
        }
    }

    /// Begins at this server and returns the address that GitHub sends the browser back to.
    async fn way_back(&mut self, return_to: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("return_to", return_to);
        let begun = self.get(&format!("/sign-in?{}", query.finish())).await;
        assert_eq!(begun.status, 303, "{}", begun.body);
        assert_eq!(begun.headers["referrer-policy"], "no-referrer");
        let authorize = begun.location().to_owned();
        assert!(
            authorize.starts_with(&format!("{}/login/oauth/authorize?", self.world.github.url))
        );
        assert!(authorize.contains("code_challenge_method=S256"));
        let asked = self.get(&authorize).await;
        assert_eq!(asked.status, 302, "{}", asked.body);
        asked.location().to_owned()
    }

    /// Signs in and returns the path that the browser is sent to.
    async fn sign_in(&mut self, return_to: &str) -> String {
        let back = self.way_back(return_to).await;
        let seen = self.get(&back).await;
        assert_eq!(seen.status, 303, "{}", seen.body);
        assert_eq!(seen.headers["referrer-policy"], "no-referrer");
        seen.location().to_owned()
    }

    async fn me(&mut self) -> Value {
        let seen = self.get("/api/me").await;
        serde_json::from_str(&seen.body).unwrap()
    }
}

async fn put_rules(world: &World, rules: &[(&str, Option<&str>, AccessRole)]) {
    let rules: Vec<_> = rules
        .iter()
        .map(|(org, team, role)| NewTeamRule {
            github_org_id: None,
            github_org: org,
            github_team: *team,
            role: *role,
        })
        .collect();
    let store = &world.server.running.store;
    store
        .replace_team_rules(DEFAULT_TEAM.0, &rules)
        .await
        .unwrap();
}

#[tokio::test]
async fn person_signs_in_with_a_new_session_and_no_token_is_left_anywhere() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    let login = browser.get("/login?next=%2Fprs").await;
    assert!(
        login.body.contains("href=\"/sign-in?return_to=%2Fprs\""),
        "{}",
        login.body
    );
    // A value that was planted before is never taken up.
    let planted = "a".repeat(64);
    browser
        .jar
        .insert("__Host-tallyhook".to_owned(), planted.clone());
    assert_eq!(browser.sign_in("/prs?state=open").await, "/welcome");
    assert_ne!(browser.jar["__Host-tallyhook"], planted);
    let me = browser.me().await;
    assert_eq!(
        (&me["kind"], &me["user"]["login"]),
        (&json!("session"), &json!("octocat"))
    );
    assert_eq!(me["teams"], json!([]));
    let page = browser.get("/welcome").await;
    for words in ["signed in as", "octocat", "in no team", "invitation"] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    assert_eq!(world.github.tokens_of("octocat"), [""; 0]);
    assert_eq!(world.rows().await, [1, 1, 0, 0, 0, 0, 0, 1]);
    // The number decides, and not the login.
    world.github.rename_person("octocat", "octavia");
    world.github.browse_as("octavia", Consent::Allow);
    let mut second = Browser::new(&world);
    second.sign_in("/").await;
    assert_eq!(second.me().await["user"]["id"], me["user"]["id"]);
    assert_eq!(second.me().await["user"]["login"], "octavia");
    // A member who has signed in goes on at once.
    let store = &world.server.running.store;
    let user = store.users().await.unwrap()[0].person.id;
    let added = store
        .add_member(DEFAULT_TEAM.0, user, AccessRole::Viewer, Utc::now())
        .await;
    added.unwrap();
    let again = browser.get("/sign-in?return_to=%2Fprs").await;
    assert_eq!((again.status, again.location()), (303, "/prs"));
    world.stop().await;
}

#[tokio::test]
async fn state_is_used_once_and_by_its_own_browser_in_any_of_its_tabs() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    let (first, second) = (browser.way_back("/").await, browser.way_back("/").await);
    let before = world.rows().await;
    let mut other = Browser::new(&world);
    let seen = other.get(&first).await;
    assert!(
        seen.status == 400 && seen.body.contains("flow_other_browser"),
        "{}",
        seen.body
    );
    other.way_back("/").await;
    let seen = other.get(&first).await;
    assert!(
        seen.status == 400 && seen.body.contains("flow_other_browser"),
        "{}",
        seen.body
    );
    assert_eq!(
        other.jar.keys().collect::<Vec<_>>(),
        ["__Host-tallyhook-flow"]
    );
    // The other browser took nothing away, and has a way of its own.
    let mut expected = before.clone();
    expected[3] += 1;
    assert_eq!(world.rows().await, expected);
    for tab in [&second, &first] {
        assert_eq!(browser.get(tab).await.status, 303);
    }
    let after = world.rows().await;
    for used in [&second, &first] {
        let seen = browser.get(used).await;
        assert!(
            seen.status == 400 && seen.body.contains("flow_unknown"),
            "{}",
            seen.body
        );
        assert_eq!(seen.headers["referrer-policy"], "no-referrer");
    }
    assert_eq!(world.rows().await, after);
    world.stop().await;
}

#[tokio::test]
async fn every_problem_stores_nothing_and_says_what_to_do() {
    let world = World::start().await;
    let github = &world.github;
    let app =
        |change: &dyn Fn(&mut FakeOauthApp)| github.change_oauth_app(CLIENT_ID, |app| change(app));
    let none = world.rows().await;
    let refused =
        async |code: &str, status: u16, words: &str, meddle: &dyn Fn(), undo: &dyn Fn()| {
            let mut browser = Browser::new(&world);
            let back = browser.way_back("/prs").await;
            meddle();
            let seen = browser.get(&back).await;
            undo();
            assert_eq!(seen.status, status, "{code}: {}", seen.body);
            assert!(
                seen.body.contains(code) && seen.body.contains(words),
                "{code}: {}",
                seen.body
            );
            assert!(!browser.jar.contains_key("__Host-tallyhook"), "{code}");
            assert_eq!(world.rows().await, none, "{code}");
        };
    let nothing = || {};
    refused(
        "app_misconfigured",
        502,
        "GITHUB_CLIENT_SECRET",
        &|| app(&|app| app.client_secret = "another".to_owned()),
        &|| app(&|app| app.client_secret = CLIENT_SECRET.to_owned()),
    )
    .await;
    refused(
        "email_unverified",
        409,
        "verify one",
        &|| github.verify_email("octocat", false),
        &|| github.verify_email("octocat", true),
    )
    .await;
    let broken = || github.next([Fault::Lost(502)]);
    refused(
        "exchange_outcome_unknown",
        502,
        "start again",
        &broken,
        &nothing,
    )
    .await;
    let ahead = VirtualTime::starting_at(Utc::now() + TimeDelta::minutes(11));
    refused(
        "code_expired",
        410,
        "start again",
        &|| github.set_clock(&ahead),
        &|| github.set_clock(&VirtualTime::starting_at(Utc::now())),
    )
    .await;

    // The callback URL of the App is another one, or it is suspended: GitHub says so at once.
    app(&|app| app.is_suspended = true);
    refused("app_misconfigured", 502, "suspended", &nothing, &nothing).await;
    app(&|app| app.is_suspended = false);

    // A person who says no is sent to the login, which offers it again.
    github.browse_as("octocat", Consent::Deny);
    let mut browser = Browser::new(&world);
    let back = browser.way_back("/prs").await;
    let seen = browser.get(&back).await;
    assert_eq!(
        (seen.status, seen.location()),
        (303, "/login?problem=access_denied&next=%2Fprs")
    );
    let login = browser.get(seen.location()).await;
    assert!(login.body.contains("was not allowed") && login.body.contains("return_to=%2Fprs"));
    assert_eq!(world.rows().await, none);
    github.browse_as("octocat", Consent::Allow);

    // Of a way that took too long its row stays a day, for these words.
    let back = browser.way_back("/").await;
    let past = (Utc::now() - TimeDelta::minutes(1)).timestamp_millis();
    world
        .server
        .place
        .execute(&format!("UPDATE github_flows SET expires_at = {past}"))
        .await;
    let seen = browser.get(&back).await;
    assert!(
        seen.status == 410 && seen.body.contains("flow_expired"),
        "{}",
        seen.body
    );
    for address in [
        "/github/callback",
        "/github/callback?code=a&state=b",
        "/github/callback?error=access_denied",
    ] {
        let seen = browser.get(address).await;
        assert!(
            seen.status == 400 && seen.body.contains("flow_unknown"),
            "{address}: {}",
            seen.body
        );
    }
    assert_eq!(
        github.tokens_of("octocat").len(),
        1,
        "the one that never arrived"
    );
    world.stop().await;
}

#[tokio::test]
async fn person_who_is_disabled_is_refused_and_its_token_ends() {
    let world = World::start().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("/").await;
    let store = &world.server.running.store;
    let user = store.users().await.unwrap()[0].person.id;
    store
        .set_user_disabled(user, Some(Utc::now()))
        .await
        .unwrap();
    let before = world.rows().await;
    let mut other = Browser::new(&world);
    let back = other.way_back("/").await;
    let seen = other.get(&back).await;
    assert!(
        seen.status == 403 && seen.body.contains("person_disabled"),
        "{}",
        seen.body
    );
    assert_eq!(world.rows().await, before);
    assert_eq!(world.github.tokens_of("octocat"), [""; 0]);
    world.stop().await;
}

#[tokio::test]
async fn return_leads_to_pages_of_this_server_alone() {
    let world = World::start().await;
    let user = world.server.running.store.record_github_user(
        &tallyhook_store::GithubUser {
            id: 42,
            login: "octocat",
            name: None,
            avatar_url: None,
        },
        Utc::now(),
    );
    let user = user.await.unwrap().unwrap();
    let store = &world.server.running.store;
    let added = store
        .add_member(DEFAULT_TEAM.0, user, AccessRole::Viewer, Utc::now())
        .await;
    added.unwrap();
    for (wanted, place) in [
        ("/prs?state=open&q=a", "/prs?state=open&q=a"),
        ("/repos/acme-corp/api-server", "/repos/acme-corp/api-server"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https://evil.example/prs", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        ("/prs\r\nSet-Cookie: a=b", "/"),
        ("/..//evil.example", "/"),
        ("prs", "/"),
        ("/login", "/"),
        ("/sign-in", "/"),
        ("/github/callback?code=a", "/"),
        ("/api/prs", "/"),
        ("/unknown", "/"),
        ("invitation:00", "/"),
    ] {
        // Each in its own hour, as far as GitHub's limit goes.
        world.server.place.execute("DELETE FROM sign_ins").await;
        assert_eq!(
            Browser::new(&world).sign_in(wanted).await,
            place,
            "{wanted:?}"
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn roles_by_rules_come_and_go_with_active_memberships() {
    let world = World::start().await;
    let github = &world.github;
    github.add_organization(900, "acme");
    put_rules(
        &world,
        &[
            ("acme", None, AccessRole::Viewer),
            ("acme", Some("backend"), AccessRole::Member),
        ],
    )
    .await;
    let seat = |state| github.organization("acme", |acme| acme.seat("octocat", state, "member"));
    let seat_in_team = |state| {
        github.organization("acme", |acme| {
            acme.seat_in_team("backend", "octocat", state)
        })
    };
    let role = async || {
        world.server.place.execute("DELETE FROM sign_ins").await;
        let mut browser = Browser::new(&world);
        browser.sign_in("/").await;
        browser.me().await["teams"][0]["role"].clone()
    };
    assert_eq!(role().await, Value::Null);
    seat("pending");
    assert_eq!(role().await, Value::Null, "an invitation is no membership");
    seat("active");
    assert_eq!(role().await, "viewer");
    seat_in_team("pending");
    assert_eq!(role().await, "viewer");
    seat_in_team("active");
    assert_eq!(role().await, "member");
    // GitHub does not say: the last answer holds.
    github.organization("acme", |acme| acme.has_ip_allow_list = true);
    assert_eq!(role().await, "member");
    github.organization("acme", |acme| {
        acme.has_ip_allow_list = false;
        acme.teams.clear();
    });
    assert_eq!(role().await, "viewer");
    github.organization("acme", |acme| acme.members.clear());
    assert_eq!(role().await, Value::Null);
    world.stop().await;
}

#[tokio::test]
async fn invitation_of_a_login_is_used_by_its_person_alone() {
    let world = World::start().await;
    let body = Some(json!({"github_login": "octocat", "role": "member"}));
    let made = ask(
        &world.server,
        &operator(),
        reqwest::Method::POST,
        "/api/invitations",
        body,
    )
    .await;
    let url = made.1["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix(PUBLIC).unwrap();
    let secret = path.strip_prefix("/invitations/").unwrap();
    let page = Browser::new(&world).get(path).await;
    assert!(
        page.body.contains("Sign in with GitHub and join"),
        "{}",
        page.body
    );
    world.github.browse_as("hubot", Consent::Allow);
    let mut hubot = Browser::new(&world);
    assert_eq!(
        hubot.sign_in(path).await,
        "/welcome?invitation=other_person"
    );
    world.github.browse_as("octocat", Consent::Allow);
    let mut octocat = Browser::new(&world);
    let back = octocat.way_back(path).await;
    // Only a digest of the secret is stored.
    let stored = "SELECT return_to FROM github_flows";
    let stored = testkit::database::report_rows(&world.server.place.database_url, stored).await;
    let digest = format!("invitation:{}", hex::encode(auth::hash(secret)));
    assert_eq!(stored[0]["return_to"], digest);
    assert_eq!(octocat.get(&back).await.location(), "/");
    assert_eq!(
        octocat.me().await["teams"],
        json!([{"team": "default", "role": "member"}])
    );
    assert_eq!(hubot.me().await["teams"], json!([]));
    world.stop().await;
}

/// Gives the person another token of the App, as a connection has it.
async fn connect(world: &World, scope: &str) -> String {
    let url = &world.github.url;
    let authorize = format!(
        "{url}/login/oauth/authorize?client_id={CLIENT_ID}&redirect_uri={CALLBACK}&scope={scope}"
    );
    let seen = Browser::new(world).get(&authorize).await;
    let back = reqwest::Url::parse(seen.location()).unwrap();
    let code = back.query_pairs().find(|(name, _)| name == "code").unwrap();
    let form = format!(
        "client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}&code={}",
        code.1
    );
    let exchange = reqwest::Client::new().post(format!("{url}/login/oauth/access_token"));
    let exchange = exchange
        .header("Content-Type", super::teams::FORM)
        .header("Accept", "application/json");
    let answer = exchange.body(form).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn fifteen_sign_ins_within_an_hour_end_no_connection() {
    // Tokens of an OAuth App for sign-ins have other scopes than those of connections.
    let app = FakeOauthApp::oauth_app(CLIENT_ID, CLIENT_SECRET, CALLBACK);
    let world = World::start_with(app).await;
    let connection = connect(&world, "repo").await;
    for _ in 0..15 {
        Browser::new(&world).sign_in("/").await;
    }
    assert_eq!(world.github.tokens_of("octocat"), [connection]);
    world.stop().await;

    // Those of a GitHub App have none: before the limit the browser is asked to wait.
    let world = World::start().await;
    let connection = connect(&world, "").await;
    let mut browser = Browser::new(&world);
    let mut refusals = 0;
    for _ in 0..15 {
        browser.jar.remove("__Host-tallyhook");
        let begun = browser.get("/sign-in").await;
        if begun.status == 429 {
            assert!(begun.body.contains("too_many_sign_ins"), "{}", begun.body);
            refusals += 1;
            continue;
        }
        let back = browser.get(begun.location()).await;
        assert_eq!(browser.get(back.location()).await.status, 303);
    }
    assert_eq!(refusals, 6);
    assert_eq!(world.github.tokens_of("octocat"), [connection]);
    world.stop().await;
}

#[tokio::test]
async fn without_the_setting_nothing_changes() {
    let server = TestServer::start().await;
    let get = async |path: &str| {
        let answer = server
            .http
            .get(format!("{}{path}", server.url))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, login) = get("/login").await;
    assert!(status == 200 && !login.contains("Sign in with GitHub"), "{login}");
    for path in ["/sign-in", "/github/callback?code=a&state=b"] {
        let (status, page) = get(path).await;
        assert!(
            status == 200 && page.contains("nobody signs in with GitHub"),
            "{page}"
        );
    }
    server.stop().await;
}
