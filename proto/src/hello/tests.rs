use proptest::prelude::*;

use super::*;

/// A vector with a length of `N` bytes.
fn sized<const N: usize>(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_be_bytes()[8 - N..], bytes].concat()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized::<2>(value)].concat()
}

fn name(name: &[u8]) -> Vec<u8> {
    extension(SERVER_NAME, &sized::<2>(&[&[0], &sized::<2>(name)[..]].concat()))
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = protocols.iter().flat_map(|protocol| sized::<1>(protocol)).collect();
    extension(PROTOCOLS, &sized::<2>(&list))
}

/// The handshake message with these extensions.
fn message_with(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &sized::<1>(&[9; 32]), &sized::<2>(&[0x13, 1]), &sized::<1>(&[0])];
    [&[CLIENT_HELLO], &sized::<3>(&[body.concat(), sized::<2>(&extensions.concat())].concat())[..]].concat()
}

/// The message in records of at most so many bytes.
fn in_records(message: &[u8], most: usize) -> Vec<u8> {
    message.chunks(most).flat_map(|part| [&[HANDSHAKE, 3, 1], &sized::<2>(part)[..]].concat()).collect()
}

fn read_name(extensions: &[Vec<u8>]) -> Option<String> {
    let bytes = in_records(&message_with(extensions), LONGEST_RECORD);
    let Progress::Hello(hello) = read(&bytes) else { panic!("{:?}", read(&bytes)) };
    hello.server_name
}

#[test]
fn the_name_and_the_protocols_are_found_however_the_message_is_cut() {
    let extensions = [
        extension(0x0a0a, b""),
        name(b"Www.Example.ORG"),
        extension(43, &[2, 3, 4]),
        alpn(&[b"h2", b"http/1.1"]),
    ];
    let message = message_with(&extensions);
    let expected =
        Hello { server_name: Some("www.example.org".to_owned()), protocols: Some("h2,http/1.1".to_owned()) };
    for most in [1, 2, 3, 4, 5, 50, LONGEST_RECORD] {
        let bytes = in_records(&message, most);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Progress::More, "{end} of {}", bytes.len());
        }
        for behind in [&b""[..], b"\x14\x03\x03\0\x01\x01", b"\xff"] {
            assert_eq!(read(&[&bytes, behind].concat()), Progress::Hello(expected.clone()));
        }
    }
}

#[test]
fn a_message_without_a_usable_name_has_none() {
    assert_eq!(read_name(&[]), None);
    assert_eq!(read_name(&[alpn(&[b"h2"])]), None);
    for wrong in [&b""[..], b"a b", b"a\0", b"caf\xc3\xa9", &[b'a'; 256]] {
        assert_eq!(read_name(&[name(wrong)]), None, "{}", wrong.escape_ascii());
    }
    assert_eq!(read_name(&[name(&[b'a'; 255])]), Some("a".repeat(255)));
    // Of another type than the name of a host.
    assert_eq!(read_name(&[extension(SERVER_NAME, &sized::<2>(&[1, 0, 1, b'x']))]), None);
    // It ends before extensions, as TLS 1.0 allows.
    let old = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 10], &[1, 0]].concat();
    let old = in_records(&[&[CLIENT_HELLO], &sized::<3>(&old)[..]].concat(), 500);
    assert_eq!(read(&old), Progress::Hello(Hello::default()));
}

#[test]
fn a_name_that_stands_for_a_hidden_one_is_none() {
    let hidden = extension(ENCRYPTED_HELLO, &[0; 40]);
    for extensions in [[name(b"public.example"), hidden.clone()], [hidden, name(b"public.example")]] {
        assert_eq!(read_name(&extensions), None);
    }
}

#[test]
fn what_is_no_hello_is_told_by_the_first_bytes_that_show_it() {
    for bytes in [
        &b"G"[..],
        b"\x16\x02",
        b"\x16G",
        b"\x15\x03\x01\0\x02\x02\x28",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\0\x05\x02",
        b"\x80\x2e\x01\x03\x01",
    ] {
        assert_eq!(read(bytes), Progress::Other, "{}", bytes.escape_ascii());
    }
    // A record of another type between two of the message.
    let message = message_with(&[name(b"a")]);
    let mut bytes = in_records(&message[..20], 20);
    bytes.extend(b"\x17\x03\x03\0\x01x");
    assert_eq!(read(&bytes), Progress::Other);
}

#[test]
fn a_message_whose_lengths_do_not_fit_is_none() {
    let whole = message_with(&[name(b"a.example"), alpn(&[b"h2"])]);
    // Each length that says one byte more or less than there is.
    let damaged = (4..whole.len()).flat_map(|at| [1, u8::MAX].map(|by| (at, by)));
    let mut others = 0;
    for (at, by) in damaged {
        let mut message = whole.clone();
        message[at] = message[at].wrapping_add(by);
        match read(&in_records(&message, 100)) {
            Progress::More => panic!("{at}: all bytes are there"),
            Progress::Hello(_) => {}
            Progress::Other => others += 1,
        }
    }
    assert!(others > 10, "{others}");
    assert_eq!(read(&in_records(&[CLIENT_HELLO, 0, 0, 0], 100)), Progress::Other);
    assert_eq!(read(&in_records(&[CLIENT_HELLO, 0, 0, 3, 3, 3, 3], 100)), Progress::Other);
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic_and_more_bytes_never_change_a_decision(
        noise in prop::collection::vec(any::<u8>(), 0..80), at in 0usize..200, most in 1usize..200, cut in 0usize..300,
    ) {
        let mut message = message_with(&[name(b"a.example"), alpn(&[b"h2", b"x"])]);
        let at = at.min(message.len());
        message.splice(at..(at + noise.len() / 2).min(message.len()), noise);
        let bytes = in_records(&message, most);
        let early = read(&bytes[..cut.min(bytes.len())]);
        if early != Progress::More {
            prop_assert_eq!(early, read(&bytes));
        }
    }

    #[test]
    fn noise_is_read(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&noise);
        let _ = read(&[&b"\x16\x03\x01\0\xc0\x01\0\0"[..], &noise].concat());
    }
}
