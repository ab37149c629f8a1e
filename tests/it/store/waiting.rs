//! The people and teams that are waited for, and review requests: rows beside the pull request,
//! written where they changed.

use std::collections::{BTreeMap, BTreeSet};

use tallyhook_core::domain::waiting::{
    PairEnd, Party, ReviewPair, Turn, TurnStep, Turns, Waiter, Waiting, WaitingFor, WaitingReason,
};
use tallyhook_core::github::types::{AccountId, PrNumber, Timestamp};
use tallyhook_store::{
    BatchWrite, DEFAULT_TEAM, ListOrder, PartyName, PullRequestFilter, SortKey, Store,
    WaitingFilter, WaitingTotals,
};

use super::{WHOLE_LIFE, histories, now, open, recording, write};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    waiting_parties_are_written_where_they_changed,
    turns_are_stored_up_to_the_one_that_lasts,
    totals_and_lists_know_teams_and_people,
    a_pull_request_that_is_held_up_waits_for_no_party,
    each_cell_of_the_totals_has_a_list_of_as_many_rows,
}

const DAY: i64 = 86_400;

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

    // A replacement of the facts writes these rows again, although they are the same.
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
    let row = store
        .of_team(DEFAULT_TEAM.0)
        .pull_request(histories::KEY)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.waiting.as_ref().unwrap().on, WaitingFor::Reviewers);
    assert_eq!(row.turn, Some((Turn::Reviewers, at(20))));
    let time_by = [(Turn::Author, 15), (Turn::Nobody, 5)];
    assert_eq!(row.time_by, Some(time_by.into_iter().collect()));
    assert!(row.turns_inferred);
}

async fn totals_and_lists_know_teams_and_people(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE[..1]).await;
    let team = Party::Team {
        id: Some(71),
        slug: "Backend".to_owned(),
    };
    write_turns(&store, &waits_for(&[(account(7, "Ines"), 30), (team, 40)])).await;
    let totals = async |team: Option<&str>, people| {
        let filter = WaitingFilter {
            github_team: team.map(str::to_owned),
            people,
            ..WaitingFilter::default()
        };
        let now = at(30 + 3 * 86_400);
        store.waiting_totals(&filter, now).await.unwrap()
    };
    let teams = totals(None, false).await;
    let group = teams.groups[0];
    assert_eq!((group.n, group.rule, group.by_days), (1, 7, [0, 0, 1, 0]));
    assert_eq!(
        (group.longest, group.longest_since),
        (histories::KEY, at(30))
    );
    let found = |totals: WaitingTotals| {
        let parties = totals.parties.into_iter();
        let parties = parties.map(|party| (party.is_team, party.name, party.longest_since));
        parties.collect::<Vec<_>>()
    };
    let (backend, ines) = (
        (true, "Backend".to_owned(), at(40)),
        (false, "Ines".to_owned(), at(30)),
    );
    assert_eq!(found(teams), std::slice::from_ref(&backend));
    assert_eq!(found(totals(None, true).await), [ines, backend]);
    assert_eq!(totals(Some("BACKEND"), false).await.groups.len(), 1);
    assert_eq!(totals(Some("frontend"), false).await.groups.len(), 0);
    for (on, expected) in [
        (PartyName::Team("backend".to_owned()), 1),
        (PartyName::Team("ines".to_owned()), 0),
        (PartyName::Login("INES".to_owned()), 1),
        (PartyName::Login("backend".to_owned()), 0),
    ] {
        let filter = PullRequestFilter {
            waiting_on: Some(on.clone()),
            ..PullRequestFilter::default()
        };
        let listed = store
            .of_team(DEFAULT_TEAM.0)
            .pull_requests(&filter, 9)
            .await
            .unwrap();
        assert_eq!(listed.len(), expected, "{on:?}");
    }
    // Until its turns are computed it is counted as unknown, and in no group.
    write_turns(&store, &Turns::default()).await;
    let totals = totals(None, true).await;
    assert_eq!((totals.groups.len(), totals.unknown), (0, 1));
}

async fn a_pull_request_that_is_held_up_waits_for_no_party(database: Database) {
    let store = open(&database).await;
    let mut base = write(&store, &WHOLE_LIFE[..1]).await;
    (base.version, base.pull_request.key.number) = (0, PrNumber(4));
    let base = recording(base, BTreeSet::new());
    store.record(&base, now()).await.unwrap().unwrap();
    let team = Party::Team {
        id: Some(71),
        slug: "backend".to_owned(),
    };
    write_turns(&store, &waits_for(&[(team, 30)])).await;
    database
        .execute(
            "UPDATE pull_requests SET waiting_rule = 11, base_ref = 'below' WHERE number = 3; \
             UPDATE pull_requests SET head_ref = 'below', head_repo_id = repo_id, \
             waiting_since = NULL WHERE number = 4; \
             DELETE FROM waiting_parties WHERE number = 4",
        )
        .await;
    let on_team = PullRequestFilter {
        waiting_on: Some(PartyName::Team("backend".to_owned())),
        ..PullRequestFilter::default()
    };
    let of_team = WaitingFilter {
        github_team: Some("backend".to_owned()),
        ..WaitingFilter::default()
    };
    let seen = async || {
        let listed = store
            .of_team(DEFAULT_TEAM.0)
            .pull_requests(&on_team, 9)
            .await
            .unwrap();
        let totals = store.waiting_totals(&of_team, at(40)).await.unwrap();
        [listed.len(), totals.groups.len(), totals.parties.len()]
    };
    assert_eq!(seen().await, [0, 0, 0]);
    let all = WaitingFilter::default();
    let groups = store.waiting_totals(&all, at(40)).await.unwrap().groups;
    assert_eq!(groups[0].on, WaitingFor::BasePr);
    // Another branch is no longer in its way.
    let moved = "UPDATE pull_requests SET head_ref = 'elsewhere' WHERE number = 4";
    database.execute(moved).await;
    assert_eq!(seen().await, [1, 1, 1]);
}

