//! Notifications over a WebSocket, from the webhook to an independent client implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::future::join;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use tallyhook::app::ServerOptions;
use tallyhook_core::domain::notification::{PullRequestStatus, StatusChange, SyncSource};
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_store::{AccessRole, BatchWrite, DEFAULT_TEAM, PullRequestChange};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use testkit::payloads::{self, Account, Pr, World};
use testkit::socket::{Socket, connect, frame, request, with_header, with_token};
use testkit::{Place, TOKEN, TestServer, assert_refused, fixtures, repo_id};

const REPO: &str = "acme-corp/api-server";
const LONG_AGO: DateTime<Utc> = DateTime::UNIX_EPOCH;

fn mira() -> Account {
    Account::user(900_000_101, "mira")
}

fn pull_request(number: i64) -> Pr {
    let title = "Answer 429 when the rate limit is reached";
    Pr::new(
        &World::acme(),
        number,
        Some(&mira()),
        title,
        "rate-limit",
        "2026-03-02T09:00:00Z",
    )
}

async fn start() -> TestServer {
    let server = TestServer::start().await;
    server.track(repo_id(), REPO, LONG_AGO).await;
    server
}

async fn post(server: &mut TestServer, pr: &Pr, action: &str) {
    let body = payloads::pull_request_event(pr, action, &mira(), json!({}))
        .to_string()
        .into_bytes();
    let guid = uuid::Uuid::new_v4().to_string();
    assert_eq!(server.post("pull_request", &guid, &body).await.0, 202);
    server.drained().await;
}

/// Returns status and body of a request that must be refused.
async fn refusal(request: Request) -> (u16, Value) {
    match tokio_tungstenite::connect_async(request).await {
        Err(tungstenite::Error::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            (
                answer.status().as_u16(),
                serde_json::from_slice(body).unwrap(),
            )
        }
        other => panic!("{other:?}"),
    }
}

