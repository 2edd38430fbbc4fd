//! Tells systemd how this process is (`Type=notify`, sd_notify(3)). Nothing waits for systemd: what it does not take is left out.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

use super::{is_for_us, variable};

/// The way to systemd; by default there is none, and nothing is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
    /// How often systemd wants a sign of life, at least.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The way that the environment names.
    pub(crate) fn from_environment() -> Self {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return Notifier::default();
        };
        match connect(path.as_bytes()) {
            Ok(socket) => Notifier { socket: Some(Arc::new(socket)), watchdog: watchdog() },
            Err(error) => {
                warn!(%error, "NOTIFY_SOCKET: systemd cannot be told how lb is");
                Notifier::default()
            }
        }
    }

    /// Whether there is a way.
    pub(crate) fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// How often systemd wants a sign of life, at least, if it does.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// `lb` serves; this is its state in words. It ends a reload.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The state of `lb` in words, a line.
    pub(crate) fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// `lb` reads its configuration again, until [`Notifier::ready`].
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// `lb` stops; why, in words.
    pub(crate) fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Another process is the main one of this service, such as the successor of this one, which speaks for it from then on.
    pub(crate) fn main_pid(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}\nREADY=1"));
    }

    /// `lb` is alive.
    pub(crate) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, lines: &str) {
        if let Some(socket) = &self.socket {
            // What is lost is told again: the status when it changes, the sign of life soon.
            let _ = socket.send(lines.as_bytes());
        }
    }
}

/// Connects to the socket at a path, or at the name after an `@`.
fn connect(path: &[u8]) -> io::Result<UnixDatagram> {
    let address = match path {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(path)))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// How often this process has to give a sign of life.
fn watchdog() -> Option<Duration> {
    if variable("WATCHDOG_PID").is_some_and(|id| !is_for_us(&id)) {
        return None;
    }
    let limit = variable("WATCHDOG_USEC")?.parse().ok().map(Duration::from_micros);
    limit.filter(|limit| !limit.is_zero())
}
