//! `--backend`.

use super::*;

#[test]
fn a_backend_is_a_name_and_an_address() {
    let fixed = |backend: &str| check(&["--provider", "fixed", "--backend", backend]);
    for backend in [
        "a=127.0.0.1:80",
        "S-5.x_y=some.host:1",
        "a=[::1]:65535",
        "a=[fe80::1%2]:1",
        "a=my_app-1:80",
        "a=host.example.:80",
        "a=1.example:80",
    ] {
        let (name, address) = backend.split_once('=').unwrap();
        let name = Hostname::try_from(name.to_owned()).unwrap();
        let location = match (address.parse(), address.rsplit_once(':')) {
            (Ok(address), _) => Location::Address(address),
            (Err(_), Some((host, port))) => Location::Host(host.to_owned(), port.parse().unwrap()),
            (Err(_), None) => unreachable!(),
        };
        let expected = FixedBackend { name, location, weight: None };
        assert_eq!(fixed(backend).unwrap().source, Source::Fixed(vec![expected]), "{backend}");
    }
    let wrong = [
        "",
        "a",
        "a=",
        "=h:1",
        "a=h",
        "a=h:",
        "a=:1",
        "a=h:0",
        "a=h:+1",
        "a=h:65536",
        "../a=h:1",
        "_a=h:1",
        "a=http://127.0.0.1:80",
        "a=tcp://127.0.0.1:80",
        "a=//h:80",
        "a=u@h:80",
        "a=h:80/",
        "a=h..x:1",
        "a=ä:1",
        // Damaged addresses are no names.
        "a=300.0.0.1:80",
        "a=10.0.1:80",
        "a=::1:80",
        "a=[::1:80",
        "a=[h]:80",
    ];
    for backend in wrong {
        let expected = format!("--backend: invalid value `{backend}`: expected NAME=HOST:PORT");
        assert!(fixed(backend).unwrap_err().starts_with(&expected), "{backend}");
    }
}

#[test]
fn a_host_with_a_blank_is_two_backends_that_are_no_backends() {
    let problems = problems(&["--provider", "fixed", "--backend", "a=my host:80"]);
    let expected =
        ["a=my", "host:80"].map(|part| format!("--backend: invalid value `{part}`: expected NAME=HOST:PORT"));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems.iter().zip(&expected).all(|(problem, expected)| problem.starts_with(expected)),
        "{problems:?}"
    );
}

#[test]
fn a_weight_may_follow_a_backend() {
    let weights = |flags: &[&str]| -> Vec<u32> {
        let config = good(&[&["--provider", "fixed"], flags].concat());
        config.slots.iter().map(|(_, weight)| weight.get()).collect()
    };
    assert_eq!(weights(&["--backend", "a=h:1,weight=2", "--backend", "b=h:2"]), [2, 1]);
    assert_eq!(weights(&["--backend", "a=h:1,weight=0,b=h:2,weight=100"]), [0, 100]);
    assert_eq!(weights(&["--backend", "weight=h:1,weight=3"]), [3]);
    assert_eq!(weights(&["--backend", "a=h:1 weight=5\n b=h:2,  c=h:3 , weight=7,"]), [5, 1, 7]);
    for wrong in ["weight=101", "weight=-1", "weight=", "weight=x"] {
        let expected =
            format!("--backend: invalid value `{wrong}`: expected as weight a whole number from 0 to 100");
        assert_eq!(problems(&["--provider", "fixed", "--backend", &format!("a=h:1,{wrong}")]), [expected]);
    }
    let alone = problems(&["--provider", "fixed", "--backend", "weight=2,a=h:1"]);
    assert_eq!(alone, ["--backend: weight=2 follows a NAME=HOST:PORT and a comma, once"]);
    let twice = problems(&["--provider", "fixed", "--backend", "a=h:1,weight=2,weight=3"]);
    assert_eq!(twice, ["--backend: weight=3 follows a NAME=HOST:PORT and a comma, once"]);
}

#[test]
fn fixed_backends_are_the_first_slots_in_their_order() {
    let flags = ["--provider", "fixed", "--backend", "b=h:1", "--backend", "a=h:2", "--backend", "c=h:1"];
    let config = good(&flags);
    assert_eq!(names(&config), ["b", "a", "c"]);
    assert!(config.same_name, "a fixed address has only the one name");
    assert_eq!(names(&good(&[&flags[..], &["--replicas", "2"]].concat())), ["b", "a"]);
    assert_eq!(names(&good(&["--provider", "fixed", "--backend", "b=h:1,a=h:2"])), ["b", "a"]);
}
