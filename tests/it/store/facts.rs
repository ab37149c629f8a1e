//! Facts about pull requests and repositories: they are read as written, and outdated writes are
//! refused.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::domain::apply::{ApplyRules, DecodedDelivery, apply_batch, keys_of};
use tallyhook_core::domain::join::Dated;
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::recording::{ListedCommits, PullRequestRecord};
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::domain::task::Patterns;
use tallyhook_core::domain::timings::timings;
use tallyhook_core::event::{
    self, CommitDates, Event, FetchedCommit, MergeState, ReviewDecision, ReviewState, SubjectKind,
};
use tallyhook_core::github::types::{InstallationId, PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_store::{
    BatchWrite, DEFAULT_TEAM, DeliveryState, FinishedDelivery, PullRequestFilter,
    RepositoryObservation, Store, StoredPullRequest, VersionConflict,
};

use super::{WHOLE_LIFE, accept, histories, now, open, recording, repository, state, write};
use testkit::database::Database;
use testkit::histories::Step;
use testkit::on_every_database;

on_every_database! {
    extreme_timestamps_and_numbers_are_read_as_written,
    nul_in_a_title_is_stored_as_the_replacement_character,
    reviews_are_merged_with_the_stored_ones,
    review_id_of_another_pull_request_overwrites_nothing,
    shared_ids_end_in_the_same_rows_in_any_order,
    pull_request_is_read_as_written,
    commits_are_those_of_the_newest_list_in_any_order,
    long_timeline_is_read_as_written_and_its_row_stays_short,
    pull_request_in_memory_is_the_one_that_is_read,
    fetched_timeline_takes_the_place_of_stored_segments,
    write_based_on_an_older_version_is_refused,
    older_snapshot_is_refused_by_the_database,
    delivery_is_finished_once,
    repository_keeps_its_newest_name_in_any_order,
    repository_access_is_that_of_the_newest_change,
}

async fn pull_request_is_read_as_written(database: Database) {
    let store = open(&database).await;
    let unknown = store.load(&[histories::KEY]).await.unwrap().remove(0);
    assert_eq!(
        (unknown.version, unknown.pull_request.timeline.is_empty()),
        (0, true)
    );
    let written = write(&store, &WHOLE_LIFE).await;
    let read = store.load(&[histories::KEY]).await.unwrap().remove(0);
    assert_eq!(
        (read.version, &read.pull_request),
        (1, &written.pull_request)
    );
    assert_eq!(read.pull_request.reviews.len(), 2);
}

async fn commits_are_those_of_the_newest_list_in_any_order(database: Database) {
    let store = open(&database).await;
    let at = |seconds| Timestamp::clamped(1_772_445_600 + seconds);
    let commit = |sha: &str, seconds: Option<i64>| FetchedCommit {
        sha: sha.to_owned(),
        author: seconds.map(|_| {
            histories::events(false, None, &[])[0]
                .actor
                .clone()
                .unwrap()
        }),
        authored_at: seconds.map(|seconds| at(seconds - 5)),
        committed_at: seconds.map(at),
        co_authors: Vec::new(),
    };
    // A hundred and twenty, of which a forced push replaced the last.
    let mut before: Vec<_> = (0..120)
        .map(|n| commit(&format!("{n:040x}"), Some(n)))
        .collect();
    let mut newest = before.clone();
    newest.pop();
    newest.push(commit("later", Some(500)));
    newest.insert(0, commit("undated", None));
    before.push(commit("gone", Some(130)));
    let list = |seconds, commits: &[FetchedCommit]| ListedCommits {
        key: histories::KEY,
        at: at(seconds),
        commits: commits.to_vec(),
    };
    let other = PrKey {
        number: PrNumber(4),
        ..histories::KEY
    };
    let lists = [list(1, &before), list(2, &newest), list(2, &newest)];
    for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
        for place in order {
            // An older list is not written once a newer one is known.
            if place == 0 && order[0] != 0 {
                continue;
            }
            let recording = BatchWrite {
                commits: vec![
                    lists[place].clone(),
                    ListedCommits {
                        key: other,
                        ..list(1, &before[..2])
                    },
                ],
                ..BatchWrite::default()
            };
            store.record(&recording, now()).await.unwrap().unwrap();
        }
        assert_eq!(store.commits(histories::KEY).await.unwrap(), newest);
        assert_eq!(store.commits(other).await.unwrap(), before[..2]);
    }
}

