//! The guard against server-side request forgery: requests to channels never reach the network that
//! this program runs in, unless that is allowed.
//!
//! Addresses are checked by the resolver that the connection itself uses, on every lookup, so that
//! the checked address is the one that is connected to: a name that resolves to a private address
//! the second time (DNS rebinding) is refused then. Redirects are not followed, and no proxy is
//! used, because a proxy would resolve names by itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url};
use thiserror::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason why an address is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum UrlError {
    #[error("it is not an http:// or https:// address with a host")]
    NotHttp,
    #[error("it contains a user name or a password")]
    HasCredentials,
    #[error("{address} is {kind} address")]
    NotPublic { address: IpAddr, kind: &'static str },
}

/// The networks that channels may be in. `AllowPrivate` includes private networks, this machine and
/// everything else that is not the public internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetworkPolicy {
    PublicOnly,
    AllowPrivate,
}

impl NetworkPolicy {
    fn check(self, address: IpAddr) -> Result<(), UrlError> {
        match not_public(address) {
            Some(kind) if self == Self::PublicOnly => Err(UrlError::NotPublic { address, kind }),
            _ => Ok(()),
        }
    }
}

/// The address of a channel. Its path and query may be secret, as those of Slack's webhooks are, so
/// `Display` and `Debug` show the origin only.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct WebhookUrl(Url);

impl WebhookUrl {
    /// Parses an address. A host name is checked when it is resolved, an IP address is checked
    /// here.
    ///
    /// # Errors
    /// [`UrlError`] if requests to it are impossible or not allowed.
    pub(super) fn parse(text: &str, policy: NetworkPolicy) -> Result<Self, UrlError> {
        let url = Url::parse(text).map_err(|_| UrlError::NotHttp)?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(UrlError::NotHttp);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::HasCredentials);
        }
        // An IP address never goes through the resolver, so it is checked here.
        let host = url.host_str().ok_or(UrlError::NotHttp)?;
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            policy.check(address)?;
        }
        Ok(Self(url))
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self})")
    }
}

/// Builds an HTTP client that connects only to addresses that `policy` allows, follows no redirect
/// and gives up after `timeout`.
///
/// # Errors
/// If TLS cannot be set up.
pub(super) fn client(policy: NetworkPolicy, timeout: Duration) -> reqwest::Result<Client> {
    build_client(
        PublicOnlyResolver {
            names: Arc::new(SystemResolver),
            check: Arc::new(move |address| policy.check(address)),
        },
        timeout,
    )
}

fn build_client(resolver: PublicOnlyResolver, timeout: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(concat!("Tallyhook/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Arc::new(resolver))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .build()
}

/// Returns the refused address behind a failed request; `None` if it failed for another reason.
pub(super) fn refusal(error: &reqwest::Error) -> Option<&UrlError> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

/// A resolver that fails unless every address of a name passes the check.
struct PublicOnlyResolver {
    names: Arc<dyn Resolve>,
    check: Arc<dyn Fn(IpAddr) -> Result<(), UrlError> + Send + Sync>,
}

impl Resolve for PublicOnlyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (answer, check) = (self.names.resolve(name), Arc::clone(&self.check));
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = answer.await?.collect();
            addresses
                .iter()
                .try_for_each(|address| check(address.ip()))?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The resolver of the operating system.
struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Returns the kind of an address that is not a host on the public internet, with its article.
fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => not_public_v4(address),
        IpAddr::V6(address) => not_public_v6(address),
    }
}

/// IANA's registry of special-purpose addresses, and the metadata services of clouds, which hand
/// out a machine's credentials.
fn not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("an unspecified"),
        [127, ..] => Some("a loopback"),
        [169, 254, ..] => Some("a link-local"),
        [168, 63, 129, 16] => Some("a metadata"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("a private"),
        [100, 64..=127, ..] => Some("a carrier's private"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("a documentation"),
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [240..=255, ..] => {
            Some("a reserved")
        }
        [224..=239, ..] => Some("a multicast"),
        _ => None,
    }
}

fn not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(inside) = embedded_v4(address) {
        return not_public_v4(inside);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback"),
        [0xfe80..=0xfebf, ..] => Some("a link-local"),
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some("a private"),
        [0xff00..=0xffff, ..] => Some("a multicast"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("a documentation"),
        // Teredo, which embeds an obfuscated IPv4 address, and other protocol assignments.
        [0x2001, 0..=0x1ff, ..] => Some("a reserved"),
        // The only block with hosts of the public internet.
        [0x2000..=0x3fff, ..] => None,
        _ => Some("a reserved"),
    }
}

