//! Payloads with parts that are not as expected: a missing decoration costs that decoration.

use serde_json::{Value, json};
use tallyhook_core::event::{self, DecodedWebhook, FactKind, PullRequestEvent, Undecodable};
use tallyhook_core::github::types::AccountKind;
use testkit::payloads::{
    self, Account, Comment, Pr, Review, issue_comment_event, pull_request_event, review_event,
};

fn pull_request() -> Pr {
    let world = payloads::World::acme();
    let author = Account::user(1, "ana");
    Pr::new(
        &world,
        7,
        Some(&author),
        "Sort",
        "topic",
        "2026-03-02T10:00:00Z",
    )
}

fn decode(name: &str, payload: &Value) -> Result<DecodedWebhook, Undecodable> {
    event::decode_webhook(name, payload.to_string().as_bytes())
}

fn event_of(decoded: &DecodedWebhook) -> &PullRequestEvent {
    decoded.event.pull_request().unwrap()
}

fn reviewed() -> Value {
    let review = Review {
        id: 9,
        reviewer: Some(Account::user(2, "ben")),
        state: "approved".to_owned(),
        body: None,
        commit_id: payloads::sha("head"),
        submitted_at: "2026-03-02T12:00:00Z".to_owned(),
    };
    review_event(
        &pull_request(),
        "submitted",
        &review,
        &Account::user(2, "ben"),
    )
}

fn commented() -> Value {
    let comment = Comment {
        id: 11,
        author: Some(Account::user(2, "ben")),
        body: String::new(),
        created_at: "2026-03-02T12:00:00Z".to_owned(),
    };
    issue_comment_event(
        &pull_request(),
        "created",
        &comment,
        &Account::user(2, "ben"),
    )
}

#[test]
fn missing_decoration_costs_itself_and_the_snapshot_counts() {
    let ana = Account::user(1, "ana");
    let acted = |action, part: Value| pull_request_event(&pull_request(), action, &ana, part);
    let team = json!({"name": "Core", "id": 5, "deleted": true});
    let asked = || acted("review_requested", json!({"requested_team": team}));
    let opened = || acted("opened", json!({}));
    // The event, its body, a place in it, the value there, what is unread, the number of facts.
    for (name, mut body, place, value, unread, facts) in [
        (
            "pull_request",
            asked(),
            "/requested_team/slug",
            json!(null),
            "",
            1,
        ),
        (
            "pull_request",
            asked(),
            "/requested_team/id",
            json!(null),
            "",
            1,
        ),
        (
            "pull_request",
            asked(),
            "/requested_team",
            json!("core"),
            "requested_team",
            1,
        ),
        (
            "pull_request",
            acted("labeled", json!({"label": {}})),
            "/label/id",
            json!(1),
            "",
            1,
        ),
        (
            "pull_request",
            acted("labeled", json!({"label": 5})),
            "/label",
            json!("x"),
            "label",
            1,
        ),
        (
            "pull_request",
            acted("assigned", json!({})),
            "/assignee",
            json!({"login": "x"}),
            "assignee",
            1,
        ),
        (
            "pull_request",
            acted("milestoned", json!({})),
            "/milestone",
            json!({}),
            "",
            1,
        ),
        (
            "pull_request",
            acted("edited", json!({})),
            "/changes",
            json!([]),
            "",
            0,
        ),
        (
            "pull_request",
            acted("edited", json!({})),
            "/changes",
            json!("x"),
            "changes",
            0,
        ),
        (
            "pull_request",
            acted("dequeued", json!({})),
            "/reason",
            json!({}),
            "reason",
            1,
        ),
        (
            "pull_request",
            opened(),
            "/sender",
            json!({"login": "ana"}),
            "sender",
            1,
        ),
        (
            "pull_request",
            opened(),
            "/installation",
            json!({}),
            "installation",
            1,
        ),
        (
            "pull_request",
            opened(),
            "/pull_request/labels",
            json!([{"id": 1}, {"name": "x"}]),
            "",
            1,
        ),
        (
            "pull_request",
            opened(),
            "/pull_request/labels",
            json!([5]),
            "pull_request.labels",
            1,
        ),
        (
            "pull_request",
            opened(),
            "/pull_request/draft",
            json!("no"),
            "pull_request.draft",
            1,
        ),
        (
            "pull_request",
            opened(),
            "/pull_request/head/repo",
            json!({}),
            "pull_request.head.repo",
            1,
        ),
        (
            "pull_request",
            opened(),
            "/repository/pushed_at",
            json!("now"),
            "repository.pushed_at",
            1,
        ),
        (
            "pull_request_review",
            reviewed(),
            "/review/state",
            json!("blessed"),
            "review",
            0,
        ),
        (
            "pull_request_review",
            reviewed(),
            "/review/id",
            json!(null),
            "review",
            0,
        ),
        (
            "pull_request_review",
            reviewed(),
            "/review/user",
            json!({}),
            "review.user",
            0,
        ),
        (
            "issue_comment",
            commented(),
            "/comment/created_at",
            json!(null),
            "comment",
            0,
        ),
    ] {
        let (parent, key) = place.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[key] = value;
        let decoded = decode(name, &body).unwrap_or_else(|error| panic!("{place}: {error}"));
        let parts: Vec<_> = decoded
            .unread
            .iter()
            .map(|part| part.path.as_str())
            .collect();
        assert_eq!(parts.join(" "), unread, "{place}");
        let event = event_of(&decoded);
        let snapshot = event.pull_request.as_ref().unwrap();
        assert_eq!(
            snapshot.conversation.title.as_deref(),
            Some("Sort"),
            "{place}"
        );
        assert_eq!(event.facts.len(), facts, "{place}");
    }
    let named = decode("pull_request", &asked()).unwrap();
    assert_eq!(event_of(&named).facts[0].detail.as_deref(), Some("Core"));
}

