//! The kernel's memory for TCP: how short it is, looked up about once a second by the control plane's runtime.
//!
//! Beyond the pressure mark of `tcp_mem` (tcp(7)) the kernel shrinks the windows of all connections, old ones too. So near it `lb`
//! lends no pipes, and beyond it new connections wait in the kernel's queue. Where the files cannot be read, nothing is limited.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::interval;
use tracing::{info, warn};

use super::splice::Pipes;

/// How often the memory is looked up.
const PERIOD: Duration = Duration::from_secs(1);
/// The share of the pressure mark from which on pipes are not lent, in per cent.
const NEAR: u64 = 80;

/// Whether new connections have to wait for memory.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    is_short: AtomicBool,
}

impl Memory {
    /// Whether new connections have to wait.
    #[must_use]
    pub(super) fn is_short(&self) -> bool {
        self.is_short.load(Relaxed)
    }
}

/// How much of the kernel's memory for TCP is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Level {
    #[default]
    Fine,
    /// Near the pressure mark.
    Near,
    /// Beyond it.
    Beyond,
}

/// Pages of memory for TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pages {
    used: u64,
    /// The pressure mark.
    mark: u64,
}

impl Pages {
    /// From the text of `/proc/net/sockstat` (line `TCP:`, field `mem`) and of `/proc/sys/net/ipv4/tcp_mem` (second number).
    fn read(sockstat: &str, tcp_mem: &str) -> Option<Self> {
        let mut words = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?.split_whitespace();
        words.find(|word| *word == "mem")?;
        let used = words.next()?.parse().ok()?;
        let mark = tcp_mem.split_whitespace().nth(1)?.parse().ok()?;
        Some(Pages { used, mark })
    }

    fn now() -> Option<Self> {
        let sockstat = std::fs::read_to_string("/proc/net/sockstat").ok()?;
        Pages::read(&sockstat, &std::fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok()?)
    }

    fn level(self) -> Level {
        match self.used {
            used if used > self.mark => Level::Beyond,
            used if u128::from(used) * 100 > u128::from(self.mark) * u128::from(NEAR) => Level::Near,
            _ => Level::Fine,
        }
    }
}

/// Looks the memory up again and again, and limits what is given out.
pub(crate) async fn watch(memory: &Memory, pipes: &Pipes) -> Infallible {
    heed(memory, pipes, Pages::now).await
}

async fn heed(memory: &Memory, pipes: &Pipes, mut look: impl FnMut() -> Option<Pages>) -> Infallible {
    let (mut period, mut before) = (interval(PERIOD), Level::default());
    loop {
        period.tick().await;
        let pages = look();
        let level = pages.map_or(Level::Fine, Pages::level);
        memory.is_short.store(level == Level::Beyond, Relaxed);
        pipes.close(level != Level::Fine);
        report(pages, before);
        before = level;
    }
}

/// Logs what is new.
fn report(pages: Option<Pages>, before: Level) {
    let Some(pages) = pages else {
        if before != Level::Fine {
            info!("memory: the kernel does not say how much is in use for TCP: nothing is limited");
        }
        return;
    };
    let Pages { used, mark } = pages;
    match pages.level() {
        Level::Beyond => warn!(
            used,
            mark,
            "memory: more pages are in use for TCP than the kernel's pressure mark: no new connections for the moment \
             (net.ipv4.tcp_mem, --socket-buffer)"
        ),
        Level::Near if before != Level::Near => warn!(
            used,
            mark,
            "memory: nearly as many pages are in use for TCP as the kernel's pressure mark: bytes are copied, not spliced, for the \
             moment (net.ipv4.tcp_mem, --socket-buffer)"
        ),
        Level::Fine if before != Level::Fine => {
            info!(used, mark, "memory: there is no shortage of pages for TCP any more");
        }
        Level::Near | Level::Fine => {}
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;
    use crate::data::listener::room_for_files;
    use crate::data::testing::plane;
    use crate::data::{Plane, Worker};

    #[test]
    fn the_kernel_says_how_much_is_in_use() {
        let sockstat = "sockets: used 290\nTCP: inuse 7 orphan 0 tw 4 alloc 9 mem 81\nUDP: inuse 1 mem 0\n";
        assert_eq!(Pages::read(sockstat, "42000\t56000\t84000\n"), Some(Pages { used: 81, mark: 56_000 }));
        for (sockstat, tcp_mem) in
            [("", "1 2 3"), ("TCP: inuse 7\n", "1 2 3"), (sockstat, "1"), (sockstat, "a b c")]
        {
            assert_eq!(Pages::read(sockstat, tcp_mem), None);
        }
        assert!(Pages::now().is_some(), "this machine has both files");
    }

    /// A plane with a worker that accepts.
    fn accepting() -> Plane {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let worker = Worker::new(1, vec![listener]).unwrap();
        worker.gates[0].set_accepts(true);
        Plane { workers: vec![worker], ..plane() }
    }

    /// Looks at the memory once, and waits until the look has been taken in.
    async fn look(plane: &Plane, used: Option<u64>) {
        let looks = AtomicBool::new(false);
        let pages = used.map(|used| Pages { used, mark: 100 });
        let looked = poll_fn(|_| if looks.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending });
        let heed = heed(&plane.memory, &plane.pipes, || {
            looks.store(true, Relaxed);
            pages
        });
        tokio::select! {
            biased;
            never = heed => match never {},
            () = looked => {}
        }
    }

    #[tokio::test]
    async fn beyond_the_mark_new_connections_wait_and_healthz_says_so() {
        let plane = accepting();
        look(&plane, Some(100)).await;
        assert_eq!(plane.accepts(), Ok(()));
        look(&plane, Some(101)).await;
        assert_eq!(plane.accepts(), Err("new connections wait for memory"));
        let mut waits = pin!(room_for_files(&plane));
        assert!(futures_util::poll!(&mut waits).is_pending());
        assert_eq!(plane.refusals.totals().max_connections, 1);
        look(&plane, Some(50)).await;
        drop(waits.await);
        assert_eq!(plane.accepts(), Ok(()));
        // A file that cannot be read is no shortage, even if the last look has shown one.
        look(&plane, Some(101)).await;
        look(&plane, None).await;
        assert_eq!(plane.accepts(), Ok(()));
    }

    #[test]
    fn the_marks_are_eighty_per_cent_and_the_whole() {
        let levels = [0, 80, 81, 100, 101].map(|used| Pages { used, mark: 100 }.level());
        assert_eq!(levels, [Level::Fine, Level::Fine, Level::Near, Level::Near, Level::Beyond]);
    }
}
