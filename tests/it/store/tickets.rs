//! Tickets: each is valid for one connection, and for a short time.

use tallyhook_store::{DEFAULT_TEAM, TeamId};

use super::{later, now, open};
use testkit::database::Database;
use testkit::on_every_database;

const TEAM: TeamId = DEFAULT_TEAM.0;

on_every_database! {
    ticket_is_valid_once_until_it_expires,
    ticket_is_redeemed_by_one_of_many_concurrent_clients,
}

async fn ticket_is_valid_once_until_it_expires(database: Database) {
    let store = open(&database).await;
    store
        .issue_ticket(&[1; 32], (TEAM, &[11; 32]), now(), later(30))
        .await
        .unwrap();
    store
        .issue_ticket(&[2; 32], (TEAM, &[12; 32]), now(), later(30))
        .await
        .unwrap();
    assert_eq!(store.redeem_ticket(&[3; 32], now()).await.unwrap(), None);
    assert_eq!(
        store.redeem_ticket(&[1; 32], later(29)).await.unwrap(),
        Some((TEAM, [11; 32])),
        "it says whose it is"
    );
    assert_eq!(
        store.redeem_ticket(&[1; 32], later(29)).await.unwrap(),
        None
    );
    assert_eq!(
        store.redeem_ticket(&[2; 32], later(30)).await.unwrap(),
        None,
        "its time is over"
    );
    store
        .issue_ticket(&[4; 32], (TEAM, &[11; 32]), later(30), later(60))
        .await
        .unwrap();
    assert_eq!(
        store.redeem_ticket(&[2; 32], now()).await.unwrap(),
        None,
        "it was cleared away"
    );
}

async fn ticket_is_redeemed_by_one_of_many_concurrent_clients(database: Database) {
    let store = open(&database).await;
    store
        .issue_ticket(&[1; 32], (TEAM, &[11; 32]), now(), later(30))
        .await
        .unwrap();
    let takers = (0..8).map(|_| store.redeem_ticket(&[1; 32], now()));
    let taken = futures_util::future::join_all(takers).await;
    assert_eq!(
        taken
            .into_iter()
            .filter(|taken| taken.as_ref().unwrap().is_some())
            .count(),
        1
    );
}
