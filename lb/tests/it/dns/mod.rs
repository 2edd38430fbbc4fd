//! Replicas that a name of the DNS leads to, before a name server of the test's own.

mod real;
mod server;
mod truncated;
mod upgrade;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Lb, Replica, eventually, field, flags, id_for, text};
use server::{Kind, NXDOMAIN, NameServer, SERVFAIL, Say};

const OFTEN: [&str; 2] = ["--health-interval", "50ms"];
/// A service whose targets are replicas.
const SERVICE: &str = "_http._tcp.web.test";

/// `lb` that follows this name, with replicas that are probed often.
fn launch(server: &NameServer, name: &str, more: &[&str]) -> Lb {
    let dns = server.flags();
    Lb::launch(&[&["--provider", "dns", "--dns", name], &OFTEN[..], &flags(&dns), more].concat())
}

/// `lb` that follows this name to very many replicas, which it probes seldom.
fn launch_many(dns: &[String], name: &str) -> Lb {
    let seldom = ["--health", "tcp", "--health-interval", "30s", "--health-timeout", "30s"];
    Lb::launch(&[&["--provider", "dns", "--dns", name], &seldom[..], &flags(dns)].concat())
}

/// The slots, each as `NAME=ADDRESS`.
fn slots(lb: &Lb) -> Vec<String> {
    shown(&lb.backends())
}

fn shown(backends: &[Value]) -> Vec<String> {
    let shown = |slot: &Value| format!("{}={}", text(&slot["name"]), slot["address"].as_str().unwrap_or("-"));
    backends.iter().filter(|slot| slot["state"] != "draining").map(shown).collect()
}

/// Waits until the slots in rotation are these.
#[track_caller]
fn wait_for_slots(lb: &Lb, expected: &[String]) {
    eventually(&format!("the slots {expected:?}"), || {
        // One answer, because a slot may come between two.
        let backends = lb.backends();
        let is_up = backends.iter().all(|slot| slot["state"] == "up" || slot["state"] == "draining");
        (is_up && shown(&backends) == expected).then_some(())
    });
}

