//! `tallyhook replay`

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use reqwest::Url;
use reqwest::redirect::Policy;
use serde::{Deserialize, Serialize};
use tallyhook_core::github::signature::Secrets;
use tallyhook_core::text::one_line;
use tokio::time::{MissedTickBehavior, interval};

use super::recorded::{self, RecordedDelivery};
use super::{
    CommandFailure, CommandResult, GITHUB_WEBHOOK_SECRET, SettingSources, TALLYHOOK_LISTEN, output,
};
use crate::config::Config;
use crate::sync::webhook::ENDPOINT;

/// Concurrent posts: enough for the server to commit several together.
const CONCURRENT_POSTS: usize = 8;
/// Longer than the 8 s within which a server answers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// The most of an answer that an error quotes.
const MAX_QUOTE: usize = 300;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Files, folders, or `-` for standard input: payloads, answers of GitHub's deliveries API,
    /// files of `deliveries export`, recordings of smee.io, Probot and others, as JSON, JSON lines
    /// or gzip
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The event of bare payloads, such as `pull_request`; default: as their content shows it
    #[arg(long, value_name = "NAME", value_parser = event_name)]
    event: Option<String>,
    /// The endpoint, or the server with it; default: this configuration's listener
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

fn event_name(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    match (1..=100).contains(&text.len()) && text.bytes().all(is_name) {
        true => Ok(text.to_owned()),
        false => Err("expected a name of GitHub's, such as pull_request".to_owned()),
    }
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
        let given = self.url.as_deref().map(endpoint).transpose()?;
        let mut found = recorded::read_all(&self.paths, self.event.as_deref())?;
        let deliveries = self.select(std::mem::take(&mut found.deliveries));
        if deliveries.is_empty() {
            let why: String = found.problems().map(|why| format!("; {why}")).collect();
            return Err(CommandFailure::Failed(anyhow::anyhow!(
                "the given paths contain no delivery{why}"
            )));
        }
        let is_here = given.is_none();
        let url = match given {
            Some(url) => url,
            None if config.listen.port() == 0 => {
                return Err(CommandFailure::Usage(format!(
                    "{TALLYHOOK_LISTEN} leaves the port of the server open: give --url"
                )));
            }
            None => endpoint(&format!("http://{}", config.listen))?,
        };
        let client = DeliverySender::new(url, secrets, is_here)?;
        let mut result = client.post_all(&deliveries, self.rate).await?;
        if self.json {
            let left_out = found.left_out.iter();
            output::json(&ReplayReport {
                answers: &result.answers,
                left_out: left_out.map(|(kind, left)| (*kind, left.count)).collect(),
                damaged: &found.damaged,
            })?;
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
            for remark in found.remarks() {
                output::line(&remark)?;
            }
            if found.damaged.len() > 1 {
                output::line(&format!("damaged:\n  {}", found.damaged.join("\n  ")))?;
            }
        }
        if let [first, others @ ..] = found.damaged.as_slice() {
            let others = match others.len() {
                0 => String::new(),
                others => format!(", and {others} more"),
            };
            let failure = format!("not everything could be read: {first}{others}");
            result.failures.push(failure);
        }
        match result.failures.as_slice() {
            [] => Ok(()),
            failures => Err(CommandFailure::Failed(anyhow::anyhow!(failures.join("; ")))),
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

/// Returns the URL of the endpoint: a server's gets the path.
pub(super) fn endpoint(text: &str) -> CommandResult<Url> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(mut url) = url else {
        return Err(CommandFailure::Usage(format!(
            "`{text}` is not the URL of a server: expected one such as \
             http://127.0.0.1:8080{ENDPOINT}"
        )));
    };
    if url.path() == "/" {
        url.set_path(ENDPOINT);
    }
    Ok(url)
}

/// Returns whether the URL leads to this machine by itself, which no proxy of the environment is
/// for.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or_else(
        |_| host == "localhost" || host.ends_with(".localhost"),
        |address| address.to_canonical().is_loopback() || address.is_unspecified(),
    )
}

/// The result of a replay as JSON.
#[derive(Serialize)]
struct ReplayReport<'a> {
    #[serde(flatten)]
    answers: &'a BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    left_out: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    damaged: &'a [String],
}

/// Posts signed deliveries, as GitHub does.
pub(super) struct DeliverySender {
    http: reqwest::Client,
    url: Url,
    secrets: Secrets,
}

