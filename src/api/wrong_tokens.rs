//! Requests without a valid token: counted, logged once a minute, and answered with 429 while one
//! peer sends many.
//!
//! A valid token is accepted from any peer at any time, since all clients behind one proxy are one
//! peer here, and a stranger among them must not lock the others out. The 429 asks a client with an
//! outdated token to slow down and makes each further guess cost a connection; what makes guessing
//! hopeless is the length of a token.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use metrics::counter;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::ApiError;
use crate::logging::MinuteLine;
use crate::telemetry::{API_UNAUTHORIZED, count_refusal};

/// Wrong tokens of one peer within [`WINDOW`] before it is asked to pause.
const MOST: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Peers that are remembered; all of them are forgotten when there are more.
const MAX_PEERS: usize = 4096;

/// The wrong tokens of the last minute.
#[derive(Debug, Default)]
pub struct WrongTokens(Mutex<RecentTokens>);

#[derive(Debug, Default)]
struct RecentTokens {
    /// Start of the window and number of wrong tokens, by peer.
    peers: HashMap<IpAddr, (Instant, u32)>,
    line: MinuteLine,
}

impl WrongTokens {
    /// Counts a request of `peer` without a valid token, and returns its refusal. One that was
    /// `guessed` counts towards the pause; one without any is no guess.
    pub(super) fn refuse(&self, peer: Option<IpAddr>, guessed: bool) -> ApiError {
        counter!(API_UNAUTHORIZED).increment(1);
        let now = Instant::now();
        let mut recent = self.0.lock();
        recent.log(peer);
        let Some(peer) = peer.filter(|_| guessed).map(network) else {
            return ApiError::Unauthorized;
        };
        if recent.peers.len() >= MAX_PEERS && !recent.peers.contains_key(&peer) {
            recent.peers.clear();
        }
        let (since, wrong) = recent.peers.entry(peer).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *wrong) = (now, 0);
        }
        *wrong += 1;
        if *wrong <= MOST {
            return ApiError::Unauthorized;
        }
        count_refusal("too_many_wrong_tokens");
        let rest = WINDOW.saturating_sub(now.duration_since(*since));
        ApiError::TooManyWrongTokens(rest.as_secs().max(1))
    }
}

impl RecentTokens {
    fn log(&mut self, peer: Option<IpAddr>) {
        let Some(requests) = self.line.count() else {
            return;
        };
        let peer = peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string());
        tracing::warn!(
            peer.address = peer,
            requests,
            "{requests} requests to the API had no valid token, the last one from {peer}; this is \
             logged once a minute, and {API_UNAUTHORIZED} counts them"
        );
    }
}

/// Returns the network of a peer, which with IPv6 has 2^64 addresses of its own.
pub(super) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_pauses_after_twenty_wrong_tokens_and_another_does_not() {
        let tokens = WrongTokens::default();
        let peer = |text: &str| Some(text.parse().unwrap());
        let pauses = |from| {
            matches!(
                tokens.refuse(from, true),
                ApiError::TooManyWrongTokens(1..=60)
            )
        };
        for _ in 0..20 {
            assert!(!pauses(peer("2001:db8::1")));
        }
        assert!(
            pauses(peer("2001:db8::2")),
            "an address of the same network"
        );
        assert!(!pauses(peer("2001:db8:0:1::1")) && !pauses(peer("10.0.0.1")));
        assert!(!pauses(None));
        let without_token = tokens.refuse(peer("2001:db8::1"), false);
        assert!(matches!(without_token, ApiError::Unauthorized));
    }

    #[test]
    fn number_of_remembered_peers_is_bounded() {
        let tokens = WrongTokens::default();
        for number in 0..10_000_u32 {
            tokens.refuse(Some(std::net::Ipv4Addr::from_bits(number).into()), true);
        }
        assert!(tokens.0.lock().peers.len() <= MAX_PEERS);
    }
}
