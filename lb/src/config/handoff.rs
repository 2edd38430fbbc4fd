//! `--transport` and what goes with it: whether there is a folder for the sockets of the replicas, and room in its path.

use std::path::{Path, PathBuf};

use proto::control::{LONGEST_SOCKET_PATH, Transport};

use super::value::ProviderName;
use super::{Problems, Serve, Source};
use crate::provider::doors::{FRESH_NAME, SUFFIX};

/// The transport, and the folder that was given for it.
pub(super) fn read(serve: &Serve, source: &Source, problems: &mut Problems) -> (Transport, Option<PathBuf>) {
    let transport = problems.take("transport", serve.transport.clone(), Transport::Proxy);
    let dir = serve.handoff_dir.clone();
    match (transport, source, &dir) {
        (Transport::Proxy, ..) => refuse_without_effect(serve, problems),
        (Transport::Handoff, Source::Dns(_), _) => {
            problems.add(
                "--transport: handoff takes replicas on this host, so it does not go with --provider dns",
            );
        }
        (Transport::Handoff, Source::Swarm(_), _) => problems.add(
            "--transport: handoff goes to replicas on this machine, and those of --provider swarm are on several: expected proxy",
        ),
        (Transport::Handoff, Source::Process { .. }, None) => {}
        (Transport::Handoff, _, Some(dir)) => check(dir, source, problems),
        (Transport::Handoff, Source::Docker(_) | Source::Fixed(_), None) => {
            let provider =
                if matches!(source, Source::Docker(_)) { ProviderName::Docker } else { ProviderName::Fixed };
            problems.add(format!(
                "--transport: with --provider {provider}, handoff takes --handoff-dir DIR as well, the folder in which \
                 the replicas listen"
            ));
        }
    }
    (transport, dir)
}

/// These have no default: they are given on purpose.
fn refuse_without_effect(serve: &Serve, problems: &mut Problems) {
    // What is wrong with a transport is said elsewhere.
    if !serve.transport.is_fine() {
        return;
    }
    for (flag, is_given) in
        [("handoff-dir", serve.handoff_dir.is_some()), ("handoff-volume", serve.handoff_volume.is_some())]
    {
        if is_given {
            problems.add(format!("--{flag}: it goes with --transport handoff only"));
        }
    }
}

fn check(dir: &Path, source: &Source, problems: &mut Problems) {
    if matches!(source, Source::Docker(_)) && dir.to_str().is_none() {
        problems.add(format!(
            "--handoff-dir: {} is not UTF-8, so the engine cannot be told of it",
            dir.display()
        ));
    }
    let longest_name = match source {
        Source::Fixed(backends) => {
            backends.iter().map(|backend| backend.name.as_str().len() + SUFFIX.len()).max().unwrap_or(0)
        }
        Source::Process { .. } | Source::Docker(_) | Source::Swarm(_) | Source::Dns(_) => FRESH_NAME,
    };
    let room = LONGEST_SOCKET_PATH - 1 - longest_name;
    if dir.as_os_str().len() > room {
        problems.add(format!(
            "--handoff-dir: {} is too long: expected a path of at most {room} bytes, to leave room for the names of sockets",
            dir.display()
        ));
    }
}
