//! One request to GitHub, as plain data.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use tallyhook_core::github::types::InstallationId;
use zeroize::Zeroizing;

use super::error::CredentialOwner;
use super::route::shown_path;
use super::token::{ClientSecret, Token};

/// The usual limit of a response body. A page of a hundred full items is below 4 MiB.
pub(crate) const DEFAULT_MAX_BYTES: usize = 16 * 1024 * 1024;
/// The slowest transfer that is waited for: so many bytes in a second.
const MIN_BYTES_PER_SECOND: u64 = 256 * 1024;

/// A request without address and credentials, which may change from one attempt to the next.
#[derive(Clone)]
pub(crate) struct ApiRequest {
    pub(crate) method: Method,
    /// It may have secrets in it.
    pub(crate) body: Option<Zeroizing<Vec<u8>>>,
    /// The `ETag` of an earlier response.
    pub(crate) cached: Option<CachedEtag>,
    pub(crate) access: RequestAccess,
    /// The limit of the response body.
    pub(crate) max_bytes: usize,
    pub(crate) api: ApiKind,
    /// Sending it twice does no harm. A write is not: it is repeated only if GitHub certainly did
    /// not process it.
    pub(crate) repeatable: bool,
}

/// The `ETag` of an earlier response, and the token generation that it was received with.
#[derive(Clone, Debug)]
pub(crate) struct CachedEtag {
    pub(crate) etag: String,
    pub(crate) generation: u64,
}

/// The API that a request belongs to: each has its own rate limit and its own form of errors.
#[derive(Clone, Debug)]
pub(crate) enum ApiKind {
    Rest,
    /// With the subject of the query, which errors name.
    Graphql {
        subject: String,
    },
    /// The token endpoint, which is on the web site and takes forms.
    Oauth,
}

impl ApiKind {
    /// Returns the value of the metric label `kind`.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Graphql { .. } => "graphql",
            Self::Oauth => "oauth",
        }
    }

    /// Returns the media type of a request's body.
    pub(crate) const fn content_type(&self) -> &'static str {
        match self {
            Self::Rest | Self::Graphql { .. } => "application/json",
            Self::Oauth => "application/x-www-form-urlencoded",
        }
    }

    /// Returns GitHub's name of the rate limit that the request counts against.
    pub(crate) const fn resource(&self) -> &'static str {
        match self {
            Self::Rest => "core",
            Self::Graphql { .. } => "graphql",
            Self::Oauth => "oauth",
        }
    }
}

/// The identity that a request is sent as.
#[derive(Clone)]
pub(crate) enum RequestAccess {
    /// The client's own token; with an App's credentials the App itself.
    Own,
    /// The client's own token; with an App's credentials its installation on this, which is
    /// `/repos/OWNER/NAME` or `/orgs/NAME`.
    Installation(String),
    /// No credentials: GitHub refuses an `Authorization` header at the endpoint, or there is none
    /// yet.
    Nobody,
    /// An App's client id and client secret.
    Basic(ClientSecret),
    /// The same in the request's body, at the token endpoint.
    OauthClient,
}

impl RequestAccess {
    /// Returns the access that `path` needs. The path may have a query.
    pub(crate) fn for_path(path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        match path.split('/').take(4).collect::<Vec<_>>()[..] {
            ["", "repos", owner, name] => Self::Installation(format!("/repos/{owner}/{name}")),
            ["", "orgs", name] | ["", "orgs", name, _] => {
                Self::Installation(format!("/orgs/{name}"))
            }
            _ => Self::Own,
        }
    }
}

/// The account that GitHub counts a request for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Principal {
    Token,
    App,
    Installation(InstallationId),
    /// By this machine's address: GitHub allows 60 requests an hour.
    Anonymous,
    OauthClient,
}

