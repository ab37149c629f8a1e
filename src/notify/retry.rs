//! The retry policy of notifications: what follows an attempt, for the notification and its
//! channel.

use std::time::Duration;

use tallyhook_core::backoff::Backoff;
use tallyhook_store::{AttemptResult, ChannelPause, ChannelState, Moment};

use super::sending::SendOutcome;

/// Attempts after which a notification is dead if its receiver fails or cannot be reached.
const MAX_ATTEMPTS: u32 = 10;
/// Attempts after which a notification is dead if its receiver rejects it.
const MAX_REJECTED_ATTEMPTS: u32 = 3;
/// From this attempt on, the next due notification is tried before this one: the receiver may work
/// and fail at this one only.
const YIELDING_ATTEMPT: u32 = 3;

/// The delays between attempts and between messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The delay after failures. It grows by two doublings with each failure.
    pub backoff: Backoff,
    /// The delay between two messages to a Slack channel: Slack allows one per second.
    pub slack_interval: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            backoff: Backoff {
                first: Duration::from_secs(2),
                max: Duration::from_mins(10),
            },
            slack_interval: Duration::from_secs(1),
        }
    }
}

impl RetryPolicy {
    /// Returns the delay after the failure number `failures`, counted from 1. `chance` is a random
    /// number from 0 to 1.
    pub(super) fn delay(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_mul(2).saturating_sub(1);
        self.backoff.jittered(doublings, chance)
    }
}

/// Returns the new state of a notification after an attempt that followed `attempts` others, and
/// the change of its channel's pause, if there is one. `delay` returns the delay after a number of
/// failures.
pub(super) fn decide(
    outcome: SendOutcome,
    attempts: u32,
    channel: &ChannelState,
    at: Moment,
    delay: impl Fn(u32) -> Duration,
) -> (AttemptResult, Option<ChannelPause>) {
    let (attempt, failures) = (attempts.saturating_add(1), channel.failures);
    let retry = |max_attempts: u32, backoff_step: u32| {
        if attempt < max_attempts {
            AttemptResult::RetryAt(at + delay(backoff_step))
        } else {
            AttemptResult::Dead
        }
    };
    let pause = |until, failures| Some(ChannelPause { until, failures });
    match outcome {
        SendOutcome::Accepted => {
            let was_paused = failures > 0 || channel.rests_until.is_some();
            (AttemptResult::Sent, pause(None, 0).filter(|_| was_paused))
        }
        SendOutcome::RetryAfter(delay) => {
            let until = at + delay;
            (
                AttemptResult::DeferredTo(until),
                pause(Some(until), failures),
            )
        }
        SendOutcome::Unavailable => {
            // The channel pauses, because any other message would fail as well.
            let failures = failures.saturating_add(1);
            let backoff_step = if attempt < YIELDING_ATTEMPT {
                attempt
            } else {
                attempt.saturating_add(1)
            };
            let pause = pause(Some(at + delay(failures)), failures);
            (retry(MAX_ATTEMPTS, backoff_step), pause)
        }
        SendOutcome::Rejected => (retry(MAX_REJECTED_ATTEMPTS, attempt), pause(None, failures)),
        SendOutcome::Deleted => (AttemptResult::Dead, pause(None, failures)),
    }
}

#[cfg(test)]
mod tests {
    use tallyhook_store::EventId;

    use super::*;

    fn at(seconds: u32) -> Moment {
        Moment::UNIX_EPOCH + Duration::from_secs(seconds.into())
    }

    fn decided(
        outcome: SendOutcome,
        attempts: u32,
        failures: u32,
    ) -> (AttemptResult, Option<ChannelPause>) {
        let channel = ChannelState {
            digest_day: None,
            place: EventId(1),
            rests_until: None,
            failures,
            last_error: None,
        };
        decide(outcome, attempts, &channel, at(0), |failures| {
            Duration::from_secs(failures.into())
        })
    }

    #[test]
    fn delays_grow_up_to_ten_minutes() {
        let policy = RetryPolicy::default();
        let delays: Vec<_> = (1..=7)
            .map(|failures| policy.delay(failures, 0.0).as_secs())
            .collect();
        assert_eq!(delays, [2, 8, 32, 128, 512, 600, 600]);
        assert_eq!(policy.delay(1, 1.0), Duration::from_secs(1));
        assert_eq!(policy.delay(u32::MAX, 0.5).as_secs(), 450);
    }

    #[test]
    fn unavailable_receiver_pauses_the_channel_and_gets_ten_attempts() {
        let pause = |until, failures| {
            Some(ChannelPause {
                until: Some(at(until)),
                failures,
            })
        };
        assert_eq!(
            decided(SendOutcome::Unavailable, 0, 0),
            (AttemptResult::RetryAt(at(1)), pause(1, 1))
        );
        // The channel's failures count separately: other notifications failed before.
        assert_eq!(
            decided(SendOutcome::Unavailable, 1, 6),
            (AttemptResult::RetryAt(at(2)), pause(7, 7))
        );
        assert_eq!(
            decided(SendOutcome::Unavailable, 8, 8),
            (AttemptResult::RetryAt(at(10)), pause(9, 9))
        );
        assert_eq!(
            decided(SendOutcome::Unavailable, 9, 9),
            (AttemptResult::Dead, pause(10, 10))
        );
    }

    #[test]
    fn third_failure_backs_off_longer_than_the_channel_pause() {
        let until = |(next, pause): (AttemptResult, Option<ChannelPause>)| {
            (next, pause.and_then(|pause| pause.until).unwrap())
        };
        assert_eq!(
            until(decided(SendOutcome::Unavailable, 1, 1)),
            (AttemptResult::RetryAt(at(2)), at(2))
        );
        assert_eq!(
            until(decided(SendOutcome::Unavailable, 2, 2)),
            (AttemptResult::RetryAt(at(4)), at(3))
        );
        // Another notification was accepted between the attempts, which reset the channel's
        // failures.
        assert_eq!(
            until(decided(SendOutcome::Unavailable, 3, 0)),
            (AttemptResult::RetryAt(at(5)), at(1))
        );
    }

    #[test]
    fn rejected_notification_gets_three_attempts_and_does_not_pause_the_channel() {
        let unpaused = Some(ChannelPause {
            until: None,
            failures: 4,
        });
        let rejected = |attempts| decided(SendOutcome::Rejected, attempts, 4);
        assert_eq!(rejected(0), (AttemptResult::RetryAt(at(1)), unpaused));
        assert_eq!(rejected(1), (AttemptResult::RetryAt(at(2)), unpaused));
        assert_eq!(rejected(2), (AttemptResult::Dead, unpaused));
        assert_eq!(
            decided(SendOutcome::Deleted, 0, 4),
            (AttemptResult::Dead, unpaused)
        );
    }

    #[test]
    fn requested_pause_is_not_a_failure() {
        let pause = ChannelPause {
            until: Some(at(30)),
            failures: 2,
        };
        assert_eq!(
            decided(SendOutcome::RetryAfter(Duration::from_secs(30)), 9, 2),
            (AttemptResult::DeferredTo(at(30)), Some(pause))
        );
    }

    #[test]
    fn accepted_notification_ends_the_pause() {
        assert_eq!(
            decided(SendOutcome::Accepted, 5, 0),
            (AttemptResult::Sent, None)
        );
        let unpaused = ChannelPause {
            until: None,
            failures: 0,
        };
        assert_eq!(
            decided(SendOutcome::Accepted, 0, 3),
            (AttemptResult::Sent, Some(unpaused))
        );
    }
}
