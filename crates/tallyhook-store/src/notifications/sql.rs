//! Channels and what they are told, in SQL that both kinds of database understand.

use super::row::{BacklogRow, ChannelRow, CountRow, ToldRow};
use super::{
    Attempt, Backlog, ChannelRecord, ChannelState, Next, NotificationFilter, NotificationRow,
    NotificationState, Rest, Told,
};
use crate::columns::{Millis, Name, storable_text};
use crate::database::statement;
use crate::outbox::OutboxRow;
use crate::{EventId, Moment, Result, Store};

const CHANNEL: &str =
    "SELECT name, place, rests_until, failures, last_error, last_error_at FROM channels";
/// Why a notification was given up of which nothing else is known.
const TOO_OLD: &str = "it was too old to be sent";

/// Notifications with their events.
fn told() -> String {
    format!(
        "SELECT {}, channel, state, attempts, taken_up_at, next_attempt_at, answer, finished_at \
         FROM notifications JOIN outbox ON id = event_id",
        OutboxRow::COLUMNS
    )
}

impl Store {
    /// A channel as it stands. One that was never seen before begins behind the newest event.
    pub async fn open_channel(&self, channel: &str) -> Result<ChannelState> {
        let query = format!("{CHANNEL} WHERE name = $1");
        let read = || statement(query.clone()).bind(channel);
        let mut row: Option<ChannelRow> = self.database.row(read()).await?;
        if row.is_none() {
            let insert = "INSERT INTO channels (name, place) SELECT $1, coalesce(max(id), 0) FROM outbox WHERE true \
                          ON CONFLICT (name) DO NOTHING";
            self.database
                .execute(statement(insert).bind(channel))
                .await?;
            row = self.database.row(read()).await?;
        }
        Ok(row.ok_or(sqlx::Error::RowNotFound)?.into())
    }

