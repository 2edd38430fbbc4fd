//! Reads what processes use from /proc: CPU time, memory, open files and threads.
//!
//! CPU time is the scheduler's, in nanoseconds (`schedstat`), because ticks of 10 ms are too coarse for turns of a second.
//! Nothing here waits or writes.

use std::fs;
use std::io;
use std::net::SocketAddr;

use anyhow::Context as _;

/// The processes of one or several programs: those that were started, and their descendants (such as the worker of nginx).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Processes(Vec<u32>);

impl Processes {
    /// The present processes of the program `root`. Call it when the program is ready and has started its workers.
    pub(crate) fn of(root: u32) -> io::Result<Self> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let pid = entry?.file_name().to_string_lossy().parse();
            // A process may end after it was listed.
            let parent =
                pid.iter().find_map(|pid: &u32| parent_in(&read(&format!("/proc/{pid}/stat")).ok()?));
            parents.extend(pid.ok().zip(parent));
        }
        Ok(Processes(tree(root, &parents)))
    }

    /// Adds the processes of another program.
    pub(crate) fn and(mut self, others: Processes) -> Self {
        self.0.extend(others.0);
        self
    }

    /// CPU time of all present threads, in nanoseconds. The time of a thread that has ended is missing; a proxy keeps its
    /// threads.
    pub(crate) fn cpu(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for pid in &self.0 {
            sum += threads(*pid)?.iter().map(|(_, time)| time).sum::<u64>();
        }
        Ok(sum)
    }

    /// Their numbers.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.0
    }

    /// Memory in bytes: the proportional set size, in which a page that several processes share counts once.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let memory = |pid: &u32| {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = read(&path).with_context(|| format!("cannot read {path}"))?;
            pss_in(&text).with_context(|| format!("{path} has no Pss"))
        };
        self.0.iter().map(memory).sum()
    }
}

/// What one process holds. A part that this user may not read is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// Anonymous memory in bytes: heap and stacks, but no file that is shared with other processes.
    pub(crate) memory: Option<u64>,
    /// Open files.
    pub(crate) files: Option<u64>,
    pub(crate) threads: Option<u64>,
}

/// What a process holds now.
///
/// # Errors
/// It has ended.
pub(crate) fn holdings(pid: u32) -> anyhow::Result<Holdings> {
    let status = read(&format!("/proc/{pid}/status")).with_context(|| format!("process {pid} has ended"))?;
    let number = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|files| files.count() as u64);
    Ok(Holdings { memory: number("RssAnon:").map(|kib| kib * 1024), files, threads: number("Threads:") })
}

/// The process that listens on a TCP port of this host, if this user may see it.
pub(crate) fn listener(address: SocketAddr) -> Option<u32> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(|path| read(path).unwrap_or_default());
    let sockets: Vec<String> = tables.iter().flat_map(|table| listening(table, address.port())).collect();
    let links: Vec<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let holds = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().map_while(Result::ok);
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
    };
    let processes = fs::read_dir("/proc").ok()?.map_while(Result::ok);
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    numbers.find(holds)
}

/// The inodes of the sockets in a `tcp` table (proc(5)) that listen on a port.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, hexadecimal) = fields.get(1)?.rsplit_once(':')?;
        let is_it = fields.get(3) == Some(&LISTEN) && u16::from_str_radix(hexadecimal, 16) == Ok(port);
        is_it.then(|| fields.get(9).map(|&inode| inode.to_owned()))?
    };
    table.lines().filter_map(socket).collect()
}

/// The threads of a process, each with its CPU time in nanoseconds.
pub(crate) fn threads(pid: u32) -> anyhow::Result<Vec<(u32, u64)>> {
    let folder = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("process {pid} has ended"))?;
    let mut threads = Vec::new();
    for entry in entries.map_while(Result::ok) {
        let Ok(thread) = entry.file_name().to_string_lossy().parse() else { continue };
        let text = match read(&format!("{folder}/{thread}/schedstat")) {
            Ok(text) => text,
            Err(_) if !entry.path().exists() => continue,
            Err(error) => return Err(error).context("this kernel has no CPU times per thread (schedstat)"),
        };
        threads.push((thread, time_in(&text).context("schedstat does not begin with a number")?));
    }
    Ok(threads)
}

fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(path)
}

/// The CPU time in nanoseconds in a `schedstat` ("time on the core, time in the queue, slices").
fn time_in(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// The parent in a `stat` ("pid (name) state parent ..."); the name may hold anything, brackets included.
fn parent_in(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The bytes of `Pss:` in a `smaps_rollup`.
fn pss_in(rollup: &str) -> Option<u64> {
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?;
    kib.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// `root` and its descendants, given pairs of a process and its parent.
fn tree(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        let children =
            parents.iter().filter(|(pid, of)| *of == parent && *pid != parent).map(|(pid, _)| *pid);
        let new: Vec<u32> = children.filter(|pid| !tree.contains(pid)).collect();
        tree.extend(new);
        next += 1;
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_on_a_core_is_the_first_number() {
        assert_eq!(time_in("31569103 18569920 96\n"), Some(31_569_103));
        assert_eq!(time_in(""), None);
        assert_eq!(time_in("x 1 2"), None);
    }

    #[test]
    fn a_process_may_be_called_anything() {
        assert_eq!(parent_in("12 (nginx) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12 (a) R 9 (b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12 nginx S 7"), None);
    }

    #[test]
    fn memory_is_pss_and_none_of_its_parts() {
        let rollup = "Rss:    3300 kB\nPss:     1234 kB\nPss_Dirty:   99 kB\nPss_Anon:  80 kB\n";
        assert_eq!(pss_in(rollup), Some(1234 * 1024));
        assert_eq!(pss_in("Rss: 1 kB\n"), None);
    }

    #[test]
    fn descendants_are_found_in_any_order_and_others_are_not() {
        let parents = [(30, 20), (1, 0), (20, 10), (10, 1), (40, 1), (0, 0)];
        assert_eq!(tree(10, &parents), [10, 20, 30]);
        assert_eq!(tree(40, &parents), [40]);
        assert_eq!(tree(0, &[(0, 0), (1, 0)]), [0, 1]);
    }

    #[test]
    fn the_listener_of_a_port_is_found_by_its_socket() {
        let table = "sl local rem st ...\n\
            0: 0100007F:1388 00000000:0000 0A 0:0 00:0 0 0 0 8123 1\n\
            1: 0100007F:1388 0100007F:9000 01 0:0 00:0 0 0 0 8124 1\n\
            2: 0100007F:1389 00000000:0000 0A 0:0 00:0 0 0 0 8125 1\n";
        assert_eq!(listening(table, 5000), ["8123"]);
        assert_eq!(listening(table, 6000), Vec::<String>::new());
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listener(socket.local_addr().unwrap()), Some(std::process::id()));
    }

    #[test]
    fn this_process_holds_memory_files_and_threads() {
        let before = holdings(std::process::id()).unwrap();
        assert!(before.memory.unwrap() > 10_000 && before.threads.unwrap() > 0, "{before:?}");
        assert!(before.files.unwrap() > 2, "{before:?}");
        assert!(holdings(u32::MAX).is_err());
    }

    #[test]
    fn this_process_has_threads_that_work_and_memory() {
        let own = Processes::of(std::process::id()).unwrap();
        assert!(own.0.contains(&std::process::id()));
        assert!(own.memory().unwrap() > 100_000);
        let before = own.cpu().unwrap();
        let begun = std::time::Instant::now();
        while own.cpu().unwrap() == before {
            assert!(begun.elapsed().as_secs() < 60, "no CPU time is counted");
        }
    }
}
