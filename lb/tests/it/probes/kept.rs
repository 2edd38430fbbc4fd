//! The connection that is kept for the probes of a replica: when there is one, and when it is not used.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{OFTEN, probed};
use crate::harness::{Lb, eventually, fixed, flags, patient};

/// A server of lines or of HTTP that answers question after question on each connection.
struct Server {
    listener: TcpListener,
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    questions: AtomicUsize,
    /// Closes each connection after one answer.
    closes: AtomicBool,
    /// Answers no question on a connection that has had one.
    hangs: AtomicBool,
    /// Second questions on a connection.
    again: AtomicUsize,
    /// Connections that ended with a reset.
    resets: AtomicUsize,
}

/// A server that speaks first, and then answers.
const GREETING: &str = "220 mail.example\r\n...250 fine\r\n";
/// A head of HTTP that needs no body.
const FINE: &str = "HTTP/1.1 204 No Content\r\n\r\n";

impl Server {
    /// `at_once`: connections are served beside each other.
    fn start(answer: &'static str, at_once: bool) -> Server {
        Server::at("127.0.0.1:0".parse().unwrap(), answer, at_once)
    }

    fn at(address: SocketAddr, answer: &'static str, at_once: bool) -> Server {
        let listener = TcpListener::bind(address).unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
        let (acceptor, shared) = (listener.try_clone().unwrap(), Arc::clone(&seen));
        let one_at_a_time = Arc::new(Mutex::new(()));
        thread::spawn(move || {
            for stream in acceptor.incoming().map_while(Result::ok) {
                let (seen, one) = (Arc::clone(&shared), Arc::clone(&one_at_a_time));
                thread::spawn(move || {
                    let _turn = (!at_once).then(|| one.lock().unwrap_or_else(PoisonError::into_inner));
                    seen.connections.fetch_add(1, Ordering::Relaxed);
                    seen.serve(patient(stream), answer);
                });
            }
        });
        Server { listener, address, seen }
    }

    fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }

    fn questions(&self) -> usize {
        self.seen.questions.load(Ordering::Relaxed)
    }

    /// Waits for so many more questions.
    #[track_caller]
    fn wait_for_questions(&self, more: usize) {
        let before = self.questions();
        eventually("more probes", || (self.questions() >= before + more).then_some(()));
    }
}

