//! A reload of an `lb` of a Swarm: the slots and the mapping are the fleet's, everything else is that `lb`'s. All of it is changed, or
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::fleet::{Fleet, ask, choices};
use super::in_time;
use super::nodes::{IMAGE, NETWORK, NODES, Swarm, Turn};
use super::room::room_for_one;
use crate::flags::{command, end};
use crate::harness::{Lb, eventually, id_for, say, session, signal, text};
use crate::load::under_load;

/// An `lb` that has all it knows from a file.
struct Case<'a> {
    fleet: &'a Fleet<'a>,
    folder: TempDir,
    lb: Lb,
}

impl<'a> Case<'a> {
    /// An `lb` on this node, which says this beside what each `lb` of the fleet says, and has its replicas in rotation.
    #[track_caller]
    fn start(swarm: &Swarm, fleet: &'a Fleet<'a>, node: u32, says: &str) -> Case<'a> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lb.toml");
        fs::write(&path, of(fleet, says)).unwrap();
        let socket = format!("unix:{}", folder.path().join("control.sock").display());
        let flags = ["--config", path.to_str().unwrap(), "--control", &socket];
        let lb = fleet.launch_bare(&swarm.engine(node), node, &flags);
        fleet.settled(&lb);
        Case { fleet, folder, lb }
    }

    fn path(&self) -> String {
        self.folder.path().join("lb.toml").display().to_string()
    }

    fn write(&self, says: &str) {
        fs::write(self.path(), of(self.fleet, says)).unwrap();
    }

    /// Has the file loaded; what was changed.
    #[track_caller]
    fn reload(&self) -> Value {
        let answer = self.answer();
        assert_eq!(answer["status"], "successful", "{answer}");
        answer["message"].clone()
    }

    #[track_caller]
    fn refused(&self) -> String {
        let answer = self.answer();
        assert_eq!(answer["status"], "failure", "{answer}");
        text(&answer["message"]).to_owned()
    }

    fn answer(&self) -> Value {
        let begun = Instant::now();
        let answer = ask(&self.lb, &json!({"cmd": "reload"}));
        println!("reload: {} after {:?}: {}", answer["status"], begun.elapsed(), answer["message"]);
        answer
    }

    /// What `lb reload --dry-run` says.
    #[track_caller]
    fn dry_run(&self) -> Vec<String> {
        let control = format!("unix:{}", self.folder.path().join("control.sock").display());
        let (code, stdout, stderr) =
            end(command(&["reload", "--dry-run", "--control", &control], &[("PATH", "/")]));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        stdout.lines().map(str::to_owned).collect()
    }

    /// What a reload could change, as far as this `lb` shows it.
    fn state(&self) -> (Vec<String>, Value, Vec<String>) {
        (self.lb.hostnames(), self.lb.done(&json!({"cmd": "mapping"})), choices(&self.lb))
    }

    fn epoch(&self) -> Value {
        self.lb.done(&json!({"cmd": "backends"}))["epoch"].clone()
    }
}

/// The file of an `lb` of this fleet.
fn of(fleet: &Fleet<'_>, says: &str) -> String {
    // A key that is said differs from the usual one.
    let usual = [
        ("provider", "swarm"),
        ("fleet", &fleet.name),
        ("network", NETWORK),
        ("image", IMAGE),
        ("start-timeout", "60s"),
        ("health-timeout", "10s"),
        ("replace-after", "2m"),
        ("drain-timeout", "20s"),
    ];
    let is_said = |key: &str| says.lines().any(|line| line.starts_with(&format!("{key} =")));
    let usual = usual.iter().filter(|(key, _)| !is_said(key));
    let lines: String = usual.map(|(key, value)| format!("{key} = \"{value}\"\n")).collect();
    format!("{lines}{says}\n")
}

/// Waits until the fleet has services for these slots, and for no others.
#[track_caller]
fn has_services(fleet: &Fleet<'_>, slots: &[&str]) {
    let wanted: BTreeSet<String> = slots.iter().map(|&slot| slot.to_owned()).collect();
    let mut seen = BTreeSet::new();
    in_time("the services of these slots, and no others", || {
        let services: BTreeSet<String> = fleet.services().into_keys().collect();
        if services != seen {
            println!("services: {services:?}");
            seen.clone_from(&services);
        }
        (services == wanted).then_some(())
    });
}

/// Keys have changed their slots as a plan says, and no other has.
#[track_caller]
fn moved_as_planned(before: &[String], after: &[String], plan: &Value) {
    let planned: BTreeSet<(&str, &str)> =
        plan["moves"].as_array().unwrap().iter().map(|one| (text(&one["from"]), text(&one["to"]))).collect();
    let seen: Vec<_> = before.iter().zip(after).filter(|(before, after)| before != after).collect();
    for (from, to) in &seen {
        assert!(planned.contains(&(from.as_str(), to.as_str())), "{from} to {to}: {planned:?}");
    }
    let (share, expected) = (seen.len() as f64 / before.len() as f64, plan["moved"].as_f64().unwrap());
    // It is a sample.
    assert!((share - expected).abs() < 0.1, "{share} of the keys have moved, and not {expected}");
}

