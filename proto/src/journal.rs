//! The journal of `lb`: what has happened, one entry after the other.
//!
//! An entry is one line of JSON: `{"seq":7,"time":"2026-01-31T12:00:00.000Z","kind":"replica_up",...}`. A reader ignores fields that it
//! does not know, and reads a kind that it does not know as [`Event::Unknown`]: so it understands a newer `lb`.

use serde::{Deserialize, Serialize};

use crate::incident::Incident;

/// An event, and when it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number. The first one after a start of `lb` is 1, and the next one is one more.
    pub seq: u64,
    /// When it happened: RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// `lb` has bound its ports.
    Started {
        /// The version of `lb`.
        version: String,
        /// The data port.
        data: String,
        /// The control port.
        control: String,
    },
    /// Every replica is in rotation for the first time.
    Ready {
        /// How many there are.
        replicas: usize,
    },
    /// `lb` has been told to end.
    Stopping {},
    /// A successor serves, and this `lb` stands by until it has settled.
    Upgraded {
        /// The process id of the successor.
        successor: u32,
    },
    /// This `lb` goes on, because its successor has failed.
    UpgradeFailed {
        /// Why.
        reason: String,
    },
    /// A replica is to be started.
    ReplicaStarting(Replica),
    /// A replica runs at this address, and is probed from now on.
    ReplicaStarted {
        /// The replica.
        #[serde(flatten)]
        replica: Replica,
        /// Where it listens.
        address: String,
    },
    /// A replica is in rotation. (A spare is ready.)
    ReplicaUp(Replica),
    /// A replica is out of rotation.
    ReplicaDown(Replica),
    /// A replica gets no new connections, and is stopped when the open ones have ended.
    ReplicaDraining(Replica),
    /// Too many starts have failed here; the next one comes after a long pause.
    ReplicaQuarantined(Replica),
    /// A replica has ended, or could not be started.
    ReplicaEnded(Replica),
    /// A replica is stopped, by the wish of `lb`.
    ReplicaStopped(Replica),
    /// Whether `lb` suspects itself: more than half of a shared fleet is silent, so it replaces nothing.
    Doubt {
        /// It does, or no longer does.
        suspects: bool,
    },
    /// A slot that had lost its replica is in rotation again.
    Incident(Incident),
    /// Keys are mapped like this from now on.
    Mapping {
        /// The name of the algorithm.
        mapping: String,
        /// How many slots it leads to.
        slots: usize,
        /// The version of what several `lb`s agree on, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
    },
    /// A command that asked for a change.
    Command {
        /// Who sent it: an address, or `uid=..,gid=..,pid=..`.
        by: String,
        /// The command as JSON, at most 1,000 characters of it.
        command: String,
        /// `done`, or why it has changed nothing.
        result: String,
    },
    /// The configuration was loaded again.
    Reloaded {
        /// The configuration file.
        file: String,
        /// What has changed, in words.
        changes: Vec<String>,
    },
    /// Something that `lb` warns of: a limit that was reached, trouble of a worker, of the engine or of a name server.
    Warning {
        /// The part of `lb` that says so, such as `lb::data::warnings`.
        from: String,
        /// What it says.
        message: String,
    },
    /// Earlier events are not kept any more.
    Gap {
        /// How many are missing.
        missed: u64,
    },
    /// Of a kind that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A replica that an [`Event`] is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The name of its slot; a spare has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Its hostname.
    pub hostname: String,
    /// Why, if there is a reason to give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Entry {
    /// The entry as one line of JSON, without its line feed.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() // nothing in an entry can fail to serialize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(event: Event) -> Entry {
        Entry { seq: 7, time: "2026-01-31T12:00:00.000Z".to_owned(), event }
    }

    fn replica(slot: Option<&str>, reason: Option<&str>) -> Replica {
        Replica {
            slot: slot.map(str::to_owned),
            hostname: "S5".to_owned(),
            reason: reason.map(str::to_owned),
        }
    }

    #[test]
    fn an_entry_is_one_flat_object_and_is_read_as_it_is_written() {
        let cases = [
            (Event::Stopping {}, r#""kind":"stopping""#),
            (
                Event::ReplicaUp(replica(Some("server1"), None)),
                r#""kind":"replica_up","slot":"server1","hostname":"S5""#,
            ),
            (
                Event::ReplicaStarted { replica: replica(None, None), address: "127.0.0.1:7".to_owned() },
                r#""kind":"replica_started","hostname":"S5","address":"127.0.0.1:7""#,
            ),
            (
                Event::ReplicaEnded(replica(Some("a"), Some("exited\n"))),
                r#""kind":"replica_ended","slot":"a","hostname":"S5","reason":"exited\n""#,
            ),
            (
                Event::Mapping { mapping: "ring".to_owned(), slots: 3, epoch: None },
                r#""kind":"mapping","mapping":"ring","slots":3"#,
            ),
            (Event::Gap { missed: 4 }, r#""kind":"gap","missed":4"#),
        ];
        for (event, rest) in cases {
            let entry = entry(event);
            let json = entry.to_json();
            assert_eq!(json, format!(r#"{{"seq":7,"time":"2026-01-31T12:00:00.000Z",{rest}}}"#));
            assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
        }
    }

    #[test]
    fn an_event_of_a_newer_lb_is_read() {
        let newer = r#"{"seq":8,"time":"t","kind":"eclipse","moon":true}"#;
        let read: Entry = serde_json::from_str(newer).unwrap();
        assert_eq!((read.seq, read.event), (8, Event::Unknown));
    }
}
