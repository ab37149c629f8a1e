//! Settings of the HTTP server: address, admin token, WebSocket clients.

use std::net::SocketAddr;

use super::{ConfigError, SettingSources};

pub const TALLYHOOK_ADMIN_TOKEN: &str = "TALLYHOOK_ADMIN_TOKEN";
pub const TALLYHOOK_LISTEN: &str = "TALLYHOOK_LISTEN";
pub const TALLYHOOK_TOKEN: &str = "TALLYHOOK_TOKEN";

pub(super) fn listen(sources: &SettingSources) -> Result<SocketAddr, ConfigError> {
    let expected = "an address and port such as 127.0.0.1:8080";
    sources.parsed(TALLYHOOK_LISTEN, expected)
}

pub(super) fn admin_token(sources: &SettingSources) -> Option<String> {
    sources.value(TALLYHOOK_ADMIN_TOKEN).map(str::to_owned)
}

pub(super) fn websocket_clients(sources: &SettingSources) -> Result<u32, ConfigError> {
    sources.within("WEBSOCKET_MAX_CLIENTS", 0..=100_000)
}

#[cfg(test)]
mod tests {
    use super::super::testing::error;
    use super::*;

    #[test]
    fn address_without_a_host_is_refused() {
        assert!(error(&[(TALLYHOOK_LISTEN, "8080")]).contains("expected an address and port"));
    }
}
