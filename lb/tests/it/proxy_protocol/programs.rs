//! `lb` between real programs that speak the PROXY protocol: HAProxy and nginx in front of it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::FROM;
use crate::harness::{Lb, eventually, field, patient};
use crate::programs::{Front, find, load_stream, skipped};

/// Has a client from 127.0.0.77 ask through the program at `front`; the answer, and the client's address.
fn ask(front: SocketAddr, line: &str) -> (String, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 77), 0)).into()).unwrap();
    socket.connect(&front.into()).unwrap();
    let mut client = patient(TcpStream::from(socket));
    client.write_all(line.as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(&client).read_line(&mut answer).unwrap();
    (answer, client.local_addr().unwrap())
}

/// HAProxy between two addresses. Its server has these options.
pub(super) fn haproxy(program: &Path, bind: &str, server: SocketAddr, options: &str) -> Front {
    Front::start(|listen, folder| {
        let text = format!(
            "global\n  nbthread 1\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 30s\n  timeout client 60s\n  \
             timeout server 60s\nfrontend front\n  bind {listen} {bind}\n  default_backend servers\nbackend servers\n  \
             server one {server} {options}\n"
        );
        let file = folder.join("haproxy.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(file);
        command
    })
}

/// nginx with these blocks behind `events`, in which `LISTEN` stands for its address.
pub(crate) fn nginx(program: &PathBuf, load: &str, blocks: &str) -> Front {
    Front::start(|listen, folder| {
        let mut text = format!(
            "{load}\npid \"{0}/pid\";\nerror_log stderr warn;\nevents {{ worker_connections 200; }}\n",
            folder.display()
        );
        writeln!(text, "{}", blocks.replace("LISTEN", &listen.to_string())).unwrap();
        let file = folder.join("nginx.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command.args(["-e", "stderr", "-g", "daemon off; master_process off;", "-p"]).arg(folder);
        command.arg("-c").arg(file);
        command
    })
}

/// Checks that `lb` knows the client behind the program at `front`.
#[track_caller]
fn check(lb: &Lb, front: SocketAddr, transport: &str) {
    for id in 0..4 {
        let (answer, client) = ask(front, &format!("{id} x\n"));
        let owner = lb.order("127.0.0.77")[0].clone();
        assert_eq!(answer, format!("{owner} {id} x\n"), "{transport}");
        let line = lb.session_of(client);
        assert_eq!(field(&line, "key="), "127.0.0.77", "{line}");
    }
}

/// An `lb` that knows its clients by the header only.
fn behind(transport: &str) -> Lb {
    Lb::start(&[&FROM[..], &["--key", "source", "--transport", transport, "--log", "debug"]].concat())
}

#[test]
fn haproxy_says_who_its_client_is() {
    let Some(program) = find("haproxy") else { return skipped("haproxy is not installed") };
    for transport in ["proxy", "handoff"] {
        let lb = behind(transport);
        for options in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c"] {
            check(&lb, haproxy(&program, "", lb.data, options).address, transport);
        }
        // Its checks are LOCAL in version 2, and UNKNOWN in version 1.
        for options in ["send-proxy check inter 100ms", "send-proxy-v2 check inter 100ms"] {
            let front = haproxy(&program, "", lb.data, options);
            check(&lb, front.address, transport);
        }
        assert!(
            !lb.log().iter().any(|line| line.contains("no right PROXY protocol header")),
            "{options:?}",
            options = lb.log()
        );
    }
}

#[test]
fn nginx_says_who_its_client_is() {
    let Some(program) = find("nginx") else { return skipped("nginx is not installed") };
    let Some(load) = load_stream(&program) else { return skipped("nginx has no stream module") };
    for transport in ["proxy", "handoff"] {
        let lb = behind(transport);
        let blocks =
            format!("stream {{ server {{ listen LISTEN; proxy_pass {}; proxy_protocol on; }} }}", lb.data);
        check(&lb, nginx(&program, &load, &blocks).address, transport);
    }
}

#[test]
fn a_program_that_sends_no_header_is_not_served() {
    let Some(program) = find("haproxy") else { return skipped("haproxy is not installed") };
    let lb = behind("proxy");
    let (answer, _) = ask(haproxy(&program, "", lb.data, "").address, "7\n");
    assert_eq!(answer, "");
    eventually("a line of the log", || {
        lb.log().iter().any(|line| line.contains("it begins with something else")).then_some(())
    });
}

/// An `lb` that has this program as its only replica.
fn in_front_of(server: SocketAddr, version: &str, more: &[&str]) -> Lb {
    let backend = format!("a={server}");
    let flags = ["--provider", "fixed", "--backend", &backend, "--health", "http:/", "--send-proxy", version];
    Lb::start(&[&flags[..], more].concat())
}

/// Checks that the server behind `lb` names its client. The request goes to `front`.
#[track_caller]
fn named(front: SocketAddr, expected: impl Fn(SocketAddr) -> String) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 77), 0)).into()).unwrap();
    socket.connect(&front.into()).unwrap();
    let mut client = patient(TcpStream::from(socket));
    client.write_all(b"GET /x?id=132574 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let expected = expected(client.local_addr().unwrap());
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.trim_end().ends_with(&expected),
        "{expected}: {answer}"
    );
}

#[test]
fn haproxy_reads_who_the_client_is_and_its_request_id() {
    let Some(program) = find("haproxy") else { return skipped("haproxy is not installed") };
    let server = Front::start(|listen, folder| {
        let text = format!(
            "global\n  nbthread 1\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 30s\n  timeout client 60s\n  \
             timeout server 60s\nfrontend front\n  bind {listen} accept-proxy\n  http-request return status 200 \
             content-type text/plain lf-string \"client %[src]:%[src_port] id %[fc_pp_unique_id].\"\n"
        );
        let file = folder.join("haproxy.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(&program);
        command.arg("-db").arg("-f").arg(file);
        command
    });
    for (version, id) in [("v1", ""), ("v2", "132574")] {
        let expected = |client| format!("client {client} id {id}.");
        let lb = in_front_of(server.address, version, &[]);
        named(lb.data, expected);
        // And on both sides: the client of the first one is that of the last one.
        let lb = in_front_of(server.address, version, &FROM);
        named(haproxy(&program, "", lb.data, "send-proxy-v2").address, expected);
    }
}

#[test]
fn nginx_reads_who_the_client_is() {
    let Some(program) = find("nginx") else { return skipped("nginx is not installed") };
    let Some(load) = load_stream(&program) else { return skipped("nginx has no stream module") };
    let http = "http { access_log off; server { listen LISTEN proxy_protocol; location / { \
                return 200 \"client $proxy_protocol_addr:$proxy_protocol_port.\"; } } }";
    let server = nginx(&program, &load, http);
    for version in ["v1", "v2"] {
        let expected = |client| format!("client {client}.");
        let lb = in_front_of(server.address, version, &[]);
        named(lb.data, expected);
        let lb = in_front_of(server.address, version, &FROM);
        let blocks =
            format!("stream {{ server {{ listen LISTEN; proxy_pass {}; proxy_protocol on; }} }}", lb.data);
        named(nginx(&program, &load, &blocks).address, expected);
    }
}
