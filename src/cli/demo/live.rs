//! What happens while somebody looks on: a task goes with its pull request, and both are told of.

use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use tallyhook_core::domain::task::{TaskId, TaskKey, TaskStatus};
use tallyhook_store::{NewTask, TaskPlace};
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::super::recorded::{self, Recorded};
use super::super::replay::Client;
use super::super::{Outcome, output};
use crate::app::Running;
use crate::notify::{self, Feed, Notification, Subscription};

/// The pull request, after those of the story, and its task.
const NUMBER: i64 = 126;
const TASK: &str = "DEMO-1";
/// What takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets it happen and prints what is told of it; goes on with whatever else is told unless it is to be done `once`.
pub(super) async fn show(running: &Running, client: &Client, story: &str, once: bool) -> Outcome {
    let (feed, reader) = notify::feed(running.store.clone())
        .await
        .context("cannot read the outbox")?;
    let (_goes_on, stopping) = watch::channel(false);
    tokio::select! {
        shown = happen(running, &feed, client, story, once) => shown,
        () = reader.run(stopping) => Ok(()),
    }
}

async fn happen(
    running: &Running,
    feed: &Feed,
    client: &Client,
    story: &str,
    once: bool,
) -> Outcome {
    let mut news = feed
        .subscribe(None)
        .await
        .context("cannot listen to what happens")?;
    let id = TaskId(Uuid::new_v4());
    let task = NewTask {
        id,
        key: TaskKey::parse(TASK),
        title: "Show how a task goes with its pull request".to_owned(),
        status: TaskStatus::Todo,
        place: TaskPlace::default(),
    };
    running
        .store
        .create_task(&task, Utc::now())
        .await
        .context("cannot make a task")?;
    for action in ["opened", "closed"] {
        let posted = client.post_all(&[again(story, action)?], None).await?;
        if let Some(refusal) = posted.refused {
            return Err(anyhow::anyhow!("the server refused its own webhook: {refusal}").into());
        }
        // Of the pull request, and of the task.
        for _ in 0..2 {
            timeout(PATIENCE, tell(&mut news, id))
                .await
                .context("nothing was told of it")??;
        }
    }
    if once {
        return Ok(());
    }
    loop {
        tell(&mut news, id).await?;
    }
}

async fn tell(news: &mut Subscription, task: TaskId) -> Outcome {
    let frame = news
        .next()
        .await
        .context("what happens is not told any more")?;
    let told = match serde_json::from_str(&frame.text).context("a notification cannot be read")? {
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
    };
    output::line(&format!("  {told}"))
}

/// What was delivered of a pull request when that was done to it, as if it happened now and to another one.
fn again(story: &str, action: &str) -> anyhow::Result<Recorded> {
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
        for moment in ["created_at", "updated_at", "closed_at", "merged_at"] {
            if pull_request[moment].is_string() {
                pull_request[moment] = json!(now);
            }
        }
        let payload = payload.to_string().into_bytes();
        return Ok(Recorded {
            payload,
            guid: Uuid::new_v4().to_string(),
            delivered_at: Some(now),
            ..recorded
        });
    }
    bail!("no pull request of the story was {action}")
}
