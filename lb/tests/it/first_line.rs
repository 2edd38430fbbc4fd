//! The first line: which key it gives, and that no byte of it is changed or lost.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::harness::{Lb, Replica, Wire, field, fixed, flags, patient, reset};
use crate::noise::wait_until_taken;

/// The key that a head must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// This one, which stands in the head.
    Id(&'static str),
    /// A random number, because the head holds none.
    Random,
    /// The client's address, because there is no such head.
    Source,
}
use Key::{Id, Random, Source};

/// An `lb` in front of three replicas. Each sends its name, and then everything that it receives.
pub(crate) struct Fleet {
    pub(crate) lb: Lb,
    replicas: Vec<Replica>,
}

impl Fleet {
    /// Starts it with `more` flags. The deadline of a first line is an hour, unless they say otherwise.
    pub(crate) fn start(more: &[&str]) -> Fleet {
        let replicas = ["a", "b", "c"].map(|name| {
            Replica::start(move |mut stream, first| {
                let _ = stream.write_all(&[name.as_bytes(), &first].concat());
                let mut reader = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut stream);
            })
        });
        let fleet = fixed(&replicas.each_ref().map(|replica| replica.address));
        let mut command = Lb::command(&[&flags(&fleet)[..], &["--log", "debug"], more].concat());
        command.env("LB_FIRST_LINE_TIMEOUT", "1h");
        let lb = Lb::launch_as(command);
        lb.wait_for_log("ready data=");
        Fleet { lb, replicas: replicas.into() }
    }

    /// Sends `bytes`, and checks that they come back from the replica that `expected` leads to.
    #[track_caller]
    fn check(&self, bytes: &[u8], end: Option<Shutdown>, expected: Key) {
        let mut client = self.lb.connect();
        client.write_all(bytes).unwrap();
        if let Some(end) = end {
            client.shutdown(end).unwrap();
        }
        self.check_answer(client, bytes, expected);
    }

    /// Checks that `sent` bytes come back, and the log line of the session.
    #[track_caller]
    pub(crate) fn check_answer(&self, mut client: TcpStream, sent: &[u8], expected: Key) {
        let what = sent[..sent.len().min(60)].escape_ascii();
        let mut answer = vec![0; 1 + sent.len()];
        client.read_exact(&mut answer).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(answer[1..] == *sent, "{what}: other bytes came back");
        let peer = client.local_addr().unwrap();
        drop(client);
        let line = self.lb.session_of(peer);
        let (id, key) = (field(&line, "id="), field(&line, "key="));
        match expected {
            Id(wanted) => assert_eq!((id, key), (escaped(wanted).as_str(), id), "{what}"),
            Random => {
                assert!(id.len() == 6 && id.parse().is_ok_and(|id: u32| id >= 100_000), "{what}: {line}");
                assert_eq!(key, id, "{what}");
            }
            Source => assert_eq!((id, key), ("none", "127.0.0.1"), "{what}"),
        }
        let traffic = [field(&line, "up="), field(&line, "down=")];
        assert_eq!(traffic, [sent.len().to_string(), answer.len().to_string()], "{what}");
        let explained = if let Id(wanted) = expected { wanted } else { key };
        assert_eq!(answer[..1], *self.lb.order(explained)[0].as_bytes(), "{what}: the wrong replica");
    }
}

fn escaped(id: &str) -> String {
    id.as_bytes().escape_ascii().to_string()
}

/// A line of `size` bytes with its line feed, and something after it.
fn line_of(size: usize) -> Vec<u8> {
    let mut line = b"132574 ".to_vec();
    line.resize(size - 1, b'x');
    line.extend(b"\nand\0more");
    line
}

