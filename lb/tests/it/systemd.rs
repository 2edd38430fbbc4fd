//! `lb` under systemd, played by this test: sockets that were bound before it started, and a socket to which it says how it is.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Lb, PATIENCE, Replica, field, fixed, flags, patient, signal};
use crate::tracer::{Tracer, threads_named};
use crate::upgrade::Successor;

/// Binds a socket at each address up to `--`, as systemd does, and becomes the command behind it. The variables name this process.
const ACTIVATE: &str = r#"
import fcntl, os, socket, sys
sockets = []
end = sys.argv.index("--")
addresses, command = sys.argv[1:end], sys.argv[end + 1:]
for at, address in enumerate(addresses):
    if address.startswith("/"):
        s = socket.socket(socket.AF_UNIX)
        s.bind(address)
    else:
        host, port = address.rsplit(":", 1)
        s = socket.socket()
        s.bind((host, int(port)))
    s.listen(64)
    sockets.append(fcntl.fcntl(s, fcntl.F_DUPFD, 100))
for at, socket in enumerate(sockets):
    os.dup2(socket, 3 + at, inheritable=True)
os.environ["LISTEN_FDS"] = str(len(addresses))
os.environ["LISTEN_PID"] = os.environ.get("PLAY_PID", str(os.getpid()))
os.execvp(command[0], command)
"#;

/// `lb` with these flags, for which sockets at these addresses are bound.
fn activated(addresses: &[&str], names: Option<&str>, given: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", ACTIVATE]).args(addresses).args(["--", env!("CARGO_BIN_EXE_lb")]).args(given);
    names.iter().for_each(|names| {
        command.env("LISTEN_FDNAMES", names);
    });
    command
}

/// What `lb` says and how it ends that does not start.
fn refused(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).unwrap()
}

fn answer(address: SocketAddr) -> String {
    let mut client = patient(TcpStream::connect(address).unwrap());
    client.write_all(b"7\n").unwrap();
    let mut answer = [0; 10];
    client.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn sockets_that_were_bound_before_are_served_by_every_worker() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control.sock");
    let addresses = ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", path.to_str().unwrap()];
    let given = ["--replicas", "1", "--workers", "2", "--log", "debug"];
    let mut lb = Lb::launch_as(activated(&addresses, Some("data:control:metrics:control"), &given));
    lb.wait_for_log("ready data=");
    for _ in 0..20 {
        assert_eq!(answer(lb.data), "server1 7\n");
    }
    assert_eq!(lb.hostnames(), ["server1"]);
    let metrics = lb.wait_for_log("metrics port");
    let mut client = patient(TcpStream::connect(field(&metrics, "address=")).unwrap());
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert!(std::io::read_to_string(client).unwrap().contains("lb_build_info"));
    assert!(UnixStream::connect(&path).is_ok());
    lb.signal("TERM");
    assert!(lb.wait().success());
    assert!(path.exists(), "the file is systemd's");
}

#[test]
fn flags_and_sockets_have_to_agree() {
    let given = |more: &[&'static str]| [&["--replicas", "1", "--control", "127.0.0.1:0"], more].concat();
    let told = refused(activated(&["127.0.0.1:0"], None, &given(&["--listen", "127.0.0.1:1"])));
    assert!(told.contains("--listen: it does not name 127.0.0.1:"), "{told}");
    let told = refused(activated(&["127.0.0.1:0"], Some("http"), &given(&[])));
    assert!(told.contains("invalid name `http`: expected data, control or metrics"), "{told}");
    let told = refused(activated(&["127.0.0.1:0"], Some("data:data"), &given(&[])));
    assert!(told.contains("LISTEN_FDNAMES: 2 names"), "{told}");
    let mut huge = activated(&[], None, &given(&[]));
    huge.arg("--listen=127.0.0.1:0").env("PLAY_PID", "1");
    // It is for another process, so it does not count.
    let lb = Lb::launch_as(huge);
    lb.wait_for_log("ready data=");
}

/// What systemd hears.
struct Ear(UnixDatagram);

impl Ear {
    /// One at a path of its own, which the folder holds.
    fn in_a_folder() -> (TempDir, PathBuf, Ear) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let ear = Ear::at(&UnixAddr::from_pathname(&path).unwrap());
        (folder, path, ear)
    }

    fn at(address: &UnixAddr) -> Ear {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Ear(socket)
    }

    #[track_caller]
    fn next(&self) -> String {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).expect("systemd hears nothing");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// What has come that was not read yet.
    fn heard(&self) -> Vec<String> {
        self.0.set_nonblocking(true).unwrap();
        let mut message = [0; 4096];
        let heard = std::iter::from_fn(|| {
            let length = self.0.recv(&mut message).ok()?;
            Some(String::from_utf8(message[..length].to_vec()).unwrap())
        });
        let heard = heard.collect();
        self.0.set_nonblocking(false).unwrap();
        heard
    }

    /// How many signs of life have come that were not read yet.
    fn silence(&self) -> usize {
        self.heard().iter().filter(|message| *message == "WATCHDOG=1").count()
    }

    /// Waits for a message that contains this.
    #[track_caller]
    fn wait_for(&self, part: &str) -> String {
        std::iter::repeat_with(|| self.next()).find(|message| message.contains(part)).unwrap()
    }
}

