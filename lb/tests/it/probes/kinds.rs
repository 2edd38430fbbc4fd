//! Each kind of probe against servers that answer well, and that do not.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use super::OFTEN;
use crate::harness::{Lb, Replica, eventually, fixed, flags, patient};

/// A server that answers the first bytes of each connection with what its script says at the moment, and then waits for the client's end.
struct Scripted {
    address: SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
    /// What clients have sent.
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Scripted {
    /// `speaks_first`: it does not wait for the client.
    fn start(answer: &[u8], speaks_first: bool) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Scripted {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer.to_vec())),
            asked: Arc::default(),
        };
        let (script, asked) = (Arc::clone(&server.answer), Arc::clone(&server.asked));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
                thread::spawn(move || {
                    let mut stream = patient(stream);
                    let mut first = vec![0; 4096];
                    let n = if speaks_first { 0 } else { stream.read(&mut first).unwrap_or(0) };
                    asked.lock().unwrap().push(first[..n].to_vec());
                    let answer = script.lock().unwrap().clone();
                    // A byte at a time: no judge may ask for whole packets.
                    for byte in answer {
                        let _ = stream.write_all(&[byte]);
                    }
                    let _ = stream.shutdown(Shutdown::Write);
                    let _ = stream.read(&mut [0]);
                });
            }
        });
        server
    }

    fn answers(&self, answer: &[u8]) {
        *self.answer.lock().unwrap() = answer.to_vec();
    }

    fn asked(&self) -> Vec<u8> {
        self.asked.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

/// Checks that a server is up while it gives the good answer, and down while it gives a bad one, for the reason.
#[track_caller]
fn check(probe: &str, good: &[u8], bad: &[(&[u8], &str)]) {
    let server = Scripted::start(good, probe.starts_with("line:="));
    let fleet = fixed(&[server.address]);
    let lb =
        Lb::start(&[&flags(&fleet)[..], &OFTEN, &["--health-timeout", "20s", "--health", probe]].concat());
    for (answer, reason) in bad {
        server.answers(answer);
        lb.wait_for_state(1, "down");
        lb.wait_for_log(reason);
        server.answers(good);
        lb.wait_for_state(1, "up");
    }
}

#[test]
fn a_server_is_asked_in_its_own_words() {
    let wrong: [(&[u8], &str); 2] =
        [(b"-ERR\r\n", "probe: it answers \\\"-"), (b"", "probe: the connection is closed before an answer")];
    check(r"line:PING\x3d1\r\n=+PONG\r\n", b"+PONG\r\n", &wrong);
    check("line:=220 ", b"220 mail.example\r\n", &[(b"554 no\r\n", "probe: it answers")]);
    let server = Scripted::start(b"+PONG", false);
    let fleet = fixed(&[server.address]);
    let _lb = Lb::start(&[&flags(&fleet)[..], &["--health", r"line:a\x3db\r\n=+PONG"]].concat());
    assert_eq!(server.asked(), b"a=b\r\n");
}

#[test]
fn a_redis_server_that_loads_is_not_ready() {
    let loading = b"-LOADING Redis is loading the dataset in memory\r\n";
    let wrong: [(&[u8], &str); 2] =
        [(loading, "-LOADING Redis is loading the dataset"), (b"+PO", "closed before an answer")];
    check("redis", b"+PONG\r\n", &wrong);
    check("redis", b"-NOAUTH Authentication required.\r\n", &wrong[..1]);
}

#[test]
fn a_postgres_server_that_starts_is_not_ready() {
    let starting = b"E\0\0\0\x37SFATAL\0C57P03\0Mthe database system is starting up\0\0";
    let wrong: [(&[u8], &str); 2] = [
        (starting, "the database system is starting up"),
        (b"HTTP/1.1 400\r\n\r\n", "probe: it speaks no PostgreSQL"),
    ];
    check("postgres", b"R\0\0\0\x08\0\0\0\x03", &wrong);
    check("postgres", b"E\0\0\0\x17SFATAL\0C28P01\0Mno\0\0", &[]);
}

#[test]
fn a_tls_server_is_one_that_answers_like_one() {
    let wrong: [(&[u8], &str); 2] = [
        (b"\x15\x03\x03\0\x02\x02\x50", "probe: it answers with the TLS alert 80"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "probe: it speaks no TLS"),
    ];
    check("tls", b"\x16\x03\x03\0\x7a\x02\0\0\x76", &wrong);
    check("tls", b"\x15\x03\x03\0\x02\x02\x28", &[]);
}

#[test]
fn a_silent_server_fails_each_kind_at_the_deadline() {
    for probe in ["redis", "postgres", "tls", "line:a=b", "line:=b", "http:/"] {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let fleet = fixed(&[silent.local_addr().unwrap()]);
        let lb = Lb::launch(
            &[&flags(&fleet)[..], &OFTEN, &["--health-timeout", "30ms", "--health", probe]].concat(),
        );
        lb.wait_for_state(1, "down");
        lb.wait_for_log("probe: no answer within 30ms");
    }
}

/// An HTTP server that keeps the lines of each request, and answers by its path with a status.
fn http_server(
    statuses: &'static [(&'static str, &'static str)],
) -> (SocketAddr, Arc<Mutex<BTreeMap<String, String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<BTreeMap<String, String>>>::default());
    let requests = Arc::clone(&seen);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok).map(patient) {
            let reader = BufReader::new(stream.try_clone().unwrap());
            let lines: Vec<String> =
                reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let Some(first) = lines.first().cloned() else { continue };
            let status = statuses
                .iter()
                .find(|(path, _)| first.contains(path))
                .map_or("404 Not Found", |(_, status)| status);
            requests.lock().unwrap().insert(first, lines.join("\n").to_lowercase());
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (address, seen)
}

#[test]
fn a_probe_by_http_has_a_method_a_host_and_good_statuses_of_its_own() {
    let (address, seen) = http_server(&[("/odd", "503 Busy"), ("/moved", "302 Found"), ("/fine", "200 OK")]);
    let fleet = fixed(&[address]);
    let launch = |more: &str| {
        let more: Vec<&str> = more.split_whitespace().collect();
        Lb::launch(&[&flags(&fleet)[..], &OFTEN, &more].concat())
    };
    let lb = launch(
        "--health http:/odd?a=b --health-expect 204,500-503 --health-host app.example:81 --health-method HEAD",
    );
    lb.wait_for_state(1, "up");
    let request = seen.lock().unwrap().get("HEAD /odd?a=b HTTP/1.1").cloned().unwrap();
    assert!(request.contains("\nhost: app.example:81"), "{request}");
    launch("--health http:/moved").wait_for_state(1, "up");
    let lb = launch("--health http:/moved --health-expect 200-299");
    lb.wait_for_state(1, "down");
    lb.wait_for_log("probe: status 302 Found");
}

#[test]
fn another_port_can_be_probed() {
    let (health, _) = http_server(&[("/fine", "200 OK")]);
    let replica = Replica::named("one");
    let fleet = fixed(&[replica.address]);
    let port = health.port().to_string();
    let lb = Lb::start(&[&flags(&fleet)[..], &["--health", "http:/fine", "--health-port", &port]].concat());
    assert_eq!(lb.exchange(b"7\n"), b"one");
    assert_eq!(lb.slot(1)["address"], replica.address.to_string(), "sessions go to the port of the replica");
    replica.leave();
    eventually("a session that finds none", || lb.exchange(b"7\n").is_empty().then_some(()));
}