#[test]
fn every_kind_of_first_line_has_its_key_and_is_forwarded_unchanged() {
    let fleet = Fleet::start(&[]);
    let cases: &[(&[u8], Key)] = &[
        // HTTP
        (b"GET /home?id=132574 HTTP/1.1\r\nHost: x\r\n\r\n", Id("132574")),
        (b"GET /home?id=132574 HTTP/1.0\n\n", Id("132574")),
        (b"POST /echo?a=1&id=7&id=8 HTTP/1.1\r\nContent-Length: 5\r\n\r\n\0\xff\r\n\n", Id("7")),
        (b"GET /?id=5 HTTP/1.1\r\n\r\nGET /?id=6 HTTP/1.1\r\n\r\n", Id("5")),
        (b"GET http://host/x?id=abc HTTP/1.1\r\n", Id("abc")),
        (b"GET /?id=a%20b+%C3 HTTP/1.1\r\n", Id("a%20b+%C3")),
        (b"GET /home HTTP/1.1\r\nX: ?id=5\r\n\r\n", Random),
        (b"GET /?id=&id=5 HTTP/1.1\r\n\r\n", Random),
        (b"GET /?ID=5&xid=6&user=7 HTTP/1.1\r\n\r\n", Random),
        (b"GET /id=5 HTTP/1.1\r\n\r\n", Random),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", Random),
        // Raw text
        (b"132574\n", Id("132574")),
        (b"132574\r\n", Id("132574")),
        (b"132574 \r\nGET /?id=5 HTTP/1.1\r\n\0\xff", Id("132574")),
        (b"  132574\tmore\n", Id("132574")),
        (b"a%20b+%C3 x\n", Id("a%20b+%C3")),
        (b"one\rtwo\n", Id("one")),
        (b"a\x1b[1mb c\n", Id("a\x1b[1mb")),
        (b"caf\xc3\xa9\n", Id("café")),
        (b"GET /home\n", Id("GET")),
        (b"\n", Random),
        (b"\r\n132574\r\n", Random),
        (b" \t \n132574\n", Random),
        // Neither: decided at the first byte
        (b"\0", Source),
        (b"\x00132574\n", Source),
        (b"\t132574\n", Source),
        (b"\x7f132574\n", Source),
        (b"\xef\xbb\xbf132574\n", Source),
        (b"\xef\xbb\xbfGET /?id=5 HTTP/1.1\r\n", Source),
        (b"\x16\x03\x01\x00\xf1\x01\x00\x00\xed\x03\x03abc?id=5", Source),
        (b"\x16\x03\x01\x00\x0a\x01\x00\n132574\n", Source),
        // Neither: decided at the first byte that no text holds
        (b"003dgit-upload-pack /project.git\0host=example.org:9418\0", Source),
        (b"a\0b c\n", Source),
        (b"132574 \x01", Source),
        (b"132574 \x7f\n", Source),
        (b"GET /?id=5\0", Source),
        (b"GET /?id=5&x=\x02 HTTP/1.1\r\n\r\n", Source),
    ];
    for &(bytes, key) in cases {
        fleet.check(bytes, None, key);
    }
}

#[test]
fn a_byte_that_no_text_holds_decides_when_it_comes() {
    let fleet = Fleet::start(&[]);
    for (text, byte) in [(&b"0032git-upload-pack /x.git"[..], 0), (b"GET /?id=5", 0x1f)] {
        let mut client = fleet.lb.connect();
        client.write_all(text).unwrap();
        wait_until_taken(&client);
        client.write_all(&[byte]).unwrap();
        fleet.check_answer(client, &[text, &[byte]].concat(), Source);
    }
}

#[test]
fn a_proxy_header_is_warned_of_once_and_passed_on_like_any_other_line() {
    let fleet = Fleet::start(&[]);
    let text = b"PROXY TCP4 10.0.0.7 10.0.0.1 5000 80\r\nGET /?id=5 HTTP/1.1\r\n\r\n";
    for _ in 0..3 {
        fleet.check(text, None, Id("PROXY"));
    }
    fleet.check(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x07\x0a\0\0\x01\x13\x88\0\x50", None, Random);
    fleet.check(b"PROXY is only a word\n", None, Id("PROXY"));
    let is_warning = |line: &String| line.contains("PROXY protocol") && line.contains(" WARN ");
    let warnings: Vec<String> = fleet.lb.log().into_iter().filter(is_warning).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("--proxy-protocol-from"), "{warnings:?}");
}

