//! The feed: the outbox, read once by each process for everybody who listens there.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::Arc;

use tallyhook_store::{EventId, OutboxEvent, Result, Store, StoreError};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::JoinSet;

use super::Notification;
use crate::leader::{OutboxWorker, run_worker};

/// Frames that are there for whoever is not done with the one before, at about half a KiB. They are shared by all: who
/// needs more of them reads alone.
const RING: usize = 4096;
/// So many may read what went by at once. However many there are, they keep the database from nobody else, least of all from
/// the reader that all others hear.
const READING_BACK: usize = 2;
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
    store: Store,
    frames: broadcast::WeakSender<Arc<Frame>>,
    reading_back: Arc<Semaphore>,
}

/// What reads the outbox for a feed, which ends with it.
pub struct Reader {
    store: Store,
    frames: broadcast::Sender<Arc<Frame>>,
    place: EventId,
}

/// Events from some moment on, in order, each once.
pub struct Subscription {
    store: Store,
    reading_back: Arc<Semaphore>,
    frames: broadcast::Receiver<Arc<Frame>>,
    /// The last one that was told.
    place: EventId,
    /// What comes next is in the outbox, and not sure to be among the frames.
    behind: bool,
    /// The page that is being read, or waited for.
    reading: JoinSet<Result<Vec<OutboxEvent>>>,
    page: VecDeque<Arc<Frame>>,
}

/// A feed that tells what enters the outbox from now on, once its reader runs.
///
/// # Errors
/// If the outbox cannot be read.
pub async fn feed(store: Store) -> Result<(Feed, Reader)> {
    let place = store.newest_event().await?;
    let (frames, _) = broadcast::channel(RING);
    let reading_back = Arc::new(Semaphore::new(READING_BACK));
    let feed = Feed {
        store: store.clone(),
        frames: frames.downgrade(),
        reading_back,
    };
    Ok((
        feed,
        Reader {
            store,
            frames,
            place,
        },
    ))
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
            Some(id) if !self.store.has_event(id).await? => return Err(Closed::Forgotten),
            Some(id) => id,
            None => self.store.newest_event().await?,
        };
        let (store, reading_back, behind) = (
            self.store.clone(),
            self.reading_back.clone(),
            after.is_some(),
        );
        Ok(Subscription {
            store,
            reading_back,
            frames,
            place,
            behind,
            reading: JoinSet::new(),
            page: VecDeque::new(),
        })
    }
}

impl Subscription {
    /// Waits for the next event. May be cut off at any point: what is being read goes on with the next call. Who is
    /// slow makes nobody wait: what went by is read from the outbox.
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
                if self.reading.is_empty() {
                    // By itself, so that it gives its turn back whatever the one who asked is busy with.
                    self.reading.spawn(read_back(
                        self.store.clone(),
                        self.reading_back.clone(),
                        self.place,
                    ));
                }
                let Some(read) = self.reading.join_next().await else {
                    continue;
                };
                let events = read.unwrap_or_else(|ended| resume_unwind(ended.into_panic()))?;
                self.behind = is_full(&events);
                self.page.extend(events.into_iter().map(frame));
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

/// Reads a page of what comes after `place`, once one may.
async fn read_back(
    store: Store,
    reading_back: Arc<Semaphore>,
    place: EventId,
) -> Result<Vec<OutboxEvent>> {
    let _permit = reading_back.acquire().await;
    store.events_after(place, PAGE).await
}

impl Reader {
    /// Reads until `stopping` becomes true; then all subscriptions end.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        run_worker(&self.store.clone(), stopping, &mut self).await;
    }
}

#[async_trait::async_trait]
impl OutboxWorker for Reader {
    const ERROR_MESSAGE: &str = "the outbox cannot be read";

