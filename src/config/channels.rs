//! Settings of notifications: the channels and their filters.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use tallyhook_core::domain::business_time::Calendars;
use tallyhook_core::domain::notification::NotificationKind;
use tallyhook_store::DEFAULT_TEAM;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::channel_hours::ChannelHours;
use super::channel_secret::ChannelSecret;
use super::file::{self, FileLine};
use super::nearest::nearest;
use super::sync::HumanDuration;
use super::{ConfigError, SettingSources};

pub(super) const SLACK_WEBHOOK_URL: &str = "SLACK_WEBHOOK_URL";
pub(super) const NOTIFY_WEBHOOK_URL: &str = "NOTIFY_WEBHOOK_URL";
pub(super) const NOTIFY_WEBHOOK_SECRET: &str = "NOTIFY_WEBHOOK_SECRET";
pub const NOTIFY_ALLOW_PRIVATE: &str = "NOTIFY_ALLOW_PRIVATE";

/// The keys of a `[[channel]]` in the file.
pub const CHANNEL_KEYS: [&str; 9] = [
    "name", "kind", "url", "secret", "repos", "kinds", "calendar", "digest", "team",
];
/// The limit exists because each channel has a worker of its own.
const MAX_CHANNELS: usize = 50;
pub(super) const MAX_NAME_LENGTH: usize = 50;
const SECOND: Duration = Duration::from_secs(1);

/// The settings of notifications. Without `Debug`, since the URLs are secrets.
#[derive(Clone)]
pub struct NotifyConfig {
    /// No two have the same name.
    pub channels: Vec<ChannelConfig>,
    /// True allows requests to private networks.
    pub allow_private: bool,
    /// Of one request.
    pub timeout: Duration,
}

/// One receiver of notifications, as configured.
#[derive(Clone)]
pub struct ChannelConfig {
    /// Lower-case letters, digits and dashes.
    pub name: String,
    /// The name of the team whose events it is sent; `None` is the default team.
    pub team: Option<String>,
    pub receiver: ChannelReceiver,
    /// The text of the setting, not validated yet.
    pub url: String,
    pub filter: ChannelFilter,
    pub hours: ChannelHours,
}

/// The kind of receiver, which decides the format of requests.
#[derive(Clone)]
pub enum ChannelReceiver {
    /// An incoming webhook of Slack.
    Slack,
    /// A program. With a secret its requests are signed.
    Webhook { secret: Option<ChannelSecret> },
}

/// The notifications that a channel receives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelFilter {
    /// `owner/name` or `owner/*` in lower case; `None` accepts every repository, and notifications
    /// that belong to none.
    pub repos: Option<Vec<String>>,
    /// `None` accepts every kind but those that are sent only where they are named.
    pub kinds: Option<Vec<NotificationKind>>,
}

impl ChannelFilter {
    /// Returns true if the channel receives notifications of that kind about that repository.
    pub fn accepts(&self, kind: NotificationKind, repo: Option<&str>) -> bool {
        self.accepts_kind(kind)
            && self
                .repos
                .as_ref()
                .is_none_or(|wanted| repo.is_some_and(|repo| is_among(repo, wanted)))
    }

    /// Returns true if the channel receives notifications of that kind about some repository.
    pub fn accepts_kind(&self, kind: NotificationKind) -> bool {
        match &self.kinds {
            Some(kinds) => kinds.contains(&kind),
            None => !kind.is_sent_on_request_only(),
        }
    }

    /// Returns the names of single repositories in it.
    pub fn single_repos(&self) -> impl Iterator<Item = &str> {
        let names = self.repos.iter().flatten().map(String::as_str);
        names.filter(|name| !name.ends_with('*'))
    }
}

fn is_among(repo: &str, patterns: &[String]) -> bool {
    let repo = repo.to_ascii_lowercase();
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(owner) => repo.starts_with(owner),
            None => *pattern == repo,
        })
}

impl NotifyConfig {
    /// # Errors
    /// The first channel whose calendar is unknown, or whose digest has none.
    pub(super) fn check_schedules(&self, calendars: &Calendars) -> Result<(), ConfigError> {
        let mut channels = self.channels.iter();
        channels.try_for_each(|channel| channel.schedule(calendars).map(drop))
    }

