//! The read API over HTTP: access, answers, and that no request breaks it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tallyhook::api::auth;
use tallyhook::app::ServerOptions;
use tallyhook::config::Config;
use tallyhook_store::{AccessRole, DEFAULT_TEAM};

use testkit::payloads::{self, Account, Pr, World};
use testkit::{Place, TestServer, assert_refused, process::timeless};

/// Starts a server that has applied the shipped fixtures: 34 pull requests, #101 to #134.
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

/// Starts a server with changed settings.
async fn configured(change: impl FnOnce(&mut Config)) -> TestServer {
    let place = Place::new().await;
    let mut config = testkit::config(&place);
    change(&mut config);
    TestServer::start_as(&config, place, ServerOptions::default()).await
}

fn items(page: &(u16, Value)) -> &Vec<Value> {
    assert_eq!(page.0, 200, "{}", page.1);
    page.1["items"].as_array().unwrap()
}

fn numbers(page: &(u16, Value)) -> Vec<i64> {
    items(page)
        .iter()
        .map(|item| item["number"].as_i64().unwrap())
        .collect()
}

#[track_caller]
fn assert_hours(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap();
    assert!(
        // At most six decimals.
        (found - expected).abs() <= 5e-7 && found.to_string().len() <= 10,
        "{found}, expected {expected}"
    );
}

