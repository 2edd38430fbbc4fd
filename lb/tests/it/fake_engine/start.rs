//! Start: what the engine must have, and what `lb` asks it for.

use std::os::unix::net::UnixListener;

use serde_json::json;

use super::call::{Call, Fault};
use super::engine::Engine;
use super::{FLEET, IMAGE, NETWORK, command, error_of, launch, running, start};
use crate::harness::Lb;

#[test]
fn lb_names_the_missing_engine_and_ends() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = |name| directory.path().join(name).display().to_string();
    drop(UnixListener::bind(path("dead.sock")).unwrap());
    std::fs::write(path("file.sock"), "not a socket").unwrap();
    for (host, name) in [
        (format!("unix://{}", path("missing.sock")), "missing.sock"),
        (format!("unix://{}", path("dead.sock")), "dead.sock"),
        (format!("unix://{}", path("file.sock")), "file.sock"),
        ("tcp://127.0.0.1:1".to_owned(), "127.0.0.1:1"),
        ("ssh://user@nowhere".to_owned(), "ssh://"),
        ("nonsense".to_owned(), "nonsense"),
    ] {
        let error = error_of(Lb::launch_as(command(&host, 5000, &[])));
        assert!(error.starts_with("error: --provider docker: "), "{error}");
        assert!(error.contains(name), "the error does not name the engine {host}: {error}");
        let is_about_an_answer = error.contains("cannot parse the engine's reply");
        assert!(!is_about_an_answer, "no engine has answered: {error}");
    }
}

#[test]
fn lb_ends_with_an_error_if_the_engine_fails_at_the_start() {
    let faults = [Fault::Status(500), Fault::Garbage, Fault::Shape, Fault::Cut, Fault::Close, Fault::Hang];
    for (call, words) in [
        (Call::Version, "GET /version"),
        (Call::Image, "GET /images/NAME/json"),
        (Call::Containers, "GET /containers/json"),
        (Call::Volumes, "GET /volumes"),
    ] {
        // All at the same time, because some wait for a timeout.
        let launched = faults.map(|fault| {
            let engine = Engine::start(IMAGE);
            engine.fail(call, fault);
            (launch(&engine, &[]), engine, fault)
        });
        for (lb, engine, fault) in launched {
            let error = error_of(lb);
            assert!(error.contains(words), "{call:?} {fault:?}: {error}");
            assert_eq!(engine.count(&Call::CHANGES), 0, "{call:?} {fault:?}");
        }
    }
}

#[test]
fn lb_names_a_missing_image_and_creates_nothing() {
    let engine = Engine::start("another");
    let error = error_of(launch(&engine, &[]));
    assert!(error.contains(&format!("no image {IMAGE} (--image); lb does not pull images")), "{error}");
    assert_eq!((engine.containers(), engine.volumes(), engine.networks()), (vec![], vec![], vec![]));
    let changes = [&Call::CHANGES[..], &[Call::MakeVolume, Call::MakeNetwork]].concat();
    assert_eq!(engine.count(&changes), 0);
}

#[test]
fn a_container_is_created_with_its_environment_limits_and_labels() {
    let engine = Engine::start(IMAGE);
    let _lb = start(&engine, &["--replicas", "1", "--memory", "64MiB", "--pids", "50"]);
    let requests = engine.requests();
    let create = requests.iter().find(|request| request.call == Call::Create).unwrap();
    let body = &create.body;
    assert_eq!(create.object, format!("{FLEET}-server1"));
    assert_eq!((&body["Image"], &body["Hostname"]), (&json!(IMAGE), &json!("server1")));
    let port = format!("PORT={}", engine.port());
    assert_eq!(body["Env"], json!(["SERVER_ID=server1", port]));
    let host = &body["HostConfig"];
    assert_eq!((&host["Memory"], &host["PidsLimit"]), (&json!(64 << 20), &json!(50)));
    assert_eq!(host["RestartPolicy"]["Name"], "no");
    assert_eq!(body["Labels"]["lb.fleet"], FLEET);
}

#[test]
fn lb_starts_although_a_container_name_is_taken() {
    let engine = Engine::start(IMAGE);
    engine.add_network(NETWORK);
    let taken = engine.run(&format!("{FLEET}-server2"), NETWORK, &[]);
    let mut lb = start(&engine, &[]);
    assert_eq!(lb.hostnames(), ["server1", "server2", "server3"]);
    assert_eq!(running(&engine).len(), 3);
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    let left: Vec<String> = engine.containers().into_iter().map(|seen| seen.id).collect();
    assert_eq!(left, [taken]);
}

#[test]
fn an_existing_network_stays() {
    let engine = Engine::start(IMAGE);
    engine.add_network(NETWORK);
    let mut lb = start(&engine, &["--replicas", "1"]);
    lb.signal("TERM");
    assert_eq!(lb.wait().code(), Some(0));
    assert_eq!((engine.containers(), engine.networks()), (vec![], vec![NETWORK.to_owned()]));
}
