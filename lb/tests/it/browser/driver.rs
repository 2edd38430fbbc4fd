//! A browser that a test drives: chromedriver, and the few commands of the WebDriver protocol (W3C) that are needed. Crates that speak
//! it are copyleft or bring an HTTP client of their own.

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::eventually_within;

/// The longest wait for anything in a browser. A busy machine with two cores stays below it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The name of an element's id (WebDriver, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Keys without a character (WebDriver, section 17.4.2).
pub(crate) const TAB: char = '\u{e004}';
pub(crate) const ENTER: char = '\u{e007}';
pub(crate) const ESCAPE: char = '\u{e00c}';
pub(crate) const SPACE: char = ' ';

/// A browser with a profile of its own. Dropping it ends the browser.
pub(crate) struct Browser {
    driver: Driver,
    session: String,
    profile: tempfile::TempDir,
}

/// A chromedriver that listens. Dropping it ends it.
struct Driver {
    process: Child,
    address: SocketAddr,
    /// Keeps its pipe open.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    /// `None` if it ends before it listens.
    fn start(home: &Path) -> Option<Driver> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", home).env("TMPDIR", home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("chromedriver (Debian: chromium-driver)");
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = output
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok());
        let Some(port) = port else {
            process.wait().unwrap();
            return None;
        };
        Some(Driver { process, address: SocketAddr::from(([127, 0, 0, 1], port)), _output: output })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Browser {
    /// Starts the browser. It has to be installed, as `.ci/run` does.
    pub(crate) fn start() -> Browser {
        let profile = tempfile::tempdir().unwrap();
        // It takes a free port of IPv6 and then the same one of IPv4, and ends if that is in use.
        let driver = || Driver::start(profile.path());
        let driver = eventually_within(PATIENCE, "chromedriver on a free port", driver);
        let mut browser = Browser { driver, session: String::new(), profile };
        let folder = format!("--user-data-dir={}", browser.profile.path().join("profile").display());
        let flags = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--no-first-run",
            "--host-resolver-rules=MAP lb 127.0.0.1, MAP lb.example 127.0.0.1",
            folder
        ]);
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"}, "goog:chromeOptions": {"args": flags}
        }}});
        let session = browser.call("POST", "/session", &wanted)["sessionId"].as_str().unwrap().to_owned();
        browser.session = format!("/session/{session}");
        browser
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Value)> {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(self.driver.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )?;
        let mut stream = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head)? > 0 {}
        for line in head.to_lowercase().lines() {
            length =
                line.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().unwrap());
        }
        let mut answer = String::new();
        stream.take(length).read_to_string(&mut answer)?;
        let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap_or(0));
        Ok((status, serde_json::from_str(&answer).unwrap_or(Value::Null)))
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.send(method, path, body).unwrap();
        assert_eq!(status, 200, "{method} {path} {body}: {answer}");
        answer["value"].clone()
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("{}{path}", self.session), body)
    }

    /// Opens an address.
    #[track_caller]
    pub(crate) fn open(&self, address: &str) {
        self.post("/url", &json!({"url": address}));
    }

    /// The value that a script returns.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until a script returns something else than null, false, 0 or "".
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, script: &str) -> Value {
        eventually_within(PATIENCE, what, || {
            let value = self.run(script);
            let is_there = !matches!(&value, Value::Null | Value::Bool(false)) && value != "" && value != 0;
            is_there.then_some(value)
        })
    }

    /// The text that an element shows; "" if there is none.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({})?.innerText ?? ''", json!(selector));
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        format!("/element/{}", found[ELEMENT].as_str().unwrap())
    }

    /// Clicks on an element, as a user does: it has to be visible.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("{element}/click"), &json!({}));
    }

    /// Types into an element, after what is there.
    #[track_caller]
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("{element}/value"), &json!({"text": text}));
    }

    /// Presses a key, wherever the focus is.
    #[track_caller]
    pub(crate) fn press(&self, key: char) {
        let strokes = ["keyDown", "keyUp"].map(|stroke| json!({"type": stroke, "value": key}));
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}));
    }

    /// Chooses an option of a list by its value.
    #[track_caller]
    pub(crate) fn choose(&self, selector: &str, value: &str) {
        // A click on an option is no event that a headless browser has.
        let (selector, value) = (json!(selector), json!(value));
        let chosen = self.run(&format!(
            "const list = document.querySelector({selector}); list.value = {value};
            list.dispatchEvent(new Event('input', {{ bubbles: true }})); return list.value"
        ));
        assert_eq!(chosen, value);
    }

    /// Sends a command of the Chrome DevTools Protocol.
    #[track_caller]
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Makes the window so large, the colours dark or light, and every transition immediate.
    #[track_caller]
    pub(crate) fn look(&self, (width, height): (u32, u32), scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({"features": [
            {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}
        ]});
        self.devtools("Emulation.setEmulatedMedia", &scheme);
    }

    /// What scripts and the browser have complained of since the last look. The browser complains of each status above 399.
    #[track_caller]
    pub(crate) fn complaints(&self) -> Vec<Value> {
        let log = self.post("/se/log", &json!({"type": "browser"}));
        log.as_array().unwrap().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // It fails only if the browser has ended.
            let _ = self.send("DELETE", &self.session, &json!({}));
        }
    }
}
