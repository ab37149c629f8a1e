//! `tallyhook demo`

mod live;
mod shift;
mod waiting;

use anyhow::Context;
use chrono::{TimeDelta, Utc};
use clap::Args;
use serde_json::Value;
use tallyhook_core::domain::metrics::DurationSummary;
use tallyhook_store::{AggregateFilter, DEFAULT_TEAM, PullRequestFilter, Store};
use tokio::time::Instant;
use uuid::Uuid;

use super::recorded::{self, RecordedDelivery};
use super::replay::{DeliverySender, endpoint};
use super::{
    CommandResult, DATABASE_URL, GITHUB_WEBHOOK_SECRET, SettingSources, TALLYHOOK_LISTEN, output,
    prs, serve,
};
use crate::api::{PullRequestItem, ReadContext, auth, list_item};
use crate::app::{RunningServer, ServerOptions};
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Exit after the table, with exit code 0
    #[arg(long)]
    once: bool,
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        help = "Address and port; if the default port is in use, a free one is taken [env: \
                TALLYHOOK_LISTEN]"
    )]
    listen: Option<String>,
}

/// The fixtures that are part of the program.
const STORY: [&str; 34] = [
    include_str!("../../../fixtures/01-quick-review.jsonl"),
    include_str!("../../../fixtures/02-draft-then-ready.jsonl"),
    include_str!("../../../fixtures/03-merged-without-review.jsonl"),
    include_str!("../../../fixtures/04-closed-unmerged.jsonl"),
    include_str!("../../../fixtures/05-open-with-review.jsonl"),
    include_str!("../../../fixtures/06-draft-never-ready.jsonl"),
    include_str!("../../../fixtures/07-changes-then-approval.jsonl"),
    include_str!("../../../fixtures/08-bot-first.jsonl"),
    include_str!("../../../fixtures/09-back-to-draft.jsonl"),
    include_str!("../../../fixtures/10-closed-and-reopened.jsonl"),
    include_str!("../../../fixtures/11-bot-author.jsonl"),
    include_str!("../../../fixtures/12-push-after-approval.jsonl"),
    include_str!("../../../fixtures/13-dismissed-approval.jsonl"),
    include_str!("../../../fixtures/14-fork-deleted.jsonl"),
    include_str!("../../../fixtures/15-ghost-reviewer.jsonl"),
    include_str!("../../../fixtures/16-reviewed-in-draft.jsonl"),
    include_str!("../../../fixtures/17-changes-still-requested.jsonl"),
    include_str!("../../../fixtures/18-merged-as-draft.jsonl"),
    include_str!("../../../fixtures/19-merge-queue.jsonl"),
    include_str!("../../../fixtures/20-objection-dismissed.jsonl"),
    include_str!("../../../fixtures/21-never-approved.jsonl"),
    include_str!("../../../fixtures/22-closed-while-draft.jsonl"),
    include_str!("../../../fixtures/23-ghost-author.jsonl"),
    include_str!("../../../fixtures/24-review-at-the-merge.jsonl"),
    include_str!("../../../fixtures/25-waiting-for-a-human.jsonl"),
    include_str!("../../../fixtures/26-asked-again.jsonl"),
    include_str!("../../../fixtures/27-answered-for-the-team.jsonl"),
    include_str!("../../../fixtures/28-request-withdrawn.jsonl"),
    include_str!("../../../fixtures/29-approval-dismissed-by-a-push.jsonl"),
    include_str!("../../../fixtures/30-given-back-by-the-queue.jsonl"),
    include_str!("../../../fixtures/31-agent-draft.jsonl"),
    include_str!("../../../fixtures/32-only-an-ai-asked.jsonl"),
    include_str!("../../../fixtures/33-approved-from-a-fork.jsonl"),
    include_str!("../../../fixtures/34-in-the-merge-queue.jsonl"),
];

