//! Administrative acts: each call and form that is one, by its method and path, and its row.
//!
//! A row is written by the transaction of the act. What has none, such as an export, is written
//! when it has succeeded.

use std::net::IpAddr;

use actix_web::dev::ServiceResponse;
use actix_web::http::header::USER_AGENT;
use actix_web::{Error, HttpMessage, HttpRequest};
use chrono::Utc;
use serde_json::{Map, Value};
use tallyhook_store::{
    AuditActor, AuditActorKind, AuditResult, AuditTarget, NewAuditEvent, PersonName, SessionOwner,
    StoreError, TeamId, audited,
};

use super::caller::{AddressedTeam, Caller, CallerKind, KnownCaller};
use super::{AccessRole, ApiError, ApiState, auth};
use crate::config::TALLYHOOK_ADMIN_TOKEN;

/// The record of a call or form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallRecord {
    /// It is an act.
    Act {
        action: &'static str,
        /// The kind of the thing whose name is in the path.
        target: &'static str,
        /// The fields of the body that are kept; none of them may be a secret.
        fields: &'static [&'static str],
    },
    /// It is none, for this reason.
    None(&'static str),
}

const fn act(
    action: &'static str,
    target: &'static str,
    fields: &'static [&'static str],
) -> CallRecord {
    CallRecord::Act {
        action,
        target,
        fields,
    }
}

const OF_TASK: CallRecord = CallRecord::None("the history of the task has it");
const READS: CallRecord = CallRecord::None("it changes nothing that is stored");
const WATCH: CallRecord =
    CallRecord::None("a member asks for one pull request more often, for a while");
const PREFERENCE: CallRecord = CallRecord::None("it sets a cookie of the browser");
const OPEN: CallRecord = CallRecord::None("its handler records it, once the caller is known");
const SELECTION: &[&str] = &["ids", "id", "group", "event", "repo", "all", "reason"];

const INVITATION: &[&str] = &["role", "login", "github_login", "name", "user"];
const RULE: &[&str] = &[
    "role",
    "organization",
    "org",
    "github_org",
    "github_team",
    "team",
];

