//! The list of pull requests: its filters, its order and its pages.

use actix_web::{get, web};
use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Deserializer, de};
use tallyhook_core::domain::business_time::DurationClock;
use tallyhook_core::domain::metrics::{AuthorFilter, DurationName, ExclusionReason};
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::timings::Flag;
use tallyhook_core::domain::waiting::{WaitingFor, WaitingReason};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_core::text::one_line;
use tallyhook_store::{
    DetailFilter, LOOKED_AT, ListOrder, ListPlace, PartyName, PullRequestFilter, SortKey,
    StateFilter, TeamStore,
};
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::error::ApiError;
use super::input::{QueryInput, enumerated, suggestion};
use super::metrics::ClockQuery;
use super::page::{self, ListCount, Page, PageSize};
use super::pull_requests::{PullRequestItem, ReadContext, list_item};
use super::team_api::TeamApi;
use crate::times::TimePoint;

/// The longest range of merges that is sorted by a value without an index.
const SORTED_RANGE: TimeDelta = TimeDelta::days(400);

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// `open`, `closed` (with merged), `merged`, `closed_unmerged` or `all`; several separated by
    /// commas.
    state: Option<String>,
    /// `owner/name`
    repo: Option<String>,
    /// Login of the author.
    author: Option<String>,
    /// Updated at or after: RFC 3339, a date (midnight UTC), or a span before now.
    #[param(value_type = Option<String>, example = "30d")]
    from: Option<TimePoint>,
    /// Updated before, in the same forms.
    #[param(value_type = Option<String>, example = "2026-03-31")]
    to: Option<TimePoint>,
    /// Merged at or after, in the same forms; only merged ones.
    #[param(value_type = Option<String>, example = "30d")]
    merged_from: Option<TimePoint>,
    /// Merged before, in the same forms; only merged ones.
    #[param(value_type = Option<String>, example = "2026-03-31")]
    merged_to: Option<TimePoint>,
    /// Closed at or after, in the same forms; only those closed without a merge.
    #[param(value_type = Option<String>, example = "30d")]
    closed_from: Option<TimePoint>,
    /// Closed before, in the same forms; only those closed without a merge.
    #[param(value_type = Option<String>, example = "2026-03-31")]
    closed_to: Option<TimePoint>,
    /// Only open ones that wait for this kind.
    waiting_for: Option<WaitingFor>,
    /// Only open ones that wait for this reason, as the groups of `/api/waiting` name it.
    reason: Option<WaitingReason>,
    /// Only open ones that wait for this login, for `github_team:SLUG`, or for `me`, the login of the
    /// token.
    #[param(example = "github_team:backend")]
    waiting_on: Option<String>,
    /// Only open ones that wait at least this long, such as `3d`, or since this time.
    #[param(value_type = Option<String>, example = "3d")]
    waited_min: Option<TimePoint>,
    /// Only open ones that wait shorter than this, in the same forms.
    #[param(value_type = Option<String>, example = "7d")]
    waited_max: Option<TimePoint>,
    /// Only merged ones with this duration, of `min_hours` or more and less than `max_hours`.
    stage: Option<DurationName>,
    /// The least hours of `stage`.
    #[param(value_type = Option<f64>, minimum = 0, example = 24)]
    min_hours: Option<HourCount>,
    /// More hours of `stage` than are wanted.
    #[param(value_type = Option<f64>, minimum = 0, example = 72)]
    max_hours: Option<HourCount>,
    /// Only merged ones without this duration.
    missing: Option<DurationName>,
    /// Only those with this flag.
    flag: Option<Flag>,
    /// Only those with this label, as it is written.
    label: Option<String>,
    /// Only drafts, or only those that are none.
    draft: Option<bool>,
    /// With true only those that aggregates of these authors count.
    counted: Option<bool>,
    /// Only merged ones that aggregates of these authors leave out for this reason, and whose merge
    /// has a known time.
    excluded: Option<ExclusionReason>,
    /// `human`, `agent`, `automation`, `bot` (both) or `all` (default, but `human` with `counted`
    /// and `excluded`).
    authors: Option<AuthorFilter>,
    /// A part of the title or of the branch, or a number.
    q: Option<String>,
    /// `waiting` (the longest wait first), `updated`, `created`, `merged`, `closed` (of those closed
    /// without a merge), or a duration of merged ones. By default `waiting`, `merged` and `closed`
    /// where a filter is about that, else `updated`. Those without the value are left out.
    sort: Option<ListSort>,
    /// `desc` (default) has the largest and the newest first.
    order: Option<SortOrder>,
    /// With true the answer has `count`.
    count: Option<bool>,
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// The value by which a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ListSort {
    Waiting,
    Updated,
    Created,
    Merged,
    Closed,
    Cycle,
    ReviewTime,
    Coding,
    Pickup,
    Review,
    MergeWait,
    Redraft,
}

