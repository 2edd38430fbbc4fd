//! The flags of `lb simulate`, checked all at once into one [`Simulation`].

use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Args, Subcommand};
use mapping::{MOST_SLOTS, MappingName};
use proto::control::{Hostname, Weight};
use simulate::cluster::ClusterPlan;
use simulate::peers::{HAPROXY_HEAVIEST, Peer};
use simulate::{Contender, Distribution, Ids, MOST_BARS, Plan, Stage, Step};

use super::Problems;
use super::cluster::Cluster;
use super::environment::FromEnvironment;
use super::parameters::Parameters;
use super::value::{Checked, Parsed, checked, picture, within};

/// The most steps: each takes a pass over all ids.
const MOST_STEPS: usize = 100;

const STEPS: &str = "\
Steps:
  add N               N more, with weight 1 and free names
  add NAME[=W] ...    these join
  rm NAME ...         these leave
  weight NAME=W ...   these get another weight

A newcomer gets the lowest free index, as in lb. `slots` hashes the index; ring, maglev and rendezvous the \
name. In the configuration of a peer, the replica with index i has the address 10.0.0.i:80 (after 254 comes \
10.0.1.1) and in HAProxy the number i, which stays its own when others leave, as with `id`. The weight W is \
the server's weight there; haproxy-100 has 100 times that, so that its ring has 1600 points for each unit of \
weight, not 16.

An id moves needlessly if the replica it leaves is still there and has lost no weight, and the replica it \
goes to was there before and has gained none. Pick, build and memory are measured in this run.

Examples:
  lb simulate --replicas 6 --step 'rm server3' --step 'add server7'
  lb simulate --mapping all --replicas 6 --step 'rm server3' --chart comparison.svg
  lb simulate --points 8 --step 'rm server3' --draw ring.svg
  lb simulate --mapping slots --ids 900000
  lb simulate --mapping ring,haproxy --distribution zipf:1.1 --weight server1=3 --json";

/// The flags of `lb simulate`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = STEPS, args_conflicts_with_subcommands = true)]
pub struct Simulate {
    /// Something else than a mapping.
    #[command(subcommand)]
    topic: Option<Topic>,
    /// Which of the following are set in the environment.
    #[command(flatten)]
    from_environment: FromEnvironment,
    /// What to simulate: ring, slots, maglev, rendezvous; haproxy, haproxy-W, nginx, envoy-ring; or all
    #[arg(long, value_name = "NAME[,NAME...]", default_value = "ring", value_delimiter = ',', value_parser = ValueParser::new(simulated))]
    mapping: Vec<Checked<Simulated>>,
    /// Replicas at first: server1 to serverN
    #[arg(long, value_name = "N", default_value = "3", allow_hyphen_values = true, value_parser = ValueParser::new(replicas))]
    replicas: Checked<usize>,
    /// The share of a replica's keys against the others' at first, from 0 to 100; repeatable
    #[arg(long, value_name = "NAME=W", value_parser = ValueParser::new(weight))]
    weight: Vec<Checked<(Hostname, Weight)>>,
    /// A change to the fleet, see below; repeatable, in this order
    #[arg(long, value_name = "STEP", value_parser = ValueParser::new(step))]
    step: Vec<Checked<Step>>,
    /// How many requests, at most 10,000,000
    #[arg(long, value_name = "COUNT", default_value = "100000", allow_hyphen_values = true, value_parser = ValueParser::new(ids))]
    ids: Checked<u32>,
    /// Which ids they are for: uniform (100000, 100001, ...), or zipf, zipf:EXPONENT (six-digit ids, a few of
    /// them popular)
    #[arg(long, value_name = "NAME", default_value = "uniform", value_parser = ValueParser::new(distribution))]
    distribution: Checked<Distribution>,
    /// zipf: the seed that decides which ids are popular and which are drawn
    #[arg(long, value_name = "NUMBER", default_value = "1", allow_hyphen_values = true, value_parser = ValueParser::new(seed))]
    seed: Checked<u64>,
    /// The parameters of our mappings.
    #[command(flatten)]
    parameters: Parameters,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Draw a chart of the shares at first and of what moves, with at most 240 bars
    #[arg(long, value_name = "FILE.svg", value_parser = ValueParser::new(picture))]
    chart: Option<Checked<PathBuf>>,
    /// Draw the positions of the mapping ring on a circle, at first and after each step: at most 8 replicas and
    /// 720 positions
    #[arg(long, value_name = "FILE.svg", value_parser = ValueParser::new(picture))]
    draw: Option<Checked<PathBuf>>,
}