    /// Moves a channel from one place to another and notes what it is to be told of the events between, each with its
    /// subject. Whether it was at `from`; else nothing was done.
    pub async fn take_up(
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
            let insert = "INSERT INTO notifications (event_id, channel, subject, taken_up_at, next_attempt_at) \
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

    /// What a channel is to be told now, in the order of the events, at most `limit`.
    pub async fn due_notifications(
        &self,
        channel: &str,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<NotificationRow>> {
        let query = format!(
            "{} WHERE channel = $1 AND state = 'pending' AND next_attempt_at <= $2 ORDER BY event_id LIMIT $3",
            told()
        );
        let query = statement(query)
            .bind(channel)
            .bind(Millis(now))
            .bind(i64::from(limit));
        self.database
            .rows(query)
            .await?
            .into_iter()
            .map(|row: ToldRow| Ok(row.try_into()?))
            .collect()
    }

    /// When the next one is due, if any is pending.
    pub async fn next_notification(&self, channel: &str) -> Result<Option<Moment>> {
        let query = "SELECT min(next_attempt_at) FROM notifications WHERE channel = $1 AND state = 'pending'";
        let query = statement(query).bind(channel);
        let next: Option<(Option<Millis>,)> = self.database.row(query).await?;
        Ok(next.and_then(|(at,)| at).map(|Millis(at)| at))
    }

    /// Notes an attempt, and with `rest` what it means for the channel. Whether the notification was not finished; else
    /// nothing was done.
    pub async fn attempted(
        &self,
        attempt: &Attempt<'_>,
        next: Next,
        rest: Option<Rest>,
    ) -> Result<bool> {
        let Attempt {
            channel, event, at, ..
        } = *attempt;
        let answer = storable_text(attempt.answer);
        let (state, counts, next_attempt_at) = match next {
            Next::Sent => ("sent", 1, at),
            Next::Dead => ("dead", 1, at),
            Next::Again(next) => ("pending", 1, next),
            Next::NotNow(next) => ("pending", 0, next),
        };
        let finished_at = (state != "pending").then_some(Millis(at));
        let update = statement(
            "UPDATE notifications SET state = $3, attempts = attempts + $4, next_attempt_at = $5, answer = $6, \
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
        let rested = match next {
            Next::Sent => {
                statement("UPDATE channels SET rests_until = $2, failures = $3 WHERE name = $1")
            }
            _ => statement(
                "UPDATE channels SET rests_until = $2, failures = $3, last_error = $4, last_error_at = $5 \
                 WHERE name = $1",
            ),
        };
        let rested = rested
            .bind(channel)
            .bind(rest.until.map(Millis))
            .bind(i64::from(rest.failures));
        let rested = if next == Next::Sent {
            rested
        } else {
            rested.bind(answer.as_str()).bind(Millis(at))
        };
        transaction.execute(rested).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Finishes a notification if something newer about the same was sent to its channel. Whether that is so.
    pub async fn supersede(&self, channel: &str, event: EventId, now: Moment) -> Result<bool> {
        let update = statement(
            "UPDATE notifications AS earlier SET state = 'superseded', finished_at = $3 \
             WHERE event_id = $1 AND channel = $2 AND state = 'pending' AND EXISTS (\
                 SELECT 1 FROM notifications later WHERE later.event_id > $1 AND later.channel = $2 \
                 AND later.subject = earlier.subject AND later.state = 'sent')",
        );
        Ok(self
            .database
            .execute(update.bind(event.0).bind(channel).bind(Millis(now)))
            .await?
            == 1)
    }

    /// Gives up what is still to be sent of events recorded before `before`, at most `limit`, whenever it was taken up and
    /// whether or not anybody works on its channel. How many there were.
    pub async fn give_up(&self, before: Moment, now: Moment, limit: u32) -> Result<u64> {
        let update = format!(
            "UPDATE notifications SET state = 'dead', finished_at = $2, answer = coalesce(answer, '{TOO_OLD}') \
             WHERE state = 'pending' AND (event_id, channel) IN (\
                 SELECT event_id, channel FROM notifications JOIN outbox ON id = event_id \
                 WHERE state = 'pending' AND recorded_at < $1 LIMIT $3)"
        );
        let update = statement(update)
            .bind(Millis(before))
            .bind(Millis(now))
            .bind(i64::from(limit));
        self.database.execute(update).await
    }

    /// Every channel that was ever worked on, by name.
    pub async fn channels(&self) -> Result<Vec<ChannelRecord>> {
        let rows = self
            .database
            .rows(statement(format!("{CHANNEL} ORDER BY name")))
            .await?;
        let count = "SELECT channel, state, count(*) AS notifications FROM notifications GROUP BY channel, state";
        let counts: Vec<CountRow> = self.database.rows(statement(count)).await?;
        let record = |channel: ChannelRow| {
            let name = channel.name.clone();
            let mut told = Told::default();
            for count in counts.iter().filter(|count| count.channel == name) {
                let place = match count.state.0 {
                    NotificationState::Pending => &mut told.pending,
                    NotificationState::Sent => &mut told.sent,
                    NotificationState::Dead => &mut told.dead,
                    NotificationState::Superseded => &mut told.superseded,
                };
                *place = count.notifications.unsigned_abs();
            }
            ChannelRecord {
                name,
                state: channel.into(),
                told,
            }
        };
        Ok(rows.into_iter().map(record).collect())
    }

    /// What is still to be sent to those of `channels` that were ever worked on, by name; what nobody looked at yet for one is
    /// among it.
    pub async fn backlogs(&self, channels: &[&str]) -> Result<Vec<Backlog>> {
        if channels.is_empty() {
            return Ok(Vec::new());
        }
        // One that is in no settings any more is left where it was, and all that came since would be counted.
        let names = (1..=channels.len())
            .map(|place| format!("${place}"))
            .collect::<Vec<_>>()
            .join(", ");
        let of = |state: &str, what: &str| {
            format!(
                "(SELECT {what} FROM notifications WHERE channel = channels.name AND state = '{state}')"
            )
        };
        let (count, since) = (of("pending", "count(*)"), of("pending", "min(taken_up_at)"));
        let dead = of("dead", "count(*)");
        // Nobody takes these up if no worker runs that has the channel among its settings.
        let unseen = "FROM outbox WHERE id > place";
        let query = format!(
            "SELECT name, failures, {count} AS pending, {since} AS since, {dead} AS dead, \
             (SELECT count(*) {unseen}) AS unseen, (SELECT recorded_at {unseen} ORDER BY id LIMIT 1) AS unseen_since \
             FROM channels WHERE name IN ({names}) ORDER BY name"
        );
        let query = channels
            .iter()
            .fold(statement(query), |query, name| query.bind(*name));
        let rows = self.database.rows(query).await?;
        Ok(rows.into_iter().map(|row: BacklogRow| row.into()).collect())
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
            told(),
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
            .map(|row: ToldRow| Ok(row.try_into()?))
            .collect()
    }
}
