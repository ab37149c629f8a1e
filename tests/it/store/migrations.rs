//! Migrations of databases of earlier versions.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};
use sqlx_sqlite::SqliteConnection;
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::domain::repository::RepositoryAccess;
use tallyhook_core::event::ReviewState;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_store::{
    AccessRole, BatchWrite, DeliveryState, NewSession, NewToken, OpenMode, SessionHolder,
    SessionOwner, SessionTimes, TeamId,
};

use testkit::database::{Backend, Database, database};
use testkit::histories::Step;
use testkit::{histories, on_every_database};

on_every_database! {
    long_timeline_of_an_earlier_version_is_kept,
    open_pull_requests_with_requests_of_an_unknown_kind_are_found,
}

/// Rows of a database whose time columns still end in `_ms`: a leased delivery, one without a
/// lease, a dead and an applied one, their bodies, a valid and a revoked token.
const ROWS: &str = "
    INSERT INTO deliveries (id, guid, body_sha256, event, source, lane, state, received_ms,
        next_attempt_ms, leased_until_ms, finished_ms, body_bytes, leased_by) VALUES
    (1, 'a', x'01', 'push', 'webhook', 'live', 'accepted', 1000, 2000, 3000, NULL, 9, 77),
    (2, 'b', x'02', 'push', 'webhook', 'live', 'accepted', 1001, 2001, 0, NULL, 9, 0),
    (3, 'c', x'03', 'push', 'poller', 'backfill', 'dead', 1002, 2002, 0, 5000, 9, 0),
    (4, 'd', x'04', 'push', 'poller', 'backfill', 'applied', 1003, 2003, 4000, 5001, 9, 0);
    INSERT INTO delivery_bodies VALUES (1, x'aa'), (2, x'bb'), (3, x'cc'), (4, x'dd');
    INSERT INTO api_tokens (name, sha256, created_ms, revoked_ms) VALUES
    ('ci', x'05', 7000, NULL), ('old', x'06', 7001, 7002);";

/// Creates a database with the first so many migrations.
async fn sqlite_of_version(version: i64) -> (Database, SqliteConnection) {
    let database = database(Backend::Sqlite);
    let url = format!("{}?mode=rwc", database.url);
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let migrator = sqlx::migrate!("migrations/sqlite");
    migrator.run_to(version, &mut connection).await.unwrap();
    (database, connection)
}

fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap()
}

#[tokio::test]
async fn renaming_the_time_columns_of_sqlite_loses_no_row_and_no_lease() {
    let (database, mut connection) = sqlite_of_version(9).await;
    sqlx::raw_sql(ROWS).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let store = tallyhook_store::open(&database.url, OpenMode::Exclusive)
        .await
        .unwrap();
    let mut found = Vec::new();
    for id in 1..=4 {
        let delivery = store.delivery(DeliveryId(id)).await.unwrap().unwrap();
        let body = store.body(DeliveryId(id)).await.unwrap().unwrap();
        assert_eq!(body.stored_bytes(), 1);
        found.push((
            delivery.state,
            delivery.received_at,
            delivery.next_attempt_at,
            delivery.finished_at,
        ));
    }
    assert_eq!(
        found,
        [
            (DeliveryState::Accepted, at(1000), Some(at(2000)), None),
            (DeliveryState::Accepted, at(1001), Some(at(2001)), None),
            (DeliveryState::Dead, at(1002), None, Some(at(5000))),
            (DeliveryState::Applied, at(1003), None, Some(at(5001))),
        ]
    );
    let tokens = store.tokens(None).await.unwrap();
    let tokens: Vec<_> = tokens
        .iter()
        .map(|token| (&*token.name, token.created_at, token.revoked_at))
        .collect();
    assert_eq!(
        tokens,
        [("ci", at(7000), None), ("old", at(7001), Some(at(7002)))]
    );
    // The lease holds until its end; a delivery without one is free at once.
    let ids = [DeliveryId(1), DeliveryId(2)];
    assert_eq!(super::claim(&store, &ids, at(2999)).await, [DeliveryId(2)]);
    assert_eq!(super::claim(&store, &ids, at(3000)).await, [DeliveryId(1)]);
    store.close().await;
}

