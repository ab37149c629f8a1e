//! Requested reviewers, the author's rights and threads, as webhooks show them.

use serde_json::{Value, json};
use tallyhook_core::event::{
    self, AuthorAssociation, Event, Fact, FactKind, PullRequestEvent, SubjectKind, Team,
};
use testkit::payloads::{
    self, Account, Comment, Pr, Review, issue_comment_event, objects, pull_request_event,
    review_event,
};

const AT: &str = "2026-03-02T10:00:00Z";

fn pull_request() -> Pr {
    let (world, author) = (payloads::World::acme(), Account::contributor(1, "ana"));
    Pr::new(&world, 7, Some(&author), "Sort", "topic", AT)
}

fn team() -> payloads::Team {
    payloads::Team {
        id: 5,
        slug: "backend".to_owned(),
    }
}

fn decode(name: &str, payload: &Value) -> PullRequestEvent {
    let event = event::decode(name, payload.to_string().as_bytes()).unwrap();
    let (Event::PullRequest(event)
    | Event::PullRequestReview(event)
    | Event::PullRequestReviewThread(event)
    | Event::IssueComment(event)) = event
    else {
        panic!("{event:?}");
    };
    event
}

#[test]
fn request_says_whether_a_user_a_team_or_a_bot_was_asked() {
    let pr = pull_request();
    let by = Account::user(1, "ana");
    let person = Account::user(5, "ben");
    let bot = Account {
        kind: "Bot",
        ..Account::user(5, "Copilot")
    };
    for (asked, kind, name) in [
        (
            json!({"requested_reviewer": objects::account(Some(&person))}),
            SubjectKind::User,
            "ben",
        ),
        (
            json!({"requested_reviewer": objects::account(Some(&bot))}),
            SubjectKind::Bot,
            "Copilot",
        ),
        (
            json!({"requested_team": objects::team(&pr.world, &team())}),
            SubjectKind::Team,
            "backend",
        ),
        // An enterprise's account, and one whose type an old payload leaves out.
        (
            json!({"requested_reviewer": {"id": 5, "login": "m", "type": "Mannequin"}}),
            SubjectKind::User,
            "m",
        ),
        (
            json!({"requested_reviewer": {"id": 5, "login": "n"}}),
            SubjectKind::User,
            "n",
        ),
    ] {
        for (action, fact_kind) in [
            ("review_requested", FactKind::ReviewRequested),
            ("review_request_removed", FactKind::ReviewRequestRemoved),
        ] {
            let event = decode(
                "pull_request",
                &pull_request_event(&pr, action, &by, asked.clone()),
            );
            let [
                Fact {
                    kind: found,
                    subject,
                    subject_kind,
                    detail,
                    ..
                },
            ] = &event.facts[..]
            else {
                panic!("{event:?}");
            };
            assert_eq!(
                (*found, *subject, *subject_kind, detail.as_deref()),
                (fact_kind, Some(5), Some(kind), Some(name)),
                "{action} {asked}"
            );
        }
    }
}

#[test]
fn payloads_with_a_pull_request_show_its_reviewers_and_rights() {
    let mut pr = pull_request();
    let by = Account::user(1, "ana");
    pr.requested_reviewers = vec![Account::user(9, "zoe"), Account::user(4, "ben")];
    pr.requested_teams = vec![team()];
    pr.assignees = vec![Account::user(6, "dora")];
    pr.auto_merge_enabled_by = Some(by.clone());
    pr.merge_commit_sha = Some(payloads::sha("test merge"));
    let review = Review {
        id: 9,
        reviewer: Some(Account::user(2, "eve")),
        state: "commented".to_owned(),
        body: None,
        commit_id: payloads::sha("head"),
        submitted_at: AT.to_owned(),
    };
    for (name, payload) in [
        (
            "pull_request",
            pull_request_event(&pr, "synchronize", &by, json!({})),
        ),
        (
            "pull_request_review",
            review_event(&pr, "submitted", &review, &by),
        ),
    ] {
        let snapshot = decode(name, &payload).pull_request.unwrap();
        let requested = snapshot.requested.unwrap();
        let ids: Vec<_> = requested
            .accounts
            .iter()
            .map(|account| account.id.0)
            .collect();
        assert_eq!(ids, [4, 9], "{name}: by id");
        assert_eq!(
            requested.teams,
            [Team {
                id: 5,
                slug: "backend".to_owned()
            }]
        );
        let details = snapshot.details.unwrap();
        assert_eq!(
            details.author_association,
            Some(AuthorAssociation::Contributor)
        );
        assert_eq!(details.auto_merge, Some(true));
        assert!(!details.author_association.unwrap().may_write());
        assert_eq!(details.assignees.unwrap()[0].login, "dora");
        assert_eq!(
            details.merge_commit_sha, None,
            "{name}: a test merge is none"
        );
    }
    pr.merge(&by, AT);
    let payload = pull_request_event(&pr, "closed", &by, json!({}));
    let details = decode("pull_request", &payload)
        .pull_request
        .unwrap()
        .details;
    assert_eq!(details.unwrap().merge_commit_sha, pr.merge_commit_sha);

    let comment = Comment {
        id: 11,
        author: Some(by.clone()),
        body: String::new(),
        created_at: AT.to_owned(),
    };
    let payload = issue_comment_event(&pr, "created", &comment, &by);
    let snapshot = decode("issue_comment", &payload).pull_request.unwrap();
    assert_eq!((snapshot.requested, snapshot.details), (None, None));
}

