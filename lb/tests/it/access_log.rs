//! The log of connections (`--access-log`): a line for each that has ended or was refused.

use std::fs::{self, rename};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::control::calm;
use crate::harness::{Lb, Replica, Wire, eventually, field, fixed, flags, id_for, reset, text};
use crate::noise::{receive, send};

/// A folder, and the name of a log in it.
pub(crate) fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    (folder, path)
}

/// The flags for a log in this file.
pub(crate) fn logging<'a>(path: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["--access-log", path.to_str().unwrap()], more].concat()
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The line of this client, in JSON.
#[track_caller]
pub(crate) fn line_of(path: &Path, client: SocketAddr) -> Value {
    eventually("the line of a client", || {
        let lines = lines(path).into_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        lines.into_iter().find(|line| line["client"] == client.to_string())
    })
}

/// A client that has sent this line, and its address.
fn client(lb: &Lb, line: &str) -> (TcpStream, SocketAddr) {
    let mut client = lb.connect();
    client.write_all(line.as_bytes()).unwrap();
    let address = client.local_addr().unwrap();
    (client, address)
}

/// Ends its direction, and reads what comes back.
fn end(mut client: TcpStream) -> String {
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_complete_connection_has_a_line_with_every_field() {
    let (_folder, path) = place();
    let lb = calm(&logging(&path, &["--replicas", "1", "--access-log-format", "json"]));
    let (stream, address) = client(&lb, "132574\n");
    let answer = end(stream);
    let mut line = line_of(&path, address);
    let times = ["first_line", "connect", "total"].map(|name| line[name].as_f64().unwrap());
    assert!(times.iter().all(|time| *time >= 0.0) && times[0] + times[1] <= times[2], "{line}");
    assert!(humantime::parse_rfc3339(text(&line["time"])).is_ok(), "{line}");
    for name in ["time", "first_line", "connect", "total"] {
        line.as_object_mut().unwrap().remove(name);
    }
    let expected = json!({
        "client": address.to_string(), "id": "132574", "key": "id", "slot": "server1", "replica": "server1", "attempts": 1,
        "bytes_up": 7, "bytes_down": answer.len(), "ending": "complete", "reason": null
    });
    assert_eq!(line, expected);
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & !0o640, 0, "{mode:o}");
    // Without an id in the first line there is a random one, and without a first line none.
    let (stream, address) = client(&lb, "\n");
    end(stream);
    let line = line_of(&path, address);
    assert_eq!((&line["key"], text(&line["id"]).len()), (&json!("random"), 6), "{line}");
    let (stream, address) = client(&lb, "\0");
    reset(stream);
    let line = line_of(&path, address);
    assert_eq!((&line["key"], &line["id"]), (&json!("source"), &Value::Null), "{line}");
}

#[test]
fn text_is_one_line_of_words_and_a_template_is_what_it_says() {
    let (_folder, path) = place();
    let lb = calm(&logging(&path, &["--replicas", "1"]));
    let (stream, address) = client(&lb, "7\n");
    end(stream);
    let line = eventually("a line", || lines(&path).pop());
    assert_eq!((field(&line, "client="), field(&line, "id=")), (address.to_string().as_str(), "7"), "{line}");
    assert_eq!((field(&line, "ending="), field(&line, "reason=")), ("complete", "-"), "{line}");
    assert!(field(&line, "total=").parse::<f64>().is_ok(), "{line}");

    let (_folder, path) = place();
    let template = "{slot}\t{{{id}}} {attempts}";
    let lb = calm(&logging(&path, &["--replicas", "1", "--access-log-format", template]));
    end(client(&lb, "7\n").0);
    assert_eq!(eventually("a line", || lines(&path).pop()), "server1\t{7} 1");
}

#[test]
fn dash_is_stdout() {
    let (_folder, path) = place();
    let lb = Lb::command(&["--replicas", "1", "--access-log", "-", "--access-log-format", "{id}"]);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("exec \"$@\" > {}", path.display()), "sh"])
        .arg(lb.get_program())
        .args(lb.get_args());
    let mut lb = Lb::launch_as(shell);
    lb.wait_for_log("ready data=");
    end(client(&lb, "7\n").0);
    // What waits is written at the end.
    lb.signal("TERM");
    assert!(lb.wait().success());
    assert_eq!(lines(&path), ["7"]);
}

