//! Clients that misbehave, and sessions that last. Those that wait for an answer check it; the others only try to do harm.
//!
//! Every client has a deadline. On loopback they come from an address of their own, so that a limit per source does not hit the
//! load.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::plan::{Dice, Fault, Step};
use super::stage::Stage;
use crate::load::{Exchange, Failure, Ids, Request};

/// The source address of misbehaving clients on loopback.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);
/// The longest life of a client.
const LONGEST: Duration = Duration::from_secs(30);
/// The answer of which slow readers and clients that reset read a part at a time.
const ANSWER: u64 = 2 << 20;
/// What a slow reader reads, and the pause after it.
const SIP: usize = 32 * 1024;
const PAUSE: Duration = Duration::from_millis(20);
/// Sessions that last, and how many may follow each other in one round.
const SESSIONS: u64 = 8;
const FOLLOWERS: usize = 100;
/// The pause between two lines of a session, and before the session that follows one that failed.
const BEAT: Duration = Duration::from_millis(100);
/// How long the answer to a line may take.
const ANSWERED: Duration = Duration::from_secs(5);
/// Lines that a connection of the flood sends to the control port.
const LINES: usize = 20;

/// How a request of a client ended that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Met {
    pub(super) id: String,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    pub(super) outcome: Result<(), Failure>,
}

/// Runs the clients of a fault to their end; returns the requests that were checked.
pub(super) async fn run(stage: &Arc<Stage>, step: &Step) -> Vec<Met> {
    let mut crowd = Crowd { stage, dice: Dice::new(step.seed, 0), hold: step.hold, tasks: JoinSet::new() };
    match step.fault {
        Fault::Reset { clients } => (0..clients).for_each(|_| crowd.quitter()),
        Fault::Slow { readers, writers } => {
            (0..readers).for_each(|_| crowd.checked(slow_reader));
            (0..writers).for_each(|_| crowd.checked(slow_writer));
        }
        Fault::Flood { data, control } => {
            (0..data).for_each(|_| crowd.silent(stage.data));
            (0..control).for_each(|number| crowd.pest(number));
        }
        Fault::Garbage { clients } => (0..clients).for_each(|_| crowd.babbler()),
        Fault::HalfClose { clients } => (0..clients).for_each(|_| crowd.checked(half_closer)),
        _ => {}
    }
    let mut met = Vec::new();
    while let Some(client) = crowd.tasks.join_next().await {
        met.extend(client.ok().flatten());
    }
    met
}

