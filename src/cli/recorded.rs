//! Recorded deliveries: the input of `replay` and the output of `deliveries export`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// A delivery as GitHub sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedDelivery {
    pub(crate) event: String,
    pub(crate) guid: String,
    /// The time of delivery, if recorded; RFC 3339, so that texts sort as times do.
    pub(crate) delivered_at: Option<String>,
    pub(crate) payload: Vec<u8>,
}

/// The used fields of one delivery of GitHub's deliveries API.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ApiDelivery {
    pub(super) guid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delivered_at: Option<String>,
    pub(super) event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) action: Option<String>,
    pub(super) request: ApiRequest,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ApiRequest {
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) payload: Box<RawValue>,
}

impl ApiDelivery {
    fn into_recorded(self) -> anyhow::Result<RecordedDelivery> {
        let header = |wanted: &str| {
            let found = self
                .request
                .headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.clone())
        };
        let event = header("X-GitHub-Event")
            .or(self.event.clone())
            .context("it does not name its event")?;
        let payload = self.request.payload.get().as_bytes().to_vec();
        let guid = header("X-GitHub-Delivery")
            .or(self.guid.clone())
            .unwrap_or_else(|| guid_of(&event, &payload));
        Ok(RecordedDelivery {
            event,
            guid,
            delivered_at: self.delivered_at,
            payload,
        })
    }
}

/// Derives the GUID of a payload without one: the same payload has the same GUID, so that a second
/// replay changes nothing.
fn guid_of(event: &str, payload: &[u8]) -> String {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"tallyhook:replayed-delivery");
    Uuid::new_v5(&Uuid::new_v5(&namespace, event.as_bytes()), payload).to_string()
}

/// Reads every recorded delivery below `paths`, in the order of files' names and lines.
///
/// # Errors
/// The first file that cannot be used, and the reason.
pub(super) fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<RecordedDelivery>> {
    let mut recorded = Vec::new();
    for path in paths {
        if path.is_dir() {
            for file in files_below(path)? {
                read_into(&mut recorded, &file, UnknownFile::Skip)?;
            }
        } else {
            read_into(&mut recorded, path, UnknownFile::Refuse)?;
        }
    }
    Ok(recorded)
}

/// The treatment of a file without a recognisable delivery: a named file must have one, a file of a
/// folder may be anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnknownFile {
    Refuse,
    Skip,
}

fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read the folder {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(unreadable)?;
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>().with_context(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else if path.extension().is_some_and(|ending| {
            ["json", "jsonl", "ndjson"]
                .iter()
                .any(|known| ending == *known)
        }) {
            files.push(path);
        }
    }
    Ok(files)
}

fn read_into(
    recorded: &mut Vec<RecordedDelivery>,
    path: &Path,
    unknown: UnknownFile,
) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if path
        .extension()
        .is_some_and(|ending| ending == "jsonl" || ending == "ndjson")
    {
        recorded.extend(parse_lines(&text).with_context(|| path.display().to_string())?);
        return Ok(());
    }
    if let Some(deliveries) = parse_document(&text).with_context(|| path.display().to_string())? {
        recorded.extend(deliveries);
        return Ok(());
    }
    match event_of_path(path) {
        Some(event) => recorded.push(RecordedDelivery {
            event: event.to_owned(),
            guid: guid_of(event, text.as_bytes()),
            delivered_at: None,
            payload: text.into_bytes(),
        }),
        None if unknown == UnknownFile::Skip => {
            tracing::debug!(path = %path.display(), "not a delivery")
        }
        None => bail!(
            "{} is a bare payload whose name contains no event: rename it to EVENT.ACTION.json, such as pull_request.opened.json",
            path.display()
        ),
    }
    Ok(())
}

/// Parses JSON lines, one delivery each.
pub(crate) fn parse_lines(text: &str) -> anyhow::Result<Vec<RecordedDelivery>> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(place, line)| {
        let delivery: ApiDelivery =
            serde_json::from_str(line).with_context(|| format!("line {}", place + 1))?;
        delivery
            .into_recorded()
            .with_context(|| format!("line {}", place + 1))
    });
    parsed.collect()
}

/// Parses one delivery of the deliveries API, or an array of them; `None` for a bare payload.
fn parse_document(text: &str) -> anyhow::Result<Option<Vec<RecordedDelivery>>> {
    if let Ok(one) = serde_json::from_str::<ApiDelivery>(text) {
        return Ok(Some(vec![one.into_recorded()?]));
    }
    if let Ok(many) = serde_json::from_str::<Vec<ApiDelivery>>(text) {
        return many
            .into_iter()
            .map(ApiDelivery::into_recorded)
            .collect::<anyhow::Result<_>>()
            .map(Some);
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text).context("not JSON")?;
    Ok(None)
}

