//! The caller of a request, made in this one place from its token or its session.

use actix_web::HttpRequest;
use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tallyhook_store::{
    AccessRole, DEFAULT_TEAM, Moment, SessionId, SessionTimes, StoreError, TeamId, TokenGrant,
    TokenHash, UsedCredential,
};
use utoipa::ToSchema;

use super::error::ApiError;
use super::{ApiState, auth, session_cookie};

/// A session that is not used for so long ends.
const SESSION_IDLE: TimeDelta = TimeDelta::days(7);

/// The kind of a caller's credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallerKind {
    /// A token of a team.
    Token,
    /// A browser that signed in.
    Session,
    /// The token of the settings or of the first start.
    Operator,
}

/// The digest of a token or of a session's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallerCredential {
    Token(TokenHash),
    Session(TokenHash),
}

impl CallerCredential {
    /// Returns the credential that a request sends. A token is sent on purpose, a cookie by every
    /// browser: the token wins.
    pub(super) fn of_request(request: &HttpRequest) -> Option<Self> {
        match auth::bearer(request.headers()) {
            Some(token) => Some(Self::Token(auth::hash(token))),
            None => session_cookie::read(request).map(|value| Self::Session(auth::hash(&value))),
        }
    }

    pub(super) fn digest(&self) -> &TokenHash {
        match self {
            Self::Token(digest) | Self::Session(digest) => digest,
        }
    }
}

/// The caller of a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) kind: CallerKind,
    pub(super) team: TeamId,
    pub(crate) team_name: String,
    pub(crate) role: AccessRole,
    /// The login that "me" means to it.
    pub(crate) login: Option<String>,
    pub(super) credential: CallerCredential,
    /// The digest of its token, or of the one with which its session began.
    pub(super) token: TokenHash,
    pub(super) session: Option<SessionId>,
    /// While there is one team, its admins are operators.
    is_only_team: bool,
}

impl Caller {
    /// Returns the caller of a request.
    ///
    /// # Errors
    /// 401, which is counted, or 429 if the address sends many wrong tokens.
    pub(super) async fn of_request(
        api: &ApiState,
        request: &HttpRequest,
    ) -> Result<Self, ApiError> {
        let credential = CallerCredential::of_request(request);
        let caller = match &credential {
            Some(credential) => Self::of(api, credential).await?,
            None => None,
        };
        caller.ok_or_else(|| {
            api.wrong_tokens
                .refuse(auth::peer(request), credential.is_some())
        })
    }

    /// Returns the caller of a request that needs none.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn known(
        api: &ApiState,
        request: &HttpRequest,
    ) -> Result<Option<Self>, ApiError> {
        match CallerCredential::of_request(request) {
            Some(credential) => Ok(Self::of(api, &credential).await?),
            None => Ok(None),
        }
    }

    /// Returns the holder of a credential, if it is in force, and notes its use.
    pub(super) async fn of(
        api: &ApiState,
        credential: &CallerCredential,
    ) -> Result<Option<Self>, StoreError> {
        let now = Utc::now();
        // The time to compare digests reveals nothing about the secrets.
        let is_of_settings = |digest: &TokenHash| api.admin_token == Some(*digest);
        let (grant, token, session) = match credential {
            CallerCredential::Token(digest) if is_of_settings(digest) => (None, *digest, None),
            CallerCredential::Token(digest) => match api.store.token_grant(digest, now).await? {
                Some(grant) => (Some(grant), *digest, None),
                None => return Ok(None),
            },
            CallerCredential::Session(digest) => {
                match api.store.session_grant(digest, session_times(now)).await? {
                    Some(found) if found.grant.is_some() || is_of_settings(&found.token) => {
                        (found.grant, found.token, Some(found.id))
                    }
                    _ => return Ok(None),
                }
            }
        };
        let used = grant.as_ref().map(|grant| UsedCredential::Token(grant.id));
        for used in used.into_iter().chain(session.map(UsedCredential::Session)) {
            api.uses.note(used, now);
        }
        Ok(Some(Self::new(grant, *credential, token, session)))
    }

    /// Returns the caller with the rights of a token; without one, of the token of the settings.
    fn new(
        grant: Option<TokenGrant>,
        credential: CallerCredential,
        token: TokenHash,
        session: Option<SessionId>,
    ) -> Self {
        let (team, team_name) = DEFAULT_TEAM;
        let grant = grant.unwrap_or(TokenGrant {
            id: 0,
            team,
            team_name: team_name.to_owned(),
            role: AccessRole::Operator,
            login: None,
            is_only_team: true,
        });
        let kind = match (session, grant.role) {
            (Some(_), _) => CallerKind::Session,
            (None, AccessRole::Operator) => CallerKind::Operator,
            (None, _) => CallerKind::Token,
        };
        Self {
            kind,
            team: grant.team,
            team_name: grant.team_name,
            role: grant.role,
            login: grant.login,
            credential,
            token,
            session,
            is_only_team: grant.is_only_team,
        }
    }

    /// Returns true if the caller has the rights of a role.
    pub(crate) fn may(&self, role: AccessRole) -> bool {
        self.require(role).is_ok()
    }

    /// Refuses a caller without the rights of a role.
    ///
    /// # Errors
    /// [`ApiError::RoleMissing`].
    pub(super) fn require(&self, role: AccessRole) -> Result<(), ApiError> {
        let is_operator = self.is_only_team && self.role == AccessRole::Admin;
        if self.role >= role || is_operator {
            return Ok(());
        }
        Err(ApiError::RoleMissing {
            needed: role,
            found: self.role,
        })
    }
}

/// Returns the times between which a session is in force.
pub(super) fn session_times(now: Moment) -> SessionTimes {
    SessionTimes {
        now,
        idle_since: now - SESSION_IDLE,
    }
}
