//! The values of flags: how they are read, and the messages for those that cannot be.

mod address;
mod container;
mod dns;
mod probe;

use std::convert::Infallible;
use std::fmt::{self, Display};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use mapping::{BalanceFactor, MOST_SLOTS};
use proto::control::Transport;
use proto::key::{Expected, KeyKind};
use proto::proxy::Version;
use tracing_subscriber::filter::Targets;

pub(super) use address::{BackendPart, address, backends, control, listen, networks, where_to_ask};
pub(super) use container::{
    Given, capabilities, constraint, cpus, fleet, image, memory, network, pids, port, secret, variables,
    volume,
};
pub(super) use dns::{dns_interval, dns_servers, service};
pub(super) use probe::{method, probe, probed_host, statuses};

use crate::access::Destination;
use crate::access::format::Format;
use crate::control::OnDown;
use crate::data::Rate;
use crate::log::LogFormat;

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
    Swarm,
    Fixed,
    Dns,
}

impl Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProviderName::Process => "process",
            ProviderName::Docker => "docker",
            ProviderName::Swarm => "swarm",
            ProviderName::Fixed => "fixed",
            ProviderName::Dns => "dns",
        })
    }
}

/// `--respawn-name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RespawnName {
    Random,
    Same,
}

/// The values of a repeatable flag that stand in one text.
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

/// Reads each of several values with commas or spaces between them.
fn several<T>(given: &str, read: impl Fn(&str) -> Parsed<T>) -> Result<Several<T>, Infallible> {
    several_between(|letter| letter == ',' || letter.is_ascii_whitespace(), given, read)
}

