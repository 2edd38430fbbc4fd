//! Messages against the specification, and as properties: every message survives the way through its bytes.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// The example of `docs/HANDOFF.md`, byte by byte.
const EXAMPLE: &[u8] = b"\x2a\0\0\0\0\0\0\0\x01\x02\x00\x07\x06\x00\x06\x00server2132574132574";

#[test]
fn a_message_has_the_bytes_of_the_specification() {
    let metadata = Metadata::new(42, b"server2", b"132574", Some(b"132574")).after(2);
    assert_eq!(metadata.as_bytes(), EXAMPLE);
    assert_eq!(Metadata::decode(EXAMPLE), Ok(metadata));
    assert_eq!(encode_closed(&[42, 1 << 56]).unwrap(), b"\x2a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
}

#[test]
fn fields_that_are_too_long_are_cut_and_marked() {
    let long = vec![b'x'; LONGEST_KEY + 1];
    let longest = &long[..LONGEST_KEY];
    let flags = |metadata: &Metadata| (metadata.is_slot_cut(), metadata.is_key_cut(), metadata.is_id_cut());
    let metadata = Metadata::new(1, b"a", &long, Some(longest));
    assert_eq!((metadata.key(), metadata.request_id()), (longest, Some(longest)));
    assert_eq!(flags(&metadata), (false, true, false));
    let metadata = Metadata::new(1, &long[..LONGEST_SLOT + 1], longest, Some(&long));
    assert_eq!((metadata.slot(), metadata.request_id()), (&long[..LONGEST_SLOT], Some(longest)));
    assert_eq!(flags(&metadata), (true, false, true));
    assert_eq!(metadata.as_bytes().len(), LONGEST_MESSAGE);
    assert_eq!(Metadata::decode(metadata.as_bytes()), Ok(metadata));
}

#[test]
fn an_empty_request_id_is_not_none() {
    assert_eq!(Metadata::new(0, b"", b"", None).request_id(), None);
    assert_eq!(Metadata::new(0, b"", b"", Some(b"")).request_id(), Some(b"".as_slice()));
}

/// The example with one byte changed.
fn with(at: usize, byte: u8) -> Vec<u8> {
    let mut message = EXAMPLE.to_vec();
    message[at] = byte;
    message
}

#[test]
fn malformed_messages_are_refused_with_a_reason() {
    let longer = [EXAMPLE, b"x"].concat();
    let too_long_a_key = [&with(13, 4)[..16], &[b'x'; 7 + 0x406 + 6]].concat();
    let cases = [
        (b"".to_vec(), Malformed::Length),
        (EXAMPLE[..15].to_vec(), Malformed::Length),
        (EXAMPLE[..EXAMPLE.len() - 1].to_vec(), Malformed::Length),
        (longer, Malformed::Length),
        (with(8, 0), Malformed::Version(0)),
        (with(8, 2), Malformed::Version(2)),
        (with(10, 8), Malformed::Flags(8)),
        (with(11, 8), Malformed::Length),
        (with(15, 0xff), Malformed::Length),
        (too_long_a_key, Malformed::Length),
    ];
    for (message, why) in cases {
        assert_eq!(Metadata::decode(&message), Err(why), "{}", message.escape_ascii());
    }
}

#[test]
fn a_report_has_a_number_and_no_more_than_512() {
    assert_eq!((encode_closed(&[]), encode_closed(&[0; 513])), (None, None));
    assert_eq!(decode_closed(&encode_closed(&[7; 512]).unwrap()), Ok(vec![7; 512]));
    for length in [0, 1, 7, 9, 513 * 8] {
        assert_eq!(decode_closed(&vec![0; length]), Err(Malformed::Length), "{length}");
    }
}

/// Bytes that are nearly a message.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let bent = (any::<proptest::sample::Index>(), any::<u8>());
    (vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..40), vec(bent, 0..3)).prop_map(|(key, id, bent)| {
        let mut message = Metadata::new(1, b"server1", &key, Some(&id)).as_bytes().to_vec();
        bent.iter().for_each(|(at, byte)| *at.get_mut(&mut message) = *byte);
        message
    })
}

proptest! {
    #[test]
    fn every_message_decodes_to_its_fields(
        (number, attempt) in any::<(u64, u8)>(),
        slot in vec(any::<u8>(), 0..=LONGEST_SLOT),
        key in vec(any::<u8>(), 0..=LONGEST_KEY),
        id in option::of(vec(any::<u8>(), 0..=LONGEST_KEY)),
    ) {
        let sent = Metadata::new(number, &slot, &key, id.as_deref()).after(attempt);
        let metadata = Metadata::decode(sent.as_bytes()).unwrap();
        prop_assert_eq!((metadata.number(), metadata.attempt()), (number, attempt));
        prop_assert_eq!((metadata.slot(), metadata.key()), (&slot[..], &key[..]));
        prop_assert_eq!(metadata.request_id(), id.as_deref());
        prop_assert!(!metadata.is_slot_cut() && !metadata.is_key_cut() && !metadata.is_id_cut());
    }

    #[test]
    fn any_bytes_are_a_message_or_none(bytes in prop_oneof![vec(any::<u8>(), 0..3000), nearly()]) {
        if let Ok(metadata) = Metadata::decode(&bytes) {
            let parts = [metadata.slot(), metadata.key(), metadata.request_id().unwrap_or_default()].concat();
            prop_assert_eq!(&parts, &bytes[HEADER..]);
            prop_assert!(bytes.len() <= LONGEST_MESSAGE);
        }
        if let Ok(numbers) = decode_closed(&bytes) {
            prop_assert_eq!(encode_closed(&numbers), Some(bytes));
        }
    }
}
