//! The feed: the outbox, read once by each process for everybody who listens there.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use super::Notification;
use crate::store::{Attendant, EventId, OutboxEvent, Result, Store, StoreError, attend};

/// Frames that are there for whoever is not done with the one before. They are shared by all.
const RING: usize = 256;
/// Events that are read at once.
const PAGE: u32 = 128;

/// An event as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub id: EventId,
    /// `owner/name` of the pull request that it is about or came from; `None` if a person moved a task.
    pub repo: Option<String>,
    /// JSON of a [`Notification`].
    pub text: String,
}

/// Why nobody is told any more.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    #[error("this process is stopping")]
    Stopping,
    /// Nobody knows what came after the event that was asked for.
    #[error("there is no such event any more")]
    Forgotten,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where one subscribes to events.
pub struct Feed {
    store: Arc<dyn Store>,
    frames: broadcast::WeakSender<Arc<Frame>>,
}

/// What reads the outbox for a feed, which ends with it.
pub struct Reader {
    store: Arc<dyn Store>,
    frames: broadcast::Sender<Arc<Frame>>,
    place: EventId,
}

/// Events from some moment on, in order, each once.
pub struct Subscription {
    store: Arc<dyn Store>,
    frames: broadcast::Receiver<Arc<Frame>>,
    /// The last one that was told.
    place: EventId,
    /// What comes next is in the outbox, and not sure to be among the frames.
    behind: bool,
    page: VecDeque<Arc<Frame>>,
}

/// A feed that tells what enters the outbox from now on, once its reader runs.
///
/// # Errors
/// If the outbox cannot be read.
pub async fn feed(store: Arc<dyn Store>) -> Result<(Feed, Reader)> {
    let place = store.newest_event().await?;
    let (frames, _) = broadcast::channel(RING);
    let feed = Feed { store: store.clone(), frames: frames.downgrade() };
    Ok((feed, Reader { store, frames, place }))
}

impl Feed {
    /// Subscribes to what comes after `after`, or else to what comes from now on.
    ///
    /// # Errors
    /// [`Closed`]
    pub async fn subscribe(&self, after: Option<EventId>) -> Result<Subscription, Closed> {
        // First of all, so that nothing gets between what is read and what is told.
        let frames = self.frames.upgrade().ok_or(Closed::Stopping)?.subscribe();
        let place = match after {
            Some(id) if !self.store.remembers_event(id).await? => return Err(Closed::Forgotten),
            Some(id) => id,
            None => self.store.newest_event().await?,
        };
        let behind = after.is_some();
        Ok(Subscription { store: self.store.clone(), frames, place, behind, page: VecDeque::new() })
    }
}

impl Subscription {
    /// Waits for the next event. May be cut off at any point. Who is slow makes nobody wait: what went by is read from the
    /// outbox.
    ///
    /// # Errors
    /// [`Closed`], after which there is no more.
    pub async fn next(&mut self) -> Result<Arc<Frame>, Closed> {
        loop {
            if let Some(frame) = self.page.pop_front() {
                self.place = frame.id;
                return Ok(frame);
            }
            if self.behind {
                let events = self.store.events_after(self.place, PAGE).await?;
                self.behind = is_full(&events);
                self.page.extend(events.into_iter().filter_map(frame));
                continue;
            }
            match self.frames.recv().await {
                // Read from the outbox already.
                Ok(frame) if frame.id <= self.place => {}
                Ok(frame) => self.page.push_back(frame),
                Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                Err(broadcast::error::RecvError::Closed) => return Err(Closed::Stopping),
            }
        }
    }
}

impl Reader {
    /// Reads until `stopping` becomes true; then all subscriptions end.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        attend(&self.store.clone(), stopping, &mut self).await;
    }
}

#[async_trait::async_trait]
impl Attendant for Reader {
    const TROUBLE: &str = "the outbox cannot be read";

    /// Tells all that is new.
    async fn act(&mut self) -> Result<()> {
        loop {
            let events = self.store.events_after(self.place, PAGE).await?;
            let is_full = is_full(&events);
            for event in events {
                self.place = event.id;
                if let Some(frame) = frame(event) {
                    // Whoever subscribes later reads it from the outbox.
                    drop(self.frames.send(frame));
                }
            }
            if !is_full {
                return Ok(());
            }
        }
    }
}

fn is_full(page: &[OutboxEvent]) -> bool {
    page.len() == PAGE as usize
}

fn frame(event: OutboxEvent) -> Option<Arc<Frame>> {
    let (id, repo) = (event.id, event.repo.clone());
    match serde_json::to_string(&Notification::from(event)) {
        Ok(text) => Some(Arc::new(Frame { id, repo, text })),
        Err(error) => {
            tracing::error!(event.id = %id, %error, "an event cannot be told");
            None
        }
    }
}
