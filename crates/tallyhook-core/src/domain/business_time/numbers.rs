//! The durations of a pull request in business time.

use super::{Calendar, CalendarStamp};
use crate::domain::pull_request::PullRequest;
use crate::domain::timings::{PullRequestDurations, Stages, Timings};

/// The durations of a pull request in business seconds, under the calendar of its repository. A
/// duration is there if the same one of the calendar is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusinessNumbers {
    pub durations: PullRequestDurations,
    pub calendar: CalendarStamp,
}

/// Computes the business seconds of the durations that `timings` has.
pub(in crate::domain) fn business_numbers(
    pull_request: &PullRequest,
    timings: &Timings,
    calendar: &Calendar,
) -> BusinessNumbers {
    let since_creation = |to| Some(calendar.seconds(pull_request.created_at?, to?));
    let durations = PullRequestDurations {
        cycle_time: timings
            .cycle_time
            .and_then(|_| since_creation(pull_request.merged_at)),
        review_time: timings
            .review_time
            .and_then(|_| since_creation(timings.first_review_at)),
        stages: Stages::sum(timings.segments.iter().map(|segment| {
            let seconds = calendar.seconds(segment.from, segment.to);
            (segment.stage, seconds)
        }))
        .only_known_in(&timings.stages),
    };
    BusinessNumbers {
        durations,
        calendar: calendar.stamp().clone(),
    }
}
