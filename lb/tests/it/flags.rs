//! Flags and environment: bad values are refused before anything is bound, with a message and an exit code.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::control::calm;
use crate::harness::{Lb, Replica, eventually};

/// `lb` with exactly these arguments and environment variables.
pub(crate) fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.env_clear().args(arguments).envs(environment.iter().copied());
    command
}

/// Kills a process at the end of its test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The exit code, stdout and stderr of a command that ends by itself.
#[track_caller]
pub(crate) fn end(mut command: Command) -> (Option<i32>, String, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut guard = Guard(command.spawn().unwrap());
    let status = eventually("the end of lb", || guard.0.try_wait().unwrap());
    let (mut stdout, mut stderr) = (String::new(), String::new());
    guard.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    guard.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (status.code(), stdout, stderr)
}

/// A port in use: an `lb` that tries to bind it exits with 1, not with 2.
pub(crate) fn taken() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Whether a line of the message begins with this flag or variable and contains `part`.
fn says(message: &str, name: &str, part: &str) -> bool {
    message.lines().any(|line| line.starts_with(&format!("{name}: ")) && line.contains(part))
}

/// Variables, each with what a message about a bad value says that it takes.
const VARIABLES: [(&str, &str); 49] = [
    ("CONTROL", "an address and a port, such as 127.0.0.1:5000"),
    ("REPLICAS", "a whole number from 0 to 1000"),
    ("PROVIDER", "process, docker, swarm, fixed or dns"),
    ("IMAGE", "the name of an image, such as lb-backend or nginx:1.27"),
    ("NETWORK", "the name of a network in which containers have addresses of their own"),
    ("FLEET", "a name of the form"),
    ("BACKEND_PORT", "a whole number from 1 to 65535"),
    ("MEMORY", "a size from 6MiB, such as 128MiB"),
    ("PIDS", "a whole number from 1 to 1000000"),
    ("CPUS", "a number of cores from 0.01"),
    ("MAPPING", "ring, slots, maglev or rendezvous"),
    ("POINTS", "a whole number from 1 to 10000"),
    ("SLOTS", "a whole number from 1 to 65536"),
    ("VIRTUAL", "a whole number from 1 to 10000"),
    ("PROBING", "linear or quadratic"),
    ("KEY", "id, source, sni, path, header:NAME or cookie:NAME"),
    ("ID_PARAM", "the name of a query parameter"),
    ("FIRST_LINE_TIMEOUT", "a duration of at least 1ms, such as 250ms, 5s or 1m"),
    ("FIRST_LINE_MAX", "a size from 16B to 64KiB, such as 8KiB"),
    ("CONNECT_TIMEOUT", "a duration of at least 1ms"),
    ("CONNECT_ATTEMPTS", "a whole number from 1 to 256"),
    ("HEALTH", "http:/PATH, tcp, tls, redis, postgres, line:SEND=EXPECT or exec:CMD"),
    ("HEALTH_EXPECT", "statuses from 100 to 999"),
    ("HEALTH_HOST", "a host, with or without a port, such as app.example"),
    ("HEALTH_PORT", "a whole number from 1 to 65535"),
    ("HEALTH_METHOD", "a method of HTTP but CONNECT in capitals"),
    ("HEALTH_INTERVAL", "a duration of at least 1ms"),
    ("HEALTH_TIMEOUT", "a duration of at least 1ms"),
    ("FALL", "a whole number from 1 to 1000"),
    ("RISE", "a whole number from 1 to 1000"),
    ("REPLACE_AFTER", "a duration of at least 1ms"),
    ("START_TIMEOUT", "a duration of at least 1ms"),
    ("RESPAWN_NAME", "random or same"),
    ("SPARES", "a whole number from 0 to 100"),
    ("DRAIN_TIMEOUT", "a duration, such as 0s"),
    ("WORKERS", "a whole number from 1 to 256"),
    ("SPLICE", "auto or never"),
    ("TRANSPORT", "proxy or handoff"),
    ("HANDOFF_VOLUME", "the name of a volume, of the form"),
    ("LOG", "a level (error, warn, info, debug, trace, off)"),
    ("LOG_FORMAT", "text or json"),
    ("MAX_CONNECTIONS", "a whole number from 1 to 1000000000"),
    ("MAX_CONNECTIONS_PER_SOURCE", "off, or a whole number from 1 to 1000000000"),
    ("RATE_PER_SOURCE", "off, N/s or N/s,burst=M"),
    ("MAX_CONNECTIONS_PER_REPLICA", "off, or a whole number from 1 to 1000000000"),
    ("ALLOW", "a network or an address"),
    ("DENY", "a network or an address"),
    ("KEEP", "true or false"),
    ("CONTROL_INSECURE", "true or false"),
];