/// Labels that are put on one after the other.
fn labels(number: usize) -> Vec<(i64, Step)> {
    (0..number)
        .map(|place| (10, Step::Label(u8::try_from(place % 3).unwrap())))
        .collect()
}

/// Writes a long history in batches, the first of them last, as a worker does that reads each time.
/// Returns the same history as it is without a store.
async fn write_long_history(store: &Store) -> PullRequest {
    let events = histories::events(false, None, &labels(1_000));
    let mut expected = PullRequest::unknown(histories::KEY);
    for batch in events.chunks(40).rev() {
        let mut known = store.load(&[histories::KEY]).await.unwrap().remove(0);
        for event in batch {
            expected.apply(event, Source::Webhook);
            known.pull_request.apply(event, Source::Webhook);
        }
        let recording = recording(known, BTreeSet::new());
        store.record(&recording, now()).await.unwrap().unwrap();
    }
    expected
}

async fn long_timeline_is_read_as_written_and_its_row_stays_short(database: Database) {
    let store = open(&database).await;
    let expected = write_long_history(&store).await;
    let read = store.load(&[histories::KEY]).await.unwrap().remove(0);
    assert_eq!(read.pull_request, expected);
    assert!(expected.timeline.len() >= 1_000 && expected.observed.len() >= 1_000);
    let size = "length(CAST(timeline AS text)) + length(CAST(observed AS text))";
    let bytes = database
        .select(&format!("SELECT {size} FROM pull_requests"))
        .await;
    assert!(bytes < 40_000, "a write stores {bytes} bytes of history");
    let lost = "SELECT count(*) FROM timeline_segments";
    assert!(database.select(lost).await > 5);
}

/// A worker goes on with what it wrote, and so must find it as a reader does.
async fn pull_request_in_memory_is_the_one_that_is_read(database: Database) {
    let store = open(&database).await;
    let steps = [labels(150), WHOLE_LIFE.to_vec()].concat();
    let events = histories::events(false, None, &steps);
    let mut kept: Option<StoredPullRequest> = None;
    for event in &events {
        let read = store.load(&[histories::KEY]).await.unwrap().remove(0);
        if let Some(kept) = kept.take() {
            let kept = store.current(vec![kept]).await.unwrap().remove(0);
            assert_eq!(kept.pull_request, read.pull_request);
            assert_eq!(
                (
                    kept.version,
                    kept.parties_hash,
                    kept.repository.clone(),
                    kept.fills_segment()
                ),
                (
                    read.version,
                    read.parties_hash,
                    read.repository.clone(),
                    read.fills_segment()
                )
            );
        }
        let mut known = read;
        known.pull_request.apply(event, Source::Webhook);
        let reviews = known.pull_request.reviews.keys().copied().collect();
        let write = recording(known, reviews);
        store.record(&write, now()).await.unwrap().unwrap();
        kept = write
            .pull_requests
            .into_iter()
            .map(PullRequestRecord::written)
            .next();
    }
    let stale = kept.unwrap();
    write(&store, &WHOLE_LIFE).await;
    assert_eq!(store.current(vec![stale]).await.unwrap().len(), 0);
    assert_eq!(store.current(Vec::new()).await.unwrap().len(), 0);
}