#[tokio::test]
async fn tokens_of_an_earlier_version_keep_their_rights() {
    let (database, mut connection) = sqlite_of_version(19).await;
    let rows = "INSERT INTO api_tokens (name, sha256, created_at) VALUES
        ('admin', x'05', 7000), ('ci', x'06', 7001)";
    sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let store = super::open(&database).await;
    let tokens = store.tokens(None).await.unwrap();
    let rights: Vec<_> = tokens
        .iter()
        .map(|token| (&*token.name, &*token.team, token.role, token.expires_at))
        .collect();
    assert_eq!(
        rights,
        [
            ("admin", "default", AccessRole::Operator, None),
            ("ci", "default", AccessRole::Admin, None)
        ]
    );
    store.close().await;
}

/// Every row of every table as text, by name of the table.
async fn dump(connection: &mut SqliteConnection) -> BTreeMap<String, Vec<String>> {
    let mut dumped = BTreeMap::new();
    for (table, columns) in tables(connection).await {
        let values: Vec<String> = columns
            .iter()
            .map(|column| format!("quote(\"{}\")", column.name))
            .collect();
        let query = format!(
            "SELECT json_array({}) AS whole FROM \"{table}\" ORDER BY whole",
            values.join(", ")
        );
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        dumped.insert(table, rows);
    }
    dumped
}

#[derive(sqlx::FromRow)]
struct ColumnInfo {
    name: String,
    #[sqlx(rename = "type")]
    kind: String,
}

/// The tables that are ours, with their columns.
async fn tables(connection: &mut SqliteConnection) -> Vec<(String, Vec<ColumnInfo>)> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' \
         AND name NOT LIKE '_sqlx_%' ORDER BY name",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let mut tables = Vec::new();
    for name in names {
        let columns = sqlx::query_as("SELECT name, type FROM pragma_table_info($1)")
            .bind(&name)
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        tables.push((name, columns));
    }
    tables
}

/// Puts three rows of made-up values into each table. What a column may hold does not matter to a
/// migration that only moves it.
async fn fill(connection: &mut SqliteConnection) {
    sqlx::raw_sql("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;")
        .execute(&mut *connection)
        .await
        .unwrap();
    for (table, columns) in tables(connection).await {
        for row in 1..=3 {
            let values: Vec<String> = columns
                .iter()
                .enumerate()
                .map(|(place, column)| match column.kind.as_str() {
                    "TEXT" => format!("'{} {row}'", column.name),
                    "BLOB" => format!("x'{place:02x}{row:02x}'"),
                    _ => (row * 100 + place).to_string(),
                })
                .collect();
            let insert = format!("INSERT INTO \"{table}\" VALUES ({})", values.join(", "));
            sqlx::raw_sql(AssertSqlSafe(insert))
                .execute(&mut *connection)
                .await
                .unwrap_or_else(|error| panic!("{table}: {error}"));
        }
    }
}

#[tokio::test]
async fn renaming_the_time_columns_of_sqlite_leaves_every_other_table_as_it_is() {
    let (_database, mut connection) = sqlite_of_version(9).await;
    fill(&mut connection).await;
    let mut before = dump(&mut connection).await;
    assert!(before.values().all(|rows| rows.len() >= 3), "{before:?}");

    let migrator = sqlx::migrate!("migrations/sqlite");
    migrator.run_to(10, &mut connection).await.unwrap();
    let mut after = dump(&mut connection).await;
    // The lease of a delivery is NULL now where it was 0: the test above has its rule.
    for dumped in [&mut before, &mut after] {
        assert_eq!(dumped.remove("deliveries").map(|rows| rows.len()), Some(3));
    }
    assert_eq!(after, before);
    connection.close().await.unwrap();
}

/// A pull request whose timeline is one long list in its row, as earlier versions kept it.
async fn long_timeline_of_an_earlier_version_is_kept(database: Database) {
    let store = super::open(&database).await;
    let known = super::write(&store, &super::WHOLE_LIFE).await;
    store.close().await;
    let facts: Vec<_> = (0..2_000)
        .map(|place| {
            let at = Timestamp::clamped(1_700_000_000 + place);
            let detail = format!("label-{place}");
            json!({"at": at, "type": "labeled", "detail": detail})
        })
        .collect();
    let observed: BTreeMap<i64, Value> = (0..2_000)
        .map(|place| (1_700_000_000 + place, json!({"open": true, "draft": false})))
        .collect();
    let (facts, observed) = (json!(facts), json!(observed));
    database
        .execute(&format!(
            "UPDATE pull_requests SET timeline = '{facts}', observed = '{observed}'; \
             DROP TABLE timeline_segments; DROP INDEX repositories_tracked; \
             DELETE FROM _sqlx_migrations WHERE version IN (14, 15)"
        ))
        .await;

    let store = super::open(&database).await;
    let read = store.load(&[histories::KEY]).await.unwrap().remove(0);
    assert_eq!(
        json!(read.pull_request.timeline.iter().collect::<Vec<_>>()),
        facts
    );
    assert_eq!(read.pull_request.observed.len(), 2_000);
    assert_eq!(read.pull_request.reviews, known.pull_request.reviews);
    // The next write moves them to a segment.
    let recording = super::recording(read.clone(), BTreeSet::new());
    store
        .record(&recording, super::now())
        .await
        .unwrap()
        .unwrap();
    let again = store.load(&[histories::KEY]).await.unwrap().remove(0);
    assert_eq!(again.pull_request, read.pull_request);
    let rest = "SELECT length(CAST(timeline AS text)) FROM pull_requests";
    assert_eq!(database.select(rest).await, 2);
    store.close().await;
}

