//! Retries of one request, until it has a final response.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::Url;
use tallyhook_core::backoff::Backoff;
use tokio::sync::SemaphorePermit;

use super::account::AccountLimits;
use super::attempt::AttemptOutcome;
use super::budget::RequestPriority;
use super::calls::CallOrigin;
use super::error::GithubError;
use super::rate_limit::{MAX_WAIT, RateLimit};
use super::request::{ApiRequest, Principal, RequestAuth};
use super::response::{FinalResponse, unexpected};
use super::transport::{AttemptCircumstances, Transport};

const MAX_REDIRECTS: u32 = 5;
/// The delays before further attempts. A server that asks for more is obeyed up to the maximum.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    max: Duration::from_mins(1),
};

/// The options that a handle of the client sends its requests with.
#[derive(Clone)]
pub(crate) struct SendOptions {
    pub(crate) priority: RequestPriority,
    /// The number of attempts that may end in a limit or a failure before the request is given up.
    pub(crate) max_attempts: u32,
    /// Counts the requests of a handle and its clones.
    pub(crate) sent: Arc<AtomicU64>,
    /// The reason of the requests, for their records.
    pub(crate) origin: CallOrigin,
}

/// A request between its attempts. The caller makes attempts until one is not
/// [`SendProgress::Retry`], with fresh credentials for each: a wait for a rate limit may outlast a
/// token.
pub(crate) struct PendingRequest<'a> {
    transport: &'a Transport,
    limits: &'a AccountLimits,
    options: SendOptions,
    request: ApiRequest,
    url: Url,
    attempts: u32,
    redirects: u32,
    limited: u32,
    /// The limits of unspecified length.
    unspecified: u32,
    failed: u32,
}

/// The state of a request after an attempt.
pub(crate) enum SendProgress {
    Done(Result<FinalResponse, GithubError>),
    /// All waiting that has to be done before the next attempt is done.
    Retry,
    /// The token of an installation was refused. The next attempt needs another one.
    TokenRefused(GithubError),
}

impl Transport {
    /// Prepares a request of the account that `limits` are of.
    pub(crate) fn prepare<'a>(
        &'a self,
        limits: &'a AccountLimits,
        request: ApiRequest,
        url: Url,
        options: SendOptions,
    ) -> PendingRequest<'a> {
        PendingRequest {
            transport: self,
            limits,
            options,
            request,
            url,
            attempts: 0,
            redirects: 0,
            limited: 0,
            unspecified: 0,
            failed: 0,
        }
    }

    /// Returns the address of `path`, such as `/repos/OWNER/NAME`.
    ///
    /// # Errors
    /// If it leads away from the API.
    pub(crate) fn url(&self, path: &str) -> Result<Url, GithubError> {
        self.api.at(path).ok_or_else(|| GithubError::Unexpected {
            path: path.to_owned(),
            reason: "it is no path".to_owned(),
        })
    }

    fn unreachable(&self, reason: String) -> GithubError {
        GithubError::Unreachable {
            origin: self.api.to_string(),
            reason,
        }
    }
}

impl<'a> PendingRequest<'a> {
    /// Makes one attempt with the credentials `auth`, and waits before the next one where that is
    /// necessary.
    pub(crate) async fn attempt(&mut self, auth: &RequestAuth) -> SendProgress {
        let permit = match self.permit(auth).await {
            Ok(Some(permit)) => permit,
            Ok(None) => return SendProgress::Retry,
            Err(error) => return SendProgress::Done(Err(error)),
        };
        self.attempts += 1;
        let circumstances = AttemptCircumstances {
            auth,
            limits: self.limits_of(auth.principal),
            origin: &self.options.origin,
            attempt: self.attempts,
            unspecified: self.unspecified,
        };
        let attempt = self
            .transport
            .try_once(&self.request, &self.url, &circumstances)
            .await;
        self.options.sent.fetch_add(1, Ordering::Relaxed);
        drop(permit);
        match attempt {
            AttemptOutcome::Done(result) => SendProgress::Done(result),
            AttemptOutcome::TokenRefused(error) => SendProgress::TokenRefused(error),
            AttemptOutcome::Redirected(to) => self.redirect(to),
            AttemptOutcome::RateLimited(limit) => self.rate_limited(limit, auth),
            AttemptOutcome::Failed {
                reason,
                not_sent,
                retry_after,
            } => self.failed(reason, not_sent, retry_after).await,
        }
    }

