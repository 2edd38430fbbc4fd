//! Two simulated sockets: what the kernel and the runtime know of them.
//!
//! Readiness is reported once for each change (epoll(7), edge-triggered), and room only after a write fell short.

use std::io;
use std::task::{Context, Poll, Waker};

use super::super::{Behind, Break};
use super::Choices;

/// More system calls than any poll needs.
const CALLS: usize = 60;

/// An event on the sockets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Bytes(usize),
    Fin,
    SourceReset,
    Room(usize),
    SinkReset,
    /// Pipes run out, or are available again.
    Pipes,
    /// A pipe is asked back.
    Recall,
}

pub(super) const EVENTS: [Event; 9] = [
    Event::Bytes(1),
    Event::Bytes(5),
    Event::Room(1),
    Event::Room(5),
    Event::Fin,
    Event::SourceReset,
    Event::SinkReset,
    Event::Pipes,
    Event::Recall,
];

/// How a source ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SourceEnd {
    Fin,
    Reset,
    /// A reset that was reported: reading on looks like the end of the stream.
    ToldReset,
}

/// One socket's readiness, and the task that waits for it.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    pub(super) is_ready: bool,
    waits: Option<Waker>,
}

impl Readiness {
    fn tell(&mut self) {
        self.is_ready = true;
        if let Some(waker) = self.waits.take() {
            waker.wake();
        }
    }

    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.is_ready {
            return Poll::Ready(Ok(()));
        }
        self.waits = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[derive(Default)]
pub(super) struct World {
    pub(super) choices: Choices,
    /// How many odd results may still happen.
    odd: usize,
    /// System calls in this poll.
    pub(super) calls: usize,
    /// How many bytes the peer has sent; the value of each byte is its number.
    sent: usize,
    /// How many of them were taken from the source.
    pub(super) taken: usize,
    pub(super) source_end: Option<SourceEnd>,
    pub(super) source: Readiness,
    out: Vec<u8>,
    room: usize,
    sink_is_reset: bool,
    pub(super) sink: Readiness,
    /// Whether the bytes that were written last wait for the end of the stream.
    pub(super) waits_for_the_end: bool,
    /// Whether a write fell short, so that room has to be reported.
    is_refused: bool,
    pub(super) has_no_pipes: bool,
    /// How many pipes are in use.
    pub(super) pipes: usize,
    /// How often a pipe was filled.
    pub(super) fills: usize,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sent {}, taken {}, written {}, ", self.sent, self.taken, self.out.len())?;
        write!(f, "end {:?}, room {}, sink reset {}", self.source_end, self.room, self.sink_is_reset)
    }
}

impl World {
    /// Sockets after `read` bytes were read, with at most `odd` odd results.
    pub(super) fn new(choices: Choices, read: usize, odd: usize) -> Self {
        let sink = Readiness { is_ready: true, waits: None };
        World { choices, odd, sent: read, taken: read, sink, room: 2, ..World::default() }
    }

    pub(super) fn written(&self) -> usize {
        self.out.len()
    }

    /// Whether this call has an odd result.
    pub(super) fn is_odd(&mut self) -> bool {
        let odd = self.odd > 0 && self.choices.choose(2) == 1;
        self.odd -= usize::from(odd);
        odd
    }

    /// Odd: a call is interrupted before it does anything.
    pub(super) fn interrupt(&mut self) -> io::Result<()> {
        if self.is_odd() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    pub(super) fn may(&self, event: Event) -> bool {
        match event {
            Event::Bytes(_) | Event::Fin => self.source_end.is_none(),
            Event::SourceReset => matches!(self.source_end, None | Some(SourceEnd::Fin)),
            Event::SinkReset => !self.sink_is_reset,
            Event::Room(_) | Event::Pipes => true,
            Event::Recall => self.pipes > 0,
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Bytes(count) => self.sent += count,
            Event::Fin => self.source_end = Some(SourceEnd::Fin),
            Event::SourceReset => self.source_end = Some(SourceEnd::Reset),
            Event::Room(count) => self.room += count,
            Event::SinkReset => self.sink_is_reset = true,
            Event::Pipes => self.has_no_pipes = !self.has_no_pipes,
            Event::Recall => {}
        }
        match event {
            Event::Bytes(_) | Event::Fin | Event::SourceReset => self.source.tell(),
            Event::SinkReset => self.sink.tell(),
            Event::Room(_) if std::mem::take(&mut self.is_refused) => self.sink.tell(),
            Event::Room(_) | Event::Pipes | Event::Recall => {}
        }
    }

    /// Whether a direction with `held` pending bytes has something to do.
    pub(super) fn could_go_on(&self, held: usize) -> bool {
        if held > 0 {
            self.room > 0 || self.sink_is_reset
        } else {
            self.left() > 0 || self.source_end.is_some()
        }
    }

    pub(super) fn check_end(&self, end: Result<(), Break>) {
        match end {
            Ok(()) => assert_eq!(self.source_end, Some(SourceEnd::Fin), "{self:?}"),
            Err(Break::Source) => {
                assert_eq!(self.source_end, Some(SourceEnd::ToldReset), "{self:?}");
                assert!(!self.waits_for_the_end, "bytes wait for an end that does not come: {self:?}");
            }
            Err(Break::Sink) => return assert!(self.sink_is_reset, "{self:?}"),
            Err(Break::Local | Break::Idle) => {
                panic!("a direction has no clock, and does not look at its sockets")
            }
        }
        assert_eq!(self.out.len(), self.sent, "the end came before all bytes: {self:?}");
    }

    pub(super) fn call(&mut self) {
        self.calls += 1;
        assert!(self.calls < CALLS, "it loops without progress: {self:?}");
    }

    fn left(&self) -> usize {
        self.sent - self.taken
    }

    /// Takes the next bytes of the source, at most `most`.
    pub(super) fn take(&mut self, most: usize) -> Vec<u8> {
        let end = self.taken + most.min(self.left());
        let bytes = (self.taken..end).map(|byte| byte as u8).collect();
        self.taken = end;
        bytes
    }

    /// What reading from a source without bytes gives; `Some(0)` is its end.
    pub(super) fn ask(&mut self) -> io::Result<Option<usize>> {
        match self.source_end {
            None => Ok(None),
            Some(SourceEnd::Reset) => {
                self.source_end = Some(SourceEnd::ToldReset);
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(SourceEnd::Fin | SourceEnd::ToldReset) => Ok(Some(0)),
        }
    }

    /// What comes behind the bytes that were taken last, if the runtime knows. Odd: it does not know yet.
    pub(super) fn look_behind(&mut self) -> Behind {
        if self.source_end.is_none() || self.is_odd() {
            return Behind::Unknown;
        }
        match self.ask() {
            Ok(Some(_)) => Behind::End,
            Ok(None) => Behind::Unknown,
            Err(_) => Behind::Reset,
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.sink_is_reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = bytes.len().min(self.room);
        self.room -= written;
        self.is_refused = written < bytes.len();
        for byte in &bytes[..written] {
            assert_eq!(usize::from(*byte), self.out.len(), "bytes in order: {self:?}");
            self.out.push(*byte);
        }
        Ok(written)
    }
}
