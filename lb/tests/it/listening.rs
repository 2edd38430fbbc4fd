//! The data port at several addresses (`--listen`): each serves, over IPv4, IPv6 and Unix sockets, and all are closed at the end.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::json;

use crate::control::http;
use crate::harness::{Lb, PATIENCE, Replica, Wire, eventually, field, patient};

/// The addresses of the data port, as the line says them that begins with this.
fn addresses(lb: &Lb, line: &str) -> Vec<SocketAddr> {
    let line = lb.wait_for_log(line);
    field(&line, "data=").split(',').map(|address| address.parse().unwrap()).collect()
}

/// An `lb` that listens at these addresses and at no other.
fn launch(listen: &[&str], more: &[&str]) -> Lb {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.args(["--control", "127.0.0.1:0", "--replicas", "1", "--log", "debug"]);
    command.args(listen.iter().flat_map(|address| ["--listen", address])).args(more);
    let lb = Lb::launch_as(command);
    lb.wait_for_log("ready data=");
    lb
}

/// Sends a line to this address, and returns the address of the client that got the answer.
#[track_caller]
fn served(address: SocketAddr) -> SocketAddr {
    let mut client = patient(TcpStream::connect(address).unwrap());
    client.write_all(b"7\n").unwrap();
    let mut answer = [0; 10];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"server1 7\n", "{address}");
    client.local_addr().unwrap()
}

/// A port that no program has, of IPv4 or IPv6.
fn free_port() -> u16 {
    let any = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port();
    eventually("a free port", || {
        let port = any();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    })
}