/// A replica at each of these addresses, all at one port, which answers with its address.
fn replicas(addresses: &[&'static str]) -> (u16, Vec<Replica>) {
    let first = Replica::named_at(&format!("{}:0", addresses[0]), addresses[0]);
    let port = first.address.port();
    let rest = addresses[1..].iter().map(|address| Replica::named_at(&format!("{address}:{port}"), address));
    (port, std::iter::once(first).chain(rest).collect())
}

fn at(port: u16, named: &[(&str, &str)]) -> Vec<String> {
    named.iter().map(|(name, address)| format!("{name}={address}:{port}")).collect()
}

/// Where each of a hundred ids belongs.
fn owners(lb: &Lb) -> BTreeMap<String, String> {
    (0..100).map(|id| id.to_string()).map(|id| (id.clone(), lb.order(&id).swap_remove(0))).collect()
}

/// How the questions so far have ended.
fn counts(lb: &Lb) -> Value {
    lb.done(&json!({"cmd": "backends"}))["dns"].clone()
}

#[test]
fn each_address_of_a_name_is_a_replica_and_one_for_another_moves_no_other_key() {
    let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]);
    let server = NameServer::start();
    server.addresses("web.test", 0, &["127.0.0.4", "127.0.0.2", "127.0.0.3"]);
    let lb = launch(&server, &format!("web.test:{port}"), &[]);
    lb.wait_for_log("replicas=3");
    let (one, two, three) = (("server1", "127.0.0.2"), ("server2", "127.0.0.3"), ("server3", "127.0.0.4"));
    wait_for_slots(&lb, &at(port, &[one, two, three]));
    assert_eq!(lb.hostnames(), ["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    let before = owners(&lb);
    let id = id_for(&lb, "server2");
    assert_eq!(lb.route(&id), "127.0.0.3");

    server.addresses("web.test", 0, &["127.0.0.5", "127.0.0.4", "127.0.0.2"]);
    wait_for_slots(&lb, &at(port, &[one, ("server2", "127.0.0.5"), three]));
    assert_eq!((owners(&lb), lb.route(&id)), (before.clone(), "127.0.0.5".to_owned()));

    // Who goes leaves the others where they are, and gets the old slot after that.
    server.addresses("web.test", 0, &["127.0.0.4", "127.0.0.5"]);
    wait_for_slots(&lb, &at(port, &[("server2", "127.0.0.5"), three]));
    let moved: Vec<String> =
        owners(&lb).into_iter().filter(|(id, owner)| before[id] != *owner).map(|(id, _)| id).collect();
    assert!(!moved.is_empty() && moved.iter().all(|id| before[id] == "server1"), "{moved:?}");
    server.addresses("web.test", 0, &["127.0.0.2", "127.0.0.4", "127.0.0.5"]);
    wait_for_slots(&lb, &at(port, &[one, ("server2", "127.0.0.5"), three]));
    assert_eq!(owners(&lb), before);
}

#[test]
fn targets_of_service_records_name_their_slots_wherever_they_move() {
    let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    let server = NameServer::start();
    let target = |name: &str| format!("{name}.web.test:{port}");
    server.targets(SERVICE, 0, &[&target("web-1"), &target("Web-0")]);
    server.addresses("web-0.web.test", 0, &["127.0.0.2"]);
    server.addresses("web-1.web.test", 0, &["127.0.0.3"]);
    let lb = launch(&server, SERVICE, &[]);
    lb.wait_for_log("replicas=2");
    wait_for_slots(&lb, &at(port, &[("web-0", "127.0.0.2"), ("web-1", "127.0.0.3")]));
    let before = owners(&lb);
    let id = id_for(&lb, "web-1");

    server.addresses("web-1.web.test", 0, &["127.0.0.4"]);
    wait_for_slots(&lb, &at(port, &[("web-0", "127.0.0.2"), ("web-1", "127.0.0.4")]));
    assert_eq!((owners(&lb), lb.route(&id)), (before, "127.0.0.4".to_owned()));
    assert_eq!(lb.slot(2)["restarts"], 0, "it is the same replica elsewhere");
}

#[test]
fn addresses_that_come_with_the_targets_are_not_asked_for() {
    let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3"]);
    let server = NameServer::start();
    let record = |host: &str| server::Record::Srv(port, host.to_owned());
    let more = |host: &str, address: &str| (host.to_owned(), address.parse().unwrap());
    let records = vec![record("a.web.test"), record("b.web.test")];
    let glue = vec![more("a.web.test", "127.0.0.2"), more("b.web.test", "127.0.0.3"), more("c", "127.0.0.9")];
    server.say(SERVICE, Kind::Srv, Say::Records(0, records, glue));
    let lb = launch(&server, SERVICE, &[]);
    wait_for_slots(&lb, &at(port, &[("a", "127.0.0.2"), ("b", "127.0.0.3")]));
    assert_eq!([Kind::A, Kind::Aaaa].map(|kind| server.asked("a.web.test", kind).len()), [0, 0]);
}

#[test]
fn aliases_are_followed_whether_or_not_the_records_come_with_them() {
    let (port, _replicas) = replicas(&["127.0.0.2"]);
    let server = NameServer::start();
    let target = server::Record::Srv(port, "a.test".to_owned());
    let alias = |real: &str| server::Record::Alias(real.to_owned());
    let say = |name: &str, kind, records| server.say(name, kind, Say::Records(0, records, Vec::new()));
    server.addresses("a.test", 0, &["127.0.0.2"]);
    say("alone.test", Kind::A, vec![alias("a.test")]);
    say("with.test", Kind::A, vec![alias("a.test"), server::Record::Address("127.0.0.2".parse().unwrap())]);
    say("real.test", Kind::Srv, vec![target.clone()]);
    for (name, records) in [("srv-alone.test", vec![]), ("srv-with.test", vec![target])] {
        say(name, Kind::Srv, [vec![alias("real.test")], records].concat());
        say(name, Kind::Cname, vec![alias("real.test")]);
    }
    let at_port = |name: &str| format!("{name}:{port}");
    for (name, slot) in [
        (at_port("alone.test"), "server1"),
        (at_port("with.test"), "server1"),
        ("srv-alone.test".to_owned(), "a"),
        ("srv-with.test".to_owned(), "a"),
    ] {
        let lb = launch(&server, &name, &[]);
        wait_for_slots(&lb, &at(port, &[(slot, "127.0.0.2")]));
    }
}

#[test]
fn a_server_that_fails_changes_nothing_and_is_counted() {
    let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3"]);
    let server = NameServer::start();
    server.addresses("web.test", 0, &["127.0.0.2"]);
    let lb = launch(&server, &format!("web.test:{port}"), &["--dns-empty-after", "1ms"]);
    wait_for_slots(&lb, &at(port, &[("server1", "127.0.0.2")]));
    let not_an_answer = [0x85, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    // A message that promises an answer and holds none, and one without its question.
    let no_question = [0x85, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 9, 9, 9, 9];
    for (say, expected) in [
        (SERVFAIL, "SERVFAIL"),
        (Say::Code(5), "REFUSED"),
        (Say::Silence, "no answer"),
        (Say::Truncated, "truncated"),
        (Say::Garbage(not_an_answer.into()), ""),
        (Say::Garbage(no_question.into()), ""),
        (Say::Garbage(Vec::new()), ""),
    ] {
        let before = counts(&lb)["failed"].as_u64().unwrap();
        server.say("web.test", Kind::A, say.clone());
        eventually(&format!("a failure by {say:?}"), || {
            let counts = counts(&lb);
            let reason = counts["last_failure"].as_str().unwrap_or_default();
            let is_it = counts["failed"].as_u64().unwrap() > before && reason.contains(expected);
            is_it.then(|| assert!(reason.starts_with("web.test: "), "{reason}"))
        });
        assert_eq!(slots(&lb), at(port, &[("server1", "127.0.0.2")]), "{say:?}");
        assert_eq!(lb.route("7"), "127.0.0.2");
    }
    lb.wait_for_log("stays in use: SERVFAIL");
    server.addresses("web.test", 0, &["127.0.0.2", "127.0.0.3"]);
    wait_for_slots(&lb, &at(port, &[("server1", "127.0.0.2"), ("server2", "127.0.0.3")]));
}

#[test]
fn a_server_that_knows_no_ipv6_is_enough() {
    let (port, _replicas) = replicas(&["127.0.0.2"]);
    let server = NameServer::start();
    server.addresses("web.test", 0, &["127.0.0.2"]);
    server.say("web.test", Kind::Aaaa, SERVFAIL);
    let lb = launch(&server, &format!("web.test:{port}"), &[]);
    wait_for_slots(&lb, &at(port, &[("server1", "127.0.0.2")]));
}

#[test]
fn nothing_is_believed_after_three_answers_and_the_time_that_was_given() {
    let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3"]);
    for nothing in [NXDOMAIN, Say::Records(0, Vec::new(), Vec::new())] {
        let server = NameServer::start();
        server.addresses("web.test", 0, &["127.0.0.2", "127.0.0.3"]);
        let lb = launch(&server, &format!("web.test:{port}"), &["--dns-empty-after", "300ms"]);
        let both = at(port, &[("server1", "127.0.0.2"), ("server2", "127.0.0.3")]);
        wait_for_slots(&lb, &both);
        server.say("web.test", Kind::A, nothing.clone());
        server.wait_for_questions("web.test", Kind::A, 2);
        assert_eq!(slots(&lb), both, "{nothing:?}");
        let line = lb.wait_for_log("the name has no server any more");
        assert_eq!(field(&line, "name="), "\"web.test\"", "{line}");
        eventually("an empty fleet", || slots(&lb).is_empty().then_some(()));
        assert!(counts(&lb)["nothing"].as_u64().unwrap() >= 3);
        server.addresses("web.test", 0, &["127.0.0.3"]);
        wait_for_slots(&lb, &both[1..]);
    }
}

#[test]
fn nothing_is_never_believed_if_so_told_and_by_default_not_soon() {
    let (port, _replicas) = replicas(&["127.0.0.2"]);
    for empty_after in [&["--dns-empty-after", "off"][..], &[]] {
        let server = NameServer::start();
        server.addresses("web.test", 0, &["127.0.0.2"]);
        let lb = launch(&server, &format!("web.test:{port}"), empty_after);
        let slot = at(port, &[("server1", "127.0.0.2")]);
        wait_for_slots(&lb, &slot);
        server.say("web.test", Kind::A, NXDOMAIN);
        server.wait_for_questions("web.test", Kind::A, 5);
        assert_eq!((slots(&lb), lb.route("7")), (slot, "127.0.0.2".to_owned()));
    }
}

#[test]
fn a_thousand_addresses_come_over_tcp_and_more_are_left_out() {
    let everywhere = Replica::named_at("0.0.0.0:0", "all");
    let port = everywhere.address.port();
    let addresses: Vec<String> = (0..1100).map(|n| format!("127.1.{}.{}", n / 250, n % 250 + 1)).collect();
    let first = |n: usize| addresses[..n].iter().map(String::as_str).collect::<Vec<_>>();
    let server = NameServer::start();
    server.addresses("web.test", 1, &first(1000));
    let lb = launch_many(&server.flags(), &format!("web.test:{port}"));
    eventually("a thousand slots", || (lb.hostnames().len() == 1000).then_some(()));
    assert!(server.asked("web.test", Kind::A).iter().any(|asked| asked.by_tcp));
    let slots = slots(&lb);
    assert_eq!((slots.len(), &slots[999]), (1000, &format!("server1000={}:{port}", addresses[999])));
    server.addresses("web.test", 1, &first(1100));
    let line = lb.wait_for_log("the name has more servers than there is room for");
    assert_eq!(field(&line, "left_out="), "100", "{line}");
    server.addresses("web.test", 1, &first(3));
    eventually("three slots", || (lb.hostnames().len() == 3).then_some(()));
    assert_eq!(lb.wait_for_state(3, "up")["name"], "server3");
}

#[test]
fn the_least_and_the_most_time_between_two_questions_hold() {
    let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3"]);
    let server = NameServer::start();
    let day = 86_400;
    server.addresses("web.test", day, &["127.0.0.2"]);
    server.say("web.test", Kind::Aaaa, SERVFAIL);
    let lb = launch(&server, &format!("web.test:{port}"), &[]);
    wait_for_slots(&lb, &at(port, &[("server1", "127.0.0.2")]));
    // The most: 200 ms.
    server.addresses("web.test", 0, &["127.0.0.2", "127.0.0.3"]);
    wait_for_slots(&lb, &at(port, &[("server1", "127.0.0.2"), ("server2", "127.0.0.3")]));
    // The least: 50 ms, from an answer to the next question.
    server.wait_for_questions("web.test", Kind::A, 10);
    let asked = server.asked("web.test", Kind::A);
    let pause = server::least_pause(&asked);
    assert!(pause >= std::time::Duration::from_millis(50), "{pause:?}");
}

#[test]
fn a_connect_that_fails_asks_at_once_however_long_the_answer_holds() {
    const DAY: u32 = 86_400;
    for service in [true, false] {
        let (port, replicas) = replicas(&["127.0.0.2", "127.0.0.3"]);
        let server = NameServer::start();
        server.addresses("a.test", DAY, &["127.0.0.2"]);
        server.targets(SERVICE, DAY, &[&format!("a.test:{port}")]);
        let (name, slot) =
            if service { (SERVICE.to_owned(), "a") } else { (format!("a.test:{port}"), "server1") };
        let address = server.address.to_string();
        let dns = ["--provider", "dns", "--dns", &name, "--dns-server", &address, "--dns-max-interval", "1d"];
        let lb = Lb::launch(&dns);
        wait_for_slots(&lb, &at(port, &[(slot, "127.0.0.2")]));
        assert_eq!(lb.route("7"), "127.0.0.2");
        server.addresses("a.test", DAY, &["127.0.0.3"]);
        replicas[0].leave();
        lb.exchange(b"7\n");
        wait_for_slots(&lb, &at(port, &[(slot, "127.0.0.3")]));
        assert_eq!(lb.route("7"), "127.0.0.3");
    }
}

#[test]
fn a_fixed_server_with_a_name_is_followed_when_it_moves_and_not_before_it_answers_there() {
    let (port, _replicas) = replicas(&["127.0.0.2"]);
    let server = NameServer::start();
    server.addresses("a.test", 0, &["127.0.0.2"]);
    let (dns, backend) = (server.flags(), format!("a=a.test:{port}"));
    let fixed = ["--provider", "fixed", "--backend", &backend];
    let lb = Lb::launch(&[&fixed[..], &OFTEN, &flags(&dns)].concat());
    wait_for_slots(&lb, &at(port, &[("a", "127.0.0.2")]));
    let _next = Replica::named_at(&format!("127.0.0.3:{port}"), "127.0.0.3");
    server.addresses("a.test", 0, &["127.0.0.3"]);
    wait_for_slots(&lb, &at(port, &[("a", "127.0.0.3")]));
    assert_eq!((lb.route("7"), lb.slot(1)["restarts"].as_u64()), ("127.0.0.3".to_owned(), Some(0)));
}

#[test]
fn a_name_that_leads_nowhere_keeps_the_server_that_answers_until_as_many_probes_have_failed_as_it_takes() {
    let (port, _replicas) = replicas(&["127.0.0.2"]);
    let server = NameServer::start();
    for (fall, ends) in [("1000", "127.0.0.2"), ("2", "127.0.0.3")] {
        server.addresses("a.test", 0, &["127.0.0.2"]);
        let (dns, backend) = (server.flags(), format!("a=a.test:{port}"));
        let fixed = ["--provider", "fixed", "--backend", &backend, "--fall", fall];
        let lb = Lb::launch(&[&fixed[..], &OFTEN, &flags(&dns)].concat());
        wait_for_slots(&lb, &at(port, &[("a", "127.0.0.2")]));
        server.addresses("a.test", 0, &["127.0.0.3"]);
        if ends == "127.0.0.3" {
            lb.wait_for_state(1, "down");
        } else {
            server.wait_for_questions("a.test", Kind::A, 5);
            assert_eq!(lb.route("7"), "127.0.0.2");
        }
        assert_eq!(slots(&lb), at(port, &[("a", ends)]));
    }
}

#[test]
fn a_name_without_an_address_is_down_with_the_reason_until_it_has_one() {
    let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3"]);
    let server = NameServer::start();
    server.say("a.test", Kind::A, NXDOMAIN);
    server.say("a.test", Kind::Aaaa, NXDOMAIN);
    server.targets(SERVICE, 0, &[&format!("a.test:{port}"), &format!("b.test:{port}")]);
    server.addresses("b.test", 0, &["127.0.0.3"]);
    let (dns, backend) = (server.flags(), format!("a=a.test:{port}"));
    let fixed =
        Lb::launch(&[&["--provider", "fixed", "--backend", &backend], &OFTEN[..], &flags(&dns)].concat());
    let followed = launch(&server, SERVICE, &[]);
    for lb in [&fixed, &followed] {
        let reason = text(&lb.wait_for_state(1, "down")["reason"]).to_owned();
        assert_eq!(reason, "cannot look up a.test: NXDOMAIN");
    }
    assert_eq!(followed.wait_for_state(2, "up")["name"], "b");
    server.addresses("a.test", 0, &["127.0.0.2"]);
    for lb in [&fixed, &followed] {
        assert_eq!(lb.wait_for_state(1, "up")["address"], format!("127.0.0.2:{port}"));
    }
}

#[test]
fn lb_starts_before_its_name_server_and_is_ready_when_it_has_replicas() {
    let (port, _replicas) = replicas(&["127.0.0.2"]);
    let server = NameServer::start();
    server.say("web.test", Kind::A, Say::Silence);
    let lb = launch(&server, &format!("web.test:{port}"), &[]);
    server.wait_for_questions("web.test", Kind::A, 2);
    assert!(lb.backends().is_empty() && !lb.log().iter().any(|line| line.contains("ready data=")));
    server.addresses("web.test", 0, &["127.0.0.2"]);
    lb.wait_for_log("replicas=1");
}

#[test]
fn commands_change_no_slot_but_weights_and_the_mapping() {
    let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    let server = NameServer::start();
    server.addresses("web.test", 0, &["127.0.0.2", "127.0.0.3"]);
    let lb = launch(&server, &format!("web.test:{port}"), &[]);
    lb.wait_for_log("replicas=2");
    for command in [json!({"cmd": "add", "n": 1}), json!({"cmd": "rm", "n": 1})] {
        let refusal = lb.refused(&command);
        assert!(refusal.contains("name server"), "{refusal}");
    }
    lb.done(&json!({"cmd": "mapping", "mapping": "maglev", "weights": {"server2": 0}}));
    server.addresses("web.test", 0, &["127.0.0.4", "127.0.0.3", "127.0.0.2"]);
    let (one, two) = (("server1", "127.0.0.2"), ("server2", "127.0.0.3"));
    wait_for_slots(&lb, &at(port, &[one, two, ("server3", "127.0.0.4")]));
    let mapping = lb.done(&json!({"cmd": "mapping"}));
    assert_eq!(mapping["mapping"], "maglev");
    assert_eq!(mapping["weights"], json!({"server1": 1, "server2": 0, "server3": 1}));
    assert!((0..50).all(|id| lb.route(&id.to_string()) != "127.0.0.3"));
}