#[test]
fn a_binary_proxy_header_is_warned_of_too() {
    let lb = Lb::start(&[]);
    let mut client = lb.connect();
    client.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").unwrap();
    lb.wait_for_log("PROXY protocol");
}

#[test]
fn a_line_may_have_8_kib_and_not_one_byte_more() {
    let fleet = Fleet::start(&[]);
    fleet.check(&line_of(8192), None, Id("132574"));
    fleet.check(&line_of(8193), None, Source);
    fleet.check(&vec![b'x'; 64 * 1024], None, Source);
}

#[test]
fn the_longest_line_can_be_set() {
    let fleet = Fleet::start(&["--first-line-max", "16B"]);
    fleet.check(&line_of(16), None, Id("132574"));
    fleet.check(&line_of(17), None, Source);
}

#[test]
fn the_end_of_the_stream_ends_a_line_too() {
    let fleet = Fleet::start(&[]);
    let cases: [(&[u8], Key); 5] = [
        (b"132574", Id("132574")),
        (b"132574 x\r", Id("132574")),
        (b"GET /?id=5 HTTP/1.1", Id("5")),
        (b"PRI * HTTP/2.0", Random),
        (b"\r", Random),
    ];
    for (bytes, key) in cases {
        fleet.check(bytes, Some(Shutdown::Write), key);
    }
}

#[test]
fn the_parameter_that_holds_the_id_can_be_chosen() {
    let fleet = Fleet::start(&["--id-param", "user"]);
    fleet.check(b"GET /?id=1&user=2 HTTP/1.1\r\n\r\n", None, Id("2"));
    fleet.check(b"GET /?id=1 HTTP/1.1\r\n\r\n", None, Random);
    fleet.check(b"1 user=2\n", None, Id("1"));
}

#[test]
fn a_line_may_come_in_as_many_pieces_as_it_has_bytes() {
    let fleet = Fleet::start(&[]);
    let request = b"GET /home?id=132574 HTTP/1.1\r\nHost: x\r\n\r\n\0body";
    let mut client = fleet.lb.connect();
    client.set_nodelay(true).unwrap();
    for byte in request {
        client.write_all(&[*byte]).unwrap();
    }
    fleet.check_answer(client, request, Id("132574"));
}

#[test]
fn random_ids_are_fresh_each_time() {
    let fleet = Fleet::start(&[]);
    let id = |_| {
        let mut client = fleet.lb.connect();
        client.write_all(b"\n").unwrap();
        client.read_exact(&mut [0; 2]).unwrap();
        let peer = client.local_addr().unwrap();
        drop(client);
        field(&fleet.lb.session_of(peer), "id=").to_owned()
    };
    let mut ids: Vec<String> = (0..8).map(id).collect();
    ids.sort_unstable();
    ids.dedup();
    // Two of the eight are equal once in 30,000 runs; three pairs are equal practically never.
    assert!(ids.len() > 5, "{ids:?}");
}

#[test]
fn the_deadline_of_a_line_is_absolute_however_steadily_it_grows() {
    let fleet = Fleet::start(&["--first-line-timeout", "300ms"]);
    let mut client = fleet.lb.connect();
    client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut sent = Vec::new();
    while client.peek(&mut [0]).is_err() {
        assert!(sent.len() < 1500, "it waits beyond the deadline");
        client.write_all(b"x").unwrap();
        sent.push(b'x');
    }
    let mut client = patient(client);
    client.write_all(b" y\n").unwrap();
    sent.extend(b" y\n");
    fleet.check_answer(client, &sent, Source);
}

#[test]
fn a_client_that_waits_for_a_greeting_has_a_replica_after_the_deadline() {
    let wire = Wire::start(&["--first-line-timeout", "300ms", "--log", "debug"]);
    greet(wire.lb.connect(), wire.accept(), &wire.lb, "127.0.0.1");
}

#[test]
fn no_first_line_is_awaited_with_the_key_source() {
    let wire = Wire::start(&["--key", "source", "--first-line-timeout", "1h", "--log", "debug"]);
    let (client, replica) = wire.pair();
    greet(client, replica, &wire.lb, "127.0.0.1");
}

