//! The PROXY header that replicas get (`--send-proxy`): in the same call as the first bytes of the client, before a probe, and never
//! in front of a hand-off.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::{FROM, SIGNATURE, binary, headers};
use crate::harness::{Lb, PATIENCE, Wire, eventually, patient};
use crate::tracer::{Tracer, threads_named};

/// What a probe begins with in each version.
const LOCAL: [(&str, &[u8]); 2] = [("v1", b"PROXY UNKNOWN\r\n"), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")];

/// A server that serves only what begins with a header. It tells what it has received of each connection: of a probe all, of another
/// one what came first.
struct Strict {
    address: SocketAddr,
    probes: Receiver<Vec<u8>>,
    clients: Receiver<Vec<u8>>,
}

impl Strict {
    fn start() -> Strict {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ((probed, probes), (served, clients)) = (channel(), channel());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (probed, served) = (probed.clone(), served.clone());
                thread::spawn(move || serve(patient(stream), &probed, &served));
            }
        });
        Strict { address, probes, clients }
    }

    /// What came first of the next connection that is no probe.
    #[track_caller]
    fn client(&self) -> Vec<u8> {
        self.clients.recv_timeout(PATIENCE).expect("a connection")
    }
}

fn serve(mut stream: TcpStream, probed: &Sender<Vec<u8>>, served: &Sender<Vec<u8>>) {
    let mut bytes = vec![0; 64 * 1024];
    let Ok(first) = stream.read(&mut bytes) else { return };
    bytes.truncate(first);
    if let Some((_, local)) = LOCAL.iter().find(|(_, local)| bytes.starts_with(local)) {
        // The request of a probe may come in a piece of its own.
        while !bytes.ends_with(b"\r\n\r\n") || bytes.len() == local.len() {
            let mut more = [0; 1024];
            match stream.read(&mut more) {
                Ok(read @ 1..) => bytes.extend(&more[..read]),
                _ => break,
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = probed.send(bytes);
        return;
    }
    let _ = served.send(bytes);
    let _ = stream.write_all(b"served\n");
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

/// An `lb` in front of it, with these flags.
fn before(server: &Strict, more: &[&str]) -> Lb {
    let backend = format!("a={}", server.address);
    Lb::start(&[&["--provider", "fixed", "--backend", &backend][..], more].concat())
}

/// Sends bytes, and reads the answer.
fn ask(lb: &Lb, bytes: &[u8]) -> (String, SocketAddr) {
    let mut client = lb.connect();
    client.write_all(bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    (answer, client.local_addr().unwrap())
}

/// The header of version 2 for a client of `lb`, with these TLVs.
fn version_2(client: SocketAddr, lb: &Lb, tlvs: &[u8]) -> Vec<u8> {
    let ports = [client.port(), lb.data.port()].map(u16::to_be_bytes).concat();
    binary(0x21, 0x11, &[&[127, 0, 0, 1, 127, 0, 0, 1][..], &ports, tlvs].concat())
}

#[test]
fn the_header_comes_with_the_first_bytes_of_the_client() {
    let server = Strict::start();
    let lb = before(&server, &["--send-proxy", "v1", "--log", "debug"]);
    for line in [&b"132574 x\n"[..], b"GET /?id=7 HTTP/1.1\r\n\r\n", b"\x16\x03"] {
        let (answer, client) = ask(&lb, line);
        assert_eq!(answer, "served\n");
        let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", client.port(), lb.data.port());
        assert_eq!(server.client(), [header.as_bytes(), line].concat());
        // The header is no byte of the client.
        let session = lb.session_of(client);
        assert_eq!(crate::harness::field(&session, "up="), line.len().to_string(), "{session}");
    }

    let lb = before(&server, &["--send-proxy", "v2"]);
    let long = [&b"7"[..].repeat(129), &b"\n"[..]].concat();
    let cases: [(&[u8], &[u8]); 4] = [
        (b"132574 x\n", b"\x05\0\x06132574"),
        (b"GET /?id=a%20b HTTP/1.1\r\n\r\n", b"\x05\0\x05a%20b"),
        (b"\x16\x03\x01", b""),
        // The protocol allows 128 bytes.
        (&long, b""),
    ];
    for (bytes, tlvs) in cases {
        let (answer, client) = ask(&lb, bytes);
        assert_eq!(answer, "served\n");
        assert_eq!(server.client(), [&version_2(client, &lb, tlvs), bytes].concat());
    }
    // A fresh id is one as well.
    let (_, client) = ask(&lb, b"\n");
    let sent = server.client();
    let start = version_2(client, &lb, b"\x05\0\x06123456");
    assert_eq!(sent[..start.len() - 6], start[..start.len() - 6]);
    assert!(sent[start.len() - 6..].strip_suffix(b"\n").unwrap().iter().all(u8::is_ascii_digit));
}

#[test]
fn it_does_not_wait_for_bytes_of_a_client_where_none_are_read() {
    let wire = Wire::start(&["--key", "source", "--send-proxy", "v1"]);
    let (mut client, mut replica) = wire.pair();
    let address = client.local_addr().unwrap();
    let header = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", address.port(), wire.lb.data.port());
    let mut received = vec![0; header.len()];
    replica.read_exact(&mut received).unwrap();
    assert_eq!(received, header.as_bytes());
    replica.write_all(b"220 welcome").unwrap();
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).unwrap();
    client.write_all(b"EHLO").unwrap();
    let mut reply = [0; 4];
    replica.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"EHLO");
}

#[test]
fn what_a_proxy_in_front_has_said_is_passed_on() {
    let server = Strict::start();
    let lb = before(&server, &[&FROM[..], &["--send-proxy", "v1"]].concat());
    for (client, expected) in [
        ("192.0.2.7:5000", "PROXY TCP4 192.0.2.7 192.0.2.7 5000 443\r\n7\n"),
        ("[2001:db8::7]:5000", "PROXY TCP6 2001:db8::7 2001:db8::7 5000 443\r\n7\n"),
    ] {
        for header in headers(client) {
            ask(&lb, &[&header, &b"7\n"[..]].concat());
            assert_eq!(server.client(), expected.as_bytes());
        }
    }
}

#[test]
fn a_probe_begins_with_a_header_that_names_no_client() {
    for (version, local) in LOCAL {
        let server = Strict::start();
        let _lb = before(&server, &["--send-proxy", version]);
        let probe = server.probes.recv_timeout(PATIENCE).unwrap();
        let request = probe.strip_prefix(local).unwrap();
        assert!(request.starts_with(b"GET /heartbeat HTTP/1.1\r\n"), "{}", request.escape_ascii());
        // A connection that is looked at, because the replica is in doubt, begins with it too.
        let server = Strict::start();
        let _lb = before(&server, &["--send-proxy", version, "--health", "tcp", "--rise", "2"]);
        assert_eq!(server.probes.recv_timeout(PATIENCE).unwrap(), local);
    }
}

#[test]
fn a_replica_that_takes_connections_over_gets_no_header() {
    // It reads no header.
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../backend/handoff/examples/replica.py");
    let command = format!("exec python3 {example}");
    let flags = ["--transport", "handoff", "--send-proxy", "v1", "--replicas", "1", "--health", "tcp"];
    let lb = Lb::start(&[&flags[..], &["--command", &command]].concat());
    eventually("a link", || lb.log().iter().any(|line| line.contains("are handed over")).then_some(()));
    let answer = lb.get("/home?id=7");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn the_header_takes_no_call_of_its_own() {
    for (version, sign, length) in [("v1", "PROXY TCP4", 0), ("v2", "QUIT", 28 + 4)] {
        let server = Strict::start();
        let lb = before(&server, &["--send-proxy", version, "--workers", "1"]);
        let threads = threads_named(&lb, "worker-1");
        let Some(tracer) = Tracer::tamper(&threads, "sendto", "delay_enter=1") else { return };
        let mut expected = Vec::new();
        for _ in 0..10 {
            let (_, client) = ask(&lb, b"7\n");
            let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", client.port(), lb.data.port());
            expected.push(2 + if length == 0 { line.len() } else { length });
        }
        let sent = || -> Option<Vec<usize>> {
            let lines = tracer.lines().into_iter().filter(|line| line.contains(sign));
            lines.map(|line| line.split(" = ").nth(1)?.split_whitespace().next()?.parse().ok()).collect()
        };
        eventually("each header in one call with the line", || (sent()? == expected).then_some(()));
    }
}

#[test]
fn the_signature_is_that_of_the_protocol() {
    assert_eq!(&LOCAL[1].1[..12], SIGNATURE);
}
