//! The children of this `lb`, as its successor needs them, and those that it has got from the `lb` before.
//!
//! A child stays a child of the process that has started it: the kernel ties it to that one, and only that one learns how it ended. So an
//! `lb` that has handed its children over goes on as their guardian ([`super::guardian`]), and tells who holds them, over a line, how each
//! has ended. Who holds them sees through a pidfd that a child ends, signals its group, and reads its output.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::control::Hostname;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::line::Line;
use super::output::Stream;
use crate::net::Pause;

/// What is said of a child that is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Portrait {
    pub(crate) hostname: Hostname,
    /// Its process id, which is the number of its process group.
    pub(crate) pid: i32,
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    /// Where it takes connections over.
    pub(crate) door: Option<PathBuf>,
    /// The line, by its place among all, over which its guardian tells how it ended.
    pub(crate) line: usize,
    /// The names of its streams of output.
    pub(crate) streams: Vec<String>,
}

/// A child that is handed over: what is said of it, its pidfd, and the ends of its streams of output.
#[derive(Debug)]
pub(crate) struct Heir {
    pub(crate) portrait: Portrait,
    pub(crate) process: OwnedFd,
    pub(crate) outputs: Vec<OwnedFd>,
}

/// All children that are handed over, and the lines to their guardians.
#[derive(Debug, Default)]
pub(crate) struct Bequest {
    pub(crate) heirs: Vec<Heir>,
    pub(crate) lines: Vec<OwnedFd>,
}

/// A child that runs.
#[derive(Debug)]
pub(super) struct Kin {
    pub(super) hostname: Hostname,
    pub(super) group: Pid,
    pub(super) port: u16,
    pub(super) door: Option<PathBuf>,
    pub(super) outputs: Vec<Arc<Stream>>,
    /// Of a child of this process: the pipe whose end tells the guard of its group that this process has ended, if it has one.
    pub(super) pipe: Option<OwnedFd>,
    /// Of a child that was handed over to this process: the line to its guardian.
    pub(super) line: Option<Arc<Line>>,
    /// Whether it is another process's to stop.
    is_handed: AtomicBool,
}

impl Kin {
    /// A child that is this process's to stop.
    pub(super) fn new(hostname: Hostname, group: Pid, port: u16, door: Option<PathBuf>) -> Self {
        let (outputs, is_handed) = (Vec::new(), AtomicBool::new(false));
        Kin { hostname, group, port, door, outputs, pipe: None, line: None, is_handed }
    }

    /// Whether it is another process's to stop.
    pub(super) fn is_handed(&self) -> bool {
        self.is_handed.load(Relaxed)
    }

    fn portrait(&self, line: usize) -> Portrait {
        Portrait {
            hostname: self.hostname.clone(),
            pid: self.group.as_raw_nonzero().get(),
            port: self.port,
            door: self.door.clone(),
            line,
            streams: self.outputs.iter().map(|stream| stream.name().to_owned()).collect(),
        }
    }
}

/// All children.
#[derive(Debug)]
pub(crate) struct Kindred {
    alive: Mutex<HashMap<i32, Arc<Kin>>>,
    /// Those from the `lb` before that no slot has taken yet.
    heirs: Mutex<HashMap<Hostname, Heir>>,
    /// The lines to the guardians of these.
    lines: Vec<Arc<Line>>,
    /// Whether another process reads what they print, and what their guardians say.
    pub(super) quiet: Arc<Pause>,
    /// The line to the process that holds the children of this one.
    holder: Mutex<Option<UnixStream>>,
}

impl Kindred {
    /// What was handed over. Call it within a runtime.
    ///
    /// # Errors
    /// A line cannot be watched.
    pub(crate) fn new(Bequest { heirs, lines }: Bequest) -> io::Result<Arc<Self>> {
        let quiet = Arc::new(Pause::new(false));
        let follow = |line: OwnedFd| Line::follow(line.into(), Arc::clone(&quiet));
        let lines = lines.into_iter().map(follow).collect::<io::Result<_>>()?;
        let heirs = heirs.into_iter().map(|heir| (heir.portrait.hostname.clone(), heir)).collect();
        let (alive, holder) = (Mutex::default(), Mutex::default());
        Ok(Arc::new(Kindred { alive, heirs: Mutex::new(heirs), lines, quiet, holder }))
    }

