//! The HTTP API: pull requests, metrics, deliveries, dead letters, health, notifications, tasks;
//! and requests for data from GitHub.

mod answers;
pub mod auth;
mod business;
mod channels;
mod commits;
mod data_freshness;
mod deliveries;
mod document;
mod error;
mod explain;
mod explained_turns;
mod freshness;
mod health;
mod input;
mod listing;
mod load;
mod metrics;
mod origin;
mod page;
mod pull_requests;
mod reads;
mod repositories;
mod request_body;
mod routes;
mod sync;
mod task_pull_request;
mod tasks;
mod waiting;
mod wrong_tokens;
mod ws;

use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::web;
use chrono::{SecondsFormat, TimeDelta, Utc};
pub use tallyhook_core::domain::metrics::{DurationSummary, StageSummaries, Summary};
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::Client;
use tallyhook_queue::Queue;
use tallyhook_store::{
    ChannelBacklog, DeliveryCounts, Moment, Store, TokenHash, TrackedRepository, WatchCounts,
};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use utoipa_actix_web::scope::{Scope, scope};
use utoipa_actix_web::service_config::ServiceConfig;

pub use self::channels::{ChannelItem, NotificationItem, items as channel_items};
pub use self::data_freshness::{DataFreshness, IncompleteRepository};
pub use self::deliveries::{DeliveryDetail, DeliveryItem};
pub use self::document::openapi;
pub use self::error::{ApiError, ApiErrorBody, ApiErrorDetail};
pub use self::explained_turns::{ExplainedTurn, ReviewPairItem, ReviewRoundItem};
pub use self::freshness::BackgroundRefresh;
pub use self::metrics::{BucketSummary, ComparedTime, CycleTime};
pub use self::page::Page;
pub use self::pull_requests::{
    PullRequestDetail, PullRequestItem, ReadContext, TimelineEntry, detail, list_item,
};
pub use self::reads::StoreReads;
pub use self::repositories::RepositoryItem;
pub use self::sync::{
    ChannelStats, FailingMonitor, MonitorConfig, MonitorStats, PollerConfig, SyncRunItem, SyncStats,
};
pub use self::tasks::{TaskDetail, TaskItem};
pub use self::waiting::{
    WaitingAnswer, WaitingGroupItem, WaitingItem, WaitingOnKind, WaitingReason,
};
pub use self::wrong_tokens::WrongTokens;
pub use self::ws::{WebSocketServer, WsTicket};
use crate::config::{SyncConfig, WebhookSecrets};
use crate::notify::Channels;

/// The state that every handler of the API shares.
pub struct ApiState {
    pub store: Store,
    pub rules: NumberRules,
    /// Totals of what waits list people beside teams.
    pub show_people: bool,
    /// `owner/name`, the repository of `/api/prs/{number}`.
    pub default_repository: Option<String>,
    /// The digest of the configured admin token; the one of the first start is in the store.
    pub admin_token: Option<TokenHash>,
    pub wrong_tokens: WrongTokens,
    /// `None` in a process without the roles ingest and worker.
    pub queue: Option<Arc<Queue>>,
    /// True with the role ingest, which works without the broker.
    pub takes_in: bool,
    /// True with the role poller.
    pub polls: bool,
    /// The start of this process.
    pub started: Moment,
    pub counts: CachedCounts,
    /// `None` sends no request to GitHub.
    pub github: Option<Client>,
    pub sync: SyncConfig,
    pub refreshes: BackgroundRefresh,
    /// The first of them is the secret of webhooks that are created here.
    pub secrets: watch::Receiver<WebhookSecrets>,
    /// The channels of the settings.
    pub channels: Arc<Channels>,
}

/// The last counts and the time when they were read.
#[derive(Debug, Default)]
pub struct CachedCounts(Mutex<Option<(Instant, StoredCounts)>>);

/// The state of the store in numbers.
#[derive(Clone, Debug)]
struct StoredCounts {
    inbox: DeliveryCounts,
    watches: WatchCounts,
    last_round: Option<Moment>,
    backlogs: Vec<ChannelBacklog>,
}

/// The lifetime of cached counts. They are readable without a token, and the more rows there are
/// the longer they take.
const COUNTS_LIFETIME: Duration = Duration::from_secs(1);

