//! Hand-off to replicas that are full, hung, dead or send garbage.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use super::connections;
use super::taker::{Takers, client, expect_line, is_over, wait_for_transport};
use crate::harness::{Lb, eventually, id_for, signal};
use crate::metrics::wait_for;
use crate::orphans::{UNSHARE, has_pid_namespaces};

/// More than any queue of a link holds.
const MORE_THAN_FITS: usize = 2000;

fn answer(mut client: TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_next_candidate_gets_the_connections_of_a_full_replica() {
    let takers = Takers::new(2);
    let (lb, links) = takers.start(&["--health-interval", "1h"]);
    let line = format!("{}\n", id_for(&lb, "a"));
    // The first replica receives nothing.
    let mut clients = Vec::new();
    let overflow = loop {
        assert!(clients.len() < MORE_THAN_FITS, "the queue never fills");
        clients.push(client(&lb, &line));
        let handed = clients.len() as u64;
        eventually("the hand-over", || (connections(&lb).1 + total(&lb, 2) == handed).then_some(()));
        if total(&lb, 2) > 0 {
            break clients.pop().unwrap();
        }
    };
    let (mut taken, metadata) = links[1].take();
    assert_eq!((metadata.slot(), metadata.attempt()), (b"b".as_slice(), 1));
    // The refused hand-over left it unread.
    expect_line(&mut taken, &line);
    taken.write_all(b"b").unwrap();
    drop(taken);
    assert_eq!(answer(overflow), "b");
    let page = wait_for(&lb, "lb_connections_total", "slot=b,ending=handed_over", 1.0);
    assert_eq!(page.value("lb_connections_total", "slot=a,ending=handed_over"), clients.len() as f64);
    // As soon as the first replica goes on, it serves all waiting clients.
    for waiting in clients {
        let (mut taken, metadata) = links[0].take();
        expect_line(&mut taken, &line);
        taken.write_all(b"a").unwrap();
        drop(taken);
        links[0].report(&[metadata.number()]);
        assert_eq!(answer(waiting), "a");
    }
    eventually("nothing open", || (connections(&lb).0 == 0).then_some(()));
    assert_eq!((takers.proxied(0), takers.proxied(1)), (0, 0));
}

fn total(lb: &Lb, index: u64) -> u64 {
    lb.slot(index)["connections"]["total"].as_u64().unwrap()
}

#[test]
fn connections_queued_at_a_dying_replica_are_cut_off_and_new_ones_go_elsewhere() {
    let flags =
        ["--replicas", "2", "--transport", "handoff", "--replace-after", "10m", "--health-timeout", "10m"];
    let lb = Lb::start(&flags);
    wait_for_transport(&lb, 1, "handoff");
    wait_for_transport(&lb, 2, "handoff");
    let line = format!("{}\n", id_for(&lb, "server1"));
    let replica = lb.process_of("server1");
    signal(replica, "STOP");
    let mut waiting: Vec<TcpStream> = (0..20).map(|_| client(&lb, &line)).collect();
    eventually("twenty connections in the queue of the replica", || {
        (connections(&lb) == (20, 20)).then_some(())
    });
    signal(replica, "KILL");
    // PATIENCE is the bound here; the kernel takes milliseconds.
    assert!(waiting.iter_mut().all(is_over), "no replica can serve them");
    // Their places are free again as soon as the link has ended, and the slot has a new replica.
    lb.wait_for_restarts(1, 1);
    wait_for_transport(&lb, 1, "handoff");
    assert_eq!(connections(&lb), (0, 0));
    assert_ne!(lb.route(line.trim()), "server2", "its keys are back in their slot");
}

#[test]
fn a_replica_that_hangs_is_replaced_and_its_clients_are_cut_off() {
    let flags = [
        "--replicas",
        "2",
        "--transport",
        "handoff",
        "--replace-after",
        "500ms",
        "--health-timeout",
        "200ms",
    ];
    let lb = Lb::start(&flags);
    wait_for_transport(&lb, 1, "handoff");
    let line = format!("{}\n", id_for(&lb, "server1"));
    signal(lb.process_of("server1"), "STOP");
    let mut waiting = client(&lb, &line);
    assert!(is_over(&mut waiting));
    lb.wait_for_restarts(1, 1);
    assert_ne!(lb.route(line.trim()), "server2");
}

#[test]
fn connections_are_proxied_to_a_replica_whose_link_has_ended() {
    let takers = Takers::new(2);
    let (lb, mut links) = takers.start(&["--health-interval", "1h"]);
    let line = format!("{}\n", id_for(&lb, "a"));
    let mut open = client(&lb, &line);
    let (mut taken, _) = links[0].take();
    drop(links.remove(0));
    wait_for_transport(&lb, 1, "proxy");
    assert_eq!(connections(&lb).0, 0, "no report can come now");
    assert_eq!(answer(client(&lb, &line)), "proxied");
    assert_eq!((takers.proxied(0), takers.proxied(1)), (1, 0), "its keys stay in their slot");
    // A connection that was handed over before lives on.
    taken.write_all(b"!").unwrap();
    open.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_link_is_made_again_with_the_next_probe() {
    let takers = Takers::new(1);
    let (lb, mut links) = takers.start(&["--health-interval", "20ms"]);
    let first = client(&lb, "1\n");
    links[0].report(&[links[0].take().1.number()]);
    eventually("the report", || (connections(&lb).0 == 0).then_some(()));
    drop(links.remove(0));
    drop(first);
    let again = takers.accept(0);
    wait_for_transport(&lb, 1, "handoff");
    let _client = client(&lb, "2\n");
    assert_eq!(again.take().1.key(), b"2");
}

#[test]
fn garbage_ends_the_link_and_nothing_else() {
    let cases: [&[u8]; 3] = [b"1234567", &[0; 9], &[7; 8 * 600]];
    for garbage in cases {
        let takers = Takers::new(1);
        let (lb, links) = takers.start(&["--health-interval", "1h"]);
        let mut open = client(&lb, "1\n");
        let (mut taken, _) = links[0].take();
        links[0].say(garbage);
        wait_for_transport(&lb, 1, "proxy");
        taken.write_all(b"!").unwrap();
        open.read_exact(&mut [0]).unwrap();
        assert_eq!(answer(client(&lb, "1\n")), "proxied");
        lb.wait_for_log("connections are no longer handed over");
    }
}

#[test]
fn a_client_that_resets_within_its_first_line_reaches_no_replica() {
    let takers = Takers::new(1);
    let (lb, links) = takers.start(&["--log", "debug"]);
    let cut = client(&lb, "13");
    let address = cut.local_addr().unwrap();
    // `lb` serves a later client first, so it has read the piece by then.
    let _other = client(&lb, "other\n");
    assert_eq!(links[0].take().1.key(), b"other");
    crate::harness::reset(cut);
    assert!(lb.session_of(address).contains("the client left before its first line"));
    assert_eq!(connections(&lb), (1, 1));
}

#[test]
fn connections_that_outlast_a_drain_live_on_with_their_replica() {
    let takers = Takers::new(1);
    let (lb, links) = takers.start(&["--drain-timeout", "200ms"]);
    let mut open = client(&lb, "1\n");
    let (mut taken, _) = links[0].take();
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["a"]}));
    assert!(links[0].is_over(), "lb no longer waits for its reports");
    eventually("no slot left", || lb.backends().is_empty().then_some(()));
    taken.write_all(b"!").unwrap();
    open.read_exact(&mut [0]).unwrap();
}