impl ListSort {
    fn key(self, clock: DurationClock) -> SortKey {
        let name = match self {
            Self::Waiting => return SortKey::Waiting,
            Self::Updated => return SortKey::Updated,
            Self::Created => return SortKey::Created,
            Self::Merged => return SortKey::Merged,
            Self::Closed => return SortKey::Closed,
            Self::Cycle => DurationName::Cycle,
            Self::ReviewTime => DurationName::ReviewTime,
            Self::Coding => DurationName::Coding,
            Self::Pickup => DurationName::Pickup,
            Self::Review => DurationName::Review,
            Self::MergeWait => DurationName::MergeWait,
            Self::Redraft => DurationName::Redraft,
        };
        SortKey::Duration(name, clock)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SortOrder {
    Asc,
    #[default]
    Desc,
}

/// A number of hours, not negative.
#[derive(Clone, Copy, Debug)]
struct HourCount(f64);

impl<'de> Deserialize<'de> for HourCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hours = String::deserialize(deserializer)?.parse().ok();
        let hours = hours.filter(|hours| (0.0..1e9).contains(hours));
        hours
            .map(Self)
            .ok_or_else(|| de::Error::custom("expected a number of hours such as 24 or 0.5"))
    }
}

impl HourCount {
    #[allow(clippy::cast_possible_truncation, reason = "below 1e13 by its parser")]
    fn seconds(self) -> i64 {
        (self.0 * 3600.0).round() as i64
    }
}

/// The value, repository and number of the last one, and the order of the list.
type ListCursor = (i64, RepoId, PrNumber, String);

/// Pull requests, newest update first unless `sort` says otherwise.
#[utoipa::path(
    tag = "pull requests", operation_id = "list_pull_requests", security(("token" = [])),
    params(ListQuery, ClockQuery),
    responses(
        (status = 200, body = Page<PullRequestItem>),
        (status = 400, body = super::error::ApiErrorBody),
        (status = 401, body = super::error::ApiErrorBody),
    )
)]
#[get("/prs")]
pub(super) async fn list(
    api: TeamApi,
    caller: web::ReqData<Caller>,
    QueryInput(query): QueryInput<ListQuery>,
    QueryInput(clock): QueryInput<ClockQuery>,
) -> Result<web::Json<Page<PullRequestItem>>, ApiError> {
    let me = match query.waiting_on.as_deref() {
        Some("me") => caller.login.clone(),
        _ => None,
    };
    listed(&api.store, &api.rules, query, &clock, me)
        .await
        .map(web::Json)
}

/// Returns a page of stored pull requests; `me` is the login of the reader.
pub(super) async fn listed(
    store: &TeamStore,
    rules: &NumberRules,
    query: ListQuery,
    clock: &ClockQuery,
    me: Option<String>,
) -> Result<Page<PullRequestItem>, ApiError> {
    let now = Timestamp::from(Utc::now());
    let (size, wants_count) = (
        query.per_page.unwrap_or_default(),
        query.count == Some(true),
    );
    let cursor: Option<ListCursor> = page::decode(query.cursor.as_deref())?;
    let repo = super::repository(store, query.repo.as_deref()).await?;
    let mut filter = filter(query, clock.among(&rules.calendars)?, me)?;
    filter.repo = repo;
    check_sorted_range(&filter, now)?;
    let order = order_name(filter.order);
    if let Some((value, repo, number, sorted)) = cursor {
        if sorted != order {
            return Err(page::foreign_cursor());
        }
        let key = PrKey { repo, number };
        filter.after = Some(ListPlace { value, key });
    }
    let count = match wants_count {
        true => Some(store.count_pull_requests(&filter).await?),
        false => None,
    };
    filter.until = store.end_of_look(&filter, LOOKED_AT).await?;
    let mut rows = store.pull_requests(&filter, size.rows()).await?;
    let place = match size.truncate(&mut rows) {
        true => rows.last().map(|last| filter.order.place(last)),
        false => filter.until,
    };
    let cursor = |place: ListPlace| (place.value, place.key.repo, place.key.number, order);
    let context = ReadContext { rules, now };
    Ok(Page {
        items: rows
            .into_iter()
            .map(|row| list_item(row, context))
            .collect(),
        next: place.map(|place| page::encode(&cursor(place))),
        count: count.map(|(n, exact)| ListCount { n, exact }),
    })
}

