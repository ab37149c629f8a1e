//! Failures of the broker, during each of which webhooks are still answered with 2xx.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Role};
use crate::load::{Load, Posted};
use crate::services::Services;
use crate::table::Row;
use crate::traffic::Traffic;
use crate::{Form, PATIENCE, until};

pub(crate) const EVERYONE: [Role; 5] = [
    Role::Receiver,
    Role::Receiver,
    Role::Worker,
    Role::Worker,
    Role::Worker,
];
pub(crate) const LIVE: &str = "tallyhook.v1.live";
/// Requests per second.
pub(crate) const RATE: usize = 60;
/// More than any of these scenarios posts.
const PLENTY: usize = 12_000;

/// Waits until the processes have noticed that their broker is gone.
fn is_missed(cluster: &Cluster<'_>) {
    until("everybody misses the broker", PATIENCE, || {
        cluster.queues_are(&["degraded", "failing"])
    });
}

/// Runs `fault` under load, which breaks something and keeps it broken for a while, and then
/// `repair`, which returns the time of the repair.
fn disturbed(
    cluster: &Cluster<'_>,
    seed: u64,
    fault: impl FnOnce(&Cluster<'_>, &Load),
    repair: impl FnOnce(&Services) -> Instant + Send,
) -> Row {
    let traffic = Arc::new(Traffic::new(seed, PLENTY));
    cluster.connected();
    let load = Load::start(
        &traffic,
        &cluster.targets,
        (0, traffic.len()),
        Some(RATE as f64),
    );
    cluster.finishes_more_than(RATE as u64);
    fault(cluster, &load);
    let before = cluster.finished();
    let (returned, back) = comes_back(cluster, before, repair);
    let posted = load.stop();
    cluster.drained_within(PATIENCE);
    concluded(
        cluster,
        &traffic,
        posted,
        Some(back),
        Some(returned.elapsed()),
    )
}

/// Repairs the broker. Returns the time of the repair, and how long after it the first delivery was
/// finished.
fn comes_back(
    cluster: &Cluster<'_>,
    before: u64,
    repair: impl FnOnce(&Services) -> Instant + Send,
) -> (Instant, Duration) {
    std::thread::scope(|threads| {
        let services = cluster.services;
        let repairing = threads.spawn(move || repair(services));
        cluster.finishes_more_than(before);
        let applied = Instant::now();
        let returned = repairing.join().unwrap();
        (returned, applied.saturating_duration_since(returned))
    })
}

/// Makes the assertions that hold after each fault of the broker, and builds the row.
fn concluded(
    cluster: &Cluster<'_>,
    traffic: &Traffic,
    posted: Posted,
    back: Option<Duration>,
    all: Option<Duration>,
) -> Row {
    let outcome = cluster.check(&traffic.expected(posted.requests, &Default::default()));
    assert_eq!(
        posted.at_first, posted.requests,
        "not each delivery was answered with 2xx at once"
    );
    assert_eq!(outcome.counts.dead, 0);
    Row {
        posted,
        outcome,
        back,
        all,
        note: String::new(),
    }
}

fn kill_for_a_while(cluster: &Cluster<'_>, load: &Load) {
    cluster.services.verb("kill rabbitmq");
    is_missed(cluster);
    load.wait_for(2 * RATE);
}

pub(crate) fn killed(services: &Services, _: Form) -> Row {
    disturbed(
        &Cluster::start(services, &EVERYONE),
        1,
        kill_for_a_while,
        Services::start_broker,
    )
}

pub(crate) fn killed_beside_sqlite(services: &Services, _: Form) -> Row {
    disturbed(
        &Cluster::start(services, &[Role::Whole]),
        2,
        kill_for_a_while,
        Services::start_broker,
    )
}

pub(crate) fn frozen(services: &Services, _: Form) -> Row {
    let freeze = |cluster: &Cluster<'_>, load: &Load| {
        cluster.services.verb("freeze rabbitmq");
        // Twenty seconds of load.
        load.wait_for(20 * RATE);
    };
    let thaw = |services: &Services| {
        let begun = Instant::now();
        services.verb("thaw rabbitmq");
        begun
    };
    disturbed(&Cluster::start(services, &EVERYONE), 3, freeze, thaw)
}

pub(crate) fn alarmed(services: &Services, _: Form) -> Row {
    let alarm = |cluster: &Cluster<'_>, load: &Load| {
        cluster.services.verb("alarm rabbitmq on");
        let publishers = cluster.of(Role::Receiver);
        until("the receivers are blocked", PATIENCE, || {
            cluster.those_are(&publishers, &["degraded"])
        });
        load.wait_for(5 * RATE);
    };
    // The program behind this verb takes longer to exit than to have its effect.
    let calm = |services: &Services| {
        let begun = Instant::now();
        services.verb("alarm rabbitmq off");
        begun
    };
    disturbed(&Cluster::start(services, &EVERYONE), 4, alarm, calm)
}

