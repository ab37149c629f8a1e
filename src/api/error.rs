//! Errors of the API: status, code and message of the response, and the cause for the log.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use tallyhook_github_client::GithubError;
use tallyhook_github_client::open_pull_request::OpenPullRequestError;
use tallyhook_store::{AccessRole, StoreError};
use utoipa::ToSchema;

use crate::tasks::OpenError;

/// An error of the API, as an external message for the client and an internal one for the log.
///
/// The external message is the `Display` form and says nothing of the inside of this process. The
/// internal one is written once, where the error becomes a response.
#[derive(Debug)]
pub enum ApiError {
    BadRequest(String),
    Unauthorized,
    /// The peer sent many wrong tokens; the seconds until it is forgotten.
    TooManyWrongTokens(u64),
    /// The body of the request did not arrive in time.
    TooSlow,
    /// The body of the request is over this limit.
    TooLarge(&'static str),
    /// The body of the request is not of this media type.
    MediaType(&'static str),
    /// The path exists, with these methods.
    WrongMethod(String),
    Forbidden(&'static str),
    /// The caller lacks the role of the call.
    RoleMissing {
        needed: AccessRole,
        found: AccessRole,
    },
    /// Numbers of single people are not shown, and the token is of none of them.
    PeopleHidden,
    NotFound(&'static str),
    /// The caller is in several teams, of these slugs, and has to name one.
    TeamNeeded(Vec<String>),
    Conflict(String),
    /// The database failed.
    Unavailable(StoreError),
    /// A limit is reached.
    Busy(&'static str),
    /// Neither a GitHub token nor an App is configured.
    GithubAccessMissing,
    GithubUnavailable(String),
    /// GitHub returned another answer than expected.
    GithubFailed(String),
    /// GitHub returned an error.
    Github(GithubError),
    /// A pull request could not be opened.
    NotOpened(OpenPullRequestError),
}

/// The body of every error response.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorBody)]
pub struct ApiErrorBody {
    pub error: ApiErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorDetail)]
pub struct ApiErrorDetail {
    /// For programs, in `snake_case`.
    #[schema(example = "not_found")]
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl ApiError {
    fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::TooManyWrongTokens(_) => "too_many_wrong_tokens",
            Self::TooSlow => "too_slow",
            Self::TooLarge(_) => "too_large",
            Self::MediaType(_) => "unsupported_media_type",
            Self::WrongMethod(_) => "method_not_allowed",
            Self::Forbidden(_) | Self::RoleMissing { .. } => "forbidden",
            Self::PeopleHidden => "people_hidden",
            Self::NotFound(_) => "not_found",
            Self::TeamNeeded(_) => "team_needed",
            Self::Conflict(_) => "conflict",
            Self::Unavailable(_) | Self::Busy(_) => "unavailable",
            Self::GithubAccessMissing => "github_access_missing",
            Self::GithubUnavailable(_) => "github_unavailable",
            Self::GithubFailed(_) => "github_failed",
            Self::Github(error) => github_response(error).1,
            Self::NotOpened(why) => not_opened_response(why).1,
        }
    }

    /// Writes the internal message. Errors of the client have none.
    pub(crate) fn log(&self) {
        match self {
            Self::Unavailable(error) => {
                tracing::error!(%error, "cannot answer a request to the API: {error}");
            }
            Self::Github(error) | Self::NotOpened(OpenPullRequestError::Github(error)) => {
                tracing::warn!(%error, "GitHub failed a request that the API needs: {error}");
            }
            _ => {}
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(message) | Self::Conflict(message) => f.write_str(message),
            Self::Unauthorized => {
                f.write_str("send a valid token as `Authorization: Bearer TOKEN`")
            }
            Self::TooManyWrongTokens(_) => f.write_str(
                "this address has sent many wrong tokens; wait, or send a valid one as \
                 `Authorization: Bearer TOKEN`",
            ),
            Self::TooSlow => f.write_str("the body did not arrive in time"),
            Self::TooLarge(limit) => write!(f, "the body is larger than {limit}"),
            Self::MediaType(expected) => {
                write!(f, "send the body as `Content-Type: {expected}`")
            }
            Self::RoleMissing { needed, found } => write!(
                f,
                "this call needs a token of the role `{needed}`; this one has the role `{found}`"
            ),
            Self::WrongMethod(allowed) => write!(f, "this path takes {allowed} only"),
            Self::PeopleHidden => f.write_str(
                "numbers of people are not shown: set SHOW_PEOPLE, or ask for your own with a \
                 token made by `tallyhook token create NAME --login LOGIN`",
            ),
            Self::Forbidden(message) | Self::Busy(message) => f.write_str(message),
            Self::NotFound(what) => write!(f, "there is no such {what}"),
            Self::TeamNeeded(teams) => write!(
                f,
                "you are in several teams: name one in the path, as in /api/teams/TEAM/prs, or \
                 choose one on the page of teams; yours are {}",
                teams.join(", ")
            ),
            Self::Unavailable(_) => f.write_str("the database is not available; try again"),
            Self::GithubAccessMissing => f.write_str(
                "there is no access to GitHub: set GITHUB_TOKEN, or GITHUB_APP_ID and \
                 GITHUB_APP_PRIVATE_KEY",
            ),
            Self::GithubUnavailable(message) | Self::GithubFailed(message) => f.write_str(message),
            Self::Github(error) => error.fmt(f),
            Self::NotOpened(why) => why.fmt(f),
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::TooManyWrongTokens(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::WrongMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Forbidden(_) | Self::RoleMissing { .. } | Self::PeopleHidden => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) | Self::TeamNeeded(_) | Self::GithubAccessMissing => {
                StatusCode::CONFLICT
            }
            Self::Unavailable(_) | Self::Busy(_) | Self::GithubUnavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::GithubFailed(_) => StatusCode::BAD_GATEWAY,
            Self::Github(error) => github_response(error).0,
            Self::NotOpened(why) => not_opened_response(why).0,
        }
    }

    fn error_response(&self) -> HttpResponse {
        self.log();
        let error = ApiErrorDetail {
            code: self.code(),
            message: self.to_string(),
        };
        let mut response = HttpResponse::build(self.status_code());
        match self {
            Self::Unauthorized => {
                response.insert_header(("WWW-Authenticate", "Bearer"));
            }
            Self::WrongMethod(allowed) => {
                response.insert_header((ALLOW, allowed.as_str()));
            }
            Self::TooManyWrongTokens(seconds) => {
                response.insert_header((RETRY_AFTER, *seconds));
                response.force_close();
            }
            _ => {}
        }
        response.json(ApiErrorBody { error })
    }
}

/// Returns status and code of an error of GitHub: not found, a setting to fix, or a reason to
/// retry.
fn github_response(error: &GithubError) -> (StatusCode, &'static str) {
    match error {
        GithubError::NotFound { .. } | GithubError::Gone { .. } => {
            (StatusCode::NOT_FOUND, "not_found")
        }
        GithubError::Unauthorized { .. }
        | GithubError::AppRefused { .. }
        | GithubError::AppNotInstalled { .. }
        | GithubError::Forbidden { .. }
        | GithubError::PartRefused { .. }
        | GithubError::SsoRequired { .. } => (StatusCode::CONFLICT, "github_access_refused"),
        GithubError::Limited { .. }
        | GithubError::Unreachable { .. }
        | GithubError::NotRecorded { .. }
        | GithubError::Unknown { .. } => (StatusCode::SERVICE_UNAVAILABLE, "github_unavailable"),
        GithubError::Refused { .. }
        | GithubError::SecretDetected { .. }
        | GithubError::GraphqlRefused { .. }
        | GithubError::TooLarge { .. }
        | GithubError::TooMuch { .. }
        | GithubError::Unexpected { .. } => (StatusCode::BAD_GATEWAY, "github_failed"),
    }
}

/// Returns status and code of a pull request that was not opened, a code for each reason.
fn not_opened_response(why: &OpenPullRequestError) -> (StatusCode, &'static str) {
    match why {
        OpenPullRequestError::InvalidBranchName { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
        OpenPullRequestError::HeadMissing { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "head_missing")
        }
        OpenPullRequestError::BaseMissing { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "base_missing")
        }
        OpenPullRequestError::NoNewCommits { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "no_commits")
        }
        OpenPullRequestError::DraftsNotSupported { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "drafts_not_supported")
        }
        OpenPullRequestError::Refused { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "pull_request_refused")
        }
        OpenPullRequestError::RepositoryMissing { .. } => {
            (StatusCode::NOT_FOUND, "repository_missing")
        }
        OpenPullRequestError::RepositoryArchived { .. } => {
            (StatusCode::CONFLICT, "repository_read_only")
        }
        OpenPullRequestError::Forbidden { .. } => (StatusCode::CONFLICT, "github_access_refused"),
        OpenPullRequestError::Github(error) => github_response(error),
    }
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NoRepository | OpenError::NoBranch => Self::BadRequest(error.to_string()),
            OpenError::NotOpened(OpenPullRequestError::Github(error)) => error.into(),
            OpenError::NotOpened(why) => Self::NotOpened(why),
            OpenError::Store(error) => error.into(),
        }
    }
}

impl From<GithubError> for ApiError {
    fn from(error: GithubError) -> Self {
        Self::Github(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_github_errors_have_another_code_than_permanent_ones() {
        let text = String::new;
        let code = |error: GithubError| ApiError::Github(error).code();
        assert_eq!(
            code(GithubError::Limited {
                until: chrono::DateTime::UNIX_EPOCH
            }),
            "github_unavailable"
        );
        assert_eq!(
            code(GithubError::Unreachable {
                origin: text(),
                reason: text()
            }),
            "github_unavailable"
        );
        assert_eq!(
            code(GithubError::AppNotInstalled { account: text() }),
            "github_access_refused"
        );
        assert_eq!(code(GithubError::Gone { path: text() }), "not_found");
        assert_eq!(
            code(GithubError::Refused {
                path: text(),
                status: 422,
                message: text(),
                errors: vec![]
            }),
            "github_failed"
        );
    }
}
