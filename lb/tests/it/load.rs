//! Clients that send requests in a loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::{Lb, eventually, raw_answer};

/// Clients that ask with one id after the other until the test ends the load or drops it.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Failure>>>,
}

/// A connection without a complete answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) id: String,
    pub(crate) begun: Instant,
    /// What came instead. It is printed when a test fails.
    _answer: std::io::Result<String>,
}

impl Load {
    pub(crate) fn begin(lb: &Lb, ids: &[String], clients: usize) -> Load {
        assert!(!ids.is_empty());
        let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |client: usize| {
            let (over, served, data, ids) = (Arc::clone(&over), Arc::clone(&served), lb.data, ids.to_vec());
            thread::spawn(move || {
                let mut failed = Vec::new();
                // Each client begins with another id.
                for id in ids.iter().cycle().skip(7 * client) {
                    let begun = Instant::now();
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    match raw_answer(data, id) {
                        Ok(answer) if answer.ends_with(&format!(" {id}\n")) => {
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        answer => failed.push(Failure { id: id.clone(), begun, _answer: answer }),
                    }
                    // Each connection leaves a port in TIME_WAIT for a minute, and ports are few.
                    thread::park_timeout(Duration::from_millis(4));
                }
                failed
            })
        };
        let clients = (0..clients).map(client).collect();
        Load { over, served, clients }
    }

    /// Waits until `more` further connections have been served.
    #[track_caller]
    pub(crate) fn go_on(&self, more: usize) {
        let enough = self.served.load(Ordering::Relaxed) + more;
        eventually("more connections served", || {
            (self.served.load(Ordering::Relaxed) >= enough).then_some(())
        });
    }

    /// Ends the load: how many connections were served, and those that failed.
    pub(crate) fn end(mut self) -> (usize, Vec<Failure>) {
        self.over.store(true, Ordering::Relaxed);
        let clients = std::mem::take(&mut self.clients);
        let failed = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.served.load(Ordering::Relaxed), failed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Does `work` while clients connect all the time. Returns how many were served; each of them has to be.
pub(crate) fn under_load(lb: &Lb, work: impl FnOnce()) -> usize {
    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let client = |from: usize| {
        for id in (from * 1_000_000..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
            // Where this `lb` is: it may have a network of its own.
            let answer = String::from_utf8(lb.exchange(format!("{id}\n").as_bytes())).unwrap();
            assert!(answer.ends_with(&format!(" {id}\n")), "{id}: {answer:?}");
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (1..4).map(|from| scope.spawn(move || client(from))).collect();
        let over = Over(&is_over);
        work();
        drop(over);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    served.into_inner()
}

/// Ends a load when it is dropped, also by a panic: the clients would go on for ever, and the test with them.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
