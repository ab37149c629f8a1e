//! Sending one request until it is answered for good.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use metrics::{counter, gauge};
use rand::RngExt;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, IF_NONE_MATCH};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::SemaphorePermit;

use super::budget::Priority;
use super::installations::{Access, Bearer};
use super::meaning::{Ended, shortened, unexpected};
use super::{Client, GithubError, RATE_REMAINING, REQUESTS, Result, USUAL_BYTES, graphql, limits};

const REDIRECTS: u32 = 5;
/// Before the second try; doubled for each after it.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest that a server which is down for a while is obeyed.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);
/// The status of a request that was not answered in time.
const TIMEOUT: &str = "timeout";

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) body: Option<Vec<u8>>,
    /// What is known already of what is asked for.
    pub(super) known: Option<Known>,
    /// As whom an App asks.
    pub(super) access: Access,
    /// The most bytes that its answer may have.
    pub(super) largest: usize,
    pub(super) kind: Kind,
    /// It does no harm to ask twice.
    pub(super) repeatable: bool,
}

/// An answer of before.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) etag: String,
    /// The token that it was got with.
    pub(super) grant: u64,
}

/// By which rules it is answered.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Rest,
    Graphql {
        /// What it is about, in errors.
        of: String,
    },
}

impl Kind {
    /// As it is counted.
    const fn label(&self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Graphql { .. } => "graphql",
        }
    }

    /// The allowance that it counts against.
    const fn resource(&self) -> &'static str {
        match self {
            Self::Rest => "core",
            Self::Graphql { .. } => "graphql",
        }
    }
}

impl Call {
    pub(super) const fn get(access: Access) -> Self {
        Self {
            method: Method::GET,
            body: None,
            known: None,
            access,
            largest: USUAL_BYTES,
            kind: Kind::Rest,
            repeatable: true,
        }
    }

    /// The `ETag` of what is known, if it means something to who asks.
    pub(super) fn etag(&self, bearer: &Bearer) -> Option<&str> {
        self.known
            .as_ref()
            .filter(|known| known.grant == bearer.grant)
            .map(|known| known.etag.as_str())
    }
}

/// What GitHub answered for good.
#[derive(Debug)]
pub(super) struct Answer {
    /// Where it was, after redirects.
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The token that it was got with.
    pub(super) grant: u64,
    /// A 304: what the `ETag` names is still so.
    pub(super) unchanged: bool,
}

/// What came over the wire.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// The same, or why nothing did.
enum Received {
    Answered(Answered),
    TooLarge,
    Broken {
        label: &'static str,
        reason: String,
        harmless: bool,
    },
}

impl Client {
    /// Sends `call` until it is answered for good.
    pub(super) async fn execute(&self, call: Call, url: Url) -> Result<Answer> {
        let result = self.execute_to_the_end(&call, url).await;
        if let Err(error) = &result {
            self.shared.tally.came_to(error);
        }
        result
    }

    async fn execute_to_the_end(&self, call: &Call, mut url: Url) -> Result<Answer> {
        let (mut redirects, mut limited, mut untold, mut failed, mut refused) = (0, 0, 0, 0, 0);
        loop {
            let bearer = self.bearer(&call.access).await?;
            let Some(place) = self.place(call, &bearer).await? else {
                continue;
            };
            let ended = self.try_once(call, &url, &bearer, untold).await;
            drop(place);
            match ended {
                Ended::For(result) => return result,
                Ended::TokenRefused(error) => {
                    refused += 1;
                    self.forget(&bearer).await;
                    if refused > 1 {
                        return Err(error);
                    }
                }
                Ended::Moved(to) => {
                    redirects += 1;
                    if redirects > REDIRECTS {
                        return Err(unexpected(
                            &url,
                            "it leads from one address to another without end",
                        ));
                    }
                    url = to;
                }
                Ended::Limited(limit) => {
                    limited += 1;
                    untold += u32::from(limit.untold);
                    let until = self.close_for(limit.wait);
                    if limited >= self.tries {
                        return Err(GithubError::Limited { until });
                    }
                }
                Ended::Failed {
                    reason,
                    harmless,
                    wait,
                } => {
                    failed += 1;
                    // Whoever does not know whether a POST was done must not do it again.
                    if failed >= self.tries || !(harmless || call.repeatable) {
                        return Err(GithubError::Unreachable {
                            origin: self.shared.api.to_string(),
                            reason,
                        });
                    }
                    let backoff = BACKOFF * 2_u32.pow(failed - 1);
                    let jittered = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
                    self.shared
                        .clock
                        .wait(wait.map_or(jittered, |wait| wait.max(jittered).min(LONGEST_BACKOFF)))
                        .await;
                }
            }
        }
    }

