//! Deliveries as people's work sends them: a number per second, each timed until it is applied.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, ensure};
use tallyhook_core::github::signature::Secrets;
use tallyhook_store::DeliveryState;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::server::{SECRET, Server};
use testkit::github::world::Webhook;

/// Interval of checking whether a delivery is applied: the resolution of the latencies.
const LOOKING: Duration = Duration::from_millis(1);

/// From when each was due until it was applied, the shortest first.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Such that `part` of them are no longer.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let place = (self.0.len() as f64 * part).ceil() as usize;
        self.0
            .get(place.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, most] =
            [0.5, 0.99, 1.0].map(|part| self.quantile(part).as_secs_f64() * 1000.0);
        write!(
            f,
            "p50 {p50:.1}, p99 {p99:.1}, longest {most:.1} ms of {}",
            self.0.len()
        )
    }
}

/// Over after so long.
pub(crate) async fn lasting(time: Duration) {
    sleep(time).await;
}

/// Sends one after the other of `webhooks` until `over`.
pub(crate) async fn deliver(
    server: &Server,
    mut webhooks: impl Iterator<Item = Webhook>,
    per_second: f64,
    over: impl Future<Output = ()>,
) -> anyhow::Result<Latencies> {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / per_second));
    // A delivery that is late is late by so much, and the next one is due when it is due.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut over = std::pin::pin!(over);
    let mut under_way = JoinSet::new();
    loop {
        let due = tokio::select! {
            due = ticks.tick() => due,
            () = &mut over => break,
        };
        let Webhook {
            event,
            guid,
            payload,
            ..
        } = webhooks.next().context("there are no more webhooks")?;
        let body = payload.to_string().into_bytes();
        let signature = Secrets::single(SECRET)
            .context("a secret")?
            .sign(&body)
            .to_header();
        let request = server.http.post(format!("{}/webhooks/github", server.url));
        let request = request
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", event)
            .header("X-GitHub-Delivery", &guid)
            .header("X-Hub-Signature-256", signature)
            .body(body);
        let store = server.store.clone();
        under_way.spawn(async move {
            let status = request.send().await?.status();
            ensure!(status == 202, "a delivery was answered with {status}");
            while store
                .deliveries_by_guid(&guid)
                .await?
                .iter()
                .any(|one| one.state == DeliveryState::Accepted)
            {
                sleep(LOOKING).await;
            }
            Ok(due.elapsed())
        });
    }
    let mut latencies = under_way
        .join_all()
        .await
        .into_iter()
        .collect::<anyhow::Result<Vec<_>>>()?;
    latencies.sort_unstable();
    Ok(Latencies(latencies))
}
