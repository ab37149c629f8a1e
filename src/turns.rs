//! The turns of the workers of one process. A pull request belongs to one worker at a time, so that
//! two never write the same row; between processes the version of the row decides.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;
use tallyhook_core::github::types::PrKey;
use tallyhook_store::{PendingDelivery, StoredPullRequest};
use tokio::sync::{Notify, RwLock};

/// The number of facts from which on a pull request is long: it has batches of its own, since
/// applying one takes long.
const LONG: usize = 256;
/// The most facts of pull requests in memory, about 40 MB.
const MOST_KEPT: usize = 100_000;
/// A pull request without any takes the room of so many facts, and its text that of one for each of
/// so many bytes.
const ROOM_OF_ONE: usize = 100;
const BYTES_OF_FACT: usize = 400;
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
    kept: Mutex<KeptPullRequests>,
}

/// Pull requests as they were written last: deliveries about one follow each other, and reading it
/// takes longer than applying one of them.
#[derive(Default)]
struct KeptPullRequests {
    by_key: HashMap<PrKey, (u64, StoredPullRequest)>,
    /// The latest at the end.
    by_age: BTreeMap<u64, PrKey>,
    /// The age of the next one.
    next: u64,
    /// The sum of their [`room_of`].
    room: usize,
}

impl KeptPullRequests {
    fn insert(&mut self, known: StoredPullRequest) {
        let key = key_of(&known);
        self.remove(key);
        self.room += room_of(&known);
        self.by_age.insert(self.next, key);
        self.by_key.insert(key, (self.next, known));
        self.next += 1;
        while self.room > MOST_KEPT
            && let Some((_, oldest)) = self.by_age.first_key_value()
        {
            let oldest = *oldest;
            self.remove(oldest);
        }
    }

    fn remove(&mut self, key: PrKey) -> Option<StoredPullRequest> {
        let (age, known) = self.by_key.remove(&key)?;
        self.by_age.remove(&age);
        self.room -= room_of(&known);
        Some(known)
    }

    fn is_long(&self, key: PrKey) -> bool {
        let kept = self.by_key.get(&key);
        kept.is_some_and(|(_, known)| facts(known) > LONG)
    }
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
        let kept = self.kept.lock();
        let mut taken = self.taken.lock();
        let (mut keys, mut free) = (BTreeSet::new(), Vec::new());
        let (mut waiting, mut large) = (DeliveryGroup::default(), Vec::new());
        let mut apart: BTreeMap<PrKey, Vec<PendingDelivery>> = BTreeMap::new();
        for delivery in deliveries {
            match delivery.key {
                Some(key) if kept.is_long(key) => apart.entry(key).or_default().push(delivery),
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

    /// Takes those of the pull requests out of memory that are kept there.
    pub(crate) fn kept(&self, keys: &[PrKey]) -> Vec<StoredPullRequest> {
        let mut kept = self.kept.lock();
        keys.iter().filter_map(|key| kept.remove(*key)).collect()
    }

    /// Keeps these in memory, and of all the latest, as many as fit.
    pub(crate) fn keep(&self, written: impl IntoIterator<Item = StoredPullRequest>) {
        let mut kept = self.kept.lock();
        for known in written {
            kept.insert(known);
        }
    }
}

fn key_of(known: &StoredPullRequest) -> PrKey {
    known.pull_request.key
}

/// Returns the room that it takes in memory, in facts.
fn room_of(known: &StoredPullRequest) -> usize {
    let conversation = known.pull_request.conversation.as_ref();
    let body = conversation.and_then(|dated| dated.value.body.as_ref());
    ROOM_OF_ONE + facts(known) + body.map_or(0, String::len) / BYTES_OF_FACT
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
    }

    #[test]
    fn the_latest_pull_requests_stay_in_memory_as_far_as_they_fit() {
        let turns = WorkerTurns::default();
        let third = MOST_KEPT / 3 - ROOM_OF_ONE;
        turns.keep([1, 2, 3].map(|number| with_facts(number, third)));
        turns.keep([with_facts(4, MOST_KEPT / 2)]);
        let keys = [1, 2, 3, 4].map(key);
        let kept =
            |turns: &WorkerTurns| -> Vec<_> { turns.kept(&keys).iter().map(key_of).collect() };
        assert_eq!(kept(&turns), [key(3), key(4)]);
        assert_eq!(kept(&turns), [], "they are taken out");
        turns.keep([with_facts(1, third), with_facts(5, MOST_KEPT)]);
        assert_eq!(turns.kept.lock().room, 0, "one that does not fit ends all");
        let short = (1..).take(MOST_KEPT / ROOM_OF_ONE + 1);
        turns.keep(short.map(|number| with_facts(number, 0)));
        assert_eq!(
            kept(&turns),
            [key(2), key(3), key(4)],
            "however short they are"
        );
    }
}
