//! Sends every command to the control port, right and wrong, in both of its protocols, and compares the answers with the
//! documented ones.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::balance::THREE;
use super::wire::{Ask, Reply};
use super::{Setting, Subject, mapping, wire};
use crate::data::Check;
use crate::shown::Bar;
use crate::stand::{Lb, sibling};

const TOKEN: &str = "a-token-of-bench";
/// How long `lb` tries to start a replica that never becomes ready.
const START_TIMEOUT: &str = "2s";

/// The answer that is right.
#[derive(Clone, Copy, Debug)]
enum Right {
    /// A success with these replicas, by name.
    Replicas(&'static [&'static str]),
    /// A success with this number of replicas.
    Count(usize),
    /// A success with a message that the function accepts; the text describes it.
    Done(&'static str, fn(&Value) -> bool),
    /// A failure with this HTTP status and these words in its message.
    Refused(u16, &'static str),
}

struct Case {
    what: &'static str,
    ask: Ask,
    right: Right,
}

/// Sends every command and notes each answer.
pub(super) async fn run(setting: Setting<'_>, found: &mut Vec<Check>) -> anyhow::Result<()> {
    let subject = Subject::of(setting.args, &mapping("ring"), THREE).await?;
    let address = subject.control.context("the lb has no control port")?;
    let cases: Vec<Case> = queries().chain(changes()).chain(refusals()).chain(odd_requests()).collect();
    let bar = Bar::new(cases.len() as u64, "control port", "commands");
    for case in cases {
        setting.go_on()?;
        found.extend(setting.stop.run_until_cancelled(check(address, case)).await);
        bar.step(found.iter().filter(|check| !check.passed).count() as u64);
    }
    drop(subject);
    let more = async {
        // One after the other, so that an lb that does not start loses no earlier check.
        found.extend(with_token().await?);
        found.extend(with_a_doomed_replica().await?);
        found.extend(without_replicas().await?);
        anyhow::Ok(())
    };
    setting.stop.run_until_cancelled(more).await.unwrap_or(Ok(()))?;
    setting.go_on()
}

async fn check(address: SocketAddr, Case { what, ask, right }: Case) -> Check {
    let answer = wire::ask(address, &ask).await;
    let passed = answer.as_ref().is_ok_and(|answer| right.fits(answer));
    let answer = answer.map_or_else(|error| format!("{error:#}"), |answer| answer.to_string());
    let (request, expected) = (ask.to_string(), right.to_string());
    Check { what: what.to_owned(), request, expected, answer, passed }
}

async fn all(address: SocketAddr, cases: impl IntoIterator<Item = Case>) -> Vec<Check> {
    let mut checks = Vec::new();
    for case in cases {
        checks.push(check(address, case).await);
    }
    checks
}

impl Right {
    fn fits(self, answer: &Reply) -> bool {
        let message = &answer.message;
        let names = || message["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
        match self {
            Right::Refused(status, words) => {
                let text = message.as_str().unwrap_or_default();
                !answer.is_success
                    && answer.status.is_none_or(|found| found == status)
                    && text.starts_with("<Error> ")
                    && text.contains(words)
            }
            Right::Replicas(wanted) => answer.is_good() && message["N"] == wanted.len() && names() == wanted,
            Right::Count(wanted) => answer.is_good() && message["N"] == wanted && names().len() == wanted,
            Right::Done(_, is_right) => answer.is_good() && is_right(message),
        }
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Right::Replicas(names) => write!(f, "200, N = {}: {}", names.len(), names.join(", ")),
            Right::Count(count) => write!(f, "200, N = {count}"),
            Right::Done(words, _) => write!(f, "200, {words}"),
            Right::Refused(status, words) => write!(f, "{status}, \"{words}\""),
        }
    }
}

const INITIAL: Right = Right::Replicas(&["server1", "server2", "server3"]);

/// A command in both protocols.
fn both(what: &'static str, cmd: &'static str, fields: &Value, right: Right) -> [Case; 2] {
    [line(what, cmd, fields, right), http(what, cmd, fields, right)]
}

fn line(what: &'static str, cmd: &str, fields: &Value, right: Right) -> Case {
    let mut command = Map::from_iter([("cmd".to_owned(), json!(cmd))]);
    command.extend(fields.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    Case { what, ask: Ask::Line(Value::Object(command).to_string()), right }
}

fn http(what: &'static str, cmd: &str, fields: &Value, right: Right) -> Case {
    let (method, path) = match cmd {
        "add" => ("POST", "/add".to_owned()),
        "rm" => ("DELETE", "/rm".to_owned()),
        "health" => ("GET", "/healthz".to_owned()),
        "explain" => ("GET", format!("/explain?id={}", fields["id"].as_str().unwrap_or_default())),
        other => ("GET", format!("/{other}")),
    };
    let body = if method == "GET" { String::new() } else { fields.to_string() };
    Case { what, ask: Ask::http(method, &path, &body), right }
}

fn queries() -> impl Iterator<Item = Case> {
    let slots = |message: &Value| {
        let slots = message["backends"].as_array().map(Vec::as_slice).unwrap_or_default();
        slots.len() == THREE && slots.iter().all(|slot| slot["state"] == "up" && slot["address"].is_string())
    };
    let explained = |message: &Value| {
        let candidates = message["candidates"].as_array().map(Vec::as_slice).unwrap_or_default();
        candidates.len() == THREE
            && message["pick"] == candidates[0]["hostname"]
            && message["key"] == "132574"
    };
    [
        both("lists the replicas", "rep", &json!({}), INITIAL),
        both("shows every slot", "backends", &json!({}), Right::Done("three slots that are up", slots)),
        both(
            "explains an id",
            "explain",
            &json!({"id": "132574"}),
            Right::Done("the first candidate is the pick", explained),
        ),
        both(
            "reports its health",
            "health",
            &json!({}),
            Right::Done("up: 3", |message| message["up"] == THREE),
        ),
    ]
    .into_iter()
    .flatten()
    .chain([line("lists the replicas, under another name", "replicas", &json!({}), INITIAL)])
}

fn changes() -> impl Iterator<Item = Case> {
    let five = Right::Replicas(&["server1", "server2", "server3", "S5", "S4"]);
    let four = Right::Replicas(&["server1", "server2", "server3", "S4"]);
    [
        http("adds two by name", "add", &json!({"n": 2, "hostnames": ["S5", "S4"]}), five),
        line("removes one by name", "rm", &json!({"n": 1, "hostnames": ["S5"]}), four),
        http("removes one by name", "rm", &json!({"n": 1, "hostnames": ["S4"]}), INITIAL),
        line(
            "adds one with a name and one without",
            "add",
            &json!({"n": 2, "hostnames": ["S6"]}),
            Right::Count(5),
        ),
        line("removes two, under another name", "remove", &json!({"n": 2}), Right::Count(3)),
        http("adds one without a name", "add", &json!({"n": 1}), Right::Count(4)),
        Case {
            what: "removes with POST too",
            ask: Ask::http("POST", "/rm", r#"{"n":1}"#),
            right: Right::Count(3),
        },
    ]
    .into_iter()
}

/// Commands that are refused and change nothing, which the last row checks.
fn refusals() -> impl Iterator<Item = Case> {
    let bad = |words| Right::Refused(400, words);
    let more_added = bad("Length of hostname list is more than newly added instances");
    let more_removed = bad("Length of hostname list is more than removable instances");
    let two = json!({"n": 1, "hostnames": ["S8", "S9"]});
    [
        both("more names than it adds", "add", &two, more_added),
        both("more names than it removes", "rm", &two, more_removed),
        both("n is missing", "add", &json!({}), bad("`n`")),
        both("n is zero", "add", &json!({"n": 0}), bad("at least 1")),
        both("n is negative", "rm", &json!({"n": -1}), bad("at least 1")),
        both("n is not a whole number", "add", &json!({"n": 1.5}), bad("whole number")),
        both("n is text", "add", &json!({"n": "1"}), bad("whole number")),
        both("n is larger than the fleet", "rm", &json!({"n": 99}), bad("99")),
        both("an unknown field", "add", &json!({"n": 1, "color": "red"}), bad("color")),
        both("a repeated name", "add", &json!({"n": 2, "hostnames": ["S8", "S8"]}), bad("S8")),
        both("an unknown name", "rm", &json!({"n": 1, "hostnames": ["S8"]}), bad("S8")),
        both("an invalid name", "add", &json!({"n": 1, "hostnames": ["../x"]}), bad("[A-Za-z0-9]")),
    ]
    .into_iter()
    .flatten()
    .chain([
        line("an unknown command", "dance", &json!({}), bad("dance")),
        Case { what: "a line that is not JSON", ask: Ask::Line(r#"{"cmd":"#.to_owned()), right: bad("JSON") },
        Case { what: "a body that is not JSON", ask: Ask::http("POST", "/add", "{"), right: bad("JSON") },
    ])
}

fn odd_requests() -> impl Iterator<Item = Case> {
    let of_origin = |origin: &str| Ask::Http {
        method: "GET",
        path: "/rep".to_owned(),
        fields: format!("Origin: {origin}\r\n"),
        body: String::new(),
    };
    let three = Right::Count(THREE);
    [
        ("an unknown path", Ask::http("GET", "/nowhere", ""), Right::Refused(404, "/nowhere")),
        ("a wrong method", Ask::http("GET", "/add", ""), Right::Refused(405, "POST")),
        (
            "a body over 64 KiB",
            Ask::http("POST", "/add", &" ".repeat(65 * 1024)),
            Right::Refused(413, "65536 bytes"),
        ),
        ("a body that never ends", Ask::Endless, Right::Refused(408, "10s")),
        (
            "a request from a foreign web page",
            of_origin("http://example.com"),
            Right::Refused(403, "loopback origin"),
        ),
        ("a request from a web page of this host", of_origin("http://localhost:8080"), three),
        ("the refused commands changed nothing", Ask::http("GET", "/rep", ""), three),
    ]
    .into_iter()
    .map(|(what, ask, right)| Case { what, ask, right })
}

fn flags(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|&flag| flag.to_owned()).collect()
}

/// An `lb` that requires a token.
async fn with_token() -> anyhow::Result<Vec<Check>> {
    let lb = Lb::start(&flags(&["--replicas", "1", "--control-token", TOKEN]), None).await?;
    let bearer = |token: &str| Ask::Http {
        method: "GET",
        path: "/rep".to_owned(),
        fields: format!("Authorization: Bearer {token}\r\n"),
        body: String::new(),
    };
    let (one, refused) = (Right::Replicas(&["server1"]), Right::Refused(401, "token"));
    let cases = [
        both("a missing token", "rep", &json!({}), refused).into_iter().collect::<Vec<_>>(),
        vec![
            line("a wrong token", "rep", &json!({"token": "wrong"}), refused),
            Case { what: "a wrong token", ask: bearer("wrong"), right: refused },
            line("the right token", "rep", &json!({"token": TOKEN}), one),
            Case { what: "the right token", ask: bearer(TOKEN), right: one },
        ],
    ];
    Ok(all(lb.control, cases.into_iter().flatten()).await)
}

/// An `lb` whose replica never becomes ready under one hostname.
async fn with_a_doomed_replica() -> anyhow::Result<Vec<Check>> {
    let backend = sibling("backend")?;
    let command =
        format!(r#"test "$SERVER_ID" != doomed && exec '{}' --listen 127.0.0.1:{{port}}"#, backend.display());
    let lb = Lb::start(
        &flags(&["--replicas", "1", "--start-timeout", START_TIMEOUT, "--command", &command]),
        None,
    )
    .await?;
    let one = || http("the other replica is stopped again", "rep", &json!({}), Right::Replicas(&["server1"]));
    let refused = Right::Refused(502, "exit status");
    let doomed = json!({"n": 2, "hostnames": ["fine", "doomed"]});
    let cases = [http("a replica cannot be started", "add", &doomed, refused), one()];
    Ok(all(lb.control, cases).await)
}

/// An `lb` whose only replica does not run: the answers of its control port and of its data port.
async fn without_replicas() -> anyhow::Result<Vec<Check>> {
    // No server listens on port 1.
    let lb = Lb::launch(&flags(&["--provider", "fixed", "--backend", "gone=127.0.0.1:1"]), None).await?;
    let unwell = both(
        "no replica is in rotation",
        "health",
        &json!({}),
        Right::Refused(503, "no server replica is available"),
    );
    let mut checks = all(lb.control, unwell).await;
    let client = Case {
        what: "a client, when no replica is available",
        ask: Ask::http("GET", "/home?id=132574", ""),
        right: Right::Refused(503, "<Error> no server replica is available"),
    };
    checks.push(check(lb.data, client).await);
    Ok(checks)
}
