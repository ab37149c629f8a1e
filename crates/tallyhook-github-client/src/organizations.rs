//! Organizations of a person, and memberships in organizations and their teams.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Result;
use super::client::Client;
use super::error::GithubError;
use super::hooks::GithubName;

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OrganizationInfo {
    pub id: i64,
    pub login: String,
}

/// A list that may lack entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialList<T> {
    pub items: Vec<T>,
    /// The ids of organizations that are left out, since they want single sign-on first.
    pub missing_sso: BTreeSet<i64>,
    /// It is empty because the token cannot see the entries, and says nothing about them.
    pub is_unknown: bool,
}

/// A membership of a person.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GithubMembership {
    pub state: MembershipState,
    /// `admin` or `member` in an organization, `maintainer` or `member` in a team.
    pub role: String,
    /// `None` in a team.
    #[serde(default)]
    pub organization: Option<OrganizationInfo>,
}

/// The state of a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipState {
    Active,
    /// An invitation that was not accepted, or a state of the future: no membership.
    #[serde(other)]
    Pending,
}

impl GithubMembership {
    /// Returns whether the person is a member. An invitation is no membership.
    pub fn is_active(&self) -> bool {
        self.state == MembershipState::Active
    }
}

impl Client {
    /// Fetches the organizations of the person of the client's token.
    ///
    /// GitHub answers a fine-grained token with an empty list, which is unknown and not none.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn user_organizations(&self) -> Result<PartialList<OrganizationInfo>> {
        self.partial_list("/user/orgs?per_page=100").await
    }

    /// Fetches the memberships of the person of the client's token, invitations too.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn user_memberships(&self) -> Result<PartialList<GithubMembership>> {
        self.partial_list("/user/memberships/orgs?per_page=100")
            .await
    }

    /// Fetches the membership of `login` in an organization; `None` if there is none.
    ///
    /// # Errors
    /// As of [`Client::get`]; [`GithubError::Forbidden`] if the client's own account is no member,
    /// which says nothing about `login`.
    pub async fn organization_membership(
        &self,
        organization: &GithubName,
        login: &GithubName,
    ) -> Result<Option<GithubMembership>> {
        let path = format!("/orgs/{organization}/memberships/{login}");
        found(self.get(&path).await)
    }

    /// Fetches the membership of `login` in a team of an organization; `None` if there is none, and
    /// if there is no such team.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub async fn team_membership(
        &self,
        organization: &GithubName,
        team: &GithubName,
        login: &GithubName,
    ) -> Result<Option<GithubMembership>> {
        let path = format!("/orgs/{organization}/teams/{team}/memberships/{login}");
        found(self.get(&path).await)
    }

    async fn partial_list<T: DeserializeOwned>(&self, path: &str) -> Result<PartialList<T>> {
        let mut pages = self.pages(path)?;
        let mut items = Vec::new();
        while let Some(page) = pages.next::<T>().await? {
            items.extend(page);
        }
        Ok(PartialList {
            is_unknown: items.is_empty() && !pages.names_scopes(),
            missing_sso: pages.missing_sso().clone(),
            items,
        })
    }
}

fn found(membership: Result<GithubMembership>) -> Result<Option<GithubMembership>> {
    match membership {
        Ok(membership) => Ok(Some(membership)),
        Err(GithubError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
