//! The feed of the WebSocket clients: the outbox, read once per process for all subscribers.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::Arc;

use tallyhook_core::github::types::RepoId;
use tallyhook_store::{EventId, OutboxEvent, Result, Store, StoreError, TeamId};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::JoinSet;

use super::Notification;
use crate::leader::{OutboxWorker, run_worker};

/// Frames that are buffered for subscribers that fall behind, at about half a KiB each. The buffer
/// is shared: a subscriber that falls further behind reads the outbox by itself.
const RING: usize = 4096;
/// Subscribers that may read the outbox at the same time. The bound leaves database connections for
/// everything else, in particular for the shared reader.
const MAX_CATCHING_UP: usize = 2;
/// Events per read of the outbox.
const PAGE: u32 = 128;

/// An event in the form that clients receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationFrame {
    pub id: EventId,
    /// `owner/name` of the pull request that changed or caused the change; `None` if a person moved
    /// a task.
    pub repo: Option<String>,
    /// Its id, which it keeps when it is renamed.
    pub repo_id: Option<RepoId>,
    /// False for a digest, which is for one channel.
    pub is_for_clients: bool,
    /// JSON of a [`Notification`], for each team that may receive it.
    texts: Vec<(TeamId, Arc<str>)>,
}

impl NotificationFrame {
    /// Returns the JSON of the [`Notification`] as a team receives it; `None` if it may not.
    pub fn text_for(&self, team: TeamId) -> Option<&str> {
        let mut texts = self.texts.iter();
        texts
            .find(|(of, _)| *of == team)
            .map(|(_, text)| text.as_ref())
    }
}

/// The reason why a subscription ends or is refused.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    #[error("this process is stopping")]
    Stopping,
    /// The outbox does not reach back to the requested event.
    #[error("the event has expired from the outbox")]
    Expired,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The subscribers' side of the feed.
pub struct NotificationFeed {
    store: Store,
    frames: broadcast::WeakSender<Arc<NotificationFrame>>,
    catching_up: Arc<Semaphore>,
}

/// The reader's side of the feed: reads the outbox for all subscribers. The feed ends with it.
pub struct OutboxReader {
    store: Store,
    frames: broadcast::Sender<Arc<NotificationFrame>>,
    position: EventId,
}

/// The events after a position, in order and each once.
pub struct FeedSubscription {
    store: Store,
    catching_up: Arc<Semaphore>,
    frames: broadcast::Receiver<Arc<NotificationFrame>>,
    /// The last event that was returned.
    position: EventId,
    /// The next event is in the outbox, and possibly not in the buffer of frames.
    is_behind: bool,
    /// The read of the outbox that is under way.
    reading: JoinSet<Result<Vec<OutboxEvent>>>,
    page: VecDeque<Arc<NotificationFrame>>,
}

/// Opens a feed of what enters the outbox from now on. It runs with its reader.
///
/// # Errors
/// If the outbox cannot be read.
pub async fn open_feed(store: Store) -> Result<(NotificationFeed, OutboxReader)> {
    let position = store.newest_event().await?;
    let (frames, _) = broadcast::channel(RING);
    let catching_up = Arc::new(Semaphore::new(MAX_CATCHING_UP));
    let feed = NotificationFeed {
        store: store.clone(),
        frames: frames.downgrade(),
        catching_up,
    };
    Ok((
        feed,
        OutboxReader {
            store,
            frames,
            position,
        },
    ))
}

impl NotificationFeed {
    /// Subscribes a client of a team to the events after `after`, or to the events from now on. The
    /// frames are those of all teams.
    ///
    /// # Errors
    /// [`SubscriptionError`]
    pub async fn subscribe(
        &self,
        team: TeamId,
        after: Option<EventId>,
    ) -> Result<FeedSubscription, SubscriptionError> {
        // Before the position is read, so that no event falls between the two.
        let frames = self
            .frames
            .upgrade()
            .ok_or(SubscriptionError::Stopping)?
            .subscribe();
        let position = match after {
            Some(id) if !self.store.of_team(team).has_event(id).await? => {
                return Err(SubscriptionError::Expired);
            }
            Some(id) => id,
            None => self.store.newest_event().await?,
        };
        let (store, catching_up, is_behind) = (
            self.store.clone(),
            self.catching_up.clone(),
            after.is_some(),
        );
        Ok(FeedSubscription {
            store,
            catching_up,
            frames,
            position,
            is_behind,
            reading: JoinSet::new(),
            page: VecDeque::new(),
        })
    }
}

