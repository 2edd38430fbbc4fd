//! Asks the control port whether `lb` hands connections over to every replica. Nothing is sent to the data port, and nothing
//! is measured.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::control::{Control, Slot};

/// The name of the transport in the answer of `lb`.
const HANDED_OVER: &str = "handoff";
/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `lb` would hand a new connection over, whichever replica it is for.
///
/// # Errors
/// `patience` is over; the message names the replicas that are proxied.
pub(super) async fn wait(control: SocketAddr, patience: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match check(control).await {
            Err(_) if begun.elapsed() < patience => sleep(PAUSE).await,
            last => return last,
        }
    }
}

/// Checks that `lb` would hand a new connection over now, whichever replica it is for: a proxy must never be measured in the
/// name of hand-off.
///
/// # Errors
/// Names the replicas that are proxied.
pub(super) async fn check(control: SocketAddr) -> anyhow::Result<()> {
    let slots = Control::connect(control, None).await?.slots().await?;
    ensure!(!slots.is_empty(), "lb has no replicas to hand over to");
    let proxied = proxied(&slots);
    ensure!(proxied.is_empty(), "lb does not hand over to {}", proxied.join(", "));
    Ok(())
}

/// The replicas that are proxied, each with its transport.
fn proxied(slots: &[Slot]) -> Vec<String> {
    let shown = |slot: &Slot| match slot.transport.as_str() {
        "" => format!("{} (this lb does not name its transport)", slot.name),
        transport => format!("{} ({transport})", slot.name),
    };
    slots.iter().filter(|slot| slot.transport != HANDED_OVER).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    /// A control port that answers each connection with the next of these transports of `s1`, and the last again and again.
    async fn lb(transports: &'static [&str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for number in 0.. {
                let mut stream = BufReader::new(listener.accept().await.unwrap().0);
                stream.read_line(&mut String::new()).await.unwrap();
                let transport = transports[number.min(transports.len() - 1)];
                let slot = format!(
                    r#"{{"name":"s1","hostname":"s1","address":null,"state":"up","restarts":0{transport}}}"#
                );
                let answer =
                    format!(r#"{{"message":{{"backends":[{slot}]}},"status":"successful"}}{}"#, '\n');
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn hand_off_is_awaited() {
        let lb = lb(&["", r#","transport":"proxy""#, r#","transport":"handoff""#]).await;
        wait(lb, Duration::from_secs(60)).await.unwrap();
        check(lb).await.unwrap();
    }

    #[tokio::test]
    async fn replicas_that_are_proxied_are_named() {
        let proxying = lb(&[r#","transport":"proxy""#]).await;
        let error = wait(proxying, Duration::from_millis(50)).await.unwrap_err().to_string();
        assert_eq!(error, "lb does not hand over to s1 (proxy)");
        let error = check(lb(&[""]).await).await.unwrap_err().to_string();
        assert_eq!(error, "lb does not hand over to s1 (this lb does not name its transport)");
    }
}
