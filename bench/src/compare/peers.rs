//! The peers: finds their programs and writes their configurations.
//!
//! Each peer gets its best configuration for the work of `lb`: one worker, the same three replicas, and a fixed replica for
//! each id if it can do that. Nothing is started here.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::args::Misused;
use crate::stand::host;

/// Another load balancer that `lb` is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Haproxy,
    Nginx,
}

/// The values of a configuration.
#[derive(Debug)]
pub(super) struct Site<'a> {
    /// The address to listen on.
    pub(super) listen: SocketAddr,
    /// The addresses of the replicas.
    pub(super) replicas: &'a [SocketAddr],
    /// The maximum number of connections.
    pub(super) sessions: usize,
    /// A folder for files.
    pub(super) folder: &'a Path,
}

impl Peer {
    const ALL: [Peer; 2] = [Peer::Haproxy, Peer::Nginx];

    /// The name of the peer and of its program.
    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::Haproxy => "haproxy",
            Peer::Nginx => "nginx",
        }
    }

    /// The peers with these names, each once. Empty names are ignored.
    ///
    /// # Errors
    /// A name is unknown; the message lists the known ones.
    pub(super) fn chosen(names: &[String]) -> Result<Vec<Peer>, Misused> {
        let mut chosen = Vec::new();
        for name in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
            let Some(peer) = Peer::ALL.into_iter().find(|peer| peer.name() == name) else {
                let known = Peer::ALL.map(Peer::name).join(", ");
                return Err(Misused(format!(
                    "--peers: invalid value `{name}`: expected names among {known}"
                )));
            };
            if !chosen.contains(&peer) {
                chosen.push(peer);
            }
        }
        Ok(chosen)
    }

    /// Describes its configuration in a sentence.
    pub(super) fn setup(self, pinning: &str) -> String {
        match self {
            Peer::Haproxy => format!(
                "tcp mode, one thread{pinning}, consistent hashing of the request's first line, splice-auto, no checks"
            ),
            Peer::Nginx => format!(
                "stream, one worker{pinning}, consistent hashing of the client's address and port (it cannot hash the first \
                 line without njs), no checks, half-closed connections not passed on (its default)"
            ),
        }
    }

    /// Writes its configuration, and returns the command that runs it.
    pub(super) fn prepare(self, program: &Path, site: &Site<'_>) -> std::io::Result<Command> {
        let path = site.folder.join(format!("{}-{}.conf", self.name(), site.listen.port()));
        let mut command = Command::new(program);
        match self {
            Peer::Haproxy => {
                std::fs::write(&path, haproxy(site))?;
                command.arg("-db").arg("-f").arg(&path);
            }
            Peer::Nginx => {
                std::fs::write(&path, nginx(site, module_in(&build_of(program)).as_deref()))?;
                command.arg("-p").arg(site.folder).arg("-c").arg(&path);
            }
        }
        Ok(command)
    }

    /// Why an installed peer cannot take part.
    pub(super) fn unfit(self, program: &Path) -> Option<&'static str> {
        match self {
            Peer::Haproxy => None,
            Peer::Nginx => unfit_nginx(&build_of(program)),
        }
    }

    /// The path of its program, if it is installed.
    pub(super) fn find(self) -> Option<PathBuf> {
        host::find(self.name())
    }
}

/// The configuration that hashes. HAProxy accepts `balance hash req.payload(0,0)` in the backend and sends everything to one
/// server. It accepts `set-var` in the frontend without a condition, does not wait for the payload, and sends an id to any
/// server. With the condition it waits.
fn haproxy(site: &Site<'_>) -> String {
    let Site { listen, replicas, sessions, .. } = site;
    let mut text = format!(
        r"global
    nbthread 1
    maxconn {sessions}
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option splice-auto
frontend front
    bind {listen}
    tcp-request inspect-delay 5s
    tcp-request content set-var(sess.line) req.payload(0,0),field(1,\n) if {{ req.len gt 0 }}
    default_backend replicas
backend replicas
    balance hash var(sess.line)
    hash-type consistent
"
    );
    for (number, replica) in replicas.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    server s{} {replica}", number + 1);
    }
    text
}

/// Without `user` the worker becomes a user that cannot read the folder, or that does not exist in a user namespace.
fn nginx(site: &Site<'_>, module: Option<&Path>) -> String {
    let Site { listen, replicas, sessions, folder } = site;
    let load = module.map(|module| format!("load_module \"{}\";\n", module.display())).unwrap_or_default();
    let servers: String =
        replicas.iter().map(|replica| format!("        server {replica} max_fails=0;\n")).collect();
    let (connections, files) = (2 * sessions + 64, 2 * sessions + 128);
    let pid = folder.join(format!("nginx-{}.pid", listen.port()));
    let pid = pid.display();
    format!(
        r#"{load}daemon off;
user root;
pid "{pid}";
error_log stderr warn;
worker_processes 1;
worker_rlimit_nofile {files};
events {{
    worker_connections {connections};
}}
stream {{
    access_log off;
    upstream replicas {{
        hash $remote_addr$remote_port consistent;
{servers}    }}
    server {{
        listen {listen};
        proxy_connect_timeout 5s;
        proxy_timeout 60s;
        proxy_pass replicas;
    }}
}}
"#
    )
}

