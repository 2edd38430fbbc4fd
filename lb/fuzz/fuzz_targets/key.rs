//! What keys are found in: the first message of TLS and the head of an HTTP/1 request. A decision never changes when more bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::{hello, http};

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let cut = &bytes[..bytes.len().min(cut.into())];
    let early = hello::read(cut);
    if early != hello::Progress::More {
        assert_eq!(early, hello::read(bytes));
    }
    if let hello::Progress::Hello(hello) = hello::read(bytes) {
        assert!(hello.server_name.is_none_or(
            |name| (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
        ));
    }
    for read in [http::header, http::cookie] {
        let early = read(cut, false, "x");
        if early != http::Progress::More {
            assert_eq!(early, read(bytes, true, "x"));
        }
        if let http::Progress::Found(Some(value)) = read(bytes, true, "x") {
            assert!(!value.is_empty() && !value.contains(&b'\n'));
        }
    }
    assert!(!http::path(bytes).is_empty());
});
