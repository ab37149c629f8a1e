//! The speed of reading a million pull requests from PostgreSQL, on this machine:
//! `cargo run --release --example read -- --server postgres://USER:PASSWORD@HOST/postgres`;
//! with `--sqlite FILE`, instead or besides, that of lists of what waits from a SQLite file.
//!
//! Makes a database on that server, fills it, asks the store what the API would ask it, and prints
//! medians beside a baseline of the same run: the time in which the server counts the rows of the
//! table, and nothing else.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use sqlx_postgres::{PgConnectOptions, PgConnection};
use tallyhook_core::domain::business_time::DurationClock;
use tallyhook_core::domain::metrics::{CalendarBucket, DurationName};
use tallyhook_core::domain::waiting::WaitingFor;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_store::{
    AggregateFilter, DEFAULT_TEAM, DetailFilter, LOOKED_AT, ListOrder, ListPlace, OpenMode,
    PartyName, PullRequestFilter, SortKey, StateFilter, Store, WaitingFilter,
};
use testkit::Million;

const NAME: &str = "tallyhook_read_example";
/// The API's usual page, and one more.
const PAGE: u32 = 31;

#[derive(Parser)]
#[command(about = "Measures reading from a million pull requests, beside a baseline")]
struct Arguments {
    /// A PostgreSQL server on which databases may be made.
    #[arg(long, required_unless_present = "sqlite")]
    server: Option<String>,
    /// A SQLite file, which is made and filled if it is not there, and kept.
    #[arg(long)]
    sqlite: Option<PathBuf>,
    /// Number of repetitions of every request.
    #[arg(long, default_value_t = 15)]
    times: usize,
    /// Keeps the database, and uses the one that an earlier run kept.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(file) = &arguments.sqlite {
        measure_sqlite(file, arguments.times).await?;
    }
    match &arguments.server {
        Some(server) => measure_postgres(server, &arguments).await,
        None => Ok(()),
    }
}

async fn measure_postgres(server: &str, arguments: &Arguments) -> anyhow::Result<()> {
    let options: PgConnectOptions = server.parse().context("--server is no URL of PostgreSQL")?;
    let url = options.clone().database(NAME).to_url_lossy().to_string();
    let mut server = PgConnection::connect_with(&options).await?;
    let there = sqlx::query("SELECT FROM pg_database WHERE datname = $1")
        .bind(NAME)
        .fetch_optional(&mut server)
        .await?;
    if there.is_none() {
        run(
            &mut server,
            &format!("CREATE DATABASE {NAME} ENCODING 'UTF8' TEMPLATE template0"),
        )
        .await?;
        fill(&url).await?;
    }
    let store = tallyhook_store::open(&url, OpenMode::Shared).await?;
    let mut baseline = PgConnection::connect(&url).await?;
    measure(&store, &mut baseline, arguments.times).await?;
    measure_waiting(&store, arguments.times).await?;
    store.close().await;
    baseline.close().await?;
    if !arguments.keep {
        run(&mut server, &format!("DROP DATABASE {NAME} WITH (FORCE)")).await?;
    }
    Ok(())
}

async fn run(connection: &mut PgConnection, sql: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await?;
    Ok(())
}

async fn fill(url: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    tallyhook_store::open(url, OpenMode::Exclusive)
        .await?
        .close()
        .await;
    Million::DEFAULT.fill(url).await?;
    eprintln!("filled in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what it is for")]
