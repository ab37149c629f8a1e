//! The columns of the views, as docs/guides/report-views.md lists them.

use std::collections::BTreeMap;
use std::fs;

use tallyhook_store::OpenMode;
use testkit::database::{Backend, Database, report_rows};
use testkit::{on_every_database, root};

on_every_database! {
    every_column_is_documented_and_there,
}

/// Returns the views of the page, each with the columns of its table.
fn documented() -> BTreeMap<String, Vec<String>> {
    let page = fs::read_to_string(root().join("docs/guides/report-views.md")).unwrap();
    let mut views: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut view = None;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            view = heading
                .strip_prefix('`')
                .map(|name| name.trim_end_matches('`'));
        }
        let (Some(view), Some(cells)) = (view, line.strip_prefix("| `")) else {
            continue;
        };
        let names = cells.split(" | ").next().unwrap();
        let names = names
            .split(", ")
            .map(|name| name.trim_matches('`').to_owned());
        views.entry(view.to_owned()).or_default().extend(names);
    }
    views
}

async fn every_column_is_documented_and_there(database: Database) {
    let store = tallyhook_store::open(&database.url, OpenMode::Exclusive).await;
    store.unwrap().close().await;
    let columns = match database.backend {
        Backend::Postgres => {
            "SELECT c.table_name AS view, c.column_name AS name FROM information_schema.columns c \
             WHERE c.table_schema = 'tallyhook_report' ORDER BY c.table_name, c.ordinal_position"
        }
        Backend::Sqlite => {
            "SELECT substr(v.name, 8) AS view, c.name FROM sqlite_schema v, pragma_table_info(v.name) c \
             WHERE v.type = 'view' AND v.name LIKE 'report!_%' ESCAPE '!' ORDER BY v.name, c.cid"
        }
    };
    let mut views: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in report_rows(&database.url, columns).await {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        views.entry(text("view")).or_default().push(text("name"));
    }
    assert!(views.len() >= 10, "{views:?}");
    assert_eq!(documented(), views);
    let about = report_rows(
        &database.url,
        "SELECT version, team FROM tallyhook_report.about",
    )
    .await;
    assert_eq!(
        about,
        [serde_json::json!({"version": 1, "team": "default"})]
    );
}
