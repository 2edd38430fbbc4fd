//! How `lb` ends (signals, draining, no process left behind), and what it logs while it runs.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::harness::{
    Lb, demo_after, eventually, field, group_of, id_for, is_alive, patient, processes_with, say, session,
    signal,
};

/// More than all buffers between a replica and a client can hold.
const BIG: usize = 64 * 1024 * 1024;

/// An environment variable by which `lb` and all its child processes can be found.
fn mark() -> (&'static str, String) {
    ("LIFE_TEST", format!("{}-{:?}", std::process::id(), thread::current().id()))
}

/// An `lb` whose processes can be found.
fn marked(flags: &[&str]) -> Command {
    let ((name, value), mut command) = (mark(), Lb::command(flags));
    command.env(name, value);
    command
}

/// Waits until no process is left.
#[track_caller]
fn no_process_is_left() {
    let (name, value) = mark();
    let variable = format!("{name}={value}");
    eventually("the end of all processes", || processes_with(&variable).is_empty().then_some(()));
}

/// A client in the middle of a big answer.
fn transfer(lb: &Lb) -> TcpStream {
    let mut client = lb.connect();
    write!(client, "GET /bytes/{BIG} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    client.read_exact(&mut [0; 1000]).unwrap();
    client
}

/// Whether the connection ends with a reset, so that the answer does not look complete.
fn is_reset(mut client: TcpStream) -> bool {
    client.read_to_end(&mut Vec::new()).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn lb_finishes_a_transfer_before_it_ends_and_accepts_nothing_new() {
    for name in ["TERM", "INT"] {
        let mut lb = Lb::launch_as(marked(&[]));
        lb.wait_until_all_up();
        let mut client = transfer(&lb);
        lb.signal(name);
        lb.wait_for_log("stopping");
        eventually("the data port closed", || TcpStream::connect(lb.data).is_err().then_some(()));
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        drop(client);
        // The head of the answer is shorter than what was read before.
        assert!((BIG - 1000..BIG).contains(&rest.len()), "{} bytes", rest.len());
        assert_eq!(lb.wait().code(), Some(0), "SIG{name}");
        no_process_is_left();
    }
}

#[test]
fn a_second_signal_ends_lb_at_once() {
    for name in ["TERM", "INT"] {
        let flags = ["--drain-timeout", "10m", "--command", &demo_after("sleep 1000 &")];
        let mut lb = Lb::launch_as(marked(&flags));
        lb.wait_until_all_up();
        let (mut client, _) = session(&lb, "1");
        lb.signal("TERM");
        lb.wait_for_log("stopping");
        eventually("the data port closed", || TcpStream::connect(lb.data).is_err().then_some(()));
        say(&mut client, "still there");
        lb.signal(name);
        assert_eq!(lb.wait().code(), Some(0));
        assert!(is_reset(client), "a broken connection must not look complete");
        no_process_is_left();
    }
}

#[test]
fn connections_that_outlast_the_drain_are_reset() {
    let mut lb = Lb::launch_as(marked(&["--drain-timeout", "500ms"]));
    lb.wait_until_all_up();
    let hung = [transfer(&lb), session(&lb, "1").0];
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    assert!(hung.into_iter().all(is_reset), "a broken connection must not look complete");
    no_process_is_left();
}

#[test]
fn lb_ends_before_any_deadline_when_no_connection_is_open() {
    for command in ["", "exec sleep 1000", "sleep 1000; true"] {
        let command_flag: &[&str] = if command.is_empty() { &[] } else { &["--command", command] };
        // Longer than the test waits for the end.
        let flags = [&["--drain-timeout", "10m"], command_flag].concat();
        let mut lb = Lb::launch_as(marked(&flags));
        eventually("three children", || (lb.children().len() == 3).then_some(()));
        let _idle = lb.ask(&json!({"cmd": "rep"}));
        lb.signal("TERM");
        assert_eq!(lb.wait().code(), Some(0));
        let killed: Vec<String> = lb.log().into_iter().filter(|line| line.contains("SIGKILL")).collect();
        assert!(killed.is_empty(), "a replica outlived the grace period: {killed:?}");
        no_process_is_left();
    }
}

#[test]
fn a_replica_that_ignores_sigterm_is_killed_in_the_end() {
    let mut lb = Lb::launch_as(marked(&["--command", "trap '' TERM; sleep 1000; sleep 1000"]));
    eventually("three children", || (lb.children().len() == 3).then_some(()));
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    no_process_is_left();
}

#[test]
fn child_processes_of_a_replica_have_time_to_end() {
    let folder = tempfile::TempDir::new().unwrap();
    let over = folder.path().join("over");
    let tidy = format!("trap 'sleep 0.3; touch {}; exit' TERM; while :; do sleep 0.02; done", over.display());
    let mut lb = Lb::start(&["--replicas", "1", "--command", &demo_after(&format!("({tidy}) &"))]);
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    assert!(over.exists(), "it was killed before it could tidy up");
}

#[test]
fn no_child_outlives_lb_even_if_lb_is_killed() {
    let commands = [
        None,
        Some(demo_after("")),
        Some(demo_after("sleep 1000 &")),
        Some("sleep 1000; echo over".to_owned()),
        Some("exec sleep 1000".to_owned()),
    ];
    for (round, command) in commands.iter().cycle().take(21).enumerate() {
        let flags = command.iter().flat_map(|command| ["--command", command]).collect::<Vec<_>>();
        let mut lb = Lb::launch_as(marked(&flags));
        // In every other round the signal comes while the replicas are starting.
        if round % 2 == 0 {
            eventually("three children", || (lb.children().len() == 3).then_some(()));
        }
        lb.signal("KILL");
        assert_eq!(lb.wait().code(), None);
        no_process_is_left();
    }
}

#[test]
fn connections_that_the_kernel_has_accepted_are_served_after_the_signal() {
    let mut lb = Lb::start(&["--workers", "2"]);
    lb.signal("STOP");
    let clients: Vec<TcpStream> = (0..1000)
        .map(|id| {
            let mut client = lb.connect();
            client.write_all(format!("{id}\n").as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        })
        .collect();
    lb.signal("TERM");
    lb.signal("CONT");
    for (id, mut client) in clients.into_iter().enumerate() {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with(&format!(" {id}\n")), "{answer:?}");
    }
    assert_eq!(lb.wait().code(), Some(0));
}

#[test]
fn a_removed_replica_finishes_its_sessions_and_gets_no_new_ones() {
    let lb = Lb::start(&[]);
    let id = id_for(&lb, "server2");
    let (mut client, hostname) = session(&lb, &id);
    let process = lb.process_of(&hostname);
    assert_eq!(lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": [hostname]}))["N"], 2);
    for _ in 0..20 {
        assert_ne!(lb.route(&id), hostname);
    }
    let slot = lb.wait_for_state(2, "draining");
    assert_eq!(slot["connections"], json!({"open": 1, "total": 1}));
    assert_eq!(say(&mut client, "still there"), format!("{hostname} still there\n"));
    assert!(is_alive(process));
    drop(client);
    eventually("the end of the replica", || (!is_alive(process)).then_some(()));
    eventually("two slots", || (lb.backends().len() == 2).then_some(()));
}

#[test]
fn sessions_that_outlast_the_drain_of_a_removed_replica_are_reset() {
    let lb = Lb::start(&["--drain-timeout", "300ms"]);
    let (client, hostname) = session(&lb, &id_for(&lb, "server2"));
    let (mut other, _) = session(&lb, &id_for(&lb, "server1"));
    let process = lb.process_of(&hostname);
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": [hostname]}));
    assert!(is_reset(client));
    eventually("the end of the replica", || group_of(process).is_empty().then_some(()));
    say(&mut other, "the others stay");
}

#[test]
fn every_change_of_state_is_one_line() {
    let lb = Lb::start(&["--replicas", "1"]);
    signal(lb.process_of("server1"), "KILL");
    lb.wait_for_restarts(1, 1);
    let hostname = lb.hostnames().remove(0);
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"]}));
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["S5"]}));
    lb.wait_for_log("replica draining");
    let lines = lb.log();
    let is_change =
        |line: &&String| line.contains(" INFO ") && line.contains(": replica ") && line.contains(" slot=");
    let changes: Vec<[&str; 3]> = lines
        .iter()
        .filter(is_change)
        .map(|line| {
            [
                line.split(": replica ").nth(1).unwrap().split(' ').next().unwrap(),
                field(line, "slot="),
                field(line, "hostname="),
            ]
        })
        .collect();
    let expected = [
        ["up", "server1", "server1"],
        ["starting", "server1", &hostname],
        ["up", "server1", &hostname],
        ["starting", "S5", "S5"],
        ["up", "S5", "S5"],
        ["draining", "S5", "S5"],
    ];
    assert_eq!(changes, expected);
}

