//! The list of deliveries: its filters, its order, and a bound for those that no index has.

use chrono::TimeDelta;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::github::types::PrNumber;

use super::row::{COLUMNS, DeliveryRow};
use super::{Delivery, DeliveryState};
use crate::columns::{Millis, storable_text};
use crate::database::{Database, Statement, StatementBuilder, statement};
use crate::{DeliveryId, Moment, Result, Store};

/// The deliveries that a condition without an index may look at before a page ends: 12 ms in
/// SQLite. An index on pull requests would make each accepted delivery a fifth dearer there.
pub const DELIVERIES_LOOKED_AT: u32 = 50_000;
/// The most that are counted.
const COUNTED: u32 = 10_000;
/// The name that no repository has: deliveries that name none.
pub const NO_REPOSITORY: &str = "none";
/// The beginning of the reason of a discarded dead letter.
pub const DISCARDED: &str = "discarded: ";

/// A filter of deliveries, the newest first: by id, or by the time of receipt where the filter names
/// one.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    pub state: Option<DeliveryState>,
    pub event: Option<String>,
    /// `owner/name`, or [`NO_REPOSITORY`].
    pub repo: Option<String>,
    pub pull_request: Option<PrNumber>,
    pub source: Option<Source>,
    /// The beginning of the GUID.
    pub guid: Option<String>,
    /// The whole reason why it is ignored or dead.
    pub reason: Option<String>,
    /// Dead letters that a person discarded.
    pub discarded: bool,
    /// Received at or after.
    pub from: Option<Moment>,
    /// Received before.
    pub to: Option<Moment>,
    /// Any of these; all when empty.
    pub ids: Vec<DeliveryId>,
    /// Only those before this one, which is how a list goes on.
    pub before: Option<DeliveryId>,
    /// The last one that is looked at.
    pub until: Option<DeliveryId>,
}

impl DeliveryFilter {
    fn is_by_time(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    /// Returns the filter without the conditions that no index has, if there are any.
    fn without_details(&self, is_sqlite: bool) -> Option<Self> {
        let is_narrow = self.guid.is_some() || !self.ids.is_empty();
        let repo_is_detail = is_sqlite || self.repo.as_deref() == Some(NO_REPOSITORY);
        let kept = Self {
            state: self.state.filter(|state| !is_sqlite || is_few(*state)),
            event: self.event.clone().filter(|_| !is_sqlite),
            repo: self.repo.clone().filter(|_| !repo_is_detail),
            pull_request: None,
            source: None,
            reason: None,
            discarded: false,
            until: None,
            ..self.clone()
        };
        let has_details = kept.state != self.state
            || kept.event != self.event
            || kept.repo != self.repo
            || self.pull_request.is_some()
            || self.source.is_some()
            || self.reason.is_some()
            || self.discarded;
        (has_details && !is_narrow).then_some(kept)
    }
}

/// Few are unfinished or dead: those are found by their state. Of the others the newest are soon
/// found.
fn is_few(state: DeliveryState) -> bool {
    matches!(state, DeliveryState::Accepted | DeliveryState::Dead)
}

/// A filter with what the database knows of its repository and of its bounds.
struct DeliveryScan<'a> {
    filter: &'a DeliveryFilter,
    /// The names that the repository had; `None` for any delivery.
    names: Option<Vec<String>>,
    before: Option<(DeliveryId, Moment)>,
    until: Option<(DeliveryId, Moment)>,
    is_sqlite: bool,
}

