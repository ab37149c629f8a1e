//! Tokens, and the behaviour of the store as a whole: closing, exclusive files, the leader.

use tallyhook_store::{
    AccessRole, DEFAULT_TEAM, LeaderRole, NewSession, NewToken, OpenMode, SessionHolder,
    SessionOwner, SessionTimes, Store, TeamId, TokenHash, UsedCredential,
};

use super::{accept, delivery, eventually, later, now, open, pending};
use testkit::database::{Backend, Database, database};
use testkit::on_every_database;

on_every_database! {
    role_is_free_after_its_process_ended,
    tokens_are_valid_until_they_are_revoked,
    token_expires_and_its_rights_depend_on_the_number_of_teams,
    session_lasts_while_it_is_used_and_its_token_is_in_force,
    sessions_end_one_by_one_and_a_token_has_fifty,
    last_use_of_a_token_only_moves_on,
    closed_store_refuses_every_call,
}

fn token<'a>(name: &'a str, hash: &'a TokenHash) -> NewToken<'a> {
    let (team, _) = DEFAULT_TEAM;
    NewToken {
        name,
        hash,
        team,
        role: AccessRole::Member,
        login: None,
        created_by: None,
        created_at: now(),
        expires_at: None,
    }
}

async fn create(store: &Store, name: &str, hash: &TokenHash) -> bool {
    store.create_token(&token(name, hash)).await.unwrap()
}

async fn is_valid(store: &Store, hash: &TokenHash) -> bool {
    store.token_grant(hash, now()).await.unwrap().is_some()
}

async fn tokens_are_valid_until_they_are_revoked(database: Database) {
    let store = open(&database).await;
    assert!(!is_valid(&store, &[1; 32]).await);
    assert!(create(&store, "ci", &[1; 32]).await);
    assert!(!create(&store, "ci", &[2; 32]).await);
    assert!(is_valid(&store, &[1; 32]).await);
    let revoke = async |team, at| store.revoke_token(team, "ci", at).await.unwrap();
    assert!(!revoke(TeamId(2), later(1)).await, "of another team");
    assert!(revoke(DEFAULT_TEAM.0, later(1)).await);
    assert!(!revoke(DEFAULT_TEAM.0, later(2)).await);
    assert!(!is_valid(&store, &[1; 32]).await);
    assert!(create(&store, "ci", &[2; 32]).await);
    assert!(is_valid(&store, &[2; 32]).await && !is_valid(&store, &[1; 32]).await);
    let tokens = store.tokens(None).await.unwrap();
    assert_eq!((tokens.len(), tokens[0].revoked_at), (1, None));
    assert_eq!(store.tokens(Some(TeamId(2))).await.unwrap(), []);
}

async fn token_expires_and_its_rights_depend_on_the_number_of_teams(database: Database) {
    let store = open(&database).await;
    let ends = NewToken {
        expires_at: Some(later(60)),
        ..token("ends", &[1; 32])
    };
    assert!(store.create_token(&ends).await.unwrap());
    let grant = async |at| store.token_grant(&[1; 32], at).await.unwrap();
    let found = grant(later(59)).await.unwrap();
    let (team, team_name) = DEFAULT_TEAM;
    assert_eq!((found.team, &*found.team_name), (team, team_name));
    assert_eq!((found.role, found.is_only_team), (AccessRole::Member, true));
    assert_eq!(grant(later(60)).await, None);
    database
        .execute("INSERT INTO teams (id, name) VALUES (2, 'other')")
        .await;
    assert!(!grant(now()).await.unwrap().is_only_team);
}

fn session<'a>(hash: &'a TokenHash, token: &TokenHash) -> NewSession<'a> {
    NewSession {
        hash,
        owner: owner(token),
        team: None,
        expires_at: later(1000),
        agent: Some("Firefox"),
        replaces: None,
    }
}

fn owner(token: &TokenHash) -> SessionOwner {
    SessionOwner::Token(*token)
}

/// Returns the token of a session, and its role if it is in force.
fn held(holder: SessionHolder) -> (TokenHash, Option<AccessRole>) {
    match holder {
        SessionHolder::Token { token, grant } => (token, grant.map(|grant| grant.role)),
        SessionHolder::Person(person) => panic!("{person:?}"),
    }
}

/// The times of a use `seconds` later, with an idle time of 100 seconds.
fn at(seconds: i64) -> SessionTimes {
    SessionTimes {
        now: later(seconds),
        idle_since: later(seconds - 100),
    }
}

