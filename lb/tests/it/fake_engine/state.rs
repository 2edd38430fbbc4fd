//! The state of the fake engine, and how requests change it.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use super::call::{Call, Fault, Request};
use super::wire::{Answer, chunk};
use crate::replica::Replica;

pub(super) type Labels = BTreeMap<String, String>;

/// An image, known by its name and its id.
pub(super) struct Image {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) labels: Labels,
}

impl Image {
    pub(super) fn new(name: &str, labels: Labels) -> Image {
        Image { name: name.to_owned(), id: format!("sha256:{}", new_id()), labels }
    }
}

pub(super) struct Network {
    pub(super) id: String,
    pub(super) labels: Labels,
}

impl Network {
    pub(super) fn new(labels: Labels) -> Network {
        Network { id: new_id(), labels }
    }
}

#[derive(Default)]
pub(super) struct Container {
    pub(super) name: String,
    /// The id of its image.
    pub(super) image: String,
    pub(super) labels: Labels,
    /// The name or the id of its network.
    pub(super) network: String,
    /// The network that it joined when it was started.
    pub(super) network_id: String,
    pub(super) hostname: String,
    pub(super) address: Option<Ipv4Addr>,
    /// Present while it runs.
    pub(super) replica: Option<Replica>,
    pub(super) exit_code: i64,
    pub(super) has_run: bool,
}

/// A listener to events.
pub(super) struct Listener {
    pub(super) connection: u64,
    pub(super) stream: UnixStream,
    pub(super) wanted: Request,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) images: Vec<Image>,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) volumes: BTreeMap<String, Labels>,
    pub(super) networks: BTreeMap<String, Network>,
    pub(super) faults: HashMap<Call, Fault>,
    pub(super) requests: Vec<Request>,
    /// Foreign entries in every list of containers.
    pub(super) strange_entries: Vec<Value>,
    pub(super) listeners: Vec<Listener>,
    pub(super) connections: BTreeMap<u64, UnixStream>,
    pub(super) last_connection: u64,
    pub(super) is_away: bool,
}

impl State {
    /// Performs a request without its fault.
    pub(super) fn perform(&mut self, request: &Request, port: u16) -> Answer {
        let object = request.object.as_str();
        match request.call {
            Call::Version => Answer::new(200, &json!({"Version": "fake", "ApiVersion": "1.41"})),
            Call::Ping => Answer { status: 200, body: b"OK".to_vec(), is_cut: false },
            Call::Events => Answer::new(200, &Value::Null),
            Call::Image => self.image(object),
            Call::Network => self.network(object),
            Call::MakeNetwork => self.make_network(request),
            Call::RemoveNetwork => self.remove_network(object),
            Call::Networks => self.list_networks(),
            Call::Volumes => self.list_volumes(request),
            Call::MakeVolume => self.make_volume(request),
            Call::RemoveVolume => self.remove_volume(object),
            Call::Containers => self.list(request),
            Call::Create => self.create(request),
            Call::Start => self.start(object, port),
            Call::Inspect => self.inspect(object),
            Call::Stop => self.stop(object),
            Call::Kill => self.kill(object),
            Call::Remove => self.remove_if_allowed(request),
            Call::Strange => refusal(404, "page not found"),
        }
    }
}

pub(super) fn refusal(status: u16, message: &str) -> Answer {
    Answer::new(status, &json!({ "message": message }))
}

fn nothing() -> Answer {
    Answer::new(204, &Value::Null)
}

pub(super) fn new_id() -> String {
    (0..4).map(|_| format!("{:016x}", fastrand::u64(..))).collect()
}

fn labels_of(value: &Value) -> Labels {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

/// Whether these labels match the filter of the request.
fn is_wanted(request: &Request, labels: &Labels) -> bool {
    let has = |filter: &String| match filter.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|label| label == value),
        None => labels.contains_key(filter),
    };
    request.filter("label").iter().all(has)
}

/// Images, networks and volumes.
impl State {
    fn image(&self, name: &str) -> Answer {
        match self.images.iter().find(|image| image.name == name || image.id == name) {
            Some(image) => Answer::new(200, &json!({"Id": image.id, "Config": {"Labels": image.labels}})),
            None => refusal(404, &format!("No such image: {name}")),
        }
    }

    /// The networks that a name means: as in Docker, the one of that name, or else those whose ids begin with it.
    fn networks_for(&self, term: &str) -> Vec<(&String, &Network)> {
        let named = self.networks.get_key_value(term).into_iter().collect::<Vec<_>>();
        let begin = || self.networks.iter().filter(|(_, network)| network.id.starts_with(term)).collect();
        if named.is_empty() { begin() } else { named }
    }

