//! Experiments with containers of a real engine. Skipped if no engine answers; with `CI=true` the test fails.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{bench, end_of, eventually, measured};

/// The output of a program, or its error output if it fails.
fn said(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn docker(arguments: &[&str]) -> String {
    said(Command::new("docker").args(arguments))
        .unwrap_or_else(|complaint| panic!("docker {arguments:?}: {complaint}"))
}

/// The image of the demo replica under a tag of this test; removed when it is dropped.
struct Image(String);

impl Image {
    /// `None` where no engine answers.
    fn build(name: &str) -> Option<Image> {
        if let Err(complaint) = said(Command::new("timeout").args(["15", "docker", "version"])) {
            assert!(std::env::var_os("CI").is_none(), "no engine answers: {complaint}");
            eprintln!("skipped: no engine answers: {complaint}");
            return None;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut prebuild = Command::new(root.join(".docker/prebuild"));
        // Settings for the build of the tests do not apply to this build.
        for name in ["CARGO_BUILD_TARGET", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR"] {
            prebuild.env_remove(name);
        }
        said(prebuild.arg("backend")).unwrap();
        let image = Image(format!("bench-test-{}:{name}", std::process::id()));
        let from =
            ["build", "--file", ".docker/Dockerfile", "--target", "prebuilt-backend", "--tag", &image.0, "."];
        said(Command::new("docker").args(from).current_dir(root)).unwrap();
        Some(image)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = said(Command::new("docker").args(["rmi", "--force", &self.0]));
    }
}

/// Containers, networks and volumes of this `bench`'s fleet.
fn left_of(pid: u32) -> String {
    let label = format!("label=lb.fleet=bench-{pid}");
    let containers = docker(&["ps", "-aq", "--filter", &label]);
    let volumes = docker(&["volume", "ls", "-q", "--filter", &label]);
    let networks = docker(&["network", "ls", "-q", "--filter", &format!("name=^bench-{pid}$")]);
    [containers, volumes, networks].concat()
}

#[test]
fn containers_are_measured_and_killed_like_processes() {
    let Some(image) = Image::build("drill") else { return };
    let flags = [
        "a3",
        "--provider",
        "docker",
        "--image",
        &image.0,
        "--requests",
        "300",
        "--kills",
        "2",
        "--rate",
        "200",
    ];
    let (ran, data) = measured(&flags);
    ran.succeeded();
    let drill = &data["a3"]["drill"];
    assert_eq!((drill["kills"].as_array().unwrap().len(), &drill["mapping_moved"]), (2, &0.into()));
    for kill in drill["kills"].as_array().unwrap() {
        assert_eq!(kill["failed_after"], 0, "{kill}");
        assert!(kill["begun_after"].as_u64().unwrap() > 0 && kill["answered"].is_number(), "{kill}");
    }
}

#[test]
fn ctrl_c_leaves_no_container_and_no_network() {
    let Some(image) = Image::build("ctrl-c") else { return };
    let flags =
        ["a1", "--provider", "docker", "--image", &image.0, "--requests", "90000000", "--mapping", "ring"];
    let child = bench(&flags).spawn().unwrap();
    let pid = child.id();
    eventually("a container", || {
        (!docker(&["ps", "-q", "--filter", &format!("label=lb.fleet=bench-{pid}")]).is_empty()).then_some(())
    });
    said(Command::new("kill").args(["-INT", &pid.to_string()])).unwrap();
    end_of(child).failed_with("interrupted");
    assert_eq!(left_of(pid), "");
}
