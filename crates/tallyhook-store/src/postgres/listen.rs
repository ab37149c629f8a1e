//! Listening for changes of the outbox: one task and one connection serve all listeners of the
//! process, however busy they are.

use std::sync::Arc;
use std::time::Duration;

use sqlx_postgres::PgListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connections::{Connections, OUTBOX_CHANNEL};
use crate::{OutboxListener, Result, StoreError};

/// After so long a silence the server is pinged: one that vanished is silent too.
const SILENCE: Duration = Duration::from_secs(10);
/// The time it may take to answer the ping.
const ANSWER: Duration = Duration::from_secs(3);
/// The pause before another attempt to listen.
const AGAIN: Duration = Duration::from_secs(1);

/// The shared LISTEN connection of a process, opened by its first listener.
#[derive(Default)]
pub(super) struct PgListenerHub(Mutex<Option<SharedListener>>);

struct SharedListener {
    /// Its sender is the task's, and ends with it.
    changes: watch::Receiver<()>,
    task: JoinSet<()>,
}

impl PgListenerHub {
    /// Returns a listener, and starts the shared connection if there is none.
    pub(super) async fn subscribe(&self, connections: &Arc<Connections>) -> Result<OutboxListener> {
        let mut shared = self.0.lock().await;
        let goes_on = |shared: &&SharedListener| shared.changes.has_changed().is_ok();
        let mut changes = match shared.as_ref().filter(goes_on) {
            Some(shared) => shared.changes.clone(),
            None => {
                let listener = listener(connections).await?;
                let (notify, changes) = watch::channel(());
                let mut task = JoinSet::new();
                task.spawn(notify_until_closed(listener, connections.clone(), notify));
                shared
                    .insert(SharedListener { changes, task })
                    .changes
                    .clone()
            }
        };
        changes.mark_unchanged();
        Ok(OutboxListener(changes))
    }

    /// Closes the shared connection. Listeners get an error.
    pub(super) async fn close(&self) {
        if let Some(mut shared) = self.0.lock().await.take() {
            shared.task.shutdown().await;
        }
    }
}

async fn listener(connections: &Connections) -> Result<PgListener> {
    let mut listener = connections.listener(OUTBOX_CHANNEL).await?;
    // It would wait for another connection as long as that takes.
    listener.eager_reconnect(false);
    Ok(listener)
}

/// Notifies all listeners, until the store is closed.
async fn notify_until_closed(
    mut listener: PgListener,
    connections: Arc<Connections>,
    notify: watch::Sender<()>,
) {
    loop {
        // Connections end now and then.
        match notify_until_disconnected(listener, &notify).await {
            Ok(()) => tracing::debug!("the connection that listens for outbox events has ended"),
            Err(error) => {
                tracing::debug!(%error, "the connection that listens for outbox events has ended")
            }
        }
        listener = loop {
            match self::listener(&connections).await {
                Ok(listener) => break listener,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "cannot listen for outbox events; trying again")
                }
            }
            sleep(AGAIN).await;
        };
        // A notification may have been missed.
        notify.send_replace(());
    }
}

/// Notifies all listeners until the connection ends, or the server does not answer a ping.
async fn notify_until_disconnected(
    mut listener: PgListener,
    notify: &watch::Sender<()>,
) -> Result<()> {
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => notify.send_replace(()),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                let asked = timeout(ANSWER, sqlx::query("SELECT 1").execute(&mut listener)).await;
                asked.map_err(|_| StoreError::Unanswered)??;
            }
        }
    }
}
