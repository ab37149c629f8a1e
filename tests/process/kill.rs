//! Every delivery answered with 2xx survives every kill. The program runs as a process and is ended
//! at its crash points, by SIGKILL and by SIGTERM, while the shipped fixtures are posted to it;
//! then it must be as if nothing had happened.
//!
//! `kill -9` shows what survives the end of the process, not what survives a power cut.
//!
//! While these tests run, nothing may build the program without the feature `crash-points` into the
//! same target folder: that program would not end at its crash points.

#![cfg(feature = "crash-points")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use futures_util::{StreamExt, stream};
use serde_json::Value;
use tallyhook::app::{RoleSet as Roles, ServerOptions};

use testkit::process::{Serve, pull_requests, signed, tallyhook};
use testkit::{Fixture, Place, TestServer};

/// Every `crash_point!` that a delivery passes without a broker, except the poison's, and the
/// visits after which the process ends there. The requests of one life, four at a time, are sure to
/// visit the first seven so often, and the others once.
const PLACES: [(&str, [u64; 3]); 9] = [
    ("ingest.body_read", [1, 5, 12]),
    ("accept.before_commit", [1, 2, 3]),
    ("accept.committed", [1, 2, 3]),
    ("ingest.handed_over", [1, 5, 12]),
    ("relay.swept", [1, 1, 1]),
    ("process.received", [1, 2, 3]),
    ("process.claimed", [1, 2, 3]),
    ("record.before_commit", [1, 2, 3]),
    ("record.committed", [1, 2, 3]),
];
const AT_ONCE: usize = 4;
const SIGKILL: i32 = 9;
const SIGABRT: i32 = 6;

const STORIES: usize = 25;
/// One less than the attempts after which a delivery is a dead letter, so that no delivery ends as
/// one by having been under way in all of them.
const LIVES: usize = 4;

/// The way in which a life of the server ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// At a crash point, when it is visited this often.
    At(&'static str, u64),
    /// By SIGKILL after so many answers.
    Killed(usize),
    /// By SIGTERM after so many answers.
    Asked(usize),
}

impl End {
    /// The end of one of the hundred lives: each place, and SIGKILL, about nine times.
    fn of(story: usize, life: usize) -> Self {
        let number = story * LIVES + life;
        match PLACES.get(number % (PLACES.len() + 1)) {
            Some((place, visits)) => {
                Self::At(place, visits[number / (PLACES.len() + 1) % visits.len()])
            }
            None => Self::Killed(1 + number % 20),
        }
    }

    fn is_sure(self) -> bool {
        match self {
            Self::At(place, visits) => {
                visits == 1 || place.starts_with("ingest.") || place.starts_with("accept.")
            }
            Self::Killed(_) | Self::Asked(_) => true,
        }
    }
}

/// One life of the server on the database in `folder`: posts the first `until` of `story` that were
/// not accepted yet, notes which of them were answered with 2xx, and returns the way it ended.
async fn live(
    folder: &Path,
    story: &[Fixture],
    taken: &mut BTreeSet<usize>,
    until: usize,
    end: End,
) -> ExitStatus {
    let mut command = tallyhook(folder, &["serve", "--log-format", "json"]);
    if let End::At(place, visits) = end {
        command.env("TALLYHOOK_CRASH_AT", format!("{place}:{visits}"));
    }
    let mut serve = match Serve::try_start(&mut command) {
        Ok(serve) => serve,
        Err((status, _)) => return status,
    };
    let (http, url) = (reqwest::Client::new(), serve.url.clone());
    let open: Vec<_> = (0..until).filter(|place| !taken.contains(place)).collect();
    let mut answers = stream::iter(open)
        .map(|place| {
            let Fixture {
                event,
                guid,
                payload,
                ..
            } = &story[place];
            let request = signed(&http, &url, event, guid, payload);
            async move { (place, request.send().await) }
        })
        .buffer_unordered(AT_ONCE);
    let mut answered = 0;
    while let Some((place, answer)) = answers.next().await {
        // A delivery without an answer, or with one that it cannot be stored now, is sent again, as
        // GitHub's user does.
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            taken.insert(place);
            answered += 1;
            match end {
                End::Killed(after) if after == answered => serve.kill(),
                End::Asked(after) if after == answered => serve.ask_to_end(),
                _ => {}
            }
        }
    }
    if !end.is_sure() {
        // It may have been quick enough to do everything in fewer visits.
        serve.kill();
    }
    serve.wait().0
}