async fn fetched_timeline_takes_the_place_of_stored_segments(database: Database) {
    let store = open(&database).await;
    let mut expected = write_long_history(&store).await;
    let events = histories::events(false, None, &labels(1_000));
    let fetched = histories::fetched(&events[..600], false, true);
    let mut known = store.load(&[histories::KEY]).await.unwrap().remove(0);
    expected.apply_fetched(&fetched, Source::Poller);
    known.pull_request.apply_fetched(&fetched, Source::Poller);
    assert_eq!(known.pull_request, expected);
    for _ in 0..2 {
        let recording = recording(known, BTreeSet::new());
        store.record(&recording, now()).await.unwrap().unwrap();
        known = store.load(&[histories::KEY]).await.unwrap().remove(0);
        assert_eq!(known.pull_request, expected);
    }
}

async fn write_based_on_an_older_version_is_refused(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE[..2]).await;
    let stale = store.load(&[histories::KEY]).await.unwrap().remove(0);
    write(&store, &WHOLE_LIFE).await;
    let id = accept(&store, "a").await;
    let mut late = recording(stale, BTreeSet::new());
    late.finished = vec![FinishedDelivery::Applied(id)];
    assert_eq!(
        store.record(&late, now()).await.unwrap(),
        Err(VersionConflict)
    );
    assert_eq!(state(&store, id).await.0, DeliveryState::Accepted);
    let read = store.load(&[histories::KEY]).await.unwrap().remove(0);
    assert!(read.pull_request.merged_at.is_some());
}

async fn older_snapshot_is_refused_by_the_database(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    let mut broken = store.load(&[histories::KEY]).await.unwrap().remove(0);
    broken.pull_request.conversation.as_mut().unwrap().at = Timestamp::clamped(0);
    assert_eq!(
        store
            .record(&recording(broken, BTreeSet::new()), now())
            .await
            .unwrap(),
        Err(VersionConflict)
    );
    let mut unmerged = store.load(&[histories::KEY]).await.unwrap().remove(0);
    unmerged.pull_request.merged_at = None;
    assert_eq!(
        store
            .record(&recording(unmerged, BTreeSet::new()), now())
            .await
            .unwrap(),
        Err(VersionConflict)
    );
}

async fn delivery_is_finished_once(database: Database) {
    let store = open(&database).await;
    let id = accept(&store, "a").await;
    let finish = BatchWrite {
        finished: vec![FinishedDelivery::Ignored(id, "seen".to_owned())],
        ..BatchWrite::default()
    };
    assert_eq!(store.record(&finish, now()).await.unwrap(), Ok(()));
    assert_eq!(
        store.record(&finish, now()).await.unwrap(),
        Err(VersionConflict)
    );
}

async fn repository_keeps_its_newest_name_in_any_order(database: Database) {
    let store = open(&database).await;
    let record = async |repository: RepositoryObservation| {
        let recording = BatchWrite {
            repositories: vec![repository],
            ..BatchWrite::default()
        };
        store.record(&recording, now()).await.unwrap().unwrap();
    };
    record(repository(
        200,
        "acme-corp/server",
        RepositoryAccess::Granted,
    ))
    .await;
    record(repository(
        100,
        "acme-corp/api-server",
        RepositoryAccess::Granted,
    ))
    .await;
    // The older name means it, too, and is not its name.
    let id = store.repository_id("acme-corp/api-server").await.unwrap();
    let names = store.repository_names(id.unwrap()).await.unwrap();
    assert_eq!(names, ["acme-corp/server", "acme-corp/api-server"]);
    assert_eq!(
        store.repository_id("Acme-Corp/Server").await.unwrap(),
        Some(RepoId(7))
    );
    record(repository(
        300,
        "acme-corp/backend",
        RepositoryAccess::Granted,
    ))
    .await;
    assert_eq!(
        store.repository_id("acme-corp/backend").await.unwrap(),
        Some(RepoId(7))
    );
}

