//! The reasons for which a person is not signed in, named by what to do next.

use std::fmt;

use chrono::SecondsFormat;
use tallyhook_github_client::OauthError;
use tallyhook_store::{Moment, StoreError};

use super::ReturnPlace;
use crate::secrets::SecretError;

/// The reason for which a person is not signed in. Nothing is stored of it. The text is for the
/// person at the browser and has nothing in it that the browser sent.
#[derive(Debug)]
pub enum SignInProblem {
    /// The person said no. They can allow it.
    AccessDenied(ReturnPlace),
    /// It took too long. Start again.
    FlowExpired,
    /// It was used before, or was never begun. Start again.
    FlowUnknown,
    /// Another browser began it. Start again in this one.
    FlowOtherBrowser,
    /// GitHub does not accept the code any more. Start again.
    CodeExpired,
    /// The person has to verify an address at GitHub.
    EmailUnverified,
    /// The operator has to correct a setting here or at GitHub.
    AppMisconfigured(OauthError),
    /// The code is used up, and GitHub's answer did not arrive. Start again.
    OutcomeUnknown,
    /// GitHub did not do it. Try again later.
    GithubUnavailable,
    /// An operator has disabled the person.
    PersonDisabled,
    /// One more token in this hour would end those of the person's connections. Wait until then.
    TooManySignIns(Moment),
    /// This address began very many. Wait a minute.
    TooManyFlows,
    /// The operator has to put a key back, or to look at the database.
    Secrets(SecretError),
}

impl SignInProblem {
    /// Returns the name for programs and for the support.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AccessDenied(_) => "access_denied",
            Self::FlowExpired => "flow_expired",
            Self::FlowUnknown => "flow_unknown",
            Self::FlowOtherBrowser => "flow_other_browser",
            Self::CodeExpired => "code_expired",
            Self::EmailUnverified => "email_unverified",
            Self::AppMisconfigured(_) => "app_misconfigured",
            Self::OutcomeUnknown => "exchange_outcome_unknown",
            Self::GithubUnavailable => "github_unavailable",
            Self::PersonDisabled => "person_disabled",
            Self::TooManySignIns(_) => "too_many_sign_ins",
            Self::TooManyFlows => "too_many_requests",
            Self::Secrets(SecretError::KeyMissing) => "encryption_key_missing",
            Self::Secrets(SecretError::Locked(_)) => "connection_locked",
            Self::Secrets(_) => "unavailable",
        }
    }

    /// Returns the status of the response.
    pub fn status(&self) -> u16 {
        match self {
            Self::FlowUnknown | Self::FlowOtherBrowser => 400,
            Self::AccessDenied(_) | Self::PersonDisabled => 403,
            Self::EmailUnverified => 409,
            Self::FlowExpired | Self::CodeExpired => 410,
            Self::TooManySignIns(_) | Self::TooManyFlows => 429,
            Self::AppMisconfigured(_) | Self::OutcomeUnknown => 502,
            Self::GithubUnavailable | Self::Secrets(_) => 503,
        }
    }

    /// Returns true if the person can start again at once, in this browser.
    pub fn can_start_again(&self) -> bool {
        !matches!(
            self,
            Self::PersonDisabled
                | Self::AppMisconfigured(_)
                | Self::TooManySignIns(_)
                | Self::TooManyFlows
                | Self::Secrets(_)
        )
    }

    /// Returns the meaning of an error of the web flow that goes on at `place`.
    pub(super) fn of(error: OauthError, place: ReturnPlace) -> Self {
        match error {
            OauthError::AccessDenied => Self::AccessDenied(place),
            OauthError::CodeExpired { .. } => Self::CodeExpired,
            OauthError::UnverifiedEmail => Self::EmailUnverified,
            OauthError::OutcomeUnknown { .. } => Self::OutcomeUnknown,
            error if error.is_for_operator() => Self::AppMisconfigured(error),
            OauthError::Github(_) => Self::GithubUnavailable,
            // Other words of GitHub's: the code is of no use any more.
            _ => Self::CodeExpired,
        }
    }
}

impl fmt::Display for SignInProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AccessDenied(_) => {
                "GitHub was not allowed to sign you in: start again, and allow it there"
            }
            Self::FlowExpired => "signing in took longer than 15 minutes: start again",
            Self::FlowUnknown => {
                "this way to sign in was used before, or was never begun here: start again"
            }
            Self::FlowOtherBrowser => {
                "another browser began to sign in: start again in this one, and let it keep cookies"
            }
            Self::CodeExpired => "GitHub does not accept its code any more: start again",
            Self::EmailUnverified => {
                "GitHub wants a verified e-mail address of your account: verify one in the \
                 settings there, then start again"
            }
            Self::AppMisconfigured(error) => {
                return write!(
                    f,
                    "nobody can sign in until an operator of this server acts: {error}"
                );
            }
            Self::OutcomeUnknown => {
                "GitHub's answer did not arrive, and its code is used up: start again"
            }
            Self::GithubUnavailable => "GitHub does not answer at present: start again later",
            Self::PersonDisabled => "your account here is disabled: ask an operator of this server",
            Self::TooManySignIns(until) => {
                let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
                return write!(
                    f,
                    "you signed in very often within an hour, and once more would end your \
                     connections at GitHub: start again after {until}, or use a session that you \
                     have"
                );
            }
            Self::TooManyFlows => {
                "this address began to sign in very often: start again in a minute"
            }
            Self::Secrets(SecretError::Store(_)) => {
                "the database is not available now: start again later"
            }
            Self::Secrets(error) => {
                return write!(
                    f,
                    "nobody can sign in until an operator of this server acts: {error}"
                );
            }
        })
    }
}

impl From<SecretError> for SignInProblem {
    fn from(error: SecretError) -> Self {
        Self::Secrets(error)
    }
}

impl From<StoreError> for SignInProblem {
    fn from(error: StoreError) -> Self {
        Self::Secrets(SecretError::Store(error))
    }
}
