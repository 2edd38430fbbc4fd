use proptest::prelude::*;

use super::*;

/// A header of version 2 with this command and family, and these bytes behind the first 16.
fn binary_of(command: u8, family: u8, behind: &[u8]) -> Vec<u8> {
    let length = u16::try_from(behind.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, behind].concat()
}

/// The addresses of a client 192.0.2.7:5000 of the server 192.0.2.1:80.
const V4: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0x13, 0x88, 0, 80];

fn v6() -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    [&address("2001:db8::7")[..], &address("2001:db8::1"), &[0x13, 0x88, 0, 80]].concat()
}

/// Checks that `bytes`, with anything behind them, are a header with this source, and no shorter part of them is.
#[track_caller]
fn names(bytes: &[u8], source: Option<&str>) {
    let source = source.map(|source| source.parse().unwrap());
    for behind in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"\0\xff", b"\r\n"] {
        let Progress::Header(header) = read(&[bytes, behind].concat()) else {
            panic!("{}", bytes.escape_ascii())
        };
        assert_eq!((header.length, header.source), (bytes.len(), source), "{}", bytes.escape_ascii());
        assert_eq!(header.source.is_some(), header.destination.is_some());
    }
    for end in 0..bytes.len() {
        assert_eq!(read(&bytes[..end]), Progress::More, "{} of {}", end, bytes.escape_ascii());
    }
}

#[track_caller]
fn violates(bytes: &[u8], violation: Violation) {
    assert_eq!(read(bytes), Progress::Violation(violation), "{}", bytes.escape_ascii());
}

