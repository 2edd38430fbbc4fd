//! The successor's side: takes everything over from the `lb` before it, and tells it how far it has come.
//!
//! Until it has settled, ten seconds after its start, its predecessor goes on if it fails.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::stdio::dup2_stdin;
use tokio::time::{sleep, sleep_until};
use tracing::info;

use super::launch::VARIABLE;
use super::message::{Estate, Message, VERSION};
use super::wire::Wire;
use super::{PROBATION, READY_WITHIN};
use crate::handed::{Handed, HandedSocket, PortName};
use crate::net::ListenAddress;
use crate::provider::process::kindred::{Bequest, Heir, Kindred};
use crate::snapshot::{Cell, Slot};
use crate::socket_file::SocketFile;

/// How often it is looked whether all replicas are in rotation again.
const LOOK: Duration = Duration::from_millis(5);

/// The `lb` from which this one takes over.
#[derive(Debug)]
pub struct Predecessor {
    wire: Wire,
    pid: u32,
    begun: Instant,
    pub(crate) estate: Estate,
    /// What it has written down, a line of JSON each.
    pub(crate) entries: Vec<String>,
    /// The children.
    pub(crate) bequest: Bequest,
    files: Vec<Arc<SocketFile>>,
}

/// Takes over from the `lb` that has started this process, if one has. Call it once, while there is one thread.
///
/// # Errors
/// It sends something else than expected, or not in time. It has been told.
pub fn take() -> anyhow::Result<Option<(Handed, Predecessor)>> {
    if std::env::var_os(VARIABLE).is_none() {
        return Ok(None);
    }
    // The variable may have come down to a process that is no successor.
    let Ok(wire) = io::stdin().as_fd().try_clone_to_owned().and_then(Wire::of) else { return Ok(None) };
    // No process that this one starts may hold the connection.
    dup2_stdin(File::open("/dev/null")?)?;
    let taken = receive(&wire);
    if let Err(error) = &taken {
        let _ = wire.send(&Message::Failed { reason: format!("{error:#}") }, &[]);
    }
    let (handed, parts) = taken.context("cannot take over from the lb before this one")?;
    Ok(Some((handed, parts.made_of(wire))))
}

/// What has been received so far.
struct Parts {
    pid: u32,
    begun: Instant,
    estate: Option<Estate>,
    entries: Vec<String>,
    bequest: Bequest,
    files: Vec<Arc<SocketFile>>,
}

impl Parts {
    fn made_of(self, wire: Wire) -> Predecessor {
        let Parts { pid, begun, estate, entries, bequest, files } = self;
        let estate = estate.unwrap_or_default();
        Predecessor { wire, pid, begun, estate, entries, bequest, files }
    }
}

fn receive(wire: &Wire) -> anyhow::Result<(Handed, Parts)> {
    let begun = Instant::now();
    let deadline = begun + READY_WITHIN;
    let next =
        || wire.receive(deadline).and_then(|next| next.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
    let (Message::Begin { version, lb, pid }, _) = next()? else { bail!("it does not say who it is") };
    ensure!(
        version == VERSION,
        "it is lb {lb}, which hands over in version {version}; this lb takes over in version {VERSION}"
    );
    let mut parts = Parts {
        pid,
        begun,
        estate: None,
        entries: Vec::new(),
        bequest: Bequest::default(),
        files: Vec::new(),
    };
    let mut sockets = Vec::new();
    loop {
        match next()? {
            (Message::Sockets { port, asked, bound, is_activated, file }, files) => {
                let file = (file, bound.clone());
                sockets.extend(adopt((port, asked, bound, is_activated), file, files, &mut parts.files)?);
            }
            (Message::Fleet(estate), _) => parts.estate = Some(*estate),
            (Message::Line {}, files) => parts.bequest.lines.extend(files),
            (Message::Child(portrait), mut files) => {
                ensure!(files.len() == 1 + portrait.streams.len(), "the files of a child are missing");
                let process = files.remove(0);
                parts.bequest.heirs.push(Heir { portrait, process, outputs: files });
            }
            (Message::Entries(entries), _) => parts.entries.extend(entries),
            (Message::End {}, _) => break,
            (other, _) => bail!("it sends {other:?}"),
        }
    }
    ensure!(parts.estate.is_some(), "it does not tell its fleet");
    Ok((Handed::new(sockets), parts))
}

/// Sockets that are bound to one address, and the file of a Unix socket with its lock.
fn adopt(
    (port, asked, bound, is_activated): (PortName, ListenAddress, ListenAddress, bool),
    (identity, place): (Option<String>, ListenAddress),
    mut files: Vec<OwnedFd>,
    all: &mut Vec<Arc<SocketFile>>,
) -> anyhow::Result<Vec<HandedSocket>> {
    let mut file = None;
    if let (Some(identity), ListenAddress::Unix(path)) = (identity, &place) {
        let lock = files.pop().context("the lock of a Unix socket is missing")?;
        let path: &Path = path;
        let taken = Arc::new(SocketFile::of_another(path, identity, lock));
        all.push(Arc::clone(&taken));
        file = Some(taken);
    }
    let socket = |socket| HandedSocket {
        port,
        asked: asked.clone(),
        bound: bound.clone(),
        is_activated,
        socket,
        file: file.clone(),
    };
    Ok(files.into_iter().map(socket).collect())
}

impl Predecessor {
    /// Tells it why this process ends. It goes on then.
    pub fn refuse(&self, reason: &str) {
        // It fails only if it is gone.
        let _ = self.wire.send(&Message::Failed { reason: reason.to_owned() }, &[]);
    }

    /// Waits until every slot is up that was. One of weight 0 is up, though never in rotation.
    pub(crate) async fn all_up(&self, cell: &Cell) {
        let is_up = |name: &String| {
            let snapshot = cell.load();
            let found = snapshot.slots().iter().find(|slot| slot.name == *name);
            // One that has left the configuration is not waited for.
            found.is_none_or(Slot::is_up)
        };
        let has_begun = || self.estate.up.is_empty() || !cell.load().slots().is_empty();
        while !has_begun() || !self.estate.up.iter().all(is_up) {
            sleep(LOOK).await;
        }
    }

    /// Tells it that this process serves, and begins the time in which it stands by.
    pub(crate) fn serves(self, kindred: Arc<Kindred>) -> Arc<Probation> {
        // If it is gone, there is no one to stand by.
        let _ = self.wire.send(&Message::Serving { pid: std::process::id() }, &[]);
        let (predecessor, took) = (self.pid, self.begun.elapsed().as_secs_f64());
        info!(predecessor, took, "this lb has taken over from process {predecessor}");
        Arc::new(Probation {
            wire: self.wire,
            until: self.begun + PROBATION,
            files: self.files,
            kindred,
            is_over: AtomicBool::new(false),
        })
    }
}

/// The time in which the predecessor stands by.
#[derive(Debug)]
pub(crate) struct Probation {
    wire: Wire,
    until: Instant,
    files: Vec<Arc<SocketFile>>,
    kindred: Arc<Kindred>,
    is_over: AtomicBool,
}

impl Probation {
    /// Waits for its end.
    pub(crate) async fn pass(self: Arc<Self>) {
        sleep_until(self.until.into()).await;
        self.settle();
    }

    /// Ends it: this process goes on whatever comes.
    pub(crate) fn settle(&self) {
        if !self.is_over.swap(true, Relaxed) {
            self.files.iter().for_each(|file| file.set_others(false));
            self.kindred.settle();
            let _ = self.wire.send(&Message::Settled {}, &[]);
        }
    }
}