impl DeliveryScan<'_> {
    /// Makes the query for these columns of the newest deliveries, `limit` of them after `offset`
    /// others.
    fn query(&self, columns: &str, limit: u32, offset: u32) -> Statement<'static> {
        let mut query = StatementBuilder::new("");
        self.push_query(&mut query, columns, (limit, offset));
        query.build()
    }

    fn push_query(
        &self,
        query: &mut StatementBuilder<'static>,
        columns: &str,
        (limit, offset): (u32, u32),
    ) {
        let filter = self.filter;
        let is_walk = !filter.is_by_time() && filter.guid.is_none() && filter.ids.is_empty();
        if self.is_sqlite || !is_walk {
            query.push(&format!("SELECT {columns} FROM deliveries WHERE true"));
            if let Some(state) = filter.state {
                let keeps_index = !self.is_sqlite || is_few(state);
                query.push(if keeps_index {
                    " AND state = "
                } else {
                    " AND +state = "
                });
                query.push_bind(state.as_str());
            }
            self.push_names(query);
            self.push_conditions(query);
        } else {
            self.push_states(query, columns, limit + offset);
        }
        let order = match (filter.is_by_time(), is_walk) {
            (true, _) => "received_at DESC, id DESC",
            (false, true) => "id DESC",
            // No index has this order, so that the narrow condition is looked up.
            (false, false) => "+id DESC",
        };
        query.push(&format!(" ORDER BY {order} LIMIT "));
        query.push_bind(i64::from(limit)).push(" OFFSET ");
        query.push_bind(i64::from(offset));
    }

    /// Adds each state and name apart: PostgreSQL looks them up by an index that has the wanted ones
    /// next to each other, newest first.
    fn push_states(&self, query: &mut StatementBuilder<'static>, columns: &str, limit: u32) {
        let states = DeliveryState::ALL
            .into_iter()
            .filter(|state| self.filter.state.is_none_or(|wanted| wanted == *state));
        let any_name = [None];
        let names: Vec<Option<&str>> = match &self.names {
            None => any_name.to_vec(),
            Some(names) => names.iter().map(|name| Some(name.as_str())).collect(),
        };
        let mut parts = 0;
        for state in states {
            for name in &names {
                query.push(if parts == 0 { "" } else { " UNION ALL " });
                query.push(&format!(
                    "SELECT {columns} FROM (SELECT * FROM deliveries WHERE state = '{}'",
                    state.as_str()
                ));
                if let Some(name) = name {
                    self.push_name(query, name);
                }
                self.push_conditions(query);
                query.push(" ORDER BY id DESC NULLS LAST LIMIT ");
                query.push_bind(i64::from(limit));
                query.push(&format!(") AS part_{parts}"));
                parts += 1;
            }
        }
    }

    fn push_names(&self, query: &mut StatementBuilder<'static>) {
        let Some(names) = &self.names else { return };
        query.push(" AND (false");
        for name in names {
            query.push(" OR (true");
            self.push_name(query, name);
            query.push(")");
        }
        query.push(")");
    }

    fn push_name(&self, query: &mut StatementBuilder<'static>, name: &str) {
        push_repository(query, name, self.is_sqlite);
    }

    /// Adds the conditions but those on state and repository.
    fn push_conditions(&self, query: &mut StatementBuilder<'static>) {
        let filter = self.filter;
        if let Some(event) = &filter.event {
            query.push(" AND event = ").push_bind(storable_text(event));
        }
        if let Some(number) = filter.pull_request {
            query.push(" AND pr_number = ").push_bind(number.0);
        }
        if let Some(source) = filter.source {
            query.push(" AND source = ").push_bind(source.as_str());
        }
        if let Some(prefix) = &filter.guid {
            let prefix = storable_text(prefix);
            query.push(" AND guid < ");
            query.push_bind(format!("{prefix}\u{10ffff}"));
            query.push(" AND guid >= ").push_bind(prefix);
        }
        if let Some(reason) = &filter.reason {
            query
                .push(" AND reason = ")
                .push_bind(storable_text(reason));
        }
        if filter.discarded {
            let length = DISCARDED.chars().count();
            query.push(&format!(
                " AND state = 'ignored' AND substr(reason, 1, {length}) = "
            ));
            query.push_bind(DISCARDED);
        }
        if !filter.ids.is_empty() {
            push_ids(query, &filter.ids);
        }
        self.push_bounds(query);
    }

    fn push_bounds(&self, query: &mut StatementBuilder<'static>) {
        let filter = self.filter;
        if let Some(from) = filter.from {
            query.push(" AND received_at >= ").push_bind(Millis(from));
        }
        if let Some(to) = filter.to {
            query.push(" AND received_at < ").push_bind(Millis(to));
        }
        for (place, comparison) in [(self.before, "<"), (self.until, ">=")] {
            let Some((id, received_at)) = place else {
                continue;
            };
            if filter.is_by_time() {
                query.push(&format!(" AND (received_at, id) {comparison} ("));
                query.push_bind(Millis(received_at)).push(", ");
                query.push_bind(id.0).push(")");
            } else {
                query
                    .push(&format!(" AND id {comparison} "))
                    .push_bind(id.0);
            }
        }
    }
}

/// Adds the condition on the name of a repository, which GitHub takes in any case, in the words of
/// each kind of database's list.
pub(super) fn push_repository(query: &mut StatementBuilder<'_>, name: &str, is_sqlite: bool) {
    if name == NO_REPOSITORY {
        query.push(" AND repo_name IS NULL");
    } else if is_sqlite {
        query.push(" AND repo_name = ");
        query.push_bind(storable_text(name)).push(" COLLATE NOCASE");
    } else {
        crate::pull_requests::push_name(query, "repo_name", name, 200);
    }
}

