//! The queue inside one process: ids on their way to a worker. Losing one costs time, never data: the inbox has it.

use tokio::sync::mpsc::OwnedPermit;

use super::lanes::Lanes;
use super::{DeliveryId, Lane};

/// How many ids wait in each lane at the most. A backlog beyond that waits in the inbox.
const CAPACITY: usize = 1024;

#[derive(Debug)]
pub(super) struct InProcess {
    pub(super) lanes: Lanes<DeliveryId>,
}

impl InProcess {
    pub(super) fn new() -> Self {
        Self {
            lanes: Lanes::new(CAPACITY),
        }
    }

    pub(super) fn try_reserve(&self, lane: Lane) -> Option<OwnedPermit<DeliveryId>> {
        self.lanes.sender(lane).clone().try_reserve_owned().ok()
    }

    pub(super) fn room(&self, lane: Lane) -> usize {
        self.lanes.sender(lane).capacity()
    }
}
