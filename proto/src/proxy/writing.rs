//! Writes the header: what a replica is told of its client.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::SIGNATURE;

/// The version in which a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary, with TLVs.
    V2,
}

/// What a header says of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreword<'a> {
    /// The client's address, and the one at which it knocked; `None` if one of them is not known.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// What identifies the connection: the request id. Only in version 2, and only up to 128 bytes.
    pub unique_id: Option<&'a [u8]>,
    /// The name of the host that the client asks for. Only in version 2, and only up to 255 bytes.
    pub authority: Option<&'a [u8]>,
}

/// The types of TLVs.
const AUTHORITY: u8 = 0x02;
const UNIQUE_ID: u8 = 0x05;
/// The longest unique id that the protocol allows, and the longest name of a host (RFC 1035, section 2.3.4), in bytes.
const LONGEST_ID: usize = 128;
const LONGEST_NAME: usize = 255;

impl Version {
    /// The header of a connection that no client asked for, such as a probe: LOCAL, in version 1 UNKNOWN.
    #[must_use]
    pub fn local(self) -> &'static [u8] {
        match self {
            Version::V1 => b"PROXY UNKNOWN\r\n",
            Version::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        }
    }
}

impl Foreword<'_> {
    /// The header in this version.
    #[must_use]
    pub fn header(&self, version: Version) -> Vec<u8> {
        match version {
            Version::V1 => self.text(),
            Version::V2 => self.binary(),
        }
    }

    fn text(&self) -> Vec<u8> {
        let Some((source, destination)) = self.ends.map(alike) else { return Version::V1.local().to_vec() };
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let mut line = Vec::with_capacity(super::LONGEST_LINE);
        // Writing into a Vec cannot fail.
        let _ = write!(
            line,
            "PROXY {family} {} {} {} {}\r\n",
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        );
        line
    }

    fn binary(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(64);
        header.extend(SIGNATURE);
        let ends = self.ends.map(alike);
        header.push(0x21);
        header.push(match ends {
            None => 0x00,
            Some((source, _)) if source.is_ipv4() => 0x11,
            Some(_) => 0x21,
        });
        let length = header.len();
        header.extend([0, 0]);
        if let Some((source, destination)) = ends {
            for ip in [source.ip(), destination.ip()] {
                match ip {
                    IpAddr::V4(ip) => header.extend(ip.octets()),
                    IpAddr::V6(ip) => header.extend(ip.octets()),
                }
            }
            header.extend(source.port().to_be_bytes());
            header.extend(destination.port().to_be_bytes());
        }
        for (kind, value, most) in
            [(UNIQUE_ID, self.unique_id, LONGEST_ID), (AUTHORITY, self.authority, LONGEST_NAME)]
        {
            if let Some(value) = value.filter(|value| value.len() <= most) {
                header.extend([kind, 0, value.len() as u8]);
                header.extend(value);
            }
        }
        let behind = header.len() - length - 2;
        header[length..length + 2].copy_from_slice(&(behind as u16).to_be_bytes());
        header
    }
}

/// Both addresses in one family: IPv4 if both are, in the clothes of IPv6 or not; else IPv6.
fn alike((source, destination): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (source, destination) = (canonical(source), canonical(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let wide = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    (wide(source), wide(destination))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::{Header, Progress, read};

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn header(source: &str, destination: &str, version: Version) -> Vec<u8> {
        let ends = Some((address(source), address(destination)));
        Foreword { ends, unique_id: Some(b"7"), authority: Some(b"a.example") }.header(version)
    }

    #[test]
    fn a_line_says_who_is_connected_to_whom() {
        let line = |source, destination| String::from_utf8(header(source, destination, Version::V1)).unwrap();
        assert_eq!(line("192.0.2.7:5000", "192.0.2.1:80"), "PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n");
        assert_eq!(line("[2001:db8::7]:1", "[::1]:2"), "PROXY TCP6 2001:db8::7 ::1 1 2\r\n");
        assert_eq!(
            line("[::ffff:192.0.2.7]:1", "[::ffff:1.2.3.4]:2"),
            "PROXY TCP4 192.0.2.7 1.2.3.4 1 2\r\n"
        );
        assert_eq!(line("192.0.2.7:1", "[::1]:2"), "PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n");
        assert_eq!(Foreword::default().header(Version::V1), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_says_the_request_id_and_the_name_as_well() {
        let expected = [
            SIGNATURE,
            b"\x21\x11\0\x1c\xc0\0\x02\x07\xc0\0\x02\x01\x13\x88\0\x50\x05\0\x017\x02\0\x09a.example",
        ];
        assert_eq!(header("192.0.2.7:5000", "192.0.2.1:80", Version::V2), expected.concat());
        let without = Foreword::default().header(Version::V2);
        assert_eq!(without, [SIGNATURE, b"\x21\0\0\0"].concat());
        // What is too long is left out.
        let (id, name) = ([b'7'; 129], [b'a'; 256]);
        let long = Foreword { ends: None, unique_id: Some(&id), authority: Some(&name) };
        assert_eq!(long.header(Version::V2), without);
        let longest = Foreword { ends: None, unique_id: Some(&id[1..]), authority: Some(&name[1..]) };
        assert_eq!(longest.header(Version::V2).len(), 16 + 3 + 128 + 3 + 255);
    }

    #[test]
    fn a_probe_names_no_client() {
        for version in [Version::V1, Version::V2] {
            let header = version.local();
            let expected = Header { length: header.len(), source: None, destination: None };
            assert_eq!(read(header), Progress::Header(expected));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            source in any::<SocketAddr>(), destination in any::<SocketAddr>(), id in prop::collection::vec(any::<u8>(), 0..140),
        ) {
            let foreword = Foreword { ends: Some((source, destination)), unique_id: Some(&id), authority: None };
            let bare = |end: SocketAddr| Some((end.ip().to_canonical(), end.port()));
            for version in [Version::V1, Version::V2] {
                let written = foreword.header(version);
                let Progress::Header(header) = read(&written) else { panic!("{}", written.escape_ascii()) };
                prop_assert_eq!(header.length, written.len());
                prop_assert_eq!(header.source.and_then(bare), bare(source));
                prop_assert_eq!(header.destination.and_then(bare), bare(destination));
            }
        }
    }
}
