//! The turns of the workers of one process. A pull request belongs to one worker at a time, so that
//! two never write the same row; between processes the version of the row decides.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tallyhook_core::github::types::PrKey;
use tallyhook_store::{PendingDelivery, StoredPullRequest};
use tokio::sync::{Notify, RwLock};

/// The number of facts from which on a pull request is long: it has batches of its own, and is kept
/// in memory between them, since reading it takes longer than applying a batch to it.
const LONG: usize = 256;
/// The most facts of long pull requests in memory, about 40 MB.
const MOST_KEPT: usize = 100_000;
/// The size from which on a body has a transaction of its own.
const LARGE_BODY: u64 = 1024 * 1024;

/// The turns that the workers of a process share.
#[derive(Default)]
pub struct WorkerTurns {
    /// Batches hold it for reading, a delivery that was attempted before holds it for writing,
    /// alone.
    pub(crate) alone: RwLock<()>,
    taken: Mutex<BTreeSet<PrKey>>,
    freed: Notify,
    /// Long pull requests as they were written last, the latest at the end.
    kept: Mutex<Vec<StoredPullRequest>>,
}

/// Deliveries that may be applied together.
#[derive(Default)]
pub(crate) struct DeliveryGroup {
    /// The pull requests that they are about, so far as they have to be waited for.
    pub(crate) keys: BTreeSet<PrKey>,
    pub(crate) deliveries: Vec<PendingDelivery>,
}

/// The exclusive right to apply deliveries of these pull requests, until it is dropped.
pub(crate) struct PullRequestTurn<'a> {
    turns: &'a WorkerTurns,
    keys: BTreeSet<PrKey>,
}

impl Drop for PullRequestTurn<'_> {
    fn drop(&mut self) {
        self.turns
            .taken
            .lock()
            .retain(|key| !self.keys.contains(key));
        self.turns.freed.notify_waiters();
    }
}

impl WorkerTurns {
    /// Takes the turns of all pull requests that are neither long nor taken. Returns their
    /// deliveries, and the others in groups that are to be applied after them: those of all that are
    /// taken, which another worker has for one batch; those of each long one; each with a large body.
    pub(crate) fn take_free(
        &self,
        deliveries: Vec<PendingDelivery>,
    ) -> (
        PullRequestTurn<'_>,
        Vec<PendingDelivery>,
        Vec<DeliveryGroup>,
    ) {
        let long: BTreeSet<PrKey> = self.kept.lock().iter().map(key_of).collect();
        let mut taken = self.taken.lock();
        let (mut keys, mut free) = (BTreeSet::new(), Vec::new());
        let (mut waiting, mut large) = (DeliveryGroup::default(), Vec::new());
        let mut apart: BTreeMap<PrKey, Vec<PendingDelivery>> = BTreeMap::new();
        for delivery in deliveries {
            match delivery.key {
                Some(key) if long.contains(&key) => apart.entry(key).or_default().push(delivery),
                Some(key) if taken.contains(&key) => {
                    waiting.keys.insert(key);
                    waiting.deliveries.push(delivery);
                }
                None if delivery.body_bytes > LARGE_BODY => large.push(DeliveryGroup {
                    keys: BTreeSet::new(),
                    deliveries: vec![delivery],
                }),
                key => {
                    keys.extend(key);
                    free.push(delivery);
                }
            }
        }
        taken.extend(&keys);
        let apart = apart.into_iter().map(|(key, deliveries)| DeliveryGroup {
            keys: BTreeSet::from([key]),
            deliveries,
        });
        let waiting = Some(waiting).filter(|group| !group.deliveries.is_empty());
        let groups = waiting.into_iter().chain(apart).chain(large).collect();
        (PullRequestTurn { turns: self, keys }, free, groups)
    }

    /// Waits for the turns of these pull requests, and takes them together: who waits for one holds
    /// none.
    pub(crate) async fn take(&self, keys: BTreeSet<PrKey>) -> PullRequestTurn<'_> {
        loop {
            let freed = self.freed.notified();
            {
                let mut taken = self.taken.lock();
                if taken.is_disjoint(&keys) {
                    taken.extend(&keys);
                    return PullRequestTurn { turns: self, keys };
                }
            }
            freed.await;
        }
    }

    /// Takes a long pull request out of memory.
    pub(crate) fn kept(&self, key: PrKey) -> Option<StoredPullRequest> {
        let mut kept = self.kept.lock();
        let place = kept.iter().position(|known| key_of(known) == key)?;
        Some(kept.remove(place))
    }

    /// Keeps the long ones of these in memory, and of all as many as fit.
    pub(crate) fn keep(&self, written: impl IntoIterator<Item = StoredPullRequest>) {
        let mut kept = self.kept.lock();
        kept.extend(written.into_iter().filter(|known| facts(known) > LONG));
        let mut room = MOST_KEPT;
        let fitting = kept.iter().rev().take_while(|known| {
            let fits = facts(known) <= room;
            room = room.saturating_sub(facts(known));
            fits
        });
        let excess = kept.len() - fitting.count();
        kept.drain(..excess);
    }
}

