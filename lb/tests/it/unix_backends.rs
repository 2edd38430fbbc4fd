//! Servers that listen at Unix sockets: `unix:/PATH` in place of `HOST:PORT`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use serde_json::json;
use socket2::SockRef;
use tempfile::TempDir;

use crate::flags::{command, end};
use crate::harness::{Lb, PATIENCE, Replica, eventually, id_for, say, text};
use crate::upgrade::Successor;

/// A server at a Unix socket. It passes probes, and sends back what other clients send.
struct Server {
    folder: TempDir,
    listener: UnixListener,
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("app.sock")).unwrap();
        let server = Server { folder, listener };
        server.accept();
        server
    }

    fn accept(&self) {
        let listener = self.listener.try_clone().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || serve(stream));
            }
        });
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("app.sock")
    }

    /// Its location, as flags and commands have it.
    fn location(&self) -> String {
        format!("unix:{}", self.path().display())
    }

    /// From now on it refuses connections.
    fn leave(&self) {
        SockRef::from(&self.listener).shutdown(Shutdown::Both).unwrap();
    }
}

fn serve(mut stream: UnixStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut first = [0; 4096];
    let Ok(read @ 1..) = stream.read(&mut first) else { return };
    if first[..read].starts_with(b"GET /heartbeat ") {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    let _ = stream.write_all(&first[..read]);
    let mut reader = stream.try_clone().unwrap();
    let _ = std::io::copy(&mut reader, &mut stream);
}

fn with(backends: &[String], more: &[&str]) -> Lb {
    let backends = backends.iter().flat_map(|backend| ["--backend", backend]);
    Lb::start(&[&["--provider", "fixed"], &backends.collect::<Vec<_>>()[..], more].concat())
}

#[test]
fn bytes_go_both_ways_and_a_half_close_stays_one() {
    for splice in ["auto", "never"] {
        let server = Server::start();
        let lb = with(&[format!("a={},weight=3", server.location())], &["--splice", splice]);
        let slot = lb.slot(1);
        let shown = ["address", "location"].map(|field| text(&slot[field]).to_owned());
        assert_eq!((shown, &slot["weight"]), ([server.location(), server.location()], &json!(3)));
        let bytes: Vec<u8> = (0..16 << 20_u32).map(|at: u32| (at ^ (at >> 9)) as u8).collect();
        let mut stream = lb.connect();
        let mut sender = stream.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                sender.write_all(b"7\n").unwrap();
                sender.write_all(&bytes).unwrap();
                sender.shutdown(Shutdown::Write).unwrap();
            });
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            assert!(back.starts_with(b"7\n") && back[2..] == bytes, "{} bytes came back", back.len());
        });
    }
}

#[test]
fn servers_at_sockets_come_and_go_by_commands_files_and_over_an_upgrade() {
    let (first, second, tcp) = (Server::start(), Server::start(), Replica::echo());
    let file = first.folder.path().join("backends");
    fs::write(&file, format!("a={}\nb={}\n", first.location(), tcp.address)).unwrap();
    let lb = Lb::start(&["--provider", "fixed", "--backends-file", file.to_str().unwrap()]);
    let control = lb.control.to_string();
    let added = format!("c={},weight=2", second.location());
    let (code, stdout, stderr) = end(command(&["add", "1", &added], &[("LB_CONTROL", &control)]));
    assert_eq!((code, stdout.as_str()), (Some(0), "3 replicas\n  a\n  b\n  c\n"), "{stderr}");
    let (_, table, _) = end(command(&["backends"], &[("LB_CONTROL", &control)]));
    assert!(table.contains(&second.location()), "{table}");
    let id = id_for(&lb, "c");
    let mut open = lb.connect();
    assert_eq!(say(&mut open, &id), format!("{id}\n"));
    let _successor = Successor::of(&lb);
    assert_eq!(lb.hostnames(), ["a", "b", "c"]);
    assert_eq!(lb.exchange(format!("{id}\n").as_bytes()), format!("{id}\n").as_bytes());
    assert_eq!(say(&mut open, "still there"), "still there\n");
    fs::write(&file, format!("a={}\n", second.location())).unwrap();
    eventually("a at the other socket alone", || {
        let slots = lb.backends();
        let is_it = slots.len() == 1 && text(&slots[0]["address"]) == second.location();
        is_it.then_some(())
    });
}

