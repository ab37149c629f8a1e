//! A second look at a body that cannot be decoded, for the person who finds it among the dead
//! letters: what it is about all the same.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::is_repository_name;
use crate::github::types::{PrNumber, RepoId};
use crate::text::one_line;

/// The longest action that is kept of an undecodable body.
const MAX_ACTION: usize = 50;

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
