//! A DNS server in the test's own process, which answers as it is told to, over UDP and TCP at one port (RFC 1035).
//!
//! It shares no code with the client that `lb` uses.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{eventually, patient};

/// The longest answer over UDP, to a question that allows no longer one.
const LONGEST_UDP: usize = 512;

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    A = 1,
    Cname = 5,
    Aaaa = 28,
    Srv = 33,
}

/// What a record says.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Address(IpAddr),
    /// A port and the name of a host.
    Srv(u16, String),
    /// The name is an alias of this one, to which the records after this one belong.
    Alias(String),
}

/// How a question is answered.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// With these records, each of this time to live in seconds, and the addresses of some hosts in addition.
    Records(u32, Vec<Record>, Vec<(String, IpAddr)>),
    /// With this code and no record.
    Code(u8),
    /// Not at all.
    Silence,
    /// With these bytes after the number of the question.
    Garbage(Vec<u8>),
    /// That the answer does not fit, over UDP as over TCP.
    Truncated,
}

pub(crate) const SERVFAIL: Say = Say::Code(2);
pub(crate) const NXDOMAIN: Say = Say::Code(3);

/// A question that was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) by_tcp: bool,
    pub(crate) at: Instant,
}

/// A server on loopback. What it was not told, it answers with no record.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Zone>,
}

#[derive(Default)]
struct Zone {
    says: Mutex<HashMap<(String, u16), Say>>,
    asked: Mutex<Vec<Asked>>,
}

impl NameServer {
    pub(crate) fn start() -> NameServer {
        let (tcp, udp) = eventually("a port that is free for both protocols", || {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let udp = UdpSocket::bind(tcp.local_addr().unwrap()).ok()?;
            Some((tcp, udp))
        });
        let address = tcp.local_addr().unwrap();
        let zone = Arc::<Zone>::default();
        let (over_udp, over_tcp) = (Arc::clone(&zone), Arc::clone(&zone));
        thread::spawn(move || serve_udp(&udp, &over_udp));
        thread::spawn(move || serve_tcp(&tcp, &over_tcp));
        NameServer { address, zone }
    }

    /// From now on it answers so.
    pub(crate) fn say(&self, name: &str, kind: Kind, say: Say) {
        self.zone.says.lock().unwrap().insert((name.to_owned(), kind as u16), say);
    }

    /// From now on the name has these IPv4 addresses.
    pub(crate) fn addresses(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let address = |text: &&str| Record::Address(text.parse().unwrap());
        self.say(name, Kind::A, Say::Records(ttl, addresses.iter().map(address).collect(), Vec::new()));
    }

    /// From now on the service has these targets, `HOST:PORT` each. Their addresses do not come with them.
    pub(crate) fn targets(&self, name: &str, ttl: u32, targets: &[&str]) {
        let target = |text: &&str| {
            let (host, port) = text.split_once(':').unwrap();
            Record::Srv(port.parse().unwrap(), host.to_owned())
        };
        self.say(name, Kind::Srv, Say::Records(ttl, targets.iter().map(target).collect(), Vec::new()));
    }

    /// The questions for a name so far.
    pub(crate) fn asked(&self, name: &str, kind: Kind) -> Vec<Asked> {
        let is_it = |asked: &&Asked| asked.name == name && asked.kind == kind as u16;
        self.zone.asked.lock().unwrap().iter().filter(is_it).cloned().collect()
    }

    /// Waits until the name is asked for this many more times.
    #[track_caller]
    pub(crate) fn wait_for_questions(&self, name: &str, kind: Kind, more: usize) {
        let before = self.asked(name, kind).len();
        eventually(&format!("{more} questions for {name}"), || {
            (self.asked(name, kind).len() >= before + more).then_some(())
        });
    }

    /// The flags of `lb` that make it ask here, often.
    pub(crate) fn flags(&self) -> Vec<String> {
        let address = self.address.to_string();
        let flags = ["--dns-server", &address, "--dns-min-interval", "50ms", "--dns-max-interval", "200ms"];
        flags.map(str::to_owned).into()
    }
}

