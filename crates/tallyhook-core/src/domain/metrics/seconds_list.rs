//! Durations of many pull requests, and the numbers that they give.

use super::ranks::{interval_places, percentile};
use super::{DurationSummary, hours};

/// Below this many values the 90th percentile means nothing, and the values themselves are listed
/// instead.
pub(super) const FEW: usize = 5;

/// Durations of many pull requests, in seconds.
#[derive(Debug, Default)]
pub(super) struct SecondsList {
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
    pub(super) fn append(&mut self, other: Self) {
        self.usual.extend(other.usual);
        self.long.extend(other.long);
    }

    pub(super) fn len(&self) -> usize {
        self.usual.len() + self.long.len()
    }

    pub(super) fn sort(&mut self) {
        self.usual.sort_unstable();
        self.long.sort_unstable();
    }

    /// Returns the values in the order in which they stand.
    pub(super) fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        let usual = self.usual.iter().map(|seconds| i64::from(*seconds));
        usual.chain(self.long.iter().copied())
    }

    fn at(&self, place: usize) -> i64 {
        let usual = self.usual.get(place).map(|seconds| i64::from(*seconds));
        usual.unwrap_or_else(|| self.long[place - self.usual.len()])
    }

    /// Returns the hours at the percentile `p` of sorted values, unrounded.
    pub(super) fn percentile(&self, p: f64) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
        percentile(self.len(), |place| self.at(place) as f64, p)
    }

    /// Sorts the values and summarises them as the durations of `counted` pull requests.
    pub(super) fn summary(&mut self, counted: usize) -> DurationSummary {
        self.sort();
        let n = self.len();
        let sum: i128 = self.iter().map(i128::from).sum();
        let percentile = |p| self.percentile(p).map(hours);
        #[allow(clippy::cast_precision_loss, reason = "exact below 285 million years")]
        let value = |place| hours(self.at(place) as f64);
        let interval = |p| interval_places(n, p).map(|(low, high)| [value(low), value(high)]);
        #[allow(clippy::cast_precision_loss, reason = "rounded once, at the end")]
        let (sum, divisor) = (sum as f64, n as f64);
        let few = n < FEW;
        DurationSummary {
            n,
            missing: counted - n,
            p50_hours: percentile(0.5),
            p50_interval_hours: interval(0.5),
            p75_hours: percentile(0.75),
            p75_interval_hours: interval(0.75),
            p90_hours: percentile(0.9).filter(|_| !few),
            p90_interval_hours: interval(0.9),
            mean_hours: (n > 0).then(|| hours(sum / divisor)),
            total_hours: (n > 0).then(|| hours(sum)),
            values: few.then(|| (0..n).map(value).collect()),
        }
    }
}
