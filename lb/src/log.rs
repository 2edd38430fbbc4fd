//! The log: lines on stderr, written by a separate thread.
//!
//! Logging never waits for the reader of stderr. If the reader stalls, lines are dropped.

use tracing::error;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, registry};

/// The most lines that may wait for the reader.
const WAITING_LINES: usize = 8192;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// Begins to log. When the guard is dropped, it writes the lines that still wait, for at most a second.
pub fn begin(filter: Targets, format: LogFormat) -> WorkerGuard {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES);
    let (writer, guard) = builder.finish(std::io::stderr());
    let layer = match format {
        LogFormat::Text => layer().with_writer(writer).with_ansi(false).boxed(),
        LogFormat::Json => layer().json().with_writer(writer).boxed(),
    };
    registry().with(layer.with_filter(filter)).init();
    log_panics();
    guard
}

/// Makes a panic a line of the log, in its form. (By default it is text on stderr, whatever the form of the log.)
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let message = panic.payload_as_str().unwrap_or("it has no message");
        let place = panic.location().map(ToString::to_string);
        error!(thread = thread.name(), place, "panic: {message}");
    }));
}