/// The unsafe calls and forms, and the exports, with their records. The name of an act is the thing
/// and what was done to it.
pub const RECORDS: &[(&str, CallRecord)] = &[
    ("POST /invitations/{secret}", OPEN),
    (
        "POST /settings/sessions/end",
        act("session.all_ended", "session", &[]),
    ),
    (
        "POST /teams/choose",
        CallRecord::None("it chooses the team that the session shows"),
    ),
    ("POST /teams", act("team.created", "team", &["name"])),
    ("POST /api/teams", act("team.created", "team", &["name"])),
    (
        "POST /api/members",
        act("member.added", "user", &["user", "login", "role"]),
    ),
    (
        "PATCH /api/members/{user}",
        act("member.role_changed", "user", &["role"]),
    ),
    (
        "DELETE /api/members/{user}",
        act("member.removed", "user", &[]),
    ),
    ("DELETE /api/me/membership", act("member.left", "team", &[])),
    (
        "POST /members/{id}/role",
        act("member.role_changed", "user", &["role"]),
    ),
    (
        "POST /members/{id}/remove",
        act("member.removed", "user", &[]),
    ),
    (
        "POST /api/invitations",
        act("invitation.created", "invitation", INVITATION),
    ),
    (
        "POST /members/invite",
        act("invitation.created", "invitation", INVITATION),
    ),
    (
        "DELETE /api/invitations/{id}",
        act("invitation.ended", "invitation", &[]),
    ),
    (
        "POST /members/invitations/{id}/end",
        act("invitation.ended", "invitation", &[]),
    ),
    ("PUT /api/rules", act("rules.replaced", "team", &["rules"])),
    ("POST /members/rules", act("rules.replaced", "team", RULE)),
    (
        "POST /members/rules/{id}/remove",
        act("rules.replaced", "rule", &[]),
    ),
    (
        "PUT /api/repositories/{owner}/{repo}",
        act("repository.given", "repository", &["team"]),
    ),
    (
        "DELETE /api/repositories/{owner}/{repo}",
        act("repository.taken", "repository", &["team"]),
    ),
    (
        "POST /webhooks/github",
        CallRecord::None("a delivery is a row of its own"),
    ),
    ("POST /login", OPEN),
    ("POST /login/once/{code}", OPEN),
    (
        "POST /logout",
        CallRecord::None("the browser ends its own session"),
    ),
    (
        "DELETE /api/me/sessions",
        act("session.all_ended", "session", &[]),
    ),
    (
        "DELETE /api/me/sessions/{id}",
        act("session.ended", "session", &[]),
    ),
    (
        "POST /settings/sessions/{id}/end",
        act("session.ended", "session", &[]),
    ),
    (
        "POST /api/ws-ticket",
        CallRecord::None("it opens one WebSocket of the caller"),
    ),
    (
        "POST /api/tokens",
        act(
            "token.created",
            "token",
            &["name", "role", "login", "expires_days"],
        ),
    ),
    (
        "POST /settings/tokens",
        act(
            "token.created",
            "token",
            &["name", "role", "login", "expires_days"],
        ),
    ),
    (
        "DELETE /api/tokens/{name}",
        act("token.revoked", "token", &[]),
    ),
    (
        "POST /settings/tokens/{name}/revoke",
        act("token.revoked", "token", &[]),
    ),
    (
        "POST /api/repos",
        act("repository.tracked", "repository", &["repo", "webhook_url"]),
    ),
    (
        "POST /repos",
        act("repository.tracked", "repository", &["repo"]),
    ),
    (
        "DELETE /api/repos/{owner}/{repo}",
        act("repository.untracked", "repository", &[]),
    ),
    (
        "POST /repos/{owner}/{repo}/untrack",
        act("repository.untracked", "repository", &[]),
    ),
    (
        "POST /api/repos/{owner}/{repo}/sync",
        act(
            "sync.forced",
            "repository",
            &["days_back", "max_prs", "commits"],
        ),
    ),
    (
        "POST /repos/{owner}/{repo}/sync",
        act(
            "sync.forced",
            "repository",
            &["days_back", "max_prs", "commits"],
        ),
    ),
    (
        "DELETE /api/sync-runs/{id}",
        act("sync.cancelled", "sync_run", &[]),
    ),
    (
        "POST /sync-runs/{id}/cancel",
        act("sync.cancelled", "sync_run", &[]),
    ),
    ("POST /api/sync", act("poll.forced", "installation", &[])),
    (
        "POST /api/channels/{name}/test",
        act("channel.tested", "channel", &[]),
    ),
    (
        "POST /channels/{name}/test",
        act("channel.tested", "channel", &[]),
    ),
    (
        "POST /api/notifications/{event_id}/{channel}/retry",
        act("notification.retried", "notification", &[]),
    ),
    (
        "POST /channels/{name}/retry",
        act("notification.retried", "channel", &["event_id", "event"]),
    ),
    (
        "DELETE /api/dead-letters/{id}",
        act("dead_letter.discarded", "delivery", &["reason"]),
    ),
    (
        "POST /api/dead-letters/discard",
        act("dead_letters.discarded", "inbox", SELECTION),
    ),
    (
        "POST /dead-letters/discard",
        act("dead_letters.discarded", "inbox", SELECTION),
    ),
    (
        "POST /api/dead-letters/{id}/requeue",
        act("dead_letter.requeued", "delivery", &[]),
    ),
    (
        "POST /api/dead-letters/requeue",
        act("dead_letters.requeued", "inbox", SELECTION),
    ),
    (
        "POST /dead-letters/try",
        act("dead_letters.requeued", "inbox", SELECTION),
    ),
    ("POST /api/deliveries/{id}/check", READS),
    ("POST /api/doctor", READS),
    ("POST /health/doctor", READS),
    ("POST /api/repos/{owner}/{repo}/prs/{number}/monitor", WATCH),
    (
        "DELETE /api/repos/{owner}/{repo}/prs/{number}/monitor",
        WATCH,
    ),
    ("POST /repos/{owner}/{repo}/prs/{number}/watch", WATCH),
    ("POST /repos/{owner}/{repo}/prs/{number}/unwatch", WATCH),
    ("POST /repos/{owner}/{repo}/prs/{number}/refresh", READS),
    ("POST /api/tasks", OF_TASK),
    ("PATCH /api/tasks/{id}", OF_TASK),
    ("POST /api/tasks/{id}/pr", OF_TASK),
    ("POST /api/tasks/{id}/prs", OF_TASK),
    (
        "DELETE /api/tasks/{id}/prs/{owner}/{repo}/{number}",
        OF_TASK,
    ),
    ("POST /tasks", OF_TASK),
    ("POST /tasks/{id}/move", OF_TASK),
    ("POST /tasks/{id}/link", OF_TASK),
    ("POST /tasks/{id}/unlink", OF_TASK),
    ("POST /tasks/{id}/pr", OF_TASK),
    ("POST /keys", PREFERENCE),
    ("POST /theme", PREFERENCE),
    // Reads that take payloads out of the installation.
    (
        "GET /api/delivery-payloads/{id}",
        act("delivery.payload_read", "delivery", &[]),
    ),
    (
        "GET /api/deliveries/{id}/export",
        act("delivery.exported", "delivery", &[]),
    ),
    (
        "GET /api/dead-letters/export",
        act("dead_letters.exported", "inbox", &[]),
    ),
    (
        "GET /deliveries/{id}/payload",
        act("delivery.payload_read", "delivery", &[]),
    ),
    (
        "GET /deliveries/{id}/fixture",
        act("delivery.exported", "delivery", &[]),
    ),
    (
        "GET /dead-letters/export",
        act("dead_letters.exported", "inbox", &[]),
    ),
];

