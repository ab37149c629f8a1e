//! Aggregates over merged pull requests: percentiles, means, and the pull requests that are left
//! out.

use std::collections::BTreeMap;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp as ZonedTimestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::timings::{Flag, PullRequestDurations};
use crate::github::types::Timestamp;

/// Returns the percentile `p` (0 to 1) of `n` ascending values, interpolated linearly between the
/// closest ranks as by PostgreSQL's `percentile_cont`. `None` if there are no values.
pub fn percentile(n: usize, value: impl Fn(usize) -> f64, p: f64) -> Option<f64> {
    let last = n.checked_sub(1)?;
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "ranks are small"
    )]
    let (rank, low) = {
        let rank = p.clamp(0.0, 1.0) * last as f64;
        (rank, rank.floor() as usize)
    };
    let high = (low + 1).min(last);
    #[allow(clippy::cast_precision_loss, reason = "ranks are small")]
    let part = rank - low as f64;
    let (low, high) = (value(low), value(high));
    // Rounding must not carry it past the next rank, where a higher percentile may stand.
    Some((low + (high - low) * part).min(high))
}

/// Returns seconds as hours with at most six decimals: a quotient of binary numbers has more, which
/// mean nothing.
pub fn hours(seconds: f64) -> f64 {
    (seconds / 3600.0 * 1e6).round() / 1e6
}

/// Below this many values the 90th percentile means nothing, and the values themselves are listed
/// instead.
const FEW: usize = 5;

/// The authors whose pull requests count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Authors)]
pub enum AuthorFilter {
    #[default]
    Human,
    Bot,
}

/// A stretch of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Bucket)]
pub enum CalendarBucket {
    Day,
    /// From Monday on.
    Week,
    Month,
}

impl CalendarBucket {
    /// Returns the start of the bucket that contains `at`: the midnight of `zone` with which its
    /// first day begins, or the first second of a day without a midnight.
    pub fn start_of(self, at: Timestamp, zone: &TimeZone) -> Timestamp {
        let start = || {
            let at = ZonedTimestamp::from_second(at.epoch()).ok()?;
            let date = zone.to_datetime(at).date();
            let since = match self {
                Self::Day => 0,
                Self::Week => date.weekday().to_monday_zero_offset(),
                Self::Month => date.day() - 1,
            };
            let first = date.checked_sub(Span::new().days(since)).ok()?;
            let start = zone
                .to_timestamp(first.to_datetime(Time::midnight()))
                .ok()?;
            Timestamp::from_epoch(start.as_second())
        };
        start().unwrap_or(at)
    }
}

/// A merged pull request as aggregates read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedPullRequest {
    pub merged_at: Timestamp,
    pub author_is_bot: bool,
    pub flags: Vec<Flag>,
    /// False if its durations are in business time and its repository had no calendar.
    pub has_calendar: bool,
    pub durations: PullRequestDurations,
}

/// The reason why a merged pull request does not count.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::EnumString, strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum ExclusionReason {
    BotAuthor,
    ClockSkew,
    MergedAsDraft,
    NoCalendar,
    Stub,
}

impl MergedPullRequest {
    /// Returns the first reason why it does not count.
    fn exclusion(&self, authors: AuthorFilter) -> Option<ExclusionReason> {
        if self.author_is_bot && authors == AuthorFilter::Human {
            Some(ExclusionReason::BotAuthor)
        } else if !self.has_calendar {
            Some(ExclusionReason::NoCalendar)
        } else if self.is_misdated() {
            Some(ExclusionReason::ClockSkew)
        } else if self.flags.contains(&Flag::MergedAsDraft) {
            Some(ExclusionReason::MergedAsDraft)
        } else if self.flags.contains(&Flag::Stub) {
            Some(ExclusionReason::Stub)
        } else {
            None
        }
    }

    /// Returns whether one of its own times cannot be. A flag alone can be about its commits.
    fn is_misdated(&self) -> bool {
        let has_no_duration = self.durations.cycle_time.is_none();
        (has_no_duration && self.flags.contains(&Flag::ClockSkew)) || self.durations.has_negative()
    }
}

