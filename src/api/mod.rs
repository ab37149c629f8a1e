//! The read side over HTTP: pull requests, metrics, deliveries, dead letters, health, notifications, tasks; and
//! what GitHub is asked for.

pub mod auth;
mod channels;
mod deliveries;
mod error;
mod freshness;
mod health;
mod metrics;
mod page;
mod pull_requests;
mod repositories;
mod sync;
mod task_pull_request;
mod tasks;
mod ws;

use std::sync::Arc;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, web};
use chrono::{SecondsFormat, TimeDelta, Utc};
pub use tallyhook_core::domain::metrics::{DurationSummary, StageSummaries, Summary};
use tallyhook_core::domain::people::Bots;
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::Client;
use tallyhook_github_client::hooks::HookSecret;
use tallyhook_queue::Queue;
use tallyhook_store::{
    ChannelBacklog, DeliveryCounts, Moment, Store, TokenHash, TrackedRepository, WatchCounts,
};
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};

pub use self::channels::{ChannelItem, NotificationItem, items as channel_items};
pub use self::deliveries::{DeliveryDetail, DeliveryItem};
pub use self::error::{ApiError, ErrorBody, ErrorDetail};
pub use self::freshness::Behind;
pub use self::metrics::{BucketSummary, CycleTime};
pub use self::page::Page;
pub use self::pull_requests::{PullRequestDetail, PullRequestItem, detail, list_item};
pub use self::repositories::RepositoryItem;
pub use self::sync::{
    ChannelStats, FailingMonitor, MonitorConfig, MonitorStats, PollerConfig, SyncRunItem, SyncStats,
};
pub use self::tasks::{TaskDetail, TaskItem};
pub use self::ws::{Sockets, Ticket};
use crate::config::Sync;
use crate::notify::Channels;

/// The API's share of the process.
pub struct Api {
    pub store: Store,
    pub bots: Bots,
    /// `owner/name`, which `/api/prs/{number}` means.
    pub default_repository: Option<String>,
    /// The digest of the configured admin token; one that was made at the first start is in the store.
    pub admin_token: Option<TokenHash>,
    /// `None` in a process that neither takes in nor works.
    pub queue: Option<Arc<Queue>>,
    /// Whether webhooks are taken in here, which a missing broker does not end.
    pub takes_in: bool,
    /// Whether GitHub is polled here.
    pub polls: bool,
    /// When this process began.
    pub started: Moment,
    pub counted: Counted,
    /// `None`: GitHub is asked for nothing.
    pub github: Option<Client>,
    pub sync: Sync,
    pub behind: Behind,
    /// What GitHub is to sign with, for webhooks that are made here.
    pub hook_secret: Option<HookSecret>,
    /// Where notifications are sent.
    pub channels: Arc<Channels>,
}

/// What was stored when it was last counted.
#[derive(Debug, Default)]
pub struct Counted(Mutex<Option<(Instant, Stored)>>);

/// What is stored, in numbers.
#[derive(Clone, Debug)]
struct Stored {
    inbox: DeliveryCounts,
    watches: WatchCounts,
    last_round: Option<Moment>,
    backlogs: Vec<ChannelBacklog>,
}

/// How long counts are told again. They are open to everybody and take longer the more there is.
const COUNTS: Duration = Duration::from_secs(1);

impl Api {
    /// What is stored, as of at most a second ago.
    async fn stored(&self) -> tallyhook_store::Result<Stored> {
        let mut counted = self.counted.0.lock().await;
        if let Some((at, stored)) = &*counted
            && at.elapsed() < COUNTS
        {
            return Ok(stored.clone());
        }
        let stored = Stored {
            inbox: self.store.counts().await?,
            watches: self.watches().await?,
            last_round: self.store.poller_stats().await?.last_sync_at,
            backlogs: self.backlogs().await?,
        };
        *counted = Some((Instant::now(), stored.clone()));
        Ok(stored)
    }