async fn repository_access_is_that_of_the_newest_change(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    let access = async || {
        store
            .of_team(DEFAULT_TEAM.0)
            .pull_request(histories::KEY)
            .await
            .unwrap()
            .unwrap()
            .repo_access
    };
    let installation = async |at: i64, value: RepositoryAccess| {
        let change = (
            InstallationId(5),
            Dated {
                at: Timestamp::clamped(at),
                value,
            },
        );
        let recording = BatchWrite {
            installations: vec![change],
            ..BatchWrite::default()
        };
        store.record(&recording, now()).await.unwrap().unwrap();
    };
    assert_eq!(access().await, RepositoryAccess::Granted);
    installation(150, RepositoryAccess::Revoked).await;
    assert_eq!(access().await, RepositoryAccess::Revoked);
    installation(150, RepositoryAccess::Granted).await;
    assert_eq!(access().await, RepositoryAccess::Revoked);
    installation(160, RepositoryAccess::Granted).await;
    installation(155, RepositoryAccess::Revoked).await;
    assert_eq!(access().await, RepositoryAccess::Granted);
    let deleted = BatchWrite {
        repositories: vec![repository(
            170,
            "acme-corp/api-server",
            RepositoryAccess::Deleted,
        )],
        ..BatchWrite::default()
    };
    store.record(&deleted, now()).await.unwrap().unwrap();
    assert_eq!(access().await, RepositoryAccess::Deleted);
}

async fn extreme_timestamps_and_numbers_are_read_as_written(database: Database) {
    let store = open(&database).await;
    let (first, last) = (Timestamp::clamped(i64::MIN), Timestamp::clamped(i64::MAX));
    let mut known = store.load(&[histories::KEY]).await.unwrap().remove(0);
    for event in histories::events(false, Some(500), &WHOLE_LIFE) {
        known.pull_request.apply(&event, Source::Webhook);
    }
    known.pull_request.created_at = Some(first);
    known.pull_request.merged_at = Some(first);
    known.pull_request.commits = Some(Dated {
        at: first,
        value: CommitDates {
            first: Some(first),
            last: Some(last),
            prehistoric: true,
            first_authored: Some(first),
            last_authored: Some(last),
            first_committed: None,
            last_committed: Some(last),
        },
    });
    known.pull_request.co_authors = ["a@example.com".to_owned()].into();
    let kinds = [SubjectKind::User, SubjectKind::Team, SubjectKind::Bot];
    let requests = kinds.map(|kind| ((kind, i64::MAX), first));
    known.pull_request.first_requested.extend(requests);
    known.pull_request.requested.as_mut().unwrap().at = last;
    known.pull_request.details.as_mut().unwrap().at = last;
    known.pull_request.merge_state = Some(Dated {
        at: last,
        value: MergeState {
            head_sha: "c0ffee".to_owned(),
            review_decision: Some(ReviewDecision::ChangesRequested),
            conflicting: Some(true),
            required_check_failed_at: Some(first),
            checks_pending_since: Some(last),
        },
    });
    known.pull_request.whole_until = Some(last);
    known.pull_request.truncated_at = Some(first);
    known.pull_request.conversation.as_mut().unwrap().at = last;
    known.pull_request.github_id = Some(i64::MIN);
    known.pull_request.diff.as_mut().unwrap().value.additions = Some(i64::MAX);
    known.pull_request.diff.as_mut().unwrap().at = first;
    let observed = known
        .pull_request
        .observed
        .values()
        .next()
        .copied()
        .unwrap();
    known
        .pull_request
        .observed
        .extend([(first, observed), (last, observed)]);
    let review = known.pull_request.reviews.values_mut().next().unwrap();
    (review.submitted_at, review.dismissed_at) = (first, Some(last));
    let reviews = known.pull_request.reviews.keys().copied().collect();
    store
        .record(&recording(known.clone(), reviews), now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        store.load(&[histories::KEY]).await.unwrap()[0].pull_request,
        known.pull_request
    );

    let row = store
        .of_team(DEFAULT_TEAM.0)
        .pull_request(histories::KEY)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (row.updated_at, row.merged_at, row.github_pr_id),
        (last, Some(first), Some(i64::MIN))
    );
    let ended = PullRequestFilter {
        from: Some(last),
        ..PullRequestFilter::default()
    };
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .pull_requests(&ended, 9)
            .await
            .unwrap(),
        [row]
    );
}

