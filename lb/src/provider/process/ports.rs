//! Free ports for child processes.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Ports below the range of ephemeral ports (ip(7)). A port within that range could be taken by an outgoing connection between
/// this check and the child's bind.
#[derive(Debug)]
pub(super) struct Ports {
    range: Range<u16>,
    next: u16,
}

const LOWEST: u16 = 10_000;
const EPHEMERAL: u16 = 32_768;

impl Ports {
    pub(super) fn new() -> Self {
        let range = LOWEST..lowest_ephemeral().filter(|&port| port > LOWEST).unwrap_or(EPHEMERAL);
        let next = fastrand::u16(range.clone());
        Ports { range, next }
    }

    /// A port on which no process listens. It is not returned again before all others have been.
    pub(super) fn next_free(&mut self) -> io::Result<u16> {
        for _ in self.range.clone() {
            let port = self.next;
            self.next = if port + 1 == self.range.end { self.range.start } else { port + 1 };
            match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
                Ok(_) => return Ok(port),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                // Another port would fail in the same way.
                Err(error) => return Err(error),
            }
        }
        let message = format!("no port from {} to {} is free", self.range.start, self.range.end - 1);
        Err(io::Error::new(ErrorKind::AddrInUse, message))
    }
}

fn lowest_ephemeral() -> Option<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_returned_twice_or_while_a_process_listens_there() {
        let mut ports = Ports::new();
        let first = ports.next_free().unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.next)).unwrap();
        let taken = ports.next;
        let second = ports.next_free().unwrap();
        assert_ne!(first, second);
        assert_ne!(taken, second);
    }
}
