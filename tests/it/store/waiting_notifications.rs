//! Notifications of waiting: which enter the outbox, which become obsolete, what quiet hours hold.

use chrono::NaiveDate;
use tallyhook_core::domain::notification::{PullRequestStatus, SyncSource};
use tallyhook_core::domain::waiting::WaitingFor;
use tallyhook_core::domain::waiting_change::{
    ChangedParties, WaitedFor, WaitedParty, WaitingChange,
};
use tallyhook_core::github::types::{PrKey, PrNumber, Timestamp};
use tallyhook_store::{
    AttemptResult, BatchWrite, ChannelDigest, DEFAULT_TEAM, DigestContent, DigestItem, EventId,
    NotificationAttempt, OutboxPayload, Store,
};

use super::outbox::{change, recording};
use super::{histories, later, now, open};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    change_of_waiting_enters_after_the_status_unless_it_is_older_than_the_tracking,
    later_change_or_status_supersedes_a_change_of_waiting,
    held_notification_gives_way_to_a_pending_one_and_does_not_expire,
    digest_of_a_day_is_recorded_once_and_for_one_channel,
}

const OPS: &str = "ops";

fn waits(number: i64, who: &str, at: i64) -> WaitingChange {
    WaitingChange {
        key: PrKey {
            repo: histories::KEY.repo,
            number: PrNumber(number),
        },
        source: SyncSource::Webhook,
        at: Timestamp::clamped(now().timestamp() + at),
        parties: ChangedParties {
            old: None,
            new: WaitedFor {
                on: WaitingFor::Reviewers,
                who: vec![WaitedParty::Login(who.to_owned())],
            },
            because: "asked".to_owned(),
        },
    }
}

/// Records changes of waiting, and that a pull request was merged.
async fn record(store: &Store, waits: Vec<WaitingChange>, merged: Option<i64>) {
    let merge = |number| change(number, None, PullRequestStatus::Merged, 0);
    let write = BatchWrite {
        waits,
        ..recording(merged.map(merge).into_iter().collect())
    };
    store.record(&write, now()).await.unwrap().unwrap();
}

/// Advances the channel over all events, each with a subject of its own, or all with one.
async fn advance(store: &Store, one_subject: bool) -> Vec<EventId> {
    let place = store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap()
        .place;
    let events = store.events_after(place, 99).await.unwrap();
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    let subject = |id: &EventId| match one_subject {
        true => "one".to_owned(),
        false => id.to_string(),
    };
    let wanted: Vec<_> = ids.iter().map(|id| (*id, subject(id))).collect();
    let team = store.of_team(DEFAULT_TEAM.0);
    let advanced = team.advance_channel(OPS, place, *ids.last().unwrap(), &wanted, now());
    assert!(advanced.await.unwrap());
    ids
}

async fn is_superseded(store: &Store, event: EventId) -> bool {
    let team = store.of_team(DEFAULT_TEAM.0);
    let superseded = team.supersede_if_outdated(OPS, event, later(2));
    superseded.await.unwrap()
}

async fn change_of_waiting_enters_after_the_status_unless_it_is_older_than_the_tracking(
    database: Database,
) {
    let store = open(&database).await;
    // GitHub's clock may be five minutes behind.
    let changes = vec![
        waits(1, "ines", -301),
        waits(2, "ines", -300),
        waits(3, "yuki", 9),
    ];
    record(&store, changes.clone(), Some(2)).await;
    let events = store.events_after(EventId::BEGINNING, 9).await.unwrap();
    let [status, first, second] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(matches!(status.payload, OutboxPayload::PullRequest(..)));
    for (event, expected) in [(first, &changes[1]), (second, &changes[2])] {
        assert_eq!(event.repo.as_deref(), Some("acme-corp/api-server"));
        assert_eq!(
            event.payload,
            OutboxPayload::Waiting(expected.clone(), None)
        );
        assert_eq!(event.payload.pull_request(), Some(expected.key));
    }
}

