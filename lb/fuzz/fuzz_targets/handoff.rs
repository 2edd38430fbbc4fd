//! Hand-off messages from an unknown peer: any bytes are rejected, or decode to a message that encodes to the same bytes.
#![no_main]

use handoff::protocol::{Metadata, decode_closed, encode_closed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(metadata) = Metadata::decode(bytes) {
        assert_eq!(metadata.as_bytes(), bytes);
        let parts = [metadata.slot(), metadata.key(), metadata.request_id().unwrap_or_default()];
        assert!(bytes.ends_with(&parts.concat()));
    }
    if let Ok(numbers) = decode_closed(bytes) {
        assert_eq!(encode_closed(&numbers).as_deref(), Some(bytes));
    }
});
