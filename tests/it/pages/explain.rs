//! The page that says where a percentile comes from.

use testkit::TestServer;

use super::reading::{json, page, part, shown};
use super::story::furnish;

#[tokio::test]
async fn percentile_is_named_by_the_pull_requests_around_its_rank() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    for (of, p) in [
        ("pickup", "0.5"),
        ("cycle", "0.5"),
        ("cycle", "0"),
        ("merge_wait", "0.9"),
    ] {
        let query = format!("of={of}&p={p}&from=60d");
        let found = json(&server, &format!("/api/metrics/explain?{query}")).await;
        let html = shown(&server, &format!("/explain?{query}")).await;
        let sentence = part(&html, "p", "sentence");
        let hours = found["value_hours"].as_f64().unwrap();
        assert!(
            sentence.contains(&format!(">{hours:.2} h<")),
            "{query} {sentence}"
        );
        let between = found["between"].as_array().unwrap();
        for item in between {
            let (number, hours) = (&item["number"], item["hours"].as_f64().unwrap());
            let link = format!("/prs/{number}\">acme-corp/web#{number}</a> (");
            assert!(sentence.contains(&link), "{query} {sentence}");
            assert!(
                sentence.contains(&format!("{hours:.2} h</span>)")),
                "{query} {sentence}"
            );
        }
        assert_eq!(
            sentence.contains("it is number"),
            between.len() == 1,
            "{query}"
        );
        let around = part(&html, "table", "around");
        let listed = found["around"].as_array().unwrap();
        assert_eq!(around.matches("<tr").count(), listed.len() + 1, "{query}");
        assert_eq!(
            around.matches("at the rank").count(),
            between.len(),
            "{query}"
        );
        // The rank of the first one at the rank is the whole part of the value's.
        let rank = found["rank"].as_f64().unwrap().floor();
        assert!(
            around.contains(&format!(
                "<tr class=\"marked\"><td class=\"num\">{rank}</td>"
            )),
            "{query} {around}"
        );
        assert!(
            html.contains(found["definition"].as_str().unwrap()),
            "{query}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn period_without_merges_and_wrong_names_say_so() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    let html = shown(&server, "/explain?of=redraft&from=28d").await;
    assert!(
        html.contains("No merged pull request of this period has a redraft"),
        "{html}"
    );
    let (status, html) = page(&server, "/explain?of=pickups").await;
    assert_eq!(status, 400);
    assert!(html.contains("did you mean `pickup`?"), "{html}");
    server.stop().await;
}
