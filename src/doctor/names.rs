//! Checks of the names of repositories in the settings.

use tallyhook_store::{Result, Store};

use super::Finding;
use crate::config::Config;

const CHECK: &str = "repository name";

/// Returns a warning for each name in the settings that means no known repository, or one that has
/// another name now.
pub(super) async fn findings(config: &Config, store: &Store) -> Vec<Finding> {
    check(config, store).await.unwrap_or_else(|error| {
        let why = error.to_string();
        vec![Finding::wrong(CHECK, why, "see the log of the database")]
    })
}

async fn check(config: &Config, store: &Store) -> Result<Vec<Finding>> {
    // Before the first delivery no name means any.
    if !store.has_repository_of("").await? {
        return Ok(Vec::new());
    }
    let channels = config.notify.channels.iter().flat_map(|channel| {
        let names = channel.filter.repos.iter().flatten();
        names.map(|name| {
            (
                name.as_str(),
                format!("`repos` of channel `{}`", channel.name),
            )
        })
    });
    let default = config.default_repository.iter();
    let default = default.map(|name| {
        let setting = "GITHUB_REPO_OWNER and GITHUB_REPO_NAME".to_owned();
        (name.as_str(), setting)
    });
    let mut findings = Vec::new();
    for (name, setting) in default.chain(channels) {
        findings.extend(name_finding(name, &setting, store).await?);
    }
    Ok(findings)
}

async fn name_finding(name: &str, setting: &str, store: &Store) -> Result<Option<Finding>> {
    let present = match name.strip_suffix('*') {
        Some(owner) => store
            .has_repository_of(owner)
            .await?
            .then(|| name.to_owned()),
        None => match store.repository_id(name).await? {
            Some(repo) => store.repository_names(repo).await?.into_iter().next(),
            None => None,
        },
    };
    Ok(match present {
        Some(present) if present.eq_ignore_ascii_case(name) => None,
        Some(present) => Some(Finding::warning(
            CHECK,
            format!("`{name}` in {setting} is called {present} now; it still works"),
            format!("write {present}: another repository may take the former name"),
        )),
        None => Some(Finding::warning(
            CHECK,
            format!("`{name}` in {setting} matches no repository that is known"),
            "check the spelling, as owner/name; a repository is known from its first delivery or \
             `POST /api/repos` on",
        )),
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use tallyhook_core::github::types::RepoId;
    use tallyhook_store::OpenMode;

    use super::*;
    use crate::config::{
        ChannelConfig, ChannelFilter, ChannelHours, ChannelReceiver, SettingSources,
    };
    use crate::sync::fetch::observed_repository;

    #[tokio::test]
    async fn names_that_changed_or_match_nothing_are_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("t.db").display());
        let store = tallyhook_store::open(&url, OpenMode::Exclusive)
            .await
            .unwrap();
        for name in ["acme/api", "acme/backend"] {
            let repository = observed_repository(RepoId(7), name.to_owned(), None);
            store
                .track(&repository, DateTime::UNIX_EPOCH)
                .await
                .unwrap();
        }
        let mut config = Config::new(&SettingSources::default()).ok().unwrap();
        config.default_repository = Some("Acme/Backend".to_owned());
        let repos = ["acme/*", "acme/api", "acme/aip", "acem/*"];
        config.notify.channels = vec![ChannelConfig {
            name: "team".to_owned(),
            team: None,
            receiver: ChannelReceiver::Slack,
            url: String::new(),
            filter: ChannelFilter {
                repos: Some(repos.map(str::to_owned).to_vec()),
                kinds: None,
            },
            hours: ChannelHours::default(),
        }];
        let found: Vec<_> = findings(&config, &store)
            .await
            .into_iter()
            .map(|finding| finding.found)
            .collect();
        assert_eq!(
            found,
            [
                "`acme/api` in `repos` of channel `team` is called acme/backend now; it still works",
                "`acme/aip` in `repos` of channel `team` matches no repository that is known",
                "`acem/*` in `repos` of channel `team` matches no repository that is known",
            ]
        );
        store.close().await;
    }
}
