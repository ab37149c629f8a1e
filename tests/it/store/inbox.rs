//! The inbox: deliveries are accepted, claimed, retried, dead, and purged.

use std::collections::BTreeSet;

use tallyhook_core::delivery::{DeliveryId, Lane};
use tallyhook_core::github::types::{PrNumber, RepoId};
use tallyhook_store::{
    AcceptOutcome, BatchWrite, DeadLetterMatch, DeadLetterSelection, DeliveryFilter, DeliveryState,
    FinishedDelivery, NewDelivery, NewState, PendingDelivery,
};

use super::{accept, claim, delivery, eventually, histories, later, now, open, pending, state};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    unfinished_delivery_is_read_with_its_body,
    unpublished_or_lost_delivery_is_due_at_once_unless_it_is_leased,
    lease_of_an_ended_process_is_released_at_once,
    dead_letters_are_grouped_by_reason_and_requeued_by_group,
    dead_letter_is_copied_once_per_death,
    text_with_a_nul_is_stored,
    delivery_is_claimed_by_one_of_many_workers,
    delivery_is_stored_once_per_guid_and_body,
    concurrent_duplicates_are_stored_once,
    requeued_delivery_takes_the_newest_event_name,
    finished_row_of_another_event_name_is_applied_again_under_the_genuine_one,
    group_commits_of_every_size_are_complete,
    attempt_is_counted_by_the_claim_and_the_lease_excludes_other_workers,
    delivery_that_crashes_its_workers_is_dead_after_its_last_attempt,
    due_delivery_is_claimed_for_publishing_once_until_it_is_due_again,
    failed_attempt_is_recorded_and_retried_when_it_is_due,
    dead_letter_keeps_its_body_and_can_be_requeued_redelivered_or_discarded,
    purge_deletes_old_bodies_then_old_rows_and_never_dead_or_unfinished_ones,
    counts_have_every_state_and_the_oldest_pending_delivery,
    lists_are_filtered_and_continue_after_the_cursor,
}

async fn delivery_is_stored_once_per_guid_and_body(database: Database) {
    let store = open(&database).await;
    let first = accept(&store, "a").await;
    assert_eq!(
        store.accept(delivery("a", pending())).await.unwrap(),
        AcceptOutcome::Duplicate
    );
    let other_body = NewDelivery {
        body_sha256: [8; 32],
        ..delivery("a", pending())
    };
    assert!(
        matches!(store.accept(other_body).await.unwrap(), AcceptOutcome::Stored(id) if id > first)
    );
    assert_eq!(store.deliveries_by_guid("a").await.unwrap().len(), 2);
    assert_eq!(
        store
            .body(first)
            .await
            .unwrap()
            .unwrap()
            .decompress()
            .unwrap(),
        b"{\"zen\":1}"
    );
}

async fn concurrent_duplicates_are_stored_once(database: Database) {
    let store = open(&database).await;
    let posts = (0..32).map(|_| store.accept(delivery("same", pending())));
    let answers = futures_util::future::join_all(posts).await;
    let stored = answers
        .iter()
        .filter(|answer| matches!(answer, Ok(AcceptOutcome::Stored(_))))
        .count();
    let duplicate = answers
        .iter()
        .filter(|answer| matches!(answer, Ok(AcceptOutcome::Duplicate)))
        .count();
    assert_eq!((stored, duplicate), (1, 31));
}

