//! One number, whichever way it is read: JSON, CSV and views under the same filters.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde_json::{Value, json};
use testkit::{TOKEN, TestServer};

use super::{ask, report, with_facts};

/// Filters of pull requests, as the API and as the views have them.
const LISTS: [(&str, &str); 22] = [
    ("", "true"),
    ("state=open", "state = 'open'"),
    ("state=merged", "state = 'merged'"),
    ("state=closed", "state IN ('closed', 'merged')"),
    ("state=closed_unmerged", "state = 'closed'"),
    (
        "repo=acme-corp%2Fapi-server",
        "repo = 'acme-corp/api-server'",
    ),
    ("author=mira-acme", "author = 'mira-acme'"),
    (
        "from=2026-03-05&to=2026-03-12",
        "updated_at >= '2026-03-05' AND updated_at < '2026-03-12'",
    ),
    (
        "merged_from=2026-03-05&merged_to=2026-03-12",
        "merged_at >= '2026-03-05' AND merged_at < '2026-03-12'",
    ),
    (
        "flag=merged_without_review",
        "(repo_id, number) IN (SELECT repo_id, number FROM tallyhook_report.flags \
         WHERE flag = 'merged_without_review')",
    ),
    ("draft=true", "draft"),
    ("counted=true", "counted"),
    ("counted=true&authors=all", "countable"),
    (
        "counted=true&authors=bot",
        "countable AND authors IN ('agent', 'automation')",
    ),
    ("authors=agent", "authors = 'agent'"),
    ("authors=automation", "authors = 'automation'"),
    (
        "stage=pickup&min_hours=2&max_hours=24",
        "state = 'merged' AND pickup_hours >= 2 AND pickup_hours < 24",
    ),
    ("waiting_for=reviewers", "waiting_for = 'reviewers'"),
    ("waiting_for=base_pr", "waiting_for = 'base_pr'"),
    (
        "waiting_on=github_team%3Abackend",
        "(repo_id, number) IN (SELECT repo_id, number FROM tallyhook_report.waiting_on \
         WHERE kind = 'team' AND name = 'backend')",
    ),
    (
        "waited_min=2026-03-15",
        "waiting_since <= '2026-03-15T00:00:00Z'",
    ),
    (
        "counted=true&merged_from=2026-03-09&stage=review&min_hours=0",
        "counted AND merged_at >= '2026-03-09' AND review_hours IS NOT NULL",
    ),
];

/// Fields that have one name, and those of the API that stand in another object.
const SAME: [&str; 35] = [
    "repo",
    "number",
    "pr_id",
    "github_pr_id",
    "title",
    "author",
    "author_is_bot",
    "origin",
    "origin_certainty",
    "opened_by",
    "state",
    "draft",
    "base_ref",
    "head_ref",
    "head_sha",
    "labels",
    "additions",
    "deletions",
    "changed_files",
    "commits",
    "pr_created_at",
    "updated_at",
    "closed_at",
    "merged_at",
    "first_commit_at",
    "ready_at",
    "first_response_at",
    "first_review_at",
    "final_approval_at",
    "first_bot_response_at",
    "first_ai_review_at",
    "cycle_time_hours",
    "review_time_hours",
    "flags",
    "source",
];
const STAGES: [&str; 6] = [
    "coding",
    "pickup",
    "review",
    "merge_wait",
    "redraft",
    "closed",
];

/// Brings a value of either form to one: times to seconds, lists to JSON, numbers to six decimals.
fn plain(name: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if name.ends_with("_at") || name.ends_with("since") => {
            let at = DateTime::parse_from_rfc3339(text);
            json!(
                at.unwrap_or_else(|_| panic!("{name} is {text}"))
                    .timestamp()
            )
        }
        Value::String(text) if text.starts_with('[') => serde_json::from_str(text).unwrap(),
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            // SQLite has no booleans.
            let flags = ["author_is_bot", "draft", "tracked"];
            match flags.contains(&name) {
                true => json!(number != 0.0),
                false => json!((number * 1e6).round() / 1e6),
            }
        }
        other => other.clone(),
    }
}

fn key(row: &Value) -> (String, i64) {
    let repo = row["repo"].as_str().unwrap().to_owned();
    (repo, row["number"].as_i64().unwrap())
}

