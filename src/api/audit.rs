//! The record of administrative acts, and that of requests to GitHub.

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, get, web};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tallyhook_store::{
    AuditActorKind, AuditEvent, AuditFilter, AuditResult, AuditScope, CallFilter, CallOutcome,
    GithubCallRow, Moment, Store, StoreError,
};
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::csv_list::{CSV, CsvList};
use super::error::{ApiError, ApiErrorBody};
use super::input::{QueryInput, parse_query};
use super::page::{self, ListCount, Page, PageSize};
use super::{AccessRole, ApiState, JSON_LINES, rfc3339};
use crate::times::TimePoint;

/// The rows that an export reads at once.
const PORTION: u32 = 500;

/// The form of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordFormat {
    /// A page of a list.
    #[default]
    Json,
    /// All rows, one JSON object a line.
    Ndjson,
    /// All rows, with a line of names.
    Csv,
}

/// The rows of a record.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RecordQuery {
    /// At or after: RFC 3339, a date (midnight UTC), or a span before now.
    #[param(value_type = Option<String>, example = "30d")]
    from: Option<TimePoint>,
    /// Before, in the same forms.
    #[param(value_type = Option<String>, example = "2026-03-31")]
    to: Option<TimePoint>,
    /// The name of the one who acted, or its login.
    actor: Option<String>,
    /// Of acts: the action, or its first part, such as `token`. Of requests: the method, the route,
    /// the outcome or the correlation.
    action: Option<String>,
    /// `ndjson` and `csv` answer with all rows, and are acts themselves.
    format: Option<RecordFormat>,
    /// With true the answer has `count`.
    count: Option<bool>,
    /// The number of items, 30 if it is left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 30)]
    per_page: Option<PageSize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// The one who acted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditActorItem {
    pub kind: AuditActorKind,
    pub id: Option<String>,
    /// As it was at the time.
    pub name: String,
}

/// The thing that an act is about.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditTargetItem {
    #[schema(example = "token")]
    pub kind: Option<String>,
    pub id: Option<String>,
    pub name: Option<String>,
}

/// An administrative act.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditItem {
    pub id: i64,
    #[schema(format = "date-time")]
    pub at: String,
    /// Null is the installation itself.
    pub team: Option<String>,
    pub actor: AuditActorItem,
    #[schema(example = "token.created")]
    pub action: String,
    pub target: AuditTargetItem,
    /// Without secrets; null where there is nothing to say.
    #[schema(value_type = Option<Object>)]
    pub before: Option<Value>,
    /// Without secrets; null where there is nothing to say.
    #[schema(value_type = Option<Object>)]
    pub after: Option<Value>,
    /// The network of its address: 24 bits of IPv4, 48 of IPv6.
    #[schema(example = "192.0.2.0/24")]
    pub ip: Option<String>,
    pub agent: Option<String>,
    pub result: AuditResult,
}

impl From<AuditEvent> for AuditItem {
    fn from(row: AuditEvent) -> Self {
        let event = row.event;
        Self {
            id: row.id,
            at: rfc3339(event.at),
            team: row.team_name,
            actor: AuditActorItem {
                kind: event.actor.kind,
                id: event.actor.id,
                name: event.actor.name,
            },
            action: event.action,
            target: AuditTargetItem {
                kind: event.target.kind,
                id: event.target.id,
                name: event.target.name,
            },
            before: event.before,
            after: event.after,
            ip: event.ip,
            agent: event.agent,
            result: event.result,
        }
    }
}

/// A request to GitHub.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct GithubCallItem {
    pub id: i64,
    #[schema(format = "date-time")]
    pub at: String,
    /// Null is the installation itself.
    pub team: Option<String>,
    #[schema(example = "system:poller")]
    pub actor: String,
    /// The connection whose token was sent; null is the one of the settings.
    pub connection: Option<String>,
    #[schema(example = "GET")]
    pub method: String,
    #[schema(example = "/repos/{owner}/{repo}/pulls")]
    pub route: String,
    /// Without values of the query but those of pages.
    pub path: String,
    #[schema(example = "rest")]
    pub kind: String,
    /// True if it may have changed something at GitHub.
    pub mutation: bool,
    pub outcome: CallOutcome,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub duration_ms: Option<u64>,
    /// 1 is the first.
    pub attempt: u32,
    pub bytes_out: u64,
    pub rate_remaining: Option<u64>,
    /// GitHub's id of the request.
    pub request_id: Option<String>,
    /// The run, delivery or act that it was part of.
    #[schema(example = "sync:12")]
    pub correlation: Option<String>,
}

impl From<GithubCallRow> for GithubCallItem {
    fn from(row: GithubCallRow) -> Self {
        let GithubCallRow {
            id,
            call,
            end,
            team_name,
        } = row;
        Self {
            id,
            at: rfc3339(call.at),
            team: team_name,
            actor: call.actor,
            connection: call.connection,
            method: call.method,
            route: call.route,
            path: call.path,
            kind: call.kind,
            mutation: call.is_mutation,
            outcome: end.outcome,
            status: end.status,
            error: end.error,
            duration_ms: end.duration_ms,
            attempt: call.attempt,
            bytes_out: call.bytes_out,
            rate_remaining: end.rate_remaining,
            request_id: end.request_id,
            correlation: call.correlation,
        }
    }
}

