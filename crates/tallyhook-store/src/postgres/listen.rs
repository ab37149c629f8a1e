//! Listening for changes of the outbox: one task and one connection serve all listeners of the
//! process, however busy they are.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
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
    told: watch::Receiver<()>,
    task: JoinSet<()>,
}

impl PgListenerHub {
    /// Returns a listener, and starts the shared connection if there is none.
    pub(super) async fn subscribe(&self, connections: &Arc<Connections>) -> Result<OutboxListener> {
        let mut hearing = self.0.lock().await;
        let goes_on = |hearing: &&SharedListener| hearing.told.has_changed().is_ok();
        let mut told = match hearing.as_ref().filter(goes_on) {
            Some(hearing) => hearing.told.clone(),
            None => {
                let listener = listener(connections).await?;
                let (tells, told) = watch::channel(());
                let mut task = JoinSet::new();
                task.spawn(hear_for_all(listener, connections.clone(), tells));
                hearing.insert(SharedListener { told, task }).told.clone()
            }
        };
        told.mark_unchanged();
        Ok(OutboxListener(told))
    }

    /// Closes the shared connection. Listeners get an error.
    pub(super) async fn close(&self) {
        if let Some(mut hearing) = self.0.lock().await.take() {
            hearing.task.shutdown().await;
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
async fn hear_for_all(
    mut listener: PgListener,
    connections: Arc<Connections>,
    tells: watch::Sender<()>,
) {
    loop {
        // Connections end now and then.
        match hear(listener, &tells).await {
            Ok(()) => tracing::debug!("the connection that hears of new events has ended"),
            Err(error) => {
                tracing::debug!(%error, "the connection that hears of new events has ended")
            }
        }
        listener = loop {
            match self::listener(&connections).await {
                Ok(listener) => break listener,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "nothing is heard of new events; trying again")
                }
            }
            sleep(AGAIN).await;
        };
        // A notification may have been missed.
        tells.send_replace(());
    }
}

/// Notifies all listeners until the connection ends, or the server does not answer a ping.
async fn hear(mut listener: PgListener, tells: &watch::Sender<()>) -> Result<()> {
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => tells.send_replace(()),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                let asked = timeout(ANSWER, sqlx::query("SELECT 1").execute(&mut listener)).await;
                asked.map_err(|_| StoreError::Unanswered)??;
            }
        }
    }
}
