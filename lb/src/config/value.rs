//! The values of flags: how they are read, and the messages for those that cannot be.

use std::convert::Infallible;
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use mapping::{BalanceFactor, MOST_SLOTS};
use proto::control::{Hostname, Transport, Weight};

use tracing_subscriber::filter::Targets;

use crate::client;
use crate::control::port::Address as ControlAddress;
use crate::control::{OnDown, Probe};
use crate::data::{KeyKind, Rate};
use crate::log::LogFormat;
use crate::provider::engine::docker::Capabilities;

/// The value of a flag, or a message. (The argument parser would stop at the first error; `lb` reports all of them.)
#[derive(Clone, Debug)]
pub struct Checked<T>(pub(crate) Result<T, String>);

impl<T> Checked<T> {
    pub(super) fn is_fine(&self) -> bool {
        self.0.is_ok()
    }

    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Checked<U> {
        Checked(self.0.map(change))
    }
}

/// `--provider`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProviderName {
    Process,
    Docker,
    Fixed,
}

impl Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProviderName::Process => "process",
            ProviderName::Docker => "docker",
            ProviderName::Fixed => "fixed",
        })
    }
}

/// A part of `--backend`; parts are separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BackendPart {
    /// `NAME=HOST:PORT`.
    Backend(Hostname, String),
    /// `weight=W`, of the backend before it.
    Weight(Weight),
}

/// `--respawn-name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RespawnName {
    Random,
    Same,
}

/// The values of a repeatable flag that stand in one text, with commas or spaces between them.
#[derive(Clone, Debug)]
pub(super) struct Several<T>(pub(super) Vec<Checked<T>>);

/// The first word after `add` and `rm`: how many, or a hostname.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NumberOrName {
    /// How many.
    Number(u32),
    /// The first hostname; the number is that of all hostnames.
    Name(String),
}

/// The result of a value parser. It never fails: a message goes into the [`Checked`] value.
pub(crate) type Parsed<T> = Result<Checked<T>, Infallible>;

pub(super) fn checked<T>(value: Option<T>, given: &str, expected: impl Display) -> Parsed<T> {
    Ok(Checked(value.ok_or_else(|| format!("invalid value `{given}`: expected {expected}"))))
}

/// Reads each of several values. (No value at all is one that is empty.)
fn several<T>(given: &str, read: impl Fn(&str) -> Parsed<T>) -> Result<Several<T>, Infallible> {
    let read = |part| {
        let Ok(value) = read(part);
        value
    };
    let is_between = |letter: char| letter == ',' || letter.is_ascii_whitespace();
    let values: Vec<_> = given.split(is_between).filter(|part| !part.is_empty()).map(read).collect();
    Ok(Several(if values.is_empty() { vec![read("")] } else { values }))
}

/// A flag without a value; its variable has one.
pub(super) fn boolean(given: &str) -> Parsed<bool> {
    let value = match given.to_ascii_lowercase().as_str() {
        "y" | "yes" | "t" | "true" | "on" | "1" => Some(true),
        "n" | "no" | "f" | "false" | "off" | "0" => Some(false),
        _ => None,
    };
    checked(value, given, "true or false")
}

pub(super) fn address(given: &str) -> Parsed<SocketAddr> {
    let value = given.to_socket_addrs().ok().and_then(|mut found| found.next());
    checked(value, given, "an address and a port, such as 127.0.0.1:5000")
}

/// The longest path of a Unix socket, in bytes (unix(7), `sun_path`, without its last NUL).
const LONGEST_PATH: usize = 107;

/// A TCP address, or `unix:PATH`.
pub(super) fn control(given: &str) -> Parsed<ControlAddress> {
    let value = match given.strip_prefix("unix:") {
        Some(path) => is_socket_path(path).then(|| ControlAddress::Unix(path.into())),
        None => given.to_socket_addrs().ok().and_then(|mut found| found.next()).map(ControlAddress::Tcp),
    };
    let takes = format_args!(
        "an address and a port, such as 127.0.0.1:5000, or unix:PATH with a path of at most {LONGEST_PATH} bytes"
    );
    checked(value, given, takes)
}

