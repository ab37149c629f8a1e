//! The columns of the list.

use maud::{Markup, html};
use tallyhook_core::domain::timings::{PullRequestState, Stage};
use tallyhook_core::text::one_line;

use crate::api::{PullRequestItem, StagesHours};
use crate::dashboard::page::PageRequest;
use crate::dashboard::{chart, waits, words};

/// A column of the list besides the pull request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListColumn {
    Author,
    State,
    WaitsFor,
    WaitsOn,
    Since,
    Stages,
    /// The duration that the list is sorted or filtered by.
    Measure(&'static str),
    Cycle,
    Flags,
    Size,
    Updated,
    Source,
}

/// The columns that a reader can choose, by their names in the address.
pub(super) const CHOICES: [(&str, &str, ListColumn); 11] = [
    ("author", "Author", ListColumn::Author),
    ("state", "State", ListColumn::State),
    ("waits", "Waits for", ListColumn::WaitsFor),
    ("on", "On", ListColumn::WaitsOn),
    ("since", "Since", ListColumn::Since),
    ("stages", "Stages", ListColumn::Stages),
    ("cycle", "Cycle h", ListColumn::Cycle),
    ("flags", "Flags", ListColumn::Flags),
    ("size", "Lines", ListColumn::Size),
    ("updated", "Updated", ListColumn::Updated),
    ("source", "Known by", ListColumn::Source),
];

/// Durations that a column of their own shows, with its words.
const MEASURES: [(&str, &str); 7] = [
    ("review_time", "Review time h"),
    ("coding", "Coding h"),
    ("pickup", "Pickup h"),
    ("review", "Review h"),
    ("merge_wait", "Merge wait h"),
    ("redraft", "Redraft h"),
    ("closed", "Closed h"),
];

/// The clock of the durations that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShownClock {
    Calendar,
    Business,
}

pub(super) fn clock(page: &PageRequest) -> ShownClock {
    match page.parameter("clock") {
        Some("business") => ShownClock::Business,
        _ => ShownClock::Calendar,
    }
}

/// Returns true if the list is about waiting, and so is sorted by it.
pub(super) fn is_about_waiting(page: &PageRequest) -> bool {
    const ABOUT_WAITING: [&str; 5] = [
        "waiting_for",
        "reason",
        "waiting_on",
        "waited_min",
        "waited_max",
    ];
    let mut names = ABOUT_WAITING.iter();
    page.parameter("sort") == Some("waiting") || names.any(|name| page.parameter(name).is_some())
}

/// Returns the columns of the address, else those that fit the list.
pub(super) fn chosen(page: &PageRequest) -> Vec<ListColumn> {
    let is_open = page.parameter("state") == Some("open") || is_about_waiting(page);
    let named: Vec<_> = page.values(super::COLUMNS).collect();
    let mut columns: Vec<_> = match (named.is_empty(), is_open) {
        (false, _) => CHOICES
            .iter()
            .filter(|(name, _, _)| named.contains(name))
            .map(|(_, _, column)| *column)
            .collect(),
        (true, true) => vec![
            ListColumn::Author,
            ListColumn::WaitsFor,
            ListColumn::WaitsOn,
            ListColumn::Since,
            ListColumn::Size,
            ListColumn::Updated,
            ListColumn::Source,
        ],
        (true, false) => vec![
            ListColumn::Author,
            ListColumn::State,
            ListColumn::Stages,
            ListColumn::Cycle,
            ListColumn::Flags,
            ListColumn::Updated,
            ListColumn::Source,
        ],
    };
    for parameter in ["sort", "stage"] {
        let measure = page.parameter(parameter);
        let measure = MEASURES.iter().find(|(name, _)| Some(*name) == measure);
        // Sorted by `closed` is sorted by the time of the closing.
        let measure = measure.filter(|(name, _)| parameter == "stage" || *name != "closed");
        if let Some((name, _)) = measure
            && !columns.contains(&ListColumn::Measure(name))
        {
            columns.push(ListColumn::Measure(name));
        }
    }
    columns
}

