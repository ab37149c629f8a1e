//! Origins, comparisons, cohorts, single durations and load over HTTP.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::payloads::{self, Account, Pr, Review, World};
use testkit::{TestServer, assert_refused};

async fn with_fixtures() -> TestServer {
    let mut server = TestServer::start().await;
    for fixture in testkit::fixtures() {
        let (status, answer) = server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
        assert!(status == 202 || status == 200, "{answer}");
    }
    server.drained().await;
    server
}

async fn ask(server: &TestServer, path: &str) -> Value {
    let (status, answer) = server.get(&format!("/api/{path}")).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

async fn post(server: &TestServer, event: &str, guid: &str, payload: &Value) {
    let body = payload.to_string().into_bytes();
    let (status, answer) = server.post(event, guid, &body).await;
    assert_eq!(status, 202, "{answer}");
}

fn numbers(list: &Value) -> Vec<i64> {
    let items = list["items"].as_array().unwrap();
    let mut numbers: Vec<_> = items
        .iter()
        .map(|item| item["number"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Five pull requests of different origin, each opened at 10:00 and merged at 12:00 after a review
/// by Copilot at 11:00.
async fn with_origins() -> TestServer {
    let mut server = TestServer::start().await;
    let world = World::acme();
    let person = Account::user(7, "claude");
    let reviewer = Account {
        login: "Copilot".to_owned(),
        ..Account::bot(175_728_472, "copilot-pull-request-reviewer")
    };
    for (number, author, branch) in [
        (1, person.clone(), "fix"),
        (2, person.clone(), "codex/fix"),
        (
            3,
            Account::bot(198_982_749, "copilot-swe-agent"),
            "copilot/fix",
        ),
        (
            4,
            Account::bot(49_699_333, "dependabot"),
            "dependabot/cargo",
        ),
        (5, person.clone(), "claude-fixes"),
    ] {
        let mut pr = Pr::new(
            &world,
            number,
            Some(&author),
            "Fix",
            branch,
            "2026-03-02T10:00:00Z",
        );
        let event = payloads::pull_request_event(&pr, "opened", &author, json!({}));
        post(&server, "pull_request", &format!("opened-{number}"), &event).await;
        pr.touch("2026-03-02T11:00:00Z");
        let review = Review {
            id: 1000 + number,
            reviewer: Some(reviewer.clone()),
            state: "commented".to_owned(),
            body: None,
            commit_id: pr.head_sha.clone(),
            submitted_at: "2026-03-02T11:00:00Z".to_owned(),
        };
        let event = payloads::review_event(&pr, "submitted", &review, &reviewer);
        post(
            &server,
            "pull_request_review",
            &format!("review-{number}"),
            &event,
        )
        .await;
        pr.merge(&person, "2026-03-02T12:00:00Z");
        let event = payloads::pull_request_event(&pr, "closed", &person, json!({}));
        post(&server, "pull_request", &format!("closed-{number}"), &event).await;
    }
    server.drained().await;
    server
}

#[tokio::test]
async fn origin_is_shown_filtered_by_and_broken_down() {
    let server = with_origins().await;
    let fields = async |number: i64| {
        let pr = ask(&server, &format!("repos/acme-corp/api-server/prs/{number}")).await;
        let fields = [
            "origin",
            "origin_certainty",
            "opened_by",
            "first_ai_review_at",
        ];
        fields.map(|field| pr[field].clone())
    };
    let eleven = json!("2026-03-02T11:00:00Z");
    let none = Value::Null;
    for (number, origin, certainty, opened_by) in [
        (1, none.clone(), none.clone(), none.clone()),
        (2, json!("agent"), json!("by_branch"), json!("claude")),
        (3, json!("agent"), json!("certain"), none.clone()),
        (4, json!("automation"), json!("certain"), none.clone()),
        (5, none.clone(), none.clone(), none.clone()),
    ] {
        let expected = [origin, certainty, opened_by, eleven.clone()];
        assert_eq!(fields(number).await, expected, "{number}");
    }
    for (authors, expected) in [
        ("human", &[1, 5][..]),
        ("agent", &[2, 3]),
        ("automation", &[4]),
        ("bot", &[2, 3, 4]),
        ("all", &[1, 2, 3, 4, 5]),
    ] {
        assert_eq!(
            numbers(&ask(&server, &format!("prs?authors={authors}")).await),
            expected
        );
        let merged = ask(&server, &format!("metrics/cycle-time?authors={authors}")).await;
        assert_eq!(merged["all"]["counted"], expected.len(), "{authors}");
        let points = ask(
            &server,
            &format!("metrics/points?of=cycle&authors={authors}"),
        )
        .await;
        assert_eq!(numbers(&points), expected, "{authors}");
        let cohort = ask(&server, &format!("metrics/cohort?authors={authors}")).await;
        assert_eq!(cohort["merged"], expected.len(), "{authors}");
    }
    let human = ask(&server, "metrics/cycle-time").await;
    assert_eq!(
        human["all"]["excluded"],
        json!({"agent_author": 1, "bot_author": 2})
    );
    assert_eq!(human.get("by_origin"), None);
    let by_origin = ask(&server, "metrics/cycle-time?authors=all&by=origin").await;
    let counted = |origin: &str| by_origin["by_origin"][origin]["counted"].clone();
    assert_eq!(
        [
            counted("agent"),
            counted("automation"),
            counted("unknown"),
            counted("human")
        ],
        [json!(2), json!(1), json!(2), none]
    );
    // A bot's review is no review for the other numbers.
    assert_eq!(by_origin["all"]["review_time"]["n"], 0);
    server.stop().await;
}

#[tokio::test]
async fn comparison_stands_beside_the_range_before() {
    let server = with_fixtures().await;
    let query = "from=2026-03-09&to=2026-03-16";
    let found = ask(&server, &format!("metrics/compare?{query}")).await;
    assert_eq!(
        found["ranges"],
        json!({
            "now": {"from": "2026-03-09T00:00:00Z", "to": "2026-03-16T00:00:00Z"},
            "before": {"from": "2026-03-02T00:00:00Z", "to": "2026-03-09T00:00:00Z"},
        })
    );
    let single = ask(&server, &format!("metrics/cycle-time?{query}")).await;
    assert_eq!(found["now"], single["all"]);
    let before = ask(&server, "metrics/cycle-time?from=2026-03-02&to=2026-03-09").await;
    assert_eq!(found["before"], before["all"]);
    let cycle_time = &found["compared"]["cycle_time"];
    assert_eq!(
        (&cycle_time["n"], &cycle_time["n_before"]),
        (&json!(8), &json!(9))
    );
    // Too near to one half for a verdict.
    assert_eq!(cycle_time["verdict"], Value::Null);
    let difference =
        single["all"]["p50_hours"].as_f64().unwrap() - before["all"]["p50_hours"].as_f64().unwrap();
    assert_eq!(cycle_time["p50_difference_hours"], difference);
    assert!(found["freshness"]["applied_until"].is_string());

    let beside = ask(
        &server,
        &format!("metrics/cycle-time?{query}&compare=previous"),
    )
    .await;
    assert_eq!(beside["compare"]["before"], found["before"]);
    assert_eq!(single.get("compare"), None);
    for path in [
        "metrics/compare",
        "metrics/compare?to=2026-03-16",
        "metrics/compare?from=2026-03-16&to=2026-03-09",
        "metrics/compare?from=30d&bucket=week",
        // No calendar is configured.
        "metrics/compare?from=30d&clock=business",
        "metrics/cycle-time?compare=previous",
        "metrics/cycle-time?compare=next",
        "metrics/cycle-time?by=author",
        "metrics/cohort?of=cycle",
        "metrics/distribution?of=lunch",
        "metrics/points?limit=0",
        "metrics/points?limit=2001",
        "metrics/explain?p=1.5",
        "metrics/explain?p=half",
        "metrics/explain?limit=1",
        "reviews/load?by=cats",
    ] {
        assert_refused(
            &server.get(&format!("/api/{path}")).await,
            400,
            "bad_request",
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn one_duration_agrees_with_the_aggregates() {
    let server = with_fixtures().await;
    let all = ask(&server, "metrics/cycle-time").await["all"].clone();
    for (of, summary) in [
        ("cycle", &all),
        ("review_time", &all["review_time"]),
        ("pickup", &all["stages"]["pickup"]),
        ("coding", &all["stages"]["coding"]),
        ("closed", &all["stages"]["closed"]),
    ] {
        let distribution = ask(&server, &format!("metrics/distribution?of={of}")).await;
        for field in ["n", "missing", "p50_hours", "p90_hours"] {
            assert_eq!(distribution[field], summary[field], "{of} {field}");
        }
        let bins = distribution["bins"].as_array().unwrap();
        let in_bins: i64 = bins.iter().map(|bin| bin["n"].as_i64().unwrap()).sum();
        assert_eq!(json!(in_bins), summary["n"], "{of}");
        let explained = ask(&server, &format!("metrics/explain?of={of}&p=0.75")).await;
        assert_eq!(explained["value_hours"], summary["p75_hours"], "{of}");
        let between = explained["between"].as_array().unwrap();
        assert!((1..=2).contains(&between.len()), "{of}");
        // The link lists what counts.
        let rows = explained["rows"].as_str().unwrap();
        let (status, list) = server.get(rows).await;
        assert_eq!(status, 200, "{rows}: {list}");
        for one in between {
            assert!(
                numbers(&list).contains(&one["number"].as_i64().unwrap()),
                "{of}"
            );
        }
    }
    // A list over more than 400 days of merges has no order.
    for (query, is_sorted) in [
        ("of=pickup", false),
        ("of=pickup&from=2026-03-01&to=2026-04-01", true),
        ("of=pickup&from=2020-03-01&to=2026-04-01", false),
        ("of=coding&from=2026-03-01&to=2026-04-01", true),
    ] {
        let explained = ask(&server, &format!("metrics/explain?{query}")).await;
        let rows = explained["rows"].as_str().unwrap();
        assert_eq!(rows.contains("&sort="), is_sorted, "{rows}");
        let (status, list) = server.get(&format!("{rows}&count=true&per_page=100")).await;
        assert_eq!(status, 200, "{rows}: {list}");
        assert_eq!(list["count"]["n"], explained["n"], "{rows}");
    }
    // 0.75 2 2 2.5 5 5 6 7 8 20 ...: the tenth of 19.
    let median = ask(&server, "metrics/explain").await;
    assert_eq!((&median["rank"], &median["n"]), (&json!(10.0), &json!(19)));
    assert_eq!(median["value_hours"], 20.0);
    assert_eq!(median["around"].as_array().unwrap().len(), 11);
    assert_eq!(median["excluded"], all["excluded"]);
    let points = ask(&server, "metrics/points?limit=5").await;
    assert_eq!((&points["n"], &points["shown"]), (&json!(19), &json!(5)));
    assert!(points["items"][0]["changed_lines"].is_i64());

    // An empty range is no error.
    for path in ["distribution", "points", "explain", "cohort"] {
        let nothing = ask(&server, &format!("metrics/{path}?from=2030-01-01")).await;
        assert!(nothing["n"] == 0 || nothing["counted"] == 0, "{nothing}");
    }
    server.stop().await;
}

#[tokio::test]
async fn cohort_counts_what_is_open() {
    let server = with_fixtures().await;
    let cohort = ask(&server, "metrics/cohort?from=2026-03-01&to=2026-04-01").await;
    let merged = ask(&server, "metrics/cycle-time").await["all"].clone();
    assert_eq!(cohort["merged"], merged["counted"]);
    assert_eq!(cohort["closed_unmerged"], merged["closed_unmerged"]);
    let open = cohort["open"].as_i64().unwrap();
    assert!(open > 0);
    let cycle_time = &cohort["cycle_time"];
    assert_eq!(cycle_time["censored"], open + 1);
    assert_eq!(cycle_time["n"], cohort["counted"]);
    // Those that are open make it longer than that of the merged alone.
    assert!(
        cycle_time["p50_hours"].as_f64() > merged["p50_hours"].as_f64(),
        "{cohort}"
    );
    let none = ask(
        &server,
        "metrics/cohort?repo=acme-corp/api-server&to=2026-03-01",
    )
    .await;
    assert_eq!(
        (&none["counted"], &none["cycle_time"]["p50_hours"]),
        (&json!(0), &Value::Null)
    );
    server.stop().await;
}

#[tokio::test]
async fn load_hides_small_groups_and_other_people() {
    let server = with_fixtures().await;
    let load = ask(&server, "reviews/load").await;
    let teams = load["items"].as_array().unwrap();
    assert!(
        teams
            .iter()
            .all(|team| team["too_few_people"] == true && team["asked"] == 0)
    );
    assert_eq!(load["concentration"]["merged_pull_requests"], 20);
    assert_refused(
        &server.get("/api/reviews/load?by=person").await,
        403,
        "people_hidden",
    );

    let order = json!({"name": "ines", "role": "viewer", "login": "ines-acme"});
    let (_, created) = server.ask(Method::POST, "/api/tokens", &order).await;
    let token = created["token"].as_str().unwrap();
    let request = server
        .http
        .get(format!("{}/api/reviews/load?by=person", server.url))
        .bearer_auth(token);
    let mine: Value = request.send().await.unwrap().json().await.unwrap();
    let names: Vec<_> = mine["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].clone())
        .collect();
    assert!(names.iter().all(|name| name == "ines-acme"), "{mine}");
    server.stop().await;
}
