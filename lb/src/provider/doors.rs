//! Doors: where replicas listen for connections that are handed over to them (`docs/HANDOFF.md`), each a socket in one folder.
//!
//! A door is a path and no more: the replica makes the socket, the control plane connects to it. Whoever knows that a replica
//! is gone has what is left of its door removed; a replica that outlives this program keeps it. What nobody has removed is
//! found at the next start.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use handoff::Channel;
use proto::control::Hostname;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::geteuid;
use tempfile::TempDir;

/// What a door's name ends with.
pub(crate) const SUFFIX: &str = ".sock";
/// The longest path of a Unix socket, in bytes (unix(7)).
pub(crate) const LONGEST_PATH: usize = 107;
/// How long the name is that a door gets here, in bytes.
pub(crate) const FRESH_NAME: usize = DIGITS + SUFFIX.len();
const DIGITS: usize = 16;
/// For so long after it was made, a socket is left alone.
const JUST_NOW: Duration = Duration::from_secs(60);
const EVERYBODY_WRITES: u32 = 0o002;
/// For its owner alone.
const MODE: u32 = 0o700;

/// What the name of a folder begins with that was made for one process.
const OWN: &str = "lb-doors-";
/// So many folders are made before it is given up: each may be taken for an orphan by an `lb` that starts at the same time.
const TRIES: usize = 8;

/// The folder of all doors.
#[derive(Debug)]
pub(crate) struct Doors {
    path: PathBuf,
    /// Removes the folder at the end, and says until then that it is in use.
    _own: Option<(TempDir, File)>,
}

impl Doors {
    /// The folder at `path`, made if it is not there; without one, a new one that ends with this process. What dead replicas
    /// of former fleets have left in it is removed. To be called within a runtime.
    ///
    /// # Errors
    /// It cannot be had, or its path is so long that no socket fits behind it.
    pub(crate) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let doors = match path {
            Some(path) => Doors { path: given(path)?, _own: None },
            None => {
                let own = (1..TRIES).find_map(|_| own().ok()).map_or_else(own, Ok);
                let (folder, lock) =
                    own.context("cannot make a folder for the sockets of --transport handoff")?;
                folder.path().parent().into_iter().for_each(sweep_orphans);
                Doors { path: folder.path().to_owned(), _own: Some((folder, lock)) }
            }
        };
        ensure!(
            doors.path.as_os_str().len() + 1 + FRESH_NAME <= LONGEST_PATH,
            "{} is too long a path for sockets; a shorter one can be given (--handoff-dir)",
            doors.path.display()
        );
        sweep(&doors.path);
        Ok(doors)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A door that nobody has had before.
    pub(crate) fn fresh(&self) -> Door {
        Door { path: self.path.join(fresh_name()) }
    }

    /// The door that had this name when another process made it.
    pub(crate) fn known(&self, name: &str) -> Option<Door> {
        is_fresh_name(name).then(|| Door { path: self.path.join(name) })
    }

    /// Where somebody else has made a server of this name listen.
    pub(crate) fn of(&self, name: &Hostname) -> PathBuf {
        self.path.join(format!("{name}{SUFFIX}"))
    }
}

/// A new folder, locked as long as this process lives.
fn own() -> io::Result<(TempDir, File)> {
    let mut folder = tempfile::Builder::new();
    let folder = folder.prefix(OWN).permissions(fs::Permissions::from_mode(MODE)).tempdir()?;
    let lock = open_own(folder.path())?;
    lock.try_lock()?;
    // Another lb may have taken it for an orphan before it was locked.
    if fs::metadata(folder.path())?.ino() != lock.metadata()?.ino() {
        return Err(ErrorKind::NotFound.into());
    }
    Ok((folder, lock))
}

/// A folder that one of our processes may have made: no link, and of this user alone.
fn open_own(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = File::from(open(path, flags, Mode::empty())?);
    let metadata = folder.metadata()?;
    let is_ours = metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o777 == MODE;
    if is_ours { Ok(folder) } else { Err(ErrorKind::PermissionDenied.into()) }
}

/// Removes the folders that processes have left which could not do it themselves. (The kernel has unlocked them.)
fn sweep_orphans(parent: &Path) {
    for folder in entries(parent).filter(|entry| is_named(entry, |name| name.starts_with(OWN))) {
        let Ok(lock) = open_own(&folder.path()) else { continue };
        if lock.try_lock().is_ok() {
            sweep(&folder.path());
            // It stays if there is anything left in it.
            let _ = fs::remove_dir(folder.path());
        }
    }
}

