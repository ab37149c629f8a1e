//! The AI accounts of GitHub: those that are shipped, and those of the settings.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::github::types::Account;

/// The work of an AI account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, strum::EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AiRole {
    /// Opens pull requests.
    Agent,
    /// Reviews pull requests of others.
    Reviewer,
    /// Answers in comments.
    Chat,
}

/// AI accounts by id, or by login where the id is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AiAccounts {
    by_id: BTreeMap<i64, Vec<AiRole>>,
    by_login: BTreeMap<String, Vec<AiRole>>,
    /// Addresses of commit trailers; one that begins with `*` stands for all that end like it.
    addresses: Vec<String>,
}

/// The accounts of the data file.
static SHIPPED: LazyLock<AiAccounts> =
    LazyLock::new(
        || match toml::from_str::<AccountFile>(include_str!("accounts.toml")) {
            Ok(file) => AiAccounts::from(file),
            // A test of this module reads the file.
            Err(_) => AiAccounts::default(),
        },
    );

#[derive(Deserialize)]
struct AccountFile {
    addresses: Vec<String>,
    account: Vec<AccountFileEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountFileEntry {
    id: Option<i64>,
    login: String,
    roles: Vec<AiRole>,
}

impl From<AccountFile> for AiAccounts {
    fn from(file: AccountFile) -> Self {
        let mut accounts = Self {
            addresses: file.addresses,
            ..Self::default()
        };
        for entry in file.account {
            match entry.id {
                Some(id) => accounts.by_id.insert(id, entry.roles),
                None => accounts
                    .by_login
                    .insert(entry.login.to_lowercase(), entry.roles),
            };
        }
        accounts
    }
}

/// An account that the settings add: `ROLE:LOGIN` or `ROLE:ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedAiAccount {
    role: AiRole,
    account: String,
}

/// An error for a text that is no [`AddedAiAccount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected ROLE:LOGIN or ROLE:ID with the role agent, reviewer or chat")]
pub struct AddedAiAccountError;

impl FromStr for AddedAiAccount {
    type Err = AddedAiAccountError;

    fn from_str(text: &str) -> Result<Self, AddedAiAccountError> {
        let (role, account) = text.split_once(':').ok_or(AddedAiAccountError)?;
        let role = role.parse().map_err(|_| AddedAiAccountError)?;
        let account = account.trim().to_lowercase();
        match account.is_empty() {
            true => Err(AddedAiAccountError),
            false => Ok(Self { role, account }),
        }
    }
}

impl FromIterator<AddedAiAccount> for AiAccounts {
    fn from_iter<I: IntoIterator<Item = AddedAiAccount>>(added: I) -> Self {
        let mut accounts = Self::default();
        for AddedAiAccount { role, account } in added {
            let roles = match account.parse() {
                Ok(id) => accounts.by_id.entry(id).or_default(),
                Err(_) => accounts.by_login.entry(account).or_default(),
            };
            roles.push(role);
        }
        accounts
    }
}

impl AiAccounts {
    /// Returns the accounts that are shipped.
    pub(super) fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// Returns the roles of an account; none for an account that is not in the list.
    pub(super) fn roles(&self, account: &Account) -> &[AiRole] {
        // Of the few that have no id; logins are ASCII.
        let by_login = || {
            let mut accounts = self.by_login.iter();
            let known = accounts.find(|(login, _)| login.eq_ignore_ascii_case(&account.login));
            known.map(|(_, roles)| roles)
        };
        let roles = self.by_id.get(&account.id.0).or_else(by_login);
        roles.map_or(&[], Vec::as_slice)
    }

    /// Returns whether the address of a commit trailer is that of an AI tool or of an account in
    /// the list.
    pub(super) fn has_address(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        let is_known = |known: &String| match known.strip_prefix('*') {
            Some(end) => address.ends_with(end),
            None => address == *known,
        };
        self.addresses.iter().any(is_known) || self.has_private_address(&address)
    }

    /// The address that GitHub gives to an account: `ID+LOGIN@users.noreply.github.com`.
    fn has_private_address(&self, address: &str) -> bool {
        let account = address.strip_suffix("@users.noreply.github.com");
        let Some((id, login)) = account.and_then(|account| account.split_once('+')) else {
            return false;
        };
        id.parse().is_ok_and(|id: i64| self.by_id.contains_key(&id))
            || self.by_login.contains_key(login)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_file_is_read() {
        let file: AccountFile = toml::from_str(include_str!("accounts.toml")).unwrap();
        assert_eq!(file.account.len(), 28);
        let shipped = AiAccounts::shipped();
        assert_eq!((shipped.by_id.len(), shipped.by_login.len()), (20, 8));
    }

    #[test]
    fn added_account_needs_a_role_and_a_name() {
        for text in ["our-bot[bot]", "agent:", "owner:7", ":7", "agent"] {
            assert_eq!(
                text.parse::<AddedAiAccount>(),
                Err(AddedAiAccountError),
                "{text}"
            );
        }
        let added =
            ["agent:7", "reviewer:7", "chat:Our-Bot[bot]"].map(|text| text.parse().unwrap());
        let accounts: AiAccounts = added.into_iter().collect();
        assert_eq!(accounts.by_id[&7], [AiRole::Agent, AiRole::Reviewer]);
        assert_eq!(accounts.by_login["our-bot[bot]"], [AiRole::Chat]);
    }
}
