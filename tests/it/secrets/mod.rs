//! Stored secrets: sealed for their place, refreshed by one process at a time, rotated beside
//! running ones, locked without their key.

mod keys;
mod places;
mod refreshing;
mod rotation;

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tallyhook::secrets::{
    CredentialDraft, KeyRing, KeySource, SecretBytes, TokenDraft, Vault, new_key,
};
use tallyhook_store::{CredentialKind, OpenMode, Store, TokenOwner};
use testkit::database::{Database, report_rows};

const HOST: &str = "https://api.github.com";
/// A person, by the id of a user here, and the id of the account at GitHub.
const OWNER: TokenOwner = TokenOwner::User(7);
const ACCOUNT: i64 = 4_004;

async fn open(database: &Database) -> Store {
    let opened = tallyhook_store::open(&database.url, OpenMode::Exclusive).await;
    opened.unwrap()
}

/// Returns a key that no other test has.
fn key() -> String {
    let key = new_key().unwrap();
    key.expose_text().unwrap().to_owned()
}

/// Returns the keys of settings.
fn source(keys: &[&str]) -> KeySource {
    let keys = KeyRing::parse(&keys.join(" "));
    KeySource::Settings(Arc::new(keys.ok().unwrap()))
}

fn vault(store: &Store, keys: &[&str]) -> Vault {
    Vault::new(store.clone(), source(keys), HOST)
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_500_000, 0).unwrap()
}

/// Returns tokens whose texts end in `name`, with so many minutes left.
fn tokens(name: &str, minutes: i64) -> TokenDraft {
    TokenDraft {
        access: format!("ghu_access_{name}").into(),
        refresh: Some(format!("ghr_refresh_{name}").into()),
        access_expires_at: Some(now() + TimeDelta::minutes(minutes)),
        refresh_expires_at: Some(now() + TimeDelta::days(180)),
    }
}

fn draft(account: i64, tokens: TokenDraft) -> CredentialDraft<'static> {
    CredentialDraft {
        owner: OWNER,
        kind: CredentialKind::AppUser,
        github_user: account,
        login: "octocat",
        tokens,
        scopes: &[],
        missing: &[],
    }
}

async fn save(vault: &Vault, tokens: TokenDraft) -> String {
    let saved = vault.save_credential(&draft(ACCOUNT, tokens), now()).await;
    saved.unwrap()
}

/// Returns the access token of a stored credential.
async fn stored(vault: &Vault, id: &str) -> Option<String> {
    let credential = vault.store().credential(id).await.unwrap().unwrap();
    let opened = vault.open_credential(&credential).unwrap();
    opened.map(|opened| text(&opened.access))
}

fn text(secret: &SecretBytes) -> String {
    secret.expose_text().unwrap().to_owned()
}

/// Returns all bytes of a database and of what lies beside it.
async fn bytes(database: &Database) -> Vec<u8> {
    if let Some(file) = tallyhook_store::sqlite_file(&database.url) {
        let folder = file.parent().unwrap_or(Path::new("."));
        let files = std::fs::read_dir(folder).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let files = files.filter(|path| !path.ends_with("tallyhook-keys"));
        return files
            .flat_map(|path| std::fs::read(path).unwrap())
            .collect();
    }
    let tables = [
        "github_credentials",
        "github_apps",
        "github_flows",
        "revocations",
        "audit_events",
    ];
    let mut found = Vec::new();
    for table in tables {
        let rows = report_rows(&database.url, &format!("SELECT * FROM {table}")).await;
        found.extend(serde_json::to_vec(&rows).unwrap());
    }
    found
}

fn contains(bytes: &[u8], text: &str) -> bool {
    let has = |sought: &[u8]| bytes.windows(sought.len()).any(|part| part == sought);
    has(text.as_bytes()) || has(hex::encode(text).as_bytes())
}
