//! `tallyhook stats`

use clap::Args;
use jiff::tz::TimeZone;
use tallyhook_core::domain::metrics::{DurationSummary, Summary, Verdict};
use tallyhook_core::github::types::Timestamp;

use super::reader::{ReadFromArgs, ReadQuery};
use super::{CommandResult, SettingSources, output};
use crate::api::{ComparedTime, CycleTime};
use crate::config::NamedZone;
use crate::times::TimePoint;

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// Merged at or after: RFC 3339, a date, or a span before now such as 30d
    #[arg(long, visible_alias = "from", value_name = "TIME")]
    since: Option<TimePoint>,
    /// Merged before: in the same forms
    #[arg(long, visible_alias = "to", value_name = "TIME")]
    until: Option<TimePoint>,
    /// Only pull requests of this repository
    #[arg(long, value_name = "OWNER/REPO")]
    repo: Option<String>,
    /// A row for each day, week (from Monday) or month
    #[arg(long, value_parser = ["day", "week", "month"], default_value = "week")]
    bucket: String,
    /// Pull requests by people, AI agents, other bots, both of them, or all
    #[arg(long, value_parser = ["human", "agent", "automation", "bot", "all"], default_value = "human")]
    authors: String,
    /// Compare with the range before, of the same length; needs --since
    #[arg(long, value_parser = ["previous"], value_name = "RANGE", requires = "since")]
    compare: Option<String>,
    /// Show each origin apart
    #[arg(long, value_parser = ["origin"])]
    by: Option<String>,
    /// Hours of the calendar, or of the working hours that calendars in the settings define
    #[arg(long, value_parser = ["calendar", "business"], default_value = "calendar")]
    clock: String,
    /// The time zone in which rows begin, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: NamedZone,
    /// Print JSON, as `GET /api/metrics/cycle-time` answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: ReadFromArgs,
}

impl StatsArgs {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let query = ReadQuery::default()
            .with("repo", self.repo)
            .with("from", self.since)
            .with("to", self.until)
            .with("bucket", Some(self.bucket))
            .with("authors", Some(self.authors))
            .with("compare", self.compare)
            .with("by", self.by)
            .with("clock", Some(&self.clock))
            .with("zone", Some(self.zone.name));
        let is_business = self.clock == "business";
        let reader = self.from.open(sources).await?;
        let cycle_time = reader.cycle_time(&query).await;
        reader.close().await;
        match self.json {
            true => output::json(&cycle_time?),
            false => print(&cycle_time?, &self.zone.time_zone, is_business),
        }
    }
}

fn print(cycle_time: &CycleTime, zone: &TimeZone, is_business: bool) -> CommandResult {
    let mut table = output::table([
        output::whole("merged from"),
        output::whole("n"),
        output::whole("cycle p50"),
        output::whole("p75"),
        output::whole("p90"),
        output::whole("review p50"),
        output::detail("pickup p50"),
        output::detail("in review p50"),
        output::detail("merge wait p50"),
        output::detail("coding p50"),
        output::detail("cycle mean"),
    ]);
    let days = cycle_time
        .buckets
        .iter()
        .map(|bucket| (date_in(zone, bucket.start), &bucket.summary));
    if cycle_time.all.cycle_time.n > 0 {
        for (start, summary) in days.chain([("all".to_owned(), &cycle_time.all)]) {
            table.add_row(row(start, summary));
        }
    }
    if let Some(origins) = &cycle_time.by_origin {
        for (origin, summary) in origins {
            table.add_row(row(origin.clone(), summary));
        }
    }
    table.print("no pull request that counts was merged in this range")?;
    if cycle_time.all.cycle_time.n > 0 {
        output::line("")?;
        print_durations(&cycle_time.all)?;
    }
    if let Some(compare) = &cycle_time.compare {
        output::line("")?;
        print_comparison(compare)?;
    }
    output::paragraph(&remarks(&cycle_time.all, is_business))
}

/// Returns the date that clocks of `zone` show.
fn date_in(zone: &TimeZone, at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.epoch()).unwrap_or_default();
    zone.to_datetime(at).date().to_string()
}

