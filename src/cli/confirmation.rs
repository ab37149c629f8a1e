//! Confirmation of what cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use tallyhook_core::text::one_line;

use super::{CommandFailure, CommandResult};

/// The option of a command that cannot be undone.
#[derive(Debug, Args)]
pub(super) struct Confirmation {
    /// Do it without asking
    #[arg(long)]
    yes: bool,
}

impl Confirmation {
    /// Succeeds with `--yes`, or if a person at the terminal agrees to `action`, such as `discard 3
    /// dead letters`.
    ///
    /// # Errors
    /// Anything else: nothing may be changed then.
    pub(super) fn obtain(&self, action: &str) -> CommandResult {
        if self.yes {
            return Ok(());
        }
        let action = one_line(action, usize::MAX);
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(CommandFailure::Usage(format!(
                "to {action} cannot be undone, and there is no terminal to ask on: give --yes to \
                 do it"
            )));
        }
        write!(io::stderr(), "To {action} cannot be undone. Do it? [y/N] ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(CommandFailure::Failed(anyhow::anyhow!(
                "nothing is changed: it was not confirmed"
            ))),
        }
    }
}
