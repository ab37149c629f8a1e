//! Requests to GitHub.

use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use super::AuditScope;
use super::sql::short;
use crate::columns::{Millis, Name, storable_text, whole};
use crate::database::{Statement, StatementBuilder, statement};
use crate::{Moment, Result, Store, TeamId};

/// The end of a request, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// GitHub answered, with whatever status.
    Done,
    /// No answer.
    Failed,
    /// A mutation that was sent, or was about to be, and has no answer.
    Unknown,
}

impl CallOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCall {
    pub at: Moment,
    /// `None` is the installation itself.
    pub team: Option<TeamId>,
    /// As in `system:poller` or `user:octocat`.
    pub actor: String,
    pub connection: Option<String>,
    pub method: String,
    pub route: String,
    pub path: String,
    pub kind: String,
    pub is_mutation: bool,
    pub attempt: u32,
    pub bytes_out: u64,
    /// The run, delivery or act that it is part of.
    pub correlation: Option<String>,
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEnd {
    pub outcome: CallOutcome,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub duration_ms: Option<u64>,
    pub rate_remaining: Option<u64>,
    pub request_id: Option<String>,
}

impl CallEnd {
    /// The end of a mutation that has none yet.
    pub const UNKNOWN: Self = Self {
        outcome: CallOutcome::Unknown,
        status: None,
        error: None,
        duration_ms: None,
        rate_remaining: None,
        request_id: None,
    };
}

/// A request on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GithubCallRow {
    pub id: i64,
    pub call: NewCall,
    pub end: CallEnd,
    /// The name of the team now.
    pub team_name: Option<String>,
}

/// The requests that a list has. Each condition that is left out holds.
#[derive(Clone, Debug)]
pub struct CallFilter {
    pub scope: AuditScope,
    /// The first time.
    pub from: Option<Moment>,
    /// The time after the last.
    pub to: Option<Moment>,
    pub actor: Option<String>,
    /// A method, route, outcome or correlation.
    pub action: Option<String>,
}

#[derive(FromRow)]
struct CallRow {
    id: i64,
    at: Millis,
    team_id: Option<i64>,
    team_name: Option<String>,
    actor: String,
    connection_id: Option<String>,
    method: String,
    route: String,
    path: String,
    kind: String,
    mutation: bool,
    outcome: Name<CallOutcome>,
    status: Option<i64>,
    error: Option<String>,
    duration_ms: Option<i64>,
    attempt: i64,
    bytes_out: i64,
    rate_remaining: Option<i64>,
    request_id: Option<String>,
    correlation: Option<String>,
}

impl From<CallRow> for GithubCallRow {
    fn from(row: CallRow) -> Self {
        Self {
            id: row.id,
            team_name: row.team_name,
            call: NewCall {
                at: row.at.0,
                team: row.team_id.map(TeamId),
                actor: row.actor,
                connection: row.connection_id,
                method: row.method,
                route: row.route,
                path: row.path,
                kind: row.kind,
                is_mutation: row.mutation,
                attempt: u32::try_from(row.attempt).unwrap_or(u32::MAX),
                bytes_out: row.bytes_out.unsigned_abs(),
                correlation: row.correlation,
            },
            end: CallEnd {
                outcome: row.outcome.0,
                status: row.status.and_then(|status| u16::try_from(status).ok()),
                error: row.error,
                duration_ms: row.duration_ms.map(i64::unsigned_abs),
                rate_remaining: row.rate_remaining.map(i64::unsigned_abs),
                request_id: row.request_id,
            },
        }
    }
}