/// Prints each duration of the whole range, with the interval of its median.
fn print_durations(all: &Summary) -> CommandResult {
    let mut table = output::table([
        output::whole("duration"),
        output::whole("n"),
        output::whole("p50"),
        output::whole("95 % of p50"),
        output::whole("p90"),
        output::whole("total"),
    ]);
    let stages = &all.stages;
    for (name, duration) in [
        ("cycle time", &all.cycle_time),
        ("review time", &all.review_time),
        ("coding", &stages.coding),
        ("pickup", &stages.pickup),
        ("in review", &stages.review),
        ("merge wait", &stages.merge_wait),
        ("redraft", &stages.redraft),
        ("closed", &stages.closed),
    ] {
        table.add_row([
            name.to_owned(),
            duration.n.to_string(),
            output::hours(duration.p50_hours),
            interval(duration.p50_interval_hours),
            output::hours(duration.p90_hours),
            output::hours(duration.total_hours),
        ]);
    }
    table.print("")
}

fn interval(interval: Option<[f64; 2]>) -> String {
    interval.map_or_else(
        || "-".to_owned(),
        |[low, high]| format!("{low:.2} to {high:.2}"),
    )
}

/// Prints the comparison with the range before.
fn print_comparison(compare: &ComparedTime) -> CommandResult {
    let mut table = output::table([
        output::whole("compared"),
        output::whole("n"),
        output::whole("before"),
        output::whole("p50 differs"),
        output::whole("faster"),
        output::whole("95 %"),
        output::whole("verdict"),
    ]);
    let compared = &compare.compared;
    for (name, duration) in [
        ("cycle time", &compared.cycle_time),
        ("review time", &compared.review_time),
        ("coding", &compared.coding),
        ("pickup", &compared.pickup),
        ("in review", &compared.review),
        ("merge wait", &compared.merge_wait),
    ] {
        let verdict = match duration.verdict {
            Some(Verdict::Faster) => "faster",
            Some(Verdict::Slower) => "slower",
            None => "-",
        };
        table.add_row([
            name.to_owned(),
            duration.n.to_string(),
            duration.n_before.to_string(),
            duration
                .p50_difference_hours
                .map_or_else(|| "-".to_owned(), |hours| format!("{hours:+.2}")),
            duration
                .chance_faster
                .map_or_else(|| "-".to_owned(), |chance| format!("{chance:.2}")),
            interval(duration.chance_faster_interval),
            verdict.to_owned(),
        ]);
    }
    table.print("")?;
    let (from, to) = (compare.ranges.before.from, compare.ranges.before.to);
    output::paragraph(&format!(
        "Compared with {from} to {to}. \"faster\" is the chance that a pull request took less time \
         than one of the range before; there is no verdict where its interval includes 0.50, or \
         below 5 of each."
    ))
}

fn row(start: String, summary: &Summary) -> [String; 11] {
    let Summary {
        cycle_time, stages, ..
    } = summary;
    let median = |duration: &DurationSummary| output::hours(duration.p50_hours);
    [
        start,
        cycle_time.n.to_string(),
        median(cycle_time),
        output::hours(cycle_time.p75_hours),
        output::hours(cycle_time.p90_hours),
        median(&summary.review_time),
        median(&stages.pickup),
        median(&stages.review),
        median(&stages.merge_wait),
        median(&stages.coding),
        output::hours(cycle_time.mean_hours),
    ]
}

fn remarks(all: &Summary, is_business: bool) -> String {
    let hours = if is_business {
        "Business hours"
    } else {
        "Hours"
    };
    let mut remarks = vec![format!(
        "{hours}; p50 is the median; below 5 pull requests there is no p90."
    )];
    if !all.excluded.is_empty() {
        let reasons = all.excluded.iter();
        let reasons: Vec<_> = reasons
            .map(|(why, n)| format!("{n} {}", why.replace('_', " ")))
            .collect();
        remarks.push(format!("Merged and left out: {}.", reasons.join(", ")));
    }
    if let Some(closed) = all.closed_unmerged.filter(|closed| *closed > 0) {
        remarks.push(format!("Closed without a merge: {closed}."));
    }
    remarks.join(" ")
}
