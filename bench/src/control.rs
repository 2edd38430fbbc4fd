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
    /// Its node and its task, in a Swarm.
    pub(crate) node: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) state: String,
    /// When that state began, RFC 3339; empty if `lb` does not say.
    #[serde(default)]
    pub(crate) since: String,
    /// Replacements in this slot so far.
    pub(crate) restarts: u64,
    /// The transport of a new connection, `proxy` or `handoff`; empty if `lb` does not say.
    #[serde(default)]
    pub(crate) transport: String,
    #[serde(default)]
    pub(crate) connections: Connections,
}

/// The sessions of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Connections {
    /// Those that are open.
    pub(crate) open: u64,
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
    #[serde(default)]
    spares: Vec<Spare>,
    epoch: Option<u64>,
}

#[derive(Deserialize)]
struct Spare {
    state: String,
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

    /// Every slot, if all slots and spares are up.
    pub(crate) async fn settled(&mut self) -> anyhow::Result<Option<Vec<Slot>>> {
        let Backends { backends, spares, .. } = self.ask(json!({"cmd": "backends"})).await?;
        let mut states =
            backends.iter().map(|slot| &slot.state).chain(spares.iter().map(|spare| &spare.state));
        let is_settled = states.all(|state| state == "up");
        Ok(is_settled.then_some(backends))
    }

    /// The version of what several `lb`s agree on.
    pub(crate) async fn epoch(&mut self) -> anyhow::Result<u64> {
        let epoch = self.ask::<Backends>(json!({"cmd": "backends"})).await?.epoch;
        epoch.context("this lb shares its fleet with no other: it has no epoch")
    }

    /// The slots and the explanation of an id, asked for together.
    pub(crate) async fn look(&mut self, id: &str) -> anyhow::Result<(Vec<Slot>, Explanation)> {
        self.send(&[json!({"cmd": "backends"}), json!({"cmd": "explain", "id": id})]).await?;
        let slots = self.receive::<Backends>().await?.backends;
        Ok((slots, self.receive().await?))
    }

    /// The names of the slots that own these ids, in their order.
    pub(crate) async fn owners(&mut self, ids: &[String]) -> anyhow::Result<Vec<String>> {
        let candidates = self.candidates(ids).await?.into_iter();
        let owners = candidates.map(|slots| slots.into_iter().next().context("the fleet has no slot"));
        owners.collect()
    }

    /// For each of these ids, the names of the slots in the order in which they are tried.
    pub(crate) async fn candidates(&mut self, ids: &[String]) -> anyhow::Result<Vec<Vec<String>>> {
        let mut all = Vec::with_capacity(ids.len());
        for batch in ids.chunks(BATCH) {
            let questions: Vec<Value> = batch.iter().map(|id| json!({"cmd": "explain", "id": id})).collect();
            self.send(&questions).await?;
            for _ in batch {
                let explanation: Explanation = self.receive().await?;
                all.push(explanation.candidates.into_iter().map(|slot| slot.name).collect());
            }
        }
        Ok(all)
    }

    /// How keys are mapped: the fields of a change of the mapping, and `seeded`.
    pub(crate) async fn mapping(&mut self) -> anyhow::Result<Value> {
        self.ask(json!({"cmd": "mapping"})).await
    }

    /// Changes fields of the mapping.
    pub(crate) async fn set_mapping(&mut self, fields: &Value) -> anyhow::Result<()> {
        let mut command = fields.clone();
        command["cmd"] = "mapping".into();
        self.ask::<Value>(command).await.map(drop)
    }

    /// Adds replicas with these names.
    pub(crate) async fn add(&mut self, names: &[String]) -> anyhow::Result<()> {
        self.change("add", names).await
    }

    /// Removes slots by their names, or by the hostnames of their replicas.
    pub(crate) async fn remove(&mut self, names: &[String]) -> anyhow::Result<()> {
        self.change("rm", names).await
    }

    /// Removes slots like [`Control::remove`]. Their sessions may go on for as long as `drain`, and are reset then.
    pub(crate) async fn drain(&mut self, names: &[String], drain: Duration) -> anyhow::Result<()> {
        let drain = format!("{}ms", drain.as_millis());
        let command = json!({"cmd": "rm", "n": names.len(), "hostnames": names, "drain": drain});
        self.ask::<Replicas>(command).await.map(drop)
    }

    async fn change(&mut self, command: &str, names: &[String]) -> anyhow::Result<()> {
        let command = json!({"cmd": command, "n": names.len(), "hostnames": names});
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
