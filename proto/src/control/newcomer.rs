//! Replicas to add, as text names them: a hostname, or a server that runs already, with its address. Nothing here is looked up.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use super::value::{Hostname, Malformed, Weight};

/// Where a server is that runs already.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// At this address; its port is not 0.
    Address(SocketAddr),
    /// At the addresses of this host, and this port, which is not 0.
    Host(String, u16),
    /// At the Unix socket with this path, which is absolute.
    Unix(String),
}

/// What stands before the path of a Unix socket.
const UNIX: &str = "unix:";
/// The longest path of a Unix socket, in bytes (unix(7), `sun_path`, without its last NUL).
pub const LONGEST_SOCKET_PATH: usize = 107;

impl Location {
    /// Reads `HOST:PORT`: a name, an IPv4 address, or an IPv6 address in brackets, and a port that is not 0; or `unix:PATH` with an
    /// absolute path. `None` if it is no such text.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix(UNIX).filter(|path| path.starts_with('/')) {
            return is_servers_path(path).then(|| Location::Unix(path.to_owned()));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() > 0).then_some(Location::Address(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let host = Some(host).filter(|host| is_host_name(host))?;
        Some(Location::Host(host.to_owned(), read_port(port)?))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Address(address) => address.fmt(f),
            Location::Host(host, port) => write!(f, "{host}:{port}"),
            Location::Unix(path) => write!(f, "{UNIX}{path}"),
        }
    }
}

impl FromStr for Location {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        Location::read(text).ok_or_else(|| {
            let given = text.escape_debug();
            Malformed::new(format!("invalid value `{given}`: expected HOST:PORT, {HOSTS}"))
        })
    }
}

/// What may stand as HOST, for messages.
const HOSTS: &str = "with a name, an IPv4 address, or an IPv6 address in brackets as HOST, or unix:/PATH in place of HOST:PORT";

/// Whether it can be the path of a server's Unix socket: blanks and commas separate servers where there are several.
fn is_servers_path(path: &str) -> bool {
    let is_sound = |letter: char| !letter.is_whitespace() && !letter.is_control() && letter != ',';
    path.len() <= LONGEST_SOCKET_PATH && path.chars().all(is_sound)
}

/// A port that is not 0, in digits.
#[must_use]
pub fn read_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port: &u16| is_number && port > 0)
}

/// Whether it is the name of a host: RFC 1123, section 2.1, and `_`, which names of containers hold. A name whose last part is a
/// number would be a damaged IPv4 address.
#[must_use]
pub fn is_host_name(host: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_part = |part: &str| (1..=63).contains(&part.len()) && part.bytes().all(is_sound);
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(is_part) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// A server that runs already. Its text is `NAME=HOST:PORT` or `NAME=HOST:PORT,weight=W`, with `unix:/PATH` in place of `HOST:PORT` where it
/// listens at a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FixedBackend {
    /// The name of its slot.
    pub name: Hostname,
    /// Where it is.
    pub location: Location,
    /// The weight of its slot; `None`: the usual one.
    pub weight: Option<Weight>,
}

impl FixedBackend {
    /// The form of the text, for messages.
    #[must_use]
    pub fn form() -> String {
        let pattern = Hostname::PATTERN;
        format!("NAME=HOST:PORT, or NAME=HOST:PORT,weight=W, with a NAME of the form {pattern}, and {HOSTS}")
    }

    /// The weight of its slot.
    #[must_use]
    pub fn weight(&self) -> Weight {
        self.weight.unwrap_or_default()
    }

    /// Reads `NAME=HOST:PORT`. `None` if it is no such text.
    #[must_use]
    pub fn without_weight(text: &str) -> Option<Self> {
        let (name, location) = text.split_once('=')?;
        let name = Hostname::try_from(name.to_owned()).ok()?;
        Some(FixedBackend { name, location: Location::read(location)?, weight: None })
    }
}

impl fmt::Display for FixedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.location)?;
        self.weight.map_or(Ok(()), |weight| write!(f, ",weight={weight}"))
    }
}

impl FromStr for FixedBackend {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let refuse = |expected: &str| {
            Malformed::new(format!("invalid value `{}`: expected {expected}", text.escape_debug()))
        };
        let (server, weight) = match text.split_once(",weight=") {
            None => (text, None),
            Some((server, weight)) => {
                let weight = weight.parse::<u64>().ok().and_then(|weight| Weight::try_from(weight).ok());
                let weight = weight.ok_or_else(|| refuse(&format!("as weight {}", Weight::ALLOWED)))?;
                (server, Some(weight))
            }
        };
        let server = FixedBackend::without_weight(server).ok_or_else(|| refuse(&FixedBackend::form()))?;
        Ok(FixedBackend { weight, ..server })
    }
}

