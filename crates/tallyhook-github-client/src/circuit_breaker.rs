//! The circuit breaker: while GitHub is down, requests fail at once instead of each waiting for a
//! time-out.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tallyhook_core::backoff::Backoff;
use tallyhook_core::github::types::Timestamp;
use utoipa::ToSchema;

/// The failures in a row that open the breaker.
const FAILURES: u32 = 5;
/// The time that the breaker stays open, longer each time that the trial request fails. The maximum
/// is the time for which GitHub's return may go unnoticed.
const OPEN: Backoff = Backoff {
    first: Duration::from_secs(5),
    max: Duration::from_secs(20),
};
/// The time after which a trial request counts as cancelled. A usual request is shorter.
const TRIAL: Duration = Duration::from_secs(15);

/// The state of the circuit breaker: `closed` in normal operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    #[default]
    Closed,
    /// Every request fails at once until a timestamp.
    Open,
    /// One trial request decides whether the breaker closes or opens again.
    HalfOpen,
}

/// The circuit breaker, as the API shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct BreakerStatus {
    pub state: BreakerState,
    /// The end of the open state; `null` in the other states.
    pub until: Option<Timestamp>,
}

/// A breaker that opens after failures in a row and closes with the first response.
#[derive(Debug, Default)]
pub(crate) struct CircuitBreaker {
    failures: u32,
    /// The number of times it opened since the last response.
    opened: u32,
    /// The end of the open state, or of a trial request's time.
    until: Option<DateTime<Utc>>,
    /// A trial request is under way.
    on_trial: bool,
    /// The reason of the last failure.
    reason: String,
}

impl CircuitBreaker {
    /// Admits a request, or returns the end of the open state. After it one request alone is
    /// admitted, as a trial.
    pub(crate) fn try_acquire(&mut self, now: DateTime<Utc>) -> Result<(), DateTime<Utc>> {
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

    pub(crate) fn record_success(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn record_failure(&mut self, reason: &str, now: DateTime<Utc>) {
        self.failures += 1;
        reason.clone_into(&mut self.reason);
        // Requests that were under way when the breaker opened do not prolong it.
        let is_open = self.until.is_some() && !self.on_trial;
        if self.failures >= FAILURES && !is_open {
            self.opened = self.opened.saturating_add(1);
            self.until = Some(now + OPEN.delay(self.opened));
            self.on_trial = false;
        }
    }

    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns the reason of the last failure while the breaker is not closed.
    pub(crate) fn outage(&self) -> Option<&str> {
        self.until.map(|_| self.reason())
    }

    pub(crate) fn status(&self, now: DateTime<Utc>) -> BreakerStatus {
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

    /// A breaker that has just opened.
    fn open() -> CircuitBreaker {
        let mut breaker = CircuitBreaker::default();
        (0..FAILURES).for_each(|_| breaker.record_failure("down", at(0)));
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_the_breaker_and_four_do_not() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..3 {
            (0..FAILURES - 1).for_each(|_| breaker.record_failure("down", at(0)));
            assert_eq!(breaker.try_acquire(at(0)), Ok(()));
            breaker.record_success();
        }
        assert_eq!(open().try_acquire(at(4)), Err(at(5)));
        assert_eq!(
            open().status(at(4)),
            BreakerStatus {
                state: BreakerState::Open,
                until: Some(at(5).into())
            }
        );
        let mut late = open();
        late.record_failure("down", at(3));
        assert_eq!(
            late.try_acquire(at(4)),
            Err(at(5)),
            "a request that was under way does not prolong it"
        );
    }

    #[test]
    fn one_trial_request_decides_after_the_open_state() {
        let mut breaker = open();
        assert_eq!(breaker.status(at(5)).state, BreakerState::HalfOpen);
        assert_eq!(breaker.try_acquire(at(5)), Ok(()));
        assert!(breaker.try_acquire(at(6)).is_err(), "one request alone");
        assert_eq!(breaker.status(at(6)).state, BreakerState::HalfOpen);
        breaker.record_success();
        assert_eq!(
            (breaker.try_acquire(at(6)), breaker.status(at(6))),
            (Ok(()), BreakerStatus::default())
        );

        let mut cancelled = open();
        assert_eq!(cancelled.try_acquire(at(5)), Ok(()));
        assert_eq!(
            cancelled.try_acquire(at(20)),
            Ok(()),
            "a cancelled trial does not lock the others out"
        );
    }

    #[test]
    fn open_state_doubles_with_each_failed_trial_up_to_its_maximum() {
        let (mut breaker, mut now) = (open(), at(0));
        for seconds in [5, 10, 20, 20, 20] {
            let until = now + TimeDelta::seconds(seconds);
            assert_eq!(
                breaker.try_acquire(until - TimeDelta::seconds(1)),
                Err(until)
            );
            assert_eq!(breaker.try_acquire(until), Ok(()));
            breaker.record_failure("down", until);
            now = until;
        }
    }
}