/// One of the two records, with the rows that are asked for.
#[derive(Clone, Debug)]
pub(crate) enum RecordFilter {
    Acts(AuditFilter),
    Calls(CallFilter),
}

/// A row of either record.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum RecordRow {
    Act(AuditItem),
    Call(GithubCallItem),
}

impl RecordRow {
    fn id(&self) -> i64 {
        match self {
            Self::Act(item) => item.id,
            Self::Call(item) => item.id,
        }
    }
}

impl RecordFilter {
    /// Returns the acts of every team.
    pub(crate) fn all_acts(
        (from, to): (Option<TimePoint>, Option<TimePoint>),
        actor: Option<String>,
        action: Option<String>,
    ) -> Self {
        Self::Acts(AuditFilter {
            scope: AuditScope::All,
            from: from.map(moment),
            to: to.map(moment),
            actor,
            action,
        })
    }

    /// Returns the requests of every team.
    pub(crate) fn all_calls(
        (from, to): (Option<TimePoint>, Option<TimePoint>),
        actor: Option<String>,
        action: Option<String>,
    ) -> Self {
        Self::Calls(CallFilter {
            scope: AuditScope::All,
            from: from.map(moment),
            to: to.map(moment),
            actor,
            action,
        })
    }

    /// Returns the path of the call whose list has these rows.
    pub(crate) fn call(&self) -> &'static str {
        match self {
            Self::Acts(_) => "/api/audit",
            Self::Calls(_) => "/api/github/calls",
        }
    }

    /// Returns rows before an id, at most `limit`, the newest first.
    async fn rows(
        &self,
        store: &Store,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<RecordRow>, StoreError> {
        match self {
            Self::Acts(filter) => {
                let rows = store.audit_events(filter, before, limit).await?;
                let rows = rows.into_iter().map(AuditItem::from);
                Ok(rows.map(RecordRow::Act).collect())
            }
            Self::Calls(filter) => {
                let rows = store.github_calls(filter, before, limit).await?;
                let rows = rows.into_iter().map(GithubCallItem::from);
                Ok(rows.map(RecordRow::Call).collect())
            }
        }
    }

    /// Returns all rows as text in portions, the newest first.
    pub(crate) fn export(
        self,
        store: Store,
        format: RecordFormat,
    ) -> impl Stream<Item = Result<Bytes, StoreError>> + use<> {
        let columns = CsvList::columns_of_call(self.call());
        // The first portion is there even if there is no row, for the line of names.
        let start = Some((None, true));
        stream::try_unfold((self, store, start), move |(filter, store, place)| {
            let columns = columns.clone();
            async move {
                let Some((before, is_first)) = place else {
                    return Ok(None);
                };
                let rows = filter.rows(&store, before, PORTION).await?;
                let last = rows.last().map(RecordRow::id);
                let next = last.filter(|_| rows.len() == PORTION as usize);
                let text = match format {
                    RecordFormat::Csv => csv(columns, is_first, &rows),
                    RecordFormat::Json | RecordFormat::Ndjson => lines(&rows),
                };
                let next = next.map(|last| (Some(last), false));
                Ok(Some((Bytes::from(text), (filter, store, next))))
            }
        })
    }
}

fn csv(columns: Vec<String>, is_first: bool, rows: &[RecordRow]) -> Vec<u8> {
    let mut list = match is_first {
        true => CsvList::new(columns),
        false => CsvList::without_names(columns),
    };
    rows.iter().for_each(|row| list.push(row));
    list.into_text()
}

fn lines(rows: &[RecordRow]) -> Vec<u8> {
    let mut text = Vec::new();
    for row in rows {
        // A row always has a JSON form.
        text.extend(serde_json::to_vec(row).unwrap_or_default());
        text.push(b'\n');
    }
    text
}

fn moment(TimePoint(at): TimePoint) -> Moment {
    at.to_utc()
}

/// The rows that a caller may see: those of its team, or all for an operator.
fn scope(caller: &Caller) -> AuditScope {
    match caller.may(AccessRole::Operator) {
        true => AuditScope::All,
        false => AuditScope::Team(caller.team),
    }
}

impl RecordQuery {
    /// Reads the parameters of a page, which counts.
    ///
    /// # Errors
    /// If one of them is none that the call takes.
    pub(crate) fn of_page<'a>(
        given: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ApiError> {
        let mut text = form_urlencoded::Serializer::new(String::new());
        for (name, value) in given.chain([("count", "true"), ("per_page", "50")]) {
            text.append_pair(name, value);
        }
        parse_query(&text.finish())
    }

    /// Returns the acts that a caller may see.
    pub(crate) fn acts_of(&self, caller: &Caller) -> RecordFilter {
        RecordFilter::Acts(self.acts(scope(caller)))
    }

