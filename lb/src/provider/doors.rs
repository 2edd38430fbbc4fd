//! Doors: where replicas listen for connections that are handed over to them (`docs/HANDOFF.md`), each a socket in one folder.
//!
//! A door is a path and no more: the replica makes the socket, the control plane connects to it. What is left of a door when
//! its replica is gone is removed here, and so is the folder if it was made for this process.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use handoff::Channel;
use proto::control::Hostname;
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

/// The folder of all doors.
#[derive(Debug)]
pub(crate) struct Doors {
    path: PathBuf,
    /// Removes the folder at the end.
    _own: Option<TempDir>,
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
                let own = tempfile::Builder::new()
                    .prefix("lb-")
                    .permissions(fs::Permissions::from_mode(MODE))
                    .tempdir();
                let own = own.context("cannot make a folder for the sockets of --transport handoff")?;
                Doors { path: own.path().to_owned(), _own: Some(own) }
            }
        };
        ensure!(
            doors.path.as_os_str().len() + 1 + FRESH_NAME <= LONGEST_PATH,
            "{} is too long a path for sockets; a shorter one can be given (--handoff-dir)",
            doors.path.display()
        );
        doors.sweep();
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

    /// Removes doors at which nobody listens any more.
    fn sweep(&self) {
        // What cannot be looked at or removed is only in nobody's way.
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let has_our_name = entry.file_name().to_str().is_some_and(is_fresh_name);
            let is_a_door = has_our_name && entry.file_type().is_ok_and(|kind| kind.is_socket());
            if is_a_door && is_old(&entry) && is_dead(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
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

/// Where one replica listens. The socket is removed with it.
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

    /// The replica lives on, and so does its door.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // The replica may have removed it, or never have made it.
        let _: io::Result<()> = fs::remove_file(&self.path);
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
    async fn a_door_goes_with_its_replica_unless_that_lives_on() {
        let folder = tempfile::tempdir().unwrap();
        let doors = Doors::open(Some(folder.path())).unwrap();
        let (gone, left) = (doors.fresh(), doors.fresh());
        let paths = [&gone, &left].map(|door| door.path().to_owned());
        paths.iter().for_each(|path| fs::write(path, "").unwrap());
        let again = doors.known(left.name()).unwrap();
        assert_eq!(again.path(), left.path());
        again.leave();
        drop(gone);
        left.leave();
        assert_eq!(paths.map(|path| path.exists()), [false, true]);
        assert!(
            ["../x.sock", "server1.sock", "00000000000000AA.sock", ""]
                .iter()
                .all(|name| doors.known(name).is_none())
        );
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
