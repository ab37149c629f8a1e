//! The accounts of one host: the limits, caches and credentials that GitHub keeps apart, and that
//! must not mix here either.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

use super::budget::{RateAllowance, RequestBudget};
use super::clock::Clock;
use super::credentials::Credentials;
use super::error::GithubError;
use super::etag_cache::EtagCache;
use super::installations::InstallationTokens;
use super::optional_parts::RefusedParts;
use super::rate_gauge::{GaugeKey, RateGauge};
use super::rate_limit::RateLimitBlocks;

/// The number of accounts that are remembered. The least recently used one is forgotten before
/// there are more.
const MAX_ACCOUNTS: usize = 1000;
/// The bytes of cached responses of an account that is one of many.
const CACHE_OF_ACCOUNT: usize = 256 * 1024;
/// The time between two writes, as GitHub's guidelines ask for it.
const WRITE_INTERVAL: TimeDelta = TimeDelta::seconds(1);

/// What GitHub counts for one account, whichever of its tokens a request has.
pub(crate) struct AccountLimits {
    /// The caller's name of the account; `None` of the settings' credentials.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) blocks: RateLimitBlocks,
    pub(crate) budget: RequestBudget,
    /// The earliest time of the next write.
    next_write: Mutex<Option<DateTime<Utc>>>,
    key: GaugeKey,
    gauge: Arc<RateGauge>,
}

/// One account with its credentials of this time. Other credentials of the same account have a
/// state of their own with the same limits: an `ETag`, and a part that is refused, are valid for one
/// token only.
pub(crate) struct AccountState {
    pub(crate) limits: Arc<AccountLimits>,
    pub(crate) tokens: InstallationTokens,
    pub(crate) cache: Mutex<EtagCache>,
    pub(crate) refused_parts: Mutex<RefusedParts>,
    /// The error of the token that GitHub no longer accepts.
    refusal: Mutex<Option<GithubError>>,
}

/// The accounts of a host by name, without that of the settings.
#[derive(Default)]
pub(crate) struct AccountRegistry {
    accounts: HashMap<Arc<str>, RegisteredAccount>,
    /// Counts the uses, as a time that never stands still.
    uses: u64,
}

struct RegisteredAccount {
    state: Arc<AccountState>,
    last_use: u64,
}

impl AccountLimits {
    pub(crate) fn new(name: Option<Arc<str>>, gauge: &Arc<RateGauge>) -> Self {
        Self {
            name,
            blocks: RateLimitBlocks::default(),
            budget: RequestBudget::default(),
            next_write: Mutex::default(),
            key: gauge.key(),
            gauge: Arc::clone(gauge),
        }
    }

    pub(crate) fn key(&self) -> GaugeKey {
        self.key
    }

    /// Waits until enough time has passed since the account's previous write.
    pub(crate) async fn wait_for_write(&self, clock: &Clock) {
        let now = clock.now();
        let turn = {
            let mut next = self.next_write.lock();
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + WRITE_INTERVAL);
            turn
        };
        if let Ok(wait) = (turn - now).to_std()
            && !wait.is_zero()
        {
            clock.wait(wait).await;
        }
    }
}

impl Drop for AccountLimits {
    fn drop(&mut self) {
        self.gauge.forget(self.key);
    }
}

impl AccountState {
    /// Returns the state of the settings' credentials.
    pub(crate) fn of_settings(credentials: Credentials, gauge: &Arc<RateGauge>) -> Self {
        let limits = Arc::new(AccountLimits::new(None, gauge));
        Self::with(limits, credentials, EtagCache::default())
    }

    fn with(limits: Arc<AccountLimits>, credentials: Credentials, cache: EtagCache) -> Self {
        Self {
            limits,
            tokens: InstallationTokens::new(credentials),
            cache: Mutex::new(cache),
            refused_parts: Mutex::default(),
            refusal: Mutex::default(),
        }
    }

    /// Returns the error of the token if GitHub refused it before. It is not sent again: many
    /// refused tokens end in a block of all requests.
    ///
    /// That of the settings is sent again, since nothing else finds out that GitHub erred.
    pub(crate) fn refusal(&self) -> Option<GithubError> {
        self.refusal.lock().clone()
    }

