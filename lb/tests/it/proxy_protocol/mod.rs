//! The PROXY protocol on the data port (`--proxy-protocol-from`): the client is whom the header names, a header is required from proxies
//! and never read from others, and no byte behind it is lost.

pub(crate) mod programs;
mod sending;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::harness::{Lb, Replica, Wire, eventually, field, fixed, flags, patient};

/// The first 12 bytes of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What trusts every client of these tests.
const FROM: [&str; 2] = ["--proxy-protocol-from", "127.0.0.0/8,::1"];

/// A header of version 2.
fn binary(command: u8, family: u8, behind: &[u8]) -> Vec<u8> {
    let length = u16::try_from(behind.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, behind].concat()
}

/// A header of version 1, and one of version 2 with TLVs, that name this client.
fn headers(client: &str) -> [Vec<u8>; 2] {
    let client: SocketAddr = client.parse().unwrap();
    let (ip, port) = (client.ip(), client.port());
    let (text, family, address) = match ip {
        IpAddr::V4(ip) => ("TCP4", 0x11, ip.octets().to_vec()),
        IpAddr::V6(ip) => ("TCP6", 0x21, ip.octets().to_vec()),
    };
    let line = format!("PROXY {text} {ip} {ip} {port} 443\r\n");
    let tlvs = b"\x01\0\x02h2\x02\0\x0bexample.org\xe0\0\x03abc";
    let behind = [&address[..], &address, &port.to_be_bytes(), &[1, 187], tlvs].concat();
    [line.into_bytes(), binary(0x21, family, &behind)]
}

/// What the replica says to a connection that begins with these bytes, and ends.
fn answer(lb: &Lb, bytes: &[u8]) -> String {
    String::from_utf8(lb.exchange(bytes)).unwrap()
}

/// How many connections were not served for this reason.
fn refused(lb: &Lb, reason: &str) -> u64 {
    lb.done(&json!({"cmd": "backends"}))["refused"][reason].as_u64().unwrap()
}

/// Whether the connection is closed without an answer.
fn is_closed(mut client: TcpStream) -> bool {
    match client.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            true
        }
    }
}

/// A connection from this address of the machine that has sent these bytes, and that the data port may have reset already.
fn send_from(source: &str, lb: &Lb, bytes: &[u8]) -> TcpStream {
    let source = SocketAddr::new(source.parse().unwrap(), 0);
    let socket = Socket::new(Domain::for_address(source), Type::STREAM, None).unwrap();
    socket.bind(&source.into()).unwrap();
    socket.connect(&lb.data.into()).unwrap();
    let mut client = patient(socket.into());
    let _ = client.write_all(bytes);
    client
}

#[test]
fn the_client_is_whom_the_header_names_in_both_versions_and_transports() {
    for transport in ["proxy", "handoff"] {
        let lb = Lb::start(
            &[&FROM[..], &["--key", "source", "--transport", transport, "--log", "debug"]].concat(),
        );
        if transport == "handoff" {
            eventually("links to all replicas", || {
                let linked = lb.log().iter().filter(|line| line.contains("are handed over")).count();
                (linked >= 3).then_some(())
            });
        }
        for (port, ip) in (5000..).step_by(2).zip(["192.0.2.7", "192.0.2.8", "192.0.2.9", "2001:db8::7"]) {
            for (version, port) in [(0, port), (1, port + 1)] {
                let client = SocketAddr::new(ip.parse().unwrap(), port);
                let header = &headers(&client.to_string())[version];
                let owner = lb.order(ip)[0].clone();
                assert_eq!(answer(&lb, &[header, &b"7 x\n"[..]].concat()), format!("{owner} 7 x\n"));
                let line = lb.session_of(client);
                assert_eq!(
                    (field(&line, "key="), field(&line, "replica=").trim_matches('"')),
                    (ip, owner.as_str()),
                    "{line}"
                );
                let ending = if transport == "proxy" { "complete" } else { "handed" };
                assert!(field(&line, "ending=").trim_matches('"').starts_with(ending), "{line}");
            }
        }
        // An IPv4 address in the clothes of IPv6 is the same client.
        let [line, _] = headers("[::ffff:192.0.2.7]:6000");
        let owner = lb.order("192.0.2.7")[0].clone();
        assert_eq!(answer(&lb, &[&line, &b"7\n"[..]].concat()), format!("{owner} 7\n"));
    }
}