#[test]
fn a_socket_where_nothing_listens_is_skipped_probed_and_used_again() {
    for (probe, makes_it_vanish) in [("http:/heartbeat", false), ("tcp", true)] {
        let (mut server, other) = (Server::start(), Replica::echo());
        let backends = [format!("a={}", server.location()), format!("b={}", other.address)];
        let lb = with(&backends, &["--health", probe, "--health-interval", "20ms"]);
        let id = id_for(&lb, "a");
        server.leave();
        if makes_it_vanish {
            fs::remove_file(server.path()).unwrap();
        }
        let answer = lb.exchange(format!("{id}\n").as_bytes());
        assert_eq!(answer, format!("{id}\n").as_bytes(), "the other one answers");
        let reason = lb.wait_for_state(1, "down")["reason"].clone();
        let expected = if makes_it_vanish { "there is no such socket" } else { "refused" };
        assert!(text(&reason).contains(expected), "{reason}");
        let _ = fs::remove_file(server.path());
        server.listener = UnixListener::bind(server.path()).unwrap();
        server.accept();
        lb.wait_for_state(1, "up");
        assert_eq!(lb.exchange(format!("{id}\n").as_bytes()), format!("{id}\n").as_bytes());
    }
}

#[test]
fn a_client_waits_until_there_is_room_in_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    SockRef::from(&listener).listen(0).unwrap();
    // Probes have to pass once; from then on the test alone accepts.
    let lb = Lb::launch(&[
        "--provider",
        "fixed",
        "--backend",
        &format!("a=unix:{}", path.display()),
        "--health-interval",
        "1h",
        "--connect-timeout",
        "30s",
    ]);
    serve(listener.accept().unwrap().0);
    lb.wait_for_state(1, "up");
    let _in_the_queue = UnixStream::connect(&path).unwrap();
    let mut client = lb.connect();
    client.write_all(b"7\n").unwrap();
    lb.wait_until_all_up();
    drop(listener.accept().unwrap());
    serve_next(&listener);
    let mut answer = [0; 2];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"7\n");
}

fn serve_next(listener: &UnixListener) {
    let stream = listener.accept().unwrap().0;
    thread::spawn(move || serve(stream));
}

#[test]
fn the_proxy_header_reaches_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let backend = format!("a=unix:{}", path.display());
    let flags = ["--provider", "fixed", "--backend", &backend, "--send-proxy", "v1", "--health", "tcp"];
    let lb = Lb::launch(&flags);
    lb.wait_for_state(1, "up");
    let mut client = lb.connect();
    client.write_all(b"7\n").unwrap();
    let address = client.local_addr().unwrap();
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n7\n", address.port(), lb.data.port());
    // Probes come to the same queue.
    let found = listener.incoming().map_while(Result::ok).find_map(|mut stream| {
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).ok().map(|()| bytes)
    });
    assert_eq!(String::from_utf8(found.unwrap()).unwrap(), expected);
}

#[test]
fn a_path_that_is_none_is_refused() {
    for path in ["", "run/app.sock", &format!("/{}", "x".repeat(107))] {
        let backend = format!("a=unix:{path}");
        let (code, _, stderr) = end(command(&["check", "--provider", "fixed", "--backend", &backend], &[]));
        assert_eq!(code, Some(2));
        let expected = format!("--backend: invalid value `{backend}`: expected NAME=HOST:PORT");
        assert!(stderr.contains(&expected) && stderr.contains("unix:/PATH"), "{stderr}");
    }
}
