//! Wrong uses of the program: each is one line that says what, where and the next step, with the
//! exit code of its kind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use testkit::Place;
use testkit::process::{Ended, run, tallyhook};

/// Part of every secret here; shown nowhere.
const CARROT: &str = "carrot";

/// Values of settings: `NAME=VALUE`, with which `serve` is started.
const SETTINGS: &str = r"
GITHUB_WEBHOOK_SECRET= | 2 | is not set | tallyhook init
GITHUB_WEBHOOK_SECRET=carrot | 2 | fewer than 8 | openssl rand
TALLYHOOK_ADMIN_TOKEN=carrot | 2 | fewer than 8 | openssl rand
TALLYHOOK_LISTEN=8080 | 2 | did you mean `127.0.0.1:8080`?
TALLYHOOK_LISTEN=localhost:80 | 2 | did you mean `127.0.0.1:80`?
TALLYHOOK_LISTEN=127.0.0.1 | 2 | did you mean `127.0.0.1:8080`?
TALLYHOOK_LISTEN=127.0.0.1:99999 | 2 | an address and port such as
TALLYHOOK_LISTEN=192.0.2.1:8080 | 1 | 192.0.2.1:8080 | address of this machine
DATABASE_URL=tallyhook.db | 2 | is not a URL | sqlite://FILE
DATABASE_URL=mysql://me:carrot@localhost/x | 2 | `mysql` | sqlite://FILE
DATABASE_URL=sqlite:// | 2 | names no file | sqlite://tallyhook.db
DATABASE_URL=sqlite://. | 2 | names the folder . | sqlite://./tallyhook.db
DATABASE_URL=sqlite::memory: | 2 | in memory | sqlite://tallyhook.db
DATABASE_URL=sqlite://x.db?mode=ro | 2 | reading only | leave the parameter out
DATABASE_URL=sqlite://x.db?mdoe=rwc | 2 | `mdoe` | expected sqlite://FILE
DATABASE_URL=sqlite://~/x.db | 2 | begins with ~ | home folder
DATABASE_URL=sqlite://none/x.db | 1 | folder none does not exist | mkdir -p none
DATABASE_URL=sqlite://text.db/x.db | 1 | text.db is not a folder | DATABASE_URL
DATABASE_URL=sqlite:///sys/x.db | 1 | may not write | /sys | DATABASE_URL
DATABASE_URL=sqlite://text.db | 1 | text.db is no SQLite database | another file
DATABASE_URL=postgres://me:carrot@127.0.0.1:1/t | 1 | 127.0.0.1:1 as user me | start it
DATABASE_URL=postgres://me:car/carrot@localhost/t | 2 | port number | PASSWORD@HOST
AMQP_URL=http://bunny:carrot@localhost | 2 | not the URL of a broker | amqp://USER
SYNC_INTERVAL=60 | 2 | from 1s to 1day | did you mean `60s`?
SYNC_INTERVAL=soon | 2 | SYNC_INTERVAL is `soon` | such as 60s
SYNC_BATCH_SIZE=0 | 2 | one from 1 to 100 such as 10
GITHUB_SYNC_COMMITS=yes | 2 | true or false | did you mean `true`?
GITHUB_SYNC_DAYS_BACK=1y | 2 | from 1 to 36500 such as 90
DELIVERY_RETENTION_DAYS=7d | 2 | a number of days | did you mean `7`?
WEBSOCKET_MAX_CLIENTS=many | 2 | from 0 to 100000 such as 2000
NOTIFICATION_TIMEOUT=0s | 2 | from 1s to 1m such as 10s
TASK_AUTO_PR=on | 2 | did you mean `true`?
TASK_KEY_PATTERNS=a( | 2 | the pattern `a(` is wrong | unclosed group
GITHUB_REPO_OWNER=acme | 2 | GITHUB_REPO_NAME | set both or none
GITHUB_REPO_OWNER=acme GITHUB_REPO_NAME=acme/api | 2 | `acme/api` | one word such as
GITHUB_TOKEN=two\tcarrots | 2 | GITHUB_TOKEN is not a token | one word
GITHUB_TOKEN=ghp_carrot GITHUB_APP_ID=7 | 2 | a token or as an App | unset
GITHUB_APP_ID=7 | 2 | GITHUB_APP_PRIVATE_KEY | set both
GITHUB_APP_ID=7 GITHUB_APP_PRIVATE_KEY=carrot | 2 | neither PEM, nor PEM in base64, nor the path
GITHUB_API_URL=github | 2 | GITHUB_API_URL is wrong | https://api.github.com
GITHUB_API_URL=https://me:carrot@example.com | 2 | without user and query
GITHUB_TOKEN_FILE=none | 2 | GITHUB_TOKEN_FILE | the path of a readable file
GITHUB_TOKEN_FILE=empty | 2 | GITHUB_TOKEN_FILE names is empty
GITHUB_TOKEN_FILE=text.db GITHUB_TOKEN=carrot | 2 | both set | unset one
SLACK_WEBHOOK_URL=carrot | 2 | channel `slack` | http:// or https://
NOTIFY_WEBHOOK_URL=ftp://example.com/carrot | 2 | channel `webhook` | https://
NOTIFY_WEBHOOK_SECRET=carrot | 2 | NOTIFY_WEBHOOK_URL | set both
";

/// Contents of the configuration file `t.toml`.
const FILES: &str = r"
a = = 1 | 2 | t.toml: line 1: not TOML
bot_logins = []\ngithub_token = carrot | 2 | t.toml: line 2: not TOML | quoted
sync_timeout = '9s'\nsync_timeout = '8s' | 2 | t.toml: line 2: not TOML | duplicate
\n\ngithub_webhook_secert = 'carrot' | 2 | line 3 | mean `github_webhook_secret`?
GITHUB_TOKEN = 'carrot' | 2 | line 1 | did you mean `github_token`?
nothing_like_it = 1 | 2 | line 1: unknown key | tallyhook config show
[github]\ntoken = 'carrot' | 2 | line 1: unknown table `github` | keys such as
[[channels]]\nname = 'x' | 2 | line 1 | did you mean [[channel]]?
channel = 'carrot' | 2 | line 1: `channel` must be tables | [[channel]]
[[channel]]\nsync_interval = '60s' | 2 | line 2 | above the first [[channel]]
[[channel]]\nnmae = 'ops' | 2 | line 2: unknown key `nmae` | did you mean `name`?
[[channel]]\nname = 'ops'\nkind = 'slack' | 2 | line 1: channel `ops` | is missing
[[channel]]\nname = 'ops'\nkind = 'mail' | 2 | channel `ops` | slack or webhook
bot_logins = 1.5 | 2 | t.toml: line 1: the value of `bot_logins` | a number or a list
\nsync_interval = 60 | 2 | t.toml line 2: SYNC_INTERVAL | did you mean `60s`?
github_token_file = 'none' | 2 | t.toml: line 1: GITHUB_TOKEN_FILE | readable file
default_calendar = 'x' | 2 | t.toml: line 1: default_calendar | `x` | [calendars.NAME]
default_calendar = 5 | 2 | t.toml: line 1: invalid type | a string
[calendar.b]\nzone = 'UTC' | 2 | line 1: unknown table `calendar` | mean [calendars.NAME]?
[calendars.b]\nzoen = 'UTC' | 2 | line 2: unknown field `zoen` | `zone`
[calendars.b]\nweek = { monday = [] } | 2 | line 2: unknown field `monday` | `mon`
[calendars.b]\nweek = { mon = ['09:00-10:00'] } | 2 | line 1 | missing field `zone`
[calendars.B]\nzone = 'UTC' | 2 | line 1: calendar `B`: the name is wrong | lower-case
[calendars.b]\nzone = 'Berlin' | 2 | line 1: calendar `b`: zone | mean `Europe/Berlin`?
[calendars.b]\nzone = 'UTC' | 2 | calendar `b` | no working hours | 09:00-17:00
{B}'09:00-12:00', '11:00-13:00'{C} | 2 | calendar `b`: mon: | 09:00-12:00 | overlap
{B}'18:00-09:00'{C} | 2 | calendar `b`: mon: | end before they begin | two blocks
{B}'9-17'{C} | 2 | calendar `b`: mon: `9-17` are no hours | 09:00-17:30
{B}'09:00-10:00'{C}\ndates = { 2026-02-30 = [] } | 2 | calendar `b` | `2026-02-30` is no date
{B}'09:00-10:00'{C}\nholidays_ical = 'none.ics' | 2 | calendar `b`: holidays_ical none.ics | read
{B}'09:00-10:00'{C}\nholidays_ical = 'empty' | 2 | empty: is no iCalendar file | BEGIN:VCALENDAR
{B}'09:00-10:00'{C}\nholidays_ical = 'weekly.ics' | 2 | event `Friday` | RRULE `FREQ=WEEKLY` | YEARLY
{B}'09:00-10:00'{C}\n[team_calendars]\nweb = 'x' | 2 | line 5: team_calendars | are b
{B}'09:00-10:00'{C}\n[repository_calendars]\nacme = 'b' | 2 | line 5: rep | owner/name
{B}'09:00-10:00'{C}\n[person_calendars]\nIna = 'b'\nina = 'b' | 2 | line 6: person | twice
required_approvals = 7 | 2 | t.toml line 1: REQUIRED_APPROVALS is `7` | 0 to 6
[default_reviewer]\nx = [] | 2 | line 1: unknown table `default_reviewer` | mean [default_reviewers]?
[default_reviewers]\n'acme/*' = ['web'] | 2 | t.toml: line 2: | has `web` | github_team:SLUG
[default_reviewers]\nacme = [] | 2 | line 2: one of `default_reviewers` | owner/name or owner/*
tallyhook_admin_token = ''\ngithub_api_url = 'carrot' | 2 | t.toml line 2: GITHUB_API_URL
";

/// Calls of the program.
const CALLS: &str = r"
bogus | 2 | 'bogus' | `tallyhook --help`
serv | 2 | 'serve' | `tallyhook --help`
serve --bogus | 2 | '--bogus' | `tallyhook serve --help`
serve --role ingst | 2 | 'ingst' for '--role | exists: 'ingest'
serve --role ingest,api | 2 | --role | AMQP_URL | leave --role out
serve --listen | 2 | a value is required for '--listen | serve --help`
serve --listen 9000 | 2 | did you mean `127.0.0.1:9000`?
serve --log-format jsn | 2 | 'jsn' for '--log-format | exists: 'json'
serve --config none.toml | 2 | configuration file none.toml | tallyhook init
serve --config . | 2 | configuration file . | directory
serve --config latin.toml | 2 | configuration file latin.toml | UTF-8
serve --no-migrate | 1 | no database at test.db | tallyhook migrate
migrate --database-url nonsense | 2 | is not a URL | sqlite://FILE
demo --listen x | 2 | `x` | an address and port such as 127.0.0.1:8080
deliveries | 2 | needs a command: list, show, export
config chek | 2 | 'check' | `tallyhook config --help`
config check --config none.toml | 2 | none.toml | tallyhook init
doctor --jsno | 2 | '--jsno' | '--json'
man bogus | 2 | no command `bogus` | tallyhook --help
init --listen x | 2 | 'x' for '--listen | `tallyhook init --help`
init --folder text.db | 1 | text.db | not a folder
init --config t.toml | 2 | reads no --config | --folder
init --folder full | 1 | webhook-secret exists | another --folder
replay | 2 | were not provided: <PATH> | `tallyhook replay --help`
replay none.jsonl | 1 | cannot read none.jsonl | No such file
replay text.db --drop 2 | 2 | '2' for '--drop | from 0 to 1
replay text.db --rate 0 | 2 | '0' for '--rate | 1..=100000
deliveries show none | 1 | no database at test.db | tallyhook serve
deliveries list --state gone | 2 | 'gone' for '--state | accepted, applied
dead requeue | 2 | were not provided | --all
dead requeue abc | 2 | 'abc' for '[IDS]...' | dead requeue --help
dead requeue 1 --all | 2 | cannot be used with '--all'
dead discard 1 | 2 | were not provided: --reason
token create | 2 | were not provided: <NAME>
backfill acme | 2 | `acme` is not a repository | OWNER/REPO
backfill acme/api | 2 | GITHUB_TOKEN is not set | GITHUB_APP_ID
backfill acme/api --days 0 | 2 | '0' for '--days | 1..=36500
recover | 2 | no webhook is selected | --repo OWNER/NAME
poll | 2 | were not provided: --once
poll --once | 2 | GITHUB_TOKEN is not set
notify test none | 2 | no channel is configured | SLACK_WEBHOOK_URL
hook create acme/api | 2 | were not provided: --url
hook create acme/api --url x | 2 | `x` is not the URL of a webhook | https://
completions cobol | 2 | 'cobol' | bash, elvish
worktrees | 2 | WORKTREE_ROOT is not set | the folder
worktrees --remove --dry-run | 2 | cannot be used with
recompute | 1 | no database at test.db | tallyhook migrate
";

/// Holidays that are repeated in a way that is not understood.
const WEEKLY: &str = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Friday\r\n\
                      DTSTART;VALUE=DATE:20260306\r\nRRULE:FREQ=WEEKLY\r\nEND:VEVENT\r\n\
                      END:VCALENDAR\r\n";

fn folder() -> Place {
    let folder = Place::embedded();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    };
    write(
        "text.db",
        "this is no database, however long it may be\n"
            .repeat(40)
            .as_bytes(),
    );
    write("empty", b"\n");
    write("weekly.ics", WEEKLY.as_bytes());
    write("latin.toml", b"bot_logins = ['\xe4']");
    fs::create_dir(folder.path().join("full")).unwrap();
    write("full/webhook-secret", b"");
    folder
}

/// Returns the reason why an ending is not one good line with its words.
fn fault(ended: &Ended, code: i32, words: &[&str]) -> Option<String> {
    let Ended {
        code: found,
        stdout,
        stderr,
    } = ended;
    if *found != Some(code) {
        return Some(format!("exit code {found:?} instead of {code}"));
    }
    if !stdout.is_empty() || stderr.lines().count() != 1 {
        return Some("not one line on standard error alone".to_owned());
    }
    let Some(line) = stderr.trim_end().strip_prefix("tallyhook: ") else {
        return Some("it does not begin with the program's name".to_owned());
    };
    let parts: Vec<_> = line.split(": ").collect();
    if let Some(twice) = parts.windows(2).find(|parts| parts[0] == parts[1]) {
        return Some(format!("`{}` is repeated", twice[0]));
    }
    let refused = [CARROT, "panicked", "Error:", "error:"];
    if let Some(refused) = refused.iter().find(|refused| line.contains(*refused)) {
        return Some(format!("it contains `{refused}`"));
    }
    let missing = words.iter().find(|word| !line.contains(*word));
    missing.map(|missing| format!("no `{missing}`"))
}

/// Runs a table of lines `INPUT | EXIT CODE | WORDS | ...`, and names every use that falls short.
fn check(table: &str, command: impl Fn(&Place, &str) -> std::process::Command) {
    let mut faults = Vec::new();
    let uses: Vec<_> = table.lines().filter(|line| !line.is_empty()).collect();
    for wrong in &uses {
        let mut columns = wrong.split(" | ");
        let input = columns
            .next()
            .unwrap()
            .replace("{B}", "[calendars.b]\nzone = 'UTC'\nweek = { mon = [")
            .replace("{C}", "] }")
            .replace("\\n", "\n")
            .replace("\\t", "\t");
        let code = columns.next().unwrap().parse().unwrap();
        let words: Vec<_> = columns.collect();
        assert!(!words.is_empty(), "{wrong}");
        let place = folder();
        let ended = run(&mut command(&place, &input));
        if let Some(fault) = fault(&ended, code, &words) {
            faults.push(format!("{input:?}: {fault}: {}", ended.stderr));
        }
    }
    let (count, all) = (faults.len(), uses.len());
    assert!(
        faults.is_empty(),
        "{count} of {all} fall short:\n{}",
        faults.join("\n")
    );
}

#[test]
fn wrong_settings_are_one_line_with_the_next_step() {
    check(SETTINGS, |place, settings| {
        let mut command = tallyhook(place.path(), &["serve"]);
        for setting in settings.split(' ') {
            let (name, value) = setting.split_once('=').unwrap();
            command.env(name, value);
        }
        command
    });
}

#[test]
fn wrong_configuration_files_are_one_line_with_file_line_and_next_step() {
    check(FILES, |place, text| {
        fs::write(place.path().join("t.toml"), text).unwrap();
        tallyhook(place.path(), &["serve", "--config", "t.toml"])
    });
}

#[test]
fn wrong_calls_are_one_line_with_the_next_step() {
    check(CALLS, |place, call| {
        let arguments: Vec<_> = call.split(' ').collect();
        tallyhook(place.path(), &arguments)
    });
}
