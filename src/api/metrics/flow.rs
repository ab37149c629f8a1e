//! Everything that one page shows of the durations of a range, from one read of its pull requests.

use chrono::Utc;
use tallyhook_core::domain::metrics::{DurationDistribution, Measurements};
use tallyhook_store::{AggregateFilter, FlowNumbers};

use super::comparison::{ComparedTime, ranges};
use super::measured::{MeasureQuery, MeasuredPoints, PointsQuery, points_of};
use super::{ClockQuery, CycleTime, MetricsQuery, RangeQuery};
use crate::api::data_freshness::DataFreshness;
use crate::api::error::ApiError;
use crate::api::reads::StoreReads;

/// The answers of four calls about one range: each is the one that its call gives.
pub struct FlowAnswers {
    /// Of `GET /api/metrics/compare`.
    pub compared: ComparedTime,
    /// Of `GET /api/metrics/cycle-time`.
    pub by_time: CycleTime,
    /// Of `GET /api/metrics/distribution`.
    pub spread: DurationDistribution,
    /// Of `GET /api/metrics/points`.
    pub points: MeasuredPoints,
}

/// Reads the pull requests of a range once: over a million each read takes seconds.
pub(in crate::api) async fn flow(
    reads: &StoreReads,
    range: &RangeQuery,
    clock: &ClockQuery,
    by_time: MetricsQuery,
    (measure, points): (&MeasureQuery, &PointsQuery),
) -> Result<FlowAnswers, ApiError> {
    let store = &reads.store;
    let filter = range.filter(store).await?;
    let ranges = ranges(&filter, Utc::now().into())?;
    let filter = AggregateFilter {
        from: Some(ranges.before.from),
        to: Some(ranges.now.to),
        bucket: by_time.bucket,
        zone: by_time.zone.map(|zone| zone.time_zone),
        clock: clock.among(&reads.rules.calendars)?,
        ..filter
    };
    let limit = points.limit();
    let numbers = move |measured: Measurements| {
        let sample = (measured.len(), measured.sample(limit));
        (sample, measured.distribution())
    };
    let begins = ranges.now.from;
    let found = store.flow(&filter, begins, measure.measure(), numbers);
    let FlowNumbers {
        compared,
        by_time,
        measured: (sample, spread),
    } = found.await?;
    let freshness = DataFreshness::read(store, filter.repo, 0).await?;
    Ok(FlowAnswers {
        compared: ComparedTime::new(ranges, compared, freshness),
        by_time: CycleTime::new(by_time, false, None),
        spread,
        points: points_of(store, measure.measure(), sample).await?,
    })
}