async fn nul_in_a_title_is_stored_as_the_replacement_character(database: Database) {
    let store = open(&database).await;
    let payload =
        br#"{"action": "labeled", "label": {"name": "\u0000"}, "repository": {"id": 7, "full_name": "acme/a"},
        "pull_request": {"id": 1, "number": 3, "title": "a \u0000 and a \\u0000", "body": "\u0000", "state": "open",
        "created_at": "2026-03-02T10:00:00Z", "updated_at": "2026-03-02T10:00:00Z", "labels": [{"name": "\u0000"}],
        "head": {"ref": "\u0000", "sha": "\u0000"}, "base": {"ref": "main", "sha": "1"}}}"#;
    let Ok(Event::PullRequest(event)) = event::decode("pull_request", payload) else {
        panic!("it cannot be decoded")
    };
    let mut known = store.load(&[event.key()]).await.unwrap().remove(0);
    known.pull_request.apply(&event, Source::Webhook);
    store
        .record(&recording(known.clone(), BTreeSet::new()), now())
        .await
        .unwrap()
        .unwrap();
    let read = store.load(&[event.key()]).await.unwrap().remove(0);
    assert_eq!(read.pull_request, known.pull_request);
    let title = read.pull_request.conversation.unwrap().value.title.unwrap();
    assert_eq!(title, "a \u{fffd} and a \\u0000");
}

async fn reviews_are_merged_with_the_stored_ones(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    let mut known = store.load(&[histories::KEY]).await.unwrap().remove(0);
    let before = known.pull_request.reviews.values().next().unwrap().clone();
    assert!(before.dismissed && before.original_state.is_some());
    let reviews = BTreeSet::from([before.id]);
    let review = known.pull_request.reviews.get_mut(&before.id).unwrap();
    let earlier = Timestamp::clamped(before.submitted_at.epoch() - 1);
    (
        review.original_state,
        review.commit_id,
        review.dismissed,
        review.dismissed_at,
    ) = (None, None, false, None);
    (review.submitted_at, review.author.login) = (earlier, "renamed".to_owned());
    store
        .record(&recording(known, reviews), now())
        .await
        .unwrap()
        .unwrap();
    let read = store.load(&[histories::KEY]).await.unwrap().remove(0);
    let mut expected = before.clone();
    (expected.submitted_at, expected.author.login) = (earlier, "renamed".to_owned());
    assert_eq!(read.pull_request.reviews[&before.id], expected);
    assert_eq!((read.version, read.pull_request.reviews.len()), (2, 2));
}

/// Returns a history of one of many pull requests, whose reviews have the ids of all the others.
fn events_of(key: PrKey, steps: &[(i64, Step)]) -> Vec<Event> {
    let events = histories::events(false, Some(500), steps).into_iter();
    let moved = events.map(|mut event| {
        (event.repo.id, event.number) = (key.repo, key.number);
        Event::PullRequestReview(event)
    });
    moved.collect()
}

/// Applies events in batches, as a worker does.
async fn apply_all(store: &Store, events: &[Event]) {
    let rules = ApplyRules {
        numbers: NumberRules::default(),
        patterns: Patterns::parse(Patterns::DEFAULT).unwrap(),
        tracks_pushes: false,
        tracks_waiting: false,
    };
    for batch in events.chunks(50) {
        let deliveries: Vec<_> = batch
            .iter()
            .map(|event| DecodedDelivery {
                id: DeliveryId(0),
                source: Source::Webhook,
                received_at: now(),
                event,
            })
            .collect();
        let keys: Vec<_> = keys_of(&deliveries).into_iter().collect();
        let stored = store.load(&keys).await.unwrap();
        let mut write = apply_batch(&deliveries, stored, &rules).write;
        write.finished.clear();
        store.record(&write, now()).await.unwrap().unwrap();
    }
}

