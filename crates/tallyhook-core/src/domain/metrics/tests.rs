//! Percentiles, means and buckets.

use jiff::tz::TimeZone;

use super::*;

fn merged(at: i64, hours: i64) -> MergedPullRequest {
    let durations = PullRequestDurations {
        cycle_time: Some(hours * 3600),
        ..PullRequestDurations::default()
    };
    MergedPullRequest {
        merged_at: Timestamp::clamped(at),
        author_is_bot: false,
        origin: None,
        flags: Vec::new(),
        has_calendar: true,
        durations,
    }
}

fn cycle_time(hours: &[i64]) -> DurationSummary {
    let mut aggregation = Aggregation::new(AuthorFilter::Human, None);
    for hours in hours {
        aggregation.add(&merged(0, *hours));
    }
    aggregation.finish().all.cycle_time
}

#[test]
fn few_values_are_listed_instead_of_a_ninetieth_percentile() {
    let four = cycle_time(&[4, 1, 3, 2]);
    assert_eq!(
        (four.p90_hours, four.values),
        (None, Some(vec![1.0, 2.0, 3.0, 4.0]))
    );
    let five = cycle_time(&[4, 1, 3, 2, 5]);
    assert_eq!((five.n, five.p90_hours, five.values), (5, Some(4.6), None));
    assert_eq!(five.mean_hours, Some(3.0));
}

#[test]
fn duration_over_u32_seconds_sorts_last() {
    let centuries = 876_000;
    let five = cycle_time(&[1, 10 * centuries, 3, 9 * centuries, 2]);
    assert_eq!(
        (five.p50_hours, five.p75_hours),
        (Some(3.0), Some(9.0 * 876_000.0))
    );
    assert_eq!(five.mean_hours, Some((6.0 + 19.0 * 876_000.0) / 5.0));
}

#[test]
fn buckets_start_at_midnight_on_mondays_and_on_the_first() {
    let start = |bucket: CalendarBucket, at: &str| {
        bucket
            .start_of(Timestamp::parse(at).unwrap(), &TimeZone::UTC)
            .to_string()
    };
    for (at, day, week, month) in [
        (
            "2026-03-01T23:59:59Z",
            "2026-03-01",
            "2026-02-23",
            "2026-03-01",
        ),
        (
            "2026-03-02T00:00:00Z",
            "2026-03-02",
            "2026-03-02",
            "2026-03-01",
        ),
        (
            "1969-12-31T12:00:00Z",
            "1969-12-31",
            "1969-12-29",
            "1969-12-01",
        ),
        (
            "2024-12-31T00:00:00Z",
            "2024-12-31",
            "2024-12-30",
            "2024-12-01",
        ),
    ] {
        for (bucket, expected) in [
            (CalendarBucket::Day, day),
            (CalendarBucket::Week, week),
            (CalendarBucket::Month, month),
        ] {
            assert_eq!(
                start(bucket, at),
                format!("{expected}T00:00:00Z"),
                "{at} {bucket:?}"
            );
        }
    }
    // The first week of all began before there were dates.
    assert_eq!(
        start(CalendarBucket::Week, "0001-01-01T05:00:00Z"),
        "0001-01-01T00:00:00Z"
    );
}
