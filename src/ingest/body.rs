//! The bodies of unverified requests: read within limits of size and time, and counted in the
//! budget of all requests while they are in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::web::{self, Bytes};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{IngestLimits, MIB, WebhookRefusal};

/// The capacity that is allocated at once; larger payloads are rare.
const INITIAL_CAPACITY: usize = 64 * 1024;
/// The bytes after which a `Content-Length` is trusted: a client that sends no body gets no memory.
const TRUSTED_AFTER: usize = MIB;
/// The size up to which a body may use the reserve, and has no minimum pace.
const SMALL: usize = MIB;
/// The pace of a larger body: so many bytes in each such time. GitHub needs four times as much to
/// send its largest payload before it gives up.
const PACE_BYTES: usize = 2 * MIB;
const PACE_TIME: Duration = Duration::from_secs(2);
/// The time after which an unfinished body may be dropped for another.
const SLOW_AFTER: Duration = Duration::from_millis(100);
/// The bytes that make a slow body a recent one again.
const PROGRESS_BYTES: usize = 256 * 1024;

/// The memory for bodies of all requests.
#[derive(Debug, Default)]
pub(super) struct BodyBudget {
    in_flight: AtomicUsize,
    /// Unfinished bodies by number, those that take long.
    slow: Mutex<HashMap<u64, SlowBody>>,
    next: AtomicU64,
}

/// A body that may be dropped for another.
#[derive(Debug)]
struct SlowBody {
    bytes: usize,
    /// The last time at which it had made progress, and its size then.
    progress: (Instant, usize),
    dropped: Arc<Notify>,
}

impl BodyBudget {
    /// Drops slow bodies until no more than `limit` bytes are in flight; those first whose progress
    /// is longest ago.
    fn make_room(&self, limit: usize, except: Option<u64>) -> bool {
        let mut slow = self.slow.lock();
        while self.in_flight.load(Ordering::Acquire) > limit {
            let others = slow
                .iter()
                .filter(|(number, body)| Some(**number) != except && body.bytes > 0);
            let Some(slowest) = others.min_by_key(|(_, body)| body.progress.0) else {
                return false;
            };
            let number = *slowest.0;
            if let Some(dropped) = slow.remove(&number) {
                // At once, though the memory is released when its task has run.
                self.in_flight.fetch_sub(dropped.bytes, Ordering::AcqRel);
                dropped.dropped.notify_one();
            }
        }
        true
    }
}

/// Bytes of the budget of all requests, released when dropped.
pub(super) struct BudgetShare {
    budget: Arc<BodyBudget>,
    taken: usize,
    slow: Option<(u64, Arc<Notify>)>,
}

impl BudgetShare {
    /// Takes the bytes that have actually arrived, so that a `Content-Length` alone blocks no other
    /// request.
    fn take(&mut self, bytes: usize, limits: &IngestLimits) -> Result<(), WebhookRefusal> {
        let number = self.slow.as_ref().map(|(number, _)| *number);
        if let Some(number) = number {
            let mut slow = self.budget.slow.lock();
            let body = slow.get_mut(&number).ok_or(WebhookRefusal::Displaced)?;
            body.bytes += bytes;
            if body.bytes - body.progress.1 >= PROGRESS_BYTES {
                body.progress = (Instant::now(), body.bytes);
            }
            // Under the lock: what makes room by this body releases all that it has taken.
            self.budget.in_flight.fetch_add(bytes, Ordering::AcqRel);
        } else {
            self.budget.in_flight.fetch_add(bytes, Ordering::AcqRel);
        }
        self.taken += bytes;
        let limit = if self.taken <= SMALL {
            limits.in_flight_bytes + limits.small_reserve_bytes
        } else {
            limits.in_flight_bytes
        };
        if self.budget.in_flight.load(Ordering::Acquire) <= limit
            || self.budget.make_room(limit, number)
        {
            Ok(())
        } else {
            Err(WebhookRefusal::Unavailable)
        }
    }

    /// Makes the body one that may be dropped for others.
    fn give_precedence(&mut self, started: Instant) -> Arc<Notify> {
        let (_, dropped) = self.slow.get_or_insert_with(|| {
            let number = self.budget.next.fetch_add(1, Ordering::Relaxed);
            let dropped = Arc::<Notify>::default();
            let body = SlowBody {
                bytes: self.taken,
                progress: (started, 0),
                dropped: dropped.clone(),
            };
            self.budget.slow.lock().insert(number, body);
            (number, dropped)
        });
        dropped.clone()
    }

    /// Keeps the bytes of a body that is complete.
    fn keep(&mut self) -> Result<(), WebhookRefusal> {
        let Some((number, _)) = self.slow.take() else {
            return Ok(());
        };
        let kept = self.budget.slow.lock().remove(&number);
        if kept.is_none() {
            self.taken = 0;
            return Err(WebhookRefusal::Displaced);
        }
        Ok(())
    }

    /// Releases all but `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let over = self.taken.saturating_sub(bytes);
        self.budget.in_flight.fetch_sub(over, Ordering::AcqRel);
        self.taken -= over;
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        // A body that was dropped for another has nothing left to release.
        if self.keep().is_ok() {
            self.budget
                .in_flight
                .fetch_sub(self.taken, Ordering::AcqRel);
        }
    }
}

/// A body in memory with its share of the budget.
pub(super) struct BodyInMemory {
    pub(super) bytes: Vec<u8>,
    pub(super) share: BudgetShare,
}

