//! Answers on the wire: their exact JSON, and that they are read as they are written.

#![cfg(test)]

use mapping::Parameter;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::{option, sample};
use proto::control::{
    Answer, Arc, Backend, Backends, Basis, Body, Candidate, Connections, Displaced, Explanation,
    FailedConnects, FailureKind, FileReads, Health, Killed, Mapping, Move, MovedArc, Omitted, Parameters,
    Plan, Refused, Replicas, Reply, Resolutions, Ring, RingSlot, Shares, State, Transport, Weight,
};
use serde_json::{Value, json};

/// Bodies as `lb` 0.1.0 writes them: each kind in a short form and a long one.
const RECORDED: &str = include_str!("answers.jsonl");

#[test]
fn the_recorded_answers_are_read_and_written_byte_for_byte() {
    for line in RECORDED.lines() {
        let json = format!(r#"{{"message":{line},"status":"successful"}}"#);
        let Reply::Successful(body) = serde_json::from_str(&json).unwrap() else { panic!("{json}") };
        assert_eq!(Answer::from(Ok(body)).to_json(), json);
    }
}

#[test]
fn a_failure_is_read_as_its_text() {
    for text in ["no \"x\"", ""] {
        let json = Answer::from(Err(FailureKind::BadRequest.because(text))).to_json();
        let reply: Reply = serde_json::from_str(&json).unwrap();
        assert_eq!(reply, Reply::Failure(format!("<Error> {text}")));
    }
}

#[test]
fn text_that_is_not_an_answer_is_an_error() {
    for text in [
        "{}",
        r#"{"status":"fine","message":{}}"#,
        r#"{"status":"successful"}"#,
        r#"{"status":"successful","message":{}}"#,
        r#"{"status":"failure","message":{}}"#,
        r#"{"status":"successful","message":{"N":-1,"replicas":[]}}"#,
    ] {
        assert!(serde_json::from_str::<Reply>(text).is_err(), "{text}");
    }
}

/// Adds a field with an unknown name to every object that has a fixed set of fields.
fn from_a_newer_lb(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_open = |name: &str| ["weights", "shares"].contains(&name);
            fields
                .iter_mut()
                .filter(|(name, _)| !is_open(name))
                .for_each(|(_, value)| from_a_newer_lb(value));
            fields.insert("new".to_owned(), json!({"N": [1]}));
        }
        Value::Array(values) => values.iter_mut().for_each(from_a_newer_lb),
        _ => {}
    }
}

