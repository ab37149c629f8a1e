//! What there is at the broker. Declared by every connection, so that a broker that was wiped clean is made whole.
//!
//! Names and arguments are one: a queue whose arguments are to change needs a new name, hence the `v1`.

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

/// Is there for as long as somebody makes the lanes anew.
const MENDING: &str = "tallyhook.v1.mending";
/// The broker waits for the members of a dead queue before it deletes it without them.
const DELETING: Duration = Duration::from_secs(20);

/// After so many deliveries without an acknowledgement the broker puts a message aside: the last fence, long after the
/// row has used up its attempts.
const DELIVERY_LIMIT: i64 = 20;
/// What a broker holds at the most; the inbox holds the rest.
const LONGEST_LANE: i64 = 100_000;
/// Copies for people to look at, of which the oldest go first.
const LONGEST_ASIDE: i64 = 10_000;
const ASIDE_DAYS: i64 = 14;

/// The queue of a lane.
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

/// Work waits here until it is done.
fn lane_arguments() -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", number(DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(DEAD)),
        ("x-dead-letter-strategy", text("at-least-once")),
        // A message that does not fit is refused, not dropped; its row is due again at once.
        ("x-overflow", text("reject-publish")),
        ("x-max-length", number(LONGEST_LANE)),
    ])
}

/// Copies wait here for somebody to look at them.
fn aside_arguments() -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-overflow", text("drop-head")),
        ("x-max-length", number(LONGEST_ASIDE)),
        ("x-message-ttl", number(ASIDE_DAYS * 24 * 60 * 60 * 1000)),
    ])
}

/// Declares everything. Where it is there already nothing happens.
///
/// # Errors
/// What failed, among it a queue or exchange of that name with other arguments.
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

/// The first of it that is not there, which closes the channel.
///
/// # Errors
/// What failed.
pub(super) async fn missing(channel: &Channel) -> Result<Option<&'static str>, String> {
    for (name, kind) in [
        (UNROUTED, ExchangeKind::Fanout),
        (EVENTS, ExchangeKind::Topic),
    ] {
        let options = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let declared = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
        if !is_there(name, declared).await? {
            return Ok(Some(name));
        }
    }
    for name in [DEAD, UNROUTED].into_iter().chain(Lane::ALL.map(queue)) {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        if !is_there(
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

async fn is_there<T>(
    name: &str,
    declared: impl Future<Output = lapin::Result<T>>,
) -> Result<bool, String> {
    let is_missing = |error: &lapin::Error| matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == AMQPSoftError::NOTFOUND.get_id());
    let there = async {
        match declared.await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    };
    within(name, there).await
}

/// How many messages wait in a lane, without those that a worker has in hand.
///
/// # Errors
/// If the queue is not there, which closes the channel too.
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

/// Takes what one connection at a time can have.
///
/// # Errors
/// If another has it, or what failed; both close the channel.
pub(super) async fn lock(channel: &Channel) -> Result<(), String> {
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    within(
        MENDING,
        channel.queue_declare(MENDING.into(), options, FieldTable::default()),
    )
    .await
    .map(drop)
}

/// Gives it back, as the end of the connection does.
///
/// # Errors
/// What failed.
pub(super) async fn unlock(channel: &Channel) -> Result<(), String> {
    within(
        MENDING,
        channel.queue_delete(MENDING.into(), QueueDeleteOptions::default()),
    )
    .await
    .map(drop)
}

/// Removes the lanes with what is in them; each of those deliveries is in the inbox.
///
/// # Errors
/// What failed.
pub(super) async fn delete_lanes(channel: &Channel) -> Result<(), String> {
    for lane in Lane::ALL {
        let deleted = channel.queue_delete(queue(lane).into(), QueueDeleteOptions::default());
        within_time(DELETING, queue(lane), deleted).await?;
    }
    Ok(())
}
