//! The bodies of unverified requests: read within limits of size and time, and counted in the
//! budget of all requests while they are in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::web;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::{Ingest, WebhookRefusal};

/// The capacity that is allocated at once; larger payloads are rare.
const INITIAL_CAPACITY: usize = 64 * 1024;
/// The bytes after which a `Content-Length` is trusted: a client that sends no body gets no memory.
const TRUSTED_AFTER: usize = 1024 * 1024;

/// A body in memory with its share of the budget.
pub(super) struct BodyInMemory {
    pub(super) bytes: Vec<u8>,
    pub(super) share: BudgetShare,
}

/// Bytes of the budget of all requests, released when dropped.
pub(super) struct BudgetShare {
    in_flight: Arc<AtomicUsize>,
    taken: usize,
}

impl BudgetShare {
    /// Takes the bytes that have actually arrived, so that a `Content-Length` alone blocks no other
    /// request.
    fn take(&mut self, bytes: usize, budget: usize) -> Result<(), WebhookRefusal> {
        let before = self.in_flight.fetch_add(bytes, Ordering::AcqRel);
        self.taken += bytes;
        if before + bytes > budget {
            Err(WebhookRefusal::Unavailable)
        } else {
            Ok(())
        }
    }

    /// Releases all but `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let over = self.taken.saturating_sub(bytes);
        self.in_flight.fetch_sub(over, Ordering::AcqRel);
        self.taken -= over;
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.taken, Ordering::AcqRel);
    }
}

impl BodyInMemory {
    /// Reads a body of at most `cap` bytes, of which `promised` are announced, until `deadline`.
    ///
    /// # Errors
    /// [`WebhookRefusal::TooSlow`], [`WebhookRefusal::TooLarge`], or
    /// [`WebhookRefusal::Unavailable`] if the budget of all requests is used up.
    pub(super) async fn read(
        mut payload: web::Payload,
        promised: usize,
        cap: usize,
        ingest: &Ingest,
        deadline: Instant,
    ) -> Result<Self, WebhookRefusal> {
        let share = BudgetShare {
            in_flight: ingest.in_flight.clone(),
            taken: 0,
        };
        let promised = promised.min(cap);
        let mut body = Self {
            bytes: Vec::with_capacity(promised.min(INITIAL_CAPACITY)),
            share,
        };
        loop {
            let chunk = match timeout_at(deadline, payload.next()).await {
                Ok(Some(chunk)) => chunk.map_err(|_| WebhookRefusal::TooSlow)?,
                Ok(None) => return Ok(body),
                Err(_) => return Err(WebhookRefusal::TooSlow),
            };
            if body.bytes.len() + chunk.len() > cap {
                return Err(WebhookRefusal::TooLarge);
            }
            body.share
                .take(chunk.len(), ingest.limits.in_flight_bytes)?;
            if body.bytes.len() >= TRUSTED_AFTER {
                // Growing by doubling would cost twice the size.
                body.bytes
                    .reserve_exact(promised.saturating_sub(body.bytes.len()));
            }
            body.bytes.extend_from_slice(&chunk);
        }
    }
}
