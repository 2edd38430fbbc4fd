//! What experiments have found, as it is written to `data.json`: everything that a report says comes from here.
//!
//! Plain numbers and names, with what follows from a single one of them; no I/O and no judgement. A recorded file can be made into a report again at any time
//! (`bench report`), so fields are only ever added. Times are seconds unless their name says otherwise.

mod drill;
mod healing;
mod soak;
mod swarm;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::sampling_band;
pub(crate) use drill::{Around, Drill, Kill, Series, Timeline};
pub(crate) use healing::{Check, Healing};
pub(crate) use soak::{Broken, Ending, Holding, Injected, Invariant, LostRequest, Outcomes, Round, Soak};
pub(crate) use swarm::{Agreement, Crash, Quiet, Swarm};

/// Everything that one run of `bench` found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Data {
    /// Where, when and with what it was measured.
    pub(crate) environment: Environment,
    /// requests for each replica at a fixed N.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) a1: Vec<Balance>,
    /// requests for each replica at several N.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) a2: Vec<Scaling>,
    /// the control port, and recovery from kills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) a3: Option<Healing>,
    /// A-4: A-1 and A-2 for other mappings and hash functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) a4: Option<Variants>,
    /// One load on `lb`, on its peers, and without a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) comparison: Option<Comparison>,
    /// Faults at random, and what held after each round of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) soak: Option<Soak>,
    /// What has to hold on every machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) expectations: Vec<Expectation>,
    /// How fast it is beside others, on this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) bars: Vec<Bar>,
    /// Why the run ended early; `None` if it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cut_short: Option<String>,
}

/// Where, when and with what something was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// The day, `YYYY-MM-DD` (UTC).
    pub(crate) date: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// The processor, as the kernel names it.
    pub(crate) processor: String,
    /// Memory in bytes.
    pub(crate) memory: u64,
    /// The kernel's name and release.
    pub(crate) kernel: String,
    /// Programs and their versions: `bench`, `lb`, and peers where there are any.
    pub(crate) versions: BTreeMap<String, String>,
    /// The commit of the working directory, with `+` where it had changes; empty outside a repository.
    pub(crate) commit: String,
    /// The seed of all random ids.
    pub(crate) seed: u64,
    /// How the replicas were started, or the address of the running load balancer.
    pub(crate) replicas: String,
    /// Whether it ran in its own network namespace.
    pub(crate) own_network: bool,
    /// The arguments of `bench`.
    pub(crate) arguments: Vec<String>,
}

/// A mapping of ids to replicas, with the flags of `lb` for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Variant {
    /// A short name for charts, such as `ring`.
    pub(crate) name: String,
    /// The flags of `lb serve` that make it.
    pub(crate) flags: Vec<String>,
}

/// How one load spread over the replicas.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Balance {
    /// The mapping that spread it.
    pub(crate) variant: Variant,
    /// The replicas, in the order of their slots.
    pub(crate) replicas: Vec<Share>,
    /// The load itself.
    pub(crate) load: Load,
}

/// The requests of one replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Share {
    /// Its hostname.
    pub(crate) hostname: String,
    /// Requests that it answered.
    pub(crate) requests: u64,
    /// The share of random ids that it owns, from 0 to 1; `None` without a control port to ask.
    pub(crate) expected: Option<f64>,
    /// The number of ids from which the share was estimated.
    pub(crate) asked: u64,
}

/// The counts and latencies of one load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Requests begun after the warm-up, right or failed.
    pub(crate) requests: u64,
    /// Requests with the right answer.
    pub(crate) succeeded: u64,
    /// Failed requests, by kind.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Failures during the warm-up; they are not in `requests`.
    #[serde(default)]
    pub(crate) warm_up_failures: u64,
    /// Requests that were under way or due when the run was interrupted or given up; they count as neither right nor failed.
    #[serde(default)]
    pub(crate) abandoned: u64,
    /// Duration of the load.
    pub(crate) seconds: f64,
    /// Latency of right answers: from the intended start in an open loop, from the start of the connection or round trip in
    /// a closed loop.
    pub(crate) latency: Latency,
    /// The latency in microseconds at each of [`QUANTILES`]. Only a comparison records it.
    #[serde(skip)]
    pub(crate) distribution: Vec<u64>,
    /// Payload bytes received in right answers, and sent with their requests (of raw lines all bytes).
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Right answers by replica, if the answer names it.
    pub(crate) replicas: BTreeMap<String, u64>,
}

impl Balance {
    /// Requests of each replica, in the order of the slots.
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.replicas.iter().map(|share| share.requests).collect()
    }

    /// The counts of a replica that chance explains, as a range; `None` if its share is not known.
    pub(crate) fn band(&self, share: &Share) -> Option<(f64, f64)> {
        share.expected.map(|p| sampling_band(p, self.load.succeeded, share.asked))
    }

    /// Whether chance explains a replica's count; `None` if its share is not known.
    pub(crate) fn within(&self, share: &Share) -> Option<bool> {
        let (low, high) = self.band(share)?;
        Some((low..=high).contains(&(share.requests as f64)))
    }
}

impl Comparison {
    /// The index of `lb` with hand-off, if it took part.
    pub(crate) fn handoff(&self) -> Option<usize> {
        self.contenders.iter().position(|contender| contender.name == HANDOFF)
    }

