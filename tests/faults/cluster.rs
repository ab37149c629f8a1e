//! Receivers and workers on one database and one broker, each a process of the real program.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::pull_request::PullRequest;
use tallyhook_core::domain::timings::timings;
use tallyhook_store::{
    DEFAULT_TEAM, DeliveryCounts, DeliveryFilter, DeliveryState, OpenMode, PullRequestDurations,
    Store,
};
use tempfile::TempDir;

use crate::load::{Load, Posted, Targets};
use crate::services::{Place, Services};
use crate::traffic::{Expected, Traffic};
use crate::{PATIENCE, SIGABRT, block_on, until};
use testkit::process::{Serve, tallyhook};

/// The role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Receiver,
    Worker,
    /// Receiver and worker in one process, as an embedded database requires.
    Whole,
}

impl Role {
    const fn flag(self) -> &'static str {
        match self {
            Self::Receiver => "ingest,api",
            Self::Worker => "worker",
            Self::Whole => "all",
        }
    }
}

/// A process of the cluster, which is replaced by another after its end.
pub(crate) struct Process {
    role: Role,
    serve: Option<Serve>,
    /// Its exit status if it aborted at its crash point before it listened.
    aborted: Option<ExitStatus>,
}

impl Process {
    const fn new(role: Role) -> Self {
        Self {
            role,
            serve: None,
            aborted: None,
        }
    }
}

/// The environment variable that sets a crash point of a process, and its value.
pub(crate) type Crash<'a> = Option<(&'a str, &'a str)>;

pub(crate) struct Cluster<'a> {
    pub(crate) services: &'a Services,
    pub(crate) place: Place,
    folder: TempDir,
    pub(crate) processes: Vec<Process>,
    pub(crate) targets: Targets,
    pub(crate) store: Store,
}

/// The numbers of deliveries by outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) counts: DeliveryCounts,
    /// Deliveries with more than one attempt.
    pub(crate) tried_again: usize,
    pub(crate) pull_requests: usize,
}

impl<'a> Cluster<'a> {
    /// Starts a process for each of `roles` in an empty place.
    pub(crate) fn start(services: &'a Services, roles: &[Role]) -> Self {
        let mut place = services.place();
        if roles == [Role::Whole] {
            place.database_url = "sqlite://test.db".to_owned();
        }
        Self::start_in(services, place, roles)
    }

    pub(crate) fn start_in(services: &'a Services, place: Place, roles: &[Role]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut processes = Vec::new();
        let mut first = Process::new(roles[0]);
        first.serve = Some(start(&folder, &place, roles[0], None));
        processes.push(first);
        let url = place.database_url.replace(
            "sqlite://",
            &format!("sqlite://{}/", folder.path().display()),
        );
        let store = block_on(tallyhook_store::open(&url, OpenMode::Shared)).unwrap();
        let mut cluster = Self {
            services,
            place,
            folder,
            processes,
            targets: Targets::default(),
            store,
        };
        for role in &roles[1..] {
            cluster.add(*role, None);
        }
        cluster.aim();
        cluster
    }

    /// Starts another process. Returns its index.
    pub(crate) fn add(&mut self, role: Role, crash: Crash<'_>) -> usize {
        self.processes.push(Process::new(role));
        let index = self.processes.len() - 1;
        self.restart(index, crash);
        index
    }

    /// Restarts the process at `index`.
    pub(crate) fn restart(&mut self, index: usize, crash: Crash<'_>) {
        let role = self.processes[index].role;
        // The earlier process must be gone before the next one opens the same place.
        drop(self.processes[index].serve.take());
        let (serve, aborted) = match try_start(&self.folder, &self.place, role, crash) {
            Ok(serve) => (Some(serve), None),
            // A worker can reach its crash point before the process listens.
            Err(status) if crash.is_some() && status.signal() == Some(SIGABRT) => {
                (None, Some(status))
            }
            Err(status) => panic!("{role:?} did not start: {status}"),
        };
        self.processes[index].serve = serve;
        self.processes[index].aborted = aborted;
        self.aim();
    }

    /// Returns the exit status of the process at `index` once it has exited by itself.
    pub(crate) fn ended(&mut self, index: usize) -> Option<ExitStatus> {
        let process = &mut self.processes[index];
        match &mut process.serve {
            Some(serve) => serve.ended(),
            None => process.aborted,
        }
    }

