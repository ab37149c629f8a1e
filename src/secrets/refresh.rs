//! Refreshing the tokens of a credential: one refresher among all processes.
//!
//! A refresh token is good for one use, and its use ends the access token before. So a process holds
//! a lease of the row while it asks, and the pair is stored for the generation that it replaces. Who
//! loses reads again, and never writes.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tallyhook_store::{Credential, CredentialState, Moment, RefreshLease, RefreshedTokens};
use tokio::time::{Instant, sleep, timeout_at};

use super::credentials::{OpenedTokens, TokenDraft, sealed};
use super::secret_bytes::SecretBytes;
use super::vault::{SecretError, Vault};

/// An access token with less time left is refreshed.
const EARLY: TimeDelta = TimeDelta::minutes(10);
/// The time of a lease, longer than a request to GitHub may take.
const LEASE: TimeDelta = TimeDelta::seconds(30);
/// The time that the others wait for the one that refreshes.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// GitHub's answer to a refresh.
pub enum RefreshAnswer {
    Tokens(TokenDraft),
    /// `bad_refresh_token`.
    Refused,
    /// It has surely not been done: GitHub was not reached, or answered with an error of its own.
    NotDone,
    /// It was sent, and its answer is not known: the refresh token may be used up.
    Unknown,
}

/// The reason why there is no access token.
#[derive(Debug, thiserror::Error)]
pub enum RefreshFailure {
    #[error("the connection to GitHub is gone: connect again")]
    Missing,
    /// With the reason, such as `refresh_outcome_lost`.
    #[error("GitHub no longer accepts the connection ({0}): connect again")]
    ReconnectNeeded(String),
    #[error("the token of the connection could not be refreshed: GitHub does not answer")]
    Unavailable,
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl From<tallyhook_store::StoreError> for RefreshFailure {
    fn from(error: tallyhook_store::StoreError) -> Self {
        Self::Secret(error.into())
    }
}

/// The next step for a credential as it was read.
enum NextStep {
    Use,
    Refresh,
    End(&'static str),
}

impl Vault {
    /// Returns an access token in force, refreshed if it is about to end, or if GitHub has answered
    /// that of the generation `refused` with 401. `ask` sends the refresh token to GitHub once.
    ///
    /// The future is to be awaited to its end: a refresh that is dropped may have been done, and its
    /// tokens are lost then.
    ///
    /// # Errors
    /// [`RefreshFailure`]. Failures of GitHub end no connection.
    pub async fn access_token<F: Future<Output = RefreshAnswer>>(
        &self,
        credential: &str,
        refused: Option<i64>,
        now: impl Fn() -> Moment,
        ask: impl Fn(SecretBytes) -> F,
    ) -> Result<OpenedTokens, RefreshFailure> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let found = self.read(credential).await?;
            match next_step(&found, refused, now()) {
                NextStep::Use => return self.opened(&found),
                NextStep::End(reason) => {
                    self.end(&found, reason).await?;
                    continue;
                }
                NextStep::Refresh => {}
            }
            // The others of this process wait here, and find the new tokens when they read.
            let turn = self.turn(credential);
            let waiting = timeout_at(deadline, turn.lock()).await;
            let _turn = waiting.map_err(|_| RefreshFailure::Unavailable)?;
            if self.read(credential).await?.generation > found.generation {
                continue;
            }
            let at = now();
            let lease = self
                .store()
                .lease_refresh(credential, found.generation, at, at + LEASE)
                .await?;
            if let Some(lease) = lease {
                let is_refused = refused.is_some();
                let next = self.refresh((&found, is_refused), lease, &now, &ask);
                if let Some(tokens) = next.await? {
                    return Ok(tokens);
                }
            } else if Instant::now() + pause >= deadline {
                return Err(RefreshFailure::Unavailable);
            } else {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    async fn read(&self, credential: &str) -> Result<Credential, RefreshFailure> {
        let found = self.store().credential(credential).await?;
        let found = found.ok_or(RefreshFailure::Missing)?;
        match found.state {
            CredentialState::Revoked => Err(RefreshFailure::Missing),
            CredentialState::ReconnectNeeded => Err(RefreshFailure::ReconnectNeeded(
                found.state_reason.unwrap_or_default(),
            )),
            CredentialState::Active | CredentialState::Limited => Ok(found),
        }
    }

    fn opened(&self, found: &Credential) -> Result<OpenedTokens, RefreshFailure> {
        self.open_credential(found)?.ok_or(RefreshFailure::Missing)
    }

    /// Returns the turn of this process for a credential.
    fn turn(&self, credential: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns().lock();
        if let Some(turn) = turns.get(credential).and_then(std::sync::Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(credential.to_owned(), Arc::downgrade(&turn));
        turn
    }

    async fn end(&self, found: &Credential, reason: &str) -> Result<bool, RefreshFailure> {
        let (state, reason) = (CredentialState::ReconnectNeeded, Some(reason));
        let ended = self
            .store()
            .set_credential_state(&found.id, found.generation, state, reason);
        Ok(ended.await?)
    }

    /// Asks GitHub for the next tokens, and stores them. `None` if the credential is to be read
    /// again.
    async fn refresh<F: Future<Output = RefreshAnswer>>(
        &self,
        (found, is_refused): (&Credential, bool),
        lease: RefreshLease,
        now: &impl Fn() -> Moment,
        ask: &impl Fn(SecretBytes) -> F,
    ) -> Result<Option<OpenedTokens>, RefreshFailure> {
        let (id, generation) = (found.id.as_str(), found.generation);
        let unknown = lease.follows_unknown.then(now);
        let token = match (self.open_refresh_token(found), self.keys_to_seal()) {
            (Ok(Some(token)), Ok(_)) => token,
            (Ok(None), _) => return Err(RefreshFailure::Missing),
            // Nothing was sent. What cannot be sealed would be lost.
            (Err(error), _) | (_, Err(error)) => {
                self.store()
                    .release_refresh(id, generation, unknown)
                    .await?;
                return Err(error.into());
            }
        };
        let tokens = match ask(token).await {
            RefreshAnswer::Tokens(tokens) => tokens,
            RefreshAnswer::Refused => {
                let reason = match lease.follows_unknown {
                    true => "refresh_outcome_lost",
                    false => "bad_refresh_token",
                };
                if self.end(found, reason).await? {
                    tracing::warn!(
                        credential = id,
                        reason,
                        "GitHub refuses to refresh the credential {id} ({reason}): it must be \
                         connected again"
                    );
                }
                return Ok(None);
            }
            answer => {
                let since = match answer {
                    RefreshAnswer::Unknown => Some(now()),
                    _ => unknown,
                };
                self.store().release_refresh(id, generation, since).await?;
                // Until its end the token of now is as good as before.
                let is_valid = found.access_expires_at.is_none_or(|end| end > now());
                return match is_valid && !is_refused && since.is_none() {
                    true => self.opened(found).map(Some),
                    false => Err(RefreshFailure::Unavailable),
                };
            }
        };
        let (access, refresh) = self.seal_tokens(id, found.owner, found.kind, &tokens)?;
        let refreshed = RefreshedTokens {
            generation,
            tokens: sealed(&tokens, (&access, refresh.as_deref())),
        };
        if !self.store().finish_refresh(id, &refreshed).await? {
            return Ok(None);
        }
        tracing::info!(
            credential = id,
            "refreshed the token of the credential {id}"
        );
        Ok(Some(OpenedTokens {
            generation: generation + 1,
            access: tokens.access,
            access_expires_at: tokens.access_expires_at,
        }))
    }
}

fn next_step(found: &Credential, refused: Option<i64>, now: Moment) -> NextStep {
    let is_refused = refused.is_some_and(|generation| generation >= found.generation);
    let ends_before = |at: Moment| found.access_expires_at.is_some_and(|end| end <= at);
    if !is_refused && !ends_before(now + EARLY) {
        return NextStep::Use;
    }
    if found.refresh_token.is_none() {
        return match (is_refused, ends_before(now)) {
            (true, _) => NextStep::End("bad_credentials"),
            (false, true) => NextStep::End("expired"),
            (false, false) => NextStep::Use,
        };
    }
    match found.refresh_expires_at {
        Some(end) if end <= now && !is_refused && !ends_before(now) => NextStep::Use,
        Some(end) if end <= now => NextStep::End("refresh_expired"),
        _ => NextStep::Refresh,
    }
}
