//! Malformed messages end their own Unix connection and no other.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};

use handoff::protocol::Malformed;
use handoff::{Channel, Ended, Refused};
use rustix::net::SocketAddrUnix;
use tokio::time::timeout;

use crate::harness::*;
use crate::raw::{connect, is_ended, send, socket};

#[tokio::test]
async fn garbage_ends_its_own_unix_connection_and_no_other() {
    let site = Site::new();
    let mut listener = site.listen();
    let (channel, _closed) = site.connect();
    let message = about(1);
    let good = message.as_bytes();
    let another_version = [&good[..8], b"\x02", &good[9..]].concat();
    let (mut client, tcp) = client("x\n");
    let null = File::open("/dev/null").unwrap();
    let (unix, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let (tcp_fd, null, unix) = (tcp.as_fd(), null.as_fd(), unix.as_fd());
    let cases: [(&[u8], &[BorrowedFd<'_>]); 10] = [
        (b"hello", &[]),
        (b"hello", &[tcp_fd]),
        (&another_version, &[tcp_fd]),
        (&[good, b"x"].concat(), &[tcp_fd]),
        (&[1; 4096], &[tcp_fd]),
        (good, &[]),
        (good, &[tcp_fd, tcp_fd]),
        (good, &[tcp_fd, tcp_fd, tcp_fd, tcp_fd, tcp_fd, tcp_fd]),
        (good, &[null]),
        (good, &[unix]),
    ];
    for (message, descriptors) in cases {
        let bad = connect(&site.path());
        send(&bad, message, descriptors);
        let error = timeout(HANG, listener.accept()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{}: {error}", message.escape_ascii());
        is_ended(bad).await;
        let _next = hand_over(&channel, 2).unwrap();
        assert_eq!(timeout(HANG, listener.accept()).await.unwrap().unwrap().1, about(2));
    }
    drop(tcp);
    client.is_cut_off().await;
}

#[tokio::test]
async fn an_empty_message_is_an_end() {
    let site = Site::new();
    let mut listener = site.listen();
    let bad = connect(&site.path());
    send(&bad, b"", &[]);
    let (channel, _closed) = site.connect();
    let _client = hand_over(&channel, 2).unwrap();
    assert_eq!(timeout(HANG, listener.accept()).await.unwrap().unwrap().1, about(2));
    drop(tokio::spawn(async move { listener.accept().await }));
    is_ended(bad).await;
}

#[tokio::test]
async fn a_replica_that_reports_garbage_is_cut_off() {
    let site = Site::new();
    let replica = socket();
    rustix::net::bind(&replica, &SocketAddrUnix::new(site.path()).unwrap()).unwrap();
    rustix::net::listen(&replica, 8).unwrap();
    for report in [&[1; 7][..], &[1; 12], &[1; 513 * 8], &[1; 8000]] {
        let (channel, mut closed) = Channel::connect(site.path()).unwrap();
        let accepted = rustix::net::accept(&replica).unwrap();
        send(&accepted, &[7; 16], &[]);
        send(&accepted, report, &[]);
        assert_eq!(reported(&mut closed, 2).await, [0x0707_0707_0707_0707; 2]);
        assert!(matches!(ended(&mut closed).await, Ended::Malformed(Malformed::Length)));
        assert!(matches!(hand_over(&channel, 1), Err(Refused::Gone(_))));
        is_ended(accepted).await;
    }
}