/// Returns the event in a file's name: `pull_request.opened.json`,
/// `pull_request/opened.payload.json`, `pull_request_edited_title.json`.
fn event_of_path(path: &Path) -> Option<&'static str> {
    let name = |part: Option<&std::ffi::OsStr>| {
        part.and_then(std::ffi::OsStr::to_str)
            .map(|name| name.replace('-', "_"))
    };
    let file = name(path.file_name())?;
    let stem = file.split('.').next()?;
    let folder = name(path.parent().and_then(Path::file_name)).unwrap_or_default();
    let exact = |wanted: &str| EVENTS.iter().find(|event| **event == wanted).copied();
    let longest_start = || {
        let starts = EVENTS.iter().filter(|event| {
            stem.strip_prefix(**event)
                .is_some_and(|rest| rest.starts_with('_'))
        });
        starts.max_by_key(|event| event.len()).copied()
    };
    exact(stem)
        .or_else(|| exact(&folder))
        .or_else(longest_start)
}

/// GitHub's webhook events.
const EVENTS: [&str; 73] = [
    "branch_protection_configuration",
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "code_scanning_alert",
    "commit_comment",
    "create",
    "custom_property",
    "custom_property_values",
    "delete",
    "dependabot_alert",
    "deploy_key",
    "deployment",
    "deployment_protection_rule",
    "deployment_review",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "github_app_authorization",
    "gollum",
    "installation",
    "installation_repositories",
    "installation_target",
    "issue_comment",
    "issue_dependencies",
    "issues",
    "label",
    "marketplace_purchase",
    "member",
    "membership",
    "merge_group",
    "meta",
    "milestone",
    "org_block",
    "organization",
    "package",
    "page_build",
    "personal_access_token_request",
    "ping",
    "project",
    "project_card",
    "project_column",
    "projects_v2",
    "projects_v2_item",
    "projects_v2_status_update",
    "public",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_review_thread",
    "push",
    "registry_package",
    "release",
    "repository",
    "repository_advisory",
    "repository_dispatch",
    "repository_import",
    "repository_ruleset",
    "repository_vulnerability_alert",
    "secret_scanning_alert",
    "secret_scanning_alert_location",
    "secret_scanning_scan",
    "security_advisory",
    "security_and_analysis",
    "sponsorship",
    "star",
    "status",
    "sub_issues",
    "team",
    "team_add",
    "workflow_job",
    "workflow_run",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_read_from_the_name_of_a_file() {
        for (path, event) in [
            ("pull_request.opened.json", Some("pull_request")),
            (
                "octokit/pull_request/opened.payload.json",
                Some("pull_request"),
            ),
            (
                "octokit/pull_request_review/submitted.payload.json",
                Some("pull_request_review"),
            ),
            ("ping/payload.json", Some("ping")),
            ("pull_request_edited_title.json", Some("pull_request")),
            (
                "installation_repositories_added.json",
                Some("installation_repositories"),
            ),
            ("check-run.json", Some("check_run")),
            ("01-quick-review.expected.json", None),
        ] {
            assert_eq!(event_of_path(Path::new(path)), event, "{path}");
        }
    }

    #[test]
    fn deliveries_of_the_api_keep_guid_and_payload_bytes() {
        let line = r#"{"guid":"g","event":"ping","request":{"headers":{"x-github-event":"push"},"payload":{"b":1, "a":2}}}"#;
        let expected = RecordedDelivery {
            event: "push".into(),
            guid: "g".into(),
            delivered_at: None,
            payload: br#"{"b":1, "a":2}"#.into(),
        };
        assert_eq!(parse_lines(line).unwrap(), std::slice::from_ref(&expected));
        assert_eq!(
            parse_document(&format!("[{line}]")).unwrap(),
            Some(vec![expected])
        );
        assert_eq!(parse_document(r#"{"zen":"x"}"#).unwrap(), None);
        assert!(parse_document("{").is_err());
        assert!(parse_lines("{}").is_err());
    }

    #[test]
    fn guid_of_a_bare_payload_is_stable() {
        assert_eq!(guid_of("ping", b"{}"), guid_of("ping", b"{}"));
        assert_ne!(guid_of("ping", b"{}"), guid_of("push", b"{}"));
    }
}
