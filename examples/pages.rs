//! The speed of the dashboard's pages over a million pull requests, on this machine:
//! `cargo run --release --example pages -- --sqlite FILE`, with `--server
//! postgres://USER:PASSWORD@HOST/postgres` instead or besides.
//!
//! Makes and fills a database, serves it in this process, asks for every page as a signed-in
//! browser does, round by round, and prints JSON: 50 % and 95 % of the times of each page beside its
//! budget, and the slowest page by name. A page of one thing, such as `/repos/{owner}/{repo}`, is that of the
//! first thing that the API lists; where there is none, the page is named as not measured.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use actix_web::http::Method;
use anyhow::Context;
use chrono::Utc;
use clap::Parser;
use reqwest::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use reqwest::redirect;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use sqlx_postgres::{PgConnectOptions, PgConnection};
use tallyhook::app::{RoleSet, RunningServer, ServerOptions};
use tallyhook::dashboard::page_calls;
use testkit::{Million, Place, TOKEN};

const NAME: &str = "tallyhook_pages_example";
/// Answers of totals are shared for so long; a round that takes no less is not answered from memory.
const SHARED: Duration = Duration::from_millis(1100);
/// The page that shows what the overview does, read at the end of a round for that reason.
const WALL: &str = "/wall";
/// The most milliseconds of a page, 95 of 100 times, by path and query.
const BUDGETS: [(&str, u32); 8] = [
    ("/", 300),
    ("/prs", 50),
    ("/prs?state=open", 50),
    ("/repos/{owner}/{repo}/prs/{number}", 50),
    ("/deliveries", 50),
    ("/deliveries/{id}", 50),
    ("/flow?from=84d", 500),
    ("/flow?from=2000-01-01&bucket=month", 3_500),
];
/// The same for a page that another request has just had, and its name in the result.
const SHARED_BUDGET: (&str, u32) = ("/", 20);
const SHARED_NAME: &str = "/ (shared)";

#[derive(Parser)]
#[command(about = "Measures the pages of the dashboard over a million pull requests")]
struct Arguments {
    /// A SQLite file, which is made and filled if it is not there, and kept.
    #[arg(long, required_unless_present = "server")]
    sqlite: Option<PathBuf>,
    /// A PostgreSQL server on which databases may be made.
    #[arg(long)]
    server: Option<String>,
    /// Number of pull requests in a new database.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
    /// Number of rounds: of requests of each page.
    #[arg(long, default_value_t = 20)]
    times: usize,
    /// Keeps the database on the server, and uses the one that an earlier run kept.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "the numbers are what it is for")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut measured = Vec::new();
    if let Some(file) = &arguments.sqlite {
        let is_new = !file.exists();
        let url = format!("sqlite://{}", file.display());
        measured.push(measure("SQLite", &url, is_new, &arguments).await?);
    }
    if let Some(server) = &arguments.server {
        measured.push(on_server(server, &arguments).await?);
    }
    println!("{}", serde_json::to_string_pretty(&measured)?);
    Ok(())
}

async fn on_server(server: &str, arguments: &Arguments) -> anyhow::Result<Value> {
    let options: PgConnectOptions = server.parse().context("--server is no URL of PostgreSQL")?;
    let url = options.clone().database(NAME).to_url_lossy().to_string();
    let mut server = PgConnection::connect_with(&options).await?;
    let found = sqlx::query("SELECT FROM pg_database WHERE datname = $1")
        .bind(NAME)
        .fetch_optional(&mut server)
        .await?;
    if found.is_none() {
        let create = format!("CREATE DATABASE {NAME} ENCODING 'UTF8' TEMPLATE template0");
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut server)
            .await?;
    }
    let measured = measure("PostgreSQL", &url, found.is_none(), arguments).await?;
    if !arguments.keep {
        let drop = format!("DROP DATABASE {NAME} WITH (FORCE)");
        sqlx::raw_sql(AssertSqlSafe(drop))
            .execute(&mut server)
            .await?;
    }
    Ok(measured)
}

