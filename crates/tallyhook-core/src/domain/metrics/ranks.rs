//! Percentiles of ordered values, and the intervals in which they lie.

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

/// The share of samples in which an interval may miss the true value on each side: 95 % in all.
const TAIL: f64 = 0.025;

/// Returns the places in `n` ascending values between which the percentile `p` of all pull requests
/// like these lies with 95 % confidence, by order statistics: no assumption but that they are like
/// each other. `None` where `n` is too small for that.
///
/// The number of values below the true percentile is binomial with `n` and `p`, so that the value at
/// a place is above it as often as that number is at most the place.
pub fn interval_places(n: usize, p: f64) -> Option<(usize, usize)> {
    if n == 0 {
        return None;
    }
    let (first, chances) = binomial(n, p);
    let mut below = 0.0;
    let mut low = None;
    for (place, chance) in (first..).zip(&chances) {
        below += chance;
        if below > TAIL {
            break;
        }
        low = Some(place);
    }
    let mut above = 0.0;
    let mut high = None;
    for (count, chance) in chances
        .iter()
        .enumerate()
        .map(|(n, chance)| (first + n, chance))
        .rev()
    {
        above += chance;
        if above > TAIL {
            break;
        }
        // The values are counted from zero: the one at `count - 1` has `count` up to itself.
        high = count.checked_sub(1);
    }
    // Counts outside of those listed hardly ever happen.
    let low = low.or(first.checked_sub(1))?;
    let high = high.unwrap_or(first + chances.len() - 1);
    (high < n).then_some((low, high))
}

/// Returns the chances of the counts of a binomial distribution that can happen at all, from the
/// first of them on. They are computed from the likeliest outwards, so that no factorial is needed.
#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and n"
)]
fn binomial(n: usize, p: f64) -> (usize, Vec<f64>) {
    const NEVER: f64 = 1e-20;
    let odds = p / (1.0 - p);
    let mode = (((n + 1) as f64 * p) as usize).min(n);
    let mut up = vec![1.0];
    for count in mode..n {
        let chance = up[count - mode] * odds * (n - count) as f64 / (count + 1) as f64;
        if chance < NEVER {
            break;
        }
        up.push(chance);
    }
    let mut down = Vec::new();
    let mut last = 1.0;
    for count in (1..=mode).rev() {
        last *= count as f64 / ((n - count + 1) as f64 * odds);
        if last < NEVER {
            break;
        }
        down.push(last);
    }
    let first = mode - down.len();
    let sum: f64 = down.iter().rev().chain(&up).sum();
    let chances = down.iter().rev().chain(&up).map(|chance| chance / sum);
    (first, chances.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// From tables of order statistics: ranks are places counted from one.
    #[test]
    fn intervals_equal_published_ranks() {
        for (n, p, expected) in [
            (0, 0.5, None),
            (5, 0.5, None),
            (6, 0.5, Some((1, 6))),
            (7, 0.5, Some((1, 7))),
            (8, 0.5, Some((1, 8))),
            (9, 0.5, Some((2, 8))),
            (10, 0.5, Some((2, 9))),
            (20, 0.5, Some((6, 15))),
            (25, 0.5, Some((8, 18))),
            (50, 0.5, Some((18, 33))),
            (100, 0.5, Some((40, 61))),
            (35, 0.9, None),
            (36, 0.9, Some((29, 36))),
        ] {
            let ranks = interval_places(n, p).map(|(low, high)| (low + 1, high + 1));
            assert_eq!(ranks, expected, "{n} {p}");
        }
        // 1.96 standard deviations on each side, for many.
        let (low, high) = interval_places(1_000_000, 0.5).unwrap();
        assert_eq!((low + 1, high + 1), (499_020, 500_981));
    }
}