    fn limits_of(&self, principal: Principal) -> &'a AccountLimits {
        self.transport.limits(principal, self.limits)
    }

    fn redirect(&mut self, to: Url) -> SendProgress {
        self.redirects += 1;
        if self.redirects > MAX_REDIRECTS {
            return SendProgress::Done(Err(unexpected(
                &self.url,
                "it leads from one address to another without end",
            )));
        }
        self.url = to;
        SendProgress::Retry
    }

    fn rate_limited(&mut self, limit: RateLimit, auth: &RequestAuth) -> SendProgress {
        self.limited += 1;
        self.unspecified += u32::from(limit.unspecified);
        let now = self.transport.clock.now();
        let until = self
            .limits_of(auth.principal)
            .blocks
            .block(auth.principal, limit.wait, now);
        if self.limited >= self.options.max_attempts {
            return SendProgress::Done(Err(GithubError::Limited { until }));
        }
        SendProgress::Retry
    }

    async fn failed(
        &mut self,
        reason: String,
        not_sent: bool,
        retry_after: Option<Duration>,
    ) -> SendProgress {
        self.failed += 1;
        // A write that may have happened must not be sent again, which would do it twice.
        if !not_sent && !self.request.repeatable {
            return SendProgress::Done(Err(GithubError::Unknown {
                path: self.request.subject(&self.url),
                reason,
            }));
        }
        if self.failed >= self.options.max_attempts {
            return SendProgress::Done(Err(self.transport.unreachable(reason)));
        }
        let backoff = BACKOFF.jittered(self.failed, rand::random());
        let delay = retry_after.map_or(backoff, |asked| asked.max(backoff).min(BACKOFF.max));
        self.transport.clock.wait(delay).await;
        SendProgress::Retry
    }

    /// Waits for a permit for one request in flight. Returns `None` after a wait for a rate limit,
    /// which may be only a part of all that has to be waited for.
    async fn permit(&self, auth: &RequestAuth) -> Result<Option<SemaphorePermit<'a>>, GithubError> {
        let transport = self.transport;
        let limits = self.limits_of(auth.principal);
        let permit = limits.budget.permit(self.options.priority).await;
        let now = transport.clock.now();
        let resource = self.request.api.resource();
        let reserved = match self.options.priority {
            RequestPriority::Live => None,
            RequestPriority::Backfill => limits.budget.reserve_wait(auth.principal, resource, now),
        };
        let blocked = self.blocked_for(auth, now)?;
        if let Some(wait) = blocked.max(reserved) {
            drop(permit);
            let seconds = wait.as_secs();
            match blocked {
                Some(_) => tracing::warn!(
                    rate_limit.wait_s = seconds,
                    rate_limit.resource = resource,
                    "GitHub's rate limit of {resource} is used up, waiting for {seconds} s"
                ),
                None => tracing::info!(
                    rate_limit.wait_s = seconds,
                    rate_limit.resource = resource,
                    "the rest of GitHub's rate limit of {resource} is reserved for live work, \
                     waiting for {seconds} s"
                ),
            }
            transport.clock.wait(wait).await;
            return Ok(None);
        }
        let mut breaker = transport.breaker.lock();
        match breaker.try_acquire(now) {
            Ok(()) => Ok(permit),
            Err(until) => {
                let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
                let reason = format!("{}, no request is sent before {until}", breaker.reason());
                Err(transport.unreachable(reason))
            }
        }
    }

    /// Returns the time until the end of a rate limit.
    ///
    /// # Errors
    /// If it is too long to wait for.
    fn blocked_for(
        &self,
        auth: &RequestAuth,
        now: DateTime<Utc>,
    ) -> Result<Option<Duration>, GithubError> {
        let blocks = &self.limits_of(auth.principal).blocks;
        let Some(until) = blocks.blocked_until(auth.principal, now) else {
            return Ok(None);
        };
        let wait = (until - now).to_std().unwrap_or_default();
        if wait > MAX_WAIT {
            Err(GithubError::Limited { until })
        } else {
            Ok(Some(wait))
        }
    }
}
