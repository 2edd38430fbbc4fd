//! `lb top`: a running `lb` on a terminal, as it is now: slots, rates, shares, incidents, and keys to look closer and to make changes.
//!
//! It asks the control port as any other client does, and never judges a command. `app` is the state, `draw` draws it, `asking` asks,
//! `keyboard` reads keys, `sight` has the terminal, and gives it back as it was.

mod app;
mod asking;
mod draw;
mod figures;
mod keyboard;
mod row;
mod sight;

use std::io;
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, bail};
use crossterm::event::Event;
use proto::printable::printable;
use rustix::process::{Pid, Signal, getpgid, getpid, getppid, getsid, kill_process};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use crate::client::{self, Refusal, Request};
use app::{App, Wish};
use asking::{Asker, Done, News};
use sight::Sight;

/// The terminal cannot show the view; nothing was asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoTerminal(&'static str);

/// Checks that there is a terminal; `kind` is the variable TERM.
///
/// # Errors
/// Stdin or stdout is none, or it is one that cannot move its cursor.
pub fn check(kind: Option<&str>) -> Result<(), NoTerminal> {
    if !sight::is_possible() {
        return Err(NoTerminal(
            "lb top: stdin and stdout have to be a terminal (lb backends --watch writes into a pipe)",
        ));
    }
    if kind == Some("dumb") {
        return Err(NoTerminal(
            "lb top: TERM=dumb is a terminal that cannot move its cursor: expected another one, such as TERM=xterm (lb backends needs none)",
        ));
    }
    Ok(())
}

/// Shows the view until the user leaves it, or a signal ends it.
///
/// # Errors
/// The first question fails, or the terminal does.
pub fn run(request: Request) -> anyhow::Result<()> {
    let mut asker = Asker::new(&request);
    let mut app = App::new(printable(&request.control.to_string()));
    let begun = Instant::now();
    match asker.read() {
        Ok(seen) => app.hear(News::Seen(Box::new(seen)), begun.elapsed()),
        // It can be typed.
        Err(refusal @ Refusal::Unproven(_)) if request.token.is_none() => {
            app.hear(refusal.into(), begun.elapsed());
        }
        Err(refusal) => bail!("{refusal}"),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shown = runtime.block_on(async { View::new(request, app, begun)?.run().await });
    // A question that has no answer yet must not delay the end.
    runtime.shutdown_background();
    shown
}

/// The signals that end the view.
struct Ends([Signals; 4]);

impl Ends {
    fn heed() -> io::Result<Self> {
        Ok(Ends([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::quit())?,
        ]))
    }

    async fn next(&mut self) {
        let [terminate, interrupt, hangup, quit] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

/// Everything that the view works with.
struct View {
    request: Request,
    app: App,
    begun: Instant,
    has_colours: bool,
    teller: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    question: Option<JoinHandle<Result<Done, String>>>,
    ends: Ends,
    stop: Signals,
    go_on: Signals,
}

impl View {
    fn new(request: Request, app: App, begun: Instant) -> anyhow::Result<Self> {
        let (teller, news) = mpsc::channel(1);
        let stop = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
        let go_on = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
        let (ends, has_colours) = (Ends::heed()?, client::shows_colours());
        Ok(View { request, app, begun, has_colours, teller, news, question: None, ends, stop, go_on })
    }

    async fn run(mut self) -> anyhow::Result<()> {
        if self.app.link == app::Link::Live {
            Asker::new(&self.request).go_on(self.teller.clone())?;
        }
        sight::heed_panics();
        let _guard = sight::Guard;
        let mut sight = Sight::enter()?;
        let (mut keys, mut tick) = (keyboard::read()?, interval(draw::AGES));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (app, at) = (&mut self.app, draw::Moment::new(self.begun.elapsed(), SystemTime::now()));
            sight.draw(|frame| draw::draw(frame, app, at, self.has_colours))?;
            let wish = tokio::select! {
                () = self.ends.next() => return Ok(()),
                key = keys.recv() => self.hear_key(key.context("the terminal has gone")?.context("the terminal has gone")?),
                Some(news) = self.news.recv() => {
                    self.app.hear(news, self.begun.elapsed());
                    None
                }
                answer = answer_of(&mut self.question) => {
                    self.app.answered(answer);
                    None
                }
                _ = self.stop.recv() => Some(Wish::Suspend),
                // Whatever has stopped it, the shell may have set the terminal meanwhile.
                _ = self.go_on.recv() => {
                    sight = Sight::enter()?;
                    None
                }
                _ = tick.tick() => None,
            };
            match wish {
                None => {}
                Some(Wish::Leave) => return Ok(()),
                Some(Wish::Suspend) => {
                    if let Err(why) = suspend() {
                        self.app.say(why, true);
                    }
                }
                Some(wish) => self.grant(wish)?,
            }
        }
    }

    fn hear_key(&mut self, event: Event) -> Option<Wish> {
        match event {
            Event::Key(key) => return self.app.press(key),
            Event::Paste(text) => self.app.paste(&text),
            // It is drawn anew.
            Event::Resize(..) | Event::FocusGained | Event::FocusLost | Event::Mouse(_) => {}
        }
        None
    }

    fn grant(&mut self, wish: Wish) -> anyhow::Result<()> {
        match wish {
            Wish::Ask(question) => {
                let request = self.request.clone();
                self.question = Some(spawn_blocking(move || asking::answer(&request, &question)));
            }
            Wish::Prove(token) => {
                self.request.token = Some(token);
                Asker::new(&self.request).go_on(self.teller.clone())?;
            }
            Wish::Leave | Wish::Suspend => {}
        }
        Ok(())
    }
}

/// Gives the terminal to the shell, and sleeps until that wakes it: SIGCONT takes the terminal again. Returns why not.
fn suspend() -> Result<(), String> {
    if !has_shell() {
        return Err("there is no shell to go back to".to_owned());
    }
    sight::give_back();
    kill_process(getpid(), Signal::STOP).map_err(|error| format!("lb top cannot be stopped: {error}"))
}

/// Whether a shell would notice that this process has stopped: its parent has the same session, and a group of its own (POSIX calls other
/// groups orphaned).
fn has_shell() -> bool {
    let (Some(parent), own) = (getppid(), getpid()) else { return false };
    let is_same =
        |of: fn(Option<Pid>) -> rustix::io::Result<Pid>| of(Some(parent)).ok() == of(Some(own)).ok();
    is_same(getsid) && !is_same(getpgid)
}

/// The answer to the question that waits for one; never, if there is none.
async fn answer_of(question: &mut Option<JoinHandle<Result<Done, String>>>) -> Result<Done, String> {
    let Some(waiting) = question else { return std::future::pending().await };
    let answer = waiting.await.unwrap_or_else(|_| Err("the question has failed".to_owned()));
    *question = None;
    answer
}
