//! Tokens of people at GitHub: whether one is valid, and its end.

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tallyhook_core::secret::Secret;

use super::Result;
use super::client::{Client, to_json};
use super::error::GithubError;
use super::oauth::OauthApp;
use super::request::{ApiRequest, RequestAccess};
use super::response::{FinalResponse, parse_json};
use super::token_identity::AuthenticatedUser;

/// The number of tokens that one request can end.
const MAX_REVOKED: usize = 1000;

/// A token of a person that GitHub accepts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CheckedToken {
    /// The scopes of an OAuth App's token; empty of a GitHub App's.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    /// `None` of a token that does not expire.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    /// `None` of an account that was deleted.
    #[serde(default)]
    pub user: Option<AuthenticatedUser>,
}

/// The end of a token at GitHub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRevocation {
    Revoked,
    /// It had ended before.
    HadEnded,
    /// This GitHub has no such endpoint: the person has to delete the token there.
    NotOffered,
}

#[derive(Serialize)]
struct AccessTokenBody<'a> {
    access_token: &'a str,
}

#[derive(Serialize)]
struct CredentialsBody<'a> {
    credentials: Vec<&'a str>,
}

impl Client {
    /// Asks GitHub about a token that it issued to `app`. Returns `None` if it is no longer valid.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do.
    pub async fn check_token(
        &self,
        app: &OauthApp,
        token: &Secret,
    ) -> Result<Option<CheckedToken>> {
        let (method, path) = (Method::POST, token_path(app));
        match self.about_token(app, method, &path, token).await {
            Ok(response) => parse_json(response.url.path(), &response.body).map(Some),
            Err(error) if is_about_token(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends one token that GitHub issued to `app`, and no other token of the person.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do.
    pub async fn delete_token(&self, app: &OauthApp, token: &Secret) -> Result<TokenRevocation> {
        self.end(app, &token_path(app), token).await
    }

    /// Ends every token that GitHub issued to `app` for the person whose token this is, those of
    /// other connections as well.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do.
    pub async fn delete_grant(&self, app: &OauthApp, token: &Secret) -> Result<TokenRevocation> {
        let path = format!("/applications/{}/grant", app.client_id());
        self.end(app, &path, token).await
    }

    /// Ends tokens of any kind, such as those that a person entered. GitHub says nothing of each.
    /// Only github.com offers it, 60 times an hour.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do.
    pub async fn revoke_credentials(&self, tokens: &[&Secret]) -> Result<TokenRevocation> {
        let path = "/credentials/revoke";
        for tokens in tokens.chunks(MAX_REVOKED) {
            let credentials = tokens.iter().map(|token| token.expose()).collect();
            let body = to_json(path, &CredentialsBody { credentials })?;
            let request = ApiRequest {
                method: Method::POST,
                body: Some(body),
                ..ApiRequest::get(RequestAccess::Nobody)
            };
            match self
                .execute_write(request, self.transport().url(path)?)
                .await
            {
                Ok(_) => {}
                Err(GithubError::NotFound { .. }) => return Ok(TokenRevocation::NotOffered),
                Err(error) => return Err(error),
            }
        }
        Ok(TokenRevocation::Revoked)
    }

    async fn end(&self, app: &OauthApp, path: &str, token: &Secret) -> Result<TokenRevocation> {
        match self.about_token(app, Method::DELETE, path, token).await {
            Ok(_) => Ok(TokenRevocation::Revoked),
            Err(error) if is_about_token(&error) => Ok(TokenRevocation::HadEnded),
            Err(error) => Err(error),
        }
    }

    /// Sends a token as the App's OAuth client. The second of two such requests finds that the
    /// token has ended, so that it may be repeated.
    async fn about_token(
        &self,
        app: &OauthApp,
        method: Method,
        path: &str,
        token: &Secret,
    ) -> Result<FinalResponse> {
        let access_token = token.expose();
        let request = ApiRequest {
            method,
            body: Some(to_json(path, &AccessTokenBody { access_token })?),
            ..ApiRequest::get(RequestAccess::Basic(app.basic()?))
        };
        self.execute(request, self.transport().url(path)?).await
    }
}

fn token_path(app: &OauthApp) -> String {
    format!("/applications/{}/token", app.client_id())
}

/// Returns whether GitHub refuses the token that a request is about, as one that it does not know.
fn is_about_token(error: &GithubError) -> bool {
    matches!(
        error,
        GithubError::NotFound { .. } | GithubError::Refused { status: 422, .. }
    )
}
