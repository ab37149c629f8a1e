//! Changes of waiting on the channels that name them, quiet hours, and the daily digest.

use std::collections::BTreeMap;
use tallyhook_store::DEFAULT_TEAM;

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tallyhook::app::ServerOptions;
use tallyhook::config::{ChannelConfig, ChannelFilter, ChannelHours, Config};
use tallyhook_core::domain::business_time::{Calendar, Calendars, DayHours};
use tallyhook_core::domain::notification::NotificationKind;

use super::{QUICK, REPO, mira, pull_request, settled, slack, track, webhook};
use testkit::payloads::{Account, Pr, Review, objects, pull_request_event, review_event};
use testkit::receiver::Receiver;
use testkit::{Place, TestServer};

fn ines() -> Account {
    Account::user(900_000_103, "ines")
}

/// A calendar of every hour, or of none.
fn calendar(name: &str, hours: &str) -> Calendar {
    let day = DayHours::parse(hours.split_terminator(' ')).unwrap();
    let week = std::array::from_fn(|_| day.clone());
    Calendar::new(name, "UTC", TimeZone::UTC, week, &BTreeMap::new())
}

/// Settings with the calendars `always` and `never`, in which the second is the default.
fn config_of(place: &Place, channels: Vec<ChannelConfig>) -> Config {
    let mut config = testkit::config(place);
    let calendars = [calendar("always", "00:00-24:00"), calendar("never", "")];
    config.numbers.calendars = Calendars::new(calendars, Some("never")).unwrap();
    config.notify.channels = channels;
    config
}

async fn start(place: Place, channels: Vec<ChannelConfig>) -> TestServer {
    let options = ServerOptions {
        pace: QUICK,
        ..ServerOptions::default()
    };
    let config = config_of(&place, channels);
    let server = TestServer::start_as(&config, place, options).await;
    track(&server).await;
    server
}

/// A channel for everything, changes of waiting included.
fn everything(receiver: &Receiver) -> ChannelConfig {
    ChannelConfig {
        filter: ChannelFilter {
            repos: None,
            kinds: Some(vec![
                NotificationKind::PrStatusChange,
                NotificationKind::WaitingChange,
            ]),
        },
        ..webhook("all", receiver)
    }
}

/// Posts a delivery that reached the server now.
async fn deliver(server: &mut TestServer, event: &str, guid: &str, payload: &Value) {
    let body = payload.to_string();
    let (status, answer) = server.post(event, guid, body.as_bytes()).await;
    assert_eq!(status, 202, "{answer}");
    server.drained().await;
}

/// The deliveries of a pull request that is opened, asked, objected to and pushed to.
fn story(pr: &mut Pr) -> Vec<(&'static str, Value)> {
    let mut deliveries = Vec::new();
    let opened = pull_request_event(pr, "opened", &mira(), json!({}));
    deliveries.push(("pull_request", opened));
    pr.touch("2026-03-02T10:00:00Z");
    pr.requested_reviewers.push(ines());
    let asked = json!({"requested_reviewer": objects::account(Some(&ines()))});
    let asked = pull_request_event(pr, "review_requested", &mira(), asked);
    deliveries.push(("pull_request", asked));
    pr.touch("2026-03-02T12:00:00Z");
    pr.requested_reviewers.clear();
    let review = Review {
        id: 77,
        reviewer: Some(ines()),
        state: "changes_requested".to_owned(),
        body: None,
        commit_id: pr.head_sha.clone(),
        submitted_at: "2026-03-02T12:00:00Z".to_owned(),
    };
    let objected = review_event(pr, "submitted", &review, &ines());
    deliveries.push(("pull_request_review", objected));
    let (before, after) = pr.push("2026-03-02T14:00:00Z");
    let pushed = json!({"before": before, "after": after});
    let pushed = pull_request_event(pr, "synchronize", &mira(), pushed);
    deliveries.push(("pull_request", pushed));
    deliveries
}

