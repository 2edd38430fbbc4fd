//! The listening sockets that systemd has bound (socket activation, sd_listen_fds(3)), told apart by their names.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, ensure};
use listenfd::ListenFd;
use socket2::{Domain, Type};

use super::{Handed, PortName};
use crate::systemd::{is_for_us, variable};

/// The most sockets that are taken.
const MOST: usize = 256;

/// Takes the sockets that were handed to this process. Sockets without names are for the data port. Call it once.
///
/// # Errors
/// One of them is not what `lb` can listen at, or its name is not that of a port.
pub fn take() -> anyhow::Result<Handed> {
    let Some(count) = variable("LISTEN_FDS") else { return Ok(Handed::default()) };
    // Without it, they may be those of a process above this one.
    if !variable("LISTEN_PID").is_some_and(|id| is_for_us(&id)) {
        return Ok(Handed::default());
    }
    let count = count.parse().ok().filter(|&count| count <= MOST);
    let count: usize = count.with_context(|| format!("LISTEN_FDS: expected a number, at most {MOST}"))?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_else(|| vec!["data"; count].join(":"));
    let names: Vec<&str> = names.split(':').collect();
    ensure!(
        count == 0 || names.len() == count,
        "LISTEN_FDNAMES: {} names: expected one for each of the {count} sockets of LISTEN_FDS",
        names.len()
    );
    let mut sockets = ListenFd::from_env();
    let mut take = |(at, name): (usize, &str)| {
        let port = PortName::read(name).context("LISTEN_FDNAMES (FileDescriptorName= of the socket unit)")?;
        let socket = take_one(&mut sockets, at);
        let handed = socket.and_then(|socket| Handed::socket(port, socket));
        handed.with_context(|| format!("LISTEN_FDS: socket {} ({name})", at + 1))
    };
    Ok(Handed::new(names.into_iter().take(count).enumerate().map(&mut take).collect::<anyhow::Result<_>>()?))
}

fn take_one(sockets: &mut ListenFd, at: usize) -> anyhow::Result<OwnedFd> {
    let mut take = |domain: Domain| {
        sockets.take_custom::<OwnedFd>(at, domain.into(), Type::STREAM.into(), "socket for streams")
    };
    // The first is for IPv6 as well.
    let taken = take(Domain::IPV4).or_else(|_| take(Domain::UNIX))?;
    taken.context("it is not there")
}