/// The fields of a pull request as the views have them.
fn of_api(item: &Value) -> BTreeMap<String, Value> {
    let mut fields: BTreeMap<_, _> = SAME
        .iter()
        .map(|name| ((*name).to_owned(), plain(name, &item[name])))
        .collect();
    for stage in STAGES {
        let name = format!("{stage}_hours");
        fields.insert(name.clone(), plain(&name, &item["stages"][&name]));
    }
    for (name, field) in [
        ("waiting_for", "for"),
        ("waiting_rule", "rule"),
        ("waiting_since", "since"),
        ("waiting_kind_since", "kind_since"),
        ("held_by", "held_by"),
    ] {
        fields.insert(name.to_owned(), plain(name, &item["waiting"][field]));
    }
    fields.insert("definition".to_owned(), plain("", &item["definition"]));
    fields
}

fn of_view(row: &Value, names: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    names
        .keys()
        .map(|name| (name.clone(), plain(name, &row[name])))
        .collect()
}

/// Returns the line of names and the lines of a list as CSV.
async fn csv(server: &TestServer, path: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let request = server
        .http
        .get(format!("{}/api/{path}", server.url))
        .bearer_auth(TOKEN)
        .header("Accept", "text/csv");
    let text = request.send().await.unwrap().text().await.unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let line = |line: &csv::StringRecord| line.iter().map(str::to_owned).collect();
    let names = line(reader.headers().unwrap());
    (
        names,
        reader
            .records()
            .map(|record| line(&record.unwrap()))
            .collect(),
    )
}

#[tokio::test]
async fn lists_are_the_same_in_json_csv_and_views() {
    let server = with_facts().await;
    for (query, condition) in LISTS {
        let path = format!("prs?{query}&per_page=100&count=true");
        let path = path.replace("?&", "?");
        let list = ask(&server, &path).await;
        let items: BTreeMap<_, _> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| (key(item), of_api(item)))
            .collect();
        assert!(!items.is_empty(), "{query} lists nothing");
        let sql = format!("SELECT * FROM tallyhook_report.pull_requests WHERE {condition}");
        let rows = report(&server, &sql).await;
        let names = items.values().next().unwrap();
        let rows: BTreeMap<_, _> = rows
            .iter()
            .map(|row| (key(row), of_view(row, names)))
            .collect();
        assert_eq!(
            rows.keys().collect::<Vec<_>>(),
            items.keys().collect::<Vec<_>>(),
            "{query}"
        );
        assert_eq!(list["count"]["n"], rows.len(), "{query}");
        for (key, item) in &items {
            assert_eq!(&rows[key], item, "{query}: {key:?}");
        }

        let (names, lines) = csv(&server, &path).await;
        let place = |name: &str| names.iter().position(|other| other == name).unwrap();
        let (repo, number) = (place("repo"), place("number"));
        let cycle = place("cycle_time_hours");
        for line in &lines {
            let row = &rows[&(line[repo].clone(), line[number].parse().unwrap())];
            let hours = line[cycle]
                .parse::<f64>()
                .map_or(Value::Null, |hours| json!(hours));
            assert_eq!(row["cycle_time_hours"], hours, "{query}: {line:?}");
        }
        assert_eq!(lines.len(), rows.len(), "{query}");
    }
    server.stop().await;
}

/// Sets of merged pull requests, as the API and as the views have them.
const SETS: [(&str, &str); 7] = [
    ("", "counted"),
    ("authors=all", "countable"),
    (
        "authors=bot",
        "countable AND authors IN ('agent', 'automation')",
    ),
    ("authors=agent", "countable AND authors = 'agent'"),
    (
        "repo=acme-corp%2Fapi-server",
        "counted AND repo = 'acme-corp/api-server'",
    ),
    (
        "from=2026-03-09&to=2026-03-16",
        "counted AND merged_at >= '2026-03-09' AND merged_at < '2026-03-16'",
    ),
    (
        "from=2026-03-05&authors=all",
        "countable AND merged_at >= '2026-03-05'",
    ),
];

/// Returns the number of values of a column, their sum and their median.
fn totals(column: &str, condition: &str) -> String {
    format!(
        "WITH ranked AS (SELECT {column} AS hours, row_number() OVER (ORDER BY {column}) AS place, \
             count(*) OVER () AS n FROM tallyhook_report.pull_requests \
             WHERE {condition} AND {column} IS NOT NULL) \
         SELECT count(*) AS n, sum(hours) AS total_hours, \
             avg(CASE WHEN place IN ((n + 1) / 2, (n + 2) / 2) THEN hours END) AS p50_hours \
         FROM ranked"
    )
}

