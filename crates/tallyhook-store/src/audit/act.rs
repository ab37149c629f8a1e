//! An act under way: its row is written by the first transaction that changes something for it.
//!
//! An act is known where a request is admitted, and its transaction is begun by a use case of this
//! crate. Between them is a task's local variable, so that no use case can forget the row, and each
//! row is committed together with what it is about.

use std::cell::RefCell;

use super::NewAuditEvent;

tokio::task_local! {
    static ACT: RefCell<PendingAct>;
}

struct PendingAct {
    /// `None` once it is written.
    event: Option<NewAuditEvent>,
    /// The transaction that is open has changed something.
    changed: bool,
}

/// Does something as an act: the first transaction of it that changes something writes `event`, too.
/// Returns the event if none did.
pub async fn audited<T>(
    event: NewAuditEvent,
    act: impl Future<Output = T>,
) -> (T, Option<NewAuditEvent>) {
    let pending = PendingAct {
        event: Some(event),
        changed: false,
    };
    let act = async {
        let done = act.await;
        (done, with(|act| act.event.take()).flatten())
    };
    ACT.scope(RefCell::new(pending), act).await
}

/// Adds to the event of the act under way, before the transaction that writes it. Does nothing
/// outside of an act.
pub fn describe_act(describe: impl FnOnce(&mut NewAuditEvent)) {
    with(|act| act.event.as_mut().map(describe));
}

/// Reports whether there is an act whose event is not written yet.
pub(crate) fn is_pending() -> bool {
    with(|act| act.event.is_some()).unwrap_or(false)
}

/// Notes that a transaction begins.
pub(crate) fn begin_change() {
    with(|act| act.changed = false);
}

/// Notes that the open transaction has changed something.
pub(crate) fn note_change() {
    with(|act| act.changed = true);
}

/// Takes the event that the open transaction has to write, which is about to be committed.
pub(crate) fn take_due() -> Option<NewAuditEvent> {
    with(|act| act.changed.then(|| act.event.take()).flatten()).flatten()
}

/// Returns the event of a transaction that was not committed.
pub(crate) fn give_back(event: NewAuditEvent) {
    with(|act| act.event = Some(event));
}

fn with<T>(use_act: impl FnOnce(&mut PendingAct) -> T) -> Option<T> {
    ACT.try_with(|act| use_act(&mut act.borrow_mut())).ok()
}
