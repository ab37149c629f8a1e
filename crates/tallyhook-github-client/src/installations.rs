//! The installations of an App, and the tokens that GitHub issues for each of them, valid for an
//! hour.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use reqwest::Method;
use serde::Deserialize;
use tallyhook_core::github::types::InstallationId;
use tokio::sync::Mutex as AsyncMutex;

use super::account::AccountLimits;
use super::budget::RequestPriority;
use super::credentials::{Credentials, GithubApp};
use super::error::GithubError;
use super::http::server_time;
use super::request::{ApiRequest, Principal, RequestAccess, RequestAuth};
use super::response::{FinalResponse, parse_json};
use super::send::{SendOptions, SendProgress};
use super::token::Token;
use super::transport::Transport;

/// The rest of its validity in which a token is replaced: no request that is under way lasts
/// longer.
const RENEW_BEFORE: TimeDelta = TimeDelta::minutes(5);

/// The credentials of a client, with the tokens that an App has got for its installations.
pub(crate) struct InstallationTokens {
    credentials: Credentials,
    /// By the account or repository that the App is installed on.
    ids: OnceSlots<String, InstallationId>,
    tokens: OnceSlots<InstallationId, IssuedToken>,
    /// The generation of the latest token.
    generation: AtomicU64,
}

type OnceSlots<K, T> = Mutex<HashMap<K, OnceSlot<T>>>;
/// A value that is fetched on demand. The fetching task holds the lock, so that the others wait for
/// its result instead of each fetching their own.
type OnceSlot<T> = Arc<AsyncMutex<Option<T>>>;

struct IssuedToken {
    auth: RequestAuth,
    renew_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct InstallationResponse {
    id: InstallationId,
}

#[derive(Deserialize)]
struct AccessTokenResponse {
    token: String,
    expires_at: DateTime<Utc>,
}

/// An App's requests as itself.
struct AppRequests<'a> {
    app: &'a GithubApp,
    transport: &'a Transport,
    limits: &'a AccountLimits,
    options: SendOptions,
}

impl InstallationTokens {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            ids: OnceSlots::default(),
            tokens: OnceSlots::default(),
            generation: AtomicU64::default(),
        }
    }

    pub(crate) fn is_app(&self) -> bool {
        matches!(self.credentials, Credentials::App(_))
    }

    /// Returns whether the credentials are these.
    pub(crate) fn has(&self, credentials: &Credentials) -> bool {
        self.credentials == *credentials
    }

    /// Returns valid credentials for `access`. Fetches an installation's token over `transport` if
    /// necessary.
    pub(crate) async fn authorize(
        &self,
        (transport, limits): (&Transport, &AccountLimits),
        access: &RequestAccess,
        options: &SendOptions,
    ) -> Result<RequestAuth, GithubError> {
        match (&self.credentials, access) {
            (_, RequestAccess::Nobody) => Ok(RequestAuth::anonymous()),
            (_, RequestAccess::Basic(secret)) => Ok(RequestAuth::basic(secret)),
            (_, RequestAccess::OauthClient) => Ok(RequestAuth::oauth_client()),
            (Credentials::Token(token), RequestAccess::Own | RequestAccess::Installation(_)) => {
                Ok(RequestAuth::token(token, Principal::Token, 0))
            }
            (Credentials::App(app), RequestAccess::Own) => app.authorize(transport.clock.now()),
            (Credentials::App(app), RequestAccess::Installation(account)) => {
                let requests = AppRequests {
                    app,
                    transport,
                    limits,
                    // Live requests may wait for the same token, and must not wait for the permit
                    // of a backfill.
                    options: SendOptions {
                        priority: RequestPriority::Live,
                        ..options.clone()
                    },
                };
                self.installation_token(&requests, account).await
            }
        }
    }

    /// Forgets an installation's token that GitHub refused, so that the next request gets another.
    pub(crate) async fn forget(&self, refused: &RequestAuth) {
        if let Principal::Installation(installation) = refused.principal {
            let slot = slot(&self.tokens, &installation);
            let mut issued = slot.lock().await;
            // Another task may have replaced it already.
            issued.take_if(|issued| issued.auth.generation == refused.generation);
        }
    }

    async fn installation_token(
        &self,
        requests: &AppRequests<'_>,
        account: &str,
    ) -> Result<RequestAuth, GithubError> {
        let clock = &requests.transport.clock;
        let installation = self.installation(requests, account).await?;
        let slot = slot(&self.tokens, &installation);
        let mut issued = slot.lock().await;
        if let Some(issued) = issued.as_ref().filter(|known| clock.now() < known.renew_at) {
            return Ok(issued.auth.clone());
        }
        let path = format!("/app/installations/{installation}/access_tokens");
        let response = match requests.send(Method::POST, &path).await {
            Err(GithubError::NotFound { .. }) => {
                // The App may be installed again, under another id.
                *self::slot(&self.ids, &account.to_owned()).lock().await = None;
                return Err(not_installed(account));
            }
            response => response?,
        };
        let AccessTokenResponse { token, expires_at } = parse_json(&path, &response.body)?;
        let token = Token::parse(&token).ok_or_else(|| GithubError::Unexpected {
            path,
            reason: "the token has invalid characters".to_owned(),
        })?;
        let now = clock.now();
        let valid_for = expires_at - server_time(&response.headers).unwrap_or(now);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let auth = RequestAuth::token(&token, Principal::Installation(installation), generation);
        *issued = Some(IssuedToken {
            auth: auth.clone(),
            renew_at: now + valid_for - RENEW_BEFORE,
        });
        Ok(auth)
    }

    async fn installation(
        &self,
        requests: &AppRequests<'_>,
        account: &str,
    ) -> Result<InstallationId, GithubError> {
        let slot = slot(&self.ids, &account.to_owned());
        let mut known = slot.lock().await;
        if let Some(known) = *known {
            return Ok(known);
        }
        let path = format!("{account}/installation");
        let response = match requests.send(Method::GET, &path).await {
            Err(GithubError::NotFound { .. }) => return Err(not_installed(account)),
            response => response?,
        };
        let InstallationResponse { id } = parse_json(&path, &response.body)?;
        Ok(*known.insert(id))
    }
}

impl AppRequests<'_> {
    /// Sends a request without a body. Even a POST may be repeated: a token more does no harm.
    async fn send(&self, method: Method, path: &str) -> Result<FinalResponse, GithubError> {
        let request = ApiRequest {
            method,
            ..ApiRequest::get(RequestAccess::Own)
        };
        let url = self.transport.url(path)?;
        let mut pending = self
            .transport
            .prepare(self.limits, request, url, self.options.clone());
        loop {
            let auth = self.app.authorize(self.transport.clock.now())?;
            match pending.attempt(&auth).await {
                SendProgress::Done(result) => return result,
                SendProgress::Retry => {}
                SendProgress::TokenRefused(error) => return Err(error),
            }
        }
    }
}

fn slot<K: Clone + Eq + Hash, T>(slots: &OnceSlots<K, T>, key: &K) -> OnceSlot<T> {
    Arc::clone(slots.lock().entry(key.clone()).or_default())
}

fn not_installed(account: &str) -> GithubError {
    let account = account
        .trim_start_matches("/repos/")
        .trim_start_matches("/orgs/")
        .to_owned();
    GithubError::AppNotInstalled { account }
}
