//! A GitHub of the test's own, on a free port: it has repositories with webhooks, sends signed deliveries, remembers
//! what became of them, and answers its API as GitHub does, or as wrongly as a test wants it to.

#![allow(dead_code, reason = "every test binary uses a part of it")]

mod access;
pub(crate) mod acts;
mod answers;
pub(crate) mod app;
mod creating;
mod faults;
mod graphql;
pub(crate) mod growth;
mod hooks;
mod rest;
pub(crate) mod world;

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
pub(crate) use access::{Resource, Rights};
use faults::Disturbance;
pub(crate) use faults::Fault;
pub(crate) use hooks::Sending;
use hooks::{Attempt, Hook};
use world::{Webhook, World};

/// The token that is good from the start, and may do everything.
pub(crate) const GITHUB_TOKEN: &str = "ghp_token_of_the_tests_0123456789";

/// A running one, gone at the end of the test.
pub(crate) struct FakeGithub {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    /// Posts deliveries.
    http: reqwest::Client,
    server: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
}

/// The world, and how it is told of.
#[derive(Default)]
struct State {
    world: World,
    access: Access,
    app: Option<app::FakeApp>,
    /// The next requests are answered with these, in order.
    faults: VecDeque<Fault>,
    disturbance: Option<Disturbance>,
    /// What happens in the world just before a certain request.
    drift: Vec<(u64, Drift)>,
    /// Each answer takes that long.
    latency: Duration,
    /// Its clock is so far ahead of ours, if it is another.
    ahead: Option<TimeDelta>,
    /// More pull requests than these in one GraphQL query exceed GitHub's resources.
    most_pulls: Option<u64>,
    /// Pull requests, by repository id and number, that GraphQL cannot get.
    broken: BTreeSet<(i64, i64)>,
    /// How many requests there were.
    arrived: u64,
    requests: Vec<Request>,
}

type Drift = Box<dyn FnOnce(&mut World) + Send>;

/// What it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Counted from 1.
    number: u64,
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) resource: Resource,
    /// What was answered; 0 while nothing was.
    pub(crate) status: u16,
    /// What was taken from the token's allowance: requests, or points of GraphQL.
    pub(crate) cost: u64,
}

impl Request {
    /// A header of it, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }
}

impl State {
    /// Notes a request, lets happen what happens before it, and gives its number and what is wrong with its answer.
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
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    /// Listens there.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub(crate) fn start_at(address: SocketAddr) -> std::io::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let data = web::Data::from(state.clone());
        let app = move || {
            App::new()
                .app_data(data.clone())
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

    pub(crate) fn api(&self) -> ApiUrl {
        self.url.parse().unwrap()
    }

    /// A client of it whose waits pass at once, and the time that it goes by.
    pub(crate) fn client(&self) -> (Client, VirtualTime) {
        self.client_of_patience(Duration::from_secs(30))
    }

    /// The same, which waits so long for an answer.
    pub(crate) fn client_of_patience(&self, patience: Duration) -> (Client, VirtualTime) {
        let time = VirtualTime::starting_at(Utc::now());
        let token = Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap());
        (
            Client::with(self.api(), token, Clock::Virtual(time.clone()), patience).unwrap(),
            time,
        )
    }

    pub(crate) fn add_repository(&self, id: i64, full_name: &str) {
        self.world(|world| {
            world.add_repository(id, full_name);
        });
    }

