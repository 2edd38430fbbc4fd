//! Each kind of probe against the real server that it is for.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{OFTEN, probed};
use crate::harness::{Lb, eventually, fixed, flags};
use crate::programs::{Front, find, skipped};
use crate::proxy_protocol::programs::nginx as nginx_with;

/// Checks that a program is up by its own probe, and stays so, and that it is down by that of another.
#[track_caller]
fn check(program: &Front, probes: &[&str], foreign: &str) {
    let fleet = fixed(&[program.address]);
    let launch = |probe: &str, timeout: &str| {
        let words: Vec<&str> = probe.split_whitespace().collect();
        Lb::launch(&[&flags(&fleet)[..], &OFTEN, &["--health-timeout", timeout, "--health"], &words].concat())
    };
    for probe in probes {
        let lb = launch(probe, "20s");
        lb.wait_for_state(1, "up");
        // The next rounds are those of a healthy replica.
        eventually("more probes", || (probed(&lb, "ok") > 10).then_some(()));
        assert!(!lb.log().iter().any(|line| line.contains("probe: ")), "{probe}: {:?}", lb.log());
    }
    launch(foreign, "500ms").wait_for_state(1, "down");
}

fn redis(program: &Path, options: &[&str]) -> Front {
    Front::start(|listen, folder| {
        let mut command = Command::new(program);
        let (host, port) = (listen.ip().to_string(), listen.port().to_string());
        command.args(["--bind", &host, "--port", &port, "--save", "", "--dir"]).arg(folder).args(options);
        command
    })
}

#[test]
fn redis_is_probed() {
    let Some(program) = find("redis-server") else { return skipped("redis-server is not installed") };
    check(&redis(&program, &[]), &["redis", r"line:PING\r\n=+PONG\r\n"], "postgres");
    check(&redis(&program, &["--requirepass", "secret"]), &["redis"], "tls");
}

/// A certificate of its own and its key, in a folder.
fn certificate(openssl: &Path, folder: &Path) -> (PathBuf, PathBuf) {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let mut command = Command::new(openssl);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    command
        .args(["-subj", "/CN=app.example", "-days", "2", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    (key, certificate)
}

#[test]
fn tls_servers_are_probed() {
    let Some(openssl) = find("openssl") else { return skipped("openssl is not installed") };
    // The last one wants a certificate of its client.
    for options in [&["-tls1_2"][..], &["-tls1_3"], &["-groups", "P-384"], &["-Verify", "1"]] {
        let server = Front::start(|listen, folder| {
            let (key, certificate) = certificate(&openssl, folder);
            let mut command = Command::new(&openssl);
            command.args(["s_server", "-www", "-accept", &listen.to_string(), "-key"]).arg(key);
            command.arg("-cert").arg(certificate).args(options);
            command
        });
        check(&server, &["tls", "tls --health-host app.example"], "redis");
    }
}

#[test]
fn nginx_is_probed_by_tls_and_by_http() {
    let (Some(nginx), Some(openssl)) = (find("nginx"), find("openssl")) else {
        return skipped("nginx or openssl is not installed");
    };
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = certificate(&openssl, folder.path());
    let start = |options: &str, more: &str| {
        let blocks = format!(
            "http {{ access_log off; server {{ listen LISTEN {options}; {more} location / {{ return 204; }} }} }}"
        );
        nginx_with(&nginx, "", &blocks)
    };
    let files =
        format!("ssl_certificate \"{}\"; ssl_certificate_key \"{}\";", certificate.display(), key.display());
    let server = start("ssl", &files);
    check(&server, &["tls", "tls --health-host app.example"], "http:/");
    assert_eq!(server.log(), "", "it has no reason to complain");
    let server = start("", "");
    check(&server, &["http:/", "http:/ --health-expect 204 --health-method HEAD"], "tls");
    check(
        &server,
        &[r"line:GET\x20/\x20HTTP/1.1\r\nHost:\x20a\r\n\r\n=HTTP/1.1\x20204\x20"],
        "http:/ --health-expect 200",
    );
}

/// A cluster of PostgreSQL in a folder of its user's own, with these lines as its `pg_hba.conf`.
fn postgres(programs: &Path, hba: &str) -> Front {
    Front::start(|listen, folder| {
        let (user, group) = account("postgres");
        std::os::unix::fs::chown(folder, Some(user), Some(group)).unwrap();
        let data = folder.join("data");
        let as_user = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.uid(user).gid(group).env("TZ", "UTC").current_dir(folder);
            command
        };
        let mut begin = as_user("initdb");
        begin.args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"]).arg(&data).stdout(Stdio::null());
        assert!(begin.status().unwrap().success());
        fs::write(data.join("pg_hba.conf"), hba).unwrap();
        let mut command = as_user("postgres");
        command.arg("-D").arg(&data).args(["-k", "", "-h", &listen.ip().to_string()]);
        command.args(["-p", &listen.port().to_string(), "-c", "fsync=off"]);
        command
    })
}

/// The numbers of a user and its group.
fn account(name: &str) -> (u32, u32) {
    let file = fs::read_to_string("/etc/passwd").unwrap();
    let line = file.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}

#[test]
fn postgres_is_probed() {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let Some(programs) = versions.map(|version| version.unwrap().path().join("bin")).max() else {
        return skipped("postgresql is not installed");
    };
    for (way, is_silent) in [("trust", true), ("scram-sha-256", true), ("reject", false)] {
        let server = postgres(&programs, &format!("host all all 127.0.0.0/8 {way}\n"));
        check(&server, &["postgres"], "redis");
        let complaints = server.log().lines().filter(|line| line.contains("FATAL")).count();
        assert_eq!(complaints == 0, is_silent, "{way}: {}", server.log());
    }
}
