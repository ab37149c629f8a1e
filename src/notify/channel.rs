//! Channels: where notifications are sent, and what each is told of.

use std::fmt;
use std::time::Duration;

use reqwest::Client;
use serde::{Deserialize, Serialize};
use tallyhook_core::github::signature::Secrets;
use utoipa::ToSchema;

use super::target::{self, Reach, Refused, Target};
use crate::config::{self, ConfigError, Filter, NOTIFY_ALLOW_PRIVATE, Receiver};

/// Where notifications are sent.
pub struct Channel {
    pub name: String,
    pub kind: ChannelKind,
    pub filter: Filter,
    pub(super) target: Target,
    /// What is sent is signed with this.
    pub(super) secret: Option<Secrets>,
}

/// Who reads what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// People, in Slack's words.
    Slack,
    /// A program.
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
    fn new(settings: &config::Channel, reach: Reach) -> Result<Self, ConfigError> {
        let name = settings.name.clone();
        let target = Target::parse(&settings.url, reach).map_err(|refused| {
            let advice = advice(&refused);
            ConfigError::new(format!(
                "channel `{name}`: its address is refused: {refused}{advice}"
            ))
        })?;
        let (kind, secret) = match &settings.receiver {
            Receiver::Slack => (ChannelKind::Slack, None),
            Receiver::Webhook { secret } => (ChannelKind::Webhook, secret.clone()),
        };
        Ok(Self {
            name,
            kind,
            filter: settings.filter.clone(),
            target,
            secret,
        })
    }

    /// Scheme, host and port; the rest of the address may be a secret.
    pub fn origin(&self) -> String {
        self.target.to_string()
    }
}

/// What somebody may do whose target was refused, to be put behind the reason.
pub(super) fn advice(refused: &Refused) -> String {
    match refused {
        Refused::NotPublic { .. } => {
            format!("; if that is meant, set {NOTIFY_ALLOW_PRIVATE} to true")
        }
        Refused::NoAddress | Refused::Credentials => String::new(),
    }
}

/// All channels, with what connects to them.
pub struct Channels {
    channels: Vec<Channel>,
    pub(super) http: Client,
    pub(super) patience: Duration,
}

impl Channels {
    /// # Errors
    /// [`ConfigError`] that names the channel to whose address nothing may be sent; another if TLS cannot be set up.
    pub fn new(settings: &config::Notify) -> anyhow::Result<Self> {
        let reach = if settings.allow_private {
            Reach::Anywhere
        } else {
            Reach::Public
        };
        let channels = settings
            .channels
            .iter()
            .map(|channel| Channel::new(channel, reach));
        let http = target::client(reach, settings.timeout)?;
        Ok(Self {
            channels: channels.collect::<Result<_, _>>()?,
            http,
            patience: settings.timeout,
        })
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Channel> {
        self.channels.iter()
    }

    pub fn named(&self, name: &str) -> Option<&Channel> {
        self.iter().find(|channel| channel.name == name)
    }
}
