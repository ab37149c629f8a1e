//! The program is ended again and again while it tells a channel of what a stream of deliveries changes, some of them
//! repeated and all of them out of order. Every change is told; once more than once only for each end that was between
//! sending and noting, and then with the same key.
//!
//! How many deliveries there are says `TALLYHOOK_NOTIFIED`.

#![cfg(feature = "crash-points")]

#[path = "support/process.rs"]
mod process;
#[path = "support/receiver.rs"]
mod receiver;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tallyhook::app::Options;
use tallyhook::config::{Channel, Filter, Receiver as Kind};
use tallyhook::notify::Notification;
use tallyhook_core::github::types::RepoId;
use tallyhook_store::EventId;

use process::{Serve, signed, tallyhook};
use receiver::{Received, Receiver};
use support::payloads::{self, Account, Pr, World};
use support::{Place, TestServer};

/// Deliveries, unless it is told otherwise.
const DELIVERIES: usize = 2_000;
/// Of one pull request, without repetitions.
const EACH: usize = 4;
/// Every so many of them are older than the tracking of their repository.
const OLD: i64 = 10;
const SIGKILL: i32 = 9;
const SIGABRT: i32 = 6;
/// Ends of the program at the crash point, and by SIGKILL.
const KILLS: usize = 6;
/// Requests that are under way at the same time.
const AT_ONCE: usize = 32;
/// So far from its place a delivery may get.
const DISORDER: usize = 64;
const CHANNEL: &str = "webhook";

struct Delivery {
    guid: String,
    body: Vec<u8>,
}

fn mira() -> Account {
    Account::user(900_000_101, "mira")
}

/// Since then the repository is tracked.
fn tracked_since() -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_500_000, 0).unwrap()
}

