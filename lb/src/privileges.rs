//! What this process may do: it gives up what it does not need.
//!
//! All of it happens while there is one thread: the kernel keeps these states for each thread, and a new thread inherits them.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nix::unistd::{setgroups, setresgid, setresuid};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fchown, fstat, openat};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_keep_capabilities,
    set_no_new_privs,
};

/// The user and group as which `lb` goes on. The user is not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The number of the user.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
}

/// Hides the memory and the environment of this process from other processes of its user (`PR_SET_DUMPABLE`, prctl(2)): only root can
/// attach to it, or read its `/proc/PID/environ`, `mem` and `fd`. It leaves no core dump. What it executes is not hidden.
///
/// # Errors
/// The kernel refuses it.
pub fn hide() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// No program that this process or its children execute gets more privileges, such as by a set-user-ID bit (`PR_SET_NO_NEW_PRIVS`, prctl(2)),
/// nor those that this process was started with as ambient capabilities (capabilities(7)).
///
/// # Errors
/// The kernel refuses it.
pub(crate) fn refuse_new() -> io::Result<()> {
    clear_ambient_capability_set()?;
    Ok(set_no_new_privs(true)?)
}

impl Identity {
    /// Gives a socket to this user. Only sockets of one user can share a port (`SO_REUSEPORT`, socket(7)), so a socket that is bound
    /// later, in the place of this one, has to be of the same user.
    pub(crate) fn own(self, socket: impl AsFd) -> io::Result<()> {
        Ok(fchown(socket, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?)
    }

    /// Gives the file of a Unix socket to this user.
    pub(crate) fn own_socket_file(self, path: &Path) -> io::Result<()> {
        // What is checked is what changes its owner, whatever the path leads to by then.
        let file = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
            return Err(io::Error::other("it is no socket any more"));
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        Ok(chownat(file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
    }

    /// Becomes this user: without supplementary groups, without a way back, and without any capability but, if `low_ports`, the one
    /// for ports below 1024 (a listener that fails is bound again).
    ///
    /// # Errors
    /// The process is not root, or the kernel refuses it. Then the process must end.
    pub(crate) fn take_on(self, low_ports: bool) -> anyhow::Result<()> {
        let (uid, gid) = (self.uid.into(), self.gid.into());
        set_keep_capabilities(low_ports)?;
        setgroups(&[]).context("cannot leave the groups of root")?;
        setresgid(gid, gid, gid).with_context(|| format!("cannot become group {gid}"))?;
        setresuid(uid, uid, uid).with_context(|| format!("cannot become user {uid}"))?;
        let kept = if low_ports { CapabilitySet::NET_BIND_SERVICE } else { CapabilitySet::empty() };
        set_capabilities(
            None,
            CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
        )?;
        ensure!(setresuid(0.into(), 0.into(), 0.into()).is_err(), "the way back to root is open");
        Ok(())
    }
}
