//! Behaviour of PostgreSQL alone: several processes, cancelled calls, a server that goes away.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{join, join3, maybe_done};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use sqlx::Connection;
use sqlx_postgres::PgConnection;
use tallyhook::leader::LeaderLease;
use tallyhook_core::domain::notification::PullRequestStatus;
use tallyhook_core::domain::task::TaskKey;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};
use tallyhook_store::{
    AcceptOutcome, BatchWrite, DeadLetterMatch, DeadLetterSelection, DeliveryFilter, DeliveryState,
    EventId, FinishedDelivery, LeaderRole, OpenMode, RunOptions, StorageFault, Store,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{
    WHOLE_LIFE, accept, claim, delivery, eventually, histories, later, now, open, outbox, pending,
    recording, repository, write,
};
use testkit::database::{Backend, Database, database};

/// Counts the connections of stores to this database that have an open statement or transaction.
const BUSY: &str = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'tallyhook' \
                    AND state <> 'idle'";
const OURS: &str = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'tallyhook'";

/// The limit of every wait for a notification.
const PATIENCE: Duration = Duration::from_secs(40);

const OPTIONS: RunOptions = RunOptions {
    days_back: 90,
    max_prs: 1000,
    commits: false,
};

fn postgres() -> Database {
    database(Backend::Postgres)
}

async fn recorded(store: &Store) -> bool {
    let known = store.load(&[histories::KEY]).await.unwrap().remove(0);
    store
        .record(&recording(known, BTreeSet::new()), now())
        .await
        .unwrap()
        .is_ok()
}

/// Polls a call at most that often, and cancels it then. Returns true if it was finished.
async fn finished_within_polls(times: u32, call: impl Future<Output = ()>) -> bool {
    let (mut call, mut left) = (pin!(call), times);
    poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending if left == 0 => Poll::Ready(false),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Returns another address of a server, a proxy. On the first connection with a request that
/// `vanishes_on` accepts, the answer to it is the last data in either direction, as if the server
/// had lost its power. `vanished` is true from then on.
async fn vanishing_proxy(
    url: &str,
    vanishes_on: fn(&[u8]) -> bool,
    vanished: &Arc<AtomicBool>,
) -> String {
    let mut url = reqwest::Url::parse(url).unwrap();
    let server = (url.host_str().unwrap().to_owned(), url.port().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let vanished = vanished.clone();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let (mut server, vanished) = (
                TcpStream::connect(server.clone()).await.unwrap(),
                vanished.clone(),
            );
            tokio::spawn(async move {
                let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
                let mut vanishes = false;
                loop {
                    let is_going = tokio::select! {
                        read = client.read(&mut asked) => {
                            let asked = &asked[..read.unwrap_or(0)];
                            vanishes = vanishes_on(asked) && !vanished.swap(true, Ordering::Relaxed);
                            !asked.is_empty() && server.write_all(asked).await.is_ok()
                        }
                        read = server.read(&mut answered) => {
                            let answer = &answered[..read.unwrap_or(0)];
                            let is_sent = !answer.is_empty() && client.write_all(answer).await.is_ok();
                            if vanishes {
                                std::future::pending::<()>().await;
                            }
                            is_sent
                        }
                    };
                    if !is_going {
                        break;
                    }
                }
            });
        }
    });
    url.set_ip_host(address.ip()).unwrap();
    url.set_port(Some(address.port())).unwrap();
    url.into()
}

#[tokio::test]
async fn listener_is_notified_of_other_processes_and_after_a_broken_connection() {
    let database = postgres();
    let (here, there) = (open(&database).await, open(&database).await);
    let mut listener = here.listen().await.unwrap();
    outbox::record(
        &there,
        vec![outbox::change(1, None, PullRequestStatus::Open, 0)],
    )
    .await;
    listener.changed().await.unwrap();
    database.end_connections().await;
    // Notifications may have been lost in between, so that reconnecting is reported as a change.
    listener.changed().await.unwrap();
    while there.check().await.is_err() {}
    outbox::record(
        &there,
        vec![outbox::change(2, None, PullRequestStatus::Open, 0)],
    )
    .await;
    listener.changed().await.unwrap();
    assert_eq!(
        here.events_after(EventId::BEGINNING, 9)
            .await
            .unwrap()
            .len(),
        2
    );
}

