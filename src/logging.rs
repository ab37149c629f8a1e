//! Logs on standard error.
//!
//! The log is no part of a request: lines are written by a thread of their own, and a line that
//! cannot be written, or not fast enough, is dropped and counted.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anstream::{AutoStream, ColorChoice};
use metrics::counter;
use parking_lot::Mutex;
use tallyhook_core::text::{printable_json, printable_lines};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::nearest;

pub const LOG_LINES_DROPPED: &str = "tallyhook_log_lines_dropped_total";

/// The most lines that wait for standard error: a few MB of usual ones.
const WAITING_LINES: usize = 8_192;
/// The time that the end of the process waits for standard error.
const FLUSH_TIME: Duration = Duration::from_secs(2);
/// The interval in which one line is written of what any client can cause.
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
    let configured = crate::config::log_filter().map(|filter| parse_filter(&filter));
    let (filter, problem) = match configured {
        Some(Ok(filter)) => (filter, None),
        Some(Err(problem)) => (EnvFilter::new(default), Some(problem)),
        None => (EnvFilter::new(default), None),
    };
    // lapin would log bodies of returned messages, and a password in its handshake; the queue crate
    // logs the events that matter.
    let filter = match "lapin=off".parse() {
        Ok(off) => filter.add_directive(off),
        Err(_) => filter,
    };
    let is_terminal = io::stderr().is_terminal();
    let (lines, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(CountedStderr {
            format,
            is_terminal,
        });
    NO_ROOM.get_or_init(|| lines.error_counter());
    let has_colours = is_terminal && AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    let layer = fmt::layer().with_ansi(has_colours).with_writer(lines);
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
    if let Some(problem) = problem {
        tracing::warn!("RUST_LOG is not used: {problem}");
    }
    LogGuard(guard)
}

/// Parses `RUST_LOG`. A misspelt level alone would be the name of a module without any lines.
fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',').map(str::trim) {
        let level = directive.rsplit('=').next().unwrap_or_default();
        let is_known = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
        if let Some(meant) = nearest(level, LEVELS).filter(|_| !is_known) {
            return Err(format!("it has `{level}`: did you mean `{meant}`?"));
        }
    }
    EnvFilter::try_new(text).map_err(|error| {
        format!(
            "{error}: expected a level such as debug, or modules with one as in tallyhook=debug"
        )
    })
}

/// Brings the counter of dropped lines up to date.
pub(crate) fn count_dropped_lines() {
    if let Some(no_room) = NO_ROOM.get() {
        let lines = u64::try_from(no_room.dropped_lines()).unwrap_or(u64::MAX);
        counter!(LOG_LINES_DROPPED, "reason" => "no_room").absolute(lines);
    }
}

/// A line of the log that any client can cause: written once a minute, with the number of its
/// causes.
#[derive(Debug, Default)]
pub(crate) struct MinuteLine {
    written_at: Option<Instant>,
    causes: u64,
}

impl MinuteLine {
    /// Counts a cause. Returns the number of causes since the last line if a line is due.
    pub(crate) fn count(&mut self) -> Option<u64> {
        self.causes += 1;
        let is_due = self
            .written_at
            .is_none_or(|at| at.elapsed() >= REPEAT_INTERVAL);
        is_due.then(|| {
            self.written_at = Some(Instant::now());
            std::mem::take(&mut self.causes)
        })
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

/// Standard error, which counts the lines that it does not take, and never fails. Each write is one
/// line: text from elsewhere in it makes no second one, and controls no terminal.
struct CountedStderr {
    format: LogFormat,
    is_terminal: bool,
}

impl CountedStderr {
    fn printable(&self, line: &[u8]) -> String {
        let line = String::from_utf8_lossy(line);
        let line = line.strip_suffix('\n').unwrap_or(&line);
        let printable = match self.format {
            LogFormat::Json => printable_json(line),
            LogFormat::Text => {
                let line = line.replace(['\n', '\r', '\t'], " ");
                // The formatter has escaped ESC in texts from elsewhere: the others are its own.
                let between = if self.is_terminal { "\x1b" } else { "\\u{1b}" };
                let parts = line.split('\x1b').map(printable_lines);
                parts.collect::<Vec<_>>().join(between)
            }
        };
        printable + "\n"
    }
}

impl Write for CountedStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let printable = self.printable(line);
        if io::stderr().write_all(printable.as_bytes()).is_err() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_one_line_that_controls_no_terminal() {
        let written = |format, is_terminal, line: &str| {
            let writer = CountedStderr {
                format,
                is_terminal,
            };
            writer.printable(line.as_bytes())
        };
        let hostile = "  a\nb\rc\u{1b}[31m\u{9b}\u{202e}\u{200b}\u{7f}d \n";
        assert_eq!(
            written(LogFormat::Text, false, hostile),
            "  a b c\\u{1b}[31m\\u{9b}\\u{202e}\\u{200b}\\u{7f}d \n"
        );
        // The colours of the formatter stay on a terminal.
        assert_eq!(
            written(
                LogFormat::Text,
                true,
                "\u{1b}[2mtime\u{1b}[0m \u{1b}[33m WARN\u{1b}[0m a\u{202e}b\n"
            ),
            "\u{1b}[2mtime\u{1b}[0m \u{1b}[33m WARN\u{1b}[0m a\\u{202e}b\n"
        );
        assert_eq!(
            written(LogFormat::Json, true, "{\"a\":\"\\u001b\u{202e}\u{7f}\"}\n"),
            "{\"a\":\"\\u001b\\u202e\\u007f\"}\n"
        );
    }

    #[test]
    fn minute_line_is_due_at_once_and_then_counts() {
        let mut line = MinuteLine::default();
        assert_eq!(line.count(), Some(1));
        for _ in 0..500 {
            assert_eq!(line.count(), None);
        }
        line.written_at = line
            .written_at
            .and_then(|at| at.checked_sub(REPEAT_INTERVAL));
        assert_eq!(line.count(), Some(501));
    }

    #[test]
    fn misspelt_level_is_no_module() {
        for (filter, meant) in [
            ("infoo", "info"),
            ("tallyhook=debgu", "debug"),
            ("wran", "warn"),
        ] {
            let problem = parse_filter(filter).unwrap_err();
            assert!(
                problem.contains(&format!("did you mean `{meant}`?")),
                "{problem}"
            );
        }
        assert!(
            parse_filter("tallyhook=loud")
                .unwrap_err()
                .contains("tallyhook=debug")
        );
        for filter in [
            "DEBUG",
            "tallyhook=debug,sqlx=off",
            "tallyhook::relay",
            "warn",
        ] {
            assert!(parse_filter(filter).is_ok(), "{filter}");
        }
    }
}
