//! `--demo`: a small load on `lb` itself, so that there is something to see without another program.
//!
//! It is a client like any other: it connects to the data port over loopback. It is bounded, and runs beside the control plane, never on a
//! thread of the data plane. Nothing here looks at the fleet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{info, warn};

/// The pause between two connections: 20 a second.
const PAUSE: Duration = Duration::from_millis(50);
/// The most connections at once.
const MOST: usize = 64;
/// The ids that are sent.
const IDS: std::ops::RangeInclusive<u32> = 1..=200;
/// How long a connection stays open after its answer, at most.
const STAY: Duration = Duration::from_secs(2);
/// How long each step of a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const ANSWER: u64 = 4096;

/// Open files of the load.
pub(crate) const FILES: usize = MOST;

/// Tells where the page is, if the control port has a TCP address, and makes the load until it is dropped.
pub(crate) async fn run(data: SocketAddr, control: Option<SocketAddr>) {
    match control {
        Some(control) => {
            let page = page(control);
            info!(page, "demo: open {page} in a browser");
        }
        None => warn!("demo: the page needs a TCP address (--control 127.0.0.1:5001)"),
    }
    load(data).await;
}

/// Connects to the data port again and again.
async fn load(data: SocketAddr) {
    let target = SocketAddr::new(loopback(data.ip()), data.port());
    let (mut ticks, mut open) = (interval(PAUSE), JoinSet::new());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while open.try_join_next().is_some() {}
        if open.len() < MOST {
            open.spawn(visit(target));
        }
    }
}

/// One connection: a line with an id, the answer, some rest, the end. What fails is seen where `lb` counts it.
async fn visit(target: SocketAddr) -> anyhow::Result<()> {
    let stream = timeout(PATIENCE, TcpStream::connect(target)).await??;
    let mut stream = BufReader::new(stream.take(ANSWER));
    let line = format!("{} demo\n", fastrand::u32(IDS));
    timeout(PATIENCE, stream.get_mut().get_mut().write_all(line.as_bytes())).await??;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_until(b'\n', &mut answer)).await??;
    ensure!(read > 0, "there is no answer");
    sleep(STAY.mul_f32(fastrand::f32())).await;
    timeout(PATIENCE, stream.get_mut().get_mut().shutdown()).await??;
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await??;
    Ok(())
}

/// The address at which a listener is reached from its own machine.
fn loopback(listener: IpAddr) -> IpAddr {
    match listener {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// Where the page is.
fn page(control: SocketAddr) -> String {
    format!("http://{}/", SocketAddr::new(loopback(control.ip()), control.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_all_interfaces_is_reached_over_loopback() {
        for (listener, page_at) in [
            ("0.0.0.0:1", "http://127.0.0.1:1/"),
            ("[::]:1", "http://[::1]:1/"),
            ("127.0.0.9:80", "http://127.0.0.9:80/"),
        ] {
            assert_eq!(page(listener.parse().unwrap()), page_at);
        }
    }
}