/// The queue is not repaired from outside: deliveries posted after its deletion must be applied.
pub(crate) fn queue_deleted(services: &Services, _: Form) -> Row {
    let cluster = Cluster::start(services, &EVERYONE);
    let traffic = Arc::new(Traffic::new(5, PLENTY));
    cluster.connected();
    let load = Load::start(
        &traffic,
        &cluster.targets,
        (0, traffic.len()),
        Some(RATE as f64),
    );
    cluster.finishes_more_than(RATE as u64);
    services.delete_queue(&cluster.place, LIVE);
    let deleted = Instant::now();
    // Up to sixteen more requests may be in flight.
    let posted_before = traffic
        .expected(load.answered() + 16, &Default::default())
        .applied
        .len();
    cluster.finishes_more_than(posted_before as u64);
    let back = deleted.elapsed();
    let posted = load.stop();
    cluster.drained_within(PATIENCE);
    concluded(
        &cluster,
        &traffic,
        posted,
        Some(back),
        Some(deleted.elapsed()),
    )
}

/// A virtual host without any declarations, and a broker that is killed as soon as a process
/// declares something.
pub(crate) fn killed_in_its_first_second(services: &Services, form: Form) -> Row {
    let rounds = form.of(1, 5);
    let mut rows = Vec::new();
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let place = services.place();
        let (cluster, lived) = std::thread::scope(|threads| {
            let killer = threads.spawn(|| {
                until("the queue is declared", PATIENCE, || {
                    services.queue(&place, LIVE).is_some()
                });
                let declared = Instant::now();
                services.verb("kill rabbitmq");
                declared.elapsed()
            });
            let cluster = Cluster::start_in(services, place.clone(), &EVERYONE);
            (cluster, killer.join().unwrap())
        });
        longest = longest.max(lived);
        let traffic = Arc::new(Traffic::new(60 + round as u64, 200));
        let mut posted = cluster.post(&traffic, 0, 100);
        let (returned, back) = comes_back(&cluster, 0, Services::start_broker);
        posted = posted.and(cluster.post(&traffic, 100, traffic.len()));
        cluster.drained_within(PATIENCE);
        rows.push(concluded(
            &cluster,
            &traffic,
            posted,
            Some(back),
            Some(returned.elapsed()),
        ));
    }
    let mut worst = rows.into_iter().max_by_key(|row| row.back).unwrap();
    worst.note = format!(
        "the slowest of {rounds}; killed at most {} ms after the declare",
        longest.as_millis()
    );
    worst
}

/// The broker loses all its data: its queues, its exchanges.
pub(crate) fn wiped(services: &Services, _: Form) -> Row {
    let wipe = |cluster: &Cluster<'_>, load: &Load| {
        kill_for_a_while(cluster, load);
        cluster.services.verb("wipe rabbitmq");
    };
    let place = services.place_in_the_first_vhost();
    disturbed(
        &Cluster::start_in(services, place, &EVERYONE),
        7,
        wipe,
        Services::start_broker,
    )
}

/// Deliveries are posted as fast as possible while the broker is down.
pub(crate) fn backlog(services: &Services, form: Form) -> Row {
    let deliveries = form.of(2_000, 10_000);
    let cluster = Cluster::start(services, &EVERYONE);
    let traffic = Arc::new(Traffic::new(8, deliveries));
    cluster.connected();
    // The broker has settled by then; a kill in its first second is another scenario.
    let load = Load::start(&traffic, &cluster.targets, (0, 3 * RATE), Some(RATE as f64));
    let before = load.finish();
    cluster.drained_within(PATIENCE);
    services.verb("kill rabbitmq");
    is_missed(&cluster);
    let started = Instant::now();
    let backlog = cluster.post(&traffic, before.requests, traffic.len());
    let rate = backlog.requests as f64 / started.elapsed().as_secs_f64();
    let (returned, back) = comes_back(&cluster, cluster.finished(), Services::start_broker);
    cluster.drained_within(PATIENCE);
    let all = returned.elapsed();
    let mut row = concluded(
        &cluster,
        &traffic,
        before.and(backlog),
        Some(back),
        Some(all),
    );
    row.note = format!(
        "{} while it was down, answered at {rate:.0}/s",
        backlog.requests
    );
    row
}
