//! The workers: take deliveries, decode them, apply them, write what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use metrics::{counter, histogram};
use tokio::sync::{RwLock, watch};
use tokio::time::Instant;

use crate::domain::join::{Dated, Join};
use crate::domain::notification::{self, Status};
use crate::domain::people::Bots;
use crate::domain::pull_request::{Outcome, PullRequest, Source};
use crate::domain::repository::{self, Access, Repository};
use crate::domain::task::{self, Patterns, TaskKey};
use crate::domain::timings::timings;
use crate::event::{Event, FetchedPullRequest, Repo, Undecodable};
use crate::github::types::{InstallationId, PrKey, RepoId, Timestamp};
use crate::queue::{DeliveryId, Queue};
use crate::store::{
    Change, DeadSelection, Exhausted, Finished, Known, PullRequestRecord, Recording, Sighting, Store, StoreError,
    Unfinished, Waiting, portions,
};
use crate::telemetry::{APPLY_LAG, DELIVERIES, POLL_MISSED, PROCESS, RETRIES, STALE, metric_label, tell_dead};

/// Deliveries of one transaction.
const BATCH: usize = 256;
/// And of their bodies, before they are compressed, unless one alone is larger.
const BATCH_BYTES: u64 = 32 * 1024 * 1024;
/// A delivery that failed this often is a dead letter.
const MAX_ATTEMPTS: u32 = 5;
/// How long a claimed delivery is this worker's. Batches take milliseconds; a worker that died is waited for so long.
const LEASE: Duration = Duration::from_mins(1);
/// How often a batch is begun again because somebody else wrote first.
const CONFLICTS: usize = 3;

/// A worker. Several may run, in one process or in many.
pub struct Worker {
    pub store: Arc<dyn Store>,
    pub queue: Arc<Queue>,
    pub bots: Bots,
    /// What links pull requests to tasks.
    pub patterns: Patterns,
    /// Whether tasks are looked at when their branch is pushed to.
    pub minds_pushes: bool,
    /// Shared by the workers of a process: batches read it together, a delivery that was tried before writes it alone.
    pub turns: Arc<RwLock<()>>,
    /// Raised after every batch, for whoever waits until the work is done.
    pub progress: watch::Sender<u64>,
}

/// A delivery that was decoded.
struct Decoded {
    delivery: Unfinished,
    event: Event,
}

