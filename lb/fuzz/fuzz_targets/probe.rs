//! Answers to probes: a verdict never changes when more bytes arrive, and there is one once the answer is as long as it may be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::probe::line::Exchange;
use proto::probe::{LONGEST, Language, Verdict};

fuzz_target!(|input: (u16, &str, &[u8])| {
    let (cut, exchange, answer) = input;
    let own = exchange.parse::<Exchange>().ok().map(Language::Line);
    for language in own.into_iter().chain([Language::Postgres, Language::Redis, Language::Tls(None)]) {
        let late = language.judge(answer);
        match language.judge(&answer[..answer.len().min(cut.into())]) {
            Verdict::More => {}
            Verdict::Good => assert_eq!(late, Verdict::Good),
            // A reason may quote more bytes later.
            Verdict::Bad(_) => assert!(matches!(late, Verdict::Bad(_))),
        }
        assert!(late != Verdict::More || answer.len() < LONGEST);
    }
});
