//! Business time: a second clock beside the calendar, which counts the seconds within working
//! hours.
//!
//! A second counts if the wall clock's reading at it lies in the working hours of the reading's
//! date. There is no special case for the nights on which clocks change: a repeated hour counts
//! twice if it is worked, a missing one never. So the seconds of two adjacent stretches always add
//! up to those of both.

mod calendar;
mod calendars;
mod hours;
mod numbers;

use serde::Deserialize;
use utoipa::ToSchema;

pub use self::calendar::{Calendar, CalendarStamp, DAY};
pub use self::calendars::{CalendarAssignmentError, Calendars};
pub use self::hours::{DayHours, HoursError};
pub use self::numbers::BusinessNumbers;
pub(super) use self::numbers::business_numbers;

/// The clock by which durations are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Clock)]
pub enum DurationClock {
    /// Every second counts.
    #[default]
    Calendar,
    /// Seconds within the working hours of the repository's calendar count.
    Business,
}
