//! The filters of the overview, as its address has them.

use chrono::Datelike;
use tallyhook_core::github::types::Timestamp;

use crate::api::TimeRange;
use crate::dashboard::page::PageRequest;
use crate::dashboard::rows::RowsQuery;
use crate::times::TimePoint;

const DAY: i64 = 86_400;
/// The weeks that the chart shows at least.
const CHART_WEEKS: i64 = 12;
/// The longest range that is shown by week; a longer one is by month.
const BY_WEEK: i64 = 26 * 7 * DAY;

/// The pull requests and the period that the overview shows.
pub(super) struct OverviewFilter {
    repo: String,
    team: String,
    /// `human` unless the address says otherwise, as in aggregates.
    authors: String,
    /// Empty, or `business`.
    clock: &'static str,
    pub(super) range: TimeRange,
    pub(super) weeks: Option<i64>,
}

impl OverviewFilter {
    pub(super) fn of(page: &PageRequest) -> Self {
        let text = |name| page.parameter(name).unwrap_or_default().to_owned();
        let at = |name| {
            let at: Option<TimePoint> = page.parameter(name)?.parse().ok();
            at.map(|TimePoint(at)| at)
        };
        let (weeks, to) = match text("period").as_str() {
            "12w" => (Some(12), page.now),
            "custom" => (None, at("to").unwrap_or(page.now)),
            _ => (Some(4), page.now),
        };
        let begin = before(to, weeks.unwrap_or(4) * 7 * DAY);
        let from = match weeks {
            Some(_) => begin,
            None => at("from").filter(|from| *from < to).unwrap_or(begin),
        };
        let authors = text("authors");
        Self {
            repo: text("repo"),
            team: text("team"),
            authors: if authors.is_empty() {
                "human".to_owned()
            } else {
                authors
            },
            clock: match page.parameter("hours") {
                Some("working") => "business",
                _ => "",
            },
            range: TimeRange { from, to },
            weeks,
        }
    }

    /// Returns the query of the totals of open pull requests.
    pub(super) fn waiting(&self) -> RowsQuery {
        RowsQuery::default()
            .with("repo", &self.repo)
            .with("github_team", &self.team)
            .with("authors", &self.authors)
    }

    /// Returns the list of the same open pull requests.
    pub(super) fn open(&self) -> RowsQuery {
        let on = match self.team.as_str() {
            "" => String::new(),
            team => format!("github_team:{team}"),
        };
        self.people().with("waiting_on", on).with("sort", "waiting")
    }

    /// Returns the list of those that more than their author waits for: drafts are left out.
    pub(super) fn longest(&self) -> RowsQuery {
        self.open().with("draft", "false")
    }

    /// Returns the query of pull requests whichever team they wait for.
    pub(super) fn people(&self) -> RowsQuery {
        RowsQuery::default()
            .with("repo", &self.repo)
            .with("authors", &self.authors)
    }

    /// Returns the query of aggregates over a range.
    pub(super) fn aggregate(&self, range: TimeRange) -> RowsQuery {
        RowsQuery::default()
            .with("repo", &self.repo)
            .with("from", range.from.to_string())
            .with("to", range.to.to_string())
            .with("authors", &self.authors)
            .with("clock", self.clock)
    }

    /// Returns the list of the pull requests that aggregates over a range count.
    pub(super) fn merged(&self, range: TimeRange) -> RowsQuery {
        self.people()
            .with("state", "merged")
            .with("counted", "true")
            .with("merged_from", range.from.to_string())
            .with("merged_to", range.to.to_string())
            .with("clock", self.clock)
    }

    /// Returns the list of the pull requests that aggregates would count at any time.
    pub(super) fn any_merged(&self) -> RowsQuery {
        self.people()
            .with("state", "merged")
            .with("counted", "true")
            .with("sort", "merged")
            .with("clock", self.clock)
    }

    /// Returns the page of the overview with the four weeks up to `to`, and otherwise these filters.
    pub(super) fn weeks_to(&self, to: Timestamp) -> RowsQuery {
        let hours = if self.is_business() { "working" } else { "" };
        RowsQuery::default()
            .with("repo", &self.repo)
            .with("team", &self.team)
            .with("period", "custom")
            .with("from", before(to, 4 * 7 * DAY).to_string())
            .with("to", to.to_string())
            .with("hours", hours)
            .with("authors", &self.authors)
    }

    /// Returns the list of those that were closed in a range without a merge.
    pub(super) fn closed(&self, range: TimeRange) -> RowsQuery {
        self.people()
            .with("state", "closed_unmerged")
            .with("closed_from", range.from.to_string())
            .with("closed_to", range.to.to_string())
    }

    /// Returns true if durations are in working hours.
    pub(super) fn is_business(&self) -> bool {
        !self.clock.is_empty()
    }

    /// Returns the buckets of the chart, each with its begin and end: whole weeks, or months of a
    /// long range, the last of them up to the end of the range.
    pub(super) fn buckets(&self) -> Vec<TimeRange> {
        let TimeRange { from, to } = self.range;
        let by_month = to.epoch() - from.epoch() > BY_WEEK;
        let mut begin = match by_month {
            true => month_of(from, 0),
            false => week_of(from.min(before(to, (CHART_WEEKS - 1) * 7 * DAY))),
        };
        let mut buckets = Vec::new();
        while begin < to {
            let end = match by_month {
                true => month_of(begin, 1),
                false => before(begin, -7 * DAY),
            };
            if end <= begin {
                break;
            }
            buckets.push(TimeRange {
                from: begin,
                to: end.min(to),
            });
            begin = end;
        }
        buckets
    }

    /// Returns the name of the buckets' kind, as the API has it.
    pub(super) fn bucket(&self) -> &'static str {
        let is_long = self.range.to.epoch() - self.range.from.epoch() > BY_WEEK;
        if is_long { "month" } else { "week" }
    }
}

fn before(at: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::clamped(at.epoch() - seconds)
}

/// Returns the Monday midnight at or before a time, in UTC.
fn week_of(at: Timestamp) -> Timestamp {
    let days = i64::from(at.to_utc().weekday().num_days_from_monday());
    before(at, at.epoch().rem_euclid(DAY) + days * DAY)
}

/// Returns the midnight of the first day of the month at or before a time, or so many months later.
fn month_of(at: Timestamp, later: u32) -> Timestamp {
    let date = at.to_utc().date_naive().with_day(1);
    let date = date.and_then(|date| date.checked_add_months(chrono::Months::new(later)));
    let midnight = date.map(|date| date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp());
    midnight.map_or(at, Timestamp::clamped)
}
