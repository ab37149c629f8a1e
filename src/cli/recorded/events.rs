//! The event of a bare payload: as its content shows it, else as its file is named.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use tallyhook_core::event::shown_by;

/// The fields of a JSON object.
pub(super) type Fields<'t> = BTreeMap<String, &'t RawValue>;

/// Fields that are named as an event, and that payloads of other events have, too.
const SHARED_FIELDS: [&str; 3] = ["installation", "organization", "repository"];

/// Returns the event whose payload `payload` is, or as what its file is named if only GitHub's frame
/// shows that it is a payload.
pub(super) fn event_of(payload: &RawValue, path: Option<&Path>) -> Option<&'static str> {
    if let Some(kind) = shown_by(payload.get().as_bytes()) {
        return Some(kind.into());
    }
    let fields: Fields<'_> = serde_json::from_str(payload.get()).ok()?;
    if !is_framed(&fields) {
        return None;
    }
    shown_by_fields(&fields).or_else(|| path.and_then(event_of_path))
}

/// Returns the event of a payload that is not used here: most have a field of the event's name.
fn shown_by_fields(fields: &Fields<'_>) -> Option<&'static str> {
    let has = |field: &str| fields.contains_key(field);
    if has("zen") {
        return Some("ping");
    } else if has("issue") && !has("comment") && !has("pull_request") {
        return Some("issues");
    } else if has("discussion") && has("comment") {
        return Some("discussion_comment");
    }
    let named = EVENTS
        .iter()
        .filter(|event| has(event) && !SHARED_FIELDS.contains(event));
    named.max_by_key(|event| event.len()).copied()
}

/// Returns whether a JSON text has the frame of GitHub's payloads.
pub(super) fn is_payload(json: &str) -> bool {
    serde_json::from_str(json).is_ok_and(|fields| is_framed(&fields))
}

/// Returns whether the object is one that GitHub sends: with an action, or with an account or a
/// repository that has an id. A `package.json` is none.
fn is_framed(fields: &Fields<'_>) -> bool {
    #[derive(Deserialize)]
    struct Identified {
        #[serde(rename = "id")]
        _id: i64,
    }
    let reads = |field: &str, accepts: fn(&str) -> bool| {
        fields.get(field).is_some_and(|value| accepts(value.get()))
    };
    let frame = ["sender", "repository", "organization", "installation"];
    reads("action", |value| value.starts_with('"'))
        || reads("zen", |value| value.starts_with('"'))
        || frame.iter().any(|field| {
            reads(field, |value| {
                serde_json::from_str::<Identified>(value).is_ok()
            })
        })
}

/// Returns the event in a file's name: `pull_request.opened.json`,
/// `pull_request/opened.payload.json`. A name that only begins with one says nothing.
fn event_of_path(path: &Path) -> Option<&'static str> {
    let name = |part: Option<&OsStr>| {
        part.and_then(OsStr::to_str)
            .map(|name| name.replace('-', "_"))
    };
    let file = name(path.file_name())?;
    let folder = name(path.parent().and_then(Path::file_name));
    known(file.split('.').next()?).or_else(|| known(&folder?))
}

/// Returns the event of that name.
pub(super) fn known(name: &str) -> Option<&'static str> {
    EVENTS.iter().find(|event| **event == name).copied()
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
    fn name_of_a_file_is_an_event_only_as_a_whole() {
        for (path, event) in [
            ("pull_request.opened.json", Some("pull_request")),
            (
                "octokit/pull_request/opened.payload.json",
                Some("pull_request"),
            ),
            ("ping/payload.json", Some("ping")),
            ("check-run.json", Some("check_run")),
            ("pull_request_edited_title.json", None),
            ("status_report.json", None),
            ("01-quick-review.expected.json", None),
        ] {
            assert_eq!(event_of_path(Path::new(path)), event, "{path}");
        }
    }

    #[test]
    fn content_shows_the_event_whatever_the_file_is_called() {
        let frame = r#""sender":{"id":1},"repository":{"id":5,"full_name":"a/b"}"#;
        for (fields, path, event) in [
            (
                r#""action":"opened","pull_request":{}"#,
                "push.json",
                Some("pull_request"),
            ),
            (
                r#""action":"submitted","pull_request":{},"review":{}"#,
                "x.json",
                Some("pull_request_review"),
            ),
            (
                r#""action":"created","issue":{},"comment":{}"#,
                "x.json",
                Some("issue_comment"),
            ),
            (
                r#""action":"opened","issue":{}"#,
                "pull_request.json",
                Some("issues"),
            ),
            (
                r#""ref":"r","before":"b","after":"a""#,
                "x.json",
                Some("push"),
            ),
            (
                r#""ref":"r","ref_type":"branch""#,
                "create.json",
                Some("create"),
            ),
            (r#""ref":"r","ref_type":"branch""#, "push_it.json", None),
            (r#""action":"renamed""#, "x.json", Some("repository")),
            (r#""action":"started""#, "watch_it.json", None),
            (
                r#""action":"created","check_run":{}"#,
                "x.json",
                Some("check_run"),
            ),
            (
                r#""action":"created","deployment":{},"deployment_status":{}"#,
                "x.json",
                Some("deployment_status"),
            ),
        ] {
            let json = format!("{{{fields},{frame}}}");
            let payload: &RawValue = serde_json::from_str(&json).unwrap();
            assert_eq!(event_of(payload, Some(Path::new(path))), event, "{json}");
        }
        for (json, path) in [
            (
                r#"{"name":"x","repository":{"type":"git"}}"#,
                "package.json",
            ),
            (r#"{"number":7,"pull_request":{"url":"u"}}"#, "issues.json"),
            (r#"{"label":"x"}"#, "label.json"),
            ("[]", "push.json"),
            ("{}", "pull_request.opened.json"),
        ] {
            let payload: &RawValue = serde_json::from_str(json).unwrap();
            assert_eq!(event_of(payload, Some(Path::new(path))), None, "{json}");
        }
    }
}
