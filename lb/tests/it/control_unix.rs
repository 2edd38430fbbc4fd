//! The control port on Unix sockets, and the audit of its commands.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::control::{Conversation, by_line, calm, listing};
use crate::harness::{Lb, PATIENCE, eventually, field};

/// A folder, and the path of a socket in it.
fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control.sock");
    (folder, path)
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// `lb` with one replica, a token, and a control socket besides its control port.
fn guarded(path: &Path) -> Lb {
    calm(&["--replicas", "1", "--control-token", "secret", "--control", &unix(path)])
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The answer to one line.
fn ask(path: &Path, line: &str) -> String {
    let mut stream = connect(path);
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer.trim_end().to_owned()
}

/// Stdout, stderr and exit code of `lb ARGUMENTS`.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    let output = command.args(arguments).env_clear().envs(environment.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn on_a_unix_socket_the_permission_of_the_file_is_the_token() {
    let (folder, path) = place();
    let mut lb = guarded(&path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ask(&path, "{\"cmd\":\"rep\"}"), listing(&["server1"]));
    let mut stream = connect(&path);
    stream.write_all(b"GET /rep HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&listing(&["server1"])), "{answer}");
    assert!(by_line(&lb, &json!({"cmd": "rep"})).contains("the token is missing"));

    let (expected, control) = ("1 replicas\n  server1\n".to_owned(), unix(&path));
    let done = (expected, String::new(), Some(0));
    assert_eq!(run(&["rep", "--control", &control], &[]), done);
    assert_eq!(run(&["rep"], &[("LB_CONTROL", &control)]), done);
    assert_eq!(
        run(&["rep"], &[("LB_CONTROL", &format!("{control},127.0.0.1:1"))]),
        done,
        "the first of several"
    );
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    let (_, stderr, code) = run(&["rep", "--control", &control], &[]);
    assert!(stderr.starts_with(&format!("no lb answers on {control} (--control): ")), "{stderr}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_crowd_on_the_control_port_leaves_the_unix_socket_alone_and_so_does_one_there() {
    let (_folder, path) = place();
    let lb = guarded(&path);
    let _far: Vec<_> = (0..300).map(|_| Conversation::with(&lb)).collect();
    let _near: Vec<_> = (0..100).map(|_| connect(&path)).collect();
    assert_eq!(ask(&path, "{\"cmd\":\"rep\"}"), listing(&["server1"]));
}

#[test]
fn the_socket_of_a_dead_lb_is_replaced_and_that_of_a_live_one_is_an_error() {
    let (_folder, path) = place();
    let mut first = guarded(&path);
    let control = unix(&path);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--control", &control];
    let (_, stderr, code) = run(&serve, &[]);
    assert_eq!(code, Some(1));
    let expected = format!("error: cannot listen on {control} (--control): another lb listens there\n");
    assert_eq!(stderr, expected);
    first.signal("KILL");
    first.wait();
    assert!(path.exists());
    let _second = guarded(&path);
    assert_eq!(ask(&path, "{\"cmd\":\"rep\"}"), listing(&["server1"]));

    let none = format!("{control}.d/control.sock");
    let (_, stderr, code) = run(&["serve", "--listen", "127.0.0.1:0", "--control", &none], &[]);
    assert!(
        stderr.starts_with(&format!("error: cannot listen on {none} (--control): its folder ")),
        "{stderr}"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn lb_needs_no_control_port_but_a_unix_socket() {
    let (_folder, path) = place();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--replicas", "1", "--control", &unix(&path)]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let ready = log.find(|line| line.contains("ready data=")).unwrap_or_default();
    let answer = ask(&path, "{\"cmd\":\"rep\"}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        (field(&ready, "control="), field(&ready, "replicas=")),
        (unix(&path).as_str(), "1"),
        "{ready}"
    );
    assert_eq!(answer, listing(&["server1"]));
}

#[test]
fn a_drain_gives_the_control_port_up_and_goes_on_answering_on_its_unix_socket() {
    let (folder, path) = place();
    let mut lb = guarded(&path);
    let mut session = lb.connect();
    session.write_all(b"132574\n").unwrap();
    session.read_exact(&mut [0]).unwrap();
    let mut idle = Conversation::with(&lb);
    assert_eq!(idle.say("{\"cmd\":\"rep\",\"token\":\"secret\"}\n").line(), listing(&["server1"]));
    lb.signal("TERM");
    eventually("the control port is closed", || TcpStream::connect(lb.control).err());
    assert_eq!(idle.rest(), "", "an idle connection ends");
    assert!(ask(&path, "{\"cmd\":\"backends\"}").contains("server1"));
    // A successor has the path from the moment it starts.
    let successor = guarded(&path);
    drop(session);
    assert_eq!(lb.wait().code(), Some(0));
    assert_eq!(ask(&path, "{\"cmd\":\"rep\"}"), listing(&["server1"]), "the successor's socket stays");
    drop(successor);
    assert!(folder.path().exists());
}

#[test]
fn every_command_that_asks_for_a_change_is_in_the_audit() {
    let (_folder, path) = place();
    let lb = guarded(&path);
    let lines = || -> Vec<String> {
        lb.log().into_iter().filter(|line| line.contains("lb::audit: command ")).collect()
    };
    for command in ["rep", "backends", "health", "mapping"] {
        by_line(&lb, &json!({"cmd": command, "token": "secret"}));
    }
    by_line(&lb, &json!({"cmd": "plan", "change": {"cmd": "rm", "n": 1}, "token": "secret"}));
    by_line(&lb, &json!({"cmd": "rm", "n": 1, "token": "wrong"}));
    assert_eq!(lines(), [""; 0], "these change nothing");

    let mut client = Conversation::with(&lb);
    client.say("{\"cmd\":\"mapping\",\"mapping\":\"maglev\",\"token\":\"secret\"}\n").line();
    let from = client.stream().local_addr().unwrap().to_string();
    let line = lb.wait_for_log("lb::audit: command ");
    assert!(line.contains(" INFO "), "{line}");
    assert_eq!(field(&line, "by="), from);
    assert_eq!(field(&line, "command="), r#"{"cmd":"mapping","mapping":"maglev"}"#);
    assert!(line.ends_with("result=\"done\""), "{line}");

    ask(&path, r#"{"cmd":"rm","n":9}"#);
    let line = lb.wait_for_log(r#"command={"cmd":"rm","n":9}"#);
    let ours = format!(
        "uid={},gid={},pid={}",
        rustix::process::getuid(),
        rustix::process::getgid(),
        std::process::id()
    );
    assert_eq!(field(&line, "by="), ours);
    assert!(line.contains("result=\"<Error> "), "{line}");

    // The client leaves without waiting for its answer.
    connect(&path).write_all(b"{\"cmd\":\"add\",\"n\":1,\"hostnames\":[\"S5\"]}\n").unwrap();
    let line = lb.wait_for_log(r#"command={"cmd":"add","n":1,"hostnames":["S5"]}"#);
    assert!(line.ends_with("result=\"done\" replicas=\"server1,S5\""), "{line}");
    assert_eq!(lines().len(), 3);
    assert!(lb.log().iter().all(|line| !line.contains("secret")));
}
