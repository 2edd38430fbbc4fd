//! Replicas in containers of a real engine: `lb` runs here, and the tests look at the containers with `docker`.
//!
//! The tests are skipped where no engine answers; they fail there when `CI` is "true". Each test has a fleet and a network of
//! its own. Only a few run at once, because an engine that starts twenty containers at once is slow with each.

mod away;
mod changes;
mod drill;
mod handoff;
mod healing;
mod ours;
mod start;
mod succession;
mod upgrade;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::harness::{Lb, eventually, text};

/// Tests that use the engine at the same time.
const TURNS: usize = 2;
/// Flags with which `lb` replaces only containers that have ended, so that a slow machine changes nothing.
pub(crate) const CALM: [&str; 4] = ["--health-timeout", "10s", "--replace-after", "1m"];

/// The output of `docker`, or its error. It also fails after a minute.
pub(crate) fn try_docker(arguments: &[&str]) -> Result<String, String> {
    said(&Command::new("timeout").args(["60", "docker"]).args(arguments).output().unwrap())
}

/// The output of `docker`, which must succeed.
#[track_caller]
pub(crate) fn docker(arguments: &[&str]) -> String {
    try_docker(arguments).unwrap_or_else(|complaint| panic!("docker {arguments:?}: {complaint}"))
}

/// The output of a command that has succeeded, or its error.
pub(crate) fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}: {}", output.status, text(&output.stderr)))
    }
}

/// The words in the output of `docker`.
#[track_caller]
pub(crate) fn words(arguments: &[&str]) -> Vec<String> {
    docker(arguments).split_whitespace().map(str::to_owned).collect()
}

/// Whether an engine answers.
fn has_engine() -> bool {
    static ANSWER: OnceLock<Result<String, String>> = OnceLock::new();
    let ask = || {
        let version = ["15", "docker", "version", "--format", "{{.Server.Version}}"];
        said(&Command::new("timeout").args(version).output().unwrap())
    };
    let complaint = match ANSWER.get_or_init(ask) {
        Ok(_) => return true,
        Err(complaint) => complaint,
    };
    #[expect(clippy::disallowed_methods, reason = "only CI forbids to skip these tests")]
    let is_required = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_required, "no engine answers: {complaint}");
    eprintln!("skipped: no engine answers: {complaint}");
    false
}

/// Builds a program or an image.
#[track_caller]
pub(crate) fn build(command: &mut Command) {
    // Cargo's settings for the build of the tests do not apply to this build.
    for name in ["CARGO_BUILD_TARGET", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR"] {
        command.env_remove(name);
    }
    let built = said(&command.stdin(Stdio::null()).output().unwrap());
    built.unwrap_or_else(|complaint| panic!("{command:?}: {complaint}"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The demo replica as a static program, built once by each test process.
pub(crate) fn backend() -> &'static Path {
    static BACKEND: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        build(Command::new(root().join(".docker/prebuild")).arg("backend"));
        root().join("target/static/backend")
    };
    BACKEND.get_or_init(make)
}

/// The image of the demo replica, built once by each test process, under a tag of its own.
pub(crate) fn image() -> &'static str {
    static IMAGE: OnceLock<(String, Child)> = OnceLock::new();
    let make = || {
        backend();
        let tag = format!("lb-test-backend:{}", std::process::id());
        let from = [".docker/Dockerfile", "--target", "prebuilt-backend", "--tag", &tag, "."];
        build(Command::new("docker").args(["build", "--file"]).args(from).current_dir(root()));
        let janitor = remove_at_the_end(&tag);
        (tag, janitor)
    };
    &IMAGE.get_or_init(make).0
}

