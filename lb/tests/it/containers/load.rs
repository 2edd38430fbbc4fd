//! A client that asks again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::{Lb, eventually, raw_answer};

/// Asks with one id after the other until it is told to end, or dropped.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    client: Option<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(super) fn begin(lb: &Lb, ids: Vec<String>) -> Load {
        assert!(!ids.is_empty());
        let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_over, count, data) = (Arc::clone(&over), Arc::clone(&served), lb.data);
        let client = thread::spawn(move || {
            let mut failed = Vec::new();
            for id in ids.iter().cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                match raw_answer(data, id) {
                    Ok(answer) if answer.ends_with(&format!(" {id}\n")) => {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    other => failed.push(format!("{id}: {other:?}")),
                }
                // The kernel remembers every connection for minutes, and not too many of them.
                thread::park_timeout(Duration::from_millis(5));
            }
            failed
        });
        Load { over, served, client: Some(client) }
    }

    /// Waits until so many more have been served.
    #[track_caller]
    pub(super) fn go_on(&self, more: usize) {
        let enough = self.served.load(Ordering::Relaxed) + more;
        eventually("more connections served", || {
            (self.served.load(Ordering::Relaxed) >= enough).then_some(())
        });
    }

    /// How many were served, and what went wrong with the others.
    pub(super) fn end(mut self) -> (usize, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        let failed = self.client.take().unwrap().join().unwrap();
        (self.served.load(Ordering::Relaxed), failed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
