//! The command line.

mod act;
mod audit;
mod backfill;
mod config_command;
mod confirmation;
mod delivery_list;
mod demo;
mod discard;
mod doctor;
mod follow;
mod github;
mod help;

mod hook;
mod inbox;
mod init;
mod man;
mod member;
mod notify;
mod output;
mod poll;
mod pr;
mod prs;
mod reader;
mod recompute;
mod recorded;
mod recover;
mod refetch;
mod replay;
mod repositories;
mod secrets;
mod serve;
mod stats;
mod table;
mod team;
mod tokens;
mod usage;
mod user;
mod waiting;
mod worktrees;

use std::io::{self, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{FromArgMatches, Parser, Subcommand};
use tallyhook_core::event::message;
use tallyhook_core::text::{one_line, with_causes};
use tallyhook_store::{DatabaseUrlError, OpenMode};
use tokio::runtime::{Builder, Runtime};

pub use self::help::command;
use crate::config::{
    self, Config, ConfigError, DATABASE_URL, GITHUB_WEBHOOK_SECRET, SettingSources,
    TALLYHOOK_LISTEN,
};
use crate::logging::{self, LogFormat};

/// Self-hosted GitHub event processor: signed webhooks in, explained cycle times out.
#[derive(Debug, Parser)]
#[command(
    name = "tallyhook",
    version = env!("TALLYHOOK_VERSION"),
    long_version = concat!(
        env!("TALLYHOOK_VERSION"),
        "\nbuilt for ",
        env!("TALLYHOOK_BUILD"),
    )
)]
struct CommandLine {
    /// TOML file of settings; its keys are the names below in lower case
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    config: Option<PathBuf>,
    /// Format of the logs on standard error
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    log_format: LogFormat,
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help_heading = "Global options",
        help = "The database [env: DATABASE_URL]"
    )]
    database_url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole product on a throw-away store, with fixtures
    ///
    /// It posts the fixtures to its own signed endpoint and prints what became of them; then the
    /// API answers until Ctrl-C.
    Demo(demo::DemoArgs),
    /// Run the server
    Serve(serve::ServeArgs),
    /// Sign recorded deliveries and post them to a server
    Replay(replay::ReplayArgs),
    /// List pull requests with their times
    Prs(Box<prs::PullRequestsArgs>),
    /// Show one pull request, and where its time went
    Pr(pr::PullRequestArgs),
    /// Show what open pull requests wait for, since when and on whom
    Waiting(waiting::WaitingArgs),
    /// Show cycle times and review times by day, week or month
    Stats(stats::StatsArgs),
    /// List and show stored deliveries, or export them as fixtures
    #[command(subcommand)]
    Deliveries(inbox::DeliveriesCommand),
    /// List, show, requeue and discard dead letters
    #[command(subcommand)]
    Dead(inbox::DeadCommand),
    /// Fetch deliveries that failed from GitHub into the inbox
    Recover(recover::RecoverArgs),
    /// Fetch a repository's history from GitHub
    Backfill(backfill::BackfillArgs),
    /// Fetch once from GitHub what webhooks missed
    Poll(poll::PollArgs),
    /// Replace the stored facts of a pull request by GitHub's, after forged or damaged deliveries
    Refetch(refetch::RefetchArgs),
    /// Create the webhook of a repository at GitHub
    #[command(subcommand)]
    Hook(hook::HookCommand),
    /// Check settings, database, broker, GitHub and webhooks, and show how to fix what is wrong
    Doctor(doctor::DoctorArgs),
    /// Test channels, and list them with their progress
    #[command(subcommand)]
    Notify(notify::NotifyCommand),
    /// List the tasks' working trees, or remove those of merged tasks, unless that would lose
    /// something
    Worktrees(worktrees::WorktreesArgs),
    /// Compute all numbers again from the stored facts
    Recompute,
    /// Migrate the database to this version
    Migrate,
    /// List repositories with their teams; give them to teams, and take them away
    #[command(subcommand)]
    Repository(repositories::RepositoryCommand),
    /// Create, list and revoke API tokens
    #[command(subcommand, alias = "tokens")]
    Token(tokens::TokenCommand),
    /// Create and list teams
    #[command(subcommand)]
    Team(team::TeamCommand),
    /// List, add, change and remove members of teams
    #[command(subcommand)]
    Member(member::MemberCommand),
    /// Make sign-in links, list people, and disable them
    #[command(subcommand)]
    User(user::UserCommand),
    /// Export the records of administrative acts and of requests to GitHub
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// List, replace and forget the keys of stored secrets
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Print the API's description (OpenAPI, JSON)
    Openapi {
        /// Print the schema of the broker's messages instead (JSON Schema)
        #[arg(long)]
        events: bool,
    },
    /// Write a first configuration: a secret, the settings, systemd's units
    Init(init::InitArgs),
    /// Check the settings, or show those in force and where they are from
    #[command(subcommand)]
    Config(config_command::ConfigCommand),
    /// Print a manual page, or write all of them into a folder
    Man(man::ManArgs),
    /// Print a completion script
    Completions {
        /// The shell it is for
        shell: clap_complete::Shell,
    },
}

