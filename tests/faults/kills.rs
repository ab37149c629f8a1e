//! Processes, the broker and the database are killed while deliveries are posted.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::EVERYONE;
use crate::cluster::{Cluster, Role};
use crate::load::{Load, Posted};
use crate::services::Services;
use crate::table::Row;
use crate::traffic::Traffic;
use crate::{Form, PATIENCE, SIGABRT, until};

/// Every `crash_point!` that a delivery passes, except that of poison deliveries, and its role. The
/// crash points of backfills and notifications have tests of their own.
const PLACES: [(&str, Role); 14] = [
    ("ingest.body_read", Role::Receiver),
    ("accept.before_commit", Role::Receiver),
    ("accept.committed", Role::Receiver),
    ("ingest.handed_over", Role::Receiver),
    ("queue.published", Role::Receiver),
    ("queue.confirmed", Role::Receiver),
    ("relay.swept", Role::Worker),
    ("queue.delivered", Role::Worker),
    ("process.received", Role::Worker),
    ("process.claimed", Role::Worker),
    ("record.before_commit", Role::Worker),
    ("record.committed", Role::Worker),
    ("queue.acknowledged", Role::Worker),
    ("queue.published", Role::Worker),
];
/// The number of kills without a wait in between. It is one less than the attempts after which a
/// delivery is dead, so that a delivery in flight during all of them is not.
const IN_A_ROW: usize = 4;
/// The time after which only leased deliveries are pending: those that a worker claimed by a
/// statement whose answer the end of the database cut off.
const SETTLED: Duration = Duration::from_secs(15);
/// The time limit of the long form, which does fewer kills on a slow machine.
const LONGEST: Duration = Duration::from_mins(20);
/// The crash points that a worker reaches only while it sweeps what another process left behind.
const OF_THE_SWEEPER: [(&str, Role); 2] = [
    ("relay.swept", Role::Worker),
    ("queue.published", Role::Worker),
];

/// The way a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    At(&'static str, Role, u64),
    Killed(Role),
    Broker,
    Database,
}

impl End {
    fn name(self) -> String {
        match self {
            Self::At(place, role, _) => format!("{place} ({role:?})"),
            Self::Killed(role) => format!("SIGKILL ({role:?})"),
            Self::Broker => "broker".to_owned(),
            Self::Database => "database".to_owned(),
        }
    }

    /// Chooses the kill with this number: the crash points in turn, and in every twenty kills two
    /// by SIGKILL, one of the broker and one of the database.
    fn of(number: usize) -> Self {
        match number % 20 {
            4 => Self::Broker,
            9 => Self::Database,
            14 => Self::Killed(Role::Receiver),
            19 => Self::Killed(Role::Worker),
            _ => {
                let (place, role) = PLACES[number % PLACES.len()];
                Self::At(place, role, 1 + (number / PLACES.len()) as u64 % 3)
            }
        }
    }
}

/// The kills of a cluster, and the deliveries posted between them.
struct Killing<'a> {
    cluster: Cluster<'a>,
    traffic: Arc<Traffic>,
    posted: Posted,
    next: usize,
    /// The number of kills by kind.
    had: BTreeMap<String, usize>,
}

impl<'a> Killing<'a> {
    fn start(services: &'a Services, seed: u64, deliveries: usize) -> Self {
        let cluster = Cluster::start(services, &EVERYONE);
        cluster.connected();
        Self {
            cluster,
            traffic: Arc::new(Traffic::new(seed, deliveries)),
            posted: Posted::default(),
            next: 0,
            had: BTreeMap::new(),
        }
    }

    /// Restarts a process that ends at the crash point `place:visits`.
    fn arm(&mut self, index: usize, crash_point: &str) {
        self.cluster
            .restart(index, Some(("TALLYHOOK_CRASH_AT", crash_point)));
    }

