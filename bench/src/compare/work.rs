//! The kinds of work of a comparison: their names, descriptions and plans for the generator. Nothing is sent here.

use std::net::SocketAddr;
use std::time::Duration;

use crate::args::Misused;
use crate::data::Load;
use crate::load::{Amount, Exchange, Ids, Loop, Plan};

/// Concurrent connections, by kind of work.
pub(super) const SHORT: usize = 32;
const ROUND_TRIPS: usize = 16;
const BULK: usize = 4;
/// The maximum number of connections of an open loop.
const OPEN: usize = 1000;
/// The rate of `tail`, as a share of the slowest proxy's rate in `short`.
pub(super) const TAIL_SHARE: f64 = 0.7;
/// The size of one bulk request: long enough that its start and end do not matter, short enough that many fit into a turn.
const BULK_SIZE: u64 = 16 * 1024 * 1024;
const GB: f64 = 1e9;

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Short,
    Tail,
    Rtt64,
    Rtt16k,
    Down,
    Up,
    Idle,
    Generator,
}

impl Work {
    const ALL: [Work; 8] = [
        Work::Short,
        Work::Tail,
        Work::Rtt64,
        Work::Rtt16k,
        Work::Down,
        Work::Up,
        Work::Idle,
        Work::Generator,
    ];

    /// Whether the generator sets the pace.
    pub(super) fn is_paced(self) -> bool {
        self == Work::Tail
    }

    /// Its name on the command line and in data.
    pub(super) fn name(self) -> &'static str {
        match self {
            Work::Short => "short",
            Work::Tail => "tail",
            Work::Rtt64 => "rtt64",
            Work::Rtt16k => "rtt16k",
            Work::Down => "down",
            Work::Up => "up",
            Work::Idle => "idle",
            Work::Generator => "generator",
        }
    }

    /// The kinds with these names, each once and in a fixed order, because `tail` depends on `short`; all of them if no name is
    /// given.
    ///
    /// # Errors
    /// A name is unknown; the message lists the known ones.
    pub(super) fn chosen(names: &[String]) -> Result<Vec<Work>, Misused> {
        let names: Vec<&str> = names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        if let Some(name) = names.iter().find(|name| Work::ALL.iter().all(|work| work.name() != **name)) {
            let known = Work::ALL.map(Work::name).join(", ");
            return Err(Misused(format!("--modes: invalid value `{name}`: expected names among {known}")));
        }
        let is_wanted = |work: &Work| names.is_empty() || names.contains(&work.name());
        Ok(Work::ALL.into_iter().filter(is_wanted).collect())
    }

    /// The unit of one operation.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Work::Short | Work::Tail | Work::Generator => "connection",
            Work::Rtt64 | Work::Rtt16k => "round trip",
            Work::Down | Work::Up => "GB",
            Work::Idle => "idle connection",
        }
    }

    /// Describes the work in a sentence. `amount` is the rate of `tail`, or the number of idle connections.
    pub(super) fn what(self, amount: f64) -> String {
        let mib = BULK_SIZE / 1024 / 1024;
        match self {
            Work::Short => format!("GET /home on a new connection each, {SHORT} at a time, closed loop"),
            Work::Tail => format!(
                "GET /home on a new connection each, {amount:.0} per second in an open loop: {:.0} % of the slowest proxy's rate",
                TAIL_SHARE * 100.0
            ),
            Work::Rtt64 => {
                format!("raw lines of 64 B, one after the other on {ROUND_TRIPS} open connections")
            }
            Work::Rtt16k => {
                format!("POST /echo of 16 kB, one after the other on {ROUND_TRIPS} open connections")
            }
            Work::Down => format!("{mib} MiB answers, one after the other on {BULK} open connections"),
            Work::Up => format!("{mib} MiB requests, one after the other on {BULK} open connections"),
            Work::Idle => format!(
                "memory (Pss) of a new process for {amount:.0} open connections, after one raw line and its answer on each"
            ),
            Work::Generator => format!(
                "the generator and wrk -t1, each on one core, with a replica on the other: GET /home on a new connection each, \
                 {SHORT} at a time; the CPU time is the generator's"
            ),
        }
    }

    /// The plan of the generator. `rate` is that of the tail.
    pub(super) fn plan(self, target: SocketAddr, rate: f64, seed: u64, time: Duration) -> Plan {
        let (exchange, keep_open, connections) = match self {
            Work::Rtt64 => (Exchange::Line { size: 64 }, true, ROUND_TRIPS),
            // `lb` does not balance a line of this size by its id, so it is HTTP. With its head it fits into the 16 KiB that
            // peers read at once.
            Work::Rtt16k => (Exchange::Echo { size: 16_000 }, true, ROUND_TRIPS),
            Work::Down => (Exchange::Bytes { send: 0, receive: BULK_SIZE }, true, BULK),
            Work::Up => (Exchange::Bytes { send: BULK_SIZE, receive: 1 }, true, BULK),
            Work::Tail => (Exchange::Get { path: "/home".to_owned() }, false, OPEN),
            Work::Short | Work::Idle | Work::Generator => {
                (Exchange::Get { path: "/home".to_owned() }, false, SHORT)
            }
        };
        let is_bulk = matches!(self, Work::Down | Work::Up);
        Plan {
            target,
            others: Vec::new(),
            exchange,
            keep_open,
            ids: Ids::Random,
            pace: if self == Work::Tail { Loop::Open { rate } } else { Loop::Closed },
            connections,
            amount: Amount::Duration(time),
            warm_up: Duration::ZERO,
            timeout: Duration::from_secs(if is_bulk { 30 } else { 5 }),
            threads: 1,
            seed,
            keep_records: false,
        }
    }

    /// The number of operations in a load.
    pub(super) fn operations(self, load: &Load) -> f64 {
        match self {
            Work::Down => load.received as f64 / GB,
            Work::Up => load.sent as f64 / GB,
            _ => load.succeeded as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn all_work_is_done_unless_some_is_chosen() {
        assert_eq!(Work::chosen(&[]).unwrap(), Work::ALL);
        assert_eq!(Work::chosen(&names(&["", " "])).unwrap(), Work::ALL);
        assert_eq!(Work::chosen(&names(&["tail", "short", "tail"])).unwrap(), [Work::Short, Work::Tail]);
    }

    #[test]
    fn unknown_work_is_refused_with_the_known_names() {
        let error = Work::chosen(&names(&["short", "shrot"])).unwrap_err().to_string();
        let known = "short, tail, rtt64, rtt16k, down, up, idle, generator";
        assert_eq!(error, format!("--modes: invalid value `shrot`: expected names among {known}"));
    }

    #[test]
    fn bulk_is_counted_in_gigabytes_and_the_rest_in_right_answers() {
        let load = Load { succeeded: 5, received: 3_000_000_000, sent: 500_000_000, ..Load::default() };
        let operations = Work::ALL.map(|work| work.operations(&load));
        assert_eq!(operations, [5.0, 5.0, 5.0, 5.0, 3.0, 0.5, 5.0, 5.0]);
    }

    #[test]
    fn only_the_tail_is_an_open_loop() {
        let open = Work::ALL.map(|work| {
            work.plan(([127, 0, 0, 1], 1).into(), 700.0, 1, Duration::from_secs(1)).pace
                == Loop::Open { rate: 700.0 }
        });
        assert_eq!(open, Work::ALL.map(|work| work == Work::Tail));
    }
}
