//! Administrative acts: the row of each call and form that is one.
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

use super::act_records::{CallRecord, record_of};
use super::caller::{AddressedTeam, Caller, CallerKind, KnownCaller};
use super::{AccessRole, ApiError, ApiState, auth};
use crate::config::TALLYHOOK_ADMIN_TOKEN;

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
    by: Option<&KnownCaller>,
    accept: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let person = by.and_then(|known| known.person.as_ref());
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
}
