//! A child of this process, or one of another process that was handed over: both end.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;

use super::line::Line;

/// What runs.
pub(super) enum Body {
    /// A child of this process.
    Own(Child),
    /// A child of its guardian.
    Ward(Ward),
}

impl Body {
    /// Waits for its end.
    ///
    /// # Errors
    /// It is not known how it has ended.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Body::Own(child) => child.wait().await,
            Body::Ward(ward) => ward.wait().await,
        }
    }
}

/// A child of another process.
pub(super) struct Ward {
    process: AsyncFd<OwnedFd>,
    id: i32,
    line: Arc<Line>,
}

impl Ward {
    /// The process of this pidfd and number, of which the line tells how it has ended.
    ///
    /// # Errors
    /// Files or memory are short.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, because some types may close their file; this one owns it"
    )]
    pub(super) fn new(process: OwnedFd, id: i32, line: Arc<Line>) -> io::Result<Self> {
        Ok(Ward { process: AsyncFd::with_interest(process, Interest::READABLE)?, id, line })
    }

    async fn wait(&self) -> io::Result<ExitStatus> {
        // A pidfd becomes readable at the end, and stays so (pidfd_open(2)).
        drop(self.process.readable().await?);
        self.line.status(self.id).await
    }
}