/// A session over a replica of the test, with a byte from the client and three back.
fn wire(path: &Path, more: &[&str]) -> (Wire, TcpStream, TcpStream) {
    let wire =
        Wire::start(&logging(path, &[&["--key", "source", "--access-log-format", "json"], more].concat()));
    let (client, replica) = wire.pair();
    send(&client, 1);
    receive(&replica, 1);
    send(&replica, 3);
    receive(&client, 3);
    (wire, client, replica)
}

/// What the lines of such sessions have in common.
#[track_caller]
fn assert_ended(line: &Value, ending: &str) {
    let expected = json!([ending, null, "a", "a", 1, 1, 3, "source", null]);
    let names = ["ending", "reason", "slot", "replica", "attempts", "bytes_up", "bytes_down", "key", "id"];
    assert_eq!(json!(names.map(|name| &line[name])), expected, "{line}");
    let times = ["first_line", "connect", "total"].map(|name| line[name].as_f64().unwrap());
    assert!(times[0] + times[1] <= times[2], "{line}");
}

#[test]
fn a_reset_says_whose_it_was() {
    for (is_client, ending) in [(true, "client_reset"), (false, "replica_reset")] {
        let (_folder, path) = place();
        let (_wire, client, replica) = wire(&path, &[]);
        let address = client.local_addr().unwrap();
        let (first, second) = if is_client { (client, replica) } else { (replica, client) };
        reset(first);
        // The other side learns of it.
        assert_eq!((&second).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_ended(&line_of(&path, address), ending);
    }
}

#[test]
fn a_session_that_lb_ends_says_why() {
    type Push = fn(&Wire, &TcpStream); // what the test does for the session to end
    let wait: Push = |_, _| {};
    let half_close: Push = |_, client| client.shutdown(Shutdown::Write).unwrap();
    let remove: Push = |wire, _| {
        wire.lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["a"], "drain": "0s"}));
    };
    let cases: [(&[&str], Push, &str); 4] = [
        (&["--idle-timeout", "1s"], wait, "idle"),
        (&["--half-close-timeout", "1s"], half_close, "idle"),
        (&["--max-connection-age", "1s"], wait, "aged"),
        (&[], remove, "evicted"),
    ];
    for (flags, push, ending) in cases {
        let (_folder, path) = place();
        let (wire, client, _replica) = wire(&path, flags);
        push(&wire, &client);
        assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset, "{flags:?}");
        let line = line_of(&path, client.local_addr().unwrap());
        assert_ended(&line, ending);
        assert!(flags.is_empty() || line["total"].as_f64().unwrap() >= 1.0, "{line}");
    }
}

/// The line of a connection that was refused by an `lb` with these flags, whose client is the one that `ends` returns.
#[track_caller]
fn refused(flags: &[&str], ends: impl FnOnce(&Lb) -> SocketAddr) -> Value {
    let (_folder, path) = place();
    let lb = Lb::launch(&logging(&path, &[flags, &["--access-log-format", "json"]].concat()));
    let line = line_of(&path, ends(&lb));
    let names = ["ending", "slot", "replica", "bytes_up", "bytes_down", "connect"];
    assert_eq!(json!(names.map(|name| &line[name])), json!(["refused", null, null, 0, 0, null]), "{line}");
    line
}

#[test]
fn a_connection_without_a_replica_has_its_id_and_its_attempts() {
    let ask = |lb: &Lb| {
        let (mut stream, address) = client(lb, "GET /home?id=7 HTTP/1.1\r\n\r\n");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        address
    };
    let nowhere = ["--provider", "fixed", "--backend", "a=127.0.0.1:1"];
    // It is a candidate if it fails its probes.
    for (flags, most) in [(&["--replicas", "0"][..], 0), (&nowhere, 1)] {
        let line = refused(flags, ask);
        assert_eq!((&line["reason"], &line["id"]), (&json!("no_replica"), &json!("7")), "{line}");
        assert!(line["attempts"].as_u64().unwrap() <= most && line["first_line"].is_f64(), "{line}");
    }
}

