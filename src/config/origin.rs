//! Settings of the origin of pull requests: accounts, branches and labels of AI tools.

use tallyhook_core::domain::origin::{AddedAiAccount, OriginRules};

use super::{ConfigError, SettingSources};

pub(super) const AI_ACCOUNTS: &str = "AI_ACCOUNTS";
pub(super) const AI_BRANCHES: &str = "AI_BRANCHES";
pub(super) const AI_LABELS: &str = "AI_LABELS";

/// # Errors
/// The first invalid setting and the expected form of its value.
pub(super) fn rules(sources: &SettingSources) -> Result<OriginRules, ConfigError> {
    let text = |name| sources.value(name).unwrap_or_default();
    let accounts = text(AI_ACCOUNTS).split_whitespace().map(|account| {
        account.parse::<AddedAiAccount>().map_err(|error| {
            ConfigError::of(
                AI_ACCOUNTS,
                format!("{AI_ACCOUNTS} has `{account}`: {error}"),
            )
        })
    });
    let labels = text(AI_LABELS).lines().map(str::trim);
    Ok(OriginRules {
        accounts: accounts.collect::<Result<_, _>>()?,
        branches: text(AI_BRANCHES)
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        labels: labels
            .filter(|label| !label.is_empty())
            .map(str::to_lowercase)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{error, sources};
    use super::*;
    use crate::config::Config;

    #[test]
    fn lists_extend_accounts_and_replace_branches() {
        let origins = |file: &str| {
            Config::new(&sources(&[], file))
                .ok()
                .unwrap()
                .numbers
                .origins
        };
        assert_eq!(origins(""), OriginRules::default());
        let set = origins(
            "ai_branches = ['robot/']\nai_labels = ['Made by AI', 'ai']\nai_accounts = ['agent:7']",
        );
        assert_eq!(set.branches, ["robot/"]);
        assert!(set.labels.iter().eq(["ai", "made by ai"]));
        assert_eq!(
            set.accounts,
            ["agent:7".parse().unwrap()].into_iter().collect()
        );
        assert_eq!(
            error(&[(AI_ACCOUNTS, "agent:7 robot")]),
            "AI_ACCOUNTS has `robot`: expected ROLE:LOGIN or ROLE:ID with the role agent, reviewer \
             or chat"
        );
    }
}
