//! The store: one struct over one kind of database.

use std::sync::Arc;

use tallyhook_core::domain::metrics::Aggregates;
use tallyhook_core::domain::repository::Repository;
use tallyhook_core::domain::task::{TaskId, TaskStatus};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};

use super::facts::Facts;
use super::inbox::Inbox;
use super::notifications::Notifications;
use super::outbox::Outbox;
use super::postgres::PostgresStore;
use super::reading::Reading;
use super::sqlite::SqliteStore;
use super::syncing::{Runs, Syncing};
use super::tasks::Tasks;
use super::tickets::Tickets;
use super::tokens::Tokens;
use super::*;

/// All that is kept, in one kind of database. Cheap to clone: clones share the connections.
#[derive(Clone)]
pub struct Store {
    database: Database,
}

#[derive(Clone)]
enum Database {
    Sqlite(Arc<SqliteStore>),
    Postgres(Arc<PostgresStore>),
}

impl From<SqliteStore> for Store {
    fn from(store: SqliteStore) -> Self {
        Self {
            database: Database::Sqlite(Arc::new(store)),
        }
    }
}

impl From<PostgresStore> for Store {
    fn from(store: PostgresStore) -> Self {
        Self {
            database: Database::Postgres(Arc::new(store)),
        }
    }
}

impl Store {
    /// Stores a delivery. When this returns, it is on disk.
    pub async fn accept(&self, delivery: NewDelivery) -> Result<Accepted> {
        match &self.database {
            Database::Sqlite(database) => database.accept(delivery).await,
            Database::Postgres(database) => database.accept(delivery).await,
        }
    }

    /// Those of `ids` that are still to be done.
    pub async fn waiting(&self, ids: &[DeliveryId]) -> Result<Vec<Waiting>> {
        match &self.database {
            Database::Sqlite(database) => database.waiting(ids).await,
            Database::Postgres(database) => database.waiting(ids).await,
        }
    }

    /// Counts an attempt for each of `ids` that is still to be done and nobody's, and gives them to the caller until
    /// `lease_until`, when they are due again. One that has used up `max_attempts` is declared dead instead: it took
    /// its workers with it.
    pub async fn claim(
        &self,
        ids: &[DeliveryId],
        now: Moment,
        lease_until: Moment,
        max_attempts: u32,
    ) -> Result<Claim> {
        match &self.database {
            Database::Sqlite(database) => database.claim(ids, now, lease_until, max_attempts).await,
            Database::Postgres(database) => {
                database.claim(ids, now, lease_until, max_attempts).await
            }
        }
    }

    /// Rows of `lane` that are due, longest due first, at most `limit`; they are due again at `again`.
    pub async fn take_due(
        &self,
        lane: Lane,
        limit: u32,
        now: Moment,
        again: Moment,
    ) -> Result<Vec<DeliveryId>> {
        match &self.database {
            Database::Sqlite(database) => database.take_due(lane, limit, now, again).await,
            Database::Postgres(database) => database.take_due(lane, limit, now, again).await,
        }
    }

    /// Makes due and nobody's what processes had claimed that are no more, and due what waits for longer than anything
    /// does: the clock of whoever said so was ahead, or ours was set back. How many there were.
    pub async fn release_orphans(&self, now: Moment) -> Result<u64> {
        match &self.database {
            Database::Sqlite(database) => database.release_orphans(now).await,
            Database::Postgres(database) => database.release_orphans(now).await,
        }
    }

    /// Makes due whatever is unfinished and nobody's: the queue lost what it was handed. How many were not due before.
    pub async fn hand_over_again(&self, now: Moment) -> Result<u64> {
        match &self.database {
            Database::Sqlite(database) => database.hand_over_again(now).await,
            Database::Postgres(database) => database.hand_over_again(now).await,
        }
    }

