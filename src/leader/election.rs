//! The loop that acquires a leader role, renews it beside the work, ends the work when the role is lost, and releases the
//! role at the end.

use std::pin::pin;
use std::time::Duration;

use tallyhook_store::{LeaderRole, Store, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;

use super::LeaderLease;

/// The interval at which a process tries to acquire a role that it does not hold.
const ACQUIRE_INTERVAL: Duration = Duration::from_secs(1);

/// The work that one process at a time does under a leader role.
pub trait LeaderWork: Send {
    /// Returns whether this process can do the work. Read before each attempt to acquire the role.
    fn can_lead(&self) -> bool {
        true
    }

    /// Does the work until `leadership` ends. Work that may be cancelled anywhere runs inside
    /// [`Leadership::run_until_ended`]; other work finishes what it has begun after the end. A return before the end
    /// releases the role.
    fn lead(&mut self, leadership: &Leadership<'_>) -> impl Future<Output = ()> + Send;
}

/// One period in which this process holds a leader role.
pub struct Leadership<'a> {
    lease: &'a LeaderLease,
    ended: watch::Receiver<bool>,
}

impl Leadership<'_> {
    /// Returns the lease, for work that checks it again before each step that must not be done twice.
    pub const fn lease(&self) -> &LeaderLease {
        self.lease
    }

    /// Returns a receiver that becomes true at the end of the leadership.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    /// Waits until the role is lost or the process stops.
    pub async fn wait_ended(&self) {
        // The sender outlives the work, so that an error cannot occur.
        drop(self.ended().wait_for(|ended| *ended).await);
    }

    /// Runs `work` until it is finished or the leadership ends, and drops it then.
    pub async fn run_until_ended(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            () = self.wait_ended() => {}
            () = work => {}
        }
    }
}

/// Does `work` whenever this process holds `role`, until `stopping` becomes true. Releases the role at the end, so that
/// another process can acquire it at once.
pub async fn while_leading<W: LeaderWork>(
    store: &Store,
    role: LeaderRole,
    mut stopping: watch::Receiver<bool>,
    work: &mut W,
) {
    let lease = LeaderLease::new(role);
    let mut is_failing = false;
    loop {
        if work.can_lead() {
            let renewed = tokio::select! {
                renewed = lease.renew(store) => renewed,
                _ = stopping.wait_for(|stopping| *stopping) => break,
            };
            log_first_failure(role, &renewed, &mut is_failing);
            if renewed.unwrap_or(false) {
                lead(store, role, &lease, &mut stopping, work).await;
            }
        }
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            () = sleep(ACQUIRE_INTERVAL) => {}
        }
    }
    store.release_role(role).await;
}

/// Does `work` for as long as the lease holds. Waits for the end of the work also after the lease is lost: a step that was
/// cut off could be done a second time by the next leader.
async fn lead<W: LeaderWork>(
    store: &Store,
    role: LeaderRole,
    lease: &LeaderLease,
    stopping: &mut watch::Receiver<bool>,
    work: &mut W,
) {
    let (end, ended) = watch::channel(false);
    let leadership = Leadership { lease, ended };
    let mut working = pin!(work.lead(&leadership));
    let is_finished = tokio::select! {
        () = &mut working => true,
        () = lease.wait_lost(store) => {
            tracing::warn!(
                ?role,
                "leader role {role:?} is lost: another process holds it, or the database does not answer"
            );
            false
        }
        _ = stopping.wait_for(|stopping| *stopping) => false,
    };
    if is_finished {
        store.release_role(role).await;
    } else {
        end.send_replace(true);
        working.await;
    }
}

/// Logs the first of several consecutive failures: every process without a database would log one each second.
fn log_first_failure(
    role: LeaderRole,
    renewed: &tallyhook_store::Result<bool>,
    is_failing: &mut bool,
) {
    match renewed {
        Err(error) if !*is_failing && !matches!(error, StoreError::Closed) => {
            tracing::error!(?role, %error, "leader role {role:?} cannot be acquired; retrying each second");
        }
        _ => {}
    }
    *is_failing = renewed.is_err();
}
