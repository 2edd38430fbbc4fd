//! The output of child processes, as lines of the log.
//!
//! It is read on a thread of its own, so that a replica that prints without end delays neither the controller nor the probes. Too many
//! lines are dropped and counted. They are read all the same, so that a replica does not wait for its log; only one that prints tens of
//! megabytes a second does.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use proto::control::Hostname;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::net::Pause;

/// The longest piece of output in one line of the log, in bytes.
const LONGEST: usize = 4096;
/// How many lines a second of one stream are logged for as long as it likes.
const RATE: u32 = 100;
/// How many lines are logged at once after a quiet time: the last words of a program are many.
const BURST: u32 = 1000;
/// How much is read at a time, in bytes: what a pipe holds (pipe(7)).
const CHUNK: usize = 64 * 1024;
/// The pause after each piece of a flood. So reading it takes a small part of a core.
const PAUSE: Duration = Duration::from_millis(1);
/// How long to wait for the last output of children that have ended. A process that has left their group may hold the stream open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The thread that reads the output of all children. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Outputs {
    runtime: Handle,
    streams: TaskTracker,
    /// Whether another process reads the streams.
    quiet: Arc<Pause>,
    _end: DropGuard,
}

/// A stream of output of a child.
#[derive(Debug)]
pub(super) struct Stream {
    name: String,
    receiver: Receiver,
}

impl Stream {
    /// Its name: `stdout` or `stderr`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Another handle of it.
    pub(super) fn another(&self) -> io::Result<OwnedFd> {
        self.receiver.as_fd().try_clone_to_owned()
    }
}

impl Outputs {
    /// Starts the thread. It reads nothing while it is `quiet`.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub(super) fn start(quiet: Arc<Pause>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
        let ended = end.clone().cancelled_owned();
        thread::Builder::new().name("output".into()).spawn(move || runtime.block_on(ended))?;
        Ok(Outputs { runtime: handle, streams: TaskTracker::new(), quiet, _end: end.drop_guard() })
    }

    /// Logs what a child of this process prints from now on. Returns its streams.
    ///
    /// # Errors
    /// Its streams cannot be taken over.
    pub(super) fn follow(&self, child: &mut Child, hostname: &Hostname) -> io::Result<Vec<Arc<Stream>>> {
        let mut streams = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            streams.push(self.log(stdout.into_owned_fd()?, hostname, "stdout")?);
        }
        if let Some(stderr) = child.stderr.take() {
            streams.push(self.log(stderr.into_owned_fd()?, hostname, "stderr")?);
        }
        Ok(streams)
    }

    /// Logs what comes out of a pipe, which is the stream of this name, from now on.
    ///
    /// # Errors
    /// It is no pipe, or files are short.
    pub(super) fn log(&self, pipe: OwnedFd, hostname: &Hostname, name: &str) -> io::Result<Arc<Stream>> {
        let receiver = {
            let _on = self.runtime.enter();
            Receiver::from_owned_fd(pipe)?
        };
        let stream = Arc::new(Stream { name: name.to_owned(), receiver });
        let logged = log(Arc::clone(&stream), hostname.clone(), Arc::clone(&self.quiet));
        self.streams.spawn_on(logged, &self.runtime);
        Ok(stream)
    }

    /// Waits for the last output of children that have ended.
    pub(super) async fn ended(&self) {
        self.streams.close();
        let _ = timeout(LAST_WORDS, self.streams.wait()).await;
    }
}

/// Logs a stream until its end.
async fn log(followed: Arc<Stream>, hostname: Hostname, quiet: Arc<Pause>) {
    let (output, stream) = (&followed.receiver, followed.name());
    let (mut lines, mut allowance) = (Lines::default(), Allowance::new(Instant::now()));
    let complain = |dropped: u64| {
        warn!(%hostname, stream, dropped, most_a_second = RATE, "lines of its output were dropped: it prints too many");
    };
    loop {
        if quiet.is_on() {
            quiet.until(false).await;
        }
        let is_readable = tokio::select! {
            () = quiet.until(true) => continue,
            is_readable = timeout_at(allowance.next_report(), output.readable()) => is_readable,
        };
        allowance.renew(Instant::now()).into_iter().for_each(complain);
        if is_readable.is_err() {
            continue; // Only the report was due.
        }
        let is_open = read(output, &mut lines, |line| {
            if allowance.take() {
                info!(%hostname, stream, "{}", String::from_utf8_lossy(line).trim_end());
            }
        });
        if !is_open {
            break;
        }
        if allowance.is_spent() {
            sleep(PAUSE).await;
        }
    }
    allowance.dropped().into_iter().for_each(complain);
}

