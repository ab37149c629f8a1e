//! Confirmation of lost installations: the webhook that reports a loss may be an old one, posted
//! again.

use std::collections::BTreeSet;

use chrono::{TimeDelta, Utc};
use tallyhook_core::domain::join::Dated;
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_store::BatchWrite;

use super::Poller;

/// The age up to which each round confirms a loss. GitHub does not take an older one back silently.
const CONFIRMED_FOR: TimeDelta = TimeDelta::days(1);

impl Poller {
    /// Undoes the reported loss of each installation that GitHub still lists as active. Only an App
    /// may ask.
    ///
    /// # Errors
    /// If the database fails. A failure of GitHub is logged, and the next round asks again.
    pub(super) async fn confirm_lost_installations(&self) -> tallyhook_store::Result<()> {
        if !self.client.is_app() {
            return Ok(());
        }
        let now = Utc::now();
        let lost = self.store.lost_installations(now - CONFIRMED_FOR).await?;
        if lost.is_empty() {
            return Ok(());
        }
        let lost: BTreeSet<_> = lost.into_iter().collect();
        let listed = match self.client.installations().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%error, "cannot list the App's installations to confirm their loss");
                return Ok(());
            }
        };
        let active = listed
            .into_iter()
            .filter(|one| one.suspended_at.is_none() && lost.contains(&one.id));
        let granted = Dated {
            at: now.into(),
            value: RepositoryAccess::Granted,
        };
        let installations: Vec<_> = active.map(|one| (one.id, granted.clone())).collect();
        for (installation, _) in &installations {
            tracing::warn!(
                installation.id = installation.0,
                "installation {installation} was reported lost, but GitHub lists it: \
                 its repositories are polled again"
            );
        }
        if !installations.is_empty() {
            let write = BatchWrite {
                installations,
                ..BatchWrite::default()
            };
            // The batch has no pull request, so there is no version that could conflict.
            let _no_conflict = self.store.record(&write, now).await?;
        }
        Ok(())
    }
}
