//! Leader election among the processes of one database: one lease, and one loop for the work of
//! every role.

mod election;
mod lease;
mod outbox_worker;

pub use self::election::{LeaderWork, Leadership, while_leading};
pub use self::lease::LeaderLease;
pub use self::outbox_worker::{OutboxWorker, lead_worker, run_worker};
