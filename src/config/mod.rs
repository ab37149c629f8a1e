//! Settings: what they are called, where they come from, what they mean. The one place that reads the environment.
//!
//! A flag beats the environment, which beats the file. The file is TOML, its keys are the names in lower case, and a
//! key that is not known is refused, since a misspelt setting is a setting that silently does nothing.

mod channels;
mod sync;
mod tasks;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tallyhook_core::domain::people::Bots;
use tallyhook_core::github::signature::Secrets;
use tallyhook_github_client::hooks::HookSecret;
use tallyhook_github_client::{ApiUrl, App, Credentials, NoApp, Token};

pub use self::channels::{CHANNEL_KEYS, Channel, Filter, NOTIFY_ALLOW_PRIVATE, Notify, Receiver};
pub use self::sync::{Backfill, MOST_DAYS_BACK, MOST_PRS, Monitor, Sync};
pub use self::tasks::Tasks;

/// One setting, as the README's table and `--help` tell it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable; the file's key is the same in lower case.
    pub name: &'static str,
    pub default: Option<&'static str>,
    pub help: &'static str,
}

const fn setting(name: &'static str, default: Option<&'static str>, help: &'static str) -> Setting {
    Setting {
        name,
        default,
        help,
    }
}

pub const GITHUB_WEBHOOK_SECRET: &str = "GITHUB_WEBHOOK_SECRET";
pub const GITHUB_TOKEN: &str = "GITHUB_TOKEN";
pub const GITHUB_APP_ID: &str = "GITHUB_APP_ID";
pub const GITHUB_APP_PRIVATE_KEY: &str = "GITHUB_APP_PRIVATE_KEY";
pub const DATABASE_URL: &str = "DATABASE_URL";
pub const AMQP_URL: &str = "AMQP_URL";
pub const TALLYHOOK_LISTEN: &str = "TALLYHOOK_LISTEN";

