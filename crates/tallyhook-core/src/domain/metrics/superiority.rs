//! The comparison of two sets of durations: the chance that one of the first is shorter than one of
//! the second.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::seconds_list::{FEW, SecondsList};

/// The direction in which two sets differ, beyond doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Faster,
    Slower,
}

/// The comparison of one duration between two ranges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DurationComparison {
    #[schema(example = 81)]
    pub n: usize,
    /// The number in the range before.
    #[schema(example = 74)]
    pub n_before: usize,
    /// The median less that of the range before.
    #[schema(example = -2.1)]
    pub p50_difference_hours: Option<f64>,
    /// The chance that one took less time than one of the range before; equal ones count half.
    #[schema(example = 0.63)]
    pub chance_faster: Option<f64>,
    /// The 95 % interval of that chance.
    pub chance_faster_interval: Option<[f64; 2]>,
    /// Null below five values in one of the ranges, and where the interval includes one half.
    pub verdict: Option<Verdict>,
    /// The verdict as a sentence.
    pub verdict_text: Option<String>,
}

impl DurationComparison {
    /// Compares two sorted lists.
    pub(super) fn of(now: &SecondsList, before: &SecondsList) -> Self {
        let superiority = Superiority::of(now, before);
        let medians = now.percentile(0.5).zip(before.percentile(0.5));
        let is_few = now.len().min(before.len()) < FEW;
        let verdict = superiority
            .and_then(Superiority::verdict)
            .filter(|_| !is_few);
        Self {
            n: now.len(),
            n_before: before.len(),
            p50_difference_hours: medians.map(|(now, before)| super::hours(now - before)),
            chance_faster: superiority.map(|found| found.chance),
            chance_faster_interval: superiority.map(|found| found.interval),
            verdict,
            verdict_text: verdict
                .zip(superiority)
                .map(|(verdict, found)| found.sentence(verdict)),
        }
    }
}

/// The Mann-Whitney probability of superiority.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Superiority {
    chance: f64,
    interval: [f64; 2],
}

impl Superiority {
    /// Compares two sorted lists; `None` if one is empty.
    #[allow(clippy::cast_precision_loss, reason = "pairs below 2^53")]
    fn of(now: &SecondsList, before: &SecondsList) -> Option<Self> {
        let (sizes, pairs) = (
            (now.len() as f64, before.len() as f64),
            now.len() as f64 * before.len() as f64,
        );
        if pairs == 0.0 {
            return None;
        }
        let mut shorter = 0.0;
        let (mut at_most, mut below) = (before.iter().peekable(), before.iter().peekable());
        let (mut number_at_most, mut number_below) = (0_usize, 0_usize);
        for seconds in now.iter() {
            while at_most.next_if(|other| *other <= seconds).is_some() {
                number_at_most += 1;
            }
            while below.next_if(|other| *other < seconds).is_some() {
                number_below += 1;
            }
            let equal = number_at_most - number_below;
            shorter += (before.len() - number_at_most) as f64 + equal as f64 / 2.0;
        }
        let chance = shorter / pairs;
        Some(Self {
            chance,
            interval: interval(chance, sizes),
        })
    }

    fn verdict(self) -> Option<Verdict> {
        let [low, high] = self.interval;
        match (low > 0.5, high < 0.5) {
            (true, _) => Some(Verdict::Faster),
            (_, true) => Some(Verdict::Slower),
            _ => None,
        }
    }

    fn sentence(self, verdict: Verdict) -> String {
        let percent = |chance: f64| (chance * 100.0).round();
        let ([low, high], chance) = (self.interval, self.chance);
        match verdict {
            Verdict::Faster => format!(
                "faster: one took less time than one of the range before in {} of 100 pairs \
                 (95 %: {} to {})",
                percent(chance),
                percent(low),
                percent(high)
            ),
            Verdict::Slower => format!(
                "slower: one took more time than one of the range before in {} of 100 pairs \
                 (95 %: {} to {})",
                percent(1.0 - chance),
                percent(1.0 - high),
                percent(1.0 - low)
            ),
        }
    }
}

