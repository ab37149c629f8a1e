//! A broker and a database of this test alone, which `scripts/services` starts, breaks and takes
//! down.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};
use sqlx_postgres::PgConnection;

use crate::{PATIENCE, block_on, until};

/// The variables of another pair of servers, which would make the script use those.
const FOREIGN: [&str; 4] = [
    "TEST_SERVICES",
    "TEST_DATABASE_URL",
    "TEST_AMQP_URL",
    "TALLYHOOK_SERVICES_DIR",
];

/// The running servers, taken down when this value is dropped.
pub(crate) struct Services {
    script: PathBuf,
    folder: PathBuf,
    variables: BTreeMap<String, String>,
    /// A child that takes the servers down when the pipe to it closes, which even a SIGKILL of this
    /// process does.
    guard: Child,
    pub(crate) http: reqwest::Client,
    made: AtomicU32,
}

/// The database and virtual host of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) database_url: String,
    pub(crate) amqp_url: String,
    /// The virtual host as paths of the management API encode it.
    vhost: String,
}

impl Services {
    pub(crate) fn up() -> Self {
        let script = std::env::var_os("TEST_SERVICES").map(PathBuf::from);
        let script = script
            .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services"));
        let folder = PathBuf::from(format!("/var/tmp/tallyhook-faults-{}", std::process::id()));
        let mut guard = Command::new("setsid");
        guard
            .args(["sh", "-c", "cat >/dev/null; exec \"$0\" down"])
            .arg(&script)
            .stdin(Stdio::piped());
        guard
            .stdout(Stdio::null())
            .env("TALLYHOOK_SERVICES_DIR", &folder);
        for name in &FOREIGN[..3] {
            guard.env_remove(name);
        }
        let guard = guard.spawn().unwrap();
        let mut services = Self {
            script,
            folder,
            variables: BTreeMap::new(),
            guard,
            http: reqwest::Client::new(),
            made: AtomicU32::new(0),
        };
        services.call("up");
        services.variables = variables(&services.call("env"));
        services
    }

    /// Calls the script with a verb and its arguments.
    pub(crate) fn verb(&self, verb: &str) {
        self.call(verb);
    }

    fn call(&self, verb: &str) -> String {
        self.try_call(verb)
            .unwrap_or_else(|complaint| panic!("{complaint}"))
    }

    fn try_call(&self, verb: &str) -> Result<String, String> {
        let mut command = Command::new(&self.script);
        for name in FOREIGN {
            command.env_remove(name);
        }
        let output = command
            .args(verb.split(' '))
            .env("TALLYHOOK_SERVICES_DIR", &self.folder)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match output.status.success() {
            true => Ok(text(output.stdout)),
            false => Err(format!(
                "{verb}: {}{}",
                text(output.stdout),
                text(output.stderr)
            )),
        }
    }

    /// Starts the broker. Returns the time at which it answered.
    pub(crate) fn start_broker(&self) -> Instant {
        std::thread::scope(|threads| {
            let starting = threads.spawn(|| self.verb("start rabbitmq"));
            until("the broker answers", PATIENCE, || self.broker_answers());
            let answered = Instant::now();
            starting.join().unwrap();
            answered
        })
    }

