//! Pages of lists, continued by an opaque cursor.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;

/// One page of a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
    pub next: Option<String>,
}

const DEFAULT_SIZE: u32 = 30;
pub(super) const MAX_SIZE: u32 = 100;

/// Returns the number of items of a page.
///
/// # Errors
/// If it is not between 1 and 100.
pub(super) fn size(per_page: Option<u32>) -> Result<u32, ApiError> {
    match per_page.unwrap_or(DEFAULT_SIZE) {
        size @ 1..=MAX_SIZE => Ok(size),
        _ => Err(ApiError::BadRequest(format!(
            "per_page must be between 1 and {MAX_SIZE}"
        ))),
    }
}

/// Makes a page of `rows`. One row more than `size` was requested, which shows whether there is a
/// next page.
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
/// If it is not a cursor of this list.
pub(super) fn decode<C: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<C>, ApiError> {
    let bad =
        || ApiError::BadRequest("the cursor is not one of this list; start without it".to_owned());
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let json = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad())?;
    serde_json::from_slice(&json).map(Some).map_err(|_| bad())
}
