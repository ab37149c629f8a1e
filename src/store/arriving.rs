//! From a body that arrived to the row that it becomes, whichever way it came.

use std::io;

use sha2::{Digest, Sha256};

use super::{Lane, Moment, NewDelivery, NewState, StoredBody};
use crate::domain::pull_request::{PullRequest, Source};
use crate::event::{self, Event, FetchedPullRequest, Undecodable};

/// A webhook's body, known to be GitHub's.
#[derive(Clone, Debug)]
pub struct Arriving<'a> {
    pub guid: String,
    /// As in `X-GitHub-Event`.
    pub event: String,
    pub json: &'a [u8],
    pub source: Source,
    pub lane: Lane,
    pub received_at: Moment,
}

/// What is to be done with a body.
#[derive(Debug)]
pub enum Arrival {
    /// Forget it: an event that is not used here.
    Unused,
    /// Refuse it.
    NotJson,
    /// Store it; due at once, if it could be decoded. With its event, if it could.
    Delivery(Box<NewDelivery>, Option<Box<Event>>),
}

impl Arriving<'_> {
    /// Decodes and compresses it.
    ///
    /// # Errors
    /// Only if there is no memory to compress it.
    pub fn read(self) -> io::Result<Arrival> {
        let decoded = event::decode(&self.event, self.json);
        let state = match &decoded {
            Err(Undecodable::NotJson(_)) => return Ok(Arrival::NotJson),
            Err(Undecodable::UnusedEvent(_)) => return Ok(Arrival::Unused),
            Err(Undecodable::NoPullRequest(reason)) => NewState::Ignored { reason: (*reason).to_owned() },
            Err(Undecodable::Shape(reason)) => NewState::Dead { reason: format!("cannot be decoded: {reason}") },
            Ok(_) => NewState::Pending { due: self.received_at },
        };
        let decoded = decoded.ok();
        let delivery = self.delivery(decoded.as_ref(), state)?;
        Ok(Arrival::Delivery(Box::new(delivery), decoded.map(Box::new)))
    }

    fn delivery(self, known: Option<&Event>, state: NewState) -> io::Result<NewDelivery> {
        Ok(NewDelivery {
            body_sha256: Sha256::digest(self.json).into(),
            action: known.and_then(Event::action).map(str::to_owned),
            repo: known.and_then(Event::repo).map(|repo| (repo.id, repo.name.clone())),
            pr_number: known.and_then(Event::pr_key).map(|key| key.number),
            source: self.source,
            lane: self.lane,
            received_at: self.received_at,
            body: StoredBody::compress(self.json)?,
            state,
            event: self.event,
            guid: self.guid,
        })
    }
}

impl NewDelivery {
    /// What was fetched of a pull request. As long as nothing changes on GitHub it is one and the same delivery, however
    /// often it is fetched.
    ///
    /// # Errors
    /// Only if there is no memory to write or compress it.
    pub fn fetched(
        pull_request: FetchedPullRequest,
        source: Source,
        lane: Lane,
        received_at: Moment,
    ) -> io::Result<Self> {
        let guid = PullRequest::id(pull_request.key()).to_string();
        let event = Event::Snapshot(pull_request);
        let json = serde_json::to_vec(&event)?;
        let json = event::without_nul(&json);
        let arriving = Arriving { guid, event: event.name().to_owned(), json: &json, source, lane, received_at };
        arriving.delivery(Some(&event), NewState::Pending { due: received_at })
    }
}
