//! `lb simulate`: what a mapping does to keys, computed offline: how even the shares of replicas are, what
//! moves when replicas come and go, and what it costs; for the mappings of `lb` and for those of its peers.
//!
//! It never serves, connects or listens, and it needs no running `lb`. Its only I/O is to write a chart; the
//! command line is read by [`config`](crate::config), and the answer is printed by `main`.

mod chart;
mod cost;
mod ids;
mod model;
mod outcome;
mod steps;
mod table;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use mapping::Member;
use serde::Serialize;

pub use cost::Cost;
pub use ids::{Distribution, Ids};
pub use model::Contender;
pub(crate) use model::HAPROXY_HEAVIEST;
pub use outcome::{Balance, Disturbance};
pub use steps::{Stage, Step};
pub(crate) use steps::{check as check_fleet, fleet, stages, weigh, weighed};

use ids::Asked;
use model::Model;
use outcome::Flows;

/// The most bars that a chart may have: more than that nobody reads.
pub(crate) const MOST_BARS: usize = 240;

/// What is to be simulated, checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The mappings.
    pub contenders: Vec<Contender>,
    /// The fleet at first and after each step; every contender has room for each.
    pub stages: Vec<Stage>,
    /// What is asked for.
    pub ids: Ids,
    /// Whether the answer is for programs.
    pub json: bool,
    /// Where a chart goes.
    pub chart: Option<PathBuf>,
}

impl Plan {
    /// How many bars its chart has: one for each replica at first and one for each step, with each mapping.
    #[must_use]
    pub fn bars(&self) -> usize {
        let replicas = self.stages.first().map_or(0, |stage| stage.members.len());
        self.contenders.len() * (replicas + self.stages.len().saturating_sub(1))
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// How many requests there were.
    pub ids: u32,
    /// How many of them were for an id that had not come before.
    pub distinct: usize,
    /// What they were for.
    pub distribution: String,
    /// What was drawn depends on it.
    pub seed: u64,
    /// The fleet at first and after each step.
    pub stages: Vec<Fleet>,
    /// What each mapping made of it.
    pub mappings: Vec<Row>,
}

/// A fleet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fleet {
    /// The step that led to it.
    pub step: Option<String>,
    /// The part of the requests that would have to move in this step, if all shares were as the weights say.
    pub fair: Option<f64>,
    /// Its replicas.
    pub replicas: Vec<Replica>,
}

/// A replica.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replica {
    /// Its place in the fleet.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its share against the others'.
    pub weight: u32,
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub mapping: String,
    /// What it made of each fleet.
    pub stages: Vec<Outcome>,
    /// What it costs with the first fleet.
    pub measured: Cost,
}

/// What a mapping made of a fleet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// How even it is.
    #[serde(flatten)]
    pub balance: Balance,
    /// What moved in the step that led to it.
    #[serde(flatten)]
    pub disturbance: Option<Disturbance>,
}

/// Simulates, writes the chart if one is wanted, and gives the answer for whoever asked.
///
/// # Errors
/// The chart cannot be written.
pub fn run(plan: &Plan) -> anyhow::Result<String> {
    let report = simulate(plan)?;
    if let Some(file) = &plan.chart {
        let chart = chart::draw(&report)?;
        fs::write(file, chart).with_context(|| format!("cannot write {} (--chart)", file.display()))?;
    }
    if plan.json { Ok(serde_json::to_string(&report)?) } else { Ok(table::text(&report)) }
}

fn simulate(plan: &Plan) -> anyhow::Result<Report> {
    let asked = plan.ids.draw();
    let rows = plan.contenders.iter().map(|contender| row(contender, &plan.stages, &asked));
    Ok(Report {
        ids: plan.ids.count,
        distinct: asked.len(),
        distribution: plan.ids.distribution.to_string(),
        seed: plan.ids.seed,
        stages: fleets(&plan.stages),
        mappings: rows.collect::<anyhow::Result<_>>()?,
    })
}

fn fleets(stages: &[Stage]) -> Vec<Fleet> {
    let before = std::iter::once(None).chain(stages.iter().map(Some));
    let replica =
        |member: &Member| Replica { index: member.index, name: member.name.clone(), weight: member.weight };
    let fleet = |(stage, before): (&Stage, Option<&Stage>)| Fleet {
        step: stage.step.as_ref().map(Step::to_string),
        fair: before.map(|before| outcome::fair(&before.members, &stage.members)),
        replicas: stage.members.iter().map(replica).collect(),
    };
    stages.iter().zip(before).map(fleet).collect()
}

fn row(contender: &Contender, stages: &[Stage], asked: &[Asked]) -> anyhow::Result<Row> {
    let mut outcomes = Vec::new();
    let mut before: Option<(&[Member], Vec<u32>)> = None;
    for stage in stages {
        let owners = owners(contender, &stage.members, asked)?;
        let mut counts = vec![0; stage.members.len()];
        for (&owner, (_, times)) in owners.iter().zip(asked) {
            counts[owner as usize] += u64::from(*times);
        }
        let disturbance = before.as_ref().map(|(members, had)| {
            let mut flows = Flows::between(members, &stage.members);
            for ((&from, &to), (_, times)) in had.iter().zip(&owners).zip(asked) {
                flows.add(from as usize, to as usize, u64::from(*times));
            }
            flows.disturbance()
        });
        outcomes.push(Outcome { balance: Balance::of(&stage.members, &counts), disturbance });
        before = Some((&stage.members, owners));
    }
    let keys: Vec<Vec<u8>> = asked.iter().take(cost::PICKS).map(|(id, _)| ids::key(*id)).collect();
    let first = stages.first().context("there is a first fleet")?;
    let measured = Cost::measure(contender, &first.members, &keys)?;
    Ok(Row { mapping: contender.name(), stages: outcomes, measured })
}

/// Who owns each id, as an ordinal.
fn owners(contender: &Contender, members: &[Member], asked: &[Asked]) -> anyhow::Result<Vec<u32>> {
    let model = Model::build(contender, members)?;
    let owner = |(id, _): &Asked| {
        let owner = model.owner(&ids::key(*id)).context("an id has no owner")?;
        Ok(u32::try_from(owner)?)
    };
    asked.iter().map(owner).collect()
}
