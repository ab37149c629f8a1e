//! Logs on standard error.
//!
//! The log is no part of a request: lines are written by a thread of their own, and a line that
//! cannot be written, or not fast enough, is dropped and counted.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anstream::{AutoStream, ColorChoice};
use metrics::counter;
use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

pub const LOG_LINES_DROPPED: &str = "tallyhook_log_lines_dropped_total";

/// The most lines that wait for standard error: a few MB of usual ones.
const WAITING_LINES: usize = 8_192;
/// The time that the end of the process waits for standard error.
const FLUSH_TIME: Duration = Duration::from_secs(2);
/// The interval in which one line of a connection's failures is written.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// The number of lines that found no room; kept by the queue of lines itself.
static NO_ROOM: OnceLock<ErrorCounter> = OnceLock::new();

/// The format of logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Installs the logger: level info, or for `quiet` commands warn, unless `RUST_LOG` sets a filter.
/// Panics are logged, too. A second call in a process changes nothing.
pub fn init_logging(format: LogFormat, quiet: bool) -> LogGuard {
    let default = if quiet {
        "warn"
    } else {
        "info,actix_server=warn"
    };
    let configured = crate::config::log_filter().and_then(|filter| EnvFilter::try_new(filter).ok());
    let filter = configured.unwrap_or_else(|| EnvFilter::new(default));
    // lapin would log bodies of returned messages, and a password in its handshake; the queue crate
    // logs the events that matter.
    let filter = match "lapin=off".parse() {
        Ok(off) => filter.add_directive(off),
        Err(_) => filter,
    };
    let (lines, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(CountedStderr);
    NO_ROOM.get_or_init(|| lines.error_counter());
    let layer = fmt::layer()
        .with_ansi(AutoStream::choice(&io::stderr()) != ColorChoice::Never)
        .with_writer(lines);
    let layer = match format {
        LogFormat::Text => layer.with_target(false).boxed(),
        // With the spans: theirs are the ids of the delivery that a line is about.
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let installed = tracing_subscriber::registry()
        .with(filter)
        .with(layer.with_filter(RepeatedFailures::default()))
        .try_init();
    // An earlier logger, as in tests, stays installed.
    if installed.is_ok() {
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    }
    LogGuard(guard)
}

/// Brings the counter of dropped lines up to date.
pub(crate) fn count_dropped_lines() {
    if let Some(no_room) = NO_ROOM.get() {
        let lines = u64::try_from(no_room.dropped_lines()).unwrap_or(u64::MAX);
        counter!(LOG_LINES_DROPPED, "reason" => "no_room").absolute(lines);
    }
}

/// Keeps the thread that writes the log.
#[must_use]
pub struct LogGuard(WorkerGuard);

impl LogGuard {
    /// Writes the lines that wait, then `last`, unless standard error does not take them in time.
    pub fn finish(self, last: Option<String>) {
        let Self(writer) = self;
        let (sender, finished) = mpsc::channel();
        let flush = move || {
            // It waits for the lines. If there is no room for its own message, it prints to
            // standard output, which may be closed or not read, too: hence the thread.
            drop(writer);
            if let Some(last) = last {
                // The failure to report a failure cannot be reported.
                drop(writeln!(io::stderr(), "{last}"));
            }
            // Fails if the process does not wait any longer.
            let _ = sender.send(());
        };
        if thread::Builder::new().spawn(flush).is_ok() {
            // The process ends either way.
            let _ = finished.recv_timeout(FLUSH_TIME);
        }
    }
}

/// Standard error, which counts the lines that it does not take, and never fails.
struct CountedStderr;

impl Write for CountedStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if io::stderr().write_all(line).is_err() {
            counter!(LOG_LINES_DROPPED, "reason" => "failed").increment(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes one line of each kind in [`REPEAT_INTERVAL`] of those that the HTTP server writes about
/// connections: any client could fill the disk with them.
#[derive(Default)]
struct RepeatedFailures(Mutex<HashMap<Identifier, Instant>>);

impl RepeatedFailures {
    /// Returns true for lines that are written in any number.
    fn exempts(metadata: &Metadata<'_>) -> bool {
        *metadata.level() > Level::WARN || !metadata.target().starts_with("actix")
    }

    fn is_due(&self, callsite: Identifier, now: Instant) -> bool {
        let mut written = self.0.lock();
        let last = written.get(&callsite);
        let is_due = last.is_none_or(|last| now.duration_since(*last) >= REPEAT_INTERVAL);
        if is_due {
            written.insert(callsite, now);
        }
        is_due
    }
}

impl<S: Subscriber> Filter<S> for RepeatedFailures {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let passes = Self::exempts(metadata) || self.is_due(metadata.callsite(), Instant::now());
        if !passes {
            counter!(LOG_LINES_DROPPED, "reason" => "repeated").increment(1);
        }
        passes
    }
}
