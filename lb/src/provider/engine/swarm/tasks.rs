//! What the tasks of a service say: which one is the replica, how one has ended, and why there is none.
//!
//! A service of a fleet has one replica, and Swarm replaces its task for every new start. So there are old tasks beside the present
//! one, and where a node has vanished, an old one may run beside a newer one. The newest that runs is the replica.

use std::cmp::Ordering;
use std::net::IpAddr;

use serde::Deserialize;

/// The longest reason that is taken from a task, in characters.
const LONGEST_REASON: usize = 300;
/// What Swarm says of a task if all nodes are full that may run it.
const NO_ROOM: &str = "insufficient resources";

/// A task, as `GET /tasks` lists it. What is missing has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Task {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "ServiceID")]
    pub(super) service: String,
    #[serde(rename = "NodeID")]
    pub(super) node: String,
    created_at: String,
    desired_state: State,
    status: Status,
    spec: Spec,
    /// Missing until Swarm has given it an address.
    networks_attachments: Option<Vec<Attachment>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Status {
    state: State,
    message: String,
    err: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Attachment {
    network: Network,
    /// Each with the length of its prefix.
    addresses: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Network {
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Spec {
    /// How many times the service had been told to replace its task when this one was made.
    force_update: u64,
}

/// The states of a task that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It waits for a node with room for it.
    Pending,
    Running,
    /// It has ended, with exit code 0.
    Complete,
    /// It has ended because Swarm told it to.
    Shutdown,
    /// It has ended by itself.
    Failed,
    /// Its node could not start it.
    Rejected,
    /// Its node has been unreachable for a day.
    Orphaned,
    Remove,
    /// Any of those on the way from `Pending` to `Running`, or one that is not known.
    #[default]
    #[serde(other)]
    OnItsWay,
}

impl State {
    fn is_over(self) -> bool {
        use State::{Complete, Failed, Orphaned, Rejected, Remove, Shutdown};
        matches!(self, Complete | Failed | Orphaned | Rejected | Remove | Shutdown)
    }
}

/// A task that runs, and is meant to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usable {
    pub(super) id: String,
    /// The id of its node.
    pub(super) node: String,
    /// Its address in the network of the fleet.
    pub(super) address: IpAddr,
}

impl Task {
    /// Compares the times at which tasks were created. Swarm leaves out zeros at the end of a fraction of a second.
    fn by_age(&self, other: &Self) -> Ordering {
        let parts = |task: &Self| {
            let time = task.created_at.trim_end_matches('Z');
            let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
            (seconds.to_owned(), fraction.to_owned(), task.id.clone())
        };
        parts(self).cmp(&parts(other))
    }

    fn usable(&self, network: &str) -> Option<Usable> {
        let is_meant = self.desired_state == State::Running && self.status.state == State::Running;
        let attachment = self.networks_attachments.iter().flatten().find(|one| one.network.id == network)?;
        let address = attachment.addresses.iter().flatten().find_map(|address| {
            address.split_once('/').map_or(address.as_str(), |(address, _)| address).parse().ok()
        })?;
        is_meant.then(|| Usable { id: self.id.clone(), node: self.node.clone(), address })
    }

    fn reason(&self) -> Option<String> {
        let Status { err, message, .. } = &self.status;
        let reason = if err.is_empty() { message } else { err };
        (!reason.is_empty()).then(|| reason.chars().take(LONGEST_REASON).collect())
    }
}

/// The newest task that is a replica with an address in the network with this id. `shunned` is the id of one that must not be used.
pub(super) fn newest<'a>(
    tasks: impl IntoIterator<Item = &'a Task>,
    network: &str,
    shunned: Option<&str>,
) -> Option<Usable> {
    let mut tasks: Vec<&Task> = tasks.into_iter().filter(|task| Some(&*task.id) != shunned).collect();
    tasks.sort_by(|a, b| b.by_age(a));
    tasks.into_iter().find_map(|task| task.usable(network))
}

/// How a task stands that is a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It runs.
    Runs,
    /// It runs, but Swarm has told it to end, or has lost sight of it.
    Ends,
    /// It has ended, or is in no list any more; with the reason.
    Over(String),
    /// It is not in the list.
    Missing,
}

/// How the task with this id stands.
pub(super) fn standing<'a>(tasks: impl IntoIterator<Item = &'a Task>, id: &str) -> Standing {
    let Some(task) = tasks.into_iter().find(|task| task.id == id) else { return Standing::Missing };
    if task.status.state.is_over() {
        let reason = task.reason().unwrap_or_else(|| "it has ended".to_owned());
        return Standing::Over(format!("task ended: {reason}"));
    }
    if task.desired_state == State::Running { Standing::Runs } else { Standing::Ends }
}

