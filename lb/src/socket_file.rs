//! The file of a Unix socket: replaced if its `lb` is gone, removed at the end. That of the control port is made for its owner alone.
//!
//! A lock file beside it (`PATH.lock`, flock(2)) is held by the `lb` that listens there. So two that start at the same time cannot
//! remove each other's socket, and one that drains can let its successor have the path, and answer on its own socket until then.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{Mode, OFlags, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::privileges::Identity;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;
/// Sockets are non-blocking and not inherited by child processes.
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
/// The permissions of a socket for its owner alone, and of every lock.
pub(crate) const OWNER_ONLY: u32 = 0o600;
/// The permissions of a socket for everybody who can reach its folder.
pub(crate) const FOR_ALL: u32 = 0o666;
/// A folder with the first bit but without the second lets all users rename and remove the files in it.
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// How often a lock is tried whose file another `lb` removes at its end.
const TRIES: usize = 8;

/// A Unix socket's file, and the lock beside it. Dropping it removes both, unless a successor has them.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: String,
    lock: Lock,
    /// Whether another process, which holds the same lock, looks after both.
    is_others: AtomicBool,
}

/// Listens at `path`, whose file has this `mode`.
///
/// # Errors
/// There is no such folder, or other users may change it; another `lb` or program listens there; or a file of another kind is there.
pub(crate) fn listen_at(path: &Path, mode: u32) -> anyhow::Result<(UnixListener, SocketFile)> {
    check_folder(path)?;
    let mut lock = Lock::take(path)?;
    make_room(path, &mut lock)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    // On Linux the mode of the socket becomes the mode of its file, so other users can never connect.
    fchmod(&socket, Mode::from_raw_mode(OWNER_ONLY))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    if mode != OWNER_ONLY {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    let identity = identity(&fs::symlink_metadata(path)?);
    let file = SocketFile { path: path.to_owned(), identity, lock, is_others: AtomicBool::new(false) };
    file.lock.note(&file.identity)?;
    listen(&socket, BACKLOG)?;
    Ok((UnixListener::from(socket), file))
}

fn check_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = folder.display();
    let metadata = fs::metadata(folder).with_context(|| format!("its folder {shown}"))?;
    let is_open = metadata.mode() & OTHERS_WRITE != 0 && metadata.mode() & STICKY == 0;
    ensure!(
        !is_open,
        "its folder {shown} lets all users replace files: expected one that only its owner writes to"
    );
    Ok(())
}

/// Removes what a dead or draining `lb` has left at `path`.
fn make_room(path: &Path, lock: &mut Lock) -> anyhow::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    ensure!(metadata.file_type().is_socket(), "there is a file that is no socket");
    // The holder of the lock before this one has noted its own socket.
    if lock.noted()? != identity(&metadata) {
        let trial = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
        // ECONNREFUSED: the listener is gone (connect(2)). With any other result it may be alive.
        let is_stale = connect(&trial, &SocketAddrUnix::new(path)?) == Err(Errno::CONNREFUSED);
        ensure!(is_stale, "another program listens there");
    }
    Ok(fs::remove_file(path)?)
}

/// What tells a file from every other.
fn identity(metadata: &Metadata) -> String {
    format!("{}:{}", metadata.dev(), metadata.ino())
}

impl SocketFile {
    /// Gives the socket's file and its lock to another user.
    ///
    /// # Errors
    /// This process may not, or the file is gone.
    pub(crate) fn give_to(&self, user: Identity) -> io::Result<()> {
        user.own(&self.lock.file)?;
        user.own_socket_file(&self.path)
    }

    /// The file whose lock another process has taken, and which it has passed on together with the socket. It stays that process's until
    /// [`SocketFile::set_others`] says otherwise.
    pub(crate) fn of_another(path: &Path, identity: String, lock: OwnedFd) -> Self {
        let lock = Lock { file: lock.into(), path: lock_path(path) };
        SocketFile { path: path.to_owned(), identity, lock, is_others: AtomicBool::new(true) }
    }

    /// What another process needs to look after it: what tells the file from every other, and the lock.
    pub(crate) fn shared(&self) -> (&str, BorrowedFd<'_>) {
        (&self.identity, self.lock.file.as_fd())
    }

