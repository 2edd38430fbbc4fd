//! What the kernel shows of processes and their listening sockets (proc(5)). Reading it is slow, so it is read only while a replica is
//! in doubt, and not on a thread that others wait for.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::Pid;

/// A process that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: i32,
    /// Its process group.
    group: i32,
    /// Whether it is stopped by a signal. (A process that a debugger looks at is not.)
    pub(super) is_stopped: bool,
}

impl Process {
    /// Reads a process; `None` if it has ended.
    pub(super) fn read(id: i32) -> Option<Self> {
        Process::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// Reads `/proc/PID/stat`: `PID (NAME) STATE PARENT GROUP ...`. The name may hold any character.
    fn parse(stat: &str) -> Option<Self> {
        let id = stat.split_once(' ')?.0.parse().ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        let group = fields.nth(1)?.parse().ok()?;
        (!["Z", "X"].contains(&state)).then(|| Process { id, group, is_stopped: state == "T" })
    }

    /// The processes of a group.
    pub(super) fn of_group(group: Pid) -> Vec<Self> {
        let group = group.as_raw_nonzero().get();
        numbers(Path::new("/proc"))
            .filter_map(Process::read)
            .filter(|process| process.group == group)
            .collect()
    }

    /// The numbers (inodes) of its sockets. Empty if they may not be read.
    fn sockets(&self) -> impl Iterator<Item = u64> {
        let folder = format!("/proc/{}/fd", self.id);
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.filter_map(|file| {
            let target = fs::read_link(file.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
    }

    /// The user that it runs as.
    pub(super) fn user(&self) -> Option<u32> {
        Some(fs::metadata(format!("/proc/{}", self.id)).ok()?.uid())
    }

    /// Whether it holds one of these sockets.
    pub(super) fn holds(&self, listeners: &[Listener]) -> bool {
        !listeners.is_empty() && self.sockets().any(|socket| listeners.iter().any(|it| it.socket == socket))
    }
}

fn numbers(folder: &Path) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    /// Its number (inode).
    pub(super) socket: u64,
    /// The user who made it.
    pub(super) user: u32,
    reach: Reach,
}

/// How a socket was bound. A connection goes to the closest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Loopback,
    Everywhere,
}

impl Listener {
    /// The sockets that get the connections to this port of 127.0.0.1. Empty if that cannot be read.
    pub(super) fn at(port: u16) -> Vec<Self> {
        let mut found: Vec<Self> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .into_iter()
            .flat_map(|table| read_listeners(Path::new(table)))
            .filter_map(|row| Listener::parse(&row, port))
            .collect();
        let closest = found.iter().map(|listener| listener.reach).min();
        found.retain(|listener| Some(listener.reach) == closest);
        found
    }

    /// Reads a row of `/proc/net/tcp`, if it is a socket that listens at this port: `N: ADDRESS:PORT REMOTE STATE QUEUES TIMER
    /// RETRANSMITS USER TIMEOUT INODE ...`. An address is written as words in the machine's order of bytes.
    fn parse(row: &str, port: u16) -> Option<Self> {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let (address, given) = fields.get(1)?.split_once(':')?;
        let is_it = *fields.get(3)? == LISTENS && u16::from_str_radix(given, 16) == Ok(port);
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let (loopback, mapped) = (word([127, 0, 0, 1]), word([0, 0, 0xff, 0xff]));
        let reach = if address.bytes().all(|digit| digit == b'0') {
            Reach::Everywhere
        } else if [loopback.clone(), format!("{}{mapped}{loopback}", "0".repeat(16))]
            .contains(&address.to_owned())
        {
            Reach::Loopback
        } else {
            return None;
        };
        let (user, socket) = (fields.get(7)?.parse().ok()?, fields.get(9)?.parse().ok()?);
        is_it.then_some(Listener { socket, user, reach })
    }
}

/// The state of a listening socket.
const LISTENS: &str = "0A";

/// The rows of a table up to the first connection: the sockets that listen come first, and there may be a million connections.
fn read_listeners(table: &Path) -> Vec<String> {
    use std::io::{BufRead as _, BufReader};
    let Ok(file) = fs::File::open(table) else { return Vec::new() };
    let rows = BufReader::with_capacity(4096, file).lines().map_while(Result::ok).skip(1);
    rows.take_while(|row| row.split_whitespace().nth(3) == Some(LISTENS)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener};

    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let parse = Process::parse;
        let process = |id, group, is_stopped| Some(Process { id, group, is_stopped });
        assert_eq!(parse("7 (sh) S 1 5 5 0"), process(7, 5, false));
        assert_eq!(parse("7 (a) T 1 9) T 1 6 5 0"), process(7, 6, true));
        assert_eq!(parse("7 (traced) t 1 5 5 0"), process(7, 5, false));
        assert_eq!([parse("7 (dead) Z 1 5 5 0"), parse(""), parse("7 (cut) S")], [None, None, None]);
    }

    #[test]
    fn this_process_holds_its_listening_socket() {
        let us = Process::read(std::process::id().cast_signed()).unwrap();
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::ffff:127.0.0.1]:0"] {
            let Ok(socket) = TcpListener::bind(address) else { continue };
            let port = socket.local_addr().unwrap().port();
            let listeners = Listener::at(port);
            assert!(us.holds(&listeners), "{address}: {listeners:?}");
            assert!(!us.is_stopped && listeners.len() == 1);
            drop(socket);
            assert_eq!(Listener::at(port), [], "{address}");
            assert!(!us.holds(&[]));
        }
    }

    #[test]
    fn a_socket_elsewhere_or_a_connection_is_no_listener() {
        let _elsewhere = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
        let row = |address: &str, state: &str| {
            format!(
                "0: {address}:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 1000 0 4242 1"
            )
        };
        let loopback = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1]));
        let listener = Listener { socket: 4242, user: 1000, reach: Reach::Loopback };
        assert_eq!(Listener::parse(&row(&loopback, "0A"), 8080), Some(listener));
        for (address, state, port) in
            [("0101A8C0", "0A", 8080), (&loopback, "01", 8080), (&loopback, "0A", 8081)]
        {
            assert_eq!(Listener::parse(&row(address, state), port), None, "{address} {state} {port}");
        }
    }
}
