//! What containers are made of, as values of flags: names that go into requests to the engine, and limits. The engine decides whether
//! there is such an image or network.

use proto::control::Hostname;

use super::{Parsed, checked, size_within, within};
use crate::provider::engine::docker::Capabilities;

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
