//! Channels and what they are told, in SQL that both kinds of database understand.

use sqlx::{AssertSqlSafe, Database, Encode, FromRow, Type};

use super::notifications::{
    Attempt, Backlog, ChannelRecord, ChannelState, Next, NotificationFilter, NotificationRow,
    NotificationState, Notifications, Rest, Told,
};
use super::rows::{BacklogRow, ChannelRow, CountRow, Millis, Name, OutboxRow, ToldRow, text};
use super::sessions::Sessions;
use super::{EventId, Moment, Result};

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

#[async_trait::async_trait]
impl<S> Notifications for S
where
    S: Sessions,
    for<'q> i64: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> &'q str: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> String: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Millis: Encode<'q, S::Kind> + Type<S::Kind>,
    for<'q> Option<Millis>: Encode<'q, S::Kind>,
    for<'r> (Option<Millis>,): FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> BacklogRow: FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> ChannelRow: FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> CountRow: FromRow<'r, <S::Kind as Database>::Row>,
    for<'r> ToldRow: FromRow<'r, <S::Kind as Database>::Row>,
{
    async fn open_channel(&self, channel: &str) -> Result<ChannelState> {
        let query = format!("{CHANNEL} WHERE name = $1");
        let read = || self.read(sqlx::query(AssertSqlSafe(query.clone())).bind(channel));
        let mut rows = read().await?;
        if rows.is_empty() {
            let insert = "INSERT INTO channels (name, place) SELECT $1, coalesce(max(id), 0) FROM outbox WHERE true \
                          ON CONFLICT (name) DO NOTHING";
            self.write(sqlx::query(insert).bind(channel)).await?;
            rows = read().await?;
        }
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(ChannelRow::from_row(row)?.into())
    }

    async fn take_up(
        &self,
        channel: &str,
        from: EventId,
        to: EventId,
        wanted: &[(EventId, String)],
        now: Moment,
    ) -> Result<bool> {
        let mut writer = self.writer().await?;
        let mut session = writer.begin().await?;
        let update = sqlx::query("UPDATE channels SET place = $3 WHERE name = $1 AND place = $2");
        if session
            .execute(update.bind(channel).bind(from.0).bind(to.0))
            .await?
            == 0
        {
            session.rollback().await?;
            return Ok(false);
        }
        for (event, subject) in wanted {
            let insert = "INSERT INTO notifications (event_id, channel, subject, taken_up_at, next_attempt_at) \
                          VALUES ($1, $2, $3, $4, $4)";
            let insert = sqlx::query(insert)
                .bind(event.0)
                .bind(channel)
                .bind(subject.as_str())
                .bind(Millis(now));
            session.execute(insert).await?;
        }
        session.commit().await?;
        Ok(true)
    }

    async fn due_notifications(
        &self,
        channel: &str,
        now: Moment,
        limit: u32,
    ) -> Result<Vec<NotificationRow>> {
        let query = format!(
            "{} WHERE channel = $1 AND state = 'pending' AND next_attempt_at <= $2 ORDER BY event_id LIMIT $3",
            told()
        );
        let query = sqlx::query(AssertSqlSafe(query))
            .bind(channel)
            .bind(Millis(now))
            .bind(i64::from(limit));
        self.read(query)
            .await?
            .iter()
            .map(|row| Ok(ToldRow::from_row(row)?.try_into()?))
            .collect()
    }

    async fn next_notification(&self, channel: &str) -> Result<Option<Moment>> {
        let query = "SELECT min(next_attempt_at) FROM notifications WHERE channel = $1 AND state = 'pending'";
        let rows = self.read(sqlx::query(query).bind(channel)).await?;
        let next = rows
            .first()
            .map(<(Option<Millis>,)>::from_row)
            .transpose()?;
        Ok(next.and_then(|(at,)| at).map(|Millis(at)| at))
    }

    async fn attempted(
        &self,
        attempt: &Attempt<'_>,
        next: Next,
        rest: Option<Rest>,
    ) -> Result<bool> {
        let Attempt {
            channel, event, at, ..
        } = *attempt;
        let answer = text(attempt.answer);
        let (state, counts, next_attempt_at) = match next {
            Next::Sent => ("sent", 1, at),
            Next::Dead => ("dead", 1, at),
            Next::Again(next) => ("pending", 1, next),
            Next::NotNow(next) => ("pending", 0, next),
        };
        let finished_at = (state != "pending").then_some(Millis(at));
        let update = sqlx::query(
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
            return Ok(self.write(update).await? == 1);
        };
        let mut writer = self.writer().await?;
        let mut session = writer.begin().await?;
        if session.execute(update).await? == 0 {
            session.rollback().await?;
            return Ok(false);
        }
        let rested = match next {
            Next::Sent => {
                sqlx::query("UPDATE channels SET rests_until = $2, failures = $3 WHERE name = $1")
            }
            _ => sqlx::query(
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
        session.execute(rested).await?;
        session.commit().await?;
        Ok(true)
    }

    async fn supersede(&self, channel: &str, event: EventId, now: Moment) -> Result<bool> {
        let update = sqlx::query(
            "UPDATE notifications AS earlier SET state = 'superseded', finished_at = $3 \
             WHERE event_id = $1 AND channel = $2 AND state = 'pending' AND EXISTS (\
                 SELECT 1 FROM notifications later WHERE later.event_id > $1 AND later.channel = $2 \
                 AND later.subject = earlier.subject AND later.state = 'sent')",
        );
        Ok(self
            .write(update.bind(event.0).bind(channel).bind(Millis(now)))
            .await?
            == 1)
    }

    async fn give_up(&self, before: Moment, now: Moment, limit: u32) -> Result<u64> {
        let update = format!(
            "UPDATE notifications SET state = 'dead', finished_at = $2, answer = coalesce(answer, '{TOO_OLD}') \
             WHERE state = 'pending' AND (event_id, channel) IN (\
                 SELECT event_id, channel FROM notifications JOIN outbox ON id = event_id \
                 WHERE state = 'pending' AND recorded_at < $1 LIMIT $3)"
        );
        let update = sqlx::query(AssertSqlSafe(update))
            .bind(Millis(before))
            .bind(Millis(now))
            .bind(i64::from(limit));
        self.write(update).await
    }

    async fn channels(&self) -> Result<Vec<ChannelRecord>> {
        let rows = self
            .read(sqlx::query(AssertSqlSafe(format!(
                "{CHANNEL} ORDER BY name"
            ))))
            .await?;
        let count = "SELECT channel, state, count(*) AS notifications FROM notifications GROUP BY channel, state";
        let counts = self.read(sqlx::query(count)).await?;
        let counts = counts
            .iter()
            .map(CountRow::from_row)
            .collect::<Result<Vec<_>, _>>()?;
        let record = |row| {
            let channel = ChannelRow::from_row(row)?;
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
            Ok(ChannelRecord {
                name,
                state: channel.into(),
                told,
            })
        };
        rows.iter().map(record).collect()
    }

    async fn backlogs(&self, channels: &[&str]) -> Result<Vec<Backlog>> {
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
            .fold(sqlx::query(AssertSqlSafe(query)), |query, name| {
                query.bind(*name)
            });
        let rows = self.read(query).await?;
        rows.iter()
            .map(|row| Ok(BacklogRow::from_row(row)?.into()))
            .collect()
    }

    async fn notifications(
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
        let query = sqlx::query(AssertSqlSafe(query))
            .bind(i64::from(limit))
            .bind(event.0)
            .bind(channel);
        let query = filter
            .channel
            .iter()
            .fold(query, |query, channel| query.bind(channel.as_str()));
        self.read(query)
            .await?
            .iter()
            .map(|row| Ok(ToldRow::from_row(row)?.try_into()?))
            .collect()
    }
}