/// Every setting there is.
pub const SETTINGS: &[Setting] = &[
    setting(
        GITHUB_WEBHOOK_SECRET,
        None,
        "the webhook's secret; several, separated by white space, are all valid (rotation); `serve` does not start without",
    ),
    setting(
        GITHUB_TOKEN,
        None,
        "a token of GitHub's, with which it is asked for what webhooks missed; without it GitHub is asked for nothing",
    ),
    setting(
        GITHUB_APP_ID,
        None,
        "number or client id of the GitHub App to ask as instead of with a token",
    ),
    setting(
        GITHUB_APP_PRIVATE_KEY,
        None,
        "the App's private key: the PEM itself, in which \\n may stand for line ends, or the path of its file",
    ),
    setting(
        "GITHUB_API_URL",
        Some("https://api.github.com"),
        "where GitHub's API is; of an Enterprise Server https://HOST/api/v3",
    ),
    setting(
        "GITHUB_REPO_OWNER",
        None,
        "owner of the default repository, which `/api/prs/{number}` means",
    ),
    setting("GITHUB_REPO_NAME", None, "name of the default repository"),
    setting(
        "GITHUB_SYNC_DAYS_BACK",
        Some("90"),
        "how many days a backfill goes back, by the last update",
    ),
    setting(
        "GITHUB_SYNC_MAX_PRS",
        Some("1000"),
        "how many pull requests a backfill fetches at the most",
    ),
    setting(
        "GITHUB_SYNC_COMMITS",
        Some("false"),
        "whether the dates of commits are asked for, at the price of more requests",
    ),
    setting(
        "SYNC_INTERVAL",
        Some("60s"),
        "how often the poller asks GitHub what changed in tracked repositories",
    ),
    setting(
        "SYNC_BATCH_SIZE",
        Some("10"),
        "how many pull requests the poller fetches with one request",
    ),
    setting(
        "SYNC_MAX_CONCURRENT",
        Some("5"),
        "how many repositories the poller asks for at the same time",
    ),
    setting(
        "SYNC_TIMEOUT",
        Some("30s"),
        "how long one request to GitHub may take",
    ),
    setting(
        "SYNC_RETRY_ATTEMPTS",
        Some("3"),
        "how often what failed on the way is asked for again",
    ),
    setting(
        "SYNC_RETRY_DELAY",
        Some("10s"),
        "how long to wait before that",
    ),
    setting(
        "MONITOR_POLL_INTERVAL",
        Some("5m"),
        "how often a watched pull request is asked for",
    ),
    setting(
        "MONITOR_MAX_RETRIES",
        Some("3"),
        "how often one that failed is asked for again, before the next interval",
    ),
    setting(
        "MONITOR_RETRY_DELAY",
        Some("30s"),
        "how long to wait before that",
    ),
    setting(
        "MONITOR_CONCURRENT",
        Some("5"),
        "how many watched pull requests are asked for at the same time",
    ),
    setting(
        "PR_CACHE_TTL",
        Some("300s"),
        "how old an answer may be before GitHub is asked in the background",
    ),
    setting(
        DATABASE_URL,
        Some("sqlite://tallyhook.db"),
        "where everything is kept: sqlite://FILE or postgres://USER:PASSWORD@HOST:PORT/DATABASE",
    ),
    setting(
        AMQP_URL,
        None,
        "the RabbitMQ between receivers and workers: amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps://; without it the queue is inside the process",
    ),
    setting(
        TALLYHOOK_LISTEN,
        Some("127.0.0.1:8080"),
        "address and port to listen on; port 0 takes any free one",
    ),
    setting(
        "TALLYHOOK_ADMIN_TOKEN",
        None,
        "a token of the API that is valid while it is set; without it one is made at the first start and written to `tallyhook-admin-token` beside the database file, or in the current folder",
    ),
    setting(
        "BOT_LOGINS",
        None,
        "accounts to treat as bots besides those GitHub calls so, separated by white space or commas",
    ),
    setting(
        tasks::TASK_KEY_PATTERNS,
        Some(r"[A-Z][A-Z0-9]+-\d+ story-(\d+)"),
        "what in a branch, title or body names a task: regular expressions, separated by white space, of which the first group, or else all, is the key",
    ),
    setting(
        "TASK_AUTO_PR",
        Some("false"),
        "whether a push to the branch of a task in IMPLEMENTING makes its pull request",
    ),
    setting(
        "WORKTREE_ROOT",
        None,
        "the folder below which working trees of tasks are; they are removed there after the merge, if nothing is lost; without it none is removed",
    ),
    setting(
        "DELIVERY_RETENTION_DAYS",
        Some("7"),
        "how long bodies of finished deliveries are kept; their keys stay 30 days, dead letters until decided",
    ),
    setting(
        "WEBSOCKET_MAX_CLIENTS",
        Some("2000"),
        "how many clients `/ws` of one process has at the most",
    ),
    setting(
        channels::SLACK_WEBHOOK_URL,
        None,
        "an incoming webhook of Slack's, which is told of every change",
    ),
    setting(
        channels::NOTIFY_WEBHOOK_URL,
        None,
        "an address that every change is posted to, as JSON",
    ),
    setting(
        channels::NOTIFY_WEBHOOK_SECRET,
        None,
        "what is posted there is signed with this, as GitHub signs",
    ),
    setting(
        NOTIFY_ALLOW_PRIVATE,
        Some("false"),
        "whether notifications may be sent to this machine and into private networks",
    ),
    setting(
        "NOTIFICATION_TIMEOUT",
        Some("10s"),
        "how long sending one notification may take",
    ),
];

/// What is wrong with the settings, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// The settings in force. Without `Debug`, since some of them are secrets.
#[derive(Clone)]
pub struct Config {
    pub webhook_secrets: Option<Secrets>,
    /// The first of them, for GitHub to sign with.
    pub hook_secret: Option<HookSecret>,
    /// `None`: GitHub is asked for nothing.
    pub github_credentials: Option<Credentials>,
    pub github_api_url: ApiUrl,
    /// `owner/name`.
    pub default_repository: Option<String>,
    pub database_url: String,
    /// `None` is the queue inside the process.
    pub amqp_url: Option<String>,
    pub listen: SocketAddr,
    pub admin_token: Option<String>,
    pub bots: Bots,
    pub retention_days: u32,
    /// How many clients one process has at its WebSocket.
    pub websocket_clients: u32,
    pub sync: Sync,
    pub tasks: Tasks,
    pub notify: Notify,
}

