//! Who posts: like GitHub and its user, who sends again what was not answered with 2xx.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::process::signed;
use crate::traffic::Traffic;
use crate::{PATIENCE, block_on, runtime, until};

/// Requests under way at the same time.
const AT_ONCE: usize = 16;
/// Before the same delivery is sent again.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the receivers listen now.
pub(crate) type Targets = Arc<RwLock<Vec<String>>>;

/// What was posted, and how it was answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Posted {
    /// Each of them was answered with 2xx in the end.
    pub(crate) requests: usize,
    /// With the first try.
    pub(crate) at_first: usize,
    /// From sending to the answer, of those answered with 2xx.
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

/// Posts in the background.
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
    /// Posts the requests from `from` on, so many a second, until it is stopped or `until` is reached; as fast as it
    /// goes without `per_second`.
    pub(crate) fn start(
        traffic: &Arc<Traffic>,
        targets: &Targets,
        (from, until): (usize, usize),
        per_second: Option<f64>,
    ) -> Self {
        let shared = Arc::new(Shared {
            traffic: traffic.clone(),
            targets: targets.clone(),
            // A receiver that was killed and one that took its port are not the same.
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

    /// Tries that were not answered with 2xx.
    pub(crate) fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Waits until so many more were answered with 2xx.
    pub(crate) fn wait_for(&self, more: usize) {
        let wanted = self.answered() + more;
        until("deliveries are answered", PATIENCE, || {
            self.answered() >= wanted
        });
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Begins no more, and waits until all that was begun is answered with 2xx.
    pub(crate) fn stop(self) -> Posted {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.finish()
    }

    /// Waits until everything is answered with 2xx.
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
        // Anything but "not now" or no answer at all is a defect.
        let refused = answer.as_ref().is_ok_and(|answer| answer.status() != 503);
        assert!(
            !refused && Instant::now() < deadline,
            "{}: {answer:?}",
            delivery.guid
        );
        tokio::time::sleep(PAUSE).await;
    }
}
