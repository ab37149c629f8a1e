//! The record of administrative acts and of the requests to GitHub.

mod act;
mod calls;
mod event;
mod sql;

pub use self::act::{audited, describe_act};
pub(crate) use self::act::{begin_change, give_back, is_pending, note_change, take_due};
pub use self::calls::{CallEnd, CallFilter, CallOutcome, GithubCallRow, NewCall};
pub use self::event::{
    AuditActor, AuditActorKind, AuditEvent, AuditFilter, AuditResult, AuditScope, AuditTarget,
    NewAuditEvent,
};
pub(crate) use self::sql::insert_event;
