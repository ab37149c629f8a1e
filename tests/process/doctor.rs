//! `tallyhook doctor` as its users run it: the program against a fake GitHub.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::Connection;
use tallyhook_github_client::VirtualTime;

use testkit::Place;
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN, Resource, Rights, Sending, app};
use testkit::process::{SECRET, Serve, TOKEN, run, signed, tallyhook};

const REPO: &str = "acme-corp/api-server";
const HOOK: i64 = 5;
const URL: &str = "https://tallyhook.example.com/webhooks/github";

/// Everything that is checked, in good order: a database, a repository, and a webhook whose last
/// delivery succeeded.
struct Scene {
    github: FakeGithub,
    place: Place,
}

impl Scene {
    async fn new() -> Self {
        let github = FakeGithub::start().await;
        github.add_repository(7, REPO);
        github.add_hook(HOOK, &format!("repos/{REPO}"), URL, SECRET);
        let scene = Self {
            github,
            place: Place::embedded(),
        };
        scene.last_delivery(202).await;
        assert_eq!(
            run(&mut tallyhook(scene.place.path(), &["migrate"])).code,
            Some(0)
        );
        scene
    }

    async fn last_delivery(&self, status: u16) {
        let sending = Sending::Fails(status);
        self.github
            .deliver(HOOK, ("ping", "0b1", &json!({})), Utc::now(), sending)
            .await;
    }

    fn doctor(&self) -> Command {
        let mut command = tallyhook(self.place.path(), &["doctor", "--json"]);
        command
            .env("GITHUB_TOKEN", GITHUB_TOKEN)
            .env("GITHUB_API_URL", &self.github.url)
            .env("GITHUB_REPO_OWNER", "acme-corp")
            .env("GITHUB_REPO_NAME", "api-server");
        command
    }

    /// Runs the command with the settings of this scene.
    fn findings(&self) -> Findings {
        findings(&mut self.doctor())
    }
}

/// The findings, and the exit code.
struct Findings {
    code: i32,
    all: Vec<Value>,
}

/// Runs the command, and asserts that it shows no secret, and that its exit code is 1 exactly if a
/// finding is wrong.
fn findings(command: &mut Command) -> Findings {
    let ended = run(command);
    let all: Vec<Value> =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}", ended.stderr));
    let wrong = all.iter().any(|finding| finding["state"] == "wrong");
    assert_eq!(
        ended.code,
        Some(i32::from(wrong)),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
    assert_eq!(
        ended.stderr.lines().count(),
        usize::from(wrong),
        "{}",
        ended.stderr
    );
    for secret in [SECRET, TOKEN, GITHUB_TOKEN, "carrot", "PRIVATE KEY"] {
        assert!(
            !ended.stdout.contains(secret) && !ended.stderr.contains(secret),
            "{}{}",
            ended.stdout,
            ended.stderr
        );
    }
    for finding in &all {
        let advised = finding["advice"] != "";
        assert_eq!(advised, finding["state"] != "ok", "{finding}");
    }
    Findings {
        code: ended.code.unwrap(),
        all,
    }
}

impl Findings {
    /// Returns the findings that are not ok: the severity and the check.
    fn not_ok(&self) -> Vec<(&str, &str)> {
        let bad = self.all.iter().filter(|finding| finding["state"] != "ok");
        bad.map(|finding| {
            (
                finding["state"].as_str().unwrap(),
                finding["check"].as_str().unwrap(),
            )
        })
        .collect()
    }

    /// Asserts that these are all the findings that are not ok, and that their text has each of
    /// `words`.
    #[track_caller]
    fn only(&self, state: &str, check: &str, words: &[&str]) {
        assert_eq!(self.not_ok(), [(state, check)], "{:#?}", self.all);
        self.told(check, words);
    }