    /// The same for those of `ids` that are unfinished and nobody's: the queue did not take them.
    pub async fn hand_back(&self, ids: &[DeliveryId], now: Moment) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.hand_back(ids, now).await,
            Database::Postgres(database) => database.hand_back(ids, now).await,
        }
    }

    /// Those of `ids` that are still to be done, with their bodies, by id.
    pub async fn unfinished(&self, ids: &[DeliveryId]) -> Result<Vec<Unfinished>> {
        match &self.database {
            Database::Sqlite(database) => database.unfinished(ids).await,
            Database::Postgres(database) => database.unfinished(ids).await,
        }
    }

    /// Gives claimed deliveries back, to be tried again at `next_attempt`; `error` enters their history. What another process
    /// took up meanwhile, since the lease had ended, is left to that one.
    pub async fn retry(
        &self,
        ids: &[DeliveryId],
        error: &str,
        now: Moment,
        next_attempt: Moment,
    ) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.retry(ids, error, now, next_attempt).await,
            Database::Postgres(database) => database.retry(ids, error, now, next_attempt).await,
        }
    }

    /// The same for what is not the deliveries' fault: the attempt does not count.
    pub async fn release(
        &self,
        ids: &[DeliveryId],
        error: &str,
        now: Moment,
        next_attempt: Moment,
    ) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.release(ids, error, now, next_attempt).await,
            Database::Postgres(database) => database.release(ids, error, now, next_attempt).await,
        }
    }

    /// Declares claimed deliveries dead, but for those that another process took up meanwhile. How many there were.
    pub async fn bury(&self, ids: &[DeliveryId], reason: &str, now: Moment) -> Result<u64> {
        match &self.database {
            Database::Sqlite(database) => database.bury(ids, reason, now).await,
            Database::Postgres(database) => database.bury(ids, reason, now).await,
        }
    }

    /// Makes dead letters due again, with all attempts to go. How many there were.
    pub async fn requeue(&self, dead: &DeadSelection, now: Moment) -> Result<u64> {
        match &self.database {
            Database::Sqlite(database) => database.requeue(dead, now).await,
            Database::Postgres(database) => database.requeue(dead, now).await,
        }
    }

    /// Lets a dead letter go: it becomes ignored with `reason`. Whether there was one.
    pub async fn discard(&self, id: DeliveryId, reason: &str, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.discard(id, reason, now).await,
            Database::Postgres(database) => database.discard(id, reason, now).await,
        }
    }

    /// Dead letters by what they died of, the largest group first.
    pub async fn dead_groups(&self) -> Result<Vec<DeadGroup>> {
        match &self.database {
            Database::Sqlite(database) => database.dead_groups().await,
            Database::Postgres(database) => database.dead_groups().await,
        }
    }

    /// Dead letters of which no copy went to the queue of dead ones yet, at most `limit`, oldest first.
    pub async fn uncopied_dead(&self, limit: u32) -> Result<Vec<Delivery>> {
        match &self.database {
            Database::Sqlite(database) => database.uncopied_dead(limit).await,
            Database::Postgres(database) => database.uncopied_dead(limit).await,
        }
    }

    /// Notes that copies of these went to the queue of dead ones.
    pub async fn dead_copied(&self, ids: &[DeliveryId]) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.dead_copied(ids).await,
            Database::Postgres(database) => database.dead_copied(ids).await,
        }
    }

    pub async fn counts(&self) -> Result<Counts> {
        match &self.database {
            Database::Sqlite(database) => database.counts().await,
            Database::Postgres(database) => database.counts().await,
        }
    }

    pub async fn deliveries(&self, filter: &DeliveryFilter, limit: u32) -> Result<Vec<Delivery>> {
        match &self.database {
            Database::Sqlite(database) => database.deliveries(filter, limit).await,
            Database::Postgres(database) => database.deliveries(filter, limit).await,
        }
    }

    /// Every delivery of one GUID: more than one only if the bodies differ.
    pub async fn deliveries_of(&self, guid: &str) -> Result<Vec<Delivery>> {
        match &self.database {
            Database::Sqlite(database) => database.deliveries_of(guid).await,
            Database::Postgres(database) => database.deliveries_of(guid).await,
        }
    }

    pub async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>> {
        match &self.database {
            Database::Sqlite(database) => database.delivery(id).await,
            Database::Postgres(database) => database.delivery(id).await,
        }
    }

    /// The stored body; `None` once it was cleaned away.
    pub async fn body(&self, id: DeliveryId) -> Result<Option<StoredBody>> {
        match &self.database {
            Database::Sqlite(database) => database.body(id).await,
            Database::Postgres(database) => database.body(id).await,
        }
    }

    /// Removes bodies of finished deliveries received before `bodies_before`, and whole rows before `rows_before`.
    /// Dead ones stay until somebody decides. Takes at most `limit` of each, so that it never holds others up.
    pub async fn purge(
        &self,
        bodies_before: Moment,
        rows_before: Moment,
        limit: u32,
    ) -> Result<Purged> {
        match &self.database {
            Database::Sqlite(database) => database.purge(bodies_before, rows_before, limit).await,
            Database::Postgres(database) => database.purge(bodies_before, rows_before, limit).await,
        }
    }
}