#[test]
fn every_variable_is_read_and_all_bad_values_are_reported_together_before_anything_is_bound() {
    let (_listener, address) = taken();
    let mut command = command(&[], &[("LB_LISTEN", &address.to_string())]);
    command.envs(VARIABLES.map(|(variable, _)| (format!("LB_{variable}"), "a=?")));
    let (code, stdout, message) = end(command);
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{message}");
    for (variable, takes) in VARIABLES {
        assert!(
            says(&message, &format!("LB_{variable}"), &format!("invalid value `a=?`: expected {takes}")),
            "{variable}: {message}"
        );
    }
    assert_eq!(message.lines().count(), 1 + VARIABLES.len(), "{message}");
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused_with_2_before_anything_is_bound() {
    let (_listener, address) = taken();
    let address = address.to_string();
    let fixed = ["--provider", "fixed", "--backend", "a=127.0.0.1:1"];
    let quadratic = ["--mapping", "slots", "--probing", "quadratic", "--server-hash", "25"];
    let cases: [(&[&str], &str, &str); 18] = [
        (&["--request-hash", "i*i + "], "request-hash", "column 7: expected a number, i, or \"(\""),
        (
            &["--request-hash", "i + j"],
            "request-hash",
            "column 5: expected a number, i, or \"(\" (there is no j",
        ),
        (&["--server-hash", "(i + j"], "server-hash", "column 7: expected an operator or \")\""),
        (
            &[&quadratic[..], &["--replicas", "20"]].concat(),
            "replicas",
            "20 servers of 9 virtual servers each",
        ),
        (&["--control", "0.0.0.0:0"], "control", "--control-token TOKEN as well (or --control-insecure"),
        (&["--control", "[::]:0"], "control", "can be reached from other machines"),
        (&["--control-token", ""], "control-token", "invalid value ``: expected any other text"),
        (&["--backend", "a=127.0.0.1:1"], "backend", "it goes with --provider fixed only"),
        (&["--provider", "fixed"], "backend", "takes at least one --backend NAME=HOST:PORT"),
        (&[&fixed[..], &["--backend", "a=127.0.0.1:2"]].concat(), "backend", "the name a is given twice"),
        (&[&fixed[..], &["--backend", "b=127.0.0.1"]].concat(), "backend", "NAME=HOST:PORT"),
        (
            &[&fixed[..], &["--backend", "../b=127.0.0.1:1"]].concat(),
            "backend",
            "[A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
        ),
        (&[&fixed[..], &["--spares", "1"]].concat(), "spares", "leave it at 0"),
        (&[&fixed[..], &["--replicas", "2"]].concat(), "replicas", "2 is more than the 1 of --backend"),
        (&[&fixed[..], &["--command", "x"]].concat(), "command", "it goes with --provider process only"),
        (&["--command", " "], "command", "invalid value ``: expected a command"),
        (
            &["--mapping", "slots", "--replicas", "57"],
            "replicas",
            "57 servers of 9 virtual servers each do not fit",
        ),
        (&["--replicas", "-1"], "replicas", "invalid value `-1`: expected a whole number from 0 to 1000"),
    ];
    for (flags, flag, part) in cases {
        for serve in [&["serve"][..], &[]] {
            let (code, stdout, message) =
                end(command(&[serve, &["--listen", &address], flags].concat(), &[]));
            assert_eq!((code, stdout.as_str()), (Some(2), ""), "{flags:?}: {message}");
            assert!(says(&message, &format!("--{flag}"), part), "{flags:?}: {message}");
            assert_eq!(message.lines().count(), 2, "{flags:?}: {message}");
        }
    }
}

#[test]
fn formulas_can_be_given_in_the_environment() {
    for variable in ["LB_REQUEST_HASH", "LB_SERVER_HASH"] {
        let (code, stdout, message) = end(command(&[], &[(variable, "i * (2")]));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{message}");
        assert!(says(&message, variable, "column 7: expected an operator or \")\""), "{message}");
    }
}

/// The names of all variables, from the help of all commands that have some.
fn all_variables() -> BTreeSet<String> {
    // Without line breaks: one may stand before the name.
    let help = |arguments| end(command(arguments, &[])).1.split_whitespace().collect::<Vec<_>>().join(" ");
    let texts: [String; 3] =
        [help(&["serve", "--help"]), help(&["rep", "--help"]), help(&["simulate", "--help"])];
    let variables = texts.iter().flat_map(|text| text.split("[env: ").skip(1));
    variables.map(|rest| rest.split(['=', ']']).next().unwrap().to_owned()).collect()
}

#[test]
fn an_empty_variable_counts_as_unset_for_every_flag_of_every_command() {
    let variables = all_variables();
    assert!(variables.len() > 40 && variables.contains("LB_SPARES"), "{variables:?}");
    let all: Vec<(&str, &str)> = variables.iter().map(|variable| (variable.as_str(), "")).collect();
    let ports = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--replicas", "1"];
    let mut serve = command(&ports, &all);
    serve.env("PATH", "/usr/bin:/bin");
    let lb = Lb::launch_as(serve);
    lb.wait_for_log("ready data=");
    let control = lb.control.to_string();
    let (code, stdout, stderr) = end(command(&["rep", "--control", &control], &all));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "1 replicas\n  server1\n", ""));
    let (code, _, stderr) = end(command(&["simulate", "--ids", "10"], &all));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    // On the command line nothing is unset by an empty text.
    let (code, _, message) = end(command(&["--spares", ""], &[]));
    assert_eq!(code, Some(2));
    assert!(says(&message, "--spares", "invalid value ``"), "{message}");
}

