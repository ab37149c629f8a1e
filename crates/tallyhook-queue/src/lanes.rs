//! Two bounded channels, the live one first, that several workers read.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, Notify, mpsc};

use super::Lane;

/// One in eight of a batch is of backfill even while live deliveries would fill it.
const BACKFILL_SHARE: usize = 8;

#[derive(Debug)]
pub(super) struct Lanes<T> {
    live: mpsc::Sender<T>,
    backfill: mpsc::Sender<T>,
    receivers: Mutex<(mpsc::Receiver<T>, mpsc::Receiver<T>)>,
    closing: Notify,
    closed: AtomicBool,
}

impl<T> Lanes<T> {
    /// Returns two empty lanes of `capacity` each.
    pub(super) fn new(capacity: usize) -> Self {
        let (live, live_receiver) = mpsc::channel(capacity);
        let (backfill, backfill_receiver) = mpsc::channel(capacity);
        Self {
            live,
            backfill,
            receivers: Mutex::new((live_receiver, backfill_receiver)),
            closing: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) fn sender(&self, lane: Lane) -> &mpsc::Sender<T> {
        match lane {
            Lane::Live => &self.live,
            Lane::Backfill => &self.backfill,
        }
    }

    /// Waits for items and returns at most `most`, live ones first. `None` once the lanes are
    /// closed.
    pub(super) async fn receive(&self, most: usize) -> Option<Vec<T>> {
        let mut receivers = self.receivers.lock().await;
        let (live, backfill) = &mut *receivers;
        let closing = self.closing.notified();
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        let mut taken = Vec::new();
        let first = tokio::select! {
            biased;
            () = closing => return None,
            one = live.recv() => one,
            one = backfill.recv() => one,
        };
        taken.extend(first);
        while taken.len() < most - most / BACKFILL_SHARE
            && let Ok(one) = live.try_recv()
        {
            taken.push(one);
        }
        while taken.len() < most
            && let Ok(one) = backfill.try_recv()
        {
            taken.push(one);
        }
        Some(taken)
    }

    /// Ends all calls of `receive`, those that wait and later ones.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(lanes: &Lanes<i64>, lane: Lane, numbers: std::ops::Range<i64>) {
        for number in numbers {
            lanes.sender(lane).try_send(number).unwrap();
        }
    }

    #[tokio::test]
    async fn live_is_received_first_and_backfill_keeps_its_share() {
        let lanes = Lanes::new(1024);
        send(&lanes, Lane::Backfill, 100..200);
        send(&lanes, Lane::Live, 0..100);
        let batch = lanes.receive(16).await.unwrap();
        assert_eq!(batch.iter().filter(|number| **number < 100).count(), 14);
        assert_eq!(batch.len(), 16);
    }

    #[tokio::test]
    async fn full_lane_refuses_items_without_blocking_the_other() {
        let lanes = Lanes::new(8);
        send(&lanes, Lane::Live, 0..8);
        assert!(lanes.sender(Lane::Live).try_send(8).is_err());
        send(&lanes, Lane::Backfill, 8..9);
        assert_eq!(lanes.receive(200).await.unwrap().len(), 9);
    }

    #[tokio::test]
    async fn closing_wakes_every_waiting_receiver() {
        let lanes = std::sync::Arc::new(Lanes::<i64>::new(8));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let lanes = lanes.clone();
                tokio::spawn(async move { lanes.receive(1).await })
            })
            .collect();
        tokio::task::yield_now().await;
        lanes.close();
        for worker in waiting {
            assert_eq!(worker.await.unwrap(), None);
        }
    }
}
