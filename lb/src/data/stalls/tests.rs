use tokio::time::timeout;

use super::*;
use crate::data::testing::connection;

const LIMIT: Duration = Duration::from_secs(56);
const LOOK: Duration = Duration::from_secs(7);

/// The kernel's side of a stalled socket: `tcp_probe_timer` in Linux, in milliseconds.
struct Socket {
    /// When the first probe was sent.
    begun: u64,
    time: u64,
    next_probe: u64,
    backoff: u64,
    last_answer: u64,
}

impl Socket {
    fn new(begun: u64) -> Self {
        let time = LIMIT.as_millis() as u64;
        Socket { begun, time, next_probe: begun, backoff: 200, last_answer: begun }
    }

    /// Lets the clock come to `now`. Returns whether the kernel ends the connection.
    fn is_ended(&mut self, now: u64, peer_answers: bool) -> bool {
        if now < self.next_probe {
            return false;
        }
        if now - self.begun >= self.time {
            return true;
        }
        if peer_answers {
            self.last_answer = now;
        }
        self.backoff = (2 * self.backoff).min(120_000);
        self.next_probe = now + self.backoff.min(self.begun + self.time - now);
        false
    }
}

/// When the kernel ends a connection that is stalled from `begun` on, of a peer that vanishes at `vanishes`; in milliseconds.
fn end(begun: u64, vanishes: u64, most: u64) -> Option<u64> {
    let start = Instant::now();
    let (mut ledger, mut socket) = (Ledger::new(LIMIT, start), Socket::new(begun));
    for now in (0..most).step_by(100) {
        if now >= begun && socket.is_ended(now, now < vanishes) {
            return Some(now);
        }
        if now % LOOK.as_millis() as u64 == 0 {
            let silence = Duration::from_millis(now.saturating_sub(socket.last_answer));
            let seen = (now >= begun).then_some(Stalled { inode: 7, silence });
            let news = ledger.judge(start + Duration::from_millis(now), seen.as_slice());
            assert_eq!(news.stalled.len(), seen.iter().len());
            if let Some(time) = news.times.get(&7) {
                socket.time = time.as_millis() as u64;
            }
        }
    }
    None
}

#[test]
fn a_peer_that_answers_is_never_ended_and_one_that_vanishes_is_in_time() {
    let limit = LIMIT.as_millis() as u64;
    for begun in (100..8000).step_by(700) {
        assert_eq!(end(begun, u64::MAX, 4_000_000), None, "stalled at {begun}");
        for lasts in (0..400_000).step_by(3100) {
            let vanishes = begun + lasts;
            let ended =
                end(begun, vanishes, 1_000_000).unwrap_or_else(|| panic!("{vanishes} is never ended"));
            assert!(
                ended <= vanishes + limit,
                "stalled at {begun}, vanished at {vanishes}, ended at {ended}"
            );
            assert!(ended >= begun + limit, "nothing is ended sooner than without a look");
        }
    }
}

#[test]
fn a_socket_that_is_stalled_no_more_has_its_old_time_again() {
    let start = Instant::now();
    let mut ledger = Ledger::new(LIMIT, start);
    let mut look = |number: u32, silence: Option<Duration>| {
        let seen = silence.map(|silence| Stalled { inode: 7, silence });
        ledger.judge(start + LOOK * number, seen.as_slice()).times
    };
    for number in 1..=4 {
        assert_eq!(
            look(number, Some(Duration::ZERO)),
            HashMap::new(),
            "there is time enough at look {number}"
        );
    }
    assert_eq!(look(5, Some(LOOK * 3)), HashMap::from([(7, LOOK * 9)]));
    assert_eq!(
        look(6, Some(LOOK * 3 + Duration::from_millis(1))),
        HashMap::new(),
        "its peer does not answer"
    );
    assert_eq!(look(7, None), HashMap::from([(7, LIMIT)]));
    assert_eq!(look(8, None), HashMap::new());
    assert_eq!(look(9, Some(Duration::ZERO)), HashMap::new(), "a new stall has the old time");
}

/// The sockets that the kernel reports, once this one is or is not among them.
async fn report(of: &Stream, is_stalled: bool) -> Vec<Stalled> {
    let mine = inode(of).unwrap();
    let asked = async {
        loop {
            let mut all = spawn_blocking(kernel::stalled).await.unwrap().unwrap();
            all.retain(|socket| socket.inode == mine);
            if all.is_empty() != is_stalled {
                return all;
            }
        }
    };
    timeout(Duration::from_secs(30), asked).await.unwrap()
}

#[tokio::test]
async fn the_kernel_reports_a_socket_whose_peer_answers_and_does_not_read() {
    let (reader, writer) = connection().await;
    assert_eq!(report(&writer, false).await, []);
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 && writer.try_write(&[7; 65_536]).map(|bytes| sent += bytes).is_ok() {}
    let stalled = report(&writer, true).await;
    assert!(stalled[0].silence < Duration::from_secs(60), "{stalled:?}");
    let mut left = sent;
    while left > 0 {
        reader.readable().await.unwrap();
        left -= reader.try_read(&mut [0; 65_536]).unwrap_or(0);
    }
    assert_eq!(report(&writer, false).await, []);
}

#[tokio::test]
async fn a_session_changes_only_its_own_sockets_and_only_a_time_that_is_set() {
    let (limited, free) = connection().await;
    set_tcp_user_timeout(&limited, 1000).unwrap();
    let stalls = Stalls::new(Some(Duration::from_secs(1)));
    let mut ear = Ear::new(&stalls);
    let numbers = [&limited, &free].map(|socket| inode(socket).unwrap());
    let mut heard = |times: &[(u32, Duration)]| {
        let cx = &mut Context::from_waker(Waker::noop());
        stalls.tell(News { times: times.iter().copied().collect(), ..News::default() });
        ear.heed(&stalls, [&limited, &free], cx);
        [&limited, &free].map(|socket| tcp_user_timeout(socket).unwrap())
    };
    assert_eq!(heard(&[]), [1000, 0]);
    assert_eq!(
        heard(&[(numbers[0], Duration::from_secs(5)), (numbers[1], Duration::from_secs(5))]),
        [5000, 0]
    );
    assert_eq!(heard(&[(numbers[1], Duration::from_secs(6))]), [5000, 0]);
    ear.leave(&stalls);
    assert!(stalls.lock().is_empty());
}
