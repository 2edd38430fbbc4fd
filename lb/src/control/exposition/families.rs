//! The families of metrics: their names, labels and helps, and where each value comes from.

use std::collections::HashMap;
use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use proto::control::State;

use super::Sources;
use super::page::{Page, Written};
use super::process::Process;
use super::slots::{Cause, Reading};
use crate::log;
use crate::metrics::{Metrics, Phase};
use crate::replica::{Dialled, Ending, Probed, Way};
use crate::snapshot::Snapshot;

/// The revision of the source, if the build was told.
const REVISION: &str = match option_env!("LB_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Every state of a slot.
const STATES: [State; 5] = [State::Up, State::Starting, State::Down, State::Draining, State::Quarantined];

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut page = Page(encoder);
        let build = [("version", env!("CARGO_PKG_VERSION")), ("revision", REVISION)];
        page.gauges(("lb_build_info", "The version of lb, and the revision of its source"), [(build, 1.0)])?;
        let slots = self.slots.read();
        connections(&mut page, &slots)?;
        self.refused(&mut page)?;
        times(&mut page, &self.metrics)?;
        self.fleet(&mut page)?;
        healing(&mut page, &slots, &self.metrics)?;
        probes(&mut page, &slots)?;
        self.inside(&mut page)?;
        Process::read().map_or(Ok(()), |process| of_process(&mut page, &process))
    }
}

/// What connections to slots have come to.
fn connections(page: &mut Page<'_>, slots: &[Reading]) -> Written {
    page.counters(
        ("lb_connections", "Connections that had reached a replica, by how they ended"),
        slots.iter().flat_map(|slot| {
            let labels = |ending: Ending| [("slot", slot.name.as_str()), ("ending", ending.name())];
            Ending::ALL.map(|ending| (labels(ending), slot.totals.ended(ending)))
        }),
    )?;
    page.gauges(
        ("lb_connections_open", "Connections that replicas have now, those that were handed over included"),
        slots.iter().map(|slot| ([("slot", slot.name.as_str())], slot.open as f64)),
    )?;
    page.counters(
        (
            "lb_bytes",
            "Bytes from clients to replicas (up) and back (down), without connections that were handed over",
        ),
        slots.iter().flat_map(|slot| {
            let labels = |way: Way| [("slot", slot.name.as_str()), ("direction", way.name())];
            Way::ALL.map(|way| (labels(way), slot.totals.bytes(way)))
        }),
    )?;
    page.counters(
        ("lb_connect_attempts", "Attempts to connect to replicas, by how they went"),
        slots.iter().flat_map(|slot| {
            let labels = |how: Dialled| [("slot", slot.name.as_str()), ("result", how.name())];
            Dialled::ALL.map(|how| (labels(how), slot.totals.dials(how)))
        }),
    )
}

/// How long the parts of connections took.
fn times(page: &mut Page<'_>, metrics: &Metrics) -> Written {
    page.histogram(
        ("lb_first_line_seconds", "From accept until it is known what the first line says"),
        &metrics.all(|lane| &lane.first_line),
    )?;
    page.histogram(
        ("lb_connect_seconds", "From there until a replica is reached, with all attempts"),
        &metrics.all(|lane| &lane.connect),
    )?;
    page.histogram(
        ("lb_session_seconds", "From accept to the end of connections that were relayed"),
        &metrics.all(|lane| &lane.session),
    )
}

/// How replicas were replaced.
fn healing(page: &mut Page<'_>, slots: &[Reading], metrics: &Metrics) -> Written {
    page.counters(
        ("lb_restarts", "Replicas that were replaced, by the reason"),
        slots.iter().flat_map(|slot| {
            let labels = |cause: Cause| [("slot", slot.name.as_str()), ("cause", cause.name())];
            Cause::ALL.map(|cause| (labels(cause), slot.restarts[cause as usize]))
        }),
    )?;
    page.histograms(
        ("lb_recovery_seconds", "From the loss of a replica until its slot was in rotation again, by phase"),
        Phase::ALL.map(|phase| ([("phase", phase.name())], metrics.recovery(phase).read())),
    )
}

/// How probes went. A result that a slot has never had takes no series of its histogram.
fn probes(page: &mut Page<'_>, slots: &[Reading]) -> Written {
    let all = |slot: &Reading| Probed::ALL.map(|how| (how, slot.totals.probes(how).clone()));
    page.counters(
        ("lb_probes", "Health checks of replicas, by how they went"),
        slots.iter().flat_map(|slot| {
            all(slot)
                .map(|(how, held)| ([("slot", slot.name.as_str()), ("result", how.name())], held.count()))
        }),
    )?;
    page.histograms(
        ("lb_probe_seconds", "How long health checks took"),
        slots.iter().flat_map(|slot| {
            let some = all(slot).into_iter().filter(|(how, held)| *how == Probed::Ok || held.count() > 0);
            some.map(|(how, held)| ([("slot", slot.name.as_str()), ("result", how.name())], held))
        }),
    )
}

