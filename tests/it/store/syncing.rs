//! Synchronization with GitHub: tracked repositories, watched pull requests, and their progress.

use std::collections::BTreeSet;

use serde_json::json;
use tallyhook_core::domain::join::{Dated, Join};
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::event::{Fact, FactKind, SubjectKind};
use tallyhook_core::github::types::{InstallationId, PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_store::{
    BatchWrite, DEFAULT_TEAM, PollerStats, PullRequestFilter, RepositoryObservation, RunOptions,
    RunState, Store, SyncOutcome, SyncStatus, TrackedRepository,
};

use super::{WHOLE_LIFE, later, now, open, recording, repository, write};
use testkit::database::Database;
use testkit::histories::{KEY, Step};
use testkit::on_every_database;

on_every_database! {
    first_webhook_tracks_a_repository_and_a_watch_does_not,
    untracked_repository_stays_untracked_until_it_is_tracked_again,
    repository_tracked_again_has_no_earlier_sync_state,
    deliveries_and_missed_changes_are_recorded_with_the_facts,
    watermark_never_moves_back,
    error_stays_until_the_next_success,
    lost_access_is_shown,
    incomplete_pull_requests_are_fetched_by_age_of_their_check,
    as_of_is_the_last_check_with_github,
    pull_request_is_watched_once_in_any_case_of_its_name,
    watch_with_the_oldest_check_is_due_first,
    poller_stats_are_kept,
    former_names_are_the_same_in_any_order,
}

const REPO: RepoId = KEY.repo;

async fn record(store: &Store, observation: RepositoryObservation) {
    let recording = BatchWrite {
        repositories: vec![observation],
        ..BatchWrite::default()
    };
    store.record(&recording, now()).await.unwrap().unwrap();
}

async fn seen(store: &Store) {
    record(
        store,
        repository(100, "acme-corp/api-server", RepositoryAccess::Granted),
    )
    .await;
}

async fn tracked(store: &Store) -> TrackedRepository {
    store.tracked_repository(REPO).await.unwrap().unwrap()
}

async fn first_webhook_tracks_a_repository_and_a_watch_does_not(database: Database) {
    let store = open(&database).await;
    let mut watched = repository(100, "acme-corp/web", RepositoryAccess::Granted);
    (watched.repository.id, watched.tracks) = (RepoId(8), None);
    record(&store, watched.clone()).await;
    seen(&store).await;
    // A webhook of a repository that is only watched does not track it either.
    record(
        &store,
        RepositoryObservation {
            tracks: Some(now()),
            ..watched
        },
    )
    .await;
    let all = store.tracked().await.unwrap();
    assert_eq!(all, [tracked(&store).await]);
    assert_eq!(
        (all[0].id, &*all[0].name, all[0].tracked_since),
        (REPO, "acme-corp/api-server", now())
    );
    assert_eq!(
        (all[0].sync_status, all[0].last_sync_at),
        (SyncStatus::Pending, None)
    );
    assert_eq!(store.tracked_repository(RepoId(8)).await.unwrap(), None);
}

async fn untracked_repository_stays_untracked_until_it_is_tracked_again(database: Database) {
    let store = open(&database).await;
    let RepositoryObservation { mut repository, .. } =
        repository(100, "acme-corp/api-server", RepositoryAccess::Granted);
    assert!(store.track(&repository, now()).await.unwrap());
    assert!(!store.track(&repository, later(1)).await.unwrap());
    assert_eq!(tracked(&store).await.tracked_since, now());
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .untrack(REPO, later(2))
            .await
            .unwrap()
    );
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .untrack(REPO, later(2))
            .await
            .unwrap()
    );
    seen(&store).await;
    assert_eq!(store.tracked().await.unwrap(), []);
    (repository.seen.at, repository.seen.value.name) =
        (Timestamp::clamped(200), "acme-corp/backend".to_owned());
    assert!(store.track(&repository, later(3)).await.unwrap());
    let again = tracked(&store).await;
    assert_eq!(
        (&*again.name, again.tracked_since),
        ("acme-corp/backend", later(3))
    );
}

