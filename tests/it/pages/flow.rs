//! The page of durations: the numbers of the API, in each form, and the lists behind them.

use serde_json::Value;
use testkit::{TOKEN, TestServer};

use super::reading::{counts, json, page, part, rows, shown};
use super::story::furnish;

/// Names of the durations, and where the API has them in a summary.
const DURATIONS: [(&str, &str); 8] = [
    ("cycle", ""),
    ("review_time", "/review_time"),
    ("coding", "/stages/coding"),
    ("pickup", "/stages/pickup"),
    ("review", "/stages/review"),
    ("merge_wait", "/stages/merge_wait"),
    ("redraft", "/stages/redraft"),
    ("closed", "/stages/closed"),
];

/// Asserts that each number leads to a list of as many rows.
pub(super) async fn assert_lists(server: &TestServer, html: &str) -> usize {
    let counts = counts(html);
    for (list, number) in &counts {
        let said = rows(&shown(server, list).await).1;
        assert_eq!(said, Some(*number), "{list}");
    }
    counts.len()
}

#[tokio::test]
async fn every_number_leads_to_a_list_of_as_many_rows() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    for (address, at_least) in [
        ("/flow", 20),
        ("/flow?from=60d&of=pickup&bucket=day", 20),
        (
            "/flow?from=60d&of=merge_wait&bucket=month&authors=automation",
            20,
        ),
        ("/flow?from=60d&to=10d&repo=acme-corp%2Fweb", 20),
        ("/explain?from=60d&of=pickup", 3),
        ("/explain?from=60d&of=cycle&p=0.9", 3),
    ] {
        let html = shown(&server, address).await;
        let followed = assert_lists(&server, &html).await;
        assert!(followed >= at_least, "{address}: {followed}");
    }
    server.stop().await;
}

#[tokio::test]
async fn page_csv_and_api_have_the_same_durations() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    for query in ["from=60d", "from=28d", "from=60d&authors=all"] {
        let answer = json(&server, &format!("/api/metrics/compare?{query}")).await;
        let html = shown(&server, &format!("/flow?{query}")).await;
        let file = csv(&server, &format!("/flow.csv?{query}")).await;
        assert_eq!(file.len(), DURATIONS.len());
        for ((name, place), row) in DURATIONS.iter().zip(file) {
            let now = answer["now"].pointer(place).unwrap();
            assert_eq!(row["duration"], *name);
            for number in [
                "n",
                "missing",
                "p50_hours",
                "p90_hours",
                "mean_hours",
                "total_hours",
            ] {
                let expected = match &now[number] {
                    Value::Null => String::new(),
                    value => value.to_string(),
                };
                assert_eq!(
                    row[&format!("now.{number}")],
                    expected,
                    "{query} {name} {number}"
                );
            }
            let shown = part(&html, "tr", &format!("duration-{name}"));
            for number in ["mean_hours", "total_hours"] {
                let hours = now[number]
                    .as_f64()
                    .map_or("–".to_owned(), |hours| format!("{hours:.2}"));
                assert!(
                    shown.contains(&format!(">{hours}<")),
                    "{query} {number} {shown}"
                );
            }
            let n = now["n"].as_u64().unwrap();
            assert!(
                shown.contains(&format!(" data-count>{n}<")),
                "{query} {shown}"
            );
            // Too few for percentiles are shown as they are.
            assert_eq!(
                shown.contains("too few for percentiles"),
                (1..5).contains(&n),
                "{shown}"
            );
        }
    }
    server.stop().await;
}

async fn csv(server: &TestServer, address: &str) -> Vec<std::collections::HashMap<String, String>> {
    let request = server.http.get(format!("{}{address}", server.url));
    let response = request.bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(response.status(), 200, "{address}");
    let text = response.text().await.unwrap();
    let mut lines = csv::Reader::from_reader(text.as_bytes());
    lines.deserialize().map(Result::unwrap).collect()
}

#[tokio::test]
async fn charts_stand_beside_their_tables_and_periods_without_merges_lead_on() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    let html = shown(&server, "/flow?from=60d&of=pickup").await;
    for id in ["over-time", "distribution", "points"] {
        assert!(
            part(&html, "section", id).contains("<svg class=\"chart\" role=\"group\""),
            "{id}"
        );
    }
    let points = json(&server, "/api/metrics/points?from=60d&of=pickup").await;
    let dots = part(&html, "section", "points").matches("<circle").count();
    assert_eq!(Some(dots as u64), points["n"].as_u64());
    let html = shown(&server, "/flow?from=2020-01-01&to=2020-02-01").await;
    assert!(
        html.contains("No pull request that counts was merged in this period"),
        "{html}"
    );
    assert!(!html.contains("<svg class=\"chart\""));
    // A filter that cannot be is answered in its place.
    let (status, html) = page(&server, "/flow?from=yesterday").await;
    assert!(
        status == 200 && html.contains("This part cannot be shown"),
        "{status} {html}"
    );
    let (status, html) = page(&server, "/flow?clock=business").await;
    assert!(
        status == 200 && html.contains("no calendar is configured"),
        "{status} {html}"
    );
    server.stop().await;
}
