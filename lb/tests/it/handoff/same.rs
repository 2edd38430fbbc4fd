//! What is checked of an `lb` that proxies, checked again of one that hands over: the same tests, with another default.

use std::process::Command;

/// The tests that are about more than the way of the bytes: fleet, health, replacement, slots, drain, first lines, bounds.
const AGAIN: [&str; 7] =
    ["commands::", "explain::", "failover::", "first_line::", "healing::", "life::", "mapping::bound::"];

/// Where it is another matter once a client is handed over, by docs/TRANSPORT.md: `lb` cannot reset a connection that it does
/// not have, and does not know when and how it ends.
const DIFFERENT: [&str; 4] = [
    "life::a_second_signal_ends_it_at_once",
    "life::every_finished_connection_is_one_line_at_debug",
    "life::sessions_that_outstay_the_drain_of_a_removed_replica_are_reset",
    "life::connections_that_outlast_the_drain_are_reset",
];

#[test]
fn what_holds_for_a_proxy_holds_when_connections_are_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(AGAIN).args(DIFFERENT.iter().flat_map(|name| ["--skip", name])).args([
        "--skip",
        "containers",
        "--skip",
        "fake_engine",
    ]);
    again.env("LB_TRANSPORT", "handoff").env("LB_HANDOFF_DIR", folder.path());
    let done = again.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
    let passed = said.lines().filter(|line| line.starts_with("test ") && line.ends_with(" ... ok")).count();
    assert!(passed > 60, "only {passed} tests were run:\n{said}");
}
