//! Settings of notifications: who is told, and of what.

use std::collections::BTreeSet;
use std::time::Duration;

use tallyhook_core::domain::notification::Kind;
use tallyhook_core::github::signature::Secrets;

use super::sync::Time;
use super::{ConfigError, Sources};

pub(super) const SLACK_WEBHOOK_URL: &str = "SLACK_WEBHOOK_URL";
pub(super) const NOTIFY_WEBHOOK_URL: &str = "NOTIFY_WEBHOOK_URL";
pub(super) const NOTIFY_WEBHOOK_SECRET: &str = "NOTIFY_WEBHOOK_SECRET";
pub const NOTIFY_ALLOW_PRIVATE: &str = "NOTIFY_ALLOW_PRIVATE";

/// The keys of a `[[channel]]` in the file.
pub const CHANNEL_KEYS: [&str; 6] = ["name", "kind", "url", "secret", "repos", "kinds"];
/// Each of them is worked on by itself.
const MOST_CHANNELS: usize = 50;
const LONGEST_NAME: usize = 50;
const SECOND: Duration = Duration::from_secs(1);

/// Who is told. Without `Debug`, since addresses are secrets of their own.
#[derive(Clone)]
pub struct Notify {
    /// No two of one name.
    pub channels: Vec<Channel>,
    /// Whether anything may be sent into a private network.
    pub allow_private: bool,
    /// For one request.
    pub timeout: Duration,
}

/// Where notifications are sent.
#[derive(Clone)]
pub struct Channel {
    /// Of lower-case letters, digits and dashes.
    pub name: String,
    pub receiver: Receiver,
    /// As it was written; nothing was checked yet.
    pub url: String,
    pub filter: Filter,
}

/// Who reads what is sent.
#[derive(Clone)]
pub enum Receiver {
    /// An incoming webhook of Slack's.
    Slack,
    /// A program, which is shown by a signature who sent it if there is a secret.
    Webhook { secret: Option<Secrets> },
}

/// What a channel is told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `owner/name` or `owner/*` in lower case; `None` is all of them, and what is of no repository.
    pub repos: Option<Vec<String>>,
    /// `None` is all of them.
    pub kinds: Option<Vec<Kind>>,
}

