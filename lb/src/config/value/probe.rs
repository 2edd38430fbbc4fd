//! The values of the flags about probes.

use std::ops::RangeInclusive;

use hyper::Method;
use hyper::http::uri::{Authority, PathAndQuery};
use proto::probe::Language;
use proto::probe::line::Exchange;

use super::{Checked, Parsed, checked};
use crate::control::{Http, ProbeKind, Statuses};

/// All kinds.
const KINDS: &str = "http:/PATH, tcp, tls, redis, postgres, line:SEND=EXPECT or exec:CMD";

pub(in crate::config) fn probe(given: &str) -> Parsed<ProbeKind> {
    if let Some(exchange) = given.strip_prefix("line:") {
        let exchange = exchange.parse::<Exchange>().map(|exchange| ProbeKind::Talk(Language::Line(exchange)));
        return Ok(Checked(
            exchange.map_err(|expected| format!("invalid value `{given}`: expected line:{expected}")),
        ));
    }
    let is_command = |command: &&str| !command.trim().is_empty() && !command.contains('\0');
    if let Some(command) = given.strip_prefix("exec:").filter(is_command) {
        return checked(Some(ProbeKind::Exec(command.to_owned())), given, KINDS);
    }
    let is_path = |path: &&str| path.starts_with('/') && path.parse::<PathAndQuery>().is_ok();
    let value = match given {
        "tcp" => Some(ProbeKind::Tcp),
        "tls" => Some(ProbeKind::Talk(Language::Tls(None))),
        "redis" => Some(ProbeKind::Talk(Language::Redis)),
        "postgres" => Some(ProbeKind::Talk(Language::Postgres)),
        _ => given
            .strip_prefix("http:")
            .filter(is_path)
            .map(|path| ProbeKind::Http(Http::get(path.to_owned()))),
    };
    checked(value, given, KINDS)
}

/// Statuses and ranges of them, with commas or spaces between them.
pub(in crate::config) fn statuses(given: &str) -> Parsed<Statuses> {
    let parts = given.split(|letter: char| letter == ',' || letter.is_ascii_whitespace());
    let ranges: Option<Vec<_>> = parts.filter(|part| !part.is_empty()).map(range).collect();
    let value = ranges.filter(|ranges| !ranges.is_empty()).map(Statuses);
    checked(
        value,
        given,
        "statuses from 100 to 999, or ranges of them, with commas between them, such as 200-399 or 200,204",
    )
}

/// `N` or `N-M`.
fn range(given: &str) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| {
        let is_plain = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|status| is_plain && *status >= 100)
    };
    let (first, last) = given.split_once('-').unwrap_or((given, given));
    let range = status(first)?..=status(last)?;
    (!range.is_empty()).then_some(range)
}

/// A host, with or without a port.
pub(in crate::config) fn probed_host(given: &str) -> Parsed<String> {
    let is_host = given.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'));
    checked(is_host.then(|| given.to_owned()), given, "a host, with or without a port, such as app.example")
}

pub(in crate::config) fn method(given: &str) -> Parsed<Method> {
    let is_plain = given.bytes().all(|byte| byte.is_ascii_uppercase());
    // After CONNECT, no HTTP would follow.
    let value = given.parse().ok().filter(|method| is_plain && *method != Method::CONNECT);
    checked(value, given, "a method of HTTP but CONNECT in capitals, such as GET, HEAD or OPTIONS")
}
