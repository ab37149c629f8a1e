//! The program is killed repeatedly while it sends the changes of a stream of deliveries, which are
//! out of order and in part repeated, to a channel. Every change is sent. A change is sent twice
//! only if the program was killed between sending it and recording that, and then with the same
//! idempotency key.
//!
//! `TALLYHOOK_NOTIFIED` sets the number of deliveries.

#![cfg(feature = "crash-points")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tallyhook::app::ServerOptions;
use tallyhook::config::{
    ChannelConfig as Channel, ChannelFilter as Filter, ChannelHours, ChannelReceiver as Kind,
};
use tallyhook::notify::Notification;
use tallyhook_core::github::types::RepoId;
use tallyhook_store::EventId;

use testkit::payloads::{self, Account, Pr, World};
use testkit::process::{self, Serve, signed, tallyhook};
use testkit::receiver::{Received, Receiver};
use testkit::{Place, TestServer};

/// The default number of deliveries.
const DELIVERIES: usize = 2_000;
/// Deliveries of one pull request, without repetitions.
const EACH: usize = 4;
/// One of this many pull requests is older than the tracking of its repository.
const OLD: i64 = 10;
const SIGKILL: i32 = 9;
const SIGABRT: i32 = 6;
/// Kills at the crash point, and by SIGKILL.
const KILLS: usize = 6;
/// Concurrent requests.
const AT_ONCE: usize = 32;
/// The maximal displacement of a delivery in the stream.
const DISORDER: usize = 64;
const CHANNEL: &str = "webhook";

struct StreamedDelivery {
    guid: String,
    body: Vec<u8>,
}

fn mira() -> Account {
    Account::user(900_000_101, "mira")
}

/// The time from which the repository is tracked.
fn tracked_since() -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_500_000, 0).unwrap()
}