    /// The old name leads to the new one from now on.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        self.world(|world| world.rename(from, to));
    }

    /// Looks at the world, or lets something happen in it.
    pub(crate) fn world<T>(&self, with: impl FnOnce(&mut World) -> T) -> T {
        with(&mut self.state().world)
    }

    /// A webhook of `owner`, which is `repos/OWNER/NAME` or `orgs/NAME`, to `url`.
    pub(crate) fn add_hook(&self, id: i64, owner: &str, url: &str, secret: &str) {
        self.world(|world| world.hooks.push(Hook::new(id, owner, url, secret)));
    }

    /// A webhook is set otherwise, by what `change` has of one, as in `{"events": ["push"]}`.
    pub(crate) fn change_hook(&self, id: i64, change: &Value) {
        self.world(|world| world.hook(id).change(change));
    }

    /// The webhooks of `owner`, be they added here or through the API.
    pub(crate) fn hooks_of(&self, owner: &str) -> Vec<i64> {
        self.world(|world| {
            world
                .hooks
                .iter()
                .filter(|hook| hook.owner == owner)
                .map(|hook| hook.id)
                .collect()
        })
    }

    /// Something happened: a webhook tells of it. Gives the receiver's status, 0 if none was there.
    pub(crate) async fn deliver(
        &self,
        hook: i64,
        delivery: (&str, &str, &Value),
        at: DateTime<Utc>,
        sending: Sending,
    ) -> u16 {
        self.attempt(hook, Attempt::new(delivery, at), sending)
            .await
    }

    /// The same for what [`World`] told.
    pub(crate) async fn send(&self, hook: i64, webhook: &Webhook, sending: Sending) -> u16 {
        let Webhook {
            event,
            guid,
            at,
            payload,
        } = webhook;
        self.deliver(hook, (event, guid, payload), at.to_utc(), sending)
            .await
    }

    /// Somebody presses Redeliver.
    pub(crate) async fn redeliver(
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
            Attempt {
                delivered_at: at,
                redelivery: true,
                ..known
            },
            sending,
        )
        .await
    }

    async fn attempt(&self, hook: i64, attempt: Attempt, sending: Sending) -> u16 {
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

    /// The payload of a delivery cannot be had any more, though it is still listed.
    pub(crate) fn forget(&self, hook: i64, guid: &str) {
        self.world(|world| {
            let attempts = world
                .hook(hook)
                .attempts
                .iter_mut()
                .filter(|attempt| attempt.guid == guid);
            attempts.for_each(|attempt| attempt.forgotten = true);
        });
    }

    /// Deliveries of before are no longer listed.
    pub(crate) fn forget_before(&self, hook: i64, at: DateTime<Utc>) {
        self.world(|world| {
            world
                .hook(hook)
                .attempts
                .retain(|attempt| attempt.delivered_at >= at)
        });
    }

    /// A further token that is good.
    pub(crate) fn give(&self, token: &str, rights: Rights) {
        self.state().access.give(token, rights);
    }

    /// A token is good until then, and tells so.
    pub(crate) fn expires(&self, token: &str, at: DateTime<Utc>) {
        self.state().access.expires(token, at);
    }

    /// Its clock is so far ahead of ours from now on.
    pub(crate) fn set_clock_ahead(&self, ahead: TimeDelta) {
        self.state().ahead = Some(ahead);
    }

    /// A token is good no more.
    pub(crate) fn revoke(&self, token: &str) {
        self.state().access.revoke(token);
    }

    /// What a token has left of its hour.
    pub(crate) fn allow(&self, token: &str, of: Resource, limit: u64, remaining: u64) {
        self.state().access.allow(token, of, limit, remaining);
    }

    /// The next requests are answered so, one each.
    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// From now on this part of the requests is answered with one of the faults.
    pub(crate) fn disturb(&self, seed: u64, rate: f64, faults: Vec<Fault>) {
        self.state().disturbance = Some(Disturbance::new(seed, rate, faults));
    }

    /// All is answered rightly again. How many answers went wrong by chance.
    pub(crate) fn calm(&self) -> u64 {
        let mut state = self.state();
        state.most_pulls = None;
        (state.latency, state.broken) = (Duration::ZERO, BTreeSet::new());
        state
            .disturbance
            .take()
            .map_or(0, |disturbance| disturbance.struck())
    }

    /// Each answer takes that long from now on.
    pub(crate) fn slow_down(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// GraphQL gives up on more pull requests than these in one query.
    pub(crate) fn at_most(&self, pulls: u64) {
        self.state().most_pulls = Some(pulls);
    }

    /// GraphQL cannot get this pull request.
    pub(crate) fn break_pull(&self, repository: i64, number: i64) {
        self.state().broken.insert((repository, number));
    }

    /// Something happens just before the `nth` request from now, the next being the first.
    pub(crate) fn between(&self, nth: u64, happens: impl FnOnce(&mut World) + Send + 'static) {
        let mut state = self.state();
        let number = state.arrived + nth;
        state.drift.push((number, Box::new(happens)));
    }

    /// What it was asked since the last time that this was called.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    /// What it was asked since then, as `GET /repos/acme/api`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.requests()
            .into_iter()
            .map(|Request { method, path, .. }| format!("{method} {path}"))
            .collect()
    }

    pub(crate) async fn stop(self) {
        assert_eq!(
            self.state().faults.len(),
            0,
            "a fault was waited for that nobody met"
        );
        self.server.stop(false).await;
        self.serving.await.unwrap().unwrap();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
