//! A fake GitHub on a free port: it has repositories with webhooks, sends signed deliveries and
//! lists them, and answers its API as GitHub does, or with the faults that a test asks for.

mod access;
pub mod acts;
mod answers;
pub mod app;
mod applications;
mod creating;
mod directory;
mod faults;
mod graphql;
pub mod growth;
mod hooks;
pub mod manifest;
mod oauth;
mod organizations;
mod rest;
pub mod world;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpServer, web};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tallyhook_github_client::{ApiUrl, Client, Clock, Credentials, Token, VirtualTime};
use tokio::task::JoinHandle;

use access::Access;
pub use access::{Resource, Rights};
use directory::Directory;
pub use directory::{FakeMembership, FakeOrganization, FakeTeam};
pub use faults::Fault;
use faults::RandomFaults;
pub use hooks::Sending;
use hooks::{Hook, HookAttempt};
use oauth::FakeOauth;
pub use oauth::{Consent, FakeOauthApp};
use world::{Webhook, World};

/// The maximum size of a request's body; actix-web's default is 256 KiB.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// The token that is valid from the start, with all rights.
pub const GITHUB_TOKEN: &str = "ghp_token_of_the_tests_0123456789";

/// A running fake GitHub, stopped at the end of the test.
pub struct FakeGithub {
    pub url: String,
    state: Arc<Mutex<State>>,
    /// The client that posts deliveries.
    http: reqwest::Client,
    server: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
}

/// The state of the world, and the faults of its API.
#[derive(Default)]
struct State {
    world: World,
    access: Access,
    app: Option<app::FakeApp>,
    directory: Directory,
    oauth: FakeOauth,
    manifests: manifest::Manifests,
    leaks: applications::LeakReports,
    /// The clock of sign-ins, tokens and manifests, if it is not ours.
    time: Option<VirtualTime>,
    /// The faults of the next requests, in order.
    faults: VecDeque<Fault>,
    disturbance: Option<RandomFaults>,
    /// Changes of the world just before the request with this number.
    drift: Vec<(u64, WorldChange)>,
    /// The delay of each answer.
    latency: Duration,
    /// The lead of its clock over ours, if it has another.
    ahead: Option<TimeDelta>,
    /// More pull requests than these in one GraphQL query exceed GitHub's resources.
    most_pulls: Option<u64>,
    /// Pull requests, by repository id and number, that GraphQL cannot get.
    broken: BTreeSet<(i64, i64)>,
    /// Texts that no GraphQL query may have, and the errors about them.
    refused: Vec<(String, Value)>,
    /// The number of requests.
    arrived: u64,
    requests: Vec<Request>,
}

type WorldChange = Box<dyn FnOnce(&mut World) + Send>;

/// A recorded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The number of the request, counted from 1.
    number: u64,
    pub method: String,
    /// The path with its query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub resource: Resource,
    /// The status of the answer; 0 before the answer.
    pub status: u16,
    /// The cost that was subtracted from the token's allowance: requests, or points of GraphQL.
    pub cost: u64,
}

impl Request {
    /// Returns a header, or an empty text without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }
}

impl State {
    /// Returns the time by its own clock.
    fn now(&self) -> DateTime<Utc> {
        self.time.as_ref().map_or_else(Utc::now, VirtualTime::now)
    }

    /// Records a request and makes the changes that precede it. Returns its number, the delay of
    /// its answer, and its fault.
    fn arrived(&mut self, request: Request) -> (u64, Duration, Option<Fault>) {
        self.arrived += 1;
        self.requests.push(Request {
            number: self.arrived,
            ..request
        });
        for (_, drift) in self
            .drift
            .extract_if(.., |(number, _)| *number == self.arrived)
        {
            drift(&mut self.world);
        }
        let fault = self
            .faults
            .pop_front()
            .or_else(|| self.disturbance.as_mut()?.next());
        (self.arrived, self.latency, fault)
    }

    fn answered(&mut self, number: u64, status: StatusCode, cost: u64) {
        if let Some(request) = self
            .requests
            .iter_mut()
            .find(|request| request.number == number)
        {
            (request.status, request.cost) = (status.as_u16(), cost);
        }
    }
}

