//! A small container engine in the test's own process. It speaks as much of the Docker API as `lb` needs, on a Unix
//! socket; its containers are replicas with loopback addresses of their own. It fails on demand, and records every
//! request.

use std::io::{BufReader, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::{Value, json};

use super::call::{Call, Fault, Request};
use super::state::{Container, Image, Labels, Listener, Network, State, new_id, refusal};
use super::wire::{Answer, Asked, ENDLESS, chunk, next_request};
use crate::harness::{PATIENCE, eventually};
use crate::replica::Replica;

/// A container as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) hostname: String,
    pub(super) fleet: String,
    pub(super) slot: String,
    pub(super) runs: bool,
}

/// What the threads of the engine share.
struct Shared {
    state: Mutex<State>,
    /// The faults have changed.
    changed: Condvar,
    /// The port of every container.
    port: u16,
}

/// A running engine. Dropping it ends its containers, and fails the test if the engine was asked for something strange.
pub(super) struct Engine {
    shared: Arc<Shared>,
    directory: tempfile::TempDir,
    listener: Mutex<Option<UnixListener>>,
    /// Keeps the port from being bound on all addresses.
    _port: TcpListener,
}

impl Engine {
    /// An engine with one image.
    pub(super) fn start(image: &str) -> Engine {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State { images: vec![Image::new(image, Labels::new())], ..State::default() }),
            changed: Condvar::new(),
            port: port.local_addr().unwrap().port(),
        });
        let directory = tempfile::TempDir::new().unwrap();
        let engine = Engine { shared, directory, listener: Mutex::default(), _port: port };
        engine.come_back();
        engine
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    /// The value for `DOCKER_HOST`.
    pub(super) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The port of every container.
    pub(super) fn port(&self) -> u16 {
        self.shared.port
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Listens for connections.
    pub(super) fn come_back(&self) {
        self.state().is_away = false;
        let listener = UnixListener::bind(self.socket()).unwrap();
        let acceptor = listener.try_clone().unwrap();
        *self.listener.lock().unwrap() = Some(listener);
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            for stream in acceptor.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.converse(&stream));
            }
        });
    }

    /// Closes every connection and accepts no more.
    pub(super) fn go_away(&self) {
        let listener = self.listener.lock().unwrap().take();
        if let Some(listener) = listener {
            socket2::SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
            std::fs::remove_file(self.socket()).unwrap();
        }
        let mut state = self.state();
        state.is_away = true;
        state.listeners.clear();
        state.connections.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    /// From now on this call fails.
    pub(super) fn fail(&self, call: Call, fault: Fault) {
        self.state().faults.insert(call, fault);
        self.shared.changed.notify_all();
    }

    /// Ends all faults.
    pub(super) fn heal(&self) {
        self.state().faults.clear();
        self.shared.changed.notify_all();
    }

    /// All requests so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// The number of requests with one of these calls.
    pub(super) fn count(&self, calls: &[Call]) -> usize {
        self.state().requests.iter().filter(|request| calls.contains(&request.call)).count()
    }

    /// Every container, by name.
    pub(super) fn containers(&self) -> Vec<Seen> {
        let state = self.state();
        let label = |container: &Container, name| container.labels.get(name).cloned().unwrap_or_default();
        let seen = state.containers.iter().map(|(id, container)| Seen {
            id: id.clone(),
            name: container.name.clone(),
            hostname: container.hostname.clone(),
            fleet: label(container, "lb.fleet"),
            slot: label(container, "lb.slot.name"),
            runs: container.replica.is_some(),
        });
        let mut seen: Vec<Seen> = seen.collect();
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        seen
    }

    pub(super) fn volumes(&self) -> Vec<String> {
        self.state().volumes.keys().cloned().collect()
    }

    /// The value of this label on each volume that has it.
    pub(super) fn volume_labels(&self, name: &str) -> Vec<String> {
        self.state().volumes.values().filter_map(|labels| labels.get(name).cloned()).collect()
    }

    /// Removes all volumes, as a user might.
    pub(super) fn remove_volumes(&self) {
        let mut state = self.state();
        let names: Vec<String> = state.volumes.keys().cloned().collect();
        names.iter().for_each(|name| drop(state.remove_volume(name)));
    }

    pub(super) fn networks(&self) -> Vec<String> {
        self.state().networks.keys().cloned().collect()
    }

    /// Adds a foreign network.
    pub(super) fn add_network(&self, name: &str) {
        self.state().networks.insert(name.to_owned(), Network::new(Labels::new()));
    }

    /// The id of a network.
    pub(super) fn network_id(&self, name: &str) -> String {
        self.state().networks[name].id.clone()
    }

    /// Adds an image with labels.
    pub(super) fn add_image(&self, name: &str, labels: &[(&str, &str)]) {
        self.state().images.push(Image::new(name, owned(labels)));
    }

    /// The networks of all containers that run, by id.
    pub(super) fn joined(&self) -> Vec<String> {
        let state = self.state();
        let running = state.containers.values().filter(|container| container.replica.is_some());
        running.map(|container| container.network_id.clone()).collect()
    }

    /// The labels of the container with this hostname.
    pub(super) fn labels(&self, hostname: &str) -> Labels {
        let id = self.id_of(hostname);
        self.state().containers[&id].labels.clone()
    }

    /// Renames the container with this hostname, as a user might.
    #[track_caller]
    pub(super) fn rename(&self, hostname: &str, name: &str) {
        let id = self.id_of(hostname);
        name.clone_into(&mut self.state().containers.get_mut(&id).unwrap().name);
    }

    /// Removes a network while containers use it.
    pub(super) fn remove_network(&self, name: &str) {
        self.state().networks.remove(name).unwrap();
    }

    /// Adds a container that runs, with these labels of its own; its id.
    pub(super) fn run(&self, name: &str, network: &str, labels: &[(&str, &str)]) -> String {
        let image = self.state().images[0].name.clone();
        self.run_from(&image, name, network, labels)
    }

    /// Adds a container of an image that runs, with these labels beside those of the image; its id.
    pub(super) fn run_from(&self, image: &str, name: &str, network: &str, more: &[(&str, &str)]) -> String {
        let mut state = self.state();
        let image = state.images.iter().find(|known| known.name == image).unwrap();
        let mut labels = image.labels.clone();
        labels.extend(owned(more));
        let container = Container {
            name: name.to_owned(),
            image: image.id.clone(),
            labels,
            network: network.to_owned(),
            hostname: name.to_owned(),
            ..Container::default()
        };
        let (id, network) = (new_id(), state.networks[network].id.clone());
        state.containers.insert(id.clone(), container);
        state.run(&id, &network, self.shared.port);
        id
    }

    /// Adds an entry to every list of containers from now on, whatever filter a request has.
    pub(super) fn list_strangely(&self, entry: Value) {
        self.state().strange_entries.push(entry);
    }

    /// Ends the process of the container with this hostname.
    #[track_caller]
    pub(super) fn kill(&self, hostname: &str) {
        let id = self.id_of(hostname);
        self.state().end(&id, 137);
    }

    /// Removes the container with this hostname, as a user might.
    #[track_caller]
    pub(super) fn remove(&self, hostname: &str) {
        let id = self.id_of(hostname);
        self.state().remove(&id);
    }

    /// Restarts the ended container with this hostname, as a user might.
    #[track_caller]
    pub(super) fn start_again(&self, hostname: &str) {
        let id = self.id_of(hostname);
        self.state().start(&id, self.shared.port);
    }

    /// The id of the container with this hostname.
    #[track_caller]
    fn id_of(&self, hostname: &str) -> String {
        let found = self.containers().into_iter().find(|seen| seen.hostname == hostname);
        found.unwrap_or_else(|| panic!("there is no {hostname}")).id
    }

    /// Waits until exactly `n` connections listen to events.
    #[track_caller]
    pub(super) fn wait_for_listeners(&self, n: usize) {
        eventually("listeners", || (self.state().listeners.len() == n).then_some(()));
    }

    /// Sends this text to every listener to events.
    pub(super) fn say(&self, text: &str) {
        self.state().listeners.iter_mut().for_each(|listener| drop(listener.stream.write_all(&chunk(text))));
    }

    /// Ends every stream of events, in order or in the middle of a chunk.
    pub(super) fn end_events(&self, is_orderly: bool) {
        for mut listener in self.state().listeners.drain(..) {
            let last: &[u8] = if is_orderly { b"0\r\n\r\n" } else { b"ff\r\n{\"Type\":" };
            let _ = listener.stream.write_all(last);
            let _ = listener.stream.shutdown(Shutdown::Both);
        }
    }
}

