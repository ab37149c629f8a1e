//! The sender of deliveries. Like GitHub and its user, it sends a delivery again that was not
//! answered with 2xx.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::traffic::Traffic;
use crate::{PATIENCE, block_on, runtime, until};
use testkit::process::signed;

/// The number of concurrent requests.
const AT_ONCE: usize = 16;
/// The pause before the same delivery is sent again.
const PAUSE: Duration = Duration::from_millis(100);

/// The current addresses of the receivers.
pub(crate) type Targets = Arc<RwLock<Vec<String>>>;

/// The deliveries posted, and their answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Posted {
    /// The number of requests, each of which was answered with 2xx in the end.
    pub(crate) requests: usize,
    /// The number answered with 2xx at the first try.
    pub(crate) at_first: usize,
    /// The longest time from sending to an answer with 2xx.
    pub(crate) slowest: Duration,
}

impl Posted {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            at_first: self.at_first + other.at_first,
            slowest: self.slowest.max(other.slowest),
        }
    }
}

/// Requests that are posted in the background.
pub(crate) struct Load {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    traffic: Arc<Traffic>,
    targets: Targets,
    http: reqwest::Client,
    from: usize,
    stopping: AtomicBool,
    answered: AtomicUsize,
    refused: AtomicUsize,
    posted: Mutex<Posted>,
}

impl Load {
    /// Posts the requests from `from` to `until` until it is stopped: `per_second` each second, or
    /// as fast as possible without it.
    pub(crate) fn start(
        traffic: &Arc<Traffic>,
        targets: &Targets,
        (from, until): (usize, usize),
        per_second: Option<f64>,
    ) -> Self {
        let shared = Arc::new(Shared {
            traffic: traffic.clone(),
            targets: targets.clone(),
            // Each load has a client of its own: a pooled connection to a killed receiver does not
            // lead to the one that took its port.
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(12))
                .build()
                .unwrap(),
            from,
            stopping: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            posted: Mutex::default(),
        });
        let task = runtime().spawn(run(shared.clone(), until, per_second));
        Self { shared, task }
    }

    pub(crate) fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// Returns the number of tries that were not answered with 2xx.
    pub(crate) fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Waits until `more` further requests are answered with 2xx.
    pub(crate) fn wait_for(&self, more: usize) {
        let wanted = self.answered() + more;
        until("deliveries are answered", PATIENCE, || {
            self.answered() >= wanted
        });
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Starts no further request, and waits until every started one is answered with 2xx.
    pub(crate) fn stop(self) -> Posted {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.finish()
    }

    /// Waits until every request is answered with 2xx.
    pub(crate) fn finish(self) -> Posted {
        block_on(self.task).unwrap();
        *self.shared.posted.lock().unwrap()
    }
}

async fn run(shared: Arc<Shared>, until: usize, per_second: Option<f64>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut requests = JoinSet::new();
    let started = Instant::now();
    for place in shared.from..until {
        if let Some(per_second) = per_second {
            let due = started + Duration::from_secs_f64((place - shared.from) as f64 / per_second);
            tokio::time::sleep_until(due.into()).await;
        }
        let turn = room.clone().acquire_owned().await.unwrap();
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        let shared = shared.clone();
        requests.spawn(async move {
            post(&shared, place).await;
            drop(turn);
        });
        while let Some(ended) = requests.try_join_next() {
            ended.unwrap();
        }
    }
    while let Some(ended) = requests.join_next().await {
        ended.unwrap();
    }
}

/// Posts one delivery until it is answered with 2xx.
async fn post(shared: &Shared, place: usize) {
    let delivery = shared.traffic.request(place);
    let deadline = Instant::now() + PATIENCE;
    for attempt in 0.. {
        let url = {
            let targets = shared.targets.read().unwrap();
            targets[(place + attempt) % targets.len()].clone()
        };
        let sent = Instant::now();
        let answer = signed(
            &shared.http,
            &url,
            delivery.event,
            &delivery.guid,
            &delivery.body,
        )
        .send()
        .await;
        if answer
            .as_ref()
            .is_ok_and(|answer| answer.status().is_success())
        {
            let mut posted = shared.posted.lock().unwrap();
            posted.requests += 1;
            posted.at_first += usize::from(attempt == 0);
            posted.slowest = posted.slowest.max(sent.elapsed());
            drop(posted);
            shared.answered.fetch_add(1, Ordering::SeqCst);
            return;
        }
        shared.refused.fetch_add(1, Ordering::SeqCst);
        // Any failure other than 503 or a missing answer is a defect.
        let refused = answer.as_ref().is_ok_and(|answer| answer.status() != 503);
        assert!(
            !refused && Instant::now() < deadline,
            "{}: {answer:?}",
            delivery.guid
        );
        tokio::time::sleep(PAUSE).await;
    }
}
