//! Where notifications may be sent: nowhere inside the network that this program happens to run in.
//!
//! An address is checked by the resolver that the connection itself uses, so that what was checked is what is connected
//! to, each time anew: a name that answers differently the second time is refused then. Redirects are not followed, and
//! no proxy is used, since it would look names up by itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url};
use thiserror::Error;

const CONNECTING: Duration = Duration::from_secs(5);
/// A part of an address may be a secret if it is so long, and what has so many letters of one tells of it.
const SECRET: usize = 8;
const BEGUN: usize = 4;

/// Why nothing is sent there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    #[error("it is no http:// or https:// address with a host")]
    NoAddress,
    #[error("it has a user name or a password in it")]
    Credentials,
    #[error("{address} is {kind} address")]
    NotPublic { address: IpAddr, kind: &'static str },
}

/// Whether a target may be in a private network, on this machine or anywhere else that is not the public internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Public,
    Anywhere,
}

impl Reach {
    fn check(self, address: IpAddr) -> Result<(), Refused> {
        match not_public(address) {
            Some(kind) if self == Self::Public => Err(Refused::NotPublic { address, kind }),
            _ => Ok(()),
        }
    }
}

/// An address that notifications are sent to. Its text may be a secret, as that of Slack's is: only the origin is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(Url);

impl Target {
    /// Reads an address. One with a name for its host is refused only when that is looked up.
    ///
    /// # Errors
    /// [`Refused`] if nothing can be or may be sent there.
    pub fn parse(text: &str, reach: Reach) -> Result<Self, Refused> {
        let url = Url::parse(text).map_err(|_| Refused::NoAddress)?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(Refused::NoAddress);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        // An address instead of a name is looked up by nobody.
        let host = url.host_str().ok_or(Refused::NoAddress)?;
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            reach.check(address)?;
        }
        Ok(Self(url))
    }

    pub fn url(&self) -> &Url {
        &self.0
    }

    /// What a receiver said, without what it was told by the address: many repeat the path where they know nothing.
    pub(super) fn hide(&self, said: &str) -> String {
        let words = self.words();
        // As long as what was said, letter by letter.
        let plain = said.to_ascii_lowercase();
        let mut hidden = String::with_capacity(said.len());
        let mut rest = said;
        while let Some(letter) = rest.chars().next() {
            let plain = &plain[said.len() - rest.len()..];
            // At the end of what was cut is the beginning of a word.
            let is_begun = |word: &str| plain.len() >= BEGUN && word.starts_with(plain);
            let word = words
                .iter()
                .find(|word| plain.starts_with(*word) || is_begun(word));
            hidden.push(if word.is_some() { '…' } else { letter });
            let told = word.map_or(letter.len_utf8(), |word| word.len());
            rest = rest.get(told..).unwrap_or_default();
        }
        hidden
    }

    /// All of the address that may be a secret, as it is sent and as it is read, in lower case and the longest first.
    fn words(&self) -> Vec<String> {
        let (path, query) = (
            self.0.path().trim_end_matches('/'),
            self.0.query().unwrap_or_default(),
        );
        let parts = path
            .split('/')
            .chain(query.split(['&', '=']))
            .filter(|part| part.len() >= SECRET);
        let mut words: Vec<_> = parts
            .chain([path, query])
            .flat_map(|part| {
                [
                    part.to_ascii_lowercase(),
                    decoded(part).to_ascii_lowercase(),
                ]
            })
            .filter(|word| !word.is_empty())
            .collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        words.dedup();
        words
    }
}

