//! GitHub's API, REST and GraphQL: one client with one address, and one token or one App.
//!
//! A call returns when GitHub has answered it for good. What passes is waited out here: rate limits as GitHub tells
//! them, and what fails on the way, if asking twice does no harm. The token goes to its own origin only; redirects and
//! further pages are followed there and nowhere else. Work that nobody waits for gives way to the rest, and a GitHub that
//! is down is left alone for a while.

#![warn(clippy::unwrap_used)]

mod address;
mod app;
mod breaker;
mod budget;
mod cache;
mod clock;
pub mod creation;
mod error;
mod graphql;
pub mod hooks;
mod installations;
mod limits;
mod meaning;
pub mod pulls;
mod sending;
pub mod standing;
mod statistics;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::address::{ApiUrl, NoApiUrl, Token};
pub use self::app::{App, Credentials, NoApp};
use self::breaker::Breaker;
pub use self::breaker::{BreakerState, BreakerStatus};
pub use self::budget::Allowance;
use self::budget::{Budget, Priority};
use self::cache::{Cache, Cached};
pub use self::clock::{Clock, VirtualTime};
pub use self::error::{Complaint, GithubError};
pub use self::graphql::{Graphql, GraphqlError};
use self::installations::{Access, Installations};
use self::sending::{Answer, Call, Known};
pub use self::statistics::Statistics;
use self::statistics::Tally;

/// Requests by kind (`rest`, `graphql`) and by how they ended: GitHub's status, or `timeout`, `connection`, `broken`.
pub const REQUESTS: &str = "tallyhook_github_requests_total";
/// What is left of the allowance, by resource.
pub const RATE_REMAINING: &str = "tallyhook_github_rate_remaining";

/// For one request, with its answer.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECTING: Duration = Duration::from_secs(10);
/// Between two requests that change something, as GitHub asks of whoever sends them.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);
/// How often a call is tried, unless it is to be tried once.
const TRIES: u32 = 4;
/// The most of an answer, unless the call says otherwise. A page of a hundred full items is below 4 MiB.
const USUAL_BYTES: usize = 16 * 1024 * 1024;

pub type Result<T, E = GithubError> = std::result::Result<T, E>;

/// Asks GitHub. A handle: its clones share everything.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    priority: Priority,
    /// How often one call is answered with a limit, or fails on the way, before it is given up.
    tries: u32,
    /// Requests of this handle and its clones.
    asked: Arc<AtomicU64>,
}

struct Shared {
    http: reqwest::Client,
    api: ApiUrl,
    clock: Clock,
    credentials: Credentials,
    installations: Installations,
    /// A limit was met: nothing is asked until then, by whoever uses this client.
    closed_until: Mutex<Option<DateTime<Utc>>>,
    /// Nothing is changed before.
    next_write: Mutex<Option<DateTime<Utc>>>,
    breaker: Mutex<Breaker>,
    budget: Budget,
    cache: Mutex<Cache>,
    tally: Tally,
}

/// An answer that may be known already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditional<T> {
    pub value: T,
    /// GitHub says that it is what it was when this client asked last.
    pub unchanged: bool,
    /// Further pages follow it.
    pub more: bool,
}

impl Client {
    /// A client that waits no longer than usual.
    ///
    /// # Errors
    /// If TLS cannot be set up on this machine.
    pub fn new(api: ApiUrl, credentials: Credentials) -> anyhow::Result<Self> {
        Self::with(api, credentials, Clock::System, PATIENCE)
    }

