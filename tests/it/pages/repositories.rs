//! The pages of repositories and backfills.

use chrono::{TimeDelta, Utc};
use tallyhook::app::{RoleSet, ServerOptions};
use tallyhook::config::Config;
use tallyhook_core::github::types::Timestamp;
use tallyhook_github_client::{Credentials, Token};
use tallyhook_store::{AccessRole, PullRequestError, RunState, SyncRun};
use testkit::github::growth::Growth;
use testkit::github::{FakeGithub, GITHUB_TOKEN};
use testkit::{Place, TOKEN, TestServer, eventually};

use super::bearer::{assert_has, form, form_as, page, page_as};

const REPO: &str = "acme-corp/api-server";
const CARD: &str = "/repos/acme-corp/api-server";

async fn start(github: Option<&FakeGithub>, roles: RoleSet) -> TestServer {
    let place = Place::new().await;
    let mut config: Config = testkit::config(&place);
    if let Some(github) = github {
        config.github_api_url = github.api();
        config.github_credentials = Token::parse(GITHUB_TOKEN).map(Credentials::Token);
    }
    let options = ServerOptions {
        roles,
        ..ServerOptions::default()
    };
    TestServer::start_as(&config, place, options).await
}

/// Leases the only run under way, and saves it with this progress.
async fn progress(server: &TestServer, state: RunState, change: impl FnOnce(&mut SyncRun)) {
    let (store, now) = (&server.running.store, Utc::now());
    let lease = now + TimeDelta::minutes(5);
    let run = store.claim_run(None, now, lease).await.unwrap();
    let mut run = run.unwrap();
    run.state = state;
    change(&mut run);
    assert!(store.save_run(&run, now, lease).await.unwrap());
}

