//! `tallyhook refetch`

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use chrono::Utc;
use clap::Args;
use tallyhook_core::domain::apply::listed_commits;
use tallyhook_core::domain::notification;
use tallyhook_core::domain::numbers::{NumberRules, numbers};
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::recording::PullRequestChange;
use tallyhook_core::domain::task::Patterns;
use tallyhook_core::event::{self, Event, FetchedPullRequest};
use tallyhook_core::github::types::PrNumber;
use tallyhook_github_client::Client;
use tallyhook_store::{
    BatchWrite, PullRequestRecord, RepositoryObservation, Store, StoredPullRequest,
};

use super::confirmation::Confirmation;
use super::{CommandFailure, CommandResult, SettingSources, github, output, pr};
use crate::config::Config;
use crate::sync::fetch::observed_repository;

/// The number of times that the facts are written again because a server wrote in between.
const MAX_CONFLICTS: usize = 10;
/// The facts are neither a webhook's nor of a round over the repository.
const SOURCE: Source = Source::Monitor;

#[derive(Debug, Args)]
pub(super) struct RefetchArgs {
    /// Drop the stored facts of the pull request, and take GitHub's
    #[arg(long, required = true)]
    replace: bool,
    /// The pull request
    #[arg(value_name = "OWNER/REPO#N")]
    pull_request: String,
    #[command(flatten)]
    confirmation: Confirmation,
}

impl RefetchArgs {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let config = Config::new(&sources)?;
        let name = &self.pull_request;
        let Some((repo, number)) = pr::parsed(name) else {
            let why = format!("`{name}` is not a pull request: expected OWNER/REPO#N");
            return Err(CommandFailure::Usage(why));
        };
        let client = github::client(&config, "to read pull requests")?;
        let action = format!("drop the stored facts of {name}");
        self.confirmation.obtain(&action)?;
        // The dates of commits belong to the facts that are dropped.
        let fetched = fetch(&client, repo, number).await?;
        let store = github::store(&config).await?;
        let replaced = replace(&store, &fetched, &config.numbers, &config.tasks.patterns).await;
        store.close().await;
        replaced?;
        let state = match fetched.pull_request.merged_at {
            Some(_) => "merged",
            None if fetched.pull_request.conversation.open => "open",
            None => "closed",
        };
        output::line(&format!(
            "the facts of {}#{number} are GitHub's now: {state}, with {} timeline entries",
            fetched.repo.name,
            fetched.timeline.len()
        ))
    }
}

/// Fetches the pull request as a delivery of it would be read.
async fn fetch(
    client: &Client,
    repo: &str,
    number: PrNumber,
) -> anyhow::Result<FetchedPullRequest> {
    let got = client
        .pull_requests_by_number(repo, &[number], true)
        .await?;
    let (repository, asked_at) = (got.repository, got.asked_at);
    let whole = got.complete.into_iter().next().with_context(|| {
        let failure = got.failures.into_iter().next();
        let why = failure.map_or_else(String::new, |failure| format!(": {}", failure.reason));
        format!("cannot fetch {repo}#{number}{why}")
    })?;
    let truncated = whole.truncated;
    let fetched = event::fetched(
        &repository,
        whole.pull_request,
        true,
        truncated,
        asked_at.into(),
    )?;
    let json = serde_json::to_string(&Event::Snapshot(fetched))?;
    let mut read = event::decode_fetched(event::storable_json(&json).as_bytes())?;
    event::without_impossible_times(&mut read, asked_at.into());
    match read {
        Event::Snapshot(fetched) => Ok(fetched),
        _ => bail!("GitHub's answer about {repo}#{number} is no pull request"),
    }
}

/// Writes the facts in place of the stored ones, beside a server that may be running.
async fn replace(
    store: &Store,
    fetched: &FetchedPullRequest,
    rules: &NumberRules,
    patterns: &Patterns,
) -> anyhow::Result<()> {
    let key = fetched.key();
    for _ in 0..MAX_CONFLICTS {
        let stored = store.load(&[key]).await?;
        let stored = stored.into_iter().next().context("nothing was loaded")?;
        let write = replacement(fetched, &stored, rules, patterns);
        if store.record(&write, Utc::now()).await?.is_ok() {
            return Ok(());
        }
    }
    bail!("a server keeps writing {key} at the same time: run the command again")
}

fn replacement(
    fetched: &FetchedPullRequest,
    stored: &StoredPullRequest,
    rules: &NumberRules,
    patterns: &Patterns,
) -> BatchWrite {
    let key = fetched.key();
    let mut pull_request = PullRequest::unknown(key);
    pull_request.apply_fetched(fetched, SOURCE);
    let old = notification::status(&stored.pull_request).map(|(status, _)| status);
    let change = notification::change(old, &pull_request).map(|change| PullRequestChange {
        key,
        change,
        source: SOURCE.into(),
    });
    let (name, private) = (fetched.repo.name.clone(), fetched.repo.private);
    let repository = RepositoryObservation {
        repository: observed_repository(key.repo, name, private),
        former_names: BTreeMap::new(),
        last_delivery: None,
        tracks: None,
    };
    BatchWrite {
        commits: listed_commits(fetched, &pull_request).into_iter().collect(),
        mentions: vec![(key, patterns.named_by(&pull_request, &rules.bots))],
        pull_requests: vec![PullRequestRecord {
            numbers: numbers(&pull_request, Some(&fetched.repo.name), rules),
            reviews: pull_request.reviews.keys().copied().collect(),
            known: StoredPullRequest {
                pull_request,
                version: stored.version,
                repository: None,
                parties_hash: stored.parties_hash,
            },
        }],
        replaced: vec![key],
        repositories: vec![repository],
        changes: change.into_iter().collect(),
        moved: BTreeSet::from([key]),
        ..BatchWrite::default()
    }
}
