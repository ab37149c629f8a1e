//! The command line.

mod backfill;
mod demo;
mod doctor;
mod github;
mod hook;
mod inbox;
mod notify;
mod output;
mod poll;
mod recompute;
mod recorded;
mod recover;
mod replay;
mod serve;
mod tokens;
mod worktrees;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tallyhook_core::event::message;
use tallyhook_store::{DatabaseUrlError, OpenMode};

use crate::config::{
    Config, ConfigError, DATABASE_URL, GITHUB_WEBHOOK_SECRET, SETTINGS, Sources, TALLYHOOK_LISTEN,
};
use crate::telemetry::{self, LogFormat};

/// Self-hosted GitHub event processor: signed webhooks in, explained cycle times out.
#[derive(Debug, Parser)]
#[command(name = "tallyhook", version, after_help = settings_help(), max_term_width = 110)]
struct Cli {
    /// TOML file of settings; its keys are the names below in lower case
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How logs are written, to standard error
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Where everything is kept (beats `DATABASE_URL`)
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole product on a throw-away store: fixtures through the real endpoint, a table, the API
    Demo(demo::Demo),
    /// Run the server
    Serve(serve::Serve),
    /// Sign recorded deliveries and post them to a server
    Replay(replay::Replay),
    /// Look at stored deliveries, or export them as fixtures
    #[command(subcommand)]
    Deliveries(inbox::Deliveries),
    /// Look at dead letters, try them again or let them go
    #[command(subcommand)]
    Dead(inbox::Dead),
    /// Fetch deliveries that failed from GitHub, and put them into the inbox
    Recover(recover::Recover),
    /// Fetch a repository's history from GitHub
    Backfill(backfill::Backfill),
    /// Ask GitHub once for what webhooks missed
    Poll(poll::Poll),
    /// Make a repository's webhook at GitHub
    #[command(subcommand)]
    Hook(hook::HookCommand),
    /// Look whether everything is set up well, and say what to do where it is not
    Doctor(doctor::Doctor),
    /// Try channels out, and see what they were told
    #[command(subcommand)]
    Notify(notify::NotifyCommand),
    /// Remove the working trees of tasks that are done, unless something would be lost
    Worktrees(worktrees::Worktrees),
    /// Work out all numbers again from the stored facts
    Recompute,
    /// Bring the database to this version
    Migrate,
    /// Create, list and revoke API tokens
    #[command(subcommand)]
    Token(tokens::TokenCommand),
    /// Print the API's description (OpenAPI, JSON)
    Openapi {
        /// Print the schema of the broker's messages instead (JSON Schema)
        #[arg(long)]
        events: bool,
    },
    /// Print a completion script
    Completions {
        /// The shell it is for
        shell: clap_complete::Shell,
    },
}

fn settings_help() -> String {
    let mut help = String::from(
        "Settings (environment; a flag beats them, they beat the file of --config):\n",
    );
    for setting in SETTINGS {
        let default = setting
            .default
            .map(|default| format!(" [default: {default}]"))
            .unwrap_or_default();
        help.push_str(&format!(
            "  {}\n      {}{default}\n",
            setting.name, setting.help
        ));
    }
    help.push_str("\nExit codes: 0 ok, 1 failed, 2 called or configured wrongly.");
    help
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    /// It was called or configured wrongly: exit code 2.
    Usage(String),
    /// It could not be done: exit code 1.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.downcast::<ConfigError>() {
            Ok(error) => Self::Usage(error.to_string()),
            Err(error) => match error.downcast::<DatabaseUrlError>() {
                Ok(error) => Self::Usage(error.to_string()),
                Err(error) => Self::Failed(error),
            },
        }
    }
}

type Outcome<T = ()> = Result<T, Failure>;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    #[cfg(feature = "crash-points")]
    tallyhook_core::crash_point::arm(crate::config::crash_plan());
    let cli = Cli::parse();
    let quiet = !matches!(cli.command, Command::Serve(_));
    telemetry::log(cli.log_format, quiet);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return report(&Failure::Failed(
                anyhow::Error::new(error).context("cannot start threads"),
            ));
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// One line that says what is wrong.
fn report(failure: &Failure) -> ExitCode {
    let (text, code) = match failure {
        // Whoever read our output has seen enough of it.
        Failure::Failed(error) if output::is_broken_pipe(error) => return ExitCode::SUCCESS,
        Failure::Failed(error) => (format!("{error:#}"), 1),
        Failure::Usage(text) => (text.clone(), 2),
    };
    eprintln!("tallyhook: {}", text.replace('\n', " "));
    ExitCode::from(code)
}

async fn run(cli: Cli) -> Outcome {
    let Cli {
        config,
        log_format: _,
        database_url,
        command,
    } = cli;
    let sources = || {
        Ok::<_, Failure>(
            Sources::of_process(config.as_deref())?.with_flag(DATABASE_URL, database_url.clone()),
        )
    };
    match command {
        Command::Demo(demo) => demo.run(sources()?).await,
        Command::Serve(serve) => serve.run(sources()?).await,
        Command::Replay(replay) => replay.run(sources()?).await,
        Command::Deliveries(command) => command.run(&beside(&sources()?).await?).await,
        Command::Dead(command) => command.run(&beside(&sources()?).await?).await,
        Command::Recover(recover) => recover.run(sources()?).await,
        Command::Backfill(backfill) => backfill.run(sources()?).await,
        Command::Poll(poll) => poll.run(sources()?).await,
        Command::Hook(command) => command.run(sources()?).await,
        Command::Doctor(doctor) => doctor.run(sources()).await,
        Command::Notify(command) => command.run(sources()?).await,
        Command::Worktrees(worktrees) => worktrees.run(sources()?).await,
        Command::Recompute => {
            let config = Config::new(&sources()?)?;
            let store = tallyhook_store::open(&config.database_url, OpenMode::Shared).await?;
            recompute::run(&store, &config.bots, &config.tasks.patterns).await
        }
        Command::Migrate => {
            let config = Config::new(&sources()?)?;
            tallyhook_store::open(&config.database_url, OpenMode::Exclusive)
                .await?
                .close()
                .await;
            output::line("the database is at this version")
        }
        Command::Token(command) => command.run(&beside(&sources()?).await?).await,
        Command::Openapi { events: false } => output::line(&crate::api::openapi()?),
        Command::Openapi { events: true } => output::line(&message::schema()?),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tallyhook", &mut script);
            output::raw(&script)
        }
    }
}

/// Opens the store beside a server that may be running.
async fn beside(sources: &Sources) -> Outcome<tallyhook_store::Store> {
    let config = Config::new(sources)?;
    Ok(tallyhook_store::open(&config.database_url, OpenMode::Shared).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
