//! Metrics: every name of the contract, counts that equal what was sent, both formats, and who may read them.

pub(crate) mod page;
mod prometheus;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use serde_json::json;

use crate::control::{by_line, calm};
use crate::harness::{Gate, Lb, Replica, eventually, fixed, flags, id_for, reset, session, signal};
use page::{Page, get, port, raw, run, scrape, tool};

/// Each metric with the names of its labels.
const NAMES: &[(&str, &[&str])] = &[
    ("lb_access_log_lost_total", &[]),
    ("lb_backends_file_reads_total", &["result"]),
    ("lb_build_info", &["revision", "version"]),
    ("lb_bytes_total", &["direction", "slot"]),
    ("lb_commands_total", &["command", "result"]),
    ("lb_connect_attempts_total", &["result", "slot"]),
    ("lb_connect_seconds_bucket", &["le"]),
    ("lb_connect_seconds_count", &[]),
    ("lb_connections_open", &["slot"]),
    ("lb_connections_refused_total", &["reason"]),
    ("lb_connections_total", &["ending", "slot"]),
    ("lb_first_line_seconds_bucket", &["le"]),
    ("lb_first_line_seconds_sum", &[]),
    ("lb_journal_lost_total", &[]),
    ("lb_log_lost_total", &[]),
    ("lb_probe_seconds_bucket", &["le", "result", "slot"]),
    ("lb_probes_total", &["result", "slot"]),
    ("lb_recovery_seconds_bucket", &["le", "phase"]),
    ("lb_restarts_total", &["cause", "slot"]),
    ("lb_session_seconds_count", &[]),
    ("lb_sessions_max", &[]),
    ("lb_sessions_open", &[]),
    ("lb_slot_share", &["slot"]),
    ("lb_slot_up", &["slot"]),
    ("lb_slot_weight", &["slot"]),
    ("lb_slots", &["state"]),
    ("lb_workers", &["state"]),
    ("process_cpu_seconds_total", &[]),
    ("process_max_fds", &[]),
    ("process_open_fds", &[]),
    ("process_resident_memory_bytes", &[]),
    ("process_start_time_seconds", &[]),
    ("process_threads", &[]),
    ("process_virtual_memory_bytes", &[]),
];

/// Each label of which the values are known, with all of them.
const VALUES: &[(&str, &str, &[&str])] = &[
    (
        "lb_connections_total",
        "ending",
        &["aged", "client_reset", "complete", "evicted", "handed_over", "idle", "local", "replica_reset"],
    ),
    (
        "lb_connections_refused_total",
        "reason",
        &["denied", "left_early", "local", "max_connections", "no_replica", "per_source", "rate"],
    ),
    ("lb_bytes_total", "direction", &["down", "up"]),
    ("lb_connect_attempts_total", "result", &["local", "ok", "other", "refused", "timeout"]),
    ("lb_slots", "state", &["down", "draining", "quarantined", "starting", "up"]),
    ("lb_restarts_total", "cause", &["exit", "start_failed", "unresponsive"]),
    ("lb_recovery_seconds_count", "phase", &["notice", "ready", "start", "total"]),
    ("lb_probes_total", "result", &["failed", "local", "ok"]),
    ("lb_workers", "state", &["accepting", "dead", "full"]),
    ("lb_backends_file_reads_total", "result", &["applied", "refused"]),
];

/// The most sessions that `lb` serves at once.
pub(crate) fn most_sessions(lb: &Lb) -> usize {
    scrape(lb).value("lb_sessions_max", "") as usize
}

/// Waits until this sample has this value.
#[track_caller]
pub(crate) fn wait_for(lb: &Lb, name: &str, labels: &str, value: f64) -> Page {
    eventually(&format!("{name}{{{labels}}} = {value}"), || {
        Some(scrape(lb)).filter(|page| page.value(name, labels) == value)
    })
}