    /// Tells all that is new.
    async fn run_once(&mut self) -> Result<()> {
        loop {
            let events = self.store.events_after(self.place, PAGE).await?;
            let is_full = is_full(&events);
            for event in events {
                self.place = event.id;
                // Whoever subscribes later reads it from the outbox.
                drop(self.frames.send(frame(event)));
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

fn frame(event: OutboxEvent) -> Arc<Frame> {
    let (id, repo) = (event.id, event.repo.clone());
    Arc::new(Frame {
        id,
        repo,
        text: Notification::from(event).to_text(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, Utc};
    use futures_util::FutureExt;
    use tempfile::TempDir;

    use super::*;
    use tallyhook_core::domain::join::Dated;
    use tallyhook_core::domain::notification::{Status, StatusChange, SyncSource};
    use tallyhook_core::domain::repository::{Access, Repository, Seen};
    use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
    use tallyhook_store::{BatchWrite, OpenMode, PullRequestChange};

    const REPO: RepoId = RepoId(7);

    /// Records that a pull request was opened.
    async fn opened(store: &Store, number: i64) {
        let at = Timestamp::clamped(number);
        let change = PullRequestChange {
            key: PrKey {
                repo: REPO,
                number: PrNumber(number),
            },
            change: StatusChange {
                old: None,
                new: Status::Open,
                at,
            },
            source: SyncSource::Webhook,
        };
        let recording = BatchWrite {
            changes: vec![change],
            ..BatchWrite::default()
        };
        store.record(&recording, Utc::now()).await.unwrap().unwrap();
    }

    /// A store in a folder, with a repository.
    async fn tracking() -> (TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = tallyhook_store::open(&url, OpenMode::Exclusive)
            .await
            .unwrap();
        let at = Timestamp::clamped(0);
        let seen = Seen {
            name: "acme-corp/api-server".to_owned(),
            private: None,
        };
        let access = Dated {
            at,
            value: Access::Granted,
        };
        let repository = Repository {
            id: REPO,
            seen: Dated { at, value: seen },
            installation: None,
            access,
        };
        store
            .track(&repository, DateTime::UNIX_EPOCH)
            .await
            .unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn who_is_interrupted_all_the_time_reads_on_and_keeps_its_turn() {
        let (_folder, store) = tracking().await;
        opened(&store, 1).await;
        let first = store.newest_event().await.unwrap();
        opened(&store, 2).await;
        let (feed, _reader) = feed(store.clone()).await.unwrap();
        let mut others = feed
            .reading_back
            .acquire_many(u32::try_from(READING_BACK).unwrap())
            .await
            .unwrap();
        let mut late = feed.subscribe(Some(first)).await.unwrap();
        assert!(late.next().now_or_never().is_none());
        // It gets in line.
        tokio::task::yield_now().await;
        let mut later = Box::pin(feed.reading_back.acquire());
        assert!((&mut later).now_or_never().is_none());
        drop(others.split(1));
        assert!(
            (&mut later).now_or_never().is_none(),
            "who came later is before it"
        );
        // Nobody waits for one who does not look whether it was read.
        let given_back = tokio::time::timeout(Duration::from_secs(10), &mut later)
            .await
            .expect("its turn does not end");
        drop(given_back);

        let reads = async {
            loop {
                tokio::select! {
                    biased;
                    frame = late.next() => break frame.unwrap(),
                    () = tokio::task::yield_now() => {}
                }
            }
        };
        let frame = tokio::time::timeout(Duration::from_secs(10), reads)
            .await
            .expect("it begins anew each time");
        assert!(frame.text.contains("\"pr_number\":2,"), "{}", frame.text);
        drop(others);
        store.close().await;
    }

    #[tokio::test]
    async fn those_who_hear_wait_for_none_of_those_who_read_back() {
        let (_folder, store) = tracking().await;
        opened(&store, 1).await;
        let first = store.newest_event().await.unwrap();
        let (feed, reader) = feed(store.clone()).await.unwrap();
        let stop = watch::Sender::new(false);
        let reading = tokio::spawn(reader.run(stop.subscribe()));

        // As many as may are reading back, and do not come to an end.
        let others = feed
            .reading_back
            .acquire_many(u32::try_from(READING_BACK).unwrap())
            .await
            .unwrap();
        let mut late = feed.subscribe(Some(first)).await.unwrap();
        let mut hearing = feed.subscribe(None).await.unwrap();
        let hears = async {
            for number in 2..50 {
                opened(&store, number).await;
                let frame = hearing.next().await.unwrap();
                assert!(
                    frame.text.contains(&format!("\"pr_number\":{number},")),
                    "{}",
                    frame.text
                );
            }
        };
        tokio::select! {
            frame = late.next() => panic!("{frame:?}"),
            () = hears => {}
        }
        drop(others);
        for number in 2..50 {
            let frame = late.next().await.unwrap();
            assert!(
                frame.text.contains(&format!("\"pr_number\":{number},")),
                "{}",
                frame.text
            );
        }
        stop.send_replace(true);
        reading.await.unwrap();
        store.close().await;
    }
}