/// Removes a tag as soon as this process has ended, even by a signal: then no Rust code runs, but a pipe closes.
fn remove_at_the_end(tag: &str) -> Child {
    let script = ["-c", r#"cat; exec docker rmi --force "$0""#, tag];
    let mut janitor = Command::new("sh");
    janitor.args(script).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// An image tag that is removed when this is dropped.
pub(crate) struct OwnImage(pub(crate) String);

impl OwnImage {
    /// Builds an image from a folder.
    #[track_caller]
    pub(crate) fn build(fleet: &Fleet, folder: &Path, dockerfile: &str) -> OwnImage {
        let own = OwnImage(format!("{}:own", fleet.name));
        std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        build(Command::new("docker").args(["build", "--tag", &own.0, "."]).current_dir(folder));
        own
    }
}

impl Drop for OwnImage {
    fn drop(&mut self) {
        let _ = try_docker(&["rmi", "--force", &self.0]);
    }
}

/// The permission to use the engine: there are [`TURNS`] of them.
struct Turn;

static TAKEN: Mutex<usize> = Mutex::new(0);
static LEFT: Condvar = Condvar::new();

impl Turn {
    fn take() -> Turn {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken =
            LEFT.wait_while(taken, |taken| *taken >= TURNS).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        LEFT.notify_one();
    }
}

/// A fleet and its network, by name. Dropping it removes the network, and all containers and volumes with the fleet's label.
pub(crate) struct Fleet {
    pub(crate) name: String,
    _turn: Option<Turn>,
}

impl Fleet {
    /// Waits for a turn; the fleet of the test about `subject`. `None` if there is no engine.
    pub(crate) fn of(subject: &str) -> Option<Fleet> {
        has_engine().then(|| Fleet { _turn: Some(Turn::take()), name: Fleet::called(subject) })
    }

    /// Another fleet for a test that has one already.
    pub(crate) fn beside(&self) -> Fleet {
        Fleet { name: format!("{}-other", self.name), _turn: None }
    }

    fn called(subject: &str) -> String {
        format!("lb-test-{}-{subject}", std::process::id())
    }

    /// Runs an `lb` that must fail; the last line of its log.
    #[track_caller]
    pub(crate) fn refusal(&self, more: &[&str]) -> String {
        let command = Lb::command(&self.flags(more));
        let limited = [OsStr::new("60"), command.get_program()].into_iter().chain(command.get_args());
        let output = Command::new("timeout").args(limited).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        log.lines().last().unwrap_or_default().to_owned()
    }

    /// The flags of `lb` for this fleet.
    pub(crate) fn flags<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let image = if more.contains(&"--image") { vec![] } else { vec!["--image", image()] };
        let fleet = ["--provider", "docker", "--fleet", &self.name, "--network", &self.name];
        [&fleet[..], &["--start-timeout", "50s"], &image, more].concat()
    }

    /// Starts an `lb` with this fleet, and waits until all replicas are in rotation.
    #[track_caller]
    pub(crate) fn start(&self, more: &[&str]) -> Lb {
        Lb::start(&self.flags(more))
    }

    fn label(&self) -> String {
        format!("label=lb.fleet={}", self.name)
    }

    /// All containers of the fleet, running or not: id, state, and the hostname in the label.
    pub(crate) fn containers(&self) -> Vec<[String; 3]> {
        let format = r#"{{.ID}} {{.State}} {{.Label "lb.hostname"}}"#;
        let list = docker(&["ps", "--all", "--no-trunc", "--filter", &self.label(), "--format", format]);
        let container = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            [(); 3].map(|()| words.next().unwrap_or_default())
        };
        // The engine may list a container that it is removing for as long as the engine runs.
        list.lines().map(container).filter(|[_, state, _]| state != "removing").collect()
    }

    /// The id of the container with this hostname.
    #[track_caller]
    pub(crate) fn id_of(&self, hostname: &str) -> String {
        let found = self.containers().into_iter().find(|[_, _, name]| name == hostname);
        found.unwrap_or_else(|| panic!("no container has the hostname {hostname}"))[0].clone()
    }

    /// The id of the container with this hostname, leaving `others` aside.
    #[track_caller]
    pub(crate) fn id_of_own(&self, hostname: &str, others: &[&str]) -> String {
        let is_it = |[id, _, name]: &[String; 3]| name == hostname && !others.contains(&id.as_str());
        self.containers().into_iter().find(is_it).unwrap_or_else(|| panic!("no container is {hostname}"))[0]
            .clone()
    }

    /// Waits until the containers are exactly the replicas of `lb`, all of them in rotation; their ids by hostname.
    #[track_caller]
    pub(crate) fn settled(&self, lb: &Lb) -> BTreeMap<String, String> {
        eventually("a container for each replica, and no other", || {
            let replicas = [lb.backends(), lb.spares()].concat();
            let mut wanted: Vec<&str> = replicas.iter().map(|replica| text(&replica["hostname"])).collect();
            wanted.sort_unstable();
            let containers = self.containers();
            let mut found: Vec<&str> = containers.iter().map(|[_, _, hostname]| &**hostname).collect();
            found.sort_unstable();
            let is_well = replicas.iter().all(|replica| replica["state"] == "up")
                && containers.iter().all(|[_, state, _]| state == "running");
            (is_well && wanted == found)
                .then(|| containers.iter().map(|[id, _, hostname]| (hostname.clone(), id.clone())).collect())
        })
    }

    /// The volumes of the fleet.
    pub(crate) fn volumes(&self) -> Vec<String> {
        words(&["volume", "ls", "--quiet", "--filter", &self.label()])
    }

    /// Whether the fleet's network is there.
    pub(crate) fn has_network(&self) -> bool {
        try_docker(&["network", "inspect", &self.name]).is_ok()
    }

    /// Fails if anything is left of the fleet.
    #[track_caller]
    pub(crate) fn is_gone(&self) {
        assert_eq!(self.containers(), <[[String; 3]; 0]>::default());
        assert_eq!(self.volumes(), <[String; 0]>::default());
        assert!(!self.has_network(), "the network is left");
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let label = self.label();
        let remove = |list: &[&str], remove: &[&str]| {
            let listed = try_docker(&[list, &["--quiet", "--filter", &label]].concat()).unwrap_or_default();
            for one in listed.split_whitespace() {
                // It may be gone already.
                let _ = try_docker(&[remove, &[one]].concat());
            }
        };
        remove(&["ps", "--all"], &["rm", "--force", "--volumes"]);
        remove(&["volume", "ls"], &["volume", "rm"]);
        let _ = try_docker(&["network", "rm", &self.name]);
    }
}

