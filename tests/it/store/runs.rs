//! Backfills: one at a time of each repository, run by one process at a time, and none lost.

use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::github::types::{RepoId, Timestamp};
use tallyhook_store::{
    BatchWrite, DEFAULT_TEAM, MAX_RUN_ERRORS, PullRequestError, RepositoryFilter, RunFilter,
    RunOptions, RunState, Store, SyncOutcome, SyncRun, SyncRunId, SyncStatus, TrackedRepository,
};

use super::{histories, later, now, open, repository};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    repository_has_one_unfinished_run,
    run_is_claimed_once_and_again_after_its_lease,
    run_is_read_as_saved,
    errors_of_a_run_are_kept_up_to_the_limit,
    failed_run_resumes_with_its_progress,
    error_of_a_run_stands_until_one_succeeds,
    finished_run_extends_the_complete_range,
    process_that_lost_a_run_writes_nothing,
    cancelled_run_is_final,
    untracking_cancels_the_run_of_the_repository,
    released_run_is_claimed_by_the_next_process,
    last_twenty_runs_are_kept,
    backfills_are_counted_by_state_with_the_time_of_those_that_are_done,
    repository_is_incomplete_until_all_of_its_last_backfill_was_fetched,
}

const REPO: RepoId = histories::KEY.repo;
const OTHER: RepoId = RepoId(8);
const OPTIONS: RunOptions = RunOptions {
    days_back: 90,
    max_prs: 1000,
    commits: false,
};

/// Opens a store with two repositories.
async fn open_with_two_repositories(database: &Database) -> Store {
    let store = open(database).await;
    let mut other = repository(100, "acme-corp/web", RepositoryAccess::Granted);
    other.repository.id = OTHER;
    let repositories = vec![
        repository(100, "acme-corp/api-server", RepositoryAccess::Granted),
        other,
    ];
    store
        .record(
            &BatchWrite {
                repositories,
                ..BatchWrite::default()
            },
            now(),
        )
        .await
        .unwrap()
        .unwrap();
    store
}

async fn ask(store: &Store, repo: RepoId, at_second: i64) -> SyncRun {
    store
        .request_run(repo, &OPTIONS, later(at_second))
        .await
        .unwrap()
        .unwrap()
}

/// Claims a run for ten seconds.
async fn take(store: &Store, at_second: i64) -> Option<SyncRun> {
    store
        .claim_run(None, later(at_second), later(at_second + 10))
        .await
        .unwrap()
}

async fn save(store: &Store, run: &SyncRun, at_second: i64) -> bool {
    store
        .save_run(run, later(at_second), later(at_second + 10))
        .await
        .unwrap()
}

fn of(repo: RepoId) -> RunFilter {
    RunFilter {
        repo: Some(repo),
        ..RunFilter::default()
    }
}

async fn read(store: &Store, run: SyncRunId) -> SyncRun {
    store
        .of_team(DEFAULT_TEAM.0)
        .sync_run(run)
        .await
        .unwrap()
        .unwrap()
}

async fn tracked(store: &Store) -> TrackedRepository {
    store.tracked_repository(REPO).await.unwrap().unwrap()
}

async fn repository_has_one_unfinished_run(database: Database) {
    let store = open_with_two_repositories(&database).await;
    assert_eq!(
        store.request_run(RepoId(9), &OPTIONS, now()).await.unwrap(),
        None
    );
    let asked =
        futures_util::future::join_all((0..8).map(|at_second| ask(&store, REPO, at_second))).await;
    assert!(asked.iter().all(|run| run == &asked[0]), "{asked:?}");
    assert_eq!(
        (asked[0].state, asked[0].options, &*asked[0].repo_name),
        (RunState::Queued, OPTIONS, "acme-corp/api-server")
    );
    assert_eq!(
        (asked[0].started_at, asked[0].finished_at, &asked[0].walk),
        (None, None, &None)
    );
    assert_eq!(tracked(&store).await.sync_status, SyncStatus::Pending);
    let taken = take(&store, 20).await.unwrap();
    let more = RunOptions {
        days_back: 365,
        ..OPTIONS
    };
    assert_eq!(
        store.request_run(REPO, &more, later(21)).await.unwrap(),
        Some(taken.clone())
    );
    let other = ask(&store, OTHER, 22).await;
    assert_ne!(other.id, taken.id);
    let every = RunFilter::default();
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .sync_runs(&every, None, 9)
            .await
            .unwrap(),
        [other.clone(), taken.clone()]
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .sync_runs(&every, Some(other.id), 9)
            .await
            .unwrap(),
        std::slice::from_ref(&taken)
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .sync_runs(&of(OTHER), None, 9)
            .await
            .unwrap(),
        std::slice::from_ref(&other)
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .sync_runs(&every, None, 1)
            .await
            .unwrap(),
        [other]
    );
    assert_eq!(store.latest_runs().await.unwrap().len(), 2);
}

