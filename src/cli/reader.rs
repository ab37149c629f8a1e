//! The data that reading commands show: from the database, or from another server's API.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use form_urlencoded::Serializer;
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tallyhook_core::github::types::PrNumber;
use tallyhook_store::{DEFAULT_TEAM, OpenMode};

use super::replay::is_loopback;
use super::{CommandFailure, CommandResult, SettingSources};
use crate::api::{
    ApiError, CycleTime, DeliveryItem, Page, PullRequestDetail, PullRequestItem, StoreReads,
    WaitingAnswer,
};
use crate::config::{Config, TALLYHOOK_TOKEN};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The most items of one page of the API.
pub(super) const MAX_PAGE: u32 = 100;

#[derive(Debug, Args)]
pub(super) struct ReadFromArgs {
    #[arg(
        long,
        value_name = "URL",
        help = "Read from this server instead of the database, such as https://tallyhook.example.com"
    )]
    url: Option<String>,
    #[arg(
        long,
        value_name = "TOKEN",
        requires = "url",
        help = "Token for --url; better in the environment, where other users do not see it [env: \
                TALLYHOOK_TOKEN]"
    )]
    token: Option<String>,
    #[arg(
        long,
        value_name = "TEAM",
        help = "Read as this team; from the database `default` if it is left out, from a server the \
                team of the token"
    )]
    as_team: Option<String>,
}

impl ReadFromArgs {
    /// Returns whether a database is read, without a token.
    pub(super) fn is_database(&self) -> bool {
        self.url.is_none()
    }

    pub(super) async fn open(self, sources: SettingSources) -> CommandResult<Reader> {
        let config = Config::new(&sources.with_flag(TALLYHOOK_TOKEN, self.token))?;
        let Some(url) = self.url else {
            let store = tallyhook_store::open(&config.database_url, OpenMode::Shared).await?;
            let (default, _) = DEFAULT_TEAM;
            let team = match &self.as_team {
                Some(name) => store.team_named(name).await?,
                None => Some(default),
            };
            let Some(team) = team else {
                store.close().await;
                let name = self.as_team.unwrap_or_default();
                return Err(failed(&format!("the database has no team `{name}`")));
            };
            return Ok(Reader::Store(Box::new(StoreReads {
                store: store.of_team(team),
                instance: store,
                rules: Arc::new(config.numbers),
                show_people: config.show_people,
                me: None,
            })));
        };
        let url = server_address(&url)?;
        let token = config.token.ok_or_else(|| {
            CommandFailure::Usage(format!(
                "there is no token for {url}: set {TALLYHOOK_TOKEN} to one of `tallyhook token \
                 create`"
            ))
        })?;
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT);
        let http = match is_loopback(&url) {
            true => http.no_proxy(),
            false => http,
        };
        Ok(Reader::Server(ServerReads {
            http: http.build().context("cannot make an HTTP client")?,
            url: url.as_str().trim_end_matches('/').to_owned(),
            token,
            team: self.as_team,
        }))
    }
}

fn server_address(text: &str) -> CommandResult<Url> {
    let url: Option<Url> = text.parse().ok();
    let is_address = |url: &Url| {
        let is_plain = url.username().is_empty() && url.password().is_none();
        is_plain && url.query().is_none() && ["http", "https"].contains(&url.scheme())
    };
    // The text may have a password in it.
    url.filter(is_address).ok_or_else(|| {
        let why = "--url is not the address of a server, expected one such as \
                   https://tallyhook.example.com";
        CommandFailure::Usage(why.to_owned())
    })
}

/// A source of reads. Both kinds take the parameters of the API and answer with its types.
pub(super) enum Reader {
    Store(Box<StoreReads>),
    Server(ServerReads),
}

pub(super) struct ServerReads {
    http: reqwest::Client,
    url: String,
    token: String,
    /// The team of the calls, where it is not that of the token.
    team: Option<String>,
}

/// The parameters of a call, without those that were not given.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadQuery(Vec<(&'static str, String)>);

impl ReadQuery {
    pub(super) fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.0.extend(value.map(|value| (name, value.to_string())));
        self
    }

    fn text(&self) -> String {
        let mut text = Serializer::new(String::new());
        for (name, value) in &self.0 {
            text.append_pair(name, value);
        }
        text.finish()
    }
}

impl Reader {
    /// Returns a page of `GET /api/prs`.
    pub(super) async fn pull_requests(
        &self,
        query: &ReadQuery,
    ) -> CommandResult<Page<PullRequestItem>> {
        match self {
            Self::Store(store) => Ok(store.pull_requests(&query.text()).await.map_err(failure)?),
            Self::Server(server) => server.get("/api/prs", query).await,
        }
    }

