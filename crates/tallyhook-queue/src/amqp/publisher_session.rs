//! One publishing connection: its topology, its canaries and its messages.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, Event, PublisherConfirm};
use tokio::time::timeout;

use super::super::Publication;
use super::publishing::{InFlight, Outgoing, PublishedMessage};
use super::{DeadCopy, Lane, connect, topology, within};

const CANARY_NAME: &str = "canary";
/// The depth of a lane from which on it gets no canary: without a worker canaries would pile up.
const CANARY_DEPTH: usize = 100;
/// The number of canaries after which the topology is declared again: a person may have deleted a
/// binding.
const DECLARE_EVERY: u32 = 12;
/// The time limit of the first canary of a connection.
const FIRST_CANARY_TIMEOUT: Duration = Duration::from_secs(3);
/// The header that marks a dead letter's copy, and holds the reason.
pub(super) const DEAD_HEADER: &str = "tallyhook-reason";

/// The events of a connection.
pub(super) type ConnectionEvents = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// The reason why a connection could not be opened.
pub(super) enum OpenFailure {
    Failed(String),
    /// The broker answers, but its lanes confirm no message.
    DeadLanes,
}

impl From<String> for OpenFailure {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// A publishing connection whose lanes confirmed a message, or that is blocked.
pub(super) struct PublisherSession {
    connection: Connection,
    channel: Channel,
    /// The channel for declarations and queries: one that fails closes its channel.
    pub(super) control: Channel,
    /// The lanes were dead and have been replaced.
    pub(super) lanes_replaced: bool,
}

impl PublisherSession {
    /// Connects, declares the topology and sends a canary through each lane. With `replace_lanes`
    /// dead lanes are deleted and declared again; `probe` is as in [`connect`].
    pub(super) async fn open(
        uri: &AMQPUri,
        replace_lanes: bool,
        probe: bool,
    ) -> Result<(Self, ConnectionEvents), OpenFailure> {
        let connection = connect(uri, "publisher", probe).await?;
        // Before the first request, so that no event is missed.
        let events: ConnectionEvents = Box::pin(connection.events_listener());
        let control = within("opening a channel", connection.create_channel()).await?;
        if replace_lanes {
            // One of several processes does it; the canaries of the others then succeed.
            topology::lock(&control).await?;
        }
        topology::declare(&control).await?;
        let channel = within("opening a channel", connection.create_channel()).await?;
        within(
            "asking for confirms",
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await?;
        let mut session = Self {
            connection,
            channel,
            control,
            lanes_replaced: false,
        };
        match session.check_lanes().await {
            Err(OpenFailure::DeadLanes) if replace_lanes => {
                tracing::warn!(
                    "the lanes confirm no message: deleting and declaring them again; the relay \
                     refills them from the inbox"
                );
                topology::delete_lanes(&session.control).await?;
                topology::declare(&session.control).await?;
                session.check_lanes().await?;
                session.lanes_replaced = true;
            }
            tried => tried?,
        }
        if replace_lanes {
            topology::unlock(&session.control).await?;
        }
        Ok((session, events))
    }

    /// Sends a canary through each lane: declaring a dead queue succeeds as if it were alive.
    async fn check_lanes(&self) -> Result<(), OpenFailure> {
        for lane in Lane::ALL {
            let confirm = self.send_canary(lane).await?;
            match timeout(FIRST_CANARY_TIMEOUT, confirm).await {
                // A full lane nacks, so that it works.
                Ok(Ok(Confirmation::Ack(None) | Confirmation::Nack(None))) => {}
                _ if self.is_blocked() => return Ok(()),
                _ if !self.connection.status().connected() => {
                    return Err(OpenFailure::Failed("the connection failed".to_owned()));
                }
                _ => return Err(OpenFailure::DeadLanes),
            }
        }
        Ok(())
    }

    pub(super) async fn send(
        &self,
        outgoing: Outgoing,
    ) -> Result<(PublishedMessage, PublisherConfirm), String> {
        match outgoing {
            Outgoing::Delivery(
                lane,
                id,
                Publication {
                    event,
                    action,
                    json,
                },
            ) => {
                let key = format!("{}.{event}", lane.as_str());
                let kind =
                    action.map_or_else(|| event.clone(), |action| format!("{event}.{action}"));
                let confirm = self
                    .publish(
                        topology::EVENTS,
                        &key,
                        properties(&id.0.to_string(), &kind),
                        &json,
                    )
                    .await?;
                tallyhook_core::crash_point::reached("queue.published");
                Ok((PublishedMessage::Delivery(lane, id), confirm))
            }
            Outgoing::Dead(copy, confirmed) => {
                let confirm = self.send_dead_copy(*copy).await?;
                Ok((PublishedMessage::Dead(confirmed), confirm))
            }
        }
    }

    /// Publishes a dead letter's copy to the queue itself, with its reason, event and repository as
    /// headers.
    async fn send_dead_copy(&self, copy: DeadCopy) -> Result<PublisherConfirm, String> {
        let DeadCopy {
            id,
            publication:
                Publication {
                    event,
                    action,
                    json,
                },
            reason,
            repo,
        } = copy;
        let kind = action.map_or_else(|| event.clone(), |action| format!("{event}.{action}"));
        let mut headers = FieldTable::default();
        let repo = repo.map(|repo| ("tallyhook-repo", repo));
        for (name, text) in [(DEAD_HEADER, reason), ("tallyhook-event", event)]
            .into_iter()
            .chain(repo)
        {
            let text = LongString::from(shortened(&text));
            headers.insert(name.into(), AMQPValue::LongString(text));
        }
        let properties = properties(&id.0.to_string(), &kind).with_headers(headers);
        self.publish("", topology::DEAD, properties, &json).await
    }

    /// Publishes to the queue itself: the exchange would route an unroutable message to the
    /// alternate exchange.
    async fn send_canary(&self, lane: Lane) -> Result<PublisherConfirm, String> {
        self.publish(
            "",
            topology::queue(lane),
            properties(CANARY_NAME, CANARY_NAME),
            b"{}",
        )
        .await
    }

    /// Sends a canary through each lane that is quiet and not deep.
    pub(super) async fn send_canaries(
        &self,
        work: &mut InFlight,
    ) -> Result<Vec<(PublishedMessage, PublisherConfirm)>, String> {
        work.canaries += 1;
        if work.canaries.is_multiple_of(DECLARE_EVERY) {
            topology::declare(&self.control).await?;
        }
        let active = std::mem::take(&mut work.active);
        let mut sent = Vec::new();
        for lane in Lane::ALL {
            if !active.contains(&lane) && topology::depth(&self.control, lane).await? < CANARY_DEPTH
            {
                sent.push((
                    PublishedMessage::Canary(lane),
                    self.send_canary(lane).await?,
                ));
            }
        }
        Ok(sent)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    async fn publish(
        &self,
        exchange: &'static str,
        key: &str,
        properties: BasicProperties,
        json: &[u8],
    ) -> Result<PublisherConfirm, String> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        within(
            "sending",
            self.channel.basic_publish(
                exchange.into(),
                shortened(key).into(),
                options,
                json,
                properties,
            ),
        )
        .await
    }

    pub(super) async fn close(&self) {
        // A failed connection cannot be closed, and is dropped.
        drop(
            timeout(
                Duration::from_secs(1),
                self.connection.close(200, "done".into()),
            )
            .await,
        );
    }
}

/// Cuts a text at AMQP's limit of 255 bytes for short texts; actions and names come from payloads.
fn shortened(text: &str) -> &str {
    const MAX_BYTES: usize = 255;
    let end = (0..=MAX_BYTES.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

fn properties(message_id: &str, kind: &str) -> BasicProperties {
    const PERSISTENT: u8 = 2;
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_app_id("tallyhook".into())
        .with_message_id(message_id.into())
        .with_type(shortened(kind).into())
}

/// Returns whether a message was sent only to prove that the queue works.
pub(super) fn is_canary(properties: &BasicProperties) -> bool {
    properties
        .kind()
        .as_ref()
        .is_some_and(|kind| kind.as_str() == CANARY_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("pull_request.opened"), "pull_request.opened");
        assert_eq!(shortened(&"x".repeat(300)).len(), 255);
        let long = format!("{}\u{1f980}", "x".repeat(253));
        assert_eq!(shortened(&long), "x".repeat(253));
    }
}