#[test]
fn every_finished_connection_is_one_line_at_debug() {
    let lb = Lb::start(&["--log", "debug"]);
    let (mut client, hostname) = session(&lb, "132574");
    let peer = client.local_addr().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
    let line = lb.session_of(peer);
    let down = format!("{hostname} 132574\n").len().to_string();
    for (name, value) in [("id=", "132574"), ("key=", "132574"), ("up=", "7"), ("down=", &down)] {
        assert_eq!(field(&line, name), value, "{line}");
    }
    assert_eq!(field(&line, "replica=").trim_matches('"'), hostname, "{line}");
    assert!(line.contains(" DEBUG ") && line.contains(" attempts=") && line.contains(" duration="), "{line}");
    assert_eq!(lb.log().iter().filter(|line| line.contains(&peer.to_string())).count(), 1);
}

#[test]
fn every_line_of_the_json_log_is_an_object() {
    let mut lb = Lb::start(&["--log-format", "json", "--log", "debug"]);
    lb.route("132574");
    lb.signal("TERM");
    lb.wait();
    let ready = format!("ready data={} control={} replicas=3", lb.data, lb.control);
    assert!(lb.wait_for_log("ready ").contains(&ready));
    for line in lb.log() {
        assert!(serde_json::from_str::<Value>(&line).is_ok_and(|line| line.is_object()), "{line}");
    }
}