/// The credentials of one attempt.
#[derive(Clone)]
pub(crate) struct RequestAuth {
    /// The `Authorization` header; `None` of a request without credentials.
    pub(crate) header: Option<HeaderValue>,
    pub(crate) principal: Principal,
    /// The setting or connection that has to be corrected if GitHub refuses the credentials.
    pub(crate) owner: CredentialOwner,
    /// A number that differs for each installation token of a client: an `ETag` is valid for its
    /// token only.
    pub(crate) generation: u64,
}

impl RequestAuth {
    pub(crate) fn token(token: &Token, principal: Principal, generation: u64) -> Self {
        Self {
            header: Some(token.header()),
            principal,
            owner: token.owner().clone(),
            generation,
        }
    }

    pub(crate) fn anonymous() -> Self {
        Self {
            header: None,
            principal: Principal::Anonymous,
            owner: CredentialOwner::Anonymous,
            generation: 0,
        }
    }

    pub(crate) fn oauth_client() -> Self {
        Self::of_client(None)
    }

    pub(crate) fn basic(secret: &ClientSecret) -> Self {
        Self::of_client(Some(secret.header()))
    }

    fn of_client(header: Option<HeaderValue>) -> Self {
        Self {
            header,
            principal: Principal::OauthClient,
            owner: CredentialOwner::OauthClient,
            generation: 0,
        }
    }
}

impl ApiRequest {
    pub(crate) const fn get(access: RequestAccess) -> Self {
        Self {
            method: Method::GET,
            body: None,
            cached: None,
            access,
            max_bytes: DEFAULT_MAX_BYTES,
            api: ApiKind::Rest,
            repeatable: true,
        }
    }

    /// Returns the `ETag` to send, if it is valid for the token of `auth`.
    pub(crate) fn etag(&self, auth: &RequestAuth) -> Option<&str> {
        self.cached
            .as_ref()
            .filter(|cached| cached.generation == auth.generation)
            .map(|cached| cached.etag.as_str())
    }

    /// Returns the subject that errors name: the repository of a query, else the path of `url`.
    pub(crate) fn subject(&self, url: &Url) -> String {
        match &self.api {
            ApiKind::Rest | ApiKind::Oauth => shown_path(url),
            ApiKind::Graphql { subject } => subject.clone(),
        }
    }

    /// Returns the time that sending the body may take on a slow line.
    pub(crate) fn upload_time(&self) -> Duration {
        transfer_time(self.body.as_ref().map_or(0, |body| body.len()) as u64)
    }
}

/// Returns the time that `bytes` may take on a slow line: one second for each 256 KiB.
pub(crate) const fn transfer_time(bytes: u64) -> Duration {
    Duration::from_secs(bytes / MIN_BYTES_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_determines_the_installation_that_a_request_is_sent_as() {
        for (path, expected) in [
            ("/repos/acme/api", Some("/repos/acme/api")),
            ("/repos/acme/api/pulls?state=all", Some("/repos/acme/api")),
            ("/repos/acme/api?a=b", Some("/repos/acme/api")),
            ("/orgs/acme", Some("/orgs/acme")),
            (
                "/orgs/acme/hooks/7/deliveries?per_page=100",
                Some("/orgs/acme"),
            ),
            ("/app/hook/deliveries?per_page=100", None),
            ("/app", None),
            ("/rate_limit", None),
        ] {
            let installation = match RequestAccess::for_path(path) {
                RequestAccess::Installation(account) => Some(account),
                RequestAccess::Own
                | RequestAccess::Nobody
                | RequestAccess::Basic(_)
                | RequestAccess::OauthClient => None,
            };
            assert_eq!(installation.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn transfer_time_grows_by_one_second_for_256_kib() {
        let seconds = |bytes| transfer_time(bytes).as_secs();
        assert_eq!([0, 262_143, 262_144].map(seconds), [0, 0, 1]);
        assert_eq!(seconds(40 * 1024 * 1024), 160);
        let request = ApiRequest {
            body: Some(vec![0; 1024 * 1024].into()),
            ..ApiRequest::get(RequestAccess::Own)
        };
        assert_eq!(request.upload_time(), Duration::from_secs(4));
    }
}