#[test]
fn what_is_behind_the_header_is_the_head_as_ever() {
    let replica = Replica::start(|mut stream, first| {
        let _ = stream.write_all(&first);
        let mut reader = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut reader, &mut stream);
    });
    let fleet = fixed(&[replica.address]);
    let lb = Lb::start(&[&flags(&fleet)[..], &FROM, &["--log", "debug"]].concat());
    let body: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let mut port = 7000;
    for head in [&b"132574\n"[..], b"GET /home?id=132574 HTTP/1.1\r\n\r\n", b"132574 PROXY TCP4 \r\n"] {
        for version in [0, 1] {
            for piece in [1, 17, usize::MAX] {
                port += 1;
                let client = SocketAddr::from(([192, 0, 2, 7], port));
                let begin = [&headers(&client.to_string())[version], head].concat();
                let mut stream = lb.connect();
                stream.set_nodelay(true).unwrap();
                begin.chunks(piece.min(begin.len())).for_each(|piece| stream.write_all(piece).unwrap());
                let mut writer = stream.try_clone().unwrap();
                let sent = body.clone();
                let writes = std::thread::spawn(move || {
                    writer.write_all(&sent).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                writes.join().unwrap();
                assert!(answer == [head, &body].concat(), "{piece}: {} bytes came back", answer.len());
                let line = lb.session_of(client);
                assert_eq!((field(&line, "key="), field(&line, "id=")), ("132574", "132574"), "{line}");
                // The header is no byte of the client.
                assert_eq!(field(&line, "up="), (head.len() + body.len()).to_string(), "{line}");
            }
        }
    }
}

#[test]
fn a_server_may_speak_first_behind_a_header() {
    let wire = Wire::start(&[&FROM[..], &["--key", "source"]].concat());
    let mut client = wire.lb.connect();
    client.write_all(&headers("192.0.2.7:5000")[1]).unwrap();
    let mut replica = wire.accept();
    replica.write_all(b"220 welcome").unwrap();
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 welcome");
}

#[test]
fn a_header_that_names_no_client_leaves_the_connection_as_it_is() {
    let lb = Lb::start(&[&FROM[..], &["--key", "source", "--log", "debug", "--replicas", "1"]].concat());
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 192.0.2.7 192.0.2.7 1 2\r\n".to_vec(),
        binary(0x20, 0x00, b""),
        binary(0x20, 0x11, &[7; 12]),
        binary(0x20, 0xff, &[7; 4096]),
        binary(0x21, 0x00, b""),
        binary(0x21, 0x12, &[7; 12]),
        binary(0x21, 0x31, &[b'/'; 216]),
    ] {
        let mut client = lb.connect();
        client.write_all(&[&header, &b"7\n"[..]].concat()).unwrap();
        let mut answer = [0; 10];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"server1 7\n");
        let address = client.local_addr().unwrap();
        drop(client);
        assert_eq!(field(&lb.session_of(address), "key="), "127.0.0.1", "{}", header.escape_ascii());
    }
}

#[test]
fn without_a_right_header_a_proxy_is_not_served() {
    for transport in ["proxy", "handoff"] {
        let lb = Lb::start(&[&FROM[..], &["--replicas", "1", "--transport", transport]].concat());
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 107]].concat();
        let wrong: [&[u8]; 9] = [
            b"132574\n",
            b"GET /?id=5 HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01",
            b"PROXY TCP4 192.0.2.7 192.0.2.7 1 2\n132574\r\n",
            b"PROXY TCP4 192.0.2.777 192.0.2.7 1 2\r\n",
            &long,
            &binary(0x21, 0x11, &[7; 11]),
            &binary(0x22, 0x11, &[7; 12]),
            &binary(0x21, 0x11, &[7; 13]),
        ];
        for bytes in wrong {
            let mut client = lb.connect();
            client.write_all(bytes).unwrap();
            assert!(is_closed(client), "{}", bytes.escape_ascii());
        }
        let mut client = lb.connect();
        client.write_all(b"PROXY TCP4 192.").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(is_closed(client), "it ends within the header");
        assert_eq!(refused(&lb, "denied"), 10);
        let said = || {
            let lines = lb.log().into_iter().filter(|line| line.contains("no right PROXY protocol header"));
            lines.map(|line| {
                assert!(line.contains(" WARN ") && field(&line, "from=") == "127.0.0.1", "{line}");
                field(&line, "connections=").parse::<u64>().unwrap()
            })
        };
        eventually("a line of the log for each", || (said().sum::<u64>() == 10).then_some(()));
        assert!(said().count() < 10, "one line a second");
        // A connection without a byte is what a check of the port leaves behind.
        drop(lb.connect());
        eventually("a client that left early", || (refused(&lb, "left_early") == 1).then_some(()));
        assert_eq!(refused(&lb, "denied"), 10);
    }
}

#[test]
fn the_header_has_the_time_of_the_first_line_and_no_more() {
    let lb = Lb::start(&[&FROM[..], &["--replicas", "1", "--first-line-timeout", "300ms"]].concat());
    let mut steady = lb.connect();
    steady.write_all(b"PROXY UNKNOWN ").unwrap();
    eventually("the end of a client that sends on and on", || steady.write_all(b"x").is_err().then_some(()));
    let _silent = lb.connect();
    eventually("both are counted", || (refused(&lb, "denied") == 2).then_some(()));
    // The line behind the header has what is left.
    let mut client = lb.connect();
    client.write_all(b"PROXY UNKNOWN\r\nno line end").unwrap();
    let mut answer = [0; 19];
    client.write_all(b"\n").unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"server1 no line end");
}

#[test]
fn the_header_has_five_seconds_however_long_the_first_line_may_take() {
    let lb = Lb::start(&[&FROM[..], &["--replicas", "1", "--first-line-timeout", "1h"]].concat());
    let client = lb.connect();
    assert!(is_closed(client), "it is not awaited for ever");
    lb.wait_for_log("no whole header came in time");
    assert_eq!(refused(&lb, "denied"), 1);
}

