//! A fleet in the Swarm, as its tests see it: the `lb`s that serve it, its services, tasks and processes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};

use serde_json::{Value, json};

use super::nodes::{IMAGE, NETWORK, NODES, Swarm};
use super::{LONG, in_time};
use crate::harness::{Lb, text};

/// Flags with which `lb` replaces only tasks that have ended, so that a slow machine changes nothing.
pub(crate) const CALM: [&str; 4] = ["--health-timeout", "10s", "--replace-after", "2m"];
/// The label of the containers in whose namespaces `lb` runs.
const SEAT: &str = "lb-test.fleet";

/// A fleet. Dropping it removes its services, its config object, and the containers in whose namespaces its `lb`s run.
pub(crate) struct Fleet<'a> {
    swarm: &'a Swarm,
    pub(crate) name: String,
}

impl<'a> Fleet<'a> {
    /// A fleet of this name. It has nothing yet.
    pub(crate) fn of(swarm: &'a Swarm, name: &str) -> Self {
        Fleet { swarm, name: name.to_owned() }
    }

    /// Starts an `lb` on this node with its engine, and waits until all replicas are in rotation.
    #[track_caller]
    pub(crate) fn start(&self, node: u32, more: &[&str]) -> Lb {
        let lb = self.launch(node, more);
        self.settled(&lb);
        lb
    }

    /// Like [`Fleet::start`], with three replicas, one on each node.
    #[track_caller]
    pub(crate) fn spread(&self, node: u32, more: &[&str]) -> Lb {
        // Swarm takes the node with the fewest tasks, and the container in whose namespace `lb` runs is one.
        (1..=NODES).filter(|&other| other != node).for_each(|other| drop(self.seat(other)));
        let lb = self.start(node, &[&["--replicas", "1"], more].concat());
        // One after the other: of two services at once, Swarm may put both on one node.
        for _ in 0..2 {
            lb.done(&json!({"cmd": "add", "n": 1, "hostnames": []}));
        }
        self.settled(&lb);
        let nodes: BTreeSet<String> =
            lb.backends().iter().map(|slot| text(&slot["node"]).to_owned()).collect();
        assert_eq!(nodes.len(), 3, "{nodes:?}");
        lb
    }

    /// Like [`Fleet::start`], without waiting for the replicas.
    #[track_caller]
    pub(crate) fn launch(&self, node: u32, more: &[&str]) -> Lb {
        self.launch_with(&self.swarm.engine(node), node, more)
    }

    /// Starts an `lb` on this node with this engine.
    #[track_caller]
    pub(crate) fn launch_with(&self, engine: &str, node: u32, more: &[&str]) -> Lb {
        let of_the_fleet = ["--provider", "swarm", "--fleet", &self.name, "--network", NETWORK];
        let image = if more.contains(&"--image") { &[][..] } else { &["--image", IMAGE] };
        let flags = [&of_the_fleet, image, &["--start-timeout", "60s"], more].concat();
        self.launch_bare(engine, node, &flags)
    }

