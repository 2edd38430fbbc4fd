//! An answer that is cut short over TCP as well.

use super::*;

/// How many times a question is put to a server at most over TCP: two attempts, each with one question that follows one over UDP.
const MOST: u64 = 2;

#[test]
fn a_server_whose_answers_are_always_cut_short_is_asked_a_bounded_number_of_times() {
    let server = NameServer::start();
    server.say("web.test", Kind::A, Say::Truncated);
    let lb = launch(&server, "web.test:80", &[]);
    eventually("three failures", || (counts(&lb)["failed"].as_u64().unwrap() >= 3).then_some(()));
    let asked = server.asked("web.test", Kind::A);
    let by_tcp = asked.iter().filter(|asked| asked.by_tcp).count() as u64;
    // One question may be under way.
    let questions = counts(&lb)["failed"].as_u64().unwrap() + 1;
    assert!((3..=MOST * questions).contains(&by_tcp), "{by_tcp} times over TCP for {questions} questions");
}
