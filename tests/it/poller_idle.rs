//! Polling of idle repositories costs nothing of the rate limit.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tallyhook::sync::fetch::observed_repository;
use tallyhook::sync::poller::Poller;
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::Client;

use testkit::github::app::private_key;
use testkit::github::growth::Growth;
use testkit::github::{FakeGithub, Request};
use testkit::{TestServer, config};

const REPOSITORIES: i64 = 100;
const ROUNDS: usize = 10;

/// Returns a hundred repositories with a few pull requests each, and a server that tracks them from
/// `since` on.
async fn tracked(since: DateTime<Utc>) -> (FakeGithub, TestServer) {
    let (github, server) = (FakeGithub::start().await, TestServer::start().await);
    let until = (Utc::now() - TimeDelta::hours(1)).into();
    for id in 1..=REPOSITORIES {
        let name = format!("acme-corp/repository-{id}");
        github.add_repository(id, &name);
        github.world(|world| {
            world.grow(
                &name,
                Growth {
                    seed: id.unsigned_abs(),
                    pulls: 3,
                    ties: false,
                    until,
                },
            )
        });
        server
            .running
            .store
            .track(&observed_repository(RepoId(id), name, Some(false)), since)
            .await
            .unwrap();
    }
    (github, server)
}

fn poller(client: Client, server: &TestServer) -> Poller {
    let settings = config(&server.place).sync;
    Poller {
        client,
        store: server.running.store.clone(),
        settings,
        default_repository: None,
    }
}

/// Runs one round and applies what it found. Returns its requests.
async fn round(poller: &Poller, github: &FakeGithub, server: &mut TestServer) -> Vec<Request> {
    let round = poller.round(false).await.unwrap();
    assert_eq!(
        round.repositories.len(),
        usize::try_from(REPOSITORIES).unwrap()
    );
    assert!(
        round
            .repositories
            .iter()
            .all(|polled| polled.failure().is_none()),
        "{round:?}"
    );
    server.drained().await;
    let requests = github.requests();
    assert_eq!(round.github_requests, requests.len() as u64);
    requests
}

/// Returns the number of answers with 200, 304 and any other status, and the cost of all requests.
fn answers(requests: &[Request]) -> ([usize; 3], u64) {
    let of = |status| {
        requests
            .iter()
            .filter(|request| request.status == status)
            .count()
    };
    let (new, unchanged) = (of(200), of(304));
    let cost = requests.iter().map(|request| request.cost).sum();
    ([new, unchanged, requests.len() - new - unchanged], cost)
}

#[tokio::test]
async fn second_round_with_a_token_is_free() {
    // Before the first pull request, so that the first round fetches all of them.
    let (github, mut server) = tracked(Utc::now() - TimeDelta::days(61)).await;
    let poller = poller(github.client().0, &server);
    assert_eq!(
        answers(&round(&poller, &github, &mut server).await),
        ([200, 0, 0], 200)
    );
    for _ in 1..ROUNDS {
        assert_eq!(
            answers(&round(&poller, &github, &mut server).await),
            ([0, 100, 0], 0)
        );
    }
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn changes_before_tracking_are_not_listed() {
    let (github, mut server) = tracked(Utc::now()).await;
    let poller = poller(github.client().0, &server);
    assert_eq!(
        answers(&round(&poller, &github, &mut server).await),
        ([100, 0, 0], 100)
    );
    assert_eq!(
        answers(&round(&poller, &github, &mut server).await),
        ([0, 100, 0], 0)
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn app_pays_once_per_installation_token() {
    let (github, mut server) = tracked(Utc::now()).await;
    let (client, time) = github.app_client(&private_key());
    github.add_app(&time);
    github.install("acme-corp", 9);
    let poller = poller(client, &server);
    for paid in [true, false, false, true, false] {
        let (listings, others): (Vec<_>, Vec<_>) = round(&poller, &github, &mut server)
            .await
            .into_iter()
            .partition(|request| request.path.contains("/pulls?"));
        assert_eq!(
            answers(&listings),
            if paid {
                ([100, 0, 0], 100)
            } else {
                ([0, 100, 0], 0)
            }
        );
        let renewed = others
            .iter()
            .filter(|request| request.path.ends_with("/access_tokens"))
            .count();
        assert_eq!(renewed, usize::from(paid));
        assert!(others.iter().all(|request| request.cost == 0), "{others:?}");
        // A token is valid for an hour and renewed some minutes before its end.
        time.pass(Duration::from_mins(20));
    }
    server.stop().await;
    github.stop().await;
}