#[test]
fn an_http_client_gets_503_without_a_reachable_replica_for_every_kind_of_key() {
    for key in ["id", "source"] {
        let takers = Takers::new(1);
        let (lb, _links) = takers.start(&["--key", key]);
        lb.done(&json!({"cmd": "rm", "n": 1}));
        let mut client = client(&lb, "POST /home?id=1 HTTP/1.1\r\nContent-Length: 6\r\n\r\nunread");
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with('}'), "{key}: {answer}");
    }
}

#[test]
fn a_client_that_leaves_at_once_leaves_nothing_behind() {
    let lb = Lb::start(&["--replicas", "1", "--transport", "handoff"]);
    wait_for_transport(&lb, 1, "handoff");
    let before = lb.files_at_rest();
    for number in 0..300 {
        let gone = client(&lb, ["1\n", "", "13"][number % 3]);
        if number % 2 == 0 {
            crate::harness::reset(gone);
        }
    }
    eventually("nothing open", || (connections(&lb).0 == 0 && lb.open_files() <= before).then_some(()));
    assert_eq!(lb.route("132574"), "server1");
}

/// As in containers. The kernel gives the process id 0 for such a peer (unix(7), `SO_PEERCRED`).
#[test]
fn a_replica_in_another_pid_namespace_takes_connections_over() {
    if !has_pid_namespaces() {
        return;
    }
    // There, its parent, which is outside, has the number 0.
    let program = env!("CARGO_BIN_EXE_lb");
    let command = format!("exec {} {program} replica --parent 0", UNSHARE.join(" "));
    let lb = Lb::start(&["--replicas", "1", "--transport", "handoff", "--command", &command]);
    wait_for_transport(&lb, 1, "handoff");
    assert_eq!(lb.route("132574"), "server1");
    assert_eq!(lb.slot(1)["connections"]["total"], 1);
    assert_eq!(lb.log().iter().find(|line| line.contains("proxied") || line.contains("no hand-off")), None);
}
