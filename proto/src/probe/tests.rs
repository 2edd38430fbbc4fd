use proptest::prelude::*;

use super::line::NoExchange;
use super::*;
use crate::hello;

const NO_POSTGRES: &str = "it speaks no PostgreSQL";
const NO_TLS: &str = "it speaks no TLS";

fn bad(reason: &str) -> Verdict {
    Verdict::Bad(reason.to_owned())
}

/// Checks a whole answer, and that each beginning of it is judged in the same way, or not yet.
#[track_caller]
fn check(language: &Language, answer: &[u8], expected: &Verdict) {
    assert_eq!(&language.judge(answer), expected, "{}", answer.escape_ascii());
    for end in 0..answer.len() {
        let early = language.judge(&answer[..end]);
        assert!(is_as_early(&early, expected), "{end}: {early:?}, {expected:?}");
    }
}

/// Whether a verdict may be followed by another one. (A reason may quote more bytes later.)
fn is_as_early(early: &Verdict, late: &Verdict) -> bool {
    *early == Verdict::More || std::mem::discriminant(early) == std::mem::discriminant(late)
}

fn exchange(text: &str) -> Exchange {
    text.parse().unwrap()
}

#[test]
fn an_exchange_stands_for_any_bytes() {
    let bytes = |send: &[u8], expect: &[u8]| Exchange { send: send.to_vec(), expect: expect.to_vec() };
    for (text, expected) in [
        ("=220 ", bytes(b"", b"220 ")),
        (r"PING\r\n=+PONG", bytes(b"PING\r\n", b"+PONG")),
        (r"a\x3Db\t\\=c=d\xff\x00", bytes(b"a=b\t\\", b"c=d\xff\0")),
        ("ä=é", bytes("ä".as_bytes(), "é".as_bytes())),
    ] {
        assert_eq!(exchange(text), expected, "{text}");
    }
    let long = "x".repeat(LONGEST + 1);
    for wrong in [
        "",
        "PING",
        "PING=",
        r"a\=b",
        r"a\q=b",
        r"a\x3=b",
        r"a\xg0=b",
        r"a\x+1=b",
        "a=\\",
        &format!("={long}"),
        &format!("{long}=a"),
    ] {
        assert_eq!(wrong.parse::<Exchange>(), Err(NoExchange), "{wrong}");
    }
}

