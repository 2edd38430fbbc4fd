//! Shutdown and deadlines of the demo replica. Durations in these tests are virtual time (`tokio::time::pause`), which a slow
//! machine does not change.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::{Client, Replica};

#[tokio::test]
async fn a_transfer_in_progress_is_finished_by_the_shutdown() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    client.send("GET /bytes/50000000 HTTP/1.1\r\n\r\n").await;
    client.head().await;
    replica.stop.cancel();
    assert_eq!(client.rest().await.len(), 50_000_000);
    replica.stop().await;
}

#[tokio::test]
async fn an_echo_in_progress_is_finished_by_the_shutdown() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    client.send("POST /echo HTTP/1.1\r\nContent-Length: 4\r\n\r\nab").await;
    client.head().await;
    assert_eq!(client.exactly(2).await, b"ab");
    replica.stop.cancel();
    tokio::task::yield_now().await;
    client.send("cd").await;
    assert_eq!(client.rest().await, b"cd");
    replica.stop().await;
}

/// Connections without a request in progress, one of each kind.
async fn idle_connections(replica: &Replica) -> [Client; 4] {
    let mut idle =
        [replica.connect().await, replica.connect().await, replica.connect().await, replica.connect().await];
    idle[0].send("GET /home HTTP/1.1\r\n\r\n").await;
    idle[0].answer().await;
    idle[1].send("a\n").await;
    idle[1].line().await;
    idle[2].send("half a li").await;
    idle
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_shutdown() {
    let replica = Replica::start().await;
    let idle = idle_connections(&replica).await;
    // From here on time passes only while every task waits for it, so it shows whether the grace period was used.
    tokio::time::pause();
    let asked = Instant::now();
    replica.stop().await;
    assert_eq!(asked.elapsed().as_secs(), 0);
    for mut client in idle {
        let _ = client.0.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test]
async fn after_the_shutdown_no_connection_is_accepted() {
    let replica = Replica::start().await;
    let address = replica.address;
    replica.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_does_not_end_is_cut_off_after_the_grace() {
    let replica = Replica::start().await;
    let mut client = TcpStream::connect(replica.address).await.unwrap();
    client.write_all(b"GET /bytes/1000000000000 HTTP/1.1\r\n\r\n").await.unwrap();
    client.read_u8().await.unwrap();
    let asked = Instant::now();
    replica.stop.cancel();
    replica.serving.await.unwrap();
    assert_eq!(asked.elapsed().as_secs(), 5);
    let _ = client.read_to_end(&mut Vec::new()).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_replica_ends_its_connections() {
    let replica = Replica::start().await;
    let mut client = TcpStream::connect(replica.address).await.unwrap();
    client.write_all(b"a\n").await.unwrap();
    client.read_exact(&mut [0; 10]).await.unwrap();
    replica.serving.abort();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

/// For how many seconds of virtual time the replica keeps a client that sends `start` and then nothing.
async fn patience_after(start: &[u8]) -> u64 {
    let replica = Replica::start().await;
    let mut client = TcpStream::connect(replica.address).await.unwrap();
    client.write_all(start).await.unwrap();
    let began = Instant::now();
    client.read_to_end(&mut Vec::new()).await.unwrap();
    began.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_first_line_has_a_deadline() {
    assert_eq!(patience_after(b"").await, 10);
    assert_eq!(patience_after(b"GET /home HTTP").await, 10);
}

#[tokio::test(start_paused = true)]
async fn a_head_has_a_deadline_and_so_has_an_idle_http_connection() {
    assert_eq!(patience_after(b"GET /home HTTP/1.1\r\nHost:").await, 75);
    assert_eq!(patience_after(b"GET /home HTTP/1.1\r\n\r\n").await, 75);
}

#[tokio::test(start_paused = true)]
async fn an_unexpected_body_that_does_not_end_is_not_waited_for() {
    assert_eq!(patience_after(b"POST /home HTTP/1.1\r\nContent-Length: 9\r\n\r\n").await, 10);
}

#[tokio::test(start_paused = true)]
async fn a_raw_connection_may_be_idle_as_long_as_it_likes() {
    let replica = Replica::start().await;
    for start in ["a\n", "\u{1}"] {
        let mut client = TcpStream::connect(replica.address).await.unwrap();
        client.write_all(start.as_bytes()).await.unwrap();
        tokio::time::advance(Duration::from_secs(3600)).await;
        client.write_all(b"b\n").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
        assert!(answers.ends_with(b"b\n"), "{}", answers.escape_ascii());
    }
}