    /// Whether the contender at this index is `lb` while it is watched.
    pub(crate) fn is_watched(&self, at: usize) -> bool {
        self.contenders.get(at).is_some_and(|contender| WATCHED.contains(&contender.name.as_str()))
    }
}

impl Load {
    /// Failed requests of every kind.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Right answers a second.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.succeeded as f64 / self.seconds } else { 0.0 }
    }
}

impl Data {
    /// Whether nothing was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.a1.is_empty()
            && self.a2.is_empty()
            && self
                .a3
                .as_ref()
                .is_none_or(|a3| a3.checks.is_empty() && a3.drill.is_none() && a3.swarm.is_none())
            && self.a4.as_ref().is_none_or(|a4| a4.a1.is_empty())
            && self.comparison.as_ref().is_none_or(|comparison| comparison.contenders.is_empty())
            && self.soak.as_ref().is_none_or(|soak| soak.rounds.is_empty())
    }
}

/// Quantiles of a latency, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    /// (Older data has none.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p9999: Option<u64>,
    pub(crate) max: u64,
    pub(crate) mean: f64,
}

/// A-2 for one mapping: the same load at several N.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scaling {
    /// The mapping.
    pub(crate) variant: Variant,
    /// One for each N, ascending; N is the number of its replicas.
    pub(crate) points: Vec<Balance>,
}

/// mappings and hash functions side by side.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Variants {
    /// A-1 for each.
    pub(crate) a1: Vec<Balance>,
    /// A-2 for each.
    pub(crate) a2: Vec<Scaling>,
    /// Mappings that this `lb` refused, with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) refused: Vec<(Variant, String)>,
}

/// The name of the contender that is `lb` with `--transport handoff`.
pub(crate) const HANDOFF: &str = "lb handoff";

/// The names of contenders that are `lb` while it is watched (`--watch`).
pub(crate) const WATCHED: [&str; 6] =
    ["lb again", "lb text log", "lb json log", "lb journal", "lb metrics", "lb everything"];

/// One load on several contenders, in interleaved rounds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// The contenders; the first is `lb`. It and [`HANDOFF`] are compared to all others.
    pub(crate) contenders: Vec<Contender>,
    /// The results, by kind of work.
    pub(crate) modes: Vec<Mode>,
    /// The generator itself against `wrk`, where that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generator: Option<Mode>,
    /// The two load generators in [`Comparison::generator`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) generators: Vec<Contender>,
}

/// A participant of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Contender {
    /// Its name: lb, lb handoff, haproxy, nginx, direct.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// How it was set up, in a sentence.
    pub(crate) setup: String,
}

/// One kind of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mode {
    /// A short name, such as `short`.
    pub(crate) name: String,
    /// What is done, in a sentence.
    pub(crate) what: String,
    /// What one operation is: `connection`, `round trip`, `GB`; `idle connection` where memory is measured.
    pub(crate) unit: String,
    /// Whether the generator sets the pace: then all have the same rate, and differ in latency.
    #[serde(default)]
    pub(crate) is_paced: bool,
    /// For each round, what each contender did, in the order of the contenders.
    pub(crate) rounds: Vec<Vec<Reading>>,
}

/// What one contender did in one round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// Operations (units) done; GB may be a fraction.
    pub(crate) operations: f64,
    /// Duration of the turn.
    pub(crate) seconds: f64,
    /// CPU time of the contender's processes, in nanoseconds; `None` without a proxy.
    pub(crate) cpu_ns: Option<u64>,
    /// CPU time of the replicas in the same time, in nanoseconds, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replicas_cpu_ns: Option<u64>,
    /// Memory that the operations hold, in bytes, if the mode measures it.
    pub(crate) memory: Option<u64>,
    /// Latency of an operation in microseconds, median and 99th percentile, if it was measured.
    pub(crate) p50: Option<u64>,
    pub(crate) p99: Option<u64>,
    /// Latency in microseconds at each of [`QUANTILES`], where the generator set the pace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) distribution: Vec<u64>,
    /// Operations that failed.
    pub(crate) failures: u64,
}

impl Reading {
    /// CPU time of the contender for one operation, in nanoseconds; `None` without a proxy.
    pub(crate) fn cpu_per_operation(&self) -> Option<f64> {
        Some(self.cpu_ns? as f64 / self.operations)
    }

    /// Operations in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations / self.seconds
    }
}

/// The quantiles of a distribution. Recorded files depend on their order: only add to its end.
pub(crate) const QUANTILES: [f64; 10] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];

/// Something that is right or wrong, whatever machine it was measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Expectation {
    /// The subject, such as `A-1: failed requests`.
    pub(crate) what: String,
    /// What is right.
    pub(crate) expected: String,
    /// What was found.
    pub(crate) found: String,
    /// Whether it holds.
    pub(crate) passed: bool,
}

/// A ratio of speeds beside the value that it reached on the machine on which it was set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bar {
    /// What is compared, in words: CPU time or a rate, and with whom.
    pub(crate) what: String,
    /// The bar, such as `at least 0.95`.
    pub(crate) bar: String,
    /// The median of the rounds, with the least and the most.
    pub(crate) found: String,
    /// Whether the median reaches the bar.
    pub(crate) reached: bool,
}
