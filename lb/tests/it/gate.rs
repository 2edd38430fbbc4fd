//! Demo replicas that begin when a test says so.

/// A shell command that runs `before` and then becomes a demo replica.
pub(crate) fn demo_after(before: &str) -> String {
    format!("{before} exec {} replica --parent $PPID", env!("CARGO_BIN_EXE_lb"))
}

/// A file that a command waits for: to create it is to open the gate.
pub(crate) struct Gate(tempfile::TempDir);

impl Gate {
    pub(crate) fn new() -> Gate {
        Gate(tempfile::TempDir::new().unwrap())
    }

    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.0.path().join("open")
    }

    pub(crate) fn open(&self) {
        std::fs::write(self.file(), "").unwrap();
    }

    pub(crate) fn close(&self) {
        std::fs::remove_file(self.file()).unwrap();
    }

    /// A demo replica that begins to listen when the gate is open.
    pub(crate) fn command(&self) -> String {
        demo_after(&format!("until test -e {}; do sleep 0.02; done;", self.file().display()))
    }
}