fn filter(
    query: ListQuery,
    clock: DurationClock,
    me: Option<String>,
) -> Result<PullRequestFilter, ApiError> {
    let at = |time: Option<TimePoint>| time.map(|TimePoint(at)| at);
    let (least, below) = (query.min_hours, query.max_hours);
    if query.stage.is_none() && (least.is_some() || below.is_some()) {
        let message = "`min_hours` and `max_hours` want `stage`, such as stage=pickup";
        return Err(ApiError::BadRequest(message.to_owned()));
    }
    let duration = |name| {
        (
            name,
            least.map(HourCount::seconds),
            below.map(HourCount::seconds),
        )
    };
    let mut filter = PullRequestFilter {
        states: states(query.state.as_deref())?,
        author: query.author,
        from: at(query.from),
        to: at(query.to),
        merged_from: at(query.merged_from),
        merged_to: at(query.merged_to),
        closed_from: at(query.closed_from),
        closed_to: at(query.closed_to),
        waiting_for: query.waiting_for,
        reason: query.reason,
        waiting_on: query.waiting_on.map(|on| party(&on, me)).transpose()?,
        waiting_since_until: at(query.waited_min),
        waiting_since_after: at(query.waited_max),
        details: DetailFilter {
            duration: query.stage.map(duration),
            missing: query.missing,
            clock,
            flag: query.flag,
            label: query.label,
            draft: query.draft,
            counted: query.counted == Some(true),
            excluded: query.excluded,
            authors: query.authors,
            text: query.q.filter(|text| !text.trim().is_empty()),
        },
        ..PullRequestFilter::default()
    };
    let by_default = match () {
        () if filter.waits() => SortKey::Waiting,
        () if filter.is_closed_unmerged() => SortKey::Closed,
        () if filter.merged_from.or(filter.merged_to).is_some() => SortKey::Merged,
        () => SortKey::Updated,
    };
    filter.order = ListOrder {
        key: query.sort.map_or(by_default, |sort| sort.key(clock)),
        ascending: query.order == Some(SortOrder::Asc),
    };
    Ok(filter)
}

/// Reads the person or team of `waiting_on`.
fn party(on: &str, me: Option<String>) -> Result<PartyName, ApiError> {
    let bad = |message: String| Err(ApiError::BadRequest(message));
    match on.split_once(':') {
        Some(("github_team", slug)) if !slug.is_empty() => Ok(PartyName::Team(slug.to_owned())),
        Some(_) => bad(format!(
            "`waiting_on` is `{}`: expected a login, `me` or `github_team:SLUG`",
            one_line(on, 60)
        )),
        None if on == "me" => match me {
            Some(login) => Ok(PartyName::Login(login)),
            None => bad(
                "`waiting_on` is `me`, and this token has no login: make one with `tallyhook \
                 token create NAME --login LOGIN`"
                    .to_owned(),
            ),
        },
        None => Ok(PartyName::Login(on.to_owned())),
    }
}

/// Refuses an order that has no index over more than some months of merges.
fn check_sorted_range(filter: &PullRequestFilter, now: Timestamp) -> Result<(), ApiError> {
    let is_open = filter.waits() || filter.states[..] == [StateFilter::Open];
    let is_bounded = match filter.order.key {
        SortKey::Updated | SortKey::Merged | SortKey::Closed | SortKey::Waiting => true,
        SortKey::Created => is_open,
        SortKey::Duration(..) => false,
    };
    if is_bounded || is_sorted_range(filter.merged_from, filter.merged_to, now) {
        return Ok(());
    }
    let by_open = match filter.order.key {
        SortKey::Created => "state=open, or ",
        _ => "",
    };
    Err(ApiError::BadRequest(format!(
        "`sort` is `{}`, which sorts every pull request of the range: add {by_open}merged_from, \
         with at most {} days to merged_to or now",
        sort_name(filter.order.key),
        SORTED_RANGE.num_days()
    )))
}

/// Returns whether the merges of a range are few enough to be sorted without an index.
pub(super) fn is_sorted_range(
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let seconds = from.map(|from| to.unwrap_or(now).epoch() - from.epoch());
    seconds.is_some_and(|seconds| seconds <= SORTED_RANGE.num_seconds())
}

fn sort_name(key: SortKey) -> &'static str {
    match key {
        SortKey::Updated => "updated",
        SortKey::Created => "created",
        SortKey::Merged => "merged",
        SortKey::Closed => "closed",
        SortKey::Waiting => "waiting",
        SortKey::Duration(name, _) => name.as_str(),
    }
}

/// Returns the order as cursors have it.
fn order_name(order: ListOrder) -> String {
    let direction = if order.ascending { "asc" } else { "desc" };
    let clock = match order.key {
        SortKey::Duration(_, DurationClock::Business) => " business",
        _ => "",
    };
    format!("{}{clock} {direction}", sort_name(order.key))
}

fn states(text: Option<&str>) -> Result<Vec<StateFilter>, ApiError> {
    let mut states = Vec::new();
    for state in text.unwrap_or("all").split(',').map(str::trim) {
        states.push(match state {
            "open" => StateFilter::Open,
            "closed" => StateFilter::Closed,
            "closed_unmerged" => StateFilter::ClosedUnmerged,
            "merged" => StateFilter::Merged,
            "all" => return Ok(Vec::new()),
            _ => {
                let names = ["open", "closed", "merged", "closed_unmerged", "all"];
                let (state, nearest) = (one_line(state, 60), suggestion(state, names));
                return Err(ApiError::BadRequest(format!(
                    "`state` is `{state}`: expected {}, or several of them with commas{nearest}",
                    enumerated(&names, "or")
                )));
            }
        });
    }
    Ok(states)
}
