//! Warnings of the log as events: a limit that is reached, trouble of a worker, of the engine or of a name server.
//!
//! Whatever part of `lb` warns, the journal has it, whatever `--log` shows. Lines with the target [`TOLD`] are left out: they say again
//! what the journal tells in words of its own.

use std::sync::Arc;

use proto::journal::Event;
use proto::printable::clipped;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Context;

use super::Journal;
use crate::log::{Reader, Said, TOLD};

/// The longest warning, in characters.
const LONGEST: usize = 1000;

/// A reader of the log that records warnings and errors.
#[must_use]
pub fn reader(journal: &Arc<Journal>) -> Reader {
    Box::new(Warnings(Arc::clone(journal)).with_filter(LevelFilter::WARN))
}

struct Warnings(Arc<Journal>);

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let from = metadata.target();
        let is_ours = from == "lb" || from.starts_with("lb::");
        if !is_ours || from == TOLD {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        let message = clipped(said.text(), LONGEST);
        self.0.record(Event::Warning { from: from.to_owned(), message });
    }
}

#[cfg(test)]
mod tests {
    use tracing::{info, warn};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::journal::Beginning;

    #[test]
    fn a_warning_is_an_event_with_its_fields_and_nothing_else_is() {
        let journal = Arc::new(Journal::new(None));
        let log = tracing_subscriber::registry().with(reader(&journal));
        tracing::subscriber::with_default(log, || {
            info!("all is well");
            warn!(target: "hyper", "not ours");
            warn!(target: TOLD, "told already");
            warn!(worker = 2, name = %"a\nb", error = %"no epoll", "it hangs");
        });
        let lines = journal.follow(Beginning::Oldest).ready();
        let [line] = &lines[..] else { panic!("{lines:?}") };
        let entry: proto::journal::Entry = serde_json::from_str(&line.json).unwrap();
        let expected = Event::Warning {
            from: module_path!().to_owned(),
            message: r"it hangs: no epoll worker=2 name=a\nb".to_owned(),
        };
        assert_eq!(entry.event, expected);
    }
}