    /// A child of this name from the `lb` before, with the line to its guardian.
    pub(super) fn adopt(&self, hostname: &Hostname) -> Option<(Heir, Arc<Line>)> {
        let heir = lock(&self.heirs).remove(hostname)?;
        let line = Arc::clone(self.lines.get(heir.portrait.line)?);
        Some((heir, line))
    }

    /// Notes a child that runs.
    pub(super) fn join(&self, kin: &Arc<Kin>) {
        lock(&self.alive).insert(kin.group.as_raw_nonzero().get(), Arc::clone(kin));
    }

    /// Forgets a child that has ended, and tells the process that holds it how. This fails only if that one is gone.
    pub(super) fn leave(&self, kin: &Kin, status: Option<i32>) {
        let id = kin.group.as_raw_nonzero().get();
        lock(&self.alive).remove(&id);
        if let (Some(status), Some(holder)) = (status, &*lock(&self.holder)) {
            let _ = super::line::tell_end(holder, id, status);
        }
    }

    /// Hands over those that have one of these names. This process goes on to look after the others, and leaves these alone.
    ///
    /// # Errors
    /// Files are short. Nothing is handed over.
    pub(crate) fn hand_over(&self, names: &HashSet<Hostname>) -> io::Result<Bequest> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut lines = vec![OwnedFd::from(theirs)];
        let guardians: Vec<&Arc<Line>> = self.lines.iter().filter(|line| !line.is_over()).collect();
        for line in &guardians {
            lines.push(line.another()?);
        }
        let alive: Vec<Arc<Kin>> = lock(&self.alive).values().cloned().collect();
        let mut heirs = Vec::new();
        for kin in alive.iter().filter(|kin| names.contains(&kin.hostname)) {
            // One that has just ended is started again by the next lb.
            let Ok(process) = pidfd_open(kin.group, PidfdFlags::NONBLOCK) else { continue };
            let at =
                guardians.iter().position(|line| kin.line.as_ref().is_some_and(|of| Arc::ptr_eq(of, line)));
            let outputs = kin.outputs.iter().map(|stream| stream.another()).collect::<io::Result<_>>()?;
            heirs.push(Heir { portrait: kin.portrait(at.map_or(0, |at| at + 1)), process, outputs });
            kin.is_handed.store(true, Relaxed);
        }
        *lock(&self.holder) = Some(ours);
        self.quiet.set(true);
        Ok(Bequest { heirs, lines })
    }

    /// Nothing was handed over.
    pub(crate) fn take_back(&self) {
        lock(&self.alive).values().for_each(|kin| kin.is_handed.store(false, Relaxed));
        *lock(&self.holder) = None;
        self.quiet.set(false);
    }

    /// This process holds them for good: the guardians are told.
    pub(crate) fn settle(&self) {
        self.lines.iter().for_each(|line| line.tell_holder());
    }

    /// How many children of this process are not handed over.
    pub(crate) fn left(&self) -> usize {
        lock(&self.alive).values().filter(|kin| !kin.is_handed()).count()
    }

    /// Whether a child of this process is handed over, which needs a guardian.
    pub(crate) fn needs_guardian(&self) -> bool {
        lock(&self.alive).values().any(|kin| kin.is_handed() && kin.line.is_none())
    }

    /// Keeps the pipes of the guards open when this process executes another program. Returns the line to the process that holds the
    /// children.
    pub(crate) fn pass_on(&self) -> io::Result<Option<OwnedFd>> {
        for pipe in lock(&self.alive).values().filter_map(|kin| kin.pipe.as_ref()) {
            fcntl_setfd(pipe, FdFlags::empty())?;
        }
        lock(&self.holder).as_ref().map(|line| line.as_fd().try_clone_to_owned()).transpose()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