/// Why an nginx with these build arguments cannot take part.
fn unfit_nginx(build: &str) -> Option<&'static str> {
    if !build.contains("--with-stream") {
        return Some("it is built without the stream module");
    }
    let is_missing = module_in(build).is_some_and(|module| !module.is_file());
    is_missing.then_some("its stream module is not installed")
}

/// The build arguments of an nginx.
fn build_of(program: &Path) -> String {
    let said = Command::new(program).arg("-V").stdin(Stdio::null()).output();
    said.map(|said| String::from_utf8_lossy(&said.stderr).into_owned()).unwrap_or_default()
}

/// The stream module that an nginx has to load; `None` if it is built in.
fn module_in(build: &str) -> Option<PathBuf> {
    if !build.contains("--with-stream=dynamic") {
        return None;
    }
    let folder = |name| build.split_whitespace().find_map(|word| word.strip_prefix(name));
    let prefix = || folder("--prefix=").map(|prefix| Path::new(prefix).join("modules"));
    let folder = folder("--modules-path=").map(PathBuf::from).or_else(prefix)?;
    Some(folder.join("ngx_stream_module.so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(replicas: &[SocketAddr]) -> Site<'_> {
        Site { listen: ([127, 0, 0, 1], 7000).into(), replicas, sessions: 1000, folder: Path::new("/a b") }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn peers_are_chosen_by_name_and_none_is_allowed() {
        assert_eq!(
            Peer::chosen(&names(&["nginx", "haproxy", "nginx"])).unwrap(),
            [Peer::Nginx, Peer::Haproxy]
        );
        assert_eq!(Peer::chosen(&names(&[""])).unwrap(), []);
        assert_eq!(Peer::chosen(&[]).unwrap(), []);
        let error = Peer::chosen(&names(&["haproxy", "envoy"])).unwrap_err().to_string();
        assert_eq!(error, "--peers: invalid value `envoy`: expected names among haproxy, nginx");
    }

    #[test]
    fn haproxy_keeps_the_line_in_the_frontend_and_hashes_it_in_the_backend() {
        let replicas = [([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()];
        let text = haproxy(&site(&replicas));
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is not in {text}"));
        let order = [
            "nbthread 1\n",
            "maxconn 1000\n",
            "frontend",
            "bind 127.0.0.1:7000\n",
            "inspect-delay",
            "set-var(sess.line) req.payload(0,0),field(1,\\n) if { req.len gt 0 }\n",
            "backend replicas\n    balance hash var(sess.line)\n    hash-type consistent\n",
            "server s1 127.0.0.1:1\n",
            "server s2 127.0.0.1:2\n",
        ];
        assert!(order.map(at).is_sorted(), "{text}");
    }

    #[test]
    fn nginx_leaves_files_in_its_folder_only_and_loads_a_module_where_it_has_to() {
        let replicas = [([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()];
        let text = nginx(&site(&replicas), None);
        assert!(text.starts_with("daemon off;\n"), "{text}");
        for part in [
            "pid \"/a b/nginx-7000.pid\";\n",
            "error_log stderr",
            "access_log off;",
            "worker_connections 2064;",
            "listen 127.0.0.1:7000;",
            "        server 127.0.0.1:1 max_fails=0;\n        server 127.0.0.1:2 max_fails=0;\n    }",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let text = nginx(&site(&replicas), Some(Path::new("/m/ngx_stream_module.so")));
        assert!(text.starts_with("load_module \"/m/ngx_stream_module.so\";\ndaemon off;\n"), "{text}");
    }

    #[test]
    fn the_module_is_where_nginx_was_told_when_it_was_built() {
        let module = |build| module_in(build).map(|path| path.display().to_string());
        let found = module("--prefix=/p --modules-path=/m --with-stream=dynamic");
        assert_eq!(found.as_deref(), Some("/m/ngx_stream_module.so"));
        let found = module("--prefix=/p --with-stream=dynamic");
        assert_eq!(found.as_deref(), Some("/p/modules/ngx_stream_module.so"));
        assert_eq!(module("--prefix=/p --modules-path=/m --with-stream"), None);
    }

    #[test]
    fn an_nginx_without_stream_cannot_take_part() {
        assert_eq!(unfit_nginx("--prefix=/p --with-stream"), None);
        assert_eq!(unfit_nginx("--prefix=/p"), Some("it is built without the stream module"));
        let build = "--modules-path=/no/such/folder --with-stream=dynamic";
        assert_eq!(unfit_nginx(build), Some("its stream module is not installed"));
    }
}