impl FakeGithub {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    /// Starts on this address.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn start_at(address: SocketAddr) -> std::io::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let data = web::Data::from(state.clone());
        let app = move || {
            App::new()
                .app_data(data.clone())
                .app_data(web::PayloadConfig::new(MAX_BODY))
                .default_service(web::to(answers::answer))
        };
        let server = HttpServer::new(app)
            .workers(1)
            .disable_signals()
            .bind(address)?;
        let url = format!("http://{}", server.addrs()[0]);
        state.lock().unwrap().world.url.clone_from(&url);
        let server = server.run();
        let http = reqwest::Client::new();
        Ok(Self {
            url,
            state,
            http,
            server: server.handle(),
            serving: tokio::spawn(server),
        })
    }

    pub fn api(&self) -> ApiUrl {
        self.url.parse().unwrap()
    }

    /// Returns a client whose waits pass at once, and its clock.
    pub fn client(&self) -> (Client, VirtualTime) {
        self.client_of_patience(Duration::from_secs(30))
    }

    /// Returns the same, with `patience` as the timeout of a request.
    pub fn client_of_patience(&self, patience: Duration) -> (Client, VirtualTime) {
        let time = VirtualTime::starting_at(Utc::now());
        let token = Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap());
        (
            Client::with(self.api(), token, Clock::Virtual(time.clone()), patience).unwrap(),
            time,
        )
    }

    pub fn add_repository(&self, id: i64, full_name: &str) {
        self.world(|world| {
            world.add_repository(id, full_name);
        });
    }

    /// Renames a repository; the old name redirects to the new one.
    pub fn rename(&self, from: &str, to: &str) {
        self.world(|world| world.rename(from, to));
    }

    /// Reads or changes the world.
    pub fn world<T>(&self, with: impl FnOnce(&mut World) -> T) -> T {
        with(&mut self.state().world)
    }

    /// Adds a webhook of `owner`, which is `repos/OWNER/NAME` or `orgs/NAME`, to `url`.
    pub fn add_hook(&self, id: i64, owner: &str, url: &str, secret: &str) {
        self.world(|world| world.hooks.push(Hook::new(id, owner, url, secret)));
    }

    /// Changes the fields of a webhook that `change` has, as in `{"events": ["push"]}`.
    pub fn change_hook(&self, id: i64, change: &Value) {
        self.world(|world| world.hook(id).change(change));
    }

    /// Returns the ids of the webhooks of `owner`, added here or through the API.
    pub fn hooks_of(&self, owner: &str) -> Vec<i64> {
        self.world(|world| {
            world
                .hooks
                .iter()
                .filter(|hook| hook.owner == owner)
                .map(|hook| hook.id)
                .collect()
        })
    }

    /// Sends a webhook about an event. Returns the receiver's status, 0 without a receiver.
    pub async fn deliver(
        &self,
        hook: i64,
        delivery: (&str, &str, &Value),
        at: DateTime<Utc>,
        sending: Sending,
    ) -> u16 {
        self.attempt(hook, HookAttempt::new(delivery, at), sending)
            .await
    }

    /// Sends a webhook that [`World`] returned. Returns the same as [`FakeGithub::deliver`].
    pub async fn send(&self, hook: i64, webhook: &Webhook, sending: Sending) -> u16 {
        let Webhook {
            event,
            guid,
            at,
            payload,
        } = webhook;
        self.deliver(hook, (event, guid, payload), at.to_utc(), sending)
            .await
    }

    /// Redelivers a delivery, as the button "Redeliver" does.
    pub async fn redeliver(
        &self,
        hook: i64,
        guid: &str,
        at: DateTime<Utc>,
        sending: Sending,
    ) -> u16 {
        let find = |hook: &Hook| {
            hook.attempts
                .iter()
                .find(|attempt| attempt.guid == guid)
                .unwrap()
                .clone()
        };
        let known = self.world(|world| find(world.hook(hook)));
        self.attempt(
            hook,
            HookAttempt {
                delivered_at: at,
                redelivery: true,
                ..known
            },
            sending,
        )
        .await
    }

    async fn attempt(&self, hook: i64, attempt: HookAttempt, sending: Sending) -> u16 {
        let status_code = match sending {
            Sending::Dropped | Sending::TooLarge => return 0,
            Sending::Fails(status) => status,
            Sending::Posted => {
                let (url, secret) = self.world(|world| {
                    let hook = world.hook(hook);
                    (hook.url.clone(), hook.secret.clone())
                });
                hooks::post(&self.http, &url, &secret, &attempt).await
            }
        };
        self.world(|world| world.attempted(hook, attempt, status_code));
        status_code
    }

    /// Deletes the payload of a delivery, which stays listed.
    pub fn forget(&self, hook: i64, guid: &str) {
        self.world(|world| {
            let attempts = world
                .hook(hook)
                .attempts
                .iter_mut()
                .filter(|attempt| attempt.guid == guid);
            attempts.for_each(|attempt| attempt.forgotten = true);
        });
    }

    /// Removes deliveries before `at` from the list.
    pub fn forget_before(&self, hook: i64, at: DateTime<Utc>) {
        self.world(|world| {
            world
                .hook(hook)
                .attempts
                .retain(|attempt| attempt.delivered_at >= at)
        });
    }

    /// Issues another valid token.
    pub fn give(&self, token: &str, rights: Rights) {
        self.state().access.give(token, rights);
    }

    /// Sets the expiry of a token, which answers to it announce.
    pub fn expires(&self, token: &str, at: DateTime<Utc>) {
        self.state().access.expires(token, at);
    }

    /// Sets the clock of sign-ins, tokens and manifests, which dates its answers, too.
    pub fn set_clock(&self, time: &VirtualTime) {
        self.state().time = Some(time.clone());
    }

    /// Sets the lead of its clock over ours.
    pub fn set_clock_ahead(&self, ahead: TimeDelta) {
        self.state().ahead = Some(ahead);
    }

    /// Revokes a token.
    pub fn revoke(&self, token: &str) {
        self.state().access.revoke(token);
    }

    /// Sets the allowance of a token: its limit, and the rest of this hour.
    pub fn allow(&self, token: &str, of: Resource, limit: u64, remaining: u64) {
        self.state().access.allow(token, of, limit, remaining);
    }

    /// Answers the next requests with these faults, one each.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// Answers a random share `rate` of the requests with one of the faults.
    pub fn disturb(&self, seed: u64, rate: f64, faults: Vec<Fault>) {
        self.state().disturbance = Some(RandomFaults::new(seed, rate, faults));
    }

    /// Ends the random faults. Returns their number.
    pub fn calm(&self) -> u64 {
        let mut state = self.state();
        state.most_pulls = None;
        (state.latency, state.broken) = (Duration::ZERO, BTreeSet::new());
        state
            .disturbance
            .take()
            .map_or(0, |disturbance| disturbance.struck())
    }

    /// Sets the delay of each answer.
    pub fn slow_down(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Sets the number of pull requests in one query above which GraphQL gives up.
    pub fn at_most(&self, pulls: u64) {
        self.state().most_pulls = Some(pulls);
    }

    /// Makes GraphQL fail on this pull request.
    pub fn break_pull(&self, repository: i64, number: i64) {
        self.state().broken.insert((repository, number));
    }

    /// Refuses GraphQL queries that have `text`, with this error and no data.
    pub fn refuse(&self, text: &str, error: Value) {
        self.state().refused.push((text.to_owned(), error));
    }

    /// Changes the world just before the `nth` request from now, the next being the first.
    pub fn between(&self, nth: u64, happens: impl FnOnce(&mut World) + Send + 'static) {
        let mut state = self.state();
        let number = state.arrived + nth;
        state.drift.push((number, Box::new(happens)));
    }

    /// Returns the requests since the last call of this or [`FakeGithub::asked`].
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    /// Returns the same requests as texts such as `GET /repos/acme/api`.
    pub fn asked(&self) -> Vec<String> {
        self.requests()
            .into_iter()
            .map(|Request { method, path, .. }| format!("{method} {path}"))
            .collect()
    }

    pub async fn stop(self) {
        assert_eq!(self.state().faults.len(), 0, "a planned fault was not used");
        self.server.stop(false).await;
        self.serving.await.unwrap().unwrap();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