impl Store {
    /// Writes a request that is about to be sent. Returns the id of its row.
    pub async fn begin_call(&self, call: &NewCall) -> Result<i64> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let row: Option<(i64,)> = transaction.row(insert(call, &CallEnd::UNKNOWN)).await?;
        transaction.commit().await?;
        let (id,) = row.ok_or(sqlx::Error::RowNotFound)?;
        Ok(id)
    }

    /// Writes requests that have ended, and completes the rows of those that were begun, by id, in
    /// one transaction.
    pub async fn record_calls(
        &self,
        new: &[(NewCall, CallEnd)],
        begun: &[(i64, CallEnd)],
    ) -> Result<()> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        for (call, end) in new {
            let _: Vec<(i64,)> = transaction.rows(insert(call, end)).await?;
        }
        for (id, end) in begun {
            let update = statement(
                "UPDATE github_calls SET outcome = $2, status = $3, error = $4, \
                 duration_ms = $5, rate_remaining = $6, request_id = $7 WHERE id = $1",
            );
            transaction.execute(bind_end(update.bind(*id), end)).await?;
        }
        transaction.commit().await
    }

    /// Returns requests before the id `before`, at most `limit`, the newest first.
    pub async fn github_calls(
        &self,
        filter: &CallFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<GithubCallRow>> {
        let mut query = StatementBuilder::new(
            "SELECT call.id, call.at, call.team_id, team.name AS team_name, call.actor, \
             call.connection_id, call.method, call.route, call.path, call.kind, call.mutation, \
             call.outcome, call.status, call.error, call.duration_ms, call.attempt, \
             call.bytes_out, call.rate_remaining, call.request_id, call.correlation \
             FROM github_calls AS call LEFT JOIN teams AS team ON team.id = call.team_id \
             WHERE call.id < ",
        );
        query.push_bind(before.unwrap_or(i64::MAX));
        push_filter(&mut query, filter);
        query.push(" ORDER BY call.id DESC LIMIT ");
        query.push_bind(i64::from(limit));
        let rows: Vec<CallRow> = self.database.rows(query.build()).await?;
        Ok(rows.into_iter().map(GithubCallRow::from).collect())
    }

    /// Counts requests.
    pub async fn count_github_calls(&self, filter: &CallFilter) -> Result<u64> {
        let mut query =
            StatementBuilder::new("SELECT count(*) FROM github_calls AS call WHERE call.id > 0");
        push_filter(&mut query, filter);
        let row: Option<(i64,)> = self.database.row(query.build()).await?;
        Ok(row.map_or(0, |(count,)| count.unsigned_abs()))
    }

    /// Deletes requests that only read of before `reads`, and others of before `mutations`, at most
    /// `limit`. Returns their number.
    pub async fn purge_calls(&self, reads: Moment, mutations: Moment, limit: u32) -> Result<u64> {
        let delete = statement(
            "DELETE FROM github_calls WHERE id IN (SELECT id FROM github_calls \
             WHERE at < $4 AND (mutation = $5 AND at < $1 OR mutation <> $5 AND at < $2) \
             ORDER BY at LIMIT $3)",
        )
        .bind(Millis(reads))
        .bind(Millis(mutations))
        .bind(i64::from(limit))
        .bind(Millis(reads.max(mutations)))
        .bind(false);
        self.database.execute(delete).await
    }
}

fn insert(call: &NewCall, end: &CallEnd) -> Statement<'static> {
    let insert = statement(
        "INSERT INTO github_calls (outcome, status, error, duration_ms, rate_remaining, \
         request_id, at, team_id, actor, connection_id, method, route, path, kind, mutation, \
         attempt, bytes_out, correlation) VALUES ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
         $13, $14, $15, $16, $1, $17, $18) RETURNING id",
    )
    .bind(i64::from(call.attempt));
    bind_end(insert, end)
        .bind(Millis(call.at))
        .bind(call.team.map(|TeamId(id)| id))
        .bind(short(&call.actor))
        .bind(call.connection.clone())
        .bind(short(&call.method))
        .bind(short(&call.route))
        .bind(short(&call.path))
        .bind(short(&call.kind))
        .bind(call.is_mutation)
        .bind(whole(call.bytes_out))
        .bind(call.correlation.as_deref().map(short))
}

/// Binds the end of a request as `$2` to `$7`.
fn bind_end(statement: Statement<'static>, end: &CallEnd) -> Statement<'static> {
    statement
        .bind(end.outcome.as_str())
        .bind(end.status.map(i64::from))
        .bind(end.error.as_deref().map(short))
        .bind(end.duration_ms.map(whole))
        .bind(end.rate_remaining.map(whole))
        .bind(end.request_id.as_deref().map(short))
}

fn push_filter(query: &mut StatementBuilder<'_>, filter: &CallFilter) {
    let CallFilter {
        scope,
        from,
        to,
        actor,
        action,
    } = filter;
    if let AuditScope::Team(TeamId(team)) = scope {
        query.push(" AND call.team_id = ").push_bind(*team);
    }
    if let Some(from) = from {
        query.push(" AND call.at >= ").push_bind(Millis(*from));
    }
    if let Some(to) = to {
        query.push(" AND call.at < ").push_bind(Millis(*to));
    }
    if let Some(actor) = actor {
        query
            .push(" AND call.actor = ")
            .push_bind(storable_text(actor));
    }
    if let Some(action) = action {
        let action = storable_text(action);
        for (place, column) in ["method", "route", "outcome", "correlation"]
            .iter()
            .enumerate()
        {
            query.push(if place == 0 {
                " AND (call."
            } else {
                " OR call."
            });
            query.push(column).push(" = ").push_bind(action.clone());
        }
        query.push(")");
    }
}