#[tokio::test]
async fn change_of_waiting_is_sent_once_to_channels_that_name_the_kind() {
    let (mut all, mut plain) = (Receiver::start().await, Receiver::start().await);
    let channels = vec![everything(&all), webhook("plain", &plain)];
    let mut server = start(Place::new().await, channels).await;
    let mut pr = pull_request(7);
    for (number, (event, payload)) in story(&mut pr).iter().enumerate() {
        // Twice, the second time as another delivery of the same fact.
        for guid in [format!("one-{number}"), format!("two-{number}")] {
            deliver(&mut server, event, &guid, payload).await;
        }
    }
    let party = |login: &str| json!([{"login": login}]);
    assert_eq!(all.next().await.json()["type"], "pr_status_change");
    let mut old = Value::Null;
    for (on, who, at) in [
        ("nobody", json!([]), "2026-03-02T09:00:00Z"),
        ("reviewers", party("ines"), "2026-03-02T10:00:00Z"),
        ("author", party("mira"), "2026-03-02T12:00:00Z"),
        ("reviewers", party("ines"), "2026-03-02T14:00:00Z"),
    ] {
        let sent = all.next().await;
        assert_eq!(sent.header("x-tallyhook-event"), "waiting_change");
        let sent = sent.json();
        assert_eq!(sent["new_waiting"], json!({"for": on, "who": who}));
        assert_eq!(
            (&sent["old_waiting"], &sent["timestamp"]),
            (&old, &json!(at))
        );
        assert_eq!(
            (&sent["repo"], &sent["pr_number"], &sent["author"]),
            (&json!(REPO), &json!(7), &json!("mira"))
        );
        assert!(!sent["because"].as_str().unwrap().is_empty());
        old = sent["new_waiting"].clone();
    }
    assert_eq!(settled(&server, "all").await, [5, 0, 0]);
    assert_eq!(settled(&server, "plain").await, [1, 0, 0]);
    assert!(all.try_next().is_none());
    assert_eq!(plain.next().await.json()["type"], "pr_status_change");
    server.stop().await;
}

#[tokio::test]
async fn no_change_is_sent_of_waiting_from_before_the_repository_was_tracked() {
    let mut all = Receiver::start().await;
    let place = Place::new().await;
    let config = config_of(&place, vec![everything(&all)]);
    let mut server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    // Tracked by its first delivery, long after what that tells of.
    for (number, (event, payload)) in story(&mut pull_request(7)).iter().enumerate() {
        deliver(&mut server, event, &format!("old-{number}"), payload).await;
    }
    assert_eq!(settled(&server, "all").await, [0, 0, 0]);
    assert!(all.try_next().is_none());
    server.stop().await;
}

#[tokio::test]
async fn slack_names_the_party_and_escapes_it() {
    let mut receiver = Receiver::start().await;
    let channel = ChannelConfig {
        filter: everything(&receiver).filter,
        ..slack(&receiver)
    };
    let mut server = start(Place::new().await, vec![channel]).await;
    let mut pr = pull_request(7);
    let mut hostile = ines();
    hostile.login = "<!channel>&".to_owned();
    pr.requested_reviewers.push(hostile);
    let opened = pull_request_event(&pr, "opened", &mira(), json!({}));
    deliver(&mut server, "pull_request", "opened", &opened).await;
    assert!(receiver.next().await.body.contains("was opened"));
    let sent = receiver.next().await.json();
    let text = sent["text"].as_str().unwrap();
    assert_eq!(
        text,
        "acme-corp/api-server#7 waits for &lt;!channel&gt;&amp;: Answer &lt;!here&gt; &amp; 429"
    );
    assert!(!sent.to_string().contains("<!"), "{sent}");
    server.stop().await;
}