impl ApiState {
    /// Returns the counts of the store, at most a second old.
    async fn counts(&self) -> tallyhook_store::Result<StoredCounts> {
        let mut cached = self.counts.0.lock().await;
        if let Some((at, counts)) = &*cached
            && at.elapsed() < COUNTS_LIFETIME
        {
            return Ok(counts.clone());
        }
        let counts = StoredCounts {
            inbox: self.store.counts().await?,
            watches: self.watches().await?,
            last_round: self.store.poller_stats().await?.last_sync_at,
            backlogs: self.backlogs().await?,
        };
        *cached = Some((Instant::now(), counts.clone()));
        Ok(counts)
    }

    async fn watches(&self) -> tallyhook_store::Result<WatchCounts> {
        let interval =
            TimeDelta::from_std(self.sync.monitor.poll_interval).unwrap_or(TimeDelta::MAX);
        self.store
            .watch_counts(Utc::now().checked_sub_signed(interval).unwrap_or_default())
            .await
    }

    /// Returns the backlogs of the channels of the settings.
    async fn backlogs(&self) -> tallyhook_store::Result<Vec<ChannelBacklog>> {
        let names: Vec<_> = self
            .channels
            .iter()
            .map(|channel| channel.name.as_str())
            .collect();
        self.store.backlogs(&names).await
    }

    fn github(&self) -> Result<&Client, error::ApiError> {
        self.github
            .as_ref()
            .ok_or(error::ApiError::GithubAccessMissing)
    }

    /// Returns the repository of an optional query parameter.
    async fn repository(&self, name: Option<&str>) -> Result<Option<RepoId>, error::ApiError> {
        repository(&self.store, name).await
    }

    async fn tracked(&self, owner: &str, repo: &str) -> Result<TrackedRepository, error::ApiError> {
        let tracked = match self.store.repository_id(&format!("{owner}/{repo}")).await? {
            Some(id) => self.store.tracked_repository(id).await?,
            None => None,
        };
        tracked.ok_or(error::ApiError::NotFound("tracked repository"))
    }
}

/// Returns the repository of an optional query parameter.
async fn repository(store: &Store, name: Option<&str>) -> Result<Option<RepoId>, error::ApiError> {
    let Some(name) = name else { return Ok(None) };
    let id = store.repository_id(name).await?;
    id.map(Some).ok_or(error::ApiError::NotFound("repository"))
}

/// Adds the routes to a server that has [`ApiState`] among its data: those for operators, and with
/// `readers` those of the API. A handler names its path and method, and is registered here alone:
/// the OpenAPI document is collected from the same calls.
pub fn add_routes(config: &mut ServiceConfig<'_>, readers: bool) {
    config
        .service(health::healthz)
        .service(health::readyz)
        .service(health::prometheus)
        .default_service(web::to(move |request| routes::unrouted(request, readers)));
    if readers {
        config.service(ws::connect).service(with_token());
    }
}

/// Returns the calls that require a token.
fn with_token() -> Scope<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    scope("/api")
        .wrap(from_fn(auth::require_token))
        .wrap(from_fn(answers::finish_reads))
        .app_data(
            web::PathConfig::default()
                .error_handler(|_, request| routes::wrong_values(request).into()),
        )
        .service(listing::list)
        .service(waiting::totals)
        .service(pull_requests::of_default_repository)
        .service(pull_requests::of_repository)
        .service(repositories::watch)
        .service(repositories::unwatch)
        .service(repositories::list)
        .service(repositories::add)
        .service(repositories::remove)
        .service(sync::start)
        .service(sync::list)
        .service(sync::show)
        .service(sync::cancel)
        .service(sync::poll)
        .service(sync::stats)
        .service(tasks::list)
        .service(tasks::create)
        .service(tasks::show)
        .service(tasks::change)
        .service(task_pull_request::create)
        .service(tasks::link)
        .service(tasks::unlink)
        .service(tasks::of_story)
        .service(ws::create_ticket)
        .service(channels::list)
        .service(channels::test)
        .service(channels::list_notifications)
        .service(metrics::cycle_time)
        .service(metrics::compare)
        .service(metrics::cohort)
        .service(metrics::distribution)
        .service(metrics::points)
        .service(metrics::explain)
        .service(load::load)
        .service(deliveries::list)
        .service(deliveries::show)
        .service(deliveries::show_payload)
        .service(deliveries::list_dead)
        .service(deliveries::list_groups)
        .service(deliveries::requeue_group)
        .service(deliveries::show_dead)
        .service(deliveries::discard)
        .service(deliveries::requeue)
        .default_service(web::to(|request| routes::unrouted(request, true)))
}

/// Formats a timestamp of our own clock.
fn rfc3339(timestamp: Moment) -> String {
    timestamp.to_rfc3339_opts(SecondsFormat::Millis, true)
}
