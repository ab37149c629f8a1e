//! Durations in business time in the API's form.

use serde::{Deserialize, Serialize};
use tallyhook_core::domain::business_time::{BusinessNumbers, CalendarStamp};
use utoipa::ToSchema;

use super::pull_requests::{StagesHours, hours};

/// The durations within the working hours of the repository's calendar; null without one.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct BusinessItem {
    /// From creation to merge, in hours of business time.
    #[schema(example = 9.0)]
    pub cycle_time_business_hours: Option<f64>,
    /// From creation to the first review, in hours of business time.
    #[schema(example = 2.0)]
    pub review_time_business_hours: Option<f64>,
    /// The time of each stage in hours of business time; a stage is null where it is in `stages`.
    pub stages_business: Option<StagesHours>,
    /// The calendar by which they were computed.
    pub calendar: Option<CalendarStamp>,
}

impl From<Option<BusinessNumbers>> for BusinessItem {
    fn from(numbers: Option<BusinessNumbers>) -> Self {
        let Some(BusinessNumbers {
            durations,
            calendar,
        }) = numbers
        else {
            return Self::default();
        };
        Self {
            cycle_time_business_hours: durations.cycle_time.map(hours),
            review_time_business_hours: durations.review_time.map(hours),
            stages_business: Some(durations.stages.into()),
            calendar: Some(calendar),
        }
    }
}