/// What to simulate beside mappings.
#[derive(Clone, Debug, Subcommand)]
enum Topic {
    /// Play faults of many replicas and several balancers: keys moved, disagreement, commands, calls
    Cluster(Cluster),
}

/// What to simulate, checked.
#[derive(Clone, Debug)]
pub enum Simulation {
    /// Mappings, on paper.
    Mappings(Plan),
    /// Several balancers, on one clock.
    Cluster(ClusterPlan),
}

impl Simulate {
    /// Checks every flag by itself, and then what they are together.
    ///
    /// # Errors
    /// All problems at once; each names the flag or the variable, the given value and what is expected.
    pub fn check(mut self) -> Result<Simulation, Problems> {
        let (mut problems, set) = (Problems::default(), self.from_environment.clone());
        let simulation = match self.topic.take() {
            Some(Topic::Cluster(cluster)) => Simulation::Cluster(cluster.read(&mut problems)),
            None => Simulation::Mappings(self.read(&mut problems)),
        };
        problems.or(simulation, &set)
    }

    fn read(self, problems: &mut Problems) -> Plan {
        let contenders = contenders(self.mapping, &self.parameters, problems);
        let replicas = problems.take("replicas", self.replicas, 1);
        let weights = all("weight", self.weight, problems);
        let steps = all("step", self.step, problems);
        let ids = Ids {
            count: problems.take("ids", self.ids, 1),
            distribution: problems.take("distribution", self.distribution, Distribution::Uniform),
            seed: problems.take("seed", self.seed, 0),
        };
        let chart = self.chart.map(|chart| problems.take("chart", chart, PathBuf::new()));
        let draw = self.draw.map(|draw| problems.take("draw", draw, PathBuf::new()));
        // The checks from here on need all flags.
        let stages =
            if problems.0.is_empty() { stages(replicas, &weights, steps, problems) } else { Vec::new() };
        check_room(&contenders, &stages, problems);
        let plan = Plan { contenders, stages, ids, json: self.json, chart, draw };
        if plan.chart.is_some() && plan.bars() > MOST_BARS {
            let bars = plan.bars();
            problems.add(format!(
                "--chart: {bars} bars are too many; expected at most {MOST_BARS} \
                 (mappings times replicas and steps)"
            ));
        }
        if plan.draw.is_some() && problems.0.is_empty() {
            let drawable = simulate::check_drawing(&plan);
            drawable.unwrap_or_else(|problem| problems.add(format!("--draw: {problem}")));
        }
        plan
    }
}

/// The valid values of a repeatable flag; the others become problems.
fn all<T>(flag: &str, values: Vec<Checked<T>>, problems: &mut Problems) -> Vec<T> {
    let values = values.into_iter().map(|value| problems.take(flag, value.map(Some), None));
    values.flatten().collect()
}

