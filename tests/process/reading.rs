//! Commands that read: the same from the database and from a server, as the API answers.

use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tallyhook::app::ServerOptions;
use testkit::process::{PATIENCE, Serve, TOKEN, get, lines_of, run, signed, tallyhook, timeless};
use testkit::{Place, TestServer};

const STATES: &[&str] = &["--state", "open,merged", "--repo", "acme-corp/api-server"];

/// Returns a place in which the fixtures are applied, in their order or from last to first.
async fn with_fixtures(place: Place, reversed: bool) -> Place {
    let mut server = TestServer::start_in(place, ServerOptions::default()).await;
    let mut fixtures = testkit::fixtures();
    if reversed {
        fixtures.reverse();
    }
    for fixture in fixtures {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server.drained().await;
    server.stop().await
}

fn command(place: &Place, arguments: &[&[&str]]) -> Command {
    tallyhook(place.path(), &arguments.concat())
}

fn json_of(mut command: Command) -> Value {
    serde_json::from_str(&run(&mut command).ok()).unwrap()
}

/// Returns the lines of a table without the spans of waiting.
fn without_spans(table: &str) -> Vec<String> {
    let is_span = |word: &&str| !word.chars().all(|char| char.is_ascii_digit());
    let line = |line: &str| {
        line.split(' ')
            .filter(is_span)
            .collect::<Vec<_>>()
            .join(" ")
    };
    table.lines().map(line).collect()
}

#[tokio::test]
async fn reading_commands_answer_as_the_api_from_the_database_and_from_a_server() {
    let place = with_fixtures(Place::embedded(), false).await;
    let server = Serve::start(place.path());
    let from_server = |arguments: &[&str]| {
        let mut command = command(&place, &[arguments, &["--url", &server.url]]);
        command.env("TALLYHOOK_TOKEN", TOKEN);
        // This server is the only one that is asked.
        command.env("DATABASE_URL", "sqlite://none.db");
        command
    };
    let http = reqwest::Client::new();
    let filter = "state=open,merged&repo=acme-corp/api-server";
    let pull_request = "acme-corp/api-server#107";
    for (arguments, path) in [
        ([&["prs"], STATES].concat(), format!("/api/prs?{filter}")),
        (
            [&["prs", "--limit", "7"], STATES].concat(),
            format!("/api/prs?{filter}&per_page=7"),
        ),
        (
            vec![
                "prs",
                "--since",
                "2026-03-10",
                "--until",
                "2026-03-12",
                "--author",
                "mira",
            ],
            "/api/prs?from=2026-03-10T00:00:00Z&to=2026-03-12T00:00:00Z&author=mira".to_owned(),
        ),
        (
            vec!["pr", pull_request],
            "/api/repos/acme-corp/api-server/prs/107".to_owned(),
        ),
        (
            vec!["stats", "--since", "2026-03-05"],
            "/api/metrics/cycle-time?from=2026-03-05T00:00:00Z&bucket=week".to_owned(),
        ),
        (vec!["waiting"], "/api/waiting".to_owned()),
        (
            vec![
                "prs",
                "--waiting-for",
                "author",
                "--sort",
                "created",
                "--order",
                "asc",
            ],
            "/api/prs?waiting_for=author&sort=created&order=asc".to_owned(),
        ),
        (
            vec!["deliveries", "list", "--limit", "5"],
            "/api/deliveries?per_page=5".to_owned(),
        ),
    ] {
        let answer = get(&http, &server.url, &path).await;
        let json = [&arguments[..], &["--json"]].concat();
        let answer = timeless(answer);
        let from_database = json_of(command(&place, &[&json]));
        assert_eq!(timeless(from_database), answer, "{arguments:?}");
        let served = timeless(json_of(from_server(&json)));
        assert_eq!(served, answer, "{arguments:?} --url");
        let shown = without_spans(&run(&mut command(&place, &[&arguments])).ok());
        let served = without_spans(&run(&mut from_server(&arguments)).ok());
        assert_eq!(served, shown, "{arguments:?} --url");
    }
    // More than one page of the API.
    let listed = json_of(from_server(&[
        "deliveries",
        "list",
        "--limit",
        "144",
        "--json",
    ]));
    assert_eq!(listed["items"].as_array().unwrap().len(), 144);
    let next = listed["next"].as_str().unwrap();
    let rest = json_of(from_server(&[
        "deliveries",
        "list",
        "--json",
        "--cursor",
        next,
    ]));
    assert_eq!(
        (&rest["items"][4]["id"], &rest["next"]),
        (&1.into(), &Value::Null)
    );

    let shown = run(&mut command(&place, &[&["pr", pull_request]])).ok();
    for words in [
        "Sign the session cookie",
        "merged by",
        "cycle time 26.00 h",
        "merge wait\t2.00",
    ] {
        assert!(shown.contains(words), "no `{words}` in\n{shown}");
    }
    for (arguments, code, words) in [
        (
            &["prs", "--state", "ajar"][..],
            2,
            &["`state` is `ajar`", "open, closed"][..],
        ),
        (
            &["prs", "--repo", "acme-corp/none"],
            1,
            &["no such repository"],
        ),
        (
            &["pr", "acme-corp/api-server#9"],
            1,
            &["no pull request acme-corp/api-server#9"],
        ),
    ] {
        run(&mut command(&place, &[arguments])).failed(code, words);
        run(&mut from_server(arguments)).failed(code, words);
    }
    run(&mut command(&place, &[&["pr", "107"]])).failed(2, &["`107`", "OWNER/REPO#N"]);
    let mut wrong = command(
        &place,
        &[&["prs", "--url", &server.url, "--token", "wrong"]],
    );
    run(&mut wrong).failed(1, &["401", "TALLYHOOK_TOKEN"]);
    let mut none = command(&place, &[&["stats", "--url", &server.url]]);
    run(&mut none).failed(2, &["TALLYHOOK_TOKEN", "token create"]);
    let nowhere = &["prs", "--token", TOKEN, "--url"];
    run(&mut command(&place, &[nowhere, &["http://127.0.0.1:1"]]))
        .failed(1, &["http://127.0.0.1:1", "is the server running"]);
    run(&mut command(&place, &[nowhere, &["localhost"]])).failed(2, &["--url is not the address"]);
    assert_eq!(server.terminate().0.code(), Some(0));
}

#[tokio::test]
async fn digest_depends_on_facts_alone() {
    let in_order = with_fixtures(Place::new().await, false).await;
    let other = with_fixtures(Place::embedded(), true).await;
    let digest = |place: &Place, arguments: &[&str]| {
        json_of(command(place, &[&["prs", "--digest", "--json"], arguments]))
    };
    let whole = digest(&in_order, &[]);
    assert_eq!(whole["pull_requests"], 34);
    assert_eq!(whole["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(digest(&other, &[]), whole);
    let line = run(&mut command(&other, &[&["prs", "--digest"]])).ok();
    assert_eq!(
        line,
        format!("{}  34 pull requests\n", whole["sha256"].as_str().unwrap())
    );
    // Settings change numbers, not facts.
    run(command(&other, &[&["recompute"]]).env("BOT_LOGINS", "mira")).ok();
    assert_eq!(digest(&other, &[]), whole);
    let open = digest(&other, &["--state", "open"]);
    assert_ne!(open["sha256"], whole["sha256"]);

    // One more review is another fact.
    let server = Serve::start(other.path());
    let review = testkit::fixtures()
        .into_iter()
        .find(|one| one.event == "pull_request_review");
    let mut payload: Value = serde_json::from_slice(&review.unwrap().payload).unwrap();
    payload["review"]["id"] = 4_000_000_001_i64.into();
    let http = reqwest::Client::new();
    let body = payload.to_string();
    let answer = signed(
        &http,
        &server.url,
        "pull_request_review",
        "one-more",
        body.as_bytes(),
    );
    assert_eq!(answer.send().await.unwrap().status(), 202);
    let deadline = std::time::Instant::now() + PATIENCE;
    while get(&http, &server.url, "/api/deliveries?per_page=1").await["items"][0]["state"]
        != "applied"
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the review is not applied"
        );
    }
    let from_server = &["--url", &server.url, "--token", TOKEN];
    let more = digest(&in_order, from_server);
    assert_eq!(more["pull_requests"], 34);
    assert_ne!(more["sha256"], whole["sha256"]);
    assert_eq!(digest(&other, &[]), more);
    assert_eq!(server.terminate().0.code(), Some(0));
}

/// A command that runs until it is ended, at the latest with the test.
struct Followed(Child);

impl Drop for Followed {
    fn drop(&mut self) {
        // Both fail only if the process has exited already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn deliveries_are_followed_until_ctrl_c() {
    let place = Place::embedded();
    let server = Serve::start(place.path());
    let http = reqwest::Client::new();
    let post = async |guid: &str| {
        let body = br#"{"action":"opened"}"#;
        let answer = signed(&http, &server.url, "pull_request", guid, body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 202);
    };
    post("first").await;
    for from in [&[][..], &["--url", &server.url, "--token", TOKEN]] {
        let mut command = command(
            &place,
            &[&["deliveries", "list", "--follow", "--json"], from],
        );
        let Followed(child) = &mut Followed(command.stdout(Stdio::piped()).spawn().unwrap());
        let lines = lines_of(child.stdout.take().unwrap());
        let next = || {
            let line = lines.recv_timeout(PATIENCE).expect("a delivery is printed");
            serde_json::from_str::<Value>(&line).unwrap()["guid"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let mut seen = vec![next()];
        let name = format!("later-{}", from.len());
        post(&name).await;
        while seen.last() != Some(&name) {
            seen.push(next());
        }
        assert_eq!(seen[0], "first", "{seen:?}");
        let kill = format!("kill -INT {}", child.id());
        assert!(
            Command::new("/bin/sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    // The id of a list and the beginning of a GUID name a delivery.
    for short in ["1", "firs", "first"] {
        let shown = json_of(command(&place, &[&["deliveries", "show", short]]));
        assert_eq!(shown["guid"], "first", "{short}");
        assert_eq!(json_of(command(&place, &[&["dead", "show", short]])), shown);
    }
    let several = run(&mut command(&place, &[&["deliveries", "show", "late"]]));
    several.failed(1, &["several GUIDs begin with late", "later-0, later-4"]);
    run(&mut command(&place, &[&["dead", "show", "fir"]])).failed(1, &["no dead letter fir"]);
    assert_eq!(server.terminate().0.code(), Some(0));
}
