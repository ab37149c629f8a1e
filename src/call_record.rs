//! The record of requests to GitHub: what the client reports is written to the database.
//!
//! The row of a change is written before the change is sent. All others are written in portions: at
//! once if there are many, else each second. While the database fails nothing is dropped: the
//! channel fills, and the client's callers wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use tallyhook_github_client::{CallEvent, CallLog, CallOutcome, GithubCall};
use tallyhook_store::{CallEnd, NewCall, Store, StoreError, TeamId};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::telemetry::{GITHUB_CALL_WAITS, GITHUB_CALLS_QUEUE};

/// The requests that wait for the database.
const CAPACITY: usize = 10_000;
/// The rows of one transaction.
const PORTION: usize = 200;
const TICK: Duration = Duration::from_secs(1);

/// The one who writes the record, in each process that asks GitHub.
pub struct CallRecord {
    store: Store,
    log: CallLog,
    events: mpsc::Receiver<CallEvent>,
    /// The rows of changes that are under way.
    announced: HashMap<Uuid, i64>,
    /// The ends that are not written yet.
    ended: Vec<GithubCall>,
    teams: HashMap<Arc<str>, Option<TeamId>>,
    fails: bool,
}

impl CallRecord {
    /// Returns the record of a process, and the end into which its client reports.
    pub fn new(store: Store) -> (Self, CallLog) {
        let (log, events) = CallLog::channel(CAPACITY);
        let record = Self {
            store,
            log: log.clone(),
            events,
            announced: HashMap::new(),
            ended: Vec::new(),
            teams: HashMap::new(),
            fails: false,
        };
        (record, log)
    }

    /// Writes until `stopping` is true, and then what is left.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_room = self.ended.len() < PORTION;
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => break,
                event = self.events.recv(), if has_room => match event {
                    Some(event) => self.take(event).await,
                    None => break,
                },
                _ = ticks.tick() => {
                    self.write().await;
                    self.report();
                }
            }
            if self.ended.len() >= PORTION && !self.fails {
                self.write().await;
            }
        }
        self.events.close();
        while let Some(event) = self.events.recv().await {
            self.take(event).await;
            if self.ended.len() >= PORTION {
                self.write().await;
            }
        }
        self.write().await;
    }

    async fn take(&mut self, event: CallEvent) {
        match event {
            CallEvent::Announced { call, stored } => {
                let begun = self.begin(&call).await;
                match begun {
                    Ok(id) => {
                        self.announced.insert(call.id, id);
                        tallyhook_core::crash_point::reached("github_call.announced");
                        // The client may have given up.
                        drop(stored.send(()));
                    }
                    // It is not sent, since `stored` is dropped.
                    Err(error) => tracing::error!(
                        %error,
                        "a change at GitHub is not sent, since it cannot be recorded: {error}"
                    ),
                }
            }
            CallEvent::Ended(call) => self.ended.push(call),
        }
    }

    async fn begin(&mut self, call: &GithubCall) -> Result<i64, StoreError> {
        let new = self.row(call).await?;
        self.store.begin_call(&new).await
    }

    /// Writes what has ended. What cannot be written stays.
    async fn write(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let written = self.try_write().await;
        match (&written, self.fails) {
            (Ok(()), true) => tracing::info!("requests to GitHub are recorded again"),
            (Err(error), false) => tracing::error!(
                %error,
                "requests to GitHub cannot be recorded, and wait: {error}"
            ),
            _ => {}
        }
        self.fails = written.is_err();
    }

    async fn try_write(&mut self) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        let mut updates = Vec::new();
        for call in self.ended.clone() {
            match self.announced.get(&call.id) {
                Some(id) => updates.push((*id, end(&call))),
                None => rows.push((self.row(&call).await?, end(&call))),
            }
        }
        self.store.record_calls(&rows, &updates).await?;
        for call in self.ended.drain(..) {
            self.announced.remove(&call.id);
        }
        Ok(())
    }

    async fn row(&mut self, call: &GithubCall) -> Result<NewCall, StoreError> {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        Ok(NewCall {
            at: call.at,
            team: self.team(call.origin.team.as_ref()).await?,
            actor: text(&call.origin.actor).unwrap_or_else(|| "system".to_owned()),
            connection: text(&call.account),
            method: call.method.clone(),
            route: call.route.clone(),
            path: call.path.clone(),
            kind: call.kind.to_owned(),
            is_mutation: call.is_mutation,
            attempt: call.attempt,
            bytes_out: call.bytes_out,
            correlation: text(&call.origin.correlation),
        })
    }

    /// Returns the team of a name. One that is gone is none.
    async fn team(&mut self, name: Option<&Arc<str>>) -> Result<Option<TeamId>, StoreError> {
        let Some(name) = name else { return Ok(None) };
        if let Some(known) = self.teams.get(name) {
            return Ok(*known);
        }
        let found = self.store.team_of_slug(name).await?;
        if found.is_some() {
            self.teams.insert(name.clone(), found);
        }
        Ok(found)
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "the channel has ten thousand places"
    )]
    fn report(&self) {
        counter!(GITHUB_CALL_WAITS).absolute(self.log.waits());
        gauge!(GITHUB_CALLS_QUEUE).set((self.events.len() + self.ended.len()) as f64);
    }
}

fn end(call: &GithubCall) -> CallEnd {
    let (outcome, status, error) = match call.outcome {
        CallOutcome::Unknown => (tallyhook_store::CallOutcome::Unknown, None, None),
        CallOutcome::Answered { status } => {
            (tallyhook_store::CallOutcome::Done, Some(status), None)
        }
        // A change without a usable answer may have happened.
        CallOutcome::Failed { error } if call.is_mutation => (
            tallyhook_store::CallOutcome::Unknown,
            None,
            Some(error.to_owned()),
        ),
        CallOutcome::Failed { error } => (
            tallyhook_store::CallOutcome::Failed,
            None,
            Some(error.to_owned()),
        ),
    };
    CallEnd {
        outcome,
        status,
        error,
        duration_ms: Some(call.duration_ms),
        rate_remaining: call.rate_remaining,
        request_id: call.request_id.clone(),
    }
}
