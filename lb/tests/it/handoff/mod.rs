//! Connections that are handed over (`--transport handoff`, docs/HANDOFF.md).
//!
//! - here: what a replica and a client see, what is counted, and what is not handed over;
//! - [`failure`]: replicas that are full, hung, dead or send garbage;
//! - [`same`]: tests of the proxy transport, run again with hand-off.

mod failure;
mod same;
mod taker;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::{Lb, Replica, demo_after, eventually, processes_with, text};
use taker::{Takers, client, expect_line, wait_for_transport};

/// The connections of slot 1: open ones, and all so far.
fn connections(lb: &Lb) -> (u64, u64) {
    let connections = &lb.slot(1)["connections"];
    (connections["open"].as_u64().unwrap(), connections["total"].as_u64().unwrap())
}

#[test]
fn a_replica_gets_the_unread_socket_of_the_client_and_its_metadata() {
    let takers = Takers::new(1);
    let (lb, links) = takers.start(&[]);
    // First line, request id, key.
    let cases: [(&str, Option<&str>, Option<&str>); 6] = [
        ("132574\n", Some("132574"), Some("132574")),
        ("GET /home?id=a%20b HTTP/1.1\r\nHost: x\r\n\r\n", Some("a%20b"), Some("a%20b")),
        ("GET /home HTTP/1.1\r\n\r\n", None, None),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None, None),
        ("\u{16}\u{3}\u{1}", None, Some("127.0.0.1")),
        ("x 1\nand much more that is not read before\n", Some("x"), Some("x")),
    ];
    for (number, (line, id, key)) in (0..).zip(cases) {
        let mut client = client(&lb, line);
        let (mut taken, metadata) = links[0].take();
        assert_eq!(
            taken.peer_addr().unwrap(),
            client.local_addr().unwrap(),
            "it is the socket of the client"
        );
        assert_eq!(taken.local_addr().unwrap(), lb.data);
        expect_line(&mut taken, line);
        assert_eq!((metadata.number(), metadata.attempt(), metadata.slot()), (number, 0, b"a".as_slice()));
        assert_eq!(metadata.request_id(), id.map(str::as_bytes), "{line:?}");
        match key {
            Some(key) => assert_eq!(metadata.key(), key.as_bytes(), "{line:?}"),
            None => assert!(
                metadata.key().len() == 6 && metadata.key().iter().all(u8::is_ascii_digit),
                "{line:?}"
            ),
        }
        taken.write_all(b"answer").unwrap();
        drop(taken);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(
            answer, "answer",
            "the client's stream ends when the replica closes: lb has no copy of the socket"
        );
    }
    assert_eq!(takers.proxied(0), 0);
}

#[test]
fn a_line_in_pieces_or_without_newline_is_read_until_it_is_complete() {
    let takers = Takers::new(1);
    let (lb, links) = takers.start(&["--workers", "1"]);
    for last in ["\n", ""] {
        let mut client = client(&lb, "13");
        // `lb` serves a later client first, so it has read the first piece by then.
        let other = taker::client(&lb, "other\n");
        assert_eq!(links[0].take().1.key(), b"other");
        drop(other);
        client.write_all(format!("2574{last}").as_bytes()).unwrap();
        if last.is_empty() {
            client.shutdown(Shutdown::Write).unwrap();
        }
        let (mut taken, metadata) = links[0].take();
        assert_eq!(metadata.key(), b"132574");
        expect_line(&mut taken, &format!("132574{last}"));
    }
}

#[test]
fn a_line_of_64_kib_is_read_completely() {
    let takers = Takers::new(1);
    let (lb, links) = takers.start(&["--first-line-max", "64KiB"]);
    let line = format!("GET /{}?id=132574 HTTP/1.1\n", "x".repeat(65536 - 30));
    let _client = client(&lb, &line);
    let (mut taken, metadata) = links[0].take();
    assert_eq!(metadata.request_id(), Some(b"132574".as_slice()));
    expect_line(&mut taken, &line);
}