#[test]
fn the_address_of_a_service_in_a_variable_is_ignored_with_a_warning() {
    let service = ("LB_BACKEND_PORT", "tcp://172.17.0.2:5000");
    let others = [
        ("LB_PORT", "tcp://172.17.0.3:5000"),
        ("LB_BACKEND_PORT_5000_TCP", "tcp://172.17.0.2:5000"),
        ("LB_BACKEND_PORT_5000_TCP_ADDR", "172.17.0.2"),
        ("LB_BACKEND_SERVICE_HOST", "172.17.0.2"),
        ("LB_BACKEND_SERVICE_PORT", "5000"),
        ("LB_BACKEND_NAME", "/lb/lb-backend"),
    ];
    let ports = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--replicas", "1"];
    let lb = Lb::launch_as(command(&ports, &[&[service], &others[..]].concat()));
    lb.wait_for_log("ready data=");
    let warnings: Vec<String> = lb.log().into_iter().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("LB_BACKEND_PORT: ignored, because `tcp://172.17.0.2:5000`"),
        "{warnings:?}"
    );
    // What no platform sets is meant for lb; and a flag is never ignored.
    let (code, _, message) = end(command(&[], &[("LB_LISTEN", "tcp://127.0.0.1:0"), service]));
    assert_eq!(code, Some(2), "{message}");
    assert!(
        says(&message, "LB_LISTEN", "invalid value `tcp://127.0.0.1:0`: expected an address"),
        "{message}"
    );
    let (code, _, message) = end(command(&["--backend-port", service.1], &[]));
    assert_eq!(code, Some(2), "{message}");
    assert!(says(&message, "--backend-port", "invalid value `tcp://172.17.0.2:5000`"), "{message}");
}