async fn session_lasts_while_it_is_used_and_its_token_is_in_force(database: Database) {
    let store = open(&database).await;
    assert!(create(&store, "ci", &[1; 32]).await);
    store
        .start_session(&session(&[2; 32], &[1; 32]), at(0))
        .await
        .unwrap();
    let grant = async |seconds| store.session_grant(&[2; 32], at(seconds)).await.unwrap();
    let found = grant(99).await.unwrap();
    assert_eq!(held(found.holder), ([1; 32], Some(AccessRole::Member)));
    assert_eq!(grant(100).await, None, "it was idle");
    for seconds in [90, 180, 170, 270, 360, 450, 540, 630, 720, 810, 900, 990] {
        let used = [(UsedCredential::Session(found.id), later(seconds))];
        store.record_uses(&used).await.unwrap();
    }
    assert!(grant(999).await.is_some());
    assert_eq!(grant(1000).await, None, "its time is over");
    let listed = store.sessions(&owner(&[1; 32]), at(999)).await.unwrap();
    assert_eq!((listed.len(), listed[0].last_used_at), (1, later(990)));
    assert_eq!(listed[0].agent.as_deref(), Some("Firefox"));
    assert_eq!(store.sessions(&owner(&[9; 32]), at(999)).await.unwrap(), []);

    // A token that expired is no token of the session, and one that is revoked ends it.
    assert!(
        store
            .revoke_token(DEFAULT_TEAM.0, "ci", now())
            .await
            .unwrap()
    );
    assert_eq!(store.sessions(&owner(&[1; 32]), at(999)).await.unwrap(), []);
    let ends = NewToken {
        expires_at: Some(later(50)),
        ..token("ends", &[5; 32])
    };
    assert!(store.create_token(&ends).await.unwrap());
    store
        .start_session(&session(&[6; 32], &[5; 32]), at(0))
        .await
        .unwrap();
    let grant = async |seconds| store.session_grant(&[6; 32], at(seconds)).await.unwrap();
    assert!(held(grant(49).await.unwrap().holder).1.is_some());
    assert_eq!(held(grant(50).await.unwrap().holder).1, None);
}

async fn sessions_end_one_by_one_and_a_token_has_fifty(database: Database) {
    let store = open(&database).await;
    for number in 0..60 {
        let hash = [number; 32];
        store
            .start_session(&session(&hash, &[100; 32]), at(0))
            .await
            .unwrap();
    }
    store
        .start_session(&session(&[70; 32], &[101; 32]), at(0))
        .await
        .unwrap();
    let count = async |token: &TokenHash| store.sessions(&owner(token), at(1)).await.unwrap().len();
    assert_eq!((count(&[100; 32]).await, count(&[101; 32]).await), (50, 1));
    assert_eq!(store.session_grant(&[9; 32], at(1)).await.unwrap(), None);
    let newest = store
        .sessions(&owner(&[100; 32]), at(1))
        .await
        .unwrap()
        .remove(0)
        .id;
    assert_eq!(
        store
            .end_sessions(&owner(&[101; 32]), Some(newest))
            .await
            .unwrap(),
        0,
        "of another token"
    );
    assert_eq!(
        store
            .end_sessions(&owner(&[100; 32]), Some(newest))
            .await
            .unwrap(),
        1
    );
    assert_eq!(store.session_grant(&[59; 32], at(1)).await.unwrap(), None);
    // A new one replaces the one of the same browser, and deletes those that have ended.
    let replaced = NewSession {
        replaces: Some(&[58; 32]),
        ..session(&[71; 32], &[100; 32])
    };
    store.start_session(&replaced, at(1)).await.unwrap();
    assert_eq!(store.session_grant(&[58; 32], at(1)).await.unwrap(), None);
    store
        .start_session(&session(&[72; 32], &[101; 32]), at(200))
        .await
        .unwrap();
    assert_eq!(database.select("SELECT count(*) FROM sessions").await, 1);
    assert_eq!(
        store.end_sessions(&owner(&[101; 32]), None).await.unwrap(),
        1
    );
}

async fn last_use_of_a_token_only_moves_on(database: Database) {
    let store = open(&database).await;
    assert!(create(&store, "ci", &[1; 32]).await);
    let id = store
        .token_grant(&[1; 32], now())
        .await
        .unwrap()
        .unwrap()
        .id;
    for seconds in [20, 10] {
        let used = [(UsedCredential::Token(id), later(seconds))];
        store.record_uses(&used).await.unwrap();
    }
    let tokens = store.tokens(None).await.unwrap();
    assert_eq!(tokens[0].last_used_at, Some(later(20)));
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