impl Filter {
    /// Whether it is to be told of news of that kind, about that repository if it is about one.
    pub fn takes(&self, kind: Kind, repo: Option<&str>) -> bool {
        let is_wanted = self
            .kinds
            .as_ref()
            .is_none_or(|kinds| kinds.contains(&kind));
        is_wanted
            && self
                .repos
                .as_ref()
                .is_none_or(|wanted| repo.is_some_and(|repo| is_among(repo, wanted)))
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

impl Notify {
    /// # Errors
    /// Which setting is wrong, and what was expected. No address and no secret is told.
    pub(super) fn new(sources: &Sources) -> Result<Self, ConfigError> {
        let mut channels = of_environment(sources)?;
        channels.extend(sources.channels.iter().cloned());
        let mut names = BTreeSet::new();
        if let Some(twice) = channels.iter().find(|channel| !names.insert(&channel.name)) {
            return Err(ConfigError(format!(
                "two channels are called `{}`: rename one",
                twice.name
            )));
        }
        if channels.len() > MOST_CHANNELS {
            return Err(ConfigError(format!(
                "there are more than {MOST_CHANNELS} channels"
            )));
        }
        Ok(Self {
            channels,
            allow_private: sources.parsed(NOTIFY_ALLOW_PRIVATE, "true or false")?,
            timeout: sources
                .within("NOTIFICATION_TIMEOUT", Time(SECOND)..=Time(SECOND * 60))?
                .0,
        })
    }
}

/// Channels that are named like their kind and are told of everything.
fn of_environment(sources: &Sources) -> Result<Vec<Channel>, ConfigError> {
    let channel = |name: &str, url: &str, receiver| Channel {
        name: name.to_owned(),
        receiver,
        url: url.to_owned(),
        filter: Filter::default(),
    };
    let mut channels = Vec::new();
    channels.extend(
        sources
            .value(SLACK_WEBHOOK_URL)
            .map(|url| channel("slack", url, Receiver::Slack)),
    );
    let secret = sources
        .value(NOTIFY_WEBHOOK_SECRET)
        .and_then(Secrets::single);
    match sources.value(NOTIFY_WEBHOOK_URL) {
        Some(url) => channels.push(channel("webhook", url, Receiver::Webhook { secret })),
        None if secret.is_some() => {
            let message = format!(
                "{NOTIFY_WEBHOOK_SECRET} signs what is sent to {NOTIFY_WEBHOOK_URL}: set both"
            );
            return Err(ConfigError(message));
        }
        None => {}
    }
    Ok(channels)
}

/// Reads the value of `channel` in the file.
///
/// # Errors
/// What is wrong, without any value but names.
pub(super) fn of_file(value: toml::Value) -> Result<Vec<Channel>, ConfigError> {
    let tables =
        || ConfigError("`channel` must be tables, each below a line [[channel]]".to_owned());
    let toml::Value::Array(items) = value else {
        return Err(tables());
    };
    let channels = items.into_iter().map(|item| match item {
        toml::Value::Table(table) => of_table(&table),
        _ => Err(tables()),
    });
    channels.collect()
}

fn of_table(table: &toml::Table) -> Result<Channel, ConfigError> {
    if let Some(unknown) = table
        .keys()
        .find(|key| !CHANNEL_KEYS.contains(&key.as_str()))
    {
        let keys = CHANNEL_KEYS.join(", ");
        return Err(ConfigError(format!(
            "unknown key `{unknown}` of a [[channel]]; the keys are {keys}"
        )));
    }
    let name = text(table, "name")?
        .ok_or_else(|| ConfigError("a [[channel]] has no `name`".to_owned()))?;
    let is_good =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_good) {
        let expected =
            format!("expected at most {LONGEST_NAME} lower-case letters, digits and dashes");
        return Err(ConfigError(format!(
            "the `name` of a [[channel]] is wrong: {expected}"
        )));
    }
    let wrong = |ConfigError(what)| ConfigError(format!("channel `{name}`: {what}"));
    let missing = |key: &str| wrong(ConfigError(format!("`{key}` is missing")));
    let secret = text(table, "secret").map_err(wrong)?;
    let receiver = match (text(table, "kind").map_err(wrong)?, secret) {
        (Some("slack"), None) => Receiver::Slack,
        (Some("slack"), Some(_)) => {
            return Err(wrong(ConfigError(
                "`secret` is for kind webhook: nothing is signed for Slack".to_owned(),
            )));
        }
        (Some("webhook"), Some("")) => {
            return Err(wrong(ConfigError("`secret` is empty".to_owned())));
        }
        (Some("webhook"), secret) => Receiver::Webhook {
            secret: secret.and_then(Secrets::single),
        },
        (Some(_), _) => {
            return Err(wrong(ConfigError(
                "`kind` must be slack or webhook".to_owned(),
            )));
        }
        (None, _) => return Err(missing("kind")),
    };
    let url = text(table, "url")
        .map_err(wrong)?
        .ok_or_else(|| missing("url"))?;
    let filter = filter(table).map_err(wrong)?;
    Ok(Channel {
        name: name.to_owned(),
        receiver,
        url: url.to_owned(),
        filter,
    })
}

fn filter(table: &toml::Table) -> Result<Filter, ConfigError> {
    let repos = texts(table, "repos")?
        .map(|repos| repos.into_iter().map(pattern).collect())
        .transpose()?;
    let kinds = texts(table, "kinds")?
        .map(|kinds| kinds.into_iter().map(kind).collect())
        .transpose()?;
    Ok(Filter { repos, kinds })
}

fn pattern(text: &str) -> Result<String, ConfigError> {
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    match text.split_once('/') {
        Some((owner, name)) if is_name(owner) && (name == "*" || is_name(name)) => {
            Ok(text.to_ascii_lowercase())
        }
        _ => Err(ConfigError(
            "one of `repos` is wrong: expected owner/name or owner/*".to_owned(),
        )),
    }
}

fn kind(text: &str) -> Result<Kind, ConfigError> {
    let wrong = || {
        let kinds = Kind::ALL.map(Kind::as_str).join(", ");
        ConfigError(format!("one of `kinds` is wrong: expected {kinds}"))
    };
    Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(wrong)
}

fn text<'t>(table: &'t toml::Table, key: &str) -> Result<Option<&'t str>, ConfigError> {
    let wrong = || ConfigError(format!("`{key}` must be a text"));
    table
        .get(key)
        .map(|value| value.as_str().map(str::trim).ok_or_else(wrong))
        .transpose()
}

