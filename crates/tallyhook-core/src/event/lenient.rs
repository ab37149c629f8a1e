//! Payloads of which a part is not as expected.

use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::undecoded::{error_with_path, located};
use crate::github::payload::Payload;
use crate::text::one_line;

/// The most parts that are left out of one payload.
const MOST_PARTS: usize = 16;
/// The longest body that is read in this way, which may take a hundred times as much memory.
const LARGEST_BODY: usize = 256 * 1024;
const LONGEST_ERROR: usize = 100;

/// The keys whose values are never left out: without them it is not known which pull request a
/// payload shows, when, and in which state.
const REQUIRED: &[&str] = &[
    "action",
    "base",
    "closed_at",
    "created_at",
    "full_name",
    "head",
    "head_ref",
    "id",
    "issue",
    "merge_group",
    "merged_at",
    "number",
    "pull_request",
    "ref",
    "repository",
    "sha",
    "state",
    "updated_at",
];

/// The lists that say something only as a whole: who is missing in one is not asked.
const WHOLE_LISTS: &[&str] = &["assignees", "requested_reviewers", "requested_teams"];

/// A part of a payload that could not be read. The rest counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadPart {
    /// Its keys, as in `pull_request.labels`. They are those of the definition of payloads, so that
    /// there are few.
    pub path: String,
    pub error: String,
}

/// Reads a payload that cannot be read as a whole, for `error`: without the parts that are not as
/// expected, if they are decoration.
///
/// # Errors
/// The error about the part that is required, or the text of one that occurs too often.
pub(super) fn read(json: &str, error: &serde_json::Error) -> Result<Payload, String> {
    // Of two values of one field it is not known which one is meant.
    let is_repeated = error.to_string().starts_with("duplicate field");
    if is_repeated || json.len() > LARGEST_BODY {
        return Err(error_with_path(json).unwrap_or_else(|| error.to_string()));
    }
    let mut value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let mut unread = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, Payload>(&value) {
            Ok(payload) => return Ok(Payload { unread, ..payload }),
            Err(error) => error,
        };
        let path = steps(error.path());
        let text = error.inner().to_string();
        let is_decoration = |step: &String| !REQUIRED.contains(&step.as_str());
        let is_whole_list = |step: &String| WHOLE_LISTS.contains(&step.as_str());
        let part = path.iter().position(is_whole_list);
        let is_removed = match part.or_else(|| path.iter().rposition(is_decoration)) {
            Some(last) if unread.len() < MOST_PARTS => {
                unread.push(UnreadPart {
                    path: keys(&path[..=last]).join("."),
                    error: one_line(&text, LONGEST_ERROR),
                });
                remove(&mut value, &path[..last], &path[last])
            }
            _ => false,
        };
        if !is_removed {
            return Err(located(error.path(), error.inner()));
        }
    }
}

/// Returns the keys and indices to a value.
fn steps(path: &Path) -> Vec<String> {
    let steps = path.iter().filter_map(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    steps.collect()
}

fn keys(path: &[String]) -> Vec<&str> {
    let is_key = |step: &&str| !step.bytes().all(|byte| byte.is_ascii_digit());
    path.iter().map(String::as_str).filter(is_key).collect()
}

/// Returns false if there is nothing to remove.
fn remove(value: &mut Value, parent: &[String], step: &str) -> bool {
    let pointer: String = parent.iter().map(|step| format!("/{step}")).collect();
    match value.pointer_mut(&pointer) {
        Some(Value::Object(fields)) => fields.remove(step).is_some(),
        Some(Value::Array(items)) => match step.parse() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                true
            }
            _ => false,
        },
        _ => false,
    }
}
