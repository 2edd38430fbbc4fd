//! The text of metrics, as a test reads it. It shares no code with `lb`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::harness::{Lb, field};

/// The samples of one scrape.
#[derive(Debug)]
pub(crate) struct Page {
    pub(super) text: String,
    pub(crate) samples: BTreeMap<(String, Labels), f64>,
}

/// The labels of a sample, by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// What comes back for a request on a connection of its own: the head and the body.
pub(super) fn raw(lb: &Lb, address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = lb.dial(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.to_ascii_lowercase(), body.to_owned())
}

/// `GET /metrics` at this address, with more lines of the head.
pub(super) fn get(lb: &Lb, address: SocketAddr, more: &str) -> (String, String) {
    raw(lb, address, &format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n"))
}

/// The metrics on the control port.
pub(crate) fn scrape(lb: &Lb) -> Page {
    let (head, body) = get(lb, lb.control, "");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    Page::read(body)
}

/// Where `--metrics` listens.
pub(super) fn port(lb: &Lb) -> SocketAddr {
    field(&lb.wait_for_log("metrics port address="), "address=").parse().unwrap()
}

impl Page {
    pub(super) fn read(text: String) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(sample).collect();
        Page { text, samples }
    }

    /// The value of a sample; `labels` as they stand in the text, without braces.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &str) -> f64 {
        let key = (name.to_owned(), read_labels(labels));
        *self.samples.get(&key).unwrap_or_else(|| panic!("no {name}{{{labels}}}:\n{}", self.text))
    }

    /// The sum of all samples of this name with this label.
    pub(crate) fn sum(&self, name: &str, (label, value): (&str, &str)) -> f64 {
        let of_name = self.samples.iter().filter(|((other, _), _)| other == name);
        of_name
            .filter(|((_, labels), _)| labels.get(label).is_some_and(|it| it == value))
            .map(|(_, it)| it)
            .sum()
    }

    /// The values of a label in all samples of this name, each once.
    pub(super) fn values_of(&self, name: &str, label: &str) -> Vec<String> {
        let of_name = self.samples.keys().filter(|(other, _)| other == name);
        let mut values: Vec<String> = of_name.filter_map(|(_, labels)| labels.get(label).cloned()).collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    /// The names of the labels of samples of this name.
    pub(super) fn labels_of(&self, name: &str) -> Vec<String> {
        let found = self.samples.keys().find(|(other, _)| other == name);
        let (_, labels) = found.unwrap_or_else(|| panic!("no {name}:\n{}", self.text));
        labels.keys().cloned().collect()
    }

    /// How many samples there are.
    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }
}

/// `NAME{LABELS} VALUE`. No label of `lb` holds a space or a brace.
fn sample(line: &str) -> ((String, Labels), f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    ((name.to_owned(), read_labels(labels.trim_end_matches('}'))), value.parse().unwrap())
}

fn read_labels(labels: &str) -> Labels {
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// A program of the Debian package prometheus; `None` where it is missing, which is a failure in CI.
pub(super) fn tool(name: &str) -> Option<Command> {
    let is_there =
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "{name} is not installed");
        eprintln!("skipped: {name} is not installed");
    }
    is_there.then(|| Command::new(name))
}

/// Runs a command with this input; its success and all that it said.
pub(super) fn run(mut command: Command, input: &str) -> (bool, String) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
