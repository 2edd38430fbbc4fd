//! What `lb` tells systemd ([`Notifier`]), and the variables of systemd: those of sd_listen_fds(3) and sd_notify(3). They are no settings, so
//! they are read here. No replica gets them.

mod notify;

pub(crate) use notify::Notifier;

/// The variables that systemd gives to the process that it starts, and to no other.
pub(crate) const VARIABLES: [&str; 6] =
    ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// Those that are for one process, and not for its successor.
pub(crate) const OF_ONE_PROCESS: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"];

/// Whether systemd is told how this process is.
pub(crate) fn is_told() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty())
}

/// A variable that is set to a text.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok().filter(|text| !text.is_empty())
}

/// Whether a variable names this process, and not one from which the environment was inherited.
pub(crate) fn is_for_us(variable: &str) -> bool {
    variable.parse() == Ok(std::process::id())
}
