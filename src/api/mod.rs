//! The HTTP API: pull requests, metrics, deliveries, dead letters, health, notifications, tasks;
//! and requests for data from GitHub.

mod access;
mod acts;
mod answers;
mod audit;
pub mod auth;
mod business;
mod caller;
mod channels;
mod commits;
mod csv_list;
mod data_freshness;
mod deliveries;
mod doctor;
mod document;
mod error;
mod explain;
mod explained_turns;
mod freshness;
mod github_sign_in;
mod health;
mod health_report;
mod input;
mod invitations;
mod listing;
mod load;
mod members;
mod metrics;
mod one_time_login;
mod origin;
mod page;
mod pull_requests;
mod reads;
mod repositories;
mod request_body;
mod routes;
mod rules;
mod same_origin;
mod session_cookie;
mod sessions;
mod settings;
mod shared_reads;
mod sync;
mod task_links;
mod task_pull_request;
mod tasks;
mod team_api;
mod team_repositories;
mod teams;
mod tokens;
mod uses;
mod waiting;
mod wrong_tokens;
mod ws;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, web};
use chrono::{SecondsFormat, TimeDelta, Utc};
pub use tallyhook_core::domain::metrics::{
    DistributionBin, DurationComparison, DurationDistribution, DurationName, DurationSummary,
    StageSummaries, Summary,
};
use tallyhook_core::domain::numbers::NumberRules;
pub use tallyhook_core::domain::waiting::{WaitingFor, WaitingReason};
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::Client;
use tallyhook_queue::Queue;
pub use tallyhook_store::{
    AccessRole, DEFAULT_TEAM, DeadLetterGroup, InvitationOffer, MemberSource, NO_REPOSITORY,
    NotificationState, RunState, SyncStatus, TaskCause,
};
use tallyhook_store::{
    BackfillCounts, ChannelBacklog, DeliveryCounts, Moment, RepositoryCounts, SealingKeyId, Store,
    TeamId, TeamStore, TokenHash, WaitingFilter, WaitingGroup, WatchCounts,
};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use utoipa_actix_web::scope::{Scope, scope};
use utoipa_actix_web::service_config::ServiceConfig;