/// Removes doors at which nobody listens any more.
fn sweep(folder: &Path) {
    for entry in entries(folder).filter(|entry| is_named(entry, is_fresh_name)) {
        let is_a_door = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_a_door && is_old(&entry) && is_dead(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What is in a folder, as far as it can be read: the rest is only in nobody's way.
fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

fn is_named(entry: &fs::DirEntry, is_it: impl Fn(&str) -> bool) -> bool {
    entry.file_name().to_str().is_some_and(is_it)
}

/// Whether it was not made just now: between bind(2) and listen(2) a socket looks like a dead one.
fn is_old(entry: &fs::DirEntry) -> bool {
    let made = entry.metadata().and_then(|metadata| metadata.modified());
    made.ok().and_then(|made| made.elapsed().ok()).is_some_and(|age| age > JUST_NOW)
}

/// Whether nobody listens there any more (connect(2), `ECONNREFUSED`).
fn is_dead(path: &Path) -> bool {
    matches!(Channel::connect(path), Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

fn given(path: &Path) -> anyhow::Result<PathBuf> {
    let made = DirBuilder::new().recursive(true).mode(MODE).create(path).and_then(|()| path.canonicalize());
    let path = made.with_context(|| format!("cannot use the folder {} (--handoff-dir)", path.display()))?;
    ensure!(
        fs::metadata(&path)?.permissions().mode() & EVERYBODY_WRITES == 0,
        "everybody may write to {}, and so could take connections over: it takes a folder of lb's and its replicas' own \
         (--handoff-dir)",
        path.display()
    );
    Ok(path)
}

fn fresh_name() -> String {
    format!("{:0DIGITS$x}{SUFFIX}", fastrand::u64(..))
}

fn is_fresh_name(name: &str) -> bool {
    let digits = name.strip_suffix(SUFFIX).unwrap_or_default();
    digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Where one replica listens.
#[derive(Debug)]
pub(crate) struct Door {
    path: PathBuf,
}

impl Door {
    /// Where that is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The name in its folder.
    pub(crate) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// The replica is gone: removes what is left.
    pub(crate) fn remove(self) {
        // The replica may have done it, or never have made it.
        let _: io::Result<()> = fs::remove_file(self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

    use super::*;

    /// Makes a file as old as it can be.
    fn age(path: &Path) {
        let long_ago = Timespec { tv_sec: 0, tv_nsec: 0 };
        let times = Timestamps { last_access: long_ago, last_modification: long_ago };
        utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
    }

    #[tokio::test]
    async fn a_folder_of_our_own_is_for_us_alone_and_ends_with_us() {
        let doors = Doors::open(None).unwrap();
        let path = doors.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_ne!(doors.fresh().path(), doors.fresh().path());
        drop(doors);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_the_dead_have_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (dead, alive, other, young) =
            ("00000000000000aa.sock", "00000000000000bb.sock", "server1.sock", "00000000000000dd.sock");
        [dead, other, young].iter().for_each(|name| drop(UnixListener::bind(at(name)).unwrap()));
        fs::write(at("00000000000000cc.sock"), "no socket").unwrap();
        let replica = handoff::Listener::bind(at(alive)).unwrap();
        [dead, alive, other, "00000000000000cc.sock"].iter().for_each(|name| age(&at(name)));
        let doors = Doors::open(Some(folder.path())).unwrap();
        let mut left: Vec<String> = fs::read_dir(doors.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [alive, "00000000000000cc.sock", young, other]);
        drop(replica);
    }

    #[tokio::test]
    async fn a_door_stays_until_its_replica_is_known_to_be_gone() {
        let folder = tempfile::tempdir().unwrap();
        let doors = Doors::open(Some(folder.path())).unwrap();
        let door = doors.fresh();
        let path = door.path().to_owned();
        fs::write(&path, "").unwrap();
        let again = doors.known(door.name()).unwrap();
        drop(door);
        assert!(path.exists());
        again.remove();
        assert!(!path.exists());
        let foreign = ["../x.sock", "server1.sock", "00000000000000AA.sock", ""];
        assert!(foreign.iter().all(|name| doors.known(name).is_none()));
    }

    #[test]
    fn folders_of_processes_that_were_killed_are_removed_and_those_of_others_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str, mode: u32| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (dead, used) = (folder("lb-doors-1", MODE), folder("lb-doors-2", MODE));
        let (full, open, other) =
            (folder("lb-doors-3", MODE), folder("lb-doors-4", 0o755), folder("lb-5", MODE));
        let link = parent.path().join("lb-doors-6");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let in_use = open_own(&used).unwrap();
        in_use.try_lock().unwrap();
        fs::write(full.join("precious"), "").unwrap();
        sweep_orphans(parent.path());
        let left = [&dead, &used, &full, &open, &other, &link].map(|path| path.exists());
        assert_eq!(left, [false, true, true, true, true, true]);
    }

    #[tokio::test]
    async fn a_folder_to_which_everybody_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Doors::open(Some(folder.path())).unwrap_err();
        assert!(error.to_string().contains("everybody may write"), "{error}");
    }

    #[tokio::test]
    async fn a_path_without_room_for_a_socket_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Doors::open(Some(&folder.path().join("x".repeat(100)))).unwrap_err();
        assert!(error.to_string().contains("--handoff-dir"), "{error}");
    }
}
