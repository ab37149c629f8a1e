//! Webhooks are lost, late, repeated and too large, for longer than GitHub keeps them. Recovery and
//! polling repair that: in the end the facts are those of the fake GitHub's world.
//!
//! `TALLYHOOK_LOSSY=SEEDS,PULLS` sets the number of worlds and of their pull requests; the default
//! is a few small ones.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tallyhook::config::Config;
use tallyhook::sync::fetch;
use tallyhook::sync::poller::Poller;
use tallyhook::sync::recover;
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::Client;
use tallyhook_github_client::hooks::HookOwner;

use testkit::github::growth::Growth;
use testkit::github::world::{PullRequest, Reviewer, TimelineEntry, TimelineEvent, Webhook};
use testkit::github::{FakeGithub, Sending};
use testkit::payloads::Account;
use testkit::{SECRET, TestServer};

const REPO: &str = "acme-corp/api-server";
const REPO_ID: i64 = 1_900_000_001;
const HOOK: i64 = 41;
/// Rounds of the poller after which everything must be repaired.
const ROUNDS: usize = 2;
/// The time for which GitHub keeps deliveries.
const REMEMBERED: TimeDelta = TimeDelta::days(3);
const AT_ONCE: usize = 8;

/// Returns the number of worlds and of pull requests in each.
fn size() -> (u64, usize) {
    let Ok(setting) = std::env::var("TALLYHOOK_LOSSY") else {
        return (3, 40);
    };
    let (seeds, pulls) = setting
        .split_once(',')
        .expect("TALLYHOOK_LOSSY is SEEDS,PULLS");
    (seeds.parse().unwrap(), pulls.parse().unwrap())
}

/// Returns the fate of each webhook, in the order in which they are sent; some are sent twice.
fn fates(
    webhooks: Vec<Webhook>,
    now: DateTime<Utc>,
    random: &mut StdRng,
) -> Vec<(Webhook, Sending)> {
    let outage = now - TimeDelta::days(20)..now - TimeDelta::days(12);
    let mut fates = Vec::new();
    for webhook in webhooks {
        let sending = match random.random_range(0..100) {
            _ if outage.contains(&webhook.at.to_utc()) => Sending::Fails(502),
            0..25 => Sending::Fails(504),
            25..30 => Sending::Dropped,
            30..32 => Sending::TooLarge,
            _ => Sending::Posted,
        };
        if sending == Sending::Posted && random.random_bool(0.1) {
            fates.push((webhook.clone(), sending));
        }
        fates.push((webhook, sending));
    }
    fates.shuffle(random);
    fates
}

/// Recovers the deliveries that GitHub still has, and polls two rounds.
async fn repair(server: &mut TestServer, client: &Client, now: DateTime<Utc>) {
    let store = server.running.store.clone();
    let owner = HookOwner::repository(REPO).unwrap();
    let asked = recover::RecoveryRequest {
        owner,
        hook: Some(HOOK),
        since: now - REMEMBERED,
    };
    let report = recover::recover_deliveries(client, &store, &asked, |_, _| {})
        .await
        .unwrap();
    assert_eq!(
        (
            report.recovered + report.already_here + report.unused,
            report.not_fetched.len()
        ),
        (report.failed, 0)
    );
    let settings = Config::new(&Default::default()).ok().unwrap().sync;
    let poller = Poller {
        client: client.clone(),
        store,
        settings,
        default_repository: Some(REPO.to_owned()),
    };
    for _ in 0..ROUNDS {
        let round = poller.round(false).await.unwrap();
        for polled in &round.repositories {
            assert_eq!(polled.failure(), None);
        }
        server.drained().await;
    }
}

fn login(account: Option<&Account>) -> &str {
    account.map_or("ghost", |account| account.login.as_str())
}

