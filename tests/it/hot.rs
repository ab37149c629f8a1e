//! One pull request with very many deliveries, and one event that names very many repositories.

use std::collections::BTreeSet;

use chrono::Utc;
use serde_json::{Value, json};
use tallyhook::app::ServerOptions;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::event;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};
use tallyhook_store::{DeliveryFilter, DeliveryState, NewDelivery, NewState, OpenMode, StoredBody};

use testkit::payloads::{self, Account, Pr, World};
use testkit::{Place, TestServer, assert_refused};

/// Enough for several batches of each worker.
const DELIVERIES: usize = 1_200;

/// Labels that a bot puts on a pull request, one each second.
fn labeled(place: usize) -> Vec<u8> {
    let (author, bot) = (Account::user(501, "mara"), Account::bot(502, "flapper"));
    let opened = payloads::epoch_seconds("2026-03-02T09:00:00Z");
    let (world, at) = (World::acme(), |seconds| payloads::rfc3339(opened + seconds));
    let mut pr = Pr::new(&world, 7, Some(&author), "Sort the queue", "sort", &at(0));
    pr.touch(&at(i64::try_from(place).unwrap()));
    let label = json!({"label": {"id": 1, "name": format!("label-{}", place % 5)}});
    let payload = payloads::pull_request_event(&pr, "labeled", &bot, label);
    payload.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_do_not_conflict_over_one_pull_request() {
    let place = Place::new().await;
    let store = tallyhook_store::open(&place.database_url, OpenMode::Exclusive)
        .await
        .unwrap();
    let key = PrKey {
        repo: RepoId(World::acme().repo_id),
        number: PrNumber(7),
    };
    let mut expected = PullRequest::unknown(key);
    for place in 0..DELIVERIES {
        let body = labeled(place);
        let decoded = event::decode("pull_request", &body).unwrap();
        expected.apply(decoded.pull_request().unwrap(), Source::Webhook);
        let now = Utc::now();
        let delivery = NewDelivery {
            guid: format!("hot-{place}"),
            body_sha256: [0; 32],
            event: "pull_request".to_owned(),
            action: Some("labeled".to_owned()),
            repo: Some((key.repo, World::acme().full_name())),
            pr_number: Some(key.number),
            source: Source::Webhook,
            lane: Lane::Live,
            received_at: now,
            body: StoredBody::compress(&body).unwrap(),
            state: NewState::Pending { due: now },
        };
        store.accept(delivery).await.unwrap();
    }
    store.close().await;

    let mut server = TestServer::start_in(place, ServerOptions::default()).await;
    server.drained().await;
    let store = &server.running.store;
    let all = store
        .deliveries(&DeliveryFilter::default(), 2_000)
        .await
        .unwrap();
    assert_eq!(all.len(), DELIVERIES);
    let disturbed = all.iter().find(|delivery| {
        delivery.state != DeliveryState::Applied
            || delivery.attempts != 1
            || !delivery.history.is_empty()
    });
    assert!(disturbed.is_none(), "{disturbed:?}");
    let read = store.load(&[key]).await.unwrap().remove(0);
    assert_eq!(read.pull_request, expected);
    server.stop().await;
}

fn installation(repositories: usize) -> Value {
    let repository = |id: usize| json!({"id": 5_000 + id, "full_name": format!("acme-corp/service-{id}"), "private": true});
    let added: Vec<_> = (0..repositories).map(repository).collect();
    json!({
        "action": "added", "repository_selection": "selected",
        "installation": {"id": 77, "account": {"id": 1, "login": "acme-corp", "type": "Organization"}},
        "repositories_added": added, "repositories_removed": [],
        "sender": {"id": 501, "login": "mara", "type": "User"},
    })
}

#[tokio::test]
async fn repositories_of_a_giant_installation_event_are_all_listed_page_by_page() {
    let mut server = TestServer::start().await;
    let body = installation(1_234).to_string();
    let (status, _) = server
        .post("installation_repositories", "giant", body.as_bytes())
        .await;
    assert_eq!(status, 202);
    server.drained().await;

    let (mut names, mut sizes, mut path) = (Vec::new(), Vec::new(), "/api/repos".to_owned());
    loop {
        let (status, page) = server.get(&path).await;
        assert_eq!(status, 200);
        let items = page["items"].as_array().unwrap();
        names.extend(
            items
                .iter()
                .map(|item| item["repo"].as_str().unwrap().to_owned()),
        );
        sizes.push(items.len());
        match page["next"].as_str() {
            Some(next) => path = format!("/api/repos?cursor={next}"),
            None => break,
        }
    }
    assert!(names.is_sorted());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 1_234);
    assert_eq!(sizes, [vec![100; 12], vec![34]].concat());
    let (_, small) = server.get("/api/repos?per_page=2").await;
    assert_eq!(small["items"].as_array().unwrap().len(), 2);
    for query in ["per_page=0", "per_page=101", "cursor=x"] {
        let refused = server.get(&format!("/api/repos?{query}")).await;
        assert_refused(&refused, 400, "bad_request");
    }
    let of_one_transaction =
        "SELECT max(rows) FROM (SELECT count(*) AS rows FROM repositories GROUP BY xmin) AS t";
    if let Some(database) = server.place.postgres() {
        assert_eq!(database.number(of_one_transaction).await, 500);
    }
    server.stop().await;
}