impl FeedSubscription {
    /// Waits for the next event. Cancel-safe: a read that is under way continues with the next
    /// call. A slow subscriber does not delay others: it reads what it missed from the outbox.
    ///
    /// # Errors
    /// [`SubscriptionError`], after which the subscription has ended.
    pub async fn next(&mut self) -> Result<Arc<NotificationFrame>, SubscriptionError> {
        loop {
            if let Some(frame) = self.page.pop_front() {
                self.position = frame.id;
                return Ok(frame);
            }
            if self.is_behind {
                if self.reading.is_empty() {
                    // In its own task, so that it returns its permit even while the caller is busy.
                    self.reading.spawn(read_page(
                        self.store.clone(),
                        self.catching_up.clone(),
                        self.position,
                    ));
                }
                let Some(read) = self.reading.join_next().await else {
                    continue;
                };
                let events = read.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
                self.is_behind = is_full(&events);
                self.page.extend(events.iter().map(to_frame));
                continue;
            }
            match self.frames.recv().await {
                // Already read from the outbox.
                Ok(frame) if frame.id <= self.position => {}
                Ok(frame) => self.page.push_back(frame),
                Err(broadcast::error::RecvError::Lagged(_)) => self.is_behind = true,
                Err(broadcast::error::RecvError::Closed) => {
                    return Err(SubscriptionError::Stopping);
                }
            }
        }
    }
}

/// Reads a page of the events after `position`, once a permit is free.
async fn read_page(
    store: Store,
    catching_up: Arc<Semaphore>,
    position: EventId,
) -> Result<Vec<OutboxEvent>> {
    let _permit = catching_up.acquire().await;
    store.events_after(position, PAGE).await
}

impl OutboxReader {
    /// Reads until `stopping` is true; then all subscriptions end.
    pub async fn run(mut self, stopping: watch::Receiver<bool>) {
        run_worker(&self.store.clone(), stopping, &mut self).await;
    }
}

#[async_trait::async_trait]
impl OutboxWorker for OutboxReader {
    const ERROR_MESSAGE: &str = "the outbox cannot be read";