/// Returns every stored pull request with its numbers as they are stored, and as they are computed
/// from what is stored.
async fn rows(store: &Store, keys: &[PrKey]) -> Vec<(PullRequest, String, String)> {
    let mut rows = Vec::new();
    for known in store.load(keys).await.unwrap() {
        let row = store
            .of_team(DEFAULT_TEAM.0)
            .pull_request(known.pull_request.key)
            .await
            .unwrap();
        let row = row.unwrap();
        let stored = (row.first_review_at, row.final_approval_at, row.flags);
        let computed = timings(&known.pull_request, &Bots::default()).unwrap();
        let flags: Vec<&str> = computed.flags.iter().map(|flag| (*flag).into()).collect();
        let computed = (computed.first_review_at, computed.final_approval_at, flags);
        let (stored, computed) = (format!("{stored:?}"), format!("{computed:?}"));
        rows.push((known.pull_request, stored, computed));
    }
    rows
}

async fn review_id_of_another_pull_request_overwrites_nothing(database: Database) {
    let store = open(&database).await;
    let other = PrKey {
        repo: RepoId(8),
        number: PrNumber(4),
    };
    let steps = [(10, Step::Review(1, ReviewState::Approved))];
    apply_all(&store, &events_of(histories::KEY, &steps)).await;
    let before = rows(&store, &[histories::KEY]).await;
    let steps = [(99, Step::Review(2, ReviewState::ChangesRequested))];
    apply_all(&store, &events_of(other, &steps)).await;
    assert_eq!(rows(&store, &[histories::KEY]).await, before);
    let found = store.load(&[histories::KEY, other]).await.unwrap();
    let [one, two] = [&found[0], &found[1]].map(|known| &known.pull_request.reviews);
    assert!(
        one.len() == 1 && one.keys().eq(two.keys()),
        "{one:?} {two:?}"
    );
    assert!(one.values().ne(two.values()));
}

/// 1,500 and more events of 16 pull requests, whose reviews, comments and threads share their ids.
async fn shared_ids_end_in_the_same_rows_in_any_order(database: Database) {
    let opinions = [ReviewState::Approved, ReviewState::ChangesRequested];
    let mut random = StdRng::seed_from_u64(13);
    let (mut keys, mut events) = (Vec::new(), Vec::new());
    for number in 1..=16 {
        let key = PrKey {
            repo: RepoId(number % 3),
            number: PrNumber(number),
        };
        let steps: Vec<_> = (0..120)
            .map(|step| {
                let who = random.random_range(1..5);
                let step = match step % 5 {
                    0 => Step::Comment(who),
                    1 => Step::InlineComment(who),
                    2 => Step::Dismiss(random.random()),
                    3 => Step::Request(1),
                    _ => Step::Review(who, opinions[random.random_range(0..2)]),
                };
                (random.random_range(0..300), step)
            })
            .collect();
        keys.push(key);
        events.extend(events_of(key, &steps));
    }
    assert!(events.len() >= 1_500, "{}", events.len());
    let mut orders = Vec::new();
    for order in 0..2 {
        let database = testkit::database::database(database.backend);
        let store = open(&database).await;
        events.shuffle(&mut StdRng::seed_from_u64(order));
        apply_all(&store, &events).await;
        orders.push(rows(&store, &keys).await);
        store.close().await;
    }
    let differ = (0..16)
        .filter(|pr| orders[0][*pr] != orders[1][*pr])
        .count();
    let stale = orders[0]
        .iter()
        .filter(|(_, stored, computed)| stored != computed);
    assert_eq!((differ, stale.count()), (0, 0), "of 16 pull requests");
}