impl Store {
    /// Returns the stored state of each key, [`PullRequest::unknown`](tallyhook_core::domain::pull_request::PullRequest::unknown)
    /// for one without a row.
    pub async fn load(&self, keys: &[PrKey]) -> Result<Vec<StoredPullRequest>> {
        match &self.database {
            Database::Sqlite(database) => database.load(keys).await,
            Database::Postgres(database) => database.load(keys).await,
        }
    }

    /// Writes facts and numbers, and finishes the deliveries they came from, in one transaction.
    pub async fn record(
        &self,
        write: &BatchWrite,
        now: Moment,
    ) -> Result<std::result::Result<(), VersionConflict>> {
        match &self.database {
            Database::Sqlite(database) => database.record(write, now).await,
            Database::Postgres(database) => database.record(write, now).await,
        }
    }

    /// Returns keys after `after` in ascending order, at most `limit`, to page through all pull requests.
    pub async fn keys_after(&self, after: Option<PrKey>, limit: u32) -> Result<Vec<PrKey>> {
        match &self.database {
            Database::Sqlite(database) => database.keys_after(after, limit).await,
            Database::Postgres(database) => database.keys_after(after, limit).await,
        }
    }
}

impl Store {
    /// Events after `id`, at most `limit`. Whoever has read up to an event has missed none before it: none appears there
    /// later.
    pub async fn events_after(&self, id: EventId, limit: u32) -> Result<Vec<OutboxEvent>> {
        match &self.database {
            Database::Sqlite(database) => database.events_after(id, limit).await,
            Database::Postgres(database) => database.events_after(id, limit).await,
        }
    }

    /// The last event, [`EventId::BEGINNING`] if there was none ever.
    pub async fn newest_event(&self) -> Result<EventId> {
        match &self.database {
            Database::Sqlite(database) => database.newest_event().await,
            Database::Postgres(database) => database.newest_event().await,
        }
    }

    /// Whether there is such an event, and thereby all that came after it.
    pub async fn remembers_event(&self, id: EventId) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.remembers_event(id).await,
            Database::Postgres(database) => database.remembers_event(id).await,
        }
    }

    /// Removes events recorded before `before` with what channels were told of them, at most `limit`, and never the last
    /// nor one that somebody took up for a channel that is still to be told of it. How many there were.
    pub async fn purge_events(&self, before: Moment, limit: u32) -> Result<u64> {
        match &self.database {
            Database::Sqlite(database) => database.purge_events(before, limit).await,
            Database::Postgres(database) => database.purge_events(before, limit).await,
        }
    }
}