async fn open_pull_requests_with_requests_of_an_unknown_kind_are_found(database: Database) {
    let store = super::open(&database).await;
    let repository = super::repository(100, "acme-corp/api-server", RepositoryAccess::Granted);
    let known = super::write(&store, &[(10, Step::Request(1))]).await;
    let mut recording = BatchWrite {
        repositories: vec![repository],
        ..BatchWrite::default()
    };
    // One has them in a segment, one is closed, and one has none.
    let number = |number| PrKey {
        number: PrNumber(number),
        ..histories::KEY
    };
    for (key, open) in [(4, true), (5, false), (6, true)] {
        let mut copy = known.clone();
        (copy.version, copy.pull_request.key) = (0, number(key));
        copy.pull_request.conversation.as_mut().unwrap().value.open = open;
        recording
            .pull_requests
            .extend(super::recording(copy, BTreeSet::new()).pull_requests);
    }
    store
        .record(&recording, super::now())
        .await
        .unwrap()
        .unwrap();
    store.close().await;
    let columns = "requested_at requested first_requested details_at details merge_state_at \
                   merge_state first_authored_at last_authored_at first_committed_at \
                   last_committed_at co_authors has_partial_requests";
    let drop = |column| format!("ALTER TABLE pull_requests DROP COLUMN {column};");
    let drops: String = columns.split_whitespace().map(drop).collect();
    let old = r#"[{"at":"2026-03-02T10:00:10Z","type":"review_requested","subject":101}]"#;
    database
        .execute(&format!(
            "DROP INDEX pull_requests_with_partial_requests; {drops} DROP TABLE commits; \
             DELETE FROM _sqlx_migrations WHERE version = 20; \
             UPDATE pull_requests SET timeline = '{old}'; \
             INSERT INTO timeline_segments (repo_id, number, version, timeline, observed) \
             VALUES (7, 4, 1, '{old}', '{{}}'); \
             UPDATE pull_requests SET timeline = '[]' WHERE number IN (4, 6)"
        ))
        .await;

    let store = super::open(&database).await;
    let found = store
        .incomplete_pull_requests(RepoId(7), super::now(), 9)
        .await
        .unwrap();
    assert_eq!(found, [4, 3].map(PrNumber));
    // The facts are read, and one write of them known better ends it.
    for key in [3, 4] {
        let mut read = store.load(&[number(key)]).await.unwrap().remove(0);
        assert!(read.pull_request.timeline.has_partial_requests());
        assert_eq!(read.pull_request.requested, None);
        for event in histories::events(false, Some(500), &[(10, Step::Request(1))]) {
            read.pull_request.apply(&event, Source::Webhook);
        }
        assert!(!read.pull_request.timeline.has_partial_requests());
        let recording = super::recording(read, BTreeSet::new());
        store
            .record(&recording, super::now())
            .await
            .unwrap()
            .unwrap();
    }
    let found = store
        .incomplete_pull_requests(RepoId(7), super::now(), 9)
        .await;
    assert_eq!(found.unwrap(), []);
    store.close().await;
}

/// Reviews of two pull requests, and of one that has none of its own.
const REVIEWS: &str = "
    INSERT INTO reviews (github_review_id, repo_id, number, reviewer_id, reviewer_login, reviewer_type,
        original_state, submitted_at, commit_id, dismissed, dismissed_at) VALUES
    (30, 7, 3, 501, 'mara', 'User', 'approved', {at}, 'c0ffee', {no}, NULL),
    (20, 8, 1, 502, 'noel', 'Bot', NULL, {at}, NULL, {yes}, {at}),
    (10, 7, 3, 502, 'noel', 'User', 'commented', {at}, NULL, {no}, NULL);
    INSERT INTO pull_requests (repo_id, number, version, pr_id, timeline, observed) VALUES
    (7, 3, 1, 'a', '[]', '{{}}'), (8, 1, 1, 'b', '[]', '{{}}');";

