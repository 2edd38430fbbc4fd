//! Measures what a hand-over costs within one process: the time to send, to receive, and to close and report.
//!
//! `cargo run --release -p handoff --example cost`. All hand-overs use one real client socket.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use handoff::{Channel, Closed, Listener, Metadata};

/// Fewer hand-overs than the queue has room for.
const BATCH: u64 = 100;
const BATCHES: u64 = 1000;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "it prints its results")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("handoff-cost-{}", std::process::id()));
    let mut listener = Listener::bind(&path)?;
    let (channel, mut closed) = Channel::connect(&path)?;
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let _client = TcpStream::connect(tcp.local_addr()?)?;
    let (socket, _) = tcp.accept()?;

    let mut times = [Duration::ZERO; 3];
    for _ in 0..BATCHES {
        let batch = batch(&channel, &mut listener, &mut closed, &socket).await?;
        times.iter_mut().zip(batch).for_each(|(time, more)| *time += more);
    }
    for (what, time) in ["send", "receive", "close and report"].iter().zip(times) {
        println!("{what}: {:.2} us", time.as_secs_f64() * 1e6 / (BATCH * BATCHES) as f64);
    }
    Ok(())
}

/// One batch of hand-overs: how long it takes to send, to receive, and to close and report them.
async fn batch(
    channel: &Channel,
    listener: &mut Listener,
    closed: &mut Closed,
    socket: &TcpStream,
) -> Result<[Duration; 3], Box<dyn std::error::Error>> {
    let begun = Instant::now();
    for number in 0..BATCH {
        channel.send(socket, &Metadata::new(number, b"server1", b"132574", Some(b"132574")))?;
    }
    let (sent, mut streams) = (Instant::now(), Vec::new());
    for _ in 0..BATCH {
        streams.push(listener.accept().await?);
    }
    let received = Instant::now();
    drop(streams);
    let mut reported = 0;
    while reported < BATCH {
        reported += closed.next().await?.len() as u64;
    }
    Ok([sent - begun, received - sent, received.elapsed()])
}
