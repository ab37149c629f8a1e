//! A second look at a body that cannot be decoded, for the person who finds it among the dead letters:
//! which field is at fault, and what the body is about all the same.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment};

use super::is_repository_name;
use crate::github::payload::Payload;
use crate::github::types::{PrNumber, RepoId};
use crate::text::one_line;

/// The longest action that is kept of an undecodable body.
const MAX_ACTION: usize = 50;

/// Returns the error of reading `json` as a payload, with the path of the field at fault. Only for
/// a payload that could not be read: keeping track of the path is slow.
pub(super) fn error_with_path(json: &str) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let failed = serde_path_to_error::deserialize::<_, Payload>(&mut reader).err()?;
    Some(located(failed.path(), failed.inner()))
}

/// Returns the text of an error, with the path of the field at fault.
pub(super) fn located(path: &Path, error: &serde_json::Error) -> String {
    let (path, error) = (dotted(path), error.to_string());
    let missing = error
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split_once('`'));
    match missing {
        _ if path.is_empty() => error,
        Some((field, rest)) => format!("missing field `{path}.{field}`{rest}"),
        None => format!("`{path}`: {error}"),
    }
}

/// Writes a path as `pull_request.labels[].name`. The places of a list are left out: they would put
/// dead letters of the same kind into different groups.
fn dotted(path: &Path) -> String {
    let mut dotted = String::new();
    for segment in path {
        match segment {
            Segment::Seq { .. } => dotted.push_str("[]"),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                if !dotted.is_empty() {
                    dotted.push('.');
                }
                dotted.push_str(key);
            }
            Segment::Unknown => {}
        }
    }
    dotted
}

/// The parts of an undecodable body by which a person finds its cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyOutline {
    pub action: Option<String>,
    pub repo: Option<(RepoId, String)>,
    pub number: Option<PrNumber>,
}

/// Reads what can be read of a body that cannot be decoded.
pub fn outline(body: &[u8]) -> BodyOutline {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Parts<'a> {
        #[serde(borrow)]
        action: Option<&'a RawValue>,
        #[serde(borrow)]
        repository: Option<&'a RawValue>,
        #[serde(borrow)]
        number: Option<&'a RawValue>,
        #[serde(borrow)]
        pull_request: Option<&'a RawValue>,
        #[serde(borrow)]
        issue: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Named {
        id: RepoId,
        full_name: String,
    }
    #[derive(Deserialize)]
    struct Numbered {
        number: PrNumber,
    }
    fn read<T: DeserializeOwned>(part: Option<&RawValue>) -> Option<T> {
        serde_json::from_str(part?.get()).ok()
    }
    let parts: Parts<'_> = serde_json::from_slice(body).unwrap_or_default();
    let action = read::<String>(parts.action).map(|action| one_line(&action, MAX_ACTION));
    let named = read(parts.repository).filter(|named: &Named| is_repository_name(&named.full_name));
    let numbered = read::<Numbered>(parts.pull_request).or_else(|| read(parts.issue));
    BodyOutline {
        action,
        repo: named.map(|named| (named.id, named.full_name)),
        number: read(parts.number).or(numbered.map(|numbered| numbered.number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_the_field_at_fault_by_its_path() {
        for (json, error) in [
            (
                r#"{"pull_request":{"id":1,"number":7,"state":"open"}}"#,
                "missing field `pull_request.created_at`",
            ),
            (
                r#"{"repositories":[{"id":1,"full_name":"a/b"},{"id":2}]}"#,
                "missing field `repositories[].full_name`",
            ),
            (
                r#"{"repository":{"id":"5"}}"#,
                "`repository.id`: invalid type: string \"5\", expected i64",
            ),
        ] {
            let found = error_with_path(json).unwrap();
            assert!(found.starts_with(error), "{found}");
        }
        assert_eq!(error_with_path("{}"), None);
    }

    #[test]
    fn outline_has_each_part_that_can_be_read() {
        let body = r#"{"action":"opened","number":"7","pull_request":{"number":7,"base":1},
            "repository":{"id":5,"full_name":"acme/api","private":"?"}}"#;
        let expected = BodyOutline {
            action: Some("opened".to_owned()),
            repo: Some((RepoId(5), "acme/api".to_owned())),
            number: Some(PrNumber(7)),
        };
        assert_eq!(outline(body.as_bytes()), expected);
        for nothing in [
            "",
            "[]",
            "{}",
            r#"{"action":1,"repository":{"id":5,"full_name":"no name"},"pull_request":[]}"#,
        ] {
            assert_eq!(
                outline(nothing.as_bytes()),
                BodyOutline::default(),
                "{nothing}"
            );
        }
    }
}
