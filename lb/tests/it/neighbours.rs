//! Other balancers beside `lb`: what the pages say of a move from HAProxy or nginx (`docs/MIGRATION.md`) and of a balancer in front
//! (`docs/CLOUD.md`). Their files are read from the pages and run as they stand there, with other addresses.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use clap::CommandFactory as _;
use lb::config::Cli;

use crate::book::{files, root};
use crate::harness::{Lb, Replica, eventually, field, patient};
use crate::programs::{Front, find, free_address, load_stream, skipped};

/// The servers of all files.
const SERVERS: [&str; 3] = ["s1", "s2", "s3"];
/// A client that they refuse.
const DENIED: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);

/// A server that says its name to each line, until its client leaves.
fn server(name: &'static str) -> Replica {
    Replica::start(move |mut stream, _| {
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        while writeln!(stream, "{name}").is_ok() && lines.read_line(&mut String::new()).is_ok_and(|n| n > 0) {
        }
    })
}

/// A file of a page, with the addresses of these servers in place of its own.
fn file(page: &str, name: &str, at: usize, servers: &[Replica]) -> String {
    let named: Vec<String> = files(&root().join("docs").join(page))
        .into_iter()
        .filter(|(its, _)| its == name)
        .map(|(_, text)| text)
        .collect();
    let text = named.get(at).unwrap_or_else(|| panic!("{page}: there is no {name}"));
    servers.iter().zip(21..).fold(text.clone(), |text, (server, number)| {
        let address = format!("10.0.0.{number}:5000");
        assert!(!text.contains("10.0.0.2") || text.contains(&address), "{page}: {name}: no {address}");
        text.replace(&address, &server.address.to_string())
    })
}

/// A session of the client at this address, and the server that it got; `None` if it is refused or cut.
fn begin(front: SocketAddr, client: Ipv4Addr) -> Option<(TcpStream, String)> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((client, 0)).into()).unwrap();
    socket.connect(&front.into()).ok()?;
    let mut stream = patient(TcpStream::from(socket));
    stream.write_all(b"hello\n").ok()?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).ok()?;
    let server = line.strip_suffix('\n')?.to_owned();
    Some((stream, server))
}

/// Clients, enough for each server to have some.
fn clients() -> impl Iterator<Item = Ipv4Addr> + Clone {
    (1..=60).map(|number| Ipv4Addr::new(127, 0, 1, number))
}

/// The server of each client; `None` for those that got none.
fn homes(front: SocketAddr) -> Vec<Option<String>> {
    clients().map(|client| Some(begin(front, client)?.1)).collect()
}

/// Whether clients of other servers than the first are where they were, and its own are served elsewhere.
fn are_moved_from_the_first(now: &[Option<String>], before: &[Option<String>]) -> bool {
    now.iter().zip(before).all(|(now, before)| match before.as_deref() {
        Some("s1") => now.as_deref().is_some_and(|server| server != "s1"),
        _ => now == before,
    })
}

/// What every balancer of the page does with clients of these servers. Returns the servers of the clients.
#[track_caller]
fn treats_clients_well(front: SocketAddr) -> Vec<Option<String>> {
    assert!(begin(front, DENIED).is_none(), "a denied client is refused");
    let homes_now = homes(front);
    for server in SERVERS {
        assert!(
            homes_now.iter().any(|home| home.as_deref() == Some(server)),
            "{server} has no client: {homes_now:?}"
        );
    }
    assert_eq!(homes(front), homes_now, "each client has its server every time");
    homes_now
}

/// Checks that a balancer takes a server out that fails its checks, and back.
#[track_caller]
fn heeds_checks(front: SocketAddr, servers: &[Replica]) {
    eventually("all servers are up", || {
        let homes = homes(front);
        SERVERS.iter().all(|server| homes.iter().any(|home| home.as_deref() == Some(server))).then_some(())
    });
    let before = treats_clients_well(front);
    let guest = clients().zip(&before).find(|(_, home)| home.as_deref() == Some("s1")).unwrap().0;
    let (mut open, _) = begin(front, guest).unwrap();
    servers[0].healthy.store(false, Ordering::Relaxed);
    let ended = open.read(&mut [0; 16]);
    assert!(
        ended.as_ref().map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |n| *n == 0),
        "{ended:?}"
    );
    eventually("its clients are elsewhere", || {
        are_moved_from_the_first(&homes(front), &before).then_some(())
    });
    servers[0].healthy.store(true, Ordering::Relaxed);
    eventually("its clients are back", || (homes(front) == before).then_some(()));
}

/// Checks that a balancer goes on to the next server when one refuses connections.
#[track_caller]
fn goes_on_to_the_next(front: SocketAddr, servers: &[Replica]) {
    let before = treats_clients_well(front);
    servers[0].leave();
    assert!(are_moved_from_the_first(&homes(front), &before), "before {before:?}");
}

