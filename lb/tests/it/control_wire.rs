//! The control port: bytes on the wire. Pipelining, half-closes, commands that are too long or too slow.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::control::{Conversation, by_line, calm, http, listing, refused, request};
use crate::harness::{Lb, eventually, patient, reset};

/// The longest command, in bytes.
const MOST: usize = 64 * 1024;
const REP: &str = "{\"cmd\":\"rep\"}\n";
const GET_REP: &str = "GET /rep HTTP/1.1\r\nHost: lb\r\n\r\n";

#[test]
fn lines_are_answered_in_order_until_the_end_of_the_stream() {
    let lb = calm(&["--replicas", "1"]);
    let (one, two) = (listing(&["server1"]), listing(&["server1", "a"]));
    let mut connection = Conversation::with(&lb);
    for _ in 0..3 {
        assert_eq!(connection.say(REP).line(), one, "one by one");
    }
    connection.say(concat!(
        "{\"cmd\":\"add\",\"n\":1,\"hostnames\":[\"a\"]}\n",
        "\n  \n\r\n",
        "{\"cmd\":\"rep\"}\r\n",
        "{\"cmd\":\"fly\"}\n",
        "nonsense\n",
        "{\"cmd\":\"rm\",\"n\":1,\"hostnames\":[\"a\"]}\n",
        " {\"cmd\":\"rep\"} "
    ));
    connection.finish();
    assert_eq!(connection.line(), two);
    assert_eq!(connection.line(), two);
    assert!(refused(&connection.line()).contains("`fly`"));
    assert!(refused(&connection.line()).contains("malformed JSON"));
    assert_eq!(connection.line(), one);
    assert_eq!(connection.line(), one, "the last line needs no line feed");
    assert_eq!(connection.rest(), "");
}