    /// Sends all new events to the subscribers.
    async fn run_once(&mut self) -> Result<()> {
        loop {
            let events = self.store.events_after(self.position, PAGE).await?;
            let is_full = is_full(&events);
            for event in events {
                self.position = event.id;
                // An error means that there is no subscriber; later ones read it from the outbox.
                drop(self.frames.send(to_frame(&event)));
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

fn to_frame(event: &OutboxEvent) -> Arc<NotificationFrame> {
    let (id, repo) = (event.id, event.repo.clone());
    let repo_id = event.payload.pull_request().map(|key| key.repo);
    let is_for_clients = event.payload.channel().is_none();
    Arc::new(NotificationFrame {
        id,
        repo,
        repo_id,
        is_for_clients,
        texts: texts(event),
    })
}

/// Returns the text of an event for each team. Those for which it is the same share one.
fn texts(event: &OutboxEvent) -> Vec<(TeamId, Arc<str>)> {
    let mut texts: Vec<(TeamId, Arc<str>)> = Vec::with_capacity(event.teams.len());
    for team in &event.teams {
        let Some(event) = event.of_team(*team) else {
            continue;
        };
        let text = Notification::from(event).to_json();
        let known = texts.iter().find(|(_, known)| **known == *text);
        let text = known.map_or_else(|| Arc::from(text), |(_, known)| Arc::clone(known));
        texts.push((*team, text));
    }
    texts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, Utc};
    use futures_util::FutureExt;
    use tempfile::TempDir;

    use super::*;
    use tallyhook_core::domain::join::Dated;
    use tallyhook_core::domain::notification::{PullRequestStatus, StatusChange, SyncSource};
    use tallyhook_core::domain::repository::{Repository, RepositoryAccess, RepositoryDetails};
    use tallyhook_core::github::types::{PrKey, PrNumber, Timestamp};
    use tallyhook_store::{BatchWrite, DEFAULT_TEAM, OpenMode, PullRequestChange};

    const REPO: RepoId = RepoId(7);
    const TEAM: TeamId = DEFAULT_TEAM.0;

    /// Records that a pull request was opened.
    async fn record_opened(store: &Store, number: i64) {
        let at = Timestamp::clamped(number);
        let change = PullRequestChange {
            key: PrKey {
                repo: REPO,
                number: PrNumber(number),
            },
            change: StatusChange {
                old: None,
                new: PullRequestStatus::Open,
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

    /// Opens a store that tracks a repository, in a temporary folder.
    async fn tracking_store() -> (TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = tallyhook_store::open(&url, OpenMode::Exclusive)
            .await
            .unwrap();
        let at = Timestamp::clamped(0);
        let seen = RepositoryDetails {
            name: "acme-corp/api-server".to_owned(),
            private: None,
        };
        let access = Dated {
            at,
            value: RepositoryAccess::Granted,
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
    async fn read_of_a_cancelled_call_continues_and_returns_its_permit() {
        let (_folder, store) = tracking_store().await;
        record_opened(&store, 1).await;
        let first = store.newest_event().await.unwrap();
        record_opened(&store, 2).await;
        let (feed, _reader) = open_feed(store.clone()).await.unwrap();
        let mut others = feed
            .catching_up
            .acquire_many(u32::try_from(MAX_CATCHING_UP).unwrap())
            .await
            .unwrap();
        let mut late = feed.subscribe(TEAM, Some(first)).await.unwrap();
        assert!(late.next().now_or_never().is_none());
        // Its read queues for a permit.
        tokio::task::yield_now().await;
        let mut later = Box::pin(feed.catching_up.acquire());
        assert!((&mut later).now_or_never().is_none());
        drop(others.split(1));
        assert!(
            (&mut later).now_or_never().is_none(),
            "a later request is served first"
        );
        // The permit is returned although the subscriber does not poll.
        let returned = tokio::time::timeout(Duration::from_secs(10), &mut later)
            .await
            .expect("the permit is not returned");
        drop(returned);

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
            .expect("the read starts again on each call");
        let text = frame.text_for(TEAM).unwrap();
        assert!(text.contains("\"pr_number\":2,"), "{text}");
        drop(others);
        store.close().await;
    }

    #[tokio::test]
    async fn live_subscribers_do_not_wait_for_those_that_catch_up() {
        let (_folder, store) = tracking_store().await;
        record_opened(&store, 1).await;
        let first = store.newest_event().await.unwrap();
        let (feed, reader) = open_feed(store.clone()).await.unwrap();
        let stop = watch::Sender::new(false);
        let reading = tokio::spawn(reader.run(stop.subscribe()));

        // All permits are taken and are not returned.
        let others = feed
            .catching_up
            .acquire_many(u32::try_from(MAX_CATCHING_UP).unwrap())
            .await
            .unwrap();
        let mut late = feed.subscribe(TEAM, Some(first)).await.unwrap();
        let mut live = feed.subscribe(TEAM, None).await.unwrap();
        let receives = async {
            for number in 2..50 {
                record_opened(&store, number).await;
                let frame = live.next().await.unwrap();
                let text = frame.text_for(TEAM).unwrap();
                assert!(text.contains(&format!("\"pr_number\":{number},")), "{text}");
            }
        };
        tokio::select! {
            frame = late.next() => panic!("{frame:?}"),
            () = receives => {}
        }
        drop(others);
        for number in 2..50 {
            let frame = late.next().await.unwrap();
            let text = frame.text_for(TEAM).unwrap();
            assert!(text.contains(&format!("\"pr_number\":{number},")), "{text}");
        }
        stop.send_replace(true);
        reading.await.unwrap();
        store.close().await;
    }
}