async fn repository_tracked_again_has_no_earlier_sync_state(database: Database) {
    let store = open(&database).await;
    let RepositoryObservation { repository, .. } =
        repository(100, "acme-corp/api-server", RepositoryAccess::Granted);
    assert!(store.track(&repository, now()).await.unwrap());
    let options = RunOptions {
        days_back: 90,
        max_prs: 1000,
        commits: false,
    };
    store
        .request_run(REPO, &options, now())
        .await
        .unwrap()
        .unwrap();
    let mut run = store
        .claim_run(None, now(), later(10))
        .await
        .unwrap()
        .unwrap();
    (run.state, run.complete_since) = (RunState::Done, Some(Timestamp::clamped(0)));
    assert!(store.save_run(&run, now(), later(10)).await.unwrap());
    let polled = SyncOutcome::Polled {
        watermark: Some(Timestamp::clamped(50)),
        reconciled: true,
    };
    store.record_sync(REPO, &polled, later(1)).await.unwrap();
    store
        .record_sync(
            REPO,
            &SyncOutcome::Failed("GitHub is down".to_owned()),
            later(2),
        )
        .await
        .unwrap();
    let known = |found: &TrackedRepository| {
        [
            found.complete_since,
            found.watermark,
            found.reconciled_at.map(Timestamp::from),
        ]
        .map(|known| known.is_some())
    };
    let before = tracked(&store).await;
    assert!(!store.track(&repository, later(3)).await.unwrap());
    assert_eq!((tracked(&store).await, known(&before)), (before, [true; 3]));
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .untrack(REPO, later(4))
            .await
            .unwrap()
    );
    assert!(store.track(&repository, later(5)).await.unwrap());
    let again = tracked(&store).await;
    assert_eq!(
        (known(&again), &again.last_error, again.sync_status),
        ([false; 3], &None, SyncStatus::Pending)
    );
}

async fn deliveries_and_missed_changes_are_recorded_with_the_facts(database: Database) {
    let store = open(&database).await;
    let observation = |last_delivery| {
        let of_its_time = repository(100, "acme-corp/api-server", RepositoryAccess::Granted);
        RepositoryObservation {
            last_delivery,
            ..of_its_time
        }
    };
    record(&store, observation(None)).await;
    assert_eq!(tracked(&store).await.last_delivery_at, None);
    for last_delivery in [Some(later(5)), Some(later(1)), None] {
        record(&store, observation(last_delivery)).await;
    }
    let two = BatchWrite {
        repositories: vec![observation(Some(later(9))), observation(Some(later(8)))],
        missed: vec![(REPO, 2), (REPO, 1)],
        ..BatchWrite::default()
    };
    store.record(&two, now()).await.unwrap().unwrap();
    store
        .record(
            &BatchWrite {
                missed: vec![(REPO, 4)],
                ..BatchWrite::default()
            },
            now(),
        )
        .await
        .unwrap()
        .unwrap();
    let noted = tracked(&store).await;
    assert_eq!(
        (noted.last_delivery_at, noted.missed_by_webhook),
        (Some(later(9)), 7)
    );
}

async fn watermark_never_moves_back(database: Database) {
    let store = open(&database).await;
    seen(&store).await;
    let at = |seconds| Some(Timestamp::clamped(seconds));
    for (at_second, watermark, reconciled, expected) in [
        (1, None, false, (None, None)),
        (2, at(50), true, (at(50), Some(later(2)))),
        (3, at(49), false, (at(50), Some(later(2)))),
        (4, None, false, (at(50), Some(later(2)))),
        (5, at(51), true, (at(51), Some(later(5)))),
    ] {
        let polled = SyncOutcome::Polled {
            watermark,
            reconciled,
        };
        store
            .record_sync(REPO, &polled, later(at_second))
            .await
            .unwrap();
        let found = tracked(&store).await;
        assert_eq!((found.watermark, found.reconciled_at), expected);
        assert_eq!(
            (found.sync_status, found.last_sync_at),
            (SyncStatus::Synced, Some(later(at_second)))
        );
    }
}

async fn error_stays_until_the_next_success(database: Database) {
    let store = open(&database).await;
    seen(&store).await;
    let state = async |state| {
        store.record_sync(REPO, &state, later(1)).await.unwrap();
        let found = tracked(&store).await;
        (found.sync_status, found.last_error, found.last_sync_at)
    };
    let error = Some("a \u{fffd} error".to_owned());
    assert_eq!(
        state(SyncOutcome::Failed("a \0 error".to_owned())).await,
        (SyncStatus::Error, error, None)
    );
    let polled = SyncOutcome::Polled {
        watermark: None,
        reconciled: false,
    };
    assert_eq!(
        state(polled).await,
        (SyncStatus::Synced, None, Some(later(1)))
    );
}