#[test]
fn a_line_that_comes_in_pieces_is_one_command() {
    let lb = calm(&["--replicas", "1"]);
    let mut connection = Conversation::with(&lb);
    connection.stream().set_nodelay(true).unwrap();
    for byte in REP.bytes() {
        connection.say([byte]);
    }
    assert_eq!(connection.line(), listing(&["server1"]));
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_next_one_answered() {
    let lb = calm(&["--replicas", "1"]);
    let padded = |length: usize| format!("{}{}\n", REP.trim_end(), " ".repeat(length - REP.len() + 1));
    let most = format!("<Error> a command has at most {MOST} bytes");
    assert_eq!(by_line(&lb, &json!({"cmd": "rep"})), listing(&["server1"]));
    for (length, fits) in [(MOST, true), (MOST + 1, false), (MOST + 20, false), (4_000_000, false)] {
        let mut connection = Conversation::with(&lb);
        connection.say(padded(length)).say(REP).finish();
        let first = connection.line();
        assert_eq!(
            if fits { first } else { refused(&first) },
            if fits { listing(&["server1"]) } else { most.clone() }
        );
        assert_eq!(connection.line(), listing(&["server1"]), "after {length}");
        assert_eq!(connection.rest(), "");
    }
    let mut endless = Conversation::with(&lb);
    endless.say("{").say("x".repeat(3 * MOST));
    assert_eq!(refused(&endless.line()), most, "answered before its end");
    assert_eq!(endless.finish().rest(), "");
}

#[test]
fn http_connections_are_kept_alive_and_requests_may_be_pipelined() {
    let lb = calm(&["--replicas", "1"]);
    let mut connection = Conversation::with(&lb);
    assert_eq!(connection.say(GET_REP).response().body, listing(&["server1"]));
    assert_eq!(connection.say(request("GET /nowhere", "", "some body")).response().status, 404);
    let add = request("POST /add", "", r#"{"n":1,"hostnames":["a"]}"#);
    let chunked = "POST /rm HTTP/1.1\r\nHost: lb\r\nTransfer-Encoding: chunked\r\n\r\n\
                   6\r\n{\"n\":1\r\n15\r\n,\"hostnames\":[\"a\"]   \r\n1\r\n}\r\n0\r\n\r\n";
    connection.say(format!("{add}{GET_REP}{chunked}{GET_REP}")).finish();
    for expected in [&["server1", "a"][..], &["server1", "a"], &["server1"], &["server1"]] {
        assert_eq!(connection.response().body, listing(expected));
    }
    assert_eq!(connection.rest(), "");
}

#[test]
fn simple_http_clients_are_served() {
    let lb = calm(&["--replicas", "1"]);
    for text in [
        "GET /rep HTTP/1.0\r\n\r\n",
        "GET /rep HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n",
        "GET http://lb/rep HTTP/1.1\r\nHost: lb\r\n\r\n",
        "GET /rep?x=1 HTTP/1.1\r\n\r\n",
    ] {
        let mut connection = Conversation::with(&lb);
        assert_eq!(connection.say(text).finish().response().body, listing(&["server1"]), "{text}");
        assert_eq!(connection.rest(), "", "{text}");
    }
    // The Content-Type of `curl -d`, and another one.
    for kind in ["application/x-www-form-urlencoded", "text/plain"] {
        let text = request("POST /add", &format!("Content-Type: {kind}\r\n"), r#"{"n":1,"hostnames":["a"]}"#);
        assert_eq!(Conversation::with(&lb).say(text).response().status, 200, "{kind}");
        assert_eq!(http(&lb, "DELETE /rm", r#"{"n":1,"hostnames":["a"]}"#).status, 200);
    }
    let text = request("POST /add", "Expect: 100-continue\r\n", "");
    let mut connection = Conversation::with(&lb);
    connection.say(text.trim_end()).say("\r\nContent-Length: 25\r\n\r\n");
    assert_eq!(connection.response().status, 100);
    assert_eq!(connection.say(r#"{"n":1,"hostnames":["a"]}"#).response().status, 200);
}

#[test]
fn text_that_is_not_http_is_a_bad_request() {
    let lb = calm(&["--replicas", "1"]);
    for text in [
        "rep\n",
        "GET /rep\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
        "GET /rep HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
    ] {
        assert_eq!(Conversation::with(&lb).say(text).response().status, 400, "{text:?}");
    }
    let mut connection = Conversation::with(&lb);
    connection.say(format!("GET /rep HTTP/1.1\r\nX: {}", "y".repeat(2_000_000)));
    assert_eq!(connection.response().status, 431);
    assert_eq!(connection.finish().rest(), "");
    assert_eq!(lb.hostnames(), ["server1"]);
}

#[test]
fn a_body_that_is_too_long_gets_413_which_its_sender_can_read() {
    let lb = calm(&["--replicas", "1"]);
    let most = format!("<Error> a body has at most {MOST} bytes");
    let body = |length: usize| format!("{}{}", r#"{"n":0}"#, " ".repeat(length - 7));
    assert_eq!(http(&lb, "POST /add", &body(MOST)).status, 400, "it is read, and n is 0");
    for length in [MOST + 1, 300_000, 8_000_000] {
        let announced = request("POST /add", "", &body(length));
        let chunk = format!("{:x}\r\n{}\r\n", MOST / 2, " ".repeat(MOST / 2));
        let chunks = chunk.repeat(length / (MOST / 2)) + "1\r\n \r\n0\r\n\r\n";
        let chunked =
            format!("DELETE /rm HTTP/1.1\r\nHost: lb\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        for text in [announced, chunked] {
            let mut connection = Conversation::with(&lb);
            let response = connection.say(text).response();
            assert_eq!((response.status, refused(&response.body)), (413, most.clone()), "{length}");
            assert_eq!(response.header("connection"), Some("close"));
            assert_eq!(connection.finish().rest(), "");
        }
    }
    let text = "POST /add HTTP/1.1\r\nHost: lb\r\nExpect: 100-continue\r\nContent-Length: 65537\r\n\r\n";
    assert_eq!(Conversation::with(&lb).say(text).response().status, 413, "before it is sent");
    for line in ["POST /nowhere", "PUT /add"] {
        let mut connection = Conversation::with(&lb);
        let response = connection.say(request(line, "", &body(8_000_000))).response();
        assert!([404, 405].contains(&response.status), "a body without a use: {response:?}");
        assert_eq!(connection.finish().rest(), "");
    }
    assert_eq!(lb.hostnames(), ["server1"]);
}

/// Sends `begin`, and then one `byte` after another until the answer comes; the whole answer.
fn trickle(lb: &Lb, begin: &str, byte: u8) -> String {
    let mut stream = patient(TcpStream::connect(lb.control).unwrap());
    stream.write_all(begin.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    let mut answer = Vec::new();
    eventually("the end of the answer", || match stream.read_to_end(&mut answer) {
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
            if answer.is_empty() {
                stream.write_all(&[byte]).unwrap();
            } else {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            None
        }
        ended => Some(ended.unwrap()),
    });
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_slow_sender_is_refused_though_it_goes_on_and_an_idle_one_is_not() {
    let lb = calm(&["--replicas", "1"]);
    let mut idle = Conversation::with(&lb);
    // As many bytes as lb reads at once.
    idle.say(format!("{}{}\n", REP.trim_end(), " ".repeat(8191 - 13)));
    assert_eq!(idle.line(), listing(&["server1"]));
    let senders = [
        ("a head", "GET /rep HTTP/1.1\r\nX: ", b'x'),
        ("a body", "POST /add HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{\"n\":1,", b' '),
        ("a chunk", "POST /add HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n{\"n\":1,", b' '),
        ("a line", "{\"cmd\":\"add\",\"n\":1", b' '),
    ];
    thread::scope(|scope| {
        let lb = &lb;
        let answers =
            senders.map(|(what, begin, byte)| (what, scope.spawn(move || trickle(lb, begin, byte))));
        for (what, answer) in answers {
            let answer = answer.join().unwrap();
            let body = answer.rsplit("\r\n\r\n").next().unwrap().trim_end();
            assert!(what == "a line" || answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
            assert!(refused(body).ends_with("takes at most 10s to send"), "{what}: {answer}");
        }
    });
    assert_eq!(idle.say(REP).line(), listing(&["server1"]), "there is no such deadline between two commands");
}

#[test]
fn clients_that_leave_or_stay_silent_do_not_block_others() {
    let lb = calm(&["--replicas", "1"]);
    let files = lb.open_files();
    let silent: Vec<_> = (0..20).map(|_| Conversation::with(&lb)).collect();
    for begin in
        ["", "{", "G", "{\"cmd\":\"rep\"}", REP, GET_REP, "POST /add HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"]
    {
        for _ in 0..5 {
            reset(TcpStream::connect(lb.control).unwrap());
            Conversation::with(&lb).say(begin);
            Conversation::with(&lb).say(begin).finish().rest();
        }
    }
    assert_eq!(lb.hostnames(), ["server1"]);
    drop(silent);
    eventually("all their files closed", || (lb.open_files() <= files).then_some(()));
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let lb = calm(&["--replicas", "1"]);
    let all: Vec<_> = (0..300)
        .map(|_| {
            let mut connection = Conversation::with(&lb);
            assert_eq!(connection.say(REP).line(), listing(&["server1"]));
            connection
        })
        .collect();
    assert_eq!(lb.hostnames(), ["server1"]);
    drop(all);
}