impl Store {
    /// A channel as it stands. One that was never seen before begins behind the newest event.
    pub async fn open_channel(&self, channel: &str) -> Result<ChannelState> {
        match &self.database {
            Database::Sqlite(database) => database.open_channel(channel).await,
            Database::Postgres(database) => database.open_channel(channel).await,
        }
    }

    /// Moves a channel from one place to another and notes what it is to be told of the events between, each with its
    /// subject. Whether it was at `from`; else nothing was done.
    pub async fn take_up(
        &self,
        channel: &str,
        from: EventId,
        to: EventId,
        wanted: &[(EventId, String)],
        now: Moment,
    ) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.take_up(channel, from, to, wanted, now).await,
            Database::Postgres(database) => database.take_up(channel, from, to, wanted, now).await,
        }
    }

    /// What a channel is to be told now, in the order of the events, at most `limit`.
    pub async fn due_notifications(
        &self,
        channel: &str,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<NotificationRow>> {
        match &self.database {
            Database::Sqlite(database) => database.due_notifications(channel, now, limit).await,
            Database::Postgres(database) => database.due_notifications(channel, now, limit).await,
        }
    }

    /// When the next one is due, if any is pending.
    pub async fn next_notification(&self, channel: &str) -> Result<Option<Moment>> {
        match &self.database {
            Database::Sqlite(database) => database.next_notification(channel).await,
            Database::Postgres(database) => database.next_notification(channel).await,
        }
    }

    /// Notes an attempt, and with `rest` what it means for the channel. Whether the notification was not finished; else
    /// nothing was done.
    pub async fn attempted(
        &self,
        attempt: &Attempt<'_>,
        next: Next,
        rest: Option<Rest>,
    ) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.attempted(attempt, next, rest).await,
            Database::Postgres(database) => database.attempted(attempt, next, rest).await,
        }
    }

    /// Finishes a notification if something newer about the same was sent to its channel. Whether that is so.
    pub async fn supersede(&self, channel: &str, event: EventId, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.supersede(channel, event, now).await,
            Database::Postgres(database) => database.supersede(channel, event, now).await,
        }
    }

    /// Gives up what is still to be sent of events recorded before `before`, at most `limit`, whenever it was taken up and
    /// whether or not anybody works on its channel. How many there were.
    pub async fn give_up(&self, before: Moment, now: Moment, limit: u32) -> Result<u64> {
        match &self.database {
            Database::Sqlite(database) => database.give_up(before, now, limit).await,
            Database::Postgres(database) => database.give_up(before, now, limit).await,
        }
    }

    /// Every channel that was ever worked on, by name.
    pub async fn channels(&self) -> Result<Vec<ChannelRecord>> {
        match &self.database {
            Database::Sqlite(database) => database.channels().await,
            Database::Postgres(database) => database.channels().await,
        }
    }

    /// What is still to be sent to those of `channels` that were ever worked on, by name; what nobody looked at yet for one is
    /// among it.
    pub async fn backlogs(&self, channels: &[&str]) -> Result<Vec<Backlog>> {
        match &self.database {
            Database::Sqlite(database) => database.backlogs(channels).await,
            Database::Postgres(database) => database.backlogs(channels).await,
        }
    }

    pub async fn notifications(
        &self,
        filter: &NotificationFilter,
        limit: u32,
    ) -> Result<Vec<NotificationRow>> {
        match &self.database {
            Database::Sqlite(database) => database.notifications(filter, limit).await,
            Database::Postgres(database) => database.notifications(filter, limit).await,
        }
    }
}

impl Store {
    pub async fn pull_requests(
        &self,
        filter: &PullRequestFilter,
        limit: u32,
    ) -> Result<Vec<PullRequestRow>> {
        match &self.database {
            Database::Sqlite(database) => database.pull_requests(filter, limit).await,
            Database::Postgres(database) => database.pull_requests(filter, limit).await,
        }
    }