async fn measure(store: &Store, baseline: &mut PgConnection, times: usize) -> anyhow::Result<()> {
    let mut counting = Vec::new();
    for _ in 0..times {
        let started = Instant::now();
        sqlx::query("SELECT count(*) FROM pull_requests")
            .execute(&mut *baseline)
            .await?;
        counting.push(started.elapsed());
    }
    let counting = median(&mut counting);
    println!("| asked for | median | slowest | of the baseline |\n|---|---|---|---|");
    let print = |what: &str, mut took: Vec<Duration>| {
        let (median, slowest) = (median(&mut took), took.last().copied().unwrap_or_default());
        let ratio = median.as_secs_f64() / counting.as_secs_f64();
        println!(
            "| {what} | {:.1} ms | {:.1} ms | {ratio:.2} |",
            millis(median),
            millis(slowest)
        );
    };
    print(
        "baseline: `SELECT count(*) FROM pull_requests`",
        vec![counting],
    );
    for (what, filter) in aggregates() {
        let mut took = Vec::new();
        for _ in 0..times {
            let started = Instant::now();
            store.of_team(DEFAULT_TEAM.0).aggregates(&filter).await?;
            took.push(started.elapsed());
        }
        print(what, took);
    }
    for (what, filter) in lists() {
        let mut took = Vec::new();
        for _ in 0..times {
            let started = Instant::now();
            store
                .of_team(DEFAULT_TEAM.0)
                .pull_requests(&filter, PAGE)
                .await?;
            took.push(started.elapsed());
        }
        print(what, took);
    }
    Ok(())
}

async fn measure_sqlite(file: &Path, times: usize) -> anyhow::Result<()> {
    let is_new = !file.exists();
    let url = format!("sqlite://{}", file.display());
    let store = tallyhook_store::open(&url, OpenMode::Exclusive).await?;
    if is_new {
        let started = Instant::now();
        Million::DEFAULT.fill(&url).await?;
        eprintln!("filled in {:.0} s", started.elapsed().as_secs_f64());
    }
    measure_waiting(&store, times).await?;
    store.close().await;
    Ok(())
}

/// Prints how long totals and lists of what waits take, at 20,000 open pull requests.
#[allow(clippy::print_stdout, reason = "the table is what it is for")]
async fn measure_waiting(store: &Store, times: usize) -> anyhow::Result<()> {
    let now = Timestamp::parse("2026-03-16T09:00:00Z").context("a time")?;
    println!("| waiting | median | 95 % | slowest |\n|---|---|---|---|");
    let print = |what: &str, mut took: Vec<Duration>| {
        let median = millis(median(&mut took));
        let p95 = millis(took[(took.len() * 95).div_ceil(100) - 1]);
        let slowest = millis(took.last().copied().unwrap_or_default());
        println!("| {what} | {median:.1} ms | {p95:.1} ms | {slowest:.1} ms |");
    };
    let all = WaitingFilter::default();
    for (what, filter) in [
        ("totals", all.clone()),
        (
            "totals of one repository",
            WaitingFilter {
                repo: Some(RepoId(3)),
                ..all.clone()
            },
        ),
        (
            "totals with people",
            WaitingFilter {
                people: true,
                ..all
            },
        ),
    ] {
        let mut took = Vec::new();
        for _ in 0..times {
            let started = Instant::now();
            store.waiting_totals(&filter, now).await?;
            took.push(started.elapsed());
        }
        print(what, took);
    }
    for (what, filter) in waiting_lists() {
        let mut took = Vec::new();
        for _ in 0..times {
            let started = Instant::now();
            let until = store
                .of_team(DEFAULT_TEAM.0)
                .end_of_look(&filter, LOOKED_AT)
                .await?;
            let filter = PullRequestFilter {
                until,
                ..filter.clone()
            };
            store
                .of_team(DEFAULT_TEAM.0)
                .pull_requests(&filter, PAGE)
                .await?;
            took.push(started.elapsed());
        }
        print(what, took);
    }
    Ok(())
}