/// Returns a pull request of the world in the form of our API.
fn expected(pull: &PullRequest) -> Value {
    let pr = &pull.pr;
    let state = match (&pr.merged_at, pull.is_open()) {
        (Some(_), _) => "merged",
        (None, true) => "open",
        (None, false) => "closed",
    };
    let mut labels: Vec<_> = pr.labels.iter().map(|label| label.name.clone()).collect();
    labels.sort_unstable();
    json!({
        "number": pr.number,
        "github_pr_id": pr.id,
        "title": pr.title,
        "author": login(pr.author.as_ref()),
        "state": state,
        "draft": pr.draft,
        "html_url": pr.html_url(),
        "base_ref": pr.base_ref,
        "head_ref": pr.head_ref,
        "head_sha": pr.head_sha,
        "labels": labels,
        "pr_created_at": pr.created_at,
        "updated_at": pr.updated_at,
        "closed_at": pr.closed_at,
        "merged_at": pr.merged_at,
        "additions": pr.additions,
        "deletions": pr.deletions,
        "changed_files": pr.changed_files,
        "commits": pr.commits,
        "reviews": reviews(pull),
        "timeline": timeline(pull),
    })
}

/// Returns the reviews of a pull request by their id.
fn reviews(pull: &PullRequest) -> BTreeMap<i64, Value> {
    let reviews = pull.reviews.iter().map(|review| {
        let before = pull
            .timeline
            .iter()
            .find_map(|happening| match &happening.what {
                TimelineEvent::Dismissed(id, before) if *id == review.id => Some(before),
                _ => None,
            });
        let review_json = json!({
            "reviewer": login(review.reviewer.as_ref()),
            "state": review.state,
            "original_state": before.unwrap_or(&review.state),
            "submitted_at": review.submitted_at,
        });
        (review.id, review_json)
    });
    reviews.collect()
}

/// Returns the timeline entries that both webhooks and the API contain, without duplicates, in a
/// canonical order.
fn timeline(pull: &PullRequest) -> Vec<String> {
    // Entries that differ only in their actor are one fact, because two within a second cannot be
    // distinguished. Comments have ids.
    let mut acts: BTreeMap<(String, &str, Option<String>, usize), Option<&Account>> =
        BTreeMap::new();
    let opened_as = pull.opened_as_draft.then(|| "draft".to_owned());
    acts.insert(
        (pull.pr.created_at.clone(), "opened", opened_as, 0),
        pull.pr.author.as_ref(),
    );
    for (
        place,
        TimelineEntry {
            at, actor, what, ..
        },
    ) in pull.timeline.iter().enumerate()
    {
        let reviewer = |reviewer: &Reviewer| match reviewer {
            Reviewer::Account(account) => account.login.clone(),
            Reviewer::Team(team) => team.slug.clone(),
        };
        let (kind, detail) = match what {
            TimelineEvent::ReadyForReview => ("ready_for_review", None),
            TimelineEvent::ConvertedToDraft => ("converted_to_draft", None),
            TimelineEvent::Requested(asked) => ("review_requested", Some(reviewer(asked))),
            TimelineEvent::RequestRemoved(asked) => {
                ("review_request_removed", Some(reviewer(asked)))
            }
            TimelineEvent::Commented(_) => ("commented", None),
            TimelineEvent::Enqueued => ("enqueued", None),
            TimelineEvent::Dequeued(reason) => ("dequeued", Some((*reason).to_owned())),
            TimelineEvent::Merged => ("merged", None),
            TimelineEvent::Closed => ("closed", None),
            TimelineEvent::Reopened => ("reopened", None),
            _ => continue,
        };
        let own = if kind == "commented" { place + 1 } else { 0 };
        let known = acts.entry((at.to_string(), kind, detail, own)).or_default();
        // A known account wins over a deleted one, and of two accounts the one with the greater id.
        *known = (*known)
            .into_iter()
            .chain(actor)
            .max_by_key(|account| account.id);
    }
    let lines = acts
        .iter()
        .map(|((at, kind, detail, _), actor)| entry(at, kind, login(*actor), detail.as_deref()));
    let mut entries: Vec<_> = lines.collect();
    entries.sort_unstable();
    entries
}

fn entry(at: &str, kind: &str, actor: &str, detail: Option<&str>) -> String {
    format!("{at} {kind} by {actor} {}", detail.unwrap_or_default())
}