/// Whether the task with this id still is the newest replica, and the service has not been told to replace it: `force_update` is how many
/// times it has been told to replace its task.
pub(super) fn has_to_be_replaced(tasks: &[Task], network: &str, id: &str, force_update: u64) -> bool {
    let is_newest = newest(tasks, network, None).is_some_and(|usable| usable.id == id);
    let task = tasks.iter().find(|task| task.id == id);
    is_newest && task.is_some_and(|task| task.spec.force_update == force_update)
}

/// Whether the newest task waits for the room that the task with this id takes, although the service has been told to replace that one:
/// `force_update` is how many times it has been told to replace its task.
pub(super) fn waits_for_room_of(tasks: &[Task], id: &str, force_update: u64) -> bool {
    let newest = tasks.iter().max_by(|a, b| a.by_age(b));
    let waits = newest.is_some_and(|task| {
        let is_full = task.status.state == State::Pending && task.status.err.contains(NO_ROOM);
        is_full && task.spec.force_update == force_update
    });
    waits && standing(tasks, id) == Standing::Runs
}

/// Why no task is a replica yet: what Swarm says about the newest one or, while that is on its way, how the last one ended. `None` if
/// there is nothing to say but that it is on its way.
pub(super) fn hindrance<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Option<String> {
    let mut tasks: Vec<&Task> = tasks.into_iter().collect();
    tasks.sort_by(|a, b| b.by_age(a));
    let (newest, rest) = tasks.split_first()?;
    let last = rest.iter().find(|task| matches!(task.status.state, State::Rejected | State::Failed));
    let ended = || last.and_then(|task| Some(format!("the last task ended: {}", task.reason()?)));
    match newest.status.state {
        State::Pending if !newest.status.err.is_empty() => {
            newest.reason().map(|reason| format!("no node can take it: {reason}"))
        }
        State::Rejected | State::Failed => newest.reason().map(|reason| format!("the task ended: {reason}")),
        _ => ended(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const NET: &str = "n0";

    fn task(id: &str, created: &str, desired: &str, state: &str, error: &str) -> Value {
        json!({
            "ID": id, "ServiceID": "s", "NodeID": "node1", "CreatedAt": format!("2026-01-01T00:00:{created}Z"),
            "DesiredState": desired, "Slot": 1,
            "Status": {"State": state, "Err": error, "Message": "started", "Timestamp": "x"},
            "NetworksAttachments": [
                {"Network": {"ID": "other"}, "Addresses": ["10.9.0.9/24"]},
                {"Network": {"ID": NET}, "Addresses": ["10.1.0.7/20"]},
            ],
        })
    }

    fn read(tasks: &[Value]) -> Vec<Task> {
        serde_json::from_value(json!(tasks)).unwrap()
    }

    #[test]
    fn the_newest_task_that_runs_and_is_meant_to_is_the_replica() {
        let tasks = read(&[
            task("old", "01.5", "running", "running", ""),
            task("new", "01.51", "running", "running", ""),
            task("cut", "02.1", "shutdown", "running", ""),
            task("next", "03.1", "running", "preparing", ""),
        ]);
        let found = newest(&tasks, NET, None).unwrap();
        assert_eq!((found.id.as_str(), found.node.as_str()), ("new", "node1"));
        assert_eq!(found.address, IpAddr::from([10, 1, 0, 7]));
        assert_eq!(newest(&tasks, NET, Some("new")).unwrap().id, "old");
        assert_eq!(newest(&tasks[2..], NET, None), None);
        assert_eq!(newest(&tasks, "another network", None), None);
    }

    #[test]
    fn a_task_without_an_address_is_no_replica_yet() {
        let mut bare = task("a", "01", "running", "running", "");
        bare.as_object_mut().unwrap().remove("NetworksAttachments");
        let mut empty = task("b", "01", "running", "running", "");
        empty["NetworksAttachments"] = json!([{"Network": {"ID": NET}, "Addresses": null}]);
        let mut strange = task("c", "01", "running", "running", "");
        strange["NetworksAttachments"][1]["Addresses"] = json!(["no address"]);
        assert_eq!(newest(&read(&[bare, empty, strange]), NET, None), None);
    }

    #[test]
    fn a_task_stands_as_its_states_say() {
        let tasks = read(&[
            task("runs", "01.1", "running", "running", ""),
            task("ends", "01.1", "shutdown", "running", ""),
            task("failed", "01.1", "shutdown", "failed", "task: non-zero exit (137)"),
            task("gone", "01.1", "shutdown", "complete", ""),
        ]);
        let over = |reason: &str| Standing::Over(format!("task ended: {reason}"));
        for (id, expected) in [
            ("runs", Standing::Runs),
            ("ends", Standing::Ends),
            ("failed", over("task: non-zero exit (137)")),
            ("gone", over("started")),
            ("other", Standing::Missing),
        ] {
            assert_eq!(standing(&tasks, id), expected, "{id}");
        }
    }

    #[test]
    fn a_task_that_hangs_is_replaced_once() {
        let mut hangs = task("a", "01.1", "running", "running", "");
        hangs["Spec"] = json!({"ForceUpdate": 3});
        let next = task("b", "02.1", "running", "running", "");
        let tasks = read(&[hangs.clone()]);
        assert!(has_to_be_replaced(&tasks, NET, "a", 3));
        assert!(!has_to_be_replaced(&tasks, NET, "a", 4), "another lb has done it");
        assert!(!has_to_be_replaced(&tasks, NET, "other", 3));
        assert!(!has_to_be_replaced(&read(&[hangs, next]), NET, "a", 3), "there is a newer one");
        assert!(has_to_be_replaced(&read(&[task("a", "01.1", "running", "running", "")]), NET, "a", 0));
    }

    #[test]
    fn a_task_that_hangs_may_take_the_room_of_the_next_one() {
        let hangs = task("a", "01.1", "running", "running", "");
        let pending = |error| {
            let mut next = task("b", "02.1", "running", "pending", error);
            next["Spec"] = json!({"ForceUpdate": 1});
            next
        };
        let full = pending("no suitable node (insufficient resources on 3 nodes)");
        let tasks = read(&[hangs.clone(), full.clone()]);
        assert!(waits_for_room_of(&tasks, "a", 1));
        assert!(!waits_for_room_of(&tasks, "a", 2), "another lb has done it");
        assert!(!waits_for_room_of(&read(std::slice::from_ref(&full)), "a", 1), "it has ended");
        let ends = task("a", "01.1", "shutdown", "running", "");
        assert!(!waits_for_room_of(&read(&[ends, full]), "a", 1), "it has been told to end");
        let nowhere = pending("no suitable node (scheduling constraints not satisfied on 3 nodes)");
        assert!(!waits_for_room_of(&read(&[hangs.clone(), nowhere]), "a", 1), "its end would give no room");
        assert!(!waits_for_room_of(&read(&[hangs]), "a", 0));
    }

    #[test]
    fn the_reason_why_there_is_none_is_that_of_swarm() {
        let full =
            task("b", "02.1", "running", "pending", "no suitable node (insufficient resources on 3 nodes)");
        let missing = task("a", "01.1", "shutdown", "rejected", "No such image: x:latest");
        let fresh = task("b", "02.1", "running", "preparing", "");
        for (tasks, expected) in [
            (
                vec![full.clone()],
                Some("no node can take it: no suitable node (insufficient resources on 3 nodes)"),
            ),
            (
                vec![missing.clone(), full],
                Some("no node can take it: no suitable node (insufficient resources on 3 nodes)"),
            ),
            (vec![missing.clone(), fresh.clone()], Some("the last task ended: No such image: x:latest")),
            (vec![missing], Some("the task ended: No such image: x:latest")),
            (vec![fresh], None),
            (vec![], None),
        ] {
            assert_eq!(hindrance(&read(&tasks)).as_deref(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_json_of_a_task_is_read_or_refused(state in ".*", desired in "(running|shutdown|ready|x)", created in ".*", address in ".*") {
            let mut json = task("a", "01", &desired, &state, "e");
            json["CreatedAt"] = json!(created);
            json["NetworksAttachments"][1]["Addresses"] = json!([address]);
            let tasks = read(&[json]);
            let _ = (newest(&tasks, NET, None), standing(&tasks, "a"), hindrance(&tasks));
        }

        #[test]
        fn tasks_are_in_order_of_their_time(mut times in vec((0_u32..60, 0_u32..1_000_000_000), 1..8)) {
            let text = |&(seconds, nanos): &(u32, u32)| {
                let fraction = format!("{nanos:09}");
                let fraction = fraction.trim_end_matches('0');
                if fraction.is_empty() { format!("{seconds:02}") } else { format!("{seconds:02}.{fraction}") }
            };
            let tasks = read(&times.iter().map(|time| task(&text(time), &text(time), "running", "running", "")).collect::<Vec<_>>());
            times.sort_unstable();
            let last = text(times.last().unwrap());
            prop_assert_eq!(newest(&tasks, NET, None).unwrap().id, last);
        }
    }
}