async fn run_is_claimed_once_and_again_after_its_lease(database: Database) {
    let store = open_with_two_repositories(&database).await;
    assert_eq!(take(&store, 0).await, None);
    let (second, first) = (ask(&store, OTHER, 1).await, ask(&store, REPO, 0).await);
    assert_eq!(
        store
            .claim_run(Some(RepoId(9)), later(2), later(12))
            .await
            .unwrap(),
        None
    );
    let taken = futures_util::future::join_all((0..4).map(|_| take(&store, 2))).await;
    let taken: Vec<_> = taken
        .into_iter()
        .flatten()
        .map(|run| (run.state, run.id))
        .collect();
    assert_eq!(taken.len(), 2);
    assert!(
        taken.contains(&(RunState::Running, first.id))
            && taken.contains(&(RunState::Running, second.id))
    );
    assert_eq!(tracked(&store).await.sync_status, SyncStatus::Syncing);
    assert_eq!(take(&store, 11).await, None);
    let again = take(&store, 12).await.unwrap();
    assert_eq!((again.id, again.started_at), (first.id, Some(later(2))));
    let of_other = store
        .claim_run(Some(OTHER), later(12), later(22))
        .await
        .unwrap();
    assert_eq!(of_other.map(|run| run.id), Some(second.id));
    assert!(store.renew_run(&again, later(40)).await.unwrap());
    assert_eq!(
        store
            .claim_run(Some(REPO), later(39), later(50))
            .await
            .unwrap(),
        None
    );
    assert!(
        store
            .claim_run(Some(REPO), later(40), later(50))
            .await
            .unwrap()
            .is_some()
    );
}

