//! What `lb` and its replicas may do: as whom they run, what they can see of each other, and what they can become.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Lb, eventually, signal};

/// The user `nobody`, and its group.
const NOBODY: u32 = 65534;

/// Whether the tests run as root; a line if they do not.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can become another user");
    }
    is_root
}

/// The words after `name` in `/proc/PID/status`.
fn status(folder: &Path, name: &str) -> Vec<String> {
    let status = fs::read_to_string(folder.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

/// Every thread of a process.
fn threads(pid: u32) -> Vec<std::path::PathBuf> {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Checks that all threads of a process are nobody's, with these capabilities (hexadecimal) at most.
#[track_caller]
fn is_nobodys(pid: u32, capabilities: &str) {
    let threads = threads(pid);
    assert!(!threads.is_empty());
    for thread in threads {
        let words = |name| status(&thread, name);
        assert_eq!(words("Uid:"), [NOBODY.to_string().as_str(); 4], "{}", thread.display());
        assert_eq!(words("Gid:"), [NOBODY.to_string().as_str(); 4]);
        assert_eq!(words("Groups:"), Vec::<String>::new());
        assert_eq!(words("NoNewPrivs:"), ["1"]);
        for set in ["CapEff:", "CapPrm:"] {
            assert_eq!(words(set), [capabilities], "{set}");
        }
        assert_eq!(words("CapInh:"), ["0000000000000000"]);
    }
}

/// `lb` at this address.
fn lb_at(listen: &str, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.args(["--listen", listen, "--control", "127.0.0.1:0"]).args(flags);
    command
}

/// A loopback address of this test alone, with a port that only root may bind.
fn low_address() -> String {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    format!("127.42.{high}.{low}:80")
}

#[test]
fn with_user_everything_but_binding_happens_without_the_rights_of_root() {
    if !is_root() {
        return;
    }
    let listen = low_address();
    let lb = Lb::launch_as(lb_at(&listen, &["--replicas", "2", "--user", "nobody", "--workers", "2"]));
    lb.wait_for_log(&format!("ready data={listen} "));
    // Only ports below 1024, for a listener that has to be bound again.
    is_nobodys(lb.pid(), "0000000000000400");
    assert!(threads(lb.pid()).len() > 4, "workers, log, output, control port");
    let children = lb.children();
    assert_eq!(children.len(), 2);
    children.into_iter().for_each(|child| is_nobodys(child, "0000000000000000"));
    // Healing goes on, and the next replicas are nobody's, too.
    let victim = lb.slot(1);
    signal(lb.process_of("server1"), "KILL");
    lb.wait_for_replacement(&victim);
    lb.children().into_iter().for_each(|child| is_nobodys(child, "0000000000000000"));
    assert_ne!(lb.route("1"), "");
    // The kernel gives what cannot be dumped to root, and hides it from others.
    assert_eq!(fs::metadata(format!("/proc/{}/environ", lb.pid())).unwrap().uid(), 0);
    let replica = lb.process_of("server2");
    assert_eq!(fs::metadata(format!("/proc/{replica}/environ")).unwrap().uid(), NOBODY);
}

#[test]
fn with_user_a_low_port_whose_listener_is_destroyed_is_bound_again() {
    if !is_root() {
        return;
    }
    // Another address than in the test above.
    let listen = low_address().replace("127.42.", "127.43.");
    let lb = Lb::launch_as(lb_at(&listen, &["--replicas", "1", "--user", "nobody", "--workers", "2"]));
    lb.wait_for_log("ready data=");
    let source = listen.strip_suffix(":80").unwrap();
    let killed = Command::new("ss").args(["-K", "state", "listening", "src", source]).output();
    let refused =
        killed.map_or_else(|error| error.to_string(), |killed| String::from_utf8(killed.stderr).unwrap());
    if ["not supported", "not permitted", "No such file"].iter().any(|why| refused.contains(why)) {
        eprintln!("skipped: no socket can be destroyed here: {refused}");
        return;
    }
    lb.wait_for_log("can accept connections again");
    eventually("both listeners", || {
        let shown = Command::new("ss").args(["-Hltn", "src", source]).output().unwrap();
        (String::from_utf8(shown.stdout).unwrap().lines().count() == 2).then_some(())
    });
    assert_ne!(lb.route("1"), "");
    is_nobodys(lb.pid(), "0000000000000400");
}

#[test]
fn with_user_no_capability_is_left_where_no_low_port_is_bound() {
    if !is_root() {
        return;
    }
    let lb = Lb::start(&["--replicas", "1", "--user", "nobody"]);
    is_nobodys(lb.pid(), "0000000000000000");
    let server = crate::harness::Replica::start(|_, _| {});
    let backend = format!("a={}", server.address);
    let flags = ["--provider", "fixed", "--backend", &backend, "--health", "tcp", "--user", "65534:65534"];
    is_nobodys(Lb::start(&flags).pid(), "0000000000000000");
}

#[test]
fn a_unix_socket_of_the_control_port_is_the_users() {
    if !is_root() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control.sock");
    let control = format!("unix:{}", path.display());
    let lb = Lb::start(&["--replicas", "1", "--user", "nobody", "--control", &control]);
    for file in [path, folder.path().join("control.sock.lock")] {
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (NOBODY, NOBODY, 0o600));
    }
    let rep = Command::new(env!("CARGO_BIN_EXE_lb")).args(["rep", "--control", &control]).output().unwrap();
    assert!(rep.status.success(), "{}", String::from_utf8_lossy(&rep.stderr));
    assert_eq!(lb.hostnames(), ["server1"]);
}

#[test]
fn a_replica_of_the_same_user_cannot_read_the_secrets_of_lb() {
    if !is_root() {
        return;
    }
    const SECRETS: [&str; 3] = ["hush-token", "hush-variable", "987654321987"];
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let [token, seed] = [("token", SECRETS[0]), ("seed", SECRETS[2])].map(|(name, secret)| {
        let file = folder.path().join(name);
        fs::write(&file, secret).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
        file.to_str().unwrap().to_owned()
    });
    let spy = format!(
        "cat {token} {seed} /proc/$PPID/environ; ls /proc/$PPID/fd; head -c 1 /proc/$PPID/mem; \
         echo looked as $(id -u) >&2; exec sleep 1000"
    );
    let secrets = ["--control-token-file", &token, "--hash-seed-file", &seed];
    let flags = [&["--replicas", "1", "--user", "nobody", "--command", &spy], &secrets[..]].concat();
    let mut command = Lb::command(&flags);
    command.env("SOME_SECRET", SECRETS[1]);
    let lb = Lb::launch_as(command);
    lb.wait_for_log("looked as 65534");
    let log = lb.log();
    let refused = log.iter().filter(|line| line.contains("server1") && line.contains("Permission denied"));
    assert_eq!(refused.count(), 5);
    assert!(lb.refused(&json!({"cmd": "rep"})).contains("token"));
    lb.done(&json!({"cmd": "rep", "token": SECRETS[0]}));
    assert_eq!(lb.done(&json!({"cmd": "mapping", "token": SECRETS[0]}))["seeded"], true);
    // The environment of a replica comes from lb's, which is for all to use; its secrets are not in it.
    let children: Vec<String> = lb
        .children()
        .into_iter()
        .map(|child| {
            String::from_utf8_lossy(&fs::read(format!("/proc/{child}/environ")).unwrap()).into_owned()
        })
        .collect();
    assert!(children.iter().all(|text| !text.contains(SECRETS[0]) && !text.contains(SECRETS[2])));
    assert!(log.iter().all(|line| SECRETS.iter().all(|secret| !line.contains(secret))));
}

#[test]
fn a_command_cannot_gain_privileges_unless_it_is_allowed_to() {
    let look = "grep NoNewPrivs /proc/self/status; exec sleep 1000";
    let ours = status(Path::new("/proc/self"), "NoNewPrivs:").remove(0);
    for (flags, expected) in [(&[][..], "1"), (&["--allow-new-privileges"], ours.as_str())] {
        let lb = Lb::launch(&[&["--replicas", "1", "--command", look], flags].concat());
        let line = lb.wait_for_log("NoNewPrivs:");
        assert!(line.contains(&format!("NoNewPrivs:\\t{expected} ")), "{line}");
        assert_eq!(status(Path::new(&format!("/proc/{}", lb.pid())), "NoNewPrivs:"), [expected]);
    }
}

/// The exit code and the message of a command that ends by itself.
fn end(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the end of lb", || child.try_wait().unwrap());
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_user_that_lb_cannot_become_is_refused_before_anything_is_bound() {
    // An lb that tried to bind it would exit with 1.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], &str); 5] = [
        (&["--user", "no-such-user"], "--user: invalid value `no-such-user`: expected NAME[:GROUP]"),
        (&["--user", "nobody:no-such-group"], "there is no group no-such-group"),
        (&["--user", "root"], "root is root"),
        (&["--user", ":"], "--user: invalid value `:`: expected NAME[:GROUP]"),
        (
            &["--user", "nobody", "--provider", "docker"],
            "--user: it goes with --provider process, fixed and dns only",
        ),
    ];
    for (flags, part) in cases {
        let (code, message) = end(lb_at(&taken, flags));
        assert!(code == Some(2) && message.contains(part), "{flags:?}: {message}");
    }
}

#[test]
fn only_root_can_become_another_user() {
    if !is_root() {
        return;
    }
    // A copy that the user `nobody` may run, wherever the tests are.
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("lb");
    // By another process: while this one has a program open for writing, a child of another test may have it open, too.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_lb")).arg(&program).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
    command.current_dir(folder.path()).args(["--user", "daemon", "--listen", "127.0.0.1:0"]);
    let (code, message) = end(command);
    assert_eq!(code, Some(2), "{message}");
    let expected = "--user: only root can become another user, and lb runs as user 65534";
    assert!(message.contains(expected), "{message}");
}
