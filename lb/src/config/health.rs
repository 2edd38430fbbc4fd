//! The flags of probes, and whether they fit each other.

use std::time::Duration;

use clap::Args;
use clap::builder::ValueParser;
use hyper::Method;
use proto::control::is_host_name;
use proto::probe::Language;
use proto::proxy::Version;

use super::Problems;
use super::value::{self, Checked};
use crate::control::{HealthPolicy, OnDown, Probe, ProbeKind, Statuses};

/// The flags of probes, and of what they mean.
#[derive(Args, Clone, Debug)]
pub(super) struct HealthFlags {
    /// What is probed: http:/PATH, tcp, tls, redis, postgres, line:SEND=EXPECT (bytes to send and the beginning of the answer, with \r, \n, \t, \\
    /// and \xNN) or exec:CMD (a command for sh that exits with 0)
    #[arg(long, help_heading = "Health", env = "LB_HEALTH", value_name = "PROBE", default_value = "http:/heartbeat", value_parser = ValueParser::new(value::probe))]
    health: Checked<ProbeKind>,
    /// http: the statuses of good answers [default: 200-399]
    #[arg(long, help_heading = "Health", env = "LB_HEALTH_EXPECT", value_name = "STATUSES", value_parser = ValueParser::new(value::statuses))]
    health_expect: Option<Checked<Statuses>>,
    /// http: the header Host; tls: the name of the server that is asked for [default: the address; none]
    #[arg(long, help_heading = "Health", env = "LB_HEALTH_HOST", value_name = "HOST", value_parser = ValueParser::new(value::probed_host))]
    health_host: Option<Checked<String>>,
    /// The port that is probed [default: that of connections]
    #[arg(long, help_heading = "Health", env = "LB_HEALTH_PORT", value_name = "PORT", allow_hyphen_values = true, value_parser = ValueParser::new(value::port))]
    health_port: Option<Checked<u16>>,
    /// http: the method [default: GET]
    #[arg(long, help_heading = "Health", env = "LB_HEALTH_METHOD", value_name = "METHOD", value_parser = ValueParser::new(value::method))]
    health_method: Option<Checked<Method>>,
    /// Time between two probes
    #[arg(long, help_heading = "Health", env = "LB_HEALTH_INTERVAL", value_name = "DURATION", default_value = "500ms", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration))]
    health_interval: Checked<Duration>,
    /// How long a probe may take
    #[arg(long, help_heading = "Health", env = "LB_HEALTH_TIMEOUT", value_name = "DURATION", default_value = "500ms", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration))]
    health_timeout: Checked<Duration>,
    /// Failed probes in a row that take a replica out of rotation
    #[arg(long, help_heading = "Health", env = "LB_FALL", value_name = "N", default_value = "2", allow_hyphen_values = true, value_parser = ValueParser::new(value::probes))]
    fall: Checked<u32>,
    /// Passed probes in a row that put a replica into rotation
    #[arg(long, help_heading = "Health", env = "LB_RISE", value_name = "N", default_value = "1", allow_hyphen_values = true, value_parser = ValueParser::new(value::probes))]
    rise: Checked<u32>,
    /// An unhealthy replica that still runs is replaced after this long without a passed probe and without a byte from it, if it has no open sessions or is stopped
    #[arg(long, help_heading = "Health", env = "LB_REPLACE_AFTER", value_name = "DURATION", default_value = "3s", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration))]
    replace_after: Checked<Duration>,
    /// The same for a replica that has open sessions and is not stopped: it may be busy with them
    #[arg(long, help_heading = "Health", env = "LB_REPLACE_BUSY_AFTER", value_name = "DURATION", default_value = "60s", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration))]
    replace_busy_after: Checked<Duration>,
    /// Open connections of a replica that fails its probes: keep, or reset, so that clients connect again elsewhere
    #[arg(long, help_heading = "Health", env = "LB_ON_DOWN", value_name = "keep|reset", default_value = "keep", value_parser = ValueParser::new(value::on_down))]
    on_down: Checked<OnDown>,
}

