//! Deliveries that GitHub could not hand over: found in its list of attempts, fetched, and put into the inbox.
//!
//! GitHub remembers attempts for about three days and does not repeat one by itself. What is fetched is the webhook
//! that was missed, so that it goes the way of any other from here on, and a server that is running takes it up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::event;
use tallyhook_github_client::hooks::{Attempt, Hook, HookOwner};
use tallyhook_github_client::{Client, GithubError};
use tallyhook_store::{AcceptOutcome, NewState, Store};

use crate::incoming::{Classified, IncomingDelivery};
use crate::telemetry::tell_dead;

/// Where webhooks of this program come in, whatever proxy is in front.
const ENDPOINT: &str = "/webhooks/github";
/// Deliveries of one hook that are kept in mind at once, at about 200 bytes each.
const MOST: usize = 500_000;
/// GitHub lists the latest first, but nobody promises it to the second.
const MARGIN: TimeDelta = TimeDelta::hours(1);

/// What is to be recovered.
#[derive(Clone, Debug)]
pub struct Asked {
    pub owner: HookOwner,
    /// This webhook alone. Else those that post to an address like ours, or all where there is none such.
    pub hook: Option<i64>,
    /// Attempts of before are left alone.
    pub since: DateTime<Utc>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The webhooks whose deliveries were looked at; an App's has no id, and is `null`.
    pub hooks: Vec<Option<i64>>,
    /// RFC 3339.
    pub since: DateTime<Utc>,
    /// Attempts that GitHub lists.
    pub listed: u64,
    /// Deliveries none of whose attempts succeeded.
    pub failed: u64,
    /// Of these: events that are not used here, and were not fetched.
    pub unused: u64,
    /// Of these: those that the inbox had already.
    pub already_here: u64,
    /// Of these: those that are in the inbox now.
    pub recovered: u64,
    /// Of the recovered: those that are dead letters, since they cannot be decoded.
    pub dead_letters: u64,
    /// Of the failed: those that are still missing.
    pub not_fetched: Vec<NotFetched>,
    /// What all of this cost.
    pub github_requests: u64,
}

/// A delivery that is still missing.
#[derive(Debug, Serialize)]
pub struct NotFetched {
    pub guid: String,
    pub event: String,
    /// The last attempt, RFC 3339.
    pub delivered_at: DateTime<Utc>,
    pub why: String,
}

/// Deliveries that failed, of one webhook.
struct Failed {
    hook: Option<i64>,
    /// Oldest first.
    attempts: Vec<Attempt>,
}

/// What became of one that failed.
enum Recovered {
    AlreadyHere,
    Unused,
    Stored { dead: bool },
}

/// Recovers what `asked` tells; calls `progress` with how many are done, of how many.
///
/// # Errors
/// If the list cannot be had, in words that say what to do, or the database fails. What cannot be fetched of the list
/// is no error, but told in the report.
pub async fn run(
    client: &Client,
    store: &Store,
    asked: &Asked,
    progress: impl Fn(u64, u64),
) -> anyhow::Result<Report> {
    let hooks = match (asked.hook, &asked.owner) {
        (None, HookOwner::App) => vec![None],
        (None, owner) => our_hooks(
            &client
                .hooks(owner)
                .await
                .map_err(|error| told(error, owner))?,
        ),
        (hook, _) => vec![hook],
    };
    if hooks.is_empty() {
        bail!(
            "{} has no webhook: there is nothing to recover from",
            asked.owner
        );
    }
    let mut report = Report {
        hooks,
        since: asked.since,
        listed: 0,
        failed: 0,
        unused: 0,
        already_here: 0,
        recovered: 0,
        dead_letters: 0,
        not_fetched: Vec::new(),
        github_requests: 0,
    };
    for hook in report.hooks.clone() {
        let failed = failed(client, asked, hook, &mut report.listed)
            .await
            .map_err(|error| error.of(&asked.owner))?;
        report.failed += failed.attempts.len() as u64;
        fetch(client, store, asked, failed, &mut report, &progress).await?;
    }
    report.github_requests = client.requests();
    Ok(report)
}

/// Those that post to an address like ours. A proxy may have given it another: then all, since what one of them missed
/// is of interest whoever it was for.
fn our_hooks(hooks: &[Hook]) -> Vec<Option<i64>> {
    let is_ours = |hook: &&Hook| {
        hook.config
            .url
            .as_deref()
            .is_some_and(|url| url.ends_with(ENDPOINT))
    };
    let ours: Vec<_> = hooks
        .iter()
        .filter(is_ours)
        .map(|hook| Some(hook.id))
        .collect();
    if ours.is_empty() {
        hooks.iter().map(|hook| Some(hook.id)).collect()
    } else {
        ours
    }
}

/// Why there is no list.
enum NoList {
    Github(GithubError),
    TooLong,
}

impl NoList {
    fn of(self, owner: &HookOwner) -> anyhow::Error {
        match self {
            Self::Github(error) => told(error, owner),
            Self::TooLong => {
                anyhow::anyhow!(
                    "GitHub lists more than {MOST} deliveries: ask for fewer days with --days"
                )
            }
        }
    }
}

