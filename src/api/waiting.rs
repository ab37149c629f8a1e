//! The waiting of open pull requests: of one, and in total.

use std::collections::BTreeMap;

use actix_web::{get, web};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::business_time::Calendar;
use tallyhook_core::domain::metrics::AuthorFilter;
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::waiting::{Party, Waiter, Waiting, WaitingFor, WaitingReason};
use tallyhook_core::github::types::{PrNumber, RepoId, Timestamp};
use tallyhook_store::{TeamStore, WaitingFilter, WaitingGroup, WaitingTotals};
use utoipa::{IntoParams, ToSchema};

use super::data_freshness::DataFreshness;
use super::error::ApiError;
use super::input::QueryInput;
use super::pull_requests::{ReadContext, hours};
use super::team_api::TeamApi;

/// The one thing that an open pull request waits for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WaitingItem {
    #[serde(rename = "for")]
    #[schema(example = "reviewers")]
    pub on: WaitingFor,
    pub reason: WaitingReason,
    /// The people and teams, the one that is waited for longest first: the reviewers, or the
    /// author.
    pub who: Vec<WaiterItem>,
    /// The time from which the first of them is waited for.
    pub since: Timestamp,
    /// The time from which it waits for this kind, be it for one party or another.
    pub kind_since: Timestamp,
    #[schema(example = "ines-acme was asked on 3 March")]
    pub because: String,
    /// The number of the rule that holds, 1 to 12.
    pub rule: u8,
    /// Other reasons to wait, which count for nothing while this one holds.
    pub also: Vec<String>,
    /// `at latest` if it may have waited before `since`, unseen; else null.
    pub since_is: Option<SinceBound>,
    /// The open pull request whose head is the base of this one, where it waits for that.
    #[schema(value_type = Option<i64>)]
    pub held_by: Option<PrNumber>,
    /// The time at which this holds.
    pub as_of: Timestamp,
}

/// The side on which the true time of a beginning may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum SinceBound {
    #[serde(rename = "at latest")]
    AtLatest,
}

/// A person or team that is waited for: either `login` or `team` is not null.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WaiterItem {
    #[schema(example = "ines-acme")]
    pub login: Option<String>,
    /// The slug of a team on GitHub.
    pub team: Option<String>,
    pub since: Timestamp,
    pub because: String,
    /// The business hours since then by the calendar of the person, of the team, or of the
    /// repository; null without any.
    pub business_hours: Option<f64>,
}

/// The parts of a pull request that its waiting is shown with.
pub(super) struct WaitingAbout {
    pub(super) repo: String,
    /// A person has reviewed it.
    pub(super) reviewed: bool,
    pub(super) held_by: Option<PrNumber>,
}

impl WaitingItem {
    pub(super) fn new(waiting: Waiting, about: &WaitingAbout, context: ReadContext<'_>) -> Self {
        let who = waiting.who.into_iter();
        Self {
            reason: WaitingReason::of(waiting.on, waiting.rule, about.reviewed),
            on: waiting.on,
            who: who
                .map(|waiter| WaiterItem::new(waiter, &about.repo, context))
                .collect(),
            since: waiting.since,
            kind_since: waiting.kind_since,
            because: waiting.because,
            rule: waiting.rule,
            also: waiting.also,
            since_is: waiting.since_is_latest.then_some(SinceBound::AtLatest),
            held_by: about.held_by,
            as_of: context.now,
        }
    }
}

impl WaiterItem {
    fn new(waiter: Waiter, repo: &str, context: ReadContext<'_>) -> Self {
        let calendar = reviewer_calendar(&waiter.party, repo, context.rules);
        let seconds = calendar.map(|calendar| calendar.seconds(waiter.since, context.now));
        let (login, team) = match waiter.party {
            Party::Account { login, .. } => (Some(login), None),
            Party::Team { slug, .. } => (None, Some(slug)),
        };
        Self {
            login,
            team,
            since: waiter.since,
            because: waiter.because,
            business_hours: seconds.map(hours),
        }
    }
}

/// Returns the calendar by which a person or team of a repository is waited for: its own, else that
/// of the repository.
pub(super) fn reviewer_calendar<'a>(
    party: &Party,
    repo: &str,
    rules: &'a NumberRules,
) -> Option<&'a Calendar> {
    let calendars = &rules.calendars;
    let own = match party {
        Party::Account { login, .. } => calendars.of_person(login),
        Party::Team { slug, .. } => calendars.of_team(slug),
    };
    own.or_else(|| calendars.of_repository(repo))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitingQuery {
    /// `owner/name`
    repo: Option<String>,
    /// Only those that wait for this team on GitHub, by its slug.
    #[param(example = "backend")]
    github_team: Option<String>,
    /// Authors to include; all by default.
    authors: Option<AuthorFilter>,
}