/// A number of days that can be reckoned with.
struct Days(u32);

impl FromStr for Days {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse()
            .ok()
            .filter(|days| *days <= 36_500)
            .map(Self)
            .ok_or(())
    }
}

/// Where settings come from.
#[derive(Default)]
pub struct Sources {
    flags: BTreeMap<&'static str, String>,
    environment: BTreeMap<String, String>,
    file: BTreeMap<String, String>,
    /// Those of the file, which alone can tell of more than one.
    channels: Vec<Channel>,
}

impl Sources {
    /// The process's environment, and `file` if there is one.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML or has a key that is not known.
    pub fn of_process(file: Option<&Path>) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let (file, channels) = file.map(read_file).transpose()?.unwrap_or_default();
        Ok(Self {
            flags: BTreeMap::new(),
            environment,
            file,
            channels,
        })
    }

    /// Lets a flag of the command line decide, if it was given.
    #[must_use]
    pub fn with_flag(mut self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        if let Some(value) = value {
            self.flags.insert(name, value.into());
        }
        self
    }

    /// Forgets what everything but `name` is.
    #[must_use]
    pub fn only(self, name: &'static str) -> Self {
        Self::default().with_flag(name, self.lookup(name))
    }

    /// Whether anything but the default says what `name` is.
    pub fn names(&self, name: &str) -> bool {
        self.lookup(name).is_some()
    }

    fn lookup(&self, name: &str) -> Option<&str> {
        let sources = [
            self.flags.get(name),
            self.environment.get(name),
            self.file.get(name),
        ];
        // An empty variable is how shells and compose files leave one out.
        sources
            .into_iter()
            .flatten()
            .map(|text| text.trim())
            .find(|text| !text.is_empty())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.lookup(name).or(default_of(name))
    }

    fn parsed<T: FromStr>(&self, name: &str, expected: &str) -> Result<T, ConfigError> {
        self.parsed_if(name, expected, |_| true)
    }

    fn within<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let default = default_of(name).unwrap_or_default();
        let expected = format!(
            "one from {} to {} such as {default}",
            range.start(),
            range.end()
        );
        self.parsed_if(name, &expected, |value| range.contains(value))
    }

    fn parsed_if<T: FromStr>(
        &self,
        name: &str,
        expected: &str,
        is_good: impl FnOnce(&T) -> bool,
    ) -> Result<T, ConfigError> {
        let text = self.value(name).unwrap_or_default();
        let value = text.parse().ok().filter(is_good);
        value.ok_or_else(|| ConfigError(format!("{name} is `{text}`, expected {expected}")))
    }
}

fn default_of(name: &str) -> Option<&'static str> {
    SETTINGS
        .iter()
        .find(|setting| setting.name == name)?
        .default
}

