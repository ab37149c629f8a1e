//! Keys: where they are from, and what happens without them.

use std::os::unix::fs::PermissionsExt;

use chrono::TimeDelta;
use tallyhook::secrets::{
    AppSecrets, ConnectionEnd, FlowDraft, ForgottenKey, KeySource, ReturnedFlow, SecretError, Vault,
};
use tallyhook_store::{CredentialState, DEFAULT_TEAM, FlowPurpose, StoredApp};
use testkit::database::{Backend, Database, database};
use testkit::on_every_database;

use super::{HOST, bytes, contains, key, now, open, save, source, stored, text, tokens, vault};

on_every_database! {
    planted_secrets_are_in_no_byte_of_the_database,
    missing_key_locks_what_it_sealed_and_unlocks_when_it_is_back,
    without_a_key_nothing_is_stored_and_the_reason_is_in_words,
    lost_key_is_forgotten_with_what_it_sealed,
    flow_is_taken_once_by_its_own_browser_and_an_expired_one_says_so,
}

async fn planted_secrets_are_in_no_byte_of_the_database(database: Database) {
    let store = open(&database).await;
    let first = key();
    let vault = vault(&store, &[&first]);
    let id = save(&vault, tokens("planted", 60)).await;
    // The tokens before are to be revoked.
    assert_eq!(save(&vault, tokens("planted2", 60)).await, id);
    let app = StoredApp {
        app_id: 1,
        slug: "acme".to_owned(),
        client_id: "Iv1.1".to_owned(),
        html_url: "https://github.com/apps/acme".to_owned(),
        secrets: Vec::new(),
        created_at: now(),
    };
    let secrets = AppSecrets {
        client_secret: "planted-client-secret".into(),
        webhook_secret: Some("planted-webhook-secret".into()),
        private_key: "planted-private-key".into(),
    };
    vault.save_app(app, &secrets).await.unwrap();
    let flow = FlowDraft {
        state: &[1; 32],
        purpose: FlowPurpose::Connect,
        browser: &[2; 32],
        user: None,
        team: None,
        verifier: Some(&"planted-verifier".into()),
        return_to: Some("/settings"),
        expires_at: now() + TimeDelta::minutes(15),
    };
    vault.begin_flow(&flow, now()).await.unwrap();

    let (app, secrets) = vault.app().await.unwrap().unwrap();
    assert_eq!(app.slug, "acme");
    assert_eq!(text(&secrets.private_key), "planted-private-key");
    let due = vault.due_revocations(now(), 9).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(text(&due[0].token), "ghu_access_planted");
    let found = bytes(&database).await;
    assert!(contains(&found, "octocat") && contains(&found, "Iv1.1"));
    let words = ["planted-", "ghu_access", "ghr_refresh", &first];
    for word in words {
        assert!(!contains(&found, word), "{word} is in the database");
    }
    let state: &[u8] = &[1; 32];
    assert!(!found.windows(32).any(|part| part == state));
    store.close().await;
    let found = bytes(&database).await;
    assert!(words.iter().all(|word| !contains(&found, word)));
}

async fn missing_key_locks_what_it_sealed_and_unlocks_when_it_is_back(database: Database) {
    let store = open(&database).await;
    let (old, new) = (key(), key());
    let vault = vault(&store, &[&old]);
    let id = save(&vault, tokens("one", 60)).await;
    let credential = store.credential(&id).await.unwrap().unwrap();
    assert!(!vault.is_locked(&credential));

    vault.replace_source(source(&[&new]));
    assert!(vault.is_locked(&credential));
    let refused = vault.open_credential(&credential).err().unwrap();
    assert!(matches!(refused, SecretError::Locked(_)), "{refused}");
    assert!(refused.to_string().contains("TALLYHOOK_ENCRYPTION_KEYS"));
    let status = vault.status().await.unwrap();
    let missing: Vec<_> = status.missing().collect();
    assert_eq!((missing.len(), missing[0].rows()), (1, 1));
    // What needs it is refused for as long, and nothing is ended by that.
    let asked = vault
        .access_token(&id, None, now, |_| async { unreachable!() })
        .await;
    assert!(asked.is_err());
    let again = store.credential(&id).await.unwrap().unwrap();
    assert_eq!(again, credential);
    // Others are stored and used.
    let other = super::draft(5_005, tokens("two", 60));
    let other = vault.save_credential(&other, now()).await.unwrap();
    assert_eq!(
        stored(&vault, &other).await.as_deref(),
        Some("ghu_access_two")
    );

    vault.replace_source(source(&[&new, &old]));
    assert!(!vault.is_locked(&credential));
    assert_eq!(stored(&vault, &id).await.as_deref(), Some("ghu_access_one"));
    assert_eq!(vault.status().await.unwrap().missing().count(), 0);
    store.close().await;
}