fn waiting_lists() -> Vec<(&'static str, PullRequestFilter)> {
    let all = PullRequestFilter::default();
    let sorted = |key| PullRequestFilter {
        order: ListOrder {
            key,
            ascending: false,
        },
        ..all.clone()
    };
    let text = |text: &str| DetailFilter {
        text: Some(text.to_owned()),
        ..DetailFilter::default()
    };
    vec![
        ("list by waiting", sorted(SortKey::Waiting)),
        (
            "of one kind",
            PullRequestFilter {
                waiting_for: Some(WaitingFor::Ci),
                ..sorted(SortKey::Waiting)
            },
        ),
        (
            "on one team",
            PullRequestFilter {
                waiting_on: Some(PartyName::Team("team-3".to_owned())),
                ..sorted(SortKey::Waiting)
            },
        ),
        ("list by merge", sorted(SortKey::Merged)),
        (
            "400 days by pickup",
            PullRequestFilter {
                merged_from: Timestamp::parse("2025-01-01T00:00:00Z"),
                merged_to: Timestamp::parse("2026-02-05T00:00:00Z"),
                ..sorted(SortKey::Duration(
                    DurationName::Pickup,
                    DurationClock::Calendar,
                ))
            },
        ),
        (
            "a text that nothing has",
            PullRequestFilter {
                details: text("no such title"),
                ..all.clone()
            },
        ),
    ]
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(durations: &mut [Duration]) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}

fn aggregates() -> Vec<(&'static str, AggregateFilter)> {
    let all = AggregateFilter::default();
    let month = AggregateFilter {
        from: Timestamp::parse("2025-01-01T00:00:00Z"),
        to: Timestamp::parse("2025-01-31T00:00:00Z"),
        ..all.clone()
    };
    vec![
        ("aggregates of 30 days", month.clone()),
        (
            "the same by day",
            AggregateFilter {
                bucket: Some(CalendarBucket::Day),
                ..month.clone()
            },
        ),
        (
            "aggregates of 30 days of one repository",
            AggregateFilter {
                repo: Some(RepoId(3)),
                ..month.clone()
            },
        ),
        ("aggregates of all 850,000 that were merged", all.clone()),
        (
            "the same by day",
            AggregateFilter {
                bucket: Some(CalendarBucket::Day),
                ..all.clone()
            },
        ),
        (
            "the same by month",
            AggregateFilter {
                bucket: Some(CalendarBucket::Month),
                ..all.clone()
            },
        ),
        (
            "aggregates of all of the largest repository",
            AggregateFilter {
                repo: Some(RepoId(3)),
                ..all.clone()
            },
        ),
    ]
}

fn lists() -> Vec<(&'static str, PullRequestFilter)> {
    let all = PullRequestFilter::default();
    let after = |at: &str| {
        let at = Timestamp::parse(at)?;
        Some(ListPlace {
            value: at.epoch(),
            key: PrKey {
                repo: RepoId(100),
                number: PrNumber(0),
            },
        })
    };
    let (middle, last) = (after("2024-08-28T00:00:00Z"), after("2023-03-01T02:00:00Z"));
    let (author, dormant) = (Some("account-6".to_owned()), Some(RepoId(2)));
    vec![
        ("first page", all.clone()),
        (
            "page in the middle",
            PullRequestFilter {
                after: middle,
                ..all.clone()
            },
        ),
        (
            "last page",
            PullRequestFilter {
                after: last,
                ..all.clone()
            },
        ),
        (
            "open ones",
            PullRequestFilter {
                states: vec![StateFilter::Open],
                ..all.clone()
            },
        ),
        (
            "closed ones, middle",
            PullRequestFilter {
                states: vec![StateFilter::Closed],
                after: middle,
                ..all.clone()
            },
        ),
        (
            "of an author",
            PullRequestFilter {
                author: author.clone(),
                ..all.clone()
            },
        ),
        (
            "of an author, middle",
            PullRequestFilter {
                author: author.clone(),
                after: middle,
                ..all.clone()
            },
        ),
        (
            "of a repository at rest for years",
            PullRequestFilter {
                repo: dormant,
                ..all.clone()
            },
        ),
        (
            "of that and an author, merged",
            PullRequestFilter {
                states: vec![StateFilter::Merged],
                repo: dormant,
                author,
                ..all
            },
        ),
    ]
}