#[test]
fn lb_prints_nothing_with_log_off() {
    let [data, control] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [data, control] = [data, control].map(|listener| listener.local_addr().unwrap().to_string());
    let mut silent = Command::new(env!("CARGO_BIN_EXE_lb"));
    silent.args(["--listen", &data, "--control", &control, "--log", "off"]).stderr(Stdio::piped());
    let lb = silent.spawn().unwrap();
    let ask = || {
        let mut stream = patient(TcpStream::connect(&control).ok()?);
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.contains(" 200 OK").then_some(())
    };
    eventually("a replica in rotation", ask);
    signal(lb.id(), "TERM");
    let output = lb.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

#[test]
fn an_unread_log_delays_no_client() {
    // The replicas print more lines than may wait, before the first client is served.
    let prints = demo_after("yes | head -n 20000 >&2;");
    let mut lb = Lb::launch_unread(Lb::command(&["--log", "debug", "--command", &prints]));
    lb.wait_until_all_up();
    thread::scope(|scope| {
        for client in 0..4 {
            let lb = &lb;
            scope.spawn(move || {
                for id in 0..200 {
                    assert_ne!(lb.route(&format!("{client}-{id}")), "");
                }
            });
        }
    });
    assert_eq!(lb.hostnames(), ["server1", "server2", "server3"], "probes pass");
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
}

#[test]
fn the_token_is_in_no_log_and_no_environment_of_a_replica() {
    const TOKEN: &str = "hush-hush-132574";
    let with = |flags: &[&str]| {
        let mut command = Lb::command(&[&["--log", "trace"], flags].concat());
        if flags.is_empty() {
            command.env("LB_CONTROL_TOKEN", TOKEN);
        }
        let mut lb = Lb::launch_as(command);
        lb.wait_for_log("ready data=");
        for token in [TOKEN, "hush-hush-1"] {
            lb.ask(&json!({"cmd": "rep", "token": token}));
            let mut http = patient(TcpStream::connect(lb.control).unwrap());
            let head = format!(
                "GET /rep HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
            );
            http.write_all(head.as_bytes()).unwrap();
            http.read_to_end(&mut Vec::new()).unwrap();
        }
        assert!(lb.refused(&json!({"cmd": "rep"})).contains("missing"));
        let children = lb.children();
        assert_eq!(children.len(), 3);
        for child in children {
            for file in ["environ", "cmdline"] {
                let text = std::fs::read(format!("/proc/{child}/{file}")).unwrap();
                assert!(!String::from_utf8_lossy(&text).contains("hush-hush"), "{file}");
            }
        }
        lb.signal("TERM");
        lb.wait();
        assert!(lb.log().iter().all(|line| !line.contains("hush-hush")));
    };
    with(&[]);
    with(&["--control-token", TOKEN]);
}