impl ListColumn {
    pub(super) fn head(self) -> Markup {
        let known = CHOICES.iter().find(|(_, _, column)| *column == self);
        let words = match self {
            Self::Measure(name) => MEASURES
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, words)| *words),
            _ => known.map(|(_, words, _)| *words),
        };
        html! { th class=[self.class()] scope="col" { (words.unwrap_or_default()) } }
    }

    const fn class(self) -> Option<&'static str> {
        match (self.is_number(), self.is_hidden()) {
            (true, true) => Some("num hide"),
            (true, false) => Some("num"),
            (false, true) => Some("hide"),
            (false, false) => None,
        }
    }

    const fn is_number(self) -> bool {
        matches!(self, Self::Cycle | Self::Size | Self::Measure(_))
    }

    /// Returns true if there is no room for it on a narrow screen.
    const fn is_hidden(self) -> bool {
        !matches!(
            self,
            Self::WaitsFor | Self::Since | Self::Cycle | Self::State | Self::Measure(_)
        )
    }

    pub(super) fn cell(
        self,
        page: &PageRequest,
        item: &PullRequestItem,
        clock: ShownClock,
    ) -> Markup {
        let content = self.content(page, item, clock);
        let reason = self.is_number().then_some("a fact of its row");
        html! { td class=[self.class()] data-n=[reason] { (content) } }
    }

    fn content(self, page: &PageRequest, item: &PullRequestItem, clock: ShownClock) -> Markup {
        let waiting = item.waiting.as_ref();
        let stages = stages(item, clock);
        html! {
            @match self {
                Self::Author => bdi { (one_line(&item.author, 60)) },
                Self::State => (state(item)),
                Self::WaitsFor => @if let Some(waiting) = waiting {
                    (waits::group(waiting.on, waiting.reason))
                },
                Self::WaitsOn => @if let Some(waiting) = waiting { (waits::who(waiting)) },
                Self::Since => @if let Some(waiting) = waiting {
                    (words::since(waiting.since, page.now))
                },
                Self::Stages => @if let Some(stages) = stages { (stage_bar(stages)) },
                Self::Measure(name) => (words::hours(measure(item, clock, name))),
                Self::Cycle => (words::hours(match clock {
                    ShownClock::Calendar => item.cycle_time_hours,
                    ShownClock::Business => item.business.cycle_time_business_hours,
                })),
                Self::Flags => @for (place, flag) in item.flags.iter().enumerate() {
                    @if place > 0 { ", " }
                    (flag.replace('_', " "))
                },
                Self::Size => @match item.additions.zip(item.deletions) {
                    Some((more, less)) => { "+" (more) " −" (less) }
                    None => (words::UNKNOWN),
                },
                Self::Updated => (words::time(item.updated_at)),
                Self::Source => (waits::source(item.source)),
            }
        }
    }
}

fn state(item: &PullRequestItem) -> Markup {
    let words = match (item.state, item.draft) {
        (PullRequestState::Open, Some(true)) => "draft",
        (state, _) => state.as_str(),
    };
    html! { span .chip { (words) } }
}

fn stages(item: &PullRequestItem, clock: ShownClock) -> Option<&StagesHours> {
    match clock {
        ShownClock::Calendar => Some(&item.stages),
        ShownClock::Business => item.business.stages_business.as_ref(),
    }
}

fn measure(item: &PullRequestItem, clock: ShownClock, name: &str) -> Option<f64> {
    if name == "review_time" {
        return match clock {
            ShownClock::Calendar => item.review_time_hours,
            ShownClock::Business => item.business.review_time_business_hours,
        };
    }
    let parts = stages(item, clock).map(parts)?;
    let part = parts.into_iter().find(|(stage, _)| stage.as_str() == name);
    part.and_then(|(_, hours)| hours)
}

fn parts(stages: &StagesHours) -> [(Stage, Option<f64>); 6] {
    [
        (Stage::Coding, stages.coding_hours),
        (Stage::Pickup, stages.pickup_hours),
        (Stage::Review, stages.review_hours),
        (Stage::MergeWait, stages.merge_wait_hours),
        (Stage::Redraft, stages.redraft_hours),
        (Stage::Closed, stages.closed_hours),
    ]
}

/// Returns the stages to scale in the width of a cell.
fn stage_bar(stages: &StagesHours) -> Markup {
    let parts = parts(stages).map(|(stage, hours)| (stage, hours.unwrap_or_default()));
    if parts.iter().all(|(_, hours)| *hours <= 0.0) {
        return html! {};
    }
    chart::mini_bar(&parts)
}
