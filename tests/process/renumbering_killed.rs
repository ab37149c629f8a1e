//! A database of an earlier version is upgraded, and the server is killed while it computes the
//! numbers again: the next one continues with what is left.

#![cfg(feature = "crash-points")]

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};
use sqlx_sqlite::SqliteConnection;

use testkit::Place;
use testkit::process::{Serve, get, tallyhook};

const SIGABRT: i32 = 6;
/// Two whole pages and a part of one.
const PULLS: i64 = 450;

/// Open pull requests as the version before waiting stored them.
const ROWS: &str = "
    INSERT INTO repositories (id, name, seen_at, access, access_at, tracked_since)
    VALUES (7, 'acme-corp/api-server', {at}, 'granted', {at}, {at});
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 450)
    INSERT INTO pull_requests (repo_id, number, version, pr_id, pr_created_at, author_id, author_login,
        author_type, author_at, updated_at, title, labels, is_open, branches_updated_at, draft, base_ref,
        head_ref, head_sha, source, definition, state, author_is_bot, flags, timeline, observed)
    SELECT 7, i, 1, {id}, {at}, 1, 'mira', 'User', {at}, {at}, 'Change', {list}, {yes}, {at}, {no}, 'main',
        'topic', 'h', 'webhook', 1, 'open', {no}, {list}, '[]', '{}' FROM n";

async fn earlier_version(place: &Place) {
    let fill = |values: [(&str, &str); 5]| {
        let rows = values.iter().fold(ROWS.to_owned(), |rows, (name, value)| {
            rows.replace(&format!("{{{name}}}"), value)
        });
        AssertSqlSafe(rows)
    };
    match place.postgres() {
        None => {
            let url = format!("{}?mode=rwc", place.database_url);
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            let migrator = sqlx::migrate!("migrations/sqlite");
            migrator.run_to(19, &mut connection).await.unwrap();
            let rows = fill([
                ("at", "1772445600"),
                ("id", "'a' || i"),
                ("list", "'[]'"),
                ("yes", "1"),
                ("no", "0"),
            ]);
            sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Some(database) => {
            let mut connection = sqlx_postgres::PgConnection::connect(&database.url)
                .await
                .unwrap();
            let migrator = sqlx::migrate!("migrations/postgres");
            migrator.run_to(19, &mut connection).await.unwrap();
            let rows = fill([
                ("at", "'2026-03-02T10:00:00Z'::timestamptz"),
                ("id", "gen_random_uuid()"),
                ("list", "'{}'::text[]"),
                ("yes", "true"),
                ("no", "false"),
            ]);
            sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

async fn count(place: &Place, condition: &str) -> i64 {
    let query = format!("SELECT count(*) FROM pull_requests WHERE {condition}");
    match place.postgres() {
        Some(database) => database.select(&query).await,
        None => {
            let mut connection = SqliteConnection::connect(&place.database_url)
                .await
                .unwrap();
            let counted = sqlx::query_scalar(AssertSqlSafe(query));
            let counted = counted.fetch_one(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            counted
        }
    }
}

/// Runs a server until it ends itself after so many pages.
fn killed_after_pages(place: &Place, pages: u64) -> ExitStatus {
    let mut command = tallyhook(place.path(), &["serve", "--log-format", "json"]);
    command.env(
        "TALLYHOOK_CRASH_AT",
        format!("renumbering.page_written:{pages}"),
    );
    match Serve::try_start(&mut command) {
        Ok(mut serve) => serve.wait().0,
        Err((status, _)) => status,
    }
}

#[tokio::test]
async fn numbers_of_an_earlier_version_are_computed_again_and_a_kill_costs_no_page() {
    let place = Place::new().await;
    earlier_version(&place).await;
    assert_eq!(killed_after_pages(&place, 2).signal(), Some(SIGABRT));
    assert_eq!(
        count(&place, "definition = 2 AND waiting_for IS NOT NULL").await,
        400
    );
    assert_eq!(
        count(&place, "definition = 1 AND state = 'open'").await,
        PULLS - 400
    );

    let serve = Serve::start(place.path());
    serve.wait_for("the numbers of 50 pull requests are of definition 2");
    let http = reqwest::Client::new();
    let waiting = get(&http, &serve.url, "/api/waiting").await;
    assert_eq!(
        (&waiting["open"], &waiting["groups"][0]["for"]),
        (&json!(PULLS), &json!("nobody"))
    );
    assert_eq!(waiting["freshness"]["not_computed"], 0);
    let (status, _) = serve.terminate();
    assert!(status.success());
    assert_eq!(count(&place, "definition < 2").await, 0);
    // A later start has nothing to do.
    let serve = Serve::start(place.path());
    let (_, log) = serve.terminate();
    assert!(
        !log.iter().any(|line| line.contains("again, by definition")),
        "{log:#?}"
    );
}
