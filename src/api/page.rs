//! Lists in pages: where a list goes on is told by an opaque cursor.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::error::ApiError;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` to go on; null at the end.
    pub next: Option<String>,
}

const DEFAULT: u32 = 30;
const MOST: u32 = 100;

/// How many items a page has.
///
/// # Errors
/// If it is not between 1 and 100.
pub(super) fn size(per_page: Option<u32>) -> Result<u32, ApiError> {
    match per_page.unwrap_or(DEFAULT) {
        size @ 1..=MOST => Ok(size),
        _ => Err(ApiError::BadRequest(format!(
            "per_page must be between 1 and {MOST}"
        ))),
    }
}

/// Makes a page of `rows`, of which one more than `size` was asked for so as to know whether there is more.
pub(super) fn page<R, T, C: Serialize>(
    mut rows: Vec<R>,
    size: u32,
    cursor: impl Fn(&R) -> C,
    item: impl Fn(R) -> T,
) -> Page<T> {
    let size = size as usize;
    let more = rows.len() > size;
    rows.truncate(size);
    let next = rows
        .last()
        .filter(|_| more)
        .map(|last| encode(&cursor(last)));
    Page {
        items: rows.into_iter().map(item).collect(),
        next,
    }
}

fn encode(cursor: &impl Serialize) -> String {
    // Numbers and tuples of them always have a JSON form.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(cursor).unwrap_or_default())
}

/// Reads a cursor that [`page`] made.
///
/// # Errors
/// If it was made by somebody else.
pub(super) fn decode<C: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<C>, ApiError> {
    let bad =
        || ApiError::BadRequest("the cursor is not one of this list; start without it".to_owned());
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let json = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad())?;
    serde_json::from_slice(&json).map(Some).map_err(|_| bad())
}
