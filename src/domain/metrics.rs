//! Aggregates over pull requests: percentiles, means, and what was left out of them.

/// Percentile `p` (0 to 1) of ascending `sorted`, interpolated linearly between the closest ranks, which is what
/// PostgreSQL's `percentile_cont` does. `None` of nothing.
pub fn percentile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
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
    Some(sorted[low] + (sorted[high] - sorted[low]) * part)
}

/// Below this many values the 90th percentile says nothing, and the values themselves are told instead.
pub const FEW: usize = 5;

/// The distribution of one duration, in hours.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    pub n: usize,
    pub p50: Option<f64>,
    pub p75: Option<f64>,
    /// `None` below [`FEW`] values.
    pub p90: Option<f64>,
    pub mean: Option<f64>,
    /// Ascending; told only below [`FEW`] values.
    pub values: Option<Vec<f64>>,
}

impl Distribution {
    /// Of durations in hours, in any order.
    pub fn of(mut hours: Vec<f64>) -> Self {
        hours.sort_unstable_by(f64::total_cmp);
        let few = hours.len() < FEW;
        #[allow(clippy::cast_precision_loss, reason = "a count of pull requests")]
        let mean = (!hours.is_empty()).then(|| hours.iter().sum::<f64>() / hours.len() as f64);
        Self {
            n: hours.len(),
            p50: percentile(&hours, 0.5),
            p75: percentile(&hours, 0.75),
            p90: percentile(&hours, 0.9).filter(|_| !few),
            mean,
            values: few.then_some(hours),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_percentile_cont() {
        // select percentile_cont(array[0.5, 0.75, 0.9]) within group (order by h) from unnest(array[1,2,4,8,16,32]) h
        let hours = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        assert_eq!(percentile(&hours, 0.5), Some(6.0));
        assert_eq!(percentile(&hours, 0.75), Some(14.0));
        assert_eq!(percentile(&hours, 0.9), Some(24.0));
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[3.0], 0.9), Some(3.0));
    }

    #[test]
    fn few_values_are_told_instead_of_a_ninetieth_percentile() {
        let four = Distribution::of(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!((four.p90, four.values), (None, Some(vec![1.0, 2.0, 3.0, 4.0])));
        let five = Distribution::of(vec![4.0, 1.0, 3.0, 2.0, 5.0]);
        assert_eq!((five.n, five.p90, five.values), (5, Some(4.6), None));
        assert_eq!(five.mean, Some(3.0));
    }
}
