//! Places at which the kill tests end the process, as `kill -9` would.

/// Ends the process here if `TALLYHOOK_CRASH_AT` names this place. Nothing at all in a build without the
/// `crash-points` feature, which no release has. With a GUID it ends the process each time that this delivery is
/// handled, if `TALLYHOOK_POISON_GUID` names it.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "crash-points")]
        $crate::crash_point::reached($name);
    };
    ($name:literal, $guid:expr) => {
        #[cfg(feature = "crash-points")]
        $crate::crash_point::handling($guid);
    };
}

/// Ends the process when `name` was reached as often as `TALLYHOOK_CRASH_AT=name:times` says.
#[cfg(feature = "crash-points")]
pub fn reached(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};

    static REACHED: AtomicU64 = AtomicU64::new(0);
    let Some((place, times)) = crate::config::crash_point() else {
        return;
    };
    if place == name && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == times {
        // No destructor runs, no buffer is flushed: what is on disk now is what the next start finds.
        std::process::abort();
    }
}

/// Ends the process if `guid` is the delivery that `TALLYHOOK_POISON_GUID` names.
#[cfg(feature = "crash-points")]
pub fn handling(guid: &str) {
    if crate::config::poison() == Some(guid) {
        std::process::abort();
    }
}
