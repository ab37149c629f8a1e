//! `tallyhook deliveries` and `tallyhook dead`

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use chrono::{SecondsFormat, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use tallyhook_core::delivery::DeliveryId;
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::event;
use tallyhook_store::{
    DEFAULT_TEAM, DeadLetterGroup, DeadLetterMatch, DeadLetterSelection, Delivery, DeliveryFilter,
    DeliveryState, Moment, Store,
};

use super::delivery_list::{list, listed, print_table};
use super::discard::DiscardArgs;
use super::follow::follow;
use super::reader::{ReadFromArgs, ReadQuery, Reader};
use super::{CommandFailure, CommandResult, SettingSources, beside, output};
use crate::api::{DeliveryDetail, DeliveryItem, Page, StoreReads, exported_line};

/// Deliveries of one query.
const PAGE: u32 = 100;
/// The length from which on the beginning of a GUID names it.
const SHORTEST_GUID: usize = 4;

#[derive(Debug, Subcommand)]
pub(super) enum DeliveriesCommand {
    /// List stored deliveries, newest first
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// Maximum number
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Continue after the `next` of `--json`
        #[arg(long, conflicts_with = "follow")]
        cursor: Option<String>,
        /// Print new deliveries as they arrive, until Ctrl-C; with --json a line for each
        #[arg(long)]
        follow: bool,
        /// Print JSON, as `GET /api/deliveries` answers
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        from: ReadFromArgs,
    },
    /// Show one delivery with its payload
    Show {
        /// The id of `deliveries list`, the value of X-GitHub-Delivery, or its beginning
        id: String,
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
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Continue after the `next` of `--json`
        #[arg(long)]
        cursor: Option<String>,
        /// Print JSON, as `GET /api/dead-letters` answers, with the `groups`
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter with its history and payload
    Show {
        /// The id of `dead list`, the value of X-GitHub-Delivery, or its beginning
        id: String,
    },
    /// Requeue dead letters, with all attempts to go: by id, by group, or all
    Requeue(RequeueArgs),
    /// Discard dead letters, whose state becomes ignored: by id, by group, or all
    Discard(DiscardArgs),
}

#[derive(Debug, Args)]
#[command(override_usage = "tallyhook dead requeue [OPTIONS] <IDS>...\n       \
                      tallyhook dead requeue [OPTIONS] <--reason|--event|--repo|--all>")]
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
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        match self {
            Self::List {
                filter,
                limit,
                cursor,
                follow: follows,
                json,
                from,
            } => {
                let reader = from.open(sources).await?;
                let listed = match follows {
                    true => follow(&reader, &filter.into(), limit, json).await,
                    false => list(&reader, &filter.into(), limit, cursor, json).await,
                };
                reader.close().await;
                listed
            }
            Self::Show { id } => {
                let store = &beside(&sources).await?;
                for delivery in named(store, &id, |_| true, "delivery").await? {
                    output::json(&detail(store, delivery).await?)?;
                }
                Ok(())
            }
            Self::Export {
                filter,
                output: Some(path),
                overwrite,
            } => {
                let store = &beside(&sources).await?;
                let file = create_private(&path, overwrite)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                export(store, filter.into(), std::io::BufWriter::new(file)).await
            }
            Self::Export {
                filter,
                output: None,
                overwrite: _,
            } => export(&beside(&sources).await?, filter.into(), std::io::stdout()).await,
        }
    }
}

