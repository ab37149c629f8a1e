//! Variables of the process that are no settings: they are not in the file and not in `--help`.

use std::net::TcpListener;

use listenfd::ListenFd;

use super::ConfigError;

/// Takes the listening sockets that a supervisor has handed over with `LISTEN_FDS`, as systemd
/// does. Removes the variable, which is not meant for child processes, and so must be called before
/// the first thread is started.
///
/// # Errors
/// If one of them is no TCP socket.
pub fn handed_over_sockets() -> Result<Vec<TcpListener>, ConfigError> {
    let mut handed_over = ListenFd::from_env();
    let sockets = (0..handed_over.len()).map(|index| handed_over.take_tcp_listener(index));
    let sockets: std::io::Result<_> = sockets.filter_map(Result::transpose).collect();
    sockets.map_err(|error| {
        ConfigError::new(format!(
            "a socket of LISTEN_FDS cannot be used: {error}; set ListenStream= to an address and a \
             port, and leave Accept= out"
        ))
    })
}

/// Reads the log filter from `RUST_LOG`. An empty one counts as unset, as with every setting.
pub fn log_filter() -> Option<String> {
    std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.trim().is_empty())
}

/// Reads the crash points of the kill tests: `TALLYHOOK_CRASH_AT=name:times` and
/// `TALLYHOOK_POISON_GUID`.
#[cfg(feature = "crash-points")]
pub fn crash_plan() -> tallyhook_core::crash_point::CrashPlan {
    let point = std::env::var("TALLYHOOK_CRASH_AT").ok().and_then(|text| {
        let (name, times) = text.split_once(':')?;
        Some((name.to_owned(), times.parse().ok()?))
    });
    tallyhook_core::crash_point::CrashPlan {
        point,
        poison: std::env::var("TALLYHOOK_POISON_GUID").ok(),
    }
}