#[tokio::test]
async fn quiet_hours_hold_a_channel_and_only_what_holds_is_sent_after_them() {
    let mut all = Receiver::start().await;
    let with_hours = |name: &str| ChannelConfig {
        hours: ChannelHours {
            calendar: Some(name.to_owned()),
            digest: None,
        },
        ..everything(&all)
    };
    let (quiet, awake) = (with_hours("never"), with_hours("always"));
    let mut server = start(Place::new().await, vec![quiet]).await;
    let (mut merged, mut open) = (pull_request(7), pull_request(8));
    for (number, (event, payload)) in story(&mut merged).iter().enumerate() {
        deliver(&mut server, event, &format!("merged-{number}"), payload).await;
    }
    merged.merge(&mira(), "2026-03-02T15:00:00Z");
    let closed = pull_request_event(&merged, "closed", &mira(), json!({}));
    deliver(&mut server, "pull_request", "closed", &closed).await;
    for (number, (event, payload)) in story(&mut open).iter().enumerate() {
        deliver(&mut server, event, &format!("open-{number}"), payload).await;
    }
    let store = &server.running.store;
    testkit::eventually("all notifications are held", async || {
        let rows = store
            .of_team(DEFAULT_TEAM.0)
            .notifications(&Default::default(), 99)
            .await
            .unwrap();
        rows.len() == 11 && rows.iter().all(|row| row.held_until.is_some())
    })
    .await;
    assert!(all.try_next().is_none());
    let place = server.stop().await;

    let server = start(place, vec![awake]).await;
    let next = async |all: &mut Receiver| {
        let sent = all.next().await.json();
        let new = match sent["type"].as_str().unwrap() {
            "pr_status_change" => sent["new_status"].clone(),
            _ => sent["new_waiting"]["for"].clone(),
        };
        (sent["pr_number"].as_i64().unwrap(), new)
    };
    for expected in [
        (7, json!("MERGED")),
        (8, json!("OPEN")),
        (8, json!("reviewers")),
    ] {
        assert_eq!(next(&mut all).await, expected);
    }
    assert_eq!(settled(&server, "all").await, [3, 0, 8]);
    assert!(all.try_next().is_none());
    server.stop().await;
}

/// Posts the shipped fixtures to a server without channels. Returns its place.
async fn with_fixtures() -> Place {
    let mut server = start(Place::new().await, Vec::new()).await;
    for fixture in testkit::fixtures() {
        let posted = server.post(&fixture.event, &fixture.guid, &fixture.payload);
        assert!(posted.await.0 < 300);
    }
    server.drained().await;
    server.stop().await
}

#[tokio::test]
async fn digest_lists_what_waits_once_a_day_whatever_restarts() {
    let place = with_fixtures().await;
    let (mut receiver, mut other) = (Receiver::start().await, Receiver::start().await);
    let daily = |name: &str, receiver: &Receiver, repo: &str| ChannelConfig {
        filter: ChannelFilter {
            repos: Some(vec![repo.to_owned()]),
            kinds: None,
        },
        hours: ChannelHours {
            calendar: Some("always".to_owned()),
            digest: Some("00:00".parse().unwrap()),
        },
        ..webhook(name, receiver)
    };
    let channels = vec![
        daily("team", &receiver, "acme-corp/*"),
        daily("other", &other, "acme-corp/web"),
    ];
    let mut server = start(place, channels.clone()).await;
    let sent = receiver.next().await;
    assert_eq!(sent.header("x-tallyhook-event"), "digest");
    let sent = sent.json();
    // Twelve are open, and #106 is a draft.
    assert_eq!(
        (&sent["channel"], &sent["total"]),
        (&json!("team"), &json!(11))
    );
    let numbers: Vec<_> = sent["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["pr_number"].as_i64().unwrap())
        .collect();
    assert_eq!(
        numbers,
        [105, 126, 127, 128, 129, 130, 131, 132, 133, 125, 134]
    );
    let first = &sent["items"][0];
    assert_eq!(
        first["waiting"],
        json!({"for": "reviewers", "who": [{"team": "backend"}]})
    );
    assert_eq!(
        (&first["since"], &first["title"]),
        (
            &json!("2026-03-03T10:06:00Z"),
            &json!("Split the router by resource")
        )
    );
    for _ in 0..2 {
        assert_eq!(settled(&server, "team").await, [1, 0, 0]);
        server = start(server.stop().await, channels.clone()).await;
    }
    // The other repository has none that waits, and no digest.
    assert_eq!(settled(&server, "other").await, [0, 0, 0]);
    assert!(receiver.try_next().is_none() && other.try_next().is_none());
    for channel in ["team", "other"] {
        let state = server
            .running
            .store
            .of_team(DEFAULT_TEAM.0)
            .open_channel(channel)
            .await
            .unwrap();
        assert!(state.digest_day.is_some(), "{channel}");
    }
    server.stop().await;
}