/// The open pull requests by what they wait for, and on whom.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WaitingAnswer {
    pub as_of: Timestamp,
    /// The number of open pull requests in `groups`.
    pub open: u64,
    /// Those that most wait for first, drafts last.
    pub groups: Vec<WaitingGroupItem>,
    /// The teams that are waited for, and with `show_people` the people, those first that most wait
    /// for; at most 100.
    pub on: Vec<WaitingOnItem>,
    pub freshness: DataFreshness,
}

/// The open pull requests that wait for one kind, for one reason.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WaitingGroupItem {
    #[serde(rename = "for")]
    #[schema(example = "reviewers")]
    pub on: WaitingFor,
    pub reason: WaitingReason,
    pub n: u64,
    pub under_1d: u64,
    /// One day or longer.
    pub under_3d: u64,
    /// Three days or longer.
    pub under_7d: u64,
    pub over_7d: u64,
    pub longest: LongestWait,
}

/// The pull request of a group that waits longest.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LongestWait {
    /// `owner/name`
    #[schema(example = "acme-corp/api-server")]
    pub repo: String,
    #[schema(value_type = i64, example = 107)]
    pub number: PrNumber,
    pub since: Timestamp,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WaitingOnItem {
    pub kind: WaitingOnKind,
    /// The slug of a team, or a login.
    #[schema(example = "backend")]
    pub name: String,
    pub n: u64,
    pub longest_since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitingOnKind {
    Team,
    Person,
}

/// Open pull requests by what they wait for now, since when, and on whom.
#[utoipa::path(
    tag = "pull requests", operation_id = "waiting", security(("token" = [])),
    params(WaitingQuery),
    responses(
        (status = 200, body = WaitingAnswer),
        (status = 400, body = super::error::ApiErrorBody),
    )
)]
#[get("/waiting")]
pub(super) async fn totals(
    api: TeamApi,
    QueryInput(query): QueryInput<WaitingQuery>,
) -> Result<web::Json<WaitingAnswer>, ApiError> {
    answer(&api.store, query, api.show_people)
        .await
        .map(web::Json)
}

/// Returns the totals of stored pull requests; with `people` also on which people they wait.
pub(super) async fn answer(
    store: &TeamStore,
    query: WaitingQuery,
    people: bool,
) -> Result<WaitingAnswer, ApiError> {
    let filter = WaitingFilter {
        repo: super::repository(store, query.repo.as_deref()).await?,
        github_team: query.github_team,
        authors: query.authors,
        people,
    };
    let now = Timestamp::from(Utc::now());
    let WaitingTotals {
        groups,
        parties,
        unknown,
        repositories,
    } = store.waiting_totals(&filter, now).await?;
    let groups = grouped(&groups, &repositories);
    let on = parties.into_iter().map(|party| WaitingOnItem {
        kind: match party.is_team {
            true => WaitingOnKind::Team,
            false => WaitingOnKind::Person,
        },
        name: party.name,
        n: party.n,
        longest_since: party.longest_since,
    });
    Ok(WaitingAnswer {
        as_of: now,
        open: groups.iter().map(|group| group.n).sum(),
        groups,
        on: on.collect(),
        freshness: DataFreshness::read(store, filter.repo, unknown).await?,
    })
}

/// Joins the groups of rules that have one reason.
fn grouped(
    groups: &[WaitingGroup],
    repositories: &BTreeMap<RepoId, String>,
) -> Vec<WaitingGroupItem> {
    let mut joined: BTreeMap<(WaitingFor, WaitingReason), WaitingGroup> = BTreeMap::new();
    for group in groups {
        let reason = WaitingReason::of(group.on, group.rule, group.reviewed);
        joined
            .entry((group.on, reason))
            .and_modify(|known| known.join(group))
            .or_insert(*group);
    }
    let item = |((on, reason), group): ((WaitingFor, WaitingReason), WaitingGroup)| {
        let [under_1d, under_3d, under_7d, over_7d] = group.by_days;
        WaitingGroupItem {
            on,
            reason,
            n: group.n,
            under_1d,
            under_3d,
            under_7d,
            over_7d,
            longest: LongestWait {
                repo: repositories
                    .get(&group.longest.repo)
                    .cloned()
                    .unwrap_or_default(),
                number: group.longest.number,
                since: group.longest_since,
            },
        }
    };
    let mut items: Vec<_> = joined.into_iter().map(item).collect();
    items.sort_by_key(|group| {
        (
            group.reason == WaitingReason::Draft,
            std::cmp::Reverse(group.n),
        )
    });
    items
}