async fn later_change_or_status_supersedes_a_change_of_waiting(database: Database) {
    let store = open(&database).await;
    store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap();
    let changes = vec![
        waits(1, "ines", 0),
        waits(2, "ines", 0),
        waits(3, "ines", 0),
    ];
    record(&store, changes, None).await;
    let ids = advance(&store, false).await;
    for id in &ids {
        assert!(!is_superseded(&store, *id).await, "{id}");
    }
    // Neither was taken up by the channel: what holds is known from the outbox.
    record(&store, vec![waits(1, "yuki", 1)], Some(2)).await;
    let found = [
        is_superseded(&store, ids[0]).await,
        is_superseded(&store, ids[1]).await,
        is_superseded(&store, ids[2]).await,
    ];
    assert_eq!(found, [true, true, false]);
}

async fn held_notification_gives_way_to_a_pending_one_and_does_not_expire(database: Database) {
    let store = open(&database).await;
    store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap();
    for number in [1, 2] {
        record(&store, Vec::new(), Some(number)).await;
    }
    let ids = advance(&store, true).await;
    assert!(!is_superseded(&store, ids[0]).await);
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .hold_notifications(OPS, later(100))
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .hold_notifications(OPS, later(100))
            .await
            .unwrap(),
        0
    );
    // Older than the limit, but for the quiet hours.
    let expire = async |before| {
        store
            .expire_notifications(later(before), later(99), 9)
            .await
    };
    assert_eq!(expire(100).await.unwrap(), 0);
    let due = store
        .of_team(DEFAULT_TEAM.0)
        .due_notifications(OPS, now(), 9)
        .await
        .unwrap();
    assert!(due.iter().all(|row| row.held_until == Some(later(100))));
    assert!(is_superseded(&store, ids[0]).await && !is_superseded(&store, ids[1]).await);
    assert_eq!(expire(101).await.unwrap(), 1);
    let attempt = NotificationAttempt {
        channel: OPS,
        event: ids[1],
        answer: "late",
        at: later(200),
    };
    let team = store.of_team(DEFAULT_TEAM.0);
    let sent = team.record_attempt(&attempt, AttemptResult::Sent, None);
    assert!(!sent.await.unwrap(), "it is dead");
}

async fn digest_of_a_day_is_recorded_once_and_for_one_channel(database: Database) {
    let store = open(&database).await;
    let begin = store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap();
    assert_eq!(begin.digest_day, None);
    let item = DigestItem {
        repo: "acme-corp/api-server".to_owned(),
        pr_number: 7,
        title: Some("Sort".to_owned()),
        html_url: None,
        author: None,
        waiting: waits(7, "ines", 0).parties.new,
        since: Timestamp::clamped(7),
    };
    let digest = |day: u32, items| ChannelDigest {
        channel: OPS.to_owned(),
        at: Timestamp::clamped(9),
        content: DigestContent {
            day: NaiveDate::from_ymd_opt(2026, 3, day).unwrap(),
            total: 40,
            items,
        },
    };
    let first = digest(9, vec![item.clone()]);
    for (digest, is_new) in [
        (first.clone(), true),
        (first.clone(), false),
        (digest(8, vec![item.clone()]), false),
        // Nothing waits: the day is over, and nothing is sent.
        (digest(10, Vec::new()), true),
        (digest(10, vec![item]), false),
    ] {
        assert_eq!(
            store
                .of_team(DEFAULT_TEAM.0)
                .record_digest(&digest, now())
                .await
                .unwrap(),
            is_new
        );
    }
    let state = store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap();
    assert_eq!(state.digest_day, NaiveDate::from_ymd_opt(2026, 3, 10));
    let events = store.events_after(begin.place, 9).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].payload, OutboxPayload::Digest(first));
    assert_eq!(events[0].payload.channel(), Some(OPS));
}
