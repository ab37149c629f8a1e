//! The pages of members, invitations, rules and teams.

use reqwest::header::LOCATION;
use tallyhook_store::{AccessRole, UserId};
use testkit::{TOKEN, TestServer};

use super::bearer::{assert_has, form, form_as, page, page_as};
use super::browser::{Browser, seen, with_fields};

/// Invites a person on the page and returns the path of the link.
async fn invited(server: &TestServer, fields: &[(&str, &str)]) -> String {
    let (status, _, shown) = form_as(server, TOKEN, "/members/invite", fields).await;
    assert_eq!(status, 200, "{shown}");
    let link = shown.split(r#"<code id="new-link">"#).nth(1).unwrap();
    let link = link.split('<').next().unwrap();
    assert_has(&shown, &[r#"data-copy="new-link""#]);
    link.strip_prefix(&server.url).unwrap().to_owned()
}

/// Uses a link as a person without a session does, and returns its browser.
async fn joined(server: &TestServer, link: &str) -> Browser {
    let browser = Browser::unknown(server);
    let looked = browser.get(link).await;
    assert_eq!(looked.status, 200);
    assert_has(
        &looked.body,
        &["You are invited to the team", "Join the team", "Lena"],
    );
    let accept = with_fields(browser.request("POST", link), &[]);
    let answer = seen(accept.header("Origin", &server.url)).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/"));
    let cookie = answer.header("set-cookie").split(';').next().unwrap();
    Browser::with_cookie(server, cookie).await
}

#[tokio::test]
async fn person_is_invited_joins_and_is_managed_on_pages() {
    let server = TestServer::start().await;
    assert_has(
        &page(&server, "/members").await,
        &["No person is a member yet", "There is no rule"],
    );
    let link = invited(
        &server,
        &[
            ("name", "Lena <b>"),
            ("role", "admin"),
            ("github_login", ""),
        ],
    )
    .await;
    let lena = joined(&server, &link).await;
    let shown = lena.get("/members").await;
    assert_eq!(shown.status, 200);
    assert_has(&shown.body, &["Lena &lt;b&gt;", "used by", "an invitation"]);
    assert!(!shown.body.contains(&link), "the link is shown once");
    let over = Browser::unknown(&server).get(&link).await;
    assert_eq!(over.status, 200);
    assert_has(&over.body, &["not in force"]);

    let second = invited(&server, &[("name", "Ada"), ("role", "viewer")]).await;
    let listed = page(&server, "/members").await;
    let end = listed
        .split("action=\"")
        .find(|rest| rest.contains("/end\""))
        .unwrap();
    let end = end.split('"').next().unwrap();
    assert_eq!(form(&server, end, &[]).await, "/members");
    assert_has(
        &Browser::unknown(&server).get(&second).await.body,
        &["not in force"],
    );

    // The last admin stays, and a person is not removed by a viewer.
    let refused = lena.submit("/members/1/role", &[("role", "viewer")]).await;
    assert_eq!(refused.status, 409);
    assert_has(&refused.body, &["last admin"]);
    let refused = lena.submit("/members/1/remove", &[]).await;
    assert_eq!(refused.status, 409);
    let viewer = server.create_token("viewer", AccessRole::Viewer).await;
    assert_eq!(page_as(&server, &viewer, "/members").await.0, 403);

    let rule = [
        ("github_org", "acme"),
        ("github_team", "backend"),
        ("role", "viewer"),
    ];
    assert_eq!(form(&server, "/members/rules", &rule).await, "/members");
    let shown = page(&server, "/members").await;
    assert_has(&shown, &["acme", "backend"]);
    assert_eq!(
        form(&server, "/members/rules/1/remove", &[]).await,
        "/members"
    );
    assert_has(&page(&server, "/members").await, &["There is no rule"]);
    let wrong = form_as(&server, TOKEN, "/members/rules/1/remove", &[]).await;
    assert_eq!(wrong.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn header_has_a_switch_with_more_than_one_team() {
    let server = TestServer::start().await;
    let link = invited(&server, &[("name", "Lena"), ("role", "admin")]).await;
    let lena = joined(&server, &link).await;
    let switch = "action=\"/teams/choose\"";
    assert!(!lena.get("/settings").await.body.contains(switch));
    let answer = lena.submit("/teams", &[("name", "Mobile apps")]).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/teams"));
    // She is in one of them alone.
    assert!(!lena.get("/settings").await.body.contains(switch));
    let operator = Browser::signed_in(&server, TOKEN).await;
    assert_has(
        &operator.get("/settings").await.body,
        &[switch, "mobile-apps"],
    );
    let store = &server.running.store;
    let apps = store.team_of_slug("mobile-apps").await.unwrap().unwrap();
    let now = chrono::Utc::now();
    let added = store.add_member(apps, UserId(1), AccessRole::Viewer, now);
    added.await.unwrap();
    // She was shown the team of her invitation first, and chooses the other.
    assert_has(
        &lena.get("/settings").await.body,
        &["in the team <strong>default</strong>"],
    );
    let fields = [("team", "mobile-apps"), ("next", "/settings")];
    let answer = lena.submit("/teams/choose", &fields).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, "/settings")
    );
    let shown = lena.get("/settings").await.body;
    assert_has(
        &shown,
        &["in the team <strong>mobile-apps</strong>", "viewer"],
    );
    assert_eq!(lena.get("/members").await.status, 403);
    let evil = [("team", "default"), ("next", "//evil.example.net")];
    let answer = lena.submit("/teams/choose", &evil).await;
    assert_eq!(answer.header("location"), "/");
    let unknown = lena.submit("/teams/choose", &[("team", "none")]).await;
    assert_eq!(unknown.status, 404);
    // Without a choice every page but those of any team leads to the choice.
    server
        .place
        .execute("UPDATE sessions SET team_id = NULL")
        .await;
    let answer = lena.get("/prs?state=open").await;
    let location = answer.headers[LOCATION].to_str().unwrap();
    assert_eq!(
        (answer.status, location),
        (303, "/teams?next=%2Fprs%3Fstate%3Dopen")
    );
    let shown = lena.get(location).await;
    assert_has(
        &shown.body,
        &["Show mobile-apps", "Show default", "/prs?state=open"],
    );
    server.stop().await;
}

#[tokio::test]
async fn person_in_no_team_any_more_can_sign_in_as_another() {
    let server = TestServer::start().await;
    let link = invited(&server, &[("name", "Lena"), ("role", "viewer")]).await;
    let lena = joined(&server, &link).await;
    assert_eq!(lena.get("/login").await.status, 303);
    assert_eq!(form(&server, "/members/1/remove", &[]).await, "/members");
    let refused = lena.get("/prs").await;
    assert_eq!(refused.status, 403);
    assert_has(&refused.body, &["member of no team", "/login"]);
    let login = lena.get("/login").await;
    assert_eq!(login.status, 200);
    assert_has(&login.body, &["name=\"token\""]);
    server.stop().await;
}

#[tokio::test]
async fn browser_is_signed_out_everywhere_on_the_settings() {
    let server = TestServer::start().await;
    let first = Browser::signed_in(&server, TOKEN).await;
    let second = Browser::signed_in(&server, TOKEN).await;
    assert_has(&first.get("/settings").await.body, &["Sign out everywhere"]);
    let answer = first.submit("/settings/sessions/end", &[]).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/login"));
    for browser in [&first, &second] {
        let answer = browser.get("/settings").await;
        assert_eq!(answer.status, 303);
        assert!(answer.header("location").starts_with("/login"));
    }
    server.stop().await;
}