/// Keeps some sessions open, each with a line and its answer several times a second, until `end`. A session that fails is
/// followed by another one. Returns all of them.
pub(super) async fn sessions(stage: &Arc<Stage>, seed: u64, end: &CancellationToken) -> Vec<Met> {
    let mut tasks = JoinSet::new();
    for number in 0..SESSIONS {
        let (target, end, mut dice) = (stage.data, end.clone(), Dice::new(seed, number));
        tasks.spawn(async move {
            let mut met = Vec::new();
            while !end.is_cancelled() && met.len() < FOLLOWERS {
                let id = Ids::Random.id(dice.next(), number);
                let begun = Instant::now();
                let outcome = session(target, &id, &end).await;
                met.push(Met { id, begun, ended: Instant::now(), outcome });
                end.run_until_cancelled(sleep(BEAT)).await;
            }
            met
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// One session; it lasts until `end`, if it does not fail.
async fn session(target: SocketAddr, id: &str, end: &CancellationToken) -> Result<(), Failure> {
    let exchange = Exchange::Line { size: 64 };
    let request = request(&exchange, id);
    let mut stream = TcpStream::connect(target).await.map_err(|error| Failure::of(&error))?;
    while !end.is_cancelled() {
        let answered = async {
            stream.write_all(&request.head).await.map_err(|error| Failure::of(&error))?;
            receive(&mut stream, &exchange, &request, Duration::ZERO).await
        };
        timeout(ANSWERED, answered).await.unwrap_or(Err(Failure::Timeout))?;
        end.run_until_cancelled(sleep(BEAT)).await;
    }
    Ok(())
}

/// The clients of one fault.
struct Crowd<'a> {
    stage: &'a Arc<Stage>,
    dice: Dice,
    hold: Duration,
    tasks: JoinSet<Option<Met>>,
}

impl Crowd<'_> {
    /// A client that does not wait for an answer.
    fn add(&mut self, client: impl Future<Output = io::Result<()>> + Send + 'static) {
        self.tasks.spawn(async move {
            // However its connection ends, it is content.
            let _ = timeout(LONGEST, client).await;
            None
        });
    }

    /// A client that checks its answer.
    fn checked<F>(&mut self, client: impl FnOnce(SocketAddr, String, u64) -> F)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (seed, number) = (self.dice.next(), self.dice.next());
        let id = Ids::Random.id(seed, number);
        let client = client(self.stage.data, id.clone(), seed);
        self.tasks.spawn(async move {
            let begun = Instant::now();
            let outcome = timeout(LONGEST, client).await.unwrap_or(Err(Failure::Timeout));
            Some(Met { id, begun, ended: Instant::now(), outcome })
        });
    }

    /// Asks for a long answer, reads some of it or nothing, and resets.
    fn quitter(&mut self) {
        let (target, seed, read) = (self.stage.data, self.dice.next(), self.dice.below(3) * SIP as u64);
        self.add(async move {
            let mut stream = connect(target).await?;
            stream.write_all(&request(&long(), &Ids::Random.id(seed, 0)).head).await?;
            let mut buffer = vec![0; read as usize];
            stream.read_exact(&mut buffer).await?;
            reset(stream)
        });
    }

    /// Says nothing for a while; then half of them reset.
    fn silent(&mut self, target: SocketAddr) {
        let (hold, resets) = (self.hold, self.dice.below(2) == 0);
        self.add(async move {
            let stream = connect(target).await?;
            sleep(hold).await;
            if resets { reset(stream) } else { Ok(()) }
        });
    }

    /// Sends something to the control port that is no command, or has a wrong token, for a while; or nothing.
    fn pest(&mut self, number: usize) {
        let (target, hold) = (self.stage.control, self.hold);
        let line = match number % 4 {
            0 => return self.silent(target),
            1 => r#"{"token":"wrong","cmd":"rep"}"#.to_owned() + "\n",
            2 => format!("{{\"token\":\"wrong\",\"x\":{}\n", "[".repeat(2000)),
            _ => "POST /add HTTP/1.1\r\nAuthorization: Bearer wrong\r\nContent-Length: 1000\r\n\r\n{"
                .to_owned(),
        };
        self.add(async move {
            let mut stream = connect(target).await?;
            for _ in 0..LINES {
                stream.write_all(line.as_bytes()).await?;
                let _ = timeout(hold / LINES as u32, stream.read(&mut [0; 4096])).await;
            }
            Ok(())
        });
    }

    /// Sends bytes that no text holds, waits a little for an answer, and leaves.
    fn babbler(&mut self) {
        let (target, hold) = (self.stage.data, self.hold);
        let length = 1 + self.dice.below(4000);
        // A handshake record of TLS begins like this, and no text does.
        let bytes: Vec<u8> =
            [22, 3, 1].into_iter().chain((0..length).map(|_| self.dice.next() as u8)).collect();
        self.add(async move {
            let mut stream = connect(target).await?;
            stream.write_all(&bytes).await?;
            let _ = timeout(hold, stream.read(&mut [0; 4096])).await;
            Ok(())
        });
    }
}

fn long() -> Exchange {
    Exchange::Bytes { send: 0, receive: ANSWER }
}

fn request(exchange: &Exchange, id: &str) -> Request {
    let mut request = Request::default();
    exchange.compose(id.as_bytes(), false, &mut request);
    request
}

/// Reads a long answer in sips.
async fn slow_reader(target: SocketAddr, id: String, _: u64) -> Result<(), Failure> {
    let (exchange, mut stream) = (long(), connect(target).await.map_err(|error| Failure::of(&error))?);
    let request = request(&exchange, &id);
    stream.write_all(&request.head).await.map_err(|error| Failure::of(&error))?;
    receive(&mut stream, &exchange, &request, PAUSE).await
}

/// Sends its first line byte by byte.
async fn slow_writer(target: SocketAddr, id: String, _: u64) -> Result<(), Failure> {
    let (exchange, mut stream) = (home(), connect(target).await.map_err(|error| Failure::of(&error))?);
    let request = request(&exchange, &id);
    for byte in request.head.chunks(1) {
        stream.write_all(byte).await.map_err(|error| Failure::of(&error))?;
        sleep(PAUSE / 2).await;
    }
    receive(&mut stream, &exchange, &request, Duration::ZERO).await
}

/// Closes its side after the request, and has to get the whole answer.
async fn half_closer(target: SocketAddr, id: String, seed: u64) -> Result<(), Failure> {
    let exchange = if seed.is_multiple_of(2) { home() } else { Exchange::Line { size: 64 } };
    let mut stream = connect(target).await.map_err(|error| Failure::of(&error))?;
    let request = request(&exchange, &id);
    stream.write_all(&request.head).await.map_err(|error| Failure::of(&error))?;
    stream.shutdown().await.map_err(|error| Failure::of(&error))?;
    receive(&mut stream, &exchange, &request, Duration::ZERO).await
}

fn home() -> Exchange {
    Exchange::Get { path: "/home".to_owned() }
}

/// Reads an answer with a pause after each read, and checks it.
async fn receive(
    stream: &mut TcpStream,
    exchange: &Exchange,
    request: &Request,
    pause: Duration,
) -> Result<(), Failure> {
    let mut answer = exchange.answer();
    answer.begin();
    let mut buffer = vec![0; SIP];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return answer.end(),
            Ok(count) if answer.feed(&buffer[..count], request)? => return Ok(()),
            Ok(_) if !pause.is_zero() => sleep(pause).await,
            Ok(_) => {}
            Err(error) => return Err(Failure::of(&error)),
        }
    }
}

/// Connects from [`SOURCE`] where that is possible.
async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(address) = target else { return TcpStream::connect(target).await };
    let socket = TcpSocket::new_v4()?;
    if address.ip().is_loopback() {
        socket.bind((SOURCE, 0).into())?;
    }
    let deadline = Instant::now() + LONGEST;
    timeout_at(deadline.into(), socket.connect(target)).await.map_err(io::Error::from)?
}

/// Ends a connection with a reset.
fn reset(stream: TcpStream) -> io::Result<()> {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}
