//! Facts about this host: hardware, kernel, and versions of programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use crate::data::Environment;

/// The environment of a measurement, with the versions of `programs`.
pub(crate) fn fingerprint(programs: &[(&str, &Path)], seed: u64) -> Environment {
    Environment {
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string().chars().take(10).collect(),
        cores: std::thread::available_parallelism().map_or(1, Into::into),
        processor: line_of("/proc/cpuinfo", "model name"),
        memory: line_of("/proc/meminfo", "MemTotal")
            .trim_end_matches(" kB")
            .parse()
            .map_or(0, |kib: u64| kib * 1024),
        kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease")),
        versions: versions(programs),
        commit: commit(),
        seed,
        arguments: arguments(),
        ..Environment::default()
    }
}

/// The arguments of `bench`, without secrets and without its internal flags.
pub(crate) fn arguments() -> Vec<String> {
    const SECRET: &str = "--control-token";
    let mut shown: Vec<String> = Vec::new();
    for argument in std::env::args_os().skip(1) {
        let argument = argument.to_string_lossy().into_owned();
        match argument.as_str() {
            "--inside" => {}
            _ if shown.last().is_some_and(|last| last == SECRET) => shown.push("...".to_owned()),
            given if given.starts_with("--control-token=") => shown.push(format!("{SECRET}=...")),
            _ => shown.push(argument),
        }
    }
    shown
}

fn versions(programs: &[(&str, &Path)]) -> BTreeMap<String, String> {
    let bench = ("bench".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let others = programs.iter().map(|(name, path)| ((*name).to_owned(), version(path)));
    others.chain([bench]).collect()
}

/// The version of a program: the first number with dots in its output.
pub(crate) fn version(program: &Path) -> String {
    // nginx knows only `-v`, and prints to stderr.
    let is_nginx = program.ends_with("nginx");
    let said = output(Command::new(program).arg(if is_nginx { "-v" } else { "--version" }));
    let said = if said.contains('.') { said } else { output(Command::new(program).arg("-v")) };
    let words = said.split(|c: char| c.is_whitespace() || c == '/');
    let is_number = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    words.clone().find(is_number).unwrap_or("?").to_owned()
}

/// The commit of the working directory, with a `+` if files are changed.
fn commit() -> String {
    let commit = output(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]));
    if commit.is_empty() || commit.contains(' ') {
        return String::new();
    }
    let changes = output(Command::new("git").args(["status", "--porcelain", "--untracked-files=no"]));
    format!("{commit}{}", if changes.is_empty() { "" } else { "+" })
}

/// The output of a program; empty if it cannot run.
fn output(command: &mut Command) -> String {
    let said = command.stdin(Stdio::null()).output();
    said.map_or_else(
        |_| String::new(),
        |said| {
            let text =
                if said.stdout.is_empty() && said.status.success() { said.stderr } else { said.stdout };
            String::from_utf8_lossy(&text).trim().to_owned()
        },
    )
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The value of a name in a file of `name : value` lines.
fn line_of(path: &str, name: &str) -> String {
    let text = read(path);
    let value = text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name);
    value.map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
}

/// The path of a program in PATH or in a folder for servers.
pub(crate) fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}
