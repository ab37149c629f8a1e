//! The floor of the client: one attempt at one request, with limits, circuit breaker and counts.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use metrics::{counter, gauge};
use parking_lot::Mutex;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, IF_NONE_MATCH,
    USER_AGENT,
};
use reqwest::{Response, Url};
use tokio::time::{Instant as Deadline, timeout_at};

use super::attempt::{AttemptContext, AttemptOutcome};
use super::base_url::ApiUrl;
use super::budget::RequestBudget;
use super::circuit_breaker::CircuitBreaker;
use super::classify::classify;
use super::classify_graphql::{self, QUERY_TIMEOUT};
use super::clock::Clock;
use super::error::GithubError;
use super::http::{BoundedBody, read_bounded, root_cause};
use super::rate_limit::{self, RateLimitBlocks};
use super::request::{ApiKind, ApiRequest, RequestAuth, transfer_time};
use super::response::{RawResponse, excerpt};
use super::statistics::RequestCounter;

/// Requests by kind (`rest`, `graphql`) and by result: GitHub's status, or `timeout`, `connection`,
/// `broken`, `too_large`.
pub const REQUESTS: &str = "tallyhook_github_requests_total";
/// The rest of the allowance, by resource.
pub const RATE_REMAINING: &str = "tallyhook_github_rate_remaining";

/// The time for a request and its response, without the bytes of large bodies.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The status label of a request without a response in time.
const TIMEOUT: &str = "timeout";

/// The connection to one GitHub, shared by everything that sends requests to it.
pub(crate) struct Transport {
    http: reqwest::Client,
    pub(crate) api: ApiUrl,
    pub(crate) clock: Clock,
    timeout: Duration,
    pub(crate) blocks: RateLimitBlocks,
    /// The earliest time of the next write.
    pub(crate) next_write: Mutex<Option<DateTime<Utc>>>,
    pub(crate) breaker: Mutex<CircuitBreaker>,
    pub(crate) budget: RequestBudget,
    pub(crate) counter: RequestCounter,
}

/// The result of sending a request, before its meaning is known.
enum TransferResult {
    Received(RawResponse),
    TooLarge,
    Broken {
        /// The metric label `status`.
        label: &'static str,
        reason: String,
        not_sent: bool,
    },
}

impl Transport {
    /// # Errors
    /// If TLS cannot be set up on this machine.
    pub(crate) fn new(api: ApiUrl, clock: Clock, timeout: Duration) -> anyhow::Result<Self> {
        let headers = [
            (
                ACCEPT,
                HeaderValue::from_static("application/vnd.github+json"),
            ),
            // GitHub refuses requests without one.
            (
                USER_AGENT,
                HeaderValue::from_static(concat!("tallyhook/", env!("CARGO_PKG_VERSION"))),
            ),
            (
                "X-GitHub-Api-Version".parse()?,
                HeaderValue::from_static("2022-11-28"),
            ),
        ];
        let http = reqwest::Client::builder()
            .default_headers(headers.into_iter().collect())
            // Followed here instead, since the token must not be sent to any other origin.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .build()?;
        Ok(Self {
            http,
            api,
            clock,
            timeout,
            blocks: RateLimitBlocks::default(),
            next_write: Mutex::default(),
            breaker: Mutex::default(),
            budget: RequestBudget::default(),
            counter: RequestCounter::default(),
        })
    }

    /// Makes one attempt. `unspecified` counts the rate limits of unspecified length before it.
    pub(crate) async fn try_once(
        &self,
        request: &ApiRequest,
        url: &Url,
        auth: &RequestAuth,
        unspecified: u32,
    ) -> AttemptOutcome {
        let started = Instant::now();
        let transfer = self.transfer(request, url, auth).await;
        self.record_request(request, url, &transfer, started);
        self.record_health(request, auth, &transfer);
        let response = match transfer {
            TransferResult::Received(response) => response,
            TransferResult::TooLarge => return too_large(request, url),
            TransferResult::Broken {
                label,
                reason,
                not_sent,
            } => return broken(request, label, reason, not_sent),
        };
        let context = AttemptContext {
            api: &self.api,
            request,
            url,
            auth,
            unspecified,
            now: self.clock.now(),
        };
        classify(&context, response)
    }

