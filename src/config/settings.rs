//! The list of all settings: name, default and help text.

use tallyhook_core::domain::origin::AGENT_BRANCHES;
use tallyhook_core::domain::task::Patterns;

use super::channels::{NOTIFY_WEBHOOK_SECRET, NOTIFY_WEBHOOK_URL, SLACK_WEBHOOK_URL};
use super::github::GITHUB_REPO_TEAM;
use super::http::{METRICS_TOKEN, TALLYHOOK_ADMIN_TOKEN, TALLYHOOK_TOKEN};
use super::origin::{AI_ACCOUNTS, AI_BRANCHES, AI_LABELS};
use super::tasks::TASK_KEY_PATTERNS;
use super::waiting::REQUIRED_APPROVALS;
use super::{
    DATABASE_URL, GITHUB_API_URL, GITHUB_APP_ID, GITHUB_APP_PRIVATE_KEY, GITHUB_CLIENT_ID,
    GITHUB_CLIENT_SECRET, GITHUB_TOKEN, GITHUB_URL, GITHUB_WEBHOOK_SECRET, NOTIFY_ALLOW_PRIVATE,
    SIGN_IN, TALLYHOOK_ENCRYPTION_KEYS, TALLYHOOK_LISTEN, TALLYHOOK_PUBLIC_URL,
};

/// One setting, as the reference and `--help` show it.
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

pub const AMQP_URL: &str = "AMQP_URL";

