//! The header of the PROXY protocol, versions 1 and 2: a proxy says in it who its client is.
//!
//! Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2. It is pure and as strict as that text: a header is
//! whole and right, or a [`Violation`]. It never looks behind the header. [`Foreword`] is the other side, which writes one.

mod writing;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use writing::{Foreword, Version};

/// The longest header that is read, in bytes: one of version 2 with 4 KiB of addresses and TLVs. (The protocol allows 64 KiB. A header of
/// version 1 has at most 107 bytes.)
pub const LONGEST: usize = BEGINNING + MOST_BEHIND;

/// What version 2 begins with.
pub(crate) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
pub(crate) const TEXT: [&[u8]; 3] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];
/// The longest line of version 1, with its CR and LF.
const LONGEST_LINE: usize = 107;
/// In version 2: the signature, a byte with version and command, one with family and transport, and the length of the rest.
const BEGINNING: usize = 16;
/// In version 2: the longest rest.
const MOST_BEHIND: usize = 4096;
/// The type of the TLV that holds a checksum of the whole header.
const CHECKSUM: u8 = 0x03;

/// What is known of a header when only some of its bytes may have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is right so far, and more bytes are needed.
    More,
    /// It is whole.
    Header(Header),
    /// It is none: the connection has to be closed.
    Violation(Violation),
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it has. What the client sent begins behind them.
    pub length: usize,
    /// The address of the client behind the proxy. `None`: the header names no client over TCP, so the connection's own addresses
    /// hold. That is the case of LOCAL and UNKNOWN, of Unix sockets and of datagrams.
    pub source: Option<SocketAddr>,
    /// The address at which that client knocked; `None` as there.
    pub destination: Option<SocketAddr>,
}

/// A source and a destination.
type Ends = (SocketAddr, SocketAddr);

impl Header {
    fn of(length: usize, ends: Option<Ends>) -> Self {
        let (source, destination) = ends.unzip();
        Header { length, source, destination }
    }
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The first bytes are those of no header.
    #[error("it begins with something else")]
    Missing,
    /// Version 1: no line end within 107 bytes. Version 2: more than 4 KiB behind the first 16 bytes.
    #[error("the header is too long")]
    TooLong,
    /// Version 1: the line is not as the protocol has it.
    #[error("the line of version 1 is malformed")]
    Line,
    /// Version 2: a version, command, family or transport that has no meaning.
    #[error("version 2 with an unknown version, command or family")]
    Unassigned,
    /// Version 2: the header is shorter than its addresses.
    #[error("the header of version 2 is too short for its addresses")]
    Addresses,
    /// Version 2: a TLV ends behind the header, or a checksum has not four bytes.
    #[error("a TLV of version 2 is malformed")]
    Tlv,
    /// Version 2: the CRC32c is wrong.
    #[error("the checksum of version 2 is wrong")]
    Checksum,
}

/// Reads the header at the beginning of `bytes`, which are all bytes so far.
#[must_use]
pub fn read(bytes: &[u8]) -> Progress {
    let read = if agrees(bytes, SIGNATURE) {
        binary(bytes)
    } else if TEXT.iter().any(|text| agrees(bytes, text)) {
        text(bytes)
    } else {
        Err(Violation::Missing)
    };
    match read {
        Ok(Some(header)) => Progress::Header(header),
        Ok(None) => Progress::More,
        Err(violation) => Progress::Violation(violation),
    }
}

/// Whether `bytes` begin with `expected`, as far as both go.
fn agrees(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(byte, expected)| byte == expected)
}

/// Version 1: a line of text.
fn text(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let seen = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if seen.len() < LONGEST_LINE { Ok(None) } else { Err(Violation::TooLong) };
    };
    Ok(Some(Header::of(end + 2, line(&bytes[..end])?)))
}

/// The source and the destination in a line without its end.
fn line(line: &[u8]) -> Result<Option<Ends>, Violation> {
    let rest = line.strip_prefix(b"PROXY ").ok_or(Violation::Line)?;
    if let Some(ignored) = rest.strip_prefix(b"UNKNOWN") {
        // The receiver has to ignore what follows.
        return if matches!(ignored, [] | [b' ', ..]) { Ok(None) } else { Err(Violation::Line) };
    }
    addresses(rest).map(Some).ok_or(Violation::Line)
}