fn is_socket_path(path: &str) -> bool {
    (1..=LONGEST_PATH).contains(&path.len()) && !path.contains('\0')
}

pub(super) fn duration(given: &str) -> Parsed<Duration> {
    let value = humantime::parse_duration(given).ok().filter(|value| *value >= Duration::from_millis(1));
    checked(value.filter(is_reasonable), given, "a duration of at least 1ms, such as 250ms, 5s or 1m")
}

pub(super) fn duration_or_none(given: &str) -> Parsed<Duration> {
    let value = humantime::parse_duration(given).ok().or((given == "0").then_some(Duration::ZERO));
    checked(value.filter(is_reasonable), given, "a duration, such as 0s, 250ms, 5s or 1m")
}

/// A duration, or `off`.
pub(super) fn duration_or_off(given: &str) -> Parsed<Option<Duration>> {
    if given == "off" {
        return checked(Some(None), given, "");
    }
    let value = humantime::parse_duration(given).ok().filter(|value| *value >= Duration::from_millis(1));
    let value = value.filter(is_reasonable).map(Some);
    checked(value, given, "off, or a duration of at least 1ms, such as 250ms, 5s or 1m")
}

/// What a peer may take to be noticed as gone: the kernel counts in seconds, and knows no more of them (tcp(7)).
pub(super) fn keepalive(given: &str) -> Parsed<Duration> {
    let range = Duration::from_secs(5)..=Duration::from_secs(18 * 3600);
    let value = humantime::parse_duration(given).ok().filter(|value| range.contains(value));
    checked(value, given, "a duration from 5s to 18h, such as 2m")
}

/// The size of a socket's buffer, or `off`. A first line of usual length has to fit.
pub(super) fn socket_buffer(given: &str) -> Parsed<Option<usize>> {
    if given == "off" {
        return checked(Some(None), given, "");
    }
    let size: Option<bytesize::ByteSize> = given.parse().ok();
    let value = size
        .and_then(|size| usize::try_from(size.as_u64()).ok())
        .filter(|size| (4096..=1 << 30).contains(size))
        .map(Some);
    checked(value, given, "off, or a size from 4KiB to 1GiB, such as 64KiB")
}

/// At most a year: a longer duration may overflow when it is added to a point in time.
fn is_reasonable(value: &Duration) -> bool {
    *value <= Duration::from_secs(365 * 24 * 3600)
}

/// The size of a first line. A whole one has to fit into the send buffer of a new connection.
pub(super) fn first_line_size(given: &str) -> Parsed<usize> {
    let size: Option<bytesize::ByteSize> = given.parse().ok();
    let value =
        size.and_then(|size| usize::try_from(size.as_u64()).ok()).filter(|size| (16..=65536).contains(size));
    checked(value, given, "a size from 16B to 64KiB, such as 8KiB")
}

pub(super) fn pipe_size(given: &str) -> Parsed<usize> {
    let size: Option<bytesize::ByteSize> = given.parse().ok();
    let value = size
        .and_then(|size| usize::try_from(size.as_u64()).ok())
        .filter(|size| (4096..=1_048_576).contains(size));
    checked(value, given, "a size from 4KiB to 1MiB")
}

pub(super) fn within<T: FromStr + PartialOrd + Display>(given: &str, (least, most): (T, T)) -> Parsed<T> {
    let value = given.parse().ok().filter(|value| *value >= least && *value <= most);
    checked(value, given, format_args!("a whole number from {least} to {most}"))
}

pub(super) fn replicas(given: &str) -> Parsed<usize> {
    within(given, (0, MOST_SLOTS))
}