/// Why a batch did not go through, named by what to do.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// Somebody else writes the same rows, or has finished one of them.
    #[error("another worker wrote the same rows")]
    Conflict,
    /// A rule broke on it; on its own a delivery can be told to be the one.
    #[error("the rules panicked: {0}")]
    Panicked(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failed {
    /// Whether one delivery of the batch can be the reason, which then fails by itself too.
    fn is_of_one(&self) -> bool {
        match self {
            Self::Conflict | Self::Panicked(_) => true,
            Self::Store(error) => error.is_about_data(),
        }
    }
}

impl Worker {
    /// Works until the queue is closed, and finishes what it has begun.
    pub async fn run(self) {
        while let Some(batch) = self.queue.receive(BATCH).await {
            if !batch.revived.is_empty() {
                self.revive(batch.revived.clone()).await;
            }
            self.work(&batch.ids).await;
            self.queue.done(batch);
            self.progress.send_modify(|batches| *batches += 1);
        }
    }

    async fn work(&self, ids: &[DeliveryId]) {
        crate::crash_point!("process.received");
        let started = Instant::now();
        let (tried, fresh): (Vec<_>, Vec<_>) = self.waiting(ids).await.into_iter().partition(|delivery| delivery.tried);
        for batch in portions(&fresh, BATCH_BYTES) {
            let _together = self.turns.read().await;
            self.handle(self.claim(&batch).await).await;
        }
        // Whatever was tried before is claimed and handled alone: if it ends the process again, nobody else's attempt
        // is counted, so that nobody else becomes a dead letter with it.
        for delivery in tried {
            let _alone = self.turns.write().await;
            self.handle(self.claim(&[delivery.id]).await).await;
        }
        histogram!(PROCESS).record(started.elapsed().as_secs_f64());
    }

    /// Those still to be done; as if all were tried before, if the database does not tell.
    async fn waiting(&self, ids: &[DeliveryId]) -> Vec<Waiting> {
        self.store.waiting(ids).await.unwrap_or_else(|error| {
            tracing::error!(%error, "earlier attempts could not be read; deliveries are handled one by one");
            ids.iter().map(|id| Waiting { id: *id, tried: true, body_bytes: 0 }).collect()
        })
    }

    async fn claim(&self, ids: &[DeliveryId]) -> Vec<Unfinished> {
        let mut tries = 0;
        let claim = loop {
            let now = Utc::now();
            match self.store.claim(ids, now, now + LEASE, MAX_ATTEMPTS).await {
                Ok(claim) => break claim,
                Err(StoreError::Closed) => return Vec::new(),
                Err(error) => wait_for_database(&mut tries, "taken up", &error).await,
            }
        };
        crate::crash_point!("process.claimed");
        for Exhausted { id, guid, event, reason } in claim.exhausted {
            tell_dead(id.0, &guid, &event, &reason);
        }
        claim.claimed
    }

    /// Takes dead letters up again whose copies somebody moved back.
    async fn revive(&self, ids: Vec<DeliveryId>) {
        let (selection, mut tries) = (DeadSelection::Ids(ids), 0);
        loop {
            match self.store.requeue(&selection, Utc::now()).await {
                Ok(_) | Err(StoreError::Closed) => return,
                Err(error) => wait_for_database(&mut tries, "taken up", &error).await,
            }
        }
    }

    async fn handle(&self, deliveries: Vec<Unfinished>) {
        let mut finished = Vec::new();
        let mut decoded = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            crate::crash_point!("process.handling", &delivery.guid);
            match catch_unwind(AssertUnwindSafe(|| delivery.event())) {
                Ok(Ok(event)) => decoded.push(Decoded { delivery, event }),
                Ok(Err(Undecodable::NoPullRequest(reason))) => {
                    finished.push(Finished::Ignored(delivery.id, reason.to_owned()));
                }
                Ok(Err(error)) => self.bury(&delivery, &format!("cannot be decoded: {error}")).await,
                Err(panic) => self.give_back(&[&delivery], &[], &Failed::Panicked(panic_text(&*panic))).await,
            }
        }
        if decoded.is_empty() && finished.is_empty() {
            return;
        }
        match self.apply(&decoded, &finished).await {
            Ok(()) => {}
            Err(failed) if failed.is_of_one() && decoded.len() + finished.len() > 1 => {
                tracing::warn!(error = %failed, "a batch is taken apart");
                self.handle_each(decoded, &finished).await;
            }
            Err(failed) => self.give_back(&deliveries_of(&decoded), &finished, &failed).await,
        }
    }

    async fn handle_each(&self, decoded: Vec<Decoded>, finished: &[Finished]) {
        for one in decoded {
            let alone = [one];
            if let Err(failed) = self.apply(&alone, &[]).await {
                self.give_back(&deliveries_of(&alone), &[], &failed).await;
            }
        }
        if let Err(failed) = self.apply(&[], finished).await {
            self.give_back(&[], finished, &failed).await;
        }
    }

    /// Applies a batch in one transaction, again from the start when somebody else wrote in between.
    async fn apply(&self, decoded: &[Decoded], finished: &[Finished]) -> Result<(), Failed> {
        let keys: BTreeSet<PrKey> = decoded.iter().filter_map(|one| one.event.pr_key()).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        for _ in 0..CONFLICTS {
            let known = self.store.load(&keys).await?;
            let records = catch_unwind(AssertUnwindSafe(|| changes(decoded, known, &self.bots, &self.patterns)));
            let changes = records.map_err(|panic| Failed::Panicked(panic_text(&*panic)))?;
            let recording = Recording {
                pull_requests: changes.pull_requests,
                repositories: changes.repositories,
                missed: changes.missed.iter().map(|(repo, (_, missed))| (*repo, *missed)).collect(),
                installations: changes.installations,
                changes: changes.status,
                moved: changes.moved,
                mentions: changes.mentions,
                pushes: if self.minds_pushes { pushes(decoded) } else { BTreeSet::new() },
                finished: finished.iter().cloned().chain(changes.finished).collect(),
            };
            let now = Utc::now();
            if self.store.record(&recording, now).await?.is_ok() {
                counter!(STALE).increment(changes.stale);
                for (name, missed) in changes.missed.into_values() {
                    counter!(POLL_MISSED, "repo" => name).increment(missed);
                }
                count(decoded, &recording.finished, now);
                return Ok(());
            }
        }
        Err(Failed::Conflict)
    }

    async fn bury(&self, delivery: &Unfinished, reason: &str) {
        match self.store.bury(&[delivery.id], reason, Utc::now()).await {
            Ok(0) => tracing::debug!(delivery.id = delivery.id.0, "another process has it by now"),
            Ok(_) => tell_dead(delivery.id.0, &delivery.guid, &delivery.event, reason),
            Err(error) => {
                tracing::error!(delivery.id = delivery.id.0, reason, %error, "a dead letter could not be stored; it will be tried again");
            }
        }
    }

    /// Gives deliveries back for a later attempt. Only one that broke the rules, or that the database refuses, is given up
    /// in the end: for a failing database no delivery is to blame, so that attempt is not counted.
    async fn give_back(&self, deliveries: &[&Unfinished], finished: &[Finished], failed: &Failed) {
        let to_blame = failed.is_of_one() && !matches!(failed, Failed::Conflict);
        let (last, again): (Vec<_>, Vec<_>) =
            deliveries.iter().partition(|delivery| to_blame && delivery.attempts >= MAX_ATTEMPTS);
        for delivery in last {
            self.bury(delivery, &format!("gave up after {MAX_ATTEMPTS} attempts: {failed}")).await;
        }
        let ids: Vec<_> = again.iter().map(|delivery| delivery.id).chain(finished.iter().map(Finished::id)).collect();
        if ids.is_empty() {
            return;
        }
        let attempts = again.iter().map(|delivery| delivery.attempts).max().unwrap_or(1);
        tracing::warn!(deliveries = ids.len(), attempts, error = %failed, "an attempt failed and will be made again");
        counter!(RETRIES).increment(ids.len() as u64);
        let (reason, mut tries) = (failed.to_string(), 0);
        // The database that failed the attempt often fails this as well, and nobody else may take them up meanwhile.
        loop {
            let now = Utc::now();
            let next_attempt = now + backoff(attempts);
            let given_back = match to_blame {
                true => self.store.retry(&ids, &reason, now, next_attempt).await,
                false => self.store.release(&ids, &reason, now, next_attempt).await,
            };
            match given_back {
                Ok(()) | Err(StoreError::Closed) => return,
                Err(error) => wait_for_database(&mut tries, "given back", &error).await,
            }
        }
    }
}

