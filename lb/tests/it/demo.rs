//! `--demo`: the load that `lb` makes on itself.

use crate::control::calm;
use crate::harness::eventually;

#[test]
fn the_load_of_a_demo_reaches_every_replica_and_ends_with_lb() {
    let mut lb = calm(&["--demo", "--log", "lb=debug"]);
    lb.wait_for_log(&format!("demo: open http://{}/ in a browser", lb.control));
    eventually("connections at each replica", || {
        let is_used = |slot: &serde_json::Value| slot["connections"]["total"].as_u64() > Some(0);
        lb.backends().iter().all(is_used).then_some(())
    });
    lb.signal("TERM");
    assert!(lb.wait().success());
    let cut = lb.log().into_iter().filter(|line| line.contains("are cut off")).count();
    assert_eq!(cut, 0, "{:?}", lb.log());
}
