//! The caller of a request, made in this one place from its token or its session, and from the team
//! that its path names.

use actix_web::{HttpMessage, HttpRequest};
use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tallyhook_store::{
    AccessRole, DEFAULT_TEAM, Membership, Moment, PersonName, SessionGrant, SessionHolder,
    SessionId, SessionOwner, SessionTimes, StoreError, TeamId, TokenGrant, TokenHash,
    UsedCredential, UserGrant,
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
    /// A browser that signed in, as a person or with a token.
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

/// The team that the path of a request names.
#[derive(Clone, Debug)]
pub(super) struct AddressedTeam(pub(super) String);

/// The holder of a credential in force, before one of its teams is chosen.
#[derive(Clone, Debug)]
pub(crate) struct KnownCaller {
    pub(crate) kind: CallerKind,
    /// The person who signed in, or who made the token.
    pub(crate) person: Option<PersonName>,
    /// The login that "me" means to it.
    pub(crate) login: Option<String>,
    pub(super) credential: CallerCredential,
    /// The holder of its sessions.
    pub(super) owner: SessionOwner,
    pub(super) session: Option<SessionId>,
    /// The id of its token's row.
    token: Option<i64>,
    /// Of a person by their slugs; of a token the one that it is of.
    pub(crate) teams: Vec<Membership>,
    /// The team that the session's holder chose.
    chosen: Option<TeamId>,
    /// An operator acts for every team.
    pub(crate) is_operator: bool,
    /// While there is one team, its admins are operators.
    is_only_team: bool,
}

impl KnownCaller {
    /// Returns the caller of a request.
    ///
    /// # Errors
    /// 401, which is counted, or 429 if the address sends many wrong tokens.
    pub(crate) async fn of_request(
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
        let caller = match credential {
            CallerCredential::Token(digest) if is_of_settings(digest) => {
                Self::of_token(None, *digest, *credential)
            }
            CallerCredential::Token(digest) => match api.store.token_grant(digest, now).await? {
                Some(grant) => Self::of_token(Some(grant), *digest, *credential),
                None => return Ok(None),
            },
            CallerCredential::Session(digest) => {
                let found = api.store.session_grant(digest, session_times(now)).await?;
                let Some(SessionGrant { id, team, holder }) = found else {
                    return Ok(None);
                };
                let caller = match holder {
                    SessionHolder::Token { token, grant } => {
                        if grant.is_none() && !is_of_settings(&token) {
                            return Ok(None);
                        }
                        Self::of_token(grant, token, *credential)
                    }
                    SessionHolder::Person(grant) => Self::of_person(grant, *credential),
                };
                api.uses.note(UsedCredential::Session(id), now);
                Self {
                    kind: CallerKind::Session,
                    session: Some(id),
                    chosen: team,
                    ..caller
                }
            }
        };
        Ok(Some(caller.noted(api, now)))
    }

    /// Returns the holder of a token; without rights in the database, of the one of the settings.
    fn of_token(grant: Option<TokenGrant>, token: TokenHash, credential: CallerCredential) -> Self {
        let (team, team_name) = DEFAULT_TEAM;
        let grant = grant.unwrap_or(TokenGrant {
            id: 0,
            team,
            team_name: team_name.to_owned(),
            role: AccessRole::Operator,
            login: None,
            maker: None,
            is_only_team: true,
        });
        let is_operator = grant.role == AccessRole::Operator;
        Self {
            kind: match is_operator {
                true => CallerKind::Operator,
                false => CallerKind::Token,
            },
            person: grant.maker,
            login: grant.login,
            credential,
            owner: SessionOwner::Token(token),
            session: None,
            token: Some(grant.id).filter(|id| *id != 0),
            teams: vec![Membership {
                team: grant.team,
                team_name: grant.team_name,
                role: grant.role,
            }],
            chosen: None,
            is_operator,
            is_only_team: grant.is_only_team,
        }
    }

    fn of_person(grant: UserGrant, credential: CallerCredential) -> Self {
        Self {
            kind: CallerKind::Session,
            login: grant.person.login.clone(),
            owner: SessionOwner::Person(grant.person.id),
            person: Some(grant.person),
            credential,
            session: None,
            token: None,
            teams: grant.memberships,
            chosen: None,
            is_operator: false,
            is_only_team: grant.is_only_team,
        }
    }

    fn noted(self, api: &ApiState, now: Moment) -> Self {
        if let Some(id) = self.token {
            api.uses.note(UsedCredential::Token(id), now);
        }
        self
    }

    /// Returns the caller in the team of the request: the one that its path names, or else the one
    /// that its session chose, or its only one.
    ///
    /// # Errors
    /// 404 for a team that it is in as little as in one that does not exist, 409 if it has to name
    /// one of several, and 403 if it is in none.
    pub(super) async fn in_team(
        self,
        api: &ApiState,
        request: &HttpRequest,
    ) -> Result<Caller, ApiError> {
        let addressed = request.extensions().get::<AddressedTeam>().cloned();
        let membership = match addressed {
            Some(AddressedTeam(slug)) => self.member_of(api, &slug).await?,
            None => match self.chosen_team(api).await? {
                Some(membership) => membership,
                None => self.only_team()?,
            },
        };
        Ok(Caller::new(self, membership))
    }

    /// Returns the caller in the team of a slug.
    ///
    /// # Errors
    /// Those of [`KnownCaller::member_of`].
    pub(super) async fn in_team_of_slug(
        self,
        api: &ApiState,
        slug: &str,
    ) -> Result<Caller, ApiError> {
        let membership = self.member_of(api, slug).await?;
        Ok(Caller::new(self, membership))
    }

    /// Returns the caller in the team of an id; `None` if it is not in it.
    pub(super) async fn in_team_of_id(
        self,
        api: &ApiState,
        team: TeamId,
    ) -> Result<Option<Caller>, StoreError> {
        let membership = self.membership(api, team).await?;
        Ok(membership.map(|membership| Caller::new(self, membership)))
    }

    /// Returns the caller in the team that it uses now or, where it has to choose one, in its first:
    /// for what is the same in each of its teams.
    pub(super) async fn in_any_team(self, api: &ApiState) -> Result<Caller, ApiError> {
        let membership = match self.chosen_team(api).await? {
            Some(membership) => membership,
            None => self.teams.first().cloned().ok_or_else(no_team)?,
        };
        Ok(Caller::new(self, membership))
    }

    /// Returns the membership in the team of a slug; that of an operator is in every team.
    ///
    /// # Errors
    /// 404, for a team of others as for none.
    pub(super) async fn member_of(
        &self,
        api: &ApiState,
        slug: &str,
    ) -> Result<Membership, ApiError> {
        let own = self.teams.iter().find(|known| known.team_name == slug);
        if let Some(own) = own {
            return Ok(own.clone());
        }
        let other = match self.is_operator {
            true => api.store.team_of_slug(slug).await?,
            false => None,
        };
        let team = other.ok_or(ApiError::NotFound("team"))?;
        Ok(self.as_operator(team, slug.to_owned()))
    }

    fn as_operator(&self, team: TeamId, team_name: String) -> Membership {
        Membership {
            team,
            team_name,
            role: AccessRole::Operator,
        }
    }

    /// Returns the team that the session's holder chose, unless it has left it since.
    async fn chosen_team(&self, api: &ApiState) -> Result<Option<Membership>, ApiError> {
        match self.chosen {
            Some(chosen) => Ok(self.membership(api, chosen).await?),
            None => Ok(None),
        }
    }

    async fn membership(
        &self,
        api: &ApiState,
        team: TeamId,
    ) -> Result<Option<Membership>, StoreError> {
        let own = self.teams.iter().find(|known| known.team == team);
        if own.is_some() || !self.is_operator {
            return Ok(own.cloned());
        }
        let mut teams = api.store.teams().await?.into_iter();
        let found = teams.find(|known| known.id == team);
        Ok(found.map(|team| self.as_operator(team.id, team.name)))
    }

    fn only_team(&self) -> Result<Membership, ApiError> {
        match self.teams.as_slice() {
            [] => Err(no_team()),
            [only] => Ok(only.clone()),
            several => {
                let slugs = several.iter().map(|team| team.team_name.clone());
                Err(ApiError::TeamNeeded(slugs.collect()))
            }
        }
    }
}

fn no_team() -> ApiError {
    ApiError::Forbidden("you are a member of no team: ask an admin of one for an invitation")
}

/// The caller of a request, in one team.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) team: TeamId,
    pub(crate) team_name: String,
    /// In the team.
    pub(crate) role: AccessRole,
    /// The login that "me" means to it.
    pub(crate) login: Option<String>,
    /// The holder of its credential, with its other teams.
    pub(crate) known: KnownCaller,
}

impl Caller {
    fn new(known: KnownCaller, membership: Membership) -> Self {
        Self {
            team: membership.team,
            team_name: membership.team_name,
            role: membership.role,
            login: known.login.clone(),
            known,
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
        let is_operator = self.known.is_only_team && self.role == AccessRole::Admin;
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
