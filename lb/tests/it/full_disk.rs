//! A disk that fills while `lb` is under load, and has room again: it costs lines of the files on it, which are counted, and nothing else.
//! The disk is a small file system in memory (tmpfs) in a mount namespace of the `lb`.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use serde_json::{Value, json};

use crate::events::events;
use crate::harness::{Lb, eventually, id_for, signal, text};
use crate::load::Over;
use crate::metrics::page::scrape;

/// What `$0` is mounted on, and `lb` started behind: its log goes to the pipe of the test.
const LOG_ELSEWHERE: &str = "mount -t tmpfs -o size=32m lb-test \"$0\" && exec \"$@\"";
/// The log goes to a file on the disk, and from there to the pipe of the test.
const LOG_ON_IT: &str = "mount -t tmpfs -o size=32m lb-test \"$0\" && : > \"$0/lb.log\" \
    && (tail --pid=$$ -c +1 -f \"$0/lb.log\" >&2 &) && exec \"$@\" 2>> \"$0/lb.log\"";

/// An `lb` and its disk.
struct Served {
    lb: Lb,
    folder: tempfile::TempDir,
}

impl Served {
    /// `None` where no mount namespace can be made. `{}` in a flag is the folder of the disk.
    fn start(script: &str, flags: &[&str]) -> Option<Served> {
        let folder = tempfile::tempdir().unwrap();
        let inside = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", script]).arg(folder.path());
            command
        };
        let probe = inside(LOG_ELSEWHERE).arg("true").output();
        if !probe.as_ref().is_ok_and(|done| done.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "no file system can be mounted: {probe:?}");
            eprintln!("skipped: no file system can be mounted here (it takes root)");
            return None;
        }
        let flags: Vec<_> =
            flags.iter().map(|flag| flag.replace("{}", folder.path().to_str().unwrap())).collect();
        let serve = Lb::command(&flags.iter().map(String::as_str).collect::<Vec<_>>());
        let mut command = inside(script);
        command.arg(serve.get_program()).args(serve.get_args());
        let lb = Lb::launch_as(command);
        lb.wait_until_all_up();
        Some(Served { lb, folder })
    }

    /// A file on the disk.
    fn path(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.lb.pid())).join(folder).join(name)
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap();
        // The last line may be in the middle of being written.
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        let read =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line:?}"));
        whole.lines().map(read).collect()
    }

    /// Leaves no page of the disk free. What is left is the rest of the last page of each file.
    fn fill(&self) {
        let mut ballast = File::create(self.path("ballast")).unwrap();
        let error = loop {
            if let Err(error) = ballast.write_all(&[7; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }

    fn free(&self) {
        fs::remove_file(self.path("ballast")).unwrap();
    }

    fn counted(&self, name: &str) -> u64 {
        scrape(&self.lb).value(name, "") as u64
    }

    /// Waits until this counter has grown while `more` is done again and again.
    fn wait_for_losses(&self, name: &str, mut more: impl FnMut()) {
        eventually(name, || {
            more();
            (self.counted(name) > 0).then_some(())
        });
    }

    /// Replaces the first replica.
    fn heal(&self, restarts: u64) {
        signal(self.lb.process_of(text(&self.lb.slot(1)["hostname"])), "KILL");
        self.lb.wait_for_restarts(1, restarts);
    }

    /// Does this while clients come, each of whom is served by the second replica. Returns how many came.
    fn under_load(&self, work: impl FnOnce()) -> u64 {
        let (id, is_over) = (id_for(&self.lb, "server2"), AtomicBool::new(false));
        thread::scope(|scope| {
            let load = scope.spawn(|| {
                let mut served = 0;
                while !is_over.load(Relaxed) {
                    assert_eq!(self.lb.route(&id), "server2");
                    served += 1;
                }
                served
            });
            // The load ends also if this panics.
            let over = Over(&is_over);
            work();
            drop(over);
            load.join().unwrap()
        })
    }
}

/// A command that fails, and is an event.
fn fail(lb: &Lb, hostname: &str) {
    lb.refused(&json!({"cmd": "rm", "n": 1, "hostnames": [hostname]}));
}

#[test]
fn a_full_disk_costs_lines_of_the_access_log_and_the_journal_and_nothing_else() {
    let files = ["--access-log", "{}/access.log", "--access-log-format", "json", "--journal", "{}/journal"];
    let Some(served) = Served::start(LOG_ELSEWHERE, &[&["--replicas", "2"], &files[..]].concat()) else {
        return;
    };
    let lb = &served.lb;
    let clients = served.under_load(|| {
        eventually("lines", || (served.lines("access.log").len() > 10).then_some(()));
        served.fill();
        served.wait_for_losses("lb_access_log_lost_total", || {});
        lb.wait_for_log("lines are missing in the log of connections (--access-log): No space left");
        served.wait_for_losses("lb_journal_lost_total", || fail(lb, "full"));
        lb.wait_for_log("events are missing in the file of the journal (--journal): No space left");
        let size = |name: &str| fs::metadata(served.path(name)).unwrap().len() as usize;
        assert_eq!(size("access.log") % rustix::param::page_size(), 0, "a part of a line had room");
        assert!(fs::read(served.path("journal")).unwrap().ends_with(b"\n"));
        served.heal(1);
        served.free();
        served.heal(2);
    });
    assert_ne!(lb.route("after"), "");
    eventually("an access log that goes on", || {
        served.lines("access.log").iter().any(|line| line["id"] == "after").then_some(())
    });
    eventually("each client in the access log or counted", || {
        let (written, lost) =
            (served.lines("access.log").len() as u64, served.counted("lb_access_log_lost_total"));
        (written + lost == clients + 1).then_some(())
    });
    the_journal_tells_what_is_missing(&served);
}

/// Each event is in the file or in a gap that the file tells, and so many entries and steps are missing as are counted.
fn the_journal_tells_what_is_missing(served: &Served) {
    fail(&served.lb, "after");
    let last = eventually("a journal that goes on", || {
        let lines = served.lines("journal");
        let last =
            lines.iter().find(|line| line["command"].as_str().is_some_and(|it| it.contains("after")))?;
        last["seq"].as_u64()
    });
    let lines = served.lines("journal");
    let (mut told, mut missing) = (0, 0);
    for entry in lines.iter().filter(|line| line.get("step").is_none()) {
        let seq = entry["seq"].as_u64().unwrap();
        let is_gap = entry["kind"] == "gap";
        let missed = if is_gap { entry["missed"].as_u64().unwrap() } else { 0 };
        // A gap has the number of the last event that is missing.
        assert_eq!(seq, told + if is_gap { missed } else { 1 }, "{entry}");
        (told, missing) = (seq, missing + missed);
    }
    assert!(told >= last && missing > 0, "{told} {last} {missing}");
    let kept = events(&served.lb);
    for entry in lines.iter().filter(|line| line.get("step").is_none() && line["kind"] != "gap") {
        assert!(kept.contains(entry), "{entry}");
    }
    let steps: Vec<u64> = lines.iter().filter_map(|line| line["step"].as_u64()).collect();
    let missing_steps = steps.last().unwrap() - steps.len() as u64;
    assert_eq!(missing + missing_steps, served.counted("lb_journal_lost_total"));
    let replay =
        Command::new(env!("CARGO_BIN_EXE_lb")).arg("replay").arg(served.path("journal")).output().unwrap();
    assert!(replay.status.success(), "{replay:?}");
}

#[test]
fn a_full_disk_costs_lines_of_the_log_and_nothing_else() {
    let flags = ["--replicas", "2", "--log", "debug", "--log-format", "json"];
    let Some(served) = Served::start(LOG_ON_IT, &flags) else { return };
    let lb = &served.lb;
    let is_session = |line: &&Value| line["fields"]["message"] == "session";
    let clients = served.under_load(|| {
        eventually("lines", || (served.lines("lb.log").iter().filter(is_session).count() > 10).then_some(()));
        served.fill();
        served.wait_for_losses("lb_log_lost_total", || {});
        let size = fs::metadata(served.path("lb.log")).unwrap().len() as usize;
        assert_eq!(size % rustix::param::page_size(), 0, "a part of a line had room");
        served.heal(1);
        served.free();
        served.heal(2);
    });
    // Each line has its turn, and what is missing is said once a second at most.
    eventually("how many lines are missing", || {
        assert_ne!(lb.route("after"), "");
        let lines = served.lines("lb.log");
        let missing = lines.iter().filter(|line| line["fields"]["message"] == "lines are missing in the log");
        let said: u64 = missing.map(|line| line["fields"]["lines"].as_u64().unwrap()).sum();
        (said == served.counted("lb_log_lost_total")).then_some(())
    });
    let said = lb.wait_for_log("\"message\":\"lines are missing in the log\"");
    assert!(said.contains("No space left"), "{said}");
    let written = served.lines("lb.log").iter().filter(is_session).count() as u64;
    assert!(written + served.counted("lb_log_lost_total") >= clients, "{written} of {clients}");
}
