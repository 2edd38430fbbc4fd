//! The key is the server that a TLS client asks for, or the path, a header or a cookie of an HTTP/1 request (`--key`). No byte of what is
//! read for it is changed or lost, and what has no such key goes by another.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::first_line::Fleet;
use crate::first_line::Key::{self, Id, Random, Source};
use crate::harness::{Lb, Wire, eventually, field};
use crate::programs::{find, free_address, skipped};

/// A fleet of which the key is of this kind.
fn fleet(kind: &str, more: &[&str]) -> Fleet {
    Fleet::start(&[&["--key", kind], more].concat())
}

impl Fleet {
    /// Sends these pieces, and checks that they come back from the replica that `expected` leads to.
    #[track_caller]
    fn check_pieces(&self, pieces: &[&[u8]], expected: Key) {
        let mut client = self.lb.connect();
        client.set_nodelay(true).unwrap();
        pieces.iter().for_each(|piece| client.write_all(piece).unwrap());
        self.check_answer(client, &pieces.concat(), expected);
    }
}

/// A vector with a length of `N` bytes.
fn sized<const N: usize>(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_be_bytes()[8 - N..], bytes].concat()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized::<2>(value)].concat()
}

/// The extension that names the server.
fn name(name: &str) -> Vec<u8> {
    extension(0, &sized::<2>(&[&[0], &sized::<2>(name.as_bytes())[..]].concat()))
}

/// A `ClientHello` with these extensions, in records of at most so many bytes.
fn hello(extensions: &[Vec<u8>], most: usize) -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &sized::<1>(&[9; 32]), &sized::<2>(&[0x13, 1]), &sized::<1>(&[0])];
    let body = [body.concat(), sized::<2>(&extensions.concat())].concat();
    let message = [&[1], &sized::<3>(&body)[..]].concat();
    message.chunks(most).flat_map(|part| [&[22, 3, 1], &sized::<2>(part)[..]].concat()).collect()
}

#[test]
fn the_server_that_a_tls_client_asks_for_is_the_key_however_it_is_cut() {
    let fleet = fleet("sni", &[]);
    for most in [1, 7, 100, 1 << 14] {
        let padding = extension(21, &[0; 3000]);
        let hello = hello(&[padding, name("Www.Example.org")], most);
        if most > 1 {
            fleet.check_pieces(&[&hello, b"more\0bytes"], Id("www.example.org"));
        }
        let small = self::hello(&[name("www.example.org")], most);
        fleet.check_pieces(&[&small[..9], &small[9..], b"\x14\x03\x03"], Id("www.example.org"));
        fleet.check_pieces(&small.chunks(1).collect::<Vec<_>>(), Id("www.example.org"));
    }
    assert_eq!(fleet.lb.order("WWW.example.ORG"), fleet.lb.order("www.example.org"));
}

#[test]
fn without_a_name_that_is_known_the_address_is_the_key() {
    let fleet = fleet("sni", &[]);
    fleet.check_pieces(&[&hello(&[], 100)], Source);
    // An encrypted one hides the name that is meant.
    fleet.check_pieces(&[&hello(&[name("public.example"), extension(0xfe0d, &[0; 40])], 1 << 14)], Source);
    fleet.check_pieces(&[&hello(&[name("not a name")], 1 << 14)], Source);
    // It is longer than --first-line-max.
    fleet.check_pieces(&[&hello(&[extension(21, &[0; 8192]), name("late.example")], 1 << 14)], Source);
    // It is no TLS.
    for other in
        [&b"132574\n"[..], b"GET /?id=5 HTTP/1.1\r\n\r\n", b"\x16\x02", b"\x15\x03\x03\0\x02\x01\0", b"\0"]
    {
        fleet.check_pieces(&[other], Source);
    }
    // It ends too early.
    let hello = hello(&[name("www.example.org")], 1 << 14);
    let mut client = fleet.lb.connect();
    client.write_all(&hello[..40]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    fleet.check_answer(client, &hello[..40], Source);
}

#[test]
fn a_hello_that_does_not_come_is_not_awaited_for_ever() {
    let fleet = fleet("sni", &["--first-line-timeout", "300ms"]);
    fleet.check_pieces(&[&hello(&[name("www.example.org")], 1 << 14)[..40]], Source);
}

#[test]
fn the_path_of_a_request_is_the_key() {
    let fleet = fleet("path", &[]);
    for (request, key) in [
        (&b"GET /a/b?id=5 HTTP/1.1\r\nHost: x\r\n\r\n"[..], Id("/a/b")),
        (b"GET /a/b HTTP/1.0\n", Id("/a/b")),
        (b"POST http://host/a/b?c HTTP/1.1\r\n\r\nbody\0", Id("/a/b")),
        (b"GET /a%2Fb HTTP/1.1\r\n", Id("/a%2Fb")),
        (b"OPTIONS * HTTP/1.1\r\n", Id("*")),
        (b"132574\n", Source),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Source),
        (b"\x16\x03\x01\0\x05", Source),
    ] {
        fleet.check_pieces(&[request], key);
    }
    assert_eq!(fleet.lb.order("/a/b?other=query"), fleet.lb.order("/a/b"));
}

