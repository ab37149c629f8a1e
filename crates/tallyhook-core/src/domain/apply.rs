//! Applying a batch of deliveries to the stored facts.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use chrono::TimeDelta;

use super::join::Join;
use super::notification::{self, PullRequestStatus};
use super::numbers::{NumberRules, numbers};
use super::people::Bots;
use super::pull_request::{ApplyOutcome, Author, PullRequest, Source};
use super::recording::{
    BatchWrite, FinishedDelivery, ListedCommits, PullRequestChange, PullRequestRecord,
    RepositoryObservation, StoredPullRequest,
};
use super::repository::{self, Repository};
use super::task::{self, LinkedPr, Patterns, TaskKey};
use super::waiting::{self, Waiting};
use super::waiting_change::WaitingChange;
use crate::delivery::{DeliveryId, Moment};
use crate::event::{Event, FetchedPullRequest, Repo};
use crate::github::types::{PrKey, RepoId, Timestamp};

/// The reason why a push is ignored.
const PUSH: &str = "a push names no pull request; its synchronize event does";

/// A decoded delivery.
#[derive(Clone, Copy, Debug)]
pub struct DecodedDelivery<'a> {
    pub id: DeliveryId,
    pub source: Source,
    pub received_at: Moment,
    pub event: &'a Event,
}

/// The settings that applying a batch depends on.
#[derive(Clone, Debug)]
pub struct ApplyRules {
    pub numbers: NumberRules,
    /// The patterns of task keys, which link pull requests to tasks.
    pub patterns: Patterns,
    /// A push makes the tasks on its branch due.
    pub tracks_pushes: bool,
    /// Changes of waiting are notified of. Where they are not, no pull request's turns are computed
    /// as they were before a batch.
    pub tracks_waiting: bool,
}

/// The result of applying a batch.
#[derive(Clone, Debug, Default)]
pub struct AppliedBatch {
    pub write: BatchWrite,
    /// The number of events whose snapshot was older than the stored facts.
    pub stale: u64,
    /// By repository: its name, and the number of changes that the poller found and no webhook
    /// brought.
    pub missed: BTreeMap<RepoId, (String, u64)>,
    /// The pull requests that the batch did not change.
    pub unchanged: Vec<StoredPullRequest>,
}