#[test]
fn a_connection_that_is_not_let_in_has_its_reason_and_nothing_was_read_of_it() {
    // A client whose direction has ended: it is reset, or it leaves early. (A reset may come before the connection is made.)
    let reset = |lb: &Lb| {
        eventually("a reset", || {
            let mut stream = TcpStream::connect(lb.data).ok()?;
            let address = stream.local_addr().ok()?;
            let _ = stream.shutdown(Shutdown::Write);
            stream.read(&mut [0]).is_err().then_some(address)
        })
    };
    let beside_another = |lb: &Lb| {
        let _first = lb.connect();
        reset(lb)
    };
    let leave = |lb: &Lb| lb.connect().local_addr().unwrap();
    let nothing_read = |line: &Value, reason: &str| {
        let names = ["reason", "attempts", "id", "key", "first_line"];
        assert_eq!(json!(names.map(|name| &line[name])), json!([reason, 0, null, null, null]), "{line}");
    };
    let none = ["--replicas", "0"];
    nothing_read(&refused(&[&none[..], &["--deny", "127.0.0.0/8"]].concat(), reset), "denied");
    // One worker takes connections in their order; of two, the one that gets the second may be faster.
    let patient = ["--max-connections-per-source", "1", "--first-line-timeout", "10m", "--workers", "1"];
    nothing_read(&refused(&[&none[..], &patient].concat(), beside_another), "per_source");
    nothing_read(&refused(&[&none[..], &["--rate-per-source", "1/s,burst=1"]].concat(), reset), "rate");
    nothing_read(&refused(&none, leave), "left_early");
}

#[test]
fn attempts_are_counted_and_the_slot_is_that_of_the_last_one() {
    let (_folder, path) = place();
    let (gone, other) = (Replica::echo(), Replica::echo());
    let backends = fixed(&[gone.address, other.address]);
    let more = ["--access-log-format", "json", "--health-interval", "1h"];
    let lb = Lb::start(&logging(&path, &[&flags(&backends)[..], &more].concat()));
    let id = id_for(&lb, "a");
    gone.leave();
    let (stream, address) = client(&lb, &id);
    assert_eq!(end(stream), id);
    let line = line_of(&path, address);
    assert_eq!(
        (&line["slot"], &line["replica"], &line["attempts"]),
        (&json!("b"), &json!("b"), &json!(2)),
        "{line}"
    );
}

#[test]
fn a_connection_that_was_handed_over_has_no_bytes() {
    let (_folder, path) = place();
    let more = ["--replicas", "1", "--transport", "handoff", "--access-log-format", "json"];
    let lb = calm(&logging(&path, &more));
    lb.wait_for_log("connections are handed over");
    let (stream, address) = client(&lb, "7\n");
    end(stream);
    let line = line_of(&path, address);
    assert_eq!((&line["ending"], &line["slot"]), (&json!("handed_over"), &json!("server1")), "{line}");
    assert_eq!((&line["bytes_up"], &line["bytes_down"]), (&Value::Null, &Value::Null), "{line}");
}

#[test]
fn no_client_forges_a_line() {
    for format in ["text", "json", "{id}"] {
        let (_folder, path) = place();
        let lb = calm(&logging(&path, &["--replicas", "1", "--access-log-format", format]));
        let ids = ["a\u{9b}1A\u{202e}", "\",\"slot\":\"b", "\\u001b[2J", "x\rINFO"];
        for id in ids {
            end(client(&lb, &format!("{id}\n")).0);
        }
        let mut long = lb.connect();
        long.write_all(&[b'"'; 8000]).unwrap();
        long.write_all(b"\n").unwrap();
        end(long);
        let lines = eventually("all lines", || Some(lines(&path)).filter(|lines| lines.len() > ids.len()));
        assert_eq!(lines.len(), ids.len() + 1, "{lines:?}");
        for line in lines {
            assert!(line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{line:?}");
            assert!(line.len() < 1500, "{}", line.len());
            if format == "json" {
                assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["slot"], "server1", "{line}");
            }
        }
    }
}

