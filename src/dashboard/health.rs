//! The health of the installation, and the checks of the doctor.

use maud::{Markup, html};
use serde_json::Value;
use tallyhook_core::text::one_line;

use super::layout::{Section, block};
use super::page::{PageRequest, PageResult};
use super::repositories::backfills;
use super::routes::PageRoute;
use super::words;
use crate::api::{AccessRole, DoctorReport, HealthReport, QueueKind};
use crate::doctor::CheckState;

const MAX_ERROR: usize = 300;
const KEPT: &str = "counts deliveries that are kept, also of events without a list";
const OF_PROCESS: &str = "measured by the server";

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/health", AccessRole::Operator, health),
        PageRoute::form("/health/doctor", AccessRole::Operator, doctor),
    ]
}

async fn health(page: PageRequest) -> PageResult {
    let report = page.api.health_report().await;
    let body = html! {
        section #report data-live="inbox task channel notification sync_run" {
            (block(report, |report| sections(&page, &report)))
        }
        (doctor_form(&page))
    };
    Ok(page.show(Section::Health, "Is it working", &body))
}

fn sections(page: &PageRequest, report: &HealthReport) -> Markup {
    html! {
        (light(report))
        div .columns {
            section { h2 { "Inbox" } (inbox(page, report)) }
            section { h2 { "Poller" } (poller(report)) }
            section { h2 { "GitHub" } (github(page, report)) }
            section { h2 { "Database and queue" } (stores(report)) }
            section { h2 { "This process" } (process(report)) }
            section { (backfills(page, &report.sync.backfills)) }
        }
        (failing(page, report))
    }
}

/// Returns the state of the whole and of each part in words.
fn light(report: &HealthReport) -> Markup {
    let (class, words) = match report.status.as_str() {
        "ready" => ("banner good", "It works."),
        "degraded" => ("banner", "It works, but not all of it."),
        _ => (
            "banner",
            "It does not work: deliveries are refused or wait.",
        ),
    };
    html! {
        div class=(class) {
            p { strong { (words) } @if let Some(reason) = &report.reason { " The cause: " (reason.replace('_', " ")) "." } }
        }
        ul .legend {
            @for (part, state) in &report.parts {
                li {
                    (part) " "
                    span .chip .warn[["failing", "degraded"].contains(&state.as_str())] { (state.replace('_', " ")) }
                }
            }
        }
    }
}

fn inbox(page: &PageRequest, report: &HealthReport) -> Markup {
    let inbox = &report.inbox;
    let states = [
        ("accepted", "not applied yet", inbox.accepted),
        ("applied", "applied", inbox.applied),
        ("ignored", "ignored", inbox.ignored),
        ("dead", "dead", inbox.dead),
    ];
    html! {
        dl .facts {
            @for (state, words, n) in states {
                dt { a href=(page.links.to("/deliveries", [("state", state)])) { (words) } }
                dd data-n=(KEPT) { (words::grouped(n)) }
            }
            dt { "Oldest that waits" }
            dd { (seconds(inbox.oldest_pending_seconds, "none waits")) }
            dt { "From receipt to commit" }
            dd {
                @if inbox.lag_n == 0 {
                    "no webhook within the last hour"
                } @else {
                    "half within " (seconds(inbox.lag_p50_seconds, words::UNKNOWN))
                    ", 99 % within " (seconds(inbox.lag_p99_seconds, words::UNKNOWN))
                    span .quiet data-n=(OF_PROCESS) {
                        " of the newest " (words::counted(inbox.lag_n, "webhook")) " of the last hour"
                    }
                }
            }
        }
    }
}

fn seconds(seconds: Option<f64>, otherwise: &str) -> String {
    seconds.map_or_else(|| otherwise.to_owned(), |seconds| format!("{seconds:.3} s"))
}

fn poller(report: &HealthReport) -> Markup {
    let sync = &report.sync;
    html! {
        @if sync.config.enabled {
            dl .facts data-n=(OF_PROCESS) {
                dt { "Last round" } dd { (words::stated(sync.last_sync_at.as_deref())) @if sync.running { ", and one runs now" } }
                dt { "Interval" } dd { (format!("{:.1} s", sync.config.interval_seconds)) }
                dt { "Rounds" } dd { (words::grouped(sync.sync_count)) }
                dt { "Repositories that failed" } dd { (words::grouped(sync.error_count)) " over all rounds" }
                dt { "Changes without a webhook" } dd { (words::grouped(sync.missed_by_webhook)) }
                dt { "Watched pull requests" }
                dd { (words::grouped(sync.monitor.watched)) ", of them " (sync.monitor.failing) " failing" }
            }
        } @else {
            p { "It is off: there is no access to GitHub." }
        }
    }
}