#[tokio::test]
async fn backfill_is_started_watched_and_cancelled_on_pages() {
    let github = FakeGithub::start().await;
    github.add_repository(7, REPO);
    let api = RoleSet {
        api: true,
        ..RoleSet::NONE
    };
    let server = start(Some(&github), api).await;
    assert_has(
        &page(&server, "/repos").await,
        &["No repository is tracked yet"],
    );
    assert_eq!(form(&server, "/repos", &[("repo", REPO)]).await, CARD);
    let list = page(&server, "/repos").await;
    assert_has(
        &list,
        &[
            r#"id="count" data-count="1""#,
            r#"id="repo-acme-corp/api-server""#,
            r#"<a href="/repos?incomplete=true" data-count>1</a>"#,
            "the backfill is not done yet",
        ],
    );
    progress(&server, RunState::Running, |run| {
        (run.prs_done, run.prs_total, run.github_requests) = (61, Some(100), 26);
    })
    .await;
    for path in ["/repos", CARD, "/sync-runs/1"] {
        let shown = page(&server, path).await;
        assert_has(
            &shown,
            &[
                r#"<progress max="100" value="61""#,
                "61 of 100",
                "26 requests",
            ],
        );
        assert_has(&shown, &[r#"action="/sync-runs/1/cancel""#]);
    }
    assert_eq!(
        form(&server, "/sync-runs/1/cancel", &[]).await,
        "/sync-runs/1"
    );
    let cancelled = page(&server, "/sync-runs/1").await;
    assert_has(&cancelled, &["cancelled"]);
    assert!(!cancelled.contains("/sync-runs/1/cancel"));

    let fields = [("days_back", "30"), ("max_prs", "5"), ("commits", "true")];
    let started = form(&server, &format!("{CARD}/sync"), &fields).await;
    let range = "30 days, at most 5 pull requests, with the dates of commits";
    assert_has(&page(&server, &started).await, &[range]);
    for (field, value) in [("days_back", "x"), ("max_prs", "0")] {
        let refused = form_as(&server, TOKEN, &format!("{CARD}/sync"), &[(field, value)]).await;
        assert_eq!(refused.0, 400, "{}", refused.2);
    }
    progress(&server, RunState::Done, |run| {
        run.prs_done = 40;
        run.complete_since = Some(Timestamp::clamped(1_772_445_600));
        run.errors = vec![PullRequestError {
            pr: 9,
            error: "GitHub answered 502".to_owned(),
        }];
    })
    .await;
    assert_has(
        &page(&server, &format!("{started}?")).await,
        &[
            "GitHub answered 502",
            "/pull/9\">#9</a>",
            r#"id="failed-9""#,
        ],
    );
    assert_has(
        &page(&server, CARD).await,
        &["Try these again", r#"name="days_back" value="30""#, "#9"],
    );
    assert_has(
        &page(&server, "/repos").await,
        &[
            r#"<a href="/sync-runs?state=done" data-count>1</a>"#,
            r#"<a href="/sync-runs?state=done%2Cfailed" data-count>1</a>"#,
            "100.0 %",
            "the goal is 95.0 %",
            r#"<a href="/repos?incomplete=true" data-count>1</a>"#,
        ],
    );
    let runs = page(&server, "/sync-runs?state=done,failed").await;
    assert_has(&runs, &[r#"id="count" data-count="1""#, "#2"]);
    let csv = page(&server, "/repos.csv").await;
    assert!(csv.starts_with("repo,") && csv.contains(REPO), "{csv}");
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn backfill_of_the_page_fetches_from_github() {
    let github = FakeGithub::start().await;
    github.add_repository(7, REPO);
    let until = Timestamp::from(Utc::now() - TimeDelta::hours(1));
    github.world(|world| {
        let growth = Growth {
            seed: 7,
            pulls: 12,
            ties: true,
            until,
        };
        world.grow(REPO, growth)
    });
    let server = start(Some(&github), RoleSet::ALL).await;
    form(&server, "/repos", &[("repo", REPO)]).await;
    eventually("the backfill is done", async || {
        // The poller starts it.
        let (status, run) = page_as(&server, TOKEN, "/sync-runs/1").await;
        status == 200 && run.contains(">done</span>")
    })
    .await;
    let run = page(&server, "/sync-runs/1").await;
    assert_has(&run, &["12 pull requests", "<p>None.</p>"]);
    let list = page(&server, "/repos").await;
    assert_has(
        &list,
        &["Nothing is missing", "100 pull requests took", "synced"],
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn repository_is_untracked_after_a_confirmation() {
    let github = FakeGithub::start().await;
    github.add_repository(7, REPO);
    let server = start(
        Some(&github),
        RoleSet {
            api: true,
            ..RoleSet::NONE
        },
    )
    .await;
    form(&server, "/repos", &[("repo", REPO)]).await;
    let untrack = format!("{CARD}/untrack");
    let confirm = page(&server, &untrack).await;
    assert_has(
        &confirm,
        &[
            "its backfill is cancelled",
            &format!(r#"action="{untrack}""#),
        ],
    );
    assert_has(
        &page(&server, CARD).await,
        &[&format!(r#"href="{untrack}""#)],
    );
    let member = server.create_token("member", AccessRole::Member).await;
    assert_eq!(page_as(&server, &member, &untrack).await.0, 403);
    assert_eq!(form_as(&server, &member, &untrack, &[]).await.0, 403);
    let (_, card) = page_as(&server, &member, CARD).await;
    assert!(!card.contains(&untrack), "{card}");
    assert_eq!(form(&server, &untrack, &[]).await, "/repos");
    assert_has(
        &page(&server, "/repos").await,
        &["No repository is tracked yet"],
    );
    let (status, gone) = page_as(&server, TOKEN, CARD).await;
    assert_eq!(status, 404);
    assert_has(&gone, &["No such repository", "how to track one"]);
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn without_access_to_github_the_buttons_are_there_with_the_reason() {
    let mut server = start(None, RoleSet::ALL).await;
    for fixture in testkit::fixtures().iter().take(3) {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server.drained().await;
    let list = page(&server, "/repos").await;
    assert_has(&list, &["button disabled", "set GITHUB_TOKEN"]);
    let refused = form_as(&server, TOKEN, &format!("{CARD}/sync"), &[]).await;
    assert_eq!(refused.0, 409, "{}", refused.2);
    let viewer = server.create_token("viewer", AccessRole::Viewer).await;
    let (_, seen) = page_as(&server, &viewer, "/repos").await;
    assert!(
        !seen.contains("Sync now") && !seen.contains("Track a repository"),
        "{seen}"
    );
    assert_eq!(
        form_as(&server, &viewer, &format!("{CARD}/sync"), &[])
            .await
            .0,
        403
    );
    server.stop().await;
}