/// Without these it is not known which pull request a payload shows, when, and in which state.
#[test]
fn missing_requirement_is_named_by_its_path() {
    let opened = pull_request_event(
        &pull_request(),
        "opened",
        &Account::user(1, "ana"),
        json!({}),
    );
    for (place, value, error) in [
        (
            "/pull_request/base/ref",
            json!(null),
            "`pull_request.base.ref`: invalid type: null",
        ),
        (
            "/pull_request/id",
            json!("x"),
            "`pull_request.id`: invalid type: string \"x\"",
        ),
        (
            "/pull_request/merged_at",
            json!("soon"),
            "`pull_request.merged_at`: invalid value",
        ),
        (
            "/pull_request/head",
            json!({}),
            "missing field `pull_request.head.ref`",
        ),
        (
            "/repository",
            json!({"id": 1}),
            "missing field `repository.full_name`",
        ),
    ] {
        let mut body = opened.clone();
        *body.pointer_mut(place).unwrap() = value;
        let refused = decode("pull_request", &body).unwrap_err();
        assert!(refused.to_string().starts_with(error), "{place}: {refused}");
    }
}

#[test]
fn half_of_a_surrogate_pair_is_a_character_that_cannot_be_shown() {
    let opened = pull_request_event(
        &pull_request(),
        "opened",
        &Account::user(1, "ana"),
        json!({}),
    );
    let body = opened
        .to_string()
        .replace(r#""title":"Sort""#, r#""title":"Sort \ud83d""#);
    let decoded = event::decode_webhook("pull_request", body.as_bytes()).unwrap();
    let snapshot = event_of(&decoded).pull_request.as_ref().unwrap();
    assert_eq!(
        snapshot.conversation.title.as_deref(),
        Some("Sort \u{fffd}")
    );
}

/// An App that acts with the token of a person is no person who responded.
#[test]
fn what_an_app_wrote_for_a_person_is_written_by_a_bot() {
    let app = json!({"id": 1_143_301, "slug": "some-agent"});
    for (mut body, via, kind) in [
        (commented(), json!(null), AccountKind::User),
        (commented(), app.clone(), AccountKind::Bot),
    ] {
        body["comment"]["performed_via_github_app"] = via;
        let decoded = decode("issue_comment", &body).unwrap();
        let fact = &event_of(&decoded).facts[0];
        assert_eq!(fact.kind, FactKind::Commented);
        assert_eq!(fact.actor.as_ref().map(|actor| actor.kind), Some(kind));
    }
    let mut body = reviewed();
    body["review"]["performed_via_github_app"] = app;
    let decoded = decode("pull_request_review", &body).unwrap();
    let author = &event_of(&decoded).review.as_ref().unwrap().author;
    assert_eq!(
        (author.login.as_str(), author.kind),
        ("ben", AccountKind::Bot)
    );
}
