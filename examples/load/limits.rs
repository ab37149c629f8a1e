//! The limits of the services, to compare Tallyhook's numbers with.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::json;
use sqlx::Connection as _;
use sqlx_postgres::PgConnection;

use crate::Report;
use crate::place::Place;

/// As large as a message with a usual event.
const MESSAGE_BYTES: usize = 2048;
/// As large as a usual payload when it is compressed.
const BODY_BYTES: usize = 3072;
/// Messages without a confirm: the maximum of Tallyhook's publisher.
const IN_FLIGHT: usize = 512;
/// Rows of one statement.
const ROWS: usize = 64;
const QUEUE: &str = "tallyhook.load.limits";

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn measure(
    place: &Place,
    time: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let confirmed = confirms(place.amqp_url.as_deref().context("no broker")?, time).await?;
    let inserted = inserts(place.database_url.as_deref().context("no database")?, time).await?;
    report.add(
        "limits",
        json!({
            "confirms_per_second": confirmed,
            "message_bytes": MESSAGE_BYTES,
            "rows_inserted_per_second": inserted,
            "row_bytes": BODY_BYTES,
            "rows_per_commit": ROWS,
        }),
    );
    Ok(())
}

/// Messages that one plain publisher gets confirmed by a quorum queue.
async fn confirms(url: &str, time: Duration) -> anyhow::Result<f64> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(QUEUE.into(), durable, arguments)
        .await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let payload = vec![b'x'; MESSAGE_BYTES];
    let (mut waiting, mut confirmed) = (FuturesUnordered::new(), 0_u64);
    let started = Instant::now();
    while started.elapsed() < time {
        while waiting.len() < IN_FLIGHT {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions::default();
            waiting.push(
                channel
                    .basic_publish("".into(), QUEUE.into(), options, &payload, properties)
                    .await?,
            );
        }
        waiting.next().await.context("nothing is waited for")??;
        confirmed += 1;
    }
    let rate = confirmed as f64 / started.elapsed().as_secs_f64();
    channel
        .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
        .await?;
    connection.close(200, "done".into()).await?;
    Ok(rate)
}

/// Rows that two connections insert by statements of many rows, each a commit, as Tallyhook's group
/// commit has them.
async fn inserts(url: &str, time: Duration) -> anyhow::Result<f64> {
    let mut connection = PgConnection::connect(url).await?;
    let table = "CREATE TABLE limits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, guid text UNIQUE, body bytea)";
    sqlx::raw_sql(table).execute(&mut connection).await?;
    let started = Instant::now();
    let (one, two) = tokio::try_join!(insert(url, started, time), insert(url, started, time))?;
    let rate = (one + two) as f64 / started.elapsed().as_secs_f64();
    sqlx::raw_sql("DROP TABLE limits")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(rate)
}

async fn insert(url: &str, started: Instant, time: Duration) -> anyhow::Result<usize> {
    let mut connection = PgConnection::connect(url).await?;
    // Nothing that PostgreSQL could make smaller, like a body that is compressed already.
    let bodies: Vec<Vec<u8>> = (0..ROWS)
        .map(|_| (0..BODY_BYTES).map(|_| rand::random()).collect())
        .collect();
    let mut rows = 0;
    while started.elapsed() < time {
        let guids: Vec<String> = (0..ROWS)
            .map(|_| uuid::Uuid::new_v4().to_string())
            .collect();
        sqlx::query(
            "INSERT INTO limits (guid, body) SELECT * FROM UNNEST($1::text[], $2::bytea[])",
        )
        .bind(&guids)
        .bind(&bodies)
        .execute(&mut connection)
        .await?;
        rows += ROWS;
    }
    connection.close().await?;
    Ok(rows)
}
