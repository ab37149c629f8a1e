//! The queue: transport between the inbox and the workers. What it carries is an id; the row in the inbox is the truth.

mod in_process;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::in_process::{Permit, Queue};

/// What was handed over and is not finished by then is handed over again.
pub const HANDED_OVER_AGAIN: Duration = Duration::from_mins(5);

/// A delivery's row. Ascends in the order of acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(pub i64);

/// Live deliveries are never held up by backfill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    Live,
    Backfill,
}

impl Lane {
    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backfill => "backfill",
        }
    }
}