    async fn watches(&self) -> tallyhook_store::Result<WatchCounts> {
        let interval =
            TimeDelta::from_std(self.sync.monitor.poll_interval).unwrap_or(TimeDelta::MAX);
        self.store
            .watch_counts(Utc::now().checked_sub_signed(interval).unwrap_or_default())
            .await
    }

    /// How the channels of the settings are doing.
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

    /// The repository that a query names, if it names one.
    async fn repository(&self, name: Option<&str>) -> Result<Option<RepoId>, error::ApiError> {
        let Some(name) = name else { return Ok(None) };
        let id = self.store.repository_id(name).await?;
        id.map(Some).ok_or(error::ApiError::NotFound("repository"))
    }

    async fn tracked(&self, owner: &str, repo: &str) -> Result<TrackedRepository, error::ApiError> {
        let tracked = match self.store.repository_id(&format!("{owner}/{repo}")).await? {
            Some(id) => self.store.tracked_repository(id).await?,
            None => None,
        };
        tracked.ok_or(error::ApiError::NotFound("tracked repository"))
    }
}

/// Adds the routes to a server that has [`Api`] among its data: those for operators, and those for readers if it is to
/// answer them.
pub fn routes(config: &mut web::ServiceConfig, readers: bool) {
    config
        .route("/healthz", web::get().to(health::healthz))
        .route("/readyz", web::get().to(health::readyz))
        .route("/metrics", web::get().to(health::metrics))
        .default_service(web::to(not_found));
    if readers {
        let query = web::QueryConfig::default().error_handler(|error, _| {
            error::ApiError::BadRequest(format!("the query string is wrong: {error}")).into()
        });
        config.service(
            web::resource("/ws")
                .app_data(query.clone())
                .route(web::get().to(ws::connect)),
        );
        config.service(
            web::scope("/api")
                .wrap(from_fn(auth::require_token))
                .app_data(query)
                .app_data(web::JsonConfig::default().error_handler(|error, _| {
                    error::ApiError::BadRequest(format!("the body is wrong: {error}")).into()
                }))
                .app_data(
                    web::PathConfig::default()
                        .error_handler(|_, _| error::ApiError::NotFound("path").into()),
                )
                .route("/prs", web::get().to(pull_requests::list))
                .route(
                    "/prs/{number}",
                    web::get().to(pull_requests::of_default_repository),
                )
                .route(
                    "/repos/{owner}/{repo}/prs/{number}",
                    web::get().to(pull_requests::of_repository),
                )
                .route(
                    "/repos/{owner}/{repo}/prs/{number}/monitor",
                    web::post().to(repositories::watch),
                )
                .route(
                    "/repos/{owner}/{repo}/prs/{number}/monitor",
                    web::delete().to(repositories::unwatch),
                )
                .route("/repos", web::get().to(repositories::list))
                .route("/repos", web::post().to(repositories::add))
                .route(
                    "/repos/{owner}/{repo}",
                    web::delete().to(repositories::remove),
                )
                .route("/repos/{owner}/{repo}/sync", web::post().to(sync::start))
                .route("/sync-runs", web::get().to(sync::list))
                .route("/sync-runs/{id}", web::get().to(sync::show))
                .route("/sync-runs/{id}", web::delete().to(sync::cancel))
                .route("/sync", web::post().to(sync::poll))
                .route("/sync/stats", web::get().to(sync::stats))
                .route("/tasks", web::get().to(tasks::list))
                .route("/tasks", web::post().to(tasks::create))
                .route("/tasks/{id}", web::get().to(tasks::show))
                .route("/tasks/{id}", web::patch().to(tasks::change))
                .route("/tasks/{id}/pr", web::post().to(task_pull_request::create))
                .route("/tasks/{id}/prs", web::post().to(tasks::link))
                .route(
                    "/tasks/{id}/prs/{owner}/{repo}/{number}",
                    web::delete().to(tasks::unlink),
                )
                .route("/stories/{id}/prs", web::get().to(tasks::of_story))
                .route("/ws-ticket", web::post().to(ws::ticket))
                .route("/channels", web::get().to(channels::list))
                .route("/channels/{name}/test", web::post().to(channels::test))
                .route("/notifications", web::get().to(channels::notifications))
                .route("/metrics/cycle-time", web::get().to(metrics::cycle_time))
                .route("/deliveries", web::get().to(deliveries::list))
                .route("/deliveries/{guid}", web::get().to(deliveries::show))
                .route("/dead-letters", web::get().to(deliveries::dead))
                .route("/dead-letters/groups", web::get().to(deliveries::groups))
                .route(
                    "/dead-letters/requeue",
                    web::post().to(deliveries::requeue_group),
                )
                .route("/dead-letters/{id}", web::get().to(deliveries::show_dead))
                .route("/dead-letters/{id}", web::delete().to(deliveries::discard))
                .route(
                    "/dead-letters/{id}/requeue",
                    web::post().to(deliveries::requeue),
                )
                .default_service(web::to(not_found)),
        );
    }
}

