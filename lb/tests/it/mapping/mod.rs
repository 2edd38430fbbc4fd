//! How keys are mapped: weights, bounded loads, changes while `lb` runs, and previews of changes.

mod bound;
mod build;
mod change;
mod plan;
mod weights;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::Lb;

/// An open connection to a demo replica.
struct Held {
    stream: BufReader<TcpStream>,
    hostname: String,
}

impl Held {
    /// Connects with this id.
    #[track_caller]
    fn by(lb: &Lb, id: &str) -> Held {
        let mut held = Held { stream: BufReader::new(lb.connect()), hostname: String::new() };
        held.hostname = held.ask(id);
        held
    }

    /// Sends a line; the hostname of the replica that answers.
    #[track_caller]
    fn ask(&mut self, line: &str) -> String {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        self.stream.read_line(&mut answer).unwrap();
        let (hostname, rest) = answer.split_once(' ').unwrap_or_else(|| panic!("not an answer: {answer:?}"));
        assert_eq!(rest.trim_end(), line);
        hostname.to_owned()
    }
}

fn explain(lb: &Lb, id: &str) -> Value {
    lb.done(&json!({"cmd": "explain", "id": id}))
}

/// The slot that owns each of these ids.
fn owners(lb: &Lb, ids: std::ops::Range<u32>) -> Vec<String> {
    let owner = |id: u32| explain(lb, &id.to_string())["owner"].as_str().unwrap().to_owned();
    ids.map(owner).collect()
}

/// Changes the mapping; the answer.
fn set(lb: &Lb, fields: &Value) -> Value {
    let mut command = fields.clone();
    command["cmd"] = "mapping".into();
    lb.done(&command)
}
