//! Failures of workers, and deliveries that crash them.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::{EVERYONE, LIVE, RATE};
use crate::cluster::{Cluster, Role};
use crate::load::Load;
use crate::services::{LockedInbox, Services};
use crate::table::Row;
use crate::traffic::Traffic;
use crate::{Form, PATIENCE, SIGABRT, until};

/// The number of deliveries that a worker holds without an acknowledgement.
const PREFETCH: u64 = 512;

fn unacknowledged(cluster: &Cluster<'_>) -> Option<u64> {
    cluster.services.queue(&cluster.place, LIVE)?["messages_unacknowledged"].as_u64()
}

/// One of three workers is killed while its prefetch is full.
pub(crate) fn killed_with_all_it_holds(services: &Services, form: Form) -> Row {
    let deliveries = form.of(2_000, 10_000);
    let mut cluster = Cluster::start(services, &[Role::Receiver, Role::Receiver]);
    let traffic = Arc::new(Traffic::new(10, deliveries));
    cluster.connected();
    let posted = cluster.post(&traffic, 0, traffic.len());
    let all_at_the_broker = posted_at_the_broker(&cluster, &traffic);
    let locked = LockedInbox::lock(&cluster.place);
    let workers: Vec<_> = (0..3).map(|_| cluster.add(Role::Worker, None)).collect();
    until("the workers hold all they may", PATIENCE, || {
        unacknowledged(&cluster) == Some(3 * PREFETCH)
    });
    cluster.serve(workers[0]).kill();
    drop(locked);
    let killed = Instant::now();
    let back = cluster.finishes_more_than(0);
    cluster.drained_within(PATIENCE);
    let all = killed.elapsed();
    let outcome = cluster.check(&traffic.expected(traffic.len(), &BTreeSet::new()));
    assert_eq!(outcome.counts.dead, 0);
    let note = format!("it held {PREFETCH} of {all_at_the_broker} messages; two others went on");
    Row {
        posted,
        outcome,
        back: Some(back),
        all: Some(all),
        note,
    }
}

/// Waits until all posted deliveries are at the broker, or as many as are published at a time.
fn posted_at_the_broker(cluster: &Cluster<'_>, traffic: &Traffic) -> u64 {
    let published = traffic
        .expected(traffic.len(), &BTreeSet::new())
        .applied
        .len() as u64;
    let mut messages = 0;
    until("what was posted is at the broker", PATIENCE, || {
        let queue = cluster.services.queue(&cluster.place, LIVE);
        messages = queue
            .and_then(|queue| queue["messages"].as_u64())
            .unwrap_or(0);
        messages >= published.min(4 * PREFETCH)
    });
    messages
}

/// One delivery among a thousand crashes each worker that handles it.
pub(crate) fn poison(services: &Services, _: Form) -> Row {
    const DELIVERIES: usize = 1_000;
    let mut cluster = Cluster::start(services, &[Role::Receiver, Role::Receiver]);
    let traffic = Arc::new(Traffic::new(11, DELIVERIES));
    cluster.connected();
    let poison = traffic.some_guid(traffic.len());
    let posted = cluster.post(&traffic, 0, traffic.len());
    posted_at_the_broker(&cluster, &traffic);
    let crash = Some(("TALLYHOOK_POISON_GUID", poison.as_str()));
    let started = Instant::now();
    for _ in 0..3 {
        cluster.add(Role::Worker, crash);
    }
    let mut ended = 0;
    until("every delivery is finished", 2 * PATIENCE, || {
        for status in cluster.supervise(crash) {
            assert_eq!(
                status.signal(),
                Some(SIGABRT),
                "a worker ended otherwise: {status}"
            );
            ended += 1;
        }
        cluster.counts().is_some_and(|counts| counts.accepted == 0)
    });
    let all = started.elapsed();
    // A dead letter other than the poison would fail this check by its outcome.
    let outcome =
        cluster.check(&traffic.expected(traffic.len(), &BTreeSet::from([poison.clone()])));
    assert_eq!(outcome.counts.dead, 1);
    let dead = crate::block_on(cluster.store.deliveries_by_guid(&poison))
        .unwrap()
        .remove(0);
    assert_eq!(dead.attempts, 5, "{dead:?}");
    let note = format!(
        "1 parked after {} attempts, 0 innocent; workers ended {ended} times",
        dead.attempts
    );
    Row {
        posted,
        outcome,
        back: None,
        all: Some(all),
        note,
    }
}

/// A receiver and a worker are stopped gracefully while both have work.
pub(crate) fn asked_to_end(services: &Services, form: Form) -> Row {
    let rounds = form.of(3, 20);
    let mut cluster = Cluster::start(services, &EVERYONE);
    let traffic = Arc::new(Traffic::new(12, 12_000));
    cluster.connected();
    let load = Load::start(
        &traffic,
        &cluster.targets,
        (0, traffic.len()),
        Some(2.0 * RATE as f64),
    );
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        cluster.finishes_more_than(cluster.finished() + RATE as u64);
        for index in [round % 2, 2 + round % 3] {
            let asked = Instant::now();
            let serve = cluster.serve(index);
            serve.ask_to_end();
            let (status, log) = serve.wait();
            slowest = slowest.max(asked.elapsed());
            assert_eq!(status.code(), Some(0), "{status}: {log:#?}");
            cluster.restart(index, None);
        }
    }
    assert!(
        slowest < Duration::from_secs(10),
        "SIGTERM took {slowest:?}"
    );
    let asked_last = Instant::now();
    let posted = load.stop();
    cluster.drained_within(PATIENCE);
    let all = asked_last.elapsed();
    let outcome = cluster.check(&traffic.expected(posted.requests, &BTreeSet::new()));
    assert_eq!(
        (outcome.counts.dead, outcome.tried_again),
        (0, 0),
        "a worker's attempt was cut off"
    );
    let note = format!(
        "{} processes ended, the slowest within {:.1} s",
        2 * rounds,
        slowest.as_secs_f64()
    );
    Row {
        posted,
        outcome,
        back: None,
        all: Some(all),
        note,
    }
}