    fn network(&self, term: &str) -> Answer {
        match self.networks_for(term)[..] {
            [] => refusal(404, &format!("network {term} not found")),
            [(name, network)] => Answer::new(200, &shown(name, network)),
            _ => refusal(400, &format!("network {term} is ambiguous")),
        }
    }

    fn list_networks(&self) -> Answer {
        Answer::new(200, &self.networks.iter().map(|(name, network)| shown(name, network)).collect())
    }

    fn make_network(&mut self, request: &Request) -> Answer {
        let network = Network::new(labels_of(&request.body["Labels"]));
        let id = network.id.clone();
        self.networks.insert(request.object.clone(), network);
        Answer::new(201, &json!({"Id": id, "Warning": ""}))
    }

    fn remove_network(&mut self, term: &str) -> Answer {
        let [(name, network)] = self.networks_for(term)[..] else {
            return refusal(404, &format!("network {term} not found"));
        };
        let (name, id) = (name.clone(), network.id.clone());
        if self.containers.values().any(|container| container.network_id == id && container.replica.is_some())
        {
            return refusal(403, &format!("network {name} has active endpoints"));
        }
        self.networks.remove(&name);
        nothing()
    }

    fn list_volumes(&self, request: &Request) -> Answer {
        let wanted = self.volumes.iter().filter(|(_, labels)| is_wanted(request, labels));
        let volumes: Vec<Value> = wanted.map(|(name, labels)| volume(name, labels)).collect();
        Answer::new(200, &json!({"Volumes": volumes, "Warnings": null}))
    }

    /// A volume that already has this name stays as it is.
    fn make_volume(&mut self, request: &Request) -> Answer {
        let name = &request.object;
        if !self.volumes.contains_key(name) {
            self.volumes.insert(name.clone(), labels_of(&request.body["Labels"]));
            self.tell("volume", "create", name, &json!({"driver": "local"}));
        }
        Answer::new(201, &volume(name, &self.volumes[name]))
    }

    pub(super) fn remove_volume(&mut self, name: &str) -> Answer {
        if self.volumes.remove(name).is_none() {
            return refusal(404, &format!("get {name}: no such volume"));
        }
        self.tell("volume", "destroy", name, &json!({"driver": "local"}));
        nothing()
    }
}

fn shown(name: &str, network: &Network) -> Value {
    json!({"Name": name, "Id": network.id, "Labels": network.labels, "Created": "2026"})
}

fn volume(name: &str, labels: &Labels) -> Value {
    json!({"Name": name, "Driver": "local", "Mountpoint": "", "Labels": labels, "Scope": "local", "Options": {}})
}

/// Containers.
impl State {
    fn list(&self, request: &Request) -> Answer {
        let wanted = self.containers.iter().filter(|(_, container)| is_wanted(request, &container.labels));
        let listed = wanted.map(|(id, container)| {
            let names = [format!("/{}", container.name)];
            json!({
                "Id": id, "Names": names, "Labels": container.labels, "State": container.status(), "ImageID": container.image,
                "NetworkSettings": container.networks(),
            })
        });
        Answer::new(200, &listed.chain(self.strange_entries.iter().cloned()).collect())
    }

    fn create(&mut self, request: &Request) -> Answer {
        let (name, body) = (request.object.clone(), &request.body);
        if self.containers.values().any(|container| container.name == name) {
            return refusal(409, &format!("Conflict. The container name \"/{name}\" is already in use"));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let wanted = text(&body["Image"]);
        let Some(image) = self.images.iter().find(|image| image.name == wanted) else {
            return refusal(404, &format!("No such image: {wanted}"));
        };
        // A container inherits the labels of its image.
        let mut labels = image.labels.clone();
        labels.extend(labels_of(&body["Labels"]));
        let container = Container {
            name,
            image: image.id.clone(),
            labels,
            network: text(&body["HostConfig"]["NetworkMode"]),
            hostname: text(&body["Hostname"]),
            ..Container::default()
        };
        let id = new_id();
        self.containers.insert(id.clone(), container);
        self.tell_of(&id, "create", &[]);
        Answer::new(201, &json!({"Id": id, "Warnings": []}))
    }

    pub(super) fn start(&mut self, id: &str, port: u16) -> Answer {
        let Some(container) = self.containers.get(id) else { return no_container(id) };
        if container.replica.is_some() {
            return Answer::new(304, &Value::Null);
        }
        let [(_, network)] = self.networks_for(&container.network)[..] else {
            return refusal(404, &format!("network {} not found", container.network));
        };
        self.run(id, &network.id.clone(), port);
        if self.faults.get(&Call::Start) == Some(&Fault::Exit) {
            self.end(id, 3);
        }
        nothing()
    }

    pub(super) fn run(&mut self, id: &str, network: &str, port: u16) {
        let container = self.containers.get_mut(id).unwrap();
        network.clone_into(&mut container.network_id);
        let address = free_address(port);
        let hostname = container.hostname.clone();
        // It answers with its hostname and the line, then echoes everything.
        let replica = Replica::start_at(&format!("{address}:{port}"), move |mut stream, line| {
            let _ = stream.write_all(&[hostname.as_bytes(), b" ", &line].concat());
            let mut reader = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut reader, &mut stream);
        });
        (container.address, container.replica, container.has_run) = (Some(address), Some(replica), true);
        self.tell_of(id, "start", &[]);
    }

