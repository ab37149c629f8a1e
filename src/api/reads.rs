//! The reads that commands and pages share with the API: the same parameters, answers and errors,
//! without a request.

use std::sync::Arc;

use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::github::types::PrNumber;
use tallyhook_store::{DeadLetterGroup, Store, TeamStore};

use super::deliveries::DeadLettersQuery;
use super::error::ApiError;
use super::input::parse_query;
use super::metrics::ClockQuery;
use super::page::Page;
use super::{
    ApiState, ComparedTime, CycleTime, DeliveryCheck, DeliveryDetail, DeliveryItem,
    DurationDistribution, ExplainedPercentile, FlowAnswers, LoadAnswer, MeasuredPoints,
    NotificationItem, PullRequestDetail, PullRequestItem, SyncRunItem, WaitingAnswer, channels,
    deliveries, listing, load, metrics, pull_requests, sync, waiting,
};

/// A store that is read as the API reads it for one team. A `query` is the query string of the same call.
#[derive(Clone)]
pub struct StoreReads {
    pub store: TeamStore,
    /// For what is the installation's: deliveries and dead letters.
    pub instance: Store,
    pub rules: Arc<NumberRules>,
    /// Totals of what waits list people beside teams.
    pub show_people: bool,
    /// The login of the reader, which `me` stands for.
    pub me: Option<String>,
}

/// Returns the reads of this process, for a team.
pub(super) fn of_team(api: &ApiState, store: TeamStore) -> StoreReads {
    StoreReads {
        store,
        instance: api.store.clone(),
        rules: Arc::clone(&api.rules),
        show_people: api.show_people,
        me: None,
    }
}

impl StoreReads {
    /// Answers as `GET /api/prs`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn pull_requests(&self, query: &str) -> Result<Page<PullRequestItem>, ApiError> {
        let (clock, me): (ClockQuery, _) = (parse_query(query)?, self.me.clone());
        listing::listed(&self.store, &self.rules, parse_query(query)?, &clock, me).await
    }

    /// Answers as `GET /api/repos/{owner}/{repo}/prs/{number}`, from what is stored.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn pull_request(
        &self,
        repo: &str,
        number: PrNumber,
    ) -> Result<PullRequestDetail, ApiError> {
        let key = pull_requests::key_of(&self.store, repo, number).await?;
        let stores = (&self.store, &self.instance);
        pull_requests::stored(stores, &self.rules, key).await
    }

    /// Answers as `GET /api/metrics/cycle-time`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn cycle_time(&self, query: &str) -> Result<CycleTime, ApiError> {
        let clock: ClockQuery = parse_query(query)?;
        let clock = clock.among(&self.rules.calendars)?;
        let (range, query) = (parse_query(query)?, parse_query(query)?);
        metrics::aggregated(&self.store, &range, clock, query).await
    }

    /// Answers as `GET /api/metrics/compare`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn compared(&self, query: &str) -> Result<ComparedTime, ApiError> {
        let clock: ClockQuery = parse_query(query)?;
        let clock = clock.among(&self.rules.calendars)?;
        metrics::compared(&self.store, &parse_query(query)?, clock).await
    }

    /// Answers as `GET /api/metrics/distribution`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn distribution(&self, query: &str) -> Result<DurationDistribution, ApiError> {
        let (range, clock) = (parse_query(query)?, parse_query(query)?);
        metrics::distributed(self, &range, &clock, &parse_query(query)?).await
    }

    /// Answers as `GET /api/metrics/points`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn points(&self, query: &str) -> Result<MeasuredPoints, ApiError> {
        let (range, clock) = (parse_query(query)?, parse_query(query)?);
        let query = (&parse_query(query)?, &parse_query(query)?);
        metrics::pointed(self, &range, &clock, query).await
    }

    /// Answers as four calls about the durations of one range, from one read. `query` has the
    /// parameters of all of them.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn flow(&self, query: &str) -> Result<FlowAnswers, ApiError> {
        let (range, clock) = (parse_query(query)?, parse_query(query)?);
        let measured = (&parse_query(query)?, &parse_query(query)?);
        metrics::flow(self, &range, &clock, parse_query(query)?, measured).await
    }

    /// Answers as `GET /api/metrics/explain`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn explained(&self, query: &str) -> Result<ExplainedPercentile, ApiError> {
        let (range, clock) = (parse_query(query)?, parse_query(query)?);
        let query = (&parse_query(query)?, &parse_query(query)?);
        metrics::explained(self, &range, &clock, query).await
    }

    /// Answers as `GET /api/reviews/load`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn review_load(&self, query: &str) -> Result<LoadAnswer, ApiError> {
        load::answer(self, parse_query(query)?).await
    }

    /// Answers as `GET /api/waiting`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn waiting(&self, query: &str) -> Result<WaitingAnswer, ApiError> {
        waiting::answer(&self.store, parse_query(query)?, self.show_people).await
    }

    /// Answers as `GET /api/deliveries`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn deliveries(&self, query: &str) -> Result<Page<DeliveryItem>, ApiError> {
        deliveries::listed(&self.instance, parse_query(query)?).await
    }

    /// Answers as `GET /api/notifications`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn notifications(&self, query: &str) -> Result<Page<NotificationItem>, ApiError> {
        channels::listed(&self.store, parse_query(query)?).await
    }

    /// Answers as `GET /api/sync-runs`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn sync_runs(&self, query: &str) -> Result<Page<SyncRunItem>, ApiError> {
        sync::listed(&self.store, parse_query(query)?).await
    }

    /// Answers as `GET /api/sync-runs/{id}`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn sync_run(&self, id: i64) -> Result<SyncRunItem, ApiError> {
        sync::shown(&self.store, id).await
    }

    /// Answers as `GET /api/dead-letters`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn dead_letters(&self, query: &str) -> Result<Page<DeliveryItem>, ApiError> {
        let query: DeadLettersQuery = parse_query(query)?;
        deliveries::listed(&self.instance, query.into()).await
    }

    /// Answers as `GET /api/dead-letters/groups`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn dead_letter_groups(&self) -> Result<Page<DeadLetterGroup>, ApiError> {
        deliveries::groups(&self.instance).await
    }

    /// Answers as `GET /api/deliveries/{guid}` for an id.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn delivery(&self, id: i64) -> Result<DeliveryDetail, ApiError> {
        deliveries::of_id(&self.instance, id).await
    }

    /// Answers as `GET /api/delivery-payloads/{id}`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn delivery_payload(&self, id: i64) -> Result<String, ApiError> {
        deliveries::payload_text(&self.instance, id).await
    }

    /// Answers as `POST /api/deliveries/{id}/check`, which writes nothing.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn checked_delivery(&self, id: i64) -> Result<DeliveryCheck, ApiError> {
        deliveries::checked(&self.instance, &self.rules, id).await
    }
}
