//! The connection between an `lb` and its successor: messages with open files (`SCM_RIGHTS`, unix(7)), each with a deadline. It blocks.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use socket2::SockRef;

use super::message::Message;

/// The most files that go with one message: fewer than the kernel takes (`SCM_MAX_FD`, 253).
pub(super) const MOST_FILES: usize = 128;
/// The longest part of a message.
const PART: usize = 32 * 1024;
/// The longest message.
const LONGEST: usize = 64 << 20;
/// The first byte of a part: more of the message follows, or this is its end.
const MORE: u8 = b'+';
const LAST: u8 = b'.';
/// How long sending a part may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One end of the connection. A part of a message is a packet.
#[derive(Debug)]
pub(super) struct Wire(OwnedFd);

impl Wire {
    /// Both ends of a new connection.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Wire(one), Wire(other)))
    }

    /// The end that this process has got as a file.
    ///
    /// # Errors
    /// It is no such connection.
    pub(super) fn of(file: OwnedFd) -> io::Result<Self> {
        let socket = SockRef::from(&file);
        let is_it = socket.r#type()? == socket2::Type::SEQPACKET && socket.domain()? == socket2::Domain::UNIX;
        if is_it { Ok(Wire(file)) } else { Err(ErrorKind::InvalidInput.into()) }
    }

    /// This end, for another process.
    pub(super) fn into_file(self) -> OwnedFd {
        self.0
    }

    /// Ends it: who waits for a message gets none.
    pub(super) fn close(&self) {
        // It fails if the other end is gone.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }

    /// Sends a message with these files, at most [`MOST_FILES`].
    ///
    /// # Errors
    /// The other end is gone, or reads nothing in time.
    pub(super) fn send(&self, message: &Message, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        SockRef::from(&self.0).set_write_timeout(Some(PATIENCE))?;
        let text = serde_json::to_vec(message)?;
        let parts = text.chunks(PART).count();
        for (number, part) in (1..).zip(text.chunks(PART)) {
            let is_last = number == parts;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if is_last && !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
                return Err(ErrorKind::InvalidInput.into());
            }
            let kind = [if is_last { LAST } else { MORE }];
            sendmsg(&self.0, &[IoSlice::new(&kind), IoSlice::new(part)], &mut control, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// Waits for the next message and its files; `None` if the other end is gone.
    ///
    /// # Errors
    /// None has come until `deadline`, or it cannot be read.
    pub(super) fn receive(&self, deadline: Instant) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let (mut text, mut files) = (Vec::new(), Vec::new());
        let mut part = vec![0; PART + 1];
        let mut was_reset = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            SockRef::from(&self.0).set_read_timeout(Some(left))?;
            let length = match self.receive_part(&mut part, &mut files) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // The other end has left something unread. What it has sent before that may still be there.
                Err(error) if error.kind() == ErrorKind::ConnectionReset && !was_reset => {
                    was_reset = true;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                read => read?,
            };
            let Some((kind @ (&MORE | &LAST), bytes)) = part[..length].split_first() else {
                return if length == 0 { Ok(None) } else { Err(ErrorKind::InvalidData.into()) };
            };
            text.extend_from_slice(bytes);
            if text.len() > LONGEST {
                return Err(ErrorKind::InvalidData.into());
            }
            if *kind == LAST {
                return Ok(Some((serde_json::from_slice(&text)?, files)));
            }
        }
    }

    fn receive_part(&self, part: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(&self.0, &mut [IoSliceMut::new(part)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                files.extend(more);
            }
        }
        // Files were left out when this process has too many.
        if got.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC) {
            return Err(io::Error::other("files are missing: expected a higher limit of open files"));
        }
        Ok(got.bytes)
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_message_arrives_whole_with_its_files() {
        let (one, other) = Wire::pair().unwrap();
        let long = "x".repeat(10 * PART);
        let sent = long.clone();
        let sender = std::thread::spawn(move || {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(b"through the pipe").unwrap();
            let files = vec![reader.as_fd(); MOST_FILES];
            one.send(&Message::Failed { reason: sent }, &files).unwrap();
            one.send(&Message::End {}, &[]).unwrap();
        });
        let (message, mut files) = other.receive(soon()).unwrap().unwrap();
        assert!(matches!(message, Message::Failed { reason } if reason == long));
        assert_eq!(files.len(), MOST_FILES);
        let file = File::from(files.pop().unwrap());
        drop(files);
        assert!(matches!(other.receive(soon()).unwrap(), Some((Message::End {}, files)) if files.is_empty()));
        sender.join().unwrap();
        assert_eq!(std::io::read_to_string(file).unwrap(), "through the pipe");
        assert!(other.receive(soon()).unwrap().is_none(), "the other end is gone");
    }

    #[test]
    fn silence_and_what_is_no_message_are_errors() {
        let (one, other) = Wire::pair().unwrap();
        let late = other.receive(Instant::now() + Duration::from_millis(10)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        rustix::net::send(&one.0, b".{\"eclipse\":{}}", SendFlags::empty()).unwrap();
        assert!(other.receive(soon()).is_err());
        assert!(Wire::of(File::open("/dev/null").unwrap().into()).is_err());
    }
}
