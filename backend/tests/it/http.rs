//! HTTP: paths, methods, bodies, persistent connections, and clients that misbehave.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::{Client, HANG, Replica};

#[tokio::test]
async fn home_says_hello_with_the_id() {
    let replica = Replica::start_as("S5").await;
    for request in ["GET /home HTTP/1.1\r\n\r\n", "GET /home?id=132574 HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let answer = replica.ask(request).await;
        assert_eq!(answer.status(), "200");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.text(), r#"{"message":"Hello from Server: S5","status":"successful"}"#);
    }
}

#[tokio::test]
async fn an_id_of_any_characters_is_still_json() {
    let replica = Replica::start_as("a \"b\" \\ é").await;
    let answer = replica.ask("GET /home HTTP/1.1\r\n\r\n").await;
    assert_eq!(answer.text(), r#"{"message":"Hello from Server: a \"b\" \\ é","status":"successful"}"#);
}

#[tokio::test]
async fn a_heartbeat_is_an_empty_200() {
    let answer = Replica::start().await.ask("GET /heartbeat HTTP/1.1\r\n\r\n").await;
    assert_eq!((answer.status(), answer.text()), ("200", ""));
}

#[tokio::test]
async fn every_answer_carries_the_server_id() {
    let replica = Replica::start().await;
    for request in [
        "GET /home HTTP/1.1\r\n\r\n",
        "GET /heartbeat HTTP/1.1\r\n\r\n",
        "GET /bytes/3 HTTP/1.1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
        "GET /other HTTP/1.1\r\n\r\n",
        "POST /home HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ] {
        let answer = replica.ask(request).await;
        assert_eq!(answer.header("lb-server-id"), Some("server1"), "{request}");
    }
}

#[tokio::test]
async fn bytes_sends_exactly_as_many_as_asked_for() {
    let replica = Replica::start().await;
    for count in [0, 1, 89, 65_503, 65_504, 65_505, 1_000_000] {
        let answer = replica.ask(&format!("GET /bytes/{count} HTTP/1.1\r\n\r\n")).await;
        assert_eq!(answer.status(), "200");
        assert_eq!(answer.body.len(), count);
        assert!((0..).zip(&answer.body).all(|(k, &byte)| byte == b'!' + (k % 89) as u8), "{count}");
    }
}

#[tokio::test]
async fn bytes_without_a_valid_number_is_an_unknown_path() {
    let replica = Replica::start().await;
    for path in ["/bytes", "/bytes/", "/bytes/x", "/bytes/+5", "/bytes/-5", "/bytes/1099511627777"] {
        let answer = replica.ask(&format!("GET {path} HTTP/1.1\r\n\r\n")).await;
        assert_eq!(answer.status(), "400");
        assert_eq!(answer.text(), unknown(path));
    }
}

fn unknown(path: &str) -> String {
    format!(
        r#"{{"message":"<Error> '{path}' endpoint does not exist in server replicas","status":"failure"}}"#
    )
}

#[tokio::test]
async fn an_unknown_path_is_named_as_it_stands_without_its_query() {
    let replica = Replica::start().await;
    let cases = [
        ("/other", "/other"),
        ("/other?id=5&x='", "/other"),
        ("/", "/"),
        ("/home/", "/home/"),
        ("//home", "//home"),
        ("/HOME", "/HOME"),
        ("/a%20b%22", "/a%20b%22"),
        ("/a\"b", r#"/a\"b"#),
        ("/é/日本", "/é/日本"),
        ("http://host/other?id=5", "/other"),
    ];
    for (target, named) in cases {
        let answer = replica.ask(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert_eq!(answer.status(), "400", "{target}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{target}");
        assert_eq!(answer.text(), unknown(named), "{target}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_unknown_to_every_method() {
    let replica = Replica::start().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer = replica.ask(&format!("{method} /other HTTP/1.1\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.text()), ("400", unknown("/other").as_str()), "{method}");
    }
}

#[tokio::test]
async fn a_known_path_with_another_method_is_405_and_says_what_is_allowed() {
    let replica = Replica::start().await;
    let cases = [
        ("POST", "/home", "get, head"),
        ("DELETE", "/heartbeat", "get, head"),
        ("PUT", "/bytes/5", "get, head"),
        ("GET", "/echo", "post"),
    ];
    for (method, path, allowed) in cases {
        let answer = replica.ask(&format!("{method} {path} HTTP/1.1\r\n\r\n")).await;
        assert_eq!(answer.status(), "405");
        assert_eq!(answer.header("allow"), Some(allowed));
        assert!(answer.text().starts_with(&format!(r#"{{"message":"<Error> method {method} "#)));
        assert!(answer.text().ends_with(r#"","status":"failure"}"#));
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    for (path, status) in [("/home", "200"), ("/heartbeat", "200"), ("/bytes/1000", "200"), ("/other", "400")]
    {
        client.send(format!("HEAD {path} HTTP/1.1\r\n\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
        assert!(path != "/bytes/1000" || head.contains("content-length: 1000\r\n"), "{head}");
    }
    client.finish().await;
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn echo_sends_a_mebibyte_back_while_it_is_sent() {
    let replica = Replica::start().await;
    let body: Vec<u8> = (0..1u32 << 20).map(|k| (k.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut client = replica.connect().await;
    client.send(format!("POST /echo?id=5 HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    let (mut from, mut to) = tokio::io::split(client.0);
    let sending = async { to.write_all(&body).await.unwrap() };
    let receiving = async {
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            received.push(from.read_u8().await.unwrap());
        }
        let head = String::from_utf8(received).unwrap().to_lowercase();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        let mut echoed = vec![0; body.len()];
        from.read_exact(&mut echoed).await.unwrap();
        assert!(echoed == body);
    };
    timeout(HANG, async { tokio::join!(sending, receiving) }).await.expect("the echo hangs");
}

#[tokio::test]
async fn echo_sends_each_piece_back_before_the_next_arrives() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    client.send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    assert!(client.head().await.contains("transfer-encoding: chunked\r\n"));
    assert_eq!(client.exactly(10).await, b"5\r\nhello\r\n");
    client.send(b"3\r\n\xff\0\n\r\n").await;
    assert_eq!(client.exactly(8).await, b"3\r\n\xff\0\n\r\n");
    client.send("0\r\n\r\n").await;
    assert_eq!(client.exactly(5).await, b"0\r\n\r\n");
}

#[tokio::test]
async fn echo_of_no_body_is_an_empty_200() {
    let replica = Replica::start().await;
    for request in ["POST /echo HTTP/1.1\r\n\r\n", "POST /echo HTTP/1.1\r\nContent-Length: 0\r\n\r\n"] {
        let answer = replica.ask(request).await;
        assert_eq!((answer.status(), answer.text()), ("200", ""));
    }
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it_before_the_answer() {
    let replica = Replica::start().await;
    for (path, status) in [("/echo", "200"), ("/other", "400")] {
        let mut client = replica.connect().await;
        client
            .send(format!("POST {path} HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"))
            .await;
        assert_eq!(client.head().await, "http/1.1 100 continue\r\n\r\n");
        client.send("ab").await;
        assert_eq!(client.answer().await.status(), status);
    }
}

#[tokio::test]
async fn an_unexpected_body_costs_neither_the_answer_nor_the_connection() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    client.send("POST /other HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n").await;
    client.send(vec![b'x'; 1_000_000]).await;
    assert_eq!(client.answer().await.text(), unknown("/other"));
    home_is_answered(&mut client).await;
}

async fn home_is_answered(client: &mut Client) {
    client.send("GET /home HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), "200");
}

#[tokio::test]
async fn one_connection_serves_several_requests() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    for _ in 0..3 {
        home_is_answered(&mut client).await;
    }
}

#[tokio::test]
async fn requests_in_one_write_are_answered_in_order() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    client.send("GET /home HTTP/1.1\r\n\r\nPOST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nabGET /x HTTP/1.1\r\n\r\n").await;
    assert!(client.answer().await.text().contains("Hello from Server: server1"));
    assert_eq!(client.answer().await.text(), "ab");
    assert_eq!(client.answer().await.text(), unknown("/x"));
}

#[tokio::test]
async fn a_client_that_has_sent_its_fin_is_still_answered() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    client.send("GET /home HTTP/1.1\r\n\r\nGET /bytes/50000000 HTTP/1.1\r\n\r\n").await;
    client.finish().await;
    assert_eq!(client.answer().await.status(), "200");
    assert_eq!(client.answer().await.body.len(), 50_000_000);
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn connection_close_and_http_1_0_end_the_connection_after_the_answer() {
    let replica = Replica::start().await;
    for request in ["GET /home HTTP/1.1\r\nConnection: close\r\n\r\n", "GET /home HTTP/1.0\r\n\r\n"] {
        let mut client = replica.connect().await;
        client.send(request).await;
        assert_eq!(client.answer().await.status(), "200");
        assert_eq!(client.rest().await, b"");
    }
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let replica = Replica::start().await;
    let mut client = replica.connect().await;
    for byte in b"GET /home?id=5 HTTP/1.1\r\nHost: x\r\n\r\n" {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.status(), "200");
}

#[tokio::test]
async fn a_long_target_is_still_http() {
    let replica = Replica::start().await;
    let answer = replica.ask(&format!("GET /home?x={} HTTP/1.1\r\n\r\n", "y".repeat(50_000))).await;
    assert_eq!(answer.status(), "200");
}

#[tokio::test]
async fn a_malformed_head_is_refused() {
    let replica = Replica::start().await;
    for request in ["GET /home HTTP/1.1\r\nno colon\r\n\r\n", "GET /home HTTP/1.7\r\n\r\n"] {
        assert_eq!(replica.ask(request).await.status(), "400");
    }
}

#[tokio::test]
async fn a_client_that_resets_affects_no_other() {
    let replica = Replica::start().await;
    for request in ["", "GET", "GET /home HTTP/1.1\r\n", "GET /bytes/1000000000 HTTP/1.1\r\n\r\n"] {
        let mut client = replica.connect().await;
        client.send(request).await;
        client.reset();
    }
    let mut client = replica.connect().await;
    client.send("GET /bytes/1000000000 HTTP/1.1\r\n\r\n").await;
    client.exactly(100_000).await;
    client.reset();
    home_is_answered(&mut replica.connect().await).await;
}