async fn run_is_read_as_saved(database: Database) {
    let store = open_with_two_repositories(&database).await;
    ask(&store, REPO, 0).await;
    let mut run = take(&store, 1).await.unwrap();
    run.walk = Some(r#"{"cursor":"a\u0000b"}"#.to_owned());
    (
        run.prs_done,
        run.prs_total,
        run.reviews_synced,
        run.github_requests,
    ) = (25, Some(80), 31, 3);
    run.errors = vec![PullRequestError {
        pr: 7,
        error: "it is \"too large\"".to_owned(),
    }];
    assert!(save(&store, &run, 2).await);
    assert_eq!(read(&store, run.id).await, run);
    assert_eq!(tracked(&store).await.sync_status, SyncStatus::Syncing);
}

async fn errors_of_a_run_are_kept_up_to_the_limit(database: Database) {
    let store = open_with_two_repositories(&database).await;
    ask(&store, REPO, 0).await;
    let mut run = take(&store, 1).await.unwrap();
    run.errors = (0..1500)
        .map(|pr| PullRequestError {
            pr,
            error: "it is gone".to_owned(),
        })
        .collect();
    assert!(save(&store, &run, 2).await);
    assert_eq!(
        read(&store, run.id).await.errors,
        run.errors[..MAX_RUN_ERRORS]
    );
}

async fn failed_run_resumes_with_its_progress(database: Database) {
    let store = open_with_two_repositories(&database).await;
    ask(&store, REPO, 0).await;
    let mut run = take(&store, 1).await.unwrap();
    run.walk = Some("{}".to_owned());
    (run.state, run.error, run.prs_done) = (
        RunState::Failed,
        Some("the token is \0 revoked".to_owned()),
        50,
    );
    assert!(save(&store, &run, 5).await);
    let failed = tracked(&store).await;
    assert_eq!(
        (failed.sync_status, failed.last_sync_at),
        (SyncStatus::Error, None)
    );
    assert_eq!(
        failed.last_error.as_deref(),
        Some("the token is \u{fffd} revoked")
    );
    assert_eq!(read(&store, run.id).await.finished_at, Some(later(5)));

    let again = ask(&store, REPO, 6).await;
    assert_eq!(
        (again.id, again.state, again.finished_at),
        (run.id, RunState::Queued, None)
    );
    assert_eq!(
        (again.walk.as_deref(), again.prs_done, again.asked_at),
        (Some("{}"), 50, later(6))
    );
    let mut taken = take(&store, 7).await.unwrap();
    assert_eq!(taken.started_at, Some(later(1)));
    (taken.state, taken.error) = (RunState::Failed, Some("the network".to_owned()));
    assert!(save(&store, &taken, 8).await);
    // Other options start a new run, and so does a run without a cursor.
    let more = RunOptions {
        days_back: 365,
        ..OPTIONS
    };
    let new_run = store
        .request_run(REPO, &more, later(9))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((new_run.id > run.id, new_run.walk), (true, None));
    let mut new_run = take(&store, 10).await.unwrap();
    new_run.state = RunState::Failed;
    assert!(save(&store, &new_run, 11).await);
    let third = store
        .request_run(REPO, &more, later(12))
        .await
        .unwrap()
        .unwrap();
    assert!(third.id > new_run.id);
}

async fn error_of_a_run_stands_until_one_succeeds(database: Database) {
    let store = open_with_two_repositories(&database).await;
    let polled = SyncOutcome::Polled {
        watermark: None,
        reconciled: false,
    };
    // Returns the status after a poll round that found nothing wrong.
    let after_round = async |at_second| {
        store
            .record_sync(REPO, &polled, later(at_second))
            .await
            .unwrap();
        let repository = tracked(&store).await;
        (repository.sync_status, repository.last_error)
    };
    let failed = |why: &str| (SyncStatus::Error, Some(why.to_owned()));
    ask(&store, REPO, 0).await;
    assert_eq!(after_round(1).await, (SyncStatus::Syncing, None));
    let mut run = take(&store, 2).await.unwrap();
    // One that waits for GitHub goes on later.
    run.error = Some("GitHub is down".to_owned());
    assert!(save(&store, &run, 3).await);
    assert_eq!(after_round(4).await, failed("GitHub is down"));
    run.error = None;
    assert!(save(&store, &run, 5).await);
    assert_eq!(after_round(6).await, (SyncStatus::Syncing, None));
    run.walk = Some("{}".to_owned());
    (run.state, run.error) = (RunState::Failed, Some("revoked".to_owned()));
    assert!(save(&store, &run, 7).await);
    assert_eq!(after_round(8).await, failed("revoked"));
    ask(&store, REPO, 9).await;
    assert_eq!(after_round(10).await, failed("revoked"));
    // All is there but some facts, which GitHub withholds.
    let mut run = take(&store, 11).await.unwrap();
    (run.state, run.error) = (RunState::Done, Some("no teams".to_owned()));
    assert!(save(&store, &run, 12).await);
    assert_eq!(after_round(13).await, failed("no teams"));
    ask(&store, REPO, 14).await;
    let mut run = take(&store, 15).await.unwrap();
    assert_eq!(run.error, None);
    run.state = RunState::Done;
    assert!(save(&store, &run, 16).await);
    assert_eq!(after_round(17).await, (SyncStatus::Synced, None));
}

async fn finished_run_extends_the_complete_range(database: Database) {
    let store = open_with_two_repositories(&database).await;
    store
        .record_sync(REPO, &SyncOutcome::Failed("it was down".to_owned()), now())
        .await
        .unwrap();
    let at = |seconds| Some(Timestamp::clamped(seconds));
    for (at_second, complete_since, expected) in [
        (10, at(500), at(500)),
        (20, at(400), at(400)),
        (30, at(450), at(400)),
        (40, None, at(400)),
    ] {
        ask(&store, REPO, at_second).await;
        let mut run = take(&store, at_second + 1).await.unwrap();
        (run.state, run.complete_since) = (RunState::Done, complete_since);
        assert!(save(&store, &run, at_second + 2).await);
        let repository = tracked(&store).await;
        assert_eq!(
            (repository.complete_since, repository.last_sync_at),
            (expected, Some(later(at_second + 2)))
        );
        assert_eq!(
            (repository.sync_status, repository.last_error),
            (SyncStatus::Synced, None)
        );
        assert_eq!(read(&store, run.id).await.complete_since, complete_since);
    }
}

async fn process_that_lost_a_run_writes_nothing(database: Database) {
    let store = open_with_two_repositories(&database).await;
    ask(&store, REPO, 0).await;
    let mut lost = take(&store, 0).await.unwrap();
    let taken = take(&store, 10).await.unwrap();
    assert_eq!((lost.id, lost == taken), (taken.id, false));
    (lost.state, lost.prs_done) = (RunState::Done, 99);
    assert!(!save(&store, &lost, 11).await);
    assert!(!store.renew_run(&lost, later(60)).await.unwrap());
    assert_eq!(read(&store, lost.id).await, taken);
    assert_eq!(tracked(&store).await.sync_status, SyncStatus::Syncing);
    assert!(save(&store, &taken, 11).await);
}

async fn cancelled_run_is_final(database: Database) {
    let store = open_with_two_repositories(&database).await;
    ask(&store, REPO, 0).await;
    let polled = SyncOutcome::Polled {
        watermark: None,
        reconciled: false,
    };
    store.record_sync(REPO, &polled, later(1)).await.unwrap();
    assert_eq!(tracked(&store).await.sync_status, SyncStatus::Syncing);
    let run = take(&store, 1).await.unwrap();
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .cancel_run(run.id, later(2))
            .await
            .unwrap()
    );
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .cancel_run(run.id, later(3))
            .await
            .unwrap()
    );
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .cancel_run(SyncRunId(run.id.0 + 1), later(3))
            .await
            .unwrap()
    );
    assert!(!save(&store, &run, 3).await);
    assert!(!store.renew_run(&run, later(60)).await.unwrap());
    let cancelled = read(&store, run.id).await;
    assert_eq!(
        (cancelled.state, cancelled.finished_at),
        (RunState::Cancelled, Some(later(2)))
    );
    assert_eq!(tracked(&store).await.sync_status, SyncStatus::Synced);
    let next = ask(&store, REPO, 4).await;
    assert!(next.id > run.id);
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .cancel_run(next.id, later(5))
            .await
            .unwrap()
    );
    assert_eq!(take(&store, 60).await, None);
}