/// Reads the flags.
pub(super) fn read(flags: &HealthFlags, foreword: Option<Version>, problems: &mut Problems) -> HealthPolicy {
    let mut duration = |flag, given: &Checked<Duration>| problems.take(flag, given.clone(), Duration::ZERO);
    let interval = duration("health-interval", &flags.health_interval);
    let timeout = duration("health-timeout", &flags.health_timeout);
    let replace_after = duration("replace-after", &flags.replace_after);
    let replace_busy_after = duration("replace-busy-after", &flags.replace_busy_after);
    HealthPolicy {
        probe: probe(flags, problems),
        foreword,
        interval,
        timeout,
        fall: problems.take("fall", flags.fall.clone(), 1),
        rise: problems.take("rise", flags.rise.clone(), 1),
        replace_after,
        replace_busy_after,
        on_down: problems.take("on-down", flags.on_down.clone(), OnDown::Keep),
    }
}

/// The probe with its details.
fn probe(flags: &HealthFlags, problems: &mut Problems) -> Probe {
    fn detail<T: Clone>(flag: &str, given: Option<&Checked<T>>, problems: &mut Problems) -> Option<T> {
        given.and_then(|given| problems.take(flag, given.clone().map(Some), None))
    }
    let is_known = flags.health.is_fine();
    let mut kind = problems.take("health", flags.health.clone(), ProbeKind::Tcp);
    let expect = detail("health-expect", flags.health_expect.as_ref(), problems);
    let host = detail("health-host", flags.health_host.as_ref(), problems);
    let port = detail("health-port", flags.health_port.as_ref(), problems);
    let method = detail("health-method", flags.health_method.as_ref(), problems);
    if !is_known {
        return Probe { kind, port };
    }
    let mut unfit = Unfit {
        expect: expect.is_some(),
        host: host.is_some(),
        port: port.is_some() && matches!(kind, ProbeKind::Exec(_)),
        method: method.is_some(),
    };
    match &mut kind {
        ProbeKind::Http(http) => {
            http.expect = expect.unwrap_or_default();
            http.host = host;
            http.method = method.unwrap_or(Method::GET);
            unfit = Unfit::default();
        }
        ProbeKind::Talk(Language::Tls(name)) => {
            if let Some(given) = host.as_ref().filter(|host| !is_server_name(host)) {
                problems.add(format!(
                    "--health-host: invalid value `{given}`: expected the name of a host without a port, for --health tls"
                ));
            }
            *name = host;
            unfit.host = false;
        }
        ProbeKind::Tcp | ProbeKind::Talk(_) | ProbeKind::Exec(_) => {}
    }
    unfit.tell(&kind, problems);
    Probe { kind, port }
}

/// Whether a TLS client may ask for it (RFC 6066, section 3).
fn is_server_name(host: &str) -> bool {
    is_host_name(host) && host.parse::<std::net::IpAddr>().is_err()
}

/// The details that were given and do not fit the probe.
#[derive(Default)]
struct Unfit {
    expect: bool,
    host: bool,
    port: bool,
    method: bool,
}

impl Unfit {
    fn tell(&self, kind: &ProbeKind, problems: &mut Problems) {
        let http = "--health http:/PATH";
        let all = [
            (self.expect, "health-expect", http),
            (self.host, "health-host", "--health http:/PATH or --health tls"),
            (self.port, "health-port", "every --health but exec:CMD"),
            (self.method, "health-method", http),
        ];
        for (_, flag, fits) in all.into_iter().filter(|(is_unfit, _, _)| *is_unfit) {
            problems.add(format!("--{flag}: it goes with {fits}, not with --health {}", name(kind)));
        }
    }
}

/// What `--health` calls a kind of probe.
fn name(kind: &ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Http(_) => "http",
        ProbeKind::Tcp => "tcp",
        ProbeKind::Exec(_) => "exec",
        ProbeKind::Talk(Language::Line(_)) => "line",
        ProbeKind::Talk(Language::Postgres) => "postgres",
        ProbeKind::Talk(Language::Redis) => "redis",
        ProbeKind::Talk(Language::Tls(_)) => "tls",
    }
}