impl Sources {
    /// Connections that reached no replica.
    fn refused(&self, page: &mut Page<'_>) -> Written {
        let totals = self.refusals.by_reason();
        page.counters(
            (
                "lb_connections_refused",
                "Connections that were not served, or had to wait (max_connections), by the reason",
            ),
            totals.map(|(reason, total)| ([("reason", reason.name())], total)),
        )
    }

    /// The slots as the data plane sees them.
    fn fleet(&self, page: &mut Page<'_>) -> Written {
        let (snapshot, shares) = (self.snapshot.load_full(), self.slots.shares());
        let of_each = |value: &dyn Fn(&crate::snapshot::Slot) -> Option<f64>| {
            let slots = snapshot.slots().iter();
            slots.filter_map(|slot| Some(([("slot", slot.name.clone())], value(slot)?))).collect::<Vec<_>>()
        };
        page.gauges(
            ("lb_slot_up", "Whether a slot is in rotation"),
            of_each(&|slot| Some(f64::from(u8::from(slot.in_rotation().is_ok())))),
        )?;
        page.gauges(("lb_slot_weight", "The weight of a slot"), of_each(&|slot| Some(slot.weight.into())))?;
        page.gauges(
            ("lb_slot_share", "The share of the key space that a slot owns, whatever its state"),
            of_each(&|slot| shares.get(&slot.name).copied()),
        )?;
        page.gauges(("lb_slots", "Slots by their state"), states(&snapshot))
    }

    /// The parts of `lb` itself.
    fn inside(&self, page: &mut Page<'_>) -> Written {
        page.counters(
            ("lb_commands", "Commands of the control port, by their result"),
            self.metrics
                .commands()
                .into_iter()
                .map(|((command, result), times)| ([("command", command), ("result", result)], times)),
        )?;
        let reads = self.metrics.backends_file.totals().unwrap_or_default();
        let reads = [("applied", reads.applied), ("refused", reads.refused)];
        page.counters(
            ("lb_backends_file_reads", "Reads of the file of backends, by what became of them"),
            reads.map(|(result, times)| ([("result", result)], times)),
        )?;
        let workers = (self.workers)();
        let states = [("accepting", workers.accepting), ("full", workers.full), ("dead", workers.dead)];
        page.gauges(
            ("lb_workers", "Workers by what they can do for a new client"),
            states.map(|(state, workers)| ([("state", state)], workers as f64)),
        )?;
        page.gauge(("lb_sessions_open", "Connections that lb serves now"), workers.sessions as f64)?;
        page.gauge(("lb_sessions_max", "The most that it serves at once"), workers.most_sessions as f64)?;
        page.counter(
            ("lb_journal_lost", "Entries that are missing in the file of the journal"),
            self.journal.lost() as f64,
        )?;
        page.counter(
            ("lb_access_log_lost", "Lines that are missing in the log of connections"),
            self.access.lost() as f64,
        )?;
        page.counter(
            (
                "lb_log_lost",
                "Lines that are missing in the log, because its reader stalled or the disk was full",
            ),
            log::dropped() as f64,
        )
    }
}

/// How many slots are in each state.
fn states(snapshot: &Snapshot) -> [([(&'static str, String); 1], f64); 5] {
    let mut slots: HashMap<String, usize> = HashMap::new();
    snapshot.slots().iter().for_each(|slot| *slots.entry(slot.state.to_string()).or_default() += 1);
    STATES.map(|state| {
        let state = state.to_string();
        let many = slots.get(&state).copied().unwrap_or(0) as f64;
        ([("state", state)], many)
    })
}

/// What all Prometheus clients tell of their process.
fn of_process(page: &mut Page<'_>, process: &Process) -> Written {
    page.counter(("process_cpu_seconds", "Time on processors, of user and system"), process.cpu)?;
    page.gauge(("process_open_fds", "Open files"), process.open_files as f64)?;
    if let Some(most) = process.most_files {
        page.gauge(("process_max_fds", "The limit of open files"), most as f64)?;
    }
    page.gauge(("process_virtual_memory_bytes", "Virtual memory"), process.virtual_memory as f64)?;
    page.gauge(("process_resident_memory_bytes", "Resident memory"), process.resident_memory as f64)?;
    page.gauge(("process_start_time_seconds", "When the process began, since 1970"), process.began)?;
    page.gauge(("process_threads", "Threads"), process.threads as f64)
}
