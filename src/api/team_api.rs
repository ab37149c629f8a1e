//! The API as one caller uses it: what it reads and writes is its team's.

use std::future::{Ready, ready};
use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use tallyhook_core::github::types::RepoId;
use tallyhook_store::{AccessRole, TeamStore, TrackedRepository};

use super::caller::Caller;
use super::error::ApiError;
use super::reads::StoreReads;
use super::{ApiState, reads};
use crate::notify::Channel;

/// The API for one caller. Its store is the team's; that of the [`ApiState`] knows no team.
#[derive(Clone)]
pub(crate) struct TeamApi {
    api: web::Data<ApiState>,
    pub(crate) store: TeamStore,
    /// The login that `me` stands for.
    login: Option<String>,
    is_operator: bool,
}

impl Deref for TeamApi {
    type Target = ApiState;

    fn deref(&self) -> &ApiState {
        &self.api
    }
}

impl TeamApi {
    pub(crate) fn new(api: web::Data<ApiState>, caller: &Caller) -> Self {
        Self {
            store: api.store.of_team(caller.team),
            login: caller.login.clone(),
            is_operator: caller.may(AccessRole::Operator),
            api,
        }
    }

    /// Returns the API without a team, for what is the installation's.
    pub(crate) fn instance(&self) -> &ApiState {
        &self.api
    }

    pub(crate) fn is_operator(&self) -> bool {
        self.is_operator
    }

    /// Returns the reads of this caller.
    pub(crate) fn reads(&self) -> StoreReads {
        StoreReads {
            me: self.login.clone(),
            ..reads::of_team(&self.api, self.store.clone())
        }
    }

    /// Returns the default repository, where it is of the caller's team.
    pub(crate) fn default_repository(&self) -> Option<&str> {
        let default = self.api.default_repository.as_ref()?;
        (default.team == self.store.team()).then_some(default.name.as_str())
    }

    /// Returns the channel of the caller's team of that name.
    pub(super) fn channel(&self, name: &str) -> Option<&Channel> {
        self.team_channels().find(|channel| channel.name == name)
    }

    /// Returns the channels of the caller's team.
    pub(super) fn team_channels(&self) -> impl Iterator<Item = &Channel> {
        let team = self.store.team();
        let channels = self.api.channels.iter();
        channels.filter(move |channel| channel.team == team)
    }

    /// Refuses a repository for which GitHub is not asked on behalf of this caller: one that the
    /// team does not see, where there are other teams. Operators may ask for any.
    ///
    /// # Errors
    /// 404, as for a repository that does not exist.
    pub(super) async fn check_may_ask(
        &self,
        name: &str,
        missing: &'static str,
    ) -> Result<(), ApiError> {
        match self.is_operator || self.store.may_ask(name).await? {
            true => Ok(()),
            false => Err(ApiError::NotFound(missing)),
        }
    }

    /// Returns the repository of an optional query parameter.
    pub(super) async fn repository(&self, name: Option<&str>) -> Result<Option<RepoId>, ApiError> {
        super::repository(&self.store, name).await
    }

    pub(super) async fn tracked(
        &self,
        owner: &str,
        repo: &str,
    ) -> Result<TrackedRepository, ApiError> {
        let tracked = match self.store.repository_id(&format!("{owner}/{repo}")).await? {
            Some(id) => self.store.tracked_repository(id).await?,
            None => None,
        };
        tracked.ok_or(ApiError::NotFound("tracked repository"))
    }
}

impl FromRequest for TeamApi {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let api = request.app_data::<web::Data<ApiState>>().cloned();
        let found = api.and_then(|api| {
            let extensions = request.extensions();
            let caller = extensions.get::<Caller>()?;
            Some(Self::new(api, caller))
        });
        ready(found.ok_or(ApiError::Unauthorized))
    }
}
