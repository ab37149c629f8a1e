//! The load of reviews: whose reviews count, and of which pull requests.

use std::collections::BTreeSet;

use tallyhook_core::domain::people::Bots;
use tallyhook_core::github::types::{PrKey, PrNumber};
use tallyhook_store::{DEFAULT_TEAM, LoadFilter, LoadParty, ReviewLoad, Store};

use super::{WHOLE_LIFE, histories, now, open, recording, write};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    reviews_and_pull_requests_of_a_load_are_of_the_same_authors,
    bots_and_authors_are_no_members_of_a_team,
    a_login_without_requests_has_no_load,
}

async fn load(store: &Store, by: LoadParty) -> ReviewLoad {
    let filter = LoadFilter {
        repo: None,
        from: None,
        to: None,
        by,
    };
    store
        .of_team(DEFAULT_TEAM.0)
        .review_load(&filter, &Bots::default())
        .await
        .unwrap()
}

/// Adds a review at the time of the merge.
async fn review(database: &Database, number: i64, reviewer: &str, login: &str, kind: &str) {
    database
        .execute(&format!(
            "INSERT INTO reviews (github_review_id, repo_id, number, reviewer_id, reviewer_login, \
             reviewer_type, original_state, submitted_at, dismissed) \
             SELECT {number} * 1000 + {reviewer}, repo_id, number, {reviewer}, '{login}', \
             '{kind}', 'approved', merged_at, false FROM pull_requests WHERE number = {number}"
        ))
        .await;
}

async fn reviews_and_pull_requests_of_a_load_are_of_the_same_authors(database: Database) {
    let store = open(&database).await;
    let mut copy = write(&store, &WHOLE_LIFE).await;
    for number in [4, 5] {
        (copy.version, copy.pull_request.key) = (0, key(number));
        let write = recording(copy.clone(), BTreeSet::new());
        store.record(&write, now()).await.unwrap().unwrap();
    }
    database
        .execute(
            "DELETE FROM reviews; \
             UPDATE pull_requests SET author_is_bot = true WHERE number = 4; \
             UPDATE pull_requests SET origin = 'agent' WHERE number = 5",
        )
        .await;
    for person in 501..506 {
        for number in 3..6 {
            let (id, login) = (person.to_string(), format!("person-{person}"));
            review(&database, number, &id, &login, "User").await;
        }
    }
    for by in [LoadParty::Teams, LoadParty::People] {
        let spread = load(&store, by).await.concentration;
        assert_eq!(spread.merged_pull_requests, 1);
        assert_eq!(spread.reviews_per_merged_pull_request, Some(5.0));
    }
}

async fn bots_and_authors_are_no_members_of_a_team(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    database
        .execute(
            "DELETE FROM reviews; DELETE FROM review_pairs; \
             INSERT INTO review_pairs (repo_id, number, place, kind, party_id, name, k, asked_at, \
             outcome, response_review_at) SELECT repo_id, number, 0, 'team', 71, 'backend', 1, \
             pr_created_at, 'answered', merged_at FROM pull_requests",
        )
        .await;
    for person in 501..505 {
        let (id, login) = (person.to_string(), format!("person-{person}"));
        review(&database, 3, &id, &login, "User").await;
    }
    review(&database, 3, "author_id", "account-0", "User").await;
    review(&database, 3, "600", "linter[bot]", "Bot").await;
    let hidden = async || load(&store, LoadParty::Teams).await.parties[0].too_few_people;
    assert!(hidden().await, "four people answered");
    review(&database, 3, "505", "person-505", "User").await;
    assert!(!hidden().await, "five people answered");
}

async fn a_login_without_requests_has_no_load(database: Database) {
    let store = open(&database).await;
    let steps = [(10, histories::Step::Request(1))];
    write(&store, &steps).await;
    let parties = async |by| load(&store, by).await.parties.len();
    assert_eq!(parties(LoadParty::People).await, 1);
    assert_eq!(parties(LoadParty::Person("unknown".to_owned())).await, 0);
    let known = LoadParty::Person("ACCOUNT-1".to_owned());
    assert_eq!(parties(known).await, 1);
}

const fn key(number: i64) -> PrKey {
    PrKey {
        number: PrNumber(number),
        ..histories::KEY
    }
}