    /// Stops a process gracefully, and waits until it has exited.
    pub(crate) fn stop(&mut self, index: usize) {
        if let Some(serve) = self.processes[index].serve.take() {
            let (status, log) = serve.terminate();
            assert_eq!(status.code(), Some(0), "{status}: {log:#?}");
        }
        self.aim();
    }

    /// Points the load at the receivers that are running.
    fn aim(&self) {
        let receivers = self.processes.iter().filter(|one| one.role != Role::Worker);
        let urls = receivers
            .filter_map(|one| Some(one.serve.as_ref()?.url.clone()))
            .collect();
        *self.targets.write().unwrap() = urls;
    }

    pub(crate) fn serve(&mut self, index: usize) -> &mut Serve {
        self.processes[index].serve.as_mut().unwrap()
    }

    /// Returns the indexes of the processes with this role.
    pub(crate) fn of(&self, role: Role) -> Vec<usize> {
        let all = self.processes.iter().enumerate();
        all.filter(|(_, one)| one.role == role)
            .map(|(index, _)| index)
            .collect()
    }

    /// Restarts every process that exited by itself. Returns their exit statuses.
    pub(crate) fn supervise(&mut self, crash: Crash<'_>) -> Vec<ExitStatus> {
        let mut ended = Vec::new();
        for index in 0..self.processes.len() {
            if let Some(serve) = &mut self.processes[index].serve {
                let Some(status) = serve.ended() else {
                    continue;
                };
                ended.push(status);
            }
            // It may exit again before it listens.
            let started = try_start(&self.folder, &self.place, self.processes[index].role, crash);
            self.processes[index].serve = match started {
                Ok(serve) => Some(serve),
                Err(status) => {
                    ended.push(status);
                    None
                }
            };
        }
        self.aim();
        ended
    }

    /// Posts requests as fast as possible.
    pub(crate) fn post(&self, traffic: &Arc<Traffic>, from: usize, until: usize) -> Posted {
        Load::start(traffic, &self.targets, (from, until), None).finish()
    }

    /// Returns the counts of deliveries, or nothing while the database does not answer.
    pub(crate) fn counts(&self) -> Option<DeliveryCounts> {
        block_on(self.store.counts()).ok()
    }

    /// Returns the number of deliveries that workers finished, which excludes those ignored when
    /// stored; 0 while the database does not answer.
    pub(crate) fn finished(&self) -> u64 {
        self.counts()
            .map_or(0, |counts| counts.applied + counts.dead)
    }

    /// Returns the same, once the database answers.
    pub(crate) fn finished_when_it_answers(&self) -> u64 {
        until("the database answers", PATIENCE, || self.counts().is_some());
        self.finished()
    }

    /// Waits until more than `before` deliveries are finished. Returns the duration.
    pub(crate) fn finishes_more_than(&self, before: u64) -> Duration {
        let started = Instant::now();
        until("deliveries are applied again", PATIENCE, || {
            self.finished() > before
        });
        started.elapsed()
    }

    /// Waits until no delivery is pending. Returns the duration.
    pub(crate) fn drained_within(&self, patience: Duration) -> Duration {
        let started = Instant::now();
        until("every delivery is finished", patience, || {
            self.counts().is_some_and(|counts| counts.accepted == 0)
        });
        started.elapsed()
    }

    /// Returns true if `/readyz` of each process reports its queue as expected.
    pub(crate) fn queues_are(&self, expected: &[&str]) -> bool {
        self.those_are(&(0..self.processes.len()).collect::<Vec<_>>(), expected)
    }

    /// Returns the same for some of the processes.
    pub(crate) fn those_are(&self, indexes: &[usize], expected: &[&str]) -> bool {
        indexes
            .iter()
            .filter_map(|index| self.processes[*index].serve.as_ref())
            .all(|serve| {
                let answer = block_on(async {
                    let answer = self
                        .services
                        .http
                        .get(format!("{}/readyz", serve.url))
                        .send()
                        .await
                        .ok()?;
                    answer.json::<Value>().await.ok()
                });
                answer.is_some_and(|answer| {
                    answer["queue"]
                        .as_str()
                        .is_some_and(|queue| expected.contains(&queue))
                })
            })
    }

    /// Waits until every process is connected to the broker.
    pub(crate) fn connected(&self) {
        until("the broker is connected", PATIENCE, || {
            self.queues_are(&["ok"])
        });
    }