/// Writes an open pull request for each kind, rule and whether a person has reviewed it, at ages on
/// both sides of each bound of the totals. Every fifth approved one has the head of number 1 as its
/// base. Returns how many there are.
async fn write_every_wait(store: &Store, database: &Database, now_epoch: i64) -> u64 {
    let known = write(store, &WHOLE_LIFE[..1]).await;
    let ages = [1, 3, 7].map(|days| [days * DAY - 1, days * DAY, days * DAY + 1]);
    let mut ages = ages.into_iter().flatten().cycle();
    let kinds = [
        WaitingFor::Author,
        WaitingFor::Reviewers,
        WaitingFor::Ci,
        WaitingFor::MergeQueue,
        WaitingFor::Maintainers,
        WaitingFor::Nobody,
    ];
    let (mut batch, mut number) = (BatchWrite::default(), 10);
    for on in kinds {
        // No row has rule 10, which readers of all rows find.
        let rules = (1..=12).filter(|rule| *rule != 10);
        for (rule, reviewed) in rules.flat_map(|rule| [(rule, false), (rule, true)]) {
            let mut known = known.clone();
            (known.version, known.pull_request.key.number) = (0, PrNumber(number));
            let mut one = recording(known, BTreeSet::new());
            let numbers = one.pull_requests[0].numbers.as_mut().unwrap();
            numbers.timings.first_review_at = reviewed.then_some(at(0));
            numbers.turns = waits_for(&[]);
            let waiting = numbers.turns.waiting.as_mut().unwrap();
            (waiting.on, waiting.rule) = (on, rule);
            waiting.since = Timestamp::clamped(now_epoch - ages.next().unwrap());
            batch.pull_requests.append(&mut one.pull_requests);
            number += 1;
        }
    }
    store.record(&batch, now()).await.unwrap().unwrap();
    database
        .execute(
            "UPDATE pull_requests SET base_ref = 'below' WHERE number % 5 = 0; \
             UPDATE pull_requests SET head_ref = 'below', head_repo_id = repo_id, \
             waiting_since = NULL WHERE number = 3",
        )
        .await;
    (number - 10).unsigned_abs()
}

async fn each_cell_of_the_totals_has_a_list_of_as_many_rows(database: Database) {
    let store = open(&database).await;
    let now = at(30 * DAY);
    let written = write_every_wait(&store, &database, now.epoch()).await;
    let filter = WaitingFilter::default();
    let totals = store.waiting_totals(&filter, now).await.unwrap();
    let mut cells: BTreeMap<(WaitingFor, WaitingReason), (u64, [u64; 4])> = BTreeMap::new();
    for group in totals.groups {
        let reason = WaitingReason::of(group.on, group.rule, group.reviewed);
        let (n, by_days) = cells.entry((group.on, reason)).or_default();
        *n += group.n;
        for (total, days) in by_days.iter_mut().zip(group.by_days) {
            *total += days;
        }
    }
    let reasons: BTreeSet<_> = cells.keys().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons.len(), 13, "every reason occurs: {reasons:?}");
    assert_eq!(cells.values().map(|(n, _)| n).sum::<u64>(), written);

    let bound = |days: i64| Some(Timestamp::clamped(now.epoch() - days * DAY));
    let spans = [
        (None, bound(1)),
        (bound(1), bound(3)),
        (bound(3), bound(7)),
        (bound(7), None),
    ];
    for ((on, reason), (n, by_days)) in cells {
        let cell = |until, after| PullRequestFilter {
            waiting_for: Some(on),
            reason: Some(reason),
            waiting_since_until: until,
            waiting_since_after: after,
            order: ListOrder {
                key: SortKey::Waiting,
                ascending: false,
            },
            ..PullRequestFilter::default()
        };
        let counted = async |filter: PullRequestFilter| {
            let rows = store
                .of_team(DEFAULT_TEAM.0)
                .pull_requests(&filter, 200)
                .await
                .unwrap()
                .len() as u64;
            let count = store
                .of_team(DEFAULT_TEAM.0)
                .count_pull_requests(&filter)
                .await
                .unwrap();
            assert_eq!(count, (rows, true), "{on:?} {reason:?}");
            rows
        };
        assert_eq!(counted(cell(None, None)).await, n, "{on:?} {reason:?}");
        for ((until, after), expected) in spans.into_iter().zip(by_days) {
            let rows = counted(cell(until, after)).await;
            assert_eq!(rows, expected, "{on:?} {reason:?} {until:?} {after:?}");
        }
    }
}
