//! The log: lines on stderr, written by a separate thread.
//!
//! Logging never waits for the reader of stderr. If the reader stalls, lines are dropped. Each event is one line, and nothing in it can
//! command a terminal, wherever its text comes from. If there is no room, on a full disk for instance, lines are dropped too ([`stderr`]).

mod stderr;

use std::fmt::{self, Debug};
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use proto::printable::{clipped, printable_json};
use tracing::Level;
use tracing::field::{Field, Visit};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, layer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, registry, reload};

use stderr::Output;

/// The most lines that may wait for the reader.
const WAITING_LINES: usize = 8192;
/// The longest line for people, in characters. (A JSON object cannot be cut off.)
const LONGEST_LINE: usize = 16 * 1024;

/// The target of lines that say what the journal tells in words of its own.
pub(crate) const TOLD: &str = "lb::fleet";

/// Counts the lines that were dropped.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines were dropped, because the reader of stderr stalled or there was no room.
pub(crate) fn dropped() -> u64 {
    stalled() + stderr::lost()
}

/// How many lines were dropped, because the reader of stderr stalled.
fn stalled() -> u64 {
    DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64)
}

/// Another reader of the log than stderr.
pub type Reader = Box<dyn Layer<Registry> + Send + Sync>;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// What is logged, which can be changed.
#[derive(Clone)]
pub struct Filter(Arc<dyn Fn(Targets) + Send + Sync>);

impl Filter {
    /// Logs this from now on.
    pub(crate) fn change(&self, filter: Targets) {
        self.0(without_hickory(filter));
    }
}

impl Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

/// Begins to log. `reader` sees every event as well. When the guard is dropped, it writes the lines that still wait, for at most a second.
pub fn begin(filter: Targets, format: LogFormat, reader: Reader) -> (WorkerGuard, Filter) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES);
    let (writer, guard) = builder.finish(Output::new(io::stderr()));
    // It is set only once, as the log is.
    let _ = DROPPED.set(writer.error_counter());
    let lines = Lines { writer, format };
    // Every character is looked at when a line is written.
    let layer = layer().with_ansi(false).with_ansi_sanitization(false);
    let layer = match format {
        LogFormat::Text => layer.fmt_fields(Text).with_writer(move || lines.clone()).boxed(),
        LogFormat::Json => layer.json().with_writer(move || lines.clone()).boxed(),
    };
    let (filter, handle) = reload::Layer::new(without_hickory(filter));
    registry().with(reader).with(layer.with_filter(filter)).init();
    // It fails only where there is no log any more.
    let change = move |filter| drop(handle.reload(filter));
    (guard, Filter(Arc::new(change)))
}

/// The client of the DNS warns of each packet that it does not like. Unless it is to be debugged, the resolver says what comes of that,
/// at most once a second.
fn without_hickory(filter: Targets) -> Targets {
    let quiet = |filter: Targets, target: &str| {
        let is_usual =
            filter.would_enable(target, &Level::WARN) && !filter.would_enable(target, &Level::DEBUG);
        if is_usual { filter.with_target(target, Level::ERROR) } else { filter }
    };
    ["hickory_net", "hickory_proto", "hickory_resolver"].into_iter().fold(filter, quiet)
}

/// The form of an event for people: its message, and then its fields.
struct Text;

impl<'writer> FormatFields<'writer> for Text {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut said = Said::default();
        fields.record(&mut said);
        writer.write_str(said.text())
    }
}

/// What an event says: its message, behind a colon its field `error`, and then its other fields as `name=value`. What the message says
/// itself is not said twice: as `name=value`, because some messages are read by programs that know no fields, or in words ([`IN_WORDS`]).
#[derive(Debug, Default)]
pub(crate) struct Said {
    text: String,
    /// Where the message ends.
    message: usize,
}

/// The field that says why: it belongs to the message.
const CAUSE: &str = "error";
/// Fields that a message may say in words of its own.
const IN_WORDS: [&str; 7] = ["change", "page", "reason", "signal", "state", "value", "variable"];

impl Said {
    /// It in words.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the message says the value of this field.
    fn says(&self, name: &str, value: &str) -> bool {
        IN_WORDS.contains(&name) && self.text[..self.message].contains(value.trim_matches('"'))
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // The message comes first.
        let (name, value) = (field.name(), format!("{value:?}"));
        if name == "message" {
            self.text.push_str(&value);
            self.message = self.text.len();
        } else if name == CAUSE && self.message > 0 {
            self.text.insert_str(self.message, &format!(": {value}"));
        } else if !self.says(name, &value) {
            let said = format!("{name}={value}");
            if !self.text.split(' ').any(|word| word == said) {
                self.text.push_str(if self.text.is_empty() { "" } else { " " });
                self.text.push_str(&said);
            }
        }
    }
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
    fn the_client_of_the_dns_is_heard_only_if_it_is_to_be_debugged() {
        let shows = |filter: &str, level| {
            without_hickory(filter.parse().unwrap()).would_enable("hickory_net::udp", &level)
        };
        for (filter, warnings, details) in [
            ("info", false, false),
            ("debug", true, true),
            ("off", false, false),
            ("warn,hickory_net=debug", true, true),
        ] {
            assert_eq!(
                (shows(filter, Level::WARN), shows(filter, Level::DEBUG)),
                (warnings, details),
                "{filter}"
            );
        }
        assert!(shows("info", Level::ERROR) && !shows("off", Level::ERROR));
        assert!(without_hickory("info".parse().unwrap()).would_enable("lb::resolver", &Level::WARN));
    }

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