/// A listener that does not read is busy with something else.
#[tokio::test]
async fn busy_listener_does_not_delay_other_listeners() {
    let database = postgres();
    let store = open(&database).await;
    let (mut busy, mut other) = (store.listen().await.unwrap(), store.listen().await.unwrap());
    let mut is_busy = pin!(busy.changed());
    assert!(futures_util::poll!(&mut is_busy).is_pending());
    for number in 1..3 {
        outbox::record(
            &store,
            vec![outbox::change(number, None, PullRequestStatus::Open, 0)],
        )
        .await;
        timeout(PATIENCE, other.changed()).await.unwrap().unwrap();
    }
    is_busy.await.unwrap();
}

#[tokio::test]
async fn listener_of_a_vanished_server_is_notified_after_reconnecting() {
    let database = postgres();
    let swallowed = Arc::new(AtomicBool::new(false));
    let url = vanishing_proxy(
        &database.url,
        |bytes| bytes.windows(6).any(|word| word == b"LISTEN"),
        &swallowed,
    )
    .await;
    let (here, there) = (
        tallyhook_store::open(&url, OpenMode::Exclusive)
            .await
            .unwrap(),
        open(&database).await,
    );
    let mut listener = here.listen().await.unwrap();
    assert!(swallowed.load(Ordering::Relaxed));
    outbox::record(
        &there,
        vec![outbox::change(1, None, PullRequestStatus::Open, 0)],
    )
    .await;
    timeout(PATIENCE, listener.changed())
        .await
        .unwrap()
        .unwrap();
    outbox::record(
        &there,
        vec![outbox::change(2, None, PullRequestStatus::Open, 0)],
    )
    .await;
    timeout(PATIENCE, listener.changed())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn listener_does_not_delay_closing() {
    let database = postgres();
    let store = open(&database).await;
    let mut listener = store.listen().await.unwrap();
    let mut changed = pin!(listener.changed());
    assert!(futures_util::poll!(&mut changed).is_pending());
    let asked = tokio::time::Instant::now();
    store.close().await;
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "closing waited for connections that are not returned"
    );
    assert!(changed.await.is_err() && store.listen().await.is_err());
    assert!(eventually(async || database.number(OURS).await == 0).await);
}

#[tokio::test]
async fn cancelled_call_leaves_no_open_transaction() {
    let database = postgres();
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    let ids = [accept(&store, "a").await, accept(&store, "b").await];
    let seed = rand::random();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut finished = 0;
    for round in 0..600 {
        let call = async {
            match round % 9 {
                0..3 => drop(recorded(&store).await),
                3 => drop(
                    store
                        .accept(delivery(&format!("{round}"), pending()))
                        .await
                        .unwrap(),
                ),
                4 => drop(claim(&store, &ids, later(60 * round)).await),
                5 => drop(store.load(&[histories::KEY]).await.unwrap()),
                6 => drop(store.acquire_role(LeaderRole::Sweeper).await.unwrap()),
                7 => {
                    store
                        .request_run(histories::KEY.repo, &OPTIONS, later(round))
                        .await
                        .unwrap();
                    store
                        .claim_run(None, later(round), later(round))
                        .await
                        .unwrap();
                }
                _ => store.check().await.unwrap(),
            }
        };
        finished += usize::from(finished_within_polls(random.random_range(0..24), call).await);
    }
    assert!(
        (100..500).contains(&finished),
        "seed {seed}: {finished} of 600 calls were not cut off"
    );
    let idle = async || database.number(BUSY).await == 0;
    assert!(
        eventually(idle).await,
        "seed {seed}: {} connections have an open statement or transaction",
        database.number(BUSY).await
    );
    assert!(database.number(OURS).await <= 11);
    for _ in 0..20 {
        assert!(recorded(&store).await, "seed {seed}");
        store.check().await.unwrap();
    }
    assert!(store.acquire_role(LeaderRole::Sweeper).await.unwrap());
}

