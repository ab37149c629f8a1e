//! The load of reviews, by team or person.

use actix_web::{get, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::metrics::{PartyLoad, ReviewConcentration};
use tallyhook_core::github::types::Timestamp;
use tallyhook_store::{LoadFilter, LoadParty, ReviewLoad};
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ApiErrorBody};
use super::input::QueryInput;
use super::reads::StoreReads;
use super::team_api::TeamApi;
use super::waiting::WaitingOnKind;
use crate::times::TimePoint;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LoadQuery {
    /// `team` (default), or `person`: all people with `SHOW_PEOPLE`, else the one of the token.
    by: Option<WaitingOnKind>,
    /// `owner/name`
    repo: Option<String>,
    /// Requested, or merged, at or after: RFC 3339, a date (midnight UTC), or a span before now.
    #[param(value_type = Option<String>, example = "30d")]
    from: Option<TimePoint>,
    /// Requested, or merged, before, in the same forms.
    #[param(value_type = Option<String>, example = "2026-03-31")]
    to: Option<TimePoint>,
}

/// The load of reviews. Numbers of teams with fewer than five people are left out.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LoadAnswer {
    #[schema(value_type = String, format = "date-time")]
    pub as_of: Timestamp,
    /// By name.
    pub items: Vec<LoadItem>,
    pub concentration: ReviewConcentration,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LoadItem {
    pub kind: WaitingOnKind,
    #[serde(flatten)]
    pub load: PartyLoad,
}

/// Review requests and their answers by team, and how few people give most of the reviews.
#[utoipa::path(
    tag = "metrics", operation_id = "review_load", security(("token" = [])),
    params(LoadQuery),
    responses(
        (status = 200, body = LoadAnswer),
        (status = 400, body = ApiErrorBody),
        (status = 403, body = ApiErrorBody,
            description = "`people_hidden`: `SHOW_PEOPLE` is off, and the token has no login"),
    )
)]
#[get("/reviews/load")]
pub(super) async fn load(
    api: TeamApi,
    QueryInput(query): QueryInput<LoadQuery>,
) -> Result<web::Json<LoadAnswer>, ApiError> {
    answer(&api.reads(), query).await.map(web::Json)
}

/// Returns the load as the reader may see it.
pub(super) async fn answer(reads: &StoreReads, query: LoadQuery) -> Result<LoadAnswer, ApiError> {
    let kind = query.by.unwrap_or(WaitingOnKind::Team);
    let by = match (kind, reads.show_people) {
        (WaitingOnKind::Team, _) => LoadParty::Teams,
        (WaitingOnKind::Person, true) => LoadParty::People,
        (WaitingOnKind::Person, false) => {
            let me = reads.me.clone().ok_or(ApiError::PeopleHidden)?;
            LoadParty::Person(me)
        }
    };
    let filter = LoadFilter {
        repo: super::repository(&reads.store, query.repo.as_deref()).await?,
        from: query.from.map(|TimePoint(at)| at),
        to: query.to.map(|TimePoint(at)| at),
        by,
    };
    let ReviewLoad {
        parties,
        concentration,
    } = reads.store.review_load(&filter, &reads.rules.bots).await?;
    let items = parties
        .into_iter()
        .map(|party| LoadItem { kind, load: party });
    Ok(LoadAnswer {
        as_of: Utc::now().into(),
        items: items.collect(),
        concentration,
    })
}