#[test]
fn every_address_is_served_by_every_worker_and_said() {
    for workers in ["1", "3"] {
        let lb = launch(&["127.0.0.1:0", "[::1]:0,127.0.0.2:0"], &["--workers", workers]);
        let all = addresses(&lb, "ready data=");
        assert_eq!(all, addresses(&lb, "listening data="));
        let ips: Vec<String> = all.iter().map(|address| address.ip().to_string()).collect();
        assert_eq!(ips, ["127.0.0.1", "::1", "127.0.0.2"]);
        for _ in 0..10 {
            for &address in &all {
                let client = served(address);
                let line = lb.session_of(client);
                assert_eq!(field(&line, "id="), "7", "{line}");
            }
        }
        let metrics = http(&lb, "GET /metrics", "").body;
        let line = format!("lb_workers{{state=\"accepting\"}} {workers}.0\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[test]
fn a_port_alone_is_that_of_all_addresses() {
    for listen in [":0", "[::]:0"] {
        let lb = launch(&[listen], &["--key", "source"]);
        let [address] = addresses(&lb, "ready data=")[..] else { panic!("one address") };
        assert_eq!(address.ip(), Ipv6Addr::UNSPECIFIED);
        let four = served((Ipv4Addr::LOCALHOST, address.port()).into());
        let line = lb.wait_for_log("key=127.0.0.1");
        assert_eq!(field(&line, "peer="), format!("[::ffff:127.0.0.1]:{}", four.port()), "{line}");
        served((Ipv6Addr::LOCALHOST, address.port()).into());
        lb.wait_for_log("key=::1");
    }
}

#[test]
fn all_addresses_of_both_families_may_be_given_by_themselves() {
    for swapped in [false, true] {
        let port = free_port();
        let mut listen = [format!("0.0.0.0:{port}"), format!(":{port}")];
        if swapped {
            listen.reverse();
        }
        let lb = launch(&[&listen[0], &listen[1]], &["--key", "source"]);
        let four = served((Ipv4Addr::LOCALHOST, port).into());
        assert_eq!(field(&lb.session_of(four), "key="), "127.0.0.1");
        let six = served((Ipv6Addr::LOCALHOST, port).into());
        assert_eq!(field(&lb.session_of(six), "key="), "::1");
    }
}

#[test]
fn an_address_that_is_taken_is_named_and_nothing_is_started() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Lb::command(&["--listen", &address]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on {address} (--listen)")), "{said}");
}

#[test]
fn all_addresses_are_closed_when_the_drain_begins() {
    let mut lb = launch(&["127.0.0.1:0", "[::1]:0"], &[]);
    let all = addresses(&lb, "ready data=");
    for &address in &all {
        served(address);
    }
    lb.signal("TERM");
    assert!(lb.wait().success());
    for address in all {
        assert!(TcpStream::connect(address).is_err(), "{address}");
    }
}

#[test]
fn the_limits_are_for_all_addresses_together() {
    let lb = launch(&["127.0.0.1:0", "127.0.0.2:0"], &["--max-connections-per-source", "1"]);
    let all = addresses(&lb, "ready data=");
    let mut held = patient(TcpStream::connect(all[0]).unwrap());
    held.write_all(b"7\n").unwrap();
    held.read_exact(&mut [0; 10]).unwrap();
    let mut second = patient(TcpStream::connect(all[1]).unwrap());
    assert!(second.read(&mut [0]).is_err(), "it is reset");
    assert_eq!(lb.done(&json!({"cmd": "backends"}))["refused"]["per_source"], 1);
}

#[test]
fn a_replica_is_told_at_which_address_its_client_knocked() {
    let flags = ["--listen", "127.0.0.2:0,[::]:0", "--key", "source", "--send-proxy", "v1"];
    let wire = Wire::start(&flags);
    let all = addresses(&wire.lb, "ready data=");
    let six = (Ipv6Addr::LOCALHOST, all[2].port()).into();
    let mapped = (Ipv4Addr::LOCALHOST, all[2].port()).into();
    for (family, address) in [("TCP4", all[0]), ("TCP4", all[1]), ("TCP6", six), ("TCP4", mapped)] {
        let client = TcpStream::connect(address).unwrap();
        let from = client.local_addr().unwrap();
        let expected =
            format!("PROXY {family} {} {} {} {}\r\n", from.ip(), address.ip(), from.port(), address.port());
        let mut header = vec![0; expected.len()];
        wire.accept().read_exact(&mut header).unwrap();
        assert_eq!(String::from_utf8(header).unwrap(), expected);
    }
}

/// A connection to a Unix socket that gives up after a while.
fn dial(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_unix_socket_is_served_like_any_other_address() {
    for transport in ["proxy", "handoff"] {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("data.sock");
        let unix = format!("unix:{}", path.display());
        let mut lb = launch(&["127.0.0.1:0", &unix], &["--workers", "2", "--transport", transport]);
        let line = lb.wait_for_log("ready data=");
        assert_eq!(field(&line, "data=").split(',').nth(1), Some(unix.as_str()), "{line}");
        if transport == "handoff" {
            lb.wait_for_log("are handed over");
        }
        // For all who reach the folder, and behind an lb that was killed.
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        for id in 0..20 {
            let mut client = dial(&path);
            writeln!(client, "{id} x").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, format!("server1 {id} x\n"), "{transport}");
        }
        served(addresses_of_tcp(&lb)[0]);
        lb.signal("TERM");
        assert!(lb.wait().success());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it leaves nothing behind");
    }
}

/// The addresses over TCP.
fn addresses_of_tcp(lb: &Lb) -> Vec<SocketAddr> {
    let line = lb.wait_for_log("ready data=");
    field(&line, "data=").split(',').filter_map(|address| address.parse().ok()).collect()
}

#[test]
fn many_bytes_go_both_ways_through_a_unix_socket() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("data.sock");
    let unix = format!("unix:{}", path.display());
    let echo = Replica::echo();
    let backend = format!("a={}", echo.address);
    for splice in ["auto", "never"] {
        let lb =
            Lb::start(&["--listen", &unix, "--provider", "fixed", "--backend", &backend, "--splice", splice]);
        let sent: Vec<u8> = (0..8_000_000_u32).map(|number| (number % 251) as u8).collect();
        let mut client = dial(&path);
        client.write_all(b"7\n").unwrap();
        let mut writer = client.try_clone().unwrap();
        let bytes = sent.clone();
        let writes = thread::spawn(move || {
            writer.write_all(&bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        writes.join().unwrap();
        assert!(received[..2] == *b"7\n" && received[2..] == sent, "{splice}: {}", received.len());
        drop(lb);
    }
}

#[test]
fn a_client_at_a_unix_socket_counts_as_this_machine() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("data.sock");
    let unix = format!("unix:{}", path.display());
    let flags = ["--key", "source", "--max-connections-per-source", "1"];
    let lb = launch(&["127.0.0.1:0", &unix], &flags);
    let mut held = dial(&path);
    held.write_all(b"7\n").unwrap();
    held.read_exact(&mut [0; 10]).unwrap();
    assert!(!matches!(dial(&path).read(&mut [0]), Ok(1..)), "one source has one place");
    drop(held);
    assert_eq!(field(&lb.wait_for_log("key=127.0.0.1"), "peer="), "127.0.0.1:0");
    // Behind a proxy on this machine the header names the client.
    let lb = launch(
        &["127.0.0.1:0", &unix.replace("data", "other")],
        &["--key", "source", "--proxy-protocol-from", "127.0.0.1"],
    );
    let mut client = dial(&folder.path().join("other.sock"));
    client.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n7\n").unwrap();
    client.read_exact(&mut [0; 10]).unwrap();
    drop(client);
    assert_eq!(field(&lb.wait_for_log("peer=192.0.2.7:5000"), "key="), "192.0.2.7");
}

#[test]
fn a_unix_socket_that_another_program_has_is_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("data.sock");
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let unix = format!("unix:{}", path.display());
    let output = Lb::command(&["--listen", &unix]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(&format!("cannot listen on {unix} (--listen): another program listens there")),
        "{said}"
    );
}
