//! `tallyhook init`, `config` and `man` as a new user runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tallyhook_core::github::signature::Secrets;
use testkit::Place;
use testkit::process::{Serve, bare, run};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn first_configuration_is_private_never_overwritten_and_serves() {
    let place = Place::embedded();
    let folder = place.path().join("data of mine");
    let init = [
        "init",
        "--folder",
        "data of mine",
        "--listen",
        "127.0.0.1:0",
    ];
    let shown = run(&mut bare(place.path(), &init)).ok();
    for words in [
        "  1. Start it:",
        "  2. At GitHub",
        "  3. See",
        "tallyhook doctor --config",
    ] {
        assert!(shown.contains(words), "{shown}");
    }
    assert!(
        shown.lines().all(|line| line.chars().count() <= 120),
        "{shown}"
    );
    assert_eq!(mode(&folder), 0o700);
    let (config, secret) = (folder.join("tallyhook.toml"), folder.join("webhook-secret"));
    assert_eq!((mode(&config), mode(&secret)), (0o600, 0o600));
    let secret = fs::read_to_string(secret).unwrap();
    assert!(
        !shown.contains(secret.trim()) && secret.trim().len() == 64,
        "{shown}"
    );

    let before = fs::read_to_string(&config).unwrap();
    run(&mut bare(place.path(), &init)).failed(1, &["webhook-secret exists", "--folder"]);
    assert_eq!(fs::read_to_string(&config).unwrap(), before);

    // Every setting that it has as a comment can be set.
    let whole: String = before
        .lines()
        .filter_map(|line| {
            let line = line.strip_prefix("# ").unwrap_or(line);
            let is_setting = line.contains(" = ") || line.starts_with("[[");
            (is_setting && !line.contains("github_token_file") && !line.contains("slack"))
                .then(|| format!("{line}\n"))
        })
        .collect();
    assert!(whole.lines().count() > 10, "{whole}");
    fs::write(folder.join("whole.toml"), whole).unwrap();
    let config = config.to_str().unwrap();
    for file in [config, folder.join("whole.toml").to_str().unwrap()] {
        let checked = run(&mut bare(
            place.path(),
            &["config", "check", "--config", file],
        ))
        .ok();
        assert!(checked.starts_with("the settings are valid"), "{checked}");
    }

    let serve = ["serve", "--config", config, "--log-format", "json"];
    let serve = Serve::start_command(&mut bare(place.path(), &serve));
    let body = br#"{"zen":"Design for failure."}"#;
    let signature = Secrets::single(secret.trim()).unwrap().sign(body);
    let answer = reqwest::Client::new()
        .post(format!("{}/webhooks/github", serve.url))
        .header("Content-Type", "application/json")
        .header("X-GitHub-Event", "star")
        .header("X-GitHub-Delivery", "one")
        .header("X-Hub-Signature-256", signature.to_header())
        .body(body.to_vec());
    assert_eq!(answer.send().await.unwrap().status(), 202);
    assert!(folder.join("tallyhook.db").exists());
    assert!(serve.terminate().0.success());
}

#[test]
fn units_are_written_beside_or_printed() {
    let place = Place::embedded();
    fs::create_dir(place.path().join("units")).unwrap();
    let init = ["init", "--folder", "data", "--systemd"];
    // Nothing is left of a run that fails at a later file.
    run(&mut bare(place.path(), &[&init[..], &["missing"]].concat()))
        .failed(1, &["cannot write missing/tallyhook.service"]);
    let data = place.path().canonicalize().unwrap().join("data");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    let shown = run(&mut bare(place.path(), &[&init[..], &["units"]].concat())).ok();
    assert!(
        shown.contains("systemctl enable --now tallyhook.socket"),
        "{shown}"
    );
    let service = fs::read_to_string(place.path().join("units/tallyhook.service")).unwrap();
    let starts = format!("serve --config {}/tallyhook.toml", data.display());
    assert!(service.contains(&starts), "{service}");
    assert_eq!(mode(&place.path().join("units/tallyhook.socket")), 0o644);

    let other = Place::embedded();
    let shown = run(&mut bare(other.path(), &["init", "--systemd", "-"])).ok();
    assert!(
        shown.contains("[Service]") && shown.contains("ListenStream="),
        "{shown}"
    );
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 2);
}

