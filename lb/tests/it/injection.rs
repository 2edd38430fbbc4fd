//! System calls of the data plane that fail for a reason of this machine: each client has a whole answer, a 503 or a reset, none
//! waits, and nothing is left behind.
//!
//! strace(1) makes them fail. It is attached to the one worker, so nothing else of `lb` is touched. Without strace these tests are
//! skipped with a line that says so, but not where `CI` is set.

use std::fs;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::json;

use crate::access_log::{line_of, logging, place};
use crate::harness::{Lb, Replica, eventually, field, fixed, flags, signal};
use crate::noise::{KIB, MIB, noise};

/// The calls that the data plane makes while it serves, each with errors that the kernel may give for it. Not among them:
/// `epoll_wait`, without which no runtime can go on, and `close`, which never fails without closing (close(2)).
const CALLS: &[(&str, &[&str])] = &[
    ("accept4", &["EMFILE", "ENOMEM", "ECONNABORTED", "EAGAIN", "EINTR"]),
    ("recvfrom", &["ENOMEM", "EIO", "EAGAIN", "EINTR", "ENOTCONN"]),
    ("sendto", &["ENOBUFS", "ENOMEM", "EPIPE", "EAGAIN", "EINTR"]),
    ("splice", &["ENOMEM", "EIO", "EAGAIN", "EINTR"]),
    ("pipe2", &["EMFILE"]),
    ("fcntl", &["EPERM"]),
    ("setsockopt", &["ENOMEM"]),
    ("getsockopt", &["ENOBUFS"]),
    ("socket", &["EMFILE", "ENOBUFS"]),
    ("connect", &["EADDRNOTAVAIL", "ENOMEM", "EAGAIN", "ECONNREFUSED"]),
    ("shutdown", &["ENOBUFS"]),
    ("poll", &["ENOMEM", "EINTR"]),
    ("fstat", &["ENOMEM"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC"]),
];
/// How long an answer is, in bytes.
const LENGTHS: [usize; 3] = [10, 100 * KIB, 6 * MIB];

fn has_strace() -> bool {
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    let is_needed = std::env::var_os("CI").is_some();
    assert!(found || !is_needed, "strace is missing");
    if !found {
        println!("skipped: there is no strace");
    }
    found
}

/// A running strace. Dropping it detaches it.
struct Strace(Child);

impl Strace {
    /// Makes each third call of this name in this thread fail, beginning with the `first`.
    fn attach(thread: u32, call: &str, error: &str, first: usize) -> Strace {
        Strace::attach_when(thread, call, error, &format!("{first}+3"))
    }

    fn attach_when(thread: u32, call: &str, error: &str, when: &str) -> Strace {
        let inject = format!("inject={call}:error={error}:when={when}");
        let mut strace = Command::new("strace")
            .args([
                "-o",
                "/dev/null",
                "-e",
                &format!("trace={call}"),
                "-e",
                &inject,
                "-p",
                &thread.to_string(),
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(strace.stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains("attached"), "{said}");
        Strace(strace)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        signal(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

/// The only worker of `lb`.
fn worker(lb: &Lb) -> u32 {
    let mut threads =
        fs::read_dir(format!("/proc/{}/task", lb.pid())).unwrap().map(|thread| thread.unwrap().path());
    let is_worker =
        |path: &std::path::PathBuf| fs::read_to_string(path.join("comm")).unwrap().starts_with("worker");
    let path = threads.find(is_worker).unwrap();
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// A replica that reads a request to its end, and answers with as many bytes of the noise as its target says.
fn noisy() -> Replica {
    Replica::start(|mut stream, first| {
        let text = String::from_utf8_lossy(&first).into_owned();
        let wanted = text.split(['/', '?']).nth(1).and_then(|number| number.parse::<usize>().ok());
        let _ = io::copy(&mut stream, &mut io::sink());
        let mut sent = 0;
        while let Some(left) = wanted.map(|wanted| wanted - sent).filter(|left| *left > 0) {
            let piece = noise(sent, left.min(64 * KIB));
            if stream.write_all(piece).is_err() {
                return;
            }
            sent += piece.len();
        }
        let _ = stream.shutdown(Shutdown::Write);
    })
}

/// What a client got, beyond doubt: everything, a 503, or a reset.
fn ask(lb: &Lb, length: usize) -> &'static str {
    let is_cut = |error: &io::Error| {
        [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::NotConnected].contains(&error.kind())
    };
    let mut client: TcpStream = lb.connect();
    let body = vec![b'x'; length];
    let sent = write!(client, "POST /{length}?id=7 HTTP/1.1\r\n\r\n")
        .and_then(|()| client.write_all(&body))
        .and_then(|()| client.shutdown(Shutdown::Write));
    if let Err(error) = sent {
        assert!(is_cut(&error), "while it sends {length}: {error}");
        return "cut";
    }
    let mut answer = Vec::new();
    match client.read_to_end(&mut answer) {
        Ok(_) if answer.starts_with(b"HTTP/1.1 503 ") => "503",
        Ok(_) => {
            assert_eq!(answer.len(), length, "an answer that is cut looks complete");
            let mut at = 0;
            while at < length {
                let piece = noise(at, length - at);
                assert!(answer[at..at + piece.len()] == *piece, "other bytes at {at}");
                at += piece.len();
            }
            "whole"
        }
        Err(error) => {
            assert!(is_cut(&error), "after {} of {length}: {error}", answer.len());
            "cut"
        }
    }
}

#[test]
fn a_call_that_fails_leaves_no_client_without_an_end_and_none_with_a_wrong_one() {
    if !has_strace() {
        return;
    }
    let replica = noisy();
    let fleet = fixed(&[replica.address]);
    let lb = Lb::start(&[&flags(&fleet)[..], &["--workers", "1", "--log", "lb=info"]].concat());
    assert_eq!(LENGTHS.map(|length| ask(&lb, length)), ["whole"; 3]);
    for (call, errors) in CALLS {
        for error in *errors {
            for first in [1, 2, 3] {
                let before = eventually("no session", || idle_files(&lb));
                let strace = Strace::attach(worker(&lb), call, error, first);
                let lb = &lb;
                let got: Vec<_> = thread::scope(|scope| {
                    let clients = LENGTHS
                        .into_iter()
                        .cycle()
                        .take(6)
                        .map(|length| scope.spawn(move || ask(lb, length)));
                    let clients: Vec<_> = clients.collect();
                    clients.into_iter().map(|client| client.join().unwrap()).collect()
                });
                drop(strace);
                println!("{call} {error} {first}: {got:?}");
                assert_eq!(ask(lb, 10), "whole", "after {call} {error} {first}");
                eventually("as many files as before", || idle_files(lb).filter(|files| *files <= before));
            }
        }
    }
    assert!(lb.log().iter().all(|line| !line.contains("panic")), "a panic");
    assert!(resets(&lb) > 0, "there were some");
    eventually("every reset in the log", || (logged(&lb) == resets(&lb)).then_some(()));
}

#[test]
fn a_shortage_of_ports_is_said_and_counted_and_not_held_against_the_replica() {
    if !has_strace() {
        return;
    }
    let replica = noisy();
    let fleet = fixed(&[replica.address]);
    let lb = Lb::start(&[&flags(&fleet)[..], &["--workers", "1"]].concat());
    let strace = Strace::attach_when(worker(&lb), "connect", "EADDRNOTAVAIL", "1+");
    for _ in 0..20 {
        assert_eq!(ask(&lb, 10), "503");
    }
    drop(strace);
    let line = lb.wait_for_log("a reason of this machine");
    assert!(line.contains(" WARN ") && line.contains("Cannot assign requested address"), "{line}");
    let slot = lb.slot(1);
    assert_eq!(
        (&slot["connections"]["failed"]["local"], &slot["state"]),
        (&20.into(), &"up".into()),
        "{slot}"
    );
    let lines = lb.log().iter().filter(|line| line.contains("a reason of this machine")).count();
    assert!(lines < 20, "{lines} lines for 20 failures");
    assert_eq!(ask(&lb, 10), "whole");
}

#[test]
fn a_connection_that_this_machine_fails_is_in_the_log_of_connections() {
    if !has_strace() {
        return;
    }
    let replica = noisy();
    let fleet = fixed(&[replica.address]);
    // The first call that fails is the one that reads the head, or one of a session.
    for (key, expected) in [
        ("id", json!(["refused", "local", null, null, 0, null, 0])),
        ("source", json!(["local", null, "a", "source", 1, null, 0])),
    ] {
        let (_folder, path) = place();
        let one = ["--workers", "1", "--splice", "never", "--key", key, "--access-log-format", "json"];
        let lb = Lb::start(&logging(&path, &[&flags(&fleet)[..], &one].concat()));
        let mut client = lb.connect();
        let strace = Strace::attach_when(worker(&lb), "recvfrom", "EIO", "1+");
        client.write_all(b"7\n").unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        drop(strace);
        let line = line_of(&path, client.local_addr().unwrap());
        let names = ["ending", "reason", "slot", "key", "attempts", "id", "bytes_up"];
        assert_eq!(json!(names.map(|name| &line[name])), expected, "{line}");
        assert_eq!(line["first_line"].is_null(), key == "id", "{line}");
        assert_eq!(resets(&lb), 1);
    }
}

/// How many the log speaks of.
fn logged(lb: &Lb) -> u64 {
    let lines = lb.log().into_iter().filter(|line| line.contains("are reset for a reason of this machine"));
    lines.map(|line| field(&line, "connections=").parse::<u64>().unwrap()).sum()
}

/// How many connections were reset for a reason of this machine.
fn resets(lb: &Lb) -> u64 {
    lb.done(&json!({"cmd": "backends"}))["refused"]["local"].as_u64().unwrap()
}

/// The open files of `lb` but pipes, of which it keeps some, once there is no session.
fn idle_files(lb: &Lb) -> Option<usize> {
    let is_idle = lb.backends().iter().all(|slot| slot["connections"]["open"] == 0);
    let files = fs::read_dir(format!("/proc/{}/fd", lb.pid())).unwrap().map_while(Result::ok);
    let what = files.filter_map(|file| fs::read_link(file.path()).ok());
    is_idle.then(|| what.filter(|what| !what.to_string_lossy().starts_with("pipe:")).count())
}