    pub async fn pull_request(&self, key: PrKey) -> Result<Option<PullRequestRow>> {
        match &self.database {
            Database::Sqlite(database) => database.pull_request(key).await,
            Database::Postgres(database) => database.pull_request(key).await,
        }
    }

    /// Those of these that are known, in any order.
    pub async fn pull_requests_of(&self, keys: &[PrKey]) -> Result<Vec<PullRequestRow>> {
        match &self.database {
            Database::Sqlite(database) => database.pull_requests_of(keys).await,
            Database::Postgres(database) => database.pull_requests_of(keys).await,
        }
    }

    /// The repository of that name now; the one seen last, where an old one of that name was deleted.
    pub async fn repository_id(&self, name: &str) -> Result<Option<RepoId>> {
        match &self.database {
            Database::Sqlite(database) => database.repository_id(name).await,
            Database::Postgres(database) => database.repository_id(name).await,
        }
    }

    /// Summaries of merged pull requests, by the moment of the merge, and how many were closed without one.
    pub async fn aggregates(&self, filter: &AggregateFilter) -> Result<Aggregates> {
        match &self.database {
            Database::Sqlite(database) => database.aggregates(filter).await,
            Database::Postgres(database) => database.aggregates(filter).await,
        }
    }
}

impl Store {
    /// Tracks a repository from now on, as one of which nothing was asked for yet, and notes what was seen of it; `false`
    /// if it was tracked.
    pub async fn track(&self, repository: &Repository, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.track(repository, now).await,
            Database::Postgres(database) => database.track(repository, now).await,
        }
    }

    /// Facts stay, deliveries that come later do not track it again, and its run is cancelled; `false` if it was not
    /// tracked.
    pub async fn untrack(&self, repo: RepoId, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.untrack(repo, now).await,
            Database::Postgres(database) => database.untrack(repo, now).await,
        }
    }

    /// By name.
    pub async fn tracked(&self) -> Result<Vec<TrackedRepository>> {
        match &self.database {
            Database::Sqlite(database) => database.tracked().await,
            Database::Postgres(database) => database.tracked().await,
        }
    }

    pub async fn tracked_repository(&self, repo: RepoId) -> Result<Option<TrackedRepository>> {
        match &self.database {
            Database::Sqlite(database) => database.tracked_repository(repo).await,
            Database::Postgres(database) => database.tracked_repository(repo).await,
        }
    }

    /// Notes what asking for a repository came to.
    pub async fn sync_state(&self, repo: RepoId, state: &SyncState, now: Moment) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.sync_state(repo, state, now).await,
            Database::Postgres(database) => database.sync_state(repo, state, now).await,
        }
    }

    /// Pull requests of a tracked repository of which only parts were ever seen, and about which GitHub was not asked
    /// since `checked_before`: the oldest check first, before them those without one, of these the newest first.
    pub async fn unfetched(
        &self,
        repo: RepoId,
        checked_before: Moment,
        limit: u32,
    ) -> Result<Vec<PrNumber>> {
        match &self.database {
            Database::Sqlite(database) => database.unfetched(repo, checked_before, limit).await,
            Database::Postgres(database) => database.unfetched(repo, checked_before, limit).await,
        }
    }

    /// Notes that GitHub was asked about just these, and that what it said is in the inbox.
    pub async fn checked(&self, keys: &[PrKey], at: Moment) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.checked(keys, at).await,
            Database::Postgres(database) => database.checked(keys, at).await,
        }
    }

    /// Watches a pull request; `false` if it was watched.
    pub async fn watch(&self, repo_name: &str, number: PrNumber, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.watch(repo_name, number, now).await,
            Database::Postgres(database) => database.watch(repo_name, number, now).await,
        }
    }

    /// `false` if it was not watched.
    pub async fn unwatch(&self, repo_name: &str, number: PrNumber) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.unwatch(repo_name, number).await,
            Database::Postgres(database) => database.unwatch(repo_name, number).await,
        }
    }

    /// Those that were not checked since `due_before`, the oldest check first.
    pub async fn watched(&self, due_before: Moment, limit: u32) -> Result<Vec<Watched>> {
        match &self.database {
            Database::Sqlite(database) => database.watched(due_before, limit).await,
            Database::Postgres(database) => database.watched(due_before, limit).await,
        }
    }

    /// Those that could not be got when they were asked for last, the latest first.
    pub async fn failing_watches(&self, limit: u32) -> Result<Vec<Watched>> {
        match &self.database {
            Database::Sqlite(database) => database.failing_watches(limit).await,
            Database::Postgres(database) => database.failing_watches(limit).await,
        }
    }

    /// Those that were not checked since `due_before` are due.
    pub async fn watch_counts(&self, due_before: Moment) -> Result<WatchCounts> {
        match &self.database {
            Database::Sqlite(database) => database.watch_counts(due_before).await,
            Database::Postgres(database) => database.watch_counts(due_before).await,
        }
    }

    /// Notes that a watched pull request was asked for, and what went wrong if anything did.
    pub async fn watch_checked(
        &self,
        repo_name: &str,
        number: PrNumber,
        now: Moment,
        outcome: std::result::Result<(), &str>,
    ) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => {
                database
                    .watch_checked(repo_name, number, now, outcome)
                    .await
            }
            Database::Postgres(database) => {
                database
                    .watch_checked(repo_name, number, now, outcome)
                    .await
            }
        }
    }

    pub async fn poller_stats(&self) -> Result<PollerStats> {
        match &self.database {
            Database::Sqlite(database) => database.poller_stats().await,
            Database::Postgres(database) => database.poller_stats().await,
        }
    }

    /// Asks for a round of the poller now, after the one that may be under way.
    pub async fn ask_for_poll(&self, now: Moment) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.ask_for_poll(now).await,
            Database::Postgres(database) => database.ask_for_poll(now).await,
        }
    }

    pub async fn poll_began(&self, now: Moment) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.poll_began(now).await,
            Database::Postgres(database) => database.poll_began(now).await,
        }
    }

    /// Notes the end of a round, in which `errors` repositories failed.
    pub async fn poll_ended(
        &self,
        now: Moment,
        errors: u64,
        statistics: &serde_json::Value,
    ) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.poll_ended(now, errors, statistics).await,
            Database::Postgres(database) => database.poll_ended(now, errors, statistics).await,
        }
    }
}

