//! The system's clock, compared with the monotonic one, which is never set.

use chrono::TimeDelta;
use tallyhook_store::Moment;
use tokio::time::Instant;

/// The difference between the two clocks that is reported.
const JUMP: TimeDelta = TimeDelta::hours(1);

/// Detects that the system's clock was set.
pub struct ClockWatch {
    wall: Moment,
    monotonic: Instant,
}

impl ClockWatch {
    pub const fn new(wall: Moment, monotonic: Instant) -> Self {
        Self { wall, monotonic }
    }

    /// Returns how far the system's clock has moved against the monotonic one since the last call,
    /// if that is a jump.
    pub fn jump(&mut self, wall: Moment, monotonic: Instant) -> Option<TimeDelta> {
        let passed = monotonic.saturating_duration_since(self.monotonic);
        let passed = TimeDelta::from_std(passed).unwrap_or(TimeDelta::MAX);
        let moved = (wall - self.wall).checked_sub(&passed)?;
        *self = Self { wall, monotonic };
        (moved.abs() > JUMP).then_some(moved)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;

    #[test]
    fn only_a_clock_that_is_set_by_more_than_an_hour_jumps() {
        let (mut wall, mut monotonic) = (DateTime::UNIX_EPOCH, Instant::now());
        let mut watch = ClockWatch::new(wall, monotonic);
        for (set, jump) in [
            (TimeDelta::zero(), None),
            (TimeDelta::minutes(-50), None),
            (TimeDelta::minutes(50), None),
            (TimeDelta::days(1826), Some(TimeDelta::days(1826))),
            (TimeDelta::zero(), None),
            (TimeDelta::hours(-2), Some(TimeDelta::hours(-2))),
        ] {
            // A long pause of the process moves both.
            wall += TimeDelta::hours(3) + set;
            monotonic += Duration::from_hours(3);
            assert_eq!(watch.jump(wall, monotonic), jump, "{set}");
        }
    }
}