    /// Asserts that every delivery was finished once, with its expected outcome, and that the facts
    /// are those of an undisturbed run.
    pub(crate) fn check(&self, expected: &Expected) -> Outcome {
        let (mut seen, mut outcome) = (BTreeSet::new(), Outcome::default());
        let mut filter = DeliveryFilter::default();
        loop {
            let page = block_on(self.store.deliveries(&filter, 1000)).unwrap();
            let Some(last) = page.last() else { break };
            filter.before = Some(last.id);
            for delivery in page {
                let wanted = match delivery.state {
                    DeliveryState::Applied => &expected.applied,
                    DeliveryState::Ignored => &expected.ignored,
                    DeliveryState::Dead => &expected.dead,
                    DeliveryState::Accepted => panic!("in limbo: {delivery:?}"),
                };
                assert!(
                    wanted.contains(&delivery.guid),
                    "has an unexpected state: {delivery:?}"
                );
                assert!(delivery.finished_at.is_some(), "{delivery:?}");
                outcome.tried_again += usize::from(delivery.attempts > 1);
                assert!(
                    seen.insert(delivery.guid.clone()),
                    "stored twice: {delivery:?}"
                );
            }
        }
        assert_eq!(
            seen.len(),
            expected.deliveries(),
            "deliveries that were answered with 2xx are lost"
        );
        outcome.counts = block_on(self.store.counts()).unwrap();
        outcome.pull_requests = self.check_facts(expected);
        outcome
    }

    fn check_facts(&self, expected: &Expected) -> usize {
        let mut after = None;
        let mut found = 0;
        loop {
            let keys = block_on(self.store.keys_after(after, 500)).unwrap();
            let Some(last) = keys.last() else { break };
            after = Some(*last);
            for known in block_on(self.store.load(&keys)).unwrap() {
                let key = known.pull_request.key;
                assert_eq!(
                    Some(&known.pull_request),
                    expected.facts.get(&key),
                    "facts of {key}"
                );
                found += 1;
            }
        }
        assert_eq!(found, expected.facts.len(), "pull requests");
        // Numbers are checked for a sample only, since each takes a query of its own.
        let step = (found / 200).max(1);
        expected
            .facts
            .values()
            .step_by(step)
            .for_each(|fact| self.check_numbers(fact));
        found
    }

    fn check_numbers(&self, fact: &PullRequest) {
        let row = block_on(self.store.of_team(DEFAULT_TEAM.0).pull_request(fact.key)).unwrap();
        let Some(timings) = timings(fact, &Bots::default()) else {
            return assert!(row.is_none(), "{row:?}");
        };
        let row = row.unwrap_or_else(|| panic!("no row of {}", fact.key));
        let durations = PullRequestDurations {
            cycle_time: timings.cycle_time,
            review_time: timings.review_time,
            stages: timings.stages,
        };
        assert_eq!(
            (row.state, row.merged_at, row.durations),
            (timings.state, fact.merged_at, durations),
            "{}",
            fact.key
        );
    }

    /// Prints the warnings and errors that the processes have logged since they listen.
    fn complaints(&self) {
        for (index, process) in self.processes.iter().enumerate() {
            let Some(serve) = &process.serve else {
                continue;
            };
            let log = serve.logged();
            let complaints: Vec<_> = log
                .iter()
                .filter(|line| !line.contains("\"level\":\"INFO\""))
                .collect();
            eprintln!(
                "--- process {index}, {:?}: the last of {} complaints",
                process.role,
                complaints.len()
            );
            complaints
                .iter()
                .rev()
                .take(25)
                .rev()
                .for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("inbox: {:?}", self.counts());
            self.complaints();
            return;
        }
        if std::env::var_os("TALLYHOOK_FAULTS_LOG").is_some() {
            self.complaints();
        }
        block_on(self.store.close());
        self.processes.clear();
        self.services.leave(&self.place);
    }
}

fn start(folder: &TempDir, place: &Place, role: Role, crash: Crash<'_>) -> Serve {
    try_start(folder, place, role, crash)
        .unwrap_or_else(|status| panic!("{role:?} did not start: {status}"))
}

fn try_start(
    folder: &TempDir,
    place: &Place,
    role: Role,
    crash: Crash<'_>,
) -> Result<Serve, ExitStatus> {
    let mut command = tallyhook(
        folder.path(),
        &["serve", "--log-format", "json", "--role", role.flag()],
    );
    command
        .env("DATABASE_URL", &place.database_url)
        .env("AMQP_URL", &place.amqp_url)
        .envs(crash);
    Serve::try_start(&mut command).map_err(|(status, log)| {
        eprintln!("{role:?} ended before it listened: {log:#?}");
        status
    })
}
