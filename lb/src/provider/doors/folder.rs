//! The folder of the doors: how it is made, and how what dead processes have left is removed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use handoff::Channel;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::geteuid;
use tempfile::TempDir;

use super::is_fresh_name;

/// A socket younger than this is left alone.
const JUST_NOW: Duration = Duration::from_secs(60);
/// The permission of the group and of all other users to write.
const OTHERS_WRITE: u32 = 0o022;
/// In a folder with this bit, only the owner of a file can rename or remove it (`chmod(2)`, `S_ISVTX`).
const STICKY: u32 = 0o1000;
/// The superuser, who can do anything anyway.
const ROOT: u32 = 0;
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
    let parent = folder.path().parent().unwrap_or(Path::new("/"));
    if let Some((place, why)) = weakness(&parent.canonicalize()?, Owner::Ours, true)? {
        bail!(
            "cannot make a folder for the sockets of --transport handoff: {} {why}; set TMPDIR to a folder in a safe place",
            place.display()
        );
    }
    sweep_orphans(parent);
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

/// Who may own a folder of doors. Its owner can put a socket in another's place, and gets clients then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The user of this process, or root.
    Ours,
    /// Any user: replicas in containers run as another one, and have to write to the folder.
    OfReplicas,
}

/// The folder that the user has chosen, made if it is missing.
///
/// # Errors
/// It cannot be used, or a user who is not its `owner` can put a socket in another's place.
pub(super) fn given(path: &Path, owner: Owner) -> anyhow::Result<PathBuf> {
    let made = DirBuilder::new().recursive(true).mode(MODE).create(path).and_then(|()| path.canonicalize());
    let path = made.with_context(|| format!("cannot use the folder {} (--handoff-dir)", path.display()))?;
    if let Some((place, why)) = weakness(&path, owner, false)? {
        let owner = match owner {
            Owner::Ours => "the user of lb, or root, owns",
            Owner::OfReplicas => "one user owns",
        };
        bail!(
            "--handoff-dir: invalid value `{}`: {} {why}: expected a folder that {owner}, that only this user can write to, and that no \
             other user can replace, because a user who can could take connections over",
            path.display(),
            place.display()
        );
    }
    Ok(path)
}

/// What lets another user than the owner put something in the place of an entry of the folder at `path` (an absolute path
/// without symbolic links): a folder on the way to it, and why. `is_shared`: the folder may be one for temporary files.
fn weakness(path: &Path, owner: Owner, is_shared: bool) -> io::Result<Option<(&Path, String)>> {
    let last = fs::metadata(path)?.uid();
    for place in path.ancestors() {
        let metadata = fs::metadata(place)?;
        let (uid, mode) = (metadata.uid(), metadata.mode());
        let is_safe_owner =
            uid == ROOT || uid == geteuid().as_raw() || owner == Owner::OfReplicas && uid == last;
        if !is_safe_owner {
            return Ok(Some((place, format!("belongs to another user ({uid})"))));
        }
        let is_guarded = mode & STICKY != 0 && (is_shared || place != path);
        if mode & OTHERS_WRITE != 0 && !is_guarded {
            return Ok(Some((
                place,
                format!("can be written to by other users (mode {:04o})", mode & 0o7777),
            )));
        }
    }
    Ok(None)
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

    /// Makes a folder with this mode.
    fn make(path: &Path, mode: u32) {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_is_safe_if_no_other_user_can_write_to_it_or_replace_it() {
        let root = tempfile::tempdir().unwrap();
        // The mode of the parent, the mode of the folder, and whether the folder may be given, or hold a new one.
        for (above, mode, may_be_given, may_hold_another) in [
            (0o755, 0o700, true, true),
            (0o755, 0o755, true, true),
            (0o1777, 0o700, true, true),
            (0o777, 0o700, false, false),
            (0o775, 0o700, false, false),
            (0o755, 0o770, false, false),
            (0o755, 0o702, false, false),
            (0o755, 0o1777, false, true),
        ] {
            let above_path = root.path().join(format!("{above:o}-{mode:o}"));
            let path = above_path.join("doors");
            make(&above_path, above);
            make(&path, mode);
            let is_safe = |is_shared| weakness(&path, Owner::Ours, is_shared).unwrap().is_none();
            let seen = (given(&path, Owner::Ours).is_ok(), is_safe(true));
            assert_eq!(seen, (may_be_given, may_hold_another), "{above:o} {mode:o}");
        }
    }

    #[test]
    fn another_user_may_own_the_folder_only_if_replicas_run_as_another_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doors");
        make(&path, 0o700);
        // Only root can give a folder away.
        if std::os::unix::fs::chown(&path, Some(65_532), None).is_err() {
            return;
        }
        let error = given(&path, Owner::Ours).unwrap_err().to_string();
        assert!(
            error.contains("--handoff-dir: invalid value") && error.contains("another user (65532)"),
            "{error}"
        );
        assert_eq!(given(&path, Owner::OfReplicas).unwrap(), path.canonicalize().unwrap());
        // A third user can replace the folder.
        std::os::unix::fs::chown(folder.path(), Some(65_533), None).unwrap();
        assert!(given(&path, Owner::OfReplicas).is_err());
        std::os::unix::fs::chown(folder.path(), Some(0), None).unwrap();
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
}
