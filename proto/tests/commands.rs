//! Commands on the wire: each is read as it is written, in both languages.

#![cfg(test)]

use mapping::MappingPolicy;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::{option, sample};
use proto::control::{
    Addition, Change, Command, Hostname, Kill, Line, Newcomer, Remapping, Removal, Weight, parse_body,
};

fn hostname() -> impl Strategy<Value = Hostname> {
    "[A-Za-z0-9][A-Za-z0-9_.-]{0,62}".prop_map(|name| Hostname::try_from(name).unwrap())
}

fn weight() -> impl Strategy<Value = Weight> {
    (0..=100u64).prop_map(|weight| Weight::try_from(weight).unwrap())
}

fn newcomer() -> impl Strategy<Value = Newcomer> {
    let server = (hostname(), 1u16.., option::of(weight())).prop_map(|(name, port, weight)| {
        let weight = weight.map_or_else(String::new, |weight| format!(",weight={weight}"));
        format!("{name}=[::1]:{port}{weight}").parse().unwrap()
    });
    prop_oneof![hostname().prop_map(Newcomer::from), server]
}

prop_compose! {
    fn addition()(n in 1u32.., hostnames in vec(newcomer(), 0..3), weights in vec(weight(), 0..3)) -> Addition {
        Addition { n, hostnames, weights }
    }
}

prop_compose! {
    fn removal()(
        n in 1u32..,
        hostnames in vec(hostname(), 0..3),
        drain in option::of("[0-9]{1,5}(ms|s|m)"),
    ) -> Removal {
        Removal { n, hostnames, drain: drain.map(|time| time.parse().unwrap()) }
    }
}

/// A value of a remapping. It is never "null", which is read as `off` where a parameter can be off.
fn value() -> impl Strategy<Value = (&'static str, String)> {
    (sample::select(&MappingPolicy::NAMES[..]), "([^n]\\PC{0,9})?")
}

prop_compose! {
    fn remapping()(
        values in vec(value(), 0..4),
        weights in btree_map(hostname(), weight(), 0..3),
    ) -> Remapping {
        let mut remapping = Remapping::default();
        remapping.weights = weights;
        for (name, text) in values {
            let _ = remapping.set(name, text); // it may be there already
        }
        remapping
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        addition().prop_map(Change::Add),
        removal().prop_map(Change::Remove),
        remapping().prop_map(Change::Mapping),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::Rep {}),
        addition().prop_map(Command::Add),
        removal().prop_map(Command::Remove),
        remapping().prop_map(Command::Mapping),
        change().prop_map(|change| Command::Plan { change }),
        Just(Command::Backends {}),
        "\\PC{0,12}".prop_map(|id| Command::Explain { id }),
        Just(Command::Health {}),
        hostname().prop_map(|hostname| Command::Kill(Kill { hostname })),
    ]
}

#[test]
fn a_command_without_fields_has_no_more_than_its_name() {
    assert_eq!(Command::Rep {}.to_line(None), "{\"cmd\":\"rep\"}\n");
    let add = Addition { n: 0, hostnames: Vec::new(), weights: Vec::new() };
    assert_eq!(Command::Add(add).to_line(Some("secret")), "{\"cmd\":\"add\",\"n\":0,\"token\":\"secret\"}\n");
    assert_eq!(Command::Mapping(Remapping::default()).to_line(None), "{\"cmd\":\"mapping\"}\n");
}

proptest! {
    #[test]
    fn every_command_is_read_as_it_is_written(command in command(), token in option::of("\\PC{0,12}")) {
        let text = command.to_line(token.as_deref());
        prop_assert_eq!(text.find('\n'), Some(text.len() - 1), "one line");
        let line = Line::new(text.as_bytes());
        let found = line.token();
        prop_assert_eq!(found.as_deref(), token.as_deref());
        prop_assert_eq!(line.command(), Ok(command), "{}", text);
    }

    #[test]
    fn every_body_is_read_as_it_is_written(
        addition in addition(), removal in removal(), remapping in remapping(), change in change(),
    ) {
        prop_assert_eq!(parse_body(&serde_json::to_vec(&addition).unwrap()), Ok(addition));
        prop_assert_eq!(parse_body(&serde_json::to_vec(&removal).unwrap()), Ok(removal));
        prop_assert_eq!(parse_body(&serde_json::to_vec(&remapping).unwrap()), Ok(remapping));
        prop_assert_eq!(parse_body(&serde_json::to_vec(&change).unwrap()), Ok(change));
    }
}
