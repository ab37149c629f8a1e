//! Statements about channels and notifications.

use super::row::{BacklogRow, ChannelRow, CountRow, JoinedNotificationRow};
use super::{
    AttemptResult, ChannelBacklog, ChannelPause, ChannelRecord, ChannelState, NotificationAttempt,
    NotificationCounts, NotificationFilter, NotificationRow, NotificationState,
};
use crate::columns::{Millis, Name, storable_text};
use crate::database::{Database, Statement, StatementBuilder, statement};
use crate::outbox::{NewOutboxEvent, OutboxRow, add_task_keys, append_events};
use crate::{ChannelDigest, EventId, Moment, OutboxPayload, Result, Store, TeamId, TeamStore};

const CHANNEL: &str = "SELECT team_id, name, place, rests_until, failures, last_error, last_error_at, digest_day \
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
    (team, channel): (TeamId, &'q str),
    pause: ChannelPause,
    failure: Option<(&'q str, Moment)>,
) -> Statement<'q> {
    let update = match failure {
        None => statement(
            "UPDATE channels SET rests_until = $3, failures = $4 WHERE team_id = $1 AND name = $2",
        ),
        Some(_) => statement(
            "UPDATE channels SET rests_until = $3, failures = $4, last_error = $5, \
             last_error_at = $6 \
             WHERE team_id = $1 AND name = $2",
        ),
    };
    let update = update
        .bind(team.0)
        .bind(channel)
        .bind(pause.until.map(Millis))
        .bind(i64::from(pause.failures));
    match failure {
        None => update,
        Some((answer, at)) => update.bind(answer).bind(Millis(at)),
    }
}

