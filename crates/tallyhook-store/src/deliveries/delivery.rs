//! The inbox: every delivery that was accepted, and its state.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tallyhook_core::delivery::{DeliveryId, Lane};
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::event::{self, Event, Undecodable};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId};
use utoipa::ToSchema;

use crate::{Moment, NO_REPOSITORY, StoredBody};

/// The state of a delivery.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Stored, and not finished yet.
    Accepted,
    Applied,
    Ignored,
    Dead,
}

impl DeliveryState {
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Applied, Self::Ignored, Self::Dead];

    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Dead => "dead",
        }
    }
}

/// A delivery that is to be stored.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    pub guid: String,
    /// Digest of the JSON body. Together with the GUID it identifies a repetition.
    pub body_sha256: [u8; 32],
    pub event: String,
    pub action: Option<String>,
    pub repo: Option<(RepoId, String)>,
    pub pr_number: Option<PrNumber>,
    pub source: Source,
    pub lane: Lane,
    pub received_at: Moment,
    pub body: StoredBody,
    pub state: NewState,
}

/// The state in which a delivery is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewState {
    /// To be worked on. `due` is when the sweeper hands it to the queue: at once where the caller
    /// does not.
    Pending { due: Moment },
    /// Without any content of interest.
    Ignored { reason: String },
    /// Cannot be decoded; kept for a person to look at.
    Dead { reason: String },
    /// Dead, since its body is that of another event. The unsigned header that named it changes no
    /// row that is there already.
    Misnamed { reason: String },
}

/// The outcome of accepting a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptOutcome {
    Stored(DeliveryId),
    /// This GUID with this body is there already.
    Duplicate,
    /// It was there, dead or under the name of another event, and is to be tried again.
    Requeued(DeliveryId),
}

/// A delivery that is still to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingDelivery {
    pub id: DeliveryId,
    /// The pull request that it is about, as it was accepted.
    pub key: Option<PrKey>,
    /// An earlier attempt did not finish it.
    pub tried: bool,
    pub body_bytes: u64,
}

/// A due time further ahead than this is wrong: longer than the queue's `REPUBLISH_AFTER`.
pub(crate) const IMPLAUSIBLE: TimeDelta = TimeDelta::minutes(10);

/// The most failures kept in a history; more of the same add no information.
pub(crate) const HISTORY: u32 = 50;

/// Cuts deliveries into portions whose bodies take at most `bytes` of memory, unless one alone
/// takes more.
pub fn portions(deliveries: &[PendingDelivery], bytes: u64) -> Vec<Vec<DeliveryId>> {
    let mut portions: Vec<Vec<DeliveryId>> = Vec::new();
    let mut taken = u64::MAX;
    for delivery in deliveries {
        taken = taken.saturating_add(delivery.body_bytes);
        match portions.last_mut() {
            Some(portion) if taken <= bytes => portion.push(delivery.id),
            _ => {
                portions.push(vec![delivery.id]);
                taken = delivery.body_bytes;
            }
        }
    }
    portions
}

/// The outcome of a claim.
#[derive(Clone, Debug, Default)]
pub struct ClaimedDeliveries {
    /// By id.
    pub claimed: Vec<UnfinishedDelivery>,
    pub exhausted: Vec<ExhaustedDelivery>,
}

/// A delivery that used up its attempts and is a dead letter now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExhaustedDelivery {
    pub id: DeliveryId,
    pub guid: String,
    pub event: String,
    pub reason: String,
}

/// A delivery that is still to be done, with its body.
#[derive(Clone, Debug)]
pub struct UnfinishedDelivery {
    pub id: DeliveryId,
    pub guid: String,
    pub event: String,
    pub source: Source,
    pub received_at: Moment,
    /// The one that was claimed for counted.
    pub attempts: u32,
    /// `None` if it is missing, which is a defect worth a dead letter.
    pub body: Option<StoredBody>,
}

impl UnfinishedDelivery {
    /// Decodes the event: of a fetched snapshot from our own format, of a webhook, from any source,
    /// from GitHub's. Times that cannot be, as of its receipt, are taken out.
    ///
    /// # Errors
    /// [`Undecodable`], also where its body is missing or damaged.
    pub fn event(&self) -> Result<Event, Undecodable> {
        let missing = || Undecodable::Shape("its body is missing".to_owned());
        let body = self.body.as_ref().ok_or_else(missing)?.decompress();
        let body = body
            .map_err(|error| Undecodable::Shape(format!("its stored body is damaged: {error}")))?;
        // A webhook cannot pass as a fetched pull request, even under the name of one.
        let is_ours = self.source != Source::Webhook && self.event == event::SNAPSHOT;
        let mut event = if is_ours {
            event::decode_fetched(&body)?
        } else {
            event::decode(&self.event, &body)?
        };
        event::without_impossible_times(&mut event, self.received_at.into());
        Ok(event)
    }
}

/// A failed attempt at a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Failure)]
pub struct DeliveryFailure {
    /// RFC 3339.
    #[schema(value_type = String, format = "date-time")]
    pub at: Moment,
    pub attempt: u32,
    pub error: String,
}

/// A stored delivery, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub id: DeliveryId,
    pub guid: String,
    pub event: String,
    pub action: Option<String>,
    pub repo: Option<String>,
    pub pr_number: Option<PrNumber>,
    pub source: Source,
    pub state: DeliveryState,
    pub reason: Option<String>,
    pub attempts: u32,
    pub received_at: Moment,
    pub next_attempt_at: Option<Moment>,
    pub finished_at: Option<Moment>,
    pub body_bytes: u64,
    pub history: Vec<DeliveryFailure>,
}

/// A selection of dead letters.
#[derive(Clone, Debug)]
pub enum DeadLetterSelection {
    Ids(Vec<DeliveryId>),
    /// Those that match everything that is given; nothing given means all.
    Like(DeadLetterMatch),
}

/// The attributes that dead letters of a group share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterMatch {
    pub reason: Option<String>,
    pub event: Option<String>,
    /// `owner/name`, or [`NO_REPOSITORY`](crate::NO_REPOSITORY).
    pub repo: Option<String>,
}

impl DeadLetterMatch {
    /// Returns whether the dead letters of a group match; GitHub takes names of repositories in any
    /// case.
    pub fn matches(&self, group: &DeadLetterGroup) -> bool {
        let is = |wanted: &Option<String>, value: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == value
        };
        is(&self.reason, Some(&group.reason))
            && is(&self.event, Some(&group.event))
            && self.repo.as_deref().is_none_or(|wanted| {
                let name = group.repo.as_deref().unwrap_or(NO_REPOSITORY);
                name.eq_ignore_ascii_case(wanted)
            })
    }
}

/// Dead letters that died of the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadGroup)]
pub struct DeadLetterGroup {
    pub reason: String,
    pub event: String,
    /// `owner/name`; null where the delivery names none.
    pub repo: Option<String>,
    pub deliveries: u64,
    /// When the first of them was received, RFC 3339.
    #[schema(value_type = String, format = "date-time")]
    pub first_received_at: Moment,
    /// When the last of them was received, RFC 3339.
    #[schema(value_type = String, format = "date-time")]
    pub last_received_at: Moment,
}

/// The number of deliveries in each state, and the time since which the oldest unfinished one
/// waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    pub accepted: u64,
    pub applied: u64,
    pub ignored: u64,
    pub dead: u64,
    pub oldest_pending: Option<Moment>,
}

/// The number of bodies and rows that a purge deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgeCounts {
    pub bodies: u64,
    pub rows: u64,
}
