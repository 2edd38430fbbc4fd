//! The models in `simulate::peers` against the programs themselves: hundreds of real connections go through HAProxy
//! and through nginx, and the model has to know every pick. Without a program its test is skipped with a line
//! that says so; with `CI=true` that is a failure.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use simulate::peers::{Peer, PeerRing, Server};

use crate::harness::{PATIENCE, Replica, patient};
use crate::programs::{Front, find, load_stream, skipped};

#[test]
fn the_model_knows_every_pick_of_haproxy() {
    let Some(program) = find("haproxy") else { return skipped("haproxy is not installed") };
    let equal = servers(&[1, 1, 1]);
    let heavy = servers(&[100, 256, 30]);
    let mut numbered = servers(&[1, 2, 4, 0, 16]);
    for (server, id) in numbered.iter_mut().zip([5, 3, 17, 4, 1]) {
        server.id = id;
    }
    for servers in [equal, heavy, numbered] {
        let front = Front::start(|listen, folder| {
            let file = folder.join("haproxy.conf");
            fs::write(&file, haproxy(listen, &servers)).unwrap();
            let mut command = Command::new(&program);
            command.arg("-db").arg("-f").arg(file);
            command
        });
        let picks = keys().into_iter().map(|key| (pick(&front, Ipv4Addr::LOCALHOST, &key), key));
        compare(Peer::HaProxy, &servers, picks);
    }
}

#[test]
fn the_model_knows_every_pick_of_nginx() {
    let Some(program) = find("nginx") else { return skipped("nginx is not installed") };
    let Some(load) = load_stream(&program) else { return skipped("nginx has no stream module") };
    let folder = tempfile::TempDir::new().unwrap();
    let mut with_a_path = servers(&[1, 2, 3, 1, 5]);
    with_a_path[4].address = serve_at(&folder.path().join("5.sock"), 4);
    for servers in [servers(&[1, 1, 1]), with_a_path] {
        let front = Front::start(|listen, folder| {
            let file = folder.join("nginx.conf");
            fs::write(&file, nginx(&load, listen, &servers, folder)).unwrap();
            let mut command = Command::new(&program);
            command.args(["-e", "stderr", "-g", "daemon off; master_process off;", "-p"]).arg(folder);
            command.arg("-c").arg(file);
            command
        });
        let sources = (1..=500_u16).map(|number| {
            let [high, low] = (number * 131).to_be_bytes();
            Ipv4Addr::new(127, 0, high, low)
        });
        let picks = sources.map(|source| (pick(&front, source, b"hello"), source.to_string().into_bytes()));
        compare(Peer::Nginx, &servers, picks);
    }
}

/// Six-digit ids, words, sentences, and what is not ASCII or no text at all. No line can hold a line feed,
/// and HAProxy cuts it at a NUL.
fn keys() -> Vec<Vec<u8>> {
    let ids = (0..300).map(|number| (100_000 + 2_971 * number).to_string());
    let texts = (0..100).map(|number| format!("user-{number}@example.org, order {}", number * number));
    let letters = (0..100).map(|number| format!("\u{fc}ber \u{1f980} {number}\u{e9}"));
    let mut keys: Vec<Vec<u8>> = ids.chain(texts).chain(letters).map(String::into_bytes).collect();
    keys.extend((1..=255).filter(|&byte| byte != b'\n').map(|byte| vec![byte, 255 - byte % 128]));
    keys.extend([Vec::new(), b"0".to_vec(), b"\r".to_vec(), vec![b'x'; 3000]]);
    // On HAProxy's ring of three equal servers the first three are halfway between two of them, the last is
    // on a point.
    keys.extend(["aaqyvhmz", "aaxrquxc", "abvhckxk", "acypcgsz"].map(|key| key.as_bytes().to_vec()));
    keys
}

/// Holds what a program did with keys against what the model says.
#[track_caller]
fn compare(peer: Peer, servers: &[Server], picks: impl Iterator<Item = (usize, Vec<u8>)>) {
    let ring = PeerRing::build(peer, servers);
    let mut counts = vec![0; servers.len()];
    for (picked, key) in picks {
        assert_eq!(Some(picked), ring.owner(&key), "{}: {}", peer.name(), key.escape_ascii());
        counts[picked] += 1;
    }
    println!("{}: the model knew every pick; connections for each server: {counts:?}", peer.name());
    for (server, count) in servers.iter().zip(counts) {
        assert_eq!(count > 0, server.weight > 0, "{}: {count} connections for {server:?}", peer.name());
    }
}

/// Servers that say which they are, of these weights.
fn servers(weights: &[u32]) -> Vec<Server> {
    let server = |((&weight, id), ordinal): ((&u32, u32), usize)| {
        let replica = Replica::start(move |mut stream, _| {
            let _ = write!(stream, "{ordinal}");
        });
        Server { id, address: replica.address.to_string(), weight }
    };
    weights.iter().zip(1..).zip(0..).map(server).collect()
}

/// Serves a replica on a Unix socket; its address for nginx.
fn serve_at(path: &Path, ordinal: usize) -> String {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(stream, "{ordinal}");
        }
    });
    format!("unix:{}", path.display())
}

/// With the condition it waits for the line. `bench/src/compare/peers.rs` says what happens without.
fn haproxy(listen: SocketAddr, servers: &[Server]) -> String {
    let mut text = format!(
        r"global
    nbthread 1
    maxconn 100
defaults
    mode tcp
    timeout connect 30s
    timeout client 60s
    timeout server 60s
frontend front
    bind {listen}
    tcp-request inspect-delay 30s
    tcp-request content set-var(sess.line) req.payload(0,0),field(1,\n) if {{ req.len gt 0 }}
    default_backend servers
backend servers
    balance hash var(sess.line)
    hash-type consistent
"
    );
    for (number, Server { id, address, weight }) in (1..).zip(servers) {
        // Without `id` servers are numbered in their order.
        let id = if *id == number { String::new() } else { format!("id {id}") };
        writeln!(text, "    server s{number} {address} weight {weight} {id}").unwrap();
    }
    text
}

/// One process, which keeps the user that started it. No server is ever set aside (`max_fails=0`).
fn nginx(load: &str, listen: SocketAddr, servers: &[Server], folder: &Path) -> String {
    let server =
        |server: &Server| format!("server {} weight={} max_fails=0;\n", server.address, server.weight);
    let servers: String = servers.iter().map(server).collect();
    let folder = folder.display();
    format!(
        r#"{load}
pid "{folder}/pid";
error_log stderr warn;
events {{
    worker_connections 200;
}}
stream {{
    access_log off;
    upstream servers {{
        hash $remote_addr consistent;
        {servers}
    }}
    server {{
        listen {listen};
        proxy_connect_timeout 30s;
        proxy_timeout 60s;
        proxy_pass servers;
    }}
}}
"#
    )
}

/// The server that a connection from this address with this first line goes to.
#[track_caller]
fn pick(front: &Front, source: Ipv4Addr, line: &[u8]) -> usize {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect_timeout(&front.address.into(), PATIENCE).unwrap();
    let mut stream = patient(socket.into());
    stream.write_all(&[line, b"\n"].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.parse().unwrap_or_else(|_| panic!("{answer:?} is no server, for {}", line.escape_ascii()))
}
