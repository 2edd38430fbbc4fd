//! The system calls of a direction on simulated sockets. Where the kernel has a choice, they sometimes take the rare one ("odd").

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::super::{Behind, Ends};
use super::Choices;
use super::world::{Event, World};

/// The most bytes that are read at once.
pub(super) const CHUNK: usize = 2;
/// How many bytes fit into a pipe.
pub(super) const PIPE: usize = 3;

/// The two sockets of a direction, simulated.
#[derive(Clone)]
pub(super) struct Fake(pub(super) Rc<RefCell<World>>);

impl Fake {
    /// Sockets after `read` bytes were read.
    pub(super) fn new(choices: Choices, read: usize, odd: usize) -> Self {
        Fake(Rc::new(RefCell::new(World::new(choices, read, odd))))
    }
}

/// A pipe that is out of the pool.
pub(super) struct FakePipe {
    bytes: RefCell<VecDeque<u8>>,
    is_back: Cell<bool>,
    world: Rc<RefCell<World>>,
}

impl Drop for FakePipe {
    fn drop(&mut self) {
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.pipes -= 1;
        }
        let is_wasted = self.bytes.get_mut().is_empty() && !self.is_back.get();
        assert!(!is_wasted || std::thread::panicking(), "an empty pipe was not put back");
    }
}

impl Ends for Fake {
    type Pipe = FakePipe;
    const STREAK: u32 = 4;
    const AT_ONCE: u64 = 7;
    const SMALL_LOAN: usize = PIPE - 1;
    const PROVEN: u32 = 5;

    fn poll_source(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().call();
        self.0.borrow_mut().source.poll(cx)
    }

    fn poll_sink(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().call();
        self.0.borrow_mut().sink.poll(cx)
    }

    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn read(&self, take: impl FnOnce(&[u8], Behind)) -> io::Result<Option<usize>> {
        let mut world = self.0.borrow_mut();
        world.call();
        if !world.source.is_ready {
            return Ok(None);
        }
        world.interrupt()?;
        if world.source_end.is_none() && world.is_odd() {
            world.happen(Event::Bytes(1)); // It came between the last call and this one.
        }
        let bytes = world.take(CHUNK);
        let answer = if bytes.is_empty() { world.ask()? } else { Some(bytes.len()) };
        let behind =
            if bytes.is_empty() || bytes.len() == CHUNK { Behind::Unknown } else { world.look_behind() };
        // An end that the runtime has heard of keeps the socket ready.
        world.source.is_ready = bytes.len() == CHUNK || world.source_end.is_some();
        drop(world);
        if answer.is_some() {
            take(&bytes, behind);
        }
        Ok(answer)
    }

    fn write(&self, bytes: &[u8], are_last: bool) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        world.call();
        if !world.sink.is_ready {
            return Ok(0);
        }
        world.interrupt()?;
        let written = world.send(bytes)?;
        world.waits_for_the_end = are_last;
        world.sink.is_ready = written == bytes.len();
        Ok(written)
    }

    fn fill(&self, loan: usize) -> io::Result<Option<(FakePipe, usize)>> {
        let mut world = self.0.borrow_mut();
        world.call();
        // Odd: urgent data, or no memory for a pipe.
        if world.has_no_pipes || world.is_odd() {
            return Ok(None);
        }
        // Odd: small packets use up the pipe's pages.
        let most = if world.is_odd() { 1 } else { PIPE.min(loan) };
        let bytes = world.take(most);
        if bytes.is_empty() {
            return world.ask().map(|_| None);
        }
        (world.pipes, world.fills) = (world.pipes + 1, world.fills + 1);
        assert_eq!(world.pipes, 1, "one pipe is enough");
        let count = bytes.len();
        let bytes = RefCell::new(bytes.into());
        Ok(Some((FakePipe { bytes, is_back: Cell::new(false), world: Rc::clone(&self.0) }, count)))
    }

    fn drain(&self, pipe: &FakePipe, most: usize) -> io::Result<usize> {
        let (mut world, mut bytes) = (self.0.borrow_mut(), pipe.bytes.borrow_mut());
        world.call();
        assert_eq!(most, bytes.len(), "it knows how many bytes are in the pipe");
        if !world.sink.is_ready {
            return Ok(0);
        }
        world.interrupt()?;
        // Odd: a signal ends it early.
        let most = if world.is_odd() { 1 } else { most };
        let written = world.send(&bytes.make_contiguous()[..most])?;
        bytes.drain(..written);
        world.sink.is_ready = written > 0;
        Ok(written)
    }

    fn copy_out(&self, pipe: &FakePipe, left: usize) -> io::Result<Vec<u8>> {
        let bytes: Vec<u8> = pipe.bytes.borrow_mut().drain(..).collect();
        assert_eq!(bytes.len(), left, "it knows how many bytes are in the pipe");
        Ok(bytes)
    }

    fn put_back(&self, pipe: FakePipe) {
        assert!(pipe.bytes.borrow().is_empty(), "a pipe with bytes was put back");
        pipe.is_back.set(true);
    }

    fn count(&self, _bytes: usize) {}
}
