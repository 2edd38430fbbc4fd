//! Processes whose parents have ended: `lb` as the first process of a PID namespace reaps them, and none of them delays a stop.

use std::fs;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::harness::{Lb, demo_after, eventually, is_alive, signal};

/// What `lb` logs when a replica does not end in time.
const KILLED: &str = "still runs after SIGTERM";

/// The child processes of a process, zombies too.
fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn zombies_of(pid: u32) -> Vec<u32> {
    children_of(pid).into_iter().filter(|&pid| !is_alive(pid)).collect()
}

/// The only child of a process: `lb`, started by a program that stays its parent.
pub(crate) fn lb_below(wrapper: &Lb) -> u32 {
    eventually("lb", || children_of(wrapper.pid()).first().copied())
}

/// The command with the words of `wrapper` before it.
fn wrapped(wrapper: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(wrapper[0]);
    wrapped.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    wrapped
}

/// Makes a PID namespace, in which the words after it are the first process.
pub(crate) const UNSHARE: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// `lb` as the first process of a PID namespace; `None`, with a line, if there can be none.
pub(crate) fn as_init(flags: &[&str]) -> Option<Lb> {
    has_pid_namespaces().then(|| Lb::launch_as(wrapped(&UNSHARE, &Lb::command(flags))))
}

/// Whether a PID namespace can be made; a line if not.
pub(crate) fn has_pid_namespaces() -> bool {
    let trial = wrapped(&UNSHARE, &Command::new("true")).stderr(Stdio::null()).status();
    if trial.is_ok_and(|status| status.success()) {
        return true;
    }
    #[expect(clippy::disallowed_methods, reason = "that these tests may not be skipped is said by CI alone")]
    let is_required = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_required, "no PID namespace can be made");
    eprintln!("skipped: no PID namespace can be made (unshare --pid)");
    false
}

/// `lb` below a process that inherits orphans and never reaps them (PR_SET_CHILD_SUBREAPER, prctl(2)). It ends with `lb`, and with its
/// status.
fn below_a_subreaper(flags: &[&str]) -> Lb {
    const SUBREAPER: &str = "
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
lb = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(lb, 0)[1]))
";
    Lb::launch_as(wrapped(&["python3", "-c", SUBREAPER], &Lb::command(flags)))
}

/// A shell command that leaves five orphans, which end soon and are counted in the file.
fn orphans(file: &std::path::Path) -> String {
    format!("for i in 1 2 3 4 5; do (sh -c 'echo over >> {}' &); done;", file.display())
}

#[test]
fn as_the_first_process_lb_reaps_what_it_inherits_and_stops_without_waiting() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("over");
    let Some(mut lb) = as_init(&["--command", &demo_after(&orphans(&file))]) else { return };
    lb.wait_until_all_up();
    let init = lb_below(&lb);
    eventually("the end of fifteen orphans", || {
        (fs::read_to_string(&file).unwrap_or_default().lines().count() == 15).then_some(())
    });
    eventually("no zombie", || zombies_of(init).is_empty().then_some(()));
    // Reaping takes no status from those who wait for it.
    let victim = lb.slot(2);
    let replica = children_of(init).into_iter().find(|&pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == b"SERVER_ID=server2")
    });
    signal(replica.unwrap(), "KILL");
    lb.wait_for_log("ended with signal: 9 (SIGKILL)");
    lb.wait_for_replacement(&victim);
    signal(init, "TERM");
    assert_eq!(lb.wait().code(), Some(0));
    assert!(lb.log().iter().all(|line| !line.contains(KILLED)));
}

#[test]
fn as_the_first_process_lb_reaps_what_has_left_the_group_of_its_replica() {
    let Some(mut lb) = as_init(&["--replicas", "1", "--command", &demo_after("setsid sleep 1000 &")]) else {
        return;
    };
    lb.wait_until_all_up();
    let init = lb_below(&lb);
    let sleeper = eventually("the process that has left", || {
        let named =
            |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0");
        descendants(init).into_iter().find(named)
    });
    lb.done(&serde_json::json!({"cmd": "rm", "n": 1}));
    eventually("the orphan", || children_of(init).contains(&sleeper).then_some(()));
    signal(sleeper, "KILL");
    eventually("no zombie", || zombies_of(init).is_empty().then_some(()));
    signal(init, "TERM");
    assert_eq!(lb.wait().code(), Some(0));
}

fn descendants(pid: u32) -> Vec<u32> {
    let children = children_of(pid);
    let below: Vec<u32> = children.iter().flat_map(|&child| descendants(child)).collect();
    [children, below].concat()
}

#[test]
fn a_stop_does_not_wait_for_zombies_that_another_process_has_to_reap() {
    // Under a plain shell the replica is an orphan once the shell has ended.
    for command in ["sleep 1000; true", "sleep 1000 & sleep 1000 & wait"] {
        let mut lb = below_a_subreaper(&["--replicas", "2", "--command", command]);
        let inner = lb_below(&lb);
        eventually("two replicas with a process each", || {
            let replicas = children_of(inner);
            (replicas.len() == 2 && replicas.iter().all(|&replica| children_of(replica).len() >= 2))
                .then_some(())
        });
        signal(inner, "TERM");
        assert_eq!(lb.wait().code(), Some(0));
        assert!(lb.log().iter().all(|line| !line.contains(KILLED)), "{command}");
    }
}

#[test]
fn a_stop_waits_for_an_orphan_that_still_runs() {
    let folder = TempDir::new().unwrap();
    let over = folder.path().join("over");
    let tidy =
        format!("(trap 'sleep 0.3; touch {}; exit' TERM; while :; do sleep 0.02; done) &", over.display());
    let mut lb = below_a_subreaper(&["--replicas", "1", "--command", &demo_after(&tidy)]);
    lb.wait_until_all_up();
    signal(lb_below(&lb), "TERM");
    assert_eq!(lb.wait().code(), Some(0));
    assert!(over.exists(), "it was killed before it could tidy up");
}

#[test]
fn a_replica_that_ignores_sigterm_is_killed_and_the_log_says_so() {
    let mut lb =
        Lb::launch(&["--replicas", "1", "--command", "trap '' TERM; echo deaf >&2; sleep 1000; sleep 1000"]);
    lb.wait_for_log("deaf");
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    lb.wait_for_log(KILLED);
}

#[test]
fn lb_knows_how_its_replicas_end_although_its_parent_ignores_sigchld() {
    let lb = Lb::launch_as(wrapped(
        &["bash", "-c", "trap '' CHLD; exec \"$@\"", "bash"],
        &Lb::command(&["--replicas", "1"]),
    ));
    lb.wait_until_all_up();
    signal(lb.process_of("server1"), "KILL");
    lb.wait_for_log("ended with signal: 9 (SIGKILL)");
}