#[test]
fn a_message_names_the_variable_of_a_value_and_else_the_flag() {
    let (_listener, address) = taken();
    let address = address.to_string();
    let cases: [(&[&str], [&str; 2], i32, &str); 8] = [
        (&[], ["LB_SPARES", "many"], 2, "LB_SPARES: invalid value `many`"),
        (&["--spares", "many"], ["LB_SPARES", "2"], 2, "--spares: invalid value `many`"),
        (&[], ["LB_CONTROL", "0.0.0.0:0"], 2, "LB_CONTROL: 0.0.0.0:0 can be reached"),
        (&[], ["LB_BACKEND", "a=127.0.0.1:1"], 2, "LB_BACKEND: it goes with --provider fixed only"),
        (&[], ["LB_CONTROL_TOKEN_FILE", "/nowhere"], 2, "LB_CONTROL_TOKEN_FILE: /nowhere cannot be read"),
        (&["--control", "127.0.0.1:0"], ["LB_LISTEN", &address], 1, "(LB_LISTEN): Address already in use"),
        (&["simulate"], ["LB_POINTS", "0"], 2, "LB_POINTS: invalid value `0`"),
        (
            &["rep"],
            ["LB_CONTROL", "127.0.0.1"],
            2,
            "invalid value '127.0.0.1' for 'LB_CONTROL': expected HOST:PORT",
        ),
    ];
    for (arguments, [variable, value], expected_code, expected) in cases {
        let (code, _, message) = end(command(arguments, &[(variable, value)]));
        assert_eq!(code, Some(expected_code), "{variable}={value}: {message}");
        assert!(message.contains(expected), "{variable}={value}: {message}");
    }
    let (code, _, message) =
        end(command(&["rep"], &[("LB_CONTROL", &address), ("LB_CONTROL_TOKEN_FILE", "/nowhere")]));
    assert_eq!(code, Some(1), "{message}");
    assert!(message.starts_with("LB_CONTROL_TOKEN_FILE: /nowhere cannot be read"), "{message}");
}

#[test]
fn an_unknown_argument_is_refused_with_2() {
    let cases: [&[&str]; 12] = [
        &["--nonsense"],
        &["nonsense"],
        &["--listen"],
        &["serve", "rep"],
        &["--replicas", "1", "--replicas", "2"],
        &["--replicas", "1", "rep"],
        &["add"],
        &["add", "--", ""],
        &["rm", "-1"],
        &["explain"],
        &["rep", "--control", "nowhere"],
        &["rep", "--listen", "127.0.0.1:0"],
    ];
    for arguments in cases {
        let (code, stdout, message) = end(command(arguments, &[]));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {message}");
        assert!(message.starts_with("error: "), "{arguments:?}: {message}");
    }
    let (code, _, message) = end(command(&[], &[("LB_CONTROL_INSECURE", "perhaps")]));
    assert!(code == Some(2) && says(&message, "LB_CONTROL_INSECURE", "expected true or false"), "{message}");
}

#[test]
fn help_and_version_go_to_stdout_and_exit_with_0() {
    for (arguments, parts) in [
        (&["--version"][..], &["lb 0.1.0"][..]),
        (&["--help"], &["serve", "explain", "--health-interval", "LB_HEALTH_INTERVAL", "500ms"]),
        (&["help"], &["Usage: lb"]),
        (&["serve", "--help"], &["--first-line-max", "LB_FIRST_LINE_MAX", "8KiB"]),
        (&["add", "--help"], &["LB_CONTROL", "--json"]),
    ] {
        let (code, stdout, stderr) = end(command(arguments, &[]));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(parts.iter().all(|part| stdout.contains(part)), "{arguments:?}: {stdout}");
        assert!(!stdout.contains("[env: PORT="), "the hidden subcommand is not shown");
    }
}