    pub(super) fn end(&mut self, id: &str, exit_code: i64) {
        let container = self.containers.get_mut(id).unwrap();
        let Some(replica) = container.replica.take() else { return };
        replica.leave();
        container.exit_code = exit_code;
        self.tell_of(id, "die", &[("exitCode", &exit_code.to_string())]);
    }

    fn inspect(&self, id: &str) -> Answer {
        let Some(container) = self.containers.get(id) else { return no_container(id) };
        Answer::new(
            200,
            &json!({
                "Id": id,
                "Name": format!("/{}", container.name),
                "State": {
                    "Status": container.status(), "Running": container.replica.is_some(), "Pid": 0,
                    "ExitCode": container.exit_code, "Error": "", "OOMKilled": false,
                },
                "NetworkSettings": container.networks(),
            }),
        )
    }

    fn stop(&mut self, id: &str) -> Answer {
        if !self.containers.contains_key(id) {
            return no_container(id);
        }
        self.end(id, 0);
        nothing()
    }

    fn kill(&mut self, id: &str) -> Answer {
        match self.containers.get(id).map(|container| container.replica.is_some()) {
            None => return no_container(id),
            Some(false) => return refusal(409, &format!("Container {id} is not running")),
            Some(true) => self.end(id, 137),
        }
        nothing()
    }

    fn remove_if_allowed(&mut self, request: &Request) -> Answer {
        let id = request.object.as_str();
        let runs = self.containers.get(id).is_some_and(|container| container.replica.is_some());
        if runs && request.query.get("force").is_none_or(|force| force != "true") {
            return refusal(409, &format!("You cannot remove a running container {id}"));
        }
        self.remove(id)
    }

    pub(super) fn remove(&mut self, id: &str) -> Answer {
        if !self.containers.contains_key(id) {
            return no_container(id);
        }
        self.end(id, 137);
        self.tell_of(id, "destroy", &[]);
        self.containers.remove(id);
        nothing()
    }

    fn tell_of(&mut self, id: &str, action: &str, more: &[(&str, &str)]) {
        let container = &self.containers[id];
        let mut attributes = container.labels.clone();
        attributes.insert("name".to_owned(), container.name.clone());
        attributes.extend(more.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        self.tell("container", action, id, &json!(attributes));
    }

    /// Sends an event to the listeners that subscribed to its kind.
    fn tell(&mut self, kind: &str, action: &str, id: &str, attributes: &Value) {
        if self.faults.get(&Call::Events) == Some(&Fault::Mute) {
            return;
        }
        let actor = json!({"ID": id, "Attributes": attributes});
        let event = json!({"Type": kind, "Action": action, "Actor": actor, "scope": "local", "time": 1});
        let text = chunk(&format!("{event}\n"));
        for listener in &mut self.listeners {
            let wants =
                |filter, value: &str| listener.wanted.filter(filter).iter().any(|wanted| wanted == value);
            if wants("type", kind) && wants("event", action) {
                let _ = listener.stream.write_all(&text);
            }
        }
    }
}

impl Container {
    fn status(&self) -> &'static str {
        match (&self.replica, self.has_run) {
            (Some(_), _) => "running",
            (None, true) => "exited",
            (None, false) => "created",
        }
    }

    fn networks(&self) -> Value {
        let address = self.address.filter(|_| self.replica.is_some());
        let address = address.map_or_else(String::new, |address| address.to_string());
        json!({"Networks": {self.network.as_str(): {"IPAddress": address, "NetworkID": self.network_id}}})
    }
}

fn no_container(id: &str) -> Answer {
    refusal(404, &format!("No such container: {id}"))
}

/// A loopback address on which this port is free.
fn free_address(port: u16) -> Ipv4Addr {
    let mut addresses =
        (0..100).map(|_| Ipv4Addr::new(127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255)));
    addresses.find(|&address| TcpListener::bind((address, port)).is_ok()).unwrap()
}