/// A moment by our own clock, as it is told.
fn rfc3339(moment: Moment) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}

async fn not_found() -> Result<HttpResponse, error::ApiError> {
    Err(error::ApiError::NotFound("path"))
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Tallyhook", description = "Self-hosted GitHub event processor: pull requests and where their time goes."),
    paths(
        crate::ingest::receive,
        pull_requests::list,
        pull_requests::of_default_repository,
        pull_requests::of_repository,
        metrics::cycle_time,
        repositories::list,
        repositories::add,
        repositories::remove,
        repositories::watch,
        repositories::unwatch,
        sync::start,
        sync::list,
        sync::show,
        sync::cancel,
        sync::poll,
        sync::stats,
        tasks::list,
        tasks::create,
        tasks::show,
        tasks::change,
        task_pull_request::create,
        tasks::link,
        tasks::unlink,
        tasks::of_story,
        ws::connect,
        ws::ticket,
        channels::list,
        channels::test,
        channels::notifications,
        deliveries::list,
        deliveries::show,
        deliveries::dead,
        deliveries::show_dead,
        deliveries::discard,
        deliveries::requeue,
        deliveries::groups,
        deliveries::requeue_group,
        health::healthz,
        health::readyz,
        health::metrics,
    ),
    components(schemas(error::ErrorBody)),
    modifiers(&Bearer, &Errors),
    tags(
        (name = "pull requests", description = "What is known, and how it is explained"),
        (name = "metrics", description = "Cycle times, review times and stages"),
        (name = "repositories", description = "What GitHub is asked for, and how far that has come"),
        (name = "tasks", description = "What follows pull requests"),
        (name = "notifications", description = "What happens, as it happens"),
        (name = "deliveries", description = "The inbox and its dead letters"),
        (name = "webhooks", description = "What GitHub calls"),
        (name = "health", description = "For load balancers and Prometheus; open without a token"),
    )
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            "token",
            SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
        );
    }
}

/// What may come of every call that wants a token, besides what is said of it.
struct Errors;

impl Modify for Errors {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let error = |description: &str| {
            let body = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("ErrorBody")))
                .build();
            ResponseBuilder::new()
                .description(description)
                .content("application/json", body)
                .build()
        };
        for item in document.paths.paths.values_mut() {
            let operations = [
                &mut item.get,
                &mut item.post,
                &mut item.patch,
                &mut item.delete,
            ];
            for operation in operations
                .into_iter()
                .flatten()
                .filter(|operation| operation.security.is_some())
            {
                let responses = &mut operation.responses.responses;
                for (status, description) in [
                    ("401", "there is no valid token with it"),
                    ("503", "the database or GitHub does not answer now"),
                    ("default", "another error, such as of GitHub's"),
                ] {
                    responses
                        .entry(status.to_owned())
                        .or_insert_with(|| error(description).into());
                }
            }
        }
    }
}

/// The API's description, OpenAPI 3.1 in JSON.
///
/// # Errors
/// Never for what is described here; the type comes from serde.
pub fn openapi() -> serde_json::Result<String> {
    Document::openapi().to_pretty_json()
}
