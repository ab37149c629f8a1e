//! The daily digest of a channel: what waits, and for whom.

use tallyhook_core::github::types::Timestamp;
use tallyhook_store::{
    ChannelDigest, ChannelState, DigestContent, DigestRepositories, Moment, Result, Store,
};

use super::channel::Channel;
use super::notifier::Notifier;

/// Pull requests that a digest lists; the rest is a number.
const MAX_ITEMS: u32 = 20;

impl Notifier {
    /// Adds the digest of today to the outbox once its time has passed, unless there was one today
    /// or nothing waits. A process that was not running then makes it later on the same day.
    pub(super) async fn make_digest(
        &self,
        channel: &Channel,
        state: &mut ChannelState,
        now: Moment,
    ) -> Result<()> {
        let Some((day, at)) = channel.digest_due(now.into()) else {
            return Ok(());
        };
        if state.digest_day.is_some_and(|made| made >= day) {
            return Ok(());
        }
        let repositories = repositories(&self.store, channel).await?;
        let store = self.store.of_team(channel.team);
        let (total, items) = store
            .longest_waiting(repositories.as_ref(), MAX_ITEMS)
            .await?;
        let digest = ChannelDigest {
            channel: channel.name.clone(),
            at,
            content: DigestContent { day, total, items },
        };
        store.record_digest(&digest, now).await?;
        state.digest_day = Some(day);
        Ok(())
    }
}

impl Channel {
    /// Returns the date and the time of today's digest once that time has passed; `None` on days
    /// without hours, and for a channel without digest.
    fn digest_due(&self, now: Timestamp) -> Option<(chrono::NaiveDate, Timestamp)> {
        let digest = self.schedule.digest.as_ref()?;
        digest.calendar.daily(now, digest.second)
    }
}

/// Returns the repositories of a channel's filter; `None` for all of them. A former name means the
/// repository, too.
async fn repositories(store: &Store, channel: &Channel) -> Result<Option<DigestRepositories>> {
    let Some(patterns) = &channel.filter.repos else {
        return Ok(None);
    };
    let owners = patterns.iter().filter_map(|name| name.strip_suffix("/*"));
    let mut repositories = DigestRepositories {
        owners: owners.map(str::to_owned).collect(),
        ..DigestRepositories::default()
    };
    for name in channel.filter.single_repos() {
        let store = store.of_team(channel.team);
        repositories.ids.extend(store.repository_id(name).await?);
    }
    Ok(Some(repositories))
}