/// Starts a process that answers the API and the dashboard, and nothing else.
async fn serve(url: &str) -> anyhow::Result<RunningServer> {
    let mut config = testkit::config(&Place::embedded());
    url.clone_into(&mut config.database_url);
    config.default_repository = None;
    let options = ServerOptions {
        roles: RoleSet {
            api: true,
            ..RoleSet::NONE
        },
        ..ServerOptions::default()
    };
    RunningServer::start(&config, options).await
}

async fn measure(
    kind: &str,
    url: &str,
    is_new: bool,
    arguments: &Arguments,
) -> anyhow::Result<Value> {
    if is_new {
        // The first start migrates it.
        serve(url).await?.stop().await;
        let started = Instant::now();
        let million = Million::until(arguments.rows, Utc::now().timestamp());
        million.fill(url).await?;
        eprintln!("{kind}: filled in {:.0} s", started.elapsed().as_secs_f64());
    }
    let running = serve(url).await?;
    let reader = PageReader::sign_in(format!("http://{}", running.address)).await?;
    let mut timed = Vec::new();
    let mut not_measured = Vec::new();
    for (path, address) in reader.addresses().await? {
        match address {
            Some(address) => timed.push(TimedPage::new(path, address)),
            None => not_measured.push(path),
        }
    }
    timed.sort_by_key(|page| page.path == WALL);
    let shared = timed.iter().position(|page| page.path == SHARED_BUDGET.0);
    let shared = shared.context("no overview")? + 1;
    timed.insert(
        shared,
        TimedPage::new(SHARED_NAME.to_owned(), SHARED_BUDGET.0.to_owned()),
    );
    for _ in 0..arguments.times.max(1) {
        let next = tokio::time::Instant::now() + SHARED;
        for page in &mut timed {
            page.read(&reader).await?;
        }
        tokio::time::sleep_until(next).await;
    }
    let pages: Vec<_> = timed.into_iter().map(TimedPage::summary).collect();
    running.stop().await;
    let slowest = pages.iter().max_by(|one, two| {
        let time = |page: &Value| page["p95_ms"].as_f64().unwrap_or_default();
        time(one).total_cmp(&time(two))
    });
    Ok(json!({
        "database": kind,
        "rows": arguments.rows,
        "slowest": slowest.map(|page| &page["page"]),
        "over_budget": pages.iter().filter(|page| page["within_budget"] == false)
            .map(|page| &page["page"]).collect::<Vec<_>>(),
        "not_measured": not_measured,
        "pages": pages,
    }))
}

/// A signed-in browser.
struct PageReader {
    http: reqwest::Client,
    url: String,
    cookie: String,
}

