//! Slack messages in Block Kit. Text from GitHub and from people is escaped, so that it cannot
//! create links or mentions.

use serde_json::{Value, json};
use tallyhook_core::domain::notification::PullRequestStatus;
use tallyhook_core::domain::task::TaskId;
use tallyhook_store::{PullRequestRow, Task};

use super::{Notification, slack_waiting};

/// Characters of a foreign text. Escaped, each takes up to five, which stays below the 3,000
/// characters of a section.
const MAX_TEXT: usize = 500;
const MAX_LINK: usize = 1000;

/// The stored pull request and task that a message shows beside the notification.
#[derive(Default)]
pub(super) struct MessageContext {
    pub(super) pull_request: Option<PullRequestRow>,
    pub(super) task: Option<Task>,
}

/// Renders a notification.
pub(super) fn message(notification: &Notification, context: &MessageContext) -> Value {
    let task = |id: &TaskId| task_name(*id, context.task.as_ref());
    let pull_request = context.pull_request.as_ref();
    match notification {
        Notification::PrStatusChange {
            repo,
            pr_number,
            old_status,
            new_status,
            task_key,
            ..
        } => {
            let name = escape(&format!("{repo}#{pr_number}"));
            let change = describe_change(*old_status, *new_status, pull_request);
            let title = pull_request.and_then(|pr| pr.title.as_deref()).map(escape);
            let linked = link(pull_request.and_then(|pr| pr.html_url.as_deref()), &name);
            let task = task_key.as_deref().map(escape);
            let task = task.map(|key| format!(", for {key}")).unwrap_or_default();
            let mut blocks = vec![section(&mrkdwn(&format!("*{linked}* {change}")))];
            blocks.extend(title.as_deref().map(|title| section(&plain_text(title))));
            blocks.extend(
                pull_request.map(|pr| context_block(&format!("by {}{task}", escape(&pr.author)))),
            );
            let title = title.map(|title| format!(": {title}")).unwrap_or_default();
            payload(&format!("{name} {change}{title}"), &blocks)
        }
        Notification::TaskStatusChange {
            task_id,
            old_status,
            new_status,
            pr_trigger,
            title,
            html_url,
            ..
        } => {
            let moved = format!(
                "Task {} was moved from {old_status} to {new_status}",
                task(task_id)
            );
            if !pr_trigger {
                let text = format!("{moved} by a person");
                return payload(&text, &[section(&plain_text(&text))]);
            }
            let text = format!("{moved} by a pull request");
            let title = title.as_deref().map(escape);
            // Each foreign text has a section of its own: Slack bounds them.
            let mut blocks = vec![section(&plain_text(&text))];
            blocks.extend(title.as_deref().map(|title| section(&plain_text(title))));
            let linked = html_url
                .as_deref()
                .map(|url| link(Some(url), "pull request"));
            blocks.extend(linked.map(|linked| section(&mrkdwn(&linked))));
            let title = title.map(|title| format!(": {title}")).unwrap_or_default();
            payload(&format!("{text}{title}"), &blocks)
        }
        Notification::WorktreeKept {
            task_id,
            repo,
            pr_number,
            reason,
            ..
        } => {
            let name = escape(&format!("{repo}#{pr_number}"));
            let linked = link(pull_request.and_then(|pr| pr.html_url.as_deref()), &name);
            let task = task(task_id);
            let (kept, reason) = (
                format!("The working tree of task {task} is kept:"),
                escape(reason),
            );
            let blocks = [
                section(&mrkdwn(&format!("*{linked}* was merged"))),
                section(&plain_text(&kept)),
                section(&plain_text(&reason)),
            ];
            payload(&format!("{name} was merged. {kept} {reason}"), &blocks)
        }
        Notification::WaitingChange { .. } | Notification::Digest { .. } => {
            slack_waiting::message(notification)
        }
    }
}

/// Renders a message of our own text, which needs no escaping.
pub(super) fn plain(text: &str) -> Value {
    payload(text, &[section(&mrkdwn(text))])
}

/// Returns a task's key and title, or its id if the task is not stored.
fn task_name(id: TaskId, task: Option<&Task>) -> String {
    match task {
        Some(Task {
            key: Some(key),
            title,
            ..
        }) => escape(&format!("{key} ({title})")),
        Some(Task { title, .. }) => escape(&format!("\u{201c}{title}\u{201d}")),
        None => id.to_string(),
    }
}

