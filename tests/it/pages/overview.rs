//! The overview and the wall: every number has its list, and equals the API's.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::{TestServer, eventually, fixtures};

use super::reading::{counts, json, page, part, shown, three_forms};
use super::story::{HOSTILE, NAME, furnish};

/// Filters of the overview.
const FILTERS: [&str; 13] = [
    "",
    "period=12w",
    "authors=all",
    "authors=bot",
    "authors=automation&period=12w",
    "team=backend",
    "team=none",
    "repo=acme-corp%2Fweb",
    "repo=acme-corp%2Fapi-server&period=custom&from=2026-03-01&to=2026-04-01",
    "period=custom&from=2026-03-01&to=2026-04-01&authors=all",
    "period=custom&from=2025-06-01&to=2026-05-01",
    "period=custom&from=28d&to=1d",
    "period=custom",
];

async fn with_fixtures(server: &mut TestServer) {
    for fixture in fixtures() {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server.drained().await;
}

#[tokio::test]
async fn every_number_leads_to_a_list_of_as_many_rows_in_three_forms() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    with_fixtures(&mut server).await;
    let mut checked = BTreeSet::new();
    for page in ["/", "/wall"] {
        for filter in FILTERS {
            let html = shown(&server, &format!("{page}?{filter}")).await;
            let numbers = counts(&html);
            let most = numbers.iter().map(|(_, number)| *number).max();
            assert!(numbers.len() >= 4, "{page}?{filter}: {html}");
            assert!(most > Some(0) || filter.contains("none"), "{page}?{filter}");
            for (address, number) in numbers {
                let query = address.strip_prefix("/prs?").unwrap();
                if !checked.insert((address.clone(), number)) {
                    continue;
                }
                let forms = three_forms(&server, query).await;
                let place = format!("{page}?{filter}: {number} is {address}");
                assert_eq!(forms.said, [Some(number); 2], "{place}");
                assert_eq!(forms.html.len() as u64, number, "{place}");
                assert_eq!(
                    (&forms.html, &forms.html),
                    (&forms.json, &forms.csv),
                    "{place}"
                );
            }
        }
    }
    assert!(checked.len() > 150, "{} numbers", checked.len());
    server.stop().await;
}

#[tokio::test]
async fn table_of_now_equals_the_totals_of_the_api() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    for (filter, query) in [
        ("", "authors=human"),
        ("authors=all", "authors=all"),
        (
            "team=backend&authors=all",
            "authors=all&github_team=backend",
        ),
    ] {
        let html = shown(&server, &format!("/?{filter}")).await;
        let answer = json(&server, &format!("/api/waiting?{query}")).await;
        let now = part(&html, "section", "now");
        let mut expected = vec![answer["open"].as_u64().unwrap()];
        for group in answer["groups"].as_array().unwrap() {
            let names = ["n", "under_1d", "under_3d", "under_7d", "over_7d"];
            expected.extend(names.map(|name| group[name].as_u64().unwrap()));
        }
        let found: Vec<_> = counts(now).into_iter().map(|(_, number)| number).collect();
        assert_eq!(found, expected, "{filter}");
        let on = counts(part(&html, "section", "on")).into_iter();
        let on: Vec<_> = on.map(|(_, number)| number).collect();
        let totals = answer["on"].as_array().unwrap().iter();
        let totals: Vec<_> = totals.map(|on| on["n"].as_u64().unwrap()).collect();
        assert_eq!(on, totals, "{filter}");
    }
    // Each of the wall's numbers has its title.
    let wall = shown(&server, "/wall").await;
    let cards = part(&wall, "section", "wall-counts");
    assert_eq!(
        cards.matches("<li class=\"card\"><h2>").count(),
        4,
        "{cards}"
    );
    let all = json(&server, "/api/waiting?authors=all").await;
    let reasons: BTreeSet<_> = all["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["reason"].as_str().unwrap())
        .collect();
    for reason in ["base_pr", "draft", "merge", "nobody_asked", "first_review"] {
        assert!(reasons.contains(reason), "{reason}");
    }
    server.stop().await;
}