/// The last life, which nothing disturbs: posts what was never answered with 2xx and finishes
/// everything.
async fn last_life(place: Place, story: &[Fixture], taken: &BTreeSet<usize>) -> TestServer {
    let mut server = TestServer::start_in(place, ServerOptions::default()).await;
    for (
        _,
        Fixture {
            event,
            guid,
            payload,
            ..
        },
    ) in story
        .iter()
        .enumerate()
        .filter(|(place, _)| !taken.contains(place))
    {
        let (status, answer) = server.post(event, guid, payload).await;
        assert!(status == 202 || status == 200, "{answer}");
    }
    server.drained().await;
    server
}

/// The stored delivery of each GUID, of which there is one.
async fn deliveries(server: &TestServer) -> BTreeMap<String, Value> {
    let (mut found, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let (_, page) = server
            .get(&format!("/api/deliveries?per_page=100{cursor}"))
            .await;
        for delivery in page["items"].as_array().unwrap() {
            let twice = found.insert(
                delivery["guid"].as_str().unwrap().to_owned(),
                delivery.clone(),
            );
            assert!(twice.is_none(), "stored twice: {delivery}");
        }
        let Some(next) = page["next"].as_str() else {
            return found;
        };
        cursor = format!("&cursor={next}");
    }
}

/// Asserts that every delivery was stored and finished once, and that the facts are those of an
/// undisturbed run.
async fn assert_as_if_nothing_had_happened(
    server: &TestServer,
    story: &[Fixture],
    undisturbed: &[Value],
) {
    let stored = deliveries(server).await;
    for Fixture { guid, .. } in story.iter().filter(|one| one.event != "ping") {
        let delivery = stored.get(guid).unwrap_or_else(|| panic!("lost: {guid}"));
        assert!(
            delivery["state"] == "applied" || delivery["state"] == "ignored",
            "{delivery}"
        );
        assert!(delivery["finished_at"].is_string(), "{delivery}");
    }
    let expected: BTreeSet<_> = story
        .iter()
        .filter(|one| one.event != "ping")
        .map(|one| &one.guid)
        .collect();
    assert_eq!(stored.len(), expected.len());
    let found = pull_requests(&server.http, &server.url).await;
    assert_eq!(found.len(), undisturbed.len());
    for (found, expected) in found.iter().zip(undisturbed) {
        assert_eq!(found, expected);
    }
}

async fn undisturbed(story: &[Fixture]) -> Vec<Value> {
    let server = last_life(Place::new().await, story, &BTreeSet::new()).await;
    let found = pull_requests(&server.http, &server.url).await;
    server.stop().await;
    found
}

/// One story through four lives and a last one: which of its lives ended at their crash point.
async fn killed(number: usize, story: &[Fixture], undisturbed: &[Value]) -> Vec<&'static str> {
    let place = Place::new().await;
    let mut taken = BTreeSet::new();
    let mut reached = Vec::new();
    for life in 0..LIVES {
        let end = End::of(number, life);
        let until = story.len() * (life + 1) / LIVES;
        let status = live(place.path(), story, &mut taken, until, end).await;
        match (end, status.signal()) {
            (End::At(place, _), Some(SIGABRT)) => reached.push(place),
            (End::At(..), Some(SIGKILL)) if !end.is_sure() => {}
            (End::Killed(_), Some(SIGKILL)) => {}
            other => panic!("story {number}, life {life} ended otherwise: {other:?}"),
        }
    }
    let server = last_life(place, story, &taken).await;
    assert_as_if_nothing_had_happened(&server, story, undisturbed).await;
    server.stop().await;
    reached
}

