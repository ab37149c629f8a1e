//! The live part of the demo: a task follows its pull request, and the notifications are printed.

use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use tallyhook_core::domain::task::{TaskId, TaskKey, TaskStatus};
use tallyhook_store::{DEFAULT_TEAM, NewTask, TaskPlace};
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::super::recorded::{self, RecordedDelivery};
use super::super::replay::DeliverySender;
use super::super::{CommandResult, output};
use crate::app::RunningServer;
use crate::notify::{self, FeedSubscription, Notification, NotificationFeed};

/// The number of the pull request, after those of the fixtures, and the key of its task.
const NUMBER: i64 = 135;
const TASK: &str = "DEMO-1";
/// The time to wait for a notification.
const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens and merges the pull request, prints the notifications and then `ending`; continues with
/// further ones unless `once`.
pub(super) async fn show(
    running: &RunningServer,
    client: &DeliverySender,
    story: &str,
    once: bool,
    ending: &str,
) -> CommandResult {
    let (feed, reader) = notify::open_feed(running.store.clone())
        .await
        .context("cannot read the outbox")?;
    let (_keep_running, stopping) = watch::channel(false);
    tokio::select! {
        shown = play(running, &feed, client, story, once, ending) => shown,
        () = reader.run(stopping) => Ok(()),
    }
}

async fn play(
    running: &RunningServer,
    feed: &NotificationFeed,
    client: &DeliverySender,
    story: &str,
    once: bool,
    ending: &str,
) -> CommandResult {
    let mut notifications = feed
        .subscribe(DEFAULT_TEAM.0, None)
        .await
        .context("cannot subscribe to notifications")?;
    let id = TaskId(Uuid::new_v4());
    let task = NewTask {
        id,
        key: TaskKey::parse(TASK),
        title: "Show how a task follows its pull request".to_owned(),
        status: TaskStatus::Todo,
        place: TaskPlace::default(),
    };
    running
        .store
        .of_team(DEFAULT_TEAM.0)
        .create_task(&task, Utc::now())
        .await
        .context("cannot create a task")?;
    for action in ["opened", "closed"] {
        let posted = client
            .post_all(&[replayed_now(story, action)?], None)
            .await?;
        if let Some(failure) = posted.failures.first() {
            return Err(anyhow::anyhow!("the server refused its own webhook: {failure}").into());
        }
        // One notification of the pull request, and one of the task.
        for _ in 0..2 {
            timeout(NOTIFICATION_TIMEOUT, print_next(&mut notifications, id))
                .await
                .context("no notification arrived")??;
        }
    }
    output::line(ending)?;
    if once {
        return Ok(());
    }
    loop {
        print_next(&mut notifications, id).await?;
    }
}

async fn print_next(notifications: &mut FeedSubscription, task: TaskId) -> CommandResult {
    let frame = notifications
        .next()
        .await
        .context("the feed of notifications ended")?;
    let text = frame.text_for(DEFAULT_TEAM.0).unwrap_or_default();
    let text = match serde_json::from_str(text).context("a notification cannot be read")? {
        Notification::PrStatusChange {
            repo,
            pr_number,
            new_status,
            ..
        } => {
            format!("{repo}#{pr_number} is {new_status}")
        }
        Notification::TaskStatusChange {
            task_id,
            old_status,
            new_status,
            ..
        } => {
            let name = if task_id == task {
                TASK.to_owned()
            } else {
                task_id.to_string()
            };
            format!("task {name} goes from {old_status} to {new_status}")
        }
        Notification::WorktreeKept {
            repo,
            pr_number,
            reason,
            ..
        } => {
            format!("the working tree of {repo}#{pr_number} is kept: {reason}")
        }
        // No channel of the demo asks for others.
        Notification::WaitingChange { .. } | Notification::Digest { .. } => return Ok(()),
    };
    output::line(&format!("  {text}"))
}

/// Returns the delivery of that action from the fixtures, changed to the demo's pull request and to
/// now.
fn replayed_now(story: &str, action: &str) -> anyhow::Result<RecordedDelivery> {
    for recorded in recorded::parse_lines(story)? {
        let mut payload: Value = serde_json::from_slice(&recorded.payload)?;
        if recorded.event != "pull_request" || payload["action"] != action {
            continue;
        }
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        payload["number"] = json!(NUMBER);
        let pull_request = &mut payload["pull_request"];
        for (field, value) in [
            ("number", json!(NUMBER)),
            ("id", json!(2_900_000_000 + NUMBER)),
            ("title", json!(format!("{TASK}: do what the task says"))),
            (
                "html_url",
                json!(format!(
                    "https://github.com/acme-corp/api-server/pull/{NUMBER}"
                )),
            ),
        ] {
            pull_request[field] = value;
        }
        for field in ["created_at", "updated_at", "closed_at", "merged_at"] {
            if pull_request[field].is_string() {
                pull_request[field] = json!(now);
            }
        }
        let payload = payload.to_string().into_bytes();
        return Ok(RecordedDelivery {
            payload,
            guid: Uuid::new_v4().to_string(),
            delivered_at: Some(now),
            ..recorded
        });
    }
    bail!("no pull request of the story was {action}")
}