    /// Returns true if a method frame follows the protocol's greeting.
    fn broker_answers(&self) -> bool {
        let (_, address) = self.variable("TEST_AMQP_URL").rsplit_once('@').unwrap();
        let (address, _) = address.split_once('/').unwrap();
        let answer = || -> std::io::Result<u8> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"AMQP\0\0\x09\x01")?;
            let mut first = [0];
            stream.read_exact(&mut first)?;
            Ok(first[0])
        };
        answer().is_ok_and(|first| first == 1)
    }

    /// Restores both servers to a running, healthy state.
    pub(crate) fn heal(&self) {
        for verb in [
            "thaw rabbitmq",
            "kill rabbitmq",
            "start rabbitmq",
            "start postgres",
        ] {
            if let Err(complaint) = self.try_call(verb) {
                eprintln!("{complaint}");
            }
        }
    }

    fn variable(&self, name: &str) -> &str {
        self.variables
            .get(name)
            .unwrap_or_else(|| panic!("scripts/services env does not print {name}"))
    }

    /// Creates an empty database and an empty virtual host.
    pub(crate) fn place(&self) -> Place {
        let name = self.new_name();
        let database_url = self.database(&name);
        self.manage(&reqwest::Method::PUT, &format!("vhosts/{name}"), &json!({}));
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.manage(
            &reqwest::Method::PUT,
            &format!("permissions/{name}/tallyhook"),
            &all,
        );
        let amqp_url = self
            .variable("TEST_AMQP_URL")
            .replace("/%2f", &format!("/{name}"));
        Place {
            database_url,
            amqp_url,
            vhost: name,
        }
    }

    /// Creates the same in the default virtual host, the only one of a wiped broker.
    pub(crate) fn place_in_the_first_vhost(&self) -> Place {
        let database_url = self.database(&self.new_name());
        Place {
            database_url,
            amqp_url: self.variable("TEST_AMQP_URL").to_owned(),
            vhost: "%2f".to_owned(),
        }
    }

    fn new_name(&self) -> String {
        format!("faults_{}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    fn database(&self, name: &str) -> String {
        let server = self.variable("TEST_DATABASE_URL");
        execute(
            server,
            &format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"),
        );
        let (address, _) = server.rsplit_once('/').unwrap();
        format!("{address}/{name}")
    }

    /// Removes the queues of a place.
    pub(crate) fn leave(&self, place: &Place) {
        if place.vhost != "%2f" {
            self.manage(
                &reqwest::Method::DELETE,
                &format!("vhosts/{}", place.vhost),
                &json!({}),
            );
        }
    }

    fn manage(&self, method: &reqwest::Method, path: &str, body: &Value) {
        let url = format!(
            "{}/api/{path}",
            self.variable("TEST_RABBITMQ_MANAGEMENT_URL")
        );
        let mut tried = String::new();
        // Right after its start the broker answers before it can execute commands.
        until("the management API obeys", Duration::from_secs(20), || {
            let answer = block_on(self.http.request(method.clone(), &url).json(body).send());
            tried = format!("{method} {path}: {answer:?}");
            answer.is_ok_and(|answer| answer.status().is_success())
        });
    }

    /// Deletes a queue, even while it has consumers.
    pub(crate) fn delete_queue(&self, place: &Place, queue: &str) {
        self.manage(
            &reqwest::Method::DELETE,
            &format!("queues/{}/{queue}", place.vhost),
            &json!({}),
        );
    }

    /// Returns the broker's description of a queue, if it exists.
    pub(crate) fn queue(&self, place: &Place, queue: &str) -> Option<Value> {
        let url = format!(
            "{}/api/queues/{}/{queue}",
            self.variable("TEST_RABBITMQ_MANAGEMENT_URL"),
            place.vhost
        );
        block_on(async {
            let answer = self.http.get(url).send().await.ok()?;
            if answer.status().is_success() {
                answer.json().await.ok()
            } else {
                None
            }
        })
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        match self.guard.wait() {
            Ok(status) if status.success() => {}
            other => eprintln!(
                "the servers in {} were not taken down: {other:?}",
                self.folder.display()
            ),
        }
    }
}

/// Parses the lines `export NAME=VALUE` of `scripts/services env`, which are quoted for a shell.
fn variables(text: &str) -> BTreeMap<String, String> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    lines
        .map(|(name, value)| (name.to_owned(), value.replace('\\', "")))
        .collect()
}

/// Runs one statement.
fn execute(url: &str, sql: &str) {
    block_on(async {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    });
}

/// A lock that keeps all processes from the inbox until it is dropped.
pub(crate) struct LockedInbox(Option<PgConnection>);

impl LockedInbox {
    pub(crate) fn lock(place: &Place) -> Self {
        block_on(async {
            let mut connection = PgConnection::connect(&place.database_url).await.unwrap();
            let sql = "BEGIN; LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE";
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            Self(Some(connection))
        })
    }
}

impl Drop for LockedInbox {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            // The server rolls the open transaction back.
            drop(block_on(connection.close()));
        }
    }
}