#[test]
fn a_port_in_use_is_reported_with_its_flag_and_exits_with_1() {
    let (_listener, address) = taken();
    let address = address.to_string();
    for (flag, other) in [("--listen", "--control"), ("--control", "--listen")] {
        let (code, stdout, message) = end(command(&[flag, &address, other, "127.0.0.1:0"], &[]));
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{message}");
        let expected = format!("error: cannot listen on {address} ({flag}): Address already in use");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn a_second_lb_on_one_data_port_is_refused() {
    let first = calm(&["--replicas", "1", "--workers", "2"]);
    let data = first.data.to_string();
    let (code, _, message) = end(command(&["--listen", &data, "--control", "127.0.0.1:0"], &[]));
    assert_eq!(code, Some(1), "{message}");
    assert!(message.starts_with(&format!("error: cannot listen on {data} (--listen)")), "{message}");
    assert_eq!(first.route("1"), "server1");
}

#[test]
fn a_control_port_with_a_token_may_be_bound_beyond_loopback() {
    let ports = [("LB_LISTEN", "127.0.0.1:0"), ("LB_REPLICAS", "1")];
    let beyond = ["--control", "0.0.0.0:0"];
    for (flags, variable) in [
        (&["--control-token", "secret"][..], None),
        (&["--control-insecure"], None),
        (&[], Some(("LB_CONTROL_TOKEN", "secret"))),
        (&[], Some(("LB_CONTROL_INSECURE", "true"))),
        (&[], Some(("LB_CONTROL_INSECURE", "1"))),
    ] {
        let mut command = command(&[&beyond[..], flags].concat(), &ports);
        command.envs(variable);
        let lb = Lb::launch_as(command);
        assert!(lb.control.ip().is_unspecified());
        let is_guarded = flags.len() == 2 || variable.is_some_and(|(_, value)| value == "secret");
        let answer = lb.ask(&json!({"cmd": "rep"}));
        assert_eq!(answer["status"] == "failure", is_guarded, "{flags:?} {variable:?}: {answer}");
    }
    for no in ["false", "0"] {
        let command = command(&beyond, &[ports[0], ("LB_CONTROL_INSECURE", no)]);
        assert_eq!(end(command).0, Some(2), "{no}");
    }
}

#[test]
fn the_environment_configures_lb_and_a_flag_overrides_it() {
    for separator in [",", " ", ", ", "\n"] {
        configured_by_the_environment(separator);
    }
}

fn configured_by_the_environment(separator: &str) {
    let replicas = ["a", "b"].map(Replica::named);
    let backends = format!("a={}{separator}b={}", replicas[0].address, replicas[1].address);
    let variables = [
        ("LB_LISTEN", "127.0.0.1:0"),
        ("LB_CONTROL", "127.0.0.1:0"),
        ("LB_PROVIDER", "fixed"),
        ("LB_BACKEND", backends.as_str()),
        ("LB_MAPPING", "ring"),
        ("LB_HEALTH_INTERVAL", "40ms"),
        ("LB_LOG", "off"),
        ("LB_LOG_FORMAT", "json"),
    ];
    let lb = Lb::launch_as(command(&["--log", "info", "--log-format", "text"], &variables));
    lb.wait_for_log("ready data=");
    assert_eq!(lb.hostnames(), ["a", "b"]);
    replicas[0].healthy.store(false, std::sync::atomic::Ordering::Relaxed);
    lb.wait_for_state(1, "down");
}

#[test]
fn the_environment_can_give_the_command_which_never_sees_a_secret() {
    let script = "test -z \"$LB_CONTROL_TOKEN$LB_HASH_SEED\" && echo \"{port} $PORT of $SERVER_ID\" >&2; exec sleep 1000";
    let variables = [
        ("LB_COMMAND", script),
        ("LB_CONTROL_TOKEN", "secret"),
        ("LB_HASH_SEED", "7"),
        ("LB_REPLICAS", "1"),
        ("LB_LISTEN", "127.0.0.1:0"),
        ("LB_CONTROL", "127.0.0.1:0"),
        ("PATH", "/usr/bin:/bin"),
    ];
    let lb = Lb::launch_as(command(&[], &variables));
    let line = lb.wait_for_log(" of server1");
    let ports: Vec<&str> = line.split_whitespace().filter(|word| word.parse::<u16>().is_ok()).collect();
    assert!(ports.len() == 2 && ports[0] == ports[1], "{line}");
}
