//! Labels of a record: any labels are rejected, or read as an entry that stays the same when it is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|values: [Option<&str>; 4]| {
    let names = ["lb.record", "lb.holder", "lb.since", "lb.seats"];
    let labels =
        names.into_iter().zip(values).filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    if let Some(entry) = lb::rewritten_record(&labels.collect()) {
        assert_eq!(lb::rewritten_record(&entry), Some(entry));
    }
});
