//! Settings: their names, sources and meaning. The only module that reads the environment.
//!
//! A flag beats the environment, which beats the file. The file is TOML, its keys are the names in
//! lower case, and an unknown key is refused, since a misspelt setting silently does nothing.
//!
//! [`SETTINGS`] is the one list of names, defaults and help texts; each concern has a file that
//! parses its values.

mod calendars;
mod channel_hours;
mod channel_secret;
mod channels;
mod database;
mod encryption;
mod error;
mod file;
mod github;
mod holidays;
mod http;
mod nearest;
mod origin;
mod process;
mod redacted;
mod secrets;
mod settings;
mod sign_in;
mod sources;
mod sync;
mod tasks;
#[cfg(test)]
mod testing;
mod waiting;
mod zones;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::github::host::GithubHost;
use tallyhook_core::github::signature::Secrets;
use tallyhook_github_client::hooks::HookSecret;
use tallyhook_github_client::{ApiUrl, Credentials, OauthApp};
use tallyhook_store::DEFAULT_TEAM;

pub use self::channel_hours::{ChannelHours, ChannelSchedule, DailyDigest};
pub use self::channel_secret::ChannelSecret;
pub use self::channels::{
    CHANNEL_KEYS, ChannelConfig, ChannelFilter, ChannelReceiver, NOTIFY_ALLOW_PRIVATE, NotifyConfig,
};
pub use self::database::DATABASE_URL;
pub use self::encryption::TALLYHOOK_ENCRYPTION_KEYS;
pub use self::error::ConfigError;
pub use self::github::{
    GITHUB_API_URL, GITHUB_APP_ID, GITHUB_APP_PRIVATE_KEY, GITHUB_TOKEN, GITHUB_WEBHOOK_SECRET,
    WebhookSecrets,
};
pub use self::http::{
    InvalidPublicUrl, PublicUrl, TALLYHOOK_ADMIN_TOKEN, TALLYHOOK_LISTEN, TALLYHOOK_PUBLIC_URL,
    TALLYHOOK_TOKEN,
};
pub(crate) use self::nearest::nearest;
#[cfg(feature = "crash-points")]
pub use self::process::crash_plan;
pub use self::process::{fix_allocator_limits, handed_over_sockets, log_filter};
pub use self::redacted::redacted_url;
pub use self::secrets::WeakSecret;
pub use self::settings::{AMQP_URL, SETTINGS, Setting};
pub use self::sign_in::{GITHUB_CLIENT_ID, GITHUB_CLIENT_SECRET, GITHUB_URL, SIGN_IN, SignInMode};
pub use self::sources::{SECRET_SETTINGS, SecretFile, SetSetting, SettingOrigins, SettingSources};
pub use self::sync::{BackfillConfig, MAX_DAYS_BACK, MAX_PRS, SyncConfig, WatchConfig};
pub use self::tasks::TaskConfig;
pub use self::zones::NamedZone;
use crate::secrets::KeySource;

