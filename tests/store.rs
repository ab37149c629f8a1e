//! What every store promises. One suite, to be run on each kind of database there is.

#[path = "support/histories.rs"]
mod histories;

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tallyhook::domain::join::Dated;
use tallyhook::domain::people::Bots;
use tallyhook::domain::pull_request::Source;
use tallyhook::domain::repository::{Access, Repository, Seen};
use tallyhook::domain::timings::timings;
use tallyhook::event::ReviewState;
use tallyhook::github::types::{InstallationId, PrKey, PrNumber, RepoId, Timestamp};
use tallyhook::queue::{DeliveryId, Lane};
use tallyhook::store::{
    self, Accepted, Conflict, DeadLike, DeadSelection, DeliveryFilter, DeliveryState, DurationFilter, Finished, Known,
    NewDelivery, NewState, Opening, PullRequestFilter, PullRequestRecord, Recording, StateFilter, Store, StoredBody,
    Waiting,
};
use tempfile::TempDir;

use histories::Step;

/// A store of its own for one test. The folder goes last.
async fn store() -> (Arc<dyn Store>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    (store::open(&url, Opening::Alone).await.unwrap(), folder)
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_500_000, 0).unwrap()
}

fn later(seconds: i64) -> DateTime<Utc> {
    now() + TimeDelta::seconds(seconds)
}

fn delivery(guid: &str, state: NewState) -> NewDelivery {
    NewDelivery {
        guid: guid.to_owned(),
        body_sha256: [7; 32],
        event: "pull_request".to_owned(),
        action: Some("opened".to_owned()),
        repo: Some((RepoId(7), "acme-corp/api-server".to_owned())),
        pr_number: Some(PrNumber(3)),
        source: Source::Webhook,
        lane: Lane::Live,
        received_at: now(),
        body: StoredBody::compress(b"{\"zen\":1}").unwrap(),
        state,
    }
}

fn pending() -> NewState {
    NewState::Pending { due: now() }
}

async fn accept(store: &dyn Store, guid: &str) -> DeliveryId {
    match store.accept(delivery(guid, pending())).await.unwrap() {
        Accepted::Stored(id) => id,
        other => panic!("{guid}: {other:?}"),
    }
}

async fn state(store: &dyn Store, id: DeliveryId) -> (DeliveryState, u32) {
    let delivery = store.delivery(id).await.unwrap().unwrap();
    (delivery.state, delivery.attempts)
}

/// Claims for a minute, with five attempts at the most.
async fn claim(store: &dyn Store, ids: &[DeliveryId], at: DateTime<Utc>) -> Vec<DeliveryId> {
    let claim = store.claim(ids, at, at + TimeDelta::seconds(60), 5).await.unwrap();
    claim.claimed.into_iter().map(|claimed| claimed.id).collect()
}

#[tokio::test]
async fn a_delivery_is_stored_once_per_guid_and_body() {
    let (store, _folder) = store().await;
    let first = accept(&*store, "a").await;
    assert_eq!(store.accept(delivery("a", pending())).await.unwrap(), Accepted::Duplicate);
    let other_body = NewDelivery { body_sha256: [8; 32], ..delivery("a", pending()) };
    assert!(matches!(store.accept(other_body).await.unwrap(), Accepted::Stored(id) if id > first));
    assert_eq!(store.deliveries_of("a").await.unwrap().len(), 2);
    assert_eq!(store.body(first).await.unwrap().unwrap().decompress().unwrap(), b"{\"zen\":1}");
}

#[tokio::test]
async fn of_many_at_once_one_is_stored() {
    let (store, _folder) = store().await;
    let posts = (0..32).map(|_| store.accept(delivery("same", pending())));
    let answers = futures_util::future::join_all(posts).await;
    let stored = answers.iter().filter(|answer| matches!(answer, Ok(Accepted::Stored(_)))).count();
    let duplicate = answers.iter().filter(|answer| matches!(answer, Ok(Accepted::Duplicate))).count();
    assert_eq!((stored, duplicate), (1, 31));
}

