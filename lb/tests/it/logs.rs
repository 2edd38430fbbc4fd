//! The log: what programs and people read of it.

use serde_json::{Value, json};

use crate::harness::Lb;

/// The fields of the line of a JSON log whose message begins with this.
#[track_caller]
fn fields(lb: &Lb, message: &str) -> Value {
    let line = lb.wait_for_log(&format!("\"message\":\"{message}"));
    serde_json::from_str::<Value>(&line).unwrap()["fields"].take()
}

#[test]
fn in_json_addresses_counts_and_durations_are_fields() {
    let flags =
        ["--log-format", "json", "--replicas", "2", "--drain-timeout", "1500ms", "--stop-delay", "1ms"];
    let mut lb = Lb::start(&[&flags[..], &["--log", "debug"]].concat());
    let (data, control) = (json!(lb.data.to_string()), json!(lb.control.to_string()));
    let listening = fields(&lb, "listening");
    assert_eq!((&listening["data"], &listening["control"]), (&data, &control));
    let ready = fields(&lb, "ready");
    assert_eq!((&ready["data"], &ready["control"], &ready["replicas"]), (&data, &control, &json!(2)));
    lb.route("7");
    let session = fields(&lb, "session");
    assert!(["first_line", "connect", "duration"].iter().all(|name| session[name].is_f64()), "{session}");
    assert_eq!((&session["up"], &session["tried"]), (&json!(2), &json!(1)), "{session}");
    lb.signal("TERM");
    assert_eq!(fields(&lb, "stopping: /healthz")["stop_delay"], 0.001);
    assert_eq!(fields(&lb, "stopping: connections may finish")["drain_timeout"], 1.5);
    assert!(lb.wait().success());
}

#[test]
fn in_text_nothing_is_said_twice() {
    let lb = Lb::start(&["--replicas", "1"]);
    let ready = lb.wait_for_log("ready data=");
    assert!(
        ready.ends_with(&format!(" lb: ready data={} control={} replicas=1", lb.data, lb.control)),
        "{ready}"
    );
    let listening = lb.wait_for_log("listening data=");
    assert!(
        listening.ends_with(&format!(" lb: listening data={} control={}", lb.data, lb.control)),
        "{listening}"
    );
}
