//! Any text is a formula, or an error that names a column. A formula has a value for every number, and its text is the same
//! formula again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mapping::{Algorithm, Full, Mapping, Member, Probing, RequestHash, ServerHash, SlotsShape};

fuzz_target!(|input: (&str, u64, u8)| {
    let (text, number, entries) = input;
    let shape = SlotsShape { entries: entries.into(), virtuals: 3, ..SlotsShape::default() };
    match text.parse::<ServerHash>() {
        Ok(server_hash) => {
            assert_eq!(server_hash.to_string().parse(), Ok(server_hash.clone()));
            evaluate(SlotsShape { server_hash, ..shape.clone() }, number);
        }
        Err(problem) => assert!(problem.to_string().starts_with("column ")),
    }
    match text.parse::<RequestHash>() {
        Ok(request_hash) => {
            assert_eq!(request_hash.to_string().parse(), Ok(request_hash.clone()));
            evaluate(SlotsShape { request_hash, ..shape }, number);
        }
        Err(problem) => assert!(problem.to_string().starts_with("column ")),
    }
});

fn evaluate(shape: SlotsShape, number: u64) {
    let members =
        [1, 2, number as u32 | 4].map(|index| Member { index, name: format!("s{index}"), weight: 1 });
    for probing in [Probing::Linear, Probing::Quadratic] {
        let entries = shape.entries;
        let scheme = Algorithm::Slots(SlotsShape { probing, ..shape.clone() }).into();
        match Mapping::build(&scheme, &members) {
            Ok(mapping) => {
                let key = number.to_string();
                assert!(mapping.locate(key.as_bytes()).position < entries.into());
                let mut tried: Vec<usize> = mapping.candidates(key.as_bytes()).collect();
                assert_eq!(tried.first().copied(), mapping.owner(key.as_bytes()));
                tried.sort_unstable();
                assert_eq!(tried, [0, 1, 2]);
            }
            Err(full) => assert!(matches!(full, Full::Slots { .. })),
        }
    }
}
