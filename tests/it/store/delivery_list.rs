//! The list of deliveries: each filter, its order, its pages and its count; and traffic per hour.

use std::collections::BTreeSet;

use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::types::{PrNumber, RepoId};
use tallyhook_store::{
    DISCARDED, DeadLetterMatch, DeadLetterSelection, DeliveryFilter, DeliveryState, NO_REPOSITORY,
    NewDelivery, NewState, Store,
};

use super::{delivery, later, now, open, pending};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    each_filter_of_deliveries_finds_its_rows_and_counts_them,
    page_ends_where_too_many_deliveries_were_looked_at,
    list_by_time_goes_on_behind_its_last_row,
    group_without_a_repository_is_decided_alone,
    deliveries_are_counted_by_the_hour_of_receipt,
}

/// Stores eight deliveries: `even-N` and `odd-N`, each received 10 minutes after the one before.
async fn with_deliveries(store: &Store) -> Vec<DeliveryId> {
    let mut ids = Vec::new();
    for place in 0..8_i64 {
        let is_even = place % 2 == 0;
        let state = match place {
            6 => NewState::Dead {
                reason: "cannot be decoded: a".to_owned(),
            },
            7 => NewState::Dead {
                reason: "cannot be decoded: b".to_owned(),
            },
            _ => pending(),
        };
        let one = NewDelivery {
            event: if is_even { "pull_request" } else { "push" }.to_owned(),
            repo: (place != 7).then(|| (RepoId(1), "acme-corp/api-server".to_owned())),
            pr_number: is_even.then_some(PrNumber(place)),
            source: if place == 2 {
                Source::Poller
            } else {
                Source::Webhook
            },
            received_at: later(600 * place),
            ..delivery(
                &format!("{}-{place}", if is_even { "even" } else { "odd" }),
                state,
            )
        };
        store.accept(one).await.unwrap();
        ids.push(DeliveryId(place + 1));
    }
    ids
}

async fn guids(store: &Store, filter: &DeliveryFilter) -> Vec<String> {
    let found = store.deliveries(filter, 100).await.unwrap();
    found.into_iter().map(|delivery| delivery.guid).collect()
}

