//! A GitHub of the test's own, on a free port: it has repositories with webhooks, sends signed deliveries, remembers
//! what became of them, and answers its API as GitHub does, or as wrongly as a test wants it to.

#![allow(dead_code, reason = "every test binary uses a part of it")]

mod answers;
pub(crate) mod app;
mod faults;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tallyhook::github::client::{ApiUrl, Client, Clock, Credentials, Token, VirtualTime};
use tallyhook::github::signature::Secrets;
use tokio::task::JoinHandle;

pub(crate) use faults::Fault;

/// The one token that it accepts.
pub(crate) const GITHUB_TOKEN: &str = "ghp_token_of_the_tests_0123456789";

/// A running one, gone at the end of the test.
pub(crate) struct FakeGithub {
    pub(crate) url: String,
    world: Arc<Mutex<World>>,
    server: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
}

/// What it knows.
struct World {
    /// Where it is reached, for links.
    url: String,
    repositories: Vec<Repository>,
    hooks: Vec<Hook>,
    /// The next requests are answered with these, in order.
    faults: VecDeque<Fault>,
    requests: Vec<Request>,
    /// What is left of the hour's allowance.
    remaining: u64,
    app: Option<app::FakeApp>,
}

struct Repository {
    id: i64,
    full_name: String,
    /// Names of before, which lead to it.
    former: Vec<String>,
}

struct Hook {
    id: i64,
    /// `repos/OWNER/NAME` or `orgs/NAME`.
    owner: String,
    url: String,
    secret: String,
    /// Newest first.
    attempts: Vec<Attempt>,
}

/// One attempt to deliver something.
#[derive(Clone)]
struct Attempt {
    id: i64,
    guid: String,
    event: String,
    payload: Value,
    delivered_at: DateTime<Utc>,
    redelivery: bool,
    status_code: u16,
    /// GitHub lists it and has its payload no more.
    forgotten: bool,
}

/// What it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    /// A header of it, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Whether a delivery goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// It is posted, and what is answered is remembered.
    Posted,
    /// Nothing is posted, as if the receiver were down; this status is remembered.
    Fails(u16),
}

impl FakeGithub {
    pub(crate) async fn start() -> Self {
        let world = World {
            url: String::new(),
            repositories: Vec::new(),
            hooks: Vec::new(),
            faults: VecDeque::new(),
            requests: Vec::new(),
            remaining: 5000,
            app: None,
        };
        let world = Arc::new(Mutex::new(world));
        let data = web::Data::from(world.clone());
        let app = move || App::new().app_data(data.clone()).default_service(web::to(answers::answer));
        let server = HttpServer::new(app).workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        world.lock().unwrap().url.clone_from(&url);
        let server = server.run();
        Self { url, world, server: server.handle(), serving: tokio::spawn(server) }
    }

    pub(crate) fn api(&self) -> ApiUrl {
        self.url.parse().unwrap()
    }

    /// A client of it whose waits pass at once, and the time that it goes by.
    pub(crate) fn client(&self) -> (Client, VirtualTime) {
        let time = VirtualTime::starting_at(Utc::now());
        let token = Credentials::Token(Token::parse(GITHUB_TOKEN).unwrap());
        let patience = std::time::Duration::from_secs(30);
        (Client::with(self.api(), token, Clock::Virtual(time.clone()), patience).unwrap(), time)
    }

    pub(crate) fn add_repository(&self, id: i64, full_name: &str) {
        self.world().repositories.push(Repository { id, full_name: full_name.to_owned(), former: Vec::new() });
    }