#[test]
fn the_header_of_others_is_never_read() {
    let lb =
        Lb::start(&["--proxy-protocol-from", "127.0.0.2,10.0.0.0/8", "--replicas", "1", "--log", "debug"]);
    let line = &headers("192.0.2.7:5000")[0];
    let text = String::from_utf8(line.clone()).unwrap();
    let mut client = send_from("127.0.0.1", &lb, line);
    let address = client.local_addr().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("server1 {}\n", text.trim_end()));
    let session = lb.session_of(address);
    assert_eq!(field(&session, "id="), "PROXY", "{session}");
    lb.wait_for_log("name the proxy with --proxy-protocol-from");
    // The proxy itself, beside it.
    let mut client = send_from("127.0.0.2", &lb, &[line, &b"7\n"[..]].concat());
    let mut answer = [0; 9];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"server1 7");
}

/// Whether a client that this header names is served, through a proxy with this address.
fn serves(lb: &Lb, proxy: &str, header: &[u8]) -> bool {
    let mut client = send_from(proxy, lb, &[header, b"7\n"].concat());
    match client.read(&mut [0]) {
        Ok(read) => read == 1,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            false
        }
    }
}

#[test]
fn allow_and_deny_are_for_the_client_and_deny_for_the_proxy_too() {
    let lists = ["--allow", "192.0.2.0/24", "--deny", "192.0.2.66,127.0.0.9"];
    for transport in ["proxy", "handoff"] {
        let lb = Lb::start(
            &[&FROM[..], &lists, &["--replicas", "1", "--workers", "1", "--transport", transport]].concat(),
        );
        for version in [0, 1] {
            let named = |client: &str| headers(client)[version].clone();
            assert!(serves(&lb, "127.0.0.1", &named("192.0.2.7:5000")));
            assert!(!serves(&lb, "127.0.0.1", &named("192.0.2.66:5000")), "denied");
            assert!(!serves(&lb, "127.0.0.1", &named("198.51.100.7:5000")), "not allowed");
            assert!(!serves(&lb, "127.0.0.1", &named("127.0.0.9:5000")), "denied");
        }
        // What names no client is the proxy's own, such as its check of the port.
        assert!(serves(&lb, "127.0.0.1", b"PROXY UNKNOWN\r\n"));
        assert!(serves(&lb, "127.0.0.1", &binary(0x20, 0, b"")));
        let denied = refused(&lb, "denied");
        assert_eq!(denied, 6);
    }
}

#[test]
fn a_proxy_that_is_denied_is_reset_before_its_header() {
    let lb = Lb::start(&[&FROM[..], &["--deny", "127.0.0.9", "--replicas", "1"]].concat());
    assert!(is_closed(send_from("127.0.0.9", &lb, b"")));
    assert_eq!(refused(&lb, "denied"), 1);
}

#[test]
fn the_limits_of_a_source_are_for_the_client_behind_the_proxy() {
    for transport in ["proxy", "handoff"] {
        let limits = ["--max-connections-per-source", "1", "--max-connections", "5"];
        let lb = Lb::start(&[&FROM[..], &limits, &["--replicas", "1", "--transport", transport]].concat());
        let hold = |client: &str, version: usize| {
            let mut stream = lb.connect();
            stream.write_all(&[&headers(client)[version], &b"7\n"[..]].concat()).unwrap();
            let mut answer = [0; 10];
            stream.read_exact(&mut answer).ok().map(|()| stream)
        };
        let one = hold("192.0.2.7:5000", 0).unwrap();
        let _two = hold("192.0.2.8:5000", 1).unwrap();
        let _network = hold("[2001:db8::1]:5000", 0).unwrap();
        assert!(hold("192.0.2.7:5001", 1).is_none(), "one source has one place");
        assert!(hold("[2001:db8::2]:5000", 1).is_none(), "the same /64");
        assert_eq!(refused(&lb, "per_source"), 2);
        drop(one);
        let _one = eventually("its place", || hold("192.0.2.7:5002", 0));
    }
}

#[test]
fn the_log_of_connections_names_the_client_behind_the_proxy() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("access.log");
    let format = "{client} {ending} {reason}";
    let log = ["--access-log", path.to_str().unwrap(), "--access-log-format", format];
    let lb = Lb::start(&[&FROM[..], &log, &["--replicas", "1", "--deny", "192.0.2.66"]].concat());
    answer(&lb, &[&headers("192.0.2.7:5000")[0], &b"7\n"[..]].concat());
    assert!(!serves(&lb, "127.0.0.1", &headers("192.0.2.66:5000")[1]));
    let broken = send_from("127.0.0.1", &lb, b"nonsense\n");
    let proxy = broken.local_addr().unwrap();
    assert!(is_closed(broken));
    let expected =
        ["192.0.2.7:5000 complete -", "192.0.2.66:5000 refused denied", &format!("{proxy} refused denied")];
    eventually("all lines", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        expected.iter().all(|line| text.lines().any(|found| found == *line)).then_some(())
    });
}