/// One set of merged pull requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// The cycle time: from creation to merge.
    #[serde(flatten)]
    pub cycle_time: DurationSummary,
    /// From creation to the first review.
    pub review_time: DurationSummary,
    pub stages: StageSummaries,
    /// Pull requests that were merged and do not count, by reason: `bot_author`, `clock_skew`,
    /// `merged_as_draft`, `no_calendar` (in business time), `stub`.
    pub excluded: BTreeMap<String, u64>,
    /// Of those that count, how many have each flag, such as `merged_without_review`.
    pub flags: BTreeMap<String, u64>,
    /// Pull requests that were closed without a merge in the same range; null in buckets.
    pub closed_unmerged: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StageSummaries {
    pub coding: DurationSummary,
    pub pickup: DurationSummary,
    pub review: DurationSummary,
    pub merge_wait: DurationSummary,
    pub redraft: DurationSummary,
    pub closed: DurationSummary,
}

/// The distribution of one duration. Percentiles are interpolated linearly between the closest ranks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DurationSummary {
    #[schema(example = 19)]
    pub n: usize,
    /// Pull requests that count and do not have this duration.
    pub missing: usize,
    #[schema(example = 20.0)]
    pub p50_hours: Option<f64>,
    pub p75_hours: Option<f64>,
    /// Null below five values.
    #[schema(example = 31.4)]
    pub p90_hours: Option<f64>,
    #[schema(example = 18.302632)]
    pub mean_hours: Option<f64>,
    /// Present below five values, where percentiles mean little.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub values: Option<Vec<f64>>,
}

/// Summaries of a whole range and of its buckets, earliest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aggregates {
    pub all: Summary,
    pub buckets: Vec<(Timestamp, Summary)>,
}

/// An aggregation of merged pull requests, one by one. It keeps four bytes per duration of each.
#[derive(Debug)]
pub struct Aggregation {
    authors: AuthorFilter,
    bucket: Option<CalendarBucket>,
    zone: TimeZone,
    all: Tally,
    /// The bucket that is being filled.
    current: Option<(Timestamp, Tally)>,
    buckets: Vec<(Timestamp, Summary)>,
}

impl Aggregation {
    pub fn new(authors: AuthorFilter, bucket: Option<CalendarBucket>) -> Self {
        Self {
            authors,
            bucket,
            zone: TimeZone::UTC,
            all: Tally::default(),
            current: None,
            buckets: Vec::new(),
        }
    }

    /// Begins buckets by the clocks of `zone`, not in UTC.
    #[must_use]
    pub fn in_zone(self, zone: TimeZone) -> Self {
        Self { zone, ..self }
    }

    /// Adds the next pull request, in the order of their merges.
    pub fn add(&mut self, merged: &MergedPullRequest) {
        let Some(bucket) = self.bucket else {
            return self.all.add(merged, self.authors);
        };
        // Where a clock was put back over midnight, the day before does not begin again.
        let current = self.current.as_ref().map(|(start, _)| *start);
        let start = bucket.start_of(merged.merged_at, &self.zone);
        let start = current.map_or(start, |current| current.max(start));
        if self
            .current
            .as_ref()
            .is_some_and(|(current, _)| *current != start)
        {
            self.end_bucket();
        }
        self.current
            .get_or_insert_with(|| (start, Tally::default()))
            .1
            .add(merged, self.authors);
    }

    /// Leaves out pull requests that were merged at a time that is not known.
    pub fn exclude_undated(&mut self, merged: u64) {
        if merged > 0 {
            *self
                .all
                .excluded
                .entry(ExclusionReason::ClockSkew)
                .or_default() += merged;
        }
    }

    /// Computes the numbers.
    pub fn finish(mut self) -> Aggregates {
        self.end_bucket();
        Aggregates {
            all: self.all.summary(),
            buckets: self.buckets,
        }
    }

    fn end_bucket(&mut self) {
        if let Some((start, mut tally)) = self.current.take() {
            self.buckets.push((start, tally.summary()));
            self.all.append(tally);
        }
    }
}

/// The counts of one set.
#[derive(Debug, Default)]
struct Tally {
    counted: usize,
    excluded: BTreeMap<ExclusionReason, u64>,
    flags: BTreeMap<Flag, u64>,
    cycle_time: SecondsList,
    review_time: SecondsList,
    coding: SecondsList,
    pickup: SecondsList,
    review: SecondsList,
    merge_wait: SecondsList,
    redraft: SecondsList,
    closed: SecondsList,
}