#[test]
fn a_header_of_a_request_is_the_key() {
    let fleet = fleet("header:X-User", &[]);
    let long = [&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; 8192], b"\r\nX-User: ann\r\n\r\n"].concat();
    for (request, key) in [
        (&b"GET / HTTP/1.1\r\nHost: h\r\nx-user:  ann \r\nX-User: bob\r\n\r\nbody"[..], Id("ann")),
        // Known as soon as its line has come.
        (b"GET / HTTP/1.1\r\nX-USER:ann\r\n", Id("ann")),
        (b"GET /?id=5 HTTP/1.1\r\nHost: h\r\n\r\nX-User: ann\r\n", Random),
        (b"GET / HTTP/1.1\r\nX-User:\r\n\r\n", Random),
        (b"132574\n", Source),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Source),
        (b"\x16\x03\x01\0\x05", Source),
        (&long, Source),
    ] {
        fleet.check_pieces(&[request], key);
        fleet.check_pieces(&[&request[..1], &request[1..]], key);
    }
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nX-User: ann\r\n\r\n";
    fleet.check_pieces(&request.chunks(1).collect::<Vec<_>>(), Id("ann"));
}

#[test]
fn a_cookie_of_a_request_is_the_key() {
    let fleet = fleet("cookie:sid", &[]);
    for (request, key) in [
        (&b"GET / HTTP/1.1\r\nCookie: a=1; sid=s3; sid=no\r\n\r\n"[..], Id("s3")),
        (b"GET / HTTP/1.1\r\ncookie: a=1\r\nCookie: sid=s3\r\n\r\n", Id("s3")),
        (b"GET / HTTP/1.1\r\nCookie: xsid=1; SID=2\r\n\r\n", Random),
        (b"GET / HTTP/1.1\r\nSet-Cookie: sid=1\r\n\r\n", Random),
        (b"sid=1\n", Source),
    ] {
        fleet.check_pieces(&[request], key);
    }
}