#[test]
fn a_line_of_version_1_names_the_client() {
    names(b"PROXY TCP4 255.255.255.255 1.2.3.4 65535 0\r\n", Some("255.255.255.255:65535"));
    names(b"PROXY TCP6 2001:db8::7 ::1 5000 80\r\n", Some("[2001:db8::7]:5000"));
    names(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 5000 80\r\n", Some("[::ffff:192.0.2.7]:5000"));
    let longest = format!("PROXY TCP6 {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
    assert_eq!(longest.len(), 104);
    names(longest.as_bytes(), Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"));
}

#[test]
fn an_unknown_client_is_none_whatever_is_said_of_it() {
    names(b"PROXY UNKNOWN\r\n", None);
    names(b"PROXY UNKNOWN ::1 \xff\0 x\r y\n z\r\n", None);
    let longest = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
    assert_eq!(longest.len(), 107);
    names(longest.as_bytes(), None);
}

#[test]
fn a_line_that_is_not_exactly_right_is_a_violation() {
    for line in [
        "PROXY TCP4 1.2.3.4 1.2.3.4 1",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2",
        "PROXY TCP4 1.2.3.4  1.2.3.4 1 2",
        "PROXY TCP4 01.2.3.4 1.2.3.4 1 2",
        "PROXY TCP4 1.2.3.4 1.2.3.04 1 2",
        "PROXY TCP4 1.2.3 1.2.3.4 1 2",
        "PROXY TCP4 1.2.3.256 1.2.3.4 1 2",
        "PROXY TCP4 ::1 ::1 1 2",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2",
        "PROXY TCP6 ::1 1.2.3.4 1 2",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2",
        "PROXY TCP6 [::1] ::1 1 2",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2",
        "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\t2",
        "PROXY TCP4 ",
        "PROXY UNKNOWNX",
    ] {
        violates(format!("{line}\r\n").as_bytes(), Violation::Line);
    }
    // A lone CR or LF ends no line.
    for end in ["\n", "\r", "\n\r", "\rX"] {
        assert_eq!(read(format!("PROXY TCP4 1.2.3.4 1.2.3.4 1 2{end}").as_bytes()), Progress::More);
    }
    violates(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\nGET / HTTP/1.1\r\n", Violation::Line);
}

#[test]
fn other_first_bytes_are_refused_at_once() {
    for bytes in [
        &b"G"[..],
        b"P\r",
        b"PROXY\t",
        b"proxy ",
        b"PROXY  TCP4",
        b"PROXY TCP5",
        b"PROXY TCP4\r",
        b"PROXY UDP4 ",
        b"PROXY Unknown",
        b"\r\nP",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\n",
        b"\0",
        b"\x16\x03\x01",
    ] {
        violates(bytes, Violation::Missing);
    }
}

#[test]
fn a_line_has_107_bytes_and_not_one_more() {
    let line = |length: usize| {
        let mut line = b"PROXY UNKNOWN ".to_vec();
        line.resize(length - 2, b'x');
        [&line, &b"\r\n"[..]].concat()
    };
    names(&line(107), None);
    violates(&line(108), Violation::TooLong);
    violates(&line(108)[..107], Violation::TooLong);
}

#[test]
fn a_header_of_version_2_names_the_client() {
    names(&binary_of(0x21, 0x11, &V4), Some("192.0.2.7:5000"));
    names(&binary_of(0x21, 0x21, &v6()), Some("[2001:db8::7]:5000"));
    // With TLVs: ALPN, a type that is not known, an empty one, and padding.
    let tlvs = b"\x01\0\x02h2\xee\0\x01!\x05\0\0\x04\0\x03\0\0\0";
    names(&binary_of(0x21, 0x11, &[&V4, &tlvs[..]].concat()), Some("192.0.2.7:5000"));
    names(&binary_of(0x21, 0x21, &[&v6(), &tlvs[..]].concat()), Some("[2001:db8::7]:5000"));
}

#[test]
fn what_is_no_tcp_connection_of_a_client_is_none() {
    // LOCAL: neither the family nor what follows means anything.
    for family in [0x00, 0x11, 0x21, 0x31, 0xff] {
        names(&binary_of(0x20, family, b""), None);
        names(&binary_of(0x20, family, &[0xff; 100]), None);
    }
    for family in [0x00, 0x01, 0x02, 0x10, 0x12, 0x20, 0x22, 0x30, 0x31, 0x32] {
        names(&binary_of(0x21, family, b""), None);
        names(&binary_of(0x21, family, &[b'/'; 216]), None);
    }
}

#[test]
fn what_has_no_meaning_in_version_2_is_a_violation() {
    for command in [0x00, 0x01, 0x11, 0x22, 0x2f, 0x31, 0xff] {
        violates(&binary_of(command, 0x11, &V4), Violation::Unassigned);
        violates(&binary_of(command, 0x11, &V4)[..13], Violation::Unassigned);
    }
    for family in [0x03, 0x13, 0x1f, 0x41, 0xf1, 0xff] {
        violates(&binary_of(0x21, family, &V4), Violation::Unassigned);
    }
    violates(&binary_of(0x21, 0x11, &V4[..11]), Violation::Addresses);
    violates(&binary_of(0x21, 0x11, b""), Violation::Addresses);
    violates(&binary_of(0x21, 0x21, &v6()[..35]), Violation::Addresses);
    for tlvs in [
        &b"\x01"[..],
        b"\x01\0",
        b"\x01\0\x01",
        b"\x01\xff\xff!",
        b"\x04\0\0\x01",
        b"\x03\0\x03abc",
        b"\x03\0\0",
    ] {
        violates(&binary_of(0x21, 0x11, &[&V4, tlvs].concat()), Violation::Tlv);
    }
}

#[test]
fn a_header_of_version_2_has_at_most_4_kib_behind_its_beginning() {
    let filled = |length: usize| {
        let padding = u16::try_from(length - V4.len() - 3).unwrap();
        [&V4[..], &[4], &padding.to_be_bytes(), &vec![0; padding.into()]].concat()
    };
    let longest = binary_of(0x21, 0x11, &filled(4096));
    assert_eq!(longest.len(), LONGEST);
    names(&longest, Some("192.0.2.7:5000"));
    violates(&binary_of(0x21, 0x11, &filled(4097)), Violation::TooLong);
    violates(&binary_of(0x20, 0x00, &[0; 4097])[..16], Violation::TooLong);
}

#[test]
fn a_checksum_has_to_be_right() {
    // RFC 3720, appendix B.4, has this value for 32 bytes of zeros.
    assert_eq!(checksum(&[0; 32], 32), 0x8a91_36aa);
    let with = |sum: u32| {
        let tlvs = [&b"\x05\0\x01u\x03\0\x04"[..], &sum.to_be_bytes(), b"\x04\0\x01x"].concat();
        binary_of(0x21, 0x11, &[&V4, &tlvs[..]].concat())
    };
    let empty = with(0);
    let hole = empty.len() - 8;
    names(&with(checksum(&empty, hole)), Some("192.0.2.7:5000"));
    violates(&empty, Violation::Checksum);
    let mut damaged = with(checksum(&empty, hole));
    damaged[BEGINNING] ^= 1;
    violates(&damaged, Violation::Checksum);
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic_and_more_bytes_never_change_a_decision(
        start in prop::sample::select(vec![&b""[..], b"PROXY TCP4 ", b"PROXY UNKNOWN", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20"]),
        bytes in prop::collection::vec(any::<u8>(), 0..150), cut in 0usize..150,
    ) {
        let bytes = [start, &bytes].concat();
        let early = read(&bytes[..cut.min(bytes.len())]);
        if early != Progress::More {
            prop_assert_eq!(early, read(&bytes));
        }
        if let Progress::Header(header) = read(&bytes) {
            prop_assert!(header.length <= bytes.len().min(LONGEST));
            prop_assert_eq!(read(&bytes[..header.length]), Progress::Header(header));
        }
    }

    #[test]
    fn any_client_is_named_as_it_is_written(source in any::<SocketAddr>(), to in any::<u16>()) {
        let (family, address) = match source.ip() {
            IpAddr::V4(ip) => ("TCP4", ip.to_string()),
            IpAddr::V6(ip) => ("TCP6", ip.to_string()),
        };
        let line = format!("PROXY {family} {address} {address} {} {to}\r\n", source.port());
        let ends = (SocketAddr::new(source.ip(), source.port()), SocketAddr::new(source.ip(), to));
        prop_assert_eq!(read(line.as_bytes()), Progress::Header(Header::of(line.len(), Some(ends))));
    }
}
