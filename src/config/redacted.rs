//! Settings as people may see them, in logs and lists.

use reqwest::Url;
use tallyhook_github_client::ApiUrl;

use super::channels::{ChannelReceiver, NOTIFY_WEBHOOK_URL, SLACK_WEBHOOK_URL};
use super::{AMQP_URL, DATABASE_URL, GITHUB_API_URL, SECRET_SETTINGS, SETTINGS, SettingSources};

/// The text in place of a secret.
const HIDDEN: &str = "(hidden)";

/// Returns a URL of a database or broker without its password and its parameters, which may have
/// one.
pub fn redacted_url(url: &str) -> String {
    if url.starts_with("sqlite:") {
        return url.to_owned();
    }
    let Ok(mut url) = Url::parse(url) else {
        return HIDDEN.to_owned();
    };
    // Fails only where a URL cannot have one.
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return HIDDEN.to_owned();
    }
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Returns the scheme and host of a channel's URL; its path is a secret.
fn origin(url: &str) -> String {
    Url::parse(url)
        .ok()
        .and_then(|url| Some(format!("{}://{}/…", url.scheme(), url.host_str()?)))
        .unwrap_or_else(|| HIDDEN.to_owned())
}

/// A setting in force, as people may see it.
pub struct EffectiveSetting {
    pub name: String,
    /// Without secrets; `None` if there is none.
    pub value: Option<String>,
    /// Its source in words; `None` if it has no value.
    pub from: Option<String>,
}

impl SettingSources {
    /// Returns every setting in force, and the channels of the file.
    pub fn effective(&self) -> Vec<EffectiveSetting> {
        let settings = SETTINGS.iter().map(|setting| EffectiveSetting {
            name: setting.name.to_owned(),
            value: self
                .value(setting.name)
                .map(|text| shown(setting.name, text)),
            from: self.origin(setting.name),
        });
        let file = self.config_file().map(|path| path.display().to_string());
        let channels = self.channels.iter().map(|channel| {
            let kind = match channel.receiver {
                ChannelReceiver::Slack => "slack",
                ChannelReceiver::Webhook { .. } => "webhook",
            };
            EffectiveSetting {
                name: format!("channel {}", channel.name),
                value: Some(format!("{kind} {}", origin(&channel.url))),
                from: file.clone(),
            }
        });
        settings.chain(channels).collect()
    }
}

/// Returns the value of a setting without secrets.
fn shown(name: &str, text: &str) -> String {
    match name {
        DATABASE_URL | AMQP_URL => redacted_url(text),
        SLACK_WEBHOOK_URL | NOTIFY_WEBHOOK_URL => origin(text),
        // A wrong one may have a password in it.
        GITHUB_API_URL if text.parse::<ApiUrl>().is_err() => HIDDEN.to_owned(),
        secret if SECRET_SETTINGS.contains(&secret) => HIDDEN.to_owned(),
        _ => text.lines().collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_and_parameters_are_left_out() {
        for (url, shown) in [
            (
                "sqlite:///srv/my%20data/t.db",
                "sqlite:///srv/my%20data/t.db",
            ),
            (
                "postgres://me:carrot@db.internal:5433/t?sslpassword=carrot#carrot",
                "postgres://me:***@db.internal:5433/t",
            ),
            ("amqps://mq.internal/%2f", "amqps://mq.internal/%2f"),
            ("carrot", HIDDEN),
        ] {
            assert_eq!(redacted_url(url), shown);
        }
        assert_eq!(
            origin("https://hooks.slack.com/carrot"),
            "https://hooks.slack.com/…"
        );
        assert_eq!(origin("carrot"), HIDDEN);
    }
}