fn owned(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.heal();
        self.go_away();
        self.state()
            .containers
            .values()
            .filter_map(|container| container.replica.as_ref())
            .for_each(Replica::leave);
        if !thread::panicking() {
            let requests = self.requests();
            let strange: Vec<&Request> =
                requests.iter().filter(|request| request.call == Call::Strange).collect();
            assert!(strange.is_empty(), "lb must not ask for this: {strange:?}");
        }
    }
}

impl Shared {
    /// A panic in one thread does not stop the others.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request after the other.
    fn converse(&self, stream: &UnixStream) {
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let Some(number) = self.welcome(stream) else { return };
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(asked) = next_request(&mut reader) {
            if !self.serve(number, asked, stream) {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
        let mut state = self.state();
        state.connections.remove(&number);
        state.listeners.retain(|listener| listener.connection != number);
    }

    /// The number of a new connection, unless the engine has gone away in the meantime.
    fn welcome(&self, stream: &UnixStream) -> Option<u64> {
        let mut state = self.state();
        if state.is_away {
            return None;
        }
        state.last_connection += 1;
        let number = state.last_connection;
        state.connections.insert(number, stream.try_clone().unwrap());
        Some(number)
    }

    /// Answers one request; whether the connection goes on.
    fn serve(&self, connection: u64, asked: Asked, mut stream: &UnixStream) -> bool {
        let (call, object) = Call::of(&asked);
        let request = Request { call, object, query: asked.query, body: asked.body };
        self.state().requests.push(request.clone());
        let Some(answer) = self.answer(&request) else { return false };
        if call != Call::Events || answer.status != 200 {
            return answer.send(&mut stream.try_clone().unwrap()).is_ok() && !answer.is_cut;
        }
        // Under one lock, so that the listener misses no event in between.
        let mut state = self.state();
        let is_there = stream.write_all(ENDLESS).is_ok();
        state.listeners.push(Listener { connection, stream: stream.try_clone().unwrap(), wanted: request });
        is_there
    }

    /// Performs a request, with the fault of its call if there is one; `None` if no answer is sent.
    fn answer(&self, request: &Request) -> Option<Answer> {
        let call = request.call;
        let fault = self.state().faults.get(&call).copied();
        let spoilt = |body: &[u8]| Answer { status: 200, body: body.to_vec(), is_cut: false };
        match fault {
            None | Some(Fault::Exit | Fault::Mute) => Some(self.state().perform(request, self.port)),
            Some(Fault::Status(status)) => Some(refusal(status, "not today")),
            Some(Fault::Hang) => {
                self.wait_while(call, Fault::Hang);
                None
            }
            Some(Fault::Late) => {
                self.wait_while(call, Fault::Late);
                Some(self.state().perform(request, self.port))
            }
            Some(done) => {
                let answer = self.state().perform(request, self.port);
                match done {
                    Fault::Garbage => Some(spoilt(b"<html>no engine</html>")),
                    Fault::Shape => Some(spoilt(b"[42]")),
                    Fault::Id(id) => Some(Answer::new(201, &json!({"Id": id, "Warnings": []}))),
                    Fault::Cut => Some(Answer { is_cut: true, ..answer }),
                    _ => None,
                }
            }
        }
    }

    fn wait_while(&self, call: Call, fault: Fault) {
        let state = self.state();
        let lasts = |state: &mut State| state.faults.get(&call) == Some(&fault);
        let _ = self.changed.wait_timeout_while(state, 10 * PATIENCE, lasts);
    }
}