/// Reads what is there; returns false at the end.
fn read(output: &Receiver, lines: &mut Lines, mut each: impl FnMut(&[u8])) -> bool {
    // It is not kept while a child is silent: there may be a thousand of them.
    let mut chunk = Vec::with_capacity(CHUNK);
    match output.try_read_buf(&mut chunk) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
        Ok(0) | Err(_) => {
            lines.end(each);
            false
        }
        Ok(_) => {
            lines.feed(&chunk, &mut each);
            true
        }
    }
}

/// Cuts a stream into lines; a long line into pieces.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for mut part in bytes.split_inclusive(|&byte| byte == b'\n') {
            while !part.is_empty() {
                let (piece, rest) = part.split_at(part.len().min(LONGEST - self.begun.len()));
                self.begun.extend_from_slice(piece);
                part = rest;
                if self.begun.len() == LONGEST || self.begun.ends_with(b"\n") {
                    each(&self.begun);
                    self.begun.clear();
                }
            }
        }
    }

    fn end(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            each(&std::mem::take(&mut self.begun));
        }
    }
}

/// How many lines of a stream may be logged: [`RATE`] more each second, at most [`BURST`] at once. Within a second it does not change from
/// "dropped" back to "logged", so that there is one report of dropped lines a second.
#[derive(Debug)]
struct Allowance {
    left: u32,
    dropped: u64,
    renewed: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Allowance { left: BURST, dropped: 0, renewed: now }
    }

    /// Whether the next line may be logged.
    fn take(&mut self) -> bool {
        let is_allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.dropped += u64::from(!is_allowed);
        is_allowed
    }

    fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Adds what the time since the last renewal allows, if that is a second or more. Returns the number of dropped lines that have to be
    /// reported.
    fn renew(&mut self, now: Instant) -> Option<u64> {
        let seconds = u32::try_from((now - self.renewed).as_secs()).unwrap_or(u32::MAX);
        if seconds == 0 {
            return None;
        }
        self.renewed = now;
        self.left = seconds.saturating_mul(RATE).saturating_add(self.left).min(BURST);
        self.dropped()
    }

    /// The number of dropped lines that have not been reported.
    fn dropped(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.dropped)).filter(|&dropped| dropped > 0)
    }

    /// When dropped lines have to be reported, at the latest.
    fn next_report(&self) -> Instant {
        const NEVER: Duration = Duration::from_secs(24 * 3600);
        self.renewed + if self.dropped > 0 { Duration::from_secs(1) } else { NEVER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        chunks.iter().for_each(|chunk| lines.feed(chunk, |line| seen.push(line.to_vec())));
        lines.end(|line| seen.push(line.to_vec()));
        seen
    }

    #[test]
    fn lines_are_the_same_however_their_bytes_come() {
        let text = b"a\n\nbc\nd";
        let expected: [&[u8]; 4] = [b"a\n", b"\n", b"bc\n", b"d"];
        assert_eq!(cut(&[text]), expected);
        assert_eq!(cut(&text.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_line_without_end_is_cut_into_pieces() {
        let sizes: Vec<usize> = cut(&[&vec![b'x'; 3 * LONGEST + 1]]).iter().map(Vec::len).collect();
        assert_eq!(sizes, [LONGEST, LONGEST, LONGEST, 1]);
    }

    #[test]
    fn a_burst_passes_and_then_so_many_lines_a_second() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        let mut print = |lines: u32, at: u64| {
            let dropped = allowance.renew(begin + Duration::from_millis(at));
            ((0..lines).filter(|_| allowance.take()).count(), dropped)
        };
        assert_eq!(print(5000, 0), (BURST as usize, None));
        assert_eq!(print(5000, 999), (0, None));
        assert_eq!(print(5000, 1000), (RATE as usize, Some(9000)));
        assert_eq!(print(1, 2500), (1, Some(4900)));
        assert_eq!(print(5000, 3_600_000), (BURST as usize, None));
    }
}
