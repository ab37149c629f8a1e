//! Statements about channels and notifications.

use super::row::{BacklogRow, ChannelRow, CountRow, JoinedNotificationRow};
use super::{
    AttemptResult, ChannelBacklog, ChannelPause, ChannelRecord, ChannelState, NotificationAttempt,
    NotificationCounts, NotificationFilter, NotificationRow, NotificationState,
};
use crate::columns::{Millis, Name, storable_text};
use crate::database::{Statement, statement};
use crate::outbox::{NewOutboxEvent, OutboxRow, append_events};
use crate::{ChannelDigest, EventId, Moment, OutboxPayload, Result, Store};

const CHANNEL: &str = "SELECT name, place, rests_until, failures, last_error, last_error_at, digest_day \
     FROM channels";
/// The reason of an expired notification without an attempt.
const TOO_OLD: &str = "it was too old to be sent";

/// Makes the query for notifications with their events.
fn notification_query() -> String {
    format!(
        "SELECT {}, channel, state, attempts, taken_up_at, next_attempt_at, answer, finished_at, \
         held_until FROM notifications JOIN outbox ON id = event_id {}",
        OutboxRow::COLUMNS,
        OutboxRow::JOINS
    )
}

/// Makes the statement that records the pause of a channel, with the answer and the time of the
/// failure that caused it.
fn pause_statement<'q>(
    channel: &'q str,
    pause: ChannelPause,
    failure: Option<(&'q str, Moment)>,
) -> Statement<'q> {
    let update = match failure {
        None => statement("UPDATE channels SET rests_until = $2, failures = $3 WHERE name = $1"),
        Some(_) => statement(
            "UPDATE channels SET rests_until = $2, failures = $3, last_error = $4, \
             last_error_at = $5 \
             WHERE name = $1",
        ),
    };
    let update = update
        .bind(channel)
        .bind(pause.until.map(Millis))
        .bind(i64::from(pause.failures));
    match failure {
        None => update,
        Some((answer, at)) => update.bind(answer).bind(Millis(at)),
    }
}

impl Store {
    /// Returns the state of a channel. A new one begins behind the newest event.
    pub async fn open_channel(&self, channel: &str) -> Result<ChannelState> {
        let query = format!("{CHANNEL} WHERE name = $1");
        let read = || statement(query.clone()).bind(channel);
        let mut row: Option<ChannelRow> = self.database.row(read()).await?;
        if row.is_none() {
            let insert = "INSERT INTO channels (name, place) SELECT $1, coalesce(max(id), 0) \
                          FROM outbox WHERE true \
                          ON CONFLICT (name) DO NOTHING";
            self.database
                .execute(statement(insert).bind(channel))
                .await?;
            row = self.database.row(read()).await?;
        }
        Ok(row.ok_or(sqlx::Error::RowNotFound)?.into())
    }

