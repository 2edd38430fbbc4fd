//! The nodes: a Swarm of several engines, each in namespaces of its own (`nodes.sh`).
//!
//! A helper process takes all of it down when its standard input closes: when a [`Swarm`] is dropped, and when this process ends in
//! any way.

use std::ops::Deref;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::in_time;
use crate::containers::{backend, said};
use crate::namespaces::Namespace;

/// The image of the demo replica, in each node.
pub(crate) const IMAGE: &str = "lb-backend:test";
/// The network on which replicas and `lb` are.
pub(crate) const NETWORK: &str = "fleets";
/// The script that makes the nodes.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/swarm/nodes.sh");

/// The Swarm of this process.
static PRESENT: Mutex<Option<Swarm>> = Mutex::new(None);

/// A Swarm of three nodes.
pub(crate) struct Swarm {
    folder: tempfile::TempDir,
    prefix: String,
    managers: u32,
    janitor: Child,
}

/// The permission to use the Swarm of this process: one test has it at a time.
pub(crate) struct Turn {
    present: MutexGuard<'static, Option<Swarm>>,
    /// Whether no other test can use this Swarm.
    is_spent: bool,
}

impl Turn {
    /// A Swarm in which every node is a manager. It is left for the next test, so nodes and managers have to stay as they are. `None`
    /// where no Swarm can be made.
    pub(crate) fn shared() -> Option<Turn> {
        let mut turn = Turn { present: lock(), is_spent: false };
        if turn.present.as_ref().is_none_or(|swarm| swarm.managers != NODES) {
            *turn.present = None;
            *turn.present = Some(Swarm::up(NODES)?);
        }
        Some(turn)
    }

    /// A Swarm in which the first so many nodes are managers, for a test that may do with it what it likes.
    pub(crate) fn own(managers: u32) -> Option<Turn> {
        let mut turn = Turn { present: lock(), is_spent: true };
        *turn.present = None;
        *turn.present = Some(Swarm::up(managers)?);
        Some(turn)
    }
}

impl Deref for Turn {
    type Target = Swarm;

    fn deref(&self) -> &Swarm {
        self.present.as_ref().unwrap()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_spent || std::thread::panicking() {
            *self.present = None;
        }
    }
}

fn lock() -> MutexGuard<'static, Option<Swarm>> {
    PRESENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many nodes a Swarm has.
pub(crate) const NODES: u32 = 3;

impl Swarm {
    /// Makes a Swarm with the image of the demo replica and the network; `None` where that is not possible, unless `CI` is set.
    fn up(managers: u32) -> Option<Swarm> {
        // It complains, and is removed again.
        drop(Namespace::make("swarm")?);
        if let Err(missing) = Command::new("dockerd").arg("--version").output() {
            assert!(std::env::var_os("CI").is_none(), "dockerd cannot be run: {missing}");
            eprintln!("skipped: a Swarm takes dockerd, which is not installed");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("swarm").tempdir().unwrap();
        // After the letter, no prefix of another process is part of this one.
        let prefix = format!("t{}n", std::process::id());
        let swarm = Swarm { janitor: janitor(folder.path(), &prefix), folder, prefix, managers };
        swarm.script(&["up"]);
        swarm.image(IMAGE, backend());
        swarm.docker(1, &["network", "create", "--driver", "overlay", "--attachable", NETWORK]);
        Some(swarm)
    }

    /// The output of the script, which must succeed.
    #[track_caller]
    pub(crate) fn script(&self, arguments: &[&str]) -> String {
        let mut script = Command::new("timeout");
        let output = self.settings(script.arg("180").arg(SCRIPT).args(arguments)).output().unwrap();
        said(&output).unwrap_or_else(|complaint| panic!("nodes.sh {arguments:?}: {complaint}"))
    }

    fn settings<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        settings(command, self.folder.path(), &self.prefix).env("SW_MANAGERS", self.managers.to_string())
    }

