//! A client of the control port: JSON lines on one connection. It shares no code with `lb`, like the client of any user.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Timeout of an answer: `lb` answers a command within a minute.
const PATIENCE: Duration = Duration::from_secs(65);
/// The longest answer.
const ANSWER_MAX: u64 = 1 << 24;
/// Commands that are sent before the first answer is read.
const BATCH: usize = 500;

/// A connection to a control port.
#[derive(Debug)]
pub(crate) struct Control {
    stream: BufReader<TcpStream>,
    token: Option<String>,
}

/// A slot of the fleet and the replica in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) hostname: String,
    pub(crate) address: Option<String>,
    pub(crate) state: String,
    /// Replacements in this slot so far.
    pub(crate) restarts: u64,
    /// The transport of a new connection, `proxy` or `handoff`; empty if `lb` does not say.
    #[serde(default)]
    pub(crate) transport: String,
}

/// Why an id goes where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Explanation {
    pub(crate) candidates: Vec<Candidate>,
    /// The hostname of the replica that gets it.
    pub(crate) pick: Option<String>,
}

/// A slot in the order in which an id tries them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) name: String,
}

#[derive(Deserialize)]
struct Replicas {
    replicas: Vec<String>,
}

#[derive(Deserialize)]
struct Backends {
    backends: Vec<Slot>,
}

impl Control {
    /// Connects to a control port.
    ///
    /// # Errors
    /// No server answers at this address.
    pub(crate) async fn connect(address: SocketAddr, token: Option<String>) -> anyhow::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.map_err(anyhow::Error::from);
        let stream = stream.and_then(|stream| Ok(stream?));
        let stream = stream.with_context(|| format!("no lb answers on {address} (its control port)"))?;
        stream.set_nodelay(true)?;
        Ok(Control { stream: BufReader::new(stream), token })
    }

    /// The hostnames of the replicas, by slot.
    pub(crate) async fn replicas(&mut self) -> anyhow::Result<Vec<String>> {
        Ok(self.ask::<Replicas>(json!({"cmd": "rep"})).await?.replicas)
    }

    /// Every slot.
    pub(crate) async fn slots(&mut self) -> anyhow::Result<Vec<Slot>> {
        Ok(self.ask::<Backends>(json!({"cmd": "backends"})).await?.backends)
    }

    /// The slots and the explanation of an id, asked for together.
    pub(crate) async fn look(&mut self, id: &str) -> anyhow::Result<(Vec<Slot>, Explanation)> {
        self.send(&[json!({"cmd": "backends"}), json!({"cmd": "explain", "id": id})]).await?;
        let slots = self.receive::<Backends>().await?.backends;
        Ok((slots, self.receive().await?))
    }

    /// The names of the slots that own these ids, in their order.
    pub(crate) async fn owners(&mut self, ids: &[String]) -> anyhow::Result<Vec<String>> {
        let mut owners = Vec::with_capacity(ids.len());
        for batch in ids.chunks(BATCH) {
            let questions: Vec<Value> = batch.iter().map(|id| json!({"cmd": "explain", "id": id})).collect();
            self.send(&questions).await?;
            for _ in batch {
                let explanation: Explanation = self.receive().await?;
                let owner = explanation.candidates.into_iter().next().context("the fleet has no slot")?;
                owners.push(owner.name);
            }
        }
        Ok(owners)
    }

    /// Adds a replica, or removes one, by its name.
    pub(crate) async fn change(&mut self, command: &str, hostname: &str) -> anyhow::Result<()> {
        let command = json!({"cmd": command, "n": 1, "hostnames": [hostname]});
        self.ask::<Replicas>(command).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(&mut self, question: Value) -> anyhow::Result<T> {
        self.send(&[question]).await?;
        self.receive().await
    }

    async fn send(&mut self, questions: &[Value]) -> anyhow::Result<()> {
        let mut text = String::new();
        for question in questions {
            let mut question = question.clone();
            if let Some(token) = &self.token {
                question["token"] = token.clone().into();
            }
            text.push_str(&question.to_string());
            text.push('\n');
        }
        timeout(PATIENCE, self.stream.write_all(text.as_bytes()))
            .await?
            .context("cannot write to the control port")
    }

    async fn receive<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        timeout(PATIENCE, (&mut self.stream).take(ANSWER_MAX).read_line(&mut line))
            .await
            .context("no answer from the control port")??;
        let mut answer: Value =
            serde_json::from_str(&line).context("cannot parse the answer of the control port as JSON")?;
        let message = answer["message"].take();
        if answer["status"] != "successful" {
            bail!("the control port refused: {}", message.as_str().unwrap_or(&line));
        }
        serde_json::from_value(message).context("unexpected answer of the control port")
    }
}
