//! A header of the PROXY protocol: a decision never changes when more bytes arrive, and a header has a length within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::proxy::{LONGEST, Progress, read};

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let early = read(&bytes[..bytes.len().min(cut.into())]);
    if early != Progress::More {
        assert_eq!(early, read(bytes));
    }
    match read(bytes) {
        Progress::More => assert!(bytes.len() < LONGEST),
        Progress::Header(header) => {
            assert!(header.length <= bytes.len().min(LONGEST));
            // What is behind it does not matter, and it is not whole before.
            assert_eq!(read(&bytes[..header.length]), Progress::Header(header));
            assert_eq!(read(&bytes[..header.length - 1]), Progress::More);
        }
        Progress::Violation(_) => {}
    }
});
