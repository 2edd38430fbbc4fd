//! The workers: starts each on a thread of its own, and looks after them.
//!
//! A worker that fails is logged and started again; its listening sockets, and the clients in their queues, outlive it.
//! A worker whose thread does nothing is logged. This module never touches a connection.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::worker::Worker;
use super::{Plane, listener};
use crate::panics::message;

/// How often the heartbeat of a worker is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// A worker without a heartbeat at so many looks in a row is blocked. A busy worker has one every half a second.
const MISSED: u32 = 3;
/// The pauses before a worker is started again: the first one, and the longest if it fails again and again.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// A worker that ran for so long has not failed again: the next pause is the first one.
const STEADY: Duration = Duration::from_secs(10);

/// How a worker's thread ended: as it was told to, or with the message of a panic.
type End = Result<(), String>;

/// Starts all workers, each with a task of `tasks` that looks after it. They accept until `close`; each ends when all sessions have ended.
///
/// # Errors
/// A thread or its runtime cannot be made.
pub(crate) fn start(
    plane: &Arc<Plane>,
    close: &CancellationToken,
    tasks: &TaskTracker,
) -> anyhow::Result<()> {
    for at in 0..plane.workers.len() {
        let end = spawn(at, plane, close).context("a worker cannot be started")?;
        tasks.spawn(look_after(at, Arc::clone(plane), close.clone(), end));
    }
    Ok(())
}

/// Runs a worker on a new thread.
fn spawn(at: usize, plane: &Arc<Plane>, close: &CancellationToken) -> io::Result<oneshot::Receiver<End>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (report, end) = oneshot::channel();
    let name = format!("worker-{}", plane.workers[at].number);
    let (plane, close) = (Arc::clone(plane), close.clone());
    let run = move || {
        // A panic drops the runtime, and with it every session of this worker.
        let run = move || runtime.block_on(listener::run(at, plane, close));
        let ended = catch_unwind(AssertUnwindSafe(run)).map_err(|panic| message(&*panic).to_owned());
        // It fails only while the process ends.
        let _ = report.send(ended);
    };
    thread::Builder::new().name(name).spawn(run)?;
    Ok(end)
}

/// Starts a worker again whenever it fails, until it ends as it was told to. Its listeners are closed then.
async fn look_after(at: usize, plane: Arc<Plane>, close: CancellationToken, thread: oneshot::Receiver<End>) {
    keep_running(at, &plane, &close, thread).await;
    plane.workers[at].close().for_each(drop);
}

async fn keep_running(
    at: usize,
    plane: &Arc<Plane>,
    close: &CancellationToken,
    mut thread: oneshot::Receiver<End>,
) {
    let worker = &plane.workers[at];
    let mut pause = PAUSES[0];
    loop {
        let begun = Instant::now();
        let Err(reason) = watch(worker, &mut thread).await else { return };
        worker.set_down();
        error!(worker = worker.number, error = %reason, "a worker has failed, and its connections are reset");
        pause = if begun.elapsed() >= STEADY { PAUSES[0] } else { pause };
        thread = loop {
            if close.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            pause = PAUSES[1].min(2 * pause);
            match spawn(at, plane, close) {
                Ok(thread) => break thread,
                Err(error) => error!(worker = worker.number, %error, "a worker cannot be started again"),
            }
        };
        info!(worker = worker.number, "a worker is started again");
    }
}

/// Waits for the end of a worker's thread. Says when the thread is blocked, and when it goes on.
async fn watch(worker: &Worker, thread: &mut oneshot::Receiver<End>) -> End {
    let (mut seen, mut missed) = (worker.beats(), 0);
    loop {
        if let Ok(end) = timeout(LOOK, &mut *thread).await {
            worker.set_blocked(false);
            return end.unwrap_or_else(|_| Err("its thread is gone".to_owned()));
        }
        let beats = worker.beats();
        let is_alive = std::mem::replace(&mut seen, beats) != beats;
        missed = if is_alive { 0 } else { missed + 1 };
        let is_blocked = missed >= MISSED;
        if worker.set_blocked(is_blocked) != is_blocked {
            if is_blocked {
                let idle = (LOOK * MISSED).as_secs_f64();
                error!(worker = worker.number, idle, "a worker is blocked: it does nothing");
            } else {
                info!(worker = worker.number, "a worker goes on that was blocked");
            }
        }
    }
}
