//! The page of one pull request: its sum by hand, its sentence, and its forms.

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use tallyhook_core::github::types::PrNumber;
use tallyhook_store::DEFAULT_TEAM;
use testkit::{TOKEN, TestServer};

use super::reading::{page, part, shown};

const PAGE: &str = "/repos/acme-corp/api-server/prs";

async fn told() -> TestServer {
    let mut server = TestServer::start().await;
    for fixture in testkit::fixtures() {
        let posted = server.post(&fixture.event, &fixture.guid, &fixture.payload);
        assert!(posted.await.0 < 300);
    }
    server.drained().await;
    server
}

#[tokio::test]
async fn stages_and_turns_are_sums_that_were_worked_out_by_hand() {
    let server = told().await;
    for (number, question, sum, turns) in [
        (
            109,
            "Why acme-corp/api-server#109 took 1 d 2 h",
            "pickup 4.00 + redraft 21.00 + review 0.00 + merge wait 1.00 = 26.00 h, to the second",
            "= 26.00 h.",
        ),
        (
            107,
            "Why acme-corp/api-server#107 took 1 d 2 h",
            "pickup 19.00 + review 5.00 + merge wait 2.00 = 26.00 h, to the second",
            "author 4.00 + reviewers 21.98 + no one asked 0.02 = 26.00 h.",
        ),
    ] {
        let html = shown(&server, &format!("{PAGE}/{number}")).await;
        assert!(html.contains(&format!("<h1>{question}</h1>")), "{html}");
        let caption = part(&html, "caption", "sum");
        assert!(caption.ends_with(&format!(">{sum}")), "{caption}");
        assert!(part(&html, "section", "turns").contains(turns), "{html}");
        assert!(!html.contains("hatching") && html.contains("role=\"group\""));
    }
    let html = shown(&server, &format!("{PAGE}/107")).await;
    let reviews = part(&html, "section", "reviews");
    // She asked for changes first; her approval is the opinion that stands.
    assert!(
        reviews.contains("<bdi>ines-acme</bdi></th><td>approved</td>"),
        "{reviews}"
    );
    assert!(reviews.contains("changes requested <time"), "{reviews}");
    let requests = part(&html, "section", "requests");
    assert!(
        requests.contains("(request 2)") && requests.contains("2 rounds"),
        "{requests}"
    );
    server.stop().await;
}

#[tokio::test]
async fn open_one_says_first_what_it_waits_for() {
    let server = told().await;
    let html = shown(&server, &format!("{PAGE}/105")).await;
    assert!(
        html.contains("What acme-corp/api-server#105 waits for"),
        "{html}"
    );
    let sentence = html.split("<p class=\"lead\">").nth(1).unwrap();
    let sentence = sentence.split("</p>").next().unwrap();
    assert!(
        sentence.starts_with("Waits <time datetime=\"2026-03-03T10:06:00Z\""),
        "{sentence}"
    );
    assert!(
        sentence.contains("</time> for another look by team <bdi>backend</bdi> ("),
        "{sentence}"
    );
    assert!(html.contains("hatching") && html.contains("so far, to the second"));
    server.stop().await;
}

#[tokio::test]
async fn unknown_numbers_and_the_short_address_lead_on() {
    let server = told().await;
    for address in [
        format!("{PAGE}/9999"),
        "/repos/other/unknown/prs/1".to_owned(),
    ] {
        let (status, html) = page(&server, &address).await;
        assert_eq!(status, 404, "{address}");
        assert!(
            html.contains("Tallyhook knows no pull request") && html.contains("href=\"/repos\"")
        );
    }
    let http = reqwest::Client::builder()
        .redirect(Policy::none())
        .build()
        .unwrap();
    let asked = http
        .get(format!("{}/prs/109", server.url))
        .bearer_auth(TOKEN);
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()["location"], format!("{PAGE}/109").as_str());
    server.stop().await;
}

#[tokio::test]
async fn forms_need_github_and_a_watch_can_be_ended_without_it() {
    let server = told().await;
    let address = format!("{PAGE}/109");
    let html = shown(&server, &address).await;
    let freshness = part(&html, "section", "freshness");
    assert!(
        freshness.contains("<button disabled>Ask GitHub now</button>"),
        "{freshness}"
    );
    assert!(freshness.contains("no access to GitHub"), "{freshness}");
    let post = |form: &str| {
        let url = format!("{}{address}/{form}", server.url);
        let request = server.http.post(url).bearer_auth(TOKEN);
        request
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .send()
    };
    assert_eq!(post("watch").await.unwrap().status(), 409);
    let store = &server.running.store;
    let now = chrono::Utc::now();
    store
        .of_team(DEFAULT_TEAM.0)
        .watch("acme-corp/api-server", PrNumber(109), now)
        .await
        .unwrap();
    let html = shown(&server, &address).await;
    assert!(
        part(&html, "section", "freshness").contains("Stop watching it"),
        "{html}"
    );
    let after = post("unwatch").await.unwrap().text().await.unwrap();
    assert!(after.contains("<dt>Watched</dt><dd>no</dd>"), "{after}");
    server.stop().await;
}
