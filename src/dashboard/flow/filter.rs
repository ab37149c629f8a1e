//! The pull requests that the numbers of a page are about.

use chrono::Datelike;
use maud::{Markup, html};
use tallyhook_core::github::types::Timestamp;

use super::super::filters;
use super::super::links::query_string;
use super::super::page::PageRequest;
use super::measure_words;
use super::table::MEASURES;

/// The period without one in the address.
const PERIOD: &str = "28d";

/// The filter of an address, and the range that it stands for once that is known.
#[derive(Clone, Debug)]
pub(in crate::dashboard) struct FlowFilter {
    from: String,
    to: String,
    repo: String,
    authors: String,
    clock: String,
    of: String,
    bucket: String,
}

impl FlowFilter {
    pub(in crate::dashboard) fn of(page: &PageRequest) -> Self {
        let value = |name: &str| page.parameter(name).unwrap_or_default().to_owned();
        let or = |name: &str, default: &str| page.parameter(name).unwrap_or(default).to_owned();
        Self {
            from: or("from", PERIOD),
            to: value("to"),
            repo: value("repo"),
            authors: value("authors"),
            clock: value("clock"),
            of: or("of", "cycle"),
            bucket: or("bucket", "week"),
        }
    }

    /// Returns the filter with the times of an answer.
    pub(in crate::dashboard) fn within(self, from: Timestamp, to: Timestamp) -> Self {
        let (from, to) = (from.to_string(), to.to_string());
        Self { from, to, ..self }
    }

    /// Returns the part of a stretch of time that is in the range, as parameters.
    pub(super) fn part(&self, start: Timestamp, end: Timestamp) -> (String, String) {
        let from = Timestamp::parse(&self.from).map_or(start, |from| from.max(start));
        let to = Timestamp::parse(&self.to).map_or(end, |to| to.min(end));
        (from.to_string(), to.to_string())
    }

    pub(in crate::dashboard) fn measure(&self) -> &str {
        &self.of
    }

    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns whether more is chosen than the period.
    pub(super) fn has_choice(&self) -> bool {
        !self.repo.is_empty() || !self.authors.is_empty()
    }

    /// Returns whether hours are working hours.
    pub(in crate::dashboard) fn is_business(&self) -> bool {
        self.clock == "business"
    }

    fn pairs(&self) -> [(&str, &str); 5] {
        [
            ("from", &self.from),
            ("to", &self.to),
            ("repo", &self.repo),
            ("authors", &self.authors),
            ("clock", &self.clock),
        ]
    }

    /// Returns the query string of calls about the range.
    pub(in crate::dashboard) fn call(&self) -> String {
        query_string(self.pairs())
    }

    /// Returns the same with more parameters.
    pub(in crate::dashboard) fn call_with(&self, more: &[(&str, &str)]) -> String {
        query_string(self.pairs().into_iter().chain(more.iter().copied()))
    }

    /// Returns the address of a page about the same pull requests.
    pub(in crate::dashboard) fn address(
        &self,
        page: &PageRequest,
        path: &str,
        more: &[(&str, &str)],
    ) -> String {
        let pairs = self.pairs().into_iter();
        page.links.to(path, pairs.chain(more.iter().copied()))
    }

    /// Returns the address of the list of the merged pull requests of the range, narrowed by `more`.
    pub(in crate::dashboard) fn merged(&self, page: &PageRequest, more: &[(&str, &str)]) -> String {
        self.merged_within(page, (&self.from, &self.to), more)
    }

    /// Returns the same for a part of the range.
    pub(super) fn merged_within(
        &self,
        page: &PageRequest,
        (from, to): (&str, &str),
        more: &[(&str, &str)],
    ) -> String {
        let pairs = [
            ("state", "merged"),
            ("merged_from", from),
            ("merged_to", to),
            ("repo", &self.repo),
            ("authors", &self.authors),
            ("clock", &self.clock),
        ];
        page.links
            .to("/prs", pairs.into_iter().chain(more.iter().copied()))
    }

    /// Returns the address of the list of those that were closed without a merge in the range.
    pub(super) fn closed_unmerged(&self, page: &PageRequest) -> String {
        let authors = match self.authors.as_str() {
            "" => "human",
            authors => authors,
        };
        page.links.to(
            "/prs",
            [
                ("state", "closed_unmerged"),
                ("closed_from", &self.from),
                ("closed_to", &self.to),
                ("repo", &self.repo),
                ("authors", authors),
            ],
        )
    }

    /// Returns a number as a link to the list of so many merged pull requests.
    pub(in crate::dashboard) fn count(
        &self,
        page: &PageRequest,
        number: u64,
        more: &[(&str, &str)],
    ) -> Markup {
        html! { a href=(self.merged(page, more)) data-count { (super::words::grouped(number)) } }
    }

    pub(super) fn form(&self, page: &PageRequest) -> Markup {
        let measures = measures();
        let measures: Vec<_> = measures
            .iter()
            .map(|(name, words)| (*name, *words))
            .collect();
        let fields = html! {
            (filters::input(page, "from", "Merged from (28d, or a date)", "text"))
            (filters::input(page, "to", "Merged before", "text"))
            (filters::input(page, "repo", "Repository (owner/name)", "text"))
            (filters::select(page, "authors", "Authors", &AUTHORS))
            @if !page.api.rules.calendars.is_empty() {
                (filters::select(page, "clock", "Hours", &[("", "all hours"), ("business", "working hours")]))
            }
            (filters::select(page, "of", "Charts of", &measures))
            (filters::select(page, "bucket", "By", &[("week", "week"), ("day", "day"), ("month", "month")]))
        };
        html! {
            (presets(page))
            (filters::form(page, "/flow", &fields))
            @if page.api.rules.calendars.is_empty() {
                p .quiet { "All hours count: no calendar with working hours is configured." }
            }
        }
    }
}

const AUTHORS: [(&str, &str); 5] = [
    ("", "people"),
    ("all", "all"),
    ("bot", "bots"),
    ("agent", "AI agents"),
    ("automation", "other bots"),
];

/// Returns the durations with their words.
fn measures() -> Vec<(&'static str, &'static str)> {
    let names = MEASURES.iter();
    names
        .map(|name| (name.as_str(), measure_words(*name)))
        .collect()
}

fn presets(page: &PageRequest) -> Markup {
    let now = page.now.to_utc();
    let quarter = format!("{}-{:02}-01", now.year(), now.month0() / 3 * 3 + 1);
    let presets = [
        ("28d", "Last 4 weeks"),
        ("84d", "Last 12 weeks"),
        (quarter.as_str(), "This quarter"),
        ("364d", "Last year"),
    ];
    let chosen = page.parameter("from").unwrap_or(PERIOD);
    let kept = ["repo", "authors", "clock", "of", "bucket"];
    let kept = kept.map(|name| (name, page.parameter(name).unwrap_or_default()));
    html! {
        p .actions data-n="names of periods" {
            @for (from, words) in presets {
                a href=(page.links.to("/flow", [("from", from)].into_iter().chain(kept)))
                    aria-current=[(chosen == from).then_some("true")] { (words) }
            }
        }
    }
}
