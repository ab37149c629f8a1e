//! What the API reads.

use tallyhook::github::types::{PrKey, PrNumber, RepoId};
use tallyhook::store::{DurationFilter, PullRequestFilter, StateFilter};

use super::database::Database;
use super::{WHOLE_LIFE, histories, open, write};
use crate::on_every_database;

on_every_database! {
    pull_requests_are_read_by_state_author_and_range,
    all_keys_are_walked_over_in_portions,
}

async fn pull_requests_are_read_by_state_author_and_range(database: Database) {
    let store = open(&database).await;
    write(&*store, &WHOLE_LIFE).await;
    let count = async |filter: PullRequestFilter| store.pull_requests(&filter, 10).await.unwrap().len();
    let state = |state| PullRequestFilter { states: vec![state], ..PullRequestFilter::default() };
    assert_eq!(count(PullRequestFilter::default()).await, 1);
    assert_eq!(count(state(StateFilter::Merged)).await, 1);
    assert_eq!(count(state(StateFilter::Closed)).await, 1);
    assert_eq!(count(state(StateFilter::ClosedUnmerged)).await, 0);
    assert_eq!(count(state(StateFilter::Open)).await, 0);
    let by = |author: &str| PullRequestFilter { author: Some(author.to_owned()), ..PullRequestFilter::default() };
    assert_eq!((count(by("Account-0")).await, count(by("account-1")).await), (1, 0));
    let row = store.pull_request(histories::KEY).await.unwrap().unwrap();
    let updated = row.updated_at;
    let range = |from, to| PullRequestFilter { from, to, ..PullRequestFilter::default() };
    assert_eq!(count(range(Some(updated), None)).await, 1);
    assert_eq!(count(range(None, Some(updated))).await, 0);
    assert_eq!(count(PullRequestFilter { after: Some((updated, row.key)), ..PullRequestFilter::default() }).await, 0);
    assert_eq!(row.durations.cycle_time, Some(90));
    assert_eq!(row.flags, Vec::<String>::new());

    let merged = store.merged(&DurationFilter::default()).await.unwrap();
    assert_eq!((merged.len(), merged[0].durations.coding), (1, Some(500)));
    assert_eq!(store.closed_unmerged(&DurationFilter::default(), false).await.unwrap(), 0);
    let other = DurationFilter { repo: Some(RepoId(8)), ..DurationFilter::default() };
    assert_eq!(store.merged(&other).await.unwrap().len(), 0);
}

async fn all_keys_are_walked_over_in_portions(database: Database) {
    let store = open(&database).await;
    write(&*store, &WHOLE_LIFE).await;
    assert_eq!(store.keys_after(None, 10).await.unwrap(), [histories::KEY]);
    let before = PrKey { repo: RepoId(7), number: PrNumber(2) };
    assert_eq!(store.keys_after(Some(before), 10).await.unwrap(), [histories::KEY]);
    assert_eq!(store.keys_after(Some(histories::KEY), 10).await.unwrap(), []);
}
