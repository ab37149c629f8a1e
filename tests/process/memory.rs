//! The memory of a server over many bursts of the largest deliveries.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::distr::{Alphanumeric, Distribution};
use rand::rngs::StdRng;
use tallyhook_core::github::signature::Secrets;
use testkit::Place;
use testkit::process::{SECRET, Serve};

const ROUNDS: usize = 10;
const AT_ONCE: usize = 50;
const BYTES: usize = 25 * 1024 * 1024;

/// Posts a body and returns the status; 0 if the connection ended without one.
fn post(address: &str, guid: &str, signature: &str, body: &[u8]) -> u16 {
    let mut connection = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /webhooks/github HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nX-GitHub-Event: push\r\n\
         X-GitHub-Delivery: {guid}\r\nX-Hub-Signature-256: {signature}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let sent = connection.write_all(head.as_bytes());
    // A refusal may be sent before the end of the body.
    drop(sent.and_then(|()| connection.write_all(body)));
    let mut answer = Vec::new();
    drop(connection.read_to_end(&mut answer));
    let status = answer
        .get(9..12)
        .and_then(|status| std::str::from_utf8(status).ok());
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn bursts_of_the_largest_deliveries_stay_within_512_mib_which_are_given_back() {
    let place = Place::new().await;
    let serve = Serve::start(place.path());
    let address = serve.url.strip_prefix("http://").unwrap();
    // Random, so that what is stored is nearly as large as what was posted.
    let padding: String = Alphanumeric
        .sample_iter(StdRng::seed_from_u64(13))
        .take(BYTES - 20)
        .map(char::from)
        .collect();
    let body = Arc::new(format!("{{\"padding\":\"{padding}\"}}"));
    let signature = Secrets::single(SECRET)
        .unwrap()
        .sign(body.as_bytes())
        .to_header();
    for round in 0..ROUNDS {
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let posts: Vec<_> = (0..AT_ONCE)
                .map(|number| {
                    let (body, signature) = (body.clone(), &signature);
                    let guid = format!("{round}-{number}");
                    scope.spawn(move || post(address, &guid, signature, body.as_bytes()))
                })
                .collect();
            posts.into_iter().map(|post| post.join().unwrap()).collect()
        });
        assert!(statuses.contains(&202), "round {round}: {statuses:?}");
        let peak = serve.resident_mib("VmHWM");
        assert!(peak < 512, "{peak} MiB in round {round}");
    }
    let ended = Instant::now();
    let mut resident = serve.resident_mib("VmRSS");
    while resident >= 150 && ended.elapsed() < Duration::from_secs(5) {
        tokio::task::yield_now().await;
        resident = serve.resident_mib("VmRSS");
    }
    assert!(resident < 150, "{resident} MiB after 5 s");
    let (status, _) = serve.terminate();
    assert!(status.success());
}
