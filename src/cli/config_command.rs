//! `tallyhook config`

use clap::Subcommand;
use serde_json::json;

use super::serve::{RoleArgument, check_start, role_set};
use super::{CommandResult, SettingSources, output};
use crate::config::Config;
use crate::notify::Channels;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check all settings as `serve` does at its start, and connect to nothing
    Check {
        /// The roles that `serve` is to have
        #[arg(long, value_enum, value_delimiter = ',', default_value = "all")]
        role: Vec<RoleArgument>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show every setting in force and where it is from, without secrets
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl ConfigCommand {
    pub(super) fn run(self, sources: CommandResult<SettingSources>) -> CommandResult {
        match self {
            Self::Check { role, json } => {
                let checked = sources.and_then(|sources| check(&sources, &role));
                if json {
                    return report(checked);
                }
                let warnings = checked?;
                for warning in &warnings {
                    output::line(&format!("warning: {warning}"))?;
                }
                output::line("the settings are valid: `tallyhook doctor` checks what they name")
            }
            Self::Show { json } => show(&sources?, json),
        }
    }
}

/// Returns the warnings about settings that can be used.
fn check(sources: &SettingSources, roles: &[RoleArgument]) -> CommandResult<Vec<String>> {
    let config = Config::new(sources)?;
    let mut warnings = sources.warnings();
    warnings.extend(check_start(&config, role_set(roles))?);
    tallyhook_store::check_url(&config.database_url)?;
    if let Some(url) = &config.amqp_url {
        tallyhook_queue::check_url(url).map_err(super::CommandFailure::Usage)?;
    }
    Channels::new(&config.notify, &config.numbers.calendars)?;
    Ok(warnings)
}

fn report(checked: CommandResult<Vec<String>>) -> CommandResult {
    match checked {
        Ok(warnings) => output::json(&json!({"valid": true, "error": null, "warnings": warnings})),
        Err(failure) => {
            let text = failure.text();
            output::json(&json!({"valid": false, "error": text, "warnings": []}))?;
            Err(failure)
        }
    }
}

fn show(sources: &SettingSources, as_json: bool) -> CommandResult {
    let settings = sources.effective();
    if as_json {
        let items = settings.iter().map(
            |setting| json!({"name": setting.name, "value": setting.value, "from": setting.from}),
        );
        let file = sources.config_file().map(|path| path.display().to_string());
        let items: Vec<_> = items.collect();
        return output::json(&json!({"config_file": file, "items": items, "next": null}));
    }
    let mut table = output::table([
        output::whole("setting"),
        output::prose("value"),
        output::whole("from"),
    ]);
    for setting in settings {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.add_row([setting.name, or_dash(setting.value), or_dash(setting.from)]);
    }
    table.print("there are no settings")
}
