//! Full queues, limits and dropped listeners: the sender learns of a refusal and keeps the socket.

use handoff::{Ended, Refused};
use tokio::time::timeout;

use crate::harness::*;

#[tokio::test]
async fn a_socket_that_is_refused_is_served_elsewhere() {
    let (hung, well) = (Site::new(), Site::new());
    let _never_accepted = hung.listen();
    let (channel, _closed) = hung.connect();
    let (mut client, socket) = client("first\n");
    let (_other, filler) = crate::harness::client("");
    let (count, refused) = fill(&channel, &filler);
    assert!(matches!(refused, Refused::Full(_)) && count > 10, "{refused} after {count}");
    assert!(matches!(channel.send(&socket, &about(1)), Err(Refused::Full(_))));

    let _serving = serve(well.listen());
    let (channel, mut closed) = well.connect();
    channel.send(&socket, &about(1)).unwrap();
    drop(socket);
    assert_eq!(client.line().await, "1: first\n");
    client.send("second\n").await;
    assert_eq!(client.line().await, "1: second\n");
    drop(client);
    assert_eq!(reported(&mut closed, 1).await, [1]);
}

#[tokio::test]
async fn clients_in_the_queue_of_a_dropped_listener_are_cut_off() {
    let site = Site::new();
    let mut listener = site.listen();
    let (channel, mut closed) = site.connect();
    let mut clients: Vec<Client> = (0..20).map(|number| hand_over(&channel, number).unwrap()).collect();
    // One Unix connection is accepted, and one is not yet.
    let (stream, _) = listener.accept().await.unwrap();
    let (late, mut late_closed) = site.connect();
    let mut late_client = hand_over(&late, 0).unwrap();
    drop(listener);
    for client in clients.iter_mut().skip(1) {
        client.is_cut_off().await;
    }
    late_client.is_cut_off().await;
    assert!(matches!(hand_over(&channel, 99), Err(Refused::Gone(_))));
    assert!(matches!(ended(&mut late_closed).await, Ended::Gone));
    // The accepted connection goes on, and every connection is reported.
    assert_eq!(reported(&mut closed, 19).await, (1..20).collect::<Vec<_>>());
    drop(stream);
    assert_eq!(reported(&mut closed, 1).await, [0]);
    assert!(matches!(ended(&mut closed).await, Ended::Gone));
    assert!(matches!(hand_over(&late, 99), Err(Refused::Gone(_))));
}

#[tokio::test]
async fn direct_connections_count_towards_the_limit() {
    let site = Site::new();
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let mut either = handoff::Either::new(tcp, Some(site.listen().at_most(2)));
    let by_itself = tokio::net::TcpStream::connect(address).await.unwrap();
    let (own, metadata) = either.accept().await.unwrap();
    assert!(metadata.is_none());
    let (channel, _closed) = site.connect();
    let _clients: Vec<Client> = (0..2).map(|number| hand_over(&channel, number).unwrap()).collect();
    let _first = either.accept().await.unwrap();
    let some_turns = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = either.accept() => panic!("there is no room"),
        () = some_turns => {}
    }
    drop((own, by_itself));
    assert_eq!(either.accept().await.unwrap().1.unwrap().number(), 1);
}

#[tokio::test]
async fn a_listener_takes_no_more_connections_than_its_limit() {
    let site = Site::new();
    let mut listener = site.listen().at_most(2);
    let (channel, mut closed) = site.connect();
    let clients: Vec<Client> = (0..3).map(|number| hand_over(&channel, number).unwrap()).collect();
    let first = listener.accept().await.unwrap();
    let second = listener.accept().await.unwrap();
    let third = tokio::spawn(async move { listener.accept().await.unwrap() });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!third.is_finished(), "a third connection is open");
    drop(first);
    let (_stream, metadata) = timeout(HANG, third).await.expect("the listener was not notified").unwrap();
    assert_eq!(metadata.number(), 2);
    drop((second, clients));
    assert_eq!(reported(&mut closed, 2).await, [0, 1]);
}

#[tokio::test]
async fn an_lb_that_does_not_read_reports_is_not_served_without_end() {
    let site = Site::new();
    let mut listener = site.listen();
    let (channel, mut closed) = site.connect();
    let (_client, socket) = client("");
    let accepting = tokio::spawn(async move {
        let mut refused_none = true;
        while refused_none {
            refused_none = listener.accept().await.is_ok();
        }
    });
    // The listener accepts while its reports have room, in the kernel's queue and in its own. All tasks run on one thread, so
    // after a thousand turns without a change it has stopped.
    let mut sent = 0;
    let mut idle = 0;
    while idle < 1000 {
        match channel.send(&socket, &about(sent)) {
            Ok(()) => (sent, idle) = (sent + 1, 0),
            Err(Refused::Full(_)) => {
                idle += 1;
                tokio::task::yield_now().await;
            }
            Err(gone) => panic!("{gone}"),
        }
        assert!(sent < 300_000, "the replica accepts without bound");
    }
    assert!(sent > 16 * 1024, "{sent}");
    // When lb reads at last, no report is missing.
    let count = usize::try_from(sent).unwrap();
    assert_eq!(reported(&mut closed, count).await, (0..sent).collect::<Vec<_>>());
    assert!(!accepting.is_finished());
    accepting.abort();
}
