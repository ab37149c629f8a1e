//! The client: requests with credentials, retries and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::Result;
use super::account::{AccountRegistry, AccountState};
use super::base_url::ApiUrl;
use super::budget::{RateAllowance, RequestPriority};
use super::calls::{CallLog, CallOrigin};
use super::circuit_breaker::BreakerState;
use super::clock::Clock;
use super::credentials::Credentials;
use super::error::GithubError;
use super::etag_cache::CachedResponse;
use super::optional_parts::RefusedParts;
use super::request::{ApiRequest, CachedEtag, DEFAULT_MAX_BYTES, RequestAccess};
use super::response::{FinalResponse, etag, next_page, parse_json};
use super::send::{SendOptions, SendProgress};
use super::statistics::ClientStatistics;
use super::token::{ClientSecret, Token};
use super::transport::{RESPONSE_TIMEOUT, Transport};

/// The time limit of [`Client::probe`].
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The usual number of attempts at a call.
const MAX_ATTEMPTS: u32 = 4;

/// A client of one GitHub, with the credentials of one account. A handle: its clones share limits,
/// tokens and counts, and handles of other accounts share the connection and the circuit breaker.
#[derive(Clone)]
pub struct Client {
    host: Arc<HostState>,
    account: Arc<AccountState>,
    options: SendOptions,
    /// The identity of the handle's requests, if it is not the client's own credentials.
    identity: Option<RequestAccess>,
}

/// What all accounts of a GitHub share.
struct HostState {
    transport: Transport,
    accounts: Mutex<AccountRegistry>,
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
        let transport = Transport::new(api, clock, timeout)?;
        let account = AccountState::of_settings(credentials, &transport.gauge);
        let host = HostState {
            transport,
            accounts: Mutex::default(),
        };
        Ok(Self {
            host: Arc::new(host),
            account: Arc::new(account),
            options: SendOptions {
                priority: RequestPriority::Live,
                max_attempts: MAX_ATTEMPTS,
                sent: Arc::default(),
                origin: CallOrigin::default(),
            },
            identity: None,
        })
    }

    /// Returns a client without credentials of its own, for the requests of accounts and of OAuth.
    ///
    /// # Errors
    /// If TLS cannot be set up on this machine.
    pub fn without_settings(api: ApiUrl, clock: Clock, timeout: Duration) -> anyhow::Result<Self> {
        // It is never sent: the requests of the handle itself are anonymous.
        let placeholder = Token::parse("none").context("the placeholder is no token")?;
        let client = Self::with(api, Credentials::Token(placeholder), clock, timeout)?;
        Ok(client.without_credentials())
    }

    /// Returns a handle of the account `name` with these credentials, with a count of its own.
    ///
    /// GitHub counts limits for each account: the same name stands for the same limits, even with
    /// another token, and nothing else is shared with any other account but the connection and the
    /// circuit breaker. A token that GitHub refuses is not sent a second time. At most a thousand
    /// accounts are remembered.
    #[must_use]
    pub fn account(&self, name: &str, credentials: Credentials) -> Self {
        let gauge = &self.transport().gauge;
        let account = self.host.accounts.lock().open(name, credentials, gauge);
        Self {
            account,
            options: SendOptions {
                sent: Arc::default(),
                ..self.options.clone()
            },
            identity: None,
            ..self.clone()
        }
    }

    /// Forgets the account `name`, of which there is no connection any more.
    pub fn end_account(&self, name: &str) {
        self.host.accounts.lock().end(name);
    }

    /// Returns the announced hourly allowances of every account by name, without that of the
    /// settings.
    pub fn account_allowances(&self) -> Vec<(Arc<str>, Vec<RateAllowance>)> {
        self.host.accounts.lock().allowances()
    }

    /// Sends the records of all requests of all accounts to `log`. Returns false if they are sent
    /// to another one already.
    pub fn record_calls(&self, log: CallLog) -> bool {
        self.transport().call_log.set(log).is_ok()
    }

    /// Returns a handle whose requests are recorded as those of `origin`.
    #[must_use]
    pub fn with_origin(&self, origin: CallOrigin) -> Self {
        Self {
            options: SendOptions {
                origin,
                ..self.options.clone()
            },
            ..self.clone()
        }
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
        self.account.tokens.is_app()
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
        let known = self.account.cache.lock().get(url.as_str());
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
            self.account.cache.lock().put(CachedResponse {
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
        body: Option<Zeroizing<Vec<u8>>>,
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
        let transport = self.transport();
        let limits = match request.access {
            RequestAccess::Nobody | RequestAccess::Basic(_) | RequestAccess::OauthClient => {
                transport.shared_limits()
            }
            RequestAccess::Own | RequestAccess::Installation(_) => &self.account.limits,
        };
        limits.wait_for_write(&transport.clock).await;
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
        let (transport, account) = (self.transport(), &self.account);
        let (tokens, limits) = (&account.tokens, account.limits.as_ref());
        let access = request.access.clone();
        let is_of_account = matches!(access, RequestAccess::Own | RequestAccess::Installation(_));
        if let Some(refusal) = account.refusal().filter(|_| is_of_account) {
            return Err(refusal);
        }
        let mut pending = transport.prepare(limits, request, url, self.options.clone());
        let mut has_new_token = false;
        loop {
            let auth = tokens
                .authorize((transport, limits), &access, &self.options)
                .await?;
            match pending.attempt(&auth).await {
                SendProgress::Done(result) => {
                    if let Err(error @ GithubError::Unauthorized { .. }) = &result
                        && is_of_account
                    {
                        account.record_refusal(error);
                    }
                    return result;
                }
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
        &self.host.transport
    }

    pub(crate) fn refused_parts(&self) -> &Mutex<RefusedParts> {
        &self.account.refused_parts
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

    /// Returns the counts of all accounts together, with the allowances of this one.
    pub fn statistics(&self) -> ClientStatistics {
        let transport = self.transport();
        let breaker = transport.breaker.lock().status(transport.clock.now());
        transport
            .counter
            .statistics(self.account.limits.budget.allowances(), breaker)
    }
}

/// # Errors
/// If `body` cannot be written as JSON.
pub(crate) fn to_json(path: &str, body: &impl Serialize) -> Result<Zeroizing<Vec<u8>>> {
    serde_json::to_vec(body)
        .map(Zeroizing::new)
        .map_err(|error| GithubError::Unexpected {
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
