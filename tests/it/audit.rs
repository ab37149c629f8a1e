//! The record of administrative acts: each makes one row, in its own transaction.

use std::collections::BTreeSet;

use chrono::{TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use tallyhook::api::{CallRecord, RECORDS, record_of};
use tallyhook::app::{RoleSet, ServerOptions};
use tallyhook::config::{
    ChannelConfig, ChannelFilter, ChannelHours, ChannelReceiver, ChannelSecret,
};
use tallyhook::dashboard::page_calls;
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::{Credentials, Token};
use tallyhook_store::{
    AccessRole, AuditActor, AuditActorKind, AuditFilter, AuditResult, AuditScope, AuditTarget,
    CallEnd, CallFilter, CallOutcome, NewAuditEvent, NewCall, TeamId,
};
use testkit::conformity::operations;
use testkit::github::{FakeGithub, GITHUB_TOKEN};
use testkit::{Place, TOKEN, TestServer, assert_refused};

const REPO: &str = "acme-corp/api-server";
const BROKEN: &[u8] = br#"{"action":"opened"}"#;

/// Reads that take payloads out of the installation are acts, too.
const RECORDED_READS: [&str; 6] = [
    "GET /api/delivery-payloads/{id}",
    "GET /api/deliveries/{id}/export",
    "GET /api/dead-letters/export",
    "GET /deliveries/{id}/payload",
    "GET /deliveries/{id}/fixture",
    "GET /dead-letters/export",
];

#[test]
fn every_unsafe_call_and_form_is_an_act_or_says_why_it_is_none() {
    let calls = operations().map(|(method, path, _)| (method, path.to_owned()));
    let forms = page_calls().into_iter();
    let forms = forms.map(|call| (call.method.to_string(), call.path.to_owned()));
    let all: BTreeSet<_> = calls.chain(forms).collect();
    let mut acts = 0;
    for (method, path) in all.iter().filter(|(method, _)| method != "GET") {
        let record = record_of(method, path);
        let record = record.unwrap_or_else(|| panic!("{method} {path} is not in RECORDS"));
        match record {
            CallRecord::Act { action, .. } => {
                assert!(action.contains('.'), "{action}");
                acts += 1;
            }
            CallRecord::None(reason) => assert!(reason.len() > 10, "{method} {path}: {reason}"),
        }
    }
    assert!(acts > 20, "{acts}");
    // What is listed is there.
    for (call, record) in RECORDS {
        let (method, path) = call.split_once(' ').unwrap();
        let is_there = all.contains(&(method.to_owned(), path.to_owned()));
        assert!(is_there, "{call} is listed and does not exist");
        let is_read = method == "GET";
        assert!(!is_read || RECORDED_READS.contains(call), "{call}");
        if let CallRecord::Act { fields, .. } = record {
            let secret = ["token", "secret", "password", "key", "code"];
            assert!(fields.iter().all(|field| !secret.contains(field)), "{call}");
        }
    }
}

/// An act of the table below: its call, its body, its action, and a list that shows its effect.
struct Deed {
    method: Method,
    path: String,
    body: Value,
    action: &'static str,
    effect: &'static str,
}

fn deed(method: Method, path: &str, body: Value, action: &'static str) -> Deed {
    let (path, effect) = (path.to_owned(), "/api/tokens");
    Deed {
        method,
        path,
        body,
        action,
        effect,
    }
}

impl Deed {
    fn seen_at(self, effect: &'static str) -> Self {
        Self { effect, ..self }
    }
}

/// Starts a server that leaves the requested work to other processes, with a fake GitHub.
async fn start() -> (TestServer, FakeGithub) {
    let github = FakeGithub::start().await;
    github.add_repository(101, REPO);
    github.add_repository(102, "acme-corp/web");
    let place = Place::new().await;
    let mut config = testkit::config(&place);
    config.github_api_url = github.api();
    config.github_credentials = Token::parse(GITHUB_TOKEN).map(Credentials::Token);
    config.notify.channels = vec![ChannelConfig {
        name: "ops".to_owned(),
        team: None,
        receiver: ChannelReceiver::Webhook {
            secret: ChannelSecret::parse("a-secret-of-a-channel"),
        },
        // Nothing listens there.
        url: "http://127.0.0.1:1/hook".to_owned(),
        filter: ChannelFilter::default(),
        hours: ChannelHours::default(),
    }];
    let roles = RoleSet {
        poller: false,
        ..RoleSet::ALL
    };
    let options = ServerOptions {
        roles,
        ..ServerOptions::default()
    };
    let server = TestServer::start_as(&config, place, options).await;
    server.track(RepoId(101), REPO, Utc::now()).await;
    for guid in ["one-1", "two-2", "three-3", "four-4"] {
        server.post("pull_request", guid, BROKEN).await;
    }
    (server, github)
}

/// Returns the acts on record, the newest first.
async fn acts(server: &TestServer) -> Vec<Value> {
    let (status, list) = server.get("/api/audit?per_page=100").await;
    assert_eq!(status, 200, "{list}");
    list["items"].as_array().unwrap().clone()
}

/// Returns acts that are possible one after the other.
async fn deeds(server: &TestServer) -> Vec<Deed> {
    let (_, dead) = server.get("/api/dead-letters").await;
    let ids: Vec<_> = dead["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].clone())
        .collect();
    let dead = |path: &str, id: &Value| format!("/api/{path}").replace("ID", &id.to_string());
    let (post, delete) = (Method::POST, Method::DELETE);
    let letters = "/api/dead-letters";
    vec![
        deed(
            post.clone(),
            "/api/tokens",
            json!({"name": "ci", "role": "viewer"}),
            "token.created",
        ),
        deed(
            delete.clone(),
            "/api/tokens/ci",
            Value::Null,
            "token.revoked",
        ),
        deed(
            post.clone(),
            "/api/repos",
            json!({"repo": "acme-corp/web"}),
            "repository.tracked",
        )
        .seen_at("/api/repos"),
        deed(
            delete.clone(),
            "/api/me/sessions",
            Value::Null,
            "session.all_ended",
        ),
        deed(
            post.clone(),
            &format!("/api/repos/{REPO}/sync"),
            Value::Null,
            "sync.forced",
        )
        .seen_at("/api/sync-runs"),
        deed(post.clone(), "/api/sync", Value::Null, "poll.forced"),
        deed(
            delete.clone(),
            "/api/sync-runs/1",
            Value::Null,
            "sync.cancelled",
        )
        .seen_at("/api/sync-runs"),
        deed(
            post.clone(),
            "/api/channels/ops/test",
            Value::Null,
            "channel.tested",
        ),
        deed(
            delete.clone(),
            &dead("dead-letters/ID?reason=a%20test", &ids[0]),
            Value::Null,
            "dead_letter.discarded",
        )
        .seen_at(letters),
        deed(
            post.clone(),
            "/api/dead-letters/discard",
            json!({"ids": [ids[1]], "reason": "a test"}),
            "dead_letters.discarded",
        )
        .seen_at(letters),
        deed(
            Method::GET,
            "/api/dead-letters/export",
            Value::Null,
            "dead_letters.exported",
        ),
        deed(
            Method::GET,
            &dead("deliveries/ID/export", &ids[2]),
            Value::Null,
            "delivery.exported",
        ),
        deed(
            Method::GET,
            &dead("delivery-payloads/ID", &ids[2]),
            Value::Null,
            "delivery.payload_read",
        ),
        deed(
            delete,
            &format!("/api/repos/{REPO}"),
            Value::Null,
            "repository.untracked",
        )
        .seen_at("/api/repos"),
    ]
}

async fn send(server: &TestServer, deed: &Deed) -> u16 {
    let url = format!("{}{}", server.url, deed.path);
    let mut request = server
        .http
        .request(deed.method.clone(), url)
        .bearer_auth(TOKEN);
    if !deed.body.is_null() {
        request = request.json(&deed.body);
    }
    let answer = request
        .header("User-Agent", "a-browser")
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    answer.bytes().await.unwrap();
    status
}

/// Lets every row of the record fail, or no longer.
async fn let_rows_fail(server: &TestServer, fail: bool) {
    let sql = match (server.place.postgres().is_some(), fail) {
        (false, true) => {
            "CREATE TRIGGER no_rows BEFORE INSERT ON audit_events \
             BEGIN SELECT RAISE(ABORT, 'no rows'); END"
        }
        (false, false) => "DROP TRIGGER no_rows",
        (true, true) => {
            "CREATE TRIGGER no_rows BEFORE INSERT ON audit_events \
             FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        }
        (true, false) => "DROP TRIGGER no_rows ON audit_events",
    };
    server.place.execute(sql).await;
}

#[tokio::test]
async fn each_act_makes_one_row_and_none_is_done_without() {
    let (server, _github) = start().await;
    for (number, deed) in deeds(&server).await.iter().enumerate() {
        let what = format!("{} {}", deed.method, deed.path);
        let before = server.get(deed.effect).await.1;
        let known = acts(&server).await.len();
        assert_eq!(known, number, "{what}");
        let_rows_fail(&server, true).await;
        assert_eq!(
            send(&server, deed).await,
            503,
            "{what} is done without its row"
        );
        let_rows_fail(&server, false).await;
        assert_eq!(
            server.get(deed.effect).await.1,
            before,
            "{what} is done without its row"
        );
        assert_eq!(acts(&server).await.len(), known, "{what}");

        let status = send(&server, deed).await;
        assert!((200..300).contains(&status), "{what}: {status}");
        let rows = acts(&server).await;
        assert_eq!(rows.len(), known + 1, "{what}");
        let row = &rows[0];
        assert_eq!(row["action"], deed.action, "{what}");
        let told = (
            &row["actor"]["kind"],
            &row["agent"],
            &row["ip"],
            &row["result"],
        );
        let expected = ("operator", "a-browser", "127.0.0.0/24", "ok");
        let expected = (
            &json!(expected.0),
            &json!(expected.1),
            &json!(expected.2),
            &json!(expected.3),
        );
        assert_eq!(told, expected, "{what}");
    }
    server.stop().await;
}

#[tokio::test]
async fn act_that_is_refused_or_changes_nothing_makes_no_row() {
    let (server, _github) = start().await;
    let viewer = server.create_token("viewer", AccessRole::Viewer).await;
    let as_viewer = server.http.post(format!("{}/api/tokens", server.url));
    let as_viewer = as_viewer
        .bearer_auth(viewer)
        .json(&json!({"name": "x", "role": "viewer"}));
    assert_eq!(as_viewer.send().await.unwrap().status(), 403);
    for (method, path, body, expected) in [
        (Method::DELETE, "/api/tokens/none", Value::Null, 404),
        (
            Method::POST,
            "/api/tokens",
            json!({"name": "viewer", "role": "viewer"}),
            409,
        ),
        (Method::POST, "/api/tokens", json!({"role": "viewer"}), 400),
        (Method::POST, "/api/channels/none/test", Value::Null, 404),
    ] {
        let (status, answer) = server.ask(method, path, &body).await;
        assert_eq!(status, expected, "{path}: {answer}");
    }
    assert_eq!(acts(&server).await, Vec::<Value>::new());
    server.stop().await;
}

#[tokio::test]
async fn row_names_actor_target_and_fields_without_secrets() {
    let (server, _github) = start().await;
    let admin = server.create_token("lena", AccessRole::Admin).await;
    let request = server
        .http
        .post(format!("{}/api/tokens", server.url))
        .bearer_auth(&admin);
    let body = json!({"name": "ci", "role": "viewer", "expires_days": 7});
    let made: Value = request
        .json(&body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let rows = acts(&server).await;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        row["actor"],
        json!({"kind": "token", "id": null, "name": "lena"})
    );
    assert_eq!(
        row["target"],
        json!({"kind": "token", "id": "ci", "name": "ci"})
    );
    assert_eq!(row["after"], body);
    assert_eq!(row["team"], "default");
    let text = row.to_string();
    let token = made["token"].as_str().unwrap();
    assert!(!text.contains(token) && !text.contains(&admin), "{text}");
    server.stop().await;
}

fn event(team: Option<TeamId>, action: &str, name: &str, age: TimeDelta) -> NewAuditEvent {
    NewAuditEvent {
        at: Utc::now() - age,
        team,
        actor: AuditActor {
            kind: AuditActorKind::Token,
            id: None,
            name: name.to_owned(),
        },
        action: action.to_owned(),
        target: AuditTarget::default(),
        before: None,
        after: Some(json!({"name": "=1+1"})),
        ip: None,
        agent: Some("=cmd|' /C calc'!A0".to_owned()),
        result: AuditResult::Ok,
    }
}

fn call(team: Option<TeamId>, is_mutation: bool, age: TimeDelta) -> (NewCall, CallEnd) {
    let call = NewCall {
        at: Utc::now() - age,
        team,
        actor: "system:poller".to_owned(),
        connection: None,
        method: if is_mutation { "POST" } else { "GET" }.to_owned(),
        route: "/repos/{owner}/{repo}/pulls".to_owned(),
        path: "/repos/acme/site/pulls".to_owned(),
        kind: "rest".to_owned(),
        is_mutation,
        attempt: 1,
        bytes_out: 0,
        correlation: Some("sync:1".to_owned()),
    };
    let end = CallEnd {
        outcome: CallOutcome::Done,
        status: Some(200),
        error: None,
        duration_ms: Some(12),
        rate_remaining: Some(4999),
        request_id: Some("C0DE".to_owned()),
    };
    (call, end)
}

#[tokio::test]
async fn admin_reads_the_rows_of_its_team_and_an_operator_all() {
    let server = TestServer::start().await;
    server
        .place
        .execute("INSERT INTO teams (id, name) VALUES (2, 'other')")
        .await;
    let store = &server.running.store;
    let (one, two) = (Some(TeamId(1)), Some(TeamId(2)));
    for (team, name) in [(one, "mine"), (two, "theirs"), (None, "installation")] {
        let event = event(team, "token.created", name, TimeDelta::zero());
        store.add_audit_event(&event).await.unwrap();
        store
            .record_calls(&[call(team, false, TimeDelta::zero())], &[])
            .await
            .unwrap();
    }
    let admin = server.create_token("admin", AccessRole::Admin).await;
    let member = server.create_token("member", AccessRole::Member).await;
    let get = async |token: &str, path: &str| {
        let request = server.http.get(format!("{}{path}", server.url));
        let answer = request.bearer_auth(token).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    for path in ["/api/audit?count=true", "/api/github/calls?count=true"] {
        assert_refused(&get(&member, path).await, 403, "forbidden");
        let (_, mine) = get(&admin, path).await;
        assert_eq!(mine["count"]["n"], 1, "{mine}");
        assert!(!mine.to_string().contains("theirs"), "{mine}");
        assert_eq!(mine["items"][0]["team"], "default");
        assert_eq!(get(TOKEN, path).await.1["count"]["n"], 3);
    }
    server.stop().await;
}

#[tokio::test]
async fn records_are_filtered_paged_and_exported_whole() {
    let server = TestServer::start().await;
    let store = &server.running.store;
    let team = Some(TeamId(1));
    for number in 0..1100 {
        let action = if number % 11 == 0 {
            "token.revoked"
        } else {
            "sync.forced"
        };
        let event = event(team, action, "lena", TimeDelta::hours(number));
        store.add_audit_event(&event).await.unwrap();
    }
    let count = async |query: &str| {
        let (status, list) = server.get(&format!("/api/audit?count=true&{query}")).await;
        assert_eq!(status, 200, "{list}");
        list["count"]["n"].as_u64().unwrap()
    };
    assert_eq!(count("action=token").await, 100);
    assert_eq!(count("action=token.revoked").await, 100);
    assert_eq!(count("action=toke").await, 0);
    assert_eq!(count("actor=lena&from=24h").await, 24);
    assert_eq!(count("actor=mara").await, 0);
    let mut path = "/api/audit?action=token&per_page=30".to_owned();
    let mut ids = Vec::new();
    loop {
        let (_, list) = server.get(&path).await;
        ids.extend(
            list["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["id"].as_i64().unwrap()),
        );
        let Some(next) = list["next"].as_str() else {
            break;
        };
        path = format!("/api/audit?action=token&per_page=30&cursor={next}");
    }
    assert_eq!(ids.len(), 100);
    assert!(ids.is_sorted_by(|one, two| one > two));

    let text = async |path: &str| {
        let request = server.http.get(format!("{}{path}", server.url));
        let answer = request.bearer_auth(TOKEN).send().await.unwrap();
        let kind = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        (kind, answer.text().await.unwrap())
    };
    let (kind, lines) = text("/api/audit?format=ndjson&action=sync.forced").await;
    assert_eq!(
        (kind.as_str(), lines.lines().count()),
        ("application/x-ndjson", 1000)
    );
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["actor"]["name"], "lena");
    // The export before is a row of its own.
    let (kind, file) = text("/api/audit?format=csv").await;
    assert!(kind.starts_with("text/csv"), "{kind}");
    let mut reader = csv::Reader::from_reader(file.as_bytes());
    let names: Vec<_> = reader
        .headers()
        .unwrap()
        .iter()
        .map(str::to_owned)
        .collect();
    assert!(names.contains(&"actor.name".to_owned()), "{names:?}");
    let agent = names.iter().position(|name| name == "agent").unwrap();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1102);
    assert!(
        rows.iter()
            .filter(|row| row[agent].starts_with("'=cmd"))
            .count()
            == 1100
    );
    assert_eq!(count("action=audit.exported").await, 2);
    server.stop().await;
}

#[tokio::test]
async fn old_rows_are_deleted_and_mutations_stay_longer() {
    let server = TestServer::start().await;
    let store = &server.running.store;
    let team = Some(TeamId(1));
    let days = TimeDelta::days;
    for age in [1, 364, 366] {
        let event = event(team, "token.created", "lena", days(age));
        store.add_audit_event(&event).await.unwrap();
    }
    for (is_mutation, age) in [(false, 29), (false, 31), (true, 31), (true, 366)] {
        store
            .record_calls(&[call(team, is_mutation, days(age))], &[])
            .await
            .unwrap();
    }
    let now = Utc::now();
    assert_eq!(
        store
            .purge_audit_events(now - days(365), 500)
            .await
            .unwrap(),
        1
    );
    let purged = store
        .purge_calls(now - days(30), now - days(365), 500)
        .await
        .unwrap();
    assert_eq!(purged, 2);
    let filter = AuditFilter {
        scope: AuditScope::All,
        from: None,
        to: None,
        actor: None,
        action: None,
    };
    assert_eq!(store.count_audit_events(&filter).await.unwrap(), 2);
    let filter = CallFilter {
        scope: AuditScope::All,
        from: None,
        to: None,
        actor: None,
        action: None,
    };
    let left = store.github_calls(&filter, None, 9).await.unwrap();
    let left: Vec<_> = left.iter().map(|row| row.call.is_mutation).collect();
    assert_eq!(left, [true, false]);
    server.stop().await;
}

#[tokio::test]
async fn row_of_the_record_cannot_be_changed() {
    let server = TestServer::start().await;
    let store = &server.running.store;
    let event = event(None, "token.created", "lena", TimeDelta::zero());
    store.add_audit_event(&event).await.unwrap();
    let change = "UPDATE audit_events SET actor_name = 'mara'";
    let changed = match server.place.postgres() {
        Some(database) => sqlx_postgres_refuses(&database.url, change).await,
        None => sqlx_sqlite_refuses(&server.place.database_url, change).await,
    };
    assert!(changed.contains("is never changed"), "{changed}");
    server.stop().await;
}

async fn sqlx_sqlite_refuses(url: &str, sql: &'static str) -> String {
    use sqlx::Connection;
    let mut connection = sqlx_sqlite::SqliteConnection::connect(url).await.unwrap();
    let changed = sqlx::raw_sql(sql).execute(&mut connection).await;
    changed.err().unwrap().to_string()
}

async fn sqlx_postgres_refuses(url: &str, sql: &'static str) -> String {
    use sqlx::Connection;
    let mut connection = sqlx_postgres::PgConnection::connect(url).await.unwrap();
    let changed = sqlx::raw_sql(sql).execute(&mut connection).await;
    changed.err().unwrap().to_string()
}
