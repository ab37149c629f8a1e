//! The settings in force, without secrets.

use actix_web::{get, web};
use serde::Serialize;
use tallyhook_core::domain::business_time::{Calendar, Calendars};
use tallyhook_github_client::Credentials;
use utoipa::ToSchema;

use super::ApiState;
use super::caller::Caller;
use crate::config::{Config, SettingOrigins};
use crate::sync::webhook::ENDPOINT;

/// The settings in force on the process that answers, without secrets.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettingsAnswer {
    #[schema(example = "0.1.0 (abcdef0 2026-11-29)")]
    pub version: &'static str,
    #[schema(example = "Apache-2.0")]
    pub license: &'static str,
    /// The path of the configuration file, if there is one.
    pub config_file: Option<String>,
    /// The settings that flags, the environment or the file set, by name; of no one its value.
    pub set: Vec<SetSettingItem>,
    /// Names that look misspelt, and values in quotation marks.
    pub warnings: Vec<String>,
    pub github: GithubSettings,
    pub webhooks: WebhookSettings,
    /// Totals list people beside teams.
    pub show_people: bool,
    /// Accounts that are treated as bots besides those that GitHub marks.
    pub bots: Vec<String>,
    pub calendars: Vec<CalendarItem>,
    pub tasks: TaskSettings,
}

/// A setting that is not at its default.
#[derive(Debug, Serialize, ToSchema)]
pub struct SetSettingItem {
    #[schema(example = "DATABASE_URL")]
    pub name: &'static str,
    /// Its source in words.
    #[schema(example = "environment")]
    pub from: String,
}

/// The access to GitHub.
#[derive(Debug, Serialize, ToSchema)]
pub struct GithubSettings {
    pub access: GithubAccess,
    /// The origin of its API.
    #[schema(example = "https://api.github.com")]
    pub api: String,
    /// The repository of `/api/prs/{number}`.
    pub default_repository: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GithubAccess {
    /// No request is sent to GitHub.
    None,
    Token,
    App,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookSettings {
    /// The path that GitHub posts to.
    #[schema(example = "/webhooks/github")]
    pub path: &'static str,
    /// The number of secrets that are valid now.
    pub secrets: u64,
    /// The days after which bodies of finished deliveries are deleted.
    pub retention_days: u32,
}

/// A calendar of working hours.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CalendarSettings)]
pub struct CalendarItem {
    pub name: String,
    #[schema(example = "Europe/Berlin")]
    pub zone: String,
    /// It holds for repositories that have no other.
    pub is_default: bool,
    /// The hours from Monday on; empty for a day off.
    #[schema(example = json!(["09:00-17:00", "09:00-17:00", "", "", "", "", ""]))]
    pub week: Vec<String>,
    /// The number of dates with hours of their own, such as holidays.
    pub dates: u64,
    /// `owner/name` or `owner/*`.
    pub repos: Vec<String>,
    /// Slugs of teams on GitHub.
    pub teams: Vec<String>,
    pub people: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TaskSettings {
    /// With true the pull request of a task in IMPLEMENTING is opened when its branch is pushed.
    pub auto_pr: bool,
    /// The folder of working trees that are removed after the merge; null removes none.
    pub worktree_root: Option<String>,
}

impl SettingsAnswer {
    fn new(config: &Config, secrets: usize, team: &str) -> Self {
        let SettingOrigins {
            set,
            config_file,
            warnings,
            ..
        } = &config.origins;
        let set = set.iter().map(|setting| SetSettingItem {
            name: setting.name,
            from: setting.from.clone(),
        });
        let (numbers, tasks) = (&config.numbers, &config.tasks);
        let is_mine = |calendar: &&Calendar| config.calendar_team(calendar.name()) == team;
        let calendars = numbers.calendars.iter().filter(is_mine);
        Self {
            version: env!("TALLYHOOK_VERSION"),
            license: env!("CARGO_PKG_LICENSE"),
            config_file: config_file.as_ref().map(|path| path.display().to_string()),
            set: set.collect(),
            warnings: warnings.clone(),
            github: GithubSettings {
                access: match config.github_credentials {
                    None => GithubAccess::None,
                    Some(Credentials::Token(_)) => GithubAccess::Token,
                    Some(Credentials::App(_)) => GithubAccess::App,
                },
                api: config.github_api_url.to_string(),
                default_repository: config.default_repository_of(team).map(str::to_owned),
            },
            webhooks: WebhookSettings {
                path: ENDPOINT,
                secrets: secrets as u64,
                retention_days: config.retention_days,
            },
            show_people: config.show_people,
            bots: numbers.bots.logins().map(str::to_owned).collect(),
            calendars: calendars
                .map(|calendar| CalendarItem::new(calendar, &numbers.calendars))
                .collect(),
            tasks: TaskSettings {
                auto_pr: tasks.auto_pr,
                worktree_root: tasks
                    .worktree_root
                    .as_ref()
                    .map(|path| path.display().to_string()),
            },
        }
    }
}

impl CalendarItem {
    fn new(calendar: &Calendar, calendars: &Calendars) -> Self {
        let names = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        let [repos, teams, people] = calendars.assigned_to(calendar.name());
        Self {
            name: calendar.name().to_owned(),
            zone: calendar.zone().to_owned(),
            is_default: calendars
                .default_calendar()
                .is_some_and(|default| default.name() == calendar.name()),
            week: calendar.week().iter().map(ToString::to_string).collect(),
            dates: calendar.dates() as u64,
            repos: names(repos),
            teams: names(teams),
            people: names(people),
        }
    }
}

impl ApiState {
    /// Answers as `GET /api/settings`, for a team by name.
    pub(crate) fn settings(&self, team: &str) -> SettingsAnswer {
        // Secrets are replaced while the server runs.
        let accepted = self.secrets.borrow().accepted.clone();
        let secrets = accepted.map_or(0, |secrets| secrets.count());
        SettingsAnswer::new(&self.config, secrets, team)
    }
}

/// The settings in force, and where they are set; no secret.
#[utoipa::path(
    tag = "settings", operation_id = "show_settings", security(("token" = [])),
    responses((status = 200, body = SettingsAnswer))
)]
#[get("/settings")]
pub(super) async fn show(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
) -> web::Json<SettingsAnswer> {
    web::Json(api.settings(&caller.team_name))
}
