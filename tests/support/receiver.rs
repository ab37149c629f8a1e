//! A receiver of notifications on loopback that answers as a test wants it to: by hand, so that it can also answer nothing.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// Nothing that is waited for takes this long; a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it does with a request, in the order in which they come. Every other is answered with 200.
pub(crate) enum Reply {
    /// Status, headers, each with its line end, and body.
    Status(u16, &'static str, &'static str),
    /// Says which path it does not know, as many do.
    Echo,
    /// Ends the connection.
    Close,
    /// Answers never.
    Silence,
    /// Answers with 200 once it is told to.
    Held(oneshot::Receiver<()>),
}

/// A request.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) path: String,
    /// By their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }
}

pub(crate) struct Receiver {
    /// Of its root, without a slash at the end.
    pub(crate) url: String,
    received: UnboundedReceiver<Received>,
    script: Script,
    serving: JoinHandle<()>,
}

type Script = Arc<Mutex<VecDeque<Reply>>>;

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, received) = unbounded_channel();
        let script = Script::default();
        let serving = tokio::spawn(serve(listener, sender, script.clone()));
        Self {
            url,
            received,
            script,
            serving,
        }
    }

    /// What it does with the requests that come next.
    pub(crate) fn replies(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().unwrap().extend(replies);
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Received {
        timeout(PATIENCE, self.received.recv())
            .await
            .expect("nothing is received")
            .unwrap()
    }

    /// A request that has come already.
    pub(crate) fn try_next(&mut self) -> Option<Received> {
        self.received.try_recv().ok()
    }

    /// The next request's pull request and what it became.
    pub(crate) async fn change(&mut self) -> (i64, String) {
        let told = self.next().await.json();
        (
            told["pr_number"].as_i64().unwrap(),
            told["new_status"].as_str().unwrap().to_owned(),
        )
    }

    /// The pull requests of the next requests.
    pub(crate) async fn numbers(&mut self, count: usize) -> Vec<i64> {
        let mut numbers = Vec::with_capacity(count);
        for _ in 0..count {
            numbers.push(self.change().await.0);
        }
        numbers
    }
}

async fn serve(listener: TcpListener, received: UnboundedSender<Received>, script: Script) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        connections.spawn(converse(stream, received.clone(), script.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Answers requests until either side ends the connection.
async fn converse(stream: TcpStream, received: UnboundedSender<Received>, script: Script) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let reply = script.lock().unwrap().pop_front();
        let unknown = format!("Cannot POST {}", request.path);
        // Whoever does not look at it any more has seen enough.
        drop(received.send(request));
        let (status, headers, body) = match reply.unwrap_or(Reply::Status(200, "", "ok")) {
            Reply::Status(status, headers, body) => (status, headers, body),
            Reply::Echo => (404, "", unknown.as_str()),
            Reply::Close => return,
            Reply::Silence => std::future::pending().await,
            Reply::Held(until) => {
                until.await.unwrap();
                (200, "", "ok")
            }
        };
        let answer = format!(
            "HTTP/1.1 {status} Told\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut line = String::new();
    stream
        .read_line(&mut line)
        .await
        .ok()
        .filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1).unwrap().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        stream
            .read_line(&mut line)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![
        0;
        headers
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap())
    ];
    stream.read_exact(&mut body).await.ok()?;
    Some(Received {
        at: Instant::now(),
        path,
        headers,
        body: String::from_utf8(body).unwrap(),
    })
}