    /// Returns a pull request with its reviews, timeline and explanation.
    pub(super) async fn pull_request(
        &self,
        repo: &str,
        number: PrNumber,
    ) -> CommandResult<PullRequestDetail> {
        match self {
            Self::Store(store) => {
                let found = store.pull_request(repo, number).await;
                found.map_err(|error| match error {
                    ApiError::NotFound(_) => unknown(&format!("{repo}#{number}"), "the database"),
                    error => failure(error),
                })
            }
            Self::Server(server) => {
                let path = format!("/api/repos/{repo}/prs/{number}");
                server.get(&path, &ReadQuery::default()).await
            }
        }
    }

    /// Returns the answer of `GET /api/waiting`.
    pub(super) async fn waiting(&self, query: &ReadQuery) -> CommandResult<WaitingAnswer> {
        match self {
            Self::Store(store) => Ok(store.waiting(&query.text()).await.map_err(failure)?),
            Self::Server(server) => server.get("/api/waiting", query).await,
        }
    }

    /// Returns the answer of `GET /api/metrics/cycle-time`.
    pub(super) async fn cycle_time(&self, query: &ReadQuery) -> CommandResult<CycleTime> {
        match self {
            Self::Store(store) => Ok(store.cycle_time(&query.text()).await.map_err(failure)?),
            Self::Server(server) => server.get("/api/metrics/cycle-time", query).await,
        }
    }

    /// Returns a page of `GET /api/deliveries`.
    pub(super) async fn deliveries(&self, query: &ReadQuery) -> CommandResult<Page<DeliveryItem>> {
        match self {
            Self::Store(store) => Ok(store.deliveries(&query.text()).await.map_err(failure)?),
            Self::Server(server) => server.get("/api/deliveries", query).await,
        }
    }

    pub(super) async fn close(&self) {
        if let Self::Store(reads) = self {
            reads.instance.close().await;
        }
    }
}

/// Returns `limit` items of a list, page by page, after the cursor of `query` if it has one.
pub(super) async fn pages<T>(
    limit: u32,
    cursor: Option<String>,
    page: impl AsyncFn(u32, Option<String>) -> CommandResult<Page<T>>,
) -> CommandResult<Page<T>> {
    let mut all = Page::new(Vec::new(), cursor);
    loop {
        let left = limit - u32::try_from(all.items.len()).unwrap_or(limit);
        let next = page(left.min(MAX_PAGE), all.next.take()).await?;
        all.items.extend(next.items);
        all.next = next.next;
        all.count = all.count.or(next.count);
        if all.next.is_none() || all.items.len() >= limit as usize {
            return Ok(all);
        }
    }
}

/// The body of an error response.
#[derive(Deserialize)]
struct ErrorAnswer {
    error: ErrorMessage,
}

#[derive(Deserialize)]
struct ErrorMessage {
    message: String,
}

impl ServerReads {
    async fn get<T: DeserializeOwned>(&self, path: &str, query: &ReadQuery) -> CommandResult<T> {
        let Self {
            http,
            url,
            token,
            team,
        } = self;
        let prefix = match (team, path.strip_prefix("/api/")) {
            (Some(team), Some(rest)) => format!("/api/teams/{team}/{rest}"),
            _ => path.to_owned(),
        };
        let query = query.text();
        let question = if query.is_empty() { "" } else { "?" };
        let request = http
            .get(format!("{url}{prefix}{question}{query}"))
            .bearer_auth(token);
        let answer = request
            .send()
            .await
            .with_context(|| format!("cannot reach {url}: is the server running?"))?;
        let status = answer.status();
        let body = answer.bytes().await.with_context(|| {
            format!("{url} closed the connection before its answer was complete")
        })?;
        if status.is_success() {
            let unlike = || format!("{url} does not answer like a tallyhook server at {path}");
            return Ok(serde_json::from_slice(&body).with_context(unlike)?);
        }
        let message = match serde_json::from_slice::<ErrorAnswer>(&body) {
            Ok(answer) => answer.error.message,
            Err(_) => "is it a tallyhook server?".to_owned(),
        };
        let refused = format!("{url} answered {status}: {message}");
        Err(match status.as_u16() {
            400 => CommandFailure::Usage(refused),
            401 => failed(&format!(
                "{refused} (the token is that of {TALLYHOOK_TOKEN})"
            )),
            404 if path.contains("/prs/") => unknown(&path["/api/repos/".len()..], url),
            _ => failed(&refused),
        })
    }
}

fn unknown(pull_request: &str, place: &str) -> CommandFailure {
    let name = pull_request.replace("/prs/", "#");
    failed(&format!(
        "{place} has no pull request {name}: `tallyhook prs` lists those it has"
    ))
}

fn failure(error: ApiError) -> CommandFailure {
    match error {
        ApiError::BadRequest(why) => CommandFailure::Usage(why),
        ApiError::Unavailable(error) => error.into(),
        error => failed(&error.to_string()),
    }
}

fn failed(what: &str) -> CommandFailure {
    CommandFailure::Failed(anyhow::anyhow!("{what}"))
}