/// The failure of a command, by exit code.
#[derive(Debug)]
enum CommandFailure {
    /// Wrong arguments or settings: exit code 2.
    Usage(String),
    /// Any other failure: exit code 1.
    Failed(anyhow::Error),
}

impl CommandFailure {
    /// Returns the exit code.
    fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
        }
    }

    /// Returns the text in one line.
    fn text(&self) -> String {
        let text = match self {
            Self::Failed(error) => with_causes(error.as_ref()),
            Self::Usage(text) => text.clone(),
        };
        text.replace('\n', " ")
    }
}

impl<E: Into<anyhow::Error>> From<E> for CommandFailure {
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

type CommandResult<T = ()> = Result<T, CommandFailure>;

/// Parses the command line of this process and runs the command.
pub fn main() -> ExitCode {
    #[cfg(feature = "crash-points")]
    tallyhook_core::crash_point::arm(crate::config::crash_plan());
    let arguments = help::command().try_get_matches();
    let cli = arguments.and_then(|arguments| CommandLine::from_arg_matches(&arguments));
    let cli = match cli {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let quiet = !matches!(cli.command, Command::Serve(_));
    // Before the first thread is started.
    let sockets = if quiet {
        Ok(Vec::new())
    } else {
        config::fix_allocator_limits();
        config::handed_over_sockets()
    };
    let log = logging::init_logging(cli.log_format, quiet);
    let ended = start_threads().and_then(|runtime| {
        let ended = runtime.block_on(run(cli, sockets?));
        // A thread that is stuck in the file system would hold up a second Ctrl-C.
        runtime.shutdown_background();
        ended
    });
    let failure = match ended {
        Ok(()) => None,
        // The reader of our output, such as `head`, has closed it.
        Err(CommandFailure::Failed(error)) if output::is_broken_pipe(&error) => None,
        Err(failure) => Some((failure.code(), failure.text())),
    };
    let (code, text) = failure.unzip();
    log.finish(text.map(|text| format!("tallyhook: {}", one_line(&text, usize::MAX))));
    ExitCode::from(code.unwrap_or(0))
}

/// Reports a wrong call in one line; prints help and version.
fn refuse(error: &clap::Error) -> ExitCode {
    let arguments = std::env::args_os().map(|text| text.to_string_lossy().into_owned());
    match usage::usage_error(error, arguments) {
        // Standard error may be closed.
        Some(text) => drop(writeln!(
            io::stderr(),
            "tallyhook: {}",
            one_line(&text, usize::MAX)
        )),
        None => error.exit(),
    }
    ExitCode::from(2)
}

fn start_threads() -> CommandResult<Runtime> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    Ok(runtime.context("cannot start threads")?)
}

async fn run(cli: CommandLine, sockets: Vec<TcpListener>) -> CommandResult {
    let CommandLine {
        config,
        log_format: _,
        database_url,
        command,
    } = cli;
    // These two show the warnings themselves.
    let warns = !matches!(command, Command::Doctor(_) | Command::Config(_));
    let sources = || {
        let sources = SettingSources::from_process(config.as_deref())?
            .with_flag(DATABASE_URL, database_url.clone());
        for warning in sources.warnings().iter().filter(|_| warns) {
            tracing::warn!("{warning}");
        }
        Ok::<_, CommandFailure>(sources)
    };
    match command {
        Command::Demo(demo) => demo.run(sources()?).await,
        Command::Serve(serve) => serve.run(sources, sockets).await,
        Command::Replay(replay) => replay.run(sources()?).await,
        Command::Prs(prs) => prs.run(sources()?).await,
        Command::Pr(pr) => pr.run(sources()?).await,
        Command::Waiting(waiting) => waiting.run(sources()?).await,
        Command::Stats(stats) => stats.run(sources()?).await,
        Command::Deliveries(command) => command.run(sources()?).await,
        Command::Dead(command) => command.run(&beside(&sources()?).await?).await,
        Command::Recover(recover) => recover.run(sources()?).await,
        Command::Backfill(backfill) => backfill.run(sources()?).await,
        Command::Poll(poll) => poll.run(sources()?).await,
        Command::Refetch(refetch) => refetch.run(sources()?).await,
        Command::Hook(command) => command.run(sources()?).await,
        Command::Doctor(doctor) => doctor.run(sources()).await,
        Command::Notify(command) => command.run(sources()?).await,
        Command::Worktrees(worktrees) => worktrees.run(sources()?).await,
        Command::Recompute => {
            let config = Config::new(&sources()?)?;
            let store = tallyhook_store::open(&config.database_url, OpenMode::Shared).await?;
            recompute::run(&store, &config.numbers, &config.tasks.patterns).await
        }
        Command::Migrate => {
            let config = Config::new(&sources()?)?;
            tallyhook_store::open(&config.database_url, OpenMode::Exclusive)
                .await?
                .close()
                .await;
            output::line("the database is migrated to this version")
        }
        Command::Repository(command) => command.run(&beside(&sources()?).await?).await,
        Command::Token(command) => command.run(&beside(&sources()?).await?).await,
        Command::Team(command) => command.run(&beside(&sources()?).await?).await,
        Command::Member(command) => command.run(&beside(&sources()?).await?).await,
        Command::User(command) => {
            let config = Config::new(&sources()?)?;
            let store = tallyhook_store::open(&config.database_url, OpenMode::Shared).await?;
            command.run(&config, &store).await
        }
        Command::Audit(command) => command.run(&beside(&sources()?).await?).await,
        Command::Secrets(command) => command.run(sources()?).await,
        Command::Openapi { events: false } => output::line(&crate::api::openapi()?),
        Command::Openapi { events: true } => output::line(&message::schema()?),
        Command::Init(init) => init.run(config.as_deref()),
        Command::Config(command) => command.run(sources()),
        Command::Man(man) => man.run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut help::command(), "tallyhook", &mut script);
            output::raw(&script)
        }
    }
}

/// Returns a failure of a command in these words.
fn failed(what: &str) -> CommandFailure {
    CommandFailure::Failed(anyhow::anyhow!("{what}"))
}

/// Opens the store beside a server that may be running.
async fn beside(sources: &SettingSources) -> CommandResult<tallyhook_store::Store> {
    let config = Config::new(sources)?;
    Ok(tallyhook_store::open(&config.database_url, OpenMode::Shared).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_definition_is_consistent() {
        command().debug_assert();
    }
}
