//! Exponential backoff with jitter.

use std::time::Duration;

/// The delays between the attempts of one operation: `first`, then doubled with each failure up to
/// `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub max: Duration,
}

impl Backoff {
    /// Returns the delay after the failure number `failures`, counted from 1, without jitter.
    pub fn delay(self, failures: u32) -> Duration {
        let factor = 1_u32
            .checked_shl(failures.saturating_sub(1))
            .unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }

    /// Returns the delay after the failure number `failures`, lowered by up to half so that
    /// processes that failed together do not retry together. `chance` is a random number from 0 to
    /// 1.
    pub fn jittered(self, failures: u32, chance: f64) -> Duration {
        self.delay(failures)
            .mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(2),
        max: Duration::from_secs(60),
    };

    #[test]
    fn delay_doubles_up_to_the_maximum() {
        let seconds = |failures| BACKOFF.delay(failures).as_secs();
        assert_eq!(
            [0, 1, 2, 3, 5, 6, 33, u32::MAX].map(seconds),
            [2, 2, 4, 8, 32, 60, 60, 60]
        );
    }

    #[test]
    fn jitter_takes_at_most_half() {
        assert_eq!(BACKOFF.jittered(1, 0.0), Duration::from_secs(2));
        assert_eq!(BACKOFF.jittered(1, 1.0), Duration::from_secs(1));
        assert_eq!(BACKOFF.jittered(1, 7.0), Duration::from_secs(1));
    }
}
