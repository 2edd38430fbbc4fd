//! Finds and signals processes of this machine.

use std::process::Command;

/// Sends a signal to a process: `signal(pid, "KILL")`.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {name} {pid}");
}

/// Whether a process exists and is not a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// The live processes of the process group `leader`; the leader itself may have ended.
pub(crate) fn group_of(leader: u32) -> Vec<u32> {
    let group = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(") ").next()?.split(' ').nth(2)?.parse::<u32>().ok()
    };
    processes().filter(|&pid| group(pid) == Some(leader) && is_alive(pid)).collect()
}

/// The live processes that were started with `variable` ("NAME=VALUE") in their environment.
pub(crate) fn processes_with(variable: &str) -> Vec<u32> {
    let has_it = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|found| found == variable.as_bytes())
    };
    processes().filter(has_it).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let names = std::fs::read_dir("/proc").unwrap().map_while(Result::ok).map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok())
}
