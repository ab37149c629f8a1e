//! The load of reviews: teams first, and people only where that is allowed.

use tallyhook::app::ServerOptions;
use tallyhook_core::domain::numbers::NumberRules;
use testkit::{Place, TOKEN, TestServer, config};

use super::reading::{json, page, part, shown};
use super::story::furnish;

async fn csv(server: &TestServer, address: &str) -> (u16, Vec<String>) {
    let request = server.http.get(format!("{}{address}", server.url));
    let response = request.bearer_auth(TOKEN).send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, text.lines().skip(1).map(str::to_owned).collect())
}

#[tokio::test]
async fn small_teams_and_people_are_not_shown() {
    let mut server = TestServer::start().await;
    furnish(&mut server).await;
    let html = shown(&server, "/load").await;
    let teams = part(&html, "section", "teams");
    assert!(teams.contains("<bdi>backend</bdi>"), "{teams}");
    assert!(
        teams.contains("Fewer than five people answered for it"),
        "{teams}"
    );
    assert!(
        part(&html, "section", "concentration").contains("Fewer than five people"),
        "{html}"
    );
    assert!(
        part(&html, "section", "people").contains("People are not shown"),
        "{html}"
    );
    assert!(!html.contains("ines-acme"), "{html}");
    let items = json(&server, "/api/reviews/load?from=28d").await;
    let (status, rows) = csv(&server, "/load.csv").await;
    assert_eq!(status, 200);
    assert_eq!(rows.len(), items["items"].as_array().unwrap().len());
    assert!(rows[0].starts_with("team,backend,true,"), "{rows:?}");
    assert_eq!(csv(&server, "/load.csv?by=person").await.0, 403);
    let html = shown(
        &server,
        "/load?to=2020-01-01&from=2019-01-01&repo=acme-corp%2Fweb",
    )
    .await;
    assert!(html.contains("Clear"), "{html}");
    let (status, html) = page(&server, "/load?from=soon").await;
    assert!(
        status == 200 && html.contains("This part cannot be shown"),
        "{status}"
    );
    server.stop().await;
}

#[tokio::test]
async fn people_are_shown_by_name_where_the_setting_allows_it() {
    let place = Place::new().await;
    let mut config = config(&place);
    (config.show_people, config.numbers) = (true, NumberRules::default());
    let mut server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    furnish(&mut server).await;
    let html = shown(&server, "/load").await;
    let people = part(&html, "section", "people");
    let items = json(&server, "/api/reviews/load?by=person&from=28d").await;
    let mut from = 0;
    for item in items["items"].as_array().unwrap() {
        let name = format!("<bdi>{}</bdi>", item["name"].as_str().unwrap());
        let place = people[from..].find(&name);
        from += place.unwrap_or_else(|| panic!("{name} after {from} in {people}"));
    }
    assert!(people.contains("ines-acme"), "{people}");
    server.stop().await;
}
