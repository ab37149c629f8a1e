//! `tallyhook man`

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::Man;

use super::help::command;
use super::{CommandFailure, CommandResult, output};

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The command, as in `man serve` or `man dead requeue`; without one the program's own page
    command: Vec<String>,
    /// Write all pages into this folder, which is created, instead of printing one
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    output: Option<PathBuf>,
}

impl ManArgs {
    pub(super) fn run(self) -> CommandResult {
        let mut root = command().disable_help_subcommand(true);
        root.build();
        if let Some(folder) = self.output {
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create the folder {}", folder.display()))?;
            return Ok(write_all(&root, &folder)?);
        }
        let mut page = &root;
        for name in &self.command {
            page = page.find_subcommand(name).ok_or_else(|| {
                CommandFailure::Usage(format!(
                    "there is no command `{name}`: `tallyhook --help` lists them"
                ))
            })?;
        }
        let mut text = Vec::new();
        Man::new(page.clone()).render(&mut text)?;
        output::raw(&text)
    }
}

/// Writes the page of a command and those of the commands below it.
fn write_all(command: &Command, folder: &Path) -> anyhow::Result<()> {
    let man = Man::new(command.clone());
    let path = folder.join(man.get_filename());
    let mut page = Vec::new();
    man.render(&mut page)?;
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    command
        .get_subcommands()
        .try_for_each(|command| write_all(command, folder))
}
