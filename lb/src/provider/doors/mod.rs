//! Doors: the paths at which replicas take connections over (`docs/HANDOFF.md`), each a socket in one folder.
//!
//! A door is only a path: the replica makes the socket, the control plane connects to it. The keeper of a replica removes its
//! door when the replica is gone. A replica that outlives this program keeps its door. What is left over is removed at the next start.

mod folder;

pub(crate) use folder::Owner;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use proto::control::{Hostname, LONGEST_SOCKET_PATH};
use tempfile::TempDir;

/// The end of the name of every door.
pub(crate) const SUFFIX: &str = ".sock";
/// The length of the name of a fresh door, in bytes.
pub(crate) const FRESH_NAME: usize = DIGITS + SUFFIX.len();
const DIGITS: usize = 16;

/// The folder of all doors.
#[derive(Debug)]
pub(crate) struct Doors {
    path: PathBuf,
    /// Removes the folder at the end, and marks it as in use until then; `None` for a folder that the user has chosen.
    _own: Option<(TempDir, File)>,
}

impl Doors {
    /// Opens the folder at `path`, which is made if it is missing. Without a path, makes a new folder that is removed at the end of this
    /// process. Removes doors that dead replicas have left there. Has to be called within a runtime.
    ///
    /// # Errors
    /// The folder cannot be used, a user who is not its `owner` can put a socket in another's place, or its path is so long that no
    /// socket fits behind it.
    pub(crate) fn open(path: Option<&Path>, owner: Owner) -> anyhow::Result<Self> {
        let doors = match path {
            Some(path) => Doors { path: folder::given(path, owner)?, _own: None },
            None => {
                let own = folder::new()?;
                Doors { path: own.0.path().to_owned(), _own: Some(own) }
            }
        };
        let longest = LONGEST_SOCKET_PATH - 1 - FRESH_NAME;
        ensure!(
            doors.path.as_os_str().len() <= longest,
            "--handoff-dir: invalid value `{}`: expected a path of at most {longest} bytes, or no socket fits behind it",
            doors.path.display()
        );
        folder::sweep(&doors.path);
        Ok(doors)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new door with a random name.
    pub(crate) fn fresh(&self) -> Door {
        Door { path: self.path.join(fresh_name()) }
    }

    /// The door that an earlier process made under this name; `None` if no process gives such a name.
    pub(crate) fn known(&self, name: &str) -> Option<Door> {
        is_fresh_name(name).then(|| Door { path: self.path.join(name) })
    }

    /// The path at which a server with a fixed address has to listen, if it takes connections over.
    pub(crate) fn of(&self, name: &Hostname) -> PathBuf {
        self.path.join(format!("{name}{SUFFIX}"))
    }
}

fn fresh_name() -> String {
    format!("{:0DIGITS$x}{SUFFIX}", fastrand::u64(..))
}

fn is_fresh_name(name: &str) -> bool {
    let digits = name.strip_suffix(SUFFIX).unwrap_or_default();
    digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The door of one replica.
#[derive(Debug)]
pub(crate) struct Door {
    path: PathBuf,
}

impl Door {
    /// The path of its socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the socket in the folder.
    pub(crate) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Removes the socket of a replica that is gone.
    pub(crate) fn remove(self) {
        // It fails if the replica removed it, or never made it.
        let _: io::Result<()> = fs::remove_file(self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

    use super::folder::MODE;
    use super::*;

    /// Makes a file as old as it can be.
    fn age(path: &Path) {
        let long_ago = Timespec { tv_sec: 0, tv_nsec: 0 };
        let times = Timestamps { last_access: long_ago, last_modification: long_ago };
        utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
    }

    #[tokio::test]
    async fn our_own_folder_is_private_and_is_removed_with_us() {
        let doors = Doors::open(None, Owner::Ours).unwrap();
        let path = doors.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_ne!(doors.fresh().path(), doors.fresh().path());
        drop(doors);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn only_files_of_dead_processes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (dead, alive, other, young) =
            ("00000000000000aa.sock", "00000000000000bb.sock", "server1.sock", "00000000000000dd.sock");
        [dead, other, young].iter().for_each(|name| drop(UnixListener::bind(at(name)).unwrap()));
        fs::write(at("00000000000000cc.sock"), "no socket").unwrap();
        let replica = handoff::Listener::bind(at(alive)).unwrap();
        [dead, alive, other, "00000000000000cc.sock"].iter().for_each(|name| age(&at(name)));
        let doors = Doors::open(Some(folder.path()), Owner::Ours).unwrap();
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
        let doors = Doors::open(Some(folder.path()), Owner::Ours).unwrap();
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

    #[tokio::test]
    async fn a_folder_to_which_other_users_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let error = Doors::open(Some(folder.path()), Owner::Ours).unwrap_err();
        assert!(error.to_string().contains("--handoff-dir: invalid value"), "{error}");
    }

    #[tokio::test]
    async fn a_path_without_room_for_a_socket_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Doors::open(Some(&folder.path().join("x".repeat(100))), Owner::Ours).unwrap_err();
        assert!(error.to_string().contains("--handoff-dir"), "{error}");
    }
}
