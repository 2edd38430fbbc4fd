//! Other programs that tests run: HAProxy and nginx. Without one its test is skipped with a line that says so; with `CI=true` that is a
//! failure.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use crate::harness::eventually;

/// A program that listens at an address, ended when it is dropped. Its files go with it.
pub(crate) struct Front {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Front {
    /// Starts what `command` makes of an address and a folder, and waits until it accepts.
    pub(crate) fn start(command: impl Fn(SocketAddr, &Path) -> Command) -> Front {
        let (folder, address) = (tempfile::TempDir::new().unwrap(), free_address());
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = command(address, folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut front = Front { child: command.spawn().unwrap(), address, folder };
        eventually("a program that accepts", || {
            let ended = front.child.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?}: {ended:?}");
            TcpStream::connect(address).ok()
        });
        front
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of the program ---\n{}", self.log());
        }
    }
}

/// A port that is free on a loopback address of its own, so that it stays free until the program
/// binds it.
pub(crate) fn free_address() -> SocketAddr {
    static USED: AtomicU8 = AtomicU8::new(100);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, USED.fetch_add(1, Ordering::Relaxed), high, low);
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap()
}

/// The line that loads the stream module of this nginx, empty where it is built in; `None` if there is none.
pub(crate) fn load_stream(nginx: &Path) -> Option<String> {
    let build = String::from_utf8(Command::new(nginx).arg("-V").output().unwrap().stderr).unwrap();
    if build.split_whitespace().any(|option| option == "--with-stream") {
        return Some(String::new());
    }
    let folder = build.split_whitespace().find_map(|option| option.strip_prefix("--modules-path="))?;
    let module = Path::new(folder).join("ngx_stream_module.so");
    module.is_file().then(|| format!("load_module \"{}\";", module.display()))
}

/// A program on the PATH, or where servers are.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

pub(crate) fn skipped(why: &str) {
    #[expect(clippy::disallowed_methods, reason = "that these tests may not be skipped is said by CI alone")]
    let is_required = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_required, "{why}");
    eprintln!("skipped: {why}");
}