impl Store {
    /// Asks for a run: the unfinished one of the repository if there is one; the last one, to go on where it stopped, if
    /// it failed with the same options; else a new one. `None` if the repository is not known.
    pub async fn ask_for_run(
        &self,
        repo: RepoId,
        options: &RunOptions,
        now: Moment,
    ) -> Result<Option<SyncRun>> {
        match &self.database {
            Database::Sqlite(database) => database.ask_for_run(repo, options, now).await,
            Database::Postgres(database) => database.ask_for_run(repo, options, now).await,
        }
    }

    /// Takes the oldest run, of `only` if told, that nobody works on.
    pub async fn take_run(
        &self,
        only: Option<RepoId>,
        now: Moment,
        lease_until: Moment,
    ) -> Result<Option<SyncRun>> {
        match &self.database {
            Database::Sqlite(database) => database.take_run(only, now, lease_until).await,
            Database::Postgres(database) => database.take_run(only, now, lease_until).await,
        }
    }

    /// Writes a run that was taken; in a finished state, or queued for somebody else to take, it is let go. `false` if
    /// it was cancelled or somebody else has taken it: nothing was written, stop.
    pub async fn save_run(&self, run: &SyncRun, now: Moment, lease_until: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.save_run(run, now, lease_until).await,
            Database::Postgres(database) => database.save_run(run, now, lease_until).await,
        }
    }

    /// Keeps a run that was taken. `false` as with [`save_run`](Self::save_run).
    pub async fn renew_run(&self, run: &SyncRun, lease_until: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.renew_run(run, lease_until).await,
            Database::Postgres(database) => database.renew_run(run, lease_until).await,
        }
    }

    /// `false` if it is finished or not known.
    pub async fn cancel_run(&self, run: SyncRunId, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.cancel_run(run, now).await,
            Database::Postgres(database) => database.cancel_run(run, now).await,
        }
    }

    pub async fn sync_run(&self, run: SyncRunId) -> Result<Option<SyncRun>> {
        match &self.database {
            Database::Sqlite(database) => database.sync_run(run).await,
            Database::Postgres(database) => database.sync_run(run).await,
        }
    }

    /// The newest first; those before `before` in that order, if told.
    pub async fn sync_runs(
        &self,
        repo: Option<RepoId>,
        before: Option<SyncRunId>,
        limit: u32,
    ) -> Result<Vec<SyncRun>> {
        match &self.database {
            Database::Sqlite(database) => database.sync_runs(repo, before, limit).await,
            Database::Postgres(database) => database.sync_runs(repo, before, limit).await,
        }
    }

    /// The newest one of each repository.
    pub async fn latest_runs(&self) -> Result<Vec<SyncRun>> {
        match &self.database {
            Database::Sqlite(database) => database.latest_runs().await,
            Database::Postgres(database) => database.latest_runs().await,
        }
    }
}

