//! Checks of stored secrets: their keys, their connections, open revocations.

use chrono::{TimeDelta, Utc};
use tallyhook_store::Store;

use super::Finding;
use crate::config::{Config, TALLYHOOK_ENCRYPTION_KEYS};
use crate::secrets::{SecretError, Vault};

const CHECK: &str = "secrets";
/// The age of a revocation from which on it is reported.
const LATE: TimeDelta = TimeDelta::hours(1);

pub(super) async fn findings(config: &Config, store: &Store) -> Vec<Finding> {
    let host = config.github_api_url.to_string();
    let vault = Vault::new(store.clone(), config.key_source.clone(), host);
    match examine(config, &vault).await {
        Ok(findings) => findings,
        Err(SecretError::Store(error)) => {
            let advice = "see the check of the database";
            vec![Finding::wrong(CHECK, error.to_string(), advice)]
        }
        Err(error) => {
            let advice = "until then no secret can be stored or used; everything else runs";
            vec![Finding::wrong(CHECK, error.to_string(), advice)]
        }
    }
}

async fn examine(config: &Config, vault: &Vault) -> Result<Vec<Finding>, SecretError> {
    let status = vault.status().await?;
    let mut findings: Vec<_> = status
        .missing()
        .map(|key| {
            Finding::wrong(
                CHECK,
                format!(
                    "the key {} is not configured, and {} rows that it sealed are locked",
                    key.id,
                    key.rows()
                ),
                format!(
                    "put it back into {TALLYHOOK_ENCRYPTION_KEYS} or the file tallyhook-keys; if it \
                     is lost, `tallyhook secrets forget {} --destroy`",
                    key.id
                ),
            )
        })
        .collect();
    let unused = status
        .keys
        .iter()
        .filter(|key| key.is_configured && !key.seals && key.rows() == 0);
    findings.extend(unused.map(|key| {
        let found = format!("the key {} opens nothing that is stored", key.id);
        let advice = "take it out, once no backup that you may restore needs it";
        Finding::warning(CHECK, found, advice)
    }));
    let revocations = vault.store().revocation_counts().await?;
    if revocations.oldest.is_some_and(|at| Utc::now() - at > LATE) {
        findings.push(Finding::warning(
            CHECK,
            format!("GitHub has not revoked {} tokens yet", revocations.open),
            "they are tried again for a week: see the check of GitHub",
        ));
    }
    for (state, count) in vault.store().credential_counts().await? {
        if state == "reconnect_needed" {
            findings.push(Finding::warning(
                CHECK,
                format!("GitHub no longer accepts {count} connections"),
                "connect them again",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(whole(config, status.keys.is_empty()));
    }
    Ok(findings)
}

/// Returns the finding of secrets of which none is locked.
fn whole(config: &Config, has_no_key: bool) -> Finding {
    match (has_no_key, config.key_source.path()) {
        (false, Some(path)) => Finding::ok(
            CHECK,
            format!(
                "sealed by the keys of {}, which no backup of the database has: keep a copy apart",
                path.display()
            ),
        ),
        (false, None) => Finding::ok(CHECK, "sealed by the keys of the settings"),
        (true, Some(_)) => Finding::ok(CHECK, "none is stored; a key is made with the first"),
        (true, None) => Finding::ok(
            CHECK,
            format!(
                "none is stored, and none can be before {TALLYHOOK_ENCRYPTION_KEYS} is set to a key \
                 of `openssl rand -base64 32`"
            ),
        ),
    }
}
