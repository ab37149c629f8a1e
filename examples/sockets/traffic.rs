//! Webhooks each of which is a change: pull requests that are opened, closed, opened again and
//! merged.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};
use tallyhook_core::github::signature::Secrets;

use testkit::payloads::{self, Account, Pr, World};

pub(crate) const SECRET: &str = "a secret of the load test";
/// The actions on each pull request.
const STEPS: usize = 4;
/// Pull requests take turns, so that the dates of one, which have no parts of a second, are each
/// another.
const TURN_SECONDS: f64 = 2.0;

/// The deliveries of a run, each with its signature.
pub(crate) struct Traffic {
    requests: Vec<Vec<u8>>,
    pub(crate) changes: Arc<Changes>,
}

/// The delivery of a run that caused each change.
pub(crate) struct Changes(HashMap<(i64, i64), usize>);

impl Changes {
    /// By the number of the pull request and the time of the change, in seconds since 1970. `None`
    /// of another run's.
    pub(crate) fn delivery(&self, number: i64, at: i64) -> Option<usize> {
        self.0.get(&(number, at)).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// All bytes are prepared before, none per connection.
pub(crate) struct Writer;

impl Traffic {
    /// `deliveries` of which `per_second` are to be sent, of pull requests numbered from `number`
    /// on; the first change happened at `begin`, in seconds since 1970.
    pub(crate) fn new(
        number: i64,
        deliveries: usize,
        per_second: f64,
        begin: i64,
    ) -> anyhow::Result<Self> {
        let world = World::acme();
        let author = Account::user(900_000_101, "mona");
        let secrets = Secrets::single(SECRET).context("the secret is empty")?;
        let turn = (TURN_SECONDS * per_second).ceil() as usize;
        let mut pull_requests: Vec<Pr> = Vec::new();
        let mut requests = Vec::with_capacity(deliveries);
        let mut changes = HashMap::with_capacity(deliveries);
        for delivery in 0..deliveries {
            let (round, step, slot) = (
                delivery / (turn * STEPS),
                delivery / turn % STEPS,
                delivery % turn,
            );
            let number = number + i64::try_from(round * turn + slot)?;
            let at = begin + (delivery as f64 / per_second) as i64;
            let text = payloads::rfc3339(at);
            let action = ["opened", "closed", "reopened", "closed"][step];
            match step {
                0 => {
                    let opened = Pr::new(
                        &world,
                        number,
                        Some(&author),
                        "Tell it at once",
                        "tell-it-at-once",
                        &text,
                    );
                    // The first round fills the row, each later one takes the place of those that
                    // were merged.
                    match pull_requests.get_mut(slot) {
                        Some(merged) => *merged = opened,
                        None => pull_requests.push(opened),
                    }
                }
                1 => pull_requests[slot].close(&text),
                2 => pull_requests[slot].reopen(&text),
                _ => pull_requests[slot].merge(&author, &text),
            }
            let payload =
                payloads::pull_request_event(&pull_requests[slot], action, &author, json!({}));
            requests.push(request(&payload, &secrets));
            changes.insert((number, at), delivery);
        }
        Ok(Self {
            requests,
            changes: Arc::new(Changes(changes)),
        })
    }

    /// The mean size of a request, in bytes.
    pub(crate) fn request_bytes(&self) -> usize {
        self.requests.iter().map(Vec::len).sum::<usize>() / self.requests.len()
    }

    pub(crate) fn writer(&self) -> Writer {
        Writer
    }

    /// The bytes of a delivery, under a GUID of its own.
    pub(crate) fn write<'a>(
        &'a self,
        _writer: &'a mut Writer,
        delivery: usize,
        _guid: u128,
    ) -> &'a [u8] {
        &self.requests[delivery]
    }
}

fn request(payload: &Value, secrets: &Secrets) -> Vec<u8> {
    let body = payload.to_string();
    let head = format!(
        "POST /webhooks/github HTTP/1.1\r\nHost: localhost\r\nUser-Agent: GitHub-Hookshot/044aadd\r\n\
         Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-GitHub-Event: pull_request\r\n\
         X-GitHub-Delivery: {}\r\nX-Hub-Signature-256: {}\r\n\r\n",
        body.len(),
        uuid::Uuid::new_v4(),
        secrets.sign(body.as_bytes()).to_header(),
    );
    (head + &body).into_bytes()
}
