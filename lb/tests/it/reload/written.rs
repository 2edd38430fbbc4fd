//! What runs, written as a configuration file.

use std::fs;

use serde_json::json;

use super::Case;
use crate::control::http;
use crate::flags::{command, end};
use crate::harness::Replica;

/// The file that `lb config --write` makes of what runs.
fn written(case: &Case, token: Option<&str>) -> String {
    let (file, control) = (case.folder.path().join("now.toml"), case.lb.control.to_string());
    let name = file.to_str().unwrap();
    let mut arguments = vec!["config", "--control", &control, "--write", name];
    arguments.extend(token.iter().flat_map(|token| ["--control-token", token]));
    let (code, stdout, stderr) = end(command(&arguments, &[]));
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    fs::read_to_string(file).unwrap()
}

/// Loads what was written: nothing may differ.
#[track_caller]
fn is_what_runs(case: &Case, text: &str) {
    let loaded = case.load(text);
    assert_eq!((&loaded["settings"], &loaded["slots"]), (&json!([]), &json!([])), "{text}");
}

#[test]
fn what_commands_have_left_is_written_and_loads_without_a_difference() {
    let case = Case::start(
        "replicas = 2\nallow = [\"127.0.0.0/8\", \"::1\"]\naccess-log-format = '{id} \"a\\b\"'\n[health]\ninterval = \"1s\"\n",
    );
    case.lb.done(&json!({"cmd": "add", "n": 2, "hostnames": ["S1"]}));
    case.lb
        .done(&json!({"cmd": "mapping", "mapping": "slots", "request_hash": "i * 7", "balance_factor": 1.5}));
    let text = written(&case, None);
    for line in
        ["replicas = 4", "mapping = \"slots\"", "request-hash = \"i * 7\"", "balance-factor = \"1.5\""]
    {
        assert!(text.lines().any(|given| given == line), "{line}: {text}");
    }
    assert!(text.contains("# --listen is given, and goes before this\nlisten = [\"127.0.0.1:0\"]"), "{text}");
    let before = case.state();
    is_what_runs(&case, &text);
    assert_eq!(case.state(), before);
    let (code, stdout, _) =
        end(command(&["config", "--control", &case.lb.control.to_string(), "--write"], &[]));
    assert_eq!((code, stdout), (Some(0), written(&case, None)));
}

#[test]
fn fixed_addresses_are_written_with_their_weights() {
    let replicas: Vec<Replica> = (0..3).map(|_| Replica::echo()).collect();
    let backend = |(name, replica): (char, &Replica)| format!("{name}={}", replica.address);
    let backends: Vec<String> = ('a'..).zip(&replicas).map(backend).collect();
    let case =
        Case::start(&format!("provider = \"fixed\"\nhealth = \"tcp\"\nbackend = {}\n", json!(backends)));
    case.lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["b"]}));
    case.lb.done(&json!({"cmd": "mapping", "weights": {"c": 7}}));
    let text = written(&case, None);
    let (_, address) = backends[2].split_once('=').unwrap();
    let expected = format!("[[backend]]\nname = \"c\"\naddress = \"{address}\"\nweight = 7\n");
    assert!(text.ends_with(&expected) && !text.contains("\"b\""), "{text}");
    is_what_runs(&case, &text);
}

#[test]
fn secrets_are_not_written() {
    let case = Case::start("replicas = 1\ncontrol-token = \"geheimnisvoll\"\nhash-seed = 31337\n");
    let text = written(&case, Some("geheimnisvoll"));
    for secret in ["geheimnisvoll", "31337"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(text.contains("# control-token is a secret, and is not written"), "{text}");
    assert_eq!(http(&case.lb, "GET /config", "").status, 401);
}