/// Returns the keys of the pull requests that the deliveries are about, which [`apply_batch`]
/// needs.
pub fn keys_of(deliveries: &[DecodedDelivery<'_>]) -> BTreeSet<PrKey> {
    deliveries
        .iter()
        .filter_map(|delivery| delivery.event.pr_key())
        .collect()
}

/// Applies a batch to `stored`, which has an entry for each of [`keys_of`] the deliveries. The
/// final facts do not depend on the order of the deliveries; the status changes in between do.
pub fn apply_batch(
    deliveries: &[DecodedDelivery<'_>],
    stored: Vec<StoredPullRequest>,
    rules: &ApplyRules,
) -> AppliedBatch {
    let mut records: BTreeMap<PrKey, ChangedRecord> = stored
        .into_iter()
        .map(|known| (known.pull_request.key, ChangedRecord::new(known, rules)))
        .collect();
    let mut batch = AppliedBatch::default();
    let mut repositories: BTreeMap<RepoId, RepositoryObservation> = BTreeMap::new();
    for delivery in deliveries {
        observe(delivery, &mut repositories, &mut batch.write);
        if let Some(record) = delivery
            .event
            .pr_key()
            .and_then(|key| records.get_mut(&key))
        {
            apply_one(delivery, record, &mut batch);
        }
    }
    batch.write.missed = batch
        .missed
        .iter()
        .map(|(repo, (_, missed))| (*repo, *missed))
        .collect();
    if rules.tracks_pushes {
        batch.write.pushes = deliveries
            .iter()
            .filter_map(|delivery| pushed_branch(delivery.event))
            .collect();
    }
    for mut changed in records.into_values() {
        let key = changed.record.known.pull_request.key;
        if let Some(seen) = repositories.get(&key.repo) {
            let known = &mut changed.record.known.repository;
            known.join(Some(seen.repository.seen.clone()));
        }
        if changed.changed_by.is_some() {
            let record = changed.finish(rules, &mut batch.write);
            batch.write.pull_requests.push(record);
        } else {
            batch.unchanged.push(changed.record.known);
        }
    }
    batch.write.repositories = repositories.into_values().collect();
    batch
}

/// A record in the making. A batch joins its events in place, and compares once.
struct ChangedRecord {
    record: PullRequestRecord,
    before: PreviousState,
    /// The waiting before the batch, if changes of it are tracked.
    waiting: Option<Waiting>,
    /// After the last event.
    status: Option<PullRequestStatus>,
    /// The source of the last change; `None` if the batch did not change it.
    changed_by: Option<Source>,
}

impl ChangedRecord {
    fn new(known: StoredPullRequest, rules: &ApplyRules) -> Self {
        let before = PreviousState::of(&known.pull_request, &rules.numbers.bots);
        let turns = rules.tracks_waiting.then(|| {
            let repo = known.repo_name();
            waiting::turns(&known.pull_request, repo, &rules.numbers, None)
        });
        Self {
            record: PullRequestRecord {
                known,
                numbers: None,
                reviews: BTreeSet::new(),
            },
            status: before.linked.map(|linked| linked.status),
            before,
            waiting: turns.flatten().and_then(|turns| turns.waiting),
            changed_by: None,
        }
    }

    fn finish(self, rules: &ApplyRules, write: &mut BatchWrite) -> PullRequestRecord {
        let mut record = self.record;
        let pull_request = &record.known.pull_request;
        self.before.compare(pull_request, rules, write);
        record.numbers = numbers(pull_request, record.known.repo_name(), &rules.numbers);
        if let (true, Some(numbers), Some(source)) =
            (rules.tracks_waiting, &record.numbers, self.changed_by)
        {
            let (key, old) = (pull_request.key, self.waiting.as_ref());
            let change = WaitingChange::of(key, source.into(), old, &numbers.turns);
            write.waits.extend(change);
        }
        record
    }
}

/// Adds what a delivery says besides its pull request: repositories, installations, and that it is
/// finished.
fn observe(
    delivery: &DecodedDelivery<'_>,
    repositories: &mut BTreeMap<RepoId, RepositoryObservation>,
    write: &mut BatchWrite,
) {
    let received_at = Timestamp::from(delivery.received_at);
    for repository in repository::observed(delivery.event, received_at) {
        let observation = observation(repository, delivery);
        match repositories.entry(observation.repository.id) {
            Entry::Vacant(entry) => {
                entry.insert(observation);
            }
            Entry::Occupied(mut entry) => drop(entry.get_mut().join(observation)),
        }
    }
    write
        .installations
        .extend(repository::installation_access(delivery.event, received_at));
    write.finished.push(match delivery.event {
        Event::Push(_) => FinishedDelivery::Ignored(delivery.id, PUSH.to_owned()),
        _ => FinishedDelivery::Applied(delivery.id),
    });
}

/// Applies a delivery to its pull request.
fn apply_one(
    delivery: &DecodedDelivery<'_>,
    changed: &mut ChangedRecord,
    batch: &mut AppliedBatch,
) {
    let record = &mut changed.record;
    if let Some(repo) = missed_by_webhook(delivery, &record.known.pull_request) {
        batch
            .missed
            .entry(repo.id)
            .or_insert_with(|| (repo.name.clone(), 0))
            .1 += 1;
    }
    let outcome = apply_event(delivery, record);
    batch.stale += u64::from(outcome == ApplyOutcome::Stale);
    if outcome == ApplyOutcome::Unchanged {
        return;
    }
    changed.changed_by = Some(delivery.source);
    let pull_request = &record.known.pull_request;
    if let Event::Snapshot(fetched) = delivery.event {
        batch
            .write
            .commits
            .extend(listed_commits(fetched, pull_request));
    }
    if let Some(change) = notification::change(changed.status, pull_request) {
        changed.status = Some(change.new);
        batch.write.changes.push(PullRequestChange {
            key: pull_request.key,
            change,
            source: delivery.source.into(),
        });
    }
}

fn apply_event(delivery: &DecodedDelivery<'_>, record: &mut PullRequestRecord) -> ApplyOutcome {
    let pull_request = &mut record.known.pull_request;
    if let Event::Snapshot(fetched) = delivery.event {
        record
            .reviews
            .extend(fetched.reviews.iter().map(|review| review.id));
        return pull_request.apply_fetched(fetched, delivery.source);
    }
    let Some(event) = delivery.event.pull_request() else {
        return ApplyOutcome::Unchanged;
    };
    record
        .reviews
        .extend(event.review.as_ref().map(|review| review.id));
    // A recovered delivery, too, is what a webhook says, although it was asked for.
    pull_request.apply(event, Source::Webhook)
}

/// Returns the fetched commits, unless a later fetch of them is known.
pub fn listed_commits(fetched: &FetchedPullRequest, known: &PullRequest) -> Option<ListedCommits> {
    let at = fetched.pull_request.updated_at;
    let is_newest = known.commits.as_ref().is_some_and(|dates| dates.at == at);
    (is_newest && !fetched.commit_list.is_empty()).then(|| ListedCommits {
        key: known.key,
        at,
        commits: fetched.commit_list.clone(),
    })
}

/// Returns the repository of a change that the poller found and no webhook brought.
fn missed_by_webhook<'a>(delivery: &DecodedDelivery<'a>, known: &PullRequest) -> Option<&'a Repo> {
    let Event::Snapshot(fetched) = delivery.event else {
        return None;
    };
    let is_old = fetched.is_beyond_webhooks(delivery.received_at.into());
    let is_missed = delivery.source == Source::Poller && is_old && known.is_behind(fetched);
    is_missed.then_some(&fetched.repo)
}