fn deliveries_of(decoded: &[Decoded]) -> Vec<&Unfinished> {
    decoded.iter().map(|one| &one.delivery).collect()
}

/// Lets the database come back: what a worker took is in no other place than here and the inbox.
async fn wait_for_database(tries: &mut u32, what: &'static str, error: &StoreError) {
    tracing::error!(%error, "deliveries could not be {what}; trying again");
    let wait = Duration::from_millis(200 << (*tries).min(4));
    *tries += 1;
    tokio::time::sleep(jittered(wait)).await;
}

/// Waits 2, 4, 8, 16 seconds after the first, second, ... attempt, a little more or less.
fn backoff(attempts: u32) -> Duration {
    jittered(Duration::from_secs(1 << attempts.min(8)))
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.75..1.25))
}

/// What a batch amounts to.
struct Changes {
    pull_requests: Vec<PullRequestRecord>,
    repositories: Vec<Sighting>,
    installations: Vec<(InstallationId, Dated<Access>)>,
    finished: Vec<Finished>,
    /// What pull requests became, delivery by delivery.
    status: Vec<Change>,
    /// And those that became something in the end.
    moved: BTreeSet<PrKey>,
    /// The keys of tasks that are named now, where these are others than before.
    mentions: Vec<(PrKey, BTreeSet<TaskKey>)>,
    stale: u64,
    /// By repository: its name, and how many changes of its pull requests the poller was the first to tell.
    missed: BTreeMap<RepoId, (String, u64)>,
}

