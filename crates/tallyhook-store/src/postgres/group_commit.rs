//! Accepted deliveries in PostgreSQL: each group is one statement, which is a transaction by
//! itself.

use std::collections::{BTreeMap, HashMap};
use std::ptr;
use std::sync::Arc;

use super::connections::{Connections, PooledSession};
use crate::columns::{storable_text, whole};
use crate::deliveries::CommitTarget;
use crate::{AcceptOutcome, DeliveryId, DeliveryState, NewDelivery, NewState, Result};

/// Stored bodies of one statement, unless one alone is larger: the statement holds copies of all of
/// them.
const STATEMENT_BYTES: usize = 4 * 1024 * 1024;

type DeliveryKey<'a> = (&'a str, [u8; 32]);

/// The pool, of which a group takes a connection.
pub(crate) struct PoolTarget(pub(crate) Arc<Connections>);

impl CommitTarget for PoolTarget {
    type Slot = PooledSession;

    async fn slot(&self) -> Result<PooledSession> {
        self.0.session().await
    }

    async fn store(
        &self,
        mut session: PooledSession,
        group: &[NewDelivery],
    ) -> Result<Vec<AcceptOutcome>> {
        // By key, once each: all processes lock keys in this order, and of two that are the same
        // one is new, the first that was decoded.
        let mut by_key: BTreeMap<DeliveryKey<'_>, &NewDelivery> = BTreeMap::new();
        for new in group {
            let chosen = by_key.entry(key(new)).or_insert(new);
            if precedence(new) < precedence(chosen) {
                *chosen = new;
            }
        }
        let deliveries: Vec<_> = by_key.values().copied().collect();
        let mut stored = HashMap::with_capacity(deliveries.len());
        tallyhook_core::crash_point::reached("accept.before_commit");
        for part in parts(&deliveries) {
            let rows = session.fetch_all(insert(part)).await?;
            tallyhook_core::crash_point::reached("accept.committed");
            stored.extend(
                rows.into_iter()
                    .map(|row| answer(row, AcceptOutcome::Stored)),
            );
        }
        let known: Vec<_> = deliveries
            .into_iter()
            .filter(|new| !matches!(new.state, NewState::Misnamed { .. }))
            .filter(|new| !stored.contains_key(&owned(key(new))))
            .collect();
        for part in parts(&known) {
            let rows = session.fetch_all(requeue(part)).await?;
            stored.extend(
                rows.into_iter()
                    .map(|row| answer(row, AcceptOutcome::Requeued)),
            );
        }
        session.keep();
        // The chosen delivery of a key takes the outcome of the row, a repetition within the group
        // is a duplicate.
        Ok(group
            .iter()
            .map(|new| {
                let is_chosen = by_key
                    .get(&key(new))
                    .is_some_and(|chosen| ptr::eq(*chosen, new));
                let outcome = is_chosen.then(|| stored.remove(&owned(key(new)))).flatten();
                outcome.unwrap_or(AcceptOutcome::Duplicate)
            })
            .collect())
    }
}

/// Returns the rank of a delivery among those of its key in a group, the lowest first: a wrong name
/// must not take the place of the genuine one.
fn precedence(new: &NewDelivery) -> u8 {
    match new.state {
        NewState::Pending { .. } | NewState::Ignored { .. } => 0,
        NewState::Dead { .. } => 1,
        NewState::Misnamed { .. } => 2,
    }
}

fn key(new: &NewDelivery) -> DeliveryKey<'_> {
    (&new.guid, new.body_sha256)
}

fn owned((guid, sha256): DeliveryKey<'_>) -> (String, Vec<u8>) {
    (storable_text(guid), sha256.to_vec())
}

/// Id and key of a row.
type Written = (i64, String, Vec<u8>);

fn answer(
    (id, guid, sha256): Written,
    answer: fn(DeliveryId) -> AcceptOutcome,
) -> ((String, Vec<u8>), AcceptOutcome) {
    ((guid, sha256), answer(DeliveryId(id)))
}

/// Cuts deliveries where their bodies get too large for one statement.
fn parts<'a, 'b>(mut rest: &'a [&'b NewDelivery]) -> impl Iterator<Item = &'a [&'b NewDelivery]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fit = rest.iter().take_while(|new| {
            bytes += new.body.stored_bytes();
            bytes <= STATEMENT_BYTES
        });
        let (part, others) = rest.split_at(fit.count().max(1).min(rest.len()));
        rest = others;
        (!part.is_empty()).then_some(part)
    })
}

type InsertQuery<'q> =
    sqlx::query::QueryAs<'q, sqlx_postgres::Postgres, Written, sqlx_postgres::PgArguments>;

/// Returns one column of the rows of a statement.
fn column<'q, T>(part: &[&'q NewDelivery], of: impl Fn(&'q NewDelivery) -> T) -> Vec<T> {
    part.iter().map(|new| of(new)).collect()
}