/// Returns the record of a call or form; `None` is a read.
pub fn record_of(method: &str, path: &str) -> Option<CallRecord> {
    let is_of = |(call, _): &&(&str, CallRecord)| {
        let mut parts = call.splitn(2, ' ');
        parts.next() == Some(method) && parts.next() == Some(path)
    };
    RECORDS.iter().find(is_of).map(|(_, record)| *record)
}

/// The body of a request, of which single fields are kept.
#[derive(Clone, Copy)]
pub(crate) enum ActBody<'a> {
    Json(&'a [u8]),
    Form(&'a [(String, String)]),
}

impl ActBody<'_> {
    /// Returns the values of fields, those that were sent.
    fn fields(self, names: &[&str]) -> Map<String, Value> {
        let mut kept = Map::new();
        match self {
            Self::Json(body) => {
                let sent: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
                kept.extend(
                    sent.into_iter()
                        .filter(|(name, _)| names.contains(&&**name)),
                );
            }
            Self::Form(sent) => {
                let sent = sent.iter().filter(|(name, _)| names.contains(&&**name));
                kept.extend(sent.map(|(name, value)| (name.clone(), value.clone().into())));
            }
        }
        kept
    }
}

/// A request that is an act, before its handler runs.
pub(crate) struct PendingCall(NewAuditEvent);

/// A response, or the request whose act could not be written, with the reason.
pub(crate) type RecordedAnswer<B> = Result<ServiceResponse<B>, (HttpRequest, ApiError)>;

impl PendingCall {
    /// Returns the act of a request with the documented `path`; `None` if it is none. `role` is the
    /// one that the call needs.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn of(
        api: &ApiState,
        request: &HttpRequest,
        (path, role): (&str, Option<AccessRole>),
        (known, team): (&KnownCaller, Option<TeamId>),
        body: ActBody<'_>,
    ) -> tallyhook_store::Result<Option<Self>> {
        let Some(CallRecord::Act {
            action,
            target,
            fields,
        }) = record_of(request.method().as_str(), path)
        else {
            return Ok(None);
        };
        let after = match fields.is_empty() {
            true => Map::new(),
            false => body.fields(fields),
        };
        let named = named_in_path(path, request.match_info().as_str());
        let named = named.or_else(|| {
            let name = after.get("name").or(after.get("repo"));
            name.and_then(Value::as_str).map(str::to_owned)
        });
        let event = NewAuditEvent {
            at: Utc::now(),
            team: team.filter(|_| role != Some(AccessRole::Operator) || names_team(request)),
            actor: actor(api, known).await?,
            action: action.to_owned(),
            target: AuditTarget {
                kind: Some(target.to_owned()),
                id: named.clone(),
                name: named,
            },
            before: None,
            after: (!after.is_empty()).then_some(Value::Object(after)),
            ip: auth::peer(request).map(network),
            agent: agent(request),
            result: AuditResult::Ok,
        };
        Ok(Some(Self(event)))
    }

    /// Runs a handler as the act. The first of its transactions that changes something writes the
    /// row; without one it is written when the handler has succeeded.
    ///
    /// # Errors
    /// Those of the handler.
    pub(crate) async fn run<B>(
        self,
        api: &ApiState,
        handler: impl Future<Output = Result<ServiceResponse<B>, Error>>,
    ) -> Result<RecordedAnswer<B>, Error> {
        let (answer, left) = audited(self.0, handler).await;
        let answer = answer?;
        let status = answer.status();
        let is_done = status.is_success() || status.is_redirection();
        if let Some(event) = left.filter(|_| is_done)
            && let Err(error) = api.store.add_audit_event(&event).await
        {
            let (request, _) = answer.into_parts();
            return Ok(Err((request, ApiError::Unavailable(error))));
        }
        Ok(Ok(answer))
    }
}

/// Records an act that changes no row, such as an export. `what` is its action, and the name of its
/// target.
///
/// # Errors
/// If the database fails.
pub(crate) async fn note(
    api: &ApiState,
    request: &HttpRequest,
    caller: &Caller,
    what: (&str, &str),
) -> Result<(), ApiError> {
    let (action, target) = what;
    let event = NewAuditEvent {
        at: Utc::now(),
        team: (!caller.may(AccessRole::Operator)).then_some(caller.team),
        actor: actor(api, &caller.known).await?,
        action: action.to_owned(),
        target: AuditTarget {
            kind: Some("record".to_owned()),
            id: None,
            name: Some(target.to_owned()),
        },
        before: None,
        after: None,
        ip: auth::peer(request).map(network),
        agent: agent(request),
        result: AuditResult::Ok,
    };
    Ok(api.store.add_audit_event(&event).await?)
}

