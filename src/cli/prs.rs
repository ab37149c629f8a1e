//! `tallyhook prs`

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tallyhook_core::domain::timings::PullRequestState;
use uuid::Uuid;

use super::reader::{ReadFromArgs, ReadQuery, Reader, pages};
use super::{CommandFailure, CommandResult, SettingSources, output, waiting};
use crate::api::{Page, PullRequestDetail, PullRequestItem};
use crate::times::TimePoint;

#[derive(Debug, Args)]
pub(super) struct PullRequestsArgs {
    /// `open`, `closed` (with merged), `merged`, `closed_unmerged` or `all`; several separated by
    /// commas
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only pull requests of this repository
    #[arg(long, value_name = "OWNER/REPO")]
    repo: Option<String>,
    /// Only pull requests of this author
    #[arg(long, value_name = "LOGIN")]
    author: Option<String>,
    /// Updated at or after: RFC 3339, a date, or a span before now such as 30d
    #[arg(long, visible_alias = "from", value_name = "TIME")]
    since: Option<TimePoint>,
    /// Updated before: in the same forms
    #[arg(long, visible_alias = "to", value_name = "TIME")]
    until: Option<TimePoint>,
    #[command(flatten)]
    filters: MoreFilters,
    /// Maximum number
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Continue after the `next` of `--json`
    #[arg(long)]
    cursor: Option<String>,
    /// Print one digest of the facts of all these pull requests
    ///
    /// It is the SHA-256 of title, author, state, branches, size, times, reviews and the timeline
    /// that both webhooks and the API show. Two servers with the same facts have the same digest:
    /// kind of database, order and source of deliveries, and settings do not enter.
    #[arg(long, conflicts_with_all = ["limit", "cursor"])]
    digest: bool,
    /// Print JSON, as `GET /api/prs` answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: ReadFromArgs,
}

/// Filters and the order, in the words of the API.
#[derive(Debug, Args)]
struct MoreFilters {
    /// Merged at or after: in the same forms
    #[arg(long, value_name = "TIME")]
    merged_from: Option<TimePoint>,
    /// Merged before: in the same forms
    #[arg(long, value_name = "TIME")]
    merged_to: Option<TimePoint>,
    /// Only open ones that wait for this: author, reviewers, nobody and so on
    #[arg(long, value_name = "KIND")]
    waiting_for: Option<String>,
    /// Only open ones that wait for this login, for `github_team:SLUG`, or with --url for `me`
    #[arg(long, value_name = "WHO")]
    waiting_on: Option<String>,
    /// Only open ones that wait at least this long, such as 3d
    #[arg(long, value_name = "SPAN")]
    waited_min: Option<TimePoint>,
    /// Only open ones that wait shorter than this
    #[arg(long, value_name = "SPAN")]
    waited_max: Option<TimePoint>,
    /// Only merged ones with this duration: cycle, pickup, review and so on
    #[arg(long)]
    stage: Option<String>,
    /// Least hours of --stage
    #[arg(long, value_name = "HOURS", requires = "stage")]
    min_hours: Option<f64>,
    /// Less hours of --stage than this
    #[arg(long, value_name = "HOURS", requires = "stage")]
    max_hours: Option<f64>,
    /// Only those with this flag, such as `merged_without_review`
    #[arg(long)]
    flag: Option<String>,
    /// Only those with this label
    #[arg(long)]
    label: Option<String>,
    /// Only drafts, or with false only those that are none
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    draft: Option<bool>,
    /// Only merged ones that aggregates count
    #[arg(long)]
    counted: bool,
    /// A part of the title or of the branch, or a number
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// waiting, updated, created, merged, cycle, pickup, review or `merge_wait`
    #[arg(long, value_name = "VALUE")]
    sort: Option<String>,
    /// asc or desc
    #[arg(long)]
    order: Option<String>,
}