impl BodyInMemory {
    /// Reads a body of at most `cap` bytes, of which `promised` are announced, in the time since
    /// `started` that the limits allow.
    ///
    /// # Errors
    /// [`WebhookRefusal::TooSlow`], [`WebhookRefusal::TooLarge`],
    /// [`WebhookRefusal::Unavailable`] if the budget of all requests is used up, or
    /// [`WebhookRefusal::Displaced`] if it was and this body was the slowest.
    pub(super) async fn read(
        payload: web::Payload,
        (promised, cap): (usize, usize),
        (budget, limits): (&Arc<BodyBudget>, &IngestLimits),
        started: Instant,
    ) -> Result<Self, WebhookRefusal> {
        if promised > cap {
            return Err(WebhookRefusal::TooLarge);
        }
        let mut body = Self {
            bytes: Vec::with_capacity(promised.min(INITIAL_CAPACITY)),
            share: BudgetShare {
                budget: budget.clone(),
                taken: 0,
                slow: None,
            },
        };
        let mut arriving = ArrivingBody {
            payload,
            started,
            deadline: started + limits.body_time,
            window: (started, 0),
        };
        let is_large = |bytes: &Vec<u8>| bytes.len().max(promised) > SMALL;
        while let Some(chunk) = arriving
            .next(body.bytes.len(), is_large(&body.bytes), &mut body.share)
            .await?
        {
            if body.bytes.len() + chunk.len() > cap {
                return Err(WebhookRefusal::TooLarge);
            }
            body.share.take(chunk.len(), limits)?;
            if body.bytes.len() >= TRUSTED_AFTER {
                // Growing by doubling would cost twice the size.
                body.bytes
                    .reserve_exact(promised.saturating_sub(body.bytes.len()));
            }
            body.bytes.extend_from_slice(&chunk);
        }
        body.share.keep()?;
        Ok(body)
    }
}

/// The part of a body that is still to arrive.
struct ArrivingBody {
    payload: web::Payload,
    started: Instant,
    deadline: Instant,
    /// The start of the time in which the pace is measured, and the size of the body then.
    window: (Instant, usize),
}

impl ArrivingBody {
    /// Returns the next chunk, after `arrived` bytes; `None` at the end.
    async fn next(
        &mut self,
        arrived: usize,
        is_large: bool,
        share: &mut BudgetShare,
    ) -> Result<Option<Bytes>, WebhookRefusal> {
        let slow_at = self.started + SLOW_AFTER;
        let mut dropped = share.slow.as_ref().map(|(_, dropped)| dropped.clone());
        loop {
            let mut until = self.deadline;
            if is_large {
                until = until.min(self.window.0 + PACE_TIME);
            }
            if dropped.is_none() {
                until = until.min(slow_at);
            }
            let chunk = match &dropped {
                None => timeout_at(until, self.payload.next()).await,
                Some(dropped) => tokio::select! {
                    biased;
                    () = dropped.notified() => return Err(WebhookRefusal::Displaced),
                    chunk = timeout_at(until, self.payload.next()) => chunk,
                },
            };
            if let Ok(chunk) = chunk {
                return chunk
                    .transpose()
                    .map_err(|_: PayloadError| WebhookRefusal::TooSlow);
            }
            let now = Instant::now();
            if now >= self.deadline {
                return Err(WebhookRefusal::TooSlow);
            }
            if now >= slow_at && dropped.is_none() {
                dropped = Some(share.give_precedence(self.started));
            }
            if now >= self.window.0 + PACE_TIME {
                if is_large && arrived - self.window.1 < PACE_BYTES {
                    return Err(WebhookRefusal::TooSlow);
                }
                self.window = (now, arrived);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> IngestLimits {
        IngestLimits {
            in_flight_bytes: 2 * MIB,
            small_reserve_bytes: MIB,
            ..IngestLimits::default()
        }
    }

    fn share(budget: &Arc<BodyBudget>, bytes: usize) -> BudgetShare {
        let mut share = BudgetShare {
            budget: budget.clone(),
            taken: 0,
            slow: None,
        };
        assert_eq!(share.take(bytes, &limits()), Ok(()));
        share
    }

    #[test]
    fn slowest_unfinished_body_makes_room_and_every_byte_is_released() {
        let budget = Arc::<BodyBudget>::default();
        let now = Instant::now();
        let mut shares: Vec<_> = [3, 5, 4]
            .into_iter()
            .map(|age| {
                let mut slow = share(&budget, MIB);
                slow.give_precedence(now - Duration::from_secs(age));
                slow
            })
            .collect();
        // 3 MiB are the limit of a small body: one of them ends, the one from 5 s ago.
        let mut newcomer = share(&budget, MIB);
        let kept: Vec<_> = shares.iter_mut().map(BudgetShare::keep).collect();
        assert_eq!(kept, [Ok(()), Err(WebhookRefusal::Displaced), Ok(())]);
        // Complete bodies keep their memory, and there is no unfinished one left to drop.
        assert_eq!(
            newcomer.take(MIB, &limits()),
            Err(WebhookRefusal::Unavailable)
        );
        drop((shares, newcomer));
        assert_eq!(budget.in_flight.load(Ordering::Acquire), 0);
        assert!(budget.slow.lock().is_empty());
    }

    #[test]
    fn reserve_is_for_small_bodies_only() {
        let budget = Arc::<BodyBudget>::default();
        let mut large = share(&budget, MIB);
        assert_eq!(large.take(MIB, &limits()), Ok(()));
        assert_eq!(large.take(1, &limits()), Err(WebhookRefusal::Unavailable));
        drop(share(&budget, MIB - 1));
    }
}
