//! `tallyhook deliveries` and `tallyhook dead`

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use chrono::{SecondsFormat, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::value::RawValue;
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::event;
use tallyhook_store::{
    DeadLetterGroup, DeadLetterMatch, DeadLetterSelection, Delivery, DeliveryFilter, DeliveryState,
    Moment, Store, StoredBody,
};

use super::discard::DiscardArgs;
use super::recorded::{ApiDelivery, RecordedRequest};
use super::{CommandFailure, CommandResult, output};
use crate::api::{DeliveryDetail, DeliveryItem};

/// Deliveries of one query.
const PAGE: u32 = 100;

#[derive(Debug, Subcommand)]
pub(super) enum DeliveriesCommand {
    /// List stored deliveries, newest first
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// Maximum number
        #[arg(long, default_value_t = 30)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one delivery with its payload
    Show {
        /// The value of X-GitHub-Delivery
        guid: String,
    },
    /// Write deliveries as JSON lines that `replay` reads, oldest first
    ///
    /// A delivery whose body is not JSON that every reader takes is left out. The command then ends
    /// with exit code 1 and their number, and has written all others.
    Export {
        #[command(flatten)]
        filter: FilterArgs,
        /// Write to this new file, for this user alone, instead of standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace the file if it exists
        #[arg(long, requires = "output")]
        overwrite: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only deliveries in this state
    #[arg(long, value_enum)]
    state: Option<StateArgument>,
    /// Only deliveries of this event, such as `pull_request`
    #[arg(long)]
    event: Option<String>,
    /// Only deliveries of this repository
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateArgument {
    Accepted,
    Applied,
    Ignored,
    Dead,
}

impl From<StateArgument> for DeliveryState {
    fn from(state: StateArgument) -> Self {
        match state {
            StateArgument::Accepted => Self::Accepted,
            StateArgument::Applied => Self::Applied,
            StateArgument::Ignored => Self::Ignored,
            StateArgument::Dead => Self::Dead,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum DeadCommand {
    /// List dead letters: grouped by reason, then each, newest first
    List {
        /// Maximum number
        #[arg(long, default_value_t = 30)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter with its history and payload
    Show {
        /// The id of `dead list`
        id: i64,
    },
    /// Requeue dead letters, with all attempts to go: by id, by group, or all
    Requeue(RequeueArgs),
    /// Discard dead letters, whose state becomes ignored: by id, by group, or all
    Discard(DiscardArgs),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct RequeueArgs {
    /// The ids of `dead list`
    #[arg(conflicts_with_all = ["all", "reason", "event", "repo"])]
    ids: Vec<i64>,
    /// Those with this reason, as in `dead list`
    #[arg(long)]
    reason: Option<String>,
    /// Those of this event, such as `pull_request`
    #[arg(long)]
    event: Option<String>,
    /// Those of this repository
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<String>,
    /// All dead letters
    #[arg(long, conflicts_with_all = ["reason", "event", "repo"])]
    all: bool,
}

impl DeliveriesCommand {
    pub(super) async fn run(self, store: &Store) -> CommandResult {
        match self {
            Self::List {
                filter,
                limit,
                json,
            } => list(store, filter.into(), limit, json).await,
            Self::Show { guid } => {
                let deliveries = store.deliveries_by_guid(&guid).await?;
                if deliveries.is_empty() {
                    return Err(missing(&format!("there is no delivery {guid}")));
                }
                for delivery in deliveries {
                    output::json(&detail(store, delivery).await?)?;
                }
                Ok(())
            }
            Self::Export {
                filter,
                output: Some(path),
                overwrite,
            } => {
                let file = create_private(&path, overwrite)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                export(store, filter.into(), std::io::BufWriter::new(file)).await
            }
            Self::Export {
                filter,
                output: None,
                overwrite: _,
            } => export(store, filter.into(), std::io::stdout()).await,
        }
    }
}

/// Creates a file for this user alone: payloads of private repositories go into it. One that has
/// something in it is emptied only if it may be.
fn create_private(path: &Path, overwrite: bool) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let found = file.metadata()?;
    // A pipe or a terminal keeps its mode, and what is in it.
    if found.is_file() {
        if found.len() > 0 && !overwrite {
            bail!("there is such a file already: give another name, or --overwrite");
        }
        file.set_len(0)?;
        // The mode above counts only for a new file.
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

impl DeadCommand {
    pub(super) async fn run(self, store: &Store) -> CommandResult {
        match self {
            Self::List { limit, json } => {
                let groups = store.dead_groups().await?;
                let dead = DeliveryFilter {
                    state: Some(DeliveryState::Dead),
                    ..DeliveryFilter::default()
                };
                let items = store.deliveries(&dead, limit).await?;
                if json {
                    let items: Vec<_> = items.into_iter().map(DeliveryItem::from).collect();
                    return output::json(&serde_json::json!({"groups": groups, "items": items}));
                }
                output::line(&group_table(groups))?;
                print_table(items)
            }
            Self::Show { id } => {
                let delivery = store.delivery(DeliveryId(id)).await?;
                let dead = delivery.filter(|delivery| delivery.state == DeliveryState::Dead);
                let dead = dead.ok_or_else(|| missing(&format!("there is no dead letter {id}")))?;
                output::json(&detail(store, dead).await?)
            }
            Self::Requeue(arguments) => arguments.run(store).await,
            Self::Discard(arguments) => arguments.run(store).await,
        }
    }
}

impl RequeueArgs {
    async fn run(self, store: &Store) -> CommandResult {
        let Self {
            ids,
            reason,
            event,
            repo,
            all: _,
        } = self;
        let selection = if ids.is_empty() {
            DeadLetterSelection::Like(DeadLetterMatch {
                reason,
                event,
                repo,
            })
        } else {
            DeadLetterSelection::Ids(ids.iter().copied().map(DeliveryId).collect())
        };
        let requeued = store.requeue(&selection, Utc::now()).await?;
        output::line(&format!(
            "requeued {requeued}, for the running server or the next one"
        ))?;
        all_were_dead(&ids, requeued)
    }
}

/// Fails if fewer dead letters were changed than ids were given.
pub(super) fn all_were_dead(ids: &[i64], changed: u64) -> CommandResult {
    match (ids.len() as u64).saturating_sub(changed) {
        0 => Ok(()),
        others => Err(missing(&format!(
            "{others} of the given ids are not dead letters"
        ))),
    }
}

fn missing(what: &str) -> CommandFailure {
    CommandFailure::Failed(anyhow::anyhow!("{what}"))
}

impl From<FilterArgs> for DeliveryFilter {
    fn from(filter: FilterArgs) -> Self {
        Self {
            state: filter.state.map(Into::into),
            event: filter.event,
            repo: filter.repo,
            before: None,
        }
    }
}

async fn list(store: &Store, filter: DeliveryFilter, limit: u32, json: bool) -> CommandResult {
    let deliveries = store.deliveries(&filter, limit).await?;
    if json {
        return output::json(
            &deliveries
                .into_iter()
                .map(DeliveryItem::from)
                .collect::<Vec<_>>(),
        );
    }
    print_table(deliveries)
}

fn group_table(groups: Vec<DeadLetterGroup>) -> String {
    let mut table = output::table(&[
        "dead letters",
        "reason",
        "event",
        "repository",
        "first received",
        "last received",
    ]);
    for group in groups {
        table.add_row([
            group.deliveries.to_string(),
            group.reason,
            group.event,
            group.repo.unwrap_or_default(),
            seconds(group.first_received_at),
            seconds(group.last_received_at),
        ]);
    }
    table.to_string()
}

fn print_table(deliveries: Vec<Delivery>) -> CommandResult {
    let mut table = output::table(&[
        "id",
        "received",
        "event",
        "action",
        "repository",
        "PR",
        "state",
        "tries",
        "reason",
        "GUID",
    ]);
    for delivery in deliveries {
        table.add_row([
            delivery.id.0.to_string(),
            seconds(delivery.received_at),
            delivery.event,
            delivery.action.unwrap_or_default(),
            delivery.repo.unwrap_or_default(),
            delivery
                .pr_number
                .map(|number| number.to_string())
                .unwrap_or_default(),
            delivery.state.as_str().to_owned(),
            delivery.attempts.to_string(),
            delivery.reason.unwrap_or_default(),
            delivery.guid,
        ]);
    }
    output::line(&table.to_string())
}

fn seconds(timestamp: Moment) -> String {
    timestamp.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Returns the stored body, `None` once it was purged.
async fn body(store: &Store, id: DeliveryId) -> CommandResult<Option<Vec<u8>>> {
    let body = store.body(id).await?;
    let body = body.map(|body| body.decompress().context("the stored body is damaged"));
    Ok(body.transpose()?)
}

/// Returns a delivery with its payload as JSON, or as a text if it is none that can be shown.
async fn detail(store: &Store, delivery: Delivery) -> CommandResult<serde_json::Value> {
    let body = body(store, delivery.id).await?;
    let history = delivery.history.clone();
    let mut detail = serde_json::to_value(DeliveryDetail {
        delivery: delivery.into(),
        history,
        payload: None,
        payload_url: None,
    })?;
    if let Some(body) = body {
        detail["payload"] =
            serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
    }
    Ok(detail)
}

/// Writes the webhooks that still have their bodies, oldest first, with one body in memory at a
/// time. One odd body is no reason to leave out the others.
async fn export(store: &Store, mut filter: DeliveryFilter, mut out: impl Write) -> CommandResult {
    let mut ids = Vec::new();
    loop {
        let page = store.deliveries(&filter, PAGE).await?;
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        // Snapshots of the poller and of backfills are not webhooks and cannot be replayed;
        // deliveries that `recover` fetched can.
        ids.extend(
            page.iter()
                .filter(|delivery| delivery.event != event::SNAPSHOT)
                .map(|delivery| delivery.id),
        );
    }
    let (mut all, mut left_out, mut without_body) = (0_u64, Vec::new(), 0_u64);
    for id in ids.into_iter().rev() {
        let Some(delivery) = store.delivery(id).await? else {
            continue;
        };
        let Some(body) = store.body(id).await? else {
            without_body += 1;
            continue;
        };
        all += 1;
        match exported_line(&delivery, &body) {
            Ok(line) => writeln!(out, "{line}")?,
            Err(_) => left_out.push(delivery.guid),
        }
    }
    out.flush()?;
    if without_body > 0 {
        tracing::warn!(
            deliveries = without_body,
            "left out {without_body} deliveries whose bodies are deleted: they were applied more \
             than DELIVERY_RETENTION_DAYS ago"
        );
    }
    let Some(first) = left_out.first() else {
        return Ok(());
    };
    Err(missing(&format!(
        "{} of {all} deliveries are left out, since their bodies are not JSON that every reader \
         takes; `deliveries show` shows them, the first is {first}",
        left_out.len()
    )))
}

/// Returns the line of a delivery in an export.
fn exported_line(delivery: &Delivery, body: &StoredBody) -> anyhow::Result<String> {
    let payload = RawValue::from_string(String::from_utf8(body.decompress()?)?)?;
    let headers = BTreeMap::from([
        ("X-GitHub-Event", delivery.event.clone()),
        ("X-GitHub-Delivery", delivery.guid.clone()),
    ]);
    let line = serde_json::to_string(&ApiDelivery {
        guid: delivery.guid.clone(),
        delivered_at: seconds(delivery.received_at),
        event: delivery.event.clone(),
        action: delivery.action.clone(),
        request: RecordedRequest { headers, payload },
    })?;
    Ok(match line.contains('\n') {
        // GitHub sends one line. A body with line breaks was written by hand; it loses them.
        true => serde_json::from_str::<serde_json::Value>(&line)?.to_string(),
        false => line,
    })
}