impl TeamStore {
    /// Returns the state of a channel of the team. A new one begins behind the newest event.
    pub async fn open_channel(&self, channel: &str) -> Result<ChannelState> {
        let query = format!("{CHANNEL} WHERE team_id = $1 AND name = $2");
        let read = || statement(query.clone()).bind(self.team.0).bind(channel);
        let mut row: Option<ChannelRow> = self.database.row(read()).await?;
        if row.is_none() {
            let insert = "INSERT INTO channels (team_id, name, place) \
                          SELECT $1, $2, coalesce(max(id), 0) FROM outbox WHERE true \
                          ON CONFLICT (team_id, name) DO NOTHING";
            let insert = statement(insert).bind(self.team.0).bind(channel);
            self.database.execute(insert).await?;
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
        let update = statement(
            "UPDATE channels SET place = $4 WHERE team_id = $1 AND name = $2 AND place = $3",
        );
        let update = update.bind(self.team.0).bind(channel);
        let update = update.bind(from.0).bind(to.0);
        if transaction.execute(update).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        for (event, subject) in wanted {
            let insert = "INSERT INTO notifications (team_id, event_id, channel, subject, \
                          taken_up_at, next_attempt_at) \
                          VALUES ($1, $2, $3, $4, $5, $5)";
            let insert = statement(insert)
                .bind(self.team.0)
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
            "{} WHERE notifications.team_id = $1 AND channel = $2 AND state = 'pending' \
             AND next_attempt_at <= $3 ORDER BY event_id LIMIT $4",
            notification_query()
        );
        let query = statement(query)
            .bind(self.team.0)
            .bind(channel)
            .bind(Millis(now))
            .bind(i64::from(limit));
        let rows = self.database.rows(query).await?;
        self.with_events(rows).await
    }

    /// Returns the time at which the next one is due, if any is pending.
    pub async fn next_notification_at(&self, channel: &str) -> Result<Option<Moment>> {
        let query = "SELECT min(next_attempt_at) FROM notifications WHERE team_id = $1 \
                     AND channel = $2 AND state = 'pending'";
        let query = statement(query).bind(self.team.0).bind(channel);
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
             finished_at = $7 WHERE event_id = $1 AND channel = $2 AND team_id = $8 \
             AND state = 'pending'",
        );
        let update = update
            .bind(event.0)
            .bind(channel)
            .bind(state)
            .bind(i64::from(counts));
        let update = update
            .bind(Millis(next_attempt_at))
            .bind(answer.as_str())
            .bind(finished_at)
            .bind(self.team.0);
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
        let pause = pause_statement((self.team, channel), rest, failure);
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
             WHERE event_id = $1 AND channel = $2 AND team_id = $4 AND state = 'dead'",
        );
        let update = update.bind(event.0).bind(channel).bind(Millis(now));
        let update = update.bind(self.team.0);
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
             WHERE event_id = $1 AND channel = $2 AND team_id = $4 AND state = 'pending' \
             AND (EXISTS (\
                 SELECT 1 FROM notifications later WHERE later.event_id > $1 \
                 AND later.team_id = $4 AND later.channel = $2 \
                 AND later.subject = earlier.subject AND later.state = 'sent') \
             OR earlier.held_until IS NOT NULL AND EXISTS (\
                 SELECT 1 FROM notifications later WHERE later.event_id > $1 \
                 AND later.team_id = $4 AND later.channel = $2 \
                 AND later.subject = earlier.subject \
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
        let update = update.bind(event.0).bind(channel).bind(Millis(now));
        Ok(self.database.execute(update.bind(self.team.0)).await? == 1)
    }

    /// Marks the pending notifications of a channel as held until the end of its quiet hours.
    pub async fn hold_notifications(&self, channel: &str, until: Moment) -> Result<u64> {
        let update = statement(
            "UPDATE notifications SET held_until = $2 WHERE channel = $1 AND team_id = $3 \
             AND state = 'pending' AND (held_until IS NULL OR held_until < $2)",
        );
        let update = update.bind(channel).bind(Millis(until)).bind(self.team.0);
        self.database.execute(update).await
    }

    /// Records that the digest of that day was made, and adds it to the outbox unless it is empty.
    /// Returns false if there was one of that day or a later day; then nothing is done.
    pub async fn record_digest(&self, digest: &ChannelDigest, now: Moment) -> Result<bool> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let update = statement(
            "UPDATE channels SET digest_day = $2 WHERE name = $1 AND team_id = $3 \
             AND (digest_day IS NULL OR digest_day < $2)",
        );
        let day = digest.content.day.to_string();
        let update = update.bind(digest.channel.as_str()).bind(day);
        let update = update.bind(self.team.0);
        if transaction.execute(update).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        if !digest.content.items.is_empty() {
            let digest = OutboxPayload::Digest(digest.clone());
            let event = NewOutboxEvent::of_team(self.team, None, digest);
            append_events(&mut transaction, &[event], now).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns notifications with their events, as the team is notified of them.
    async fn with_events(&self, rows: Vec<JoinedNotificationRow>) -> Result<Vec<NotificationRow>> {
        let rows = rows.into_iter().map(NotificationRow::try_from);
        let mut rows: Vec<_> = rows.collect::<std::result::Result<_, sqlx::Error>>()?;
        add_task_keys(&self.database, rows.iter_mut().map(|row| &mut row.event)).await?;
        for row in &mut rows {
            // Made while the team could see the repository, and kept like a message that was sent.
            row.event.teams = vec![self.team];
            row.event = row
                .event
                .of_team(self.team)
                .unwrap_or_else(|| row.event.clone());
        }
        Ok(rows)
    }
}

impl Store {
    /// Marks pending notifications of all teams dead, at most `limit`, whose events were recorded before `before`,
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
             WHERE state = 'pending' AND (event_id, team_id, channel) IN (\
                 SELECT event_id, notifications.team_id, channel FROM notifications \
                 JOIN outbox ON id = event_id WHERE state = 'pending' AND recorded_at < $1 \
                 AND coalesce(held_until, recorded_at) < $1 LIMIT $3)"
        );
        let update = statement(update)
            .bind(Millis(before))
            .bind(Millis(now))
            .bind(i64::from(limit));
        self.database.execute(update).await
    }

    /// Returns every channel of any team that ever had a worker, by name and team.
    pub async fn channels(&self) -> Result<Vec<ChannelRecord>> {
        channels(&self.database, None).await
    }
}

/// Reads the channels of a team, or of all.
async fn channels(database: &Database, team: Option<TeamId>) -> Result<Vec<ChannelRecord>> {
    let team = team.map(|TeamId(id)| id);
    let query = format!("{CHANNEL} WHERE team_id = coalesce($1, team_id) ORDER BY name, team_id");
    let rows = database.rows(statement(query).bind(team)).await?;
    let count = "SELECT team_id, channel, state, count(*) AS notifications FROM notifications \
                 WHERE team_id = coalesce($1, team_id) GROUP BY team_id, channel, state";
    let count_rows: Vec<CountRow> = database.rows(statement(count).bind(team)).await?;
    let record = |channel: ChannelRow| {
        let (team, name) = (channel.team_id, channel.name.clone());
        let mut counts = NotificationCounts::default();
        let is_of = |count: &&CountRow| count.team_id == team && count.channel == name;
        for count in count_rows.iter().filter(is_of) {
            let place = match count.state.0 {
                NotificationState::Pending => &mut counts.pending,
                NotificationState::Sent => &mut counts.sent,
                NotificationState::Dead => &mut counts.dead,
                NotificationState::Superseded => &mut counts.superseded,
            };
            *place = count.notifications.unsigned_abs();
        }
        ChannelRecord {
            team: TeamId(team),
            name,
            state: channel.into(),
            counts,
        }
    };
    Ok(rows.into_iter().map(record).collect())
}

