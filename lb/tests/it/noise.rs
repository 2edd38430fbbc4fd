//! A sequence of bytes in which lost, doubled or swapped bytes show, and how a stream ends.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::LazyLock;

use crate::harness::eventually;

pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * KIB;

/// The bytes that tests of the relay send, over and over. They are random and their number is prime, so that every lost, doubled
/// or swapped byte shows.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..1_000_003).map(step).collect()
});

/// The noise from byte `at` on, at most `most` of it.
pub(crate) fn noise(at: usize, most: usize) -> &'static [u8] {
    let rest = &NOISE[at % NOISE.len()..];
    &rest[..most.min(rest.len())]
}

/// Sends the first `len` bytes of the noise, in pieces of odd sizes.
pub(crate) fn send(mut to: &TcpStream, len: usize) {
    let (mut sent, mut sizes) = (0, [1, 7, 1448, 65_537, 131_071, 4093, 999_999].into_iter().cycle());
    while sent < len {
        let piece = noise(sent, sizes.next().unwrap().min(len - sent));
        to.write_all(piece).unwrap();
        sent += piece.len();
    }
}

/// Reads the first `len` bytes of the noise.
#[track_caller]
pub(crate) fn receive(mut from: &TcpStream, len: usize) {
    let (mut buffer, mut seen) = (vec![0; 100_003], 0);
    while seen < len {
        let room = buffer.len().min(len - seen);
        let n =
            from.read(&mut buffer[..room]).unwrap_or_else(|error| panic!("after {seen} of {len}: {error}"));
        assert!(n > 0, "the end after {seen} of {len}");
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            let piece = noise(seen, rest.len());
            assert!(rest[..piece.len()] == *piece, "other bytes between {seen} and {}", seen + piece.len());
            (rest, seen) = (&rest[piece.len()..], seen + piece.len());
        }
    }
}

/// What a stream brings next: 0 at its end, an error, or (wrongly) a number of bytes.
pub(crate) fn end(mut from: &TcpStream) -> Result<usize, ErrorKind> {
    from.read(&mut [0]).map_err(|error| error.kind())
}

pub(crate) const FIN: Result<usize, ErrorKind> = Ok(0);
pub(crate) const RESET: Result<usize, ErrorKind> = Err(ErrorKind::ConnectionReset);

/// Waits until `lb` has read every byte that was sent. A reset before that would destroy the others.
pub(crate) fn wait_until_taken(by: &TcpStream) {
    let ports = (by.local_addr().unwrap().port(), by.peer_addr().unwrap().port());
    let ends = format!(" 0100007F:{:04X} 0100007F:{:04X} ", ports.0, ports.1);
    eventually("an empty send queue", || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let line = table.lines().find(|line| line.contains(&ends))?;
        let queues = line.split_whitespace().nth(4)?;
        queues.starts_with("00000000:").then_some(())
    });
}
