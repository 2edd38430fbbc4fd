//! What a soak has found: its rounds with their faults, the requests that were lost, and what the balancer holds.

use serde::{Deserialize, Serialize};

use super::Load;
use crate::stats::{Course, Slope, course};

/// Rounds of faults at random, under load. Times are seconds since the first round began.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Soak {
    /// The seed of the plan of each round.
    pub(crate) seed: u64,
    /// The kinds of faults that were chosen.
    pub(crate) kinds: Vec<String>,
    /// Slots of the fleet before each round and after it.
    pub(crate) replicas: u64,
    /// Ids whose slot is looked up after each round.
    pub(crate) ids: u64,
    /// Whether `bench` started the `lb`.
    pub(crate) is_own: bool,
    pub(crate) rounds: Vec<Round>,
    /// The requests of all rounds.
    pub(crate) load: Load,
    pub(crate) outcomes: Outcomes,
    /// How `lb` ended, if `bench` started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ending: Option<Ending>,
}

/// Something that `lb` holds, after each round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Holding {
    /// What it is, in words.
    pub(crate) what: &'static str,
    /// The unit of its values.
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
    /// By how much it may grow in a round.
    pub(crate) tolerance: f64,
}

impl Holding {
    /// Its slope, and whether it grows; `None` after few rounds.
    pub(crate) fn course(&self) -> Option<(Slope, Course)> {
        course(&self.values, self.tolerance)
    }
}

impl Soak {
    /// Memory, files and threads of `lb` after each round. Without values where they could not be read.
    ///
    /// A round has some thousand requests and about two faults. 8 KiB is less than one leaked buffer.
    pub(crate) fn holdings(&self) -> [Holding; 3] {
        let values = |of: fn(&Round) -> Option<u64>, unit: f64| -> Vec<f64> {
            self.rounds.iter().filter_map(of).map(|value| value as f64 / unit).collect()
        };
        let memory = values(|round| round.memory, 1024.0);
        let (files, threads) = (values(|round| round.files, 1.0), values(|round| round.threads, 1.0));
        [
            Holding { what: "memory", unit: "KiB", values: memory, tolerance: 8.0 },
            Holding { what: "open files", unit: "files", values: files, tolerance: 0.1 },
            Holding { what: "threads", unit: "threads", values: threads, tolerance: 0.05 },
        ]
    }

    /// The arguments of `bench` that repeat a round.
    pub(crate) fn again(&self, number: u64) -> String {
        format!("--seed {} --round {number} --faults {}", self.seed, self.kinds.join(","))
    }
}

/// One round: faults, and the requests meanwhile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Round {
    /// Its number, from which its faults follow.
    pub(crate) number: u64,
    /// When it began.
    pub(crate) at: f64,
    /// How long it took.
    pub(crate) seconds: f64,
    pub(crate) faults: Vec<Injected>,
    pub(crate) requests: u64,
    /// Requests that failed, in the order of their ends.
    pub(crate) lost: Vec<LostRequest>,
    /// Requests that failed and are not in `lost`, because there are too many.
    pub(crate) uncounted: u64,
    /// What did not hold.
    pub(crate) broken: Vec<Broken>,
    /// Anonymous memory of `lb` in bytes after the round, if it can be read; so with the next two.
    pub(crate) memory: Option<u64>,
    /// Open files of `lb`.
    pub(crate) files: Option<u64>,
    /// Threads of `lb`.
    pub(crate) threads: Option<u64>,
}

impl Round {
    /// Requests that failed and that no fault explains.
    pub(crate) fn unexplained(&self) -> u64 {
        let lost = self.lost.iter().filter(|lost| lost.fault.is_none()).count() as u64;
        lost + self.uncounted
    }
}

/// A fault of a round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Injected {
    /// Its kind, such as `kill`.
    pub(crate) kind: String,
    /// What was done, in words.
    pub(crate) what: String,
    /// When it struck.
    pub(crate) at: f64,
    /// When the control port first showed it, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) noticed: Option<f64>,
    /// When all was as before.
    pub(crate) over: f64,
}

/// A request that failed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LostRequest {
    /// When it began.
    pub(crate) begun: f64,
    /// When it failed.
    pub(crate) ended: f64,
    /// Its id.
    pub(crate) id: String,
    /// How it failed.
    pub(crate) failure: String,
    /// The place of the fault that explains it in the faults of its round; `None` if none does.
    pub(crate) fault: Option<usize>,
}

/// Something that has to hold after each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Invariant {
    /// The control port carries out every command.
    Commands,
    /// All slots are in rotation.
    Rotation,
    /// No replica is replaced without a fault on its slot.
    Healing,
    /// Each id has its slot.
    Keys,
    /// No session is open when no client is there.
    Sessions,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Broken {
    pub(crate) invariant: Invariant,
    /// What was found instead.
    pub(crate) found: String,
}

/// Requests over time, by how they ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcomes {
    /// Seconds for one entry of the series.
    pub(crate) bucket: f64,
    /// Right answers.
    pub(crate) right: Vec<u64>,
    /// Failures that a fault explains.
    pub(crate) explained: Vec<u64>,
    /// Failures that no fault explains.
    pub(crate) unexplained: Vec<u64>,
}

/// How an `lb` ended after SIGTERM.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// Its status, in words.
    pub(crate) status: String,
    /// Whether that is a success.
    pub(crate) is_clean: bool,
    /// Processes of it that were left.
    pub(crate) left: Vec<String>,
}