async fn lost_access_is_shown(database: Database) {
    let store = open(&database).await;
    seen(&store).await;
    assert_eq!(tracked(&store).await.access, RepositoryAccess::Granted);
    let revoked = Dated {
        at: Timestamp::clamped(150),
        value: RepositoryAccess::Revoked,
    };
    let recording = BatchWrite {
        installations: vec![(InstallationId(5), revoked)],
        ..BatchWrite::default()
    };
    store.record(&recording, now()).await.unwrap().unwrap();
    assert_eq!(tracked(&store).await.access, RepositoryAccess::Revoked);
}

fn request(subject_kind: Option<SubjectKind>) -> Fact {
    Fact {
        at: Timestamp::clamped(1_772_445_700),
        kind: FactKind::ReviewRequested,
        subject: Some(5),
        subject_kind,
        detail: Some("backend".to_owned()),
        actor: None,
    }
}

/// Writes the same pull request under other numbers, each changed a little.
async fn copies(
    store: &Store,
    numbers: &[i64],
    change: impl Fn(&mut tallyhook_core::domain::pull_request::PullRequest),
) {
    let known = write(store, &[(10, Step::Comment(2))]).await;
    for number in numbers {
        let mut copy = known.clone();
        copy.version = 0;
        copy.pull_request.key.number = PrNumber(*number);
        copy.pull_request.reviews.clear();
        change(&mut copy.pull_request);
        store
            .record(&recording(copy, BTreeSet::new()), now())
            .await
            .unwrap()
            .unwrap();
    }
}

async fn incomplete_pull_requests_are_fetched_by_age_of_their_check(database: Database) {
    let store = open(&database).await;
    copies(&store, &[11, 15, 12], |pull_request| {
        pull_request.diff = None
    })
    .await;
    copies(&store, &[13], |_| {}).await;
    // Requests that do not say of what kind the reviewer is; those of a closed one do not matter.
    for (numbers, open) in [([14, 16], true), ([17, 18], false)] {
        copies(&store, &numbers, |pull_request| {
            pull_request.conversation.as_mut().unwrap().value.open = open;
            pull_request.timeline.add(request(None));
        })
        .await;
    }
    copies(&store, &[19], |pull_request| {
        pull_request.timeline.add(request(Some(SubjectKind::Team)));
    })
    .await;
    let unfetched = async |limit| {
        store
            .incomplete_pull_requests(REPO, later(60), limit)
            .await
            .unwrap()
    };
    assert_eq!(unfetched(2).await, [PrNumber(16), PrNumber(15)]);
    assert_eq!(unfetched(9).await, [16, 15, 14, 12, 11].map(PrNumber));
    // They are known by now.
    for number in [14, 16] {
        let key = PrKey {
            number: PrNumber(number),
            ..KEY
        };
        let mut known = store.load(&[key]).await.unwrap().remove(0);
        known
            .pull_request
            .timeline
            .add(request(Some(SubjectKind::User)));
        let recording = recording(known, BTreeSet::new());
        store.record(&recording, now()).await.unwrap().unwrap();
    }
    assert_eq!(unfetched(9).await, [15, 12, 11].map(PrNumber));
    assert_eq!(
        store
            .incomplete_pull_requests(RepoId(8), later(60), 9)
            .await
            .unwrap(),
        []
    );
    // Pull requests that cannot be fetched do not keep the others from their turn.
    for (number, at_second) in [(15, 60), (12, 59), (10, 58), (13, 0)] {
        store
            .mark_checked(
                &[PrKey {
                    number: PrNumber(number),
                    ..KEY
                }],
                later(at_second),
            )
            .await
            .unwrap();
    }
    assert_eq!(unfetched(9).await, [11, 12].map(PrNumber));
    store
        .mark_checked(
            &[PrKey {
                number: PrNumber(11),
                ..KEY
            }],
            later(58),
        )
        .await
        .unwrap();
    assert_eq!(unfetched(9).await, [11, 12].map(PrNumber));
    store
        .mark_checked(
            &[PrKey {
                number: PrNumber(11),
                ..KEY
            }],
            later(59),
        )
        .await
        .unwrap();
    assert_eq!(unfetched(9).await, [12, 11].map(PrNumber));
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .untrack(REPO, now())
            .await
            .unwrap()
    );
    assert_eq!(unfetched(9).await, []);
}

