//! A receiver of notifications on loopback that answers as a test scripts it. Written on sockets,
//! so that it can also not answer at all.

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

/// The limit of every wait; a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(30);

/// A scripted answer to one request. Requests beyond the script are answered with 200.
pub enum Reply {
    /// Answers with this status, these headers, each with its line end, and this body.
    Status(u16, &'static str, &'static str),
    /// Answers 404 with the path in the body, as many servers do.
    Echo,
    /// Closes the connection.
    Close,
    /// Never answers.
    Silence,
    /// Answers with 200 once the sender fires.
    Held(oneshot::Receiver<()>),
}

/// A request that was received.
#[derive(Debug)]
pub struct Received {
    pub at: Instant,
    pub path: String,
    /// Values by header name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }
}

pub struct Receiver {
    /// The URL of the root, without a slash at the end.
    pub url: String,
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
    pub async fn start() -> Self {
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

    /// Scripts the answers to the next requests.
    pub fn replies(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().unwrap().extend(replies);
    }

    /// Waits for the next request.
    pub async fn next(&mut self) -> Received {
        timeout(PATIENCE, self.received.recv())
            .await
            .expect("nothing is received")
            .unwrap()
    }

    /// Returns a request that has arrived already, if any.
    pub fn try_next(&mut self) -> Option<Received> {
        self.received.try_recv().ok()
    }

    /// Waits for the next request and returns its pull request and status.
    pub async fn change(&mut self) -> (i64, String) {
        let body = self.next().await.json();
        (
            body["pr_number"].as_i64().unwrap(),
            body["new_status"].as_str().unwrap().to_owned(),
        )
    }

    /// Waits for the next requests and returns their pull requests.
    pub async fn numbers(&mut self, count: usize) -> Vec<i64> {
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
        // The test has dropped its end, and needs no more requests.
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