impl Config {
    /// Checks and collects the settings.
    ///
    /// # Errors
    /// Which setting is wrong, and what was expected.
    pub fn new(sources: &Sources) -> Result<Self, ConfigError> {
        let default_repository = match (
            sources.value("GITHUB_REPO_OWNER"),
            sources.value("GITHUB_REPO_NAME"),
        ) {
            (Some(owner), Some(name)) => Some(format!("{owner}/{name}")),
            (None, None) => None,
            _ => {
                let message = "GITHUB_REPO_OWNER and GITHUB_REPO_NAME name the default repository together: set both or none";
                return Err(ConfigError(message.to_owned()));
            }
        };
        let bots = sources.value("BOT_LOGINS").unwrap_or_default();
        Ok(Self {
            webhook_secrets: sources
                .value(GITHUB_WEBHOOK_SECRET)
                .and_then(Secrets::parse),
            hook_secret: sources
                .value(GITHUB_WEBHOOK_SECRET)
                .and_then(HookSecret::first_of),
            github_credentials: github_credentials(sources)?,
            github_api_url: github_api_url(sources)?,
            default_repository,
            database_url: sources.value(DATABASE_URL).unwrap_or_default().to_owned(),
            amqp_url: sources.value(AMQP_URL).map(str::to_owned),
            listen: sources.parsed(
                TALLYHOOK_LISTEN,
                "an address and port such as 127.0.0.1:8080",
            )?,
            admin_token: sources.value("TALLYHOOK_ADMIN_TOKEN").map(str::to_owned),
            bots: Bots::new(
                bots.split([' ', ',', '\t', '\n'])
                    .filter(|login| !login.is_empty()),
            ),
            retention_days: sources
                .parsed::<Days>(
                    "DELIVERY_RETENTION_DAYS",
                    "a number of days such as 7, at most 36500",
                )?
                .0,
            websocket_clients: sources.within("WEBSOCKET_MAX_CLIENTS", 0..=100_000)?,
            sync: Sync::new(sources)?,
            tasks: Tasks::new(sources)?,
            notify: Notify::new(sources)?,
        })
    }

    /// Where the admin token is written: beside the database if that is a file, else in the current folder.
    pub fn admin_token_path(&self) -> PathBuf {
        self.database_file()
            .unwrap_or(Path::new(""))
            .with_file_name("tallyhook-admin-token")
    }

    /// The database, if it is a file.
    pub fn database_file(&self) -> Option<&Path> {
        let database = self.database_url.strip_prefix("sqlite:")?;
        database
            .strip_prefix("//")
            .unwrap_or(database)
            .split('?')
            .next()
            .map(Path::new)
    }
}

fn github_credentials(sources: &Sources) -> Result<Option<Credentials>, ConfigError> {
    let app = (
        sources.value(GITHUB_APP_ID),
        sources.value(GITHUB_APP_PRIVATE_KEY),
    );
    match (sources.value(GITHUB_TOKEN), app) {
        (None, (None, None)) => Ok(None),
        (Some(token), (None, None)) => Ok(Some(Credentials::Token(github_token(token)?))),
        (None, (Some(id), Some(key))) => Ok(Some(Credentials::App(github_app(id, key)?))),
        (None, _) => Err(ConfigError(format!(
            "a GitHub App takes {GITHUB_APP_ID} and {GITHUB_APP_PRIVATE_KEY}: set both"
        ))),
        (Some(_), _) => {
            let message = format!(
                "GitHub is asked with a token or as an App: unset {GITHUB_TOKEN}, or {GITHUB_APP_ID} and {GITHUB_APP_PRIVATE_KEY}"
            );
            Err(ConfigError(message))
        }
    }
}

/// The key is not shown, nor is what should be its path, since it may be a key that was pasted badly.
fn github_app(id: &str, key: &str) -> Result<App, ConfigError> {
    let pem = if key.contains("-----BEGIN") {
        key.replace("\\n", "\n")
    } else {
        std::fs::read_to_string(key).map_err(|error| {
            let kind = error.kind();
            ConfigError(format!(
                "{GITHUB_APP_PRIVATE_KEY} is neither PEM nor the path of a file that can be read: {kind}"
            ))
        })?
    };
    App::new(id, &pem).map_err(|wrong| match wrong {
        NoApp::Id => ConfigError(format!(
            "{GITHUB_APP_ID} is no App: expected its number or client id"
        )),
        NoApp::Key => {
            let expected = "expected an RSA key as PEM, such as GitHub lets one download once";
            ConfigError(format!(
                "{GITHUB_APP_PRIVATE_KEY} is no key of an App: {expected}"
            ))
        }
    })
}