impl DemoArgs {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let folder = tempfile::Builder::new()
            .prefix("tallyhook-demo-")
            .tempdir()
            .context("cannot create a temporary folder")?;
        let token = auth::new_token();
        let any_port = self.listen.is_none() && !sources.is_set(TALLYHOOK_LISTEN);
        let database = format!("sqlite://{}", folder.path().join("demo.db").display());
        // The demo ignores the configured broker, channels and GitHub token: nothing of it leaves
        // this machine.
        let mut config = Config::new(
            &sources
                .keep_only(TALLYHOOK_LISTEN)
                .with_flag(DATABASE_URL, Some(database))
                .with_flag(GITHUB_WEBHOOK_SECRET, Some(auth::new_token()))
                .with_flag("TALLYHOOK_ADMIN_TOKEN", Some(&token))
                .with_flag("GITHUB_REPO_OWNER", Some("acme-corp"))
                .with_flag("GITHUB_REPO_NAME", Some("api-server"))
                .with_flag(TALLYHOOK_LISTEN, self.listen.as_deref()),
        )?;
        if any_port && std::net::TcpListener::bind(config.listen).is_err() {
            config.listen.set_port(0);
        }
        let signalled = serve::signals()?;
        let mut running = RunningServer::start(&config, ServerOptions::default()).await?;
        let shown = tokio::select! {
            shown = show(&config, &mut running, &token, self.once) => shown,
            () = signalled => Ok(()),
        };
        serve::stop(running).await?;
        shown
    }
}

async fn show(
    config: &Config,
    running: &mut RunningServer,
    token: &str,
    once: bool,
) -> CommandResult {
    let url = format!("http://{}", running.address);
    let secrets = config
        .webhook_secrets
        .clone()
        .context("the demo has a secret")?;
    let story = story()?;
    let client = DeliverySender::new(endpoint(&url)?, secrets, true)?;
    let posted = client.post_all(&story, None).await?;
    if let Some(failure) = posted.failures.first() {
        return Err(anyhow::anyhow!("the server refused its own fixtures: {failure}").into());
    }
    running.drained().await?;
    let answers: Vec<_> = posted
        .answers
        .iter()
        .map(|(status, number)| format!("{number} {status}"))
        .collect();
    output::paragraph(&format!(
        "{} signed deliveries went through {url}/webhooks/github: {}",
        story.len(),
        answers.join(", ")
    ))?;
    output::line("")?;
    print_tables(&running.store, ReadContext::now(&config.numbers)).await?;
    let numbers = numbers(&running.store).await?;
    output::line(&format!(
        "\nNotifications from {}/ws:",
        url.replace("http:", "ws:")
    ))?;
    if !once {
        client.post_all(&[unreadable(&story)?], None).await?;
        running.drained().await?;
    }
    let link = running.one_time_logins.create(token, Instant::now());
    let ending = match once {
        true => numbers,
        false => format!(
            "{numbers}\n\nThe dashboard, until Ctrl-C; this link signs you in, once within ten minutes:\
             \n{url}{link}\n\nThe API, for example:\n  \
             curl -H 'Authorization: Bearer {token}' {url}/api/prs/107\n  \
             curl -H 'Authorization: Bearer {token}' '{url}/api/metrics/cycle-time?bucket=week'"
        ),
    };
    live::show(running, &client, STORY[0], once, &ending).await
}

/// Returns the three numbers that matter, each with the number of pull requests that it is of.
async fn numbers(store: &Store) -> anyhow::Result<String> {
    let store = store.of_team(DEFAULT_TEAM.0);
    let all = store.aggregates(&AggregateFilter::default()).await?.all;
    let sum = |duration: &DurationSummary| {
        #[allow(clippy::cast_precision_loss, reason = "a few pull requests")]
        let n = duration.n as f64;
        duration.mean_hours.unwrap_or_default() * n
    };
    let stages = [
        ("for a first review", &all.stages.pickup),
        ("for the end of the review", &all.stages.review),
        ("for the merge after the approval", &all.stages.merge_wait),
    ];
    let total: f64 = stages.iter().map(|(_, stage)| sum(stage)).sum();
    let longest = stages
        .iter()
        .max_by(|(_, one), (_, two)| sum(one).total_cmp(&sum(two)));
    let (why, wait) = longest.context("there are stages")?;
    let share = 100.0 * sum(wait) / total.max(f64::MIN_POSITIVE);
    let lines = [
        (
            "cycle time",
            &all.cycle_time,
            "from opening to merge".to_owned(),
        ),
        (
            "review time",
            &all.review_time,
            "from opening to the first review".to_owned(),
        ),
        (
            "longest wait",
            *wait,
            format!("{why}, {share:.0} % of all waiting"),
        ),
    ];
    let lines = lines.map(|(name, duration, meaning)| {
        let hours = output::hours(duration.p50_hours);
        format!(
            "\n  {name:12}  {hours:>6} h  {meaning} (n = {})",
            duration.n
        )
    });
    Ok(format!(
        "\nMedians of the merged pull requests:{}",
        lines.concat()
    ))
}