fn texts<'t>(table: &'t toml::Table, key: &str) -> Result<Option<Vec<&'t str>>, ConfigError> {
    let wrong = || {
        ConfigError(format!(
            "`{key}` must be a list of texts, and not an empty one"
        ))
    };
    let Some(value) = table.get(key) else {
        return Ok(None);
    };
    let items = value
        .as_array()
        .filter(|items| !items.is_empty())
        .ok_or_else(wrong)?;
    items
        .iter()
        .map(|item| item.as_str().ok_or_else(wrong))
        .collect::<Result<_, _>>()
        .map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{error, sources};
    use super::*;
    use crate::config::{Config, parse_file};

    fn notify(environment: &[(&str, &str)], file: &str) -> Notify {
        Config::new(&sources(environment, file))
            .ok()
            .unwrap()
            .notify
    }

    #[test]
    fn channels_come_from_the_environment_and_from_the_file() {
        assert!(notify(&[], "").channels.is_empty());
        let environment = [
            (SLACK_WEBHOOK_URL, "https://hooks.example.com/T0/B0/carrot"),
            (NOTIFY_WEBHOOK_URL, "https://n8n.example.com/hook"),
            (NOTIFY_WEBHOOK_SECRET, "carrot and stick"),
        ];
        let file = "notification_timeout = '3s'\nnotify_allow_private = true\n\
            [[channel]]\nname = 'ops'\nkind = 'webhook'\nurl = 'http://10.0.0.7/'\nrepos = ['Acme-Corp/*', 'other/web']\n\
            kinds = ['worktree_kept']\n[[channel]]\nname = 'team-2'\nkind = 'slack'\nurl = 'https://hooks.example.com/2'";
        let Notify {
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
                Receiver::Slack => None,
                Receiver::Webhook { secret } => Some(secret.is_some()),
            })
            .collect();
        assert_eq!(signed, [None, Some(true), Some(false), None]);
        assert_eq!(channels[0].filter, Filter::default());
        let ops = &channels[2].filter;
        assert_eq!(
            ops.repos.as_deref(),
            Some(&["acme-corp/*".to_owned(), "other/web".to_owned()][..])
        );
        assert_eq!(ops.kinds, Some(vec![Kind::WorktreeKept]));
    }

    #[test]
    fn a_filter_takes_what_it_names() {
        let repos = |repos: &[&str]| Filter {
            repos: Some(repos.iter().map(|repo| pattern(repo).unwrap()).collect()),
            kinds: Some(vec![Kind::TaskStatusChange]),
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
            assert_eq!(some.takes(Kind::TaskStatusChange, repo), taken, "{repo:?}");
            assert!(!some.takes(Kind::PrStatusChange, repo), "{repo:?}");
            assert!(
                Filter::default().takes(Kind::WorktreeKept, repo),
                "{repo:?}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_a_value_that_may_be_secret() {
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
                "unknown key `knd` of a [[channel]]; the keys are name, kind, url",
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
                "expected pr_status_change, task_status_change, worktree_kept",
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
