//! Child processes go along: they keep running, heal, and end with the `lb` that holds them.

use std::net::TcpStream;

use serde_json::{Value, json};

use super::load::Load;
use super::{Successor, fleet_of, mapping};
use crate::harness::{Lb, eventually, flags, is_alive, say, session, signal};
use crate::orphans::{as_init, lb_below};

/// The hostname, process and restarts of each slot.
fn fleet(lb: &Lb) -> Vec<[Value; 3]> {
    let shown = |slot: Value| ["hostname", "pid", "restarts"].map(|field| slot[field].clone());
    lb.backends().into_iter().map(shown).collect()
}

fn pids(lb: &Lb) -> Vec<u32> {
    fleet(lb).iter().map(|[_, pid, _]| u32::try_from(pid.as_u64().unwrap()).unwrap()).collect()
}

#[test]
fn children_run_on_under_load_and_heal_afterwards() {
    let mut lb = Lb::start(&["--replicas", "3", "--spares", "1", "--drain-timeout", "5s"]);
    let (mut open, _) = session(&lb, "1");
    let (before, keys) = (fleet(&lb), mapping(&lb));
    let load = Load::on(lb.data);
    let mut last = None;
    for _ in 0..3 {
        let successor = Successor::of(&lb);
        load.wait_for_more(50);
        assert_eq!((fleet(&lb), mapping(&lb)), (before.clone(), keys.clone()));
        drop(last.replace(successor));
    }
    assert_eq!(load.end(), Vec::<String>::new());
    say(&mut open, "the old one still serves it");
    drop(open);
    lb.wait_for_log("this process goes on as the guardian of its children");
    let last = last.unwrap();
    // Its end is told by the guardian.
    let victim = lb.slot(1);
    signal(u32::try_from(victim["pid"].as_u64().unwrap()).unwrap(), "KILL");
    lb.wait_for_log("process ended with signal: 9 (SIGKILL)");
    lb.wait_for_restarts(1, 1);
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": [before[1][0]], "drain": "0s"}));
    let gone = u32::try_from(before[1][1].as_u64().unwrap()).unwrap();
    eventually("the end of the removed replica", || (!is_alive(gone)).then_some(()));
    let all = pids(&lb);
    signal(last.0, "TERM");
    last.wait();
    assert!(all.iter().all(|pid| !is_alive(*pid)), "the last one has stopped all");
    lb.wait();
    assert!(TcpStream::connect(lb.data).is_err());
}

#[test]
fn the_successor_knows_the_incidents_before_it() {
    let lb = Lb::start(&["--replicas", "2"]);
    signal(pids(&lb)[0], "KILL");
    lb.wait_for_restarts(1, 1);
    let incidents = || lb.ask(&json!({"cmd": "incidents"}));
    let before = eventually("the end of the incident", || {
        Some(incidents()).filter(|all| all[0]["replaced_by"].is_string())
    });
    let _successor = Successor::of(&lb);
    assert_eq!(incidents(), before);
}

#[test]
fn commands_with_guards_and_their_output_go_along() {
    let command = "echo begun; trap 'echo asked; exit 7' TERM USR1; exec 3<&-; python3 -m http.server --bind 127.0.0.1 {port} & \
                   while :; do wait; done";
    let lb =
        Lb::start(&["--replicas", "1", "--command", command, "--health", "tcp", "--drain-timeout", "1s"]);
    lb.wait_for_log("begun");
    let successor = Successor::of(&lb);
    let again = Successor::of(&lb);
    lb.wait_for_log("this process goes on as the guardian of its children");
    signal(pids(&lb)[0], "USR1");
    lb.wait_for_log("asked");
    lb.wait_for_log("process ended with exit status: 7");
    lb.wait_for_restarts(1, 1);
    signal(again.0, "TERM");
    again.wait();
    successor.wait();
}

#[test]
fn no_child_outlives_the_lb_that_holds_it() {
    for rounds in 1..=2 {
        let mut lb = Lb::start(&["--replicas", "2", "--drain-timeout", "1s"]);
        let mut successors: Vec<Successor> = (0..rounds).map(|_| Successor::of(&lb)).collect();
        wait_until_settled_by(&lb, rounds);
        lb.wait_for_log("this process goes on as the guardian of its children");
        let all = pids(&lb);
        assert!(all.iter().all(|pid| is_alive(*pid)));
        let last = successors.pop().unwrap();
        signal(last.0, "KILL");
        eventually("the end of all replicas", || all.iter().all(|pid| !is_alive(*pid)).then_some(()));
        lb.wait();
        successors.iter().for_each(Successor::wait);
    }
}

#[track_caller]
fn wait_until_settled_by(lb: &Lb, rounds: usize) {
    eventually("settled", || {
        let settled =
            lb.log().iter().filter(|line| line.contains("upgrade: the successor has settled")).count();
        (settled == rounds).then_some(())
    });
}

#[test]
fn children_stay_with_the_old_one_if_the_new_one_dies() {
    let lb = Lb::start(&["--replicas", "2"]);
    let before = fleet(&lb);
    let successor = Successor::of(&lb);
    signal(successor.0, "KILL");
    lb.wait_for_log("upgrade: the successor has failed, and this lb goes on");
    assert_eq!(fleet(&lb), before);
    signal(pids(&lb)[0], "KILL");
    lb.wait_for_restarts(1, 1);
}

#[test]
fn the_first_process_of_a_container_stays_and_passes_signals_on() {
    let (_replicas, backends) = fleet_of(1);
    for given in [&["--replicas", "2"][..], &flags(&backends)] {
        let Some(mut lb) = as_init(&[given, &["--drain-timeout", "1s"]].concat()) else { return };
        lb.wait_for_log("ready data=");
        // Their numbers are those of the container.
        for rounds in 1..=2 {
            lb.done(&json!({"cmd": "upgrade"}));
            wait_until_settled_by(&lb, rounds - 1);
        }
        wait_until_settled_by(&lb, 2);
        lb.wait_for_log("this process goes on as the guardian of its children");
        signal(lb_below(&lb), "TERM");
        lb.wait_for_log("stopping: connections may finish");
        assert_eq!(lb.wait().code(), Some(0));
        assert!(TcpStream::connect(lb.data).is_err());
    }
}
