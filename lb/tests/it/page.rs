//! The page at `GET /`, without a browser: what is served to whom, and with which headers.

use serde_json::{Value, json};

use crate::control::{Conversation, Response, calm, http, request};
use crate::harness::Lb;

/// The paths that a file of the page names in `href`, `src` and `import`.
fn named(text: &str) -> Vec<String> {
    let quoted = |before: &str| -> Vec<String> {
        let after = text.split(before).skip(1);
        after.map(|rest| rest.split('"').next().unwrap_or_default().to_owned()).collect()
    };
    [quoted("href=\""), quoted("src=\""), quoted("from \"")].concat()
}

/// The page and everything that it loads, by path.
fn files(lb: &Lb) -> Vec<(String, Response)> {
    let mut files: Vec<(String, Response)> = Vec::new();
    let mut paths = vec!["/".to_owned()];
    while let Some(path) = paths.pop() {
        if files.iter().any(|(known, _)| *known == path) {
            continue;
        }
        let response = http(lb, &format!("GET {path}"), "");
        assert_eq!(response.status, 200, "{path}");
        let inside = named(&response.body).into_iter().filter(|name| !name.starts_with('#'));
        paths.extend(
            inside.map(|name| format!("/page/{}", name.trim_start_matches("./").trim_start_matches("page/"))),
        );
        files.push((path, response));
    }
    files
}

#[test]
fn the_page_is_small_and_names_no_other_host() {
    let lb = calm(&["--replicas", "1"]);
    let files = files(&lb);
    assert_eq!(files.len(), 10, "{:?}", files.iter().map(|(path, _)| path).collect::<Vec<_>>());
    let size: usize = files.iter().map(|(_, file)| file.body.len()).sum();
    assert!(size < 100 * 1024, "{size}");
    for (path, file) in &files {
        // A name of XML is no address.
        let text = file.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("//") || !text.contains("http"), "{path} names an address");
        assert!(!text.contains("innerHTML") && !text.contains("style=\""), "{path}");
    }
    let html = &files[0].1;
    assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"));
    let kinds = [
        "text/html; charset=utf-8",
        "text/css; charset=utf-8",
        "text/javascript; charset=utf-8",
        "image/svg+xml",
    ];
    assert!(files.iter().all(|(_, file)| kinds.contains(&file.header("content-type").unwrap())));
}

#[test]
fn every_file_has_the_headers_that_lock_it_in() {
    let lb = calm(&["--replicas", "1"]);
    for (path, file) in files(&lb) {
        let policy = file.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; "),
            "{path}: {policy}"
        );
        assert!(
            !policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"),
            "{path}: {policy}"
        );
        for part in ["connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(file.header(name), Some(value), "{path}: {name}");
        }
    }
}

#[test]
fn the_page_needs_no_token_and_its_data_do() {
    let lb = calm(&["--replicas", "1", "--control-token", "a long enough token"]);
    assert_eq!(files(&lb).len(), 10);
    for data in ["/backends", "/ring", "/incidents", "/events", "/explain?id=1", "/rep"] {
        assert_eq!(http(&lb, &format!("GET {data}"), "").status, 401, "{data}");
    }
    assert_eq!(http(&lb, "POST /add", r#"{"n":1}"#).status, 401);
    // Not even a page of another host can read it: a browser needs a header for that, and a script needs another one.
    let foreign = request("GET /", "Origin: http://evil.example\r\n", "");
    let answer = Conversation::with(&lb).say(foreign).response();
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let proof = "Authorization: Bearer a long enough token\r\n";
    let answer = Conversation::with(&lb).say(request("GET /ring", proof, "")).response();
    assert_eq!(answer.status, 200);
}

#[test]
fn a_file_is_read_with_get_and_head_only() {
    let lb = calm(&["--replicas", "1"]);
    for path in ["/", "/page/main.js"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = http(&lb, &format!("{method} {path}"), "");
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
        let length = http(&lb, &format!("GET {path}"), "").body.len().to_string();
        let mut conversation = Conversation::with(&lb);
        conversation.say(request(&format!("HEAD {path}"), "Connection: close\r\n", ""));
        let head = conversation.rest();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.to_lowercase().contains(&format!("content-length: {length}\r\n")), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }
    for path in ["/page", "/page/", "/page/nothing.js", "/page/../page/main.js", "//"] {
        assert_eq!(http(&lb, &format!("GET {path}"), "").status, 404, "{path}");
    }
}

#[test]
fn an_id_that_fits_no_target_is_asked_for_in_a_body() {
    let lb = calm(&[]);
    for id in ["a b", "\u{fc}", "x&y#z", "132574"] {
        let answer = http(&lb, "POST /explain", &json!({"id": id}).to_string());
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["message"], lb.done(&json!({"cmd": "explain", "id": id})), "{id}");
    }
    let refused = http(&lb, "POST /explain", r#"{"id":"7","x":1}"#);
    assert_eq!(refused.status, 400);
    let answer = http(&lb, "PUT /explain", "");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST")));
}