    /// A client with a clock and a patience of its own.
    ///
    /// # Errors
    /// If TLS cannot be set up on this machine.
    pub fn with(
        api: ApiUrl,
        credentials: Credentials,
        clock: Clock,
        patience: Duration,
    ) -> anyhow::Result<Self> {
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
            // The client follows them itself, since the token may not go wherever they lead.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .timeout(patience)
            .connect_timeout(CONNECTING.min(patience))
            .build()?;
        let shared = Shared {
            http,
            api,
            clock,
            credentials,
            installations: Installations::default(),
            closed_until: Mutex::default(),
            next_write: Mutex::default(),
            breaker: Mutex::default(),
            budget: Budget::default(),
            cache: Mutex::default(),
            tally: Tally::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            priority: Priority::Live,
            tries: TRIES,
            asked: Arc::default(),
        })
    }

    /// The same client for work that nobody waits for, with a count of its own. Its requests wait while less than a fifth of the hour's
    /// allowance is left, and only two of them are under way at once.
    #[must_use]
    pub fn for_backfill(&self) -> Self {
        Self {
            priority: Priority::Backfill,
            asked: Arc::default(),
            ..self.clone()
        }
    }

    /// The same client for whoever wants to know how it is now: what fails is not tried again.
    #[must_use]
    pub fn once(&self) -> Self {
        Self {
            tries: 1,
            ..self.clone()
        }
    }

    /// The same client for work that somebody waits for, as it is at first.
    fn for_live_work(&self) -> Self {
        Self {
            priority: Priority::Live,
            ..self.clone()
        }
    }

    /// Waits, by the time that this client goes by.
    pub async fn wait(&self, duration: Duration) {
        self.shared.clock.wait(duration).await;
    }

    /// Gets what is at `path`, such as `/repos/OWNER/NAME`.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.get_up_to(path, USUAL_BYTES).await
    }

    /// The same, of an answer that may have up to `bytes`.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do.
    pub async fn get_up_to<T: DeserializeOwned>(&self, path: &str, bytes: usize) -> Result<T> {
        let url = self.url(path)?;
        let answer = self
            .execute(
                Call {
                    largest: bytes,
                    ..Call::get(Access::to(path))
                },
                url,
            )
            .await?;
        parse(path, &answer.body)
    }

    /// Gets what is at `path`, for nothing if it has not changed since this client asked last.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do.
    pub async fn get_conditional<T: DeserializeOwned + Serialize>(
        &self,
        path: &str,
    ) -> Result<Conditional<T>> {
        let url = self.url(path)?;
        let known = self.cache().get(url.as_str());
        let etag = known.as_ref().map(|known| Known {
            etag: known.etag.clone(),
            grant: known.grant,
        });
        let answer = self
            .execute(
                Call {
                    known: etag,
                    ..Call::get(Access::to(path))
                },
                url.clone(),
            )
            .await?;
        if let (true, Some(known)) = (answer.unchanged, known) {
            return Ok(Conditional {
                value: parse(path, &known.body)?,
                unchanged: true,
                more: known.more,
            });
        }
        let value = parse(path, &answer.body)?;
        let more = address::next_page(&answer.headers).is_some();
        // What is read of an answer is a hundredth of it.
        if let (Some(etag), Ok(body)) = (etag_of(&answer.headers), serde_json::to_vec(&value)) {
            self.cache().put(Cached {
                url: url.into(),
                etag,
                grant: answer.grant,
                body,
                more,
            });
        }
        Ok(Conditional {
            value,
            unchanged: false,
            more,
        })
    }

    /// Posts `body` to `path`. It is sent a second time only where the first certainly did nothing.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do. After [`GithubError::Unreachable`] it may have been done or not.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.send(Method::POST, path, body).await
    }

    /// Changes what is at `path` to what `body` tells of it.
    ///
    /// # Errors
    /// As of [`Client::post`].
    pub async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.send(Method::PATCH, path, body).await
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// As of [`Client::post`].
    pub async fn delete(&self, path: &str) -> Result<()> {
        let call = Call {
            method: Method::DELETE,
            repeatable: false,
            ..Call::get(Access::to(path))
        };
        self.turn_to_write().await;
        self.execute(call, self.url(path)?).await.map(drop)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|error| unwritable(path, &error))?;
        let call = Call {
            method,
            body: Some(body),
            repeatable: false,
            ..Call::get(Access::to(path))
        };
        self.turn_to_write().await;
        let answer = self.execute(call, self.url(path)?).await?;
        // Some are answered with nothing.
        parse(
            path,
            if answer.body.is_empty() {
                b"null"
            } else {
                &answer.body
            },
        )
    }

    /// Waits until enough time has passed since whatever was changed last.
    async fn turn_to_write(&self) {
        let now = self.shared.clock.now();
        let turn = {
            let mut next = self
                .shared
                .next_write
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + BETWEEN_WRITES);
            turn
        };
        if let Ok(wait) = (turn - now).to_std()
            && !wait.is_zero()
        {
            self.shared.clock.wait(wait).await;
        }
    }

    /// The list at `path`, page by page.
    ///
    /// # Errors
    /// If `path` is none.
    pub fn pages(&self, path: &str) -> Result<Pages<'_>> {
        Ok(Pages {
            client: self,
            access: Access::to(path),
            next: Some(self.url(path)?),
        })
    }

    fn url(&self, path: &str) -> Result<Url> {
        let no_path = || GithubError::Unexpected {
            path: path.to_owned(),
            reason: "it is no path".to_owned(),
        };
        self.shared.api.at(path).ok_or_else(no_path)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.shared
            .cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A list that comes in pages, as `Link` leads from one to the next.
pub struct Pages<'a> {
    client: &'a Client,
    access: Access,
    next: Option<Url>,
}

impl Pages<'_> {
    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do. The same page is asked for again by the next call.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>> {
        let Some(url) = self.next.clone() else {
            return Ok(None);
        };
        let Answer {
            headers, body, url, ..
        } = self
            .client
            .execute(Call::get(self.access.clone()), url)
            .await?;
        let items = parse(url.path(), &body)?;
        self.next = match address::next_page(&headers) {
            Some(told) => Some(self.follow(&url, told)?),
            None => None,
        };
        Ok(Some(items))
    }

    fn follow(&self, from: &Url, told: &str) -> Result<Url> {
        let unexpected = |reason: &str| GithubError::Unexpected {
            path: from.path().to_owned(),
            reason: reason.to_owned(),
        };
        let next = self
            .client
            .shared
            .api
            .follow(from, told)
            .ok_or_else(|| unexpected("its next page is at another origin"))?;
        if next == *from {
            Err(unexpected("its next page is itself"))
        } else {
            Ok(next)
        }
    }
}

fn etag_of(headers: &HeaderMap) -> Option<String> {
    Some(
        headers
            .get(reqwest::header::ETAG)?
            .to_str()
            .ok()?
            .to_owned(),
    )
}

fn unwritable(path: &str, error: &serde_json::Error) -> GithubError {
    GithubError::Unexpected {
        path: path.to_owned(),
        reason: format!("what was to be sent is no JSON: {error}"),
    }
}

/// Tells where it is not what was expected, and nothing of what it is.
fn parse<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_data() {
            "JSON of another shape"
        } else {
            "no JSON"
        };
        let reason = format!("{what} at line {} column {}", error.line(), error.column());
        GithubError::Unexpected {
            path: path.split('?').next().unwrap_or_default().to_owned(),
            reason,
        }
    })
}
