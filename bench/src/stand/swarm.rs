//! A Docker Swarm of several nodes on this machine, and `lb`s on its overlay network.
//!
//! The nodes are those of a script (`lb/tests/it/swarm/nodes.sh`), which needs root. Overlay addresses can be reached only from
//! containers. So there is a container on the network for each `lb`, which does nothing: `lb` runs in its network namespace, and
//! `bench` moves into the first of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use rustix::fd::AsFd as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a command of the script may take; to build a Swarm takes longest.
const PATIENCE: Duration = Duration::from_secs(120);
/// The variable that names the folder of a Swarm that is up.
const FOLDER: &str = "SW_DIR";
/// Ended tasks that Swarm keeps for each replica.
const KEPT_TASKS: &str = "50";

/// The commands of the script, for one Swarm.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    script: PathBuf,
    folder: PathBuf,
    settings: BTreeMap<&'static str, String>,
}

impl Nodes {
    /// The socket of a node's engine.
    pub(crate) fn socket(&self, node: usize) -> PathBuf {
        self.folder.join(node.to_string()).join("docker.sock")
    }

    /// Runs `docker` against a node; its output.
    ///
    /// # Errors
    /// It fails, or takes too long.
    pub(crate) async fn docker(&self, node: usize, arguments: &[&str]) -> anyhow::Result<String> {
        self.run(&[&["docker", &node.to_string()], arguments].concat()).await
    }

    /// Cuts the power of a node.
    ///
    /// # Errors
    /// The node does not end.
    pub(crate) async fn crash(&self, node: usize) -> anyhow::Result<()> {
        self.run(&["crash", &node.to_string()]).await.map(drop)
    }

    /// Starts a node that has crashed.
    ///
    /// # Errors
    /// Its engine does not answer.
    pub(crate) async fn boot(&self, node: usize) -> anyhow::Result<()> {
        self.run(&["boot", &node.to_string()]).await.map(drop)
    }

    /// When a task was seen to run by its node; `None` if it does not run.
    ///
    /// # Errors
    /// The manager does not answer.
    pub(crate) async fn runs_since(&self, task: &str) -> anyhow::Result<Option<SystemTime>> {
        let format = "{{.Status.State}} {{json .Status.Timestamp}}";
        let said = self.docker(1, &["inspect", "--type", "task", "--format", format, task]).await?;
        let Some(("running", time)) = said.split_once(' ') else { return Ok(None) };
        Ok(Some(humantime::parse_rfc3339(time.trim_matches('"'))?))
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.script);
        command.args(arguments).envs(&self.settings).env(FOLDER, &self.folder);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(PATIENCE, output).await.map_err(anyhow::Error::from);
        let said = output.and_then(|output| said(&output?));
        said.with_context(|| format!("{} {}", self.script.display(), arguments.join(" ")))
    }

    /// Runs a command to its end where nothing can be awaited.
    fn run_at_the_end(&self, arguments: &[&str]) {
        let mut command = std::process::Command::new(&self.script);
        command.args(arguments).envs(&self.settings).env(FOLDER, &self.folder);
        // What is gone already cannot be removed.
        let _ = command.stdin(Stdio::null()).output();
    }
}

fn said(output: &Output) -> anyhow::Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        bail!("{}: {}", output.status, text(&output.stderr));
    }
    Ok(text(&output.stdout))
}

/// A place for an `lb`: the network namespace of a container on the overlay.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its node.
    pub(crate) node: usize,
    /// A process in the namespace.
    pub(crate) pid: u32,
    /// Its address in the overlay.
    pub(crate) address: IpAddr,
}

impl Place {
    /// An address with a free port.
    pub(crate) fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.address, 0)
    }
}

/// A Swarm with an overlay network and places on it. Dropping it removes what was made for it.
#[derive(Debug)]
pub(crate) struct Swarm {
    pub(crate) nodes: Nodes,
    /// How many nodes there are. The last one is a worker.
    pub(crate) count: usize,
    /// The name of the network, and the beginning of all other names.
    pub(crate) name: String,
    pub(crate) places: Vec<Place>,
    /// The folder of a Swarm that was built here; it ends with this value.
    own: Option<TempDir>,
}