/// Applies events to what is known. Pure, and in any order of `decoded` the same, but for what pull requests were in
/// between.
fn changes(decoded: &[Decoded], known: Vec<Known>, bots: &Bots, patterns: &Patterns) -> Changes {
    let before: Vec<_> = known.iter().map(|known| Before::of(&known.pull_request)).collect();
    let mut records: BTreeMap<PrKey, (PullRequestRecord, bool)> = known
        .into_iter()
        .map(|known| {
            (known.pull_request.key, (PullRequestRecord { known, timings: None, reviews: BTreeSet::new() }, false))
        })
        .collect();
    let mut repositories: BTreeMap<RepoId, Sighting> = BTreeMap::new();
    let mut finished = Vec::with_capacity(decoded.len());
    let mut installations = Vec::new();
    let mut status = Vec::new();
    let mut stale = 0;
    let mut missed = BTreeMap::new();
    for Decoded { delivery, event } in decoded {
        let received_at = Timestamp::from(delivery.received_at);
        for repository in repository::observed(event, received_at) {
            let sighting = sighting(repository, delivery);
            match repositories.entry(sighting.repository.id) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(sighting);
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().join(sighting),
            }
        }
        installations.extend(repository::installation_access(event, received_at));
        finished.push(match event {
            Event::Push(_) => Finished::Ignored(delivery.id, PUSH.to_owned()),
            _ => Finished::Applied(delivery.id),
        });
        let Some((record, changed)) = event.pr_key().and_then(|key| records.get_mut(&key)) else {
            continue;
        };
        if let Some(repo) = missed_by_webhook(event, delivery, &record.known.pull_request) {
            missed.entry(repo.id).or_insert_with(|| (repo.name.clone(), 0)).1 += 1;
        }
        let old = notification::status(&record.known.pull_request).map(|(old, _)| old);
        let outcome = apply(event, delivery.source, record);
        *changed |= outcome != Outcome::Unchanged;
        status.extend(notification::change(old, &record.known.pull_request).map(|change| Change {
            key: record.known.pull_request.key,
            change,
            source: delivery.source.into(),
        }));
        stale += u64::from(outcome == Outcome::Stale);
    }
    let (mut moved, mut mentions) = (BTreeSet::new(), Vec::new());
    for before in before {
        let Some((PullRequestRecord { known, .. }, true)) = records.get(&before.key) else { continue };
        if before.status != notification::status(&known.pull_request) {
            moved.insert(before.key);
        }
        mentions.extend(before.mentions(&known.pull_request, patterns).map(|keys| (before.key, keys)));
    }
    let changed = records.into_values().filter_map(|(record, changed)| changed.then_some(record));
    let pull_requests = changed.map(|mut record| {
        record.timings = timings(&record.known.pull_request, bots);
        record
    });
    Changes {
        pull_requests: pull_requests.collect(),
        repositories: repositories.into_values().collect(),
        installations,
        finished,
        status,
        moved,
        mentions,
        stale,
        missed,
    }
}

