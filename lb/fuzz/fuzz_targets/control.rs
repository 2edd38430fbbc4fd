//! Lines and bodies of the control port: any bytes are a command, or are refused with a message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::control::{Addition, Change, Line, Malformed, Reload, Remapping, Removal, parse_body};

fuzz_target!(|bytes: &[u8]| {
    told(Line::new(bytes).command());
    let _ = Line::new(bytes).token();
    told(parse_body::<Addition>(bytes));
    told(parse_body::<Removal>(bytes));
    told(parse_body::<Remapping>(bytes));
    told(parse_body::<Change>(bytes));
    told(parse_body::<Reload>(bytes));
});

fn told<T>(read: Result<T, Malformed>) {
    if let Err(problem) = read {
        assert!(!problem.to_string().is_empty());
    }
}
