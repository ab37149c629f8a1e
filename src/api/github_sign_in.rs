//! Signing in with GitHub over HTTP: the cookie of the browser, its limits, and its session.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use actix_web::HttpRequest;
use chrono::Utc;
use parking_lot::Mutex;
use tallyhook_store::{InvitationOutcome, SessionOwner, UserId};
use tokio::time::Instant;

use super::caller::KnownCaller;
use super::error::ApiError;
use super::session_cookie::FLOW;
use super::sessions::is_own_path;
use super::wrong_tokens::network;
use super::{ApiState, acts, auth, is_public_plain, sessions};
use crate::accounts::{ReturnPlace, SignInProblem};
use crate::secrets::SecretError;
use crate::telemetry::count_refusal;

/// The seconds that a browser keeps its cookie: as long as the store knows an expired way, so that
/// its browser is not taken for another one.
const FLOW_SECONDS: i64 = 24 * 3600;
/// The ways that one network begins within [`WINDOW`] before it is asked to pause: each is a row.
const MOST: u32 = 120;
const WINDOW: Duration = Duration::from_secs(60);
/// Networks that are remembered; all of them are forgotten when there are more.
const MAX_PEERS: usize = 4096;

/// The ways to GitHub of the last minute, by network.
#[derive(Debug, Default)]
pub struct BegunFlows(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl BegunFlows {
    /// Counts one. Returns false if there are too many.
    fn admits(&self, peer: Option<IpAddr>) -> bool {
        let Some(peer) = peer.map(network) else {
            return true;
        };
        let now = Instant::now();
        let mut peers = self.0.lock();
        if peers.len() >= MAX_PEERS && !peers.contains_key(&peer) {
            peers.clear();
        }
        let (since, begun) = peers.entry(peer).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *begun) = (now, 0);
        }
        *begun += 1;
        *begun <= MOST
    }
}

/// The answer to a browser: it is sent on with a cookie.
pub(crate) struct SentOn {
    /// A page of GitHub's, or the path of one of this server.
    pub(crate) address: String,
    pub(crate) set_cookie: String,
}

/// Begins to sign a browser in with GitHub. `None` if that is off.
///
/// # Errors
/// [`SignInProblem`].
pub(crate) async fn begin_sign_in(
    api: &ApiState,
    request: &HttpRequest,
    place: &ReturnPlace,
) -> Result<Option<SentOn>, SignInProblem> {
    let Some(sign_in) = &api.sign_in else {
        return Ok(None);
    };
    if !api.begun_flows.admits(auth::peer(request)) {
        count_refusal("too_many_sign_ins");
        return Err(SignInProblem::TooManyFlows);
    }
    // One for all tabs of the browser.
    let cookie = FLOW.read(request).filter(|value| is_cookie(value));
    let cookie = cookie.unwrap_or_else(auth::random_text);
    let address = sign_in
        .begin(&auth::hash(&cookie), place, Utc::now())
        .await?;
    let is_plain = is_public_plain(request);
    Ok(Some(SentOn {
        address,
        set_cookie: FLOW.set(request, &cookie, FLOW_SECONDS, is_plain),
    }))
}

/// Returns true for a value as [`auth::random_text`] makes them.
fn is_cookie(value: &str) -> bool {
    value.len() == auth::random_text().len() && value.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Signs in the browser that GitHub sent back, with a new session. `None` if that is off.
///
/// # Errors
/// [`SignInProblem`].
pub(crate) async fn finish_sign_in(
    api: &ApiState,
    request: &HttpRequest,
) -> Result<Option<SentOn>, SignInProblem> {
    let Some(sign_in) = &api.sign_in else {
        return Ok(None);
    };
    let now = Utc::now();
    // The digest of nothing is that of no browser.
    let browser = auth::hash(&FLOW.read(request).unwrap_or_default());
    let person = sign_in
        .finish(request.query_string(), &browser, now)
        .await?;
    let (address, team) = match person.place {
        ReturnPlace::Page(path) if is_own_path(&path) => (path, None),
        ReturnPlace::Page(_) => ("/".to_owned(), None),
        ReturnPlace::Invitation(hash) => {
            let by = api.store.user(person.user).await?.map(|user| user.person);
            let accept = api.store.accept_invitation(&hash, Some(person.user), now);
            match acts::accepted(request, by.as_ref(), accept).await? {
                InvitationOutcome::Accepted(accepted) => ("/".to_owned(), accepted.team),
                InvitationOutcome::OtherPerson => {
                    ("/welcome?invitation=other_person".to_owned(), None)
                }
                InvitationOutcome::NotValid | InvitationOutcome::SignInFirst => {
                    ("/welcome?invitation=not_valid".to_owned(), None)
                }
            }
        }
    };
    let is_member = !api.store.memberships(person.user).await?.is_empty();
    let address = match is_member || address.starts_with("/welcome") {
        true => address,
        false => "/welcome".to_owned(),
    };
    let set_cookie = sessions::start_at_public_url(api, request, person.user, team)
        .await
        .map_err(|error| match error {
            ApiError::Unavailable(error) => SignInProblem::Secrets(SecretError::Store(error)),
            _ => SignInProblem::GithubUnavailable,
        })?;
    Ok(Some(SentOn {
        address,
        set_cookie,
    }))
}

impl ApiState {
    /// Returns true if people can sign in with GitHub.
    pub(crate) fn offers_github(&self) -> bool {
        self.sign_in.is_some()
    }

    /// Returns the digest of an invitation's secret.
    pub(crate) fn invited_place(&self, secret: &str) -> ReturnPlace {
        ReturnPlace::Invitation(auth::hash(secret))
    }
}

impl KnownCaller {
    /// Returns true if a person signed in, and not a token.
    pub(crate) fn is_person(&self) -> bool {
        matches!(self.owner, SessionOwner::Person(UserId(_)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn network_pauses_after_many_ways_and_others_do_not() {
        let flows = BegunFlows::default();
        let (one, other) = (Some(Ipv4Addr::LOCALHOST.into()), Some([10, 0, 0, 7].into()));
        for _ in 0..MOST {
            assert!(flows.admits(one));
        }
        assert!(!flows.admits(one) && flows.admits(other) && flows.admits(None));
        tokio::time::advance(WINDOW).await;
        assert!(flows.admits(one));
    }

    #[test]
    fn value_of_another_form_is_no_cookie() {
        assert!(is_cookie(&auth::random_text()));
        for other in ["", "a", &"g".repeat(64)] {
            assert!(!is_cookie(other), "{other}");
        }
    }
}
