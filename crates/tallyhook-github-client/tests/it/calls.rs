//! The records of requests, for the audit.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tallyhook_github_client::{
    CallEvent, CallLog, CallOrigin, CallOutcome, Client, GithubCall, GithubError,
};
use testkit::github::{Consent, Fault};
use tokio::sync::mpsc::Receiver;

use super::{CLIENT_SECRET, REPO, fake, register, secret, sign_in, token};

/// Records the requests of `client` in a channel.
fn recorded(client: &Client, capacity: usize) -> Receiver<CallEvent> {
    let (log, events) = CallLog::channel(capacity);
    assert!(client.record_calls(log));
    events
}

/// Stores announcements at once, and returns the ended requests when the client is dropped.
async fn ended(client: Client, mut events: Receiver<CallEvent>) -> Vec<GithubCall> {
    drop(client);
    let mut ended = Vec::new();
    while let Some(event) = events.recv().await {
        if let CallEvent::Ended(call) = event {
            ended.push(call);
        }
    }
    ended
}

/// Answers announcements while `requests` run.
async fn storing<T>(
    events: &mut Receiver<CallEvent>,
    requests: impl Future<Output = T>,
) -> (T, Vec<GithubCall>) {
    let mut calls = Vec::new();
    let mut store = |event| match event {
        CallEvent::Announced { stored, .. } => stored.send(()).unwrap(),
        CallEvent::Ended(call) => calls.push(call),
    };
    tokio::pin!(requests);
    let result = loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => store(event),
            result = &mut requests => break result,
        }
    };
    while let Ok(event) = events.try_recv() {
        store(event);
    }
    (result, calls)
}

#[tokio::test]
async fn every_attempt_is_recorded_with_its_result() {
    let (github, client, time) = fake().await;
    github.give_to("octocat", "ghu_one", Some(&[]));
    let events = recorded(&client, 100);
    let account = client
        .account("one", token("ghu_one"))
        .with_origin(CallOrigin {
            team: Some("acme".into()),
            actor: Some("user:octocat".into()),
            correlation: Some("sync:1".into()),
        });
    let id = [
        ("X-GitHub-Request-Id", "C0DE:1"),
        ("X-RateLimit-Remaining", "4871"),
    ];
    github.next([
        Fault::status(502),
        Fault::Truncated,
        Fault::answer(200, &id, "[]"),
    ]);
    let path = format!("{REPO}/pulls?head=secret:branch&per_page=100&page=3");
    let at = time.now();
    account.get::<Value>(&path).await.unwrap();
    client.get::<Value>("/rate_limit").await.unwrap();
    client
        .graphql::<Value>("{ viewer { login } }", &json!({}), "acme-corp/api-server")
        .await
        .ok();
    drop(account);
    let calls = ended(client, events).await;
    let outcomes: Vec<_> = calls
        .iter()
        .map(|call| (call.attempt, call.outcome))
        .collect();
    let answered = |status| CallOutcome::Answered { status };
    assert_eq!(
        outcomes[..4],
        [
            (1, answered(502)),
            (2, CallOutcome::Failed { error: "broken" }),
            (3, answered(200)),
            (1, answered(200)),
        ]
    );
    let call = &calls[2];
    assert_eq!(
        call,
        &GithubCall {
            id: call.id,
            at: call.at,
            account: Some("one".into()),
            origin: CallOrigin {
                team: Some("acme".into()),
                actor: Some("user:octocat".into()),
                correlation: Some("sync:1".into()),
            },
            method: "GET".to_owned(),
            route: "/repos/{owner}/{repo}/pulls".to_owned(),
            path: format!("{REPO}/pulls?per_page=100&page=3"),
            kind: "rest",
            is_mutation: false,
            outcome: answered(200),
            duration_ms: call.duration_ms,
            attempt: 3,
            bytes_out: 0,
            rate_remaining: Some(4871),
            request_id: Some("C0DE:1".to_owned()),
        }
    );
    assert!(calls[0].at == at && calls[0].id != calls[1].id);
    assert_eq!(
        (&calls[3].account, &calls[3].origin),
        (&None, &CallOrigin::default())
    );
    let graphql = &calls[4];
    assert_eq!(
        (graphql.kind, graphql.route.as_str(), graphql.is_mutation),
        ("graphql", "/graphql", false)
    );
    assert_eq!(github.requests().len(), calls.len());
    github.stop().await;
}

#[tokio::test]
async fn records_equal_the_requests_that_arrived() {
    let (github, client, _) = fake().await;
    let mut events = recorded(&client, 16);
    github.disturb(
        7,
        0.3,
        vec![Fault::status(502), Fault::Truncated, Fault::Lost(500)],
    );
    let requests = join_all((0..300).map(|number| {
        let client = client.clone();
        async move {
            match number % 3 {
                0 => client.get::<Value>(REPO).await.map(drop),
                1 => client
                    .post::<Value>("/echo", &json!(number))
                    .await
                    .map(drop),
                _ => client.get_conditional::<Value>(REPO).await.map(drop),
            }
        }
    }));
    let (_, calls) = storing(&mut events, requests).await;
    let line = |method: &str, path: &str| format!("{method} {path}");
    let mut recorded: Vec<_> = calls
        .iter()
        .map(|call| line(&call.method, &call.path))
        .collect();
    let mut arrived: Vec<_> = github
        .requests()
        .iter()
        .map(|request| line(&request.method, &request.path))
        .collect();
    recorded.sort();
    arrived.sort();
    assert!(arrived.len() >= 300, "{}", arrived.len());
    assert_eq!(recorded, arrived);
    github.calm();
    github.stop().await;
}