#[tokio::test]
async fn concurrent_starts_on_an_empty_database_all_succeed() {
    let database = postgres();
    let opens = (0..8).map(|_| tallyhook_store::open(&database.url, OpenMode::Exclusive));
    let opened = futures_util::future::join_all(opens).await;
    let stores: Vec<_> = opened.into_iter().map(Result::unwrap).collect();
    for store in &stores {
        store.check().await.unwrap();
    }
    let leaders = futures_util::future::join_all(
        stores
            .iter()
            .map(|store| store.acquire_role(LeaderRole::Sweeper)),
    )
    .await;
    assert_eq!(
        leaders
            .iter()
            .filter(|leads| *leads.as_ref().unwrap())
            .count(),
        1
    );
    futures_util::future::join_all(stores.iter().map(|store| store.close())).await;
}

#[tokio::test]
async fn database_of_another_version_is_refused_by_processes_that_may_not_migrate() {
    let database = postgres();
    for opening in [OpenMode::ExclusiveUnmigrated, OpenMode::Shared] {
        let refused = format!(
            "{:#}",
            tallyhook_store::open(&database.url, opening)
                .await
                .err()
                .unwrap()
        );
        assert!(
            refused.contains("no tables yet: run `tallyhook migrate`"),
            "{refused}"
        );
    }
    open(&database).await.close().await;
    for opening in [OpenMode::ExclusiveUnmigrated, OpenMode::Shared] {
        tallyhook_store::open(&database.url, opening)
            .await
            .unwrap()
            .close()
            .await;
    }
    let newer = "WITH newer AS (INSERT INTO _sqlx_migrations \
                 VALUES (9999, 'of tomorrow', now(), true, '', 0) RETURNING 1) \
                 SELECT count(*) FROM newer";
    assert_eq!(database.number(newer).await, 1);
    for opening in [
        OpenMode::Exclusive,
        OpenMode::ExclusiveUnmigrated,
        OpenMode::Shared,
    ] {
        let refused = format!(
            "{:#}",
            tallyhook_store::open(&database.url, opening)
                .await
                .err()
                .unwrap()
        );
        assert!(refused.contains("migration"), "{refused}");
    }
}

#[tokio::test]
async fn live_process_keeps_its_leases_and_its_role_until_it_ends() {
    let database = postgres();
    let (one, two) = (open(&database).await, open(&database).await);
    let id = accept(&one, "a").await;
    assert!(one.acquire_role(LeaderRole::Sweeper).await.unwrap());
    assert!(!two.acquire_role(LeaderRole::Sweeper).await.unwrap());
    assert_eq!(claim(&one, &[id], now()).await, [id]);
    assert_eq!(two.release_orphaned_leases(now()).await.unwrap(), 0);
    // All of its connections break except one.
    let but_one = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_locks \
                   WHERE locktype = 'advisory' AND pid IN ( \
                       SELECT pid FROM pg_locks WHERE locktype = 'advisory' \
                       AND objid = (SELECT leased_by FROM deliveries) ORDER BY pid LIMIT 1)";
    assert!(database.number(but_one).await > 0);
    assert_eq!(two.release_orphaned_leases(now()).await.unwrap(), 0);

    one.close().await;
    assert!(eventually(async || two.acquire_role(LeaderRole::Sweeper).await.unwrap()).await);
    assert!(eventually(async || two.release_orphaned_leases(now()).await.unwrap() == 1).await);
    assert_eq!(claim(&two, &[id], now()).await, [id]);
}

#[tokio::test]
async fn delivery_claimed_by_another_process_is_not_released() {
    let database = postgres();
    let (one, two, three) = (
        open(&database).await,
        open(&database).await,
        open(&database).await,
    );
    let id = accept(&one, "a").await;
    assert_eq!(claim(&one, &[id], now()).await, [id]);
    // The first process was stopped for longer than its lease of the delivery.
    assert_eq!(claim(&two, &[id], later(61)).await, [id]);
    one.release(&[id], "late", later(62), later(62))
        .await
        .unwrap();
    one.retry(&[id], "late", later(62), later(62))
        .await
        .unwrap();
    one.mark_dead(&[id], "late", later(62)).await.unwrap();
    assert_eq!(claim(&three, &[id], later(63)).await, []);
    let delivery = one.delivery(id).await.unwrap().unwrap();
    assert_eq!(
        (delivery.state, delivery.attempts, delivery.history.len()),
        (DeliveryState::Accepted, 2, 0)
    );
    two.release(&[id], "in time", later(64), later(64))
        .await
        .unwrap();
    assert_eq!(claim(&three, &[id], later(64)).await, [id]);
}