impl Store {
    /// Makes a task; `false` if there is one of its key.
    pub async fn create_task(&self, task: &NewTask, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.create_task(task, now).await,
            Database::Postgres(database) => database.create_task(task, now).await,
        }
    }

    pub async fn task(&self, which: &TaskRef) -> Result<Option<Task>> {
        match &self.database {
            Database::Sqlite(database) => database.task(which).await,
            Database::Postgres(database) => database.task(which).await,
        }
    }

    /// Tasks made before `before`, at most `limit`, the newest first.
    pub async fn tasks(
        &self,
        status: Option<TaskStatus>,
        before: Option<(Moment, TaskId)>,
        limit: u32,
    ) -> Result<Vec<Task>> {
        match &self.database {
            Database::Sqlite(database) => database.tasks(status, before, limit).await,
            Database::Postgres(database) => database.tasks(status, before, limit).await,
        }
    }

    /// Changes a task as a person says; `false` if there is none. A new status is told.
    pub async fn edit_task(&self, id: TaskId, edit: &TaskEdit, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.edit_task(id, edit, now).await,
            Database::Postgres(database) => database.edit_task(id, edit, now).await,
        }
    }

    /// Links a pull request to a task; `false` if it is linked already.
    pub async fn link_task(&self, id: TaskId, pull_request: PrKey, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.link_task(id, pull_request, now).await,
            Database::Postgres(database) => database.link_task(id, pull_request, now).await,
        }
    }

    /// Undoes a link; `false` if there is none. A key that the pull request names still counts.
    pub async fn unlink_task(&self, id: TaskId, pull_request: PrKey, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.unlink_task(id, pull_request, now).await,
            Database::Postgres(database) => database.unlink_task(id, pull_request, now).await,
        }
    }

    /// The history of a task, the newest first, at most `limit` entries.
    pub async fn task_history(&self, id: TaskId, limit: u32) -> Result<Vec<TaskEvent>> {
        match &self.database {
            Database::Sqlite(database) => database.task_history(id, limit).await,
            Database::Postgres(database) => database.task_history(id, limit).await,
        }
    }

    /// Tasks of which any of `wanted` is due, at most `limit`.
    pub async fn due_tasks(&self, wanted: Due, now: Moment, limit: u32) -> Result<Vec<Task>> {
        match &self.database {
            Database::Sqlite(database) => database.due_tasks(wanted, now, limit).await,
            Database::Postgres(database) => database.due_tasks(wanted, now, limit).await,
        }
    }

    /// Writes what came of looking at a task; `false` if it was written or marked since it was read: look again.
    pub async fn settle_task(&self, task: &Task, settled: &Settled, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.settle_task(task, settled, now).await,
            Database::Postgres(database) => database.settle_task(task, settled, now).await,
        }
    }
}