/// Thousandths: `serde_json` reads these exactly, and other numbers to within one unit in the last place.
fn number() -> impl Strategy<Value = f64> {
    (0..100_000u32).prop_map(|thousandths| f64::from(thousandths) / 1000.0)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn some_weight() -> impl Strategy<Value = Weight> {
    (0..=100u64).prop_map(|weight| Weight::try_from(weight).unwrap())
}

fn state() -> impl Strategy<Value = State> {
    sample::select(vec![State::Starting, State::Up, State::Down, State::Draining, State::Quarantined])
}

prop_compose! {
    fn backend()(
        (index, name, address, reason) in (option::of(any::<u32>()), option::of(text()), option::of(text()), option::of(text())),
        (node, task, container) in (option::of(text()), option::of(text()), option::of(text())),
        (pid, next_retry) in (option::of(any::<u32>()), option::of(number())),
        (hostname, weight, state, since) in (text(), some_weight(), state(), text()),
        (location, transport) in (option::of(text()), sample::select(vec![Transport::Proxy, Transport::Handoff])),
        (restarts, open, total) in any::<(u64, usize, u64)>(),
    ) -> Backend {
        let connections = Connections { open, total, failed: FailedConnects::default() };
        Backend {
            index, name, hostname, address, location, node, task, pid, container, weight, state, reason, next_retry, since, restarts,
            transport, connections,
        }
    }
}

prop_compose! {
    fn refused()(
        (no_replica, max_connections, per_source) in any::<(u64, u64, u64)>(),
        (rate, denied, left_early, local) in any::<(u64, u64, u64, u64)>(),
    ) -> Refused {
        Refused { no_replica, max_connections, per_source, rate, denied, left_early, local }
    }
}

prop_compose! {
    fn candidate()(
        (index, name, hostname) in (any::<u32>(), text(), text()), state in state(), skipped in option::of(text()),
    ) -> Candidate {
        Candidate { index, name, hostname, state, skipped }
    }
}

prop_compose! {
    fn explanation()(
        (id, key, key_bytes, mapping) in (text(), text(), text(), text()),
        (hash, position, position_percent) in (option::of(any::<u64>()), option::of(any::<u64>()), 0..100_u8),
        candidates in vec(candidate(), 0..3),
        (owner, pick, balance_factor) in (option::of(text()), option::of(text()), option::of(number())),
        key_kind in option::of(text()),
    ) -> Explanation {
        let [hash_text, position_text] = [hash, position].map(|number| number.map(|number| number.to_string()));
        Explanation {
            id, key, key_bytes, key_kind, mapping, hash, hash_text, position, position_text, position_percent, candidates, owner, pick,
            balance_factor,
        }
    }
}

/// Some of the parameters, each a number or text.
fn parameters() -> impl Strategy<Value = Parameters> {
    let value = || prop_oneof![any::<u32>().prop_map(Value::from), text().prop_map(Value::from)];
    let values = vec(option::of(value()), Parameter::ALL.len());
    values.prop_map(|values| {
        let named = Parameter::ALL.iter().zip(values);
        Parameters(named.filter_map(|(parameter, value)| Some((parameter.name, value?))).collect())
    })
}

prop_compose! {
    fn mapping()(
        mapping in text(), parameters in parameters(),
        balance_factor in option::of(number()), seeded in any::<bool>(), weights in btree_map(text(), some_weight(), 0..3),
    ) -> Mapping {
        Mapping { mapping, parameters, balance_factor, seeded, weights }
    }
}

fn shares() -> impl Strategy<Value = Shares> {
    let shares = (option::of(number()), btree_map(text(), number(), 0..3));
    shares.prop_map(|(max_over_mean, shares)| Shares { max_over_mean, shares })
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = (option::of(text()), option::of(text()), number());
    vec(one.prop_map(|(from, to, share)| Move { from, to, share }), 0..3)
}

prop_compose! {
    fn plan()(
        basis in sample::select(vec![Basis::Positions, Basis::Entries, Basis::Expected, Basis::Ids, Basis::Sample]),
        (command, keys, moved, least) in (text(), option::of(any::<u32>()), number(), number()),
        moves in moves(),
        omitted in option::of((any::<usize>(), number()).prop_map(|(moves, share)| Omitted { moves, share })),
        (before, after) in (shares(), shares()),
        (open, out_of_place_now, out_of_place_then, unknown) in any::<(usize, usize, usize, usize)>(),
        (warnings, arcs) in (vec(text(), 0..3), vec(moved_arc(), 0..3)),
    ) -> Plan {
        let connections = Displaced { open, out_of_place_now, out_of_place_then, unknown };
        Plan { command, basis, keys, moved, least, moves, omitted, arcs, before, after, connections, warnings }
    }
}

prop_compose! {
    fn backends()(
        n in any::<usize>(),
        backends in vec(backend(), 0..3),
        spares in vec(backend(), 0..3),
        refused in refused(),
        epoch in option::of(any::<u64>()),
        dns in option::of(resolutions()),
        backends_file in option::of(file_reads()),
    ) -> Backends {
        Backends { n, backends, spares, refused, epoch, dns, backends_file }
    }
}

prop_compose! {
    fn file_reads()(
        (applied, refused) in any::<(u64, u64)>(),
        last_refusal in option::of(text()),
    ) -> FileReads {
        FileReads { applied, refused, last_refusal }
    }
}

prop_compose! {
    fn resolutions()(
        (records, nothing, failed) in any::<(u64, u64, u64)>(),
        last_failure in option::of(text()),
    ) -> Resolutions {
        Resolutions { records, nothing, failed, last_failure }
    }
}

prop_compose! {
    fn moved_arc()((at, parts) in any::<(u32, u32)>(), (from, to) in (option::of(text()), option::of(text()))) -> MovedArc {
        MovedArc { at, parts, from, to }
    }
}

prop_compose! {
    fn arc()((at, parts) in any::<(u32, u32)>(), (owner, serving) in (text(), option::of(text()))) -> Arc {
        Arc { at, parts, owner, serving }
    }
}

prop_compose! {
    fn ring_slot()(
        (index, share) in (any::<u32>(), number()),
        (name, hostname, weight) in (text(), text(), some_weight()),
        state in sample::select(vec![State::Up, State::Down]),
    ) -> RingSlot {
        RingSlot { index, name, hostname, weight, state, share }
    }
}

prop_compose! {
    fn ring()(
        (mapping, keys, positions) in (text(), option::of(any::<u32>()), number()),
        basis in sample::select(vec![Basis::Positions, Basis::Expected]),
        (parts, sampled) in any::<(u32, u32)>(),
        (slots, arcs, meanwhile) in (vec(ring_slot(), 0..3), vec(arc(), 0..3), moves()),
    ) -> Ring {
        Ring { mapping, basis, keys, positions, parts, slots, arcs, meanwhile, sampled }
    }
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (any::<usize>(), vec(text(), 0..3))
            .prop_map(|(n, replicas)| Body::Replicas(Replicas { n, replicas })),
        backends().prop_map(Body::Backends),
        explanation().prop_map(Body::Explanation),
        any::<(usize, usize)>().prop_map(|(up, n)| Body::Health(Health { up, n })),
        mapping().prop_map(Body::Mapping),
        plan().prop_map(Body::Plan),
        (text(), option::of(text())).prop_map(|(killed, slot)| Body::Killed(Killed { killed, slot })),
        ring().prop_map(Body::Ring),
    ]
}

proptest! {
    #[test]
    fn every_answer_is_read_as_it_is_written(body in body()) {
        let json = Answer::from(Ok(body.clone())).to_json();
        let reply: Reply = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(reply, Reply::Successful(body), "{}", json);
    }

    #[test]
    fn fields_of_a_newer_lb_are_ignored(body in body()) {
        let mut answer: Value = serde_json::from_str(&Answer::from(Ok(body.clone())).to_json()).unwrap();
        from_a_newer_lb(&mut answer);
        let reply: Reply = serde_json::from_value(answer).unwrap();
        prop_assert_eq!(reply, Reply::Successful(body));
    }
}
