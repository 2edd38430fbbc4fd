//! The exposition: all metrics as text, when they are asked for (`docs/METRICS.md` lists them).
//!
//! It reads what the planes count, and the snapshot. It asks nobody, so that it has an answer whatever hangs. Labels are the names of slots
//! and words from short lists, so there are at most some fifty series for each slot.

mod families;
mod page;
mod process;
mod slots;

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use crate::access::AccessLogs;
use crate::journal::Journal;
use crate::metrics::{Metrics, Workers};
use crate::refusals::Refusals;
use crate::snapshot::Cell;
pub(crate) use slots::{Cause, Slots};

/// The `Content-Type` of OpenMetrics (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Version 0.0.4 of the text format of Prometheus.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format for a client that accepts this: OpenMetrics, if it is named at all and not ruled out.
    pub(super) fn for_one_who_accepts(accept: &str) -> Self {
        let is_ruled_out = |parameter: &str| {
            let value = parameter.trim().strip_prefix("q=").map(|value| value.trim().parse::<f64>());
            value.is_some_and(|value| value.is_ok_and(|weight| weight <= 0.0))
        };
        let is_wanted = |range: &str| {
            let mut parts = range.split(';');
            let name = parts.next().unwrap_or_default().trim();
            name.eq_ignore_ascii_case("application/openmetrics-text") && !parts.any(is_ruled_out)
        };
        if accept.split(',').any(is_wanted) { Format::OpenMetrics } else { Format::Text }
    }

    /// Its `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Text => prometheus_text::CONTENT_TYPE,
            Format::OpenMetrics => OPEN_METRICS,
        }
    }
}

/// Where the metrics come from.
pub(crate) struct Sources {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) snapshot: Arc<Cell>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) journal: Arc<Journal>,
    /// The log of connections, if there is one.
    pub(crate) access: Arc<AccessLogs>,
    /// What the workers can do for new clients.
    pub(crate) workers: Box<dyn Fn() -> Workers + Send + Sync>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// All metrics as text.
#[derive(Debug)]
pub(crate) struct Exposition(Registry);

impl Exposition {
    /// Metrics from these sources.
    pub(crate) fn new(sources: Sources) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(sources));
        Exposition(registry)
    }

    /// All metrics as they are now.
    pub(super) fn render(&self, format: Format) -> String {
        let mut all = String::new();
        // Writing into a string cannot fail.
        let _ = match format {
            Format::Text => prometheus_text::encode(&mut all, &self.0),
            Format::OpenMetrics => text::encode(&mut all, &self.0),
        };
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_name_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let cases = [
            (prometheus, Format::OpenMetrics),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
            ("text/plain, application/openmetrics-text ; q=0.1", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::Text),
            ("text/html,*/*", Format::Text),
            ("", Format::Text),
            ("application/openmetrics-textile", Format::Text),
        ];
        for (accept, expected) in cases {
            assert_eq!(Format::for_one_who_accepts(accept), expected, "{accept}");
        }
    }
}
