//! What the queue has to tell the relay.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::DeliveryId;

/// More than a broker's connection can lose at once. What is not told here is due again after five minutes.
const MOST_REFUSED: usize = 16 * 1024;

/// What happened to the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Deliveries are in the inbox that were not handed over.
    pub more: bool,
    /// What was handed over may be lost: the broker, its queue or the connection to it was.
    pub lost: bool,
    /// These were handed over, and the broker did not take them.
    pub refused: Vec<DeliveryId>,
}

#[derive(Debug, Default)]
pub(super) struct NewsDesk {
    more: AtomicBool,
    lost: AtomicBool,
    refused: Mutex<Vec<DeliveryId>>,
    changed: Notify,
}

impl NewsDesk {
    pub(super) fn more(&self) {
        self.more.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn lost(&self) {
        self.lost.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn refused(&self, ids: impl IntoIterator<Item = DeliveryId>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.extend(ids);
        refused.truncate(MOST_REFUSED);
        drop(refused);
        self.wake();
    }

    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn take(&self) -> News {
        News {
            more: self.more.swap(false, Ordering::AcqRel),
            lost: self.lost.swap(false, Ordering::AcqRel),
            refused: std::mem::take(
                &mut self.refused.lock().unwrap_or_else(PoisonError::into_inner),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_wakes_the_relay_and_is_told_once() {
        let desk = NewsDesk::default();
        assert_eq!(desk.take(), News::default());
        desk.more();
        desk.refused([DeliveryId(1), DeliveryId(2)]);
        desk.lost();
        desk.changed().await;
        assert_eq!(
            desk.take(),
            News {
                more: true,
                lost: true,
                refused: vec![DeliveryId(1), DeliveryId(2)]
            }
        );
        assert_eq!(desk.take(), News::default());
    }
}