/// Inserts those that are not there yet, with their bodies, and returns their ids.
fn insert<'q>(part: &[&'q NewDelivery]) -> InsertQuery<'q> {
    let state = |new: &NewDelivery| match &new.state {
        NewState::Pending { .. } => (DeliveryState::Accepted, None),
        NewState::Ignored { reason } => (DeliveryState::Ignored, Some(storable_text(reason))),
        NewState::Dead { reason } | NewState::Misnamed { reason } => {
            (DeliveryState::Dead, Some(storable_text(reason)))
        }
    };
    let next_attempt = |new: &NewDelivery| match new.state {
        NewState::Pending { due } => due,
        _ => new.received_at,
    };
    sqlx::query_as(
        "WITH inserted AS (\
             INSERT INTO deliveries (guid, body_sha256, event, action, repo_id, repo_name, \
             pr_number, source, lane, \
             state, reason, received_at, next_attempt_at, finished_at, body_bytes) \
             SELECT guid, body_sha256, event, action, repo_id, repo_name, pr_number, source, \
             lane, state, reason, received_at, next_attempt_at, \
             CASE WHEN state <> 'accepted' THEN received_at END, body_bytes \
             FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::bigint[], \
             $6::text[], $7::bigint[], \
             $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[], \
             $13::timestamptz[], $14::bigint[]) \
             AS new (guid, body_sha256, event, action, repo_id, repo_name, pr_number, source, \
             lane, state, reason, \
             received_at, next_attempt_at, body_bytes) \
             ON CONFLICT (guid, body_sha256) DO NOTHING RETURNING id, guid, body_sha256), \
         bodies AS (\
             INSERT INTO delivery_bodies (delivery_id, body) SELECT id, body FROM inserted \
             JOIN unnest($1::text[], $2::bytea[], $15::bytea[]) AS new (guid, body_sha256, body) \
             USING (guid, body_sha256)) \
         SELECT id, guid, body_sha256 FROM inserted",
    )
    .bind(column(part, |new| storable_text(&new.guid)))
    .bind(column(part, |new| new.body_sha256.to_vec()))
    .bind(column(part, |new| storable_text(&new.event)))
    .bind(column(part, |new| new.action.as_deref().map(storable_text)))
    .bind(column(part, |new| new.repo.as_ref().map(|(id, _)| id.0)))
    .bind(column(part, |new| {
        new.repo.as_ref().map(|(_, name)| storable_text(name))
    }))
    .bind(column(part, |new| new.pr_number.map(|number| number.0)))
    .bind(column(part, |new| new.source.as_str()))
    .bind(column(part, |new| new.lane.as_str()))
    .bind(column(part, |new| state(new).0.as_str()))
    .bind(column(part, |new| state(new).1))
    .bind(column(part, |new| new.received_at))
    .bind(column(part, next_attempt))
    .bind(column(part, |new| whole(new.body.bytes)))
    .bind(column(part, |new| new.body.compressed.as_slice()))
}

/// Requeues dead letters that GitHub redelivers, and rows under the name of another event, with the
/// attributes of the redelivery. Any other repetition changes nothing.
fn requeue<'q>(part: &[&'q NewDelivery]) -> InsertQuery<'q> {
    sqlx::query_as(
        "WITH found AS (\
             SELECT d.id, new.* FROM deliveries d \
             JOIN unnest($1::text[], $2::bytea[], $3::timestamptz[], $4::text[], $5::text[], \
             $6::bigint[], $7::text[], $8::bigint[], $9::bytea[]) \
             AS new (new_guid, new_sha256, received_at, event, action, repo_id, repo_name, \
             pr_number, body) \
             ON new.new_guid = d.guid AND new.new_sha256 = d.body_sha256 \
             WHERE d.state = 'dead' OR d.event <> new.event ORDER BY d.id FOR UPDATE OF d), \
         bodies AS (\
             INSERT INTO delivery_bodies (delivery_id, body) SELECT id, body FROM found \
             ON CONFLICT (delivery_id) DO NOTHING) \
         UPDATE deliveries d SET state = 'accepted', reason = NULL, attempts = 0, \
         dead_copied = false, \
         next_attempt_at = found.received_at, leased_until = NULL, finished_at = NULL, \
         event = found.event, action = found.action, repo_id = found.repo_id, \
         repo_name = found.repo_name, pr_number = found.pr_number \
         FROM found WHERE d.id = found.id RETURNING d.id, d.guid, d.body_sha256",
    )
    .bind(column(part, |new| storable_text(&new.guid)))
    .bind(column(part, |new| new.body_sha256.to_vec()))
    .bind(column(part, |new| new.received_at))
    .bind(column(part, |new| storable_text(&new.event)))
    .bind(column(part, |new| new.action.as_deref().map(storable_text)))
    .bind(column(part, |new| new.repo.as_ref().map(|(id, _)| id.0)))
    .bind(column(part, |new| {
        new.repo.as_ref().map(|(_, name)| storable_text(name))
    }))
    .bind(column(part, |new| new.pr_number.map(|number| number.0)))
    .bind(column(part, |new| new.body.compressed.as_slice()))
}
