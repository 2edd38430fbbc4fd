//! What the kernel shows of processes (proc(5)) and their listening sockets. Reading it is slow, so it is read only while a replica is
//! in doubt, and not on a thread that others wait for.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use netlink_packet_sock_diag::inet::{ExtensionFlags, InetResponse, StateFlags};
use rustix::process::Pid;

use crate::sock_diag;

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
    /// The sockets that get the connections to this port of 127.0.0.1.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub(super) fn at(port: u16) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        let take = |socket: &InetResponse| {
            let id = &socket.header.socket_id;
            if let Some(reach) = Reach::of(id.source_address).filter(|_| id.source_port == port) {
                let (user, socket) = (socket.header.uid, socket.header.inode.into());
                found.push(Listener { socket, user, reach });
            }
        };
        sock_diag::each(&StateFlags::LISTEN, &ExtensionFlags::empty(), take)?;
        let closest = found.iter().map(|listener| listener.reach).min();
        found.retain(|listener| Some(listener.reach) == closest);
        Ok(found)
    }
}

impl Reach {
    /// `None`: no connection to 127.0.0.1 goes there.
    fn of(bound: IpAddr) -> Option<Self> {
        match bound.to_canonical() {
            bound if bound.is_unspecified() => Some(Reach::Everywhere),
            IpAddr::V4(Ipv4Addr::LOCALHOST) => Some(Reach::Loopback),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

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
            let listeners = Listener::at(port).unwrap();
            assert!(us.holds(&listeners), "{address}: {listeners:?}");
            assert!(!us.is_stopped && listeners.len() == 1);
            drop(socket);
            assert_eq!(Listener::at(port).unwrap(), [], "{address}");
            assert!(!us.holds(&[]));
        }
    }

    #[test]
    fn a_socket_elsewhere_or_a_connection_is_no_listener() {
        let reach = |address: &str| Reach::of(address.parse().unwrap());
        for (address, expected) in [
            ("127.0.0.1", Some(Reach::Loopback)),
            ("::ffff:127.0.0.1", Some(Reach::Loopback)),
            ("0.0.0.0", Some(Reach::Everywhere)),
            ("::", Some(Reach::Everywhere)),
            ("192.168.1.1", None),
            ("127.0.0.2", None),
            ("::1", None),
        ] {
            assert_eq!(reach(address), expected, "{address}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (client, server) = (TcpStream::connect(("127.0.0.1", port)).unwrap(), listener.accept().unwrap());
        drop(listener);
        assert_eq!(
            Listener::at(port).unwrap(),
            [],
            "a connection whose own port it is: {client:?} {server:?}"
        );
    }
}