/// A pull request's new status and its time.
type StatusAt = (i64, &'static str, String);

/// Returns one pull request's deliveries in order, and the changes in them.
fn history(number: i64) -> (Vec<StreamedDelivery>, [StatusAt; 2]) {
    let begin = if number % OLD == 0 {
        tracked_since() - TimeDelta::days(9)
    } else {
        tracked_since()
    };
    let at =
        |minutes| (begin + TimeDelta::minutes(minutes)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut pr = Pr::new(
        &World::acme(),
        number,
        Some(&mira()),
        "Answer 429",
        "rate-limit",
        &at(number % 60),
    );
    let mut deliveries = Vec::with_capacity(EACH);
    let mut deliver = |pr: &Pr, action: &str| {
        let body = payloads::pull_request_event(pr, action, &mira(), json!({}))
            .to_string()
            .into_bytes();
        deliveries.push(StreamedDelivery {
            guid: uuid::Uuid::new_v4().to_string(),
            body,
        });
    };
    deliver(&pr, "opened");
    for minutes in [100, 200] {
        pr.touch(&at(minutes));
        deliver(&pr, "edited");
    }
    let ended = if number % 3 == 0 {
        pr.close(&at(300));
        "CLOSED"
    } else {
        pr.merge(&mira(), &at(300));
        "MERGED"
    };
    deliver(&pr, "closed");
    (
        deliveries,
        [
            (number, "OPEN", pr.created_at),
            (number, ended, pr.updated_at),
        ],
    )
}

/// Returns the deliveries of all pull requests, slightly out of order, and some of them repeated.
fn stream_of(count: usize, random: &mut StdRng) -> (Vec<StreamedDelivery>, Vec<[StatusAt; 2]>) {
    let histories = (1..=i64::try_from(count / EACH).unwrap()).map(history);
    let (deliveries, notified): (Vec<_>, Vec<_>) = histories.unzip();
    let mut order: Vec<StreamedDelivery> = Vec::with_capacity(count * 3 / 2);
    for StreamedDelivery { guid, body } in deliveries.into_iter().flatten() {
        for _ in 0..[1, 1, 2, 3][random.random_range(0..4)] {
            // A redelivery has the same GUID, the delivery of a second webhook has another one.
            let guid = if random.random_bool(0.5) {
                guid.clone()
            } else {
                uuid::Uuid::new_v4().to_string()
            };
            order.push(StreamedDelivery {
                guid,
                body: body.clone(),
            });
        }
    }
    order
        .chunks_mut(DISORDER)
        .for_each(|near| near.shuffle(random));
    (order, notified)
}

/// The kill that ends one run of the program.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// Between sending and recording, after this many were sent.
    Sent(usize),
    /// By SIGKILL, after this many were received.
    Sigkill(usize),
}

/// Posts deliveries until the program ends or all are accepted. Returns those that were not.
async fn post(
    url: &str,
    http: &reqwest::Client,
    deliveries: Vec<StreamedDelivery>,
) -> Vec<StreamedDelivery> {
    let answers = stream::iter(deliveries).map(|delivery| {
        let request = signed(http, url, "pull_request", &delivery.guid, &delivery.body);
        async move { (delivery, request.send().await) }
    });
    let refused = answers
        .buffer_unordered(AT_ONCE)
        .filter_map(async |(delivery, answer)| {
            let is_taken = answer.is_ok_and(|answer| answer.status().is_success());
            (!is_taken).then_some(delivery)
        });
    refused.collect().await
}

/// Runs the program once. Returns the received messages, and the deliveries that it did not accept.
async fn run_until_killed(
    place: &Place,
    receiver: &mut Receiver,
    deliveries: Vec<StreamedDelivery>,
    end: Kill,
) -> (Vec<Received>, Vec<StreamedDelivery>) {
    let mut command = tallyhook(place.path(), &["serve", "--log-format", "json"]);
    command
        .env("NOTIFY_WEBHOOK_URL", format!("{}/hook", receiver.url))
        .env("NOTIFY_ALLOW_PRIVATE", "true");
    if let Kill::Sent(count) = end {
        command.env("TALLYHOOK_CRASH_AT", format!("notify.sent:{count}"));
    }
    let mut serve = tokio::task::spawn_blocking(move || Serve::start_command(&mut command))
        .await
        .unwrap();
    let (url, http) = (serve.url.clone(), reqwest::Client::new());
    let posting = post(&url, &http, deliveries);
    let receiving = async {
        let count = match end {
            Kill::Sent(count) | Kill::Sigkill(count) => count,
        };
        let mut received = Vec::new();
        for _ in 0..count {
            received.push(receiver.next().await);
        }
        if let Kill::Sigkill(_) = end {
            serve.kill();
        }
        received
    };
    let (open, mut received) = futures_util::future::join(posting, receiving).await;
    let (status, _) = tokio::task::spawn_blocking(move || serve.wait())
        .await
        .unwrap();
    let expected = if matches!(end, Kill::Sent(_)) {
        SIGABRT
    } else {
        SIGKILL
    };
    assert_eq!(status.signal(), Some(expected), "{end:?}");
    while let Some(more) = receiver.try_next() {
        received.push(more);
    }
    (received, open)
}

/// Runs the program for the last time, until everything is sent.
async fn run_to_the_end(
    place: Place,
    receiver: &mut Receiver,
    deliveries: Vec<StreamedDelivery>,
) -> (TestServer, Vec<Received>) {
    let mut config = testkit::config(&place);
    config.notify.channels = vec![Channel {
        name: CHANNEL.to_owned(),
        team: None,
        receiver: Kind::Webhook { secret: None },
        url: format!("{}/hook", receiver.url),
        filter: Filter::default(),
        hours: ChannelHours::default(),
    }];
    config.webhook_secrets = tallyhook_core::github::signature::Secrets::single(process::SECRET);
    let mut server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    assert_eq!(post(&server.url, &server.http, deliveries).await.len(), 0);
    server.drained().await;
    let newest = server.running.store.newest_event().await.unwrap();
    let (mut received, mut latest) = (Vec::new(), Instant::now());
    loop {
        let channel = server.running.store.channels().await.unwrap().remove(0);
        while let Some(more) = receiver.try_next() {
            received.push(more);
            latest = Instant::now();
        }
        if channel.state.place == newest && channel.counts.pending == 0 {
            assert_eq!((channel.counts.dead, channel.counts.superseded), (0, 0));
            return (server, received);
        }
        assert!(
            latest.elapsed() < testkit::PATIENCE,
            "nothing is sent any more: {channel:?}"
        );
        tokio::task::yield_now().await;
    }
}

/// Returns all events of the outbox as notifications.
async fn outbox(server: &TestServer) -> Vec<Notification> {
    let (mut notified, mut place) = (Vec::new(), EventId::BEGINNING);
    loop {
        let events = server
            .running
            .store
            .events_after(place, 1000)
            .await
            .unwrap();
        let Some(last) = events.last() else {
            return notified;
        };
        place = last.id;
        notified.extend(events.into_iter().map(Notification::from));
    }
}

/// Asserts that the outbox has the changes of the deliveries: for each pull request its end, and
/// before that possibly its opening, which most have; nothing twice, nothing late and nothing from
/// before tracking.
fn assert_complete(outbox: &[Notification], story: &[[StatusAt; 2]]) {
    let (mut notified, mut whole): (BTreeMap<i64, Vec<StatusAt>>, usize) = (BTreeMap::new(), 0);
    for notification in outbox {
        let Notification::PrStatusChange {
            pr_number,
            new_status,
            timestamp,
            ..
        } = notification
        else {
            panic!("{notification:?}");
        };
        notified.entry(*pr_number).or_default().push((
            *pr_number,
            new_status.as_str(),
            timestamp.to_string(),
        ));
    }
    for [opened, ended] in story {
        let notified = notified.remove(&ended.0).unwrap_or_default();
        let is_true = if ended.0 % OLD == 0 {
            notified.is_empty()
        } else {
            notified == [opened.clone(), ended.clone()] || notified == [ended.clone()]
        };
        whole += usize::from(notified.len() == 2);
        assert!(is_true, "{notified:?} of {opened:?} and {ended:?}");
    }
    assert!(notified.is_empty(), "{notified:?}");
    // Three of four: the delivery of the end is the first one in a quarter of all orders.
    assert!(
        whole > story.len() / 2,
        "of {} only {whole} were notified as open",
        story.len()
    );
}

/// Asserts that the received messages are the outbox's events. Returns the number of repetitions.
fn assert_all_received(received: &[Received], outbox: &[Notification]) -> usize {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in received {
        *times.entry(&one.body).or_default() += 1;
        keys.entry(&one.body)
            .or_default()
            .insert(one.header("idempotency-key"));
    }
    let expected: BTreeSet<_> = outbox.iter().map(Notification::to_json).collect();
    assert!(
        times
            .keys()
            .copied()
            .eq(expected.iter().map(String::as_str)),
        "other changes were sent"
    );
    assert!(
        keys.values().all(|keys| keys.len() == 1),
        "one change was sent with several keys"
    );
    assert_eq!(
        keys.values().flatten().collect::<BTreeSet<_>>().len(),
        expected.len(),
        "a key is of several"
    );
    received.len() - expected.len()
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "the numbers belong to the result")]
async fn every_change_is_sent_and_twice_only_after_a_kill_between_send_and_record() {
    let count =
        std::env::var("TALLYHOOK_NOTIFIED").map_or(DELIVERIES, |count| count.parse().unwrap());
    let mut random = StdRng::seed_from_u64(20_260_302);
    let (mut open, story) = stream_of(count, &mut random);
    let posted = open.len();
    let mut receiver = Receiver::start().await;
    let server = TestServer::start().await;
    let repo = payloads::pull_request_event(
        &Pr::new(
            &World::acme(),
            1,
            Some(&mira()),
            "",
            "",
            "2026-03-02T09:00:00Z",
        ),
        "opened",
        &mira(),
        json!({}),
    )["repository"]["id"]
        .as_i64()
        .unwrap();
    server
        .track(RepoId(repo), "acme-corp/api-server", tracked_since())
        .await;
    let place = server.stop().await;

    let began = Instant::now();
    let mut received = Vec::new();
    for life in 0..KILLS {
        // A part of the remaining deliveries, so that each run has something to send.
        let rest = open.split_off(open.len() / (KILLS + 1 - life));
        // Fewer than the changes of this part.
        let until = 1 + random.random_range(0..count / EACH / KILLS / 2);
        let end = if life % 2 == 0 {
            Kill::Sent(until)
        } else {
            Kill::Sigkill(until)
        };
        let (notified, refused) = run_until_killed(&place, &mut receiver, open, end).await;
        received.extend(notified);
        open = refused.into_iter().chain(rest).collect();
    }
    let (server, notified) = run_to_the_end(place, &mut receiver, open).await;
    received.extend(notified);
    let seconds = began.elapsed().as_secs_f64();

    let outbox = outbox(&server).await;
    assert_complete(&outbox, &story);
    let twice = assert_all_received(&received, &outbox);
    println!(
        "{posted} deliveries, {} changes sent in {seconds:.1} s, {twice} of them twice over {KILLS} kills",
        outbox.len()
    );
    // Only messages whose sending was killed before it was recorded.
    assert!(
        (KILLS / 2..=KILLS).contains(&twice),
        "{twice} were sent twice"
    );
    server.stop().await;
}
