//! A direction under every order of events up to some length, and under the rare results that system calls may have.

mod fake;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Wake, Waker};

use super::*;
use fake::{CHUNK, Fake, PIPE};
use world::{EVENTS, Event, World};

/// How many events a history has, and how many rare results of system calls.
const HISTORIES: [(usize, usize); 3] = [(6, 0), (5, 1), (3, 2)];

/// The choices of one history, in the order in which they are made. [`Choices::next`] goes through all combinations.
#[derive(Default)]
struct Choices {
    made: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, of: usize) -> usize {
        if self.at == self.made.len() {
            self.made.push((0, of));
        }
        self.at += 1;
        assert_eq!(self.made[self.at - 1].1, of, "the same choices lead to the same question");
        self.made[self.at - 1].0
    }

    /// Goes on to the next combination; false if there is none.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, of)) = self.made.pop() {
            if choice + 1 < of {
                self.made.push((choice + 1, of));
                return true;
            }
        }
        false
    }
}

/// Records whether the direction was woken.
#[derive(Default)]
struct Ear(AtomicBool);

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Polls the direction as long as it is woken, and checks all that has to be true after each poll. Returns its end, if it ended.
fn run(flow: &mut Flow<Fake>, ear: &Arc<Ear>) -> Option<Result<(), Break>> {
    let waker = Waker::from(Arc::clone(ear));
    while ear.0.swap(false, Relaxed) {
        let begun = flow.moved;
        flow.ends.0.borrow_mut().calls = 0;
        let outcome = flow.poll(&mut Context::from_waker(&waker));
        let moved = flow.moved - begun;
        assert!(moved < Fake::AT_ONCE + PIPE.max(CHUNK) as u64, "{moved} bytes without a turn for others");
        let world = flow.ends.0.borrow();
        let held = world.taken - world.written();
        assert!(held <= PIPE.max(CHUNK), "{held} bytes are pending");
        match outcome {
            Poll::Ready(end) => {
                assert!(matches!(flow.pending, Pending::Nothing), "bytes are pending after the end");
                world.check_end(end);
                return Some(end);
            }
            Poll::Pending => {
                assert!(held > 0 || !world.waits_for_the_end, "bytes wait for an end that does not come");
                assert_eq!(
                    held == 0,
                    matches!(flow.pending, Pending::Nothing),
                    "a pipe is kept without bytes"
                );
                assert!(
                    ear.0.load(Relaxed) || flow.is_interrupted() || !world.could_go_on(held),
                    "it waits although it could go on: {world:?}"
                );
                // What the clock does, a little later.
                ear.0.fetch_or(flow.is_interrupted(), Relaxed);
            }
        }
    }
    None
}

/// Runs one history, as the choices say.
fn history(choices: &mut Choices, events: usize, odd: usize) -> World {
    let ear = Arc::new(Ear::default());
    let unsent: Vec<u8> = (0..choices.choose(2) as u8).collect();
    let fake = Fake::new(std::mem::take(choices), unsent.len(), odd);
    let mut flow = Flow::new(fake.clone(), unsent);
    ear.0.store(true, Relaxed);
    let mut end = run(&mut flow, &ear);
    for _ in 0..events {
        if end.is_some() {
            break;
        }
        let (event, late) = {
            let mut world = flow.ends.0.borrow_mut();
            let possible: Vec<Event> = EVENTS.into_iter().filter(|event| world.may(*event)).collect();
            let event = possible[world.choices.choose(possible.len())];
            world.happen(event);
            (event, world.is_odd())
        };
        if matches!(event, Event::Recall) {
            flow.give_back().unwrap();
            assert_eq!((flow.loan(), flow.ends.0.borrow().pipes), (None, 0), "the pipe is back");
        }
        if !late {
            end = run(&mut flow, &ear);
        }
    }
    if end.is_none() {
        flow.ends.0.borrow_mut().happen(Event::Room(1000));
        run(&mut flow, &ear);
    }
    drop(flow);
    let world = fake.0.take();
    assert_eq!(world.pipes, 0, "a pipe was not given back");
    world
}

