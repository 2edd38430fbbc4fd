//! The flags about the DNS.

use std::time::Duration;

use super::*;

const DNS: [&str; 2] = ["--provider", "dns"];

fn source(name: &str) -> Source {
    good(&[&DNS[..], &["--dns", name]].concat()).source
}

#[test]
fn a_name_with_a_port_is_a_host_and_one_without_has_service_records() {
    let host = |name: &str, port| Source::Dns(ServiceName::Host(name.to_owned(), port));
    let records = |name: &str| Source::Dns(ServiceName::Records(name.to_owned()));
    assert_eq!(source("web.example.:80"), host("web.example.", 80));
    assert_eq!(source("web:65535"), host("web", 65535));
    assert_eq!(source("_http._tcp.web.example"), records("_http._tcp.web.example"));
    for wrong in [
        "",
        ":80",
        "web:",
        "web:0",
        "web:65536",
        "web:+1",
        "web:80:81",
        "a b",
        "a..b",
        "10.0.0.1:80",
        "[::1]:80",
    ] {
        let problems = problems(&[&DNS[..], &["--dns", wrong]].concat());
        let expected = format!("--dns: invalid value `{wrong}`: expected a name with a port, such as");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?}");
    }
}

#[test]
fn a_fleet_from_a_name_begins_empty_and_its_rules_have_defaults() {
    let config = good(&[&DNS[..], &["--dns", "web:80"]].concat());
    assert!(config.slots.is_empty() && config.replicas_go_on());
    let seconds = Duration::from_secs;
    let rules = ResolutionRules { least: seconds(1), most: seconds(30), empty_after: Some(seconds(30)) };
    assert_eq!(config.resolution, Resolution { servers: Vec::new(), rules });
    let config = good(&words(
        "--provider dns --dns web:80 --dns-server 10.0.0.2 --dns-server 10.0.0.3:5353,[::1]:7,::2 \
         --dns-min-interval 10ms --dns-max-interval 1d --dns-empty-after off",
    ));
    let servers = ["10.0.0.2:53", "10.0.0.3:5353", "[::1]:7", "[::2]:53"].map(|text| text.parse().unwrap());
    let rules =
        ResolutionRules { least: Duration::from_millis(10), most: seconds(86_400), empty_after: None };
    assert_eq!(config.resolution, Resolution { servers: servers.into(), rules });
}

#[test]
fn what_does_not_go_together_is_refused() {
    for (flags, expected) in [
        (
            "--provider dns",
            "--dns: --provider dns takes --dns NAME[:PORT], the name that leads to the replicas",
        ),
        ("--dns web:80", "--dns: it goes with --provider dns only"),
        ("--dns-server 10.0.0.2", "--dns-server: it goes with --provider dns and fixed only"),
        (
            "--provider dns --dns web:80 --replicas 3",
            "--replicas: with --provider dns, the records of the name decide how many there are",
        ),
        (
            "--provider dns --dns web:80 --spares 1",
            "--spares: with --provider dns, each server of the name has a slot; leave it at 0",
        ),
        (
            "--provider dns --dns web:80 --transport handoff",
            "--transport: handoff takes replicas on this host, so it does not go with --provider dns",
        ),
        ("--provider dns --dns web:80 --backend a=h:1", "--backend: it goes with --provider fixed only"),
        (
            "--provider dns --dns web:80 --dns-min-interval 5s --dns-max-interval 1s",
            "--dns-max-interval: 1s is less than --dns-min-interval, 5s",
        ),
    ] {
        assert_eq!(problems(&words(flags)), [expected], "{flags}");
    }
    for wrong in ["", "dns.example", "10.0.0.2:0", "10.0.0.2:x", "[::1"] {
        let problems = problems(&["--provider", "dns", "--dns", "web:80", "--dns-server", wrong]);
        let expected =
            format!("--dns-server: invalid value `{wrong}`: expected an IP address with or without a port");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?}");
    }
    check_takes(&[
        ("dns-min-interval", &["", "9ms", "25h", "1"], "expected a duration from 10ms to 1d"),
        ("dns-max-interval", &["0s"], "expected a duration from 10ms to 1d"),
        ("dns-empty-after", &["", "0s", "never"], "expected off, or a duration of at least 1ms"),
    ]);
}