/// Opens a database with the rows of [`REVIEWS`] and asserts that each is there.
async fn assert_reviews_are_kept(database: &Database) {
    let store = tallyhook_store::open(&database.url, OpenMode::Exclusive)
        .await
        .unwrap();
    let keys = [(7, 3), (8, 1)].map(|(repo, number)| PrKey {
        repo: RepoId(repo),
        number: PrNumber(number),
    });
    let mut found = Vec::new();
    for known in store.load(&keys).await.unwrap() {
        for review in known.pull_request.reviews.into_values() {
            assert_eq!(review.submitted_at, Timestamp::clamped(1_772_445_600));
            found.push((
                known.pull_request.key.repo.0,
                review.id.0,
                review.author.login,
                review.original_state,
                review.commit_id,
                review.dismissed && review.dismissed_at.is_some(),
            ));
        }
    }
    let (mara, noel) = ("mara".to_owned(), "noel".to_owned());
    let commented = Some(ReviewState::Commented);
    let approved = Some(ReviewState::Approved);
    assert_eq!(
        found,
        [
            (7, 10, noel.clone(), commented, None, false),
            (7, 30, mara, approved, Some("c0ffee".to_owned()), false),
            (8, 20, noel, None, None, true),
        ]
    );
    store.close().await;
}

#[tokio::test]
async fn reviews_get_the_key_of_their_pull_request_in_sqlite_and_none_is_lost() {
    let (database, mut connection) = sqlite_of_version(10).await;
    let rows = REVIEWS.replace("{at}", "1772445600");
    let rows = rows.replace("{no}", "0").replace("{yes}", "1");
    let rows = rows.replace("{{}}", "{}");
    sqlx::raw_sql(AssertSqlSafe(rows))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert_reviews_are_kept(&database).await;
}

#[cfg(feature = "services")]
#[tokio::test]
async fn reviews_get_the_key_of_their_pull_request_in_postgresql_and_none_is_lost() {
    let database = database(Backend::Postgres);
    let mut connection = sqlx_postgres::PgConnection::connect(&database.url)
        .await
        .unwrap();
    let migrator = sqlx::migrate!("migrations/postgres");
    migrator.run_to(7, &mut connection).await.unwrap();
    let rows = REVIEWS.replace("{at}", "'2026-03-02T10:00:00Z'");
    let rows = rows.replace("{no}", "false").replace("{yes}", "true");
    let rows = rows
        .replace("{{}}", "{}")
        .replace("'a'", "gen_random_uuid()");
    let rows = rows.replace("'b'", "gen_random_uuid()");
    sqlx::raw_sql(AssertSqlSafe(rows))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert_reviews_are_kept(&database).await;
}

/// Tokens and sessions of a database whose tokens have names of all teams.
const ACCOUNTS: &str = "
    INSERT INTO teams (id, name) VALUES (2, 'other');
    INSERT INTO api_tokens (name, team_id, sha256, role, login, created_at, expires_at, last_used_at,
        revoked_at) VALUES
    ('admin', 1, {a}, 'operator', NULL, {t}, NULL, NULL, NULL),
    ('ci', 2, {b}, 'member', 'ines', {t}, {t}, {t}, NULL),
    ('old', 1, {c}, 'viewer', NULL, {t}, NULL, NULL, {t});
    INSERT INTO sessions (sha256, token_sha256, created_at, last_used_at, expires_at, agent) VALUES
    ({x}, {a}, {t}, {t}, {end}, 'Firefox'), ({y}, {b}, {t}, {t}, {end}, NULL);
    DELETE FROM sessions WHERE sha256 = {y};
    INSERT INTO ws_tickets (sha256, expires_at, token_sha256) VALUES ('aa', {end}, 'bb');";

/// Returns the rows of [`ACCOUNTS`]: digests are of one repeated byte.
fn accounts(digest: impl Fn(u8) -> String, time: &str, end: &str) -> String {
    let mut rows = ACCOUNTS.replace("{t}", time).replace("{end}", end);
    for (name, byte) in [("{a}", 1), ("{b}", 2), ("{c}", 3), ("{x}", 11), ("{y}", 12)] {
        rows = rows.replace(name, &digest(byte));
    }
    rows
}