impl Swarm {
    /// Takes the Swarm in the folder `SW_DIR`, or builds one of three nodes or more; loads `replica`, a static program, as `image`
    /// into all nodes; and makes a place on each of the first `places` nodes, which have to be managers.
    ///
    /// # Errors
    /// The script or the program is not there, this user is not root, or the Swarm that is up is too small.
    pub(crate) async fn ready(
        script: &Path,
        (image, replica): (&str, &Path),
        places: usize,
    ) -> anyhow::Result<Self> {
        let script = script.canonicalize();
        let script = script.context("--nodes: the script of the nodes is not there")?;
        if !replica.is_file() {
            bail!(
                "--replica: there is no {}: expected a static program, such as `.docker/prebuild backend` builds",
                replica.display()
            );
        }
        let mut swarm = Swarm::take_or_build(script, places).await?;
        let replica = replica.canonicalize()?;
        swarm.nodes.run(&["image", image, &replica.to_string_lossy()]).await?;
        swarm
            .nodes
            .docker(1, &["network", "create", "--driver", "overlay", "--attachable", &swarm.name])
            .await?;
        for node in 1..=places {
            let place = swarm.place(node, image).await?;
            swarm.places.push(place);
        }
        Ok(swarm)
    }

    async fn take_or_build(script: PathBuf, places: usize) -> anyhow::Result<Self> {
        let name = format!("bench-{}", std::process::id());
        let given = std::env::var_os(FOLDER).map(PathBuf::from).filter(|folder| folder.join("1").is_dir());
        if let Some(folder) = given {
            let nodes = Nodes { script, folder, settings: BTreeMap::new() };
            let roles = nodes.docker(1, &["node", "ls", "--format", "{{.ManagerStatus}}"]).await?;
            let count = roles.lines().count();
            let managers = roles.lines().filter(|role| !role.is_empty()).count();
            if managers < places || managers >= count {
                bail!(
                    "{FOLDER}: this Swarm has {managers} managers among {count} nodes: expected {places} managers or more, and a worker"
                );
            }
            return Ok(Swarm { nodes, count, name, places: Vec::new(), own: None });
        }
        let own = tempfile::Builder::new().prefix("bench-swarm-").tempdir()?;
        let folder = own.path().join("nodes");
        let count = (places + 1).max(3);
        let mut settings: BTreeMap<&str, String> = [("SW_NODES", count), ("SW_MANAGERS", places)]
            .map(|(name, value)| (name, value.to_string()))
            .into();
        settings.insert("SW_TASKS", KEPT_TASKS.to_owned());
        let nodes = Nodes { script, folder, settings };
        let swarm = Swarm { nodes, count, name, places: Vec::new(), own: Some(own) };
        // If this fails, dropping the value removes what there is.
        swarm.nodes.run(&["up"]).await?;
        Ok(swarm)
    }

    async fn place(&self, node: usize, image: &str) -> anyhow::Result<Place> {
        let (name, network) = (format!("{}-place", self.name), self.name.as_str());
        // Its program listens on a port that nothing else uses.
        let run = ["run", "--detach", "--name", &name, "--network", network, "--env", "PORT=9", image];
        self.nodes.docker(node, &run).await?;
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let address = self.nodes.docker(node, &["inspect", "--format", &format, &name]).await?;
        let pid = self.nodes.run(&["pid", &node.to_string(), &name]).await?;
        let address = address.parse().with_context(|| format!("the address of {name}: {address}"))?;
        Ok(Place {
            node,
            pid: pid.parse().with_context(|| format!("the process of {name}: {pid}"))?,
            address,
        })
    }

    /// Moves this thread into the first place, and with it all threads and programs that it starts from now on.
    ///
    /// # Errors
    /// This user is not root.
    pub(crate) fn enter(&self) -> anyhow::Result<()> {
        let place = self.places.first().context("there is no place")?;
        let network = File::open(format!("/proc/{}/ns/net", place.pid))?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .context("cannot enter the network of a container (it needs root)")
    }

    /// Removes the services and the config object of a fleet. No `lb` of it must run.
    ///
    /// # Errors
    /// The manager refuses.
    pub(crate) async fn remove_fleet(&self, fleet: &str) -> anyhow::Result<()> {
        let label = format!("label=lb.fleet={fleet}");
        let services = self.nodes.docker(1, &["service", "ls", "--quiet", "--filter", &label]).await?;
        let services: Vec<&str> = services.split_whitespace().collect();
        if !services.is_empty() {
            self.nodes.docker(1, &[&["service", "rm"], &services[..]].concat()).await?;
        }
        self.nodes.docker(1, &["config", "rm", &format!("lb.{fleet}")]).await.map(drop)
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        if self.own.is_some() {
            return self.nodes.run_at_the_end(&["down"]);
        }
        let container = format!("{}-place", self.name);
        for place in &self.places {
            self.nodes.run_at_the_end(&["docker", &place.node.to_string(), "rm", "--force", &container]);
        }
        self.nodes.run_at_the_end(&["docker", "1", "network", "rm", &self.name]);
    }
}
