//! Refusals of the control port: their status and message, and that they change nothing.

use serde_json::{Value, json};

use crate::control::{
    Conversation, LANGUAGES, as_http, by_http, by_line, calm, http, listing, one_of_each, refused, request,
};
use crate::harness::Lb;

/// The slots and processes, which a refused command must not change.
fn fleet(lb: &Lb) -> (Vec<Value>, Vec<u32>) {
    (lb.backends(), lb.children())
}

#[test]
fn more_hostnames_than_n_have_their_exact_messages() {
    let lb = calm(&["--replicas", "2"]);
    let before = fleet(&lb);
    for (cmd, message) in [
        ("add", "<Error> Length of hostname list is more than newly added instances"),
        ("rm", "<Error> Length of hostname list is more than removable instances"),
    ] {
        for hostnames in [["a", "b"], ["server1", "server2"], ["a", "a"]] {
            let command = json!({"cmd": cmd, "n": 1, "hostnames": hostnames});
            let expected = format!(r#"{{"message":"{message}","status":"failure"}}"#);
            for ask in LANGUAGES {
                assert_eq!(ask(&lb, &command), expected, "{command}");
            }
            let (line, body) = as_http(&command);
            assert_eq!(http(&lb, &line, &body).status, 400, "{command}");
        }
    }
    assert_eq!(fleet(&lb), before);
}

/// Bad fields of an `add`, each with a part of the message.
const BAD_FIELDS: &[(&str, &str)] = &[
    (r#""hostnames":["a"]"#, "missing field `n`"),
    (r#""n":null"#, "`n`: invalid value `null`: expected a whole number of at least 1"),
    (r#""n":0"#, "`n`: invalid value `0`: expected a whole number of at least 1"),
    (r#""n":-1"#, "`n`: invalid value `-1`: expected a whole number of at least 1"),
    (r#""n":1.5"#, "`n`: invalid value `1.5`: expected a whole number of at least 1"),
    (r#""n":"3""#, r#"`n`: invalid value `"3"`: expected a whole number of at least 1"#),
    (r#""n":true"#, "`n`: invalid value `true`: expected a whole number of at least 1"),
    (r#""n":[1]"#, "`n`: invalid value `[1]`: expected a whole number of at least 1"),
    (r#""n":1e9"#, "`: expected a whole number of at least 1"),
    (r#""n":18446744073709551616"#, "`: expected a whole number of at least 1"),
    (r#""n":1e999"#, "number out of range"),
    (r#""n":1000000000"#, "`n` is 1000000000, but the fleet has 2"),
    (r#""n":4294967297"#, "but the fleet has 2"),
    (r#""n":1,"n":1"#, "duplicate field `n`"),
    (r#""n":1,"hostnames":[],"hostnames":[]"#, "duplicate field `hostnames`"),
    (r#""n":1,"names":[]"#, "unknown field `names`, expected "),
    (r#""n":1,"hostnames":"S5""#, r#"`hostnames`: invalid value `"S5"`: expected a list of names in quotes"#),
    (r#""n":1,"hostnames":null"#, r#"`hostnames`: invalid value `null`: expected a list of names in quotes"#),
    (
        r#""n":1,"hostnames":{"a":1}"#,
        r#"`hostnames`: invalid value `{"a":1}`: expected a list of names in quotes"#,
    ),
    (r#""n":1,"hostnames":[5]"#, r#"`hostnames`: invalid value `[5]`: expected a list of names in quotes"#),
    (
        r#""n":1,"hostnames":["../x"]"#,
        "`hostnames`: invalid value `../x`: expected a hostname of the form [A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
    ),
    (r#""n":1,"hostnames":[""]"#, "`hostnames`: invalid value ``: expected a hostname of the form ["),
    (r#""n":1,"hostnames":["-a"]"#, "expected a hostname of the form"),
    (r#""n":1,"hostnames":["a b"]"#, "expected a hostname of the form"),
    (r#""n":1,"hostnames":["s\u00e4"]"#, "expected a hostname of the form"),
    (r#""n":1,"hostnames":["a\n"]"#, "expected a hostname of the form"),
    (
        r#""n":1,"hostnames":["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]"#,
        "expected a hostname of the form [A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
    ),
    (r#""n":1,"#, "malformed JSON"),
    (r#""n":1}"#, "malformed JSON"),
];

#[test]
fn a_bad_field_is_named_with_what_is_expected_and_changes_nothing() {
    let lb = calm(&["--replicas", "2"]);
    let before = fleet(&lb);
    for (cmd, line) in [("add", "POST /add"), ("rm", "DELETE /rm"), ("rm", "POST /rm")] {
        for (fields, message) in BAD_FIELDS {
            let json = format!(r#"{{"cmd":"{cmd}",{fields}}}"#);
            let answer = refused(&Conversation::with(&lb).say(format!("{json}\n")).line());
            assert!(answer.contains(message), "{json}: {answer}");
            let response = http(&lb, line, &format!("{{{fields}}}"));
            assert_eq!(response.status, 400, "{line} {fields}");
            assert!(refused(&response.body).contains(message), "{line} {fields}: {response:?}");
        }
    }
    assert_eq!(fleet(&lb), before);
}

#[test]
fn a_command_with_a_name_in_use_repeated_or_unknown_is_refused_as_a_whole() {
    let lb = calm(&["--replicas", "2"]);
    let before = fleet(&lb);
    for (command, message) in [
        (json!({"cmd": "add", "n": 2, "hostnames": ["a", "server1"]}), "hostname server1 is in use"),
        (json!({"cmd": "add", "n": 3, "hostnames": ["a", "b", "a"]}), "hostname a is in use or repeated"),
        (json!({"cmd": "rm", "n": 2, "hostnames": ["server1", "stranger"]}), "hostname stranger is unknown"),
        (json!({"cmd": "rm", "n": 2, "hostnames": ["server1", "server1"]}), "hostname server1 is repeated"),
        (json!({"cmd": "rm", "n": 3}), "`n` is 3, but the fleet has 2 replicas"),
        (json!({"cmd": "rm", "n": 3, "hostnames": ["server1"]}), "`n` is 3, but the fleet has 2 replicas"),
    ] {
        for ask in LANGUAGES {
            let answer = refused(&ask(&lb, &command));
            assert!(answer.contains(message), "{command}: {answer}");
        }
        let (line, body) = as_http(&command);
        assert_eq!(http(&lb, &line, &body).status, 400, "{command}");
    }
    assert_eq!(fleet(&lb), before);
    let long = "a".repeat(63);
    assert_eq!(
        by_line(&lb, &json!({"cmd": "add", "n": 2, "hostnames": [long, "0_.-"]})),
        listing(&["server1", "server2", &long, "0_.-"])
    );
}

#[test]
fn text_that_is_not_a_command_is_refused_with_what_is_expected() {
    let lb = calm(&["--replicas", "1"]);
    for (line, message) in [
        ("{", "malformed JSON, expected one object: EOF"),
        ("{}", "missing field `cmd`"),
        (r#"{"cmd":"fly"}"#, "unknown variant `fly`, expected one of `rep`, `replicas`, `add`"),
        (r#"{"cmd":"REP"}"#, "unknown variant `REP`"),
        (r#"{"cmd":null}"#, "`cmd`: invalid value `null`: expected text"),
        (r#"{"cmd":["rep"]}"#, "`cmd`: invalid value `[\"rep\"]`: expected text"),
        (r#"{"cmd":"rep","cmd":"rep"}"#, "duplicate field `cmd`"),
        (r#"{"cmd":"rep","n":1}"#, "unknown field `n`"),
        (r#"{"cmd":"health","x":1}"#, "unknown field `x`"),
        (r#"{"cmd":"explain"}"#, "missing field `id`"),
        (r#"{"cmd":"explain","id":132574}"#, "`id`: invalid value `132574`: expected text in quotes"),
        (r#"{"cmd":"explain","id":""}"#, "`id` is empty"),
        (r#"{"cmd":"rep"}{"cmd":"rep"}"#, "malformed JSON, expected one object: trailing characters"),
        (r#"{"cmd":"rep"} x"#, "malformed JSON"),
        ("{'cmd':'rep'}", "malformed JSON"),
    ] {
        let answer = refused(&Conversation::with(&lb).say(format!("{line}\n")).line());
        assert!(answer.contains(message), "{line}: {answer}");
    }
    let answer = Conversation::with(&lb).say(b"{\"cmd\":\"\xff\xfe\"}\n").line();
    assert!(answer.contains("malformed JSON"), "{answer}");
    let deep = format!("{{\"cmd\":{}{}}}\n", "[".repeat(9000), "]".repeat(9000));
    let answer = Conversation::with(&lb).say(deep).line();
    assert!(answer.contains("malformed JSON"), "{answer}");
    for body in ["", "[1]", r#"[1,["a"]]"#, "1", "null", "n=1", "{"] {
        let response = http(&lb, "POST /add", body);
        assert_eq!(response.status, 400, "{body}");
        assert!(refused(&response.body).contains("object"), "{body}: {response:?}");
    }
    assert_eq!(lb.hostnames(), ["server1"]);
}

#[test]
fn an_unknown_path_is_404_and_a_wrong_method_405_with_the_right_ones() {
    let lb = calm(&["--replicas", "1"]);
    for path in ["/reps", "/rep/", "/Rep", "/add/1", "/rm.json", "//rep"] {
        for method in ["GET", "POST", "DELETE", "PUT"] {
            let response = http(&lb, &format!("{method} {path}"), "");
            assert_eq!(response.status, 404, "{method} {path}");
            assert!(refused(&response.body).contains("there are /rep /add /rm"), "{response:?}");
        }
    }
    for (path, allowed) in [
        ("/rep", "GET"),
        ("/backends", "GET"),
        ("/explain?id=1", "GET, POST"),
        ("/ring", "GET"),
        ("/healthz", "GET"),
        ("/add", "POST"),
        ("/rm", "DELETE, POST"),
        ("/mapping", "GET, PUT"),
        ("/plan", "POST"),
    ] {
        for method in ["GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "BREW"] {
            if !allowed.split(", ").any(|one| one == method) {
                let response = http(&lb, &format!("{method} {path}"), r#"{"n":1}"#);
                assert_eq!(response.status, 405, "{method} {path}");
                assert_eq!(response.header("allow"), Some(allowed), "{method} {path}");
                assert!(refused(&response.body).contains(allowed), "{response:?}");
            }
        }
    }
    assert_eq!(lb.hostnames(), ["server1"]);
}

#[test]
fn the_token_is_checked_before_the_command_is_read() {
    let lb = calm(&["--replicas", "1", "--control-token", "secret"]);
    let children = lb.children();
    let mut commands = one_of_each().to_vec();
    commands.extend([json!({"cmd": "add", "n": 1}), json!({"cmd": "rm", "n": 1}), json!({"cmd": "fly"})]);
    for command in &commands {
        for token in [None, Some(""), Some("secre"), Some("secret2"), Some("SECRET")] {
            let reason = if token.is_none() { "the token is missing" } else { "the token is wrong" };
            let mut line = command.clone();
            token.into_iter().for_each(|token| line["token"] = token.into());
            let answer = refused(&by_line(&lb, &line));
            assert!(answer.contains(reason), "{line}: {answer}");
            let header = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
            let (line, body) = as_http(command);
            let text = request(&line, &header.unwrap_or_default(), &body);
            let response = Conversation::with(&lb).say(&text).response();
            assert_eq!(response.status, 401, "{text}");
            assert!(token == Some("") || refused(&response.body).contains(reason), "{text}: {response:?}");
        }
    }
    for header in ["Basic secret", "secret", "Bearer", "Bearer: secret"] {
        let text = request("GET /rep", &format!("Authorization: {header}\r\n"), "");
        assert_eq!(Conversation::with(&lb).say(text).response().status, 401, "{header}");
    }
    assert!(by_line(&lb, &json!({"cmd": "rep", "token": 5})).contains("the token is missing"));
    assert_eq!(lb.children(), children);
    assert_eq!(by_line(&lb, &json!({"cmd": "rep", "token": "secret"})), listing(&["server1"]));
    for scheme in ["Bearer", "bearer"] {
        let header = format!("Authorization: {scheme} secret\r\n");
        let text = request("POST /add", &header, r#"{"n":1,"hostnames":["server1"]}"#);
        let response = Conversation::with(&lb).say(text).response();
        assert!(refused(&response.body).contains("in use"), "the command is read: {response:?}");
    }
    let add = json!({"cmd": "add", "n": 1, "hostnames": ["S5"], "token": "secret"});
    assert_eq!(by_line(&lb, &add), listing(&["server1", "S5"]));
}

#[test]
fn a_token_that_is_not_needed_is_ignored() {
    let lb = calm(&["--replicas", "1"]);
    assert_eq!(by_line(&lb, &json!({"cmd": "rep", "token": "secret"})), listing(&["server1"]));
    let text = request("GET /rep", "Authorization: Bearer secret\r\n", "");
    assert_eq!(Conversation::with(&lb).say(text).response().status, 200);
}

#[test]
fn only_web_pages_of_a_loopback_origin_may_send_commands() {
    let lb = calm(&["--replicas", "1"]);
    let ask = |origin: &str, line: &str, body: &str| {
        Conversation::with(&lb).say(request(line, &format!("Origin: {origin}\r\n"), body)).response()
    };
    for origin in [
        "http://evil.example",
        "https://evil.example:5001",
        "null",
        "",
        "*",
        "localhost",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://evil.example/127.0.0.1",
        "http://192.168.0.1",
        "http://0.0.0.0",
        "http://127.0.0.1:5001.evil.example",
        "http://127.0.0.1@evil.example",
        "http://localhost:5001@evil.example",
        "http://localhost:5001/",
        "http://localhost http://evil.example",
        "ftp://localhost",
    ] {
        for command in one_of_each() {
            let (line, body) = as_http(&command);
            let response = ask(origin, &line, &body);
            assert_eq!(response.status, 403, "{origin} {line}");
            assert!(refused(&response.body).contains("loopback origin"), "{response:?}");
        }
        assert_eq!(ask(origin, "POST /add", r#"{"n":1}"#).status, 403, "{origin}");
    }
    assert_eq!(lb.hostnames(), ["server1"]);
    for origin in [
        "http://localhost:3000",
        "http://127.0.0.1",
        "http://[::1]:8080",
        "https://localhost",
        "http://127.1.2.3:1",
        "HTTP://LOCALHOST:5001",
    ] {
        assert_eq!(ask(origin, "GET /rep", "").status, 200, "{origin}");
    }
    let response = ask("http://localhost:3000", "POST /add", r#"{"n":1,"hostnames":["S5"]}"#);
    assert_eq!(response.body, listing(&["server1", "S5"]));
    assert_eq!(by_http(&lb, &json!({"cmd": "rm", "n": 1, "hostnames": ["S5"]})), listing(&["server1"]));
}

#[test]
fn the_page_of_a_port_with_a_token_may_send_commands_wherever_it_is_opened() {
    let (open, guarded) =
        (calm(&["--replicas", "1"]), calm(&["--replicas", "1", "--control-token", "secret"]));
    let add = |lb: &Lb, origin: &str, host: &str, token: &str| {
        let body = r#"{"n":1,"hostnames":["S5"]}"#;
        let head = format!("Host: {host}\r\nOrigin: {origin}\r\nAuthorization: Bearer {token}\r\n");
        let text = format!("POST /add HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len());
        Conversation::with(lb).say(text).response()
    };
    let own = [
        ("http://192.0.2.7:5001", "192.0.2.7:5001"),
        ("https://[2001:db8::1]", "[2001:db8::1]"),
        ("http://lb:5001", "lb:5001"),
    ];
    for (origin, host) in own {
        assert_eq!(add(&guarded, origin, host, "secret").body, listing(&["server1", "S5"]), "{origin}");
        guarded.ask(&json!({"cmd": "rm", "n": 1, "hostnames": ["S5"], "drain": "0s", "token": "secret"}));
        assert_eq!(add(&guarded, origin, host, "guess").status, 401, "{origin}");
        // Without a token, nothing says that the page is not a foreign one.
        assert_eq!(add(&open, origin, host, "secret").status, 403, "{origin}");
    }
    for (origin, host) in [
        ("http://192.0.2.8:5001", "192.0.2.7:5001"),
        ("http://192.0.2.7:8080", "192.0.2.7:5001"),
        ("http://192.0.2.7", "192.0.2.7:5001"),
        ("null", "192.0.2.7:5001"),
        ("http://lb:5001", ""),
        ("http://lb:5001", "lb:5001\r\nHost: other:5001"),
        ("http://lb:5001\r\nOrigin: http://evil.example", "lb:5001"),
        // Its name leads here, and it has found the token out.
        ("http://evil.example:5001", "evil.example:5001"),
    ] {
        let response = add(&guarded, origin, host, "secret");
        assert_eq!(response.status, 403, "{origin} {host}");
        let expected = "or with the token the page of this port under an IP address or a name without dots";
        assert!(refused(&response.body).contains(expected), "{response:?}");
    }
    assert_eq!(
        guarded.ask(&json!({"cmd": "rep", "token": "secret"}))["message"]["replicas"],
        json!(["server1"])
    );
}

/// The status of `GET /rep` with these header lines, and the message of a refusal.
fn get_rep(lb: &Lb, target: &str, headers: &str) -> (u16, String) {
    let text = format!("GET {target} HTTP/1.1\r\n{headers}\r\n");
    let response = Conversation::with(lb).say(text).response();
    let message = if response.status == 200 { String::new() } else { refused(&response.body) };
    (response.status, message)
}

#[test]
fn a_name_that_may_be_a_web_page_is_refused_as_host_unless_a_token_is_shown() {
    let (open, guarded) =
        (calm(&["--replicas", "1"]), calm(&["--replicas", "1", "--control-token", "secret"]));
    for host in
        ["localhost", "LOCALHOST:5001", "127.0.0.1:5001", "192.0.2.1", "[::1]:5001", "lb", "lb:5001", ""]
    {
        assert_eq!(get_rep(&open, "/rep", &format!("Host: {host}\r\n")).0, 200, "{host}");
    }
    assert_eq!(get_rep(&open, "/rep", "").0, 200, "no browser leaves it out");
    assert_eq!(get_rep(&open, "http://lb:5001/rep", "Host: lb\r\n").0, 200);
    for host in [
        "evil.example",
        "evil.example:5001",
        "127.0.0.1.evil.example:5001",
        "127.0.0.1:5001.evil.example",
        "localhost.evil.example",
        "localhost:5001@evil.example",
        "user@localhost",
        "[::1].evil.example",
        "lb\r\nHost: evil.example",
    ] {
        let (status, message) = get_rep(&open, "/rep", &format!("Host: {host}\r\n"));
        assert_eq!(status, 403, "{host}");
        assert!(message.starts_with("<Error> `Host`: invalid value `"), "{message}");
        assert!(message.contains("expected an IP address, localhost or a name without dots"), "{message}");
        let change = format!("POST /add HTTP/1.1\r\nHost: {host}\r\nContent-Length: 7\r\n\r\n{{\"n\":1}}");
        assert_eq!(Conversation::with(&open).say(change).response().status, 403, "{host}");
        assert_eq!(get_rep(&guarded, "/rep", &format!("Host: {host}\r\n")).0, 401, "{host}");
        let token = format!("Host: {host}\r\nAuthorization: Bearer secret\r\n");
        assert_eq!(get_rep(&guarded, "/rep", &token).0, 200, "{host}");
    }
    assert_eq!(get_rep(&open, "http://evil.example/rep", "Host: lb\r\n").0, 403);
    assert_eq!(open.hostnames(), ["server1"]);
}