use self::access::{CallAccess, RestrictedCall, RestrictedScope};
pub use self::acts::{CallRecord, RECORDS, record_of};
pub(crate) use self::answers::{names_first, prefers_html};
pub use self::audit::{AuditActorItem, AuditItem, AuditTargetItem, GithubCallItem, RecordFormat};
pub(crate) use self::audit::{RecordFilter, RecordQuery};
pub(crate) use self::auth::{AdmittedPage, CSRF_FIELD, PageTeam, admit_page};
pub use self::caller::CallerKind;
pub(crate) use self::caller::{Caller, KnownCaller};
pub use self::channels::{ChannelItem, NotificationItem, items as channel_items};
pub(crate) use self::csv_list::{CSV, CsvList};
pub use self::data_freshness::{DataFreshness, IncompleteRepository};
pub use self::deliveries::{
    CheckedOutcome, DeliveryCheck, DeliveryDetail, DeliveryItem, InboxActivity, ReceivedHour,
    RefusedRequests,
};
pub(crate) use self::deliveries::{
    DeadLetterKey, DeadLetterOrder, JSON_LINES, activity as inbox_activity, dead_letter_lines,
    delivery_line, discarded, exported_line, requeued,
};
pub use self::doctor::DoctorReport;
pub use self::document::openapi;
pub use self::error::{ApiError, ApiErrorBody, ApiErrorDetail};
pub use self::explain::ExplainedStep;
pub(crate) use self::explain::flag_sentence;
pub use self::explained_turns::{ExplainedTurn, ReviewPairItem, ReviewRoundItem};
pub use self::freshness::BackgroundRefresh;
pub use self::github_sign_in::BegunFlows;
pub(crate) use self::github_sign_in::{SentOn, begin_sign_in, finish_sign_in};
pub use self::health_report::{HealthReport, QueueKind};
pub use self::invitations::{InvitationCreated, InvitationItem};
pub(crate) use self::invitations::{InviteBody, accept_invitation, create_link};
pub use self::load::{LoadAnswer, LoadItem};
pub use self::members::{MemberItem, PersonItem};
pub use self::metrics::{
    BucketSummary, ComparedTime, CycleTime, ExplainedPercentile, FlowAnswers, MeasuredItem,
    MeasuredPoints, PointItem, TimeRange, TimeRanges,
};
pub use self::one_time_login::OneTimeLogins;
pub use self::page::{ListCount, Page};
pub use self::pull_requests::{
    PullRequestDetail, PullRequestItem, ReadContext, ReviewItem, StagesHours, TimelineEntry,
    WatchItem, detail, list_item,
};
pub use self::reads::StoreReads;
pub use self::repositories::RepositoryItem;
pub(crate) use self::repositories::{AddedRepository, TrackRequest};
pub(crate) use self::routes::unrouted;
pub(crate) use self::rules::RuleBody;
pub use self::rules::RuleItem;
pub(crate) use self::session_cookie::form_token;
pub use self::sessions::{Me, MeTeam, MeUser, SessionItem};
pub(crate) use self::sessions::{StartedSession, is_own_path, sign_in, sign_in_once};
pub use self::settings::{CalendarItem, GithubAccess, SettingsAnswer};
pub use self::shared_reads::SharedReads;
pub(crate) use self::sync::RunRequest;
pub use self::sync::{
    BackfillStats, ChannelStats, FailingMonitor, MonitorConfig, MonitorStats, PollerConfig,
    SyncRunItem, SyncStats,
};
pub(crate) use self::task_links::LinkRequest;
pub(crate) use self::task_pull_request::OpenPullRequestBody;
pub(crate) use self::tasks::{ChangeTaskBody, CreateTaskBody};
pub use self::tasks::{HistoryItem, LinkedPullRequest, TaskDetail, TaskItem};
pub(crate) use self::team_api::TeamApi;
pub use self::teams::TeamCreated;
pub(crate) use self::tokens::CreateTokenBody;
pub use self::tokens::{DEFAULT_DAYS, MAX_DAYS, TokenCreated, TokenItem, TokenOrder, create_token};
pub use self::uses::RecentUses;
pub use self::waiting::{
    WaitingAnswer, WaitingGroupItem, WaitingItem, WaitingOnItem, WaitingOnKind,
};
pub use self::wrong_tokens::WrongTokens;
pub use self::ws::{WebSocketServer, WsTicket};
use crate::accounts::GithubSignIn;
use crate::config::{Config, PublicUrl, SyncConfig, WebhookSecrets};
use crate::notify::Channels;
use crate::secrets::Vault;

/// The state that every handler of the API shares.
pub struct ApiState {
    pub store: Store,
    /// The stored secrets.
    pub vault: Vault,
    pub rules: Arc<NumberRules>,
    /// Totals of what waits list people beside teams.
    pub show_people: bool,
    /// The repository of `/api/prs/{number}`.
    pub default_repository: Option<DefaultRepository>,
    /// The digest of the configured admin token; the one of the first start is in the store.
    pub admin_token: Option<TokenHash>,
    pub wrong_tokens: WrongTokens,
    pub one_time_logins: Arc<OneTimeLogins>,
    /// `None` if people do not sign in with GitHub.
    pub sign_in: Option<Arc<GithubSignIn>>,
    pub begun_flows: BegunFlows,
    /// The address for people, behind a proxy.
    pub public_url: Option<PublicUrl>,
    pub uses: Arc<RecentUses>,
    /// `None` in a process without the roles ingest and worker.
    pub queue: Option<Arc<Queue>>,
    /// True with the role ingest, which works without the broker.
    pub takes_in: bool,
    /// True with the role poller.
    pub polls: bool,
    /// The start of this process.
    pub started: Moment,
    pub counts: CachedCounts,
    pub shared: SharedReads,
    /// `None` sends no request to GitHub.
    pub github: Option<Client>,
    pub sync: SyncConfig,
    pub refreshes: BackgroundRefresh,
    /// The first of them is the secret of webhooks that are created here.
    pub secrets: watch::Receiver<WebhookSecrets>,
    /// The channels of the settings.
    pub channels: Arc<Channels>,
    /// The settings in force.
    pub config: Arc<Config>,
    /// Held while the checks of `POST /api/doctor` run: they send requests to GitHub.
    pub examining: Mutex<()>,
}