    async fn transfer(
        &self,
        request: &ApiRequest,
        url: &Url,
        auth: &RequestAuth,
    ) -> TransferResult {
        let mut builder = self.http.request(request.method.clone(), url.clone());
        if let Some(header) = &auth.header {
            builder = builder.header(AUTHORIZATION, header.clone());
        }
        if let Some(etag) = request.etag(auth) {
            builder = builder.header(IF_NONE_MATCH, etag);
        }
        if let Some(body) = &request.body {
            builder = builder
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        let deadline = Deadline::now() + self.timeout + request.upload_time();
        let mut response = match timeout_at(deadline, builder.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return TransferResult::failed(&error),
            Err(_) => return TransferResult::timed_out("no response"),
        };
        let deadline = deadline + download_time(&response, request.max_bytes);
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        match timeout_at(deadline, read_bounded(response, request.max_bytes)).await {
            Ok(Ok(BoundedBody {
                truncated: true, ..
            })) => TransferResult::TooLarge,
            Ok(Ok(BoundedBody { bytes, .. })) => TransferResult::Received(RawResponse {
                status,
                headers,
                body: bytes,
            }),
            Ok(Err(error)) => TransferResult::failed(&error),
            Err(_) => TransferResult::timed_out("the body did not end"),
        }
    }

    /// Counts a request and logs it, without its query and its content.
    fn record_request(
        &self,
        request: &ApiRequest,
        url: &Url,
        transfer: &TransferResult,
        started: Instant,
    ) {
        let response = transfer.response();
        self.counter
            .record(response.map(|response| response.status));
        let announced = response.and_then(|response| {
            Some((
                rate_limit::resource(&response.headers),
                rate_limit::remaining(&response.headers)?,
            ))
        });
        if let Some((resource, remaining)) = announced {
            gauge!(RATE_REMAINING, "resource" => resource)
                .set(f64::from(u32::try_from(remaining).unwrap_or(u32::MAX)));
        }
        let status = match transfer {
            TransferResult::Received(RawResponse { status, .. }) => status.as_str().to_owned(),
            TransferResult::TooLarge => "too_large".to_owned(),
            TransferResult::Broken { label, .. } => (*label).to_owned(),
        };
        tracing::debug!(
            http.method = %request.method,
            http.path = url.path(),
            http.status = status,
            duration_ms = started.elapsed().as_millis(),
            rate_limit.remaining = announced.map(|(_, remaining)| remaining),
            "requested {} {} of GitHub: {status}",
            request.method,
            url.path()
        );
        counter!(REQUESTS, "kind" => request.api.label(), "status" => status).increment(1);
    }

    /// Records the announced allowance, and success or failure for the circuit breaker.
    fn record_health(&self, request: &ApiRequest, auth: &RequestAuth, transfer: &TransferResult) {
        let now = self.clock.now();
        if let Some(RawResponse { headers, .. }) = transfer.response() {
            self.budget.record_headers(auth.principal, headers, now);
        }
        let is_graphql = matches!(request.api, ApiKind::Graphql { .. });
        let mut breaker = self.breaker.lock();
        match transfer {
            // A query that takes too long is a matter of the query, and no sign of an outage.
            TransferResult::Received(RawResponse { status, .. })
                if is_graphql && QUERY_TIMEOUT.contains(status) => {}
            TransferResult::Broken { label: TIMEOUT, .. } if is_graphql => {}
            TransferResult::Received(RawResponse { status, .. }) if status.is_server_error() => {
                breaker.record_failure(&format!("it answers {status}"), now);
            }
            TransferResult::Received(_) | TransferResult::TooLarge => breaker.record_success(),
            TransferResult::Broken { reason, .. } => breaker.record_failure(reason, now),
        }
    }
}

impl TransferResult {
    fn response(&self) -> Option<&RawResponse> {
        match self {
            Self::Received(response) => Some(response),
            Self::TooLarge | Self::Broken { .. } => None,
        }
    }

    fn timed_out(reason: &str) -> Self {
        Self::Broken {
            label: TIMEOUT,
            reason: format!("{reason} in time"),
            not_sent: false,
        }
    }

    fn failed(error: &reqwest::Error) -> Self {
        let (label, reason, not_sent) = if error.is_connect() {
            ("connection", "no connection", true)
        } else {
            ("broken", "the response broke off", false)
        };
        Self::Broken {
            label,
            reason: format!("{reason}: {}", excerpt(&root_cause(error))),
            not_sent,
        }
    }
}

/// Returns the additional time for the announced length of a body. A longer one than `max_bytes` is
/// not read.
fn download_time(response: &Response, max_bytes: usize) -> Duration {
    transfer_time(content_length(response.headers()).min(max_bytes as u64))
}

fn content_length(headers: &HeaderMap) -> u64 {
    headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or_default()
}

fn too_large(request: &ApiRequest, url: &Url) -> AttemptOutcome {
    let limit_mib = request.max_bytes / (1024 * 1024);
    match &request.api {
        _ if !request.repeatable => AttemptOutcome::Done(Err(GithubError::Unknown {
            path: request.subject(url).to_owned(),
            reason: format!("the response is larger than {limit_mib} MiB"),
        })),
        ApiKind::Rest => AttemptOutcome::Done(Err(GithubError::TooLarge {
            path: url.path().to_owned(),
            limit_mib,
        })),
        ApiKind::Graphql { subject } => {
            classify_graphql::too_much(subject, "the response is too large")
        }
    }
}

fn broken(request: &ApiRequest, label: &str, reason: String, not_sent: bool) -> AttemptOutcome {
    match &request.api {
        ApiKind::Graphql { subject } if label == TIMEOUT && request.repeatable => {
            classify_graphql::too_much(subject, &reason)
        }
        ApiKind::Graphql { .. } | ApiKind::Rest => AttemptOutcome::Failed {
            reason,
            not_sent,
            retry_after: None,
        },
    }
}
