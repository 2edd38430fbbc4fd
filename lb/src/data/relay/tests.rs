//! The relay on real sockets, for orders of events that a test can force.

use std::io;
use std::sync::Arc;

use rustix::net::sockopt::{set_tcp_nodelay, set_tcp_quickack, tcp_nodelay, tcp_quickack};
use tokio::task::{consume_budget, yield_now};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::data::admission::Source;
use crate::data::stream::Stream;
use crate::data::testing::{connection, plane};
use crate::replica::Replica;

/// A pair, with the client's and the replica's ends of its connections.
async fn pair() -> (Pair, Stream, Stream) {
    let ((client, to_client), (to_replica, replica)) = (connection().await, connection().await);
    let address = replica.std().local_addr().unwrap();
    let lease = Arc::new(Replica::new("a".into(), address.into(), CancellationToken::new())).lease(b"7");
    let source = Source::of(client.std().local_addr().unwrap().ip());
    (Pair::new((to_client, source), to_replica, lease, Arc::new(plane()), None), client, replica)
}

/// The end of a stream: 0, or an error.
async fn end(of: &Stream) -> io::Result<usize> {
    loop {
        of.readable().await.unwrap();
        match of.try_read(&mut [0; 64]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(more) if more > 0 => {}
            end => return end,
        }
    }
}

#[tokio::test]
async fn a_session_that_is_dropped_before_its_end_resets_both_sides() {
    let (pair, client, replica) = pair().await;
    drop(pair);
    for peer in [&client, &replica] {
        assert_eq!(end(peer).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_session_that_has_ended_ends_without_a_reset() {
    let (pair, client, replica) = pair().await;
    for peer in [&client, &replica] {
        shutdown(peer, Shutdown::Write).unwrap();
    }
    let (ending, _) = run(&pair, Vec::new()).await;
    assert_eq!(ending, Ending::Complete);
    drop(pair);
    for peer in [&client, &replica] {
        assert_eq!(end(peer).await.unwrap(), 0);
    }
}

/// An error of a call on a connection that lives is an error of this machine.
#[tokio::test]
async fn a_break_of_a_connection_that_lives_is_local() {
    let (pair, _client, replica) = pair().await;
    let down = Flow::new(Sockets::new(&pair, false), Vec::new());
    for end in [Break::Source, Break::Sink] {
        assert_eq!(down.judge(Err(end)), Err(Break::Local));
    }
    reset(&replica);
    drop(replica);
    pair.sockets()[1].ready(Interest::ERROR).await.unwrap();
    assert_eq!(down.judge(Err(Break::Source)), Err(Break::Source));
    assert_eq!(down.judge(Err(Break::Sink)), Err(Break::Local), "the client lives");
}

/// Nagle's algorithm on either side holds back a second write until the first is acknowledged.
#[tokio::test]
async fn nothing_waits_for_an_acknowledgement_from_the_second_write_on() {
    let (pair, client, replica) = pair().await;
    set_tcp_nodelay(pair.sockets()[1], false).unwrap();
    set_tcp_quickack(pair.sockets()[1], false).unwrap();
    let mut relay = Box::pin(run(&pair, Vec::new()));
    for (from, to, is_up) in [(&replica, &client, false), (&client, &replica, true)] {
        from.writable().await.unwrap();
        from.try_write(b"x").unwrap();
        let arrives = async { while to.readable().await.is_ok() && to.try_read(&mut [0]).is_err() {} };
        tokio::select! {
            _ = &mut relay => panic!("the relay ended before both sides did"),
            () = arrives => {}
        }
        let is_prompt = if is_up { tcp_nodelay(pair.sockets()[1]) } else { tcp_quickack(pair.sockets()[1]) };
        assert!(is_prompt.unwrap(), "up: {is_up}");
    }
}

/// The last bytes of a replica that reset its connection go to a client that is reset in turn. They must not wait for an end,
/// because none comes.
#[tokio::test]
async fn the_last_bytes_before_a_reset_do_not_wait_for_an_end() {
    let (pair, client, replica) = pair().await;
    replica.try_write(b"answer").unwrap();
    reset(&replica);
    drop(replica);
    while !pair.sockets()[1].ready(Interest::READABLE).await.unwrap().is_read_closed() {}
    let mut up = Flow::new(Sockets::new(&pair, true), Vec::new());
    let mut down = Flow::new(Sockets::new(&pair, false), Vec::new());
    let answer = async {
        client.readable().await.unwrap();
        let mut answer = [0; 16];
        let length = client.try_read(&mut answer).unwrap();
        answer[..length].to_vec()
    };
    let (_, answer) =
        tokio::join!(conclude(Err(Break::Sink), &mut up, &mut down, Duration::from_secs(60)), answer);
    assert_eq!(answer, b"answer");
    assert!(!down.passes_end);
}

#[tokio::test]
async fn no_direction_starves_when_the_other_uses_up_the_budget_of_the_task() {
    let (pair, client, replica) = pair().await;
    let mut relay = Box::pin(run(&pair, Vec::new()));
    for _ in 0..64 {
        client.try_write(b"x").unwrap();
        replica.try_write(b"x").unwrap();
        yield_now().await;
        // All but the last unit of the budget that tokio gives a task for each poll.
        for _ in 1..128 {
            consume_budget().await;
        }
        assert!(futures_util::poll!(&mut relay).is_pending());
    }
    for (end, name) in [(&replica, "replica"), (&client, "client")] {
        assert!(end.try_read(&mut [0]).is_ok_and(|read| read > 0), "the {name} received nothing");
    }
}
