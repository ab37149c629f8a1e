//! Places at which the kill tests end the process, as `kill -9` would. Without the feature
//! `crash-points`, which no release has, nothing happens at any of them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The place at which the process ends.
#[derive(Debug, Default)]
pub struct CrashPlan {
    /// The name of a crash point, and the number of the visit that ends the process.
    pub point: Option<(String, u64)>,
    /// The GUID of a delivery that ends the process each time it is handled.
    pub poison: Option<String>,
}

static PLAN: OnceLock<CrashPlan> = OnceLock::new();
static VISITS: AtomicU64 = AtomicU64::new(0);

/// Sets the plan of this process. Only the first call counts.
pub fn arm(plan: CrashPlan) {
    PLAN.get_or_init(|| plan);
}

/// Ends the process if the plan names this visit of the crash point `name`.
pub fn reached(name: &str) {
    if !cfg!(feature = "crash-points") {
        return;
    }
    if let Some((point, visit)) = PLAN.get().and_then(|plan| plan.point.as_ref())
        && point == name
        && VISITS.fetch_add(1, Ordering::SeqCst) + 1 == *visit
    {
        // No destructor runs, no buffer is flushed: what is on disk now is what the next start
        // finds.
        std::process::abort();
    }
}

/// Ends the process if the plan names the delivery `guid`.
pub fn handling(guid: &str) {
    if cfg!(feature = "crash-points")
        && PLAN.get().and_then(|plan| plan.poison.as_deref()) == Some(guid)
    {
        std::process::abort();
    }
}
