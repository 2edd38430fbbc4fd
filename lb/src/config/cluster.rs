//! The flags of `lb simulate cluster`, checked all at once into one [`ClusterPlan`].

use std::path::PathBuf;

use clap::Args;
use clap::builder::ValueParser;
use simulate::cluster::{ClusterPlan, MOST_BALANCERS, MOST_REPLICAS, Scenario};

use super::Problems;
use super::value::{Checked, Parsed, checked, picture, within};

const SCENARIOS: &str = "\
Scenarios:
  deaths      a replica dies every second, for 1000 s
  burst       a tenth of the replicas, at most 100, are killed at once
  node        a node with a tenth of the replicas, at most 100, crashes
  partition   three balancers (less than half of them) cannot reach the engine for 60 s
  rolling     all replicas are replaced, a hundredth of them at a time
  away        no balancer can reach the engine for 60 s
  drill       ten replicas are killed, one every 6 s; it was played on a real Swarm, too, and is not in all
  growth      a death a second, with 10 to 10,000 replicas and 3 to 100 balancers; takes longest, and is not in all

Commands (rm, add, weights) come meanwhile. Each balancer has the real fleet and the real mapping, a ring; the \
engine, clients and probes are models with the delays that were measured on Docker Swarm. Times are simulated, so \
the same seed gives the same answer.

Examples:
  lb simulate cluster
  lb simulate cluster --replicas 6 --balancers 3 --scenario partition,away --json";

/// The flags of `lb simulate cluster`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = SCENARIOS)]
pub(super) struct Cluster {
    /// How many replicas there are, from 1 to 10000; a fleet of lb has at most 1000
    #[arg(long, value_name = "N", default_value = "1000", allow_hyphen_values = true, value_parser = ValueParser::new(replicas))]
    replicas: Checked<usize>,
    /// How many balancers serve them together, from 1 to 100
    #[arg(long, value_name = "B", default_value = "10", allow_hyphen_values = true, value_parser = ValueParser::new(balancers))]
    balancers: Checked<usize>,
    /// Decides who dies, which balancer gets a command, and every delay that is random
    #[arg(long, value_name = "NUMBER", default_value = "1", allow_hyphen_values = true, value_parser = ValueParser::new(seed))]
    seed: Checked<u64>,
    /// What goes wrong, see below: deaths, burst, node, partition, rolling, away; all of these; drill; growth
    #[arg(long, value_name = "NAME[,NAME...]", default_value = "all", value_delimiter = ',', value_parser = ValueParser::new(course))]
    scenario: Vec<Checked<Course>>,
    /// Draw a chart of the figures of each scenario, and of growth
    #[arg(long, value_name = "FILE.svg", allow_hyphen_values = true, value_parser = ValueParser::new(picture))]
    chart: Option<Checked<PathBuf>>,
    /// Draw a chart of what happens second by second
    #[arg(long, value_name = "FILE.svg", allow_hyphen_values = true, value_parser = ValueParser::new(picture))]
    timeline: Option<Checked<PathBuf>>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// A name that `--scenario` accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    All,
    One(Scenario),
    Growth,
}

impl Cluster {
    /// The plan, and what is wrong with the flags.
    pub(super) fn read(self, problems: &mut Problems) -> ClusterPlan {
        let chosen = self.scenario.into_iter().map(|name| problems.take("scenario", name, Course::All));
        let chosen: Vec<Course> = chosen.collect();
        let has = |scenario: Scenario| {
            chosen.contains(&Course::One(scenario)) || chosen.contains(&Course::All) && scenario.is_in_all()
        };
        let plan = ClusterPlan {
            scenarios: Scenario::ALL.into_iter().filter(|scenario| has(*scenario)).collect(),
            growth: chosen.contains(&Course::Growth),
            replicas: problems.take("replicas", self.replicas, 1),
            balancers: problems.take("balancers", self.balancers, 1),
            seed: problems.take("seed", self.seed, 0),
            chart: self.chart.map(|file| problems.take("chart", file, PathBuf::new())),
            timeline: self.timeline.map(|file| problems.take("timeline", file, PathBuf::new())),
            json: self.json,
        };
        if plan.timeline.is_some() && plan.scenarios.is_empty() {
            problems.add("--timeline: growth has none; expected another scenario, too".to_owned());
        }
        plan
    }
}

fn course(given: &str) -> Parsed<Course> {
    let one = || Scenario::ALL.into_iter().find(|scenario| scenario.name() == given).map(Course::One);
    let value = match given {
        "all" => Some(Course::All),
        "growth" => Some(Course::Growth),
        _ => one(),
    };
    checked(value, given, "deaths, burst, node, partition, rolling, away, drill, growth or all")
}

fn replicas(given: &str) -> Parsed<usize> {
    within(given, (1, MOST_REPLICAS))
}

fn balancers(given: &str) -> Parsed<usize> {
    within(given, (1, MOST_BALANCERS))
}

fn seed(given: &str) -> Parsed<u64> {
    within(given, (0, u64::MAX))
}