#[tokio::test]
async fn leader_with_a_broken_connection_loses_its_lease() {
    let database = postgres();
    let store = open(&database).await;
    let lease = LeaderLease::new(LeaderRole::Sweeper);
    assert!(lease.renew(&store).await.unwrap() && lease.is_held());
    assert!(database.end_connections().await >= 1);
    let other = open(&database).await;
    assert!(other.acquire_role(LeaderRole::Sweeper).await.unwrap());
    // The first renewal finds the connection broken; the next one has a new connection, and another
    // process is the leader.
    assert!(lease.renew(&store).await.is_err() && !lease.is_held());
    assert!(!lease.renew(&store).await.unwrap() && !lease.is_held());
}

#[tokio::test]
async fn roles_are_acquired_and_released_independently() {
    let database = postgres();
    let (one, two) = (open(&database).await, open(&database).await);
    for role in [LeaderRole::Sweeper, LeaderRole::Poller] {
        assert!(one.acquire_role(role).await.unwrap());
        assert!(!two.acquire_role(role).await.unwrap());
    }
    // Releasing a role that it does not hold, or no longer, does nothing.
    two.release_role(LeaderRole::Poller).await;
    one.release_role(LeaderRole::Poller).await;
    one.release_role(LeaderRole::Poller).await;
    assert!(two.acquire_role(LeaderRole::Poller).await.unwrap());
    assert!(!two.acquire_role(LeaderRole::Sweeper).await.unwrap());
    assert!(!one.acquire_role(LeaderRole::Poller).await.unwrap());
    one.release_role(LeaderRole::Sweeper).await;
    assert!(eventually(async || two.acquire_role(LeaderRole::Sweeper).await.unwrap()).await);
}

#[tokio::test]
async fn store_works_after_every_connection_broke() {
    let database = postgres();
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    for round in 0..3 {
        let calls = (0..20).map(|_| store.counts());
        for counted in futures_util::future::join_all(calls).await {
            counted.unwrap();
        }
        assert!(database.end_connections().await > 1);
        store.check().await.unwrap();
        accept(&store, &format!("{round}")).await;
        assert!(recorded(&store).await);
    }
    assert!(database.number(OURS).await <= 11);
}