impl MoreFilters {
    fn add_to(self, query: ReadQuery) -> ReadQuery {
        query
            .with("merged_from", self.merged_from)
            .with("merged_to", self.merged_to)
            .with("waiting_for", self.waiting_for)
            .with("waiting_on", self.waiting_on)
            .with("waited_min", self.waited_min)
            .with("waited_max", self.waited_max)
            .with("stage", self.stage)
            .with("min_hours", self.min_hours)
            .with("max_hours", self.max_hours)
            .with("flag", self.flag)
            .with("label", self.label)
            .with("draft", self.draft)
            .with("counted", self.counted.then_some(true))
            .with("q", self.search)
            .with("sort", self.sort)
            .with("order", self.order)
    }
}

impl PullRequestsArgs {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        if self.filters.waiting_on.as_deref() == Some("me") && self.from.is_database() {
            let why = "--waiting-on is `me`, the login of a token: it needs --url and a token with \
                       a login; in a database name the login itself";
            return Err(CommandFailure::Usage(why.to_owned()));
        }
        let query = ReadQuery::default()
            .with("state", self.state)
            .with("repo", self.repo)
            .with("author", self.author)
            .with("from", self.since)
            .with("to", self.until);
        let query = self.filters.add_to(query);
        let reader = self.from.open(sources).await?;
        let limit = if self.digest { u32::MAX } else { self.limit };
        let page = async |size, cursor| {
            let query = query
                .clone()
                .with("per_page", Some(size))
                .with("cursor", cursor);
            reader.pull_requests(&query).await
        };
        let listed = pages(limit, self.cursor, page).await?;
        if self.digest {
            let pull_requests = listed.items.len();
            let sha256 = digest(&reader, listed.items).await?;
            reader.close().await;
            return match self.json {
                true => output::json(&json!({"sha256": sha256, "pull_requests": pull_requests})),
                false => output::line(&format!("{sha256}  {pull_requests} pull requests")),
            };
        }
        reader.close().await;
        match self.json {
            true => output::json(&listed),
            false => print(&listed),
        }
    }
}

fn print(listed: &Page<PullRequestItem>) -> CommandResult {
    // Numbers of one repository need no name.
    let repositories: BTreeSet<_> = listed.items.iter().map(|item| &item.repo).collect();
    let repository = match repositories.len() {
        ..=1 => output::detail("repository"),
        _ => output::text("repository"),
    };
    let mut table = output::table([
        output::whole("PR"),
        repository,
        output::text("title"),
        output::whole("state"),
        output::text("waits for"),
        output::whole("cycle h"),
        output::whole("review h"),
        output::detail("flags"),
        output::detail("author"),
        output::detail("updated"),
    ]);
    for item in &listed.items {
        table.add_row([
            format!("#{}", item.number),
            item.repo.clone(),
            item.title.clone().unwrap_or_default(),
            state(item).to_owned(),
            waits_for(item),
            output::hours(item.cycle_time_hours),
            output::hours(item.review_time_hours),
            item.flags.join(", ").replace('_', " "),
            item.author.clone(),
            item.updated_at.to_string(),
        ]);
    }
    table.print("no pull request matches")?;
    output::more(listed.next.is_some())
}

/// Returns what an open pull request waits for, on whom and for how long.
fn waits_for(item: &PullRequestItem) -> String {
    let Some(waiting) = &item.waiting else {
        return String::new();
    };
    let who = waiting.who.first().map(|waiter| {
        let team = waiter.team.as_ref().map(|slug| format!("team {slug}"));
        team.or(waiter.login.clone()).unwrap_or_default()
    });
    let reason = waiting::words(waiting.reason);
    let on = match (who, waiting.held_by) {
        (_, Some(number)) => format!("{reason} #{number}"),
        (Some(who), None) => format!("{reason}, {who}"),
        (None, None) => reason.to_owned(),
    };
    format!("{on}, {}", waiting::waited(waiting.since, waiting.as_of))
}