#[tokio::test]
async fn cards_show_the_medians_and_counts_of_the_comparison() {
    let mut server = TestServer::start().await;
    with_fixtures(&mut server).await;
    let range = "from=2026-03-01&to=2026-03-29";
    let html = shown(&server, &format!("/?period=custom&{range}")).await;
    let compared = json(&server, &format!("/api/metrics/compare?{range}")).await;
    let cards = part(&html, "section", "compared");
    let now = &compared["now"];
    for hours in [&now["p50_hours"], &now["stages"]["pickup"]["p50_hours"]] {
        let shown = format!(
            "<p class=\"big\" data-n=\"a duration\">{:.2} h",
            hours.as_f64().unwrap()
        );
        assert!(cards.contains(&shown), "{shown}: {cards}");
    }
    let numbers: Vec<_> = counts(cards)
        .into_iter()
        .map(|(_, number)| number)
        .collect();
    let count = |value: &Value| value.as_u64().unwrap();
    let last = [
        count(&now["counted"]),
        count(&compared["before"]["counted"]),
        count(&now["flags"]["merged_without_review"]),
        count(&now["counted"]),
        0,
        count(&compared["before"]["counted"]),
        count(&now["closed_unmerged"]),
        count(&compared["before"]["closed_unmerged"]),
    ];
    assert!(last[0] > 9 && last[2] > 0 && last[6] > 0, "{last:?}");
    assert_eq!(numbers[numbers.len() - 8..], last);
    assert_stages_add_up(&server, part(&html, "section", "spent")).await;
    server.stop().await;
}

/// Asserts that the stages of each week's row add up to its sum, and that the sum is the mean cycle
/// time of its pull requests: their commits were not fetched, so nothing is before their opening.
async fn assert_stages_add_up(server: &TestServer, table: &str) {
    let rows: Vec<_> = table.split("<tr>").skip(2).collect();
    let week = |row: &&str| row.split("datetime=\"").nth(1).unwrap()[..20].to_owned();
    let path = format!(
        "/api/metrics/cycle-time?from={}&to=2026-03-29&bucket=week",
        week(&rows[0])
    );
    let answer = json(server, &path).await;
    let buckets = answer["buckets"].as_array().unwrap();
    let mut sums = 0;
    for row in rows {
        let cells = row.split("data-n=\"a mean\">").skip(1);
        let cells: Vec<f64> = cells
            .map(|cell| cell.split('<').next().unwrap().parse().unwrap())
            .collect();
        let (sum, stages) = cells.split_last().unwrap();
        assert!((sum - stages.iter().sum::<f64>()).abs() < 0.04, "{row}");
        let bucket = buckets.iter().find(|bucket| bucket["start"] == week(&row));
        let cycle = bucket.map_or(0.0, |bucket| bucket["mean_hours"].as_f64().unwrap_or(0.0));
        assert!((sum - cycle).abs() < 0.04, "{cycle}: {row}");
        sums += i32::from(*sum > 0.0);
    }
    assert!(sums > 1, "{table}");
}

#[tokio::test]
async fn emptiness_says_what_is_missing_and_the_next_step() {
    let server = TestServer::start().await;
    let html = shown(&server, "/").await;
    let webhook = format!("{}/webhooks/github", server.url);
    for words in [
        &webhook,
        "tallyhook backfill OWNER/REPO",
        "tallyhook doctor",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    server.stop().await;
    // Another one, since answers of the last second are shared.
    let mut server = TestServer::start().await;
    with_fixtures(&mut server).await;
    // The fixtures end in spring.
    let html = shown(&server, "/").await;
    assert!(html.contains("The newest merge was on "), "{html}");
    let link = html.split("<a href=\"").skip(1);
    let link = link.filter_map(|link| link.split_once("\">show the weeks"));
    let address = link
        .map(|(address, _)| address.replace("&amp;", "&"))
        .next()
        .unwrap();
    let earlier = shown(&server, &address).await;
    assert!(
        !earlier.contains("Nothing that counts was merged"),
        "{earlier}"
    );
    let nothing = shown(&server, "/?authors=automation&team=none").await;
    assert!(
        nothing.contains("No open pull request matches."),
        "{nothing}"
    );
    // The page names missing data beside the numbers.
    assert!(html.contains("it was not fetched by a backfill"), "{html}");
    let quiet = "UPDATE repositories SET missed_by_webhook = 3, last_delivery_at = NULL";
    server.place.execute(quiet).await;
    let banner = "No webhook arrives.";
    eventually("the banner", async || {
        shown(&server, "/").await.contains(banner)
    })
    .await;
    // One part fails by itself, and the rest holds.
    let (status, html) = page(&server, "/?authors=robots").await;
    assert_eq!(status, 200);
    assert!(
        html.contains("This part cannot be shown") && html.contains("did you mean"),
        "{html}"
    );
    server.stop().await;
}

#[tokio::test]
async fn foreign_text_stays_text() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    let escaped = "&lt;/title&gt;&lt;img src=x onerror=";
    for address in ["/", "/wall", "/prs", "/prs?state=open", "/prs?q=onerror"] {
        let html = shown(&server, address).await;
        assert!(html.contains(escaped), "{address}: {html}");
        for raw in ["<img", "<script>", "<b>", HOSTILE] {
            assert!(!html.contains(raw), "{address}: {raw}");
        }
    }
    let repo = shown(&server, &format!("/?repo={NAME}%22%3E%3Cimg%3E")).await;
    assert!(!repo.contains("<img"), "{repo}");
    server.stop().await;
}
