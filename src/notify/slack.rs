//! What Slack is shown, in its Block Kit. Whatever comes from GitHub or from people can only be read there: it makes no link
//! and calls nobody.

use serde_json::{Value, json};
use tallyhook_core::domain::notification::Status;
use tallyhook_core::domain::task::TaskId;
use tallyhook_store::{PullRequestRow, Task};

use super::Notification;

/// The most characters of a foreign text. Five of them escaped make less than a section may have.
const LONGEST: usize = 500;
const LONGEST_LINK: usize = 1000;

/// What is known of what a notification is about.
#[derive(Default)]
pub(super) struct Known {
    pub(super) pull_request: Option<PullRequestRow>,
    pub(super) task: Option<Task>,
}

pub(super) fn message(notification: &Notification, known: &Known) -> Value {
    let task = |id: &TaskId| task_name(*id, known.task.as_ref());
    let known = known.pull_request.as_ref();
    match notification {
        Notification::PrStatusChange {
            repo,
            pr_number,
            old_status,
            new_status,
            ..
        } => {
            let name = escape(&format!("{repo}#{pr_number}"));
            let became = became(*old_status, *new_status, known);
            let title = known.and_then(|known| known.title.as_deref()).map(escape);
            let title = title.map(|title| format!(": {title}")).unwrap_or_default();
            let linked = link(known.and_then(|known| known.html_url.as_deref()), &name);
            let mut blocks = vec![section(&format!("*{linked}* {became}{title}"))];
            blocks.extend(known.map(|known| context(&format!("by {}", escape(&known.author)))));
            shown(&format!("{name} {became}{title}"), &blocks)
        }
        Notification::TaskStatusChange {
            task_id,
            old_status,
            new_status,
            pr_trigger,
            ..
        } => {
            let by = if *pr_trigger {
                "a pull request"
            } else {
                "somebody"
            };
            let text = format!(
                "Task {} was moved from {old_status} to {new_status} by {by}",
                task(task_id)
            );
            shown(&text, &[section(&text)])
        }
        Notification::WorktreeKept {
            task_id,
            repo,
            pr_number,
            reason,
            ..
        } => {
            let name = escape(&format!("{repo}#{pr_number}"));
            let linked = link(known.and_then(|known| known.html_url.as_deref()), &name);
            let task = task(task_id);
            let text = |name: &str| {
                format!("{name} was merged, and the working tree of task {task} is kept")
            };
            let reason = escape(reason);
            let blocks = [section(&text(&format!("*{linked}*"))), section(&reason)];
            shown(&format!("{}: {reason}", text(&name)), &blocks)
        }
    }
}

/// A message of nothing but our own words.
pub(super) fn plain(text: &str) -> Value {
    shown(text, &[section(text)])
}

/// What people call a task, or else its id.
fn task_name(id: TaskId, known: Option<&Task>) -> String {
    match known {
        Some(Task {
            key: Some(key),
            title,
            ..
        }) => escape(&format!("{key} ({title})")),
        Some(Task { title, .. }) => escape(&format!("\u{201c}{title}\u{201d}")),
        None => id.to_string(),
    }
}

fn became(old: Option<Status>, new: Status, known: Option<&PullRequestRow>) -> String {
    match (old, new) {
        (None, Status::Open) => "was opened".to_owned(),
        (Some(_), Status::Open) => "was opened again".to_owned(),
        (_, Status::Closed) => "was closed without a merge".to_owned(),
        (_, Status::Merged) => match known.and_then(|known| known.durations.cycle_time) {
            Some(seconds) => format!("was merged after {:.1} h", seconds as f64 / 3600.0),
            None => "was merged".to_owned(),
        },
    }
}

/// `text` is what is told where blocks cannot be shown.
fn shown(text: &str, blocks: &[Value]) -> Value {
    json!({"text": text, "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": mrkdwn(text)})
}

fn context(text: &str) -> Value {
    json!({"type": "context", "elements": [mrkdwn(text)]})
}

