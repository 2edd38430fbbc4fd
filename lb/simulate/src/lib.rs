//! `lb simulate`: what a mapping does to keys, computed offline, for the mappings of `lb` and for those of its peers. It
//! tells how even the shares of servers are, what moves when servers come and go, and what the mapping costs.
//!
//! [`cluster`] is another simulation: several balancers with real fleets, and an engine, on one simulated clock.
//!
//! It never serves, connects or listens, and it needs no running `lb`. Its only I/O is to write pictures. `lb` reads the
//! command line and prints the answer.

mod chart;
pub mod cluster;
mod cost;
mod ids;
mod model;
mod outcome;
pub mod peers;
mod plan;
mod report;
mod ring;
mod steps;
mod table;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use ::chart::Drawing;
use anyhow::Context as _;
use mapping::Member;

pub use ids::{Distribution, Ids};
pub use model::Contender;
pub use plan::{MOST_BARS, Plan};
pub use ring::check as check_drawing;
pub use steps::{Stage, Step, check as check_fleet, fleet, stages, weigh, weighed};

use cost::Cost;
use ids::Asked;
use model::Model;
use outcome::{Balance, Transfers};
use report::{Fleet, Outcome, Report, Row, Server};

/// Simulates, writes the pictures that the plan asks for, and returns the answer as text or as JSON.
///
/// # Errors
/// A picture cannot be written; the message names the file and the flag.
pub fn run(plan: &Plan) -> anyhow::Result<String> {
    let report = simulate(plan)?;
    if let Some(file) = &plan.chart {
        write(file, "--chart", &chart::draw(&report)?)?;
    }
    if let Some(file) = &plan.draw {
        write(file, "--draw", &ring::draw(plan)?)?;
    }
    if plan.json { Ok(serde_json::to_string(&report)?) } else { Ok(table::text(&report)) }
}

fn write(file: &Path, flag: &str, picture: &Drawing) -> anyhow::Result<()> {
    fs::write(file, picture.svg()).with_context(|| format!("cannot write {} ({flag})", file.display()))
}

fn simulate(plan: &Plan) -> anyhow::Result<Report> {
    let asked = plan.ids.draw();
    let rows = plan.contenders.iter().map(|contender| row(contender, &plan.stages, &asked));
    Ok(Report {
        ids: plan.ids.count,
        distinct: asked.len(),
        distribution: plan.ids.distribution.to_string(),
        seed: plan.ids.seed,
        seed_text: plan.ids.seed.to_string(),
        stages: fleets(&plan.stages),
        mappings: rows.collect::<anyhow::Result<_>>()?,
    })
}

fn fleets(stages: &[Stage]) -> Vec<Fleet> {
    let before = std::iter::once(None).chain(stages.iter().map(Some));
    let server =
        |member: &Member| Server { index: member.index, name: member.name.clone(), weight: member.weight };
    let fleet = |(stage, before): (&Stage, Option<&Stage>)| Fleet {
        step: stage.step.as_ref().map(Step::to_string),
        fair: before.map(|before| outcome::fair(&before.members, &stage.members)),
        replicas: stage.members.iter().map(server).collect(),
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
            let mut transfers = Transfers::between(members, &stage.members);
            for ((&from, &to), (_, times)) in had.iter().zip(&owners).zip(asked) {
                transfers.add(from as usize, to as usize, u64::from(*times));
            }
            transfers.disturbance()
        });
        outcomes.push(Outcome { balance: Balance::of(&stage.members, &counts), disturbance });
        before = Some((&stage.members, owners));
    }
    let keys: Vec<Vec<u8>> = asked.iter().take(cost::PICKS).map(|(id, _)| ids::key(*id)).collect();
    let first = stages.first().context("there is a first fleet")?;
    let measured = Cost::measure(contender, &first.members, &keys)?;
    Ok(Row { mapping: contender.name(), stages: outcomes, measured })
}

/// The ordinal of the owner of each id.
fn owners(contender: &Contender, members: &[Member], asked: &[Asked]) -> anyhow::Result<Vec<u32>> {
    let model = Model::build(contender, members)?;
    let owner = |(id, _): &Asked| {
        let owner = model.owner(&ids::key(*id)).context("an id has no owner")?;
        Ok(u32::try_from(owner)?)
    };
    asked.iter().map(owner).collect()
}