/// What is wrong with it is told without showing it.
fn github_token(text: &str) -> Result<Token, ConfigError> {
    let wrong = || {
        ConfigError(format!(
            "{GITHUB_TOKEN} is no token: expected one word such as GitHub shows it once"
        ))
    };
    Token::parse(text).ok_or_else(wrong)
}

/// Not shown either when it is wrong, since it may have a password in it.
fn github_api_url(sources: &Sources) -> Result<ApiUrl, ConfigError> {
    let wrong = |_| {
        let expected = "expected an address such as https://api.github.com or https://HOST/api/v3, without user and query";
        ConfigError(format!("GITHUB_API_URL is wrong: {expected}"))
    };
    sources
        .value("GITHUB_API_URL")
        .unwrap_or_default()
        .parse()
        .map_err(wrong)
}

/// The settings of a file, and its channels.
type File = (BTreeMap<String, String>, Vec<Channel>);

fn read_file(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError(format!(
            "cannot read the configuration file {}: {error}",
            path.display()
        ))
    })?;
    parse_file(&text)
        .map_err(|ConfigError(error)| ConfigError(format!("{}: {error}", path.display())))
}

fn parse_file(text: &str) -> Result<File, ConfigError> {
    let mut table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| ConfigError(format!("not TOML: {}", error.message())))?;
    let channels = table
        .remove("channel")
        .map(channels::of_file)
        .transpose()?
        .unwrap_or_default();
    let values = table
        .into_iter()
        .map(|(key, value)| Ok((known_name(&key)?, as_text(&key, value)?)));
    Ok((values.collect::<Result<_, ConfigError>>()?, channels))
}

fn known_name(key: &str) -> Result<String, ConfigError> {
    let mut known = SETTINGS.iter().map(|setting| setting.name.to_lowercase());
    if known.any(|name| name == key) {
        return Ok(key.to_uppercase());
    }
    let keys: Vec<_> = SETTINGS
        .iter()
        .map(|setting| setting.name.to_lowercase())
        .collect();
    Err(ConfigError(format!(
        "unknown key `{key}`; the keys are {}, and tables [[channel]]",
        keys.join(", ")
    )))
}

fn as_text(key: &str, value: toml::Value) -> Result<String, ConfigError> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        toml::Value::Array(items) => {
            let items: Result<Vec<_>, _> =
                items.into_iter().map(|item| as_text(key, item)).collect();
            Ok(items?.join(" "))
        }
        _ => Err(ConfigError(format!(
            "the value of `{key}` must be a text, a number or a list of texts"
        ))),
    }
}

/// What is to be logged: `RUST_LOG`. An empty one is none, as with every setting.
pub fn log_filter() -> Option<String> {
    std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.trim().is_empty())
}

