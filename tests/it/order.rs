//! Late, repeated and reordered deliveries are normal: every order gives the same rows. The rules
//! alone are held by `order` among core's tests.

use futures_util::StreamExt;
use serde_json::{Value, json};

use testkit::TestServer;
use testkit::payloads::{self, Account, Pr, Review, World};

/// The six deliveries of one pull request: opened as a draft, ready, changes requested, pushed,
/// approved, merged.
fn six_deliveries(number: i64) -> Vec<(&'static str, Value)> {
    let world = World::acme();
    let (author, reviewer) = (Account::user(501, "mara"), Account::user(502, "noel"));
    let mut pr = Pr::new(
        &world,
        number,
        Some(&author),
        "Sort the queue",
        "sort-queue",
        "2026-03-02T09:00:00Z",
    );
    pr.id = 7_000_000 + number;
    pr.draft = true;
    let review = |id, state: &str, commit: &str, at: &str| Review {
        id: 10 * number + id,
        reviewer: Some(reviewer.clone()),
        state: state.to_owned(),
        body: Some("Seen.".to_owned()),
        commit_id: commit.to_owned(),
        submitted_at: at.to_owned(),
    };
    let mut deliveries = vec![(
        "pull_request",
        payloads::pull_request_event(&pr, "opened", &author, json!({})),
    )];

    pr.draft = false;
    pr.touch("2026-03-02T10:00:00Z");
    deliveries.push((
        "pull_request",
        payloads::pull_request_event(&pr, "ready_for_review", &author, json!({})),
    ));

    pr.touch("2026-03-02T12:00:00Z");
    let objection = review(1, "changes_requested", &pr.head_sha, "2026-03-02T12:00:00Z");
    deliveries.push((
        "pull_request_review",
        payloads::review_event(&pr, "submitted", &objection, &reviewer),
    ));

    let (before, head) = pr.push("2026-03-02T13:00:00Z");
    let pushed = json!({"before": before, "after": head});
    deliveries.push((
        "pull_request",
        payloads::pull_request_event(&pr, "synchronize", &author, pushed),
    ));

    pr.touch("2026-03-02T15:00:00Z");
    let approval = review(2, "approved", &pr.head_sha, "2026-03-02T15:00:00Z");
    deliveries.push((
        "pull_request_review",
        payloads::review_event(&pr, "submitted", &approval, &reviewer),
    ));

    pr.merge(&reviewer, "2026-03-02T15:30:00Z");
    deliveries.push((
        "pull_request",
        payloads::pull_request_event(&pr, "closed", &reviewer, json!({})),
    ));
    deliveries
}

/// All orders of the numbers below `n`.
fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in permutations(n - 1) {
        for place in 0..n {
            let mut longer = shorter.clone();
            longer.insert(place, n - 1);
            all.push(longer);
        }
    }
    all
}

async fn post_in(server: &TestServer, number: i64, order: &[usize]) {
    let deliveries = six_deliveries(number);
    for place in order {
        let (event, payload) = &deliveries[*place];
        let body = payload.to_string();
        let (status, answer) = server
            .post(event, &format!("order-{number}-{place}"), body.as_bytes())
            .await;
        assert_eq!((status, answer["status"].as_str()), (202, Some("accepted")));
    }
}

/// Removes what differs between pull requests: their own number and ids.
fn without_identity(mut detail: Value) -> Value {
    for name in ["number", "pr_id", "github_pr_id", "html_url", "head_sha"] {
        detail[name].take();
    }
    for review in detail["reviews"].as_array_mut().unwrap() {
        review["github_review_id"].take();
    }
    // Commits are named after their pull request, too.
    for fact in detail["timeline"].as_array_mut().unwrap() {
        if fact["type"] == "pushed" {
            fact["detail"].take();
        }
    }
    detail
}

#[tokio::test]
async fn all_720_orders_of_a_six_event_pull_request_end_in_the_same_rows() {
    let mut server = TestServer::start().await;
    let orders = permutations(6);
    assert_eq!(orders.len(), 720);
    let numbered = (1_i64..).zip(&orders);
    // Pull requests at once, so that commits are shared; the six of one keep their order.
    futures_util::stream::iter(numbered)
        .for_each_concurrent(16, |(number, order)| post_in(&server, number, order))
        .await;
    server.drained().await;

    let in_order = orders.iter().position(|order| order.is_sorted()).unwrap() + 1;
    let path = |number: usize| format!("/api/repos/acme-corp/api-server/prs/{number}");
    let expected = without_identity(server.get(&path(in_order)).await.1);
    assert_eq!(expected["state"], "merged");
    assert_eq!(expected["cycle_time_hours"], 6.5);
    assert_eq!(expected["review_time_hours"], 3.0);
    assert_eq!(expected["stages"]["coding_hours"], 1.0);
    assert_eq!(expected["stages"]["pickup_hours"], 2.0);
    assert_eq!(expected["stages"]["review_hours"], 3.0);
    assert_eq!(expected["stages"]["merge_wait_hours"], 0.5);
    assert_eq!(expected["flags"], json!([]));
    for number in 1..=orders.len() {
        let found = without_identity(server.get(&path(number)).await.1);
        assert_eq!(found, expected, "order {:?}", orders[number - 1]);
    }
    server.stop().await;
}