/// Returns the 95 % interval of a probability of superiority: the score interval with the variance
/// of Hanley and `McNeil`, the fifth of R. G. Newcombe, Statistics in Medicine 25 (2006) 559. It also
/// serves where no pair is the other way round.
fn interval(chance: f64, (now, before): (f64, f64)) -> [f64; 2] {
    const Z: f64 = 1.959_963_984_540_054;
    let more = f64::midpoint(now, before) - 1.0;
    let deviation = |true_chance: f64| {
        let spread = (1.0 - true_chance) / (2.0 - true_chance) + true_chance / (1.0 + true_chance);
        (true_chance * (1.0 - true_chance) * (1.0 + more * spread) / (now * before)).sqrt()
    };
    // The chances that are just so far from the observed one as the deviation allows.
    let bound = |mut outside: f64| {
        let mut inside = chance;
        for _ in 0..60 {
            let middle = f64::midpoint(outside, inside);
            if (middle - chance).abs() > Z * deviation(middle) {
                outside = middle;
            } else {
                inside = middle;
            }
        }
        inside
    };
    [bound(0.0), bound(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(now: &[i64], before: &[i64]) -> DurationComparison {
        let list = |values: &[i64]| {
            let mut list = SecondsList::default();
            list.extend(values.iter().copied());
            list.sort();
            list
        };
        DurationComparison::of(&list(now), &list(before))
    }

    #[test]
    fn chance_counts_pairs_and_halves_ties() {
        let [a, b] = [[7200, 3600, 10_800], [3600, 14_400, 14_400]];
        // Of nine pairs six are shorter, one is equal and two are longer.
        let found = compared(&a, &b);
        assert_eq!(found.chance_faster, Some(6.5 / 9.0));
        assert_eq!(found.p50_difference_hours, Some(-2.0));
        assert_eq!(compared(&b, &a).chance_faster, Some(2.5 / 9.0));
        assert_eq!(compared(&a, &a).chance_faster, Some(0.5));
        assert_eq!(
            compared(&[], &a),
            DurationComparison {
                n_before: 3,
                ..Default::default()
            }
        );
    }

    #[test]
    fn verdict_is_silent_below_five_values_and_around_one_half() {
        let shorter: Vec<i64> = (0..40).map(|n| n * 100).collect();
        let longer: Vec<i64> = (0..40).map(|n| n * 100 + 1500).collect();
        let found = compared(&shorter, &longer);
        assert_eq!(found.verdict, Some(Verdict::Faster));
        assert_eq!(
            found.verdict_text.unwrap(),
            "faster: one took less time than one of the range before in 80 of 100 pairs (95 %: 69 \
             to 88)"
        );
        let found = compared(&longer, &shorter);
        assert_eq!(found.verdict, Some(Verdict::Slower));
        assert!(
            found
                .verdict_text
                .unwrap()
                .starts_with("slower: one took more time")
        );
        assert_eq!(compared(&[1; 4], &[9000; 40]).verdict, None);
        assert_eq!(
            compared(&[1; 5], &[9000; 40]).verdict,
            Some(Verdict::Faster)
        );
        let near: Vec<i64> = (0..40).map(|n| n * 100 + 100).collect();
        let found = compared(&shorter, &near);
        let [low, high] = found.chance_faster_interval.unwrap();
        assert!(
            low < 0.5 && high > 0.5 && found.verdict.is_none(),
            "{low} {high}"
        );
    }

    #[test]
    fn interval_of_all_or_nothing_is_not_empty() {
        let [low, high] = interval(1.0, (10.0, 10.0));
        assert!((0.6..0.85).contains(&low) && high == 1.0, "{low} {high}");
        let [low, high] = interval(0.0, (10.0, 10.0));
        assert!(low == 0.0 && (0.15..0.4).contains(&high), "{low} {high}");
    }
}
