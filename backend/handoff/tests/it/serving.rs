//! Handed-over connections are served and their ends reported, beside connections that arrive over TCP.

use std::convert::Infallible;
use std::time::Duration;

use handoff::{Either, Metadata, Stream};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::*;

/// Answers with hyper, on one connection, with the path and the key.
async fn hyper(stream: Stream, key: Vec<u8>) {
    let answer = |request: Request<Incoming>| {
        let body = format!("{} {}", request.uri(), key.escape_ascii());
        async { Ok::<_, Infallible>(Response::new(body)) }
    };
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    let _ = connection.await;
}

async fn body(client: &mut Client) -> String {
    let mut length = 0;
    loop {
        let line = client.line().await.to_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            return client.exactly(length).await;
        }
    }
}

#[tokio::test]
async fn a_handed_over_client_is_served_from_its_first_byte() {
    let site = Site::new();
    let mut listener = site.listen();
    let (channel, mut closed) = site.connect();
    let (mut client, socket) = client("GET /home?id=132574 HTTP/1.1\r\nHost: x\r\n\r\n");
    let sent = Metadata::new(7, b"server2", b"132574", Some(b"132574")).after(1);
    channel.send(&socket, &sent).unwrap();
    let here = (socket.peer_addr().unwrap(), socket.local_addr().unwrap());
    drop(socket);

    let (stream, metadata) = timeout(HANG, listener.accept()).await.unwrap().unwrap();
    assert_eq!(metadata, sent);
    assert_eq!((stream.peer_addr().unwrap(), stream.local_addr().unwrap()), here);
    let serving = tokio::spawn(hyper(stream, metadata.key().to_vec()));
    assert_eq!(body(&mut client).await, "/home?id=132574 132574");
    client.send("GET /again HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(body(&mut client).await, "/again 132574");
    drop(client);
    serving.await.unwrap();
    assert_eq!(reported(&mut closed, 1).await, [7]);
}

#[tokio::test]
async fn ordinary_connections_are_served_in_the_same_loop() {
    let site = Site::new();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let mut either = Either::new(tcp, Some(site.listen()));
    let (channel, mut closed) = site.connect();
    let own = TcpStream::connect(address).await.unwrap();
    let (stream, metadata) = timeout(HANG, either.accept()).await.unwrap().unwrap();
    assert_eq!((stream.peer_addr().unwrap(), metadata), (own.local_addr().unwrap(), None));
    drop(stream);
    let _client = hand_over(&channel, 3).unwrap();
    let (stream, metadata) = timeout(HANG, either.accept()).await.unwrap().unwrap();
    assert_eq!(metadata, Some(about(3)));
    let (tcp, open) = stream.into_parts();
    drop(tcp);
    drop(open.expect("it was handed over"));
    assert_eq!(reported(&mut closed, 1).await, [3]);
}

#[tokio::test]
async fn every_close_is_reported_once_however_it_came_about() {
    let site = Site::new();
    let mut listener = site.listen();
    let (channel, mut closed) = site.connect();
    let mut clients = Vec::new();
    let mut held = Vec::new();
    for number in 0..600 {
        let mut client = hand_over(&channel, number).unwrap();
        let (stream, metadata) = listener.accept().await.unwrap();
        match number % 4 {
            3 => held.push(stream),
            kind => drop(tokio::spawn(async move {
                match kind {
                    0 => drop(echo(stream, metadata).await),
                    1 => panic!("as it should: {stream:?}"),
                    _ => drop(timeout(Duration::ZERO, echo(stream, metadata)).await),
                }
            })),
        }
        if number % 4 == 0 {
            assert_eq!(client.line().await, answer(number));
        }
        clients.push(client);
    }
    drop((clients, held));
    assert_eq!(reported(&mut closed, 600).await, (0..600).collect::<Vec<_>>());
    assert_eq!(listener.stop().len(), 0);
    assert!(matches!(ended(&mut closed).await, handoff::Ended::Gone));
}

#[tokio::test]
async fn reports_come_in_batches_while_others_are_open() {
    let site = Site::new();
    let mut listener = site.listen();
    let (channel, mut closed) = site.connect();
    let (_client, socket) = client("");
    let mut open = Vec::new();
    for number in 0..1025 {
        channel.send(&socket, &about(number)).unwrap();
        open.push(listener.accept().await.unwrap());
    }
    // The last connection stays open. The reports of the others are due by their number or by time.
    open.drain(..1024);
    let mut batch = async || timeout(HANG, closed.next()).await.unwrap().unwrap();
    let batches = [batch().await, batch().await];
    assert_eq!(batches.concat(), (0..1024).collect::<Vec<_>>());
    assert_eq!(batches[0].len(), 512);
    open.clear();
    assert_eq!(batch().await, [1024]);
}

#[tokio::test]
async fn two_lbs_have_numbers_of_their_own() {
    let site = Site::new();
    let _serving = serve(site.listen());
    let ((first, mut first_closed), (second, mut second_closed)) = (site.connect(), site.connect());
    let mut clients = Vec::new();
    for number in 0..50 {
        clients.push((number, hand_over(&first, number).unwrap()));
        clients.push((number, hand_over(&second, number).unwrap()));
    }
    for (number, client) in &mut clients {
        assert_eq!(client.line().await, answer(*number));
    }
    drop(clients);
    let all: Vec<u64> = (0..50).collect();
    assert_eq!(reported(&mut first_closed, 50).await, all);
    assert_eq!(reported(&mut second_closed, 50).await, all);
}

#[tokio::test]
async fn several_threads_send_over_one_channel() {
    let site = Site::new();
    let _serving = serve(site.listen());
    let (channel, mut closed) = site.connect();
    let (mut clients, sockets): (Vec<_>, Vec<_>) =
        (0..200).map(|number| client(&format!("{number}\n"))).unzip();
    std::thread::scope(|scope| {
        for (sockets, begin) in sockets.chunks(50).zip([0, 50, 100, 150]) {
            let channel = channel.clone();
            scope.spawn(move || {
                (begin..).zip(sockets).for_each(|(n, socket)| channel.send(socket, &about(n)).unwrap());
            });
        }
    });
    drop(sockets);
    for (number, client) in (0..200).zip(&mut clients) {
        assert_eq!(client.line().await, answer(number));
    }
    drop(clients);
    assert_eq!(reported(&mut closed, 200).await, (0..200).collect::<Vec<_>>());
}