/// Checks that the replica can speak first, and that the session had this key.
#[track_caller]
fn greet(mut client: TcpStream, mut replica: TcpStream, lb: &Lb, key: &str) {
    replica.write_all(b"220 welcome").unwrap();
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 welcome");
    client.write_all(b"EHLO").unwrap();
    let mut reply = [0; 4];
    replica.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"EHLO");
    let peer = client.local_addr().unwrap();
    drop((client, replica));
    let line = lb.session_of(peer);
    assert_eq!((field(&line, "id="), field(&line, "key=")), ("none", key));
    assert_eq!((field(&line, "up="), field(&line, "down=")), ("4", "11"));
}

#[test]
fn each_client_address_has_one_replica_with_the_key_source() {
    let fleet = Fleet::start(&["--key", "source"]);
    let mut owners = Vec::new();
    for last in 1..=8 {
        let address = IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
        let owner = fleet.lb.order(&address.to_string())[0].clone();
        for says in ["132574\n", "GET /?id=5 HTTP/1.1\r\n\r\n", "\0"] {
            let mut client = connect_from(address, fleet.lb.data);
            client.write_all(says.as_bytes()).unwrap();
            let mut answer = vec![0; 1 + says.len()];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(String::from_utf8(answer).unwrap(), format!("{owner}{says}"), "from {address}");
        }
        owners.push(owner);
    }
    assert!(owners.iter().any(|owner| *owner != owners[0]), "all addresses have one replica");
}

fn connect_from(address: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    patient(socket.into())
}

#[test]
fn a_client_that_sends_nothing_and_leaves_costs_no_replica_connection() {
    let fleet = Fleet::start(&[]);
    let leaves: [fn(TcpStream); 3] = [drop, reset, |mut client| {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the connection is closed");
    }];
    for leave in leaves.into_iter().cycle().take(30) {
        let client = fleet.lb.connect();
        let peer = client.local_addr().unwrap();
        leave(client);
        let line = fleet.lb.session_of(peer);
        assert!(line.contains("the client left"), "{line}");
    }
    // The next session makes the first connection to a replica.
    fleet.check(b"132574\n", None, Id("132574"));
    let sessions = fleet.replicas.iter().map(|replica| replica.sessions.load(Ordering::Relaxed));
    assert_eq!(sessions.sum::<usize>(), 1);
    let totals = fleet.lb.backends().into_iter().map(|slot| slot["connections"]["total"].as_u64().unwrap());
    assert_eq!(totals.sum::<u64>(), 1);
}

#[test]
fn an_http_client_gets_503_without_a_replica() {
    let body = vec![b'x'; 4 * 1024 * 1024];
    let post = b"POST /echo?id=5 HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n";
    let requests: [&[u8]; 4] = [
        b"GET /home?id=132574 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /home HTTP/1.0\r\n\r\n",
        b"DELETE /x HTTP/1.1\r\n",
        &[post.as_slice(), &body].concat(),
    ];
    for key in ["id", "source"] {
        let lb = Lb::start(&["--replicas", "0", "--key", key]);
        for request in requests {
            let mut client = lb.connect();
            client.write_all(request).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_is_503(&answer);
        }
    }
}

#[track_caller]
fn assert_is_503(answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{answer}");
    let has = |header: &str| head.lines().any(|line| line.eq_ignore_ascii_case(header));
    assert!(has("Connection: close"), "{answer}");
    assert!(has("Content-Type: application/json"), "{answer}");
    assert!(has(&format!("Content-Length: {}", body.len())), "{answer}");
    assert_eq!(body, r#"{"message":"<Error> no server replica is available","status":"failure"}"#);
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body, json!({"message": "<Error> no server replica is available", "status": "failure"}));
}

#[test]
fn other_clients_are_closed_without_a_replica() {
    let others: [&[u8]; 5] =
        [b"132574\n", b"\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\0\x05\n", b"\0"];
    for key in ["id", "source"] {
        let lb = Lb::start(&["--replicas", "0", "--key", key]);
        for bytes in others {
            let mut client = lb.connect();
            client.write_all(bytes).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"", "{}", bytes.escape_ascii());
        }
    }
}