impl Tally {
    fn add(&mut self, merged: &MergedPullRequest, authors: AuthorFilter) {
        if authors == AuthorFilter::Bot && !merged.author_is_bot {
            return;
        }
        if let Some(reason) = merged.exclusion(authors) {
            *self.excluded.entry(reason).or_default() += 1;
            return;
        }
        self.counted += 1;
        for flag in &merged.flags {
            *self.flags.entry(*flag).or_default() += 1;
        }
        let PullRequestDurations {
            cycle_time,
            review_time,
            stages,
        } = merged.durations;
        self.cycle_time.extend(cycle_time);
        self.review_time.extend(review_time);
        self.coding.extend(stages.coding);
        self.pickup.extend(stages.pickup);
        self.review.extend(stages.review);
        self.merge_wait.extend(stages.merge_wait);
        self.redraft.extend(stages.redraft);
        self.closed.extend(stages.closed);
    }

    fn append(&mut self, other: Self) {
        self.counted += other.counted;
        for (reason, number) in other.excluded {
            *self.excluded.entry(reason).or_default() += number;
        }
        for (flag, number) in other.flags {
            *self.flags.entry(flag).or_default() += number;
        }
        self.cycle_time.append(other.cycle_time);
        self.review_time.append(other.review_time);
        self.coding.append(other.coding);
        self.pickup.append(other.pickup);
        self.review.append(other.review);
        self.merge_wait.append(other.merge_wait);
        self.redraft.append(other.redraft);
        self.closed.append(other.closed);
    }

    fn summary(&mut self) -> Summary {
        let counted = self.counted;
        Summary {
            cycle_time: self.cycle_time.summary(counted),
            review_time: self.review_time.summary(counted),
            stages: StageSummaries {
                coding: self.coding.summary(counted),
                pickup: self.pickup.summary(counted),
                review: self.review.summary(counted),
                merge_wait: self.merge_wait.summary(counted),
                redraft: self.redraft.summary(counted),
                closed: self.closed.summary(counted),
            },
            excluded: by_name(&self.excluded),
            flags: by_name(&self.flags),
            closed_unmerged: None,
        }
    }
}

/// Returns counts under the names that are written.
fn by_name<K: Copy + Into<&'static str>>(counts: &BTreeMap<K, u64>) -> BTreeMap<String, u64> {
    let named = counts.iter().map(|(key, number)| {
        let name: &'static str = (*key).into();
        (name.to_owned(), *number)
    });
    named.collect()
}

/// Durations of many pull requests, in seconds.
#[derive(Debug, Default)]
struct SecondsList {
    /// Up to 136 years, which is nearly all of them, in half the memory.
    usual: Vec<u32>,
    /// Everything else. None is negative, since such pull requests do not count: these are the
    /// longest.
    long: Vec<i64>,
}

impl Extend<i64> for SecondsList {
    fn extend<I: IntoIterator<Item = i64>>(&mut self, durations: I) {
        for duration in durations {
            match u32::try_from(duration) {
                Ok(usual) => self.usual.push(usual),
                Err(_) => self.long.push(duration),
            }
        }
    }
}

impl SecondsList {
    fn append(&mut self, other: Self) {
        self.usual.extend(other.usual);
        self.long.extend(other.long);
    }

    fn summary(&mut self, counted: usize) -> DurationSummary {
        self.usual.sort_unstable();
        self.long.sort_unstable();
        let n = self.usual.len() + self.long.len();
        #[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
        let seconds = |place: usize| {
            let usual = self.usual.get(place).map(|seconds| i64::from(*seconds));
            usual.unwrap_or_else(|| self.long[place - self.usual.len()]) as f64
        };
        let percentile = |p| percentile(n, seconds, p).map(hours);
        let few = n < FEW;
        DurationSummary {
            n,
            missing: counted - n,
            p50_hours: percentile(0.5),
            p75_hours: percentile(0.75),
            p90_hours: percentile(0.9).filter(|_| !few),
            mean_hours: self.mean_hours(),
            values: few.then(|| (0..n).map(|place| hours(seconds(place))).collect()),
        }
    }

