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

use super::recorded::{self, Recorded};
use super::{Failure, GITHUB_WEBHOOK_SECRET, Outcome, Sources, output};
use crate::config::Config;

/// Posts under way at once: enough for the server to commit several together.
const AT_ONCE: usize = 8;
/// A server answers within 8 s.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Files or folders: bare payloads named EVENT.ACTION.json or EVENT/ACTION.payload.json, what GitHub's deliveries
    /// API returns, JSON lines of that, and what `deliveries export` wrote
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The endpoint; this configuration's listener unless told
    #[arg(long)]
    url: Option<String>,
    /// Sign with this secret (beats `GITHUB_WEBHOOK_SECRET`)
    #[arg(long)]
    secret: Option<String>,
    /// Deliveries per second; as fast as they are answered unless told
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// Post in another order, the same for the same seed
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Post each delivery a second time with this probability, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    duplicate: f64,
    /// Leave each delivery out with this probability, 0 to 1
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

impl Replay {
    pub(super) async fn run(self, sources: Sources) -> Outcome {
        let config = Config::new(&sources.with_flag(GITHUB_WEBHOOK_SECRET, self.secret.clone()))?;
        let secrets = config.webhook_secrets.ok_or_else(|| {
            Failure::Usage(format!(
                "with which secret are they to be signed? Give --secret or set {GITHUB_WEBHOOK_SECRET}"
            ))
        })?;
        let url = self
            .url
            .clone()
            .unwrap_or_else(|| format!("http://{}/webhooks/github", config.listen));
        let deliveries = self.select(recorded::read_all(&self.paths)?);
        if deliveries.is_empty() {
            return Err(Failure::Failed(anyhow::anyhow!(
                "there is no delivery in what was given"
            )));
        }
        let client = Client::new(url, secrets)?;
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
            Some(refusal) => Err(Failure::Failed(anyhow::anyhow!(
                "not all were taken; the first refusal: {refusal}"
            ))),
        }
    }

    /// Drops, repeats and shuffles as asked. One seed serves all three, so that a run can be had again.
    fn select(&self, recorded: Vec<Recorded>) -> Vec<Recorded> {
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
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    secrets: Secrets,
}

/// How the posts were answered.
#[derive(Debug, Default)]
pub(super) struct Posted {
    /// How many were answered with each status: `accepted`, `duplicate`, ..., or `refused`.
    pub(super) answers: BTreeMap<String, u64>,
    /// The first refusal in words.
    pub(super) refused: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
}

impl Client {
    pub(super) fn new(url: String, secrets: Secrets) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { http, url, secrets })
    }

    /// Posts them all, several at once. A server that cannot be reached ends it at once.
    pub(super) async fn post_all(
        &self,
        deliveries: &[Recorded],
        rate: Option<u32>,
    ) -> anyhow::Result<Posted> {
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
        let mut answers =
            std::pin::pin!(paced.map(|delivery| self.post(delivery)).buffered(AT_ONCE));
        let mut posted = Posted::default();
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

    /// Posts one: its status, or why it was refused.
    async fn post(&self, delivery: &Recorded) -> anyhow::Result<Result<String, String>> {
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
        let body = response
            .bytes()
            .await
            .with_context(|| format!("{} broke off its answer", self.url))?;
        if status.is_success() {
            let answer: Answer = serde_json::from_slice(&body)
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