/// Verbatim: names and addresses in it are not looked for.
fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// A foreign text as Slack shows it and does nothing with it.
fn escape(text: &str) -> String {
    let is_long = text.chars().nth(LONGEST).is_some();
    let mut escaped = String::with_capacity(text.len());
    for letter in text
        .chars()
        .take(if is_long { LONGEST - 1 } else { LONGEST })
    {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // A line of its own could look like one of ours.
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

/// `label`, which is escaped, as a link to a page of the web; without one if the address could be anything else.
fn link(address: Option<&str>, label: &str) -> String {
    let is_web = |address: &&str| {
        let is_plain = !address
            .chars()
            .any(|letter| letter.is_whitespace() || letter.is_control());
        let has_scheme = address.starts_with("https://") || address.starts_with("http://");
        has_scheme && is_plain && address.chars().count() <= LONGEST_LINK
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
    use tallyhook_core::domain::repository::Access;
    use tallyhook_core::domain::task::{TaskKey, TaskState, TaskStatus};
    use tallyhook_core::domain::timings::State;
    use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
    use tallyhook_store::{PendingWork, PullRequestDurations, TaskPlace};

    /// The most characters of a section's text.
    const SECTION: usize = 3000;

    fn changed(old_status: Option<Status>, new_status: Status) -> Notification {
        Notification::PrStatusChange {
            pr_id: Uuid::nil(),
            repo: "acme-corp/api-server".to_owned(),
            pr_number: 7,
            task_id: None,
            old_status,
            new_status,
            sync_source: SyncSource::Webhook,
            timestamp: Timestamp::clamped(0),
            event_id: String::new(),
        }
    }

    fn known(title: &str, html_url: &str) -> Known {
        let at = Timestamp::clamped(0);
        let pull_request = PullRequestRow {
            key: PrKey {
                repo: RepoId(1),
                number: PrNumber(7),
            },
            repo: "acme-corp/api-server".to_owned(),
            repo_access: Access::Granted,
            github_pr_id: None,
            title: Some(title.to_owned()),
            author: "mira".to_owned(),
            author_is_bot: false,
            state: State::Merged,
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
            flags: Vec::new(),
            source: Source::Webhook,
            as_of: at,
        };
        Known {
            pull_request: Some(pull_request),
            task: None,
        }
    }

    fn task(title: &str) -> Known {
        let task = Task {
            id: TaskId(Uuid::nil()),
            key: TaskKey::parse("PROJ-123"),
            title: title.to_owned(),
            state: TaskState {
                status: TaskStatus::Done,
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
        Known {
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
    fn a_merge_is_told_with_its_link_title_author_and_time() {
        let known = known(
            "Answer 429",
            "https://github.example/acme-corp/api-server/pull/7",
        );
        let told = message(&changed(Some(Status::Open), Status::Merged), &known);
        let link = "<https://github.example/acme-corp/api-server/pull/7|acme-corp/api-server#7>";
        assert_eq!(
            texts(&told),
            [
                &format!("*{link}* was merged after 29.0 h: Answer 429"),
                "by mira"
            ]
        );
        assert_eq!(
            told["text"],
            "acme-corp/api-server#7 was merged after 29.0 h: Answer 429"
        );
        assert_eq!(
            (&told["unfurl_links"], &told["unfurl_media"]),
            (&json!(false), &json!(false))
        );
        let blocks = told["blocks"].as_array().unwrap();
        assert_eq!(
            (
                &blocks[0]["text"]["verbatim"],
                &blocks[1]["elements"][0]["verbatim"]
            ),
            (&json!(true), &json!(true))
        );
    }

    #[test]
    fn every_change_has_its_words_without_anything_known() {
        for (old, new, words) in [
            (None, Status::Open, "was opened"),
            (Some(Status::Closed), Status::Open, "was opened again"),
            (
                Some(Status::Open),
                Status::Closed,
                "was closed without a merge",
            ),
            (None, Status::Merged, "was merged"),
        ] {
            let told = message(&changed(old, new), &Known::default());
            assert_eq!(texts(&told), [format!("*acme-corp/api-server#7* {words}")]);
        }
    }

    #[test]
    fn nobody_is_called_and_no_link_is_made_by_what_comes_from_github() {
        let hostile = "<!channel> & <https://evil.example|click>\n> `a`\u{2028}&lt;!here&gt;";
        let told = message(
            &changed(None, Status::Open),
            &known(hostile, "https://github.example/a|b>c<d&e"),
        );
        let escaped = "&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt; &gt; `a` &amp;lt;!here&amp;gt;";
        let link = "<https://github.example/a%7Cb%3Ec%3Cd&amp;e|acme-corp/api-server#7>";
        assert_eq!(texts(&told)[0], format!("*{link}* was opened: {escaped}"));
        assert_eq!(
            told["text"],
            format!("acme-corp/api-server#7 was opened: {escaped}")
        );
    }

    #[test]
    fn only_a_page_of_the_web_is_linked() {
        let long = format!("https://{}", "a".repeat(LONGEST_LINK));
        for address in [
            "javascript:alert(1)",
            "https://a b",
            "https://a\n",
            "slack://open",
            "!channel",
            "",
            &long,
        ] {
            let told = message(&changed(None, Status::Closed), &known("t", address));
            assert_eq!(
                texts(&told)[0],
                "*acme-corp/api-server#7* was closed without a merge: t",
                "{address}"
            );
        }
    }

    #[test]
    fn a_text_of_any_length_fits() {
        let told = message(
            &changed(None, Status::Open),
            &known(&"&".repeat(100_000), "https://a"),
        );
        let text = texts(&told)[0];
        assert!(
            text.chars().count() <= SECTION && text.ends_with("&amp;\u{2026}"),
            "{text}"
        );
        assert_eq!(
            escape(&"\u{1f980}".repeat(LONGEST)),
            "\u{1f980}".repeat(LONGEST)
        );
    }

    #[test]
    fn tasks_and_what_was_kept_have_words_of_their_own() {
        let (task_id, timestamp) = (TaskId(Uuid::nil()), Timestamp::clamped(0));
        let moved = |pr_trigger| Notification::TaskStatusChange {
            task_id,
            old_status: TaskStatus::CodeReviewing,
            new_status: TaskStatus::Done,
            pr_trigger,
            timestamp,
            event_id: String::new(),
        };
        let id = Uuid::nil();
        let words = format!("Task {id} was moved from CODE_REVIEWING to DONE by");
        assert_eq!(
            texts(&message(&moved(true), &Known::default())),
            [format!("{words} a pull request")]
        );
        let named = "Task PROJ-123 (Sort the &lt;!here&gt; queue) was moved from CODE_REVIEWING to DONE by somebody";
        assert_eq!(
            texts(&message(&moved(false), &task("Sort the <!here> queue"))),
            [named]
        );
        let kept = Notification::WorktreeKept {
            task_id,
            pr_id: id,
            repo: "acme-corp/api-server".to_owned(),
            pr_number: 7,
            reason: "2 files <!here> are not committed".to_owned(),
            timestamp,
            event_id: String::new(),
        };
        let told = message(&kept, &known("t", "https://a"));
        let words = format!("was merged, and the working tree of task {id} is kept");
        let reason = "2 files &lt;!here&gt; are not committed";
        assert_eq!(
            texts(&told),
            [
                &format!("*<https://a|acme-corp/api-server#7>* {words}"),
                reason
            ]
        );
        assert_eq!(
            told["text"],
            format!("acme-corp/api-server#7 {words}: {reason}")
        );
    }
}