pub(super) fn small(given: &str) -> Parsed<usize> {
    within(given, (1, 256))
}

pub(super) fn spares(given: &str) -> Parsed<usize> {
    within(given, (0, 100))
}

pub(super) fn probes(given: &str) -> Parsed<u32> {
    within(given, (1, 1000))
}

/// The most connections that a limit can be set to: far more than a machine can have.
const MOST_CONNECTIONS: usize = 1_000_000_000;

pub(super) fn connections(given: &str) -> Parsed<usize> {
    within(given, (1, MOST_CONNECTIONS))
}

pub(super) fn connections_or_off(given: &str) -> Parsed<Option<usize>> {
    let value = if given == "off" {
        Some(None)
    } else {
        connections(given).ok().and_then(|read| read.0.ok()).map(Some)
    };
    checked(value, given, format_args!("off, or a whole number from 1 to {MOST_CONNECTIONS}"))
}

/// The greatest rate and burst: above it, the time between two connections would be too short to measure.
const MOST_A_SECOND: u32 = 1_000_000;

/// `off`, `N/s` or `N/s,burst=M`. Without a burst, it is what a second allows.
pub(super) fn rate(given: &str) -> Parsed<Option<Rate>> {
    let number = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<NonZeroU32>().ok();
        number.filter(|number| is_plain && number.get() <= MOST_A_SECOND)
    };
    let rate = || {
        let (rate, burst) = given.split_once(',').map_or((given, None), |(rate, burst)| (rate, Some(burst)));
        let per_second = number(rate.strip_suffix("/s")?)?;
        let burst = match burst {
            Some(burst) => number(burst.strip_prefix("burst=")?)?,
            None => per_second,
        };
        Some(Rate { per_second, burst })
    };
    let value = if given == "off" { Some(None) } else { rate().map(Some) };
    let takes = format_args!(
        "off, N/s or N/s,burst=M, such as 100/s,burst=500, with whole numbers from 1 to {MOST_A_SECOND}"
    );
    checked(value, given, takes)
}

pub(super) fn networks(given: &str) -> Result<Several<IpNet>, Infallible> {
    several(given, |given| {
        let address = || given.parse::<IpAddr>().ok().map(IpNet::from);
        checked(
            given.parse().ok().or_else(address),
            given,
            "a network or an address, such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7",
        )
    })
}

/// The least memory of a container; the engine refuses less.
const LEAST_MEMORY: u64 = 6 << 20;

pub(super) fn memory(given: &str) -> Parsed<i64> {
    let size: Option<bytesize::ByteSize> = given.parse().ok();
    let size = size.filter(|size| size.as_u64() >= LEAST_MEMORY);
    checked(
        size.and_then(|size| i64::try_from(size.as_u64()).ok()),
        given,
        "a size from 6MiB, such as 128MiB",
    )
}

/// A number, or -1 for no limit, as the engine has it.
pub(super) fn pids(given: &str) -> Parsed<i64> {
    let number = given.parse().ok().filter(|number| (1..=1_000_000).contains(number));
    let value = number.or((given == "unlimited").then_some(-1));
    checked(value, given, "a whole number from 1 to 1000000, or unlimited")
}

/// The capabilities of Linux (capabilities(7)), without `CAP_`.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// `default`, `none`, or names of capabilities with commas between them.
pub(super) fn capabilities(given: &str) -> Parsed<Capabilities> {
    let named = |name: &str| {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        CAPABILITIES.contains(&name).then(|| name.to_owned())
    };
    let value = match given {
        "default" => Some(Capabilities::Usual),
        "none" => Some(Capabilities::Only(Vec::new())),
        _ => given.split(',').map(named).collect::<Option<_>>().map(Capabilities::Only),
    };
    checked(
        value,
        given,
        "default, none, or capabilities with commas between them, such as CHOWN,NET_BIND_SERVICE",
    )
}

pub(super) fn port(given: &str) -> Parsed<u16> {
    within(given, (1, u16::MAX))
}

