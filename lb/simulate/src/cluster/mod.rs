//! `lb simulate cluster`: many replicas, several balancers and an engine on one simulated clock, beyond what fits on a machine.
//!
//! What is real: the fleet of every balancer ([`fleet::Fleet`]), with its commands, proposals and deadlines, and the mapping that is built
//! from it, and the pace at which a balancer reads from the engine ([`fleet::pace`]). What is modelled: everything around them. That is the engine with the delays that were measured on Docker Swarm ([`delays`]), the
//! clients and probes of each balancer ([`eyes`]), and what lies between a fleet and the engine ([`world`]): which calls each event makes.
//!
//! It opens no socket, reads no clock and waits for nothing; all that it writes is the charts that were asked for. The same plan gives the same report.
//!
//! - [`scenario`]: what goes wrong, and which commands come meanwhile;
//! - [`clock`], [`delays`], [`engine`], [`eyes`]: the world around the balancers;
//! - [`balancer`], [`world`]: the balancers, and everything that happens;
//! - [`choices`], [`agreement`], [`figures`]: what is observed;
//! - [`report`], [`timeline`], [`table`], [`chart`]: what is told of it;
//! - [`parallel`]: several scenarios at the same time.

mod agreement;
mod balancer;
mod chart;
mod choices;
mod clock;
mod delays;
mod engine;
mod eyes;
mod figures;
mod parallel;
mod report;
mod scenario;
mod table;
#[cfg(test)]
mod tests;
mod timeline;
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::chart::Drawing;
use anyhow::Context as _;
use fleet::{Roster, Seat, SlotId};
use mapping::{Algorithm, MappingPolicy};
use proto::control::{Hostname, Weight};

pub use scenario::Scenario;

use report::{Outcome, Report};
use scenario::Course;
use world::World;

/// The most replicas, and the most balancers.
pub const MOST_REPLICAS: usize = 10_000;
/// See [`MOST_REPLICAS`].
pub const MOST_BALANCERS: usize = 100;

/// The most points that a simulated ring has. The mapping has a few more at most, for weights.
const POINTS: usize = 4_000_000;
/// How long a simulation goes on after the last fault, so that all is settled: longer than a drain, and than an `add` that failed.
const SETTLE: Duration = Duration::from_secs(180);
/// The numbers of balancers, and of replicas with each of them, whose figures are compared.
const GROWTH_BALANCERS: [usize; 3] = [3, 10, 100];
const GROWTH_REPLICAS: [usize; 4] = [10, 100, 1000, 10_000];
/// How long that comparison takes, in simulated seconds.
const GROWTH_SECONDS: u32 = 20;
/// The pause between two of its commands.
const GROWTH_PAUSE: Duration = Duration::from_secs(5);

/// What to simulate, checked.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// How many replicas there are, from 1 to [`MOST_REPLICAS`].
    pub replicas: usize,
    /// How many balancers there are, from 1 to [`MOST_BALANCERS`].
    pub balancers: usize,
    /// What decides everything that is random.
    pub seed: u64,
    /// What goes wrong.
    pub scenarios: Vec<Scenario>,
    /// Whether to compare other numbers of replicas and balancers.
    pub growth: bool,
    /// Whether to answer in JSON.
    pub json: bool,
    /// The SVG file for a chart of the figures, if there is to be one.
    pub chart: Option<PathBuf>,
    /// The SVG file for a chart of what happens second by second, if there is to be one.
    pub timeline: Option<PathBuf>,
}

/// Simulates, writes the charts that the plan asks for, and returns the answer as text or as JSON.
///
/// # Errors
/// A chart cannot be written; the message names the file and the flag. Or a mapping could not be built, which would be a fault of this
/// program.
pub fn run(plan: &ClusterPlan) -> anyhow::Result<String> {
    let report = simulate(plan)?;
    if let Some(file) = &plan.chart {
        write(file, "--chart", &chart::figures(&report)?)?;
    }
    if let Some(file) = &plan.timeline {
        write(file, "--timeline", &chart::timelines(&report)?)?;
    }
    if plan.json { Ok(serde_json::to_string(&report)?) } else { Ok(table::text(&report)) }
}

fn write(file: &Path, flag: &str, picture: &Drawing) -> anyhow::Result<()> {
    fs::write(file, picture.svg()).with_context(|| format!("cannot write {} ({flag})", file.display()))
}

fn simulate(plan: &ClusterPlan) -> anyhow::Result<Report> {
    let &ClusterPlan { replicas, balancers, seed, .. } = plan;
    let scenarios = parallel::map(&plan.scenarios, |scenario| {
        // Each has the same luck whether others are played or not.
        let course = scenario.course(replicas, balancers, &mut fastrand::Rng::with_seed(seed));
        play(scenario.to_string(), [replicas, balancers], course, seed)
    })?;
    let growth = if plan.growth { grow(&GROWTH_REPLICAS, &GROWTH_BALANCERS, seed)? } else { Vec::new() };
    Ok(Report { replicas, balancers, seed, sampled_keys: choices::SAMPLE, scenarios, growth })
}

/// The first scenario, shorter, with each of these numbers of balancers and replicas.
fn grow(replicas: &[usize], balancers: &[usize], seed: u64) -> anyhow::Result<Vec<Outcome>> {
    let with = |&balancers: &usize| replicas.iter().map(move |&replicas| [replicas, balancers]);
    let sizes: Vec<[usize; 2]> = balancers.iter().flat_map(with).collect();
    parallel::map(&sizes, |&[replicas, balancers]| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let course = scenario::deaths(GROWTH_SECONDS, GROWTH_PAUSE, balancers, &mut rng);
        play("growth".to_owned(), [replicas, balancers], course, seed)
    })
}

fn play(scenario: String, size: [usize; 2], course: Course, seed: u64) -> anyhow::Result<Outcome> {
    let [replicas, balancers] = size;
    let points = points(replicas);
    let figures = World::new(roster(replicas, points)?, balancers, seed)?.play(course, SETTLE)?;
    Ok(Outcome::of(scenario, size, points, figures))
}

/// As many points for each replica as by default, or as a ring has room for.
fn points(replicas: usize) -> u32 {
    u32::try_from(POINTS / replicas.max(1)).unwrap_or(u32::MAX).min(Algorithm::POINTS)
}

/// A fleet of `server1` to `serverN`, mapped by a ring.
fn roster(replicas: usize, points: u32) -> anyhow::Result<Roster> {
    let seat = |index: u32| {
        let name = Hostname::try_from(format!("server{index}")).map_err(anyhow::Error::msg)?;
        let slot = SlotId { index, name: name.clone() };
        Ok(Seat::new(slot, Weight::default(), name))
    };
    Ok(Roster {
        mapping: MappingPolicy { scheme: Algorithm::Ring { points }.into(), balance: None },
        seats: (1..).take(replicas).map(seat).collect::<anyhow::Result<_>>()?,
        spares: std::collections::BTreeSet::new(),
        coming: Vec::new(),
        leaving: Vec::new(),
    })
}
