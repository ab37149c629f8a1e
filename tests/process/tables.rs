//! Tables on a terminal of each usual width, and off one, with long and wide text in every column.

use std::fs::File;
use std::io::Read;
use std::process::Command;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use unicode_width::UnicodeWidthChar;

use tallyhook::app::ServerOptions;
use testkit::process::{run, tallyhook};
use testkit::{Place, TestServer};

const TITLE: &str = "要求制限に達したら再試行までの秒数を添えて応答する 🦀🚀 and a second sentence";
const COMMANDS: [&[&str]; 17] = [
    &["demo", "--once", "--listen", "127.0.0.1:0"],
    &["prs", "--limit", "100"],
    &["pr", "acme-corp/api-server#107"],
    &["waiting"],
    &["stats"],
    &["stats", "--bucket", "day"],
    &[
        "stats",
        "--since=2026-03-09",
        "--until=2026-03-16",
        "--compare=previous",
        "--by=origin",
    ],
    &["deliveries", "list", "--limit", "200"],
    &["dead", "list"],
    &["notify", "list"],
    &["doctor"],
    &["token", "list"],
    &["team", "list"],
    &["member", "list"],
    &["user", "list"],
    &["worktrees"],
    &["--help"],
];

/// Runs a command whose standard output is a terminal of `columns`, and returns what that shows.
fn on_terminal(command: Command, columns: u16) -> String {
    attached(command, columns, |command, terminal| {
        command.stdout(terminal);
    })
}

/// Runs a command with one end of a terminal, and returns what that shows.
fn attached(mut command: Command, columns: u16, attach: impl Fn(&mut Command, File)) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new())
        .unwrap()
        .into_string()
        .unwrap();
    let end = File::options().read(true).write(true).open(name).unwrap();
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&end, size).unwrap();
    attach(&mut command, end);
    let mut child = command.spawn().unwrap();
    // The last copy of its end is the child's.
    drop(command);
    let mut shown = Vec::new();
    let mut part = [0; 4096];
    let mut terminal = File::from(terminal);
    // Linux reports an error once nothing has the other end.
    while let Ok(length @ 1..) = terminal.read(&mut part) {
        shown.extend_from_slice(&part[..length]);
    }
    child.wait().unwrap();
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}

/// Returns a place with the fixtures, long and wide titles, dead letters of long names, and tokens.
async fn long_place() -> Place {
    let mut server = TestServer::start_in(Place::embedded(), ServerOptions::default()).await;
    for fixture in testkit::fixtures() {
        let payload = String::from_utf8(fixture.payload).unwrap();
        let payload = payload.replace("Sign the session cookie", TITLE);
        server
            .post(&fixture.event, &fixture.guid, payload.as_bytes())
            .await;
    }
    for (place, event) in ["pull_request", "pull_request_review_thread"]
        .iter()
        .enumerate()
    {
        let name = format!("{}-{place}", "organisation-with-a-long-name".repeat(2));
        let body = format!(
            r#"{{"action":"a-very-long-action-of-the-future","pull_request":{{"number":1}},
               "repository":{{"id":77,"full_name":"{name}/api","private":false}}}}"#
        );
        server
            .post(event, &format!("long-guid-{place}"), body.as_bytes())
            .await;
    }
    server.drained().await;
    server.stop().await
}

fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = tallyhook(place.path(), arguments);
    command
        .env(
            "NOTIFY_WEBHOOK_URL",
            "https://hooks.of-a-company-with-a-long-name.example.com/hook",
        )
        .env(
            "SLACK_WEBHOOK_URL",
            "https://hooks.slack.com/services/T0/B0/x",
        )
        .env("WORKTREE_ROOT", place.path())
        .env(
            "GITHUB_WEBHOOK_SECRET",
            "a-secret-of-the-tests-that-is-long",
        )
        .stderr(std::process::Stdio::null());
    command
}

fn width_of(line: &str) -> usize {
    line.chars().map(|letter| letter.width().unwrap_or(0)).sum()
}

#[tokio::test]
async fn tables_fit_every_terminal_and_are_plain_rows_off_one() {
    let place = long_place().await;
    run(&mut tallyhook(
        place.path(),
        &["token", "create", "a token with a name of some length"],
    ))
    .ok();
    for arguments in COMMANDS {
        let name = arguments.join(" ");
        for columns in [80, 100, 200] {
            let plain = {
                let mut command = command(&place, arguments);
                command.env("NO_COLOR", "1").env("TERM", "xterm");
                on_terminal(command, columns)
            };
            assert!(!plain.contains('\u{1b}'), "{name}: colour in {plain:?}");
            assert!(!plain.trim().is_empty(), "{name} shows nothing");
            for line in plain.lines() {
                let width = width_of(line);
                assert!(
                    width <= usize::from(columns),
                    "{name} at {columns}, {width}: {line}"
                );
                assert!(!line.contains(['│', '┆', '\t']), "{name}: {line}");
                assert!(
                    line == line.trim_end() || name == "--help",
                    "{name}: {line:?}"
                );
            }
            if columns == 80 {
                whole_words(&name, &plain);
            }
        }
        let rows = run(&mut command(&place, arguments)).stdout;
        assert!(!rows.contains(['\u{1b}', '…', '│']), "{name}: {rows}");
    }
    let mut colourful = command(&place, &["prs"]);
    colourful.env("TERM", "xterm");
    let shown = on_terminal(colourful, 80);
    let (heading, rows) = shown.split_once('\n').unwrap();
    assert!(heading.starts_with("\u{1b}[1mPR "), "{heading:?}");
    assert!(!rows.contains('\u{1b}'), "{rows:?}");
    // So does the log.
    for (setting, is_colourful) in [("NO_COLOR", false), ("COLORTERM", true)] {
        let nowhere = ["prs", "--url", "http://127.0.0.1:1", "--token", "none"];
        let mut logging = command(&place, &nowhere);
        logging
            .env("TERM", "xterm")
            .env("RUST_LOG", "debug")
            .env(setting, "1");
        logging.stdout(std::process::Stdio::null());
        let log = attached(logging, 80, |command, terminal| {
            command.stderr(terminal);
        });
        assert!(log.contains("DEBUG"), "{log}");
        assert_eq!(log.contains('\u{1b}'), is_colourful, "{setting}: {log}");
    }

    let rows = run(&mut command(&place, &["prs", "--limit", "100"])).stdout;
    assert_eq!(rows.lines().count(), 35);
    assert!(rows.contains(TITLE), "{rows}");
    let cells: std::collections::BTreeSet<_> = rows
        .lines()
        .map(|row| row.split('\t').filter(|cell| !cell.is_empty()).count())
        .collect();
    assert_eq!(cells.len(), 1, "{rows}");
}

/// Asserts that the words of the states stand in the narrow table `shown` as they are.
fn whole_words(name: &str, shown: &str) {
    let words: &[&str] = match name.split(' ').next().unwrap() {
        "demo" => &["merged", "title", "cycle h", "waits for", "waited", "team"],
        "prs" => &["merged", "open", "closed", "draft", "title", "cycle h"],
        "deliveries" => &["applied", "ignored", "dead", "repository", "reason: "],
        "dead" => &["dead letters", "last received", "dead", "reason: "],
        "notify" => &["slack", "webhook", "pending"],
        "doctor" => &["ok", "warning", "next step: "],
        "token" => &["name", "role", "admin", "expires", "a token with a name"],
        "stats" => &["merged from", "cycle p50", "p90", "all", "2026-03-"],
        _ => &[],
    };
    for word in words {
        assert!(shown.contains(word), "{name}: no `{word}` in\n{shown}");
    }
}
