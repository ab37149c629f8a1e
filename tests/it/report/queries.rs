//! The queries of docs/guides/sql-and-csv.md, as they are written there.

use std::fs;

use serde_json::Value;
use testkit::root;

use super::{report, with_facts};

/// Returns the queries of the page, each with the heading that is its question.
fn queries() -> Vec<(String, String)> {
    let page = fs::read_to_string(root().join("docs/guides/sql-and-csv.md")).unwrap();
    let (mut queries, mut heading, mut query) = (Vec::new(), String::new(), None);
    for line in page.lines() {
        match (&mut query, line) {
            (Some(_), "```") => queries.extend(query.take().map(|sql| (heading.clone(), sql))),
            (Some(sql), line) => *sql = format!("{sql}{line}\n"),
            (None, "```sql") => query = Some(String::new()),
            (None, line) => {
                if let Some(text) = line.strip_prefix("### ") {
                    text.clone_into(&mut heading);
                }
            }
        }
    }
    queries
}

#[tokio::test]
async fn every_query_of_the_page_gives_rows() {
    let queries = queries();
    assert_eq!(queries.len(), 10);
    let server = with_facts().await;
    let fetched = "UPDATE repositories SET complete_since = access_at";
    server.place.execute(fetched).await;
    for (question, sql) in queries {
        let rows = report(&server, &sql).await;
        assert!(!rows.is_empty(), "{question}: no rows");
        let is_whole = |row: &Value| {
            row.as_object()
                .unwrap()
                .values()
                .all(|value| !value.is_null())
        };
        let has_values = rows.iter().any(|row| {
            // A complete one misses nothing.
            let mut row = row.clone();
            row.as_object_mut().unwrap().remove("missing");
            is_whole(&row)
        });
        assert!(has_values, "{question}: {rows:?}");
    }
    server.stop().await;
}
