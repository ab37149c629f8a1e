//! The installations of an App, and the tokens that GitHub gives it for each of them, for an hour.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tallyhook_core::github::types::InstallationId;

use super::app::Credentials;
use super::sending::Call;
use super::{Client, GithubError, Result, Token, limits, parse};

/// Before a token expires: no request that is under way then is longer.
const EARLY: TimeDelta = TimeDelta::minutes(5);

/// As whom an App makes a call. A token is always itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    App,
    /// As its installation on this, which is `/repos/OWNER/NAME` or `/orgs/NAME`.
    Installation(String),
}

impl Access {
    /// What `path` takes, which may have a query.
    pub(super) fn to(path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        match path.split('/').take(4).collect::<Vec<_>>()[..] {
            ["", "repos", owner, name] => Self::Installation(format!("/repos/{owner}/{name}")),
            ["", "orgs", name] | ["", "orgs", name, _] => {
                Self::Installation(format!("/orgs/{name}"))
            }
            _ => Self::App,
        }
    }
}

/// Whom GitHub takes a request to be from, and counts it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Token,
    App,
    Installation(InstallationId),
}

/// What lets a request in.
#[derive(Clone)]
pub(super) struct Bearer {
    token: Token,
    pub(super) whose: Whose,
    /// Tells the tokens of one client apart.
    pub(super) grant: u64,
}

impl Bearer {
    pub(super) fn header(&self) -> HeaderValue {
        self.token.header()
    }
}

/// What is known of an App's installations.
#[derive(Default)]
pub(super) struct Installations {
    /// By what the App is installed on.
    ids: Slots<String, InstallationId>,
    tokens: Slots<InstallationId, Granted>,
    grants: AtomicU64,
}

type Slots<K, T> = Mutex<HashMap<K, Slot<T>>>;
/// Who fills it holds it meanwhile, so that all others wait for one answer instead of asking each for their own.
type Slot<T> = Arc<tokio::sync::Mutex<Option<T>>>;

struct Granted {
    bearer: Bearer,
    renewed_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Installation {
    id: InstallationId,
}

#[derive(Deserialize)]
struct AccessToken {
    token: String,
    expires_at: DateTime<Utc>,
}

impl Client {
    /// What lets a call in now. Boxed, since to be let in may itself take calls.
    pub(super) fn bearer<'a>(&'a self, access: &'a Access) -> BoxFuture<'a, Result<Bearer>> {
        Box::pin(async move {
            match (&self.shared.credentials, access) {
                (Credentials::Token(token), _) => Ok(Bearer {
                    token: token.clone(),
                    whose: Whose::Token,
                    grant: 0,
                }),
                (Credentials::App(app), Access::App) => match app.sign(self.shared.clock.now()) {
                    Some(token) => Ok(Bearer {
                        token,
                        whose: Whose::App,
                        grant: 0,
                    }),
                    None => Err(GithubError::AppRefused {
                        message: "its private key cannot sign".to_owned(),
                        advice: "set GITHUB_APP_PRIVATE_KEY to another".to_owned(),
                    }),
                },
                // Others may come to wait for the same token, who must not wait for backfill's turn.
                (Credentials::App(_), Access::Installation(on)) => {
                    self.for_live_work().token_of(on).await
                }
            }
        })
    }

    async fn token_of(&self, on: &str) -> Result<Bearer> {
        let installation = self.installation(on).await?;
        let slot = slot_of(&self.shared.installations.tokens, &installation);
        let mut granted = slot.lock().await;
        if let Some(known) = granted
            .as_ref()
            .filter(|known| self.shared.clock.now() < known.renewed_at)
        {
            return Ok(known.bearer.clone());
        }
        let path = format!("/app/installations/{installation}/access_tokens");
        // A token more does no harm.
        let call = Call {
            method: Method::POST,
            ..Call::get(Access::App)
        };
        let answer = match self.execute(call, self.url(&path)?).await {
            Err(GithubError::NotFound { .. }) => {
                // It may be installed again, as another installation.
                *slot_of(&self.shared.installations.ids, &on.to_owned())
                    .lock()
                    .await = None;
                return Err(not_installed(on));
            }
            answer => answer?,
        };
        let AccessToken { token, expires_at } = parse(&path, &answer.body)?;
        let no_token = || GithubError::Unexpected {
            path,
            reason: "the token is none".to_owned(),
        };
        let token = Token::parse(&token).ok_or_else(no_token)?;
        let now = self.shared.clock.now();
        let valid_for = expires_at - limits::date(&answer.headers).unwrap_or(now);
        let grant = self
            .shared
            .installations
            .grants
            .fetch_add(1, Ordering::Relaxed)
            + 1;
        let bearer = Bearer {
            token,
            whose: Whose::Installation(installation),
            grant,
        };
        *granted = Some(Granted {
            bearer: bearer.clone(),
            renewed_at: now + valid_for - EARLY,
        });
        Ok(bearer)
    }

    async fn installation(&self, on: &str) -> Result<InstallationId> {
        let slot = slot_of(&self.shared.installations.ids, &on.to_owned());
        let mut known = slot.lock().await;
        if let Some(known) = *known {
            return Ok(known);
        }
        let path = format!("{on}/installation");
        let answer = match self.execute(Call::get(Access::App), self.url(&path)?).await {
            Err(GithubError::NotFound { .. }) => return Err(not_installed(on)),
            answer => answer?,
        };
        let Installation { id } = parse(&path, &answer.body)?;
        Ok(*known.insert(id))
    }

    /// GitHub does not accept this token any more; whoever asks next gets another.
    pub(super) async fn forget(&self, refused: &Bearer) {
        if let Whose::Installation(installation) = refused.whose {
            let slot = slot_of(&self.shared.installations.tokens, &installation);
            let mut granted = slot.lock().await;
            // Somebody else may have got another in the meantime.
            granted.take_if(|granted| granted.bearer.grant == refused.grant);
        }
    }
}

fn slot_of<K: Clone + Eq + Hash, T>(slots: &Slots<K, T>, key: &K) -> Slot<T> {
    let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(slots.entry(key.clone()).or_default())
}

fn not_installed(on: &str) -> GithubError {
    let on = on
        .trim_start_matches("/repos/")
        .trim_start_matches("/orgs/")
        .to_owned();
    GithubError::AppNotInstalled { on }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_as_whom_it_is_asked_for() {
        for (path, on) in [
            ("/repos/acme/api", Some("/repos/acme/api")),
            ("/repos/acme/api/pulls?state=all", Some("/repos/acme/api")),
            ("/repos/acme/api?a=b", Some("/repos/acme/api")),
            ("/orgs/acme", Some("/orgs/acme")),
            (
                "/orgs/acme/hooks/7/deliveries?per_page=100",
                Some("/orgs/acme"),
            ),
            ("/app/hook/deliveries?per_page=100", None),
            ("/app", None),
            ("/rate_limit", None),
        ] {
            let expected = on.map_or(Access::App, |on| Access::Installation(on.to_owned()));
            assert_eq!(Access::to(path), expected, "{path}");
        }
    }
}
