//! The shape of the code: what may import what.

use std::fs;
use std::path::{Path, PathBuf};

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Every place below `folder` that names one of `others`.
fn mentions(folder: &str, others: &[&str]) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
    let files = rust_files(&folder);
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let found = files.iter().flat_map(|path| {
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let path = path.display().to_string();
        lines
            .into_iter()
            .filter(|line| others.iter().any(|other| line.contains(other)))
            .map(move |line| format!("{path}: {line}"))
    });
    found.collect()
}

#[test]
fn the_two_planes_do_not_import_each_other() {
    let none: Vec<String> = Vec::new();
    assert_eq!(mentions("data", &["crate::control", "crate::provider", "crate::config"]), none);
    assert_eq!(mentions("control", &["crate::data", "crate::config"]), none);
}

#[test]
fn a_provider_knows_nobody_who_decides() {
    let none: Vec<String> = Vec::new();
    assert_eq!(
        mentions("provider", &["crate::control", "crate::data", "crate::snapshot", "crate::config"]),
        none
    );
}

#[test]
fn the_mappings_and_the_fleet_are_pure() {
    let none: Vec<String> = Vec::new();
    let world =
        ["tokio::", "std::net", "std::fs", "Instant::now", "SystemTime", "crate::snapshot", "crate::data"];
    assert_eq!(mentions("../mapping/src", &world), none);
    assert_eq!(mentions("../simulate/src/peers", &world), none);
    assert_eq!(mentions("fleet", &world), none);
}

#[test]
fn a_simulation_talks_to_nobody() {
    let none: Vec<String> = Vec::new();
    let world = ["tokio::", "std::net", "crate::provider", "crate::data", "crate::snapshot", "crate::client"];
    assert_eq!(mentions("../simulate/src", &world), none);
}
