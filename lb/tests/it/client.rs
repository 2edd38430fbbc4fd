//! The client commands: their output, its stream, and their exit code.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::json;

use crate::control::{by_line, calm, listing};
use crate::harness::Lb;

/// Stdout, stderr and exit code of `lb ARGUMENTS`.
fn lb(arguments: &[&str], environment: &[(&str, &str)]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    let output = command.args(arguments).env_clear().envs(environment.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// What a command prints that succeeds.
fn done(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let (stdout, stderr, code) = lb(arguments, environment);
    assert_eq!((stderr.as_str(), code), ("", Some(0)), "{arguments:?}");
    stdout
}

#[test]
fn json_prints_the_answer_as_it_was_received() {
    let running = calm(&["--replicas", "1"]);
    let control = running.control.to_string();
    for (arguments, command) in [
        (&["rep"][..], json!({"cmd": "rep"})),
        (&["backends"], json!({"cmd": "backends"})),
        (&["explain", "a b&c"], json!({"cmd": "explain", "id": "a b&c"})),
    ] {
        let (stdout, stderr, code) = lb(&[arguments, &["--control", &control, "--json"]].concat(), &[]);
        assert_eq!((stderr.as_str(), code), ("", Some(0)));
        assert_eq!(stdout, by_line(&running, &command) + "\n");
    }
    for (arguments, hostnames) in [
        (["add", "2", "S5", "S4", "--json"], &["server1", "S5", "S4"][..]),
        (["rm", "--json", "2", "S5", "S4"], &["server1"]),
    ] {
        assert_eq!(lb(&arguments, &[("LB_CONTROL", &control)]).0, listing(hostnames) + "\n");
    }
}

#[test]
fn answers_are_text_for_people() {
    let running = calm(&["--replicas", "2"]);
    let control = [("LB_CONTROL", running.control.to_string())];
    let control = control.each_ref().map(|(name, value)| (*name, value.as_str()));
    let said = |arguments: &[&str]| lb(arguments, &control).0;
    let explanation = running.done(&json!({"cmd": "explain", "id": "132574"}));
    let order = ["0", "1"]
        .map(|at| explanation.pointer(&format!("/candidates/{at}/name")).unwrap().as_str().unwrap());
    let number = explanation["hash"].as_u64().unwrap();
    assert_eq!(
        said(&["explain", "132574"]),
        format!(
            "id 132574 is key \"132574\" (bytes 313332353734): mapping ring, hash {number}, position {number}\n  \
             1. {}   slot {}, up\n  2. {}   slot {}, up\nit goes to {}\n",
            order[0], order[0], order[1], order[1], order[0]
        )
    );
    let table = said(&["backends"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["index", "name", "hostname", "address", "pid", "state", "restarts", "connections"]);
    for (index, row) in (1..).zip(&rows[1..]) {
        let slot = running.slot(index);
        let name = format!("server{index}");
        let address = slot["address"].as_str().unwrap();
        let process = slot["pid"].to_string();
        assert_eq!(process, running.process_of(&name).to_string());
        let expected =
            [&index.to_string(), &name, &name, address, &process, "up", "0", "0", "open,", "0", "in", "all"];
        assert_eq!(*row, expected);
    }
    assert_eq!(rows.len(), 3);
    assert_eq!(said(&["rm", "2"]), "0 replicas\n");
    assert!(said(&["explain", "1"]).ends_with("it goes to no replica: none is available\n"));
}

#[test]
fn health_exits_with_zero_exactly_while_a_new_client_would_be_served() {
    let running = calm(&["--replicas", "2"]);
    let control = [("LB_CONTROL", running.control.to_string())];
    let control = control.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(done(&["health"], &control), "2 of 2 replicas are in rotation\n");
    done(&["mapping", "set", "--weight", "server1=0", "--weight", "server2=0"], &control);
    let none = "<Error> no server replica is available\n".to_owned();
    assert_eq!(lb(&["health"], &control), (String::new(), none, Some(1)));
}

#[test]
fn an_explanation_under_a_seed_tells_the_position_in_per_cent() {
    let running = calm(&["--replicas", "1", "--hash-seed", "7"]);
    let percent = &running.done(&json!({"cmd": "explain", "id": "7"}))["position_percent"];
    let expected = format!(
        "id 7 is key \"7\" (bytes 37): mapping ring, position {percent} % (a seed hides the hash)\n  1. server1   slot server1, up\n\
         it goes to server1\n"
    );
    assert_eq!(lb(&["explain", "7"], &[("LB_CONTROL", &running.control.to_string())]).0, expected);
}

#[test]
fn backends_tells_which_replicas_get_connections_handed_over() {
    for (transport, told) in [("proxy", "0 open, 0 in all"), ("handoff", "0 open, 0 in all, handed over")] {
        let running = Lb::start(&["--replicas", "1", "--transport", transport]);
        let table = lb(&["backends"], &[("LB_CONTROL", &running.control.to_string())]).0;
        assert!(table.trim_end().ends_with(told), "{transport}: {table}");
    }
}

#[test]
fn mappings_and_plans_are_text_for_people() {
    let running = calm(&["--replicas", "2"]);
    let control = [("LB_CONTROL", running.control.to_string())];
    let control = control.each_ref().map(|(name, value)| (*name, value.as_str()));
    let said = |arguments: &[&str]| done(arguments, &control);
    let plain = "mapping ring\npoints 1000\nbalance_factor off\nseeded false\nweights server1=1 server2=1\n";
    assert_eq!(said(&["mapping"]), plain);
    let plan = said(&["plan", "add", "server3", "--weights", "2"]);
    let lines: Vec<&str> = plan.lines().collect();
    assert!(lines[0].contains("% of all 2^64 positions of the ring would move; "), "{plan}");
    assert!(lines[1].ends_with(" -> server3") && lines[2].ends_with(" -> server3"), "{plan}");
    assert!(lines[3].starts_with("busiest / mean: 1.0"), "{plan}");
    assert_eq!(lines[4], "open connections: 0; out of place: 0 now, 0 then (they stay where they are)");
    assert_eq!(lines[5..], ["to do it: lb add 1 server3 --weights 2"]);
    assert!(said(&["plan", "rm", "1"]).contains("\nto do it: lb rm 1 server"));
    assert!(said(&["plan", "rm", "server2"]).ends_with("\nto do it: lb rm 1 server2\n"));
    let change = [
        "mapping",
        "set",
        "slots",
        "--request-hash",
        "i*i + 7",
        "--weight",
        "server1=2",
        "--balance-factor",
        "1.5",
    ];
    let plan = said(&[&["plan"], &change[..]].concat());
    let command =
        "to do it: lb mapping set slots --request-hash 'i*i + 7' --balance-factor 1.5 --weight server1=2\n";
    assert!(plan.ends_with(command) && plan.contains("\nwarning: "), "{plan}");
    let expected = "mapping slots\nslots 512\nvirtual 9\nprobing linear\nrequest_hash i*i + 7\n\
                    server_hash i*i + j*j + 2*j + 25\nbalance_factor 1.5\nseeded false\nweights server1=2 server2=1\n";
    assert_eq!(said(&change), expected);
    assert_eq!(said(&["add", "1", "S5", "--weights", "4"]), "3 replicas\n  server1\n  server2\n  S5\n");
    assert_eq!(running.slot(3)["weight"], 4);
    for wrong in [&["mapping", "set"][..], &["plan"], &["plan", "add"], &["mapping", "set", "--weight", "a"]]
    {
        assert_eq!(lb(wrong, &control).2, Some(2), "{wrong:?}");
    }
    let (_, stderr, code) = lb(&["mapping", "set", "--virtual", "0"], &control);
    assert_eq!(
        (stderr.starts_with("<Error> `virtual`: invalid value `0`"), code),
        (true, Some(1)),
        "{stderr}"
    );
}

#[test]
fn control_may_stand_anywhere_in_a_command_and_overrides_the_environment() {
    let (running, other) = (calm(&["--replicas", "1"]), calm(&["--replicas", "1"]));
    let (wrong, address) = (running.control.to_string(), other.control.to_string());
    let said = |words: &[&str]| lb(words, &[("LB_CONTROL", &wrong)]).0;
    for place in 0..4 {
        let mut words = vec!["mapping", "set", "rendezvous"];
        words.splice(place..place, ["--control", &address]);
        assert!(said(&words).starts_with("mapping rendezvous\n"), "{words:?}");
        assert_eq!(other.done(&json!({"cmd": "mapping"}))["mapping"], "rendezvous", "{words:?}");
        other.done(&json!({"cmd": "mapping", "mapping": "ring"}));
    }
    other.done(&json!({"cmd": "add", "n": 1, "hostnames": ["other"]}));
    assert!(said(&["plan", "--control", &address, "rm", "other"]).ends_with("to do it: lb rm 1 other\n"));
    assert_eq!(
        said(&["--json", "--control", &address, "rep"]),
        by_line(&other, &json!({"cmd": "rep"})) + "\n"
    );
    assert_eq!(running.done(&json!({"cmd": "mapping"}))["mapping"], "ring");
    // Flags of `lb serve` may not.
    assert_eq!(lb(&["--replicas", "2", "rep"], &[("LB_CONTROL", &wrong)]).2, Some(2));
}

#[test]
fn a_failure_is_printed_to_stderr_and_exits_with_1() {
    let running = calm(&["--replicas", "1", "--control-token", "secret"]);
    let control = running.control.to_string();
    let right = [("LB_CONTROL", control.as_str()), ("LB_CONTROL_TOKEN", "secret")];
    let refused = |arguments: &[&str], environment: &[(&str, &str)]| {
        let (stdout, stderr, code) = lb(arguments, environment);
        assert_eq!((stdout.as_str(), code), ("", Some(1)), "{arguments:?}");
        stderr
    };
    for json in [&[][..], &["--json"]] {
        let add = [&["add", "1", "a", "b"], json].concat();
        assert_eq!(
            refused(&add, &right),
            "<Error> Length of hostname list is more than newly added instances\n"
        );
        assert!(refused(&[&["rep"], json].concat(), &right[..1]).contains("the token is missing"));
    }
    assert!(refused(&["add", "0"], &right).starts_with("<Error> `n`: invalid value `0`: expected"));
    assert!(
        refused(&["add", "1", "../x"], &right)
            .starts_with("<Error> `hostnames`: invalid value `../x`: expected")
    );
    assert!(refused(&["explain", ""], &right).starts_with("<Error> `id` is empty"));
    assert!(refused(&["rep", "--control-token", "wrong"], &right).contains("the token is wrong"));
    assert_eq!(lb(&["rep", "--control-token", "secret"], &right[..1]).2, Some(0));
}

#[test]
fn names_alone_mean_their_number_and_a_bad_number_is_told_what_is_expected() {
    let running = calm(&["--replicas", "2"]);
    let control = [("LB_CONTROL", running.control.to_string())];
    let control = control.each_ref().map(|(name, value)| (*name, value.as_str()));
    let said = |arguments: &[&str]| done(arguments, &control);
    assert_eq!(said(&["rm", "server1"]), "1 replicas\n  server2\n");
    assert_eq!(said(&["add", "S5", "S4", "--weights", "2"]), "3 replicas\n  S5\n  server2\n  S4\n");
    assert_eq!(said(&["rm", "S5", "S4"]), "1 replicas\n  server2\n");
    // After a number everything is a name.
    assert_eq!(said(&["add", "1", "7"]), "2 replicas\n  7\n  server2\n");
    assert_eq!(said(&["rm", "1", "7"]), "1 replicas\n  server2\n");
    for wrong in ["-1", "1.5", "1,5", "", "99999999999"] {
        for words in [&["add"][..], &["rm"], &["plan", "add"], &["plan", "rm"]] {
            let (stdout, stderr, code) = lb(&[words, &[wrong]].concat(), &control);
            assert_eq!((stdout.as_str(), code), ("", Some(2)), "{words:?} {wrong}: {stderr}");
            let expected =
                format!("invalid value '{wrong}' for '<N|HOSTNAME>': expected how many, a whole number");
            assert!(stderr.contains(&expected), "{words:?} {wrong}: {stderr}");
        }
    }
    assert_eq!(running.hostnames(), ["server2"]);
}

#[test]
fn a_server_that_does_not_answer_as_lb_does_is_reported() {
    for (answer, message) in [
        (&b""[..], "closed the connection without an answer"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            " is no control port of lb (--control): it answers `HTTP/1.1 400 Bad Request`: ",
        ),
        (
            b"{\"status\":\"fine\"}\n",
            " is no control port of lb (--control): it answers `{\"status\":\"fine\"}`: ",
        ),
        (b"\x1b[31m\xff\n", " is no control port of lb (--control): it answers `\\u{1b}[31m\u{fffd}`: "),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut first = [0; 14];
            stream.read_exact(&mut first).unwrap();
            stream.write_all(answer).unwrap();
        });
        let (stdout, stderr, code) = lb(&["rep", "--control", &address], &[]);
        other.join().unwrap();
        assert_eq!((stdout.as_str(), code), ("", Some(1)), "{message}");
        assert!(stderr.contains(message), "{message}: {stderr}");
    }
    let (_, stderr, code) = lb(&["rep", "--control", "127.0.0.1:1"], &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("no lb answers on 127.0.0.1:1 (--control): "), "{stderr}");
    let running = calm(&["--replicas", "1"]);
    let (_, stderr, code) = lb(&["rep", "--control", &running.data.to_string()], &[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("is no control port of lb (--control): it answers `server1 "), "{stderr}");
}

#[test]
fn an_address_of_another_form_is_told_what_is_expected() {
    for wrong in
        ["http://127.0.0.1:5001", "https://lb", "127.0.0.1", "user@host:1", "a b:1", "host:0", "unix:", ""]
    {
        let (_, stderr, code) = lb(&["rep", "--control", wrong], &[]);
        assert_eq!(code, Some(2), "{wrong}");
        assert!(
            stderr.contains("expected HOST:PORT, such as 127.0.0.1:5001, or unix:PATH"),
            "{wrong}: {stderr}"
        );
    }
    let (_, stderr, code) = lb(&["rep"], &[("LB_CONTROL", "http://127.0.0.1:5001")]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("expected HOST:PORT, such as 127.0.0.1:5001, or unix:PATH"), "{stderr}");
}

#[test]
fn no_answer_sends_a_command_to_the_terminal() {
    let running = calm(&["--replicas", "1"]);
    let control = [("LB_CONTROL", running.control.to_string())];
    let control = control.each_ref().map(|(name, value)| (*name, value.as_str()));
    let id = "\u{1b}[31mred\u{9b}1A\u{202e}\r";
    let (stdout, stderr, code) = lb(&["explain", id], &control);
    assert_eq!((stderr.as_str(), code), ("", Some(0)));
    assert!(stdout.starts_with("id \\u{1b}[31mred\\u{9b}1A\\u{202e}\\r is key "), "{stdout}");
    let (json, _, _) = lb(&["explain", "--json", id], &control);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["message"]["id"], id);
    for output in [stdout, json] {
        assert!(!output.contains(|letter: char| letter.is_control() && letter != '\n'), "{output:?}");
    }
    let (_, stderr, code) = lb(&["mapping", "set", "\u{1b}[31m"], &control);
    assert_eq!(code, Some(1));
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
}

#[test]
fn a_reader_that_has_gone_has_seen_enough() {
    let running = calm(&["--replicas", "1"]);
    let control = running.control.to_string();
    let closed = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        let output = command.args(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        (String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    for words in
        [&["rep", "--control", &control][..], &["backends", "--json", "--control", &control], &["simulate"]]
    {
        assert_eq!(closed(words), (String::new(), Some(0)), "{words:?}");
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    let output = command.args(["rep", "--control", &control]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.starts_with(b"cannot write the answer: No space left"), "{output:?}");
}