    /// Notes whether another process looks after it.
    pub(crate) fn set_others(&self, is_others: bool) {
        self.is_others.store(is_others, Relaxed);
    }

    /// Lets a successor have the path. Until it takes it, this socket stays reachable there.
    pub(super) fn release(&self) {
        if self.is_others.load(Relaxed) {
            return;
        }
        // It fails only if the file system cannot lock, and then it could not be locked either.
        let _ = self.lock.file.unlock();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_others.load(Relaxed) || self.lock.file.try_lock().is_err() {
            return; // A successor has it.
        }
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
        if self.lock.is_in_place().unwrap_or(false) {
            let _ = fs::remove_file(&self.lock.path);
        }
    }
}

fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// A lock file that is locked.
#[derive(Debug)]
struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    fn take(socket: &Path) -> anyhow::Result<Self> {
        let path = lock_path(socket);
        for _ in 0..TRIES {
            let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(OWNER_ONLY).custom_flags(nofollow);
            let file = options.open(&path).with_context(|| format!("its lock {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => bail!("another lb listens there"),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            let lock = Lock { file, path: path.clone() };
            // Its last holder may have removed it in between.
            if lock.is_in_place()? {
                return Ok(lock);
            }
        }
        bail!("its lock {} changes all the time", path.display())
    }

    fn is_in_place(&self) -> io::Result<bool> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            found => Ok(identity(&found?) == identity(&self.file.metadata()?)),
        }
    }

    fn note(&self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        (&self.file).write_all(text.as_bytes())
    }

    /// What the last holder has noted.
    fn noted(&mut self) -> io::Result<String> {
        let mut text = String::new();
        (&self.file).take(64).read_to_string(&mut text)?;
        self.file.rewind()?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tempfile::TempDir;

    use super::*;

    fn place() -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("control.sock");
        (folder, path)
    }

    fn refusal(path: &Path) -> String {
        format!("{:#}", listen_at(path, OWNER_ONLY).err().unwrap())
    }

    #[test]
    fn the_socket_is_its_owners_alone_and_leaves_nothing() {
        let (folder, path) = place();
        let (listener, file) = listen_at(&path, OWNER_ONLY).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        assert!(UnixStream::connect(&path).is_ok());
        drop((listener, file));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_for_all_is_open_to_all_and_its_lock_is_not() {
        let (_folder, path) = place();
        let _listening = listen_at(&path, FOR_ALL).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), FOR_ALL);
        assert_eq!(mode(&path.with_extension("sock.lock")) & 0o077, 0);
    }

    #[test]
    fn a_socket_that_is_in_use_is_refused_and_stays() {
        let (_folder, path) = place();
        let kept = listen_at(&path, OWNER_ONLY).unwrap();
        assert!(refusal(&path).contains("another lb listens there"));
        assert!(UnixStream::connect(&path).is_ok());
        drop(kept);
        let _other = UnixListener::bind(&path).unwrap();
        assert!(refusal(&path).contains("another program listens there"));
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn the_socket_of_a_dead_lb_is_replaced() {
        let (_folder, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let (listener, file) = listen_at(&path, OWNER_ONLY).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        // As after a kill: the lock is gone, the files are not.
        file.release();
        drop(listener);
        std::mem::forget(file);
        let _again = listen_at(&path, OWNER_ONLY).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_successor_takes_the_path_of_one_that_drains() {
        let (folder, path) = place();
        let (listener, drains) = listen_at(&path, OWNER_ONLY).unwrap();
        drains.release();
        assert!(UnixStream::connect(&path).is_ok(), "reachable until then");
        let successor = listen_at(&path, OWNER_ONLY).unwrap();
        drop((listener, drains));
        assert!(UnixStream::connect(&path).is_ok(), "the successor's files stay");
        drop(successor);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_socket_stays_and_a_folder_has_to_be_there_and_safe() {
        let (folder, path) = place();
        fs::write(&path, "text").unwrap();
        assert!(refusal(&path).contains("no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        assert!(refusal(&folder.path().join("none/control.sock")).contains("none: No such file"));
        let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o777);
        assert!(refusal(&folder.path().join("new")).contains("lets all users replace files"));
        mode(0o1777);
        assert!(listen_at(&folder.path().join("new"), OWNER_ONLY).is_ok());
    }
}