    /// Asserts that the worst finding of `check` has each of `words`.
    #[track_caller]
    fn told(&self, check: &str, words: &[&str]) {
        let of = || self.all.iter().filter(|finding| finding["check"] == check);
        let worst = of()
            .find(|finding| finding["state"] != "ok")
            .or_else(|| of().next());
        let told = worst
            .unwrap_or_else(|| panic!("nothing of {check}: {:#?}", self.all))
            .to_string();
        for word in words {
            assert!(told.contains(word), "no `{word}` in {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_setup_has_only_ok_lines() {
    let scene = Scene::new().await;
    let found = scene.findings();
    assert_eq!(
        (found.code, found.not_ok()),
        (0, vec![]),
        "{:#?}",
        found.all
    );
    for (check, words) in [
        ("database", ["of this version", "repositories tracked"]),
        ("listener", ["any", "port"]),
        (
            "token",
            ["GitHub accepts it", "admin:repo_hook, read:org, repo"],
        ),
        ("rate limit", ["5000", "remain"]),
        ("clock", ["GitHub", "in sync"]),
        ("repository", [REPO, "can be read"]),
        ("pull requests", [REPO, "can be fetched"]),
        ("deliveries", [REPO, "no webhook has arrived yet"]),
        ("webhook", [URL, "answered with 202"]),
    ] {
        found.told(check, &words);
    }
    scene.github.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_gets_a_table() {
    let scene = Scene::new().await;
    let mut command = tallyhook(scene.place.path(), &["doctor"]);
    let ended = run(command.env("GITHUB_WEBHOOK_SECRET", "carrot cake"));
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), ""),
        "{}",
        ended.stdout
    );
    for words in [
        "next step",
        "webhook secret",
        "warning",
        "openssl rand",
        "neither a token nor an App",
    ] {
        assert!(
            ended.stdout.contains(words),
            "no `{words}` in\n{}",
            ended.stdout
        );
    }
    assert!(!ended.stdout.contains("carrot"));
    scene.github.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_defect_of_a_token_is_found() {
    let scene = Scene::new().await;
    let with = |token: &str| findings(scene.doctor().env("GITHUB_TOKEN", token));
    with("ghp_nobody").only(
        "wrong",
        "GitHub",
        &["does not accept the token", "set GITHUB_TOKEN"],
    );

    scene.github.give("ghp_public", Rights::Public);
    let public = with("ghp_public");
    assert_eq!(public.not_ok()[0], ("warning", "token"));
    public.told("token", &["no scope", "the scope repo"]);

    scene.github.give("ghp_reader", Rights::Read);
    let reader = with("ghp_reader");
    assert_eq!(
        (reader.code, reader.not_ok()),
        (0, vec![("warning", "token"), ("warning", "webhook")])
    );
    reader.told(
        "token",
        &["public_repo", "cannot read webhooks", "admin:repo_hook"],
    );

    scene.github.give("github_pat_fine", Rights::FineGrained);
    let fine = with("github_pat_fine");
    fine.only(
        "warning",
        "webhook",
        &["repository_hooks=write", "has no access to it"],
    );
    fine.told("token", &["fine-grained"]);

    scene
        .github
        .expires(GITHUB_TOKEN, Utc::now() + TimeDelta::days(30));
    scene.findings().told("token's end", &["ok", "valid until"]);
    scene
        .github
        .expires(GITHUB_TOKEN, Utc::now() + TimeDelta::days(3));
    scene.findings().only(
        "warning",
        "token's end",
        &["valid until", "create a new one"],
    );
    scene.github.give(GITHUB_TOKEN, Rights::Admin);
    scene.github.allow(GITHUB_TOKEN, Resource::Core, 5000, 499);
    scene
        .findings()
        .only("warning", "rate limit", &["499 of 5000"]);
    scene.github.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_real_query_shows_what_github_refuses() {
    let scene = Scene::new().await;
    let scopes = "The 'slug' field requires one of the following scopes: ['read:org']";
    for (text, error, words) in [
        (
            "on Team",
            json!({"type": "INSUFFICIENT_SCOPES", "message": scopes}),
            ["without the teams", "read:org"],
        ),
        (
            "on Bot { login",
            json!({"message": "Fragment on Bot can't be spread inside RequestedReviewer"}),
            ["the bots", "RequestedReviewer"],
        ),
        (
            "title",
            json!({"message": "Field 'title' doesn't exist on type 'PullRequest'"}),
            ["wrong", "Field 'title'"],
        ),
    ] {
        scene.github.refuse(text, error);
        scene.findings().told("pull requests", &words);
    }
    scene.github.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_with_missing_events_is_reported() {
    let scene = Scene::new().await;
    let with = |change: Value| {
        scene.github.change_hook(HOOK, &change);
        scene.findings()
    };
    let most = [
        "pull_request",
        "pull_request_review",
        "pull_request_review_comment",
        "issue_comment",
        "repository",
    ];
    with(json!({"events": most})).only(
        "warning",
        "webhook",
        &["does not send pull_request_review_thread, push\""],
    );
    with(json!({"events": ["push"]})).only(
        "wrong",
        "webhook",
        &["does not send pull_request,", "add the events"],
    );
    let all = [&most[..], &["pull_request_review_thread", "push"]].concat();
    assert_eq!(with(json!({"events": all})).not_ok(), []);
    with(json!({"active": false})).only("wrong", "webhook", &["not active"]);
    with(json!({"active": true, "config": {"content_type": "xml"}})).only(
        "wrong",
        "webhook",
        &["content type"],
    );
    let loose = json!({"config": {"content_type": "form", "insecure_ssl": "1"}});
    with(loose).only("warning", "webhook", &["does not check our certificate"]);
    let elsewhere =
        json!({"config": {"insecure_ssl": "0", "url": "https://me:carrot@ci.example.com/hook"}});
    with(elsewhere).only(
        "wrong",
        "webhook",
        &[
            "none of its 1 webhooks",
            "/webhooks/github",
            "hook create acme-corp/",
        ],
    );

    // The organization's webhook covers its repositories, too.
    scene.github.add_hook(6, "orgs/acme-corp", URL, SECRET);
    assert_eq!(scene.findings().not_ok(), []);
    scene.github.change_hook(6, &json!({"events": ["push"]}));
    scene
        .findings()
        .only("wrong", "webhook", &["does not send pull_request"]);
    scene.github.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_deliveries_are_reported() {
    let scene = Scene::new().await;
    scene.last_delivery(502).await;
    scene.findings().only(
        "wrong",
        "webhook",
        &["answered with 502", "tallyhook recover"],
    );
    scene.last_delivery(401).await;
    scene.findings().only(
        "wrong",
        "webhook",
        &["answered with 401", "that of GITHUB_WEBHOOK_SECRET"],
    );
    // These requests are about the token, the repository and its webhooks.
    scene
        .github
        .next([Fault::None, Fault::None, Fault::status(422)]);
    scene
        .findings()
        .only("wrong", "webhook", &["refused", "hooks", "retry later"]);
    scene.github.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_offset_and_deleted_repository_are_reported() {
    let scene = Scene::new().await;
    scene.github.set_clock_ahead(TimeDelta::hours(1));
    scene
        .findings()
        .only("wrong", "clock", &["s behind that of GitHub", "NTP"]);
    scene.github.set_clock_ahead(TimeDelta::seconds(-20));
    scene
        .findings()
        .only("warning", "clock", &["s ahead of that of GitHub"]);
    scene.github.set_clock_ahead(TimeDelta::zero());
    scene.github.rename(REPO, "acme-corp/server");
    scene
        .findings()
        .told("repository", &["ok", "its name is acme-corp/server now"]);
    let other = findings(scene.doctor().env("GITHUB_REPO_NAME", "other"));
    other.told(
        "repository",
        &["wrong", "GitHub has no /repos/acme-corp/other"],
    );
    scene.github.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_checked_with_its_installations_and_its_webhook() {
    let scene = Scene::new().await;
    let time = VirtualTime::starting_at(Utc::now());
    scene.github.add_app(&time);
    scene.github.add_hook(app::HOOK, "app", URL, SECRET);
    let with = |auto_pr: &str| {
        let mut command = scene.doctor();
        command
            .env_remove("GITHUB_TOKEN")
            .env("GITHUB_APP_ID", app::APP_ID)
            .env("TASK_AUTO_PR", auto_pr);
        findings(command.env("GITHUB_APP_PRIVATE_KEY", app::private_key()))
    };
    let (doctor, opening) = (|| with("false"), || with("true"));
    let nowhere = doctor();
    nowhere.told("installations", &["wrong", "not installed anywhere"]);
    nowhere.told(
        "repository",
        &["wrong", "not installed on acme-corp/api-server"],
    );
    scene.github.install("acme-corp", 9);
    let found = doctor();
    assert_eq!(found.not_ok(), [], "{:#?}", found.all);
    found.told("App", &["Tally", "read"]);
    found.told("installations", &["acme-corp"]);
    found.told("webhook", &[URL, "nothing was delivered yet"]);

    opening().only(
        "warning",
        "App",
        &[
            "but not open them",
            "TASK_AUTO_PR",
            "write access to pull requests",
        ],
    );
    scene.github.let_app(json!({"metadata": "read"}));
    opening().only(
        "wrong",
        "App",
        &[
            "may not read pull requests",
            "write access to pull requests",
        ],
    );
    doctor().only("wrong", "App", &["may not read pull requests"]);
    scene.github.let_app(json!({"pull_requests": "write"}));
    assert_eq!(opening().not_ok(), []);
    scene.github.change_hook(
        app::HOOK,
        &json!({"config": {"url": "https://elsewhere.example.com"}}),
    );
    doctor().only("wrong", "webhook", &["does not post to a URL"]);
    scene
        .github
        .add_app(&VirtualTime::starting_at(Utc::now() - TimeDelta::hours(1)));
    doctor().only(
        "wrong",
        "GitHub",
        &["does not accept the App", "check this machine's clock"],
    );
    scene.github.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_that_is_not_ready_is_reported_with_the_next_step() {
    let place = Place::embedded();
    let doctor = |url: &str| {
        findings(tallyhook(place.path(), &["doctor", "--json"]).env("DATABASE_URL", url))
    };
    let file = |path: &str| doctor(&format!("sqlite://{path}"));
    file("test.db").told(
        "database",
        &["warning", "test.db does not exist yet", "tallyhook serve"],
    );
    file("none/test.db").told("database", &["wrong", "none/test.db", "cannot be created"]);
    assert_eq!(
        std::fs::read_dir(place.path()).unwrap().count(),
        0,
        "looking leaves nothing behind"
    );

    std::fs::write(
        place.path().join("text.db"),
        "this is no database, however long it may be".repeat(20),
    )
    .unwrap();
    file("text.db").told("database", &["wrong", "file is not a database"]);
    std::fs::write(place.path().join("empty.db"), "").unwrap();
    file("empty.db").told("database", &["warning", "no tables yet"]);

    let server = "postgres://bunny:carrot@127.0.0.1:1/tallyhook";
    doctor(server).told(
        "database",
        &["wrong", "127.0.0.1:1", "as user bunny", "fix DATABASE_URL"],
    );
    doctor("mysql://bunny:carrot@localhost/x").told("database", &["wrong", "`mysql`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_of_another_version_is_reported() {
    let place = Place::embedded();
    assert_eq!(
        run(&mut tallyhook(place.path(), &["migrate"])).code,
        Some(0)
    );
    let doctor = || findings(&mut tallyhook(place.path(), &["doctor", "--json"]));
    doctor().told("database", &["ok", "of this version"]);
    let read_only = run(tallyhook(place.path(), &["doctor", "--json"])
        .env("DATABASE_URL", "sqlite://test.db?mode=ro"));
    assert!(
        read_only.stdout.contains("read-only"),
        "{}",
        read_only.stdout
    );
    let execute = async |statement: &'static str| {
        let url = format!("sqlite://{}", place.path().join("test.db").display());
        let mut connection = sqlx_sqlite::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query(statement)
            .execute(&mut connection)
            .await
            .unwrap();
    };
    execute("INSERT INTO _sqlx_migrations SELECT 9999, 'later', installed_on, true, checksum, 1 FROM _sqlx_migrations LIMIT 1").await;
    doctor().told(
        "database",
        &[
            "wrong",
            "this version of tallyhook knows",
            "use the newer version of tallyhook",
        ],
    );
    execute("DELETE FROM _sqlx_migrations WHERE version IN (9999, 1)").await;
    doctor().told(
        "database",
        &["warning", "migrations of", "tallyhook migrate"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_runs_beside_a_running_server() {
    let scene = Scene::new().await;
    let serve = Serve::start(scene.place.path());
    let address = serve.url.trim_start_matches("http://");
    let found = findings(scene.doctor().env("TALLYHOOK_LISTEN", address));
    assert_eq!(found.not_ok(), [], "{:#?}", found.all);
    found.told(
        "listener",
        &[
            "a tallyhook server answers",
            "ready",
            "migrations ok",
            "notifier not_used",
        ],
    );
    assert!(serve.terminate().0.success());

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let answering = std::thread::spawn({
        let taken = taken.try_clone().unwrap();
        move || drop(taken.accept().unwrap())
    });
    let address = taken.local_addr().unwrap().to_string();
    findings(scene.doctor().env("TALLYHOOK_LISTEN", address)).only(
        "wrong",
        "listener",
        &["in use by another program"],
    );
    answering.join().unwrap();
    findings(scene.doctor().env("TALLYHOOK_LISTEN", "192.0.2.1:80")).only(
        "wrong",
        "listener",
        &["cannot be listened on"],
    );
    scene.github.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_setting_or_server_is_reported() {
    let scene = Scene::new().await;
    let with = |name: &str, value: &str| findings(scene.doctor().env(name, value));
    with("DELIVERY_RETENTION_DAYS", "soon").only(
        "wrong",
        "settings",
        &["DELIVERY_RETENTION_DAYS is `soon`"],
    );
    with("GITHUB_TOKEN", "two carrots").only("wrong", "settings", &["GITHUB_TOKEN is not a token"]);
    findings(scene.doctor().args(["--config", "none.toml"])).only(
        "wrong",
        "settings",
        &["none.toml"],
    );
    findings(scene.doctor().env_remove("GITHUB_WEBHOOK_SECRET")).only(
        "wrong",
        "webhook secret",
        &["is not set", "openssl"],
    );
    with("GITHUB_WEBHOOK_SECRET", &format!("{SECRET}\ncarrot-cake")).only(
        "warning",
        "webhook secret",
        &["fewer than 16"],
    );
    with("GITHUB_WEBHOOK_SECRET", &format!("{SECRET}\ncarrot")).only(
        "wrong",
        "webhook secret",
        &["fewer than 8", "openssl"],
    );
    with("GITHUB_WEBHOOK_SECRET", &format!("{SECRET} carrot")).only(
        "warning",
        "webhook secret",
        &["spaces", "one a line"],
    );
    with("TALLYHOOK_ADMIN_TOKEN", "carrot-cake").only("warning", "admin token", &["fewer than 16"]);
    with("TALLYHOOK_ADMIN_TOKEN", "carrot").only("wrong", "admin token", &["fewer than 8"]);
    with("AMQP_URL", "amqp://bunny:carrot@127.0.0.1:1").only(
        "wrong",
        "broker",
        &["connecting", "fix AMQP_URL"],
    );
    with("AMQP_URL", "http://bunny:carrot@127.0.0.1").only(
        "wrong",
        "broker",
        &["is not the URL of a broker"],
    );
    with("GITHUB_API_URL", "http://127.0.0.1:1").only(
        "wrong",
        "GitHub",
        &["cannot be reached at http://127.0.0.1:1"],
    );
    // Other systems have certificates of their own, which no variable names.
    if cfg!(target_os = "linux") {
        let uncertified = findings(
            scene
                .doctor()
                .envs([("SSL_CERT_FILE", "/none"), ("SSL_CERT_DIR", "/none")]),
        );
        assert_eq!(
            uncertified.not_ok(),
            [("wrong", "channel"), ("wrong", "GitHub")]
        );
        uncertified.told("channel", &["install the certificates"]);
        uncertified.told("GitHub", &["install the certificates"]);
    }
    with("WORKTREE_ROOT", "nowhere").only(
        "wrong",
        "working trees",
        &["nowhere, which is not a folder"],
    );
    with("WORKTREE_ROOT", "/").told("working trees", &["ok", "git version"]);
    with("NOTIFY_WEBHOOK_URL", "http://10.0.0.1/carrot").only(
        "wrong",
        "channel",
        &["a private address"],
    );
    with("SLACK_WEBHOOK_URL", "https://hooks.example.com/carrot")
        .told("channel", &["ok", "https://hooks.example.com;"]);
    findings(scene.doctor().env_remove("GITHUB_TOKEN")).only(
        "warning",
        "GitHub",
        &["set GITHUB_TOKEN, or GITHUB_APP_ID"],
    );
    let opening = findings(
        scene
            .doctor()
            .env_remove("GITHUB_TOKEN")
            .env("TASK_AUTO_PR", "true"),
    );
    opening.only(
        "warning",
        "GitHub",
        &["TASK_AUTO_PR opens no pull requests", "set GITHUB_TOKEN"],
    );
    scene.github.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_readable_secrets_and_misspelt_settings_are_reported() {
    let place = Place::embedded();
    let serve = Serve::start(place.path());
    let http = reqwest::Client::new();
    let answer = signed(&http, &serve.url, "pull_request", "one", b"{}").send();
    assert_eq!(answer.await.unwrap().status(), 202);
    assert!(serve.terminate().0.success());
    let write = |name: &str, text: &str, mode: u32| {
        let path = place.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let doctor = || {
        let mut command = tallyhook(place.path(), &["doctor", "--json", "--config", "t.toml"]);
        command
            .env_remove("GITHUB_WEBHOOK_SECRET")
            .env("GITHUB_WEBHOOK_SECRET_FILE", "secret")
            .env("AMPQ_URL", "amqp://bunny:carrot@localhost");
        findings(&mut command)
    };
    let secret = "a carrot that is long enough and has_no_spaces".replace(' ', "-");
    write(
        "t.toml",
        "slack_webhook_url = 'https://example.com/carrot'",
        0o644,
    );
    write("secret", &secret, 0o604);
    let found = doctor();
    let named: Vec<_> = found
        .not_ok()
        .into_iter()
        .filter(|(_, check)| *check == "secret file")
        .collect();
    assert_eq!(named, [("warning", "secret file"); 2], "{:#?}", found.all);
    found.told(
        "secret file",
        &["GITHUB_WEBHOOK_SECRET", "chmod 600 secret"],
    );
    found.told(
        "dead letters",
        &["warning", "1 cannot be applied", "tallyhook dead list"],
    );
    found.told("inbox", &["every delivery is applied"]);
    found.told(
        "settings",
        &["warning", "AMPQ_URL", "did you mean AMQP_URL?"],
    );

    for name in ["t.toml", "secret"] {
        let private = Permissions::from_mode(0o640);
        std::fs::set_permissions(place.path().join(name), private).unwrap();
    }
    doctor().told("secret file", &["ok"]);
}