/// The settings in force. Without `Debug`, since some of them are secrets.
#[derive(Clone)]
pub struct Config {
    pub webhook_secrets: Option<Secrets>,
    /// The first of them, for GitHub to sign with.
    pub hook_secret: Option<HookSecret>,
    /// `None` sends no request to GitHub.
    pub github_credentials: Option<Credentials>,
    /// With the address of the web site, if it is known.
    pub github_api_url: ApiUrl,
    /// The client of OAuth; `None` connects and signs in nobody.
    pub oauth_app: Option<OauthApp>,
    pub sign_in: SignInMode,
    /// The GitHub of the installation, if the settings say so.
    pub github_host: Option<GithubHost>,
    /// `owner/name`.
    pub default_repository: Option<String>,
    /// The team that it is of; `None` is the default team.
    pub default_repository_team: Option<String>,
    /// The teams of calendars, by name; one without is of the default team.
    pub calendar_teams: BTreeMap<String, String>,
    /// The token that `/metrics` wants.
    pub metrics_token: Option<String>,
    pub database_url: String,
    /// `None` is the queue inside the process.
    pub amqp_url: Option<String>,
    pub listen: SocketAddr,
    /// The address for people, behind a proxy.
    pub public_url: Option<PublicUrl>,
    pub admin_token: Option<String>,
    /// Sent by commands that read another server.
    pub token: Option<String>,
    pub numbers: NumberRules,
    /// Totals of what waits list people beside teams.
    pub show_people: bool,
    pub retention_days: u32,
    /// Days that administrative acts are kept.
    pub audit_days: u32,
    /// Days that requests to GitHub are kept which only read.
    pub github_calls_days: u32,
    /// The keys of stored secrets.
    pub key_source: KeySource,
    /// The most WebSocket clients of one process.
    pub websocket_clients: u32,
    pub sync: SyncConfig,
    pub tasks: TaskConfig,
    pub notify: NotifyConfig,
    pub origins: SettingOrigins,
}

impl Config {
    /// Parses and validates every setting.
    ///
    /// # Errors
    /// The first invalid setting and the expected form of its value.
    pub fn new(sources: &SettingSources) -> Result<Self, ConfigError> {
        Self::parse(sources).map_err(|error| sources.located(error))
    }

    fn parse(sources: &SettingSources) -> Result<Self, ConfigError> {
        let config = Self {
            webhook_secrets: github::webhook_secrets(sources),
            hook_secret: github::hook_secret(sources),
            github_credentials: github::credentials(sources)?,
            github_api_url: github::api_url(sources)?,
            oauth_app: sign_in::oauth_app(sources)?,
            sign_in: sign_in::mode(sources)?,
            github_host: github::host(sources)?,
            default_repository: github::default_repository(sources)?,
            default_repository_team: github::default_repository_team(sources)?,
            calendar_teams: calendars::teams(sources)?,
            metrics_token: http::metrics_token(sources)?,
            database_url: database::url(sources),
            amqp_url: sources.value(AMQP_URL).map(str::to_owned),
            listen: http::listen(sources)?,
            public_url: http::public_url(sources)?,
            admin_token: http::admin_token(sources),
            token: sources.value(TALLYHOOK_TOKEN).map(str::to_owned),
            numbers: NumberRules {
                bots: github::bots(sources),
                calendars: calendars::calendars(sources)?,
                waiting: waiting::rules(sources)?,
                origins: origin::rules(sources)?,
            },
            show_people: sources.parsed("SHOW_PEOPLE", "true or false")?,
            retention_days: database::retention_days(sources)?,
            audit_days: database::days(sources, "AUDIT_RETENTION_DAYS")?,
            github_calls_days: database::days(sources, "GITHUB_CALLS_RETENTION_DAYS")?,
            key_source: encryption::key_source(sources)?,
            websocket_clients: http::websocket_clients(sources)?,
            sync: SyncConfig::new(sources)?,
            tasks: TaskConfig::new(sources)?,
            notify: NotifyConfig::new(sources)?,
            origins: sources.origins(),
        };
        config.notify.check_schedules(&config.numbers.calendars)?;
        config.notify.check_teams(&config.calendar_teams)?;
        config.check_sign_in()?;
        Ok(config)
    }

    /// Returns the name of the team of a calendar.
    pub fn calendar_team(&self, calendar: &str) -> &str {
        let team = self.calendar_teams.get(calendar);
        team.map_or(DEFAULT_TEAM.1, String::as_str)
    }

    /// Returns the default repository if it is of this team.
    pub fn default_repository_of(&self, team: &str) -> Option<&str> {
        let of = self.default_repository_team.as_deref();
        let is_mine = of.unwrap_or(DEFAULT_TEAM.1) == team;
        self.default_repository.as_deref().filter(|_| is_mine)
    }
}