/// Returns the state of a pull request; `draft` while it is an open draft.
pub(super) fn state(item: &PullRequestItem) -> &'static str {
    match (item.state, item.draft) {
        (PullRequestState::Open, Some(true)) => "draft",
        (state, _) => state.as_str(),
    }
}

/// The facts of a pull request that webhooks and GitHub's API agree on, and that neither settings
/// nor the time of reading change. The order of the fields is part of the digest.
#[derive(Serialize)]
struct DigestedFacts<'a> {
    pr_id: Uuid,
    number: i64,
    github_pr_id: Option<i64>,
    title: &'a Option<String>,
    author: &'a str,
    state: PullRequestState,
    draft: Option<bool>,
    base_ref: &'a Option<String>,
    head_ref: &'a Option<String>,
    head_sha: &'a Option<String>,
    labels: Vec<&'a str>,
    created_at: String,
    closed_at: Option<String>,
    merged_at: Option<String>,
    size: [Option<i64>; 4],
    reviews: BTreeMap<i64, (&'a str, serde_json::Value, String)>,
    timeline: Vec<(String, &'a str, &'a Option<String>, &'a Option<String>)>,
}

/// The timeline entries that both webhooks and the API have.
const DIGESTED_KINDS: [&str; 11] = [
    "opened",
    "ready_for_review",
    "converted_to_draft",
    "review_requested",
    "review_request_removed",
    "commented",
    "enqueued",
    "dequeued",
    "merged",
    "closed",
    "reopened",
];

impl<'a> DigestedFacts<'a> {
    fn new(detail: &'a PullRequestDetail) -> Self {
        let item = &detail.pull_request;
        let mut labels: Vec<_> = item.labels.iter().map(String::as_str).collect();
        labels.sort_unstable();
        let reviews = detail.reviews.iter().map(|review| {
            let state = json!([review.state, review.original_state]);
            let facts = (
                review.reviewer.as_str(),
                state,
                review.submitted_at.to_string(),
            );
            (review.github_review_id, facts)
        });
        let entries = detail.timeline.iter();
        let known = entries.filter(|entry| DIGESTED_KINDS.contains(&entry.kind.as_str()));
        let mut timeline: Vec<_> = known
            .map(|entry| {
                (
                    entry.at.to_string(),
                    entry.kind.as_str(),
                    &entry.actor,
                    &entry.detail,
                )
            })
            .collect();
        timeline.sort_unstable();
        Self {
            pr_id: item.pr_id,
            number: item.number.0,
            github_pr_id: item.github_pr_id,
            title: &item.title,
            author: &item.author,
            state: item.state,
            draft: item.draft,
            base_ref: &item.base_ref,
            head_ref: &item.head_ref,
            head_sha: &item.head_sha,
            labels,
            created_at: item.pr_created_at.to_string(),
            closed_at: item.closed_at.map(|at| at.to_string()),
            merged_at: item.merged_at.map(|at| at.to_string()),
            size: [
                item.additions,
                item.deletions,
                item.changed_files,
                item.commits,
            ],
            reviews: reviews.collect(),
            timeline,
        }
    }
}

/// Returns the SHA-256, in hexadecimal, of the facts of all pull requests, a line of JSON for each.
async fn digest(reader: &Reader, items: Vec<PullRequestItem>) -> CommandResult<String> {
    // A running server may move one from page to page. The ids stay when a repository is renamed.
    let pull_requests: BTreeMap<_, _> = items
        .into_iter()
        .map(|item| (item.pr_id, (item.repo, item.number)))
        .collect();
    let bar = output::progress(pull_requests.len() as u64, "reading");
    let mut hash = Sha256::new();
    for (repo, number) in pull_requests.into_values() {
        let detail = reader.pull_request(&repo, number).await?;
        hash.update(serde_json::to_vec(&DigestedFacts::new(&detail))?);
        hash.update(b"\n");
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(hex::encode(hash.finalize()))
}
