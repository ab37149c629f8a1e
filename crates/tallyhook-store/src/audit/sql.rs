//! Statements about administrative acts: they are added, read and, when old, deleted.

use serde_json::Value;
use sqlx::FromRow;

use super::{
    AuditActor, AuditActorKind, AuditEvent, AuditFilter, AuditResult, AuditScope, AuditTarget,
    NewAuditEvent,
};
use crate::columns::{Millis, Name, storable_text, to_json};
use crate::database::{StatementBuilder, Transaction, statement};
use crate::{Moment, Result, Store, TeamId, TokenHash};

/// The most characters of a text of a client.
const MAX_TEXT: usize = 300;

#[derive(FromRow)]
struct AuditRow {
    id: i64,
    at: Millis,
    team_id: Option<i64>,
    team_name: Option<String>,
    actor_kind: Name<AuditActorKind>,
    actor_id: Option<String>,
    actor_name: String,
    action: String,
    target_kind: Option<String>,
    target_id: Option<String>,
    target_name: Option<String>,
    before: Option<String>,
    after: Option<String>,
    ip: Option<String>,
    agent: Option<String>,
    result: Name<AuditResult>,
}

impl From<AuditRow> for AuditEvent {
    fn from(row: AuditRow) -> Self {
        // What is no JSON is shown as the text it is.
        let json = |text: Option<String>| {
            text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)))
        };
        Self {
            id: row.id,
            team_name: row.team_name,
            event: NewAuditEvent {
                at: row.at.0,
                team: row.team_id.map(TeamId),
                actor: AuditActor {
                    kind: row.actor_kind.0,
                    id: row.actor_id,
                    name: row.actor_name,
                },
                action: row.action,
                target: AuditTarget {
                    kind: row.target_kind,
                    id: row.target_id,
                    name: row.target_name,
                },
                before: json(row.before),
                after: json(row.after),
                ip: row.ip,
                agent: row.agent,
                result: row.result.0,
            },
        }
    }
}

/// A text of a client, which may be as long as it likes.
pub(super) fn short(text: &str) -> String {
    storable_text(&text.chars().take(MAX_TEXT).collect::<String>())
}

/// Writes an act in the transaction of the act.
pub(crate) async fn insert_event(
    transaction: &mut Transaction<'_>,
    event: &NewAuditEvent,
) -> Result<()> {
    let json = |value: &Option<Value>| value.as_ref().map(to_json).transpose();
    let text = |text: &Option<String>| text.as_deref().map(short);
    let insert = statement(
        "INSERT INTO audit_events (at, team_id, actor_kind, actor_id, actor_name, action, \
         target_kind, target_id, target_name, before, after, ip, agent, result) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(Millis(event.at))
    .bind(event.team.map(|TeamId(id)| id))
    .bind(event.actor.kind.as_str())
    .bind(text(&event.actor.id))
    .bind(short(&event.actor.name))
    .bind(short(&event.action))
    .bind(text(&event.target.kind))
    .bind(text(&event.target.id))
    .bind(text(&event.target.name))
    .bind(json(&event.before)?.map(|json| storable_text(&json)))
    .bind(json(&event.after)?.map(|json| storable_text(&json)))
    .bind(text(&event.ip))
    .bind(text(&event.agent))
    .bind(event.result.as_str());
    transaction.execute(insert).await.map(|_| ())
}

impl Store {
    /// Writes an act that has no transaction of its own.
    pub async fn add_audit_event(&self, event: &NewAuditEvent) -> Result<()> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        insert_event(&mut transaction, event).await?;
        transaction.commit().await
    }

    /// Returns the name of the token with this digest, whether or not it is in force.
    pub async fn token_name(&self, hash: &TokenHash) -> Result<Option<String>> {
        let query = statement("SELECT name FROM api_tokens WHERE sha256 = $1");
        let row: Option<(String,)> = self.database.row(query.bind(hash.as_slice())).await?;
        Ok(row.map(|(name,)| name))
    }

    /// Returns acts before the id `before`, at most `limit`, the newest first.
    pub async fn audit_events(
        &self,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditEvent>> {
        let mut query = StatementBuilder::new(
            "SELECT event.id, event.at, event.team_id, team.name AS team_name, \
             event.actor_kind, event.actor_id, event.actor_name, event.action, \
             event.target_kind, event.target_id, event.target_name, event.before, event.after, \
             event.ip, event.agent, event.result \
             FROM audit_events AS event LEFT JOIN teams AS team ON team.id = event.team_id \
             WHERE event.id < ",
        );
        query.push_bind(before.unwrap_or(i64::MAX));
        push_filter(&mut query, filter);
        query.push(" ORDER BY event.id DESC LIMIT ");
        query.push_bind(i64::from(limit));
        let rows: Vec<AuditRow> = self.database.rows(query.build()).await?;
        Ok(rows.into_iter().map(AuditEvent::from).collect())
    }

    /// Counts acts.
    pub async fn count_audit_events(&self, filter: &AuditFilter) -> Result<u64> {
        let mut query =
            StatementBuilder::new("SELECT count(*) FROM audit_events AS event WHERE event.id > 0");
        push_filter(&mut query, filter);
        let row: Option<(i64,)> = self.database.row(query.build()).await?;
        Ok(row.map_or(0, |(count,)| count.unsigned_abs()))
    }

    /// Deletes acts of before `before`, at most `limit`. Returns their number.
    pub async fn purge_audit_events(&self, before: Moment, limit: u32) -> Result<u64> {
        let delete = statement(
            "DELETE FROM audit_events WHERE id IN \
             (SELECT id FROM audit_events WHERE at < $1 ORDER BY at LIMIT $2)",
        )
        .bind(Millis(before))
        .bind(i64::from(limit));
        self.database.execute(delete).await
    }
}

fn push_filter(query: &mut StatementBuilder<'_>, filter: &AuditFilter) {
    let AuditFilter {
        scope,
        from,
        to,
        actor,
        action,
    } = filter;
    if let AuditScope::Team(TeamId(team)) = scope {
        query.push(" AND event.team_id = ").push_bind(*team);
    }
    if let Some(from) = from {
        query.push(" AND event.at >= ").push_bind(Millis(*from));
    }
    if let Some(to) = to {
        query.push(" AND event.at < ").push_bind(Millis(*to));
    }
    if let Some(actor) = actor {
        let actor = storable_text(actor);
        query.push(" AND (event.actor_name = ");
        query.push_bind(actor.clone());
        query.push(" OR event.actor_id = ");
        query.push_bind(actor).push(")");
    }
    if let Some(action) = action {
        let action = storable_text(action);
        let first = format!("{action}.");
        query.push(" AND (event.action = ");
        query.push_bind(action);
        query.push(" OR substr(event.action, 1, ");
        query.push_bind(i64::try_from(first.chars().count()).unwrap_or(i64::MAX));
        query.push(") = ").push_bind(first).push(")");
    }
}