/// The crash points of the kill tests: `TALLYHOOK_CRASH_AT=name:times` and `TALLYHOOK_POISON_GUID`.
#[cfg(feature = "crash-points")]
pub fn crash_plan() -> tallyhook_core::crash_point::CrashPlan {
    let point = std::env::var("TALLYHOOK_CRASH_AT").ok().and_then(|text| {
        let (name, times) = text.split_once(':')?;
        Some((name.to_owned(), times.parse().ok()?))
    });
    tallyhook_core::crash_point::CrashPlan {
        point,
        poison: std::env::var("TALLYHOOK_POISON_GUID").ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn sources(environment: &[(&str, &str)], file: &str) -> Sources {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let (file, channels) = parse_file(file).ok().unwrap();
        Sources {
            flags: BTreeMap::new(),
            environment: environment.collect(),
            file,
            channels,
        }
    }

    pub(super) fn error(environment: &[(&str, &str)]) -> String {
        Config::new(&sources(environment, ""))
            .err()
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file() {
        let file = "tallyhook_listen = '127.0.0.1:1'\ndelivery_retention_days = 3\nbot_logins = ['one', 'two']";
        let both = || {
            sources(
                &[(TALLYHOOK_LISTEN, "127.0.0.1:2"), ("BOT_LOGINS", "")],
                file,
            )
        };
        let config = Config::new(&both()).ok().unwrap();
        assert_eq!((config.listen.port(), config.retention_days), (2, 3));
        assert_eq!(config.bots, Bots::new(["one", "two"]));
        let config = Config::new(&both().with_flag(TALLYHOOK_LISTEN, Some("127.0.0.1:3")))
            .ok()
            .unwrap();
        assert_eq!(config.listen.port(), 3);
    }

    #[test]
    fn nothing_has_to_be_set_but_the_secret_of_serve() {
        let config = Config::new(&Sources::default()).ok().unwrap();
        assert!(config.webhook_secrets.is_none());
        assert_eq!(config.database_url, "sqlite://tallyhook.db");
        assert_eq!(
            config.admin_token_path(),
            Path::new("tallyhook-admin-token")
        );
    }

    #[test]
    fn the_admin_token_lies_beside_a_database_file() {
        for (url, path) in [
            (
                "sqlite:///var/lib/t/a.db?mode=rwc",
                "/var/lib/t/tallyhook-admin-token",
            ),
            ("sqlite:data/a.db", "data/tallyhook-admin-token"),
            (
                "postgres://tallyhook:a/b@db.internal/tallyhook",
                "tallyhook-admin-token",
            ),
        ] {
            let config = Config::new(&sources(&[(DATABASE_URL, url)], ""))
                .ok()
                .unwrap();
            assert_eq!(config.admin_token_path(), Path::new(path));
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        assert!(error(&[(TALLYHOOK_LISTEN, "8080")]).contains("expected an address and port"));
        assert!(error(&[("GITHUB_REPO_OWNER", "acme")]).contains("set both or none"));
        assert!(error(&[("DELIVERY_RETENTION_DAYS", "-1")]).contains("expected a number of days"));
        assert!(error(&[("DELIVERY_RETENTION_DAYS", "99999999")]).contains("at most 36500"));
        for wrong in ["two words", "caf\u{e9}"] {
            let error = error(&[(GITHUB_TOKEN, wrong)]);
            assert!(
                error.contains(GITHUB_TOKEN) && !error.contains(wrong),
                "{error}"
            );
        }
        let pem = "-----BEGIN RSA PRIVATE KEY-----\\nY2FycmV0\\n-----END RSA PRIVATE KEY-----";
        for (settings, words) in [
            (
                &[(GITHUB_TOKEN, "ghp_carrot"), (GITHUB_APP_ID, "7")][..],
                "a token or as an App",
            ),
            (&[(GITHUB_APP_ID, "7")][..], "set both"),
            (&[(GITHUB_APP_PRIVATE_KEY, pem)][..], "set both"),
            (
                &[(GITHUB_APP_ID, "seven!"), (GITHUB_APP_PRIVATE_KEY, pem)][..],
                "its number or client id",
            ),
            (
                &[(GITHUB_APP_ID, "7"), (GITHUB_APP_PRIVATE_KEY, pem)][..],
                "is no key of an App",
            ),
            (
                &[(GITHUB_APP_ID, "7"), (GITHUB_APP_PRIVATE_KEY, "carrot")][..],
                "neither PEM nor the path",
            ),
        ] {
            let error = error(settings);
            assert!(error.contains(words), "{error}");
            assert!(
                !["carrot", "Y2Fy", "\n"]
                    .iter()
                    .any(|hidden| error.contains(hidden)),
                "{error}"
            );
        }
        let with_password =
            error(&[("GITHUB_API_URL", "https://me:carrot@ghe.example.com/api/v3")]);
        assert!(
            with_password.contains("GITHUB_API_URL") && !with_password.contains("carrot"),
            "{with_password}"
        );
        let unknown = parse_file("github_webhook_secert = 'x'")
            .err()
            .unwrap()
            .to_string();
        assert!(unknown.contains("unknown key `github_webhook_secert`") && !unknown.contains('\n'));
        assert!(
            parse_file("a = = 1")
                .err()
                .unwrap()
                .to_string()
                .starts_with("not TOML")
        );
    }
}
