//! Business time through the program: settings, stored numbers, reading commands, doctor.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tallyhook::app::ServerOptions;
use tallyhook::config::{Config, SettingSources};
use testkit::process::{run, tallyhook};
use testkit::{Place, TestServer};

const CALENDARS: &str = r#"
default_calendar = "berlin"
[calendars.berlin]
zone = "Europe/Berlin"
week = { mon = ["09:00-18:00"], tue = ["09:00-18:00"], wed = ["09:00-18:00"] }
[calendars.always]
zone = "UTC"
week = { mon = ["00:00-24:00"], tue = ["00:00-24:00"] }
[repository_calendars]
"acme-corp/*" = "berlin"
"#;

const PULL_REQUEST: [&str; 3] = ["pr", "acme-corp/api-server#107", "--json"];
const BUSINESS: [&str; 7] = [
    "stats",
    "--json",
    "--clock",
    "business",
    "--bucket",
    "day",
    "--zone=Europe/Berlin",
];

/// Returns a place in which the fixtures are applied, with the settings of a file `t.toml`.
async fn with_fixtures(settings: &str) -> Place {
    let place = Place::embedded();
    let path = place.path().join("t.toml");
    fs::write(&path, settings).unwrap();
    let read = SettingSources::from_process(Some(&path)).ok().unwrap();
    let config = Config {
        numbers: Config::new(&read).ok().unwrap().numbers,
        ..testkit::config(&place)
    };
    let mut server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    for fixture in testkit::fixtures() {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server.drained().await;
    server.stop().await
}

/// A command in `place` whose settings are its file `t.toml`.
fn configured(place: &Place, arguments: &[&str]) -> Command {
    let mut command = tallyhook(place.path(), arguments);
    command.args(["--config", "t.toml"]);
    command
}

fn json_of(mut command: Command) -> Value {
    serde_json::from_str(&run(&mut command).ok()).unwrap()
}

/// Returns the state and the text of the finding about business time.
fn finding(place: &Place) -> Option<(String, String)> {
    let findings: Value =
        serde_json::from_str(&run(&mut configured(place, &["doctor", "--json"])).stdout).unwrap();
    let found = findings.as_array().unwrap().iter();
    let mut found = found.filter(|finding| finding["check"] == "business time");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    found
        .next_back()
        .map(|finding| (text(&finding["state"]), text(&finding["found"])))
}

#[tokio::test]
async fn business_time_follows_the_settings_after_recompute() {
    let place = with_fixtures("").await;
    let before = json_of(tallyhook(place.path(), &PULL_REQUEST));
    assert_eq!(before["cycle_time_hours"], 26.0);
    for name in ["calendar", "stages_business", "cycle_time_business_hours"] {
        assert_eq!(before[name], Value::Null, "{name}");
    }
    let words = [
        "`clock` is business",
        "[calendars.NAME]",
        "tallyhook recompute",
    ];
    run(&mut tallyhook(place.path(), &BUSINESS)).failed(2, &words);

    fs::write(place.path().join("t.toml"), CALENDARS).unwrap();
    let (state, found) = finding(&place).unwrap();
    assert_eq!(state, "warning", "{found}");
    assert!(
        found.contains("acme-corp/api-server") && found.contains("none"),
        "{found}"
    );
    run(&mut configured(&place, &["recompute"])).ok();
    let (state, found) = finding(&place).unwrap();
    assert_eq!(state, "ok", "{found}");
    assert!(found.contains("berlin (Europe/Berlin)"), "{found}");

    // From Tuesday 15:00 in Berlin to Wednesday 17:00; first reviewed on Wednesday at 10:00.
    let after = json_of(configured(&place, &PULL_REQUEST));
    assert_eq!(after["cycle_time_hours"], 26.0);
    assert_eq!(after["cycle_time_business_hours"], 11.0);
    assert_eq!(after["review_time_business_hours"], 4.0);
    let stages = json!({
        "coding_hours": null, "pickup_hours": 4.0, "review_hours": 5.0, "merge_wait_hours": 2.0,
        "redraft_hours": null, "closed_hours": null,
    });
    assert_eq!(after["stages_business"], stages);
    let calendar = &after["calendar"];
    assert_eq!(
        (&calendar["name"], &calendar["zone"]),
        (&json!("berlin"), &json!("Europe/Berlin"))
    );
    let segments = after["explain"]["segments"].as_array().unwrap();
    let seconds: i64 = segments
        .iter()
        .map(|one| one["seconds"].as_i64().unwrap())
        .sum();
    assert_eq!(seconds, 26 * 3600);

    let stats = json_of(configured(&place, &BUSINESS));
    let buckets = stats["buckets"].as_array().unwrap();
    let third = buckets
        .iter()
        .find(|bucket| bucket["start"] == "2026-03-03T23:00:00Z")
        .unwrap();
    assert!(third["n"].as_u64() > Some(0), "{third}");
    assert_eq!(stats["all"]["excluded"]["no_calendar"], Value::Null);
    let shown = run(&mut configured(
        &place,
        &["stats", "--zone=Europe/Berlin", "--bucket=day"],
    ))
    .ok();
    assert!(shown.contains("2026-03-04"), "{shown}");

    // Other hours are another calendar.
    let other = CALENDARS.replace("wed = [\"09:00-18:00\"]", "wed = [\"09:00-17:00\"]");
    fs::write(place.path().join("t.toml"), other).unwrap();
    let (state, found) = finding(&place).unwrap();
    assert_eq!(state, "warning", "{found}");
}

#[tokio::test]
async fn server_stores_the_business_time_that_recompute_computes() {
    let recomputed = with_fixtures("").await;
    fs::write(recomputed.path().join("t.toml"), CALENDARS).unwrap();
    run(&mut configured(&recomputed, &["recompute"])).ok();
    let served = with_fixtures(CALENDARS).await;
    for arguments in [&PULL_REQUEST[..], &BUSINESS[..]] {
        let mut answers = [&recomputed, &served].map(|place| json_of(configured(place, arguments)));
        for answer in &mut answers {
            answer["as_of"] = Value::Null;
        }
        let [recomputed, served] = answers;
        assert_eq!(recomputed, served, "{arguments:?}");
    }
}
