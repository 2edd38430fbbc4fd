//! The program: its options, its environment, its log, signals and exit codes.

use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::{Client, HANG};

const PROGRAM: &str = env!("CARGO_BIN_EXE_backend");

/// The program as a child process that dies with the test.
pub(crate) struct Program {
    pub(crate) child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.kill_on_drop(true).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr }
    }

    pub(crate) async fn log_line(&mut self) -> String {
        let mut line = String::new();
        timeout(HANG, self.stderr.read_line(&mut line)).await.expect("no log line").unwrap();
        line
    }

    /// The port and the id in the log line "listening on".
    pub(crate) async fn listening(&mut self, host: &str) -> (u16, String) {
        let line = self.log_line().await;
        let (port, id) = line
            .strip_prefix(&format!("listening on {host}:"))
            .and_then(|rest| rest.trim_end().split_once(" as "))
            .unwrap_or_else(|| panic!("{line}"));
        (port.parse().unwrap(), id.to_owned())
    }

    /// All further lines, when the process has ended.
    async fn rest_of_log(&mut self) -> String {
        let mut rest = String::new();
        timeout(HANG, self.stderr.read_to_string(&mut rest)).await.expect("the log has no end").unwrap();
        rest
    }

    pub(crate) async fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id().unwrap());
        assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        timeout(HANG, self.child.wait()).await.expect("it does not end").unwrap()
    }
}

pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_remove("PORT").env_remove("SERVER_ID").env_remove("LB_HANDOFF");
    command
}

#[tokio::test]
async fn it_logs_the_real_address_and_answers_with_the_id_of_the_environment() {
    let mut program = Program::start(program(&["--listen", "127.0.0.1:0"]).env("SERVER_ID", "S7"));
    let (port, id) = program.listening("127.0.0.1").await;
    assert_eq!(id, "S7");
    let mut client = Client::connect(([127, 0, 0, 1], port).into()).await;
    client.send("GET /home HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), r#"{"message":"Hello from Server: S7","status":"successful"}"#);
}

#[tokio::test]
async fn probes_and_requests_are_not_logged() {
    let mut program = Program::start(&mut program(&["--listen", "127.0.0.1:0"]));
    let (port, _) = program.listening("127.0.0.1").await;
    for path in ["/heartbeat", "/home", "/nowhere"] {
        let mut client = Client::connect(([127, 0, 0, 1], port).into()).await;
        client.send(&format!("GET {path} HTTP/1.1\r\n\r\n")).await;
        client.answer().await;
    }
    program.signal("TERM").await;
    assert!(program.exit().await.success());
    assert_eq!(program.rest_of_log().await, "");
}

#[tokio::test]
async fn the_port_can_come_from_the_environment() {
    let mut program = Program::start(program(&[]).env("PORT", "0"));
    let (port, id) = program.listening("0.0.0.0").await;
    assert_ne!(port, 0);
    assert_eq!(id, "backend");
}

#[tokio::test]
async fn listen_overrides_the_port_of_the_environment() {
    let mut program = Program::start(program(&["--listen", "127.0.0.1:0"]).env("PORT", "1"));
    assert_ne!(program.listening("127.0.0.1").await.0, 1);
}

#[tokio::test]
async fn sigterm_and_sigint_end_it_with_0() {
    for name in ["TERM", "INT"] {
        let mut program = Program::start(&mut program(&["--listen", "127.0.0.1:0"]));
        let (port, _) = program.listening("127.0.0.1").await;
        let mut idle = Client::connect(([127, 0, 0, 1], port).into()).await;
        idle.send("GET /home HTTP/1.1\r\n\r\n").await;
        idle.answer().await;
        program.signal(name).await;
        assert_eq!(program.exit().await.code(), Some(0), "SIG{name}");
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_bound_ends_it_with_1_and_a_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut program = Program::start(&mut program(&["--listen", &address]));
    assert_eq!(program.exit().await.code(), Some(1));
    assert!(program.log_line().await.starts_with(&format!("cannot listen on {address}: ")));
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    let variables = [("PORT", ""), ("SERVER_ID", ""), ("LB_HANDOFF", "")];
    let mut program = Program::start(program(&["--listen", "127.0.0.1:0"]).envs(variables));
    program.listening("127.0.0.1").await;
}

#[tokio::test]
async fn a_bad_option_ends_it_with_2() {
    for arguments in [&["--listen", "nowhere"][..], &["--port", "65536"], &["--nope"], &["stray"]] {
        let mut program = Program::start(&mut program(arguments));
        assert_eq!(program.exit().await.code(), Some(2), "{arguments:?}");
    }
    let mut program = Program::start(program(&[]).env("PORT", "x"));
    assert_eq!(program.exit().await.code(), Some(2));
}

#[tokio::test]
async fn a_shortage_of_file_descriptors_passes_without_a_busy_loop() {
    let limited = r#"ulimit -n 16; exec "$0" --listen 127.0.0.1:0"#;
    let mut program = Program::start(Command::new("sh").args(["-c", limited, PROGRAM]));
    let (port, _) = program.listening("127.0.0.1").await;
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(Client::connect(([127, 0, 0, 1], port).into()).await);
    }
    assert!(program.log_line().await.starts_with("cannot accept: "));
    drop(crowd);
    let mut client = Client::connect(([127, 0, 0, 1], port).into()).await;
    client.send("a\n").await;
    assert_eq!(client.line().await, b"backend a\n");
    program.signal("TERM").await;
    assert_eq!(program.exit().await.code(), Some(0));
    // One line for each try. A loop without a pause would fill the pipe, which holds more than a thousand lines.
    let lines = program.rest_of_log().await.lines().count();
    assert!(lines < 500, "{lines} tries to accept");
}