    /// Checks that channels name calendars of their own team.
    ///
    /// # Errors
    /// The first channel that does not.
    pub(super) fn check_teams(
        &self,
        calendars: &BTreeMap<String, String>,
    ) -> Result<(), ConfigError> {
        for channel in &self.channels {
            let Some(calendar) = &channel.hours.calendar else {
                continue;
            };
            let of = calendars
                .get(calendar)
                .map_or(DEFAULT_TEAM.1, String::as_str);
            let team = channel.team.as_deref().unwrap_or(DEFAULT_TEAM.1);
            if of != team {
                let name = &channel.name;
                return Err(ConfigError::new(format!(
                    "channel `{name}`: it is of team `{team}`, and its calendar `{calendar}` of team \
                     `{of}`: name one of its own team"
                )));
            }
        }
        Ok(())
    }

    /// Returns true if a channel receives notifications of that kind.
    pub fn accepts(&self, kind: NotificationKind) -> bool {
        let mut channels = self.channels.iter();
        channels.any(|channel| channel.filter.accepts_kind(kind))
    }

    /// # Errors
    /// The first invalid setting and the expected form of its value, without URLs and secrets.
    pub(super) fn new(sources: &SettingSources) -> Result<Self, ConfigError> {
        let mut channels = from_environment(sources)?;
        channels.extend(sources.channels.iter().cloned());
        let mut names = BTreeSet::new();
        if let Some(twice) = channels.iter().find(|channel| !names.insert(&channel.name)) {
            return Err(ConfigError::new(format!(
                "two channels are called `{}`: rename one",
                twice.name
            )));
        }
        if channels.len() > MAX_CHANNELS {
            return Err(ConfigError::new(format!(
                "there are more than {MAX_CHANNELS} channels"
            )));
        }
        Ok(Self {
            channels,
            allow_private: sources.parsed(NOTIFY_ALLOW_PRIVATE, "true or false")?,
            timeout: sources
                .within(
                    "NOTIFICATION_TIMEOUT",
                    HumanDuration(SECOND)..=HumanDuration(SECOND * 60),
                )?
                .0,
        })
    }
}

/// Returns the channels of the environment. They are named like their kind and have no filter.
fn from_environment(sources: &SettingSources) -> Result<Vec<ChannelConfig>, ConfigError> {
    let channel = |name: &str, url: &str, receiver| ChannelConfig {
        name: name.to_owned(),
        team: None,
        receiver,
        url: url.to_owned(),
        filter: ChannelFilter::default(),
        hours: ChannelHours::default(),
    };
    let mut channels = Vec::new();
    channels.extend(
        sources
            .value(SLACK_WEBHOOK_URL)
            .map(|url| channel("slack", url, ChannelReceiver::Slack)),
    );
    let secret = sources
        .value(NOTIFY_WEBHOOK_SECRET)
        .map(|text| parse_secret(text, NOTIFY_WEBHOOK_SECRET))
        .transpose()?;
    match sources.value(NOTIFY_WEBHOOK_URL) {
        Some(url) => channels.push(channel("webhook", url, ChannelReceiver::Webhook { secret })),
        None if secret.is_some() => {
            let message = format!(
                "{NOTIFY_WEBHOOK_SECRET} signs what is sent to {NOTIFY_WEBHOOK_URL}: set both"
            );
            return Err(ConfigError::new(message));
        }
        None => {}
    }
    Ok(channels)
}