/// What a pull request was before a batch.
struct Before {
    key: PrKey,
    status: Option<(Status, Timestamp)>,
    /// Where it names tasks.
    texts: [Option<String>; 3],
}

impl Before {
    fn of(pull_request: &PullRequest) -> Self {
        let texts = task::texts(pull_request).map(|text| text.map(str::to_owned));
        Self { key: pull_request.key, status: notification::status(pull_request), texts }
    }

    /// All keys that it names now, if these are others than before.
    fn mentions(&self, now: &PullRequest, patterns: &Patterns) -> Option<BTreeSet<TaskKey>> {
        let before = self.texts.each_ref().map(Option::as_deref);
        if before == task::texts(now) {
            return None;
        }
        let [branch, title, body] = before.map(Option::unwrap_or_default);
        let keys = patterns.named_by(now);
        (keys != patterns.keys(branch, title, body)).then_some(keys)
    }
}

/// The branches that were pushed to, and are still there.
fn pushes(decoded: &[Decoded]) -> BTreeSet<(RepoId, String)> {
    let pushed = |event: &Event| match event {
        Event::Push(push) if push.after.as_deref().is_some_and(|sha| sha.bytes().any(|digit| digit != b'0')) => {
            Some((push.repo.id, push.git_ref.strip_prefix("refs/heads/")?.to_owned()))
        }
        _ => None,
    };
    decoded.iter().filter_map(|one| pushed(&one.event)).collect()
}

/// The repository of what the poller found and no webhook told.
fn missed_by_webhook<'a>(event: &'a Event, delivery: &Unfinished, known: &PullRequest) -> Option<&'a Repo> {
    let Event::Snapshot(fetched) = event else {
        return None;
    };
    let is_old = fetched.is_beyond_webhooks(delivery.received_at.into());
    let is_missed = delivery.source == Source::Poller && is_old && known.is_behind(fetched);
    is_missed.then_some(&fetched.repo)
}

fn apply(event: &Event, source: Source, record: &mut PullRequestRecord) -> Outcome {
    let pull_request = &mut record.known.pull_request;
    match event {
        Event::Snapshot(fetched) => {
            record.reviews.extend(fetched.reviews.iter().map(|review| review.id));
            pull_request.apply_fetched(fetched, source)
        }
        _ => event.pull_request().map_or(Outcome::Unchanged, |event| {
            record.reviews.extend(event.review.as_ref().map(|review| review.id));
            // Whoever brought it, and if it had to be asked for: it is what a webhook told.
            pull_request.apply(event, Source::Webhook)
        }),
    }
}

fn sighting(repository: Repository, delivery: &Unfinished) -> Sighting {
    let received_at = delivery.received_at;
    Sighting {
        repository,
        last_delivery: (delivery.source == Source::Webhook).then_some(received_at),
        tracks: match delivery.source {
            // Who watches one pull request does not ask for the others.
            Source::Monitor => None,
            // What the webhook tells happened before it came, and is to be told.
            Source::Webhook => Some(received_at - TimeDelta::seconds(FetchedPullRequest::WEBHOOKS_TAKE)),
            Source::Poller | Source::Backfill => Some(received_at),
        },
    }
}

/// Why a push changes no facts.
const PUSH: &str = "a push names no pull request; its synchronize event does";

fn count(decoded: &[Decoded], finished: &[Finished], now: crate::store::Moment) {
    let outcomes: BTreeMap<DeliveryId, &'static str> = finished.iter().map(|one| (one.id(), one.outcome())).collect();
    for Decoded { delivery, .. } in decoded {
        let outcome = outcomes.get(&delivery.id).copied().unwrap_or("applied");
        counter!(DELIVERIES, "event" => metric_label(&delivery.event), "outcome" => outcome).increment(1);
        let lag = (now - delivery.received_at).to_std().unwrap_or_default();
        histogram!(APPLY_LAG).record(lag.as_secs_f64());
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
