//! The log: lines on stderr, written by a separate thread.
//!
//! Logging never waits for the reader of stderr. If the reader stalls, lines are dropped. Each event is one line, and nothing in it can
//! command a terminal, wherever its text comes from.

use std::io::{self, Write};

use tracing::error;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, registry};

use crate::printable::{clipped, printable_json};

/// The most lines that may wait for the reader.
const WAITING_LINES: usize = 8192;
/// The longest line for people, in characters. (A JSON object cannot be cut off.)
const LONGEST_LINE: usize = 16 * 1024;

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
    let lines = Lines { writer, format };
    // Every character is looked at when a line is written.
    let layer = layer().with_ansi(false).with_ansi_sanitization(false);
    let layer = match format {
        LogFormat::Text => layer.with_writer(move || lines.clone()).boxed(),
        LogFormat::Json => layer.json().with_writer(move || lines.clone()).boxed(),
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

/// Takes one event at a time, and writes it as one line.
#[derive(Clone)]
struct Lines {
    writer: NonBlocking,
    format: LogFormat,
}

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.writer.write_all(line(event, self.format).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// The line of an event, which ends with a line feed.
fn line(event: &[u8], format: LogFormat) -> String {
    let event = String::from_utf8_lossy(event);
    let event = event.strip_suffix('\n').unwrap_or(&event);
    let mut line = match format {
        LogFormat::Text => clipped(event, LONGEST_LINE),
        LogFormat::Json => printable_json(event),
    };
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_no_terminal_obeys() {
        let text = |event: &str| line(event.as_bytes(), LogFormat::Text);
        assert_eq!(text("INFO lb: ready a=1\n"), "INFO lb: ready a=1\n");
        assert_eq!(
            text("id=7\r\nINFO lb: \u{1b}[2Jforged\0\n\n"),
            "id=7\\r\\nINFO lb: \\u{1b}[2Jforged\\0\\n\n"
        );
        assert!(text(&"x".repeat(1 << 20)).len() < LONGEST_LINE + 100);
        assert_eq!(line(b"{\"id\":\"\xc2\x9b\"}\n", LogFormat::Json), "{\"id\":\"\\u009b\"}\n");
    }
}