/// A part of an address without `%` and what stands behind it.
fn decoded(part: &str) -> String {
    // They mean something in a form, and nothing here.
    let plain = part
        .replace('&', "%26")
        .replace('=', "%3D")
        .replace('+', "%2B");
    form_urlencoded::parse(plain.as_bytes())
        .map(|(name, _)| name)
        .collect()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// An HTTP client that connects to nothing out of `reach`, follows no redirect and gives up after `patience`.
///
/// # Errors
/// If TLS cannot be set up.
pub fn client(reach: Reach, patience: Duration) -> reqwest::Result<Client> {
    build(
        Guard {
            names: Arc::new(System),
            check: Arc::new(move |address| reach.check(address)),
        },
        patience,
    )
}

fn build(guard: Guard, patience: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .dns_resolver(Arc::new(guard))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .timeout(patience)
        .connect_timeout(CONNECTING.min(patience))
        .build()
}

/// Why a request was refused before anything was sent, if that is why it failed.
pub fn refusal(error: &reqwest::Error) -> Option<&Refused> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

/// Looks names up, and lets through only answers all of whose addresses pass the check.
struct Guard {
    names: Arc<dyn Resolve>,
    check: Arc<dyn Fn(IpAddr) -> Result<(), Refused> + Send + Sync>,
}

impl Resolve for Guard {
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

/// The resolver of the machine.
struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// What kind of address it is, unless it is one of a host on the public internet.
fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => not_public_v4(address),
        IpAddr::V6(address) => not_public_v6(address),
    }
}

/// From IANA's registry of special addresses, and what clouds use for the keys of a machine.
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
    if let Some(inside) = embedded(address) {
        return not_public_v4(inside);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback"),
        [0xfe80..=0xfebf, ..] => Some("a link-local"),
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some("a private"),
        [0xff00..=0xffff, ..] => Some("a multicast"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("a documentation"),
        // Teredo, which hides an address, and its like.
        [0x2001, 0..=0x1ff, ..] => Some("a reserved"),
        // The only block that hosts of the public internet are in.
        [0x2000..=0x3fff, ..] => None,
        _ => Some("a reserved"),
    }
}