/// The name of an image, with or without registry, tag and digest. The engine decides what it means; here it must not change
/// the path of a request that contains it.
pub(super) fn image(given: &str) -> Parsed<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    let is_sound = |part: &str| part.starts_with(|first: char| first.is_ascii_alphanumeric());
    let value = (given.len() <= 255 && given.bytes().all(is_plain) && given.split('/').all(is_sound))
        .then(|| given.to_owned());
    checked(value, given, "the name of an image, such as lb-backend or nginx:1.27")
}

pub(super) fn network(given: &str) -> Parsed<String> {
    let has_addresses = |name: &Hostname| !["host", "none"].contains(&name.as_str());
    let value = Hostname::try_from(given.to_owned()).ok().filter(has_addresses);
    let takes = format_args!(
        "the name of a network in which containers have addresses of their own (not host, not none), of the form {}",
        Hostname::PATTERN
    );
    checked(value.map(|name| name.to_string()), given, takes)
}

pub(super) fn volume(given: &str) -> Parsed<String> {
    let value = Hostname::try_from(given.to_owned()).ok();
    let takes = format_args!("the name of a volume, of the form {}", Hostname::PATTERN);
    checked(value.map(|name| name.to_string()), given, takes)
}

pub(super) fn fleet(given: &str) -> Parsed<Hostname> {
    checked(
        Hostname::try_from(given.to_owned()).ok(),
        given,
        format_args!("a name of the form {}", Hostname::PATTERN),
    )
}

pub(super) fn parameter(given: &str) -> Parsed<String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?&=#".contains(&byte);
    let value = (!given.is_empty() && given.bytes().all(is_plain)).then(|| given.to_owned());
    checked(value, given, "the name of a query parameter: printable ASCII without ? & = #")
}

pub(super) fn key(given: &str) -> Parsed<KeyKind> {
    one_of(given, &[("id", KeyKind::Id), ("source", KeyKind::Source)])
}

/// A value of a type that reads itself.
pub(super) fn parsed<T: FromStr<Err: Display>>(given: &str) -> Parsed<T> {
    Ok(Checked(given.parse().map_err(|error: T::Err| error.to_string())))
}

pub(super) fn provider(given: &str) -> Parsed<ProviderName> {
    use ProviderName::{Docker, Fixed, Process};
    one_of(given, &[("process", Process), ("docker", Docker), ("fixed", Fixed)])
}

pub(super) fn respawn_name(given: &str) -> Parsed<RespawnName> {
    one_of(given, &[("random", RespawnName::Random), ("same", RespawnName::Same)])
}

pub(super) fn on_down(given: &str) -> Parsed<OnDown> {
    one_of(given, &[("keep", OnDown::Keep), ("reset", OnDown::Reset)])
}

pub(super) fn splice(given: &str) -> Parsed<bool> {
    one_of(given, &[("auto", true), ("never", false)])
}

pub(super) fn transport(given: &str) -> Parsed<Transport> {
    one_of(given, &[("proxy", Transport::Proxy), ("handoff", Transport::Handoff)])
}

pub(super) fn log_format(given: &str) -> Parsed<LogFormat> {
    one_of(given, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
}

pub(super) fn log_filter(given: &str) -> Parsed<Targets> {
    let value = Some(given).filter(|given| !given.trim().is_empty()).and_then(|given| given.parse().ok());
    checked(
        value,
        given,
        "a level (error, warn, info, debug, trace, off), or TARGET=LEVEL pairs such as lb=debug",
    )
}

fn one_of<T: Clone>(given: &str, choices: &[(&str, T)]) -> Parsed<T> {
    let value = choices.iter().find(|(name, _)| *name == given).map(|(_, value)| value.clone());
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let takes = match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    };
    checked(value, given, takes)
}