/// What a pull request became, and when.
type Told = (i64, &'static str, String);

/// One pull request's deliveries in order, and what they tell.
fn history(number: i64) -> (Vec<Delivery>, [Told; 2]) {
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
        deliveries.push(Delivery {
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

/// The deliveries of everybody, each a little out of place and some a second or third time.
fn stream_of(count: usize, random: &mut StdRng) -> (Vec<Delivery>, Vec<[Told; 2]>) {
    let histories = (1..=i64::try_from(count / EACH).unwrap()).map(history);
    let (deliveries, told): (Vec<_>, Vec<_>) = histories.unzip();
    let mut order: Vec<Delivery> = Vec::with_capacity(count * 3 / 2);
    for Delivery { guid, body } in deliveries.into_iter().flatten() {
        for _ in 0..[1, 1, 2, 3][random.random_range(0..4)] {
            // GitHub's repetition has the same GUID, one of a second webhook has not.
            let guid = if random.random_bool(0.5) {
                guid.clone()
            } else {
                uuid::Uuid::new_v4().to_string()
            };
            order.push(Delivery {
                guid,
                body: body.clone(),
            });
        }
    }
    order
        .chunks_mut(DISORDER)
        .for_each(|near| near.shuffle(random));
    (order, told)
}

/// How a life of the program ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Between sending and noting, when so many were sent.
    Sent(usize),
    /// By SIGKILL, when so many were received.
    Killed(usize),
}

/// Posts deliveries until the program ends or all were taken: which were not.
async fn post(url: &str, http: &reqwest::Client, deliveries: Vec<Delivery>) -> Vec<Delivery> {
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

/// One life of the program: what was received of it, and which deliveries it did not take.
async fn live(
    place: &Place,
    receiver: &mut Receiver,
    deliveries: Vec<Delivery>,
    end: End,
) -> (Vec<Received>, Vec<Delivery>) {
    let mut command = tallyhook(place.path(), &["serve", "--log-format", "json"]);
    command
        .env("NOTIFY_WEBHOOK_URL", format!("{}/hook", receiver.url))
        .env("NOTIFY_ALLOW_PRIVATE", "true");
    if let End::Sent(count) = end {
        command.env("TALLYHOOK_CRASH_AT", format!("notify.sent:{count}"));
    }
    let mut serve = tokio::task::spawn_blocking(move || Serve::start_command(&mut command))
        .await
        .unwrap();
    let (url, http) = (serve.url.clone(), reqwest::Client::new());
    let posting = post(&url, &http, deliveries);
    let receiving = async {
        let count = match end {
            End::Sent(count) | End::Killed(count) => count,
        };
        let mut received = Vec::new();
        for _ in 0..count {
            received.push(receiver.next().await);
        }
        if let End::Killed(_) = end {
            serve.kill();
        }
        received
    };
    let (open, mut received) = futures_util::future::join(posting, receiving).await;
    let (status, _) = tokio::task::spawn_blocking(move || serve.wait())
        .await
        .unwrap();
    let expected = if matches!(end, End::Sent(_)) {
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

/// The last life, which ends when everything is told.
async fn last_life(
    place: Place,
    receiver: &mut Receiver,
    deliveries: Vec<Delivery>,
) -> (TestServer, Vec<Received>) {
    let mut config = support::config(&place);
    config.notify.channels = vec![Channel {
        name: CHANNEL.to_owned(),
        receiver: Kind::Webhook { secret: None },
        url: format!("{}/hook", receiver.url),
        filter: Filter::default(),
    }];
    config.webhook_secrets = tallyhook_core::github::signature::Secrets::single(process::SECRET);
    let mut server = TestServer::start_as(&config, place, Options::default()).await;
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
        if channel.state.place == newest && channel.told.pending == 0 {
            assert_eq!((channel.told.dead, channel.told.superseded), (0, 0));
            return (server, received);
        }
        assert!(
            latest.elapsed() < support::PATIENCE,
            "nothing is told any more: {channel:?}"
        );
        tokio::task::yield_now().await;
    }
}

/// Everything in the outbox, as it is to be told.
async fn outbox(server: &TestServer) -> Vec<Notification> {
    let (mut told, mut place) = (Vec::new(), EventId::BEGINNING);
    loop {
        let events = server
            .running
            .store
            .events_after(place, 1000)
            .await
            .unwrap();
        let Some(last) = events.last() else {
            return told;
        };
        place = last.id;
        told.extend(events.into_iter().map(Notification::from));
    }
}

/// What is in the outbox is what the deliveries tell: of each pull request how it ended, and before that perhaps that it
/// was opened, as it is of most; nothing twice, nothing late and nothing old.
fn assert_true(outbox: &[Notification], story: &[[Told; 2]]) {
    let (mut told, mut whole): (BTreeMap<i64, Vec<Told>>, usize) = (BTreeMap::new(), 0);
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
        told.entry(*pr_number).or_default().push((
            *pr_number,
            new_status.as_str(),
            timestamp.to_string(),
        ));
    }
    for [opened, ended] in story {
        let told = told.remove(&ended.0).unwrap_or_default();
        let is_true = if ended.0 % OLD == 0 {
            told.is_empty()
        } else {
            told == [opened.clone(), ended.clone()] || told == [ended.clone()]
        };
        whole += usize::from(told.len() == 2);
        assert!(is_true, "{told:?} of {opened:?} and {ended:?}");
    }
    assert!(told.is_empty(), "{told:?}");
    // Three of four, since a delivery of the end comes first as often as any other.
    assert!(
        whole > story.len() / 2,
        "of {} only {whole} were told to be open",
        story.len()
    );
}

/// What was received is what is in the outbox, and so many besides.
fn assert_told(received: &[Received], outbox: &[Notification]) -> usize {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in received {
        *times.entry(&one.body).or_default() += 1;
        keys.entry(&one.body)
            .or_default()
            .insert(one.header("idempotency-key"));
    }
    let expected: BTreeSet<_> = outbox.iter().map(Notification::to_text).collect();
    assert!(
        times
            .keys()
            .copied()
            .eq(expected.iter().map(String::as_str)),
        "other things were told"
    );
    assert!(
        keys.values().all(|keys| keys.len() == 1),
        "one was told with several keys"
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
async fn every_change_is_told_and_hardly_any_twice() {
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
        // A part of what is left, so that there is something to tell in each life.
        let rest = open.split_off(open.len() / (KILLS + 1 - life));
        // Fewer than there are changes in this part.
        let until = 1 + random.random_range(0..count / EACH / KILLS / 2);
        let end = if life % 2 == 0 {
            End::Sent(until)
        } else {
            End::Killed(until)
        };
        let (told, refused) = live(&place, &mut receiver, open, end).await;
        received.extend(told);
        open = refused.into_iter().chain(rest).collect();
    }
    let (server, told) = last_life(place, &mut receiver, open).await;
    received.extend(told);
    let seconds = began.elapsed().as_secs_f64();

    let outbox = outbox(&server).await;
    assert_true(&outbox, &story);
    let twice = assert_told(&received, &outbox);
    println!(
        "{posted} deliveries, {} changes told in {seconds:.1} s, {twice} of them twice over {KILLS} kills",
        outbox.len()
    );
    // Whatever was cut off between sending and noting, and no other.
    assert!(
        (KILLS / 2..=KILLS).contains(&twice),
        "{twice} were told twice"
    );
    server.stop().await;
}