    /// Starts an `lb` on this node with this engine, and with these flags only.
    #[track_caller]
    pub(crate) fn launch_bare(&self, engine: &str, node: u32, flags: &[&str]) -> Lb {
        let seat = self.seat(node);
        let mut command = self.swarm.enter(node, &seat, env!("CARGO_BIN_EXE_lb"));
        command.env("DOCKER_HOST", engine);
        command.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]).args(flags);
        Lb::launch_elsewhere(command)
    }

    /// The label of containers that are removed with the fleet.
    pub(crate) fn seat_label(&self) -> String {
        format!("{SEAT}={}", self.name)
    }

    /// Starts a container on the network, for an `lb` to run in its namespace; its id.
    #[track_caller]
    pub(crate) fn seat(&self, node: u32) -> String {
        self.swarm.run(node, &["--label", &self.seat_label(), "--network", NETWORK, IMAGE])
    }

    /// Waits until every slot and spare of this `lb` is up, each with another task, and Swarm means these tasks to run and no others.
    /// Returns the task of each hostname.
    #[track_caller]
    pub(crate) fn settled(&self, lb: &Lb) -> BTreeMap<String, String> {
        in_time("a running task for each replica, and no other", || {
            let replicas = [lb.backends(), lb.spares()].concat();
            let are_up = replicas.iter().all(|replica| replica["state"] == "up");
            let known = replicas.iter().filter_map(|replica| {
                Some((text(&replica["hostname"]).to_owned(), replica["task"].as_str()?.to_owned()))
            });
            let known: BTreeMap<String, String> = known.collect();
            (are_up && known.len() == replicas.len() && known == self.tasks()).then_some(known)
        })
    }

    /// The tasks that Swarm means to run, by the hostname of their service.
    pub(crate) fn tasks(&self) -> BTreeMap<String, String> {
        let tasks = |(hostname, id): (String, String)| {
            let wanted = ["service", "ps", "--no-trunc", "--quiet", "--filter", "desired-state=running", &id];
            let tasks = self.swarm.manage(&wanted).unwrap_or_default();
            tasks.split_whitespace().map(|task| (hostname.clone(), task.to_owned())).collect::<Vec<_>>()
        };
        self.services().into_iter().flat_map(tasks).collect()
    }

    /// The ids of the services of the fleet, by the hostname in their label.
    pub(crate) fn services(&self) -> BTreeMap<String, String> {
        let filter = format!("label=lb.fleet={}", self.name);
        let list = ["service", "ls", "--filter", &filter, "--format", "{{.Name}} {{.ID}}"];
        let listed = self.swarm.manage(&list).unwrap_or_default();
        let service = |line: &str| {
            let (name, id) = line.split_once(' ')?;
            Some((name.strip_prefix(&format!("{}-", self.name))?.to_owned(), id.to_owned()))
        };
        listed.lines().filter_map(service).collect()
    }

    /// The node on which the replica of a slot runs, and the id of its container.
    #[track_caller]
    pub(crate) fn container(&self, slot: &Value) -> (u32, String) {
        let node = self.swarm.number(text(&slot["node"]));
        let filter = format!("label=com.docker.swarm.task.id={}", text(&slot["task"]));
        (node, self.swarm.docker(node, &["ps", "--quiet", "--no-trunc", "--filter", &filter]))
    }

    /// The process of the replica of a slot.
    #[track_caller]
    pub(crate) fn process(&self, slot: &Value) -> u32 {
        let (node, container) = self.container(slot);
        self.swarm.process(node, &container)
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (hostname, id) in self.services() {
                let tasks = self.swarm.manage(&["service", "ps", "--no-trunc", &id]);
                eprintln!("--- tasks of {hostname} ---\n{}", tasks.unwrap_or_default());
            }
            return;
        }
        for id in self.services().values() {
            let _ = self.swarm.manage(&["service", "rm", id]);
        }
        let _ = self.swarm.manage(&["config", "rm", &format!("lb.{}", self.name)]);
        let filter = format!("label={SEAT}={}", self.name);
        for node in 1..=NODES {
            let seats = self.swarm.try_docker(node, &["ps", "--all", "--quiet", "--filter", &filter]);
            for seat in seats.unwrap_or_default().split_whitespace() {
                let _ = self.swarm.try_docker(node, &["rm", "--force", seat]);
            }
        }
    }
}

/// The first choice of each of many ids.
pub(crate) fn choices(lb: &Lb) -> Vec<String> {
    let first = |id: u32| {
        let explanation = lb.done(&json!({"cmd": "explain", "id": id.to_string()}));
        text(&explanation["candidates"][0]["name"]).to_owned()
    };
    (0..300).map(|id| first(100_000 + 577 * id)).collect()
}

/// The answer of an `lb`; an `add` waits for its replica, as long as a Swarm may need.
pub(crate) fn ask(lb: &Lb, command: &Value) -> Value {
    let mut stream = lb.dial(lb.control);
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(format!("{command}\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command}: {line:?}: {error}"))
}