/// The version 4 address that a version 6 address leads to: mapped, translated, NAT64 and 6to4. Compatible ones are of no
/// use any more, and reserved whatever is inside.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
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
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_hosts_of_the_public_internet_are_public() {
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
    fn an_address_that_leads_inside_is_refused_in_every_spelling() {
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
            let refused = Target::parse(text, Reach::Public).unwrap_err();
            assert!(
                matches!(refused, Refused::NotPublic { .. }),
                "{text}: {refused}"
            );
            assert!(Target::parse(text, Reach::Anywhere).is_ok(), "{text}");
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
                Target::parse(text, Reach::Anywhere),
                Err(Refused::NoAddress),
                "{text}"
            );
        }
        for text in [
            "https://me@example.com/",
            "https://example.com:x@127.0.0.1/",
            "http://:x@example.com/",
        ] {
            assert_eq!(
                Target::parse(text, Reach::Anywhere),
                Err(Refused::Credentials),
                "{text}"
            );
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let target = Target::parse(
            "https://hooks.example.com/services/T0/secret?key=secret",
            Reach::Public,
        )
        .unwrap();
        assert_eq!(
            format!("{target} {target:?}"),
            "https://hooks.example.com Target(https://hooks.example.com)"
        );
    }

    #[test]
    fn what_repeats_the_address_tells_nothing_of_it() {
        let target = Target::parse(
            "https://h.example.com/hook/AbCdEfGh%2Fij/x7/?token=p%40ssw+ord&k=v&Long-Name",
            Reach::Public,
        );
        let target = target.unwrap();
        for (said, shown) in [
            ("", ""),
            ("no such hook, token or name", "no such hook, token or name"),
            (
                "Cannot POST /hook/AbCdEfGh%2Fij/x7/?token=p%40ssw+ord&k=v&Long-Name",
                "Cannot POST …/?…",
            ),
            ("Cannot POST /hook/abcdefgh%2fij/x7 é", "Cannot POST … é"),
            ("'/hook/AbCdEfGh/ij/x7' is not known", "'…' is not known"),
            (
                r#"{"path":"\/hook\/AbCdEfGh%2Fij\/x7"}"#,
                r#"{"path":"\/hook\/…\/x7"}"#,
            ),
            ("AbCdEfGh/ijABCDEFGH%2FIJ", "……"),
            ("p%40ssw+ord, p@ssw+ord, LONG-NAME", "…, …, …"),
            // Cut off.
            ("Cannot POST /hook/AbC", "Cannot POST …"),
            ("there is no AbCdEf", "there is no …"),
            ("there is no AbC", "there is no AbC"),
        ] {
            assert_eq!(target.hide(said), shown, "{said}");
        }
        let target = Target::parse("https://h.example.com", Reach::Public).unwrap();
        assert_eq!(target.hide("Cannot POST /"), "Cannot POST /");
    }

    /// Answers each question with the next of these, and counts them.
    struct Scripted(Mutex<std::vec::IntoIter<Vec<SocketAddr>>>);

    impl Scripted {
        fn new(answers: Vec<Vec<SocketAddr>>) -> Arc<Self> {
            Arc::new(Self(Mutex::new(answers.into_iter())))
        }

        fn left(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    impl Resolve for Scripted {
        fn resolve(&self, _: Name) -> Resolving {
            let answer = self
                .0
                .lock()
                .unwrap()
                .next()
                .expect("nothing is looked up once more");
            Box::pin(async move { Ok(Box::new(answer.into_iter()) as Addrs) })
        }
    }

    fn guarded(
        names: &Arc<Scripted>,
        check: impl Fn(IpAddr) -> Result<(), Refused> + Send + Sync + 'static,
    ) -> Client {
        build(
            Guard {
                names: names.clone(),
                check: Arc::new(check),
            },
            Duration::from_secs(10),
        )
        .unwrap()
    }

    /// Answers `times` requests, each on a connection of its own.
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

    /// A listener that nobody may connect to.
    fn forbidden() -> std::net::TcpListener {
        let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    #[track_caller]
    fn assert_untouched(listener: &std::net::TcpListener) {
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_name_that_answers_differently_the_second_time_is_refused_then() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (allowed, forbidden) = (listener.local_addr().unwrap(), forbidden());
        let inside = forbidden.local_addr().unwrap();
        let names = Scripted::new(vec![
            vec![allowed],
            vec![inside],
            vec![allowed, inside],
            vec![allowed],
        ]);
        // Stands for the public internet, of which a test has none.
        let check = move |address| {
            let refused = Refused::NotPublic {
                address,
                kind: "a private",
            };
            if address == allowed.ip() {
                Ok(())
            } else {
                Err(refused)
            }
        };
        let http = guarded(&names, check);
        let server = tokio::spawn(serve(listener, 2, OK));

        let url = "http://hooks.example.com/";
        assert_eq!(
            http.post(url).send().await.unwrap().remote_addr(),
            Some(allowed)
        );
        assert_eq!(
            names.left(),
            3,
            "what is checked is what is connected to: it is looked up once"
        );
        for _ in 0..2 {
            let error = http.post(url).send().await.unwrap_err();
            assert_eq!(
                refusal(&error),
                Some(&Refused::NotPublic {
                    address: inside.ip(),
                    kind: "a private"
                })
            );
        }
        assert!(http.post(url).send().await.is_ok());
        server.await.unwrap();
        assert_untouched(&forbidden);
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_refused_unless_anything_is_allowed() {
        let forbidden = forbidden();
        let names = Scripted::new(vec![vec![forbidden.local_addr().unwrap()]]);
        let http = guarded(&names, |address| Reach::Public.check(address));
        let error = http
            .get("http://hooks.example.com/")
            .send()
            .await
            .unwrap_err();
        let refused = refusal(&error).unwrap().to_string();
        assert_eq!(refused, "127.0.0.2 is a loopback address");
        assert_untouched(&forbidden);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(serve(listener, 1, OK));
        let http = client(Reach::Anywhere, Duration::from_secs(10)).unwrap();
        assert_eq!(
            http.get(format!("http://localhost:{port}/"))
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
        server.await.unwrap();
        let http = client(Reach::Public, Duration::from_secs(10)).unwrap();
        let error = http
            .get(format!("http://localhost:{port}/"))
            .send()
            .await
            .unwrap_err();
        assert!(refusal(&error).is_some(), "{error:?}");
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let moved =
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
        let server = tokio::spawn(serve(listener, 1, moved));
        let http = client(Reach::Anywhere, Duration::from_secs(10)).unwrap();
        assert_eq!(http.post(url).send().await.unwrap().status(), 307);
        server.await.unwrap();
    }

    #[test]
    fn a_failure_of_another_kind_is_no_refusal() {
        let error = Client::new().get("no address").build().unwrap_err();
        assert_eq!(refusal(&error), None);
    }
}
