//! Who is a bot, and who is another human.

use std::collections::BTreeSet;

use crate::github::types::{Account, AccountKind};

/// Accounts that count as bots although GitHub does not say so: the configured `BOT_LOGINS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bots(BTreeSet<String>);

impl Bots {
    /// Logins are compared without regard to case, as on GitHub.
    pub fn new<'a>(logins: impl IntoIterator<Item = &'a str>) -> Self {
        Self(logins.into_iter().map(str::to_lowercase).collect())
    }

    /// GitHub's account type decides; then the `[bot]` of a login, then the list.
    pub fn contains(&self, account: &Account) -> bool {
        account.kind == AccountKind::Bot
            || account.login.ends_with("[bot]")
            || (!self.0.is_empty() && self.0.contains(&account.login.to_lowercase()))
    }

    /// Whether `account` is neither the pull request's author nor a bot.
    pub fn is_human_other(&self, account: &Account, author: &Account) -> bool {
        account.id != author.id && !self.contains(account)
    }
}
