//! Group commit: deliveries that arrive while a commit is under way share the next one.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::{AcceptOutcome, NewDelivery};
use crate::condition::CommitRecord;
use crate::{Result, StoreError};

/// The most deliveries of one commit, and as many that wait for the next.
pub(crate) const GROUP: usize = 256;

/// The place where groups are committed.
pub(crate) trait CommitTarget: Send + Sync + 'static {
    /// The exclusive right to commit. Deliveries that arrive until it is granted join the group.
    type Slot: Send;

    /// Waits for the right to commit.
    fn slot(&self) -> impl Future<Output = Result<Self::Slot>> + Send;

    /// Stores a group; the answers are in its order.
    fn store(
        &self,
        slot: Self::Slot,
        group: &[NewDelivery],
    ) -> impl Future<Output = Result<Vec<AcceptOutcome>>> + Send;
}

type Reply = oneshot::Sender<Result<AcceptOutcome>>;
type QueuedDelivery = (NewDelivery, Reply);

/// The tasks that commit accepted deliveries.
pub(crate) struct GroupCommit {
    waiting: Mutex<Option<mpsc::Sender<QueuedDelivery>>>,
    sender: mpsc::WeakSender<QueuedDelivery>,
    running: Vec<AbortHandle>,
    tasks: Mutex<JoinSet<()>>,
    pub(crate) record: Arc<CommitRecord>,
}

impl GroupCommit {
    /// Commits up to `at_once` groups at the same time.
    pub(crate) fn start(target: impl CommitTarget, at_once: usize) -> Self {
        let (sender, receiver) = mpsc::channel(GROUP);
        let (target, receiver) = (Arc::new(target), Arc::new(Mutex::new(receiver)));
        let record = Arc::new(CommitRecord::default());
        let mut tasks = JoinSet::new();
        let running = (0..at_once)
            .map(|_| tasks.spawn(run(target.clone(), receiver.clone(), record.clone())))
            .collect();
        Self {
            sender: sender.downgrade(),
            waiting: Mutex::new(Some(sender)),
            running,
            tasks: Mutex::new(tasks),
            record,
        }
    }

    /// Stores one delivery together with the others that are waiting.
    pub(crate) async fn accept(&self, delivery: NewDelivery) -> Result<AcceptOutcome> {
        let (answer, answered) = oneshot::channel();
        let sender = self.sender.upgrade().ok_or(StoreError::Closed)?;
        sender
            .send((delivery, answer))
            .await
            .map_err(|_| StoreError::Closed)?;
        drop(sender);
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Reports whether deliveries can still be stored: not once a task has failed.
    pub(crate) fn is_running(&self) -> bool {
        !self.running.iter().any(AbortHandle::is_finished)
    }

    /// Commits what waits and ends the tasks.
    pub(crate) async fn finish(&self) {
        drop(self.waiting.lock().await.take());
        while let Some(ended) = self.tasks.lock().await.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task that stores deliveries broke");
            }
        }
    }
}

async fn run(
    target: Arc<impl CommitTarget>,
    waiting: Arc<Mutex<mpsc::Receiver<QueuedDelivery>>>,
    record: Arc<CommitRecord>,
) {
    loop {
        let mut group = Vec::with_capacity(GROUP);
        let slot = {
            // One task at a time gathers a group and waits for the right to commit: deliveries that
            // arrive until then are in this group.
            let mut waiting = waiting.lock().await;
            if waiting.recv_many(&mut group, GROUP).await == 0 {
                return;
            }
            let slot = target.slot().await;
            while group.len() < GROUP
                && let Ok(more) = waiting.try_recv()
            {
                group.push(more);
            }
            slot
        };
        let (deliveries, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let stored = match slot {
            Ok(slot) => target.store(slot, &deliveries).await,
            Err(error) => Err(error),
        };
        record.count(&stored);
        answer(answers, stored);
    }
}

fn answer(answers: Vec<Reply>, stored: Result<Vec<AcceptOutcome>>) {
    match stored {
        Ok(accepted) => {
            for (answer, accepted) in answers.into_iter().zip(accepted) {
                // A caller that gave up waiting gets no reply; the delivery is stored all the same.
                drop(answer.send(Ok(accepted)));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for answer in answers {
                drop(answer.send(Err(StoreError::Shared(error.clone()))));
            }
        }
    }
}
