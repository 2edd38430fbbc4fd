//! What containers are made of, as values of flags: names that go into requests to the engine, and limits. The engine decides whether
//! there is such an image or network.

use std::convert::Infallible;

use proto::control::Hostname;

use super::{Checked, Parsed, Several, checked, several_between, size_within, within};
use crate::provider::engine::dress::{Capabilities, RESERVED, Variable};

/// The least memory of a container; the engine refuses less.
const LEAST_MEMORY: i64 = 6 << 20;

pub(in crate::config) fn memory(given: &str) -> Parsed<i64> {
    checked(size_within(given, LEAST_MEMORY..=i64::MAX), given, "a size from 6MiB, such as 128MiB")
}

/// A number, or -1 for no limit, as the engine has it.
pub(in crate::config) fn pids(given: &str) -> Parsed<i64> {
    let number = given.parse().ok().filter(|number| (1..=1_000_000).contains(number));
    let value = number.or((given == "unlimited").then_some(-1));
    checked(value, given, "a whole number from 1 to 1000000, or unlimited")
}

/// The processor time of a container, in billionths of a core.
pub(in crate::config) fn cpus(given: &str) -> Parsed<i64> {
    let (whole, decimals) = given.split_once('.').unwrap_or((given, "0"));
    let is_number = [whole, decimals]
        .iter()
        .all(|part| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()));
    let thousandths = || format!("{whole}{decimals:0<3}").parse::<i64>().ok();
    let value = is_number.then(thousandths).flatten().filter(|&thousandths| thousandths >= 10);
    let value = value.map(|thousandths| thousandths * 1_000_000);
    checked(value, given, "a number of cores from 0.01 with at most three decimals, such as 1.5")
}

/// Where Swarm may place a replica, as `docker service create --constraint` takes it.
pub(in crate::config) fn constraint(given: &str) -> Parsed<String> {
    let is_key = |key: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        key.len() > 1 && key.bytes().all(is_part) && !key.starts_with(|first: char| first.is_ascii_digit())
    };
    // What Swarm takes as a value.
    let is_value = |value: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b":-_ .*()?+[]\\^$|/".contains(&byte);
        !value.is_empty() && value.bytes().all(is_part)
    };
    let parts = given.split_once("==").or_else(|| given.split_once("!="));
    let value = parts.filter(|(key, value)| is_key(key.trim()) && is_value(value.trim()));
    let takes = "KEY==VALUE or KEY!=VALUE, such as node.role==worker or node.labels.disk==ssd";
    checked(value.map(|_| given.to_owned()), given, takes)
}

/// A variable for replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum Given {
    /// With its value.
    Whole(Variable),
    /// The one of this name in the environment of `lb`.
    Name(String),
}

/// Variables, one on each line.
pub(in crate::config) fn variables(given: &str) -> Result<Several<Given>, Infallible> {
    several_between(|letter| letter == '\n', given.trim_end_matches('\n'), variable)
}

/// `NAME=VALUE` or `NAME`. A message shows neither the value nor a wrong name: either may be a secret, or a line of one.
fn variable(given: &str) -> Parsed<Given> {
    let (name, value) = given.split_once('=').map_or((given, None), |(name, value)| (name, Some(value)));
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = name.starts_with(|first: char| first == '_' || first.is_ascii_alphabetic());
    let is_name = begins && name.len() <= LONGEST_NAME && name.bytes().all(is_part);
    let name = name.to_owned();
    Ok(Checked(match value.map(str::to_owned) {
        _ if RESERVED.contains(&name.as_str()) => Err(format!(
            "invalid name `{name}`: lb itself gives this variable to each replica; expected another name"
        )),
        _ if !is_name => Err(format!(
            "invalid name: expected NAME=VALUE or NAME, on one line, with a name of at most {LONGEST_NAME} letters, digits, _, . and -, not a digit first"
        )),
        Some(value) => Ok(Given::Whole(Variable { name, value })),
        None => Ok(Given::Name(name)),
    }))
}

/// The longest name of a variable.
const LONGEST_NAME: usize = 255;

/// The name of a secret as Swarm takes it.
pub(in crate::config) fn secret(given: &str) -> Parsed<String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_end = |letter: char| letter.is_ascii_alphanumeric();
    let is_name = (1..=64).contains(&given.len()) && given.bytes().all(is_part);
    let value = (is_name && given.starts_with(is_end) && given.ends_with(is_end)).then(|| given.to_owned());
    let takes =
        "the name of a secret: at most 64 letters, digits, -, _ and ., with a letter or digit at both ends";
    checked(value, given, takes)
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
pub(in crate::config) fn capabilities(given: &str) -> Parsed<Capabilities> {
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

pub(in crate::config) fn port(given: &str) -> Parsed<u16> {
    within(given, (1, u16::MAX))
}

/// The name of an image, with or without registry, tag and digest. The engine decides what it means; here it must not change
/// the path of a request that contains it.
pub(in crate::config) fn image(given: &str) -> Parsed<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    let is_sound = |part: &str| part.starts_with(|first: char| first.is_ascii_alphanumeric());
    let value = (given.len() <= 255 && given.bytes().all(is_plain) && given.split('/').all(is_sound))
        .then(|| given.to_owned());
    checked(value, given, "the name of an image, such as lb-backend or nginx:1.27")
}

pub(in crate::config) fn network(given: &str) -> Parsed<String> {
    let has_addresses = |name: &Hostname| !["host", "none"].contains(&name.as_str());
    let value = Hostname::try_from(given.to_owned()).ok().filter(has_addresses);
    let takes = format_args!(
        "the name of a network in which containers have addresses of their own (not host, not none), of the form {}",
        Hostname::PATTERN
    );
    checked(value.map(|name| name.to_string()), given, takes)
}

pub(in crate::config) fn volume(given: &str) -> Parsed<String> {
    let value = Hostname::try_from(given.to_owned()).ok();
    let takes = format_args!("the name of a volume, of the form {}", Hostname::PATTERN);
    checked(value.map(|name| name.to_string()), given, takes)
}

pub(in crate::config) fn fleet(given: &str) -> Parsed<Hostname> {
    checked(
        Hostname::try_from(given.to_owned()).ok(),
        given,
        format_args!("a name of the form {}", Hostname::PATTERN),
    )
}