    /// Kills a process or a server while the next `chunk` requests are posted.
    fn kill(&mut self, end: End, chunk: usize) {
        let until_place = (self.next + chunk).min(self.traffic.len());
        let (from, services) = (self.next, self.cluster.services);
        let traffic = Arc::clone(&self.traffic);
        let load = |cluster: &Cluster<'_>| {
            Load::start(&traffic, &cluster.targets, (from, until_place), None)
        };
        let (load, had) = match end {
            End::Broker | End::Database => {
                let load = load(&self.cluster);
                let server = if end == End::Broker {
                    "rabbitmq"
                } else {
                    "postgres"
                };
                load.wait_for(chunk / 4);
                services.verb(&format!("kill {server}"));
                services.verb(&format!("start {server}"));
                (load, end.name())
            }
            End::At(place, role, _) if OF_THE_SWEEPER.contains(&(place, role)) => {
                let workers = self.cluster.of(role);
                workers.iter().for_each(|index| self.cluster.stop(*index));
                // Only the sweeper publishes what this receiver has committed.
                let receiver = self.cluster.of(Role::Receiver)[from % 2];
                self.arm(receiver, "accept.committed:1");
                let load = load(&self.cluster);
                until("the receiver aborts", PATIENCE, || self.aborted(receiver));
                self.cluster.restart(receiver, None);
                self.arm(workers[0], &format!("{place}:1"));
                until("the sweeper aborts", PATIENCE, || self.aborted(workers[0]));
                workers
                    .iter()
                    .for_each(|index| self.cluster.restart(*index, None));
                (load, end.name())
            }
            End::At(_, role, _) | End::Killed(role) => {
                let victim = self.cluster.of(role)[from % 2];
                match end {
                    End::At(place, _, visits) => self.arm(victim, &format!("{place}:{visits}")),
                    _ => self.cluster.restart(victim, None),
                }
                // A receiver publishes nothing before it is connected. A worker may have exited by
                // then.
                until("the process is connected", PATIENCE, || {
                    self.cluster.those_are(&[victim], &["ok"])
                        || self.cluster.ended(victim).is_some()
                });
                let load = load(&self.cluster);
                let ended = self.ends(victim, &load, chunk, matches!(end, End::At(..)));
                self.cluster.restart(victim, None);
                (
                    load,
                    if ended {
                        end.name()
                    } else {
                        format!("SIGKILL ({role:?})")
                    },
                )
            }
        };
        self.posted = self.posted.and(load.finish());
        self.next = until_place;
        *self.had.entry(had).or_default() += 1;
    }

    /// Returns true if the process ends at its crash point; it is killed if it has not reached it
    /// with the posted deliveries.
    fn ends(&mut self, victim: usize, load: &Load, chunk: usize, at_crash_point: bool) -> bool {
        if !at_crash_point {
            load.wait_for(chunk / 3);
            self.cluster.serve(victim).kill();
            return true;
        }
        let mut over: Option<Instant> = None;
        loop {
            if self.aborted(victim) {
                return true;
            }
            if load.is_over() {
                let since = *over.get_or_insert_with(Instant::now);
                if self
                    .cluster
                    .counts()
                    .is_some_and(|counts| counts.accepted == 0)
                    || since.elapsed().as_secs() > 3
                {
                    self.cluster.serve(victim).kill();
                    return false;
                }
            }
            std::thread::sleep(crate::POLL);
        }
    }

    /// Returns true once the process has ended at its crash point.
    fn aborted(&mut self, victim: usize) -> bool {
        let Some(status) = self.cluster.ended(victim) else {
            return false;
        };
        assert_eq!(
            status.signal(),
            Some(SIGABRT),
            "it ended otherwise: {status}"
        );
        true
    }

    /// Waits until deliveries are pending only for the end of a lease, so that no delivery is in
    /// flight during more kills than it has attempts.
    fn settle(&mut self) {
        let started = Instant::now();
        while self
            .cluster
            .counts()
            .is_none_or(|counts| counts.accepted > 0)
            && started.elapsed() < SETTLED
        {
            std::thread::sleep(crate::POLL);
        }
    }

    /// Waits until every delivery is finished, and builds the row.
    fn conclude(mut self) -> Row {
        if self.next < self.traffic.len() {
            let posted = self
                .cluster
                .post(&self.traffic, self.next, self.traffic.len());
            self.posted = self.posted.and(posted);
        }
        let all = self.cluster.drained_within(PATIENCE);
        let outcome = self
            .cluster
            .check(&self.traffic.expected(self.traffic.len(), &BTreeSet::new()));
        assert_eq!(outcome.counts.dead, 0);
        let kills: usize = self.had.values().sum();
        let note = format!("{kills} kills: {:?}", self.had);
        Row {
            posted: self.posted,
            outcome,
            back: None,
            all: Some(all),
            note,
        }
    }
}

/// Kills processes at each crash point once.
pub(crate) fn at_crash_points(services: &Services, _: Form) -> Row {
    let chunk = 40;
    // Some deliveries are to spare for crash points that are not reached at once.
    let mut killing = Killing::start(services, 13, chunk * (PLACES.len() + 6));
    for (number, (place, role)) in PLACES.into_iter().enumerate() {
        let end = End::At(place, role, 1);
        killing.kill(end, chunk);
        for _ in 0..3 {
            if killing.had.contains_key(&end.name()) {
                break;
            }
            killing.settle();
            killing.kill(end, chunk);
        }
        if number % IN_A_ROW == IN_A_ROW - 1 {
            killing.settle();
        }
    }
    for (place, role) in PLACES {
        let name = End::At(place, role, 1).name();
        assert!(
            killing.had.contains_key(&name),
            "{name} was never reached: {:?}",
            killing.had
        );
    }
    killing.conclude()
}

/// Kills by crash points, by SIGKILL, of the broker and of the database in turn.
pub(crate) fn of_everything(services: &Services, form: Form) -> Row {
    let (kills, deliveries) = (form.of(20, 300), form.of(1_000, 100_000));
    let mut killing = Killing::start(services, 14, deliveries);
    let chunk = killing.traffic.len() / kills;
    let started = Instant::now();
    for number in (0..kills).take_while(|_| started.elapsed() < LONGEST) {
        killing.kill(End::of(number), chunk);
        if number % IN_A_ROW == IN_A_ROW - 1 {
            killing.settle();
        }
        if number % 20 == 19 {
            let seconds = started.elapsed().as_secs();
            println!(
                "  {} kills, {} requests answered with 2xx, {seconds} s",
                number + 1,
                killing.next
            );
        }
    }
    killing.conclude()
}

/// Deliveries that a killed receiver had stored but not published are applied before the five
/// minutes after which they are due again.
pub(crate) fn unpublished(services: &Services, _: Form) -> Row {
    let mut killing = Killing::start(services, 15, 200);
    killing.kill(End::At("accept.committed", Role::Receiver, 2), 100);
    killing.settle();
    killing.conclude()
}
