//! Recovery of missed deliveries: failed ones are found in GitHub's list of delivery attempts,
//! fetched, and put into the inbox.
//!
//! GitHub keeps attempts for about three days and does not repeat one by itself. The fetched
//! payload is that of the missed webhook, so it is processed like any other delivery, by a server
//! that is running or by the next one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tallyhook_core::delivery::Lane;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::event;
use tallyhook_github_client::hooks::{DeliveryAttempt, HookOwner, WebhookInfo};
use tallyhook_github_client::{Client, GithubError};
use tallyhook_store::{AcceptOutcome, Delivery, NewState, Store};

use crate::incoming::{Classified, IncomingDelivery};
use crate::telemetry::record_dead_letter;

/// The path of this program's webhook endpoint, behind any prefix that a proxy adds.
const ENDPOINT: &str = "/webhooks/github";
/// Deliveries of one webhook that are held in memory, at about 200 bytes each.
const MAX_DELIVERIES: usize = 500_000;
/// The tolerance for the order of GitHub's list, which is latest first, but not documented to the
/// second.
const MARGIN: TimeDelta = TimeDelta::hours(1);

/// The deliveries to recover.
#[derive(Clone, Debug)]
pub struct RecoveryRequest {
    pub owner: HookOwner,
    /// Only this webhook. `None` selects those that post to an address like ours, or all if there
    /// is none.
    pub hook: Option<i64>,
    /// Earlier attempts are ignored.
    pub since: DateTime<Utc>,
}

/// The result of a recovery.
#[derive(Debug, Serialize)]
pub struct RecoveryReport {
    /// The webhooks whose deliveries were read; an App's webhook has no id and is `null`.
    pub hooks: Vec<Option<i64>>,
    /// RFC 3339.
    pub since: DateTime<Utc>,
    /// Attempts in GitHub's lists.
    pub listed: u64,
    /// Deliveries without a successful attempt.
    pub failed: u64,
    /// Of the failed: events that are not used, which were not fetched.
    pub unused: u64,
    /// Of the failed: deliveries that the inbox had already.
    pub already_here: u64,
    /// Of the failed: deliveries that are in the inbox now.
    pub recovered: u64,
    /// Of the recovered: dead letters, because they cannot be decoded.
    pub dead_letters: u64,
    /// Of the failed: deliveries that are still missing.
    pub not_fetched: Vec<MissingDelivery>,
    /// Requests to GitHub.
    pub github_requests: u64,
}

/// A delivery that is still missing.
#[derive(Debug, Serialize)]
pub struct MissingDelivery {
    pub guid: String,
    pub event: String,
    /// The time of the last attempt, RFC 3339.
    pub delivered_at: DateTime<Utc>,
    pub why: String,
}

/// The failed deliveries of one webhook.
struct FailedDeliveries {
    hook: Option<i64>,
    /// By their last attempt, oldest first.
    deliveries: Vec<FailedDelivery>,
}

/// A delivery without a successful attempt.
struct FailedDelivery {
    /// The last attempt, whose payload GitHub most likely still has.
    attempt: DeliveryAttempt,
    /// The time of the first attempt, which follows the event at once.
    first_at: DateTime<Utc>,
}

impl FailedDelivery {
    /// Returns the receipt to record. Events that have no time in their payload are dated by it: a
    /// recovered one must not undo what happened since.
    fn received_at(&self) -> DateTime<Utc> {
        match self.attempt.event.as_str() {
            "installation" | "installation_repositories" | "repository" => self.first_at,
            _ => Utc::now(),
        }
    }
}

/// The outcome for a failed delivery.
enum RecoveryOutcome {
    AlreadyHere,
    Unused,
    Stored { dead: bool },
}

/// Recovers the requested deliveries. Calls `progress` with the number of finished and of all
/// deliveries.
///
/// # Errors
/// If a list cannot be read, with the next step, or the database fails. Deliveries that cannot be
/// fetched are in the report.
pub async fn recover_deliveries(
    client: &Client,
    store: &Store,
    request: &RecoveryRequest,
    progress: impl Fn(u64, u64),
) -> anyhow::Result<RecoveryReport> {
    let hooks = match (request.hook, &request.owner) {
        (None, HookOwner::App) => vec![None],
        (None, owner) => our_hooks(
            &client
                .hooks(owner)
                .await
                .map_err(|error| with_required_rights(error, owner))?,
        ),
        (hook, _) => vec![hook],
    };
    if hooks.is_empty() {
        bail!(
            "{} has no webhook: there is nothing to recover from",
            request.owner
        );
    }
    let mut report = RecoveryReport {
        hooks,
        since: request.since,
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
        let failed = list_failed(client, request, hook, &mut report.listed)
            .await
            .map_err(|error| error.into_error(&request.owner))?;
        report.failed += failed.deliveries.len() as u64;
        fetch_all(client, store, request, failed, &mut report, &progress).await?;
    }
    report.github_requests = client.requests();
    Ok(report)
}