/// `lb` with a file, on ports of its own.
fn lb_with(text: &str, folder: &Path) -> Lb {
    let file = folder.join("lb.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.args(["serve", "--control", "127.0.0.1:0", "--log", "debug", "--config"]).arg(file);
    let lb = Lb::launch_as(command);
    lb.wait_for_log("ready data=");
    lb
}

/// Servers, and `lb` in front of them with the file of this number in the page.
fn ours(number: usize) -> ([Replica; 3], Lb, tempfile::TempDir) {
    let (servers, folder) = (SERVERS.map(server), tempfile::TempDir::new().unwrap());
    let text = file("MIGRATION.md", "lb.toml", number, &servers)
        .replace("10.0.0.10:5000", &free_address().to_string());
    let lb = lb_with(&text, folder.path());
    (servers, lb, folder)
}

/// HAProxy with this file, in which `10.0.0.10:5000` stands for its address.
fn haproxy(program: &Path, text: &str) -> Front {
    Front::start(|listen, folder| {
        let file = folder.join("haproxy.cfg");
        fs::write(&file, text.replace("10.0.0.10:5000", &listen.to_string())).unwrap();
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(file);
        command
    })
}

/// nginx with this file.
fn nginx(program: &PathBuf, load: &str, text: &str) -> Front {
    Front::start(|listen, folder| {
        let file = folder.join("nginx.conf");
        let text = text.replace("10.0.0.10:5000", &listen.to_string());
        let place = folder.display();
        fs::write(&file, format!("{load}\npid \"{place}/pid\";\nerror_log stderr warn;\n{text}")).unwrap();
        let mut command = Command::new(program);
        command
            .args(["-e", "stderr", "-g", "daemon off; master_process off;", "-p"])
            .arg(folder)
            .arg("-c")
            .arg(file);
        command
    })
}

#[test]
fn haproxy_and_lb_treat_clients_alike() {
    let (servers, lb, _folder) = ours(0);
    heeds_checks(lb.data, &servers);
    let Some(program) = find("haproxy") else { return skipped("haproxy is not installed") };
    let servers = SERVERS.map(server);
    heeds_checks(haproxy(&program, &file("MIGRATION.md", "haproxy.cfg", 0, &servers)).address, &servers);
}

#[test]
fn nginx_and_lb_treat_clients_alike() {
    let (servers, lb, _folder) = ours(1);
    goes_on_to_the_next(lb.data, &servers);
    let Some(program) = find("nginx") else { return skipped("nginx is not installed") };
    let Some(load) = load_stream(&program) else { return skipped("nginx has no stream module") };
    let servers = SERVERS.map(server);
    let front = nginx(&program, &load, &file("MIGRATION.md", "nginx.conf", 0, &servers));
    goes_on_to_the_next(front.address, &servers);
}

#[test]
fn every_flag_of_the_tables_exists() {
    let page = fs::read_to_string(root().join("docs/MIGRATION.md")).unwrap();
    let mut cli = Cli::command();
    cli.build();
    let commands = ["serve", "reload"].map(|name| cli.find_subcommand(name).unwrap());
    let known = |flag: &str| {
        let mut arguments = commands.iter().flat_map(|command| command.get_arguments());
        arguments.any(|argument| argument.get_long() == Some(flag))
    };
    let codes =
        page.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2));
    let flags: Vec<&str> =
        codes.filter_map(|code| code.strip_prefix("--")?.split([' ', '=']).next()).collect();
    assert!(flags.len() > 50, "{flags:?}");
    for flag in flags {
        assert!(known(flag), "there is no --{flag}");
    }
}

/// `lb` behind the balancer, with the file of the page.
fn behind(servers: &[Replica], folder: &Path) -> (Lb, SocketAddr) {
    let host = free_address().ip();
    let text = file("CLOUD.md", "lb.toml", 0, servers)
        .replace("0.0.0.0:5000", &format!("{host}:0"))
        .replace("0.0.0.0:5002", &format!("{host}:0"))
        // Whence HAProxy connects.
        .replace("\"10.0.0.10\"", "\"127.0.0.1\"");
    let place = folder.join(host.to_string());
    fs::create_dir(&place).unwrap();
    let lb = lb_with(&text, &place);
    let metrics = field(&lb.wait_for_log("metrics port address="), "address=").parse().unwrap();
    (lb, metrics)
}

/// The status of `/healthz` there.
fn health(at: SocketAddr) -> String {
    let Ok(mut stream) = TcpStream::connect(at).map(patient) else { return String::new() };
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut line = String::new();
    let _ = BufReader::new(stream).read_line(&mut line);
    line.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// How many sessions went through this `lb`.
fn sessions(lb: &Lb) -> u64 {
    lb.backends().iter().map(|slot| slot["connections"]["total"].as_u64().unwrap()).sum()
}

/// Says that it is over when it is dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn behind_a_balancer_an_lb_leaves_and_no_client_is_refused() {
    let Some(program) = find("haproxy") else { return skipped("haproxy is not installed") };
    let (servers, folder) = (SERVERS.map(server), tempfile::TempDir::new().unwrap());
    let (mut one, health_of_one) = behind(&servers, folder.path());
    let (two, health_of_two) = behind(&servers, folder.path());
    let text = [("10.0.0.11", &one, health_of_one), ("10.0.0.12", &two, health_of_two)].into_iter().fold(
        file("CLOUD.md", "haproxy.cfg", 0, &[]),
        |text, (host, lb, health)| {
            text.replace(&format!("{host}:5000 port 5002"), &format!("{} port {}", lb.data, health.port()))
        },
    );
    let front = haproxy(&program, &text);
    // The client is the one in the header, and both agree about it.
    for client in clients().take(10) {
        let homes = [&one, &two].map(|lb| lb.order(&client.to_string())[0].clone());
        assert_eq!(homes[0], homes[1]);
        assert_eq!(begin(front.address, client).unwrap().1, homes[0]);
    }
    eventually("both have clients", || {
        homes(front.address);
        (sessions(&one) > 0 && sessions(&two) > 0).then_some(())
    });
    assert_eq!((health(health_of_one), health(health_of_two)), ("200".into(), "200".into()));
    let (is_over, served, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            for client in clients().cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
                let count = if begin(front.address, client).is_some() { &served } else { &failed };
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        one.signal("TERM");
        eventually("it says that it leaves", || (health(health_of_one) == "503").then_some(()));
        let status = one.wait();
        assert!(status.success(), "{status}");
    });
    assert!(served.load(Ordering::Relaxed) > 100, "{served:?}");
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {served:?}");
}