const THREE: [&str; 3] = ["server1", "server2", "server3"];
const FIVE: [&str; 5] = ["server1", "server2", "server3", "server4", "server5"];

#[test]
fn a_reload_changes_the_fleet_and_a_limit_under_load_and_the_next_one_changes_them_back() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "reloaded");
    let case = Case::start(&swarm, &fleet, 1, "replicas = 3");
    let (lb, before, tasks) = (&case.lb, case.state(), fleet.settled(&case.lb));
    let mut held: Vec<_> = (0..6).map(|id| session(lb, &id.to_string())).collect();
    let served = under_load(lb, || {
        case.write("replicas = 5\nmax-connections-per-source = 18");
        let shown = case.dry_run();
        for line in [
            format!("{} would change:", case.path()),
            "  max-connections-per-source: off -> 18 (the file has changed)".to_owned(),
            "  replicas: 3 -> 5 (the file has changed)".to_owned(),
            "  slot server4: added (the file has changed)".to_owned(),
            "  slot server5: added (the file has changed)".to_owned(),
        ] {
            assert!(shown.contains(&line), "{line}: {shown:?}");
        }
        assert_eq!((case.state(), fleet.settled(lb)), (before.clone(), tasks.clone()), "nothing is changed");

        let done = case.reload();
        assert_eq!(lb.hostnames(), FIVE);
        let added = |slot: &str| json!({"slot": slot, "change": "added", "by": "file"});
        assert_eq!(done["slots"], json!([added("server4"), added("server5")]));
        moved_as_planned(&before.2, &choices(lb), &done["plan"]);
        let now = fleet.settled(lb);
        assert_eq!(now.len(), 5);
        assert!(tasks.iter().all(|(slot, task)| now[slot] == *task), "the others are left alone: {now:?}");
    });
    println!("{served} connections during a reload from 3 to 5");
    let counted: Vec<_> = (0..12).map(|id| session(lb, &id.to_string())).collect();
    assert!(!matches!(lb.connect().read(&mut [0]), Ok(1..)), "one more than the limit is reset");
    drop(counted);
    eventually("no connection but those that were open before", || {
        let open =
            lb.backends().iter().map(|slot| slot["connections"]["open"].as_u64().unwrap()).sum::<u64>();
        (open == held.len() as u64).then_some(())
    });

    held.push(session(lb, &id_for(lb, "server4")));
    assert_eq!(held[6].1, "server4");
    let served = under_load(lb, || {
        case.write("replicas = 3");
        let done = case.reload();
        let removed = |slot: &str| json!({"slot": slot, "change": "removed", "by": "file"});
        assert_eq!(done["slots"], json!([removed("server5"), removed("server4")]));
        for (client, hostname) in &mut held {
            assert_eq!(say(client, "still"), format!("{hostname} still\n"), "it stays, or drains");
        }
        assert_eq!(case.state(), before);
        has_services(&fleet, &THREE);
    });
    println!("{served} connections during a reload from 5 to 3, and the end of the two");
    assert_eq!((fleet.settled(lb), case.state()), (tasks, before));
    assert_eq!(case.reload()["settings"], json!([]));
}

#[test]
fn a_reload_of_what_is_no_setting_for_a_fleet_that_runs_is_refused_and_changes_nothing() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "unmoved");
    let case = Case::start(&swarm, &fleet, 1, "replicas = 2");
    let (state, epoch, tasks) = (case.state(), case.epoch(), fleet.settled(&case.lb));
    for (says, named) in [
        ("provider = \"process\"", "provider: swarm -> process"),
        ("fleet = \"other\"", "fleet: unmoved -> other"),
        ("image = \"other\"", "image: lb-backend:test -> other"),
        ("network = \"other\"", "network: fleets -> other"),
        ("spares = 1", "spares: 0 -> 1"),
        ("constraint = [\"node.role==worker\"]", "constraint: - -> node.role==worker"),
        ("env = [\"A=1\"]", "env: - -> (not shown)"),
        ("secret = [\"key\"]", "secret: - -> key"),
        ("hash-seed = 7", "hash-seed"),
    ] {
        case.write(&format!("replicas = 3\nidle-timeout = \"1h\"\n{says}"));
        let said = case.refused();
        assert!(said.contains(named), "{named}: {said}");
        let again = case.lb.refused(&json!({"cmd": "reload", "dry_run": true}));
        assert_eq!(again, said);
    }
    case.write("replicas = 3\nmapping = \"slots\"\nslots = 18");
    assert!(case.refused().contains("room") || case.refused().contains("slots"), "{}", case.refused());
    case.write("replicas = 3\nweights = 7");
    assert!(case.refused().contains("unknown key `weights`"), "{}", case.refused());
    case.lb.signal("HUP");
    case.lb.wait_for_log("SIGHUP: the configuration is not loaded, and nothing is changed");
    assert_eq!((case.state(), case.epoch(), fleet.settled(&case.lb)), (state, epoch, tasks));

    case.write("replicas = 3\nmapping = \"maglev\"\nidle-timeout = \"1h\"");
    case.lb.signal("HUP");
    case.lb.wait_for_log("the configuration is loaded again file=");
    assert_eq!(
        (case.lb.hostnames(), &case.state().1["mapping"]),
        (THREE.map(str::to_owned).to_vec(), &json!("maglev"))
    );
    assert_eq!(fleet.settled(&case.lb).len(), 3);
}

