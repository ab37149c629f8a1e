//! Settings of the requests that fetch from GitHub what webhooks missed.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use tallyhook_store::RunOptions;

use super::{ConfigError, SettingSources};

/// The settings of the poller, of backfills and of watched pull requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// From the start of one round of the poller to the start of the next.
    pub interval: Duration,
    /// Pull requests of one request.
    pub batch_size: u32,
    /// Repositories that are fetched concurrently.
    pub max_concurrent: u32,
    /// Of one request.
    pub timeout: Duration,
    pub retry_attempts: u32,
    pub retry_delay: Duration,
    pub monitor: WatchConfig,
    pub backfill: BackfillConfig,
    /// An answer older than this is refreshed from GitHub.
    pub cache_ttl: Duration,
}

/// The settings of polling watched pull requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchConfig {
    pub poll_interval: Duration,
    pub max_retries: u32,
    pub retry_delay: Duration,
    /// Pull requests that are fetched concurrently.
    pub concurrent: u32,
}

/// The default reach of a backfill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackfillConfig {
    pub days_back: u32,
    pub max_prs: u32,
    /// True fetches the dates of commits.
    pub commits: bool,
}

impl From<BackfillConfig> for RunOptions {
    fn from(
        BackfillConfig {
            days_back,
            max_prs,
            commits,
        }: BackfillConfig,
    ) -> Self {
        Self {
            days_back,
            max_prs,
            commits,
        }
    }
}

/// The upper bounds of a backfill.
pub const MAX_DAYS_BACK: u32 = 36_500;
pub const MAX_PRS: u32 = 1_000_000;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

impl SyncConfig {
    /// # Errors
    /// The first invalid setting and the expected form of its value.
    pub(super) fn new(sources: &SettingSources) -> Result<Self, ConfigError> {
        let duration = |name, range| sources.within::<HumanDuration>(name, range);
        let number = |name, range| sources.within::<u32>(name, range);
        Ok(Self {
            interval: duration("SYNC_INTERVAL", HumanDuration(SECOND)..=HumanDuration(DAY))?.0,
            batch_size: number("SYNC_BATCH_SIZE", 1..=100)?,
            max_concurrent: number("SYNC_MAX_CONCURRENT", 1..=50)?,
            timeout: duration(
                "SYNC_TIMEOUT",
                HumanDuration(SECOND)..=HumanDuration(SECOND * 600),
            )?
            .0,
            retry_attempts: number("SYNC_RETRY_ATTEMPTS", 0..=20)?,
            retry_delay: duration(
                "SYNC_RETRY_DELAY",
                HumanDuration(Duration::ZERO)..=HumanDuration(DAY),
            )?
            .0,
            monitor: WatchConfig {
                poll_interval: duration(
                    "MONITOR_POLL_INTERVAL",
                    HumanDuration(SECOND)..=HumanDuration(DAY),
                )?
                .0,
                max_retries: number("MONITOR_MAX_RETRIES", 0..=20)?,
                retry_delay: duration(
                    "MONITOR_RETRY_DELAY",
                    HumanDuration(Duration::ZERO)..=HumanDuration(DAY),
                )?
                .0,
                concurrent: number("MONITOR_CONCURRENT", 1..=50)?,
            },
            backfill: BackfillConfig {
                days_back: number("GITHUB_SYNC_DAYS_BACK", 1..=MAX_DAYS_BACK)?,
                max_prs: number("GITHUB_SYNC_MAX_PRS", 1..=MAX_PRS)?,
                commits: sources.parsed("GITHUB_SYNC_COMMITS", "true or false")?,
            },
            cache_ttl: duration(
                "PR_CACHE_TTL",
                HumanDuration(Duration::ZERO)..=HumanDuration(DAY),
            )?
            .0,
        })
    }
}

/// A duration as people write it: `90s`, `5m`, `1h 30m`.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct HumanDuration(pub(super) Duration);

impl FromStr for HumanDuration {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self)
    }
}

impl Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{error, sources};
    use super::*;
    use crate::config::Config;

    #[test]
    fn durations_have_human_units_and_defaults() {
        let SyncConfig {
            interval,
            timeout,
            retry_delay,
            monitor,
            backfill,
            cache_ttl,
            ..
        } = Config::new(&SettingSources::default()).ok().unwrap().sync;
        assert_eq!(
            [interval, timeout, retry_delay, cache_ttl].map(|time| time.as_secs()),
            [60, 30, 10, 300]
        );
        assert_eq!(
            (
                monitor.poll_interval.as_secs(),
                monitor.retry_delay.as_secs()
            ),
            (300, 30)
        );
        assert_eq!(
            backfill,
            BackfillConfig {
                days_back: 90,
                max_prs: 1000,
                commits: false
            }
        );
        let file = "sync_interval = '1m 30s'\ngithub_sync_commits = true\nsync_batch_size = 25";
        let sync = Config::new(&sources(&[("PR_CACHE_TTL", "0s")], file))
            .ok()
            .unwrap()
            .sync;
        assert_eq!(
            (
                sync.interval.as_secs(),
                sync.backfill.commits,
                sync.batch_size
            ),
            (90, true, 25)
        );
        assert_eq!(sync.cache_ttl, Duration::ZERO);
    }

    #[test]
    fn value_out_of_range_is_refused_with_its_bounds() {
        for (name, wrong, expected) in [
            (
                "SYNC_INTERVAL",
                "60",
                "expected one from 1s to 1day such as 60s",
            ),
            (
                "SYNC_INTERVAL",
                "0s",
                "expected one from 1s to 1day such as 60s",
            ),
            (
                "SYNC_TIMEOUT",
                "11m",
                "expected one from 1s to 10m such as 30s",
            ),
            (
                "MONITOR_POLL_INTERVAL",
                "soon",
                "expected one from 1s to 1day such as 5m",
            ),
            (
                "SYNC_MAX_CONCURRENT",
                "0",
                "expected one from 1 to 50 such as 5",
            ),
            (
                "SYNC_BATCH_SIZE",
                "ten",
                "expected one from 1 to 100 such as 10",
            ),
            (
                "GITHUB_SYNC_MAX_PRS",
                "-1",
                "expected one from 1 to 1000000 such as 1000",
            ),
            ("GITHUB_SYNC_COMMITS", "yes", "expected true or false"),
        ] {
            let error = error(&[(name, wrong)]);
            let wanted = format!("{name} is `{wrong}`, {expected}");
            assert!(error.starts_with(&wanted), "{error}");
        }
    }
}
