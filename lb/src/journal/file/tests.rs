use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::pin::pin;
use std::task::{Context, Waker};

use fleet::{Authority, Fleet, Lineup, Names, Policy};
use mapping::{Algorithm, MappingPolicy};
use proto::control::Weight;
use proto::journal::Entry;

use super::*;
use crate::journal::step::What;

fn policy() -> Policy {
    Policy {
        mapping: MappingPolicy { scheme: Algorithm::Rendezvous.into(), balance: None },
        start_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(10),
        authority: Authority::Alone { same_name: true, restartable: true, keep: false },
        born: Duration::ZERO,
    }
}

fn line(seq: u64) -> Line {
    Line::new(seq, SystemTime::UNIX_EPOCH, Event::Stopping {})
}

fn lines(numbers: impl IntoIterator<Item = u64>) -> Vec<Message> {
    numbers.into_iter().map(|seq| Message::Line(line(seq))).collect()
}

fn entries(path: &Path) -> Vec<(u64, Event)> {
    let text = fs::read_to_string(path).unwrap();
    let entries = text.lines().map(|line| serde_json::from_str::<Entry>(line).unwrap());
    entries.map(|entry| (entry.seq, entry.event)).collect()
}

#[test]
fn lines_are_appended_and_missing_ones_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut writer = Writer::new(&path, 1 << 20);
    writer.put(&lines(3..=4)).unwrap();
    writer.put(&lines([7])).unwrap();
    // Another lb goes on in the same file.
    Writer::new(&path, 1 << 20).put(&lines([1])).unwrap();
    let stopping = |seq| (seq, Event::Stopping {});
    let expected = [stopping(3), stopping(4), (6, Event::Gap { missed: 2 }), stopping(7), stopping(1)];
    assert_eq!(entries(&path), expected);
}

#[test]
fn a_large_file_is_rotated_and_the_oldest_one_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let most = 3 * (line(100).json.len() as u64 + 1);
    let mut writer = Writer::new(&path, most);
    for seq in 100..130 {
        writer.put(&lines([seq])).unwrap();
    }
    let first = |path: &Path| entries(path)[0].0;
    assert_eq!(first(&path), 127);
    for (number, expected) in [(1, 124), (2, 121), (3, 118), (4, 115)] {
        assert_eq!(first(&writer.old(number)), expected);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    assert!(fs::metadata(writer.old(1)).unwrap().len() <= most);
}

/// Whether a checkpoint was asked for since the last look.
fn is_wanted(writer: &Writer) -> bool {
    pin!(writer.losses.wanted.notified()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_file_that_is_begun_anew_gets_a_checkpoint_whose_size_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut writer = Writer::new(&path, 3 * (line(100).json.len() as u64 + 1));
    let slots = (1..=9).map(|name| (format!("slot{name}").try_into().unwrap(), Weight::default()));
    let (fleet, _) = Fleet::new(policy(), Names::Random, Lineup::new(slots.collect(), 0), 7);
    let checkpoint =
        || vec![Message::Step(Box::new(Step { step: 9, seq: 103, what: What::checkpoint(&fleet) }))];
    writer.put(&lines(100..=102)).unwrap();
    assert!(!is_wanted(&writer), "the first file has the beginning");
    writer.put(&lines([103])).unwrap();
    assert!(is_wanted(&writer));
    writer.put(&checkpoint()).unwrap();
    assert!(writer.size > writer.most);
    writer.put(&lines(104..=105)).unwrap();
    assert!(!is_wanted(&writer));
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
    writer.put(&lines([106])).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    assert!(is_wanted(&writer));
}

#[test]
fn what_is_lost_makes_a_checkpoint_wanted_once_the_file_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(&folder.path().join("journal"), 1 << 20);
    writer.put(&lines([1])).unwrap();
    writer.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    writer.write(lines([2, 3]));
    assert!(!is_wanted(&writer), "it could not be written");
    writer.write(lines([4]));
    assert!(is_wanted(&writer));
    writer.write(lines([5]));
    assert!(!is_wanted(&writer));
}

#[test]
fn a_full_disk_costs_lines_and_no_half_line_stays() {
    // Every write to this file fails with ENOSPC (full(4)), and it is no regular file.
    assert!(Appender::open(Path::new("/dev/full"), 1).is_err());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut writer = Writer::new(&path, 1 << 20);
    writer.put(&lines([1])).unwrap();
    writer.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    assert!(writer.put(&lines([2, 3])).is_err());
    writer.put(&lines([4])).unwrap();
    let told = (3, Event::Gap { missed: 2 });
    assert_eq!(entries(&path), [(1, Event::Stopping {}), told, (4, Event::Stopping {})]);
}

#[test]
fn what_is_lost_before_the_first_line_is_told_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut writer = Writer::new(&path, 1 << 20);
    writer.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    writer.write(lines([5, 6]));
    writer.write(lines([7]));
    assert_eq!(entries(&path), [(6, Event::Gap { missed: 2 }), (7, Event::Stopping {})]);
}

#[test]
fn a_file_that_ends_within_a_line_gets_its_end_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    fs::write(&path, "{\"seq\":1,").unwrap();
    Writer::new(&path, 1 << 20).write(lines([2]));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("{{\"seq\":1,\n{}\n", line(2).json));
}

#[test]
fn what_another_process_wrote_behind_a_half_line_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (mut ours, mut other) = (appender::open(&path).unwrap(), appender::open(&path).unwrap());
    other.write_all(b"1\n").unwrap();
    ours.write_all(b"ha").unwrap();
    take_back(&mut ours, 2).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    ours.write_all(b"ha").unwrap();
    other.write_all(b"\n2\n").unwrap();
    take_back(&mut ours, 2).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\nha\n2\n");
}

#[test]
fn what_waits_is_written_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (appender, guard) = Appender::open(&path, 1 << 20).unwrap();
    (1..=1000).for_each(|seq| appender.append(&line(seq)));
    drop(guard);
    assert_eq!(entries(&path).len(), 1000);
}
