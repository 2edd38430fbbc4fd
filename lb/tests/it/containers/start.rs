//! How a fleet of containers begins, what it looks like to the engine, and what is refused.

use serde_json::{Value, json};

use super::{CALM, Fleet, OwnImage, docker, ids, image, terminate, words};
use crate::harness::{Lb, eventually, text};

/// The details of a container (`docker inspect`).
fn inspect(id: &str) -> Value {
    serde_json::from_str::<Value>(&docker(&["inspect", id])).unwrap()[0].clone()
}

#[test]
fn three_containers_carry_their_labels_and_limits_and_answer_with_affinity() {
    let Some(fleet) = Fleet::of("begin") else { return };
    let lb = fleet.start(&[&CALM[..], &["--memory", "64MiB", "--pids", "50"]].concat());
    let containers = fleet.settled(&lb);
    assert_eq!(containers.keys().collect::<Vec<_>>(), ["server1", "server2", "server3"]);
    for (index, (hostname, id)) in (1..).zip(&containers) {
        let container = inspect(id);
        let (config, host) = (&container["Config"], &container["HostConfig"]);
        for (label, value) in [
            ("lb.fleet", &fleet.name),
            ("lb.hostname", hostname),
            ("lb.slot.name", hostname),
            ("lb.slot.index", &index.to_string()),
        ] {
            assert_eq!(config["Labels"][label], json!(value), "{label} of {hostname}");
        }
        assert_eq!(container["Name"], json!(format!("/{}-{hostname}", fleet.name)));
        assert_eq!(config["Hostname"], json!(hostname));
        assert!(config["Env"].as_array().unwrap().contains(&json!(format!("SERVER_ID={hostname}"))));
        assert_eq!(host["RestartPolicy"]["Name"], "no");
        assert_eq!((&host["Memory"], &host["PidsLimit"]), (&json!(64 << 20), &json!(50)));
        assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
        let aliases = &container["NetworkSettings"]["Networks"][&fleet.name]["Aliases"];
        assert!(aliases.as_array().unwrap().contains(&json!(hostname)), "{aliases}");
    }
    for id in ids() {
        let explained = lb.done(&json!({"cmd": "explain", "id": id}));
        let hostname = text(&explained["pick"]);
        for _ in 0..2 {
            assert_eq!(lb.route(&id), hostname);
        }
        assert!(lb.get(&format!("/home?id={id}")).contains(&format!("Hello from Server: {hostname}\"")));
    }
}

/// What the main process of a container may do: its effective and its bounding capabilities, and whether it can gain others.
fn privileges(id: &str) -> [u64; 3] {
    let process = docker(&["inspect", "--format", "{{.State.Pid}}", id]);
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    ["CapEff:", "CapBnd:", "NoNewPrivs:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    })
}

#[test]
fn a_container_has_few_privileges_and_those_that_are_asked_for() {
    let Some(fleet) = Fleet::of("privileges") else { return };
    let folder = tempfile::TempDir::new().unwrap();
    let own = OwnImage::build(&fleet, folder.path(), &format!("FROM {}\nUSER 0\n", image()));
    let (net_bind, net_raw) = (1 << 10, 1 << 13);
    let usual = 0xa804_25fb;
    assert_ne!(usual & net_raw, 0, "the engine gives it to every container");
    let cases: [(&[&str], u64, i64); 3] = [
        (&[], usual & !net_raw, 2048),
        (&["--container-caps", "none", "--pids", "unlimited"], 0, -1),
        (&["--container-caps", "NET_BIND_SERVICE", "--pids", "10"], net_bind, 10),
    ];
    for (flags, capabilities, pids) in cases {
        let lb = fleet.start(&[&CALM[..], &["--replicas", "1", "--image", &own.0], flags].concat());
        let id = fleet.id_of("server1");
        assert_eq!(privileges(&id), [capabilities, capabilities, 1], "{flags:?}");
        // The engine says null for no limit.
        assert_eq!(inspect(&id)["HostConfig"]["PidsLimit"].as_i64().unwrap_or(-1), pids, "{flags:?}");
        terminate(lb);
    }
}

#[test]
fn a_missing_network_is_created_and_removed_at_the_end() {
    let Some(fleet) = Fleet::of("network") else { return };
    assert!(!fleet.has_network());
    let lb = fleet.start(&[]);
    assert!(fleet.has_network());
    terminate(lb);
    fleet.is_gone();
}

#[test]
fn a_network_that_was_removed_by_hand_is_created_again_once() {
    let Some(fleet) = Fleet::of("network-again") else { return };
    let lb = fleet.start(&["--replicas", "0"]);
    docker(&["network", "rm", &fleet.name]);
    assert_eq!(lb.done(&json!({"cmd": "add", "n": 5}))["N"], 5);
    let named = format!("name=^{}$", fleet.name);
    assert_eq!(words(&["network", "ls", "--quiet", "--filter", &named]).len(), 1);
    terminate(lb);
    fleet.is_gone();
}

#[test]
fn an_existing_network_stays() {
    let Some(fleet) = Fleet::of("old-network") else { return };
    let id = docker(&["network", "create", &fleet.name]);
    terminate(fleet.start(&[]));
    let left = docker(&["network", "inspect", "--format", "{{.Id}}", &fleet.name]);
    assert_eq!(left, id);
    assert_eq!(fleet.containers().len() + fleet.volumes().len(), 0);
}

#[test]
fn lb_names_a_missing_image_and_touches_nothing() {
    let Some(fleet) = Fleet::of("no-image") else { return };
    let last = fleet.refusal(&["--image", "lb-test-missing/image:1"]);
    assert!(last.contains("no image lb-test-missing/image:1 (--image)"), "{last}");
    fleet.is_gone();
}

#[test]
fn a_custom_image_may_have_another_port_and_health_path() {
    let Some(fleet) = Fleet::of("own-image") else { return };
    let folder = tempfile::TempDir::new().unwrap();
    let entry = r#"ENTRYPOINT ["/backend", "--listen", "0.0.0.0:8080"]"#;
    let own = OwnImage::build(&fleet, folder.path(), &format!("FROM {}\n{entry}\n", image()));
    for health in ["http:/home", "tcp"] {
        let flags = ["--replicas", "2", "--image", &own.0, "--backend-port", "8080", "--health", health];
        let lb = fleet.start(&flags);
        assert!(ids().all(|id| lb.hostnames().contains(&lb.route(&id))), "{health}");
        assert!(lb.backends().iter().all(|slot| text(&slot["address"]).ends_with(":8080")));
        terminate(lb);
        fleet.is_gone();
    }
}

#[test]
fn a_container_that_never_becomes_healthy_is_retried_and_lb_says_why() {
    let Some(fleet) = Fleet::of("unwell") else { return };
    let mut flags = fleet.flags(&["--replicas", "1", "--health", "http:/nowhere"]);
    let limit = flags.iter().position(|flag| *flag == "--start-timeout").unwrap() + 1;
    flags[limit] = "1s";
    let lb = Lb::launch(&flags);
    let slot = eventually("a reason", || {
        let slot = lb.slot(1);
        (slot["restarts"] != 0 && slot.get("reason").is_some()).then_some(slot)
    });
    assert!(text(&slot["reason"]).contains("status 400"), "{slot}");
    terminate(lb);
    fleet.is_gone();
}
