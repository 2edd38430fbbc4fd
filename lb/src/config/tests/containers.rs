//! Flags of replicas in containers and services.

use super::*;

#[test]
fn a_name_that_leads_elsewhere_in_the_engine_is_refused() {
    check_takes(&[
        (
            "image",
            &["", "../x", "a//b", "a/../b", "/a", "a/", "a?b", "a b", "é"],
            "expected the name of an image",
        ),
        (
            "network",
            &["host", "none", "", "../x", "a/b"],
            "expected the name of a network in which containers have",
        ),
        ("fleet", &["", "../x", "a,b", "a=b"], "expected a name of the form [A-Za-z0-9][A-Za-z0-9_.-]{0,62}"),
        ("backend-port", &["0", "65536", "-1", "http"], "expected a whole number from 1 to 65535"),
        ("memory", &["5MiB", "much", "-1", ""], "expected a size from 6MiB, such as 128MiB"),
        ("pids", &["0", "-1", "many", "1000001"], "expected a whole number from 1 to 1000000, or unlimited"),
        (
            "container-caps",
            &["", "ALL", "CHOWN,", "CHOWN NET_RAW", "none,CHOWN", "X"],
            "expected default, none, or",
        ),
    ]);
}

#[test]
fn containers_have_few_privileges_unless_told_otherwise() {
    let settings = |flags: &[&str]| match good(&[&["--provider", "docker"], flags].concat()).source {
        Source::Docker(settings) => (settings.common.pids, settings.common.capabilities),
        other => panic!("{other:?}"),
    };
    let only = |names: &[&str]| Capabilities::Only(names.iter().map(|&name| name.to_owned()).collect());
    assert_eq!(settings(&[]), (2048, Capabilities::Usual));
    assert_eq!(settings(&["--pids", "unlimited", "--container-caps", "default"]), (-1, Capabilities::Usual));
    assert_eq!(settings(&["--pids", "1", "--container-caps", "none"]), (1, only(&[])));
    let names = settings(&["--container-caps", "NET_BIND_SERVICE,cap_chown"]).1;
    assert_eq!(names, only(&["NET_BIND_SERVICE", "CHOWN"]));
}

#[test]
fn services_have_constraints_and_limits() {
    let settings = |flags: &[&str]| match good(&[&["--provider", "swarm"], flags].concat()).source {
        Source::Swarm(settings) => settings,
        other => panic!("{other:?}"),
    };
    let bare = settings(&[]);
    assert_eq!((bare.cpus, bare.constraints.len(), bare.common.pids), (None, 0, 2048));
    let constraints =
        ["--constraint", "node.role==worker,node.labels.disk != hdd", "--constraint", "node.id==x"];
    let full =
        settings(&[&constraints[..], &["--cpus", "1.5", "--memory", "64MiB", "--fleet", "a-b_c"]].concat());
    assert_eq!(full.constraints, ["node.role==worker", "node.labels.disk != hdd", "node.id==x"]);
    assert_eq!((full.cpus, full.common.memory), (Some(1_500_000_000), Some(64 << 20)));
    assert_eq!(settings(&["--cpus", "0.01"]).cpus, Some(10_000_000));
}

#[test]
fn what_swarm_would_not_take_is_refused() {
    let swarm = ["--provider", "swarm"];
    for (flag, wrong, expected) in [
        (
            "--cpus",
            &["0", "0.009", "1.2345", "-1", ".5", "1.", "two", "1e3"][..],
            "expected a number of cores",
        ),
        (
            "--constraint",
            &["", "worker", "node.role=worker", "==x", "a b==c", "node.role==", "x==y;z"],
            "expected KEY==VALUE",
        ),
        (
            "--fleet",
            &["a.b", "a.", "01234567890123456789012345678901234567890123456789"],
            "at most 49 letters",
        ),
    ] {
        for &wrong in wrong {
            let found = problems(&[&swarm[..], &[flag, wrong]].concat());
            assert!(found.iter().any(|problem| problem.contains(expected)), "{flag} {wrong}: {found:?}");
        }
    }
    let handoff = problems(&[&swarm[..], &["--transport", "handoff", "--handoff-dir", "/x"]].concat());
    assert!(handoff.iter().any(|problem| problem.starts_with("--transport: handoff goes to")), "{handoff:?}");
}

#[test]
fn replicas_get_variables() {
    let variables = |flags: &[&str]| match good(flags).source {
        Source::Docker(settings) => settings.common.environment,
        Source::Swarm(settings) => settings.common.environment,
        other => panic!("{other:?}"),
    };
    let variable = |name: &str, value: &str| Variable { name: name.to_owned(), value: value.to_owned() };
    assert_eq!(variables(&["--provider", "docker"]), []);
    // PATH is in the environment of this test.
    let given = ["--env", "A=1, two=2", "--env", "discovery.type=\n_B= \n", "--env", "PATH"];
    for provider in ["docker", "swarm"] {
        let variables = variables(&[&["--provider", provider][..], &given].concat());
        let (own, first) = variables.split_last().unwrap();
        assert_eq!(first, [variable("A", "1, two=2"), variable("discovery.type", ""), variable("_B", " ")]);
        assert_eq!(own.name, "PATH");
        assert!(!own.value.is_empty());
    }
    assert_eq!(format!("{:?}", variable("KEY", "secret")), "KEY=...");
}

#[test]
fn a_wrong_variable_is_refused_and_its_value_is_not_said_back() {
    for (wrong, expected) in [
        (
            "",
            "--env: invalid name: expected NAME=VALUE or NAME, on one line, with a name of at most 255 letters",
        ),
        ("=hidden", "--env: invalid name: expected"),
        ("1hidden=A", "--env: invalid name: expected"),
        ("A hidden=B", "--env: invalid name: expected"),
        ("SERVER_ID=hidden", "--env: invalid name `SERVER_ID`: lb itself gives this variable"),
        ("PORT", "--env: invalid name `PORT`: lb itself gives this variable"),
        ("LB_HANDOFF=hidden", "--env: invalid name `LB_HANDOFF`: lb itself gives this variable"),
        ("A=1\nA=hidden", "--env: A is given twice"),
        ("LB_NOT_SET_HERE", "--env: LB_NOT_SET_HERE is not set in the environment of lb"),
    ] {
        let found = problems(&["--provider", "docker", "--env", wrong]);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{wrong}: {found:?}");
        assert!(!found[0].contains("hidden"), "{wrong}: {found:?}");
    }
    let elsewhere = problems(&["--env", "A=1"]);
    assert_eq!(elsewhere, ["--env: it goes with --provider docker and swarm only"]);
}

#[test]
fn services_get_secrets_by_name() {
    let flags = ["--provider", "swarm", "--secret", "a,b.c", "--secret", "d-e_f"];
    let Source::Swarm(settings) = good(&flags).source else { panic!("it is a Swarm") };
    assert_eq!(settings.secrets, ["a", "b.c", "d-e_f"]);
    let twice = problems(&["--provider", "swarm", "--secret", "a,b", "--secret", "a"]);
    assert_eq!(twice, ["--secret: a is given twice; each name must be unique"]);
    for wrong in ["", "../x", "a/b", "_a", "a.", "a?b", &"a".repeat(65)] {
        let found = problems(&["--provider", "swarm", "--secret", wrong]);
        assert!(
            found.iter().any(|problem| problem.contains("expected the name of a secret")),
            "{wrong}: {found:?}"
        );
    }
    let elsewhere = problems(&["--provider", "docker", "--secret", "a"]);
    assert_eq!(elsewhere, ["--secret: it goes with --provider swarm only"]);
}