pub(super) fn probe(given: &str) -> Parsed<Probe> {
    let is_path =
        |path: &&str| path.starts_with('/') && path.parse::<hyper::http::uri::PathAndQuery>().is_ok();
    let value = match given {
        "tcp" => Some(Probe::Tcp),
        _ => given.strip_prefix("http:").filter(is_path).map(|path| Probe::Http(path.to_owned())),
    };
    checked(value, given, "http:/PATH or tcp")
}

/// `HOSTNAME=W`; the running `lb` checks the name and the weight.
pub(super) fn named_weight(given: &str) -> Result<(String, u64), &'static str> {
    let named =
        given.split_once('=').and_then(|(name, weight)| Some((name.to_owned(), weight.parse().ok()?)));
    named.ok_or("expected HOSTNAME=W with a whole number W from 0 to 100")
}

/// A word without a letter is a number: hostnames like `1.5` have to follow one.
pub(super) fn number_or_name(given: &str) -> Result<NumberOrName, &'static str> {
    if given.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return Ok(NumberOrName::Name(given.to_owned()));
    }
    let number = given.parse().map(NumberOrName::Number);
    number.map_err(|_| "expected how many, a whole number, or the first of the hostnames")
}

/// Where a client finds a running `lb`. Of several, as in the variable of that `lb`, it is the first.
pub(super) fn where_to_ask(given: &str) -> Result<client::Address, String> {
    let first = given.split(',').next().unwrap_or_default();
    let address = match first.strip_prefix("unix:") {
        Some(path) => is_socket_path(path).then(|| client::Address::Unix(path.into())),
        None => Some(first).filter(is_host_and_port).map(|address| client::Address::Tcp(address.to_owned())),
    };
    address.ok_or_else(|| {
        format!("expected HOST:PORT, such as 127.0.0.1:5001, or unix:PATH with a path of at most {LONGEST_PATH} bytes")
    })
}

/// Whether it is `HOST:PORT`: a name, an IPv4 address, or an IPv6 address in brackets, and a port that is not 0.
fn is_host_and_port(address: &&str) -> bool {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return address.port() > 0;
    }
    address.rsplit_once(':').is_some_and(|(host, port)| {
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        is_number && port.parse().is_ok_and(|port: u16| port > 0) && is_name(host)
    })
}

/// Whether it is the name of a host: RFC 1123, section 2.1, and `_`, which names of containers hold. A name whose last part is a
/// number would be a damaged IPv4 address.
fn is_name(host: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_part = |part: &str| (1..=63).contains(&part.len()) && part.bytes().all(is_sound);
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(is_part) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn backends(given: &str) -> Result<Several<BackendPart>, Infallible> {
    several(given, backend)
}

/// `NAME=HOST:PORT`, or the `weight=W` that may follow it.
fn backend(given: &str) -> Parsed<BackendPart> {
    if let Some(weight) = given.strip_prefix("weight=").filter(|weight| !weight.contains(':')) {
        let value = weight.parse::<u64>().ok().and_then(|weight| Weight::try_from(weight).ok());
        return checked(value.map(BackendPart::Weight), given, format_args!("as weight {}", Weight::ALLOWED));
    }
    let value = given.split_once('=').and_then(|(name, address)| {
        let name = Hostname::try_from(name.to_owned()).ok()?;
        Some(address).filter(is_host_and_port).map(|address| BackendPart::Backend(name, address.to_owned()))
    });
    let takes = format_args!(
        "NAME=HOST:PORT, or NAME=HOST:PORT,weight=W, with a NAME of the form {}, and as HOST a name, an IPv4 address, or an \
         IPv6 address in brackets; several have commas or spaces between them",
        Hostname::PATTERN
    );
    checked(value, given, takes)
}

/// `off`, or a factor.
pub(super) fn balance_factor(given: &str) -> Parsed<Option<BalanceFactor>> {
    Ok(Checked(BalanceFactor::parse_or_off(given).map_err(|error| error.to_string())))
}