/// Returns what the last round of the poller reported of its requests.
fn github(page: &PageRequest, report: &HealthReport) -> Markup {
    let stats = report
        .sync
        .github
        .as_ref()
        .filter(|stats| stats.is_object());
    let Some(stats) = stats else {
        return html! {
            p {
                @if page.api.github.is_some() { "No round of the poller has reported yet." }
                @else { "No request is sent: set GITHUB_TOKEN, or GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY." }
            }
        };
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let count = |name: &str| words::grouped(stats[name].as_u64().unwrap_or_default());
    let allowances = stats["allowances"].as_array();
    html! {
        dl .facts data-n=(OF_PROCESS) {
            dt { "Requests" } dd { (count("requests")) ", of them " (count("failed")) " failed" }
            @for allowance in allowances.into_iter().flatten() {
                dt { "Allowance " bdi { (text(&allowance["resource"]).unwrap_or_default()) } }
                dd {
                    (words::grouped(allowance["remaining"].as_u64().unwrap_or_default())) " of "
                    (words::grouped(allowance["limit"].as_u64().unwrap_or_default())) " left until "
                    (words::stated(text(&allowance["resets_at"]).as_deref()))
                }
            }
            dt { "Circuit breaker" } dd { (text(&stats["breaker"]["state"]).unwrap_or_default()) }
            @if let Some(error) = text(&stats["last_error"]) {
                dt { "Last error" } dd { bdi { (one_line(&error, MAX_ERROR)) } }
            }
        }
    }
}

fn stores(report: &HealthReport) -> Markup {
    let database = &report.database;
    html! {
        dl .facts data-n=(OF_PROCESS) {
            dt { "Database" } dd { (database.server) ", " (mebibytes(database.bytes)) }
            dt { "Free on its disk" }
            dd { @match database.free_bytes { Some(free) => (mebibytes(free)), None => "it is on another machine" } }
            @if let Some(why) = &database.read_only {
                dt { "Read-only" } dd .warn { bdi { (one_line(why, MAX_ERROR)) } }
            }
            dt { "Queue" }
            dd {
                @match report.queue.kind {
                    QueueKind::Embedded => "inside the process",
                    QueueKind::Rabbitmq => "RabbitMQ",
                }
                @match report.queue.connected {
                    Some(true) => ", connected",
                    Some(false) => ", not connected: deliveries wait in the inbox",
                    None => ", not used by this process",
                }
            }
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", words::grouped(bytes >> 20))
}

fn process(report: &HealthReport) -> Markup {
    let process = &report.process;
    html! {
        dl .facts {
            dt { "Version" } dd { code { (process.version) } }
            dt { "Runs since" } dd { (words::stated(Some(&process.started_at))) }
            dt { "Takes webhooks" } dd { @if process.takes_in { "yes" } @else { "no" } }
            dt { "Polls" } dd { @if process.polls { "yes" } @else { "no" } }
        }
    }
}

/// Returns the watched pull requests that fail, and the channels that are behind.
fn failing(page: &PageRequest, report: &HealthReport) -> Markup {
    let watched = &report.sync.monitor.last_errors;
    html! {
        @if !watched.is_empty() {
            h2 { "Watched pull requests that fail" }
            ul {
                @for failed in watched {
                    li {
                        a href=(page.links.on_github(&failed.repo, tallyhook_core::github::types::PrNumber(failed.number))) {
                            bdi { (one_line(&failed.repo, 200)) } "#" (failed.number)
                        }
                        ": " bdi { (one_line(&failed.error, MAX_ERROR)) }
                    }
                }
            }
        }
        @if !report.sync.notifier.is_empty() {
            h2 { "Channels" }
            ul {
                @for channel in &report.sync.notifier {
                    li {
                        a href=(page.links.path("/channels")) { bdi { (channel.channel) } } ": "
                        span data-n="events that are not matched yet count too" { (words::grouped(channel.pending)) " pending" }
                        @if channel.failures > 0 { " " span .chip.warn data-n="attempts in a row" { (channel.failures) " failed" } }
                    }
                }
            }
        }
    }
}

fn doctor_form(page: &PageRequest) -> Markup {
    html! {
        h2 { "Doctor" }
        p {
            "Checks the settings, the database, the broker, GitHub and its webhooks, and says what to do. \
             It takes up to half a minute, and sends requests to GitHub."
        }
        form .actions method="post" action=(page.links.path("/health/doctor")) {
            (page.csrf())
            button .primary { "Run doctor" }
        }
    }
}

async fn doctor(page: PageRequest) -> PageResult {
    let report = page.api.doctor().await?;
    let body = html! {
        (findings(&report))
        div .actions {
            form method="post" action=(page.links.path("/health/doctor")) {
                (page.csrf())
                button { "Run doctor again" }
            }
            a href=(page.links.path("/health")) { "Health" }
        }
    };
    Ok(page.show(Section::Health, "What did the doctor find", &body))
}

fn findings(report: &DoctorReport) -> Markup {
    let is_well = report.wrong == 0 && report.warnings == 0;
    html! {
        p .banner .good[is_well] data-n="rows of the table below" {
            @if is_well { "All is well." } @else {
                (words::counted(report.wrong, "thing")) " wrong, " (words::counted(report.warnings, "warning")) "."
            }
            " As of " (words::time(report.as_of)) "."
        }
        table {
            caption .quiet { "Checks" }
            thead {
                tr { th scope="col" { "State" } th scope="col" { "Check" } th scope="col" { "Found" } th scope="col" { "Next step" } }
            }
            tbody {
                @for (place, finding) in report.items.iter().enumerate() {
                    tr id=(format!("check-{place}")) {
                        td { span .chip .warn[finding.state != CheckState::Ok] { (finding.state.as_str()) } }
                        th scope="row" { bdi { (finding.title()) } }
                        td { bdi { (one_line(&finding.found, MAX_ERROR)) } }
                        td { bdi { (one_line(&finding.advice, MAX_ERROR)) } }
                    }
                }
            }
        }
    }
}
