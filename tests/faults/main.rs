//! Every delivery answered with 2xx is finished, although the broker, the database and the
//! processes fail.
//!
//! The real program runs as receivers and workers on a broker and a database that
//! `scripts/services` starts for this test alone. Each scenario breaks something while deliveries
//! with known outcomes are posted. Then each of them must have been finished once, and the facts
//! must be those of an undisturbed run.
//!
//! The short form takes about four minutes. The long one, whose results are in
//! `docs/operate/reliability.md`:
//!
//!     TALLYHOOK_FAULTS=long cargo test --release --features crash-points,services --test faults
//!
//! Words after `--` choose scenarios by a part of their name. `kill -9` shows what survives the end
//! of a process, not what survives a power cut.

#![allow(clippy::print_stdout, reason = "the numbers are the result")]

mod broker;
mod cluster;
mod database;
mod kills;
mod load;
mod services;
mod table;
mod traffic;
mod workers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::services::Services;
use crate::table::Row;

/// The signal that a process ends with at a crash point.
pub(crate) const SIGABRT: i32 = 6;
/// The limit of every wait. It is no guarantee: a condition that does not hold by then is taken to
/// never hold.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// The limit of the long form from the repair to the first applied delivery.
const HEALED: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// The size of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Short,
    Long,
}

impl Form {
    fn from_environment() -> Self {
        match std::env::var("TALLYHOOK_FAULTS").as_deref() {
            Err(_) | Ok("short") => Self::Short,
            Ok("long") => Self::Long,
            Ok(other) => panic!("TALLYHOOK_FAULTS is `{other}`: expected `short` or `long`"),
        }
    }

    pub(crate) const fn of(self, short: usize, long: usize) -> usize {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

type Scenario = fn(&Services, Form) -> Row;

const SCENARIOS: [(&str, Scenario); 15] = [
    ("broker killed", broker::killed),
    ("broker killed, SQLite", broker::killed_beside_sqlite),
    ("broker frozen for 20 s", broker::frozen),
    ("memory alarm", broker::alarmed),
    ("queue deleted", broker::queue_deleted),
    (
        "broker killed in its first second",
        broker::killed_in_its_first_second,
    ),
    ("backlog", broker::backlog),
    ("database stopped at once", database::stopped),
    (
        "worker killed with all it holds",
        workers::killed_with_all_it_holds,
    ),
    ("poison", workers::poison),
    ("SIGTERM", workers::asked_to_end),
    ("kills at crash points", kills::at_crash_points),
    ("kills of everything", kills::of_everything),
    ("receiver killed before it published", kills::unpublished),
    // This is the last, since it deletes the queues of all scenarios.
    ("broker wiped", broker::wiped),
];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});

pub(crate) fn runtime() -> &'static Runtime {
    &RUNTIME
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

/// Polls until `condition` holds.
pub(crate) fn until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < patience,
            "waited {patience:?} in vain until {what}"
        );
        std::thread::sleep(POLL);
    }
}

fn main() -> ExitCode {
    // A runner that asks for single tests finds none: the scenarios share their servers, and run as
    // one.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let form = Form::from_environment();
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let is_chosen =
        |name: &str| chosen.is_empty() || chosen.iter().any(|word| name.contains(word.as_str()));
    let scenarios: Vec<_> = SCENARIOS
        .into_iter()
        .filter(|(name, _)| is_chosen(name))
        .collect();
    // `scripts/test --all` runs every test twice, the second time on servers. This one has its own
    // both times.
    if scenarios.is_empty() || std::env::var_os("TALLYHOOK_TEST_ON").is_some() {
        println!(
            "\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; {} filtered out",
            SCENARIOS.len()
        );
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    println!(
        "\nrunning {} scenarios, {form:?} form, {}",
        scenarios.len(),
        table::machine()
    );
    let services = Services::up();
    let (mut rows, mut failed) = (Vec::new(), 0);
    for (name, scenario) in &scenarios {
        let begun = Instant::now();
        let run = || {
            let row = scenario(&services, form);
            // The short form runs on machines of unknown speed, and has no time limit.
            assert!(
                form == Form::Short || row.back.is_none_or(|back| back < HEALED),
                "it took {:?} to heal",
                row.back
            );
            row
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(row) => {
                println!(
                    "scenario {name} ... ok ({:.1} s)",
                    begun.elapsed().as_secs_f64()
                );
                rows.push((*name, row));
            }
            Err(_) => {
                println!(
                    "scenario {name} ... FAILED ({:.1} s)",
                    begun.elapsed().as_secs_f64()
                );
                failed += 1;
                // A failed scenario must not leave broken servers to the next one.
                services.heal();
            }
        }
    }
    drop(services);
    table::print(&rows);
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.1} s",
        rows.len(),
        SCENARIOS.len() - scenarios.len(),
        started.elapsed().as_secs_f64()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
