//! The queue inside one process: two bounded channels over the same inbox.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::sync::{Mutex, Notify};

use super::{DeliveryId, Lane};

/// How many ids wait in each lane at the most. A backlog beyond that waits in the inbox.
const CAPACITY: usize = 1024;

/// The part of a batch that backfill gets even while live deliveries would fill it: one in eight.
const BACKFILL_SHARE: usize = 8;

/// Ids on their way to a worker of the same process. Losing one costs time, never data: the inbox has it.
#[derive(Debug)]
pub struct Queue {
    live: mpsc::Sender<DeliveryId>,
    backfill: mpsc::Sender<DeliveryId>,
    receivers: Mutex<(mpsc::Receiver<DeliveryId>, mpsc::Receiver<DeliveryId>)>,
    /// There is more in the inbox since the relay last looked.
    left_behind: AtomicBool,
    taken: Notify,
    closing: Notify,
    closed: AtomicBool,
}

/// Room for one id, kept until it is used or dropped.
#[derive(Debug)]
pub struct Permit(mpsc::OwnedPermit<DeliveryId>);

impl Permit {
    /// Hands over a delivery that is committed. Never waits and never fails.
    pub fn send(self, id: DeliveryId) {
        self.0.send(id);
    }
}

impl Default for Queue {
    fn default() -> Self {
        let (live, live_receiver) = mpsc::channel(CAPACITY);
        let (backfill, backfill_receiver) = mpsc::channel(CAPACITY);
        Self {
            live,
            backfill,
            receivers: Mutex::new((live_receiver, backfill_receiver)),
            left_behind: AtomicBool::new(false),
            taken: Notify::new(),
            closing: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }
}

impl Queue {
    fn sender(&self, lane: Lane) -> &mpsc::Sender<DeliveryId> {
        match lane {
            Lane::Live => &self.live,
            Lane::Backfill => &self.backfill,
        }
    }

    /// Room for one delivery that is about to be stored; `None` leaves it to the relay, see [`Queue::leave_behind`].
    pub fn try_reserve(&self, lane: Lane) -> Option<Permit> {
        self.sender(lane).clone().try_reserve_owned().ok().map(Permit)
    }

    /// Tells the relay that a delivery for which there was no room is committed, and is to be found in the inbox.
    pub fn leave_behind(&self) {
        self.left_behind.store(true, Ordering::Release);
        self.taken.notify_one();
    }

    /// How many more ids a lane would take.
    pub fn room(&self, lane: Lane) -> usize {
        self.sender(lane).capacity()
    }

    /// Whether something was left behind in the inbox since the last call.
    pub fn take_left_behind(&self) -> bool {
        self.left_behind.swap(false, Ordering::AcqRel)
    }

    /// Waits until a worker took something out, or something was left behind.
    pub async fn taken(&self) {
        self.taken.notified().await;
    }

    /// Waits for ids and takes at most `most`, live ones first. `None` once the queue is closed.
    pub async fn receive(&self, most: usize) -> Option<Vec<DeliveryId>> {
        let mut receivers = self.receivers.lock().await;
        let (live, backfill) = &mut *receivers;
        let closing = self.closing.notified();
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        let mut ids = Vec::new();
        let first = tokio::select! {
            biased;
            () = closing => return None,
            id = live.recv() => id,
            id = backfill.recv() => id,
        };
        ids.extend(first);
        while ids.len() < most - most / BACKFILL_SHARE
            && let Ok(id) = live.try_recv()
        {
            ids.push(id);
        }
        while ids.len() < most
            && let Ok(id) = backfill.try_recv()
        {
            ids.push(id);
        }
        drop(receivers);
        self.taken.notify_one();
        Some(ids)
    }

    /// Lets workers end: what is in the channels stays in the inbox.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
        self.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(queue: &Queue, lane: Lane, ids: std::ops::Range<i64>) {
        for id in ids {
            queue.try_reserve(lane).unwrap().send(DeliveryId(id));
        }
    }

    #[tokio::test]
    async fn live_comes_first_and_backfill_gets_its_share() {
        let queue = Queue::default();
        send(&queue, Lane::Backfill, 100..200);
        send(&queue, Lane::Live, 0..100);
        let batch = queue.receive(16).await.unwrap();
        assert_eq!(batch.iter().filter(|id| id.0 < 100).count(), 14);
        assert_eq!(batch.len(), 16);
    }

    #[tokio::test]
    async fn a_full_lane_takes_no_more_and_leaves_the_other_alone() {
        let queue = Queue::default();
        send(&queue, Lane::Live, 0..1024);
        assert!(queue.try_reserve(Lane::Live).is_none());
        assert!(queue.try_reserve(Lane::Backfill).is_some());
        assert_eq!(queue.receive(2000).await.unwrap().len(), 1024);
        assert_eq!(queue.room(Lane::Live), 1024);
    }

    #[tokio::test]
    async fn closing_wakes_everyone_who_waits() {
        let queue = std::sync::Arc::new(Queue::default());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.receive(1).await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in waiting {
            assert_eq!(worker.await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn what_is_left_behind_wakes_the_relay_once() {
        let queue = Queue::default();
        assert!(!queue.take_left_behind());
        queue.leave_behind();
        queue.taken().await;
        assert!(queue.take_left_behind() && !queue.take_left_behind());
    }
}