async fn as_of_is_the_last_check_with_github(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    let as_of = async || {
        let row = store
            .of_team(DEFAULT_TEAM.0)
            .pull_request(KEY)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            store
                .of_team(DEFAULT_TEAM.0)
                .pull_requests(&PullRequestFilter::default(), 9)
                .await
                .unwrap(),
            std::slice::from_ref(&row)
        );
        row.as_of
    };
    let updated = store
        .of_team(DEFAULT_TEAM.0)
        .pull_request(KEY)
        .await
        .unwrap()
        .unwrap()
        .updated_at;
    assert_eq!(as_of().await, updated);
    let at = |seconds: i64| Timestamp::clamped(updated.epoch() + seconds);
    let other = PrKey {
        number: PrNumber(99),
        ..KEY
    };
    store.mark_checked(&[other], at(90).to_utc()).await.unwrap();
    store
        .mark_checked(&[KEY, KEY], at(-5).to_utc())
        .await
        .unwrap();
    assert_eq!(as_of().await, updated);
    store
        .mark_checked(&[KEY, other], at(9).to_utc())
        .await
        .unwrap();
    store.mark_checked(&[KEY], at(8).to_utc()).await.unwrap();
    assert_eq!(as_of().await, at(9));
    let polled = SyncOutcome::Polled {
        watermark: None,
        reconciled: false,
    };
    store
        .record_sync(REPO, &polled, at(7).to_utc())
        .await
        .unwrap();
    assert_eq!(as_of().await, at(9));
    store
        .record_sync(REPO, &polled, at(10).to_utc())
        .await
        .unwrap();
    assert_eq!(as_of().await, at(10));
}

async fn pull_request_is_watched_once_in_any_case_of_its_name(database: Database) {
    let store = open(&database).await;
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .watch("Other/Repo", PrNumber(5), now())
            .await
            .unwrap()
    );
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .watch("other/repo", PrNumber(5), later(1))
            .await
            .unwrap()
    );
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .watch("other/repo", PrNumber(6), now())
            .await
            .unwrap()
    );
    let watched = store.watched(now(), 9).await.unwrap();
    assert_eq!(watched.len(), 2);
    assert_eq!(
        (&*watched[0].repo_name, watched[0].number, watched[0].since),
        ("Other/Repo", PrNumber(5), now())
    );
    let of = async |name| {
        store
            .of_team(DEFAULT_TEAM.0)
            .watch_of(name, PrNumber(5))
            .await
            .unwrap()
    };
    assert_eq!(of("OTHER/repo").await.unwrap().since, now());
    assert!(of("other/repo2").await.is_none());
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .unwatch("OTHER/REPO", PrNumber(5))
            .await
            .unwrap()
    );
    assert!(of("OTHER/repo").await.is_none());
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .unwatch("OTHER/REPO", PrNumber(5))
            .await
            .unwrap()
    );
    assert_eq!(store.watched(now(), 9).await.unwrap().len(), 1);
}

async fn watch_with_the_oldest_check_is_due_first(database: Database) {
    let store = open(&database).await;
    for number in 1..=4 {
        store
            .of_team(DEFAULT_TEAM.0)
            .watch("acme/a", PrNumber(number), now())
            .await
            .unwrap();
    }
    let checked = async |number, at_second, outcome| {
        store
            .record_watch_check("Acme/A", PrNumber(number), later(at_second), outcome)
            .await
            .unwrap();
    };
    checked(1, 30, Ok(())).await;
    checked(2, 20, Err("GitHub is silent")).await;
    checked(2, 21, Err("GitHub has no \0")).await;
    checked(4, 40, Ok(())).await;
    let due = store.watched(later(40), 9).await.unwrap();
    assert_eq!(
        due.iter()
            .map(|watched| watched.number.0)
            .collect::<Vec<_>>(),
        [3, 2, 1]
    );
    assert_eq!(
        (due[1].failures, due[1].error.as_deref()),
        (2, Some("GitHub has no \u{fffd}"))
    );
    assert_eq!(
        (due[0].checked_at, due[1].checked_at),
        (None, Some(later(21)))
    );
    assert_eq!(store.watched(later(40), 1).await.unwrap(), due[..1]);
    checked(2, 22, Ok(())).await;
    let better = &store.watched(later(23), 9).await.unwrap()[1];
    assert_eq!(
        (better.number, better.failures, &better.error),
        (PrNumber(2), 0, &None)
    );
}