#[test]
fn every_order_of_events_gives_every_byte_in_order_and_the_right_end() {
    let (mut histories, mut piped) = (0, 0);
    for (events, odd) in HISTORIES {
        let mut choices = Choices::default();
        loop {
            let world = history(&mut choices, events, odd);
            (histories, piped) = (histories + 1, piped + usize::from(world.fills > 0));
            choices = world.choices;
            if !choices.next() {
                break;
            }
        }
    }
    println!("{histories} histories, {piped} of them with a pipe");
    assert!(piped > histories / 20, "{piped} of {histories} histories had a pipe");
}

/// How often a pipe is filled during each of these runs, with a pause after each run.
fn fills(runs: &[usize]) -> Vec<usize> {
    let ear = Arc::new(Ear::default());
    let fake = Fake::new(Choices::default(), 0, 0);
    let mut flow = Flow::new(fake.clone(), Vec::new());
    fake.0.borrow_mut().happen(Event::Room(1000));
    let fills = |run_of: &usize| {
        let before = fake.0.borrow().fills;
        fake.0.borrow_mut().happen(Event::Bytes(*run_of));
        ear.0.store(true, Relaxed);
        assert_eq!(run(&mut flow, &ear), None);
        fake.0.borrow().fills - before
    };
    runs.iter().map(fills).collect()
}

#[test]
fn short_messages_are_copied_and_long_runs_are_not() {
    assert_eq!(fills(&[1, 2, 3, 3, 1, 2]), [0; 6], "messages");
    let long = Fake::STREAK as usize + PIPE;
    assert_eq!(fills(&[long]), [2], "a run that is long enough: a small loan first");
    assert_eq!(
        fills(&[long, long, PIPE, PIPE]),
        [2, 3, 1, 0],
        "from its beginning, if the run before was long"
    );
}

#[test]
fn a_loan_is_small_until_the_sink_has_proven_itself_and_again_after_a_pipe_came_back_with_bytes() {
    let ear = Arc::new(Ear::default());
    let fake = Fake::new(Choices::default(), 0, 0);
    let mut flow = Flow::new(fake.clone(), Vec::new());
    let happen = |flow: &mut Flow<Fake>, event| {
        fake.0.borrow_mut().happen(event);
        ear.0.store(true, Relaxed);
        assert_eq!(run(flow, &ear), None);
        let world = flow.ends.0.borrow();
        (flow.loan(), world.taken - world.written())
    };
    // Room for the run that earns a pipe, and none for what is in the pipe.
    happen(&mut flow, Event::Room(Fake::STREAK as usize - 2));
    let small = Fake::SMALL_LOAN;
    assert_eq!(happen(&mut flow, Event::Bytes(200)), (Some(1), small), "a small loan");
    assert!(matches!(happen(&mut flow, Event::Room(20)), (Some(_), PIPE)), "the sink has taken enough");
    flow.give_back().unwrap();
    assert_eq!(happen(&mut flow, Event::Room(1)), (None, PIPE - 1), "what was in the pipe goes first");
    assert!(matches!(happen(&mut flow, Event::Room(6)), (Some(_), left) if left <= small), "small again");
}

#[test]
fn the_last_bytes_wait_for_the_end_only_where_it_is_passed_on() {
    for passes_end in [true, false] {
        let fake = Fake::new(Choices::default(), 0, 0);
        let mut flow = Flow::new(fake.clone(), Vec::new());
        for event in [Event::Room(10), Event::Bytes(1), Event::Fin] {
            fake.0.borrow_mut().happen(event);
        }
        if !passes_end {
            flow.pass_no_end();
        }
        let end = flow.poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(end, Poll::Ready(Ok(())));
        assert_eq!(fake.0.borrow().waits_for_the_end, passes_end);
    }
}

#[test]
fn every_choice_is_made_once() {
    let mut choices = Choices::default();
    let mut seen = Vec::new();
    loop {
        let (one, other) = (choices.choose(2), choices.choose(3));
        seen.push((one, other));
        if !choices.next() {
            break;
        }
    }
    assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
}