#[test]
fn a_fixed_replica_that_is_removed_and_added_leaks_no_file() {
    let takers = Takers::new(1);
    let (lb, mut links) = takers.start(&[]);
    let before = lb.files_at_rest();
    for _ in 0..10 {
        lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["a"]}));
        assert!(links.remove(0).is_over());
        lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["a"]}));
        links.push(takers.accept(0));
    }
    eventually("as few files as before", || (lb.open_files() <= before).then_some(()));
}

#[test]
fn a_client_is_handed_over_before_its_first_byte_with_the_key_source() {
    let takers = Takers::new(1);
    let (lb, links) = takers.start(&["--key", "source"]);
    let mut client = client(&lb, "");
    let (mut taken, metadata) = links[0].take();
    assert_eq!((metadata.key(), metadata.request_id()), (b"127.0.0.1".as_slice(), None));
    taken.write_all(b"the server speaks first").unwrap();
    drop(taken);
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "the server speaks first");
}

#[test]
fn a_connection_is_open_until_the_replica_says_that_it_is_closed() {
    let takers = Takers::new(1);
    let (lb, links) = takers.start(&[]);
    let clients: Vec<_> = ["1\n", "2\n", "3\n"].map(|line| client(&lb, line)).into();
    let taken: Vec<_> = clients.iter().map(|_| links[0].take()).collect();
    assert_eq!(connections(&lb), (3, 3));
    drop(clients);
    links[0].report(&[taken[1].1.number()]);
    eventually("two open connections", || (connections(&lb) == (2, 3)).then_some(()));
    // Unknown numbers are ignored, and so are repeated ones.
    links[0].report(&[taken[1].1.number(), 1 << 40, taken[0].1.number(), taken[2].1.number()]);
    eventually("no open connection", || (connections(&lb) == (0, 3)).then_some(()));
}

#[test]
fn a_removed_replica_is_drained_of_handed_over_connections() {
    let takers = Takers::new(2);
    let (lb, links) = takers.start(&[]);
    let key = crate::harness::id_for(&lb, "a");
    let mut client = client(&lb, &format!("{key}\n"));
    let (mut taken, metadata) = links[0].take();
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["a"]}));
    let leaving = || lb.backends().iter().any(|slot| slot["name"] == "a");
    assert!(leaving(), "the slot waits for its connection");
    let other = taker::client(&lb, &format!("{key}\n"));
    assert_eq!(links[1].take().1.slot(), b"b", "the leaving replica gets no new connection");
    drop(other);
    expect_line(&mut taken, &format!("{key}\n"));
    taken.write_all(b"still there").unwrap();
    drop(taken);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "still there");
    assert!(leaving(), "the slot waits for the report");
    links[0].report(&[metadata.number()]);
    eventually("the end of the slot", || (!leaving()).then_some(()));
    assert!(links[0].is_over(), "the link has ended");
    // The replica can come back.
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["a"]}));
    let again = takers.accept(0);
    let _back = taker::client(&lb, &format!("{key}\n"));
    assert_eq!(again.take().1.key(), key.as_bytes());
}

