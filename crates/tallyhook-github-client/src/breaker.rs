//! The circuit breaker: who is down is not asked over and over.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tallyhook_core::github::types::Timestamp;
use utoipa::ToSchema;

/// Tries in a row that failed before nothing is asked for a while.
const FAILURES: u32 = 5;
const SHORTEST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_mins(5);
/// What a trial has before it is taken for one that nobody waits for any more: longer than a request can last.
const TRIAL: Duration = Duration::from_mins(1);

/// Whether GitHub is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    #[default]
    Closed,
    /// Nothing is asked until then.
    Open,
    /// The next request, or the one under way, tells how it goes on.
    HalfOpen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct BreakerStatus {
    pub state: BreakerState,
    /// The end of being open, and else `null`.
    pub until: Option<Timestamp>,
}

/// Opens after failures in a row, and closes with the first answer.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// How often it opened since the last answer.
    opened: u32,
    /// Since it opened: nobody may ask before.
    until: Option<DateTime<Utc>>,
    /// Somebody was let through since then.
    on_trial: bool,
    /// Why the last try failed.
    reason: String,
}

impl Breaker {
    /// Lets a request through, or tells until when none is. Once it was open for long enough it is one that goes ahead.
    pub(super) fn admit(&mut self, now: DateTime<Utc>) -> Result<(), DateTime<Utc>> {
        match self.until {
            None => Ok(()),
            Some(until) if now < until => Err(until),
            Some(_) => {
                self.until = Some(now + TRIAL);
                self.on_trial = true;
                Ok(())
            }
        }
    }

    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self, reason: &str, now: DateTime<Utc>) {
        self.failures += 1;
        reason.clone_into(&mut self.reason);
        // What was under way when it opened says nothing new.
        let is_open = self.until.is_some() && !self.on_trial;
        if self.failures >= FAILURES && !is_open {
            let pause = SHORTEST * 2_u32.saturating_pow(self.opened);
            self.opened = (self.opened + 1).min(FAILURES);
            self.until = Some(now + pause.min(LONGEST));
            self.on_trial = false;
        }
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn status(&self, now: DateTime<Utc>) -> BreakerStatus {
        match self.until {
            None => BreakerStatus::default(),
            Some(until) if now < until && !self.on_trial => BreakerStatus {
                state: BreakerState::Open,
                until: Some(until.into()),
            },
            Some(_) => BreakerStatus {
                state: BreakerState::HalfOpen,
                until: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_772_445_600 + seconds, 0).unwrap()
    }

    /// One that has just opened.
    fn open() -> Breaker {
        let mut breaker = Breaker::default();
        (0..FAILURES).for_each(|_| breaker.failed("down", at(0)));
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_four_do_not() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            (0..FAILURES - 1).for_each(|_| breaker.failed("down", at(0)));
            assert_eq!(breaker.admit(at(0)), Ok(()));
            breaker.answered();
        }
        assert_eq!(open().admit(at(29)), Err(at(30)));
        assert_eq!(
            open().status(at(29)),
            BreakerStatus {
                state: BreakerState::Open,
                until: Some(at(30).into())
            }
        );
        let mut late = open();
        late.failed("down", at(20));
        assert_eq!(
            late.admit(at(29)),
            Err(at(30)),
            "what was under way does not prolong it"
        );
    }

    #[test]
    fn then_one_is_let_through_and_tells_how_it_goes_on() {
        let mut breaker = open();
        assert_eq!(breaker.status(at(30)).state, BreakerState::HalfOpen);
        assert_eq!(breaker.admit(at(30)), Ok(()));
        assert!(breaker.admit(at(31)).is_err(), "one alone");
        assert_eq!(breaker.status(at(31)).state, BreakerState::HalfOpen);
        breaker.answered();
        assert_eq!(
            (breaker.admit(at(31)), breaker.status(at(31))),
            (Ok(()), BreakerStatus::default())
        );

        let mut forgotten = open();
        assert_eq!(forgotten.admit(at(30)), Ok(()));
        assert_eq!(
            forgotten.admit(at(90)),
            Ok(()),
            "one that never tells does not lock the others out"
        );
    }

    #[test]
    fn it_stays_open_twice_as_long_each_time_up_to_five_minutes() {
        let (mut breaker, mut now) = (open(), at(0));
        for seconds in [30, 60, 120, 240, 300, 300, 300, 300] {
            let until = now + TimeDelta::seconds(seconds);
            assert_eq!(breaker.admit(until - TimeDelta::seconds(1)), Err(until));
            assert_eq!(breaker.admit(until), Ok(()));
            breaker.failed("down", until);
            now = until;
        }
    }
}
