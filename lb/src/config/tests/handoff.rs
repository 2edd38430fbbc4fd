//! `--transport` and what goes with it.

use proto::control::Transport;

use super::*;

#[test]
fn hand_off_takes_a_folder_where_lb_does_not_start_the_replicas_itself() {
    let config = good(&[]);
    assert_eq!((config.limits.transport, config.handoff_dir), (Transport::Proxy, None));
    let config = good(&["--transport", "handoff"]);
    assert_eq!((config.limits.transport, config.handoff_dir), (Transport::Handoff, None));
    let fixed = ["--provider", "fixed", "--backend", "a=127.0.0.1:1", "--transport", "handoff"];
    let docker = ["--provider", "docker", "--transport", "handoff"];
    let dir = ["--handoff-dir", "/run/lb"];
    for flags in [&fixed, docker.as_slice()] {
        assert!(problems(flags)[0].contains("handoff takes --handoff-dir DIR as well"), "{flags:?}");
        assert_eq!(good(&[flags, &dir].concat()).handoff_dir, Some("/run/lb".into()));
    }
    let flags = [docker.as_slice(), &dir, &["--handoff-volume", "doors"]].concat();
    assert!(
        matches!(good(&flags).source, Source::Docker(settings) if settings.volume.as_deref() == Some("doors"))
    );
    let cases: [(&[&str], &str); 4] = [
        (&dir, "--handoff-dir: it goes with --transport handoff only"),
        (
            &["--provider", "docker", "--handoff-volume", "v"],
            "--handoff-volume: it goes with --transport handoff only",
        ),
        (
            &["--transport", "handoff", "--handoff-volume", "v"],
            "--handoff-volume: it goes with --provider docker only",
        ),
        (&["--transport", "both"], "--transport: invalid value `both`: expected proxy or handoff"),
    ];
    for (flags, problem) in cases {
        assert_eq!(problems(flags), [problem]);
    }
}

#[test]
fn the_path_of_the_folder_leaves_room_for_the_names_of_the_sockets() {
    let of = |length: usize| format!("/{}", "x".repeat(length - 1));
    let process = |dir: &str| check(&["--transport", "handoff", "--handoff-dir", dir]);
    assert!(process(&of(85)).is_ok());
    assert!(process(&of(86)).unwrap_err().contains("expected a path of at most 85 bytes"));
    let fixed = |dir: &str| {
        let backend = format!("{}=127.0.0.1:1", "n".repeat(63));
        let fixed =
            ["--provider", "fixed", "--backend", &backend, "--transport", "handoff", "--handoff-dir", dir];
        check(&fixed)
    };
    assert!(fixed(&of(38)).is_ok());
    assert!(fixed(&of(39)).unwrap_err().contains("at most 38 bytes"));
}