#[test]
fn a_request_whose_head_does_not_end_in_time_goes_by_the_address_and_is_still_http() {
    let lb = Lb::start(&["--key", "header:x", "--first-line-timeout", "300ms", "--replicas", "0"]);
    let mut client = lb.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    // So is plain HTTP where TLS was expected.
    let lb = Lb::start(&["--key", "sni", "--replicas", "0"]);
    let answer = lb.exchange(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 503"), "{}", answer.escape_ascii());
}

#[test]
fn a_connection_that_is_handed_over_has_such_a_key_too() {
    for (kind, key) in [("path", "/home"), ("header:host", "h"), ("cookie:sid", "s3")] {
        let lb = Lb::start(&["--key", kind, "--transport", "handoff"]);
        eventually("links to all replicas", || {
            (lb.log().iter().filter(|line| line.contains("are handed over")).count() >= 3).then_some(())
        });
        let mut client = lb.connect();
        client
            .write_all(b"GET /home?a=b HTTP/1.1\r\nHost: h\r\nCookie: sid=s3\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(&format!("Hello from Server: {}", lb.order(key)[0])), "{kind}: {answer}");
    }
}

#[test]
fn an_explanation_says_what_the_key_is() {
    for (kind, asked, key, what) in [
        ("id", "7", "7", "id 7"),
        ("source", "::ffff:192.0.2.7", "192.0.2.7", "address ::ffff:192.0.2.7"),
        ("sni", "Example.ORG", "example.org", "server name Example.ORG"),
        ("path", "/a?b", "/a", "path /a?b"),
        ("header:X-User", "ann", "ann", "header X-User: ann"),
        ("cookie:sid", "s3", "s3", "cookie sid: s3"),
    ] {
        let lb = Lb::start(&["--key", kind]);
        let explanation = lb.done(&json!({"cmd": "explain", "id": asked}));
        assert_eq!((&explanation["id"], &explanation["key"]), (&json!(asked), &json!(key)));
        let expected = if kind == "id" { Value::Null } else { json!(kind) };
        assert_eq!(explanation["key_kind"], expected, "{explanation}");
        let control = lb.control.to_string();
        let words = Command::new(env!("CARGO_BIN_EXE_lb"))
            .args(["explain", "--control", &control, asked])
            .output()
            .unwrap();
        let words = String::from_utf8(words.stdout).unwrap();
        assert!(words.starts_with(&format!("{what} is key \"{key}\"")), "{words}");
    }
}

#[test]
fn the_log_of_connections_has_the_protocols_that_a_tls_client_offers() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("access.log");
    let log = ["--access-log", path.to_str().unwrap(), "--access-log-format", "{key} {id} {alpn}"];
    let fleet = fleet("sni", &log);
    let alpn = extension(16, &sized::<2>(b"\x02h2\x08http/1.1\x02\x1b["));
    fleet.check_pieces(&[&hello(&[name("a.example"), alpn], 1 << 14)], Id("a.example"));
    fleet.check_pieces(&[b"\0"], Source);
    eventually("both lines", || {
        let lines = std::fs::read_to_string(&path).unwrap_or_default();
        (lines == "sni a.example h2,http/1.1\nsource - -\n").then_some(())
    });
}

#[test]
fn a_replica_is_told_the_server_name() {
    let wire = Wire::start(&["--key", "sni", "--send-proxy", "v2"]);
    let mut client = wire.lb.connect();
    let hello = hello(&[name("a.example")], 1 << 14);
    client.write_all(&hello).unwrap();
    let mut received = vec![0; 28 + 12 + hello.len()];
    wire.accept().read_exact(&mut received).unwrap();
    assert_eq!(received[28..], [&b"\x02\0\x09a.example"[..], &hello].concat());
}

/// `openssl s_server` with a certificate of its own, ended when it is dropped.
struct Server {
    child: Child,
    address: String,
    /// Its key and certificate.
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(openssl: &std::path::Path) -> Server {
        let folder = tempfile::TempDir::new().unwrap();
        let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("cert.pem"));
        let mut make = Command::new(openssl);
        make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        make.args(["-subj", "/CN=example.org", "-days", "2", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate);
        assert!(make.stderr(Stdio::null()).status().unwrap().success());
        let address = free_address().to_string();
        let mut command = Command::new(openssl);
        command.args(["s_server", "-quiet", "-www", "-accept", &address, "-key"]).arg(&key);
        command.arg("-cert").arg(&certificate).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        eventually("a server that listens", || TcpStream::connect(&address).ok());
        Server { child, address, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_tls_client_reaches_a_real_server_by_its_name() {
    let Some(openssl) = find("openssl") else { return skipped("openssl is not installed") };
    let server = Server::start(&openssl);
    let backend = format!("a={}", server.address);
    let fleet = ["--provider", "fixed", "--backend", &backend, "--health", "tcp", "--log", "debug"];
    let lb = Lb::start(&[&fleet[..], &["--key", "sni"]].concat());
    for groups in ["X25519", "P-256"] {
        let mut client = Command::new(&openssl)
            .args(["s_client", "-quiet", "-connect", &lb.data.to_string(), "-servername", "Www.Example.Org"])
            .args(["-alpn", "http/1.1", "-groups", groups])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = client.stdin.take().unwrap();
        stdin.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let output = client.wait_with_output().unwrap();
        drop(stdin);
        let page = String::from_utf8_lossy(&output.stdout);
        assert!(page.starts_with("HTTP/1.0 200"), "{page}");
    }
    let line = lb.wait_for_log("key=www.example.org");
    assert_eq!(field(&line, "id="), "www.example.org");
}
