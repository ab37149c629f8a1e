//! Administrative acts of commands on the server.

use chrono::Utc;
use tallyhook_store::{
    AuditActor, AuditActorKind, AuditResult, AuditTarget, NewAuditEvent, Store, audited,
};

use super::CommandResult;

/// Does something as an act of a command. Its row is written by its first transaction that changes
/// something; `is_act` is true of what changed no row and is an act all the same. `target` is a kind
/// and a name.
pub(super) async fn record<T>(
    store: &Store,
    action: &str,
    target: Option<(&str, String)>,
    act: impl Future<Output = T>,
    is_act: impl Fn(&T) -> bool,
) -> CommandResult<T> {
    let (kind, name) = target.unzip();
    let event = NewAuditEvent {
        at: Utc::now(),
        team: None,
        actor: AuditActor {
            kind: AuditActorKind::Command,
            id: None,
            name: "command".to_owned(),
        },
        action: action.to_owned(),
        target: AuditTarget {
            kind: kind.map(str::to_owned),
            id: name.clone(),
            name,
        },
        before: None,
        after: None,
        ip: None,
        agent: None,
        result: AuditResult::Ok,
    };
    let (done, left) = audited(event, act).await;
    if let Some(event) = left.filter(|_| is_act(&done)) {
        store.add_audit_event(&event).await?;
    }
    Ok(done)
}