/// `TCP4 SOURCE DESTINATION PORT PORT`, with one space between two.
fn addresses(text: &[u8]) -> Option<Ends> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let mut next = || words.next();
    let (family, source, destination) = (next()?, next()?, next()?);
    let ports = (port(next()?)?, port(next()?)?);
    let (source, destination): (IpAddr, IpAddr) = match family {
        "TCP4" => (source.parse::<Ipv4Addr>().ok()?.into(), destination.parse::<Ipv4Addr>().ok()?.into()),
        "TCP6" => (source.parse::<Ipv6Addr>().ok()?.into(), destination.parse::<Ipv6Addr>().ok()?.into()),
        _ => return None,
    };
    words.next().is_none().then(|| ((source, ports.0).into(), (destination, ports.1).into()))
}

/// A port from 0 to 65535, without a sign or zeros in front.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// Version 2.
fn binary(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    // The rest of a header with a wrong command is not waited for.
    let command = bytes.get(12).copied();
    if !matches!(command, None | Some(0x20 | 0x21)) {
        return Err(Violation::Unassigned);
    }
    let Some(&[.., command, family, high, low]) = bytes.first_chunk::<BEGINNING>() else { return Ok(None) };
    let is_local = command == 0x20;
    // In a LOCAL header the family means nothing.
    if !is_local && (family >> 4 > 3 || family & 0xf > 2) {
        return Err(Violation::Unassigned);
    }
    let behind = usize::from(u16::from_be_bytes([high, low]));
    if behind > MOST_BEHIND {
        return Err(Violation::TooLong);
    }
    let Some(header) = bytes.get(..BEGINNING + behind) else { return Ok(None) };
    let ends = if is_local { None } else { ends(header, family)? };
    Ok(Some(Header::of(header.len(), ends)))
}

/// The source and the destination in a whole header of version 2 with the command PROXY.
fn ends(header: &[u8], family: u8) -> Result<Option<Ends>, Violation> {
    let rest = &header[BEGINNING..];
    let port = |high, low| u16::from_be_bytes([high, low]);
    let (ends, tlvs): (Ends, &[u8]) = match family {
        0x11 => {
            let (&addresses, tlvs) = rest.split_first_chunk::<12>().ok_or(Violation::Addresses)?;
            let [a, b, c, d, e, f, g, h, from_high, from_low, to_high, to_low] = addresses;
            let source = (Ipv4Addr::new(a, b, c, d), port(from_high, from_low)).into();
            ((source, (Ipv4Addr::new(e, f, g, h), port(to_high, to_low)).into()), tlvs)
        }
        0x21 => {
            let (&source, rest) = rest.split_first_chunk::<16>().ok_or(Violation::Addresses)?;
            let (&destination, rest) = rest.split_first_chunk::<16>().ok_or(Violation::Addresses)?;
            let (&[from_high, from_low, to_high, to_low], tlvs) =
                rest.split_first_chunk::<4>().ok_or(Violation::Addresses)?;
            let source = (Ipv6Addr::from(source), port(from_high, from_low)).into();
            ((source, (Ipv6Addr::from(destination), port(to_high, to_low)).into()), tlvs)
        }
        // No TCP, or not known to be: as the protocol asks, what is said of it is ignored.
        _ => return Ok(None),
    };
    check_tlvs(header, tlvs)?;
    Ok(Some(ends))
}

/// Checks that the TLVs fill the rest of the header, and that a checksum among them is right.
fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), Violation> {
    while let Some((&[kind, high, low], rest)) = tlvs.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(Violation::Tlv)?;
        if kind == CHECKSUM {
            let &value = <&[u8; 4]>::try_from(value).map_err(|_| Violation::Tlv)?;
            let at = header.len() - rest.len() - value.len();
            if checksum(header, at) != u32::from_be_bytes(value) {
                return Err(Violation::Checksum);
            }
        }
        tlvs = rest;
    }
    if tlvs.is_empty() { Ok(()) } else { Err(Violation::Tlv) }
}

/// The CRC32c (RFC 9260, appendix A) of a header with zeros in place of the four bytes at `hole`.
fn checksum(header: &[u8], hole: usize) -> u32 {
    let bytes = header.iter().enumerate();
    let bytes = bytes.map(|(at, &byte)| if (hole..hole + 4).contains(&at) { 0 } else { byte });
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[cfg(test)]
mod tests;
