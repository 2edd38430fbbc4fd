//! The experiments of the classic assignment, as measurements.
//!
//! Each starts an `lb`, or takes a running load balancer ([`Subject`]), sends load to it, and adds each result to the
//! [data](crate::data::Data) at once, so that an error loses no result. Nothing is judged here.

pub(crate) mod balance;
mod checks;
mod drill;
pub(crate) mod healing;
pub(crate) mod swarm;
mod under_load;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use crate::args::ExperimentArgs;
use crate::control::Control;
use crate::data::Variant;
use crate::load::{Amount, Exchange, Ids, Loop, Outcome, Plan};
use crate::shown;
use crate::stand::{Lb, Nodes, Provider};

/// Timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The flags of an experiment, and the signal to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) args: &'a ExperimentArgs,
    pub(crate) stop: &'a CancellationToken,
}

impl Setting<'_> {
    /// The load of A-1: requests for `/home` with random ids, each on a new connection.
    fn plan(&self, target: SocketAddr) -> Plan {
        Plan {
            target,
            others: Vec::new(),
            exchange: Exchange::Get { path: "/home".to_owned() },
            keep_open: false,
            ids: Ids::Random,
            pace: Loop::Closed,
            connections: self.args.connections,
            amount: Amount::Requests(self.args.requests),
            warm_up: Duration::ZERO,
            timeout: TIMEOUT,
            threads: 1,
            seed: self.args.seed,
            keep_records: false,
        }
    }

    /// Sends a load; `title` is shown meanwhile.
    async fn send(&self, plan: Plan, title: &str) -> anyhow::Result<Outcome> {
        shown::watched(&Arc::new(plan), title, self.stop).await
    }

    /// An error if the experiment should stop; call it between two steps.
    fn go_on(&self) -> anyhow::Result<()> {
        if self.stop.is_cancelled() {
            bail!("interrupted");
        }
        Ok(())
    }
}

/// The load balancer of an experiment: one that was started, and that ends when this is dropped, or a running one.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) data: SocketAddr,
    /// More data ports: connections go to all of them in turn.
    others: Vec<SocketAddr>,
    /// Its control port; `None` if it is not an `lb`.
    pub(crate) control: Option<SocketAddr>,
    token: Option<String>,
    /// For this time after the death of a replica, a new request may still fail with it.
    grace: Duration,
    /// The nodes of the Swarm that starts its replicas.
    nodes: Option<Nodes>,
    /// The `lb` that was started; it ends when this is dropped.
    _own: Option<Lb>,
}

impl Subject {
    /// The running load balancer of `--target`, if it is given.
    fn running(args: &ExperimentArgs) -> Option<Self> {
        let token = args.control_token.clone();
        args.target.map(|data| Subject { token, ..Subject::at(data, args.control) })
    }

    fn at(data: SocketAddr, control: Option<SocketAddr>) -> Self {
        let grace = Duration::ZERO;
        Subject { data, others: Vec::new(), control, token: None, grace, nodes: None, _own: None }
    }

    /// Starts an `lb` with these flags.
    async fn start(args: &ExperimentArgs, flags: &[String]) -> anyhow::Result<Self> {
        let lb = Lb::start(&[&provider(args)[..], flags].concat(), None).await?;
        let subject = Subject::at(lb.data, Some(lb.control));
        Ok(Subject { _own: Some(lb), ..subject })
    }

    /// The running load balancer of `--target`, or a new `lb` with `n` replicas.
    async fn of(args: &ExperimentArgs, variant: &Variant, n: usize) -> anyhow::Result<Self> {
        if let Some(running) = Subject::running(args) {
            return Ok(running);
        }
        let replicas = ["--replicas".to_owned(), n.to_string()];
        Subject::start(args, &[&variant.flags[..], &replicas].concat()).await
    }

    /// Since when a task of the Swarm runs; `None` if there is no Swarm, or the task has ended again.
    async fn runs_since(&self, task: Option<&str>) -> anyhow::Result<Option<SystemTime>> {
        match (&self.nodes, task) {
            (Some(nodes), Some(task)) => nodes.runs_since(task).await,
            _ => Ok(None),
        }
    }

    /// Connects to its control port.
    async fn control(&self) -> anyhow::Result<Control> {
        let address = self.control.context("this experiment needs the control port of an lb (--control)")?;
        Control::connect(address, self.token.clone()).await
    }
}

/// The flags of `lb` that choose its provider.
fn provider(args: &ExperimentArgs) -> Vec<String> {
    let flags = match args.provider {
        // An lb on a Swarm is started where it is measured.
        Provider::Process | Provider::Swarm => return Vec::new(),
        Provider::Docker => {
            let own = format!("bench-{}", std::process::id());
            ["--provider", "docker", "--image", &args.image, "--fleet", &own, "--network", &own]
                .map(str::to_owned)
        }
    };
    flags.to_vec()
}

/// A mapping of `lb` with its default parameters.
pub(crate) fn mapping(name: &str) -> Variant {
    Variant { name: name.to_owned(), flags: vec!["--mapping".to_owned(), name.to_owned()] }
}