/// Returns the IPv4 address that an IPv6 address leads to: mapped, translated, NAT64 and 6to4.
/// IPv4-compatible addresses are deprecated and count as reserved, so that
/// the address they embed does not matter.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn special_purpose_addresses_are_not_public() {
        for (address, kind) in [
            ("0.0.0.0", "an unspecified"),
            ("0.1.2.3", "an unspecified"),
            ("10.0.0.1", "a private"),
            ("100.64.0.1", "a carrier's private"),
            ("100.100.100.200", "a carrier's private"),
            ("100.127.255.255", "a carrier's private"),
            ("127.0.0.1", "a loopback"),
            ("127.255.255.254", "a loopback"),
            ("168.63.129.16", "a metadata"),
            ("169.254.169.254", "a link-local"),
            ("172.16.0.1", "a private"),
            ("172.31.255.255", "a private"),
            ("192.0.0.192", "a reserved"),
            ("192.0.2.1", "a documentation"),
            ("192.88.99.1", "a reserved"),
            ("192.168.1.1", "a private"),
            ("198.18.0.1", "a reserved"),
            ("198.19.255.255", "a reserved"),
            ("198.51.100.1", "a documentation"),
            ("203.0.113.1", "a documentation"),
            ("224.0.0.1", "a multicast"),
            ("239.255.255.255", "a multicast"),
            ("240.0.0.1", "a reserved"),
            ("255.255.255.255", "a reserved"),
            ("::", "an unspecified"),
            ("::1", "a loopback"),
            ("::127.0.0.1", "a reserved"),
            ("::8.8.8.8", "a reserved"),
            ("::ffff:127.0.0.1", "a loopback"),
            ("::ffff:10.0.0.1", "a private"),
            ("::ffff:0:10.0.0.1", "a private"),
            ("64:ff9b::a9fe:a9fe", "a link-local"),
            ("64:ff9b:1::808:808", "a reserved"),
            ("100::1", "a reserved"),
            ("2001::1", "a reserved"),
            ("2001:20::1", "a reserved"),
            ("2001:db8::1", "a documentation"),
            ("2002:7f00:1::1", "a loopback"),
            ("2002:c0a8:101::1", "a private"),
            ("3fff::1", "a documentation"),
            ("4000::1", "a reserved"),
            ("5f00::1", "a reserved"),
            ("fc00::1", "a private"),
            ("fd00:ec2::254", "a private"),
            ("fe80::1", "a link-local"),
            ("febf::1", "a link-local"),
            ("fec0::1", "a private"),
            ("ff02::1", "a multicast"),
        ] {
            assert_eq!(
                not_public(address.parse().unwrap()),
                Some(kind),
                "{address}"
            );
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.0.0.1",
            "169.253.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2001:200::1",
            "2002:808:808::1",
            "2606:4700::1111",
            "3ffe::1",
            "3fff:1000::1",
        ] {
            assert_eq!(not_public(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn private_addresses_and_invalid_urls_are_refused_in_every_spelling() {
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.1:8080/x",
            "http://１２７.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://0/",
        ] {
            let refused = WebhookUrl::parse(text, NetworkPolicy::PublicOnly).unwrap_err();
            assert!(
                matches!(refused, UrlError::NotPublic { .. }),
                "{text}: {refused}"
            );
            assert!(
                WebhookUrl::parse(text, NetworkPolicy::AllowPrivate).is_ok(),
                "{text}"
            );
        }
        for text in [
            "file:///etc/passwd",
            "gopher://a/",
            "https://",
            "hooks.example.com",
            "http://",
            "//a/b",
            "",
        ] {
            assert_eq!(
                WebhookUrl::parse(text, NetworkPolicy::AllowPrivate),
                Err(UrlError::NotHttp),
                "{text}"
            );
        }
        for text in [
            "https://me@example.com/",
            "https://example.com:x@127.0.0.1/",
            "http://:x@example.com/",
        ] {
            assert_eq!(
                WebhookUrl::parse(text, NetworkPolicy::AllowPrivate),
                Err(UrlError::HasCredentials),
                "{text}"
            );
        }
    }

    #[test]
    fn display_and_debug_show_the_origin_only() {
        let url = WebhookUrl::parse(
            "https://hooks.example.com/services/T0/secret?key=secret",
            NetworkPolicy::PublicOnly,
        )
        .unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "https://hooks.example.com WebhookUrl(https://hooks.example.com)"
        );
    }

    /// A resolver that answers each lookup with the next of these.
    struct ScriptedResolver(Mutex<std::vec::IntoIter<Vec<SocketAddr>>>);

    impl ScriptedResolver {
        fn new(answers: Vec<Vec<SocketAddr>>) -> Arc<Self> {
            Arc::new(Self(Mutex::new(answers.into_iter())))
        }

        fn remaining(&self) -> usize {
            self.0.lock().len()
        }
    }

    impl Resolve for ScriptedResolver {
        fn resolve(&self, _: Name) -> Resolving {
            let answer = self.0.lock().next().expect("an unexpected lookup");
            Box::pin(async move { Ok(Box::new(answer.into_iter()) as Addrs) })
        }
    }

    fn client_with(
        names: &Arc<ScriptedResolver>,
        check: impl Fn(IpAddr) -> Result<(), UrlError> + Send + Sync + 'static,
    ) -> Client {
        build_client(
            PublicOnlyResolver {
                names: names.clone(),
                check: Arc::new(check),
            },
            Duration::from_secs(10),
        )
        .unwrap()
    }

    /// Answers `times` requests, each on its own connection.
    async fn serve(listener: TcpListener, times: usize, answer: &'static str) {
        for _ in 0..times {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(connection.read_u8().await.unwrap());
            }
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

    /// A listener that must not get a connection.
    fn forbidden() -> std::net::TcpListener {
        let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    #[track_caller]
    fn assert_no_connection(listener: &std::net::TcpListener) {
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn name_that_rebinds_to_a_private_address_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (allowed, forbidden) = (listener.local_addr().unwrap(), forbidden());
        let inside = forbidden.local_addr().unwrap();
        let names = ScriptedResolver::new(vec![
            vec![allowed],
            vec![inside],
            vec![allowed, inside],
            vec![allowed],
        ]);
        // The listener's address stands for the public internet, which a test does not have.
        let check = move |address| {
            let refused = UrlError::NotPublic {
                address,
                kind: "a private",
            };
            if address == allowed.ip() {
                Ok(())
            } else {
                Err(refused)
            }
        };
        let http = client_with(&names, check);
        let server = tokio::spawn(serve(listener, 2, OK));

        let url = "http://hooks.example.com/";
        assert_eq!(
            http.post(url).send().await.unwrap().remote_addr(),
            Some(allowed)
        );
        assert_eq!(
            names.remaining(),
            3,
            "the checked address is the one that is connected to: one lookup"
        );
        for _ in 0..2 {
            let error = http.post(url).send().await.unwrap_err();
            assert_eq!(
                refusal(&error),
                Some(&UrlError::NotPublic {
                    address: inside.ip(),
                    kind: "a private"
                })
            );
        }
        assert!(http.post(url).send().await.is_ok());
        server.await.unwrap();
        assert_no_connection(&forbidden);
    }

    #[tokio::test]
    async fn loopback_name_is_refused_unless_private_networks_are_allowed() {
        let forbidden = forbidden();
        let names = ScriptedResolver::new(vec![vec![forbidden.local_addr().unwrap()]]);
        let http = client_with(&names, |address| NetworkPolicy::PublicOnly.check(address));
        let error = http
            .get("http://hooks.example.com/")
            .send()
            .await
            .unwrap_err();
        let refused = refusal(&error).unwrap().to_string();
        assert_eq!(refused, "127.0.0.2 is a loopback address");
        assert_no_connection(&forbidden);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(serve(listener, 1, OK));
        let http = client(NetworkPolicy::AllowPrivate, Duration::from_secs(10)).unwrap();
        assert_eq!(
            http.get(format!("http://localhost:{port}/"))
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
        server.await.unwrap();
        let http = client(NetworkPolicy::PublicOnly, Duration::from_secs(10)).unwrap();
        let error = http
            .get(format!("http://localhost:{port}/"))
            .send()
            .await
            .unwrap_err();
        assert!(refusal(&error).is_some(), "{error:?}");
    }

    #[tokio::test]
    async fn redirect_is_not_followed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let moved =
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
        let server = tokio::spawn(serve(listener, 1, moved));
        let http = client(NetworkPolicy::AllowPrivate, Duration::from_secs(10)).unwrap();
        assert_eq!(http.post(url).send().await.unwrap().status(), 307);
        server.await.unwrap();
    }

    #[test]
    fn other_failures_are_not_refusals() {
        let error = Client::new().get("no address").build().unwrap_err();
        assert_eq!(refusal(&error), None);
    }
}
