//! Raw text: every line comes back after the name of the replica.

use crate::Replica;

/// Sends `sent` and the FIN; everything that comes back.
async fn answers(sent: impl AsRef<[u8]>) -> Vec<u8> {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    client.send(sent).await;
    client.finish().await;
    client.rest().await
}

#[tokio::test]
async fn every_line_comes_back_after_the_id() {
    assert_eq!(
        answers("132574 hello\nGET /home\nb\n").await,
        b"server1 132574 hello\nserver1 GET /home\nserver1 b\n"
    );
}

#[tokio::test]
async fn a_cr_before_the_end_of_a_line_is_not_part_of_it() {
    assert_eq!(answers("a\r\nb\rc\r\nd\r").await, b"server1 a\nserver1 b\rc\nserver1 d\n");
}

#[tokio::test]
async fn a_blank_line_is_a_line() {
    assert_eq!(answers("\n").await, b"server1 \n");
    assert_eq!(answers("\r\na\n\n").await, b"server1 \nserver1 a\nserver1 \n");
}

#[tokio::test]
async fn an_unterminated_last_line_is_answered_too() {
    assert_eq!(answers("132574").await, b"server1 132574\n");
    assert_eq!(answers("a\nb").await, b"server1 a\nserver1 b\n");
}

#[tokio::test]
async fn a_client_that_says_nothing_gets_nothing() {
    assert_eq!(answers("").await, b"");
}

#[tokio::test]
async fn lines_are_bytes_not_utf_8() {
    assert_eq!(answers(b"a\xff\xfe\0b\n\xc3\n").await, b"server1 a\xff\xfe\0b\nserver1 \xc3\n");
}

#[tokio::test]
async fn any_first_byte_can_begin_a_line() {
    let replica = Replica::start().await;
    for first in (0..=u8::MAX).filter(|&byte| byte != b'\n') {
        let mut client = replica.connect().await;
        client.send([first, b'x', b'\n']).await;
        assert_eq!(client.line().await, [b"server1 ", [first].as_slice(), b"x\n"].concat(), "{first:#x}");
        client.send("next\n").await;
        assert_eq!(client.line().await, b"server1 next\n", "{first:#x}");
    }
}

#[tokio::test]
async fn an_http2_preface_is_lines() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(client.line().await, b"server1 PRI * HTTP/2.0\n");
}

#[tokio::test]
async fn an_http_request_after_the_first_line_is_lines() {
    assert_eq!(answers("a\nGET /home HTTP/1.1\r\n").await, b"server1 a\nserver1 GET /home HTTP/1.1\n");
}

#[tokio::test]
async fn a_line_is_answered_while_the_next_is_incomplete() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    client.send("a\nb\nc").await;
    assert_eq!(client.line().await, b"server1 a\n");
    assert_eq!(client.line().await, b"server1 b\n");
    client.send("d\n").await;
    assert_eq!(client.line().await, b"server1 cd\n");
}

#[tokio::test]
async fn a_line_may_come_byte_by_byte() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    for byte in b"132574 hello\r\n" {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.line().await, b"server1 132574 hello\n");
}

#[tokio::test]
async fn thousands_of_lines_in_one_write_come_back_in_order() {
    let lines: String = (0..5_000).map(|k| format!("{k}\n")).collect();
    let expected: String = (0..5_000).map(|k| format!("server1 {k}\n")).collect();
    assert_eq!(answers(lines).await, expected.as_bytes());
}

#[tokio::test]
async fn a_line_of_64_kib_is_answered_and_a_longer_one_ends_the_connection() {
    let replica = Replica::start().await;
    let longest = [vec![b'x'; 64 * 1024 - 1], b"\n".to_vec()].concat();
    let mut client = replica.connect().await;
    client.send(&longest).await;
    assert_eq!(client.line().await, [b"server1 ", longest.as_slice()].concat());
    client.send(&longest[..longest.len() - 1]).await;
    client.send("xx").await;
    assert_eq!(client.line().await, b"");

    let mut client = replica.connect().await;
    client.send(vec![b'x'; 64 * 1024 + 1]).await;
    assert_eq!(client.line().await, b"");
}

#[tokio::test]
async fn a_client_that_resets_affects_no_other() {
    let replica = Replica::start().await;
    for sent in ["", "a", "a\n", "\u{1}"] {
        let mut client = replica.connect().await;
        client.send(sent).await;
        client.reset();
    }
    let mut client = replica.connect().await;
    client.send("a\n").await;
    assert_eq!(client.line().await, b"server1 a\n");
}
