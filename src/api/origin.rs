//! The origin of a pull request in the API's form.

use serde::{Deserialize, Serialize};
use tallyhook_core::domain::origin::{Origin, OriginCertainty};
use tallyhook_core::github::types::Timestamp;
use tallyhook_store::OriginRow;
use utoipa::ToSchema;

/// The origin of a pull request, and the parts that bots have in it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OriginItem {
    /// Null is unknown: opened by a person, and its commits were not fetched.
    pub origin: Option<Origin>,
    /// The ground that `origin` rests on.
    pub origin_certainty: Option<OriginCertainty>,
    /// Login of the person for whom an AI agent opened it.
    #[schema(example = "mira")]
    pub opened_by: Option<String>,
    /// True if that person reviewed it, which GitHub does not count as an approval.
    pub reviewed_by_requester: bool,
    /// First review or comment by a bot while it was under review.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub first_bot_response_at: Option<Timestamp>,
    /// First review by an AI account while it was under review.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub first_ai_review_at: Option<Timestamp>,
}

impl From<OriginRow> for OriginItem {
    fn from(row: OriginRow) -> Self {
        Self {
            origin: row.origin,
            origin_certainty: row.certainty,
            opened_by: row.opened_by,
            reviewed_by_requester: row.reviewed_by_requester,
            first_bot_response_at: row.first_bot_response_at,
            first_ai_review_at: row.first_ai_review_at,
        }
    }
}
