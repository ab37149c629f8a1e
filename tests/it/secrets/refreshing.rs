//! Refreshing tokens: one refresher among all processes, and no failure of GitHub ends a
//! connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{TimeDelta, Utc};
use parking_lot::Mutex;
use tallyhook::secrets::{OpenedTokens, RefreshAnswer, RefreshFailure, SecretBytes, Vault};
use tallyhook_store::CredentialState;
use testkit::database::Database;
use testkit::on_every_database;

use super::{key, now, open, save, stored, text, tokens, vault};

on_every_database! {
    one_of_many_users_in_two_processes_refreshes_and_all_have_the_new_token,
    two_processes_refresh_a_token_many_times_and_none_is_lost,
    failures_of_github_end_no_connection,
    refused_refresh_token_ends_its_own_connection_alone,
    refresh_whose_outcome_is_lost_is_tried_once_more_and_said_to_be_lost,
    token_that_github_refuses_is_refreshed_once,
}

/// GitHub, as far as it refreshes: a refresh token is good for one use.
#[derive(Default)]
struct Refresher {
    calls: AtomicU64,
    valid: Mutex<String>,
}

impl Refresher {
    fn new(valid: &str) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicU64::new(0),
            valid: Mutex::new(format!("ghr_refresh_{valid}")),
        })
    }

    /// Answers a refresh; the next tokens have so many minutes.
    async fn answer(&self, token: SecretBytes, minutes: i64) -> RefreshAnswer {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        // The others get their turn while the answer is on its way.
        tokio::task::yield_now().await;
        let mut valid = self.valid.lock();
        if *valid != text(&token) {
            return RefreshAnswer::Refused;
        }
        let next = format!("of_call_{call}");
        *valid = format!("ghr_refresh_{next}");
        RefreshAnswer::Tokens(tokens(&next, minutes))
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn ask(
    vault: &Vault,
    id: &str,
    refresher: &Refresher,
) -> Result<OpenedTokens, RefreshFailure> {
    vault
        .access_token(id, None, now, |token| refresher.answer(token, 60))
        .await
}

async fn one_of_many_users_in_two_processes_refreshes_and_all_have_the_new_token(
    database: Database,
) {
    let store = open(&database).await;
    let only = key();
    // Two vaults share no turn, as two processes.
    let processes = [vault(&store, &[&only]), vault(&store, &[&only])];
    let id = save(&processes[0], tokens("old", -1)).await;
    let refresher = Refresher::new("old");
    let users = (0..100).map(|user| {
        let (vault, id) = (processes[user % 2].clone(), id.clone());
        let refresher = refresher.clone();
        tokio::spawn(async move {
            let opened = ask(&vault, &id, &refresher).await.ok().unwrap();
            (opened.generation, text(&opened.access))
        })
    });
    let users: Vec<_> = users.collect();
    let mut seen = BTreeSet::new();
    for user in users {
        seen.insert(user.await.unwrap());
    }
    assert_eq!(refresher.calls(), 1);
    assert_eq!(
        seen,
        BTreeSet::from([(2, "ghu_access_of_call_1".to_owned())])
    );
    store.close().await;
}

async fn two_processes_refresh_a_token_many_times_and_none_is_lost(database: Database) {
    const ROUNDS: i64 = 50;
    let store = open(&database).await;
    let only = key();
    let processes = [vault(&store, &[&only]), vault(&store, &[&only])];
    let id = save(&processes[0], tokens("old", -1)).await;
    let refresher = Refresher::new("old");
    for round in 0..ROUNDS {
        let asked = processes.iter().map(|vault| {
            // The tokens of each round are about to end at once.
            vault.access_token(&id, Some(round + 1), now, |token| {
                refresher.answer(token, 60)
            })
        });
        for opened in futures_util::future::join_all(asked).await {
            assert_eq!(opened.ok().unwrap().generation, round + 2);
        }
    }
    assert_eq!(refresher.calls(), ROUNDS.unsigned_abs());
    store.close().await;
}

async fn failures_of_github_end_no_connection(database: Database) {
    let store = open(&database).await;
    let only = key();
    let vault = vault(&store, &[&only]);
    // Five minutes are left: it is refreshed early, and goes on being used until then.
    let id = save(&vault, tokens("old", 5)).await;
    let opened = vault
        .access_token(&id, None, now, |_| async { RefreshAnswer::NotDone })
        .await;
    assert_eq!(text(&opened.ok().unwrap().access), "ghu_access_old");
    let late = || now() + TimeDelta::minutes(6);
    for _ in 0..3 {
        let opened = vault
            .access_token(&id, None, late, |_| async { RefreshAnswer::NotDone })
            .await;
        assert!(matches!(opened, Err(RefreshFailure::Unavailable)));
    }
    let credential = store.credential(&id).await.unwrap().unwrap();
    assert_eq!(credential.state, CredentialState::Active);
    assert_eq!((credential.generation, credential.refresh_until), (1, None));
    let refresher = Refresher::new("old");
    let opened = vault
        .access_token(&id, None, late, |token| refresher.answer(token, 60))
        .await;
    assert_eq!(opened.ok().unwrap().generation, 2);
    store.close().await;
}

async fn refused_refresh_token_ends_its_own_connection_alone(database: Database) {
    let store = open(&database).await;
    let only = key();
    let vault = vault(&store, &[&only]);
    let id = save(&vault, tokens("old", -1)).await;
    let other = super::draft(5_005, tokens("other", 60));
    let other = vault.save_credential(&other, now()).await.unwrap();
    let refresher = Refresher::new("another");
    for _ in 0..2 {
        let refused = ask(&vault, &id, &refresher).await.err().unwrap();
        let RefreshFailure::ReconnectNeeded(reason) = refused else {
            panic!("{refused}");
        };
        assert_eq!(reason, "bad_refresh_token");
    }
    // It is not sent again.
    assert_eq!(refresher.calls(), 1);
    assert_eq!(
        stored(&vault, &other).await.as_deref(),
        Some("ghu_access_other")
    );
    // Connecting again goes on with the same credential.
    assert_eq!(save(&vault, tokens("new", 60)).await, id);
    assert!(ask(&vault, &id, &refresher).await.is_ok());
    store.close().await;
}

async fn refresh_whose_outcome_is_lost_is_tried_once_more_and_said_to_be_lost(database: Database) {
    let store = open(&database).await;
    let only = key();
    let vault = vault(&store, &[&only]);
    let id = save(&vault, tokens("old", -1)).await;
    // A process takes the lease and is gone.
    let until = now() + TimeDelta::seconds(30);
    let lease = store.lease_refresh(&id, 1, now(), until).await.unwrap();
    assert!(!lease.unwrap().follows_unknown);
    assert_eq!(
        store.lease_refresh(&id, 1, now(), until).await.unwrap(),
        None
    );
    let refresher = Refresher::new("used-up");
    let later = || now() + TimeDelta::seconds(31);
    let refused = vault
        .access_token(&id, None, later, |token| refresher.answer(token, 60))
        .await;
    let reason = match refused.err().unwrap() {
        RefreshFailure::ReconnectNeeded(reason) => reason,
        other => panic!("{other}"),
    };
    assert_eq!((refresher.calls(), &*reason), (1, "refresh_outcome_lost"));
    store.close().await;
}

async fn token_that_github_refuses_is_refreshed_once(database: Database) {
    let store = open(&database).await;
    let only = key();
    let vault = vault(&store, &[&only]);
    let id = save(&vault, tokens("old", 60)).await;
    let refresher = Refresher::new("old");
    // It is in force for an hour yet.
    assert_eq!(
        ask(&vault, &id, &refresher).await.ok().unwrap().generation,
        1
    );
    assert_eq!(refresher.calls(), 0);
    let again = async || {
        let asked = vault.access_token(&id, Some(1), now, |token| refresher.answer(token, 60));
        asked.await.ok().unwrap().generation
    };
    assert_eq!(again().await, 2);
    // Of a request that was sent with the tokens before.
    assert_eq!(again().await, 2);
    assert_eq!(refresher.calls(), 1);
    let used = Utc::now();
    store.note_credential_use(&id, used).await.unwrap();
    store.close().await;
}
