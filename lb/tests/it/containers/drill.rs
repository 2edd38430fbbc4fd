//! Sixty kills in a row under load: what they cost, and that they leave nothing behind.

use std::collections::BTreeSet;
use std::path::Path;

use super::{CALM, Fleet, docker, homes, ids, terminate};
use crate::harness::{eventually, signal, text};
use crate::load::Load;

const ROUNDS: usize = 20;

/// The interfaces of this machine that are attached to a bridge.
fn interfaces(bridge: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(format!("/sys/class/net/{bridge}/brif")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn is_interface(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// The main process of a container.
fn process(id: &str) -> u32 {
    docker(&["inspect", "--format", "{{.State.Pid}}", id]).parse().unwrap()
}

#[test]
fn sixty_kills_under_load_leave_nothing_behind() {
    let Some(fleet) = Fleet::of("drill") else { return };
    let lb = fleet.start(&CALM);
    let network = docker(&["network", "inspect", "--format", "{{.Id}}", &fleet.name]);
    let bridge = format!("br-{}", &network[..12]);
    let (at_home, mut seen) = (homes(&lb), interfaces(&bridge));
    assert_eq!(seen.len(), 3);
    let load = Load::begin(&lb, &ids().collect::<Vec<_>>(), 1);
    for kill in 0..3 * ROUNDS {
        let slot = lb.slot(kill as u64 % 3 + 1);
        signal(process(&fleet.id_of(text(&slot["hostname"]))), "KILL");
        let after = lb.wait_for_replacement(&slot);
        assert_eq!(after["restarts"].as_u64(), slot["restarts"].as_u64().map(|before| before + 1));
        seen.extend(interfaces(&bridge));
    }
    fleet.settled(&lb);
    load.go_on(100);
    assert_eq!(homes(&lb), at_home);
    let (served, failed) = load.end();
    println!("connections: {served} served, {} failed {failed:?}", failed.len());
    eventually("the interfaces of three containers and no others", || {
        (interfaces(&bridge).len() == 3).then_some(())
    });
    terminate(lb);
    fleet.is_gone();
    assert!(!is_interface(&bridge));
    eventually("no interface left", || (!seen.iter().any(|name| is_interface(name))).then_some(()));
    println!("all {} interfaces, and the network, are gone", seen.len());
}
