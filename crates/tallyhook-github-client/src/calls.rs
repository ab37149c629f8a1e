//! A record of every request to GitHub, for the audit.
//!
//! The records go through a bounded channel. A change is announced before it is sent, and is not
//! sent before its record is stored, so that a crash leaves evidence. Every other request has a
//! place in the channel before it is sent: while the channel is full the caller waits, and no record
//! is dropped, not even that of a request whose caller gave up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::error::GithubError;
use super::rate_limit;
use super::request::{ApiKind, ApiRequest};
use super::route::{route_of, shown_path_and_pages};

/// The longest id of a request that is kept.
const MAX_REQUEST_ID: usize = 100;

/// One request to GitHub; a retry is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GithubCall {
    /// The same when it is announced and when it has ended.
    pub id: Uuid,
    /// The time at which it was sent.
    pub at: DateTime<Utc>,
    /// The account whose credentials it had; `None` of those in the settings.
    pub account: Option<Arc<str>>,
    pub origin: CallOrigin,
    pub method: String,
    /// The path with names in place of values, such as `/repos/{owner}/{repo}/pulls/{id}`.
    pub route: String,
    /// The path without one-time codes, and of its query nothing but `page` and `per_page`.
    pub path: String,
    /// `rest`, `graphql` or `oauth`.
    pub kind: &'static str,
    /// It may change something at GitHub.
    pub is_mutation: bool,
    pub outcome: CallOutcome,
    pub duration_ms: u64,
    /// The number of this attempt at the request, from 1.
    pub attempt: u32,
    /// The bytes of its body.
    pub bytes_out: u64,
    /// The rest of the hour's allowance that the response announces.
    pub rate_remaining: Option<u64>,
    /// GitHub's id of the request.
    pub request_id: Option<String>,
}

/// The reason of a request, as its caller names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallOrigin {
    /// The team on whose behalf it is sent; `None` of the installation's own.
    pub team: Option<Arc<str>>,
    /// The user, token or part of the program that wants it, such as `system:poller`.
    pub actor: Option<Arc<str>>,
    /// The run or act that it belongs to.
    pub correlation: Option<Arc<str>>,
}

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// It is about to be sent. If nothing follows, it may have happened.
    Unknown,
    Answered {
        status: u16,
    },
    /// There is no usable response: `timeout`, `connection`, `broken`, `too_large`, `cancelled`.
    Failed {
        error: &'static str,
    },
}

/// A message to the store of the records.
#[derive(Debug)]
pub enum CallEvent {
    /// A change that is about to be sent. It is sent when `stored` is answered, and not at all if
    /// that is dropped.
    Announced {
        call: GithubCall,
        stored: oneshot::Sender<()>,
    },
    /// A request that is over; an announced one has the same id.
    Ended(GithubCall),
}

/// The sending end of the records.
#[derive(Clone, Debug)]
pub struct CallLog {
    events: mpsc::Sender<CallEvent>,
    waits: Arc<AtomicU64>,
}

/// A request that is under way, and its place in the channel.
pub(crate) struct CallInFlight {
    /// `None` without a log, and when the request is over.
    entry: Option<(OwnedPermit<CallEvent>, GithubCall)>,
    started: Instant,
}

impl CallLog {
    /// Returns a log and the receiver of its records, with room for `capacity` of them.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<CallEvent>) {
        let (events, receiver) = mpsc::channel(capacity);
        let waits = Arc::default();
        (Self { events, waits }, receiver)
    }

    /// Returns the number of requests that waited because the channel was full.
    pub fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Waits for a place in the channel; `None` after the receiver has ended.
    async fn place(&self) -> Option<OwnedPermit<CallEvent>> {
        match self.events.clone().try_reserve_owned() {
            Ok(place) => Some(place),
            Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(events)) => {
                self.waits.fetch_add(1, Ordering::Relaxed);
                events.reserve_owned().await.ok()
            }
        }
    }

    /// Announces a change, and waits until that is stored.
    async fn announce(&self, call: GithubCall) -> Option<()> {
        let (stored, is_stored) = oneshot::channel();
        // No place is held while another is waited for, which could wait for itself.
        let place = self.place().await?;
        place.send(CallEvent::Announced { call, stored });
        is_stored.await.ok()
    }
}

impl CallInFlight {
    /// Begins a request that nothing records.
    pub(crate) fn unrecorded() -> Self {
        Self {
            entry: None,
            started: Instant::now(),
        }
    }

    /// Begins a request: returns when it may be sent.
    ///
    /// # Errors
    /// [`GithubError::NotRecorded`] of a change whose record is not stored.
    pub(crate) async fn begin(log: &CallLog, call: GithubCall) -> Result<Self, GithubError> {
        let not_recorded = || GithubError::NotRecorded {
            path: call.path.clone(),
        };
        if call.is_mutation {
            log.announce(call.clone()).await.ok_or_else(not_recorded)?;
        }
        let place = match log.place().await {
            None if call.is_mutation => return Err(not_recorded()),
            // At the end of the process, when nothing stores records any more.
            None => None,
            Some(place) => Some((place, call)),
        };
        Ok(Self {
            entry: place,
            started: Instant::now(),
        })
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Ends a request with its outcome and the headers of its response.
    pub(crate) fn end(mut self, outcome: CallOutcome, headers: Option<&HeaderMap>) {
        if let Some((_, call)) = &mut self.entry {
            call.rate_remaining = headers.and_then(rate_limit::remaining);
            call.request_id = headers.and_then(request_id);
        }
        self.record(outcome);
    }

    fn record(&mut self, outcome: CallOutcome) {
        if let Some((place, mut call)) = self.entry.take() {
            call.outcome = outcome;
            let millis = self.started.elapsed().as_millis();
            call.duration_ms = u64::try_from(millis).unwrap_or(u64::MAX);
            place.send(CallEvent::Ended(call));
        }
    }
}

impl Drop for CallInFlight {
    /// Records a request whose caller gave up.
    fn drop(&mut self) {
        self.record(CallOutcome::Failed { error: "cancelled" });
    }
}

impl GithubCall {
    /// Describes a request before it is sent.
    pub(crate) fn new(
        request: &ApiRequest,
        url: &Url,
        (account, origin): (Option<Arc<str>>, CallOrigin),
        attempt: u32,
        at: DateTime<Utc>,
    ) -> Self {
        Self {
            id: Uuid::new_v4(),
            at,
            account,
            origin,
            method: request.method.to_string(),
            route: route_of(url),
            path: shown_path_and_pages(url),
            kind: request.api.label(),
            is_mutation: match &request.api {
                ApiKind::Graphql { .. } => !request.repeatable,
                ApiKind::Rest | ApiKind::Oauth => request.method != Method::GET,
            },
            outcome: CallOutcome::Unknown,
            duration_ms: 0,
            attempt,
            bytes_out: request.body.as_ref().map_or(0, |body| body.len()) as u64,
            rate_remaining: None,
            request_id: None,
        }
    }
}

/// Returns GitHub's id of a request, as support asks for it.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-github-request-id")?.to_str().ok()?.trim();
    (!id.is_empty() && id.len() <= MAX_REQUEST_ID).then(|| id.to_owned())
}