/// Returns the predicate of a status change: "was merged after 3.0 h".
fn describe_change(
    old: Option<PullRequestStatus>,
    new: PullRequestStatus,
    pull_request: Option<&PullRequestRow>,
) -> String {
    match (old, new) {
        (None, PullRequestStatus::Open) => "was opened".to_owned(),
        (Some(_), PullRequestStatus::Open) => "was opened again".to_owned(),
        (_, PullRequestStatus::Closed) => "was closed without a merge".to_owned(),
        (_, PullRequestStatus::Merged) => {
            match pull_request.and_then(|pr| pr.durations.cycle_time) {
                Some(seconds) => format!("was merged after {:.1} h", seconds as f64 / 3600.0),
                None => "was merged".to_owned(),
            }
        }
    }
}

/// Builds the request body. `text` is the fallback where blocks cannot be shown.
pub(super) fn payload(text: &str, blocks: &[Value]) -> Value {
    json!({"text": text, "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

pub(super) fn section(text: &Value) -> Value {
    json!({"type": "section", "text": text})
}

pub(super) fn context_block(text: &str) -> Value {
    json!({"type": "context", "elements": [plain_text(text)]})
}

/// A text object of a foreign text, which Slack shows as it is: `__init__` is not made italic.
pub(super) fn plain_text(text: &str) -> Value {
    json!({"type": "plain_text", "text": text, "emoji": false})
}

/// A text object. `verbatim` keeps Slack from turning names and addresses in it into links.
pub(super) fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// Escapes a foreign text, so that Slack shows it and interprets nothing in it.
pub(super) fn escape(text: &str) -> String {
    let is_long = text.chars().nth(MAX_TEXT).is_some();
    let mut escaped = String::with_capacity(text.len());
    for letter in text
        .chars()
        .take(if is_long { MAX_TEXT - 1 } else { MAX_TEXT })
    {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // A separate line could look like one of ours.
            letter if letter.is_control() || ['\u{2028}', '\u{2029}'].contains(&letter) => {
                escaped.push(' ')
            }
            letter => escaped.push(letter),
        }
    }
    if is_long {
        escaped.push('\u{2026}');
    }
    escaped
}

/// Returns a link with the label `label`, which is escaped already; only the label if the address
/// is not a plain web address.
pub(super) fn link(address: Option<&str>, label: &str) -> String {
    let is_web = |address: &&str| {
        let is_plain = !address
            .chars()
            .any(|letter| letter.is_whitespace() || letter.is_control());
        let has_scheme = address.starts_with("https://") || address.starts_with("http://");
        has_scheme && is_plain && address.chars().count() <= MAX_LINK
    };
    match address.filter(is_web) {
        Some(address) => {
            let address = address
                .replace('&', "&amp;")
                .replace('<', "%3C")
                .replace('>', "%3E")
                .replace('|', "%7C");
            format!("<{address}|{label}>")
        }
        None => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use tallyhook_core::domain::notification::SyncSource;
    use tallyhook_core::domain::pull_request::Source;
    use tallyhook_core::domain::repository::RepositoryAccess;
    use tallyhook_core::domain::task::{TaskKey, TaskState, TaskStatus};
    use tallyhook_core::domain::timings::PullRequestState;
    use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
    use tallyhook_store::{DEFAULT_TEAM, PendingWork, PullRequestDurations, TaskPlace};

    /// Slack's limit for the text of a section, in characters.
    const MAX_SECTION: usize = 3000;

    fn status_change(
        old_status: Option<PullRequestStatus>,
        new_status: PullRequestStatus,
    ) -> Notification {
        Notification::PrStatusChange {
            pr_id: Uuid::nil(),
            repo: "acme-corp/api-server".to_owned(),
            pr_number: 7,
            title: None,
            html_url: None,
            author: None,
            task_key: Some("PROJ-7".to_owned()),
            task_id: None,
            old_status,
            new_status,
            sync_source: SyncSource::Webhook,
            timestamp: Timestamp::clamped(0),
            event_id: String::new(),
        }
    }

    fn with_pull_request(title: &str, html_url: &str) -> MessageContext {
        let at = Timestamp::clamped(0);
        let pull_request = PullRequestRow {
            key: PrKey {
                repo: RepoId(1),
                number: PrNumber(7),
            },
            repo: "acme-corp/api-server".to_owned(),
            repo_access: RepositoryAccess::Granted,
            github_pr_id: None,
            title: Some(title.to_owned()),
            author: "mira".to_owned(),
            author_is_bot: false,
            state: PullRequestState::Merged,
            draft: None,
            html_url: Some(html_url.to_owned()),
            base_ref: None,
            head_ref: None,
            head_sha: None,
            pr_created_at: at,
            updated_at: at,
            closed_at: None,
            merged_at: None,
            labels: Vec::new(),
            additions: None,
            deletions: None,
            changed_files: None,
            commits: None,
            first_commit_at: None,
            ready_at: None,
            first_response_at: None,
            first_review_at: None,
            final_approval_at: None,
            durations: PullRequestDurations {
                cycle_time: Some(29 * 3600),
                ..PullRequestDurations::default()
            },
            business: None,
            flags: Vec::new(),
            origin: tallyhook_store::OriginRow::default(),
            definition: 2,
            waiting: None,
            held_by: None,
            turn: None,
            time_by: None,
            turns_inferred: false,
            source: Source::Webhook,
            as_of: at,
        };
        MessageContext {
            pull_request: Some(pull_request),
            task: None,
        }
    }

    fn with_task(title: &str) -> MessageContext {
        let task = Task {
            id: TaskId(Uuid::nil()),
            team: DEFAULT_TEAM.0,
            key: TaskKey::parse("PROJ-123"),
            title: title.to_owned(),
            state: TaskState {
                status: TaskStatus::Done,
                initial: TaskStatus::Todo,
                by_hand: None,
            },
            place: TaskPlace::default(),
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
            version: 1,
            due: PendingWork::default(),
            tries: 0,
            prs: Vec::new(),
        };
        MessageContext {
            pull_request: None,
            task: Some(task),
        }
    }

    fn texts(message: &Value) -> Vec<&str> {
        let blocks = message["blocks"].as_array().unwrap().iter();
        blocks
            .filter_map(|block| {
                block["text"]["text"]
                    .as_str()
                    .or_else(|| block["elements"][0]["text"].as_str())
            })
            .collect()
    }

    #[test]
    fn merge_shows_link_title_author_and_cycle_time() {
        let context = with_pull_request(
            "Answer 429",
            "https://github.example/acme-corp/api-server/pull/7",
        );
        let rendered = message(
            &status_change(Some(PullRequestStatus::Open), PullRequestStatus::Merged),
            &context,
        );
        let link = "<https://github.example/acme-corp/api-server/pull/7|acme-corp/api-server#7>";
        assert_eq!(
            texts(&rendered),
            [
                &format!("*{link}* was merged after 29.0 h"),
                "Answer 429",
                "by mira, for PROJ-7"
            ]
        );
        assert_eq!(
            rendered["text"],
            "acme-corp/api-server#7 was merged after 29.0 h: Answer 429"
        );
        assert_eq!(
            (&rendered["unfurl_links"], &rendered["unfurl_media"]),
            (&json!(false), &json!(false))
        );
        let blocks = rendered["blocks"].as_array().unwrap();
        assert_eq!(blocks[0]["text"]["verbatim"], json!(true));
        for foreign in [&blocks[1]["text"], &blocks[2]["elements"][0]] {
            assert_eq!(
                (&foreign["type"], &foreign["emoji"]),
                (&json!("plain_text"), &json!(false))
            );
        }
    }

    #[test]
    fn every_change_renders_without_stored_facts() {
        for (old, new, words) in [
            (None, PullRequestStatus::Open, "was opened"),
            (
                Some(PullRequestStatus::Closed),
                PullRequestStatus::Open,
                "was opened again",
            ),
            (
                Some(PullRequestStatus::Open),
                PullRequestStatus::Closed,
                "was closed without a merge",
            ),
            (None, PullRequestStatus::Merged, "was merged"),
        ] {
            let rendered = message(&status_change(old, new), &MessageContext::default());
            assert_eq!(
                texts(&rendered),
                [format!("*acme-corp/api-server#7* {words}")]
            );
        }
    }

    #[test]
    fn text_from_github_creates_no_mention_and_no_link() {
        let hostile = "<!channel> & <https://evil.example|click>\n> `a`\u{2028}&lt;!here&gt;";
        let rendered = message(
            &status_change(None, PullRequestStatus::Open),
            &with_pull_request(hostile, "https://github.example/a|b>c<d&e"),
        );
        let escaped = "&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt; &gt; `a` &amp;lt;!here&amp;gt;";
        let link = "<https://github.example/a%7Cb%3Ec%3Cd&amp;e|acme-corp/api-server#7>";
        assert_eq!(
            texts(&rendered)[..2],
            [&format!("*{link}* was opened"), escaped]
        );
        assert_eq!(
            rendered["text"],
            format!("acme-corp/api-server#7 was opened: {escaped}")
        );
    }

    #[test]
    fn only_plain_web_addresses_are_linked() {
        let long = format!("https://{}", "a".repeat(MAX_LINK));
        for address in [
            "javascript:alert(1)",
            "https://a b",
            "https://a\n",
            "slack://open",
            "!channel",
            "",
            &long,
        ] {
            let rendered = message(
                &status_change(None, PullRequestStatus::Closed),
                &with_pull_request("t", address),
            );
            assert_eq!(
                texts(&rendered)[0],
                "*acme-corp/api-server#7* was closed without a merge",
                "{address}"
            );
        }
    }

    #[test]
    fn long_text_is_cut_below_the_section_limit() {
        let rendered = message(
            &status_change(None, PullRequestStatus::Open),
            &with_pull_request(&"&".repeat(100_000), "https://a"),
        );
        let text = texts(&rendered)[1];
        assert!(
            text.chars().count() <= MAX_SECTION && text.ends_with("&amp;\u{2026}"),
            "{text}"
        );
        assert_eq!(
            escape(&"\u{1f980}".repeat(MAX_TEXT)),
            "\u{1f980}".repeat(MAX_TEXT)
        );
    }

    #[test]
    fn task_changes_and_kept_worktrees_render() {
        let (task_id, timestamp) = (TaskId(Uuid::nil()), Timestamp::clamped(0));
        let moved = |pr_trigger| Notification::TaskStatusChange {
            task_id,
            title: None,
            html_url: None,
            author: None,
            task_key: None,
            old_status: TaskStatus::CodeReviewing,
            new_status: TaskStatus::Done,
            pr_trigger,
            timestamp,
            event_id: String::new(),
        };
        let id = Uuid::nil();
        let words = format!("Task {id} was moved from CODE_REVIEWING to DONE by");
        assert_eq!(
            texts(&message(&moved(true), &MessageContext::default())),
            [format!("{words} a pull request")]
        );
        let mut by_known = moved(true);
        if let Notification::TaskStatusChange {
            title, html_url, ..
        } = &mut by_known
        {
            *title = Some("Sort <it>".to_owned());
            *html_url = Some("https://a".to_owned());
        }
        let rendered = message(&by_known, &MessageContext::default());
        let text = format!("{words} a pull request");
        assert_eq!(rendered["text"], format!("{text}: Sort &lt;it&gt;"));
        assert_eq!(
            texts(&rendered),
            [&text, "Sort &lt;it&gt;", "<https://a|pull request>"]
        );
        let named = "Task PROJ-123 (Sort the &lt;!here&gt; queue) was moved from CODE_REVIEWING to DONE by a person";
        assert_eq!(
            texts(&message(
                &moved(false),
                &with_task("Sort the <!here> queue")
            )),
            [named]
        );
        let kept = Notification::WorktreeKept {
            task_id,
            pr_id: id,
            repo: "acme-corp/api-server".to_owned(),
            pr_number: 7,
            title: None,
            html_url: None,
            author: None,
            task_key: None,
            reason: "2 files <!here> are not committed".to_owned(),
            timestamp,
            event_id: String::new(),
        };
        let rendered = message(&kept, &with_pull_request("t", "https://a"));
        let reason = "2 files &lt;!here&gt; are not committed";
        let kept = format!("The working tree of task {id} is kept:");
        assert_eq!(
            texts(&rendered),
            [
                "*<https://a|acme-corp/api-server#7>* was merged",
                &kept,
                reason
            ]
        );
        assert_eq!(
            rendered["text"],
            format!("acme-corp/api-server#7 was merged. {kept} {reason}")
        );
    }
}
