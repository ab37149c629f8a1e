//! `tallyhook notify`

use chrono::Utc;
use clap::Subcommand;
use tallyhook_store::OpenMode;

use super::{CommandFailure, CommandResult, SettingSources, output};
use crate::api::{ChannelItem, channel_items};
use crate::config::Config;
use crate::notify::{ChannelTestResult, Channels};

#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Send a test message to every channel, or to one
    Test {
        /// The name of the channel
        channel: Option<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// List channels with their progress
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl NotifyCommand {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let config = Config::new(&sources)?;
        let mut channels = Channels::new(&config.notify, &config.numbers.calendars)?;
        match self {
            Self::Test { channel, json } => test(&channels, channel.as_deref(), json).await,
            Self::List { json } => {
                let store = tallyhook_store::open(&config.database_url, OpenMode::Shared).await?;
                let found = channels.find_teams(&config.notify, &store).await;
                let items = match found {
                    Ok(()) => channel_items(&channels, &store).await.map_err(Into::into),
                    Err(error) => Err(error),
                };
                store.close().await;
                match json {
                    true => output::json_list(items?),
                    false => list(&items?),
                }
            }
        }
    }
}

async fn test(channels: &Channels, name: Option<&str>, json: bool) -> CommandResult {
    let chosen: Vec<_> = channels
        .iter()
        .filter(|channel| name.is_none_or(|name| name == channel.name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = channels
            .iter()
            .map(|channel| channel.name.as_str())
            .collect();
        return Err(CommandFailure::Usage(match (name, names.as_slice()) {
            (_, []) => {
                "no channel is configured: set SLACK_WEBHOOK_URL or NOTIFY_WEBHOOK_URL, or add a \
                 [[channel]]"
                    .to_owned()
            }
            (name, names) => {
                format!(
                    "there is no channel `{}`; the channels are {}",
                    name.unwrap_or_default(),
                    names.join(", ")
                )
            }
        }));
    }
    let mut tried = Vec::with_capacity(chosen.len());
    for channel in chosen {
        let result = channels.test(channel, Utc::now()).await;
        if !json {
            output::line(&summary(&result))?;
        }
        tried.push(result);
    }
    let failed: Vec<_> = tried
        .iter()
        .filter(|tried| !tried.ok)
        .map(|tried| tried.channel.clone())
        .collect();
    if json {
        output::json_list(tried)?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(CommandFailure::Failed(anyhow::anyhow!(
        "the test message did not arrive: {}",
        failed.join(", ")
    )))
}

fn summary(
    ChannelTestResult {
        channel,
        ok,
        answer,
        advice,
    }: &ChannelTestResult,
) -> String {
    let advice = advice
        .as_deref()
        .map(|advice| format!(" ({advice})"))
        .unwrap_or_default();
    format!(
        "{} {channel}: {answer}{advice}",
        if *ok { "ok   " } else { "wrong" }
    )
}

fn list(items: &[ChannelItem]) -> CommandResult {
    let mut table = output::table([
        output::text("channel"),
        output::whole("kind"),
        output::text("sent to"),
        output::whole("pending"),
        output::whole("sent"),
        output::whole("dead"),
        output::detail("superseded"),
        output::detail("place"),
        output::note("last error", 2),
    ]);
    for item in items {
        let counts = item.told;
        let mut row = vec![
            item.name.clone(),
            item.kind.to_string(),
            item.origin.clone(),
        ];
        row.extend(
            [counts.pending, counts.sent, counts.dead, counts.superseded]
                .map(|count| count.to_string()),
        );
        row.extend([&item.place, &item.last_error].map(|text| text.clone().unwrap_or_default()));
        table.add_row(row);
    }
    table.print("no channel is configured")
}
