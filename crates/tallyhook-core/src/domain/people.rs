//! The rules for bots and for human others.

use std::collections::BTreeSet;

use crate::github::types::{Account, AccountKind};

/// Accounts that count as bots although GitHub does not say so: the configured `BOT_LOGINS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bots(BTreeSet<String>);

impl Bots {
    /// Returns a list of `logins`, which are compared without regard to case, as on GitHub.
    pub fn new<'a>(logins: impl IntoIterator<Item = &'a str>) -> Self {
        Self(logins.into_iter().map(str::to_lowercase).collect())
    }

    /// Returns the listed logins in lower case.
    pub fn logins(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Returns whether an account is a bot: by GitHub's account type, then by the `[bot]` of its
    /// login, then by the list.
    pub fn contains(&self, account: &Account) -> bool {
        account.kind == AccountKind::Bot || self.contains_login(&account.login)
    }

    /// Returns whether an account of which only the login is known is a bot.
    pub fn contains_login(&self, login: &str) -> bool {
        login.ends_with("[bot]") || (!self.0.is_empty() && self.0.contains(&login.to_lowercase()))
    }

    /// Returns whether `account` is neither the pull request's author nor a bot.
    pub fn is_human_other(&self, account: &Account, author: &Account) -> bool {
        account.id != author.id && !self.contains(account)
    }
}