    /// A place among the requests in flight; `None` after waiting for what stood in the way, be it all of it or not.
    async fn place(&self, call: &Call, bearer: &Bearer) -> Result<Option<SemaphorePermit<'_>>> {
        let place = self.shared.budget.place(self.priority).await;
        let now = self.shared.clock.now();
        let reserved = match self.priority {
            Priority::Live => None,
            Priority::Backfill => {
                self.shared
                    .budget
                    .reserved_for(bearer.whose, call.kind.resource(), now)
            }
        };
        let closed = self.closed_for(now)?;
        if let Some(wait) = closed.max(reserved) {
            drop(place);
            let seconds = wait.as_secs();
            match closed {
                Some(_) => tracing::warn!(seconds, "GitHub's rate limit is used up, waiting"),
                None => tracing::info!(
                    seconds,
                    "what is left of GitHub's rate limit is for live work, waiting"
                ),
            }
            self.shared.clock.wait(wait).await;
            return Ok(None);
        }
        let mut breaker = self.shared.breaker();
        match breaker.admit(now) {
            Ok(()) => Ok(place),
            Err(until) => {
                let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
                let reason = format!("{}, nothing is asked before {until}", breaker.reason());
                Err(GithubError::Unreachable {
                    origin: self.shared.api.to_string(),
                    reason,
                })
            }
        }
    }

    /// How long a limit that was met lasts, unless that is too long to be waited for.
    fn closed_for(&self, now: DateTime<Utc>) -> Result<Option<Duration>> {
        let until = *self
            .shared
            .closed_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(until) = until.filter(|until| *until > now) else {
            return Ok(None);
        };
        let wait = (until - now).to_std().unwrap_or_default();
        if wait > limits::LONGEST {
            Err(GithubError::Limited { until })
        } else {
            Ok(Some(wait))
        }
    }

    /// Lets nobody ask for so long; tells until when.
    fn close_for(&self, wait: Duration) -> DateTime<Utc> {
        let until = self.shared.clock.now() + wait;
        let mut closed = self
            .shared
            .closed_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let until = closed.map_or(until, |known| known.max(until));
        *closed = Some(until);
        until
    }

    async fn try_once(&self, call: &Call, url: &Url, bearer: &Bearer, untold: u32) -> Ended {
        let started = Instant::now();
        let received = self.receive(call, url, bearer).await;
        self.tell(call, url, &received, started);
        self.learn(call, bearer, &received);
        match (received, &call.kind) {
            (Received::Answered(answered), _) => self.meaning(call, url, answered, bearer, untold),
            (Received::TooLarge, Kind::Rest) => Ended::For(Err(GithubError::TooLarge {
                path: url.path().to_owned(),
                limit_mib: call.largest / (1024 * 1024),
            })),
            (Received::TooLarge, Kind::Graphql { of }) => {
                graphql::too_much(of, "the answer is too large")
            }
            (
                Received::Broken {
                    label: TIMEOUT,
                    reason,
                    ..
                },
                Kind::Graphql { of },
            ) => graphql::too_much(of, &reason),
            (
                Received::Broken {
                    reason, harmless, ..
                },
                _,
            ) => Ended::Failed {
                reason,
                harmless,
                wait: None,
            },
        }
    }

    async fn receive(&self, call: &Call, url: &Url, bearer: &Bearer) -> Received {
        let mut request = self
            .shared
            .http
            .request(call.method.clone(), url.clone())
            .header(AUTHORIZATION, bearer.header());
        if let Some(etag) = call.etag(bearer) {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(body) = &call.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return broken(&error),
        };
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        match read(response, call.largest).await {
            Ok(Some(body)) => Received::Answered(Answered {
                status,
                headers,
                body,
            }),
            Ok(None) => Received::TooLarge,
            Err(error) => broken(&error),
        }
    }

    /// Counts a request and logs it, without its query and without anything that it carries.
    fn tell(&self, call: &Call, url: &Url, received: &Received, started: Instant) {
        let (status, headers) = match received {
            Received::Answered(Answered {
                status, headers, ..
            }) => (Some(*status), Some(headers)),
            Received::TooLarge | Received::Broken { .. } => (None, None),
        };
        self.shared.tally.count(status);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let remaining = headers.and_then(limits::remaining);
        if let Some((remaining, headers)) = remaining.zip(headers) {
            gauge!(RATE_REMAINING, "resource" => limits::resource(headers))
                .set(f64::from(u32::try_from(remaining).unwrap_or(u32::MAX)));
        }
        let status = match received {
            Received::Answered(Answered { status, .. }) => status.as_str().to_owned(),
            Received::TooLarge => "too_large".to_owned(),
            Received::Broken { label, .. } => (*label).to_owned(),
        };
        tracing::debug!(
            method = %call.method,
            path = url.path(),
            status,
            duration_ms = started.elapsed().as_millis(),
            remaining,
            "asked GitHub"
        );
        counter!(REQUESTS, "kind" => call.kind.label(), "status" => status).increment(1);
    }

    /// Notes what an answer tells of those to come.
    fn learn(&self, call: &Call, bearer: &Bearer, received: &Received) {
        let now = self.shared.clock.now();
        if let Received::Answered(Answered { headers, .. }) = received {
            self.shared.budget.learn(bearer.whose, headers, now);
        }
        let mut breaker = self.shared.breaker();
        match received {
            // That is about the query, and says nothing of others.
            Received::Answered(Answered { status, .. })
                if matches!(call.kind, Kind::Graphql { .. })
                    && graphql::TOO_LONG.contains(status) => {}
            Received::Answered(Answered { status, .. }) if status.is_server_error() => {
                breaker.failed(&format!("it answers {status}"), now);
            }
            Received::Broken { label: TIMEOUT, .. }
                if matches!(call.kind, Kind::Graphql { .. }) => {}
            Received::Answered(_) | Received::TooLarge => breaker.answered(),
            Received::Broken { reason, .. } => breaker.failed(reason, now),
        }
    }
}

/// The whole body, or `None` if it has more than `largest` bytes.
async fn read(mut response: Response, largest: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > largest {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn broken(error: &reqwest::Error) -> Received {
    let (label, reason, harmless) = if error.is_connect() {
        ("connection", "no connection", true)
    } else if error.is_timeout() {
        (TIMEOUT, "no answer in time", false)
    } else {
        ("broken", "the answer broke off", false)
    };
    // The cause at the bottom says what is wrong; those above it repeat the address.
    let mut cause: &dyn std::error::Error = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    Received::Broken {
        label,
        reason: format!("{reason}: {}", shortened(&cause.to_string())),
        harmless,
    }
}