fn key_of(known: &StoredPullRequest) -> PrKey {
    known.pull_request.key
}

/// Returns the number of entries that grow with its history.
fn facts(known: &StoredPullRequest) -> usize {
    let pull_request = &known.pull_request;
    pull_request.timeline.len() + pull_request.observed.len() + pull_request.reviews.len()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tallyhook_core::delivery::DeliveryId;
    use tallyhook_core::domain::pull_request::PullRequest;
    use tallyhook_core::event::{Fact, FactKind};
    use tallyhook_core::github::types::{PrNumber, RepoId, Timestamp};
    use tokio::time::timeout;

    use super::*;

    fn key(number: i64) -> PrKey {
        PrKey {
            repo: RepoId(7),
            number: PrNumber(number),
        }
    }

    fn delivery(id: i64, number: Option<i64>, body_bytes: u64) -> PendingDelivery {
        PendingDelivery {
            id: DeliveryId(id),
            key: number.map(key),
            tried: false,
            body_bytes,
        }
    }

    fn ids(deliveries: &[PendingDelivery]) -> Vec<i64> {
        deliveries.iter().map(|delivery| delivery.id.0).collect()
    }

    fn groups(groups: &[DeliveryGroup]) -> Vec<(Vec<i64>, Vec<i64>)> {
        let numbers = |group: &DeliveryGroup| group.keys.iter().map(|key| key.number.0).collect();
        let parts = |group: &DeliveryGroup| (numbers(group), ids(&group.deliveries));
        groups.iter().map(parts).collect()
    }

    fn with_facts(number: i64, facts: usize) -> StoredPullRequest {
        let mut pull_request = PullRequest::unknown(key(number));
        for at in (0..).take(facts) {
            pull_request.timeline.add(Fact {
                at: Timestamp::clamped(at),
                kind: FactKind::Labeled,
                subject: None,
                subject_kind: None,
                detail: None,
                actor: None,
            });
        }
        StoredPullRequest {
            pull_request,
            version: 1,
            repository: None,
            parties_hash: None,
        }
    }

    #[tokio::test]
    async fn pull_request_belongs_to_one_worker_until_its_turn_is_dropped() {
        let turns = WorkerTurns::default();
        let batch = vec![delivery(1, Some(1), 9), delivery(2, Some(2), 9)];
        let (first, free, apart) = turns.take_free(batch);
        assert_eq!((ids(&free), apart.len()), (vec![1, 2], 0));
        let batch = vec![
            delivery(3, Some(1), 9),
            delivery(4, Some(3), 9),
            delivery(5, Some(1), 9),
            delivery(6, None, 9),
            delivery(8, Some(2), 9),
        ];
        let (second, free, apart) = turns.take_free(batch);
        assert_eq!(ids(&free), [4, 6], "the other pull requests do not wait");
        // Another worker's pull requests are waited for together, in one batch.
        assert_eq!(groups(&apart), [(vec![1, 2], vec![3, 5, 8])]);
        let waiting = turns.take(BTreeSet::from([key(1), key(2)]));
        tokio::pin!(waiting);
        let soon = Duration::from_millis(1);
        assert!(timeout(soon, &mut waiting).await.is_err());
        drop(second);
        assert!(timeout(soon, &mut waiting).await.is_err());
        drop(first);
        let turn = waiting.await;
        let (_, free, apart) = turns.take_free(vec![delivery(7, Some(2), 9)]);
        assert_eq!((free.len(), apart.len()), (0, 1));
        drop(turn);
        let (_turn, free, _) = turns.take_free(vec![delivery(7, Some(2), 9)]);
        assert_eq!(ids(&free), [7]);
    }

    #[tokio::test]
    async fn long_pull_requests_and_large_bodies_share_no_batch_with_others() {
        let turns = WorkerTurns::default();
        turns.keep([with_facts(1, LONG + 1), with_facts(2, LONG)]);
        let batch = vec![
            delivery(1, Some(1), 9),
            delivery(2, Some(2), 9),
            delivery(3, None, LARGE_BODY + 1),
            delivery(4, Some(3), LARGE_BODY + 1),
        ];
        let (_turn, free, apart) = turns.take_free(batch);
        assert_eq!(ids(&free), [2, 4]);
        assert_eq!(groups(&apart), [(vec![1], vec![1]), (vec![], vec![3])]);
        let _turn = turns.take(BTreeSet::from([key(1)])).await;
        assert!(turns.kept(key(1)).is_some() && turns.kept(key(2)).is_none());
    }

    #[test]
    fn the_latest_long_pull_requests_stay_in_memory_as_far_as_they_fit() {
        let turns = WorkerTurns::default();
        turns.keep([1, 2, 3].map(|number| with_facts(number, MOST_KEPT / 3)));
        turns.keep([with_facts(4, MOST_KEPT / 2)]);
        let kept = [1, 2, 3, 4].map(|number| turns.kept(key(number)).is_some());
        assert_eq!(kept, [false, false, true, true]);
        turns.keep([with_facts(5, MOST_KEPT + 1)]);
        assert!(turns.kept(key(5)).is_none());
    }
}