    /// Makes an image of one static program, in every node.
    pub(crate) fn image(&self, tag: &str, program: &Path) {
        self.script(&["image", tag, program.to_str().unwrap()]);
    }

    /// The output of `docker` at the engine of a node, or its error. It also fails after a minute.
    pub(crate) fn try_docker(&self, node: u32, arguments: &[&str]) -> Result<String, String> {
        let mut docker = Command::new("timeout");
        docker.args(["60", "docker"]).args(arguments).env("DOCKER_HOST", self.engine(node));
        said(&docker.output().unwrap())
    }

    /// The output of `docker` at the engine of a node, which must succeed.
    #[track_caller]
    pub(crate) fn docker(&self, node: u32, arguments: &[&str]) -> String {
        let said = self.try_docker(node, arguments);
        said.unwrap_or_else(|complaint| panic!("node {node}: docker {arguments:?}: {complaint}"))
    }

    /// Starts a container; its id. A node leaves an overlay network with the last container there, and an engine that is asked for a
    /// container meanwhile may not find the network: then it is asked again.
    #[track_caller]
    pub(crate) fn run(&self, node: u32, arguments: &[&str]) -> String {
        let run = [&["run", "--detach"], arguments].concat();
        in_time("that the engine finds the network", || match self.try_docker(node, &run) {
            Err(complaint) if complaint.contains("network") && complaint.contains("not found") => None,
            said => Some(said.unwrap_or_else(|complaint| panic!("node {node}: docker {run:?}: {complaint}"))),
        })
    }

    /// The output of `docker` at the first manager that replies, or its error.
    pub(crate) fn manage(&self, arguments: &[&str]) -> Result<String, String> {
        let mut managers = 1..=self.managers;
        let answer = |node| self.try_docker(node, arguments);
        let first = answer(managers.next().unwrap());
        managers.fold(first, |said, node| said.or_else(|_| answer(node)))
    }

    /// The process of the engine of a node.
    #[track_caller]
    pub(crate) fn engine_process(&self, node: u32) -> u32 {
        let file = self.folder.path().join(format!("nodes/{node}/pid"));
        let parent = std::fs::read_to_string(file).unwrap().trim().to_owned();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        children.trim().parse().unwrap()
    }

    /// Where the engine of a node listens, as in `DOCKER_HOST`.
    pub(crate) fn engine(&self, node: u32) -> String {
        format!("unix://{}/{node}/docker.sock", self.folder.path().join("nodes").display())
    }

    /// The number of the node of this name.
    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u32 {
        let number = name.strip_prefix(&self.prefix).and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("no node has the name {name}"))
    }

    /// The name of a node.
    pub(crate) fn name(&self, node: u32) -> String {
        format!("{}{node}", self.prefix)
    }

    /// The main process of a container, as this machine sees it.
    #[track_caller]
    pub(crate) fn process(&self, node: u32, container: &str) -> u32 {
        self.script(&["pid", &node.to_string(), container]).parse().unwrap()
    }

    /// A command in the network namespace of a container.
    pub(crate) fn enter(&self, node: u32, container: &str, program: &str) -> Command {
        let mut command = Command::new(SCRIPT);
        self.settings(&mut command).args(["enter", &node.to_string(), container, program]);
        command
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
    }
}

fn settings<'a>(command: &'a mut Command, folder: &Path, prefix: &str) -> &'a mut Command {
    command.env("SW_DIR", folder.join("nodes")).env("SW_PREFIX", prefix).env("SW_NODES", NODES.to_string())
}

/// Takes the Swarm in this folder down when its standard input closes.
fn janitor(folder: &Path, prefix: &str) -> Child {
    let mut janitor = Command::new("sh");
    settings(&mut janitor, folder, prefix).args(["-c", r#"cat; "$0" down; rmdir "${SW_DIR%/*}""#, SCRIPT]);
    // In a group of its own: a Ctrl-C for the tests is not for the one who cleans up after them.
    janitor
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
