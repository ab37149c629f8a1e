//! The identity of a delivery on its way through inbox and queue.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A time by our own clock. GitHub's times are [`crate::github::types::Timestamp`].
pub type Moment = DateTime<Utc>;

/// The id of a delivery's row in the inbox. Ascends approximately in the order of acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(pub i64);

/// The lane of a delivery: backfill never holds up live deliveries.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    Live,
    Backfill,
}

impl Lane {
    pub const ALL: [Self; 2] = [Self::Live, Self::Backfill];

    /// The stored and published name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backfill => "backfill",
        }
    }
}