/// Opens a database with the rows of [`ACCOUNTS`] and asserts that they go on working.
async fn assert_accounts_are_kept(database: &Database) {
    let store = super::open(database).await;
    let at = super::now();
    let tokens = store.tokens(None).await.unwrap().into_iter();
    let tokens: Vec<_> = tokens
        .map(|token| {
            assert_eq!((token.created_at, &token.created_by), (at, &None));
            let times = [token.expires_at, token.last_used_at, token.revoked_at];
            let times = times.map(|time| time == Some(at));
            (token.name, token.team, token.role, token.login, times)
        })
        .collect();
    let token = |name: &str, team: &str, role, login: Option<&str>, times| {
        (
            name.to_owned(),
            team.to_owned(),
            role,
            login.map(str::to_owned),
            times,
        )
    };
    let (none, member) = ([false, false, false], AccessRole::Member);
    assert_eq!(
        tokens,
        [
            token("admin", "default", AccessRole::Operator, None, none),
            token("ci", "other", member, Some("ines"), [true, true, false]),
            token(
                "old",
                "default",
                AccessRole::Viewer,
                None,
                [false, false, true]
            ),
        ]
    );
    let grant = async |byte, at| store.token_grant(&[byte; 32], at).await.unwrap();
    let admin = grant(1, at).await.unwrap();
    assert_eq!(
        (admin.role, admin.is_only_team),
        (AccessRole::Operator, false)
    );
    let before = at - chrono::TimeDelta::seconds(1);
    assert_eq!(grant(2, before).await.unwrap().role, member);
    assert_eq!(grant(2, at).await, None);
    assert_eq!(grant(3, at).await, None);

    let times = SessionTimes {
        now: at,
        idle_since: before,
    };
    let found = store
        .session_grant(&[11; 32], times)
        .await
        .unwrap()
        .unwrap();
    let holder = SessionHolder::Token {
        token: [1; 32],
        grant: Some(admin),
    };
    assert_eq!((found.team, found.holder), (None, holder));
    // The id of a session that has ended is not given again.
    let new = NewSession {
        hash: &[13; 32],
        owner: SessionOwner::Token([1; 32]),
        team: None,
        expires_at: super::later(100),
        agent: None,
        replaces: None,
    };
    store.start_session(&new, times).await.unwrap();
    let sessions = store.sessions(&new.owner, times).await.unwrap();
    let ids: Vec<_> = sessions.iter().map(|session| session.id.0).collect();
    assert_eq!(ids, [3, 1]);
    assert_eq!(sessions[1].agent.as_deref(), Some("Firefox"));
    let tickets = "SELECT count(*) FROM ws_tickets";
    assert_eq!(database.select(tickets).await, 0);
    // The name is free in the other team, and taken in its own.
    let create = async |team, byte| {
        let new = NewToken {
            name: "ci",
            hash: &[byte; 32],
            team: TeamId(team),
            role: member,
            login: None,
            created_by: None,
            created_at: at,
            expires_at: None,
        };
        store.create_token(&new).await.unwrap()
    };
    assert!(create(1, 21).await && !create(2, 22).await);
    let made = store.create_team("third").await.unwrap();
    assert_eq!(made, Some(TeamId(3)));
    store.close().await;
}

#[tokio::test]
async fn tokens_and_sessions_go_on_working_with_accounts_in_sqlite() {
    let (database, mut connection) = sqlite_of_version(27).await;
    let digest = |byte: u8| format!("x'{}'", format!("{byte:02x}").repeat(32));
    let millis = super::now().timestamp_millis();
    let end = (millis + 1_000_000).to_string();
    let rows = accounts(digest, &millis.to_string(), &end);
    sqlx::raw_sql(AssertSqlSafe(rows))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert_accounts_are_kept(&database).await;
}

#[cfg(feature = "services")]
#[tokio::test]
async fn tokens_and_sessions_go_on_working_with_accounts_in_postgresql() {
    let database = database(Backend::Postgres);
    let mut connection = sqlx_postgres::PgConnection::connect(&database.url)
        .await
        .unwrap();
    let migrator = sqlx::migrate!("migrations/postgres");
    migrator.run_to(27, &mut connection).await.unwrap();
    let digest = |byte: u8| format!("'\\x{}'::bytea", format!("{byte:02x}").repeat(32));
    let time = |seconds| format!("'{}'::timestamptz", super::later(seconds).to_rfc3339());
    let rows = accounts(digest, &time(0), &time(1000));
    sqlx::raw_sql(AssertSqlSafe(rows))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert_accounts_are_kept(&database).await;
}
