//! The boards for Grafana in `deploy/grafana`, without a Grafana: their form, their links, their
//! queries as the reader of `deploy/reader.sql`, and that their numbers are those of the API.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tallyhook::app::ServerOptions;
use tallyhook::dashboard::page_calls;
use testkit::conformity::operations;
use testkit::database::report_rows;
use testkit::{Place, TestServer, root};

use super::alerts::{promtool, unknown_metrics};

/// Variables that Grafana has on every board.
const BUILT_IN: [&str; 5] = ["__from", "__to", "__data", "__value", "__rate_interval"];

fn boards() -> Vec<Value> {
    let entries = fs::read_dir(root().join("deploy/grafana")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let boards = paths.iter().filter(|path| path.is_file());
    let boards: Vec<_> = boards
        .map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
        .collect();
    assert_eq!(boards.len(), 4);
    boards
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The panels that show something.
fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    list(&board["panels"]).filter(|panel| panel["type"] != "row")
}

/// Returns what is wrong with the form of a board.
fn breaches(board: &Value) -> Vec<String> {
    let mut breaches = Vec::new();
    for (name, wanted) in [
        ("id", Value::Null),
        ("timezone", json!("")),
        ("refresh", json!("1m")),
        ("editable", json!(false)),
        ("schemaVersion", json!(39)),
    ] {
        if board[name] != wanted {
            breaches.push(format!("{name} is {}", board[name]));
        }
    }
    let variables = || list(&board["templating"]["list"]);
    let known: BTreeSet<_> = variables()
        .map(|variable| text(&variable["name"]))
        .chain(BUILT_IN)
        .collect();
    for name in used_variables(&board.to_string()) {
        if !known.contains(name.as_str()) {
            breaches.push(format!("there is no variable {name}"));
        }
    }
    let is_source = |source: &Value| {
        variables().any(|variable| {
            variable["type"] == "datasource"
                && variable["query"] == source["type"]
                && text(&source["uid"]) == format!("${{{}}}", text(&variable["name"]))
        })
    };
    let mut ids = BTreeSet::new();
    for panel in list(&board["panels"]) {
        if !ids.insert(panel["id"].as_i64()) {
            breaches.push(format!("the id {} is there twice", panel["id"]));
        }
    }
    for panel in panels(board) {
        let mut wrong = |what: &str| breaches.push(format!("{}: {what}", panel["title"]));
        if text(&panel["title"]).is_empty() || text(&panel["description"]).is_empty() {
            wrong("no title or no description");
        }
        let defaults = &panel["fieldConfig"]["defaults"];
        if text(&defaults["unit"]).is_empty() {
            wrong("no unit");
        }
        if list(&panel["targets"]).count() == 0 {
            wrong("no target");
        }
        let targets = list(&panel["targets"]);
        for part in targets.chain([panel]) {
            if !is_source(&part["datasource"]) {
                wrong("its data source is no variable of the board");
            }
            let query = format!("{}{}", text(&part["rawSql"]), text(&part["expr"]));
            let query = query.to_lowercase();
            if query.contains("coalesce") || query.contains("or vector(0)") {
                wrong("unknown is not 0");
            }
            let has_percentile = query.contains("percentile_cont") || query.contains("quantile");
            let averages = [
                "avg(percentile",
                "avg(p50",
                "avg(p75",
                "avg(p90",
                "avg(histogram",
            ];
            if averages.iter().any(|average| query.contains(average)) {
                wrong("an average of percentiles is no number");
            }
            if has_percentile && defaults["custom"]["stacking"]["mode"] == "normal" {
                wrong("percentiles do not add up");
            }
        }
    }
    breaches
}

/// Returns the names of the variables that a text has, as in `$name` and `${name:format}`.
fn used_variables(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let parts = text.split('$').skip(1);
    let names = parts.map(|part| {
        let part = part.trim_start_matches('{');
        part.split(|letter| !is_part(letter)).next().unwrap()
    });
    // Those are macros of the data source.
    let names = names.filter(|name| !["__timeFilter", "__all", ""].contains(name));
    names.map(str::to_owned).collect()
}

#[test]
fn boards_keep_their_form() {
    let boards = boards();
    let uids: BTreeSet<_> = boards.iter().map(|board| text(&board["uid"])).collect();
    assert_eq!(
        uids.into_iter().collect::<Vec<_>>(),
        [
            "tallyhook-completeness",
            "tallyhook-flow",
            "tallyhook-operations",
            "tallyhook-waiting"
        ]
    );
    for board in &boards {
        assert_eq!(breaches(board), Vec::<String>::new(), "{}", board["title"]);
    }
    // Every rule finds its breach.
    let sql =
        |sql: &str| json!([{"rawSql": sql, "datasource": boards[1]["panels"][0]["datasource"]}]);
    for (pointer, value) in [
        ("/id", json!(7)),
        ("/refresh", json!("5s")),
        ("/panels/0/description", json!("")),
        ("/panels/0/fieldConfig/defaults/unit", json!("")),
        ("/panels/0/targets", json!([])),
        ("/panels/0/datasource/uid", json!("P1234")),
        ("/panels/0/datasource/type", json!("mysql")),
        ("/panels/1/id", json!(1)),
        ("/panels/0/targets", sql("SELECT coalesce(pickup_hours, 0)")),
        ("/panels/0/targets", sql("SELECT avg(p50) FROM weeks")),
        (
            "/panels/0/targets",
            sql("SELECT 1 WHERE repo = $repository"),
        ),
    ] {
        let mut broken = boards[1].clone();
        broken["id"] = Value::Null;
        *broken.pointer_mut(pointer).unwrap() = value;
        assert_eq!(
            breaches(&broken).len(),
            1,
            "{pointer}: {:?}",
            breaches(&broken)
        );
    }
}

/// Returns the targets of all links of a board, or of any part of it.
fn urls(part: &Value) -> Vec<String> {
    match part {
        Value::Array(parts) => parts.iter().flat_map(urls).collect(),
        Value::Object(parts) => parts
            .iter()
            .flat_map(|(name, part)| match part {
                Value::String(url) if name == "url" => vec![url.clone()],
                part => urls(part),
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn links_lead_to_pages_with_parameters_that_those_have() {
    let (_, _, prs) = operations()
        .find(|(method, path, _)| method == "GET" && *path == "/api/prs")
        .unwrap();
    let (_, _, deliveries) = operations()
        .find(|(method, path, _)| method == "GET" && *path == "/api/deliveries")
        .unwrap();
    let mut checked = BTreeSet::new();
    for board in boards() {
        for url in urls(&board) {
            let path = url
                .strip_prefix("${tallyhook}")
                .unwrap_or_else(|| panic!("{url}"));
            // A repository has two parts, any other value one.
            let path = path.replace("${__data.fields.repo:raw}", "acme/web");
            let (path, query) = path.split_once('?').unwrap_or((&path, ""));
            let parts: Vec<_> = path.split('/').collect();
            let is_page = |pattern: &str| {
                let pattern: Vec<_> = pattern.split('/').collect();
                let mut pairs = pattern.iter().zip(&parts);
                pattern.len() == parts.len()
                    && pairs.all(|(known, part)| known == part || known.starts_with('{'))
            };
            assert!(
                page_calls().iter().any(|call| is_page(call.path)),
                "{}: there is no page {path}",
                board["title"]
            );
            for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
                let call = if path == "/prs" { prs } else { deliveries };
                let name = parameter.split('=').next().unwrap();
                let is_known = list(&call["parameters"]).any(|known| known["name"] == name);
                assert!(is_known, "{path} has no parameter {name}");
            }
            checked.insert(path.to_owned());
        }
    }
    assert!(checked.len() >= 8, "{checked:?}");
}

#[test]
fn queries_of_prometheus_are_valid_and_name_metrics_that_exist() {
    let mut rules = Vec::new();
    for board in boards() {
        for panel in panels(&board) {
            for target in list(&panel["targets"]).filter(|target| target["expr"].is_string()) {
                let expression = text(&target["expr"]).replace("$__rate_interval", "5m");
                assert_eq!(
                    unknown_metrics(&expression),
                    Vec::<String>::new(),
                    "{}",
                    panel["title"]
                );
                let name = format!("board:panel_{}:{}", rules.len(), text(&target["refId"]));
                rules.push(json!({"record": name, "expr": expression}));
            }
        }
    }
    assert!(rules.len() > 25, "{}", rules.len());
    let folder = tempfile::tempdir().unwrap();
    let file = json!({"groups": [{"name": "boards", "rules": rules}]});
    fs::write(folder.path().join("rules.json"), file.to_string()).unwrap();
    promtool(folder.path(), &["check", "rules", "rules.json"]);
}

/// The reader of the report views in one database, gone at the end of the test. Roles are those of
/// the whole server, so that each test has one of its own name.
struct ReportReader {
    name: String,
    database_url: String,
    url: String,
}

impl ReportReader {
    /// Makes it as docs/guides/sql-and-csv.md says.
    fn new(place: &Place) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("tallyhook_reader_{}_{made}", std::process::id());
        let (scheme, rest) = place.database_url.split_once("://").unwrap();
        let (_, server) = rest.rsplit_once('@').unwrap();
        let reader = Self {
            url: format!("{scheme}://{name}:a-password@{server}"),
            name,
            database_url: place.database_url.clone(),
        };
        // The second time changes nothing.
        for _ in 0..2 {
            let set = format!("--set=reader={}", reader.name);
            reader.psql(&[&set, "--file=deploy/reader.sql"]);
        }
        reader
    }

    fn psql(&self, arguments: &[&str]) {
        let output = Command::new("psql")
            .args(["--no-psqlrc", "--quiet", &self.database_url])
            .args(arguments)
            .current_dir(root())
            .env("READER_PASSWORD", "a-password")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}");
    }

    async fn refusal(&self, sql: &str) -> String {
        use sqlx::Connection;
        let mut connection = sqlx_postgres::PgConnection::connect(&self.url)
            .await
            .unwrap();
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection)
            .await;
        connection.close().await.unwrap();
        refused
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }
}

impl Drop for ReportReader {
    fn drop(&mut self) {
        let name = &self.name;
        let drop = format!("DROP OWNED BY {name}; DROP ROLE {name}");
        self.psql(&["--command", &drop]);
    }
}

/// Returns a server on PostgreSQL with the fixtures, and with backfills that ended.
async fn with_fixtures() -> TestServer {
    let place = Place::on_postgres();
    let mut server = TestServer::start_in(place, ServerOptions::default()).await;
    for fixture in testkit::fixtures() {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server.drained().await;
    let backfills = "INSERT INTO sync_runs (repo_id, state, options, prs_done, errors, error, asked_at, started_at, \
         finished_at) SELECT id, state, '{}', 50, '[{\"pr\": 3, \"error\": \"gone\"}]', error, at, at, \
         at + interval '30 seconds' FROM repositories, (VALUES ('done', NULL), ('failed', 'no access')) \
         AS run (state, error), (VALUES ('2026-03-09T09:00:00Z'::timestamptz)) AS ended (at)";
    server.place.execute(backfills).await;
    // Known in part: of a delivery that came first, no fixture tells.
    let part = "UPDATE pull_requests SET flags = flags || '{truncated}'::text[] WHERE number = 101";
    server.place.execute(part).await;
    server
}

/// Returns a query as Grafana sends it, for March 2026.
fn expanded(sql: &str, authors: &str, bucket: &str) -> String {
    let mut expanded = sql
        .replace("${authors:sqlstring}", authors)
        .replace(
            "${repo:sqlstring}",
            "SELECT repo FROM tallyhook_report.repositories",
        )
        .replace("${bucket:raw}", bucket);
    while let Some((before, rest)) = expanded.split_once("$__timeFilter(") {
        let (column, after) = rest.split_once(')').unwrap();
        expanded = format!(
            "{before}{column} BETWEEN '2026-03-01T00:00:00Z' AND '2026-03-31T23:59:59Z'{after}"
        );
    }
    assert!(!expanded.contains('$'), "{expanded}");
    expanded
}

/// The query of a panel of a board.
fn query(board: &str, panel: &str) -> String {
    let boards = boards();
    let board = boards.iter().find(|known| known["uid"] == board).unwrap();
    let panel = panels(board).find(|known| known["title"] == panel).unwrap();
    text(&panel["targets"][0]["rawSql"]).to_owned()
}

#[tokio::test]
async fn reader_sees_the_views_and_nothing_else() {
    let server = with_fixtures().await;
    let reader = ReportReader::new(&server.place);
    let views = "SELECT table_name AS name FROM information_schema.tables \
                 WHERE table_schema = 'tallyhook_report' ORDER BY table_name";
    let views = report_rows(&reader.url, views).await;
    assert!(views.len() >= 10, "{views:?}");
    for view in &views {
        let sql = format!(
            "SELECT * FROM tallyhook_report.{} LIMIT 3",
            text(&view["name"])
        );
        let rows = report_rows(&reader.url, &sql).await;
        assert!(!rows.is_empty(), "{sql}");
    }
    let tables = "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'";
    let tables = report_rows(&reader.url, tables).await;
    assert!(tables.len() > 20, "{tables:?}");
    for table in &tables {
        let refused = reader
            .refusal(&format!("SELECT * FROM {}", text(&table["name"])))
            .await;
        assert!(refused.contains("permission denied"), "{table}: {refused}");
    }
    for sql in [
        "CREATE TABLE tallyhook_report.mine (id integer)",
        "DELETE FROM tallyhook_report.about",
        // Reading only is a habit that a session may leave.
        "SET default_transaction_read_only = off; CREATE VIEW tallyhook_report.mine AS SELECT 1",
        "SET default_transaction_read_only = off; CREATE TABLE public.mine (id integer)",
        "SET default_transaction_read_only = off; DELETE FROM tallyhook_report.backfills",
    ] {
        let refused = reader.refusal(sql).await;
        let is_refused = ["permission denied", "read-only", "cannot delete"]
            .iter()
            .any(|words| refused.contains(words));
        assert!(is_refused, "{sql}: {refused}");
    }
    drop(reader);
    server.stop().await;
}

#[tokio::test]
async fn every_query_of_sql_gives_rows_to_the_reader() {
    let server = with_fixtures().await;
    let reader = ReportReader::new(&server.place);
    let mut run = 0;
    for board in boards() {
        for panel in panels(&board) {
            for target in list(&panel["targets"]).filter(|target| target["rawSql"].is_string()) {
                for bucket in ["day", "week", "month"] {
                    let sql = expanded(text(&target["rawSql"]), "'human', 'automation'", bucket);
                    assert_eq!(reader.refusal(&format!("EXPLAIN {sql}")).await, "", "{sql}");
                    let rows = report_rows(&reader.url, &sql).await;
                    let has_values = rows.iter().any(|row| {
                        let mut values = row.as_object().unwrap().values();
                        values.any(|value| !value.is_null())
                    });
                    assert!(
                        has_values,
                        "{} {}: {rows:?}",
                        board["title"], panel["title"]
                    );
                    if target["format"] == "time_series" {
                        let time = text(&rows[0]["time"]);
                        assert!(
                            time.ends_with("T00:00:00+00:00"),
                            "{}: {time}",
                            panel["title"]
                        );
                    }
                    run += 1;
                }
            }
        }
    }
    assert!(run > 60, "only {run} queries");
    drop(reader);
    server.stop().await;
}

/// Numbers to six decimals, as the API has them.
fn rounded(value: &Value) -> Value {
    match value.as_f64() {
        Some(number) => json!((number * 1e6).round() / 1e6),
        None => value.clone(),
    }
}

#[tokio::test]
async fn numbers_of_boards_are_those_of_the_api() {
    let server = with_fixtures().await;
    let reader = ReportReader::new(&server.place);
    let path = "/api/metrics/cycle-time?from=2026-03-01&to=2026-04-01&bucket=week";
    let (_, answer) = server.get(path).await;
    let all = &answer["all"];
    let ask = async |board: &str, panel: &str| {
        report_rows(
            &reader.url,
            &expanded(&query(board, panel), "'human'", "week"),
        )
        .await
    };

    let merged = ask("tallyhook-flow", "Merged").await;
    assert_eq!(merged[0]["merged"], all["counted"]);
    let stages = &all["stages"];
    let durations = ask("tallyhook-flow", "Durations").await;
    for (row, summary) in durations.iter().zip([
        all,
        &all["review_time"],
        &stages["coding"],
        &stages["pickup"],
        &stages["review"],
        &stages["merge_wait"],
        &stages["redraft"],
        &stages["closed"],
    ]) {
        for (column, field) in [
            ("n", "n"),
            ("missing", "missing"),
            ("p50", "p50_hours"),
            ("p75", "p75_hours"),
            ("p90", "p90_hours"),
            ("mean", "mean_hours"),
            ("total", "total_hours"),
        ] {
            assert_eq!(
                rounded(&row[column]),
                rounded(&summary[field]),
                "{row}: {column}"
            );
        }
    }
    assert_eq!(durations.len(), 8);

    let buckets: BTreeMap<_, _> = list(&answer["buckets"])
        .map(|bucket| (text(&bucket["start"])[..10].to_owned(), bucket))
        .collect();
    let went = ask("tallyhook-flow", "Where the time went").await;
    assert!(went.len() > 8, "{went:?}");
    for row in &went {
        let bucket = buckets[&text(&row["time"])[..10]];
        let total = bucket["stages"][text(&row["metric"])]["total_hours"]
            .as_f64()
            .unwrap();
        let each = total / bucket["counted"].as_f64().unwrap();
        assert_eq!(rounded(&row["hours"]), rounded(&json!(each)), "{row}");
    }
    let shares = ask("tallyhook-flow", "Shares").await;
    let without: f64 = shares
        .iter()
        .map(|row| {
            let bucket = buckets[&text(&row["time"])[..10]];
            row["without review"].as_f64().unwrap() * bucket["counted"].as_f64().unwrap()
        })
        .sum();
    assert_eq!(
        rounded(&json!(without)),
        rounded(&all["flags"]["merged_without_review"])
    );

    let (_, waiting) = server.get("/api/waiting?authors=human").await;
    let groups: BTreeMap<_, _> = list(&waiting["groups"])
        .map(|group| {
            let counts = ["n", "under_1d", "under_3d", "under_7d", "over_7d"];
            (
                (text(&group["for"]), text(&group["reason"])),
                counts.map(|name| group[name].clone()),
            )
        })
        .collect();
    let rows = ask("tallyhook-waiting", "What they wait for").await;
    let found: BTreeMap<_, _> = rows
        .iter()
        .map(|row| {
            let counts = ["n", "under 1 d", "1 to 3 d", "3 to 7 d", "over 7 d"];
            (
                (text(&row["waiting_for"]), text(&row["reason"])),
                counts.map(|name| row[name].clone()),
            )
        })
        .collect();
    assert_eq!(found, groups);
    assert!(found.len() > 3, "{found:?}");
    let open = ask("tallyhook-waiting", "Open").await;
    assert_eq!(open[0]["open"], waiting["open"]);
    drop(reader);
    server.stop().await;
}