    /// Advances a channel from one event to another and creates its notifications of the events
    /// between, each with its subject. Returns whether it was at `from`; else nothing was done.
    pub async fn advance_channel(
        &self,
        channel: &str,
        from: EventId,
        to: EventId,
        wanted: &[(EventId, String)],
        now: Moment,
    ) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let update = statement("UPDATE channels SET place = $3 WHERE name = $1 AND place = $2");
        if transaction
            .execute(update.bind(channel).bind(from.0).bind(to.0))
            .await?
            == 0
        {
            transaction.rollback().await?;
            return Ok(false);
        }
        for (event, subject) in wanted {
            let insert = "INSERT INTO notifications (event_id, channel, subject, taken_up_at, \
                          next_attempt_at) \
                          VALUES ($1, $2, $3, $4, $4)";
            let insert = statement(insert)
                .bind(event.0)
                .bind(channel)
                .bind(subject.as_str())
                .bind(Millis(now));
            transaction.execute(insert).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns the notifications of a channel that are due, in the order of the events, at most
    /// `limit`.
    pub async fn due_notifications(
        &self,
        channel: &str,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<NotificationRow>> {
        let query = format!(
            "{} WHERE channel = $1 AND state = 'pending' AND next_attempt_at <= $2 \
             ORDER BY event_id LIMIT $3",
            notification_query()
        );
        let query = statement(query)
            .bind(channel)
            .bind(Millis(now))
            .bind(i64::from(limit));
        self.database
            .rows(query)
            .await?
            .into_iter()
            .map(|row: JoinedNotificationRow| Ok(row.try_into()?))
            .collect()
    }

    /// Returns the time at which the next one is due, if any is pending.
    pub async fn next_notification_at(&self, channel: &str) -> Result<Option<Moment>> {
        let query = "SELECT min(next_attempt_at) FROM notifications WHERE channel = $1 \
                     AND state = 'pending'";
        let query = statement(query).bind(channel);
        let next: Option<(Option<Millis>,)> = self.database.row(query).await?;
        Ok(next.and_then(|(at,)| at).map(|Millis(at)| at))
    }

    /// Records an attempt, and with `rest` the pause of its channel. Returns whether the
    /// notification was pending; else nothing was done.
    pub async fn record_attempt(
        &self,
        attempt: &NotificationAttempt<'_>,
        next: AttemptResult,
        rest: Option<ChannelPause>,
    ) -> Result<bool> {
        let NotificationAttempt {
            channel, event, at, ..
        } = *attempt;
        let answer = storable_text(attempt.answer);
        let (state, counts, next_attempt_at) = match next {
            AttemptResult::Sent => ("sent", 1, at),
            AttemptResult::Dead => ("dead", 1, at),
            AttemptResult::RetryAt(next) => ("pending", 1, next),
            AttemptResult::DeferredTo(next) => ("pending", 0, next),
        };
        let finished_at = (state != "pending").then_some(Millis(at));
        let update = statement(
            "UPDATE notifications SET state = $3, attempts = attempts + $4, \
             next_attempt_at = $5, answer = $6, \
             finished_at = $7 WHERE event_id = $1 AND channel = $2 AND state = 'pending'",
        );
        let update = update
            .bind(event.0)
            .bind(channel)
            .bind(state)
            .bind(i64::from(counts));
        let update = update
            .bind(Millis(next_attempt_at))
            .bind(answer.as_str())
            .bind(finished_at);
        let Some(rest) = rest else {
            return Ok(self.database.execute(update).await? == 1);
        };
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        if transaction.execute(update).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        let failure = (next != AttemptResult::Sent).then_some((answer.as_str(), at));
        let pause = pause_statement(channel, rest, failure);
        transaction.execute(pause).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Makes a notification that was given up pending again, with all attempts, and not too old from
    /// now on. Returns false if it is not dead; then nothing is done.
    pub async fn retry_notification(
        &self,
        channel: &str,
        event: EventId,
        now: Moment,
    ) -> Result<bool> {
        let update = statement(
            "UPDATE notifications SET state = 'pending', attempts = 0, next_attempt_at = $3, \
             finished_at = NULL, held_until = $3 \
             WHERE event_id = $1 AND channel = $2 AND state = 'dead'",
        );
        let update = update.bind(event.0).bind(channel).bind(Millis(now));
        Ok(self.database.execute(update).await? == 1)
    }

    /// Marks a notification superseded if it is obsolete. Returns whether that is so:
    /// - a newer one of its subject was sent to its channel, or after quiet hours is to be sent;
    /// - it is about whom a pull request waits for, which changed again, or the pull request ended.
    pub async fn supersede_if_outdated(
        &self,
        channel: &str,
        event: EventId,
        now: Moment,
    ) -> Result<bool> {
        // Each state and kind has a partial index, which no list of them uses.
        let update = statement(
            "UPDATE notifications AS earlier SET state = 'superseded', finished_at = $3 \
             WHERE event_id = $1 AND channel = $2 AND state = 'pending' AND (EXISTS (\
                 SELECT 1 FROM notifications later WHERE later.event_id > $1 \
                 AND later.channel = $2 AND later.subject = earlier.subject \
                 AND later.state = 'sent') \
             OR earlier.held_until IS NOT NULL AND EXISTS (\
                 SELECT 1 FROM notifications later WHERE later.event_id > $1 \
                 AND later.channel = $2 AND later.subject = earlier.subject \
                 AND later.state = 'pending') \
             OR EXISTS (\
                 SELECT 1 FROM outbox waited \
                 WHERE waited.id = $1 AND waited.kind = 'waiting_change' AND (EXISTS (\
                     SELECT 1 FROM outbox later WHERE later.repo_id = waited.repo_id \
                     AND later.number = waited.number AND later.id > waited.id \
                     AND later.kind = 'waiting_change') \
                 OR EXISTS (\
                     SELECT 1 FROM outbox later WHERE later.repo_id = waited.repo_id \
                     AND later.number = waited.number AND later.id > waited.id \
                     AND later.kind = 'pr_status_change'))))",
        );
        Ok(self
            .database
            .execute(update.bind(event.0).bind(channel).bind(Millis(now)))
            .await?
            == 1)
    }

    /// Marks the pending notifications of a channel as held until the end of its quiet hours.
    pub async fn hold_notifications(&self, channel: &str, until: Moment) -> Result<u64> {
        let update = statement(
            "UPDATE notifications SET held_until = $2 WHERE channel = $1 AND state = 'pending' \
             AND (held_until IS NULL OR held_until < $2)",
        );
        self.database
            .execute(update.bind(channel).bind(Millis(until)))
            .await
    }

    /// Records that the digest of that day was made, and adds it to the outbox unless it is empty.
    /// Returns false if there was one of that day or a later day; then nothing is done.
    pub async fn record_digest(&self, digest: &ChannelDigest, now: Moment) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let update = statement(
            "UPDATE channels SET digest_day = $2 WHERE name = $1 \
             AND (digest_day IS NULL OR digest_day < $2)",
        );
        let day = digest.content.day.to_string();
        let update = update.bind(digest.channel.as_str()).bind(day);
        if transaction.execute(update).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        if !digest.content.items.is_empty() {
            let event = NewOutboxEvent {
                repo: None,
                payload: OutboxPayload::Digest(digest.clone()),
            };
            append_events(&mut transaction, &[event], now).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Marks pending notifications dead, at most `limit`, whose events were recorded before `before`,
    /// and that no quiet hours held since; also those of channels without a worker. Returns their
    /// number.
    pub async fn expire_notifications(
        &self,
        before: Moment,
        now: Moment,
        limit: u32,
    ) -> Result<u64> {
        let update = format!(
            "UPDATE notifications SET state = 'dead', finished_at = $2, \
             answer = coalesce(answer, '{TOO_OLD}') \
             WHERE state = 'pending' AND (event_id, channel) IN (\
                 SELECT event_id, channel FROM notifications JOIN outbox ON id = event_id \
                 WHERE state = 'pending' AND recorded_at < $1 \
                 AND coalesce(held_until, recorded_at) < $1 LIMIT $3)"
        );
        let update = statement(update)
            .bind(Millis(before))
            .bind(Millis(now))
            .bind(i64::from(limit));
        self.database.execute(update).await
    }

    /// Returns every channel that ever had a worker, by name.
    pub async fn channels(&self) -> Result<Vec<ChannelRecord>> {
        let rows = self
            .database
            .rows(statement(format!("{CHANNEL} ORDER BY name")))
            .await?;
        let count = "SELECT channel, state, count(*) AS notifications FROM notifications \
                     GROUP BY channel, state";
        let count_rows: Vec<CountRow> = self.database.rows(statement(count)).await?;
        let record = |channel: ChannelRow| {
            let name = channel.name.clone();
            let mut counts = NotificationCounts::default();
            for count in count_rows.iter().filter(|count| count.channel == name) {
                let place = match count.state.0 {
                    NotificationState::Pending => &mut counts.pending,
                    NotificationState::Sent => &mut counts.sent,
                    NotificationState::Dead => &mut counts.dead,
                    NotificationState::Superseded => &mut counts.superseded,
                };
                *place = count.notifications.unsigned_abs();
            }
            ChannelRecord {
                name,
                state: channel.into(),
                counts,
            }
        };
        Ok(rows.into_iter().map(record).collect())
    }

    /// Returns the backlogs of those of `channels` that ever had a worker, by name; events that
    /// were not looked at yet are included.
    pub async fn backlogs(&self, channels: &[&str]) -> Result<Vec<ChannelBacklog>> {
        if channels.is_empty() {
            return Ok(Vec::new());
        }
        // A channel that is no longer in any settings stays where it was, and every later event
        // would be counted.
        let names = (1..=channels.len())
            .map(|place| format!("${place}"))
            .collect::<Vec<_>>()
            .join(", ");
        let of = |state: &str, what: &str| {
            format!(
                "(SELECT {what} FROM notifications WHERE channel = channels.name \
                 AND state = '{state}')"
            )
        };
        let (count, since) = (of("pending", "count(*)"), of("pending", "min(taken_up_at)"));
        let dead = of("dead", "count(*)");
        // These stay if no worker runs that has the channel in its settings.
        let unseen = "FROM outbox WHERE id > place";
        let query = format!(
            "SELECT name, failures, {count} AS pending, {since} AS since, {dead} AS dead, \
             (SELECT count(*) {unseen}) AS unseen, (SELECT recorded_at {unseen} ORDER BY id \
             LIMIT 1) AS unseen_since \
             FROM channels WHERE name IN ({names}) ORDER BY name"
        );
        let query = channels
            .iter()
            .fold(statement(query), |query, name| query.bind(*name));
        let rows = self.database.rows(query).await?;
        Ok(rows.into_iter().map(|row: BacklogRow| row.into()).collect())
    }

    /// Counts notifications; the place to go on from counts for nothing.
    pub async fn count_notifications(&self, filter: &NotificationFilter) -> Result<u64> {
        let mut query = format!("SELECT count(*) FROM ({} WHERE true", notification_query());
        if let Some(state) = filter.state {
            query += &format!(" AND state = '{}'", Name(state));
        }
        if filter.channel.is_some() {
            query += " AND channel = $1";
        }
        query += ") AS listed";
        let query = filter
            .channel
            .iter()
            .fold(statement(query), |query, channel| {
                query.bind(channel.as_str())
            });
        let row: Option<(i64,)> = self.database.row(query).await?;
        Ok(row.map_or(0, |(count,)| count.unsigned_abs()))
    }

    pub async fn notifications(
        &self,
        filter: &NotificationFilter,
        limit: u32,
    ) -> Result<Vec<NotificationRow>> {
        // Said of both tables, so that neither is read from its newest row on.
        let mut conditions =
            vec!["id <= $2 AND event_id <= $2 AND (event_id < $2 OR channel > $3)".to_owned()];
        if filter.channel.is_some() {
            conditions.push("channel = $4".to_owned());
        }
        if let Some(state) = filter.state {
            // No argument, which PostgreSQL would not look up in an index of one state.
            conditions.push(format!("state = '{}'", Name(state)));
        }
        let query = format!(
            "{} WHERE ({}) ORDER BY event_id DESC, channel LIMIT $1",
            notification_query(),
            conditions.join(") AND (")
        );
        let (event, channel) = filter
            .after
            .clone()
            .unwrap_or((EventId(i64::MAX), String::new()));
        let query = statement(query)
            .bind(i64::from(limit))
            .bind(event.0)
            .bind(channel);
        let query = filter
            .channel
            .iter()
            .fold(query, |query, channel| query.bind(channel.as_str()));
        self.database
            .rows(query)
            .await?
            .into_iter()
            .map(|row: JoinedNotificationRow| Ok(row.try_into()?))
            .collect()
    }
}