fn serve_udp(socket: &UdpSocket, zone: &Zone) {
    let mut buffer = [0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer) {
        if let Some(answer) = zone.answer(&buffer[..length], false) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

fn serve_tcp(listener: &TcpListener, zone: &Arc<Zone>) {
    for stream in listener.incoming().map_while(Result::ok) {
        let zone = Arc::clone(zone);
        thread::spawn(move || {
            let mut stream = patient(stream);
            while let Some(answer) = question(&mut stream).and_then(|question| zone.answer(&question, true)) {
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                let _ = stream.write_all(&[&length, &answer[..]].concat());
            }
        });
    }
}

/// The next question on a connection: its length comes first.
fn question(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut question = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut question).ok()?;
    Some(question)
}

impl Zone {
    /// The answer to a message; `None` for silence.
    fn answer(&self, message: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let (name, end) = read_name(message, 12);
        let kind = u16::from_be_bytes([message[end], message[end + 1]]);
        let asked = Asked { name: name.clone(), kind, by_tcp, at: Instant::now() };
        let say = self.says.lock().unwrap().get(&(name, kind)).cloned();
        self.asked.lock().unwrap().push(asked);
        let head = Head { number: [message[0], message[1]], question: message[12..end + 4].to_vec() };
        let no_record = Say::Records(0, Vec::new(), Vec::new());
        Some(match say.unwrap_or(no_record) {
            Say::Silence => return None,
            Say::Garbage(bytes) => [&head.number[..], &bytes].concat(),
            Say::Code(code) => head.answer(false, code, &[], &[]),
            Say::Truncated => head.answer(true, 0, &[], &[]),
            Say::Records(ttl, records, addresses) => {
                let mut owner = vec![0xc0, 12]; // The name of the question.
                let record = |record: &Record| {
                    let bytes = record.bytes(&owner, ttl);
                    if let Record::Alias(real) = record {
                        owner = written(real);
                    }
                    bytes
                };
                let records: Vec<_> = records.iter().map(record).collect();
                let address =
                    |(host, address): &(String, IpAddr)| Record::Address(*address).bytes(&written(host), ttl);
                let addresses: Vec<_> = addresses.iter().map(address).collect();
                let whole = head.answer(false, 0, &records, &addresses);
                if by_tcp || whole.len() <= LONGEST_UDP { whole } else { head.answer(true, 0, &[], &[]) }
            }
        })
    }
}

/// What an answer repeats of its question.
struct Head {
    number: [u8; 2],
    question: Vec<u8>,
}

impl Head {
    fn answer(&self, is_truncated: bool, code: u8, records: &[Vec<u8>], more: &[Vec<u8>]) -> Vec<u8> {
        let count = |list: &[Vec<u8>]| u16::try_from(list.len()).unwrap().to_be_bytes();
        // An authoritative answer, recursion is available.
        let flags = [0x85 | if is_truncated { 2 } else { 0 }, 0x80 | code];
        let counts = [[0, 1], count(records), [0, 0], count(more)].concat();
        [&self.number[..], &flags, &counts, &self.question, &records.concat(), &more.concat()].concat()
    }
}

impl Record {
    fn bytes(&self, owner: &[u8], ttl: u32) -> Vec<u8> {
        let (kind, data) = match self {
            Record::Address(IpAddr::V4(address)) => (Kind::A as u16, address.octets().to_vec()),
            Record::Address(IpAddr::V6(address)) => (Kind::Aaaa as u16, address.octets().to_vec()),
            Record::Srv(port, host) => {
                let priority_and_weight = [0, 10, 0, 1];
                (Kind::Srv as u16, [&priority_and_weight[..], &port.to_be_bytes(), &written(host)].concat())
            }
            Record::Alias(host) => (Kind::Cname as u16, written(host)),
        };
        let length = u16::try_from(data.len()).unwrap();
        let class = [0, 1];
        [owner, &kind.to_be_bytes(), &class, &ttl.to_be_bytes(), &length.to_be_bytes(), &data].concat()
    }
}

/// The name at this place of a message, in lower case, and where it ends. A question has no pointers.
fn read_name(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    while message[at] > 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), at + 1)
}

/// A name as a message holds it.
fn written(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

/// The least time between two questions of a list.
pub(crate) fn least_pause(asked: &[Asked]) -> Duration {
    asked.windows(2).map(|two| two[1].at - two[0].at).min().unwrap()
}