#[test]
fn lbs_whose_files_say_the_same_and_that_are_reloaded_at_once_all_have_it_and_none_does_it_twice() {
    let Some(swarm) = Turn::shared() else { return };
    let fleet = Fleet::of(&swarm, "reloaded-at-once");
    let cases: Vec<Case<'_>> =
        (1..=3).map(|node| Case::start(&swarm, &fleet, node, "replicas = 3")).collect();
    let all_say = |says: &str| {
        cases.iter().for_each(|case| case.write(says));
        let done: Vec<Value> = thread::scope(|scope| {
            let reloads: Vec<_> = cases.iter().map(|case| scope.spawn(|| case.answer())).collect();
            reloads.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for answer in &done {
            assert_eq!(answer["status"], "successful", "{done:?}");
        }
    };
    let mut before = BTreeMap::new();
    for round in 0..3 {
        all_say("replicas = 5\nmapping = \"maglev\"\nidle-timeout = \"1h\"");
        for case in &cases {
            assert_eq!(fleet.settled(&case.lb).keys().collect::<Vec<_>>().len(), 5, "round {round}");
            assert_eq!(case.lb.hostnames().len(), 5);
            assert_eq!(case.reload()["settings"], json!([]), "nothing is left to do");
        }
        all_say("replicas = 3\nmapping = \"ring\"\ndrain-timeout = \"1s\"");
        has_services(&fleet, &THREE);
        before = fleet.settled(&cases[0].lb);
        for case in &cases {
            assert_eq!(fleet.settled(&case.lb), before);
            assert_eq!(case.reload()["settings"], json!([]), "nothing is left to do");
        }
    }
    assert_eq!(before.len(), 3);
}

#[test]
#[ignore = "takes minutes on a Swarm: cargo test --workspace --test it swarm -- --ignored"]
fn a_reload_while_the_engine_hangs_is_refused_and_changes_nothing() {
    let Some(swarm) = Turn::own(NODES) else { return };
    let fleet = Fleet::of(&swarm, "reload-hung");
    let memory = format!("memory = \"{}\"\nhealth-timeout = \"2s\"", room_for_one());
    let says = |more: &str| format!("{memory}\n{more}");
    let case = Case::start(&swarm, &fleet, 2, &says("replicas = 3"));
    let (state, tasks, engine) = (case.state(), fleet.settled(&case.lb), swarm.engine_process(2));

    signal(engine, "STOP");
    case.write(&says("replicas = 5\nmapping = \"maglev\"\nidle-timeout = \"1h\""));
    assert!(case.dry_run().contains(&"  slot server5: added (the file has changed)".to_owned()));
    let said = case.refused();
    assert!(said.contains("did not reply"), "{said}");
    case.lb.signal("HUP");
    case.lb.wait_for_log("SIGHUP: the configuration is not loaded, and nothing is changed");
    assert_eq!(case.state(), state);
    // What is this `lb`'s alone needs no Swarm.
    case.write(&says("replicas = 3\nfall = 3"));
    assert_eq!(case.reload()["settings"][0]["key"], "fall");
    signal(engine, "CONT");
    has_services(&fleet, &THREE);
    assert_eq!((fleet.settled(&case.lb), case.state()), (tasks.clone(), state.clone()));

    // No node has room for another replica, so this one waits for that when the engine begins to hang.
    case.write(&says("replicas = 5\nmapping = \"maglev\"\nfall = 3"));
    thread::scope(|scope| {
        let reload = scope.spawn(|| case.refused());
        has_services(&fleet, &FIVE);
        signal(engine, "STOP");
        let said = reload.join().unwrap();
        assert!(said.contains("not ready"), "{said}");
    });
    assert_eq!(case.state(), state);
    signal(engine, "CONT");
    has_services(&fleet, &THREE);
    // The Swarm may have missed the node meanwhile, and have started its task again.
    assert!(fleet.settled(&case.lb).keys().eq(tasks.keys()));
    assert_eq!(case.state(), state);

    case.write(&says("replicas = 2\nmapping = \"maglev\"\nfall = 3\ndrain-timeout = \"1s\""));
    assert_eq!(case.reload()["slots"][0]["slot"], "server3");
    has_services(&fleet, &THREE[..2]);
}
