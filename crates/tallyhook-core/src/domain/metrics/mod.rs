//! Aggregates over merged pull requests: percentiles, means, and the pull requests that are left
//! out.

mod cohort;
mod comparison;
mod load;
mod measured;
mod ranks;
mod seconds_list;
mod superiority;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp as ZonedTimestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::cohort::{
    CensoredSummary, CohortAggregation, CohortPullRequest, CohortSummary, Lifetimes,
};
pub use self::comparison::{ComparedDurations, ComparedRanges, Comparison};
pub use self::load::{
    LoadAggregation, PartyLoad, PartyRequests, RequestOutcome, ReviewConcentration,
};
pub use self::measured::{
    DistributionBin, DurationDistribution, DurationName, MeasuredPullRequest, Measurements,
    RankedValue,
};
pub use self::ranks::{interval_places, percentile};
use self::seconds_list::SecondsList;
pub use self::superiority::{DurationComparison, Verdict};
use super::origin::Origin;
use super::timings::{Flag, PullRequestDurations};
use crate::github::types::Timestamp;

/// Returns seconds as hours with at most six decimals: a quotient of binary numbers has more, which
/// mean nothing.
pub fn hours(seconds: f64) -> f64 {
    (seconds / 3600.0 * 1e6).round() / 1e6
}

/// The authors whose pull requests count.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema, strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
#[schema(as = Authors)]
pub enum AuthorFilter {
    /// People, with an AI tool or without.
    #[default]
    Human,
    /// AI agents.
    Agent,
    /// Other bots.
    Automation,
    /// Both of them.
    Bot,
    All,
}

impl AuthorFilter {
    /// Returns whether a pull request is one of these authors, or the reason why it counts as left
    /// out.
    ///
    /// # Errors
    /// The reason, for a pull request by others than people where people are meant.
    pub fn admits(
        self,
        author_is_bot: bool,
        origin: Option<Origin>,
    ) -> Result<bool, ExclusionReason> {
        let is_agent = origin == Some(Origin::Agent);
        match self {
            Self::Human if author_is_bot => Err(ExclusionReason::BotAuthor),
            Self::Human if is_agent => Err(ExclusionReason::AgentAuthor),
            Self::Human | Self::All => Ok(true),
            Self::Agent => Ok(is_agent),
            Self::Automation => Ok(author_is_bot && !is_agent),
            Self::Bot => Ok(author_is_bot || is_agent),
        }
    }
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
    pub origin: Option<Origin>,
    pub flags: Vec<Flag>,
    /// False if its durations are in business time and its repository had no calendar.
    pub has_calendar: bool,
    pub durations: PullRequestDurations,
}

/// The reason why a merged pull request does not count.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Deserialize,
    ToSchema,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum ExclusionReason {
    /// On a branch that an AI agent pushed for the author.
    AgentAuthor,
    BotAuthor,
    ClockSkew,
    MergedAsDraft,
    NoCalendar,
    Stub,
}

impl MergedPullRequest {
    /// Returns whether it counts among `authors`, or the first reason why it is left out.
    fn check(&self, authors: AuthorFilter) -> Result<bool, ExclusionReason> {
        if !authors.admits(self.author_is_bot, self.origin)? {
            Ok(false)
        } else if !self.has_calendar {
            Err(ExclusionReason::NoCalendar)
        } else if self.is_misdated() {
            Err(ExclusionReason::ClockSkew)
        } else if self.flags.contains(&Flag::MergedAsDraft) {
            Err(ExclusionReason::MergedAsDraft)
        } else if self.flags.contains(&Flag::Stub) {
            Err(ExclusionReason::Stub)
        } else {
            Ok(true)
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
    /// Pull requests that were merged and count.
    #[schema(example = 21)]
    pub counted: usize,
    /// The cycle time: from creation to merge.
    #[serde(flatten)]
    pub cycle_time: DurationSummary,
    /// From creation to the first review.
    pub review_time: DurationSummary,
    pub stages: StageSummaries,
    /// Pull requests that were merged and do not count, by reason: `agent_author`, `bot_author`,
    /// `clock_skew`, `merged_as_draft`, `no_calendar` (in business time), `stub`.
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
    /// The 95 % interval of the median; null where there are too few values for one.
    pub p50_interval_hours: Option<[f64; 2]>,
    pub p75_hours: Option<f64>,
    pub p75_interval_hours: Option<[f64; 2]>,
    /// Null below five values.
    #[schema(example = 31.4)]
    pub p90_hours: Option<f64>,
    pub p90_interval_hours: Option<[f64; 2]>,
    #[schema(example = 18.302632)]
    pub mean_hours: Option<f64>,
    /// The sum; those of the stages add up to that of the time from the first commit to the merge.
    #[schema(example = 347.75)]
    pub total_hours: Option<f64>,
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
    /// By origin, where that was asked for; `None` is unknown.
    pub origins: BTreeMap<Option<Origin>, Summary>,
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
    /// `None` makes no breakdown.
    origins: Option<BTreeMap<Option<Origin>, Tally>>,
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
            origins: None,
        }
    }

    /// Summarises each origin apart, too.
    #[must_use]
    pub fn by_origin(mut self) -> Self {
        self.origins = Some(BTreeMap::new());
        self
    }

    /// Begins buckets by the clocks of `zone`, not in UTC.
    #[must_use]
    pub fn in_zone(self, zone: TimeZone) -> Self {
        Self { zone, ..self }
    }

    /// Adds the next pull request, in the order of their merges.
    pub fn add(&mut self, merged: &MergedPullRequest) {
        if let Some(origins) = &mut self.origins {
            let tally = origins.entry(merged.origin).or_default();
            tally.add(merged, self.authors);
        }
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
        let origins = self.origins.into_iter().flatten();
        let origins = origins
            .map(|(origin, mut tally)| (origin, tally.summary()))
            .filter(|(_, summary)| summary.counted > 0 || !summary.excluded.is_empty());
        Aggregates {
            all: self.all.summary(),
            buckets: self.buckets,
            origins: origins.collect(),
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
        match merged.check(authors) {
            Ok(true) => {}
            Ok(false) => return,
            Err(reason) => {
                *self.excluded.entry(reason).or_default() += 1;
                return;
            }
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
            counted,
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
