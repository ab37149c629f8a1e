//! Sealing again by another key, beside processes that write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tallyhook::secrets::{RefreshAnswer, Vault};
use tallyhook_store::CredentialKind;
use testkit::database::Database;
use testkit::on_every_database;

use super::{OWNER, draft, key, now, open, source, stored, text, tokens, vault};

on_every_database! {
    rotation_beside_refreshes_loses_none_of_a_thousand,
    rotation_goes_on_where_it_was_interrupted_and_counts_what_is_locked,
}

/// Credentials whose tokens are sealed twice each.
const CREDENTIALS: i64 = 1000;

async fn fill(vault: &Vault, count: i64, minutes: i64) -> Vec<String> {
    let mut ids = Vec::new();
    for account in 1..=count {
        let draft = draft(account, tokens(&format!("old-{account}"), minutes));
        ids.push(vault.save_credential(&draft, now()).await.unwrap());
    }
    ids
}

async fn rotation_beside_refreshes_loses_none_of_a_thousand(database: Database) {
    let store = open(&database).await;
    let (old, new) = (key(), key());
    let first = vault(&store, &[&old]);
    let ids = fill(&first, CREDENTIALS, -1).await;
    // A process with the new key first, and one that does not have the settings yet but both keys.
    let (rotating, refreshing) = (vault(&store, &[&new, &old]), vault(&store, &[&old, &new]));
    let is_over = Arc::new(AtomicBool::new(false));
    let refreshes = {
        let (ids, is_over) = (ids.clone(), is_over.clone());
        let vault = refreshing.clone();
        tokio::spawn(async move {
            let mut refreshed = 0;
            for (place, id) in ids.iter().enumerate().rev() {
                let account = place + 1;
                let done = vault.access_token(id, None, now, |token| async move {
                    assert_eq!(text(&token), format!("ghr_refresh_old-{account}"));
                    RefreshAnswer::Tokens(tokens(&format!("new-{account}"), 60))
                });
                assert_eq!(done.await.ok().unwrap().generation, 2);
                refreshed += 1;
            }
            is_over.store(true, Ordering::SeqCst);
            refreshed
        })
    };
    let mut sealed = 0;
    while !is_over.load(Ordering::SeqCst) {
        sealed += rotating.rotate().await.unwrap().sealed;
    }
    assert_eq!(refreshes.await.unwrap(), CREDENTIALS);
    // What was refreshed after it was looked at is under the old key again.
    sealed += rotating.rotate().await.unwrap().sealed;
    assert!(sealed >= 2 * CREDENTIALS.unsigned_abs(), "{sealed}");
    let status = rotating.status().await.unwrap();
    let rows: Vec<_> = status.keys.iter().map(|key| key.rows()).collect();
    assert_eq!(rows, [CREDENTIALS.unsigned_abs(), 0]);
    // Every one opens by the new key alone, and is the last that GitHub gave.
    rotating.replace_source(source(&[&new]));
    for (account, id) in (1..).zip(&ids) {
        let expected = format!("ghu_access_new-{account}");
        assert_eq!(stored(&rotating, id).await, Some(expected));
    }
    store.close().await;
}

async fn rotation_goes_on_where_it_was_interrupted_and_counts_what_is_locked(database: Database) {
    let store = open(&database).await;
    let (old, lost, new) = (key(), key(), key());
    fill(&vault(&store, &[&old]), 120, 60).await;
    let of_lost = vault(&store, &[&lost]);
    let draft = draft(777, tokens("lost", 60));
    let locked = of_lost.save_credential(&draft, now()).await.unwrap();
    let rotating = vault(&store, &[&new, &old]);
    // An earlier rotation did a part.
    let first = rotating.keys_to_seal().unwrap().sealing().0;
    let values = store.sealed_by_others(&first, None, 50).await.unwrap();
    assert_eq!(values.len(), 50);
    let counts = rotating.rotate().await.unwrap();
    assert_eq!((counts.sealed, counts.locked, counts.damaged), (240, 2, 0));
    let again = rotating.rotate().await.unwrap();
    assert_eq!((again.sealed, again.locked), (0, 2));
    let kept = store.credential(&locked).await.unwrap().unwrap();
    assert!(rotating.is_locked(&kept) && !of_lost.is_locked(&kept));
    let of_owner = store
        .credential_of(OWNER, CredentialKind::AppUser, 777)
        .await;
    assert_eq!(of_owner.unwrap().unwrap().id, locked);
    store.close().await;
}
