//! Finds the process of a replica, kills it or stops it.
//!
//! `lb` gives each replica its hostname (`SERVER_ID`) and port (`PORT`) in its environment, in a container too. No other
//! process is ever signalled.

use std::fs;
use std::io;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long a killed process may take to end.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// A running replica.
#[derive(Debug)]
pub(crate) struct Victim {
    pid: Pid,
    process: OwnedFd,
}

/// A replica that is stopped. Dropping this lets it go on, if it still runs.
#[derive(Debug)]
pub(crate) struct Stopped(Victim);

impl Victim {
    /// Finds the replica with this hostname that listens on `address`.
    ///
    /// # Errors
    /// It does not run on this host, or this user cannot see it.
    pub(crate) fn find(hostname: &str, address: SocketAddr) -> anyhow::Result<Self> {
        let processes = fs::read_dir("/proc").context("cannot list processes")?;
        let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let found = numbers.filter(|&pid| is_replica(pid, hostname, address).unwrap_or(false));
        let Some(pid) = found.min().and_then(Pid::from_raw) else {
            bail!(
                "cannot find the process of {hostname} at {address}: it may be on another host or belong to another user"
            );
        };
        let process = pidfd_open(pid, PidfdFlags::empty()).context("the replica has ended")?;
        let opened = Victim { pid, process };
        // Checked again after it was opened, because the process number may belong to another process by now.
        if !is_replica(pid.as_raw_nonzero().get(), hostname, address).unwrap_or(false) {
            bail!("{hostname} has ended");
        }
        Ok(opened)
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Stops it: the kernel still accepts connections for it, and it answers none.
    ///
    /// # Errors
    /// It has ended, or this user may not stop it.
    pub(crate) fn stop(self) -> anyhow::Result<Stopped> {
        pidfd_send_signal(&self.process, Signal::STOP).context("cannot stop a replica")?;
        Ok(Stopped(self))
    }

    /// Kills it and waits until it is gone; then it accepts no more connections.
    ///
    /// # Errors
    /// This user may not kill it, or it does not end.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        pidfd_send_signal(&self.process, Signal::KILL).context("cannot kill a replica")?;
        let gone = retry_on_intr(|| poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&PATIENCE)))?;
        if gone == 0 {
            bail!("a killed replica does not end");
        }
        Ok(())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Its load balancer may have ended it meanwhile.
        let _ = pidfd_send_signal(&self.0.process, Signal::CONT);
    }
}

/// Whether a process is that replica: by its environment and its network namespace.
fn is_replica(pid: i32, hostname: &str, address: SocketAddr) -> io::Result<bool> {
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    let has = |wanted: &str| environment.split(|&byte| byte == 0).any(|entry| entry == wanted.as_bytes());
    if !has(&format!("SERVER_ID={hostname}")) || !has(&format!("PORT={}", address.port())) {
        return Ok(false);
    }
    if address.ip().is_loopback() {
        let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net"));
        return Ok(network(&pid.to_string())? == network("self")?);
    }
    let addresses = fs::read_to_string(format!("/proc/{pid}/net/fib_trie"))?;
    let wanted = address.ip().to_string();
    Ok(addresses.split_whitespace().any(|word| word == wanted))
}