async fn without_a_key_nothing_is_stored_and_the_reason_is_in_words(database: Database) {
    let store = open(&database).await;
    let vault = Vault::new(store.clone(), KeySource::Missing, HOST);
    let draft = super::draft(5_005, tokens("planted", 60));
    let refused = vault.save_credential(&draft, now()).await.err().unwrap();
    assert!(matches!(refused, SecretError::KeyMissing));
    let words = refused.to_string();
    for word in ["TALLYHOOK_ENCRYPTION_KEYS", "openssl rand -base64 32"] {
        assert!(words.contains(word), "{words}");
    }
    let rows = database.select("SELECT count(*) FROM github_credentials");
    assert_eq!(rows.await, 0);
    assert_eq!(vault.status().await.unwrap().keys, []);
    // The rest runs.
    store.check().await.unwrap();
    store.close().await;
}

async fn lost_key_is_forgotten_with_what_it_sealed(database: Database) {
    let store = open(&database).await;
    let (lost, new) = (key(), key());
    let vault = vault(&store, &[&lost]);
    let id = save(&vault, tokens("one", 60)).await;
    let old = vault.status().await.unwrap().keys[0].id;
    assert_eq!(
        vault.forget(old, true, now()).await.unwrap(),
        ForgottenKey::Seals
    );
    vault.replace_source(source(&[&new, &lost]));
    // It is there, so its rows can be sealed again.
    assert_eq!(
        vault.forget(old, true, now()).await.unwrap(),
        ForgottenKey::InUse(1)
    );
    vault.replace_source(source(&[&new]));
    assert_eq!(
        vault.forget(old, false, now()).await.unwrap(),
        ForgottenKey::Lost(1)
    );
    let destroyed = vault.forget(old, true, now()).await.unwrap();
    assert_eq!(destroyed, ForgottenKey::Destroyed(1));
    let credential = store.credential(&id).await.unwrap().unwrap();
    assert_eq!(credential.state, CredentialState::ReconnectNeeded);
    assert_eq!(credential.access_token, None);
    // Connecting again makes it whole.
    assert_eq!(save(&vault, tokens("two", 60)).await, id);
    assert_eq!(stored(&vault, &id).await.as_deref(), Some("ghu_access_two"));
    assert_eq!(
        vault.forget(old, true, now()).await.unwrap(),
        ForgottenKey::Unknown
    );
    store.close().await;
}

async fn flow_is_taken_once_by_its_own_browser_and_an_expired_one_says_so(database: Database) {
    let store = open(&database).await;
    let only = key();
    let vault = vault(&store, &[&only]);
    let (state, browser, other) = ([1; 32], [2; 32], [3; 32]);
    let verifier = "a-verifier".into();
    let flow = FlowDraft {
        state: &state,
        purpose: FlowPurpose::SignIn,
        browser: &browser,
        user: None,
        team: Some(DEFAULT_TEAM.0),
        verifier: Some(&verifier),
        return_to: None,
        expires_at: now() + TimeDelta::minutes(15),
    };
    vault.begin_flow(&flow, now()).await.unwrap();
    let take = async |browser, minutes| {
        let at = now() + TimeDelta::minutes(minutes);
        vault.take_flow(&state, browser, at).await.unwrap()
    };
    // Another browser does not use it up.
    assert!(matches!(take(&other, 1).await, ReturnedFlow::OtherBrowser));
    let taken = take(&browser, 14).await;
    let ReturnedFlow::Taken {
        verifier: Some(verifier),
        ..
    } = taken
    else {
        panic!("it was not taken");
    };
    assert_eq!(text(&verifier), "a-verifier");
    assert!(matches!(take(&browser, 14).await, ReturnedFlow::Unknown));

    vault.begin_flow(&flow, now()).await.unwrap();
    assert!(matches!(
        take(&browser, 15).await,
        ReturnedFlow::Expired(FlowPurpose::SignIn)
    ));
    assert!(matches!(take(&other, 15).await, ReturnedFlow::OtherBrowser));
    let day = 24 * 60;
    assert!(matches!(
        take(&browser, 14 + day).await,
        ReturnedFlow::Expired(_)
    ));
    assert!(matches!(
        take(&browser, 16 + day).await,
        ReturnedFlow::Unknown
    ));
    // The next flow of anyone deletes the row.
    let next = FlowDraft {
        state: &[9; 32],
        ..flow
    };
    let later = now() + TimeDelta::minutes(16 + day);
    vault.begin_flow(&next, later).await.unwrap();
    let rows = database.select("SELECT count(*) FROM github_flows");
    assert_eq!(rows.await, 1);
    store.close().await;
}