#[test]
fn a_file_that_was_renamed_or_removed_is_opened_again() {
    let (folder, path) = place();
    let old = folder.path().join("old");
    let lb = calm(&logging(&path, &["--replicas", "1", "--access-log-format", "{id}"]));
    let served = |id: &str, path: &Path, expected: &[&str]| {
        end(client(&lb, &format!("{id}\n")).0);
        eventually("the line in its file", || (lines(path) == expected).then_some(()));
    };
    served("1", &path, &["1"]);
    rename(&path, &old).unwrap();
    lb.signal("HUP");
    lb.wait_for_log("SIGHUP: the log of connections is opened again");
    eventually("the new file", || path.exists().then_some(()));
    served("2", &path, &["2"]);
    // A program that rotates files makes the new one.
    rename(&path, &old).unwrap();
    fs::write(&path, "").unwrap();
    served("3", &path, &["3"]);
    fs::remove_file(&path).unwrap();
    served("4", &path, &["4"]);
    assert_eq!(lines(&old), ["2"]);
    // No other program makes it: after a second, lb does.
    rename(&path, &old).unwrap();
    eventually("the new file", || {
        end(client(&lb, "5\n").0);
        path.exists().then_some(())
    });
}

#[test]
fn a_full_disk_costs_lines_and_is_said() {
    let lb = calm(&["--replicas", "1", "--access-log", "/dev/full"]);
    end(client(&lb, "7\n").0);
    let line = lb.wait_for_log("lines are missing in the log of connections (--access-log): No space left");
    assert_eq!(field(&line, "lines="), "1", "{line}");
    assert_eq!(lb.route("7"), "server1");
}

#[test]
fn a_slow_reader_costs_lines_and_is_said() {
    let (_folder, path) = place();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let reader = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(&path).unwrap();
    let room = rustix::pipe::fcntl_setpipe_size(&reader, 4096).unwrap();
    let lb = calm(&logging(&path, &["--replicas", "1"]));
    // A line has more than 64 bytes.
    (0..=room / 64).for_each(|_| assert_eq!(lb.route("7"), "server1"));
    lb.wait_for_log(
        "lines are missing in the log of connections (--access-log): Resource temporarily unavailable",
    );
    assert_eq!(lb.route("7"), "server1");
}

#[test]
fn a_sample_has_some_of_those_that_end_well_and_all_others() {
    let (_folder, path) = place();
    let more =
        ["--replicas", "1", "--access-log-format", "{ending} {id}", "--access-log-sample", "1/1000000000"];
    let lb = calm(&logging(&path, &more));
    (0..20).for_each(|_| assert_eq!(lb.route("7"), "server1"));
    drop(lb.connect());
    assert_eq!(eventually("a line", || Some(lines(&path)).filter(|lines| !lines.is_empty())), ["refused -"]);

    let (_folder, path) = place();
    let mut lb = calm(&logging(
        &path,
        &["--replicas", "1", "--access-log-format", "{id}", "--access-log-sample", "1/2"],
    ));
    let mut served = 0;
    // Each one is in with the chance 1/2.
    eventually("a line", || {
        served += 1;
        assert_eq!(lb.route("7"), "server1");
        (!lines(&path).is_empty()).then_some(())
    });
    (0..100).for_each(|_| assert_eq!(lb.route("8"), "server1"));
    lb.signal("TERM");
    assert!(lb.wait().success());
    let logged = lines(&path).iter().filter(|id| *id == "8").count();
    assert!(logged < 100, "{logged} of 100");
}

#[test]
fn a_log_that_cannot_be_written_is_said_at_the_start() {
    for path in ["/nowhere/access.log", "/"] {
        let output = Lb::command(&["--access-log", path]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{path}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("cannot write to {path} (--access-log)")), "{said}");
    }
}

#[test]
fn without_the_flag_there_is_no_thread_for_it() {
    let names = |lb: &Lb| crate::tracer::threads_named(lb, "access-log").len();
    assert_eq!(names(&calm(&["--replicas", "1"])), 0);
    let (_folder, path) = place();
    assert_eq!(names(&calm(&logging(&path, &["--replicas", "1"]))), 1);
}