    /// The old name leads to the new one from now on.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        let mut world = self.world();
        let world = &mut *world;
        let repository = world.repositories.iter_mut().find(|repository| repository.full_name == from).unwrap();
        repository.former.push(std::mem::replace(&mut repository.full_name, to.to_owned()));
        for hook in world.hooks.iter_mut().filter(|hook| hook.owner == format!("repos/{from}")) {
            hook.owner = format!("repos/{to}");
        }
    }

    /// A webhook of `owner`, which is `repos/OWNER/NAME` or `orgs/NAME`, to `url`.
    pub(crate) fn add_hook(&self, id: i64, owner: &str, url: &str, secret: &str) {
        let hook =
            Hook { id, owner: owner.to_owned(), url: url.to_owned(), secret: secret.to_owned(), attempts: Vec::new() };
        self.world().hooks.push(hook);
    }

    /// Something happened: a webhook tells of it. Gives the receiver's status.
    pub(crate) async fn deliver(
        &self,
        hook: i64,
        (event, guid, payload): (&str, &str, &Value),
        at: DateTime<Utc>,
        sending: Sending,
    ) -> u16 {
        let attempt = Attempt {
            id: 0,
            guid: guid.to_owned(),
            event: event.to_owned(),
            payload: payload.clone(),
            delivered_at: at,
            redelivery: false,
            status_code: 0,
            forgotten: false,
        };
        self.attempt(hook, attempt, sending).await
    }

    /// Somebody presses Redeliver.
    pub(crate) async fn redeliver(&self, hook: i64, guid: &str, at: DateTime<Utc>, sending: Sending) -> u16 {
        let known = self.hook(hook, |hook| hook.attempts.iter().find(|attempt| attempt.guid == guid).unwrap().clone());
        self.attempt(hook, Attempt { delivered_at: at, redelivery: true, ..known }, sending).await
    }

    async fn attempt(&self, hook: i64, attempt: Attempt, sending: Sending) -> u16 {
        let (url, secret) = self.hook(hook, |hook| (hook.url.clone(), hook.secret.clone()));
        let status_code = match sending {
            Sending::Fails(status) => status,
            Sending::Posted => post(&url, &secret, &attempt).await,
        };
        self.hook(hook, |hook| {
            // Ids grow over all hooks at GitHub; here they need be unique within one.
            let id = 1_000_000 + i64::try_from(hook.attempts.len()).unwrap();
            hook.attempts.insert(0, Attempt { id, status_code, ..attempt });
            hook.attempts.sort_by_key(|attempt| std::cmp::Reverse((attempt.delivered_at, attempt.id)));
        });
        status_code
    }

    /// The payload of a delivery cannot be had any more, though it is still listed.
    pub(crate) fn forget(&self, hook: i64, guid: &str) {
        self.hook(hook, |hook| {
            let attempts = hook.attempts.iter_mut().filter(|attempt| attempt.guid == guid);
            attempts.for_each(|attempt| attempt.forgotten = true);
        });
    }

    /// The next requests are answered so, one each.
    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.world().faults.extend(faults);
    }

    /// What it was asked since the last time that this was called.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.world().requests)
    }

    /// What it was asked since then, as `GET /repos/acme/api`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.requests().into_iter().map(|Request { method, path, .. }| format!("{method} {path}")).collect()
    }

    pub(crate) async fn stop(self) {
        assert_eq!(self.world().faults.len(), 0, "a fault was waited for that nobody met");
        self.server.stop(false).await;
        self.serving.await.unwrap().unwrap();
    }

    fn hook<T>(&self, id: i64, with: impl FnOnce(&mut Hook) -> T) -> T {
        with(self.world().hooks.iter_mut().find(|hook| hook.id == id).unwrap())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

async fn post(url: &str, secret: &str, attempt: &Attempt) -> u16 {
    let body = attempt.payload.to_string().into_bytes();
    let request = reqwest::Client::new()
        .post(url)
        .header("Content-Type", "application/json")
        .header("X-GitHub-Event", &attempt.event)
        .header("X-GitHub-Delivery", &attempt.guid)
        .header("X-Hub-Signature-256", Secrets::single(secret).unwrap().sign(&body).to_header());
    request.body(body).send().await.map_or(0, |answer| answer.status().as_u16())
}