#[test]
fn connections_are_proxied_to_a_replica_that_takes_none_over() {
    let lb = Lb::start(&[
        "--replicas",
        "2",
        "--transport",
        "handoff",
        "--command",
        &demo_after("unset LB_HANDOFF;"),
    ]);
    for index in [1, 2] {
        wait_for_transport(&lb, index, "proxy");
        lb.wait_for_log("the replica does not take them over there");
    }
    for id in 0..20 {
        assert!(lb.route(&id.to_string()).starts_with("server"));
    }
    assert!(lb.get("/home?id=132574").ends_with(r#""status":"successful"}"#));
}

#[test]
fn no_replica_is_asked_to_take_connections_over_with_the_proxy_transport() {
    let mut command = Lb::command(&["--replicas", "1"]);
    // As if this lb were a replica of another.
    command.env("LB_HANDOFF", "/no/listener/here").env("LB_TRANSPORT", "proxy");
    let lb = Lb::launch_as(command);
    lb.wait_for_log("ready data=");
    let replica = lb.process_of("server1");
    assert!(!processes_with("LB_HANDOFF=/no/listener/here").contains(&replica));
    wait_for_transport(&lb, 1, "proxy");
}

#[test]
fn the_folder_of_the_sockets_is_private_and_removed_at_the_end() {
    use std::os::unix::fs::PermissionsExt as _;
    let temporary = tempfile::tempdir().unwrap();
    let mut command = Lb::command(&["--replicas", "2", "--transport", "handoff"]);
    command.env("TMPDIR", temporary.path()).env_remove("LB_HANDOFF_DIR");
    let mut lb = Lb::launch_as(command);
    lb.wait_for_log("ready data=");
    let inside = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let folder = inside(temporary.path()).remove(0);
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let sockets = || inside(&folder).iter().filter(|path| path.extension().is_some()).count();
    assert_eq!(sockets(), 2);
    crate::harness::signal(lb.process_of("server1"), "KILL");
    lb.wait_for_restarts(1, 1);
    assert_eq!(wait_for_transport(&lb, 1, "handoff")["state"], "up");
    eventually("two sockets", || (sockets() == 2).then_some(()));
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    assert_eq!(inside(temporary.path()), Vec::<PathBuf>::new());
}

/// A replica that `lb` does not start: the demo server as a process of the test.
struct Elsewhere(Child);

impl Elsewhere {
    /// Starts a replica "a" that takes connections over in this folder; the value of `--backend` for it.
    fn start(folder: &Path) -> (Elsewhere, String) {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        command.args([
            "replica",
            "--parent",
            &std::process::id().to_string(),
            "--port",
            &port.to_string(),
            "--id",
            "a",
        ]);
        command.env("LB_HANDOFF", folder.join("a.sock")).stdin(Stdio::null()).stderr(Stdio::null());
        (Elsewhere(command.spawn().unwrap()), format!("a=127.0.0.1:{port}"))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn handed_over_connections_survive_a_kill_and_the_next_lb_hands_over_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_replica, backend) = Elsewhere::start(folder.path());
    let flags = ["--provider", "fixed", "--backend", &backend, "--transport", "handoff"];
    let flags = [flags.as_slice(), &["--handoff-dir", folder.path().to_str().unwrap()]].concat();
    let mut lb = Lb::start(&flags);
    wait_for_transport(&lb, 1, "handoff");
    let mut session = client(&lb, "1\n");
    let mut line = |text: &str| {
        session.write_all(text.as_bytes()).unwrap();
        let mut answer = [0; 4];
        session.read_exact(&mut answer).unwrap();
        String::from_utf8(answer.to_vec()).unwrap()
    };
    assert_eq!(line(""), "a 1\n");
    lb.signal("KILL");
    lb.wait();
    assert_eq!(line("2\n"), "a 2\n");

    // An orderly end does not wait for connections of replicas that lb did not start.
    let mut next = Lb::start(&flags);
    wait_for_transport(&next, 1, "handoff");
    let mut other = client(&next, "3\n");
    let mut answer = [0; 4];
    other.read_exact(&mut answer).unwrap();
    eventually("the count", || (connections(&next) == (1, 1)).then_some(()));
    next.signal("TERM");
    assert_eq!(next.wait().code(), Some(0));
    assert_eq!(line("4\n"), "a 4\n");
    other.write_all(b"5\n").unwrap();
    other.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"a 5\n");
}

/// Starts an `lb` that hands over in this folder, and must refuse to; its error.
#[track_caller]
fn refusal(folder: &Path) -> String {
    let flags =
        ["--provider", "fixed", "--backend", "a=127.0.0.1:1", "--transport", "handoff", "--handoff-dir"];
    let mut lb = Lb::launch(&[&flags[..], &[folder.to_str().unwrap()]].concat());
    let code = lb.wait().code();
    let error = lb.wait_for_log("error: ");
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("--handoff-dir: invalid value"), "{error}");
    error
}

