//! The inbox: every delivery that was accepted, and how far it has come.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tallyhook_core::delivery::{DeliveryId, Lane};
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::event::{self, Event, Undecodable};
use tallyhook_core::github::types::{PrNumber, RepoId};
use utoipa::ToSchema;

use crate::{Moment, Result, StoredBody};

/// How far a delivery has come.
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
    /// Of the JSON body: with the GUID it tells a repetition.
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
    /// To be worked on. `due` is when the sweeper hands it to the queue: at once where the caller does not.
    Pending { due: Moment },
    /// Nothing in it for us.
    Ignored { reason: String },
    /// Cannot be decoded; kept for a person to look at.
    Dead { reason: String },
}

/// What became of a delivery that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    Stored(DeliveryId),
    /// This GUID with this body is there already.
    Duplicate,
    /// It was there and dead, and is to be tried again.
    Requeued(DeliveryId),
}

/// A delivery that is still to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub id: DeliveryId,
    /// An earlier attempt did not finish it.
    pub tried: bool,
    pub body_bytes: u64,
}

/// Nothing is put off for longer than this; see `HANDED_OVER_AGAIN`.
pub(crate) const IMPLAUSIBLE: TimeDelta = TimeDelta::minutes(10);

/// What went wrong is kept so often; more of the same says no more.
pub(crate) const HISTORY: u32 = 50;

/// Cuts deliveries into portions whose bodies take at most `bytes` of memory, unless one alone takes more.
pub fn portions(deliveries: &[Waiting], bytes: u64) -> Vec<Vec<DeliveryId>> {
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

/// What became of deliveries that a worker asked for.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// By id.
    pub claimed: Vec<Unfinished>,
    pub exhausted: Vec<Exhausted>,
}

/// A delivery that used up its attempts and is a dead letter now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    pub id: DeliveryId,
    pub guid: String,
    pub event: String,
    pub reason: String,
}

/// A delivery that is still to be done, with its body.
#[derive(Clone, Debug)]
pub struct Unfinished {
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

impl Unfinished {
    /// What it tells: what was fetched in our words, a webhook, whoever brought it, in GitHub's.
    ///
    /// # Errors
    /// [`Undecodable`], also where its body is missing or damaged.
    pub fn event(&self) -> Result<Event, Undecodable> {
        let missing = || Undecodable::Shape("its body is missing".to_owned());
        let body = self.body.as_ref().ok_or_else(missing)?.decompress();
        let body = body
            .map_err(|error| Undecodable::Shape(format!("its stored body is damaged: {error}")))?;
        // A webhook cannot pretend to be what was fetched, whatever its name.
        let is_ours = self.source != Source::Webhook && self.event == event::SNAPSHOT;
        if is_ours {
            event::decode_fetched(&body)
        } else {
            event::decode(&self.event, &body)
        }
    }
}

/// One thing that went wrong with a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
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
    pub history: Vec<Failure>,
}

/// Which deliveries are asked for. Newest first.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    pub state: Option<DeliveryState>,
    pub event: Option<String>,
    pub repo: Option<String>,
    /// Only those before this one, which is how a list goes on.
    pub before: Option<DeliveryId>,
}

/// Which dead letters are meant.
#[derive(Clone, Debug)]
pub enum DeadSelection {
    Ids(Vec<DeliveryId>),
    /// Those that agree in everything that is told; nothing told means all.
    Like(DeadLike),
}

/// What dead letters of a group have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLike {
    pub reason: Option<String>,
    pub event: Option<String>,
    /// `owner/name`
    pub repo: Option<String>,
}

/// Dead letters that died of the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadGroup {
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

/// How many deliveries are in each state, and since when the oldest unfinished one waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub accepted: u64,
    pub applied: u64,
    pub ignored: u64,
    pub dead: u64,
    pub oldest_pending: Option<Moment>,
}

/// What a round of cleaning removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub bodies: u64,
    pub rows: u64,
}