#[tokio::test]
async fn groups_of_every_size_are_stored_whole() {
    let (store, _folder) = store().await;
    for (round, size) in [1_usize, 3, 4, 5, 15, 16, 17, 63, 64, 65, 100, 300].into_iter().enumerate() {
        let guids: Vec<_> = (0..size).map(|place| format!("{round}-{place}")).collect();
        let answers =
            futures_util::future::join_all(guids.iter().map(|guid| store.accept(delivery(guid, pending())))).await;
        let ids: BTreeSet<_> = answers
            .into_iter()
            .map(|answer| match answer.unwrap() {
                Accepted::Stored(id) => id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ids.len(), size);
        for id in ids {
            assert!(store.body(id).await.unwrap().is_some());
        }
    }
}

#[tokio::test]
async fn an_attempt_is_counted_before_it_begins_and_the_row_is_nobody_else_s_until_the_lease_ends() {
    let (store, _folder) = store().await;
    let id = accept(&*store, "a").await;
    assert_eq!(store.waiting(&[id]).await.unwrap(), [Waiting { id, tried: false, body_bytes: 9 }]);
    assert_eq!(claim(&*store, &[id], now()).await, [id]);
    assert_eq!(state(&*store, id).await, (DeliveryState::Accepted, 1));
    assert_eq!(store.waiting(&[id]).await.unwrap(), [Waiting { id, tried: true, body_bytes: 9 }]);
    assert_eq!(claim(&*store, &[id], later(59)).await, []);
    assert_eq!(claim(&*store, &[id], later(60)).await, [id]);
    assert_eq!(state(&*store, id).await.1, 2);
}

#[tokio::test]
async fn a_delivery_that_ends_its_workers_is_dead_after_its_last_attempt() {
    let (store, _folder) = store().await;
    let (poison, innocent) = (accept(&*store, "poison").await, accept(&*store, "innocent").await);
    for attempt in 0..5 {
        assert_eq!(claim(&*store, &[poison], later(100 * attempt)).await, [poison]);
    }
    let claim = store.claim(&[poison, innocent], later(500), later(560), 5).await.unwrap();
    assert_eq!(claim.claimed.iter().map(|claimed| claimed.id).collect::<Vec<_>>(), [innocent]);
    assert_eq!(claim.exhausted.iter().map(|exhausted| exhausted.guid.as_str()).collect::<Vec<_>>(), ["poison"]);
    assert_eq!(store.waiting(&[poison]).await.unwrap(), []);
    assert_eq!(state(&*store, poison).await, (DeliveryState::Dead, 5));
    let reason = store.delivery(poison).await.unwrap().unwrap().reason.unwrap();
    assert!(reason.contains("5 attempts"), "{reason}");
}

#[tokio::test]
async fn what_is_due_is_handed_out_once_until_it_is_due_again() {
    let (store, _folder) = store().await;
    let ids = [accept(&*store, "a").await, accept(&*store, "b").await, accept(&*store, "c").await];
    let not_yet = delivery("later", NewState::Pending { due: later(10) });
    store.accept(not_yet).await.unwrap();
    let backfill = NewDelivery { lane: Lane::Backfill, ..delivery("old", pending()) };
    store.accept(backfill).await.unwrap();

    assert_eq!(store.take_due(Lane::Live, 2, now(), later(300)).await.unwrap(), ids[..2]);
    assert_eq!(store.take_due(Lane::Live, 9, now(), later(300)).await.unwrap(), ids[2..]);
    assert_eq!(store.take_due(Lane::Live, 9, now(), later(300)).await.unwrap(), []);
    assert_eq!(store.take_due(Lane::Live, 9, later(10), later(300)).await.unwrap().len(), 1);
    assert_eq!(store.take_due(Lane::Backfill, 9, now(), later(300)).await.unwrap().len(), 1);
    assert_eq!(store.take_due(Lane::Live, 9, later(300), later(600)).await.unwrap().len(), 4);
    // When the queue lost what it was handed nothing waits for its time.
    assert_eq!(store.hand_over_again(now()).await.unwrap(), 5);
    assert_eq!(store.take_due(Lane::Live, 9, now(), later(300)).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_failed_attempt_is_noted_and_made_again_when_it_is_time() {
    let (store, _folder) = store().await;
    let id = accept(&*store, "a").await;
    claim(&*store, &[id], now()).await;
    store.retry(&[id], "the disk is \"full\"", now(), later(4)).await.unwrap();
    let delivery = store.delivery(id).await.unwrap().unwrap();
    assert_eq!((delivery.next_attempt_at, delivery.history.len()), (Some(later(4)), 1));
    assert_eq!((delivery.history[0].error.as_str(), delivery.history[0].attempt), ("the disk is \"full\"", 1));
    assert_eq!(store.take_due(Lane::Live, 9, later(3), later(300)).await.unwrap(), []);
    assert_eq!(store.take_due(Lane::Live, 9, later(4), later(300)).await.unwrap(), [id]);
    assert_eq!(claim(&*store, &[id], later(4)).await, [id]);
    assert_eq!(state(&*store, id).await.1, 2);
    // What is not the delivery's fault is no attempt of it.
    store.release(&[id], "the database failed", later(4), later(8)).await.unwrap();
    assert_eq!(state(&*store, id).await, (DeliveryState::Accepted, 1));
    assert_eq!(store.delivery(id).await.unwrap().unwrap().history.len(), 2);
}

#[tokio::test]
async fn a_dead_letter_keeps_its_body_and_can_be_requeued_redelivered_or_discarded() {
    let (store, _folder) = store().await;
    let id = accept(&*store, "a").await;
    claim(&*store, &[id], now()).await;
    store.bury(&[id], "cannot be decoded", now()).await.unwrap();
    assert_eq!(state(&*store, id).await, (DeliveryState::Dead, 1));
    assert!(store.body(id).await.unwrap().is_some());
    assert_eq!(store.delivery(id).await.unwrap().unwrap().history.len(), 1);
    assert_eq!(claim(&*store, &[id], later(1000)).await, []);

    assert_eq!(store.requeue(&DeadSelection::Ids(vec![id]), now()).await.unwrap(), 1);
    assert_eq!(store.requeue(&DeadSelection::Like(DeadLike::default()), now()).await.unwrap(), 0);
    assert_eq!(state(&*store, id).await, (DeliveryState::Accepted, 0));
    assert_eq!(claim(&*store, &[id], now()).await, [id]);
    store.bury(&[id], "again", now()).await.unwrap();

    assert_eq!(store.accept(delivery("a", pending())).await.unwrap(), Accepted::Requeued(id));
    claim(&*store, &[id], now()).await;
    store.bury(&[id], "and again", now()).await.unwrap();

    assert!(store.discard(id, "discarded: seen", now()).await.unwrap());
    assert!(!store.discard(id, "discarded: twice", now()).await.unwrap());
    let delivery = store.delivery(id).await.unwrap().unwrap();
    assert_eq!((delivery.state, delivery.reason.as_deref()), (DeliveryState::Ignored, Some("discarded: seen")));
}

#[tokio::test]
async fn cleaning_takes_old_bodies_then_old_rows_and_never_dead_or_unfinished_ones() {
    let (store, _folder) = store().await;
    let (applied, dead, open) =
        (accept(&*store, "applied").await, accept(&*store, "dead").await, accept(&*store, "open").await);
    let finished = Recording { finished: vec![Finished::Applied(applied)], ..Recording::default() };
    store.record(&finished, now()).await.unwrap().unwrap();
    store.bury(&[dead], "for good", now()).await.unwrap();

    let nothing = store.purge(now(), now(), 100).await.unwrap();
    assert_eq!((nothing.bodies, nothing.rows), (0, 0));
    let bodies = store.purge(later(1), now(), 100).await.unwrap();
    assert_eq!((bodies.bodies, bodies.rows), (1, 0));
    assert!(store.body(applied).await.unwrap().is_none());
    assert_eq!(store.accept(delivery("applied", pending())).await.unwrap(), Accepted::Duplicate);
    let rows = store.purge(later(1), later(1), 100).await.unwrap();
    assert_eq!((rows.bodies, rows.rows), (0, 1));
    assert!(store.delivery(applied).await.unwrap().is_none());
    assert!(store.body(dead).await.unwrap().is_some() && store.body(open).await.unwrap().is_some());
}

#[tokio::test]
async fn counts_tell_every_state_and_the_oldest_that_waits() {
    let (store, _folder) = store().await;
    assert_eq!(store.counts().await.unwrap(), store::Counts::default());
    accept(&*store, "a").await;
    let ignored = NewState::Ignored { reason: "a comment on an issue".to_owned() };
    store.accept(delivery("b", ignored)).await.unwrap();
    store.accept(delivery("c", NewState::Dead { reason: "no JSON of ours".to_owned() })).await.unwrap();
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.accepted, counts.applied, counts.ignored, counts.dead), (1, 0, 1, 1));
    assert_eq!(counts.oldest_pending, Some(now()));
}

#[tokio::test]
async fn lists_are_filtered_and_go_on_where_they_stopped() {
    let (store, _folder) = store().await;
    for place in 0..5 {
        accept(&*store, &format!("a-{place}")).await;
    }
    let other = NewDelivery { event: "push".to_owned(), ..delivery("push", pending()) };
    store.accept(other).await.unwrap();
    let list = async |filter: DeliveryFilter| {
        let listed = store.deliveries(&filter, 2).await.unwrap();
        listed.into_iter().map(|delivery| delivery.guid).collect::<Vec<_>>()
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
    let dead = DeliveryFilter { state: Some(DeliveryState::Dead), ..DeliveryFilter::default() };
    assert_eq!(list(dead).await, Vec::<String>::new());
}

/// Applies a history and writes it, as a worker does.
async fn write(store: &dyn Store, steps: &[(i64, Step)]) -> Known {
    let mut known = store.load(&[histories::KEY]).await.unwrap().remove(0);
    let mut reviews = BTreeSet::new();
    for event in histories::events(false, Some(500), steps) {
        known.pull_request.apply(&event, Source::Webhook);
        reviews.extend(event.review.map(|review| review.id));
    }
    let recording = recording(known.clone(), reviews);
    store.record(&recording, now()).await.unwrap().unwrap();
    known
}

fn recording(known: Known, reviews: BTreeSet<tallyhook::github::types::ReviewId>) -> Recording {
    let timings = timings(&known.pull_request, &Bots::default());
    Recording {
        pull_requests: vec![PullRequestRecord { timings, known, reviews }],
        repositories: vec![repository(100, "acme-corp/api-server", Access::Granted)],
        ..Recording::default()
    }
}

fn repository(at: i64, name: &str, access: Access) -> Repository {
    Repository {
        id: histories::KEY.repo,
        seen: Dated { at: Timestamp::clamped(at), value: Seen { name: name.to_owned(), private: None } },
        installation: Some(InstallationId(5)),
        access: Dated { at: Timestamp::clamped(at), value: access },
    }
}

const WHOLE_LIFE: [(i64, Step); 9] = [
    (10, Step::Label(1)),
    (10, Step::ConvertToDraft),
    (10, Step::Ready),
    (10, Step::Comment(2)),
    (10, Step::Review(1, ReviewState::ChangesRequested)),
    (10, Step::Dismiss(0)),
    (10, Step::Push),
    (10, Step::Review(1, ReviewState::Approved)),
    (10, Step::Merge),
];

#[tokio::test]
async fn what_is_known_comes_back_as_it_was() {
    let (store, _folder) = store().await;
    let unknown = store.load(&[histories::KEY]).await.unwrap().remove(0);
    assert_eq!((unknown.version, unknown.pull_request.timeline.is_empty()), (0, true));
    let written = write(&*store, &WHOLE_LIFE).await;
    let read = store.load(&[histories::KEY]).await.unwrap().remove(0);
    assert_eq!((read.version, &read.pull_request), (1, &written.pull_request));
    assert_eq!(read.pull_request.reviews.len(), 2);
}

#[tokio::test]
async fn whoever_read_an_older_version_writes_nothing() {
    let (store, _folder) = store().await;
    write(&*store, &WHOLE_LIFE[..2]).await;
    let stale = store.load(&[histories::KEY]).await.unwrap().remove(0);
    write(&*store, &WHOLE_LIFE).await;
    let id = accept(&*store, "a").await;
    let mut late = recording(stale, BTreeSet::new());
    late.finished = vec![Finished::Applied(id)];
    assert_eq!(store.record(&late, now()).await.unwrap(), Err(Conflict));
    assert_eq!(state(&*store, id).await.0, DeliveryState::Accepted);
    let read = store.load(&[histories::KEY]).await.unwrap().remove(0);
    assert!(read.pull_request.merged_at.is_some());
}

#[tokio::test]
async fn an_older_snapshot_is_refused_by_the_database_itself() {
    let (store, _folder) = store().await;
    write(&*store, &WHOLE_LIFE).await;
    let mut broken = store.load(&[histories::KEY]).await.unwrap().remove(0);
    broken.pull_request.conversation.as_mut().unwrap().at = Timestamp::clamped(0);
    assert_eq!(store.record(&recording(broken, BTreeSet::new()), now()).await.unwrap(), Err(Conflict));
    let mut unmerged = store.load(&[histories::KEY]).await.unwrap().remove(0);
    unmerged.pull_request.merged_at = None;
    assert_eq!(store.record(&recording(unmerged, BTreeSet::new()), now()).await.unwrap(), Err(Conflict));
}

#[tokio::test]
async fn a_delivery_is_finished_once() {
    let (store, _folder) = store().await;
    let id = accept(&*store, "a").await;
    let finish = Recording { finished: vec![Finished::Ignored(id, "seen".to_owned())], ..Recording::default() };
    assert_eq!(store.record(&finish, now()).await.unwrap(), Ok(()));
    assert_eq!(store.record(&finish, now()).await.unwrap(), Err(Conflict));
}

#[tokio::test]
async fn a_repository_keeps_its_newest_name_in_any_order() {
    let (store, _folder) = store().await;
    let record = async |repository: Repository| {
        let recording = Recording { repositories: vec![repository], ..Recording::default() };
        store.record(&recording, now()).await.unwrap().unwrap();
    };
    record(repository(200, "acme-corp/server", Access::Granted)).await;
    record(repository(100, "acme-corp/api-server", Access::Granted)).await;
    assert_eq!(store.repository_id("acme-corp/api-server").await.unwrap(), None);
    assert_eq!(store.repository_id("Acme-Corp/Server").await.unwrap(), Some(RepoId(7)));
    record(repository(300, "acme-corp/backend", Access::Granted)).await;
    assert_eq!(store.repository_id("acme-corp/backend").await.unwrap(), Some(RepoId(7)));
}

#[tokio::test]
async fn access_that_is_lost_freezes_and_erases_nothing() {
    let (store, _folder) = store().await;
    write(&*store, &WHOLE_LIFE).await;
    let access = async || store.pull_request(histories::KEY).await.unwrap().unwrap().repo_access;
    let installation = async |at: i64, value: Access| {
        let change = (InstallationId(5), Dated { at: Timestamp::clamped(at), value });
        let recording = Recording { installations: vec![change], ..Recording::default() };
        store.record(&recording, now()).await.unwrap().unwrap();
    };
    assert_eq!(access().await, Access::Granted);
    installation(150, Access::Revoked).await;
    assert_eq!(access().await, Access::Revoked);
    installation(150, Access::Granted).await;
    assert_eq!(access().await, Access::Revoked);
    installation(160, Access::Granted).await;
    installation(155, Access::Revoked).await;
    assert_eq!(access().await, Access::Granted);
    let deleted = Recording {
        repositories: vec![repository(170, "acme-corp/api-server", Access::Deleted)],
        ..Recording::default()
    };
    store.record(&deleted, now()).await.unwrap().unwrap();
    assert_eq!(access().await, Access::Deleted);
}

#[tokio::test]
async fn pull_requests_are_read_by_state_author_and_range() {
    let (store, _folder) = store().await;
    write(&*store, &WHOLE_LIFE).await;
    let count = async |filter: PullRequestFilter| store.pull_requests(&filter, 10).await.unwrap().len();
    let state = |state| PullRequestFilter { states: vec![state], ..PullRequestFilter::default() };
    assert_eq!(count(PullRequestFilter::default()).await, 1);
    assert_eq!(count(state(StateFilter::Merged)).await, 1);
    assert_eq!(count(state(StateFilter::Closed)).await, 1);
    assert_eq!(count(state(StateFilter::ClosedUnmerged)).await, 0);
    assert_eq!(count(state(StateFilter::Open)).await, 0);
    let by = |author: &str| PullRequestFilter { author: Some(author.to_owned()), ..PullRequestFilter::default() };
    assert_eq!((count(by("Account-0")).await, count(by("account-1")).await), (1, 0));
    let row = store.pull_request(histories::KEY).await.unwrap().unwrap();
    let updated = row.updated_at;
    let range = |from, to| PullRequestFilter { from, to, ..PullRequestFilter::default() };
    assert_eq!(count(range(Some(updated), None)).await, 1);
    assert_eq!(count(range(None, Some(updated))).await, 0);
    assert_eq!(count(PullRequestFilter { after: Some((updated, row.key)), ..PullRequestFilter::default() }).await, 0);
    assert_eq!(row.durations.cycle_time, Some(90));
    assert_eq!(row.flags, Vec::<String>::new());

    let merged = store.merged(&DurationFilter::default()).await.unwrap();
    assert_eq!((merged.len(), merged[0].durations.coding), (1, Some(500)));
    assert_eq!(store.closed_unmerged(&DurationFilter::default(), false).await.unwrap(), 0);
    let other = DurationFilter { repo: Some(RepoId(8)), ..DurationFilter::default() };
    assert_eq!(store.merged(&other).await.unwrap().len(), 0);
}

#[tokio::test]
async fn all_keys_are_walked_over_in_portions() {
    let (store, _folder) = store().await;
    write(&*store, &WHOLE_LIFE).await;
    assert_eq!(store.keys_after(None, 10).await.unwrap(), [histories::KEY]);
    let before = PrKey { repo: RepoId(7), number: PrNumber(2) };
    assert_eq!(store.keys_after(Some(before), 10).await.unwrap(), [histories::KEY]);
    assert_eq!(store.keys_after(Some(histories::KEY), 10).await.unwrap(), []);
}

#[tokio::test]
async fn tokens_are_valid_until_they_are_revoked() {
    let (store, _folder) = store().await;
    assert!(!store.token_is_valid(&[1; 32]).await.unwrap());
    assert!(store.create_token("ci", &[1; 32], now()).await.unwrap());
    assert!(!store.create_token("ci", &[2; 32], now()).await.unwrap());
    assert!(store.token_is_valid(&[1; 32]).await.unwrap());
    assert!(store.revoke_token("ci", later(1)).await.unwrap());
    assert!(!store.revoke_token("ci", later(2)).await.unwrap());
    assert!(!store.token_is_valid(&[1; 32]).await.unwrap());
    assert!(store.create_token("ci", &[2; 32], later(3)).await.unwrap());
    assert!(store.token_is_valid(&[2; 32]).await.unwrap() && !store.token_is_valid(&[1; 32]).await.unwrap());
    let tokens = store.tokens().await.unwrap();
    assert_eq!((tokens.len(), tokens[0].revoked_at), (1, None));
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let (store, _folder) = store().await;
    accept(&*store, "a").await;
    store.close().await;
    assert!(store.accept(delivery("b", pending())).await.is_err());
    assert!(store.check().await.is_err());
}

#[tokio::test]
async fn a_second_server_on_the_same_file_is_refused_and_a_command_is_not() {
    let (store, folder) = store().await;
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    let refused = store::open(&url, Opening::Alone).await.err().unwrap();
    assert!(format!("{refused:#}").contains("another tallyhook is serving"), "{refused:#}");
    let beside = store::open(&url, Opening::Beside).await.unwrap();
    accept(&*beside, "a").await;
    assert_eq!(store.counts().await.unwrap().accepted, 1);
    beside.close().await;
    let missing = format!("sqlite://{}", folder.path().join("other.db").display());
    let refused = store::open(&missing, Opening::Beside).await.err().unwrap();
    assert!(format!("{refused:#}").contains("there is no database"), "{refused:#}");
}
