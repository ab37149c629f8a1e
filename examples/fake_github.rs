//! A GitHub to try Tallyhook on, with pull requests of random histories: `cargo run --example
//! fake_github`.
//!
//! It answers REST and GraphQL; with `--rate` it generates further events and delivers their
//! webhooks. Its answers and webhooks can be made to fail. The tests use the same fake.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::Utc;
use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallyhook_core::github::types::Timestamp;

use testkit::github::growth::Growth;
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN, Sending};

const HOOK: i64 = 530_000_001;

#[derive(Parser)]
#[command(about = "A GitHub on this machine, to try Tallyhook on")]
struct Arguments {
    /// Port on 127.0.0.1.
    #[arg(long, default_value_t = 4001)]
    port: u16,
    /// Its repository, as owner/name.
    #[arg(long, default_value = "acme-corp/api-server")]
    repository: String,
    /// Number of pull requests.
    #[arg(long, default_value_t = 200)]
    pulls: usize,
    /// Seed of the random histories.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Address of a webhook, such as `http://127.0.0.1:8080/webhooks/github`; more can be added
    /// through the API.
    #[arg(long, requires = "secret")]
    webhook: Option<String>,
    /// Secret that signs the webhooks.
    #[arg(long)]
    secret: Option<String>,
    /// Events per second.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Share of the webhooks that is lost, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    lost: f64,
    /// Share of the answers that fail, from 0 to 1: 500, 502, 503, or an answer that breaks off.
    #[arg(long, default_value_t = 0.0)]
    errors: f64,
    /// Delay of each answer, in milliseconds.
    #[arg(long, default_value_t = 0)]
    latency: u64,
    /// Number of pull requests in one query above which it gives up.
    #[arg(long)]
    at_most: Option<u64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let Some((owner, name)) = arguments.repository.split_once('/') else {
        bail!("--repository is an owner and a name, such as acme-corp/api-server");
    };
    for (flag, part) in [("--lost", arguments.lost), ("--errors", arguments.errors)] {
        if !(0.0..=1.0).contains(&part) {
            bail!("{flag} is a part, from 0 to 1");
        }
    }
    if !(0.0..=1000.0).contains(&arguments.rate) {
        bail!("--rate is from 0 to 1000 a second");
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let github =
        FakeGithub::start_at(address).with_context(|| format!("cannot listen on {address}"))?;
    github.add_repository(1_900_000_001, &arguments.repository);
    let growth = Growth {
        seed: arguments.seed,
        pulls: arguments.pulls,
        ties: true,
        until: Utc::now().into(),
    };
    let webhooks = github.world(|world| world.grow(&arguments.repository, growth));
    github.slow_down(Duration::from_millis(arguments.latency));
    if let Some(pulls) = arguments.at_most {
        github.at_most(pulls);
    }
    if arguments.errors > 0.0 {
        let faults = [500, 502, 503]
            .map(Fault::status)
            .into_iter()
            .chain([Fault::Truncated]);
        github.disturb(arguments.seed, arguments.errors, faults.collect());
    }
    let owner_of_hooks = format!("repos/{}", arguments.repository);
    if let Some((url, secret)) = arguments.webhook.as_ref().zip(arguments.secret.as_ref()) {
        if secret.is_empty() {
            bail!("--secret is empty");
        }
        github.add_hook(HOOK, &owner_of_hooks, url, secret);
    }
    say(&format!(
        "# {} pull requests, of which {} webhooks would have been sent",
        arguments.pulls,
        webhooks.len()
    ));
    say(&format!("GITHUB_API_URL={}", github.url));
    say(&format!("GITHUB_TOKEN={GITHUB_TOKEN}"));
    say(&format!("GITHUB_REPO_OWNER={owner}"));
    say(&format!("GITHUB_REPO_NAME={name}"));
    tokio::select! {
        () = goes_on(&github, &arguments, &owner_of_hooks), if arguments.rate > 0.0 => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    github.stop().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what this program is for")]
fn say(line: &str) {
    println!("{line}");
}

/// Changes pull requests and sends their webhooks, without end.
async fn goes_on(github: &FakeGithub, arguments: &Arguments, owner: &str) {
    let mut random = StdRng::seed_from_u64(arguments.seed);
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / arguments.rate));
    loop {
        ticks.tick().await;
        let now = Timestamp::from(Utc::now());
        let webhooks = github.world(|world| world.go_on(&arguments.repository, now, &mut random));
        for webhook in webhooks {
            let what = format!(
                "{} {}",
                webhook.event,
                webhook.payload["action"].as_str().unwrap_or_default()
            );
            for hook in github.hooks_of(owner) {
                let lost = random.random_bool(arguments.lost);
                let status = github
                    .send(
                        hook,
                        &webhook,
                        if lost {
                            Sending::Dropped
                        } else {
                            Sending::Posted
                        },
                    )
                    .await;
                let became = if lost {
                    "lost".to_owned()
                } else {
                    format!("answered {status}")
                };
                say(&format!("{} {}: {became}", webhook.at, what.trim_end()));
            }
        }
    }
}
