//! The same before DNS servers that others have written: dnsmasq and Knot DNS, from Debian.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{at, launch_many, replicas, slots, wait_for_slots};
use crate::harness::{Lb, PATIENCE, Replica, eventually, flags, signal};
use crate::namespaces::Namespace;

/// A DNS server that a test runs. Dropping it kills the process.
struct Server {
    address: SocketAddr,
    process: Child,
}

impl Server {
    /// Starts a server and waits until it answers; `None` where it is not installed, unless `CI` is set.
    fn start(program: &str, address: SocketAddr, arguments: &[String]) -> Option<Server> {
        let spawned =
            Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut process = match spawned {
            Ok(process) => process,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "{program} cannot be run: {error}");
                eprintln!("skipped: {program} is not installed");
                return None;
            }
        };
        eventually(&format!("{program} that listens"), || {
            assert!(process.try_wait().unwrap().is_none(), "{program} has ended");
            TcpStream::connect_timeout(&address, PATIENCE).ok()
        });
        Some(Server { address, process })
    }

    /// Has it read its files again.
    fn reload(&self) {
        signal(self.process.id(), "HUP");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address of loopback at which a port is free for both protocols.
fn free_address() -> SocketAddr {
    eventually("a port that is free for both protocols", || {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        UdpSocket::bind(address).ok().map(|_| address)
    })
}

/// dnsmasq with this hosts file, and these arguments more.
fn dnsmasq(address: SocketAddr, hosts: &Path, more: &[String]) -> Option<Server> {
    let arguments = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--local=/test/",
    ];
    let own = [
        format!("--listen-address={}", address.ip()),
        format!("--port={}", address.port()),
        format!("--addn-hosts={}", hosts.display()),
    ];
    Server::start("dnsmasq", address, &[&arguments.map(str::to_owned)[..], &own, more].concat())
}

/// Knot DNS with the zone `test` in this folder.
fn knot(folder: &Path) -> Option<Server> {
    let (address, at) = (free_address(), folder.display());
    let config = format!(
        "server:\n  rundir: {at}\n  listen: {}@{}\n  user: root\ndatabase:\n  storage: {at}\n\
         zone:\n  - domain: test\n    storage: {at}\n    file: zone\n    journal-content: none\n",
        address.ip(),
        address.port(),
    );
    let file = folder.join("knot.conf");
    fs::write(&file, config).unwrap();
    Server::start("knotd", address, &["-c".to_owned(), file.display().to_string()])
}

/// Writes the zone `test` with these records. A later zone has a higher serial number.
fn write_zone(folder: &Path, serial: u32, ttl: u32, records: &[String]) {
    let head = format!(
        "$ORIGIN test.\n$TTL {ttl}\n@ SOA ns hostmaster {serial} 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n"
    );
    fs::write(folder.join("zone"), head + &records.join("\n") + "\n").unwrap();
}

/// The flags of `lb` that make it ask this server, often.
fn asked_often(server: &Server) -> Vec<String> {
    let address = server.address.to_string();
    let flags = ["--dns-server", &address, "--dns-min-interval", "50ms", "--dns-max-interval", "200ms"];
    flags.map(str::to_owned).into()
}

/// A command that finds this file at `/etc/resolv.conf`.
fn with_resolv_conf(file: &Path, command: &Command) -> Command {
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]).arg(file);
    inside.arg(command.get_program()).args(command.get_args());
    inside
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::TempDir::new().unwrap();
    let write = |(name, text): &(&str, &str)| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let paths = files.iter().map(write).collect();
    (folder, paths)
}

#[test]
fn dnsmasq_is_found_by_resolv_conf_and_its_records_are_followed() {
    let Some(namespace) = Namespace::make("dnsmasq") else { return };
    namespace.inside(|| {
        let (_folder, files) = folder(&[
            ("hosts", "127.0.0.2 web.test\n127.0.0.3 web.test\n127.0.0.3 web-0.test\n"),
            ("resolv.conf", "search other.test test\nnameserver 127.0.0.1\n"),
        ]);
        let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
        let service = format!("--srv-host=_http._tcp.web.test,web-0.test,{port}");
        let start = || dnsmasq(([127, 0, 0, 1], 53).into(), &files[0], std::slice::from_ref(&service));
        let Some(server) = start() else { return };
        let often =
            ["--dns-min-interval", "50ms", "--dns-max-interval", "200ms", "--health-interval", "100ms"];
        let follow = |name: &str| {
            let command = Lb::command(&[&["--provider", "dns", "--dns", name], &often[..]].concat());
            Lb::launch_as(with_resolv_conf(&files[1], &command))
        };
        let (by_address, by_record) = (follow(&format!("web:{port}")), follow("_http._tcp.web"));
        let (one, two) = (("server1", "127.0.0.2"), ("server2", "127.0.0.3"));
        wait_for_slots(&by_address, &at(port, &[one, two]));
        wait_for_slots(&by_record, &at(port, &[("web-0", "127.0.0.3")]));

        fs::write(&files[0], "127.0.0.2 web.test\n127.0.0.4 web.test web-0.test\n").unwrap();
        server.reload();
        wait_for_slots(&by_address, &at(port, &[one, ("server2", "127.0.0.4")]));
        wait_for_slots(&by_record, &at(port, &[("web-0", "127.0.0.4")]));

        drop(server);
        by_address.wait_for_log("what was known before stays in use");
        assert_eq!(slots(&by_address), at(port, &[one, ("server2", "127.0.0.4")]));
        fs::write(&files[0], "127.0.0.3 web.test\n127.0.0.4 web.test web-0.test\n").unwrap();
        let _server = start();
        wait_for_slots(&by_address, &at(port, &[("server1", "127.0.0.3"), ("server2", "127.0.0.4")]));
    });
}

