//! Checks of the settings: secrets that can be guessed, values that look wrong.

use super::Finding;
use crate::config::{Config, GITHUB_WEBHOOK_SECRET, TALLYHOOK_ADMIN_TOKEN, WeakSecret};

pub(super) fn settings(config: &Config) -> Vec<Finding> {
    let valid = match &config.origins.config_file {
        Some(path) => format!("all settings are valid, with those of {}", path.display()),
        None => "all settings are valid".to_owned(),
    };
    let mut findings = vec![Finding::ok("settings", valid)];
    let doubtful = config.origins.warnings.iter();
    findings.extend(doubtful.map(|found| {
        let advice =
            "correct it, or remove it; `tallyhook config show` lists the settings in force";
        Finding::warning("settings", found.as_str(), advice)
    }));
    if config
        .database_file()
        .is_some_and(|file| file.starts_with("/tmp"))
    {
        findings.push(Finding::warning(
            "settings",
            "the database is below /tmp, which many systems empty at their start",
            "set DATABASE_URL to another folder, such as /var/lib/tallyhook",
        ));
    }
    findings.extend(webhook_secret(config));
    findings.extend(config.weak_secrets().into_iter().map(weak_secret));
    findings
}

/// Returns the finding of the webhook secrets, unless one of them is weak.
fn webhook_secret(config: &Config) -> Option<Finding> {
    let Some(secrets) = &config.webhook_secrets else {
        return Some(Finding::wrong(
            "webhook secret",
            format!(
                "{GITHUB_WEBHOOK_SECRET} is not set: `serve` does not accept webhooks without it"
            ),
            "create one with `openssl rand -hex 32`, and set it at GitHub, too; `tallyhook init` \
             makes one with a first configuration",
        ));
    };
    let mut weak = config.weak_secrets().into_iter();
    if weak.any(|weak| weak.setting == GITHUB_WEBHOOK_SECRET) {
        return None;
    }
    Some(match secrets.count() {
        1 => Finding::ok("webhook secret", "is set"),
        count => Finding::ok(
            "webhook secret",
            format!("{count} are set, all of them valid"),
        ),
    })
}

fn weak_secret(weak: WeakSecret) -> Finding {
    let check = match weak.setting {
        TALLYHOOK_ADMIN_TOKEN => "admin token",
        _ => "webhook secret",
    };
    if weak.is_refused {
        let found = format!("{}: `serve` does not start with it", weak.found);
        return Finding::wrong(check, found, weak.advice);
    }
    Finding::warning(check, weak.found, weak.advice)
}