/// The default repository, which is of one team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRepository {
    /// `owner/name`
    pub name: String,
    pub team: TeamId,
}

/// The last counts and the time when they were read.
#[derive(Debug, Default)]
pub struct CachedCounts(Mutex<Option<(Instant, StoredCounts)>>);

/// The state of the store in numbers.
#[derive(Clone, Debug)]
struct StoredCounts {
    /// The rows that each key has sealed, by table.
    sealed: BTreeMap<SealingKeyId, BTreeMap<String, u64>>,
    inbox: DeliveryCounts,
    watches: WatchCounts,
    last_round: Option<Moment>,
    backlogs: Vec<ChannelBacklog>,
    repositories: RepositoryCounts,
    backfills: BackfillCounts,
    waiting: Vec<WaitingGroup>,
    /// Open pull requests of which it is not known what they wait for.
    waiting_unknown: u64,
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
        let filter = WaitingFilter::default();
        let waiting = self
            .store
            .waiting_totals(&filter, Utc::now().into())
            .await?;
        let counts = StoredCounts {
            sealed: self.store.sealed_counts().await?,
            inbox: self.store.counts().await?,
            watches: self.store.watch_counts(self.watches_due()).await?,
            last_round: self.store.poller_stats().await?.last_sync_at,
            backlogs: self.backlogs().await?,
            repositories: self.store.repository_counts().await?,
            backfills: self.store.backfill_counts().await?,
            waiting: waiting.groups,
            waiting_unknown: waiting.unknown,
        };
        *cached = Some((Instant::now(), counts.clone()));
        Ok(counts)
    }

    /// Returns the time before which a watched pull request was checked that is due.
    fn watches_due(&self) -> Moment {
        let interval =
            TimeDelta::from_std(self.sync.monitor.poll_interval).unwrap_or(TimeDelta::MAX);
        Utc::now().checked_sub_signed(interval).unwrap_or_default()
    }

    /// Returns the backlogs of the channels of the settings, of all teams.
    async fn backlogs(&self) -> tallyhook_store::Result<Vec<ChannelBacklog>> {
        let mut names: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
        for channel in self.channels.iter() {
            let of_team = names.entry(channel.team.0).or_default();
            of_team.push(channel.name.as_str());
        }
        let mut backlogs = Vec::new();
        for (team, names) in names {
            backlogs.extend(self.store.of_team(TeamId(team)).backlogs(&names).await?);
        }
        backlogs.sort_by(|one, two| one.channel.cmp(&two.channel));
        Ok(backlogs)
    }

    fn github(&self) -> Result<&Client, error::ApiError> {
        self.github
            .as_ref()
            .ok_or(error::ApiError::GithubAccessMissing)
    }
}

/// Returns the repository of an optional query parameter.
async fn repository(
    store: &TeamStore,
    name: Option<&str>,
) -> Result<Option<RepoId>, error::ApiError> {
    let Some(name) = name else { return Ok(None) };
    let id = store.repository_id(name).await?;
    id.map(Some).ok_or(error::ApiError::NotFound("repository"))
}

/// Adds the routes to a server that has [`ApiState`] among its data: those for operators, and with
/// `readers` those of the API. A handler names its path and method, and is registered here alone:
/// the OpenAPI document is collected from the same calls.
pub fn add_routes(config: &mut ServiceConfig<'_>, readers: bool) {
    config
        .service(open(health::healthz))
        .service(open(health::readyz))
        .service(open(health::prometheus));
    if !readers {
        config.default_service(web::to(async |request: HttpRequest| {
            unrouted(&request, &[], false)
        }));
    }
    if readers {
        let viewer = CallAccess::Role(AccessRole::Viewer);
        config
            .service(open(sessions::login))
            .service(open(sessions::logout))
            .service(RestrictedCall::new(viewer, ws::connect))
            .service(with_caller());
    }
}

fn open<F>(handler: F) -> RestrictedCall<F> {
    RestrictedCall::new(CallAccess::Open, handler)
}