#[test]
fn a_folder_in_which_another_user_can_take_a_place_is_refused() {
    use std::fs::{Permissions, create_dir, set_permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("doors");
    create_dir(&folder).unwrap();
    let modes = |above_mode, mode| {
        set_permissions(above.path(), Permissions::from_mode(above_mode)).unwrap();
        set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
    };
    for (above_mode, mode, part) in [
        (0o755, 0o770, "doors can be written to by other users (mode 0770)"),
        (0o755, 0o1777, "doors can be written to by other users (mode 1777)"),
        (0o777, 0o700, "can be written to by other users (mode 0777)"),
        (0o2775, 0o700, "can be written to by other users (mode 2775)"),
    ] {
        modes(above_mode, mode);
        assert!(refusal(&folder).contains(part), "{above_mode:o} {mode:o}");
    }
    modes(0o755, 0o700);
    // Only root can give a folder away.
    if chown(&folder, Some(NOBODY), None).is_ok() {
        assert!(refusal(&folder).contains("belongs to another user (65534)"));
        chown(&folder, Some(0), None).unwrap();
        chown(above.path(), Some(NOBODY), None).unwrap();
        assert!(refusal(&folder).contains("belongs to another user (65534)"));
    }
}

const NOBODY: u32 = 65_534;

#[test]
fn a_socket_at_which_another_user_listens_gets_no_connection() {
    use std::os::unix::fs::chown;
    use std::os::unix::process::CommandExt as _;
    let (safe, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    if chown(theirs.path(), Some(NOBODY), None).is_err() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let listen = "import socket, sys, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(sys.argv[1]); \
                  s.listen(); open(sys.argv[1] + '.ready', 'w'); time.sleep(600)";
    let socket = theirs.path().join("a.sock");
    let mut command = Command::new("python3");
    let _other = Elsewhere(command.args(["-c", listen]).arg(&socket).uid(NOBODY).spawn().unwrap());
    eventually("a listener", || theirs.path().join("a.sock.ready").exists().then_some(()));
    std::fs::rename(&socket, safe.path().join("a.sock")).unwrap();
    let replica = Replica::named("proxied");
    let mut flags = crate::harness::fixed(&[replica.address]);
    flags.extend(
        ["--transport", "handoff", "--handoff-dir", safe.path().to_str().unwrap()].map(str::to_owned),
    );
    let lb = Lb::start(&crate::harness::flags(&flags));
    let line = lb.wait_for_log("user 65534 listens");
    assert!(line.contains("connections are proxied"), "{line}");
    assert_eq!(lb.route("1"), "proxied");
    wait_for_transport(&lb, 1, "proxy");
}

#[test]
fn ten_thousand_connections_leak_no_file_on_either_side() {
    let lb = Lb::start(&["--replicas", "1", "--transport", "handoff"]);
    wait_for_transport(&lb, 1, "handoff");
    let replica = lb.process_of("server1");
    let files = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let some = || assert!((0..10).all(|id| lb.route(&id.to_string()) == "server1"));
    some();
    eventually("nothing open", || (connections(&lb).0 == 0).then_some(()));
    let before = (lb.files_at_rest(), files(replica) + 1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..2500).for_each(|id| assert_eq!(lb.route(&id.to_string()), "server1")));
        }
    });
    // A probe may keep one connection, with a file on both sides.
    eventually("as few files as before", || {
        (lb.open_files() <= before.0 && files(replica) <= before.1).then_some(())
    });
    eventually("nothing open", || (connections(&lb).0 == 0).then_some(()));
    assert_eq!(connections(&lb).1, 10_010);
}

#[test]
fn a_python_replica_of_a_few_lines_takes_connections_over() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backend/handoff/examples/replica.py");
    let command = format!("exec python3 {}", example.display());
    let lb = Lb::start(&["--replicas", "2", "--transport", "handoff", "--command", &command]);
    for index in [1, 2] {
        wait_for_transport(&lb, index, "handoff");
    }
    let answers: Vec<String> = (0..20).map(|id| lb.get(&format!("/home?id={id}"))).collect();
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200")), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.contains(text(&lb.slot(1)["hostname"]))));
    eventually("nothing open", || (connections(&lb).0 == 0).then_some(()));
}
