//! The flags of `lb serve`, their environment variables, defaults and help. What a value means is checked in `value`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{ArgAction, Args, ValueHint};
use ipnet::IpNet;
use mapping::{BalanceFactor, MappingName};
use proto::control::{Hostname, Transport};
use proto::key::KeyKind;
use tracing_subscriber::filter::Targets;

use super::access::AccessFlags;
use super::environment::FromEnvironment;
use super::file::FromFile;
use super::health::HealthFlags;
use super::origins::Texts;
use super::parameters::Parameters;
use super::proxied::ProxyFlags;
use super::value::{self, BackendPart, Checked, Given, ProviderName, RespawnName, Several};
use crate::data::Rate;
use crate::log::LogFormat;
use crate::net::ListenAddress;
use crate::provider::engine::dress::Capabilities;
use crate::resolver::ServiceName;

/// The flags of `lb serve`.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Which of the following are set in the environment.
    #[command(flatten)]
    pub from_environment: FromEnvironment,
    /// The texts of the following.
    #[command(flatten)]
    pub(super) texts: Texts,
    /// The file from which some of them come.
    #[arg(skip)]
    pub(super) file: FromFile,
    /// TOML file that holds flags as its keys, such as `replicas = 3`; flags and variables go before it
    #[arg(long, help_heading = "Configuration", env = "LB_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Data port; :PORT is that port of all addresses, IPv6 and IPv4; unix:PATH is a socket that all who reach its folder may use;
    /// repeatable, or several with commas between them
    #[arg(long, help_heading = "Ports", env = "LB_LISTEN", value_name = "ADDR|:PORT|unix:PATH", default_value = "0.0.0.0:5000", value_delimiter = ',', value_parser = ValueParser::new(value::listen))]
    pub(super) listen: Vec<Checked<ListenAddress>>,
    /// Control port, or unix:PATH for a socket of which the file's permission is the token; repeatable
    #[arg(long, help_heading = "Ports", env = "LB_CONTROL", value_name = "ADDR|unix:PATH", default_value = "127.0.0.1:5001", value_delimiter = ',', value_parser = ValueParser::new(value::control))]
    pub(super) control: Vec<Checked<ListenAddress>>,
    /// Token for control commands; needed where the control port is bound beyond loopback
    #[arg(
        long,
        help_heading = "Ports",
        env = "LB_CONTROL_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub(super) control_token: Option<String>,
    /// File that holds the token for control commands, such as a mounted secret
    #[arg(long, help_heading = "Ports", env = "LB_CONTROL_TOKEN_FILE", value_name = "FILE")]
    pub(super) control_token_file: Option<PathBuf>,
    /// Bind the control port beyond loopback without a token
    #[arg(long, help_heading = "Ports", env = "LB_CONTROL_INSECURE", action = ArgAction::SetTrue, value_parser = ValueParser::new(value::boolean))]
    pub(super) control_insecure: Checked<bool>,
    /// Metrics for Prometheus (/metrics) and health (/healthz) at this address, without a token; the control port has both in any case
    #[arg(long, help_heading = "Ports", env = "LB_METRICS", value_name = "ADDR", value_parser = ValueParser::new(value::address))]
    pub(super) metrics: Option<Checked<SocketAddr>>,
    /// Make a small load on the data port, to watch on the page at http://CONTROL/: 20 connections a second with the ids 1 to 200
    #[arg(long, help_heading = "Ports", env = "LB_DEMO", action = ArgAction::SetTrue, value_parser = ValueParser::new(value::boolean))]
    pub(super) demo: Checked<bool>,
    /// process, fixed, dns: the user, and the group if it is not the user's own, as whom lb and its replicas run once the ports are bound; lb has to be started as root [default: as it was started]
    #[arg(long, help_heading = "Privileges", env = "LB_USER", value_name = "NAME[:GROUP]")]
    pub(super) user: Option<String>,
    /// process: let commands gain privileges that lb does not have, such as by sudo
    #[arg(long, help_heading = "Privileges", env = "LB_ALLOW_NEW_PRIVILEGES", action = ArgAction::SetTrue, value_parser = ValueParser::new(value::boolean))]
    pub(super) allow_new_privileges: Checked<bool>,
    /// Replicas at start [default: 3, or every backend]
    #[arg(long, help_heading = "Replicas", env = "LB_REPLICAS", value_name = "N", allow_hyphen_values = true, value_parser = ValueParser::new(value::replicas))]
    pub(super) replicas: Option<Checked<usize>>,
    /// Where replicas come from: process, docker, swarm, fixed or dns
    #[arg(long, help_heading = "Replicas", env = "LB_PROVIDER", value_name = "NAME", default_value = "process", value_parser = ValueParser::new(value::provider))]
    pub(super) provider: Checked<ProviderName>,
    /// process: what to run (by `sh -c`) instead of the demo server; {port} is replaced, PORT and SERVER_ID are set
    #[arg(long, help_heading = "Replicas", env = "LB_COMMAND", value_name = "CMD")]
    pub(super) command: Option<String>,
    /// fixed: an address to balance over (HOST:PORT, or unix:/PATH), and its weight from 0 to 100 (1 if not given); repeatable, or several with commas
    /// or spaces between them
    #[arg(long, help_heading = "Replicas", env = "LB_BACKEND", value_name = "NAME=HOST:PORT[,weight=W]", value_parser = ValueParser::new(value::backends))]
    pub(super) backend: Vec<Several<BackendPart>>,
    /// fixed: file of all backends, each on a line of its own as --backend has it; lb watches it, and makes each change of it in one step
    #[arg(long, help_heading = "Replicas", env = "LB_BACKENDS_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) backends_file: Option<PathBuf>,
    /// dns: the name that leads to the replicas: with a port, each of its addresses (A, AAAA) is one; without, each target of its
    /// service records (SRV) is one
    #[arg(long, help_heading = "Replicas by name (dns, fixed)", env = "LB_DNS", value_name = "NAME[:PORT]", value_parser = ValueParser::new(value::service))]
    pub(super) dns: Option<Checked<ServiceName>>,
    /// dns, fixed: a DNS server to ask instead of those of /etc/resolv.conf [default port: 53]; repeatable, or several with commas
    /// or spaces between them
    #[arg(long, help_heading = "Replicas by name (dns, fixed)", env = "LB_DNS_SERVER", value_name = "ADDR[:PORT]", value_parser = ValueParser::new(value::dns_servers))]
    pub(super) dns_server: Vec<Several<SocketAddr>>,
    /// dns, fixed: the least time between two questions for a name, however short its time to live
    #[arg(long, help_heading = "Replicas by name (dns, fixed)", env = "LB_DNS_MIN_INTERVAL", value_name = "DURATION", default_value = "1s", allow_hyphen_values = true, value_parser = ValueParser::new(value::dns_interval))]
    pub(super) dns_min_interval: Checked<Duration>,
    /// dns, fixed: the most time between two questions for a name, however long its time to live
    #[arg(long, help_heading = "Replicas by name (dns, fixed)", env = "LB_DNS_MAX_INTERVAL", value_name = "DURATION", default_value = "30s", allow_hyphen_values = true, value_parser = ValueParser::new(value::dns_interval))]
    pub(super) dns_max_interval: Checked<Duration>,
    /// dns: how long every answer has to say that the name has no record before all replicas are taken out; off: never
    #[arg(long, help_heading = "Replicas by name (dns, fixed)", env = "LB_DNS_EMPTY_AFTER", value_name = "DURATION|off", default_value = "30s", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration_or_off))]
    pub(super) dns_empty_after: Checked<Option<Duration>>,
    /// docker, swarm: the image of the replicas; lb never pulls it
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_IMAGE", value_name = "IMAGE", default_value = "lb-backend", value_parser = ValueParser::new(value::image))]
    pub(super) image: Checked<String>,
    /// docker, swarm: the network of the replicas, for swarm an overlay on which lb is as well; lb makes it if it is missing
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_NETWORK", value_name = "NETWORK", default_value = "lb", value_parser = ValueParser::new(value::network))]
    pub(super) network: Checked<String>,
    /// docker, swarm: the name of this fleet; lb touches only containers and services with this name in their label
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_FLEET", value_name = "NAME", default_value = "lb", value_parser = ValueParser::new(value::fleet))]
    pub(super) fleet: Checked<Hostname>,
    /// docker, swarm: the port on which a replica listens inside its container
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_BACKEND_PORT", value_name = "PORT", default_value = "5000", allow_hyphen_values = true, value_parser = ValueParser::new(value::port))]
    pub(super) backend_port: Checked<u16>,
    /// docker, swarm: memory that a container may use [default: no limit]
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_MEMORY", value_name = "SIZE", allow_hyphen_values = true, value_parser = ValueParser::new(value::memory))]
    pub(super) memory: Option<Checked<i64>>,
    /// docker, swarm: processes and threads that a container may have [default: 2048]
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_PIDS", value_name = "N|unlimited", allow_hyphen_values = true, value_parser = ValueParser::new(value::pids))]
    pub(super) pids: Option<Checked<i64>>,
    /// docker, swarm: the capabilities of a container: default (those that the engine gives, without NET_RAW), none, or a list such
    /// as CHOWN,NET_BIND_SERVICE [default: default]
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_CONTAINER_CAPS", value_name = "CAPS", value_parser = ValueParser::new(value::capabilities))]
    pub(super) container_caps: Option<Checked<Capabilities>>,
    /// swarm: processor time that a container may use, in cores, such as 1.5 [default: no limit]
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_CPUS", value_name = "CORES", allow_hyphen_values = true, value_parser = ValueParser::new(value::cpus))]
    pub(super) cpus: Option<Checked<i64>>,
    /// swarm: where replicas may be placed, such as node.role==worker; repeatable, or several with commas between them
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_CONSTRAINT", value_name = "EXPR", value_delimiter = ',', value_parser = ValueParser::new(value::constraint))]
    pub(super) constraint: Vec<Checked<String>>,
    /// docker, swarm: a variable in the environment of a replica; without a value, the one that lb has; repeatable, in LB_ENV one on
    /// each line
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_ENV", value_name = "NAME[=VALUE]", hide_env_values = true, value_parser = ValueParser::new(value::variables))]
    pub(super) env: Vec<Several<Given>>,
    /// swarm: a secret of the Swarm that a replica finds in the file /run/secrets/NAME; repeatable, or several with commas between them
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_SECRET", value_name = "NAME", value_delimiter = ',', value_parser = ValueParser::new(value::secret))]
    pub(super) secret: Vec<Checked<String>>,
    /// docker: leave the containers running at the end, for the next lb of this fleet to adopt
    #[arg(long, help_heading = "Containers (docker, swarm)", env = "LB_KEEP", action = ArgAction::SetTrue, value_parser = ValueParser::new(value::boolean))]
    pub(super) keep: Checked<bool>,
    /// How keys find slots: ring, slots, maglev or rendezvous
    #[arg(long, help_heading = "Mapping", env = "LB_MAPPING", value_name = "NAME", default_value = "ring", value_parser = ValueParser::new(value::parsed::<MappingName>))]
    pub(super) mapping: Checked<MappingName>,
    /// The parameters of the mappings.
    #[command(flatten, next_help_heading = "Mapping")]
    pub(super) parameters: Parameters,
    /// No replica gets more connections than this factor times the mean; the excess goes to the next candidate
    #[arg(long, help_heading = "Mapping", env = "LB_BALANCE_FACTOR", value_name = "FACTOR|off", default_value = "off", allow_hyphen_values = true, value_parser = ValueParser::new(value::balance_factor))]
    pub(super) balance_factor: Checked<Option<BalanceFactor>>,
    /// What is hashed: the request id; source, the client's IP address; sni, the server that a TLS client asks for; or, of an HTTP/1
    /// request, its path, a header or a cookie
    #[arg(long, help_heading = "Mapping", env = "LB_KEY", value_name = "id|source|sni|path|header:NAME|cookie:NAME", default_value = "id", value_parser = ValueParser::new(value::key))]
    pub(super) key: Checked<KeyKind>,
    /// Query parameter that holds the request id
    #[arg(long, help_heading = "Mapping", env = "LB_ID_PARAM", value_name = "NAME", default_value = "id", value_parser = ValueParser::new(value::parameter))]
    pub(super) id_param: Checked<String>,
    /// How long the first line may take, from accept on
    #[arg(long, help_heading = "Connections", env = "LB_FIRST_LINE_TIMEOUT", value_name = "DURATION", default_value = "5s", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration))]
    pub(super) first_line_timeout: Checked<Duration>,
    /// How long the first line may be
    #[arg(long, help_heading = "Connections", env = "LB_FIRST_LINE_MAX", value_name = "SIZE", default_value = "8KiB", allow_hyphen_values = true, value_parser = ValueParser::new(value::first_line_size))]
    pub(super) first_line_max: Checked<usize>,
    /// How long one connection attempt may take
    #[arg(long, help_heading = "Connections", env = "LB_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "1s", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration))]
    pub(super) connect_timeout: Checked<Duration>,
    /// How many distinct replicas are tried
    #[arg(long, help_heading = "Connections", env = "LB_CONNECT_ATTEMPTS", value_name = "N", default_value = "3", allow_hyphen_values = true, value_parser = ValueParser::new(value::small))]
    pub(super) connect_attempts: Checked<usize>,
    /// The most connections at once; more wait in the kernel's queue [default: what the limit of open files allows]
    #[arg(long, help_heading = "Limits", env = "LB_MAX_CONNECTIONS", value_name = "N", allow_hyphen_values = true, value_parser = ValueParser::new(value::connections))]
    pub(super) max_connections: Option<Checked<usize>>,
    /// The most connections of one source (an IPv4 address, an IPv6 /64) at once; more are reset
    #[arg(long, help_heading = "Limits", env = "LB_MAX_CONNECTIONS_PER_SOURCE", value_name = "N|off", default_value = "off", allow_hyphen_values = true, value_parser = ValueParser::new(value::connections_or_off))]
    pub(super) max_connections_per_source: Checked<Option<usize>>,
    /// How many new connections of one source a second, and at once after a pause (without burst: as many as a second);
    /// more are reset
    #[arg(long, help_heading = "Limits", env = "LB_RATE_PER_SOURCE", value_name = "N/s[,burst=M]|off", default_value = "off", allow_hyphen_values = true, value_parser = ValueParser::new(value::rate))]
    pub(super) rate_per_source: Checked<Option<Rate>>,
    /// The most connections of one replica at once; more go to the next candidate
    #[arg(long, help_heading = "Limits", env = "LB_MAX_CONNECTIONS_PER_REPLICA", value_name = "N|off", default_value = "off", allow_hyphen_values = true, value_parser = ValueParser::new(value::connections_or_off))]
    pub(super) max_connections_per_replica: Checked<Option<usize>>,
    /// Networks or addresses whose connections are accepted; repeatable, or several with commas or spaces between them
    /// [default: all]
    #[arg(long, help_heading = "Limits", env = "LB_ALLOW", value_name = "CIDR", value_parser = ValueParser::new(value::networks))]
    pub(super) allow: Vec<Several<IpNet>>,
    /// Networks or addresses whose connections are reset, also where --allow holds them; repeatable, or several with commas
    /// or spaces between them
    #[arg(long, help_heading = "Limits", env = "LB_DENY", value_name = "CIDR", value_parser = ValueParser::new(value::networks))]
    pub(super) deny: Vec<Several<IpNet>>,
    #[command(flatten)]
    pub(super) health: HealthFlags,
    /// How long a new replica may take to pass its first probes
    #[arg(long, help_heading = "Replicas", env = "LB_START_TIMEOUT", value_name = "DURATION", default_value = "10s", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration))]
    pub(super) start_timeout: Checked<Duration>,
    /// Hostname of a replacement: random or same
    #[arg(long, help_heading = "Replicas", env = "LB_RESPAWN_NAME", value_name = "random|same", default_value = "random", value_parser = ValueParser::new(value::respawn_name))]
    pub(super) respawn_name: Checked<RespawnName>,
    /// Healthy replicas outside the mapping, ready to take over a slot
    #[arg(long, help_heading = "Replicas", env = "LB_SPARES", value_name = "N", default_value = "0", allow_hyphen_values = true, value_parser = ValueParser::new(value::spares))]
    pub(super) spares: Checked<usize>,
    /// How long connections may take to finish, after rm and at shutdown
    #[arg(long, help_heading = "Connections", env = "LB_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "30s", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration_or_none))]
    pub(super) drain_timeout: Checked<Duration>,
    /// How long both ports stay open after the first signal, while /healthz says 503, for balancers in front to notice
    #[arg(long, help_heading = "Connections", env = "LB_STOP_DELAY", value_name = "DURATION", default_value = "0s", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration_or_none))]
    pub(super) stop_delay: Checked<Duration>,
    /// How long both directions of a connection may be silent before it is reset
    #[arg(long, help_heading = "Connections", env = "LB_IDLE_TIMEOUT", value_name = "DURATION|off", default_value = "off", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration_or_off))]
    pub(super) idle_timeout: Checked<Option<Duration>>,
    /// How long one direction may be silent after the other has ended
    #[arg(long, help_heading = "Connections", env = "LB_HALF_CLOSE_TIMEOUT", value_name = "DURATION", default_value = "60s", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration))]
    pub(super) half_close_timeout: Checked<Duration>,
    /// How long a connection may last before it is reset; one that was handed over is left alone
    #[arg(long, help_heading = "Connections", env = "LB_MAX_CONNECTION_AGE", value_name = "DURATION|off", default_value = "off", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration_or_off))]
    pub(super) max_connection_age: Checked<Option<Duration>>,
    /// How long a peer that has vanished may stay unnoticed on a silent connection
    #[arg(long, help_heading = "Connections", env = "LB_KEEPALIVE", value_name = "DURATION", default_value = "2m", allow_hyphen_values = true, value_parser = ValueParser::new(value::keepalive))]
    pub(super) keepalive: Checked<Duration>,
    /// How long a peer may answer nothing while bytes are on their way to it, before it counts as gone
    #[arg(long, help_heading = "Connections", env = "LB_ACK_TIMEOUT", value_name = "DURATION|off", default_value = "55s", allow_hyphen_values = true, value_parser = ValueParser::new(value::duration_or_off))]
    pub(super) ack_timeout: Checked<Option<Duration>>,
    /// Size of each buffer of a socket in the kernel: it caps what one slow connection takes
    #[arg(long, help_heading = "Connections", env = "LB_SOCKET_BUFFER", value_name = "SIZE|off", default_value = "off", allow_hyphen_values = true, value_parser = ValueParser::new(value::socket_buffer))]
    pub(super) socket_buffer: Checked<Option<usize>>,
    /// Data-plane threads [default: number of cores]
    #[arg(long, help_heading = "Connections", env = "LB_WORKERS", value_name = "N", allow_hyphen_values = true, value_parser = ValueParser::new(value::small))]
    pub(super) workers: Option<Checked<usize>>,
    /// Zero-copy relay: auto (long runs of bytes are not copied) or never
    #[arg(long, help_heading = "Connections", env = "LB_SPLICE", value_name = "auto|never", default_value = "auto", value_parser = ValueParser::new(value::splice))]
    pub(super) splice: Checked<bool>,
    /// How much a pipe of the zero-copy relay holds (to be changed by tests only: small ones are full more often)
    #[arg(long, hide = true, value_name = "SIZE", default_value = "1MiB", value_parser = ValueParser::new(value::pipe_size))]
    pub(super) splice_pipe: Checked<usize>,
    /// How a connection gets to its replica: proxy (bytes are passed on) or handoff (a replica on this host that takes
    /// connections over gets the client's socket itself; others are proxied to)
    #[arg(long, help_heading = "Connections", env = "LB_TRANSPORT", value_name = "proxy|handoff", default_value = "proxy", value_parser = ValueParser::new(value::transport))]
    pub(super) transport: Checked<Transport>,
    /// handoff: the folder in which replicas listen for connections [default: a new one, for child processes]
    #[arg(long, help_heading = "Connections", env = "LB_HANDOFF_DIR", value_name = "DIR")]
    pub(super) handoff_dir: Option<PathBuf>,
    /// handoff, docker: the volume that holds that folder, if lb itself runs in a container [default: none, the folder is
    /// on the engine's machine]
    #[arg(long, help_heading = "Connections", env = "LB_HANDOFF_VOLUME", value_name = "VOLUME", value_parser = ValueParser::new(value::volume))]
    pub(super) handoff_volume: Option<Checked<String>>,
    /// What to log: a level, or TARGET=LEVEL pairs with commas between them
    #[arg(long, help_heading = "Log", env = "LB_LOG", value_name = "FILTER", default_value = "info", value_parser = ValueParser::new(value::log_filter))]
    pub(super) log: Checked<Targets>,
    /// How to log: text or json
    #[arg(long, help_heading = "Log", env = "LB_LOG_FORMAT", value_name = "text|json", default_value = "text", value_parser = ValueParser::new(value::log_format))]
    pub(super) log_format: Checked<LogFormat>,
    /// Append what happens to this file, as JSON lines (`lb events` shows the same)
    #[arg(long, help_heading = "Log", env = "LB_JOURNAL", value_name = "FILE")]
    pub(super) journal: Option<PathBuf>,
    /// The size at which that file is renamed to FILE.1, the one before to FILE.2, up to FILE.4
    #[arg(long, help_heading = "Log", env = "LB_JOURNAL_SIZE", value_name = "SIZE", default_value = "16MiB", value_parser = ValueParser::new(value::journal_size))]
    pub(super) journal_size: Checked<u64>,
    #[command(flatten)]
    pub(super) proxy: ProxyFlags,
    #[command(flatten)]
    pub(super) access: AccessFlags,
}