async fn group_commits_of_every_size_are_complete(database: Database) {
    let store = open(&database).await;
    for (round, size) in [1_usize, 3, 4, 5, 15, 16, 17, 63, 64, 65, 100, 300]
        .into_iter()
        .enumerate()
    {
        let guids: Vec<_> = (0..size).map(|place| format!("{round}-{place}")).collect();
        let answers = futures_util::future::join_all(
            guids
                .iter()
                .map(|guid| store.accept(delivery(guid, pending()))),
        )
        .await;
        let ids: BTreeSet<_> = answers
            .into_iter()
            .map(|answer| match answer.unwrap() {
                AcceptOutcome::Stored(id) => id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ids.len(), size);
        for id in ids {
            assert!(store.body(id).await.unwrap().is_some());
        }
    }
}

async fn attempt_is_counted_by_the_claim_and_the_lease_excludes_other_workers(database: Database) {
    let store = open(&database).await;
    let id = accept(&store, "a").await;
    assert_eq!(
        store.pending(&[id]).await.unwrap(),
        [PendingDelivery {
            id,
            key: Some(histories::KEY),
            tried: false,
            body_bytes: 9
        }]
    );
    assert_eq!(claim(&store, &[id], now()).await, [id]);
    assert_eq!(state(&store, id).await, (DeliveryState::Accepted, 1));
    assert_eq!(
        store.pending(&[id]).await.unwrap(),
        [PendingDelivery {
            id,
            key: Some(histories::KEY),
            tried: true,
            body_bytes: 9
        }]
    );
    assert_eq!(claim(&store, &[id], later(59)).await, []);
    assert_eq!(claim(&store, &[id], later(60)).await, [id]);
    assert_eq!(state(&store, id).await.1, 2);
}

async fn delivery_that_crashes_its_workers_is_dead_after_its_last_attempt(database: Database) {
    let store = open(&database).await;
    let (poison, innocent) = (
        accept(&store, "poison").await,
        accept(&store, "innocent").await,
    );
    for attempt in 0..5 {
        assert_eq!(
            claim(&store, &[poison], later(100 * attempt)).await,
            [poison]
        );
    }
    let claim = store
        .claim(&[poison, innocent], later(500), later(560), 5)
        .await
        .unwrap();
    assert_eq!(
        claim
            .claimed
            .iter()
            .map(|claimed| claimed.id)
            .collect::<Vec<_>>(),
        [innocent]
    );
    assert_eq!(
        claim
            .exhausted
            .iter()
            .map(|exhausted| exhausted.guid.as_str())
            .collect::<Vec<_>>(),
        ["poison"]
    );
    assert_eq!(store.pending(&[poison]).await.unwrap(), []);
    assert_eq!(state(&store, poison).await, (DeliveryState::Dead, 5));
    let reason = store
        .delivery(poison)
        .await
        .unwrap()
        .unwrap()
        .reason
        .unwrap();
    assert!(reason.contains("5 attempts"), "{reason}");
}

async fn due_delivery_is_claimed_for_publishing_once_until_it_is_due_again(database: Database) {
    let store = open(&database).await;
    let ids = [
        accept(&store, "a").await,
        accept(&store, "b").await,
        accept(&store, "c").await,
    ];
    let not_yet = delivery("later", NewState::Pending { due: later(10) });
    store.accept(not_yet).await.unwrap();
    let backfill = NewDelivery {
        lane: Lane::Backfill,
        ..delivery("old", pending())
    };
    store.accept(backfill).await.unwrap();

    assert_eq!(
        store
            .claim_due_for_publish(Lane::Live, 2, now(), later(300))
            .await
            .unwrap(),
        ids[..2]
    );
    assert_eq!(
        store
            .claim_due_for_publish(Lane::Live, 9, now(), later(300))
            .await
            .unwrap(),
        ids[2..]
    );
    assert_eq!(
        store
            .claim_due_for_publish(Lane::Live, 9, now(), later(300))
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        store
            .claim_due_for_publish(Lane::Live, 9, later(10), later(300))
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        store
            .claim_due_for_publish(Lane::Backfill, 9, now(), later(300))
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        store
            .claim_due_for_publish(Lane::Live, 9, later(300), later(600))
            .await
            .unwrap()
            .len(),
        4
    );
    // After a loss of the queue everything is due at once, without waiting for its time.
    assert_eq!(store.republish_all(now()).await.unwrap(), 5);
    assert_eq!(
        store
            .claim_due_for_publish(Lane::Live, 9, now(), later(300))
            .await
            .unwrap()
            .len(),
        4
    );
}

async fn failed_attempt_is_recorded_and_retried_when_it_is_due(database: Database) {
    let store = open(&database).await;
    let id = accept(&store, "a").await;
    claim(&store, &[id], now()).await;
    store
        .retry(&[id], "the disk is \"full\"", now(), later(4))
        .await
        .unwrap();
    let delivery = store.delivery(id).await.unwrap().unwrap();
    assert_eq!(
        (delivery.next_attempt_at, delivery.history.len()),
        (Some(later(4)), 1)
    );
    assert_eq!(
        (
            delivery.history[0].error.as_str(),
            delivery.history[0].attempt
        ),
        ("the disk is \"full\"", 1)
    );
    assert_eq!(
        store
            .claim_due_for_publish(Lane::Live, 9, later(3), later(300))
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        store
            .claim_due_for_publish(Lane::Live, 9, later(4), later(300))
            .await
            .unwrap(),
        [id]
    );
    assert_eq!(claim(&store, &[id], later(4)).await, [id]);
    assert_eq!(state(&store, id).await.1, 2);
    // A failure that the delivery did not cause does not count as an attempt.
    store
        .release(&[id], "the database failed", later(4), later(8))
        .await
        .unwrap();
    assert_eq!(state(&store, id).await, (DeliveryState::Accepted, 1));
    assert_eq!(store.delivery(id).await.unwrap().unwrap().history.len(), 2);
}

async fn dead_letter_keeps_its_body_and_can_be_requeued_redelivered_or_discarded(
    database: Database,
) {
    let store = open(&database).await;
    let id = accept(&store, "a").await;
    claim(&store, &[id], now()).await;
    store
        .mark_dead(&[id], "cannot be decoded", now())
        .await
        .unwrap();
    assert_eq!(state(&store, id).await, (DeliveryState::Dead, 1));
    assert!(store.body(id).await.unwrap().is_some());
    assert_eq!(store.delivery(id).await.unwrap().unwrap().history.len(), 1);
    assert_eq!(claim(&store, &[id], later(1000)).await, []);

    assert_eq!(
        store
            .requeue(&DeadLetterSelection::Ids(vec![id]), now())
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        store
            .requeue(
                &DeadLetterSelection::Like(DeadLetterMatch::default()),
                now()
            )
            .await
            .unwrap(),
        0
    );
    assert_eq!(state(&store, id).await, (DeliveryState::Accepted, 0));
    assert_eq!(claim(&store, &[id], now()).await, [id]);
    store.mark_dead(&[id], "again", now()).await.unwrap();

    assert_eq!(
        store.accept(delivery("a", pending())).await.unwrap(),
        AcceptOutcome::Requeued(id)
    );
    claim(&store, &[id], now()).await;
    store.mark_dead(&[id], "and again", now()).await.unwrap();

    let this = DeadLetterSelection::Ids(vec![id]);
    for (reason, discarded) in [("discarded: seen", 1), ("discarded: twice", 0)] {
        let found = store.discard(&this, reason, now()).await.unwrap();
        assert_eq!(found, discarded, "{reason}");
    }
    let delivery = store.delivery(id).await.unwrap().unwrap();
    assert_eq!(
        (delivery.state, delivery.reason.as_deref()),
        (DeliveryState::Ignored, Some("discarded: seen"))
    );
}

async fn purge_deletes_old_bodies_then_old_rows_and_never_dead_or_unfinished_ones(
    database: Database,
) {
    let store = open(&database).await;
    let (applied, dead, open) = (
        accept(&store, "applied").await,
        accept(&store, "dead").await,
        accept(&store, "open").await,
    );
    let finished = BatchWrite {
        finished: vec![FinishedDelivery::Applied(applied)],
        ..BatchWrite::default()
    };
    store.record(&finished, now()).await.unwrap().unwrap();
    store.mark_dead(&[dead], "for good", now()).await.unwrap();

    let nothing = store.purge(now(), now(), 100).await.unwrap();
    assert_eq!((nothing.bodies, nothing.rows), (0, 0));
    let bodies = store.purge(later(1), now(), 100).await.unwrap();
    assert_eq!((bodies.bodies, bodies.rows), (1, 0));
    assert!(store.body(applied).await.unwrap().is_none());
    assert_eq!(
        store.accept(delivery("applied", pending())).await.unwrap(),
        AcceptOutcome::Duplicate
    );
    let rows = store.purge(later(1), later(1), 100).await.unwrap();
    assert_eq!((rows.bodies, rows.rows), (0, 1));
    assert!(store.delivery(applied).await.unwrap().is_none());
    assert!(store.body(dead).await.unwrap().is_some() && store.body(open).await.unwrap().is_some());
}

async fn counts_have_every_state_and_the_oldest_pending_delivery(database: Database) {
    let store = open(&database).await;
    assert_eq!(
        store.counts().await.unwrap(),
        tallyhook_store::DeliveryCounts::default()
    );
    accept(&store, "a").await;
    let ignored = NewState::Ignored {
        reason: "a comment on an issue".to_owned(),
    };
    store.accept(delivery("b", ignored)).await.unwrap();
    store
        .accept(delivery(
            "c",
            NewState::Dead {
                reason: "no JSON of ours".to_owned(),
            },
        ))
        .await
        .unwrap();
    let counts = store.counts().await.unwrap();
    assert_eq!(
        (counts.accepted, counts.applied, counts.ignored, counts.dead),
        (1, 0, 1, 1)
    );
    assert_eq!(counts.oldest_pending, Some(now()));
}

async fn lists_are_filtered_and_continue_after_the_cursor(database: Database) {
    let store = open(&database).await;
    for place in 0..5 {
        accept(&store, &format!("a-{place}")).await;
    }
    let other = NewDelivery {
        event: "push".to_owned(),
        ..delivery("push", pending())
    };
    store.accept(other).await.unwrap();
    let list = async |filter: DeliveryFilter| {
        let listed = store.deliveries(&filter, 2).await.unwrap();
        listed
            .into_iter()
            .map(|delivery| delivery.guid)
            .collect::<Vec<_>>()
    };
    let of = |event: &str, before| DeliveryFilter {
        event: Some(event.to_owned()),
        repo: Some("ACME-corp/api-server".to_owned()),
        before,
        ..DeliveryFilter::default()
    };
    assert_eq!(list(of("pull_request", None)).await, ["a-4", "a-3"]);
    assert_eq!(list(of("pull_request", Some(DeliveryId(2)))).await, ["a-0"]);
    assert_eq!(list(of("push", None)).await, ["push"]);
    let dead = DeliveryFilter {
        state: Some(DeliveryState::Dead),
        ..DeliveryFilter::default()
    };
    assert_eq!(list(dead).await, Vec::<String>::new());
}

async fn unfinished_delivery_is_read_with_its_body(database: Database) {
    let store = open(&database).await;
    let ids = [accept(&store, "a").await, accept(&store, "b").await];
    claim(&store, &ids, now()).await;
    store.mark_dead(&ids[..1], "for good", now()).await.unwrap();
    let unfinished = store
        .unfinished(&[ids[1], ids[0], DeliveryId(99)])
        .await
        .unwrap();
    let [one] = unfinished.as_slice() else {
        panic!("{unfinished:?}")
    };
    assert_eq!(
        (one.id, one.guid.as_str(), one.attempts, one.received_at),
        (ids[1], "b", 1, now())
    );
    assert_eq!(
        one.body.as_ref().unwrap().decompress().unwrap(),
        b"{\"zen\":1}"
    );
}

async fn unpublished_or_lost_delivery_is_due_at_once_unless_it_is_leased(database: Database) {
    let store = open(&database).await;
    let ids = [
        accept(&store, "claimed").await,
        accept(&store, "lost").await,
        accept(&store, "not taken").await,
    ];
    let due = async |at| {
        store
            .claim_due_for_publish(Lane::Live, 9, at, later(300))
            .await
            .unwrap()
    };
    assert_eq!(due(now()).await, ids);
    assert_eq!(claim(&store, &ids[..1], now()).await, ids[..1]);
    store
        .mark_unpublished(&[ids[0], ids[2]], later(1))
        .await
        .unwrap();
    assert_eq!(due(later(1)).await, ids[2..]);
    assert_eq!(store.republish_all(later(2)).await.unwrap(), 2);
    assert_eq!(store.republish_all(later(2)).await.unwrap(), 0);
    assert_eq!(due(later(2)).await, ids[1..]);
    // After the end of its lease the claimed one is free again.
    assert_eq!(store.republish_all(later(61)).await.unwrap(), 2);
    assert_eq!(due(later(61)).await, ids);
}

async fn lease_of_an_ended_process_is_released_at_once(database: Database) {
    let first = open(&database).await;
    let (orphan, waiting) = (
        accept(&first, "orphan").await,
        accept(&first, "waiting").await,
    );
    assert_eq!(claim(&first, &[orphan], now()).await, [orphan]);
    assert_eq!(first.release_orphaned_leases(now()).await.unwrap(), 0);
    first.close().await;
    drop(first);

    let second = open(&database).await;
    assert_eq!(claim(&second, &[waiting], now()).await, [waiting]);
    assert_eq!(claim(&second, &[orphan], later(1)).await, []);
    assert!(
        eventually(async || second.release_orphaned_leases(later(1)).await.unwrap() == 1).await
    );
    assert_eq!(second.release_orphaned_leases(later(1)).await.unwrap(), 0);
    assert_eq!(
        second
            .claim_due_for_publish(Lane::Live, 9, later(1), later(300))
            .await
            .unwrap(),
        [orphan]
    );
    assert_eq!(claim(&second, &[orphan, waiting], later(1)).await, [orphan]);
    assert_eq!(state(&second, orphan).await, (DeliveryState::Accepted, 2));
}

async fn dead_letters_are_grouped_by_reason_and_requeued_by_group(database: Database) {
    let store = open(&database).await;
    let dead = |guid: &str, event: &str, repo: Option<&str>, reason: &str, seconds| NewDelivery {
        event: event.to_owned(),
        repo: repo.map(|name| (RepoId(7), name.to_owned())),
        received_at: later(seconds),
        ..delivery(
            guid,
            NewState::Dead {
                reason: reason.to_owned(),
            },
        )
    };
    for new in [
        dead("1", "push", Some("acme/a"), "no ref", 5),
        dead("2", "push", Some("acme/b"), "no ref", 6),
        dead("3", "push", None, "no ref", 7),
        dead("4", "push", Some("acme/b"), "no ref", 4),
        dead("5", "issue_comment", Some("acme/b"), "Zen", 8),
        delivery("6", pending()),
    ] {
        assert!(matches!(
            store.accept(new).await.unwrap(),
            AcceptOutcome::Stored(_)
        ));
    }
    let groups = store.dead_groups().await.unwrap();
    let counted: Vec<_> = groups
        .iter()
        .map(|group| {
            (
                group.reason.as_str(),
                group.event.as_str(),
                group.repo.as_deref(),
                group.deliveries,
            )
        })
        .collect();
    assert_eq!(
        counted,
        [
            ("no ref", "push", Some("acme/b"), 2),
            ("Zen", "issue_comment", Some("acme/b"), 1),
            ("no ref", "push", None, 1),
            ("no ref", "push", Some("acme/a"), 1),
        ]
    );
    assert_eq!(
        (groups[0].first_received_at, groups[0].last_received_at),
        (later(4), later(6))
    );

    let requeue = async |reason: Option<&str>, event: Option<&str>, repo: Option<&str>| {
        let [reason, event, repo] = [reason, event, repo].map(|text| text.map(str::to_owned));
        store
            .requeue(
                &DeadLetterSelection::Like(DeadLetterMatch {
                    reason,
                    event,
                    repo,
                }),
                now(),
            )
            .await
            .unwrap()
    };
    assert_eq!(
        requeue(Some("no ref"), Some("issue_comment"), None).await,
        0
    );
    assert_eq!(
        requeue(Some("no ref"), Some("push"), Some("acme/b")).await,
        2
    );
    assert_eq!(requeue(None, None, Some("acme/b")).await, 1);
    assert_eq!(requeue(None, None, None).await, 2);
    assert_eq!(store.dead_groups().await.unwrap(), []);
    assert_eq!(store.counts().await.unwrap().accepted, 6);
}

async fn dead_letter_is_copied_once_per_death(database: Database) {
    let store = open(&database).await;
    let ids = [
        accept(&store, "a").await,
        accept(&store, "b").await,
        accept(&store, "c").await,
    ];
    let uncopied = async |limit| {
        let dead = store.dead_without_copy(limit).await.unwrap();
        dead.into_iter()
            .map(|delivery| delivery.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(uncopied(9).await, []);
    store.mark_dead(&ids[..2], "for good", now()).await.unwrap();
    assert_eq!(
        (uncopied(9).await, uncopied(1).await),
        (ids[..2].to_vec(), ids[..1].to_vec())
    );
    // A delivery that is no longer dead, or not yet, is not marked.
    store.mark_dead_copied(&[ids[0], ids[2]]).await.unwrap();
    assert_eq!(uncopied(9).await, ids[1..2]);
    store.mark_dead(&ids[2..], "for good", now()).await.unwrap();
    assert_eq!(uncopied(9).await, ids[1..]);
    store
        .requeue(&DeadLetterSelection::Ids(vec![ids[0]]), now())
        .await
        .unwrap();
    store.mark_dead(&ids[..1], "again", now()).await.unwrap();
    assert_eq!(uncopied(9).await, ids);
}

async fn text_with_a_nul_is_stored(database: Database) {
    let store = open(&database).await;
    let odd = NewDelivery {
        action: Some("a\0".to_owned()),
        repo: Some((RepoId(7), "acme/\0".to_owned())),
        ..delivery(
            "a\0b",
            NewState::Dead {
                reason: "\0".to_owned(),
            },
        )
    };
    let AcceptOutcome::Stored(id) = store.accept(odd.clone()).await.unwrap() else {
        panic!("it is new")
    };
    assert_eq!(
        store.accept(odd).await.unwrap(),
        AcceptOutcome::Requeued(id)
    );
    assert_eq!(claim(&store, &[id], now()).await, [id]);
    store
        .retry(&[id], "an error \0", now(), now())
        .await
        .unwrap();
    store
        .release(&[id], "an error \0", now(), now())
        .await
        .unwrap();
    store
        .mark_dead(&[id], "for \0 reason", now())
        .await
        .unwrap();
    assert_eq!(store.deliveries_by_guid("a\0b").await.unwrap().len(), 1);
    let odd = DeliveryFilter {
        event: Some("\0".to_owned()),
        repo: Some("\0".to_owned()),
        ..DeliveryFilter::default()
    };
    assert_eq!(store.deliveries(&odd, 9).await.unwrap(), []);
    let this = DeadLetterSelection::Ids(vec![id]);
    assert_eq!(store.discard(&this, "no \0 use", now()).await.unwrap(), 1);
    let other = accept(&store, "b").await;
    let finished = vec![FinishedDelivery::Ignored(other, "\0".to_owned())];
    store
        .record(
            &BatchWrite {
                finished,
                ..BatchWrite::default()
            },
            now(),
        )
        .await
        .unwrap()
        .unwrap();
}

async fn delivery_is_claimed_by_one_of_many_workers(database: Database) {
    let store = open(&database).await;
    let posts = (0..60).map(|place| store.accept(delivery(&format!("{place}"), pending())));
    let mut ids = Vec::new();
    for answer in futures_util::future::join_all(posts).await {
        let AcceptOutcome::Stored(id) = answer.unwrap() else {
            panic!("it is new")
        };
        ids.push(id);
    }
    ids.sort_unstable();
    for round in 0..5 {
        // Each worker claims most of them, in another order.
        let workers = (0..6).map(|worker| {
            let mut wanted: Vec<_> = ids
                .iter()
                .copied()
                .cycle()
                .skip(worker * 10)
                .take(45)
                .collect();
            if worker % 2 == 1 {
                wanted.reverse();
            }
            let store = store.clone();
            tokio::spawn(async move { claim(&store, &wanted, later(round * 60)).await })
        });
        let mut claimed = Vec::new();
        for worker in futures_util::future::join_all(workers).await {
            claimed.extend(worker.unwrap());
        }
        claimed.sort_unstable();
        assert_eq!(claimed, ids);
    }
    for id in ids {
        assert_eq!(state(&store, id).await.1, 5);
    }
}

/// A row that was stored under the name of another event. Its attributes are those that the wrong
/// name showed.
fn misnamed(guid: &str, state: NewState) -> NewDelivery {
    NewDelivery {
        event: "repository".to_owned(),
        pr_number: None,
        ..delivery(guid, state)
    }
}

async fn requeued_delivery_takes_the_newest_event_name(database: Database) {
    let store = open(&database).await;
    let dead = |reason: &str| NewState::Dead {
        reason: reason.to_owned(),
    };
    let AcceptOutcome::Stored(id) = store.accept(misnamed("a", dead("no"))).await.unwrap() else {
        panic!("it is new")
    };
    assert_eq!(
        store.accept(delivery("a", dead("no head"))).await.unwrap(),
        AcceptOutcome::Requeued(id)
    );
    let named = store.delivery(id).await.unwrap().unwrap();
    assert_eq!(
        (&*named.event, named.pr_number),
        ("pull_request", Some(PrNumber(3)))
    );
    assert_eq!(state(&store, id).await, (DeliveryState::Accepted, 0));

    // The same for two that are committed together: the genuine one is no duplicate, whichever is
    // stored first.
    let (_, genuine) = tokio::join!(
        store.accept(misnamed("b", dead("no"))),
        store.accept(delivery("b", pending())),
    );
    let genuine = genuine.unwrap();
    assert!(
        matches!(
            genuine,
            AcceptOutcome::Stored(_) | AcceptOutcome::Requeued(_)
        ),
        "{genuine:?}"
    );
    let named = store.deliveries_by_guid("b").await.unwrap();
    assert_eq!((named.len(), &*named[0].event), (1, "pull_request"));
    let claimed = store.unfinished(&[named[0].id]).await.unwrap();
    assert!(claimed[0].event == "pull_request" && claimed[0].body.is_some());
}

/// Earlier versions applied bodies under the name that an unsigned header gave them.
async fn finished_row_of_another_event_name_is_applied_again_under_the_genuine_one(
    database: Database,
) {
    let store = open(&database).await;
    let AcceptOutcome::Stored(id) = store.accept(misnamed("a", pending())).await.unwrap() else {
        panic!("it is new")
    };
    claim(&store, &[id], now()).await;
    let applied = BatchWrite {
        finished: vec![FinishedDelivery::Applied(id)],
        ..BatchWrite::default()
    };
    store.record(&applied, now()).await.unwrap().unwrap();
    // Its body is no longer there, and the genuine one brings it again.
    assert_eq!(store.purge(later(1), now(), 9).await.unwrap().bodies, 1);
    assert_eq!(
        store.accept(delivery("a", pending())).await.unwrap(),
        AcceptOutcome::Requeued(id)
    );
    assert_eq!(
        store.accept(delivery("a", pending())).await.unwrap(),
        AcceptOutcome::Duplicate
    );
    let again = store.unfinished(&[id]).await.unwrap();
    assert!(again[0].event == "pull_request" && again[0].body.is_some());
    assert_eq!(claim(&store, &[id], now()).await, [id]);
}