/// Returns the reason why the socket is closed, which must be the next message.
async fn closed(socket: &mut Socket) -> (u16, String) {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Close(Some(reason)) => return (reason.code.into(), reason.reason.to_string()),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn number_of(frame: &Value) -> i64 {
    frame["pr_number"].as_i64().unwrap()
}

#[tokio::test]
async fn client_of_a_former_name_is_notified_of_the_renamed_repository() {
    let mut server = start().await;
    let mut world = World::acme();
    post(&mut server, &pull_request(1), "opened").await;
    let mut early = connect(&server, &format!("?repo={REPO}")).await;
    world.repo = "backend".to_owned();
    world.updated_at = "2026-03-03T09:00:00Z".to_owned();
    let mut renamed = pull_request(2);
    renamed.world = world;
    renamed.touch("2026-03-03T09:00:00Z");
    post(&mut server, &renamed, "opened").await;
    let mut late = connect(&server, &format!("?repo={REPO}")).await;
    renamed.merge(&mira(), "2026-03-03T10:00:00Z");
    post(&mut server, &renamed, "closed").await;
    let (opened, merged) = (frame(&mut early).await, frame(&mut early).await);
    assert_eq!(opened["repo"], "acme-corp/backend");
    assert_eq!(merged["new_status"], "MERGED");
    assert_eq!(frame(&mut late).await, merged);
    server.stop().await;
}

#[tokio::test]
async fn webhook_becomes_a_frame_of_the_contract() {
    let mut server = start().await;
    let mut socket = connect(&server, "").await;
    let mut pr = pull_request(7);
    post(&mut server, &pr, "opened").await;
    pr.merge(&mira(), "2026-03-02T10:30:00Z");
    post(&mut server, &pr, "closed").await;
    let key = PrKey {
        repo: repo_id(),
        number: PrNumber(7),
    };
    let (opened, merged) = (frame(&mut socket).await, frame(&mut socket).await);
    let notified = |old: Option<&str>, new: &str, at: &str, id: &Value| {
        json!({
            "type": "pr_status_change", "pr_id": PullRequest::id(key), "repo": REPO, "pr_number": 7, "task_id": null,
            "title": "Answer 429 when the rate limit is reached", "html_url": pull_request(7).html_url(), "author": "mira", "task_key": null,
            "old_status": old, "new_status": new, "sync_source": "webhook", "timestamp": at, "event_id": id,
        })
    };
    assert_eq!(
        opened,
        notified(None, "OPEN", "2026-03-02T09:00:00Z", &opened["event_id"])
    );
    assert_eq!(
        merged,
        notified(
            Some("OPEN"),
            "MERGED",
            "2026-03-02T10:30:00Z",
            &merged["event_id"]
        )
    );
    assert!(opened["event_id"].as_str().unwrap() < merged["event_id"].as_str().unwrap());
    server.stop().await;
}

#[tokio::test]
async fn filter_selects_one_repository() {
    let mut server = start().await;
    server.track(RepoId(8), "acme-corp/web", LONG_AGO).await;
    let mut here = connect(&server, "?repo=ACME-Corp/api-server").await;
    let mut there = connect(&server, "?repo=acme-corp/web").await;
    post(&mut server, &pull_request(1), "opened").await;
    record(&server, RepoId(8), 2..3).await;
    post(&mut server, &pull_request(3), "opened").await;
    assert_eq!(
        [
            number_of(&frame(&mut here).await),
            number_of(&frame(&mut here).await)
        ],
        [1, 3]
    );
    assert_eq!(number_of(&frame(&mut there).await), 2);
    server.stop().await;
}

#[tokio::test]
async fn client_that_resumes_misses_nothing() {
    let mut server = start().await;
    let mut socket = connect(&server, "").await;
    post(&mut server, &pull_request(1), "opened").await;
    let last = frame(&mut socket).await["event_id"]
        .as_str()
        .unwrap()
        .to_owned();
    socket.close(None).await.unwrap();
    // More than one page of the outbox.
    record(&server, repo_id(), 1_000..1_300).await;
    let mut socket = connect(&server, &format!("?after={last}")).await;
    record(&server, repo_id(), 1_300..1_600).await;
    for number in 1_000..1_600 {
        assert_eq!(number_of(&frame(&mut socket).await), number);
    }
    // A client that did not ask for older events gets none of them.
    let mut late = connect(&server, "").await;
    post(&mut server, &pull_request(2), "opened").await;
    assert_eq!(number_of(&frame(&mut late).await), 2);
    // Also after a restart.
    let place = server.stop().await;
    let server = TestServer::start_in(place, ServerOptions::default()).await;
    let mut socket = connect(&server, &format!("?after={last}")).await;
    assert_eq!(number_of(&frame(&mut socket).await), 1_000);
    server.stop().await;
}

#[tokio::test]
async fn expired_event_is_reported_as_expired() {
    let server = start().await;
    let mut socket = connect(&server, "?after=0000000000000000123").await;
    let (code, reason) = closed(&mut socket).await;
    assert!(
        code == 4410 && reason.contains("has expired"),
        "{code} {reason}"
    );
    assert_refused(
        &refusal(with_token(request(&server, "?after=123"))).await,
        400,
        "bad_request",
    );
    server.stop().await;
}

#[tokio::test]
async fn only_authorized_clients_of_our_origin_connect() {
    let place = Place::new().await;
    let mut config = testkit::config(&place);
    config.websocket_clients = 1;
    let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    assert_refused(&refusal(request(&server, "")).await, 401, "unauthorized");
    assert_refused(
        &refusal(request(&server, "?ticket=none")).await,
        401,
        "unauthorized",
    );
    let wrong = with_header(
        request(&server, ""),
        "authorization",
        "Bearer tallyhook_wrong",
    );
    assert_refused(&refusal(wrong).await, 401, "unauthorized");
    let foreign = with_header(
        with_token(request(&server, "")),
        "origin",
        "https://evil.example",
    );
    assert_refused(&refusal(foreign).await, 403, "forbidden");
    let (status, answer) = server.get("/ws").await;
    assert_refused(&(status, answer), 400, "bad_request");

    let ours = with_header(with_token(request(&server, "")), "origin", &server.url);
    let (mut socket, _) = tokio_tungstenite::connect_async(ours).await.unwrap();
    assert!(metric(&server, "tallyhook_websocket_clients").await >= 1.0);
    assert_refused(
        &refusal(with_token(request(&server, ""))).await,
        503,
        "unavailable",
    );
    socket.close(None).await.unwrap();
    // A close frame is answered after the client's state is removed.
    while socket.next().await.is_some() {}
    drop(connect(&server, "").await);
    server.stop().await;
}

/// Returns a metric of this process, which other tests may share; 0 while it does not exist.
async fn metric(server: &TestServer, name: &str) -> f64 {
    let text = server
        .http
        .get(format!("{}/metrics", server.url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |number| number.parse().unwrap())
}

#[tokio::test]
async fn ticket_opens_one_socket() {
    let place = Place::new().await;
    let mut config = testkit::config(&place);
    config.websocket_clients = 1;
    let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    server.track(repo_id(), REPO, LONG_AGO).await;
    let asked = server.http.post(format!("{}/api/ws-ticket", server.url));
    assert_eq!(
        asked.try_clone().unwrap().send().await.unwrap().status(),
        401
    );
    let answer = asked.bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let answer: Value = answer.json().await.unwrap();
    let query = format!("?ticket={}", answer["ticket"].as_str().unwrap());
    // A request that is refused for another reason does not use it up.
    let plain = server
        .http
        .get(format!("{}/ws{query}", server.url))
        .send()
        .await
        .unwrap();
    assert_refused(
        &(plain.status().as_u16(), plain.json().await.unwrap()),
        400,
        "bad_request",
    );
    assert_refused(
        &refusal(request(&server, &format!("{query}&after=123"))).await,
        400,
        "bad_request",
    );
    let mut other = connect(&server, "").await;
    assert_refused(&refusal(request(&server, &query)).await, 503, "unavailable");
    other.close(None).await.unwrap();
    while other.next().await.is_some() {}

    let (mut socket, _) = tokio_tungstenite::connect_async(request(&server, &query))
        .await
        .unwrap();
    record(&server, repo_id(), 1..2).await;
    assert_eq!(number_of(&frame(&mut socket).await), 1);
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    assert_refused(
        &refusal(request(&server, &query)).await,
        401,
        "unauthorized",
    );
    server.stop().await;
}

#[tokio::test]
async fn client_with_a_revoked_token_is_closed() {
    // Long enough for the remaining clients to answer heartbeats, although the test does not read
    // from them for a while.
    let heartbeat = Duration::from_secs(4);
    let server = TestServer::start_with(ServerOptions {
        heartbeat,
        ..ServerOptions::default()
    })
    .await;
    server.track(repo_id(), REPO, LONG_AGO).await;
    let leaver = server.create_token("leaver", AccessRole::Viewer).await;
    let colleague = server.create_token("colleague", AccessRole::Viewer).await;
    let as_who = |query: &str, who: &str| {
        with_header(
            request(&server, query),
            "authorization",
            &format!("Bearer {who}"),
        )
    };
    let ticket = async || {
        let asked = server
            .http
            .post(format!("{}/api/ws-ticket", server.url))
            .bearer_auth(&leaver);
        let answer: Value = asked.send().await.unwrap().json().await.unwrap();
        format!("?ticket={}", answer["ticket"].as_str().unwrap())
    };
    let (used, unused) = (
        request(&server, &ticket().await),
        request(&server, &ticket().await),
    );
    let (mut leaver, _) = tokio_tungstenite::connect_async(as_who("", &leaver))
        .await
        .unwrap();
    let (mut by_ticket, _) = tokio_tungstenite::connect_async(used).await.unwrap();
    let (mut colleague, _) = tokio_tungstenite::connect_async(as_who("", &colleague))
        .await
        .unwrap();
    let mut admin = connect(&server, "").await;

    assert!(
        server
            .running
            .store
            .revoke_token(DEFAULT_TEAM.0, "leaver", Utc::now())
            .await
            .unwrap()
    );
    assert_refused(&refusal(unused).await, 401, "unauthorized");
    let ended = async {
        tokio::select! {
            ended = join(closed(&mut leaver), closed(&mut by_ticket)) => ended,
            notified = frame(&mut colleague) => panic!("{notified}"),
            notified = frame(&mut admin) => panic!("{notified}"),
        }
    };
    let ended = timeout(Duration::from_secs(20), ended)
        .await
        .expect("they listen on");
    let ended = [ended.0, ended.1].map(|(code, reason)| (CloseCode::from(code), reason));
    assert_eq!(
        ended,
        [(); 2].map(|()| (
            CloseCode::Policy,
            "the token is not valid any more".to_owned()
        ))
    );
    record(&server, repo_id(), 1..2).await;
    assert_eq!(number_of(&frame(&mut colleague).await), 1);
    assert_eq!(number_of(&frame(&mut admin).await), 1);
    server.stop().await;
}

#[tokio::test]
async fn clients_get_a_close_reason_when_the_server_stops() {
    let server = start().await;
    let mut socket = connect(&server, "").await;
    let stopping = server.stop();
    let (_, (code, reason)) = futures_util::future::join(stopping, closed(&mut socket)).await;
    assert_eq!(
        (CloseCode::from(code), reason.as_str()),
        (CloseCode::Away, "this server is stopping")
    );
}

/// Records that pull requests were opened, in one transaction.
async fn record(server: &TestServer, repo: RepoId, numbers: std::ops::Range<i64>) {
    let opened = |number| PullRequestChange {
        key: PrKey {
            repo,
            number: PrNumber(number),
        },
        change: StatusChange {
            old: None,
            new: PullRequestStatus::Open,
            at: Timestamp::clamped(number),
        },
        source: SyncSource::Worker,
    };
    let recording = BatchWrite {
        changes: numbers.map(opened).collect(),
        ..BatchWrite::default()
    };
    server
        .running
        .store
        .record(&recording, Utc::now())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn slow_client_is_closed_and_delays_no_other() {
    /// More than the system's socket buffers hold.
    const EVENTS: i64 = 30_000;
    let place = Place::new().await;
    let mut config = testkit::config(&place);
    config.websocket_clients = 2;
    let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    server.track(repo_id(), REPO, LONG_AGO).await;
    let narrow = TcpSocket::new_v4().unwrap();
    narrow.set_recv_buffer_size(4096).unwrap();
    let stream = narrow.connect(server.running.address).await.unwrap();
    let (mut stalled, _) =
        tokio_tungstenite::client_async(with_token(request(&server, "")), stream)
            .await
            .unwrap();
    let mut quick = connect(&server, "").await;
    let slow_before = metric(&server, "tallyhook_websocket_slow_total").await;

    let write = async {
        for from in (0..EVENTS).step_by(1_000) {
            record(&server, repo_id(), from..from + 1_000).await;
        }
    };
    let read = async {
        for number in 0..EVENTS {
            assert_eq!(number_of(&frame(&mut quick).await), number);
        }
    };
    join(write, read).await;
    while metric(&server, "tallyhook_websocket_slow_total").await <= slow_before {
        tokio::task::yield_now().await;
    }
    // The content of the socket buffers, and then the close reason.
    let mut received = 0;
    let (code, reason) = loop {
        match stalled.next().await.unwrap().unwrap() {
            Message::Text(_) => received += 1,
            Message::Close(Some(reason)) => break (reason.code, reason.reason.to_string()),
            other => panic!("{other:?}"),
        }
    };
    assert!(received < EVENTS, "{received}");
    assert!(
        code == CloseCode::Again && reason.starts_with("too slow"),
        "{code} {reason}"
    );
    // Its slot is free for another client.
    let mut another = loop {
        match tokio_tungstenite::connect_async(with_token(request(&server, ""))).await {
            Ok((socket, _)) => break socket,
            Err(tungstenite::Error::Http(answer)) if answer.status() == 503 => {
                tokio::task::yield_now().await
            }
            Err(error) => panic!("{error}"),
        }
    };
    record(&server, repo_id(), EVENTS..EVENTS + 1).await;
    assert_eq!(number_of(&frame(&mut another).await), EVENTS);
    assert_eq!(number_of(&frame(&mut quick).await), EVENTS);
    server.stop().await;
}

/// The changes of each pull request: old status, new status, and time.
type StatusChanges = BTreeMap<(String, i64), Vec<(Value, String, String)>>;

/// Pull requests outside the fixtures, opened before and after everything else, and dated after the
/// start of tracking.
const FIRST: i64 = i64::MAX - 2;
const LAST: i64 = i64::MAX - 1;

/// Returns all changes between the event `first` and the last one.
async fn notified(server: &TestServer, first: &str) -> StatusChanges {
    let mut socket = connect(server, &format!("?after={first}")).await;
    let mut notified = StatusChanges::new();
    loop {
        let frame = frame(&mut socket).await;
        let text = |name: &str| frame[name].as_str().unwrap().to_owned();
        let key = (text("repo"), number_of(&frame));
        if key.1 == LAST {
            return notified;
        }
        notified.entry(key).or_default().push((
            frame["old_status"].clone(),
            text("new_status"),
            text("timestamp"),
        ));
    }
}

/// Posts the shipped deliveries in random order, three of ten twice, and returns the notified
/// changes.
async fn changes_of_fixtures(
    seed: u64,
    tracked_since: DateTime<Utc>,
) -> (TestServer, StatusChanges) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = TestServer::start().await;
    let mut repositories = BTreeSet::new();
    let fixtures = fixtures();
    let mut order: Vec<_> = (0..fixtures.len())
        .chain((0..fixtures.len()).filter(|place| place % 10 < 3))
        .collect();
    order.shuffle(&mut random);
    for fixture in &fixtures {
        let payload: Value = serde_json::from_slice(&fixture.payload).unwrap();
        let repository = payload["repository"].clone();
        if let (Some(id), Some(name)) =
            (repository["id"].as_i64(), repository["full_name"].as_str())
            && repositories.insert(id)
        {
            server.track(RepoId(id), name, tracked_since).await;
        }
    }
    server.track(repo_id(), REPO, LONG_AGO).await;
    let mut socket = connect(&server, "").await;
    record(&server, repo_id(), FIRST..FIRST + 1).await;
    let first = frame(&mut socket).await["event_id"]
        .as_str()
        .unwrap()
        .to_owned();
    for place in order {
        let fixture = &fixtures[place];
        let (status, answer) = server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
        assert!(status < 300, "{answer}");
    }
    server.drained().await;
    record(&server, repo_id(), LAST..LAST + 1).await;
    let notified = notified(&server, &first).await;
    (server, notified)
}

#[tokio::test]
async fn late_repeated_and_reordered_deliveries_make_one_frame_per_change() {
    for seed in 0..3 {
        let (server, notified) = changes_of_fixtures(seed, LONG_AGO).await;
        assert!(notified.len() > 10, "{notified:?}");
        for ((repo, number), changes) in &notified {
            let distinct: BTreeSet<_> = changes.iter().map(|(_, new, at)| (new, at)).collect();
            assert_eq!(
                distinct.len(),
                changes.len(),
                "seed {seed}: {repo}#{number} {changes:?}"
            );
            // Each change starts at the status of the one before, and the last one is the current
            // status.
            let mut status = Value::Null;
            for (old, new, _) in changes {
                assert_eq!(old, &status, "seed {seed}: {repo}#{number} {changes:?}");
                assert_ne!(old, new);
                status = json!(new);
            }
            let (_, pr) = server.get(&format!("/api/repos/{repo}/prs/{number}")).await;
            assert_eq!(
                pr["state"].as_str().unwrap().to_uppercase(),
                status.as_str().unwrap()
            );
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn events_before_tracking_are_not_notified() {
    let (server, all) = changes_of_fixtures(7, LONG_AGO).await;
    server.stop().await;
    let mut moments: Vec<_> = all
        .values()
        .flatten()
        .map(|(_, _, at)| at.clone())
        .collect();
    moments.sort_unstable();
    let since = &moments[moments.len() / 2];
    let (server, notified) = changes_of_fixtures(7, since.parse().unwrap()).await;
    let after: Vec<_> = notified.values().flatten().map(|(_, _, at)| at).collect();
    assert!(!after.is_empty() && after.len() < moments.len());
    assert!(after.iter().all(|at| *at >= since), "{since}: {after:?}");
    server.stop().await;
}

#[tokio::test]
async fn webhook_that_introduces_a_repository_is_notified() {
    let mut server = TestServer::start().await;
    let mut socket = connect(&server, "").await;
    let mut pr = pull_request(8);
    pr.close("2026-03-02T10:00:00Z");
    post(&mut server, &pr, "closed").await;
    let now = payloads::rfc3339(Utc::now().timestamp());
    pr = Pr::new(&World::acme(), 7, Some(&mira()), "New", "new", &now);
    post(&mut server, &pr, "opened").await;
    assert_eq!(
        number_of(&frame(&mut socket).await),
        7,
        "an older change is not notified"
    );
    server.stop().await;

    let mut server = TestServer::start().await;
    let mut socket = connect(&server, "").await;
    post(&mut server, &pr, "opened").await;
    assert_eq!(number_of(&frame(&mut socket).await), 7);
    server.stop().await;
}

#[cfg(feature = "services")]
#[tokio::test]
async fn every_process_shows_every_change() {
    use tallyhook::app::{RoleSet as Roles, RunningServer as Running};
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    let mut server =
        TestServer::start_in(Place::on_services().await, ServerOptions::default()).await;
    server.track(repo_id(), REPO, LONG_AGO).await;
    let readers = ServerOptions {
        roles: Roles {
            api: true,
            ..Roles::NONE
        },
        ..ServerOptions::default()
    };
    let other = Running::start(&testkit::config(&server.place), readers)
        .await
        .unwrap();
    let mut here = connect(&server, "").await;
    let there = with_token(
        format!("ws://{}/ws", other.address)
            .into_client_request()
            .unwrap(),
    );
    let (mut there, _) = tokio_tungstenite::connect_async(there).await.unwrap();
    for number in 1..20 {
        post(&mut server, &pull_request(number), "opened").await;
        let notified = frame(&mut here).await;
        assert_eq!(
            (number_of(&notified), &frame(&mut there).await),
            (number, &notified)
        );
    }
    other.stop().await;
    server.stop().await;
}
