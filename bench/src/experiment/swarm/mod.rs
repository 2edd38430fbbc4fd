//! A-3 on a Docker Swarm of several nodes on this machine: kills with and without a spare, a minute in which nothing happens, changes at several
//! `lb`s, and a node without power.

mod agreement;
mod crash;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::time::sleep;

use super::{Setting, Subject, drill};
use crate::args::{DrillArgs, SwarmArgs};
use crate::control::Control;
use crate::data::{Data, Healing, Quiet};
use crate::shown::Bar;
use crate::stand::{Calls, Counts, Lb, Swarm, TOKEN};

/// For this time after the death of a replica, a request may still fail with it.
const GRACE: Duration = Duration::from_millis(5);
/// How long calls are counted while nothing happens.
const QUIET: Duration = Duration::from_secs(60);
/// The replicas of a fleet.
const REPLICAS: &str = "3";

/// The `lb`s of one fleet.
struct Fleet<'a> {
    swarm: &'a Swarm,
    name: String,
    lbs: Vec<Lb>,
    calls: Vec<Calls>,
    /// Where the sockets of `calls` are.
    _folder: TempDir,
}

/// Builds the Swarm, and measures all of it.
pub(crate) async fn run(
    setting: Setting<'_>,
    drill: DrillArgs,
    args: &SwarmArgs,
    data: &mut Data,
) -> anyhow::Result<()> {
    let healing = data.a3.insert(Healing::default());
    let balancers = usize::from(args.balancers);
    let swarm = Swarm::ready(&args.nodes, (&setting.args.image, &args.replica), balancers).await?;
    swarm.enter()?;
    let found = healing.swarm.insert(Default::default());
    (found.nodes, found.balancers) = (swarm.count as u64, balancers as u64);
    if drill.kills > 0 {
        let fleet = Fleet::start(setting, &swarm, "spare", &["--spares", "1"]).await?;
        drill::run(setting, drill, &fleet.subject()?, found.spare.insert(Default::default())).await?;
        fleet.end().await?;
    }
    let fleet = Fleet::start(setting, &swarm, "plain", &[]).await?;
    let subject = fleet.subject()?;
    if drill.kills > 0 {
        drill::run(setting, drill, &subject, healing.drill.insert(Default::default())).await?;
    }
    drill::all_up(&mut subject.control().await?).await?;
    found.quiet = fleet.quiet().await;
    setting.go_on()?;
    if balancers > 1 {
        found.agreement = Some(agreement::measure(setting, &fleet).await?);
    }
    setting.go_on()?;
    crash::run(setting, drill.rate, &subject, &swarm, found.crash.insert(Default::default())).await?;
    fleet.end().await
}

impl<'a> Fleet<'a> {
    /// Starts an `lb` in each place of the Swarm, one after the other: the first one makes the fleet.
    async fn start(
        setting: Setting<'_>,
        swarm: &'a Swarm,
        name: &str,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let name = format!("{}-{name}", swarm.name);
        let mut fleet = Fleet { swarm, name, lbs: Vec::new(), calls: Vec::new(), _folder: folder };
        let own = ["--provider", "swarm", "--fleet", &fleet.name, "--network", &swarm.name];
        let others = ["--image", &setting.args.image, "--replicas", REPLICAS, "--mapping", "ring"];
        let flags: Vec<String> = [&own[..], &others, more].concat().into_iter().map(str::to_owned).collect();
        for place in &swarm.places {
            let socket = fleet._folder.path().join(format!("{}.sock", place.node));
            let calls = Calls::count(socket, swarm.nodes.socket(place.node))?;
            fleet.lbs.push(Lb::start_at(place, &calls.host(), &flags).await?);
            fleet.calls.push(calls);
            setting.go_on()?;
        }
        Ok(fleet)
    }

    /// What the load is sent to: all `lb`s, in turn.
    fn subject(&self) -> anyhow::Result<Subject> {
        let (first, others) = self.lbs.split_first().context("there is no lb")?;
        Ok(Subject {
            others: others.iter().map(|lb| lb.data).collect(),
            token: Some(TOKEN.to_owned()),
            grace: GRACE,
            nodes: Some(self.swarm.nodes.clone()),
            ..Subject::at(first.data, Some(first.control))
        })
    }

    /// A connection to the control port of each `lb`.
    async fn controls(&self) -> anyhow::Result<Vec<Control>> {
        let mut controls = Vec::new();
        for lb in &self.lbs {
            controls.push(Control::connect(lb.control, Some(TOKEN.to_owned())).await?);
        }
        Ok(controls)
    }

    /// Counts the calls of each `lb` for a while in which nothing happens.
    async fn quiet(&self) -> Vec<Quiet> {
        let bar = Bar::new(QUIET.as_secs(), "seconds of rest", "seconds");
        let (before, begun) = (self.counts(), Instant::now());
        while begun.elapsed() < QUIET {
            sleep(Duration::from_secs(1)).await;
            bar.step(0);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let quiet = |(before, after): (&Counts, Counts)| Quiet { seconds, calls: difference(before, after) };
        before.iter().zip(self.counts()).map(quiet).collect()
    }

    fn counts(&self) -> Vec<Counts> {
        self.calls.iter().map(Calls::counts).collect()
    }

    /// Ends all `lb`s, and removes the fleet.
    async fn end(mut self) -> anyhow::Result<()> {
        self.lbs.clear();
        self.swarm.remove_fleet(&self.name).await
    }
}

/// The calls that are new.
fn difference(before: &Counts, after: Counts) -> Counts {
    let new = after.into_iter().map(|(call, count)| {
        let old = before.get(&call).copied().unwrap_or_default();
        (call, count - old)
    });
    new.filter(|(_, count)| *count > 0).collect::<BTreeMap<_, _>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_calls_count() {
        let counts = |counts: &[(&str, u64)]| -> Counts {
            counts.iter().map(|&(call, count)| (call.to_owned(), count)).collect()
        };
        let before = counts(&[("GET /tasks", 7), ("GET /nodes", 1)]);
        let after = counts(&[("GET /tasks", 9), ("GET /nodes", 1), ("GET /events", 1)]);
        assert_eq!(difference(&before, after), counts(&[("GET /tasks", 2), ("GET /events", 1)]));
    }
}