/// Returns the webhooks that post to an address like ours. If there is none, a proxy may rewrite
/// paths: then all are returned, because a delivery that another receiver missed is useful as well.
fn our_hooks(hooks: &[WebhookInfo]) -> Vec<Option<i64>> {
    let is_ours = |hook: &&WebhookInfo| {
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

/// The failure of reading a list of attempts.
enum DeliveryListError {
    Github(GithubError),
    TooLong,
}

impl DeliveryListError {
    fn into_error(self, owner: &HookOwner) -> anyhow::Error {
        match self {
            Self::Github(error) => with_required_rights(error, owner),
            Self::TooLong => {
                anyhow::anyhow!(
                    "GitHub lists more than {MAX_DELIVERIES} deliveries: ask for fewer days with \
                     --days"
                )
            }
        }
    }
}

/// Returns the deliveries of a webhook without a successful attempt.
async fn list_failed(
    client: &Client,
    request: &RecoveryRequest,
    hook: Option<i64>,
    listed: &mut u64,
) -> Result<FailedDeliveries, DeliveryListError> {
    let mut pages = client
        .delivery_attempts(&request.owner, hook)
        .map_err(DeliveryListError::Github)?;
    // Deliveries by GUID; `None` for one that succeeded.
    let mut deliveries: HashMap<String, Option<FailedDelivery>> = HashMap::new();
    while let Some(page) = pages
        .next::<DeliveryAttempt>()
        .await
        .map_err(DeliveryListError::Github)?
    {
        let is_past = !page.is_empty()
            && page
                .iter()
                .all(|attempt| attempt.delivered_at < request.since - MARGIN);
        for attempt in page
            .into_iter()
            .filter(|attempt| attempt.delivered_at >= request.since)
        {
            *listed += 1;
            match deliveries.entry(attempt.guid.clone()) {
                Entry::Vacant(entry) => {
                    let first_at = attempt.delivered_at;
                    let failed =
                        (!attempt.succeeded()).then_some(FailedDelivery { attempt, first_at });
                    entry.insert(failed);
                }
                Entry::Occupied(mut entry) if attempt.succeeded() => {
                    entry.insert(None);
                }
                // The first listed attempt is the latest one.
                Entry::Occupied(mut entry) => {
                    if let Some(failed) = entry.get_mut() {
                        failed.first_at = failed.first_at.min(attempt.delivered_at);
                    }
                }
            }
        }
        if deliveries.len() > MAX_DELIVERIES {
            return Err(DeliveryListError::TooLong);
        }
        if is_past {
            break;
        }
    }
    let mut deliveries: Vec<_> = deliveries.into_values().flatten().collect();
    deliveries.sort_by_key(|failed| (failed.attempt.delivered_at, failed.attempt.id));
    Ok(FailedDeliveries { hook, deliveries })
}

/// Fetches failed deliveries one by one, as GitHub's limits ask for, and so that only one payload
/// at a time is in memory.
async fn fetch_all(
    client: &Client,
    store: &Store,
    request: &RecoveryRequest,
    failed: FailedDeliveries,
    report: &mut RecoveryReport,
    progress: &impl Fn(u64, u64),
) -> anyhow::Result<()> {
    let all = failed.deliveries.len() as u64;
    // The failure that applies to all remaining deliveries, too.
    let mut stopped: Option<String> = None;
    for (done, delivery) in (1..).zip(failed.deliveries) {
        let why = match &stopped {
            Some(why) => why.clone(),
            None => match recover_one(client, store, request, failed.hook, &delivery).await? {
                Ok(recovered) => {
                    report.count(&recovered);
                    progress(done, all);
                    continue;
                }
                Err(PayloadError::Unusable(why)) => why.to_owned(),
                Err(PayloadError::Github(error)) => {
                    let why = error.to_string();
                    stopped = (!error.concerns_one_item()).then(|| why.clone());
                    why
                }
            },
        };
        let DeliveryAttempt {
            guid,
            event,
            delivered_at,
            ..
        } = delivery.attempt;
        report.not_fetched.push(MissingDelivery {
            guid,
            event,
            delivered_at,
            why,
        });
        progress(done, all);
    }
    Ok(())
}

impl RecoveryReport {
    fn count(&mut self, recovered: &RecoveryOutcome) {
        match recovered {
            RecoveryOutcome::AlreadyHere => self.already_here += 1,
            RecoveryOutcome::Unused => self.unused += 1,
            RecoveryOutcome::Stored { dead } => {
                self.recovered += 1;
                self.dead_letters += u64::from(*dead);
            }
        }
    }
}

/// The failure of fetching one payload.
enum PayloadError {
    Github(GithubError),
    Unusable(&'static str),
}

/// Recovers one delivery. The outer error is a failure of the database.
async fn recover_one(
    client: &Client,
    store: &Store,
    request: &RecoveryRequest,
    hook: Option<i64>,
    delivery: &FailedDelivery,
) -> anyhow::Result<Result<RecoveryOutcome, PayloadError>> {
    let attempt = &delivery.attempt;
    if !event::NAMES.contains(&attempt.event.as_str()) {
        return Ok(Ok(RecoveryOutcome::Unused));
    }
    let stored = store.deliveries_by_guid(&attempt.guid).await?;
    if stored.iter().any(|row| row.source != Source::Webhook) {
        return Ok(Ok(RecoveryOutcome::AlreadyHere));
    }
    let details = match client
        .delivery_details(&request.owner, hook, attempt.id)
        .await
    {
        Ok(details) => details,
        Err(error) => return Ok(Err(PayloadError::Github(error))),
    };
    let Some(payload) = details.payload() else {
        return Ok(Err(PayloadError::Unusable(
            "GitHub does not have its payload any more",
        )));
    };
    if is_stored(store, &stored, &attempt.event, payload.get().as_bytes()).await? {
        return Ok(Ok(RecoveryOutcome::AlreadyHere));
    }
    let incoming = IncomingDelivery {
        guid: attempt.guid.clone(),
        event: attempt.event.clone(),
        json: payload.get().as_bytes(),
        // Requested by us, like everything the poller finds, although the payload is the webhook's.
        source: Source::Poller,
        lane: Lane::Live,
        received_at: delivery.received_at(),
    };
    let delivery = match incoming.classify().context("cannot compress a payload")? {
        Classified::Unsubscribed => return Ok(Ok(RecoveryOutcome::Unused)),
        Classified::NotJson => {
            return Ok(Err(PayloadError::Unusable("its payload is not valid JSON")));
        }
        Classified::Delivery(delivery, _) => delivery,
    };
    let state = delivery.state.clone();
    let (AcceptOutcome::Stored(id) | AcceptOutcome::Requeued(id)) = store.accept(*delivery).await?
    else {
        // GitHub or a person redelivered it in between.
        return Ok(Ok(RecoveryOutcome::AlreadyHere));
    };
    let dead = match &state {
        NewState::Dead { reason } | NewState::Misnamed { reason } => Some(reason),
        NewState::Pending { .. } | NewState::Ignored { .. } => None,
    };
    if let Some(reason) = dead {
        record_dead_letter(id.0, &attempt.guid, &attempt.event, reason);
    }
    Ok(Ok(RecoveryOutcome::Stored {
        dead: dead.is_some(),
    }))
}

/// Returns whether one of the webhooks of a GUID is this one. The header with the GUID is not
/// signed, so that a row may have it from another client. GitHub's API returns the JSON, but not the
/// bytes that were sent, so that the decoded events are compared.
async fn is_stored(
    store: &Store,
    rows: &[Delivery],
    event: &str,
    payload: &[u8],
) -> anyhow::Result<bool> {
    let wanted = event::decode(event, payload);
    for row in rows.iter().filter(|row| row.event == event) {
        let body = store.body(row.id).await?;
        let body = body.and_then(|body| body.decompress().ok());
        if body.is_some_and(|body| event::decode(event, &body) == wanted) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds the required rights to an error: without them GitHub answers as if nothing existed.
fn with_required_rights(error: GithubError, owner: &HookOwner) -> anyhow::Error {
    let lacks_rights = matches!(
        error,
        GithubError::NotFound { .. }
            | GithubError::Forbidden { .. }
            | GithubError::SsoRequired { .. }
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
        "cannot read the webhook deliveries of {owner}: GITHUB_TOKEN has to be of {scope}, or a \
         fine-grained token that \
         may read webhooks"
    ))
}
