//! The floor of the client: one attempt at one request, with limits, circuit breaker and counts.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::counter;
use parking_lot::Mutex;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, IF_NONE_MATCH,
    USER_AGENT,
};
use reqwest::{Response, Url};
use tokio::time::{Instant as Deadline, timeout_at};

use super::account::AccountLimits;
use super::attempt::{AttemptContext, AttemptOutcome};
use super::base_url::ApiUrl;
use super::calls::{CallInFlight, CallLog, CallOrigin, CallOutcome, GithubCall};
use super::circuit_breaker::CircuitBreaker;
use super::classify::classify;
use super::classify_graphql::{self, QUERY_TIMEOUT};
use super::clock::Clock;
use super::error::GithubError;
use super::http::{BoundedBody, read_bounded, root_cause};
use super::rate_gauge::RateGauge;
use super::request::{ApiKind, ApiRequest, Principal, RequestAuth, transfer_time};
use super::response::{RawResponse, excerpt};
use super::route::shown_path;
use super::statistics::RequestCounter;

/// Requests by kind (`rest`, `graphql`) and by result: GitHub's status, or `timeout`, `connection`,
/// `broken`, `too_large`.
pub const REQUESTS: &str = "tallyhook_github_requests_total";

/// The time for a request and its response, without the bytes of large bodies.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The status label of a request without a response in time.
const TIMEOUT: &str = "timeout";
/// That of a response that is larger than any that is expected.
const TOO_LARGE: &str = "too_large";

/// The connection to one GitHub, shared by all its accounts.
pub(crate) struct Transport {
    http: reqwest::Client,
    pub(crate) api: ApiUrl,
    pub(crate) clock: Clock,
    timeout: Duration,
    pub(crate) breaker: Mutex<CircuitBreaker>,
    pub(crate) counter: RequestCounter,
    pub(crate) gauge: Arc<RateGauge>,
    /// The limits of requests that no account is counted for: those without credentials, and those
    /// of an App's OAuth client.
    shared_limits: AccountLimits,
    pub(crate) call_log: OnceLock<CallLog>,
}

/// The circumstances of one attempt at a request.
pub(crate) struct AttemptCircumstances<'a> {
    pub(crate) auth: &'a RequestAuth,
    pub(crate) limits: &'a AccountLimits,
    pub(crate) origin: &'a CallOrigin,
    /// The number of the attempt, from 1.
    pub(crate) attempt: u32,
    /// The rate limits of unspecified length before it.
    pub(crate) unspecified: u32,
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
        let gauge = Arc::default();
        Ok(Self {
            http,
            api,
            clock,
            timeout,
            breaker: Mutex::default(),
            counter: RequestCounter::default(),
            shared_limits: AccountLimits::new(None, &gauge),
            gauge,
            call_log: OnceLock::new(),
        })
    }

    pub(crate) fn shared_limits(&self) -> &AccountLimits {
        &self.shared_limits
    }

    /// Returns the limits that a request of `principal` counts against, where `limits` are those of
    /// its account.
    pub(crate) fn limits<'a>(
        &'a self,
        principal: Principal,
        limits: &'a AccountLimits,
    ) -> &'a AccountLimits {
        match principal {
            Principal::Token | Principal::App | Principal::Installation(_) => limits,
            Principal::Anonymous | Principal::OauthClient => &self.shared_limits,
        }
    }

    /// Makes one attempt. It is recorded, and sent only if a change's record is stored.
    pub(crate) async fn try_once(
        &self,
        request: &ApiRequest,
        url: &Url,
        circumstances: &AttemptCircumstances<'_>,
    ) -> AttemptOutcome {
        let AttemptCircumstances {
            auth,
            limits,
            unspecified,
            ..
        } = *circumstances;
        let call = match self.begin_call(request, url, circumstances).await {
            Ok(call) => call,
            Err(error) => return AttemptOutcome::Done(Err(error)),
        };
        let transfer = self.transfer(request, url, auth).await;
        self.record_request((request, url), (auth, limits), &transfer, &call);
        self.record_health(request, (auth, limits), &transfer);
        let headers = transfer.response().map(|response| &response.headers);
        call.end(transfer.outcome(), headers);
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
                .header(CONTENT_TYPE, request.api.content_type())
                .body(body.to_vec());
        }
        if let ApiKind::Oauth = request.api {
            // It answers with a form otherwise.
            builder = builder.header(ACCEPT, "application/json");
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

    async fn begin_call(
        &self,
        request: &ApiRequest,
        url: &Url,
        circumstances: &AttemptCircumstances<'_>,
    ) -> Result<CallInFlight, GithubError> {
        let Some(log) = self.call_log.get() else {
            return Ok(CallInFlight::unrecorded());
        };
        let AttemptCircumstances {
            limits,
            origin,
            attempt,
            ..
        } = circumstances;
        let sender = (limits.name.clone(), (*origin).clone());
        let call = GithubCall::new(request, url, sender, *attempt, self.clock.now());
        CallInFlight::begin(log, call).await
    }

    /// Counts a request and logs it, without its query and its content.
    fn record_request(
        &self,
        (request, url): (&ApiRequest, &Url),
        (auth, limits): (&RequestAuth, &AccountLimits),
        transfer: &TransferResult,
        call: &CallInFlight,
    ) {
        let response = transfer.response();
        self.counter
            .record(response.map(|response| response.status));
        let remaining = response.and_then(|response| {
            let now = self.clock.now();
            self.gauge
                .record(limits.key(), auth.principal, &response.headers, now)
        });
        let status = transfer.status();
        let path = shown_path(url);
        tracing::debug!(
            http.method = %request.method,
            http.path = path,
            http.status = status,
            duration_ms = call.started().elapsed().as_millis(),
            rate_limit.remaining = remaining,
            "requested {} {path} of GitHub: {status}",
            request.method,
        );
        counter!(REQUESTS, "kind" => request.api.label(), "status" => status).increment(1);
    }

    /// Records the announced allowance, and success or failure for the circuit breaker.
    fn record_health(
        &self,
        request: &ApiRequest,
        (auth, limits): (&RequestAuth, &AccountLimits),
        transfer: &TransferResult,
    ) {
        let now = self.clock.now();
        if let Some(RawResponse { headers, .. }) = transfer.response() {
            limits.budget.record_headers(auth.principal, headers, now);
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

    /// Returns the metric label `status`.
    fn status(&self) -> String {
        match self {
            Self::Received(RawResponse { status, .. }) => status.as_str().to_owned(),
            Self::TooLarge => TOO_LARGE.to_owned(),
            Self::Broken { label, .. } => (*label).to_owned(),
        }
    }

    /// Returns the outcome of the request, as its record has it.
    fn outcome(&self) -> CallOutcome {
        match self {
            Self::Received(RawResponse { status, .. }) => CallOutcome::Answered {
                status: status.as_u16(),
            },
            Self::TooLarge => CallOutcome::Failed { error: TOO_LARGE },
            Self::Broken { label, .. } => CallOutcome::Failed { error: label },
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
            path: request.subject(url),
            reason: format!("the response is larger than {limit_mib} MiB"),
        })),
        ApiKind::Rest | ApiKind::Oauth => AttemptOutcome::Done(Err(GithubError::TooLarge {
            path: shown_path(url),
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
        ApiKind::Graphql { .. } | ApiKind::Rest | ApiKind::Oauth => AttemptOutcome::Failed {
            reason,
            not_sent,
            retry_after: None,
        },
    }
}
