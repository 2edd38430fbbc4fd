//! A client of the control port for tests, in both languages; it shares no code with `lb`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};

use crate::harness::Lb;

/// `lb` whose replicas stay in rotation: the probes are so patient that a slow machine fails none.
pub(crate) fn calm(flags: &[&str]) -> Lb {
    let patience = ["--health-interval", "1m", "--health-timeout", "30s", "--start-timeout", "50s"];
    Lb::start(&[&patience, flags].concat())
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Response {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A connection to the control port.
pub(crate) struct Conversation(BufReader<TcpStream>);

impl Conversation {
    pub(crate) fn with(lb: &Lb) -> Self {
        Conversation(BufReader::new(lb.dial(lb.control)))
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }

    /// Sends bytes.
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream().write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Ends the direction to `lb`.
    pub(crate) fn finish(&mut self) -> &mut Self {
        self.stream().shutdown(Shutdown::Write).unwrap();
        self
    }

    /// The next line, without its line feed.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "no whole line: {line:?}");
        line.trim_end().to_owned()
    }

    /// The next answer over HTTP.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        let (mut head, mut body) = (String::new(), String::new());
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "no whole head: {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: String::new() };
        let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        self.0.by_ref().take(length).read_to_string(&mut body).unwrap();
        assert_eq!(body.len() as u64, length, "{response:?}");
        response.body = body;
        response
    }

    /// Everything until `lb` ends its direction; a reset is a failure.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// A request over HTTP; `more` are header lines.
pub(crate) fn request(line: &str, more: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{line} HTTP/1.1\r\nHost: lb\r\n{more}{length}\r\n{body}")
}

/// The answer to one request over HTTP.
#[track_caller]
pub(crate) fn http(lb: &Lb, line: &str, body: &str) -> Response {
    Conversation::with(lb).say(request(line, "", body)).response()
}

/// One language: sends a command and returns the text of the answer.
pub(crate) type Ask = fn(&Lb, &Value) -> String;

/// The two languages of the control port.
pub(crate) const LANGUAGES: [Ask; 2] = [by_line, by_http];

pub(crate) fn by_line(lb: &Lb, command: &Value) -> String {
    Conversation::with(lb).say(format!("{command}\n")).line()
}

pub(crate) fn by_http(lb: &Lb, command: &Value) -> String {
    let (line, body) = as_http(command);
    http(lb, &line, &body).body
}

/// The HTTP request line and body for the command of a JSON line.
pub(crate) fn as_http(command: &Value) -> (String, String) {
    let mut fields = command.as_object().unwrap().clone();
    fields.remove("token");
    let line = match fields.remove("cmd").unwrap().as_str().unwrap() {
        "add" => return ("POST /add".to_owned(), Value::from(fields).to_string()),
        "rm" => return ("DELETE /rm".to_owned(), Value::from(fields).to_string()),
        "kill" => return ("POST /kill".to_owned(), Value::from(fields).to_string()),
        "explain" => format!("GET /explain?id={}", fields["id"].as_str().unwrap()),
        "health" => "GET /healthz".to_owned(),
        "mapping" if !fields.is_empty() => {
            return ("PUT /mapping".to_owned(), Value::from(fields).to_string());
        }
        "plan" => return ("POST /plan".to_owned(), fields["change"].to_string()),
        other => format!("GET /{other}"),
    };
    (line, String::new())
}

/// One of each command; those that change something are in a form that is always refused.
pub(crate) fn one_of_each() -> [Value; 10] {
    [
        json!({"cmd": "rep"}),
        json!({"cmd": "add", "n": 1, "hostnames": ["a", "b"]}),
        json!({"cmd": "rm", "n": 1, "hostnames": ["a", "b"]}),
        json!({"cmd": "kill", "hostname": "stranger"}),
        json!({"cmd": "backends"}),
        json!({"cmd": "explain", "id": "132574"}),
        json!({"cmd": "health"}),
        json!({"cmd": "mapping"}),
        json!({"cmd": "mapping", "points": 0}),
        json!({"cmd": "plan", "change": {"cmd": "rm", "n": 1}}),
    ]
}

/// The message of a failure; the rest of its text is checked.
#[track_caller]
pub(crate) fn refused(text: &str) -> String {
    let message =
        serde_json::from_str::<Value>(text).unwrap()["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.starts_with("<Error> "), "{text}");
    assert_eq!(text, format!(r#"{{"message":{},"status":"failure"}}"#, json!(message)));
    message
}

/// The text of a successful answer to `rep`, `add` and `rm`.
pub(crate) fn listing(hostnames: &[&str]) -> String {
    let n = hostnames.len();
    format!(r#"{{"message":{{"N":{n},"replicas":{}}},"status":"successful"}}"#, json!(hostnames))
}

/// The hostnames in the text of a successful answer to `rep`, `add` and `rm`.
#[track_caller]
pub(crate) fn listed(text: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(text).unwrap();
    let hostnames: Vec<String> = serde_json::from_value(answer["message"]["replicas"].clone())
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(text, listing(&hostnames.iter().map(String::as_str).collect::<Vec<_>>()));
    hostnames
}
