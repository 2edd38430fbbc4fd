//! Ports in TIME_WAIT: the side that closes a connection first keeps its port for a minute. Towards another machine (or
//! container) Linux reuses such a port only if `net.ipv4.tcp_tw_reuse` is 1. The compose file sets it; docs/CONTAINERS.md
//! gives the figures.
//!
//! The test makes two network namespaces with a cable between them, so that it changes no setting of the machine.

use std::fs;
use std::net::SocketAddr;

use crate::harness::{Lb, eventually, raw_answer};
use crate::namespaces::{Namespace, ip};

/// Ports for outgoing connections in the namespace of `lb`.
const PORTS: usize = 500;
/// A port stays in TIME_WAIT for sixty seconds; proc(5) counts them down in hundredths. Reuse is possible after the first
/// second. When the youngest port has less than this left, that second is over for every port of the test.
const REUSABLE: u64 = 57 * 100;

#[test]
fn each_port_serves_one_connection_a_minute_without_reuse() {
    let Some(place) = Place::make("2") else { return };
    place.inside(|lb| {
        let answered = std::iter::repeat_with(|| is_answered(lb)).take_while(|answered| *answered).count();
        // Probes took a port as well.
        assert!((PORTS / 2..=PORTS).contains(&answered), "{answered} with {PORTS} ports");
        eventually("every port past its first second", || (youngest_time_wait() < REUSABLE).then_some(()));
        assert!(!(0..20).any(|_| is_answered(lb)), "a port was reused");
    });
}

/// The longest time that a port of this thread's namespace still stays in TIME_WAIT, in hundredths of a second.
fn youngest_time_wait() -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let waiting = rows.filter(|row| row[3] == "06").map(|row| row[5].split_once(':').unwrap().1);
    waiting.map(|left| u64::from_str_radix(left, 16).unwrap()).max().unwrap()
}

#[test]
fn each_port_serves_many_connections_a_minute_with_reuse() {
    let Some(place) = Place::make("1") else { return };
    place.inside(|lb| {
        let mut answered = 0;
        eventually("four connections for each port", || {
            answered += usize::from(is_answered(lb));
            (answered >= 4 * PORTS).then_some(())
        });
    });
}

/// Whether a client gets its answer. It closes first, so that `lb` closes first towards the replica.
fn is_answered(lb: SocketAddr) -> bool {
    raw_answer(lb, "132574").is_ok_and(|answer| answer.ends_with(" 132574\n"))
}

/// `lb` in one namespace, its replica in another.
struct Place {
    lb: Lb,
    _replica: Lb,
    here: Namespace,
    _there: Namespace,
}

impl Place {
    /// `None` where namespaces cannot be made.
    fn make(reuse: &str) -> Option<Place> {
        let (here, there) =
            (Namespace::make(&format!("{reuse}-here"))?, Namespace::make(&format!("{reuse}-there"))?);
        let (ours, theirs) = (here.name.as_str(), there.name.as_str());
        ip(&["-n", ours, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", theirs]);
        for (namespace, address) in [(ours, "192.0.2.1/30"), (theirs, "192.0.2.2/30")] {
            ip(&["-n", namespace, "address", "add", address, "dev", "cable"]);
            ip(&["-n", namespace, "link", "set", "cable", "up"]);
        }
        here.inside(|| {
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", format!("40000 {}", 40_000 + PORTS - 1))
                .unwrap();
            fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", reuse).unwrap();
        });
        // Any server would do; here it is another lb with a replica of its own.
        let replica =
            there.launch(&["--listen", "192.0.2.2:5000", "--control", "127.0.0.1:0", "--replicas", "1"]);
        let fleet = ["--provider", "fixed", "--backend", "far=192.0.2.2:5000"];
        let calm = ["--health", "tcp", "--health-interval", "1h"];
        let ports = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"];
        let lb = here.launch(&[&ports[..], &fleet, &calm].concat());
        Some(Place { lb, _replica: replica, here, _there: there })
    }

    /// Runs `work` on a thread in the namespace of `lb`.
    fn inside<T: Send>(&self, work: impl FnOnce(SocketAddr) -> T + Send) -> T {
        let data = self.lb.data;
        self.here.inside(move || work(data))
    }
}