/// Returns the deliveries of all files, in order of time, as if the last one was sent a little ago.
fn story() -> anyhow::Result<Vec<RecordedDelivery>> {
    let mut story = Vec::new();
    for file in STORY {
        story.extend(recorded::parse_lines(file).context("a shipped fixture cannot be read")?);
    }
    story.sort_by(|one, two| one.delivered_at.cmp(&two.delivered_at));
    // Not the very second: nothing of the past is to look like a change that just happened.
    shift::end_now(&mut story, (Utc::now() - TimeDelta::minutes(10)).into())?;
    Ok(story)
}

/// Returns a delivery that cannot be applied, so that there is a dead letter to look at.
fn unreadable(story: &[RecordedDelivery]) -> anyhow::Result<RecordedDelivery> {
    let mut of_pull_requests = story.iter().rev().filter(|one| one.event == "pull_request");
    let last = of_pull_requests.next().context("the story has an end")?;
    let mut payload: Value = serde_json::from_slice(&last.payload)?;
    payload["pull_request"]["base"] = Value::Null;
    Ok(RecordedDelivery {
        guid: Uuid::new_v4().to_string(),
        payload: serde_json::to_vec(&payload)?,
        ..last.clone()
    })
}

/// Prints all pull requests, and then what the open ones wait for.
async fn print_tables(store: &Store, context: ReadContext<'_>) -> CommandResult {
    let store = store.of_team(DEFAULT_TEAM.0);
    let mut rows: Vec<_> = store
        .pull_requests(&PullRequestFilter::default(), 100)
        .await?
        .into_iter()
        .map(|row| list_item(row, context))
        .collect();
    rows.sort_by_key(|row| row.number);
    print_pull_requests(&rows)?;
    output::line("\nWho waits for whom:")?;
    waiting::print(&rows)
}

fn print_pull_requests(rows: &[PullRequestItem]) -> CommandResult {
    let mut table = output::table([
        output::whole("PR"),
        output::text("title"),
        output::whole("state"),
        output::whole("cycle h"),
        output::whole("review h"),
        output::detail("pickup"),
        output::detail("review"),
        output::detail("wait"),
        output::detail("coding"),
        output::detail("redraft"),
        output::detail("closed"),
        output::note("flags", 1),
    ]);
    for row in rows {
        table.add_row(cells(row));
    }
    table.print("no pull request")
}

fn cells(row: &PullRequestItem) -> Vec<String> {
    let stages = &row.stages;
    let mut cells = vec![
        format!("#{}", row.number),
        row.title.clone().unwrap_or_default(),
        prs::state(row).to_owned(),
    ];
    cells.extend(
        [
            row.cycle_time_hours,
            row.review_time_hours,
            stages.pickup_hours,
            stages.review_hours,
            stages.merge_wait_hours,
            stages.coding_hours,
            stages.redraft_hours,
            stages.closed_hours,
        ]
        .map(output::hours),
    );
    cells.push(row.flags.join(", ").replace('_', " "));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_contains_every_fixture() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let included: std::collections::BTreeSet<&str> = STORY.into_iter().collect();
        let mut files = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "jsonl") {
                files += 1;
                assert!(
                    included.contains(std::fs::read_to_string(&path).unwrap().as_str()),
                    "{}",
                    path.display()
                );
            }
        }
        assert_eq!(files, STORY.len());
    }
}
