//! From a body that arrived to the row that it becomes, whichever way it came.

use std::io;

use sha2::{Digest, Sha256};

use super::{Lane, Moment, NewDelivery, NewState, StoredBody};
use crate::domain::pull_request::Source;
use crate::event::{self, Event, Undecodable};

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
        let known = decoded.as_ref().ok();
        let delivery = NewDelivery {
            body_sha256: Sha256::digest(self.json).into(),
            action: known.and_then(Event::action).map(str::to_owned),
            repo: known.and_then(Event::repo).map(|repo| (repo.id, repo.name.clone())),
            pr_number: known.and_then(Event::pull_request).map(|event| event.number),
            source: self.source,
            lane: self.lane,
            received_at: self.received_at,
            body: StoredBody::compress(self.json)?,
            state,
            event: self.event,
            guid: self.guid,
        };
        Ok(Arrival::Delivery(Box::new(delivery), decoded.ok().map(Box::new)))
    }
}