#[tokio::test]
async fn change_is_sent_after_its_record_is_stored() {
    let (github, client, _) = fake().await;
    let mut events = recorded(&client, 100);
    let body = json!([1]);
    let posting = client.post::<Value>("/echo", &body);
    let storing = async {
        let Some(CallEvent::Announced { call, stored }) = events.recv().await else {
            panic!("nothing is announced");
        };
        assert_eq!(github.asked(), [""; 0], "sent before its record is stored");
        assert_eq!(
            (call.outcome, call.is_mutation, call.bytes_out),
            (CallOutcome::Unknown, true, 3)
        );
        stored.send(()).unwrap();
        let Some(CallEvent::Ended(ended)) = events.recv().await else {
            panic!("it does not end");
        };
        assert_eq!(
            (ended.id, ended.outcome),
            (call.id, CallOutcome::Answered { status: 200 })
        );
    };
    let (posted, ()) = tokio::join!(posting, storing);
    assert_eq!(posted.unwrap(), json!([1]));
    assert_eq!(github.asked(), ["POST /echo"]);
    github.stop().await;
}

#[tokio::test]
async fn change_whose_record_is_not_stored_is_not_sent_and_reading_goes_on() {
    let (github, client, _) = fake().await;
    let mut events = recorded(&client, 100);
    let (body, variables) = (json!(1), json!({}));
    let posting = client.post::<Value>("/echo", &body);
    let failing = async {
        let event = events.recv().await;
        assert!(matches!(event, Some(CallEvent::Announced { .. })));
    };
    let not_recorded = GithubError::NotRecorded {
        path: "/echo".to_owned(),
    };
    let (posted, ()) = tokio::join!(posting, failing);
    assert_eq!(posted.unwrap_err(), not_recorded);
    drop(events);
    let mutation = client.mutate::<Value>("mutation { x }", &variables, "acme-corp/api-server");
    let refused = mutation.await.unwrap_err();
    assert!(
        matches!(refused, GithubError::NotRecorded { .. }),
        "{refused}"
    );
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(github.asked(), [format!("GET {REPO}")]);
    github.stop().await;
}

#[tokio::test]
async fn full_channel_makes_the_caller_wait_and_loses_nothing() {
    let (github, client, _) = fake().await;
    let (log, mut events) = CallLog::channel(1);
    assert!(client.record_calls(log.clone()));
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!((log.waits(), github.asked().len()), (0, 1));
    let waiting = client.get::<Value>(REPO);
    let reading = async {
        while log.waits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            github.asked(),
            [""; 0],
            "sent without a place for its record"
        );
        assert!(matches!(events.recv().await, Some(CallEvent::Ended(_))));
    };
    let (got, ()) = tokio::join!(waiting, reading);
    got.unwrap();
    assert!(matches!(events.recv().await, Some(CallEvent::Ended(_))));
    assert_eq!(log.waits(), 1);
    let (another, _) = CallLog::channel(1);
    assert!(!client.record_calls(another), "the first log stays");
    github.stop().await;
}

#[tokio::test]
async fn request_whose_caller_gave_up_is_recorded() {
    let (github, client, _) = fake().await;
    let mut events = recorded(&client, 10);
    github.next([Fault::Slow(std::time::Duration::from_mins(10))]);
    let arrived = async {
        while github.requests().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = client.get::<Value>(REPO) => panic!("{result:?}"),
        () = arrived => {}
    }
    let Some(CallEvent::Ended(call)) = events.recv().await else {
        panic!("no record");
    };
    assert_eq!(call.outcome, CallOutcome::Failed { error: "cancelled" });
    github.stop().await;
}

#[tokio::test]
async fn record_holds_no_secret_of_a_sign_in_or_an_app() {
    let (github, client, _) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    let mut events = recorded(&client, 100);
    let flow = async {
        let tokens = sign_in(&github, &client, &app).await;
        let refresh_token = tokens.refresh_token.as_ref().unwrap();
        let new = client
            .refresh_tokens(&app, refresh_token)
            .await
            .ok()
            .unwrap();
        client.delete_token(&app, &new.access_token).await.unwrap();
        let code = secret("code_of_a_manifest");
        client.convert_manifest(&code).await.err().unwrap();
        (tokens, new)
    };
    let ((old, new), calls) = storing(&mut events, flow).await;
    let routes: Vec<_> = calls
        .iter()
        .map(|call| (call.kind, call.route.as_str()))
        .collect();
    assert_eq!(
        routes,
        [
            ("oauth", "/login/oauth/access_token"),
            ("oauth", "/login/oauth/access_token"),
            ("rest", "/applications/{client_id}/token"),
            ("rest", "/app-manifests/{code}/conversions"),
        ]
    );
    assert!(
        calls
            .iter()
            .all(|call| call.is_mutation && call.account.is_none())
    );
    let text = format!("{calls:?}");
    for secret in [
        old.access_token.expose(),
        old.refresh_token.as_ref().unwrap().expose(),
        new.access_token.expose(),
        CLIENT_SECRET,
        "code_of_a_manifest",
    ] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    github.stop().await;
}
