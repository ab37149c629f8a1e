//! Where nothing happens, asking costs nothing.

#[path = "support/github/mod.rs"]
mod github;
mod support;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tallyhook::sync::fetch::seen;
use tallyhook::sync::poller::Poller;
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::Client;

use github::app::private_key;
use github::growth::Growth;
use github::{FakeGithub, Request};
use support::{TestServer, config};

const REPOSITORIES: i64 = 100;
const ROUNDS: usize = 10;

/// A hundred repositories with a few pull requests each, and a server that tracks them since then.
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
            .track(&seen(RepoId(id), name, Some(false)), since)
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

/// One round, whose findings are applied: what it asked.
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

/// How many were answered with each of 200, 304 and anything else, and what all of them cost.
fn told(requests: &[Request]) -> ([usize; 3], u64) {
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
async fn after_the_first_round_a_token_gets_nothing_but_free_answers() {
    // From before the first pull request on, so that all of them are fetched in the first round.
    let (github, mut server) = tracked(Utc::now() - TimeDelta::days(61)).await;
    let poller = poller(github.client().0, &server);
    assert_eq!(
        told(&round(&poller, &github, &mut server).await),
        ([200, 0, 0], 200)
    );
    for _ in 1..ROUNDS {
        assert_eq!(
            told(&round(&poller, &github, &mut server).await),
            ([0, 100, 0], 0)
        );
    }
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn what_was_before_a_repository_was_tracked_is_not_asked_for() {
    let (github, mut server) = tracked(Utc::now()).await;
    let poller = poller(github.client().0, &server);
    assert_eq!(
        told(&round(&poller, &github, &mut server).await),
        ([100, 0, 0], 100)
    );
    assert_eq!(
        told(&round(&poller, &github, &mut server).await),
        ([0, 100, 0], 0)
    );
    server.stop().await;
    github.stop().await;
}

#[tokio::test]
async fn an_app_pays_once_for_each_of_its_tokens() {
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
            told(&listings),
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
        // A token lasts an hour, and is renewed some minutes before.
        time.pass(Duration::from_mins(20));
    }
    server.stop().await;
    github.stop().await;
}
