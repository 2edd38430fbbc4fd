//! Which settings a reload changes, and which need another start of `lb`.

/// The keys that a reload changes.
const LIVE: [&str; 49] = [
    // Who may command.
    "control-token",
    "control-token-file",
    "control-insecure",
    // Which replicas there are.
    "replicas",
    "backend",
    "backends-file",
    // Which replica a connection gets.
    "mapping",
    "points",
    "slots",
    "virtual",
    "probing",
    "request-hash",
    "server-hash",
    "balance-factor",
    "key",
    "id-param",
    // Limits and time limits.
    "first-line-timeout",
    "first-line-max",
    "connect-timeout",
    "connect-attempts",
    "start-timeout",
    "drain-timeout",
    "stop-delay",
    "idle-timeout",
    "half-close-timeout",
    "max-connection-age",
    "max-connections",
    "max-connections-per-source",
    "rate-per-source",
    "max-connections-per-replica",
    "allow",
    "deny",
    "proxy-protocol-from",
    // Health.
    "health",
    "health-expect",
    "health-host",
    "health-port",
    "health-method",
    "health-interval",
    "health-timeout",
    "fall",
    "rise",
    "replace-after",
    "replace-busy-after",
    "on-down",
    // Log.
    "log",
    "access-log",
    "access-log-format",
    "access-log-sample",
];

/// The keys whose values hold as long as `lb` runs: what is bound, started or shared with others at the start depends on them.
const FIXED: [&str; 41] = [
    "listen",
    "control",
    "metrics",
    "demo",
    "user",
    "allow-new-privileges",
    "provider",
    "command",
    "respawn-name",
    "spares",
    "dns",
    "dns-server",
    "dns-min-interval",
    "dns-max-interval",
    "dns-empty-after",
    "image",
    "network",
    "fleet",
    "backend-port",
    "memory",
    "pids",
    "container-caps",
    "cpus",
    "constraint",
    "env",
    "secret",
    "keep",
    "hash-seed",
    "hash-seed-file",
    "keepalive",
    "ack-timeout",
    "socket-buffer",
    "workers",
    "splice",
    "transport",
    "handoff-dir",
    "handoff-volume",
    "send-proxy",
    "log-format",
    "journal",
    "journal-size",
];

/// Whether a reload changes the value of a key. What has no class is not changed.
#[must_use]
pub fn is_live(key: &str) -> bool {
    debug_assert!(LIVE.contains(&key) || FIXED.contains(&key), "{key} has no class");
    LIVE.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Serve;

    #[test]
    fn every_key_has_exactly_one_class() {
        let keys = Serve::keys();
        for key in &keys.0 {
            let classes = [&LIVE[..], &FIXED].into_iter().filter(|class| class.contains(&key.name.as_str()));
            assert_eq!(classes.count(), 1, "--{}: is it LIVE (a reload changes it) or FIXED?", key.name);
        }
        assert_eq!(keys.0.len(), LIVE.len() + FIXED.len(), "a class names a key that is none");
    }
}