#[test]
fn a_server_of_a_backend_is_asked_for_where_resolv_conf_says_and_hosts_come_first() {
    let Some(namespace) = Namespace::make("backend") else { return };
    namespace.inside(|| {
        let (_folder, files) =
            folder(&[("hosts", "127.0.0.2 a.test\n"), ("resolv.conf", "nameserver 127.0.0.1\n")]);
        let Some(_server) = dnsmasq(([127, 0, 0, 1], 53).into(), &files[0], &[]) else { return };
        let (port, _replicas) = replicas(&["127.0.0.1", "127.0.0.2"]);
        let backends = [format!("a=a.test:{port}"), format!("b=localhost:{port}")];
        let command =
            Lb::command(&["--provider", "fixed", "--backend", &backends[0], "--backend", &backends[1]]);
        let lb = Lb::launch_as(with_resolv_conf(&files[1], &command));
        wait_for_slots(&lb, &at(port, &[("a", "127.0.0.2"), ("b", "127.0.0.1")]));
    });
}

#[test]
fn knot_sends_a_thousand_records_over_tcp_and_a_time_to_live_of_a_day_is_cut() {
    let everywhere = Replica::named_at("0.0.0.0:0", "all");
    let port = everywhere.address.port();
    let (folder, _) = folder(&[]);
    let address = |n: usize| format!("web A 127.2.{}.{}", n / 250, n % 250 + 1);
    write_zone(folder.path(), 1, 86_400, &(0..1000).map(address).collect::<Vec<_>>());
    let Some(server) = knot(folder.path()) else { return };
    let lb = launch_many(&asked_often(&server), &format!("web.test:{port}"));
    eventually("a thousand slots", || (lb.hostnames().len() == 1000).then_some(()));
    write_zone(folder.path(), 2, 0, &(1..999).map(address).collect::<Vec<_>>());
    server.reload();
    eventually("998 slots", || (lb.hostnames().len() == 998).then_some(()));
    assert_eq!(lb.hostnames()[0], "127.2.0.2");
    lb.wait_for_state(2, "up");
}

#[test]
fn knot_s_service_records_are_followed_and_a_name_that_is_gone_is_believed_late() {
    let (port, _replicas) = replicas(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    let (folder, _) = folder(&[]);
    let records = |pods: &[(u8, &str)]| -> Vec<String> {
        let record = |(number, address): &(u8, &str)| {
            format!("_http._tcp.web SRV 0 1 {port} web-{number}\nweb-{number} A {address}\n")
        };
        pods.iter().map(record).collect()
    };
    write_zone(folder.path(), 1, 0, &records(&[(0, "127.0.0.2"), (1, "127.0.0.3")]));
    let Some(server) = knot(folder.path()) else { return };
    let dns = ["--provider", "dns", "--dns", "_http._tcp.web.test", "--dns-empty-after", "1s"];
    let lb = Lb::launch(&[&dns[..], &["--health-interval", "100ms"], &flags(&asked_often(&server))].concat());
    wait_for_slots(&lb, &at(port, &[("web-0", "127.0.0.2"), ("web-1", "127.0.0.3")]));

    write_zone(folder.path(), 2, 0, &records(&[(1, "127.0.0.4"), (2, "127.0.0.2")]));
    server.reload();
    wait_for_slots(&lb, &at(port, &[("web-2", "127.0.0.2"), ("web-1", "127.0.0.4")]));

    write_zone(folder.path(), 3, 0, &[]);
    server.reload();
    lb.wait_for_log("NXDOMAIN");
    assert_eq!(slots(&lb).len(), 2, "it was said once");
    lb.wait_for_log("the name has no server any more");
    eventually("an empty fleet", || slots(&lb).is_empty().then_some(()));
    write_zone(folder.path(), 4, 0, &records(&[(1, "127.0.0.3")]));
    server.reload();
    wait_for_slots(&lb, &at(port, &[("web-1", "127.0.0.3")]));
}