    /// Returns the requests that a caller may see.
    pub(crate) fn calls_of(&self, caller: &Caller) -> RecordFilter {
        RecordFilter::Calls(self.calls(scope(caller)))
    }

    fn acts(&self, scope: AuditScope) -> AuditFilter {
        AuditFilter {
            scope,
            from: self.from.map(moment),
            to: self.to.map(moment),
            actor: self.actor.clone(),
            action: self.action.clone(),
        }
    }

    fn calls(&self, scope: AuditScope) -> CallFilter {
        CallFilter {
            scope,
            from: self.from.map(moment),
            to: self.to.map(moment),
            actor: self.actor.clone(),
            action: self.action.clone(),
        }
    }
}

impl ApiState {
    /// Answers as `GET /api/audit` with the format `json`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn audit(
        &self,
        caller: &Caller,
        query: &RecordQuery,
    ) -> Result<Page<AuditItem>, ApiError> {
        let filter = query.acts(scope(caller));
        let before: Option<i64> = page::decode(query.cursor.as_deref())?;
        let size = query.per_page.unwrap_or_default();
        let n = match query.count {
            Some(true) => Some(self.store.count_audit_events(&filter).await?),
            _ => None,
        };
        let rows = self.store.audit_events(&filter, before, size.rows());
        Ok(Page {
            count: n.map(|n| ListCount { n, exact: true }),
            ..page::page(rows.await?, size, |row| row.id, AuditItem::from)
        })
    }

    /// Answers as `GET /api/github/calls` with the format `json`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn github_calls(
        &self,
        caller: &Caller,
        query: &RecordQuery,
    ) -> Result<Page<GithubCallItem>, ApiError> {
        let filter = query.calls(scope(caller));
        let before: Option<i64> = page::decode(query.cursor.as_deref())?;
        let size = query.per_page.unwrap_or_default();
        let n = match query.count {
            Some(true) => Some(self.store.count_github_calls(&filter).await?),
            _ => None,
        };
        let rows = self.store.github_calls(&filter, before, size.rows());
        Ok(Page {
            count: n.map(|n| ListCount { n, exact: true }),
            ..page::page(rows.await?, size, |row| row.id, GithubCallItem::from)
        })
    }

    /// Answers with all rows of a record, which is an act itself.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn export_record(
        &self,
        request: &HttpRequest,
        caller: &Caller,
        filter: RecordFilter,
        format: RecordFormat,
    ) -> Result<HttpResponse, ApiError> {
        super::acts::note(self, request, caller, ("audit.exported", filter.call())).await?;
        let content_type = match format {
            RecordFormat::Csv => CSV,
            RecordFormat::Json | RecordFormat::Ndjson => JSON_LINES,
        };
        let rows = filter.export(self.store.clone(), format);
        let rows = Box::pin(rows);
        Ok(HttpResponse::Ok()
            .content_type(content_type)
            .streaming(rows))
    }
}

/// The administrative acts of the team, the newest first; an operator sees those of all teams and of
/// the installation.
#[utoipa::path(
    tag = "audit", operation_id = "list_audit_events", security(("token" = [])),
    params(RecordQuery),
    responses(
        (status = 200, body = Page<AuditItem>,
            description = "with `format=json`; with `ndjson` all rows as `application/x-ndjson`, \
                           with `csv` as `text/csv`"),
        (status = 400, body = ApiErrorBody),
    )
)]
#[get("/audit")]
pub(super) async fn acts(
    api: web::Data<ApiState>,
    request: HttpRequest,
    caller: web::ReqData<Caller>,
    QueryInput(query): QueryInput<RecordQuery>,
) -> Result<HttpResponse, ApiError> {
    match query.format.unwrap_or_default() {
        RecordFormat::Json => Ok(HttpResponse::Ok().json(api.audit(&caller, &query).await?)),
        format => {
            let filter = query.acts_of(&caller);
            api.export_record(&request, &caller, filter, format).await
        }
    }
}

/// The requests to GitHub for the team, the newest first; an operator sees those of all teams and of
/// the installation.
#[utoipa::path(
    tag = "audit", operation_id = "list_github_calls", security(("token" = [])),
    params(RecordQuery),
    responses(
        (status = 200, body = Page<GithubCallItem>,
            description = "with `format=json`; with `ndjson` all rows as `application/x-ndjson`, \
                           with `csv` as `text/csv`"),
        (status = 400, body = ApiErrorBody),
    )
)]
#[get("/github/calls")]
pub(super) async fn calls(
    api: web::Data<ApiState>,
    request: HttpRequest,
    caller: web::ReqData<Caller>,
    QueryInput(query): QueryInput<RecordQuery>,
) -> Result<HttpResponse, ApiError> {
    match query.format.unwrap_or_default() {
        RecordFormat::Json => {
            let answer = api.github_calls(&caller, &query).await?;
            Ok(HttpResponse::Ok().json(answer))
        }
        format => {
            let filter = query.calls_of(&caller);
            api.export_record(&request, &caller, filter, format).await
        }
    }
}
