//! The inventory of tables: to whom the rows of each belong, and that statements say so.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tallyhook_store::OpenMode;
use testkit::database::Database;
use testkit::{on_every_database, root};

on_every_database! {
    every_table_belongs_to_somebody,
}

/// Facts are stored once; a team sees those of its repositories, through `team_repositories`.
const FACTS: &[&str] = &[
    "checks",
    "commits",
    "installations",
    // Keys that pull requests name, be there such a task in a team or not.
    "mentions",
    "pull_requests",
    "repositories",
    "review_pairs",
    "reviews",
    "sync_runs",
    "team_repositories",
    "timeline_segments",
    "waiting_parties",
];

/// Rows of one team: `team_id` is in every unique key and every WHERE.
const OF_TEAMS: &[&str] = &[
    "api_tokens",
    "channels",
    "github_connections",
    "invitations",
    "monitors",
    "notifications",
    "task_history",
    "task_links",
    "tasks",
    "team_installations",
    "team_members",
    "team_rules",
    "ws_tickets",
];

/// Rows of a team, and rows without one that are facts or the installation's.
const OF_TEAMS_AND_ALL: &[&str] = &["audit_events", "changes", "github_calls", "outbox"];

/// The installation's, for its operator.
const OF_THE_INSTALLATION: &[&str] = &[
    "_sqlx_migrations",
    "account_logins",
    "deliveries",
    "delivery_bodies",
    "github_apps",
    // Of a browser, which alone can take it.
    "github_flows",
    "github_host",
    "poller",
    "retention",
    "revocations",
    "teams",
];

/// Of persons, who may be in several teams.
const OF_PERSONS: &[&str] = &["github_credentials", "sessions", "sign_ins", "users"];

/// Statements that look rows of a team up without the team, and why they may.
const WITHOUT_TEAM: &[(&str, &str)] = &[
    (
        "notifications/sql.rs notification_query",
        "each of its users adds the team",
    ),
    (
        "sync/sql.rs watched",
        "the poller asks GitHub once for all teams that watch",
    ),
    ("sync/sql.rs record_watch_check", "and tells all of them"),
    ("sync/sql.rs end_watches", "and ends all their watches"),
    (
        "tasks/sql.rs due_tasks",
        "the leader follows the tasks of all teams",
    ),
    (
        "outbox/sql.rs purge_events",
        "old events go with all their notifications",
    ),
    (
        "audit/sql.rs token_name",
        "the row of an act names the token of its caller, by the digest",
    ),
    (
        "tokens/",
        "a token, session or ticket is looked up by its digest and names its team",
    ),
];

async fn every_table_belongs_to_somebody(database: Database) {
    let store = tallyhook_store::open(&database.url, OpenMode::Exclusive);
    store.await.unwrap().close().await;
    let mut homeless = Vec::new();
    for table in database.tables().await {
        let lists = [
            FACTS,
            OF_TEAMS,
            OF_TEAMS_AND_ALL,
            OF_THE_INSTALLATION,
            OF_PERSONS,
        ];
        let homes = lists
            .iter()
            .filter(|list| list.contains(&table.as_str()))
            .count();
        if homes != 1 {
            homeless.push(table);
        }
    }
    assert!(
        homeless.is_empty(),
        "in no list of this file, or in two: {homeless:?}"
    );
}

#[test]
fn statement_about_rows_of_a_team_names_the_team() {
    let folder = root().join("crates/tallyhook-store/src");
    let (mut breaches, mut statements) = (Vec::new(), 0);
    let mut used: BTreeMap<&str, usize> = WITHOUT_TEAM.iter().map(|(name, _)| (*name, 0)).collect();
    functions(&folder, &folder, &mut |file, name, text| {
        let named = OF_TEAMS.iter().filter(|table| is_named(text, table));
        let tables: Vec<_> = named.collect();
        if tables.is_empty() {
            return;
        }
        statements += 1;
        if text.contains("team_id") {
            return;
        }
        let place = format!("{file} {name}");
        match WITHOUT_TEAM
            .iter()
            .find(|(known, _)| place.starts_with(known))
        {
            Some((known, _)) => *used.get_mut(known).unwrap() += 1,
            None => breaches.push(format!("{place}: {tables:?} without team_id")),
        }
    });
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
    assert!(statements >= 40, "{statements}");
    let unused: Vec<_> = used.iter().filter(|(_, uses)| **uses == 0).collect();
    assert!(unused.is_empty(), "no such statement any more: {unused:?}");
}

/// Returns true if SQL reads or writes a table.
fn is_named(text: &str, table: &str) -> bool {
    ["FROM", "JOIN", "INTO", "UPDATE"].iter().any(|word| {
        let found = format!("{word} {table}");
        text.match_indices(&found).any(|(at, _)| {
            let next = text[at + found.len()..].chars().next();
            next.is_none_or(|next| !next.is_alphanumeric() && next != '_')
        })
    })
}

/// Passes every function below a folder, by file and name. Texts of SQL over several lines are one.
fn functions(folder: &Path, root: &Path, read: &mut impl FnMut(&str, &str, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, root, read);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let file = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let words: Vec<_> = code
            .split_whitespace()
            .filter(|word| *word != "\\")
            .collect();
        let joined = words.join(" ");
        for part in joined.split(" fn ").skip(1) {
            let name = part.split(['(', '<']).next().unwrap();
            read(&file, name, part);
        }
    }
}
