//! The figures of `docs/SIZING.md`: how many files so many sessions take, against a running `lb`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use rustix::process::{Resource, getrlimit};

use crate::book::root;
use crate::control::calm;
use crate::harness::{Lb, eventually, fixed, flags, session, with_files};
use crate::metrics::most_sessions;
use crate::programs::skipped;
use crate::upgrade::Successor;

/// The flags that take more files, with what the page says of them.
const MORE: [(&str, &[&str]); 5] = [
    ("| `--metrics` |", &["--metrics", "127.0.0.1:0"]),
    ("| `--journal` |", &["--journal", "JOURNAL"]),
    ("| `--health exec:CMD`, or `--config`", &["--health", "exec:false"]),
    ("| `--health exec:CMD`, or `--config`", &["--config", "CONFIG"]),
    ("| `--listen`, each further address |", &["--listen", "127.0.0.1:0"]),
];

fn page() -> String {
    fs::read_to_string(root().join("docs/SIZING.md")).unwrap()
}

/// The cells of a row of a table, without commas in numbers.
fn cells(row: &str) -> Vec<String> {
    row.trim_matches('|').split('|').map(|cell| cell.trim().replace(',', "")).collect()
}

/// The rows of the table below this heading.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let page = page();
    let (_, rest) = page.split_once(&format!("{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    rest.lines().skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// The rows of a calculator below this heading.
fn calculations<const N: usize>(heading: &str) -> Vec<[f64; N]> {
    let numbers = |row: Vec<String>| row.iter().map(|cell| cell.parse().unwrap()).collect::<Vec<f64>>();
    rows(heading).into_iter().map(|row| numbers(row).try_into().unwrap()).collect()
}

/// `lb` with so many files, workers and replicas (which nothing serves), and these flags.
fn sized(files: usize, workers: usize, replicas: usize, more: &[&str]) -> Lb {
    let backends = fixed(&vec![SocketAddr::from(([127, 0, 0, 1], 1)); replicas.min(26)]);
    let further: Vec<String> =
        (26..replicas).flat_map(|n| ["--backend".into(), format!("s{n}=127.0.0.1:1")]).collect();
    let workers = workers.to_string();
    let all =
        [&flags(&backends)[..], &flags(&further), &["--workers", &workers, "--health-interval", "1m"], more]
            .concat();
    Lb::launch_as(with_files(files, &Lb::command(&all)))
}

/// Whether a process that this test starts may have so many files.
fn may_have(files: usize) -> bool {
    getrlimit(Resource::Nofile).maximum.is_none_or(|most| most >= files as u64)
}

#[track_caller]
fn wait_for_most_sessions(lb: &Lb, expected: usize) {
    let mut last = 0;
    eventually(&format!("room for {expected} sessions"), || {
        let most = most_sessions(lb);
        if most != last {
            eprintln!("room for {most} sessions");
            last = most;
        }
        (most == expected).then_some(())
    });
}

#[test]
fn so_many_files_are_enough_for_so_many_sessions() {
    let rows: Vec<[usize; 4]> = calculations("| sessions | workers | replicas, spares | files |")
        .into_iter()
        .map(|row| row.map(|number| number as usize))
        .collect();
    assert!(rows.len() >= 4 && rows.iter().filter(|row| may_have(row[3])).count() >= 2, "{rows:?}");
    for [sessions, workers, replicas, files] in rows {
        assert_eq!(files, 2 * sessions + 134 * workers + 6 * replicas + 319, "the formula of the page");
        if !may_have(files) {
            eprintln!("not tried: this user may not have {files} files");
            continue;
        }
        let lb = sized(files, workers, replicas, &[]);
        // Below these limits pipes and the control port get less, so sessions get more.
        if files >= 8192 * workers && files >= 4096 {
            wait_for_most_sessions(&lb, sessions);
        } else {
            eventually("enough sessions", || (most_sessions(&lb) >= sessions).then_some(()));
        }
    }
}

#[test]
fn what_needs_more_files_takes_them_from_sessions() {
    let [files, workers, replicas] = [16_384, 2, 3];
    if !may_have(files) {
        return skipped("this user may not have so many files");
    }
    let (page, folder) = (page(), tempfile::TempDir::new().unwrap());
    let file = |name: &str| folder.path().join(name).display().to_string();
    fs::write(file("CONFIG"), "# Nothing but comments.\n").unwrap();
    let room = |more: usize| (files - 319 - 134 * workers - 6 * replicas - more) / 2;
    for (row, more) in MORE {
        let row = page.lines().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("no row {row}"));
        let said: usize = cells(row)[1].split_once(" more").unwrap().0.parse().unwrap();
        let takes = match more[0] {
            "--listen" => said * workers,
            _ => said,
        };
        let is_file = |word: &str| word.chars().all(|letter| letter.is_ascii_uppercase());
        let more: Vec<String> =
            more.iter().map(|word| if is_file(word) { file(word) } else { (*word).to_owned() }).collect();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        println!("{row}");
        wait_for_most_sessions(&sized(files, workers, replicas, &more), room(takes));
    }
    wait_for_most_sessions(&sized(files, workers, replicas, &["--splice", "never"]), room(0) + 64 * workers);
}

#[test]
fn a_session_takes_two_files() {
    const SESSIONS: usize = 100;
    let lb = calm(&["--workers", "1"]);
    let (first, _) = session(&lb, "7");
    let before = lb.open_files();
    let open: Vec<TcpStream> = (0..SESSIONS).map(|id| session(&lb, &id.to_string()).0).collect();
    assert_eq!(lb.open_files(), before + 2 * SESSIONS);
    drop(open);
    eventually("their files are closed", || (lb.open_files() == before).then_some(()));
    drop(first);
}

/// (To raise a limit takes a privilege that not every root has, so it is lowered here.)
#[test]
fn a_successor_has_the_files_that_its_predecessor_was_given() {
    let lb = sized(2000, 1, 1, &["--health", "tcp"]);
    // The files of its replica are kept back now.
    lb.wait_for_state(1, "down");
    let room = most_sessions(&lb);
    let done = Command::new("prlimit").args(["--pid", &lb.pid().to_string(), "--nofile=1000:1000"]).output();
    if !done.as_ref().is_ok_and(|done| done.status.success()) {
        return skipped("there is no prlimit (util-linux)");
    }
    assert_eq!(most_sessions(&lb), room, "the one that runs goes on with what it had");
    let _successor = Successor::of(&lb);
    eventually("a successor with less room", || (most_sessions(&lb) < room - 400).then_some(()));
}

#[test]
fn the_figures_of_cores_stand_in_the_report_and_the_rest_follows_from_them() {
    let report = fs::read_to_string(root().join("docs/experiments/report.md")).unwrap();
    let figures = rows("| work | CPU time of `lb` | a core carries at most |");
    assert!(figures.len() >= 6, "{figures:?}");
    for row in figures {
        let mode = row[0].split('`').nth(1).unwrap();
        let (_, section) = report.split_once(&format!("\n### {mode}\n")).unwrap();
        let line = section.lines().find(|line| line.starts_with("| lb |")).unwrap();
        assert!(line.contains(&format!("| {} |", row[1])), "{row:?}: {line}");
        let (time, unit) = row[1].split_once(' ').unwrap();
        let seconds = time.parse::<f64>().unwrap() * if unit == "ms" { 1e-3 } else { 1e-6 };
        let rate: f64 = row[2].split(' ').next().unwrap().parse().unwrap();
        assert!((rate * seconds - 1.0).abs() < 0.02, "{row:?}");
    }
    let heading = "| connections a second | round trips a second | GB a second | cores |";
    for [connections, trips, gigabytes, cores] in calculations(heading) {
        let computed = (connections * 107e-6 + trips * 15.5e-6 + gigabytes * 0.351) / 0.7;
        assert!((computed - cores).abs() < 0.006, "{connections} {trips} {gigabytes}: {computed}");
    }
}

#[test]
fn replicas_follow_from_ports() {
    for [sessions, connections, reuse, replicas] in
        calculations("| sessions | connections a second | `tcp_tw_reuse` | replicas |")
    {
        let by_rate = if reuse == 1.0 { 0.0 } else { connections / 470.0 };
        assert_eq!((sessions / 28_232.0).max(by_rate).ceil(), replicas, "{sessions} {connections} {reuse}");
    }
}