#[tokio::test]
async fn server_that_refuses_connections_is_reported_soon_and_found_again() {
    let database = postgres();
    let store = open(&database).await;
    let (_, name) = database.url.rsplit_once('/').unwrap();
    let name = name.split('?').next().unwrap();
    database.on_server(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
    database.on_server(&format!(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
    ));
    let asked = tokio::time::Instant::now();
    assert!(store.check().await.is_err());
    assert!(store.accept(delivery("a", pending())).await.is_err());
    assert!(asked.elapsed() < Duration::from_secs(10));
    database.on_server(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"));
    store.check().await.unwrap();
    accept(&store, "a").await;
}

/// The batches of the concurrent writers overlap in every table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_of_the_same_rows_do_not_deadlock() {
    let database = postgres();
    let before = database
        .number("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        .await;
    let stores = [open(&database).await, open(&database).await];
    let writers = (0..8_usize).map(|writer| {
        let store: Store = stores[writer % 2].clone();
        tokio::spawn(async move {
            let mut random = SmallRng::seed_from_u64(writer as u64);
            let mut written = 0;
            for round in 0..30 {
                let mut numbers: Vec<_> = (0..12).collect();
                let mut guids = Vec::new();
                for place in (1..numbers.len()).rev() {
                    numbers.swap(place, random.random_range(0..=place));
                    guids.push(format!("{round}-{}", random.random_range(0..12)));
                }
                // All writers get the same deliveries, in different orders.
                let posts = guids
                    .iter()
                    .map(|guid| store.accept(delivery(guid, pending())));
                let mut mine = Vec::new();
                for answer in futures_util::future::join_all(posts).await {
                    if let AcceptOutcome::Stored(id) = answer.unwrap() {
                        mine.push(id);
                    }
                }
                store.mark_dead(&mine, "for a while", now()).await.unwrap();
                store
                    .requeue(
                        &DeadLetterSelection::Like(DeadLetterMatch::default()),
                        now(),
                    )
                    .await
                    .unwrap();
                let mine = claim(&store, &mine, later(1000 * round)).await;
                let keys: Vec<_> = numbers[..8].iter().map(|number| key(*number)).collect();
                let mut recording = BatchWrite::default();
                for known in store.load(&keys).await.unwrap() {
                    recording
                        .pull_requests
                        .extend(super::recording(known, BTreeSet::new()).pull_requests);
                }
                recording.repositories.push(repository(
                    100 + round,
                    "acme-corp/api-server",
                    super::RepositoryAccess::Granted,
                ));
                recording.finished = mine.into_iter().map(FinishedDelivery::Applied).collect();
                written += usize::from(store.record(&recording, now()).await.unwrap().is_ok());
            }
            written
        })
    });
    let mut written = 0;
    for writer in futures_util::future::join_all(writers).await {
        written += writer.unwrap();
    }
    assert!(written > 0);
    for store in stores {
        store.close().await;
    }
    let after = database
        .number("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        .await;
    assert_eq!(after, before);
}

/// Each batch marks a task for a mention, and then the task of the other batch for the status
/// change of another pull request.
#[tokio::test]
async fn batches_that_mark_the_same_tasks_do_not_deadlock() {
    let database = postgres();
    let store = open(&database).await;
    let named = |number: i64, text: &str| {
        let mentions = vec![(key(number), BTreeSet::from([TaskKey::parse(text).unwrap()]))];
        BatchWrite {
            mentions,
            ..BatchWrite::default()
        }
    };
    for text in ["A-1", "A-2"] {
        super::tasks::make(&store, text).await;
    }
    for (number, text) in [(1, "A-1"), (2, "A-2"), (3, "A-1"), (4, "A-2")] {
        store
            .record(&named(number, text), now())
            .await
            .unwrap()
            .unwrap();
    }
    super::tasks::settle(&store).await;
    // Blocks both where they write mentions.
    let mut gate = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT 1 FROM mentions FOR UPDATE")
        .execute(&mut gate)
        .await
        .unwrap();
    let one = BatchWrite {
        moved: BTreeSet::from([key(4)]),
        ..named(1, "A-1")
    };
    let other = BatchWrite {
        moved: BTreeSet::from([key(3)]),
        ..named(2, "A-2")
    };
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let open_gate = async {
        while database.number(waiting).await < 2 {}
        sqlx::raw_sql("COMMIT").execute(&mut gate).await.unwrap();
    };
    let records = join3(
        store.record(&one, now()),
        store.record(&other, now()),
        open_gate,
    );
    let (one, other, ()) = timeout(PATIENCE, records)
        .await
        .expect("one of both never waits");
    one.unwrap().unwrap();
    other.unwrap().unwrap();
    assert_eq!(super::tasks::due(&store).await, ["A-1", "A-2"]);
}

fn key(number: i64) -> PrKey {
    PrKey {
        repo: RepoId(7),
        number: PrNumber(number),
    }
}

#[tokio::test]
async fn password_is_in_no_error() {
    let secret = "pa55-w0rd";
    for url in [
        format!("postgres://tallyhook:{secret}@127.0.0.1:1/tallyhook"),
        format!("postgres://tallyhook:{secret}/7@127.0.0.1:1/tallyhook"),
        format!("postgres://tallyhook:7/{secret}@127.0.0.1:1/tallyhook"),
        format!("postgres://tallyhook:7?{secret}@127.0.0.1:1/tallyhook"),
        format!("postgres://tallyhook:7#{secret}@127.0.0.1:1/tallyhook"),
        format!("postgres://tallyhook:{secret}@127.0.0.1:{secret}/tallyhook"),
        format!("postgres://tallyhook@127.0.0.1:1/tallyhook?password={secret}"),
        format!("postgres://tallyhook@127.0.0.1:1/tallyhook?pasword={secret}"),
    ] {
        let refused = tallyhook_store::open(&url, OpenMode::Exclusive)
            .await
            .err()
            .unwrap();
        assert!(
            !format!("{refused:#} {refused:?}").contains(secret),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn filters_do_not_depend_on_the_locale_of_the_database() {
    let database = postgres();
    let store = open(&database).await;
    let named = |name: &str| super::NewDelivery {
        repo: Some((RepoId(7), name.to_owned())),
        ..delivery(name, pending())
    };
    for name in ["acme/\u{c9}t\u{e9}", "ACME/a_b", "acme/A-B"] {
        store.accept(named(name)).await.unwrap();
    }
    let found = async |repo: &str| {
        let filter = DeliveryFilter {
            repo: Some(repo.to_owned()),
            ..DeliveryFilter::default()
        };
        store.deliveries(&filter, 9).await.unwrap().len()
    };
    // As in SQLite, case is ignored for ASCII letters only.
    assert_eq!((found("Acme/A_B").await, found("acme/a-b").await), (1, 1));
    assert_eq!(
        (
            found("Acme/\u{c9}T\u{e9}").await,
            found("acme/\u{e9}t\u{e9}").await
        ),
        (1, 0)
    );
}

/// A new task finds the pull requests that name it, and a pull request finds its task, also if one
/// of both is not committed while the other is written.
#[tokio::test]
async fn task_created_during_the_commit_of_its_pull_request_is_marked() {
    let database = postgres();
    let store = open(&database).await;
    assert!(recorded(&store).await);
    // Blocks writers before they enter the outbox, which is the last step before the commit.
    let mut gate = PgConnection::connect(&database.url).await.unwrap();
    let opened = outbox::change(7, None, PullRequestStatus::Open, 0);
    let before = store.newest_event().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(x'54414c03'::int, 0)")
        .execute(&mut gate)
        .await
        .unwrap();
    let mentions = vec![(opened.key, BTreeSet::from([TaskKey::parse("A-1").unwrap()]))];
    let named = BatchWrite {
        mentions,
        changes: vec![opened],
        ..BatchWrite::default()
    };
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let waits = async |how_many: i64| while database.number(waiting).await < how_many {};
    let writer = async { store.record(&named, now()).await.unwrap().unwrap() };
    let maker = async {
        waits(1).await;
        let make = super::tasks::make(&store, "A-1");
        let mut make = pin!(maybe_done(make));
        tokio::select! {
            () = &mut make => super::tasks::settle(&store).await,
            () = waits(2) => {}
        }
        sqlx::query("SELECT pg_advisory_unlock(x'54414c03'::int, 0)")
            .execute(&mut gate)
            .await
            .unwrap();
        make.await;
    };
    join(writer, maker).await;
    assert!(store.newest_event().await.unwrap() > before);
    assert_eq!(super::tasks::due(&store).await, ["A-1"]);
    assert_eq!(super::tasks::get(&store, "A-1").await.prs, [opened.key]);
}

/// A server that was made a standby, or whose disk is full and which was set to read only for it.
#[tokio::test]
async fn read_only_database_is_a_fault_until_a_delivery_is_stored() {
    let database = postgres();
    let store = open(&database).await;
    assert_eq!(store.examine().await.fault, None);
    let set = |value: &str| {
        format!(
            "BEGIN READ WRITE; DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET \
             default_transaction_read_only = {value}', current_database()); END $$; COMMIT"
        )
    };
    database.run(&set("on")).await;
    database.end_connections().await;
    assert!(
        eventually(async || {
            matches!(
                store.examine().await.fault,
                Some((StorageFault::Failing, _))
            )
        })
        .await
    );
    for number in 0..3 {
        let refused = store
            .accept(delivery(&format!("during-{number}"), pending()))
            .await;
        assert!(refused.is_err());
    }
    assert!(matches!(
        store.condition().fault,
        Some((StorageFault::Failing, _))
    ));
    database.run(&set("off")).await;
    database.end_connections().await;
    assert!(
        eventually(async || { store.accept(delivery("after", pending())).await.is_ok() }).await
    );
    assert_eq!(store.condition().fault, None);
    assert_eq!(store.examine().await.fault, None);
}
