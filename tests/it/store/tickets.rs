//! Tickets: each opens one door, and not for long.

use super::{later, now, open};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    a_ticket_counts_once_and_for_its_time,
    of_many_who_take_a_ticket_at_once_one_has_it,
}

async fn a_ticket_counts_once_and_for_its_time(database: Database) {
    let store = open(&database).await;
    store
        .issue_ticket(&[1; 32], &[11; 32], now(), later(30))
        .await
        .unwrap();
    store
        .issue_ticket(&[2; 32], &[12; 32], now(), later(30))
        .await
        .unwrap();
    assert_eq!(store.redeem_ticket(&[3; 32], now()).await.unwrap(), None);
    assert_eq!(
        store.redeem_ticket(&[1; 32], later(29)).await.unwrap(),
        Some([11; 32]),
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
        .issue_ticket(&[4; 32], &[11; 32], later(30), later(60))
        .await
        .unwrap();
    assert_eq!(
        store.redeem_ticket(&[2; 32], now()).await.unwrap(),
        None,
        "it was cleared away"
    );
}

async fn of_many_who_take_a_ticket_at_once_one_has_it(database: Database) {
    let store = open(&database).await;
    store
        .issue_ticket(&[1; 32], &[11; 32], now(), later(30))
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
