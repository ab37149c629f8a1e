//! More connections than the program may have files open: those of strangers end for those of
//! others.

use std::process::Command;
use std::time::{Duration, Instant};

use testkit::Place;
use testkit::process::{PATIENCE, Serve, signed, tallyhook};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Returns `serve` with these limits of open files.
fn with_limits(place: &Place, soft: u32, hard: u32) -> Command {
    let serve = tallyhook(place.path(), &["serve", "--log-format", "json"]);
    let mut limited = Command::new("/bin/sh");
    let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    limited
        .args(["-c", &limits])
        .arg(serve.get_program())
        .args(serve.get_args());
    limited.env_clear().envs(
        serve
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    limited.current_dir(place.path()).env("RUST_LOG", "info");
    limited
}

/// Holds a connection by a request that was answered before its end, and by another when the
/// server closes it.
async fn hold(address: String) {
    let request = b"POST /nope HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
    loop {
        if let Ok(mut connection) = TcpStream::connect(&address).await {
            drop(connection.write_all(request).await);
            drop(connection.read_to_end(&mut Vec::new()).await);
        }
    }
}

/// Raises this process's own limit of open files, which is for the strangers.
fn raise_own_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eleven_hundred_strangers_at_1024_files_refuse_no_genuine_delivery() {
    raise_own_limit();
    let place = Place::new().await;
    let serve = Serve::start_command(&mut with_limits(&place, 1024, 1024));
    let address = serve.url.strip_prefix("http://").unwrap().to_owned();
    let mut strangers = JoinSet::new();
    for _ in 0..1100 {
        strangers.spawn(hold(address.clone()));
    }
    let http = reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .timeout(PATIENCE);
    let http = http.build().unwrap();
    let body = format!("{{\"padding\":\"{}\"}}", "p".repeat(20_000)).into_bytes();
    let mut slowest = Duration::ZERO;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    for number in 0..200 {
        ticks.tick().await;
        let sent = Instant::now();
        let guid = format!("genuine-{number}");
        let answer = signed(&http, &serve.url, "star", &guid, &body).send().await;
        assert_eq!(answer.unwrap().status(), 202, "{guid}");
        slowest = slowest.max(sent.elapsed());
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    strangers.shutdown().await;
    let (status, _) = serve.terminate();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limit_of_open_files_is_raised_to_what_the_system_permits() {
    raise_own_limit();
    let place = Place::new().await;
    let serve = Serve::start_command(&mut with_limits(&place, 64, 1024));
    let address = serve.url.strip_prefix("http://").unwrap().to_owned();
    let mut connections = Vec::new();
    for _ in 0..500 {
        connections.push(TcpStream::connect(&address).await.unwrap());
    }
    let http = reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    let answer = http
        .get(format!("{}/healthz", serve.url))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let (status, log) = serve.terminate();
    assert!(status.success());
    let failed = log.iter().find(|line| line.contains("Too many open files"));
    assert_eq!(failed, None);
}