impl PageReader {
    async fn sign_in(url: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .build()?;
        let login = http
            .post(format!("{url}/login"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("token={TOKEN}"))
            .send()
            .await?;
        let set = login
            .headers()
            .get(SET_COOKIE)
            .context("no cookie")?
            .to_str()?;
        let cookie = set.split(';').next().context("no cookie")?.to_owned();
        Ok(Self { http, url, cookie })
    }

    /// Gets an address, and returns the time to the last byte, the status and the number of bytes.
    async fn get(&self, address: &str) -> anyhow::Result<(Duration, u16, usize)> {
        let started = Instant::now();
        let request = self.http.get(format!("{}{address}", self.url));
        let answer = request.header(COOKIE, &self.cookie).send().await?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await?.len();
        Ok((started.elapsed(), status, bytes))
    }

    /// Returns the first item that a call of the API lists, or null.
    async fn first(&self, list: &str) -> anyhow::Result<Value> {
        let request = self.http.get(format!("{}{list}", self.url));
        let answer = request.header(COOKIE, &self.cookie).send().await?;
        let mut answer: Value = answer.error_for_status()?.json().await?;
        Ok(answer
            .pointer_mut("/items/0")
            .map(Value::take)
            .unwrap_or_default())
    }

    /// Returns every page's path with an address of it, and further addresses that have a budget.
    async fn addresses(&self) -> anyhow::Result<Vec<(String, Option<String>)>> {
        let pull_request = self.first("/api/prs?state=merged&per_page=1").await?;
        let repo = pull_request["repo"].as_str().context("no pull request")?;
        let (owner, name) = repo.split_once('/').context("a name without an owner")?;
        let number = pull_request["number"].to_string();
        let of_things = [
            (
                "/deliveries/",
                self.first("/api/deliveries?per_page=1").await?["id"].take(),
            ),
            (
                "/dead-letters/",
                self.first("/api/dead-letters?per_page=1").await?["id"].take(),
            ),
            (
                "/tasks/",
                self.first("/api/tasks?per_page=1").await?["id"].take(),
            ),
            (
                "/sync-runs/",
                self.first("/api/sync-runs?per_page=1").await?["id"].take(),
            ),
        ];
        let address = |path: &str| {
            let address = path
                .replace("{owner}", owner)
                .replace("{repo}", name)
                .replace("{number}", &number);
            if !address.contains('{') {
                return Some(address);
            }
            let (_, id) = of_things
                .iter()
                .find(|(begin, _)| path.starts_with(begin))?;
            let id = id
                .as_str()
                .map(str::to_owned)
                .or_else(|| Some(id.as_i64()?.to_string()))?;
            let (before, rest) = address.split_once('{')?;
            let (_, after) = rest.split_once('}')?;
            Some(format!("{before}{id}{after}")).filter(|address| !address.contains('{'))
        };
        let calls = page_calls()
            .into_iter()
            .filter(|call| call.method == Method::GET);
        let paths = calls.map(|call| call.path.to_owned());
        let known: Vec<_> = paths.collect();
        let budgeted = BUDGETS.iter().map(|(path, _)| *path);
        let more = budgeted
            .filter(|path| path.contains('?'))
            .map(str::to_owned);
        Ok(known
            .iter()
            .cloned()
            .chain(more)
            .map(|path| {
                let address = address(&path);
                (path, address)
            })
            .collect())
    }
}

/// An address with the times that its answers took.
struct TimedPage {
    path: String,
    address: String,
    took_ms: Vec<f64>,
    status: u16,
    bytes: usize,
}

impl TimedPage {
    fn new(path: String, address: String) -> Self {
        Self {
            path,
            address,
            took_ms: Vec::new(),
            status: 0,
            bytes: 0,
        }
    }

    async fn read(&mut self, reader: &PageReader) -> anyhow::Result<()> {
        let (took, status, bytes) = reader.get(&self.address).await?;
        (self.status, self.bytes) = (status, bytes);
        self.took_ms.push(took.as_secs_f64() * 1000.0);
        Ok(())
    }

    fn budget(&self) -> Option<u32> {
        if self.path == SHARED_NAME {
            return Some(SHARED_BUDGET.1);
        }
        let found = BUDGETS.iter().find(|(path, _)| *path == self.path);
        found.map(|(_, most)| *most)
    }

    fn summary(mut self) -> Value {
        self.took_ms.sort_unstable_by(f64::total_cmp);
        let of_100 = |share: usize| self.took_ms[(self.took_ms.len() * share).div_ceil(100) - 1];
        let (p50, p95, budget) = (of_100(50), of_100(95), self.budget());
        json!({
            "page": self.path,
            "address": self.address,
            "status": self.status,
            "bytes": self.bytes,
            "p50_ms": p50,
            "p95_ms": p95,
            "longest_ms": of_100(100),
            "budget_ms": budget,
            "within_budget": budget.map(|most| self.status == 200 && p95 <= f64::from(most)),
        })
    }
}
