//! Notifications of channels: each event is sent once and in order, and its outcome is recorded.

use tallyhook_core::domain::notification::PullRequestStatus;
use tallyhook_store::{
    AttemptResult, ChannelBacklog, ChannelPause, DEFAULT_TEAM, EventId, NotificationAttempt,
    NotificationCounts, NotificationFilter, NotificationRow, NotificationState, Store,
};

use super::outbox::{change, record};
use super::{later, now, open};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    new_channel_begins_after_the_newest_event,
    wanted_events_are_due_once_and_in_order,
    attempt_result_decides_the_next_state,
    newer_notification_of_a_subject_supersedes_the_older,
    notification_older_than_the_limit_expires,
    notification_that_was_given_up_is_sent_again_and_is_not_too_old,
    pending_notification_keeps_its_event,
    pending_notification_does_not_delay_the_purge_of_others,
    lists_continue_after_the_cursor,
}

const OPS: &str = "ops";

/// Opens `count` pull requests. Returns the ids of the events.
async fn events(store: &Store, count: i64) -> Vec<EventId> {
    let before = store.newest_event().await.unwrap();
    record(
        store,
        (0..count)
            .map(|number| change(before.0 * 100 + number, None, PullRequestStatus::Open, 0))
            .collect(),
    )
    .await;
    let new = store.events_after(before, 999).await.unwrap();
    assert_eq!(new.len(), usize::try_from(count).unwrap());
    new.into_iter().map(|event| event.id).collect()
}

/// Advances a channel over all events, each with the subject that `subject` returns for its index.
async fn advance_over(
    store: &Store,
    channel: &str,
    ids: &[EventId],
    subject: impl Fn(usize) -> usize,
) {
    let place = store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(channel)
        .await
        .unwrap()
        .place;
    let wanted: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(at, id)| (*id, subject(at).to_string()))
        .collect();
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .advance_channel(channel, place, *ids.last().unwrap(), &wanted, now())
            .await
            .unwrap()
    );
}

async fn attempted(store: &Store, event: EventId, next: AttemptResult, rest: Option<ChannelPause>) {
    assert!(is_attempted(store, event, next, rest).await);
}

async fn is_attempted(
    store: &Store,
    event: EventId,
    next: AttemptResult,
    rest: Option<ChannelPause>,
) -> bool {
    let attempt = NotificationAttempt {
        channel: OPS,
        event,
        answer: "an\0swer",
        at: later(1),
    };
    store
        .of_team(DEFAULT_TEAM.0)
        .record_attempt(&attempt, next, rest)
        .await
        .unwrap()
}

async fn due(store: &Store, at: i64) -> Vec<EventId> {
    ids(&store
        .of_team(DEFAULT_TEAM.0)
        .due_notifications(OPS, later(at), 99)
        .await
        .unwrap())
}

fn ids(rows: &[NotificationRow]) -> Vec<EventId> {
    rows.iter().map(|row| row.event.id).collect()
}

async fn all(store: &Store) -> Vec<NotificationRow> {
    store
        .of_team(DEFAULT_TEAM.0)
        .notifications(&NotificationFilter::default(), 99)
        .await
        .unwrap()
}

async fn new_channel_begins_after_the_newest_event(database: Database) {
    let store = open(&database).await;
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .open_channel("early")
            .await
            .unwrap()
            .place,
        EventId::BEGINNING
    );
    let ids = events(&store, 2).await;
    let state = store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap();
    assert_eq!(
        (
            state.place,
            state.rests_until,
            state.failures,
            state.last_error
        ),
        (ids[1], None, 0, None)
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .open_channel("early")
            .await
            .unwrap()
            .place,
        EventId::BEGINNING
    );
    let names: Vec<_> = store
        .channels()
        .await
        .unwrap()
        .into_iter()
        .map(|channel| channel.name)
        .collect();
    assert_eq!(names, ["early", OPS]);
}

