//! Classification of a verified body: the inbox row that it becomes, from any source.

use std::io;

use metrics::counter;
use sha2::{Digest, Sha256};
use tallyhook_core::delivery::{Lane, Moment};
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::event::{
    self, DecodedWebhook, Event, FetchedPullRequest, Undecodable, UnreadPart,
};
use tallyhook_store::{NewDelivery, NewState, StoredBody};

use crate::telemetry::PARTS_UNREAD;

/// A delivery whose body is verified.
#[derive(Clone, Debug)]
pub(crate) struct IncomingDelivery<'a> {
    pub(crate) guid: String,
    /// As in `X-GitHub-Event`.
    pub(crate) event: String,
    pub(crate) json: &'a [u8],
    pub(crate) source: Source,
    pub(crate) lane: Lane,
    pub(crate) received_at: Moment,
}

/// The class of an incoming delivery, named by what to do with it.
#[derive(Debug)]
pub(crate) enum Classified {
    /// An event that Tallyhook does not use: discard it.
    Unsubscribed,
    /// Refuse it.
    NotJson,
    /// Store it, with its event if it could be decoded.
    Delivery(Box<NewDelivery>, Option<Box<DecodedWebhook>>),
}

impl IncomingDelivery<'_> {
    /// Decodes and compresses the body.
    ///
    /// # Errors
    /// Only if there is no memory to compress it.
    pub(crate) fn classify(self) -> io::Result<Classified> {
        let decoded = event::decode_webhook(&self.event, self.json);
        let state = match &decoded {
            Err(Undecodable::NotJson(_)) => return Ok(Classified::NotJson),
            Err(Undecodable::UnusedEvent(_)) => return Ok(Classified::Unsubscribed),
            Err(Undecodable::NoPullRequest(reason)) => NewState::Ignored {
                reason: (*reason).to_owned(),
            },
            Err(Undecodable::Shape(reason)) => NewState::Dead {
                reason: format!("cannot be decoded: {reason}"),
            },
            Err(Undecodable::OtherEvent(reason)) => NewState::Misnamed {
                reason: format!("cannot be decoded: {reason}"),
            },
            Ok(_) => NewState::Pending {
                due: self.received_at,
            },
        };
        let decoded = decoded.ok().map(|mut decoded| {
            event::without_impossible_times(&mut decoded.event, self.received_at.into());
            decoded
        });
        let guid = &self.guid;
        for UnreadPart { path, error } in decoded.iter().flat_map(|decoded| &decoded.unread) {
            counter!(PARTS_UNREAD, "part" => path.clone()).increment(1);
            tracing::debug!(
                delivery.guid = guid,
                part = path,
                error,
                "`{path}` of delivery {guid} is not understood and does not count: {error}"
            );
        }
        let event = decoded.as_ref().map(|decoded| &decoded.event);
        let json = self.json;
        let mut delivery = self.into_row(event, state)?;
        if matches!(
            delivery.state,
            NewState::Dead { .. } | NewState::Misnamed { .. }
        ) {
            let outline = event::outline(json);
            delivery.action = outline.action;
            delivery.repo = outline.repo;
            delivery.pr_number = outline.number;
        }
        Ok(Classified::Delivery(
            Box::new(delivery),
            decoded.map(Box::new),
        ))
    }

    fn into_row(self, event: Option<&Event>, state: NewState) -> io::Result<NewDelivery> {
        Ok(NewDelivery {
            body_sha256: Sha256::digest(self.json).into(),
            action: event.and_then(Event::action).map(str::to_owned),
            repo: event
                .and_then(Event::repo)
                .map(|repo| (repo.id, repo.name.clone())),
            pr_number: event.and_then(Event::pr_key).map(|key| key.number),
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

/// Returns the delivery of a fetched pull request. Every fetch returns the same one until the pull
/// request changes.
///
/// # Errors
/// Only if there is no memory to write or compress it.
pub fn fetched(
    pull_request: FetchedPullRequest,
    source: Source,
    lane: Lane,
    received_at: Moment,
) -> io::Result<NewDelivery> {
    let guid = PullRequest::id(pull_request.key()).to_string();
    let event = Event::Snapshot(pull_request);
    let json = serde_json::to_string(&event)?;
    let json = event::storable_json(&json);
    let incoming = IncomingDelivery {
        guid,
        event: event.name().to_owned(),
        json: json.as_bytes(),
        source,
        lane,
        received_at,
    };
    incoming.into_row(Some(&event), NewState::Pending { due: received_at })
}
