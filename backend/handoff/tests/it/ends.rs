//! The end of `lb` or of the replica: which connections live on, and which are refused.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use handoff::{Channel, Ended, Refused};
use tokio::time::timeout;

use crate::harness::*;
use crate::raw::{connect, peeked, send, try_connect, try_send};

#[tokio::test]
async fn connections_live_on_when_lb_is_gone() {
    let site = Site::new();
    let _serving = serve(site.listen());
    let (channel, closed) = site.connect();
    let mut client = hand_over(&channel, 1).unwrap();
    assert_eq!(client.line().await, answer(1));
    drop(closed);
    assert!(matches!(hand_over(&channel, 2), Err(Refused::Gone(_))));
    client.send("still\n").await;
    assert_eq!(client.line().await, "1: still\n");

    let (channel, mut closed) = site.connect();
    let mut next = hand_over(&channel, 1).unwrap();
    assert_eq!(next.line().await, answer(1));
    client.send("there\n").await;
    assert_eq!(client.line().await, "1: there\n");
    drop((client, next));
    assert_eq!(reported(&mut closed, 1).await, [1]);
}

#[tokio::test]
async fn connections_handed_over_before_lb_ended_are_served() {
    let site = Site::new();
    let mut listener = site.listen();
    let lb = Arc::new(connect(&site.path()));
    let hand_over = |number| {
        let (client, socket) = client(&format!("{number}\n"));
        send(&lb, about(number).as_bytes(), &[socket.as_fd()]);
        client
    };
    // A report that lb never reads turns its end into an error, which arrives before the messages in the queue.
    let first = hand_over(0);
    drop((listener.accept().await.unwrap(), first));
    assert_eq!(peeked(&lb).await, 8);
    let mut clients: Vec<Client> = (1..4).map(hand_over).collect();
    drop(Arc::into_inner(lb).expect("the only owner"));
    for number in 1..4 {
        let (stream, metadata) = timeout(HANG, listener.accept()).await.unwrap().unwrap();
        assert_eq!(metadata.number(), number);
        tokio::spawn(echo(stream, metadata));
    }
    for (number, client) in (1..4).zip(&mut clients) {
        assert_eq!(client.line().await, answer(number));
    }
}

#[tokio::test]
async fn a_stopping_listener_takes_queued_connections_and_refuses_the_rest() {
    let site = Site::new();
    let mut listener = site.listen();
    let (channel, mut closed) = site.connect();
    let mut clients = vec![hand_over(&channel, 0).unwrap()];
    let (stream, metadata) = listener.accept().await.unwrap();
    tokio::spawn(echo(stream, metadata));
    clients.extend((1..5).map(|number| hand_over(&channel, number).unwrap()));
    // The listener has not accepted this Unix connection yet.
    let (late, mut late_closed) = site.connect();
    let mut late_client = hand_over(&late, 9).unwrap();

    let rest = listener.stop();
    let numbers: Vec<u64> = rest.iter().map(|(_, metadata)| metadata.number()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 9]);
    for (stream, metadata) in rest {
        tokio::spawn(echo(stream, metadata));
    }
    for channel in [&channel, &late] {
        assert!(matches!(hand_over(channel, 7), Err(Refused::Gone(_))));
    }
    let refused = Channel::connect(site.path()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "the path is free again");
    for (number, client) in (0..5).zip(&mut clients) {
        assert_eq!(client.line().await, answer(number));
    }
    assert_eq!(late_client.line().await, answer(9));
    drop((clients, late_client));
    assert_eq!(reported(&mut closed, 5).await, [0, 1, 2, 3, 4]);
    assert_eq!(reported(&mut late_closed, 1).await, [9]);
    assert!(matches!(ended(&mut closed).await, Ended::Gone));
    assert!(matches!(ended(&mut late_closed).await, Ended::Gone));
}

/// Makes Unix connections until one is refused. Hands one connection over on each, and one on the first. Returns how many were
/// sent.
fn hand_over_until_refused(path: &Path, begun: &AtomicBool) -> usize {
    let (mut count, socket, first) = (0, TcpListener::bind("127.0.0.1:0").unwrap(), connect(path));
    while let Ok(lb) = try_connect(path) {
        for lb in [&lb, &first] {
            count += usize::from(try_send(lb, about(1).as_bytes(), &[socket.as_fd()]).is_ok());
        }
        begun.store(true, SeqCst);
    }
    count
}

#[tokio::test]
async fn every_connection_is_served_or_refused_when_the_replica_stops() {
    for _ in 0..50 {
        let (site, begun) = (Site::new(), Arc::new(AtomicBool::new(false)));
        let listener = site.listen();
        let (path, flag) = (site.path(), Arc::clone(&begun));
        let sender = thread::spawn(move || hand_over_until_refused(&path, &flag));
        while !begun.load(SeqCst) {
            thread::yield_now();
        }
        let taken = listener.stop().len();
        assert_eq!(taken, sender.join().unwrap());
    }
}

#[tokio::test]
async fn a_dropped_listener_leaves_the_path_to_its_new_owner() {
    let site = Site::new();
    let first = site.listen();
    std::fs::remove_file(site.path()).unwrap();
    let _second = serve(site.listen());
    drop(first);
    let (channel, _closed) = site.connect();
    assert_eq!(hand_over(&channel, 1).unwrap().line().await, answer(1));
}
