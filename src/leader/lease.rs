//! A process's view of a leader lease.

use std::time::Duration;

use parking_lot::Mutex;
use tallyhook_store::{LEASE_DURATION, LeaderRole, Result, Store};
use tokio::time::{Instant, sleep};

const RENEW_INTERVAL: Duration = Duration::from_secs(1);
/// Consecutive renewals that may fail before the lease counts as lost.
const MAX_FAILED_RENEWALS: u32 = 3;

/// A process's view of one leader role.
pub struct LeaderLease {
    role: LeaderRole,
    /// The start of the last renewal, if it succeeded.
    renewed_at: Mutex<Option<Instant>>,
}

impl LeaderLease {
    pub fn new(role: LeaderRole) -> Self {
        Self {
            role,
            renewed_at: Mutex::default(),
        }
    }

    /// Acquires or renews the role. Returns whether this process holds it.
    ///
    /// # Errors
    /// If the database fails; then another process may hold the role.
    pub async fn renew(&self, store: &Store) -> Result<bool> {
        // The lease counts from before the request: the answer says nothing about the time after
        // it.
        let at = Instant::now();
        let answer = store.acquire_role(self.role).await;
        let is_held = matches!(answer, Ok(true));
        *self.renewed_at.lock() = is_held.then_some(at);
        answer
    }

    /// Returns whether no other process can hold the role yet.
    pub fn is_held(&self) -> bool {
        let renewed_at = *self.renewed_at.lock();
        renewed_at.is_some_and(|at| at.elapsed() < LEASE_DURATION)
    }

    /// Renews the lease every second, and returns when another process holds the role, or when the
    /// database failed so often that one may.
    pub async fn wait_lost(&self, store: &Store) {
        let mut failures = 0;
        while failures < MAX_FAILED_RENEWALS {
            sleep(RENEW_INTERVAL).await;
            match self.renew(store).await {
                Ok(true) => failures = 0,
                Ok(false) => break,
                Err(_) => failures += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tallyhook_store::OpenMode;

    use super::*;

    #[tokio::test]
    async fn lease_expires_without_renewal() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = tallyhook_store::open(&url, OpenMode::Exclusive)
            .await
            .unwrap();
        let lease = LeaderLease::new(LeaderRole::Notifier);
        assert!(!lease.is_held());
        assert!(lease.renew(&store).await.unwrap() && lease.is_held());
        // The view of a process that was stopped since.
        *lease.renewed_at.lock() = Instant::now().checked_sub(LEASE_DURATION);
        assert!(!lease.is_held());
        assert!(lease.renew(&store).await.unwrap() && lease.is_held());
        store.close().await;
    }
}