/// Reads each of several values. (No value at all is one that is empty.)
fn several_between<T>(
    is_between: impl Fn(char) -> bool,
    given: &str,
    read: impl Fn(&str) -> Parsed<T>,
) -> Result<Several<T>, Infallible> {
    let read = |part| {
        let Ok(value) = read(part);
        value
    };
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

/// The longest duration of a flag: a longer one may overflow when it is added to a point in time.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// The shortest duration of a flag that is not off.
const MILLISECOND: Duration = Duration::from_millis(1);

pub(super) fn duration(given: &str) -> Parsed<Duration> {
    let value = duration_within(given, MILLISECOND..=YEAR);
    checked(value, given, "a duration of at least 1ms, such as 250ms, 5s or 1m")
}

pub(super) fn duration_or_none(given: &str) -> Parsed<Duration> {
    let value = duration_within(given, Duration::ZERO..=YEAR).or((given == "0").then_some(Duration::ZERO));
    checked(value, given, "a duration, such as 0s, 250ms, 5s or 1m")
}

/// A duration, or `off`.
pub(super) fn duration_or_off(given: &str) -> Parsed<Option<Duration>> {
    let value = or_off(given, |given| duration_within(given, MILLISECOND..=YEAR));
    checked(value, given, "off, or a duration of at least 1ms, such as 250ms, 5s or 1m")
}

/// What a peer may take to be noticed as gone: the kernel counts in seconds, and knows no more of them (tcp(7)).
pub(super) fn keepalive(given: &str) -> Parsed<Duration> {
    let value = duration_within(given, Duration::from_secs(5)..=Duration::from_secs(18 * 3600));
    checked(value, given, "a duration from 5s to 18h, such as 2m")
}

fn duration_within(given: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
    humantime::parse_duration(given).ok().filter(|value| range.contains(value))
}

/// The size of a socket's buffer, or `off`. A first line of usual length has to fit.
pub(super) fn socket_buffer(given: &str) -> Parsed<Option<usize>> {
    let value = or_off(given, |given| size_within(given, 4096..=1 << 30));
    checked(value, given, "off, or a size from 4KiB to 1GiB, such as 64KiB")
}

/// The size of a first line. A whole one has to fit into the send buffer of a new connection.
pub(super) fn first_line_size(given: &str) -> Parsed<usize> {
    checked(size_within(given, 16..=65536), given, "a size from 16B to 64KiB, such as 8KiB")
}

pub(super) fn pipe_size(given: &str) -> Parsed<usize> {
    checked(size_within(given, 4096..=1_048_576), given, "a size from 4KiB to 1MiB")
}

pub(super) fn journal_size(given: &str) -> Parsed<u64> {
    checked(size_within(given, 4096..=1 << 40), given, "a size from 4KiB to 1TiB, such as 16MiB")
}

/// A size in bytes.
fn size_within<T: TryFrom<u64> + PartialOrd>(given: &str, range: RangeInclusive<T>) -> Option<T> {
    let size: bytesize::ByteSize = given.parse().ok()?;
    T::try_from(size.as_u64()).ok().filter(|size| range.contains(size))
}

/// A value that may be `off`. `None`: it is neither.
fn or_off<T>(given: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if given == "off" { Some(None) } else { read(given).map(Some) }
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

/// The file of a drawing.
pub(super) fn picture(given: &str) -> Parsed<PathBuf> {
    let value =
        Some(PathBuf::from(given)).filter(|file| file.extension().is_some_and(|ending| ending == "svg"));
    checked(value, given, "the name of a file that ends with .svg")
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
    let value = or_off(given, |given| connections(given).ok()?.0.ok());
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
    let rate = |given: &str| {
        let (rate, burst) = given.split_once(',').map_or((given, None), |(rate, burst)| (rate, Some(burst)));
        let per_second = number(rate.strip_suffix("/s")?)?;
        let burst = match burst {
            Some(burst) => number(burst.strip_prefix("burst=")?)?,
            None => per_second,
        };
        Some(Rate { per_second, burst })
    };
    let value = or_off(given, rate);
    let takes = format_args!(
        "off, N/s or N/s,burst=M, such as 100/s,burst=500, with whole numbers from 1 to {MOST_A_SECOND}"
    );
    checked(value, given, takes)
}

pub(super) fn parameter(given: &str) -> Parsed<String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?&=#".contains(&byte);
    let value = (!given.is_empty() && given.bytes().all(is_plain)).then(|| given.to_owned());
    checked(value, given, "the name of a query parameter: printable ASCII without ? & = #")
}

pub(super) fn key(given: &str) -> Parsed<KeyKind> {
    given.parse().map_or_else(
        |expected: Expected| checked(None, given, expected),
        |kind| checked(Some(kind), given, ""),
    )
}

/// A value of a type that reads itself.
pub(super) fn parsed<T: FromStr<Err: Display>>(given: &str) -> Parsed<T> {
    Ok(Checked(given.parse().map_err(|error: T::Err| error.to_string())))
}

pub(super) fn provider(given: &str) -> Parsed<ProviderName> {
    use ProviderName::{Dns, Docker, Fixed, Process, Swarm};
    let names = [("process", Process), ("docker", Docker), ("swarm", Swarm), ("fixed", Fixed), ("dns", Dns)];
    one_of(given, &names)
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

/// The version of a PROXY header.
pub(super) fn proxy_version(given: &str) -> Parsed<Version> {
    one_of(given, &[("v1", Version::V1), ("v2", Version::V2)])
}

pub(super) fn log_format(given: &str) -> Parsed<LogFormat> {
    one_of(given, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
}

/// Where the log of connections goes.
pub(super) fn destination(given: &str) -> Parsed<Destination> {
    let value = match given {
        "" => None,
        "-" => Some(Destination::Stdout),
        path => Some(Destination::File(path.into())),
    };
    checked(value, given, "the name of a file, or - for stdout")
}

/// The form of a line of the log of connections.
pub(super) fn access_format(given: &str) -> Parsed<Format> {
    given
        .parse()
        .map_or_else(|expected| checked(None, given, expected), |format| checked(Some(format), given, ""))
}

/// One in so many.
pub(super) fn sample(given: &str) -> Parsed<u32> {
    let value = given.strip_prefix("1/").and_then(|many| many.parse().ok());
    let value = value.filter(|many| (1..=1_000_000_000).contains(many));
    checked(value, given, "1/N with a whole number N from 1 to 1000000000")
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

/// `off`, or a factor.
pub(super) fn balance_factor(given: &str) -> Parsed<Option<BalanceFactor>> {
    Ok(Checked(BalanceFactor::parse_or_off(given).map_err(|error| error.to_string())))
}