async fn wanted_events_are_due_once_and_in_order(database: Database) {
    let store = open(&database).await;
    let begin = store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap()
        .place;
    store
        .of_team(DEFAULT_TEAM.0)
        .open_channel("other")
        .await
        .unwrap();
    let events = events(&store, 4).await;
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .next_notification_at(OPS)
            .await
            .unwrap(),
        None
    );
    // One of the events is filtered out of this channel.
    let wanted: Vec<_> = [0, 1, 3].map(|at| (events[at], at.to_string())).to_vec();
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .advance_channel(OPS, begin, events[3], &wanted, now())
            .await
            .unwrap()
    );
    // A second process with the outdated position changes nothing.
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .advance_channel(OPS, begin, events[3], &wanted, now())
            .await
            .unwrap()
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .open_channel(OPS)
            .await
            .unwrap()
            .place,
        events[3]
    );
    assert_eq!(due(&store, 0).await, [events[0], events[1], events[3]]);
    assert_eq!(due(&store, -1).await, []);
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .next_notification_at(OPS)
            .await
            .unwrap(),
        Some(now())
    );
    assert_eq!(
        ids(&store
            .of_team(DEFAULT_TEAM.0)
            .due_notifications(OPS, now(), 2)
            .await
            .unwrap()),
        events[..2]
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .due_notifications("other", now(), 99)
            .await
            .unwrap(),
        []
    );
    let found = store
        .channels()
        .await
        .unwrap()
        .into_iter()
        .map(|channel| channel.counts.pending)
        .collect::<Vec<_>>();
    assert_eq!(found, [3, 0]);
    let backlog = |name: &str, pending, since, dead| {
        let channel = name.to_owned();
        ChannelBacklog {
            channel,
            pending,
            since,
            dead,
            failures: 0,
        }
    };
    // The other channel has not been advanced over any event.
    let backlogs = [
        backlog(OPS, 3, Some(now()), 0),
        backlog("other", 4, Some(now()), 0),
    ];
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .backlogs(&[OPS, "other"])
            .await
            .unwrap(),
        backlogs
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .backlogs(&["other", "unknown"])
            .await
            .unwrap(),
        backlogs[1..]
    );
    assert_eq!(
        store.of_team(DEFAULT_TEAM.0).backlogs(&[]).await.unwrap(),
        []
    );
    advance_over(&store, "other", &events[3..], |at| at).await;
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .backlogs(&[OPS, "other"])
            .await
            .unwrap()[1],
        backlog("other", 1, Some(now()), 0)
    );
    let first = store
        .of_team(DEFAULT_TEAM.0)
        .due_notifications(OPS, now(), 1)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(first.event, store.events_after(begin, 1).await.unwrap()[0]);
    assert_eq!(
        (first.state, first.attempts, first.answer),
        (NotificationState::Pending, 0, None)
    );
    store
        .expire_notifications(later(1), later(1), 99)
        .await
        .unwrap();
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .backlogs(&[OPS, "other"])
            .await
            .unwrap(),
        [backlog(OPS, 0, None, 3), backlog("other", 0, None, 1)]
    );
}

async fn attempt_result_decides_the_next_state(database: Database) {
    let store = open(&database).await;
    store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap();
    let events = events(&store, 4).await;
    advance_over(&store, OPS, &events, |at| at).await;
    attempted(&store, events[0], AttemptResult::Sent, None).await;
    attempted(
        &store,
        events[1],
        AttemptResult::Dead,
        Some(ChannelPause {
            until: None,
            failures: 1,
        }),
    )
    .await;
    attempted(
        &store,
        events[2],
        AttemptResult::RetryAt(later(9)),
        Some(ChannelPause {
            until: Some(later(5)),
            failures: 2,
        }),
    )
    .await;
    attempted(&store, events[3], AttemptResult::DeferredTo(later(7)), None).await;
    // A finished notification stays finished, and a late attempt does not change the channel.
    assert!(!is_attempted(&store, events[1], AttemptResult::Sent, None).await);
    assert!(
        !is_attempted(
            &store,
            events[1],
            AttemptResult::Sent,
            Some(ChannelPause {
                until: None,
                failures: 9
            })
        )
        .await
    );

    assert_eq!(due(&store, 6).await, []);
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .next_notification_at(OPS)
            .await
            .unwrap(),
        Some(later(7))
    );
    assert_eq!(due(&store, 9).await, [events[2], events[3]]);
    let rows = all(&store).await;
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row.event.id, row.state, row.attempts, row.finished_at))
        .collect();
    let (pending, done) = (NotificationState::Pending, Some(later(1)));
    let expected = [
        (events[3], pending, 0, None),
        (events[2], pending, 1, None),
        (events[1], NotificationState::Dead, 1, done),
        (events[0], NotificationState::Sent, 1, done),
    ];
    assert_eq!(found, expected);
    assert!(
        rows.iter()
            .all(|row| row.answer.as_deref() == Some("an\u{fffd}swer"))
    );

    let state = store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap();
    assert_eq!((state.rests_until, state.failures), (Some(later(5)), 2));
    assert_eq!(
        state.last_error,
        Some(("an\u{fffd}swer".to_owned(), later(1)))
    );
    attempted(
        &store,
        events[3],
        AttemptResult::Sent,
        Some(ChannelPause {
            until: None,
            failures: 0,
        }),
    )
    .await;
    let state = store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap();
    assert_eq!(
        (
            state.rests_until,
            state.failures,
            state.last_error.is_some()
        ),
        (None, 0, true)
    );
    let channel = store.channels().await.unwrap().remove(0);
    assert_eq!(
        channel.counts,
        NotificationCounts {
            pending: 1,
            sent: 2,
            dead: 1,
            superseded: 0
        }
    );
    assert_eq!(channel.state, state);
    let backlog = store
        .of_team(DEFAULT_TEAM.0)
        .backlogs(&[OPS, "other"])
        .await
        .unwrap()
        .remove(0);
    assert_eq!((backlog.pending, backlog.failures), (1, 0));
}

