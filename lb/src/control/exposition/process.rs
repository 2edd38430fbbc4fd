//! What the kernel shows of this process (proc(5)), under the names that Prometheus clients use.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// This process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// Time on processors, in seconds.
    pub(super) cpu: f64,
    pub(super) open_files: u64,
    /// The limit of open files; `None` without one.
    pub(super) most_files: Option<u64>,
    /// In bytes.
    pub(super) virtual_memory: u64,
    pub(super) resident_memory: u64,
    /// When it began, in seconds since 1970.
    pub(super) began: f64,
    pub(super) threads: u64,
}

impl Process {
    /// Reads it. `None`: there is no /proc, or no file is left to read it with.
    pub(super) fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let files = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        let process = Process::parse(&stat, clock_ticks_per_second(), page_size() as u64, booted()?)?;
        // The folder itself was one of them.
        let open_files = files.saturating_sub(1);
        Some(Process { open_files, most_files: getrlimit(Resource::Nofile).current, ..process })
    }

    /// Reads `/proc/PID/stat`: `PID (NAME) STATE ...`. The name may hold any character. `booted` is in seconds since 1970.
    fn parse(stat: &str, ticks: u64, page: u64, booted: u64) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
        // The manual page counts from 1, and the state is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let seconds = |ticked: u64| ticked as f64 / ticks.max(1) as f64;
        Some(Process {
            cpu: seconds(field(14)? + field(15)?),
            threads: field(20)?,
            began: booted as f64 + seconds(field(22)?),
            virtual_memory: field(23)?,
            resident_memory: field(24)? * page,
            ..Process::default()
        })
    }
}

/// When this machine was booted, in seconds since 1970.
fn booted() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat =
            "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 250 150 0 0 20 0 7 0 12300 1048576 10 184 1 2 3";
        let process = Process::parse(stat, 100, 4096, 1000).unwrap();
        let expected = Process {
            cpu: 4.0,
            threads: 7,
            began: 1123.0,
            virtual_memory: 1_048_576,
            resident_memory: 40_960,
            ..Process::default()
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("42 (a", 100, 4096, 0), None);
    }

    #[test]
    fn this_process_has_files_memory_and_an_age() {
        let process = Process::read().unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(process.open_files >= 1 && process.threads >= 1, "{process:?}");
        assert!(process.virtual_memory > process.resident_memory && process.resident_memory > 0);
        assert!(process.began > 0.0 && process.began <= now + 2.0, "{process:?}, {now}");
    }
}
