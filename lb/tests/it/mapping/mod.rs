//! How keys are mapped: weights, bounded loads, changes while running, and what is said of changes before they are made.

mod bound;
mod change;
mod plan;
mod weights;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::Lb;

/// A connection that stays open, to a demo replica.
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

    /// Who answers now.
    #[track_caller]
    fn ask(&mut self, line: &str) -> String {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        self.stream.read_line(&mut answer).unwrap();
        let (hostname, rest) = answer.split_once(' ').unwrap_or_else(|| panic!("no answer: {answer:?}"));
        assert_eq!(rest.trim_end(), line);
        hostname.to_owned()
    }
}

fn explain(lb: &Lb, id: &str) -> Value {
    lb.done(&json!({"cmd": "explain", "id": id}))
}

/// The slot that each of these ids belongs to.
fn owners(lb: &Lb, ids: std::ops::Range<u32>) -> Vec<String> {
    let owner = |id: u32| explain(lb, &id.to_string())["owner"].as_str().unwrap().to_owned();
    ids.map(owner).collect()
}

/// How `mapping` answers to a change.
fn set(lb: &Lb, fields: &Value) -> Value {
    let mut command = fields.clone();
    command["cmd"] = "mapping".into();
    lb.done(&command)
}