/// A payload without the lists says nothing of them, which is not that they are empty.
#[test]
fn missing_lists_are_unknown_and_an_unknown_right_is_none() {
    let by = Account::user(1, "ana");
    let payload = pull_request_event(&pull_request(), "edited", &by, json!({}));
    for field in [
        "requested_reviewers",
        "requested_teams",
        "author_association",
    ] {
        let mut payload = payload.clone();
        let removed = payload["pull_request"]
            .as_object_mut()
            .unwrap()
            .remove(field);
        assert!(removed.is_some());
        let snapshot = decode("pull_request", &payload).pull_request.unwrap();
        let is_list = field.starts_with("requested");
        assert_eq!(
            (snapshot.requested.is_none(), snapshot.details.is_none()),
            (is_list, !is_list),
            "{field}"
        );
    }
    let mut payload = payload;
    payload["pull_request"]["author_association"] = json!("KEEPER");
    let details = decode("pull_request", &payload)
        .pull_request
        .unwrap()
        .details;
    let association = details.unwrap().author_association.unwrap();
    assert!(!association.may_write(), "{association:?}");
}

/// An account or team that cannot be read is one that would be missing.
#[test]
fn list_with_an_unreadable_item_is_unknown() {
    let by = Account::user(1, "ana");
    let mut pr = pull_request();
    pr.requested_reviewers = vec![Account::user(4, "ben")];
    pr.assignees = vec![Account::user(6, "dora")];
    let payload = pull_request_event(&pr, "edited", &by, json!({}));
    for list in ["requested_reviewers", "requested_teams", "assignees"] {
        for odd in [json!(null), json!({"id": "four", "login": "ben"}), json!(7)] {
            let mut payload = payload.clone();
            let items = payload["pull_request"][list].as_array_mut().unwrap();
            items.extend(std::iter::repeat_n(odd, 40));
            let snapshot = decode("pull_request", &payload).pull_request.unwrap();
            let details = snapshot.details.unwrap();
            assert_eq!(snapshot.requested.is_none(), list != "assignees", "{list}");
            assert_eq!(details.assignees.is_none(), list == "assignees", "{list}");
        }
    }
    let mut payload = payload;
    payload["pull_request"]["requested_teams"] = json!([{"id": null, "slug": "backend"}]);
    let snapshot = decode("pull_request", &payload).pull_request.unwrap();
    assert_eq!(snapshot.requested, None);
}

#[test]
fn thread_is_identified_by_its_node_id() {
    let by = Account::user(1, "ana");
    let mut payload = pull_request_event(&pull_request(), "resolved", &by, json!({}));
    for (thread, subject) in [
        (
            json!({"node_id": "PRRT_x", "comments": [{"id": 7}, {"id": 8}]}),
            Some(7),
        ),
        (json!({"node_id": "PRRT_x", "comments": []}), None),
    ] {
        payload["thread"] = thread;
        let event = decode("pull_request_review_thread", &payload);
        let fact = &event.facts[0];
        assert_eq!(
            (fact.kind, fact.subject, fact.detail.as_deref()),
            (FactKind::ThreadResolved, subject, Some("PRRT_x"))
        );
    }
}
