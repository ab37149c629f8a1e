//! Signals from the queue to the relay.

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::DeliveryId;

/// More ids than a broker's connection can lose at once. What does not fit is due again after five
/// minutes.
const MAX_NACKED: usize = 16 * 1024;

/// Events of the queue that the relay acts on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSignals {
    /// The inbox holds deliveries that were not published.
    pub backlog: bool,
    /// Published messages may be lost: the broker, its queue or the connection to it was.
    pub connection_lost: bool,
    /// Deliveries that the broker did not take.
    pub nacked: Vec<DeliveryId>,
}

impl QueueSignals {
    /// Adds later signals.
    pub fn merge(&mut self, later: Self) {
        self.backlog |= later.backlog;
        self.connection_lost |= later.connection_lost;
        self.nacked.extend(later.nacked);
    }
}

/// Collects signals until the relay takes them.
#[derive(Debug, Default)]
pub(super) struct SignalCollector {
    pending: Mutex<QueueSignals>,
    changed: Notify,
}

impl SignalCollector {
    pub(super) fn report_backlog(&self) {
        self.pending.lock().backlog = true;
        self.wake();
    }

    pub(super) fn report_connection_lost(&self) {
        self.pending.lock().connection_lost = true;
        self.wake();
    }

    pub(super) fn report_nacked(&self, ids: impl IntoIterator<Item = DeliveryId>) {
        let mut pending = self.pending.lock();
        pending.nacked.extend(ids);
        pending.nacked.truncate(MAX_NACKED);
        drop(pending);
        self.wake();
    }

    /// Wakes the relay without a signal, since there is room again.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn take(&self) -> QueueSignals {
        std::mem::take(&mut self.pending.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn signals_wake_the_relay_and_are_taken_once() {
        let collector = SignalCollector::default();
        assert_eq!(collector.take(), QueueSignals::default());
        collector.report_backlog();
        collector.report_nacked([DeliveryId(1), DeliveryId(2)]);
        collector.report_connection_lost();
        collector.changed().await;
        let expected = QueueSignals {
            backlog: true,
            connection_lost: true,
            nacked: vec![DeliveryId(1), DeliveryId(2)],
        };
        assert_eq!(collector.take(), expected);
        assert_eq!(collector.take(), QueueSignals::default());
    }

    #[test]
    fn merged_signals_keep_both_sides() {
        let mut signals = QueueSignals {
            backlog: true,
            connection_lost: false,
            nacked: vec![DeliveryId(1)],
        };
        signals.merge(QueueSignals {
            backlog: false,
            connection_lost: true,
            nacked: vec![DeliveryId(2)],
        });
        assert!(signals.backlog && signals.connection_lost);
        assert_eq!(signals.nacked, [DeliveryId(1), DeliveryId(2)]);
    }
}
