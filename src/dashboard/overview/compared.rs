//! The period beside the one before it, as cards.

use maud::{Markup, html};
use tallyhook_core::github::types::Timestamp;

use super::filter::OverviewFilter;
use crate::api::{ComparedTime, DurationComparison, DurationName, DurationSummary, TimeRange};
use crate::dashboard::links::Links;
use crate::dashboard::rows::RowsQuery;
use crate::dashboard::words;

/// The pull requests below which a comparison means little.
const FEW: usize = 5;
/// The difference in hours below which medians are about the same.
const SAME: f64 = 0.05;

/// Returns the cards; `newest` is the time of the newest merge where the period has none.
pub(super) fn cards(
    links: &Links,
    filter: &OverviewFilter,
    found: &ComparedTime,
    newest: Option<Timestamp>,
) -> Markup {
    let ComparedTime {
        now,
        before,
        ranges,
        compared,
        ..
    } = found;
    let card = |name, words, now, before, compared| {
        let card = DurationCard {
            name,
            words,
            now,
            before,
            compared,
        };
        card.shown(links, filter, found)
    };
    html! {
        @if now.counted == 0 { (nothing_merged(links, filter, newest)) }
        ul .cards {
            (card(DurationName::Cycle, "Cycle time", &now.cycle_time, &before.cycle_time, &compared.cycle_time))
            (card(DurationName::Pickup, "Pickup", &now.stages.pickup, &before.stages.pickup, &compared.pickup))
            (card(DurationName::Review, "Review", &now.stages.review, &before.stages.review, &compared.review))
            (card(DurationName::MergeWait, "Merge wait", &now.stages.merge_wait, &before.stages.merge_wait, &compared.merge_wait))
            (merged(links, filter, found))
            (share("Without review", [
                (flagged(found.now.flags.get(WITHOUT_REVIEW)), now.counted as u64, filter.merged(ranges.now)),
                (flagged(found.before.flags.get(WITHOUT_REVIEW)), before.counted as u64, filter.merged(ranges.before)),
            ].map(|(part, whole, list)| SharePart {
                part: (part, list.clone().with("flag", WITHOUT_REVIEW)),
                whole: (whole, Some(list)),
            }), links))
            (share("Closed without a merge", [
                (now.closed_unmerged, now.counted, ranges.now),
                (before.closed_unmerged, before.counted, ranges.before),
            ].map(|(closed, merged, range)| {
                let closed = closed.unwrap_or_default();
                SharePart {
                    part: (closed, filter.closed(range)),
                    // Its list would be two lists.
                    whole: (closed + merged as u64, None),
                }
            }), links))
        }
    }
}

const WITHOUT_REVIEW: &str = "merged_without_review";

fn flagged(count: Option<&u64>) -> u64 {
    count.copied().unwrap_or_default()
}

fn nothing_merged(links: &Links, filter: &OverviewFilter, newest: Option<Timestamp>) -> Markup {
    html! {
        p {
            "Nothing that counts was merged in this period. "
            @match newest {
                Some(at) => {
                    "The newest merge was on " (words::time(at)) ": "
                    // A range is up to its end.
                    @let to = Timestamp::clamped(at.epoch() + 1);
                    a href=(filter.weeks_to(to).address(links, "/")) { "show the weeks up to then" }
                }
                None => {
                    "Nor before: wait for a merge, or fetch the history with "
                    code { "tallyhook backfill OWNER/REPO" }
                }
            }
            "."
        }
    }
}

/// One duration in both periods.
struct DurationCard<'a> {
    name: DurationName,
    words: &'static str,
    now: &'a DurationSummary,
    before: &'a DurationSummary,
    compared: &'a DurationComparison,
}

impl DurationCard<'_> {
    fn shown(&self, links: &Links, filter: &OverviewFilter, found: &ComparedTime) -> Markup {
        let (name, ranges) = (self.name.as_str(), found.ranges);
        let has = |range| filter.merged(range).with("stage", name);
        let lacks = filter.merged(ranges.now).with("missing", name);
        html! {
            li .card {
                h3 { (self.words) ", median" }
                p .big data-n="a duration" { (words::hours(self.now.p50_hours)) " h" }
                p data-n="a duration" { (self.difference()) }
                p {
                    "n " (has(ranges.now).count(links, self.now.n as u64))
                    @if self.now.missing > 0 {
                        " (" (lacks.count(links, self.now.missing as u64)) " without)"
                    }
                    ", before " (has(ranges.before).count(links, self.before.n as u64))
                }
                @if let Some(hours) = self.now.p90_hours {
                    p .quiet data-n="a percentile" { "9 of 10 within " (words::hours(Some(hours))) " h" }
                }
                // The explanation is of calendar time.
                @if !filter.is_business() && self.now.n > 0 {
                    p { a href=(self.explained(links, filter, ranges.now)) { "Why, and which" } }
                }
            }
        }
    }

    fn explained(&self, links: &Links, filter: &OverviewFilter, range: TimeRange) -> String {
        let query = filter.aggregate(range).with("of", self.name.as_str());
        query.with("p", "0.5").address(links, "/explain")
    }

    /// Returns the difference of the medians in words; colour only repeats them.
    fn difference(&self) -> Markup {
        let few = self.now.n.min(self.before.n) < FEW;
        let Some(hours) = self.compared.p50_difference_hours else {
            return html! { "nothing to compare with" };
        };
        let (class, arrow, word) = match hours {
            hours if hours.abs() < SAME => return html! { "about the same" },
            hours if hours < 0.0 => ("good", "↓ ", "shorter"),
            _ => ("warn", "↑ ", "longer"),
        };
        let size = words::hours(Some(hours.abs()));
        html! {
            @if few { (size) " h " (word) ", of few" }
            @else { span class=(class) { span aria-hidden="true" { (arrow) } (size) " h " (word) } }
        }
    }
}

fn merged(links: &Links, filter: &OverviewFilter, found: &ComparedTime) -> Markup {
    let ComparedTime {
        now,
        before,
        ranges,
        ..
    } = found;
    html! {
        li .card {
            h3 { "Merged" }
            p .big { (filter.merged(ranges.now).count(links, now.counted as u64)) }
            p { "before " (filter.merged(ranges.before).count(links, before.counted as u64)) }
        }
    }
}

/// A part of the pull requests of a period, with the lists of both.
struct SharePart {
    part: (u64, RowsQuery),
    whole: (u64, Option<RowsQuery>),
}

impl SharePart {
    fn shown(&self, links: &Links) -> Markup {
        let (part, whole) = (&self.part, &self.whole);
        html! {
            (part.1.count(links, part.0)) " of "
            @match &whole.1 {
                Some(list) => (list.count(links, whole.0)),
                None => span data-n="the sum of two lists" { (words::grouped(whole.0)) },
            }
        }
    }
}

fn share(title: &str, [now, before]: [SharePart; 2], links: &Links) -> Markup {
    html! {
        li .card {
            h3 { (title) }
            p .big { (now.shown(links)) }
            p { "before " (before.shown(links)) }
        }
    }
}
