//! Tokens, and the behaviour of the store as a whole: closing, exclusive files, the leader.

use tallyhook_store::{LeaderRole, OpenMode};

use super::{accept, delivery, eventually, later, now, open, pending};
use testkit::database::{Backend, Database, database};
use testkit::on_every_database;

on_every_database! {
    role_is_free_after_its_process_ended,
    tokens_are_valid_until_they_are_revoked,
    closed_store_refuses_every_call,
}

async fn tokens_are_valid_until_they_are_revoked(database: Database) {
    let store = open(&database).await;
    assert!(!store.token_is_valid(&[1; 32]).await.unwrap());
    assert!(
        store
            .create_token("ci", None, &[1; 32], now())
            .await
            .unwrap()
    );
    assert!(
        !store
            .create_token("ci", None, &[2; 32], now())
            .await
            .unwrap()
    );
    assert!(store.token_is_valid(&[1; 32]).await.unwrap());
    assert!(store.revoke_token("ci", later(1)).await.unwrap());
    assert!(!store.revoke_token("ci", later(2)).await.unwrap());
    assert!(!store.token_is_valid(&[1; 32]).await.unwrap());
    assert!(
        store
            .create_token("ci", None, &[2; 32], later(3))
            .await
            .unwrap()
    );
    assert!(
        store.token_is_valid(&[2; 32]).await.unwrap()
            && !store.token_is_valid(&[1; 32]).await.unwrap()
    );
    let tokens = store.tokens().await.unwrap();
    assert_eq!((tokens.len(), tokens[0].revoked_at), (1, None));
}

async fn closed_store_refuses_every_call(database: Database) {
    let store = open(&database).await;
    accept(&store, "a").await;
    store.close().await;
    assert!(store.accept(delivery("b", pending())).await.is_err());
    assert!(store.check().await.is_err());
}

#[tokio::test]
async fn second_server_on_the_same_file_is_refused_and_a_command_is_not() {
    let database = database(Backend::Sqlite);
    let store = open(&database).await;
    let refused = tallyhook_store::open(&database.url, OpenMode::Exclusive)
        .await
        .err()
        .unwrap();
    assert!(
        format!("{refused:#}").contains("another tallyhook is serving"),
        "{refused:#}"
    );
    let beside = tallyhook_store::open(&database.url, OpenMode::Shared)
        .await
        .unwrap();
    accept(&beside, "a").await;
    assert_eq!(store.counts().await.unwrap().accepted, 1);
    beside.close().await;
    let missing = format!("{}.other", database.url);
    let refused = tallyhook_store::open(&missing, OpenMode::Shared)
        .await
        .err()
        .unwrap();
    assert!(
        format!("{refused:#}").contains("there is no database"),
        "{refused:#}"
    );
}

async fn role_is_free_after_its_process_ended(database: Database) {
    let first = open(&database).await;
    assert!(first.acquire_role(LeaderRole::Sweeper).await.unwrap());
    assert!(first.acquire_role(LeaderRole::Sweeper).await.unwrap());
    first.close().await;
    drop(first);
    let second = open(&database).await;
    assert!(eventually(async || second.acquire_role(LeaderRole::Sweeper).await.unwrap()).await);
}