    fn mean_hours(&self) -> Option<f64> {
        let n = self.usual.len() + self.long.len();
        let sum: i128 = self
            .usual
            .iter()
            .map(|s| i128::from(*s))
            .chain(self.long.iter().map(|s| i128::from(*s)))
            .sum();
        #[allow(clippy::cast_precision_loss, reason = "rounded once, at the end")]
        (n > 0).then(|| hours(sum as f64 / n as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(at: i64, hours: i64) -> MergedPullRequest {
        let durations = PullRequestDurations {
            cycle_time: Some(hours * 3600),
            ..PullRequestDurations::default()
        };
        MergedPullRequest {
            merged_at: Timestamp::clamped(at),
            author_is_bot: false,
            flags: Vec::new(),
            has_calendar: true,
            durations,
        }
    }

    fn cycle_time(hours: &[i64]) -> DurationSummary {
        let mut aggregation = Aggregation::new(AuthorFilter::Human, None);
        for hours in hours {
            aggregation.add(&merged(0, *hours));
        }
        aggregation.finish().all.cycle_time
    }

    #[test]
    fn percentiles_equal_percentile_cont() {
        // select percentile_cont(array[0.5, 0.75, 0.9]) within group (order by h) from
        // unnest(array[1,2,4,8,16,32]) h
        let hours = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        let percentile = |hours: &[f64], p| percentile(hours.len(), |place| hours[place], p);
        assert_eq!(percentile(&hours, 0.5), Some(6.0));
        assert_eq!(percentile(&hours, 0.75), Some(14.0));
        assert_eq!(percentile(&hours, 0.9), Some(24.0));
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[3.0], 0.9), Some(3.0));
    }

    #[test]
    fn few_values_are_listed_instead_of_a_ninetieth_percentile() {
        let four = cycle_time(&[4, 1, 3, 2]);
        assert_eq!(
            (four.p90_hours, four.values),
            (None, Some(vec![1.0, 2.0, 3.0, 4.0]))
        );
        let five = cycle_time(&[4, 1, 3, 2, 5]);
        assert_eq!((five.n, five.p90_hours, five.values), (5, Some(4.6), None));
        assert_eq!(five.mean_hours, Some(3.0));
    }

    #[test]
    fn duration_over_u32_seconds_sorts_last() {
        let centuries = 876_000;
        let five = cycle_time(&[1, 10 * centuries, 3, 9 * centuries, 2]);
        assert_eq!(
            (five.p50_hours, five.p75_hours),
            (Some(3.0), Some(9.0 * 876_000.0))
        );
        assert_eq!(five.mean_hours, Some((6.0 + 19.0 * 876_000.0) / 5.0));
    }

    #[test]
    fn buckets_start_at_midnight_on_mondays_and_on_the_first() {
        let start = |bucket: CalendarBucket, at: &str| {
            bucket
                .start_of(Timestamp::parse(at).unwrap(), &TimeZone::UTC)
                .to_string()
        };
        for (at, day, week, month) in [
            (
                "2026-03-01T23:59:59Z",
                "2026-03-01",
                "2026-02-23",
                "2026-03-01",
            ),
            (
                "2026-03-02T00:00:00Z",
                "2026-03-02",
                "2026-03-02",
                "2026-03-01",
            ),
            (
                "1969-12-31T12:00:00Z",
                "1969-12-31",
                "1969-12-29",
                "1969-12-01",
            ),
            (
                "2024-12-31T00:00:00Z",
                "2024-12-31",
                "2024-12-30",
                "2024-12-01",
            ),
        ] {
            for (bucket, expected) in [
                (CalendarBucket::Day, day),
                (CalendarBucket::Week, week),
                (CalendarBucket::Month, month),
            ] {
                assert_eq!(
                    start(bucket, at),
                    format!("{expected}T00:00:00Z"),
                    "{at} {bucket:?}"
                );
            }
        }
        // The first week of all began before there were dates.
        assert_eq!(
            start(CalendarBucket::Week, "0001-01-01T05:00:00Z"),
            "0001-01-01T00:00:00Z"
        );
    }
}
