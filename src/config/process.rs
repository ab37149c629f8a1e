//! Variables of the process that are no settings: they are not in the file and not in `--help`.

use std::net::TcpListener;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::os::unix::process::CommandExt;

use listenfd::ListenFd;

use super::ConfigError;

/// Starts this program again in its place, with glibc's limits for large blocks fixed, unless they are
/// set. Returns where that is not of use or fails.
///
/// By itself glibc raises them with each large block that is freed, up to 32 MiB, and keeps what is
/// smaller: after ten bursts of 50 bodies of 25 MiB it held 508 MiB for good. With fixed limits
/// such blocks go back to the system at once (176 MiB at most, 55 later). It reads them from the
/// environment only. Of other allocators mimalloc kept over 512 MiB, and jemalloc needs `make`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn fix_allocator_limits() {
    const LIMITS: [(&str, &str); 2] = [
        ("MALLOC_MMAP_THRESHOLD_", "1000000"),
        ("MALLOC_TRIM_THRESHOLD_", "1000000"),
    ];
    let is_set = |(name, _)| std::env::var_os(name).is_some();
    let mut arguments = std::env::args_os();
    if let (false, Ok(program), Some(name)) = (
        LIMITS.into_iter().any(is_set),
        std::env::current_exe(),
        arguments.next(),
    ) {
        let mut again = std::process::Command::new(program);
        // It returns only where it fails, and then this process goes on as it is.
        drop(again.arg0(name).args(arguments).envs(LIMITS).exec());
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn fix_allocator_limits() {}

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