/// The chosen mappings, each once, in the order of their names on the command line.
fn contenders(
    names: Vec<Checked<Simulated>>,
    parameters: &Parameters,
    problems: &mut Problems,
) -> Vec<Contender> {
    let everything = || {
        let ours = MappingName::ALL.into_iter().map(Simulated::Ours);
        let tuned = Simulated::Theirs(Peer::HaProxy, 100);
        let [haproxy, rest @ ..] = Peer::ALL.map(|peer| Simulated::Theirs(peer, 1));
        ours.chain([haproxy, tuned]).chain(rest)
    };
    let mut chosen: Vec<Simulated> = Vec::new();
    for name in all("mapping", names, problems) {
        let named: Vec<Simulated> = if name == Simulated::All { everything().collect() } else { vec![name] };
        for name in named {
            if !chosen.contains(&name) {
                chosen.push(name);
            }
        }
    }
    // The parameters are the same for all mappings: report what is wrong with them once.
    parameters.scheme(MappingName::Ring, problems);
    let contender = |name| match name {
        Simulated::Ours(name) => Some(Contender::Ours(parameters.scheme(name, &mut Problems::default()))),
        Simulated::Theirs(peer, unit) => Some(Contender::Theirs { peer, unit }),
        Simulated::All => None,
    };
    chosen.into_iter().filter_map(contender).collect()
}

fn stages(
    replicas: usize,
    weights: &[(Hostname, Weight)],
    steps: Vec<Step>,
    problems: &mut Problems,
) -> Vec<Stage> {
    if steps.len() > MOST_STEPS {
        problems.add(format!("--step: {} steps are too many; expected at most {MOST_STEPS}", steps.len()));
        return Vec::new();
    }
    let mut first = simulate::fleet(replicas);
    let weighed = simulate::weigh(&mut first, weights).and_then(|()| simulate::check_fleet(&first));
    if let Err(problem) = weighed {
        problems.add(format!("--weight: {problem}"));
        return Vec::new();
    }
    simulate::stages(first, steps).unwrap_or_else(|problem| {
        problems.add(format!("--step: {problem}"));
        Vec::new()
    })
}

/// Refuses a mapping that has no room for a fleet.
fn check_room(contenders: &[Contender], stages: &[Stage], problems: &mut Problems) {
    for contender in contenders {
        let full = stages.iter().find_map(|stage| Some((stage, contender.check(&stage.members).err()?)));
        if let Some((stage, problem)) = full {
            let when =
                stage.step.as_ref().map_or_else(|| "at first".to_owned(), |step| format!("after '{step}'"));
            problems.add(format!("--mapping: {}, {when}: {problem}", contender.name()));
        }
    }
}

/// A name that `--mapping` accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Simulated {
    /// Every mapping, and HAProxy with two weights.
    All,
    /// One of ours.
    Ours(MappingName),
    /// A peer, and what a weight of 1 is in its configuration.
    Theirs(Peer, u32),
}

fn simulated(given: &str) -> Parsed<Simulated> {
    let ours = || given.parse().ok().map(Simulated::Ours);
    let theirs =
        || Peer::ALL.into_iter().find(|peer| peer.name() == given).map(|peer| Simulated::Theirs(peer, 1));
    let tuned = || {
        let unit = given.strip_prefix(Peer::HaProxy.name())?.strip_prefix('-')?.parse().ok()?;
        (1..=HAPROXY_HEAVIEST).contains(&unit).then_some(Simulated::Theirs(Peer::HaProxy, unit))
    };
    let value = if given == "all" { Some(Simulated::All) } else { ours().or_else(theirs).or_else(tuned) };
    let takes = "ring, slots, maglev, rendezvous, haproxy, haproxy-W with a weight W from 1 to 256, nginx, \
                 envoy-ring or all";
    checked(value, given, takes)
}

fn replicas(given: &str) -> Parsed<usize> {
    within(given, (1, MOST_SLOTS))
}

fn ids(given: &str) -> Parsed<u32> {
    within(given, (1, 10_000_000))
}

fn seed(given: &str) -> Parsed<u64> {
    within(given, (0, u64::MAX))
}

fn distribution(given: &str) -> Parsed<Distribution> {
    checked(Distribution::parse(given), given, Distribution::ALLOWED)
}

fn step(given: &str) -> Parsed<Step> {
    checked(Step::parse(given), given, Step::ALLOWED)
}

fn weight(given: &str) -> Parsed<(Hostname, Weight)> {
    checked(simulate::weighed(given), given, "NAME=W with a whole number W from 0 to 100")
}