#[tokio::test]
async fn aggregates_are_those_of_the_views() {
    let server = with_facts().await;
    for (query, condition) in SETS {
        let path = format!("metrics/cycle-time?{query}&bucket=week").replace("?&", "?");
        let answer = ask(&server, &path).await;
        let all = &answer["all"];
        let sql =
            format!("SELECT count(*) AS n FROM tallyhook_report.pull_requests WHERE {condition}");
        assert_eq!(
            report(&server, &sql).await[0]["n"],
            all["counted"],
            "{query}"
        );
        assert_ne!(all["counted"], 0, "{query}");
        let durations = ["cycle_time", "review_time"].into_iter().chain(STAGES);
        for name in durations {
            let summary = match name {
                "cycle_time" => all,
                "review_time" => &all["review_time"],
                stage => &all["stages"][stage],
            };
            let found = &report(&server, &totals(&format!("{name}_hours"), condition)).await[0];
            for field in ["n", "total_hours", "p50_hours"] {
                assert_eq!(
                    plain(field, &found[field]),
                    plain(field, &summary[field]),
                    "{query}: {name} {field}"
                );
            }
        }
        let sql = format!(
            "SELECT merged_week, count(*) AS n FROM tallyhook_report.pull_requests \
             WHERE {condition} GROUP BY merged_week ORDER BY merged_week"
        );
        let weeks = report(&server, &sql).await;
        let buckets: Vec<_> = answer["buckets"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|bucket| bucket["counted"] != 0)
            .map(|bucket| {
                let day = &bucket["start"].as_str().unwrap()[..10];
                json!({"merged_week": day, "n": bucket["counted"]})
            })
            .collect();
        assert_eq!(weeks, buckets, "{query}");
        let sql = format!(
            "SELECT flag, count(*) AS n FROM tallyhook_report.flags WHERE {condition} GROUP BY flag"
        );
        let flags = by_name(&report(&server, &sql).await, "flag");
        assert_eq!(json!(flags), all["flags"], "{query}");
    }
    let excluded = report(
        &server,
        "SELECT excluded, count(*) AS n FROM tallyhook_report.pull_requests \
         WHERE excluded IS NOT NULL GROUP BY excluded",
    )
    .await;
    let answer = ask(&server, "metrics/cycle-time").await;
    let reasons = by_name(&excluded, "excluded");
    assert_eq!(json!(reasons), answer["all"]["excluded"]);
    for reason in [
        "agent_author",
        "bot_author",
        "clock_skew",
        "merged_as_draft",
        "stub",
    ] {
        assert!(
            reasons.contains_key(reason),
            "no {reason} among {reasons:?}"
        );
    }
    server.stop().await;
}

fn by_name(rows: &[Value], name: &str) -> BTreeMap<String, Value> {
    rows.iter()
        .map(|row| (row[name].as_str().unwrap().to_owned(), row["n"].clone()))
        .collect()
}