fn names_team(request: &HttpRequest) -> bool {
    request.extensions().get::<AddressedTeam>().is_some()
}

/// Returns the values in the path of a request, with slashes between them.
fn named_in_path(pattern: &str, path: &str) -> Option<String> {
    let parts = pattern.split('/').zip(path.split('/'));
    let values = parts.filter(|(pattern, _)| pattern.starts_with('{'));
    let values: Vec<_> = values.map(|(_, value)| value).collect();
    (!values.is_empty()).then(|| values.join("/"))
}

async fn actor(api: &ApiState, known: &KnownCaller) -> tallyhook_store::Result<AuditActor> {
    let kind = match (known.kind, &known.owner) {
        (CallerKind::Session, SessionOwner::Person(_)) => AuditActorKind::User,
        (CallerKind::Session, SessionOwner::Token(_)) => AuditActorKind::Session,
        (CallerKind::Operator, _) => AuditActorKind::Operator,
        (CallerKind::Token, _) => AuditActorKind::Token,
    };
    let name = match &known.owner {
        SessionOwner::Person(_) => known.person.as_ref().map(person_name),
        SessionOwner::Token(token) => api.store.token_name(token).await?,
    };
    Ok(AuditActor {
        kind,
        id: known.login.clone(),
        name: name.unwrap_or_else(|| TALLYHOOK_ADMIN_TOKEN.to_owned()),
    })
}

fn person_name(person: &PersonName) -> String {
    let name = person.name.as_ref().or(person.login.as_ref());
    name.cloned()
        .unwrap_or_else(|| format!("user {}", person.id.0))
}

/// Starts a session as an act of its holder.
///
/// # Errors
/// If the database fails.
pub(super) async fn signed_in<T>(
    api: &ApiState,
    request: &HttpRequest,
    (owner, team): (&SessionOwner, Option<TeamId>),
    start: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let (kind, id, name) = match owner {
        SessionOwner::Person(user) => {
            let user = api.store.user(*user).await?;
            let name = user.as_ref().map(|user| person_name(&user.person));
            let login = user.and_then(|user| user.person.login);
            (AuditActorKind::User, login, name)
        }
        SessionOwner::Token(token) => {
            let name = api.store.token_name(token).await?;
            (AuditActorKind::Session, None, name)
        }
    };
    let actor = AuditActor {
        kind,
        id,
        name: name.unwrap_or_else(|| TALLYHOOK_ADMIN_TOKEN.to_owned()),
    };
    let event = event(request, team, actor, "session.started");
    audited(event, start).await.0
}

/// Accepts an invitation as an act of the person who has it.
pub(super) async fn accepted<T>(
    request: &HttpRequest,
    person: Option<&PersonName>,
    accept: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let actor = AuditActor {
        kind: AuditActorKind::User,
        id: person.and_then(|person| person.login.clone()),
        name: person.map_or_else(|| "the holder of the link".to_owned(), person_name),
    };
    let event = event(request, None, actor, "invitation.accepted");
    audited(event, accept).await.0
}

fn event(
    request: &HttpRequest,
    team: Option<TeamId>,
    actor: AuditActor,
    action: &str,
) -> NewAuditEvent {
    NewAuditEvent {
        at: Utc::now(),
        team,
        actor,
        action: action.to_owned(),
        target: AuditTarget::default(),
        before: None,
        after: None,
        ip: auth::peer(request).map(network),
        agent: agent(request),
        result: AuditResult::Ok,
    }
}

fn agent(request: &HttpRequest) -> Option<String> {
    let agent = request.headers().get(USER_AGENT)?;
    agent.to_str().ok().map(str::to_owned)
}

/// Returns the beginning of an address, which names a network and no person.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_shortened_to_its_network() {
        for (address, expected) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:7:1::5", "2001:db8:7::/48"),
        ] {
            assert_eq!(network(address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn target_is_what_the_path_names() {
        let named = |pattern, path| named_in_path(pattern, path);
        assert_eq!(named("/api/tokens", "/api/tokens"), None);
        let repository = named(
            "/api/repos/{owner}/{repo}/sync",
            "/api/repos/acme/site/sync",
        );
        assert_eq!(repository.as_deref(), Some("acme/site"));
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut calls: Vec<_> = RECORDS.iter().map(|(call, _)| call).collect();
        let count = calls.len();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), count);
    }
}
