//! The GitHub that the stored facts are of.

use tallyhook_core::github::host::GithubHost;

use crate::database::statement;
use crate::{Result, Store};

impl Store {
    /// Returns the GitHub of this installation; `None` before its first delivery.
    pub async fn github_host(&self) -> Result<Option<GithubHost>> {
        let query = statement("SELECT host FROM github_host WHERE id = 1");
        let row: Option<(String,)> = self.database.row(query).await?;
        Ok(row.and_then(|(host,)| GithubHost::parse(&host)))
    }

    /// Makes `host` the GitHub of this installation, unless it has one. Returns the one it has.
    pub async fn adopt_github_host(&self, host: &GithubHost) -> Result<GithubHost> {
        self.set_github_host(
            host,
            "INSERT INTO github_host (id, host) VALUES (1, $1) ON CONFLICT DO NOTHING",
        )
        .await
    }

    /// Makes `host`, which is of the settings, the GitHub of this installation, unless there is a
    /// delivery or a repository of another one: a setting may be corrected until then. Returns the
    /// one it has.
    pub async fn configure_github_host(&self, host: &GithubHost) -> Result<GithubHost> {
        self.set_github_host(
            host,
            "INSERT INTO github_host (id, host) VALUES (1, $1) \
             ON CONFLICT (id) DO UPDATE SET host = excluded.host \
             WHERE NOT EXISTS (SELECT 1 FROM repositories) \
             AND NOT EXISTS (SELECT 1 FROM deliveries)",
        )
        .await
    }

    async fn set_github_host(&self, host: &GithubHost, insert: &'static str) -> Result<GithubHost> {
        let insert = statement(insert).bind(host.as_str());
        self.database.execute(insert).await?;
        Ok(self.github_host().await?.unwrap_or_else(|| host.clone()))
    }
}