#[test]
fn settings_in_force_are_shown_with_their_source_and_without_secrets() {
    let place = Place::embedded();
    let file = "sync_interval = '90s'\ngithub_token = 'ghp_carrot'\n\n[[channel]]\nname = 'ops'\n\
                kind = 'slack'\nurl = 'https://hooks.example.com/carrot'\n";
    fs::write(place.path().join("t.toml"), file).unwrap();
    fs::write(place.path().join("secret"), "a carrot that is long enough").unwrap();
    let show = |arguments: &[&str]| {
        let arguments = [&["config", "show", "--config", "t.toml"], arguments].concat();
        let mut command = bare(place.path(), &arguments);
        command
            .env("GITHUB_WEBHOOK_SECRET_FILE", "secret")
            .env("AMQP_URL", "amqp://bunny:carrot@mq.internal/x")
            .env("COLUMNS", "80");
        run(&mut command).ok()
    };
    let flags = ["--database-url", "postgres://me:carrot@db.internal/t"];
    let shown = show(&[&flags[..], &["--json"]].concat());
    assert!(!shown.contains("carrot"), "{shown}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["config_file"], "t.toml");
    let items = shown["items"].as_array().unwrap();
    for (name, value, from) in [
        ("SYNC_INTERVAL", "90s", "t.toml line 1"),
        ("GITHUB_TOKEN", "(hidden)", "t.toml line 2"),
        (
            "GITHUB_WEBHOOK_SECRET",
            "(hidden)",
            "environment, in secret",
        ),
        ("AMQP_URL", "amqp://bunny:***@mq.internal/x", "environment"),
        ("DATABASE_URL", "postgres://me:***@db.internal/t", "flag"),
        ("SYNC_TIMEOUT", "30s", "default"),
        ("channel ops", "slack https://hooks.example.com/…", "t.toml"),
    ] {
        let item = items.iter().find(|item| item["name"] == name).unwrap();
        assert_eq!(
            (&item["value"], &item["from"]),
            (&value.into(), &from.into()),
            "{item}"
        );
    }
    let unset = items
        .iter()
        .find(|item| item["name"] == "WORKTREE_ROOT")
        .unwrap();
    assert!(unset["value"].is_null() && unset["from"].is_null());
    let table = show(&[]);
    assert!(
        table.contains("t.toml line 1") && !table.contains("carrot"),
        "{table}"
    );

    // A check fails like the start of a server, and can be read by a program.
    let check = ["config", "check", "--json"];
    let mut check = bare(place.path(), &check);
    let ended = run(check.env("GITHUB_WEBHOOK_SECRETS", "misspelt"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(found["valid"], false);
    assert!(
        found["error"]
            .as_str()
            .unwrap()
            .starts_with("GITHUB_WEBHOOK_SECRET is not set")
    );
}

#[test]
fn manual_pages_are_printed_one_by_one_or_written_together() {
    let place = Place::embedded();
    for (arguments, words) in [
        (&["man"][..], ".TH tallyhook 1"),
        (&["man", "dead", "requeue"], "tallyhook\\-dead\\-requeue"),
    ] {
        let page = run(&mut bare(place.path(), arguments)).ok();
        assert!(page.contains(words), "{page}");
    }
    assert_eq!(
        run(&mut bare(place.path(), &["man", "--output", "man1"])).ok(),
        ""
    );
    for page in [
        "tallyhook.1",
        "tallyhook-serve.1",
        "tallyhook-token-create.1",
    ] {
        let text = fs::read_to_string(place.path().join("man1").join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}: {text}");
    }
    let version = run(&mut bare(place.path(), &["--version"])).ok();
    assert!(
        version.contains("\nbuilt for ") && version.contains("features"),
        "{version}"
    );
}