async fn untracking_cancels_the_run_of_the_repository(database: Database) {
    let store = open_with_two_repositories(&database).await;
    let (run, other) = (ask(&store, REPO, 0).await, ask(&store, OTHER, 0).await);
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .untrack(REPO, later(1))
            .await
            .unwrap()
    );
    assert_eq!(read(&store, run.id).await.state, RunState::Cancelled);
    assert_eq!(read(&store, other.id).await.state, RunState::Queued);
}

async fn released_run_is_claimed_by_the_next_process(database: Database) {
    let store = open_with_two_repositories(&database).await;
    ask(&store, REPO, 0).await;
    let mut run = take(&store, 1).await.unwrap();
    (run.state, run.prs_done) = (RunState::Queued, 25);
    assert!(save(&store, &run, 2).await);
    assert!(!save(&store, &run, 2).await);
    assert_eq!(tracked(&store).await.sync_status, SyncStatus::Pending);
    let next = take(&store, 2).await.unwrap();
    assert_eq!(
        (next.id, next.prs_done, next.started_at),
        (run.id, 25, Some(later(1)))
    );
}

async fn last_twenty_runs_are_kept(database: Database) {
    let store = open_with_two_repositories(&database).await;
    ask(&store, OTHER, 0).await;
    for at_second in 1..=23 {
        ask(&store, REPO, at_second).await;
        let mut run = store
            .claim_run(Some(REPO), later(at_second), later(at_second))
            .await
            .unwrap()
            .unwrap();
        run.state = RunState::Done;
        assert!(save(&store, &run, at_second).await);
    }
    let kept = store
        .of_team(DEFAULT_TEAM.0)
        .sync_runs(&of(REPO), None, 100)
        .await
        .unwrap();
    let asked: Vec<_> = kept
        .iter()
        .map(|run| (run.asked_at - now()).num_seconds())
        .collect();
    assert_eq!(asked, (4..=23).rev().collect::<Vec<_>>());
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .sync_runs(&of(OTHER), None, 100)
            .await
            .unwrap()
            .len(),
        1
    );
}

