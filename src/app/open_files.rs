//! The number of connections that the process's limit of open files leaves room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files besides connections: the database, the broker, requests to GitHub, and those just closed.
const RESERVED: u64 = 128;
/// Connections besides those of `/ws`. One of a client that sends nothing takes about 20 KiB.
const MOST: u64 = 4096;

/// Raises the limit of open files as far as the system permits, and returns the number of
/// connections that there may be at once.
pub(super) fn max_connections(websocket_clients: u32) -> usize {
    let files = raise();
    let room = files.saturating_sub(RESERVED).max(1);
    let connections = room.min(MOST + u64::from(websocket_clients));
    usize::try_from(connections).unwrap_or(usize::MAX)
}

fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current.unwrap_or(u64::MAX);
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files to {maximum:?}");
            current.unwrap_or(u64::MAX)
        }
    }
}