/// Returns the comparable part of our API's answer.
fn found(answer: &Value, expected: &Value) -> Value {
    let mut found = answer.clone();
    let fields = expected.as_object().unwrap();
    found
        .as_object_mut()
        .unwrap()
        .retain(|name, _| fields.contains_key(name));
    let reviews = answer["reviews"].as_array().unwrap().iter().map(|review| {
        let fields = ["reviewer", "state", "original_state", "submitted_at"];
        let kept: Value = fields
            .iter()
            .map(|field| ((*field).to_owned(), review[field].clone()))
            .collect();
        (review["github_review_id"].as_i64().unwrap(), kept)
    });
    found["reviews"] = json!(reviews.collect::<BTreeMap<_, _>>());
    let kinds = [
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
    let known = answer["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| {
            let text = |name: &str| item[name].as_str();
            let kind = text("type").filter(|kind| kinds.contains(kind))?;
            Some(entry(
                text("at")?,
                kind,
                text("actor").unwrap_or("nobody"),
                text("detail"),
            ))
        });
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    found["timeline"] = json!(known);
    found
}

/// Returns the numbers of the pull requests that differ from the world, with the differences.
async fn differences(server: &TestServer, github: &FakeGithub) -> Vec<String> {
    let expected: Vec<_> = github.world(|world| {
        world
            .repository(REPO)
            .pulls
            .values()
            .map(expected)
            .collect()
    });
    let mut differences = Vec::new();
    for expected in expected {
        let number = &expected["number"];
        let (status, answer) = server.get(&format!("/api/repos/{REPO}/prs/{number}")).await;
        if status != 200 {
            differences.push(format!("#{number}: {status}"));
            continue;
        }
        let found = found(&answer, &expected);
        for (field, value) in expected.as_object().unwrap() {
            if found[field] != *value {
                differences.push(format!(
                    "#{number} {field}: {} in place of {value}",
                    found[field]
                ));
            }
        }
    }
    differences
}

/// Runs a world of `seed`. Returns the differences at the end.
async fn run_world(seed: u64, pulls: usize) -> Vec<String> {
    let mut server = TestServer::start().await;
    let github = FakeGithub::start().await;
    let (client, _) = github.client();
    let now = Utc::now();
    github.add_repository(REPO_ID, REPO);
    github.add_hook(
        HOOK,
        &format!("repos/{REPO}"),
        &format!("{}/webhooks/github", server.url),
        SECRET,
    );
    // Tracked from before the first pull request was opened, because earlier ones are left to a
    // backfill.
    let repository = fetch::observed_repository(RepoId(REPO_ID), REPO.to_owned(), Some(false));
    assert!(
        server
            .running
            .store
            .track(&repository, now - TimeDelta::days(61))
            .await
            .unwrap()
    );

    // A round without a request leaves younger changes to webhooks.
    let growth = Growth {
        seed,
        pulls,
        ties: true,
        until: (now - TimeDelta::minutes(2)).into(),
    };
    let webhooks = github.world(|world| world.grow(REPO, growth));
    let fates = fates(webhooks, now, &mut StdRng::seed_from_u64(seed));
    stream::iter(fates)
        .for_each_concurrent(AT_ONCE, |(webhook, sending)| {
            let github = &github;
            async move {
                let status = github.send(HOOK, &webhook, sending).await;
                assert!(
                    sending != Sending::Posted || [200, 202].contains(&status),
                    "{} {status}",
                    webhook.event
                );
            }
        })
        .await;
    github.forget_before(HOOK, now - REMEMBERED);
    server.drained().await;
    assert!(
        differences(&server, &github).await.len() > pulls / 4,
        "hardly anything was lost"
    );

    repair(&mut server, &client, now).await;
    let differences = differences(&server, &github).await;
    server.stop().await;
    github.stop().await;
    differences
}

#[tokio::test]
async fn lost_changes_are_repaired_by_recovery_and_polling() {
    let (seeds, pulls) = size();
    let mut wrong = Vec::new();
    for seed in 0..seeds {
        wrong.extend(
            run_world(seed, pulls)
                .await
                .into_iter()
                .map(|difference| format!("seed {seed} {difference}")),
        );
    }
    assert!(
        wrong.is_empty(),
        "{} differences\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