#[tokio::test]
async fn file_of_keys_is_made_at_the_first_need_and_read_by_others_of_its_user_alone() {
    let database = database(Backend::Sqlite);
    let store = open(&database).await;
    let made = || Vault::new(store.clone(), KeySource::beside(&database.url), HOST);
    let (one, two) = (made(), made());
    let path = one.source().path().unwrap().to_owned();
    assert!(one.keys().unwrap().is_none() && !path.exists());
    let id = save(&one, tokens("one", 60)).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(stored(&two, &id).await.as_deref(), Some("ghu_access_one"));

    // A key that a command adds is used by processes that run.
    let added = tallyhook::secrets::add_key(&path).unwrap();
    assert_eq!(two.keys_to_seal().unwrap().sealing(), added);
    assert_eq!(stored(&one, &id).await.as_deref(), Some("ghu_access_one"));
    let counts = two.rotate().await.unwrap();
    assert_eq!((counts.sealed, counts.locked), (2, 0));
    let old = one.status().await.unwrap().keys[1].id;
    assert_eq!(
        one.forget(old, false, now()).await.unwrap(),
        ForgottenKey::Removed
    );
    assert_eq!(
        one.forget(old, false, now()).await.unwrap(),
        ForgottenKey::Unknown
    );
    assert_eq!(
        one.forget(added, false, now()).await.unwrap(),
        ForgottenKey::Seals
    );
    assert_eq!(stored(&one, &id).await.as_deref(), Some("ghu_access_one"));

    let open_to_others = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(&path, open_to_others).unwrap();
    let fresh = Vault::new(store.clone(), KeySource::beside(&database.url), HOST);
    let refused = fresh.keys().err().unwrap().to_string();
    assert!(refused.contains("chmod 600"), "{refused}");
    store.close().await;
}

#[tokio::test]
async fn token_is_revoked_when_the_last_team_ends_its_connection() {
    let database = database(Backend::Sqlite);
    let store = open(&database).await;
    database
        .execute("INSERT INTO teams (id, name) VALUES (2, 'other')")
        .await;
    let only = key();
    let vault = vault(&store, &[&only]);
    let id = save(&vault, tokens("one", 60)).await;
    let (one, two) = (DEFAULT_TEAM.0, tallyhook_store::TeamId(2));
    let connect = async |name: &str, team| {
        let made = store.connect_team(name, team, &id, None, now()).await;
        made.unwrap()
    };
    assert_eq!(connect("a", one).await, "a");
    assert_eq!(
        connect("again", one).await,
        "a",
        "a team has one connection of a credential"
    );
    assert_eq!(connect("b", two).await, "b");
    let end = async |team, connection: &str| {
        vault
            .disconnect(team, connection, true, now())
            .await
            .unwrap()
    };
    // A connection of another team is not there.
    assert_eq!(end(two, "a").await, ConnectionEnd::Missing);
    assert_eq!(end(one, "a").await, ConnectionEnd::StillUsed);
    assert_eq!(stored(&vault, &id).await.as_deref(), Some("ghu_access_one"));
    assert_eq!(store.revocation_counts().await.unwrap().open, 0);
    assert_eq!(end(two, "b").await, ConnectionEnd::Revoking);
    assert_eq!(end(two, "b").await, ConnectionEnd::Missing);
    assert_eq!(stored(&vault, &id).await, None);
    let due = vault.due_revocations(now(), 9).await.unwrap();
    assert_eq!(text(&due[0].token), "ghu_access_one");
    assert!(
        store
            .finish_revocation(&due[0].id, None, now())
            .await
            .unwrap()
    );
    assert_eq!(store.revocation_counts().await.unwrap().open, 0);
    let tokens = database.select("SELECT count(*) FROM revocations WHERE token IS NOT NULL");
    assert_eq!(tokens.await, 0);
    store.close().await;
}
