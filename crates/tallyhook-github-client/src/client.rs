//! The client: requests with credentials, retries and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Result;
use super::base_url::ApiUrl;
use super::budget::RequestPriority;
use super::circuit_breaker::BreakerState;
use super::clock::Clock;
use super::credentials::Credentials;
use super::error::GithubError;
use super::etag_cache::{CachedResponse, EtagCache};
use super::installations::InstallationTokens;
use super::optional_parts::RefusedParts;
use super::request::{ApiRequest, CachedEtag, DEFAULT_MAX_BYTES, RequestAccess};
use super::response::{FinalResponse, etag, next_page, parse_json};
use super::send::{SendOptions, SendProgress};
use super::statistics::ClientStatistics;
use super::token::ClientSecret;
use super::transport::{RESPONSE_TIMEOUT, Transport};

/// The time limit of [`Client::probe`].
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The usual number of attempts at a call.
const MAX_ATTEMPTS: u32 = 4;

/// A client of one GitHub with one token or one App. A handle: its clones share limits, tokens and
/// counts.
#[derive(Clone)]
pub struct Client {
    shared: Arc<ClientState>,
    options: SendOptions,
    /// The identity of the handle's requests, if it is not the client's own credentials.
    identity: Option<RequestAccess>,
}

struct ClientState {
    transport: Transport,
    tokens: InstallationTokens,
    cache: Mutex<EtagCache>,
    refused_parts: Mutex<RefusedParts>,
}

/// A response that may be the same as the previous one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionalResponse<T> {
    pub value: T,
    /// It has not changed since this client's previous request.
    pub unchanged: bool,
    /// Further pages follow it.
    pub has_more: bool,
}

impl Client {
    /// Returns a client with the usual time-out.
    ///
    /// # Errors
    /// If TLS cannot be set up on this machine.
    pub fn new(api: ApiUrl, credentials: Credentials) -> anyhow::Result<Self> {
        Self::with(api, credentials, Clock::System, RESPONSE_TIMEOUT)
    }