async fn newer_notification_of_a_subject_supersedes_the_older(database: Database) {
    let store = open(&database).await;
    for channel in [OPS, "other"] {
        store
            .of_team(DEFAULT_TEAM.0)
            .open_channel(channel)
            .await
            .unwrap();
    }
    let events = events(&store, 5).await;
    // The first, the third and the fifth have the same subject.
    for channel in [OPS, "other"] {
        advance_over(&store, channel, &events, |at| at % 2).await;
    }
    attempted(&store, events[1], AttemptResult::Sent, None).await;
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .supersede_if_outdated(OPS, events[0], later(2))
            .await
            .unwrap()
    );
    attempted(&store, events[2], AttemptResult::Sent, None).await;
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .supersede_if_outdated(OPS, events[0], later(2))
            .await
            .unwrap()
    );
    for (channel, event) in [
        (OPS, events[0]),
        (OPS, events[2]),
        (OPS, events[3]),
        (OPS, events[4]),
        ("other", events[0]),
    ] {
        assert!(
            !store
                .of_team(DEFAULT_TEAM.0)
                .supersede_if_outdated(channel, event, later(2))
                .await
                .unwrap(),
            "{channel} {event}"
        );
    }
    let state = Some(NotificationState::Superseded);
    let rows = store
        .of_team(DEFAULT_TEAM.0)
        .notifications(
            &NotificationFilter {
                state,
                ..NotificationFilter::default()
            },
            9,
        )
        .await
        .unwrap();
    assert_eq!(
        (ids(&rows), rows[0].finished_at),
        (vec![events[0]], Some(later(2)))
    );
}

async fn notification_older_than_the_limit_expires(database: Database) {
    let store = open(&database).await;
    let begin = store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap()
        .place;
    let events = events(&store, 4).await;
    // Being queued late does not change the age of an event.
    let wanted: Vec<_> = events.iter().map(|id| (*id, id.to_string())).collect();
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .advance_channel(OPS, begin, events[3], &wanted, later(5))
            .await
            .unwrap()
    );
    attempted(&store, events[0], AttemptResult::Sent, None).await;
    attempted(&store, events[1], AttemptResult::RetryAt(later(5)), None).await;
    assert_eq!(
        store
            .expire_notifications(now(), later(9), 9)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        store
            .expire_notifications(later(1), later(9), 2)
            .await
            .unwrap(),
        2
    );
    assert_eq!(due(&store, 99).await.len(), 1);
    assert_eq!(
        store
            .expire_notifications(later(1), later(9), 9)
            .await
            .unwrap(),
        1
    );
    let found: Vec<_> = all(&store)
        .await
        .into_iter()
        .map(|row| (row.state, row.answer))
        .collect();
    assert_eq!(
        found[2],
        (NotificationState::Dead, Some("an\u{fffd}swer".to_owned()))
    );
    assert_eq!(
        (found[1].0, found[1].1.as_deref()),
        (NotificationState::Dead, Some("it was too old to be sent"))
    );
    assert_eq!(found[3].0, NotificationState::Sent);
}

