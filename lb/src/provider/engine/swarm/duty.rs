//! What to do about a service that the list shows: pure.

use fleet::Roster;
use proto::control::Hostname;

use super::service::Listed;

/// What to do about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Nothing.
    None,
    /// An operator has changed how many tasks it has: give it one again.
    Mend,
    /// The roster does not name it. If it stays so, it is left over: remove it.
    Suspect,
}

/// What to do about this service of the fleet with this roster. `birth` distinguishes the fleet from an earlier one of its name.
pub(super) fn duty(service: &Listed, roster: &Roster, birth: &str) -> Duty {
    let hostname = service.hostname.as_ref().filter(|_| service.is_of(birth));
    match hostname {
        Some(hostname) if is_named(roster, hostname) && service.replicas() != Some(1) => Duty::Mend,
        Some(hostname) if is_named(roster, hostname) || is_leaving(roster, hostname) => Duty::None,
        _ => Duty::Suspect,
    }
}

/// Whether a seat or spare of the roster has this hostname, or will have it.
pub(super) fn is_named(roster: &Roster, hostname: &Hostname) -> bool {
    roster.hostnames().any(|name| name == hostname) && !is_leaving(roster, hostname)
}

/// Whether the replica of this hostname has left the seats of the roster.
fn is_leaving(roster: &Roster, hostname: &Hostname) -> bool {
    roster.leaving.iter().any(|leaving| leaving.hostname == *hostname)
}

#[cfg(test)]
mod tests {
    use bollard::models::Service;
    use fleet::{Coming, Leaving, Seat, SlotId, UnixTime};
    use mapping::{Algorithm, MappingPolicy};
    use proto::control::Weight;
    use serde_json::json;

    use super::*;

    fn host(name: &str) -> Hostname {
        Hostname::try_from(name.to_owned()).unwrap()
    }

    fn seat(index: u32, name: &str) -> Seat {
        Seat::new(SlotId { index, name: host(name) }, Weight::default(), host(name))
    }

    fn service(hostname: &str, birth: &str, replicas: i64) -> Service {
        let spec = json!({
            "Name": format!("fleet-{hostname}"),
            "Labels": {"lb.fleet": "fleet", "lb.birth": birth, "lb.hostname": hostname},
            "Mode": {"Replicated": {"Replicas": replicas}},
        });
        serde_json::from_value(json!({"ID": "x1", "Version": {"Index": 7}, "Spec": spec})).unwrap()
    }

    #[test]
    fn what_the_roster_names_has_one_task_and_nothing_else_is_touched_at_once() {
        let until = UnixTime::from_secs(1);
        let roster = Roster {
            mapping: MappingPolicy { scheme: Algorithm::Maglev.into(), balance: None },
            seats: vec![seat(1, "a")],
            spares: [host("s")].into(),
            coming: vec![Coming { seat: seat(2, "c"), until }],
            leaving: vec![Leaving { hostname: host("l"), until }],
        };
        for (hostname, birth, replicas, expected) in [
            ("a", "b1", 1, Duty::None),
            ("s", "b1", 1, Duty::None),
            ("c", "b1", 1, Duty::None),
            ("l", "b1", 0, Duty::None),
            ("a", "b1", 0, Duty::Mend),
            ("s", "b1", 3, Duty::Mend),
            ("x", "b1", 1, Duty::Suspect),
            ("a", "b0", 1, Duty::Suspect),
        ] {
            let listed = Listed::of(service(hostname, birth, replicas), "fleet").unwrap();
            assert_eq!(duty(&listed, &roster, "b1"), expected, "{hostname} {birth} {replicas}");
        }
    }

    #[test]
    fn a_service_without_the_label_of_the_fleet_is_not_even_seen() {
        assert!(Listed::of(service("a", "b1", 1), "fleet2").is_none());
        let mut bare = service("a", "b1", 1);
        bare.spec.as_mut().unwrap().labels = None;
        assert!(Listed::of(bare, "fleet").is_none());
    }
}
