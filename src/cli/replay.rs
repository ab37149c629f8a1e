//! `tallyhook replay`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use tallyhook_core::github::signature::Secrets;
use tokio::time::{MissedTickBehavior, interval};

use super::recorded::{self, RecordedDelivery};
use super::{CommandFailure, CommandResult, GITHUB_WEBHOOK_SECRET, SettingSources, output};
use crate::config::Config;

/// Concurrent posts: enough for the server to commit several together.
const CONCURRENT_POSTS: usize = 8;
/// Longer than the 8 s within which a server answers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Files or folders: bare payloads named EVENT.ACTION.json or EVENT/ACTION.payload.json,
    /// answers of GitHub's deliveries API, JSON lines of those, and files of `deliveries export`
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The endpoint; default: this configuration's listener
    #[arg(long)]
    url: Option<String>,
    #[arg(long, help = "Sign with this secret [env: GITHUB_WEBHOOK_SECRET]")]
    secret: Option<String>,
    /// Deliveries per second; default: as fast as they are answered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// Shuffle the deliveries; the same seed gives the same order
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Post each delivery a second time with this probability, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    duplicate: f64,
    /// Skip each delivery with this probability, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    drop: f64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

impl ReplayArgs {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let config = Config::new(&sources.with_flag(GITHUB_WEBHOOK_SECRET, self.secret.clone()))?;
        let secrets = config.webhook_secrets.ok_or_else(|| {
            CommandFailure::Usage(format!(
                "there is no secret to sign with: give --secret or set {GITHUB_WEBHOOK_SECRET}"
            ))
        })?;
        let url = self
            .url
            .clone()
            .unwrap_or_else(|| format!("http://{}/webhooks/github", config.listen));
        let deliveries = self.select(recorded::read_all(&self.paths)?);
        if deliveries.is_empty() {
            return Err(CommandFailure::Failed(anyhow::anyhow!(
                "the given paths contain no delivery"
            )));
        }
        let client = DeliverySender::new(url, secrets)?;
        let result = client.post_all(&deliveries, self.rate).await?;
        if self.json {
            output::json(&result.answers)?;
        } else {
            let counts: Vec<_> = result
                .answers
                .iter()
                .map(|(status, number)| format!("{number} {status}"))
                .collect();
            output::line(&format!(
                "{} posted: {}",
                deliveries.len(),
                counts.join(", ")
            ))?;
        }
        match result.refused {
            None => Ok(()),
            Some(refusal) => Err(CommandFailure::Failed(anyhow::anyhow!(
                "not all deliveries were accepted; the first refusal: {refusal}"
            ))),
        }
    }

    /// Drops, duplicates and shuffles by the options. One seed serves all three, so that a run can
    /// be reproduced.
    fn select(&self, recorded: Vec<RecordedDelivery>) -> Vec<RecordedDelivery> {
        let mut random = StdRng::seed_from_u64(self.shuffle.unwrap_or_default());
        let mut selected = Vec::with_capacity(recorded.len());
        for delivery in recorded {
            if random.random_bool(self.drop) {
                continue;
            }
            if random.random_bool(self.duplicate) {
                selected.push(delivery.clone());
            }
            selected.push(delivery);
        }
        if self.shuffle.is_some() {
            selected.shuffle(&mut random);
        }
        selected
    }
}

/// Posts signed deliveries, as GitHub does.
pub(super) struct DeliverySender {
    http: reqwest::Client,
    url: String,
    secrets: Secrets,
}

/// The answers to all posts.
#[derive(Debug, Default)]
pub(super) struct PostSummary {
    /// The number of answers by status: `accepted`, `duplicate`, ..., or `refused`.
    pub(super) answers: BTreeMap<String, u64>,
    /// The message of the first refusal.
    pub(super) refused: Option<String>,
}

#[derive(Deserialize)]
struct IngestAnswer {
    status: String,
}

impl DeliverySender {
    pub(super) fn new(url: String, secrets: Secrets) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { http, url, secrets })
    }

    /// Posts all deliveries, several concurrently. Stops at once if the server cannot be reached.
    pub(super) async fn post_all(
        &self,
        deliveries: &[RecordedDelivery],
        rate: Option<u32>,
    ) -> anyhow::Result<PostSummary> {
        let bar = output::progress(deliveries.len() as u64, "posting");
        let mut pace = rate.map(|rate| {
            let mut pace = interval(Duration::from_secs(1) / rate);
            pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
            pace
        });
        let paced = futures_util::stream::unfold(
            (deliveries.iter(), &mut pace),
            |(mut left, pace)| async move {
                let next = left.next()?;
                if let Some(pace) = pace.as_mut() {
                    pace.tick().await;
                }
                Some((next, (left, pace)))
            },
        );
        let mut answers = std::pin::pin!(
            paced
                .map(|delivery| self.post(delivery))
                .buffered(CONCURRENT_POSTS)
        );
        let mut posted = PostSummary::default();
        while let Some(answer) = answers.next().await {
            bar.inc(1);
            match answer? {
                Ok(status) => *posted.answers.entry(status).or_default() += 1,
                Err(refusal) => {
                    *posted.answers.entry("refused".to_owned()).or_default() += 1;
                    posted.refused.get_or_insert(refusal);
                }
            }
        }
        bar.finish_and_clear();
        Ok(posted)
    }

    /// Posts one delivery and returns the status of the answer, or the refusal.
    async fn post(&self, delivery: &RecordedDelivery) -> anyhow::Result<Result<String, String>> {
        let request = self
            .http
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", &delivery.event)
            .header("X-GitHub-Delivery", &delivery.guid)
            .header(
                "X-Hub-Signature-256",
                self.secrets.sign(&delivery.payload).to_header(),
            )
            .body(delivery.payload.clone());
        let response = request
            .send()
            .await
            .with_context(|| format!("cannot reach {}: is the server running?", self.url))?;
        let status = response.status();
        let body = response.bytes().await.with_context(|| {
            format!(
                "{} closed the connection before its answer was complete",
                self.url
            )
        })?;
        if status.is_success() {
            let answer: IngestAnswer = serde_json::from_slice(&body)
                .with_context(|| format!("{} does not answer like a tallyhook server", self.url))?;
            return Ok(Ok(answer.status));
        }
        let body = String::from_utf8_lossy(&body);
        Ok(Err(format!(
            "{} {} was answered {status}: {}",
            delivery.event,
            delivery.guid,
            body.trim()
        )))
    }
}
