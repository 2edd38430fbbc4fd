//! The folder of the doors: how it is made, and how what dead processes have left is removed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use handoff::Channel;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::geteuid;
use tempfile::TempDir;

use super::is_fresh_name;

/// A socket younger than this is left alone.
const JUST_NOW: Duration = Duration::from_secs(60);
/// The permission of all users to write.
const OTHERS_WRITE: u32 = 0o002;
/// The permissions of a new folder: none for other users.
pub(super) const MODE: u32 = 0o700;
/// The beginning of the name of a folder that is made for one process.
const OWN: &str = "lb-doors-";
/// How often a new folder is tried: another `lb` that starts at the same time may remove it as an orphan.
const TRIES: usize = 8;

/// A new folder that is removed with this value, and is locked until then: the lock says that it is in use.
///
/// # Errors
/// It cannot be made.
pub(super) fn new() -> anyhow::Result<(TempDir, File)> {
    let made = (1..TRIES).find_map(|_| try_new().ok()).map_or_else(try_new, Ok);
    let (folder, lock) = made.context("cannot make a folder for the sockets of --transport handoff")?;
    folder.path().parent().into_iter().for_each(sweep_orphans);
    Ok((folder, lock))
}

fn try_new() -> io::Result<(TempDir, File)> {
    let mut folder = tempfile::Builder::new();
    let folder = folder.prefix(OWN).permissions(fs::Permissions::from_mode(MODE)).tempdir()?;
    let lock = open_own(folder.path())?;
    lock.try_lock()?;
    // Another lb may have removed it as an orphan before it was locked.
    if fs::metadata(folder.path())?.ino() != lock.metadata()?.ino() {
        return Err(ErrorKind::NotFound.into());
    }
    Ok((folder, lock))
}

/// The folder that the user has chosen, made if it is missing.
///
/// # Errors
/// It cannot be used, or other users can write to it.
pub(super) fn given(path: &Path) -> anyhow::Result<PathBuf> {
    let made = DirBuilder::new().recursive(true).mode(MODE).create(path).and_then(|()| path.canonicalize());
    let path = made.with_context(|| format!("cannot use the folder {} (--handoff-dir)", path.display()))?;
    ensure!(
        fs::metadata(&path)?.permissions().mode() & OTHERS_WRITE == 0,
        "--handoff-dir: invalid value `{}`: expected a folder that only lb and its replicas can write to, because other users \
         could take connections over there",
        path.display()
    );
    Ok(path)
}

/// Opens a folder that a process of this user may have made with [`new`]: no symbolic link, and closed to other users.
fn open_own(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = File::from(open(path, flags, Mode::empty())?);
    let metadata = folder.metadata()?;
    let is_ours = metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o777 == MODE;
    if is_ours { Ok(folder) } else { Err(ErrorKind::PermissionDenied.into()) }
}

/// Removes the folders of processes that were killed. (The kernel has unlocked them.)
fn sweep_orphans(parent: &Path) {
    for folder in entries(parent).filter(|entry| is_named(entry, |name| name.starts_with(OWN))) {
        let Ok(lock) = open_own(&folder.path()) else { continue };
        if lock.try_lock().is_ok() {
            sweep(&folder.path());
            // It fails if something is left in the folder, which stays then.
            let _ = fs::remove_dir(folder.path());
        }
    }
}

/// Removes the doors at which no replica listens any more.
pub(super) fn sweep(folder: &Path) {
    for entry in entries(folder).filter(|entry| is_named(entry, is_fresh_name)) {
        let is_a_door = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_a_door && is_old(&entry) && is_dead(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The content of a folder as far as it can be read. What cannot be read is not swept, which does no harm.
fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

fn is_named(entry: &fs::DirEntry, is_it: impl Fn(&str) -> bool) -> bool {
    entry.file_name().to_str().is_some_and(is_it)
}

/// Whether it was made some time ago: between bind(2) and listen(2) a socket looks like a dead one.
fn is_old(entry: &fs::DirEntry) -> bool {
    let made = entry.metadata().and_then(|metadata| metadata.modified());
    made.ok().and_then(|made| made.elapsed().ok()).is_some_and(|age| age > JUST_NOW)
}

/// Whether no process listens there (connect(2), `ECONNREFUSED`).
fn is_dead(path: &Path) -> bool {
    matches!(Channel::connect(path), Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