/// The answers to all posts.
#[derive(Debug, Default)]
pub(super) struct PostSummary {
    /// The number of answers by status: `accepted`, `duplicate`, ..., `dead` or `refused`.
    pub(super) answers: BTreeMap<String, u64>,
    /// The number of refusals, and of dead letters, each with the first of them.
    pub(super) failures: Vec<String>,
}

/// The outcome of one post.
enum PostOutcome {
    /// Stored or known, or not used: with this status.
    Taken(String),
    /// Stored as a dead letter, for this reason.
    Dead(String),
    Refused(String),
}

#[derive(Deserialize)]
struct IngestAnswer {
    status: String,
    dead_letter: Option<String>,
}

impl DeliverySender {
    /// Returns a sender to `url`. The environment's proxy is not asked for a server that `is_here`,
    /// on this machine.
    pub(super) fn new(url: Url, secrets: Secrets, is_here: bool) -> anyhow::Result<Self> {
        // A redirected POST would become a GET; GitHub follows none either.
        let mut http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .redirect(Policy::none());
        if is_here || is_loopback(&url) {
            http = http.no_proxy();
        }
        let http = http.build().context("cannot make an HTTP client")?;
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
        let (mut refused, mut dead) = (Vec::new(), Vec::new());
        while let Some(outcome) = answers.next().await {
            bar.inc(1);
            let status = match outcome? {
                PostOutcome::Taken(status) => status,
                PostOutcome::Dead(reason) => {
                    dead.push(reason);
                    "dead".to_owned()
                }
                PostOutcome::Refused(refusal) => {
                    refused.push(refusal);
                    "refused".to_owned()
                }
            };
            *posted.answers.entry(status).or_default() += 1;
        }
        bar.finish_and_clear();
        if let Some(first) = refused.first() {
            let number = refused.len();
            posted.failures.push(format!(
                "not all deliveries were accepted, {number} refused; the first refusal: {first}"
            ));
        }
        if let Some(first) = dead.first() {
            let number = dead.len();
            posted.failures.push(format!(
                "dead letters among the deliveries (see `tallyhook dead list`): {number}; the \
                 first: {first}"
            ));
        }
        Ok(posted)
    }

    async fn post(&self, delivery: &RecordedDelivery) -> anyhow::Result<PostOutcome> {
        let request = self
            .http
            .post(self.url.clone())
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", &delivery.event)
            .header("X-GitHub-Delivery", &delivery.guid)
            .header(
                "X-Hub-Signature-256",
                self.secrets.sign(&delivery.payload).to_header(),
            )
            .body(delivery.payload.clone());
        let url = without_password(&self.url);
        let response = request
            .send()
            .await
            .map_err(reqwest::Error::without_url)
            .with_context(|| format!("cannot reach {url}: is the server running?"))?;
        let status = response.status();
        let body = response.bytes().await.with_context(|| {
            format!("{url} closed the connection before its answer was complete")
        })?;
        let subject = format!("{} {}", delivery.event, delivery.guid);
        if status.is_success() {
            let answer: IngestAnswer = serde_json::from_slice(&body)
                .with_context(|| format!("{url} does not answer like a tallyhook server"))?;
            return Ok(match answer.dead_letter {
                Some(reason) => PostOutcome::Dead(format!("{subject}: {reason}")),
                None => PostOutcome::Taken(answer.status),
            });
        }
        let body = one_line(&String::from_utf8_lossy(&body), MAX_QUOTE);
        Ok(PostOutcome::Refused(format!(
            "{subject} was answered {status}: {body}"
        )))
    }
}

fn without_password(url: &Url) -> Url {
    let mut shown = url.clone();
    // Fails for a URL that cannot have one.
    let _ = shown.set_password(None);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_without_a_path_gets_the_endpoint() {
        for (given, url) in [
            (
                "http://127.0.0.1:8080",
                "http://127.0.0.1:8080/webhooks/github",
            ),
            (
                "https://hooks.example.com/",
                "https://hooks.example.com/webhooks/github",
            ),
            ("https://example.com/a/b", "https://example.com/a/b"),
        ] {
            assert_eq!(endpoint(given).unwrap().as_str(), url);
        }
        for wrong in ["localhost:8080", "127.0.0.1:8080", "ftp://x/", "x", ""] {
            assert!(
                matches!(endpoint(wrong), Err(CommandFailure::Usage(_))),
                "{wrong}"
            );
        }
    }

    #[test]
    fn this_machine_is_known_by_its_loopback_names() {
        for (url, here) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:8080", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://0.0.0.0:8080", true),
            ("http://LOCALHOST", true),
            ("http://tallyhook.localhost", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), here, "{url}");
        }
    }
}
