//! The list of pull requests: one truth in three forms, pages, and lists that cannot be.

use testkit::TestServer;

use super::reading::{page, rows, shown, three_forms};
use super::story::furnish;

/// Filters of the list.
const FILTERS: [&str; 20] = [
    "",
    "state=open",
    "state=merged",
    "state=closed_unmerged",
    "reason=first_review",
    "reason=base_pr",
    "waiting_for=author&draft=false",
    "waited_min=1d&waited_max=3d",
    "waiting_on=github_team:backend",
    "q=%2324",
    "q=onerror",
    "authors=automation",
    "repo=acme-corp%2Fweb&author=mira",
    "flag=merged_without_review&counted=true&merged_from=28d",
    "stage=pickup&min_hours=2&merged_from=60d&sort=pickup",
    "missing=pickup&counted=true",
    "excluded=merged_as_draft",
    "closed_from=28d",
    "sort=merged&order=asc",
    "sort=created&state=open",
];

#[tokio::test]
async fn page_json_and_csv_have_the_same_rows_under_every_filter() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    for filter in FILTERS {
        let forms = three_forms(&server, filter).await;
        assert!(!forms.html.is_empty(), "{filter}");
        assert_eq!(
            (&forms.html, &forms.html),
            (&forms.json, &forms.csv),
            "{filter}"
        );
        let number = Some(forms.html.len() as u64);
        assert_eq!(forms.said, [number; 2], "{filter}");
    }
    server.stop().await;
}

#[tokio::test]
async fn list_shows_what_fits_it_or_the_columns_of_its_address() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    for (address, has, lacks) in [
        (
            "/prs?state=open",
            &["Waits for", "Since", "backend"][..],
            &["scope=\"col\">Cycle h"][..],
        ),
        (
            "/prs?state=merged",
            &["Cycle h", "class=\"mini\"", "10.00"],
            &["<th scope=\"col\">Since"],
        ),
        (
            "/prs?state=merged&cols=author,size",
            &["mira", "+7 −1"],
            &["scope=\"col\">Cycle h", "class=\"mini\""],
        ),
        (
            "/prs?stage=pickup&merged_from=60d",
            &["scope=\"col\">Pickup h"],
            &["Merge wait h</th>"],
        ),
        (
            "/prs?repo=acme-corp%2Fweb&q=none",
            &["Nothing matches.", "data-count=\"0\""],
            &["<tbody>"],
        ),
    ] {
        let html = shown(&server, address).await;
        for words in has {
            assert!(html.contains(words), "{address}: {words}: {html}");
        }
        for words in lacks {
            assert!(!html.contains(words), "{address}: {words}: {html}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn list_that_cannot_be_says_so_and_offers_one_that_can() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    let (status, html) = page(&server, "/prs?sort=pickup&authors=human").await;
    assert_eq!(status, 200);
    assert!(
        html.contains("add merged_from, with at most 400 days"),
        "{html}"
    );
    let ranges = ["28d", "84d", "365d"];
    for range in ranges {
        let address = format!("/prs?authors=human&amp;sort=pickup&amp;merged_from={range}");
        assert!(html.contains(&address), "{address}: {html}");
        let listed = shown(&server, &address.replace("&amp;", "&")).await;
        assert!(!rows(&listed).0.is_empty(), "{range}");
    }
    // Times of creation have an index among the open ones.
    let html = shown(&server, "/prs?sort=created").await;
    let open = "/prs?sort=created&amp;state=open";
    assert!(
        html.contains(&format!("\"{open}\">those that are open")),
        "{html}"
    );
    assert!(
        !rows(&shown(&server, &open.replace("&amp;", "&")).await)
            .0
            .is_empty()
    );
    for (query, words) in [
        ("reason=drafts", "did you mean `draft`?"),
        ("repo=acme-corp/none", "there is no such repository"),
        ("waiting_on=me", "this token has no login"),
        ("cursor=e30", "start without it"),
    ] {
        let (status, html) = page(&server, &format!("/prs?{query}")).await;
        assert!(
            status == 200 && html.contains(words),
            "{query}: {status} {html}"
        );
        assert_eq!(rows(&html), (Vec::new(), None), "{query}");
    }
    server.stop().await;
}
