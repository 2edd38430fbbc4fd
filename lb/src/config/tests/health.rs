//! `--health` and what goes with it.

use hyper::Method;
use proto::probe::Language;

use super::*;
use crate::control::Statuses;

#[track_caller]
fn probe(flags: &[&str]) -> Probe {
    good(flags).health.probe
}

#[test]
fn every_kind_of_probe_has_a_name() {
    let tls = |name: Option<&str>| Language::Tls(name.map(ToOwned::to_owned));
    let exec = Probe { kind: ProbeKind::Exec("check --port $LB_PORT".to_owned()), port: None };
    assert_eq!(probe(&["--health", "exec:check --port $LB_PORT"]), exec);
    let exchange = Language::Line("PING\\r\\n=+PONG".parse().unwrap());
    for (flags, language) in [
        ("--health tls", tls(None)),
        ("--health tls --health-host db.example", tls(Some("db.example"))),
        ("--health redis", Language::Redis),
        ("--health postgres", Language::Postgres),
        ("--health line:PING\\r\\n=+PONG", exchange),
    ] {
        assert_eq!(probe(&words(flags)), Probe { kind: ProbeKind::Talk(language), port: None }, "{flags}");
    }
}

#[test]
fn a_probe_by_http_has_details() {
    let flags = "--health http:/ready?a=b --health-expect 200,300-302 --health-host app.example:81 --health-port 9000 --health-method HEAD";
    let http = Http {
        path: "/ready?a=b".to_owned(),
        method: Method::HEAD,
        host: Some("app.example:81".to_owned()),
        expect: Statuses(vec![200..=200, 300..=302]),
    };
    assert_eq!(probe(&words(flags)), Probe { kind: ProbeKind::Http(http), port: Some(9000) });
    let alone = probe(&["--health-expect", " 204, 503 "]);
    let http = Http { expect: Statuses(vec![204..=204, 503..=503]), ..Http::get("/heartbeat".to_owned()) };
    assert_eq!(alone, Probe { kind: ProbeKind::Http(http), port: None });
}

#[test]
fn a_detail_that_does_not_fit_the_kind_is_refused_with_both_names() {
    let http = "it goes with --health http:/PATH, not with --health";
    let or_tls = "it goes with --health http:/PATH or --health tls, not with --health";
    for (kind, flag, value, problem) in [
        ("tcp", "expect", "200", format!("{http} tcp")),
        ("redis", "method", "GET", format!("{http} redis")),
        ("postgres", "host", "a", format!("{or_tls} postgres")),
        ("line:=220", "host", "a", format!("{or_tls} line")),
        ("tls", "expect", "200", format!("{http} tls")),
        (
            "exec:true",
            "port",
            "1",
            "it goes with every --health but exec:CMD, not with --health exec".to_owned(),
        ),
    ] {
        let flag = format!("--health-{flag}");
        assert_eq!(problems(&["--health", kind, &flag, value]), [format!("{flag}: {problem}")]);
    }
    let several = problems(&words("--health tcp --health-expect 200 --health-host a --health-method GET"));
    assert_eq!(several.len(), 3, "{several:?}");
    for name in ["127.0.0.1", "a:443"] {
        let found = problems(&["--health", "tls", "--health-host", name]);
        let expected = "expected the name of a host without a port, for --health tls";
        assert_eq!(found, [format!("--health-host: invalid value `{name}`: {expected}")]);
    }
    // Nothing is known to fit a kind that is wrong.
    assert_eq!(problems(&words("--health udp --health-expect 200")).len(), 1);
}

#[test]
fn wrong_details_are_refused() {
    for (flag, wrong, expected) in [
        (
            "health-expect",
            &["", ",", "20", "99", "1000", "200-", "300-200", "2xx", "+20"][..],
            "statuses from 100 to 999",
        ),
        ("health-host", &["", "a b", "a/b", "u@a", "é"], "a host, with or without a port"),
        ("health-port", &["0", "65536", "-1", "http"], "a whole number from 1 to 65535"),
        ("health-method", &["", "get", "CONNECT", "A B"], "a method of HTTP but CONNECT in capitals"),
        (
            "health",
            &["line:", "line:PING", "line:PING=", r"line:a\q=b"],
            r"line:SEND=EXPECT with \r, \n, \t, \\ or \xNN",
        ),
    ] {
        for value in wrong {
            let found = problems(&[&format!("--{flag}"), value]);
            let start = format!("--{flag}: invalid value `{value}`: expected {expected}");
            assert!(found.len() == 1 && found[0].starts_with(&start), "{found:?}");
        }
    }
}