impl TeamStore {
    /// Returns every channel of the team that ever had a worker, by name.
    pub async fn channels(&self) -> Result<Vec<ChannelRecord>> {
        channels(&self.database, Some(self.team)).await
    }

    /// Returns the backlogs of those of `channels` of the team that ever had a worker, by name; its
    /// events that were not looked at yet are included.
    pub async fn backlogs(&self, channels: &[&str]) -> Result<Vec<ChannelBacklog>> {
        if channels.is_empty() {
            return Ok(Vec::new());
        }
        // A channel that is no longer in any settings stays where it was, and every later event
        // would be counted.
        let names = (2..=channels.len() + 1)
            .map(|place| format!("${place}"))
            .collect::<Vec<_>>()
            .join(", ");
        let of = |state: &str, what: &str| {
            format!(
                "(SELECT {what} FROM notifications WHERE notifications.team_id = $1 \
                 AND channel = channels.name AND state = '{state}')"
            )
        };
        let (count, since) = (of("pending", "count(*)"), of("pending", "min(taken_up_at)"));
        let dead = of("dead", "count(*)");
        // These stay if no worker runs that has the channel in its settings.
        let visible = OutboxRow::visible_to("$1");
        let unseen = format!("FROM outbox WHERE id > place AND {visible}");
        let query = format!(
            "SELECT name, failures, {count} AS pending, {since} AS since, {dead} AS dead, \
             (SELECT count(*) {unseen}) AS unseen, (SELECT recorded_at {unseen} ORDER BY id \
             LIMIT 1) AS unseen_since \
             FROM channels WHERE team_id = $1 AND name IN ({names}) ORDER BY name"
        );
        let query = statement(query).bind(self.team.0);
        let query = channels.iter().fold(query, |query, name| query.bind(*name));
        let rows = self.database.rows(query).await?;
        Ok(rows.into_iter().map(|row: BacklogRow| row.into()).collect())
    }

    /// Counts notifications; the place to go on from counts for nothing.
    pub async fn count_notifications(&self, filter: &NotificationFilter) -> Result<u64> {
        let mut query = StatementBuilder::new(format!(
            "SELECT count(*) FROM ({} WHERE notifications.team_id = ",
            notification_query()
        ));
        query.push_bind(self.team.0);
        push_filter(&mut query, filter);
        query.push(") AS listed");
        let row: Option<(i64,)> = self.database.row(query.build()).await?;
        Ok(row.map_or(0, |(count,)| count.unsigned_abs()))
    }

    /// Returns notifications of the team, at most `limit`.
    pub async fn notifications(
        &self,
        filter: &NotificationFilter,
        limit: u32,
    ) -> Result<Vec<NotificationRow>> {
        let (event, channel) = filter
            .after
            .clone()
            .unwrap_or((EventId(i64::MAX), String::new()));
        let mut query = StatementBuilder::new(format!(
            "{} WHERE notifications.team_id = ",
            notification_query()
        ));
        // Said of both tables, so that neither is read from its newest row on.
        query
            .push_bind(self.team.0)
            .push(" AND id <= ")
            .push_bind(event.0)
            .push(" AND event_id <= ")
            .push_bind(event.0)
            .push(" AND (event_id < ")
            .push_bind(event.0)
            .push(" OR channel > ")
            .push_bind(channel)
            .push(")");
        push_filter(&mut query, filter);
        query
            .push(" ORDER BY event_id DESC, channel LIMIT ")
            .push_bind(i64::from(limit));
        let rows = self.database.rows(query.build()).await?;
        self.with_events(rows).await
    }
}

fn push_filter(query: &mut StatementBuilder<'_>, filter: &NotificationFilter) {
    if let Some(channel) = &filter.channel {
        query.push(" AND channel = ").push_bind(channel.clone());
    }
    if let Some(state) = filter.state {
        // No argument, which PostgreSQL would not look up in an index of one state.
        query.push(&format!(" AND state = '{}'", Name(state)));
    }
}