#[test]
fn an_answer_begins_as_it_is_expected_to() {
    let greeting = Language::Line(exchange("=220 "));
    assert_eq!(greeting.question([7; 32]), b"");
    check(&greeting, b"220 mail.example ESMTP\r\n", &Verdict::Good);
    check(&greeting, b"22", &Verdict::More);
    check(&greeting, b"554 no\r\n", &bad(r#"it answers "554 no\r\n""#));
    assert_eq!(Language::Line(exchange("a=b")).question([7; 32]), b"a");
    let noise = [b'x'; 200];
    assert_eq!(greeting.judge(&noise), Verdict::Bad(format!("it answers \"{}\"...", "x".repeat(100))));
    // It is too long to be looked at whole.
    let long = Language::Line(Exchange { send: Vec::new(), expect: vec![b'x'; LONGEST] });
    assert_eq!(long.judge(&[b'x'; LONGEST - 1]), Verdict::More);
    assert_eq!(long.judge(&[b'x'; LONGEST]), Verdict::Good);
}

#[test]
fn a_redis_server_that_serves_is_told_from_one_that_does_not() {
    for good in [
        "+PONG",
        "-NOAUTH Authentication required.",
        "-NOPERM this user has no permissions to run the 'ping' command",
    ] {
        check(&Language::Redis, format!("{good}\r\n").as_bytes(), &Verdict::Good);
    }
    for wrong in [
        "-LOADING Redis is loading the dataset in memory",
        "-MASTERDOWN Link with MASTER is down",
        "-BUSY Redis is busy",
        "+PONGS",
        "",
        "HTTP/1.1 400 Bad Request",
    ] {
        check(
            &Language::Redis,
            format!("{wrong}\r\n").as_bytes(),
            &Verdict::Bad(format!("it answers PING with \"{wrong}\"")),
        );
    }
    check(&Language::Redis, b"+PONG\r", &Verdict::More);
    assert_eq!(Language::Redis.judge(&[b'+'; LONGEST]), bad("its answer has no end"));
}

/// An error of PostgreSQL with these fields.
fn refused(fields: &[&str]) -> Vec<u8> {
    let text: Vec<u8> = fields.iter().flat_map(|field| [field.as_bytes(), b"\0"].concat()).collect();
    let length = 4 + text.len() as u32 + 1;
    [&b"E"[..], &length.to_be_bytes(), &text, b"\0"].concat()
}

#[test]
fn a_postgres_server_that_takes_sessions_is_told_from_one_that_does_not() {
    let question = Language::Postgres.question([7; 32]);
    assert_eq!(question[..8], [0, 0, 0, question.len() as u8, 0, 3, 0, 0]);
    let authentication = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
    check(&Language::Postgres, authentication, &Verdict::Good);
    for code in ["C28P01", "C28000", "C3D000", "C53300", "C08P01"] {
        check(&Language::Postgres, &refused(&["SFATAL", "VFATAL", code, "Mno"]), &Verdict::Good);
    }
    let starting = refused(&["SFATAL", "VFATAL", "C57P03", "Mthe database system is starting up"]);
    check(
        &Language::Postgres,
        &starting,
        &bad("it refuses sessions: \"the database system is starting up\""),
    );
    check(&Language::Postgres, &refused(&["C57P01"]), &bad("it refuses sessions: \"57P01\""));
    for wrong in [
        &b"HTTP/1.1 400"[..],
        b"S",
        b"N",
        b"R\0\0\0\x07",
        b"R\0\x01\0\0",
        b"Ecould not fork new process",
        &refused(&["Mno code"]),
    ] {
        check(&Language::Postgres, wrong, &bad(NO_POSTGRES));
    }
    check(&Language::Postgres, b"", &Verdict::More);
}

#[test]
fn a_tls_client_says_what_a_server_has_to_know() {
    for name in [None, Some("db.example")] {
        let question = Language::Tls(name.map(ToOwned::to_owned)).question([7; 32]);
        let hello::Progress::Hello(hello) = hello::read(&question) else { panic!("{question:?}") };
        assert_eq!((hello.server_name.as_deref(), hello.protocols), (name, None));
    }
    assert_ne!(Language::Tls(None).question([7; 32]), Language::Tls(None).question([8; 32]));
}

#[test]
fn a_tls_server_is_told_from_others() {
    let tls = Language::Tls(None);
    for good in
        [&b"\x16\x03\x03\0\x7a\x02\0\0"[..], b"\x15\x03\x03\0\x02\x02\x28", b"\x15\x03\x03\0\x02\x01\x70"]
    {
        check(&tls, good, &Verdict::Good);
    }
    check(&tls, b"\x15\x03\x03\0\x02\x02\x50", &bad("it answers with the TLS alert 80"));
    check(&tls, b"\x15\x03\x03\0\x02\x01\0", &bad("it answers with the TLS alert 0"));
    for wrong in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"\x16\x02",
        b"\x17",
        b"\x16\x03\x03\0\x7a\x01",
        b"\x16\x03\x03\0\x02\x02",
        b"\x16\x03\x03\x40\x01\x02",
        b"\x15\x03\x03\0\x03\x02",
    ] {
        check(&tls, wrong, &bad(NO_TLS));
    }
    check(&tls, b"\x16\x03\x03\0\x7a", &Verdict::More);
}

fn languages() -> [Language; 5] {
    [
        Language::Line(exchange(r"\x00=\x00\x01")),
        Language::Line(exchange("=+P")),
        Language::Postgres,
        Language::Redis,
        Language::Tls(None),
    ]
}

proptest! {
    #[test]
    fn no_answer_causes_a_panic_and_more_bytes_never_change_a_verdict(
        beginning in prop::sample::select(vec![&b""[..], b"\x16\x03\x03\0\x7a\x02", b"\x15\x03\x03\0\x02", b"+PONG\r", b"-NOAUTH ", b"R\0\0\0\x08", b"E\0\0\0\x19SFATAL\0C57", b"\0\x01"]),
        noise in prop::collection::vec(any::<u8>(), 0..60),
        cut in 0usize..70,
    ) {
        let answer = [beginning, &noise].concat();
        for language in languages() {
            let early = language.judge(&answer[..cut.min(answer.len())]);
            prop_assert!(is_as_early(&early, &language.judge(&answer)));
            prop_assert!(language.judge(&[&answer[..], &[b'x'; LONGEST]].concat()) != Verdict::More);
        }
    }

    #[test]
    fn any_text_is_an_exchange_or_refused(text in r"(\\|=|x|[0-9a-f]{2}|r|n|é|.){0,12}", send in prop::collection::vec(any::<u8>(), 0..20), expect in prop::collection::vec(any::<u8>(), 1..20)) {
        if let Ok(Exchange { send, expect }) = text.parse() {
            prop_assert!(send.len() <= text.len() && !expect.is_empty() && expect.len() < text.len());
        }
        let escaped = |bytes: &[u8]| bytes.iter().fold(String::new(), |all, byte| format!("{all}\\x{byte:02x}"));
        let text = format!("{}={}", escaped(&send), escaped(&expect));
        prop_assert_eq!(text.parse(), Ok(Exchange { send, expect }));
    }
}

#[test]
fn only_after_an_answer_that_is_over_there_may_be_another_question() {
    let line = Language::Line(exchange(r"a\n=b"));
    for (answer, is_over) in [(&b"b"[..], false), (b"bc", false), (b"bc\r\n", true)] {
        assert_eq!(line.is_over(answer), is_over, "{}", answer.escape_ascii());
    }
    assert!(Language::Redis.is_over(b"+PONG\r\n"));
    for once in [
        Language::Line(exchange("=b")),
        Language::Line(exchange("a=b")),
        // MQTT, and HTTP/2: a second beginning of a session is an error.
        Language::Line(exchange(r"\x10\x0e\x00\x04MQTT\x04\x02\x00\x0a\x00\x02lb=\x20\x02\x00\x00")),
        Language::Line(exchange(
            r"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00=\x00\x00",
        )),
        Language::Postgres,
        Language::Tls(None),
    ] {
        assert!(!once.goes_on() && !once.is_over(b"b\n"), "{once:?}");
    }
}
