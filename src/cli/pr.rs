//! `tallyhook pr`

use clap::Args;
use tallyhook_core::event::{self, SubjectKind};
use tallyhook_core::github::types::PrNumber;

use super::reader::ReadFromArgs;
use super::{CommandFailure, CommandResult, SettingSources, output, prs};
use crate::api::{PullRequestDetail, PullRequestItem, TimelineEntry};

#[derive(Debug, Args)]
pub(super) struct PullRequestArgs {
    /// The pull request
    #[arg(value_name = "OWNER/REPO#N")]
    pull_request: String,
    /// Print JSON, as the API answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: ReadFromArgs,
}

impl PullRequestArgs {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let name = &self.pull_request;
        let Some((repo, number)) = parsed(name) else {
            let why = format!("`{name}` is not a pull request: expected OWNER/REPO#N");
            return Err(CommandFailure::Usage(why));
        };
        let reader = self.from.open(sources).await?;
        let detail = reader.pull_request(repo, number).await;
        reader.close().await;
        match self.json {
            true => output::json(&detail?),
            false => print(&detail?),
        }
    }
}

/// Parses the form `OWNER/REPO#N`.
pub(super) fn parsed(name: &str) -> Option<(&str, PrNumber)> {
    let (repo, number) = name.rsplit_once('#')?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    event::is_repository_name(repo).then_some((repo, PrNumber(number)))
}

fn print(detail: &PullRequestDetail) -> CommandResult {
    let item = &detail.pull_request;
    let title = item.title.as_deref().unwrap_or("(its title is not known)");
    output::paragraph(&format!("{}#{}: {title}", item.repo, item.number))?;
    output::paragraph(&facts(item))?;
    if let Some(url) = &item.html_url {
        output::paragraph(url)?;
    }
    output::line("")?;
    output::paragraph(&detail.explain.text)?;
    if !detail.explain.steps.is_empty() {
        let mut steps = output::table([
            output::whole("stage"),
            output::whole("hours"),
            output::whole("from"),
            output::whole("to"),
            output::prose("because"),
        ]);
        for step in &detail.explain.steps {
            steps.add_row([
                <&str>::from(step.stage).replace('_', " "),
                output::hours(Some(step.hours)),
                step.from.to_string(),
                step.to.to_string(),
                step.because.clone(),
            ]);
        }
        output::line("")?;
        steps.print("")?;
    }
    print_turns(detail)?;
    // Reviews are part of the timeline.
    let mut timeline = output::table([
        output::whole("time"),
        output::whole("event"),
        output::text("actor"),
        output::prose("detail"),
    ]);
    for entry in &detail.timeline {
        timeline.add_row([
            entry.at.to_string(),
            entry.kind.replace('_', " "),
            entry.actor.clone().unwrap_or_default(),
            what(entry),
        ]);
    }
    output::line("")?;
    timeline.print("no event of it is known")
}

/// Prints whose turn it was, and the review requests.
fn print_turns(detail: &PullRequestDetail) -> CommandResult {
    let mut turns = output::table([
        output::whole("turn"),
        output::whole("hours"),
        output::whole("from"),
        output::prose("why"),
    ]);
    for turn in &detail.explain.turns {
        turns.add_row([
            turn.turn.as_str().replace('_', " "),
            output::hours(Some(turn.hours)),
            turn.from.to_string(),
            turn.text.clone(),
        ]);
    }
    output::line("")?;
    turns.print("its turns are not known")?;
    if detail.explain.pairs.is_empty() {
        return Ok(());
    }
    let mut pairs = output::table([
        output::text("asked"),
        output::whole("at"),
        output::whole("end"),
        output::whole("hours"),
        output::whole("business h"),
    ]);
    for pair in &detail.explain.pairs {
        let team = pair.team.as_ref().map(|slug| format!("team {slug}"));
        pairs.add_row([
            team.or(pair.login.clone()).unwrap_or_default(),
            pair.asked_at.to_string(),
            pair.end.as_str().to_owned(),
            output::hours(Some(pair.hours)),
            output::hours(pair.business_hours),
        ]);
    }
    output::line("")?;
    pairs.print("")
}

/// Returns the detail of a timeline entry in words. The id of a thread is for programs.
fn what(entry: &TimelineEntry) -> String {
    let detail = entry.detail.clone().unwrap_or_default();
    match (entry.kind.as_str(), entry.subject_kind) {
        ("thread_resolved" | "thread_unresolved", _) => String::new(),
        (_, Some(kind @ (SubjectKind::Team | SubjectKind::Bot))) => {
            format!("{} {detail}", kind.as_str())
        }
        (_, Some(SubjectKind::User)) => detail,
        (_, None) => detail.replace('_', " "),
    }
}

fn facts(item: &PullRequestItem) -> String {
    let mut facts = vec![format!("{} by {}", prs::state(item), item.author)];
    if let (Some(head), Some(base)) = (&item.head_ref, &item.base_ref) {
        facts.push(format!("{head} into {base}"));
    }
    if let (Some(added), Some(deleted), Some(files)) =
        (item.additions, item.deletions, item.changed_files)
    {
        facts.push(format!("+{added} -{deleted} in {files} files"));
    }
    if !item.labels.is_empty() {
        facts.push(format!("labels {}", item.labels.join(", ")));
    }
    let hours = [
        ("cycle time", item.cycle_time_hours),
        ("review time", item.review_time_hours),
    ];
    for (name, hours) in hours {
        facts.extend(hours.map(|hours| format!("{name} {hours:.2} h")));
    }
    facts.join(" · ")
}