impl Seen {
    fn serve(&self, mut stream: TcpStream, answer: &str) {
        let reader = BufReader::new(stream.try_clone().unwrap());
        let mut is_first = true;
        let (greeting, answer) = answer.split_once("...").unwrap_or(("", answer));
        if stream.write_all(greeting.as_bytes()).is_err() {
            return;
        }
        // A question is over with an empty line of HTTP, or with its only one.
        for line in reader.lines() {
            let Ok(line) = line.inspect_err(|_| _ = self.resets.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            if answer == FINE && !line.is_empty() {
                continue;
            }
            self.questions.fetch_add(1, Ordering::Relaxed);
            self.again.fetch_add(usize::from(!is_first), Ordering::Relaxed);
            if self.hangs.load(Ordering::Relaxed) && !is_first {
                continue;
            }
            is_first = false;
            if stream.write_all(answer.as_bytes()).is_err() || self.closes.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

fn start(server: &Server, probe: &str, more: &[&str]) -> Lb {
    let fleet = fixed(&[server.address]);
    Lb::start(&[&flags(&fleet)[..], &OFTEN, &["--health", probe], more].concat())
}

const CALM: [&str; 2] = ["--health-timeout", "20s"];

#[test]
fn a_healthy_replica_is_asked_on_one_connection_many_times() {
    for (answer, probe) in [(FINE, "http:/"), ("+PONG\r\n", r"line:PING\r\n=+PONG")] {
        let server = Server::start(answer, true);
        let lb = start(&server, probe, &CALM);
        server.wait_for_questions(100);
        let connections = server.connections();
        assert!((5..=20).contains(&connections), "{probe}: {connections} connections");
        assert!(!lb.log().iter().any(|line| line.contains("probe: ")));
    }
}

#[test]
fn a_server_that_closes_after_each_answer_is_asked_anew_and_is_up() {
    for (answer, probe) in [(FINE, "http:/"), ("+PONG\r\n", r"line:PING\r\n=+PONG")] {
        let server = Server::start(answer, true);
        let lb = start(&server, probe, &CALM);
        server.wait_for_questions(30);
        server.seen.closes.store(true, Ordering::Relaxed);
        server.wait_for_questions(50);
        assert_eq!(lb.slot(1)["state"], "up");
        assert!(!lb.log().iter().any(|line| line.contains("probe: ")), "{probe}: {:?}", lb.log());
    }
}

#[test]
fn what_may_be_said_only_once_on_a_connection_is_said_once_and_no_connection_is_cut_off() {
    for (answer, probe, most) in [
        // MQTT answers so.
        ("\x20\x02\0\0", r"line:CONNECT\n=\x20\x02\x00\x00", 0),
        // The answer may be later than the next probe, once.
        (GREETING, r"line:NOOP\r\n=220 ", 1),
    ] {
        let server = Server::start(answer, true);
        let lb = start(&server, probe, &CALM);
        server.wait_for_questions(60);
        let [again, resets] = [&server.seen.again, &server.seen.resets].map(|n| n.load(Ordering::Relaxed));
        assert!(
            again <= most && resets == 0,
            "{probe}: {again} questions on a connection that had one, {resets} resets"
        );
        assert!(!lb.log().iter().any(|line| line.contains("probe: ")), "{probe}: {:?}", lb.log());
    }
}

#[test]
fn a_server_with_one_thread_serves_clients_beside_its_probes() {
    let server = Server::start(FINE, false);
    // The look at whether it answers two connections ends at the deadline; after that, nothing is late.
    let lb = start(&server, "http:/", &["--fall", "5", "--health-timeout", "1s"]);
    server.wait_for_questions(5);
    for _ in 0..20 {
        let answer = lb.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(answer.starts_with(b"HTTP/1.1 204"), "{}", answer.escape_ascii());
        server.wait_for_questions(1);
    }
    assert_eq!(lb.slot(1)["state"], "up");
}

#[test]
fn a_server_that_is_started_again_with_one_thread_is_known_as_such() {
    let before = Server::start(FINE, true);
    let lb = start(&before, "http:/", &["--fall", "5", "--health-timeout", "1s"]);
    before.wait_for_questions(30);
    assert!(before.connections() < 15, "it keeps connections");
    socket2::SockRef::from(&before.listener).shutdown(std::net::Shutdown::Both).unwrap();
    lb.wait_for_state(1, "down");
    let address = before.address;
    drop(before);
    let now = Server::at(address, FINE, false);
    lb.wait_for_state(1, "up");
    now.wait_for_questions(60);
    assert!(now.connections() + 1 >= now.questions(), "{} connections", now.connections());
    assert_eq!(lb.slot(1)["state"], "up");
}

#[test]
fn a_kept_connection_hides_neither_a_listener_that_is_gone_nor_a_server_that_hangs() {
    let gone = Server::start(FINE, true);
    let lb = start(&gone, "http:/", &CALM);
    gone.wait_for_questions(30);
    socket2::SockRef::from(&gone.listener).shutdown(std::net::Shutdown::Both).unwrap();
    lb.wait_for_state(1, "down");
    let hung = Server::start(FINE, true);
    let lb = start(&hung, "http:/", &["--health-timeout", "100ms"]);
    hung.wait_for_questions(30);
    hung.seen.hangs.store(true, Ordering::Relaxed);
    eventually("a probe that fails", || {
        (lb.slot(1)["state"] == "up" && probed(&lb, "failed") > 0).then_some(())
    });
}

/// Prints what the probes of 1,000 replicas cost: `cargo test --release -p lb --test it -- --ignored --nocapture what_the_probes`.
#[test]
#[ignore = "it measures for half a minute, and says nothing on a busy machine"]
fn what_the_probes_of_a_thousand_replicas_cost() {
    const REPLICAS: usize = 1000;
    let server = Server::start(FINE, true);
    // One server at a thousand addresses.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::clone(&server.seen);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let seen = Arc::clone(&seen);
            thread::Builder::new().stack_size(64 << 10).spawn(move || seen.serve(stream, FINE)).unwrap();
        }
    });
    let host = |n: usize| SocketAddr::from(([127, 1, (n >> 8) as u8, n as u8], port));
    let fleet: Vec<String> = (0..REPLICAS).map(|n| format!("s{n}={}", host(n))).collect();
    let fleet = fleet.join(",");
    let lb = Lb::start(&["--provider", "fixed", "--backend", &fleet, "--health", "http:/", "--points", "10"]);
    server.wait_for_questions(REPLICAS * 4);
    let (begun, before, asked) = (Instant::now(), cpu_time(lb.pid()), server.questions());
    server.wait_for_questions(REPLICAS * 40);
    let (spent, passed) = (cpu_time(lb.pid()) - before, begun.elapsed());
    let share = 100.0 * spent.as_secs_f64() / passed.as_secs_f64();
    let rate = (server.questions() - asked) as f64 / passed.as_secs_f64();
    println!("{REPLICAS} replicas, {rate:.0} probes a second: {share:.1} % of a core");
}

/// The time for which a process has run (proc_pid_stat(5): fields 14 and 15, in hundredths of a second).
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
}