/// Reads the `channel` tables of the file, whose text is needed for the numbers of lines.
///
/// # Errors
/// The first invalid key, without any value but names.
pub(super) fn from_file(
    text: &str,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<ChannelConfig>, ConfigError> {
    let tables = || {
        let message = "`channel` must be tables, each below a line [[channel]]";
        ConfigError::new(message).at(FileLine::of(text, value.span()))
    };
    let items = value.get_ref().as_array().ok_or_else(tables)?;
    let channels = items.iter().map(|item| {
        let line = FileLine::of(text, item.span());
        let table = item.get_ref().as_table().ok_or_else(tables)?;
        if let Some((key, error)) = unknown_key(table) {
            return Err(error.at(FileLine::of(text, key)));
        }
        parse_channel(table).map_err(|error| error.at(line))
    });
    channels.collect()
}

/// Returns the place and the error of a key that a channel does not have.
fn unknown_key(table: &DeTable<'_>) -> Option<(Range<usize>, ConfigError)> {
    let key = table
        .keys()
        .find(|key| !CHANNEL_KEYS.contains(&key.get_ref().as_ref()))?;
    let name = key.get_ref().as_ref();
    let advice = if file::keys().iter().any(|setting| setting == name) {
        "it is a setting, and those are written above the first [[channel]]".to_owned()
    } else if let Some(known) = nearest(name, CHANNEL_KEYS) {
        format!("did you mean `{known}`?")
    } else {
        format!("the keys are {}", CHANNEL_KEYS.join(", "))
    };
    let message = format!("unknown key `{name}` of a [[channel]]: {advice}");
    Some((key.span(), ConfigError::new(message)))
}

fn parse_channel(table: &DeTable<'_>) -> Result<ChannelConfig, ConfigError> {
    let name = text(table, "name")?
        .ok_or_else(|| ConfigError::new("a [[channel]] has no `name`".to_owned()))?;
    if !is_name(name) {
        let expected =
            format!("expected at most {MAX_NAME_LENGTH} lower-case letters, digits and dashes");
        return Err(ConfigError::new(format!(
            "the `name` of a [[channel]] is wrong: {expected}"
        )));
    }
    let wrong = |error: ConfigError| error.at(format_args!("channel `{name}`"));
    let missing = |key: &str| wrong(ConfigError::new(format!("`{key}` is missing")));
    let secret = text(table, "secret").map_err(wrong)?;
    let receiver = match (text(table, "kind").map_err(wrong)?, secret) {
        (Some("slack"), None) => ChannelReceiver::Slack,
        (Some("slack"), Some(_)) => {
            return Err(wrong(ConfigError::new(
                "`secret` is for kind webhook: nothing is signed for Slack".to_owned(),
            )));
        }
        (Some("webhook"), secret) => ChannelReceiver::Webhook {
            secret: secret
                .map(|text| parse_secret(text, "`secret`").map_err(wrong))
                .transpose()?,
        },
        (Some(_), _) => return Err(wrong(ConfigError::new("`kind` must be slack or webhook"))),
        (None, _) => return Err(missing("kind")),
    };
    let url = text(table, "url")
        .map_err(wrong)?
        .ok_or_else(|| missing("url"))?;
    let filter = parse_filter(table).map_err(wrong)?;
    let hours = ChannelHours::parse(table).map_err(wrong)?;
    let team = text(table, "team").map_err(wrong)?;
    Ok(ChannelConfig {
        name: name.to_owned(),
        team: team.map(parse_team).transpose().map_err(wrong)?,
        receiver,
        url: url.to_owned(),
        filter,
        hours,
    })
}

fn parse_filter(table: &DeTable<'_>) -> Result<ChannelFilter, ConfigError> {
    let repos = texts(table, "repos")?
        .map(|repos| repos.into_iter().map(parse_repository_pattern).collect())
        .transpose()?;
    let kinds = texts(table, "kinds")?
        .map(|kinds| kinds.into_iter().map(parse_kind).collect())
        .transpose()?;
    Ok(ChannelFilter { repos, kinds })
}

/// Reads the name of a team.
pub(super) fn parse_team(name: &str) -> Result<String, ConfigError> {
    if is_name(name) {
        return Ok(name.to_owned());
    }
    let expected = "expected the name of a team: lower-case letters, digits and dashes";
    Err(ConfigError::new(format!("`team` is wrong: {expected}")))
}

/// Returns true if `text` can name a channel or a calendar.
pub(super) fn is_name(text: &str) -> bool {
    let is_good =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    !text.is_empty() && text.len() <= MAX_NAME_LENGTH && text.chars().all(is_good)
}

/// Returns `owner/name` or `owner/*` in lower case; `None` if the text is neither.
pub(super) fn repository_pattern(text: &str) -> Option<String> {
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    let (owner, name) = text.split_once('/')?;
    let is_good = is_name(owner) && (name == "*" || is_name(name));
    is_good.then(|| text.to_ascii_lowercase())
}

fn parse_repository_pattern(text: &str) -> Result<String, ConfigError> {
    repository_pattern(text).ok_or_else(|| {
        ConfigError::new("one of `repos` is wrong: expected owner/name or owner/*".to_owned())
    })
}

fn parse_kind(text: &str) -> Result<NotificationKind, ConfigError> {
    let wrong = || {
        let kinds = NotificationKind::ALL
            .iter()
            .filter(|kind| kind.is_selectable())
            .map(|kind| kind.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        ConfigError::new(format!("one of `kinds` is wrong: expected {kinds}"))
    };
    let kind: NotificationKind = text.parse().map_err(|_| wrong())?;
    if kind.is_selectable() {
        Ok(kind)
    } else {
        Err(wrong())
    }
}

pub(super) fn text<'t>(table: &'t DeTable<'_>, key: &str) -> Result<Option<&'t str>, ConfigError> {
    let wrong = || ConfigError::new(format!("`{key}` must be a text"));
    table
        .get(key)
        .map(|value| value.get_ref().as_str().map(str::trim).ok_or_else(wrong))
        .transpose()
}

fn texts<'t>(table: &'t DeTable<'_>, key: &str) -> Result<Option<Vec<&'t str>>, ConfigError> {
    let wrong = || {
        ConfigError::new(format!(
            "`{key}` must be a list of texts, and not an empty one"
        ))
    };
    let Some(value) = table.get(key) else {
        return Ok(None);
    };
    let items = value
        .get_ref()
        .as_array()
        .filter(|items| !items.is_empty())
        .ok_or_else(wrong)?;
    items
        .iter()
        .map(|item| item.get_ref().as_str().ok_or_else(wrong))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn parse_secret(text: &str, name: &str) -> Result<ChannelSecret, ConfigError> {
    let wrong = match text {
        "" => format!("{name} is empty"),
        _ => format!("{name} begins with whsec_, so that the rest must be base64"),
    };
    ChannelSecret::parse(text).ok_or_else(|| ConfigError::new(wrong))
}

#[cfg(test)]
mod tests {
    use super::super::file::parse_file;
    use super::super::testing::{error, sources};
    use super::*;
    use crate::config::Config;

    fn notify(environment: &[(&str, &str)], file: &str) -> NotifyConfig {
        Config::new(&sources(environment, file))
            .ok()
            .unwrap()
            .notify
    }

    #[test]
    fn channels_are_read_from_environment_and_file() {
        assert!(notify(&[], "").channels.is_empty());
        let environment = [
            (SLACK_WEBHOOK_URL, "https://hooks.example.com/T0/B0/carrot"),
            (NOTIFY_WEBHOOK_URL, "https://n8n.example.com/hook"),
            (NOTIFY_WEBHOOK_SECRET, "carrot and stick"),
        ];
        let file = "notification_timeout = '3s'\nnotify_allow_private = true\n\
            [[channel]]\nname = 'ops'\nkind = 'webhook'\nurl = 'http://10.0.0.7/'\nrepos = ['Acme-Corp/*', 'other/web']\n\
            kinds = ['worktree_kept']\n[[channel]]\nname = 'team-2'\nkind = 'slack'\nurl = 'https://hooks.example.com/2'";
        let NotifyConfig {
            channels,
            allow_private,
            timeout,
        } = notify(&environment, file);
        let names: Vec<_> = channels
            .iter()
            .map(|channel| channel.name.as_str())
            .collect();
        assert_eq!(names, ["slack", "webhook", "ops", "team-2"]);
        assert_eq!((allow_private, timeout), (true, SECOND * 3));
        let signed: Vec<_> = channels
            .iter()
            .map(|channel| match &channel.receiver {
                ChannelReceiver::Slack => None,
                ChannelReceiver::Webhook { secret } => Some(secret.is_some()),
            })
            .collect();
        assert_eq!(signed, [None, Some(true), Some(false), None]);
        assert_eq!(channels[0].filter, ChannelFilter::default());
        let ops = &channels[2].filter;
        assert_eq!(
            ops.repos.as_deref(),
            Some(&["acme-corp/*".to_owned(), "other/web".to_owned()][..])
        );
        assert_eq!(ops.kinds, Some(vec![NotificationKind::WorktreeKept]));
    }

    #[test]
    fn filter_accepts_named_repositories_and_kinds_only() {
        let repos = |repos: &[&str]| ChannelFilter {
            repos: Some(
                repos
                    .iter()
                    .map(|repo| parse_repository_pattern(repo).unwrap())
                    .collect(),
            ),
            kinds: Some(vec![NotificationKind::TaskStatusChange]),
        };
        let some = repos(&["Acme/*", "other/web"]);
        for (repo, taken) in [
            (Some("acme/api"), true),
            (Some("ACME/Web"), true),
            (Some("acme-two/api"), false),
            (Some("Other/Web"), true),
            (Some("other/web-2"), false),
            (None, false),
        ] {
            assert_eq!(
                some.accepts(NotificationKind::TaskStatusChange, repo),
                taken,
                "{repo:?}"
            );
            assert!(
                !some.accepts(NotificationKind::PrStatusChange, repo),
                "{repo:?}"
            );
            assert!(
                ChannelFilter::default().accepts(NotificationKind::WorktreeKept, repo),
                "{repo:?}"
            );
        }
    }

    #[test]
    fn errors_of_channels_contain_no_secret_value() {
        let good = "name = 'ops'\nkind = 'webhook'\nurl = 'https://carrot.example.com/carrot'\n";
        for (lines, words) in [
            (
                "name = 'ops'\nkind = 'webhook'".to_owned(),
                "channel `ops`: `url` is missing",
            ),
            (
                good.replace("webhook", "carrot"),
                "channel `ops`: `kind` must be slack or webhook",
            ),
            (
                good.replace("kind", "knd"),
                "line 3: unknown key `knd` of a [[channel]]: did you mean `kind`?",
            ),
            (
                good.replace("'ops'", "'Carrot'"),
                "lower-case letters, digits and dashes",
            ),
            (good.replace("name", "kinds"), "a [[channel]] has no `name`"),
            (
                format!("{good}secret = ['carrot']"),
                "`secret` must be a text",
            ),
            (format!("{good}secret = ''"), "`secret` is empty"),
            (
                format!("{}secret = 'carrot'", good.replace("webhook", "slack")),
                "nothing is signed for Slack",
            ),
            (
                format!("{good}repos = ['carrot']"),
                "expected owner/name or owner/*",
            ),
            (
                format!("{good}repos = ['a/*b']"),
                "expected owner/name or owner/*",
            ),
            (
                format!("{good}repos = []"),
                "`repos` must be a list of texts",
            ),
            (
                format!("{good}kinds = ['carrot']"),
                "expected pr_status_change, task_status_change, worktree_kept, waiting_change",
            ),
            (
                format!("{good}kinds = ['digest']"),
                "expected pr_status_change, task_status_change, worktree_kept, waiting_change",
            ),
            (
                format!("{good}digest = '9 carrot'"),
                "`digest` must be a time of day such as 09:00",
            ),
            (
                format!("{good}digest = '25:00'"),
                "`digest` must be a time of day such as 09:00",
            ),
        ] {
            let error = parse_file(&format!("[[channel]]\n{lines}"))
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("arrot") && !error.contains('\n'), "{error}");
        }
        assert!(
            parse_file("channel = 'carrot'")
                .err()
                .unwrap()
                .to_string()
                .contains("[[channel]]")
        );
        assert!(error(&[(NOTIFY_WEBHOOK_SECRET, "carrot")]).contains("set both"));
        assert!(
            error(&[("NOTIFICATION_TIMEOUT", "0s")])
                .contains("expected one from 1s to 1m such as 10s")
        );
        let twice = sources(
            &[(SLACK_WEBHOOK_URL, "https://a.example")],
            &format!("[[channel]]\n{good}").replace("ops", "slack"),
        );
        assert!(
            Config::new(&twice)
                .err()
                .unwrap()
                .to_string()
                .contains("two channels are called `slack`")
        );
    }
}