#[test]
fn systemd_hears_of_ready_of_changes_and_of_the_end_and_replicas_cannot_speak() {
    let (_folder, path, ear) = Ear::in_a_folder();
    let mut command = Lb::command(&["--replicas", "2"]);
    command.env("NOTIFY_SOCKET", &path);
    let mut lb = Lb::launch_as(command);
    assert_eq!(ear.next(), "STATUS=starting: no replica is in rotation yet");
    assert!(ear.wait_for("READY=1").contains("STATUS=2 of 2 replicas in rotation"));
    let replica = lb.process_of("server1");
    let environment = std::fs::read(format!("/proc/{replica}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET"));
    signal(replica, "STOP");
    ear.wait_for("STATUS=1 of 2 replicas in rotation");
    signal(replica, "CONT");
    ear.wait_for("STATUS=2 of 2 replicas in rotation");
    lb.signal("TERM");
    ear.wait_for("STOPPING=1");
    assert!(lb.wait().success());
}

#[test]
fn the_watchdog_hears_of_life_only_while_every_worker_lives() {
    let name = format!("lb-test-{}", std::process::id());
    let ear = Ear::at(&UnixAddr::from_abstract_name(&name).unwrap());
    let replica = Replica::echo();
    let mut command = Lb::command(&flags(&fixed(&[replica.address])));
    command.args(["--workers", "1"]);
    command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "400000");
    let lb = Lb::launch_as(command);
    (0..5).for_each(|_| drop(ear.wait_for("WATCHDOG=1")));
    let Some(_tracer) =
        Tracer::tamper(&threads_named(&lb, "worker-1"), "epoll_wait", "delay_enter=8000000:when=1")
    else {
        return;
    };
    lb.wait_for_log("a worker is blocked: it does nothing worker=1");
    ear.silence();
    lb.wait_for_log("a worker goes on that was blocked worker=1");
    // It is blocked for some five seconds, in which a live one gives 25 signs of life.
    assert!(ear.silence() < 10);
    ear.wait_for("WATCHDOG=1");
}

#[test]
fn a_reload_is_told_from_its_beginning_to_its_end_however_it_ends() {
    let ((folder, path, ear), replica) = (Ear::in_a_folder(), Replica::echo());
    let file = folder.path().join("lb.toml");
    let write = |line: &str| {
        let fleet = format!("provider = \"fixed\"\nbackend = \"a={}\"\n{line}\n", replica.address);
        std::fs::write(&file, fleet).unwrap();
    };
    write("");
    let mut command = Lb::command(&["--config", file.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", &path);
    let lb = Lb::launch_as(command);
    ear.wait_for("READY=1");
    lb.done(&json!({"cmd": "reload", "dry_run": true}));
    assert!(!ear.heard().iter().any(|message| message.contains("RELOADING")), "a dry run changes nothing");
    for line in ["idle-timeout = \"7m\"", "idle-timeout = \"soon\""] {
        write(line);
        lb.signal("HUP");
        assert!(ear.wait_for("RELOADING=1").contains("\nMONOTONIC_USEC="));
        assert!(ear.wait_for("READY=1").contains("STATUS=1 of 1 replicas in rotation"));
    }
}

/// An `lb` that systemd has started, with a successor that serves.
fn upgraded(ear: &Ear, path: &Path) -> (Lb, Replica, Successor) {
    let replica = Replica::echo();
    let mut command = Lb::command(&flags(&fixed(&[replica.address])));
    command.env("NOTIFY_SOCKET", path);
    let lb = Lb::launch_as(command);
    ear.wait_for("READY=1");
    let successor = Successor::of(&lb);
    (lb, replica, successor)
}

/// Whether it has been told of another main process since the last look.
fn is_another_main_process(ear: &Ear) -> bool {
    ear.heard().iter().any(|message| message.contains("MAINPID="))
}

#[test]
fn a_successor_is_the_main_process_when_it_has_settled_and_not_before() {
    let (_folder, path, ear) = Ear::in_a_folder();
    let (lb, _replica, successor) = upgraded(&ear, &path);
    assert!(!is_another_main_process(&ear), "systemd would stop the service if it failed now");
    lb.wait_for_log("upgrade: the successor has settled");
    assert_eq!(ear.wait_for("MAINPID="), format!("MAINPID={}\nREADY=1", successor.0));
}

#[test]
fn systemd_hears_nothing_of_a_successor_that_fails() {
    let (_folder, path, ear) = Ear::in_a_folder();
    let (lb, _replica, successor) = upgraded(&ear, &path);
    signal(successor.0, "KILL");
    lb.wait_for_log("upgrade: the successor has failed, and this lb goes on");
    lb.done(&json!({"cmd": "mapping", "weights": {"a": 2}}));
    assert!(!is_another_main_process(&ear));
}

#[test]
fn an_end_that_systemd_wants_while_the_old_one_stands_by_is_for_both() {
    let (_folder, path, ear) = Ear::in_a_folder();
    let (mut lb, _replica, successor) = upgraded(&ear, &path);
    lb.signal("TERM");
    successor.wait();
    assert!(lb.wait().success());
}

#[test]
fn a_server_that_is_down_does_not_keep_systemd_waiting() {
    let (_folder, path, ear) = Ear::in_a_folder();
    let mut command = Lb::command(&["--provider", "fixed", "--backend", "a=127.0.0.1:1"]);
    command.env("NOTIFY_SOCKET", &path);
    let _lb = Lb::launch_as(command);
    assert!(ear.wait_for("READY=1").contains("STATUS=0 of 1 replicas in rotation"));
}
