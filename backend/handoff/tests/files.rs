//! Leaks of file descriptors. The tests count the descriptors of their process, so they have a process of their own.

#![cfg(test)]

#[path = "it/harness.rs"]
#[expect(dead_code, reason = "these tests use only a part of it")]
mod harness;

use std::fs::File;
use std::sync::{Mutex, PoisonError};

use harness::*;
use tokio::time::timeout;

/// One test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn block_on(test: impl Future<Output = ()>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn two_thousand_connections_leak_no_descriptor() {
    block_on(async {
        let site = Site::new();
        let _serving = serve(site.listen());
        let (channel, mut closed) = site.connect();
        assert_eq!(hand_over(&channel, 0).unwrap().line().await, answer(0));
        assert_eq!(reported(&mut closed, 1).await, [0]);
        let before = files();
        for round in 0..20 {
            let numbers = round * 100..(round + 1) * 100;
            let mut clients: Vec<Client> =
                numbers.clone().map(|number| hand_over(&channel, number).unwrap()).collect();
            for (number, client) in numbers.clone().zip(&mut clients) {
                assert_eq!(client.line().await, answer(number));
            }
            drop(clients);
            assert_eq!(reported(&mut closed, 100).await, numbers.collect::<Vec<_>>());
        }
        assert_eq!(files(), before);
    });
}

#[test]
fn a_connection_that_gets_no_descriptor_is_reported() {
    block_on(async {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let (site, before) = (Site::new(), getrlimit(Resource::Nofile));
        let mut low = before;
        low.current = Some(256);
        setrlimit(Resource::Nofile, low).unwrap();
        let mut listener = site.listen().at_most(1000);
        let (channel, mut closed) = site.connect();
        let first = hand_over(&channel, 0).unwrap();
        drop((timeout(HANG, listener.accept()).await.unwrap().unwrap(), first));
        let (mut lost, socket) = client("1\n");
        channel.send(&socket, &about(1)).unwrap();
        drop(socket);
        let mut crowd: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();

        // Looking for another lb takes a descriptor too, so this may take several turns.
        let accepting = async {
            loop {
                let error = listener.accept().await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = accepting => {}
            () = lost.is_cut_off() => {}
        }
        assert_eq!(reported(&mut closed, 2).await, [0, 1]);
        crowd.clear();
        let _client = hand_over(&channel, 2).unwrap();
        assert_eq!(timeout(HANG, listener.accept()).await.unwrap().unwrap().1, about(2));
        setrlimit(Resource::Nofile, before).unwrap();
    });
}