fn observation(repository: Repository, delivery: &DecodedDelivery<'_>) -> RepositoryObservation {
    let received_at = delivery.received_at;
    let former_name = match delivery.event {
        Event::Repository(event) => event.former_name.clone(),
        _ => None,
    };
    let former_names = former_name
        .into_iter()
        .map(|name| (name, repository.seen.at));
    RepositoryObservation {
        former_names: former_names.collect(),
        repository,
        last_delivery: (delivery.source == Source::Webhook).then_some(received_at),
        tracks: match delivery.source {
            // Watching one pull request is no request for the others.
            Source::Monitor => None,
            // The event happened before its webhook was received, and is worth a notification.
            Source::Webhook => {
                Some(received_at - TimeDelta::seconds(FetchedPullRequest::WEBHOOKS_TAKE))
            }
            Source::Poller | Source::Backfill => Some(received_at),
        },
    }
}

/// Returns the branch that a push updated; a deleted branch is none.
fn pushed_branch(event: &Event) -> Option<(RepoId, String)> {
    let Event::Push(push) = event else {
        return None;
    };
    let is_deletion = push
        .after
        .as_deref()
        .is_none_or(|sha| sha.bytes().all(|digit| digit == b'0'));
    let branch = push.git_ref.strip_prefix("refs/heads/")?;
    (!is_deletion).then(|| (push.repo.id, branch.to_owned()))
}

/// The state of a pull request before a batch, as far as a batch compares it.
struct PreviousState {
    key: PrKey,
    linked: Option<LinkedPr>,
    author: Option<Author>,
    /// The texts that may name tasks: branch, title and body.
    texts: [Option<String>; 3],
}

impl PreviousState {
    fn of(pull_request: &PullRequest, bots: &Bots) -> Self {
        let texts = task::texts(pull_request, bots).map(|text| text.map(str::to_owned));
        Self {
            key: pull_request.key,
            linked: LinkedPr::of(pull_request),
            author: pull_request.author.as_ref().map(|seen| seen.value.clone()),
            texts,
        }
    }

    /// Adds to `write` how a pull request differs from this state, as far as its tasks and its
    /// author's logins depend on it.
    fn compare(&self, now: &PullRequest, rules: &ApplyRules, write: &mut BatchWrite) {
        if self.linked != LinkedPr::of(now) {
            write.moved.insert(self.key);
        }
        let author = now.author.as_ref();
        if let Some(author) = author.filter(|author| self.author.as_ref() != Some(&author.value)) {
            let Author(account) = &author.value;
            let login = account.login.to_ascii_lowercase();
            let seen = write.logins.entry((login, account.id));
            seen.and_modify(|at| *at = author.at.min(*at))
                .or_insert(author.at);
        }
        write
            .mentions
            .extend(self.new_mentions(now, rules).map(|keys| (self.key, keys)));
    }

    /// Returns all task keys that it names now, if they differ from before.
    fn new_mentions(&self, now: &PullRequest, rules: &ApplyRules) -> Option<BTreeSet<TaskKey>> {
        let ApplyRules {
            numbers: NumberRules { bots, .. },
            patterns,
            ..
        } = rules;
        let before = self.texts.each_ref().map(Option::as_deref);
        if before == task::texts(now, bots) {
            return None;
        }
        let [branch, title, body] = before.map(Option::unwrap_or_default);
        let keys = patterns.named_by(now, bots);
        (keys != patterns.keys(branch, title, body)).then_some(keys)
    }
}
