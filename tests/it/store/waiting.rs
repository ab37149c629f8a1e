//! The people and teams that are waited for, and review requests: rows beside the pull request,
//! written where they changed.

use std::collections::BTreeSet;

use tallyhook_core::domain::waiting::{
    PairEnd, Party, ReviewPair, Turn, TurnStep, Turns, Waiter, Waiting, WaitingFor,
};
use tallyhook_core::github::types::{AccountId, Timestamp};
use tallyhook_store::{BatchWrite, Store};

use super::{WHOLE_LIFE, histories, now, open, recording, write};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    waiting_parties_are_written_where_they_changed,
    turns_are_stored_up_to_the_one_that_lasts,
}

fn at(epoch: i64) -> Timestamp {
    Timestamp::clamped(1_772_445_600 + epoch)
}

fn account(id: i64, login: &str) -> Party {
    Party::Account {
        id: AccountId(id),
        login: login.to_owned(),
    }
}

/// Turns of an open pull request that waits for `who` since their times.
fn waits_for(who: &[(Party, i64)]) -> Turns {
    let waiter = |(party, since): &(Party, i64)| Waiter {
        party: party.clone(),
        since: at(*since),
        because: "asked".to_owned(),
    };
    let pair = |(party, since): &(Party, i64)| ReviewPair {
        party: party.clone(),
        k: 1,
        asked_at: at(*since),
        end: PairEnd::Open,
        ended_at: None,
        response_review_at: None,
        response_any_at: None,
    };
    let step = |turn, from, to| TurnStep {
        turn,
        who: Vec::new(),
        from: at(from),
        to,
        because: String::new(),
    };
    Turns {
        waiting: Some(Waiting {
            on: WaitingFor::Reviewers,
            who: who.iter().map(waiter).collect(),
            since: at(30),
            kind_since: at(20),
            because: "asked".to_owned(),
            rule: 7,
            also: Vec::new(),
            since_is_latest: false,
        }),
        steps: vec![
            step(Turn::Author, 0, Some(at(5))),
            step(Turn::Nobody, 5, Some(at(10))),
            step(Turn::Author, 10, Some(at(20))),
            step(Turn::Reviewers, 20, Some(at(30))),
            step(Turn::Reviewers, 30, None),
        ],
        inferred: true,
        pairs: who.iter().map(pair).collect(),
        rounds: Vec::new(),
    }
}

/// Writes the pull request with these turns, which are `None` for a part that was not computed.
async fn write_turns(store: &Store, turns: &Turns) {
    let known = store.load(&[histories::KEY]).await.unwrap().remove(0);
    let mut write: BatchWrite = recording(known, BTreeSet::new());
    write.pull_requests[0].numbers.as_mut().unwrap().turns = turns.clone();
    store.record(&write, now()).await.unwrap().unwrap();
}

async fn waiting_parties_are_written_where_they_changed(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    let who = [
        (account(7, "Ines"), 30),
        (
            Party::Team {
                id: None,
                slug: "backend".to_owned(),
            },
            40,
        ),
    ];
    let count = async |condition: &str| {
        let parties = format!("SELECT count(*) FROM waiting_parties WHERE {condition}");
        let pairs = format!("SELECT count(*) FROM review_pairs WHERE {condition}");
        [
            database.select(&parties).await,
            database.select(&pairs).await,
        ]
    };
    write_turns(&store, &waits_for(&who)).await;
    assert_eq!(count("kind = 'account' AND party_id = 7").await, [1, 1]);
    assert_eq!(count("name = 'backend' AND party_id IS NULL").await, [1, 1]);

    // A mark that a write of the same rows leaves.
    let mark =
        "UPDATE waiting_parties SET name = 'marked'; UPDATE review_pairs SET name = 'marked'";
    database.execute(mark).await;
    write_turns(&store, &waits_for(&who)).await;
    assert_eq!(count("name = 'marked'").await, [2, 2]);
    write_turns(&store, &waits_for(&who[1..])).await;
    assert_eq!(count("name = 'backend'").await, [1, 1]);
    assert_eq!(count("true").await, [1, 1]);

    // What replaces the facts replaces these rows, too, although they are the same.
    database.execute(mark).await;
    let known = store.load(&[histories::KEY]).await.unwrap().remove(0);
    let mut replacement = recording(known, BTreeSet::new());
    replacement.pull_requests[0].numbers.as_mut().unwrap().turns = waits_for(&who[1..]);
    replacement.replaced = vec![histories::KEY];
    store.record(&replacement, now()).await.unwrap().unwrap();
    assert_eq!(count("name = 'backend'").await, [1, 1]);

    write_turns(&store, &Turns::default()).await;
    assert_eq!(count("true").await, [0, 0]);
    let stored = store.load(&[histories::KEY]).await.unwrap().remove(0);
    assert_eq!(stored.parties_hash, None);
}

async fn turns_are_stored_up_to_the_one_that_lasts(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    write_turns(&store, &waits_for(&[(account(7, "Ines"), 30)])).await;
    let row = store.pull_request(histories::KEY).await.unwrap().unwrap();
    assert_eq!(row.waiting.as_ref().unwrap().on, WaitingFor::Reviewers);
    assert_eq!(row.turn, Some((Turn::Reviewers, at(20))));
    let time_by = [(Turn::Author, 15), (Turn::Nobody, 5)];
    assert_eq!(row.time_by, Some(time_by.into_iter().collect()));
    assert!(row.turns_inferred);
}