/// Runs `future` to its end on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
#[allow(
    clippy::print_stdout,
    reason = "how many kills there were belongs to the result"
)]
fn a_hundred_kills_lose_nothing_and_change_nothing() {
    let story = testkit::fixtures();
    let undisturbed = block_on(undisturbed(&story));
    let (story, undisturbed) = (&story, &undisturbed);
    let mut reached: BTreeMap<&str, u32> = BTreeMap::new();
    std::thread::scope(|threads| {
        let lanes = [0, 1].map(|lane| {
            threads.spawn(move || {
                let numbers = (lane..STORIES).step_by(2);
                numbers
                    .flat_map(|number| block_on(killed(number, story, undisturbed)))
                    .collect::<Vec<_>>()
            })
        });
        for place in lanes.into_iter().flat_map(|lane| lane.join().unwrap()) {
            *reached.entry(place).or_default() += 1;
        }
    });
    println!(
        "{} kills, of which at crash points: {reached:?}",
        STORIES * LIVES
    );
    for (place, _) in PLACES {
        assert!(
            reached.contains_key(place),
            "{place} was never reached: {reached:?}"
        );
    }
}

#[tokio::test]
async fn sigterm_finishes_the_work_in_hand_and_loses_nothing() {
    let story = testkit::fixtures();
    let undisturbed = undisturbed(&story).await;
    let place = Place::new().await;
    let mut taken = BTreeSet::new();
    for (life, after) in [1, 2, 7, 15].into_iter().enumerate() {
        let until = story.len() * (life + 1) / LIVES;
        let status = live(place.path(), &story, &mut taken, until, End::Asked(after)).await;
        assert_eq!(status.code(), Some(0), "{status}");
    }
    let server = last_life(place, &story, &taken).await;
    assert_as_if_nothing_had_happened(&server, &story, &undisturbed).await;
    // No attempt was interrupted.
    assert!(
        deliveries(&server)
            .await
            .values()
            .all(|one| one["attempts"].as_u64() <= Some(1))
    );
    server.stop().await;
}

#[tokio::test]
async fn delivery_that_kills_the_process_is_parked_alone_after_five_attempts() {
    let story = testkit::fixtures();
    let poison = story
        .iter()
        .position(|one| one.event == "pull_request" && one.guid.contains("-0107-"))
        .unwrap();
    let poison = story[poison].guid.clone();
    let place = Place::new().await;
    // Everything is there before the first worker looks at it, so that the poison shares its first
    // batch.
    let accepting = ServerOptions {
        roles: Roles {
            worker: false,
            ..Roles::ALL
        },
        ..ServerOptions::default()
    };
    let server = TestServer::start_in(place, accepting).await;
    for Fixture {
        event,
        guid,
        payload,
        ..
    } in &story
    {
        server.post(event, guid, payload).await;
    }
    let place = server.stop().await;

    for attempt in 1..=5 {
        let mut command = tallyhook(place.path(), &["serve", "--log-format", "json"]);
        let started = Serve::try_start(command.env("TALLYHOOK_POISON_GUID", &poison));
        let status = started.map_or_else(|(status, _)| status, |mut serve| serve.wait().0);
        assert_eq!(status.signal(), Some(SIGABRT), "attempt {attempt}");
    }
    let mut server = TestServer::start_in(place, ServerOptions::default()).await;
    server.drained().await;
    let mut stored = deliveries(&server).await;
    assert_eq!(stored.len(), 149);
    let dead = stored.remove(&poison).unwrap();
    assert_eq!(
        (dead["state"].as_str(), dead["attempts"].as_u64()),
        (Some("dead"), Some(5))
    );
    assert!(
        dead["reason"]
            .as_str()
            .unwrap()
            .starts_with("gave up after 5 attempts"),
        "{dead}"
    );
    for delivery in stored.values() {
        assert!(
            delivery["state"] == "applied" || delivery["state"] == "ignored",
            "{delivery}"
        );
        // The one that was cut off with the poison, and their own.
        assert!(delivery["attempts"].as_u64() <= Some(2), "{delivery}");
    }
    server.stop().await;
}
