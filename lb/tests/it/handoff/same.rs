//! Runs the tests of a proxying `lb` again with hand-off as the default transport.

use std::process::Command;

/// The tests that do not depend on the transport: fleet, health, replacement, slots, drain, first lines, bounds.
const AGAIN: [&str; 7] =
    ["commands::", "explain::", "failover::", "first_line::", "healing::", "life::", "mapping::bound::"];

/// The exceptions (docs/TRANSPORT.md): `lb` cannot reset a connection that it has handed over, and does not know when and how
/// that connection ends.
const DIFFERENT: [&str; 4] = [
    "life::a_second_signal_ends_lb_at_once",
    "life::every_finished_connection_is_one_line_at_debug",
    "life::sessions_that_outlast_the_drain_of_a_removed_replica_are_reset",
    "life::connections_that_outlast_the_drain_are_reset",
];

/// This test program.
fn tests() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

#[test]
fn tests_of_the_proxy_transport_pass_with_hand_off() {
    let listed = String::from_utf8(tests().arg("--list").output().unwrap().stdout).unwrap();
    for name in DIFFERENT {
        assert!(listed.lines().any(|line| line == format!("{name}: test")), "there is no test {name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let skipped = DIFFERENT.iter().chain(&["containers", "fake_engine"]).flat_map(|name| ["--skip", name]);
    let mut again = tests();
    again.args(AGAIN).args(skipped);
    again.env("LB_TRANSPORT", "handoff").env("LB_HANDOFF_DIR", folder.path());
    let done = again.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
    let passed = said.lines().filter(|line| line.starts_with("test ") && line.ends_with(" ... ok")).count();
    assert!(passed > 60, "only {passed} tests were run:\n{said}");
}