/// Returns the calls that require a token or a session, each with the role that it needs.
fn with_caller() -> Scope<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let scope = scope("/api")
        .wrap(from_fn(auth::require_caller))
        .wrap(from_fn(answers::finish_reads))
        .wrap(answers::guarding_headers())
        .app_data(
            web::PathConfig::default()
                .error_handler(|_, request| routes::wrong_values(request).into()),
        );
    RestrictedScope::new(scope)
        .viewer(listing::list)
        .viewer(waiting::totals)
        .viewer(pull_requests::of_default_repository)
        .viewer(pull_requests::of_repository)
        .member(repositories::watch)
        .member(repositories::unwatch)
        .viewer(repositories::list)
        .admin(repositories::add)
        .admin(repositories::remove)
        .member(sync::start)
        .viewer(sync::list)
        .viewer(sync::show)
        .member(sync::cancel)
        .member(sync::poll)
        .viewer(sync::stats)
        .viewer(tasks::list)
        .member(tasks::create)
        .viewer(tasks::show)
        .member(tasks::change)
        .member(task_pull_request::create)
        .member(task_links::link)
        .member(task_links::unlink)
        .viewer(tasks::of_story)
        .viewer(ws::create_ticket)
        .admin(channels::list)
        .admin(channels::test)
        .viewer(channels::list_notifications)
        .admin(channels::retry)
        .viewer(metrics::cycle_time)
        .viewer(metrics::compare)
        .viewer(metrics::cohort)
        .viewer(metrics::distribution)
        .viewer(metrics::points)
        .viewer(metrics::explain)
        .viewer(load::load)
        .operator(deliveries::show_inbox)
        .operator(deliveries::list)
        .operator(deliveries::show)
        .operator(deliveries::check)
        .operator(deliveries::export)
        .operator(deliveries::show_payload)
        .operator(deliveries::list_dead)
        .operator(deliveries::list_groups)
        .operator(deliveries::export_dead)
        .operator(deliveries::requeue_group)
        .operator(deliveries::discard_group)
        .operator(deliveries::show_dead)
        .operator(deliveries::discard)
        .operator(deliveries::requeue)
        .operator(health_report::show)
        .operator(doctor::examine)
        .operator(team_repositories::list)
        .operator(team_repositories::give)
        .operator(team_repositories::take)
        .admin(settings::show)
        .admin(audit::acts)
        .admin(audit::calls)
        .admin(tokens::list)
        .admin(tokens::create)
        .admin(tokens::revoke)
        .any_team(sessions::show)
        .any_team(sessions::list)
        .any_team(sessions::end_all)
        .any_team(sessions::end)
        .any_team(teams::list)
        .operator(teams::create)
        .viewer(members::leave)
        .admin(members::list)
        .admin(members::add)
        .admin(members::set_role)
        .admin(members::remove)
        .admin(invitations::list)
        .admin(invitations::create)
        .admin(invitations::end)
        .admin(rules::list)
        .admin(rules::replace)
        .otherwise(web::to(async |request: HttpRequest| {
            unrouted(&request, &[], true)
        }))
}

/// Returns the path of the public address: empty, or such as `/tallyhook`.
fn base_path(request: &HttpRequest) -> &str {
    public_url(request).map_or("", PublicUrl::path)
}

/// Returns the address of a path of this server as others reach it.
pub(crate) fn public_address(request: &HttpRequest, path: &str) -> String {
    match public_url(request) {
        Some(url) => format!("{}{}{path}", url.origin(), url.path()),
        None => {
            let connection = request.connection_info();
            format!("{}://{}{path}", connection.scheme(), connection.host())
        }
    }
}

/// Returns true if the public address is one of plain HTTP, on this machine.
fn is_public_plain(request: &HttpRequest) -> bool {
    public_url(request).is_some_and(|url| url.origin().starts_with("http://"))
}

fn public_url(request: &HttpRequest) -> Option<&PublicUrl> {
    let api = request.app_data::<web::Data<ApiState>>()?;
    api.public_url.as_ref()
}

/// Formats a timestamp of our own clock.
fn rfc3339(timestamp: Moment) -> String {
    timestamp.to_rfc3339_opts(SecondsFormat::Millis, true)
}
