//! The time from which retention reckons. A clock that is wrong must not make old what is young.

use chrono::TimeDelta;

use crate::delivery::Moment;

/// The time after the newest receipt up to which a clock is believed.
const QUIET: TimeDelta = TimeDelta::days(1);

/// Returns the time from which retention reckons: `now`, but at most a day after the `newest`
/// receipt, and at most `advance` after the time from which it reckoned `before`.
pub fn reckon(
    now: Moment,
    newest: Option<Moment>,
    before: Option<Moment>,
    advance: TimeDelta,
) -> Moment {
    let received = newest.map(|newest| later(newest, QUIET));
    let advanced = before.map(|before| later(before, advance));
    received.into_iter().chain(advanced).fold(now, Moment::min)
}

/// Returns the time to remember as the one from which retention `reckoned`, in place of `before`.
///
/// A clock that was set back takes it along, but not to before what was received: from there the
/// way back would take years.
pub fn remember(reckoned: Moment, newest: Option<Moment>, before: Option<Moment>) -> Moment {
    let received = newest.into_iter().chain(before).min();
    received.map_or(reckoned, |received| received.max(reckoned))
}

fn later(time: Moment, by: TimeDelta) -> Moment {
    time.checked_add_signed(by).unwrap_or(Moment::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    const ADVANCE: TimeDelta = TimeDelta::days(1);

    fn day(number: i64) -> Moment {
        DateTime::UNIX_EPOCH + TimeDelta::days(number)
    }

    #[test]
    fn right_clock_is_followed_while_deliveries_arrive() {
        let (now, newest) = (day(100), day(100) - TimeDelta::minutes(5));
        let before = now - TimeDelta::hours(1);
        assert_eq!(reckon(now, Some(newest), Some(before), ADVANCE), now);
        assert_eq!(remember(now, Some(newest), Some(before)), now);
        // Nothing was received, ever.
        assert_eq!(reckon(now, None, None, ADVANCE), now);
    }

    #[test]
    fn clock_years_ahead_moves_it_by_a_day_for_each_advance() {
        let (now, mut before) = (day(2000), day(100));
        // With or without deliveries that were received by the wrong clock.
        for newest in [day(100), now] {
            assert_eq!(
                reckon(now, Some(newest), Some(before), TimeDelta::zero()),
                day(100)
            );
        }
        for hour in 1..=5 {
            before = reckon(now, Some(now), Some(before), ADVANCE);
            assert_eq!(before, day(100 + hour));
        }
        // Without them it stays within a day of the newest.
        assert_eq!(reckon(now, Some(day(100)), Some(before), ADVANCE), day(101));
    }

    #[test]
    fn clock_that_was_wrong_for_a_while_leaves_nothing_behind() {
        // Ahead: the next jump is measured from the right time again.
        let (ahead, now) = (day(2000), day(100));
        assert_eq!(reckon(now, Some(day(99)), Some(ahead), ADVANCE), now);
        assert_eq!(remember(now, Some(day(99)), Some(ahead)), now);
        // Behind: nothing is old, and afterwards all is as before.
        let behind = day(1);
        assert_eq!(
            reckon(behind, Some(day(99)), Some(day(100)), ADVANCE),
            behind
        );
        assert_eq!(remember(behind, Some(day(99)), Some(day(100))), day(99));
    }

    proptest! {
        /// Whatever the clock says, an hour makes no more than a day of deliveries old.
        #[test]
        fn one_advance_is_at_most_a_day(
            now in any::<i32>(), newest in any::<i32>(), before in any::<i32>(),
        ) {
            let at = |seconds: i32| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds.into());
            let (now, newest, before) = (at(now), Some(at(newest)), at(before));
            let reckoned = reckon(now, newest, Some(before), ADVANCE);
            prop_assert!(reckoned <= now && reckoned <= before + ADVANCE);
            prop_assert!(remember(reckoned, newest, Some(before)) <= before.max(reckoned));
        }
    }
}
