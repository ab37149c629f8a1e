//! Channels: the receivers of notifications, with their filters and addresses.

use std::fmt;
use std::time::Duration;

use reqwest::Client;
use serde::{Deserialize, Serialize};
use tallyhook_core::domain::business_time::{Calendars, DAY};
use tallyhook_core::github::types::Timestamp;
use tallyhook_store::{DEFAULT_TEAM, Store, TeamId};
use utoipa::ToSchema;

use super::ssrf_guard::{self, NetworkPolicy, UrlError, WebhookUrl};
use crate::config::{
    ChannelConfig, ChannelFilter, ChannelReceiver, ChannelSchedule, ChannelSecret, ConfigError,
    NOTIFY_ALLOW_PRIVATE, NotifyConfig,
};

/// A configured receiver of notifications.
pub struct Channel {
    /// The team whose events it is sent.
    pub team: TeamId,
    pub name: String,
    pub kind: ChannelKind,
    pub filter: ChannelFilter,
    pub schedule: ChannelSchedule,
    pub(super) url: WebhookUrl,
    /// The secret that request bodies are signed with.
    pub(super) secret: Option<ChannelSecret>,
}

/// The kind of receiver, which decides the format of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// A Slack incoming webhook, read by people.
    Slack,
    /// A program's HTTP endpoint.
    Webhook,
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slack => "slack",
            Self::Webhook => "webhook",
        })
    }
}

impl Channel {
    fn new(
        settings: &ChannelConfig,
        calendars: &Calendars,
        policy: NetworkPolicy,
    ) -> Result<Self, ConfigError> {
        let name = settings.name.clone();
        let url = WebhookUrl::parse(&settings.url, policy).map_err(|error| {
            let advice = advice(&error);
            ConfigError::new(format!(
                "channel `{name}`: its address is refused: {error}{advice}"
            ))
        })?;
        let (kind, secret) = match &settings.receiver {
            ChannelReceiver::Slack => (ChannelKind::Slack, None),
            ChannelReceiver::Webhook { secret } => (ChannelKind::Webhook, secret.clone()),
        };
        Ok(Self {
            team: DEFAULT_TEAM.0,
            name,
            kind,
            filter: settings.filter.clone(),
            schedule: settings.schedule(calendars)?,
            url,
            secret,
        })
    }

    /// Returns the end of the quiet hours at `now`; `None` outside of them. Hours that never begin
    /// again are looked for once more a day later: the settings may change.
    pub fn quiet_until(&self, now: Timestamp) -> Option<Timestamp> {
        let calendar = self.schedule.quiet.as_ref()?;
        if calendar.contains(now) {
            return None;
        }
        let later = || Timestamp::clamped(now.epoch() + DAY);
        Some(calendar.next(now).unwrap_or_else(later))
    }

    /// Returns scheme, host and port of the address; the rest may be a secret.
    pub fn origin(&self) -> String {
        self.url.to_string()
    }
}

/// Returns the next step after a refused address, as a suffix of the error text; empty if there is
/// none.
pub(super) fn advice(error: &UrlError) -> String {
    match error {
        UrlError::NotPublic { .. } => {
            format!("; if that is intended, set {NOTIFY_ALLOW_PRIVATE} to true")
        }
        UrlError::NotHttp | UrlError::HasCredentials => String::new(),
    }
}

/// Looks up a team that the settings name at a place.
///
/// # Errors
/// [`ConfigError`] if there is none of that name; another if the database fails.
pub async fn team_of_settings(store: &Store, team: &str, place: &str) -> anyhow::Result<TeamId> {
    let found = store.team_named(team).await?;
    let missing = || {
        ConfigError::new(format!(
            "{place}: there is no team `{team}`: make it with `tallyhook team create {team}`, or \
             name another"
        ))
    };
    Ok(found.ok_or_else(missing)?)
}

/// All channels, with the HTTP client that connects to them.
pub struct Channels {
    channels: Vec<Channel>,
    pub(super) http: Client,
    pub(super) timeout: Duration,
}

impl Channels {
    /// # Errors
    /// [`ConfigError`] that names the channel with a refused address or an unknown calendar; another
    /// error if TLS cannot be set up.
    pub fn new(settings: &NotifyConfig, calendars: &Calendars) -> anyhow::Result<Self> {
        let policy = if settings.allow_private {
            NetworkPolicy::AllowPrivate
        } else {
            NetworkPolicy::PublicOnly
        };
        let channels = settings
            .channels
            .iter()
            .map(|channel| Channel::new(channel, calendars, policy));
        let http = ssrf_guard::client(policy, settings.timeout)?;
        Ok(Self {
            channels: channels.collect::<Result<_, _>>()?,
            http,
            timeout: settings.timeout,
        })
    }

    /// Looks up the teams of the channels, which are of the default team before.
    ///
    /// # Errors
    /// [`ConfigError`] that names the channel of a team that does not exist; another if the database
    /// fails.
    pub async fn find_teams(
        &mut self,
        settings: &NotifyConfig,
        store: &Store,
    ) -> anyhow::Result<()> {
        for (channel, settings) in self.channels.iter_mut().zip(&settings.channels) {
            if let Some(team) = &settings.team {
                let place = format!("channel `{}`", settings.name);
                channel.team = team_of_settings(store, team, &place).await?;
            }
        }
        Ok(())
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Channel> {
        self.channels.iter()
    }

    pub fn named(&self, name: &str) -> Option<&Channel> {
        self.iter().find(|channel| channel.name == name)
    }
}