/// Every setting, in the order of `--help`.
pub const SETTINGS: &[Setting] = &[
    setting(
        GITHUB_WEBHOOK_SECRET,
        None,
        "the webhook's secret; several, one a line (in the file a list), are all valid \
         (rotation); `serve` does not start without, nor with one under 8 characters",
    ),
    setting(
        GITHUB_TOKEN,
        None,
        "a GitHub token, to fetch what webhooks missed; without it no request is sent to GitHub",
    ),
    setting(
        GITHUB_APP_ID,
        None,
        "number or client id of the GitHub App to use instead of a token",
    ),
    setting(
        GITHUB_APP_PRIVATE_KEY,
        None,
        "the App's private key: the PEM itself, in which \\n may stand for line ends, or the path \
         of its file",
    ),
    setting(
        GITHUB_API_URL,
        Some("https://api.github.com"),
        "base URL of GitHub's API; for an Enterprise Server https://HOST/api/v3; deliveries of \
         another GitHub are refused",
    ),
    setting(
        GITHUB_URL,
        None,
        "base URL of GitHub's web site, where it does not follow from that of the API",
    ),
    setting(
        GITHUB_CLIENT_ID,
        None,
        "client id of the GitHub App or OAuth App that people sign in with; its callback URL is \
         TALLYHOOK_PUBLIC_URL with /github/callback",
    ),
    setting(
        GITHUB_CLIENT_SECRET,
        None,
        "the client secret that belongs to it",
    ),
    setting(
        SIGN_IN,
        Some("off"),
        "github lets people sign in with their account at GitHub; off leaves tokens and links",
    ),
    setting(
        "GITHUB_REPO_OWNER",
        None,
        "owner of the default repository, the one of `/api/prs/{number}`",
    ),
    setting("GITHUB_REPO_NAME", None, "name of the default repository"),
    setting(
        GITHUB_REPO_TEAM,
        None,
        "the team that the default repository is of; `default` if it is left out",
    ),
    setting(
        "GITHUB_SYNC_DAYS_BACK",
        Some("90"),
        "days of history that a backfill fetches, by the last update of a pull request",
    ),
    setting(
        "GITHUB_SYNC_MAX_PRS",
        Some("1000"),
        "maximum number of pull requests of a backfill",
    ),
    setting(
        "GITHUB_SYNC_COMMITS",
        Some("false"),
        "true fetches the dates of commits too, for more requests",
    ),
    setting(
        "SYNC_INTERVAL",
        Some("60s"),
        "interval between two polls of the tracked repositories",
    ),
    setting(
        "SYNC_BATCH_SIZE",
        Some("10"),
        "pull requests that the poller fetches in one request",
    ),
    setting(
        "SYNC_MAX_CONCURRENT",
        Some("5"),
        "repositories that the poller fetches concurrently",
    ),
    setting(
        "SYNC_TIMEOUT",
        Some("30s"),
        "timeout of one request to GitHub",
    ),
    setting(
        "SYNC_RETRY_ATTEMPTS",
        Some("3"),
        "retries of a request that failed on the network",
    ),
    setting("SYNC_RETRY_DELAY", Some("10s"), "delay before such a retry"),
    setting(
        "MONITOR_POLL_INTERVAL",
        Some("5m"),
        "interval between two polls of a watched pull request",
    ),
    setting(
        "MONITOR_MAX_RETRIES",
        Some("3"),
        "retries of a watched pull request that failed, before the next interval",
    ),
    setting(
        "MONITOR_RETRY_DELAY",
        Some("30s"),
        "delay before such a retry",
    ),
    setting(
        "MONITOR_CONCURRENT",
        Some("5"),
        "watched pull requests that are fetched concurrently",
    ),
    setting(
        "PR_CACHE_TTL",
        Some("300s"),
        "age of an answer above which it is refreshed from GitHub in the background",
    ),
    setting(
        DATABASE_URL,
        Some("sqlite://tallyhook.db"),
        "the database: sqlite://FILE or postgres://USER:PASSWORD@HOST:PORT/DATABASE",
    ),
    setting(
        AMQP_URL,
        None,
        "the RabbitMQ between receivers and workers: amqp://USER:PASSWORD@HOST:PORT/VHOST, or \
         amqps://; without it the queue is inside the process",
    ),
    setting(
        TALLYHOOK_LISTEN,
        Some("127.0.0.1:8080"),
        "address and port to listen on; port 0 takes any free one",
    ),
    setting(
        TALLYHOOK_PUBLIC_URL,
        None,
        "the address by which people reach this server, such as https://tools.example.com/tallyhook; \
         with a path, the proxy may keep it or leave it out",
    ),
    setting(
        TALLYHOOK_ADMIN_TOKEN,
        None,
        "an API token that is valid while it is set, of 8 characters or more; without it one is \
         created at the first start and written to `tallyhook-admin-token` beside the database \
         file, or in the current folder",
    ),
    setting(
        TALLYHOOK_TOKEN,
        None,
        "the API token with which commands read another server (`--url`)",
    ),
    setting(
        METRICS_TOKEN,
        None,
        "the token, of 8 characters or more, that `/metrics` wants; with it the metrics name \
         repositories, and without it anyone may read them and they name none",
    ),
    setting(
        "BOT_LOGINS",
        None,
        "accounts to treat as bots besides those that GitHub marks as bots, separated by white \
         space or commas",
    ),
    setting(
        AI_BRANCHES,
        Some(AGENT_BRANCHES),
        "beginnings of the branches that AI agents push for people, separated by white space",
    ),
    setting(
        AI_LABELS,
        None,
        "labels of pull requests that were written with an AI tool, one a line (in the file a list)",
    ),
    setting(
        AI_ACCOUNTS,
        None,
        "AI accounts besides those that are known, as ROLE:LOGIN or ROLE:ID with the role agent, \
         reviewer or chat, separated by white space",
    ),
    setting(
        "SHOW_PEOPLE",
        Some("false"),
        "true lists beside the teams also the people on whom pull requests wait, in totals",
    ),
    setting(
        REQUIRED_APPROVALS,
        Some("1"),
        "approvals that complete a review where GitHub's own decision is not known; the file's \
         table default_reviewers names the teams that review where no one is asked",
    ),
    setting(
        TASK_KEY_PATTERNS,
        Some(Patterns::DEFAULT),
        "regular expressions that find task keys in a branch, title or body, separated by white \
         space; the first group, or else the whole match, is the key",
    ),
    setting(
        "TASK_AUTO_PR",
        Some("false"),
        "true opens the pull request of a task in IMPLEMENTING when its branch is pushed",
    ),
    setting(
        "WORKTREE_ROOT",
        None,
        "folder of the tasks' working trees; they are removed there after the merge, unless that \
         would lose something; without it none is removed",
    ),
    setting(
        "DELIVERY_RETENTION_DAYS",
        Some("7"),
        "days that bodies of finished deliveries are kept; their keys stay 30 days, dead letters \
         until they are requeued or discarded",
    ),
    setting(
        TALLYHOOK_ENCRYPTION_KEYS,
        None,
        "keys of stored secrets, of `openssl rand -base64 32`, separated by white space: the first \
         seals, all of them open; without it one is made in `tallyhook-keys` beside a SQLite \
         database, and on PostgreSQL nothing is stored that would have to be sealed",
    ),
    setting(
        "AUDIT_RETENTION_DAYS",
        Some("365"),
        "days that the record of administrative acts is kept",
    ),
    setting(
        "GITHUB_CALLS_RETENTION_DAYS",
        Some("30"),
        "days that the record of requests to GitHub is kept; that of requests which change \
         something there is kept for 365, or for these if they are more",
    ),
    setting(
        "WEBSOCKET_MAX_CLIENTS",
        Some("2000"),
        "maximum number of `/ws` clients of one process",
    ),
    setting(
        SLACK_WEBHOOK_URL,
        None,
        "an incoming webhook of Slack, which is notified of every change",
    ),
    setting(
        NOTIFY_WEBHOOK_URL,
        None,
        "a URL to which every change is posted as JSON",
    ),
    setting(
        NOTIFY_WEBHOOK_SECRET,
        None,
        "secret that signs those requests, as GitHub signs its webhooks",
    ),
    setting(
        NOTIFY_ALLOW_PRIVATE,
        Some("false"),
        "true allows notifications to this machine and to private networks",
    ),
    setting(
        "NOTIFICATION_TIMEOUT",
        Some("10s"),
        "timeout of sending one notification",
    ),
];

pub(super) fn default_of(name: &str) -> Option<&'static str> {
    SETTINGS
        .iter()
        .find(|setting| setting.name == name)?
        .default
}
