//! `tallyhook audit`

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use futures_util::TryStreamExt;
use tallyhook_store::Store;

use super::act::record;
use super::{CommandResult, output};
use crate::api::{RecordFilter, RecordFormat};
use crate::times::TimePoint;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Write the record of administrative acts, or that of requests to GitHub, newest first
    Export(ExportArgs),
}

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// The requests to GitHub instead of the acts
    #[arg(long)]
    calls: bool,
    /// At or after: RFC 3339, a date (midnight UTC), or a span before now such as 30d
    #[arg(long, value_name = "TIME")]
    from: Option<TimePoint>,
    /// Before, in the same forms
    #[arg(long, value_name = "TIME")]
    to: Option<TimePoint>,
    /// The name of the one who acted, or its login
    #[arg(long)]
    actor: Option<String>,
    /// The action, or its first part such as `token`; of requests the method, the route, the outcome
    /// or the correlation
    #[arg(long)]
    action: Option<String>,
    /// The form of the rows
    #[arg(long, value_enum, default_value_t = ExportFormat::Ndjson)]
    format: ExportFormat,
    /// Write into this file, for this user alone, instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExportFormat {
    /// A JSON object a line
    Ndjson,
    /// Cells, with a line of names
    Csv,
}

impl AuditCommand {
    pub(super) async fn run(self, store: &Store) -> CommandResult {
        let Self::Export(arguments) = self;
        arguments.run(store).await
    }
}

impl ExportArgs {
    async fn run(self, store: &Store) -> CommandResult {
        let times = (self.from, self.to);
        let filter = match self.calls {
            false => RecordFilter::all_acts(times, self.actor, self.action),
            true => RecordFilter::all_calls(times, self.actor, self.action),
        };
        let format = match self.format {
            ExportFormat::Ndjson => RecordFormat::Ndjson,
            ExportFormat::Csv => RecordFormat::Csv,
        };
        let target = Some(("record", filter.call().to_owned()));
        record(store, "audit.exported", target, async {}, |()| true).await?;
        let mut file = match &self.output {
            None => None,
            Some(path) => {
                let opened = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(path);
                let file = opened.with_context(|| format!("cannot write {}", path.display()))?;
                file.set_permissions(Permissions::from_mode(0o600))?;
                Some(file)
            }
        };
        let mut rows = std::pin::pin!(filter.export(store.clone(), format));
        while let Some(text) = rows.try_next().await? {
            match &mut file {
                Some(file) => file.write_all(&text)?,
                None => output::raw(&text)?,
            }
        }
        if let Some(file) = file {
            file.sync_all()?;
        }
        Ok(())
    }
}