async fn notification_that_was_given_up_is_sent_again_and_is_not_too_old(database: Database) {
    let store = open(&database).await;
    store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap();
    let events = events(&store, 2).await;
    advance_over(&store, OPS, &events, |at| at).await;
    attempted(&store, events[0], AttemptResult::Dead, None).await;
    assert_eq!(due(&store, 100).await, events[1..]);
    let retry = async |channel: &'static str, event| {
        let team = store.of_team(DEFAULT_TEAM.0);
        let retried = team.retry_notification(channel, event, later(50));
        retried.await.unwrap()
    };
    assert!(!retry("other", events[0]).await && !retry(OPS, events[1]).await);
    assert!(retry(OPS, events[0]).await);
    // Asked for twice it is sent once.
    assert!(!retry(OPS, events[0]).await);
    assert_eq!(due(&store, 100).await, events);
    let again = all(&store).await.pop().unwrap();
    assert_eq!((again.event.id, again.attempts), (events[0], 0));
    assert_eq!(
        (again.state, again.finished_at),
        (NotificationState::Pending, None)
    );
    // Its age is counted from the retry.
    let expire = async |before| store.expire_notifications(before, later(60), 9).await;
    assert_eq!(expire(later(50)).await.unwrap(), 1);
    assert_eq!(due(&store, 100).await, events[..1]);
    assert_eq!(expire(later(51)).await.unwrap(), 1);
}

async fn pending_notification_keeps_its_event(database: Database) {
    let store = open(&database).await;
    store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap();
    let events = events(&store, 4).await;
    advance_over(&store, OPS, &events[..3], |at| at).await;
    attempted(&store, events[0], AttemptResult::Sent, None).await;
    attempted(&store, events[2], AttemptResult::Dead, None).await;
    assert_eq!(store.purge_events(later(1), 9).await.unwrap(), 2);
    assert_eq!(ids(&all(&store).await), [events[1]]);
    attempted(&store, events[1], AttemptResult::Sent, None).await;
    assert_eq!(store.purge_events(later(1), 9).await.unwrap(), 1);
    assert_eq!(all(&store).await, []);
    // The newest event stays, which is no notification of a channel.
    assert_eq!(store.newest_event().await.unwrap(), events[3]);
}

async fn pending_notification_does_not_delay_the_purge_of_others(database: Database) {
    let store = open(&database).await;
    store
        .of_team(DEFAULT_TEAM.0)
        .open_channel(OPS)
        .await
        .unwrap();
    let events = events(&store, 4).await;
    advance_over(&store, OPS, &events, |at| at).await;
    attempted(&store, events[2], AttemptResult::Sent, None).await;
    // The oldest two fill a page.
    assert_eq!(store.purge_events(later(1), 2).await.unwrap(), 1);
    assert_eq!(ids(&all(&store).await), [events[3], events[1], events[0]]);
}

async fn lists_continue_after_the_cursor(database: Database) {
    let store = open(&database).await;
    for channel in ["a", "b"] {
        store
            .of_team(DEFAULT_TEAM.0)
            .open_channel(channel)
            .await
            .unwrap();
    }
    let events = events(&store, 3).await;
    for channel in ["a", "b"] {
        advance_over(&store, channel, &events, |at| at).await;
    }
    let mut listed = Vec::new();
    let mut filter = NotificationFilter::default();
    loop {
        let page = store
            .of_team(DEFAULT_TEAM.0)
            .notifications(&filter, 4)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some((last.event.id, last.channel.clone()));
        listed.extend(page.into_iter().map(|row| (row.event.id, row.channel)));
    }
    let expected: Vec<_> = events
        .iter()
        .rev()
        .flat_map(|id| ["a", "b"].map(|channel| (*id, channel.to_owned())))
        .collect();
    assert_eq!(listed, expected);
    let (channel, state) = (Some("b".to_owned()), Some(NotificationState::Pending));
    let of_one = NotificationFilter {
        channel,
        state,
        after: None,
    };
    assert_eq!(
        ids(&store
            .of_team(DEFAULT_TEAM.0)
            .notifications(&of_one, 9)
            .await
            .unwrap()),
        [events[2], events[1], events[0]]
    );
    let sent = NotificationFilter {
        state: Some(NotificationState::Sent),
        ..of_one
    };
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .notifications(&sent, 9)
            .await
            .unwrap(),
        []
    );
}