/// A replica to add.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Newcomer {
    /// One of this hostname; where it is, is known or found out.
    Named(Hostname),
    /// A server that runs already.
    Server(FixedBackend),
}

impl Newcomer {
    /// Its hostname.
    #[must_use]
    pub fn name(&self) -> &Hostname {
        match self {
            Newcomer::Named(name) | Newcomer::Server(FixedBackend { name, .. }) => name,
        }
    }

    /// The weight that its text gives.
    #[must_use]
    pub fn weight(&self) -> Option<Weight> {
        match self {
            Newcomer::Named(_) => None,
            Newcomer::Server(server) => server.weight,
        }
    }
}

impl From<Hostname> for Newcomer {
    fn from(name: Hostname) -> Self {
        Newcomer::Named(name)
    }
}

impl fmt::Display for Newcomer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Newcomer::Named(name) => name.fmt(f),
            Newcomer::Server(server) => server.fmt(f),
        }
    }
}

impl FromStr for Newcomer {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.contains('=') {
            return text.parse().map(Newcomer::Server);
        }
        Hostname::try_from(text.to_owned()).map(Newcomer::Named)
    }
}

/// Each of these travels as its text.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(Location, FixedBackend, Newcomer);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_newcomer_is_a_name_or_a_server_and_its_text_is_read_back() {
        for text in [
            "a",
            "S-5.x_y",
            "a=10.0.0.1:80",
            "a=[::1]:65535",
            "a=my_app-1:80,weight=0",
            "b=h.:1,weight=100",
            "a=unix:/run/app.sock",
            "a=unix:/a=b:c,weight=3",
            "a=unix:80",
        ] {
            let newcomer: Newcomer = text.parse().unwrap();
            assert_eq!(newcomer.to_string(), text);
            assert_eq!(newcomer.name().as_str(), text.split('=').next().unwrap());
            assert_eq!(matches!(newcomer, Newcomer::Server(_)), text.contains('='), "{text}");
            let json = serde_json::to_string(&newcomer).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Newcomer>(&json).unwrap(), newcomer);
        }
        let weights = ["a=h:1,weight=7", "a=h:1", "a"].map(|text| text.parse::<Newcomer>().unwrap().weight());
        assert_eq!(weights, [Weight::try_from(7).ok(), None, None]);
    }

    #[test]
    fn what_is_no_newcomer_is_refused_with_what_is_expected() {
        let long = format!("a=unix:/{}", "x".repeat(107));
        let servers = [
            "a=",
            "=h:1",
            "a=h",
            "a=h:0",
            "a=h:+1",
            "../a=h:1",
            "a=http://h:80",
            "a=300.0.0.1:80",
            "a=::1:80",
            "a=h:1,w=2",
            "a=h:1,",
            "a=h:1,b=h:2",
            "a=h:1, weight=2",
            "a=my host:80",
            "a=unix:",
            "a=unix:run/app.sock",
            "a=unix:/run/a b",
            "a=unix:/run/a,b",
            "a=unix:/run/\u{85}",
            long.as_str(),
        ];
        for text in servers {
            let message = text.parse::<Newcomer>().unwrap_err().to_string();
            let expected = format!("invalid value `{}`: expected NAME=HOST:PORT, or ", text.escape_debug());
            assert!(message.starts_with(&expected), "{message}");
        }
        for text in ["a=h:1,weight=101", "a=h:1,weight=", "a=h:1,weight=x", "a=h:1,weight=-1"] {
            let message = text.parse::<Newcomer>().unwrap_err().to_string();
            assert_eq!(
                message,
                format!("invalid value `{text}`: expected as weight a whole number from 0 to 100")
            );
        }
        for text in ["", "../x", "a:80", "10.0.0.1:80"] {
            let message = text.parse::<Newcomer>().unwrap_err().to_string();
            assert!(message.contains("expected a hostname of the form ["), "{message}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_in_the_same_way(text in "(a=unix:/)?[a=h.:0-9\\[\\],weight -]{0,24}") {
            if let Ok(newcomer) = text.parse::<Newcomer>() {
                prop_assert_eq!(newcomer.to_string().parse::<Newcomer>().unwrap(), newcomer);
            }
        }
    }
}