/// Index, name and hostname of every slot.
pub(crate) fn slots(lb: &Lb) -> Vec<(u64, String, String)> {
    let slot = |slot: &Value| {
        (slot["index"].as_u64().unwrap(), text(&slot["name"]).to_owned(), text(&slot["hostname"]).to_owned())
    };
    lb.backends().iter().map(slot).collect()
}

/// A few ids, enough for every slot of a small fleet.
pub(crate) fn ids() -> impl Iterator<Item = String> {
    (0..30).map(|id| (100_000 + 4_321 * id).to_string())
}

/// The name of the slot that answers each of a few ids; for an unknown replica its hostname in brackets.
pub(crate) fn homes(lb: &Lb) -> Vec<String> {
    let slots = slots(lb);
    let home = |id: String| {
        let hostname = lb.route(&id);
        let slot = slots.iter().find(|(_, _, name)| *name == hostname);
        slot.map_or_else(|| format!("({hostname})"), |(_, name, _)| name.clone())
    };
    ids().map(home).collect()
}

/// Ends an `lb` with SIGKILL, which it cannot handle.
pub(crate) fn kill(mut lb: Lb) {
    lb.signal("KILL");
    lb.wait();
}

/// Ends an `lb` with SIGTERM.
#[track_caller]
pub(crate) fn terminate(mut lb: Lb) {
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
}