/// Returns the deliveries of an id, a GUID or the beginning of one GUID. Several have one GUID if
/// their bodies differ. `wanted` chooses those that `kind` names.
async fn named(
    store: &Store,
    name: &str,
    wanted: impl Fn(&Delivery) -> bool,
    kind: &str,
) -> CommandResult<Vec<Delivery>> {
    let mut found = store.deliveries_by_guid(name).await?;
    if let (true, Ok(id)) = (found.is_empty(), name.parse()) {
        found.extend(store.delivery(DeliveryId(id)).await?);
    }
    if found.is_empty() && name.chars().count() >= SHORTEST_GUID {
        found = store.deliveries_by_guid_prefix(name, PAGE).await?;
    }
    found.retain(wanted);
    let guids: BTreeSet<_> = found
        .iter()
        .map(|delivery| delivery.guid.as_str())
        .collect();
    match guids.len() {
        0 => Err(missing(&format!("there is no {kind} {name}"))),
        1 => Ok(found),
        several => {
            let some: Vec<_> = guids.into_iter().take(5).collect();
            Err(missing(&format!(
                "several GUIDs begin with {name}, give more of the one you mean: {}{}",
                some.join(", "),
                if several > some.len() { ", ..." } else { "" }
            )))
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
            Self::List {
                limit,
                cursor,
                json,
            } => {
                let rules = NumberRules::default();
                let reader = Reader::Store(Box::new(StoreReads {
                    store: store.of_team(DEFAULT_TEAM.0),
                    instance: store.clone(),
                    rules: Arc::new(rules),
                    show_people: false,
                    me: None,
                }));
                let query = ReadQuery::default().with("state", Some(DeliveryState::Dead.as_str()));
                let listed = listed(&reader, &query, limit, cursor).await?;
                let groups = store.dead_groups().await?;
                if json {
                    return output::json(&DeadLetterList { listed, groups });
                }
                if !groups.is_empty() {
                    print_groups(groups)?;
                    output::line("")?;
                }
                print_table(&listed, "there are no dead letters")
            }
            Self::Show { id } => {
                let is_dead = |delivery: &Delivery| delivery.state == DeliveryState::Dead;
                for dead in named(store, &id, is_dead, "dead letter").await? {
                    output::json(&detail(store, dead).await?)?;
                }
                Ok(())
            }
            Self::Requeue(arguments) => arguments.run(store).await,
            Self::Discard(arguments) => arguments.run(store).await,
        }
    }
}

impl RequeueArgs {
    async fn run(self, store: &Store) -> CommandResult {
        let Self {
            mut ids,
            reason,
            event,
            repo,
            all,
        } = self;
        // One that is given twice is one dead letter.
        ids.sort_unstable();
        ids.dedup();
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
        if let (DeadLetterSelection::Like(like), 0, false) = (&selection, requeued, all) {
            return Err(none_matches(like));
        }
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

/// Returns the failure of a group without dead letters.
pub(super) fn none_matches(like: &DeadLetterMatch) -> CommandFailure {
    let DeadLetterMatch {
        reason,
        event,
        repo,
    } = like;
    let given: Vec<_> = [("reason", reason), ("event", event), ("repository", repo)]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} `{}`", value.as_deref()?)))
        .collect();
    missing(&format!(
        "no dead letter matches {}: `tallyhook dead list` shows their groups",
        given.join(", ")
    ))
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
            ..Self::default()
        }
    }
}

impl From<FilterArgs> for ReadQuery {
    fn from(filter: FilterArgs) -> Self {
        let state = filter.state.map(DeliveryState::from);
        Self::default()
            .with("state", state.map(DeliveryState::as_str))
            .with("event", filter.event)
            .with("repo", filter.repo)
    }
}

/// Dead letters with their groups, in the form of the API's lists.
#[derive(Serialize)]
struct DeadLetterList {
    #[serde(flatten)]
    listed: Page<DeliveryItem>,
    groups: Vec<DeadLetterGroup>,
}

fn print_groups(groups: Vec<DeadLetterGroup>) -> CommandResult {
    let mut table = output::table([
        output::whole("dead letters"),
        output::text("event"),
        output::text("repository"),
        output::detail("first received"),
        output::whole("last received"),
        output::note("reason", 2),
    ]);
    for group in groups {
        table.add_row([
            group.deliveries.to_string(),
            group.event,
            group.repo.unwrap_or_default(),
            seconds(group.first_received_at),
            seconds(group.last_received_at),
            group.reason,
        ]);
    }
    table.print("")
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
