//! The topology at the broker. Every connection declares it, so that it is restored after a broker
//! was wiped.
//!
//! A queue whose arguments change needs a new name, hence the `v1`: the broker refuses to redeclare
//! it otherwise.

use std::time::Duration;

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, ErrorKind, ExchangeKind};

use super::{Lane, within, within_time};

pub(super) const EVENTS: &str = "tallyhook.v1.events";
const UNROUTED: &str = "tallyhook.v1.unrouted";
pub(super) const DEAD: &str = "tallyhook.v1.dead";

/// The exclusive queue that serves as a lock while a process replaces dead lanes.
const REPLACE_LOCK: &str = "tallyhook.v1.mending";
/// The time limit of deleting a lane: the broker waits for the members of a dead queue before it
/// deletes it without them.
const DELETE_TIMEOUT: Duration = Duration::from_secs(20);

/// The number of deliveries without an acknowledgement after which the broker dead-letters a
/// message: the last fence, long after the row has used up its attempts.
const DELIVERY_LIMIT: i64 = 20;
/// The most messages in a lane; the inbox holds the rest.
const MAX_LANE_LENGTH: i64 = 100_000;
/// The most copies of dead letters; the oldest are dropped first.
const MAX_ASIDE_LENGTH: i64 = 10_000;
const ASIDE_DAYS: i64 = 14;

/// Returns the name of a lane's queue.
pub(super) const fn queue(lane: Lane) -> &'static str {
    match lane {
        Lane::Live => "tallyhook.v1.live",
        Lane::Backfill => "tallyhook.v1.backfill",
    }
}

fn table<const N: usize>(arguments: [(&'static str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(ShortString::from(name), value);
    }
    table
}

fn text(text: &'static str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

fn number(number: i64) -> AMQPValue {
    AMQPValue::LongLongInt(number)
}

/// The arguments of the queues of work.
fn lane_arguments() -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", number(DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(DEAD)),
        ("x-dead-letter-strategy", text("at-least-once")),
        // A message that does not fit is nacked, not dropped; its row is due again at once.
        ("x-overflow", text("reject-publish")),
        ("x-max-length", number(MAX_LANE_LENGTH)),
    ])
}

/// The arguments of the queues of copies that people look at.
fn aside_arguments() -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-overflow", text("drop-head")),
        ("x-max-length", number(MAX_ASIDE_LENGTH)),
        ("x-message-ttl", number(ASIDE_DAYS * 24 * 60 * 60 * 1000)),
    ])
}

/// Declares all exchanges, queues and bindings. Changes nothing that exists.
///
/// # Errors
/// The declaration that failed; a queue or exchange of that name with other arguments is one
/// reason.
pub(super) async fn declare(channel: &Channel) -> Result<(), String> {
    exchange(
        channel,
        UNROUTED,
        ExchangeKind::Fanout,
        FieldTable::default(),
    )
    .await?;
    exchange(
        channel,
        EVENTS,
        ExchangeKind::Topic,
        table([("alternate-exchange", text(UNROUTED))]),
    )
    .await?;
    declare_queue(channel, DEAD, aside_arguments()).await?;
    declare_queue(channel, UNROUTED, aside_arguments()).await?;
    bind(channel, UNROUTED, UNROUTED, "").await?;
    for lane in Lane::ALL {
        declare_queue(channel, queue(lane), lane_arguments()).await?;
        bind(
            channel,
            queue(lane),
            EVENTS,
            &format!("{}.#", lane.as_str()),
        )
        .await?;
    }
    Ok(())
}

async fn exchange(
    channel: &Channel,
    name: &'static str,
    kind: ExchangeKind,
    arguments: FieldTable,
) -> Result<(), String> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    within(
        name,
        channel.exchange_declare(name.into(), kind, options, arguments),
    )
    .await
}

async fn declare_queue(
    channel: &Channel,
    name: &'static str,
    arguments: FieldTable,
) -> Result<(), String> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    within(name, channel.queue_declare(name.into(), options, arguments))
        .await
        .map(drop)
}

async fn bind(
    channel: &Channel,
    queue: &'static str,
    exchange: &'static str,
    key: &str,
) -> Result<(), String> {
    let bound = channel.queue_bind(
        queue.into(),
        exchange.into(),
        key.into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    within(queue, bound).await
}

/// Returns the first exchange or queue that is missing; then the channel is closed.
///
/// # Errors
/// The request that failed.
pub(super) async fn find_missing(channel: &Channel) -> Result<Option<&'static str>, String> {
    for (name, kind) in [
        (UNROUTED, ExchangeKind::Fanout),
        (EVENTS, ExchangeKind::Topic),
    ] {
        let options = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let declared = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
        if !exists(name, declared).await? {
            return Ok(Some(name));
        }
    }
    for name in [DEAD, UNROUTED].into_iter().chain(Lane::ALL.map(queue)) {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        if !exists(
            name,
            channel.queue_declare(name.into(), options, FieldTable::default()),
        )
        .await?
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

async fn exists<T>(
    name: &str,
    declared: impl Future<Output = lapin::Result<T>>,
) -> Result<bool, String> {
    let is_missing = |error: &lapin::Error| match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_id() == AMQPSoftError::NOTFOUND.get_id(),
        _ => false,
    };
    let exists = async {
        match declared.await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    };
    within(name, exists).await
}

/// Returns the number of messages that wait in a lane, without the unacknowledged ones.
///
/// # Errors
/// If the queue is missing, which closes the channel too.
pub(super) async fn depth(channel: &Channel, lane: Lane) -> Result<usize, String> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = within(
        queue(lane),
        channel.queue_declare(queue(lane).into(), options, FieldTable::default()),
    )
    .await?;
    Ok(usize::try_from(declared.message_count()).unwrap_or(usize::MAX))
}

/// Acquires the lock that one connection at a time can hold.
///
/// # Errors
/// If another connection holds it, or the request failed; both close the channel.
pub(super) async fn lock(channel: &Channel) -> Result<(), String> {
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    within(
        REPLACE_LOCK,
        channel.queue_declare(REPLACE_LOCK.into(), options, FieldTable::default()),
    )
    .await
    .map(drop)
}

/// Releases the lock, as the end of the connection does.
///
/// # Errors
/// The request that failed.
pub(super) async fn unlock(channel: &Channel) -> Result<(), String> {
    within(
        REPLACE_LOCK,
        channel.queue_delete(REPLACE_LOCK.into(), QueueDeleteOptions::default()),
    )
    .await
    .map(drop)
}

/// Deletes the lanes with their messages; each of those deliveries is in the inbox.
///
/// # Errors
/// The request that failed.
pub(super) async fn delete_lanes(channel: &Channel) -> Result<(), String> {
    for lane in Lane::ALL {
        let deleted = channel.queue_delete(queue(lane).into(), QueueDeleteOptions::default());
        within_time(DELETE_TIMEOUT, queue(lane), deleted).await?;
    }
    Ok(())
}