async fn poller_stats_are_kept(database: Database) {
    let store = open(&database).await;
    assert_eq!(store.poller_stats().await.unwrap(), PollerStats::default());
    store.request_poll(now()).await.unwrap();
    assert_eq!(store.poller_stats().await.unwrap().asked_at, Some(now()));
    store.start_poll(later(1)).await.unwrap();
    let running = PollerStats {
        running_since: Some(later(1)),
        ..PollerStats::default()
    };
    assert_eq!(store.poller_stats().await.unwrap(), running);
    // A request during a poll causes another poll after it.
    store.request_poll(later(2)).await.unwrap();
    let statistics = json!({"remaining": 4900, "breaker": "closed"});
    store.finish_poll(later(3), 2, &statistics).await.unwrap();
    let stats = store.poller_stats().await.unwrap();
    assert_eq!(
        (stats.running_since, stats.asked_at, stats.last_sync_at),
        (None, Some(later(2)), Some(later(3)))
    );
    assert_eq!(
        (stats.sync_count, stats.error_count, stats.statistics),
        (1, 2, Some(statistics))
    );
    store.start_poll(later(4)).await.unwrap();
    store.finish_poll(later(5), 1, &json!(null)).await.unwrap();
    let stats = store.poller_stats().await.unwrap();
    assert_eq!(
        (stats.sync_count, stats.error_count, stats.asked_at),
        (2, 3, None)
    );
}

async fn former_names_are_the_same_in_any_order(database: Database) {
    let store = open(&database).await;
    let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]];
    for (id, order) in (10..).step_by(2).zip(orders) {
        // In a batch of each, and all in one.
        for together in [false, true] {
            let repo = RepoId(id + i64::from(together));
            let names = ["api", "backend", "core"].map(|name| format!("acme/{name}-{repo}"));
            let sights = order.map(|place| {
                let at = 100 * i64::try_from(place).unwrap();
                let name = names[place].to_ascii_uppercase();
                let mut seen = repository(at, &name, RepositoryAccess::Granted);
                seen.repository.id = repo;
                seen
            });
            if together {
                let [mut joined, second, third] = sights;
                joined.join(second);
                joined.join(third);
                record(&store, joined).await;
            } else {
                for seen in sights {
                    record(&store, seen).await;
                }
            }
            let [api, backend, core] = names;
            let found = store.repository_names(repo).await.unwrap();
            assert_eq!(
                found,
                [core.to_ascii_uppercase(), api, backend],
                "{order:?}"
            );
        }
    }
    let mut first = repository(100, "acme/api", RepositoryAccess::Granted);
    first.repository.id = RepoId(98);
    record(&store, first.clone()).await;
    (first.repository.seen.at, first.repository.seen.value.name) =
        (Timestamp::clamped(120), "acme/core".to_owned());
    record(&store, first).await;
    let id = async |name: &str| store.repository_id(name).await.unwrap();
    assert_eq!(id("acme/api").await, Some(RepoId(98)));
    // Of several that had a name, the one that has it now, else the last to have it.
    let mut taken = repository(150, "acme/api", RepositoryAccess::Granted);
    taken.repository.id = RepoId(99);
    record(&store, taken).await;
    assert_eq!(id("ACME/api").await, Some(RepoId(99)));
    let mut renamed = repository(400, "acme/web", RepositoryAccess::Granted);
    renamed.repository.id = RepoId(99);
    record(&store, renamed).await;
    assert_eq!(id("acme/api").await, Some(RepoId(99)));
    for none in ["acme/none", "acme", "acme/a\"b", ""] {
        assert_eq!(id(none).await, None, "{none}");
    }
}
