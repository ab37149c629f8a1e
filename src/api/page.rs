//! Pages of lists, continued by an opaque cursor.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;

/// One page of a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The `cursor` of the next page; null on the last one. A page before may be short, or empty,
    /// where few of many match.
    pub next: Option<String>,
    /// The number of all items; in a list that can count them, and was asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub count: Option<ListCount>,
}

impl<T> Page<T> {
    /// Returns a list that was not counted.
    pub fn new(items: Vec<T>, next: Option<String>) -> Self {
        let count = None;
        Self { items, next, count }
    }
}

/// The number of all items of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListCount {
    #[schema(example = 86)]
    pub n: u64,
    /// False if there may be more.
    pub exact: bool,
}

/// The number of items of a page: 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageSize(u32);

impl PageSize {
    pub(super) const MAX: Self = Self(100);

    /// Returns the number of rows that a page needs: one more shows whether there is a next page.
    pub(super) fn rows(self) -> u32 {
        self.0 + 1
    }

    /// Leaves the rows of the page. Returns whether there was one more.
    pub(super) fn truncate<R>(self, rows: &mut Vec<R>) -> bool {
        let has_more = rows.len() > self.0 as usize;
        rows.truncate(self.0 as usize);
        has_more
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self(30)
    }
}

impl<'de> Deserialize<'de> for PageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let most = Self::MAX.0;
        let size = u32::try_from(i64::deserialize(deserializer)?).ok();
        let size = size.filter(|size| (1..=most).contains(size));
        let wrong = || de::Error::custom(format!("expected a whole number from 1 to {most}"));
        size.map(Self).ok_or_else(wrong)
    }
}

/// Makes a page of the [`PageSize::rows`] that were read.
pub(super) fn page<R, T, C: Serialize>(
    mut rows: Vec<R>,
    size: PageSize,
    cursor: impl Fn(&R) -> C,
    item: impl Fn(R) -> T,
) -> Page<T> {
    let more = size.truncate(&mut rows);
    let next = rows
        .last()
        .filter(|_| more)
        .map(|last| encode(&cursor(last)));
    Page::new(rows.into_iter().map(item).collect(), next)
}

/// Returns the text of a place in a list, as clients send it back.
pub(super) fn encode(cursor: &impl Serialize) -> String {
    // Numbers and tuples of them always have a JSON form.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(cursor).unwrap_or_default())
}

/// Reads a cursor that [`page`] made.
///
/// # Errors
/// If it is not a cursor of this list.
pub(super) fn decode<C: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<C>, ApiError> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let json = URL_SAFE_NO_PAD
        .decode(cursor)
        .map_err(|_| foreign_cursor())?;
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|_| foreign_cursor())
}

/// The error of a cursor that no page of this list made.
pub(super) fn foreign_cursor() -> ApiError {
    ApiError::BadRequest("`cursor` is not one of this list: start without it".to_owned())
}
