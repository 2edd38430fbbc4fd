//! The file of backends (`--backends-file`): a server that runs already on each line, in the words of `--backend`.
//!
//! Its text becomes backends, or all that is wrong with it is told. No name is looked up here.

use std::collections::HashMap;
use std::path::Path;

use mapping::MOST_SLOTS;
use proto::control::{FixedBackend, Hostname, Location};

use super::Problems;
use super::file::{NoText, Place, text};

/// The most problems of one file that are told.
const MOST_TOLD: usize = 20;
/// What a line says at least.
const SERVER: &str = "NAME=HOST:PORT or NAME=unix:/PATH";
/// What stands between a server and its weight.
const WEIGHT: &str = ",weight=";

/// Why a file gives no backends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// All that is wrong with it. It stays so until the file changes.
    #[error("{0}")]
    Wrong(Problems),
    /// It cannot be read now. The next time, it may be.
    #[error("{0}")]
    Cannot(String),
}

/// Reads the backends of a file.
///
/// # Errors
/// All that is wrong with it, each with the name of the file, the line and the column; or why it cannot be read.
pub fn read_backends(path: &Path) -> Result<Vec<FixedBackend>, Unread> {
    let text = text(path).map_err(|because| {
        let said = format!("{} {because}", path.display());
        match because {
            NoText::Wrong(_) => Unread::Wrong(Problems(vec![said])),
            NoText::Refused(_) => Unread::Cannot(said),
        }
    })?;
    backends(path, &text).map_err(Unread::Wrong)
}

fn backends(path: &Path, text: &str) -> Result<Vec<FixedBackend>, Problems> {
    let name = path.display();
    let mut list = List::default();
    for (line, text) in (1..).zip(text.lines()) {
        list.read(line, text);
    }
    let List { backends, problems, .. } = list;
    if problems.is_empty() && backends.is_empty() {
        let nothing = format!("{name} names no backend: expected at least one {SERVER}");
        return Err(Problems(vec![nothing]));
    }
    if problems.is_empty() {
        return Ok(backends);
    }
    let more = problems.len().saturating_sub(MOST_TOLD);
    let told = problems.iter().take(MOST_TOLD).map(|(place, what)| format!("{name}:{place}: {what}"));
    let more = (more > 0).then(|| format!("{name}: {more} more lines are wrong"));
    Err(Problems(told.chain(more).collect()))
}

/// What has been read so far.
#[derive(Default)]
struct List {
    backends: Vec<FixedBackend>,
    /// The line of each name, and of each place where a server is.
    names: HashMap<Hostname, usize>,
    locations: HashMap<Location, usize>,
    problems: Vec<(Place, String)>,
}

impl List {
    fn read(&mut self, line: usize, text: &str) {
        let (column, text) = said(text);
        if text.is_empty() {
            return;
        }
        match text.parse::<FixedBackend>() {
            Ok(backend) => self.take(Place { line, column }, backend),
            Err(problem) => {
                let column = column + right(text);
                self.problems.push((Place { line, column }, problem.to_string()));
            }
        }
    }

    fn take(&mut self, at: Place, backend: FixedBackend) {
        let FixedBackend { name, location, .. } = &backend;
        let said = (self.names.get(name), self.locations.get(location));
        let problem = match said {
            _ if self.backends.len() == MOST_SLOTS => {
                format!("{name} is one too many: expected at most {MOST_SLOTS} backends")
            }
            (Some(line), _) => format!("the name {name} is in line {line} already: each must be unique"),
            (None, Some(line)) => {
                format!("the address {location} is in line {line} already: each must be unique")
            }
            (None, None) => {
                self.names.insert(name.clone(), at.line);
                self.locations.insert(location.clone(), at.line);
                self.backends.push(backend);
                return;
            }
        };
        self.problems.push((at, problem));
    }
}

/// What a line says, without its comment, and the column in which that begins. A comment begins with a `#` at the beginning of the line
/// or after a blank.
fn said(line: &str) -> (usize, &str) {
    let is_first = |at: &usize| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
    let comment = line.match_indices('#').map(|(at, _)| at).find(is_first);
    let text = line[..comment.unwrap_or(line.len())].trim_end();
    let said = text.trim_start();
    (1 + text[..text.len() - said.len()].chars().count(), said)
}

/// How many characters stand before what is wrong with a text that is no backend.
fn right(text: &str) -> usize {
    let before = match (text.split_once(WEIGHT), text.split_once('=')) {
        (Some((server, _)), _) if FixedBackend::without_weight(server).is_some() => {
            server.len() + WEIGHT.len()
        }
        (_, Some((name, _))) if Hostname::try_from(name.to_owned()).is_ok() => name.len() + 1,
        _ => 0,
    };
    text[..before].chars().count()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backends");
        fs::write(&path, text).unwrap();
        let backends = read_backends(&path)
            .map_err(|problems| problems.to_string().replace(&format!("{}", path.display()), "F"))?;
        Ok(backends.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_line_is_a_backend_a_comment_or_empty() {
        let text = "# all of them\n\n  a=10.0.0.1:80 \t\r\nb=[::1]:80,weight=0 # rests\n\t# x=y\nc=h#1:80\n";
        assert_eq!(
            read(&text.replace("h#1", "h1")).unwrap(),
            ["a=10.0.0.1:80", "b=[::1]:80,weight=0", "c=h1:80"]
        );
        assert!(read(text).unwrap_err().starts_with("F:6:3: invalid value `c=h#1:80`"), "it is no comment");
        assert_eq!(read("a=h:1").unwrap(), ["a=h:1"], "the last line needs no end");
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_place() {
        let text = "a=h:1\n  ü=h:2\nb=h\nc=h:3,weight=101\nd=h:4 e=h:5\na=h:6\nf=h:1\n";
        let told = read(text).unwrap_err();
        let expected = [
            "F:2:3: invalid value `ü=h:2`: expected NAME=HOST:PORT",
            "F:3:3: invalid value `b=h`: expected NAME=HOST:PORT",
            "F:4:14: invalid value `c=h:3,weight=101`: expected as weight a whole number from 0 to 100",
            "F:5:3: invalid value `d=h:4 e=h:5`: expected NAME=HOST:PORT",
            "F:6:1: the name a is in line 1 already: each must be unique",
            "F:7:1: the address h:1 is in line 1 already: each must be unique",
        ];
        assert_eq!(told.lines().count(), expected.len(), "{told}");
        assert!(told.lines().zip(expected).all(|(told, expected)| told.starts_with(expected)), "{told}");
    }

    #[test]
    fn a_file_without_a_backend_and_one_with_too_many_are_refused() {
        for text in ["", "# nothing\n\n"] {
            assert_eq!(
                read(text).unwrap_err(),
                "F names no backend: expected at least one NAME=HOST:PORT or NAME=unix:/PATH"
            );
        }
        let many = |n: usize| (1..=n).map(|port| format!("s{port}=h:{port}\n")).collect::<String>();
        assert_eq!(read(&many(MOST_SLOTS)).unwrap().len(), MOST_SLOTS);
        assert_eq!(
            read(&many(MOST_SLOTS + 1)).unwrap_err(),
            "F:1001:1: s1001 is one too many: expected at most 1000 backends"
        );
        let told = read(&"x\n".repeat(25)).unwrap_err();
        assert_eq!((told.lines().count(), told.lines().last()), (21, Some("F: 5 more lines are wrong")));
        let missing = read_backends(Path::new("/nowhere/backends")).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/backends cannot be read: No such file"), "{missing}");
    }
}
