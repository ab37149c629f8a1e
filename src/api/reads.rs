//! The reads that commands and pages share with the API: the same parameters, answers and errors,
//! without a request.

use std::sync::Arc;

use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::github::types::PrNumber;
use tallyhook_store::Store;

use super::error::ApiError;
use super::input::parse_query;
use super::metrics::ClockQuery;
use super::page::Page;
use super::{
    ApiState, CycleTime, DeliveryItem, PullRequestDetail, PullRequestItem, SyncRunItem,
    WaitingAnswer, deliveries, listing, metrics, pull_requests, sync, waiting,
};

/// A store that is read as the API reads it. A `query` is the query string of the same call.
#[derive(Clone)]
pub struct StoreReads {
    pub store: Store,
    pub rules: Arc<NumberRules>,
    /// Totals of what waits list people beside teams.
    pub show_people: bool,
}

impl ApiState {
    /// Returns the reads of this process.
    pub(crate) fn reads(&self) -> StoreReads {
        StoreReads {
            store: self.store.clone(),
            rules: Arc::clone(&self.rules),
            show_people: self.show_people,
        }
    }
}

impl StoreReads {
    /// Answers as `GET /api/prs`.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn pull_requests(&self, query: &str) -> Result<Page<PullRequestItem>, ApiError> {
        listing::listed(&self.store, &self.rules, parse_query(query)?, None).await
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
        pull_requests::stored(&self.store, &self.rules, key).await
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
        deliveries::listed(&self.store, parse_query(query)?).await
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
}
