//! Listening for what enters the outbox: one connection of the process hears it for all who listen there.

use std::sync::Arc;

use sqlx::postgres::PgListener;
use tokio::sync::{Mutex, MutexGuard, watch};

use super::connections::{Connections, OUTBOX_CHANNEL};
use crate::store::{Listening, Result, StoreError};

/// The connection that hears, and those whom it tells.
#[derive(Default)]
pub(super) struct Ears {
    listener: Mutex<Option<PgListener>>,
    pub(super) told: watch::Sender<()>,
}

impl Ears {
    /// Listens from now on, if nobody does.
    pub(super) async fn open(&self, connections: &Connections) -> Result<()> {
        // Whoever holds it is listening.
        match self.listener.try_lock() {
            Ok(listener) => connected(listener, connections).await.map(drop),
            Err(_) => Ok(()),
        }
    }

    /// Gives the connection back, unless somebody still listens.
    pub(super) fn close(&self) {
        if let Ok(mut listener) = self.listener.try_lock() {
            *listener = None;
        }
    }

    /// Hears of something, and tells all.
    async fn hear(&self, listener: MutexGuard<'_, Option<PgListener>>, connections: &Connections) -> Result<()> {
        let mut listener = connected(listener, connections).await?;
        let Some(ears) = listener.as_mut() else { return Ok(()) };
        let heard = ears.try_recv().await;
        if heard.is_err() {
            *listener = None;
        }
        match heard {
            // `None` is a connection that was lost, and with it perhaps what was said.
            Ok(_) => {
                self.told.send_replace(());
                Ok(())
            }
            Err(sqlx::Error::PoolClosed) => Err(StoreError::Closed),
            Err(error) => Err(error.into()),
        }
    }
}

async fn connected<'a>(
    mut listener: MutexGuard<'a, Option<PgListener>>,
    connections: &Connections,
) -> Result<MutexGuard<'a, Option<PgListener>>> {
    if listener.is_none() {
        *listener = Some(connections.listener(OUTBOX_CHANNEL).await?);
    }
    Ok(listener)
}

/// One who listens.
pub(super) struct Ear {
    pub(super) connections: Arc<Connections>,
    pub(super) ears: Arc<Ears>,
    pub(super) told: watch::Receiver<()>,
}

#[async_trait::async_trait]
impl Listening for Ear {
    async fn heard(&mut self) -> Result<()> {
        tokio::select! {
            // What others heard comes first: whoever listens itself waits for what comes next.
            biased;
            told = self.told.changed() => told.map_err(|_| StoreError::Closed),
            // Whoever comes first hears for all. When it is done, or cut off, another takes its place.
            listener = self.ears.listener.lock() => {
                self.ears.hear(listener, &self.connections).await?;
                self.told.mark_unchanged();
                Ok(())
            }
        }
    }
}