#[tokio::test]
async fn waits_are_those_of_the_views() {
    let server = with_facts().await;
    for (query, condition) in [
        ("", "true"),
        (
            "repo=acme-corp%2Fapi-server",
            "repo = 'acme-corp/api-server'",
        ),
        ("authors=human", "authors = 'human'"),
        ("authors=bot", "authors IN ('agent', 'automation')"),
        (
            "github_team=backend",
            "(repo_id, number) IN (SELECT repo_id, number FROM tallyhook_report.waiting_on \
             WHERE kind = 'team' AND name = 'backend')",
        ),
    ] {
        let answer = ask(&server, &format!("waiting?{query}").replace("?&", "?")).await;
        let sql = format!(
            "SELECT waiting_for, reason, count(*) AS n, min(since) AS since, \
                 count(CASE WHEN waited_hours >= 168 THEN 1 END) AS over_7d \
             FROM tallyhook_report.waiting WHERE {condition} GROUP BY waiting_for, reason"
        );
        let found: BTreeMap<_, _> = report(&server, &sql)
            .await
            .iter()
            .map(|row| {
                let numbers = [&row["n"], &row["over_7d"]].map(Clone::clone);
                (
                    format!("{} {}", row["waiting_for"], row["reason"]),
                    (numbers, plain("since", &row["since"])),
                )
            })
            .collect();
        let groups = answer["groups"].as_array().unwrap().iter();
        let expected: BTreeMap<_, _> = groups
            .map(|group| {
                let numbers = [&group["n"], &group["over_7d"]].map(Clone::clone);
                let since = plain("since", &group["longest"]["since"]);
                (
                    format!("{} {}", group["for"], group["reason"]),
                    (numbers, since),
                )
            })
            .collect();
        assert!(!expected.is_empty(), "{query}");
        assert_eq!(found, expected, "{query}");
        let sql = format!(
            "SELECT name, count(*) AS n FROM tallyhook_report.waiting_on \
             WHERE kind = 'team' AND {condition} GROUP BY name"
        );
        // A team that is asked beside another one is counted in both.
        if !query.starts_with("github_team") {
            let on = answer["on"].as_array().unwrap().iter();
            let expected: BTreeMap<_, _> = on
                .map(|on| (on["name"].as_str().unwrap().to_owned(), on["n"].clone()))
                .collect();
            assert_eq!(
                by_name(&report(&server, &sql).await, "name"),
                expected,
                "{query}"
            );
        }
    }
    let numbers = report(
        &server,
        "SELECT number FROM tallyhook_report.waiting WHERE held_by = 901",
    )
    .await;
    assert_eq!(numbers, [json!({"number": 902})]);
    server.stop().await;
}

#[tokio::test]
async fn reviews_requests_and_repositories_are_those_of_the_views() {
    let server = with_facts().await;
    let rows = report(
        &server,
        "SELECT repo, number FROM tallyhook_report.pull_requests",
    )
    .await;
    let (mut reviewed, mut asked) = (0, 0);
    for (repo, number) in rows.iter().map(key) {
        let detail = ask(&server, &format!("repos/{repo}/prs/{number}")).await;
        let sql = format!(
            "SELECT github_review_id, reviewer, reviewer_is_bot, state, original_state, submitted_at \
             FROM tallyhook_report.reviews WHERE repo = '{repo}' AND number = {number} \
             ORDER BY submitted_at, github_review_id"
        );
        let reviews = report(&server, &sql).await;
        reviewed += reviews.len();
        let shown = detail["reviews"].as_array().unwrap();
        assert_eq!(reviews.len(), shown.len(), "{number}");
        for (row, review) in reviews.iter().zip(shown) {
            // The opinion in force follows from all reviews, and is no column.
            let columns = review.as_object().unwrap().iter();
            for (name, value) in columns.filter(|(name, _)| *name != "stands") {
                let value = match value {
                    Value::Bool(is_so) if row[name].is_number() => json!(i64::from(*is_so)),
                    other => other.clone(),
                };
                assert_eq!(
                    plain(name, &row[name]),
                    plain(name, &value),
                    "{number} {name}"
                );
            }
        }
        let sql = format!(
            "SELECT kind, name, outcome, asked_at, response_review_at FROM tallyhook_report.review_pairs \
             WHERE repo = '{repo}' AND number = {number} ORDER BY asked_at, name"
        );
        let pairs = report(&server, &sql).await;
        asked += pairs.len();
        assert_eq!(
            pairs.len(),
            detail["explain"]["pairs"].as_array().unwrap().len(),
            "{number}"
        );
    }
    assert!(
        reviewed > 20 && asked > 5,
        "{reviewed} reviews, {asked} requests"
    );

    let repositories = ask(&server, "repos").await;
    let rows = report(
        &server,
        "SELECT * FROM tallyhook_report.repositories ORDER BY repo",
    )
    .await;
    let shown = repositories["items"].as_array().unwrap();
    assert_eq!(rows.len(), shown.len());
    for (row, repository) in rows.iter().zip(shown) {
        for name in [
            "repo",
            "repo_access",
            "tracked",
            "tracked_since",
            "sync_status",
            "last_sync_at",
            "last_error",
            "last_delivery_at",
            "missed_by_webhook",
        ] {
            let name_of_time = name.replace("tracked_since", "since");
            assert_eq!(
                plain(&name_of_time, &row[name]),
                plain(&name_of_time, &repository[name]),
                "{name}"
            );
        }
        assert_eq!(row["missing"], "backfill");
    }
    server.stop().await;
}