async fn each_filter_of_deliveries_finds_its_rows_and_counts_them(database: Database) {
    let store = open(&database).await;
    let ids = with_deliveries(&store).await;
    let discard = DeadLetterSelection::Ids(vec![ids[7]]);
    let reason = format!("{DISCARDED}not ours");
    store.discard(&discard, &reason, now()).await.unwrap();
    let all = DeliveryFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let cases: Vec<(DeliveryFilter, &[&str])> = vec![
        (
            DeliveryFilter {
                pull_request: Some(PrNumber(4)),
                ..all()
            },
            &["even-4"],
        ),
        (
            DeliveryFilter {
                source: Some(Source::Poller),
                ..all()
            },
            &["even-2"],
        ),
        (
            DeliveryFilter {
                guid: text("odd-"),
                ..all()
            },
            &["odd-7", "odd-5", "odd-3", "odd-1"],
        ),
        (
            DeliveryFilter {
                guid: text("odd-5"),
                ..all()
            },
            &["odd-5"],
        ),
        (
            DeliveryFilter {
                guid: text("odd%"),
                ..all()
            },
            &[],
        ),
        (
            DeliveryFilter {
                reason: text("cannot be decoded: a"),
                ..all()
            },
            &["even-6"],
        ),
        (
            DeliveryFilter {
                reason: text("cannot be decoded"),
                ..all()
            },
            &[],
        ),
        (
            DeliveryFilter {
                discarded: true,
                ..all()
            },
            &["odd-7"],
        ),
        (
            DeliveryFilter {
                repo: text(NO_REPOSITORY),
                ..all()
            },
            &["odd-7"],
        ),
        (
            DeliveryFilter {
                ids: vec![ids[0], ids[3], DeliveryId(99)],
                ..all()
            },
            &["odd-3", "even-0"],
        ),
        (
            DeliveryFilter {
                from: Some(later(1200)),
                to: Some(later(2400)),
                ..all()
            },
            &["odd-3", "even-2"],
        ),
        (
            DeliveryFilter {
                from: Some(later(0)),
                event: text("push"),
                repo: text("ACME-corp/api-server"),
                state: Some(DeliveryState::Accepted),
                ..all()
            },
            &["odd-5", "odd-3", "odd-1"],
        ),
        (
            DeliveryFilter {
                guid: text("even-"),
                to: Some(later(601)),
                ..all()
            },
            &["even-0"],
        ),
        (
            DeliveryFilter {
                event: text("pull_request"),
                state: Some(DeliveryState::Dead),
                pull_request: Some(PrNumber(6)),
                ..all()
            },
            &["even-6"],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(guids(&store, &filter).await, expected, "{filter:?}");
        let count = store.count_deliveries(&filter, 1_000).await.unwrap();
        assert_eq!(count, (expected.len() as u64, true), "{filter:?}");
    }
}

async fn page_ends_where_too_many_deliveries_were_looked_at(database: Database) {
    let store = open(&database).await;
    let ids = with_deliveries(&store).await;
    for by_time in [false, true] {
        let mut filter = DeliveryFilter {
            source: Some(Source::Poller),
            from: by_time.then(now),
            ..DeliveryFilter::default()
        };
        // Three are looked at on each page.
        let (mut found, mut ends) = (Vec::new(), Vec::new());
        loop {
            filter.until = None;
            filter.until = store.end_of_deliveries_look(&filter, 3).await.unwrap();
            found.push(guids(&store, &filter).await);
            let Some(end) = filter.until else { break };
            ends.push(end);
            filter.before = Some(end);
        }
        assert_eq!(ends, [ids[5], ids[2]], "by time: {by_time}");
        assert_eq!(found, [vec![], vec!["even-2".to_owned()], vec![]]);
        filter.before = None;
        assert_eq!(
            store.count_deliveries(&filter, 3).await.unwrap(),
            (0, false)
        );
        assert_eq!(store.count_deliveries(&filter, 9).await.unwrap(), (1, true));
    }
    // A condition with an index needs no bound.
    let by_guid = DeliveryFilter {
        guid: Some("even".to_owned()),
        source: Some(Source::Poller),
        ..DeliveryFilter::default()
    };
    assert_eq!(
        store.end_of_deliveries_look(&by_guid, 1).await.unwrap(),
        None
    );
}

async fn list_by_time_goes_on_behind_its_last_row(database: Database) {
    let store = open(&database).await;
    with_deliveries(&store).await;
    // The clock of another process was behind: the newest row is not the one received last.
    let late = NewDelivery {
        received_at: later(700),
        ..delivery("late", pending())
    };
    store.accept(late).await.unwrap();
    let same = NewDelivery {
        received_at: later(700),
        ..delivery("same", pending())
    };
    store.accept(same).await.unwrap();
    let mut filter = DeliveryFilter {
        from: Some(later(600)),
        to: Some(later(1800)),
        ..DeliveryFilter::default()
    };
    let mut found = Vec::new();
    while let Some(next) = store.deliveries(&filter, 1).await.unwrap().pop() {
        filter.before = Some(next.id);
        found.push(next.guid);
    }
    assert_eq!(found, ["even-2", "same", "late", "odd-1"]);
}

async fn group_without_a_repository_is_decided_alone(database: Database) {
    let store = open(&database).await;
    for (guid, repo) in [("named", Some("acme-corp/web")), ("nameless", None)] {
        let one = NewDelivery {
            repo: repo.map(|name| (RepoId(2), name.to_owned())),
            ..delivery(
                guid,
                NewState::Dead {
                    reason: "the same".to_owned(),
                },
            )
        };
        store.accept(one).await.unwrap();
    }
    let group = DeadLetterMatch {
        reason: Some("the same".to_owned()),
        event: None,
        repo: Some(NO_REPOSITORY.to_owned()),
    };
    let groups = store.dead_groups().await.unwrap();
    let matching: BTreeSet<_> = groups
        .iter()
        .filter(|one| group.matches(one))
        .map(|one| one.repo.clone())
        .collect();
    assert_eq!(matching, BTreeSet::from([None]));
    let selection = DeadLetterSelection::Like(group);
    assert_eq!(store.requeue(&selection, now()).await.unwrap(), 1);
    let dead = DeliveryFilter {
        state: Some(DeliveryState::Dead),
        ..DeliveryFilter::default()
    };
    assert_eq!(guids(&store, &dead).await, ["named"]);
}

async fn deliveries_are_counted_by_the_hour_of_receipt(database: Database) {
    let store = open(&database).await;
    with_deliveries(&store).await;
    let hours = store.received_per_hour(later(600)).await.unwrap();
    let counts: Vec<_> = hours.iter().map(|(_, received)| *received).collect();
    assert_eq!(counts.iter().sum::<u64>(), 7);
    for pair in hours.windows(2) {
        assert_eq!((pair[1].0 - pair[0].0).num_hours(), 1);
    }
    for (start, _) in hours {
        assert_eq!(start.timestamp() % 3600, 0);
    }
}