    pub(crate) fn record_refusal(&self, error: &GithubError) {
        if self.limits.name.is_some() && !self.tokens.is_app() {
            *self.refusal.lock() = Some(error.clone());
        }
    }
}

impl AccountRegistry {
    /// Returns the account `name` with these credentials. One with others keeps its limits.
    pub(crate) fn open(
        &mut self,
        name: &str,
        credentials: Credentials,
        gauge: &Arc<RateGauge>,
    ) -> Arc<AccountState> {
        self.uses += 1;
        let known = self.accounts.get_mut(name);
        let limits = match known {
            Some(known) if known.state.tokens.has(&credentials) => {
                known.last_use = self.uses;
                return Arc::clone(&known.state);
            }
            Some(known) => Arc::clone(&known.state.limits),
            None => {
                self.make_room();
                Arc::new(AccountLimits::new(Some(name.into()), gauge))
            }
        };
        let cache = EtagCache::of_bytes(CACHE_OF_ACCOUNT);
        let state = Arc::new(AccountState::with(limits, credentials, cache));
        let registered = RegisteredAccount {
            state: Arc::clone(&state),
            last_use: self.uses,
        };
        self.accounts.insert(name.into(), registered);
        state
    }

    /// Forgets the account `name`. Its handles go on working.
    pub(crate) fn end(&mut self, name: &str) {
        self.accounts.remove(name);
    }

    /// Returns the announced allowances of each account, by name.
    pub(crate) fn allowances(&self) -> Vec<(Arc<str>, Vec<RateAllowance>)> {
        let allowances = |(name, known): (&Arc<str>, &RegisteredAccount)| {
            (Arc::clone(name), known.state.limits.budget.allowances())
        };
        let mut accounts: Vec<_> = self.accounts.iter().map(allowances).collect();
        accounts.sort_by(|(one, _), (two, _)| one.cmp(two));
        accounts
    }

    /// Forgets the least recently used account if there are as many as there may be; one without
    /// handles first.
    fn make_room(&mut self) {
        if self.accounts.len() < MAX_ACCOUNTS {
            return;
        }
        let age = |known: &RegisteredAccount| (Arc::strong_count(&known.state) > 1, known.last_use);
        let oldest = self.accounts.iter().min_by_key(|(_, known)| age(known));
        if let Some(name) = oldest.map(|(name, _)| Arc::clone(name)) {
            self.accounts.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Token;

    fn token(text: &str) -> Credentials {
        Credentials::Token(Token::parse(text).unwrap())
    }

    #[test]
    fn account_keeps_its_limits_with_another_token_and_its_state_with_the_same() {
        let (mut accounts, gauge) = (AccountRegistry::default(), Arc::default());
        let first = accounts.open("one", token("ghu_1"), &gauge);
        let again = accounts.open("one", token("ghu_1"), &gauge);
        assert!(Arc::ptr_eq(&first, &again));
        let renewed = accounts.open("one", token("ghu_2"), &gauge);
        assert!(!Arc::ptr_eq(&first, &renewed) && Arc::ptr_eq(&first.limits, &renewed.limits));
        let other = accounts.open("other", token("ghu_2"), &gauge);
        assert!(!Arc::ptr_eq(&renewed.limits, &other.limits));
        accounts.end("one");
        let reopened = accounts.open("one", token("ghu_2"), &gauge);
        assert!(!Arc::ptr_eq(&renewed.limits, &reopened.limits));
    }

    #[test]
    fn least_recently_used_account_is_forgotten_and_one_in_use_last() {
        let (mut accounts, gauge) = (AccountRegistry::default(), Arc::default());
        let in_use = accounts.open("in use", token("ghu_1"), &gauge);
        let name = |number: usize| format!("account {number}");
        for number in 0..MAX_ACCOUNTS - 1 {
            accounts.open(&name(number), token("ghu_1"), &gauge);
        }
        accounts.open(&name(0), token("ghu_1"), &gauge);
        accounts.open("one more", token("ghu_1"), &gauge);
        let is_known = |name: &str| accounts.accounts.contains_key(name);
        assert_eq!(accounts.accounts.len(), MAX_ACCOUNTS);
        assert!(is_known("in use") && is_known(&name(0)) && is_known("one more"));
        assert!(!is_known(&name(1)), "the oldest without a handle");
        drop(in_use);
    }
}
