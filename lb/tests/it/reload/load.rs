//! Reloads under load, and of large fleets.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::Case;
use crate::events::events;
use crate::harness::{Lb, say, session};
use crate::load::{Over, under_load};

const FEW: &str = "replicas = 2\nmapping = \"ring\"\nidle-timeout = \"1h\"\n";
const MANY: &str = "replicas = 5\nmapping = \"maglev\"\nmax-connections = 1000\nconnect-attempts = 5\n";

/// The mapping and the number of slots, in one answer.
fn shape(lb: &Lb) -> (String, usize) {
    let mapping = lb.done(&json!({"cmd": "mapping"}));
    (mapping["mapping"].as_str().unwrap().to_owned(), mapping["weights"].as_object().unwrap().len())
}

#[test]
fn no_connection_is_lost_while_everything_changes_again_and_again() {
    let case = Case::start(FEW);
    let mut held: Vec<_> = (0..10).map(|id| session(&case.lb, &id.to_string())).collect();
    let served = under_load(&case.lb, || {
        for _ in 0..4 {
            case.load(MANY);
            assert_eq!(shape(&case.lb), ("maglev".to_owned(), 5));
            case.load(FEW);
            assert_eq!(shape(&case.lb), ("ring".to_owned(), 2));
        }
    });
    println!("{served} connections during eight reloads");
    for (client, hostname) in &mut held {
        assert_eq!(say(client, "still"), format!("{hostname} still\n"));
    }
}

#[test]
fn count_and_mapping_change_in_one_step() {
    let case = Case::start(FEW);
    let mappings = |lb: &Lb| -> Vec<Value> {
        let events = events(lb).into_iter().filter(|event| event["kind"] == "mapping");
        events.map(|event| json!([event["mapping"], event["slots"]])).collect()
    };
    let before = mappings(&case.lb).len();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let seen = shape(&case.lb);
                assert!(seen == ("ring".to_owned(), 2) || seen == ("maglev".to_owned(), 5), "{seen:?}");
            }
        });
        let over = Over(&is_over);
        case.load(MANY);
        drop(over);
        watching.join().unwrap();
    });
    assert_eq!(mappings(&case.lb)[before..], [json!(["maglev", 5])], "one mapping is published");
}

#[test]
fn a_thousand_backends_are_reloaded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // A connection that is closed at once passes no probe.
    thread::spawn(move || {
        let mut open = VecDeque::new();
        for client in listener.incoming() {
            open.push_back(client);
            if open.len() > 500 {
                open.pop_front();
            }
        }
    });
    let backends: String = (0..1000)
        .map(|index| format!("[[backend]]\nname = \"b{index}\"\naddress = \"{address}\"\n"))
        .collect();
    let text = |rest: &str| {
        format!(
            "provider = \"fixed\"\nhealth = \"tcp\"\nhealth-interval = \"1m\"\npoints = 100\n{rest}{backends}"
        )
    };
    let case = Case::start(&text("replicas = 900\n"));
    let done = case.load(&text("replicas = 1000\nbalance-factor = 2\n"));
    assert_eq!((done["slots"].as_array().unwrap().len(), case.lb.hostnames().len()), (100, 1000));
    assert_eq!(case.load(&text(""))["slots"], json!([]));
    assert_eq!(case.load(&text("replicas = 10\n"))["slots"].as_array().unwrap().len(), 990);
    assert_eq!(shape(&case.lb), ("ring".to_owned(), 10));
}