async fn status_with(server: &TestServer, token: &str) -> u16 {
    server
        .http
        .get(format!("{}/api/prs", server.url))
        .bearer_auth(token)
        .send()
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test]
async fn request_without_a_valid_token_is_refused() {
    let server = TestServer::start().await;
    for path in [
        "/api/prs",
        "/api/prs/1",
        "/api/repos/acme-corp/api-server/prs/1",
        "/api/metrics/cycle-time",
        "/api/deliveries",
        "/api/deliveries/x",
        "/api/dead-letters",
        "/api/repos",
        "/api/sync-runs",
        "/api/sync-runs/1",
        "/api/sync/stats",
        "/api/nothing-here",
    ] {
        for authorization in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Basic eDp5"),
            Some("Bearer wrong"),
        ] {
            let mut request = server.http.get(format!("{}{path}", server.url));
            if let Some(value) = authorization {
                request = request.header("Authorization", value);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["WWW-Authenticate"], "Bearer", "{path}");
            assert_security_headers(&response);
            let answer = (response.status().as_u16(), response.json().await.unwrap());
            assert_refused(&answer, 401, "unauthorized");
        }
    }
    // Requests that change something are refused as well.
    for path in ["/api/dead-letters/1/requeue", "/api/dead-letters/1"] {
        let answer = server
            .http
            .post(format!("{}{path}", server.url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 401);
        let answer = server
            .http
            .delete(format!("{}{path}", server.url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 401);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_created_token_reads_until_it_is_revoked() {
    let server = TestServer::start().await;
    assert_eq!(status_with(&server, &auth::new_token()).await, 401);
    let token = server.create_token("dashboard", AccessRole::Viewer).await;
    assert_eq!(status_with(&server, &token).await, 200);
    assert_eq!(status_with(&server, &token[..token.len() - 1]).await, 401);
    assert!(
        server
            .running
            .store
            .revoke_token(DEFAULT_TEAM.0, "dashboard", chrono::Utc::now())
            .await
            .unwrap()
    );
    assert_eq!(status_with(&server, &token).await, 401);
    assert_eq!(status_with(&server, testkit::TOKEN).await, 200);
    server.stop().await;
}

#[tokio::test]
async fn the_first_start_writes_an_admin_token_that_only_its_user_can_read() {
    let place = Place::embedded();
    let config = Config {
        admin_token: None,
        ..testkit::config(&place)
    };
    let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    let path = server.place.path().join("tallyhook-admin-token");
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(status_with(&server, written.trim()).await, 200);
    let place = server.stop().await;

    let again = TestServer::start_as(&config, place, ServerOptions::default()).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    assert_eq!(status_with(&again, written.trim()).await, 200);
    again.stop().await;
}

#[tokio::test]
async fn pull_requests_are_listed_by_state_author_repository_and_time() {
    let server = with_fixtures().await;
    let list = async |query: &str| server.get(&format!("/api/prs?per_page=100&{query}")).await;
    let all = list("").await;
    assert_eq!(all.1["next"], Value::Null);
    let everyone: BTreeSet<_> = numbers(&all).into_iter().collect();
    assert_eq!(everyone, (101..=134).collect());

    // As on GitHub, closed includes merged.
    let open: Vec<_> = [105, 106].into_iter().chain(125..=134).collect();
    let merged: Vec<_> = (101..=124)
        .filter(|number| ![104, 105, 106].contains(number))
        .collect();
    let closed: Vec<_> = (101..=124)
        .filter(|number| ![105, 106].contains(number))
        .collect();
    for (state, expected) in [
        ("open", open.clone()),
        ("merged", merged),
        ("closed", closed),
        ("closed_unmerged", vec![104]),
        ("all", (101..=134).collect()),
        ("open,closed_unmerged", [vec![104], open].concat()),
        ("open,all", (101..=134).collect()),
    ] {
        let mut found = numbers(&list(&format!("state={state}")).await);
        found.sort_unstable();
        assert_eq!(found, expected, "{state}");
    }

    let text = |item: &Value, name: &str| item[name].as_str().unwrap().to_owned();
    let where_ = |keep: &dyn Fn(&Value) -> bool| -> Vec<i64> {
        items(&all)
            .iter()
            .filter(|item| keep(item))
            .map(|item| item["number"].as_i64().unwrap())
            .collect()
    };
    let author = text(
        items(&all)
            .iter()
            .find(|item| item["number"] == 101)
            .unwrap(),
        "author",
    );
    let of_author = where_(&|item| text(item, "author") == author);
    assert!(of_author.len() > 1 && of_author.len() < 34);
    assert_eq!(numbers(&list(&format!("author={author}")).await), of_author);
    assert_eq!(
        numbers(&list(&format!("author={}", author.to_uppercase())).await),
        of_author
    );
    assert_eq!(numbers(&list("author=nobody").await), Vec::<i64>::new());

    assert_eq!(numbers(&list("repo=acme-corp/api-server").await).len(), 34);
    assert_refused(&list("repo=acme-corp/nothing").await, 404, "not_found");

    // `from` is inclusive, `to` exclusive: the time of one update is the border of both.
    let border = text(&items(&all)[10], "updated_at");
    let (since, before) = (
        list(&format!("from={border}")).await,
        list(&format!("to={border}")).await,
    );
    assert_eq!(
        numbers(&since),
        where_(&|item| text(item, "updated_at") >= border)
    );
    assert_eq!(
        numbers(&before),
        where_(&|item| text(item, "updated_at") < border)
    );
    assert_eq!(numbers(&since).len() + numbers(&before).len(), 34);
    assert!(numbers(&since).len() >= 11);
    server.stop().await;
}

/// Opens a pull request of `author` on that day.
async fn open_pull_request(server: &mut TestServer, number: i64, author: &Account) {
    let at = format!("2026-03-0{number}T09:00:00Z");
    let pr = Pr::new(&World::acme(), number, Some(author), "Sort", "sort", &at);
    let body = payloads::pull_request_event(&pr, "opened", author, json!({})).to_string();
    let (status, _) = server.post("pull_request", &at, body.as_bytes()).await;
    assert_eq!(status, 202);
    server.drained().await;
}

#[tokio::test]
async fn author_is_one_person_under_every_login() {
    let mut server = TestServer::start().await;
    for (number, id, login) in [(1, 7, "mira"), (2, 7, "mira-w"), (3, 8, "mirabel")] {
        open_pull_request(&mut server, number, &Account::user(id, login)).await;
    }
    let by = async |server: &TestServer, login: &str| {
        let path = format!("/api/prs?per_page=2&author={login}");
        numbers(&server.get(&path).await)
    };
    for login in ["mira", "Mira-W"] {
        assert_eq!(by(&server, login).await, [2, 1], "{login}");
    }
    // Another person takes the login that became free.
    open_pull_request(&mut server, 4, &Account::user(9, "mira")).await;
    assert_eq!(by(&server, "mira").await, [4]);
    assert_eq!(by(&server, "mira-w").await, [2, 1]);
    server.stop().await;
}

#[tokio::test]
async fn pages_hold_every_pull_request_once_with_the_newest_update_first() {
    let server = with_fixtures().await;
    let whole = server.get("/api/prs?per_page=100").await;
    for size in [1, 4, 33, 34] {
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = server
                .get(&format!("/api/prs?per_page={size}{cursor}"))
                .await;
            assert!(items(&page).len() <= size);
            paged.extend(items(&page).clone());
            assert!(paged.len() <= 34, "a page was repeated");
            let Some(next) = page.1["next"].as_str() else {
                break;
            };
            assert_eq!(items(&page).len(), size);
            cursor = format!("&cursor={next}");
        }
        let paged = timeless(json!(paged));
        assert_eq!(paged, timeless(json!(items(&whole))), "pages of {size}");
    }
    let update = |item: &'_ Value| item["updated_at"].as_str().unwrap().to_owned();
    let updates: Vec<_> = items(&whole).iter().map(update).collect();
    assert!(
        updates.is_sorted_by(|newer, older| newer >= older),
        "{updates:?}"
    );
    let default = server.get("/api/prs").await;
    assert_eq!(items(&default).len(), 30);
    server.stop().await;
}

#[tokio::test]
async fn an_invalid_query_is_a_bad_request() {
    let server = TestServer::start().await;
    for path in [
        "/api/prs?state=opened",
        "/api/prs?state=",
        "/api/prs?per_page=0",
        "/api/prs?per_page=101",
        "/api/prs?per_page=-1",
        "/api/prs?per_page=many",
        "/api/prs?cursor=!",
        "/api/prs?cursor=",
        "/api/prs?cursor=e30",
        "/api/prs?from=yesterday",
        "/api/prs?to=2026-02-30",
        "/api/deliveries?state=lost",
        "/api/deliveries?cursor=x",
        "/api/deliveries?per_page=0",
        "/api/dead-letters?per_page=1000",
        "/api/metrics/cycle-time?bucket=year",
        "/api/metrics/cycle-time?from=now",
        "/api/metrics/cycle-time?authors=cats",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.0, 400, "{path}: {}", answer.1);
        assert_refused(&answer, 400, "bad_request");
    }
    server.stop().await;
}

#[tokio::test]
async fn unknown_resources_are_404_and_malformed_requests_are_400() {
    let server = TestServer::start().await;
    for path in [
        "/nothing",
        "/api/nothing",
        "/api/prs/",
        "/api/prs/1",
        "/api/prs/one",
        "/api/prs/-1",
        "/api/prs/99999999999999999999",
        "/api/repos/acme-corp/api-server/prs/999",
        "/api/repos/acme-corp/api-server/prs/x",
        "/api/repos/no-one/nothing/prs/1",
        "/api/deliveries/none",
        "/api/dead-letters/1",
        "/api/dead-letters/x",
        "/api/metrics/cycle-time?repo=no-one/nothing",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.0, 404, "{path}: {}", answer.1);
        assert_refused(&answer, 404, "not_found");
    }
    let far = "WzkyMjMzNzIwMzY4NTQ3NzU4MDcsLTEsOTIyMzM3MjAzNjg1NDc3NTgwN10"; // [i64::MAX,-1,i64::MAX]
    for path in [
        &format!("/api/prs?cursor={far}"),
        "/api/prs/%00",
        "/api/prs/%ff%fe",
        "/api/repos/..%2f..%2f/..%2f/prs/1",
        "/api/repos/'%20OR%201=1--/x/prs/1",
        "/api/deliveries/%00%ff",
        "/api/deliveries?event=%ff&repo=%00",
        "/api/prs?author=%27%3B%20DROP%20TABLE%20pull_requests",
        "/api/prs?from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z",
        "/api/metrics/cycle-time?from=0001-01-01T00:00:00Z&bucket=week",
        "/api/dead-letters/-9223372036854775808",
        "/%",
        "/api/prs?&&&=&%",
    ] {
        let answer = server.get(path).await;
        assert!(answer.0 < 500, "{path}: {}", answer.1);
    }
    assert_eq!(server.get("/healthz").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_pull_request_is_shown_with_every_documented_field() {
    let server = with_fixtures().await;
    let (status, short) = server.get("/api/prs/107").await;
    assert_eq!(status, 200);
    assert_eq!(
        server
            .get("/api/repos/acme-corp/api-server/prs/107")
            .await
            .1,
        short
    );
    assert_eq!(
        server
            .get("/api/repos/ACME-corp/API-server/prs/107")
            .await
            .1,
        short
    );
    for name in "repo number pr_id github_pr_id title author author_is_bot state draft html_url base_ref head_ref head_sha \
        pr_created_at updated_at closed_at merged_at additions deletions changed_files commits first_commit_at ready_at \
        first_response_at first_review_at final_approval_at cycle_time_hours review_time_hours stages flags source as_of \
        reviews timeline explain"
        .split_whitespace()
    {
        assert!(short.get(name).is_some(), "{name} is missing");
    }
    assert_eq!(
        (&short["state"], &short["cycle_time_hours"]),
        (&json!("merged"), &json!(26.0))
    );
    let pr_id: uuid::Uuid = short["pr_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(pr_id.get_version_num(), 5);
    for (list, names) in [
        (
            "reviews",
            "github_review_id reviewer reviewer_is_bot state original_state submitted_at",
        ),
        ("timeline", "at type actor detail"),
    ] {
        let list = short[list].as_array().unwrap();
        assert!(list.len() > 1);
        for name in names.split_whitespace() {
            assert!(
                list.iter().all(|item| item.get(name).is_some()),
                "{name} is missing"
            );
        }
    }
    let times: Vec<_> = short["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["at"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    for step in short["explain"]["steps"].as_array().unwrap() {
        for name in ["stage", "from", "to", "hours", "because"] {
            assert!(!step[name].is_null(), "{name} is missing");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn short_form_without_a_default_repository_names_the_settings() {
    let server = configured(|config| config.default_repository = None).await;
    let answer = server.get("/api/prs/107").await;
    assert_refused(&answer, 409, "conflict");
    assert!(
        answer.1["error"]["message"]
            .as_str()
            .unwrap()
            .contains("GITHUB_REPO_OWNER")
    );
    server.stop().await;
}

/// The expected numbers were worked out by hand from `fixtures/*.expected.json`. Nineteen pull
/// requests count, in hours from creation to merge: 0.75 2 2 2.5 5 5 6 7 8 20 20 21 21.5 24 25 26
/// 26 53 73. #111 by a bot and #118, merged as a draft, do not count.
#[tokio::test]
async fn cycle_times_are_those_of_the_fixtures() {
    let server = with_fixtures().await;
    let ask = async |query: &str| {
        let (status, answer) = server.get(&format!("/api/metrics/cycle-time{query}")).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let answer = ask("").await;
    let all = &answer["all"];
    assert_eq!((&all["n"], &all["missing"]), (&json!(19), &json!(0)));
    assert_hours(&all["p50_hours"], 20.0);
    assert_hours(&all["p75_hours"], 24.5);
    assert_hours(&all["p90_hours"], 31.4);
    assert_hours(&all["mean_hours"], 347.75 / 19.0);
    assert_hours(&all["total_hours"], 347.75);
    assert_eq!(all["counted"], 19);
    // The fifth and the fifteenth of 19: 4 or fewer are below the median in 0.96 %, 5 in 3.2 %.
    assert_eq!(all["p50_interval_hours"], json!([5.0, 25.0]));
    assert_eq!(all["p90_interval_hours"], Value::Null);
    assert_eq!(all.get("values"), None);
    assert_eq!(
        all["excluded"],
        json!({"bot_author": 1, "merged_as_draft": 1})
    );
    let flags = json!({"merged_without_review": 1, "reopened": 2, "pushed_after_approval": 1, "reviewed_in_draft": 1,
        "merged_with_changes_requested": 1, "merged_without_approval": 1});
    assert_eq!(
        (&all["flags"], &all["closed_unmerged"]),
        (&flags, &json!(1))
    );
    assert_eq!(answer["buckets"], json!([]));

    // The hours: 1 1 1 2 2 2 2 3 4 5 7 18 19 24 25 50 70; #103 and #116 have none.
    let review = &all["review_time"];
    assert_eq!((&review["n"], &review["missing"]), (&json!(17), &json!(2)));
    assert_hours(&review["p50_hours"], 4.0);
    assert_hours(&review["p75_hours"], 19.0);
    assert_hours(&review["p90_hours"], 35.0);
    assert_hours(&review["mean_hours"], 236.0 / 17.0);

    // Fewer than five values are listed, and have no ninetieth percentile.
    let coding = json!({"n": 2, "missing": 17, "p50_hours": 26.0, "p75_hours": 37.0, "p90_hours": null,
        "p50_interval_hours": null, "p75_interval_hours": null, "p90_interval_hours": null,
        "mean_hours": 26.0, "total_hours": 52.0, "values": [4.0, 48.0]});
    assert_eq!(all["stages"]["coding"], coding);
    assert_eq!(all["stages"]["redraft"]["values"], json!([3.0, 21.0]));
    assert_eq!(all["stages"]["closed"]["values"], json!([2.0, 16.0]));
    assert_eq!(all["stages"]["pickup"]["n"], 17);
    assert_eq!(all["stages"]["merge_wait"]["n"], 17);
    assert_eq!(all["stages"]["review"]["n"], 17);

    let bots = ask("?authors=bot").await;
    assert_eq!(
        (&bots["all"]["n"], &bots["all"]["values"]),
        (&json!(1), &json!([3.5]))
    );
    assert_eq!(ask("?repo=acme-corp/api-server").await["all"], *all);

    // The range includes its beginning but not its end: #114 was merged at noon.
    let range = ask("?from=2026-03-09T12:00:00Z&to=2026-03-16T12:00:00Z").await;
    assert_eq!(range["all"]["n"], 8);
    assert_eq!(
        ask("?from=2026-03-09T12:00:01Z&to=2026-03-16T12:00:01Z").await["all"]["n"],
        8
    );
    assert_eq!(
        ask("?from=2026-03-09T12:00:01Z&to=2026-03-16T12:00:00Z").await["all"]["n"],
        7
    );
    let none = ask("?from=2030-01-01T00:00:00Z").await;
    assert_eq!(
        (&none["all"]["n"], &none["all"]["p50_hours"]),
        (&json!(0), &Value::Null)
    );
    server.stop().await;
}

#[tokio::test]
async fn buckets_are_days_weeks_from_monday_and_months() {
    let server = with_fixtures().await;
    let buckets = async |bucket: &str| {
        let (_, answer) = server
            .get(&format!("/api/metrics/cycle-time?bucket={bucket}"))
            .await;
        let buckets = answer["buckets"].as_array().unwrap().clone();
        let shape = buckets.iter().map(|one| {
            (
                one["start"].as_str().unwrap()[..10].to_owned(),
                one["n"].clone(),
            )
        });
        let shape: Vec<_> = shape.map(|(day, n)| format!("{day}: {n}")).collect();
        assert!(
            buckets
                .iter()
                .all(|one| one["start"].as_str().unwrap().ends_with("T00:00:00Z"))
        );
        (shape, buckets)
    };
    assert_eq!(buckets("month").await.0, ["2026-03-01: 19"]);
    let (shape, weeks) = buckets("week").await;
    assert_eq!(shape, ["2026-03-02: 9", "2026-03-09: 8", "2026-03-16: 2"]);
    assert_eq!(weeks[0]["excluded"], json!({"bot_author": 1}));
    assert_eq!(weeks[1]["excluded"], json!({"merged_as_draft": 1}));
    assert_eq!(
        (&weeks[2]["values"], &weeks[2]["p90_hours"]),
        (&json!([2.0, 25.0]), &Value::Null)
    );
    // The hours of this week: 0.75 2.5 7 21 21.5 24 26 26 53.
    assert_hours(&weeks[0]["p50_hours"], 21.5);
    assert_hours(&weeks[0]["p90_hours"], 31.4);
    let (shape, days) = buckets("day").await;
    let expected = "02: 2|04: 2|05: 3|06: 2|09: 3|10: 2|11: 1|12: 2|16: 1|17: 1";
    let expected: Vec<_> = expected
        .split('|')
        .map(|day| format!("2026-03-{day}"))
        .collect();
    assert_eq!(shape, expected);
    assert_eq!(days[0]["values"], json!([0.75, 2.5]));
    server.stop().await;
}

#[tokio::test]
async fn deliveries_are_listed_paged_and_shown() {
    let server = with_fixtures().await;
    let whole = server.get("/api/deliveries?per_page=100").await;
    assert_eq!(items(&whole).len(), 100);
    let (mut guids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server
            .get(&format!("/api/deliveries?per_page=30{cursor}"))
            .await;
        guids.extend(
            items(&page)
                .iter()
                .map(|item| item["guid"].as_str().unwrap().to_owned()),
        );
        assert!(guids.len() <= 149, "a page was repeated");
        let Some(next) = page.1["next"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    // 151 deliveries were posted, among them a ping and a repetition. Newest first.
    let posted: Vec<_> = testkit::fixtures()
        .into_iter()
        .filter(|one| one.event != "ping")
        .collect();
    assert_eq!(guids.len(), 149);
    assert_eq!(guids[0], posted.last().unwrap().guid);
    let expected: BTreeSet<_> = posted.iter().map(|one| one.guid.clone()).collect();
    assert_eq!(guids.iter().cloned().collect::<BTreeSet<_>>(), expected);

    let count = async |query: &str| {
        items(
            &server
                .get(&format!("/api/deliveries?per_page=100&{query}"))
                .await,
        )
        .len()
    };
    assert_eq!(count("event=push").await, 1);
    assert_eq!(count("state=ignored").await, 2);
    assert_eq!(count("state=ignored&event=issue_comment").await, 1);
    assert_eq!(count("state=accepted").await, 0);
    assert_eq!(
        count("event=pull_request_review&repo=acme-corp/api-server").await,
        43
    );
    assert_eq!(count("repo=acme-corp/other").await, 0);

    let first = &posted[0];
    let (_, shown) = server.get(&format!("/api/deliveries/{}", first.guid)).await;
    assert_eq!(shown["items"].as_array().unwrap().len(), 1);
    let shown = &shown["items"][0];
    assert_eq!(
        shown["payload"],
        serde_json::from_slice::<Value>(&first.payload).unwrap()
    );
    for name in
        "id guid event action repo pr_number source state reason attempts received_at next_attempt_at finished_at \
        body_bytes history payload"
            .split_whitespace()
    {
        assert!(shown.get(name).is_some(), "{name} is missing");
    }
    assert_eq!(
        (&shown["state"], &shown["source"]),
        (&json!("applied"), &json!("webhook"))
    );
    server.stop().await;
}

#[tokio::test]
async fn a_dead_letter_is_requeued_or_discarded() {
    let mut server = TestServer::start().await;
    for guid in ["one", "two"] {
        server
            .post("pull_request", guid, br#"{"action":"opened"}"#)
            .await;
    }
    let dead = server.get("/api/dead-letters").await;
    let guids: Vec<_> = items(&dead)
        .iter()
        .map(|item| item["guid"].clone())
        .collect();
    assert_eq!(guids, ["two", "one"]);
    let id = &items(&dead)[0]["id"];
    let (status, shown) = server.get(&format!("/api/dead-letters/{id}")).await;
    assert_eq!(
        (status, &shown["payload"]),
        (200, &json!({"action": "opened"}))
    );

    let send = async |method: reqwest::Method, path: String| {
        let request = server
            .http
            .request(method, format!("{}{path}", server.url))
            .bearer_auth(testkit::TOKEN);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(
        send(
            reqwest::Method::POST,
            format!("/api/dead-letters/{id}/requeue")
        )
        .await,
        202
    );
    server.running.drained().await.unwrap();
    // It still cannot be decoded: it is dead again, and its history has an entry for that.
    let (_, again) = server.get(&format!("/api/dead-letters/{id}")).await;
    assert_eq!(
        (&again["state"], &again["attempts"]),
        (&json!("dead"), &json!(1))
    );
    assert_eq!(again["history"].as_array().unwrap().len(), 1);

    let discard = format!("/api/dead-letters/{id}?reason=a%20test");
    assert_eq!(send(reqwest::Method::DELETE, discard.clone()).await, 204);
    assert_eq!(send(reqwest::Method::DELETE, discard).await, 404);
    assert_eq!(
        send(
            reqwest::Method::POST,
            format!("/api/dead-letters/{id}/requeue")
        )
        .await,
        404
    );
    let (_, discarded) = server.get("/api/deliveries/two").await;
    assert_eq!(discarded["items"][0]["state"], "ignored");
    assert_eq!(discarded["items"][0]["reason"], "discarded: a test");
    assert_eq!(items(&server.get("/api/dead-letters").await).len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn dead_letters_are_grouped_and_a_group_is_requeued_together() {
    let mut server = TestServer::start().await;
    let shapes: [(&str, &[u8]); 4] = [
        ("one", br#"{"action":"opened"}"#),
        ("two", br#"{"action":"closed"}"#),
        ("three", br#"{"action":7}"#),
        ("four", br#"{"action":            8}"#),
    ];
    for (guid, body) in shapes {
        server.post("pull_request", guid, body).await;
    }
    server.post("push", "five", b"{}").await;
    // The position of the error in the body does not separate them into groups.
    let groups = server.get("/api/dead-letters/groups").await;
    let numbers: Vec<_> = items(&groups)
        .iter()
        .map(|group| group["deliveries"].as_i64().unwrap())
        .collect();
    assert_eq!(
        (numbers.iter().sum::<i64>(), numbers[0]),
        (5, 2),
        "{groups:?}"
    );

    let requeue = async |body: Value| {
        let request = server
            .http
            .post(format!("{}/api/dead-letters/requeue", server.url))
            .bearer_auth(testkit::TOKEN);
        let response = request.json(&body).send().await.unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    for wrong in [
        json!({}),
        json!({"all": true, "event": "push"}),
        json!({"evnet": "push"}),
        json!([]),
    ] {
        assert_refused(&requeue(wrong).await, 400, "bad_request");
    }
    let group = &items(&groups)[0];
    let like = json!({"reason": group["reason"], "event": group["event"]});
    assert_eq!(
        requeue(like).await,
        (202, json!({"status": "requeued", "deliveries": 2}))
    );
    server.running.drained().await.unwrap();
    // They are dead again after an attempt.
    let dead = server.get("/api/dead-letters").await;
    let tried: Vec<_> = items(&dead)
        .iter()
        .filter(|one| one["attempts"] == 1)
        .collect();
    assert_eq!((items(&dead).len(), tried.len()), (5, 2));
    assert_eq!(requeue(json!({"all": true})).await.1["deliveries"], 5);
    server.running.drained().await.unwrap();
    server.stop().await;
}

fn assert_security_headers(response: &reqwest::Response) {
    for (name, value) in [
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
    ] {
        let found = response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap());
        assert_eq!(
            found,
            Some(value),
            "{name} of {} {}",
            response.url(),
            response.status()
        );
    }
}

#[tokio::test]
async fn health_and_metrics_need_no_token_and_show_stored_state() {
    let mut server = TestServer::start().await;
    let get = async |path: &str| {
        let response = server
            .http
            .get(format!("{}{path}", server.url))
            .send()
            .await
            .unwrap();
        assert_security_headers(&response);
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(
        get("/healthz").await,
        (200, r#"{"status":"ok"}"#.to_owned())
    );
    assert_eq!(get("/readyz").await.0, 200);
    assert_eq!(get("/nothing").await.0, 404);
    server
        .post("pull_request", "broken", br#"{"action":"opened"}"#)
        .await;
    server.post("pull_request", "broken", b"{}").await;
    let fixture = testkit::fixtures()
        .into_iter()
        .find(|one| one.event == "pull_request")
        .unwrap();
    for _ in 0..2 {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server
        .signed("pull_request", "x", b"another body")
        .body("{}")
        .send()
        .await
        .unwrap();
    server.running.drained().await.unwrap();

    let (status, text) = get("/metrics").await;
    assert_eq!(status, 200);
    let lines: BTreeSet<_> = text.lines().collect();
    for line in [
        "tallyhook_inbox{state=\"accepted\"} 0",
        "tallyhook_inbox{state=\"applied\"} 1",
        "tallyhook_inbox{state=\"ignored\"} 0",
        "tallyhook_inbox{state=\"dead\"} 2",
        "tallyhook_dead_letters 2",
        "tallyhook_oldest_pending_seconds 0",
        "tallyhook_repositories{state=\"pending\"} 1",
        "tallyhook_repositories{state=\"synced\"} 0",
        "tallyhook_repositories_incomplete 1",
        "tallyhook_backfills{state=\"done\"} 0",
        "tallyhook_open_pull_requests{waiting_for=\"unknown\"} 0",
        "tallyhook_open_pull_requests{waiting_for=\"merge_queue\"} 0",
    ] {
        assert!(lines.contains(line), "{line} is not in:\n{text}");
    }
    // These metrics count over the whole process, which other tests share.
    for start in [
        "tallyhook_deliveries_total{event=\"pull_request\",outcome=\"applied\"} ",
        "tallyhook_deliveries_total{event=\"pull_request\",outcome=\"dead\"} ",
        "tallyhook_signature_failures_total{reason=\"wrong\"} ",
        "tallyhook_duplicates_total ",
        "tallyhook_stale_total ",
        "tallyhook_apply_lag_seconds_count ",
        "tallyhook_process_seconds_count ",
        "tallyhook_build_info{version=\"",
        "process_cpu_seconds_total ",
        "process_open_fds ",
        "process_resident_memory_bytes ",
        "process_start_time_seconds ",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(start)),
            "{start}is not in:\n{text}"
        );
    }
    server.running.store.close().await;
    let (status, text) = get("/readyz").await;
    let readiness: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &readiness["database"]), (503, &json!("failing")));
    assert_eq!(get("/healthz").await.0, 200);
    // Counters of the process are shown all the same.
    let (status, text) = get("/metrics").await;
    assert!(
        status == 200 && text.contains("tallyhook_duplicates_total "),
        "{status} {text}"
    );
    assert_refused(&server.get("/api/prs").await, 503, "unavailable");
    server.stop().await;
}