#[test]
fn every_metric_has_its_labels_and_every_label_its_values() {
    let lb = calm(&["--replicas", "3"]);
    by_line(&lb, &json!({"cmd": "rep"}));
    let page = eventually("shares", || Some(scrape(&lb)).filter(|page| page.text.contains("lb_slot_share{")));
    for (name, labels) in NAMES {
        assert_eq!(page.labels_of(name), *labels, "{name}");
    }
    for (name, label, values) in VALUES {
        assert_eq!(page.values_of(name, label), *values, "{name}");
    }
    let share =
        ["server1", "server2", "server3"].map(|slot| page.value("lb_slot_share", &format!("slot={slot}")));
    assert!((share.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{share:?}");
    assert!(share.iter().all(|share| (0.28..0.39).contains(share)), "{share:?}");
    assert_eq!(page.sum("lb_build_info", ("version", env!("CARGO_PKG_VERSION"))), 1.0);
    assert_eq!(page.value("lb_slots", "state=up"), 3.0);
    assert_eq!(page.value("lb_commands_total", "command=rep,result=ok"), 1.0);
    assert!(page.value("lb_workers", "state=accepting") >= 1.0);
    assert!(page.value("process_open_fds", "") > 10.0);
    assert!(page.value("process_max_fds", "") >= page.value("lb_sessions_max", ""));
    assert!(page.value("lb_probes_total", "slot=server1,result=ok") >= 1.0);
}

#[test]
fn connections_are_counted_by_how_they_ended() {
    let (lb, mut sent) = (calm(&["--replicas", "2"]), 0);
    let id = id_for(&lb, "server1");
    for _ in 0..20 {
        lb.route(&id);
        sent += id.len() as u64 + 1;
    }
    let (client, _) = session(&lb, &id);
    let (open, _) = session(&lb, &id);
    sent += 2 * (id.len() as u64 + 1);
    reset(client);
    wait_for(&lb, "lb_connections_total", "slot=server1,ending=client_reset", 1.0);
    // A session is counted, and gives its place back after that.
    wait_for(&lb, "lb_sessions_open", "", 1.0);
    let page = wait_for(&lb, "lb_connections_open", "slot=server1", 1.0);
    assert_eq!(page.value("lb_connections_total", "slot=server1,ending=complete"), 20.0);
    assert_eq!(page.sum("lb_connections_total", ("slot", "server2")), 0.0);
    assert_eq!(page.value("lb_bytes_total", "slot=server1,direction=up"), sent as f64);
    assert_eq!(page.value("lb_connect_attempts_total", "slot=server1,result=ok"), 22.0);
    assert_eq!(page.value("lb_first_line_seconds_count", ""), 22.0);
    assert_eq!(page.value("lb_connect_seconds_count", ""), 22.0);
    assert_eq!(page.value("lb_session_seconds_count", ""), 21.0);
    assert_eq!(page.value("lb_session_seconds_bucket", "le=+Inf"), 21.0);
    drop(open);
    wait_for(&lb, "lb_connections_open", "slot=server1", 0.0);
}

#[test]
fn each_byte_of_an_open_connection_is_counted_when_it_moves() {
    let lb = calm(&["--replicas", "1"]);
    let (mut client, hostname) = session(&lb, "132574");
    let down = |words: u64| words * (hostname.len() as u64 + 1) + 7 + 5 * (words - 1);
    wait_for(&lb, "lb_bytes_total", "slot=server1,direction=down", down(1) as f64);
    client.write_all(b"more\n").unwrap();
    let mut answer = vec![0; hostname.len() + 6];
    client.read_exact(&mut answer).unwrap();
    let page = wait_for(&lb, "lb_bytes_total", "slot=server1,direction=down", down(2) as f64);
    assert_eq!(page.value("lb_bytes_total", "slot=server1,direction=up"), 12.0);
}

#[test]
fn a_replica_that_resets_and_one_that_is_silent_are_told_apart() {
    let resets = Replica::start(|stream, _| reset(stream));
    let silent = Replica::echo();
    let addresses = [resets.address, silent.address];
    let fleet = fixed(&addresses);
    let lb = calm(&[&flags(&fleet)[..], &["--idle-timeout", "300ms", "--health", "tcp"]].concat());
    let mut client = lb.connect();
    writeln!(client, "{}", id_for(&lb, "a")).unwrap();
    assert!(client.read_to_end(&mut Vec::new()).is_err(), "a reset");
    wait_for(&lb, "lb_connections_total", "slot=a,ending=replica_reset", 1.0);
    let mut client = lb.connect();
    writeln!(client, "{}", id_for(&lb, "b")).unwrap();
    let _ = client.read_to_end(&mut Vec::new());
    wait_for(&lb, "lb_connections_total", "slot=b,ending=idle", 1.0);
}

#[test]
fn refused_connections_are_counted_by_the_reason() {
    let lb = calm(&["--replicas", "1", "--max-connections-per-source", "1"]);
    let client = lb.connect();
    client.shutdown(Shutdown::Both).unwrap();
    drop(client);
    wait_for(&lb, "lb_connections_refused_total", "reason=left_early", 1.0);
    wait_for(&lb, "lb_sessions_open", "", 0.0);
    let _held = session(&lb, "132574");
    for _ in 0..3 {
        let _ = lb.connect().read(&mut [0]);
    }
    let page = wait_for(&lb, "lb_connections_refused_total", "reason=per_source", 3.0);
    assert_eq!(page.value("lb_connections_refused_total", "reason=left_early"), 1.0);
    let closed = calm(&["--replicas", "1", "--deny", "127.0.0.0/8"]);
    let _ = closed.connect().read(&mut [0]);
    wait_for(&closed, "lb_connections_refused_total", "reason=denied", 1.0);
    let empty = calm(&["--replicas", "0"]);
    assert!(empty.get("/home?id=7").starts_with("HTTP/1.1 503"));
    let page = wait_for(&empty, "lb_connections_refused_total", "reason=no_replica", 1.0);
    assert_eq!(page.value("lb_slots", "state=up"), 0.0);
}

#[test]
fn a_slot_that_is_removed_is_seen_until_its_last_connection_has_ended() {
    let lb = calm(&["--replicas", "2"]);
    let (open, _) = session(&lb, &id_for(&lb, "server2"));
    lb.done(&json!({"cmd": "rm", "n": 1, "hostnames": ["server2"]}));
    let page = scrape(&lb);
    assert_eq!(page.value("lb_connections_open", "slot=server2"), 1.0);
    drop(open);
    eventually("no series of the slot", || (!scrape(&lb).text.contains("server2")).then_some(()));
    // A slot that is added is seen at once, and has its share when that is computed.
    lb.done(&json!({"cmd": "add", "n": 1, "hostnames": ["S5"]}));
    assert_eq!(scrape(&lb).value("lb_slot_up", "slot=S5"), 1.0);
    eventually("its share", || scrape(&lb).text.contains(r#"lb_slot_share{slot="S5"}"#).then_some(()));
}

#[test]
fn a_restart_has_its_cause_and_its_recovery_its_phases() {
    let gate = Gate::new();
    gate.open();
    let lb = Lb::start(&["--replicas", "2", "--command", &gate.command()]);
    let before = scrape(&lb).value("lb_connections_total", "slot=server1,ending=complete");
    let id = id_for(&lb, "server1");
    lb.route(&id);
    let first = lb.slot(1);
    signal(lb.process_of("server1"), "KILL");
    lb.wait_for_replacement(&first);
    lb.route(&id);
    let page = wait_for(&lb, "lb_restarts_total", "slot=server1,cause=exit", 1.0);
    for phase in ["notice", "start", "ready", "total"] {
        assert_eq!(page.value("lb_recovery_seconds_count", &format!("phase={phase}")), 1.0, "{phase}");
    }
    assert!(page.value("lb_recovery_seconds_sum", "phase=total") > 0.0);
    // The counters of the slot go on, whichever replica sits in it.
    wait_for(&lb, "lb_connections_total", "slot=server1,ending=complete", before + 2.0);
    assert_eq!(page.values_of("lb_restarts_total", "slot"), ["server1", "server2"], "no hostname is a label");
}

#[test]
fn the_client_chooses_the_format() {
    let lb = calm(&["--replicas", "1"]);
    let (head, text) = get(&lb, lb.control, "");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(text.contains("# TYPE lb_connections_total counter\n") && !text.contains("# EOF"), "{text}");
    let (head, text) =
        get(&lb, lb.control, "Accept: application/openmetrics-text; version=1.0.0,text/plain;q=0.5\r\n");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(text.contains("# TYPE lb_connections counter\n") && text.ends_with("# EOF\n"), "{text}");
    assert!(text.contains("lb_connections_total{slot=\"server1\",ending=\"complete\"} 0"), "{text}");
}

#[test]
fn an_address_of_its_own_serves_metrics_and_health_without_a_token_and_nothing_else() {
    let lb = calm(&["--replicas", "1", "--control-token", "0123456789abcdef", "--metrics", "127.0.0.1:0"]);
    let (open, guarded) = (port(&lb), lb.control);
    let (head, body) = get(&lb, open, "");
    assert!(head.starts_with("http/1.1 200") && body.contains("lb_connections_total{"), "{head}");
    for path in ["/", "/rep", "/backends", "/events", "/metrics/", "/Metrics", "/healthz/"] {
        let (head, _) = raw(&lb, open, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
    }
    let ask = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (head, body) = raw(&lb, open, ask);
    assert!(head.starts_with("http/1.1 200") && body.contains("\"up\":1"), "{head}: {body}");
    assert!(raw(&lb, guarded, ask).0.starts_with("http/1.1 401"));
    for (method, path) in ["POST", "PUT", "DELETE", "HEAD"]
        .iter()
        .flat_map(|method| ["/metrics", "/healthz"].map(|path| (method, path)))
    {
        let (head, _) = raw(&lb, open, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get"), "{method}: {head}");
    }
    let (head, _) = raw(&lb, open, "{\"cmd\":\"rep\",\"token\":\"0123456789abcdef\"}\n");
    assert!(head.starts_with("http/1.1 400"), "{head}");
    // On the control port they are a command like any other.
    assert!(get(&lb, guarded, "").0.starts_with("http/1.1 401"));
    assert!(get(&lb, guarded, "Authorization: Bearer wrong\r\n").0.starts_with("http/1.1 401"));
    let (head, body) = get(&lb, guarded, "Authorization: Bearer 0123456789abcdef\r\n");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(Page::read(body).value("lb_commands_total", "command=unread,result=refused"), 3.0);
}

#[test]
fn connections_that_say_nothing_keep_nobody_from_the_metrics() {
    let lb = calm(&["--replicas", "1", "--metrics", "127.0.0.1:0"]);
    let address = port(&lb);
    let _crowd: Vec<_> = (0..50).map(|_| lb.dial(address)).collect();
    assert!(get(&lb, address, "").0.starts_with("http/1.1 200"));
}

#[test]
fn a_metric_costs_a_bounded_number_of_series_for_each_slot() {
    let few = scrape(&calm(&["--replicas", "2"])).len();
    let many = scrape(&calm(&["--replicas", "6"])).len();
    assert!((many - few) / 4 <= 60, "{few}, {many}");
}

#[test]
fn promtool_is_content_with_both_ports() {
    let Some(mut promtool) = tool("promtool") else { return };
    let lb = calm(&["--replicas", "2"]);
    lb.route("132574");
    promtool.args(["check", "metrics"]);
    let (is_content, said) = run(promtool, &scrape(&lb).text);
    assert!(is_content && said.trim().is_empty(), "{said}");
}
