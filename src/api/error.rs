//! The one shape of the API's errors.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use tallyhook_github_client::GithubError;
use tallyhook_github_client::creation::NotOpened;
use tallyhook_store::StoreError;
use utoipa::ToSchema;

use crate::tasks::OpenError;

/// What a caller is told. What went wrong inside is logged, not told.
#[derive(Debug)]
pub enum ApiError {
    BadRequest(String),
    Unauthorized,
    Forbidden(&'static str),
    NotFound(&'static str),
    Conflict(String),
    Unavailable,
    /// There is no room for one more.
    Busy(&'static str),
    /// There is nothing to ask GitHub with.
    GithubAccessMissing,
    GithubUnavailable(String),
    /// GitHub answered, but not with what was asked for.
    GithubFailed(String),
    /// What GitHub answered.
    Github(GithubError),
    /// Why there is no pull request.
    NotOpened(NotOpened),
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
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
            Self::Forbidden(_) => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Unavailable | Self::Busy(_) => "unavailable",
            Self::GithubAccessMissing => "github_access_missing",
            Self::GithubUnavailable(_) => "github_unavailable",
            Self::GithubFailed(_) => "github_failed",
            Self::Github(error) => of_github(error).1,
            Self::NotOpened(why) => of_not_opened(why).1,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(message) | Self::Conflict(message) => f.write_str(message),
            Self::Unauthorized => f.write_str("send a valid token as `Authorization: Bearer TOKEN`"),
            Self::Forbidden(message) | Self::Busy(message) => f.write_str(message),
            Self::NotFound(what) => write!(f, "there is no such {what}"),
            Self::Unavailable => f.write_str("the database does not answer; try again"),
            Self::GithubAccessMissing => f.write_str(
                "there is nothing to ask GitHub with: set GITHUB_TOKEN, or GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY",
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
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) | Self::GithubAccessMissing => StatusCode::CONFLICT,
            Self::Unavailable | Self::Busy(_) | Self::GithubUnavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::GithubFailed(_) => StatusCode::BAD_GATEWAY,
            Self::Github(error) => of_github(error).0,
            Self::NotOpened(why) => of_not_opened(why).0,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let error = ErrorDetail {
            code: self.code(),
            message: self.to_string(),
        };
        let mut response = HttpResponse::build(self.status_code());
        if matches!(self, Self::Unauthorized) {
            response.insert_header(("WWW-Authenticate", "Bearer"));
        }
        response.json(ErrorBody { error })
    }
}

/// What an error of GitHub's is here: nothing of ours that is not there, something to be set right, or a moment to wait.
fn of_github(error: &GithubError) -> (StatusCode, &'static str) {
    match error {
        GithubError::NotFound { .. } | GithubError::Gone { .. } => {
            (StatusCode::NOT_FOUND, "not_found")
        }
        GithubError::Unauthorized { .. }
        | GithubError::AppRefused { .. }
        | GithubError::AppNotInstalled { .. }
        | GithubError::Forbidden { .. } => (StatusCode::CONFLICT, "github_access_refused"),
        GithubError::Limited { .. } | GithubError::Unreachable { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "github_unavailable")
        }
        GithubError::Refused { .. }
        | GithubError::TooLarge { .. }
        | GithubError::TooMuch { .. }
        | GithubError::Unexpected { .. } => (StatusCode::BAD_GATEWAY, "github_failed"),
    }
}

/// What of a pull request GitHub refuses, each by a code of its own.
fn of_not_opened(why: &NotOpened) -> (StatusCode, &'static str) {
    match why {
        NotOpened::NoBranchName { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
        NotOpened::HeadMissing { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "head_missing"),
        NotOpened::BaseMissing { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "base_missing"),
        NotOpened::NothingNew { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "no_commits"),
        NotOpened::DraftsNotSupported { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "drafts_not_supported")
        }
        NotOpened::Refused { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "pull_request_refused"),
        NotOpened::RepositoryMissing { .. } => (StatusCode::NOT_FOUND, "repository_missing"),
        NotOpened::ReadOnly { .. } => (StatusCode::CONFLICT, "repository_read_only"),
        NotOpened::Forbidden { .. } => (StatusCode::CONFLICT, "github_access_refused"),
        NotOpened::Github(error) => of_github(error),
    }
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NoRepository | OpenError::NoBranch => Self::BadRequest(error.to_string()),
            OpenError::NotOpened(NotOpened::Github(error)) => error.into(),
            OpenError::NotOpened(why) => Self::NotOpened(why),
            OpenError::Store(error) => error.into(),
        }
    }
}

impl From<GithubError> for ApiError {
    fn from(error: GithubError) -> Self {
        tracing::warn!(%error, "GitHub did not answer as the API needs it");
        Self::Github(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the API could not be answered");
        Self::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_apart_from_what_has_to_be_set_right() {
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
            code(GithubError::AppNotInstalled { on: text() }),
            "github_access_refused"
        );
        assert_eq!(code(GithubError::Gone { path: text() }), "not_found");
        assert_eq!(
            code(GithubError::Refused {
                path: text(),
                status: 422,
                message: text(),
                complaints: vec![]
            }),
            "github_failed"
        );
    }
}