impl Store {
    /// Stores a token's digest under `name`, in place of a revoked one of that name. `false` if the name is taken.
    pub async fn create_token(&self, name: &str, hash: &TokenHash, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.create_token(name, hash, now).await,
            Database::Postgres(database) => database.create_token(name, hash, now).await,
        }
    }

    pub async fn tokens(&self) -> Result<Vec<Token>> {
        match &self.database {
            Database::Sqlite(database) => database.tokens().await,
            Database::Postgres(database) => database.tokens().await,
        }
    }

    /// Whether there was one of that name to revoke.
    pub async fn revoke_token(&self, name: &str, now: Moment) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.revoke_token(name, now).await,
            Database::Postgres(database) => database.revoke_token(name, now).await,
        }
    }

    /// Whether a token with this digest is in force.
    pub async fn token_is_valid(&self, hash: &TokenHash) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.token_is_valid(hash).await,
            Database::Postgres(database) => database.token_is_valid(hash).await,
        }
    }
}

impl Store {
    /// Issues a ticket to whoever has this token; it counts until `expires`. Those whose time is over are cleared away.
    pub async fn issue_ticket(
        &self,
        hash: &TokenHash,
        token: &TokenHash,
        now: Moment,
        expires: Moment,
    ) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.issue_ticket(hash, token, now, expires).await,
            Database::Postgres(database) => database.issue_ticket(hash, token, now, expires).await,
        }
    }

    /// Takes a ticket: the token that it was issued to, if there was one that counts; it never does again.
    pub async fn take_ticket(&self, hash: &TokenHash, now: Moment) -> Result<Option<TokenHash>> {
        match &self.database {
            Database::Sqlite(database) => database.take_ticket(hash, now).await,
            Database::Postgres(database) => database.take_ticket(hash, now).await,
        }
    }
}

impl Store {
    /// Whether the database answers and has every migration of this version.
    pub async fn check(&self) -> Result<()> {
        match &self.database {
            Database::Sqlite(database) => database.check().await,
            Database::Postgres(database) => database.check().await,
        }
    }

    /// What the database is like, for whoever looks after it.
    pub async fn condition(&self) -> Result<Condition> {
        match &self.database {
            Database::Sqlite(database) => database.condition().await,
            Database::Postgres(database) => database.condition().await,
        }
    }

    /// Acquires or renews a role. Returns whether this process holds it. A holder that does not renew for
    /// [`LEASE_DURATION`] may lose it.
    pub async fn acquire_role(&self, role: LeaderRole) -> Result<bool> {
        match &self.database {
            Database::Sqlite(database) => database.acquire_role(role).await,
            Database::Postgres(database) => database.acquire_role(role).await,
        }
    }

    /// Releases a role, so that another process can acquire it at once.
    pub async fn release_role(&self, role: LeaderRole) {
        match &self.database {
            Database::Sqlite(database) => database.release_role(role).await,
            Database::Postgres(database) => database.release_role(role).await,
        }
    }

    /// Begins to listen for events of the outbox, those too that other processes write.
    pub async fn listen(&self) -> Result<OutboxListener> {
        match &self.database {
            Database::Sqlite(database) => database.listen().await,
            Database::Postgres(database) => database.listen().await,
        }
    }

    /// Finishes what is under way and closes every connection.
    pub async fn close(&self) {
        match &self.database {
            Database::Sqlite(database) => database.close().await,
            Database::Postgres(database) => database.close().await,
        }
    }
}
