//! The end of a process after SIGTERM, within [`SHUTDOWN_DEADLINE`]:
//!
//! 1. Signal the cancellable tasks and the notifier. The poller's work is fetched again by the next
//!    process; clients of `/ws`, which would hold the HTTP server up, reconnect for what they miss.
//! 2. Stop the HTTP server: no new connection, [`ACCEPTED_GRACE`] for the requests of those that
//!    were accepted, then idle connections are closed, and requests under way have
//!    [`REQUEST_GRACE`]. A socket that was handed over stays open, and what arrives waits in it for
//!    the next process.
//! 3. Close the queue for consumers and let the workers finish their batches, [`WORKER_GRACE`].
//! 4. Finish the queue: acknowledge what the workers finished, publish what was accepted.
//! 5. Cancel the cancellable tasks, then the relay, [`RELAY_GRACE`] each, the latter with what the
//!    broker did not take.
//! 6. Let the notifier finish its request: a request that is cut off would be sent again. Receivers
//!    may take as long to answer as there is.
//! 7. Write the record of the last requests to GitHub, [`STORE_GRACE`].
//! 8. Close the store, [`STORE_GRACE`].

use std::time::Duration;

use actix_web::dev::ServerHandle;
use tallyhook_queue::Queue;
use tallyhook_store::Store;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

/// The limit of the whole sequence: supervisors kill a process after ten seconds.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(9);
pub(super) const REQUEST_GRACE: Duration = Duration::from_secs(3);
/// The server drops connections that are not with one of its threads yet, and closes those whose
/// request has not arrived.
const ACCEPTED_GRACE: Duration = Duration::from_millis(200);
/// For all workers together.
const WORKER_GRACE: Duration = Duration::from_secs(3);
const RELAY_GRACE: Duration = Duration::from_secs(1);
const STORE_GRACE: Duration = Duration::from_secs(1);

/// The background tasks of a process, grouped by when they end.
#[derive(Default)]
pub(super) struct BackgroundTasks {
    pub(super) workers: JoinSet<()>,
    /// Tasks that may be cancelled at any point: the poller, the feed, the follower, the cleaner.
    pub(super) cancellable: JoinSet<()>,
    pub(super) relay: JoinSet<()>,
    /// Ends when the request under way is answered.
    pub(super) notifier: JoinSet<()>,
    /// Writes the record of requests to GitHub, also of those that the others end with.
    pub(super) records: JoinSet<()>,
    stop: watch::Sender<bool>,
    stop_relay: watch::Sender<bool>,
    stop_records: watch::Sender<bool>,
}

impl BackgroundTasks {
    /// Returns the signal of step 1.
    pub(super) fn stop_signal(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Returns the signal of the relay, which is sent after the workers' end.
    pub(super) fn relay_stop_signal(&self) -> watch::Receiver<bool> {
        self.stop_relay.subscribe()
    }

    /// Returns the signal of the record of requests, which is sent after all others have ended.
    pub(super) fn records_stop_signal(&self) -> watch::Receiver<bool> {
        self.stop_records.subscribe()
    }

    /// Waits until one of the tasks ends.
    pub(super) async fn next_ended(&mut self) -> Result<(), JoinError> {
        tokio::select! {
            Some(ended) = self.workers.join_next() => ended,
            Some(ended) = self.relay.join_next() => ended,
            Some(ended) = self.cancellable.join_next() => ended,
            Some(ended) = self.notifier.join_next() => ended,
            Some(ended) = self.records.join_next() => ended,
            else => std::future::pending().await,
        }
    }
}

/// Runs the sequence of this module's documentation.
pub(super) async fn run(
    server: &ServerHandle,
    queue: Option<&Queue>,
    mut tasks: BackgroundTasks,
    store: &Store,
) {
    let deadline = Instant::now() + SHUTDOWN_DEADLINE;
    let within = |grace| deadline.min(Instant::now() + grace);
    tasks.stop.send_replace(true);
    server.pause().await;
    sleep(ACCEPTED_GRACE).await;
    server.stop(true).await;
    if let Some(queue) = queue {
        queue.close();
        end(&mut tasks.workers, within(WORKER_GRACE)).await;
        drop(timeout_at(deadline, queue.finish()).await);
    }
    tasks.stop_relay.send_replace(true);
    end(&mut tasks.cancellable, within(RELAY_GRACE)).await;
    end(&mut tasks.relay, within(RELAY_GRACE)).await;
    end(&mut tasks.notifier, deadline - STORE_GRACE).await;
    tasks.stop_records.send_replace(true);
    end(&mut tasks.records, within(STORE_GRACE)).await;
    if timeout_at(deadline, store.close()).await.is_err() {
        tracing::warn!("the database did not close in time; nothing that was committed is lost");
    }
}

/// Waits until all of them have ended, and cancels what is left at `deadline`.
async fn end(tasks: &mut JoinSet<()>, deadline: Instant) {
    loop {
        match timeout_at(deadline, tasks.join_next()).await {
            Ok(None) => break,
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(error))) => tracing::error!(%error, "a background task panicked"),
            Err(_) => {
                // Its work is in the inbox and is taken up by another process, or at the next
                // start.
                tracing::warn!("a background task did not end in time and is cancelled");
                tasks.shutdown().await;
            }
        }
    }
}