/// The deliveries of a webhook that never succeeded.
async fn failed(
    client: &Client,
    asked: &Asked,
    hook: Option<i64>,
    listed: &mut u64,
) -> Result<Failed, NoList> {
    let mut pages = client
        .attempts(&asked.owner, hook)
        .map_err(NoList::Github)?;
    // `None` is a delivery that succeeded.
    let mut known: HashMap<String, Option<Attempt>> = HashMap::new();
    while let Some(page) = pages.next::<Attempt>().await.map_err(NoList::Github)? {
        let is_past = !page.is_empty()
            && page
                .iter()
                .all(|attempt| attempt.delivered_at < asked.since - MARGIN);
        for attempt in page
            .into_iter()
            .filter(|attempt| attempt.delivered_at >= asked.since)
        {
            *listed += 1;
            match known.entry(attempt.guid.clone()) {
                Entry::Vacant(place) => {
                    place.insert((!attempt.succeeded()).then_some(attempt));
                }
                Entry::Occupied(mut place) if attempt.succeeded() => {
                    place.insert(None);
                }
                // The first that is listed is the latest, of which GitHub is the likeliest to have the body still.
                Entry::Occupied(_) => {}
            }
        }
        if known.len() > MOST {
            return Err(NoList::TooLong);
        }
        if is_past {
            break;
        }
    }
    let mut attempts: Vec<_> = known.into_values().flatten().collect();
    attempts.sort_by_key(|attempt| (attempt.delivered_at, attempt.id));
    Ok(Failed { hook, attempts })
}

/// Fetches one after the other, as GitHub wants it, so that one body at a time is in memory.
async fn fetch(
    client: &Client,
    store: &Store,
    asked: &Asked,
    failed: Failed,
    report: &mut Report,
    progress: &impl Fn(u64, u64),
) -> anyhow::Result<()> {
    let all = failed.attempts.len() as u64;
    // What stands in the way of all that are left.
    let mut stopped: Option<String> = None;
    for (done, attempt) in (1..).zip(failed.attempts) {
        let why = match &stopped {
            Some(why) => why.clone(),
            None => match recover(client, store, asked, failed.hook, &attempt).await? {
                Ok(recovered) => {
                    report.count(&recovered);
                    progress(done, all);
                    continue;
                }
                Err(NotGot::Payload(why)) => why.to_owned(),
                Err(NotGot::Answer(error)) => {
                    let why = error.to_string();
                    stopped = (!error.is_about_one()).then(|| why.clone());
                    why
                }
            },
        };
        let Attempt {
            guid,
            event,
            delivered_at,
            ..
        } = attempt;
        report.not_fetched.push(NotFetched {
            guid,
            event,
            delivered_at,
            why,
        });
        progress(done, all);
    }
    Ok(())
}

impl Report {
    fn count(&mut self, recovered: &Recovered) {
        match recovered {
            Recovered::AlreadyHere => self.already_here += 1,
            Recovered::Unused => self.unused += 1,
            Recovered::Stored { dead } => {
                self.recovered += 1;
                self.dead_letters += u64::from(*dead);
            }
        }
    }
}

/// Why the body of one was not got.
enum NotGot {
    Answer(GithubError),
    Payload(&'static str),
}

async fn recover(
    client: &Client,
    store: &Store,
    asked: &Asked,
    hook: Option<i64>,
    attempt: &Attempt,
) -> anyhow::Result<Result<Recovered, NotGot>> {
    if !event::NAMES.contains(&attempt.event.as_str()) {
        return Ok(Ok(Recovered::Unused));
    }
    // By the GUID alone: GitHub's list has the JSON, and not the bytes that were sent.
    if !store.deliveries_by_guid(&attempt.guid).await?.is_empty() {
        return Ok(Ok(Recovered::AlreadyHere));
    }
    let carried = match client.carried(&asked.owner, hook, attempt.id).await {
        Ok(carried) => carried,
        Err(error) => return Ok(Err(NotGot::Answer(error))),
    };
    let Some(payload) = carried.payload() else {
        return Ok(Err(NotGot::Payload("GitHub has its payload no more")));
    };
    let incoming = IncomingDelivery {
        guid: attempt.guid.clone(),
        event: attempt.event.clone(),
        json: payload.get().as_bytes(),
        // It came by our asking, like all that the poller finds; what it tells is the webhook that was sent.
        source: Source::Poller,
        lane: Lane::Live,
        received_at: Utc::now(),
    };
    let delivery = match incoming
        .classify()
        .context("there is no memory to compress a payload")?
    {
        Classified::Unsubscribed => return Ok(Ok(Recovered::Unused)),
        Classified::NotJson => {
            return Ok(Err(NotGot::Payload(
                "its payload is no JSON that can be read",
            )));
        }
        Classified::Delivery(delivery, _) => delivery,
    };
    let state = delivery.state.clone();
    Ok(Ok(match store.accept(*delivery).await? {
        // It came by itself in the meantime.
        AcceptOutcome::Duplicate | AcceptOutcome::Requeued(_) => Recovered::AlreadyHere,
        AcceptOutcome::Stored(id) => {
            if let NewState::Dead { reason } = &state {
                tell_dead(id.0, &attempt.guid, &attempt.event, reason);
            }
            Recovered::Stored {
                dead: matches!(state, NewState::Dead { .. }),
            }
        }
    }))
}

/// Without the rights GitHub says that there is nothing; here it is known what is asked for, and what it takes.
fn told(error: GithubError, owner: &HookOwner) -> anyhow::Error {
    let lacks_rights = matches!(
        error,
        GithubError::NotFound { .. } | GithubError::Forbidden { .. }
    );
    let error = anyhow::Error::new(error);
    if !lacks_rights {
        return error;
    }
    let scope = match owner {
        HookOwner::Repository(..) => {
            "an administrator of the repository, with the scope `admin:repo_hook`"
        }
        HookOwner::Organization(_) => {
            "an owner of the organisation, with the scope `admin:org_hook`"
        }
        HookOwner::App => {
            return error.context(
                "cannot read the deliveries of the App: it needs an active webhook of its own",
            );
        }
    };
    error.context(format!(
        "cannot read the webhook deliveries of {owner}: GITHUB_TOKEN has to be of {scope}, or a fine-grained token that \
         may read webhooks"
    ))
}