    /// Returns a client with a clock of its own, and with `timeout` for each response. Large bodies
    /// have more time.
    ///
    /// # Errors
    /// If TLS cannot be set up on this machine.
    pub fn with(
        api: ApiUrl,
        credentials: Credentials,
        clock: Clock,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let shared = ClientState {
            transport: Transport::new(api, clock, timeout)?,
            tokens: InstallationTokens::new(credentials),
            cache: Mutex::default(),
            refused_parts: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            options: SendOptions {
                priority: RequestPriority::Live,
                max_attempts: MAX_ATTEMPTS,
                sent: Arc::default(),
            },
            identity: None,
        })
    }

    /// Returns a handle for background work, with a count of its own. Its requests wait while less
    /// than a fifth of the hour's allowance is left, and only two of them are in flight at once.
    #[must_use]
    pub fn for_backfill(&self) -> Self {
        Self {
            options: SendOptions {
                priority: RequestPriority::Backfill,
                sent: Arc::new(AtomicU64::default()),
                ..self.options.clone()
            },
            ..self.clone()
        }
    }

    /// Returns whether the client's credentials are those of an App.
    pub fn is_app(&self) -> bool {
        self.shared.tokens.is_app()
    }

    /// Returns a handle that does not retry, for checks of the present state.
    #[must_use]
    pub fn once(&self) -> Self {
        Self {
            options: SendOptions {
                max_attempts: 1,
                ..self.options.clone()
            },
            ..self.clone()
        }
    }

    /// Returns whether this is a handle of [`Client::once`].
    pub(crate) fn is_check(&self) -> bool {
        self.options.max_attempts == 1
    }

    /// Returns a handle whose requests have no credentials, for endpoints that refuse an
    /// `Authorization` header or are used before there are any: the conversion of an App manifest,
    /// the revocation of leaked tokens.
    #[must_use]
    pub fn without_credentials(&self) -> Self {
        Self {
            identity: Some(RequestAccess::Nobody),
            ..self.clone()
        }
    }

    /// Returns a handle whose requests authenticate as an App's OAuth client, for the endpoints
    /// below `/applications`.
    #[must_use]
    pub fn with_client_secret(&self, secret: ClientSecret) -> Self {
        Self {
            identity: Some(RequestAccess::Basic(secret)),
            ..self.clone()
        }
    }

    /// Waits by the client's clock.
    pub async fn wait(&self, duration: Duration) {
        self.transport().clock.wait(duration).await;
    }

    /// Gets `path`, such as `/repos/OWNER/NAME`.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.get_up_to(path, DEFAULT_MAX_BYTES).await
    }

    /// Gets `path`, whose response may have up to `max_bytes`.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do.
    pub async fn get_up_to<T: DeserializeOwned>(&self, path: &str, max_bytes: usize) -> Result<T> {
        let request = ApiRequest {
            max_bytes,
            ..self.get_request(path)
        };
        let response = self.execute(request, self.transport().url(path)?).await?;
        parse_json(path, &response.body)
    }

    /// Gets `path`, at no cost if it has not changed since this client's previous request.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do.
    pub async fn get_conditional<T: DeserializeOwned + Serialize>(
        &self,
        path: &str,
    ) -> Result<ConditionalResponse<T>> {
        let url = self.transport().url(path)?;
        let known = self.shared.cache.lock().get(url.as_str());
        let cached = known.as_ref().map(|known| CachedEtag {
            etag: known.etag.clone(),
            generation: known.generation,
        });
        let request = ApiRequest {
            cached,
            ..self.get_request(path)
        };
        let response = self.execute(request, url.clone()).await?;
        if let (true, Some(known)) = (response.unchanged, known) {
            return Ok(ConditionalResponse {
                value: parse_json(path, &known.body)?,
                unchanged: true,
                has_more: known.has_more,
            });
        }
        let value = parse_json(path, &response.body)?;
        let has_more = next_page(&response.headers).is_some();
        // Only the fields in use are kept: a hundredth of the body.
        if let (Some(etag), Ok(body)) = (etag(&response.headers), serde_json::to_vec(&value)) {
            self.shared.cache.lock().put(CachedResponse {
                url: url.into(),
                etag,
                generation: response.generation,
                body,
                has_more,
            });
        }
        Ok(ConditionalResponse {
            value,
            unchanged: false,
            has_more,
        })
    }

    /// Posts `body` to `path`. It is sent a second time only if GitHub certainly did not process
    /// the first.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do. After [`GithubError::Unknown`] it may have happened.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.write(Method::POST, path, Some(to_json(path, body)?))
            .await
    }

    /// Changes the resource at `path` by the fields of `body`.
    ///
    /// # Errors
    /// As of [`Client::post`].
    pub async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.write(Method::PATCH, path, Some(to_json(path, body)?))
            .await
    }

    /// Deletes the resource at `path`.
    ///
    /// # Errors
    /// As of [`Client::post`].
    pub async fn delete(&self, path: &str) -> Result<()> {
        let request = ApiRequest {
            method: Method::DELETE,
            repeatable: false,
            ..self.get_request(path)
        };
        self.execute_write(request, self.transport().url(path)?)
            .await
            .map(drop)
    }

    /// Deletes what `body` names at `path`, such as a token.
    ///
    /// # Errors
    /// As of [`Client::post`].
    pub async fn delete_with(&self, path: &str, body: &impl Serialize) -> Result<()> {
        self.write::<serde::de::IgnoredAny>(Method::DELETE, path, Some(to_json(path, body)?))
            .await
            .map(drop)
    }

    async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T> {
        let request = ApiRequest {
            method,
            body,
            repeatable: false,
            ..self.get_request(path)
        };
        let response = self
            .execute_write(request, self.transport().url(path)?)
            .await?;
        // Some responses are empty.
        let body = if response.body.is_empty() {
            b"null"
        } else {
            response.body.as_slice()
        };
        parse_write_response(path, body)
    }

    /// Sends a request that changes something, at a distance from the previous one.
    pub(crate) async fn execute_write(
        &self,
        request: ApiRequest,
        url: Url,
    ) -> Result<FinalResponse> {
        self.transport().wait_for_write().await;
        self.execute(request, url).await
    }

    /// Sends `request` until it has a final response.
    pub(crate) async fn execute(&self, request: ApiRequest, url: Url) -> Result<FinalResponse> {
        let result = self.send(request, url).await;
        if let Err(error) = &result {
            self.transport().counter.record_error(error);
        }
        result
    }

    async fn send(&self, request: ApiRequest, url: Url) -> Result<FinalResponse> {
        let (transport, tokens) = (self.transport(), &self.shared.tokens);
        let access = request.access.clone();
        let mut pending = transport.prepare(request, url, self.options.clone());
        let mut has_new_token = false;
        loop {
            let auth = tokens.authorize(transport, &access, &self.options).await?;
            match pending.attempt(&auth).await {
                SendProgress::Done(result) => return result,
                SendProgress::Retry => {}
                SendProgress::TokenRefused(error) => {
                    tokens.forget(&auth).await;
                    if std::mem::replace(&mut has_new_token, true) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Returns a GET of `path` as the identity of this handle.
    pub(crate) fn get_request(&self, path: &str) -> ApiRequest {
        ApiRequest::get(self.access(path))
    }

    /// Returns the identity of a request for `path`.
    pub(crate) fn access(&self, path: &str) -> RequestAccess {
        self.identity
            .clone()
            .unwrap_or_else(|| RequestAccess::for_path(path))
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.shared.transport
    }

    pub(crate) fn refused_parts(&self) -> &Mutex<RefusedParts> {
        &self.shared.refused_parts
    }

    /// Returns the reason for which GitHub is left alone: it does not answer. `None` while it does.
    pub fn outage(&self) -> Option<String> {
        let breaker = self.transport().breaker.lock();
        breaker.outage().map(str::to_owned)
    }

    /// Returns true while every request fails at once. After that time one request is a trial, so
    /// that an outage ends where nothing but requests of readers asks GitHub.
    pub fn is_left_alone(&self) -> bool {
        self.statistics().breaker.state == BreakerState::Open
    }

    /// Asks GitHub for as little as possible. Its answer ends an outage.
    pub async fn probe(&self) {
        let probe = self.once();
        // The circuit breaker notes the result.
        let _result = tokio::time::timeout(PROBE_TIMEOUT, probe.token_info()).await;
    }

    /// Returns the number of requests, with those that failed or were retried.
    pub fn requests(&self) -> u64 {
        self.transport().counter.requests()
    }

    /// Returns the number of requests of this handle and its clones.
    pub fn requests_of_handle(&self) -> u64 {
        self.options.sent.load(Ordering::Relaxed)
    }

    /// Returns the counts of all handles of this client together.
    pub fn statistics(&self) -> ClientStatistics {
        let transport = self.transport();
        let breaker = transport.breaker.lock().status(transport.clock.now());
        transport
            .counter
            .statistics(transport.budget.allowances(), breaker)
    }
}

/// # Errors
/// If `body` cannot be written as JSON.
pub(crate) fn to_json(path: &str, body: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(body).map_err(|error| GithubError::Unexpected {
        path: path.to_owned(),
        reason: format!("the request body is no JSON: {error}"),
    })
}

/// Parses the body of a successful write. One that cannot be read does not undo the write.
pub(crate) fn parse_write_response<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T> {
    parse_json(path, body).map_err(|error| match error {
        GithubError::Unexpected { path, reason } => GithubError::Unknown {
            path,
            reason: format!("the response is {reason}"),
        },
        error => error,
    })
}