/// Adds the condition that the row is one of these.
pub(super) fn push_ids(query: &mut StatementBuilder<'_>, ids: &[DeliveryId]) {
    // No row has id 0, without which an empty list would be no SQL.
    query.push(" AND id IN (0");
    for id in ids {
        query.push(", ").push_bind(id.0);
    }
    query.push(")");
}

impl Store {
    /// Returns deliveries of `filter`, the newest first, at most `limit`. Those of a repository
    /// have the names that it had at their time.
    pub async fn deliveries(&self, filter: &DeliveryFilter, limit: u32) -> Result<Vec<Delivery>> {
        let Some(scan) = self.delivery_scan(filter).await? else {
            return Ok(Vec::new());
        };
        let query = scan.query(COLUMNS, limit, 0);
        let rows: Vec<DeliveryRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(Delivery::from).collect())
    }

    /// Returns the last delivery that a page looks at, where a condition of the filter has no index
    /// and there are more than `looked_at` to look at.
    pub async fn end_of_deliveries_look(
        &self,
        filter: &DeliveryFilter,
        looked_at: u32,
    ) -> Result<Option<DeliveryId>> {
        let Some(plain) = filter.without_details(self.is_sqlite()) else {
            return Ok(None);
        };
        let Some(scan) = self.delivery_scan(&plain).await? else {
            return Ok(None);
        };
        let query = scan.query("id, received_at", 1, looked_at.saturating_sub(1));
        let row: Option<(i64, Millis)> = self.database.row(query).await?;
        Ok(row.map(|(id, _)| DeliveryId(id)))
    }

    /// Counts the deliveries of a filter. The number is exact unless there are more than 10,000, or
    /// more to look at than `looked_at`.
    pub async fn count_deliveries(
        &self,
        filter: &DeliveryFilter,
        looked_at: u32,
    ) -> Result<(u64, bool)> {
        let until = self.end_of_deliveries_look(filter, looked_at).await?;
        let filter = DeliveryFilter {
            until,
            ..filter.clone()
        };
        let Some(scan) = self.delivery_scan(&filter).await? else {
            return Ok((0, true));
        };
        let mut counted = StatementBuilder::new("SELECT count(*) FROM (");
        scan.push_query(&mut counted, "id, received_at", (COUNTED + 1, 0));
        counted.push(") AS counted");
        let row: Option<(i64,)> = self.database.row(counted.build()).await?;
        let found = row.map_or(0, |(found,)| found.unsigned_abs());
        let most = u64::from(COUNTED);
        Ok((found.min(most), found <= most && until.is_none()))
    }

    /// Returns the hours since `from` in which deliveries were received, with their number, the
    /// oldest first. An hour is named by its beginning.
    pub async fn received_per_hour(&self, from: Moment) -> Result<Vec<(Moment, u64)>> {
        let hour = match &self.database {
            Database::Sqlite(_) => "received_at / 3600000",
            Database::Postgres(_) => {
                "CAST(floor(extract(epoch FROM received_at) / 3600) AS bigint)"
            }
        };
        let query = statement(format!(
            "SELECT {hour} AS hour, count(*) FROM deliveries WHERE received_at >= $1 \
             GROUP BY 1 ORDER BY 1"
        ));
        let rows: Vec<(i64, i64)> = self.database.rows(query.bind(Millis(from))).await?;
        let hours = rows.into_iter().map(|(hour, received)| {
            let start = Moment::UNIX_EPOCH + TimeDelta::hours(hour);
            (start, received.unsigned_abs())
        });
        Ok(hours.collect())
    }

    fn is_sqlite(&self) -> bool {
        matches!(self.database, Database::Sqlite(_))
    }

    /// Returns the scan of a filter; `None` if it has no delivery.
    async fn delivery_scan<'a>(
        &self,
        filter: &'a DeliveryFilter,
    ) -> Result<Option<DeliveryScan<'a>>> {
        let names = match &filter.repo {
            None => None,
            Some(name) if name == NO_REPOSITORY => Some(vec![name.clone()]),
            Some(name) => Some(match self.repository_id(name).await? {
                Some(id) => self.repository_names(id).await?,
                None => vec![name.clone()],
            }),
        };
        let mut places = [filter.before, filter.until].map(|id| id.map(|id| (id, Moment::MIN_UTC)));
        if filter.is_by_time() {
            for (id, at) in places.iter_mut().flatten() {
                match self.delivery(*id).await? {
                    Some(found) => *at = found.received_at,
                    // Retention deletes the oldest first: it has deleted the rest of the list, too.
                    None => return Ok(None),
                }
            }
        }
        let [before, until] = places;
        Ok(Some(DeliveryScan {
            filter,
            names,
            before,
            until,
            is_sqlite: self.is_sqlite(),
        }))
    }
}
