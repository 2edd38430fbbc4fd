//! Panics: each is a line of the log, and one in the control plane ends `lb`. It catches nothing.
//!
//! A worker, the control port and a session are begun again, or reset, by those who started them. A part of the control plane is
//! not: without it `lb` would go on and no longer see or do something.

use std::any::Any;

use tokio_util::sync::CancellationToken;
use tracing::error;

/// The threads of the control plane: its own, and the one that reads the output of replicas.
const CONTROL_PLANE: [&str; 2] = ["main", "output"];

/// Makes a panic a line of the log, in its form. (By default it is text on stderr, whatever the form of the log.) `failed` is
/// cancelled by one in the control plane.
pub fn log(failed: CancellationToken) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let message = panic.payload_as_str().unwrap_or("it has no message");
        let place = panic.location().map(ToString::to_string);
        error!(thread = thread.name(), place, error = %message, "panic");
        if thread.name().is_some_and(|name| CONTROL_PLANE.contains(&name)) {
            failed.cancel();
        }
    }));
}

/// The message of a panic that was caught.
#[must_use]
pub fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it has no message")
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn the_message_of_a_panic_is_its_reason() {
        let message_of = |panic: fn()| message(&*catch_unwind(panic).unwrap_err()).to_owned();
        assert_eq!(message_of(|| panic!("no epoll")), "no epoll");
        assert_eq!(message_of(|| panic!("no {}", "epoll")), "no epoll");
        assert_eq!(message_of(|| std::panic::panic_any(5)), "it has no message");
    }
}