async fn backfills_are_counted_by_state_with_the_time_of_those_that_are_done(database: Database) {
    let store = open_with_two_repositories(&database).await;
    let before = store.backfill_counts().await.unwrap();
    assert_eq!((before.attempted(), before.seconds_per_100()), (0, None));
    for (at_second, repo, state, prs_done) in [
        (10, REPO, RunState::Done, 40),
        (20, OTHER, RunState::Failed, 7),
        (30, REPO, RunState::Cancelled, 0),
        (40, OTHER, RunState::Done, 10),
    ] {
        ask(&store, repo, at_second).await;
        let mut run = take(&store, at_second).await.unwrap();
        run.prs_done = prs_done;
        run.error = (state == RunState::Failed).then(|| "GitHub answered 502".to_owned());
        run.state = state;
        assert!(save(&store, &run, at_second + 5).await);
    }
    ask(&store, REPO, 50).await;
    let counts = store.backfill_counts().await.unwrap();
    assert_eq!((counts.queued, counts.running, counts.cancelled), (1, 0, 1));
    assert_eq!((counts.attempted(), counts.done, counts.failed), (3, 2, 1));
    // Ten seconds for fifty pull requests.
    assert_eq!((counts.seconds, counts.pull_requests), (10, 50));
    assert_eq!(counts.seconds_per_100(), Some(20.0));
    let attempted = RunFilter {
        states: vec![RunState::Done, RunState::Failed],
        ..RunFilter::default()
    };
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .count_runs(&attempted)
            .await
            .unwrap(),
        3
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .sync_runs(&attempted, None, 9)
            .await
            .unwrap()
            .len(),
        3
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .count_runs(&of(OTHER))
            .await
            .unwrap(),
        2
    );
}

async fn repository_is_incomplete_until_all_of_its_last_backfill_was_fetched(database: Database) {
    let store = open_with_two_repositories(&database).await;
    let incomplete = RepositoryFilter {
        incomplete: true,
        ..RepositoryFilter::default()
    };
    for (at_second, state, failed, expected) in [
        (10, RunState::Failed, false, 2),
        (20, RunState::Done, true, 2),
        (30, RunState::Cancelled, false, 2),
        (40, RunState::Done, false, 1),
    ] {
        ask(&store, REPO, at_second).await;
        let mut run = take(&store, at_second).await.unwrap();
        run.state = state;
        run.complete_since = Some(Timestamp::clamped(1_700_000_000));
        run.error = (state == RunState::Failed).then(|| "GitHub answered 502".to_owned());
        let error = PullRequestError {
            pr: 7,
            error: "GitHub answered 502".to_owned(),
        };
        run.errors = failed.then_some(error).into_iter().collect();
        assert!(save(&store, &run, at_second).await);
        let counts = store.repository_counts().await.unwrap();
        assert_eq!(
            (counts.all(), counts.incomplete),
            (2, expected),
            "{at_second}"
        );
        assert_eq!(
            store
                .of_team(DEFAULT_TEAM.0)
                .count_listed(incomplete)
                .await
                .unwrap(),
            expected
        );
        let listed = store
            .of_team(DEFAULT_TEAM.0)
            .listed_after(incomplete, None, 9)
            .await
            .unwrap();
        let (_, gaps) = store
            .of_team(DEFAULT_TEAM.0)
            .repository_gaps(None)
            .await
            .unwrap();
        let names: Vec<_> = listed.iter().map(|listed| &listed.name).collect();
        assert_eq!(names, gaps.iter().map(|gap| &gap.repo).collect::<Vec<_>>());
        assert_eq!(names.len() as u64, expected);
    }
    let counts = store.repository_counts().await.unwrap();
    assert_eq!((counts.synced, counts.pending), (1, 1));
    let synced = RepositoryFilter {
        status: Some(SyncStatus::Synced),
        ..RepositoryFilter::default()
    };
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .count_listed(synced)
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .count_listed(RepositoryFilter::default())
            .await
            .unwrap(),
        2
    );
}
