//! The installations of an App that a person can see, and their repositories. They are the proof
//! that an installation may be claimed: its id can be typed by anybody.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tallyhook_core::github::types::{InstallationId, RepoId};

use super::Result;
use super::client::Client;
use super::pages::PagedList;

/// An installation that the person of a token can see.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct UserInstallation {
    pub id: InstallationId,
    pub app_id: i64,
    /// `None` of an enterprise.
    pub account: Option<InstallationOwner>,
    /// `all` or `selected`.
    pub repository_selection: String,
    /// The granted permissions by name, such as `contents`: `write`.
    #[serde(default)]
    pub permissions: BTreeMap<String, String>,
    /// The page where it is changed.
    pub html_url: String,
    #[serde(default)]
    pub suspended_at: Option<DateTime<Utc>>,
}

/// The account that an App is installed on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct InstallationOwner {
    pub id: i64,
    pub login: Option<String>,
    /// `User` or `Organization`.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
}

/// A repository in a list to choose from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct InstallationRepository {
    pub id: RepoId,
    pub full_name: String,
    pub private: bool,
    #[serde(default)]
    pub archived: bool,
    pub default_branch: Option<String>,
    pub html_url: String,
    /// `None` where GitHub does not send them.
    #[serde(default)]
    pub permissions: Option<ListedPermissions>,
}

/// The rights of the person in a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ListedPermissions {
    /// To set up webhooks.
    #[serde(default)]
    pub admin: bool,
    #[serde(default)]
    pub push: bool,
}

/// A list of repositories in pages.
pub struct RepositoryPages<'a>(PagedList<'a>);

#[derive(Deserialize)]
struct InstallationPage {
    installations: Vec<UserInstallation>,
}

#[derive(Deserialize)]
struct InstallationRepositoryPage {
    repositories: Vec<InstallationRepository>,
}

impl Client {
    /// Fetches the installations that the person of the client's token can see, of the App that the
    /// token was issued to.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn user_installations(&self) -> Result<Vec<UserInstallation>> {
        let mut pages = self.pages("/user/installations?per_page=100")?;
        let mut installations = Vec::new();
        while let Some(page) = pages.next_page::<InstallationPage>().await? {
            installations.extend(page.installations);
        }
        Ok(installations)
    }

    /// Returns the installation `id` of the App `app_id` if the person of the client's token can
    /// see it. Only then may it be claimed.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn user_installation(
        &self,
        id: InstallationId,
        app_id: i64,
    ) -> Result<Option<UserInstallation>> {
        let installations = self.user_installations().await?;
        let is_it = |known: &UserInstallation| known.id == id && known.app_id == app_id;
        Ok(installations.into_iter().find(is_it))
    }

    /// Returns the repositories of an installation that the person of the client's token can see,
    /// of which nothing is fetched yet.
    ///
    /// # Errors
    /// If the path leads away from the API.
    pub fn user_installation_repositories(
        &self,
        installation: InstallationId,
    ) -> Result<RepositoryPages<'_>> {
        let path = format!("/user/installations/{installation}/repositories?per_page=100");
        self.pages(&path).map(RepositoryPages)
    }
}

impl RepositoryPages<'_> {
    /// Fetches the next page. Returns `None` after the last.
    ///
    /// # Errors
    /// As of [`PagedList::next`].
    pub async fn next(&mut self) -> Result<Option<Vec<InstallationRepository>>> {
        let page = self.0.next_page::<InstallationRepositoryPage>().await?;
        Ok(page.map(|page| page.repositories))
    }
}
