//! GitHub's API, REST and GraphQL, and its OAuth: one client of one GitHub, with the credentials of
//! the settings, and with handles of any number of accounts.
//!
//! A call returns when GitHub's response is final. The client waits for rate limits as GitHub
//! announces them, and retries failures that do no harm twice; a write that may have happened is
//! never repeated. The token is sent to its own origin only; redirects and further pages are
//! followed there and nowhere else. Live work has precedence over backfill, and while GitHub is
//! down a circuit breaker keeps requests back.
//!
//! The modules build on each other in one direction: plain data ([`GithubError`], requests,
//! responses), the meaning of a response, the transport with limits, breaker and budget, the
//! retries of one request, the tokens of an App's installations, and the client with its endpoints.

#![warn(clippy::unwrap_used)]

mod account;
mod attempt;
mod base_url;
mod budget;
mod calls;
mod circuit_breaker;
mod classify;
mod classify_graphql;
mod client;
mod clock;
mod credentials;
mod error;
mod etag_cache;
mod graphql;
pub mod hooks;
pub mod http;
mod installations;
mod manifest;
mod oauth;
mod oauth_tokens;
pub mod open_pull_request;
mod optional_parts;
mod organizations;
mod pages;
mod pkce;
pub mod pulls;
mod rate_gauge;
mod rate_limit;
mod request;
mod response;
mod route;
mod send;
mod statistics;
mod token;
mod token_identity;
pub mod token_info;
mod transport;
mod user_installations;
mod web_url;

pub use self::base_url::{ApiUrl, InvalidApiUrl};
pub use self::budget::RateAllowance;
pub use self::calls::{CallEvent, CallLog, CallOrigin, CallOutcome, GithubCall};
pub use self::circuit_breaker::{BreakerState, BreakerStatus};
pub use self::client::{Client, ConditionalResponse};
pub use self::clock::{Clock, VirtualTime};
pub use self::credentials::{Credentials, GithubApp, InvalidApp};
pub use self::error::{
    CredentialOwner, DetectedSecret, FieldError, ForbiddenReason, GithubError, GraphqlError,
};
pub use self::graphql::GraphqlResponse;
pub use self::manifest::{AppAddresses, AppManifest, AppOwner, ConversionError, ConvertedApp};
pub use self::oauth::{AuthorizationRequest, OauthApp, OauthCallback, OauthError, UserTokens};
pub use self::oauth_tokens::{CheckedToken, TokenRevocation};
pub use self::organizations::{GithubMembership, MembershipState, OrganizationInfo, PartialList};
pub use self::pages::PagedList;
pub use self::pkce::{PkceVerifier, random_secret};
pub use self::rate_gauge::RATE_REMAINING;
pub use self::statistics::ClientStatistics;
pub use self::token::{ClientSecret, Token};
pub use self::token_identity::{AuthenticatedUser, PersonalTokenKind, RefusedToken, TokenIdentity};
pub use self::transport::REQUESTS;
pub use self::user_installations::{
    InstallationOwner, InstallationRepository, ListedPermissions, RepositoryPages, UserInstallation,
};
pub use self::web_url::WebUrl;

pub type Result<T, E = GithubError> = std::result::Result<T, E>;
